//! `speed`: how fast the simulator is, with all checkers on, on one core.

use super::{Ended, Failed};
use clap::Args;
use std::time::Instant;
use tcat_sim::plan::{Deed, Fidelity, Item, NodePlan, Plan, What};
use tcat_sim::run::run;

#[derive(Args, Clone)]
pub struct Options {
    /// How many nodes.
    #[arg(long, default_value_t = 8)]
    nodes: usize,
    /// How long in the world's time.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// How many files persons save in each second.
    #[arg(long, default_value_t = 1)]
    saves: u64,
    /// Keep databases in memory (light) or on simulated disks (full).
    #[arg(long, value_parser = super::fidelity)]
    fidelity: Option<Fidelity>,
}

pub fn speed(options: &Options) -> Result<Ended, Failed> {
    let calm_ms = options.seconds * 1_000;
    let node =
        NodePlan { lease_ms: 10_000, poll_ms: 5_000, scan_interval_ms: 600_000, ..NodePlan::default() };
    let deed = |n: u64| Item {
        at_ms: n * 1_000 / options.saves.max(1),
        what: What::Deed(Deed::Save {
            node: (n % options.nodes as u64) as usize,
            // Three new files, then an edit of one of them.
            path: format!("album{}/{}.jpg", n % 7, if n % 4 == 3 { n - 2 } else { n }),
            content: 1_000 + n,
        }),
    };
    let items = (0..options.seconds * options.saves).map(deed).collect();
    let fidelity = options.fidelity.unwrap_or(Fidelity::Light);
    let plan = Plan { items, calm_ms, fidelity, ..Plan::empty(1, "steady", vec![node; options.nodes]) };
    let begun = Instant::now();
    let finished = run(&plan, false).map_err(|why| why.to_string())?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} nodes, {} saves/s: {:.0} events/s on one core, {:.0} x real time ({} events, {} s of the world's time, {seconds:.2} s)",
        options.nodes,
        options.saves,
        finished.events as f64 / seconds,
        finished.world_ms as f64 / 1000.0 / seconds,
        finished.events,
        finished.world_ms / 1000,
    );
    for violation in &finished.violations {
        println!("VIOLATED {} {}", violation.invariant, violation.text);
    }
    Ok(Ended::of(&finished))
}
