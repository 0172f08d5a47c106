//! Publishing, moving, setting aside, trashing and recovering as machines that say one primitive at a time.
//!
//! A machine is what is to be done (an [`Act`]) and the answers so far; what it says next is a pure function of both,
//! computed anew each time. So it can be stopped between any two primitives, which is what a crash does, printed,
//! copied, and driven by the real cache folder and by the simulator's model alike. What holds always: only files in
//! `.tcat/tmp` are removed; a person's file is only ever renamed, and never over another; what could be cut in two by
//! a crash is in a journal first. Not here: the primitives themselves (`cache_folder` in storage, `file_system` in
//! the simulator), and what should be published where (the engine's tasks).
//!
//! | file | what it does |
//! |---|---|
//! | `steps` | machines: asking for a primitive, its answer, and how an act fails |
//! | `journal` | what survives a crash: names in `.tcat/tmp`, the journal's bytes |
//! | `publish`, `swap` | a whole content gets its place; what came out is judged |
//! | `keeping` | into trash, and beside under a conflict name |
//! | `moves` | renames, and setting a conflicting file aside |
//! | `trash` | into trash, out of it, and what was written there |
//! | `recover` | after a crash |

mod journal;
mod keeping;
mod moves;
mod publish;
mod recover;
mod steps;
mod swap;
mod trash;

pub use journal::{Journal, JournalError, MoveJournal, PublishJournal, Role, Stem, TrashJournal};
pub use keeping::Kept;
pub use moves::{MoveFile, MoveThrough, Moved, SetAside, SetAsideEnd};
pub use publish::{Publish, Published};
pub use recover::{
    Finish, NamesDurable, Recovered, SecondName, Unexplained, journals_of, second_names_of, unexplained_of,
};
pub use steps::{Act, Failure, Machine, Next, Step};
pub use trash::{KeepChanged, KeptChanged, Restore, Restored, Trash, TrashEnd, looks_written};

use crate::content::Content;
use crate::ids::{from_hex, hex};
use crate::observation::FileStat;
use crate::paths::MediaPath;
use bincode::{Decode, Encode};

/// How often a step is tried again that another program got in the way of.
pub const ATTEMPTS_MAX: u32 = 16;

/// How many names are tried for a version beside a file, or for a file in trash.
pub const NAMES_MAX: u32 = 1000;

/// A name in the media folder, tcat's own folders included.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// Where people work.
    Media(MediaPath),
    /// `.tcat/tmp/NAME`, one plain name.
    Temp(String),
    /// `.tcat/trash/DATE/PATH`.
    Trash(TrashPlace),
}

/// A name in trash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub struct TrashPlace {
    /// The day on which it got there, as `2026-02-28`, in UTC.
    pub day: String,
    /// Its path under that day: the one that it had, or the next free name.
    pub path: MediaPath,
}

/// What kind of thing a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A folder.
    Folder,
    /// A symbolic link, wherever it leads.
    Symlink,
    /// A FIFO, socket or device.
    Other,
}

impl FileKind {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Regular => "a file",
            Self::Folder => "a folder",
            Self::Symlink => "a symbolic link",
            Self::Other => "a FIFO, socket or device",
        }
    }
}

/// What the file system says of a name, the link itself where it is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Looked {
    /// What it is.
    pub kind: FileKind,
    /// Its stat.
    pub stat: FileStat,
    /// How many names it has; 0 where the system does not tell.
    pub links: u64,
    /// The volume that it is on; 0 where the system does not tell.
    pub volume: u64,
}

impl Looked {
    /// Whether both names are one file; `None` where the system does not tell.
    pub fn same_file(&self, other: &Looked) -> Option<bool> {
        let known = self.stat.file_id != 0 && other.stat.file_id != 0;
        known.then(|| (self.volume, self.stat.file_id) == (other.volume, other.stat.file_id))
    }

    /// Whether nothing was written between the two looks; a rename in between does not count.
    pub fn unwritten_since(&self, before: &Looked) -> bool {
        self.kind == before.kind && unwritten(&self.stat, &before.stat)
    }
}

/// Whether nothing was written between two stats; a rename in between does not count.
pub fn unwritten(now: &FileStat, before: &FileStat) -> bool {
    (now.size, now.mtime_ns, now.file_id) == (before.size, before.mtime_ns, before.file_id)
}

/// What a file system can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// Two names can be exchanged at once.
    pub exchange: bool,
    /// A file can be renamed without the danger of replacing another.
    pub no_replace: bool,
    /// `a` and `A` are one name.
    pub ignores_case: bool,
}

/// One thing that a file system does whole, as far as one that runs can tell. None follows a symbolic link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Primitive {
    /// Look at a name: [`Answer::Looked`] or [`Answer::Missing`].
    Look(Place),
    /// Read a regular file and digest it: [`Answer::Hashed`], [`Answer::Missing`], [`Answer::Changing`] if it was
    /// written meanwhile, [`Answer::NoFile`].
    Hash(Place),
    /// Wait, for a bounded time, until a file was not written for so long: [`Answer::Looked`], [`Answer::Missing`],
    /// [`Answer::Changing`] if it did not become quiet, [`Answer::NoFile`].
    AwaitQuiet(Place, u64),
    /// Make the folders that lead to a name, durably: [`Answer::Done`], [`Answer::Missing`] if one was removed at the
    /// same moment, [`Answer::NoFolder`] if something else has the name of one in trash.
    MakeFolders(Place),
    /// Give a file another name, which must be free: [`Answer::Done`], [`Answer::Missing`], [`Answer::Occupied`].
    Rename(Place, Place),
    /// Exchange what two names stand for: [`Answer::Done`], [`Answer::Missing`].
    Exchange(Place, Place),
    /// Make the names in the folder of a place durable: [`Answer::Done`], also if it is gone.
    SyncFolder(Place),
    /// Make a file's bytes durable: [`Answer::Done`], [`Answer::Missing`].
    SyncFile(Place),
    /// Make a new file in `.tcat/tmp`, durable only after the two primitives before: [`Answer::Done`],
    /// [`Answer::Occupied`].
    Write(String, Vec<u8>),
    /// Read a small file in `.tcat/tmp`: [`Answer::Bytes`], [`Answer::Missing`].
    Read(String),
    /// Remove a name in `.tcat/tmp`: [`Answer::Done`], [`Answer::Missing`].
    Remove(String),
}

/// What became of a primitive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was done.
    Done,
    /// A look.
    Looked(Looked),
    /// A digest, and the stat that it is for.
    Hashed(Content, FileStat),
    /// A file's bytes.
    Bytes(Vec<u8>),
    /// The name, or a folder that leads to it, is not there: nothing was changed.
    Missing,
    /// The new name is taken: nothing was changed.
    Occupied,
    /// It is being written.
    Changing,
    /// It is no regular file.
    NoFile,
    /// This part of the path in trash, counted from 0, is the name of something that is no folder.
    NoFolder(usize),
    /// The file system refuses; its words are with whoever performed it.
    Refused,
}

/// The name in `.tcat/tmp` under which the content with this key is collected until it is whole.
pub fn partial_name(content_key: [u8; 32]) -> String {
    format!("{}.part", hex(&content_key))
}

/// The key in a partial's name, if it is exactly one of ours.
pub fn partial_key(name: &str) -> Option<[u8; 32]> {
    let key = from_hex(name.strip_suffix(".part")?).ok()?;
    (partial_name(key) == name).then_some(key)
}
