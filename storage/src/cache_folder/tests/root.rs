//! Whose folder it is.

use super::*;

#[test]
fn a_new_folder_has_marker_tmp_and_trash_and_opens_again() {
    let world = World::new();
    for name in [".tcat/root.toml", ".tcat/tmp", ".tcat/trash"] {
        assert!(world.place.path().join(name).exists(), "{name}");
    }
    let created = world.folder.created();
    let world = world.restarted();
    assert_eq!((world.folder.created(), world.folder.marker()), (created, &marker()));
    assert!(world.temporary().is_empty(), "the probe leaves nothing");
    assert_eq!(world.folder.probe().unwrap(), world.folder.abilities());
    assert!(world.temporary().is_empty());
}

#[test]
fn an_interrupted_init_can_be_repeated() {
    let World { place, folder } = World::new();
    drop(folder);
    assert!(CacheFolder::create(place.path(), &marker()).is_ok());
}

#[test]
fn a_folder_that_is_missing_or_a_file_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let none = place.path().join("none");
    for result in [CacheFolder::create(&none, &marker()), CacheFolder::open(&none, &marker())] {
        assert!(matches!(result, Err(RootError::Missing(_))));
    }
    fs::write(&none, "x").unwrap();
    assert!(matches!(CacheFolder::create(&none, &marker()), Err(RootError::NotAFolder(_))));
    assert!(matches!(CacheFolder::create(&none.join("x"), &marker()), Err(RootError::NotAFolder(_))));
}

#[test]
fn opening_never_makes_a_marker() {
    let place = tempfile::tempdir().unwrap();
    assert!(matches!(CacheFolder::open(place.path(), &marker()), Err(RootError::MarkerMissing(_))));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn another_nodes_folder_is_refused_with_its_home() {
    let World { place, folder } = World::new();
    drop(folder);
    let others = [
        Marker { client: ClientId([9; 32]), ..marker() },
        Marker { workgroup: WorkgroupId([9; 16]), ..marker() },
    ];
    for other in others {
        for result in [CacheFolder::create(place.path(), &other), CacheFolder::open(place.path(), &other)] {
            let error = result.err().unwrap();
            assert!(matches!(error, RootError::AnotherNodes { .. }));
            assert!(error.to_string().contains("/nowhere/of anna"), "{error}");
        }
    }
}

#[test]
fn a_folder_inside_another_media_folder_is_refused() {
    let world = World::new();
    let inner = world.place.path().join("2024/summer");
    fs::create_dir_all(&inner).unwrap();
    let error = CacheFolder::create(&inner, &marker()).err().unwrap();
    assert!(matches!(error, RootError::InsideAnother { .. }), "{error}");
    assert!(!inner.join(".tcat").exists());
}

#[test]
fn a_folder_that_contains_another_media_folder_is_refused() {
    for depth in ["inner", "a/inner"] {
        let place = tempfile::tempdir().unwrap();
        let inner = place.path().join(depth);
        fs::create_dir_all(&inner).unwrap();
        drop(CacheFolder::create(&inner, &marker()).unwrap());
        let error = CacheFolder::create(place.path(), &marker()).err().unwrap();
        assert!(matches!(error, RootError::ContainsAnother { .. }), "{error}");
        assert!(!place.path().join(".tcat").exists());
    }
}

#[test]
fn a_home_inside_the_media_folder_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let home = place.path().join("home");
    fs::create_dir(&home).unwrap();
    let marker = Marker { home: home.to_str().unwrap().into(), ..marker() };
    assert!(matches!(CacheFolder::create(place.path(), &marker), Err(RootError::HomeInside { .. })));
}

#[test]
fn two_nodes_never_work_in_one_folder() {
    let world = World::new();
    assert!(matches!(CacheFolder::open(world.place.path(), &marker()), Err(RootError::InUse(_))));
    world.restarted();
}

#[test]
fn a_marker_that_is_garbage_or_newer_is_left_alone() {
    let World { place, folder } = World::new();
    drop(folder);
    let file = place.path().join(".tcat/root.toml");
    let good = fs::read_to_string(&file).unwrap();
    let newer = good.replace("version = 1", "version = 2\nfuture = [1]");
    for text in ["", "\0\0\0", "version = 1\n", &good[..good.len() / 2], &newer] {
        fs::write(&file, text).unwrap();
        for result in
            [CacheFolder::create(place.path(), &marker()), CacheFolder::open(place.path(), &marker())]
        {
            let error = result.err().unwrap();
            assert!(matches!(error, RootError::MarkerUnreadable { .. }), "{text:?}: {error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o555)).unwrap();
    match CacheFolder::create(place.path(), &marker()) {
        Err(error) => assert!(matches!(error, RootError::NotWritable { .. }), "{error}"),
        Ok(_) => assert!(rustix::process::geteuid().is_root(), "only root may write there"),
    }
}

#[cfg(unix)]
#[test]
fn a_symlink_in_place_of_our_own_folder_is_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), place.path().join(".tcat")).unwrap();
    let error = CacheFolder::create(place.path(), &marker()).err().unwrap();
    assert!(matches!(error, RootError::OwnFolderTaken { .. }), "{error}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_root_that_is_replaced_while_open_is_not_worked_on() {
    let world = World::new();
    let moved = world.place.path().with_extension("moved");
    world.fetch("one");
    fs::rename(world.place.path(), &moved).unwrap();
    fs::create_dir_all(world.place.path().join(".tcat/tmp")).unwrap();
    let result = world.publish("a.jpg", "one", None, &[]);
    assert!(matches!(result, Err(FolderError::RootVanished(_))), "{result:?}");
    assert!(!moved.join("a.jpg").exists() && !world.place.path().join("a.jpg").exists());
    fs::remove_dir_all(world.place.path()).unwrap();
    let result = world.folder.trash(&path("a.jpg"), None);
    assert!(matches!(result, Err(FolderError::RootVanished(_))));
    fs::rename(moved, world.place.path()).unwrap();
}
