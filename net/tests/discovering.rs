//! Discovery by mDNS, only ever in a network namespace of its own: nothing is announced on a real network.
#![allow(clippy::unwrap_used)]

mod common;

use common::hosts::in_a_namespace;
use common::{Node, Setup, other_ring};
use std::time::Duration;
use tcat_net::NetEvent;

#[tokio::test]
async fn members_find_each_other_and_no_stranger() {
    if !in_a_namespace("members_find_each_other_and_no_stranger", "ip link set lo up") {
        return;
    }
    let setup = || Setup { mdns: true, ..Setup::default() };
    let mut one = Node::start(setup()).await;
    let mut stranger = Node::start(Setup { ring: Some(other_ring()), ..setup() }).await;
    let mut two = Node::start(setup()).await;
    one.expect(NetEvent::Connected(two.client)).await;
    two.expect(NetEvent::Connected(one.client)).await;
    two.handle.shutdown().await;
    one.expect(NetEvent::Disconnected(two.client)).await;
    assert_eq!(stranger.events_within(Duration::from_secs(2)).await, []);
}

#[tokio::test]
async fn where_discovery_is_impossible_it_is_said_and_static_peers_work() {
    // There is no such interface, so nothing is ever sent.
    let setup = Setup { mdns: true, interfaces: vec!["no-such-interface".into()], ..Setup::default() };
    let mut one = Node::start(setup).await;
    match one.event().await {
        NetEvent::DiscoveryUnavailable(why) => assert!(why.contains("no-such-interface"), "{why}"),
        other => panic!("{other:?}"),
    }
    let two = Node::start(Setup { peers: vec![one.address], ..Setup::default() }).await;
    one.expect(NetEvent::Connected(two.client)).await;
}

#[test]
fn without_any_interface_discovery_says_so() {
    if in_a_namespace("without_any_interface_discovery_says_so", "true") {
        let error = tcat_net::discovery::choose_interfaces(&[]).unwrap_err().to_string();
        assert!(error.contains("multicast is impossible on this machine"), "{error}");
    }
}
