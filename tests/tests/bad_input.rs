//! Bad input: each gives one clear line (what, why, what to do) and the right exit status, keeps the rest going, and
//! loses nothing.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tcat::demo::verify::hash_bytes;
use tcat_tests::node::{only_file, run_to_end};
use tcat_tests::{Laboratory, Node, Random};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every file below a folder, with its bytes: to prove that a refused command changed nothing.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let bytes = fs::read(&entry).unwrap();
                files.insert(entry, bytes);
            }
        }
    }
    files
}

/// Root may do what permissions forbid, so tests of permissions say nothing then.
fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[test]
fn a_media_folder_that_does_not_exist_is_named_and_nothing_is_made() {
    let laboratory = Laboratory::new();
    let node = laboratory.node("anna");
    let missing = laboratory.root().join("no such folder");
    node.tcat(&["init", "--media", text(&missing)]).failed_with(1, &["no such folder"]);
    assert!(!missing.exists());
}

#[test]
fn a_media_folder_that_is_a_file_is_refused() {
    let laboratory = Laboratory::new();
    let node = laboratory.node("anna");
    let file = laboratory.root().join("picture.jpg");
    fs::write(&file, "x").unwrap();
    node.tcat(&["init", "--media", text(&file)]).failed_with(1, &["picture.jpg"]);
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[cfg(unix)]
#[test]
fn a_media_folder_that_is_not_writable_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    if is_root() {
        eprintln!("left out: root may write everywhere");
        return;
    }
    let laboratory = Laboratory::new();
    let node = laboratory.node("anna");
    fs::set_permissions(&node.media, fs::Permissions::from_mode(0o555)).unwrap();
    node.tcat(&["init", "--media", text(&node.media)]).failed_with(1, &["Médias"]);
    fs::set_permissions(&node.media, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_media_folder_of_another_node_or_inside_one_is_refused_and_left_as_it_is() {
    let laboratory = Laboratory::new();
    let anna = laboratory.node("anna");
    anna.init();
    fs::create_dir(anna.file("2024")).unwrap();
    fs::write(anna.file("2024/a.jpg"), "a").unwrap();
    let before = snapshot(&anna.media);
    let ben = laboratory.node("ben");
    ben.tcat(&["init", "--media", text(&anna.media)]).failed_with(1, &["Médias"]);
    ben.tcat(&["init", "--media", text(&anna.file("2024"))]).failed_with(1, &["2024"]);
    assert_eq!(snapshot(&anna.media), before);
}

#[test]
fn a_media_folder_around_another_nodes_is_refused() {
    let laboratory = Laboratory::new();
    let anna = laboratory.node("anna");
    anna.init();
    let ben = laboratory.node("ben");
    let around = anna.media.parent().unwrap();
    let answer = ben.tcat(&["init", "--media", text(around)]);
    // What lies in another node's folder must not become ben's as well.
    answer.failed_with(1, &["anna"]);
}

#[test]
fn a_catalog_that_cannot_be_reached_is_named() {
    let laboratory = Laboratory::new();
    let node = laboratory.node("anna");
    let catalog = format!("sqlite:{}", text(&laboratory.root().join("no/such/folder/catalog.db")));
    let media = text(&node.media).to_owned();
    node.tcat(&["init", "--media", &media, "--catalog", &catalog]).failed_with(1, &["catalog"]);
    node.tcat(&["init", "--media", &media, "--catalog", "mysql://x"]).failed_with(1, &["mysql", "sqlite:"]);
    assert!(!node.file(".tcat").exists(), "a refused init leaves no marker");
}

/// Needs a mount namespace, in which the catalog's disk is not there.
#[cfg(target_os = "linux")]
#[test]
fn join_refuses_a_workgroup_whose_catalog_or_objects_this_machine_cannot_reach() {
    if !can_mount() {
        return;
    }
    let laboratory = Laboratory::new();
    let mut anna = laboratory.node("anna");
    // Kept outside of her home, where members must reach them by themselves.
    let (kept, objects) = (laboratory.root().join("kept"), laboratory.root().join("objects"));
    fs::create_dir(&kept).unwrap();
    let urls = [format!("sqlite:{}", text(&kept.join("catalog.db"))), format!("file:{}", text(&objects))];
    let stores = ["--catalog", &urls[0], "--objects", &urls[1]];
    anna.tcat(&[&["init", "--media", text(&anna.media), "--name", "anna"], &stores[..]].concat()).succeeded();
    anna.configure(&[]);
    anna.start();
    let ben = laboratory.node("ben");
    for (hidden, word) in [(kept, "catalog"), (objects, "object")] {
        let code = anna.invite();
        let tcat = ben.command(&["join", &code, "--media", text(&ben.media), "--peer", &anna.address()]);
        let mut command = in_mount_namespace("mount -t tmpfs tcat \"$1\" && shift && exec \"$@\"");
        laboratory.group().enrol(&mut command);
        command.arg(&hidden).arg(tcat.get_program()).args(tcat.get_args());
        run_to_end(command, Duration::from_secs(60)).failed_with(1, &[word]);
        assert!(!ben.file(".tcat").exists(), "a refused join leaves no marker");
    }
    ben.join(&anna.invite(), &[&anna]);
}

#[cfg(target_os = "linux")]
fn can_mount() -> bool {
    let can = Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|status| status.success());
    if !can {
        eprintln!("left out: no mount namespace can be had here");
    }
    can
}

/// `sh -c script sh`, to be given arguments, where mounts are nobody else's.
#[cfg(target_os = "linux")]
fn in_mount_namespace(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", script, "sh"]).stdin(std::process::Stdio::null());
    command
}

#[test]
fn a_code_that_is_garbage_wrong_or_of_another_workgroup_is_refused() {
    let laboratory = Laboratory::new();
    let (mut anna, mut carl) = (laboratory.node("anna"), laboratory.node("carl"));
    for node in [&mut anna, &mut carl] {
        node.init();
        node.start();
    }
    let ben = laboratory.node("ben");
    let join = |code: &str, at: &Node<'_>| {
        ben.tcat(&["join", code, "--media", text(&ben.media), "--name", "ben", "--peer", &at.address()])
    };
    for garbage in ["x", "417-", "ÄÖÜ", "417-aaaa-bbbb-cccc", &"y".repeat(5000)] {
        let answer = join(garbage, &anna);
        assert!(matches!(answer.status, Some(1 | 2)), "{garbage:?}: {answer:?}");
        answer.clone().failed_with(answer.status.unwrap(), &["code"]);
    }
    let code = anna.invite();
    // One word wrong: the code is good for one attempt, so the right one comes too late.
    let (front, last) = code.rsplit_once('-').unwrap();
    let wrong = format!("{front}-{}", if last == "zebra" { "orbit" } else { "zebra" });
    join(&wrong, &anna).failed_with(1, &["words of the code are wrong", "tcat invite"]);
    join(&code, &anna).failed_with(1, &["tcat invite"]);
    let code = anna.invite();
    // Anna is away, and at carl's door her code is of another workgroup.
    anna.stop();
    let answer = join(&code, &carl);
    assert_eq!(answer.status, Some(1), "{answer:?}");
    assert_eq!(answer.stderr.trim_end().lines().count(), 1, "{answer:?}");
    assert!(!ben.home.join("config.toml").exists(), "a refused join leaves no home");
    anna.start();
    join(&anna.invite(), &anna).succeeded();
}

#[test]
fn a_node_that_is_not_running_is_said_in_one_line() {
    let laboratory = Laboratory::new();
    let node = laboratory.node("anna");
    node.tcat(&["status"]).failed_with(1, &["home"]);
    node.init();
    for command in [["status"], ["wait"], ["scan"], ["invite"]] {
        node.tcat(&command).failed_with(1, &["tcat run"]);
    }
}

#[test]
fn wrong_usage_and_unknown_settings_end_with_status_2() {
    let laboratory = Laboratory::new();
    let node = laboratory.node("anna");
    node.tcat(&["frobnicate"]).failed_with(2, &["frobnicate"]);
    node.tcat(&["init"]).failed_with(2, &["--media"]);
    node.init();
    let config = node.home.join("config.toml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("lease_seconds = 10\n{good}")).unwrap();
    node.tcat(&["run"]).failed_with(2, &["lease_seconds", "config.toml"]);
    fs::write(&config, format!("lease_ms = \"long\"\n{good}")).unwrap();
    node.tcat(&["run"]).failed_with(2, &["config.toml"]);
}

/// The databases that a stopped node keeps, by how their names end.
const DATABASES: [&str; 2] = [".redb", "catalog.db"];

#[test]
fn a_corrupt_database_is_named_and_kept_as_it_is() {
    for ending in DATABASES {
        let laboratory = Laboratory::new();
        let mut node = laboratory.node("anna");
        node.init();
        node.start();
        node.save("a.jpg", b"picture");
        node.settle();
        node.stop();
        let databases: Vec<PathBuf> = fs::read_dir(&node.home)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| text(path).ends_with(ending))
            .collect();
        assert!(!databases.is_empty());
        for database in databases {
            let good = fs::read(&database).unwrap();
            let garbage: Vec<u8> = good.iter().map(|byte| byte ^ 0x5a).collect();
            fs::write(&database, &garbage).unwrap();
            let name = database.file_name().unwrap().to_str().unwrap();
            node.tcat(&["run"]).failed_with(1, &[name]);
            assert_eq!(fs::read(&database).unwrap(), garbage, "{name} is not made anew: it may be mended");
            fs::write(&database, &good).unwrap();
        }
        node.start();
        node.settle();
        assert_eq!(fs::read(node.file("a.jpg")).unwrap(), b"picture");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_left_alone_and_the_rest_goes_on() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    let outside = laboratory.root().join("outside.jpg");
    fs::write(&outside, "never to be shared").unwrap();
    std::os::unix::fs::symlink(&outside, anna.file("link.jpg")).unwrap();
    std::os::unix::fs::symlink(laboratory.root(), anna.file("link to a folder")).unwrap();
    std::os::unix::fs::symlink("nowhere", anna.file("dangling.jpg")).unwrap();
    let made = Command::new("mkfifo").arg(anna.file("pipe.jpg")).status();
    assert!(made.unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(anna.file("s.jpg")).unwrap();
    let files = BTreeMap::from([("a.jpg".to_owned(), anna.save("a.jpg", b"a picture"))]);
    anna.tcat(&["scan"]).succeeded();
    anna.settle();
    ben.settle();
    for name in ["link.jpg", "link to a folder", "dangling.jpg", "pipe.jpg", "s.jpg"] {
        assert!(fs::symlink_metadata(anna.file(name)).is_ok(), "{name} is still anna's");
        assert!(fs::symlink_metadata(ben.file(name)).is_err(), "{name} is not ben's");
        fs::remove_file(anna.file(name)).unwrap();
    }
    anna.stop();
    ben.stop();
    laboratory.judge(&anna, &[&anna, &ben], &files);
}

#[cfg(unix)]
#[test]
fn an_unreadable_file_is_shown_and_the_rest_goes_on() {
    use std::os::unix::fs::PermissionsExt;
    if is_root() {
        eprintln!("left out: root may read everything");
        return;
    }
    let laboratory = Laboratory::new();
    let (anna, ben) = laboratory.pair();
    anna.save("closed.jpg", b"secret");
    fs::set_permissions(anna.file("closed.jpg"), fs::Permissions::from_mode(0o000)).unwrap();
    anna.save("open.jpg", b"open");
    let said = anna.tcat(&["scan", "--json"]).succeeded();
    assert!(said.contains("closed.jpg"), "{said}");
    anna.settle();
    ben.settle();
    assert_eq!(fs::read(ben.file("open.jpg")).unwrap(), b"open");
    assert!(!ben.file("closed.jpg").exists());
    fs::set_permissions(anna.file("closed.jpg"), fs::Permissions::from_mode(0o644)).unwrap();
    anna.tcat(&["scan"]).succeeded();
    anna.settle();
    ben.settle();
    assert_eq!(fs::read(ben.file("closed.jpg")).unwrap(), b"secret");
}

#[test]
fn files_that_vanish_or_grow_while_they_are_read_do_no_harm() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    let mut random = Random::new();
    let end = Instant::now() + Duration::from_secs(4);
    let mut growing = fs::File::create(anna.file("growing.mov")).unwrap();
    let mut grown = Vec::new();
    while Instant::now() < end {
        let bytes = random.bytes(300_000);
        growing.write_all(&bytes).unwrap();
        grown.extend(bytes);
        let name = anna.file("fleeting.jpg");
        fs::write(&name, random.bytes(200_000)).unwrap();
        std::thread::sleep(Duration::from_millis(random.below(150)));
        fs::remove_file(&name).unwrap();
        assert!(!ben.file("growing.mov").exists(), "a file that still grows is nobody's item");
    }
    drop(growing);
    assert!(anna.is_running(), "{}", anna.said());
    let mut files = BTreeMap::from([("growing.mov".to_owned(), hash_bytes(&grown))]);
    files.insert("steady.jpg".into(), anna.save("steady.jpg", b"steady"));
    anna.settle();
    ben.settle();
    anna.stop();
    ben.stop();
    laboratory.judge(&anna, &[&anna, &ben], &files);
}

/// Needs a mount namespace: a small disk of ben's own.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_shown_and_what_fits_arrives_whole() {
    const SMALL_DISK: &str = "mount -t tmpfs -o size=24m tcat \"$1\" && mkdir \"$1/media\" && shift && \
                              \"$@\" --media \"$DISK/media\" && exec \"$1\" \"$2\" \"$3\" \"$4\" \"$5\" run";
    if !can_mount() {
        return;
    }
    let laboratory = Laboratory::new();
    let mut anna = laboratory.node("anna");
    anna.init();
    anna.start();
    let mut ben = laboratory.node("ben");
    let disk = laboratory.root().join("small disk");
    fs::create_dir(&disk).unwrap();
    let tcat = ben.command(&["join", &anna.invite(), "--name", "ben", "--peer", &anna.address()]);
    let mut command = in_mount_namespace(SMALL_DISK);
    laboratory.group().enrol(&mut command);
    command.arg(&disk).env("DISK", &disk);
    command.arg(tcat.get_program()).args(tcat.get_args());
    ben.start_by(command);
    let mut random = Random::new();
    let mut small = Vec::new();
    for index in 0..6 {
        let name = format!("small {index}.jpg");
        anna.save(&name, &random.bytes(500_000));
        small.push(name);
    }
    anna.save("too large.mov", &random.bytes(40_000_000));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = ben.status();
        let is_told =
            status.tasks.iter().filter_map(|task| task.error.as_deref()).any(|why| why.contains("space"));
        if status.media.settled as usize >= small.len() && is_told {
            break;
        }
        assert!(Instant::now() < deadline, "{status:?}\n{}", ben.said());
        std::thread::sleep(Duration::from_millis(200));
    }
    for name in &small {
        let md5 = tcat::demo::verify::hash_file(&anna.file(name)).unwrap().0;
        let shown = ben.tcat(&["show", "--json", name]).succeeded();
        assert!(shown.contains(&hex(&md5)), "{name}: {shown}");
    }
    assert!(ben.is_running());
}

#[cfg(target_os = "linux")]
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_stranger_that_talks_nonsense_is_dropped_and_the_members_go_on() {
    let laboratory = Laboratory::new();
    let (anna, ben) = laboratory.pair();
    let mut random = Random::new();
    for size in [0, 1, 100, 100_000] {
        let mut stream = TcpStream::connect(anna.address()).unwrap();
        // The node may hang up in the middle of it.
        let _ = stream.write_all(&random.bytes(size));
    }
    anna.save("a.jpg", b"picture");
    anna.settle();
    ben.settle();
    assert_eq!(fs::read(ben.file("a.jpg")).unwrap(), b"picture");
}

#[test]
fn no_log_line_carries_a_secret() {
    let laboratory = Laboratory::new();
    let mut anna = laboratory.node("anna");
    anna.init();
    anna.start_by(anna.command(&["run", "-vv"]));
    let code = anna.invite();
    let mut ben = laboratory.node("ben");
    ben.join(&code, &[&anna]);
    ben.start_by(ben.command(&["run", "-vv"]));
    anna.save("a.jpg", b"picture");
    anna.settle();
    ben.settle();
    for node in [&mut anna, &mut ben] {
        node.stop();
        let mut said = node.said().into_bytes();
        for bytes in snapshot(&node.home.join("log")).into_values() {
            said.extend(bytes);
        }
        let said = String::from_utf8_lossy(&said).to_lowercase();
        assert!(!said.is_empty());
        let mut secrets = vec![code.to_lowercase()];
        for ending in ["identity.key", "token", ".key"] {
            let paths = fs::read_dir(&node.home).unwrap().map(|entry| entry.unwrap().path());
            for path in paths.filter(|path| text(path).ends_with(ending)) {
                let bytes = fs::read(&path).unwrap();
                secrets.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
                secrets.extend(String::from_utf8(bytes).ok().map(|secret| secret.trim().to_lowercase()));
            }
        }
        for secret in secrets.iter().filter(|secret| secret.len() >= 16) {
            assert!(!said.contains(secret.as_str()), "{}'s log tells {secret}", node.name);
        }
    }
}

#[test]
fn a_second_node_in_the_same_home_is_refused() {
    let laboratory = Laboratory::new();
    let mut anna = laboratory.node("anna");
    anna.init();
    anna.start();
    anna.tcat(&["run"]).failed_with(1, &["running"]);
    assert!(anna.is_running());
    let key = only_file(&anna.home, "identity.key");
    anna.tcat(&["init", "--media", text(&anna.media)]).failed_with(1, &[]);
    assert!(key.is_file());
}
