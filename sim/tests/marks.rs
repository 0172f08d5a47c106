//! Marks: what is settled costs no entry, and what deviates keeps its own.
#![allow(clippy::unwrap_used)]

use tcat_engine::ids::ClientId;
use tcat_sim::verdict::{log, rests, rests_for_good};
use tcat_sim::world::{Weather, World, content};

const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
const PATIENCE_MS: u64 = 600_000;

fn client(n: usize) -> ClientId {
    ClientId([n as u8 + 1; 32])
}

/// At no node does any entry stand but each ledger's mark.
fn only_marks_stand(world: &World) {
    for (node, owner) in (0..world.len()).flat_map(|node| (0..world.len()).map(move |owner| (node, owner))) {
        let engine = world.engine(node).unwrap();
        let items = engine.standing_items(&client(owner)).unwrap();
        let report = |item| engine.item_report(item).unwrap();
        assert!(items.len() <= 1, "{node} of {owner}: {:?}", items.iter().map(report).collect::<Vec<_>>());
    }
}

/// What each node believes of every node's copies is what their folders hold.
fn beliefs_are_true(world: &World) {
    let items: Vec<_> = world.catalog.rows().map(|row| row.item).collect();
    for (node, item) in (0..world.len()).flat_map(|node| items.iter().map(move |item| (node, item))) {
        let report = world.engine(node).unwrap().item_report(item).unwrap();
        for owner in 0..world.len() {
            let word = report.entries.iter().find(|entry| entry.owner() == client(owner));
            let held = word.and_then(|entry| entry.entry.copy.as_ref()?.held.as_ref());
            let held = held.unwrap_or_else(|| panic!("node {node} knows no copy of {item:?} at {owner}"));
            assert_eq!(world.folder(owner).content_at(&held.path), Some(held.content));
        }
    }
}

#[test]
fn what_is_settled_costs_no_entry_at_any_client() {
    let mut world = World::new(3, 3, FAIR);
    for n in 0..120 {
        world.save(n as usize % 3, &format!("album/{n}.jpg"), content(n));
    }
    rests_for_good(&mut world, PATIENCE_MS).unwrap();
    only_marks_stand(&world);
    beliefs_are_true(&world);
}

#[test]
fn an_edit_of_an_absorbed_item_reaches_all_and_is_absorbed_again() {
    let mut world = World::new(4, 3, FAIR);
    for n in 0..20 {
        world.save(n as usize % 3, &format!("{n}.jpg"), content(n));
    }
    rests(&mut world, PATIENCE_MS).unwrap();
    world.run_for(10_000);
    for n in 0..20 {
        world.save((n as usize + 1) % 3, &format!("{n}.jpg"), content(1_000 + n));
    }
    rests_for_good(&mut world, PATIENCE_MS).unwrap_or_else(|why| panic!("{why}\n{}", log(&world)));
    only_marks_stand(&world);
    beliefs_are_true(&world);
}

#[test]
fn who_was_away_while_marks_moved_ends_with_the_same_ledgers() {
    for seed in 0..10 {
        let mut world = World::new(seed, 3, FAIR);
        for n in 0..30 {
            world.save(n as usize % 2, &format!("{n}.jpg"), content(n));
            if n == 10 {
                world.run_for(700);
                world.crash(2);
            }
        }
        world.run_for(30_000);
        for n in 0..30 {
            if n % 3 != 0 {
                world.save(1, &format!("{n}.jpg"), content(1_000 + n));
            }
        }
        world.run_for(30_000);
        world.start(2);
        rests_for_good(&mut world, PATIENCE_MS)
            .unwrap_or_else(|why| panic!("{seed}: {why}\n{}", log(&world)));
        beliefs_are_true(&world);
        only_marks_stand(&world);
    }
}
