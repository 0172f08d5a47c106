//! `tcat run` with the real program: how a node starts, is found, is stopped and comes back. On loopback
//! alone.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Scene {
    folder: tempfile::TempDir,
}

/// A started node; killed when the test ends, however it ends.
struct Node {
    child: Child,
    ready: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit status, which must come within a few seconds.
    fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None => assert!(Instant::now() < deadline, "it still runs"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("tcat é ").tempdir().unwrap();
        fs::create_dir(folder.path().join("media")).unwrap();
        let scene = Self { folder };
        let output = scene.tcat(&["init", "--media", "media", "--name", "anna", "--interface", "lo"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tcat"));
        command.args(words).current_dir(self.folder.path());
        command.env("TCAT_HOME", self.path("home")).env_remove("TCAT_LOG");
        command
    }

    fn tcat(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn start(&self) -> Node {
        let mut child = self.command(&["run"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        Node { child, ready }
    }

    /// All that was logged.
    fn log(&self) -> String {
        let logs = fs::read_dir(self.path("home/log")).unwrap().flatten();
        logs.map(|entry| fs::read_to_string(entry.path()).unwrap()).collect()
    }

    fn line(&self, output: &Output, status: i32) -> String {
        let text = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(status), "{text}");
        assert_eq!(text.lines().count(), 1, "not one line: {text}");
        text
    }
}

#[test]
fn a_node_says_when_it_is_ready_and_a_second_one_is_told_its_process() {
    let scene = Scene::new();
    let node = scene.start();
    assert!(node.ready.starts_with("tcat is ready: anna keeps "), "{}", node.ready);
    assert!(node.ready.contains(&scene.path("media").display().to_string()), "{}", node.ready);
    let control = fs::read_to_string(scene.path("home/control.json")).unwrap();
    let text = scene.line(&scene.tcat(&["run"]), 1);
    let pid = node.child.id().to_string();
    assert!(text.contains(&format!("(process {pid})")) && control.contains(&pid), "{text}");
    assert_eq!(fs::read_to_string(scene.path("home/control.json")).unwrap(), control);
}

#[test]
fn a_term_or_interrupt_signal_ends_a_node_cleanly_within_seconds() {
    let scene = Scene::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = scene.start();
        assert!(scene.path("home/control.json").exists());
        node.signal(signal);
        assert_eq!(node.ended(), Some(0));
        assert!(!scene.path("home/control.json").exists());
        let text = scene.line(&scene.tcat(&["status"]), 1);
        assert!(text.contains("is not running"), "{text}");
    }
    let log = scene.log();
    let token = fs::read_to_string(scene.path("home/token")).unwrap();
    assert!(log.contains("stopped") && !log.contains(token.trim()), "{log}");
}

#[test]
fn a_node_that_was_killed_is_seen_to_be_gone_and_starts_again() {
    let scene = Scene::new();
    let mut node = scene.start();
    node.signal(Signal::KILL);
    assert_eq!(node.ended(), None);
    assert!(scene.path("home/control.json").exists(), "nobody could tidy up");
    let text = scene.line(&scene.tcat(&["status"]), 1);
    assert!(text.contains("is not running"), "{text}");
    let again = scene.start();
    assert!(again.ready.starts_with("tcat is ready"), "{}", again.ready);
}

#[test]
fn what_a_node_cannot_start_without_is_named() {
    let scene = Scene::new();
    let refused = |what: &str, part: &str| {
        let output = scene.tcat(&["run"]);
        let text = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(1), "{what}: {text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(last.starts_with("tcat: ") && last.contains(part), "{what}: {text}");
        assert!(!text.contains("ERROR"), "told twice: {text}");
        assert!(scene.log().contains(part), "{what} is in the log as well");
    };
    fs::rename(scene.path("media"), scene.path("away")).unwrap();
    refused("an unmounted disk", "does not exist");
    fs::create_dir(scene.path("media")).unwrap();
    refused("an empty mount point", "root.toml");
    fs::remove_dir(scene.path("media")).unwrap();
    fs::rename(scene.path("away"), scene.path("media")).unwrap();
    fs::rename(scene.path("home/catalog.db"), scene.path("away.db")).unwrap();
    refused("a catalog out of reach", "catalog.db");
    fs::rename(scene.path("away.db"), scene.path("home/catalog.db")).unwrap();
    fs::rename(scene.path("home/token"), scene.path("token")).unwrap();
    let node = scene.start();
    assert!(node.ready.starts_with("tcat is ready"), "a lost token is made anew");
}
