//! Members at one engine: who counts as live, and what is asked of whom when a sign of life names more than we have.

use super::*;
use crate::batch::{Batch, Record, Signature};
use crate::catalog::{CatalogEpoch, FeedPosition};
use crate::clock::{Incarnation, Label, VersionVector};
use crate::engine::tests::{Bench, ME, NoKeys, OTHER, heartbeat_of_other as heartbeat};
use crate::heads::{Head, WholeVector};
use crate::ids::ItemId;
use crate::ports::{Effect, Event, Input};

const STRANGER: ClientId = ClientId([8; 32]);

fn stamp(counter: u64) -> Stamp {
    Stamp { incarnation: Incarnation(9), counter }
}

fn head(counter: u64, hash: u8) -> Head {
    Head { stamp: stamp(counter), hash: [hash; 32], signature: Signature([0; 64]) }
}

fn knows(client: ClientId, counter: u64) -> VersionVector {
    [(client, stamp(counter))].into_iter().collect()
}

fn is_whole_at(client: ClientId, head: Head) -> WholeVector {
    WholeVector([(client, head.named())].into_iter().collect())
}

/// A node that is connected with the other.
fn connected() -> Bench {
    let mut bench = Bench::new();
    bench.input(Input::Connected(OTHER));
    bench.outputs.clear();
    bench
}

/// What was asked of the other since the last time.
fn hears(bench: &mut Bench, heartbeat: Heartbeat) -> Vec<Fetch> {
    bench.outputs.clear();
    bench.input(Input::Message(OTHER, Message::Heartbeat(heartbeat)));
    asked(bench)
}

fn asked(bench: &Bench) -> Vec<Fetch> {
    let fetch = |output: &Output| match output {
        Output::Send(OTHER, Message::Fetch(fetch)) => Some(*fetch),
        _ => None,
    };
    bench.outputs.iter().filter_map(fetch).collect()
}

fn is_refused(bench: &Bench) -> bool {
    bench.outputs.iter().any(|output| matches!(output, Output::Event(Event::Refused(OTHER, _))))
}

fn batch(owner: ClientId, first: u64, items: &[u8]) -> Batch {
    let entry = |n: &u8| Entry { label: Label { wall_ms: u64::from(*n), logical: 0 }, ..Entry::default() };
    let record = |n: &u8| Record { item: ItemId([*n; 16]), entry: entry(n).encode().unwrap() };
    Batch::sign(owner, Incarnation(9), first, items.iter().map(record).collect(), &NoKeys).unwrap()
}

fn page(after: u64, batches: Vec<Batch>) -> Page {
    let after = if after == 0 { Stamp::default() } else { stamp(after) };
    let through = batches.last().map_or(after, Batch::last_stamp);
    Page { owner: OTHER, after, through, batches, more: false, head: None }
}

#[test]
fn a_member_is_live_while_we_hear_it_and_it_hears_us_within_a_lease() {
    let (now_ms, lease_ms) = (100, 10);
    let live = |connected, relayed, heard_ms, echoed_ms| {
        Peer { connected, relayed, heard_ms, echoed_ms, ..Peer::default() }.is_live(now_ms, lease_ms)
    };
    for (connected, relayed) in [(true, false), (false, true), (true, true)] {
        assert!(live(connected, relayed, Some(90), Some(90)));
        assert!(
            !live(connected, relayed, Some(89), Some(90)) && !live(connected, relayed, Some(90), Some(89))
        );
        assert!(!live(connected, relayed, None, Some(90)) && !live(connected, relayed, Some(90), None));
    }
    assert!(!live(false, false, Some(100), Some(100)));
}

#[test]
fn who_was_connected_or_lost_just_now_may_yet_turn_out_to_be_live() {
    let lease_ms = 10_000;
    let silent = Peer { connected: true, connected_ms: 1_000, ..Peer::default() };
    assert_eq!(silent.greets_until_ms(10_999, lease_ms), Some(11_000));
    assert_eq!(silent.greets_until_ms(11_000, lease_ms), None);
    let live = Peer { heard_ms: Some(2_000), echoed_ms: Some(2_000), ..silent };
    assert_eq!(live.greets_until_ms(2_000, lease_ms), None, "it has");
    let lost = Peer { gone_ms: Some(1_000), ..Peer::default() };
    assert_eq!(lost.greets_until_ms(5_999, lease_ms), Some(6_000));
    assert_eq!(lost.greets_until_ms(6_000, lease_ms), None);
    assert_eq!(Peer::default().greets_until_ms(0, lease_ms), None);
}

#[test]
fn what_another_knows_more_is_asked_for_once_and_again_when_no_answer_came_for_half_a_lease() {
    let mut bench = connected();
    let more = Heartbeat { vector: knows(OTHER, 3), ..heartbeat() };
    let whole = Fetch { owner: OTHER, after: Stamp::default() };
    assert_eq!(hears(&mut bench, more.clone()), [whole]);
    bench.now_ms += 4_999;
    assert_eq!(hears(&mut bench, more.clone()), []);
    bench.now_ms += 1;
    assert_eq!(hears(&mut bench, more.clone()), [whole]);
    bench.input(Input::Message(OTHER, Message::Page(page(0, vec![batch(OTHER, 1, &[1, 2, 3])]))));
    assert_eq!(hears(&mut bench, more), [], "we know it now");
    let later = Heartbeat { vector: knows(OTHER, 4), ..heartbeat() };
    assert_eq!(hears(&mut bench, later), [Fetch { owner: OTHER, after: stamp(3) }]);
}

#[test]
fn nothing_is_asked_of_an_owner_that_is_in_no_roster_nor_of_our_own_ledger_that_we_know_better() {
    let mut bench = connected();
    let strange = Heartbeat { vector: knows(STRANGER, 3), ..heartbeat() };
    assert_eq!(hears(&mut bench, strange), []);
    let entry = Entry { copy: Some(Default::default()), ..Entry::default() };
    bench.engine.stage(ItemId([1; 16]), entry);
    bench.input(Input::Tick);
    let own = bench.engine.ledgers.myself.stamp;
    let behind = Heartbeat { vector: [(ME, own)].into_iter().collect(), ..heartbeat() };
    assert_eq!(hears(&mut bench, behind), []);
    // A stamp that we never gave out was ours in a life that we lost: the proof is asked for.
    let lost = Stamp { counter: own.counter - 1, ..own };
    let of_the_gap = Heartbeat { vector: [(ME, lost)].into_iter().collect(), ..heartbeat() };
    let proof = Fetch { owner: ME, after: Stamp { counter: lost.counter - 1, ..lost } };
    assert_eq!(hears(&mut bench, of_the_gap), [proof]);
}

#[test]
fn who_is_whole_further_or_at_another_head_is_asked_for_the_proof() {
    let mut bench = connected();
    bench.input(Input::Message(OTHER, Message::Page(page(0, vec![batch(OTHER, 1, &[1, 2, 3])]))));
    let (vector, whole) = (knows(OTHER, 3), |head| is_whole_at(OTHER, head));
    let proof = [Fetch { owner: OTHER, after: stamp(3) }];
    let further = Heartbeat { vector: vector.clone(), whole: whole(head(3, 1)), ..heartbeat() };
    assert_eq!(hears(&mut bench, further.clone()), proof);
    // A head that is older than what we know proves nothing to us.
    bench.now_ms += 5_000;
    let older = Heartbeat { whole: whole(head(2, 1)), ..further.clone() };
    assert_eq!(hears(&mut bench, older.clone()), []);
    bench.engine.become_whole(OTHER, head(3, 1)).unwrap();
    assert_eq!(hears(&mut bench, further.clone()), [], "we are whole there");
    let fork = Heartbeat { whole: whole(head(3, 2)), ..further };
    assert_eq!(hears(&mut bench, fork), proof, "another head of the same stamp");
    bench.now_ms += 5_000;
    assert_eq!(hears(&mut bench, older), []);
    // Of our own ledger another head is what a life signed that we have lost.
    let own = bench.engine.heads.head(&ME).copied().unwrap();
    let ours = is_whole_at(ME, Head { hash: [77; 32], ..own });
    let vector = [(ME, own.stamp)].into_iter().collect();
    let asked = hears(&mut bench, Heartbeat { vector, whole: ours, ..heartbeat() });
    let before = Stamp { counter: own.stamp.counter.saturating_sub(1), ..own.stamp };
    assert_eq!(asked, [Fetch { owner: ME, after: before }]);
}

#[test]
fn who_has_read_the_feed_further_makes_us_read_it() {
    let mut bench = Bench::new();
    bench.answer_feed(vec![]);
    bench.input(Input::Connected(OTHER));
    bench.outputs.clear();
    let reads = |bench: &Bench| {
        bench.outputs.iter().any(|output| matches!(output, Output::Effect(_, Effect::ReadFeed { .. })))
    };
    let same = Heartbeat { feed: bench.engine.feed.position(), ..heartbeat() };
    hears(&mut bench, same.clone());
    assert!(!reads(&bench));
    let epoch = CatalogEpoch { number: 1, id: [1; 16] };
    let further = FeedPosition { epoch, number: 5, id: [0; 16] };
    hears(&mut bench, Heartbeat { feed: further, ..same });
    assert!(reads(&bench));
}

#[test]
fn a_heartbeat_at_its_bounds_is_taken_and_one_beyond_any_of_them_refused() {
    let many = |n: u8| (0..n).map(|n| (ClientId([n; 32]), head(1, 1).named()));
    let hears_many = |n: u8| (0..n).map(|n| ClientId([n; 32])).collect::<Vec<_>>();
    let fits = Heartbeat {
        name: "x".repeat(256),
        vector: many(64).map(|(client, at)| (client, at.stamp)).collect(),
        whole: WholeVector(many(64).collect()),
        hears: hears_many(64),
        ..heartbeat()
    };
    let mut bench = connected();
    hears(&mut bench, fits.clone());
    assert!(!is_refused(&bench));
    for beyond in [
        Heartbeat { name: "x".repeat(257), ..fits.clone() },
        Heartbeat { vector: many(65).map(|(client, at)| (client, at.stamp)).collect(), ..fits.clone() },
        Heartbeat { whole: WholeVector(many(65).collect()), ..fits.clone() },
        Heartbeat { hears: hears_many(65), ..fits.clone() },
    ] {
        let mut bench = connected();
        hears(&mut bench, beyond);
        assert!(is_refused(&bench));
    }
}

#[test]
fn news_are_passed_on_soon_and_who_may_have_been_away_is_answered_soon() {
    let mut bench = connected();
    hears(&mut bench, heartbeat());
    assert_eq!(bench.engine.beats.due_ms, bench.now_ms + NEWS_DELAY_MS, "it has yet to hear that we hear it");
    bench.at(bench.now_ms, true);
    let far_ms = bench.now_ms + 2_000;
    bench.engine.beats.due_ms = far_ms;
    hears(&mut bench, heartbeat());
    assert_eq!(bench.engine.beats.due_ms, far_ms, "both are live: nothing is new");
    bench.input(Input::Message(OTHER, Message::Page(page(0, vec![batch(OTHER, 1, &[1])]))));
    assert_eq!(bench.engine.beats.due_ms, bench.now_ms + NEWS_DELAY_MS);
    bench.engine.beats.due_ms = far_ms;
    bench.input(Input::Message(OTHER, Message::Page(page(0, vec![batch(OTHER, 1, &[1])]))));
    assert_eq!(bench.engine.beats.due_ms, far_ms, "that is no news");
}

#[test]
fn a_page_is_refused_whose_parts_do_not_fit_together() {
    let good = page(0, vec![batch(OTHER, 1, &[1, 2]), batch(OTHER, 3, &[3])]);
    let signed = |counter| Some(head(counter, 1));
    let turned = Page { batches: vec![batch(OTHER, 3, &[3]), batch(OTHER, 1, &[1, 2])], ..good.clone() };
    for wrong in [
        Page { through: stamp(2), ..good.clone() },
        Page { through: stamp(4), ..good.clone() },
        Page { head: signed(2), ..good.clone() },
        Page { head: signed(2), through: stamp(2), ..good.clone() },
        Page { head: signed(4), ..good.clone() },
        Page { through: stamp(2), head: signed(2), ..turned },
        Page { batches: vec![batch(OTHER, 1, &[1]), batch(ME, 2, &[2])], through: stamp(2), ..good.clone() },
        page(0, vec![batch(OTHER, 1, &[1, 2]), batch(OTHER, 2, &[3])]),
    ] {
        assert!(bench_checks(&wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(bench_checks(&good), Ok(()));
    assert_eq!(bench_checks(&Page { head: signed(3), ..good.clone() }), Ok(()));
    // What counted after the last batch may be forgotten: the head says how far it goes.
    assert_eq!(bench_checks(&Page { head: signed(9), through: stamp(9), ..good }), Ok(()));
}

fn bench_checks(page: &Page) -> std::result::Result<(), String> {
    connected().engine.check_page(page)
}

#[test]
fn no_more_ledgers_are_kept_than_a_workgroup_has_clients() {
    let mut bench = connected();
    let good = page(0, vec![batch(OTHER, 1, &[1])]);
    for n in 0..CLIENTS_MAX - 1 {
        bench.engine.ledgers.myself.vector.advance(ClientId([100 + n as u8; 32]), stamp(1));
    }
    assert!(bench.engine.check_page(&good).is_ok());
    bench.engine.ledgers.myself.vector.advance(ClientId([99; 32]), stamp(1));
    assert!(bench.engine.check_page(&good).is_err());
    // One that is known goes on.
    bench.engine.ledgers.myself.vector.set_back(&ClientId([99; 32]), Stamp::default());
    bench.engine.ledgers.myself.vector.advance(OTHER, stamp(1));
    assert!(bench.engine.check_page(&page(1, vec![batch(OTHER, 2, &[1])])).is_ok());
}

#[test]
fn a_page_that_does_not_join_what_we_have_is_asked_for_from_there() {
    let mut bench = connected();
    bench.input(Input::Message(OTHER, Message::Page(page(0, vec![batch(OTHER, 1, &[1])]))));
    bench.outputs.clear();
    bench.input(Input::Message(OTHER, Message::Page(page(2, vec![batch(OTHER, 3, &[3])]))));
    assert_eq!(asked(&bench), [Fetch { owner: OTHER, after: stamp(1) }]);
    assert_eq!(bench.engine.known(&OTHER), stamp(1));
    let more = Page { more: true, ..page(1, vec![batch(OTHER, 2, &[2])]) };
    bench.outputs.clear();
    bench.input(Input::Message(OTHER, Message::Page(more)));
    assert_eq!(asked(&bench), [Fetch { owner: OTHER, after: stamp(2) }], "the next of its pages");
}

#[test]
fn our_label_follows_what_others_wrote() {
    let mut bench = connected();
    let wall_ms = bench.engine.now.wall_ms + 5_000;
    let label = Label { wall_ms, logical: 3 };
    let entry = Entry { label, ..Entry::default() }.encode().unwrap();
    let records = vec![Record { item: ItemId([1; 16]), entry }];
    let batch = Batch::sign(OTHER, Incarnation(9), 1, records, &NoKeys).unwrap();
    bench.input(Input::Message(OTHER, Message::Page(page(0, vec![batch]))));
    assert_eq!(bench.engine.ledgers.myself.label, label);
}

#[test]
fn there_are_no_more_members_than_a_workgroup_has_clients_and_we_are_none_of_ours() {
    let mut bench = Bench::new();
    bench.input(Input::Connected(ME));
    assert!(bench.engine.connected().is_empty());
    for n in 0..CLIENTS_MAX as u8 + 3 {
        bench.input(Input::Connected(ClientId([50 + n; 32])));
    }
    assert_eq!(bench.engine.connected().len(), CLIENTS_MAX);
    bench.input(Input::Disconnected(ClientId([50; 32])));
    bench.input(Input::Connected(ClientId([50; 32])));
    assert_eq!(bench.engine.connected().len(), CLIENTS_MAX, "one that is known may come back");
    bench.engine.beats.due_ms = u64::MAX;
    bench.now_ms += 10;
    bench.engine.now.mono_ms = bench.now_ms;
    bench.engine.beat_soon();
    assert_eq!(bench.engine.beats.due_ms, bench.now_ms);
}

#[test]
fn what_waits_for_others_is_looked_at_again_when_one_becomes_live() {
    for was_live in [true, false] {
        let mut bench = Bench::new();
        bench.input(Input::Connected(OTHER));
        let beat = bench.outputs.iter().find_map(|output| match output {
            Output::Send(OTHER, Message::Heartbeat(beat)) => Some((beat.start, beat.beat)),
            _ => None,
        });
        let echo = Some(beat.unwrap());
        bench.at(bench.now_ms, was_live);
        bench.engine.peers.get_mut(&OTHER).unwrap().connected = true;
        bench.engine.wait(ItemId([1; 16]), crate::settle::Reason::CatalogUnknown);
        bench.engine.message(OTHER, Message::Heartbeat(Heartbeat { echo, ..heartbeat() })).unwrap();
        assert!(bench.engine.is_live(&OTHER));
        let looked_at = bench.engine.queue.due_ms(bench.now_ms) <= bench.now_ms;
        assert_eq!(looked_at, !was_live);
    }
}

#[test]
fn news_of_a_revision_that_we_have_not_read_of_make_us_read_the_feed() {
    use crate::catalog::{ChainLink, Revision};
    use crate::clock::Dot;
    use crate::content::{Content, Md5};
    let revision = Revision(Dot { client: OTHER, stamp: stamp(1) });
    let link = ChainLink { revision, content: Content { md5: Md5([1; 16]), size: 4, blake3: None } };
    for (base, line) in [(None, false), (None, true), (Some(link), false)] {
        let mut bench = Bench::new();
        bench.answer_feed(vec![]);
        bench.input(Input::Connected(OTHER));
        let line: Vec<_> = line.then_some(link).into_iter().collect();
        let on_its_way = !line.is_empty();
        let copy = Some(crate::entry::Copy { held: None, base, line });
        let entry = Entry { copy, ..Entry::default() }.encode().unwrap();
        let records = vec![Record { item: ItemId([1; 16]), entry }];
        let batch = Batch::sign(OTHER, Incarnation(9), 1, records, &NoKeys).unwrap();
        bench.engine.witness(&page(0, vec![batch])).unwrap();
        assert_eq!(bench.engine.feed_due_ms() <= bench.now_ms, base.is_some());
        assert_eq!(bench.engine.travelling.is_offered(&ItemId([1; 16])), on_its_way);
    }
}
