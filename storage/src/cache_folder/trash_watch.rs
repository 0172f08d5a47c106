//! Trash is looked at too: what a program writes into a file that lies there becomes a version beside the old path.
//!
//! An editor may have had the file open when it was trashed, and save into it later. What holds always: a file counts
//! as written to if it does not look as this process left it, or, where nothing is remembered, if its last write is
//! its last change, for getting into trash was a change of its own. (On a file system where a rename does not show in
//! the change time, and after a restart, that cannot be told, and such a file stays in trash until it expires.) Only
//! what is quiet is moved. Not here: whose version it becomes (the engine).

use super::{CacheFolder, FolderError, TrashEntry};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{MutexGuard, PoisonError};
use tcat_engine::content::Content;
use tcat_engine::observation::FileStat;
use tcat_engine::paths::MediaPath;
use tcat_engine::publishing::{self, KeepChanged, Kept, KeptChanged, TrashPlace};

/// How many files in trash are remembered; of others their times tell.
const REMEMBERED_MAX: usize = 100_000;
/// How many files are brought out of trash in one go; the rest waits for the next.
const CHANGED_MAX: usize = 1000;

/// A version that came out of trash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptFromTrash {
    /// The path that it had, or the next free name in trash.
    pub path: MediaPath,
    /// Where it is now.
    pub kept_as: MediaPath,
}

impl CacheFolder {
    /// Looks at all files in trash and brings those beside their old paths that were written to there.
    pub fn keep_changed_in_trash(&self, quiet_ms: u64) -> Result<Vec<KeptFromTrash>, FolderError> {
        self.check_root()?;
        self.require_no_replace()?;
        let mut changed = Vec::new();
        self.visit_trash(&mut |entry| {
            if self.looks_written(&entry) {
                changed.push(entry);
            }
            if changed.len() < CHANGED_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let mut kept = Vec::new();
        for entry in changed {
            kept.extend(self.keep_changed(entry, quiet_ms)?);
        }
        Ok(kept)
    }

    fn keep_changed(&self, entry: TrashEntry, quiet_ms: u64) -> Result<Option<KeptFromTrash>, FolderError> {
        let (place, path) = (entry.place(), entry.path);
        // Another step works on that path: next time.
        let Ok(_held) = self.hold(&[&path]) else { return Ok(None) };
        let was = self.trashed().get(&place).map(|(content, _)| *content);
        let act = KeepChanged {
            place: place.clone(),
            path: path.clone(),
            was,
            author_name: self.author_name.clone(),
            quiet_ms,
        };
        match self.act(act)? {
            KeptChanged::KeptAs(kept_as) => {
                self.forget_trashed(&place);
                Ok(Some(KeptFromTrash { path, kept_as }))
            }
            KeptChanged::Unchanged(stat) => {
                if let Some((_, remembered)) = self.trashed().get_mut(&place) {
                    *remembered = stat;
                }
                Ok(None)
            }
            KeptChanged::Gone => {
                self.forget_trashed(&place);
                Ok(None)
            }
            KeptChanged::Later => Ok(None),
        }
    }

    pub(super) fn looks_written(&self, entry: &TrashEntry) -> bool {
        let remembered = self.trashed().get(&entry.place()).map(|(_, stat)| *stat);
        publishing::looks_written(remembered.as_ref(), &entry.stat)
            && (remembered.is_some() || self.renames_show())
    }

    fn renames_show(&self) -> bool {
        // Where it cannot be tried, nothing is taken out of trash.
        *self.renames_show.get_or_init(|| super::root::renames_show(&self.temp).unwrap_or(false))
    }

    pub(super) fn remember_trashed(&self, kept: &Kept, content: Content) {
        let mut trashed = self.trashed();
        if trashed.len() < REMEMBERED_MAX {
            trashed.insert(kept.place.clone(), (content, kept.stat));
        }
    }

    pub(super) fn forget_trashed(&self, place: &TrashPlace) {
        self.trashed().remove(place);
    }

    fn trashed(&self) -> MutexGuard<'_, BTreeMap<TrashPlace, (Content, FileStat)>> {
        self.trashed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
