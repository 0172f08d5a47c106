//! The demo's nodes: each a process of our own program with a home and a media folder of its own, used by its public
//! command line exactly as a person would.
//!
//! Holds always: every process is in the demo's [`Group`] and ends with it; every command has a time limit.
//! Left out: what the commands mean; see `docs/contracts.md`.

use super::lan::{INTERFACE, Link};
use super::stage::Stage;
use super::system::{self, LOOPBACK, Network};
use crate::output::{Failure, one_line};
use serde::de::DeserializeOwned;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tcat_api::types::Status;

/// The longest that any command but `run` may take.
const COMMAND: Duration = Duration::from_secs(40);
/// How long a node may take to end after SIGTERM.
const ENDING: Duration = Duration::from_secs(10);
/// How long `tcat wait` may take.
const SETTLING: &str = "30s";
/// A file is an item once quiet for this long; shorter than the default, so that the demo is.
const QUIET_MS: i64 = 400;
/// How long a silent member's claims hold; shorter than the default, so that the demo is.
const LEASE_MS: i64 = 3_000;
/// The port of a node that has a namespace of its own.
const PORT: u16 = 7_077;
/// The name of no interface: without its interface a node goes on, and discovers nobody.
const UNPLUGGED: &str = "unplugged";

/// One node of the demo.
pub struct Node<'a> {
    stage: &'a Stage,
    /// Its name, as the workgroup knows it.
    pub name: String,
    /// Its media folder.
    pub media: PathBuf,
    home: PathBuf,
    log: PathBuf,
    port: u16,
    link: Option<&'a Link>,
    is_cut_off: bool,
    process: Option<Child>,
}

impl<'a> Node<'a> {
    /// Node number `number`, with empty folders and no home yet.
    pub fn new(stage: &'a Stage, number: usize) -> Result<Self, Failure> {
        let name = format!("node {number}");
        let folder = stage.root().join(format!("Knoten {number}"));
        let media = folder.join("Médias partagés");
        fs::create_dir_all(&media).map_err(|error| cannot("make a media folder", &error))?;
        let log = stage.root().join(format!("node {number}.log"));
        let link = stage.link(number);
        let port = match link {
            Some(_) => PORT,
            None => free_port().map_err(|error| cannot("find a free port", &error))?,
        };
        let home = folder.join("home");
        Ok(Self { stage, name, media, home, log, port, link, is_cut_off: false, process: None })
    }

    /// The catalog's file. It is in what stands for the cloud.
    pub fn catalog(&self) -> PathBuf {
        self.stage.cloud().join("catalog.db")
    }

    /// The folder of objects, in the same cloud.
    pub fn objects(&self) -> PathBuf {
        self.stage.cloud().join("objects")
    }

    /// Where a member that cannot discover this node finds it.
    pub fn address(&self) -> String {
        match self.link {
            Some(link) => format!("{}:{}", link.address(), self.port),
            None => format!("127.0.0.1:{}", self.port),
        }
    }

    /// A file in the media folder.
    pub fn file(&self, path: &str) -> PathBuf {
        self.media.join(path)
    }

    /// `tcat init`, and the demo's settings.
    pub fn init(&self) -> Result<(), Failure> {
        fs::create_dir_all(self.stage.cloud()).map_err(|error| cannot("make the cloud", &error))?;
        let url = |scheme: &str, path: PathBuf| {
            let mut url = OsString::from(scheme);
            url.push(path);
            url
        };
        let (catalog, objects) = (url("sqlite:", self.catalog()), url("file:", self.objects()));
        let mut arguments: Vec<&OsStr> = vec!["init".as_ref(), "--media".as_ref(), self.media.as_os_str()];
        arguments.extend(["--name".as_ref(), OsStr::new(&self.name)]);
        arguments.extend([
            "--catalog".as_ref(),
            catalog.as_os_str(),
            "--objects".as_ref(),
            objects.as_os_str(),
        ]);
        self.command(&arguments)?;
        self.configure(&[])
    }

    /// `tcat invite`: the code.
    pub fn invite(&self) -> Result<String, Failure> {
        let said = self.command(&["invite".as_ref()])?;
        let code = said.lines().last().unwrap_or_default().trim();
        if code.is_empty() || code.contains(char::is_whitespace) {
            let why = format!("its last line is {code:?}");
            return Err(Failure::new("tcat invite gave no code", why, "see docs/contracts.md"));
        }
        Ok(code.to_owned())
    }

    /// `tcat join`, and the demo's settings. `peers` are the addresses of the others, the inviter's first; they are
    /// needed and used only where there is no multicast.
    pub fn join(&self, code: &str, peers: &[String]) -> Result<(), Failure> {
        let mut arguments: Vec<&OsStr> = vec!["join".as_ref(), code.as_ref(), "--media".as_ref()];
        arguments.extend([self.media.as_os_str(), "--name".as_ref(), self.name.as_ref()]);
        let peers = if self.stage.has_multicast() { &[] } else { peers };
        if let Some(inviter) = peers.first() {
            arguments.extend(["--peer".as_ref(), OsStr::new(inviter)]);
        }
        self.command(&arguments)?;
        self.configure(peers)
    }

    /// Sets what the demo needs in `config.toml`: its network alone, short times, and the given peers.
    fn configure(&self, peers: &[String]) -> Result<(), Failure> {
        let path = self.home.join("config.toml");
        let what = "set up config.toml";
        let text = fs::read_to_string(&path).map_err(|error| cannot(what, &error))?;
        let mut settings: toml::Table =
            text.parse().map_err(|error: toml::de::Error| cannot(what, &error))?;
        let texts =
            |list: &[String]| toml::Value::Array(list.iter().cloned().map(toml::Value::String).collect());
        settings.insert("listen".into(), self.address().into());
        settings.insert("peers".into(), texts(peers));
        settings.insert("lease_ms".into(), LEASE_MS.into());
        settings.insert("interfaces".into(), texts(&[self.interface().to_owned()]));
        let scan = settings.entry("scan").or_insert_with(|| toml::Table::new().into());
        if let Some(scan) = scan.as_table_mut() {
            scan.insert("quiet_ms".into(), QUIET_MS.into());
        }
        fs::write(&path, settings.to_string()).map_err(|error| cannot(what, &error))
    }

    /// `tcat run` in the background; returns once the node answers.
    pub fn start(&mut self) -> Result<(), Failure> {
        let what = format!("start {}", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| cannot(&what, &error))?;
        let errors = log.try_clone().map_err(|error| cannot(&what, &error))?;
        let mut command = self.tcat(&["run".as_ref()]);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.stage.group().enrol(&mut command);
        self.process = Some(command.spawn().map_err(|error| cannot(&what, &error))?);
        self.until_it_answers()
    }

    fn until_it_answers(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + ENDING;
        loop {
            let process = self.process.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = process {
                let why = format!("it ended by itself ({status}): {}", last_line(&self.log));
                return Err(Failure::new(format!("{} did not start", self.name), why, self.see_log()));
            }
            match self.status() {
                Ok(_) => return Ok(()),
                Err(failure) if Instant::now() > deadline => return Err(failure),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// SIGTERM, and waits for the clean end.
    pub fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.process.take() else { return Ok(()) };
        let what = format!("stop {}", self.name);
        system::ask_to_end(&mut child).map_err(|error| cannot(&what, &error))?;
        let status = wait_until(&mut child, ENDING).map_err(|error| cannot(&what, &error))?;
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                let why = format!("it ended with {status}: {}", last_line(&self.log));
                Err(Failure::new(format!("{} did not end cleanly", self.name), why, self.see_log()))
            }
            None => {
                let _ = child.kill();
                let why = format!("it still ran {} s after SIGTERM", ENDING.as_secs());
                Err(Failure::new(format!("{} did not end", self.name), why, self.see_log()))
            }
        }
    }

    /// SIGKILL: at once, without a word to the node.
    pub fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.process.take() else { return Ok(()) };
        let killed = child.kill().and_then(|()| child.wait());
        killed.map(drop).map_err(|error| cannot(&format!("kill {}", self.name), &error))
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// No member can reach this node any more, and it reaches none; it still reaches the cloud. `peers` are the others'
    /// addresses, for [`Self::mend_link`]. Where it has no link, it is started again at another address, without discovery.
    pub fn cut_link(&mut self) -> Result<(), Failure> {
        self.is_cut_off = true;
        if let Some(link) = self.link {
            return link.cut().map_err(|error| cannot("cut a link", &error));
        }
        self.port = free_port().map_err(|error| cannot("find a free port", &error))?;
        self.configure_anew(&[])
    }

    /// Undoes [`Self::cut_link`]; `peers` are the addresses of the others.
    pub fn mend_link(&mut self, peers: &[String]) -> Result<(), Failure> {
        self.is_cut_off = false;
        match self.link {
            Some(link) => link.mend().map_err(|error| cannot("mend a link", &error)),
            None => self.configure_anew(peers),
        }
    }

    /// Other settings hold from the next start on.
    fn configure_anew(&mut self, peers: &[String]) -> Result<(), Failure> {
        let runs = self.is_running();
        self.stop()?;
        self.configure(peers)?;
        if runs { self.start() } else { Ok(()) }
    }

    fn interface(&self) -> &'static str {
        match self.link {
            Some(_) => INTERFACE,
            None if self.is_cut_off => UNPLUGGED,
            None => LOOPBACK,
        }
    }

    /// `tcat status --json`.
    pub fn status(&self) -> Result<Status, Failure> {
        self.json(&["--json".as_ref(), "status".as_ref()])
    }

    /// `tcat wait`: until nothing is left to settle.
    pub fn settle(&self) -> Result<(), Failure> {
        self.command(&["wait".as_ref(), "--timeout".as_ref(), SETTLING.as_ref()]).map(drop)
    }

    /// `tcat show --json`: how many clients hold the item with the catalog's content.
    pub fn copies(&self, path: &str) -> Result<usize, Failure> {
        let shown: tcat_api::types::Show = self.json(&["--json".as_ref(), "show".as_ref(), path.as_ref()])?;
        Ok(shown.copies.iter().filter(|copy| copy.settled).count())
    }

    /// `tcat show --json`: whether this node says of itself that it holds this MD5 at this path.
    pub fn holds(&self, path: &str, md5: &str) -> Result<bool, Failure> {
        let shown: tcat_api::types::Show = self.json(&["--json".as_ref(), "show".as_ref(), path.as_ref()])?;
        Ok(shown.copies.iter().any(|copy| copy.client == self.name && copy.md5.as_deref() == Some(md5)))
    }

    fn json<T: DeserializeOwned>(&self, arguments: &[&OsStr]) -> Result<T, Failure> {
        let text = self.command(arguments)?;
        serde_json::from_str(&text).map_err(|error| cannot("read the node's answer", &error))
    }

    /// Runs `tcat --home HOME ARGUMENTS` and returns what it prints.
    fn command(&self, arguments: &[&OsStr]) -> Result<String, Failure> {
        let mut command = self.tcat(arguments);
        self.stage.group().enrol(&mut command);
        // The word alone: what follows it may be a code, which is a secret.
        let word = arguments.iter().find(|argument| **argument != "--json").copied().unwrap_or_default();
        let what = format!("{}: tcat {}", self.name, word.to_string_lossy());
        let ended = run_to_end(command, COMMAND).map_err(|error| cannot(&format!("run {what}"), &error))?;
        let Some((status, stdout, stderr)) = ended else {
            let why = format!("no answer in {} s", COMMAND.as_secs());
            return Err(Failure::new(what, why, self.see_log()));
        };
        if status.success() {
            return Ok(stdout);
        }
        let said = if stderr.trim().is_empty() { stdout } else { stderr };
        Err(Failure::new(format!("{what} failed with {status}"), one_line(&said), self.see_log()))
    }

    /// `tcat --home HOME ARGUMENTS`, in the node's place on the network.
    fn tcat(&self, arguments: &[&OsStr]) -> Command {
        let mut command = Command::new(self.stage.program());
        command.args(["--interface", self.interface()]).arg("--home").arg(&self.home).args(arguments);
        match self.link {
            Some(link) => link.enter(&command),
            None => command,
        }
    }

    fn see_log(&self) -> String {
        format!("see {}", self.log.display())
    }
}

/// A port that is free now. Another program may take it before the node does; then the node says so and the demo ends.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Runs a command; `None` if it took longer than `limit` and was killed.
fn run_to_end(
    mut command: Command,
    limit: Duration,
) -> std::io::Result<Option<(ExitStatus, String, String)>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let Some(status) = wait_until(&mut child, limit)? else {
        child.kill()?;
        child.wait()?;
        return Ok(None);
    };
    let text = |collected: Option<thread::JoinHandle<Vec<u8>>>| {
        let bytes = collected.and_then(|thread| thread.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Some((status, text(stdout), text(stderr))))
}

/// The most that is kept of what a command prints.
const PRINTED_BYTES_MAX: u64 = 16 << 20;

fn collect(from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is shown as it is.
        let _ = from.take(PRINTED_BYTES_MAX).read_to_end(&mut bytes);
        bytes
    })
}

/// Waits for the end of `child`; `None` if it runs longer than `limit`.
fn wait_until(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() > deadline => return Ok(None),
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn last_line(log: &Path) -> String {
    let mut text = Vec::new();
    let _ = File::open(log).and_then(|mut file| file.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    one_line(text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing"))
}

fn cannot(what: &str, why: &impl std::fmt::Display) -> Failure {
    Failure::new(format!("the demo cannot {what}"), why, "mend that and start the demo again")
}

/// What the network of the stage is called in front of an audience.
pub fn network_line(network: &Network) -> String {
    match network {
        Network::Own => {
            "a LAN of its own on this machine, a link for each node: nothing leaves it; nodes discover each other by mDNS"
                .into()
        }
        Network::Loopback { why } => {
            format!(
                "loopback only: a network with multicast is impossible here ({why}), so nodes are told each other's address"
            )
        }
    }
}
