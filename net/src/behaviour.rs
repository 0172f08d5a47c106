//! libp2p as we use it: TCP, noise and yamux under one behaviour, with its limits, and what to listen on.
//!
//! Always: connections, attempts and streams being negotiated are bounded, in all and for each peer, whoever they are.
//! Left out: what happens on a connection (see `swarm` and `connection`).

use crate::identity::Identity;
use crate::streams::Streams;
use crate::swarm::SESSIONS_MAX;
use crate::tcp::Tcp;
use libp2p::core::Transport as _;
use libp2p::core::upgrade::Version;
use libp2p::swarm::{NetworkBehaviour, Swarm};
use libp2p::{SwarmBuilder, connection_limits, noise, ping, yamux};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;
use std::time::Duration;

/// As many as members may be strangers or duplicates, who are gone in seconds.
const CONNECTIONS_MAX: u32 = 2 * SESSIONS_MAX as u32;
const CONNECTIONS_IN_MAX: u32 = 3 * SESSIONS_MAX as u32 / 2;
const CONNECTIONS_PER_PEER_MAX: u32 = 4;
/// Far more than may come from one address (see `streams`).
const PENDING_IN_MAX: u32 = 64;
/// All members at once, and some that are unknown.
const PENDING_OUT_MAX: u32 = 3 * SESSIONS_MAX as u32 / 2;
/// Addresses of one client that are tried at once: all that are kept, since those that do not answer take long.
const DIALED_AT_ONCE: NonZeroU8 = NonZeroU8::new(16).unwrap();
/// Streams being negotiated on one connection.
const NEGOTIATING_MAX: usize = 64;
const SETUP_WAIT: Duration = Duration::from_secs(5);
/// libp2p lets the first failure pass, so a silent peer is noticed within 2 x (1 + 2.5) s.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_WAIT: Duration = Duration::from_millis(2500);

/// What a node does on every connection.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    ping: ping::Behaviour,
    pub(crate) streams: Streams,
}

/// TCP, noise and yamux under our behaviour. The error is libp2p's, in words.
pub(crate) fn build_swarm(identity: &Identity) -> Result<Swarm<Behaviour>, String> {
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_established(Some(CONNECTIONS_MAX))
        .with_max_established_incoming(Some(CONNECTIONS_IN_MAX))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX))
        .with_max_pending_incoming(Some(PENDING_IN_MAX))
        .with_max_pending_outgoing(Some(PENDING_OUT_MAX));
    let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_WAIT);
    let keypair = identity.keypair();
    let noise = noise::Config::new(&keypair).map_err(|e| e.to_string())?;
    let tcp = Tcp::new().upgrade(Version::V1Lazy).authenticate(noise).multiplex(yamux::Config::default());
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_other_transport(|_| tcp)
        .map_err(|e| e.to_string())?
        .with_behaviour(|_| Behaviour {
            limits: connection_limits::Behaviour::new(limits),
            ping: ping::Behaviour::new(ping),
            streams: Streams::default(),
        })
        .map_err(|e| e.to_string())?
        .with_swarm_config(|config| {
            config
                .with_dial_concurrency_factor(DIALED_AT_ONCE)
                .with_max_negotiating_inbound_streams(NEGOTIATING_MAX)
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .with_connection_timeout(SETUP_WAIT)
        .build();
    Ok(swarm)
}

/// What to listen on for an address: 0.0.0.0 means all addresses of this machine, so those of IPv6 too, under one port.
pub(crate) fn listen_everywhere(address: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    refuse_if_taken(address)?;
    if address.ip() != Ipv4Addr::UNSPECIFIED {
        return Ok(vec![address]);
    }
    let port = match address.port() {
        0 => std::net::TcpListener::bind(address)?.local_addr()?.port(),
        port => port,
    };
    let everywhere = [SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), (Ipv6Addr::UNSPECIFIED, port).into()];
    // A machine may have no IPv6 at all, or another program there.
    Ok(everywhere
        .into_iter()
        .filter(|address| address.is_ipv4() || refuse_if_taken(*address).is_ok())
        .collect())
}

/// libp2p listens with SO_REUSEPORT, so that a second node of the same user would take half of the first one's
/// connections and nobody would be told.
fn refuse_if_taken(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 { Ok(()) } else { std::net::TcpListener::bind(address).map(drop) }
}
