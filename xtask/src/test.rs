//! `cargo xtask test`: one command that runs all that must pass, and sums it up.
//!
//! Holds always: every step runs even when one before it failed (tests need only the build), and the command
//! succeeds only if every step did and at least one test ran.

use crate::count::Count;
use crate::lab::{self, Wanted};
use crate::{needs, simulate, tidy};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Good,
    Failed,
    NotRun,
}

struct Step {
    name: &'static str,
    ended: Ended,
    took: Duration,
    remark: String,
}

/// Runs everything; true if all is well.
pub fn run(root: &Path) -> bool {
    let start = Instant::now();
    let machine = needs::prepare(root);
    if !machine.missing.is_empty() {
        machine.missing.iter().for_each(|what| eprintln!("cargo xtask test: {what}"));
        return false;
    }
    let mut steps = Vec::new();
    let mut count = Count::default();

    steps.push(cargo_step(root, "format", &["fmt", "--all", "--check"]));
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.push(cargo_step(root, "clippy", &clippy));
    // The end-to-end tests start the real program, which a test build alone does not make.
    steps.push(cargo_step(root, "build", &["build", "--workspace", "--bins", "--tests"]));
    let built = steps.last().is_some_and(|step| step.ended == Ended::Good);
    let tests: &[&str] = if machine.has_nextest {
        &["nextest", "run", "--workspace", "--no-fail-fast"]
    } else {
        &["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]
    };
    for (name, arguments) in [("tests", tests), ("doc tests", &["test", "--workspace", "--doc"])] {
        steps.push(if built { test_step(root, name, arguments, &mut count) } else { not_run(name) });
    }
    steps.push(tidy_step(root));
    let build = ["build", "--release", "-p", "tcat-sim"];
    steps.push(cargo_step(root, "sim build", &build));
    let built = steps.last().is_some_and(|step| step.ended == Ended::Good);
    steps.push(if built { timed("simulator", || simulate::run(root)) } else { not_run("simulator") });

    let built = run_cargo(root, &lab::BUILD, &mut |_| {});
    steps.push(if built { lab_step(root, &mut count) } else { not_run("lab") });

    summary(&steps, &count, start.elapsed(), &machine.notes)
}

/// `cargo xtask lab`: builds, then runs the scenarios that `words` name; true if all is well.
pub fn run_lab(root: &Path, words: &[&str]) -> bool {
    let machine = needs::prepare(root);
    let chosen = Wanted::read(words).and_then(|wanted| lab::command(root, &wanted));
    let (program, arguments) = match chosen {
        Ok(chosen) => chosen,
        Err(why) => {
            eprintln!("cargo xtask lab: {why}");
            return false;
        }
    };
    let built = run_cargo(root, &lab::BUILD, &mut |_| {});
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root);
    let good = built && run_command(command, &mut |_| {});
    machine.notes.iter().for_each(|note| println!("note: {note}"));
    good
}

/// The laboratory's short pass; its scenarios count as tests.
fn lab_step(root: &Path, total: &mut Count) -> Step {
    let mut count = Count::default();
    let step = timed("lab", || match lab::command(root, &Wanted::smoke()) {
        Ok((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(root);
            let good = run_command(command, &mut |line| count.add_lab_line(line));
            (good, count.sentence())
        }
        Err(why) => (false, why),
    });
    total.add(count);
    step
}

/// Prints a line per step and the totals; true if all is well.
fn summary(steps: &[Step], count: &Count, took: Duration, notes: &[String]) -> bool {
    println!();
    for Step { name, ended, took, remark } in steps {
        let ended = match ended {
            Ended::Good => "ok",
            Ended::Failed => "FAILED",
            Ended::NotRun => "not run",
        };
        println!("{name:10} {ended:8} {:7.1}s  {remark}", took.as_secs_f64());
    }
    notes.iter().for_each(|note| println!("note: {note}"));
    println!("Summary [{:9.3}s] {}", took.as_secs_f64(), count.sentence());
    steps.iter().all(|step| step.ended == Ended::Good) && count.failed == 0 && count.run() > 0
}

fn cargo_step(root: &Path, name: &'static str, arguments: &[&str]) -> Step {
    timed(name, || (run_cargo(root, arguments, &mut |_| {}), String::new()))
}

fn test_step(root: &Path, name: &'static str, arguments: &[&str], total: &mut Count) -> Step {
    let mut count = Count::default();
    let step = timed(name, || {
        let good = run_cargo(root, arguments, &mut |line| count.add_line(line));
        (good, count.sentence())
    });
    total.add(count);
    step
}

fn tidy_step(root: &Path) -> Step {
    timed("tidy", || (tidy::run(root), String::new()))
}

fn not_run(name: &'static str) -> Step {
    Step { name, ended: Ended::NotRun, took: Duration::ZERO, remark: "the build failed".into() }
}

fn timed(name: &'static str, work: impl FnOnce() -> (bool, String)) -> Step {
    println!("== {name}");
    let start = Instant::now();
    let (good, remark) = work();
    let ended = if good { Ended::Good } else { Ended::Failed };
    Step { name, ended, took: start.elapsed(), remark }
}

/// Runs cargo, passes its output on as it comes, and shows each line to `see`. True if it succeeded.
fn run_cargo(root: &Path, arguments: &[&str], see: &mut dyn FnMut(&str)) -> bool {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root);
    run_command(command, see)
}

/// As [`run_cargo`], for any program.
fn run_command(mut command: Command, see: &mut dyn FnMut(&str)) -> bool {
    let name = command.get_program().display().to_string();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("cannot start {name}: {error}; is it in PATH?");
            return false;
        }
    };
    // libtest reports on stdout, nextest on stderr: two readers, one sink.
    let (sender, lines) = std::sync::mpsc::sync_channel(1024);
    let mut readers = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        readers.push(forward(stdout, sender.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        readers.push(forward(stderr, sender.clone()));
    }
    drop(sender);
    for line in lines {
        let mut out = std::io::stdout().lock();
        // A closed stdout (`| head`) must not stop the tests.
        let _ = out.write_all(&line).and_then(|()| out.flush());
        see(String::from_utf8_lossy(&line).trim_end());
    }
    for reader in readers {
        let _ = reader.join();
    }
    child.wait().is_ok_and(|status| status.success())
}

fn forward(
    from: impl Read + Send + 'static,
    to: std::sync::mpsc::SyncSender<Vec<u8>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if to.send(line).is_err() => return,
                Ok(_) => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(ended: Ended) -> Step {
        Step { name: "x", ended, took: Duration::ZERO, remark: String::new() }
    }

    #[test]
    fn only_good_steps_with_tests_make_a_good_end() {
        let ran = Count { passed: 1, failed: 0, skipped: 0 };
        let judge = |steps: &[Step], count: &Count| summary(steps, count, Duration::ZERO, &[]);
        assert!(judge(&[step(Ended::Good)], &ran));
        assert!(!judge(&[step(Ended::Good), step(Ended::Failed)], &ran));
        assert!(!judge(&[step(Ended::Good), step(Ended::NotRun)], &ran));
        assert!(!judge(&[step(Ended::Good)], &Count { failed: 1, ..ran }));
        assert!(!judge(&[step(Ended::Good)], &Count::default()), "no tests at all is no success");
    }

    #[test]
    fn a_failing_cargo_is_reported_as_failing_and_its_lines_are_seen() {
        let mut lines = Vec::new();
        let good =
            run_cargo(&crate::workspace_root(), &["--version"], &mut |line| lines.push(line.to_owned()));
        assert!(good && lines.iter().any(|line| line.starts_with("cargo ")), "{lines:?}");
        assert!(!run_cargo(&crate::workspace_root(), &["no-such-command-of-tcat"], &mut |_| {}));
    }
}
