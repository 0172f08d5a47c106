//! What a scan says of paths that it did not name.

use crate::ignore_rules::IgnoreRules;
use tcat_engine::observation::{Coverage, Presence};
use tcat_engine::paths::MediaPath;

/// The end of a scan: counts, and a compact memory of all paths.
#[derive(Clone, Debug)]
pub struct ScanSummary {
    /// Regular files found, whatever became of them.
    pub files: u64,
    /// Bytes that were read because their digest was not known.
    pub bytes_hashed: u64,
    /// Files that were read for that.
    pub files_hashed: u64,
    /// Files that are being written.
    pub busy: u64,
    /// Things that cannot be read, or are no regular files.
    pub unreadable: u64,
    /// Names that no catalog could keep: no UTF-8, too long, with a backslash. Nothing is emitted for them.
    pub unusable_names: u64,
    /// One of them, for a person to find it.
    pub unusable_example: Option<String>,
    /// The folders that could not be read, relative to the root, at most [`FOLDERS_NAMED_MAX`].
    pub unreadable_folders: Vec<String>,
    pub(super) whole: bool,
    pub(super) rules: IgnoreRules,
    /// Hashes of the folded paths at which something was, that is no folder. Sorted by [`Self::sort`].
    pub(super) seen: Vec<u64>,
    /// The same of folders that were read, and of those that could not be.
    pub(super) folders: Vec<u64>,
    pub(super) unread: Vec<u64>,
}

/// How many unreadable folders a summary names; all of them count for [`ScanSummary::saw`].
pub const FOLDERS_NAMED_MAX: usize = 100;

impl ScanSummary {
    pub(super) fn new(rules: IgnoreRules) -> Self {
        Self {
            files: 0,
            bytes_hashed: 0,
            files_hashed: 0,
            busy: 0,
            unreadable: 0,
            unusable_names: 0,
            unusable_example: None,
            unreadable_folders: Vec::new(),
            whole: true,
            rules,
            seen: Vec::new(),
            folders: Vec::new(),
            unread: Vec::new(),
        }
    }

    /// What the scan knows of `path`. Paths that some file system takes for the same are one path here. Two paths in
    /// 2^64 are taken for one by chance, and then an absence goes unnoticed, never the other way round.
    pub fn saw(&self, path: &MediaPath) -> Presence {
        let has = |list: &[u64], hash| list.binary_search(&hash).is_ok();
        let hash = path_hash(path);
        if has(&self.seen, hash) {
            return Presence::Seen;
        }
        let behind_something = ancestors(path).any(|folder| {
            let hash = path_hash(&folder);
            has(&self.unread, hash) || has(&self.seen, hash)
        });
        let unknown = !self.whole
            || behind_something
            || has(&self.folders, hash)
            || has(&self.unread, hash)
            || self.rules.ignores(path.as_str(), false);
        if unknown { Presence::Unknown } else { Presence::NotSeen }
    }

    pub(super) fn sort(&mut self) {
        for list in [&mut self.seen, &mut self.folders, &mut self.unread] {
            list.sort_unstable();
            list.dedup();
        }
    }

    pub(super) fn of_some_paths(mut self) -> Self {
        self.whole = false;
        self
    }
}

impl Coverage for ScanSummary {
    fn presence(&self, path: &MediaPath) -> Presence {
        self.saw(path)
    }
}

/// The folders above a path, without the root.
fn ancestors(path: &MediaPath) -> impl Iterator<Item = MediaPath> {
    let text = path.as_str();
    text.match_indices('/').filter_map(move |(slash, _)| MediaPath::parse(text.get(..slash)?).ok())
}

/// Eight bytes that stand for a path.
pub(super) fn path_hash(path: &MediaPath) -> u64 {
    let mut first = [0; 8];
    let mut reader = blake3::Hasher::new().update(path.folded().0.as_bytes()).finalize_xof();
    reader.fill(&mut first);
    u64::from_le_bytes(first)
}
