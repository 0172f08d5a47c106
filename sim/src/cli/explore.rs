//! `explore`: the regression plans, then many seeds on several threads, with progress while they run.

use super::{Ended, Failed, fidelity_option, plan_of, read_plan, show};
use clap::Args;
use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tcat_sim::checks::{Counts, Invariant};
use tcat_sim::expand::expand_for;
use tcat_sim::goals::{GOALS, Goals};
use tcat_sim::plan::{Fidelity, Plan};
use tcat_sim::run::{Finished, run};

/// Every goal must be met by an exploration of so many runs.
const GOAL_RUNS: u64 = 2_000;
/// How many failures are printed whole.
const FAILURES_SHOWN: usize = 3;
/// How often progress is printed.
const PROGRESS: Duration = Duration::from_secs(2);

#[derive(Args, Clone)]
pub struct Options {
    /// The seeds, half-open: 0..2000.
    #[arg(long, value_parser = seeds)]
    pub seeds: Seeds,
    /// The plans of this situation, instead of the seeds' own.
    #[arg(long)]
    pub situation: Option<String>,
    /// On how many threads.
    #[arg(long, default_value_t = 1)]
    pub jobs: usize,
    /// Keep databases in memory (light) or on simulated disks (full), whatever the seeds say.
    #[arg(long, value_parser = super::fidelity)]
    pub fidelity: Option<Fidelity>,
    /// Stop at the first failure.
    #[arg(long)]
    pub first: bool,
    /// A folder of plans that are played first.
    #[arg(long, default_value = "sim/regressions")]
    pub regressions: PathBuf,
    /// Print no progress.
    #[arg(long)]
    pub quiet: bool,
}

/// A half-open range of seeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seeds {
    pub from: u64,
    pub to: u64,
}

pub fn seeds(text: &str) -> Result<Seeds, String> {
    let wrong = || format!("{text:?} is no range of seeds such as 0..2000");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    if from < to { Ok(Seeds { from, to }) } else { Err(wrong()) }
}

/// What all runs together came to.
#[derive(Default)]
pub struct Total {
    pub runs: u64,
    pub world_ms: u64,
    /// Of runs with databases in memory, and of those on disks.
    pub light: Share,
    pub full: Share,
    pub counts: Counts,
    pub goals: Goals,
    pub failures: BTreeMap<u64, Finished>,
}

/// What the runs of one fidelity came to.
#[derive(Default)]
pub struct Share {
    pub runs: u64,
    pub events: u64,
    /// Time spent in them, of all threads together.
    pub busy: Duration,
}

impl Share {
    fn rate(&self) -> f64 {
        self.events as f64 / self.busy.as_secs_f64().max(1e-9)
    }
}

impl Total {
    fn add(&mut self, plan: &Plan, finished: Finished, took: Duration) {
        self.runs += 1;
        self.world_ms += finished.world_ms;
        let share = if plan.fidelity == Fidelity::Full { &mut self.full } else { &mut self.light };
        share.runs += 1;
        share.events += finished.events;
        share.busy += took;
        self.counts.add(&finished.counts);
        self.goals.add(&finished.goals);
        if !finished.violations.is_empty() {
            self.failures.insert(plan.seed, finished);
        }
    }

    fn line(&self) -> String {
        let seconds = (self.light.busy + self.full.busy).as_secs_f64().max(1e-9);
        format!(
            "{:>7} runs  {:>5} failed  {:>7.0} x real time  goals {}/{}  events/s a core: light {:.0} in {}, full {:.0} in {}",
            self.runs,
            self.failures.len(),
            self.world_ms as f64 / 1000.0 / seconds,
            GOALS.len() - self.goals.unmet().len(),
            GOALS.len(),
            self.light.rate(),
            self.light.runs,
            self.full.rate(),
            self.full.runs,
        )
    }
}

/// Plays the seeds `from..to`, made into plans by `plan`, until `enough` says so.
pub fn play_all(
    seeds: Seeds,
    jobs: usize,
    plan: impl Fn(u64) -> Plan + Sync,
    enough: impl Fn(&Total) -> bool + Sync,
    show: bool,
) -> Result<Total, Failed> {
    let total = Mutex::new(Total::default());
    let (next, stop, failed) = (AtomicU64::new(seeds.from), AtomicBool::new(false), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                let mut shown = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.to {
                        break;
                    }
                    let (plan, began) = (plan(seed), Instant::now());
                    match run(&plan, false) {
                        Ok(finished) => {
                            let Ok(mut total) = total.lock() else { break };
                            total.add(&plan, finished, began.elapsed());
                            if enough(&total) {
                                stop.store(true, Ordering::Relaxed);
                            }
                            if show && shown.elapsed() > PROGRESS {
                                shown = Instant::now();
                                eprintln!("{}", total.line());
                            }
                        }
                        Err(why) => {
                            stop.store(true, Ordering::Relaxed);
                            if let Ok(mut failed) = failed.lock() {
                                *failed = Some(why.to_string());
                            }
                        }
                    }
                }
            });
        }
    });
    if let Some(why) = failed.into_inner().unwrap_or_default() {
        return Err(why);
    }
    total.into_inner().map_err(|_| "a run ended in the simulator itself".into())
}

pub fn explore(options: &Options) -> Result<Ended, Failed> {
    let begun = Instant::now();
    let Seeds { from, to } = options.seeds;
    println!(
        "tcat-sim {} explores seeds {from}..{to} on {} threads",
        env!("CARGO_PKG_VERSION"),
        options.jobs
    );
    quiet_panics();
    let mut worst = regressions(&options.regressions)?;
    let enough = |total: &Total| options.first && !total.failures.is_empty();
    let show = !options.quiet && (std::io::stderr().is_terminal() || to - from > 200);
    let situation = options.situation.as_deref();
    plan_of(0, situation, options.fidelity)?;
    let plan = |seed| {
        plan_of(seed, situation, options.fidelity).unwrap_or_else(|_| expand_for(seed, options.fidelity))
    };
    let total = play_all(options.seeds, options.jobs, plan, enough, show)?;
    for (seed, finished) in &total.failures {
        let ended = Ended::of(finished);
        worst = if worst == Ended::Well { ended } else { worst.min(ended) };
        let names: Vec<_> = finished.violations.iter().map(|violation| violation.invariant.id()).collect();
        println!("seed {seed} FAILED: {}", names.join(", "));
    }
    for seed in total.failures.keys().take(FAILURES_SHOWN) {
        let plan = plan(*seed);
        show::header(&plan, true);
        let finished = run(&plan, true).map_err(|why| why.to_string())?;
        let option = fidelity_option(options.fidelity);
        let of = situation.map_or(String::new(), |name| format!(" --situation {name}"));
        show::verdict(&plan, &finished, &format!("tcat-sim run --seed {seed}{option}{of}"));
    }
    println!("{}", total.line());
    println!("took {:.1} s", begun.elapsed().as_secs_f64());
    // What only databases on disks are held to.
    let light_alone = total.full.runs == 0;
    let is_due = |invariant: &Invariant| *invariant != Invariant::S4 || !light_alone;
    let unchecked = total.counts.unchecked().into_iter().filter(is_due);
    let unchecked: Vec<_> = unchecked.map(|invariant| invariant.id()).collect();
    if !unchecked.is_empty() {
        println!("never checked: {}", unchecked.join(", "));
    }
    let mut unmet = total.goals.unmet();
    if !light_alone {
        unmet.extend(total.goals.unmet_by_full());
    }
    if !unmet.is_empty() {
        println!("goals never met: {}", unmet.join(", "));
    }
    if worst == Ended::Well && total.runs >= GOAL_RUNS && !(unmet.is_empty() && unchecked.is_empty()) {
        worst = Ended::GoalUnmet;
    }
    Ok(worst)
}

/// Panics are findings: they are printed with the run that met them.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// Plays all plans of a folder. One that is not there has none.
fn regressions(folder: &Path) -> Result<Ended, Failed> {
    let mut files: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => return Ok(Ended::Well),
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut worst = Ended::Well;
    for file in &files {
        let plan = read_plan(file)?;
        let finished = run(&plan, true).map_err(|why| why.to_string())?;
        if !finished.violations.is_empty() {
            worst = if worst == Ended::Well { Ended::of(&finished) } else { worst.min(Ended::of(&finished)) };
            println!("{} FAILED", file.display());
            show::verdict(&plan, &finished, &format!("tcat-sim replay {}", file.display()));
        }
    }
    println!("{} regression plans played", files.len());
    Ok(worst)
}
