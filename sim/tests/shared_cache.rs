//! One cache folder that two nodes share, and a third node with a folder of its own.
#![allow(clippy::unwrap_used)]

use tcat_engine::content::Content;
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::Bug;
use tcat_sim::verdict::{log, rests, rests_for_good};
use tcat_sim::world::{Weather, World, content};

const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
const PATIENCE_MS: u64 = 400_000;
const A: &str = "album/a.jpg";

fn at(world: &World, n: usize, path: &str) -> Option<Content> {
    world.folder(n).content_at(&MediaPath::parse(path).unwrap())
}

/// Nodes 1 and 2 share a folder, node 3 has one of its own; `album/a.jpg` is content 1 everywhere.
fn shared_world(seed: u64, bug: Option<Bug>) -> World {
    let mut world = World::planted(seed, 3, FAIR, bug);
    world.share(0, 1);
    world.save(2, A, content(1));
    if let Err(why) = rests(&mut world, PATIENCE_MS) {
        panic!("{why}\n{}", log(&world));
    }
    world
}

fn demand_rest(world: &mut World) {
    if let Err(why) = rests_for_good(world, PATIENCE_MS) {
        panic!("{why}\n{}", log(world));
    }
}

#[test]
fn one_of_those_who_share_a_cache_brings_a_content_for_all() {
    for seed in 0..5 {
        let mut world = shared_world(seed, None);
        for n in 2..8 {
            world.save(2, &format!("{n}.jpg"), content(n));
        }
        demand_rest(&mut world);
        assert_eq!(world.catalog.rows().count(), 7, "{}", log(&world));
        assert!(world.catalog.rows().all(|row| row.chain.len() == 1), "nothing was taken for an edit");
    }
}

#[test]
fn a_file_saved_in_a_shared_cache_is_one_item_and_one_upload() {
    for seed in 0..5 {
        let mut world = shared_world(seed, None);
        world.save(0, "new.jpg", content(2));
        demand_rest(&mut world);
        world.save(1, A, content(3));
        demand_rest(&mut world);
        assert_eq!(world.catalog.rows().count(), 2, "{}", log(&world));
        assert_eq!(world.catalog.puts_of.get(&content(3)), Some(&1), "{}", log(&world));
    }
}

/// Node 2 does not hear of content 2; then somebody goes on from it in the shared folder.
fn edit_beside_a_lagging_feed(seed: u64, bug: Option<Bug>, saved: u64) -> World {
    let mut world = shared_world(seed, bug);
    world.faults.lagging = Some(1);
    world.run_for(1_000);
    world.save(2, A, content(2));
    world.run_for(4_000);
    assert_eq!(at(&world, 0, A), Some(content(2)), "{}", log(&world));
    // The catalog goes for the other too, so that the lagging one may be the first that it is back for.
    world.faults.catalog_away = true;
    world.save(1, A, content(saved));
    world.run_for(4_000);
    (world.faults.catalog_away, world.faults.lagging) = (false, Some(0));
    world.run_for(10_000);
    world.faults.lagging = None;
    world.run_for(10_000);
    world
}

#[test]
fn an_edit_in_a_shared_cache_is_no_conflict_because_one_feed_lags() {
    for seed in 0..10 {
        let mut world = edit_beside_a_lagging_feed(seed, None, 3);
        demand_rest(&mut world);
        let rows: Vec<_> = world.catalog.rows().map(|row| row.content).collect();
        assert_eq!(rows, [content(3)], "seed {seed}\n{}", log(&world));
    }
}

/// S8: what a person saved last, and nobody saved over, is a file. Also where it is what stood there before.
fn last_save_stands(world: &World) -> bool {
    let files = world.folder(0).contents();
    files.values().any(|held| **held == content(1))
}

#[test]
fn who_goes_back_in_a_shared_cache_is_not_overruled_because_one_feed_lags() {
    for seed in 0..10 {
        let world = edit_beside_a_lagging_feed(seed, None, 1);
        assert!(last_save_stands(&world), "seed {seed}\n{}", log(&world));
    }
}

#[test]
fn the_base_of_a_lagging_client_that_decides_is_found() {
    let caught = (0..100)
        .find(|seed| !last_save_stands(&edit_beside_a_lagging_feed(*seed, Some(Bug::LaggingFeedShared), 1)));
    eprintln!("{} is caught by seed {caught:?}", Bug::LaggingFeedShared.id());
    assert!(caught.is_some());
}

#[test]
fn persons_at_a_shared_cache_lose_nothing_while_nodes_crash_and_feeds_lag() {
    let text = std::env::var("TCAT_SEEDS").unwrap_or_default();
    let seeds = match text.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => 0..10,
    };
    let mut failed = Vec::new();
    for seed in seeds {
        let mut world = shared_world(seed, None);
        for _ in 0..8 {
            world.faults.lagging = [None, Some(0), Some(1), Some(2)][world.chance(4) as usize];
            world.faults.catalog_away = world.chance(4) == 0;
            let (node, path) = (world.chance(3) as usize, format!("album/{}.jpg", world.chance(3)));
            let saved = world.fresh_content();
            world.save(node, &path, saved);
            let pause_ms = world.chance(4_000);
            world.run_for(pause_ms);
            if world.chance(6) == 0 {
                let victim = world.chance(3) as usize;
                world.crash(victim);
                let down_ms = world.chance(4_000);
                world.run_for(down_ms);
                world.start(victim);
            }
        }
        world.heal();
        world.run_for(330_000);
        if let Err(why) = rests_for_good(&mut world, PATIENCE_MS) {
            if failed.is_empty() {
                eprintln!("seed {seed}: {why}\n{}", log(&world));
            }
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "failed seeds: {failed:?}");
}
