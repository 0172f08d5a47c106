//! What the roster says of who comes, at one engine.

use super::*;
use crate::clock::Incarnation;
use crate::engine::tests::{Bench, ME, OTHER};
use crate::message::{Heartbeat, Message};
use crate::ports::Input;

const NEW: ClientId = ClientId([77; 32]);

/// Answers the visit that is under way, if one is; says whether one was.
fn visited(bench: &mut Bench, members: &[(ClientId, Standing)]) -> bool {
    let is_visit = |output: &Output| matches!(output, Output::Effect(_, Effect::VisitRoster(_)));
    let Some(at) = bench.outputs.iter().rposition(is_visit) else { return false };
    let Output::Effect(id, _) = bench.outputs.remove(at) else { return false };
    let member = |(client, standing): &(ClientId, Standing)| RosterMember {
        client: *client,
        stamp: Stamp::default(),
        standing: *standing,
        seen_ms: 0,
    };
    bench.input(Input::Done(id, Outcome::Roster(members.iter().map(member).collect())));
    true
}

#[test]
fn whoever_comes_is_judged_by_the_roster_that_was_read_last() {
    let mut bench = Bench::new();
    let last = Stamp { incarnation: Incarnation(3), counter: 1 };
    assert_eq!(bench.engine.admission(&OTHER), Admission::Member);
    assert_eq!(bench.engine.admission(&NEW), Admission::Unlisted);
    bench.now_ms += HINT_MS;
    bench.input(Input::RosterChanged);
    let roster = [(ME, Standing::Current), (NEW, Standing::Current), (OTHER, Standing::Retired { last })];
    assert!(visited(&mut bench, &roster), "at once");
    assert_eq!(bench.engine.admission(&NEW), Admission::Member);
    assert_eq!(bench.engine.admission(&OTHER), Admission::Retired);
    assert_eq!(bench.engine.report().retired, [OTHER]);
    assert_eq!(bench.engine.standing_in_roster(&OTHER), Some(Standing::Retired { last }));
}

#[test]
fn before_a_roster_was_read_the_key_alone_decides() {
    let mut bench = Bench::new();
    bench.engine.roster.members = None;
    assert_eq!(bench.engine.admission(&NEW), Admission::Member);
}

#[test]
fn however_many_come_the_roster_is_read_again_at_intervals() {
    let mut bench = Bench::new();
    let members = [(ME, Standing::Current), (OTHER, Standing::Current)];
    bench.now_ms += HINT_MS;
    let began_ms = bench.now_ms;
    let mut visits = 0;
    for step in 0..100 {
        bench.now_ms = began_ms + step * 100;
        bench.input(Input::RosterChanged);
        visits += u32::from(visited(&mut bench, &members));
    }
    assert_eq!(visits, 5, "one in two seconds");
}

const CURRENT: [(ClientId, Standing); 3] =
    [(ME, Standing::Current), (OTHER, Standing::Current), (NEW, Standing::Current)];

/// A node that has read a roster of three, is connected with both others, and may read again at once.
fn connected() -> Bench {
    let mut bench = Bench::new();
    bench.now_ms += HINT_MS;
    bench.input(Input::RosterChanged);
    assert!(visited(&mut bench, &CURRENT));
    bench.input(Input::Connected(OTHER));
    bench.input(Input::Connected(NEW));
    bench.now_ms += HINT_MS;
    bench.outputs.clear();
    bench
}

/// A heartbeat of the other, who has read a roster that comes to this.
fn hears(bench: &mut Bench, roster: Option<RosterDigest>) {
    let heartbeat = Heartbeat { roster, ..crate::engine::tests::heartbeat_of_other() };
    bench.input(Input::Message(OTHER, Message::Heartbeat(heartbeat)));
}

fn retired() -> [(ClientId, Standing); 3] {
    let last = Stamp { incarnation: Incarnation(3), counter: 1 };
    [(ME, Standing::Current), (OTHER, Standing::Current), (NEW, Standing::Retired { last })]
}

fn digest(standings: &[(ClientId, Standing)]) -> Option<RosterDigest> {
    Some(RosterDigest::of(&standings.iter().copied().collect()).unwrap())
}

#[test]
fn a_retirement_that_another_member_has_read_ends_the_connection_as_soon_as_ours_is_read() {
    let mut bench = connected();
    hears(&mut bench, digest(&CURRENT));
    assert!(!visited(&mut bench, &CURRENT), "both have read the same");
    hears(&mut bench, digest(&retired()));
    assert!(visited(&mut bench, &retired()), "at once");
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::Drop(NEW))));
    // And those who have not heard of it hear it at once.
    let tells = |output: &Output| match output {
        Output::Send(OTHER, Message::Heartbeat(beat)) => beat.roster == digest(&retired()),
        _ => false,
    };
    assert!(bench.outputs.iter().any(tells));
}

#[test]
fn a_member_that_has_read_an_older_roster_makes_us_read_once() {
    let mut bench = connected();
    let mut visits = 0;
    for _ in 0..50 {
        hears(&mut bench, digest(&retired()));
        visits += u32::from(visited(&mut bench, &CURRENT));
        bench.now_ms += 500;
    }
    assert_eq!(visits, 1);
    // Who says something else each time makes us read at intervals.
    for n in 0..50 {
        hears(&mut bench, Some(RosterDigest([n; 8])));
        visits += u32::from(visited(&mut bench, &CURRENT));
        bench.now_ms += 500;
    }
    assert_eq!(visits, 1 + 13, "one in two seconds");
}

#[test]
fn what_is_heard_while_the_roster_is_read_makes_us_read_it_once_more() {
    let mut bench = connected();
    bench.input(Input::RosterChanged);
    hears(&mut bench, digest(&retired()));
    assert!(visited(&mut bench, &CURRENT), "it was read before the other's");
    bench.now_ms += HINT_MS;
    bench.input(Input::Tick);
    assert!(visited(&mut bench, &retired()));
    assert_eq!(bench.engine.admission(&NEW), Admission::Retired);
}
