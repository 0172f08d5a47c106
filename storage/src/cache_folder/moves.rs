//! Renames in the cache folder: a file follows its item's path, and a conflicting file is set aside.
//!
//! What holds always: a rename never replaces; a name that differs only in case is reached through a temporary one
//! where the file system takes both for the same; a file that turns out not to be the expected one is put back, or
//! kept where it is, never lost.

use super::journal::{Journal, MoveJournal, Role, Stem};
use super::publish::stat_of_ours;
use super::{ATTEMPTS_MAX, CacheFolder, FolderError, NAMES_MAX};
use crate::hashing::{HashError, hash_file};
use crate::platform::{Folder, Looked};
use std::io;
use tcat_engine::content::Content;
use tcat_engine::observation::FileStat;
use tcat_engine::paths::MediaPath;

/// What became of a move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Moved {
    /// The file has the new name; its stat, where nobody wrote to it meanwhile.
    Moved(Option<FileStat>),
    /// Something has the new name already: nothing was changed.
    Occupied,
    /// There is no file to move.
    Absent,
}

/// What became of setting a file aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetAside {
    /// The expected content has the other name; its stat, where nobody wrote to it meanwhile.
    Aside(Option<FileStat>),
    /// Another content is at the path, and stays there.
    Differs(Content),
    /// It is being written: nothing was changed.
    Changing,
    /// It changed at the last moment and the path was taken again: the changed file stays under the other name.
    KeptAside,
    /// Something has the other name already: nothing was changed.
    Occupied,
    /// There is no file.
    Absent,
}

/// Whether the file at a path is the expected one.
pub(super) enum Confirmed {
    Is(Looked),
    Differs(Content),
    Changing,
    Absent,
}

impl CacheFolder {
    /// Gives a file another path, making folders as needed; the folder that it leaves stays, also when empty.
    pub fn move_file(&self, from: &MediaPath, to: &MediaPath) -> Result<Moved, FolderError> {
        self.check_root()?;
        self.require_no_replace()?;
        let _held = self.hold(&[from, to])?;
        let stem = Stem::of_move(from, to);
        self.finish(&stem)?;
        let Some(folder) = self.folder_of(from)? else { return Ok(Moved::Absent) };
        let Some(before) = self.look(&folder, from)? else { return Ok(Moved::Absent) };
        if from == to {
            return Ok(Moved::Moved(Some(before.stat)));
        }
        let target = self.create_folder_of(to)?;
        match folder.rename_no_replace(from.file_name(), &target, to.file_name()) {
            Ok(()) => {
                self.sync(&target, to)?;
                self.sync(&folder, from)?;
                return Ok(Moved::Moved(stat_of_ours(&target, to, &before)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Moved::Absent),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(FolderError::new(to, error));
            }
            Err(_) => {}
        }
        let same = target.stat(to.file_name()).ok().map(|there| there.same_file(&before));
        let one_name = match same {
            // Two links of one file are two names, unless the file system itself takes them for one.
            Some(Some(true)) => before.links == 1 || self.abilities.ignores_case,
            Some(None) => self.abilities.ignores_case,
            Some(Some(false)) | None => false,
        };
        if !one_name || from.folded() != to.folded() {
            return Ok(Moved::Occupied);
        }
        self.move_through(&stem, MoveJournal { from: from.clone(), to: to.clone() }, &before)
    }

    /// For two names that the file system takes for one.
    pub(super) fn move_through(
        &self,
        stem: &Stem,
        journal: MoveJournal,
        before: &Looked,
    ) -> Result<Moved, FolderError> {
        self.write_journal(stem, &Journal::Move(journal.clone()))?;
        self.step("move journal written")?;
        let MoveJournal { from, to } = &journal;
        let folder = self.create_folder_of(from)?;
        match folder.rename_no_replace(from.file_name(), &self.temp, stem.name(Role::Moving)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FolderError::new(from, error));
            }
            _ => {}
        }
        self.step("on its way")?;
        self.sync_temp()?;
        let place = self.end_move(stem, &journal)?;
        self.step("arrived")?;
        self.remove_journal(stem)?;
        Ok(match place {
            Some(place) if place == *to => {
                Moved::Moved(self.folder_of(to)?.and_then(|folder| stat_of_ours(&folder, to, before)))
            }
            Some(_) => Moved::Occupied,
            None => Moved::Absent,
        })
    }

    /// Brings a file on its way to its new name, else back to the old one, else to a free one beside the new.
    pub(super) fn end_move(
        &self,
        stem: &Stem,
        journal: &MoveJournal,
    ) -> Result<Option<MediaPath>, FolderError> {
        let moving = stem.name(Role::Moving);
        let numbered = (1..=NAMES_MAX).map(|n| journal.to.numbered(n));
        let mut restless = 0;
        for place in [journal.to.clone(), journal.from.clone()].into_iter().chain(numbered) {
            while restless < ATTEMPTS_MAX {
                if self.role_look(stem, Role::Moving)?.is_none() {
                    return Ok(None);
                }
                let folder = self.create_folder_of(&place)?;
                match self.temp.rename_no_replace(&moving, &folder, place.file_name()) {
                    Ok(()) => {
                        self.sync(&folder, &place)?;
                        return Ok(Some(place));
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        if self.drop_moved(&moving, &folder, &place)? {
                            return Ok(Some(place));
                        }
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => restless += 1,
                    Err(error) => return Err(FolderError::new(&place, error)),
                }
            }
        }
        Err(FolderError::NoFreeName(journal.to.to_string()))
    }

    /// Where a rename is a link and a removal, a crash can leave the temporary name beside the other one.
    fn drop_moved(&self, moving: &str, folder: &Folder, place: &MediaPath) -> Result<bool, FolderError> {
        let (Ok(here), Ok(there)) = (self.temp.stat(moving), folder.stat(place.file_name())) else {
            return Ok(false);
        };
        if here.same_file(&there) != Some(true) {
            return Ok(false);
        }
        self.temp.remove_file(moving).map_err(|error| FolderError::new(moving, error))?;
        Ok(true)
    }

    /// Renames the file at `path`, if it has the expected content, to its conflict name `to`.
    pub fn set_aside(
        &self,
        path: &MediaPath,
        expected: &Content,
        to: &MediaPath,
    ) -> Result<SetAside, FolderError> {
        self.check_root()?;
        self.require_no_replace()?;
        let _held = self.hold(&[path, to])?;
        let Some(folder) = self.folder_of(path)? else { return Ok(SetAside::Absent) };
        let before = match self.confirm(&folder, path, expected)? {
            Confirmed::Is(looked) => looked,
            Confirmed::Differs(content) => return Ok(SetAside::Differs(content)),
            Confirmed::Changing => return Ok(SetAside::Changing),
            Confirmed::Absent => return Ok(SetAside::Absent),
        };
        let target = self.create_folder_of(to)?;
        self.step("confirmed")?;
        match folder.rename_no_replace(path.file_name(), &target, to.file_name()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(SetAside::Occupied),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SetAside::Absent),
            Err(error) => return Err(FolderError::new(to, error)),
        }
        self.step("set aside")?;
        self.sync(&target, to)?;
        self.sync(&folder, path)?;
        let stat = stat_of_ours(&target, to, &before);
        if stat.is_some() {
            return Ok(SetAside::Aside(stat));
        }
        // Someone saved between the look and the rename: what has the other name now is judged again.
        match self.confirm(&target, to, expected)? {
            Confirmed::Is(looked) => Ok(SetAside::Aside(Some(looked.stat))),
            Confirmed::Absent => Ok(SetAside::Absent),
            changed => match target.rename_no_replace(to.file_name(), &folder, path.file_name()) {
                Ok(()) => {
                    self.sync(&folder, path)?;
                    Ok(match changed {
                        Confirmed::Differs(content) => SetAside::Differs(content),
                        _ => SetAside::Changing,
                    })
                }
                Err(_) => Ok(SetAside::KeptAside),
            },
        }
    }

    /// Hashes the file at `path` and compares; the look is the one that the digest is for.
    pub(super) fn confirm(
        &self,
        folder: &Folder,
        path: &MediaPath,
        expected: &Content,
    ) -> Result<Confirmed, FolderError> {
        let Some(looked) = self.look(folder, path)? else { return Ok(Confirmed::Absent) };
        let hashed = match hash_file(&self.place_of(path), &|| false) {
            Ok(hashed) => hashed,
            Err(HashError::Missing) => return Ok(Confirmed::Absent),
            Err(HashError::Unreadable(error)) => return Err(FolderError::new(path, error)),
            Err(_) => return Ok(Confirmed::Changing),
        };
        // The digest went by path, the rename goes by folder: both must mean the same file.
        if hashed.stat != looked.stat {
            return Ok(Confirmed::Changing);
        }
        Ok(match hashed.content.same_as(expected) {
            true => Confirmed::Is(looked),
            false => Confirmed::Differs(hashed.content),
        })
    }
}
