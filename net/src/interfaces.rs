//! Which network interfaces discovery uses, now: they come and go, and change their addresses.
//!
//! Pure but for [`present`], which asks the system. Always: nothing here sends a packet; point-to-point links (VPNs)
//! are left alone, since they are no LAN. Left out: using them, which is the mDNS daemon's (see `discovery`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// Why there is no discovery; static peers work regardless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// An interface was named that does not exist or is down.
    #[error("there is no active network interface {name:?} (there are: {present}); correct --interface")]
    NoSuchInterface {
        /// As it was named.
        name: String,
        /// What there is.
        present: String,
    },
    /// The chosen interface cannot do what mDNS needs.
    #[error(
        "multicast is impossible on {0}, so other nodes cannot be discovered; \
         name them under `peers` in config.toml, or choose another --interface"
    )]
    NoMulticast(String),
    /// The interfaces cannot be listed, or the mDNS thread cannot start.
    #[error("mDNS does not work here: {0}; name the other nodes under `peers` in config.toml")]
    Unavailable(String),
}

/// What matters of a network interface that is up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    loopback: bool,
    multicast: bool,
    addresses: BTreeSet<IpAddr>,
}

/// The interfaces that are up, by name.
pub(crate) type Present = BTreeMap<String, Interface>;

/// What discovery can use, and what stands in its way.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// By name; these work whatever the problem is.
    pub usable: Vec<String>,
    /// An interface that was named and cannot be used, or that there is none.
    pub problem: Option<DiscoveryError>,
}

/// The interfaces that discovery uses: those named; none named: all that are up and can do multicast but loopback, or
/// loopback if it is alone.
pub fn choose_interfaces(named: &[String]) -> Result<Vec<String>, DiscoveryError> {
    choose(named, &present()?).without_a_problem()
}

impl Chosen {
    fn without_a_problem(self) -> Result<Vec<String>, DiscoveryError> {
        self.problem.map_or(Ok(self.usable), Err)
    }
}

/// The interfaces that are up now.
pub(crate) fn present() -> Result<Present, DiscoveryError> {
    let all = if_addrs::get_if_addrs().map_err(|e| DiscoveryError::Unavailable(e.to_string()))?;
    let mut present = Present::new();
    for address in all.iter().filter(|address| address.is_oper_up()) {
        let interface = present.entry(address.name.clone()).or_default();
        interface.loopback |= address.is_loopback();
        interface.addresses.insert(address.ip());
        // mDNS leaves point-to-point links (VPNs) alone.
        interface.multicast |= !address.is_p2p() && can_multicast(address.ip(), address.index.unwrap_or(0));
    }
    Ok(present)
}

pub(crate) fn choose(named: &[String], present: &Present) -> Chosen {
    let missing = named.iter().find(|name| !present.contains_key(*name));
    let alone = present.values().all(|interface| interface.loopback);
    let by_rule =
        present.iter().filter(|(_, interface)| alone || !interface.loopback).map(|(name, _)| name.clone());
    let wanted: Vec<String> = if named.is_empty() { by_rule.collect() } else { named.to_vec() };
    let multicast = |name: &String| present.get(name).is_some_and(|interface| interface.multicast);
    let (usable, unable): (Vec<_>, Vec<_>) = wanted.into_iter().partition(multicast);
    let problem = if let Some(name) = missing {
        let present = present.keys().cloned().collect::<Vec<_>>().join(", ");
        Some(DiscoveryError::NoSuchInterface { name: name.clone(), present })
    } else if usable.is_empty() || (!named.is_empty() && !unable.is_empty()) {
        // A named interface is meant; one that the rule found may be missed as long as there is another.
        let unable = if unable.is_empty() { "this machine".to_owned() } else { unable.join(", ") };
        Some(DiscoveryError::NoMulticast(unable))
    } else {
        None
    };
    Chosen { usable, problem }
}

/// Whether the system would send multicast from this address. Connecting a UDP socket asks it, and sends nothing.
fn can_multicast(ip: IpAddr, interface_index: u32) -> bool {
    let ask = |from: SocketAddr, to: SocketAddr| UdpSocket::bind(from).and_then(|socket| socket.connect(to));
    let asked = match ip {
        IpAddr::V4(_) => ask((ip, 0).into(), (GROUP_V4, mdns_sd::MDNS_PORT).into()),
        IpAddr::V6(ip) => {
            let group = SocketAddrV6::new(GROUP_V6, mdns_sd::MDNS_PORT, 0, interface_index);
            ask(SocketAddrV6::new(ip, 0, 0, interface_index).into(), group.into())
        }
    };
    asked.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interfaces by name; those that end in `!` cannot do multicast.
    fn interfaces(names: &[&str]) -> Present {
        let interface = |name: &&str| {
            let bare = name.trim_end_matches('!');
            let (loopback, multicast) = (bare == "lo", bare == *name);
            (bare.to_owned(), Interface { loopback, multicast, addresses: BTreeSet::new() })
        };
        names.iter().map(interface).collect()
    }

    #[test]
    fn none_named_means_all_but_loopback() {
        assert_eq!(choose(&[], &interfaces(&["eth0", "lo", "tun0!", "wlan0"])).usable, ["eth0", "wlan0"]);
    }

    #[test]
    fn loopback_is_used_if_it_is_alone_or_named() {
        assert_eq!(choose(&[], &interfaces(&["lo"])).usable, ["lo"]);
        assert_eq!(choose(&["lo".into()], &interfaces(&["eth0", "lo"])).usable, ["lo"]);
    }

    #[test]
    fn of_those_named_the_usable_ones_are_used_whatever_is_wrong_with_the_others() {
        let chosen = choose(&["eth0".into(), "eth9".into()], &interfaces(&["eth0", "lo"]));
        assert_eq!(chosen.usable, ["eth0"]);
        assert!(matches!(chosen.problem, Some(DiscoveryError::NoSuchInterface { .. })));
        let chosen = choose(&["eth0".into(), "tun0".into()], &interfaces(&["eth0", "lo", "tun0!"]));
        assert_eq!(chosen.usable, ["eth0"]);
        assert!(matches!(chosen.problem, Some(DiscoveryError::NoMulticast(_))));
    }

    #[test]
    fn what_cannot_be_is_said() {
        let error = choose(&["eth9".into()], &interfaces(&["eth0", "lo"])).problem.unwrap().to_string();
        assert!(error.contains("eth9") && error.contains("eth0, lo"), "{error}");
        let error = choose(&["lo".into()], &interfaces(&["eth0", "lo!"])).problem.unwrap().to_string();
        assert!(error.contains("multicast is impossible on lo"), "{error}");
        assert!(choose(&[], &interfaces(&["eth0!", "lo"])).problem.is_some(), "loopback is not alone");
        assert!(choose(&[], &interfaces(&[])).problem.is_some());
    }
}
