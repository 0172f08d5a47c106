//! Hosts of their own for tests: network namespaces joined by a switch, each running nodes as processes that can be
//! killed and frozen. Nothing of it touches a real network. Everything ends with the test.

use super::{KEY, PATIENCE, Setup, config};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tcat_engine::ids::ClientId;
use tcat_net::{Identity, Keyring, Net, NetEvent, WorkgroupKey};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use tokio::time::timeout;

const INSIDE: &str = "TCAT_NET_TEST_IN_NAMESPACE";
const PEER: &str = "TCAT_NET_TEST_PEER";

/// Runs the named test of this program again in a new network namespace, after `setup`. True there, false outside.
pub fn in_a_namespace(test: &str, setup: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let script = format!("{setup} && exec \"$0\" --exact {test} --nocapture");
    let unshare = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(arguments).args(["--", "sh", "-c"]);
        command
    };
    // Root needs no user namespace, and may not be allowed one; others need one.
    for arguments in [&["-n"][..], &["-Urn"]] {
        let allowed = unshare(arguments).arg(setup).output().is_ok_and(|output| output.status.success());
        if allowed {
            let status = unshare(arguments).arg(&script).arg(&program).env(INSIDE, "1").status().unwrap();
            assert!(status.success(), "the test failed in its namespace");
            return false;
        }
    }
    eprintln!("skipped {test}: `unshare -n` and `ip` are not available or not allowed here");
    false
}

/// The switch, in the namespace of the test.
pub struct Lan {
    test: String,
    folder: TempDir,
    hosts: usize,
}

/// A machine: a namespace with `eth0`, which is down and has no address yet.
pub struct Host {
    /// Keeps the namespace.
    holder: Child,
    identity: PathBuf,
    test: String,
    port: String,
    /// Where its nodes listen; 0: on another port every time.
    pub listening_port: u16,
}

impl Lan {
    /// For the test of this name, in a namespace of its own; nothing if this process is not to run the test.
    pub async fn enter(test: &str) -> Option<Self> {
        if let Ok(arguments) = std::env::var(PEER) {
            be_a_peer(&arguments).await;
        }
        let bridge = "ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
        in_a_namespace(test, &format!("ip link set lo up && {bridge} && ip link set br0 up")).then(|| Self {
            test: test.into(),
            folder: tempfile::tempdir().unwrap(),
            hosts: 0,
        })
    }

    pub fn host(&mut self) -> Host {
        self.hosts += 1;
        let port = format!("p{}", self.hosts);
        let holder = Command::new("unshare").args(["-n", "sleep", "900"]).spawn().unwrap();
        let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/net")).ok();
        while namespace(&holder.id().to_string()) == namespace("self") {
            std::thread::sleep(Duration::from_millis(1));
        }
        shell(&format!(
            "ip link add {port} type veth peer name eth0 netns {} && ip link set {port} master br0 up",
            holder.id()
        ));
        let identity = self.folder.path().join(&port);
        let host = Host { holder, identity, test: self.test.clone(), port, listening_port: 0 };
        host.run("ip link set eth0 multicast on");
        host
    }
}

/// A link between two hosts alone, like that of a VPN: one address at each end, no multicast.
pub fn tunnel(one: &Host, other: &Host) {
    let (near, far) = (one.holder.id(), other.holder.id());
    shell(&format!("ip link add tun1 netns {near} type veth peer name tun1 netns {far}"));
    for (host, ours, theirs) in [(one, 1, 2), (other, 2, 1)] {
        host.run(&format!(
            "ip addr add 10.9.0.{ours} peer 10.9.0.{theirs} dev tun1; ip link set tun1 multicast off up"
        ));
    }
}

/// Runs a script on the switch.
pub fn shell(script: &str) {
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success(), "{script}");
}

impl Host {
    /// Runs a script on the host.
    pub fn run(&self, script: &str) -> String {
        let inside = ["-t", &self.holder.id().to_string(), "-n", "--", "sh", "-c", script];
        let output = Command::new("nsenter").args(inside).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{script}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Lets packets through the switch, or none; the host's interface stays up either way.
    pub fn cut(&self, cut: bool) {
        shell(&format!("bridge link set dev {} state {}", self.port, if cut { 0 } else { 3 }));
    }

    /// Starts a node, always with the same identity, that takes these static peers.
    pub async fn start(&self, mdns: bool, peers: &str) -> Peer {
        self.start_in(KEY, mdns, peers).await
    }

    /// The same in the workgroup of this key.
    pub async fn start_in(&self, key: [u8; 32], mdns: bool, peers: &str) -> Peer {
        self.start_with(&key[0].to_string(), mdns, peers).await
    }

    /// The same by mDNS alone, and it knows a newer key, made when somebody was retired.
    pub async fn start_with_a_new_key(&self) -> Peer {
        self.start_with(&format!("{}+", KEY[0]), true, "").await
    }

    async fn start_with(&self, key: &str, mdns: bool, peers: &str) -> Peer {
        let arguments = format!("{} {key} {} {mdns} {peers}", self.identity.display(), self.listening_port);
        let mut command = tokio::process::Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-n", "--"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", &self.test, "--nocapture"]).env(PEER, arguments).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let (to, lines) = mpsc::unbounded_channel();
        let (heard, met) = (Heard::default(), Arc::<AtomicUsize>::default());
        tokio::spawn(read(
            BufReader::new(child.stdout.take().unwrap()).lines(),
            to,
            heard.clone(),
            met.clone(),
        ));
        let mut peer = Peer { child, lines, heard, met, id: String::new() };
        peer.id = peer.after("I am ", PATIENCE).await;
        peer
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A node in a process on a host. It tells all members that it is there, ten times a second.
pub struct Peer {
    child: tokio::process::Child,
    lines: mpsc::UnboundedReceiver<String>,
    /// When it last got a member's message, by id.
    heard: Heard,
    met: Arc<AtomicUsize>,
    pub id: String,
}

type Heard = Arc<Mutex<BTreeMap<String, Instant>>>;

impl Peer {
    /// What follows the prefix in the next line that begins with it.
    pub async fn after(&mut self, prefix: &str, wait: Duration) -> String {
        let found = timeout(wait, async {
            loop {
                let line = self.lines.recv().await.expect("a node ended");
                // The test's harness may have begun the line.
                if let Some((_, rest)) = line.split_once(prefix) {
                    return rest.to_owned();
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("no {prefix:?} in {wait:?}"))
    }

    async fn hears(&self, other: &Self, since: Instant) {
        let hearing = timeout(PATIENCE, async {
            while self.heard.lock().unwrap().get(&other.id).is_none_or(|at| *at < since) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        hearing.await.expect("it did not come back");
    }

    /// How long it takes from now until both get each other's messages.
    pub async fn meets(&self, other: &Self) -> Duration {
        let since = Instant::now();
        tokio::join!(self.hears(other, since), other.hears(self, since));
        since.elapsed()
    }

    /// Returns when neither has got a message of the other for a second.
    pub async fn parted(&self, other: &Self) {
        let gone = |one: &Self, two: &Self| {
            one.heard.lock().unwrap().get(&two.id).is_none_or(|at| at.elapsed() > Duration::from_secs(1))
        };
        while !gone(self, other) || !gone(other, self) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How often it has met a member.
    pub fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }

    /// The memory that it holds, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn signal(&self, name: &str) {
        shell(&format!("kill -{name} {}", self.child.id().unwrap()));
    }

    /// As if its power had gone, but the system closes its connections.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Sorts what a node says.
async fn read(
    mut lines: Lines<BufReader<ChildStdout>>,
    to: mpsc::UnboundedSender<String>,
    heard: Heard,
    met: Arc<AtomicUsize>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        met.fetch_add(usize::from(line.starts_with('+')), Ordering::Relaxed);
        if let Some((_, from)) = line.split_once('~') {
            heard.lock().unwrap().insert(from.into(), Instant::now());
        } else if to.send(line).is_err() {
            return;
        }
    }
}

/// The other side of [`Host::start`].
async fn be_a_peer(arguments: &str) -> ! {
    let mut words = arguments.split_whitespace();
    let path = Path::new(words.next().unwrap());
    let identity = Identity::load(path).unwrap_or_else(|_| {
        let identity = Identity::generate().unwrap();
        identity.save(path).unwrap();
        identity
    });
    let key = words.next().unwrap();
    let is_rotated = key.ends_with('+');
    let key = WorkgroupKey::from_bytes([key.trim_end_matches('+').parse().unwrap(); 32]);
    let ring = Some(Keyring::new(key));
    let listen = SocketAddr::from(([0, 0, 0, 0], words.next().unwrap().parse().unwrap()));
    let mdns = words.next() == Some("true");
    say(format!("I am {}", identity.client_id()));
    let setup = Setup { identity: Some(identity), ring, mdns, listen: Some(listen), ..Setup::default() };
    let mut config = config(setup, Default::default());
    if is_rotated {
        config.keys.rotate(&[ClientId([9; 32])]).unwrap();
    }
    config.static_peers = words.map(|peer| peer.parse().unwrap()).collect();
    let (handle, mut events) = Net::start(config).await.unwrap();
    tokio::spawn(async move {
        loop {
            handle.broadcast(vec![1]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    while let Some(event) = events.recv().await {
        match event {
            NetEvent::Listening(address) => say(format!("at {address}")),
            NetEvent::Connected(client) => say(format!("+{client}")),
            NetEvent::Disconnected(client) => say(format!("-{client}")),
            NetEvent::DiscoveryUnavailable(why) => say(format!("no discovery: {why}")),
            NetEvent::Message { from, .. } => say(format!("~{from}")),
            NetEvent::Misbehaved { from, what } => say(format!("!{from} {what}")),
        }
    }
    std::process::exit(0)
}

fn say(line: String) {
    let mut out = std::io::stdout().lock();
    // Who started us may be gone, and then so are we.
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
