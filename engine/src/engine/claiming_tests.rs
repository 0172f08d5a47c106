//! Claims at one engine: which stand, who wins, whose turn it is, and which epochs are never used again.

use super::*;
use crate::batch::{Batch, Record};
use crate::clock::{Incarnation, Stamp};
use crate::content::Md5;
use crate::engine::tests::{Bench, ME, NoKeys, OTHER};
use crate::ports::Input;

const ITEM: ItemId = ItemId([4; 16]);
const OTHER_ITEM: ItemId = ItemId([5; 16]);
const DOWNLOAD: TaskKind = TaskKind::Download;

fn content(n: u8) -> Content {
    Content { md5: Md5([n; 16]), size: 4, blake3: None }
}

fn claim(task: TaskKind, epoch: u64) -> Claim {
    let (seen, started) = (Vec::new(), false);
    Claim { task, target: content(1), epoch, seen, started, progress: 0, attempts: 0 }
}

fn stamp(incarnation: u64, counter: u64) -> Stamp {
    Stamp { incarnation: Incarnation(incarnation), counter }
}

/// The other says this of an item. Whatever it is, it comes with this write.
fn says(bench: &mut Bench, at: Stamp, item: ItemId, claims: Vec<Claim>) {
    let entry = Entry { claims, ..Entry::default() }.encode().unwrap();
    let batch =
        Batch::sign(OTHER, at.incarnation, at.counter, vec![Record { item, entry }], &NoKeys).unwrap();
    bench.engine.turn_to(&OTHER, at.incarnation);
    bench.engine.keep(&batch).unwrap();
    bench.engine.ledgers.myself.vector.advance(OTHER, at);
}

fn void_ms(bench: &Bench) -> Vec<u64> {
    bench.engine.claims_on(DOWNLOAD, &content(1)).unwrap().iter().map(|staked| staked.void_ms).collect()
}

fn rivals(bench: &Bench, task: TaskKind) -> usize {
    bench.engine.rivals(&ITEM, task, &content(1)).unwrap().len()
}

#[test]
fn a_claim_is_void_a_lease_and_a_margin_after_it_was_renewed_last() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    assert_eq!((void_ms(&bench), rivals(&bench, DOWNLOAD)), (vec![111_000], 1));
    bench.at(104_000, true);
    assert_eq!(void_ms(&bench), [111_000], "that its owner is live renews nothing");
    says(&mut bench, stamp(9, 2), ITEM, vec![claim(DOWNLOAD, 1)]);
    assert_eq!(void_ms(&bench), [115_000]);
    bench.at(108_000, true);
    bench.at(112_000, true);
    bench.at(114_999, true);
    assert_eq!(rivals(&bench, DOWNLOAD), 1);
    bench.at(115_000, true);
    assert_eq!(rivals(&bench, DOWNLOAD), 0, "from then on it stands in nobody's way");
    says(&mut bench, stamp(9, 3), ITEM, vec![]);
    assert!(void_ms(&bench).is_empty());
    assert!(bench.engine.claiming.renewed_ms.is_empty(), "and nothing is remembered of it");
}

#[test]
fn a_late_copy_of_what_was_said_renews_nothing() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    bench.at(104_000, true);
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    assert_eq!(void_ms(&bench), [111_000]);
}

#[test]
fn what_one_writes_that_is_not_live_renews_nothing() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    bench.at(103_000, true);
    bench.at(104_000, false);
    says(&mut bench, stamp(9, 2), ITEM, vec![claim(DOWNLOAD, 1)]);
    assert_eq!(void_ms(&bench), [103_000 + 11_000], "it was last live then");
    bench.at(106_000, true);
    assert_eq!(void_ms(&bench), [104_000 + 11_000], "that came, and its owner hears us again");
}

#[test]
fn who_was_never_live_has_a_lease_from_when_we_first_heard_of_its_claims() {
    let mut bench = Bench::new();
    bench.at(64_000, false);
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    bench.at(68_000, false);
    says(&mut bench, stamp(9, 2), ITEM, vec![claim(DOWNLOAD, 1)]);
    assert_eq!(void_ms(&bench), [64_000 + 11_000]);
}

#[test]
fn nobody_is_called_silent_before_we_have_listened_for_a_whole_lease() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    // Half a lease between two inputs is a slow machine, more is a suspended one.
    bench.at(105_000, false);
    assert_eq!(void_ms(&bench), [111_000]);
    bench.at(110_001, false);
    assert_eq!(void_ms(&bench), [110_001 + 11_000]);
    // So it is after a restart: we begin to listen then.
    let bench = bench.restarted();
    assert_eq!(void_ms(&bench), [bench.now_ms + 11_000]);
}

#[test]
fn our_own_claim_is_never_void_and_a_later_life_voids_those_of_the_earlier_at_once() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    bench.engine.stake(ITEM, claim(DOWNLOAD, 1), true).unwrap();
    bench.engine.seal().unwrap();
    assert_eq!(void_ms(&bench), [u64::MAX]);
    assert_eq!(rivals(&bench, DOWNLOAD), 0, "and we are no rival of our own");
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    assert_eq!(rivals(&bench, DOWNLOAD), 1);
    says(&mut bench, stamp(10, 1), OTHER_ITEM, vec![]);
    assert_eq!((void_ms(&bench), rivals(&bench, DOWNLOAD)), (vec![u64::MAX], 0));
}

#[test]
fn a_content_is_downloaded_once_whatever_the_item_and_each_item_has_its_own_upload() {
    for (task, rivals_of_the_other_item) in [(DOWNLOAD, 1), (TaskKind::Upload, 0), (TaskKind::Kill, 0)] {
        let mut bench = Bench::new();
        bench.at(100_000, true);
        says(&mut bench, stamp(9, 1), OTHER_ITEM, vec![claim(task, 1)]);
        assert_eq!(rivals(&bench, task), rivals_of_the_other_item, "{task:?}");
        says(&mut bench, stamp(9, 2), ITEM, vec![claim(task, 1)]);
        assert_eq!(rivals(&bench, task), rivals_of_the_other_item + 1, "{task:?}");
        let all = [DOWNLOAD, TaskKind::Upload, TaskKind::Kill, TaskKind::Derive];
        for other in all.into_iter().filter(|other| *other != task) {
            assert_eq!(rivals(&bench, other), 0, "a claim on {task:?} is none on {other:?}");
            let scopes = [task, other].map(|task| Scope::of(task, &content(1)));
            assert_ne!(scopes[0], scopes[1]);
        }
        assert!(bench.engine.rivals(&ITEM, task, &content(2)).unwrap().is_empty());
    }
}

#[test]
fn who_has_the_higher_epoch_wins_whether_that_is_the_other_or_we() {
    for (theirs, we_win) in [(4, true), (6, false)] {
        let mut bench = Bench::new();
        bench.at(100_000, true);
        assert!(!bench.engine.wins(&ITEM, DOWNLOAD, &content(1)).unwrap(), "without a claim nobody wins");
        bench.engine.stake(ITEM, claim(DOWNLOAD, 5), true).unwrap();
        assert!(bench.engine.wins(&ITEM, DOWNLOAD, &content(1)).unwrap());
        says(&mut bench, stamp(9, 1), OTHER_ITEM, vec![claim(DOWNLOAD, theirs)]);
        assert_eq!(bench.engine.wins(&ITEM, DOWNLOAD, &content(1)).unwrap(), we_win, "{theirs}");
        // A void claim wins over nobody.
        bench.engine.now.mono_ms += 11_000;
        assert!(bench.engine.wins(&ITEM, DOWNLOAD, &content(1)).unwrap());
    }
}

fn next(bench: &Bench) -> Claim {
    bench.engine.new_claim(DOWNLOAD, content(1), 0).unwrap()
}

#[test]
fn a_new_claim_is_above_all_known_and_says_what_it_has_seen_of_others() {
    let mut bench = Bench::new();
    assert_eq!((next(&bench).epoch, next(&bench).seen), (1, vec![]));
    assert_eq!(
        bench.engine.new_claim(DOWNLOAD, content(1), 6).unwrap().epoch,
        7,
        "the row's is known as well"
    );
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 8)]);
    says(&mut bench, stamp(9, 2), OTHER_ITEM, vec![claim(DOWNLOAD, 3)]);
    bench.engine.stake(ITEM, claim(DOWNLOAD, 2), true).unwrap();
    bench.engine.seal().unwrap();
    // Those that are void count too.
    bench.engine.now.mono_ms += 1_000_000;
    let new = next(&bench);
    let dots = [1, 2].map(|counter| Dot { client: OTHER, stamp: stamp(9, counter) });
    assert_eq!((new.epoch, new.seen), (9, dots.to_vec()));
    assert_eq!((new.started, new.progress, new.attempts), (false, 0, 0));
}

#[test]
fn the_epoch_of_a_claim_that_is_gone_is_not_used_again_while_the_content_is_wanted() {
    let mut bench = Bench::new();
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 3)]);
    says(&mut bench, stamp(9, 2), ITEM, vec![]);
    assert_eq!(next(&bench).epoch, 1, "nobody here wants it: nothing is remembered");
    bench.engine.want(ITEM, DOWNLOAD, &content(1)).unwrap();
    says(&mut bench, stamp(9, 3), ITEM, vec![claim(DOWNLOAD, 7)]);
    says(&mut bench, stamp(9, 4), ITEM, vec![]);
    says(&mut bench, stamp(9, 5), ITEM, vec![claim(DOWNLOAD, 4)]);
    says(&mut bench, stamp(9, 6), ITEM, vec![]);
    assert_eq!(next(&bench).epoch, 8, "the highest is remembered, not the last");
    bench.input(Input::Tick);
    let mut bench = bench.restarted();
    assert_eq!(next(&bench).epoch, 8, "after a restart, too");
    // Wanted for two items, it is forgotten when neither waits any more.
    bench.engine.want(ITEM, DOWNLOAD, &content(1)).unwrap();
    bench.engine.want(OTHER_ITEM, DOWNLOAD, &content(1)).unwrap();
    bench.engine.unwant(&ITEM).unwrap();
    assert_eq!(next(&bench).epoch, 8);
    bench.engine.unwant(&OTHER_ITEM).unwrap();
    assert_eq!(next(&bench).epoch, 1);
}

#[test]
fn our_own_epoch_is_remembered_from_when_we_stake() {
    let mut bench = Bench::new();
    bench.engine.want(ITEM, DOWNLOAD, &content(1)).unwrap();
    bench.engine.stake(ITEM, claim(DOWNLOAD, 5), true).unwrap();
    bench.engine.withdraw_all_but(ITEM, None).unwrap();
    assert_eq!(next(&bench).epoch, 6);
}

#[test]
fn a_content_is_wanted_since_it_was_first_and_for_all_items_that_waited_together() {
    let mut bench = Bench::new();
    let scope = bench.engine.want(ITEM, DOWNLOAD, &content(1)).unwrap();
    let since_ms = bench.engine.now.mono_ms;
    bench.engine.now.mono_ms += 500;
    bench.engine.want(ITEM, DOWNLOAD, &content(1)).unwrap();
    bench.engine.want(OTHER_ITEM, DOWNLOAD, &content(1)).unwrap();
    let claiming = &bench.engine.claiming;
    assert_eq!((claiming.wanted_first_ms(&scope), claiming.wanted_since_ms(&scope)), (since_ms, since_ms));
    assert_eq!(claiming.wanted_with(&scope), [ITEM, OTHER_ITEM]);
    // One has it: the others may take it from there.
    bench.engine.unwant(&ITEM).unwrap();
    assert_eq!(bench.engine.claiming.wanted_with(&scope), [ITEM, OTHER_ITEM]);
    // An item wants one content at a time.
    let other = bench.engine.want(OTHER_ITEM, DOWNLOAD, &content(2)).unwrap();
    assert_eq!(bench.engine.claiming.wanted_with(&scope), []);
    assert_eq!(bench.engine.claiming.wanted_with(&other), [OTHER_ITEM]);
    assert_eq!(bench.engine.claiming.wanted_first_ms(&other), since_ms + 500);
}

fn turn(bench: &mut Bench) -> Turn {
    let scope = bench.engine.want(ITEM, DOWNLOAD, &content(1)).unwrap();
    bench.engine.cloud_turn(ITEM, &scope, &content(1)).unwrap()
}

/// How long we wait at least before we stake: the second in turn waits longer, whichever of the two that is.
fn wait_ms(place: usize) -> u64 {
    claims::turn_ms(place, 100)
}

#[test]
fn one_who_is_alone_stakes_at_once() {
    let mut bench = Bench::new();
    let at_ms = bench.now_ms;
    assert_eq!(turn(&mut bench), Turn::Stake);
    // Not while nobody was known to hear us.
    bench.engine.claiming.unheard_until_ms = at_ms + 7;
    assert_eq!(turn(&mut bench), Turn::Wait(at_ms + 7));
    bench.engine.now.mono_ms = at_ms + 7;
    assert_eq!(turn(&mut bench), Turn::Stake);
    // Who comes back to its own claim goes on with it.
    bench.engine.stake(ITEM, claim(DOWNLOAD, 1), true).unwrap();
    assert_eq!(turn(&mut bench), Turn::Resume);
}

#[test]
fn turns_count_from_when_the_last_claim_in_the_way_is_void() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    let place = claims::turn(&ME, &[ME, OTHER], &content(1).key());
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    assert_eq!(turn(&mut bench), Turn::Wait(111_000));
    bench.at(104_000, true);
    says(&mut bench, stamp(9, 2), OTHER_ITEM, vec![claim(DOWNLOAD, 1)]);
    assert_eq!(turn(&mut bench), Turn::Wait(111_000), "looked at again when the first is void");
    for now_ms in [108_000, 111_000] {
        bench.at(now_ms, true);
    }
    assert_eq!(turn(&mut bench), Turn::Wait(115_000), "but all must be");
    bench.at(115_000, true);
    assert_eq!(turn(&mut bench), Turn::Wait(115_000 + wait_ms(place)));
    bench.at(115_000 + wait_ms(place), true);
    assert_eq!(turn(&mut bench), Turn::Stake);
}

#[test]
fn a_claim_that_is_withdrawn_frees_the_content_from_then_on() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    let place = claims::turn(&ME, &[ME, OTHER], &content(1).key());
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    assert_eq!(turn(&mut bench), Turn::Wait(111_000));
    bench.at(103_000, true);
    says(&mut bench, stamp(9, 2), ITEM, vec![]);
    assert_eq!(turn(&mut bench), Turn::Wait(103_000 + wait_ms(place)));
    bench.at(103_050, true);
    assert_eq!(turn(&mut bench), Turn::Wait(103_000 + wait_ms(place)), "not from each look anew");
}

#[test]
fn who_has_lost_withdraws_and_waits_for_the_winner() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    bench.engine.stake(ITEM, claim(DOWNLOAD, 1), true).unwrap();
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 2)]);
    assert_eq!(turn(&mut bench), Turn::Wait(111_000));
    assert_eq!(bench.engine.own_entry(&ITEM).unwrap().claims, []);
}

#[test]
fn withdrawing_leaves_the_one_that_is_kept_and_writes_nothing_where_nothing_is_withdrawn() {
    let mut bench = Bench::new();
    let upload = claim(TaskKind::Upload, 3);
    let other_target = Claim { target: content(2), ..claim(DOWNLOAD, 4) };
    let claims = vec![claim(DOWNLOAD, 1), upload, other_target];
    bench.engine.stage(ITEM, Entry { claims, ..Entry::default() });
    bench.engine.withdraw_all_but(ITEM, Some((DOWNLOAD, &content(1)))).unwrap();
    assert_eq!(bench.engine.own_entry(&ITEM).unwrap().claims, [claim(DOWNLOAD, 1)]);
    bench.engine.seal().unwrap();
    let before = bench.engine.ledgers.myself.stamp;
    bench.engine.withdraw_all_but(ITEM, Some((DOWNLOAD, &content(1)))).unwrap();
    bench.engine.seal().unwrap();
    assert_eq!(bench.engine.ledgers.myself.stamp, before);
    bench.engine.withdraw_all_but(ITEM, None).unwrap();
    assert!(bench.engine.own_entry(&ITEM).unwrap().claims.is_empty());
}

#[test]
fn work_that_begins_is_marked_as_started_and_its_attempt_is_counted() {
    let mut bench = Bench::new();
    bench.engine.start_claimed(ITEM, DOWNLOAD, content(1)).unwrap();
    assert!(bench.engine.own_entry(&ITEM).unwrap().claims.is_empty(), "nothing is claimed");
    bench.engine.stake(ITEM, claim(DOWNLOAD, 1), true).unwrap();
    bench.engine.start_claimed(ITEM, DOWNLOAD, content(1)).unwrap();
    let ours = bench.engine.own_entry(&ITEM).unwrap().claims;
    assert_eq!(ours, [Claim { started: true, attempts: 2, ..claim(DOWNLOAD, 1) }]);
}

#[test]
fn what_others_say_of_a_content_makes_its_tasks_be_judged_again_and_our_own_word_does_not() {
    let mut bench = Bench::new();
    bench.engine.stake(ITEM, claim(DOWNLOAD, 1), true).unwrap();
    bench.engine.seal().unwrap();
    assert!(bench.engine.take_contested().is_empty());
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    let scope = Scope::of(DOWNLOAD, &content(1));
    assert_eq!(bench.engine.take_contested(), BTreeSet::from([scope]));
    assert!(bench.engine.take_contested().is_empty(), "once");
    says(&mut bench, stamp(9, 2), ITEM, vec![]);
    assert_eq!(bench.engine.take_contested(), BTreeSet::from([scope]), "that it is withdrawn, too");
}

#[test]
fn a_renewal_beyond_the_bound_counts_as_when_we_began_to_listen() {
    let mut bench = Bench::new();
    bench.at(61_000, true);
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    bench.at(63_000, true);
    let crowd = (1..RENEWALS_MAX).map(|n| ((ItemId((n as u128).to_be_bytes()), ME), 0));
    bench.engine.claiming.renewed_ms.extend(crowd);
    says(&mut bench, stamp(9, 2), ITEM, vec![claim(DOWNLOAD, 1)]);
    says(&mut bench, stamp(9, 3), OTHER_ITEM, vec![claim(DOWNLOAD, 1)]);
    assert_eq!(void_ms(&bench), [63_000 + 11_000, 60_000 + 11_000]);
}

#[test]
fn the_renewals_of_all_that_a_whole_workgroup_claims_ahead_are_remembered() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    // 62 others have each claimed all that they may.
    for (member, n) in (0..62).flat_map(|member| (0..2048u64).map(move |n| (member, n))) {
        let item = ItemId((u128::from(n) << 8 | u128::from(member)).to_be_bytes());
        bench.engine.claiming.renewed_ms.insert((item, ClientId([100 + member; 32])), 100_000);
    }
    for now_ms in (104_000..=112_000).step_by(4_000) {
        bench.at(now_ms, true);
    }
    says(&mut bench, stamp(9, 1), ITEM, vec![claim(DOWNLOAD, 1)]);
    assert_eq!(void_ms(&bench), [112_000 + 11_000]);
}
