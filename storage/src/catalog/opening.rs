//! Making and opening a catalog file: what must be true of it before anything else touches it.
//!
//! What holds always: nothing is written to a file that is not known to be a catalog of ours (or to be empty,
//! when making one), and making is whole or not at all. The file is never opened other than through SQLite:
//! closing any other handle would drop SQLite's locks on it (<https://www.sqlite.org/howtocorrupt.html>,
//! 2.2).

use super::error::{CatalogError, explain};
use super::location::{FileIdentity, folder_of, log_path};
use super::session::{now_text, random_id};
use super::sqlite::{NewWorkgroup, Successor};
use super::{Workgroup, roster, schema, standings};
use crate::platform;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;
use tcat_engine::catalog::CatalogEpoch;
use tcat_engine::ids::{CatalogId, WorkgroupId, hex};

/// How long one statement waits for a writer of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an operation waits for one of our connections.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// One writes at a time; the others read.
const CONNECTIONS_MAX: u32 = 4;

/// An open file.
pub(super) struct Opened {
    pub pool: SqlitePool,
    pub identity: FileIdentity,
    /// Its write-ahead log beside it, which stays the same file as long as a connection is open.
    pub log: Option<FileIdentity>,
    pub catalog: CatalogId,
    pub workgroup: WorkgroupId,
}

/// Opens the file for `wanted`, or for its only workgroup.
pub(super) async fn open(
    path: &Path,
    shown: &str,
    wanted: Option<WorkgroupId>,
) -> Result<Opened, CatalogError> {
    let unreachable = |error| unreachable(shown, error);
    let identity = FileIdentity::of(path).map_err(unreachable)?;
    refuse_network(path, shown)?;
    let failed = |error| explain(shown, "opening", error);
    let mut probe = options(path).connect().await.map_err(failed)?;
    check_version(&mut probe, shown).await?;
    let (catalog, workgroup) = choose(&mut probe, shown, wanted).await?;
    keep_log(&mut probe).await.map_err(failed)?;
    sqlx::raw_sql(schema::STANDINGS).execute(&mut probe).await.map_err(failed)?;
    probe.close().await.map_err(failed)?;
    let pool = pool_options().connect_with(options(path)).await.map_err(failed)?;
    if FileIdentity::of(path).map_err(unreachable)? != identity {
        let why = "the file was replaced while it was opened".to_owned();
        return Err(CatalogError::Unreachable { catalog: shown.to_owned(), why });
    }
    let log = FileIdentity::of(&log_path(path)).ok();
    Ok(Opened { pool, identity, log, catalog, workgroup })
}

/// What a new catalog begins with.
pub(super) enum Beginning<'a> {
    /// A workgroup without members.
    New(&'a NewWorkgroup),
    /// What another catalog knew of its workgroup.
    Successor(&'a Successor),
}

/// Makes a new catalog with one workgroup in a file that does not exist or holds nothing yet.
pub(super) async fn create(path: &Path, shown: &str, beginning: Beginning<'_>) -> Result<(), CatalogError> {
    roster::check_name(match &beginning {
        Beginning::New(workgroup) => &workgroup.name,
        Beginning::Successor(successor) => &successor.workgroup.name,
    })?;
    let folder = std::fs::metadata(folder_of(path)).map_err(|error| unreachable(shown, error))?;
    if !folder.is_dir() {
        let error = std::io::Error::new(std::io::ErrorKind::NotADirectory, "its folder is not a folder");
        return Err(unreachable(shown, error));
    }
    refuse_network(path, shown)?;
    if path.exists() && !path.is_file() {
        return Err(already_there(shown, "it is not a regular file"));
    }
    let failed = |error| match explain(shown, "making it", error) {
        CatalogError::Corrupt { .. } => already_there(shown, "the file is not a database"),
        other => other,
    };
    let mut connection = options(path).create_if_missing(true).connect().await.map_err(failed)?;
    refuse_tables(&mut connection, shown).await?;
    keep_log(&mut connection).await.map_err(failed)?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    // Another process may have made one since.
    refuse_tables(&mut transaction, shown).await?;
    fill(&mut transaction, shown, beginning).await?;
    transaction.commit().await.map_err(failed)?;
    connection.close().await.map_err(failed)
}

async fn fill(
    connection: &mut SqliteConnection,
    shown: &str,
    beginning: Beginning<'_>,
) -> Result<(), CatalogError> {
    let failed = |error| explain(shown, "making it", error);
    let random = || {
        random_id().map_err(|error| CatalogError::Other {
            catalog: shown.to_owned(),
            doing: "drawing a random id",
            why: error.to_string(),
        })
    };
    let (workgroup, epoch, members) = match beginning {
        Beginning::New(new) => {
            let catalog = CatalogId(*uuid::Builder::from_random_bytes(random()?).as_uuid().as_bytes());
            (workgroup_of(catalog, new), CatalogEpoch { number: 1, id: random()? }, &[][..])
        }
        Beginning::Successor(successor) => {
            let epoch = CatalogEpoch { number: successor.epoch_number, id: random()? };
            (successor.workgroup.clone(), epoch, &successor.members[..])
        }
    };
    let number = i64::try_from(epoch.number).map_err(|_| CatalogError::Other {
        catalog: shown.to_owned(),
        doing: "making it",
        why: format!("an epoch cannot have the number {}", epoch.number),
    })?;
    let catalog = workgroup.catalog.to_string();
    sqlx::raw_sql(schema::CREATE).execute(&mut *connection).await.map_err(failed)?;
    sqlx::raw_sql(schema::STANDINGS).execute(&mut *connection).await.map_err(failed)?;
    let version = sqlx::query("INSERT INTO tcat_meta (key, value) VALUES ('schemaVersion', ?1)");
    version.bind(schema::VERSION.to_string()).execute(&mut *connection).await.map_err(failed)?;
    let life = sqlx::query(
        "INSERT INTO tcat_catalogs (id, epochNumber, epochId, createdDate) VALUES (?1, ?2, ?3, ?4)",
    );
    let life = life.bind(&catalog).bind(number).bind(hex(&epoch.id)).bind(now_text());
    life.execute(&mut *connection).await.map_err(failed)?;
    let row = sqlx::query(
        "INSERT INTO tcat_workgroups (catalog_id, id, name, serverPath, cacheRoot) VALUES (?1, ?2, ?3, ?4, ?5)",
    );
    let row = row.bind(&catalog).bind(workgroup.id.to_string()).bind(&workgroup.name);
    let row = row.bind(&workgroup.server_path).bind(&workgroup.cache_root);
    row.execute(&mut *connection).await.map_err(failed)?;
    for (member, standing) in members {
        roster::enter(connection, &workgroup.id, member).await.map_err(failed)?;
        standings::enter(connection, &workgroup.id, &member.client, standing).await.map_err(failed)?;
    }
    Ok(())
}

fn workgroup_of(catalog: CatalogId, new: &NewWorkgroup) -> Workgroup {
    let NewWorkgroup { id, name, server_path, cache_root } = new.clone();
    Workgroup { catalog, id, name, server_path, cache_root }
}

/// How connections are kept.
pub(super) fn pool_options() -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // An open file costs nothing, and its log stays beside it as long as one connection is open.
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        // SQLite ends a transaction by itself when the disk is full or fails. sqlx then counts it as open for
        // ever, and refuses to begin another on that connection: such a one is closed. The ping lets the
        // rollback that sqlx has queued come first.
        .after_release(|connection, _| {
            Box::pin(async move {
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        // A commit is on the disk when it answers. WAL alone would lose the last ones in a power failure.
        .synchronous(SqliteSynchronous::Full)
        // The file may come from somebody else: nothing in its schema may run code.
        .pragma("trusted_schema", "OFF")
        .thread_name(|number| format!("catalog-{number}"))
}

/// WAL, so that readers and the writer do not wait for each other. The mode stays with the file, but a backup
/// may have been made in another.
async fn keep_log(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await?;
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    sqlx::query("PRAGMA journal_mode = WAL").execute(&mut *connection).await.map(drop)
}

async fn refuse_tables(connection: &mut SqliteConnection, shown: &str) -> Result<(), CatalogError> {
    let count: Result<i64, _> =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await;
    match count.map_err(|error| explain(shown, "looking at what is there", error)) {
        Ok(0) => Ok(()),
        Ok(_) if has_table(connection, shown, "tcat_meta").await? => {
            Err(already_there(shown, "a catalog is there already"))
        }
        Ok(_) => Err(already_there(shown, "the file is a database of another program")),
        Err(CatalogError::Corrupt { .. }) => Err(already_there(shown, "the file is not a database")),
        Err(error) => Err(error),
    }
}

async fn has_table(
    connection: &mut SqliteConnection,
    shown: &str,
    table: &'static str,
) -> Result<bool, CatalogError> {
    let query = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1").bind(table);
    let row = query.fetch_optional(connection).await;
    Ok(row.map_err(|error| explain(shown, "looking at what is there", error))?.is_some())
}

async fn check_version(connection: &mut SqliteConnection, shown: &str) -> Result<(), CatalogError> {
    if !has_table(connection, shown, "tcat_meta").await? {
        let why = "the file is empty or a database of another program".to_owned();
        return Err(CatalogError::NoSuchCatalog { catalog: shown.to_owned(), why });
    }
    let query = sqlx::query_scalar("SELECT value FROM tcat_meta WHERE key = 'schemaVersion'");
    let text: Option<String> = query
        .fetch_optional(connection)
        .await
        .map_err(|error| explain(shown, "reading its version", error))?;
    let version = text.as_deref().and_then(|text| i64::from_str(text).ok());
    match version {
        Some(schema::VERSION) => Ok(()),
        Some(found) if found > schema::VERSION => {
            Err(CatalogError::NewerVersion { catalog: shown.to_owned(), found, known: schema::VERSION })
        }
        _ => Err(CatalogError::Corrupt {
            catalog: shown.to_owned(),
            why: format!("its version reads {:?}", text.unwrap_or_default()),
        }),
    }
}

/// The workgroup that is meant, and its catalog.
async fn choose(
    connection: &mut SqliteConnection,
    shown: &str,
    wanted: Option<WorkgroupId>,
) -> Result<(CatalogId, WorkgroupId), CatalogError> {
    let query = sqlx::query("SELECT catalog_id, id, name FROM tcat_workgroups ORDER BY name, id LIMIT 1000");
    let failed = |error| explain(shown, "reading its workgroups", error);
    let rows = query.fetch_all(connection).await.map_err(failed)?;
    let mut found = Vec::new();
    let mut names = Vec::new();
    for row in &rows {
        let (catalog, id): (String, String) =
            (row.try_get("catalog_id").map_err(failed)?, row.try_get("id").map_err(failed)?);
        let damaged = |_| CatalogError::Corrupt {
            catalog: shown.to_owned(),
            why: format!("tcat_workgroups holds {catalog:?}, {id:?}"),
        };
        let pair: (CatalogId, WorkgroupId) =
            (catalog.parse().map_err(damaged)?, id.parse().map_err(damaged)?);
        if wanted.is_none_or(|wanted| wanted == pair.1) {
            found.push(pair);
        }
        names.push(format!("{} ({id})", row.try_get::<String, _>("name").map_err(failed)?));
    }
    match found.as_slice() {
        [only] => Ok(*only),
        _ => Err(CatalogError::NoSuchWorkgroup {
            catalog: shown.to_owned(),
            wanted: wanted.map_or("single workgroup".to_owned(), |id| format!("workgroup {id}")),
            found: if names.is_empty() { "none".to_owned() } else { names.join(", ") },
        }),
    }
}

fn refuse_network(path: &Path, shown: &str) -> Result<(), CatalogError> {
    match platform::is_network_file_system(path).map_err(|error| unreachable(shown, error))? {
        true => Err(CatalogError::NetworkFileSystem { catalog: shown.to_owned() }),
        false => Ok(()),
    }
}

pub(super) fn unreachable(shown: &str, error: std::io::Error) -> CatalogError {
    CatalogError::Unreachable { catalog: shown.to_owned(), why: error.to_string() }
}

fn already_there(shown: &str, why: &str) -> CatalogError {
    CatalogError::AlreadyThere { catalog: shown.to_owned(), why: why.to_owned() }
}
