//! Trash: whole plain files in `.tcat/trash/DATE/PATH`, where a person can find them without tcat.
//!
//! What holds always: a file gets into trash and out of it by a rename that replaces nothing; the date is the day on
//! which it got there, in UTC; only [`CacheFolder::expire`] removes, and never a file that was written since it got
//! there less than the given number of days ago. Not here: noticing that a file in trash was changed (`scanner`).

use super::moves::Confirmed;
use super::{CacheFolder, FolderError, NAMES_MAX, create_inner, folders_of, in_the_way};
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
    /// It changed at the last moment and the path was taken again: the changed file is in trash.
    KeptInTrash(TrashEntry),
    /// There is no file.
    Absent,
}

/// What became of restoring a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Restored {
    /// It has the path; its stat.
    Restored(FileStat),
    /// It is not the content that was asked for, and stays in trash.
    Differs,
    /// Something has the path already: nothing was changed.
    Occupied,
    /// It is not in trash.
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
        let Some(folder) = self.folder_of(path)? else { return Ok(Trashed::Absent) };
        let Some(expected) = expected else {
            return match self.look(&folder, path)? {
                Some(_) => self.to_trash(&folder, path.file_name(), path).map(Trashed::Trashed),
                None => Ok(Trashed::Absent),
            };
        };
        let before = match self.confirm(&folder, path, expected)? {
            Confirmed::Is(looked) => looked,
            Confirmed::Differs(content) => return Ok(Trashed::Differs(content)),
            Confirmed::Changing => return Ok(Trashed::Changing),
            Confirmed::Absent => return Ok(Trashed::Absent),
        };
        self.step("confirmed")?;
        let entry = self.to_trash(&folder, path.file_name(), path)?;
        self.step("in trash")?;
        let key = |stat: &FileStat| (stat.size, stat.mtime_ns, stat.file_id);
        if key(&entry.stat) == key(&before.stat) {
            return Ok(Trashed::Trashed(entry));
        }
        self.judge_trashed(&folder, path, expected, entry)
    }

    /// Someone saved between the look and the rename: what is in trash now is judged again.
    fn judge_trashed(
        &self,
        folder: &Folder,
        path: &MediaPath,
        expected: &Content,
        entry: TrashEntry,
    ) -> Result<Trashed, FolderError> {
        let found = hash_file(&self.place_in_trash(&entry), &|| false).map(|hashed| hashed.content);
        if found.as_ref().is_ok_and(|content| content.same_as(expected)) {
            return Ok(Trashed::Trashed(entry));
        }
        let Some((inner, name)) = self.open_trash(&entry)? else { return Ok(Trashed::Absent) };
        match inner.rename_no_replace(&name, folder, path.file_name()) {
            Ok(()) => {
                self.sync(folder, path)?;
                Ok(found.map_or(Trashed::Changing, Trashed::Differs))
            }
            Err(_) => Ok(Trashed::KeptInTrash(entry)),
        }
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
        let Some((inner, name)) = self.open_trash(entry)? else { return Ok(Restored::Absent) };
        match inner.stat(&name) {
            Ok(looked) if looked.kind == FileKind::Regular => {}
            _ => return Ok(Restored::Absent),
        }
        if let Some(content) = content {
            let hashed = hash_file(&self.place_in_trash(entry), &|| false);
            if !hashed.is_ok_and(|hashed| hashed.content.same_as(content)) {
                return Ok(Restored::Differs);
            }
        }
        let folder = self.create_folder_of(to)?;
        match inner.rename_no_replace(&name, &folder, to.file_name()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Restored::Occupied),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Restored::Absent),
            Err(error) => return Err(FolderError::new(to, error)),
        }
        self.sync(&folder, to)?;
        Ok(folder.stat(to.file_name()).map_or(Restored::Absent, |looked| Restored::Restored(looked.stat)))
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
            let Some((inner, name)) = self.open_trash(&entry)? else { continue };
            match inner.remove_file(&name) {
                Ok(()) => {
                    expired.files += 1;
                    expired.bytes = expired.bytes.saturating_add(entry.stat.size);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FolderError::new(&entry.path, error)),
            }
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

    /// Moves `name` in `from` to today's trash, under `path` or the next free name.
    pub(super) fn to_trash(
        &self,
        from: &Folder,
        name: &str,
        path: &MediaPath,
    ) -> Result<TrashEntry, FolderError> {
        let date = self.today();
        let (folder, place) = self.trash_folder(date, path)?;
        for n in 0..NAMES_MAX {
            let numbered = if n == 0 { path.clone() } else { path.numbered(n) };
            match from.rename_no_replace(name, &folder, numbered.file_name()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(FolderError::new(path, error)),
            }
            self.step("trashed")?;
            self.sync(&folder, path)?;
            self.sync(from, path)?;
            let stat = folder.stat(numbered.file_name()).map_err(|error| FolderError::new(path, error))?.stat;
            let path = media_path(&format!("{place}{}", numbered.file_name()))?;
            return Ok(TrashEntry { date, path, stat });
        }
        Err(FolderError::NoFreeName(path.to_string()))
    }

    /// The folder in trash for a file of this path, and its place under the day, ending in `/` unless empty.
    fn trash_folder(&self, date: Date, path: &MediaPath) -> Result<(Folder, String), FolderError> {
        let day = date.to_string();
        let mut folder = create_inner(&self.trash, &day)
            .map_err(|error| in_the_way(&self.trash, &day, &format!(".tcat/trash/{day}"), error))?;
        let mut place = String::new();
        for (name, shown) in folders_of(path) {
            let mut names = std::iter::once(Ok(name.to_owned()))
                .chain((1..NAMES_MAX).map(|n| Ok(media_path(shown)?.numbered(n).file_name().to_owned())));
            // A file that was trashed under the folder's name makes the folder take the next.
            (folder, place) = loop {
                let Some(name) = names.next().transpose()? else {
                    return Err(FolderError::NoFreeName(path.to_string()));
                };
                match create_inner(&folder, &name) {
                    Ok(inner) => break (inner, format!("{place}{name}/")),
                    Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                    Err(error) => return Err(FolderError::new(shown, error)),
                }
            };
        }
        Ok((folder, place))
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

    fn visit_trash(&self, visit: &mut dyn FnMut(TrashEntry) -> ControlFlow<()>) -> Result<(), FolderError> {
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
        let open = || -> io::Result<Folder> {
            let mut folder = self.trash.open_folder(date.to_string())?;
            for (name, _) in folders_of(path) {
                folder = folder.open_folder(name)?;
            }
            Ok(folder)
        };
        match open() {
            Ok(folder) => Ok(Some((folder, path.file_name().to_owned()))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(FolderError::new(path, error)),
        }
    }
}

fn media_path(text: &str) -> Result<MediaPath, FolderError> {
    MediaPath::parse(text).map_err(|_| FolderError::NameImpossible(text.to_owned()))
}

/// Whether a file was written in the last days. A time in the future comes from a camera, not from an editor.
fn was_written_within(days: u32, now: Timestamp, mtime_ns: i64) -> bool {
    let Ok(written) = Timestamp::from_nanosecond(i128::from(mtime_ns)) else { return false };
    let age = now.duration_since(written);
    age >= SignedDuration::ZERO && age < SignedDuration::from_hours(i64::from(days).saturating_mul(24))
}
