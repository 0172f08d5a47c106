//! Pending rows whose owner is gone, and objects that are not sound, at one engine.

use super::*;
use crate::batch::{Batch, Record};
use crate::catalog::{ChainLink, Revision};
use crate::clock::{Dot, Incarnation, Stamp};
use crate::content::{Content, Md5};
use crate::engine::tests::{Bench, ME, NoKeys, OTHER, row_of};
use crate::entry::{Copy, Entry, Held};
use crate::ids::ClientId;
use crate::paths::MediaPath;
use crate::ports::{Effect, Output};

const ITEM: ItemId = ItemId([4; 16]);

fn row(state: RowState) -> CatalogRow {
    let content = Content { md5: Md5([1; 16]), size: 4, blake3: None };
    let stamp = Stamp { incarnation: Incarnation(3), counter: 1 };
    CatalogRow { state, ..row_of(ITEM, "a.jpg", content, stamp) }
}

/// The other says that it holds the item's file, or not.
fn other_holds(bench: &mut Bench, counter: u64, holds: bool) {
    other_has(bench, counter, holds.then_some(row(RowState::Active).content), None);
}

fn other_has(bench: &mut Bench, counter: u64, content: Option<Content>, base: Option<ChainLink>) {
    let path = MediaPath::parse("a.jpg").unwrap();
    let held = content.map(|content| Held { content, path, cached_date_ms: 0 });
    let copy = Copy { held, base, line: Vec::new() };
    let entry = Entry { copy: Some(copy), ..Entry::default() }.encode().unwrap();
    let records = vec![Record { item: ITEM, entry }];
    let batch = Batch::sign(OTHER, Incarnation(9), counter, records, &NoKeys).unwrap();
    bench.engine.keep(&batch).unwrap();
}

fn at_it(bench: &mut Bench, state: RowState) -> bool {
    bench.engine.owner_at_it(&ITEM, Some(&row(state))).unwrap()
}

#[test]
fn the_owner_of_a_pending_row_counts_as_at_it_until_we_have_listened_for_a_lease() {
    let pending = RowState::Pending { owner: OTHER };
    for (live, holds) in [(true, false), (false, true)] {
        let mut bench = Bench::new();
        bench.at(100_000, live);
        other_holds(&mut bench, 1, holds);
        assert_eq!(bench.engine.listens_until_ms(&ITEM), None);
        assert!(at_it(&mut bench, pending));
        assert_eq!(bench.engine.listens_until_ms(&ITEM), Some(110_000));
        bench.at(109_999, live);
        assert!(at_it(&mut bench, pending));
        bench.at(110_000, live);
        assert!(!at_it(&mut bench, pending));
        assert_eq!(bench.engine.listens_until_ms(&ITEM), None);
        // It is there and has the file: the time counts anew when it goes.
        bench.at(111_000, true);
        other_holds(&mut bench, 2, true);
        assert!(at_it(&mut bench, pending));
        bench.at(112_000, false);
        assert!(at_it(&mut bench, pending));
        assert_eq!(bench.engine.listens_until_ms(&ITEM), Some(122_000));
        bench.engine.doubts.forget(&ITEM);
        assert_eq!(bench.engine.listens_until_ms(&ITEM), None);
    }
    let mut bench = Bench::new();
    assert!(!at_it(&mut bench, RowState::Active) && !at_it(&mut bench, RowState::Pending { owner: ME }));
    assert!(!bench.engine.owner_at_it(&ITEM, None).unwrap());
}

#[test]
fn an_owner_that_has_only_an_earlier_step_of_the_row_cannot_bring_it() {
    let pending = RowState::Pending { owner: OTHER };
    let other = Content { md5: Md5([7; 16]), size: 9, blake3: None };
    let row = row(pending);
    let earlier =
        ChainLink { revision: Revision(Dot { client: ClientId([9; 32]), ..row.revision.0 }), content: other };
    let current = ChainLink { revision: row.revision, content: row.content };
    // An edit of what the row has is another matter: it goes on from there.
    for (base, brings) in [(earlier, false), (current, true)] {
        let mut bench = Bench::new();
        bench.at(100_000, true);
        other_has(&mut bench, 1, Some(other), Some(base));
        assert!(at_it(&mut bench, pending));
        assert_eq!(bench.engine.listens_until_ms(&ITEM).is_some(), !brings);
        bench.at(110_000, true);
        assert_eq!(at_it(&mut bench, pending), brings);
    }
}

fn orders(bench: &Bench) -> Vec<Unsound> {
    let order = |output: &Output| match output {
        Output::Effect(_, Effect::Unsound(order)) => Some((**order).clone()),
        _ => None,
    };
    bench.outputs.iter().filter_map(order).collect()
}

#[test]
fn the_catalog_is_told_of_an_object_without_the_right_bytes_unless_the_row_went_on() {
    let active = row(RowState::Active);
    let mut bench = Bench::new();
    bench.engine.apply_row(active.clone()).unwrap();
    bench.engine.queue = Default::default();
    bench.engine.found_unsound(ITEM, ObjectId([77; 16]), "of an earlier row".into()).unwrap();
    bench.drain();
    assert!(orders(&bench).is_empty() && bench.engine.doubts.object_sound(&active));
    bench.engine.found_unsound(ITEM, active.object_name(), "404".into()).unwrap();
    bench.drain();
    assert!(!bench.engine.doubts.object_sound(&active));
    assert!(
        bench.engine.doubts.object_sound(&CatalogRow { object: Some(ObjectId([8; 16])), ..active.clone() })
    );
    let [order] = &orders(&bench)[..] else { panic!() };
    assert_eq!((order.item, order.revision, order.object), (ITEM, active.revision, active.object_name()));
    assert_eq!(order.author, ME);
    assert!(bench.outputs.contains(&Output::Event(Event::Unsound(ITEM, "404".into()))));
    // A row that is not active any more has no object that could be wrong.
    let mut bench = Bench::new();
    bench.engine.apply_row(row(RowState::Pending { owner: OTHER })).unwrap();
    bench.engine.found_unsound(ITEM, active.object_name(), "404".into()).unwrap();
    bench.drain();
    assert!(orders(&bench).is_empty());
}

#[test]
fn what_the_catalog_answers_ends_the_doubt_and_a_refusal_makes_us_read_it() {
    let active = row(RowState::Active);
    let doubted = || {
        let mut bench = Bench::new();
        bench.answer_feed(vec![]);
        bench.engine.apply_row(active.clone()).unwrap();
        bench.engine.found_unsound(ITEM, active.object_name(), "404".into()).unwrap();
        bench
    };
    let pending = CatalogRow { generation: 1, ..row(RowState::Pending { owner: ME }) };
    let mut bench = doubted();
    let done = Outcome::Committed(Committed::Row(Box::new(pending.clone())));
    bench.engine.unsound_done(ITEM, done).unwrap();
    assert!(bench.engine.doubts.object_sound(&active));
    assert_eq!(bench.engine.attempts.failure(&ITEM), None);
    assert!(bench.engine.feed_due_ms() > bench.now_ms);
    let mut bench = doubted();
    bench.engine.unsound_done(ITEM, Outcome::Failed("no answer".into())).unwrap();
    assert!(!bench.engine.doubts.object_sound(&active), "it may not know yet");
    assert!(bench.engine.attempts.failure(&ITEM).is_some_and(|why| why.contains("ask again")));
}
