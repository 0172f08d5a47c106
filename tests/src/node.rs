//! One node of a laboratory: a home, a media folder, and its processes, used by the public command line.

use crate::contents;
use crate::laboratory::{Laboratory, program};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tcat::demo::system::{LOOPBACK, ask_to_end};
use tcat::demo::verify::{Digest, hash_bytes};
use tcat_api::types::Status;

/// The longest that a command may take.
const COMMAND: Duration = Duration::from_secs(120);
/// How long a node may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a command said, and how it ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Answer {
    /// Panics unless the command succeeded; returns its standard output.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.stdout
    }

    /// Panics unless the command ended with `status` and one line that has each of `words` in it.
    #[track_caller]
    pub fn failed_with(self, status: i32, words: &[&str]) {
        assert_eq!(self.status, Some(status), "{self:?}");
        let line = self.stderr.trim_end();
        assert!(!line.is_empty() && !line.contains('\n'), "one line is promised: {line:?}");
        for word in words {
            assert!(line.to_lowercase().contains(&word.to_lowercase()), "{word:?} is not in {line:?}");
        }
    }
}

/// A node.
pub struct Node<'a> {
    laboratory: &'a Laboratory,
    /// Its name in the workgroup.
    pub name: String,
    /// Its home.
    pub home: PathBuf,
    /// Its media folder.
    pub media: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl<'a> Node<'a> {
    /// A node with an empty media folder and no home yet.
    pub(crate) fn new(laboratory: &'a Laboratory, name: &str) -> Self {
        let folder = laboratory.root().join(name);
        let media = folder.join("Médias");
        fs::create_dir_all(&media).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        Self { laboratory, name: name.into(), home: folder.join("home"), media, port, process: None }
    }

    /// Where the others find it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A command for this node's home, not started yet.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(program());
        self.laboratory.group().enrol(&mut command);
        // Nothing of a test may be announced or looked for on a real network.
        command
            .args(["--interface", LOOPBACK])
            .arg("--home")
            .arg(&self.home)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs `tcat --home HOME ARGUMENTS`.
    #[track_caller]
    pub fn tcat<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Answer {
        run_to_end(self.command(arguments), COMMAND)
    }

    /// `tcat init`.
    #[track_caller]
    pub fn init(&self) {
        let media = self.media.to_str().unwrap();
        self.tcat(&["init", "--media", media, "--name", &self.name]).succeeded();
        self.configure(&[]);
    }

    /// `tcat invite`: the code.
    #[track_caller]
    pub fn invite(&self) -> String {
        let said = self.tcat(&["invite"]).succeeded();
        said.lines().last().unwrap().to_owned()
    }

    /// `tcat join`, with the others as static peers.
    #[track_caller]
    pub fn join(&self, code: &str, others: &[&Node<'_>]) {
        let media = self.media.to_str().unwrap();
        let mut arguments = vec!["join", code, "--media", media, "--name", &self.name];
        let addresses: Vec<String> = others.iter().map(|other| other.address()).collect();
        for address in &addresses {
            arguments.extend(["--peer", address]);
        }
        self.tcat(&arguments).succeeded();
        self.configure(others);
    }

    /// Sets `config.toml` to loopback, static peers and a short quiet time.
    pub fn configure(&self, others: &[&Node<'_>]) {
        let path = self.home.join("config.toml");
        let mut settings: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        let peers: Vec<toml::Value> = others.iter().map(|other| other.address().into()).collect();
        settings.insert("listen".into(), self.address().into());
        settings.insert("peers".into(), peers.into());
        settings.insert("interfaces".into(), vec![toml::Value::from(LOOPBACK)].into());
        let mut scan = toml::Table::new();
        scan.insert("quiet_ms".into(), 200.into());
        settings.insert("scan".into(), scan.into());
        fs::write(&path, settings.to_string()).unwrap();
    }

    /// The file that takes what `tcat run` prints.
    pub fn log(&self) -> PathBuf {
        self.home.with_file_name("run.log")
    }

    /// `tcat run` in the background; returns once the node answers.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_by(self.command(&["run"]));
    }

    /// Starts the node by a command of the caller's.
    #[track_caller]
    pub fn start_by(&mut self, mut command: Command) {
        let log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while self.tcat(&["status"]).status != Some(0) {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{} ended with {ended:?}; its log:\n{}", self.name, self.said());
            assert!(Instant::now() < deadline, "{} does not answer; its log:\n{}", self.name, self.said());
            thread::sleep(Duration::from_millis(30));
        }
    }

    /// What `tcat run` has printed so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// SIGTERM; panics unless the node ends cleanly.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut child = self.process.take().unwrap();
        ask_to_end(&mut child).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "{} does not end:\n{}", self.name, self.said()),
            }
            thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.said());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// How much memory the running node has, in KiB, as Linux says; nothing elsewhere.
    pub fn resident_kib(&self) -> u64 {
        let Some(process) = &self.process else { return 0 };
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
    }

    /// Whether `tcat run` goes on.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// `tcat wait`; panics unless all is settled within the limit.
    #[track_caller]
    pub fn settle(&self) {
        let answer = self.tcat(&["wait", "--timeout", "90s"]);
        assert_eq!(answer.status, Some(0), "{} is not settled: {answer:?}\n{}", self.name, self.said());
    }

    /// `tcat status --json`.
    #[track_caller]
    pub fn status(&self) -> Status {
        serde_json::from_str(&self.tcat(&["status", "--json"]).succeeded()).unwrap()
    }

    /// Waits until the other is heard and hears us.
    #[track_caller]
    pub fn meet(&self, other: &Node<'_>) {
        let deadline = Instant::now() + PATIENCE;
        while !self.status().peers.iter().any(|peer| peer.alive && peer.name == other.name) {
            assert!(
                Instant::now() < deadline,
                "{} does not meet {}:\n{}",
                self.name,
                other.name,
                self.said()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A file in the media folder.
    pub fn file(&self, path: &str) -> PathBuf {
        self.media.join(path)
    }

    /// A person saves a file; its MD5.
    pub fn save(&self, path: &str, bytes: &[u8]) -> Digest {
        contents::save(&self.file(path), bytes);
        hash_bytes(bytes)
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command; panics if it takes longer than `limit`.
#[track_caller]
pub fn run_to_end(mut command: Command, limit: Duration) -> Answer {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{command:?} gave no answer in {limit:?}");
        }
        thread::sleep(Duration::from_millis(4));
    };
    Answer { status: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The one file in `folder` whose name ends in `ending`.
#[track_caller]
pub fn only_file(folder: &Path, ending: &str) -> PathBuf {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}
