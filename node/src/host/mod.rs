//! The host: the member that keeps the catalog and the objects for all, so that a workgroup needs no server.
//!
//! `wire` is what is said; `catalog_server` and `objects_server` answer for what this node is `keeping`; `catalog_client`
//! and `objects_client` are the trait `Catalog` and the objects of whoever is host, this node or another; `finding` knows
//! who is, by `claims` that members sign.
//! Always: an answer of the host's means what the same answer of an own catalog means, durability included; a member
//! acts in its own name only; while the host is not connected every call fails at once as *unreachable*.
//! Left out: promoting another node to host.

pub mod catalog_client;
pub mod catalog_server;
pub mod claims;
pub mod finding;
pub mod keeping;
pub mod mirror;
pub mod objects_client;
pub mod objects_server;
pub mod soundness;
#[cfg(test)]
mod tests;
pub mod wire;

use crate::home::Home;
use crate::refusals::{Misdeed, Refusals};
use async_trait::async_trait;
use finding::Finding;
use keeping::Keeping;
use mirror::RosterMirror;
use std::io;
use std::sync::Arc;
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_net::{ByteStream, Identity, Service, Services};

/// What a node knows of the host of a workgroup, and what it does for members while it is that itself.
#[derive(Clone)]
pub struct Host {
    /// Who is host, as far as this node knows.
    pub finding: Arc<Finding>,
    /// What this node keeps, while it is host.
    pub keeping: Arc<Keeping>,
    /// The roster, as far as it was read.
    pub mirror: Arc<RosterMirror>,
    /// Who counts what members ask for and may not.
    pub refusals: Arc<Refusals>,
}

impl Host {
    /// What the home of `identity`'s node remembers.
    pub fn load(identity: &Identity, workgroup: WorkgroupId, home: &Home) -> Self {
        let finding = Finding::load(identity.clone(), workgroup, home.workgroup_host_file(workgroup));
        let mirror = RosterMirror::load(workgroup, home.workgroup_roster_file(workgroup));
        Self {
            finding: Arc::new(finding),
            keeping: Arc::default(),
            mirror: Arc::new(mirror),
            refusals: Arc::default(),
        }
    }
}

#[async_trait]
impl Services for Host {
    async fn serve(&self, from: ClientId, service: Service, mut stream: Box<dyn ByteStream>) {
        let served = match service {
            Service::Catalog => catalog_server::serve(self, from, stream.as_mut()).await,
            Service::Objects => objects_server::serve(&self.keeping, stream.as_mut()).await,
        };
        if let Err(error) = served {
            if error.kind() == io::ErrorKind::InvalidData {
                // A newer version may ask for what this one does not know.
                self.refusals.note(
                    from,
                    Misdeed::Request,
                    &format!("a request that cannot be read: {error}"),
                );
            }
            tracing::debug!(%from, ?service, %error, "a member's stream broke off");
        }
    }
}
