//! Who else is there: announcing ourselves and hearing of others by mDNS, service `_tcat._tcp.local.`.
//!
//! What is heard are hints, from anybody on the LAN: they say where to dial, and membership is proved there.
//! Always: the announcement holds a client id and a keyed hash of the workgroup, no names; only announcements of our
//! own workgroup are passed on, under the newest key or an older one that we know, and never our own; nothing here blocks. Interfaces may come, go and change their
//! addresses at any time, also before there is any: we then announce and search anew. Everything is bounded, since
//! strangers may announce at will.

pub use crate::interfaces::{DiscoveryError, choose_interfaces};

use crate::interfaces::{Chosen, Present, choose, present};
use crate::keyring::Keyring;
use crate::membership::WorkgroupKey;
use mdns_sd::{DaemonEvent, IfKind, IfPredicate, ResolvedService, ScopedIp};
use mdns_sd::{ServiceDaemon, ServiceEvent, ServiceInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tcat_engine::ids::{ClientId, WorkgroupId, hex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

pub(crate) const SERVICE: &str = "_tcat._tcp.local.";
const VERSION: &str = "1";
/// Hints that wait for the transport; more are dropped, mDNS repeats itself.
const HINTS_MAX: usize = 64;
/// Announcements remembered, so that a removal, which has a name only, finds its client.
const REMEMBERED_MAX: usize = 256;
/// Addresses passed on of one announcement.
const ADDRESSES_MAX: usize = 8;
const GOODBYE_WAIT: Duration = Duration::from_secs(1);
const ANNOUNCE_WAIT: Duration = Duration::from_secs(10);
/// What the daemon remembers of others has no bound of its own, and beyond 500 announcements it tells of none any more:
/// beyond these it forgets all of them. A LAN with a few whole workgroups stays below.
const ANNOUNCEMENTS_MAX: i64 = 400;
const RECORDS_MAX: i64 = 16 * ANNOUNCEMENTS_MAX;
const METRICS_WAIT: Duration = Duration::from_secs(1);
/// How often we look for interfaces that have come, gone or changed; the daemon does the same, in seconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const DAEMON_LOOK_INTERVAL_S: u32 = 1;
/// Looks in a row that announce and search anew after a change: a new IPv6 address may send nothing for its first
/// seconds, and a switch may let nothing through.
const LOOKS_AFTER_CHANGE: u32 = 4;
/// Who has not looked for so long was asleep, and nobody knows what has changed meanwhile.
const SLEPT: Duration = Duration::from_secs(5);
/// Two halves of a network that meet hear of each other no later; mDNS alone would ask ever more rarely, up to once an
/// hour. More often while nobody is connected.
const SEARCH_INTERVAL: Duration = Duration::from_secs(30);
const SEARCH_INTERVAL_ALONE: Duration = Duration::from_secs(3);
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
    /// Nobody can be discovered at present, or not on all interfaces that were named; told once. It is tried again for
    /// ever.
    Impossible(DiscoveryError),
}

/// What to announce and where.
pub struct DiscoveryConfig<'a> {
    /// Ourselves.
    pub client: ClientId,
    /// Our workgroup.
    pub workgroup: WorkgroupId,
    /// The keys under which the workgroup is hashed: the newest for our announcement, all for those of others.
    pub ring: &'a Keyring,
    /// Where we listen.
    pub port: u16,
    /// Interfaces by name; empty: the rule of [`choose_interfaces`].
    pub interfaces: &'a [String],
}

/// The names of the interfaces that the daemon may use now; it asks again and again.
type Usable = Arc<Mutex<BTreeSet<String>>>;

fn names(usable: &Usable) -> MutexGuard<'_, BTreeSet<String>> {
    usable.lock().unwrap_or_else(|e| e.into_inner())
}

/// The daemon at work now; another takes its place after a flood.
type Daemon = Arc<Mutex<ServiceDaemon>>;

fn at_work(daemon: &Daemon) -> ServiceDaemon {
    daemon.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

/// Starts a daemon on the usable interfaces, which announces and searches.
fn launch(service: &ServiceInfo, usable: &Usable) -> mdns_sd::Result<(ServiceDaemon, Found)> {
    let daemon = ServiceDaemon::new()?;
    let begin = || {
        daemon.set_ip_check_interval(DAEMON_LOOK_INTERVAL_S)?;
        daemon.disable_interface(IfKind::All)?;
        let asked = usable.clone();
        let predicate = IfPredicate::new(move |interface| names(&asked).contains(&interface.name));
        daemon.enable_interface(IfKind::Predicate(predicate))?;
        let found = daemon.browse(SERVICE)?;
        daemon.register(service.clone())?;
        Ok(found)
    };
    match begin() {
        Ok(found) => Ok((daemon, found)),
        Err(error) => {
            let _ = daemon.shutdown(); // Its thread would go on without us.
            Err(error)
        }
    }
}

type Found = mdns_sd::Receiver<ServiceEvent>;

/// A running announcement and search.
pub struct Discovery {
    daemon: Daemon,
    fullname: Arc<Mutex<String>>,
    rings: watch::Sender<Keyring>,
    usable: Usable,
    alone: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Discovery {
    /// Starts both, whether or not there is an interface yet; needs a tokio runtime. The hints end when the discovery
    /// does.
    pub fn start(config: &DiscoveryConfig<'_>) -> Result<(Self, mpsc::Receiver<Hint>), DiscoveryError> {
        let unavailable = |e: mdns_sd::Error| DiscoveryError::Unavailable(e.to_string());
        let present = present()?;
        let Chosen { usable, problem } = choose(config.interfaces, &present);
        let usable: Usable = Arc::new(Mutex::new(usable.into_iter().collect()));
        let ours = Ours { client: config.client, workgroup: config.workgroup, port: config.port };
        let hashes = ours.hashes(config.ring);
        let service = ours.announcement(&hashes).map_err(unavailable)?;
        let (daemon, found) = launch(&service, &usable).map_err(unavailable)?;
        let monitor = daemon.monitor().map_err(unavailable)?;
        let daemon: Daemon = Arc::new(Mutex::new(daemon));
        let fullname = Arc::new(Mutex::new(service.get_fullname().to_owned()));
        let (rings, received_rings) = watch::channel(config.ring.clone());
        let (hints, received) = mpsc::channel(HINTS_MAX);
        let alone = Arc::new(AtomicBool::new(true));
        let listener = Listener { us: config.client, hashes, names: BTreeMap::new(), hints };
        let now = Instant::now();
        let mut searcher = Searcher {
            listener,
            ours,
            daemon: daemon.clone(),
            service,
            fullname: fullname.clone(),
            rings: received_rings,
            named: config.interfaces.to_vec(),
            usable: usable.clone(),
            alone: alone.clone(),
            present,
            said: None,
            looks_left: LOOKS_AFTER_CHANGE,
            looked_at: now,
            searched_at: now,
        };
        searcher.say(problem);
        let watching = watch_daemon(monitor, usable.clone());
        let tasks = vec![tokio::spawn(searcher.run(found)), tokio::spawn(watching)];
        Ok((Self { daemon, fullname, rings, usable, alone, tasks }, received))
    }

    /// On which interfaces, now.
    pub fn interfaces(&self) -> Vec<String> {
        names(&self.usable).iter().cloned().collect()
    }

    /// Whether no member is connected: then we search more often.
    pub fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Relaxed);
    }

    /// Announces us under the newest of these keys, and listens for all of them.
    pub fn set_keys(&self, ring: Keyring) {
        self.rings.send_replace(ring);
    }

    /// Takes the announcement back, so that others need not wait for it to run out, and stops.
    pub async fn shutdown(self) {
        let daemon = at_work(&self.daemon);
        let fullname = self.fullname.lock().unwrap_or_else(|e| e.into_inner()).clone();
        if let Ok(unregistered) = daemon.unregister(&fullname) {
            let _ = tokio::time::timeout(GOODBYE_WAIT, unregistered.recv_async()).await;
        }
        if let Ok(stopped) = daemon.shutdown() {
            let _ = tokio::time::timeout(GOODBYE_WAIT, stopped.recv_async()).await;
        }
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        let _ = at_work(&self.daemon).shutdown();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What a stranger sees of the workgroup: the same for all its members, and nothing without the key.
fn workgroup_hash(workgroup: &WorkgroupId, key: &WorkgroupKey) -> String {
    let hash = blake3::keyed_hash(&key.derive("tcat 1 workgroup in an announcement"), &workgroup.0);
    hash.as_bytes().first_chunk::<16>().map_or_else(String::new, |bytes| hex(bytes))
}

/// What our announcements are made of, beside the keys.
struct Ours {
    client: ClientId,
    workgroup: WorkgroupId,
    port: u16,
}

impl Ours {
    /// The workgroup under each key, the newest first.
    fn hashes(&self, ring: &Keyring) -> Vec<String> {
        ring.newest_first().map(|key| workgroup_hash(&self.workgroup, &key.key)).collect()
    }

    /// Under the newest key.
    fn announcement(&self, hashes: &[String]) -> mdns_sd::Result<ServiceInfo> {
        let workgroup = hashes.first().map_or("", String::as_str);
        // One client may be in several workgroups.
        let instance = format!("{}-{}", self.client.short(), workgroup.get(..8).unwrap_or_default());
        let host = format!("tcat-{}.local.", self.client.short());
        let client = self.client.to_string();
        let text = [("v", VERSION), ("id", client.as_str()), ("wg", workgroup)];
        Ok(ServiceInfo::new(SERVICE, &instance, &host, (), self.port, &text[..])?.enable_addr_auto())
    }
}

/// The daemon opens its sockets in a thread of its own and only tells whether it could.
async fn watch_daemon(monitor: mdns_sd::Receiver<DaemonEvent>, usable: Usable) {
    let announced = async {
        while let Ok(event) = monitor.recv_async().await {
            match event {
                DaemonEvent::Announce(..) => return,
                DaemonEvent::Error(error) => tracing::warn!("mDNS: {error}"),
                _ => {}
            }
        }
    };
    let in_time = tokio::time::timeout(ANNOUNCE_WAIT, announced).await;
    if in_time.is_err() && !names(&usable).is_empty() {
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

/// Follows the interfaces, and asks again from time to time.
struct Searcher {
    listener: Listener,
    ours: Ours,
    daemon: Daemon,
    service: ServiceInfo,
    /// The name under which we are announced now.
    fullname: Arc<Mutex<String>>,
    rings: watch::Receiver<Keyring>,
    /// Interfaces as configured.
    named: Vec<String>,
    usable: Usable,
    alone: Arc<AtomicBool>,
    present: Present,
    /// The problem that was told last.
    said: Option<DiscoveryError>,
    /// So many looks announce and search anew.
    looks_left: u32,
    looked_at: Instant,
    searched_at: Instant,
}

impl Searcher {
    async fn run(mut self, mut found: Found) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.listener.hints.is_closed() {
            tokio::select! {
                event = found.recv_async() => match event {
                    Ok(event) => self.listener.pass_on(event),
                    // The daemon ends a search that nobody reads for long; we begin it anew.
                    Err(_) => {
                        tokio::time::sleep(RESTART_WAIT).await;
                        if !self.search(&mut found) {
                            return;
                        }
                    }
                },
                Ok(()) = self.rings.changed() => self.follow_keys(),
                _ = looks.tick() => {
                    self.look(Instant::now()).await;
                    if self.is_flooded().await {
                        self.begin_anew(&mut found);
                    }
                    if self.is_search_due(Instant::now()) && !self.search(&mut found) {
                        return;
                    }
                }
            }
        }
    }

    /// There are other keys: announces us anew if the newest is another, and takes the old announcement back.
    fn follow_keys(&mut self) {
        let hashes = self.ours.hashes(&self.rings.borrow_and_update());
        self.listener.hashes = hashes;
        let service = match self.ours.announcement(&self.listener.hashes) {
            Ok(service) => service,
            Err(error) => return tracing::warn!("this node cannot be announced under the new key: {error}"),
        };
        self.searched_at = self.searched_at.checked_sub(SEARCH_INTERVAL).unwrap_or(self.searched_at);
        let before = self.service.get_fullname().to_owned();
        if service.get_fullname() == before {
            return;
        }
        *self.fullname.lock().unwrap_or_else(|e| e.into_inner()) = service.get_fullname().to_owned();
        self.service = service;
        let daemon = at_work(&self.daemon);
        let _ = daemon.unregister(&before); // Its queue is full: that name runs out by itself.
        self.looks_left = LOOKS_AFTER_CHANGE; // These repeat it.
        let _ = daemon.register(self.service.clone());
    }

    /// Follows the interfaces.
    async fn look(&mut self, now: Instant) {
        let slept = now.duration_since(self.looked_at) >= SLEPT;
        self.looked_at = now;
        // Some systems take their time to answer.
        let Ok(asked) = tokio::task::spawn_blocking(present).await else { return };
        let present = match asked {
            Ok(present) => present,
            Err(error) => return self.say(Some(error)),
        };
        let changed = present != self.present;
        if changed {
            let Chosen { usable, problem } = choose(&self.named, &present);
            tracing::debug!(?usable, "the network interfaces have changed");
            *names(&self.usable) = usable.into_iter().collect();
            self.present = present;
            self.say(problem);
        }
        if changed || slept {
            self.looks_left = LOOKS_AFTER_CHANGE;
        }
        if self.looks_left > 0 {
            self.looks_left -= 1;
            let _ = at_work(&self.daemon).register(self.service.clone()); // Its queue is full: the next look does it.
            self.searched_at = now.checked_sub(SEARCH_INTERVAL).unwrap_or(self.searched_at);
        }
    }

    /// Whether strangers have filled the daemon's memory.
    async fn is_flooded(&self) -> bool {
        let Ok(asked) = at_work(&self.daemon).get_metrics() else { return false };
        let Ok(Ok(metrics)) = tokio::time::timeout(METRICS_WAIT, asked.recv_async()).await else {
            return false;
        };
        let announcements = metrics.get("cached-ptr").copied().unwrap_or(0);
        let cached = metrics.iter().filter(|(name, _)| name.starts_with("cached-"));
        announcements > ANNOUNCEMENTS_MAX || cached.map(|(_, count)| count).sum::<i64>() > RECORDS_MAX
    }

    /// Another daemon, which remembers nothing.
    fn begin_anew(&mut self, found: &mut Found) {
        tracing::debug!("there are too many announcements on this network; all are forgotten");
        self.service.set_requires_probe(false); // The name is ours already.
        match launch(&self.service, &self.usable) {
            Ok((daemon, again)) => {
                let mut at_work = self.daemon.lock().unwrap_or_else(|e| e.into_inner());
                let _ = std::mem::replace(&mut *at_work, daemon).shutdown();
                *found = again;
                self.listener.names.clear();
                self.searched_at = Instant::now();
            }
            Err(error) => tracing::debug!(%error, "mDNS cannot begin anew"),
        }
    }

    fn is_search_due(&self, now: Instant) -> bool {
        let alone = self.alone.load(Ordering::Relaxed);
        let interval = if alone { SEARCH_INTERVAL_ALONE } else { SEARCH_INTERVAL };
        now.duration_since(self.searched_at) >= interval
    }

    /// Asks the network, and the daemon for what it knows already; false once the daemon is gone.
    fn search(&mut self, found: &mut Found) -> bool {
        self.searched_at = Instant::now();
        match at_work(&self.daemon).browse(SERVICE) {
            Ok(again) => *found = again,
            Err(mdns_sd::Error::Again) => {}
            Err(_) => return false,
        }
        true
    }

    /// Tells of a problem, once.
    fn say(&mut self, problem: Option<DiscoveryError>) {
        if let Some(problem) = problem.clone().filter(|problem| self.said.as_ref() != Some(problem)) {
            let _ = self.listener.hints.try_send(Hint::Impossible(problem)); // Nobody listens, or it is in the log.
        }
        self.said = problem;
    }
}

/// Turns the daemon's events into hints.
struct Listener {
    us: ClientId,
    /// Of our workgroup, under every key that we know.
    hashes: Vec<String>,
    names: BTreeMap<String, ClientId>,
    hints: mpsc::Sender<Hint>,
}

impl Listener {
    fn pass_on(&mut self, event: ServiceEvent) {
        if let Some(hint) = self.hint(event) {
            let _ = self.hints.try_send(hint); // mDNS repeats itself.
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
        let theirs = service.get_property_val_str("wg")?;
        let ours = self.hashes.iter().any(|hash| hash == theirs);
        if !ours || client == self.us || service.get_property_val_str("v") != Some(VERSION) {
            return None;
        }
        let addresses = usable_addresses(service);
        if addresses.is_empty() {
            return None;
        }
        if self.names.len() < REMEMBERED_MAX {
            self.names.insert(service.get_fullname().to_owned(), client);
        }
        Some(Hint::Discovered { client, addresses })
    }
}

/// The addresses of an announcement that can be dialed; some of them, if there are many.
pub(crate) fn usable_addresses(service: &ResolvedService) -> Vec<SocketAddr> {
    let port = service.get_port();
    let found: BTreeSet<SocketAddr> =
        service.get_addresses().iter().filter_map(|ip| dialable(ip, port)).collect();
    found.into_iter().take(ADDRESSES_MAX).collect()
}

/// Where to dial; a link-local IPv6 address means nothing without the interface on which it was heard.
fn dialable(ip: &ScopedIp, port: u16) -> Option<SocketAddr> {
    match (ip.to_ip_addr(), ip) {
        (IpAddr::V4(ip), _) => {
            let is_dialable = !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast();
            is_dialable.then(|| SocketAddr::from((ip, port)))
        }
        (IpAddr::V6(ip), ScopedIp::V6(scoped)) if ip.is_unicast_link_local() => {
            let scope = scoped.scope_id().index;
            (scope != 0).then(|| SocketAddrV6::new(ip, port, 0, scope).into())
        }
        (IpAddr::V6(ip), _) => {
            (!ip.is_unspecified() && !ip.is_multicast()).then(|| SocketAddr::from((ip, port)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_holds_no_name_and_fits() {
        let key = WorkgroupKey::from_bytes([7; 32]);
        let workgroup = WorkgroupId([0x33; 16]);
        let hash = workgroup_hash(&workgroup, &key);
        assert_ne!(hash, workgroup_hash(&workgroup, &WorkgroupKey::from_bytes([8; 32])));
        assert!(!hash.contains(&hex(&workgroup.0[..4])));
        let client = ClientId([0xab; 32]);
        let ours = Ours { client, workgroup, port: 4711 };
        let service = ours.announcement(&ours.hashes(&Keyring::new(key))).unwrap();
        assert_eq!(service.get_property_val_str("wg"), Some(&*hash));
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
        let older = workgroup_hash(&workgroup, &WorkgroupKey::from_bytes([6; 32]));
        let hashes = vec![hash.clone(), older.clone()];
        let mut listener = Listener { us, hashes, names: BTreeMap::new(), hints };
        let mut heard = |client: ClientId, hash: &str| {
            let text = [("v", VERSION), ("id", &client.to_string()), ("wg", hash)];
            let name = client.short();
            let service =
                ServiceInfo::new(SERVICE, &name, "h.local.", "10.0.0.1,fe80::1", 4711, &text[..]).unwrap();
            listener.discovered(&service.as_resolved_service())
        };
        let other = ClientId([2; 32]);
        let addresses: Vec<SocketAddr> = vec!["10.0.0.1:4711".parse().unwrap()];
        for hash in [&hash, &older] {
            let addresses = addresses.clone();
            assert_eq!(heard(other, hash), Some(Hint::Discovered { client: other, addresses }));
        }
        assert_eq!(heard(us, &hash), None);
        assert_eq!(heard(other, "00"), None);
        let fullname = format!("{}.{SERVICE}", other.short());
        let removed = ServiceEvent::ServiceRemoved(SERVICE.into(), fullname);
        assert_eq!(listener.hint(removed), Some(Hint::Lost(other)));
    }
}
