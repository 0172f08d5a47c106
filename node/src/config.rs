//! `config.toml`: what a person decides about one node, with a default for everything.
//!
//! A key that is not known, of the wrong type or out of its range stops the program with exit status 2 and a
//! line that names the file, the key and the mend; nothing is guessed. The file is written once, by init or
//! join, with every key explained; later a workgroup is appended, and what the person wrote stays as it is.
//! It holds no secrets.

mod text;

pub use text::{FirstSettings, first_text, workgroup_text};

use crate::output::Failure;
use serde::Deserialize;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use tcat_engine::ids::WorkgroupId;

/// More than any config.toml that a person writes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How many workgroups one home may hold.
pub const WORKGROUPS_MAX: usize = 16;
/// The longest client or workgroup name, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// The longest client or workgroup name, in bytes: what the join exchange takes.
const NAME_BYTES_MAX: usize = tcat_net::NAME_MAX_BYTES;

/// The settings of one node.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node's name, as the others and conflict names show it.
    pub name: String,
    /// Network interfaces to use; none: all that can multicast but loopback, or loopback if that is alone.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Members to call without discovery, each `HOST:PORT`.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Where members reach this node; port 0 takes any free one at each start.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Whether new files import themselves.
    #[serde(default)]
    pub import: Import,
    /// What it means when a person deletes a file in the media folder.
    #[serde(default)]
    pub deletions: Deletions,
    /// How long a silent member's claims hold.
    #[serde(default = "default_lease_ms")]
    pub lease_ms: u64,
    /// After how long a silent member is declared absent.
    #[serde(default = "default_horizon_days")]
    pub horizon_days: u64,
    /// How the media folder is scanned.
    #[serde(default)]
    pub scan: Scan,
    /// What is kept of removed files.
    #[serde(default)]
    pub trash: Trash,
    /// How much is done at a time.
    #[serde(default)]
    pub limits: Limits,
    /// When a burst of changes is held back.
    #[serde(default)]
    pub brake: Brake,
    /// The control API.
    #[serde(default)]
    pub api: Api,
    /// The workgroups of this home.
    #[serde(default, rename = "workgroup")]
    pub workgroups: Vec<WorkgroupConfig>,
}

/// `import`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Import {
    /// A new file is an item once it is quiet.
    #[default]
    Auto,
    /// Only `tcat import` makes items.
    Manual,
}

/// `deletions`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deletions {
    /// The file comes back; only `tcat delete` removes an item.
    #[default]
    Restore,
    /// The item is killed everywhere, into trash and behind the brake.
    Follow,
}

/// `[scan]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scan {
    /// Time between full scans, beside the watcher.
    pub interval_s: u64,
    /// A file is taken once it has not changed for this long.
    pub quiet_ms: u64,
}

impl Default for Scan {
    fn default() -> Self {
        Self { interval_s: 600, quiet_ms: 2000 }
    }
}

/// `[trash]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trash {
    /// How long a removed file is kept.
    pub days: u64,
    /// How much may be kept; none: no limit but the days.
    pub max_gib: Option<u64>,
}

impl Default for Trash {
    fn default() -> Self {
        Self { days: 30, max_gib: None }
    }
}

/// `[limits]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Uploads to the object store at a time.
    pub uploads: u64,
    /// Downloads at a time, from members or the object store.
    pub downloads: u64,
    /// Contents sent to members at a time.
    pub serves: u64,
    /// Files hashed at a time.
    pub hashes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { uploads: 4, downloads: 8, serves: 8, hashes: 2 }
    }
}

/// `[brake]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Brake {
    /// Changes to more than this share of the items are held.
    pub percent: u64,
    /// Changes to more than this many items are held.
    pub items: u64,
    /// The span in which changes are counted together.
    pub window_s: u64,
}

impl Default for Brake {
    fn default() -> Self {
        Self { percent: 30, items: 500, window_s: 600 }
    }
}

/// `[api]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Where the control API listens: loopback only.
    pub listen: SocketAddr,
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)) }
    }
}

/// One `[[workgroup]]`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkgroupConfig {
    /// Its id.
    pub id: String,
    /// Its name, by which `--workgroup` chooses it.
    pub name: String,
    /// This node's media folder for it.
    pub media: PathBuf,
    /// The catalog's URL.
    pub catalog: String,
    /// The object store's URL.
    pub objects: String,
}

impl WorkgroupConfig {
    /// The id, read. [`Config::parse`] has checked that it can be.
    pub fn workgroup_id(&self) -> Result<WorkgroupId, tcat_engine::ids::IdError> {
        self.id.parse()
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

fn default_lease_ms() -> u64 {
    10_000
}

fn default_horizon_days() -> u64 {
    90
}

/// Why config.toml cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read or written.
    #[error("{}: {why}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// It is no TOML, or a key is unknown, missing or of the wrong type.
    #[error("{} line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A value that no node can work with.
    #[error("{}: {key} {why}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, with its table.
        key: String,
        /// Why.
        why: String,
    },
}

impl ConfigError {
    /// As a command's failure: exit status 2, but 1 where the file itself is the trouble.
    pub fn failing(&self) -> Failure {
        let what = "cannot use the settings";
        match self {
            Self::Io { .. } => Failure::new(what, self, "make the file readable for the user who runs tcat"),
            Self::Syntax { .. } => Failure::usage(what, self, "correct or remove that line"),
            Self::Value { .. } => {
                Failure::usage(what, self, "correct it, or remove the line for the default")
            }
        }
    }
}

impl Config {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &read(path)?)
    }

    /// Checks the text of a file; `path` is for errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            let message = error.message().replace("unknown field", "unknown key");
            let message = message.replace("missing field", "missing key");
            ConfigError::Syntax { path: path.to_owned(), line, message }
        })?;
        let error = |(key, why): (String, String)| ConfigError::Value { path: path.to_owned(), key, why };
        config.check_ranges().map_err(error)?;
        config.check_names_and_addresses().map_err(error)?;
        config.check_workgroups().map_err(error)?;
        Ok(config)
    }

    /// Keys that a person has set and that this version does not act on yet: said at every start, so that nobody
    /// relies on them.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let set = [("limits.serves", self.limits.serves != Limits::default().serves)];
        set.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
    }

    fn check_ranges(&self) -> Result<(), (String, String)> {
        let ranges: [(&str, u64, RangeInclusive<u64>); 14] = [
            ("lease_ms", self.lease_ms, 1000..=600_000),
            ("horizon_days", self.horizon_days, 7..=3650),
            ("scan.interval_s", self.scan.interval_s, 10..=604_800),
            ("scan.quiet_ms", self.scan.quiet_ms, 100..=600_000),
            ("trash.days", self.trash.days, 1..=36_500),
            ("trash.max_gib", self.trash.max_gib.unwrap_or(1), 1..=1_000_000),
            ("limits.uploads", self.limits.uploads, 1..=64),
            ("limits.downloads", self.limits.downloads, 1..=64),
            ("limits.serves", self.limits.serves, 1..=256),
            ("limits.hashes", self.limits.hashes, 1..=64),
            ("brake.percent", self.brake.percent, 1..=100),
            ("brake.items", self.brake.items, 1..=100_000_000),
            ("brake.window_s", self.brake.window_s, 10..=86_400),
            ("interfaces", self.interfaces.len() as u64, 0..=64),
        ];
        for (key, value, range) in ranges {
            if !range.contains(&value) {
                let why = format!("= {value} is not between {} and {}", range.start(), range.end());
                return Err((key.to_owned(), why));
            }
        }
        Ok(())
    }

    fn check_names_and_addresses(&self) -> Result<(), (String, String)> {
        check_name(&self.name).map_err(|why| ("name".to_owned(), why))?;
        if !self.api.listen.ip().is_loopback() {
            let why = format!("= \"{}\" is not on loopback (127.0.0.1 or [::1])", self.api.listen);
            return Err(("api.listen".to_owned(), why));
        }
        if self.peers.len() > 256 {
            return Err(("peers".to_owned(), "names more than 256 members".to_owned()));
        }
        for peer in &self.peers {
            check_peer(peer).map_err(|why| ("peers".to_owned(), why))?;
        }
        Ok(())
    }

    fn check_workgroups(&self) -> Result<(), (String, String)> {
        let groups = &self.workgroups;
        if groups.len() > WORKGROUPS_MAX {
            let why = format!("is there {} times; {WORKGROUPS_MAX} is the most", groups.len());
            return Err(("[[workgroup]]".to_owned(), why));
        }
        for (n, group) in groups.iter().enumerate() {
            let key = |name: &str| format!("workgroup.{name}");
            group.workgroup_id().map_err(|error| (key("id"), error.to_string()))?;
            check_name(&group.name).map_err(|why| (key("name"), why))?;
            if !group.media.is_absolute() {
                return Err((key("media"), format!("= {:?} is not an absolute path", group.media)));
            }
            for earlier in groups.iter().take(n) {
                for (name, same) in [
                    ("id", earlier.id == group.id),
                    ("name", earlier.name == group.name),
                    ("media", earlier.media == group.media),
                ] {
                    if same {
                        let why = "is the same in two workgroups".to_owned();
                        return Err((key(name), why));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Checks a client's or workgroup's name: what others will see in lists and file names.
pub fn check_name(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if name.trim() != name || length == 0 || length > NAME_CHARS_MAX || name.len() > NAME_BYTES_MAX {
        let limit = format!("1 to {NAME_CHARS_MAX} characters ({NAME_BYTES_MAX} bytes)");
        return Err(format!("{name:?} is not {limit} without spaces around them"));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("{name:?} holds a control character"));
    }
    Ok(())
}

/// Checks a member's address, `HOST:PORT`.
pub fn check_peer(peer: &str) -> Result<(), String> {
    let port = peer.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    match port.map(str::parse::<u16>) {
        Some(Ok(port)) if port > 0 && !peer.contains(char::is_whitespace) => Ok(()),
        _ => Err(format!("{peer:?} is not HOST:PORT")),
    }
}

/// The text of a file that is small enough.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |why| ConfigError::Io { path: path.to_owned(), why };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 1 MiB")));
    }
    fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests;
