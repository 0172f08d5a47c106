//! Both stores of simulated nodes keep every promise of a store, and across every crash what they acknowledged.
#![allow(clippy::unwrap_used)]

#[path = "../../storage/tests/conformance/mod.rs"]
mod conformance;

use conformance::{chance, conforms, dump, put, random_commit};
use tcat_engine::planted::{Bug, Planted};
use tcat_engine::store::{Store, Table};
use tcat_sim::disk::Trouble;
use tcat_sim::random::Random;
use tcat_sim::store::{Breach, SimStore};

const SOUND: Planted = Planted(None);

fn light() -> SimStore {
    SimStore::light(SOUND)
}

fn full() -> SimStore {
    SimStore::full(SOUND).unwrap()
}

const TROUBLES: [Trouble; 5] =
    [Trouble::WriteError, Trouble::ReadError, Trouble::SyncError, Trouble::PowerCut, Trouble::PowerCutAtSync];

#[test]
fn the_light_and_the_full_store_conform() {
    conforms(&light);
    conforms(&full);
}

/// Lives of a store: commits, troubles, crashes. Returns the first breach and how many endings there were.
fn lives(mut store: SimStore, seed: u64, endings: usize) -> Result<usize, Breach> {
    let mut random = Random::new(seed);
    let mut numbers = chance(seed ^ 0x5eed);
    for _ in 0..endings {
        if random.below(3) > 0 {
            let trouble = TROUBLES[random.below(5) as usize];
            let (passes, chance) = (random.below(40), Random::new(random.next_u64()));
            store.arm(trouble, passes, chance);
        }
        store.set_disk_full(random.below(12) == 0);
        for _ in 0..random.below(8) {
            if store.commit(random_commit(&mut numbers)).is_err() {
                break;
            }
            let _ = store.get(Table::Rows, b"k");
        }
        store.set_disk_full(false);
        match random.below(4) {
            // What a failed sync forgot is a test of its own.
            0 if store.disk().is_none_or(|disk| !disk.has_forgotten()) => store.kill(&mut random)?,
            _ => store.crash(&mut random)?,
        }
    }
    Ok(endings)
}

#[test]
fn what_was_acknowledged_survives_every_crash_and_a_failed_commit_is_there_whole_or_not_at_all() {
    for seed in 0..60 {
        lives(light(), seed, 12).unwrap();
        lives(full(), seed, 12).unwrap_or_else(|breach| panic!("seed {seed}: {breach}"));
    }
}

#[test]
fn a_failed_light_commit_is_there_or_not_as_the_numbers_say_and_the_store_is_closed_until_it_is_opened() {
    let mut seen = [false; 2];
    for seed in 0..20 {
        let mut store = light();
        store.arm(Trouble::WriteError, 1, Random::new(seed));
        store.commit(vec![put(Table::Meta, b"a", b"1")]).unwrap();
        store.commit(vec![put(Table::Meta, b"b", b"2")]).unwrap_err();
        store.commit(vec![put(Table::Meta, b"c", b"3")]).unwrap_err();
        store.get(Table::Meta, b"a").unwrap_err();
        store.crash(&mut Random::new(seed)).unwrap();
        assert!(store.get(Table::Meta, b"a").unwrap().is_some());
        assert!(store.get(Table::Meta, b"c").unwrap().is_none());
        seen[usize::from(store.get(Table::Meta, b"b").unwrap().is_some())] = true;
    }
    assert_eq!(seen, [true; 2]);
}

#[test]
fn a_snapshot_is_kept_apart_and_comes_back_whole() {
    for new in [light, full] {
        let mut store = new();
        store.commit(vec![put(Table::Rows, b"a", b"1")]).unwrap();
        let (snapshot, before) = (store.snapshot(), dump(&store));
        store.commit(vec![put(Table::Rows, b"a", b"2"), put(Table::Meta, b"b", &[7; 9000])]).unwrap();
        let after = dump(&store);
        let mut clone = new();
        clone.restore(&snapshot).unwrap();
        assert_eq!(dump(&clone), before);
        assert_eq!(dump(&store), after);
        store.restore(&snapshot).unwrap();
        assert_eq!(dump(&store), before);
        store.commit(vec![put(Table::Rows, b"c", b"3")]).unwrap();
        assert_eq!(dump(&clone), before, "two of one snapshot are apart");
        store.wipe().unwrap();
        assert_eq!(dump(&store), dump(&new()));
    }
}

#[test]
fn the_same_numbers_leave_the_same_disk() {
    let run = || {
        let (mut store, mut numbers, mut random) = (full(), chance(3), Random::new(9));
        for n in 0..6 {
            store.arm(Trouble::PowerCutAtSync, n, Random::new(n));
            while store.commit(random_commit(&mut numbers)).is_ok() {}
            store.crash(&mut random).unwrap();
        }
        store.disk().unwrap().snapshot().hash()
    };
    assert_eq!(run(), run());
}

/// Seeds until a planted bug breaks an invariant, and which.
fn caught(bug: Bug, seeds: u64) -> Option<(u64, &'static str)> {
    (0..seeds).find_map(|seed| {
        let breach = lives(SimStore::full(Planted(Some(bug))).unwrap(), seed, 12).err()?;
        Some((seed + 1, breach.invariant()))
    })
}

#[test]
fn an_acknowledgement_before_the_sync_breaks_s3() {
    let (seeds, invariant) = caught(Bug::AckBeforeSync, 20).expect("it is never caught");
    assert_eq!(invariant, Bug::AckBeforeSync.invariant());
    assert!(seeds <= 5, "{seeds} seeds");
}
