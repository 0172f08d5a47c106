//! The real program: exit statuses, one-line messages, and what init leaves behind. Nothing here uses a
//! network.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("tcat é ").tempdir().unwrap();
        fs::create_dir(folder.path().join("media")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tcat(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tcat"))
            .args(words)
            .current_dir(self.folder.path())
            .env("TCAT_HOME", self.path("home"))
            .env_remove("TCAT_LOG")
            .output()
            .unwrap()
    }

    fn init(&self) -> Output {
        self.tcat(&["init", "--media", "media", "--name", "anna", "--workgroup", "films"])
    }

    /// Every file and folder below the scene, relative, sorted.
    fn everything(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                found.push(path.strip_prefix(self.folder.path()).unwrap().display().to_string());
                if entry.file_type().unwrap().is_dir() {
                    folders.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line of a failure with this exit status.
#[track_caller]
fn line(output: &Output, status: i32) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert_eq!(text.lines().count(), 1, "not one line: {text}");
    assert!(text.starts_with("tcat: "), "{text}");
    assert!(output.stdout.is_empty(), "{}", stdout(output));
    text
}

#[track_caller]
fn fails(output: &Output, status: i32, parts: &[&str]) {
    let text = line(output, status);
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn a_wrong_command_line_is_one_line_and_exit_status_2() {
    let scene = Scene::new();
    fails(&scene.tcat(&["frobnicate"]), 2, &["frobnicate", "tcat --help"]);
    fails(&scene.tcat(&["init"]), 2, &["--media <DIR>", "tcat init --help"]);
    fails(&scene.tcat(&["status", "--homme", "x"]), 2, &["--homme"]);
    fails(&scene.tcat(&["wait", "--timeout", "soon"]), 2, &["soon", "60s"]);
    fails(&scene.tcat(&["wait", "--timeout", "-1s"]), 2, &[]);
    fails(&scene.tcat(&["show"]), 2, &["<ITEM>"]);
    fails(&scene.tcat(&["join", "x", "--media", "media", "--peer", "nowhere"]), 2, &["HOST:PORT"]);
    fails(&scene.tcat(&["init", "--media", "media", "--name", " a"]), 2, &["--name"]);
    fails(&scene.tcat(&["init", "--media", "media", "--workgroup", ""]), 2, &["--workgroup"]);
    assert_eq!(scene.everything(), ["media"]);
}

#[test]
fn help_and_version_are_answers() {
    let scene = Scene::new();
    for words in [&["--help"][..], &["help", "join"], &["init", "--help"], &["--version"]] {
        let output = scene.tcat(words);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
    }
    for command in ["init", "invite", "join", "run", "status", "wait", "scan", "show", "demo"] {
        let help = stdout(&scene.tcat(&[command, "--help"]));
        assert!(help.contains("Example:") && help.contains(&format!("tcat {command}")), "{command}: {help}");
    }
    assert_eq!(scene.tcat(&[]).status.code(), Some(2));
}

#[test]
fn without_a_running_node_every_question_says_so() {
    let scene = Scene::new();
    for words in [&["status"][..], &["wait"], &["scan"], &["show", "a.jpg"], &["invite"]] {
        fails(&scene.tcat(words), 1, &["there is no tcat home", "tcat init"]);
    }
    assert_eq!(scene.init().status.code(), Some(0));
    for words in [&["status"][..], &["wait"], &["scan", "--json"], &["show", "a.jpg"], &["invite"]] {
        fails(&scene.tcat(words), 1, &["is not running", "`tcat run`"]);
    }
    // What a crash left behind changes nothing.
    fs::write(scene.path("home/control.json"), r#"{"address":"127.0.0.1:9","pid":1}"#).unwrap();
    fails(&scene.tcat(&["status"]), 1, &["is not running"]);
}

#[test]
fn init_makes_a_home_and_says_what_to_do_next() {
    let scene = Scene::new();
    fs::write(scene.path("media/a.jpg"), "mine").unwrap();
    let output = scene.init();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["films", "anna", "catalog.db", "Next: tcat "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for file in ["config.toml", "identity.key", "token", "catalog.db", "objects"] {
        assert!(scene.path("home").join(file).exists(), "{file}");
    }
    assert!(scene.path("media/.tcat/root.toml").exists());
    assert_eq!(fs::read_to_string(scene.path("media/a.jpg")).unwrap(), "mine");
    let config = fs::read_to_string(scene.path("home/config.toml")).unwrap();
    assert!(config.contains("name = \"anna\"") && config.contains("[[workgroup]]"), "{config}");
}

#[cfg(unix)]
#[test]
fn secrets_are_for_their_owner_alone_and_in_no_other_file() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    assert_eq!(scene.init().status.code(), Some(0));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&scene.path("home")), 0o700);
    let home = fs::read_dir(scene.path("home")).unwrap().flatten().map(|entry| entry.path());
    let keys: Vec<PathBuf> = home.filter(|path| path.extension().is_some_and(|e| e == "key")).collect();
    assert_eq!(keys.len(), 2, "identity.key and the workgroup's");
    let config = fs::read_to_string(scene.path("home/config.toml")).unwrap();
    for path in keys.iter().chain([&scene.path("home/token")]) {
        assert_eq!(mode(path), 0o600, "{}", path.display());
        let secret = fs::read_to_string(path).unwrap();
        assert!(!config.contains(secret.split_whitespace().last().unwrap()));
    }
}

#[test]
fn a_second_init_of_a_home_says_so_and_changes_nothing() {
    let scene = Scene::new();
    assert_eq!(scene.init().status.code(), Some(0));
    fs::create_dir(scene.path("media 2")).unwrap();
    let before = (scene.everything(), fs::read(scene.path("home/config.toml")).unwrap());
    fails(&scene.init(), 1, &["is a home already", "films", "`tcat run`"]);
    fails(&scene.tcat(&["init", "--media", "media 2"]), 1, &["is a home already"]);
    fails(&scene.tcat(&["init", "--media", "media", "--workgroup", "two"]), 1, &["already"]);
    let two = ["init", "--media", "media 2", "--workgroup", "two"];
    fails(&scene.tcat(&two), 1, &["catalog is there already"]);
    assert_eq!((scene.everything(), fs::read(scene.path("home/config.toml")).unwrap()), before);
    let stores = ["--catalog", "sqlite:two.db", "--objects", "file:two"];
    let output = scene.tcat(&[&two[..], &stores].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    fails(&scene.tcat(&["status", "--workgroup", "two"]), 1, &["is not running"]);
}

#[test]
fn a_media_folder_that_cannot_be_used_is_refused_and_nothing_is_left() {
    let scene = Scene::new();
    fs::write(scene.path("file"), "").unwrap();
    let before = scene.everything();
    fails(&scene.tcat(&["init", "--media", "none"]), 1, &["none", "create it"]);
    fails(&scene.tcat(&["init", "--media", "file"]), 1, &["is not a folder"]);
    let interface = ["--interface", "none0", "init", "--media", "media"];
    fails(&scene.tcat(&interface), 1, &["no active network interface \"none0\"", "--interface"]);
    assert_eq!(scene.everything(), before);
    assert_eq!(scene.init().status.code(), Some(0));
    fs::create_dir(scene.path("media/inner")).unwrap();
    let before = scene.everything();
    let other = ["--home", "other"];
    fails(&scene.tcat(&[&["init", "--media", "media"][..], &other].concat()), 1, &["another node"]);
    fails(
        &scene.tcat(&[&["init", "--media", "media/inner"][..], &other].concat()),
        1,
        &["inside the media folder"],
    );
    fails(&scene.tcat(&[&["init", "--media", "."][..], &other].concat()), 1, &["media folder"]);
    assert_eq!(scene.everything(), before);
}

#[test]
fn a_catalog_or_object_store_that_cannot_be_used_is_refused_and_nothing_is_left() {
    let scene = Scene::new();
    fs::create_dir(scene.path("my objects")).unwrap();
    fs::write(scene.path("notes.db"), "this is no database, and long enough to be looked at").unwrap();
    let before = scene.everything();
    for (option, url) in [
        ("--catalog", "sqlite:none/catalog.db"),
        ("--catalog", "sqlite:notes.db"),
        ("--catalog", "sqlite:media"),
        ("--catalog", "sqlite:"),
        ("--catalog", "postgres://anna:secret@host/db"),
        ("--catalog", "catalog.db"),
        ("--objects", "file:notes.db"),
        ("--objects", "s3://bucket/prefix"),
        ("--objects", "file:"),
    ] {
        let text = line(&scene.tcat(&["init", "--media", "media", option, url]), 1);
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(scene.everything(), before, "{url}");
    }
    let late = ["--objects", "file:my objects", "--catalog", "sqlite:notes.db"];
    line(&scene.tcat(&[&["init", "--media", "media"][..], &late].concat()), 1);
    assert_eq!(scene.everything(), before, "what was made before the failure is gone again");
    assert_eq!(scene.init().status.code(), Some(0));
}

#[test]
fn an_init_that_was_cut_off_is_run_again_and_goes_on() {
    let scene = Scene::new();
    assert_eq!(scene.init().status.code(), Some(0));
    let identity = fs::read(scene.path("home/identity.key")).unwrap();
    // The last step did not happen.
    fs::remove_file(scene.path("home/config.toml")).unwrap();
    let output = scene.init();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(scene.path("home/identity.key")).unwrap(), identity);
}

#[test]
fn a_bad_config_is_named_by_line_and_key_with_exit_status_2() {
    let scene = Scene::new();
    assert_eq!(scene.init().status.code(), Some(0));
    let path = scene.path("home/config.toml");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("lease = 3\n{good}")).unwrap();
    fails(&scene.tcat(&["run"]), 2, &["config.toml line 1", "unknown key `lease`"]);
    fs::write(&path, format!("lease_ms = 3\n{good}")).unwrap();
    fails(&scene.tcat(&["run"]), 2, &["lease_ms = 3", "1000"]);
}

#[test]
fn run_without_a_home_says_how_to_make_one() {
    let scene = Scene::new();
    fails(&scene.tcat(&["run"]), 1, &["there is no tcat home", "tcat init"]);
    assert_eq!(scene.everything(), ["media"]);
}

#[test]
fn a_code_that_is_garbage_or_mistyped_is_refused_before_anything_is_made() {
    let scene = Scene::new();
    let before = scene.everything();
    for code in ["", "hello", "417", "417-canyon", "41-canyon-velvet-orbit", "417-é", &"x".repeat(5000)] {
        fails(&scene.tcat(&["join", code, "--media", "media"]), 1, &["cannot join", "tcat invite"]);
        assert_eq!(scene.everything(), before, "{code}");
    }
    let code = "417-canyon-velvet-orbit";
    fails(&scene.tcat(&["join", "417-canyon-velwet-orbit", "--media", "media"]), 1, &["second word"]);
    fails(&scene.tcat(&["join", code, "--media", "none"]), 1, &["media folder"]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let away = ["join", code, "--media", "media", "--peer", &nobody];
    fails(&scene.tcat(&away), 1, &["cannot be reached", &nobody]);
    assert_eq!(scene.everything(), before);
}

#[test]
fn a_bad_log_filter_is_a_usage_error() {
    let scene = Scene::new();
    assert_eq!(scene.init().status.code(), Some(0));
    let output = Command::new(env!("CARGO_BIN_EXE_tcat"))
        .args(["run", "--home"])
        .arg(scene.path("home"))
        .env("TCAT_LOG", "tcat=loud")
        .output()
        .unwrap();
    fails(&output, 2, &["TCAT_LOG"]);
}
