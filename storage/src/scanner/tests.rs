//! What scans promise.

use super::*;
use crate::ignore_rules::IGNORE_FILE;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, SystemTime};
use tcat_engine::observation::Seen;
use tcat_engine::stamps::Clocks;

/// A media folder with its client database beside it.
struct World {
    folder: tempfile::TempDir,
    scanner: Scanner,
}

const GO_ON: Cancel<'static> = &|| false;

/// A clock of the disk by which everything there is long quiet.
fn an_hour_later(temp: &Folder) -> io::Result<i64> {
    disk_clock::read(temp).map(|ns| ns + 3_600_000_000_000)
}

fn path(text: &str) -> MediaPath {
    MediaPath::parse(text).unwrap()
}

impl World {
    fn new(settings: ScannerSettings, clock: disk_clock::Read) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("Médias 1");
        fs::create_dir_all(root.join(".tcat/tmp")).unwrap();
        fs::write(root.join(".tcat/root.toml"), b"id = 1").unwrap();
        let database = ClientDatabase::open_or_create(&folder.path().join("client.redb")).unwrap();
        let mut scanner = Scanner::new(&root, Arc::new(database), settings).unwrap();
        scanner.read_clock = clock;
        Self { folder, scanner }
    }

    /// Everything on disk is quiet.
    fn quiet() -> Self {
        Self::new(ScannerSettings::default(), an_hour_later)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scanner.root.join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), bytes).unwrap();
    }

    fn full(&self) -> (BTreeMap<String, Seen>, ScanSummary) {
        let mut seen = Vec::new();
        let summary = self.scanner.scan_full(GO_ON, &mut |batch| seen.extend(checked(batch))).unwrap();
        (by_path(seen), summary)
    }

    fn paths(&self, paths: &[&str]) -> (BTreeMap<String, Seen>, ScanSummary) {
        let paths: Vec<MediaPath> = paths.iter().map(|text| path(text)).collect();
        let mut seen = Vec::new();
        let summary =
            self.scanner.scan_paths(&paths, GO_ON, &mut |batch| seen.extend(checked(batch))).unwrap();
        (by_path(seen), summary)
    }
}

fn checked(batch: Vec<Observation>) -> Vec<Observation> {
    assert!((1..=BATCH_OBSERVATIONS).contains(&batch.len()));
    batch
}

/// Every path was named once.
fn by_path(seen: Vec<Observation>) -> BTreeMap<String, Seen> {
    let count = seen.len();
    let map: BTreeMap<String, Seen> =
        seen.into_iter().map(|observation| (observation.path.into(), observation.seen)).collect();
    assert_eq!(map.len(), count);
    map
}

fn is_file_of(seen: Option<&Seen>, bytes: &[u8]) -> bool {
    let blake3 = tcat_engine::content::Blake3(*blake3::hash(bytes).as_bytes());
    matches!(seen, Some(Seen::File { content, stat })
        if content.blake3 == Some(blake3) && stat.size == bytes.len() as u64)
}

#[test]
fn every_file_is_found_hashed_and_remembered() {
    let world = World::quiet();
    let large = vec![5; (2 << 20) + 3];
    world.write("a.jpg", b"one");
    world.write("2024/Été à la mer/写真.jpg", b"two");
    world.write("2024/film.mov", &large);
    world.write("empty.jpg", b"");
    let (seen, summary) = world.full();
    assert_eq!(seen.len(), 4);
    assert!(is_file_of(seen.get("a.jpg"), b"one"));
    assert!(is_file_of(seen.get("2024/Été à la mer/写真.jpg"), b"two"));
    assert!(is_file_of(seen.get("2024/film.mov"), &large));
    assert!(is_file_of(seen.get("empty.jpg"), b""));
    assert_eq!((summary.files, summary.bytes_hashed), (4, 6 + large.len() as u64));
    let (again, summary) = world.full();
    assert_eq!((again, summary.bytes_hashed), (seen, 0), "the second scan reads no file");
    let blake3 = tcat_engine::content::Blake3(*blake3::hash(&large).as_bytes());
    let outboard = world.scanner.database.outboard(blake3).unwrap().unwrap();
    assert!(outboard.verifies(0, &large[..1 << 20]));
}

#[test]
fn thousands_of_files_come_in_bounded_batches() {
    let world = World::quiet();
    for n in 0..1500 {
        world.write(&format!("{}/{n}.jpg", n % 11), format!("{n}").as_bytes());
    }
    let (seen, summary) = world.full();
    assert_eq!((seen.len(), summary.files), (1500, 1500));
    assert!(
        (0..1500).all(|n| is_file_of(seen.get(&format!("{}/{n}.jpg", n % 11)), format!("{n}").as_bytes()))
    );
    let (again, summary) = world.full();
    assert_eq!((again, summary.bytes_hashed), (seen, 0));
}

#[test]
fn an_edit_that_keeps_size_and_mtime_is_seen_through_ctime() {
    let world = World::quiet();
    world.write("a.jpg", b"before");
    world.full();
    let mtime = fs::metadata(world.at("a.jpg")).unwrap().modified().unwrap();
    std::thread::sleep(Duration::from_millis(15));
    fs::write(world.at("a.jpg"), b"after!").unwrap();
    fs::File::options().write(true).open(world.at("a.jpg")).unwrap().set_modified(mtime).unwrap();
    assert_eq!(fs::metadata(world.at("a.jpg")).unwrap().modified().unwrap(), mtime);
    assert!(is_file_of(world.full().0.get("a.jpg"), b"after!"));
}

#[test]
fn a_file_that_another_replaced_is_hashed_again() {
    let world = World::quiet();
    world.write("a.jpg", b"before");
    world.write("b.jpg", b"after!");
    world.full();
    fs::rename(world.at("b.jpg"), world.at("a.jpg")).unwrap();
    assert!(is_file_of(world.full().0.get("a.jpg"), b"after!"));
}

#[test]
fn a_file_changed_within_the_quiet_time_is_busy_and_found_afterwards() {
    let mut world = World::new(ScannerSettings::default(), disk_clock::read);
    world.write("a.jpg", b"fresh");
    // A copy that keeps the old modification time is just as fresh.
    world.write("copy.jpg", b"fresh");
    let copy = fs::File::options().write(true).open(world.at("copy.jpg")).unwrap();
    copy.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    let (seen, summary) = world.full();
    assert_eq!(seen.values().collect::<Vec<_>>(), [&Seen::Busy, &Seen::Busy]);
    assert_eq!((summary.busy, summary.files, summary.bytes_hashed), (2, 2, 0));
    assert_eq!(summary.saw(&path("a.jpg")), Presence::Seen);
    assert_eq!(world.paths(&["a.jpg"]).0.get("a.jpg"), Some(&Seen::Busy));
    world.scanner.read_clock = an_hour_later;
    assert!(is_file_of(world.full().0.get("a.jpg"), b"fresh"));
}

#[test]
fn a_file_from_the_future_is_neither_busy_nor_hashed_for_ever() {
    let world = World::quiet();
    world.write("a.jpg", b"x");
    let file = fs::File::options().write(true).open(world.at("a.jpg")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(400_000_000)).unwrap();
    assert!(is_file_of(world.full().0.get("a.jpg"), b"x"));
    let (seen, summary) = world.full();
    assert!(is_file_of(seen.get("a.jpg"), b"x"));
    assert_eq!(summary.bytes_hashed, 0);
}

#[cfg(unix)]
#[test]
fn what_was_written_before_the_disks_clock_was_set_back_is_hashed_once() {
    fn an_hour_back(temp: &Folder) -> io::Result<i64> {
        disk_clock::read(temp).map(|ns| ns - 3_600_000_000_000)
    }
    let world = World::new(ScannerSettings::default(), an_hour_back);
    world.write("a.jpg", b"x");
    assert!(is_file_of(world.full().0.get("a.jpg"), b"x"));
    let (seen, summary) = world.full();
    assert!(is_file_of(seen.get("a.jpg"), b"x"));
    assert_eq!(summary.bytes_hashed, 0);
}

#[test]
fn where_the_disks_clock_cannot_be_read_files_are_found_and_hashed_anew_each_time() {
    let world = World::new(ScannerSettings { quiet_ms: 0, ..ScannerSettings::default() }, |_| {
        Err(io::ErrorKind::StorageFull.into())
    });
    world.write("a.jpg", b"x");
    for _ in 0..2 {
        let (seen, summary) = world.full();
        assert!(is_file_of(seen.get("a.jpg"), b"x"));
        assert_eq!(summary.bytes_hashed, 1);
    }
}

/// Does `act` once, when a file is about to be hashed.
fn while_hashing(world: &World, act: impl Fn() + Sync) -> BTreeMap<String, Seen> {
    let done = AtomicBool::new(false);
    let cancel = || {
        // The hashing threads are the only ones with that name.
        if std::thread::current().name() == Some("hash") && !done.swap(true, SeqCst) {
            act();
        }
        false
    };
    let mut seen = Vec::new();
    world.scanner.scan_full(&cancel, &mut |batch| seen.extend(batch)).unwrap();
    assert!(done.load(SeqCst));
    by_path(seen)
}

#[test]
fn a_growing_file_is_busy() {
    let world = World::quiet();
    world.write("a.jpg", &vec![1; 3 << 20]);
    let seen = while_hashing(&world, || {
        use std::io::Write;
        fs::File::options().append(true).open(world.at("a.jpg")).unwrap().write_all(b"more").unwrap();
    });
    assert_eq!(seen.get("a.jpg"), Some(&Seen::Busy));
}

#[test]
fn a_file_that_vanishes_while_it_is_hashed_stops_nothing() {
    let mut world = World::quiet();
    world.scanner.settings.hash_threads = 1;
    world.write("a.jpg", b"goes");
    world.write("b.jpg", b"stays");
    let seen = while_hashing(&world, || {
        let _ = fs::remove_file(world.at("a.jpg"));
        let _ = fs::remove_file(world.at("b.jpg"));
        fs::write(world.at("c.jpg"), b"late").unwrap();
    });
    assert!(seen.values().all(|seen| *seen == Seen::Busy), "{seen:?}");
    let (seen, _) = world.paths(&["a.jpg", "b.jpg", "c.jpg"]);
    assert_eq!(seen.get("a.jpg"), Some(&Seen::Absent));
    assert!(is_file_of(seen.get("c.jpg"), b"late"));
}

#[cfg(unix)]
#[test]
fn a_fifo_does_not_block_the_scan() {
    let world = World::quiet();
    world.write("a.jpg", b"x");
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        world.at("fifo.jpg"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    );
    made.unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.at("s.jpg")).unwrap();
    std::os::unix::fs::symlink(world.at("a.jpg"), world.at("link.jpg")).unwrap();
    std::os::unix::fs::symlink(world.at("none"), world.at("dangling.jpg")).unwrap();
    let (seen, summary) = world.full();
    assert!(is_file_of(seen.get("a.jpg"), b"x"));
    for (name, what) in [("fifo.jpg", "FIFO"), ("s.jpg", "socket"), ("link.jpg", "symbolic link")] {
        match seen.get(name) {
            Some(Seen::Unreadable(why)) => {
                assert!(why.contains(what) && why.contains("put a regular file"), "{why}")
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(world.paths(&[name]).0.get(name), seen.get(name));
    }
    assert_eq!((summary.unreadable, summary.files), (4, 1));
    assert_eq!(summary.saw(&path("dangling.jpg")), Presence::Seen);
}

#[cfg(unix)]
#[test]
fn what_is_behind_a_symbolic_link_is_unknown_not_absent() {
    let world = World::quiet();
    let elsewhere = world.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("a.jpg"), b"x").unwrap();
    std::os::unix::fs::symlink(&elsewhere, world.at("2024")).unwrap();
    let (seen, summary) = world.full();
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["2024"]);
    assert_eq!(summary.saw(&path("2024/a.jpg")), Presence::Unknown);
    assert!(matches!(world.paths(&["2024/a.jpg"]).0.get("2024/a.jpg"), Some(Seen::Unreadable(_))));
}

#[cfg(unix)]
#[test]
fn names_that_are_no_text_are_counted_and_stop_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::quiet();
    world.write("a.jpg", b"x");
    world.write("back\\slash.jpg", b"x");
    fs::write(world.scanner.root.join(std::ffi::OsStr::from_bytes(b"caf\xe9.jpg")), b"x").unwrap();
    fs::create_dir(world.scanner.root.join(std::ffi::OsStr::from_bytes(b"\xff"))).unwrap();
    let (seen, summary) = world.full();
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["a.jpg"]);
    assert_eq!(summary.unusable_names, 3);
    assert!(summary.unusable_example.is_some());
}

#[test]
fn a_full_scan_tells_absent_from_unknown() {
    let mut world = World::quiet();
    world.scanner.settings.folder_names_max = 8;
    for n in 0..9 {
        world.write(&format!("crowded/{n}.jpg"), b"x");
    }
    world.write("a/b.jpg", b"x");
    world.write("private/c.jpg", b"x");
    world.write(IGNORE_FILE, b"private/\n");
    let (seen, summary) = world.full();
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["a/b.jpg"]);
    assert_eq!(summary.unreadable_folders, ["crowded"]);
    for (name, presence) in [
        ("a/b.jpg", Presence::Seen),
        ("A/B.JPG", Presence::Seen),
        ("a/gone.jpg", Presence::NotSeen),
        ("no/such/folder.jpg", Presence::NotSeen),
        ("crowded/0.jpg", Presence::Unknown),
        ("crowded/deep/gone.jpg", Presence::Unknown),
        ("crowded", Presence::Unknown),
        ("private/c.jpg", Presence::Unknown),
        ("x.tmp", Presence::Unknown),
        ("a", Presence::Unknown),
        ("a/b.jpg/below.jpg", Presence::Unknown),
    ] {
        assert_eq!(summary.saw(&path(name)), presence, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn what_this_user_may_not_read_costs_one_line_and_the_rest_goes_on() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::quiet();
    world.write("a.jpg", b"x");
    world.write("locked.jpg", b"x");
    world.write("shut/b.jpg", b"x");
    let chmod = |name, mode| fs::set_permissions(world.at(name), fs::Permissions::from_mode(mode)).unwrap();
    chmod("locked.jpg", 0o000);
    chmod("shut", 0o000);
    let (seen, summary) = world.full();
    let (some, _) = world.paths(&["locked.jpg", "shut/b.jpg", "shut"]);
    chmod("shut", 0o700);
    assert!(is_file_of(seen.get("a.jpg"), b"x"));
    if rustix::process::geteuid().is_root() {
        assert_eq!(seen.len(), 3, "root reads everything");
        return;
    }
    assert!(matches!(seen.get("locked.jpg"), Some(Seen::Unreadable(why)) if why.contains("permissions")));
    assert_eq!(summary.unreadable_folders, ["shut"]);
    assert_eq!(summary.saw(&path("shut/b.jpg")), Presence::Unknown);
    assert!(matches!(some.get("shut/b.jpg"), Some(Seen::Unreadable(_))));
}

#[test]
fn ignored_files_are_never_emitted_and_tcats_own_folder_never_entered() {
    let world = World::quiet();
    world.write(IGNORE_FILE, b"*.raw\n!keep.tmp\n");
    for name in ["a.raw", "x.tmp", "keep.tmp", ".hidden/a.jpg", ".tcat/tmp/half.jpg", "b.jpg", "Thumbs.db"] {
        world.write(name, b"x");
    }
    let (seen, summary) = world.full();
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["b.jpg", "keep.tmp"]);
    assert_eq!((summary.files, summary.unusable_names), (2, 0));
    let (seen, _) = world.paths(&["a.raw", ".hidden/a.jpg", ".hidden", "gone.tmp", "keep.tmp"]);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["keep.tmp"]);
}

#[test]
fn without_readable_rules_nothing_is_scanned() {
    let world = World::quiet();
    world.write("secret.jpg", b"x");
    fs::create_dir(world.at(IGNORE_FILE)).unwrap();
    let mut emitted = 0;
    let error = world.scanner.scan_full(GO_ON, &mut |batch| emitted += batch.len()).unwrap_err();
    assert!(matches!(error, ScanError::Rules(_)) && error.to_string().contains(".tcatignore"), "{error}");
    assert_eq!(emitted, 0);
}

#[test]
fn some_paths_are_looked_at_with_folders_walked_and_absence_told() {
    let world = World::quiet();
    world.write("a.jpg", b"one");
    world.write("2024/b.jpg", b"two");
    world.write("2024/deep/c.jpg", b"three");
    world.write("other/d.jpg", b"four");
    let asked = ["a.jpg", "2024/deep/c.jpg", "2024", "2024/deep", "gone.jpg", "gone/deep.jpg", "a.jpg"];
    let (seen, summary) = world.paths(&asked);
    assert!(is_file_of(seen.get("a.jpg"), b"one") && is_file_of(seen.get("2024/deep/c.jpg"), b"three"));
    assert_eq!(seen.get("gone.jpg"), Some(&Seen::Absent));
    assert_eq!(seen.get("gone/deep.jpg"), Some(&Seen::Absent));
    assert_eq!(seen.len(), 5);
    assert_eq!(summary.saw(&path("2024/b.jpg")), Presence::Seen);
    assert_eq!(summary.saw(&path("other/d.jpg")), Presence::Unknown, "a partial scan knows of nothing else");
    assert_eq!(world.full().1.bytes_hashed, 4);
}

/// Does `act` when the first file has been hashed, and returns what was emitted before the scan failed.
fn broken_scan(
    world: &World,
    paths: Option<&[MediaPath]>,
    act: &(dyn Fn() + Sync),
) -> (Vec<Seen>, ScanError) {
    let asked = AtomicU32::new(0);
    let cancel = || {
        if asked.fetch_add(1, SeqCst) == 1 {
            act();
        }
        false
    };
    let mut seen = Vec::new();
    let mut emit = |batch: Vec<Observation>| seen.extend(batch.into_iter().map(|one| one.seen));
    let result = match paths {
        None => world.scanner.scan_full(&cancel, &mut emit),
        Some(paths) => world.scanner.scan_paths(paths, &cancel, &mut emit),
    };
    let error = result.unwrap_err();
    (seen, error)
}

#[test]
fn an_unmounted_disk_is_not_a_deletion() {
    let world = World::quiet();
    world.write("a.jpg", b"x");
    world.write("b.jpg", b"x");
    let away = world.folder.path().join("away");
    let unmount = || {
        fs::rename(&world.scanner.root, &away).unwrap();
        fs::create_dir(&world.scanner.root).unwrap();
    };
    let mount = || {
        fs::remove_dir_all(&world.scanner.root).unwrap();
        fs::rename(&away, &world.scanner.root).unwrap();
    };
    // In the middle of a scan.
    let (_, error) = broken_scan(&world, None, &unmount);
    assert!(matches!(error, ScanError::RootGone { .. }));
    assert!(error.to_string().contains("mount its disk"), "{error}");
    // Before it.
    let (seen, error) = broken_scan(&world, Some(&[path("a.jpg")]), &|| {});
    assert!(matches!(error, ScanError::RootGone { .. }) && seen.is_empty());
    mount();
    // In the middle of a look at paths that are gone: no absence is told.
    let gone = [path("gone.jpg"), path("gone2.jpg")];
    let (seen, error) = broken_scan(&world, Some(&gone), &unmount);
    assert!(matches!(error, ScanError::RootGone { .. }));
    assert!(!seen.contains(&Seen::Absent));
    mount();
    assert_eq!(world.full().0.len(), 2);
    // Another disk in its place, with a marker of its own or a copy of ours.
    for marker in [b"id = 2", b"id = 1"] {
        let mount_other = || {
            unmount();
            fs::create_dir(world.at(".tcat")).unwrap();
            fs::write(world.at(".tcat/root.toml"), marker).unwrap();
        };
        let (seen, error) = broken_scan(&world, Some(&gone), &mount_other);
        assert!(matches!(error, ScanError::RootGone { .. }) && !seen.contains(&Seen::Absent));
        mount();
    }
}

#[test]
fn another_media_folder_in_the_same_place_is_not_taken_for_this_one() {
    let world = World::quiet();
    world.write(".tcat/root.toml", b"id = 2");
    let (seen, error) = broken_scan(&world, None, &|| {});
    assert!(matches!(&error, ScanError::RootGone { why, .. } if why.contains("another folder")), "{error}");
    assert!(seen.is_empty());
    fs::remove_file(world.at(".tcat/root.toml")).unwrap();
    let database = world.scanner.database.clone();
    let error = Scanner::new(&world.scanner.root, database, ScannerSettings::default()).unwrap_err();
    assert!(matches!(error, ScanError::RootGone { .. }));
}

#[test]
fn a_scan_ends_soon_after_it_is_cancelled() {
    let world = World::quiet();
    for n in 0..700 {
        world.write(&format!("{n}.jpg"), b"x");
    }
    for limit in [0, 5, 300, 720, 900] {
        let asked = AtomicU32::new(0);
        let cancel = || asked.fetch_add(1, SeqCst) >= limit;
        let error = world.scanner.scan_full(&cancel, &mut |_| {}).unwrap_err();
        assert!(matches!(error, ScanError::Cancelled), "{limit}");
    }
    assert_eq!(world.full().0.len(), 700);
}

#[test]
fn digests_of_files_that_are_gone_are_forgotten_in_time() {
    let world = World::quiet();
    world.write("a.jpg", b"x");
    let (seen, _) = world.full();
    let Some(Seen::File { content, stat }) = seen.get("a.jpg") else { panic!("{seen:?}") };
    let old = |n| crate::client_database::HashedFile {
        path: world.at(&format!("old/{n}.jpg")),
        content: *content,
        stat: *stat,
        begun: [Clocks { disk_ns: Some(stat.ctime_ns + 3_600_000_000_000), wall_ns: 0 }; 2],
        outboard: tcat_engine::outboard::Outboard { size: 1, groups: vec![[0; 32]] },
    };
    let database = &world.scanner.database;
    database.store(&(0..10_100).map(old).collect::<Vec<_>>()).unwrap();
    assert_eq!(database.file_count(), Ok(10_101));
    let (_, summary) = world.full();
    assert_eq!((database.file_count(), summary.bytes_hashed), (Ok(1), 0));
}
