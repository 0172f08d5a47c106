//! Marks at one engine: what may be left out of a ledger because the catalog says it, and what may not.

use super::*;
use crate::batch::{Batch, Record};
use crate::catalog::CatalogEpoch;
use crate::clock::Incarnation;
use crate::content::{Blake3, Content, Md5};
use crate::engine::tests::{Bench, Fog, ME, NoKeys, OTHER, row_of};
use crate::entry::{Claim, Field, TaskKind};
use crate::ids::CacheId;
use crate::observation::{FileStat, Seen};
use crate::paths::MediaPath;
use crate::ports::Input;
use std::sync::Arc;

const ITEM: ItemId = ItemId([4; 16]);
const SECOND: ItemId = ItemId([5; 16]);
const THIRD: ItemId = ItemId([6; 16]);

fn stamp(incarnation: u64, counter: u64) -> Stamp {
    Stamp { incarnation: Incarnation(incarnation), counter }
}

fn content(n: u8) -> Content {
    Content { md5: Md5([n; 16]), size: 4, blake3: Some(Blake3([n; 32])) }
}

fn place(number: u64) -> FeedPlace {
    FeedPlace { epoch: CatalogEpoch { number: 1, id: [1; 16] }, number }
}

fn row(item: ItemId, counter: u64, path: &str) -> CatalogRow {
    row_of(item, path, content(item.0[0]), stamp(3, counter))
}

fn news(row: &CatalogRow) -> FeedChange {
    FeedChange::Row(Box::new(row.clone()))
}

/// A reading of the feed goes on to this place, and brings these changes.
fn read(bench: &mut Bench, number: u64, changes: Vec<FeedChange>) {
    bench.engine.feed.hint(bench.now_ms);
    bench.input(Input::Tick);
    bench.answer_feed_to(number, changes);
    assert_eq!(bench.engine.feed.position().number, number);
}

/// The other's entry for an item.
fn says(bench: &mut Bench, at: Stamp, item: ItemId, entry: Entry) {
    let record = Record { item, entry: entry.encode().unwrap() };
    let batch = Batch::sign(OTHER, at.incarnation, at.counter, vec![record], &NoKeys).unwrap();
    bench.engine.turn_to(&OTHER, at.incarnation);
    bench.engine.keep(&batch).unwrap();
    bench.engine.ledgers.myself.vector.advance(OTHER, at);
}

fn settled_at(number: u64) -> Entry {
    let label = Label { wall_ms: number, logical: 0 };
    Entry { copy: Some(Copy::default()), settled: Some(place(number)), label, ..Entry::default() }
}

fn mark_at(number: u64) -> Entry {
    Entry { mark: Some(place(number)), ..Entry::default() }
}

#[test]
fn only_a_copy_that_is_in_all_what_the_catalog_has_is_left_to_the_mark() {
    let row = row(ITEM, 1, "a.jpg");
    let same = as_the_catalog_has_it(&row, 7, Label::default());
    assert!(equals_catalog(&same, &row));
    let mut differing = vec![Entry { copy: None, ..same.clone() }];
    let mut differs = |change: &dyn Fn(&mut Entry, &mut Copy)| {
        let (mut entry, mut copy) = (same.clone(), same.copy.clone().unwrap());
        change(&mut entry, &mut copy);
        differing.push(Entry { copy: Some(copy), ..entry });
    };
    let step = ChainLink { revision: row.revision, content: row.content };
    differs(&|_, copy| copy.held = None);
    differs(&|_, copy| copy.held.as_mut().unwrap().content = content(9));
    differs(&|_, copy| copy.held.as_mut().unwrap().path = MediaPath::parse("b.jpg").unwrap());
    differs(&|_, copy| copy.base = None);
    differs(&|_, copy| copy.base.as_mut().unwrap().revision.0.client = ME);
    differs(&|_, copy| copy.line.push(step));
    differs(&|entry, _| {
        let (seen, target) = (Vec::new(), row.content);
        let task = TaskKind::Upload;
        entry.claims.push(Claim { task, target, epoch: 1, seen, started: false, progress: 0, attempts: 0 });
    });
    differs(&|entry, _| entry.cache = Some(CacheId([1; 16])));
    differs(&|entry, _| entry.unknown.push(Field { tag: 900, bytes: vec![1] }));
    for entry in differing {
        assert!(!equals_catalog(&entry, &row), "{entry:?}");
    }
    for state in [RowState::Pending { owner: ME }, RowState::KillRequest] {
        assert!(!equals_catalog(&same, &CatalogRow { state, ..row.clone() }));
    }
    // What cannot be asked for by its BLAKE3 keeps its entry.
    let unproved = CatalogRow { content: Content { blake3: None, ..row.content }, ..row.clone() };
    assert!(!equals_catalog(&as_the_catalog_has_it(&unproved, 7, Label::default()), &unproved));
}

#[test]
fn a_mark_absorbs_what_its_owner_wrote_before_it_and_was_settled_at_its_place_or_before() {
    let mut bench = Bench::new();
    says(&mut bench, stamp(9, 1), ITEM, settled_at(3));
    says(&mut bench, stamp(9, 2), SECOND, settled_at(5));
    says(&mut bench, stamp(9, 3), THIRD, settled_at(6));
    says(&mut bench, stamp(9, 4), NIL, mark_at(5));
    let stands = |bench: &Bench, item| bench.engine.entry_of(&item, &OTHER).unwrap().is_some();
    assert!(!stands(&bench, ITEM) && !stands(&bench, SECOND), "at the mark, too");
    assert!(stands(&bench, THIRD), "not beyond it");
    // A late copy of what was absorbed is not kept, nor one that takes the place of an older entry.
    says(&mut bench, stamp(9, 1), ITEM, settled_at(3));
    assert!(!stands(&bench, ITEM));
    let fourth = ItemId([8; 16]);
    let elsewhere = Entry { settled: None, ..settled_at(0) };
    says(&mut bench, stamp(8, 9), fourth, elsewhere);
    says(&mut bench, stamp(9, 2), fourth, settled_at(3));
    assert!(!stands(&bench, fourth));
    // What was written after the mark speaks for itself.
    says(&mut bench, stamp(9, 5), ITEM, settled_at(3));
    assert!(stands(&bench, ITEM));
    // And so does what is of another epoch of the catalog.
    let other_epoch = FeedPlace { epoch: CatalogEpoch { number: 2, id: [1; 16] }, number: 3 };
    says(&mut bench, stamp(9, 6), SECOND, Entry { settled: Some(other_epoch), ..settled_at(3) });
    says(&mut bench, stamp(9, 7), NIL, mark_at(6));
    assert!(stands(&bench, SECOND) && !stands(&bench, THIRD) && !stands(&bench, ITEM));
    assert_eq!(bench.engine.tx.prefixed(Table::Settled, &OTHER.0, 10).unwrap().len(), 1);
    bench.input(Input::Tick);
    let mut bench = bench.restarted();
    let mark = bench.engine.marks.of[&OTHER];
    assert_eq!((mark.place, mark.stamp), (place(6), stamp(9, 7)), "a restart knows it");
    // A mark that is taken back speaks for nothing.
    says(&mut bench, stamp(9, 8), NIL, Entry::default());
    assert!(bench.engine.marks.of.is_empty());
}

#[test]
fn a_mark_absorbs_exactly_what_is_of_its_epoch_not_beyond_its_place_and_older_than_itself() {
    let mut marks = Marks::default();
    marks.note(OTHER, stamp(9, 4), &mark_at(5));
    let epoch = CatalogEpoch { number: 2, id: [1; 16] };
    let elsewhere = FeedPlace { epoch, number: 3 };
    assert!(marks.absorbs(&OTHER, stamp(9, 3), Some(place(5))));
    for (owner, at, settled) in [
        (OTHER, stamp(9, 3), Some(place(6))),
        (OTHER, stamp(9, 4), Some(place(5))),
        (OTHER, stamp(9, 5), Some(place(5))),
        (OTHER, stamp(9, 3), Some(elsewhere)),
        (OTHER, stamp(9, 3), None),
        (ME, stamp(9, 3), Some(place(5))),
    ] {
        assert!(!marks.absorbs(&owner, at, settled), "{owner:?} {at:?} {settled:?}");
    }
}

/// Who is said to have the item in its cache, by its mark.
fn by_marks(bench: &Bench, item: ItemId) -> Vec<ClientId> {
    let entries = bench.engine.entries_by_marks(&item, &[]).unwrap();
    entries.iter().map(OwnedEntry::owner).collect()
}

#[test]
fn a_member_s_mark_says_that_it_has_what_the_catalog_had_up_to_there() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    let (first, later) = (row(ITEM, 1, "a.jpg"), row(SECOND, 2, "b.jpg"));
    let mut pending = row(THIRD, 3, "c.jpg");
    pending.state = RowState::Pending { owner: OTHER };
    let mut unproved = row(ItemId([7; 16]), 4, "d.jpg");
    unproved.content.blake3 = None;
    read(&mut bench, 5, vec![news(&first), news(&pending), news(&unproved)]);
    read(&mut bench, 8, vec![news(&later)]);
    assert_eq!(by_marks(&bench, ITEM), [], "nobody has said so yet");
    says(&mut bench, stamp(9, 1), NIL, Entry { label: Label { wall_ms: 77, logical: 1 }, ..mark_at(5) });
    assert_eq!(by_marks(&bench, ITEM), [OTHER]);
    assert_eq!(by_marks(&bench, SECOND), [], "it changed after the mark");
    assert_eq!(by_marks(&bench, THIRD), [], "a pending row may have nobody's file");
    assert_eq!(by_marks(&bench, unproved.item), [], "nobody could ask for it");
    let entries = bench.engine.entries(&ITEM).unwrap();
    let theirs = entries.iter().find(|entry| entry.owner() == OTHER).unwrap();
    assert_eq!(theirs.dot.stamp, stamp(9, 1));
    assert_eq!(theirs.entry, as_the_catalog_has_it(&first, 77, Label { wall_ms: 77, logical: 1 }));
    // An entry of its own says it better, and a later life has yet to say anything.
    says(&mut bench, stamp(9, 2), ITEM, Entry { copy: Some(Copy::default()), ..Entry::default() });
    let entries = bench.engine.entries(&ITEM).unwrap();
    assert_eq!(entries.iter().filter(|entry| entry.owner() == OTHER).count(), 1);
    assert_eq!(entries[0].entry.held_content(), None);
    says(&mut bench, stamp(10, 1), SECOND, Entry::default());
    assert_eq!(by_marks(&bench, ITEM), []);
    // Our own mark is no word of another.
    let ours = Mark { place: place(9), stamp: stamp(1, 1), label: Label::default() };
    bench.engine.marks.of = BTreeMap::from([(ME, ours)]);
    assert_eq!(by_marks(&bench, ITEM), []);
}

/// A node with one item in its cache as the catalog has it since place 5.
fn in_step() -> Bench {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    read(&mut bench, 5, vec![news(&row(ITEM, 1, "a.jpg"))]);
    bench.saw("a.jpg", Seen::File { content: content(4), stat: FileStat::default() });
    bench
}

/// An item is not settled, and looked at later.
fn mark(bench: &mut Bench, item: ItemId) {
    bench.engine.tx.put(Table::Unsettled, item.0.to_vec(), Vec::new());
    bench.engine.queue = crate::engine::settling::Queue::load(&bench.engine.tx).unwrap();
}

fn our_mark(bench: &Bench) -> Option<FeedPlace> {
    bench.engine.marks.of.get(&ME).map(|mark| mark.place)
}

fn own_entries(bench: &Bench, item: ItemId) -> usize {
    usize::from(bench.engine.entry_of(&item, &ME).unwrap().is_some())
}

#[test]
fn what_is_settled_costs_no_entry_and_is_known_all_the_same() {
    let mut bench = in_step();
    bench.pass(10_000);
    assert_eq!((our_mark(&bench), own_entries(&bench, ITEM)), (Some(place(5)), 0));
    let said = bench.engine.own_entry(&ITEM).unwrap();
    assert!(equals_catalog(&said, &row(ITEM, 1, "a.jpg")));
    assert_ne!(said.copy.unwrap().held.unwrap().cached_date_ms, 0, "it keeps when the copy came");
    assert!(bench.engine.tx.prefixed(Table::Settled, &ME.0, 10).unwrap().is_empty());
    assert_eq!(bench.engine.mark_due_ms(), u64::MAX, "there is nothing more to say");
    let written = bench.engine.ledgers.myself.stamp;
    bench.pass(20_000);
    assert_eq!(bench.engine.ledgers.myself.stamp, written);
    // So it is after a restart.
    let bench = bench.restarted();
    assert_eq!((our_mark(&bench), own_entries(&bench, ITEM)), (Some(place(5)), 0));
    assert!(equals_catalog(&bench.engine.own_entry(&ITEM).unwrap(), &row(ITEM, 1, "a.jpg")));
}

#[test]
fn before_the_catalog_s_word_changes_our_entry_says_what_was() {
    let mut bench = in_step();
    bench.pass(10_000);
    let mut next = row(ITEM, 2, "a.jpg");
    next.chain.insert(0, row(ITEM, 1, "a.jpg").chain[0]);
    next.content = content(8);
    next.chain[1].content = content(8);
    read(&mut bench, 7, vec![news(&next)]);
    assert_eq!(own_entries(&bench, ITEM), 1);
    let said = Entry { claims: Vec::new(), ..bench.engine.own_entry(&ITEM).unwrap() };
    assert!(equals_catalog(&said, &row(ITEM, 1, "a.jpg")) && said.settled.is_none());
    // It is not what the catalog has: the mark stays before the page that brought the change.
    bench.pass(10_000);
    assert_eq!(our_mark(&bench), Some(place(5)));
    assert_eq!(own_entries(&bench, ITEM), 1);
}

#[test]
fn a_mark_stops_before_what_is_not_settled_and_passes_what_rests() {
    let mut bench = in_step();
    bench.pass(10_000);
    // Nobody can give it yet.
    read(&mut bench, 6, vec![news(&row(SECOND, 2, "b.jpg"))]);
    read(&mut bench, 9, vec![]);
    bench.pass(10_000);
    assert!(bench.engine.queue.is_marked(&SECOND));
    assert_eq!(our_mark(&bench), Some(place(5)));
    // Held for a person, it gets an entry that says that nothing is here.
    bench.engine.tasks.clear();
    bench.engine.effects.clear();
    bench.engine.withdraw_all_but(SECOND, None).unwrap();
    bench.engine.queue.hold(SECOND, "for a person");
    bench.engine.now.mono_ms += MOVE_MS;
    bench.engine.move_mark().unwrap();
    bench.engine.seal().unwrap();
    assert_eq!(our_mark(&bench).map(|place| place.number), Some(bench.engine.feed.position().number));
    assert_eq!(bench.engine.own_entry(&SECOND).unwrap().copy, Some(Copy::default()));
}

#[test]
fn a_mark_moves_at_most_every_two_seconds_and_only_where_catalog_and_folder_are_known() {
    let mut bench = in_step();
    bench.pass(10_000);
    bench.engine.marks.due_ms = bench.now_ms + 500;
    read(&mut bench, 6, vec![]);
    assert_eq!(bench.engine.mark_due_ms(), bench.now_ms + 500);
    bench.input(Input::Tick);
    assert_eq!(our_mark(&bench), Some(place(5)), "not yet");
    bench.now_ms += 500;
    bench.input(Input::Tick);
    assert_eq!(our_mark(&bench), Some(place(6)));
    assert_eq!(bench.engine.marks.due_ms, bench.now_ms + MOVE_MS);
    let mut bench = bench.restarted();
    assert_eq!(bench.engine.mark_due_ms(), u64::MAX, "neither is known after a restart");
    bench.input(Input::Scanned(Arc::new(Fog)));
    assert!(!bench.engine.feed.is_known());
    assert_eq!(bench.engine.mark_due_ms(), u64::MAX, "one is not enough");
}

#[test]
fn one_mark_absorbs_no_more_than_one_input_should() {
    let mut bench = Bench::new();
    let me = bench.engine.config.me;
    let settle = |bench: &mut Bench, number: u64, n: u64| {
        let item = ItemId((u128::from(number) << 64 | u128::from(n)).to_be_bytes());
        bench.engine.tx.put(Table::Settled, settled_key(&me, place(number), &item), Vec::new());
    };
    for n in 0..ABSORBED_MAX as u64 {
        settle(&mut bench, 1 + n / 600, n);
    }
    let epoch = place(0).epoch;
    assert_eq!(bench.engine.chunk_end(epoch, 9).unwrap(), 9, "so many are fine");
    settle(&mut bench, 2, 5_000);
    assert_eq!(bench.engine.chunk_end(epoch, 9).unwrap(), 2, "up to where the last of them is");
    (0..=1_200).for_each(|n| settle(&mut bench, 1, 10_000 + n));
    assert_eq!(bench.engine.chunk_end(epoch, 9).unwrap(), 1, "but one place whole");
    assert_eq!(bench.engine.chunk_end(CatalogEpoch { number: 7, id: [7; 16] }, 9).unwrap(), 9);
}

#[test]
fn an_entry_that_is_written_behind_the_mark_is_absorbed_by_the_same_mark_written_again() {
    let mut bench = in_step();
    bench.pass(10_000);
    let mark = bench.engine.marks.of[&ME];
    let again = bench.engine.own_entry(&ITEM).unwrap();
    bench.engine.stage(ITEM, again.clone());
    bench.engine.seal().unwrap();
    assert!(own_entries(&bench, ITEM) == 1 && bench.engine.marks.leftover);
    assert!(bench.engine.mirrored(&ITEM).unwrap().unwrap().absorbed_date_ms.is_none());
    assert!(bench.engine.mark_due_ms() < u64::MAX);
    bench.pass(5_000);
    assert_eq!((our_mark(&bench), own_entries(&bench, ITEM)), (Some(place(5)), 0));
    assert!(bench.engine.marks.of[&ME].stamp > mark.stamp);
    // At once, where somebody waits for us to rest.
    bench.engine.stage(ITEM, again.clone());
    bench.engine.seal().unwrap();
    assert!(!bench.engine.absorbs_more());
    bench.input(Input::Wait(1));
    assert_eq!(own_entries(&bench, ITEM), 0);
    // An entry that is not what the catalog has is nothing for the mark.
    let base = Copy { base: None, ..again.copy.clone().unwrap() };
    bench.engine.stage(ITEM, Entry { copy: Some(base), ..again });
    bench.engine.seal().unwrap();
    assert!(!bench.engine.marks.leftover);
}

#[test]
fn what_an_answer_told_before_the_feed_is_absorbed_once_the_feed_names_its_place() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    read(&mut bench, 3, vec![]);
    bench.engine.apply_row(row(ITEM, 1, "a.jpg")).unwrap();
    bench.saw("a.jpg", Seen::File { content: content(4), stat: FileStat::default() });
    assert!(equals_catalog(&bench.engine.own_entry(&ITEM).unwrap(), &row(ITEM, 1, "a.jpg")));
    assert_eq!(bench.engine.own_entry(&ITEM).unwrap().settled, None);
    bench.pass(5_000);
    assert_eq!(own_entries(&bench, ITEM), 1, "the feed may bring it anywhere after that");
    read(&mut bench, 5, vec![news(&row(ITEM, 1, "a.jpg"))]);
    assert_eq!(bench.engine.own_entry(&ITEM).unwrap().settled, Some(place(5)));
    let named = bench.engine.own_dot(&ITEM).unwrap();
    bench.engine.speak_of_place(ITEM).unwrap();
    bench.engine.seal().unwrap();
    assert_eq!(bench.engine.own_dot(&ITEM).unwrap(), named, "once");
    bench.pass(5_000);
    assert_eq!((our_mark(&bench), own_entries(&bench, ITEM)), (Some(place(5)), 0));
}

#[test]
fn a_mark_moves_to_before_the_first_item_at_which_something_is_to_be_done() {
    let mut bench = in_step();
    read(&mut bench, 7, vec![]);
    bench.pass(5_000);
    assert_eq!(our_mark(&bench), Some(place(7)));
    read(&mut bench, 9, vec![news(&row(SECOND, 2, "b.jpg"))]);
    let epoch = place(0).epoch;
    let other_epoch = CatalogEpoch { number: 2, id: [2; 16] };
    let end = |bench: &mut Bench| bench.engine.deviations_end(epoch, 20).unwrap();
    bench.engine.queue.later(SECOND, u64::MAX);
    assert_eq!(end(&mut bench), Some(7), "before the page that brought it");
    bench.engine.brought(SECOND, place(8));
    assert_eq!(end(&mut bench), Some(7), "the page that brought it first");
    bench.engine.brought(SECOND, FeedPlace { epoch: other_epoch, number: 2 });
    bench.engine.withdraw_all_but(SECOND, None).unwrap();
    assert_eq!(end(&mut bench), Some(7), "of another epoch: before the last start, after our mark");
    bench.engine.stage(SECOND, Entry { copy: Some(Copy::default()), ..Entry::default() });
    assert_eq!(end(&mut bench), Some(8), "an entry speaks for it, whatever the mark passes");
    bench.engine.brought(SECOND, place(4));
    assert_eq!(end(&mut bench), Some(4));
    let mirrored = bench.engine.mirrored(&SECOND).unwrap().unwrap();
    bench.engine.save_mirrored(&SECOND, Mirrored { place: None, ..(*mirrored).clone() }).unwrap();
    assert_eq!(end(&mut bench), Some(20), "it changed after all that we have read");
    let elsewhere = Some(FeedPlace { epoch: other_epoch, number: 9 });
    bench.engine.save_mirrored(&SECOND, Mirrored { place: elsewhere, ..(*mirrored).clone() }).unwrap();
    assert_eq!(end(&mut bench), Some(0), "it is of another epoch: nothing can be said");
    for n in 0..DEVIATING_MAX as u128 - 1 {
        mark(&mut bench, ItemId((n + 1).to_be_bytes()));
    }
    assert_eq!(end(&mut bench), Some(0));
    mark(&mut bench, ItemId([200; 16]));
    assert_eq!(end(&mut bench), None, "with so many at work it waits");
}

#[test]
fn a_mark_says_nothing_before_both_the_catalog_and_the_folder_are_known() {
    for (scanned, read_feed) in [(true, false), (false, true), (true, true)] {
        let mut bench = Bench::new();
        if scanned {
            bench.input(Input::Scanned(Arc::new(Fog)));
        }
        if read_feed {
            read(&mut bench, 5, vec![]);
        } else {
            let position = crate::catalog::FeedPosition { epoch: place(5).epoch, number: 5, id: [0; 16] };
            bench.engine.move_feed_to(position).unwrap();
        }
        assert_eq!(
            bench.engine.mark_due_ms() == u64::MAX,
            !(scanned && read_feed) || our_mark(&bench).is_some()
        );
        bench.now_ms += MOVE_MS;
        bench.engine.now.mono_ms = bench.now_ms;
        bench.engine.move_mark().unwrap();
        bench.engine.seal().unwrap();
        assert_eq!(our_mark(&bench).is_some(), scanned && read_feed, "{scanned} {read_feed}");
    }
}

/// A page of the feed that began at a place has brought the item: our mark stops there, and where it stands at that very
/// place it has passed nothing of the page.
#[test]
fn our_mark_may_speak_for_an_item_only_where_it_has_passed_the_beginning_of_the_page_that_brought_it() {
    let mut bench = in_step();
    bench.pass(10_000);
    assert_eq!(our_mark(&bench), Some(place(5)));
    let elsewhere = |number| FeedPlace { epoch: CatalogEpoch { number: 1, id: [9; 16] }, number };
    for (begun, speaks) in [
        (None, true),
        (Some(place(4)), true),
        (Some(place(5)), false),
        (Some(place(6)), false),
        // A place of another epoch says nothing of where the mark is.
        (Some(elsewhere(4)), true),
        (Some(elsewhere(5)), true),
        (Some(elsewhere(6)), true),
    ] {
        bench.engine.marks.begun = begun.map(|begun| (ITEM, begun)).into_iter().collect();
        assert_eq!(bench.engine.mark_may_speak(&ITEM).unwrap(), speaks, "{begun:?}");
    }
    bench.engine.marks.begun.clear();
    for item in [NIL, ItemId([99; 16])] {
        assert!(!bench.engine.mark_may_speak(&item).unwrap(), "it has no row");
    }
    bench.engine.marks.of.clear();
    assert!(!bench.engine.mark_may_speak(&ITEM).unwrap(), "there is no mark");
}
