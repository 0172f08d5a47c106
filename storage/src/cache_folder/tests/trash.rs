//! Trash: into it, out of it, and its end.

use super::*;
use jiff::ToSpan;

fn at(day: &str) -> Timestamp {
    format!("{day}T12:00:00Z").parse().unwrap()
}

fn trash(world: &World, at: &str) -> TrashEntry {
    match world.folder.trash(&path(at), None).unwrap() {
        Trashed::Trashed(entry) => entry,
        other => panic!("{other:?}"),
    }
}

#[test]
fn trash_keeps_whole_plain_files_under_day_and_path() {
    let mut world = World::new();
    world.folder.set_clock(|| at("2026-02-28"));
    world.save("Été 1/a b.jpg", "one");
    assert_eq!(trash(&world, "Été 1/a b.jpg").path, path("Été 1/a b.jpg"));
    assert_eq!(world.files().get(".tcat/trash/2026-02-28/Été 1/a b.jpg").unwrap(), "one");
    assert!(world.place.path().join("Été 1").is_dir(), "emptied folders stay");
}

#[test]
fn a_name_taken_in_trash_gets_the_next() {
    let world = World::new();
    let mut paths = Vec::new();
    for text in ["one", "two", "three"] {
        world.save("x/a.jpg", text);
        paths.push(trash(&world, "x/a.jpg").path.to_string());
    }
    assert_eq!(paths, ["x/a.jpg", "x/a(1).jpg", "x/a(2).jpg"]);
    // A file and a folder of one name, either way round.
    fs::remove_dir(world.place.path().join("x")).unwrap();
    world.save("x", "a file now");
    assert_eq!(trash(&world, "x").path, path("x(1)"));
    world.save("y", "a file");
    trash(&world, "y");
    world.save("y/b.jpg", "in a folder now");
    assert_eq!(trash(&world, "y/b.jpg").path, path("y(1)/b.jpg"));
    for text in ["one", "two", "three", "a file now", "a file", "in a folder now"] {
        assert!(world.findable().contains(text), "{text}");
        let found = world.folder.find_in_trash(&content(text)).unwrap().unwrap();
        assert_eq!(fs::read_to_string(world.folder.place_in_trash(&found)).unwrap(), text);
    }
}

#[test]
fn only_the_expected_content_is_trashed() {
    let world = World::new();
    world.save("a.jpg", "mine");
    let done = world.folder.trash(&path("a.jpg"), Some(&content("other"))).unwrap();
    assert_eq!(done, Trashed::Differs(content("mine")));
    assert_eq!(world.read("a.jpg").unwrap(), "mine");
    let done = world.folder.trash(&path("a.jpg"), Some(&content("mine"))).unwrap();
    assert!(matches!(done, Trashed::Trashed(_)));
    let done = world.folder.trash(&path("a.jpg"), Some(&content("mine"))).unwrap();
    assert_eq!(done, Trashed::Absent);
    assert_eq!(world.folder.trash(&path("no/folder.jpg"), None).unwrap(), Trashed::Absent);
}

#[test]
fn what_is_saved_while_a_file_is_trashed_is_not_lost() {
    let mut world = World::new();
    let place = world.folder.place_of(&path("a.jpg"));
    world.save("a.jpg", "mine");
    let saved = place.clone();
    world.folder.stop_at(move |step| {
        if step == "confirmed" {
            fs::write(&saved, "mine, changed").unwrap();
        }
        false
    });
    let trash = |world: &World| world.folder.trash(&path("a.jpg"), Some(&content("mine"))).unwrap();
    assert_eq!(trash(&world), Trashed::Differs(content("mine, changed")));
    assert_eq!(world.read("a.jpg").unwrap(), "mine, changed");
    world.save("a.jpg", "mine");
    world.folder.stop_at(move |step| {
        match step {
            "confirmed" => fs::write(&place, "changed again").unwrap(),
            "in trash" => fs::write(&place, "and a new one").unwrap(),
            _ => {}
        }
        false
    });
    assert_eq!(trash(&world), Trashed::KeptBeside(path("a (edit 1).jpg")));
    assert_eq!(world.read("a.jpg").unwrap(), "and a new one");
    assert_eq!(world.read("a (edit 1).jpg").unwrap(), "changed again");
}

#[test]
fn a_content_is_found_in_trash_and_restored_without_replacing() {
    let mut world = World::new();
    for (day, text) in [("2026-01-01", "same size 1"), ("2026-01-02", "same size 2")] {
        world.folder.set_clock(move || at(day));
        world.save("a.jpg", text);
        trash(&world, "a.jpg");
    }
    assert_eq!(world.folder.find_in_trash(&content("same size 3")).unwrap(), None);
    let entry = world.folder.find_in_trash(&content("same size 1")).unwrap().unwrap();
    assert_eq!(entry.date.to_string(), "2026-01-01");
    let restore =
        |text: &str, to: &str| world.folder.restore(&entry, Some(&content(text)), &path(to)).unwrap();
    assert_eq!(restore("same size 2", "b.jpg"), Restored::Differs);
    world.save("b.jpg", "taken");
    assert_eq!(restore("same size 1", "b.jpg"), Restored::Occupied);
    assert!(matches!(restore("same size 1", "new folder/b.jpg"), Restored::Restored(_)));
    assert_eq!(restore("same size 1", "c.jpg"), Restored::Absent);
    assert_eq!(world.read("new folder/b.jpg").unwrap(), "same size 1");
    assert_eq!(world.read("b.jpg").unwrap(), "taken");
    assert_eq!(world.folder.trash_entries(10).unwrap().len(), 1);
    assert_eq!(world.folder.trash_entries(0).unwrap().len(), 0);
}

#[test]
fn trash_ends_after_its_days_and_not_before() {
    let mut world = World::new();
    let old = Timestamp::now().checked_sub(24_000.hours()).unwrap();
    world.folder.set_clock(move || old);
    for name in ["x/y/a.jpg", "x/b.jpg"] {
        world.save(name, name);
        let place = world.folder.place_of(&path(name));
        let file = fs::File::options().write(true).open(place).unwrap();
        file.set_modified(std::time::SystemTime::from(old) - std::time::Duration::from_secs(86_400)).unwrap();
        trash(&world, name);
    }
    for (days, left) in [(0, 2), (30, 2)] {
        assert_eq!(world.folder.expire(days).unwrap().files, 0);
        assert_eq!(world.folder.trash_entries(9).unwrap().len(), left);
    }
    let expiry = |world: &mut World, days_later: i64| {
        world.folder.set_clock(move || old.checked_add((24 * days_later).hours()).unwrap());
        world.folder.expire(30).unwrap()
    };
    assert_eq!(expiry(&mut world, 30).files, 0, "thirty days are not more than thirty days");
    assert_eq!(world.folder.expire(u32::MAX).unwrap(), Expired::default());
    assert_eq!(expiry(&mut world, 31), Expired { files: 2, bytes: 16 });
    let trash = world.place.path().join(".tcat/trash");
    assert_eq!(fs::read_dir(trash).unwrap().count(), 0, "emptied days are removed");
}

#[test]
fn a_file_that_is_edited_in_trash_does_not_end_with_its_day() {
    let mut world = World::new();
    let old = Timestamp::now().checked_sub(2_400.hours()).unwrap();
    world.folder.set_clock(move || old);
    world.save("a.jpg", "one");
    let entry = trash(&world, "a.jpg");
    world.folder.set_clock(Timestamp::now);
    fs::write(world.folder.place_in_trash(&entry), "saved by an editor that still had it open").unwrap();
    assert_eq!(world.folder.expire(30).unwrap().files, 0);
    assert_eq!(world.folder.trash_entries(9).unwrap().len(), 1);
}

#[cfg(unix)]
#[test]
fn what_is_not_ours_in_trash_is_neither_listed_nor_removed_nor_followed() {
    let world = World::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("a.jpg"), "precious").unwrap();
    let trash = world.place.path().join(".tcat/trash");
    fs::create_dir_all(trash.join("2001-01-01/sub")).unwrap();
    fs::create_dir_all(trash.join("2001-1-1")).unwrap();
    fs::create_dir_all(trash.join("my own")).unwrap();
    fs::write(trash.join("my own/a.jpg"), "precious").unwrap();
    fs::write(trash.join("2001-1-1/a.jpg"), "precious").unwrap();
    std::os::unix::fs::symlink(outside.path(), trash.join("2001-01-01/link")).unwrap();
    std::os::unix::fs::symlink(outside.path(), trash.join("2001-01-02")).unwrap();
    assert_eq!(world.folder.trash_entries(9).unwrap(), []);
    world.folder.expire(1).unwrap();
    assert!(outside.path().join("a.jpg").exists());
    assert!(trash.join("my own/a.jpg").exists() && trash.join("2001-1-1/a.jpg").exists());
}

/// Trashes "old" under an editor that keeps it open.
fn trash_under_an_editor(world: &World) -> fs::File {
    world.save("x/a.jpg", "old");
    let editor = fs::File::options().write(true).open(world.folder.place_of(&path("x/a.jpg"))).unwrap();
    // Longer than a tick of the clock that stamps files, as the quiet time is.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let done = world.folder.trash(&path("x/a.jpg"), Some(&content("old"))).unwrap();
    assert!(matches!(done, Trashed::Trashed(_)));
    editor
}

#[test]
fn what_an_editor_writes_into_a_file_in_trash_becomes_a_version_beside_it() {
    for restart in [false, true] {
        let mut world = World::new();
        let mut editor = trash_under_an_editor(&world);
        world.save("x/b.jpg", "other");
        std::thread::sleep(std::time::Duration::from_millis(20));
        world.folder.trash(&path("x/b.jpg"), None).unwrap();
        assert_eq!(world.folder.keep_changed_in_trash(0).unwrap(), [], "nothing was written yet");
        std::io::Write::write_all(&mut editor, b"new").unwrap();
        drop(editor);
        if restart {
            world = world.restarted();
        }
        let kept_as = path("x/a (edit 1).jpg");
        let kept = KeptFromTrash { path: path("x/a.jpg"), kept_as };
        assert_eq!(world.folder.keep_changed_in_trash(0).unwrap(), [kept]);
        assert_eq!(world.read("x/a (edit 1).jpg").unwrap(), "new");
        assert_eq!(world.folder.keep_changed_in_trash(0).unwrap(), []);
        assert_eq!(world.visible().len(), 1, "what nobody wrote to stays in trash");
    }
}

#[test]
fn a_file_in_trash_that_is_still_written_to_is_left_until_it_is_quiet() {
    let world = World::new();
    let mut editor = trash_under_an_editor(&world);
    std::io::Write::write_all(&mut editor, b"new").unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        while stopped.recv_timeout(std::time::Duration::from_millis(2)).is_err() {
            std::io::Write::write_all(&mut editor, b".").unwrap();
        }
    });
    assert_eq!(world.folder.keep_changed_in_trash(40).unwrap(), []);
    stop.send(()).unwrap();
    writer.join().unwrap();
    assert_eq!(world.folder.keep_changed_in_trash(1).unwrap().len(), 1);
}

#[test]
fn trash_above_its_size_ends_with_the_oldest_but_not_with_what_was_written_there() {
    let mut world = World::new();
    for (day, name) in [("2026-01-01", "a.jpg"), ("2026-01-02", "b.jpg"), ("2026-01-03", "c.jpg")] {
        world.folder.set_clock(move || at(day));
        world.save(name, "0123456789");
        std::thread::sleep(std::time::Duration::from_millis(20));
        world.folder.trash(&path(name), Some(&content("0123456789"))).unwrap();
    }
    assert_eq!(world.folder.expire_above(30).unwrap(), Expired::default());
    let oldest = world.folder.trash_entries(9).unwrap().pop().unwrap();
    fs::write(world.folder.place_in_trash(&oldest), "an edit...").unwrap();
    assert_eq!(world.folder.expire_above(10).unwrap(), Expired { files: 1, bytes: 10 });
    let left: Vec<_> = world.folder.trash_entries(9).unwrap().iter().map(|e| e.path.to_string()).collect();
    assert_eq!(left, ["c.jpg", "a.jpg"]);
}
