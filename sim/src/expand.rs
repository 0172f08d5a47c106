//! From a seed to its plan.
//!
//! A swarm in two tiers: for each run some classes of faults are possible at all; of each of those some sites (nodes,
//! links) are armed, and strike a few times. So some runs have one fault alone, and some have everything at once. Each
//! class draws from a stream of its own: a class that is added leaves the other draws of every seed as they were.

use crate::classes::{CLASSES, Class, ClassState};
use crate::contents;
use crate::disk::Trouble;
use crate::plan::{Fidelity, Item, Mishap, NodePlan, Plan, Site, Spell, Strike, What};
use crate::random::Random;
use crate::scanner::DiskClockPlan;
use crate::situations::SITUATIONS;
use crate::workload;
use crate::world::Weather;

/// In how many of a thousand runs a class is possible.
const CLASS_PERMILLE: u64 = 180;
/// In how many of a thousand runs some hundred files appear at once: such a run takes as long as ten others.
const BURST_PERMILLE: u64 = 80;
/// How many of a thousand sites of a possible class are armed.
const SITE_PERMILLE: u64 = 450;
/// How many seeds in a thousand keep their databases on the simulated disk.
const FULL_PERMILLE: u64 = 20;
/// One seed in so many plays a situation: what everything at once meets rarely.
const SITUATION_EVERY: u64 = 16;
/// In how many of a thousand runs on disks a class is possible that needs them.
const DISK_PERMILLE: u64 = 400;

/// The plan of a seed, with the fidelity that is asked for if one is. What a run on disks adds to a plan stays in it
/// where a light run is asked for.
pub fn expand_for(seed: u64, fidelity: Option<Fidelity>) -> Plan {
    match fidelity {
        Some(Fidelity::Full) => expand_of(seed, Fidelity::Full),
        Some(Fidelity::Light) => Plan { fidelity: Fidelity::Light, ..expand(seed) },
        None => expand(seed),
    }
}

/// The plan of a seed.
pub fn expand(seed: u64) -> Plan {
    expand_of(seed, Fidelity::Light)
}

/// The plan of a seed with at least this fidelity. Every sixteenth is of a situation, one after the other, and light.
pub fn expand_of(seed: u64, fidelity: Fidelity) -> Plan {
    if seed % SITUATION_EVERY == SITUATION_EVERY - 1 {
        let number = seed / SITUATION_EVERY;
        let situation = &SITUATIONS[(number % SITUATIONS.len() as u64) as usize];
        return situation.plan(seed);
    }
    let mut random = Random::named(seed, "topology", 0);
    // Mostly few: what goes wrong between two goes wrong sooner than between eight.
    let nodes = [2, 2, 3, 3, 3, 3, 4, 5, 1, 8][random.below(10) as usize];
    let foul = random.permille(300);
    // One for all: a member whose heartbeats are rarer than another's lease would never be live for it.
    let lease_ms = [1_000, 2_000, 2_000, 10_000][random.below(4) as usize];
    let full = random.permille(FULL_PERMILLE);
    let machines = (0..nodes).map(|_| node(lease_ms, &mut random)).collect();
    let mut plan =
        Plan { fidelity: if full { Fidelity::Full } else { fidelity }, ..Plan::empty(seed, "", machines) };
    plan.weather = Weather {
        loss_permille: if foul { random.below(200) } else { 0 },
        twice_permille: if foul { random.below(100) } else { 0 },
        delay_ms_max: if foul { random.between(5, 600) } else { random.between(1, 10) },
    };
    workload::deeds(&mut plan);
    let busy_ms = plan.items.iter().map(|item| item.at_ms).max().unwrap_or(0).max(2_000);
    plan.calm_ms = busy_ms + 2_000;
    let fidelity = plan.fidelity;
    let classes = CLASSES.iter().filter(|class| class.strikes(fidelity));
    // What adds contents comes first: then these are given sizes.
    let (last, first): (Vec<&Class>, Vec<&Class>) = classes.partition(|class| class.name == "contents-large");
    for class in first.into_iter().chain(last) {
        let mut random = Random::named(seed, class.name, 1);
        let permille = match class.state {
            ClassState::Full => DISK_PERMILLE,
            _ if class.name == "burst" => BURST_PERMILLE,
            _ => CLASS_PERMILLE,
        };
        if random.permille(permille) {
            plan.classes.push(class.name.into());
            arm(&mut plan, class.name, busy_ms, &mut random);
        }
    }
    plan.items.sort_by_key(|item| item.at_ms);
    let last_ms = plan.items.iter().map(|item| item.at_ms).max().unwrap_or(0);
    plan.calm_ms = plan.calm_ms.max(last_ms + 1_000);
    plan
}

fn node(lease_ms: u64, random: &mut Random) -> NodePlan {
    let poll_ms = [500, 500, 1_000, 5_000][random.below(4) as usize];
    let scan_interval_ms = [10_000, 20_000][random.below(2) as usize];
    let starts_ms = if random.permille(150) { random.below(8_000) } else { 0 };
    NodePlan { lease_ms, poll_ms, scan_interval_ms, starts_ms, ..NodePlan::default() }
}

/// Arms the sites of a class: adds what it does to the plan.
fn arm(plan: &mut Plan, class: &str, busy_ms: u64, random: &mut Random) {
    match class {
        "burst" => workload::burst(plan, busy_ms, random),
        "contents-large" => contents::arm(plan, workload::BURST_CONTENT, busy_ms, random),
        "clock-drift" | "clock-offset" => arm_clocks(plan, class, random),
        "disk-clock" => arm_disk_clocks(plan, busy_ms, random),
        "dead-at-the-end" => {
            let nodes = plan.nodes.len();
            let dead = (0..nodes).filter(|_| random.permille(400)).collect::<Vec<_>>();
            plan.dead = if dead.len() < nodes { dead } else { Vec::new() };
        }
        "hosted" => arm_hosts(plan, busy_ms, random),
        "kill" => kill_instead(plan, random),
        "plain-root" => plan.plain_roots = (0..plan.nodes.len()).filter(|_| random.permille(600)).collect(),
        _ if class.starts_with("net-") || class == "frames-short" || class == "discovery-flap" => {
            arm_network(plan, class, busy_ms, random);
        }
        _ => {
            for node in 0..plan.nodes.len() {
                if random.permille(SITE_PERMILLE) {
                    arm_node(plan, class, node, busy_ms, random);
                }
            }
        }
    }
}

/// Some crashes become deaths of the process alone.
fn kill_instead(plan: &mut Plan, random: &mut Random) {
    for item in &mut plan.items {
        if let What::Strike(Strike::Crash { node, down_ms, noticed_ms }) = item.what
            && random.permille(SITE_PERMILLE)
        {
            item.what = What::Strike(Strike::Kill { node, down_ms, noticed_ms });
        }
    }
}

fn arm_clocks(plan: &mut Plan, class: &str, random: &mut Random) {
    for node in &mut plan.nodes {
        if random.permille(SITE_PERMILLE) {
            match class {
                "clock-drift" => node.clock.drift_ppm = random.below(1_001) as i64 - 500,
                _ => node.clock.offset_ms = random.below(172_800_000) as i64 - 86_400_000,
            }
        }
    }
}

/// A node keeps the catalog; others are promoted, some while the network is in two, some at once with another.
fn arm_hosts(plan: &mut Plan, busy_ms: u64, random: &mut Random) {
    let nodes = plan.nodes.len() as u64;
    let one = |random: &mut Random| random.below(nodes) as usize;
    plan.hosted = Some(one(random));
    for _ in 0..random.below(4) {
        let (at_ms, for_ms) = when(busy_ms, random);
        let (node, other) = (one(random), one(random));
        if random.permille(600) {
            let split: (Vec<_>, Vec<_>) =
                (0..plan.nodes.len()).partition(|n| *n == node || *n != other && random.permille(500));
            spell(plan, at_ms, for_ms, Spell::Cut { from: split.0.clone(), to: split.1.clone() });
            spell(plan, at_ms, for_ms, Spell::Cut { from: split.1, to: split.0 });
        }
        strike(plan, at_ms + random.below(for_ms), Strike::Promote { node });
        if random.permille(400) {
            strike(plan, at_ms + random.below(for_ms), Strike::Promote { node: other });
        }
    }
}

/// Disks get clocks of their own: wrong by seconds, by less than an hour, or by up to a day; and somebody sets them.
fn arm_disk_clocks(plan: &mut Plan, busy_ms: u64, random: &mut Random) {
    for n in 0..plan.nodes.len() {
        if random.permille(SITE_PERMILLE) {
            let most_ms = [10_000, 3_600_000, 86_400_000][random.below(3) as usize];
            let apart_ms = |random: &mut Random| random.below(2 * most_ms) as i64 - most_ms as i64;
            let (offset_ms, drift_ppm) = (apart_ms(random), random.below(1_001) as i64 - 500);
            plan.nodes[n].disk_clock = Some(DiskClockPlan { offset_ms, drift_ppm });
            if random.permille(500) {
                let (at_ms, by_ms) = (random.below(busy_ms), apart_ms(random));
                strike(plan, at_ms, Strike::StepDiskClock { node: n, by_ms });
            }
        }
    }
}

/// A time while persons are at work, and a while that may reach beyond.
fn when(busy_ms: u64, random: &mut Random) -> (u64, u64) {
    let long = [300, 1_500, 5_000, 20_000, 60_000][random.below(5) as usize];
    (random.below(busy_ms + 2_000), random.between(100, long + 200))
}

fn spell(plan: &mut Plan, at_ms: u64, for_ms: u64, fault: Spell) {
    plan.items.push(Item { at_ms, what: What::Spell { for_ms, fault } });
}

fn strike(plan: &mut Plan, at_ms: u64, strike: Strike) {
    plan.items.push(Item { at_ms, what: What::Strike(strike) });
}

fn arm_network(plan: &mut Plan, class: &str, busy_ms: u64, random: &mut Random) {
    let nodes = plan.nodes.len();
    if nodes < 2 {
        return;
    }
    for _ in 0..random.between(1, 5) {
        let (at_ms, for_ms) = when(busy_ms, random);
        let a = random.below(nodes as u64) as usize;
        let b = (a + 1 + random.below(nodes as u64 - 1) as usize) % nodes;
        let others: Vec<_> = (0..nodes).filter(|n| *n != a).collect();
        match class {
            "net-clog" => spell(plan, at_ms, for_ms, Spell::Clog { from: a, to: b }),
            "net-cut-one-way" => {
                let (from, to) = if random.permille(500) { (vec![a], others) } else { (others, vec![a]) };
                spell(plan, at_ms, for_ms, Spell::Cut { from, to });
            }
            "net-partial-mesh" => {
                spell(plan, at_ms, for_ms, Spell::Cut { from: vec![a], to: vec![b] });
                spell(plan, at_ms, for_ms, Spell::Cut { from: vec![b], to: vec![a] });
            }
            "net-partition" => {
                let split: (Vec<_>, Vec<_>) = (0..nodes).partition(|n| *n == a || random.permille(400));
                spell(plan, at_ms, for_ms, Spell::Cut { from: split.0.clone(), to: split.1.clone() });
                spell(plan, at_ms, for_ms, Spell::Cut { from: split.1, to: split.0 });
            }
            "net-foul" => {
                let node = random.permille(500).then_some(a);
                let weather = Weather {
                    loss_permille: random.below(600),
                    twice_permille: random.below(500),
                    delay_ms_max: random.between(5, 3_000),
                };
                spell(plan, at_ms, for_ms, Spell::Weather { node, weather });
            }
            "net-replay" => {
                let late_ms = random.between(1_000, 60_000);
                spell(plan, at_ms, for_ms, Spell::Replay { permille: random.between(10, 500), late_ms });
            }
            "frames-short" => {
                let bytes_max = random.between(200, 2_000) as usize;
                spell(plan, at_ms, for_ms, Spell::ShortFrames { bytes_max });
            }
            _ => strike(plan, at_ms, Strike::Flap { a, b, for_ms: random.between(1, 4_000) }),
        }
    }
}

const FAR: [Site; 4] = [Site::Create, Site::Intend, Site::Put, Site::Commit];
const NEAR: [Site; 5] = [Site::Fetch, Site::Untrash, Site::Publish, Site::Move, Site::Get];

fn arm_node(plan: &mut Plan, class: &str, node: usize, busy_ms: u64, random: &mut Random) {
    let (at_ms, for_ms) = when(busy_ms, random);
    let permille = [100, 300, 900][random.below(3) as usize];
    let down_ms = random.between(10, 5_000);
    let effects = |plan: &mut Plan, sites: &[Site], how, random: &mut Random| {
        let site = if random.permille(300) { None } else { random.one_of(sites).copied() };
        spell(plan, at_ms, for_ms, Spell::Effects { node, site, how, permille });
    };
    match class {
        "catalog-answer-late" => {
            effects(plan, &[Site::Create, Site::Commit, Site::Intend], Mishap::AppliedLate, random);
        }
        "between-steps" => between_steps(plan, node, busy_ms, random),
        "catalog-answer-lost" => effects(plan, &FAR, Mishap::AnswerLost, random),
        "catalog-fails" => effects(plan, &FAR, Mishap::Fails, random),
        "catalog-stale" => effects(plan, &[Site::ReadFeed], Mishap::Stale, random),
        "effects-fail" => effects(plan, &NEAR, Mishap::Fails, random),
        "object-corrupt" => effects(plan, &[Site::Get, Site::Fetch], Mishap::Corrupt, random),
        "catalog-away" => {
            let node = random.permille(500).then_some(node);
            spell(plan, at_ms, for_ms, Spell::CatalogAway { node });
        }
        "clock-step" => {
            let by_ms = random.below(14_400_000) as i64 - 7_200_000;
            strike(plan, at_ms, Strike::StepClock { node, by_ms });
        }
        "crash" => {
            for _ in 0..random.between(1, 4) {
                let (at_ms, _) = when(busy_ms, random);
                let noticed_ms = if random.permille(500) { 0 } else { random.below(15_000) };
                strike(plan, at_ms, Strike::Crash { node, down_ms: random.between(10, 5_000), noticed_ms });
            }
        }
        "crash-at-effect" => {
            for _ in 0..random.between(1, 4) {
                let (at_ms, _) = when(busy_ms, random);
                let (skip, before) = (random.below(6), random.permille(500));
                strike(plan, at_ms, Strike::CrashAtEffect { node, skip, before, down_ms });
            }
        }
        "crash-loop" => {
            for turn in 0..random.between(3, 10) {
                let at_ms = at_ms + turn * random.between(50, 1_500);
                strike(plan, at_ms, Strike::Crash { node, down_ms: random.between(1, 300), noticed_ms: 0 });
            }
        }
        "database-full" => spell(plan, at_ms, for_ms, Spell::DatabaseFull { node }),
        "disk-fails" => arm_disk(plan, node, &[Trouble::ReadError, Trouble::WriteError], busy_ms, random),
        "disk-sync-fails" => arm_disk(plan, node, &[Trouble::SyncError], busy_ms, random),
        "disk-torn" => {
            arm_disk(plan, node, &[Trouble::PowerCut, Trouble::PowerCutAtSync], busy_ms, random);
        }
        "disk-full" => spell(plan, at_ms, for_ms, Spell::DiskFull { node }),
        "effects-slow" => {
            spell(plan, at_ms, for_ms, Spell::SlowEffects { node, late_ms: random.between(200, 20_000) });
        }
        "lookup-slow" => {
            spell(plan, at_ms, for_ms, Spell::SlowLooks { node, late_ms: random.between(500, 8_000) });
        }
        "meddling" => spell(plan, at_ms, for_ms, Spell::Meddling { node, permille: permille / 2 }),
        "pause" => strike(plan, at_ms, Strike::Pause { node, for_ms: random.between(100, 30_000) }),
        "rot" => workload::rot(plan, node, at_ms, random),
        "trash-written" => workload::open_files(plan, node, random),
        "unmounted" => spell(plan, at_ms, for_ms, Spell::Unmounted { node }),
        "watcher-blind" => spell(plan, at_ms, for_ms, Spell::BlindWatcher { node }),
        "wipe" => {
            // What was removed would come back until the root's marker tells.
            let removes = |item: &Item| matches!(item.what, What::Deed(crate::plan::Deed::Remove { .. }));
            if crate::classes::is_on("wipe-with-removals") || !plan.items.iter().any(removes) {
                strike(plan, at_ms, Strike::Wipe { node, down_ms });
            }
        }
        "restore" => {
            strike(plan, at_ms, Strike::Snapshot { node });
            strike(plan, at_ms + for_ms, Strike::Restore { node, down_ms });
        }
        _ => {}
    }
}

/// What a node does in its folder takes its time, it dies in the middle, and persons come in the middle.
fn between_steps(plan: &mut Plan, node: usize, busy_ms: u64, random: &mut Random) {
    let at_ms = random.below(busy_ms);
    let for_ms = random.between(2_000, busy_ms + 4_000);
    let late_ms = [10, 100, 600][random.below(3) as usize];
    spell(plan, at_ms, for_ms, Spell::SlowSteps { node, late_ms });
    if random.permille(500) {
        let permille = random.between(50, 500);
        spell(plan, at_ms, for_ms, Spell::Meddling { node, permille });
    }
    for _ in 0..random.below(5) {
        let (at_ms, _) = when(busy_ms, random);
        let (skip, kill, down_ms) = (random.below(24), random.permille(300), random.between(10, 5_000));
        strike(plan, at_ms, Strike::DieBetweenSteps { node, skip, kill, down_ms });
    }
}

/// The disk of a node's database does this a few times.
fn arm_disk(plan: &mut Plan, node: usize, troubles: &[Trouble], busy_ms: u64, random: &mut Random) {
    for _ in 0..random.between(1, 5) {
        let (at_ms, _) = when(busy_ms, random);
        let Some(trouble) = random.one_of(troubles).copied() else { return };
        let passes = match trouble {
            Trouble::PowerCutAtSync | Trouble::SyncError => random.below(6),
            _ => random.below(40),
        };
        strike(plan, at_ms, Strike::Disk { node, trouble, passes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_has_a_plan_that_can_be_run_and_always_the_same() {
        for seed in 0..500 {
            let plan = expand(seed);
            assert_eq!(plan.check(), Ok(()));
            assert_eq!(plan, expand(seed));
            assert!(plan.items.is_sorted_by_key(|item| item.at_ms));
        }
    }

    #[test]
    fn a_plan_on_disks_has_all_that_the_light_one_has_and_some_seeds_are_on_disks_by_themselves() {
        let mut full = 0;
        for seed in 0..2_000 {
            let plan = expand(seed);
            full += usize::from(plan.fidelity == Fidelity::Full);
            if plan.fidelity == Fidelity::Light && seed < 300 {
                let on_disks = expand_of(seed, Fidelity::Full);
                let is_kept = |item: &&Item| match item.what {
                    What::Strike(Strike::Crash { .. }) => true,
                    _ => on_disks.items.contains(item),
                };
                assert!(plan.items.iter().all(|item| is_kept(&item)), "seed {seed}");
            }
        }
        assert!((20..80).contains(&full), "{full} of 2000");
    }

    #[test]
    fn every_class_that_is_on_strikes_in_some_plan() {
        let all = |fidelity| (0..400).map(|seed| expand_of(seed, fidelity)).collect::<Vec<_>>();
        let (light, full) = (all(Fidelity::Light), all(Fidelity::Full));
        for class in CLASSES.iter().filter(|class| class.strikes(Fidelity::Full)) {
            let plans = if class.state == ClassState::Full { &full } else { &light };
            let met = plans.iter().filter(|plan| plan.classes.iter().any(|name| name == class.name)).count();
            assert!(met > 20, "{} is in {met} plans of 400", class.name);
        }
    }
}
