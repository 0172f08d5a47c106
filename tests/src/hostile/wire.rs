//! One connection as the protocol has it (`docs/handshake.md`): TCP, noise, yamux, streams by name, and the proof of membership.
//!
//! Nothing here is bounded or checked for the sake of the other end: that is what the tests are for.

use futures::StreamExt;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo, Version};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::identity::Keypair;
use libp2p::swarm::derive_prelude::FromSwarm;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, NetworkBehaviour, Stream,
    StreamProtocol, SubstreamProtocol, SwarmEvent, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, SwarmBuilder, noise, ping, tcp, yamux};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;
use tcat_engine::ids::ClientId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// The names of the streams.
pub const MEMBERSHIP: &str = "/tcat/membership/1";
/// See [`MEMBERSHIP`].
pub const JOIN: &str = "/tcat/join/2";
/// See [`MEMBERSHIP`].
pub const CONTROL: &str = "/tcat/control/1";
/// See [`MEMBERSHIP`].
pub const BULK: &str = "/tcat/bulk/1";
/// See [`MEMBERSHIP`].
pub const CATALOG: &str = "/tcat/catalog/1";
/// See [`MEMBERSHIP`].
pub const OBJECTS: &str = "/tcat/objects/1";

/// How long anything that should happen may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

type Opened = oneshot::Sender<io::Result<Stream>>;

/// A connection that we dialed. Dropping it ends it.
pub struct Connection {
    /// Who we are.
    pub us: ClientId,
    /// Who answered.
    pub them: ClientId,
    open: mpsc::Sender<(StreamProtocol, Opened)>,
    /// Streams that the other end opened.
    pub inbound: mpsc::Receiver<(StreamProtocol, Stream)>,
    closed: watch::Receiver<bool>,
    _ends: oneshot::Sender<()>,
}

impl Connection {
    /// Dials `127.0.0.1:PORT` with this key.
    pub async fn dial(keypair: &Keypair, address: &str) -> Result<Self, String> {
        let (opener, open_requests) = mpsc::channel(64);
        let (to_us, inbound) = mpsc::channel(256);
        let mut raw = Some(Raw { ends: Some(Handler { open_requests, inbound: to_us }) });
        let mut swarm = SwarmBuilder::with_existing_identity(keypair.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .map_err(|error| error.to_string())?
            .with_behaviour(|_| Both { ping: ping::Behaviour::default(), raw: raw.take().unwrap() })
            .map_err(|_| "no behaviour".to_owned())?
            .with_swarm_config(|config| config.with_substream_upgrade_protocol_override(Version::V1Lazy))
            .build();
        let (host, port) = address.split_once(':').unwrap();
        let address: Multiaddr = format!("/ip4/{host}/tcp/{port}").parse().unwrap();
        let dial = DialOpts::unknown_peer_id().address(address).allocate_new_port().build();
        swarm.dial(dial).map_err(|error| error.to_string())?;
        let establishing = async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { peer_id, .. } => return Ok(peer_id),
                    SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.to_string()),
                    _ => {}
                }
            }
        };
        let peer =
            timeout(PATIENCE, establishing).await.map_err(|_| "not connected in time".to_owned())??;
        let (tell, closed) = watch::channel(false);
        let (ends, mut ended) = oneshot::channel::<()>();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => {
                        if matches!(event, SwarmEvent::ConnectionClosed { .. }) {
                            let _ = tell.send(true);
                            return;
                        }
                    }
                    _ = &mut ended => return,
                }
            }
        });
        let us = client_of(&keypair.public().to_peer_id()).unwrap();
        Ok(Self { us, them: client_of(&peer).unwrap(), open: opener, inbound, closed, _ends: ends })
    }

    /// Opens a stream.
    pub async fn open(&self, protocol: &'static str) -> io::Result<Stream> {
        let (answer, opened) = oneshot::channel();
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.open.send((StreamProtocol::new(protocol), answer)).await.map_err(|_| gone())?;
        timeout(PATIENCE, opened).await.map_err(|_| gone())?.map_err(|_| gone())?
    }

    /// Proves membership as the dialer; an error if the other end does not let us in.
    pub async fn prove(&self, key: &[u8; 32]) -> io::Result<()> {
        let mut stream = self.open(MEMBERSHIP).await?;
        let ours = self.hello(key);
        write(&mut stream, &ours).await?;
        let answer = read(&mut stream).await?;
        let theirs = answer.get(..41).ok_or(io::ErrorKind::InvalidData)?;
        write(&mut stream, &self.proof(key, &ours, theirs)).await?;
        match read(&mut stream).await?.as_slice() {
            b"member" => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The dialer's first frame: what should be random, a start, and hints of which one is right.
    pub fn hello(&self, key: &[u8; 32]) -> Vec<u8> {
        let random = [9; 32];
        let key = blake3::derive_key("tcat 1 hint of a workgroup key", key);
        let hint = blake3::keyed_hash(&key, &[random, self.us.0].concat());
        [&random[..], &[0, 0, 0, 0, 0, 0, 0, 7], &hint.as_bytes()[..8], &[3; 56]].concat()
    }

    /// The dialer's proof, for its first frame and the listener's hello and choice.
    pub fn proof(&self, key: &[u8; 32], ours: &[u8], theirs: &[u8]) -> [u8; 32] {
        let key = blake3::derive_key("tcat 1 proof of membership", key);
        let parts = [b"dialer  ", &self.us.0[..], &self.them.0, ours, theirs].concat();
        *blake3::keyed_hash(&key, &parts).as_bytes()
    }

    /// Whether the other end ends the connection within this time.
    pub async fn is_closed_within(&self, limit: Duration) -> bool {
        let mut closed = self.closed.clone();
        timeout(limit, closed.wait_for(|closed| *closed)).await.is_ok()
    }
}

/// Writes a net frame.
pub async fn write(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(&u32::try_from(bytes.len()).unwrap().to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Reads a net frame.
pub async fn read(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let reading = async {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await?;
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut bytes).await?;
        Ok(bytes)
    };
    timeout(PATIENCE, reading).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A client's id is its Ed25519 public key.
pub fn client_of(peer: &PeerId) -> Option<ClientId> {
    tcat_net::client_of(peer)
}

#[derive(NetworkBehaviour)]
struct Both {
    ping: ping::Behaviour,
    raw: Raw,
}

/// Gives its only connection the ends that it was made with.
struct Raw {
    ends: Option<Handler>,
}

impl NetworkBehaviour for Raw {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Err(ConnectionDenied::new("only dials"))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.ends.take().ok_or_else(|| ConnectionDenied::new("one connection"))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

struct Handler {
    open_requests: mpsc::Receiver<(StreamProtocol, Opened)>,
    inbound: mpsc::Sender<(StreamProtocol, Stream)>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opened;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        let all = [MEMBERSHIP, CONTROL, BULK, CATALOG, OBJECTS].map(StreamProtocol::new);
        SubstreamProtocol::new(Offer(all.to_vec()), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Offer, Self::OutboundOpenInfo, Infallible>> {
        match self.open_requests.poll_recv(cx) {
            Poll::Ready(Some((protocol, answer))) => {
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
                let _ = self.inbound.try_send(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (_, stream),
                info,
            }) => {
                let _ = info.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let _ = info.send(Err(io::Error::other(format!("{error:?}"))));
            }
            _ => {}
        }
    }
}

/// Streams by name, passed on as they are.
struct Offer(Vec<StreamProtocol>);

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
