//! One host of a laboratory: its home, its media folder on a small disk of its own, its clock, and its node.
//!
//! Holds always: every command runs in the host's network and has a limit; a node that is dropped is killed. The node
//! is used by its public command line alone.

use super::net::Net;
use super::tell;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tcat_api::types::Status;

/// Where every node listens, so that `peer` can name it.
const PORT: u16 = 4470;
/// How long a node may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// A new disk, in bytes: more than a scenario writes unless it says otherwise.
const DISK: u64 = 512 << 20;
/// Where libfaketime may be; `*` is the architecture's folder.
const FAKETIME: &str = "/usr/lib/*/faketime/libfaketimeMT.so.1";

/// Puts an empty disk over each folder before `--`, then becomes the command after it.
const HIDE: &str = "while [ \"$1\" != -- ]; do mount -t tmpfs -o size=4k,ro tmpfs \"$1\" || exit; shift; done; shift; exec \"$@\"";

/// A host.
#[derive(Debug)]
pub struct Host {
    /// Its name, also of its namespace and in the workgroup.
    pub name: String,
    /// Its address on the bridge.
    pub address: String,
    /// Its home.
    pub home: PathBuf,
    /// Its media folder.
    pub media: PathBuf,
    program: PathBuf,
    /// Other hosts' folders, which nothing that runs on this host may see.
    hidden: Vec<PathBuf>,
    log: PathBuf,
    /// Static peers, for the next start.
    peers: Vec<String>,
    /// The shift of its wall clock in seconds.
    clock_s: i64,
    node: Option<Child>,
}

impl Host {
    /// Host number `index` (from 0) of a laboratory in `root`; what its node prints goes to `logs`.
    pub fn new(root: &Path, logs: &Path, program: &Path, name: &str, index: usize) -> Result<Self, String> {
        let folder = root.join(name);
        let host = Self {
            name: name.into(),
            address: format!("10.77.0.{}:{PORT}", index + 1),
            home: folder.join("home"),
            media: folder.join("Médias"),
            program: program.into(),
            hidden: Vec::new(),
            log: logs.join(format!("{name}.log")),
            peers: Vec::new(),
            clock_s: 0,
            node: None,
        };
        fs::create_dir_all(&host.media).map_err(|why| format!("{}: {why}", host.media.display()))?;
        let media = host.media.to_string_lossy();
        tell("mount", &["-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs", &media])?;
        Ok(host)
    }

    /// The media folder's disk has this many bytes from now on.
    pub fn resize_disk(&self, bytes: u64) -> Result<(), String> {
        let media = self.media.to_string_lossy();
        tell("mount", &["-o", &format!("remount,size={bytes}"), &media]).map(drop)
    }

    /// The wall clock is off by this from the next start on; the monotonic clock is not.
    pub fn set_clock(&mut self, shift_s: i64) {
        self.clock_s = shift_s;
    }

    /// The other is a static peer from the next start on.
    pub fn add_peer(&mut self, address: &str) {
        self.peers.push(address.into());
    }

    /// What runs on this host sees nothing of these folders, as on a machine of its own.
    pub fn hide(&mut self, folders: impl Iterator<Item = PathBuf>) {
        self.hidden = folders.collect();
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Command, String> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", HIDE, "hide"]).args(&self.hidden).args(["--", "nsenter"]);
        command.args(Net::enter(&self.name)).arg(&self.program).arg("--home").arg(&self.home);
        command.args(arguments).stdin(Stdio::null());
        if self.clock_s != 0 {
            command.env("LD_PRELOAD", faketime()?).env("FAKETIME", format!("{:+}", self.clock_s));
            command.env("DONT_FAKE_MONOTONIC", "1");
        }
        Ok(command)
    }

    /// Runs `tcat ARGUMENTS` for this home, which must succeed within the limit; its standard output.
    pub fn tcat(&self, arguments: &[&str], limit: Duration) -> Result<String, String> {
        let shown = || format!("{}: `tcat {}`", self.name, arguments.join(" "));
        let mut command = self.command(arguments)?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|why| format!("{}: {why}", shown()))?;
        let deadline = Instant::now() + limit;
        // What a command prints fits into a pipe: status has a handful of hosts to tell of.
        while child.try_wait().map_err(|why| why.to_string())?.is_none() {
            if Instant::now() > deadline {
                let _ = child.kill().and_then(|()| child.wait());
                return Err(format!("{} gave no answer in {limit:?}", shown()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        let ended = child.wait_with_output().map_err(|why| format!("{}: {why}", shown()))?;
        if ended.status.success() {
            return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
        }
        let said = format!("{}{}", text(&ended.stdout), text(&ended.stderr));
        Err(format!("{} ended with {}: {}", shown(), ended.status, said.trim().replace('\n', "; ")))
    }

    /// Makes the workgroup, whose catalog and objects are in the home, or in a folder that stands for the cloud.
    pub fn init(&self, cloud: Option<&Path>) -> Result<(), String> {
        let media = self.media.to_string_lossy();
        let mut arguments = vec!["init", "--media", &media, "--name", &self.name];
        let urls = cloud.map(|cloud| {
            let (catalog, objects) = (cloud.join("catalog.db"), cloud.join("objects"));
            (format!("sqlite:{}", catalog.display()), format!("file:{}", objects.display()))
        });
        if let Some((catalog, objects)) = &urls {
            arguments.extend(["--catalog", catalog, "--objects", objects]);
        }
        self.tcat(&arguments, PATIENCE)?;
        Ok(())
    }

    /// Joins by an invitation of another's, whom mDNS or a static peer's address finds.
    pub fn join(&self, other: &Self) -> Result<(), String> {
        let said = other.tcat(&["invite"], PATIENCE)?;
        let code = said.lines().last().ok_or_else(|| format!("{}: invite says nothing", other.name))?;
        let media = self.media.to_string_lossy();
        let mut arguments = vec!["join", code, "--media", &media, "--name", &self.name];
        for peer in &self.peers {
            arguments.extend(["--peer", peer]);
        }
        self.tcat(&arguments, PATIENCE + PATIENCE)?;
        Ok(())
    }

    /// The node runs and answers. Whom it does not find by mDNS or by `peer`, it does not find.
    pub fn start(&mut self) -> Result<(), String> {
        if self.is_running() {
            return Err(format!("{} runs already", self.name));
        }
        self.configure()?;
        let failed = |why: std::io::Error| format!("{}: {why}", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(failed)?;
        let mut command = self.command(&["run"])?;
        command.stdout(log.try_clone().map_err(failed)?).stderr(log);
        let mut child = command.spawn().map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        let answered = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break Err(format!("{} ended with {status}: {}", self.name, self.last_line()));
            }
            match self.tcat(&["status"], PATIENCE) {
                Ok(_) => break Ok(()),
                Err(why) if Instant::now() > deadline => break Err(why),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        };
        self.node = Some(child);
        answered
    }

    /// Sets `config.toml`: a known port, a short quiet time, and no peer but those that the scenario named.
    fn configure(&self) -> Result<(), String> {
        let path = self.home.join("config.toml");
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let text = fs::read_to_string(&path).map_err(|why| failed(&why))?;
        let mut settings: toml::Table = text.parse().map_err(|why| failed(&why))?;
        let peers: Vec<toml::Value> = self.peers.iter().map(|peer| peer.as_str().into()).collect();
        settings.insert("listen".into(), format!("0.0.0.0:{PORT}").into());
        settings.insert("peers".into(), peers.into());
        settings.insert("scan".into(), toml::Table::from_iter([("quiet_ms".into(), 200.into())]).into());
        fs::write(&path, settings.to_string()).map_err(|why| failed(&why))
    }

    /// Whether the node is there, frozen or not.
    pub fn is_running(&mut self) -> bool {
        self.node.as_mut().is_some_and(|node| matches!(node.try_wait(), Ok(None)))
    }

    /// SIGTERM; the node must end cleanly.
    pub fn stop(&mut self) -> Result<(), String> {
        self.signal("TERM")?;
        let mut node = self.node.take().ok_or_else(|| format!("{} does not run", self.name))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match node.try_wait().map_err(|why| why.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(format!("{} ended with {status}: {}", self.name, self.last_line()));
                }
                None if Instant::now() > deadline => {
                    let _ = node.kill().and_then(|()| node.wait());
                    return Err(format!("{} does not end in {PATIENCE:?}", self.name));
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<(), String> {
        let mut node = self.node.take().ok_or_else(|| format!("{} does not run", self.name))?;
        node.kill().and_then(|()| node.wait()).map(drop).map_err(|why| format!("{}: {why}", self.name))
    }

    /// SIGSTOP, or any other signal by its name. `nsenter` became the node, so the process is the node's own.
    pub fn signal(&mut self, name: &str) -> Result<(), String> {
        if !self.is_running() {
            return Err(format!("{} does not run: {}", self.name, self.last_line()));
        }
        let pid = self.node.as_ref().map(|node| node.id().to_string()).unwrap_or_default();
        tell("kill", &[&format!("-{name}"), &pid]).map(drop)
    }

    /// What the node says of itself.
    pub fn status(&self) -> Result<Status, String> {
        let said = self.tcat(&["status", "--json"], PATIENCE)?;
        serde_json::from_str(&said).map_err(|why| format!("{}: status: {why}", self.name))
    }

    /// What the node printed last.
    fn last_line(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        said.lines().last().unwrap_or("it printed nothing").to_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The library that shifts a program's wall clock.
fn faketime() -> Result<PathBuf, String> {
    let missing = || "libfaketime is not there; install the package faketime".to_owned();
    let (before, after) = FAKETIME.split_once('*').ok_or_else(missing)?;
    let folders = fs::read_dir(before).map_err(|_| missing())?;
    let mut found = folders.flatten().map(|folder| folder.path().join(after.trim_start_matches('/')));
    found.find(|file| file.is_file()).ok_or_else(missing)
}
