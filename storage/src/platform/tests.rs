//! What both implementations promise, and what only the real one does.

use super::*;
use std::fs;

/// The promises that every system keeps, run against one implementation.
macro_rules! keeps_the_promises {
    ($module:ident, $folder:ty) => {
        mod $module {
            use super::*;
            type Tested = $folder;

            fn two_files() -> (tempfile::TempDir, Tested) {
                let place = tempfile::tempdir().unwrap();
                fs::write(place.path().join("été a"), "one").unwrap();
                fs::write(place.path().join("b"), "two").unwrap();
                let folder = Tested::open(place.path()).unwrap();
                (place, folder)
            }

            #[test]
            fn a_rename_never_replaces() {
                let (place, folder) = two_files();
                let error = folder.rename_no_replace("été a", &folder, "b").unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
                assert_eq!(fs::read(place.path().join("b")).unwrap(), b"two");
                assert_eq!(fs::read(place.path().join("été a")).unwrap(), b"one");
                folder.rename_no_replace("été a", &folder, "c").unwrap();
                assert_eq!(fs::read(place.path().join("c")).unwrap(), b"one");
                assert_eq!(folder.names(9).unwrap(), ["b", "c"]);
                let missing = folder.rename_no_replace("été a", &folder, "d").unwrap_err();
                assert_eq!(missing.kind(), io::ErrorKind::NotFound);
            }

            #[test]
            fn an_exchange_swaps_both_or_says_that_it_cannot() {
                let (place, folder) = two_files();
                let read = |name: &str| fs::read(place.path().join(name)).unwrap();
                match folder.exchange("été a", &folder, "b") {
                    Ok(()) => assert_eq!((read("été a"), read("b")), (b"two".to_vec(), b"one".to_vec())),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
                        assert_eq!((read("été a"), read("b")), (b"one".to_vec(), b"two".to_vec()));
                    }
                }
            }

            #[test]
            fn no_name_leads_out_of_the_folder() {
                let (_place, folder) = two_files();
                for name in ["..", ".", "", "../x", "a/b", "/etc/passwd", "b/"] {
                    assert_eq!(
                        folder.stat(name).unwrap_err().kind(),
                        io::ErrorKind::InvalidInput,
                        "{name:?}"
                    );
                    assert!(folder.remove_file(name).is_err() && folder.create_file(name).is_err());
                }
            }

            #[test]
            fn making_and_removing_say_what_was_there() {
                let (place, folder) = two_files();
                assert!(folder.create_folder("sub").unwrap());
                assert!(!folder.create_folder("sub").unwrap() && !folder.create_folder("b").unwrap());
                assert_eq!(folder.create_file("b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
                assert_eq!(folder.stat("sub").unwrap().kind, FileKind::Folder);
                let sub = folder.open_folder("sub").unwrap();
                folder.replace("b", &sub, "b").unwrap();
                assert!(folder.remove_folder("sub").is_err(), "it is not empty");
                sub.remove_file("b").unwrap();
                folder.remove_folder("sub").unwrap();
                assert!(folder.is_at(place.path()).unwrap() && folder.try_clone().is_ok());
                assert!(!folder.is_at(&place.path().join("none")).unwrap());
                folder.sync().unwrap();
            }

            #[cfg(unix)]
            #[test]
            fn a_symbolic_link_is_never_followed() {
                let (place, folder) = two_files();
                let outside = tempfile::tempdir().unwrap();
                fs::write(outside.path().join("secret"), "x").unwrap();
                std::os::unix::fs::symlink(outside.path(), place.path().join("link")).unwrap();
                std::os::unix::fs::symlink(outside.path().join("secret"), place.path().join("file")).unwrap();
                let error = folder.open_folder("link").unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
                assert_eq!(folder.open_file("file").unwrap_err().kind(), io::ErrorKind::InvalidInput);
                assert_eq!(folder.stat("file").unwrap().kind, FileKind::Symlink);
                folder.rename_no_replace("file", &folder, "moved").unwrap();
                assert_eq!(folder.stat("moved").unwrap().kind, FileKind::Symlink, "the link itself moved");
                assert!(outside.path().join("secret").exists());
            }

            #[cfg(unix)]
            #[test]
            fn a_file_of_ours_is_opened_by_its_own_name_alone() {
                let (place, folder) = two_files();
                let outside = tempfile::tempdir().unwrap();
                let (secret, none) = (outside.path().join("secret"), outside.path().join("none"));
                fs::write(&secret, "x").unwrap();
                std::os::unix::fs::symlink(&secret, place.path().join("file")).unwrap();
                std::os::unix::fs::symlink(&none, place.path().join("dangling")).unwrap();
                folder.create_folder("sub").unwrap();
                for name in ["file", "dangling", "sub"] {
                    assert!(folder.open_own(name).is_err(), "{name}");
                }
                for name in ["file", "dangling", "sub"] {
                    assert!(folder.sync_file(name).is_err(), "{name}");
                }
                assert!(!none.exists());
                for _ in 0..2 {
                    let mut file = folder.open_own("new").unwrap();
                    io::Write::write_all(&mut file, b"ours").unwrap();
                    folder.sync_file("new").unwrap();
                }
                assert_eq!(fs::read(place.path().join("new")).unwrap(), b"ours");
                assert_eq!(fs::read(&secret).unwrap(), b"x");
            }
        }
    };
}

#[cfg(unix)]
keeps_the_promises!(unix_folder, unix::Folder);
keeps_the_promises!(portable_folder, portable::Folder);

#[test]
fn names_that_windows_takes_for_something_else_are_known() {
    for name in ["a:b.jpg", "nul", "CON.txt", "com1.jpg", "LPT³", "a.", "a ", "what?", "a\u{1}", "aux .x"] {
        assert!(portable::is_impossible_on_windows(name), "{name:?}");
    }
    for name in ["a.jpg", "console.txt", "com10.jpg", "com", "Été à la mer.jpg", ".hidden", "nullable"] {
        assert!(!portable::is_impossible_on_windows(name), "{name:?}");
    }
}

#[test]
fn two_never_hold_one_lock_and_it_ends_with_its_holder() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("lock");
    let first = lock_file(&path).unwrap();
    assert!(first.is_some());
    assert!(lock_file(&path).unwrap().is_none());
    drop(first);
    assert!(lock_file(&path).unwrap().is_some());
}

#[test]
fn a_local_disk_is_no_network_and_has_free_bytes() {
    let place = tempfile::tempdir().unwrap();
    assert!(!is_network_file_system(&place.path().join("not/yet/there.db")).unwrap());
    if let Some(bytes) = free_bytes(place.path()).unwrap() {
        assert!(bytes > 0);
    }
    assert!(free_bytes(&place.path().join("none")).is_err());
}

#[test]
fn by_path_the_same_rules_hold() {
    let place = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| place.path().join(name));
    fs::write(&a, "one").unwrap();
    fs::write(&b, "two").unwrap();
    assert_eq!(rename_no_replace(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    match exchange(&a, &b) {
        Ok(()) => assert_eq!(fs::read(&a).unwrap(), b"two"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
    }
    sync_file(&a).unwrap();
    sync_folder(place.path()).unwrap();
    assert_eq!(stat(&a).unwrap().kind, FileKind::Regular);
    assert_eq!(stat(&a).unwrap().stat.size, 3);
    assert_eq!(stat(&place.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_file_is_opened_only_through_real_folders() {
    use std::io::Read;
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.path().join("a/b")).unwrap();
    fs::write(place.path().join("a/b/c.jpg"), "x").unwrap();
    let open = |text: &str| open_beneath(place.path(), &MediaPath::parse(text).unwrap());
    let mut text = String::new();
    open("a/b/c.jpg").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
    assert_eq!(open("a/b").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(open("a/none/c.jpg").unwrap_err().kind(), io::ErrorKind::NotFound);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(place.path().join("a"), place.path().join("link")).unwrap();
        assert_eq!(open("link/b/c.jpg").unwrap_err().kind(), io::ErrorKind::NotADirectory);
        let fifo = place.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(open("fifo").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[cfg(unix)]
mod on_unix {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_restricted_file_is_its_users_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        fs::write(&path, "k").unwrap();
        restrict_to_user(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        sync_file(&path).unwrap();
    }

    #[test]
    fn without_an_atomic_rename_a_second_link_does_not_replace_either() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a"), "one").unwrap();
        fs::write(place.path().join("b"), "two").unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let error = folder.link_and_remove("a".as_ref(), &folder, "b".as_ref()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        folder.link_and_remove("a".as_ref(), &folder, "c".as_ref()).unwrap();
        assert_eq!(folder.names(9).unwrap(), ["b", "c"]);
        assert_eq!(folder.stat("c").unwrap().links, 1);
    }

    #[test]
    fn an_open_folder_stays_itself_when_its_path_is_taken_by_a_link() {
        let place = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let [path, moved] = ["album", "moved"].map(|name| place.path().join(name));
        fs::create_dir(&path).unwrap();
        let folder = Folder::open(&path).unwrap();
        fs::rename(&path, &moved).unwrap();
        std::os::unix::fs::symlink(outside.path(), &path).unwrap();
        folder.create_file("new").unwrap();
        assert!(moved.join("new").exists() && !outside.path().join("new").exists());
        assert!(!folder.is_at(&path).unwrap() && folder.is_at(&moved).unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn fuse_is_a_network_only_where_its_mount_says_so() {
        let mounts = "36 35 0:44 / /mnt/a b rw - fuse.sshfs host:/ rw\n\
                      37 35 0:45 / /mnt/b rw,nosuid shared:1 - fuseblk /dev/sda1 rw\n\
                      38 35 0:46 / /mnt/c rw - fuse.gocryptfs /x rw\n";
        assert!(unix::fuse_is_network(mounts, "0:44"));
        for numbers in ["0:45", "0:46", "0:47"] {
            assert!(!unix::fuse_is_network(mounts, numbers), "{numbers}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_has_another_name_too_is_not_taken_for_ours() {
    let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = outside.path().join("secret");
    fs::write(&secret, "x").unwrap();
    if fs::hard_link(&secret, place.path().join("part")).is_ok() {
        let folder = Folder::open(place.path()).unwrap();
        assert_eq!(folder.open_own("part").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(fs::read(&secret).unwrap(), b"x");
    }
}
