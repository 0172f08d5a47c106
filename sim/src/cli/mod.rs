//! The commands, their options and what they exit with.

mod explore;
mod meta;
mod mutants;
mod show;
mod speed;

use clap::{Args, Parser, Subcommand};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tcat_sim::checks::Invariant;
use tcat_sim::expand::expand_for;
use tcat_sim::export::{EVENTS_MAX, jsonl, shiviz, window};
use tcat_sim::plan::{Fidelity, Plan};
use tcat_sim::run::{Finished, bug_named, run};
use tcat_sim::shrink::shrink;
use tcat_sim::situations;

/// How a command ended. The numbers are the exit statuses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ended {
    Well = 0,
    Usage = 2,
    Unsafe = 10,
    Stuck = 11,
    Nondeterministic = 12,
    Missed = 13,
    GoalUnmet = 14,
}

impl Ended {
    /// How a run ended.
    pub fn of(finished: &Finished) -> Self {
        match finished.violations.iter().map(|violation| violation.invariant.is_liveness()).min() {
            None => Ended::Well,
            Some(false) => Ended::Unsafe,
            Some(true) => Ended::Stuck,
        }
    }
}

/// Why a command could not be done, for people.
pub type Failed = String;

/// tcat's deterministic simulator: whole workgroups from one seed, with faults, and proof that nothing is lost.
#[derive(Parser)]
#[command(name = "tcat-sim", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Plays one seed or plan and says how it ended.
    Run(Which),
    /// Plays many seeds, after the regression plans.
    Explore(explore::Options),
    /// Plays a plan file.
    Replay {
        /// The file.
        file: PathBuf,
    },
    /// Makes a failing run smaller: the fewest deeds and faults that fail in the same way.
    Shrink {
        #[command(flatten)]
        which: Which,
        /// For how many seconds at most.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The invariant to go by; without it, the first that is violated.
        #[arg(long)]
        invariant: Option<String>,
        /// Where the smaller plan goes; without it, to standard output.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Plays seeds twice, in two processes, and compares the hashes of all that happened.
    Meta(meta::Options),
    /// Prints the hashes of seeds.
    #[command(hide = true)]
    Hashes(meta::Options),
    /// Plants each bug in turn and explores until the invariant named for it catches it.
    Mutants(mutants::Options),
    /// Writes the events of a run for other programs.
    Export {
        #[command(flatten)]
        which: Which,
        /// As JSON, an event a line.
        #[arg(long, required_unless_present = "shiviz", conflicts_with = "shiviz")]
        jsonl: bool,
        /// For ShiViz.
        #[arg(long)]
        shiviz: bool,
        /// At most so many events: the last before the failure.
        #[arg(long, default_value_t = EVENTS_MAX)]
        events_max: usize,
    },
    /// Measures how fast a steady workgroup is simulated.
    Speed(speed::Options),
    /// Lists the classes of faults, the invariants and the planted bugs, and what those wait for that are off.
    Faults,
}

/// One run.
#[derive(Args, Clone)]
pub struct Which {
    /// The seed; its plan is made from it.
    #[arg(long, required_unless_present = "plan")]
    seed: Option<u64>,
    /// A plan file instead.
    #[arg(long, conflicts_with = "seed")]
    plan: Option<PathBuf>,
    /// Of this situation, instead of the seed's own plan; see `tcat-sim faults`.
    #[arg(long, conflicts_with = "plan")]
    situation: Option<String>,
    /// Plant this bug, by id or number.
    #[arg(long)]
    bug: Option<String>,
    /// Keep databases in memory (light) or on simulated disks (full), whatever the plan says.
    #[arg(long, value_parser = fidelity)]
    fidelity: Option<Fidelity>,
    /// Say less: no plan.
    #[arg(long)]
    quiet: bool,
    /// Print every event.
    #[arg(long)]
    events: bool,
}

/// The plan of a seed, in a situation if one is named.
pub fn plan_of(seed: u64, situation: Option<&str>, fidelity: Option<Fidelity>) -> Result<Plan, Failed> {
    let Some(name) = situation else { return Ok(expand_for(seed, fidelity)) };
    let known =
        situations::named(name).ok_or(format!("there is no situation {name:?}; see `tcat-sim faults`"))?;
    let plan = known.plan(seed);
    Ok(Plan { fidelity: fidelity.unwrap_or(plan.fidelity), ..plan })
}

impl Which {
    pub fn plan(&self) -> Result<Plan, Failed> {
        let mut plan = match (&self.plan, self.seed) {
            (Some(file), _) => {
                let plan = read_plan(file)?;
                Plan { fidelity: self.fidelity.unwrap_or(plan.fidelity), ..plan }
            }
            (None, seed) => plan_of(seed.unwrap_or(0), self.situation.as_deref(), self.fidelity)?,
        };
        if let Some(bug) = &self.bug {
            let known =
                bug_named(bug).ok_or(format!("there is no planted bug {bug:?}; see `tcat-sim faults`"))?;
            plan.bug = Some(known.id().into());
        }
        Ok(plan)
    }

    /// The command line that does the same again.
    pub fn again(&self) -> String {
        let which = match (&self.plan, self.seed) {
            (Some(file), _) => format!("--plan {}", file.display()),
            (None, seed) => format!("--seed {}", seed.unwrap_or(0)),
        };
        let which = format!("{which}{}", fidelity_option(self.fidelity));
        match &self.bug {
            Some(bug) => format!("{which} --bug {bug}"),
            None => which,
        }
    }
}

/// Reads the name of a fidelity.
pub fn fidelity(text: &str) -> Result<Fidelity, String> {
    match text {
        "light" => Ok(Fidelity::Light),
        "full" => Ok(Fidelity::Full),
        _ => Err(format!("{text:?} is neither light nor full")),
    }
}

/// The option that asks for it again.
pub fn fidelity_option(fidelity: Option<Fidelity>) -> &'static str {
    match fidelity {
        None => "",
        Some(Fidelity::Light) => " --fidelity light",
        Some(Fidelity::Full) => " --fidelity full",
    }
}

/// Reads a plan from a file.
pub fn read_plan(file: &Path) -> Result<Plan, Failed> {
    let text = fs::read_to_string(file).map_err(|why| format!("cannot read {}: {why}", file.display()))?;
    Plan::read(&text).map_err(|why| format!("{}: {why}", file.display()))
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Run(which) => play(&which),
        Command::Replay { file } => {
            let (seed, bug, fidelity, situation) = (None, None, None, None);
            let (quiet, events) = (false, false);
            play(&Which { seed, plan: Some(file), bug, fidelity, situation, quiet, events })
        }
        Command::Explore(options) => explore::explore(&options),
        Command::Shrink { which, seconds, invariant, out } => {
            make_smaller(&which, seconds, invariant.as_deref(), out.as_deref())
        }
        Command::Meta(options) => meta::meta(&options),
        Command::Hashes(options) => meta::hashes(&options),
        Command::Mutants(options) => mutants::mutants(&options),
        Command::Export { which, jsonl, events_max, .. } => export(&which, jsonl, events_max),
        Command::Speed(options) => speed::speed(&options),
        Command::Faults => {
            show::faults();
            Ok(Ended::Well)
        }
    };
    match ended {
        Ok(ended) => ExitCode::from(ended as u8),
        Err(why) => {
            eprintln!("tcat-sim: {why}");
            ExitCode::from(Ended::Usage as u8)
        }
    }
}

fn play(which: &Which) -> Result<Ended, Failed> {
    let plan = which.plan()?;
    show::header(&plan, which.quiet);
    let finished = run(&plan, true).map_err(|why| why.to_string())?;
    if which.events {
        show::events(&finished, plan.nodes.len());
    }
    show::verdict(&plan, &finished, &format!("tcat-sim run {}", which.again()));
    Ok(Ended::of(&finished))
}

fn make_smaller(
    which: &Which,
    seconds: u64,
    invariant: Option<&str>,
    out: Option<&Path>,
) -> Result<Ended, Failed> {
    explore::quiet_panics();
    let plan = which.plan()?;
    let finished = run(&plan, false).map_err(|why| why.to_string())?;
    let violated: Vec<_> = finished.violations.iter().map(|violation| violation.invariant).collect();
    let target = match invariant {
        Some(id) => {
            Invariant::named(id).ok_or(format!("there is no invariant {id:?}; see `tcat-sim faults`"))?
        }
        None => *violated.first().ok_or("this run violates nothing: there is nothing to shrink")?,
    };
    if !violated.contains(&target) {
        return Err(format!("this run does not violate {}", target.id()));
    }
    let (begun, limit) = (Instant::now(), Duration::from_secs(seconds));
    let (small, runs) = shrink(&plan, target, &mut |_, _| begun.elapsed() < limit);
    let took = begun.elapsed().as_secs_f64();
    eprintln!(
        "{}: {} of {} items, {} of {} nodes left after {runs} runs in {took:.1} s",
        target.id(),
        small.items.len(),
        plan.items.len(),
        small.nodes.len(),
        plan.nodes.len()
    );
    match out {
        None => println!("{}", small.text()),
        Some(file) => {
            let text = format!("{}\n", small.text());
            fs::write(file, text).map_err(|why| format!("cannot write {}: {why}", file.display()))?;
            eprintln!("reproduce: tcat-sim replay {}", file.display());
        }
    }
    Ok(Ended::Well)
}

fn export(which: &Which, as_jsonl: bool, events_max: usize) -> Result<Ended, Failed> {
    explore::quiet_panics();
    let plan = which.plan()?;
    let finished = run(&plan, true).map_err(|why| why.to_string())?;
    let until_ms = finished.violations.first().map_or(u64::MAX, |violation| violation.at_ms);
    let events = finished.trace.as_ref().map_or(&[][..], |trace| &trace.events);
    let (events, nodes) = (window(events, until_ms, events_max), plan.nodes.len());
    match as_jsonl {
        true => print!("{}", jsonl(events, nodes)),
        false => print!("{}", shiviz(&format!("seed {}", plan.seed), events, nodes)),
    }
    Ok(Ended::Well)
}
