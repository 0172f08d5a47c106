//! After a crash: every step that a journal in `.tcat/tmp` describes is finished or undone.
//!
//! What holds always: what is found is judged by its bytes and names, never by how far the step seems to have got;
//! nothing is removed but journals, second names of a file that keeps another, and unfinished journals; a swap file
//! that no journal explains goes to trash. Files in `.tcat/tmp` whose names are not exactly ours are left alone.
//! Recovering twice does nothing more, and a crash in the middle of recovering is recovered from like any other.

use super::journal::{Journal, MoveJournal, PublishJournal, Role, Stem};
use super::swap::{Disposed, Swap};
use super::temp::partial_key;
use super::{CacheFolder, FolderError};
use std::fmt;
use std::io;
use tcat_engine::paths::MediaPath;

/// One thing that recovery did, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recovered {
    /// A publication had not reached the path, or was taken back: its content is a partial again.
    Undone(MediaPath),
    /// A publication was done; the file that it replaced is in trash.
    Finished(MediaPath),
    /// What had been saved at the path is beside it now.
    KeptBeside {
        /// The path.
        path: MediaPath,
        /// Where it is.
        kept_as: MediaPath,
    },
    /// A rename through a temporary name was finished: the file is here.
    Moved(MediaPath),
    /// A file under a name of ours that no journal explains is in trash.
    Unexplained(String),
    /// Not done; it is tried again at the next start.
    Failed {
        /// The file's name in `.tcat/tmp`.
        name: String,
        /// Why.
        why: String,
    },
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undone(path) => write!(f, "{path}: an interrupted publication was undone"),
            Self::Finished(path) => write!(f, "{path}: an interrupted publication was finished"),
            Self::KeptBeside { path, kept_as } => {
                write!(f, "{path}: what was saved there is kept as {kept_as}")
            }
            Self::Moved(path) => write!(f, "{path}: an interrupted rename was finished"),
            Self::Unexplained(name) => {
                write!(f, ".tcat/tmp/{name}: no journal explains it; it is in trash now")
            }
            Self::Failed { name, why } => write!(f, ".tcat/tmp/{name}: could not be recovered: {why}"),
        }
    }
}

impl CacheFolder {
    /// Finishes what a crash interrupted. To be called after opening, before anything else is done in the folder.
    pub fn recover(&self) -> Result<Vec<Recovered>, FolderError> {
        self.check_root()?;
        let names = self.temp_names()?;
        let mut report = Vec::new();
        let stems = names.iter().filter_map(|name| Stem::parse(name));
        for (stem, _) in stems.clone().filter(|(_, role)| *role == Role::Journal) {
            match self.recover_stem(&stem) {
                Ok(done) => report.extend(done),
                Err(FolderError::Busy(_)) => {}
                Err(stopped @ FolderError::Stopped(_)) => return Err(stopped),
                Err(error) => {
                    report.push(Recovered::Failed { name: stem.name(Role::Journal), why: error.to_string() });
                }
            }
        }
        for (stem, role) in stems.filter(|(_, role)| *role != Role::Journal) {
            match self.recover_unexplained(&stem, role) {
                Ok(done) => report.extend(done),
                Err(stopped @ FolderError::Stopped(_)) => return Err(stopped),
                Err(error) => {
                    report.push(Recovered::Failed { name: stem.name(role), why: error.to_string() })
                }
            }
        }
        for name in names.iter().filter(|name| partial_key(name).is_some()) {
            self.drop_second_name(name)?;
        }
        Ok(report)
    }

    fn recover_stem(&self, stem: &Stem) -> Result<Vec<Recovered>, FolderError> {
        let Some(journal) = self.read_journal(stem)? else { return Ok(Vec::new()) };
        let _held = match &journal {
            Journal::Publish(publish) => self.hold(&[&publish.path])?,
            Journal::Move(rename) => self.hold(&[&rename.from, &rename.to])?,
        };
        self.finish(stem)
    }

    /// Finishes or undoes what the journal of `stem` describes, if there is one, and removes it.
    pub(super) fn finish(&self, stem: &Stem) -> Result<Vec<Recovered>, FolderError> {
        let report = match self.read_journal(stem)? {
            None => return Ok(Vec::new()),
            Some(Journal::Publish(journal)) => self.finish_publish(stem, &journal)?,
            Some(Journal::Move(journal)) => self.finish_move(stem, &journal)?,
        };
        self.step("recovered")?;
        self.remove_journal(stem)?;
        Ok(report)
    }

    fn finish_publish(&self, stem: &Stem, journal: &PublishJournal) -> Result<Vec<Recovered>, FolderError> {
        let swap = Swap { folder: self, journal, stem };
        let mut kept_as = Vec::new();
        let mut report = match journal.by_exchange {
            true => self.finish_exchange(&swap, &mut kept_as)?,
            false => self.finish_aside(&swap, &mut kept_as)?,
        };
        let path = &journal.path;
        report
            .extend(kept_as.into_iter().map(|kept_as| Recovered::KeptBeside { path: path.clone(), kept_as }));
        Ok(report)
    }

    /// Our content under the swap name: not exchanged, or exchanged back. Anything else came out.
    fn finish_exchange(
        &self,
        swap: &Swap<'_>,
        kept_as: &mut Vec<MediaPath>,
    ) -> Result<Vec<Recovered>, FolderError> {
        let Some(looked) = self.role_look(swap.stem, Role::Swap)? else { return Ok(Vec::new()) };
        if swap.is_at_path(&looked)? || swap.is_target(&swap.stem.name(Role::Swap), &looked) {
            kept_as.extend(swap.return_ours()?);
            return Ok(vec![Recovered::Undone(swap.journal.path.clone())]);
        }
        self.finish_disposal(swap, Role::Swap, kept_as)
    }

    /// Where nothing has the final name, what was renamed aside returns; else the placing is taken for done.
    fn finish_aside(
        &self,
        swap: &Swap<'_>,
        kept_as: &mut Vec<MediaPath>,
    ) -> Result<Vec<Recovered>, FolderError> {
        let path = &swap.journal.path;
        let aside = swap.stem.name(Role::Aside);
        let ours_waits = self.role_look(swap.stem, Role::Swap)?;
        let mut report = Vec::new();
        if let Some(looked) = self.role_look(swap.stem, Role::Aside)? {
            let placed = match &ours_waits {
                Some(ours) => swap.is_at_path(ours)?,
                None => true,
            };
            if swap.is_at_path(&looked)? {
                self.temp.remove_file(&aside).map_err(|error| FolderError::new(&aside, error))?;
            } else if placed {
                // The other name of a file that was placed by linking would be in the way of putting back.
                kept_as.extend(if ours_waits.is_some() { swap.return_ours()? } else { None });
                report.extend(self.finish_disposal(swap, Role::Aside, kept_as)?);
            } else {
                swap.return_aside(&aside, kept_as)?;
                self.step("aside returned")?;
            }
        }
        if self.role_look(swap.stem, Role::Swap)?.is_some() {
            kept_as.extend(swap.return_ours()?);
            report.push(Recovered::Undone(path.clone()));
        }
        Ok(report)
    }

    fn finish_disposal(
        &self,
        swap: &Swap<'_>,
        role: Role,
        kept_as: &mut Vec<MediaPath>,
    ) -> Result<Vec<Recovered>, FolderError> {
        let path = swap.journal.path.clone();
        Ok(match swap.dispose(role, kept_as)? {
            Disposed::Trashed(_) | Disposed::Gone => vec![Recovered::Finished(path)],
            Disposed::PutBack(_) => vec![Recovered::Undone(path)],
            Disposed::KeptBeside => Vec::new(),
        })
    }

    fn finish_move(&self, stem: &Stem, journal: &MoveJournal) -> Result<Vec<Recovered>, FolderError> {
        Ok(self.end_move(stem, journal)?.map(Recovered::Moved).into_iter().collect())
    }

    /// A file of ours without its journal. An unfinished journal had not begun anything; all else is kept.
    fn recover_unexplained(&self, stem: &Stem, role: Role) -> Result<Option<Recovered>, FolderError> {
        let name = stem.name(role);
        if self.role_look(stem, Role::Journal)?.is_some() || self.role_look(stem, role)?.is_none() {
            return Ok(None);
        }
        if role == Role::FreshJournal {
            self.temp.remove_file(&name).map_err(|error| FolderError::new(&name, error))?;
            return Ok(None);
        }
        let place = MediaPath::parse(&format!("recovered/{name}"))
            .map_err(|error| FolderError::BadJournal { name: name.clone(), why: error.to_string() })?;
        self.to_trash(&self.temp, &name, &place)?;
        Ok(Some(Recovered::Unexplained(name)))
    }

    /// A partial that was placed by linking, when the crash came before its own name was removed: writing to it
    /// would write to the published file.
    fn drop_second_name(&self, name: &str) -> Result<(), FolderError> {
        match self.temp.stat(name) {
            Ok(looked) if looked.links > 1 => {
                self.temp.remove_file(name).map_err(|error| FolderError::new(name, error))
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FolderError::new(name, error)),
            _ => Ok(()),
        }
    }
}
