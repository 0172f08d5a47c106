//! Attempts in vain: how they are counted, when they are tried again, and what ends the count.

use super::*;
use crate::content::Md5;
use crate::engine::tests::Bench;
use crate::ports::{Input, Output};

const ITEM: ItemId = ItemId([4; 16]);
const OTHER_ITEM: ItemId = ItemId([5; 16]);

fn content(n: u8) -> Content {
    Content { md5: Md5([n; 16]), size: 4, blake3: None }
}

/// An attempt that fails. How long until the next.
fn fail(bench: &mut Bench, item: ItemId) -> u64 {
    bench.engine.attempt_begins(item, content(1));
    bench.engine.failed(item, "no room".into());
    bench.engine.queue.due_ms(bench.now_ms) - bench.now_ms
}

fn park(bench: &mut Bench, item: ItemId) {
    (0..ATTEMPTS_MAX).for_each(|_| _ = fail(bench, item));
}

#[test]
fn what_cannot_reach_catalog_or_objects_is_tried_on_and_never_parked_for_that() {
    let mut bench = Bench::new();
    bench.drain();
    bench.outputs.clear();
    bench.engine.attempts.set_away(true);
    let waits: Vec<_> = (0..3 * ATTEMPTS_MAX).map(|_| fail(&mut bench, ITEM)).collect();
    assert_eq!(waits[..3], [500, 1_000, 2_000]);
    assert!(waits[6..].iter().all(|wait| *wait == 32_000));
    bench.drain();
    let said = bench.outputs.iter().filter(|one| matches!(one, Output::Event(Event::Failing(..)))).count();
    assert_eq!(said, 1, "once, and not at each attempt");
    bench.engine.attempts.set_away(false);
    (0..3).for_each(|_| _ = fail(&mut bench, ITEM));
    assert!(bench.engine.is_parked(ITEM, &content(1)), "its own failures count");
}

#[test]
fn a_failure_is_tried_again_each_time_later_and_after_ten_much_later() {
    let mut bench = Bench::new();
    bench.drain();
    bench.outputs.clear();
    let waits: Vec<_> = (0..9).map(|_| fail(&mut bench, ITEM)).collect();
    assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000, 32_000]);
    assert!(!bench.engine.is_parked(ITEM, &content(1)) && bench.engine.queue.resting().is_empty());
    assert_eq!(fail(&mut bench, ITEM), 5 * 60_000);
    assert_eq!(bench.engine.queue.resting().get(&ITEM).map(String::as_str), Some("parked: no room"));
    bench.drain();
    let said =
        |event: Event| bench.outputs.iter().filter(|one| **one == Output::Event(event.clone())).count();
    assert_eq!(said(Event::Failing(ITEM, "no room".into())), 9);
    assert_eq!(said(Event::Parked(ITEM, "no room".into())), 1, "it is shown");
    assert_eq!(bench.engine.attempts.failure(&ITEM), Some("no room"));
}

#[test]
fn what_is_parked_rests_for_five_minutes_or_until_it_is_about_another_content() {
    let mut bench = Bench::new();
    park(&mut bench, ITEM);
    assert!(bench.engine.is_parked(ITEM, &content(1)), "it rests");
    assert!(!bench.engine.is_parked(ITEM, &content(2)), "another content");
    assert!(!bench.engine.is_parked(ITEM, &content(1)), "which unparks it");
    park(&mut bench, OTHER_ITEM);
    bench.engine.now.mono_ms += 5 * 60_000 - 1;
    assert!(bench.engine.is_parked(OTHER_ITEM, &content(1)));
    bench.engine.now.mono_ms += 1;
    assert!(!bench.engine.is_parked(OTHER_ITEM, &content(1)));
}

#[test]
fn a_task_that_kills_its_node_is_parked_too_as_attempts_are_counted_before_they_begin() {
    let mut bench = Bench::new();
    for count in 1..=ATTEMPTS_MAX {
        assert!(!bench.engine.is_parked(ITEM, &content(1)));
        assert_eq!(bench.engine.attempt_begins(ITEM, content(1)), count);
        bench.input(Input::Tick);
        bench = bench.restarted();
        let failures: Vec<_> = bench.engine.attempts.failures().collect();
        assert_eq!(failures, [(&ITEM, "it was under way when this node stopped")]);
    }
    assert!(bench.engine.is_parked(ITEM, &content(1)), "five minutes after a restart, too");
    bench.engine.now.mono_ms += 5 * 60_000 - 1;
    assert!(bench.engine.is_parked(ITEM, &content(1)));
    bench.engine.now.mono_ms += 1;
    assert!(!bench.engine.is_parked(ITEM, &content(1)));
}

#[test]
fn a_node_that_dies_again_and_again_under_a_transfer_that_moves_parks_nothing_and_a_failure_still_counts() {
    let mut bench = Bench::new();
    for _ in 0..2 * ATTEMPTS_MAX {
        assert!(bench.engine.attempt_begins(ITEM, content(1)) <= 2);
        bench.engine.attempt_moves(ITEM);
        bench.engine.attempt_moves(ITEM);
        bench.input(Input::Tick);
        bench = bench.restarted();
        assert!(!bench.engine.is_parked(ITEM, &content(1)));
    }
    for _ in 1..ATTEMPTS_MAX {
        bench.engine.attempt_begins(ITEM, content(1));
        bench.engine.attempt_moves(ITEM);
        bench.engine.failed(ITEM, "no room".into());
    }
    assert!(bench.engine.is_parked(ITEM, &content(1)));
}

#[test]
fn success_ends_the_count_for_good() {
    let mut bench = Bench::new();
    fail(&mut bench, ITEM);
    bench.input(Input::Tick);
    bench.engine.attempts_over(&ITEM);
    bench.input(Input::Tick);
    let mut bench = bench.restarted();
    assert_eq!((bench.engine.attempts.failures().count(), bench.engine.attempts.failure(&ITEM)), (0, None));
    assert_eq!(bench.engine.attempt_begins(ITEM, content(1)), 1);
    assert_eq!(bench.engine.attempts.failures().count(), 0, "it has not failed yet");
    assert_eq!(bench.engine.attempts.failure(&ITEM), None);
}

#[test]
fn another_content_is_counted_from_one() {
    let mut bench = Bench::new();
    assert_eq!(bench.engine.attempt_begins(ITEM, content(1)), 1);
    assert_eq!(bench.engine.attempt_begins(ITEM, content(1)), 2);
    assert_eq!(bench.engine.attempt_begins(ITEM, content(2)), 1);
    assert_eq!(bench.engine.attempt_begins(ITEM, content(2)), 2);
}

#[test]
fn what_was_broken_off_for_no_fault_of_its_own_is_not_counted() {
    let mut bench = Bench::new();
    bench.engine.attempt_begins(ITEM, content(1));
    bench.engine.attempt_was_none(ITEM);
    assert!(bench.engine.attempts.tries.is_empty());
    fail(&mut bench, ITEM);
    bench.engine.attempt_begins(ITEM, content(1));
    bench.engine.attempt_was_none(ITEM);
    // There is no other attempt to take back.
    bench.engine.attempt_was_none(ITEM);
    bench.input(Input::Tick);
    let mut bench = bench.restarted();
    assert_eq!(bench.engine.attempt_begins(ITEM, content(1)), 2, "one failed, one is under way");
}

#[test]
fn a_failure_counts_once_whether_its_attempt_was_counted_before_or_not() {
    let mut bench = Bench::new();
    fail(&mut bench, ITEM);
    bench.engine.failed(ITEM, "no answer".into());
    assert_eq!(bench.engine.attempts.tries[&ITEM].count, 2);
    // However much there is to say.
    bench.engine.failed(ITEM, "\u{e9}".repeat(1_000));
    assert_eq!(bench.engine.attempts.failure(&ITEM).map(str::len), Some(WHY_BYTES_MAX));
}

#[test]
fn a_person_s_word_has_what_is_parked_tried_again_one_item_or_all() {
    let mut bench = Bench::new();
    park(&mut bench, ITEM);
    park(&mut bench, OTHER_ITEM);
    bench.engine.retry(Some(ITEM));
    assert_eq!(bench.engine.queue.due_ms(bench.now_ms), bench.now_ms, "at once");
    assert!(!bench.engine.is_parked(ITEM, &content(1)) && bench.engine.is_parked(OTHER_ITEM, &content(1)));
    assert_eq!(bench.engine.attempt_begins(ITEM, content(1)), 1);
    bench.engine.retry(None);
    assert!(!bench.engine.is_parked(OTHER_ITEM, &content(1)));
    // What is not parked has its turn anyway.
    bench.engine.retry(Some(ITEM));
    assert_eq!(bench.engine.attempt_begins(ITEM, content(1)), 2);
}
