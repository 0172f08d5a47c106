//! Whoever may write in the media folder puts links into it while nodes work: nothing outside is touched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tcat_tests::hostile::Scene;
use tcat_tests::{Laboratory, Node};

/// All that lies outside, with its bytes.
fn snapshot(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap_or_default())
        })
        .collect();
    all.sort();
    all
}

/// Turns a folder of ben's into a link to outside and back, as fast as it goes.
fn swap(node: &Node<'_>, outside: &Path, stop: &AtomicBool) {
    let (folder, hidden) = (node.file("2026"), node.file(".hidden"));
    while !stop.load(Ordering::Relaxed) {
        if fs::rename(&folder, &hidden).is_ok() {
            let _ = symlink(outside, &folder);
            thread::sleep(Duration::from_millis(3));
            let _ = fs::remove_file(&folder);
            let _ = fs::rename(&hidden, &folder);
        }
        thread::sleep(Duration::from_millis(3));
    }
    // Whatever tcat made in its place meanwhile is its own folder: what is in both belongs into one.
    if let Ok(entries) = fs::read_dir(&hidden) {
        fs::create_dir_all(&folder).unwrap();
        for entry in entries.map(|entry| entry.unwrap()) {
            fs::rename(entry.path(), folder.join(entry.file_name())).unwrap();
        }
        fs::remove_dir(&hidden).unwrap();
    }
}

#[test]
fn a_folder_that_turns_into_a_link_while_members_write_leads_nothing_outside() {
    let laboratory = Laboratory::new();
    let mut scene = Scene::new(&laboratory);
    let outside = tempfile::tempdir().unwrap();
    for number in 0..20 {
        fs::write(outside.path().join(format!("a {number}.jpg")), format!("outside {number}")).unwrap();
    }
    let before = snapshot(outside.path());
    let stop = AtomicBool::new(false);
    fs::create_dir_all(scene.ben.file("2026")).unwrap();
    let pictures: Vec<Vec<u8>> = (0..20).map(|_| scene.bytes(30_000)).collect();
    thread::scope(|scope| {
        scope.spawn(|| swap(&scene.ben, outside.path(), &stop));
        for (number, bytes) in pictures.iter().enumerate() {
            scene.anna.save(&format!("2026/a {number}.jpg"), bytes);
            thread::sleep(Duration::from_millis(150));
        }
        thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(snapshot(outside.path()), before);
    // Nor did anything from outside come in.
    for node in [&scene.anna, &scene.ben] {
        let inside = snapshot(&node.file("2026"));
        assert!(inside.iter().all(|(_, bytes)| !bytes.starts_with(b"outside")), "{inside:?}");
    }
    for (number, bytes) in pictures.iter().enumerate() {
        scene.files.insert(format!("2026/a {number}.jpg"), tcat::demo::verify::hash_bytes(bytes));
    }
    assert_eq!(snapshot(outside.path()), before);
    scene.ends_well();
}

#[test]
fn links_in_tcats_own_folder_are_named_and_not_followed() {
    let laboratory = Laboratory::new();
    let scene = Scene::new(&laboratory);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "victim").unwrap();
    let before = snapshot(outside.path());
    let mut ben = scene.ben;
    ben.stop();
    let own = ben.media.join(".tcat");
    for name in ["tmp", "trash", "lock"] {
        let place = own.join(name);
        fs::rename(&place, own.join("kept")).unwrap();
        let target = if name == "lock" { outside.path().join("made") } else { outside.path().to_owned() };
        symlink(target, &place).unwrap();
        let answer = ben.tcat(&["run"]);
        assert_eq!(answer.status, Some(1), "{name}: {answer:?}");
        assert!(answer.stderr.contains(name) || answer.stderr.contains("regular"), "{name}: {answer:?}");
        assert_eq!(snapshot(outside.path()), before, "{name}");
        fs::remove_file(&place).unwrap();
        fs::rename(own.join("kept"), &place).unwrap();
    }
    ben.start();
    ben.settle();
}
