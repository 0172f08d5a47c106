//! Hosts of their own for tests: network namespaces joined by a switch, each running nodes as processes that can be
//! killed and frozen. Nothing of it touches a real network. Everything ends with the test.

use super::{PATIENCE, Setup, config};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tcat_net::{Identity, Net, NetEvent};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
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
        let host = Host { holder, identity, test: self.test.clone(), port };
        host.run("ip link set eth0 multicast on");
        host
    }
}

fn shell(script: &str) {
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
        let arguments = format!("{} {mdns} {peers}", self.identity.display());
        let mut command = tokio::process::Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-n", "--"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", &self.test, "--nocapture"]).env(PEER, arguments).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut peer = Peer { child, lines, id: String::new() };
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

/// A node in a process on a host.
pub struct Peer {
    child: tokio::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub id: String,
}

impl Peer {
    /// What follows the prefix in the next line that begins with it.
    pub async fn after(&mut self, prefix: &str, wait: Duration) -> String {
        let found = timeout(wait, async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                // The test's harness may have begun the line.
                if let Some((_, rest)) = line.split_once(prefix) {
                    return rest.to_owned();
                }
            }
            panic!("a node ended");
        });
        found.await.unwrap_or_else(|_| panic!("no {prefix:?} in {wait:?}"))
    }

    pub async fn connected(&mut self, to: &Self) {
        self.after(&format!("+{}", to.id), PATIENCE).await;
    }

    pub async fn disconnected(&mut self, from: &Self) {
        self.after(&format!("-{}", from.id), PATIENCE).await;
    }

    /// How long it took both to be connected.
    pub async fn meets(&mut self, other: &mut Self) -> Duration {
        let since = Instant::now();
        let (first, second) = (format!("+{}", self.id), format!("+{}", other.id));
        tokio::join!(self.after(&second, PATIENCE), other.after(&first, PATIENCE));
        since.elapsed()
    }

    pub fn signal(&self, name: &str) {
        shell(&format!("kill -{name} {}", self.child.id().unwrap()));
    }

    /// As if its power had gone, but the system closes its connections.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
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
    let mdns = words.next() == Some("true");
    let listen: SocketAddr = "0.0.0.0:0".parse().unwrap();
    say(format!("I am {}", identity.client_id()));
    let setup = Setup { identity: Some(identity), mdns, listen: Some(listen), ..Setup::default() };
    let mut config = config(setup, Default::default());
    config.static_peers = words.map(|peer| peer.parse().unwrap()).collect();
    let (_handle, mut events) = Net::start(config).await.unwrap();
    while let Some(event) = events.recv().await {
        match event {
            NetEvent::Listening(address) => say(format!("at {address}")),
            NetEvent::Connected(client) => say(format!("+{client}")),
            NetEvent::Disconnected(client) => say(format!("-{client}")),
            NetEvent::DiscoveryUnavailable(why) => say(format!("no discovery: {why}")),
            NetEvent::Message { .. } => {}
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
