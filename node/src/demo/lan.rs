//! The demo's LAN: a bridge in the demo's own network namespace, and for each node a namespace with one link to it.
//!
//! Holds always: nothing leaves the demo's namespace. A node's namespace lives in a process of the demo's group that does
//! nothing else, so all of them end with the demo, however that ends. A link that is cut has no carrier, as if its
//! cable were pulled; the node, its disk and the cloud's folder know nothing of it.
//! Left out: the demo's own namespace with the bridge (`system`).

use super::system::{self, BRIDGE, Group};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The link's name in a node's namespace.
pub const INTERFACE: &str = "lan";
/// How long a namespace may take to be there.
const MAKING: Duration = Duration::from_secs(5);

/// One node's place on the LAN.
pub struct Link {
    holder: Child,
    port: String,
    address: IpAddr,
}

impl Link {
    /// A namespace for node number `number`, wired to the bridge.
    pub fn make(program: &Path, group: &Group, number: u8) -> io::Result<Self> {
        let mut command = system::namespace_holder(program);
        group.enrol(&mut command);
        // Enrolling takes the role away, so it is given last.
        system::give_holder_role(&mut command);
        let holder = command.spawn()?;
        let address = IpAddr::V4(Ipv4Addr::new(10, 77, 0, number));
        let link = Self { holder, port: format!("node{number}"), address };
        link.wait_for_namespace()?;
        let (pid, port) = (link.holder.id(), &link.port);
        run(&mut system::shell(&format!(
            "ip link add {port} type veth peer name {INTERFACE} netns {pid} && ip link set {port} master {BRIDGE} up"
        )))?;
        run(&mut system::beside(
            pid,
            &system::shell(&format!(
                "ip link set lo up && ip link set {INTERFACE} up multicast on && ip addr add {address}/24 dev {INTERFACE} \
                 && ip route add 224.0.0.0/4 dev {INTERFACE}"
            )),
        ))?;
        Ok(link)
    }

    /// The holder is a moment in our namespace before it has one of its own.
    fn wait_for_namespace(&self) -> io::Result<()> {
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
        let (ours, deadline) = (of("self")?, Instant::now() + MAKING);
        while of(&self.holder.id().to_string())? == ours {
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a network namespace was not made"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// The node's address on the LAN.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// `command`, to be started in the node's namespace.
    pub fn enter(&self, command: &Command) -> Command {
        system::beside(self.holder.id(), command)
    }

    /// Pulls the cable, at the bridge's end.
    pub fn cut(&self) -> io::Result<()> {
        run(&mut system::shell(&format!("ip link set {} down", self.port)))
    }

    /// Plugs it in again.
    pub fn mend(&self) -> io::Result<()> {
        run(&mut system::shell(&format!("ip link set {} up", self.port)))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(said.lines().next().unwrap_or("it failed without a word").trim().to_owned()))
}
