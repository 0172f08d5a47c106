//! The digests of a file: MD5 and BLAKE3 with its outboard, from one pass over the bytes.
//!
//! What holds always: a [`Hashed`] describes one state of one regular file. The file is looked at before and after,
//! both as opened and by its path, so a file that grew, was edited or was replaced meanwhile gives
//! [`HashError::Changed`] and no digest. Symbolic links are not followed, and nothing that could block (a FIFO,
//! a device) is read. Not here: deciding whether a file is quiet (`scanner`), and remembering digests
//! (`client_database`).

use crate::platform::{FileKind, Folder};
use md5::Digest;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;
use tcat_engine::content::{Blake3, Content, Md5};
use tcat_engine::observation::FileStat;
use tcat_engine::outboard::{Outboard, OutboardBuilder};

/// How much is read at a time, and how often a cancellation is noticed.
const READ_BYTES: usize = 1 << 20;

/// One state of one regular file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hashed {
    /// Its digests and size.
    pub content: Content,
    /// Its BLAKE3 tree, as transfers need it.
    pub outboard: Outboard,
    /// Its stat, the same before and after its bytes were read.
    pub stat: FileStat,
}

/// Why a file has no digest now.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Nothing is there.
    #[error("nothing is there: it was removed or renamed; scan again if it should be")]
    Missing,
    /// It is being written, or another file took its place, while it was read.
    #[error("it changed while it was read: it is looked at again once it is quiet")]
    Changed,
    /// It is no regular file; the text names what it is.
    #[error("it is {0}, not a regular file: put a regular file in its place, or ignore it in .tcatignore")]
    WrongType(&'static str),
    /// The system refuses to open or read it.
    #[error("it cannot be read ({0}): check its permissions and the disk")]
    Unreadable(io::Error),
    /// The caller asked to stop.
    #[error("stopped before the end")]
    Cancelled,
}

impl From<io::Error> for HashError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            // A lease of another program on the file is being broken: it is in use.
            io::ErrorKind::WouldBlock => Self::Changed,
            _ => Self::Unreadable(error),
        }
    }
}

/// Computes a content's MD5 and BLAKE3 tree from bytes as they come, in pieces of any length.
#[derive(Default)]
pub struct ContentHasher {
    md5: md5::Md5,
    outboard: OutboardBuilder,
}

impl ContentHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.outboard.update(bytes);
    }

    /// The digests of all bytes, and the tree.
    pub fn finish(self) -> (Content, Outboard) {
        let (outboard, blake3): (Outboard, Blake3) = self.outboard.finish();
        let md5 = Md5(self.md5.finalize().into());
        (Content { md5, size: outboard.size, blake3: Some(blake3) }, outboard)
    }
}

/// Reads the regular file at `path` once and returns its digests. `cancel` is asked about once a megabyte.
pub fn hash_file(path: &Path, cancel: &dyn Fn() -> bool) -> Result<Hashed, HashError> {
    let name = path.file_name().ok_or(HashError::WrongType(FileKind::Folder.name()))?;
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    hash_in_folder(&Folder::open(parent)?, name, cancel)
}

/// [`hash_file`] for a file in an open folder, which stays that folder whatever becomes of its path.
pub fn hash_in_folder(folder: &Folder, name: &OsStr, cancel: &dyn Fn() -> bool) -> Result<Hashed, HashError> {
    let before = look(folder, name)?;
    let mut file = match folder.open_file(name) {
        Ok(file) => file,
        // Refused because something else has the name by now, or because of the file itself?
        Err(_) if look(folder, name)? != before => return Err(HashError::Changed),
        Err(error) => return Err(error.into()),
    };
    let opened = written(&file)?;
    if look_again(folder, name)? != before || opened.0 != before.size {
        return Err(HashError::Changed);
    }
    let (content, outboard) = read_all(&mut file, before.size, cancel)?;
    let same =
        content.size == before.size && written(&file)? == opened && look_again(folder, name)? == before;
    if same { Ok(Hashed { content, outboard, stat: before }) } else { Err(HashError::Changed) }
}

/// The stat of the regular file that has this name, or what stands in the way.
fn look(folder: &Folder, name: &OsStr) -> Result<FileStat, HashError> {
    let looked = folder.stat(name)?;
    match looked.kind {
        FileKind::Regular => Ok(looked.stat),
        other => Err(HashError::WrongType(other.name())),
    }
}

/// [`look`] at a name that was a regular file: what took its place since is for the next time.
fn look_again(folder: &Folder, name: &OsStr) -> Result<FileStat, HashError> {
    look(folder, name).map_err(|error| match error {
        HashError::WrongType(_) => HashError::Changed,
        other => other,
    })
}

/// What changes when the open file is written, whatever name it has by now.
fn written(file: &File) -> Result<(u64, Option<SystemTime>), HashError> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.modified().ok()))
}

/// Reads to the end, but not far beyond `size`: a file that grows for ever must not be read for ever.
fn read_all(file: &mut File, size: u64, cancel: &dyn Fn() -> bool) -> Result<(Content, Outboard), HashError> {
    let mut hasher = ContentHasher::default();
    let mut read_bytes = 0u64;
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(size).unwrap_or(READ_BYTES).saturating_add(1))];
    loop {
        if cancel() {
            return Err(HashError::Cancelled);
        }
        let piece = match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        hasher.update(piece);
        read_bytes += piece.len() as u64;
        if read_bytes > size {
            return Err(HashError::Changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io::Write;

    fn hash(path: &Path) -> Result<Hashed, HashError> {
        hash_file(path, &|| false)
    }

    /// Does `act` once, when the file has been opened and before its `n`-th piece is read.
    fn hash_while(path: &Path, n: u32, act: impl Fn()) -> Result<Hashed, HashError> {
        let asked = Cell::new(0);
        hash_file(path, &|| {
            asked.set(asked.get() + 1);
            if asked.get() == n {
                act();
            }
            false
        })
    }

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Été 1.jpg");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn one_pass_gives_the_md5_the_blake3_and_the_tree() {
        for len in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_500_000] {
            let bytes: Vec<u8> =
                (0..len).map(|i: usize| (i.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
            let (_folder, path) = file_of(&bytes);
            let hashed = hash(&path).unwrap();
            let md5: [u8; 16] = md5::Md5::digest(&bytes).into();
            assert_eq!(hashed.content.md5, Md5(md5), "{len}");
            assert_eq!(hashed.content.blake3, Some(Blake3(*blake3::hash(&bytes).as_bytes())), "{len}");
            assert_eq!((hashed.content.size, hashed.stat.size), (len as u64, len as u64));
            assert_eq!(hashed.outboard.root(), hashed.content.blake3, "{len}");
        }
        let (_folder, path) = file_of(b"");
        assert_eq!(hash(&path).unwrap().content.md5.to_string(), "d41d8cd98f00b204e9800998ecf8427e");
    }

    #[test]
    fn a_file_that_grows_while_it_is_read_has_no_digest() {
        let (_folder, path) = file_of(&vec![7; 3 << 20]);
        let grow = || File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        for n in [1, 3, 4] {
            assert!(matches!(hash_while(&path, n, grow), Err(HashError::Changed)), "{n}");
        }
        assert!(hash(&path).is_ok());
    }

    #[test]
    fn a_file_that_is_cut_edited_or_replaced_while_it_is_read_has_no_digest() {
        let (folder, path) = file_of(&vec![7; 3 << 20]);
        let other = folder.path().join("other");
        let cut = || File::options().write(true).open(&path).unwrap().set_len(5).unwrap();
        assert!(matches!(hash_while(&path, 2, cut), Err(HashError::Changed)));
        let edit = || File::options().write(true).open(&path).unwrap().write_all(b"x").unwrap();
        assert!(matches!(hash_while(&path, 1, edit), Err(HashError::Changed)));
        let replace = || {
            std::fs::write(&other, [8; 5]).unwrap();
            std::fs::rename(&other, &path).unwrap();
        };
        assert!(matches!(hash_while(&path, 2, replace), Err(HashError::Changed)));
        let remove = || std::fs::remove_file(&path).unwrap();
        assert!(matches!(hash_while(&path, 1, remove), Err(HashError::Missing)));
    }

    #[test]
    fn what_is_missing_or_no_file_is_named() {
        let (folder, path) = file_of(b"x");
        assert!(matches!(hash(&folder.path().join("none")), Err(HashError::Missing)));
        assert!(matches!(hash(&path.join("below a file")), Err(HashError::Missing)));
        assert!(matches!(hash(folder.path()), Err(HashError::WrongType("a folder"))));
    }

    #[test]
    fn a_cancelled_hashing_ends_at_once() {
        let (_folder, path) = file_of(b"x");
        assert!(matches!(hash_file(&path, &|| true), Err(HashError::Cancelled)));
    }

    #[cfg(unix)]
    #[test]
    fn a_fifo_a_socket_and_a_symlink_are_neither_followed_nor_waited_for() {
        let (folder, path) = file_of(b"x");
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(hash(&fifo), Err(HashError::WrongType("a FIFO, socket or device"))));
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert!(matches!(
            hash(&folder.path().join("socket")),
            Err(HashError::WrongType("a FIFO, socket or device"))
        ));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(hash(&link), Err(HashError::WrongType("a symbolic link"))));
    }

    #[cfg(unix)]
    #[test]
    fn an_unreadable_file_says_why() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, path) = file_of(b"x");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        match hash(&path) {
            Err(error @ HashError::Unreadable(_)) => assert!(error.to_string().contains("ermission")),
            Ok(_) => assert!(rustix::process::geteuid().is_root(), "only root reads a file of mode 0"),
            Err(other) => panic!("{other}"),
        }
    }
}
