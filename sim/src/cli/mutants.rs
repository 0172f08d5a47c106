//! `mutants`: does the simulator find what is planted? Each bug must be caught by the invariant that is named for it.

use super::explore::{Seeds, Total, play_all, quiet_panics};
use super::{Ended, Failed, meta};
use clap::Args;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tcat_engine::planted::{Bug, State};
use tcat_sim::checks::Invariant;
use tcat_sim::expand::{expand, expand_for};
use tcat_sim::plan::{Canary, Fidelity, Plan};
use tcat_sim::run::{Finished, bug_named, run};
use tcat_sim::shrink::shrink;
use tcat_sim::situations;

#[derive(Args, Clone)]
pub struct Options {
    /// Only these bugs, by id or number.
    bugs: Vec<String>,
    /// All but these bugs, by id or number; canaries are looked for all the same.
    #[arg(long, value_name = "BUG", conflicts_with = "bugs")]
    except: Vec<String>,
    /// At most so many seeds a bug.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// On how many threads.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Shrink the plan that caught each bug, for at most a minute, and say how many items are left.
    #[arg(long)]
    shrink: bool,
}

/// How long a plan is shrunk at most.
const SHRINK_MAX: Duration = Duration::from_secs(60);

/// A bug that was looked for.
struct Hunt {
    /// The seed that caught it, and what else failed in the runs before.
    caught: Option<u64>,
    others: BTreeSet<&'static str>,
    /// How many plans fail in the same way without the bug: they show nothing.
    alike: u64,
    /// What was left of the plan that caught it.
    shrunk: Option<Shrunk>,
}

/// A plan that was made smaller.
#[derive(Clone, Copy)]
struct Shrunk {
    items: usize,
    of: usize,
    took: Duration,
}

pub fn mutants(options: &Options) -> Result<Ended, Failed> {
    quiet_panics();
    let named = |id: &String| bug_named(id).ok_or(format!("there is no bug {id:?}"));
    let except: Vec<Bug> = options.except.iter().map(named).collect::<Result<_, _>>()?;
    let chosen: Vec<Bug> = match options.bugs.is_empty() {
        true => Bug::ALL.iter().copied().filter(|bug| !except.contains(bug)).collect(),
        false => options.bugs.iter().map(named).collect::<Result<_, _>>()?,
    };
    let (planted, waiting): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|bug| bug.state() == State::Planted);
    let mut hunts = Vec::new();
    for bug in planted {
        let (begun, hunt) = (Instant::now(), hunt(bug, options)?);
        let how = match hunt.caught {
            Some(seed) => format!("caught by seed {seed}"),
            None => format!("MISSED in {} seeds", options.seeds),
        };
        let others: Vec<_> = hunt.others.iter().copied().collect();
        let mut others =
            if others.is_empty() { String::new() } else { format!("; also {}", others.join(", ")) };
        if hunt.alike > 0 {
            others.push_str(&format!("; {} plans fail so without it", hunt.alike));
        }
        let took = begun.elapsed().saturating_sub(hunt.shrunk.map_or(Duration::ZERO, |shrunk| shrunk.took));
        println!("{:26} {:4} {how}{others} ({:.1} s)", bug.id(), bug.invariant(), took.as_secs_f64());
        if let Some(Shrunk { items, of, took }) = hunt.shrunk {
            println!("{:31} {items} of {of} items left after {:.1} s", "", took.as_secs_f64());
        }
        hunts.push(hunt);
    }
    for bug in &waiting {
        println!("{:26} {:4} waits", bug.id(), bug.invariant());
    }
    let canaries = if options.bugs.is_empty() { canaries()? } else { Vec::new() };
    for (name, noticed) in &canaries {
        println!("{name:31} {}", if *noticed { "noticed" } else { "MISSED" });
    }
    say_how_small(hunts.iter().filter_map(|hunt| hunt.shrunk).collect());
    let mut seeds: Vec<_> = hunts.iter().filter_map(|hunt| hunt.caught).collect();
    seeds.sort_unstable();
    println!(
        "{} of {} planted bugs caught, {} waiting; median seed {}; {} of {} canaries noticed",
        seeds.len(),
        hunts.len(),
        waiting.len(),
        seeds.get(seeds.len() / 2).map_or("none".into(), u64::to_string),
        canaries.iter().filter(|(_, noticed)| *noticed).count(),
        canaries.len()
    );
    let well = seeds.len() == hunts.len() && canaries.iter().all(|(_, noticed)| *noticed);
    Ok(if well { Ended::Well } else { Ended::Missed })
}

/// The median of what shrinking left, if anything was shrunk.
fn say_how_small(mut shrunk: Vec<Shrunk>) {
    shrunk.sort_unstable_by_key(|shrunk| shrunk.items);
    let Some(median) = shrunk.get(shrunk.len() / 2) else { return };
    let most = shrunk.iter().map(|shrunk| shrunk.took).max().unwrap_or_default();
    println!(
        "median of {} shrunk plans: {} items; at most {:.1} s",
        shrunk.len(),
        median.items,
        most.as_secs_f64()
    );
}

/// Makes a plan smaller that violates the invariant.
fn shrink_catch(plan: &Plan, invariant: Invariant) -> Shrunk {
    let begun = Instant::now();
    let (small, _) = shrink(plan, invariant, &mut |_, _| begun.elapsed() < SHRINK_MAX);
    Shrunk { items: small.items.len(), of: plan.items.len(), took: begun.elapsed() }
}

/// Explores until the bug's invariant is violated by a plan that keeps it without the bug.
fn hunt(bug: Bug, options: &Options) -> Result<Hunt, Failed> {
    let invariant = Invariant::named(bug.invariant());
    let situation = situations::of_bug(bug);
    // What sits in the storage is not there in a light run.
    let fidelity = (bug == Bug::AckBeforeSync).then_some(Fidelity::Full);
    let sound = |seed| situation.map_or_else(|| expand_for(seed, fidelity), |situation| situation.plan(seed));
    let plan = |seed| Plan { bug: Some(bug.id().into()), ..sound(seed) };
    let trips = |finished: &Finished| {
        finished.violations.iter().any(|violation| Some(violation.invariant) == invariant)
    };
    let mut hunt = Hunt { caught: None, others: BTreeSet::new(), alike: 0, shrunk: None };
    let mut from = 0;
    while from < options.seeds && hunt.caught.is_none() {
        let enough = |total: &Total| total.failures.values().any(trips);
        let total = play_all(Seeds { from, to: options.seeds }, options.jobs, plan, enough, false)?;
        from = options.seeds;
        for (seed, finished) in &total.failures {
            let others = finished.violations.iter().map(|violation| violation.invariant);
            hunt.others.extend(others.filter(|other| Some(*other) != invariant).map(Invariant::id));
            if trips(finished) {
                match trips(&run(&sound(*seed), false).map_err(|why| why.to_string())?) {
                    false => hunt.caught = Some(*seed),
                    true => (hunt.alike, from) = (hunt.alike + 1, seed + 1),
                }
                break;
            }
        }
    }
    if let (true, Some(seed), Some(invariant)) = (options.shrink, hunt.caught, invariant) {
        hunt.shrunk = Some(shrink_catch(&plan(seed), invariant));
    }
    Ok(hunt)
}

/// Defects of the simulator itself, and whether they were noticed.
fn canaries() -> Result<Vec<(&'static str, bool)>, Failed> {
    let seeds = Seeds { from: 0, to: 3 };
    let with = |canary| move |seed| Plan { canary: Some(canary), ..expand(seed) };
    let never = |_: &Total| false;
    let leaks = meta::differences(seeds, None, Some(Canary::HashOrder))?;
    let failing = play_all(seeds, 1, with(Canary::AlwaysFails), never, false)?;
    let off = play_all(Seeds { from: 0, to: 20 }, 1, with(Canary::CheckerOff), never, false)?;
    Ok(vec![
        ("H1 a hash map's order", !leaks.is_empty()),
        ("H2 every run fails", failing.failures.len() as u64 == failing.runs),
        ("H3 a checker that is off", off.counts.unchecked().contains(&Invariant::S8)),
    ])
}
