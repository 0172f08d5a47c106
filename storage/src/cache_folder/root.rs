//! Making and opening a media folder: whose it is, that it is no part of another, and what its disk can do.
//!
//! What holds always: the marker `.tcat/root.toml` is written once, by [`CacheFolder::create`], whole or not at all;
//! opening never makes one, because a folder without it may be the mount point of a disk that is not there. An open
//! folder is locked, so two nodes never work in one. (A cache that several nodes share will need a marker and a lock
//! of its own kind.)

use super::{CacheFolder, FolderError, create_inner};
use crate::platform::{FileKind, FileLock, Folder, lock_in};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_engine::paths::OWN_FOLDER;
pub use tcat_engine::publishing::Abilities;

const MARKER: &str = "root.toml";
const MARKER_VERSION: u32 = 1;
const MARKER_BYTES_MAX: u64 = 64 * 1024;

/// How deep, and at how many folders, `create` looks for another node's media folder inside the new one.
const INNER_LEVELS: u32 = 2;
const INNER_FOLDERS_MAX: usize = 10_000;

/// Whose media folder it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    /// The workgroup whose library is kept here.
    pub workgroup: WorkgroupId,
    /// The client that keeps it.
    pub client: ClientId,
    /// Where that client's home is: for people who find the folder.
    pub home: String,
}

/// Why a folder cannot be this node's media folder now.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Nothing is there.
    #[error("the media folder {0} does not exist: create it, mount its disk, or name another")]
    Missing(PathBuf),
    /// Something else is there.
    #[error("{0} is not a folder: name a folder as media folder")]
    NotAFolder(PathBuf),
    /// Nothing can be written there.
    #[error(
        "the media folder {root} is not writable ({why}): give this user the right to write, or name another"
    )]
    NotWritable {
        /// The folder.
        root: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Its marker names another client or workgroup.
    #[error(
        "{root} is the media folder of another node (home {home}): name another folder, or, if that node is gone for good, remove .tcat/root.toml in it"
    )]
    AnotherNodes {
        /// The folder.
        root: PathBuf,
        /// That node's home, as its marker says.
        home: String,
    },
    /// A folder above it is a media folder.
    #[error("{root} lies inside the media folder {outer} (home {home}): name a folder outside of it")]
    InsideAnother {
        /// The folder.
        root: PathBuf,
        /// The media folder around it.
        outer: PathBuf,
        /// The home of the node whose folder that is, as its marker says.
        home: String,
    },
    /// A folder inside it is a media folder.
    #[error("{root} contains the media folder {inner}: name a folder that holds no other media folder")]
    ContainsAnother {
        /// The folder.
        root: PathBuf,
        /// The media folder inside.
        inner: PathBuf,
    },
    /// The node's own files would be taken for media.
    #[error("the home {home} lies inside the media folder {root}: keep home and media folder apart")]
    HomeInside {
        /// The folder.
        root: PathBuf,
        /// The home.
        home: String,
    },
    /// It is not, or no longer, a media folder.
    #[error("{0} has no .tcat/root.toml: mount its disk, or put the folder or that file back")]
    MarkerMissing(PathBuf),
    /// Its marker says nothing that this version understands.
    #[error("{marker} cannot be understood ({why}): restore it, or use the version of tcat that wrote it")]
    MarkerUnreadable {
        /// The marker.
        marker: PathBuf,
        /// Why.
        why: String,
    },
    /// A link or file is where one of our own folders should be.
    #[error("{path} is {obstacle}, not a folder of tcat's: move it elsewhere")]
    OwnFolderTaken {
        /// Where.
        path: PathBuf,
        /// What is there.
        obstacle: &'static str,
    },
    /// Another process works in it.
    #[error("the media folder {0} is in use by another tcat that runs: stop that one first")]
    InUse(PathBuf),
    /// Anything else that the system says.
    #[error("the media folder {path} cannot be used: {why}: check the disk and its permissions")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
}

/// The marker as it is on disk.
#[derive(Serialize, Deserialize)]
struct MarkerFile {
    version: u32,
    workgroup: String,
    client: String,
    home: String,
    created: String,
}

impl CacheFolder {
    /// Makes an existing folder this node's media folder and opens it. The files in it stay as they are. A folder
    /// that has this very marker already is opened, so that an interrupted `init` can be repeated.
    pub fn create(root: &Path, marker: &Marker) -> Result<Self, RootError> {
        let root = real_folder(root)?;
        check_surroundings(&root, marker)?;
        check_inside(&root)?;
        if read_marker(&root)?.is_none() {
            write_marker(&root, marker)?;
        }
        Self::open(&root, marker)
    }

    /// Opens a media folder that [`CacheFolder::create`] made for the same client and workgroup. Makes no marker.
    pub fn open(root: &Path, marker: &Marker) -> Result<Self, RootError> {
        let root = real_folder(root)?;
        check_surroundings(&root, marker)?;
        let Some((found, created)) = read_marker(&root)? else {
            return Err(RootError::MarkerMissing(root));
        };
        if (found.workgroup, found.client) != (marker.workgroup, marker.client) {
            return Err(RootError::AnotherNodes { root, home: found.home });
        }
        let top = Folder::open(&root).map_err(|error| trouble(&root, error))?;
        let own = own_folder(&top, OWN_FOLDER, &root.join(OWN_FOLDER))?;
        let lock = lock_root(&root, &own)?;
        let temp = own_folder(&own, "tmp", &root.join(".tcat/tmp"))?;
        let trash = own_folder(&own, "trash", &root.join(".tcat/trash"))?;
        let abilities = probe(&temp).map_err(|error| not_writable(&root, error))?;
        Ok(Self {
            root,
            marker: found,
            created,
            top,
            temp,
            trash,
            abilities,
            renames_show: Default::default(),
            trashed: Default::default(),
            author_name: "edit".into(),
            busy: Default::default(),
            stop: None,
            now: Box::new(Timestamp::now),
            _lock: lock,
        })
    }

    /// Tries again what this file system can do; what [`CacheFolder::abilities`] says stays as it was at opening.
    pub fn probe(&self) -> Result<Abilities, FolderError> {
        probe(&self.temp).map_err(|error| FolderError::new(".tcat/tmp", error))
    }
}

fn real_folder(root: &Path) -> Result<PathBuf, RootError> {
    let real = root.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => RootError::Missing(root.to_owned()),
        io::ErrorKind::NotADirectory => RootError::NotAFolder(root.to_owned()),
        _ => trouble(root, error),
    })?;
    if real.is_dir() { Ok(real) } else { Err(RootError::NotAFolder(root.to_owned())) }
}

/// No media folder may lie in another's, nor this node's home in its own media folder.
fn check_surroundings(root: &Path, marker: &Marker) -> Result<(), RootError> {
    for outer in root.ancestors().skip(1) {
        if let Some((found, _)) = read_marker(outer)? {
            return Err(RootError::InsideAnother {
                root: root.to_owned(),
                outer: outer.to_owned(),
                home: found.home,
            });
        }
    }
    match Path::new(&marker.home).canonicalize() {
        Ok(home) if Path::new(&marker.home).is_absolute() && home.starts_with(root) => {
            Err(RootError::HomeInside { root: root.to_owned(), home: marker.home.clone() })
        }
        _ => Ok(()),
    }
}

/// Looks a few levels down for another media folder; a deeper one finds this one above it when it is opened.
fn check_inside(root: &Path) -> Result<(), RootError> {
    let mut level = vec![root.to_owned()];
    for _ in 0..INNER_LEVELS {
        let mut next = Vec::new();
        for folder in level {
            // A folder that cannot be read is reported by the scan, with its path.
            let Ok(entries) = folder.read_dir() else { continue };
            let inner = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            next.extend(inner.map(|entry| entry.path()).take(INNER_FOLDERS_MAX.saturating_sub(next.len())));
        }
        if let Some(inner) = next.iter().find(|inner| inner.join(OWN_FOLDER).join(MARKER).exists()) {
            return Err(RootError::ContainsAnother { root: root.to_owned(), inner: inner.clone() });
        }
        level = next;
    }
    Ok(())
}

fn read_marker(root: &Path) -> Result<Option<(Marker, Timestamp)>, RootError> {
    let place = root.join(OWN_FOLDER).join(MARKER);
    let unreadable = |why: String| RootError::MarkerUnreadable { marker: place.clone(), why };
    let metadata = match place.metadata() {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        // A folder above ours that this user may not look into tells nothing.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    if !metadata.is_file() || metadata.len() > MARKER_BYTES_MAX {
        return Err(unreadable("it is no small file".into()));
    }
    let text = std::fs::read_to_string(&place).map_err(|error| unreadable(error.to_string()))?;
    parse_marker(&text).map(Some).map_err(unreadable)
}

fn parse_marker(text: &str) -> Result<(Marker, Timestamp), String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let one_line = |error: toml::de::Error| error.message().replace('\n', " ");
    let Version { version } = toml::from_str(text).map_err(one_line)?;
    if version != MARKER_VERSION {
        return Err(format!("its version is {version}, this tcat knows {MARKER_VERSION}"));
    }
    let file: MarkerFile = toml::from_str(text).map_err(one_line)?;
    let marker = Marker {
        workgroup: file.workgroup.parse().map_err(|error| format!("{error}"))?,
        client: file.client.parse().map_err(|error| format!("{error}"))?,
        home: file.home,
    };
    let created = file.created.parse().map_err(|error| format!("created: {error}"))?;
    Ok((marker, created))
}

/// Writes the marker under another name first, so that it is there whole or not at all.
fn write_marker(root: &Path, marker: &Marker) -> Result<(), RootError> {
    let file = MarkerFile {
        version: MARKER_VERSION,
        workgroup: marker.workgroup.to_string(),
        client: marker.client.to_string(),
        home: marker.home.clone(),
        created: Timestamp::now().to_string(),
    };
    let text = toml::to_string(&file).map_err(|error| trouble(root, io::Error::other(error)))?;
    let text = format!(
        "# tcat keeps the files around this folder; see the home below. Do not edit or copy this.\n{text}"
    );
    let write = || -> io::Result<()> {
        let top = Folder::open(root)?;
        let own = create_inner(&top, OWN_FOLDER)?;
        let fresh = format!("{MARKER}.new");
        match own.remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut out = own.create_file(&fresh)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        // Only another `init` at the same moment could have made one: its marker is then read and compared.
        match own.rename_no_replace(&fresh, &own, MARKER) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => own.remove_file(&fresh)?,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => own.replace(&fresh, &own, MARKER)?,
            other => other?,
        }
        own.sync()?;
        top.sync()
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => taken(&root.join(OWN_FOLDER)),
        _ => not_writable(root, error),
    })
}

fn lock_root(root: &Path, own: &Folder) -> Result<FileLock, RootError> {
    match lock_in(own, "lock") {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(RootError::InUse(root.to_owned())),
        Err(error) => Err(not_writable(root, error)),
    }
}

fn own_folder(parent: &Folder, name: &str, place: &Path) -> Result<Folder, RootError> {
    create_inner(parent, name).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => taken(place),
        _ => not_writable(place, error),
    })
}

fn taken(place: &Path) -> RootError {
    let obstacle = crate::platform::stat(place).map_or("something else", |looked| match looked.kind {
        FileKind::Folder => "something else",
        other => other.name(),
    });
    RootError::OwnFolderTaken { path: place.to_owned(), obstacle }
}

fn not_writable(root: &Path, error: io::Error) -> RootError {
    RootError::NotWritable { root: root.to_owned(), why: error.to_string() }
}

fn trouble(path: &Path, error: io::Error) -> RootError {
    RootError::Io { path: path.to_owned(), why: error.to_string() }
}

/// Longer than one tick of the clock by which a kernel stamps files.
const CLOCK_TICK: Duration = Duration::from_millis(15);

/// Tries whether a rename shows in a file's change time, as it does on most file systems, while writing shows in both.
pub(super) fn renames_show(temp: &Folder) -> io::Result<bool> {
    let [one, two, _] = PROBES;
    for name in PROBES {
        match temp.remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    temp.create_file(one)?.write_all(b"1")?;
    let before = temp.stat(one)?.stat;
    std::thread::sleep(CLOCK_TICK);
    let after = match temp.rename_no_replace(one, temp, two) {
        Ok(()) => temp.stat(two)?.stat,
        Err(_) => before,
    };
    for name in [one, two] {
        match temp.remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(before.ctime_ns == before.mtime_ns
        && after.mtime_ns == before.mtime_ns
        && after.ctime_ns > before.ctime_ns)
}

const PROBES: [&str; 3] = ["probe-1.tcat", "probe-2.tcat", "probe-3.tcat"];

/// Tries it: whether a file system keeps a promise shows only by the names afterwards.
fn probe(temp: &Folder) -> io::Result<Abilities> {
    let clear = || -> io::Result<()> {
        for name in PROBES {
            match temp.remove_file(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    clear()?;
    let [one, two, three] = PROBES;
    let size = |name: &str| temp.stat(name).map(|looked| looked.stat.size);
    temp.create_file(one)?.write_all(b"1")?;
    temp.create_file(two)?.write_all(b"22")?;
    let ignores_case = temp.stat("PROBE-1.TCAT").is_ok();
    let refused = temp.rename_no_replace(one, temp, two);
    let no_replace = matches!(refused, Err(error) if error.kind() == io::ErrorKind::AlreadyExists)
        && (size(one)?, size(two)?) == (1, 2)
        && temp.rename_no_replace(one, temp, three).is_ok()
        && temp.stat(one).is_err();
    let free = if no_replace { three } else { one };
    let exchange = temp.exchange(free, temp, two).is_ok() && (size(free)?, size(two)?) == (2, 1);
    clear()?;
    Ok(Abilities { exchange, no_replace, ignores_case })
}
