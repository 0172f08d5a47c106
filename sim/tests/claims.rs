//! Who fetches a content from the cloud: once, whoever falls silent, stands still or comes back; and the planted bugs that
//! break it.
#![allow(clippy::unwrap_used)]

use tcat_engine::catalog::RowState;
use tcat_engine::content::Content;
use tcat_engine::planted::Bug;
use tcat_sim::claim_world::{ClaimWorld, LEASE_MS, Manners};
use tcat_sim::world::content;

const PATIENCE_MS: u64 = 120_000;

fn contents(numbers: impl IntoIterator<Item = u64>) -> Vec<Content> {
    numbers.into_iter().map(|n| content(n + 1_000)).collect()
}

fn show(world: &ClaimWorld) -> String {
    format!("{:?}\n{}", world.broken, world.log.join("\n"))
}

/// All nodes get all files, and nothing is broken on the way.
fn ends_well(world: &mut ClaimWorld) {
    let end_ms = world.now_ms() + PATIENCE_MS;
    assert!(world.run_until(end_ms, ClaimWorld::all_have_all), "{}", show(world));
}

/// A world in which somebody has just begun to fetch a content that takes long. Returns who.
fn with_a_worker(seed: u64, nodes: usize, bug: Option<Bug>, manners: Manners) -> (ClaimWorld, usize) {
    let mut world = ClaimWorld::new(seed, nodes, &contents([seed]), bug);
    world.manners = manners;
    let end_ms = world.now_ms() + PATIENCE_MS;
    assert!(world.run_until(end_ms, |world| world.worker().is_some()), "{}", show(&world));
    let worker = world.worker().unwrap();
    (world, worker)
}

const SLOW: Manners =
    Manners { get_ms: 20_000, cancel_ms: 10, delay_ms_max: 5, losses: 0, crashes: 0, late: 0 };

#[test]
fn two_items_with_one_content_are_fetched_from_the_cloud_once() {
    for seed in 0..20 {
        let mut world = ClaimWorld::new(seed, 3, &contents([1, 1, 2, 1, 3, 2]), None);
        world.manners.get_ms = 10 + world.chance(400);
        ends_well(&mut world);
        assert_eq!(world.fetches.len(), 3);
        assert!(world.fetches.values().all(|times| *times == 1), "seed {seed}: {:?}", world.fetches);
    }
}

#[test]
fn new_items_cause_no_stampede() {
    for (nodes, items) in [(5, 40), (8, 60)] {
        let mut world = ClaimWorld::new(1, nodes, &contents(0..items), None);
        ends_well(&mut world);
        let begun: u32 = world.fetches.values().sum();
        assert_eq!(u64::from(begun), items, "each is fetched once: {:?}", world.fetches);
        eprintln!("{nodes} nodes, {items} items: {} messages, {begun} fetches", world.words);
    }
}

#[test]
fn a_slow_transfer_that_moves_keeps_its_claim() {
    let (mut world, _) = with_a_worker(1, 3, None, SLOW);
    ends_well(&mut world);
    assert_eq!(world.fetches.values().sum::<u32>(), 1, "{}", show(&world));
}

#[test]
fn a_holder_that_is_cut_off_stops_before_another_takes_over() {
    for seed in 0..20 {
        let (mut world, holder) = with_a_worker(seed, 3, None, SLOW);
        let pause_ms = world.chance(3_000);
        world.run_for(pause_ms);
        world.isolate(holder, true);
        world.run_for(3 * LEASE_MS);
        assert!(world.broken.is_empty(), "seed {seed}: {}", show(&world));
        let taken_over = (0..3).any(|n| n != holder && world.is_at_work(n));
        assert!(taken_over, "seed {seed}: {}", show(&world));
        world.isolate(holder, false);
        ends_well(&mut world);
    }
}

#[test]
fn a_holder_that_nobody_hears_or_that_hears_nobody_stops() {
    for (seed, deaf) in [(1, true), (2, false), (3, true), (4, false)] {
        let (mut world, holder) = with_a_worker(seed, 3, None, SLOW);
        world.run_for(500);
        for other in (0..3).filter(|other| *other != holder) {
            world.cuts.insert(if deaf { (other, holder) } else { (holder, other) });
        }
        world.run_for(3 * LEASE_MS);
        assert!((0..3).any(|n| n != holder && world.is_at_work(n)), "seed {seed}: {}", show(&world));
        world.mend();
        ends_well(&mut world);
    }
}

#[test]
fn a_suspended_holder_stops_when_it_wakes_and_a_suspended_member_listens_before_it_takes_over() {
    for seed in 0..10 {
        let (mut world, holder) = with_a_worker(seed, 3, None, SLOW);
        world.run_for(300);
        let other = (holder + 1) % 3;
        world.suspend(other, 3 * LEASE_MS);
        world.run_for(3 * LEASE_MS + LEASE_MS / 2);
        assert!(world.broken.is_empty(), "seed {seed}: {}", show(&world));
        assert!(world.is_at_work(holder) && !world.is_at_work(other), "seed {seed}: {}", show(&world));
        world.suspend(holder, 3 * LEASE_MS);
        world.run_for(3 * LEASE_MS + 50);
        assert!(!world.is_at_work(holder), "seed {seed}: {}", show(&world));
        ends_well(&mut world);
    }
}

#[test]
fn a_task_that_stands_still_is_taken_over_from_a_live_holder() {
    for seed in 0..10 {
        let (mut world, holder) = with_a_worker(seed, 3, None, SLOW);
        world.hung.insert(holder);
        let end_ms = world.now_ms() + 60_000;
        let others = |world: &ClaimWorld| (0..3).all(|n| world.files(n) == 1);
        assert!(world.run_until(end_ms, others), "seed {seed}: {}", show(&world));
    }
}

#[test]
fn a_restarted_client_goes_on_with_what_it_had_claimed() {
    for seed in 0..10 {
        let (mut world, holder) = with_a_worker(seed, 3, None, SLOW);
        world.run_for(800);
        world.crash(holder);
        world.run_for(300);
        world.start(holder);
        let end_ms = world.now_ms() + LEASE_MS;
        assert!(world.run_until(end_ms, |world| world.is_at_work(holder)), "seed {seed}: {}", show(&world));
        ends_well(&mut world);
        let stakes = world.log.iter().filter(|line| line.contains("stakes")).count();
        assert_eq!(stakes, 1, "seed {seed}: {}", show(&world));
    }
}

#[test]
fn what_a_dead_client_claimed_is_taken_over_at_the_next_epoch() {
    for seed in 0..10 {
        let (mut world, holder) = with_a_worker(seed, 3, None, SLOW);
        world.crash(holder);
        let end_ms = world.now_ms() + 3 * LEASE_MS;
        assert!(world.run_until(end_ms, |world| world.worker().is_some()), "seed {seed}: {}", show(&world));
        assert!(world.log.iter().any(|line| line.contains("under 2")), "seed {seed}: {}", show(&world));
        world.start(holder);
        ends_well(&mut world);
        // Who comes back with the lower epoch does not push aside who took over.
        assert!(!world.log.iter().any(|line| line.contains("breaks off")), "seed {seed}: {}", show(&world));
        assert_eq!(world.fetches.values().sum::<u32>(), 2, "seed {seed}: {}", show(&world));
    }
}

#[test]
fn a_client_alone_does_not_wait_for_anybody() {
    let mut world = ClaimWorld::new(1, 1, &contents([1, 2, 2]), None);
    world.manners = SLOW;
    ends_well(&mut world);
    assert!(world.fetches.values().all(|times| *times == 1), "{}", show(&world));
}

#[test]
fn whatever_the_network_does_all_get_all_and_no_epoch_works_against_another() {
    for seed in 0..60 {
        let mut world = ClaimWorld::new(seed, 3, &contents([1, 2, 2, 3]), None);
        world.manners = Manners {
            get_ms: 100 + world.chance(3_000),
            delay_ms_max: 1 + world.chance(60),
            cancel_ms: world.chance(100),
            ..Manners::default()
        };
        for _ in 0..6 {
            let (a, b) = (world.chance(3) as usize, world.chance(3) as usize);
            match world.chance(4) {
                0 => world.isolate(a, true),
                1 => world.isolate(a, false),
                2 => _ = world.cuts.insert((a, b)),
                _ => {
                    world.crash(a);
                    let down_ms = world.chance(3_000);
                    world.run_for(down_ms);
                    world.start(a);
                }
            }
            let pause_ms = world.chance(4_000);
            world.run_for(pause_ms);
        }
        world.mend();
        ends_well(&mut world);
    }
}

#[test]
fn attempts_are_counted_across_restarts_and_end_in_a_park_that_a_person_can_lift() {
    let mut world = ClaimWorld::new(3, 1, &contents([1]), None);
    world.cloud_away = true;
    let mut restarts = 0;
    let parked = |world: &ClaimWorld| world.log.iter().any(|line| line.contains("Parked"));
    while !parked(&world) && restarts < 40 {
        world.run_for(3_000);
        world.crash(0);
        world.start(0);
        restarts += 1;
    }
    assert!(parked(&world), "{}", show(&world));
    let begun: u32 = world.fetches.values().sum();
    assert!(begun <= 10, "{begun} attempts");
    world.crash(0);
    world.start(0);
    world.run_for(100_000);
    assert_eq!(world.fetches.values().sum::<u32>(), begun, "a parked task stays so after a restart");
    assert_eq!(world.engine(0).unwrap().report().resting.len(), 1);
    world.cloud_away = false;
    world.retry(0);
    ends_well(&mut world);
}

/// The first seed below `seeds` in which a story breaks the invariant, with a planted bug; and that it does not without.
fn caught(bug: Bug, seeds: u64, story: impl Fn(u64, Option<Bug>) -> Vec<String>) {
    let sound = (0..seeds.min(40)).map(|seed| story(seed, None)).find(|broken| !broken.is_empty());
    assert_eq!(sound, None, "without {}", bug.id());
    let seed =
        (0..seeds).find(|seed| story(*seed, Some(bug)).iter().any(|text| text.starts_with(bug.invariant())));
    eprintln!("{}: caught by {} at seed {seed:?}", bug.id(), bug.invariant());
    assert!(seed.is_some(), "{} is not caught by {} in {seeds} seeds", bug.id(), bug.invariant());
}

fn cut_off(seed: u64, bug: Option<Bug>, clocks: bool) -> Vec<String> {
    let slow_to_stop = Manners { cancel_ms: 250 + seed * 7 % 500, ..SLOW };
    let (mut world, holder) = with_a_worker(seed, 3, bug, slow_to_stop);
    let pause_ms = world.chance(2_000);
    world.run_for(pause_ms);
    if clocks {
        let steps_ms = -(world.chance(3_600_000) as i64);
        world.set_clock(holder, steps_ms, 0);
    }
    world.isolate(holder, true);
    world.run_for(2 * LEASE_MS);
    world.isolate(holder, false);
    world.run_for(2 * LEASE_MS);
    world.broken
}

#[test]
fn planted_04_a_holder_that_judges_its_lease_by_the_wall_clock_is_caught() {
    caught(Bug::ExpiryByWallClock, 200, |seed, bug| cut_off(seed, bug, true));
}

#[test]
fn planted_05_a_takeover_without_a_margin_is_caught() {
    caught(Bug::NoDriftMargin, 200, |seed, bug| cut_off(seed, bug, false));
}

#[test]
fn planted_06_a_claim_that_is_renewed_after_it_was_taken_over_is_caught() {
    caught(Bug::LateRenewal, 200, |seed, bug| {
        // Words come so late that two begin at once; the one that loses must not go on.
        let late = Manners { delay_ms_max: 600, ..SLOW };
        let mut world = ClaimWorld::stopped(seed, 3, &contents([seed]), bug);
        world.manners = late;
        (0..3).for_each(|n| world.start(n));
        world.run_for(12_000);
        world.broken
    });
}

#[test]
fn planted_02_epochs_that_a_crash_forgets_are_caught() {
    caught(Bug::EpochInMemory, 200, |seed, bug| {
        let mut world = ClaimWorld::new(seed, 2, &contents([seed]), bug);
        world.cloud_away = true;
        for _ in 0..4 {
            let (n, pause_ms) = (world.chance(2) as usize, 1_000 + world.chance(3_000));
            world.run_for(pause_ms);
            world.crash(n);
            world.start(n);
        }
        world.run_for(5_000);
        world.broken
    });
}

#[test]
fn planted_36_a_task_that_stands_still_and_keeps_its_claim_is_caught() {
    caught(Bug::HungTask, 50, |seed, bug| {
        let (mut world, holder) = with_a_worker(seed, 3, bug, SLOW);
        world.hung.insert(holder);
        let end_ms = world.now_ms() + 60_000;
        match world.run_until(end_ms, |world| (0..3).all(|n| world.files(n) == 1)) {
            true => Vec::new(),
            false => vec![format!("L1: nobody brings what stands still at node{}", holder + 1)],
        }
    });
}

#[test]
fn planted_26_retries_that_pile_up_are_caught() {
    caught(Bug::UnboundedRetries, 50, |seed, bug| {
        let mut world = ClaimWorld::new(seed, 1, &contents([seed, seed + 1]), bug);
        world.cloud_away = true;
        world.run_for(8_000);
        let timers = world.engine(0).unwrap().report().timers;
        if timers > 2 { vec![format!("S12: {timers} retries for 2 items")] } else { Vec::new() }
    });
}

/// A world in which two nodes hold a content that a third had entered in the catalog before it died.
fn with_a_pending_row(seed: u64) -> ClaimWorld {
    let mut world = ClaimWorld::new(seed, 3, &[], None);
    world.run_for(5_000);
    world.save(0, "a.jpg", content(7));
    let end_ms = world.now_ms() + 5_000;
    assert!(world.run_until(end_ms, |world| world.catalog.rows().next().is_some()), "{}", show(&world));
    world.crash(0);
    world.save(1, "a.jpg", content(7));
    world.save(2, "a.jpg", content(7));
    world
}

#[test]
fn of_many_holders_one_brings_a_pending_content_to_the_cloud() {
    for seed in 0..20 {
        let mut world = with_a_pending_row(seed);
        let end_ms = world.now_ms() + PATIENCE_MS;
        let active = |world: &ClaimWorld| world.catalog.rows().all(|row| row.state == RowState::Active);
        assert!(world.run_until(end_ms, active), "seed {seed}: {}", show(&world));
        world.run_for(5_000);
        assert_eq!(world.catalog.puts, 1, "seed {seed}: {}", show(&world));
    }
}

#[test]
fn planted_44_an_epoch_that_does_not_count_for_the_next_content_is_caught() {
    caught(Bug::LeftoverEpoch, 20, |seed, bug| {
        let mut world = ClaimWorld::new(seed, 2, &contents([seed]), bug);
        world.run_for(20_000);
        // The last commit elsewhere was made by one who had taken over more than once.
        let item = world.catalog.rows().next().unwrap().item;
        world.catalog.raise_claim_epoch(&item, 3);
        world.run_for(2_000);
        let edit = content(5_000 + seed);
        world.save(0, "0.jpg", edit);
        let end_ms = world.now_ms() + PATIENCE_MS;
        match world.run_until(end_ms, |world| world.catalog.rows().all(|row| row.content == edit)) {
            true => Vec::new(),
            false => vec![format!("L1: the edit is never committed: {}", world.log.join("\n"))],
        }
    });
}

/// The figures `claims` and `wan`, in the simulator: run it in a release build, with `--ignored --nocapture`.
#[test]
#[ignore = "takes minutes in a debug build"]
fn figures_claims_and_wan() {
    for (name, nodes, items) in [("wan", 5, 1_000), ("claims", 8, items_of_claims())] {
        let mut world = ClaimWorld::stopped(1, nodes, &contents(0..items), None);
        let began_ms = world.now_ms();
        (0..nodes).for_each(|n| world.start(n));
        let end_ms = world.now_ms() + 24 * 3_600_000;
        assert!(world.run_until(end_ms, ClaimWorld::all_have_all), "{:?}", world.broken);
        let begun: u32 = world.fetches.values().sum();
        let stakes = world.log.iter().filter(|line| line.contains("stakes")).count();
        eprintln!(
            "{name}: {nodes} nodes, {items} items: {:.4} fetches and {:.4} stakes an item, {:.1} messages an item, {} s simulated",
            f64::from(begun) / items as f64,
            stakes as f64 / items as f64,
            world.words as f64 / items as f64,
            (world.now_ms() - began_ms) / 1000,
        );
        assert_eq!(u64::from(begun), items);
    }
}

/// 10,000, or `TCAT_ITEMS`.
fn items_of_claims() -> u64 {
    std::env::var("TCAT_ITEMS").ok().and_then(|items| items.parse().ok()).unwrap_or(10_000)
}
