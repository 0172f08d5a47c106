//! Trash: whole plain files in `.tcat/trash/DATE/PATH`, where a person can find them without tcat.
//!
//! What holds always: a file gets into trash and out of it by a rename that replaces nothing; the date is the day on
//! which it got there, in UTC; only [`CacheFolder::expire`] removes, and never a file that was written since it got
//! there less than the given number of days ago. Not here: noticing that a file in trash was
//! changed (`trash_watch`).

use super::{CacheFolder, FolderError};
use crate::hashing::hash_file;
use crate::platform::{FileKind, Folder};
use jiff::civil::Date;
use jiff::{SignedDuration, Span, Timestamp};
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use tcat_engine::content::Content;
use tcat_engine::observation::FileStat;
use tcat_engine::paths::{MediaPath, OWN_FOLDER};
pub use tcat_engine::publishing::Restored;
use tcat_engine::publishing::{self, Kept, TrashEnd, TrashPlace};

/// How many names of one folder in trash are looked at.
const FOLDER_NAMES_MAX: usize = 1_000_000;

/// A file in trash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TrashEntry {
    /// The day on which it got there.
    pub date: Date,
    /// Its path under that day: the one that it had, or the next free name.
    pub path: MediaPath,
    /// Its stat.
    pub stat: FileStat,
}

/// What became of trashing a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trashed {
    /// It is in trash.
    Trashed(TrashEntry),
    /// Another content is at the path, and stays there.
    Differs(Content),
    /// It is being written: nothing was changed.
    Changing,
    /// It changed at the last moment and the path was taken again: the changed file is beside it.
    KeptBeside(MediaPath),
    /// There is no file.
    Absent,
}

/// What expiry removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expired {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl CacheFolder {
    /// Moves the file at `path` to trash; with `expected`, only if that is its content. Emptied folders stay.
    pub fn trash(&self, path: &MediaPath, expected: Option<&Content>) -> Result<Trashed, FolderError> {
        self.check_root()?;
        self.require_no_replace()?;
        let _held = self.hold(&[path])?;
        let ended = self.act(publishing::Trash {
            path: path.clone(),
            expected: expected.copied(),
            author_name: self.author_name.clone(),
            day: self.today().to_string(),
        })?;
        Ok(match ended {
            TrashEnd::Trashed(kept) => {
                if let Some(expected) = expected {
                    self.remember_trashed(&kept, *expected);
                }
                Trashed::Trashed(entry_of(kept)?)
            }
            TrashEnd::Differs(content) => Trashed::Differs(content),
            TrashEnd::Changing => Trashed::Changing,
            TrashEnd::KeptBeside(kept_as) => Trashed::KeptBeside(kept_as),
            TrashEnd::Absent => Trashed::Absent,
        })
    }

    /// The newest file in trash that has this content, by size first, then by its bytes.
    pub fn find_in_trash(&self, content: &Content) -> Result<Option<TrashEntry>, FolderError> {
        let mut found = None;
        self.visit_trash(&mut |entry| {
            let hash = || hash_file(&self.place_in_trash(&entry), &|| false);
            if entry.stat.size == content.size && hash().is_ok_and(|hashed| hashed.content.same_as(content)) {
                found = Some(entry);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// The files in trash, the newest day first, at most `limit` of them.
    pub fn trash_entries(&self, limit: usize) -> Result<Vec<TrashEntry>, FolderError> {
        let mut entries = Vec::new();
        self.visit_trash(&mut |entry| {
            if entries.len() >= limit {
                return ControlFlow::Break(());
            }
            entries.push(entry);
            ControlFlow::Continue(())
        })?;
        Ok(entries)
    }

    /// Where a file in trash is, for reading.
    pub fn place_in_trash(&self, entry: &TrashEntry) -> PathBuf {
        let mut place = self.root.join(OWN_FOLDER).join("trash").join(entry.date.to_string());
        place.extend(entry.path.components());
        place
    }

    /// Brings a file back from trash to `to`, if that is free; with `content`, only if that is what it is.
    pub fn restore(
        &self,
        entry: &TrashEntry,
        content: Option<&Content>,
        to: &MediaPath,
    ) -> Result<Restored, FolderError> {
        self.check_root()?;
        self.require_no_replace()?;
        let _held = self.hold(&[to])?;
        self.act(publishing::Restore { from: entry.place(), content: content.copied(), to: to.clone() })
    }

    /// Removes what got into trash more than `days` days ago and was not written to in as many days.
    pub fn expire(&self, days: u32) -> Result<Expired, FolderError> {
        self.check_root()?;
        let now = (self.now)();
        // A number of days that leads beyond the calendar keeps everything.
        let Ok(first_kept) =
            Span::new().try_days(i64::from(days)).and_then(|span| self.today().checked_sub(span))
        else {
            return Ok(Expired::default());
        };
        let mut expired = Expired::default();
        for date in self.trash_days()?.into_iter().filter(|date| *date < first_kept) {
            self.expire_day(date, days, now, &mut expired)?;
        }
        Ok(expired)
    }

    /// Removes the oldest files in trash until no more than `bytes` are kept, but none that a program wrote to there.
    pub fn expire_above(&self, bytes: u64) -> Result<Expired, FolderError> {
        self.check_root()?;
        let (mut kept_bytes, mut beyond) = (0u64, Vec::new());
        self.visit_trash(&mut |entry| {
            kept_bytes = kept_bytes.saturating_add(entry.stat.size);
            if kept_bytes > bytes {
                beyond.push(entry);
            }
            ControlFlow::Continue(())
        })?;
        let mut expired = Expired::default();
        for entry in beyond.iter().filter(|entry| !self.looks_written(entry)) {
            self.expire_entry(entry, &mut expired)?;
        }
        Ok(expired)
    }

    fn expire_entry(&self, entry: &TrashEntry, expired: &mut Expired) -> Result<(), FolderError> {
        let Some((inner, name)) = self.open_trash(entry)? else { return Ok(()) };
        match inner.remove_file(&name) {
            Ok(()) => {
                expired.files += 1;
                expired.bytes = expired.bytes.saturating_add(entry.stat.size);
                self.forget_trashed(&entry.place());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FolderError::new(&entry.path, error)),
        }
    }

    fn expire_day(
        &self,
        date: Date,
        days: u32,
        now: Timestamp,
        expired: &mut Expired,
    ) -> Result<(), FolderError> {
        let mut entries = Vec::new();
        let mut folders = Vec::new();
        let _: ControlFlow<()> = self.visit_day(date, &mut folders, &mut |entry| {
            if !was_written_within(days, now, entry.stat.mtime_ns) {
                entries.push(entry);
            }
            ControlFlow::Continue(())
        })?;
        for entry in entries {
            self.expire_entry(&entry, expired)?;
        }
        // Innermost first; one that is not empty stays.
        for place in folders.iter().rev() {
            if let Some((inner, name)) = self.open_below_day(date, place)? {
                let _ = inner.remove_folder(&name);
            }
        }
        let _ = self.trash.remove_folder(date.to_string());
        Ok(())
    }

    /// The days in trash, the newest first. What is not named like a day is not ours.
    fn trash_days(&self) -> Result<Vec<Date>, FolderError> {
        let names =
            self.trash.names(FOLDER_NAMES_MAX).map_err(|error| FolderError::new(".tcat/trash", error))?;
        let date = |name: &str| name.parse().ok().filter(|date: &Date| date.to_string() == name);
        let mut days: Vec<Date> = names.iter().filter_map(|name| date(name.to_str()?)).collect();
        days.sort();
        days.reverse();
        Ok(days)
    }

    pub(super) fn visit_trash(
        &self,
        visit: &mut dyn FnMut(TrashEntry) -> ControlFlow<()>,
    ) -> Result<(), FolderError> {
        for date in self.trash_days()? {
            if self.visit_day(date, &mut Vec::new(), visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Visits the files of one day and notes its folders, each after the one that it is in.
    fn visit_day(
        &self,
        date: Date,
        folders: &mut Vec<MediaPath>,
        visit: &mut dyn FnMut(TrashEntry) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, FolderError> {
        let day = date.to_string();
        let Ok(top) = self.trash.open_folder(&day) else { return Ok(ControlFlow::Continue(())) };
        let mut next = 0;
        let mut current = Some((top, String::new()));
        while let Some((folder, place)) = current.take() {
            let names = folder.names(FOLDER_NAMES_MAX).map_err(|error| FolderError::new(&day, error))?;
            for name in names.iter().filter_map(|name| name.to_str()) {
                let Ok(path) = MediaPath::parse(&format!("{place}{name}")) else { continue };
                match folder.stat(name) {
                    Ok(looked) if looked.kind == FileKind::Folder => folders.push(path),
                    Ok(looked)
                        if looked.kind == FileKind::Regular
                            && visit(TrashEntry { date, path, stat: looked.stat }).is_break() =>
                    {
                        return Ok(ControlFlow::Break(()));
                    }
                    _ => {}
                }
            }
            while current.is_none() && next < folders.len() {
                if let Some(place) = folders.get(next)
                    && let Some((parent, name)) = self.open_below_day(date, place)?
                    && let Ok(folder) = parent.open_folder(&name)
                {
                    current = Some((folder, format!("{place}/")));
                }
                next += 1;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn open_trash(&self, entry: &TrashEntry) -> Result<Option<(Folder, String)>, FolderError> {
        self.open_below_day(entry.date, &entry.path)
    }

    /// The folder that something in trash is in, and its name there; `None` if that folder is gone.
    fn open_below_day(&self, date: Date, path: &MediaPath) -> Result<Option<(Folder, String)>, FolderError> {
        let folder = self.folder_below_day(&date.to_string(), path)?;
        Ok(folder.map(|folder| (folder, path.file_name().to_owned())))
    }
}

impl TrashEntry {
    pub(super) fn place(&self) -> TrashPlace {
        TrashPlace { day: self.date.to_string(), path: self.path.clone() }
    }
}

/// The entry for a file that was just trashed.
pub(super) fn entry_of(kept: Kept) -> Result<TrashEntry, FolderError> {
    let Kept { place: TrashPlace { day, path }, stat } = kept;
    let date = day.parse().map_err(|_| FolderError::NameImpossible(day))?;
    Ok(TrashEntry { date, path, stat })
}

/// Whether a file was written in the last days. A time in the future comes from a camera, not from an editor.
fn was_written_within(days: u32, now: Timestamp, mtime_ns: i64) -> bool {
    let Ok(written) = Timestamp::from_nanosecond(i128::from(mtime_ns)) else { return false };
    let age = now.duration_since(written);
    age >= SignedDuration::ZERO && age < SignedDuration::from_hours(i64::from(days).saturating_mul(24))
}
