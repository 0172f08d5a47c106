//! One thing that goes wrong at a time, and what must come of it.
#![allow(clippy::unwrap_used)]

use tcat_engine::ports::Event;
use tcat_sim::faults::Faults;
use tcat_sim::verdict::{log, rests, rests_for_good};
use tcat_sim::world::{Weather, World, content};

const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
const SLOW: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 900 };
const PATIENCE_MS: u64 = 60_000;

fn demand_rest(world: &mut World) {
    if let Err(why) = rests_for_good(world, PATIENCE_MS) {
        panic!("{why}\n{}", log(world));
    }
}

/// A world at rest with `album/a.jpg` on all nodes.
fn world_with_a_file(seed: u64, nodes: usize) -> World {
    let mut world = World::new(seed, nodes, FAIR);
    world.save(0, "album/a.jpg", content(1));
    rests(&mut world, PATIENCE_MS).unwrap();
    world
}

#[test]
fn a_removed_item_goes_to_trash_everywhere_and_its_name_is_free_again() {
    let mut world = world_with_a_file(1, 3);
    world.crash(2);
    let item = world.catalog.rows().next().unwrap().item;
    world.catalog.remove(&item);
    world.run_for(2_000);
    world.save(0, "album/a.jpg", content(2));
    world.run_for(2_000);
    world.start(2);
    demand_rest(&mut world);
    assert_eq!(world.catalog.rows().count(), 1);
    assert!(world.folder(2).keeps(&content(1)), "what was removed is in trash");
}

#[test]
fn an_edit_of_a_removed_item_becomes_an_item_also_when_the_node_crashes_at_that_moment() {
    for after_ms in (0..900).step_by(7) {
        let mut world = world_with_a_file(after_ms, 2);
        let item = world.catalog.rows().next().unwrap().item;
        world.catalog.remove(&item);
        world.save(1, "album/a.jpg", content(2));
        world.run_for(after_ms);
        world.crash(1);
        world.start(1);
        demand_rest(&mut world);
        assert_eq!(world.catalog.rows().map(|row| row.content).collect::<Vec<_>>(), [content(2)]);
    }
}

#[test]
fn an_item_that_was_removed_before_it_came_here_leaves_its_name_free() {
    let mut world = World::new(4, 2, FAIR);
    world.save(0, "a.jpg", content(1));
    assert!(world.run_until_rested(0, PATIENCE_MS));
    world.faults.full_disk = Some(1);
    world.crash(1);
    world.start(1);
    world.run_for(3_000);
    let item = world.catalog.rows().next().unwrap().item;
    world.catalog.remove(&item);
    world.run_for(3_000);
    world.faults = Faults::default();
    world.save(0, "a.jpg", content(2));
    demand_rest(&mut world);
    assert_eq!(world.catalog.rows().count(), 1);
}

#[test]
fn a_node_that_cannot_download_leaves_it_to_the_others() {
    for full in 1..3 {
        let mut world = World::new(5, 3, FAIR);
        world.crash(1);
        world.crash(2);
        for n in 0..10 {
            world.save(0, &format!("{n}.jpg"), content(n));
        }
        assert!(world.run_until_rested(0, PATIENCE_MS));
        world.crash(0);
        world.faults.full_disk = Some(full);
        world.start(1);
        world.start(2);
        world.run_for(15_000);
        assert_eq!(world.folder(3 - full).contents().len(), 10, "{}", log(&world));
    }
}

#[test]
fn a_holder_that_has_lost_the_file_is_passed_over() {
    let mut world = World::new(6, 2, FAIR);
    world.crash(1);
    world.save(0, "a.jpg", content(1));
    assert!(world.run_until_rested(0, PATIENCE_MS));
    // The next scan is far.
    world.run_for(3_000);
    world.lose(0, "a.jpg");
    world.start(1);
    world.run_for(4_000);
    assert_eq!(world.folder(1).contents().len(), 1, "{}", log(&world));
}

#[test]
fn a_file_that_stands_where_another_is_to_go_gives_way_and_is_no_edit_of_it() {
    let mut met = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, 2, FAIR);
        world.save(0, "a.jpg", content(1));
        world.save(1, "a.jpg", content(2));
        let assigned = |world: &World| world.catalog.rows().any(|row| row.cache_path.as_str() == "a(1).jpg");
        let mut tries = 0;
        while !assigned(&world) && tries < 2_000 {
            world.run_for(1);
            tries += 1;
        }
        met += u32::from(assigned(&world));
        world.save(0, "a(1).jpg", content(3));
        world.save(1, "a(1).jpg", content(4));
        demand_rest(&mut world);
        let rows: Vec<_> =
            world.catalog.rows().map(|row| (&row.cache_path, &row.content, row.chain.len())).collect();
        let contents: std::collections::BTreeSet<_> = rows.iter().map(|(_, content, _)| **content).collect();
        assert_eq!(contents, (1..=4).map(content).collect(), "seed {seed}: {rows:#?}");
        assert!(rows.iter().all(|(_, _, steps)| *steps == 1), "seed {seed}: {rows:#?}\n{}", log(&world));
    }
    assert!(met > 5, "the case was met {met} times");
}

#[test]
fn a_second_file_whose_name_differs_in_case_alone_is_left_alone_and_named() {
    let mut world = world_with_a_file(8, 3);
    world.save(1, "album/A.jpg", content(2));
    for n in 0..3 {
        assert!(world.run_until_rested(n, PATIENCE_MS), "{}", log(&world));
    }
    let named = |event: &Event| matches!(event, Event::Unreadable(path, _) if path.as_str() == "album/A.jpg");
    assert!(world.log.iter().any(|(_, n, event)| *n == 1 && named(event)));
    assert!(world.folder(1).keeps(&content(2)));
    assert_eq!(world.catalog.rows().map(|row| row.content).collect::<Vec<_>>(), [content(1)]);
    world.rename(1, "album/A.jpg", "album/b.jpg");
    demand_rest(&mut world);
    assert_eq!(world.catalog.rows().count(), 2);
}

#[test]
fn rot_is_never_uploaded_also_when_the_node_crashes_at_that_moment() {
    for after_ms in (300..1_000).step_by(20) {
        let mut world = world_with_a_file(after_ms, 2);
        world.rot(0, "album/a.jpg", content(666));
        world.run_for(after_ms);
        world.crash(0);
        world.start(0);
        demand_rest(&mut world);
        let row = world.catalog.rows().find(|row| row.cache_path.as_str() == "album/a.jpg").unwrap();
        assert_eq!(row.content, content(1), "after {after_ms} ms\n{}", log(&world));
    }
}

#[test]
fn who_waits_waits_for_members_that_are_being_greeted() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2, FAIR);
        world.crash(0);
        world.crash(1);
        world.save(1, "a.jpg", content(1));
        world.weather = SLOW;
        world.start(1);
        world.start(0);
        assert!(world.run_until_rested(0, PATIENCE_MS));
        assert_eq!(world.folder(0).contents().len(), 1, "seed {seed}: answered too early\n{}", log(&world));
    }
}

#[test]
fn who_waits_is_not_answered_before_the_catalog_was_read() {
    let mut world = world_with_a_file(10, 2);
    world.faults.catalog_away = true;
    world.run_for(3_000);
    assert!(!world.run_until_rested(0, 20_000));
    world.faults.catalog_away = false;
    demand_rest(&mut world);
}

#[test]
fn what_was_parked_while_the_catalog_was_away_goes_on_when_it_is_back() {
    let mut world = world_with_a_file(11, 2);
    world.faults.catalog_away = true;
    world.save(0, "album/a.jpg", content(2));
    world.save(1, "album/b.jpg", content(3));
    world.run_for(200_000);
    assert!(world.log.iter().any(|(_, _, event)| matches!(event, Event::Parked(..))));
    world.faults.catalog_away = false;
    world.run_for(6_000);
    assert!(world.folder(1).keeps(&content(2)) && world.folder(0).keeps(&content(3)), "{}", log(&world));
    demand_rest(&mut world);
}

#[test]
fn a_file_that_is_deleted_before_it_is_uploaded_keeps_nobody_from_resting() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, FAIR);
        world.save(0, "a.jpg", content(1));
        let after_ms = 300 + world.chance(300);
        world.run_for(after_ms);
        world.delete(0, "a.jpg");
        demand_rest(&mut world);
    }
}

#[test]
fn a_file_where_a_lost_one_was_to_come_is_brought_to_safety() {
    let mut world = World::new(3, 2, FAIR);
    // Creates the row; the object store takes nothing, so the content stays here.
    world.save(0, "a.jpg", content(1));
    while world.catalog.rows().next().is_none() {
        world.run_for(1);
    }
    world.lose(0, "a.jpg");
    world.run_for(2_000);
    world.save(1, "a.jpg", content(2));
    demand_rest(&mut world);
    assert!(world.folder(0).keeps(&content(2)), "{}", log(&world));
}
