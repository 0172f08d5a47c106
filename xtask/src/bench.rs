//! `cargo xtask bench NAME`: builds the release programs and runs one benchmark of `benches/`.
//!
//! Left out: what is measured, and against what; that is `benches/src/main.rs`, and of the engine alone
//! `sim/examples/`.

use std::path::Path;
use std::process::Command;

/// Runs the benchmark; true if it ran to its end.
pub fn run(root: &Path, name: &str) -> bool {
    if ["claims", "exchange"].contains(&name) {
        // Engines alone: no program has to be built.
        return cargo(root, &["run", "--release", "--package", "tcat-sim", "--example", name]);
    }
    let packages = ["--package", "tcat", "--package", "tcat-benches"];
    let built = cargo(root, &[&["build", "--release"][..], &packages].concat());
    built && cargo(root, &["run", "--release", "--package", "tcat-benches", "--", name])
}

fn cargo(root: &Path, arguments: &[&str]) -> bool {
    let ran = Command::new(env!("CARGO")).args(arguments).current_dir(root).status();
    match ran {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cargo xtask bench: cargo cannot be started: {error}; install Rust");
            false
        }
    }
}
