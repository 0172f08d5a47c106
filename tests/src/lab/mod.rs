//! The laboratory of real hosts: `tcat` processes in network namespaces of their own, joined by a bridge.
//!
//! Holds always: everything (namespaces, mounts, processes) lives inside one `unshare` and ends with it, so nothing is
//! left on the machine and nothing is announced on its networks; every wait has a limit; a run is only good if every
//! step was, and if the verifier, another program that trusts no node, found nothing wrong.
//! Left out: systems other than Linux, where scenarios are skipped and counted.

pub mod host;
pub mod judge;
pub mod net;
pub mod run;
pub mod scenario;
mod storm;
pub mod wire;

use std::path::Path;
use std::process::{Command, Stdio};

/// What unshare gives us: our own network, mounts and processes; all processes end when its first one does.
const OWN: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// The first process inside reaps orphans and, unlike the laboratory in its place, obeys Ctrl-C.
const FIRST: &str = "trap 'exit 130' INT TERM; \"$@\" & wait $!";

/// A command that runs `program` where nothing that it does to networks, mounts and processes stays.
///
/// As root the namespaces are made directly, otherwise within a user namespace.
pub fn inside(program: &Path, root: bool) -> Command {
    let mut command = Command::new("unshare");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(OWN).args(["--", "sh", "-c", FIRST, "lab"]).arg(program);
    command
}

/// Whether this user is root, by the `id` program: the standard library has no such question.
pub fn is_root() -> bool {
    let asked = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    asked.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0")
}

/// Runs a short command to its end; its standard output, or one line that says what failed.
pub fn tell(program: &str, arguments: &[&str]) -> Result<String, String> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let ended = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let ended = ended.map_err(|why| format!("cannot start `{}`: {why}", shown()))?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&ended.stderr);
    Err(format!("`{}` failed: {}", shown(), why.trim().replace('\n', "; ")))
}
