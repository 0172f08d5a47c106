//! Every other system: by path, with a check before each step. A link that takes a folder's place between the check and
//! the step is not noticed (a file's own name is opened without following, on Windows), and there is no exchange; so the
//! cache folder renames aside instead.

use super::{FileKind, Looked, one_name};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use tcat_engine::observation::FileStat;

/// A folder, by its path.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Opens a folder by path, following links: for the root, which a person chose.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path.metadata()?.is_dir() {
            Ok(Self(path.to_owned()))
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    /// A second handle of the same folder.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.clone()))
    }

    /// Whether `path` still leads to this folder.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(path == self.0 && path.is_dir())
    }

    /// Opens a folder in this one; [`io::ErrorKind::NotADirectory`] if it is a link or anything else.
    pub fn open_folder(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let path = self.place(name.as_ref())?;
        if path.symlink_metadata()?.is_dir() {
            Ok(Self(path))
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    /// Makes a folder in this one; false if something has that name already.
    pub fn create_folder(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        match fs::create_dir(self.place(name.as_ref())?) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Looks at a name without following it.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> io::Result<Looked> {
        Ok(looked_at(&self.place(name.as_ref())?.symlink_metadata()?))
    }

    /// Opens a regular file for reading; [`io::ErrorKind::InvalidInput`] if it is anything else.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.open_as(name.as_ref(), OpenOptions::new().read(true))
    }

    /// Opens a file that is ours alone for reading and writing, made if nothing has the name. A link and anything that
    /// is no regular file are refused, not followed and not changed. That it has a second name is not noticed.
    pub fn open_own(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let name = name.as_ref();
        match File::create_new(self.place(name)?) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.open_as(name, OpenOptions::new().read(true).write(true))
            }
            Err(error) => Err(error),
            // Again, since a new file is opened for writing alone.
            Ok(_) => self.open_as(name, OpenOptions::new().read(true).write(true)),
        }
    }

    /// Makes a regular file's bytes survive power loss. Windows wants it open for writing.
    pub fn sync_file(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = name.as_ref();
        let writable = self.open_as(name, OpenOptions::new().read(true).write(true));
        writable.or_else(|_| self.open_file(name))?.sync_all()
    }

    fn open_as(&self, name: &OsStr, options: &mut OpenOptions) -> io::Result<File> {
        let path = self.place(name)?;
        let no_regular_file = || io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
        if !path.symlink_metadata()?.is_file() {
            return Err(no_regular_file());
        }
        #[cfg(windows)]
        {
            /// `FILE_FLAG_OPEN_REPARSE_POINT`: a link is opened itself, whatever took the name since.
            const NOT_FOLLOWING: u32 = 0x0020_0000;
            std::os::windows::fs::OpenOptionsExt::custom_flags(options, NOT_FOLLOWING);
        }
        let file = options.open(path)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(no_regular_file()) }
    }

    /// Makes a new, empty file for writing; [`io::ErrorKind::AlreadyExists`] if something has that name.
    pub fn create_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        File::create_new(self.place(name.as_ref())?)
    }

    /// See [`super::rename_no_replace`]. By a second hard link: the plain rename of these systems replaces.
    pub fn rename_no_replace(
        &self,
        name: impl AsRef<OsStr>,
        to: &Folder,
        to_name: impl AsRef<OsStr>,
    ) -> io::Result<()> {
        let (from, to) = (self.place(name.as_ref())?, to.place(to_name.as_ref())?);
        match fs::hard_link(&from, &to) {
            Ok(()) => fs::remove_file(&from),
            // A file system without hard links answers in many ways: it matters only whether the name is free.
            Err(error) => match (from.symlink_metadata(), to.symlink_metadata()) {
                (_, Ok(_)) => Err(io::ErrorKind::AlreadyExists.into()),
                (Ok(_), Err(_)) if error.kind() == io::ErrorKind::PermissionDenied => {
                    Err(io::ErrorKind::Unsupported.into())
                }
                _ => Err(error),
            },
        }
    }

    /// Not on these systems.
    pub fn exchange(&self, _: impl AsRef<OsStr>, _: &Folder, _: impl AsRef<OsStr>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Renames and replaces what has the new name: for tcat's own files, never for a person's.
    pub fn replace(
        &self,
        name: impl AsRef<OsStr>,
        to: &Folder,
        to_name: impl AsRef<OsStr>,
    ) -> io::Result<()> {
        fs::rename(self.place(name.as_ref())?, to.place(to_name.as_ref())?)
    }

    /// Removes one name that is no folder.
    pub fn remove_file(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        fs::remove_file(self.place(name.as_ref())?)
    }

    /// Removes an empty folder.
    pub fn remove_folder(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        fs::remove_dir(self.place(name.as_ref())?)
    }

    /// The names in this folder, sorted, at most `limit` of them.
    pub fn names(&self, limit: usize) -> io::Result<Vec<OsString>> {
        let entries = fs::read_dir(&self.0)?.take(limit);
        let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    /// Nothing: these systems have no call for it.
    pub fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn place(&self, name: &OsStr) -> io::Result<PathBuf> {
        if cfg!(windows) && is_impossible_on_windows(&name.to_string_lossy()) {
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, "Windows has no such name"));
        }
        Ok(self.0.join(one_name(name)?))
    }
}

/// Names that Windows refuses or, worse, takes for something else: a stream, a device, the name without its dot.
pub(super) fn is_impossible_on_windows(name: &str) -> bool {
    const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = ["com", "lpt"].iter().any(|device| {
        stem.strip_prefix(device)
            .is_some_and(|rest| rest.chars().count() == 1 && "123456789¹²³".contains(rest))
    });
    let forbidden = |c: char| (c as u32) < 32 || "<>:\"/\\|?*".contains(c);
    name.contains(forbidden) || name.ends_with(['.', ' ']) || DEVICES.contains(&stem.as_str()) || numbered
}

pub(super) fn looked_at(metadata: &Metadata) -> Looked {
    let file_type = metadata.file_type();
    let since_1970 = |time: io::Result<std::time::SystemTime>| {
        let age = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        age.and_then(|age| i64::try_from(age.as_nanos()).ok()).unwrap_or_default()
    };
    Looked {
        kind: match (file_type.is_file(), file_type.is_dir(), file_type.is_symlink()) {
            (true, _, _) => FileKind::Regular,
            (_, true, _) => FileKind::Folder,
            (_, _, true) => FileKind::Symlink,
            _ => FileKind::Other,
        },
        stat: FileStat {
            size: metadata.len(),
            mtime_ns: since_1970(metadata.modified()),
            ctime_ns: 0,
            file_id: 0,
        },
        links: 0,
        volume: 0,
    }
}
