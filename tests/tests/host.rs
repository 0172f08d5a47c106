//! A workgroup without any server: the first node keeps catalog and objects, the others know no path of it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use tcat_tests::{Laboratory, Node, Random};

const PATIENCE: Duration = Duration::from_secs(30);

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn holds(node: &Node<'_>, path: &str, bytes: &[u8]) -> bool {
    fs::read(node.file(path)).is_ok_and(|found| found == bytes)
}

#[test]
fn a_member_reaches_catalog_and_objects_through_the_host_and_knows_no_path_of_it() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    let config: toml::Table = fs::read_to_string(ben.home.join("config.toml")).unwrap().parse().unwrap();
    let group = &config["workgroup"][0];
    assert_eq!((group["catalog"].as_str(), group["objects"].as_str()), (Some("peer:"), Some("peer:")));
    let mut random = Random::new();
    let mut files = BTreeMap::new();
    files.insert("anna.jpg".to_owned(), anna.save("anna.jpg", &random.bytes(300_000)));
    files.insert("ben.mov".to_owned(), ben.save("ben.mov", &random.bytes(9_000_000)));
    ben.settle();
    anna.settle();
    ben.settle();
    anna.stop();
    ben.stop();
    laboratory.judge(&anna, &[&anna, &ben], &files);
}

#[test]
fn a_host_that_dies_and_returns_gets_what_was_done_without_it() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    let mut carl = laboratory.node("carl");
    // Ben, who is not the host, admits through it.
    ben.meet(&anna);
    carl.join(&ben.invite(), &[&anna, &ben]);
    carl.start();
    let mut random = Random::new();
    let mut files = BTreeMap::new();
    files.insert("both.jpg".to_owned(), anna.save("both.jpg", &random.bytes(50_000)));
    files.insert("other.jpg".to_owned(), anna.save("other.jpg", &random.bytes(50_000)));
    for node in [&anna, &ben, &carl, &anna] {
        node.settle();
    }
    ben.meet(&carl);
    anna.kill();
    // Edits and new files go on; edits travel between those who are there.
    let edited = random.bytes(60_000);
    files.insert("both.jpg".to_owned(), ben.save("both.jpg", &edited));
    wait_for("the edit is at carl's without a host", || holds(&carl, "both.jpg", &edited));
    files.insert("new at ben's.jpg".to_owned(), ben.save("new at ben's.jpg", &random.bytes(70_000)));
    files.insert("other.jpg".to_owned(), anna.save("other.jpg", &random.bytes(80_000)));
    // A member that is started while the host is away waits for it.
    carl.stop();
    carl.start();
    anna.start();
    anna.meet(&ben);
    for node in [&anna, &ben, &carl, &anna, &ben, &carl] {
        node.settle();
    }
    for node in [&mut anna, &mut ben, &mut carl] {
        node.stop();
    }
    laboratory.judge(&anna, &[&anna, &ben, &carl], &files);
}
