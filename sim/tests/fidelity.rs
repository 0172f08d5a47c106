//! Runs with the real storage on simulated disks: they end as light ones do, unless a disk makes the difference.
#![allow(clippy::unwrap_used)]

use tcat_engine::planted::Bug;
use tcat_sim::checks::Invariant;
use tcat_sim::expand::expand_of;
use tcat_sim::goals::Goals;
use tcat_sim::plan::{Fidelity, Item, Plan, Spell, Strike, What};
use tcat_sim::run::{Finished, run};

fn is_of_a_disk(item: &Item) -> bool {
    matches!(
        item.what,
        What::Strike(Strike::Disk { .. }) | What::Spell { fault: Spell::DatabaseFull { .. }, .. }
    )
}

#[test]
fn a_plan_without_faults_of_disks_comes_to_the_same_in_memory_and_on_disks() {
    let mut deaths = [0_u64; 2];
    for seed in 0..26 {
        let mut plan = expand_of(seed, Fidelity::Full);
        if plan.fidelity == Fidelity::Light {
            // A situation's.
            continue;
        }
        plan.items.retain(|item| !is_of_a_disk(item));
        for item in &mut plan.items {
            let What::Strike(Strike::Crash { node, down_ms, noticed_ms }) = item.what else { continue };
            let kills = deaths[0] > deaths[1];
            deaths[usize::from(kills)] += 1;
            if kills {
                item.what = What::Strike(Strike::Kill { node, down_ms, noticed_ms });
            }
        }
        let full = run(&plan, false).unwrap();
        let light = run(&Plan { fidelity: Fidelity::Light, ..plan }, false).unwrap();
        assert_eq!((light.hash, light.events, light.world_ms), (full.hash, full.events, full.world_ms));
        assert_eq!(light.violations, full.violations, "seed {seed}");
        let looked = |finished: &Finished| finished.counts.of(Invariant::S4);
        assert!(looked(&full) > looked(&light), "what a database holds at a start is compared");
    }
    assert!(deaths.iter().all(|deaths| *deaths > 3), "crashes and kills: {deaths:?}");
}

#[test]
fn databases_fail_with_their_disks_and_nothing_that_was_acknowledged_is_lost() {
    let mut goals = Goals::default();
    for seed in 0..30 {
        let plan = expand_of(seed, Fidelity::Full);
        if plan.items.iter().any(is_of_a_disk) {
            let finished = run(&plan, false).unwrap();
            assert_eq!(finished.violations, vec![], "seed {seed}");
            goals.add(&finished.goals);
        }
    }
    assert_eq!(goals.unmet_by_full(), Vec::<&str>::new());
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught_by_plans() {
    let caught = (0..40).find(|seed| {
        let bug = Some(Bug::AckBeforeSync.id().into());
        let finished = run(&Plan { bug, ..expand_of(*seed, Fidelity::Full) }, false).unwrap();
        finished.violations.iter().any(|violation| violation.invariant == Invariant::S3)
    });
    assert!(caught.is_some());
}
