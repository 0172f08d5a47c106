//! What tasks take of what there is a limited number of, and what becomes of claims that are ahead of the slots.

use super::*;
use crate::batch::{Batch, Record};
use crate::catalog::{CatalogRow, ChainLink, Revision, RowState};
use crate::claims;
use crate::clock::{Dot, Incarnation, Stamp};
use crate::content::{Blake3, Md5};
use crate::engine::tasks::{Download, DownloadStep};
use crate::engine::tests::{Bare, Bench, ME, NoKeys, OTHER, row_of};
use crate::entry::{Copy, Entry, Held, TaskKind};
use crate::ids::ObjectId;
use crate::paths::MediaPath;
use crate::ports::{Effect, EffectId, Input, Outcome, Output};
use quickcheck::{Arbitrary, Gen, quickcheck};
use std::sync::Arc;

const MIB: u64 = 1 << 20;

fn item(n: u8) -> ItemId {
    ItemId([n; 16])
}

fn content(n: u8, size: u64) -> Content {
    Content { md5: Md5([n; 16]), size, blake3: None }
}

fn path(n: u8) -> MediaPath {
    MediaPath::parse(&format!("{n}.jpg")).unwrap()
}

fn download(n: u8, step: DownloadStep) -> Job {
    let target =
        ChainLink { revision: Revision(Dot { client: OTHER, stamp: stamp(n) }), content: content(n, 1) };
    let object = ObjectId(item(n).0);
    let (expected, known, lender) = (None, Vec::new(), None);
    Job::Download(Box::new(Download { target, object, path: path(n), expected, known, lender, step }))
}

fn stamp(n: u8) -> Stamp {
    Stamp { incarnation: Incarnation(3), counter: n.into() }
}

fn task(job: Job, content: Content) -> Task {
    Task { job, content, effect: None, until_ms: None }
}

/// One change of the tasks, of few items so that they meet.
#[derive(Clone, Debug)]
enum Change {
    Insert(u8, u8, u64),
    SetJob(u8, u8),
    Remove(u8),
    SetUntil(u8, Option<u64>),
}

impl Arbitrary for Change {
    fn arbitrary(g: &mut Gen) -> Self {
        let sizes = [0, 1, 16 << 10, MIB, MIB + 1, 3 * MIB, 16 * MIB, u64::MAX];
        let n = u8::arbitrary(g) % 6;
        match u8::arbitrary(g) % 4 {
            0 | 1 => Change::Insert(n, u8::arbitrary(g), *g.choose(&sizes).unwrap()),
            2 => Change::SetJob(n, u8::arbitrary(g)),
            _ if bool::arbitrary(g) => Change::Remove(n),
            _ => Change::SetUntil(n, Option::arbitrary(g)),
        }
    }
}

fn job(n: u8, kind: u8) -> Job {
    match kind % 8 {
        0 => download(n, DownloadStep::Listen),
        1 => download(n, DownloadStep::Get),
        2 => download(n, DownloadStep::Fetch(if kind % 16 < 8 { ME } else { OTHER })),
        3 => Job::Trash { path: path(n) },
        4 => Job::SetAside { version: item(kind % 3), path: path(n), to: path(n), n: 0 },
        5 => download(n, DownloadStep::Publish),
        6 => Job::Move { path: path(n), to: path(n) },
        _ => Job::Import,
    }
}

fn apply(tasks: &mut Tasks, change: &Change) {
    match change {
        Change::Insert(n, kind, size) => tasks.insert(item(*n), task(job(*n, *kind), content(n % 3, *size))),
        Change::SetJob(n, kind) => tasks.set_job(&item(*n), job(*n, *kind)),
        Change::Remove(n) => tasks.remove(&item(*n)),
        Change::SetUntil(n, until_ms) => tasks.set_until(&item(*n), *until_ms),
    }
}

quickcheck! {
    fn what_is_counted_is_what_going_through_all_tasks_finds(changes: Vec<Change>) -> bool {
        let mut tasks = Tasks::default();
        changes.iter().all(|change| {
            apply(&mut tasks, change);
            let all = || tasks.iter().map(|(_, task)| task);
            let used = |slot: Slot| {
                let takes = |task: &&Task| task.job.slot(&task.content) == Some(slot);
                all().filter(takes).map(|task| slot.shares(&task.job, &task.content)).sum::<u64>()
            };
            let fetches = |from| all().filter(|task| task.job.fetches_from() == Some(from)).count();
            let brings = |content: &Content| {
                all().any(|task| matches!(task.job, Job::Download(_)) && task.content.key() == content.key())
            };
            let keeps = |id| all().any(|task| matches!(task.job, Job::SetAside { version, .. } if version == id));
            let wide = |task: &&Task| {
                let slot = task.job.slot(&task.content);
                slot == Some(Slot::Download) && Slot::Download.shares(&task.job, &task.content) > 1
            };
            let due_ms = all().filter_map(|task| task.until_ms).min().unwrap_or(u64::MAX);
            Slot::ALL.iter().all(|slot| tasks.used(*slot) == used(*slot))
                && tasks.wide == all().filter(wide).count()
                && [ME, OTHER].iter().all(|from| tasks.fetches_from(from) == fetches(*from))
                && tasks.iter().all(|(_, task)| tasks.brings(&task.content) == brings(&task.content))
                && (0..3).all(|n| tasks.keeps(&item(n)) == keeps(item(n)))
                && tasks.due_ms() == due_ms
                && tasks.is_empty() == (all().count() == 0)
        })
    }

    fn whatever_came_and_went_leaves_nothing_taken(changes: Vec<Change>) -> bool {
        let mut tasks = Tasks::default();
        changes.iter().for_each(|change| apply(&mut tasks, change));
        (0..6).for_each(|n| tasks.remove(&item(n)));
        Slot::ALL.iter().all(|slot| tasks.used(*slot) == 0)
            && tasks.wide == 0
            && tasks.is_empty()
            && tasks.due_ms() == u64::MAX
            && tasks.fetches.is_empty() && tasks.brings.is_empty() && tasks.keeps.is_empty()
    }
}

#[test]
fn small_contents_share_a_slot_large_ones_and_what_a_member_gives_take_a_whole_one() {
    let get = download(1, DownloadStep::Get);
    let shares = |size| Slot::Download.shares(&get, &content(1, size));
    assert_eq!(
        [0, 1, MIB, MIB + 1, 5 * MIB, 16 * MIB, 17 * MIB, u64::MAX].map(shares),
        [1, 1, 1, 2, 5, 16, 16, 16]
    );
    assert!(is_small(&content(1, MIB)) && !is_small(&content(1, MIB + 1)));
    assert_eq!(Slot::Download.shares(&download(1, DownloadStep::Fetch(OTHER)), &content(1, 1)), SHARES);
    assert_eq!(Slot::Folder.shares(&Job::Trash { path: path(1) }, &content(1, u64::MAX)), 1);
    let ahead = |size| Slot::Ahead.shares(&download(1, DownloadStep::Listen), &content(1, size));
    assert_eq!([0, 1, 16 << 10, (16 << 10) + 1, MIB].map(ahead), [1, 1, 1, 2, 64]);
    let slot = |step, size| download(1, step).slot(&content(1, size));
    assert_eq!(slot(DownloadStep::Listen, MIB), Some(Slot::Ahead));
    assert_eq!(
        slot(DownloadStep::Listen, MIB + 1),
        Some(Slot::Download),
        "it has its slot before it is claimed"
    );
    assert_eq!(slot(DownloadStep::Get, 1), Some(Slot::Download));
}

/// Nothing is in the cache, the catalog has so many new items, and the other is live.
fn new_items(count: u8, size: u64) -> Bench {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Bare)));
    bench.answer_feed(Vec::new());
    bench.at(100_000, true);
    for n in 1..=count {
        let row = row_of(item(n), path(n).as_str(), content(n, size), stamp(n));
        bench.engine.apply_row(row).unwrap();
    }
    bench.at(100_000, true);
    bench
}

/// The bench until then, the other being heard all the time. What it orders is not answered.
fn until(bench: &mut Bench, end_ms: u64) {
    for now_ms in (bench.now_ms..=end_ms).step_by(50) {
        bench.at(now_ms, true);
    }
}

fn claimed(bench: &Bench) -> usize {
    let claims = |n| bench.engine.own_entry(&item(n)).unwrap().claims.len();
    (1..=u8::MAX).map(claims).sum()
}

/// What is being fetched from the cloud, in the order in which it was begun.
fn gets(bench: &Bench) -> Vec<EffectId> {
    let get = |output: &Output| match output {
        Output::Effect(id, Effect::Get { .. }) => Some(*id),
        _ => None,
    };
    bench.outputs.iter().filter_map(get).collect()
}

#[test]
fn small_contents_are_claimed_at_once_whatever_the_slots_and_fetched_sixteen_a_slot() {
    let mut bench = new_items(200, 20_000);
    until(&mut bench, 100_050);
    let first = |n: &u8| claims::turn(&ME, &[OTHER], &content(*n, 20_000).key()) == 0;
    let ours = (1..=200).filter(first).count();
    assert!(ours > 70, "about each second");
    assert_eq!((claimed(&bench), gets(&bench).len()), (ours, 0));
    until(&mut bench, 104_000);
    assert_eq!(gets(&bench).len() as u64, 4 * SHARES);
    assert_eq!(
        claimed(&bench),
        ours,
        "what the other comes first for is left to it while our slots are full"
    );
}

/// The other says that it claims our item's content too, under the epoch of ours.
fn other_claims(bench: &mut Bench, item: ItemId) {
    let claims = bench.engine.own_entry(&item).unwrap().claims;
    let entry = Entry { claims, ..Entry::default() }.encode().unwrap();
    let record = Record { item, entry };
    let batch = Batch::sign(OTHER, Incarnation(1), 1, vec![record], &NoKeys).unwrap();
    bench.engine.keep(&batch).unwrap();
}

#[test]
fn who_goes_first_and_hears_of_another_listens_on_until_the_word_that_it_has_begun_would_be_here() {
    // Of one content only: for which we rank first.
    let n = (1..=9).find(|n| claims::turn(&ME, &[OTHER], &content(*n, 20_000).key()) == 0).unwrap();
    for (size, heard) in [(20_000, false), (20_000, true), (100 * MIB, true)] {
        let mut bench = new_items(0, 0);
        bench.engine.apply_row(row_of(item(n), "a.jpg", content(n, size), stamp(n))).unwrap();
        until(&mut bench, 100_050);
        assert_eq!((bench.engine.own_entry(&item(n)).unwrap().claims.len(), gets(&bench).len()), (1, 0));
        if heard {
            other_claims(&mut bench, item(n));
        }
        until(&mut bench, 100_200);
        assert_eq!(gets(&bench).len(), usize::from(!heard), "a listening takes 100 ms");
        until(&mut bench, 100_300);
        assert_eq!(gets(&bench).len(), 1);
        other_claims(&mut bench, item(n));
        until(&mut bench, 100_350);
        let begun = bench.engine.tasks.get(&item(n)).unwrap();
        assert_eq!(begun.until_ms, None, "who has begun does not listen");
    }
}

#[test]
fn large_contents_are_claimed_when_there_is_a_slot() {
    let mut bench = new_items(20, 100 * MIB);
    until(&mut bench, 105_000);
    assert_eq!((claimed(&bench), gets(&bench).len()), (4, 4));
}

#[test]
fn a_claim_ahead_goes_on_when_a_slot_is_free() {
    let mut bench = new_items(65, 20_000);
    until(&mut bench, 105_000);
    let under_way = gets(&bench);
    assert_eq!((claimed(&bench), under_way.len()), (65, 64));
    bench.input(Input::Done(under_way[0], Outcome::Failed("away".into())));
    assert_eq!(gets(&bench).len(), 65);
}

#[test]
fn a_word_to_the_catalog_about_an_object_keeps_the_share_of_its_download() {
    let mut bench = new_items(65, 20_000);
    let told = |bench: &Bench| -> Vec<EffectId> {
        let unsound = |output: &Output| match output {
            Output::Effect(id, Effect::Unsound(_)) => Some(*id),
            _ => None,
        };
        bench.outputs.iter().filter_map(unsound).collect()
    };
    until(&mut bench, 102_500);
    let under_way = gets(&bench);
    bench.input(Input::Done(under_way[0], Outcome::Missing));
    assert_eq!((told(&bench).len(), gets(&bench).len()), (1, 64), "it keeps the share of its download");
    bench.input(Input::Done(told(&bench)[0], Outcome::Failed("away".into())));
    assert_eq!(gets(&bench).len(), 65);
}

#[test]
fn a_claim_ahead_that_found_no_slot_in_time_is_withdrawn_and_is_no_failure() {
    let mut bench = new_items(65, 20_000);
    until(&mut bench, 105_000);
    let ahead = (1..=65).map(item).find(|item| {
        bench.engine.tasks.get(item).is_some_and(|task| task.job.slot(&task.content) == Some(Slot::Ahead))
    });
    let ahead = ahead.unwrap();
    // The others move.
    for (now_ms, bytes) in [(106_000, 1), (108_000, 2), (110_000, 3)] {
        gets(&bench).into_iter().for_each(|id| bench.input(Input::Progress(id, bytes)));
        let vector = bench.engine.vector();
        bench.engine.prove_claims(&vector);
        until(&mut bench, now_ms);
    }
    assert_eq!((claimed(&bench), gets(&bench).len()), (64, 64));
    assert_eq!(bench.engine.own_entry(&ahead).unwrap().claims.len(), 0);
    assert_eq!(bench.engine.attempts.failure(&ahead), None);
    assert!(bench.engine.tasks.get(&ahead).is_none(), "while no slot is free nothing is claimed ahead again");
}

#[test]
fn a_rival_that_is_heard_of_at_the_end_of_the_listening_is_heard_of() {
    let n = (1..=9).find(|n| claims::turn(&ME, &[OTHER], &content(*n, 20_000).key()) == 0).unwrap();
    let mut bench = new_items(0, 0);
    bench.engine.apply_row(row_of(item(n), "a.jpg", content(n, 20_000), stamp(n))).unwrap();
    until(&mut bench, 100_050);
    let ends_ms = bench.engine.tasks.get(&item(n)).unwrap().until_ms.unwrap();
    other_claims(&mut bench, item(n));
    bench.at(ends_ms, true);
    assert_eq!(gets(&bench).len(), 0);
    until(&mut bench, ends_ms + 250);
    assert_eq!(gets(&bench).len(), 1);
}

/// The other holds these contents of 40 bytes; their items are new here.
fn other_holds(bench: &mut Bench, items: std::ops::RangeInclusive<u8>) {
    let records = items.clone().map(|n| {
        let content = Content { blake3: Some(Blake3([n; 32])), ..content(n, 40) };
        let held = Held { content, path: path(n), cached_date_ms: 0 };
        let copy = Copy { held: Some(held), base: None, line: Vec::new() };
        let entry = Entry { copy: Some(copy), ..Entry::default() }.encode().unwrap();
        Record { item: item(n), entry }
    });
    let batch = Batch::sign(OTHER, Incarnation(1), 1, records.collect(), &NoKeys).unwrap();
    bench.engine.keep(&batch).unwrap();
    for n in items {
        let row = row_of(item(n), path(n).as_str(), content(n, 40), stamp(n));
        bench.engine.apply_row(row).unwrap();
    }
    bench.input(Input::Tick);
}

/// What is being fetched from a member, in the order in which it was begun.
fn fetched(bench: &Bench) -> Vec<(EffectId, Content)> {
    let fetch = |output: &Output| match output {
        Output::Effect(id, Effect::Fetch { content, .. }) => Some((*id, *content)),
        _ => None,
    };
    bench.outputs.iter().filter_map(fetch).collect()
}

#[test]
fn what_a_member_gives_is_not_kept_waiting_by_small_contents_of_the_cloud() {
    let mut bench = new_items(100, 20_000);
    until(&mut bench, 102_500);
    assert_eq!((claimed(&bench), gets(&bench).len()), (100, 64));
    other_holds(&mut bench, 201..=203);
    assert_eq!(fetched(&bench).len(), 0);
    let under_way = gets(&bench);
    bench.input(Input::Done(under_way[0], Outcome::Failed("away".into())));
    assert_eq!(fetched(&bench).len(), 1, "one share is enough to begin");
    // As soon as what it took too much is given back, those of the cloud go on, and it alone with them.
    under_way[1..=20].iter().for_each(|id| bench.input(Input::Done(*id, Outcome::Failed("away".into()))));
    assert_eq!((fetched(&bench).len(), gets(&bench).len()), (1, 64 + 5));
    let done = fetched(&bench)[0];
    bench.engine.queue.shun(item(done.1.md5.0[0]), OTHER, u64::MAX);
    bench.input(Input::Done(done.0, Outcome::Missing));
    assert_eq!(
        (fetched(&bench).len(), gets(&bench).len()),
        (2, 64 + 5 + 15),
        "the next, and those of the cloud"
    );
}

#[test]
fn whoever_waits_for_a_slot_takes_first_what_it_ranks_high_for() {
    let mut bench = new_items(0, 0);
    other_holds(&mut bench, 201..=240);
    let held = |n| Content { blake3: Some(Blake3([n; 32])), ..content(n, 40) };
    let mut waiting: Vec<_> = (201..=240).map(|n| held(n).key()).collect();
    waiting.retain(|key| !fetched(&bench).iter().any(|(_, content)| content.key() == *key));
    waiting.sort_by_key(|key| std::cmp::Reverse(claims::rendezvous(&ME, key)));
    assert_eq!((fetched(&bench).len(), waiting.len()), (4, 36));
    for key in waiting {
        let under_way = fetched(&bench);
        let item = item(under_way.last().unwrap().1.md5.0[0]);
        // It is given up for good, so that it does not come again.
        bench.engine.queue.shun(item, OTHER, u64::MAX);
        bench.input(Input::Done(under_way.last().unwrap().0, Outcome::Missing));
        let begun = fetched(&bench);
        assert_eq!(begun.len(), under_way.len() + 1);
        assert_eq!(begun.last().unwrap().1.key(), key);
    }
}

#[test]
fn who_waits_for_a_slot_is_looked_at_when_those_before_it_had_no_use_for_it() {
    let mut bench = new_items(0, 0);
    // Of these nothing is known any more.
    (1..=200).for_each(|n| bench.engine.queue.wait_for_slot(Slot::Download, item(n), n.into()));
    bench.input(Input::Tick);
    bench.pass(500);
    assert_eq!(bench.engine.queue.waiting_for_slot(Slot::Download), 0);
}

/// So many small contents, all slots full of those that are under way, and the item of one that is claimed ahead of them.
fn one_ahead() -> (Bench, ItemId) {
    let mut bench = new_items(65, 20_000);
    until(&mut bench, 102_500);
    let is_ahead = |item: &ItemId| {
        bench.engine.tasks.get(item).is_some_and(|task| task.job.slot(&task.content) == Some(Slot::Ahead))
    };
    let ahead = (1..=65).map(item).find(is_ahead).unwrap();
    (bench, ahead)
}

#[test]
fn a_claim_ahead_of_what_is_not_wanted_any_more_is_withdrawn_at_once() {
    let changes: [fn(&mut Bench, ItemId); 4] = [
        |bench, item| bench.input(Input::Delete(item)),
        |bench, item| {
            let row = bench.engine.row(&item).unwrap().unwrap();
            bench.engine.apply_row(CatalogRow { state: RowState::KillRequest, ..row }).unwrap();
        },
        |bench, item| {
            // Another content, too large to be claimed ahead.
            let row = bench.engine.row(&item).unwrap().unwrap();
            let (revision, content) =
                (Revision(Dot { client: OTHER, stamp: stamp(200) }), content(200, 5 * MIB));
            let chain = vec![row.chain[0], ChainLink { revision, content }];
            bench.engine.apply_row(CatalogRow { revision, content, chain, ..row }).unwrap();
        },
        |bench, item| {
            // The very file is there.
            let row = bench.engine.row(&item).unwrap().unwrap();
            let held = Held { content: row.content, path: row.cache_path, cached_date_ms: 0 };
            let copy = Copy { held: Some(held), base: row.chain.last().copied(), line: Vec::new() };
            let entry = bench.engine.own_entry(&item).unwrap();
            bench.engine.stage(item, Entry { copy: Some(copy), ..entry });
            bench.engine.queue.ready(item);
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let (mut bench, ahead) = one_ahead();
        let before = bench.engine.tasks.get(&ahead).unwrap().content;
        change(&mut bench, ahead);
        bench.input(Input::Tick);
        assert!(
            bench.engine.own_entry(&ahead).unwrap().claim(TaskKind::Download, &before).is_none(),
            "change {at}"
        );
        let listens = bench.engine.tasks.get(&ahead).is_some_and(|task| task.job.listens());
        assert!(!listens, "change {at}");
    }
}

/// Time goes on, what is under way moves, and the other hears of it.
fn moves_until(bench: &mut Bench, end_ms: u64) {
    for now_ms in (bench.now_ms..=end_ms).step_by(1_000) {
        gets(bench).into_iter().for_each(|id| bench.input(Input::Progress(id, now_ms)));
        let vector = bench.engine.vector();
        bench.engine.prove_claims(&vector);
        until(bench, (now_ms + 1_000).min(end_ms));
    }
}

fn claims_of(bench: &Bench, item: &ItemId) -> usize {
    bench.engine.own_entry(item).unwrap().claims.len()
}

#[test]
fn a_claim_ahead_does_not_begin_so_late_that_its_first_renewal_could_not_arrive() {
    let (mut bench, _) = one_ahead();
    // The other came first for it.
    let staked_ms = 100_400;
    moves_until(&mut bench, staked_ms + 6_600);
    let under_way = gets(&bench);
    assert_eq!(under_way.len(), 64);
    // Its lease would be over in 66 ms, and the other is not known by then to have its next word.
    bench.input(Input::Done(under_way[0], Outcome::Failed("away".into())));
    until(&mut bench, staked_ms + 6_700);
    assert!(!bench.outputs.iter().any(|output| matches!(output, Output::Cancel(_))));
    assert_eq!(bench.engine.claiming.unheard_until_ms, 0, "nothing has to wait for that");
}

#[test]
fn what_was_claimed_ahead_in_vain_is_left_to_others_for_a_turn_each() {
    let (mut bench, ahead) = one_ahead();
    while claims_of(&bench, &ahead) > 0 {
        let next_ms = bench.now_ms + 50;
        moves_until(&mut bench, next_ms);
        assert!(bench.now_ms < 110_000);
    }
    let withdrawn_ms = bench.now_ms;
    let under_way = gets(&bench);
    bench.input(Input::Done(under_way[0], Outcome::Missing));
    let told = bench.engine.tasks.iter().find(|(_, task)| matches!(task.job, Job::Unsound(_)));
    let told = *told.unwrap().0;
    bench.engine.tasks.remove(&told);
    // The other stakes after 400 ms, and is heard.
    moves_until(&mut bench, withdrawn_ms + 600);
    assert_eq!(claims_of(&bench, &ahead), 0, "it is free, and there is a slot");
    moves_until(&mut bench, withdrawn_ms + 1_000);
    assert_eq!(claims_of(&bench, &ahead), 1, "nobody wanted it");
}

#[test]
fn people_see_claims_ahead_as_what_waits_and_not_among_what_is_done() {
    let (bench, ahead) = one_ahead();
    let report = bench.engine.report();
    assert_eq!((report.tasks.len(), report.downloads_waiting), (64, 1));
    assert!(!report.tasks.iter().any(|task| task.item == ahead));
}
