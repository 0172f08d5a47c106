//! Edits that go from member to member while the catalog is away, and what becomes of them when it is back.
#![allow(clippy::unwrap_used)]

use tcat_engine::content::Content;
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::Bug;
use tcat_engine::ports::Event;
use tcat_sim::faults::split;
use tcat_sim::verdict::{log, rests, rests_for_good};
use tcat_sim::world::{Weather, World, content};

const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
const PATIENCE_MS: u64 = 400_000;
const A: &str = "album/a.jpg";

fn demand_rest(world: &mut World) {
    if let Err(why) = rests_for_good(world, PATIENCE_MS) {
        panic!("{why}\n{}", log(world));
    }
}

fn at(world: &World, n: usize, path: &str) -> Option<Content> {
    world.folder(n).content_at(&MediaPath::parse(path).unwrap())
}

/// A world at rest with `album/a.jpg` as content 1 on all nodes, whose catalog then goes away.
fn world_without_catalog(seed: u64, nodes: usize) -> World {
    let mut world = World::new(seed, nodes, FAIR);
    world.save(0, A, content(1));
    rests(&mut world, PATIENCE_MS).unwrap();
    world.faults.catalog_away = true;
    world.run_for(2_000);
    world
}

fn chain(world: &World, path: &str) -> Vec<Content> {
    let row = world.catalog.rows().find(|row| row.cache_path.as_str() == path).unwrap();
    row.chain.iter().map(|link| link.content).collect()
}

fn demand_everywhere(world: &World, path: &str, n: u64) {
    for node in 0..world.len() {
        assert_eq!(at(world, node, path), Some(content(n)), "node {}\n{}", node + 1, log(world));
    }
}

#[test]
fn an_edit_reaches_the_others_while_the_catalog_is_away_and_one_of_them_commits_it() {
    let mut world = world_without_catalog(1, 4);
    world.save(2, A, content(2));
    world.run_for(5_000);
    demand_everywhere(&world, A, 2);
    world.faults.catalog_away = false;
    demand_rest(&mut world);
    assert_eq!(chain(&world, A), [1, 2].map(content));
    assert_eq!(world.catalog.puts_of.get(&content(2)), Some(&1), "one of the holders uploads");
    assert!(world.catalog.fetches.is_empty());
}

#[test]
fn an_edit_that_was_saved_before_the_catalog_went_is_taken_once_it_is_gone() {
    let mut world = World::new(2, 3, FAIR);
    world.save(0, A, content(1));
    rests(&mut world, PATIENCE_MS).unwrap();
    world.faults.catalog_away = true;
    // Nobody has noticed yet.
    world.save(2, A, content(2));
    world.run_for(15_000);
    demand_everywhere(&world, A, 2);
}

#[test]
fn an_edit_of_an_edit_goes_back_to_its_first_author_and_the_whole_line_is_committed() {
    let mut world = world_without_catalog(3, 3);
    for (node, n) in [(0, 2), (1, 3), (2, 4), (0, 5)] {
        world.save(node, A, content(n));
        world.run_for(8_000);
        demand_everywhere(&world, A, n);
    }
    world.faults.catalog_away = false;
    demand_rest(&mut world);
    assert_eq!(chain(&world, A), [1, 2, 3, 4, 5].map(content));
    assert_eq!(world.catalog.rows().count(), 1, "no conflict came of it");
}

#[test]
fn any_holder_commits_an_edit_whose_author_is_gone() {
    let mut world = world_without_catalog(4, 3);
    world.save(0, A, content(2));
    world.run_for(5_000);
    world.crash(0);
    world.run_for(5_000);
    world.faults.catalog_away = false;
    world.run_for(20_000);
    assert_eq!(chain(&world, A), [1, 2].map(content), "{}", log(&world));
    assert_eq!(world.catalog.puts_of.get(&content(2)), Some(&1), "one of the holders uploads");
    world.start(0);
    demand_rest(&mut world);
}

#[test]
fn crossing_edits_stay_where_they_are_until_the_catalog_decides() {
    for seed in 0..5 {
        let mut world = world_without_catalog(seed, 4);
        world.save(0, A, content(2));
        world.save(1, A, content(3));
        world.run_for(20_000);
        assert_eq!(at(&world, 0, A), Some(content(2)), "seed {seed}\n{}", log(&world));
        // Where the file was saved in the moment of taking, it was kept beside.
        let here = world.folder(1).contents().values().any(|held| **held == content(3));
        assert!(here, "seed {seed}\n{}", log(&world));
        world.faults.catalog_away = false;
        demand_rest(&mut world);
        let contents: Vec<_> = world.catalog.rows().map(|row| row.content).collect();
        assert!(contents.contains(&content(2)) && contents.contains(&content(3)), "{contents:?}");
        assert_eq!(contents.len(), 2, "many holders made one version item\n{}", log(&world));
    }
}

#[test]
fn an_edit_that_loses_is_one_version_however_many_hold_it() {
    for after_ms in (0..2_400).step_by(40) {
        let mut world = world_without_catalog(after_ms, 4);
        [0, 2, 3].into_iter().for_each(|n| world.part(1, n));
        world.save(0, A, content(2));
        world.save(1, A, content(3));
        world.run_for(12_000);
        assert_eq!([0, 2, 3].map(|n| at(&world, n, A)), [Some(content(2)); 3]);
        [0, 2, 3].into_iter().for_each(|n| world.crash(n));
        world.faults.catalog_away = false;
        world.run_for(20_000);
        assert_eq!(chain(&world, A), [1, 3].map(content), "the one that nobody shares is committed first");
        // Of the three that hold the other, one comes a little before the rest.
        world.start(0);
        world.run_for(after_ms);
        world.crash(1);
        world.heal();
        demand_rest(&mut world);
        let files = world.folder(3).contents();
        assert_eq!(files.len(), 2, "after {after_ms} ms: {files:?}\n{}", log(&world));
    }
}

#[test]
fn a_line_that_grew_while_its_prefix_travelled_takes_the_place_of_the_prefix() {
    for seed in 0..5 {
        let mut world = world_without_catalog(seed, 3);
        world.weather = Weather { loss_permille: 100, twice_permille: 50, delay_ms_max: 900 };
        world.save(0, A, content(2));
        let pause_ms = 300 + world.chance(2_500);
        world.run_for(pause_ms);
        world.save(0, A, content(3));
        world.run_for(30_000);
        demand_everywhere(&world, A, 3);
        world.heal();
        demand_rest(&mut world);
        assert_eq!(chain(&world, A), [1, 2, 3].map(content), "seed {seed}");
        assert_eq!(world.catalog.rows().count(), 1, "seed {seed}");
    }
}

#[test]
fn an_edit_that_was_taken_and_undone_stays_undone() {
    for seed in 0..5 {
        let mut world = world_without_catalog(seed, 3);
        world.save(0, A, content(2));
        world.run_for(300 + seed * 100);
        world.save(0, A, content(1));
        world.run_for(20_000);
        demand_everywhere(&world, A, 1);
        world.faults.catalog_away = false;
        demand_rest(&mut world);
        demand_everywhere(&world, A, 1);
    }
}

#[test]
fn a_new_file_reaches_the_others_while_the_catalog_is_away() {
    let mut world = world_without_catalog(5, 3);
    world.save(1, "album/new.jpg", content(7));
    world.run_for(8_000);
    demand_everywhere(&world, "album/new.jpg", 7);
    world.save(2, "album/new.jpg", content(8));
    world.run_for(8_000);
    demand_everywhere(&world, "album/new.jpg", 8);
    world.faults.catalog_away = false;
    demand_rest(&mut world);
    demand_everywhere(&world, "album/new.jpg", 8);
    assert_eq!(world.catalog.rows().count(), 2, "{}", log(&world));
}

#[test]
fn a_new_file_reaches_a_member_that_was_restarted_while_the_catalog_is_away() {
    let mut world = world_without_catalog(7, 3);
    world.crash(0);
    world.start(0);
    world.run_for(2_000);
    world.save(1, "album/new.jpg", content(7));
    world.run_for(8_000);
    demand_everywhere(&world, "album/new.jpg", 7);
    world.crash(2);
    world.start(2);
    world.save(0, "album/new.jpg", content(8));
    world.run_for(8_000);
    demand_everywhere(&world, "album/new.jpg", 8);
    world.faults.catalog_away = false;
    demand_rest(&mut world);
    demand_everywhere(&world, "album/new.jpg", 8);
    assert_eq!(chain(&world, "album/new.jpg"), [7, 8].map(content), "{}", log(&world));
}

#[test]
fn a_new_file_reaches_members_that_have_never_read_the_catalog() {
    let mut world = World::new(8, 3, FAIR);
    world.faults.catalog_away = true;
    world.run_for(2_000);
    world.save(1, "album/new.jpg", content(7));
    world.run_for(8_000);
    demand_everywhere(&world, "album/new.jpg", 7);
    world.faults.catalog_away = false;
    demand_rest(&mut world);
    demand_everywhere(&world, "album/new.jpg", 7);
    assert_eq!(world.catalog.rows().count(), 1, "{}", log(&world));
}

#[test]
fn two_new_files_that_want_one_name_while_the_catalog_is_away_both_get_one() {
    for seed in 0..5 {
        let mut world = world_without_catalog(seed, 4);
        world.save(0, "new.jpg", content(7));
        world.save(1, "new.jpg", content(8));
        world.run_for(15_000);
        assert_eq!(at(&world, 0, "new.jpg"), Some(content(7)));
        assert_eq!(at(&world, 1, "new.jpg"), Some(content(8)));
        world.faults.catalog_away = false;
        demand_rest(&mut world);
        assert_eq!(world.catalog.rows().count(), 3, "seed {seed}\n{}", log(&world));
    }
}

#[test]
fn what_nobody_wrote_does_not_travel() {
    let mut world = world_without_catalog(6, 3);
    world.rot(0, A, content(666));
    world.run_for(20_000);
    for node in 0..3 {
        assert_ne!(at(&world, node, A), Some(content(666)), "node {}\n{}", node + 1, log(&world));
    }
    world.faults.catalog_away = false;
    demand_rest(&mut world);
    assert_eq!(chain(&world, A), [content(1)]);
}

#[test]
fn a_crash_at_any_moment_of_taking_makes_no_edit_of_it() {
    for after_ms in (0..1_600).step_by(50) {
        let mut world = world_without_catalog(after_ms, 2);
        world.save(0, A, content(2));
        world.run_for(after_ms);
        world.crash(1);
        world.run_for(500);
        world.start(1);
        world.run_for(10_000);
        world.save(0, A, content(3));
        world.run_for(10_000);
        demand_everywhere(&world, A, 3);
        world.heal();
        demand_rest(&mut world);
        assert_eq!(chain(&world, A), [1, 2, 3].map(content), "after {after_ms} ms\n{}", log(&world));
        assert_eq!(world.catalog.rows().count(), 1, "after {after_ms} ms");
    }
}

#[test]
fn a_save_over_an_edit_that_is_being_taken_is_kept() {
    let mut kept = 0;
    for after_ms in (300..1_300).step_by(30) {
        let mut world = world_without_catalog(after_ms, 2);
        world.save(0, A, content(2));
        world.run_for(after_ms);
        let there = at(&world, 1, A).unwrap();
        world.save(1, A, content(3));
        world.run_for(10_000);
        world.faults.catalog_away = false;
        demand_rest(&mut world);
        let known = |n| world.catalog.knows(&content(n));
        assert!(known(2) && known(3), "after {after_ms} ms\n{}", log(&world));
        kept += u32::from(there == content(1));
    }
    assert!(kept > 5, "the case was met {kept} times");
}

#[test]
fn a_node_that_reaches_the_catalog_does_not_take_what_is_not_committed() {
    let mut world = World::new(8, 3, FAIR);
    world.save(0, A, content(1));
    rests(&mut world, PATIENCE_MS).unwrap();
    world.save(0, A, content(2));
    demand_rest(&mut world);
    assert!(!world.log.iter().any(|(_, _, event)| matches!(event, Event::CatalogAway(_))));
    assert_eq!(chain(&world, A), [1, 2].map(content));
}

/// Some persons work on a few files while catalog, network and nodes come and go; then all is well again. What nobody
/// saved over must be in a file or in the catalog's chains: that it lies in a trash does not count.
fn editors_without_catalog(seed: u64, bug: Option<Bug>) -> Result<(), String> {
    let mut world = World::planted(seed, 3, FAIR, bug);
    for n in 0..2 {
        world.save(n, &format!("album/{n}.jpg"), content(n as u64 + 1));
    }
    rests(&mut world, PATIENCE_MS)?;
    if world.chance(2) == 0 {
        world.weather = Weather { loss_permille: 100, twice_permille: 50, delay_ms_max: 600 };
    }
    let mut alive: Vec<Content> = Vec::new();
    for _ in 0..10 {
        world.faults.catalog_away = world.chance(6) > 0;
        let (node, path) = (world.chance(3) as usize, format!("album/{}.jpg", world.chance(3)));
        let (overwritten, saved) = (at(&world, node, &path), world.fresh_content());
        alive.retain(|kept| Some(*kept) != overwritten);
        world.save(node, &path, saved);
        alive.push(saved);
        let pause_ms = world.chance(4_000);
        world.run_for(pause_ms);
        let victim = world.chance(3) as usize;
        match world.chance(8) {
            0 => {
                world.crash(victim);
                let down_ms = world.chance(4_000);
                world.run_for(down_ms);
                world.start(victim);
            }
            1 => world.cuts = split(&[victim], &[(victim + 1) % 3, (victim + 2) % 3]),
            2 => world.cuts = [].into(),
            _ => {}
        }
    }
    world.heal();
    world.run_for(330_000);
    rests_for_good(&mut world, PATIENCE_MS)?;
    for saved in alive {
        let held = (0..3).any(|n| world.folder(n).contents().values().any(|held| **held == saved));
        if !held && !world.catalog.knows(&saved) {
            return Err(format!("S8: {saved:?} is no file and in no chain\n{}", log(&world)));
        }
    }
    Ok(())
}

/// The seeds to run: `TCAT_SEEDS=A..B`, or so many.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let text = std::env::var("TCAT_SEEDS").unwrap_or_default();
    match text.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => 0..count,
    }
}

#[test]
fn several_editors_while_the_catalog_comes_and_goes_lose_nothing() {
    let failed: Vec<_> =
        seeds(20).filter_map(|seed| Some((seed, editors_without_catalog(seed, None).err()?))).collect();
    let numbers: Vec<_> = failed.iter().map(|(seed, _)| seed).collect();
    assert!(failed.is_empty(), "seeds {numbers:?}; the first: {}", failed[0].1);
}

/// The first seed that catches a bug, by the invariant that is named for it.
fn caught(bug: Bug) -> Option<u64> {
    let by_name = |why: String| why.contains(&format!("{}: ", bug.invariant()));
    let found = (0..300).find(|seed| editors_without_catalog(*seed, Some(bug)).err().is_some_and(by_name));
    eprintln!("{} is caught by seed {found:?}", bug.id());
    found
}

#[test]
fn an_edit_taken_over_another_edit_is_found() {
    assert!(caught(Bug::CrossedEdits).is_some());
}

#[test]
fn a_prefix_that_replaces_a_longer_line_is_found() {
    assert!(caught(Bug::PrefixOverLine).is_some());
}
