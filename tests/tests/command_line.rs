//! The command line as a whole: what `tcat` offers is what the contracts promise, and it says when it is not settled.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tcat_tests::node::run_to_end;
use tcat_tests::{Laboratory, program};

#[test]
fn every_command_that_tcat_offers_is_in_the_contracts() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/contracts.md");
    let page = std::fs::read_to_string(page).unwrap();
    let help = run_to_end(
        {
            let mut command = Command::new(program());
            command.arg("--help");
            command
        },
        Duration::from_secs(10),
    )
    .succeeded();
    let list = help.split("Commands:").nth(1).unwrap();
    let commands: Vec<&str> = list
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| line.chars().nth(2).is_some_and(|c| c.is_ascii_lowercase()))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    for promised in ["demo", "init", "invite", "join", "run", "scan", "show", "status", "wait"] {
        assert!(commands.contains(&promised), "{promised} is not in the help: {commands:?}");
    }
    for command in commands {
        let row = page.lines().find(|line| line.starts_with(&format!("| `tcat {command}")));
        let row = row.unwrap_or_else(|| panic!("docs/contracts.md has no row for {command}"));
        assert!(row.ends_with("| today |"), "{row}");
    }
}

#[test]
fn wait_says_with_status_3_that_it_is_not_settled() {
    let laboratory = Laboratory::new();
    let mut anna = laboratory.node("anna");
    anna.init();
    anna.start();
    // A file that never comes to rest while tcat waits.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let path = anna.file("restless.mov");
        std::fs::write(&path, "0").unwrap();
        scope.spawn(|| {
            let mut count = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                count += 1;
                std::fs::write(anna.file("restless.mov"), "x".repeat((count % 1000) as usize)).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let answer = anna.tcat(&["wait", "--timeout", "2s"]);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(answer.status, Some(3), "{answer:?}");
    });
    anna.settle();
}

#[test]
fn init_and_status_speak_json_with_the_names_of_the_contract() {
    let laboratory = Laboratory::new();
    let mut anna = laboratory.node("anna");
    anna.init();
    anna.start();
    anna.save("a.jpg", b"picture");
    anna.settle();
    let status = anna.status();
    assert_eq!((status.client.name.as_str(), status.media.total, status.settled), ("anna", 1, true));
    let shown = anna.tcat(&["--json", "show", "a.jpg"]).succeeded();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["tcat_media"]["state"], "active");
    assert_eq!(shown["tcat_import"]["source"], "anna");
    assert_eq!(shown["copies"][0]["path"], "a.jpg");
    assert_eq!(shown["tcat_media"]["md5"], shown["copies"][0]["md5"]);
}
