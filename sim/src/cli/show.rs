//! What is printed: headers, verdicts, the few events that matter, and lists.

use std::collections::BTreeSet;
use tcat_engine::planted::{Bug, State};
use tcat_sim::checks::{Invariant, Violation};
use tcat_sim::classes::{CLASSES, ClassState};
use tcat_sim::plan::{Fidelity, Plan};
use tcat_sim::run::Finished;
use tcat_sim::situations::SITUATIONS;
use tcat_sim::trace::TraceEvent;

/// How many events of a failure are printed.
const EVENTS_SHOWN: usize = 40;

/// Says what is about to be run.
pub fn header(plan: &Plan, quiet: bool) {
    println!(
        "tcat-sim {} seed {}: {} nodes{}, {}, {} items, faults: {}",
        env!("CARGO_PKG_VERSION"),
        plan.seed,
        plan.nodes.len(),
        if plan.fidelity == Fidelity::Full { " with databases on disks" } else { "" },
        plan.workload,
        plan.items.len(),
        if plan.classes.is_empty() { "none".into() } else { plan.classes.join(", ") }
    );
    if !quiet {
        println!("{}", plan.text());
    }
}

/// Says how a run ended; of a failure, what matters of it.
pub fn verdict(plan: &Plan, finished: &Finished, again: &str) {
    for violation in &finished.violations {
        println!("VIOLATED {}", violation.invariant);
        println!("  at {} ms: {}", violation.at_ms, violation.text);
        if let Some(trace) = &finished.trace {
            println!("  what matters of it:");
            for event in matter(violation, &trace.events, plan.nodes.len()) {
                println!("    {}", line(event, plan.nodes.len()));
            }
        }
    }
    let word = if finished.violations.is_empty() { "pass" } else { "FAIL" };
    println!(
        "{word}: hash {:016x}, {} events, {} s of the world's time",
        finished.hash,
        finished.events,
        finished.world_ms / 1000
    );
    println!("reproduce: {again}");
}

/// The last events before a violation that have to do with its items or nodes, faults and deeds first of all.
fn matter<'a>(violation: &Violation, events: &'a [TraceEvent], world: usize) -> Vec<&'a TraceEvent> {
    let items: BTreeSet<_> = violation.items.iter().collect();
    let nodes: BTreeSet<_> = violation.nodes.iter().collect();
    let matters = |event: &&TraceEvent| {
        let about = event.items.iter().any(|item| items.contains(item))
            || items.iter().any(|item| event.text.contains(&format!("{item:?}")));
        let carried = matches!(event.kind, "send" | "recv");
        let noise = matches!(event.kind, "done" | "observed" | "scanned" | "input")
            || event.text.contains("ReadFeed");
        let here = nodes.is_empty() || nodes.contains(&event.node) || event.node == world;
        let matters = about || (!noise && here && items.is_empty());
        event.at_ms <= violation.at_ms && !carried && matters
    };
    let mut some: Vec<_> = events.iter().filter(matters).collect();
    let skipped = some.len().saturating_sub(EVENTS_SHOWN);
    some.drain(..skipped);
    some
}

fn line(event: &TraceEvent, world: usize) -> String {
    let who = if event.node == world { "world".into() } else { format!("n{}", event.node + 1) };
    format!("{:>9} ms {who:5} {:12} {}", event.at_ms, event.kind, event.text)
}

/// Prints every event.
pub fn events(finished: &Finished, world: usize) {
    for event in finished.trace.iter().flat_map(|trace| &trace.events) {
        println!("{}", line(event, world));
    }
}

/// Lists what can go wrong, what must hold, and what can be planted.
pub fn faults() {
    println!("classes of faults");
    for class in &CLASSES {
        let state = match class.state {
            ClassState::On => "on".into(),
            ClassState::Full => "on, with databases on disks".into(),
            ClassState::Situation(name) => format!("in the situation {name}"),
            ClassState::Waits(what) => format!("waits for {what}"),
        };
        println!("  {:22} {} [{state}]", class.name, class.what);
    }
    let count = |is: fn(&ClassState) -> bool| CLASSES.iter().filter(|class| is(&class.state)).count();
    let situations = count(|state| matches!(state, ClassState::Situation(_)));
    let waiting = count(|state| matches!(state, ClassState::Waits(_)));
    let on = CLASSES.len() - situations - waiting;
    println!("  {on} on, {situations} in situations alone, {waiting} waiting\n\ninvariants");
    for invariant in Invariant::ALL {
        match invariant.waits_for() {
            None => println!("  {invariant}"),
            Some(what) => println!("  {invariant} [waits for {what}]"),
        }
    }
    println!("\nsituations");
    for situation in SITUATIONS {
        let bugs: Vec<_> = situation.bugs.iter().filter_map(|bug| bug.id().split('-').next()).collect();
        println!("  {:28} {} [shows {}]", situation.name, situation.what, bugs.join(", "));
    }
    println!("\nplanted bugs");
    for bug in Bug::ALL {
        let state = if bug.state() == State::Planted { "planted" } else { "waits" };
        println!("  {:26} {:4} {} [{state}]", bug.id(), bug.invariant(), bug.what());
    }
    let planted = Bug::ALL.iter().filter(|bug| bug.state() == State::Planted).count();
    println!("  {planted} planted, {} waiting", Bug::ALL.len() - planted);
}
