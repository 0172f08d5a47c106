//! Who belongs to the workgroup: listed, retired, and refused from then on.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};
use tcat_tests::{Laboratory, Node};

/// Each member's name and standing, as `node` lists them.
fn listed(node: &Node<'_>) -> Vec<(String, String)> {
    let text = node.tcat(&["members", "--json"]).succeeded();
    let members: Value = serde_json::from_str(&text).unwrap();
    let word = |member: &Value, key: &str| member[key].as_str().unwrap().to_owned();
    let rows = members["members"].as_array().unwrap();
    rows.iter().map(|member| (word(member, "name"), word(member, "standing"))).collect()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < patience, "{what}: not in 20 s");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_retired_member_is_refused_from_then_on_and_what_it_saves_later_goes_nowhere() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    let current = |name: &str| (name.to_owned(), "current".to_owned());
    assert_eq!(listed(&anna), [current("anna"), current("ben")]);
    ben.save("before.jpg", b"saved while a member");
    ben.settle();
    anna.settle();
    assert!(anna.file("before.jpg").is_file());

    anna.tcat(&["members", "retire", "nobody"]).failed_with(1, &["no member is called", "tcat members"]);
    anna.tcat(&["members", "retire", "anna"]).failed_with(1, &["another member"]);
    anna.tcat(&["members", "retire", "BEN"]).succeeded();
    until("anna lists ben as retired", || listed(&anna).contains(&("ben".into(), "retired".into())));
    until("anna is alone", || anna.status().peers.is_empty());
    ben.save("after.jpg", b"saved when no member any more");
    thread::sleep(Duration::from_secs(5));
    assert!(!anna.file("after.jpg").exists());
    assert!(anna.status().peers.is_empty());
    anna.settle();

    // Its home is of no use any more, neither at once nor with a new code.
    ben.stop();
    let media = ben.media.to_str().unwrap();
    let answer = ben.tcat(&["join", &anna.invite(), "--media", media, "--peer", &anna.address()]);
    assert_eq!(answer.status, Some(1), "{answer:?}");
    assert!(ben.file("after.jpg").is_file() && ben.file("before.jpg").is_file(), "its files stay its own");
    anna.stop();
}

/// The log of a node says that it has lost a member since `before` bytes of it.
fn has_lost_a_member(node: &Node<'_>, before: usize) -> bool {
    node.said().get(before..).is_some_and(|since| since.contains("disconnected"))
}

#[test]
fn who_is_retired_at_one_node_is_refused_at_all_within_two_seconds() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    let mut carl = laboratory.node("carl");
    let mut dora = laboratory.node("dora");
    carl.join(&anna.invite(), &[&anna, &ben]);
    carl.start();
    dora.join(&anna.invite(), &[&anna, &ben, &carl]);
    dora.start();
    for node in [&anna, &ben, &carl] {
        node.meet(&dora);
    }
    anna.settle();
    thread::sleep(Duration::from_secs(3)); // Everybody has read the roster a while ago.
    let before = [&ben, &carl].map(|node| node.said().len());
    anna.tcat(&["members", "retire", "dora"]).succeeded();
    let retired = Instant::now();
    let refused = |node: &Node<'_>| listed(node).contains(&("dora".into(), "retired".into()));
    while ![&anna, &ben, &carl].into_iter().all(refused) && retired.elapsed() < Duration::from_secs(2) {
        thread::sleep(Duration::from_millis(20));
    }
    let took = retired.elapsed();
    println!("known everywhere within {took:?}");
    assert!(took < Duration::from_secs(2), "{:?}", [&anna, &ben, &carl].map(listed));
    until("ben and carl have let it go", || {
        has_lost_a_member(&ben, before[0]) && has_lost_a_member(&carl, before[1])
    });
    thread::sleep(Duration::from_secs(3));
    for node in [&anna, &ben, &carl] {
        assert!(node.status().peers.iter().all(|peer| peer.name != "dora"), "{:?}", node.status().peers);
    }
    for node in [&mut anna, &mut ben, &mut carl] {
        node.stop();
    }
}

/// The file with the workgroup's keys.
fn key_file(node: &Node<'_>) -> PathBuf {
    let files = fs::read_dir(&node.home).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("workgroup-") && name.ends_with(".key")
    };
    files.into_iter().find(is_it).unwrap()
}

fn keys(node: &Node<'_>) -> String {
    fs::read_to_string(key_file(node)).unwrap()
}

#[test]
fn a_retirement_makes_a_new_key_that_every_member_gets_and_the_retired_one_does_not() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    let mut carl = laboratory.node("carl");
    let mut dora = laboratory.node("dora");
    carl.join(&anna.invite(), &[&anna, &ben]);
    carl.start();
    dora.join(&anna.invite(), &[&anna, &ben, &carl]);
    dora.start();
    for node in [&anna, &ben, &carl] {
        node.meet(&dora);
    }
    let first = keys(&anna);
    assert_eq!([&ben, &carl, &dora].map(keys), [&*first; 3]);
    ben.stop();
    anna.tcat(&["members", "retire", "dora"]).succeeded();
    until("carl has the new key", || keys(&carl) == keys(&anna) && keys(&carl) != first);
    assert_eq!(keys(&anna).lines().count(), 2);
    // Who was away proves itself with the old key and gets the new one.
    ben.start();
    until("ben has the new key", || keys(&ben) == keys(&anna));
    for node in [&anna, &carl] {
        ben.meet(node);
    }
    ben.save("back.jpg", b"saved by one who was away");
    ben.settle();
    anna.settle();
    assert!(anna.file("back.jpg").is_file());
    // A newcomer gets all of them, from whoever invites it.
    let mut eve = laboratory.node("eve");
    eve.join(&carl.invite(), &[&anna, &ben, &carl]);
    assert_eq!(keys(&eve), keys(&anna));
    eve.start();
    for node in [&anna, &ben, &carl] {
        eve.meet(node);
    }
    assert_eq!(keys(&dora), first);
    for node in [&anna, &ben, &carl, &eve] {
        assert!(node.status().peers.iter().all(|peer| peer.name != "dora" || !peer.alive));
    }
    for node in [&mut anna, &mut ben, &mut carl, &mut eve] {
        node.stop();
    }
}

#[test]
fn a_key_that_a_crash_prevented_is_made_later_by_somebody() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    let mut carl = laboratory.node("carl");
    carl.join(&anna.invite(), &[&anna, &ben]);
    carl.start();
    anna.meet(&carl);
    let before = keys(&anna);
    anna.tcat(&["members", "retire", "carl"]).succeeded();
    until("there is a new key", || keys(&ben) == keys(&anna) && keys(&anna) != before);
    // As if the node had died between the catalog's answer and the writing of its ring.
    for node in [&mut anna, &mut ben] {
        node.kill();
        fs::write(key_file(node), &before).unwrap();
        node.start();
    }
    until("somebody makes one", || keys(&anna) != before && keys(&ben) == keys(&anna));
    assert_eq!(keys(&anna).lines().count(), 2, "once");
    thread::sleep(Duration::from_secs(6));
    assert_eq!(keys(&anna).lines().count(), 2, "and no more");
    assert_eq!(keys(&carl), before);
    for node in [&mut anna, &mut ben] {
        node.stop();
    }
}
