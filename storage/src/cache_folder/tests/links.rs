//! Links that somebody else puts into the media folder, at rest or at any moment: nothing outside of it is made, changed,
//! removed or moved in.

use super::*;
use crate::platform;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const SECRET: &str = "not tcat's";

/// A folder outside, with one file.
fn outside() -> (TempDir, PathBuf) {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, SECRET).unwrap();
    (outside, secret)
}

/// What is outside is what was there.
fn untouched(outside: &TempDir) {
    let names: Vec<_> =
        fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"]);
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), SECRET);
}

#[test]
fn a_link_or_a_second_name_in_place_of_a_partial_file_is_refused() {
    for hard in [false, true] {
        let (world, (outside, secret)) = (World::new(), outside());
        let key = content("new").key();
        let name = world.folder.partial(key);
        if hard {
            if fs::hard_link(&secret, &name).is_err() {
                continue; // Not on one volume.
            }
        } else {
            symlink(&secret, &name).unwrap();
        }
        assert!(world.folder.partial_file(key).unwrap().open().is_err(), "hard: {hard}");
        untouched(&outside);
        // Nobody may take it for a partial that can be given up, but its name can go.
        if !hard {
            assert_eq!(world.folder.partials().unwrap(), []);
        }
        assert!(world.folder.remove_partial(key).unwrap());
        world.folder.partial_file(key).unwrap().open().unwrap();
        untouched(&outside);
    }
}

#[test]
fn a_link_in_place_of_a_partial_file_is_not_published() {
    let (world, (outside, secret)) = (World::new(), outside());
    symlink(&secret, world.folder.partial(content(SECRET).key())).unwrap();
    let published = world.folder.publish(&Publish {
        item: ItemId([7; 16]),
        path: &path("a.jpg"),
        content: &content(SECRET),
        partial: &world.folder.partial(content(SECRET).key()),
        expected: Expected::Absent,
        known: &[],
        author_name: "anna",
        quiet_ms: 0,
    });
    assert!(published.is_err(), "{published:?}");
    assert!(world.folder.place_of(&path("a.jpg")).symlink_metadata().is_err());
    untouched(&outside);
}

#[test]
fn a_link_in_place_of_the_lock_is_not_followed() {
    let World { place, folder } = World::new();
    drop(folder);
    let (outside, _) = outside();
    let lock = place.path().join(".tcat/lock");
    fs::remove_file(&lock).unwrap();
    symlink(outside.path().join("made"), &lock).unwrap();
    assert!(CacheFolder::open(place.path(), &marker()).is_err());
    untouched(&outside);
    fs::remove_file(&lock).unwrap();
    assert!(CacheFolder::open(place.path(), &marker()).is_ok());
}

#[test]
fn a_tmp_or_trash_that_becomes_a_link_while_open_is_not_worked_in() {
    for name in ["tmp", "trash"] {
        let (world, (outside, _)) = (World::new(), outside());
        world.save("old.jpg", "old");
        let own = world.folder.root().join(".tcat").join(name);
        fs::rename(&own, own.with_extension("moved")).unwrap();
        symlink(outside.path(), &own).unwrap();
        assert!(world.folder.trash(&path("old.jpg"), None).is_err(), "{name}");
        let partial = world.folder.partial_file(content("new").key()).unwrap().open();
        drop(partial); // Made, if at all, in the folder that was opened.
        untouched(&outside);
        assert_eq!(world.read("old.jpg").as_deref(), Some("old"), "{name}");
    }
}

/// Exchanges the folder at `name` and a link to `outside` without a pause, until `stop`.
fn swap_for_ever(root: &Path, name: &str, outside: &Path, stop: &AtomicBool) {
    let (folder, link) = (root.join(name), root.join(".link"));
    symlink(outside, &link).unwrap();
    while !stop.load(Ordering::Relaxed) {
        if platform::exchange(&folder, &link).is_err() {
            std::thread::yield_now(); // The folder is not there yet.
        }
    }
}

#[test]
fn a_folder_that_turns_into_a_link_at_any_moment_leads_nothing_outside() {
    let (world, (outside, _)) = (World::new(), outside());
    if !world.folder.abilities.exchange {
        return; // The race needs one.
    }
    // Files outside have the very names that are worked on, so that whoever follows the link finds them.
    world.save("sub/first", "x");
    let stop = AtomicBool::new(false);
    let root = world.folder.root().to_owned();
    let (mut placed, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| swap_for_ever(&root, "sub", outside.path(), &stop));
        let mut count = |worked: bool| if worked { placed += 1 } else { refused += 1 };
        for round in 0..400 {
            let (new, text) = (format!("sub/new {round}"), format!("content {round}"));
            count(world.publish(&new, &text, None, &[]).is_ok());
            count(world.publish(&new, "second", Some(&text), &[]).is_ok());
            count(world.folder.trash(&path("sub/secret"), None).is_ok_and(|t| t != Trashed::Absent));
            count(world.folder.trash(&path("sub/secret"), Some(&content(SECRET))).is_ok());
            let to = path(&format!("sub/moved {round}"));
            count(matches!(world.folder.move_file(&path("sub/secret"), &to), Ok(Moved::Moved(_))));
            count(world.folder.move_file(&path(&new), &path(&format!("sub/deep {round}/x"))).is_ok());
            let aside = path(&format!("sub/aside {round}"));
            let set_aside = world.folder.set_aside(&path("sub/secret"), &content(SECRET), &aside);
            count(matches!(set_aside, Ok(SetAside::Aside(_))));
        }
        stop.store(true, Ordering::Relaxed);
    });
    untouched(&outside);
    for name in ["sub", ".link"] {
        let _ = fs::remove_file(root.join(name)); // The one that is the link.
    }
    assert!(placed > 50 && refused > 50, "the race was none: {placed} done, {refused} refused");
    assert!(world.files().values().all(|text| text != SECRET), "nothing from outside came in");
}
