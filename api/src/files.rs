//! The files in a home by which a client finds the running node: `control.json`, `token` and `run.lock`.
//!
//! A running node holds `run.lock` exclusively; the operating system lets go of it when the process ends,
//! however it ends. So `control.json` is believed only while the lock is held: a port that another program
//! got after a crash is never sent the token. Writing these files is the node's.

use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Name of the file that says where the running node listens.
pub const CONTROL_FILE: &str = "control.json";
/// Name of the file with the secret that every request carries.
pub const TOKEN_FILE: &str = "token";
/// Name of the file that a running node holds locked.
pub const LOCK_FILE: &str = "run.lock";

/// More than any of these files ever holds.
const FILE_BYTES_MAX: u64 = 4096;

/// The content of `control.json`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ControlFile {
    /// Where the control API listens: a loopback address.
    pub address: SocketAddr,
    /// The node's process id.
    pub pid: u32,
}

/// Whether a node runs in a home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// Nobody holds the lock.
    NotRunning,
    /// A node holds the lock and does not listen (yet, or any more).
    Starting,
    /// A node runs and listens.
    Running(ControlFile),
}

/// A file that is there and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {why}", path.display())]
pub struct FileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// Looks whether a node runs in `home`. A home that does not exist has none.
pub fn presence(home: &Path) -> Result<Presence, FileError> {
    if !lock_is_held(&home.join(LOCK_FILE))? {
        return Ok(Presence::NotRunning);
    }
    let path = home.join(CONTROL_FILE);
    let text = match read_small(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Presence::Starting),
        Err(error) => return Err(FileError { path, why: error.to_string() }),
    };
    let control: ControlFile = serde_json::from_str(&text)
        .map_err(|error| FileError { path: path.clone(), why: format!("it is damaged ({error})") })?;
    if !control.address.ip().is_loopback() {
        let why = format!("its address {} is not on this machine", control.address);
        return Err(FileError { path, why });
    }
    Ok(Presence::Running(control))
}

/// The token in `home`.
pub fn read_token(home: &Path) -> Result<String, FileError> {
    let path = home.join(TOKEN_FILE);
    let text = read_small(&path).map_err(|error| FileError { path: path.clone(), why: error.to_string() })?;
    let token = text.trim();
    if token.len() < 32 || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(FileError { path, why: "it does not hold a token".to_owned() });
    }
    Ok(token.to_owned())
}

/// A shared lock can be had exactly when no node holds the exclusive one. It is let go of at once; a node
/// that starts in this moment tries again (`Home::lock`).
fn lock_is_held(path: &Path) -> Result<bool, FileError> {
    let failed = |error: io::Error| FileError { path: path.to_owned(), why: error.to_string() };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => {
            file.unlock().map_err(failed)?;
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn read_small(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    fs::read_to_string(path)
}
