//! What the tests need from the machine: looks for it, installs it where that is allowed, else says how to.
//!
//! Holds always: nothing is installed except by `rustup component add`, or by `apt-get` when run as root on a
//! Debian; a missing program that only makes tests leave something out is a note, not a failure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What was found out about this machine.
pub struct Machine {
    /// Whether `cargo nextest` works; else `cargo test` runs the tests.
    pub has_nextest: bool,
    /// Remarks to repeat under the summary.
    pub notes: Vec<String>,
    /// What must be installed by hand before anything can pass.
    pub missing: Vec<String>,
}

/// Looks for everything, installing what may be installed.
pub fn prepare(root: &Path) -> Machine {
    let mut machine =
        Machine { has_nextest: works("cargo", &["nextest", "--version"]), notes: vec![], missing: vec![] };
    for (component, probe) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !works("cargo", &[probe, "--version"]) && !add_component(root, component) {
            machine.missing.push(format!(
                "cargo {probe} does not work here: install the Rust component with `rustup component add {component}`, or your distribution's package of it"
            ));
        }
    }
    if !machine.has_nextest {
        machine.notes.push(
            "cargo-nextest is not installed, so plain `cargo test` ran; `cargo install --locked cargo-nextest` makes it faster".into(),
        );
    }
    if cfg!(target_os = "linux") {
        namespace_tools(&mut machine);
    }
    machine
}

/// The tests that announce anything do so in a network namespace of their own, and leave that out without these.
fn namespace_tools(machine: &mut Machine) {
    const TOOLS: [(&str, &str); 4] =
        [("unshare", "util-linux"), ("ip", "iproute2"), ("nft", "nftables"), ("faketime", "faketime")];
    let absent: Vec<(&str, &str)> =
        TOOLS.into_iter().filter(|(program, _)| find_program(program).is_none()).collect();
    if absent.is_empty() {
        return;
    }
    let packages: Vec<&str> = absent.iter().map(|(_, package)| *package).collect();
    if is_root() && find_program("apt-get").is_some() && apt_install(&packages) {
        return;
    }
    machine.notes.push(format!(
        "the programs of the packages {list} are missing, so tests in network namespaces were left out; `sudo apt-get install {list}` brings them",
        list = packages.join(" ")
    ));
}

/// Whether the program can be started and succeeds.
fn works(program: &str, arguments: &[&str]) -> bool {
    quiet(program, arguments).status().is_ok_and(|status| status.success())
}

fn quiet(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn add_component(root: &Path, component: &str) -> bool {
    if find_program("rustup").is_none() {
        return false;
    }
    println!("installing the Rust component {component} with rustup");
    let mut command = Command::new("rustup");
    command.args(["component", "add", component]).current_dir(root).stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn apt_install(packages: &[&str]) -> bool {
    println!("installing {} with apt-get", packages.join(" "));
    let run = |arguments: &[&str]| {
        let mut command = quiet("apt-get", arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").status().is_ok_and(|status| status.success())
    };
    let install = || run(&[&["install", "--yes", "--no-install-recommends"], packages].concat());
    install() || (run(&["update"]) && install())
}

/// Asks the `id` program: the standard library has no such question.
fn is_root() -> bool {
    let asked = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    asked.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0")
}

/// The program's file in `PATH` or in the folders of system programs, which a plain user's `PATH` may lack.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_not_found_and_does_not_work() {
        assert_eq!(find_program("no-such-program-of-tcat"), None);
        assert!(!works("no-such-program-of-tcat", &[]));
    }

    #[test]
    fn cargo_itself_works() {
        assert!(works("cargo", &["--version"]));
    }
}
