//! What every [`Store`] promises the engine, asked of each implementation by the same functions.
#![allow(clippy::unwrap_used)]

use quickcheck::QuickCheck;
use redb::backends::InMemoryBackend;
use std::path::Path;
use tcat_engine::store::{Change, MemoryStore, Pair, Store, StoreError, Table};
use tcat_storage::node_database::NodeDatabase;

fn put(table: Table, key: &[u8], value: &[u8]) -> Change {
    Change { table, key: key.to_vec(), value: Some(value.to_vec()) }
}

fn remove(table: Table, key: &[u8]) -> Change {
    Change { table, key: key.to_vec(), value: None }
}

fn keys(pairs: &[Pair]) -> Vec<&[u8]> {
    pairs.iter().map(|(key, _)| key.as_slice()).collect()
}

/// All promises that need no reopening. `new` gives an empty store each time.
fn conforms<S: Store>(new: &dyn Fn() -> S) {
    an_empty_store_answers_everything(new());
    a_range_is_in_byte_order_and_keeps_its_bounds(new());
    a_limit_cuts_a_range_and_the_next_page_follows_it(new());
    changes_apply_in_order(new());
    tables_are_apart(new());
    empty_and_large_keys_and_values_are_kept(new());
}

fn an_empty_store_answers_everything<S: Store>(mut store: S) {
    store.commit(Vec::new()).unwrap();
    for table in Table::ALL {
        assert_eq!(store.get(table, b"a").unwrap(), None);
        assert_eq!(store.range(table, b"", b"", 10).unwrap(), []);
    }
    store.commit(vec![remove(Table::Rows, b"never there")]).unwrap();
    assert_eq!(store.range(Table::Rows, b"", b"", 10).unwrap(), []);
}

fn a_range_is_in_byte_order_and_keeps_its_bounds<S: Store>(mut store: S) {
    let inserted: [&[u8]; 7] = [b"b", b"\xff", b"a", b"", b"ab", b"\xff\xff", b"a\0"];
    store.commit(inserted.iter().map(|key| put(Table::Entries, key, b"v")).collect()).unwrap();
    let range = |from: &[u8], to: &[u8]| store.range(Table::Entries, from, to, 100).unwrap();
    assert_eq!(keys(&range(b"", b"")), [b"" as &[u8], b"a", b"a\0", b"ab", b"b", b"\xff", b"\xff\xff"]);
    assert_eq!(keys(&range(b"a", b"b")), [b"a" as &[u8], b"a\0", b"ab"]);
    assert_eq!(keys(&range(b"ab", b"")), [b"ab" as &[u8], b"b", b"\xff", b"\xff\xff"]);
    assert_eq!(keys(&range(b"aa", b"ac")), [b"ab" as &[u8]]);
    assert!(range(b"b", b"b").is_empty());
    assert!(range(b"c", b"a").is_empty());
}

fn a_limit_cuts_a_range_and_the_next_page_follows_it<S: Store>(mut store: S) {
    let changes = (0..100u8).map(|n| put(Table::Unsettled, &[n], &[n; 3])).collect();
    store.commit(changes).unwrap();
    assert!(store.range(Table::Unsettled, b"", b"", 0).unwrap().is_empty());
    let mut paged = Vec::new();
    let mut from = Vec::new();
    loop {
        let page = store.range(Table::Unsettled, &from, &[90], 7).unwrap();
        assert!(page.len() <= 7);
        let Some((last, _)) = page.last() else { break };
        from = [last.as_slice(), &[0]].concat();
        paged.extend(page);
    }
    let expected: Vec<Pair> = (0..90u8).map(|n| (vec![n], vec![n; 3])).collect();
    assert_eq!(paged, expected);
}

fn changes_apply_in_order<S: Store>(mut store: S) {
    let table = Table::Tasks;
    store.commit(vec![put(table, b"k", b"1"), put(table, b"k", b"2"), put(table, b"gone", b"x")]).unwrap();
    assert_eq!(store.get(table, b"k").unwrap(), Some(b"2".to_vec()));
    let changes = vec![
        remove(table, b"k"),
        put(table, b"k", b"3"),
        put(table, b"other", b"x"),
        remove(table, b"other"),
        remove(table, b"gone"),
        remove(table, b"gone"),
    ];
    store.commit(changes).unwrap();
    assert_eq!(store.range(table, b"", b"", 9).unwrap(), [(b"k".to_vec(), b"3".to_vec())]);
}

fn tables_are_apart<S: Store>(mut store: S) {
    store.commit(Table::ALL.iter().map(|table| put(*table, b"k", &[*table as u8])).collect()).unwrap();
    store.commit(vec![remove(Table::Paths, b"k")]).unwrap();
    for table in Table::ALL {
        let expected = (table != Table::Paths).then(|| vec![table as u8]);
        assert_eq!(store.get(table, b"k").unwrap(), expected, "{table:?}");
    }
}

fn empty_and_large_keys_and_values_are_kept<S: Store>(mut store: S) {
    let (long_key, large) = (vec![7; 3000], vec![9; 3_000_000]);
    let changes = vec![put(Table::Batches, &long_key, &large), put(Table::Batches, b"", b"")];
    store.commit(changes).unwrap();
    assert_eq!(store.get(Table::Batches, b"").unwrap(), Some(Vec::new()));
    assert_eq!(store.get(Table::Batches, &long_key).unwrap(), Some(large));
}

/// Any history of commits leaves `store` as it leaves the memory store.
fn agrees_with_memory<S: Store>(mut store: S, history: Vec<Vec<(u8, u8, Option<u8>)>>) -> bool {
    let mut model = MemoryStore::default();
    for commit in history {
        let changes = commit.into_iter().map(|(table, key, value)| Change {
            table: Table::ALL[usize::from(table) % Table::ALL.len()],
            key: vec![key % 16],
            value: value.map(|byte| vec![byte; usize::from(byte)]),
        });
        let changes: Vec<Change> = changes.collect();
        store.commit(changes.clone()).unwrap();
        model.commit(changes).unwrap();
    }
    dump(&store) == dump(&model)
}

fn in_memory() -> NodeDatabase {
    NodeDatabase::on_backend(InMemoryBackend::new()).unwrap()
}

fn dump<S: Store>(store: &S) -> Result<Vec<Vec<Pair>>, StoreError> {
    Table::ALL.iter().map(|table| store.range(*table, b"", b"", usize::MAX)).collect()
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
fn the_node_database_keeps_what_the_memory_store_keeps() {
    fn law(history: Vec<Vec<(u8, u8, Option<u8>)>>) -> bool {
        agrees_with_memory(in_memory(), history)
    }
    QuickCheck::new().tests(40).quickcheck(law as fn(Vec<Vec<(u8, u8, Option<u8>)>>) -> bool);
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
