//! Persons who rename, swap, edit and delete while effects fail, answers are lost and nodes crash: whatever happened,
//! once it is over all nodes are equal, no content is lost, and each file has one name.
#![allow(clippy::unwrap_used)]

use tcat_engine::engine::BrakeLimits;
use tcat_engine::ports::BrakeAnswer;
use tcat_sim::faults::Faults;
use tcat_sim::verdict::{log, rests_for_good};
use tcat_sim::world::{Weather, World};

const FOUL: Weather = Weather { loss_permille: 100, twice_permille: 50, delay_ms_max: 200 };
/// Parked tasks are tried again after five minutes.
const PARKED_MS: u64 = 330_000;
const PATIENCE_MS: u64 = 600_000;
const NEVER: BrakeLimits = BrakeLimits { percent: 100, items: 1_000, window_ms: 10_000 };
/// Three changed files are too many.
const EAGER: BrakeLimits = BrakeLimits { percent: 100, items: 2, window_ms: 20_000 };

fn name(world: &mut World) -> String {
    let (folder, n) = (world.chance(2), world.chance(4));
    format!("album {folder}/{n}.jpg")
}

fn deed(world: &mut World) {
    let n = world.chance(3) as usize;
    let (one, other) = (name(world), name(world));
    match world.chance(7) {
        0 => world.delete(n, &one),
        1 | 2 => {
            let content = world.fresh_content();
            world.save(n, &one, content);
        }
        3 | 4 => {
            // A swap, or a rename where the other is not there.
            world.rename(n, &one, "on its way.jpg");
            world.rename(n, &other, &one);
            world.rename(n, "on its way.jpg", &other);
        }
        5 => {
            world.delete(n, &other);
            world.rename(n, &one, &other);
        }
        _ => world.rename(n, &one, &other),
    }
}

fn story(world: &mut World) {
    for _ in 0..12 {
        deed(world);
        let pause_ms = if world.chance(2) == 0 { 0 } else { world.chance(2_500) };
        world.run_for(pause_ms);
        if world.chance(8) == 0 {
            let n = world.chance(3) as usize;
            let answer = answer(world);
            world.answer_brake(n, answer);
        }
        if world.chance(6) == 0 {
            let victim = world.chance(3) as usize;
            world.crash(victim);
            deed(world);
            let down_ms = world.chance(4_000);
            world.run_for(down_ms);
            world.start(victim);
        }
    }
}

fn answer(world: &mut World) -> BrakeAnswer {
    if world.chance(2) == 0 { BrakeAnswer::Accept } else { BrakeAnswer::Refuse }
}

/// At the end persons answer whatever they are asked.
fn answer_all(world: &mut World) {
    for _ in 0..5 {
        for n in 0..3 {
            if world.engine(n).is_some_and(|engine| engine.report().brake.on) {
                let answer = answer(world);
                world.answer_brake(n, answer);
            }
            // Whether to go back to an earlier content: no, the newest shall come back.
            let report = world.engine(n).map(|engine| engine.report());
            for (item, why) in report.map(|report| report.resting).unwrap_or_default() {
                let path =
                    world.catalog.rows().find(|row| row.item == item).map(|row| row.cache_path.to_string());
                if let Some(path) = path.filter(|_| why.contains("an earlier content of its own history")) {
                    world.delete(n, &path);
                }
            }
        }
        world.run_for(30_000);
    }
}

fn for_seeds(seeds: u64, brake: BrakeLimits, faults: impl Fn(&mut World) -> Faults) {
    let text = std::env::var("TCAT_SEEDS").unwrap_or_default();
    let (from, to) = match text.split_once("..") {
        Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
        None => (0, seeds),
    };
    let mut failed = Vec::new();
    for seed in from..to {
        let mut world = World::new(seed, 3, FOUL);
        world.brake = brake;
        (0..3).for_each(|n| world.crash(n));
        (0..3).for_each(|n| world.start(n));
        for _ in 0..3 {
            world.faults = faults(&mut world);
            story(&mut world);
        }
        world.heal();
        answer_all(&mut world);
        let before = world.inputs;
        world.run_for(PARKED_MS);
        let inputs = world.inputs - before;
        assert!(
            inputs < PARKED_MS / 10,
            "seed {seed}: {inputs} inputs: they go round in circles\n{}",
            log(&world)
        );
        if let Err(why) = rests_for_good(&mut world, PATIENCE_MS) {
            if failed.is_empty() {
                eprintln!("seed {seed}: {why}\n{}", log(&world));
            }
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "failed seeds: {failed:?}");
}

#[test]
fn persons_who_rename_and_swap() {
    for_seeds(5, NEVER, |_| Faults::default());
}

#[test]
fn persons_who_rename_while_effects_fail_and_answers_are_lost() {
    for_seeds(5, NEVER, |world| Faults {
        failed_permille: world.chance(300),
        lost_permille: world.chance(300),
        ..Faults::default()
    });
}

#[test]
fn persons_who_rename_while_looks_take_long_and_others_meddle() {
    for_seeds(5, NEVER, |world| Faults {
        look_ms_max: world.chance(5_000),
        meddled_permille: world.chance(150),
        unmounted: Some(world.chance(6) as usize),
        ..Faults::default()
    });
}

#[test]
fn persons_whose_changes_are_held_accepted_and_refused() {
    for_seeds(5, EAGER, |_| Faults::default());
}

#[test]
fn the_brake_among_faults_of_every_kind() {
    for_seeds(5, EAGER, |world| Faults {
        failed_permille: world.chance(200),
        lost_permille: world.chance(200),
        meddled_permille: world.chance(100),
        look_ms_max: world.chance(3_000),
        ..Faults::default()
    });
}
