//! A person renames files, and a program takes them hostage: through the real program, on a real file system.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tcat::demo::verify::Digest;
use tcat_tests::{Laboratory, Node, Random};

type Files = BTreeMap<String, Digest>;

fn settle(nodes: &[&Node<'_>]) {
    nodes.iter().for_each(|node| node.settle());
    nodes[0].settle();
}

fn rename(node: &Node<'_>, from: &str, to: &str) {
    let to = node.file(to);
    fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).unwrap();
    fs::rename(node.file(from), to).unwrap();
}

#[test]
fn a_rename_a_swap_and_a_renamed_folder_reach_the_other_node_and_no_byte_moves() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    anna.meet(&ben);
    let mut random = Random::new();
    let mut contents = BTreeMap::new();
    for name in ["a.jpg", "b.jpg", "album/c.jpg", "album/sea/d.jpg", "été.jpg"] {
        contents.insert(name, anna.save(name, &random.bytes(70_000)));
    }
    settle(&[&anna, &ben]);
    let before = (anna.status().bytes, ben.status().bytes);
    // Ben's folder, while his node is down and while it runs.
    ben.stop();
    rename(&ben, "a.jpg", "von Ben/A 1.jpg");
    ben.start();
    ben.meet(&anna);
    settle(&[&anna, &ben]);
    rename(&ben, "album", "Summer");
    rename(&anna, "été.jpg", "ÉTÉ.jpg");
    settle(&[&anna, &ben]);
    for (from, to) in [("b.jpg", "t.jpg"), ("Summer/c.jpg", "b.jpg"), ("t.jpg", "Summer/c.jpg")] {
        rename(&anna, from, to);
        settle(&[&anna, &ben]);
    }
    let after = (anna.status().bytes, ben.status().bytes);
    assert_eq!((before.0.cloud_out, before.0.cloud_in), (after.0.cloud_out, after.0.cloud_in));
    assert_eq!((after.1.cloud_out, after.1.cloud_in, after.1.lan_in), (0, 0, 0), "since his restart");
    let files: Files = [
        ("von Ben/A 1.jpg", "a.jpg"),
        ("b.jpg", "album/c.jpg"),
        ("Summer/c.jpg", "b.jpg"),
        ("Summer/sea/d.jpg", "album/sea/d.jpg"),
        ("ÉTÉ.jpg", "été.jpg"),
    ]
    .into_iter()
    .map(|(now, before)| (now.to_owned(), contents[before]))
    .collect();
    anna.stop();
    ben.stop();
    let report = laboratory.judge(&anna, &[&anna, &ben], &files);
    drop(report);
}

#[test]
fn files_taken_hostage_are_held_survive_a_restart_and_come_back_when_refused() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    anna.meet(&ben);
    let mut random = Random::new();
    let mut files = Files::new();
    for n in 0..40 {
        let path = format!("album/{n}.jpg");
        files.insert(path.clone(), anna.save(&path, &random.bytes(20_000 + n)));
    }
    settle(&[&anna, &ben]);
    for n in 0..40 {
        let path = format!("album/{n}.jpg");
        ben.save(&path, &random.bytes(20_000));
        if n % 2 == 0 {
            rename(&ben, &path, &format!("{path}.locked"));
        }
    }
    settle(&[&ben, &anna]);
    assert!(ben.status().brake, "{}", ben.said());
    let intact = |node: &Node<'_>| {
        let stands = |(path, digest): &(&String, &Digest)| {
            fs::read(node.file(path)).is_ok_and(|bytes| tcat::demo::verify::hash_bytes(&bytes) == **digest)
        };
        files.iter().filter(stands).count()
    };
    assert!(intact(&anna) >= 40 - 13, "{} of 40 are as they were\n{}", intact(&anna), ben.said());
    ben.kill();
    ben.start();
    ben.meet(&anna);
    settle(&[&ben, &anna]);
    assert!(ben.status().brake, "{}", ben.said());
    let said = ben.tcat(&["brake"]).succeeded();
    assert!(said.contains("held back") && said.contains("tcat brake refuse"), "{said}");
    let said = ben.tcat(&["brake", "refuse"]).succeeded();
    assert!(said.contains("refused"), "{said}");
    settle(&[&ben, &anna]);
    assert!(!ben.status().brake);
    assert_eq!((intact(&anna), intact(&ben)), (40, 40), "{}", ben.said());
    assert_eq!(ben.tcat(&["brake", "accept"]).succeeded().trim(), "the brake holds nothing");
    anna.stop();
    ben.stop();
}
