//! Database files that are foreign, damaged, newer, in use or on a full disk: one clear line each, and never a panic.
#![allow(clippy::unwrap_used)]

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use tcat_engine::store::{Change, Store, Table};
use tcat_storage::database::DatabaseError;
use tcat_storage::node_database::NodeDatabase;

fn put(key: u16, value: Vec<u8>) -> Change {
    Change { table: Table::Entries, key: key.to_be_bytes().to_vec(), value: Some(value) }
}

/// A database with a few hundred entries, closed.
fn filled(folder: &Path) -> PathBuf {
    let path = folder.join("filled.redb");
    let mut store = NodeDatabase::create(&path).unwrap();
    for n in 0..4u16 {
        store.commit((0..150).map(|k| put(n * 150 + k, vec![(k % 251) as u8; 300])).collect()).unwrap();
    }
    drop(store);
    path
}

fn contents(store: &NodeDatabase) -> Vec<(Vec<u8>, Vec<u8>)> {
    store.range(Table::Entries, b"", b"", usize::MAX).unwrap()
}

/// The bytes are refused in one line that says what to do, and stay as they are; or all that was kept is still there.
fn is_refused_or_whole(folder: &Path, bytes: &[u8], whole: &[(Vec<u8>, Vec<u8>)]) -> bool {
    let path = folder.join("damaged.redb");
    std::fs::write(&path, bytes).unwrap();
    match NodeDatabase::open(&path) {
        Ok(store) => {
            assert_eq!(contents(&store), whole, "damage was believed");
            false
        }
        Err(error) => {
            let text = error.to_string();
            assert!(matches!(error, DatabaseError::Unusable { .. }), "{text}");
            assert!(text.contains("backup") && text.contains("media files are not touched"), "{text}");
            assert!(!text.contains('\n'), "{text}");
            true
        }
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

#[test]
fn random_bytes_and_other_files_are_no_database() {
    let folder = tempfile::tempdir().unwrap();
    for len in [0, 1, 4, 100, 320, 4096, 4097, 100_000] {
        assert!(is_refused_or_whole(folder.path(), &noise(len as u64, len), &[]), "{len}");
        assert!(is_refused_or_whole(folder.path(), &vec![0; len], &[]), "{len} zeros");
    }
    let mut magic_then_noise = std::fs::read(filled(folder.path())).unwrap();
    magic_then_noise.truncate(16);
    magic_then_noise.extend(noise(7, 50_000));
    assert!(is_refused_or_whole(folder.path(), &magic_then_noise, &[]));
    let damaged = std::fs::read(folder.path().join("damaged.redb")).unwrap();
    assert_eq!(damaged, magic_then_noise, "a refused file is left as it was");
}

#[test]
fn a_truncated_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    let whole = contents(&NodeDatabase::open(&path).unwrap());
    let bytes = std::fs::read(&path).unwrap();
    for part in 1..20 {
        is_refused_or_whole(folder.path(), &bytes[..bytes.len() * part / 20], &whole);
    }
    assert!(is_refused_or_whole(folder.path(), &bytes[..bytes.len() / 2], &whole));
    assert!(is_refused_or_whole(folder.path(), &bytes[..5000], &whole));
}

#[test]
fn a_zeroed_or_scrambled_page_is_refused_or_was_unused() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    let whole = contents(&NodeDatabase::open(&path).unwrap());
    let bytes = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for (index, start) in (0..bytes.len()).step_by(4096).enumerate() {
        let end = bytes.len().min(start + 4096);
        for filler in [vec![0; end - start], noise(index as u64, end - start)] {
            let mut damaged = bytes.clone();
            damaged[start..end].copy_from_slice(&filler);
            refused += usize::from(is_refused_or_whole(folder.path(), &damaged, &whole));
        }
    }
    assert!(refused > 50, "most pages are in use: {refused}");
}

#[test]
fn single_flipped_bits_are_refused_or_without_effect() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    let whole = contents(&NodeDatabase::open(&path).unwrap());
    let bytes = std::fs::read(&path).unwrap();
    let header = (0..320).step_by(3);
    let body = (1..40).map(|n| n * 2_654_435_761 % bytes.len());
    for at in header.chain(body) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        is_refused_or_whole(folder.path(), &damaged, &whole);
    }
}

#[test]
fn a_database_that_is_open_elsewhere_says_that_a_node_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    let open = NodeDatabase::open(&path).unwrap();
    let error = NodeDatabase::open(&path).unwrap_err();
    assert!(matches!(error, DatabaseError::InUse(_)));
    assert!(error.to_string().contains("another node runs on this home"));
    drop(open);
    assert!(NodeDatabase::open(&path).is_ok());
}

#[test]
fn creating_never_replaces_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    std::fs::write(&path, b"somebody's").unwrap();
    assert!(matches!(NodeDatabase::create(&path), Err(DatabaseError::Exists(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");
}

#[test]
fn a_creation_that_a_crash_cut_short_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let older = std::fs::read(filled(folder.path())).unwrap();
    for (n, left_behind) in [Vec::new(), noise(1, 9000), vec![0; 70_000], older].into_iter().enumerate() {
        let path = folder.path().join(format!("{n}.redb"));
        std::fs::write(folder.path().join(format!("{n}.redb.new")), left_behind).unwrap();
        let mut store = NodeDatabase::create(&path).unwrap();
        assert_eq!(contents(&store), [], "a new database is empty");
        store.commit(vec![put(1, vec![1])]).unwrap();
        assert!(!folder.path().join(format!("{n}.redb.new")).exists());
    }
}

/// Writes one row into the format table, as another version or program would have.
fn with_format(folder: &Path, name: &str, version: u64) -> String {
    let path = folder.join(format!("{name} {version}.redb"));
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let table: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("tcat-format");
    transaction.open_table(table).unwrap().insert(name, version).unwrap();
    transaction.commit().unwrap();
    drop(database);
    NodeDatabase::open(&path).unwrap_err().to_string()
}

#[test]
fn a_newer_version_is_refused_with_both_versions_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let text = with_format(folder.path(), "node database", 99);
    assert!(text.contains("format 99") && text.contains("newer"), "{text}");
    let text = with_format(folder.path(), "client database", 1);
    assert!(text.contains("another kind of database"), "{text}");
}

#[test]
fn a_database_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign.redb");
    drop(redb::Database::create(&path).unwrap());
    let error = NodeDatabase::open(&path).unwrap_err();
    assert!(error.to_string().contains("another kind of database"), "{error}");
    let path = folder.path().join("other types.redb");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let table: redb::TableDefinition<'_, u8, u8> = redb::TableDefinition::new("tcat-format");
    transaction.open_table(table).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(NodeDatabase::open(&path), Err(DatabaseError::Unusable { .. })));
}

/// A disk in memory that fills up when told, and can be looked at after its user is gone.
#[derive(Debug, Clone, Default)]
struct Disk {
    bytes: Arc<std::sync::Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
    syncs_fail: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
}

impl Disk {
    fn check(&self) -> io::Result<()> {
        self.writes.fetch_add(1, SeqCst);
        match self.full.load(SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let start = offset as usize;
        out.copy_from_slice(bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        match self.syncs_fail.load(SeqCst) {
            true => Err(io::Error::other("the device is gone")),
            false => Ok(()),
        }
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        let mut bytes = self.bytes.lock().unwrap();
        let start = offset as usize;
        bytes.get_mut(start..start + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn a_full_disk_is_named_and_what_was_committed_before_is_there_afterwards() {
    let disk = Disk::default();
    let mut store = NodeDatabase::on_backend(disk.clone()).unwrap();
    store.commit(vec![put(1, vec![1; 5000])]).unwrap();
    let before = contents(&store);
    disk.full.store(true, SeqCst);
    let error = store.commit((0..500).map(|n| put(n, vec![2; 5000])).collect()).unwrap_err();
    assert!(error.0.contains("the disk is full") && error.0.contains("free some space"), "{error}");
    // This handle says so from now on, even if there is space again: it cannot know what the disk holds.
    disk.full.store(false, SeqCst);
    for failed in [store.commit(vec![put(3, vec![3])]).err(), store.get(Table::Entries, b"").err()] {
        assert!(failed.unwrap().0.contains("an earlier write failed: the disk is full"));
    }
    drop(store);
    let mut store = NodeDatabase::on_backend(disk).unwrap();
    assert_eq!(contents(&store), before);
    store.commit(vec![put(3, vec![3])]).unwrap();
}

#[test]
fn a_disk_that_does_not_sync_acknowledges_nothing() {
    let disk = Disk::default();
    let mut store = NodeDatabase::on_backend(disk.clone()).unwrap();
    disk.syncs_fail.store(true, SeqCst);
    let error = store.commit(vec![put(1, vec![1])]).unwrap_err();
    assert!(error.0.contains("the device is gone") && error.0.contains("check the disk"), "{error}");
    assert!(store.range(Table::Entries, b"", b"", 1).is_err());
}

#[test]
fn a_disk_that_is_full_from_the_start_is_named() {
    let disk = Disk::default();
    disk.full.store(true, SeqCst);
    let error = NodeDatabase::on_backend(disk).unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
}

#[test]
fn a_failed_write_anywhere_in_a_commit_leaves_the_state_before_or_after_it() {
    // Fails at the n-th write of the second commit, for every n until it passes.
    for n in 0.. {
        let disk = Disk::default();
        let mut store =
            NodeDatabase::on_backend(FailsAt { disk: disk.clone(), n: AtomicU64::new(u64::MAX) }).unwrap();
        store.commit(vec![put(1, vec![1; 200])]).unwrap();
        let old = contents(&store);
        drop(store);
        let Ok(mut store) = NodeDatabase::on_backend(FailsAt { disk: disk.clone(), n: AtomicU64::new(n) })
        else {
            continue;
        };
        let done = store.commit((2..40).map(|k| put(k, vec![2; 3000])).collect());
        drop(store);
        let found = contents(&NodeDatabase::on_backend(disk).unwrap());
        match done {
            Ok(()) => {
                assert_eq!(found.len(), 39);
                assert!(n > 3);
                return;
            }
            Err(_) => assert!(found == old || found.len() == 39, "{n}: {}", found.len()),
        }
    }
}

/// Lets `n` writes pass, and none after them.
#[derive(Debug)]
struct FailsAt {
    disk: Disk,
    n: AtomicU64,
}

impl FailsAt {
    fn count(&self) -> io::Result<()> {
        match self.n.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("write error")),
        }
    }
}

impl StorageBackend for FailsAt {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.count().and_then(|()| self.disk.set_len(len))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.count().and_then(|()| self.disk.write(offset, data))
    }
}

#[test]
fn the_wrapper_and_plain_memory_agree() {
    assert!(NodeDatabase::on_backend(InMemoryBackend::new()).is_ok());
}
