//! A home: the folder in which one node keeps what is its own.
//!
//! ```text
//! config.toml              what a person decides (also marks a finished home)
//! identity.key  token      secrets, 0600
//! workgroup-ID.key         secret, 0600: the keys that prove membership
//! client.redb  workgroup-ID.redb
//! catalog.db  objects/     where this node keeps the catalog itself
//! control.json  run.lock   while a node runs
//! log/
//! ```
//! The folder is 0700. Every file written here is either the old one or the new one, whole and on disk.
//! `run.lock` is held by the running node, so that a home never has two; the operating system lets go of it
//! at the process's end.

use crate::output::Failure;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tcat_api::files::{CONTROL_FILE, LOCK_FILE, Presence, TOKEN_FILE, presence, read_token};
use tcat_engine::ids::{WorkgroupId, hex};
use tcat_storage::platform::sync_folder;

/// How long a starting node tries for the lock: others hold it for a moment when they look whether a node
/// runs.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What can go wrong with a home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// No data folder is known for this user.
    #[error("this user has no data folder")]
    NoDataFolder,
    /// A file or folder in the home.
    #[error("{}: {why}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// Another node has the home.
    #[error("a node is running in {}{}", home.display(), shown_pid(*pid))]
    Running {
        /// The home.
        home: PathBuf,
        /// Its process, where known.
        pid: Option<u32>,
    },
}

fn shown_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl HomeError {
    /// What a person does about it.
    pub fn what_to_do(&self) -> &'static str {
        match self {
            Self::NoDataFolder => "name a folder with --home DIR",
            Self::Io { .. } => {
                "make the folder one that you own and can write, or name another with --home DIR"
            }
            Self::Running { .. } => "stop it first, or name another home with --home DIR",
        }
    }

    /// As a command's failure.
    pub fn failing(&self, what: &str) -> Failure {
        Failure::new(what, self, self.what_to_do())
    }
}

/// One home, by its path. Making the value touches nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The home that the command line or TCAT_HOME names, else `tcat` in the platform's data folder; made
    /// absolute, so that it stays the same whatever the working directory.
    pub fn resolve(named: Option<&Path>) -> Result<Self, HomeError> {
        // An empty TCAT_HOME means none, as for every such variable.
        let root = match named.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => path.to_owned(),
            None => dirs::data_dir().ok_or(HomeError::NoDataFolder)?.join("tcat"),
        };
        std::path::absolute(&root).map(Self::at).map_err(|why| HomeError::Io { path: root, why })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is a finished home: init and join write config.toml last.
    pub fn exists(&self) -> bool {
        self.config_file().is_file()
    }

    /// `config.toml`.
    pub fn config_file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `identity.key`: this node's secret key.
    pub fn identity_file(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// `control.json`: where the running node listens.
    pub fn control_file(&self) -> PathBuf {
        self.root.join(CONTROL_FILE)
    }

    /// `token`: what a request to the control API must carry.
    pub fn token_file(&self) -> PathBuf {
        self.root.join(TOKEN_FILE)
    }

    /// `client.redb`: what all workgroups of this client share.
    pub fn client_database(&self) -> PathBuf {
        self.root.join("client.redb")
    }

    /// `workgroup-ID.redb`.
    pub fn workgroup_database(&self, id: WorkgroupId) -> PathBuf {
        self.root.join(format!("workgroup-{id}.redb"))
    }

    /// `workgroup-ID.key`: the workgroup's keys.
    pub fn workgroup_key_file(&self, id: WorkgroupId) -> PathBuf {
        self.root.join(format!("workgroup-{id}.key"))
    }

    /// `workgroup-ID.host`: which member is host of a workgroup, as far as this node knows.
    pub fn workgroup_host_file(&self, id: WorkgroupId) -> PathBuf {
        self.root.join(format!("workgroup-{id}.host"))
    }

    /// `workgroup-ID.roster`: who belongs to a workgroup that has a host, for the day on which this node takes its place.
    pub fn workgroup_roster_file(&self, id: WorkgroupId) -> PathBuf {
        self.root.join(format!("workgroup-{id}.roster"))
    }

    /// `catalog.db`: the embedded catalog.
    pub fn catalog_file(&self) -> PathBuf {
        self.root.join("catalog.db")
    }

    /// `objects/`: the embedded object store.
    pub fn objects_folder(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// `log/`.
    pub fn log_folder(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Makes the folder, and those above it, if they are missing; the home itself is for its owner alone.
    pub fn create(&self) -> Result<(), HomeError> {
        let failed = |why| HomeError::Io { path: self.root.clone(), why };
        if let Some(parent) = self.root.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        match private_folder().create(&self.root) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists && self.root.is_dir() => Ok(()),
            made => made.map_err(failed),
        }
    }

    /// Takes the home for a running node, until the returned lock is dropped or the process ends.
    pub fn lock(&self) -> Result<RunLock, HomeError> {
        let path = self.root.join(LOCK_FILE);
        let failed = |why| HomeError::Io { path: path.clone(), why };
        let file = private_file().create(true).truncate(false).open(&path).map_err(failed)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(HomeError::Running { home: self.root.clone(), pid: self.running_pid() });
                }
                Err(TryLockError::Error(why)) => return Err(failed(why)),
            }
        }
        // What a node that crashed left behind would name a port that may be another program's by now.
        remove_if_there(&self.control_file())?;
        Ok(RunLock { _file: file })
    }

    /// The process of the node that runs here, where there is one and it says so.
    pub fn running_pid(&self) -> Option<u32> {
        match presence(&self.root) {
            Ok(Presence::Running(control)) => Some(control.pid),
            _ => None,
        }
    }

    /// The token for the control API; a missing or damaged one is made anew.
    pub fn token(&self) -> Result<String, HomeError> {
        if let Ok(token) = read_token(&self.root) {
            return Ok(token);
        }
        let path = self.token_file();
        let token = hex(&random_bytes().map_err(|why| HomeError::Io { path: path.clone(), why })?);
        write_secret(&path, format!("{token}\n").as_bytes())?;
        Ok(token)
    }
}

/// Held while a node runs in a home.
#[derive(Debug)]
#[must_use = "dropping it lets another node have the home"]
pub struct RunLock {
    _file: File,
}

/// 32 bytes from the operating system's generator.
pub fn random_bytes() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// Writes a file that only its owner may read: the old content or the new one, whole and on disk.
pub fn write_secret(path: &Path, content: &[u8]) -> Result<(), HomeError> {
    replace(path, content).map_err(|why| HomeError::Io { path: path.to_owned(), why })
}

/// Removes a file; one that is not there is fine.
pub fn remove_if_there(path: &Path) -> Result<(), HomeError> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            Err(HomeError::Io { path: path.to_owned(), why })
        }
        _ => Ok(()),
    }
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // A leftover may carry wider permissions than a file that is made anew.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = private_file().create_new(true).open(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    match path.parent() {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn private_folder() -> DirBuilder {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcat_api::files::ControlFile;

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[cfg(unix)]
    #[test]
    fn a_home_and_its_secrets_are_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("a b/é"));
        home.create().unwrap();
        home.create().unwrap();
        let token = home.token().unwrap();
        assert_eq!(home.token().unwrap(), token);
        assert_eq!((mode(home.root()), mode(&home.token_file())), (0o700, 0o600));
        let leftover = folder.path().join("x.new");
        fs::write(&leftover, "wide open").unwrap();
        write_secret(&folder.path().join("x"), b"secret").unwrap();
        assert_eq!(mode(&folder.path().join("x")), 0o600);
        assert!(!leftover.exists());
    }

    #[test]
    fn a_damaged_token_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        fs::write(home.token_file(), "short").unwrap();
        assert_eq!(home.token().unwrap().len(), 64);
    }

    #[test]
    fn a_second_node_in_one_home_is_told_which_process_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let lock = home.lock().unwrap();
        let control = ControlFile { address: "127.0.0.1:9".parse().unwrap(), pid: 4711 };
        fs::write(home.control_file(), serde_json::to_string(&control).unwrap()).unwrap();
        let text = home.lock().unwrap_err().to_string();
        assert!(text.contains("process 4711"), "{text}");
        drop(lock);
        drop(home.lock().unwrap());
        assert!(!home.control_file().exists(), "what a crash left behind is gone");
    }

    #[test]
    fn looking_whether_a_node_runs_does_not_keep_one_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        drop(home.lock().unwrap());
        let seen = File::open(folder.path().join(LOCK_FILE)).unwrap();
        seen.try_lock_shared().unwrap();
        let looking = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(seen);
        });
        assert!(home.lock().is_ok());
        looking.join().unwrap();
    }

    #[test]
    fn a_home_that_cannot_be_made_says_where_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Home::at(&file).create().unwrap_err();
        assert!(error.failing("cannot make the home").to_string().contains("--home DIR"));
        assert!(Home::at(file.join("below")).create().is_err());
    }
}
