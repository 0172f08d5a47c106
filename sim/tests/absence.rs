//! What is not there, what rots, and what is not to be uploaded.
#![allow(clippy::unwrap_used)]

use tcat_engine::content::Content;
use tcat_engine::planted::Bug;
use tcat_engine::ports::Event;
use tcat_sim::verdict::{log, rests, rests_for_good};
use tcat_sim::world::{Weather, World, content};

const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
const PATIENCE_MS: u64 = 60_000;

fn demand_rest(world: &mut World) {
    if let Err(why) = rests_for_good(world, PATIENCE_MS) {
        panic!("{why}\n{}", log(world));
    }
}

fn world_with_files(seed: u64, files: u64, bug: Option<Bug>) -> World {
    let mut world = World::planted(seed, 3, FAIR, bug);
    for n in 0..files {
        world.save(0, &format!("album/{n}.jpg"), content(n + 1));
    }
    rests(&mut world, PATIENCE_MS).unwrap();
    world
}

/// Of how many items the node says that it holds them.
fn held(world: &World, n: usize) -> usize {
    let engine = world.engine(n).unwrap();
    let me = tcat_engine::ids::ClientId([n as u8 + 1; 32]);
    let holds = |item| {
        let report = engine.item_report(item).unwrap();
        report.entries.iter().any(|entry| entry.owner() == me && entry.entry.held_content().is_some())
    };
    world.catalog.rows().filter(|row| holds(&row.item)).count()
}

/// A node's disk is not mounted for a while, also over a restart; how many items it gave up that nobody deleted.
fn given_up_while_unmounted(seed: u64, bug: Option<Bug>) -> usize {
    let mut world = world_with_files(seed, 12, bug);
    world.faults.unmounted = Some(1);
    world.run_for(60_000);
    let first = held(&world, 1);
    world.crash(1);
    world.start(1);
    world.run_for(60_000);
    let second = held(&world, 1);
    world.faults.unmounted = None;
    if bug.is_none() {
        demand_rest(&mut world);
        let told = |event: &Event| matches!(event, Event::Restored(..) | Event::Trashed(..));
        assert!(!world.log.iter().any(|(_, _, event)| told(event)), "{}", log(&world));
        assert!(world.catalog.rows().all(|row| row.chain.len() == 1));
    }
    12 - first.min(second)
}

#[test]
fn s10_a_disk_that_is_not_mounted_is_no_deletion() {
    for seed in 0..5 {
        assert_eq!(given_up_while_unmounted(seed, None), 0);
    }
    assert!((0..5).all(|seed| given_up_while_unmounted(seed, Some(Bug::UnmountIsDeletion)) > 0));
}

#[test]
fn a_deleted_file_comes_back_with_one_line_after_a_full_scan() {
    let mut world = world_with_files(1, 3, None);
    world.delete(1, "album/1.jpg");
    demand_rest(&mut world);
    let told = |event: &Event| matches!(event, Event::Restored(..));
    assert_eq!(world.log.iter().filter(|(_, n, event)| *n == 1 && told(event)).count(), 1, "{}", log(&world));
    assert_eq!(world.catalog.rows().count(), 3);
}

#[test]
fn a_rotten_file_is_kept_as_a_version_and_healed_from_a_member() {
    for seed in 0..10 {
        let mut world = world_with_files(seed, 2, None);
        let fetches: u32 = world.catalog.fetches.values().sum();
        world.rot(2, "album/0.jpg", content(666));
        demand_rest(&mut world);
        let row = world.catalog.row_at("album/0.jpg").unwrap();
        assert_eq!((row.content, row.chain.len()), (content(1), 1), "{}", log(&world));
        let kept = world.catalog.row_at("album/0 (node3 1).jpg").unwrap();
        assert_eq!((kept.content, kept.version_of), (content(666), Some(row.item)));
        assert_eq!(world.catalog.fetches.values().sum::<u32>(), fetches, "healed without the cloud");
    }
}

#[test]
fn a_persons_edit_that_keeps_size_and_modification_time_is_no_rot() {
    let mut world = world_with_files(3, 1, None);
    let edited = Content { size: content(1).size, ..content(777) };
    world.edit_keeping_mtime(1, "album/0.jpg", edited);
    demand_rest(&mut world);
    let row = world.catalog.row_at("album/0.jpg").unwrap();
    assert_eq!((row.content, row.chain.len()), (edited, 2), "{}", log(&world));
    assert_eq!(world.catalog.rows().count(), 1);
}

/// Two persons save two files under one name, and nobody deletes or edits anything; how many files went to trash.
fn trashed_without_a_person(seed: u64, bug: Option<Bug>) -> usize {
    let mut world = World::planted(seed, 2, FAIR, bug);
    world.crash(1);
    world.save(0, "a.jpg", content(1));
    assert!(world.run_until_rested(0, PATIENCE_MS));
    world.save(1, "a.jpg", content(2));
    // The second has an item of its own before it hears of the first.
    world.faults.catalog_away = true;
    world.start(1);
    world.run_for(5_000);
    world.faults.catalog_away = false;
    world.run_for(30_000);
    if bug.is_none() {
        demand_rest(&mut world);
        let contents: Vec<_> = world.catalog.rows().map(|row| (row.content.size, row.chain.len())).collect();
        assert!(contents.contains(&(1, 1)) && contents.contains(&(2, 1)), "{}", log(&world));
    }
    (0..2).map(|n| world.folder(n).trash().len()).sum()
}

#[test]
fn s10_of_two_items_that_want_one_path_none_is_written_over_the_other() {
    for seed in 0..20 {
        assert_eq!(trashed_without_a_person(seed, None), 0);
    }
    // Who knows of the other's row before its own file was asked for calls it a conflict: no path is wanted twice then.
    let caught =
        (0..20).filter(|seed| trashed_without_a_person(*seed, Some(Bug::TwoItemsOnePath)) > 0).count();
    assert!(caught > 0);
}
