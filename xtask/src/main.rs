//! tcat's developer commands: `cargo xtask test`, `cargo xtask lab`, `cargo xtask bench`, `cargo xtask tidy`, `cargo xtask help`.
//!
//! Holds always: a command exits 0 only if all that it names was done and was good.
//! Left out: everything that a user of tcat needs; that is the `tcat` program.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bench;
mod count;
mod lab;
mod needs;
mod simulate;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Every command with what it does, in the order of `help`; tidy checks the documents against this list.
const COMMANDS: &[(&str, &str)] = &[
    (
        "test",
        "everything that must pass: format, clippy, all tests, doc tests, tidy, the simulator, a short pass of the laboratory",
    ),
    ("lab", "[NAME...] [--smoke]: real nodes in network namespaces; see docs/laboratory.md"),
    ("tidy", "the house rules alone, in a second: sizes, headers, imports, dependencies, links, commands"),
    ("bench", "NAME: one benchmark of a release build against what people use today: claims, copy, exchange"),
    ("help", "this list"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = workspace_root();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["test"] => exit_code(test::run(&root)),
        ["lab", words @ ..] => exit_code(test::run_lab(&root, words)),
        ["bench", name] => exit_code(bench::run(&root, name)),
        ["tidy"] => exit_code(tidy::run(&root)),
        ["help" | "--help" | "-h"] => {
            println!("{}", help());
            ExitCode::SUCCESS
        }
        [] => {
            eprintln!("{}", help());
            ExitCode::from(2)
        }
        [first, ..] => {
            eprintln!("cargo xtask: no such command, or too many arguments: {first:?}\n\n{}", help());
            ExitCode::from(2)
        }
    }
}

fn exit_code(all_is_well: bool) -> ExitCode {
    if all_is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn help() -> String {
    let list: Vec<String> = COMMANDS.iter().map(|(name, what)| format!("    {name:6} {what}")).collect();
    format!("usage: cargo xtask COMMAND\n\n{}", list.join("\n"))
}

/// The folder above this package.
fn workspace_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}
