//! Who else is there: announcing ourselves and hearing of others by mDNS, service `_tcat._tcp.local.`.
//!
//! What is heard are hints, from anybody on the LAN: they say where to dial, and membership is proved there.
//! Always: the announcement holds a client id and a keyed hash of the workgroup, no names; only announcements of our
//! own workgroup are passed on, and never our own; nothing here blocks. Everything is bounded, since strangers may
//! announce at will.

use crate::membership::WorkgroupKey;
use mdns_sd::{DaemonEvent, IfKind, IfPredicate, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;
use tcat_engine::ids::{ClientId, WorkgroupId, hex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const SERVICE: &str = "_tcat._tcp.local.";
const VERSION: &str = "1";
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Hints that wait for the transport; more are dropped, mDNS repeats itself.
const HINTS_MAX: usize = 64;
/// Announcements remembered, so that a removal, which has a name only, finds its client.
const REMEMBERED_MAX: usize = 256;
/// Addresses passed on of one announcement.
const ADDRESSES_MAX: usize = 8;
const GOODBYE_WAIT: Duration = Duration::from_secs(1);
const ANNOUNCE_WAIT: Duration = Duration::from_secs(10);
const RESTART_WAIT: Duration = Duration::from_secs(1);

/// What was heard. A hint only: it may be forged, late or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// A client of our workgroup says that it can be reached here.
    Discovered {
        /// Who it says that it is.
        client: ClientId,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// Its announcement was taken back or ran out. No proof that it is gone.
    Lost(ClientId),
}

/// Why there is no discovery; static peers work regardless.
#[derive(Debug, thiserror::Error)]
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

/// What to announce and where.
pub struct DiscoveryConfig<'a> {
    /// Ourselves.
    pub client: ClientId,
    /// Our workgroup.
    pub workgroup: WorkgroupId,
    /// The key under which the workgroup is hashed.
    pub workgroup_key: &'a WorkgroupKey,
    /// Where we listen.
    pub port: u16,
    /// Interfaces by name; empty: the rule of [`choose_interfaces`].
    pub interfaces: &'a [String],
}

/// What matters of a network interface that is up.
#[derive(Debug, Clone, Copy, Default)]
struct Interface {
    loopback: bool,
    multicast: bool,
}

/// The interfaces that discovery uses: those named; none named: all that are up and can do multicast but loopback, or
/// loopback if it is alone.
pub fn choose_interfaces(named: &[String]) -> Result<Vec<String>, DiscoveryError> {
    let all = if_addrs::get_if_addrs().map_err(|e| DiscoveryError::Unavailable(e.to_string()))?;
    let mut present: BTreeMap<String, Interface> = BTreeMap::new();
    for address in all.iter().filter(|address| address.is_oper_up()) {
        let interface = present.entry(address.name.clone()).or_default();
        interface.loopback |= address.is_loopback();
        // mDNS leaves point-to-point links (VPNs) alone.
        interface.multicast |= !address.is_p2p() && can_multicast(address.ip(), address.index.unwrap_or(0));
    }
    choose(named, &present)
}

fn choose(named: &[String], present: &BTreeMap<String, Interface>) -> Result<Vec<String>, DiscoveryError> {
    let names = || present.keys().cloned().collect::<Vec<_>>().join(", ");
    for name in named {
        if !present.contains_key(name) {
            return Err(DiscoveryError::NoSuchInterface { name: name.clone(), present: names() });
        }
    }
    let alone = present.values().all(|interface| interface.loopback);
    let by_rule =
        present.iter().filter(|(_, interface)| alone || !interface.loopback).map(|(name, _)| name.clone());
    let wanted: Vec<String> = if named.is_empty() { by_rule.collect() } else { named.to_vec() };
    let multicast = |name: &String| present.get(name).is_some_and(|interface| interface.multicast);
    let (able, unable): (Vec<_>, Vec<_>) = wanted.into_iter().partition(multicast);
    // A named interface is meant; one that the rule found may be missed as long as there is another.
    if able.is_empty() || (!named.is_empty() && !unable.is_empty()) {
        let unable = if unable.is_empty() { "this machine".to_owned() } else { unable.join(", ") };
        return Err(DiscoveryError::NoMulticast(unable));
    }
    Ok(able)
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

/// A running announcement and search.
pub struct Discovery {
    daemon: ServiceDaemon,
    fullname: String,
    interfaces: Vec<String>,
    tasks: Vec<JoinHandle<()>>,
}

impl Discovery {
    /// Starts both; needs a tokio runtime. The hints end when the discovery does.
    pub fn start(config: &DiscoveryConfig<'_>) -> Result<(Self, mpsc::Receiver<Hint>), DiscoveryError> {
        let unavailable = |e: mdns_sd::Error| DiscoveryError::Unavailable(e.to_string());
        let interfaces = choose_interfaces(config.interfaces)?;
        let chosen: BTreeSet<String> = interfaces.iter().cloned().collect();
        let daemon = ServiceDaemon::new().map_err(unavailable)?;
        daemon.disable_interface(IfKind::All).map_err(unavailable)?;
        let predicate = IfPredicate::new(move |interface| chosen.contains(&interface.name));
        daemon.enable_interface(IfKind::Predicate(predicate)).map_err(unavailable)?;
        let workgroup = workgroup_hash(&config.workgroup, config.workgroup_key);
        let service = announcement(config, &workgroup).map_err(unavailable)?;
        let fullname = service.get_fullname().to_owned();
        let monitor = daemon.monitor().map_err(unavailable)?;
        let found = daemon.browse(SERVICE).map_err(unavailable)?;
        daemon.register(service).map_err(unavailable)?;
        let (hints, received) = mpsc::channel(HINTS_MAX);
        let listener = Listener { us: config.client, workgroup, names: BTreeMap::new(), hints };
        let tasks =
            vec![tokio::spawn(listener.listen(daemon.clone(), found)), tokio::spawn(watch_daemon(monitor))];
        Ok((Self { daemon, fullname, interfaces, tasks }, received))
    }

    /// On which interfaces.
    pub fn interfaces(&self) -> &[String] {
        &self.interfaces
    }

    /// Takes the announcement back, so that others need not wait for it to run out, and stops.
    pub async fn shutdown(self) {
        if let Ok(unregistered) = self.daemon.unregister(&self.fullname) {
            let _ = tokio::time::timeout(GOODBYE_WAIT, unregistered.recv_async()).await;
        }
        if let Ok(stopped) = self.daemon.shutdown() {
            let _ = tokio::time::timeout(GOODBYE_WAIT, stopped.recv_async()).await;
        }
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown(); // Its thread would go on without us.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What a stranger sees of the workgroup: the same for all its members, and nothing without the key.
fn workgroup_hash(workgroup: &WorkgroupId, key: &WorkgroupKey) -> String {
    let hash = blake3::keyed_hash(&key.derive("tcat 1 workgroup in an announcement"), &workgroup.0);
    hash.as_bytes().first_chunk::<16>().map_or_else(String::new, |bytes| hex(bytes))
}

fn announcement(config: &DiscoveryConfig<'_>, workgroup: &str) -> mdns_sd::Result<ServiceInfo> {
    // One client may be in several workgroups.
    let instance = format!("{}-{}", config.client.short(), workgroup.get(..8).unwrap_or_default());
    let host = format!("tcat-{}.local.", config.client.short());
    let client = config.client.to_string();
    let text = [("v", VERSION), ("id", client.as_str()), ("wg", workgroup)];
    Ok(ServiceInfo::new(SERVICE, &instance, &host, (), config.port, &text[..])?.enable_addr_auto())
}

/// The daemon opens its sockets in a thread of its own and only tells whether it could.
async fn watch_daemon(monitor: mdns_sd::Receiver<DaemonEvent>) {
    let announced = async {
        while let Ok(event) = monitor.recv_async().await {
            match event {
                DaemonEvent::Announce(..) => return,
                DaemonEvent::Error(error) => tracing::warn!("mDNS: {error}"),
                _ => {}
            }
        }
    };
    if tokio::time::timeout(ANNOUNCE_WAIT, announced).await.is_err() {
        tracing::warn!(
            "mDNS could not announce this node in {} s; name the other nodes under `peers` in config.toml",
            ANNOUNCE_WAIT.as_secs()
        );
    }
    while let Ok(event) = monitor.recv_async().await {
        if let DaemonEvent::Error(error) = event {
            tracing::debug!(%error, "mDNS");
        }
    }
}

/// Turns the daemon's events into hints.
struct Listener {
    us: ClientId,
    workgroup: String,
    names: BTreeMap<String, ClientId>,
    hints: mpsc::Sender<Hint>,
}

impl Listener {
    async fn listen(mut self, daemon: ServiceDaemon, mut found: mdns_sd::Receiver<ServiceEvent>) {
        loop {
            match found.recv_async().await {
                Ok(event) => {
                    let Some(hint) = self.hint(event) else { continue };
                    if let Err(mpsc::error::TrySendError::Closed(_)) = self.hints.try_send(hint) {
                        return;
                    }
                }
                // The daemon ends a search that nobody reads for long; we begin it anew.
                Err(_) => {
                    tokio::time::sleep(RESTART_WAIT).await;
                    match daemon.browse(SERVICE) {
                        Ok(again) => found = again,
                        Err(mdns_sd::Error::Again) => {}
                        Err(_) => return,
                    }
                }
            }
        }
    }

    fn hint(&mut self, event: ServiceEvent) -> Option<Hint> {
        match event {
            ServiceEvent::ServiceResolved(service) => self.discovered(&service),
            ServiceEvent::ServiceRemoved(_, fullname) => self.names.remove(&fullname).map(Hint::Lost),
            _ => None,
        }
    }

    fn discovered(&mut self, service: &ResolvedService) -> Option<Hint> {
        let client: ClientId = service.get_property_val_str("id")?.parse().ok()?;
        let ours = service.get_property_val_str("wg") == Some(self.workgroup.as_str());
        if !ours || client == self.us || service.get_property_val_str("v") != Some(VERSION) {
            return None;
        }
        let usable = service.get_addresses().iter().map(mdns_sd::ScopedIp::to_ip_addr).filter(is_dialable);
        let ips: BTreeSet<IpAddr> = usable.collect();
        let addresses: Vec<_> =
            ips.into_iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, service.get_port())).collect();
        if addresses.is_empty() {
            return None;
        }
        if self.names.len() < REMEMBERED_MAX {
            self.names.insert(service.get_fullname().to_owned(), client);
        }
        Some(Hint::Discovered { client, addresses })
    }
}

/// A link-local IPv6 address means nothing without its interface, which libp2p's addresses cannot name.
fn is_dialable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interfaces by name; those that end in `!` cannot do multicast.
    fn interfaces(names: &[&str]) -> BTreeMap<String, Interface> {
        let interface = |name: &&str| {
            let bare = name.trim_end_matches('!');
            (bare.to_owned(), Interface { loopback: bare == "lo", multicast: bare == *name })
        };
        names.iter().map(interface).collect()
    }

    #[test]
    fn none_named_means_all_but_loopback() {
        assert_eq!(choose(&[], &interfaces(&["eth0", "lo", "tun0!", "wlan0"])).unwrap(), ["eth0", "wlan0"]);
    }

    #[test]
    fn loopback_is_used_if_it_is_alone_or_named() {
        assert_eq!(choose(&[], &interfaces(&["lo"])).unwrap(), ["lo"]);
        assert_eq!(choose(&["lo".into()], &interfaces(&["eth0", "lo"])).unwrap(), ["lo"]);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let error = choose(&["eth9".into()], &interfaces(&["eth0", "lo"])).unwrap_err().to_string();
        assert!(error.contains("eth9") && error.contains("eth0, lo"), "{error}");
        let error = choose(&["lo".into()], &interfaces(&["eth0", "lo!"])).unwrap_err().to_string();
        assert!(error.contains("multicast is impossible on lo"), "{error}");
        assert!(choose(&[], &interfaces(&["eth0!", "lo"])).is_err(), "loopback is not alone");
        assert!(choose(&[], &interfaces(&[])).is_err());
    }

    #[test]
    fn the_announcement_holds_no_name_and_fits() {
        let key = WorkgroupKey::from_bytes([7; 32]);
        let workgroup = WorkgroupId([0x33; 16]);
        let hash = workgroup_hash(&workgroup, &key);
        assert_ne!(hash, workgroup_hash(&workgroup, &WorkgroupKey::from_bytes([8; 32])));
        assert!(!hash.contains(&hex(&workgroup.0[..4])));
        let client = ClientId([0xab; 32]);
        let config = DiscoveryConfig { client, workgroup, workgroup_key: &key, port: 4711, interfaces: &[] };
        let service = announcement(&config, &hash).unwrap();
        let keys: Vec<_> = service.get_properties().iter().map(|p| p.key().to_owned()).collect();
        assert_eq!(keys, ["v", "id", "wg"]);
        assert!(service.get_fullname().len() - SERVICE.len() < 63);
        assert_eq!(service.get_property_val_str("id").unwrap().parse(), Ok(client));
    }

    #[test]
    fn our_own_announcement_and_those_of_others_workgroups_are_ignored() {
        let key = WorkgroupKey::from_bytes([7; 32]);
        let workgroup = WorkgroupId([3; 16]);
        let hash = workgroup_hash(&workgroup, &key);
        let (hints, _received) = mpsc::channel(1);
        let us = ClientId([1; 32]);
        let mut listener = Listener { us, workgroup: hash.clone(), names: BTreeMap::new(), hints };
        let mut heard = |client: ClientId, hash: &str| {
            let config =
                DiscoveryConfig { client, workgroup, workgroup_key: &key, port: 4711, interfaces: &[] };
            let text = [("v", VERSION), ("id", &client.to_string()), ("wg", hash)];
            let name = config.client.short();
            let service =
                ServiceInfo::new(SERVICE, &name, "h.local.", "10.0.0.1,fe80::1", 4711, &text[..]).unwrap();
            listener.discovered(&service.as_resolved_service())
        };
        let other = ClientId([2; 32]);
        let addresses = vec!["10.0.0.1:4711".parse().unwrap()];
        assert_eq!(heard(other, &hash), Some(Hint::Discovered { client: other, addresses }));
        assert_eq!(heard(us, &hash), None);
        assert_eq!(heard(other, "00"), None);
        let fullname = format!("{}.{SERVICE}", other.short());
        let removed = ServiceEvent::ServiceRemoved(SERVICE.into(), fullname);
        assert_eq!(listener.hint(removed), Some(Hint::Lost(other)));
    }
}
