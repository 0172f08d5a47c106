//! The workgroup's keys, as a node keeps them: in a file of the home, and a new one whenever somebody was retired.
//!
//! Who retires makes the key at once. That can come to nothing (a crash, a full disk), and of two keys that were made
//! at once in two places each may be known to one of the retired: so every node looks whether the newest key was made
//! by a member and without all whom the roster calls retired, and if it stays otherwise somebody makes another, one after the other.

use super::driver::{EngineHandle, NodeEngine};
use crate::home::write_secret;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tcat_engine::ids::ClientId;
use tcat_engine::ports::Input;
use tcat_engine::roster::Admission;
use tcat_net::{KeyStore, Keyring, Keys, NetHandle};

/// How often we look.
const LOOK: Duration = Duration::from_secs(2);
/// How long each of the members that are connected leaves it to those with smaller ids.
const TURN: Duration = Duration::from_secs(3);

/// The file that keeps them.
pub(super) struct KeyFile(pub(super) PathBuf);

impl KeyStore for KeyFile {
    fn save(&self, ring: &Keyring) -> io::Result<()> {
        write_secret(&self.0, ring.text().as_bytes()).map_err(io::Error::other)
    }
}

/// Makes a key that none of `retired` is told. What goes wrong is in the log, and tried again by [`tend`].
pub(super) async fn rotate(keys: &Arc<Keys>, retired: Vec<ClientId>) {
    let keys = Arc::clone(keys);
    match tokio::task::spawn_blocking(move || keys.rotate(&retired)).await {
        Ok(Ok(true)) => tracing::info!("made a new key of the workgroup, which no retired client is told"),
        Ok(Ok(false)) => {}
        Ok(Err(why)) => tracing::error!("cannot make a new key of the workgroup: {why}; it is tried again"),
        Err(why) => tracing::error!("cannot make a new key of the workgroup: {why}; it is tried again"),
    }
}

/// Looks after the keys until the engine stops.
pub(super) async fn tend(keys: Arc<Keys>, me: ClientId, engine: EngineHandle, net: NetHandle) {
    let mut changes = keys.changes();
    let mut wanted_since = None;
    loop {
        let is_new = tokio::select! {
            () = tokio::time::sleep(LOOK) => false,
            changed = changes.changed() => changed.is_ok(),
        };
        let ring = keys.ring();
        let maker = ring.maker();
        let read = move |engine: &NodeEngine| {
            let is_strange = |maker: &ClientId| engine.admission(maker) != Admission::Member;
            (engine.retired(), maker.filter(is_strange))
        };
        let Ok((mut retired, strange_maker)) = engine.ask(read).await else { return };
        // Who made the key has read of a retirement that we have not.
        if is_new
            && ring.without().any(|client| !retired.contains(client))
            && engine.input(Input::RosterChanged).await.is_err()
        {
            return;
        }
        // A key of somebody who is no member may be known to whoever was retired.
        retired.extend(strange_maker);
        // Who is retired itself makes none: nobody would hear of it.
        if ring.is_without(&retired) || retired.contains(&me) {
            wanted_since = None;
            continue;
        }
        let since = *wanted_since.get_or_insert_with(Instant::now);
        let before_us = net.connected().iter().filter(|client| **client < me).count();
        let turn = TURN.saturating_mul(u32::try_from(before_us + 1).unwrap_or(u32::MAX));
        if since.elapsed() >= turn {
            rotate(&keys, retired).await;
        }
    }
}
