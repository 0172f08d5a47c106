//! What can go wrong with a catalog, told apart by what the caller must do about it.
//!
//! Every text is one line that says what, why and what to do, and shows no secret of a URL. Where an error
//! came after a commit was sent, the commit may have happened: read the row to know. Not here: a commit that
//! the catalog refuses on purpose, which is an answer (`Refusal`) and no error.

use tcat_engine::catalog::{CatalogEpoch, Revision};
use tcat_engine::ids::{ClientId, ObjectId, WorkgroupId};

/// Why the catalog gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// It cannot be opened, or is gone since it was opened. Trying again later may help.
    #[error(
        "cannot reach the catalog {catalog}: {why}; check that it is there, mounted, and yours to read and write"
    )]
    Unreachable {
        /// Where it should be.
        catalog: String,
        /// What the system says.
        why: String,
    },
    /// Somebody else held it for longer than we wait. Trying again helps.
    #[error("the catalog {catalog} is busy: {why}; trying again later helps, or find what keeps it locked")]
    Busy {
        /// Where it is.
        catalog: String,
        /// What the system says.
        why: String,
    },
    /// It can be read, not written.
    #[error("the catalog {catalog} is read-only: {why}; make the file and its folder writable")]
    ReadOnly {
        /// Where it is.
        catalog: String,
        /// What the system says.
        why: String,
    },
    /// Its disk is full.
    #[error("no space is left for the catalog {catalog}: {why}; free some space on its disk")]
    DiskFull {
        /// Where it is.
        catalog: String,
        /// What the system says.
        why: String,
    },
    /// A later tcat has written it.
    #[error(
        "the catalog {catalog} has format {found} and this tcat knows formats up to {known}: install the newer tcat"
    )]
    NewerVersion {
        /// Where it is.
        catalog: String,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// What is there is damaged, or was never a catalog.
    #[error(
        "the catalog {catalog} is damaged: {why}; stop all nodes that use it and restore it from a backup, \
         keeping the damaged file and those named like it with -wal and -shm"
    )]
    Corrupt {
        /// Where it is.
        catalog: String,
        /// What is wrong.
        why: String,
    },
    /// Its locks would not hold there.
    #[error(
        "the catalog {catalog} lies on a network file system, where SQLite's locks do not hold: put it on a local disk"
    )]
    NetworkFileSystem {
        /// Where it is.
        catalog: String,
    },
    /// The place holds something else, or nothing yet.
    #[error(
        "there is no tcat catalog in {catalog}: {why}; give another path, or make a catalog with `tcat init`"
    )]
    NoSuchCatalog {
        /// Where we looked.
        catalog: String,
        /// What is there.
        why: String,
    },
    /// The catalog has no such workgroup.
    #[error("the catalog {catalog} has no {wanted}; it has {found}: name one of these with --workgroup")]
    NoSuchWorkgroup {
        /// Where it is.
        catalog: String,
        /// What was looked for.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// A catalog was to be made where something is.
    #[error("cannot make a catalog in {catalog}: {why}; give another path, or use what is there")]
    AlreadyThere {
        /// Where it was to be.
        catalog: String,
        /// What is there.
        why: String,
    },
    /// The URL is none that this program can open. The text shows its scheme only, since the rest may hold
    /// secrets.
    #[error("cannot open a catalog of kind {scheme:?}: sqlite:PATH is what this tcat supports")]
    Unsupported {
        /// The part before the colon.
        scheme: String,
    },
    /// The catalog is not the one that the position was read from: it was restored. A new reading starts at
    /// zero.
    #[error(
        "the catalog was restored meanwhile (it is now at epoch {}): it must be read again from the start",
        epoch.number
    )]
    Restored {
        /// Its epoch now.
        epoch: CatalogEpoch,
    },
    /// No member may be added.
    #[error("the workgroup has {limit} clients, which is the limit: retire one with `tcat members retire`")]
    RosterFull {
        /// The limit.
        limit: usize,
    },
    /// Only members may enter anything.
    #[error(
        "client {} is not in the roster of workgroup {workgroup}: join with a code from `tcat invite`",
        client.short()
    )]
    NotMember {
        /// Who asked.
        client: ClientId,
        /// The workgroup.
        workgroup: WorkgroupId,
    },
    /// Who was retired does not come back under the same key.
    #[error(
        "client {} was retired from the workgroup for good: join from a new home, which has a key of its own",
        client.short()
    )]
    Retired {
        /// Who asked.
        client: ClientId,
    },
    /// A name that cannot be used.
    #[error("{name:?} cannot be a name: {why}; choose another with --name")]
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A revision that already stands for something else. Revisions are dots, so this client wrote one dot
    /// twice.
    #[error(
        "revision {:?} already names another change: this client's database was restored or copied; \
         it must go on with a new incarnation",
        revision.0
    )]
    RevisionReused {
        /// The revision.
        revision: Revision,
    },
    /// An object's name that already stands for another content.
    #[error("the object name {object} already stands for another content: use the next generation")]
    ObjectTaken {
        /// The name.
        object: ObjectId,
    },
    /// Anything else: a defect of this program, or of the machine.
    #[error("the catalog {catalog} failed {doing}: {why}; please report this with the log")]
    Other {
        /// Where it is.
        catalog: String,
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        why: String,
    },
}

/// The low byte of SQLite's result codes that callers must tell apart; see
/// <https://www.sqlite.org/rescode.html>.
mod code {
    pub const PERM: u32 = 3;
    pub const BUSY: u32 = 5;
    pub const LOCKED: u32 = 6;
    pub const READONLY: u32 = 8;
    pub const IOERR: u32 = 10;
    pub const CORRUPT: u32 = 11;
    pub const FULL: u32 = 13;
    pub const CANTOPEN: u32 = 14;
    pub const PROTOCOL: u32 = 15;
    pub const AUTH: u32 = 23;
    pub const NOTADB: u32 = 26;
    /// The file was moved or deleted while it was open: an extended code of READONLY.
    pub const READONLY_DBMOVED: u32 = 1032;
}

/// Tells what a failure of `doing` means for the caller.
pub(super) fn explain(catalog: &str, doing: &'static str, error: sqlx::Error) -> CatalogError {
    let catalog = catalog.to_owned();
    let why = one_line(&error);
    match error {
        sqlx::Error::Database(error) => {
            let code: u32 = error.code().and_then(|text| text.parse().ok()).unwrap_or_default();
            let why = one_line(&error);
            match (code, code & 0xff) {
                (code::READONLY_DBMOVED, _) => CatalogError::Unreachable { catalog, why },
                (_, code::BUSY | code::LOCKED | code::PROTOCOL) => CatalogError::Busy { catalog, why },
                (_, code::READONLY) => CatalogError::ReadOnly { catalog, why },
                (_, code::FULL) => CatalogError::DiskFull { catalog, why },
                (_, code::CORRUPT | code::NOTADB) => CatalogError::Corrupt { catalog, why },
                (_, code::PERM | code::IOERR | code::CANTOPEN | code::AUTH) => {
                    CatalogError::Unreachable { catalog, why }
                }
                _ => CatalogError::Other { catalog, doing, why },
            }
        }
        sqlx::Error::PoolTimedOut => CatalogError::Busy { catalog, why },
        sqlx::Error::Io(_) | sqlx::Error::PoolClosed => CatalogError::Unreachable { catalog, why },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
            CatalogError::Corrupt { catalog, why }
        }
        _ => CatalogError::Other { catalog, doing, why },
    }
}

/// Whether `error` is a UNIQUE or PRIMARY KEY that would be broken.
pub(super) fn is_unique_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(inner) if inner.is_unique_violation())
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
