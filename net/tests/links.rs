//! Links as they are: with IPv6 alone, interfaces that come, go and change their address, cuts, deaths and sleep. Each
//! test has hosts of its own (see `common::hosts`).
#![allow(clippy::unwrap_used)]

mod common;

use common::hosts::{Host, Lan, Peer, tunnel};
use std::time::Duration;

/// What is promised of a peer that can be reached again.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// A new IPv6 address sends nothing until nobody has objected to it.
const IPV6_SETTLES: Duration = Duration::from_secs(3);

fn link_local(host: &Host) -> String {
    let found = "ip -6 -o addr show dev eth0 scope link | grep -v tentative | sed 's/.*inet6 //; s,/.*,,'";
    loop {
        let address = host.run(found).trim().to_owned();
        if !address.is_empty() {
            return address;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn members_find_each_other_where_there_are_link_local_addresses_only() {
    let Some(mut lan) = Lan::enter("members_find_each_other_where_there_are_link_local_addresses_only").await
    else {
        return;
    };
    let hosts = [lan.host(), lan.host()];
    hosts.iter().for_each(|host| drop(host.run("ip link set lo up; ip link set eth0 up")));
    let one = hosts[0].start(true, "").await;
    let two = hosts[1].start(true, "").await;
    let took = one.meets(&two).await;
    assert!(took < BACK_WITHIN + IPV6_SETTLES, "{took:?}");
}

#[tokio::test]
async fn a_static_peer_may_be_a_link_local_address_with_its_interface() {
    let Some(mut lan) = Lan::enter("a_static_peer_may_be_a_link_local_address_with_its_interface").await
    else {
        return;
    };
    let hosts = [lan.host(), lan.host()];
    hosts.iter().for_each(|host| drop(host.run("ip link set lo up; ip link set eth0 up")));
    let address = link_local(&hosts[0]);
    let mut one = hosts[0].start(false, "").await;
    let listening = one.after("at 127.0.0.1:", Duration::from_secs(5)).await;
    let two = hosts[1].start(false, &format!("[{address}%eth0]:{listening}")).await;
    let took = one.meets(&two).await;
    assert!(took < BACK_WITHIN, "{took:?}");
}

fn up(host: &Host, address: &str) {
    host.run(&format!("ip addr add {address}/24 dev eth0; ip link set eth0 up"));
    host.run("ip route add 224.0.0.0/4 dev eth0");
}

#[tokio::test]
async fn a_node_started_without_any_network_finds_its_peers_once_there_is_one() {
    let test = "a_node_started_without_any_network_finds_its_peers_once_there_is_one";
    let Some(mut lan) = Lan::enter(test).await else { return };
    let hosts = [lan.host(), lan.host()];
    let mut one = hosts[0].start(true, "").await;
    let why = one.after("no discovery: ", Duration::from_secs(5)).await;
    assert!(why.contains("multicast is impossible on this machine"), "{why}");
    hosts[1].run("ip link set lo up");
    let two = hosts[1].start(true, "").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    up(&hosts[1], "10.77.0.2");
    tokio::time::sleep(Duration::from_secs(2)).await;
    up(&hosts[0], "10.77.0.1");
    let took = one.meets(&two).await;
    assert!(took < BACK_WITHIN, "{took:?}");
}

#[tokio::test]
async fn an_interface_that_comes_late_is_used_beside_the_first() {
    let Some(mut lan) = Lan::enter("an_interface_that_comes_late_is_used_beside_the_first").await else {
        return;
    };
    let hosts = [lan.host(), lan.host()];
    // The first host is at work in a network of its own when the common one comes up.
    hosts[0].run(
        "ip link set lo up; ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up",
    );
    hosts[0].run("ip addr add 10.99.0.1/24 dev d0");
    up(&hosts[1], "10.77.0.2");
    let one = hosts[0].start(true, "").await;
    let two = hosts[1].start(true, "").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    up(&hosts[0], "10.77.0.1");
    let took = one.meets(&two).await;
    assert!(took < BACK_WITHIN, "{took:?}");
}

/// Two hosts with a node each, connected.
async fn two_hosts(lan: &mut Lan) -> ([Host; 2], Peer, Peer) {
    let hosts = [lan.host(), lan.host()];
    up(&hosts[0], "10.77.0.1");
    up(&hosts[1], "10.77.0.2");
    let one = hosts[0].start(true, "").await;
    let two = hosts[1].start(true, "").await;
    one.meets(&two).await;
    (hosts, one, two)
}

/// Says so, and how long it took, so that a test that fails shows all of them.
fn is_back(what: &str, took: Duration) {
    eprintln!("back after {what}: {took:?}");
    assert!(took < BACK_WITHIN, "{what}: {took:?}");
}

#[tokio::test]
async fn members_are_back_soon_after_a_cut() {
    let Some(mut lan) = Lan::enter("members_are_back_soon_after_a_cut").await else { return };
    let (hosts, one, two) = two_hosts(&mut lan).await;
    for cut_ms in [3000, 8500] {
        hosts[0].cut(true);
        one.parted(&two).await;
        tokio::time::sleep(Duration::from_millis(cut_ms)).await;
        hosts[0].cut(false);
        is_back(&format!("a cut of {cut_ms} ms"), one.meets(&two).await);
    }
}

#[tokio::test]
async fn members_are_back_soon_after_an_interface_was_down() {
    let Some(mut lan) = Lan::enter("members_are_back_soon_after_an_interface_was_down").await else { return };
    let (hosts, one, two) = two_hosts(&mut lan).await;
    for down_ms in [1000, 8000] {
        hosts[0].run("ip link set eth0 down");
        one.parted(&two).await;
        tokio::time::sleep(Duration::from_millis(down_ms)).await;
        hosts[0].run("ip link set eth0 up; ip route add 224.0.0.0/4 dev eth0");
        is_back(&format!("{down_ms} ms without the interface"), one.meets(&two).await);
    }
}

#[tokio::test]
async fn members_are_back_soon_after_an_address_has_changed() {
    let Some(mut lan) = Lan::enter("members_are_back_soon_after_an_address_has_changed").await else {
        return;
    };
    let (hosts, one, two) = two_hosts(&mut lan).await;
    for (host, last, before) in [(0, 11, 1), (1, 12, 2), (0, 21, 11), (1, 22, 12)] {
        let host: &Host = &hosts[host];
        host.run(&format!("ip addr del 10.77.0.{before}/24 dev eth0; ip addr flush dev eth0 scope link"));
        up(host, &format!("10.77.0.{last}"));
        is_back(&format!("the change to 10.77.0.{last}"), one.meets(&two).await);
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}

#[tokio::test]
async fn members_are_back_soon_after_a_death() {
    let Some(mut lan) = Lan::enter("members_are_back_soon_after_a_death").await else { return };
    let (hosts, one, mut two) = two_hosts(&mut lan).await;
    for away_ms in [0, 9000] {
        two.kill().await;
        tokio::time::sleep(Duration::from_millis(away_ms)).await;
        two = hosts[1].start(true, "").await; // On another port.
        is_back(&format!("{away_ms} ms dead"), one.meets(&two).await);
    }
}

#[tokio::test]
async fn members_are_back_soon_after_sleep() {
    let Some(mut lan) = Lan::enter("members_are_back_soon_after_sleep").await else { return };
    let (_hosts, one, two) = two_hosts(&mut lan).await;
    for asleep_s in [3, 9] {
        two.signal("STOP");
        tokio::time::sleep(Duration::from_secs(asleep_s)).await;
        two.signal("CONT");
        is_back(&format!("{asleep_s} s asleep"), one.meets(&two).await);
    }
}

#[tokio::test]
async fn a_static_peer_is_back_soon_whatever_mdns_says() {
    let Some(mut lan) = Lan::enter("a_static_peer_is_back_soon_whatever_mdns_says").await else { return };
    let hosts = [lan.host(), lan.host()];
    up(&hosts[0], "10.77.0.1");
    up(&hosts[1], "10.77.0.2");
    let mut one = hosts[0].start(false, "").await;
    let port = one.after("at 10.77.0.1:", Duration::from_secs(5)).await;
    let two = hosts[1].start(false, &format!("10.77.0.1:{port}")).await;
    is_back("the start", one.meets(&two).await);
    for cut_ms in [9000] {
        hosts[0].cut(true);
        one.parted(&two).await;
        tokio::time::sleep(Duration::from_millis(cut_ms)).await;
        hosts[0].cut(false);
        is_back(&format!("a cut of {cut_ms} ms"), one.meets(&two).await);
    }
}

#[tokio::test]
async fn beside_a_tunnel_members_find_each_other_on_the_lan_and_static_peers_through_the_tunnel() {
    let Some(mut lan) =
        Lan::enter("beside_a_tunnel_members_find_each_other_on_the_lan_and_static_peers_through_the_tunnel")
            .await
    else {
        return;
    };
    let (mut one, other) = (lan.host(), lan.host());
    one.listening_port = 4711;
    tunnel(&one, &other);
    // At first there is nothing but the tunnel: nobody can be discovered, and a static peer is reached.
    let first = one.start(true, "").await;
    let second = other.start(true, "10.9.0.1:4711").await;
    let took = first.meets(&second).await;
    println!("through the tunnel after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    second.kill().await;
    // With a LAN beside it they find each other there.
    up(&one, "10.77.0.1");
    up(&other, "10.77.0.2");
    let second = other.start(true, "").await;
    let took = first.meets(&second).await;
    println!("on the LAN after {took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    // The LAN goes, the tunnel stays: a static peer is back.
    second.kill().await;
    one.cut(true);
    let second = other.start(true, "10.9.0.1:4711").await;
    let took = first.meets(&second).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}
