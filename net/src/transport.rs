//! What the node sees of the network: [`Net::start`], a [`NetHandle`] to act and [`NetEvent`]s to hear.
//!
//! [`Transport`] is all that is asked of the library below; libp2p is named in `swarm`, `behaviour`, `tcp`,
//! `streams`, `identity`, `address` and `join` only. Always: events of one peer come as `Connected`, its messages in the order sent,
//! `Disconnected`, never overlapping a later connection's; nothing comes from who has not proved membership.
//!
//! When queues are full: the event channel makes the readers of the peers wait, which slows the senders down and
//! nobody else; a peer whose outgoing queue is full is disconnected, so that both ends start over and resynchronise
//! instead of missing messages.

use crate::address::PeerAddress;
use crate::admission::Invitations;
use crate::bulk::{self, ContentSource, FetchError};
use crate::bulk_server::STREAMS_PER_PEER;
use crate::identity::Identity;
use crate::keyring::Keys;
use crate::membership::Members;
use crate::services::{Service, Services};
use crate::swarm;
use async_trait::async_trait;
use futures::io::{AsyncRead, AsyncWrite};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tcat_engine::content::Content;
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_engine::outboard::Outboard;
use tokio::sync::{Semaphore, mpsc};

/// Events that wait for the node; each message is of at most [`crate::FRAME_MAX_BYTES`].
const EVENTS_MAX: usize = 64;

/// How long a member that misbehaved is refused.
pub const REFUSED_FOR_S: u64 = swarm::MISBEHAVED_FOR.as_secs();

/// Everything that [`Net::start`] needs.
pub struct NetConfig {
    /// Who we are.
    pub identity: Identity,
    /// Of which workgroup. Only a keyed hash of it is ever shown.
    pub workgroup: WorkgroupId,
    /// What proves us a member, and hides whose we are.
    pub keys: Arc<Keys>,
    /// Where to listen; port 0 takes a free one. Empty: only dial.
    pub listen: Vec<SocketAddr>,
    /// Interfaces for discovery, by name; empty: the rule of [`crate::discovery::choose_interfaces`].
    pub interfaces: Vec<String>,
    /// Peers that are dialed whatever discovery says.
    pub static_peers: Vec<PeerAddress>,
    /// Whether to announce ourselves and look for others by mDNS; takes effect once we listen.
    pub mdns: bool,
    /// What peers may fetch from us.
    pub contents: Arc<dyn ContentSource>,
    /// Who belongs to the workgroup.
    pub members: Arc<dyn Members>,
    /// Who may join through us; none: nobody.
    pub invitations: Option<Arc<dyn Invitations>>,
    /// What we do for members beyond contents; none: nothing.
    pub services: Option<Arc<dyn Services>>,
}

/// What happens on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetEvent {
    /// We listen here; with an unspecified address configured, one event an interface.
    Listening(SocketAddr),
    /// mDNS does not work here, and why; static peers do.
    DiscoveryUnavailable(String),
    /// A member is connected: both ends have proved membership.
    Connected(ClientId),
    /// It no longer is. Messages still on their way, in either direction, are gone.
    Disconnected(ClientId),
    /// A member broke the protocol below its messages. Its session is over, and it is refused as by
    /// [`NetHandle::refuse`].
    Misbehaved {
        /// The member.
        from: ClientId,
        /// What it did.
        what: String,
    },
    /// A member's message.
    Message {
        /// The member.
        from: ClientId,
        /// What it sent.
        bytes: Vec<u8>,
    },
}

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// An address to listen on is taken, or not ours.
    #[error(
        "cannot listen on {address}: {why}; choose another address or port under `listen` in config.toml"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// libp2p could not be set up.
    #[error("the network could not be set up: {0}")]
    Setup(String),
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No connection now; [`NetEvent::Connected`] will tell.
    #[error("{0:?} is not connected")]
    NotConnected(ClientId),
    /// Too much waits for this peer; it is disconnected, so that both ends resynchronise.
    #[error("{0:?} takes messages too slowly and is disconnected; it resynchronises when it is back")]
    Overflow(ClientId),
    /// The message is longer than [`crate::FRAME_MAX_BYTES`]; its maker must page.
    #[error("a message of {0} bytes is too long to send")]
    TooLong(usize),
}

/// A stream of bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// What tcat asks of the library that moves the bytes. All but the `async` methods return at once.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Queues a message to a connected member, in order after those queued before.
    fn send(&self, to: ClientId, bytes: Arc<[u8]>) -> Result<(), SendError>;
    /// The members connected now, in order.
    fn connected(&self) -> Vec<ClientId>;
    /// Where we listen now.
    fn listen_addresses(&self) -> Vec<SocketAddr>;
    /// Tells where a client may be reached; it is dialed whenever it is not connected.
    fn add_address(&self, client: ClientId, address: SocketAddr);
    /// Ends the session with a member, if there is one; it may come back.
    fn disconnect(&self, client: ClientId);
    /// Ends the session with a member, and has nothing to do with it for a minute.
    fn refuse(&self, client: ClientId);
    /// Opens a stream for one content to a connected member.
    async fn open_bulk(&self, to: ClientId) -> io::Result<Box<dyn ByteStream>>;
    /// Opens a stream of one service to a connected member. Whether the member offers it shows with its first byte.
    async fn open_service(&self, to: ClientId, service: Service) -> io::Result<Box<dyn ByteStream>>;
    /// Says goodbye and stops everything; returns when it has stopped.
    async fn shutdown(&self);
}

/// The network of one workgroup.
pub struct Net;

impl Net {
    /// Listens, dials, and announces if asked to. The network stops with [`NetHandle::shutdown`], or when the last
    /// handle is dropped; then the events end. Must be called within a tokio runtime.
    pub async fn start(config: NetConfig) -> Result<(NetHandle, mpsc::Receiver<NetEvent>), NetError> {
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let transport = swarm::start(config, events)?;
        Ok((NetHandle { transport: Arc::new(transport), turns: Arc::default() }, received))
    }
}

/// Acts on the network of one workgroup. Cheap to clone.
#[derive(Clone)]
pub struct NetHandle {
    transport: Arc<dyn Transport>,
    /// Our fetches from each peer wait for their turn here, rather than being told by the peer that it is busy.
    turns: Arc<Mutex<BTreeMap<ClientId, Arc<Semaphore>>>>,
}

impl fmt::Debug for NetHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetHandle").field("connected", &self.connected()).finish_non_exhaustive()
    }
}

impl NetHandle {
    /// Queues a message; see [`Transport::send`]. Never waits.
    pub fn send(&self, to: ClientId, bytes: impl Into<Arc<[u8]>>) -> Result<(), SendError> {
        self.transport.send(to, bytes.into())
    }

    /// Queues a message to every connected member; returns to how many. Who is too slow is disconnected.
    pub fn broadcast(&self, bytes: impl Into<Arc<[u8]>>) -> usize {
        let bytes = bytes.into();
        let sent = |client: &ClientId| self.transport.send(*client, bytes.clone()).is_ok();
        self.connected().iter().filter(|client| sent(client)).count()
    }

    /// The members connected now, in order.
    pub fn connected(&self) -> Vec<ClientId> {
        self.transport.connected()
    }

    /// Tells where a client may be reached; see [`Transport::add_address`].
    pub fn add_address(&self, client: ClientId, address: SocketAddr) {
        self.transport.add_address(client, address);
    }

    /// Ends the session with a member, if there is one; it may come back.
    pub fn disconnect(&self, client: ClientId) {
        self.transport.disconnect(client);
    }

    /// Ends the session with a member that broke the protocol or lied, and neither dials it nor lets it in for
    /// [`REFUSED_FOR_S`] seconds.
    pub fn refuse(&self, client: ClientId) {
        self.transport.refuse(client);
    }

    /// Where we listen now; complete once every [`NetEvent::Listening`] has come.
    pub fn listen_addresses(&self) -> Vec<SocketAddr> {
        self.transport.listen_addresses()
    }

    /// Fetches one content from a connected member into the file `partial`, whose verified parts are kept from earlier
    /// attempts. When it returns the outboard, the file is the whole content, every byte verified, and synced to disk.
    /// `partial` is what opens it for reading and writing, and its path for people. `progress` is told how many bytes are verified so far; it must not block. Whatever the outcome, no byte of the
    /// content is ever written unverified, and a later call goes on from what is there.
    /// Four fetches from one peer run at a time, further ones wait. One call at a time for one `partial`; dropping the
    /// future stops it within one group.
    pub async fn fetch(
        &self,
        from: ClientId,
        content: &Content,
        partial: (impl FnOnce() -> io::Result<File> + Send + 'static, &Path),
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Outboard, FetchError> {
        let turns = self.turns_of(from);
        let _turn = turns.acquire().await; // Never closed, so always a turn.
        let open = || self.transport.open_bulk(from);
        bulk::fetch(from, open, content, partial, progress).await
    }

    /// Opens a stream of one service to a connected member; an error at once if it is not connected. The peer serves
    /// [`crate::SERVICE_STREAMS_MAX`] of a service at a time and resets more: who opens many takes turns. A peer that
    /// does not offer the service shows that by ending the stream before its first byte.
    pub async fn open(&self, to: ClientId, service: Service) -> io::Result<Box<dyn ByteStream>> {
        self.transport.open_service(to, service).await
    }

    fn turns_of(&self, client: ClientId) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(|e| e.into_inner());
        turns.retain(|_, of_peer| Arc::strong_count(of_peer) > 1);
        turns.entry(client).or_insert_with(|| Arc::new(Semaphore::new(STREAMS_PER_PEER))).clone()
    }

    /// Says goodbye and stops everything; returns when it has stopped.
    pub async fn shutdown(&self) {
        self.transport.shutdown().await;
    }
}
