//! Engines among faults of every kind: whatever happened, once it is over all nodes are equal and nothing is lost.
#![allow(clippy::unwrap_used)]

use tcat_sim::faults::{Faults, split};
use tcat_sim::verdict::{log, rests, rests_for_good};
use tcat_sim::world::{Weather, World, content};

const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
const FOUL: Weather = Weather { loss_permille: 200, twice_permille: 50, delay_ms_max: 400 };
/// Parked tasks are tried again after five minutes.
const PARKED_MS: u64 = 330_000;
const PATIENCE_MS: u64 = 600_000;

/// Runs a story in a world for each of so many seeds (or those of `TCAT_SEEDS=A..B`), then demands rest.
fn for_seeds(seeds: u64, weather: Weather, story: impl Fn(&mut World)) {
    let text = std::env::var("TCAT_SEEDS").unwrap_or_default();
    let (from, to) = match text.split_once("..") {
        Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
        None => (0, seeds),
    };
    let mut failed = Vec::new();
    for seed in from..to {
        let mut world = World::new(seed, 3, weather);
        story(&mut world);
        world.heal();
        let before = world.inputs;
        world.run_for(PARKED_MS);
        // Nodes that go round in circles take thousands a second.
        let inputs = world.inputs - before;
        assert!(inputs < PARKED_MS / 10, "seed {seed}: {inputs} inputs\n{}", log(&world));
        if let Err(why) = rests_for_good(&mut world, PATIENCE_MS) {
            if failed.is_empty() {
                eprintln!("seed {seed}: {why}\n{}", log(&world));
            }
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "failed seeds: {failed:?}");
}

/// Some persons work on a few files for a while.
fn people_work(world: &mut World, deeds: u64) {
    for _ in 0..deeds {
        let (node, path) = (world.chance(3) as usize, format!("album/{}.jpg", world.chance(4)));
        match world.chance(3) {
            0 => world.meddle(node, &path),
            _ => {
                let content = world.fresh_content();
                world.save(node, &path, content);
            }
        }
        let pause_ms = world.chance(2_500);
        world.run_for(pause_ms);
    }
}

/// The same, and nodes crash in between.
fn people_work_and_nodes_crash(world: &mut World, deeds: u64) {
    for _ in 0..deeds {
        people_work(world, 1);
        if world.chance(4) == 0 {
            let victim = world.chance(3) as usize;
            world.crash(victim);
            let down_ms = world.chance(4_000);
            world.run_for(down_ms);
            world.start(victim);
        }
    }
}

#[test]
fn persons_who_save_delete_and_rename() {
    for_seeds(10, FAIR, |world| people_work(world, 10));
}

#[test]
fn persons_at_a_file_in_the_moment_of_every_effect() {
    for_seeds(10, FAIR, |world| {
        world.faults = Faults { meddled_permille: 200, ..Faults::default() };
        people_work(world, 8);
    });
}

#[test]
fn effects_that_fail() {
    for_seeds(10, FAIR, |world| {
        world.faults = Faults { failed_permille: 300, ..Faults::default() };
        people_work_and_nodes_crash(world, 8);
    });
}

#[test]
fn answers_that_are_lost() {
    for_seeds(10, FAIR, |world| {
        world.faults = Faults { lost_permille: 300, ..Faults::default() };
        people_work_and_nodes_crash(world, 8);
    });
}

#[test]
fn looks_at_files_that_take_long() {
    for_seeds(10, FAIR, |world| {
        world.faults = Faults { look_ms_max: 6_000, meddled_permille: 50, ..Faults::default() };
        people_work(world, 10);
        // A question must be answered while looks still take long.
        world.faults.meddled_permille = 0;
        let asked = world.chance(3) as usize;
        assert!(world.run_until_rested(asked, PATIENCE_MS), "{:#?}", world.engine(asked).unwrap().report());
    });
}

#[test]
fn a_catalog_that_is_away_for_a_while() {
    for_seeds(10, FAIR, |world| {
        people_work(world, 3);
        world.faults.catalog_away = true;
        people_work_and_nodes_crash(world, 5);
        let away_ms = world.chance(200_000);
        world.run_for(away_ms);
        world.faults.catalog_away = false;
        people_work(world, 2);
    });
}

#[test]
fn a_disk_that_is_full() {
    for_seeds(10, FAIR, |world| {
        world.faults.full_disk = Some(world.chance(3) as usize);
        people_work(world, 8);
        let full_ms = world.chance(200_000);
        world.run_for(full_ms);
    });
}

#[test]
fn networks_that_are_split_also_one_way() {
    for_seeds(10, FOUL, |world| {
        for _ in 0..5 {
            let (a, b) = (world.chance(3) as usize, world.chance(3) as usize);
            world.cuts = match world.chance(3) {
                0 => [(a, b)].into(),
                1 => split(&[a], &[(a + 1) % 3, (a + 2) % 3]),
                _ => [].into(),
            };
            people_work_and_nodes_crash(world, 3);
        }
    });
}

#[test]
fn items_that_are_removed() {
    for_seeds(10, FAIR, |world| {
        for _ in 0..6 {
            people_work_and_nodes_crash(world, 3);
            let items: Vec<_> = world.catalog.rows().map(|row| row.item).collect();
            if let Some(item) = items.get(world.chance(items.len() as u64) as usize) {
                world.catalog.remove(item);
            }
        }
    });
}

#[test]
fn everything_at_once() {
    for_seeds(16, FOUL, |world| {
        for _ in 0..4 {
            world.faults = Faults {
                failed_permille: world.chance(200),
                lost_permille: world.chance(200),
                meddled_permille: world.chance(100),
                look_ms_max: world.chance(5_000),
                catalog_away: world.chance(5) == 0,
                full_disk: Some(world.chance(9) as usize),
                lagging: None,
            };
            let (a, b) = (world.chance(3) as usize, world.chance(3) as usize);
            world.cuts = if world.chance(3) == 0 { [(a, b)].into() } else { [].into() };
            people_work_and_nodes_crash(world, 4);
            let items: Vec<_> = world.catalog.rows().map(|row| row.item).collect();
            if let (0, Some(item)) = (world.chance(3), items.first()) {
                world.catalog.remove(item);
            }
        }
    });
}

#[test]
fn a_world_at_rest_stays_so() {
    let mut world = World::new(7, 3, FAIR);
    for n in 0..30 {
        world.save(n as usize % 3, &format!("{n}.jpg"), content(n));
    }
    rests(&mut world, PATIENCE_MS).unwrap();
    rests_for_good(&mut world, PATIENCE_MS).unwrap();
}
