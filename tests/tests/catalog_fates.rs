//! The running program: an item that a person deletes, and a catalog that is put back from a backup.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tcat_tests::{Laboratory, Node, Random};

/// Copies the catalog's files of a stopped node.
fn copy_catalog(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

fn settle(nodes: &[&Node<'_>]) {
    nodes.iter().chain(nodes).for_each(|node| node.settle());
}

#[test]
fn an_item_that_is_deleted_goes_to_trash_everywhere_with_its_object_and_stays_away() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    anna.meet(&ben);
    let mut random = Random::new();
    let bytes = random.bytes(50_000);
    anna.save("Été/gone.jpg", &bytes);
    let mut files = BTreeMap::from([("stays.jpg".to_owned(), anna.save("stays.jpg", &random.bytes(9_000)))]);
    settle(&[&anna, &ben]);
    assert!(ben.tcat(&["delete", "Été/gone.jpg"]).succeeded().contains("deleted everywhere"));
    settle(&[&ben, &anna]);
    for node in [&anna, &ben] {
        assert!(!node.file("Été/gone.jpg").exists(), "{}", node.name);
    }
    ben.tcat(&["delete", "Été/gone.jpg"]).failed_with(1, &["no item"]);
    assert_eq!(fs::read_dir(anna.home.join("objects")).unwrap().filter(is_object).count(), 1);
    // Imported again it is a new item.
    files.insert("again.jpg".into(), ben.save("again.jpg", &bytes));
    settle(&[&ben, &anna]);
    anna.stop();
    ben.stop();
    laboratory.judge(&anna, &[&anna, &ben], &files);
}

fn is_object(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.file_type().unwrap().is_file())
}

#[test]
fn a_catalog_put_back_from_a_backup_gets_back_what_came_since() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    let mut random = Random::new();
    let mut files = BTreeMap::new();
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        files.insert(name.to_owned(), anna.save(name, &random.bytes(20_000)));
    }
    settle(&[&anna, &ben]);
    anna.stop();
    ben.stop();
    let backup = laboratory.root().join("backup");
    copy_catalog(&anna.home, &backup);
    anna.start();
    ben.start();
    files.insert("a.jpg".into(), ben.save("a.jpg", &random.bytes(21_000)));
    files.insert("new.jpg".into(), anna.save("new.jpg", &random.bytes(22_000)));
    settle(&[&ben, &anna]);
    files.insert("a.jpg".into(), ben.save("a.jpg", &random.bytes(23_000)));
    settle(&[&ben, &anna]);
    ben.tcat(&["delete", "b.jpg"]).succeeded();
    files.remove("b.jpg");
    settle(&[&ben, &anna]);
    anna.stop();
    ben.stop();
    copy_catalog(&backup, &anna.home);
    anna.start();
    ben.start();
    settle(&[&anna, &ben]);
    anna.stop();
    ben.stop();
    laboratory.judge(&anna, &[&anna, &ben], &files);
}
