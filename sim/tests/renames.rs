//! A person renames a file: it is renamed everywhere, and no byte moves.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
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

/// A world at rest with these files on all nodes, the first with content 1 and so on.
fn world_with(seed: u64, nodes: usize, paths: &[&str]) -> World {
    let mut world = World::new(seed, nodes, FAIR);
    for (n, path) in paths.iter().enumerate() {
        world.save(0, path, content(n as u64 + 1));
    }
    rests(&mut world, PATIENCE_MS).unwrap();
    world
}

/// Which content is where in the catalog.
fn rows(world: &World) -> BTreeMap<String, u64> {
    world.catalog.rows().map(|row| (row.cache_path.to_string(), row.content.size)).collect()
}

fn expect(world: &World, expected: &[(&str, u64)]) {
    let expected = expected.iter().map(|(path, n)| ((*path).to_owned(), *n)).collect::<BTreeMap<_, _>>();
    assert_eq!(rows(world), expected, "{}", log(world));
}

/// No content was sent or fetched again: each row has one step, and nobody asked the cloud since.
fn no_bytes_moved(world: &World, fetches: u32) {
    assert!(world.catalog.rows().all(|row| row.chain.len() == 1), "{}", log(world));
    assert_eq!(world.catalog.fetches.values().sum::<u32>(), fetches, "{}", log(world));
}

fn fetches(world: &World) -> u32 {
    world.catalog.fetches.values().sum()
}

#[test]
fn a_renamed_file_is_renamed_everywhere_and_no_byte_moves() {
    for seed in 0..10 {
        let mut world = world_with(seed, 3, &["album/a.jpg", "album/b.jpg"]);
        let before = fetches(&world);
        let item = world.catalog.row_at("album/a.jpg").unwrap().item;
        world.rename(1, "album/a.jpg", "other/c.jpg");
        demand_rest(&mut world);
        expect(&world, &[("album/b.jpg", 2), ("other/c.jpg", 1)]);
        assert_eq!(world.catalog.row_at("other/c.jpg").unwrap().item, item);
        no_bytes_moved(&world, before);
        let told = |event: &Event| matches!(event, Event::Restored(..) | Event::Imported(..));
        assert_eq!(world.log.iter().filter(|(_, _, event)| told(event)).count(), 2, "{}", log(&world));
    }
}

#[test]
fn a_name_that_differs_in_case_or_unicode_form_alone_is_a_rename_too() {
    for to in ["album/A.JPG", "ALBUM/a.jpg"] {
        let mut world = world_with(1, 3, &["album/a.jpg"]);
        let before = fetches(&world);
        world.rename(1, "album/a.jpg", to);
        demand_rest(&mut world);
        expect(&world, &[(to, 1)]);
        no_bytes_moved(&world, before);
    }
    let mut world = world_with(2, 3, &["\u{e9}t\u{e9}.jpg"]);
    world.rename(2, "\u{e9}t\u{e9}.jpg", "e\u{301}te\u{301}.jpg");
    demand_rest(&mut world);
    expect(&world, &[("e\u{301}te\u{301}.jpg", 1)]);
}

#[test]
fn a_rename_is_noticed_also_when_it_was_done_while_the_node_was_down() {
    let mut world = world_with(3, 3, &["a.jpg", "b.jpg"]);
    let before = fetches(&world);
    world.crash(1);
    world.rename(1, "a.jpg", "c.jpg");
    world.rename(1, "b.jpg", "d.jpg");
    world.start(1);
    demand_rest(&mut world);
    expect(&world, &[("c.jpg", 1), ("d.jpg", 2)]);
    no_bytes_moved(&world, before);
}

#[test]
fn a_rename_survives_a_crash_at_every_moment() {
    for after_ms in (0..2_500).step_by(20) {
        let mut world = world_with(after_ms, 2, &["a.jpg"]);
        world.rename(1, "a.jpg", "b.jpg");
        world.run_for(after_ms);
        world.crash(1);
        world.start(1);
        demand_rest(&mut world);
        expect(&world, &[("b.jpg", 1)]);
        assert!(world.catalog.rows().all(|row| row.chain.len() == 1), "{}", log(&world));
    }
}

#[test]
fn two_items_that_want_one_name_get_two_and_each_is_asked_once() {
    for seed in 0..10 {
        let mut world = world_with(seed, 3, &["a.jpg", "b.jpg"]);
        world.rename(1, "a.jpg", "c.jpg");
        world.rename(2, "b.jpg", "c.jpg");
        demand_rest(&mut world);
        let names: Vec<_> = rows(&world).into_keys().collect();
        assert_eq!(names, ["c(1).jpg", "c.jpg"], "{}", log(&world));
    }
}

#[test]
fn a_name_that_is_taken_leads_to_the_next_one_and_back_to_rest() {
    let mut world = world_with(4, 2, &["a.jpg", "b.jpg"]);
    // The rows that the other node knows nothing of yet.
    world.crash(1);
    world.save(0, "c.jpg", content(3));
    assert!(world.run_until_rested(0, PATIENCE_MS));
    world.rename(1, "a.jpg", "c.jpg");
    world.start(1);
    demand_rest(&mut world);
    expect(&world, &[("b.jpg", 2), ("c(1).jpg", 1), ("c.jpg", 3)]);
    // The same ask again, of which nothing comes but the same name.
    world.rename(0, "c.jpg", "d.jpg");
    demand_rest(&mut world);
    world.rename(1, "c(1).jpg", "d(1).jpg");
    demand_rest(&mut world);
    expect(&world, &[("b.jpg", 2), ("d(1).jpg", 1), ("d.jpg", 3)]);
}

#[test]
fn a_rename_together_with_an_edit_restores_the_old_and_imports_the_new() {
    let mut world = world_with(5, 3, &["a.jpg"]);
    world.delete(1, "a.jpg");
    world.save(1, "b.jpg", content(2));
    demand_rest(&mut world);
    expect(&world, &[("a.jpg", 1), ("b.jpg", 2)]);
}

#[test]
fn a_copy_beside_the_file_is_an_item_of_its_own() {
    let mut world = world_with(6, 3, &["a.jpg"]);
    world.save(1, "b.jpg", content(1));
    demand_rest(&mut world);
    expect(&world, &[("a.jpg", 1), ("b.jpg", 1)]);
}

#[test]
fn an_editor_that_saves_by_rename_keeps_the_item() {
    let mut world = world_with(7, 3, &["a.jpg"]);
    let item = world.catalog.row_at("a.jpg").unwrap().item;
    world.rename(1, "a.jpg", "a.bak");
    world.save(1, "a.jpg", content(2));
    demand_rest(&mut world);
    let row = world.catalog.row_at("a.jpg").unwrap();
    assert_eq!((row.item, row.content, row.chain.len()), (item, content(2), 2), "{}", log(&world));
    expect(&world, &[("a.bak", 1), ("a.jpg", 2)]);
}

#[test]
fn names_that_were_swapped_in_the_catalog_are_swapped_in_every_folder() {
    for seed in 0..10 {
        let mut world = world_with(seed, 3, &["a.jpg", "b.jpg", "c.jpg"]);
        let before = fetches(&world);
        world.crash(2);
        for (from, to) in [("a.jpg", "t.jpg"), ("b.jpg", "a.jpg"), ("c.jpg", "b.jpg"), ("t.jpg", "c.jpg")] {
            world.rename(1, from, to);
            assert!(world.run_until_rested(1, PATIENCE_MS), "{}", log(&world));
        }
        world.start(2);
        demand_rest(&mut world);
        expect(&world, &[("a.jpg", 2), ("b.jpg", 3), ("c.jpg", 1)]);
        no_bytes_moved(&world, before);
    }
}

/// Renames one after the other, so quickly that nobody looks in between.
fn at_once(world: &mut World, node: usize, renames: &[(&str, &str)]) {
    renames.iter().for_each(|(from, to)| world.rename(node, from, to));
}

#[test]
fn names_that_a_person_swapped_at_once_are_swapped_everywhere_and_no_byte_moves() {
    for seed in 0..20 {
        let mut world = world_with(seed, 3, &["a.jpg", "b.jpg", "c.jpg", "d.jpg"]);
        let before = fetches(&world);
        if seed % 2 == 0 {
            world.crash(1);
        }
        // A swap, and a chain of which the last goes to a new name.
        at_once(&mut world, 1, &[("a.jpg", "t"), ("b.jpg", "a.jpg"), ("t", "b.jpg")]);
        at_once(&mut world, 1, &[("d.jpg", "e.jpg"), ("c.jpg", "d.jpg")]);
        if seed % 2 == 0 {
            world.start(1);
        }
        demand_rest(&mut world);
        expect(&world, &[("a.jpg", 2), ("b.jpg", 1), ("d.jpg", 3), ("e.jpg", 4)]);
        no_bytes_moved(&world, before);
    }
}

#[test]
fn a_circle_of_names_survives_a_crash_at_every_moment() {
    for after_ms in (0..2_500).step_by(25) {
        let mut world = world_with(after_ms, 2, &["a.jpg", "b.jpg", "c.jpg"]);
        at_once(&mut world, 1, &[("a.jpg", "t"), ("c.jpg", "a.jpg"), ("b.jpg", "c.jpg"), ("t", "b.jpg")]);
        world.run_for(after_ms);
        world.crash(1);
        world.start(1);
        demand_rest(&mut world);
        expect(&world, &[("a.jpg", 3), ("b.jpg", 1), ("c.jpg", 2)]);
        assert!(world.catalog.rows().all(|row| row.chain.len() == 1), "{}", log(&world));
    }
}

#[test]
fn a_file_that_is_renamed_over_another_is_an_edit_of_that() {
    let mut world = world_with(1, 3, &["a.jpg", "b.jpg"]);
    let item = world.catalog.row_at("a.jpg").unwrap().item;
    world.delete(1, "a.jpg");
    world.rename(1, "b.jpg", "a.jpg");
    demand_rest(&mut world);
    expect(&world, &[("a.jpg", 2), ("b.jpg", 2)]);
    assert_eq!(world.catalog.row_at("a.jpg").unwrap().item, item);
}

/// Two items swap their names while a node is away that then has to do the same; whether it comes to rest.
fn swaps(bug: Option<Bug>) -> Result<(), String> {
    let mut world = World::planted(1, 2, FAIR, bug);
    world.save(0, "a.jpg", content(1));
    world.save(0, "b.jpg", content(2));
    rests(&mut world, PATIENCE_MS).unwrap();
    world.crash(1);
    for (from, to) in [("a.jpg", "t.jpg"), ("b.jpg", "a.jpg"), ("t.jpg", "b.jpg")] {
        world.rename(0, from, to);
        assert!(world.run_until_rested(0, PATIENCE_MS));
    }
    world.start(1);
    rests_for_good(&mut world, PATIENCE_MS)
}

#[test]
fn l1_catches_names_that_wait_for_each_other_for_ever() {
    swaps(None).unwrap();
    let why = swaps(Some(Bug::SwapWaits)).unwrap_err();
    assert!(why.contains("does not come to rest"), "{why}");
}

#[test]
fn a_swap_survives_a_crash_at_every_moment() {
    for after_ms in (0..2_000).step_by(20) {
        let mut world = world_with(after_ms, 2, &["a.jpg", "b.jpg"]);
        world.crash(1);
        for (from, to) in [("a.jpg", "t.jpg"), ("b.jpg", "a.jpg"), ("t.jpg", "b.jpg")] {
            world.rename(0, from, to);
            assert!(world.run_until_rested(0, PATIENCE_MS), "{}", log(&world));
        }
        world.start(1);
        world.run_for(after_ms);
        world.crash(1);
        world.start(1);
        demand_rest(&mut world);
        expect(&world, &[("a.jpg", 2), ("b.jpg", 1)]);
    }
}

#[test]
fn a_folder_that_is_renamed_takes_its_files_along() {
    let names: Vec<String> = (0..60).map(|n| format!("album/{n}.jpg")).collect();
    let mut world = world_with(8, 3, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let before = fetches(&world);
    for name in &names {
        world.rename(1, name, &name.replace("album", "Summer"));
    }
    demand_rest(&mut world);
    assert!(rows(&world).keys().all(|path| path.starts_with("Summer/")), "{}", log(&world));
    no_bytes_moved(&world, before);
    // At most one feed entry for each but the first two of each item.
    assert_eq!(world.catalog.changes(), 60 * 3);
}

#[test]
fn where_both_renamed_the_catalog_wins_and_all_agree() {
    for seed in 0..20 {
        let mut world = world_with(seed, 3, &["a.jpg"]);
        world.rename(1, "a.jpg", "b.jpg");
        let pause_ms = world.chance(1_500);
        world.run_for(pause_ms);
        world.rename(2, "a.jpg", "c.jpg");
        demand_rest(&mut world);
        assert_eq!(world.catalog.rows().count(), 1, "{}", log(&world));
        assert!(world.catalog.rows().all(|row| row.chain.len() == 1));
    }
}

#[test]
fn a_rename_waits_for_a_catalog_that_is_away() {
    let mut world = world_with(9, 2, &["a.jpg"]);
    world.faults.catalog_away = true;
    world.rename(1, "a.jpg", "b.jpg");
    world.run_for(60_000);
    world.faults.catalog_away = false;
    demand_rest(&mut world);
    expect(&world, &[("b.jpg", 1)]);
}

#[test]
fn a_file_that_is_renamed_before_it_is_imported_is_one_item() {
    for after_ms in (0..1_500).step_by(25) {
        let mut world = World::new(after_ms, 2, FAIR);
        world.save(0, "a.jpg", content(1));
        world.run_for(after_ms);
        world.rename(0, "a.jpg", "b.jpg");
        demand_rest(&mut world);
        expect(&world, &[("b.jpg", 1)]);
    }
}
