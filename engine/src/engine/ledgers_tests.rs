//! Ledgers at one engine: what we write, number, push and page, what is kept of others, and what a restart finds again.

use super::*;
use crate::batch::Signature;
use crate::content::{Content, Md5};
use crate::engine::heads::Heads;
use crate::engine::tests::{Bench, ME, NoKeys, OTHER};
use crate::entry::{Claim, Copy, Held, TaskKind};
use crate::heads::Head;
use crate::message::Fetch;
use crate::paths::MediaPath;
use crate::ports::{Event, Input};

fn item(n: u16) -> ItemId {
    ItemId((u128::from(n) + 1).to_be_bytes())
}

fn stamp(incarnation: u64, counter: u64) -> Stamp {
    Stamp { incarnation: Incarnation(incarnation), counter }
}

fn holding(n: u8) -> Entry {
    let content = Content { md5: Md5([n; 16]), size: 4, blake3: Some(Blake3([n; 32])) };
    let path = MediaPath::parse("a.jpg").unwrap();
    let held = Some(Held { content, path, cached_date_ms: 0 });
    Entry { copy: Some(Copy { held, base: None, line: Vec::new() }), ..Entry::default() }
}

fn signed(owner: ClientId, first: Stamp, entries: &[(ItemId, Entry)]) -> Batch {
    let record = |(item, entry): &(ItemId, Entry)| Record { item: *item, entry: entry.encode().unwrap() };
    let records = entries.iter().map(record).collect();
    Batch::sign(owner, first.incarnation, first.counter, records, &NoKeys).unwrap()
}

/// The other's ledger goes on with these entries.
fn says(bench: &mut Bench, first: Stamp, entries: &[(ItemId, Entry)]) {
    let batch = signed(OTHER, first, entries);
    bench.engine.turn_to(&OTHER, first.incarnation);
    bench.engine.keep(&batch).unwrap();
    bench.engine.ledgers.myself.vector.advance(OTHER, batch.last_stamp());
}

fn pages(bench: &Bench) -> Vec<Page> {
    let page = |output: &Output| match output {
        Output::Send(OTHER, Message::Page(page)) => Some(page.clone()),
        _ => None,
    };
    bench.outputs.iter().filter_map(page).collect()
}

fn head_of(bench: &Bench, owner: ClientId, at: Stamp) -> Head {
    let hash = bench.engine.heads.digest_without(&owner, &[]);
    Head { stamp: at, hash, signature: Signature([0; 64]) }
}

#[test]
fn an_entry_gets_the_dot_that_it_was_promised() {
    let mut bench = Bench::new();
    // The first write of a start leaves a gap before it; those after do not.
    for round in 0..3u16 {
        let items = [item(10 * round), item(10 * round + 1)];
        let mut promised = Vec::new();
        for one in items {
            assert_eq!(bench.engine.dot_for(&one), bench.engine.next_dot());
            promised.push(bench.engine.next_dot());
            bench.engine.stage(one, holding(1));
            assert_eq!(bench.engine.dot_for(&one), promised[promised.len() - 1]);
            assert_eq!(bench.engine.own_dot(&one).unwrap(), bench.engine.dot_for(&one));
        }
        bench.engine.stage(items[0], holding(2));
        bench.engine.seal().unwrap();
        for (one, dot) in items.into_iter().zip(promised) {
            assert_eq!(bench.engine.own_dot(&one).unwrap(), dot);
            assert_eq!(bench.engine.item_of(&ME, dot.stamp).unwrap(), Some(one));
        }
        assert_eq!(
            bench.engine.own_entry(&items[0]).unwrap().copy,
            holding(2).copy,
            "staged again, it is one"
        );
    }
}

#[test]
fn each_start_leaves_out_some_counters_that_a_lost_life_may_have_used() {
    let mut bench = Bench::new();
    let life = bench.engine.ledgers.myself.stamp.incarnation;
    let at = |counter| Stamp { incarnation: life, counter };
    let mut last = 0;
    for start in 0..3u16 {
        bench.engine.stage(item(start), holding(1));
        bench.engine.seal().unwrap();
        let first = bench.engine.ledgers.myself.stamp.counter;
        // The random number of a start of the bench is 7.
        assert_eq!(first, last + 1 + 7 + 1);
        assert!((last + 1..first).all(|counter| bench.engine.heads.in_gap(at(counter))));
        assert!(!bench.engine.heads.in_gap(at(first)) && !bench.engine.heads.in_gap(at(last)));
        assert!(!bench.engine.heads.in_gap(stamp(life.0 + 1, last + 1)));
        bench.engine.stage(item(start), holding(2));
        bench.engine.seal().unwrap();
        last = bench.engine.ledgers.myself.stamp.counter;
        assert_eq!(last, first + 1, "once a start");
        bench.input(Input::Tick);
        bench = bench.restarted();
    }
    // Where no counters are left to leave out none are.
    bench.engine.ledgers.myself.stamp.counter = u64::MAX - 7;
    bench.engine.leave_gap().unwrap();
    assert_eq!(bench.engine.ledgers.myself.stamp.counter, u64::MAX - 7);
    let tx = Transaction::new(crate::store::MemoryStore::default());
    for random in [0, u64::MAX] {
        let far = Heads::load(&tx, random).unwrap();
        let mut bench = Bench::new();
        bench.engine.heads = far;
        let gap = bench.engine.next_dot().stamp.counter - 1;
        assert!((1..=1 << 40).contains(&gap), "{gap}");
    }
}

#[test]
fn what_one_input_writes_is_pushed_in_batches_that_join_and_the_last_has_the_head() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    bench.outputs.clear();
    let before = bench.engine.ledgers.myself.stamp;
    for n in 0..BATCH_RECORDS_MAX as u16 + 1 {
        bench.engine.stage(item(n), holding(1));
    }
    bench.input(Input::Tick);
    let pushed = pages(&bench);
    assert_eq!(pushed.iter().map(|page| page.batches.len()).collect::<Vec<_>>(), [1, 1]);
    assert_eq!((pushed[0].after, pushed[1].after), (before, pushed[0].through));
    assert_eq!(pushed[0].head, None);
    let head = pushed[1].head.unwrap();
    assert_eq!((head.stamp, pushed[1].through), (pushed[1].batches[0].last_stamp(), head.stamp));
    assert_eq!(head, head_of(&bench, ME, head.stamp));
    bench.outputs.clear();
    bench.input(Input::Tick);
    assert!(pages(&bench).is_empty(), "nothing is written, nothing is pushed");
    // A batch has to fit a frame, however few its records are.
    let large = Field900(40_000).entry();
    let of_a_batch = PAGE_BYTES / 40_000 + 1;
    for n in 0..=of_a_batch as u16 {
        bench.engine.stage(item(n), large.clone());
    }
    bench.input(Input::Tick);
    let sizes: Vec<_> = pages(&bench).iter().map(|page| page.batches[0].records().count()).collect();
    assert_eq!(sizes, [of_a_batch, 1]);
}

/// A field of a newer version, of so many bytes.
struct Field900(usize);

impl Field900 {
    fn entry(&self) -> Entry {
        let field = crate::entry::Field { tag: 900, bytes: vec![1; self.0] };
        Entry { unknown: vec![field], ..Entry::default() }
    }
}

/// The whole ledger as a member gets it, page by page.
fn streamed(bench: &Bench, owner: ClientId) -> Vec<Page> {
    let (mut after, mut pages) = (Stamp::default(), Vec::new());
    loop {
        let page = bench.engine.page(owner, after).unwrap();
        assert_eq!(page.after, after);
        after = page.through;
        let more = page.more;
        pages.push(page);
        if !more {
            return pages;
        }
    }
}

#[test]
fn a_long_ledger_comes_in_pages_that_join_and_only_the_last_has_the_head() {
    let mut bench = Bench::new();
    for n in 0..64 + 3 {
        bench.engine.stage(item(n), holding(1));
        bench.engine.seal().unwrap();
    }
    let pages = streamed(&bench, ME);
    assert_eq!(pages.iter().map(|page| page.batches.len()).collect::<Vec<_>>(), [64, 3]);
    assert_eq!(pages[0].head, None);
    assert_eq!(pages[1].head, bench.engine.heads.head(&ME).copied());
    // After any of its stamps it goes on with the next.
    let middle = bench.engine.page(ME, pages[0].batches[9].last_stamp()).unwrap();
    assert_eq!(middle.batches[0], pages[0].batches[10]);
    // By bytes, too.
    let mut bench = Bench::new();
    for n in 0..40 {
        bench.engine.stage(item(n), Field900(40_000).entry());
        bench.engine.seal().unwrap();
    }
    let pages = streamed(&bench, ME);
    assert!(pages.len() > 1 && pages.iter().all(|page| page.batches.len() * 40_000 < PAGE_BYTES + 80_000));
    assert_eq!(pages.iter().map(|page| page.batches.len()).sum::<usize>(), 40);
    // Many small records are counted with what they cost beside their bytes.
    let mut bench = Bench::new();
    for n in 0..50 {
        for m in 0..500u16 {
            bench.engine.stage(item(500 * n + m), holding(1));
        }
        bench.engine.seal().unwrap();
    }
    let first = &streamed(&bench, ME)[0];
    let bytes = |batch: &Batch| batch.records().map(|(_, record)| record.entry.len() + 64).sum::<usize>();
    let all_but_last: usize = first.batches[..first.batches.len() - 1].iter().map(bytes).sum();
    assert!(first.more && all_but_last < PAGE_BYTES && all_but_last + bytes(&first.batches[0]) >= PAGE_BYTES);
}

#[test]
fn a_restart_finds_all_ledgers_as_whole_as_they_were() {
    let mut bench = Bench::new();
    bench.engine.stage(item(1), holding(1));
    says(&mut bench, stamp(9, 1), &[(item(1), holding(1)), (item(2), Entry::default())]);
    let head = head_of(&bench, OTHER, stamp(9, 2));
    bench.engine.become_whole(OTHER, head).unwrap();
    bench.input(Input::Tick);
    let (whole, vector, ours) =
        (bench.engine.whole(), bench.engine.vector(), bench.engine.heads.head(&ME).copied());
    assert_eq!((whole.get(&OTHER), whole.get(&ME)), (stamp(9, 2), bench.engine.ledgers.myself.stamp));
    let bench = bench.restarted();
    assert_eq!((bench.engine.whole(), bench.engine.vector()), (whole, vector));
    assert_eq!(bench.engine.heads.head(&ME).copied(), ours);
    assert_eq!(head_of(&bench, OTHER, stamp(9, 2)), head, "and what they add up to");
    // A store that kept no sums has them counted again.
    let mut bench = bench;
    for owner in [ME, OTHER] {
        bench.engine.tx.remove(Table::Meta, [&b"ledger "[..], &owner.0].concat());
    }
    bench.engine.tx.commit().unwrap();
    let bench = bench.restarted();
    assert_eq!(head_of(&bench, OTHER, stamp(9, 2)), head);
    assert_eq!(bench.engine.heads.head(&OTHER), None, "but are to be proved again");
}

#[test]
fn what_we_never_gave_out_and_we_signed_is_proof_that_a_life_of_ours_is_lost() {
    let mut bench = Bench::new();
    bench.engine.stage(item(1), holding(1));
    bench.engine.seal().unwrap();
    let (own, head) = (bench.engine.ledgers.myself.stamp, bench.engine.heads.head(&ME).copied().unwrap());
    let at = |counter| Stamp { counter, ..own };
    let lost = |bench: &Bench, batches: Vec<Batch>, head| {
        let page = Page { owner: ME, after: at(0), through: own, batches, more: false, head };
        bench.engine.lost_stamp(&page).unwrap()
    };
    let ours = bench.engine.page(ME, at(0)).unwrap().batches;
    assert_eq!(lost(&bench, ours.clone(), Some(head)), None, "all of that is ours");
    assert_eq!(
        lost(&bench, vec![signed(ME, own, &[(item(2), holding(1))])], None),
        Some(own),
        "another item"
    );
    let later = signed(ME, at(own.counter + 1), &[(item(1), holding(1))]);
    assert_eq!(lost(&bench, vec![later], None), Some(at(own.counter + 1)), "beyond what we gave out");
    let in_gap = signed(ME, at(own.counter - 1), &[(item(1), holding(1))]);
    assert_eq!(lost(&bench, vec![in_gap], None), Some(at(own.counter - 1)), "in what this start left out");
    assert_eq!(lost(&bench, ours.clone(), Some(Head { hash: [7; 32], ..head })), Some(own), "another head");
    let far = Head { stamp: at(own.counter + 9), ..head };
    assert_eq!(lost(&bench, vec![], Some(far)), Some(far.stamp));
    let early = Head { stamp: at(own.counter - 2), hash: [7; 32], ..head };
    assert_eq!(lost(&bench, vec![], Some(early)), Some(early.stamp));
    // With a record that is pruned since, its place alone tells.
    bench.engine.stage(item(1), holding(2));
    bench.engine.seal().unwrap();
    let old = signed(ME, own, &[(item(1), holding(1))]);
    assert_eq!(lost(&bench, vec![old], None), None);
}

#[test]
fn an_owner_is_shown_what_it_signed_where_it_can_be_reached() {
    let mut bench = Bench::new();
    bench.at(100_000, true);
    bench.outputs.clear();
    let batch = signed(OTHER, stamp(9, 4), &[(item(1), holding(1))]);
    let head = Head { stamp: stamp(9, 7), hash: [1; 32], signature: Signature([0; 64]) };
    bench.engine.tell_owner(OTHER, vec![], None);
    bench.engine.tell_owner(ME, vec![batch.clone()], None);
    bench.engine.tell_owner(OTHER, vec![batch.clone()], None);
    bench.engine.tell_owner(OTHER, vec![], Some(head));
    bench.drain();
    let shown = pages(&bench);
    assert_eq!(shown.len(), 2);
    assert_eq!((shown[0].after, shown[0].through), (stamp(9, 3), stamp(9, 4)));
    assert_eq!((shown[1].after, shown[1].through, shown[1].head), (stamp(9, 7), stamp(9, 7), Some(head)));
    bench.at(100_100, false);
    bench.outputs.clear();
    bench.engine.tell_owner(OTHER, vec![batch], None);
    bench.drain();
    assert!(pages(&bench).is_empty());
}

#[test]
fn after_a_lost_life_all_is_written_again_and_others_have_to_prove_their_heads() {
    let mut bench = Bench::new();
    bench.engine.stage(item(1), holding(1));
    bench.engine.stage(item(2), Entry::default());
    says(&mut bench, stamp(9, 1), &[(item(1), holding(1))]);
    let head = head_of(&bench, OTHER, stamp(9, 1));
    bench.engine.become_whole(OTHER, head).unwrap();
    bench.input(Input::Tick);
    let before = bench.engine.ledgers.myself.stamp;
    bench.engine.begin_incarnation(before).unwrap();
    bench.input(Input::Tick);
    let own = bench.engine.ledgers.myself.stamp;
    assert!(own.incarnation > before.incarnation);
    assert_eq!(own.counter, 1, "one entry says something, and no counter is left out");
    assert_eq!(bench.engine.own_entry(&item(1)).unwrap().copy, holding(1).copy);
    assert_eq!((bench.engine.heads.head(&OTHER), bench.engine.heads.whole(&ME)), (None, own));
    assert!(bench.outputs.contains(&Output::Event(Event::NewIncarnation)));
}

#[test]
fn members_are_served_from_every_file_of_ours_that_has_the_content() {
    let mut bench = Bench::new();
    let has = |bench: &Bench, n: u8| bench.engine.holding(&Blake3([n; 32])).unwrap();
    bench.engine.stage(item(1), holding(1));
    bench.engine.stage(item(2), holding(1));
    bench.engine.seal().unwrap();
    assert_eq!((has(&bench, 1), has(&bench, 2)), (vec![item(1), item(2)], vec![]));
    bench.engine.stage(item(1), holding(2));
    bench.engine.seal().unwrap();
    assert_eq!((has(&bench, 1), has(&bench, 2)), (vec![item(2)], vec![item(1)]));
    bench.engine.stage(item(1), holding(2));
    bench.engine.stage(item(2), Entry::default());
    bench.engine.seal().unwrap();
    assert_eq!((has(&bench, 1), has(&bench, 2)), (vec![], vec![item(1)]));
}

#[test]
fn entries_after_a_stamp_are_counted_up_to_a_thousand() {
    let mut bench = Bench::new();
    bench.engine.stage(item(0), holding(1));
    bench.engine.seal().unwrap();
    let first = bench.engine.ledgers.myself.stamp;
    assert_eq!(bench.engine.entries_after(first), 0);
    for (written, n) in (1..=5).zip(1..) {
        bench.engine.stage(item(n), holding(1));
        bench.engine.seal().unwrap();
        assert_eq!(bench.engine.entries_after(first), written);
    }
    (10..1_100).for_each(|n| bench.engine.stage(item(n), holding(1)));
    bench.engine.seal().unwrap();
    assert_eq!(bench.engine.entries_after(first), 1_000);
}

#[test]
fn of_an_item_all_entries_are_seen_ours_as_staged_and_void_claims_left_out() {
    let mut bench = Bench::new();
    let target = holding(1).held_content().copied().unwrap();
    let (task, seen) = (TaskKind::Download, Vec::new());
    let claim = Claim { task, target, epoch: 1, seen, started: false, progress: 0, attempts: 0 };
    let claims = vec![claim];
    says(&mut bench, stamp(9, 1), &[(item(1), Entry { claims, ..holding(1) })]);
    bench.engine.stage(item(1), holding(2));
    let seen = |bench: &Bench| {
        let entries = bench.engine.entries(&item(1)).unwrap();
        entries.iter().map(|one| (one.owner(), one.dot, one.entry.claims.len())).collect::<Vec<_>>()
    };
    let theirs = Dot { client: OTHER, stamp: stamp(9, 1) };
    let ours = bench.engine.dot_for(&item(1));
    assert_eq!(seen(&bench), [(OTHER, theirs, 1), (ME, ours, 0)]);
    bench.engine.seal().unwrap();
    assert_eq!(seen(&bench), [(OTHER, theirs, 1), (ME, ours, 0)], "sealed, it is the same");
    bench.engine.stage(item(1), Entry::default());
    assert_eq!(seen(&bench), [(OTHER, theirs, 1)], "a tombstone says nothing");
    says(&mut bench, stamp(10, 1), &[(item(2), holding(1))]);
    assert_eq!(seen(&bench), [(OTHER, theirs, 0)], "claims of an earlier life are void");
}

#[test]
fn a_repair_is_begun_once_and_not_again_with_a_member_whose_stream_did_not_do() {
    let third = ClientId([3; 32]);
    let mut bench = Bench::new();
    says(&mut bench, stamp(9, 1), &[(item(1), holding(1))]);
    let asked = |bench: &mut Bench, from: ClientId| {
        bench.engine.begin_repair(from, OTHER);
        let mut fetches = 0;
        while let Some(output) = bench.engine.poll_output() {
            let after = stamp(9, 0);
            fetches +=
                usize::from(output == Output::Send(from, Message::Fetch(Fetch { owner: OTHER, after })));
        }
        fetches
    };
    assert_eq!((asked(&mut bench, third), asked(&mut bench, third)), (1, 0), "one is under way");
    bench.engine.now.mono_ms += 4_999;
    assert_eq!(asked(&mut bench, third), 0);
    bench.engine.now.mono_ms += 1;
    assert_eq!(asked(&mut bench, third), 1, "no answer came for half a lease");
    // A stream that ends at a head which it does not make up.
    let head = Some(Head { stamp: stamp(9, 1), hash: [7; 32], signature: Signature([0; 64]) });
    let batches = vec![signed(OTHER, stamp(9, 1), &[(item(1), holding(1))])];
    let page = Page { owner: OTHER, after: stamp(9, 0), through: stamp(9, 1), batches, more: false, head };
    assert!(bench.engine.repairs_with(third, &page) && !bench.engine.repairs_with(ME, &page));
    let of_another_life = Page { through: stamp(8, 1), ..page.clone() };
    let further = Page { after: stamp(9, 1), ..page.clone() };
    assert!(
        !bench.engine.repairs_with(third, &of_another_life) && !bench.engine.repairs_with(third, &further)
    );
    bench.engine.repair(third, &page).unwrap();
    assert_eq!(bench.engine.heads.head(&OTHER), None);
    assert_eq!(asked(&mut bench, third), 0, "not with the same again");
    bench.engine.now.mono_ms += 9_999;
    assert_eq!(asked(&mut bench, third), 0);
    bench.engine.now.mono_ms += 1;
    assert_eq!(asked(&mut bench, third), 1, "after a lease it may do");
    bench.engine.repair(third, &page).unwrap();
    assert_eq!(asked(&mut bench, ME), 1, "another member may");
    // A ledger that is whole forgets all that, and of no other ledger.
    bench.engine.repairs.over(&ME);
    assert_eq!(asked(&mut bench, third), 0);
    bench.engine.repairs.over(&OTHER);
    assert_eq!(asked(&mut bench, third), 1);
}

#[test]
fn the_first_tombstone_of_a_ledger_is_the_first_that_still_stands() {
    let mut bench = Bench::new();
    assert_eq!(bench.engine.first_tombstone(&OTHER).unwrap(), None);
    let gone = Entry::default;
    says(&mut bench, stamp(9, 1), &[(item(1), gone()), (item(2), holding(1)), (item(3), gone())]);
    assert_eq!(bench.engine.first_tombstone(&OTHER).unwrap(), Some(stamp(9, 1)));
    says(&mut bench, stamp(9, 4), &[(item(1), holding(1))]);
    assert_eq!(bench.engine.first_tombstone(&OTHER).unwrap(), Some(stamp(9, 3)));
    bench.input(Input::Tick);
    let mut bench = bench.restarted();
    assert_eq!(bench.engine.first_tombstone(&OTHER).unwrap(), Some(stamp(9, 3)));
    says(&mut bench, stamp(9, 5), &[(item(3), holding(1))]);
    assert_eq!(bench.engine.first_tombstone(&OTHER).unwrap(), None);
}

#[test]
fn what_does_not_count_is_taken_from_no_sum_and_of_a_forgotten_ledger_nothing_is_left() {
    let mut bench = Bench::new();
    says(&mut bench, stamp(9, 1), &[(item(1), holding(1)), (item(2), holding(2))]);
    type Dropped = [(ItemId, Stamp, Vec<u8>)];
    let digest = |bench: &Bench, dropped: &Dropped| bench.engine.heads.digest_without(&OTHER, dropped);
    let all = digest(&bench, &[]);
    let tombstone = (item(1), stamp(9, 1), Entry::default().encode().unwrap());
    let of_an_earlier_life = (item(1), stamp(8, 1), holding(1).encode().unwrap());
    assert_eq!(digest(&bench, &[tombstone, of_an_earlier_life]), all);
    let second = (item(2), stamp(9, 2), holding(2).encode().unwrap());
    let without = digest(&bench, &[second]);
    let mut other = Bench::new();
    says(&mut other, stamp(9, 1), &[(item(1), holding(1))]);
    assert_eq!(digest(&other, &[]), without);
    let head = head_of(&bench, OTHER, stamp(9, 2));
    bench.engine.become_whole(OTHER, head).unwrap();
    bench.input(Input::Tick);
    bench.engine.heads.forget(&OTHER);
    bench.input(Input::Tick);
    assert_eq!(
        (bench.engine.heads.whole(&OTHER), digest(&bench, &[])),
        (Stamp::default(), digest(&Bench::new(), &[]))
    );
    let kept = bench.engine.tx.prefixed(Table::Meta, &[&b"ledger "[..], &OTHER.0].concat(), 1).unwrap();
    assert!(kept.is_empty());
}

#[test]
fn we_call_no_ledger_whole_of_which_we_know_nothing() {
    let mut bench = Bench::new();
    let head = head_of(&bench, OTHER, stamp(9, 1));
    bench.engine.become_whole(OTHER, head).unwrap();
    assert_eq!(bench.engine.whole().get(&OTHER), Stamp::default());
}

#[test]
fn of_two_heads_of_one_stamp_the_owner_s_own_word_counts_and_nobody_else_s() {
    let third = ClientId([3; 32]);
    for (from, repairs) in [(third, false), (OTHER, true)] {
        let mut bench = Bench::new();
        says(&mut bench, stamp(9, 1), &[(item(1), holding(1))]);
        let head = head_of(&bench, OTHER, stamp(9, 1));
        bench.engine.become_whole(OTHER, head).unwrap();
        bench.engine.judge(from, OTHER, Head { hash: [7; 32], ..head }).unwrap();
        bench.drain();
        let fetch = Message::Fetch(Fetch { owner: OTHER, after: stamp(9, 0) });
        assert_eq!(bench.outputs.contains(&Output::Send(from, fetch)), repairs, "{from:?}");
    }
}

#[test]
fn a_late_batch_takes_nothing_back_and_can_be_passed_on_without_it() {
    let mut bench = Bench::new();
    says(&mut bench, stamp(9, 3), &[(item(1), holding(3))]);
    says(&mut bench, stamp(9, 1), &[(item(1), holding(1)), (item(2), holding(2))]);
    let kept = |bench: &Bench, n| bench.engine.entry_of(&item(n), &OTHER).unwrap().unwrap();
    assert_eq!((kept(&bench, 1), kept(&bench, 2)), ((stamp(9, 3), holding(3)), (stamp(9, 2), holding(2))));
    let page = bench.engine.page(OTHER, stamp(9, 0)).unwrap();
    let records: Vec<_> = page.batches.iter().flat_map(Batch::records).map(|(stamp, _)| stamp).collect();
    assert_eq!(records, [stamp(9, 2), stamp(9, 3)]);
    assert!(page.batches.iter().all(|batch| batch.verify(&NoKeys).is_ok()));
}

#[test]
fn an_item_is_looked_at_again_when_an_entry_that_spoke_is_dropped() {
    for (entry, spoke) in [(holding(1), true), (Entry::default(), false)] {
        let mut bench = Bench::new();
        says(&mut bench, stamp(9, 1), &[(item(1), entry)]);
        bench.engine.drop_entry_of(&OTHER, &item(1), stamp(9, 7)).unwrap();
        assert!(bench.engine.entry_of(&item(1), &OTHER).unwrap().is_some(), "it stands with another stamp");
        bench.engine.drop_entry_of(&OTHER, &item(1), stamp(9, 1)).unwrap();
        assert_eq!(bench.engine.entry_of(&item(1), &OTHER).unwrap(), None);
        assert_eq!(bench.engine.queue.due_ms(bench.now_ms) <= bench.now_ms, spoke);
    }
}

#[test]
fn a_repair_goes_on_page_by_page_and_ends_at_the_head_that_we_know() {
    let third = ClientId([3; 32]);
    let all = [(item(1), holding(1)), (item(2), holding(2)), (item(3), holding(3))];
    let mut bench = Bench::new();
    says(&mut bench, stamp(9, 1), &all);
    let head = Some(head_of(&bench, OTHER, stamp(9, 3)));
    // What the owner never wrote: only a whole stream can drop it.
    says(&mut bench, stamp(9, 4), &[(item(4), holding(4))]);
    let through = stamp(9, 4);
    let batches = vec![signed(OTHER, stamp(9, 1), &all)];
    let part =
        Page { owner: OTHER, after: stamp(9, 0), through: stamp(9, 3), batches, more: true, head: None };
    let last = Page { after: stamp(9, 3), through, batches: vec![], more: false, head: None, ..part.clone() };
    let fetched = |bench: &mut Bench, after| {
        bench.drain();
        let fetch = Message::Fetch(Fetch { owner: OTHER, after });
        bench.outputs.drain(..).any(|output| output == Output::Send(third, fetch.clone()))
    };
    bench.engine.begin_repair(third, OTHER);
    assert!(fetched(&mut bench, stamp(9, 0)));
    bench.engine.repair(third, &part).unwrap();
    assert!(fetched(&mut bench, stamp(9, 3)) && bench.engine.repairs_with(third, &last));
    // A member that knows less than we by now compares later.
    let early = Page { head: head.map(|head| Head { stamp: stamp(9, 3), ..head }), ..last.clone() };
    bench.engine.repair(third, &early).unwrap();
    assert!(!bench.engine.repairs_with(third, &last), "it is over");
    assert!(bench.engine.entry_of(&item(4), &OTHER).unwrap().is_some());
    bench.engine.begin_repair(third, OTHER);
    bench.engine.repair(third, &part).unwrap();
    let whole = Page { head: head.map(|head| Head { stamp: through, ..head }), ..last };
    bench.engine.repair(third, &whole).unwrap();
    assert_eq!(bench.engine.entry_of(&item(4), &OTHER).unwrap(), None, "what no owner signed for is dropped");
    assert_eq!(bench.engine.heads.whole(&OTHER), through);
    bench.drain();
    assert!(bench.outputs.contains(&Output::Event(Event::Repaired(OTHER, 1))));
    // A page that is the last and has no head proves nothing.
    bench.engine.begin_repair(third, OTHER);
    bench.engine.repair(third, &Page { more: false, ..part.clone() }).unwrap();
    assert!(!bench.engine.repairs_with(third, &Page { after: stamp(9, 3), ..part }));
}
