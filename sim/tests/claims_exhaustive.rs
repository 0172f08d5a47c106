//! The claim rule in the small, whole: every order of late words, one lost word and one crash, on real engines.
//!
//! Two or three clients want one content. Every word that a client says of its own claims may come in time, later than
//! anybody listens, or not at all; before every effect the node may crash, and come back at once or after its lease. All
//! combinations within the bounds are run; in each, all get the content, and S1 and S2 hold at every step.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::rc::Rc;
use tcat_sim::claim_world::{Choices, ClaimWorld, Manners};
use tcat_sim::world::content;

/// Choices made so far in this run, and of how many.
#[derive(Default)]
struct Script {
    made: Vec<(usize, usize)>,
    at: usize,
}

impl Script {
    /// The next run in order; false after the last.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, bound)) = self.made.pop() {
            if chosen + 1 < bound {
                self.made.push((chosen + 1, bound));
                return true;
            }
        }
        false
    }
}

struct Scripted(Rc<RefCell<Script>>);

impl Choices for Scripted {
    fn choose(&mut self, bound: usize) -> usize {
        let mut script = self.0.borrow_mut();
        let at = script.at;
        script.at += 1;
        if at == script.made.len() {
            script.made.push((0, bound));
        }
        script.made[at].0
    }
}

/// Runs all combinations. Returns how many runs and choices there were, and the most epochs and fetches in one run.
fn all_runs(nodes: usize, manners: Manners) -> (u64, u64, u32) {
    let script = Rc::new(RefCell::new(Script::default()));
    let (mut runs, mut choices, mut most) = (0, 0, 0);
    loop {
        let mut world = ClaimWorld::stopped(1, nodes, &[content(1)], None);
        world.manners = manners;
        world.decide(Box::new(Scripted(Rc::clone(&script))));
        (0..nodes).for_each(|n| world.start(n));
        let end_ms = world.now_ms() + 60_000;
        let ended = world.run_until(end_ms, ClaimWorld::all_have_all_and_run);
        let made = script.borrow().made.clone();
        assert!(ended, "{made:?}\n{:?}\n{}", world.broken, world.log.join("\n"));
        runs += 1;
        choices += made.len() as u64;
        most = most.max(world.fetches.values().sum());
        if !script.borrow_mut().next() {
            return (runs, choices, most);
        }
    }
}

#[test]
fn two_clients_in_every_order() {
    let manners = Manners { get_ms: 700, losses: 1, crashes: 1, late: 2, ..Manners::default() };
    let (runs, choices, most) = all_runs(2, manners);
    eprintln!("2 clients: {runs} runs, {choices} choices, at most {most} fetches in one");
    assert!(runs > 500);
    assert!(most <= 3, "{most} fetches");
}

#[test]
fn three_clients_in_every_order() {
    let manners = Manners { get_ms: 700, losses: 1, crashes: 0, late: 1, ..Manners::default() };
    let (runs, choices, most) = all_runs(3, manners);
    eprintln!("3 clients, no crash: {runs} runs, {choices} choices, at most {most} fetches in one");
    let manners = Manners { get_ms: 700, losses: 0, crashes: 1, late: 1, ..Manners::default() };
    let (crash_runs, choices, crash_most) = all_runs(3, manners);
    eprintln!(
        "3 clients, a crash: {crash_runs} runs, {choices} choices, at most {crash_most} fetches in one"
    );
    assert!(runs > 100 && crash_runs > 100);
    assert!(most.max(crash_most) <= 3);
}
