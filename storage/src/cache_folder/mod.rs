//! The cache folder: real files in real folders, where a person works and tcat publishes.
//!
//! What holds always: only `.tcat/` is ours; nothing else is ever replaced or removed except by a rename that loses
//! nothing (into trash, to a conflict name, or to a swap name that a journal explains); a file has its final name
//! only when it is whole; no symbolic link below the root is followed; every step that a crash could cut in two is
//! journalled in `.tcat/tmp` first and finished or undone by [`CacheFolder::recover`]. What is done primitive by primitive
//! is decided in `tcat_engine::publishing`, so that the simulator decides the same. Not here: what should be published
//! where (the engine), watching for changes (`scanner`), filling partial files (the transfers).
//!
//! | file | what it does |
//! |---|---|
//! | `root` | makes and opens the folder: marker, lock, probe |
//! | `temp` | partial files in `.tcat/tmp` |
//! | `publish` | puts a whole partial under its final name |
//! | `recover` | finishes what a crash interrupted |
//! | `trash` | `.tcat/trash/DATE/PATH` |
//! | `trash_watch` | what a program writes into a file that lies in trash |
//! | `moves` | renames, and setting a conflicting file aside |
//! | `perform` | the primitives that the engine's publishing machines ask for |

mod error;
mod moves;
mod perform;
mod publish;
mod recover;
mod root;
mod temp;
#[cfg(test)]
mod tests;
mod trash;
mod trash_watch;

pub use error::FolderError;
pub use moves::{Moved, SetAside};
pub use publish::{Expected, Publish, Published};
pub use recover::Recovered;
pub use root::{Abilities, Marker, RootError};
pub use temp::Partial;
pub use trash::{Expired, Restored, TrashEntry, Trashed};
pub use trash_watch::KeptFromTrash;

use crate::platform::{FileKind, FileLock, Folder};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use tcat_engine::content::Content;
use tcat_engine::observation::FileStat;
use tcat_engine::paths::{FoldedPath, MediaPath, OWN_FOLDER};
use tcat_engine::publishing::TrashPlace;

type StopHook = Box<dyn Fn(&'static str) -> bool + Send + Sync>;
type NowHook = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// One open media folder, ours alone while it lives. All its methods block on the disk and may be called from
/// several threads; two steps on one path at a time are refused ([`FolderError::Busy`]).
pub struct CacheFolder {
    root: PathBuf,
    marker: Marker,
    created: Timestamp,
    top: Folder,
    temp: Folder,
    trash: Folder,
    abilities: Abilities,
    /// Whether a rename shows in a file's change time here; tried when it is first asked.
    renames_show: OnceLock<bool>,
    /// What this process put into trash, and how it looked then.
    trashed: Mutex<BTreeMap<TrashPlace, (Content, FileStat)>>,
    author_name: String,
    busy: Mutex<BTreeSet<FoldedPath>>,
    stop: Option<StopHook>,
    now: NowHook,
    _lock: FileLock,
}

impl CacheFolder {
    /// The root, absolute and without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whose folder it is.
    pub fn marker(&self) -> &Marker {
        &self.marker
    }

    /// When the marker was made: a root that is older than the node database was not made for it.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// What this file system can do, as tried when the folder was opened.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Where a path is on this machine, for reading and for people; everything else goes by open folders.
    pub fn place_of(&self, path: &MediaPath) -> PathBuf {
        let mut place = self.root.clone();
        place.extend(path.components());
        place
    }

    /// Who stands in the name of a version that is kept beside when nobody else is named.
    pub fn set_author_name(&mut self, name: &str) {
        self.author_name = name.to_owned();
    }

    /// For tests: works as if the file system could do no more than both this and what it can.
    pub fn restrict(&mut self, abilities: Abilities) {
        self.abilities.exchange &= abilities.exchange;
        self.abilities.no_replace &= abilities.no_replace;
    }

    /// For crash tests: `stop` is asked at every step and, where it says true, the step ends with
    /// [`FolderError::Stopped`] and nothing is tidied up, as if the machine had stopped there.
    pub fn stop_at(&mut self, stop: impl Fn(&'static str) -> bool + Send + Sync + 'static) {
        self.stop = Some(Box::new(stop));
    }

    /// Takes the date for trash from `now` instead of the system's clock.
    pub fn set_clock(&mut self, now: impl Fn() -> Timestamp + Send + Sync + 'static) {
        self.now = Box::new(now);
    }

    fn today(&self) -> Date {
        (self.now)().to_zoned(TimeZone::UTC).date()
    }

    fn step(&self, name: &'static str) -> Result<(), FolderError> {
        match &self.stop {
            Some(stop) if stop(name) => Err(FolderError::Stopped(name)),
            _ => Ok(()),
        }
    }

    /// Refuses to work on folders that are no longer the ones at their paths.
    fn check_root(&self) -> Result<(), FolderError> {
        let own = self.root.join(OWN_FOLDER);
        let places =
            [(&self.top, self.root.clone()), (&self.temp, own.join("tmp")), (&self.trash, own.join("trash"))];
        for (folder, place) in places {
            match folder.is_at(&place) {
                Ok(true) => {}
                Ok(false) => return Err(FolderError::RootVanished(place.display().to_string())),
                Err(error) => return Err(FolderError::new(&place.display(), error)),
            }
        }
        Ok(())
    }

    /// Keeps other steps off these paths until it is dropped.
    fn hold(&self, paths: &[&MediaPath]) -> Result<Held<'_>, FolderError> {
        let mut held = Held { folder: self, paths: Vec::with_capacity(paths.len()) };
        for path in paths {
            let folded = path.folded();
            if held.paths.contains(&folded) {
                continue;
            }
            if !self.busy_paths().insert(folded.clone()) {
                return Err(FolderError::Busy(path.to_string()));
            }
            held.paths.push(folded);
        }
        Ok(held)
    }

    fn busy_paths(&self) -> MutexGuard<'_, BTreeSet<FoldedPath>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder that `path` is in; `None` if it does not exist.
    fn folder_of(&self, path: &MediaPath) -> Result<Option<Folder>, FolderError> {
        let mut folder = self.clone_of(&self.top)?;
        for (name, shown) in folders_of(path) {
            folder = match folder.open_folder(name) {
                Ok(inner) => inner,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(in_the_way(&folder, name, shown, error)),
            };
        }
        Ok(Some(folder))
    }

    /// The folder that `path` is in, made where it does not exist.
    fn create_folder_of(&self, path: &MediaPath) -> Result<Folder, FolderError> {
        let mut folder = self.clone_of(&self.top)?;
        for (name, shown) in folders_of(path) {
            folder = create_inner(&folder, name).map_err(|error| in_the_way(&folder, name, shown, error))?;
        }
        Ok(folder)
    }

    fn clone_of(&self, folder: &Folder) -> Result<Folder, FolderError> {
        folder.try_clone().map_err(|error| FolderError::new(&self.root.display(), error))
    }

    /// Refuses where no name could be given without the danger of replacing something.
    fn require_no_replace(&self) -> Result<(), FolderError> {
        if self.abilities.no_replace {
            Ok(())
        } else {
            Err(FolderError::NoSafeRename(self.root.display().to_string()))
        }
    }
}

/// The paths that one step works on.
struct Held<'a> {
    folder: &'a CacheFolder,
    paths: Vec<FoldedPath>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut busy = self.folder.busy_paths();
        for path in &self.paths {
            busy.remove(path);
        }
    }
}

/// The folders that lead to a file, outermost first: each one's name, and its path for people.
fn folders_of(path: &MediaPath) -> impl Iterator<Item = (&str, &str)> {
    let text = path.as_str();
    text.match_indices('/').map(move |(end, _)| {
        let shown = text.get(..end).unwrap_or(text);
        (shown.rsplit('/').next().unwrap_or(shown), shown)
    })
}

/// Opens a folder in `folder`, made durably where it does not exist.
fn create_inner(folder: &Folder, name: &str) -> io::Result<Folder> {
    match folder.open_folder(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    if folder.create_folder(name)? {
        folder.sync()?;
    }
    folder.open_folder(name)
}

/// The error of a folder that could not be opened, which names a link or file that stands in its place.
fn in_the_way(folder: &Folder, name: &str, shown: &str, error: io::Error) -> FolderError {
    match folder.stat(name) {
        Ok(looked) if looked.kind != FileKind::Folder => {
            FolderError::InTheWay { path: shown.to_owned(), obstacle: looked.kind.name() }
        }
        _ => FolderError::new(shown, error),
    }
}
