//! Work in folders in plans: deaths and persons between two primitives, and what that finds.
#![allow(clippy::unwrap_used)]

use tcat_engine::planted::Bug;
use tcat_sim::checks::Invariant;
use tcat_sim::expand::expand;
use tcat_sim::goals::Goals;
use tcat_sim::plan::{Deed, Item, NodePlan, Plan, Spell, Strike, What};
use tcat_sim::run::{Finished, run};

fn violates(finished: &Finished, invariant: &str) -> bool {
    finished.violations.iter().any(|violation| violation.invariant.id() == invariant)
}

/// Two nodes that save over each other's files while everything in their folders takes its time.
fn busy(seed: u64) -> Plan {
    let save = |n: u64| Item {
        at_ms: 1_000 + n * 700,
        what: What::Deed(Deed::Save { node: (n % 2) as usize, path: "a/1.jpg".into(), content: 1_000 + n }),
    };
    let mut items: Vec<_> = (0..12).map(save).collect();
    for node in 0..2 {
        let fault = Spell::SlowSteps { node, late_ms: 200 };
        items.push(Item { at_ms: 0, what: What::Spell { for_ms: 20_000, fault } });
        for at_ms in [2_000, 4_500, 7_000] {
            let kill = at_ms == 4_500;
            let strike = Strike::DieBetweenSteps { node, skip: seed % 17, kill, down_ms: 500 };
            items.push(Item { at_ms, what: What::Strike(strike) });
        }
    }
    items.sort_by_key(|item| item.at_ms);
    let (nodes, classes, dead) = (vec![NodePlan::default(); 2], Vec::new(), Vec::new());
    Plan { seed, items, nodes, classes, dead, plain_roots: vec![1], calm_ms: 20_000, ..expand(0) }
}

#[test]
fn a_death_between_any_two_primitives_loses_nothing() {
    let mut goals = Goals::default();
    for seed in 0..34 {
        let finished = run(&busy(seed), false).unwrap();
        assert_eq!(finished.violations, vec![], "seed {seed}");
        assert!(finished.counts.of(Invariant::S4) > 0, "what is recovered is looked at");
        goals.add(&finished.goals);
    }
    assert!(goals.of("crash-between-steps") > 60 && goals.of("stepped") > 100);
}

#[test]
fn what_a_program_writes_into_a_file_in_trash_comes_back_beside_it() {
    let mut plan = busy(3);
    plan.items.retain(|item| matches!(item.what, What::Deed(_)));
    for (at_ms, after_ms) in [(4_000, 4_000), (6_100, 9_000)] {
        let (node, path, content) = (0, "a/1.jpg".into(), 5_000 + at_ms);
        let strike = Strike::OpenFile { node, path, content, after_ms };
        plan.items.push(Item { at_ms, what: What::Strike(strike) });
    }
    let finished = run(&plan, false).unwrap();
    assert_eq!(finished.violations, vec![]);
    assert!(finished.goals.of("kept-from-trash") > 0);
    let finished = run(&Plan { bug: Some(Bug::TrashIsFinal.id().into()), ..plan }, false).unwrap();
    assert!(violates(&finished, "S8"), "{:?}", finished.violations);
}

#[test]
fn the_planted_bugs_of_publishing_are_caught_by_plans_and_by_the_invariant_named_for_each() {
    for bug in [
        Bug::FolderNotSynced,
        Bug::TornJournal,
        Bug::JournalAfterMove,
        Bug::BlindReplace,
        Bug::SaveBeforeRename,
        Bug::NoExchangeReplaces,
        Bug::TrashIsFinal,
    ] {
        let caught = (0..240).find(|seed| {
            let plan = Plan { bug: Some(bug.id().into()), ..expand(*seed) };
            violates(&run(&plan, false).unwrap(), bug.invariant())
        });
        assert!(caught.is_some(), "{} is not caught", bug.id());
    }
}
