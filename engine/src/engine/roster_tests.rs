//! What the roster says of who comes, at one engine.

use super::*;
use crate::clock::Incarnation;
use crate::engine::tests::{Bench, ME, OTHER};

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
    bench.input(crate::ports::Input::Done(id, Outcome::Roster(members.iter().map(member).collect())));
    true
}

#[test]
fn whoever_comes_is_judged_by_the_roster_that_was_read_last() {
    let mut bench = Bench::new();
    let last = Stamp { incarnation: Incarnation(3), counter: 1 };
    assert_eq!(bench.engine.admission(&OTHER), Admission::Member);
    assert_eq!(bench.engine.admission(&NEW), Admission::Unlisted);
    bench.now_ms += HINT_MS;
    bench.input(crate::ports::Input::RosterChanged);
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
        bench.input(crate::ports::Input::RosterChanged);
        visits += u32::from(visited(&mut bench, &members));
    }
    assert_eq!(visits, 5, "one in two seconds");
}
