//! What must be true of a world at rest.

use crate::world::World;
use std::collections::BTreeMap;
use tcat_engine::catalog::RowState;
use tcat_engine::engine::Report;

/// How long a world at rest is watched for things that it should not do.
const QUIET_MS: u64 = 60_000;

/// What goes on without end: anything else that changes in a world at rest is unrest.
#[derive(PartialEq, Eq, Debug)]
struct Unrest {
    orders: u64,
    words: u64,
    changes: usize,
    said: usize,
}

/// Every node's log, for people.
pub fn log(world: &World) -> String {
    world.log.iter().map(|(ms, n, event)| format!("{ms} node{} {event:?}\n", n + 1)).collect()
}

/// Waits at each node until nothing is left to settle; then everything must be as promised.
pub fn rests(world: &mut World, ms: u64) -> Result<(), String> {
    for n in 0..world.len() {
        if !world.run_until_rested(n, ms) {
            let reports: Vec<_> = (0..world.len()).map(|n| report(world, n)).collect();
            return Err(format!("node {} does not come to rest\n{reports:#?}", n + 1));
        }
    }
    holds(world)
}

/// The same, and then the world must stay as it is, with nothing done or said.
pub fn rests_for_good(world: &mut World, ms: u64) -> Result<(), String> {
    rests(world, ms)?;
    let before = unrest(world);
    world.run_for(QUIET_MS);
    let after = unrest(world);
    if before != after {
        return Err(format!("no quiet: {before:?} became {after:?}"));
    }
    holds(world)
}

fn unrest(world: &World) -> Unrest {
    let (changes, said) = (world.catalog.changes(), world.log.len());
    Unrest { orders: world.orders, words: world.words, changes, said }
}

fn report(world: &World, n: usize) -> Option<Report> {
    world.engine(n).map(|engine| engine.report())
}

/// Folders equal the catalog, ledgers are equal, nothing that a person saved is lost, nothing rests without a reason.
pub fn holds(world: &World) -> Result<(), String> {
    let active = || world.catalog.rows().filter(|row| row.state == RowState::Active);
    let expected: BTreeMap<_, _> = active().map(|row| (&row.cache_path, &row.content)).collect();
    for row in active() {
        if !world.catalog.object_is_sound(row) {
            return Err(format!("{row:?} has no object"));
        }
    }
    for n in 0..world.len() {
        let files = world.folder(n).contents();
        if files != expected {
            return Err(format!("node {} is not equal to the catalog:\n{files:#?}\n{expected:#?}", n + 1));
        }
        let (Some(ours), Some(first)) = (report(world, n), report(world, 0)) else { continue };
        if ours.vector != first.vector {
            return Err(format!("node {} knows other ledgers than node 1", n + 1));
        }
        for (item, why) in &ours.resting {
            let row = world.catalog.rows().find(|row| row.item == *item);
            if !row.is_some_and(|row| matches!(row.state, RowState::Pending { .. })) {
                return Err(format!("node {}: {item:?} rests: {why}\n{row:?}", n + 1));
            }
        }
    }
    for (author, saved) in &world.saved {
        let kept = (0..world.len()).any(|n| world.folder(n).keeps(saved)) || world.catalog.knows(saved);
        if !kept {
            return Err(format!("{saved:?}, saved on node {}, is lost", author + 1));
        }
    }
    Ok(())
}
