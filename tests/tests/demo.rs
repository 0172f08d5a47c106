//! The demo from outside: it ends well with and without multicast, and leaves no process and no file, however it ends.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tcat_tests::node::run_to_end;
use tcat_tests::program;

/// A debug build on a busy machine; the promise for a release build is 60 s.
const LIMIT: Duration = Duration::from_secs(150);

fn demo(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("demo").env("TMPDIR", folder).stdin(Stdio::null());
    command
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn the_demo_verifies_its_story_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let answer = run_to_end(demo(folder.path()), LIMIT);
    assert_eq!(answer.status, Some(0), "{}\n{}", answer.stdout, answer.stderr);
    for seen in [
        "discovered each other by mDNS",
        "over the LAN alone",
        "and the picture is in the catalog",
        "both are kept, the same on all nodes",
        "and came once its claims had lapsed",
        "all MD5s agree, nothing was lost",
    ] {
        assert!(answer.stdout.contains(seen), "{seen}\n{}", answer.stdout);
    }
    assert!(is_empty(folder.path()));
}

#[test]
fn without_multicast_the_demo_says_so_and_uses_known_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = demo(folder.path());
    // No unshare, no namespace.
    command.args(["--nodes", "2"]).env("PATH", "");
    let answer = run_to_end(command, LIMIT);
    assert_eq!(answer.status, Some(0), "{}\n{}", answer.stdout, answer.stderr);
    for seen in ["a network with multicast is impossible here", "both are kept, the same on all nodes"] {
        assert!(answer.stdout.contains(seen), "{seen}\n{}", answer.stdout);
    }
    assert!(is_empty(folder.path()));
}

#[test]
fn files_of_ones_own_are_shown_and_never_touched() {
    let (folder, album) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(album.path().join("à la mer")).unwrap();
    let photo = album.path().join("à la mer/photo 1.jpg");
    fs::write(&photo, "a photograph").unwrap();
    let before = fs::metadata(&photo).unwrap().modified().unwrap();
    let mut command = demo(folder.path());
    command.args(["--nodes", "2", "--keep", "--media"]).arg(album.path());
    let answer = run_to_end(command, LIMIT);
    assert_eq!(answer.status, Some(0), "{}\n{}", answer.stdout, answer.stderr);
    assert_eq!(fs::read(&photo).unwrap(), b"a photograph");
    assert_eq!(fs::metadata(&photo).unwrap().modified().unwrap(), before);
    assert!(!album.path().join(".tcat").exists());
    let kept: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(answer.stdout.contains(&format!("kept in {}", kept[0].display())), "{}", answer.stdout);
    assert!(kept[0].join("Knoten 2/Médias partagés/à la mer/photo 1.jpg").is_file());
}

#[test]
fn a_number_of_nodes_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for number in ["0", "1", "9", "many"] {
        let mut command = demo(folder.path());
        command.args(["--nodes", number]);
        run_to_end(command, LIMIT).failed_with(2, &[number]);
    }
    assert!(is_empty(folder.path()));
}

/// Processes whose command line or environment names `folder`.
#[cfg(target_os = "linux")]
fn processes_in(folder: &Path) -> Vec<String> {
    let needle = folder.to_str().unwrap().as_bytes();
    let holds =
        |file: &Path| fs::read(file).is_ok_and(|text| text.windows(needle.len()).any(|part| part == needle));
    let pids = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let numbered = pids
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok()));
    let ours = numbered.filter(|path| holds(&path.join("environ")) && !is_zombie(path));
    ours.map(|path| path.display().to_string()).collect()
}

#[cfg(target_os = "linux")]
fn is_zombie(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
}

#[cfg(target_os = "linux")]
#[test]
fn no_process_outlives_the_demo_however_it_ends() {
    for signal in ["-KILL", "-INT", "-TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = demo(folder.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        // The demo itself, its guard and two nodes.
        while processes_in(folder.path()).len() < 4 {
            assert!(child.try_wait().unwrap().is_none(), "the demo ended early");
            assert!(Instant::now() < deadline, "no nodes were started");
            thread::sleep(Duration::from_millis(20));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !processes_in(folder.path()).is_empty() {
            assert!(Instant::now() < deadline, "{signal}: {:?}", processes_in(folder.path()));
            thread::sleep(Duration::from_millis(20));
        }
        // SIGKILL leaves no time to tidy up; the others do.
        assert!(signal == "-KILL" || is_empty(folder.path()), "{signal} leaves the folder");
    }
}
