//! Unix: every step goes by an open folder, so that no path is resolved twice.

use super::{FileKind, Looked, one_name};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tcat_engine::observation::FileStat;

/// The time since boot, sleep included.
#[cfg(target_os = "linux")]
pub(super) fn boot_time_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanoseconds) = (time.tv_sec.max(0) as u64, time.tv_nsec.max(0) as u64);
    seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000)
}

/// An open folder. What is done by it happens in that folder, wherever its path may lead by then.
#[derive(Debug)]
pub struct Folder(File);

const OPEN_FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Folder {
    /// Opens a folder by path, following links: for the root, which a person chose.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, path, OPEN_FOLDER, Mode::empty())?.into()))
    }

    /// A second handle of the same folder.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Whether `path` still leads to this folder.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        match path.metadata() {
            Ok(there) => Ok(identity(there) == identity(self.0.metadata()?)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a folder in this one; [`io::ErrorKind::NotADirectory`] if it is a link or anything else.
    pub fn open_folder(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = one_name(name.as_ref())?;
        match rustix::fs::openat(&self.0, name, OPEN_FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(folder) => Ok(Self(folder.into())),
            Err(Errno::LOOP | Errno::MLINK) => Err(io::ErrorKind::NotADirectory.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a folder in this one; false if something has that name already.
    pub fn create_folder(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        match rustix::fs::mkdirat(&self.0, one_name(name.as_ref())?, Mode::from_bits_truncate(0o777)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at a name without following it.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> io::Result<Looked> {
        let name = one_name(name.as_ref())?;
        Ok(looked(&rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// Opens a regular file for reading; [`io::ErrorKind::InvalidInput`] if it is anything else.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.0, one_name(name.as_ref())?, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP | Errno::MLINK | Errno::NXIO) => return Err(no_regular_file()),
            Err(error) => return Err(error.into()),
        };
        if file.metadata()?.is_file() { Ok(file) } else { Err(no_regular_file()) }
    }

    /// Opens a file that is ours alone for reading and writing, made if nothing has the name. A link, anything that is
    /// no regular file, and a file that has a second name somewhere are refused, not followed and not changed.
    pub fn open_own(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::from_bits_truncate(0o666);
        let file = match rustix::fs::openat(&self.0, one_name(name.as_ref())?, flags, mode) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP | Errno::MLINK | Errno::NXIO | Errno::ISDIR) => return Err(no_regular_file()),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        match (metadata.is_file(), metadata.nlink()) {
            (true, ..=1) => Ok(file),
            (true, _) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a file that has another name too"))
            }
            (false, _) => Err(no_regular_file()),
        }
    }

    /// Makes a regular file's bytes survive power loss.
    pub fn sync_file(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.open_file(name)?.sync_all()
    }

    /// Makes a new, empty file for writing; [`io::ErrorKind::AlreadyExists`] if something has that name.
    pub fn create_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_bits_truncate(0o666);
        Ok(rustix::fs::openat(&self.0, one_name(name.as_ref())?, flags, mode)?.into())
    }

    /// See [`super::rename_no_replace`].
    pub fn rename_no_replace(
        &self,
        name: impl AsRef<OsStr>,
        to: &Folder,
        to_name: impl AsRef<OsStr>,
    ) -> io::Result<()> {
        let (name, to_name) = (one_name(name.as_ref())?, one_name(to_name.as_ref())?);
        match self.atomic_no_replace(name, to, to_name) {
            Err(error) if is_unsupported(error) => self.link_and_remove(name, to, to_name),
            other => Ok(other?),
        }
    }

    /// See [`super::exchange`].
    pub fn exchange(
        &self,
        name: impl AsRef<OsStr>,
        other: &Folder,
        other_name: impl AsRef<OsStr>,
    ) -> io::Result<()> {
        match self.atomic_exchange(one_name(name.as_ref())?, other, one_name(other_name.as_ref())?) {
            Err(error) if is_unsupported(error) => Err(io::ErrorKind::Unsupported.into()),
            other => Ok(other?),
        }
    }

    /// Renames and replaces what has the new name: for tcat's own files, never for a person's.
    pub fn replace(
        &self,
        name: impl AsRef<OsStr>,
        to: &Folder,
        to_name: impl AsRef<OsStr>,
    ) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, one_name(name.as_ref())?, &to.0, one_name(to_name.as_ref())?)?)
    }

    /// Removes one name that is no folder.
    pub fn remove_file(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, one_name(name.as_ref())?, AtFlags::empty())?)
    }

    /// Removes an empty folder.
    pub fn remove_folder(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, one_name(name.as_ref())?, AtFlags::REMOVEDIR)?)
    }

    /// The names in this folder, sorted, at most `limit` of them.
    pub fn names(&self, limit: usize) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
            if name != "." && name != ".." {
                names.push(name);
            }
            if names.len() >= limit {
                break;
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes the folder's names survive power loss.
    pub fn sync(&self) -> io::Result<()> {
        match self.0.sync_all() {
            // Some network and FUSE file systems have no such call for folders.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn atomic_no_replace(&self, name: &OsStr, to: &Folder, to_name: &OsStr) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.0, name, &to.0, to_name, rustix::fs::RenameFlags::NOREPLACE)
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn atomic_exchange(&self, name: &OsStr, other: &Folder, other_name: &OsStr) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.0, name, &other.0, other_name, rustix::fs::RenameFlags::EXCHANGE)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn atomic_no_replace(&self, _: &OsStr, _: &Folder, _: &OsStr) -> Result<(), Errno> {
        Err(Errno::NOTSUP)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn atomic_exchange(&self, _: &OsStr, _: &Folder, _: &OsStr) -> Result<(), Errno> {
        Err(Errno::NOTSUP)
    }

    /// No-replace by a second name. Only the linking can meet something that is there; it then changes nothing.
    pub(super) fn link_and_remove(&self, name: &OsStr, to: &Folder, to_name: &OsStr) -> io::Result<()> {
        match rustix::fs::linkat(&self.0, name, &to.0, to_name, AtFlags::empty()) {
            Ok(()) => Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?),
            Err(error) if is_unsupported(error) || matches!(error, Errno::PERM | Errno::MLINK) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn no_regular_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

/// How file systems and old kernels say that they do not know a flag or a call.
fn is_unsupported(error: Errno) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP].contains(&error)
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

pub(super) fn looked_at(metadata: &Metadata) -> Looked {
    let file_type = metadata.file_type();
    Looked {
        kind: match (file_type.is_file(), file_type.is_dir(), file_type.is_symlink()) {
            (true, _, _) => FileKind::Regular,
            (_, true, _) => FileKind::Folder,
            (_, _, true) => FileKind::Symlink,
            _ => FileKind::Other,
        },
        stat: FileStat {
            size: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            file_id: metadata.ino(),
        },
        links: metadata.nlink(),
        volume: metadata.dev(),
    }
}

#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between Unix systems")]
fn looked(stat: &Stat) -> Looked {
    use rustix::fs::FileType;
    Looked {
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Folder,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Other,
        },
        stat: FileStat {
            size: stat.st_size as u64,
            mtime_ns: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime_ns: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            file_id: stat.st_ino as u64,
        },
        links: stat.st_nlink as u64,
        volume: stat.st_dev as u64,
    }
}

pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let volume = rustix::fs::statvfs(path)?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

pub(super) fn restrict_to_user(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn is_network_file_system(path: &Path) -> io::Result<bool> {
    /// NFS, SMB 1, CIFS, SMB 2, 9p, AFS, kAFS, Ceph, Coda, NCP, Lustre, VirtualBox's shared folders.
    const NETWORK: [u32; 12] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x0102_1997,
        0x5346_414f,
        0x6b41_4653,
        0x00c3_6400,
        0x7375_7245,
        0x564c,
        0x0bd0_0bd0,
        0x786f_4256,
    ];
    const FUSE: u32 = 0x6573_5546;
    let magic = rustix::fs::statfs(path)?.f_type as u32;
    if magic != FUSE {
        return Ok(NETWORK.contains(&magic));
    }
    let device = std::fs::metadata(path)?.dev();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let numbers = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    Ok(fuse_is_network(&mounts, &numbers))
}

/// Whether the FUSE volume with these device numbers stands for another machine, by its line in mountinfo.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn fuse_is_network(mounts: &str, numbers: &str) -> bool {
    const NETWORK: [&str; 14] = [
        "afpfs",
        "ceph",
        "curlftpfs",
        "davfs",
        "gcsfuse",
        "glusterfs",
        "goofys",
        "gvfsd",
        "juicefs",
        "nfs",
        "rclone",
        "s3fs",
        "smbnetfs",
        "sshfs",
    ];
    let Some(line) = mounts.lines().find(|line| line.split(' ').nth(2) == Some(numbers)) else {
        return false;
    };
    let Some((_, file_system)) = line.split_once(" - ") else { return false };
    let kind = file_system.split(' ').next().unwrap_or_default();
    kind == "virtiofs"
        || kind.strip_prefix("fuse.").is_some_and(|name| NETWORK.iter().any(|n| name.starts_with(n)))
}

#[cfg(target_vendor = "apple")]
pub(super) fn is_network_file_system(path: &Path) -> io::Result<bool> {
    /// `MNT_LOCAL`: the volume is on this machine.
    const LOCAL: u32 = 0x1000;
    Ok(rustix::fs::statfs(path)?.f_flags & LOCAL == 0)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn is_network_file_system(path: &Path) -> io::Result<bool> {
    path.symlink_metadata().map(|_| false)
}
