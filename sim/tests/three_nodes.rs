//! Three engines on a network that loses, repeats and reorders, with crashes, over many seeds.
#![allow(clippy::unwrap_used)]

use tcat_engine::ports::Event;
use tcat_sim::world::{Weather, World, content};

const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
const FOUL: Weather = Weather { loss_permille: 200, twice_permille: 50, delay_ms_max: 400 };

/// Everything that must be true when nothing is left to do.
fn check(world: &World, seed: u64) {
    let expected: std::collections::BTreeMap<_, _> =
        world.catalog.rows().map(|row| (&row.cache_path, &row.content)).collect();
    for row in world.catalog.rows() {
        assert!(world.catalog.object_is_sound(row), "seed {seed}: {row:?} has no object");
    }
    for n in 0..3 {
        let files = world.folder(n).contents();
        assert_eq!(
            files,
            expected,
            "seed {seed}: node {} is not equal to the catalog\n{}",
            n + 1,
            log(world)
        );
        let ours = world.engine(n).unwrap().report().vector;
        let first = world.engine(0).unwrap().report().vector;
        assert_eq!(ours, first, "seed {seed}: vectors differ");
    }
    for (_, saved) in &world.saved {
        let kept = (0..3).any(|n| world.folder(n).keeps(saved))
            || world.catalog.rows().any(|row| row.chain_holds(saved));
        assert!(kept, "seed {seed}: {saved:?} is lost\n{}", log(world));
    }
}

fn log(world: &World) -> String {
    world.log.iter().map(|(ms, n, event)| format!("{ms} node{} {event:?}\n", n + 1)).collect()
}

fn rest(world: &mut World, seed: u64) {
    for n in 0..3 {
        let began_ms = world.now_ms();
        let rested = world.run_until_rested(n, 600_000);
        assert!(
            rested,
            "seed {seed}: node {} does not come to rest\n{:#?}\n{}",
            n + 1,
            world.engine(n).unwrap().report(),
            log(world)
        );
        eprintln!("seed {seed} node {n} rested after {} ms", world.now_ms() - began_ms);
    }
    check(world, seed);
}

#[test]
fn a_file_saved_on_one_node_is_on_all_and_in_the_cloud() {
    let mut world = World::new(1, 3, FAIR);
    for n in 0..40 {
        world.save(0, &format!("album/{n}.jpg"), content(n));
    }
    rest(&mut world, 1);
    assert_eq!(world.catalog.rows().count(), 40);
    assert!(world.catalog.fetches.is_empty(), "what a member holds is not fetched from the cloud");
    world.save(1, "album/7.jpg", content(700));
    rest(&mut world, 1);
    assert_eq!(world.catalog.rows().count(), 40);
}

#[test]
fn each_content_is_fetched_from_the_cloud_once_when_no_member_holds_it() {
    let mut world = World::new(2, 3, FAIR);
    world.crash(1);
    world.crash(2);
    for n in 0..60 {
        world.save(0, &format!("{n}.jpg"), content(n));
    }
    assert!(world.run_until_rested(0, 600_000));
    world.crash(0);
    world.start(1);
    world.start(2);
    assert!(world.run_until_rested(1, 600_000));
    world.start(0);
    rest(&mut world, 2);
    assert_eq!(world.catalog.fetches.len(), 60);
    assert!(world.catalog.fetches.values().all(|times| *times == 1), "{:?}", world.catalog.fetches);
}

#[test]
fn a_deleted_file_comes_back_from_the_other_nodes() {
    let mut world = World::new(3, 3, FAIR);
    world.save(0, "a.jpg", content(1));
    rest(&mut world, 3);
    world.delete(1, "a.jpg");
    world.run_for(2_000);
    rest(&mut world, 3);
    assert!(
        world.log.iter().any(|(_, n, event)| *n == 1 && matches!(event, Event::Restored(..))),
        "{}",
        log(&world)
    );
}

#[test]
fn one_name_for_two_files_gives_both_a_place() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, FAIR);
        world.save(0, "a.jpg", content(1));
        world.save(1, "a.jpg", content(2));
        world.save(2, "A.JPG", content(2));
        rest(&mut world, seed);
        assert_eq!(world.catalog.rows().count(), 3 - usize::from(world.catalog.rows().count() == 2));
    }
}

#[test]
fn two_edits_at_once_are_both_kept_under_the_same_names_everywhere() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, FAIR);
        world.save(0, "a.jpg", content(1));
        rest(&mut world, seed);
        world.save(1, "a.jpg", content(11));
        world.save(2, "a.jpg", content(12));
        rest(&mut world, seed);
        let contents: std::collections::BTreeSet<_> = world.catalog.rows().map(|row| row.content).collect();
        assert!(contents.contains(&content(11)) && contents.contains(&content(12)), "{}", log(&world));
    }
}

#[test]
fn engines_converge_through_loss_reordering_and_crashes() {
    for seed in 0..60 {
        let mut world = World::new(seed, 3, FOUL);
        for next in 1..=12 {
            let (node, path) = (world.chance(3) as usize, world.chance(5));
            world.save(node, &format!("album/{path}.jpg"), content(next));
            let pause_ms = world.chance(3_000);
            world.run_for(pause_ms);
            if world.chance(4) == 0 {
                let victim = world.chance(3) as usize;
                world.crash(victim);
                let down_ms = world.chance(4_000);
                world.run_for(down_ms);
                world.start(victim);
            }
        }
        rest(&mut world, seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = World::new(seed, 3, FOUL);
        for n in 0..6 {
            world.save(n as usize % 3, &format!("{}.jpg", n % 4), content(n));
            world.run_for(700);
        }
        world.run_for(30_000);
        log(&world)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
