//! Where a peer may be reached: a socket address, or a host name with a port.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

/// Addresses that one host name is taken to have at most.
const RESOLVED_MAX: usize = 8;

/// `192.168.1.7:4711`, `[fd00::7]:4711`, `[fe80::7%eth0]:4711` or `studio.local:4711`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerAddress {
    /// An IP address and port.
    Socket(SocketAddr),
    /// A host name and port, looked up anew at every attempt; or a link-local IPv6 address with the name of its
    /// interface, whose number may change.
    Name(String, u16),
}

/// Text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a peer; write HOST:PORT, for instance 192.168.1.7:4711")]
pub struct AddressError(pub String);

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        let error = || AddressError(text.into());
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let is_name = |text: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !text.is_empty() && text.chars().all(allowed)
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bare.and_then(|host| host.split_once('%')) {
            Some((ip, interface)) => ip.parse::<Ipv6Addr>().is_ok() && is_name(interface),
            None => is_name(host),
        };
        let host = bare.unwrap_or(host);
        if host.len() > 253 || !is_host {
            return Err(error());
        }
        match port.parse() {
            Ok(port) if port != 0 => Ok(Self::Name(host.into(), port)),
            _ => Err(error()),
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl PeerAddress {
    /// The addresses behind it, now.
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Socket(address) => Ok(vec![*address]),
            Self::Name(host, port) => {
                Ok(tokio::net::lookup_host((host.as_str(), *port)).await?.take(RESOLVED_MAX).collect())
            }
        }
    }
}

/// libp2p's form; the interface of a link-local address by its number.
pub(crate) fn multiaddr(address: SocketAddr) -> Multiaddr {
    let zone = match address {
        SocketAddr::V6(scoped) if scoped.scope_id() != 0 => {
            Multiaddr::empty().with(Protocol::Ip6zone(scoped.scope_id().to_string().into()))
        }
        _ => Multiaddr::empty(),
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    };
    zone.with(ip).with(Protocol::Tcp(address.port()))
}

pub(crate) fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let (scope, ip) = match parts.next()? {
        Protocol::Ip6zone(zone) => (zone.parse().ok()?, parts.next()?),
        ip => (0, ip),
    };
    let Protocol::Tcp(port) = parts.next()? else { return None };
    match ip {
        Protocol::Ip4(ip) if scope == 0 => Some(SocketAddr::from((ip, port))),
        Protocol::Ip6(ip) => Some(SocketAddrV6::new(ip, port, 0, scope).into()),
        _ => None,
    }
}

/// Whether the address says nothing without the interface that it is on.
pub(crate) fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_print() {
        for text in [
            "192.168.1.7:4711",
            "[fd00::7]:4711",
            "studio-2.local:4711",
            "[fe80::7%eth0]:4711",
            "[fe80::7%3]:4711",
        ] {
            assert_eq!(text.parse::<PeerAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "studio",
            "studio:",
            "studio:0",
            "studio:99999",
            ":4711",
            "a b:1",
            "fd00::7:x",
            "http://x:1",
            "[studio]:1",
            "[fe80::7%]:1",
            "[fe80::7%a/b]:1",
            "[x%eth0]:1",
            "fe80::7%eth0:1",
            "[]:1",
        ] {
            assert!(text.parse::<PeerAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn socket_addresses_survive_libp2ps_form() {
        for text in ["192.168.1.7:4711", "[fd00::7]:1", "[fe80::7%3]:4711"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(socket_address(&multiaddr(address)), Some(address));
        }
    }
}
