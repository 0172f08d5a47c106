//! The commands, their options and what they exit with.

mod explore;
mod show;

use clap::{Args, Parser, Subcommand};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tcat_sim::expand::expand;
use tcat_sim::plan::Plan;
use tcat_sim::run::{Finished, bug_named, run};

/// How a command ended. The numbers are the exit statuses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(dead_code, reason = "meta and mutants come next")]
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
    /// Plant this bug, by id or number.
    #[arg(long)]
    bug: Option<String>,
    /// Say less: no plan.
    #[arg(long)]
    quiet: bool,
    /// Print every event.
    #[arg(long)]
    events: bool,
}

impl Which {
    pub fn plan(&self) -> Result<Plan, Failed> {
        let mut plan = match (&self.plan, self.seed) {
            (Some(file), _) => read_plan(file)?,
            (None, seed) => expand(seed.unwrap_or(0)),
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
        match &self.bug {
            Some(bug) => format!("{which} --bug {bug}"),
            None => which,
        }
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
            play(&Which { seed: None, plan: Some(file), bug: None, quiet: false, events: false })
        }
        Command::Explore(options) => explore::explore(&options),
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
