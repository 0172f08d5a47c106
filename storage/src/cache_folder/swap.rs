//! Publishing over a file that is there: our content goes in, what was there comes out, and only then is it judged.
//!
//! What holds always: every content is under one of the names that the journal knows, the final name, a conflict
//! name or trash, after every single step; what came out is judged by its bytes, once it is quiet; what is not
//! proved to be the expected, a known or our own content is a person's and is kept beside. The judging is the same
//! after a crash (`recover`).

use super::journal::{PublishJournal, Role, Stem};
use super::{ATTEMPTS_MAX, CacheFolder, FolderError, NAMES_MAX, TrashEntry};
use crate::hashing::{HashError, hash_file};
use crate::platform::{FileKind, Folder, Looked};
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tcat_engine::content::Content;
use tcat_engine::paths::MediaPath;

/// The longest wait for a file to become quiet; then it counts as being edited.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(30);
const QUIET_PAUSE_MAX: Duration = Duration::from_millis(200);

/// One publication over a present file, as its journal describes it.
pub(super) struct Swap<'a> {
    pub folder: &'a CacheFolder,
    pub journal: &'a PublishJournal,
    pub stem: &'a Stem,
}

/// What became of what came out.
#[derive(Debug)]
pub(super) enum Disposed {
    Trashed(TrashEntry),
    PutBack(Content),
    KeptBeside,
    /// A person removed it from `.tcat/tmp`.
    Gone,
}

/// What came out, by its bytes.
enum Verdict {
    Expected,
    Known(Content),
    Edit,
    Gone,
}

impl Swap<'_> {
    /// Gives our partial the swap name.
    pub(super) fn name_ours(&self) -> Result<(), FolderError> {
        let swap = self.stem.name(Role::Swap);
        let renamed = self.folder.temp.rename_no_replace(&self.journal.partial, &self.folder.temp, &swap);
        renamed.map_err(|error| FolderError::new(&swap, error))?;
        self.folder.step("ours named")?;
        self.folder.sync_temp()?;
        self.folder.step("ours named durably")
    }

    /// Puts our content under the final name; true if something came out ([`Swap::came_out_role`]).
    pub(super) fn place_ours(&self, kept_as: &mut Vec<MediaPath>) -> Result<bool, FolderError> {
        if self.journal.by_exchange { self.exchange_in() } else { self.rename_in(kept_as) }
    }

    /// The role of the file that came out.
    pub(super) fn came_out_role(&self) -> Role {
        if self.journal.by_exchange { Role::Swap } else { Role::Aside }
    }

    /// Exchanges the swap name with the final name. True if something came out; if nothing was there, it is placed.
    fn exchange_in(&self) -> Result<bool, FolderError> {
        let (path, swap) = (&self.journal.path, self.stem.name(Role::Swap));
        for _ in 0..ATTEMPTS_MAX {
            let folder = self.folder.create_folder_of(path)?;
            let came_out = match self.folder.temp.exchange(&swap, &folder, path.file_name()) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match self.folder.temp.rename_no_replace(&swap, &folder, path.file_name()) {
                        Ok(()) => false,
                        Err(error) if is_race(&error) => continue,
                        Err(error) => return Err(FolderError::new(path, error)),
                    }
                }
                Err(error) => return Err(FolderError::new(path, error)),
            };
            self.folder.step("exchanged")?;
            self.sync_both(&folder)?;
            self.folder.step("exchanged durably")?;
            return Ok(came_out);
        }
        Err(FolderError::Restless(path.to_string()))
    }

    /// Renames what is there aside, then ours into its place. What a person saves there in between is an edit.
    fn rename_in(&self, kept_as: &mut Vec<MediaPath>) -> Result<bool, FolderError> {
        let (path, swap) = (&self.journal.path, self.stem.name(Role::Swap));
        let folder = self.folder.create_folder_of(path)?;
        let aside = self.stem.name(Role::Aside);
        let came_out = match folder.rename_no_replace(path.file_name(), &self.folder.temp, &aside) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(FolderError::new(path, error)),
        };
        self.folder.step("renamed aside")?;
        self.sync_both(&folder)?;
        self.folder.step("renamed aside durably")?;
        for _ in 0..ATTEMPTS_MAX {
            let folder = self.folder.create_folder_of(path)?;
            match self.folder.temp.rename_no_replace(&swap, &folder, path.file_name()) {
                Ok(()) => {
                    self.folder.step("placed")?;
                    self.sync_both(&folder)?;
                    self.folder.step("placed durably")?;
                    return Ok(came_out);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    kept_as.extend(self.keep_beside(&folder, path.file_name())?);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FolderError::new(path, error)),
            }
        }
        Err(FolderError::Restless(path.to_string()))
    }

    /// Judges what came out and brings it where it belongs.
    pub(super) fn dispose(&self, role: Role, kept_as: &mut Vec<MediaPath>) -> Result<Disposed, FolderError> {
        let name = self.stem.name(role);
        let verdict = self.judge(&name)?;
        self.folder.step("judged")?;
        Ok(match verdict {
            Verdict::Gone => Disposed::Gone,
            Verdict::Expected => {
                Disposed::Trashed(self.folder.to_trash(&self.folder.temp, &name, &self.journal.path)?)
            }
            Verdict::Known(content) => {
                match self.journal.by_exchange {
                    true => self.exchange_back()?,
                    false => self.rename_back(kept_as)?,
                }
                self.folder.step("put back durably")?;
                kept_as.extend(self.return_ours()?);
                Disposed::PutBack(content)
            }
            Verdict::Edit => match self.keep_beside(&self.folder.temp, &name)? {
                Some(kept) => {
                    kept_as.push(kept);
                    Disposed::KeptBeside
                }
                None => Disposed::Gone,
            },
        })
    }

    /// The known content goes back by a second exchange; what comes out now is under the swap name again.
    fn exchange_back(&self) -> Result<(), FolderError> {
        let (path, swap) = (&self.journal.path, self.stem.name(Role::Swap));
        for _ in 0..ATTEMPTS_MAX {
            let folder = self.folder.create_folder_of(path)?;
            match self.folder.temp.exchange(&swap, &folder, path.file_name()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match self.folder.temp.rename_no_replace(&swap, &folder, path.file_name()) {
                        Err(error) if is_race(&error) => continue,
                        other => other,
                    }
                }
                other => other,
            }
            .map_err(|error| FolderError::new(path, error))?;
            self.folder.step("put back")?;
            return self.sync_both(&folder);
        }
        Err(FolderError::Restless(path.to_string()))
    }

    /// Without exchange: ours leaves the final name for the swap name, then the known content returns.
    fn rename_back(&self, kept_as: &mut Vec<MediaPath>) -> Result<(), FolderError> {
        let (path, temp) = (&self.journal.path, &self.folder.temp);
        let (swap, aside) = (self.stem.name(Role::Swap), self.stem.name(Role::Aside));
        let folder = self.folder.create_folder_of(path)?;
        match folder.rename_no_replace(path.file_name(), temp, &swap) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FolderError::new(path, error));
            }
            _ => {}
        }
        self.folder.step("ours taken out")?;
        self.sync_both(&folder)?;
        self.folder.step("ours taken out durably")?;
        self.return_aside(&aside, kept_as)?;
        self.folder.step("put back")?;
        Ok(())
    }

    /// What was renamed aside gets its name back; if someone saved there meanwhile, it is kept beside.
    pub(super) fn return_aside(&self, aside: &str, kept_as: &mut Vec<MediaPath>) -> Result<(), FolderError> {
        let path = &self.journal.path;
        for _ in 0..ATTEMPTS_MAX {
            let folder = self.folder.create_folder_of(path)?;
            match self.folder.temp.rename_no_replace(aside, &folder, path.file_name()) {
                Ok(()) => return self.sync_both(&folder),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    kept_as.extend(self.keep_beside(&self.folder.temp, aside)?);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FolderError::new(path, error)),
            }
        }
        Err(FolderError::Restless(path.to_string()))
    }

    /// Deals with what is under the swap name when it should be ours: a partial again if it is, kept beside if a
    /// person wrote to it while it had the final name.
    pub(super) fn return_ours(&self) -> Result<Option<MediaPath>, FolderError> {
        let swap = self.stem.name(Role::Swap);
        let Some(looked) = self.folder.role_look(self.stem, Role::Swap)? else { return Ok(None) };
        if self.is_at_path(&looked)? {
            // The other name of the published file, left by a crash between linking and removing.
            self.folder.temp.remove_file(&swap).map_err(|error| FolderError::new(&swap, error))?;
            return Ok(None);
        }
        if !self.is_target(&swap, &looked) {
            return self.keep_beside(&self.folder.temp, &swap);
        }
        // A file that may have another name must not be written to again as a partial.
        if looked.links == 1 {
            match self.folder.temp.rename_no_replace(&swap, &self.folder.temp, &self.journal.partial) {
                Ok(()) => return self.folder.sync_temp().map(|()| None),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(FolderError::new(&swap, error)),
            }
        }
        self.folder.to_trash(&self.folder.temp, &swap, &self.journal.path).map(|_| None)
    }

    /// Whether the file with this look is the one at the final name.
    pub(super) fn is_at_path(&self, looked: &Looked) -> Result<bool, FolderError> {
        let path = &self.journal.path;
        let Some(folder) = self.folder.folder_of(path)? else { return Ok(false) };
        Ok(folder.stat(path.file_name()).is_ok_and(|there| there.same_file(looked) == Some(true)))
    }

    /// Whether the file under `name` has our content.
    pub(super) fn is_target(&self, name: &str, looked: &Looked) -> bool {
        let target = &self.journal.target;
        let hash = || hash_file(&self.folder.temp_place(name), &|| false);
        looked.kind == FileKind::Regular
            && looked.stat.size == target.size
            && hash().is_ok_and(|hashed| hashed.content.same_as(target))
    }

    /// Moves a file to the first free conflict name beside the path; `None` if it is gone.
    pub(super) fn keep_beside(&self, from: &Folder, name: &str) -> Result<Option<MediaPath>, FolderError> {
        let mut restless = 0;
        let mut n = 1;
        while n <= NAMES_MAX && restless < ATTEMPTS_MAX {
            let kept = self.journal.path.conflict_name(&self.journal.author_name, n);
            let folder = self.folder.create_folder_of(&kept)?;
            match from.rename_no_replace(name, &folder, kept.file_name()) {
                Ok(()) => {
                    self.folder.step("kept beside")?;
                    self.folder.sync(&folder, &kept)?;
                    self.folder.sync(from, &self.journal.path)?;
                    return Ok(Some(kept));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => n += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if from.stat(name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                        return Ok(None);
                    }
                    restless += 1;
                }
                Err(error) => return Err(FolderError::new(&kept, error)),
            }
        }
        Err(FolderError::NoFreeName(self.journal.path.to_string()))
    }

    fn judge(&self, name: &str) -> Result<Verdict, FolderError> {
        let Some(size) = self.wait_until_quiet(name)? else { return Ok(Verdict::Edit) };
        let PublishJournal { target, expected, known, .. } = self.journal;
        let mut candidates = known.iter().chain([target, expected]);
        if !candidates.any(|candidate| candidate.size == size) {
            return Ok(Verdict::Edit);
        }
        let content = match hash_file(&self.folder.temp_place(name), &|| false) {
            Ok(hashed) => hashed.content,
            Err(HashError::Missing) => return Ok(Verdict::Gone),
            // What cannot be read cannot be proved to be anything but a person's.
            Err(_) => return Ok(Verdict::Edit),
        };
        if content.same_as(expected) {
            return Ok(Verdict::Expected);
        }
        let mut known = known.iter().chain([target]);
        Ok(known.find(|known| known.same_as(&content)).map_or(Verdict::Edit, |known| Verdict::Known(*known)))
    }

    /// The file's size once it was not written for the quiet time; `None` if it is gone, no file, or never quiet.
    ///
    /// An old modification time is enough; a fresh one, or one in the future, is watched for the whole quiet time.
    fn wait_until_quiet(&self, name: &str) -> Result<Option<u64>, FolderError> {
        let look = || match self.folder.temp.stat(name) {
            Ok(looked) => Ok(Some(looked)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FolderError::new(name, error)),
        };
        let quiet = Duration::from_millis(self.journal.quiet_ms).min(QUIET_WAIT_MAX);
        let Some(mut last) = look()? else { return Ok(None) };
        if last.kind != FileKind::Regular {
            return Ok(None);
        }
        if age(last.stat.mtime_ns).is_some_and(|age| age >= quiet) {
            return Ok(Some(last.stat.size));
        }
        let start = Instant::now();
        let mut unwritten_since = start;
        while unwritten_since.elapsed() < quiet {
            if start.elapsed() > QUIET_WAIT_MAX.min(quiet * 10) {
                return Ok(None);
            }
            std::thread::sleep((quiet / 4).min(QUIET_PAUSE_MAX));
            let Some(now) = look()? else { return Ok(None) };
            if !now.unwritten_since(&last) {
                (last, unwritten_since) = (now, Instant::now());
            }
        }
        Ok(Some(last.stat.size))
    }

    fn sync_both(&self, folder: &Folder) -> Result<(), FolderError> {
        self.folder.sync(folder, &self.journal.path)?;
        self.folder.sync_temp()
    }
}

/// Whether a rename failed only because someone else changed the names at this moment.
fn is_race(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists)
}

fn age(mtime_ns: i64) -> Option<Duration> {
    let modified = UNIX_EPOCH.checked_add(Duration::from_nanos(u64::try_from(mtime_ns).ok()?))?;
    SystemTime::now().duration_since(modified).ok()
}
