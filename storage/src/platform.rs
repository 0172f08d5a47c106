//! The only place that knows operating systems: what the standard library cannot do, or not safely enough.
//!
//! What holds always: nothing here follows a symbolic link below a [`Folder`], so a link that is swapped in at any
//! moment leads nothing outside; nothing here replaces a file except [`Folder::replace`], which is for tcat's own
//! files. Unix goes by open folders, which a rename of their path cannot redirect; other systems go by path and
//! check before each step (`portable`), without exchange. Not here: what a step means, and how it survives a crash
//! (`cache_folder`).

#[cfg(any(not(unix), test))]
#[cfg_attr(unix, allow(dead_code, reason = "compiled beside the real one so that the tests reach it"))]
mod portable;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub use portable::Folder;
#[cfg(unix)]
pub use unix::Folder;

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use tcat_engine::paths::MediaPath;
pub use tcat_engine::publishing::{FileKind, Looked};

/// Looks at `path` without following a link in its last component.
pub fn stat(path: &Path) -> io::Result<Looked> {
    let metadata = path.symlink_metadata()?;
    #[cfg(unix)]
    return Ok(unix::looked_at(&metadata));
    #[cfg(not(unix))]
    return Ok(portable::looked_at(&metadata));
}

/// Renames a file unless something has the new name already ([`io::ErrorKind::AlreadyExists`]).
///
/// Atomic where the file system can; else by a second hard link, where a crash can leave both names.
/// [`io::ErrorKind::Unsupported`] where neither works.
pub fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    let (from_folder, from_name) = folder_and_name(from)?;
    let (to_folder, to_name) = folder_and_name(to)?;
    from_folder.rename_no_replace(from_name, &to_folder, to_name)
}

/// Exchanges what two names stand for, at once; [`io::ErrorKind::Unsupported`] where the file system cannot.
pub fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    let (a_folder, a_name) = folder_and_name(a)?;
    let (b_folder, b_name) = folder_and_name(b)?;
    a_folder.exchange(a_name, &b_folder, b_name)
}

/// Milliseconds on a clock that never goes back and goes on while the machine sleeps, from an arbitrary start.
pub fn monotonic_ms() -> u64 {
    #[cfg(target_os = "linux")]
    return unix::boot_time_ms();
    #[cfg(not(target_os = "linux"))]
    {
        // macOS and Windows: the standard library's clock; on macOS it stands still during sleep.
        static BEGAN: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Makes a folder's names survive power loss, where the system has such a call.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    Folder::open(path)?.sync()
}

/// Makes a file's bytes survive power loss.
pub fn sync_file(path: &Path) -> io::Result<()> {
    // Windows wants a file that is open for writing; elsewhere a read-only file can be made durable too.
    File::options().write(true).open(path).or_else(|_| File::open(path))?.sync_all()
}

/// The bytes that this user may still write on the volume of `path`; `None` where the system does not tell.
pub fn free_bytes(path: &Path) -> io::Result<Option<u64>> {
    #[cfg(unix)]
    return unix::free_bytes(path).map(Some);
    #[cfg(not(unix))]
    return path.metadata().map(|_| None);
}

/// An exclusive lock on a file, given back when it is dropped or its process ends in whatever way.
#[derive(Debug)]
pub struct FileLock(#[allow(dead_code, reason = "held, never read")] File);

/// Locks the file at `path`, which is created if need be; `None` if someone else holds it.
pub fn lock_file(path: &Path) -> io::Result<Option<FileLock>> {
    lock(File::options().create(true).truncate(false).read(true).write(true).open(path)?)
}

/// [`lock_file`] for a file in a folder in which others may put links: none is followed.
pub fn lock_in(folder: &Folder, name: &str) -> io::Result<Option<FileLock>> {
    lock(folder.open_own(name)?)
}

fn lock(file: File) -> io::Result<Option<FileLock>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(FileLock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Lets only this user read or write the file (mode 0600). Elsewhere than on Unix the profile's rights stand.
pub fn restrict_to_user(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return unix::restrict_to_user(path);
    #[cfg(not(unix))]
    return path.metadata().map(|_| ());
}

/// Whether `path`, or the nearest folder above it that exists, is on another machine's disk (NFS, SMB, sshfs, 9p...),
/// where locks and memory maps cannot be relied on. False where the system does not tell.
pub fn is_network_file_system(path: &Path) -> io::Result<bool> {
    let absolute = std::path::absolute(path)?;
    for place in absolute.ancestors() {
        match place.symlink_metadata() {
            Ok(_) => return on_network(place),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn on_network(path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    return unix::is_network_file_system(path);
    #[cfg(not(unix))]
    return Ok(path.to_string_lossy().starts_with(r"\\"));
}

/// Opens the regular file at `path` below `root` for reading; no component below the root may be a symbolic link,
/// also not one that is swapped in meanwhile, and a FIFO is refused, not waited for.
pub fn open_beneath(root: &Path, path: &MediaPath) -> io::Result<File> {
    let mut folder = Folder::open(root)?;
    let mut components = path.components().peekable();
    while let Some(name) = components.next() {
        if components.peek().is_none() {
            return folder.open_file(name);
        }
        folder = folder.open_folder(name)?;
    }
    Err(io::ErrorKind::InvalidInput.into())
}

/// A file of ours in a folder in which others may put links and files: a partial content. Opened by the open folder,
/// so that it is in that folder whatever becomes of the path; see [`Folder::open_own`].
#[derive(Clone, Debug)]
pub struct OwnFile {
    folder: std::sync::Arc<Folder>,
    name: std::ffi::OsString,
    place: PathBuf,
}

impl OwnFile {
    /// The file that has this name in `folder`, which is at `place`.
    pub fn new(folder: Folder, name: &str, place: PathBuf) -> Self {
        Self { folder: std::sync::Arc::new(folder), name: name.into(), place }
    }

    /// The file at a path of our own.
    pub fn at(path: &Path) -> io::Result<Self> {
        let (folder, name) = folder_and_name(path)?;
        Ok(Self { folder: std::sync::Arc::new(folder), name: name.to_owned(), place: path.to_owned() })
    }

    /// Where it is, for people.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Opens it for reading and writing, made if need be.
    pub fn open(&self) -> io::Result<File> {
        self.folder.open_own(&self.name)
    }

    /// Removes it.
    pub fn remove(&self) -> io::Result<()> {
        self.folder.remove_file(&self.name)
    }

    /// The folder that it is in, and its name there.
    pub fn in_folder(&self) -> (&Folder, &OsStr) {
        (&self.folder, &self.name)
    }
}

fn folder_and_name(path: &Path) -> io::Result<(Folder, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => Folder::open(parent)?,
        _ => Folder::open(Path::new("."))?,
    };
    Ok((folder, name))
}

/// Refuses what is not one plain name: a caller's mistake must not leave the folder.
fn one_name(name: &OsStr) -> io::Result<&OsStr> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(std::path::Component::Normal(only)), None) if only == name => Ok(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not one plain name")),
    }
}

#[cfg(test)]
mod tests;
