//! The situations that the protocol's rules were written against, without a bug: each must pass like any other plan.
#![allow(clippy::unwrap_used)]

use tcat_sim::run::run;
use tcat_sim::situations::SITUATIONS;

/// Plans a situation.
const SEEDS: u64 = 3;

#[test]
fn without_a_bug_nothing_is_found_in_any_situation() {
    let mut failed = Vec::new();
    for situation in SITUATIONS {
        for seed in 0..SEEDS {
            let finished = run(&situation.plan(seed), false).unwrap();
            if let Some(violation) = finished.violations.first() {
                failed.push(format!("{} {seed}: {} {}", situation.name, violation.invariant, violation.text));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_situation_plays_twice_alike() {
    for situation in SITUATIONS {
        let plan = situation.plan(7);
        assert_eq!(run(&plan, false).unwrap().hash, run(&plan, true).unwrap().hash, "{}", situation.name);
    }
}

/// A node that had no room was believed to have what it could not take: its mark went into the page of the feed that had
/// brought the item, and others, who had read smaller pages, placed the change before it.
#[test]
fn l2_a_mark_stops_before_the_page_that_brought_what_is_not_settled() {
    let marks = SITUATIONS.iter().find(|situation| situation.name == "marks-and-deviations").unwrap();
    for seed in [1, 2, 6, 7, 8] {
        let finished = run(&marks.plan(seed), false).unwrap();
        assert!(finished.violations.is_empty(), "seed {seed}: {:?}", finished.violations);
    }
}
