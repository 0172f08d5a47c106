//! Ledgers through restores, clones, retirements and long absences: in the end they are equal, byte for byte.
#![allow(clippy::unwrap_used)]

use tcat_engine::planted::{Bug, Planted};
use tcat_engine::ports::Event;
use tcat_engine::roster::{Admission, Standing};
use tcat_sim::faults::split;
use tcat_sim::store::SimStore;
use tcat_sim::verdict::{log, rests, rests_for_good};
use tcat_sim::world::{Weather, World, content};

const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
const FOUL: Weather = Weather { loss_permille: 200, twice_permille: 50, delay_ms_max: 400 };
const PATIENCE_MS: u64 = 600_000;

/// Rest, and then ledgers that are equal and whole at every node.
fn check(world: &mut World, seed: u64) {
    world.heal();
    world.run_for(5_000);
    if let Err(why) = rests_for_good(world, PATIENCE_MS) {
        panic!("seed {seed}: {why}\n{}", log(world));
    }
    check_ledgers(world, seed);
}

fn check_ledgers(world: &mut World, seed: u64) {
    if let Err(why) = ledgers_agree(world) {
        panic!("seed {seed}: {why}\n{}", log(world));
    }
}

fn ledgers_agree(world: &mut World) -> Result<(), String> {
    let first = world.ledgers(0);
    for n in 0..world.len() {
        let Some(report) = world.engine(n).map(|engine| engine.report()) else { continue };
        if report.whole != report.vector {
            return Err(format!("node {} is not whole\n{:?}\n{:?}", n + 1, report.whole, report.vector));
        }
        let ours = world.ledgers(n);
        if ours != first {
            let differs = ours.iter().filter(|entry| !first.contains(entry)).collect::<Vec<_>>();
            return Err(format!("node {} keeps other ledgers than node 1: {differs:?}", n + 1));
        }
    }
    match world.catalog.reused.first() {
        Some(revision) => Err(format!("S2: the dot {revision:?} was used for two contents")),
        None => Ok(()),
    }
}

/// Someone with a database from before is back; what happened meanwhile depends on the seed.
fn restore_story(world: &mut World, away: bool) {
    for n in 0..4 {
        world.save(0, &format!("{n}.jpg"), content(n));
    }
    world.run_for(8_000);
    let backup = world.backup(0);
    for _ in 0..4 {
        let (path, fresh) = (world.chance(6), world.fresh_content());
        world.save(0, &format!("{path}.jpg"), fresh);
        world.run_for(1_500);
    }
    if world.chance(2) == 0 {
        let fresh = world.fresh_content();
        world.save(1, "1.jpg", fresh);
    }
    let pause_ms = world.chance(5_000);
    world.run_for(pause_ms);
    world.crash(0);
    world.restore(0, &backup);
    if away {
        world.cuts = split(&[0], &[1, 2]);
        world.faults.catalog_away = true;
    }
    world.start(0);
    for _ in 0..3 {
        let (path, fresh) = (world.chance(6), world.fresh_content());
        world.save(0, &format!("{path}.jpg"), fresh);
        let pause_ms = world.chance(2_500);
        world.run_for(pause_ms);
    }
}

#[test]
fn a_restored_node_begins_a_new_incarnation_and_all_ledgers_are_equal_again() {
    let mut begun = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, 3, if seed % 2 == 0 { FAIR } else { FOUL });
        restore_story(&mut world, false);
        check(&mut world, seed);
        begun += u64::from(world.log.iter().any(|(_, n, event)| *n == 0 && *event == Event::NewIncarnation));
    }
    assert_eq!(begun, 20);
}

#[test]
fn a_restored_node_that_writes_before_it_meets_anybody_uses_no_dot_twice() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, if seed % 2 == 0 { FAIR } else { FOUL });
        restore_story(&mut world, true);
        check(&mut world, seed);
        let begun = world.log.iter().any(|(_, n, event)| *n == 0 && *event == Event::NewIncarnation);
        assert!(begun, "seed {seed}: what others know of the lost life is proof\n{}", log(&world));
    }
}

#[test]
fn a_client_that_uses_its_old_dots_again_is_caught() {
    let caught = (0..40).find(|seed| {
        let mut world = World::new(*seed, 3, FAIR);
        world.planted = Planted(Some(Bug::EpochReused));
        for n in 0..3 {
            world.crash(n);
            world.start(n);
        }
        restore_story(&mut world, true);
        world.heal();
        world.run_for(60_000);
        ledgers_agree(&mut world).is_err()
    });
    assert!(caught.is_some());
}

/// How many tombstones a node keeps: entries that say nothing.
fn tombstones(world: &mut World, n: usize) -> usize {
    let says_nothing =
        |bytes: &Vec<u8>| tcat_engine::entry::Entry::decode(bytes).is_ok_and(|entry| entry.is_tombstone());
    world.ledgers(n).iter().filter(|(_, _, _, bytes)| says_nothing(bytes)).count()
}

#[test]
fn tombstones_are_forgotten_once_everybody_has_them_and_by_a_single_member_too() {
    for nodes in 1..4 {
        let mut world = World::new(nodes, nodes as usize, FAIR);
        for n in 0..4 {
            world.save(n as usize % nodes as usize, &format!("{n}.jpg"), content(n));
        }
        rests(&mut world, PATIENCE_MS).unwrap();
        let items: Vec<_> = world.catalog.rows().map(|row| row.item).collect();
        items.iter().take(3).for_each(|item| world.catalog.remove(item));
        rests(&mut world, PATIENCE_MS).unwrap();
        world.run_for(10_000);
        for n in 0..nodes as usize {
            assert_eq!(tombstones(&mut world, n), 0, "{nodes} nodes, node {n}");
        }
    }
}

#[test]
fn a_member_that_is_away_keeps_tombstones_until_it_is_declared_absent_and_then_it_resynchronises() {
    let mut world = World::new(5, 3, FAIR);
    world.horizon_ms = 400_000;
    for n in 0..3 {
        world.crash(n);
        world.start(n);
    }
    for n in 0..4 {
        world.save(n as usize % 3, &format!("{n}.jpg"), content(n));
    }
    rests(&mut world, PATIENCE_MS).unwrap();
    world.crash(2);
    let items: Vec<_> = world.catalog.rows().map(|row| row.item).collect();
    items.iter().take(3).for_each(|item| world.catalog.remove(item));
    world.run_for(200_000);
    assert!(tombstones(&mut world, 0) > 0, "somebody has not got them yet");
    world.run_for(400_000);
    let standing = |world: &World| world.catalog.roster()[2].standing;
    assert_eq!(standing(&world), Standing::Absent);
    assert_eq!(tombstones(&mut world, 0), 0);
    world.start(2);
    world.run_for(80_000);
    assert_eq!(standing(&world), Standing::Current);
    check(&mut world, 5);
}

/// Node 3 is retired while it writes; node 4 is away, so that nothing of it is forgotten. Returns whether what it wrote
/// after its last dot counts anywhere.
fn late_words_count(seed: u64, planted: Option<Bug>) -> bool {
    let mut world = World::new(seed, 4, FAIR);
    for n in 0..5 {
        world.save(n as usize % 3, &format!("{n}.jpg"), content(n));
    }
    rests(&mut world, PATIENCE_MS).unwrap();
    world.planted = Planted(planted);
    world.crash(3);
    for n in 0..2 {
        world.crash(n);
        world.start(n);
    }
    world.run_for(5_000);
    let id = world.id(2);
    let last = world.engine(0).unwrap().report().vector.get(&id);
    // The retirement races with a write that reaches the others before they read of it.
    world.catalog.retire(&id, last);
    world.save(2, "late.jpg", content(99));
    world.run_for(100_000);
    (0..2).any(|n| world.ledgers(n).iter().any(|(owner, stamp, _, _)| *owner == id && *stamp > last))
}

#[test]
fn what_a_retired_client_writes_after_its_last_dot_counts_nowhere() {
    for seed in 0..8 {
        assert!(!late_words_count(seed, None), "seed {seed}: S11");
    }
    for bug in [Bug::RetiredAccepted, Bug::RetirementRace] {
        assert!((0..8).any(|seed| late_words_count(seed, Some(bug))), "S11 must catch {}", bug.id());
    }
}

#[test]
fn a_retirement_is_known_to_all_who_hear_each_other_within_two_seconds() {
    for seed in 0..8 {
        let mut world = World::new(seed, 8, FAIR);
        world.save(0, "a.jpg", content(1));
        rests(&mut world, PATIENCE_MS).unwrap();
        world.run_for(5_000);
        let id = world.id(7);
        world.retire(7, 0);
        world.run_for(2_000);
        for n in 0..7 {
            let admission = world.engine(n).unwrap().admission(&id);
            assert_eq!(admission, Admission::Retired, "seed {seed}, node {}", n + 1);
        }
        world.run_for(60_000);
        assert!(world.engine(7).unwrap().report().stopped.is_some(), "seed {seed}: it reads of it and stops");
    }
}

/// How many tombstones are left long after a client was retired.
fn left_after_a_retirement(planted: Option<Bug>) -> usize {
    let mut world = World::new(4, 3, FAIR);
    world.planted = Planted(planted);
    for n in 0..3 {
        world.crash(n);
        world.start(n);
    }
    for n in 0..5 {
        world.save(n as usize % 3, &format!("{n}.jpg"), content(n));
    }
    rests(&mut world, PATIENCE_MS).unwrap();
    world.crash(2);
    let id = world.id(2);
    let last = world.engine(0).unwrap().report().vector.get(&id);
    world.catalog.retire(&id, last);
    let items: Vec<_> = world.catalog.rows().map(|row| row.item).collect();
    items.iter().take(3).for_each(|item| world.catalog.remove(item));
    world.run_for(150_000);
    if planted.is_none() {
        for n in 0..2 {
            let vector = world.engine(n).unwrap().report().vector;
            assert_eq!(vector.get(&id), Default::default(), "its ledger is forgotten too");
        }
        assert!(world.run_until_rested(0, PATIENCE_MS) && world.run_until_rested(1, PATIENCE_MS));
        world.start(2);
        world.run_for(10_000);
        assert!(world.engine(2).unwrap().report().stopped.is_some(), "it stops once it reads of it");
    }
    tombstones(&mut world, 0) + tombstones(&mut world, 1)
}

#[test]
fn forgetting_does_not_wait_for_a_retired_client() {
    assert_eq!(left_after_a_retirement(None), 0);
    assert!(left_after_a_retirement(Some(Bug::RetiredCounted)) > 0, "L5");
}

#[test]
fn a_tombstone_that_is_forgotten_before_everybody_has_it_is_noticed() {
    let left = |planted| {
        let mut world = World::new(5, 3, FAIR);
        world.planted = Planted(planted);
        for n in 0..3 {
            world.crash(n);
            world.start(n);
        }
        for n in 0..4 {
            world.save(n as usize % 3, &format!("{n}.jpg"), content(n));
        }
        rests(&mut world, PATIENCE_MS).unwrap();
        world.crash(2);
        let items: Vec<_> = world.catalog.rows().map(|row| row.item).collect();
        items.iter().take(3).for_each(|item| world.catalog.remove(item));
        world.run_for(100_000);
        tombstones(&mut world, 0)
    };
    assert!(left(None) > 0);
    assert_eq!(left(Some(Bug::TombstoneTooEarly)), 0, "S9");
}

/// A node whose database is new and whose key the others know.
fn wiped(seed: u64, planted: Option<Bug>) -> Result<(), String> {
    let mut world = World::new(seed, 3, FAIR);
    for n in 0..5 {
        world.save(n as usize % 3, &format!("{n}.jpg"), content(n));
    }
    rests(&mut world, PATIENCE_MS).unwrap();
    world.planted = Planted(planted);
    world.crash(0);
    world.restore(0, &SimStore::light(Planted(planted)).snapshot());
    world.start(0);
    let fresh = world.fresh_content();
    world.save(0, "new.jpg", fresh);
    world.run_for(60_000);
    rests(&mut world, PATIENCE_MS)?;
    ledgers_agree(&mut world)
}

#[test]
fn a_node_with_a_new_database_is_believed_again() {
    for seed in 0..8 {
        if let Err(why) = wiped(seed, None) {
            panic!("seed {seed}: {why}");
        }
    }
    assert!(wiped(1, Some(Bug::LowVector)).is_err());
}

/// Two ends that do not hear each other, one in the middle, and one elsewhere whose pictures all of them want.
fn line(seed: u64, planted: Option<Bug>) -> World {
    let mut world = World::new(seed, 4, FAIR);
    world.planted = Planted(planted);
    for n in 0..4 {
        world.crash(n);
        world.start(n);
    }
    for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 3)] {
        world.part(a, b);
    }
    world.run_for(10_000);
    for n in 0..12 {
        world.save(0, &format!("{n}.jpg"), content(n));
        world.run_for(500);
    }
    world.run_for(30_000);
    world
}

#[test]
fn clients_in_a_line_without_the_third_link_fetch_each_content_once() {
    for seed in 0..10 {
        let world = line(seed, None);
        for n in 1..4 {
            assert_eq!(world.folder(n).contents().len(), 12, "seed {seed}\n{}", log(&world));
        }
        assert!(world.catalog.fetches.values().all(|times| *times == 1), "seed {seed}");
    }
}

#[test]
fn a_client_in_the_middle_that_passes_nothing_on_is_caught() {
    let twice = |seed| line(seed, Some(Bug::NoRelay)).catalog.fetches.values().any(|times| *times > 1);
    assert!((0..40).any(twice));
}

/// Whether one that is heard by a deaf client's neighbour comes to rest: it must not wait for who hears nobody.
fn rests_beside_a_deaf_client(seed: u64, planted: Option<Bug>) -> bool {
    let mut world = World::new(seed, 2, FAIR);
    world.planted = Planted(planted);
    world.crash(0);
    world.cuts = [(0, 1)].into();
    world.start(0);
    for n in 0..6 {
        world.save(0, &format!("{n}.jpg"), content(n));
        world.save(1, &format!("deaf {n}.jpg"), content(100 + n));
    }
    world.run_for(5_000);
    world.run_until_rested(0, 60_000)
}

#[test]
fn a_deaf_client_keeps_nobody_from_working() {
    for seed in 0..10 {
        assert!(rests_beside_a_deaf_client(seed, None), "seed {seed}");
    }
    assert!(!rests_beside_a_deaf_client(1, Some(Bug::DeafThief)), "L1");
}

/// Two machines with one key, in a workgroup with others; returns the twin's number.
fn clone_story(seed: u64, planted: Option<Bug>) -> (World, usize) {
    let mut world = World::new(seed, 3, FAIR);
    for n in 0..4 {
        world.save(0, &format!("{n}.jpg"), content(n));
    }
    rests(&mut world, PATIENCE_MS).unwrap();
    let twin = world.clone_node(0);
    world.planted = Planted(planted);
    world.crash(0);
    world.start(0);
    world.start(twin);
    // Persons work at both, so that both write.
    for n in 0..20 {
        world.save(if n % 2 == 0 { 0 } else { twin }, &format!("twins {n}.jpg"), content(100 + n));
        world.run_for(1_000);
    }
    (world, twin)
}

#[test]
fn two_machines_with_one_key_both_stop_and_ask() {
    for seed in 0..10 {
        let (mut world, twin) = clone_story(seed, None);
        let begun =
            |world: &World| world.log.iter().filter(|(_, _, event)| *event == Event::NewIncarnation).count();
        let before = begun(&world);
        world.run_for(20_000);
        assert_eq!(begun(&world), before, "seed {seed}: they do not outbid each other");
        for n in [0, twin] {
            let report = world.engine(n).unwrap().report();
            assert!(report.stopped.is_some(), "seed {seed}, node {n}\n{}", log(&world));
        }
        for n in [1, 2] {
            assert_eq!(world.engine(n).unwrap().report().stopped, None, "nobody else has to stop");
        }
    }
    let (world, _) = clone_story(3, Some(Bug::ClonesUnnoticed));
    let begun = world.log.iter().filter(|(_, _, event)| *event == Event::NewIncarnation).count();
    assert!(begun > 20, "L3: they overwrite each other for ever, {begun} times so far");
}

#[test]
fn a_restart_is_not_taken_for_a_second_machine() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, FOUL);
        for _ in 0..6 {
            let victim = world.chance(3) as usize;
            world.crash(victim);
            let down_ms = world.chance(3_000);
            world.run_for(down_ms);
            world.start(victim);
            let up_ms = world.chance(6_000);
            world.run_for(up_ms);
        }
        assert!((0..3).all(|n| world.engine(n).unwrap().report().stopped.is_none()), "seed {seed}");
        let refused = world
            .log
            .iter()
            .find(|(_, _, event)| matches!(event, Event::Refused(..) | Event::SentOtherBytes(..)));
        assert!(refused.is_none(), "seed {seed}: honest members are not refused: {refused:?}");
    }
}
