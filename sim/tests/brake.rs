//! A burst of changes that no person can have meant is held until a person has answered.
#![allow(clippy::unwrap_used)]

use tcat_engine::engine::{BrakeLimits, BrakeReport};
use tcat_engine::planted::Bug;
use tcat_engine::ports::{BrakeAnswer, Event};
use tcat_sim::verdict::{log, rests, rests_for_good};
use tcat_sim::world::{Weather, World, content};

const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
const PATIENCE_MS: u64 = 120_000;
const FILES: u64 = 60;
/// 30 of a hundred of 60 files, and the one that is too much.
const TOO_MANY: u64 = 19;

/// A world at rest with 60 files on three nodes, each of which asks after 30 %.
fn world_with_files(seed: u64, bug: Option<Bug>) -> World {
    let mut world = World::planted(seed, 3, FAIR, bug);
    world.brake = BrakeLimits::default();
    (0..3).for_each(|n| world.crash(n));
    (0..3).for_each(|n| world.start(n));
    for n in 0..FILES {
        world.save(0, &path(n), content(n + 1));
    }
    rests(&mut world, PATIENCE_MS).unwrap();
    world
}

fn path(n: u64) -> String {
    format!("album/{n}.jpg")
}

fn held(world: &World, n: usize) -> BrakeReport {
    world.engine(n).unwrap().report().brake
}

/// How many of the files that there were stand on a node as they were.
fn intact(world: &World, n: usize) -> u64 {
    let files = world.folder(n).contents();
    let stands = |n: &u64| {
        files.iter().any(|(path, held)| path.as_str() == self::path(*n) && **held == content(n + 1))
    };
    (0..FILES).filter(stands).count() as u64
}

/// A program takes the files of node 2 hostage, one after the other: each is rewritten and gets another extension.
fn take_hostage(world: &mut World, pause_ms: u64) {
    for n in 0..FILES {
        world.save(1, &path(n), content(1_000 + n));
        world.run_for(pause_ms);
        world.rename(1, &path(n), &format!("{}.locked", path(n)));
    }
}

#[test]
fn files_taken_hostage_are_held_and_come_back_when_refused() {
    for (seed, pause_ms) in [(1, 50), (2, 400), (3, 1_500), (4, 4_000)] {
        let mut world = world_with_files(seed, None);
        take_hostage(&mut world, pause_ms);
        world.run_for(60_000);
        assert!(held(&world, 1).on, "{}", log(&world));
        for other in [0, 2] {
            let intact = intact(&world, other);
            assert!(
                intact >= FILES - TOO_MANY - 1,
                "seed {seed}: {intact} intact on {other}\n{}",
                log(&world)
            );
        }
        let asks = world.log.iter().filter(|(_, _, event)| matches!(event, Event::BrakeOn(_))).count();
        assert_eq!(asks, 1, "asked once\n{}", log(&world));
        // What it holds outlives a crash.
        let before = held(&world, 1);
        world.crash(1);
        world.start(1);
        world.run_for(30_000);
        let after = held(&world, 1);
        let items = |report: &BrakeReport| report.deleted + report.rewritten + report.renamed;
        assert_eq!((after.on, items(&after)), (true, items(&before)), "seed {seed}\n{}", log(&world));
        world.answer_brake(1, BrakeAnswer::Refuse);
        world.run_for(PATIENCE_MS);
        rests_for_good(&mut world, PATIENCE_MS)
            .unwrap_or_else(|why| panic!("seed {seed}: {why}\n{}", log(&world)));
        for n in 0..3 {
            assert_eq!(intact(&world, n), FILES, "seed {seed}, node {n}\n{}", log(&world));
        }
        assert_eq!(held(&world, 1), BrakeReport::default());
    }
}

#[test]
fn accepted_changes_go_on() {
    let mut world = world_with_files(5, None);
    for n in 0..FILES {
        world.save(1, &path(n), content(1_000 + n));
    }
    world.run_for(20_000);
    assert!(held(&world, 1).on);
    assert!(intact(&world, 0) >= FILES - TOO_MANY, "{}", log(&world));
    world.answer_brake(1, BrakeAnswer::Accept);
    rests_for_good(&mut world, PATIENCE_MS).unwrap();
    assert_eq!(intact(&world, 0), 0);
    // What a person has just said to be meant is not asked again.
    for n in 0..FILES {
        world.save(1, &path(n), content(2_000 + n));
    }
    world.run_for(20_000);
    assert!(!held(&world, 1).on);
}

#[test]
fn deleted_files_are_held_and_then_restored() {
    for answer in [BrakeAnswer::Accept, BrakeAnswer::Refuse] {
        let mut world = world_with_files(6, None);
        for n in 0..FILES / 2 {
            world.delete(2, &path(n));
        }
        world.run_for(20_000);
        assert_eq!(held(&world, 2).deleted, FILES / 2, "{}", log(&world));
        // Those before the one that was too much were restored at once.
        assert!(intact(&world, 2) < FILES / 2 + TOO_MANY, "{}", log(&world));
        world.answer_brake(2, answer);
        rests_for_good(&mut world, PATIENCE_MS).unwrap();
        assert_eq!(intact(&world, 2), FILES);
    }
}

#[test]
fn downloads_and_serving_go_on_while_the_brake_is_on() {
    let mut world = world_with_files(7, None);
    for n in 0..FILES / 2 {
        world.save(1, &path(n), content(1_000 + n));
    }
    world.run_for(20_000);
    assert!(held(&world, 1).on);
    world.save(0, &path(FILES - 1), content(5_000));
    world.save(0, "album/new.jpg", content(5_001));
    world.run_for(20_000);
    assert!(
        world.folder(1).keeps(&content(5_000)) && world.folder(1).keeps(&content(5_001)),
        "{}",
        log(&world)
    );
    // New files of its own wait for the answer.
    world.save(1, "album/own.jpg", content(5_002));
    world.run_for(20_000);
    assert!(!world.catalog.knows(&content(5_002)));
    assert_eq!(held(&world, 1).imports, 1);
    world.answer_brake(1, BrakeAnswer::Refuse);
    rests_for_good(&mut world, PATIENCE_MS).unwrap();
    assert!(world.catalog.knows(&content(5_002)));
}

#[test]
fn a_folder_that_is_renamed_and_files_that_come_are_no_burst() {
    let mut world = world_with_files(8, None);
    for n in 0..FILES {
        world.rename(1, &path(n), &format!("Summer/{n}.jpg"));
        world.save(1, &format!("more/{n}.jpg"), content(3_000 + n));
    }
    rests_for_good(&mut world, PATIENCE_MS).unwrap();
    assert!(!held(&world, 1).on, "{}", log(&world));
}

#[test]
fn changes_that_are_spread_over_time_are_no_burst() {
    let mut world = world_with_files(10, None);
    world.brake.window_ms = 10_000;
    world.crash(1);
    world.start(1);
    for n in 0..FILES {
        world.save(1, &path(n), content(1_000 + n));
        world.run_for(1_500);
        if n % 20 == 0 {
            world.crash(1);
            world.start(1);
        }
    }
    rests_for_good(&mut world, PATIENCE_MS).unwrap();
    assert_eq!(held(&world, 1), BrakeReport::default());
    assert_eq!(intact(&world, 0), 0);
}

#[test]
fn s8_catches_an_engine_without_a_brake() {
    let harm = |bug| {
        let mut world = world_with_files(9, bug);
        take_hostage(&mut world, 400);
        world.run_for(60_000);
        FILES - intact(&world, 0)
    };
    assert!(harm(None) <= TOO_MANY + 1);
    assert!(harm(Some(Bug::NoBrake)) > TOO_MANY + 1);
}
