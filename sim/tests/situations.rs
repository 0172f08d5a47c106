//! The situations that the protocol's rules were written against, without a bug: each must pass like any other plan.
#![allow(clippy::unwrap_used)]

use tcat_engine::planted::Bug;
use tcat_sim::checks::Invariant;
use tcat_sim::plan::Plan;
use tcat_sim::run::run;
use tcat_sim::situations::{SITUATIONS, of_bug};

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

/// In a folder that two share, what one of them knows of the catalog counts for both: also where it has lost its database,
/// and its second life is younger than what the other has heard of the first.
#[test]
fn s8_a_person_who_goes_back_in_a_shared_folder_is_overruled_where_a_lagging_node_does_not_hear_its_mate() {
    for bug in [Bug::LaggingFeedShared, Bug::LowVector] {
        let situation = of_bug(bug).unwrap();
        let is_lost = |plan: &Plan| {
            run(plan, false).unwrap().violations.iter().any(|found| found.invariant == Invariant::S8)
        };
        let with = |seed| Plan { bug: Some(bug.id().into()), ..situation.plan(seed) };
        let caught = (0..200).find(|seed| is_lost(&with(*seed)));
        assert!(!is_lost(&situation.plan(caught.unwrap())), "{}", bug.id());
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
