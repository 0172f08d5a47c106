//! libp2p behind [`Transport`]: one task, the driver, owns the swarm and decides which connections live.
//!
//! Always: the driver never waits for a peer, a task or the node; tasks may wait for the driver. One connection of a
//! peer carries its session: of two proven ones the end with the smaller client id takes the first, unless it is
//! silent or the peer has been started anew; the other end follows its choice (see `connection`).

use crate::address::{PeerAddress, is_link_local, multiaddr, socket_address};
use crate::behaviour::listen_everywhere;
pub(crate) use crate::behaviour::{Behaviour, BehaviourEvent, build_swarm};
use crate::bulk_server::STREAMS_IN_ALL;
use crate::connection::{Common, Connection, Report};
use crate::dialing::{Dialing, Target};
use crate::discovery::{Discovery, DiscoveryConfig, Hint};
use crate::identity::{client_of, peer_id_of};
use crate::join::dial_error;
use crate::random;
use crate::services::Service;
use crate::session::{Begin, Session};
use crate::streams::BULK;
use crate::transport::{ByteStream, NetConfig, NetError, NetEvent, SendError, Transport};
use async_trait::async_trait;
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{PeerId, StreamProtocol, ping};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tcat_engine::ids::{ClientId, WorkgroupId};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Members connected at a time: a whole workgroup.
pub(crate) const SESSIONS_MAX: usize = 64;
const DIALS_MAX: usize = 16;
/// Who failed to prove membership is refused for this long.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// A member that broke the protocol, or was found to lie, is refused for this long.
pub(crate) const MISBEHAVED_FOR: Duration = Duration::from_secs(60);
/// A member that has not answered for so long may be reachable anew, elsewhere or after a cut, while its connection
/// hangs: it is dialed, and the new connection takes the place of one that is still silent.
const SILENT: Duration = Duration::from_millis(2500);
const SILENCE_CHECK: Duration = Duration::from_millis(500);
/// A session that lasted this long resets the backoff.
const LASTED: Duration = Duration::from_secs(5);
const COMMANDS_MAX: usize = 256;
const REPORTS_MAX: usize = 256;
const SHUTDOWN_WAIT: Duration = Duration::from_secs(3);

/// What the handle and the driver both see.
#[derive(Default)]
struct Shared {
    sessions: Mutex<BTreeMap<ClientId, Session>>,
    listening: Mutex<Vec<SocketAddr>>,
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<ClientId, Session>> {
        self.sessions.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn listening(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.listening.lock().unwrap_or_else(|e| e.into_inner())
    }
}

enum Command {
    AddAddress(ClientId, SocketAddr),
    Refuse(ClientId),
    Shutdown(oneshot::Sender<()>),
}

/// The handle's side.
pub(crate) struct Libp2p {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

#[async_trait]
impl Transport for Libp2p {
    fn send(&self, to: ClientId, bytes: Arc<[u8]>) -> Result<(), SendError> {
        if bytes.len() > crate::FRAME_MAX_BYTES {
            return Err(SendError::TooLong(bytes.len()));
        }
        let sessions = self.shared.sessions();
        let session = sessions.get(&to).filter(|s| s.is_open()).ok_or(SendError::NotConnected(to))?;
        if session.send(bytes) { Ok(()) } else { Err(SendError::Overflow(to)) }
    }

    fn connected(&self) -> Vec<ClientId> {
        let sessions = self.shared.sessions();
        sessions.iter().filter(|(_, session)| session.is_open()).map(|(client, _)| *client).collect()
    }

    fn listen_addresses(&self) -> Vec<SocketAddr> {
        self.shared.listening().clone()
    }

    fn add_address(&self, client: ClientId, address: SocketAddr) {
        if self.commands.try_send(Command::AddAddress(client, address)).is_err() {
            tracing::debug!(%client, "an address was dropped: too many at once, or the network has stopped");
        }
    }

    fn disconnect(&self, client: ClientId) {
        if let Some(session) = self.shared.sessions().get(&client) {
            session.end();
        }
    }

    fn refuse(&self, client: ClientId) {
        self.disconnect(client); // At once, also where the queue of commands is full.
        if self.commands.try_send(Command::Refuse(client)).is_err() {
            tracing::debug!(%client, "was disconnected only: too much at once, or the network has stopped");
        }
    }

    async fn open_bulk(&self, to: ClientId) -> io::Result<Box<dyn ByteStream>> {
        self.open_stream(to, BULK).await
    }

    async fn open_service(&self, to: ClientId, service: Service) -> io::Result<Box<dyn ByteStream>> {
        self.open_stream(to, service.protocol()).await
    }

    async fn shutdown(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Shutdown(done)).await.is_ok() {
            let _ = stopped.await;
        }
    }
}

impl Libp2p {
    async fn open_stream(&self, to: ClientId, protocol: StreamProtocol) -> io::Result<Box<dyn ByteStream>> {
        let opener = self.shared.sessions().get(&to).map(|session| session.opener.clone());
        let opener = opener.ok_or(io::ErrorKind::NotConnected)?;
        Ok(Box::new(opener.open(protocol).await?))
    }
}

/// Listens and starts the driver.
pub(crate) fn start(config: NetConfig, events: mpsc::Sender<NetEvent>) -> Result<Libp2p, NetError> {
    let mut swarm = build_swarm(&config.identity).map_err(NetError::Setup)?;
    let mut port = None;
    for address in &config.listen {
        let listening = listen_everywhere(*address).and_then(|sockets| {
            for socket in sockets {
                swarm.listen_on(multiaddr(socket)).map_err(|e| io::Error::other(e.to_string()))?;
                port = port.or(Some(socket.port()).filter(|port| *port != 0));
            }
            Ok(())
        });
        listening.map_err(|e| NetError::Listen { address: *address, why: e.to_string() })?;
    }
    let start = random::bytes().map_err(|e| NetError::Setup(format!("no random numbers: {e}")))?;
    let common = Common {
        us: config.identity.client_id(),
        keys: config.keys,
        port: AtomicU16::new(port.unwrap_or(0)),
        brought: Mutex::default(),
        start: u64::from_be_bytes(start),
        contents: config.contents,
        invitations: config.invitations,
        members: config.members,
        services: config.services,
        events,
        attempts: Mutex::default(),
        bulk_in_all: Arc::new(Semaphore::new(STREAMS_IN_ALL)),
    };
    let shared = Arc::new(Shared::default());
    let (commands, received) = mpsc::channel(COMMANDS_MAX);
    let (reports, reported) = mpsc::channel(REPORTS_MAX);
    let mut driver = Driver {
        swarm,
        common: Arc::new(common),
        shared: shared.clone(),
        commands: received,
        reports,
        reported,
        dialing: Dialing::new(&config.static_peers, Instant::now()),
        targets: BTreeMap::new(),
        heard: BTreeMap::new(),
        lookups: JoinSet::new(),
        tasks: JoinSet::new(),
        turns: BTreeMap::new(),
        wanted_discovery: config.mdns.then_some((config.workgroup, config.interfaces)),
        discovery: None,
    };
    if let Some(port) = port {
        driver.start_discovery(port); // There may be no address to listen on yet.
    }
    tokio::spawn(driver.run());
    Ok(Libp2p { commands, shared })
}

struct Driver {
    swarm: Swarm<Behaviour>,
    common: Arc<Common>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    reports: mpsc::Sender<Report>,
    reported: mpsc::Receiver<Report>,
    dialing: Dialing,
    /// What each attempt and each connection that we dialed was for.
    targets: BTreeMap<ConnectionId, Target>,
    /// When each connection's peer was last heard.
    heard: BTreeMap<ConnectionId, Instant>,
    lookups: JoinSet<(Target, io::Result<Vec<SocketAddr>>)>,
    tasks: JoinSet<()>,
    /// One session of a peer at a time; see [`Begin::turn`].
    turns: BTreeMap<ClientId, Arc<tokio::sync::Mutex<()>>>,
    /// Set until there is a port to announce.
    wanted_discovery: Option<(WorkgroupId, Vec<String>)>,
    discovery: Option<(Discovery, mpsc::Receiver<Hint>)>,
}

impl Driver {
    async fn run(mut self) {
        let mut keys = self.common.keys.changes();
        let mut silence = tokio::time::interval(SILENCE_CHECK);
        silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopped = loop {
            let next_dial = self.dialing.next_due();
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                command = self.commands.recv() => match command {
                    Some(Command::AddAddress(client, address)) => self.learn(client, &[address], false),
                    Some(Command::Refuse(client)) => self.refuse(client),
                    Some(Command::Shutdown(done)) => break Some(done),
                    None => break None,
                },
                Some(report) = self.reported.recv() => self.on_report(report),
                Some(hint) = next_hint(&mut self.discovery) => self.on_hint(hint),
                Some(found) = self.lookups.join_next() => self.on_lookup(found),
                Some(_) = self.tasks.join_next() => {}
                () = sleep_until(next_dial) => self.dial_due(),
                Ok(()) = keys.changed() => self.set_keys(),
                _ = silence.tick() => self.suspect_silent(),
            }
        };
        self.stop().await;
        if let Some(done) = stopped {
            let _ = done.send(());
        }
    }

    /// Says goodbye as far as that goes in a few seconds.
    async fn stop(mut self) {
        self.shared.sessions().clear();
        self.shared.listening().clear();
        self.tasks.shutdown().await;
        let goodbye = async {
            if let Some((discovery, _)) = self.discovery.take() {
                discovery.shutdown().await;
            }
            let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
            for peer in peers {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(SHUTDOWN_WAIT, goodbye).await;
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some(address) = socket_address(&address) {
                    self.on_listening(address);
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let gone = socket_address(&address);
                self.shared.listening().retain(|a| Some(*a) != gone);
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                tracing::debug!(%peer_id, ?cause, "a connection closed");
                self.on_closed(peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.on_dial_error(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "an incoming connection came to nothing");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener has trouble"),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "a listener closed");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                connection, result: Ok(_), ..
            })) => {
                self.heard.entry(connection).and_modify(|at| *at = Instant::now());
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Err(error),
            })) => {
                tracing::debug!(%peer, %error, "a peer is silent; disconnecting it");
                let sessions = self.shared.sessions();
                if let Some(session) = sessions.values().find(|s| s.connection == connection) {
                    session.end();
                }
                drop(sessions);
                self.swarm.close_connection(connection);
            }
            _ => {}
        }
    }

    fn on_listening(&mut self, address: SocketAddr) {
        // Without its interface, which is not told, a link-local address is of no use to anybody.
        if !is_link_local(&address.ip()) {
            self.shared.listening().push(address);
        }
        self.common.port.store(address.port(), Ordering::Relaxed);
        self.emit(NetEvent::Listening(address));
        self.start_discovery(address.port());
    }

    /// Once.
    fn start_discovery(&mut self, port: u16) {
        let Some((workgroup, interfaces)) = self.wanted_discovery.take() else { return };
        let config = DiscoveryConfig {
            client: self.common.us,
            workgroup,
            ring: &self.common.keys.ring(),
            port,
            interfaces: &interfaces,
        };
        match Discovery::start(&config) {
            Ok(started) => self.discovery = Some(started),
            Err(error) => self.on_hint(Hint::Impossible(error)),
        }
    }

    fn set_keys(&self) {
        if let Some((discovery, _)) = &self.discovery {
            discovery.set_keys(self.common.keys.ring());
        }
    }

    /// Tells the node something that belongs to no peer, in a task, since the node may be slow.
    fn emit(&mut self, event: NetEvent) {
        let events = self.common.events.clone();
        self.tasks.spawn(async move {
            let _ = events.send(event).await;
        });
    }

    fn learn(&mut self, client: ClientId, addresses: &[SocketAddr], hint: bool) {
        if client != self.common.us && peer_id_of(&client).is_some() {
            self.dialing.learn(client, addresses, hint, Instant::now());
        }
    }

    fn on_hint(&mut self, hint: Hint) {
        match hint {
            Hint::Discovered { client, addresses } => self.learn(client, &addresses, true),
            Hint::Lost(client) => self.dialing.lost(client),
            Hint::Impossible(error) => {
                tracing::warn!("{error}");
                self.emit(NetEvent::DiscoveryUnavailable(error.to_string()));
            }
        }
    }

    /// Nothing has come on this connection for a while.
    fn is_silent(&self, id: ConnectionId) -> bool {
        self.heard.get(&id).is_none_or(|at| at.elapsed() >= SILENT)
    }

    fn suspect_silent(&mut self) {
        let sessions = self.shared.sessions();
        let silent: Vec<ClientId> = sessions
            .iter()
            .filter(|(_, s)| self.is_silent(s.connection))
            .map(|(client, _)| *client)
            .collect();
        drop(sessions);
        for client in silent {
            self.dialing.suspect(client, Instant::now());
        }
    }

    fn dial_due(&mut self) {
        let room = DIALS_MAX.saturating_sub(self.lookups.len()).max(1);
        let connected: BTreeSet<ClientId> = {
            let sessions = self.shared.sessions();
            sessions
                .iter()
                .filter(|(_, s)| !self.is_silent(s.connection))
                .map(|(client, _)| *client)
                .collect()
        };
        let due = self.dialing.take_due(Instant::now(), room, |client| connected.contains(client));
        for (target, addresses) in due {
            match &target {
                Target::Client(_) => self.dial(target, addresses),
                Target::Static(PeerAddress::Socket(address)) => {
                    let address = *address;
                    self.dial(target, vec![address]);
                }
                Target::Static(name) => {
                    let name = name.clone();
                    self.lookups.spawn(async move {
                        let found = name.resolve().await;
                        (target, found)
                    });
                }
            }
        }
    }

    fn on_lookup(&mut self, found: Result<(Target, io::Result<Vec<SocketAddr>>), tokio::task::JoinError>) {
        let Ok((target, found)) = found else { return };
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                // An attempt at somebody unknown takes one address; another one has its turn the next time.
                let index = (random::fraction() * addresses.len() as f64) as usize;
                let chosen = addresses.get(index).or(addresses.first()).copied();
                self.dial(target, chosen.into_iter().collect());
            }
            Ok(_) => self.dialing.failed(&target, Instant::now()),
            Err(error) => {
                tracing::debug!(?target, %error, "a static peer's name cannot be looked up");
                self.dialing.failed(&target, Instant::now());
            }
        }
    }

    fn dial(&mut self, target: Target, addresses: Vec<SocketAddr>) {
        let mut addresses: Vec<_> = addresses.into_iter().map(multiaddr).collect();
        // A port of its own for every attempt: two nodes that dial each other from their listening ports at once
        // would end up with one TCP connection that both believe to have dialed.
        let options = match &target {
            Target::Client(client) => peer_id_of(client).map(|peer| {
                let dial = DialOpts::peer_id(peer).condition(PeerCondition::Always);
                dial.addresses(addresses).allocate_new_port().build()
            }),
            Target::Static(_) => addresses
                .pop()
                .map(|address| DialOpts::unknown_peer_id().address(address).allocate_new_port().build()),
        };
        let Some(options) = options else { return self.dialing.failed(&target, Instant::now()) };
        let id = options.connection_id();
        self.targets.insert(id, target);
        if let Err(error) = self.swarm.dial(options) {
            self.on_dial_error(id, &error);
        }
    }

    fn on_dial_error(&mut self, id: ConnectionId, error: &DialError) {
        let Some(target) = self.targets.remove(&id) else { return };
        tracing::debug!(?target, error = dial_error(error), "could not connect");
        if let DialError::WrongPeerId { address, .. } = error {
            // Anybody may announce anybody's id; the address is wrong, not the client.
            self.dialing.disproved(&target, socket_address(address));
        }
        match error {
            DialError::LocalPeerId { .. } => self.dialing.refused(&target, Instant::now()),
            _ => self.dialing.failed(&target, Instant::now()),
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let ends = self.swarm.behaviour_mut().streams.take(id);
        let (Some(client), Some(ends)) = (client_of(&peer), ends) else {
            tracing::debug!(%peer, "a peer whose key is not ed25519 was disconnected");
            self.swarm.close_connection(id);
            return;
        };
        self.heard.insert(id, Instant::now());
        let address = socket_address(endpoint.get_remote_address());
        if let Some(target) = self.targets.get(&id) {
            self.dialing.answered(target, client, address);
        }
        let connection = Connection {
            id,
            client,
            address,
            dialed: endpoint.is_dialer(),
            ends,
            common: self.common.clone(),
            reports: self.reports.clone(),
        };
        self.tasks.spawn(connection.run());
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Ready { id, client, peer_start, opener, begin } => {
                self.on_ready(id, client, peer_start, opener, begin);
            }
            Report::Failed { id, client, blamed } => {
                if blamed {
                    if let Some(peer) = peer_id_of(&client) {
                        self.swarm.behaviour_mut().streams.refuse(peer, REFUSED_FOR);
                    }
                    if let Some(target) = self.targets.remove(&id) {
                        self.dialing.refused(&target, Instant::now());
                    }
                }
                self.swarm.close_connection(id);
            }
            Report::Listens { client, address } => self.learn(client, &[address], false),
            Report::Ended { id, client } => {
                self.swarm.close_connection(id);
                self.end_session(client, id);
            }
            Report::Misbehaved { id, client } => {
                self.swarm.close_connection(id);
                self.end_session(client, id);
                self.refuse(client);
            }
        }
    }

    fn on_ready(
        &mut self,
        id: ConnectionId,
        client: ClientId,
        peer_start: u64,
        opener: crate::streams::Opener,
        begin: oneshot::Sender<Begin>,
    ) {
        let (present, count) = {
            let sessions = self.shared.sessions();
            (sessions.get(&client).cloned(), sessions.len())
        };
        let we_choose = self.common.us < client;
        let serves = |old: &Session| old.peer_start == peer_start && !self.is_silent(old.connection);
        let refused = peer_id_of(&client).is_some_and(|peer| self.swarm.behaviour().streams.refuses(&peer));
        if refused {
            self.swarm.close_connection(id); // It was open already when its client was refused.
            return;
        }
        let superfluous = we_choose && present.as_ref().is_some_and(serves);
        if superfluous || (present.is_none() && count >= SESSIONS_MAX) {
            tracing::debug!(%client, superfluous, "a connection is not needed, or one too many");
            self.swarm.close_connection(id);
            return;
        }
        if let Some(old) = present {
            old.end();
            self.swarm.close_connection(old.connection);
        }
        let turn = self.turns.entry(client).or_default().clone();
        let (session, queue) = Session::new(id, peer_start, opener);
        self.shared.sessions().insert(client, session.clone());
        self.set_alone();
        self.dialing.connected(client);
        let _ = begin.send(Begin { turn, queue, session }); // If its task is gone, it has reported the end.
    }

    /// Has nothing to do with a member for [`MISBEHAVED_FOR`].
    fn refuse(&mut self, client: ClientId) {
        let session = self.shared.sessions().get(&client).map(|session| session.connection);
        if let Some(id) = session {
            self.swarm.close_connection(id);
            self.end_session(client, id);
        }
        if let Some(peer) = peer_id_of(&client) {
            self.swarm.behaviour_mut().streams.refuse(peer, MISBEHAVED_FOR);
        }
        self.dialing.misbehaved(client, Instant::now());
    }

    fn set_alone(&self) {
        if let Some((discovery, _)) = &self.discovery {
            discovery.set_alone(self.shared.sessions().is_empty());
        }
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId) {
        self.heard.remove(&id);
        if let Some(client) = client_of(&peer) {
            self.end_session(client, id);
            let is_connected = self.shared.sessions().contains_key(&client);
            match self.targets.remove(&id) {
                Some(_) if is_connected => self.dialing.connected(client),
                Some(target) => self.dialing.failed(&target, Instant::now()),
                None => {}
            }
        }
    }

    /// Forgets the session if it is this connection's.
    fn end_session(&mut self, client: ClientId, id: ConnectionId) {
        let ended = {
            let mut sessions = self.shared.sessions();
            let is_this = sessions.get(&client).is_some_and(|s| s.connection == id);
            if is_this { sessions.remove(&client) } else { None }
        };
        if let Some(session) = ended {
            self.set_alone();
            self.targets.remove(&id);
            self.dialing.released(client, session.since.elapsed() >= LASTED, Instant::now());
        }
        // A turn that no task holds or waits for is not needed any more.
        self.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    }
}

async fn next_hint(discovery: &mut Option<(Discovery, mpsc::Receiver<Hint>)>) -> Option<Hint> {
    match discovery {
        Some((_, hints)) => hints.recv().await,
        None => None,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
