//! `tcat-lab [--smoke] [--logs DIR] FILE...`: runs scenarios, each in namespaces of its own; see docs/laboratory.md.
//!
//! Holds always: exit status 0 only if no scenario failed; where namespaces are not allowed all are skipped, with a
//! count. The last line is the count: `N passed, N failed, N skipped`. Scenarios marked `open` are run and told, and
//! count as skipped; one that passes by now is a failure, so that the mark goes.
//! Left out: choosing files, which `cargo xtask lab` does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Instant;
use tcat_tests::lab::run::{Programs, run};
use tcat_tests::lab::scenario::{Scenario, parse};
use tcat_tests::lab::{inside, is_root, wire};

/// The second half of a run, within the namespaces: `--inside FILE LOGS`.
const INSIDE: &str = "--inside";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [INSIDE, "--probe"] => Ok(true),
        [INSIDE, file, logs] => run_inside(file, Path::new(logs)),
        [wire::ROLE, near, far] => wire::carry(near, far).map(|()| true),
        words => run_all(words),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("tcat-lab: {why}");
            ExitCode::from(2)
        }
    }
}

fn run_all(words: &[&str]) -> Result<bool, String> {
    let mut smoke = false;
    let mut logs = std::env::temp_dir().join("tcat-lab");
    let mut scenarios = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--smoke" => smoke = true,
            "--logs" => logs = words.next().ok_or("--logs needs a folder")?.into(),
            file => scenarios.push((file, read(file)?)),
        }
    }
    scenarios.retain(|(_, scenario)| !smoke || scenario.smoke);
    if scenarios.is_empty() {
        return Err("no scenario to run; name files such as tests/scenarios/*.lab".into());
    }
    let root = is_root();
    if let Some(why) = refusal(root)? {
        println!("namespaces are not allowed here ({why}), so no scenario could run");
        println!("0 passed, 0 failed, {} skipped", scenarios.len());
        return Ok(true);
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (file, scenario) in &scenarios {
        println!("== {file}");
        let start = Instant::now();
        let logs = logs.join(Path::new(file).file_stem().unwrap_or_default());
        let mut command = inside(&own()?, root);
        command.arg(INSIDE).arg(file).arg(&logs).stdin(Stdio::null());
        let good = command.status().map_err(|why| format!("unshare: {why}"))?.success();
        let ended = match (good, &scenario.open) {
            (true, None) => {
                passed += 1;
                "ok".to_owned()
            }
            (true, Some(_)) => {
                failed += 1;
                "FAILED: it is marked open but passes; remove the mark".to_owned()
            }
            (false, Some(why)) => {
                skipped += 1;
                format!("still open: {why}")
            }
            (false, None) => {
                failed += 1;
                format!("FAILED; the nodes' logs are in {}", logs.display())
            }
        };
        println!("== {file} {:.1}s {ended}", start.elapsed().as_secs_f64());
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

fn run_inside(file: &str, logs: &Path) -> Result<bool, String> {
    let scenario = read(file)?;
    let own = own()?;
    let programs = Programs { tcat: own.with_file_name("tcat"), verify: own.with_file_name("tcat-verify") };
    for program in [&programs.tcat, &programs.verify] {
        if !program.is_file() {
            let build = "build it with `cargo build --workspace --bins`";
            return Err(format!("{} is not there: {build}", program.display()));
        }
    }
    if logs.exists() {
        fs::remove_dir_all(logs).map_err(|why| format!("{}: {why}", logs.display()))?;
    }
    // The disk of this run, seen by nobody outside of the namespace; the mount point is the log folder's.
    match run(&scenario, &programs, &logs.join("disk"), logs) {
        Ok(said) => {
            said.lines().for_each(|line| println!("  {line}"));
            Ok(true)
        }
        Err(why) => {
            println!("{file}: {why}");
            Ok(false)
        }
    }
}

fn read(file: &str) -> Result<Scenario, String> {
    parse(file, &fs::read_to_string(file).map_err(|why| format!("{file}: {why}"))?)
}

fn own() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|why| format!("cannot find this program: {why}"))
}

/// Why namespaces cannot be had, if so.
fn refusal(root: bool) -> Result<Option<String>, String> {
    match inside(&own()?, root).args([INSIDE, "--probe"]).stdin(Stdio::null()).output() {
        Ok(ended) if ended.status.success() => Ok(None),
        Ok(ended) => Ok(Some(String::from_utf8_lossy(&ended.stderr).trim().replace('\n', "; "))),
        Err(why) => Ok(Some(format!("unshare: {why}"))),
    }
}
