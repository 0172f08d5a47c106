//! Bugs planted where the catalog's order is kept: each is found by the invariant that is named for it, within few
//! seeds, and the same worlds without a bug find nothing.
#![allow(clippy::unwrap_used)]

use tcat_engine::catalog::{ChainLink, Commit, NewItem, Revision, RowState};
use tcat_engine::clock::{Dot, Incarnation, Stamp};
use tcat_engine::content::Content;
use tcat_engine::ids::{ClientId, ItemId, ObjectId};
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::{Bug, Planted, State};
use tcat_engine::ports::{Event, Object};
use tcat_sim::catalog::Catalog;
use tcat_sim::faults::Faults;
use tcat_sim::verdict::{log, rests};
use tcat_sim::world::{Weather, World, content};

const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
const PATIENCE_MS: u64 = 120_000;
/// A bug must be found within so many seeds.
const SEEDS_MAX: u64 = 200;
/// So many seeds without a bug must find nothing.
const SOUND_SEEDS: u64 = 8;

type Scene = fn(u64, Option<Bug>) -> Result<(), String>;

/// What must hold, each with its invariant's name first.
fn judged(world: &mut World, gone_for_good: &[Content]) -> Result<(), String> {
    let violations = |world: &World| match world.catalog.violations().into_iter().next() {
        Some(violation) => Err(violation),
        None => Ok(()),
    };
    // A world that does not come to rest may have been harmed before.
    let rested = rests(world, PATIENCE_MS);
    violations(world)?;
    for n in 0..world.len() {
        let Some(engine) = world.engine(n) else { continue };
        for row in world.catalog.rows().filter(|row| row.state == RowState::Active) {
            let entries = engine.item_report(&row.item).unwrap().entries;
            let bases = entries.iter().filter_map(|entry| entry.entry.copy.as_ref()?.base);
            if let Some(base) = bases.into_iter().find(|base| !row.chain_has(&base.revision)) {
                return Err(format!("S6: node {} builds on {base:?}, which never was", n + 1));
            }
        }
    }
    if let Some(lost) = world.catalog.unanswered().into_iter().next() {
        return Err(lost);
    }
    if let Some(row) = world.catalog.rows().find(|row| gone_for_good.contains(&row.content)) {
        return Err(format!("S9: {row:?} was removed and is back"));
    }
    rested.map_err(|why| format!("L2: {why}\n{}", log(world)))
}

fn begin(seed: u64, nodes: usize, files: u64, bug: Option<Bug>) -> Result<World, String> {
    let mut world = World::planted(seed, nodes, FAIR, bug);
    for n in 0..files {
        world.save(0, &format!("{n}.jpg"), content(1 + n));
    }
    judged(&mut world, &[])?;
    Ok(world)
}

/// One author saves again and again, and answers do not come.
fn lost_answers(seed: u64, bug: Option<Bug>) -> Result<(), String> {
    let mut world = begin(seed, 2, 1, bug)?;
    world.faults = Faults { lost_permille: 200, failed_permille: 300, ..Faults::default() };
    for n in 10..18 {
        world.save(0, "0.jpg", content(n));
        let pause_ms = world.chance(1_500);
        world.run_for(pause_ms);
    }
    world.faults = Faults::default();
    if world.log.iter().any(|(_, _, event)| matches!(event, Event::Parked(..))) {
        // What failed ten times in a row is left alone for five minutes.
        world.run_for(310_000);
    }
    judged(&mut world, &[])
}

/// The catalog is restored; a member may be away, and the numbers of its feed are used again.
fn restored(seed: u64, bug: Option<Bug>) -> Result<(), String> {
    let mut world = begin(seed, 3, 2, bug)?;
    world.catalog.back_up();
    world.crash(1);
    for n in 30..33 {
        world.save(0, "0.jpg", content(n));
        world.save(0, &format!("lost {n}.jpg"), content(10 + n));
        world.run_for(3_000);
    }
    world.crash(0);
    world.crash(2);
    world.catalog.restore();
    world.start(1);
    for n in 0..world.chance(12) {
        world.save(1, &format!("again {n}.jpg"), content(60 + n));
    }
    world.run_for(5_000);
    world.start(2);
    let pause_ms = world.chance(3_000);
    world.run_for(pause_ms);
    world.start(0);
    judged(&mut world, &[])
}

/// Items are deleted while one node is away, and its database may be lost over its files.
fn removed(seed: u64, bug: Option<Bug>) -> Result<(), String> {
    let mut world = begin(seed, 3, 3, bug)?;
    world.crash(2);
    world.kill(0, "0.jpg");
    world.kill(1, "1.jpg");
    let pause_ms = 4_000 + world.chance(3_000);
    world.run_for(pause_ms);
    if world.chance(2) == 0 {
        world.wipe(2);
    }
    world.start(2);
    judged(&mut world, &[content(1), content(2)])
}

fn scenes() -> Vec<(Scene, Vec<Bug>)> {
    vec![
        (
            lost_answers as Scene,
            vec![
                Bug::TimeoutIsFailure,
                Bug::TimeoutIsSuccess,
                Bug::SourceNotRechecked,
                Bug::LostAnswerThenSave,
            ],
        ),
        (restored as Scene, vec![Bug::RestoredCatalogWins, Bug::FeedNumberAgain, Bug::OfferedOutOfOrder]),
        (removed as Scene, vec![Bug::WipedRevives, Bug::CollectorPauses, Bug::DeletedComesBack]),
    ]
}

#[test]
fn without_a_bug_nothing_is_found() {
    for (scene, bugs) in scenes() {
        for seed in 0..SOUND_SEEDS {
            if let Err(why) = scene(seed, None) {
                panic!("the scene of {:?}, seed {seed}: {why}", bugs[0]);
            }
        }
    }
}

#[test]
fn each_planted_bug_is_found_by_its_invariant() {
    let mut missed = Vec::new();
    for (scene, bugs) in scenes() {
        for bug in bugs {
            assert_eq!(bug.state(), State::Planted);
            let wanted = format!("{}:", bug.invariant());
            let found = |seed: &u64| scene(*seed, Some(bug)).is_err_and(|why| why.starts_with(&wanted));
            match (0..SEEDS_MAX).find(found) {
                Some(seed) => {
                    eprintln!("{}: found by {} after {} seeds", bug.id(), bug.invariant(), seed + 1)
                }
                None => missed.push(bug.id()),
            }
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS_MAX} seeds: {missed:?}");
}

/// An item is completed under a claim of epoch 2; then a commit under epoch 1 arrives that was long on its way.
fn late_commit(bug: Option<Bug>) -> Vec<String> {
    let mut catalog = Catalog::planted(Planted(bug));
    let author = ClientId([1; 32]);
    let revision =
        |counter| Revision(Dot { client: author, stamp: Stamp { incarnation: Incarnation(1), counter } });
    let item = ItemId([7; 16]);
    let new = NewItem {
        item,
        revision: revision(1),
        asked_path: MediaPath::parse("a.jpg").unwrap(),
        content: content(1),
        earlier: Vec::new(),
        content_type: "image/jpeg".into(),
        author,
        author_name: String::new(),
        source_server: String::new(),
        version_of: None,
    };
    catalog.create(&new).unwrap();
    for (claim_epoch, n, line) in
        [(2, 1, vec![]), (1, 2, vec![ChainLink { revision: revision(2), content: content(2) }])]
    {
        let object = ObjectId([n; 16]);
        let held = content(u64::from(n));
        catalog.intend(&Object { id: object, item, content: held, generation: 0 });
        catalog.put(object, held);
        catalog.commit(&Commit {
            item,
            base: revision(1),
            line,
            object,
            generation: 0,
            claim_epoch,
            catalog_epoch: catalog.epoch(),
            author,
        });
    }
    catalog.violations()
}

#[test]
fn planted_01_a_catalog_that_does_not_check_the_claim_epoch_is_found_by_s1() {
    assert_eq!(late_commit(None), Vec::<String>::new());
    assert!(late_commit(Some(Bug::NoFence)).iter().any(|violation| violation.starts_with("S1:")));
}
