//! The stores that ship, held to the promises in `conformance`; and what a file has to keep across openings.
#![allow(clippy::unwrap_used)]

mod conformance;

use conformance::{conforms, dump, keys, put, remove};
use redb::backends::InMemoryBackend;
use std::path::Path;
use tcat_engine::store::{MemoryStore, Store, Table};
use tcat_storage::node_database::NodeDatabase;

fn in_memory() -> NodeDatabase {
    NodeDatabase::on_backend(InMemoryBackend::new()).unwrap()
}

#[test]
fn the_memory_store_conforms() {
    conforms(&MemoryStore::default);
}

#[test]
fn the_node_database_conforms_in_memory_and_on_disk() {
    conforms(&in_memory);
    let folder = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    conforms(&|| {
        count.set(count.get() + 1);
        NodeDatabase::create(&folder.path().join(format!("{}.redb", count.get()))).unwrap()
    });
}

#[test]
fn what_was_committed_is_there_when_the_database_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workgroup 1.redb");
    let mut store = NodeDatabase::create(&path).unwrap();
    store.commit(vec![put(Table::Meta, b"a", b"1"), put(Table::Rows, b"b", b"2")]).unwrap();
    let before = dump(&store).unwrap();
    drop(store);
    let mut store = NodeDatabase::open(&path).unwrap();
    assert_eq!(dump(&store).unwrap(), before);
    store.commit(vec![remove(Table::Meta, b"a")]).unwrap();
    drop(store);
    assert_eq!(NodeDatabase::open(&path).unwrap().get(Table::Meta, b"a").unwrap(), None);
}

/// A copy of the file while it is open is what a crash at that moment leaves behind.
#[test]
fn what_was_committed_survives_a_crash_and_a_commit_is_there_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let crashed = folder.path().join("crashed.redb");
    let mut store = NodeDatabase::create(&path).unwrap();
    for n in 0..20u8 {
        let changes = vec![put(Table::Entries, &[n], &[n; 9000]), put(Table::EntryOrder, &[n], b"")];
        store.commit(changes).unwrap();
        std::fs::copy(&path, &crashed).unwrap();
        assert_eq!(dump(&NodeDatabase::open(&crashed).unwrap()).unwrap(), dump(&store).unwrap(), "{n}");
    }
    // Cut off what the last commits wrote, as a disk does that lost them.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&crashed, &bytes[..bytes.len() / 2]).unwrap();
    if let Ok(store) = NodeDatabase::open(&crashed) {
        let tables = dump(&store).unwrap();
        assert_eq!(keys(&tables[Table::Entries as usize]), keys(&tables[Table::EntryOrder as usize]));
    }
}

fn no_database_at(path: &Path) -> String {
    match NodeDatabase::open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_missing_database_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let text = no_database_at(&folder.path().join("none.redb"));
    assert!(
        text.contains("there is no node database") && text.contains("join the workgroup again"),
        "{text}"
    );
    assert!(no_database_at(folder.path()).contains("no regular file"));
}
