//! The queue of items that are not settled, and what is waited for, at one engine.

use super::*;
use crate::clock::{Incarnation, Stamp};
use crate::content::{Content, Md5};
use crate::engine::tests::{Bench, Fog, OTHER, row_of};
use crate::entry::{Claim, TaskKind};
use crate::observation::{FileStat, Seen};
use crate::ports::{Effect, Input, Output};
use std::sync::Arc;

const ITEM: ItemId = ItemId([4; 16]);
const SECOND: ItemId = ItemId([5; 16]);

fn content() -> Content {
    Content { md5: Md5([1; 16]), size: 4, blake3: None }
}

#[test]
fn nothing_is_left_to_do_but_what_somebody_else_must_do() {
    let mut queue = Queue::default();
    assert!(queue.is_empty());
    assert_eq!(queue.due_ms(7), u64::MAX);
    queue.hold(ITEM, "for a person");
    assert!(queue.is_empty() && queue.due_ms(7) == u64::MAX);
    queue.rest(SECOND, "for another", 50);
    assert!(queue.is_empty());
    assert_eq!((queue.due_ms(7), queue.timers()), (50, 1));
    queue.ready(SECOND);
    assert!(!queue.is_empty());
    assert_eq!((queue.due_ms(7), queue.timers(), queue.resting().len()), (7, 0, 1));
    let mut queue = Queue::default();
    queue.later(ITEM, 60);
    assert!(!queue.is_empty() && queue.due_ms(7) == 60);
    queue.wake_later();
    assert_eq!(queue.due_ms(7), 7);
    let mut queue = Queue { sweep_ms: 90, ..Queue::default() };
    queue.waiting.insert(ITEM);
    assert!(!queue.is_empty() && queue.due_ms(7) == 90);
    queue.later(SECOND, 80);
    assert_eq!(queue.due_ms(7), 80);
    queue.wake_waiting();
    assert!(!queue.is_empty() && queue.due_ms(7) == 7);
}

#[test]
fn who_waits_for_a_slot_is_woken_when_one_is_free_the_lowest_place_first() {
    let mut queue = Queue::default();
    queue.wait_for_slot(Slot::Download, ITEM, 9);
    queue.wait_for_slot(Slot::Download, SECOND, 3);
    queue.wait_for_slot(Slot::Upload, ItemId([6; 16]), 1);
    assert!(!queue.is_empty());
    let waiting = |queue: &Queue| Slot::ALL.map(|kind| queue.waiting_for_slot(kind));
    assert_eq!(waiting(&queue), [1, 2, 0, 0]);
    queue.wake_slotless(Slot::Download, 0..=u64::MAX, 1);
    assert_eq!((waiting(&queue), queue.ready.first()), ([1, 1, 0, 0], Some(&SECOND)));
    queue.wake_slotless(Slot::Folder, 0..=u64::MAX, 5);
    assert_eq!(waiting(&queue), [1, 1, 0, 0]);
    queue.ready(ITEM);
    assert_eq!(waiting(&queue), [1, 0, 0, 0]);
}

#[test]
fn a_member_that_failed_is_shunned_for_that_item_and_for_a_while() {
    let mut queue = Queue::default();
    queue.shun(ITEM, OTHER, 50);
    assert!(queue.is_shunned(ITEM, OTHER, 49) && !queue.is_shunned(ITEM, OTHER, 50));
    assert!(!queue.is_shunned(SECOND, OTHER, 49));
}

#[test]
fn a_file_that_is_gone_is_looked_for_in_our_trash_once() {
    let mut queue = Queue::default();
    assert!(!queue.is_lost(&ITEM) && !queue.may_be_in_trash(&ITEM) && !queue.found(&ITEM));
    queue.set_lost(ITEM);
    assert!(queue.is_lost(&ITEM) && queue.may_be_in_trash(&ITEM));
    queue.not_in_trash(ITEM);
    assert!(queue.is_lost(&ITEM) && !queue.may_be_in_trash(&ITEM));
    assert!(queue.found(&ITEM) && !queue.is_lost(&ITEM));
    queue.set_lost(ITEM);
    queue.forget(&ITEM);
    assert!(!queue.is_lost(&ITEM));
}

#[test]
fn what_is_not_settled_is_marked_and_looked_at_again_after_a_restart() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    bench.saw("a.jpg", Seen::File { content: content(), stat: FileStat::default() });
    let unsettled: Vec<_> = bench.engine.queue.marked().collect();
    assert_eq!((unsettled.len(), bench.engine.queue.unsettled()), (1, 1), "the catalog is not known");
    let bench = bench.restarted();
    assert_eq!(bench.engine.queue.marked().collect::<Vec<_>>(), unsettled);
    assert!(bench.engine.queue.is_marked(&unsettled[0]) && !bench.engine.queue.is_marked(&ITEM));
    assert!(bench.engine.queue.waiting.contains(&unsettled[0]), "it was looked at");
    // An item of which nothing is known is settled at once.
    let mut bench = Bench::new();
    bench.engine.queue.ready(ITEM);
    bench.input(Input::Tick);
    assert_eq!(bench.engine.queue.unsettled(), 0);
    assert!(bench.engine.tx.prefixed(Table::Unsettled, &[], 1).unwrap().is_empty());
}

#[test]
fn more_than_one_input_may_settle_is_marked_and_follows_at_once() {
    let mut bench = Bench::new();
    for n in 0..=ITEMS_PER_INPUT as u128 {
        bench.engine.queue.ready(ItemId((n + 1).to_be_bytes()));
    }
    bench.input(Input::Tick);
    let left = ItemId((ITEMS_PER_INPUT as u128 + 1).to_be_bytes());
    assert_eq!(bench.engine.queue.marked().collect::<Vec<_>>(), [left]);
    assert_eq!(bench.engine.tx.prefixed(Table::Unsettled, &[], 9).unwrap(), [(left.0.to_vec(), vec![])]);
    assert_eq!(bench.engine.queue.due_ms(bench.now_ms), bench.now_ms);
    bench.input(Input::Tick);
    assert_eq!(bench.engine.queue.unsettled(), 0);
}

#[test]
fn what_waits_is_looked_at_again_every_second() {
    let mut bench = Bench::new();
    bench.input(Input::Tick);
    let sweep_ms = bench.engine.queue.sweep_ms;
    assert_eq!(sweep_ms, bench.now_ms + SWEEP_MS);
    // Nothing is known of it: a look settles it.
    bench.engine.queue.waiting.insert(ITEM);
    bench.engine.queue.shun(ITEM, OTHER, sweep_ms);
    bench.now_ms = sweep_ms - 1;
    bench.input(Input::Tick);
    assert!(bench.engine.queue.waiting.contains(&ITEM) && !bench.engine.queue.shunned.is_empty());
    bench.now_ms = sweep_ms;
    bench.input(Input::Tick);
    assert!(bench.engine.queue.waiting.is_empty() && bench.engine.queue.shunned.is_empty());
    assert_eq!(bench.engine.queue.sweep_ms, sweep_ms + SWEEP_MS);
}

#[test]
fn a_claim_without_a_task_stays_only_where_it_is_still_asked_for() {
    let (seen, task) = (Vec::new(), TaskKind::Download);
    let claim = Claim { task, target: content(), epoch: 1, seen, started: true, progress: 0, attempts: 1 };
    use Verdict as V;
    for (verdict, stays) in [
        (V::Download, true),
        (V::Upload, true),
        (V::Complete, true),
        (V::UploadAgain, true),
        (V::Wait(Reason::CatalogUnknown), true),
        (V::Wait(Reason::FileUnknown), true),
        (V::Wait(Reason::Pending), false),
        (V::Settled, false),
        (V::Conflict, false),
    ] {
        for has_task in [false, true] {
            let mut bench = Bench::new();
            bench.engine.stage(ITEM, Entry { claims: vec![claim.clone()], ..Entry::default() });
            if has_task {
                let job = Job::Trash { path: MediaPath::parse("a.jpg").unwrap() };
                bench.engine.begin(ITEM, content(), job);
            }
            bench.engine.drop_idle_claims(ITEM, verdict).unwrap();
            let left = bench.engine.own_entry(&ITEM).unwrap().claims.len();
            assert_eq!(left == 1, stays || has_task, "{verdict:?} {has_task}");
        }
    }
}

#[test]
fn words_to_the_catalog_about_objects_wait_for_a_share_of_a_slot() {
    let mut bench = Bench::new();
    let items: Vec<ItemId> = (1..=65).map(|n| ItemId([n; 16])).collect();
    let say = |item: ItemId, bench: &mut Bench| {
        let row = row_of(item, "a.jpg", content(), Stamp { incarnation: Incarnation(3), counter: 1 });
        bench.engine.act(item, Entry::default(), Some(row), Verdict::UploadAgain).unwrap();
        bench.drain();
        let is_word = |output: &&Output| matches!(output, Output::Effect(_, Effect::Unsound(_)));
        bench.outputs.iter().filter(is_word).count()
    };
    for (said, item) in items.iter().enumerate() {
        assert_eq!(say(*item, &mut bench), (said + 1).min(64));
    }
    bench.engine.tasks.remove(&items[0]);
    assert_eq!(say(items[64], &mut bench), 65);
}

#[test]
fn what_others_must_do_rests_and_is_shown_and_what_is_to_become_known_waits() {
    for (reason, rests) in [
        (Reason::CatalogUnknown, false),
        (Reason::FileUnknown, false),
        (Reason::Pending, true),
        (Reason::PendingRepair, true),
        (Reason::Unexplained, true),
        (Reason::ManualImport, true),
    ] {
        let mut bench = Bench::new();
        bench.engine.attempt_begins(ITEM, content());
        bench.engine.wait(ITEM, reason);
        let queue = &bench.engine.queue;
        assert_eq!((queue.resting().contains_key(&ITEM), queue.is_empty()), (rests, rests), "{reason:?}");
        let due_ms = if reason == Reason::Pending { bench.now_ms + 10_000 } else { u64::MAX };
        assert_eq!(queue.later.next_ms(), due_ms, "{reason:?}");
    }
    // A file that cannot be read is for a person, once there is nothing more to hear of the folder.
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    assert!(bench.engine.watch.is_known() && bench.engine.watch.is_quiet());
    bench.engine.wait(ITEM, Reason::FileUnknown);
    assert_eq!(bench.engine.queue.resting()[&ITEM], "its file cannot be read");
    bench.engine.wait(SECOND, Reason::CatalogUnknown);
    assert!(bench.engine.queue.waiting.contains(&SECOND));
}
