//! What is believed of a file while our own effects, a person and the catalog are at it at once.

use super::*;
use crate::catalog::{ChainLink, Created, RemovalRecord};
use crate::entry::{Copy, Held};
use crate::ports::EffectId;

pub(super) const KEPT: ItemId = ItemId([4; 16]);
const WANTED: ItemId = ItemId([5; 16]);
const NEXT: ItemId = ItemId([6; 16]);

/// A folder in which everything that there is was seen.
#[derive(Debug)]
pub(super) struct Clear(pub(super) &'static [&'static str]);

impl Coverage for Clear {
    fn presence(&self, path: &MediaPath) -> Presence {
        match self.0.contains(&path.as_str()) {
            true => Presence::Seen,
            false => Presence::NotSeen,
        }
    }
}

pub(super) fn content(number: u8) -> Content {
    Content { md5: Md5([number; 16]), size: 4, blake3: Some(Blake3([number; 32])) }
}

pub(super) fn file(number: u8, file_id: u64) -> Seen {
    let stat = FileStat { size: 4, mtime_ns: file_id as i64, ctime_ns: file_id as i64, file_id };
    Seen::File { content: content(number), stat }
}

pub(super) fn row(item: ItemId, path: &str, number: u8) -> CatalogRow {
    let stamp = Stamp { incarnation: Incarnation(1), counter: item.0[0].into() };
    row_of(item, path, content(number), stamp)
}

fn removed(row: &CatalogRow) -> FeedChange {
    let contents = row.chain.iter().map(|link| link.content).collect();
    FeedChange::Removed(RemovalRecord { item: row.item, cache_path: row.cache_path.clone(), contents })
}

impl Bench {
    /// The newest effect that is not answered yet, if it is of this kind.
    pub(super) fn ordered(&mut self, kind: impl Fn(&Effect) -> bool) -> Option<EffectId> {
        let is = |output: &Output| matches!(output, Output::Effect(_, effect) if kind(effect));
        let at = self.outputs.iter().rposition(is)?;
        match self.outputs.remove(at) {
            Output::Effect(id, _) => Some(id),
            _ => None,
        }
    }

    fn done(&mut self, id: EffectId) {
        self.input(Input::Done(id, Outcome::Done { stat: FileStat::default() }));
    }

    fn held(&self, item: &ItemId) -> Option<Content> {
        self.engine.own_entry(item).unwrap().held_content().copied()
    }

    fn looks_at(&self, path: &str) -> bool {
        let path = MediaPath::parse(path).unwrap();
        self.outputs.iter().any(|output| matches!(output, Output::Look(paths) if paths.contains(&path)))
    }

    /// An item is in the cache; another with the same content is wanted, and its file is about to be placed.
    fn placing() -> (Self, EffectId) {
        let mut bench = Self::new();
        bench.input(Input::Scanned(Arc::new(Clear(&[]))));
        bench.answer_feed(vec![FeedChange::Row(Box::new(row(KEPT, "kept.jpg", 1)))]);
        bench.saw("kept.jpg", file(1, 11));
        assert_eq!(bench.held(&KEPT), Some(content(1)));
        bench.pass(6_000);
        bench.engine.apply_row(row(WANTED, "wanted.jpg", 1)).unwrap();
        bench.input(Input::Tick);
        let borrowing = bench.ordered(|effect| matches!(effect, Effect::Borrow { .. })).unwrap();
        (bench, borrowing)
    }
}

#[test]
fn nothing_is_placed_where_somebody_is_writing() {
    let (mut bench, borrowing) = Bench::placing();
    bench.saw("wanted.jpg", Seen::Busy);
    bench.done(borrowing);
    assert_eq!(bench.ordered(|effect| matches!(effect, Effect::Publish(_))), None);
}

#[test]
fn a_file_whose_placing_was_not_answered_is_looked_for_before_its_item_is_given_up() {
    let (mut bench, borrowing) = Bench::placing();
    bench.done(borrowing);
    let placing = bench.ordered(|effect| matches!(effect, Effect::Publish(_))).unwrap();
    bench.input(Input::Done(placing, Outcome::Failed("no answer".into())));
    // The item is removed, and another gets its name.
    bench.engine.apply_answer(removed(&row(WANTED, "wanted.jpg", 1))).unwrap();
    bench.engine.apply_row(row(NEXT, "wanted.jpg", 2)).unwrap();
    bench.input(Input::Tick);
    bench.now_ms += 1;
    bench.input(Input::Tick);
    assert!(bench.looks_at("wanted.jpg"));
    bench.saw("wanted.jpg", file(1, 12));
    let trashed =
        |effect: &Effect| matches!(effect, Effect::Trash { path, .. } if path.as_str() == "wanted.jpg");
    assert!(bench.ordered(trashed).is_some());
    assert_eq!(bench.held(&NEXT), None);
}

/// What a person saved as an item's file, and deleted before anybody had it, is the end of its line.
fn give_line(bench: &mut Bench) {
    let step = ChainLink { content: content(9), ..row(NEXT, "next.jpg", 9).chain[0] };
    let base = Some(row(WANTED, "wanted.jpg", 1).chain[0]);
    let copy = Copy { held: None, base, line: vec![step] };
    bench.engine.stage(WANTED, Entry { copy: Some(copy), ..Entry::default() });
    bench.input(Input::Tick);
}

#[test]
fn a_file_whose_placing_was_not_answered_is_no_edit_and_any_other_is_one() {
    for (seen, line) in [(1, vec![]), (3, vec![content(9), content(3)])] {
        let (mut bench, borrowing) = Bench::placing();
        give_line(&mut bench);
        bench.done(borrowing);
        let placing = bench.ordered(|effect| matches!(effect, Effect::Publish(_))).unwrap();
        bench.input(Input::Done(placing, Outcome::Failed("no answer".into())));
        bench.now_ms += 1;
        bench.saw("wanted.jpg", file(seen, 12));
        let copy = bench.engine.own_entry(&WANTED).unwrap().copy.unwrap();
        let contents: Vec<_> = copy.line.iter().map(|step| step.content).collect();
        assert_eq!((copy.held.unwrap().content, contents), (content(seen), line));
    }
}

#[test]
fn what_the_catalog_has_is_an_edit_where_nothing_of_ours_can_have_placed_it() {
    let (mut bench, borrowing) = Bench::placing();
    give_line(&mut bench);
    bench.input(Input::Done(borrowing, Outcome::Missing));
    bench.now_ms += 1;
    bench.saw("wanted.jpg", file(1, 12));
    assert_eq!(bench.engine.own_entry(&WANTED).unwrap().copy.unwrap().line.len(), 2);
}

#[test]
fn a_file_that_a_dead_life_has_placed_is_found_to_be_its_item_s() {
    let (mut bench, borrowing) = Bench::placing();
    bench.done(borrowing);
    let mut next = Bench::new();
    let now = Now { mono_ms: 60_000, wall_ms: 1_700_000_000_000 };
    let (config, store) = (next.engine.config.clone(), bench.engine.into_store());
    next.engine = Engine::open(store, config, Box::new(NoKeys), now, 8).unwrap();
    next.drain();
    let changes =
        [removed(&row(WANTED, "wanted.jpg", 1)), FeedChange::Row(Box::new(row(NEXT, "wanted.jpg", 2)))];
    next.answer_feed(changes.into());
    next.saw("kept.jpg", file(1, 11));
    next.saw("wanted.jpg", file(1, 12));
    next.input(Input::Scanned(Arc::new(Clear(&["kept.jpg", "wanted.jpg"]))));
    let trashed =
        |effect: &Effect| matches!(effect, Effect::Trash { path, .. } if path.as_str() == "wanted.jpg");
    assert!(next.ordered(trashed).is_some());
    assert_eq!(next.held(&NEXT), None);
}

#[test]
fn a_crossing_that_an_effect_of_ours_has_changed_since_decides_nothing() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Clear(&[]))));
    let rows = [row(KEPT, "kept.jpg", 1), row(WANTED, "wanted.jpg", 2)];
    bench.answer_feed(rows.map(|row| FeedChange::Row(Box::new(row))).into());
    bench.saw("kept.jpg", file(1, 11));
    bench.saw("wanted.jpg", file(2, 12));
    bench.pass(10_000);
    bench.input(Input::Rescan);
    // A person has let the files change their names...
    bench.saw("kept.jpg", file(2, 12));
    bench.saw("wanted.jpg", file(1, 11));
    bench.now_ms += 10;
    // ...and an effect that was under way has put something else into one place.
    let path = MediaPath::parse("kept.jpg").unwrap();
    bench.engine.watch.touch(&path, bench.now_ms);
    bench.outputs.clear();
    bench.input(Input::Scanned(Arc::new(Clear(&["kept.jpg", "wanted.jpg"]))));
    assert_eq!(bench.held(&KEPT), Some(content(1)));
    bench.now_ms += 1;
    bench.input(Input::Tick);
    assert!(bench.looks_at("kept.jpg"));
}

#[test]
fn what_a_member_calls_committed_is_no_edit_of_ours() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Clear(&[]))));
    bench.answer_feed(vec![FeedChange::Row(Box::new(row(KEPT, "kept.jpg", 1)))]);
    bench.saw("kept.jpg", file(1, 11));
    // A life that has placed what it had heard of, and has died before it wrote that down.
    let path = MediaPath::parse("kept.jpg").unwrap();
    let base = ChainLink { content: content(2), ..row(NEXT, "next.jpg", 2).chain[0] };
    let copy = Copy {
        held: Some(Held { content: content(2), path, cached_date_ms: 0 }),
        base: Some(base),
        line: vec![],
    };
    let entry = Entry { copy: Some(copy), ..Entry::default() }.encode().unwrap();
    let batch = Batch::sign(OTHER, Incarnation(9), 1, vec![Record { item: KEPT, entry }], &NoKeys).unwrap();
    let (after, through) = (Stamp::default(), batch.last_stamp());
    let page = Page { owner: OTHER, after, through, batches: vec![batch], more: false, head: None };
    bench.input(Input::Connected(OTHER));
    bench.input(Input::Message(OTHER, Message::Page(page)));
    bench.engine.travelling.note(KEPT);
    bench.saw("kept.jpg", file(2, 12));
    let copy = bench.engine.own_entry(&KEPT).unwrap().copy.unwrap();
    assert_eq!((copy.base, copy.line), (Some(base), vec![]));
    assert_eq!(bench.ordered(|effect| matches!(effect, Effect::Intend(_))), None);
}

#[test]
fn an_edit_that_was_removed_as_another_holder_s_new_item_does_not_come_back() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Clear(&[]))));
    bench.answer_feed(vec![FeedChange::Row(Box::new(row(KEPT, "kept.jpg", 1)))]);
    bench.saw("kept.jpg", file(1, 11));
    bench.saw("kept.jpg", file(2, 12));
    bench.engine.apply_answer(removed(&row(NEXT, "kept.jpg", 2))).unwrap();
    bench.engine.apply_answer(removed(&row(KEPT, "kept.jpg", 1))).unwrap();
    bench.engine.tasks.clear();
    bench.engine.queue.ready(KEPT);
    bench.input(Input::Tick);
    assert!(bench.ordered(|effect| matches!(effect, Effect::Trash { .. })).is_some());
}

#[test]
fn an_edit_of_a_removed_item_goes_on_as_the_same_item_at_all_who_hold_it() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Clear(&[]))));
    bench.answer_feed(vec![FeedChange::Row(Box::new(row(KEPT, "kept.jpg", 1)))]);
    bench.saw("kept.jpg", file(1, 11));
    bench.saw("kept.jpg", file(2, 12));
    bench.engine.apply_answer(removed(&row(KEPT, "kept.jpg", 1))).unwrap();
    bench.engine.tasks.clear();
    bench.engine.queue.ready(KEPT);
    bench.input(Input::Tick);
    let next = ItemId::derive("tcat 1 goes on", &[&KEPT.0, &content(2).key()]);
    let is_entered = |effect: &Effect| matches!(effect, Effect::Create(new) if new.item == next);
    let creating = bench.ordered(is_entered).unwrap();
    assert_eq!((bench.held(&KEPT), bench.held(&next)), (None, Some(content(2))));
    // Another was first, and it was removed since: it does not come back from here.
    bench.input(Input::Done(creating, Outcome::Created(Created::Removed)));
    bench.engine.apply_answer(removed(&row(next, "kept.jpg", 2))).unwrap();
    bench.pass(10_000);
    assert!(bench.ordered(|effect| matches!(effect, Effect::Trash { .. })).is_some());
    assert!(bench.ordered(|effect| matches!(effect, Effect::Create(_))).is_none());
}
