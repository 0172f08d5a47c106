//! Finds out what is in the media folder: one [`Observation`] for each file, and what can be said of all others.
//!
//! What holds always: unknown is never absent. Each look at the folder begins and ends with the marker of its root,
//! so that an unmounted disk is no deletion; what lies in a folder that cannot be read, behind a symbolic link or
//! under an ignore rule is [`Presence::Unknown`]. A file is hashed only once it has been quiet, and only if it
//! does not look as it did when it was last hashed. One bad file costs one line; the rest goes on. Symbolic links
//! are not followed. Not here: what an absence means; which paths changed (`watcher`).

mod pool;
mod run;
mod summary;
#[cfg(test)]
mod tests;

pub use summary::{FOLDERS_NAMED_MAX, ScanSummary};
pub use tcat_engine::observation::Presence;

use crate::client_database::ClientDatabase;
use crate::disk_clock::{self, DiskClock};
use crate::ignore_rules::{IgnoreError, IgnoreRules};
use crate::platform::Folder;
use run::Run;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tcat_engine::observation::Observation;
use tcat_engine::paths::{MediaPath, OWN_FOLDER};

/// At most so many observations are handed over at a time.
pub const BATCH_OBSERVATIONS: usize = 512;

/// Where our own files may be made, inside [`OWN_FOLDER`].
const OWN_TEMP: &str = "tmp";
const MARKER: &str = "root.toml";
const MARKER_BYTES_MAX: u64 = 64 << 10;

/// How a scanner works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScannerSettings {
    /// A file is left alone until it has not changed for so long.
    pub quiet_ms: u64,
    /// How many files are hashed at a time: 1 or 2.
    pub hash_threads: usize,
    /// A folder with more names than this is not read, and nothing is known of its files.
    pub folder_names_max: usize,
}

impl Default for ScannerSettings {
    fn default() -> Self {
        Self { quiet_ms: 2000, hash_threads: 2, folder_names_max: 1_000_000 }
    }
}

/// Why a scan came to no end. What was emitted before is true of the files named, and nothing follows for others.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The media folder, or its marker, is not there: nothing is known about any file.
    #[error("{root}: the media folder is gone ({why}), so nothing is done: mount its disk or put it back")]
    RootGone {
        /// The media folder.
        root: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The media folder itself cannot be listed.
    #[error("{root}: the media folder cannot be read ({why}): give this user the right to read it")]
    RootUnreadable {
        /// The media folder.
        root: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The rules say what may be shared, and they are not known.
    #[error(transparent)]
    Rules(#[from] IgnoreError),
    /// No thread could be started.
    #[error("files cannot be hashed ({0}): free some memory, then scan again")]
    Threads(io::Error),
    /// The caller asked to stop.
    #[error("the scan was stopped before its end")]
    Cancelled,
}

/// Whether to stop; asked often, from several threads. A yes stays a yes.
pub type Cancel<'a> = &'a (dyn Fn() -> bool + Sync);

/// Takes observations as they are made, in batches of at most [`BATCH_OBSERVATIONS`].
pub type Emit<'a> = &'a mut dyn FnMut(Vec<Observation>);

/// Looks at one media folder. Keeps nothing between scans except in the client database.
#[derive(Debug)]
pub struct Scanner {
    root: PathBuf,
    marker: Vec<u8>,
    database: Arc<ClientDatabase>,
    settings: ScannerSettings,
    read_clock: disk_clock::Read,
}

impl Scanner {
    /// A scanner for the media folder `root`, whose marker must be there; later scans look for this very marker.
    pub fn new(
        root: &Path,
        database: Arc<ClientDatabase>,
        settings: ScannerSettings,
    ) -> Result<Self, ScanError> {
        let root = std::path::absolute(root).map_err(|error| root_gone(root, &error))?;
        let (_, marker) = open_root(&root)?;
        Ok(Self { root, marker, database, settings, read_clock: disk_clock::read })
    }

    /// The media folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Looks at every file of the media folder. Files that are there are emitted as they are found and hashed; what
    /// the summary then says of other paths holds for the whole folder.
    pub fn scan_full(&self, cancel: Cancel<'_>, emit: Emit<'_>) -> Result<ScanSummary, ScanError> {
        let (root, rules) = self.begin()?;
        let clock = self.clock_of(&root);
        for problem in rules.problems() {
            tracing::warn!("{}: {problem}", self.root.display());
        }
        let summary = std::thread::scope(|scope| {
            let mut run = Run::begin(scope, self, (&root, &clock), rules, cancel, emit)?;
            run.walk(String::new())?;
            run.finish()
        })?;
        self.check_marker(&root)?;
        self.forget_gone(&summary);
        Ok(summary)
    }

    /// Looks at some paths, as a watcher names them; a path that is a folder stands for everything below it. Paths at
    /// which nothing is are emitted last, as absent: whatever was below them is gone too. Ignored paths are left out.
    pub fn scan_paths(
        &self,
        paths: &[MediaPath],
        cancel: Cancel<'_>,
        emit: Emit<'_>,
    ) -> Result<ScanSummary, ScanError> {
        let (root, rules) = self.begin()?;
        let clock = self.clock_of(&root);
        let paths: BTreeSet<&MediaPath> = paths.iter().collect();
        let (summary, absent) = std::thread::scope(|scope| {
            let mut run = Run::begin(scope, self, (&root, &clock), rules, cancel, emit)?;
            for path in paths {
                run.look_at(path)?;
            }
            let absent = run.take_absent();
            run.finish().map(|summary| (summary.of_some_paths(), absent))
        })?;
        // Only now is it sure that they are gone, and not their disk.
        self.check_marker(&root)?;
        for batch in absent.chunks(BATCH_OBSERVATIONS) {
            emit(batch.to_vec());
        }
        Ok(summary)
    }

    fn begin(&self) -> Result<(Folder, IgnoreRules), ScanError> {
        let (root, marker) = open_root(&self.root)?;
        if marker != self.marker {
            return Err(self.other_root());
        }
        Ok((root, IgnoreRules::load(&self.root)?))
    }

    fn clock_of(&self, root: &Folder) -> DiskClock {
        let temp = root.open_folder(OWN_FOLDER).and_then(|own| own.open_folder(OWN_TEMP));
        DiskClock::new(temp.ok(), self.read_clock)
    }

    /// Whether the folder that was scanned is still the media folder.
    fn check_marker(&self, scanned: &Folder) -> Result<(), ScanError> {
        let (_, marker) = open_root(&self.root)?;
        let same = scanned.is_at(&self.root).map_err(|error| root_gone(&self.root, &error))?;
        if same && marker == self.marker { Ok(()) } else { Err(self.other_root()) }
    }

    fn other_root(&self) -> ScanError {
        ScanError::RootGone { root: self.root.clone(), why: "another folder has taken its place".into() }
    }

    /// Keeps the md5 cache within a small multiple of the files that there are.
    fn forget_gone(&self, summary: &ScanSummary) {
        let forget = || {
            if self.database.file_count()? <= summary.files.saturating_mul(4).saturating_add(10_000) {
                return Ok(0);
            }
            self.database.forget_gone(&self.root, &|path| {
                let text = path.to_str().map(|text| text.replace(std::path::MAIN_SEPARATOR, "/"));
                let path = text.and_then(|text| MediaPath::parse(&text).ok());
                path.is_none_or(|path| summary.saw(&path) == Presence::NotSeen)
            })
        };
        if let Err(error) = forget() {
            tracing::warn!("old digests were not removed: {error}");
        }
    }
}

/// The root as an open folder, and the bytes of its marker.
fn open_root(root: &Path) -> Result<(Folder, Vec<u8>), ScanError> {
    let open = || {
        let folder = Folder::open(root)?;
        let mut marker = Vec::new();
        let file = folder.open_folder(OWN_FOLDER)?.open_file(MARKER)?;
        file.take(MARKER_BYTES_MAX).read_to_end(&mut marker)?;
        Ok((folder, marker))
    };
    open().map_err(|error| root_gone(root, &error))
}

fn root_gone(root: &Path, error: &io::Error) -> ScanError {
    let why = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => format!("{OWN_FOLDER}/{MARKER} is missing"),
        _ => format!("{OWN_FOLDER}/{MARKER}: {error}"),
    };
    ScanError::RootGone { root: root.into(), why }
}
