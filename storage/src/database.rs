//! Opening tcat's redb files: one format record, one way to create, and clear words for every way that it can fail.
//!
//! What holds always: a file is created whole (made under another name, then put in place), is checked whole each
//! time it is opened (so that a damaged page is reported, never believed), and is open in one process at a time.
//! A file that is foreign, damaged or of a newer version is left as it is. Not here: what the tables mean
//! (`node_database`, `client_database`).

use crate::platform;
use crate::rewritten::Rewritten;
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, StorageBackend, TableDefinition, TableError};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// What a file is for, and the version of its tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Format {
    /// Tells apart the kinds of tcat's databases.
    pub(crate) name: &'static str,
    /// Raised when an older program could misread the tables.
    pub(crate) version: u64,
    /// Memory for cached pages.
    pub(crate) cache_bytes: usize,
    /// What a person does when the file is lost; ends the error line.
    pub(crate) if_lost: &'static str,
}

/// The name of a format -> its version. One row.
const FORMAT: TableDefinition<'_, &str, u64> = TableDefinition::new("tcat-format");

/// Why a database cannot be opened or created. The file, if there is one, has not been changed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// There is no file.
    #[error("{path}: there is no {name}: {if_lost}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// Which kind of database it should be.
        name: &'static str,
        /// What to do.
        if_lost: &'static str,
    },
    /// There is one already where a new one was to be created.
    #[error("{0}: a database is here already and was left as it is: use it, or move it away")]
    Exists(PathBuf),
    /// Another process has it open.
    #[error("{0}: another node runs on this home: stop that one first, or use another --home")]
    InUse(PathBuf),
    /// A newer tcat wrote it.
    #[error(
        "{path}: the {name} has format {found}, this tcat reads formats up to {known}: \
         install the tcat that last ran here, or a newer one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Which kind of database it is.
        name: &'static str,
        /// Its format.
        found: u64,
        /// The newest format that this program reads.
        known: u64,
    },
    /// The file is no such database, or is damaged.
    #[error("{path}: it cannot be used as the {name} ({why}): {if_lost}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Which kind of database it should be.
        name: &'static str,
        /// What is wrong with it.
        why: String,
        /// What to do.
        if_lost: &'static str,
    },
    /// The system failed.
    #[error("{path}: the {name} cannot be opened: {why}")]
    System {
        /// The file.
        path: PathBuf,
        /// Which kind of database it is.
        name: &'static str,
        /// What happened and what to do.
        why: String,
    },
}

/// Opens an existing database of this format.
pub(crate) fn open(path: &Path, format: &Format) -> Result<Database, DatabaseError> {
    let system = |error: io::Error| system_error(path, format, &error);
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (name, if_lost) = (format.name, format.if_lost);
            return Err(DatabaseError::Missing { path: path.into(), name, if_lost });
        }
        Err(error) => return Err(system(error)),
        Ok(metadata) if !metadata.is_file() => return Err(unusable(path, format, "it is no regular file")),
        Ok(_) => {}
    }
    let cannot = |error: redb::DatabaseError| cannot_open(path, format, error.into());
    let file = File::options().read(true).write(true).open(path).map_err(system)?;
    if file.metadata().map_err(system)?.len() == 0 {
        // It would be made a new one.
        return Err(unusable(path, format, "it is no database"));
    }
    let backend = Rewritten::new(FileBackend::new(file).map_err(cannot)?);
    let database = builder(format).create_with_backend(backend).map_err(cannot)?;
    check_format(&database, path, format)?;
    Ok(database)
}

/// Creates a new, empty database; an existing file is never touched.
pub(crate) fn create(path: &Path, format: &Format) -> Result<Database, DatabaseError> {
    let system = |error: io::Error| system_error(path, format, &error);
    if path.symlink_metadata().is_ok() {
        return Err(DatabaseError::Exists(path.into()));
    }
    let unfinished = unfinished_name(path);
    write_new(&unfinished, format)?;
    publish(&unfinished, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            // Someone was faster; this one is empty.
            let _ = std::fs::remove_file(&unfinished);
            DatabaseError::Exists(path.into())
        }
        _ => system(error),
    })?;
    open(path, format)
}

/// Opens the database, or creates it where there is none.
pub(crate) fn open_or_create(path: &Path, format: &Format) -> Result<Database, DatabaseError> {
    match open(path, format) {
        Err(DatabaseError::Missing { .. }) => create(path, format),
        other => other,
    }
}

/// The same on storage that is no file: an empty one becomes a new database. `path` is for messages.
pub(crate) fn on_backend(
    backend: impl StorageBackend,
    path: &Path,
    format: &Format,
) -> Result<Database, DatabaseError> {
    let cannot = |error| cannot_open(path, format, error);
    let is_new = backend.len().map_err(|error| cannot(redb::StorageError::from(error).into()))? == 0;
    let database = builder(format).create_with_backend(Rewritten::new(backend));
    let database = database.map_err(|error| cannot(error.into()))?;
    if is_new {
        record_format(&database, format).map_err(cannot)?;
    }
    check_format(&database, path, format)?;
    Ok(database)
}

/// Words for a person: what happened and what to do. For failures while a database is in use.
pub(crate) fn explain(error: &redb::Error) -> String {
    match error {
        redb::Error::Io(error) => explain_io(error),
        redb::Error::Corrupted(what) => {
            format!("the file is damaged ({what}): stop the node and check the disk")
        }
        redb::Error::PreviousIo => {
            "an earlier write failed: see the first error, then start the node again".into()
        }
        other => format!("{other}: start the node again"),
    }
}

fn explain_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("the disk is full ({error}): free some space, then start the node again")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("it may not be written ({error}): give this user the right to write the home folder")
        }
        _ => format!("the system reports: {error}: check the disk, then start the node again"),
    }
}

fn builder(format: &Format) -> Builder {
    let mut builder = Builder::new();
    // A plain open trusts the file and may panic on damage that was done outside of redb.
    builder.set_cache_size(format.cache_bytes).set_check_integrity_on_open(true);
    builder
}

/// The name under which a new file is made.
fn unfinished_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Makes an empty database at `unfinished`, in place of what a crash may have left there.
fn write_new(unfinished: &Path, format: &Format) -> Result<(), DatabaseError> {
    remove_left_behind(unfinished, format)?;
    let cannot = |error| cannot_open(unfinished, format, error);
    let database = builder(format).create(unfinished).map_err(|error| cannot(error.into()))?;
    record_format(&database, format).map_err(cannot)?;
    database.close().map_err(|error| cannot(error.into()))
}

/// What a crash left is never taken over: it may be a second name of an older database.
fn remove_left_behind(unfinished: &Path, format: &Format) -> Result<(), DatabaseError> {
    let system = |error: io::Error| system_error(unfinished, format, &error);
    if unfinished.symlink_metadata().is_err() {
        return Ok(());
    }
    match platform::lock_file(unfinished).map_err(system)? {
        Some(lock) => drop(lock),
        None => return Err(DatabaseError::InUse(unfinished.into())),
    }
    std::fs::remove_file(unfinished).map_err(system)
}

/// Gives the finished file its name, unless something has it, and makes the name durable.
fn publish(unfinished: &Path, path: &Path) -> io::Result<()> {
    platform::rename_no_replace(unfinished, path)?;
    platform::sync_folder(path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))
}

fn record_format(database: &Database, format: &Format) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(FORMAT)?.insert(format.name, format.version)?;
    transaction.commit()?;
    Ok(())
}

fn check_format(database: &Database, path: &Path, format: &Format) -> Result<(), DatabaseError> {
    let found = recorded_version(database, format).map_err(|error| cannot_open(path, format, error))?;
    match found {
        Some(version) if version == format.version => Ok(()),
        Some(found) if found > format.version => {
            let (name, known) = (format.name, format.version);
            Err(DatabaseError::Newer { path: path.into(), name, found, known })
        }
        Some(old) => Err(unusable(path, format, &format!("its format {old} was never released"))),
        None => Err(unusable(path, format, "it is another kind of database")),
    }
}

fn recorded_version(database: &Database, format: &Format) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(FORMAT) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other?,
    };
    Ok(table.get(format.name)?.map(|version| version.value()))
}

fn cannot_open(path: &Path, format: &Format, error: redb::Error) -> DatabaseError {
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            DatabaseError::InUse(path.into())
        }
        redb::Error::Io(error) => match error.kind() {
            io::ErrorKind::InvalidData => unusable(path, format, "it is no database"),
            io::ErrorKind::UnexpectedEof => unusable(path, format, "it is cut short"),
            _ => system_error(path, format, &error),
        },
        redb::Error::Corrupted(what) => unusable(path, format, &format!("it is damaged: {what}")),
        other => unusable(path, format, &other.to_string()),
    }
}

fn unusable(path: &Path, format: &Format, why: &str) -> DatabaseError {
    // One line, whatever redb says.
    let why = why.replace(['\n', '\r'], " ");
    DatabaseError::Unusable { path: path.into(), name: format.name, why, if_lost: format.if_lost }
}

fn system_error(path: &Path, format: &Format, error: &io::Error) -> DatabaseError {
    DatabaseError::System { path: path.into(), name: format.name, why: explain_io(error) }
}
