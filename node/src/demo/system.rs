//! What the demo asks of the operating system: that its children die with it, to end one politely, and network
//! namespaces of its own.
//!
//! Holds always: no child outlives the demo, however that ends. On Unix all children are in one process group with a
//! guard, a process of our own program that does nothing but wait for the end of its standard input, whose other end
//! only the demo holds. When the demo is gone, for whatever reason, the guard kills the group.
//! Left out: elsewhere than on Unix children die only where the demo ends by itself; there is no namespace either.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Tells our own program, as a child of the demo, that it is the guard.
const ROLE_VARIABLE: &str = "TCAT_DEMO_ROLE";
const GUARD_ROLE: &str = "guard";
/// The role of a child that only keeps a network namespace there.
const HOLDER_ROLE: &str = "holder";
/// Tells the demo that it runs in a network namespace of its own.
const NETWORK_VARIABLE: &str = "TCAT_DEMO_NETWORK";
const OWN_NETWORK: &str = "own";

/// The name of the loopback interface.
pub const LOOPBACK: &str = if cfg!(target_os = "linux") {
    "lo"
} else if cfg!(windows) {
    "Loopback Pseudo-Interface 1"
} else {
    "lo0"
};

/// What multicast the demo can have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Network {
    /// A network namespace of its own: nothing reaches the real network, and multicast works.
    Own,
    /// Loopback without multicast, and why there is nothing better.
    Loopback {
        /// Why no namespace could be had.
        why: String,
    },
}

/// If this process is the guard of a demo, or holds a namespace for it, does that and never returns.
pub fn serve_if_asked() {
    let Some(role) = std::env::var_os(ROLE_VARIABLE) else { return };
    if role != GUARD_ROLE && role != HOLDER_ROLE {
        return;
    }
    let mut rest = Vec::new();
    // An error means as much as the end: the demo is gone.
    let _ = io::stdin().take(1).read_to_end(&mut rest);
    if role == GUARD_ROLE {
        kill_own_group();
    }
    std::process::exit(0);
}

/// The process group of all children.
pub struct Group {
    guard: Child,
}

impl Group {
    /// Starts the guard, from the program at `program`.
    pub fn start(program: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg("demo").env(ROLE_VARIABLE, GUARD_ROLE);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Ok(Self { guard: command.spawn()? })
    }

    /// Makes `command` start in the group.
    pub fn enrol(&self, command: &mut Command) {
        #[cfg(unix)]
        if let Ok(group) = i32::try_from(self.guard.id()) {
            std::os::unix::process::CommandExt::process_group(command, group);
        }
        command.env_remove(ROLE_VARIABLE).env_remove(NETWORK_VARIABLE).env_remove("TCAT_HOME");
    }

    /// Kills every process in the group at once, the guard too.
    pub fn kill(&self) {
        #[cfg(unix)]
        if let Some(group) = rustix::process::Pid::from_raw(self.guard.id() as i32) {
            // None left to kill is fine.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

#[cfg(unix)]
fn kill_own_group() {
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
}

#[cfg(not(unix))]
fn kill_own_group() {}

/// Asks a child to end (SIGTERM); where there is no such way, kills it.
pub fn ask_to_end(child: &mut Child) -> io::Result<()> {
    #[cfg(unix)]
    return Ok(rustix::process::kill_process(
        rustix::process::Pid::from_child(child),
        rustix::process::Signal::TERM,
    )?);
    #[cfg(not(unix))]
    child.kill()
}

/// Calls `ended` in a thread of its own when a person or the system asks this process to end (Ctrl-C, SIGTERM, SIGHUP).
pub fn when_asked_to_end(ended: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if runtime.block_on(asked_to_end()).is_ok() {
            ended();
        }
    })?;
    Ok(())
}

#[cfg(unix)]
async fn asked_to_end() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = terminate.recv() => Ok(()),
        _ = hang_up.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn asked_to_end() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// The bridge of the demo's LAN, in the demo's namespace.
pub const BRIDGE: &str = "lan";

/// A plain user's `PATH` may lack the folders in which `ip` is.
const PATH: &str = "PATH=\"$PATH:/usr/sbin:/sbin\"";

/// Makes the bridge in a new namespace, then becomes the program that follows.
fn set_up() -> String {
    format!(
        "{PATH} && ip link set lo up \
         && ip link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0 \
         && ip link set {BRIDGE} up && exec \"$0\" \"$@\""
    )
}

/// Starts this program again in a network namespace of its own and never returns, or says why that cannot be; when it
/// is in one already, says so.
pub fn own_network(program: &Path) -> Network {
    if std::env::var_os(NETWORK_VARIABLE).is_some_and(|network| network == OWN_NETWORK) {
        return Network::Own;
    }
    if !cfg!(target_os = "linux") {
        return Network::Loopback { why: "network namespaces exist on Linux alone".into() };
    }
    // Without a user namespace first: it is the plainer way where one is root.
    let mut why = String::new();
    for flags in ["-n", "-Urn"] {
        match try_namespace(flags) {
            Ok(()) => why = enter_namespace(flags, program),
            Err(error) => why = error,
        }
    }
    Network::Loopback { why }
}

fn try_namespace(flags: &str) -> Result<(), String> {
    let mut command = in_namespace(flags, Path::new("true"));
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start unshare: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("unshare failed").trim().to_owned())
}

/// Returns only if it fails, with the reason.
#[cfg(unix)]
fn enter_namespace(flags: &str, program: &Path) -> String {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut command = in_namespace(flags, program);
    command.args(arguments).env(NETWORK_VARIABLE, OWN_NETWORK);
    std::os::unix::process::CommandExt::exec(&mut command).to_string()
}

#[cfg(not(unix))]
fn enter_namespace(_flags: &str, _program: &Path) -> String {
    "network namespaces exist on Linux alone".into()
}

fn in_namespace(flags: &str, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args([flags, "--", "sh", "-c", &set_up()]).arg(program);
    command
}

/// A process with a network namespace of its own, which ends with its standard input.
pub fn namespace_holder(program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-n", "--"]).arg(program).arg("demo");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Makes a command of [`namespace_holder`] the holder that it is to be.
pub fn give_holder_role(command: &mut Command) {
    command.env(ROLE_VARIABLE, HOLDER_ROLE);
}

/// A line for the shell, in which `ip` is found.
pub fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{PATH} && {line}")]);
    command
}

/// `command`, to be started in the network of the process `pid`.
pub fn beside(pid: u32, command: &Command) -> Command {
    let mut entering = Command::new("nsenter");
    entering
        .args(["--net", "--target", &pid.to_string(), "--"])
        .arg(command.get_program())
        .args(command.get_args());
    entering
}
