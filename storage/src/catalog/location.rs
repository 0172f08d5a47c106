//! Which file a catalog's path leads to, so that a file put in the place of ours is noticed.
//!
//! Where the system gives files no number all are equal here; there (Windows) an open file cannot be replaced
//! either. Not here: anything about the file's contents.

use crate::platform::{self, FileKind};
use std::io;
use std::path::{Path, PathBuf};

/// The identity of a regular file, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FileIdentity {
    volume: u64,
    file_id: u64,
}

impl FileIdentity {
    /// The identity of the file at `path`, links followed.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut looked = platform::stat(path)?;
        if looked.kind == FileKind::Symlink {
            looked = platform::stat(&path.canonicalize()?)?;
        }
        if looked.kind != FileKind::Regular {
            let what = format!("it is {}, not a file", looked.kind.name());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(Self { volume: looked.volume, file_id: looked.stat.file_id })
    }
}

/// The folder in which `path` lies.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Where SQLite keeps the write-ahead log of the file.
pub(super) fn log_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_put_in_the_place_of_another_has_another_identity() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&path, "1").unwrap();
        std::fs::write(&other, "2").unwrap();
        let before = FileIdentity::of(&path).unwrap();
        assert_eq!(FileIdentity::of(&path).unwrap(), before);
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            assert_eq!(FileIdentity::of(&link).unwrap(), before);
            std::fs::rename(&other, &path).unwrap();
            assert_ne!(FileIdentity::of(&path).unwrap(), before);
            assert_eq!(FileIdentity::of(&link).unwrap(), FileIdentity::of(&path).unwrap());
        }
        assert!(FileIdentity::of(folder.path()).is_err());
    }
}
