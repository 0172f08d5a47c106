//! `meta`: the same seeds in two processes must come to the same hashes.

use super::explore::{Seeds, quiet_panics, seeds};
use super::{Ended, Failed, fidelity_option};
use clap::Args;
use std::process::Command;
use tcat_sim::expand::expand_for;
use tcat_sim::plan::{Canary, Fidelity, Plan};
use tcat_sim::run::run;

#[derive(Args, Clone)]
pub struct Options {
    /// The seeds, half-open: 0..20.
    #[arg(long, value_parser = seeds)]
    pub seeds: Seeds,
    /// Keep databases in memory (light) or on simulated disks (full), whatever the seed says.
    #[arg(long, value_parser = super::fidelity)]
    pub fidelity: Option<Fidelity>,
    /// Let a hash map's order leak: must be noticed.
    #[arg(long, hide = true)]
    pub leak: bool,
}

pub fn meta(options: &Options) -> Result<Ended, Failed> {
    let differences =
        differences(options.seeds, options.fidelity, options.leak.then_some(Canary::HashOrder))?;
    let Seeds { from, to } = options.seeds;
    for (one, other) in differences.iter().take(10) {
        println!("DIFFERS\n  {one}\n  {other}\n  reproduce: tcat-sim meta --seeds {from}..{to}");
    }
    println!("{} seeds, each in two processes: {} differ", to - from, differences.len());
    Ok(if differences.is_empty() { Ended::Well } else { Ended::Nondeterministic })
}

/// Prints seed and hash of each seed: what the two processes do.
pub fn hashes(options: &Options) -> Result<Ended, Failed> {
    quiet_panics();
    for seed in options.seeds.from..options.seeds.to {
        let plan =
            Plan { canary: options.leak.then_some(Canary::HashOrder), ..expand_for(seed, options.fidelity) };
        let finished = run(&plan, false).map_err(|why| why.to_string())?;
        println!(
            "seed {seed} hash {:016x} events {} at {} ms",
            finished.hash, finished.events, finished.world_ms
        );
    }
    Ok(Ended::Well)
}

/// The lines in which two processes differ.
pub fn differences(
    seeds: Seeds,
    fidelity: Option<Fidelity>,
    canary: Option<Canary>,
) -> Result<Vec<(String, String)>, Failed> {
    let program =
        std::env::current_exe().map_err(|why| format!("cannot find myself to start twice: {why}"))?;
    let process = || {
        let range = format!("{}..{}", seeds.from, seeds.to);
        let mut command = Command::new(&program);
        command.args(["hashes", "--seeds", &range]);
        command.args(fidelity_option(fidelity).split_whitespace());
        if canary == Some(Canary::HashOrder) {
            command.arg("--leak");
        }
        let output = command.output().map_err(|why| format!("cannot start {}: {why}", program.display()))?;
        let lines: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        match lines.len() as u64 == seeds.to - seeds.from {
            true => Ok(lines),
            false => Err("a process of `meta` ended too early".to_owned()),
        }
    };
    let (one, other) = (process()?, process()?);
    Ok(one.into_iter().zip(other).filter(|(one, other)| one != other).collect())
}
