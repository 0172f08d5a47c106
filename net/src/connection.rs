//! One connection, from its first byte on: proof of membership or a request to join, then its session (`session`).
//!
//! Both ends may dial at once, so a pair may have two proven connections for a moment. The client with the smaller id
//! chooses, by opening its control stream on one; the other end begins its session when that stream comes. So both
//! always choose the same one.
//! Always: nothing of a peer reaches the node, and nothing of ours the peer, before both have proved membership and the
//! roster has the peer.

use crate::admission::{Invitations, RateLimit, admit};
use crate::bulk::ContentSource;
use crate::keyring::Keys;
use crate::membership::{Members, ProofError, Prover};
use crate::services::Services;
use crate::session::{Begin, BroughtKeys, run_session};
use crate::streams::{CONTROL, ConnectionEnds, JOIN, MEMBERSHIP, Opener};
use crate::transport::NetEvent;
use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tcat_engine::ids::ClientId;
use tcat_engine::roster::Admission;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// How long a peer may take to prove itself.
const PROOF_WAIT: Duration = Duration::from_secs(5);
/// How long the choosing end may take to choose.
const CHOICE_WAIT: Duration = Duration::from_secs(5);
/// How long a newcomer's request may take.
const JOIN_WAIT: Duration = Duration::from_secs(10);

/// What all connections of one node share.
pub(crate) struct Common {
    pub us: ClientId,
    pub keys: Arc<Keys>,
    /// Where we listen; 0: nowhere yet.
    pub port: AtomicU16,
    /// Who has brought keys lately.
    pub brought: Mutex<BroughtKeys>,
    /// Random, new at every start of the node.
    pub start: u64,
    pub contents: Arc<dyn ContentSource>,
    pub invitations: Option<Arc<dyn Invitations>>,
    pub members: Arc<dyn Members>,
    pub services: Option<Arc<dyn Services>>,
    pub events: mpsc::Sender<NetEvent>,
    pub attempts: Mutex<RateLimit>,
    pub bulk_in_all: Arc<Semaphore>,
}

/// What the task of a connection tells the driver.
pub(crate) enum Report {
    /// The peer is a member, and this connection may be its session's: send what it needs, or drop it.
    Ready {
        id: ConnectionId,
        client: ClientId,
        peer_start: u64,
        opener: Opener,
        begin: oneshot::Sender<Begin>,
    },
    /// It came to nothing; `blamed` if the peer is to blame.
    Failed { id: ConnectionId, client: ClientId, blamed: bool },
    /// The member says where it listens.
    Listens { client: ClientId, address: SocketAddr },
    /// The session is over.
    Ended { id: ConnectionId, client: ClientId },
    /// The session is over, because the peer broke the protocol.
    Misbehaved { id: ConnectionId, client: ClientId },
}

/// The task of one connection.
pub(crate) struct Connection {
    pub id: ConnectionId,
    pub client: ClientId,
    pub address: Option<SocketAddr>,
    pub dialed: bool,
    pub ends: ConnectionEnds,
    pub common: Arc<Common>,
    pub reports: mpsc::Sender<Report>,
}

/// How a connection came to prove nothing.
enum Unproven {
    Proof(ProofError),
    /// It was a newcomer, and is served.
    Joined,
}

impl Connection {
    /// Runs until the connection is over; everything it does is told to the driver.
    pub(crate) async fn run(mut self) {
        let (id, client) = (self.id, self.client);
        let peer_start = match self.prove().await {
            Ok(peer_start) => peer_start,
            Err(Unproven::Joined) => return self.report(Report::Failed { id, client, blamed: false }).await,
            Err(Unproven::Proof(error)) => {
                let blamed = error.blames_the_peer();
                if blamed {
                    let address = self.address.map_or_else(String::new, |a| format!(" at {a}"));
                    tracing::warn!(%client, "refused the node {client:?}{address}: {error}");
                } else {
                    tracing::debug!(%client, %error, "a connection ended before membership was proved");
                }
                return self.report(Report::Failed { id, client, blamed }).await;
            }
        };
        // Who has the smaller id chooses at once; the other waits for the choice to arrive.
        let mut control = None;
        if self.common.us > client {
            match timeout(CHOICE_WAIT, self.inbound_control()).await {
                Ok(Some(stream)) => control = Some(stream),
                _ => return self.report(Report::Failed { id, client, blamed: false }).await,
            }
        }
        let (begin, begun) = oneshot::channel();
        let opener = self.ends.opener.clone();
        self.report(Report::Ready { id, client, peer_start, opener, begin }).await;
        let Ok(begin) = begun.await else { return };
        run_session(self, begin, control).await;
    }

    pub(crate) async fn report(&self, report: Report) {
        let _ = self.reports.send(report).await; // The driver is gone only when all is over.
    }

    async fn prove(&mut self) -> Result<u64, Unproven> {
        let proof = timeout(PROOF_WAIT, self.proof_or_newcomer()).await;
        let newcomer = match proof.unwrap_or(Err(ProofError::TooSlow(PROOF_WAIT.as_secs()))) {
            Ok(Proved::Member(peer_start)) => return Ok(peer_start),
            Ok(Proved::Newcomer(stream)) => stream,
            Err(error) => return Err(Unproven::Proof(error)),
        };
        self.admit(newcomer).await;
        Err(Unproven::Joined)
    }

    async fn proof_or_newcomer(&mut self) -> Result<Proved, ProofError> {
        // Before anything is said; who proves the key is asked about again.
        if self.common.members.admission(&self.client).await == Admission::Retired {
            return Err(ProofError::Retired);
        }
        self.prove_the_key().await
    }

    async fn prove_the_key(&mut self) -> Result<Proved, ProofError> {
        let ring = self.common.keys.ring();
        let prover = Prover {
            ring: &ring,
            ours: self.common.us,
            theirs: self.client,
            start: self.common.start,
            members: &*self.common.members,
            proved: &self.ends.proved,
        };
        if self.dialed {
            let mut stream = self.ends.opener.open(MEMBERSHIP).await?;
            return prover.prove_as_dialer(&mut stream).await.map(Proved::Member);
        }
        let gone = || ProofError::Ended(io::ErrorKind::UnexpectedEof.into());
        let (protocol, mut stream) = self.ends.inbound.recv().await.ok_or_else(gone)?;
        if protocol == JOIN {
            return Ok(Proved::Newcomer(stream));
        }
        prover.prove_as_listener(&mut stream).await.map(Proved::Member)
    }

    async fn admit(&mut self, mut stream: Stream) {
        let allowed = {
            let mut attempts = self.common.attempts.lock().unwrap_or_else(|e| e.into_inner());
            attempts.allows(self.address, Instant::now())
        };
        let client = self.client;
        let answering = admit(&mut stream, self.common.us, client, allowed, self.common.invitations.clone());
        match timeout(JOIN_WAIT, answering).await {
            Ok(Ok(Ok(()))) => tracing::debug!(%client, "answered a request to join"),
            Ok(Ok(Err(refusal))) => tracing::info!(%client, "did not admit {client:?}: {refusal}"),
            Ok(Err(error)) => tracing::debug!(%client, %error, "a request to join broke off"),
            Err(_) => tracing::debug!(%client, "a request to join took too long"),
        }
        // The newcomer closes the connection when it has read the answer.
        let _ = timeout(JOIN_WAIT, async { while self.ends.inbound.recv().await.is_some() {} }).await;
    }

    /// The peer's control stream; nothing once the connection is gone.
    async fn inbound_control(&mut self) -> Option<Stream> {
        loop {
            let (protocol, stream) = self.ends.inbound.recv().await?;
            if protocol == CONTROL {
                return Some(stream);
            }
        }
    }
}

enum Proved {
    Member(u64),
    Newcomer(Stream),
}
