//! Who belongs to the workgroup: listed, retired, and refused from then on.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
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
