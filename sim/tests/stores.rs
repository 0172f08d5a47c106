//! Both stores of simulated nodes keep every promise of a store, and across every crash what they acknowledged.
#![allow(clippy::unwrap_used)]

#[path = "../../storage/tests/conformance/mod.rs"]
mod conformance;

use conformance::{chance, conforms, dump, put, random_commit};
use tcat_engine::planted::{Bug, Planted};
use tcat_engine::store::{Store, Table};
use tcat_sim::disk::Trouble;
use tcat_sim::lives::{Tally, lives};
use tcat_sim::random::Random;
use tcat_sim::store::SimStore;

const SOUND: Planted = Planted(None);

fn light() -> SimStore {
    SimStore::light(SOUND)
}

fn full() -> SimStore {
    SimStore::full(SOUND).unwrap()
}

#[test]
fn the_light_and_the_full_store_conform() {
    conforms(&light);
    conforms(&full);
}

#[test]
fn what_was_acknowledged_survives_every_crash_and_a_failed_commit_is_there_whole_or_not_at_all() {
    let mut tally = Tally::default();
    for seed in 0..60 {
        lives(&mut light(), seed, 12, &mut Tally::default()).unwrap();
        lives(&mut full(), seed, 12, &mut tally).unwrap_or_else(|breach| panic!("seed {seed}: {breach}"));
    }
    assert!(tally.doubts.kept > 10 && tally.doubts.lost > 100, "both ends of a failed commit: {tally:?}");
    assert!(tally.power_cuts > 300 && tally.kills > 50 && tally.commits > 1000, "{tally:?}");
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
        let mut store = SimStore::full(Planted(Some(bug))).unwrap();
        let breach = lives(&mut store, seed, 12, &mut Tally::default()).err()?;
        Some((seed + 1, breach.invariant()))
    })
}

#[test]
fn an_acknowledgement_before_the_sync_breaks_s3() {
    let (seeds, invariant) = caught(Bug::AckBeforeSync, 20).expect("it is never caught");
    assert_eq!(invariant, Bug::AckBeforeSync.invariant());
    assert!(seeds <= 5, "{seeds} seeds");
}

/// The sync of the last word of a node fails; it is started again on the same system, goes on well, and then the power
/// goes.
#[test]
fn what_a_failed_sync_forgot_is_written_anew_before_anything_is_added_to_it() {
    for seed in 0..120 {
        let (mut store, mut numbers, mut random) = (full(), chance(seed), Random::new(seed));
        (0..3).for_each(|_| store.commit(random_commit(&mut numbers)).unwrap());
        store.arm(Trouble::SyncError, 0, Random::new(seed));
        store.reopen(&mut random).unwrap();
        (0..seed % 3).for_each(|_| store.commit(random_commit(&mut numbers)).unwrap());
        store.crash(&mut random).unwrap_or_else(|breach| panic!("seed {seed}: {breach}"));
    }
}
