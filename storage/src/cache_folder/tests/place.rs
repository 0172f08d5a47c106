//! Publishing, moving and setting aside, without a crash.

use super::*;

const NAMES: [&str; 5] =
    ["a.jpg", "Été à la mer/IMG 1.jpg", "写真/2024/一.png", "deep/er/and/deeper", "no ext"];

#[test]
fn a_new_content_gets_its_name_and_its_folders() {
    let world = World::new();
    for (name, text) in NAMES.iter().zip(["1", "2", "3", "4", ""]) {
        let Ok(Published::Placed { stat: Some(stat) }) = world.publish(name, text, None, &[]) else {
            panic!("{name}")
        };
        assert_eq!(world.read(name).unwrap(), text);
        assert_eq!(stat, crate::platform::stat(&world.folder.place_of(&path(name))).unwrap().stat);
    }
    assert!(world.temporary().is_empty());
}

#[test]
fn where_absence_was_expected_nothing_is_replaced() {
    let world = World::new();
    world.save("a b/é.jpg", "a person's");
    assert_eq!(world.publish("a b/é.jpg", "ours", None, &[]).unwrap(), Published::Occupied);
    assert_eq!(world.read("a b/é.jpg").unwrap(), "a person's");
    assert_eq!(world.temporary().len(), 1, "the partial stays");
}

#[test]
fn the_expected_file_goes_to_trash_whole() {
    for exchange in [true, false] {
        let world = World::with_exchange(exchange);
        for name in NAMES {
            world.save(name, &format!("old {name}"));
            let done = world.publish(name, &format!("new {name}"), Some(&format!("old {name}")), &[]);
            let Ok(Published::Replaced { stat: Some(_), trashed }) = done else { panic!("{done:?}") };
            assert_eq!(world.read(name).unwrap(), format!("new {name}"));
            assert_eq!(trashed.path, path(name));
            let in_trash = fs::read_to_string(world.folder.place_in_trash(&trashed)).unwrap();
            assert_eq!(in_trash, format!("old {name}"));
        }
        assert!(world.temporary().is_empty(), "{:?}", world.temporary());
    }
}

#[test]
fn an_edit_is_kept_beside_and_never_overwritten() {
    for exchange in [true, false] {
        let world = World::with_exchange(exchange);
        world.save("sea/side 1.jpg", "edit");
        world.save("sea/side 1 (anna 1).jpg", "an earlier one");
        let done = world.publish("sea/side 1.jpg", "new", Some("old"), &[]).unwrap();
        let Published::Edited { stat: Some(_), kept_as } = done else { panic!("{done:?}") };
        assert_eq!(kept_as, [path("sea/side 1 (anna 2).jpg")]);
        assert_eq!(world.read("sea/side 1.jpg").unwrap(), "new");
        assert_eq!(world.read("sea/side 1 (anna 2).jpg").unwrap(), "edit");
        assert_eq!(world.read("sea/side 1 (anna 1).jpg").unwrap(), "an earlier one");
        assert!(world.temporary().is_empty());
    }
}

#[test]
fn a_known_content_stays_where_it_is() {
    for exchange in [true, false] {
        for there in ["new", "newest"] {
            let world = World::with_exchange(exchange);
            world.save("a.jpg", there);
            let before = crate::platform::stat(&world.folder.place_of(&path("a.jpg"))).unwrap();
            let done = world.publish("a.jpg", "new", Some("old"), &["new", "newest"]).unwrap();
            assert_eq!(done, Published::KnownThere { content: content(there), kept_as: vec![] });
            let after = crate::platform::stat(&world.folder.place_of(&path("a.jpg"))).unwrap();
            assert_ne!(after.same_file(&before), Some(false), "the very file");
            assert_eq!(world.read("a.jpg").unwrap(), there);
            assert_eq!(world.temporary(), [format!("{}.part", tcat_engine::ids::hex(&content("new").key()))]);
        }
    }
}

#[test]
fn where_the_expected_file_vanished_the_content_is_placed() {
    for exchange in [true, false] {
        let world = World::with_exchange(exchange);
        let done = world.publish("x/a.jpg", "new", Some("old"), &[]).unwrap();
        assert!(matches!(done, Published::Placed { stat: Some(_) }));
        assert_eq!(world.visible().into_iter().collect::<Vec<_>>(), [("x/a.jpg".into(), "new".into())]);
        assert!(world.temporary().is_empty());
    }
}

#[test]
fn a_file_that_is_being_written_is_waited_for_and_then_judged() {
    let world = World::new();
    world.save("a.jpg", "old");
    let publish = |quiet_ms| {
        world.folder.publish(&Publish {
            item: ItemId([7; 16]),
            path: &path("a.jpg"),
            content: &content("new"),
            partial: &world.fetch("new"),
            expected: Expected::Content(content("old")),
            known: &[],
            author_name: "anna",
            quiet_ms,
        })
    };
    let mut editor = fs::File::options().append(true).open(world.folder.place_of(&path("a.jpg"))).unwrap();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        std::io::Write::write_all(&mut editor, b" and edited").unwrap();
    });
    let done = publish(300).unwrap();
    writer.join().unwrap();
    assert!(matches!(done, Published::Edited { .. }), "{done:?}");
    assert_eq!(world.read("a (anna 1).jpg").unwrap(), "old and edited");
}

#[test]
fn a_file_that_never_becomes_quiet_is_kept_beside() {
    let world = World::new();
    world.save("a.jpg", "old");
    let mut editor = fs::File::options().append(true).open(world.folder.place_of(&path("a.jpg"))).unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        while stopped.recv_timeout(std::time::Duration::from_millis(2)).is_err() {
            std::io::Write::write_all(&mut editor, b".").unwrap();
        }
    });
    let done = world.folder.publish(&Publish {
        item: ItemId([7; 16]),
        path: &path("a.jpg"),
        content: &content("new"),
        partial: &world.fetch("new"),
        expected: Expected::Content(content("old")),
        known: &[],
        author_name: "anna",
        quiet_ms: 40,
    });
    stop.send(()).unwrap();
    writer.join().unwrap();
    assert!(matches!(done, Ok(Published::Edited { .. })), "{done:?}");
    assert!(world.read("a (anna 1).jpg").unwrap().starts_with("old."));
    assert_eq!(world.read("a.jpg").unwrap(), "new");
}

#[test]
fn a_partial_that_is_not_whole_or_not_ours_is_not_published() {
    let world = World::new();
    let publish = |partial: &Path| {
        world.folder.publish(&Publish {
            item: ItemId([7; 16]),
            path: &path("a.jpg"),
            content: &content("whole"),
            partial,
            expected: Expected::Absent,
            known: &[],
            author_name: "anna",
            quiet_ms: 0,
        })
    };
    let partial = world.folder.partial(content("whole").key());
    let bad = |result: Result<Published, FolderError>| matches!(result, Err(FolderError::BadPartial { .. }));
    assert!(bad(publish(&partial)), "missing");
    fs::write(&partial, "whol").unwrap();
    assert!(bad(publish(&partial)), "cut");
    fs::write(&partial, "whole").unwrap();
    let other = world.place.path().join("whole.jpg");
    fs::hard_link(&partial, &other).unwrap();
    #[cfg(unix)]
    assert!(bad(publish(&partial)), "linked");
    assert!(bad(publish(&other)), "elsewhere");
    let stray = world.place.path().join(".tcat/tmp/whole.jpg");
    fs::write(&stray, "whole").unwrap();
    assert!(bad(publish(&stray)), "not named by us");
    assert!(world.read("a.jpg").is_none());
    fs::remove_file(&other).unwrap();
    assert!(publish(&partial).is_ok());
}

#[test]
fn without_any_safe_rename_nothing_is_written() {
    let mut world = World::new();
    world.folder.abilities = Abilities { exchange: false, no_replace: false, ignores_case: false };
    world.save("a.jpg", "old");
    for expected in [None, Some("old")] {
        let result = world.publish("a.jpg", "new", expected, &[]);
        assert!(matches!(result, Err(FolderError::NoSafeRename(_))), "{result:?}");
    }
    assert!(matches!(world.folder.trash(&path("a.jpg"), None), Err(FolderError::NoSafeRename(_))));
    assert_eq!(world.read("a.jpg").unwrap(), "old");
}

#[test]
fn a_folder_in_the_way_is_named_and_left_alone() {
    let world = World::new();
    world.save("a/b.jpg", "x");
    let error = world.publish("a", "new", Some("old"), &[]).unwrap_err();
    assert!(matches!(error, FolderError::InTheWay { obstacle: "a folder", .. }), "{error}");
    let error = world.publish("a/b.jpg/c.jpg", "new", None, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a/b.jpg: a file is in the way, and tcat neither follows nor replaces it: move it elsewhere"
    );
    assert_eq!(world.visible().len(), 1);
}

#[cfg(unix)]
#[test]
fn a_symlink_leads_no_write_and_no_read_outside() {
    use std::os::unix::fs::symlink;
    let world = World::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("a.jpg"), "old").unwrap();
    symlink(outside.path(), world.place.path().join("link")).unwrap();
    symlink(outside.path().join("a.jpg"), world.place.path().join("file.jpg")).unwrap();
    let in_the_way =
        |error: &FolderError| matches!(error, FolderError::InTheWay { obstacle: "a symbolic link", .. });
    for at in ["link/a.jpg", "link/new.jpg", "link/sub/new.jpg"] {
        for expected in [None, Some("old")] {
            let error = world.publish(at, "new", expected, &[]).unwrap_err();
            assert!(in_the_way(&error), "{at}: {error}");
        }
        let error = world.folder.trash(&path(at), Some(&content("old"))).unwrap_err();
        assert!(in_the_way(&error), "{at}: {error}");
        assert!(in_the_way(&world.folder.move_file(&path(at), &path("moved.jpg")).unwrap_err()));
    }
    assert!(in_the_way(&world.publish("file.jpg", "new", Some("old"), &[]).unwrap_err()));
    assert!(in_the_way(&world.folder.trash(&path("file.jpg"), None).unwrap_err()));
    world.save("real.jpg", "old");
    assert!(in_the_way(&world.folder.move_file(&path("real.jpg"), &path("link/x.jpg")).unwrap_err()));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.path().join("a.jpg")).unwrap(), "old");
}

#[cfg(unix)]
#[test]
fn a_symlink_that_takes_the_place_at_the_last_moment_is_kept_not_followed() {
    for exchange in [true, false] {
        let mut world = World::with_exchange(exchange);
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        world.save("a.jpg", "old");
        let place = world.folder.place_of(&path("a.jpg"));
        let target = secret.clone();
        world.folder.stop_at(move |step| {
            if step == "ours named" {
                fs::remove_file(&place).unwrap();
                std::os::unix::fs::symlink(&target, &place).unwrap();
            }
            false
        });
        let done = world.publish("a.jpg", "new", Some("old"), &[]).unwrap();
        assert!(matches!(done, Published::Edited { .. }), "{done:?}");
        assert!(fs::symlink_metadata(world.place.path().join("a.jpg")).unwrap().is_file());
        assert!(fs::symlink_metadata(world.place.path().join("a (anna 1).jpg")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    }
}

#[test]
fn two_steps_on_one_path_at_a_time_are_refused() {
    let world = std::sync::Arc::new(World::new());
    let held = world.folder.hold(&[&path("A b.jpg")]).unwrap();
    let result = world.publish("a B.jpg", "new", None, &[]);
    assert!(matches!(result, Err(FolderError::Busy(_))), "{result:?}");
    assert!(world.publish("other.jpg", "new", None, &[]).is_ok());
    drop(held);
    assert!(world.publish("a B.jpg", "new", None, &[]).is_ok());
}

#[test]
fn publishing_from_many_threads_keeps_every_content() {
    let world = World::new();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let world = &world;
            scope.spawn(move || {
                for round in 0..5 {
                    let text = format!("{n}.{round}");
                    world.publish(&format!("same/folder/{text}"), &text, None, &[]).unwrap();
                }
            });
        }
    });
    assert_eq!(world.visible().len(), 40);
    assert!(world.visible().iter().all(|(name, text)| name.ends_with(text.as_str())));
}

#[test]
fn a_move_makes_folders_and_replaces_nothing() {
    let world = World::new();
    world.save("a.jpg", "one");
    world.save("b.jpg", "two");
    let moved = |from: &str, to: &str| world.folder.move_file(&path(from), &path(to)).unwrap();
    assert_eq!(moved("a.jpg", "b.jpg"), Moved::Occupied);
    assert_eq!(moved("none/a.jpg", "c.jpg"), Moved::Absent);
    assert_eq!(moved("none.jpg", "c.jpg"), Moved::Absent);
    assert!(matches!(moved("a.jpg", "Été 1/deep/a.jpg"), Moved::Moved(Some(_))));
    assert!(matches!(moved("Été 1/deep/a.jpg", "Été 1/deep/A.jpg"), Moved::Moved(Some(_))));
    assert!(matches!(moved("b.jpg", "b.jpg"), Moved::Moved(Some(_))));
    assert_eq!(world.read("Été 1/deep/A.jpg").unwrap(), "one");
    assert_eq!(world.read("b.jpg").unwrap(), "two");
    assert_eq!(world.visible().len(), 2);
}

#[test]
fn a_case_only_rename_goes_through_a_temporary_name() {
    // Two names of one file stand in for a file system that ignores case; there is no other where tests run.
    let world = World::new();
    let [from, to] = [path("a b/é.jpg"), path("a b/É.JPG")];
    world.save("a b/é.jpg", "one");
    let before = crate::platform::stat(&world.folder.place_of(&from)).unwrap();
    let moved = world.move_through(&from, &to, before).unwrap();
    assert!(matches!(moved, Moved::Moved(Some(_))), "{moved:?}");
    assert_eq!(world.read("a b/É.JPG").unwrap(), "one");
    assert_eq!(world.visible().len(), 1);
    assert!(world.temporary().is_empty());
}

#[cfg(unix)]
#[test]
fn two_links_of_one_file_are_two_names_and_not_merged() {
    let world = World::new();
    world.save("a.jpg", "one");
    fs::hard_link(world.place.path().join("a.jpg"), world.place.path().join("A.jpg")).unwrap();
    assert_eq!(world.folder.move_file(&path("a.jpg"), &path("A.jpg")).unwrap(), Moved::Occupied);
    assert_eq!(world.visible().len(), 2);
    assert!(world.temporary().is_empty());
}

#[test]
fn setting_aside_moves_only_the_expected_content() {
    let world = World::new();
    world.save("a.jpg", "mine");
    let [at, aside] = [path("a.jpg"), path("a (anna 1).jpg")];
    let set_aside = |expected: &str| world.folder.set_aside(&at, &content(expected), &aside).unwrap();
    assert_eq!(set_aside("other"), SetAside::Differs(content("mine")));
    world.save("a (anna 1).jpg", "taken");
    assert_eq!(set_aside("mine"), SetAside::Occupied);
    fs::remove_file(world.folder.place_of(&aside)).unwrap();
    assert!(matches!(set_aside("mine"), SetAside::Aside(Some(_))));
    assert_eq!(set_aside("mine"), SetAside::Absent);
    assert_eq!(world.read("a (anna 1).jpg").unwrap(), "mine");
    assert_eq!(world.visible().len(), 1);
}

#[test]
fn what_is_saved_while_a_file_is_set_aside_is_not_lost() {
    let mut world = World::new();
    world.save("a.jpg", "mine");
    let place = world.folder.place_of(&path("a.jpg"));
    let saved = place.clone();
    world.folder.stop_at(move |step| {
        if step == "confirmed" {
            fs::write(&saved, "mine, changed").unwrap();
        }
        false
    });
    let aside = |world: &World| {
        world.folder.set_aside(&path("a.jpg"), &content("mine"), &path("a (anna 1).jpg")).unwrap()
    };
    assert_eq!(aside(&world), SetAside::Differs(content("mine, changed")));
    assert_eq!(world.read("a.jpg").unwrap(), "mine, changed");
    world.save("a.jpg", "mine");
    world.folder.stop_at(move |step| {
        match step {
            "confirmed" => fs::write(&place, "mine, changed again").unwrap(),
            "set aside" => fs::write(&place, "and a new one").unwrap(),
            _ => {}
        }
        false
    });
    assert_eq!(aside(&world), SetAside::KeptAside);
    assert_eq!(world.read("a.jpg").unwrap(), "and a new one");
    assert_eq!(world.read("a (anna 1).jpg").unwrap(), "mine, changed again");
}

#[test]
fn only_partials_with_exactly_our_names_are_listed_and_removed() {
    let world = World::new();
    world.fetch("one");
    let temp = world.place.path().join(".tcat/tmp");
    let mut upper = content("two").key().map(|byte| format!("{byte:02X}")).concat();
    upper.push_str(".part");
    for name in ["notes.part", "x.txt", ".part", upper.as_str()] {
        fs::write(temp.join(name), "a person's").unwrap();
    }
    fs::create_dir(world.folder.partial(content("three").key())).unwrap();
    let partials = world.folder.partials().unwrap();
    assert_eq!(
        partials.iter().map(|partial| partial.content_key).collect::<Vec<_>>(),
        [content("one").key()]
    );
    assert!(world.folder.remove_partial(content("one").key()).unwrap());
    assert!(!world.folder.remove_partial(content("one").key()).unwrap());
    assert!(world.folder.remove_partial(content("three").key()).is_err(), "a folder is none of ours");
    assert_eq!(world.temporary().len(), 4);
}
