//! Another member becomes host: because the host died, or because a person wants it so. Nothing is lost by it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tcat::demo::verify::Digest;
use tcat_tests::{Laboratory, Node, Random};

const PATIENCE: Duration = Duration::from_secs(40);

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

/// Files and folders in the home whose names begin so.
fn put_aside(node: &Node<'_>, beginning: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(&node.home).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(beginning)).collect()
}

/// Three members, of whom the first is host; each knows the addresses of the others.
fn three(laboratory: &Laboratory) -> [Node<'_>; 3] {
    let (mut anna, mut ben) = laboratory.pair();
    let mut carl = laboratory.node("carl");
    ben.meet(&anna);
    carl.join(&anna.invite(), &[&anna, &ben]);
    for node in [&mut anna, &mut ben] {
        node.stop();
    }
    anna.configure(&[&ben, &carl]);
    ben.configure(&[&anna, &carl]);
    carl.configure(&[&anna, &ben]);
    for node in [&mut anna, &mut ben, &mut carl] {
        node.start();
    }
    anna.meet(&carl);
    ben.meet(&carl);
    [anna, ben, carl]
}

fn settle(nodes: &[&Node<'_>]) {
    for node in nodes.iter().chain(nodes) {
        node.settle();
    }
}

struct Files {
    random: Random,
    all: BTreeMap<String, Digest>,
}

impl Files {
    fn new() -> Self {
        Self { random: Random::new(), all: BTreeMap::new() }
    }

    fn save(&mut self, node: &Node<'_>, path: &str) -> Vec<u8> {
        let bytes = self.random.bytes(60_000);
        self.all.insert(path.to_owned(), node.save(path, &bytes));
        bytes
    }
}

#[test]
fn a_member_takes_the_place_of_a_host_that_died_and_nothing_is_lost_when_that_returns() {
    let laboratory = Laboratory::new();
    let [mut anna, mut ben, mut carl] = three(&laboratory);
    let mut files = Files::new();
    for path in ["a.jpg", "b.jpg", "c.jpg", "d.jpg"] {
        files.save(&anna, path);
    }
    settle(&[&anna, &ben, &carl]);
    anna.tcat(&["promote"]).failed_with(1, &["host already"]);
    anna.kill();
    // Before, between and after: edits on all sides.
    files.save(&carl, "b.jpg");
    ben.tcat(&["promote"]).succeeded();
    files.save(&carl, "new at carl's.jpg");
    let late = files.save(&anna, "saved while anna was down.jpg");
    files.save(&anna, "c.jpg");
    settle(&[&ben, &carl]);
    files.save(&ben, "d.jpg");
    settle(&[&ben, &carl]);
    anna.start();
    anna.meet(&ben);
    wait_for("anna is no host any more", || !put_aside(&anna, "catalog.db.").is_empty());
    wait_for("what anna saved alone is at carl's", || holds(&carl, "saved while anna was down.jpg", &late));
    settle(&[&anna, &ben, &carl]);
    assert!(!anna.home.join("catalog.db").exists() && !put_aside(&anna, "objects.").is_empty());
    // A restart of all changes nothing.
    for node in [&mut anna, &mut ben, &mut carl] {
        node.stop();
    }
    for node in [&mut anna, &mut ben, &mut carl] {
        node.start();
    }
    files.save(&anna, "at last.jpg");
    settle(&[&anna, &ben, &carl]);
    for node in [&mut anna, &mut ben, &mut carl] {
        node.stop();
    }
    laboratory.judge(&ben, &[&anna, &ben, &carl], &files.all);
}

#[test]
fn a_host_hands_over_to_another_while_people_go_on() {
    let laboratory = Laboratory::new();
    let [mut anna, mut ben, mut carl] = three(&laboratory);
    let mut files = Files::new();
    for number in 0..8 {
        files.save(&anna, &format!("{number}.jpg"));
    }
    settle(&[&anna, &ben, &carl]);
    // In the same second.
    files.save(&anna, "1.jpg");
    files.save(&ben, "2.jpg");
    files.save(&carl, "new.jpg");
    thread::sleep(Duration::from_millis(300));
    let said = ben.tcat(&["promote", "--json"]).succeeded();
    assert!(said.contains("\"host_before\": \"anna\"") && said.contains("\"handed_over\": true"), "{said}");
    files.save(&anna, "3.jpg");
    files.save(&carl, "4.jpg");
    wait_for("anna is no host any more", || !put_aside(&anna, "catalog.db.").is_empty());
    settle(&[&anna, &ben, &carl]);
    // And back again.
    anna.tcat(&["promote"]).succeeded();
    files.save(&ben, "5.jpg");
    wait_for("ben is no host any more", || !put_aside(&ben, "catalog.db.").is_empty());
    settle(&[&anna, &ben, &carl]);
    for node in [&mut anna, &mut ben, &mut carl] {
        node.stop();
    }
    laboratory.judge(&anna, &[&anna, &ben, &carl], &files.all);
}

#[test]
fn of_two_that_are_promoted_at_a_time_one_stays_and_nothing_is_lost() {
    let laboratory = Laboratory::new();
    let [mut anna, mut ben, mut carl] = three(&laboratory);
    let mut files = Files::new();
    for path in ["a.jpg", "b.jpg", "c.jpg"] {
        files.save(&anna, path);
    }
    settle(&[&anna, &ben, &carl]);
    anna.kill();
    thread::scope(|scope| {
        for node in [&ben, &carl] {
            scope.spawn(move || node.tcat(&["promote"]).succeeded());
        }
    });
    files.save(&ben, "b.jpg");
    files.save(&carl, "c.jpg");
    wait_for("one gives way", || {
        put_aside(&ben, "catalog.db.").len() + put_aside(&carl, "catalog.db.").len() > 0
    });
    settle(&[&ben, &carl]);
    anna.start();
    wait_for("anna gives way", || !put_aside(&anna, "catalog.db.").is_empty());
    settle(&[&anna, &ben, &carl]);
    let host = ben.status().host.unwrap();
    assert!(host.reachable && carl.status().host.unwrap().name == host.name, "{host:?}");
    for node in [&mut anna, &mut ben, &mut carl] {
        node.stop();
    }
    let keepers = [&ben, &carl].map(|node| node.home.join("catalog.db").exists());
    let keeper = match keepers {
        [true, false] => &ben,
        [false, true] => &carl,
        both => panic!("{both:?}"),
    };
    laboratory.judge(keeper, &[&anna, &ben, &carl], &files.all);
}

#[test]
fn a_host_whose_home_was_restored_from_a_backup_gets_back_the_edits_that_it_lost() {
    let laboratory = Laboratory::new();
    let [mut anna, mut ben, mut carl] = three(&laboratory);
    let mut files = Files::new();
    for path in ["a.jpg", "b.jpg"] {
        files.save(&anna, path);
    }
    settle(&[&anna, &ben, &carl]);
    anna.stop();
    let backup = anna.home.with_file_name("backup");
    copy(&anna.home, &backup);
    anna.start();
    files.save(&anna, "b.jpg");
    settle(&[&anna, &ben, &carl]);
    anna.stop();
    fs::remove_dir_all(&anna.home).unwrap();
    fs::rename(&backup, &anna.home).unwrap();
    anna.start();
    anna.meet(&ben);
    anna.meet(&carl);
    files.save(&carl, "a.jpg");
    settle(&[&anna, &ben, &carl]);
    for node in [&mut anna, &mut ben, &mut carl] {
        node.stop();
    }
    laboratory.judge(&anna, &[&anna, &ben, &carl], &files.all);
}

/// Copies a home with the modes of its secrets.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), &to).unwrap()),
        }
    }
}
