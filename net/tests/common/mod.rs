//! What the tests of the network share: nodes on loopback that know each other's addresses only by being told.
#![allow(dead_code)]

pub mod hosts;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tcat_engine::content::{Blake3, Content, Md5};
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_engine::outboard::{Outboard, OutboardBuilder};
use tcat_engine::roster::Admission;
use tcat_net::{
    ContentSource, Identity, Invitations, KeyStore, Keyring, Keys, Members, Net, NetConfig, NetEvent,
    NetHandle, PeerAddress, Services, SourceContent, WorkgroupKey,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub const KEY: [u8; 32] = [7; 32];
pub const OTHER_KEY: [u8; 32] = [8; 32];
/// Long enough for a loaded machine; nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Files that a node offers, by digest.
#[derive(Default)]
pub struct Shelf {
    files: Mutex<BTreeMap<Blake3, (PathBuf, Outboard)>>,
}

impl Shelf {
    /// Offers a file under the content's digest, whatever the file really holds.
    pub fn offer(&self, content: &Content, path: &Path, outboard: Outboard) {
        self.files.lock().unwrap().insert(content.blake3.unwrap(), (path.into(), outboard));
    }
}

impl ContentSource for Shelf {
    fn open(&self, blake3: &Blake3) -> Option<SourceContent> {
        let (path, outboard) = self.files.lock().unwrap().get(blake3).cloned()?;
        Some(SourceContent { file: File::open(path).ok()?, outboard })
    }
}

/// Whoever has the workgroup's key, but those named.
#[derive(Default)]
pub struct Roster {
    pub retired: Mutex<Vec<ClientId>>,
    pub unlisted: Mutex<Vec<ClientId>>,
    /// Who was at the door and not listed.
    pub asked_for: Mutex<Vec<ClientId>>,
}

#[async_trait::async_trait]
impl Members for Roster {
    async fn admission(&self, client: &ClientId) -> Admission {
        if self.retired.lock().unwrap().contains(client) {
            Admission::Retired
        } else if self.unlisted.lock().unwrap().contains(client) {
            Admission::Unlisted
        } else {
            Admission::Member
        }
    }

    fn unlisted(&self, client: &ClientId) {
        self.asked_for.lock().unwrap().push(*client);
    }
}

/// A content and what is needed to offer it.
pub fn content_of(bytes: &[u8]) -> (Content, Outboard) {
    let mut builder = OutboardBuilder::default();
    builder.update(bytes);
    let (outboard, blake3) = builder.finish();
    (Content { md5: Md5([1; 16]), size: bytes.len() as u64, blake3: Some(blake3) }, outboard)
}

pub fn some_bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i.wrapping_mul(2_654_435_761) >> 9) as u8).collect()
}

/// The ring of a workgroup in which nobody was retired yet.
pub fn ring() -> Keyring {
    Keyring::new(WorkgroupKey::from_bytes(KEY))
}

/// Of another workgroup.
pub fn other_ring() -> Keyring {
    Keyring::new(WorkgroupKey::from_bytes(OTHER_KEY))
}

/// Keeps no keys over a restart.
pub struct Nowhere;

impl KeyStore for Nowhere {
    fn save(&self, _: &Keyring) -> std::io::Result<()> {
        Ok(())
    }
}

pub struct Node {
    pub handle: NetHandle,
    pub events: mpsc::Receiver<NetEvent>,
    pub address: SocketAddr,
    pub client: ClientId,
    pub shelf: Arc<Shelf>,
    pub keys: Arc<Keys>,
}

#[derive(Default)]
pub struct Setup {
    pub identity: Option<Identity>,
    pub ring: Option<Keyring>,
    pub peers: Vec<SocketAddr>,
    pub invitations: Option<Arc<dyn Invitations>>,
    pub roster: Arc<Roster>,
    pub services: Option<Arc<dyn Services>>,
    pub mdns: bool,
    pub interfaces: Vec<String>,
    pub listen: Option<SocketAddr>,
}

pub fn config(setup: Setup, shelf: Arc<Shelf>) -> NetConfig {
    let identity = setup.identity.unwrap_or_else(|| Identity::generate().unwrap());
    NetConfig {
        identity: identity.clone(),
        workgroup: WorkgroupId([3; 16]),
        keys: Keys::new(identity, setup.ring.unwrap_or_else(ring), Box::new(Nowhere)),
        listen: vec![setup.listen.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap())],
        interfaces: setup.interfaces,
        static_peers: setup.peers.into_iter().map(PeerAddress::from).collect(),
        mdns: setup.mdns,
        contents: shelf,
        members: setup.roster,
        invitations: setup.invitations,
        services: setup.services,
    }
}

impl Node {
    pub async fn start(setup: Setup) -> Self {
        let shelf = Arc::new(Shelf::default());
        let config = config(setup, shelf.clone());
        let (client, keys) = (config.identity.client_id(), config.keys.clone());
        let (handle, mut events) = Net::start(config).await.unwrap();
        let address = match timeout(PATIENCE, events.recv()).await.unwrap() {
            Some(NetEvent::Listening(address)) => address,
            other => panic!("{other:?}"),
        };
        Self { handle, events, address, client, shelf, keys }
    }

    pub async fn event(&mut self) -> NetEvent {
        timeout(PATIENCE, self.events.recv())
            .await
            .expect("no event in time")
            .expect("the network has stopped")
    }

    /// Whatever comes within a while.
    pub async fn events_within(&mut self, wait: Duration) -> Vec<NetEvent> {
        let mut events = Vec::new();
        let _ = timeout(wait, async {
            while let Some(event) = self.events.recv().await {
                events.push(event);
            }
        })
        .await;
        events
    }

    pub async fn expect(&mut self, event: NetEvent) {
        assert_eq!(self.event().await, event);
    }
}

/// Two members, connected.
pub async fn pair() -> (Node, Node) {
    let mut one = Node::start(Setup::default()).await;
    let mut two = Node::start(Setup { peers: vec![one.address], ..Setup::default() }).await;
    one.expect(NetEvent::Connected(two.client)).await;
    two.expect(NetEvent::Connected(one.client)).await;
    (one, two)
}

/// Two identities, the first with the smaller id.
pub fn identities() -> (Identity, Identity) {
    let (a, b) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    if a.client_id() < b.client_id() { (a, b) } else { (b, a) }
}
