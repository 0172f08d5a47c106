//! What every [`Store`] promises the engine, asked of each implementation by the same functions: of the real ones by
//! `store_conformance.rs` beside this folder, of the simulator's by its own test, which includes this file.
//! Not here: what only files have (being open elsewhere, missing, damaged).
#![allow(dead_code, reason = "each test that includes this file uses a part of it")]

use tcat_engine::store::{Change, MemoryStore, Pair, Store, StoreError, Table};

/// A write.
pub fn put(table: Table, key: &[u8], value: &[u8]) -> Change {
    Change { table, key: key.to_vec(), value: Some(value.to_vec()) }
}

/// A removal.
pub fn remove(table: Table, key: &[u8]) -> Change {
    Change { table, key: key.to_vec(), value: None }
}

/// The keys of pairs.
pub fn keys(pairs: &[Pair]) -> Vec<&[u8]> {
    pairs.iter().map(|(key, _)| key.as_slice()).collect()
}

/// All promises that need no reopening. `new` gives an empty store each time.
pub fn conforms<S: Store>(new: &dyn Fn() -> S) {
    an_empty_store_answers_everything(new());
    a_range_is_in_byte_order_and_keeps_its_bounds(new());
    a_limit_cuts_a_range_and_the_next_page_follows_it(new());
    changes_apply_in_order(new());
    tables_are_apart(new());
    empty_and_large_keys_and_values_are_kept(new());
    any_history_leaves_what_it_leaves_in_memory(new);
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

/// One commit of a random history: few keys, so that they meet.
pub fn random_commit(random: &mut dyn FnMut(u64) -> u64) -> Vec<Change> {
    let changes = (0..1 + random(12)).map(|_| {
        let table = Table::ALL[random(Table::ALL.len() as u64) as usize];
        let key = vec![b'k'; random(40) as usize];
        // Mostly small, sometimes more than a page of any kind.
        let size = if random(20) == 0 { random(20_000) } else { random(300) };
        let value = (random(4) > 0).then(|| vec![random(256) as u8; size as usize]);
        Change { table, key, value }
    });
    changes.collect()
}

/// A generator for tests (SplitMix64): numbers below a bound.
pub fn chance(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |bound| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).checked_rem(bound).unwrap_or(0)
    }
}

/// Histories from 12 seeds, compared after each commit: all pairs, and ranges with odd bounds.
fn any_history_leaves_what_it_leaves_in_memory<S: Store>(new: &dyn Fn() -> S) {
    for seed in 0..12 {
        let (mut store, mut model, mut random) = (new(), MemoryStore::default(), chance(seed));
        for _ in 0..25 {
            let changes = random_commit(&mut random);
            store.commit(changes.clone()).unwrap();
            model.commit(changes).unwrap();
            assert_eq!(dump(&store), dump(&model), "seed {seed}");
            let table = Table::ALL[random(Table::ALL.len() as u64) as usize];
            let (from, to) = (vec![b'k'; random(40) as usize], vec![b'k'; random(40) as usize]);
            let limit = random(10) as usize;
            assert_eq!(
                store.range(table, &from, &to, limit),
                model.range(table, &from, &to, limit),
                "seed {seed}: {table:?} {} {} {limit}",
                from.len(),
                to.len()
            );
            assert_eq!(store.get(table, &from), model.get(table, &from), "seed {seed}");
        }
    }
}

/// Everything in a store.
pub fn dump<S: Store>(store: &S) -> Result<Vec<Vec<Pair>>, StoreError> {
    Table::ALL.iter().map(|table| store.range(*table, b"", b"", usize::MAX)).collect()
}
