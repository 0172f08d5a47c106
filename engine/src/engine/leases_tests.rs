//! Leases at one engine: what renews our claims, when our tasks must stop, and what becomes of them then.

use super::*;
use crate::batch::{Batch, Record};
use crate::clock::Incarnation;
use crate::content::Md5;
use crate::engine::tasks::Task;
use crate::engine::tests::{Bench, NoKeys, OTHER};
use crate::entry::Entry;
use crate::ids::ObjectId;
use crate::observation::FileStat;
use crate::paths::MediaPath;
use crate::ports::Input;

const ITEM: ItemId = ItemId([4; 16]);
const EFFECT: EffectId = EffectId(77);
/// The lease of the bench; a holder stops after two thirds of it, to the millisecond: 6666.
const LEASE_MS: u64 = 10_000;

fn content() -> Content {
    Content { md5: Md5([1; 16]), size: 40, blake3: None }
}

fn claim() -> Claim {
    let (seen, started) = (Vec::new(), false);
    Claim { task: TaskKind::Download, target: content(), epoch: 1, seen, started, progress: 0, attempts: 0 }
}

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: 0 }
}

fn stamp(counter: u64) -> Stamp {
    Stamp { incarnation: Incarnation(1), counter }
}

/// A node that works on a claimed task, with one effect under way; at 100 s, the other being live or not.
fn at_work(other_is_live: bool, leased: bool) -> Bench {
    let mut bench = Bench::new();
    bench.at(100_000, other_is_live);
    work_begins(bench, other_is_live, leased)
}

fn work_begins(mut bench: Bench, other_is_live: bool, leased: bool) -> Bench {
    let path = MediaPath::parse("a.jpg").unwrap();
    let task = Task { job: Job::Trash { path }, content: content(), effect: Some(EFFECT), until_ms: None };
    bench.engine.tasks.insert(ITEM, task);
    bench.engine.effects.insert(EFFECT, Waiter::Task(ITEM));
    bench.engine.stake(ITEM, claim(), leased).unwrap();
    bench.engine.start_claimed(ITEM, TaskKind::Download, content()).unwrap();
    bench.at(bench.now_ms, other_is_live);
    bench.outputs.clear();
    bench
}

/// The other has all that we have written.
fn other_has_all(bench: &mut Bench) {
    let vector = bench.engine.vector();
    bench.engine.prove_claims(&vector);
}

fn written_ms(bench: &Bench) -> u64 {
    bench.engine.claiming.work.get(&ITEM).unwrap().written_ms
}

/// Whether a claimed task of ours is looked after.
fn works(bench: &Bench) -> bool {
    bench.engine.claiming.work.get(&ITEM).is_some()
}

fn is_cancelled(bench: &Bench) -> bool {
    bench.outputs.contains(&Output::Cancel(EFFECT))
}

fn claims_of(bench: &Bench) -> usize {
    bench.engine.own_entry(&ITEM).unwrap().claims.len()
}

#[test]
fn a_holder_counts_from_the_sending_of_the_last_renewal_that_arrived() {
    let mut work = Work::new(&claim(), true, false, at(10));
    for counter in 1..=3 {
        work.wrote(stamp(counter), 100 * counter, 1_000 * counter);
    }
    work.proved(stamp(0));
    assert_eq!(work.proven_ms, 10);
    work.proved(stamp(2));
    assert_eq!((work.proven_ms, work.proven_wall_ms), (200, 2_000));
    work.proved(stamp(1));
    assert_eq!(work.proven_ms, 200, "an older word takes nothing back");
    work.proved(stamp(9));
    assert_eq!(work.proven_ms, 300);
}

#[test]
fn of_many_renewals_on_their_way_the_oldest_are_forgotten() {
    let mut work = Work::new(&claim(), true, false, at(0));
    for counter in 1..=UNPROVEN_MAX as u64 {
        work.wrote(stamp(counter), counter, 0);
    }
    work.proved(stamp(1));
    assert_eq!(work.proven_ms, 1, "so many are remembered");
    for counter in 10..=18 {
        work.wrote(stamp(counter), counter, 0);
    }
    work.proved(stamp(10));
    assert_eq!(work.proven_ms, 1);
    work.proved(stamp(11));
    assert_eq!(work.proven_ms, 11);
}

#[test]
fn progress_is_bytes_that_moved_another_step_or_for_a_while_what_follows_the_last_byte() {
    let mut work = Work::new(&claim(), true, false, at(1_000));
    assert!(!work.is_moving(1_000, LEASE_MS));
    work.stepped = true;
    assert!(work.is_moving(1_000, LEASE_MS));
    work.wrote(stamp(1), 1_000, 0);
    assert!(!work.is_moving(1_000, LEASE_MS), "it is written");
    (work.moved, work.moved_ms) = (39, 2_000);
    assert!(work.is_moving(1_000_000, LEASE_MS));
    work.wrote(stamp(2), 2_000, 0);
    assert!(!work.is_moving(2_000, LEASE_MS), "nothing has moved since");
    (work.moved, work.moved_ms) = (40, 3_000);
    work.wrote(stamp(3), 3_000, 0);
    // All bytes are there: syncing is progress that nobody sees, for six leases.
    assert!(work.is_moving(3_000 + 6 * LEASE_MS - 1, LEASE_MS));
    assert!(!work.is_moving(3_000 + 6 * LEASE_MS, LEASE_MS));
    // Of an empty content nothing ever moves.
    let empty = Claim { target: Content { size: 0, ..content() }, ..claim() };
    assert!(!Work::new(&empty, true, false, at(0)).is_moving(0, LEASE_MS));
}

#[test]
fn a_task_that_moves_is_renewed_each_fifth_of_a_lease_and_one_that_does_not_is_not() {
    let mut bench = at_work(true, true);
    other_has_all(&mut bench);
    bench.at(102_000, true);
    assert_eq!(written_ms(&bench), 100_000, "nothing has moved");
    bench.input(Input::Progress(EFFECT, 10));
    assert_eq!(written_ms(&bench), 102_000);
    assert_eq!(bench.engine.own_entry(&ITEM).unwrap().claims[0].progress, 10, "and says how far it is");
    bench.at(103_999, true);
    bench.input(Input::Progress(EFFECT, 20));
    assert_eq!(written_ms(&bench), 102_000);
    assert_eq!(bench.engine.lease_due_ms(), 104_000);
    bench.at(104_000, true);
    assert_eq!(written_ms(&bench), 104_000);
    bench.at(106_000, true);
    bench.input(Input::Progress(EFFECT, 20));
    assert_eq!(written_ms(&bench), 104_000, "the same bytes again are no progress");
    assert_eq!(bench.engine.claiming.work.get(&ITEM).unwrap().moved_ms, 103_999);
    assert_eq!(bench.engine.lease_due_ms(), 106_666);
}

#[test]
fn who_is_alone_has_no_lease_until_somebody_is_live() {
    let mut bench = at_work(false, true);
    assert_eq!(bench.engine.lease_due_ms(), u64::MAX, "whoever becomes live is noticed");
    bench.input(Input::Progress(EFFECT, 10));
    for now_ms in [104_000, 108_000, 112_000, 116_000] {
        bench.at(now_ms, false);
        assert!(bench.engine.may_go_on(&ITEM));
    }
    assert_eq!(written_ms(&bench), 100_000, "there is nobody to hear it");
    // From when somebody is there it counts.
    bench.at(117_000, true);
    assert!(!is_cancelled(&bench));
    bench.at(120_000, true);
    bench.at(117_000 + 6_665, true);
    assert!(!is_cancelled(&bench));
    bench.at(117_000 + 6_666, true);
    assert!(is_cancelled(&bench));
}

#[test]
fn who_is_not_heard_stops_at_two_thirds_and_stakes_nothing_for_a_while() {
    let mut bench = at_work(true, true);
    assert_eq!(bench.engine.lease_due_ms(), 106_666, "nothing has moved that a renewal would tell");
    bench.at(103_000, true);
    bench.input(Input::Progress(EFFECT, 10));
    bench.at(106_665, true);
    assert!(!is_cancelled(&bench));
    assert_eq!(bench.engine.lease_due_ms(), 106_666);
    bench.at(106_666, true);
    assert!(is_cancelled(&bench));
    assert_eq!(bench.engine.lease_due_ms(), u64::MAX, "it stops: no lease is looked at any more");
    assert_eq!(claims_of(&bench), 1, "its effect is still under way");
    bench.at(106_700, true);
    assert!(bench.engine.tasks.contains_key(&ITEM));
    bench.input(Input::Done(EFFECT, Outcome::Failed("cancelled".into())));
    assert_eq!((claims_of(&bench), bench.engine.tasks.contains_key(&ITEM), works(&bench)), (0, false, false));
    assert_eq!(bench.engine.attempts.failure(&ITEM), None, "it is no fault of the task");
    // 13/30 of a lease: so long is what others wait beyond what it has waited.
    assert_eq!(bench.engine.claiming.unheard_until_ms, 106_700 + 11_000 - 6_666);
}

#[test]
fn what_others_are_known_to_have_keeps_the_lease_and_what_they_only_may_have_does_not() {
    let mut bench = at_work(true, true);
    bench.at(103_000, true);
    bench.input(Input::Progress(EFFECT, 10));
    assert_eq!(written_ms(&bench), 103_000);
    other_has_all(&mut bench);
    bench.at(107_000, true);
    assert!(!is_cancelled(&bench));
    bench.at(109_665, true);
    assert!(!is_cancelled(&bench));
    bench.at(109_666, true);
    assert!(is_cancelled(&bench));
}

#[test]
fn a_task_that_stands_still_has_failed_and_leaves_it_to_others() {
    let mut bench = at_work(true, true);
    other_has_all(&mut bench);
    bench.at(104_000, true);
    bench.at(106_666, true);
    assert!(is_cancelled(&bench));
    bench.input(Input::Done(EFFECT, Outcome::Failed("cancelled".into())));
    assert!(bench.engine.attempts.failure(&ITEM).is_some_and(|why| why.contains("stood still")));
    assert_eq!((claims_of(&bench), works(&bench)), (0, false));
    assert_eq!(bench.engine.claiming.unheard_until_ms, 0);
}

#[test]
fn a_task_that_nobody_else_could_do_has_no_lease() {
    let mut bench = at_work(true, false);
    assert_eq!(bench.engine.lease_due_ms(), u64::MAX);
    for now_ms in [104_000, 108_000, 112_000] {
        bench.at(now_ms, true);
        assert!(bench.engine.may_go_on(&ITEM));
    }
    assert_eq!((is_cancelled(&bench), written_ms(&bench)), (false, 100_000));
}

#[test]
fn before_each_effect_it_is_asked_whether_the_lease_is_over() {
    let mut bench = at_work(true, true);
    bench.engine.now.mono_ms = 106_665;
    assert!(bench.engine.may_go_on(&ITEM));
    assert!(bench.engine.claiming.work.get(&ITEM).unwrap().stepped, "another step is progress");
    bench.engine.now.mono_ms = 106_666;
    assert!(!bench.engine.may_go_on(&ITEM));
    // Late proof changes nothing: it has stopped.
    other_has_all(&mut bench);
    assert!(!bench.engine.may_go_on(&ITEM));
    assert!(bench.engine.may_go_on(&ItemId([9; 16])), "what is not claimed may");
}

#[test]
fn who_loses_breaks_off_and_withdraws_as_soon_as_its_effect_is_over() {
    let mut bench = at_work(true, true);
    bench.engine.now.mono_ms = 100_100;
    bench.engine.stop_task(ITEM, Stop::Lost).unwrap();
    bench.drain();
    assert!(is_cancelled(&bench));
    bench.input(Input::Done(EFFECT, Outcome::Failed("cancelled".into())));
    assert_eq!((claims_of(&bench), bench.engine.tasks.contains_key(&ITEM)), (0, false));
    assert_eq!(bench.engine.claiming.unheard_until_ms, 0, "it was heard well enough");
}

/// The other says that it claims the content, under this epoch.
fn other_claims(bench: &mut Bench, counter: u64, epoch: u64) {
    let entry = Entry { claims: vec![Claim { epoch, ..claim() }], ..Entry::default() };
    let record = Record { item: ItemId([5; 16]), entry: entry.encode().unwrap() };
    let batch = Batch::sign(OTHER, Incarnation(1), counter, vec![record], &NoKeys).unwrap();
    bench.engine.keep(&batch).unwrap();
}

#[test]
fn what_another_says_of_the_content_is_judged_in_the_same_input() {
    for (epoch, lost) in [(0, false), (2, true)] {
        let mut bench = at_work(true, true);
        other_claims(&mut bench, 1, epoch);
        bench.at(100_001, true);
        assert_eq!(is_cancelled(&bench), lost, "{epoch}");
    }
}

#[test]
fn claims_of_one_who_becomes_live_stand_again_and_are_judged_then() {
    let mut bench = Bench::new();
    for (counter, now_ms) in [(1, 100_000), (2, 104_000), (3, 108_000), (4, 112_000)] {
        bench.at(now_ms, false);
        other_claims(&mut bench, counter, 2);
    }
    bench = work_begins(bench, false, true);
    bench.at(112_001, false);
    assert!(!is_cancelled(&bench), "who is not live has no claim that stands");
    bench.at(112_002, true);
    assert!(is_cancelled(&bench));
}

#[test]
fn who_stakes_listens_for_a_moment() {
    let mut bench = at_work(true, true);
    bench.engine.listen(ITEM);
    assert_eq!(
        bench.engine.tasks.get(&ITEM).unwrap().until_ms,
        Some(bench.now_ms + bench.engine.config.listen_ms)
    );
}

#[test]
fn what_was_done_in_spite_of_all_is_used() {
    use crate::engine::tasks::{Download, DownloadStep};
    let revision = crate::catalog::Revision(crate::clock::Dot { client: OTHER, stamp: stamp(1) });
    let download = Download {
        target: crate::catalog::ChainLink { revision, content: content() },
        object: ObjectId([3; 16]),
        path: MediaPath::parse("a.jpg").unwrap(),
        expected: None,
        known: Vec::new(),
        lender: None,
        step: DownloadStep::Get,
    };
    let download = Job::Download(Box::new(download));
    let done = Outcome::Done { stat: FileStat::default() };
    let mut bench = at_work(true, true);
    assert!(!bench.engine.broken_off(ITEM, &download, &done).unwrap(), "nothing stops it");
    assert!(works(&bench));
    bench.engine.claiming.work.get_mut(&ITEM).unwrap().stopping = Some(Stop::Lost);
    assert!(!bench.engine.broken_off(ITEM, &download, &done).unwrap(), "the bytes are here");
    assert!(!works(&bench));
}

#[test]
fn a_gap_of_more_than_half_a_lease_is_one_in_which_we_did_not_listen() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    bench.engine.note_time(100_000 + LEASE_MS / 2);
    assert_eq!(bench.engine.claiming.listening_since_ms, 100_000);
    bench.engine.note_time(100_000 + LEASE_MS / 2 + 1);
    assert_eq!(bench.engine.claiming.listening_since_ms, 105_001);
}

#[test]
fn who_has_stopped_for_good_looks_at_no_lease_any_more() {
    let mut bench = at_work(true, true);
    bench.engine.stop("two of us");
    bench.input(Input::Tick);
    // Heartbeats, and readings of the feed.
    assert!(bench.pass(100_000) < 100);
}
