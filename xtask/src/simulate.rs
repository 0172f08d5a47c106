//! The simulator's part of `cargo xtask test`: a release build that explores, repeats itself, and finds what is planted.
//!
//! Holds always: each command ends by itself or is stopped when the time of all of them is up, which is a failure.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long all commands together may take, the build not counted.
const BUDGET: Duration = Duration::from_secs(300);

/// The seeds that are explored.
const SEEDS: &str = "0..2000";
/// A bug is looked for in at most so many plans.
const SEEDS_A_BUG: &str = "500";

/// Runs the commands; whether all was well, and a remark that says what ran.
pub fn run(root: &Path) -> (bool, String) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let program = root.join("target").join("release").join("tcat-sim");
    let commands = [
        vec!["explore", "--seeds", SEEDS, "--jobs", &threads, "--quiet"],
        vec!["meta", "--seeds", "0..20"],
        vec!["mutants", "--seeds", SEEDS_A_BUG, "--jobs", &threads],
    ];
    let begun = Instant::now();
    for arguments in commands {
        let name = arguments.join(" ");
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(root).stdin(Stdio::null());
        match end_of(command, begun) {
            Ok(Some(0)) => {}
            Ok(status) => return (false, format!("tcat-sim {name} ended with {status:?}")),
            Err(why) => return (false, format!("tcat-sim {name}: {why}")),
        }
    }
    (true, format!("seeds {SEEDS}, meta on 20, all canaries, all planted bugs but those that wait"))
}

/// How a command ended, if it did in time.
fn end_of(mut command: Command, begun: Instant) -> Result<Option<i32>, String> {
    let mut child = command.spawn().map_err(|why| format!("cannot be started: {why}"))?;
    loop {
        if let Some(status) = child.try_wait().map_err(|why| why.to_string())? {
            return Ok(status.code());
        }
        if begun.elapsed() > BUDGET {
            // It may have ended in this moment: then there is nothing to stop.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("stopped after {} s, the time for all its commands", BUDGET.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_takes_too_long_is_stopped_and_is_a_failure() {
        let mut sleeps = Command::new("sleep");
        sleeps.arg("60");
        let begun = Instant::now().checked_sub(BUDGET).unwrap();
        assert!(end_of(sleeps, begun).is_err());
        let mut fails = Command::new("false");
        fails.stdin(Stdio::null());
        assert_eq!(end_of(fails, Instant::now()), Ok(Some(1)));
    }
}
