//! Whom the network lets in: the question goes to the engine, which knows the workgroup's roster.

use super::driver::{EngineHandle, NodeEngine};
use crate::host::claims::Listed;
use crate::host::finding::Roster as HostRoster;
use crate::invitations::Roster;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tcat_engine::ids::ClientId;
use tcat_engine::ports::Input;
use tcat_engine::roster::Admission;
use tcat_net::{Keys, Members};
use tcat_storage::catalog::{Catalog, CatalogError};

/// Between two attempts to reach the host for a newcomer.
const HOST_PAUSE: Duration = Duration::from_millis(300);

/// The roster, as the network asks it.
pub(super) struct Door(pub(super) EngineHandle, pub(super) Arc<Keys>);

#[async_trait]
impl Members for Door {
    async fn admission(&self, client: &ClientId) -> Admission {
        let client = *client;
        // An engine that has stopped lets nobody in.
        let asked =
            move |engine: &NodeEngine| (engine.admission(&client), engine.standing_in_roster(&client));
        match self.0.ask(asked).await {
            // Until a roster was read, whom the newest key is kept from is known to have been retired.
            Ok((Admission::Member, None)) if self.1.ring().without().any(|one| *one == client) => {
                Admission::Retired
            }
            Ok((admission, _)) => admission,
            Err(_) => Admission::Unlisted,
        }
    }

    fn unlisted(&self, client: &ClientId) {
        tracing::info!(
            client = client.short(),
            "a client that is not in the roster is at the door; reading it again"
        );
        let engine = self.0.clone();
        tokio::spawn(async move { engine.input(Input::RosterChanged).await });
    }
}

#[async_trait]
impl HostRoster for Door {
    async fn listed(&self, clients: Vec<ClientId>) -> BTreeMap<ClientId, Listed> {
        let listed = |engine: &NodeEngine, client: &ClientId| match (
            engine.admission(client),
            engine.standing_in_roster(client),
        ) {
            (Admission::Member, Some(_)) => Listed::Member,
            (Admission::Member, None) => Listed::Unknown,
            (Admission::Retired | Admission::Unlisted, _) => Listed::Not,
        };
        let all = move |engine: &NodeEngine| {
            clients.into_iter().map(|client| (client, listed(engine, &client))).collect()
        };
        self.0.ask(all).await.unwrap_or_default()
    }
}

/// Enters newcomers in the catalog's roster, and has the engine read it again, so that they are let in at once.
pub(super) struct Admitting {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) engine: EngineHandle,
}

#[async_trait]
impl Roster for Admitting {
    async fn admit(&self, client: ClientId, name: &str) -> Result<String, CatalogError> {
        let name = loop {
            // In its first seconds a member has not found its host. Who waits for the answer ends this.
            match self.catalog.admit(client, name).await {
                Err(CatalogError::Unreachable { .. }) => tokio::time::sleep(HOST_PAUSE).await,
                admitted => break admitted?,
            }
        };
        // A node that is stopping lets nobody in anyway.
        let _ = self.engine.input(Input::RosterChanged).await;
        Ok(name)
    }
}
