//! The primitives of publishing with real files: what the machines of `tcat_engine::publishing` ask for is done here.
//!
//! What holds always: no symbolic link below the root is followed; nothing is replaced; only names in `.tcat/tmp` are
//! removed. Whatever is done is answered by what the file system says, not by what should be. Not here: what is done
//! when (the machines).

use super::{CacheFolder, FolderError, create_inner, folders_of, in_the_way};
use crate::disk_clock;
use crate::hashing::{HashError, hash_in_folder};
use crate::platform::{FileKind, Folder, Looked};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::Sound;
use tcat_engine::publishing::{Act, Answer, Failure, Machine, Place, Primitive};

/// The longest wait for a file to become quiet; then it counts as being edited.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(30);
const QUIET_PAUSE_MAX: Duration = Duration::from_millis(200);

/// More than any journal of ours takes.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 20;

impl CacheFolder {
    /// Performs one primitive. For the acts of this folder, and for tests that compare a model with it.
    pub fn perform(&self, primitive: &Primitive) -> Result<Answer, FolderError> {
        match primitive {
            Primitive::Look(place) => self.look(place),
            Primitive::Hash(place) => self.hash(place),
            Primitive::AwaitQuiet(place, quiet_ms) => self.await_quiet(place, *quiet_ms),
            Primitive::MakeFolders(place) => self.make_folders(place),
            Primitive::Rename(from, to) => self.rename(from, to),
            Primitive::Exchange(a, b) => self.exchange(a, b),
            Primitive::SyncFolder(place) => match self.located(place)? {
                Some((folder, _)) => answered(place, folder.sync()),
                None => Ok(Answer::Missing),
            },
            Primitive::SyncFile(place) => self.sync_file(place),
            Primitive::Write(name, bytes) => {
                let write = || self.temp.create_file(name)?.write_all(bytes);
                answered(&Place::Temp(name.clone()), write())
            }
            Primitive::Read(name) => self.read_small(name),
            Primitive::Remove(name) => answered(&Place::Temp(name.clone()), self.temp.remove_file(name)),
        }
    }

    /// Performs an act from its beginning to its end.
    pub(super) fn act<A: Act>(&self, act: A) -> Result<A::End, FolderError> {
        let ended = Machine::new(act, Sound).drive(|step| {
            let answer = self.perform(&step.primitive);
            self.step(step.then)?;
            Ok::<_, FolderError>(answer)
        })?;
        ended.map_err(FolderError::from)
    }

    /// The folder that a place is in, and its name there; `None` if that folder does not exist.
    fn located<'a>(&self, place: &'a Place) -> Result<Option<(Folder, &'a str)>, FolderError> {
        Ok(match place {
            Place::Media(path) => self.folder_of(path)?.map(|folder| (folder, path.file_name())),
            Place::Temp(name) => Some((self.clone_of(&self.temp)?, name.as_str())),
            Place::Trash(place) => {
                self.folder_below_day(&place.day, &place.path)?.map(|folder| (folder, place.path.file_name()))
            }
        })
    }

    fn look(&self, place: &Place) -> Result<Answer, FolderError> {
        let Some((folder, name)) = self.located(place)? else { return Ok(Answer::Missing) };
        Ok(stat(&folder, name, place)?.map_or(Answer::Missing, Answer::Looked))
    }

    fn hash(&self, place: &Place) -> Result<Answer, FolderError> {
        let Some((folder, name)) = self.located(place)? else { return Ok(Answer::Missing) };
        Ok(match hash_in_folder(&folder, OsStr::new(name), &|| false) {
            Ok(hashed) => Answer::Hashed(hashed.content, hashed.stat),
            Err(HashError::Missing) => Answer::Missing,
            Err(HashError::Changed | HashError::Cancelled) => Answer::Changing,
            Err(HashError::WrongType(_)) => Answer::NoFile,
            Err(HashError::Unreadable(error)) => return Err(FolderError::new(&shown(place), error)),
        })
    }

    /// An old modification time is enough; a fresh one, or one in the future, is watched for the whole quiet time.
    fn await_quiet(&self, place: &Place, quiet_ms: u64) -> Result<Answer, FolderError> {
        let look = || match self.located(place)? {
            Some((folder, name)) => stat(&folder, name, place),
            None => Ok(None),
        };
        let quiet = Duration::from_millis(quiet_ms).min(QUIET_WAIT_MAX);
        let Some(mut last) = look()? else { return Ok(Answer::Missing) };
        if last.kind != FileKind::Regular {
            return Ok(Answer::NoFile);
        }
        if self.age(last.stat.mtime_ns).is_some_and(|age| age >= quiet) {
            return Ok(Answer::Looked(last));
        }
        let start = Instant::now();
        let mut unwritten_since = start;
        while unwritten_since.elapsed() < quiet {
            if start.elapsed() > QUIET_WAIT_MAX.min(quiet * 10) {
                return Ok(Answer::Changing);
            }
            std::thread::sleep((quiet / 4).min(QUIET_PAUSE_MAX));
            let Some(now) = look()? else { return Ok(Answer::Missing) };
            if !now.unwritten_since(&last) {
                (last, unwritten_since) = (now, Instant::now());
            }
        }
        Ok(Answer::Looked(last))
    }

    /// By the clock of the disk; nothing where it cannot be read, or is behind.
    fn age(&self, mtime_ns: i64) -> Option<Duration> {
        let age_ns = disk_clock::read(&self.temp).ok()?.checked_sub(mtime_ns)?;
        u64::try_from(age_ns).ok().map(Duration::from_nanos)
    }

    fn make_folders(&self, place: &Place) -> Result<Answer, FolderError> {
        match place {
            Place::Temp(_) => Ok(Answer::Done),
            Place::Media(path) => match self.create_folder_of(path) {
                Ok(_) => Ok(Answer::Done),
                Err(FolderError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    Ok(Answer::Missing)
                }
                Err(error) => Err(error),
            },
            Place::Trash(place) => self.make_trash_folders(&place.day, &place.path),
        }
    }

    fn make_trash_folders(&self, day: &str, path: &MediaPath) -> Result<Answer, FolderError> {
        let mut folder = create_inner(&self.trash, day)
            .map_err(|error| in_the_way(&self.trash, day, &format!(".tcat/trash/{day}"), error))?;
        for (part, (name, shown)) in folders_of(path).enumerate() {
            folder = match create_inner(&folder, name) {
                Ok(inner) => inner,
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    return Ok(Answer::NoFolder(part));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Answer::Missing),
                Err(error) => return Err(FolderError::new(shown, error)),
            };
        }
        Ok(Answer::Done)
    }

    fn rename(&self, from: &Place, to: &Place) -> Result<Answer, FolderError> {
        let (Some((folder, name)), Some((to_folder, to_name))) = (self.located(from)?, self.located(to)?)
        else {
            return Ok(Answer::Missing);
        };
        answered(of_people(from, to), folder.rename_no_replace(name, &to_folder, to_name))
    }

    fn exchange(&self, a: &Place, b: &Place) -> Result<Answer, FolderError> {
        let (Some((folder, name)), Some((other, other_name))) = (self.located(a)?, self.located(b)?) else {
            return Ok(Answer::Missing);
        };
        answered(of_people(a, b), folder.exchange(name, &other, other_name))
    }

    fn sync_file(&self, place: &Place) -> Result<Answer, FolderError> {
        if let Place::Temp(name) = place {
            return answered(place, self.temp.sync_file(name));
        }
        let Some((folder, name)) = self.located(place)? else { return Ok(Answer::Missing) };
        answered(place, folder.sync_file(name))
    }

    fn read_small(&self, name: &str) -> Result<Answer, FolderError> {
        let mut bytes = Vec::new();
        let read = self
            .temp
            .open_file(name)
            .and_then(|file| file.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(Answer::Bytes(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Answer::Missing),
            Err(error) => Err(FolderError::new(name, error)),
        }
    }

    /// The folder in trash that something is in; `None` if it is gone.
    pub(super) fn folder_below_day(
        &self,
        day: &str,
        path: &MediaPath,
    ) -> Result<Option<Folder>, FolderError> {
        let open = || -> io::Result<Folder> {
            let mut folder = self.trash.open_folder(day)?;
            for (name, _) in folders_of(path) {
                folder = folder.open_folder(name)?;
            }
            Ok(folder)
        };
        match open() {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(FolderError::new(path, error)),
        }
    }
}

fn stat(folder: &Folder, name: &str, place: &Place) -> Result<Option<Looked>, FolderError> {
    match folder.stat(name) {
        Ok(looked) => Ok(Some(looked)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FolderError::new(&shown(place), error)),
    }
}

fn answered(place: &Place, done: io::Result<()>) -> Result<Answer, FolderError> {
    match done {
        Ok(()) => Ok(Answer::Done),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Answer::Missing),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Answer::Occupied),
        Err(error) => Err(FolderError::new(&shown(place), error)),
    }
}

/// Of two places the one that people know, for an error's text.
fn of_people<'a>(a: &'a Place, b: &'a Place) -> &'a Place {
    if matches!(b, Place::Media(_)) { b } else { a }
}

fn shown(place: &Place) -> String {
    match place {
        Place::Media(path) => path.to_string(),
        Place::Temp(name) => name.clone(),
        Place::Trash(place) => place.path.to_string(),
    }
}

impl From<Failure<FolderError>> for FolderError {
    fn from(failure: Failure<FolderError>) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::InTheWay(path, kind) => Self::InTheWay { path, obstacle: kind.name() },
            Failure::Restless(path) => Self::Restless(path),
            Failure::NoFreeName(path) => Self::NoFreeName(path),
            Failure::BadPartial(why) => Self::BadPartial { path: "a partial file".into(), why },
            Failure::BadJournal(name, why) => Self::BadJournal { name, why },
            Failure::NameImpossible(name) => Self::NameImpossible(name),
            Failure::Confused(what) => {
                Self::Io { path: "the media folder".into(), source: io::Error::other(what) }
            }
        }
    }
}
