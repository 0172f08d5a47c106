//! `mutants`: does the simulator find what is planted? Each bug must be caught by the invariant that is named for it.

use super::explore::{Seeds, Total, play_all, quiet_panics};
use super::{Ended, Failed, meta};
use clap::Args;
use std::time::Instant;
use tcat_engine::planted::{Bug, State};
use tcat_sim::checks::Invariant;
use tcat_sim::expand::{expand, expand_for};
use tcat_sim::plan::{Canary, Fidelity, Plan};
use tcat_sim::run::bug_named;

#[derive(Args, Clone)]
pub struct Options {
    /// Only these bugs, by id or number.
    bugs: Vec<String>,
    /// At most so many seeds a bug.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// On how many threads.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
}

/// A bug that was looked for.
struct Hunt {
    /// The seed that caught it, and what else failed in the runs before.
    caught: Option<u64>,
    others: Vec<&'static str>,
}

pub fn mutants(options: &Options) -> Result<Ended, Failed> {
    quiet_panics();
    let chosen = match options.bugs.is_empty() {
        true => Bug::ALL.to_vec(),
        false => {
            let named = options.bugs.iter().map(|id| bug_named(id).ok_or(format!("there is no bug {id:?}")));
            named.collect::<Result<_, _>>()?
        }
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
        let others =
            if hunt.others.is_empty() { String::new() } else { format!("; also {}", hunt.others.join(", ")) };
        let took = begun.elapsed().as_secs_f64();
        println!("{:26} {:4} {how}{others} ({took:.1} s)", bug.id(), bug.invariant());
        hunts.push(hunt);
    }
    for bug in &waiting {
        println!("{:26} {:4} waits", bug.id(), bug.invariant());
    }
    let canaries = if options.bugs.is_empty() { canaries()? } else { Vec::new() };
    for (name, noticed) in &canaries {
        println!("{name:31} {}", if *noticed { "noticed" } else { "MISSED" });
    }
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

fn hunt(bug: Bug, options: &Options) -> Result<Hunt, Failed> {
    let invariant = Invariant::named(bug.invariant());
    let trips = |total: &Total, seed: &u64| {
        let violations = total.failures.get(seed).map_or(&[][..], |finished| &finished.violations);
        violations.iter().any(|violation| Some(violation.invariant) == invariant)
    };
    let enough = |total: &Total| total.failures.keys().any(|seed| trips(total, seed));
    // What sits in the storage is not there in a light run.
    let fidelity = (bug == Bug::AckBeforeSync).then_some(Fidelity::Full);
    let plan = |seed| Plan { bug: Some(bug.id().into()), ..expand_for(seed, fidelity) };
    let seeds = Seeds { from: 0, to: options.seeds };
    let total = play_all(seeds, options.jobs, plan, enough, false)?;
    let caught = total.failures.keys().copied().find(|seed| trips(&total, seed));
    let mut others: Vec<_> = total
        .failures
        .values()
        .flat_map(|finished| &finished.violations)
        .filter(|violation| Some(violation.invariant) != invariant)
        .map(|violation| violation.invariant.id())
        .collect();
    others.sort_unstable();
    others.dedup();
    Ok(Hunt { caught, others })
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
