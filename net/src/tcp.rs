//! libp2p's TCP with two things that it lacks: the interface of a link-local IPv6 address, without which such an
//! address cannot be dialed, and a limit on how long connecting may take.
//!
//! Always: connecting to where nothing answers ends in [`CONNECT_WAIT`], so that the next attempt comes soon after the
//! way is free again. Left out: everything above TCP, which has a limit of its own (see `swarm`).

use crate::address::socket_address;
use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::tcp;
use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpSocket;

/// A LAN answers in milliseconds; the system repeats a lost first packet after 1 s, so one may be lost.
pub(crate) const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// See the file's description.
pub(crate) struct Tcp(tcp::tokio::Transport);

impl Tcp {
    pub(crate) fn new() -> Self {
        Self(tcp::tokio::Transport::new(tcp::Config::default()))
    }
}

impl Transport for Tcp {
    type Output = tcp::tokio::TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = <tcp::tokio::Transport as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let connecting = match socket_address(&address) {
            Some(SocketAddr::V6(scoped)) if scoped.scope_id() != 0 => connect(scoped).boxed(),
            _ => self.0.dial(address, options)?,
        };
        Ok(async move {
            let in_time = tokio::time::timeout(CONNECT_WAIT, connecting).await;
            in_time.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

async fn connect(address: SocketAddrV6) -> io::Result<tcp::tokio::TcpStream> {
    let socket = TcpSocket::new_v6()?;
    socket.set_nodelay(true)?;
    socket.connect(address.into()).await.map(tcp::tokio::TcpStream)
}
