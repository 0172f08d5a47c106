//! What can go wrong with one file of the cache folder: one line each, with what to do. Nothing was lost by any.

use std::fmt::Display;
use std::io;

/// A step in the cache folder that was not done, or not finished. Whatever a person saved is still in the folder, in
/// trash, under a conflict name, or under a swap name that [`super::CacheFolder::recover`] finishes.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The volume is full, or this user's share of it.
    #[error("{0}: the disk is full: free some space on it; it is then tried again")]
    DiskFull(String),
    /// The file system refuses this user.
    #[error("{0}: permission denied: give the user that runs tcat the right to write there")]
    Permission(String),
    /// The volume takes no writes.
    #[error("{0}: the disk is read-only: mount it writable")]
    ReadOnly(String),
    /// No file can have this name here.
    #[error("{0}: this file system accepts no such name: rename the item")]
    NameImpossible(String),
    /// A link, folder or special file is where a file or folder should be.
    #[error("{path}: {obstacle} is in the way, and tcat neither follows nor replaces it: move it elsewhere")]
    InTheWay {
        /// Where the obstacle is.
        path: String,
        /// What it is.
        obstacle: &'static str,
    },
    /// A rename would have to cross volumes.
    #[error("{0}: lies on another disk than the media folder: give that disk a media folder of its own")]
    OtherVolume(String),
    /// The root's path leads elsewhere, or nowhere.
    #[error("{0}: the media folder is gone or was replaced: mount or restore it, then start tcat again")]
    RootVanished(String),
    /// The file system has neither an exchange nor a rename that does not replace.
    #[error("{0}: this file system cannot rename without replacing, so nothing is written: use another disk")]
    NoSafeRename(String),
    /// Other programs change it faster than it can be placed.
    #[error("{0}: other programs keep changing it: it is tried again later")]
    Restless(String),
    /// Another step on the same path is running.
    #[error("{0}: another step on it is still running: it is tried again later")]
    Busy(String),
    /// What should be published is not a whole partial file of this folder.
    #[error("{path}: is not the whole content that should be published ({why}): fetch it again")]
    BadPartial {
        /// The partial file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A thousand names beside it are taken.
    #[error("{0}: every name for another version beside it is taken: move some of those versions elsewhere")]
    NoFreeName(String),
    /// A journal of ours that cannot be read.
    #[error("{name}: cannot be understood ({why}): it was left as it is; a newer tcat may have written it")]
    BadJournal {
        /// The journal's name in `.tcat/tmp`.
        name: String,
        /// Why.
        why: String,
    },
    /// Anything else that the system says.
    #[error("{path}: {source}: check the disk; it is tried again later")]
    Io {
        /// Where.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The hook of [`super::CacheFolder::stop_at`] asked to stop here, as a crash would.
    #[error("stopped at step {0}, as asked")]
    Stopped(&'static str),
}

impl FolderError {
    /// The error for what the system said about `path`.
    pub(super) fn new(path: &(impl Display + ?Sized), source: io::Error) -> Self {
        let path = path.to_string();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path),
            io::ErrorKind::PermissionDenied => Self::Permission(path),
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(path),
            io::ErrorKind::InvalidFilename => Self::NameImpossible(path),
            // What FAT, exFAT and SMB say of a name that Windows does not know.
            io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported if is_risky(&path) => {
                Self::NameImpossible(path)
            }
            io::ErrorKind::CrossesDevices => Self::OtherVolume(path),
            io::ErrorKind::Unsupported => Self::NoSafeRename(path),
            io::ErrorKind::NotADirectory => Self::InTheWay { path, obstacle: "something that is no folder" },
            _ => Self::Io { path, source },
        }
    }
}

fn is_risky(path: &str) -> bool {
    let bad_end = |name: &str| name.ends_with(['.', ' ']);
    path.contains(|c: char| c.is_control() || ":*?\"<>|".contains(c)) || path.split('/').any(bad_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_is_one_line_that_says_what_why_and_what_to_do() {
        let kinds = [
            (io::ErrorKind::StorageFull, "full"),
            (io::ErrorKind::QuotaExceeded, "full"),
            (io::ErrorKind::PermissionDenied, "permission"),
            (io::ErrorKind::ReadOnlyFilesystem, "read-only"),
            (io::ErrorKind::InvalidFilename, "no such name"),
            (io::ErrorKind::CrossesDevices, "another disk"),
            (io::ErrorKind::Unsupported, "without replacing"),
            (io::ErrorKind::NotADirectory, "no folder"),
            (io::ErrorKind::Other, "check the disk"),
        ];
        for (kind, says) in kinds {
            let text = FolderError::new("2024/é 1.jpg", kind.into()).to_string();
            assert!(text.starts_with("2024/é 1.jpg: ") && text.contains(says), "{text}");
            assert!(!text.contains('\n') && text.matches(": ").count() >= 2, "{text}");
        }
        let odd = FolderError::new("what?.jpg", io::ErrorKind::InvalidInput.into());
        assert!(matches!(odd, FolderError::NameImpossible(_)));
    }
}
