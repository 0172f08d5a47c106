//! What a scan saw at one path. Unknown is never absent.

use crate::content::Content;
use crate::paths::MediaPath;
use bincode::{Decode, Encode};

/// What the file system says of a file without reading it. Zero where a platform has no such thing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct FileStat {
    /// Length in bytes.
    pub size: u64,
    /// Last modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of the inode, nanoseconds since 1970.
    pub ctime_ns: i64,
    /// The file's identity on its volume (inode or file id).
    pub file_id: u64,
}

/// One look at one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observation {
    /// Where.
    pub path: MediaPath,
    /// What was there.
    pub seen: Seen,
}

/// What was at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A quiet regular file, hashed; the stat was the same before and after.
    File {
        /// Its content.
        content: Content,
        /// Its stat.
        stat: FileStat,
    },
    /// A file that is being written: look again once it is quiet.
    Busy,
    /// Something is there that cannot be read, or that is no regular file; the text says what, for people.
    Unreadable(String),
    /// Nothing is there, and its folder could be read.
    Absent,
}

/// Whether a scan saw a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// Something is there; it was observed.
    Seen,
    /// Nothing is there, and its folder was read.
    NotSeen,
    /// It cannot be told: its folder could not be read, it is ignored, something else has the name of one of its
    /// folders, or the scan did not look there.
    Unknown,
}

/// What a finished full scan can say of any path.
pub trait Coverage: std::fmt::Debug + Send + Sync {
    /// Whether something was at `path`.
    fn presence(&self, path: &MediaPath) -> Presence;
}
