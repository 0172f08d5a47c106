//! One transaction on the catalog, with what every operation needs in it.
//!
//! What holds always: a session that is dropped changed nothing; one that was finished is durable. Reading
//! sessions see one state throughout. Writing sessions exclude each other from their first statement on
//! (BEGIN IMMEDIATE), within this process by taking turns and between processes by SQLite's lock.

use super::error::{CatalogError, explain};
use super::location::FileIdentity;
use super::rows::Reader;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Sqlite, Transaction};
use std::path::PathBuf;
use std::sync::Arc;
use tcat_engine::catalog::CatalogEpoch;
use tcat_engine::ids::{CatalogId, ItemId, WorkgroupId, hex};
use tokio::sync::OwnedMutexGuard;

/// A query with its arguments bound.
pub(super) type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Which catalog and workgroup of which file.
#[derive(Debug)]
pub(super) struct Names {
    /// The file.
    pub path: PathBuf,
    /// The file as errors show it.
    pub shown: String,
    /// The catalog in it.
    pub catalog: CatalogId,
    /// The workgroup for which it was opened.
    pub workgroup: WorkgroupId,
}

/// An open transaction.
pub(super) struct Session {
    names: Arc<Names>,
    doing: &'static str,
    identity: FileIdentity,
    // Before the turn, so that it ends first when both are dropped.
    transaction: Transaction<'static, Sqlite>,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Session {
    pub(super) fn new(
        names: Arc<Names>,
        doing: &'static str,
        identity: FileIdentity,
        transaction: Transaction<'static, Sqlite>,
        turn: Option<OwnedMutexGuard<()>>,
    ) -> Self {
        Self { names, doing, identity, transaction, _turn: turn }
    }

    /// The catalog as errors show it.
    pub(super) fn shown(&self) -> &str {
        &self.names.shown
    }

    /// The catalog's id, to bind.
    pub(super) fn catalog(&self) -> String {
        self.names.catalog.to_string()
    }

    /// The workgroup's id.
    pub(super) fn workgroup_id(&self) -> WorkgroupId {
        self.names.workgroup
    }

    /// The workgroup's id, to bind.
    pub(super) fn workgroup(&self) -> String {
        self.names.workgroup.to_string()
    }

    /// Makes the transaction's changes durable.
    pub(super) async fn finish(self) -> Result<(), CatalogError> {
        let Self { names, doing, identity, transaction, _turn } = self;
        transaction.commit().await.map_err(|error| explain(&names.shown, doing, error))?;
        // SQLite goes on writing to a file that another was put in the place of: those writes are lost.
        match FileIdentity::of(&names.path) {
            Ok(now) if now == identity => Ok(()),
            _ => Err(CatalogError::Unreachable {
                catalog: names.shown.clone(),
                why: format!("the file was moved or replaced while {doing}"),
            }),
        }
    }

    pub(super) async fn fetch_all(&mut self, query: Bound<'_>) -> Result<Vec<SqliteRow>, CatalogError> {
        query.fetch_all(&mut *self.transaction).await.map_err(|error| self.explain(error))
    }

    pub(super) async fn fetch_optional(
        &mut self,
        query: Bound<'_>,
    ) -> Result<Option<SqliteRow>, CatalogError> {
        query.fetch_optional(&mut *self.transaction).await.map_err(|error| self.explain(error))
    }

    /// Whether the query has any row.
    pub(super) async fn exists(&mut self, query: Bound<'_>) -> Result<bool, CatalogError> {
        Ok(self.fetch_optional(query).await?.is_some())
    }

    /// How many rows were changed.
    pub(super) async fn execute(&mut self, query: Bound<'_>) -> Result<u64, CatalogError> {
        self.try_execute(query).await.map_err(|error| self.explain(error))
    }

    /// The same, for the one who wants to look at the error.
    pub(super) async fn try_execute(&mut self, query: Bound<'_>) -> Result<u64, sqlx::Error> {
        query.execute(&mut *self.transaction).await.map(|done| done.rows_affected())
    }

    pub(super) fn explain(&self, error: sqlx::Error) -> CatalogError {
        explain(&self.names.shown, self.doing, error)
    }

    /// A failure that is none of the database.
    pub(super) fn failed(&self, why: impl std::fmt::Display) -> CatalogError {
        CatalogError::Other { catalog: self.names.shown.clone(), doing: self.doing, why: why.to_string() }
    }

    /// A number as SQL keeps it.
    pub(super) fn integer(&self, value: u64) -> Result<i64, CatalogError> {
        i64::try_from(value).map_err(|_| self.failed(format!("{value} is more than SQL can keep")))
    }

    /// Which life of the catalog this is.
    pub(super) async fn epoch(&mut self) -> Result<CatalogEpoch, CatalogError> {
        let query = sqlx::query("SELECT epochNumber, epochId FROM tcat_catalogs WHERE id = ?1");
        let query = query.bind(self.catalog());
        match self.fetch_optional(query).await? {
            Some(row) => Reader::new(self, &row).epoch(),
            None => Err(CatalogError::NoSuchCatalog {
                catalog: self.names.shown.clone(),
                why: format!("catalog {} is gone from it", self.names.catalog),
            }),
        }
    }

    /// Enters in the feed that `item` changed. The number is given within the transaction, so that numbers
    /// follow the order of the commits.
    pub(super) async fn announce(&mut self, item: ItemId) -> Result<(), CatalogError> {
        let id = random_id().map_err(|error| self.failed(error))?;
        let query = sqlx::query(
            "INSERT INTO tcat_feed (catalogId, number, id, item) VALUES (?1, 1 + COALESCE( \
             (SELECT number FROM tcat_feed WHERE catalogId = ?1 ORDER BY number DESC LIMIT 1), 0), ?2, ?3)",
        );
        let query = query.bind(self.catalog()).bind(hex(&id)).bind(item.to_string());
        self.execute(query).await.map(drop)
    }
}

/// Sixteen bytes that nobody has had before.
pub(super) fn random_id() -> Result<[u8; 16], getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// The time as SQL has it: for people, nothing is decided by it.
pub(super) fn now_text() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
