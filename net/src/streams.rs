//! The one libp2p behaviour of ours: plain streams, each bound to the connection that it belongs to.
//!
//! `libp2p-stream` and request-response pick any connection of a peer. Membership is proved on one connection, and
//! order holds within one stream, so here both ends always know which connection they speak on.
//! Always: before the peer has proved membership, only the protocols of [`BEFORE_PROOF`] are negotiated at all.

use crate::address::socket_address;
use crate::random;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, NegotiationError, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::derive_prelude::FromSwarm;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, NetworkBehaviour, Stream,
    StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Both ends prove that they are members.
pub(crate) const MEMBERSHIP: StreamProtocol = StreamProtocol::new("/tcat/membership/1");
/// A newcomer redeems an invitation.
pub(crate) const JOIN: StreamProtocol = StreamProtocol::new("/tcat/join/2");
/// Messages, one direction a stream, in order.
pub(crate) const CONTROL: StreamProtocol = StreamProtocol::new("/tcat/control/1");
/// One content's bytes.
pub(crate) const BULK: StreamProtocol = StreamProtocol::new("/tcat/bulk/1");
/// Requests to the host's catalog.
pub(crate) const CATALOG: StreamProtocol = StreamProtocol::new("/tcat/catalog/1");
/// The host's objects.
pub(crate) const OBJECTS: StreamProtocol = StreamProtocol::new("/tcat/objects/1");

const BEFORE_PROOF: [StreamProtocol; 2] = [MEMBERSHIP, JOIN];
const AFTER_PROOF: [StreamProtocol; 5] = [MEMBERSHIP, CONTROL, BULK, CATALOG, OBJECTS];

/// Streams that a peer may have opened and nobody has looked at yet; more are reset.
const INBOUND_WAITING_MAX: usize = 64;
/// The same of a peer that has proved nothing: each may hold a quarter of a megabyte of its bytes.
const UNPROVED_WAITING_MAX: usize = 2;
/// Streams that we want to open and the handler has not asked for yet.
const OPEN_REQUESTS_MAX: usize = 32;
/// Connections that come from one address and on which nobody has proved anything yet; more are refused. Each is gone
/// within seconds, and several nodes may share an address.
const UNPROVED_PER_ADDRESS_MAX: usize = 16;
/// Peers remembered as refused.
const REFUSED_MAX: usize = 256;

/// Opens streams on one connection.
#[derive(Clone)]
pub(crate) struct Opener(mpsc::Sender<OpenRequest>);

struct OpenRequest {
    protocol: StreamProtocol,
    answer: oneshot::Sender<io::Result<Stream>>,
}

impl Opener {
    /// Opens a stream; an error once the connection is gone or the peer does not offer the protocol.
    pub(crate) async fn open(&self, protocol: StreamProtocol) -> io::Result<Stream> {
        let (answer, opened) = oneshot::channel();
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.0.send(OpenRequest { protocol, answer }).await.map_err(|_| gone())?;
        opened.await.map_err(|_| gone())?
    }

    /// Returns when the connection is gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Whether a stream failed because the peer does not know its protocol, or does not offer it now.
pub(crate) fn was_refused(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<NegotiationError>());
    error.kind() == io::ErrorKind::Unsupported || matches!(inner, Some(NegotiationError::Failed))
}

/// What the task of a connection holds of it.
pub(crate) struct ConnectionEnds {
    pub opener: Opener,
    /// Ends when the connection does.
    pub inbound: mpsc::Receiver<(StreamProtocol, Stream)>,
    /// Whether the peer has proved membership.
    pub proved: Arc<AtomicBool>,
}

/// Hands every new connection's ends to whoever calls [`Streams::take`].
#[derive(Default)]
pub(crate) struct Streams {
    new: BTreeMap<ConnectionId, ConnectionEnds>,
    refused: BTreeMap<PeerId, Instant>,
    /// Connections that others have begun: from where, and, once they are established, whether something is proved.
    inbound: BTreeMap<ConnectionId, (Option<IpAddr>, Option<Arc<AtomicBool>>)>,
}

impl Streams {
    /// The ends of a connection that has just been established; once.
    pub(crate) fn take(&mut self, connection: ConnectionId) -> Option<ConnectionEnds> {
        self.new.remove(&connection)
    }

    /// Refuses every connection with this peer for a while.
    pub(crate) fn refuse(&mut self, peer: PeerId, for_how_long: Duration) {
        let now = Instant::now();
        self.refused.retain(|_, until| *until > now);
        if self.refused.len() >= REFUSED_MAX {
            // Which one is forgiven must not be for a stranger to choose.
            let index = (random::fraction() * REFUSED_MAX as f64) as usize;
            if let Some(forgiven) = self.refused.keys().nth(index).copied() {
                self.refused.remove(&forgiven);
            }
        }
        self.refused.insert(peer, now + for_how_long);
    }

    /// Whether one more connection may come from this address.
    fn has_room_for(&self, address: Option<IpAddr>) -> bool {
        let unproved = |(from, proved): &&(Option<IpAddr>, Option<Arc<AtomicBool>>)| {
            *from == address && !proved.as_ref().is_some_and(|proved| proved.load(Ordering::Acquire))
        };
        self.inbound.values().filter(unproved).count() < UNPROVED_PER_ADDRESS_MAX
    }

    /// Whether connections with this peer are refused now.
    pub(crate) fn refuses(&self, peer: &PeerId) -> bool {
        self.refused.get(peer).is_some_and(|until| *until > Instant::now())
    }

    fn admit(&mut self, connection: ConnectionId, peer: &PeerId) -> Result<Handler, ConnectionDenied> {
        if self.refuses(peer) {
            return Err(ConnectionDenied::new(
                "it has just failed to prove that it is a member, or misbehaved",
            ));
        }
        let (requests, open_requests) = mpsc::channel(OPEN_REQUESTS_MAX);
        let (to_task, inbound) = mpsc::channel(INBOUND_WAITING_MAX);
        let proved = Arc::new(AtomicBool::new(false));
        let ends = ConnectionEnds { opener: Opener(requests), inbound, proved: proved.clone() };
        self.new.insert(connection, ends);
        Ok(Handler { open_requests, inbound: to_task, proved })
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let address = socket_address(remote).map(|remote| remote.ip().to_canonical());
        if !self.has_room_for(address) {
            return Err(ConnectionDenied::new("too many connections from its address prove nothing"));
        }
        self.inbound.insert(connection, (address, None));
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = self.admit(connection, &peer)?;
        if let Some((_, proved)) = self.inbound.get_mut(&connection) {
            *proved = Some(handler.proved.clone());
        }
        Ok(handler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(connection, &peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let over = match event {
            // Another behaviour may refuse a connection that this one has admitted.
            FromSwarm::ListenFailure(failure) => failure.connection_id,
            FromSwarm::DialFailure(failure) => failure.connection_id,
            FromSwarm::ConnectionClosed(closed) => closed.connection_id,
            _ => return,
        };
        self.new.remove(&over);
        self.inbound.remove(&over);
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// Runs inside libp2p's connection: negotiates streams and passes them on, never waiting for anybody.
pub(crate) struct Handler {
    open_requests: mpsc::Receiver<OpenRequest>,
    inbound: mpsc::Sender<(StreamProtocol, Stream)>,
    proved: Arc<AtomicBool>,
}

impl Handler {
    /// A full queue drops the stream, which resets it.
    fn pass_on(&self, stream: (StreamProtocol, Stream)) {
        let waiting = self.inbound.max_capacity() - self.inbound.capacity();
        let too_many = waiting >= UNPROVED_WAITING_MAX && !self.proved.load(Ordering::Acquire);
        if too_many || self.inbound.try_send(stream).is_err() {
            tracing::debug!("a peer opens streams faster than they are looked at; one was reset");
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = oneshot::Sender<io::Result<Stream>>;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        let proved = self.proved.load(Ordering::Acquire);
        let protocols = if proved { AFTER_PROOF.to_vec() } else { BEFORE_PROOF.to_vec() };
        SubstreamProtocol::new(Offer(protocols), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true // Who is connected too long without proof is disconnected by the connection's task.
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Offer, Self::OutboundOpenInfo, Infallible>> {
        match self.open_requests.poll_recv(cx) {
            Poll::Ready(Some(OpenRequest { protocol, answer })) => {
                let protocol = SubstreamProtocol::new(Offer(vec![protocol]), answer);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), Self::OutboundOpenInfo>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.pass_on(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (_, stream),
                info,
            }) => {
                let _ = info.send(Ok(stream)); // Nobody waits any more: dropping the stream resets it.
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => io::ErrorKind::TimedOut.into(),
                    StreamUpgradeError::NegotiationFailed => io::ErrorKind::Unsupported.into(),
                    StreamUpgradeError::Io(error) => error,
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = info.send(Err(error));
            }
            _ => {}
        }
    }
}

/// The protocols that one side offers on a new stream; the stream itself is passed on as it is.
pub(crate) struct Offer(Vec<StreamProtocol>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
pub(crate) mod tests;
