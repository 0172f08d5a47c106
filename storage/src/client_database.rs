//! `client.redb`: what one client remembers for all its workgroups. For now the digests of files (the seeds'
//! `tcat_md5cache`) and the BLAKE3 trees of contents, so that neither scanning nor serving reads a file twice.
//!
//! What holds always: a digest is returned only for a file that looks exactly as it did when it was hashed (size,
//! modification and change time to the nanosecond, file id), and only if that is a proof ([`stamps`]): too near
//! to the clock of its file system, an edit may leave a coarse time stamp as it was. Files that differ only in case have entries of their
//! own. A digest and its tree are written in one commit. Everything here can be computed again from the files.
//! Not here: deciding what to hash (`scanner`); trees of contents that are no longer used are not yet removed.

use crate::database::{self, DatabaseError, Format, explain};
use redb::{Database, ReadTransaction, ReadableDatabase, TableDefinition, TableError};
use std::path::{Path, PathBuf};
use tcat_engine::codec;
use tcat_engine::content::{Blake3, Content};
use tcat_engine::observation::FileStat;
use tcat_engine::outboard::Outboard;
use tcat_engine::planted::Sound;
use tcat_engine::stamps::{self, Clocks};

const FORMAT: Format = Format {
    name: "client database",
    version: 1,
    cache_bytes: 32 << 20,
    if_lost: "move it away: a new one is made and files are hashed again; media files are not touched",
};

/// (full path in lower case, real path) -> [`Remembered`]. The first part is the seeds' key; the second keeps apart
/// what a case-sensitive file system keeps apart.
const MD5_CACHE: TableDefinition<'_, (&str, &[u8]), &[u8]> = TableDefinition::new("tcat_md5cache");

/// BLAKE3 of a content of more than one group -> its tree, see [`tree_bytes`].
const OUTBOARDS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("outboards");

/// A client database that failed while in use. Scanning goes on without it, only slower.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the client database failed: {0}")]
pub struct ClientDatabaseError(pub String);

impl<E: Into<redb::Error>> From<E> for ClientDatabaseError {
    fn from(error: E) -> Self {
        Self(explain(&error.into()))
    }
}

/// A file that was hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HashedFile {
    /// Its full path.
    pub path: PathBuf,
    /// Its content.
    pub content: Content,
    /// Its stat, the same before and after.
    pub stat: FileStat,
    /// What the clocks showed when reading it began: as read before, and as read after.
    pub begun: [Clocks; 2],
    /// Its BLAKE3 tree; kept only for contents of more than one group, as others need none.
    pub outboard: Outboard,
}

/// The client database. Safe to use from several threads: readers see whole commits, writers wait for each other.
#[derive(Debug)]
pub struct ClientDatabase {
    database: Database,
}

impl ClientDatabase {
    /// Opens the database at `path`, or creates it where there is none.
    pub fn open_or_create(path: &Path) -> Result<Self, DatabaseError> {
        database::open_or_create(path, &FORMAT).map(|database| Self { database })
    }

    /// The content of the file at the full path `path`, if it was hashed and is still as it was then.
    pub fn lookup(&self, path: &Path, stat: &FileStat) -> Result<Option<Content>, ClientDatabaseError> {
        let found = self.lookup_all(std::iter::once((path, stat)))?;
        Ok(found.into_iter().next().flatten())
    }

    /// [`Self::lookup`] for many files, from one snapshot; one answer for each, in order.
    pub fn lookup_all<'a>(
        &self,
        files: impl Iterator<Item = (&'a Path, &'a FileStat)>,
    ) -> Result<Vec<Option<Content>>, ClientDatabaseError> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(MD5_CACHE) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(files.map(|_| None).collect()),
            opened => opened?,
        };
        let answers = files.map(|(path, stat)| {
            let value = table.get((lower(path).as_str(), path.as_os_str().as_encoded_bytes()))?;
            let remembered = value.and_then(|bytes| decode(bytes.value()));
            Ok(remembered.filter(|remembered| remembered.stat == *stat).map(|remembered| remembered.content))
        });
        answers.collect()
    }

    /// Remembers `files`, with their trees, in one commit: of those that may have changed while they were hashed without
    /// showing it, the trees alone.
    pub fn store(&self, files: &[HashedFile]) -> Result<(), ClientDatabaseError> {
        if files.is_empty() {
            return Ok(());
        }
        let transaction = self.database.begin_write()?;
        {
            let mut digests = transaction.open_table(MD5_CACHE)?;
            let mut trees = transaction.open_table(OUTBOARDS)?;
            for file in files {
                let key = (&*lower(&file.path), file.path.as_os_str().as_encoded_bytes());
                if stamps::is_proof(&file.stat, file.begun, &Sound) {
                    let remembered = Remembered { content: file.content, stat: file.stat };
                    digests.insert(key, encode(&remembered)?.as_slice())?;
                }
                if let (Some(Blake3(name)), true) = (file.content.blake3, file.outboard.groups.len() > 1) {
                    trees.insert(&name, tree_bytes(&file.outboard).as_slice())?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// The BLAKE3 tree of a content of more than one group, if it is known. What is returned proves that content.
    pub fn outboard(&self, content: Blake3) -> Result<Option<Outboard>, ClientDatabaseError> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(OUTBOARDS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            opened => opened?,
        };
        let outboard = table.get(&content.0)?.and_then(|bytes| tree(bytes.value()));
        Ok(outboard.filter(|outboard| outboard.root() == Some(content)))
    }

    /// Remembers the tree of a content that did not come from a scan, such as one just received. One group needs none.
    pub fn store_outboard(&self, outboard: &Outboard) -> Result<(), ClientDatabaseError> {
        let Some(Blake3(name)) = outboard.root().filter(|_| outboard.groups.len() > 1) else { return Ok(()) };
        let transaction = self.database.begin_write()?;
        transaction.open_table(OUTBOARDS)?.insert(&name, tree_bytes(outboard).as_slice())?;
        transaction.commit()?;
        Ok(())
    }

    /// How many files are remembered.
    pub fn file_count(&self) -> Result<u64, ClientDatabaseError> {
        use redb::ReadableTableMetadata;
        let transaction = self.database.begin_read()?;
        match transaction.open_table(MD5_CACHE) {
            Err(TableError::TableDoesNotExist(_)) => Ok(0),
            opened => Ok(opened?.len()?),
        }
    }

    /// Forgets the files below the folder `root` for which `is_gone` holds; it gets the path relative to `root`.
    /// Returns how many were forgotten.
    pub fn forget_gone(
        &self,
        root: &Path,
        is_gone: &dyn Fn(&Path) -> bool,
    ) -> Result<u64, ClientDatabaseError> {
        let mut forgotten = 0;
        let mut from: Option<Key> = None;
        loop {
            let page = page_of_keys(&self.database.begin_read()?, root, from.as_ref())?;
            let Some(last) = page.last().cloned() else { return Ok(forgotten) };
            let gone = page.into_iter().filter(|key| key.below(root).is_some_and(|path| is_gone(&path)));
            forgotten += self.forget(gone.collect())?;
            from = Some(last);
        }
    }

    fn forget(&self, keys: Vec<Key>) -> Result<u64, ClientDatabaseError> {
        if keys.is_empty() {
            return Ok(0);
        }
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(MD5_CACHE)?;
            for key in &keys {
                table.remove(key.as_redb())?;
            }
        }
        transaction.commit()?;
        Ok(keys.len() as u64)
    }
}

/// Keys handled in one transaction while forgetting.
const PAGE_KEYS: usize = 4096;

#[derive(Clone)]
struct Key {
    lower: String,
    real: Vec<u8>,
}

impl Key {
    fn as_redb(&self) -> (&str, &[u8]) {
        (&self.lower, &self.real)
    }

    /// The real path relative to `root`, if it lies there and is text.
    fn below(&self, root: &Path) -> Option<PathBuf> {
        let real = Path::new(std::str::from_utf8(&self.real).ok()?);
        real.strip_prefix(root).ok().map(Path::to_path_buf)
    }
}

/// The next keys after `from` whose path begins with that of `root`, in order.
fn page_of_keys(
    transaction: &ReadTransaction,
    root: &Path,
    from: Option<&Key>,
) -> Result<Vec<Key>, ClientDatabaseError> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let table = match transaction.open_table(MD5_CACHE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        opened => opened?,
    };
    let prefix = lower(root);
    let start = from.map_or(Included((prefix.as_str(), &[] as &[u8])), |key| Excluded(key.as_redb()));
    let mut keys = Vec::new();
    for row in table.range::<(&str, &[u8])>((start, Unbounded))?.take(PAGE_KEYS) {
        let (key, _) = row?;
        let (lower, real) = key.value();
        if !lower.starts_with(&prefix) {
            break;
        }
        keys.push(Key { lower: lower.to_owned(), real: real.to_vec() });
    }
    Ok(keys)
}

/// The seeds' key. Bytes that are no text become the replacement character; the real path beside it tells them apart.
fn lower(path: &Path) -> String {
    path.to_string_lossy().to_lowercase()
}

/// What is kept of a hashed file. Any file with this stat at this path has this content.
#[derive(bincode::Encode, bincode::Decode)]
struct Remembered {
    content: Content,
    stat: FileStat,
}

fn encode(remembered: &Remembered) -> Result<Vec<u8>, ClientDatabaseError> {
    codec::encode(remembered).map_err(|error| ClientDatabaseError(error.to_string()))
}

/// Nothing for bytes that are no such value: the file is then hashed again, and they are replaced.
fn decode(bytes: &[u8]) -> Option<Remembered> {
    codec::decode(bytes).ok()
}

/// A tree as bytes: the content's size (8, little-endian), then 32 a group. Not by the codec, whose values are bounded
/// by the largest frame: the tree of a very large film is larger.
fn tree_bytes(outboard: &Outboard) -> Vec<u8> {
    [outboard.size.to_le_bytes().as_slice(), outboard.groups.as_flattened()].concat()
}

fn tree(bytes: &[u8]) -> Option<Outboard> {
    let (size, groups) = bytes.split_first_chunk()?;
    let (groups, []) = groups.as_chunks() else { return None };
    Some(Outboard { size: u64::from_le_bytes(*size), groups: groups.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hashing::ContentHasher;

    const HOUR_NS: i64 = 3_600_000_000_000;

    fn at(ns: i64) -> Clocks {
        Clocks { disk_ns: Some(ns), wall_ns: ns }
    }

    fn hashed(path: &str, bytes: &[u8]) -> HashedFile {
        let mut hasher = ContentHasher::default();
        hasher.update(bytes);
        let (content, outboard) = hasher.finish();
        let stat = FileStat { size: content.size, mtime_ns: HOUR_NS, ctime_ns: HOUR_NS, file_id: 7 };
        HashedFile { path: path.into(), content, stat, begun: [at(2 * HOUR_NS); 2], outboard }
    }

    fn empty() -> (tempfile::TempDir, ClientDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let database = ClientDatabase::open_or_create(&folder.path().join("client.redb")).unwrap();
        (folder, database)
    }

    #[test]
    fn a_digest_is_found_again_also_after_reopening() {
        let (folder, database) = empty();
        let file = hashed("/m/Été.jpg", b"sea");
        assert_eq!(database.lookup(&file.path, &file.stat), Ok(None));
        database.store(std::slice::from_ref(&file)).unwrap();
        assert_eq!(database.lookup(&file.path, &file.stat), Ok(Some(file.content)));
        drop(database);
        let database = ClientDatabase::open_or_create(&folder.path().join("client.redb")).unwrap();
        assert_eq!(database.lookup(&file.path, &file.stat), Ok(Some(file.content)));
        assert_eq!(database.file_count(), Ok(1));
    }

    #[test]
    fn any_difference_in_size_time_or_file_id_makes_a_digest_invalid() {
        let (_folder, database) = empty();
        let file = hashed("/m/a.jpg", b"sea");
        database.store(std::slice::from_ref(&file)).unwrap();
        let stat = file.stat;
        for other in [
            FileStat { size: stat.size + 1, ..stat },
            FileStat { mtime_ns: stat.mtime_ns + 1, ..stat },
            FileStat { ctime_ns: stat.ctime_ns + 1, ..stat },
            FileStat { file_id: stat.file_id + 1, ..stat },
        ] {
            assert_eq!(database.lookup(&file.path, &other), Ok(None), "{other:?}");
        }
    }

    #[test]
    fn of_a_file_that_may_have_changed_unseen_the_tree_alone_is_kept() {
        let unknown = Clocks { disk_ns: None, wall_ns: 2 * HOUR_NS };
        for begun in [[at(HOUR_NS + 5); 2], [at(2 * HOUR_NS), unknown], [unknown; 2]] {
            let (_folder, database) = empty();
            let file = HashedFile { begun, ..hashed("/m/a.jpg", &vec![1; 2 << 20]) };
            database.store(std::slice::from_ref(&file)).unwrap();
            assert_eq!(database.lookup(&file.path, &file.stat), Ok(None), "{begun:?}");
            let tree = database.outboard(file.content.blake3.unwrap());
            assert_eq!(tree, Ok(Some(file.outboard)), "a tree proves itself");
        }
    }

    #[test]
    fn two_files_that_differ_only_in_case_do_not_share_a_digest() {
        let (_folder, database) = empty();
        let (upper, lower) = (hashed("/m/SEA.jpg", b"one"), hashed("/m/sea.jpg", b"two"));
        assert_eq!(upper.stat, lower.stat);
        database.store(std::slice::from_ref(&upper)).unwrap();
        assert_eq!(database.lookup(&lower.path, &lower.stat), Ok(None));
        database.store(std::slice::from_ref(&lower)).unwrap();
        assert_eq!(database.lookup(&upper.path, &upper.stat), Ok(Some(upper.content)));
        assert_eq!(database.lookup(&lower.path, &lower.stat), Ok(Some(lower.content)));
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_are_told_apart() {
        use std::os::unix::ffi::OsStrExt;
        let (_folder, database) = empty();
        let name = |byte| PathBuf::from(std::ffi::OsStr::from_bytes(&[b'/', byte]));
        let file = HashedFile { path: name(0xff), ..hashed("", b"one") };
        database.store(std::slice::from_ref(&file)).unwrap();
        assert_eq!(database.lookup(&name(0xff), &file.stat), Ok(Some(file.content)));
        assert_eq!(database.lookup(&name(0xfe), &file.stat), Ok(None));
    }

    #[test]
    fn the_tree_of_a_large_content_is_kept_so_that_serving_reads_nothing_twice() {
        let (_folder, database) = empty();
        let (large, small) = (hashed("/m/l", &vec![3; (2 << 20) + 9]), hashed("/m/s", b"sea"));
        database.store(&[large.clone(), small.clone()]).unwrap();
        let name = large.content.blake3.unwrap();
        assert_eq!(database.outboard(name), Ok(Some(large.outboard.clone())));
        assert_eq!(database.outboard(small.content.blake3.unwrap()), Ok(None));
        let (_folder, other) = empty();
        assert_eq!(other.outboard(name), Ok(None));
        other.store_outboard(&large.outboard).unwrap();
        assert_eq!(other.outboard(name), Ok(Some(large.outboard)));
    }

    #[test]
    fn a_tree_that_does_not_prove_its_content_is_never_returned() {
        let (_folder, database) = empty();
        let (one, other) = (hashed("/m/1", &vec![1; 2 << 20]), hashed("/m/2", &vec![2; 2 << 20]));
        database.store(&[HashedFile { outboard: other.outboard, ..one.clone() }]).unwrap();
        assert_eq!(database.outboard(one.content.blake3.unwrap()), Ok(None));
    }

    #[test]
    fn files_that_are_gone_are_forgotten_and_only_those() {
        let (_folder, database) = empty();
        let many = (0..9000).map(|n| hashed(&format!("/M/{}/{n}.jpg", n % 7), b"sea"));
        database.store(&many.collect::<Vec<_>>()).unwrap();
        let elsewhere =
            [hashed("/M2/1.jpg", b"sea"), hashed("/m/1/1.jpg", b"sea"), hashed("/a/1.jpg", b"sea")];
        database.store(&elsewhere).unwrap();
        let odd = |path: &Path| path.file_stem().unwrap().to_str().unwrap().parse::<u32>().unwrap() % 2 == 1;
        assert_eq!(database.forget_gone(Path::new("/M"), &odd), Ok(4500));
        assert_eq!(database.file_count(), Ok(4500 + 3));
        let file = hashed("/M/2/2.jpg", b"sea");
        assert_eq!(database.lookup(&file.path, &file.stat), Ok(Some(file.content)));
        assert_eq!(database.forget_gone(Path::new("/none"), &|_| true), Ok(0));
    }
}
