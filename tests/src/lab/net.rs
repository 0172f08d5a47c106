//! The network of a laboratory: a bridge, a namespace a host, and what a scenario does to the wires between them.
//!
//! Holds always: the rules in the kernel are those of [`Net`]'s fields, replaced as a whole at each change. To be used
//! inside [`super::inside`] only, where the names are nobody else's.

use super::tell;
use super::wire::Wire;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The bridge and what is wrong with its wires.
#[derive(Debug, Default)]
pub struct Net {
    hosts: Vec<String>,
    /// Nothing goes from the first to the second.
    one_way: BTreeSet<(String, String)>,
    /// Per mille of the frames to and from a host that are lost.
    loss_per_mille: BTreeMap<String, u32>,
    mdns_blocked: bool,
    /// The wires that can delay, by their hosts.
    wires: BTreeMap<String, Wire>,
}

/// The bridge's end of a host's wire. Host names are short enough for this (see the parser).
fn port(host: &str) -> String {
    format!("p-{host}")
}

impl Net {
    /// A bridge with a wire to each host, `eth0` there, addresses 10.77.0.1 and up in the hosts' order. The wires of the
    /// hosts in `delayed` can delay.
    pub fn build(hosts: &[String], delayed: &BTreeSet<String>) -> Result<Self, String> {
        // Names of namespaces belong to the mount namespace that has this folder.
        tell("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
        for command in [
            "ip link set lo up",
            "ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            "ip link set br0 up",
        ] {
            words(command)?;
        }
        let mut wires = BTreeMap::new();
        for (index, host) in hosts.iter().enumerate() {
            let (port, address) = (port(host), index + 1);
            words(&format!("ip netns add {host}"))?;
            if delayed.contains(host) {
                let far = format!("w-{host}");
                let own =
                    std::env::current_exe().map_err(|why| format!("cannot find this program: {why}"))?;
                wires.insert(host.clone(), Wire::start(&own, &port, &far)?);
                words(&format!("ip link set {far} netns {host} name eth0"))?;
            } else {
                words(&format!("ip link add {port} type veth peer name eth0 netns {host}"))?;
            }
            for command in [
                format!("ip link set {port} master br0 up"),
                format!("ip -n {host} link set lo up"),
                format!("ip -n {host} link set eth0 up multicast on"),
                format!("ip -n {host} addr add 10.77.0.{address}/24 dev eth0"),
                format!("ip -n {host} route add 224.0.0.0/4 dev eth0"),
            ] {
                words(&command)?;
            }
        }
        let net = Self { hosts: hosts.to_vec(), wires, ..Self::default() };
        rules("add table bridge lab\nadd chain bridge lab wires { type filter hook forward priority 0; }\n")?;
        Ok(net)
    }

    /// The arguments of `nsenter` that bring a command into a host's network.
    pub fn enter(host: &str) -> [String; 2] {
        [format!("--net=/run/netns/{host}"), "--".into()]
    }

    /// The wire is pulled: the host's interface loses its carrier.
    pub fn cut(&self, host: &str) -> Result<(), String> {
        words(&format!("ip link set {} down", port(host)))
    }

    /// Nothing goes from one host to another; the other direction stays.
    pub fn one_way(&mut self, from: &str, to: &str) -> Result<(), String> {
        self.one_way.insert((from.into(), to.into()));
        self.apply()
    }

    /// mDNS passes no longer, or again.
    pub fn block_mdns(&mut self, blocked: bool) -> Result<(), String> {
        self.mdns_blocked = blocked;
        self.apply()
    }

    /// So many per mille of the frames to and from a host are lost.
    pub fn lose(&mut self, host: &str, per_mille: u32) -> Result<(), String> {
        self.loss_per_mille.insert(host.into(), per_mille);
        self.apply()
    }

    /// A host's wire carries no more than `rate`, as tc writes it, in each direction.
    pub fn limit(&self, host: &str, rate: &str) -> Result<(), String> {
        let shape = format!("root tbf rate {rate} burst 64kb latency 50ms");
        words(&format!("tc qdisc replace dev {} {shape}", port(host)))?;
        words(&format!("tc -n {host} qdisc replace dev eth0 {shape}"))
    }

    /// All that goes to and from a host is so late.
    pub fn delay(&mut self, host: &str, by: Duration) -> Result<(), String> {
        let wire = self.wires.get_mut(host).ok_or_else(|| format!("{host}'s wire cannot delay"))?;
        wire.delay(by)
    }

    /// All wires are whole again: cuts, partitions and loss end; rates, delays and a block of mDNS stay.
    pub fn heal(&mut self) -> Result<(), String> {
        self.one_way.clear();
        self.loss_per_mille.clear();
        for host in &self.hosts {
            words(&format!("ip link set {} up", port(host)))?;
        }
        self.apply()
    }

    fn apply(&self) -> Result<(), String> {
        rules(&self.text())
    }

    /// The rules, for `nft -f`.
    fn text(&self) -> String {
        let mut text = String::from("flush chain bridge lab wires\n");
        let mut rule = |what: String| {
            let _ = writeln!(text, "add rule bridge lab wires {what} drop");
        };
        if self.mdns_blocked {
            rule("ether type ip udp dport 5353".into());
            rule("ether type ip6 udp dport 5353".into());
        }
        for (from, to) in &self.one_way {
            rule(format!("iifname \"{}\" oifname \"{}\"", port(from), port(to)));
        }
        for (host, per_mille) in &self.loss_per_mille {
            for end in ["iifname", "oifname"] {
                rule(format!("{end} \"{}\" numgen random mod 1000 < {per_mille}", port(host)));
            }
        }
        text
    }
}

/// Runs a command that is written as one line without quotes.
fn words(line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split(' ').collect();
    tell(words[0], &words[1..]).map(drop)
}

fn rules(text: &str) -> Result<(), String> {
    let told = |why: std::io::Error| format!("cannot run nft: {why}; install the package nftables");
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(told)?;
    child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(text.as_bytes())).map_err(told)?;
    let ended = child.wait_with_output().map_err(told)?;
    if ended.status.success() {
        return Ok(());
    }
    Err(format!("nft refused the rules:\n{text}{}", String::from_utf8_lossy(&ended.stderr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_written_as_a_whole() {
        let net = Net {
            one_way: BTreeSet::from([("anna".into(), "ben".into())]),
            loss_per_mille: BTreeMap::from([("carl".into(), 50)]),
            mdns_blocked: true,
            ..Net::default()
        };
        let expected = [
            "flush chain bridge lab wires",
            "add rule bridge lab wires ether type ip udp dport 5353 drop",
            "add rule bridge lab wires ether type ip6 udp dport 5353 drop",
            "add rule bridge lab wires iifname \"p-anna\" oifname \"p-ben\" drop",
            "add rule bridge lab wires iifname \"p-carl\" numgen random mod 1000 < 50 drop",
            "add rule bridge lab wires oifname \"p-carl\" numgen random mod 1000 < 50 drop",
        ];
        assert_eq!(net.text().lines().collect::<Vec<_>>(), expected);
        assert_eq!(Net::default().text(), "flush chain bridge lab wires\n");
    }
}
