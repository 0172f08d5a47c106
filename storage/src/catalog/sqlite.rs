//! The catalog in one SQLite file: the embedded default.
//!
//! What holds always: several processes may have the file open; a writer has it alone from its first
//! statement on (BEGIN IMMEDIATE), and a commit is on the disk when it answers (WAL with synchronous FULL). A
//! file that was put in the place of ours (a restored backup) is noticed before the next operation and opened
//! anew. Not here: the operations; each is a function over a [`Session`] in the file of its name.

use super::error::{CatalogError, explain};
use super::location::{FileIdentity, log_path};
use super::opening::{self, Beginning, Opened};
use super::session::{Names, Session, now_text};
use super::{Catalog, Import, Intended, Member, Workgroup};
use super::{commit, create, feed, imports, intents, kill, repath, restore, roster, rows, standings};
use async_trait::async_trait;
use sqlx::sqlite::SqlitePool;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tcat_engine::catalog::{
    CatalogEpoch, Commit, Committed, Created, FeedChange, FeedPage, FeedPosition, NewItem, Repath, Repathed,
};
use tcat_engine::catalog_orders::{Kill, Killing, NewEpoch, Offer, Offered, Unsound};
use tcat_engine::clock::Stamp;
use tcat_engine::content::Content;
use tcat_engine::ids::{ClientId, ItemId, ObjectId, WorkgroupId};
use tcat_engine::roster::{RosterMember, Standing, Visit};
use tokio::sync::{Mutex, RwLock};

/// How long a writer waits for its turn among the writers of this process.
const TURN_TIMEOUT: Duration = Duration::from_secs(20);

/// The workgroup with which a new catalog begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewWorkgroup {
    /// Its id.
    pub id: WorkgroupId,
    /// Its name.
    pub name: String,
    /// The root path to the workgroup, as the seeds' `serverPath`.
    pub server_path: String,
    /// The path to the root of the cache below that, as the seeds' `cacheRoot`.
    pub cache_root: String,
}

/// What a catalog begins with that takes the place of one which is out of reach, or is given up: the same catalog and
/// workgroup in a later epoch, with the roster and without any item. Members give back the rest, as to a restored one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Successor {
    /// The catalog's id and the workgroup, as they were.
    pub workgroup: Workgroup,
    /// Above that of every epoch before.
    pub epoch_number: u64,
    /// The whole roster. Who is current counts as seen now.
    pub members: Vec<(Member, Standing)>,
}

/// The connections to the file that was at our path, and what tells that it is another now.
#[derive(Clone)]
struct OpenFile {
    pool: SqlitePool,
    identity: FileIdentity,
    log: Option<FileIdentity>,
}

/// A catalog in a SQLite file.
pub struct SqliteCatalog {
    names: Arc<Names>,
    file: RwLock<OpenFile>,
    turn: Arc<Mutex<()>>,
}

impl SqliteCatalog {
    /// Makes a new catalog at `path` and opens it. The folder must exist; a file that holds anything is
    /// refused.
    pub async fn create(path: &Path, workgroup: &NewWorkgroup) -> Result<Self, CatalogError> {
        let (path, shown) = absolute(path)?;
        opening::create(&path, &shown, Beginning::New(workgroup)).await?;
        Self::open(&path, Some(workgroup.id)).await
    }

    /// Makes a catalog in place of another; the file is whole and closed when this returns.
    pub async fn create_successor(path: &Path, successor: &Successor) -> Result<(), CatalogError> {
        let (path, shown) = absolute(path)?;
        opening::create(&path, &shown, Beginning::Successor(successor)).await
    }

    /// Opens the catalog at `path` for its only workgroup, or for the one named.
    pub async fn open(path: &Path, workgroup: Option<WorkgroupId>) -> Result<Self, CatalogError> {
        let (path, shown) = absolute(path)?;
        let Opened { pool, identity, log, catalog, workgroup } =
            opening::open(&path, &shown, workgroup).await?;
        let names = Arc::new(Names { path, shown, catalog, workgroup });
        Ok(Self { names, file: RwLock::new(OpenFile { pool, identity, log }), turn: Arc::default() })
    }

    /// A transaction that sees one state and changes nothing.
    pub(super) async fn read(&self, doing: &'static str) -> Result<Session, CatalogError> {
        self.begin(doing, "BEGIN", None).await
    }

    /// A transaction that has the file alone.
    pub(super) async fn write(&self, doing: &'static str) -> Result<Session, CatalogError> {
        let turn = tokio::time::timeout(TURN_TIMEOUT, self.turn.clone().lock_owned()).await;
        let turn = turn.map_err(|_| CatalogError::Busy {
            catalog: self.names.shown.clone(),
            why: format!("other changes of this node took more than {} s", TURN_TIMEOUT.as_secs()),
        })?;
        self.begin(doing, "BEGIN IMMEDIATE", Some(turn)).await
    }

    async fn begin(
        &self,
        doing: &'static str,
        statement: &'static str,
        turn: Option<tokio::sync::OwnedMutexGuard<()>>,
    ) -> Result<Session, CatalogError> {
        let OpenFile { pool, identity, .. } = self.connections().await?;
        let transaction = pool.begin_with(statement).await;
        let transaction = transaction.map_err(|error| explain(&self.names.shown, doing, error))?;
        Ok(Session::new(self.names.clone(), doing, identity, transaction, turn))
    }

    /// Connections to the file that is at our path now.
    async fn connections(&self) -> Result<OpenFile, CatalogError> {
        let now = FileIdentity::of(&self.names.path);
        let now = now.map_err(|error| opening::unreachable(&self.names.shown, error))?;
        let file = self.file.read().await.clone();
        if file.identity == now {
            return Ok(file);
        }
        self.reopen(now).await
    }

    async fn reopen(&self, now: FileIdentity) -> Result<OpenFile, CatalogError> {
        let mut file = self.file.write().await;
        if file.identity == now {
            return Ok(file.clone());
        }
        let shown = self.names.shown.clone();
        let log = log_path(&self.names.path);
        if file.log.is_some() && FileIdentity::of(&log).ok() == file.log {
            // SQLite would replay the replaced file's last changes into the new one, and destroy it.
            let why = format!(
                "the file was replaced while nodes had it open, and {} still belongs to the replaced one: \
                 stop all nodes, put the new file there again and remove the -wal and -shm beside it",
                log.display()
            );
            return Err(CatalogError::Unreachable { catalog: shown, why });
        }
        tracing::warn!(catalog = %shown, "the catalog's file was replaced: opening the new one");
        let opened = opening::open(&self.names.path, &shown, Some(self.names.workgroup)).await?;
        if opened.catalog != self.names.catalog {
            let why =
                format!("another catalog ({}) took the place of {}", opened.catalog, self.names.catalog);
            return Err(CatalogError::NoSuchCatalog { catalog: shown, why });
        }
        // Transactions on the replaced file end by themselves; their commits notice and fail.
        *file = OpenFile { pool: opened.pool, identity: opened.identity, log: opened.log };
        Ok(file.clone())
    }
}

/// The path from the root, so that a later change of the working directory means nothing, and how errors show
/// it.
fn absolute(path: &Path) -> Result<(PathBuf, String), CatalogError> {
    let absolute = std::path::absolute(path);
    let absolute =
        absolute.map_err(|error| opening::unreachable(&format!("sqlite:{}", path.display()), error))?;
    let shown = format!("sqlite:{}", absolute.display());
    Ok((absolute, shown))
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn epoch(&self) -> Result<CatalogEpoch, CatalogError> {
        self.read("reading its epoch").await?.epoch().await
    }

    async fn feed(&self, after: FeedPosition, limit: usize) -> Result<FeedPage, CatalogError> {
        feed::page(&mut self.read("reading its feed").await?, after, limit).await
    }

    async fn row(&self, item: ItemId) -> Result<Option<FeedChange>, CatalogError> {
        rows::standing_of(&mut self.read("reading an item").await?, item).await
    }

    async fn import(&self, item: ItemId) -> Result<Option<Import>, CatalogError> {
        imports::import(&mut self.read("reading an import").await?, item).await
    }

    async fn create(&self, new: &NewItem) -> Result<Created, CatalogError> {
        let mut session = self.write("entering an item").await?;
        let created = create::create(&mut session, new).await?;
        session.finish().await?;
        Ok(created)
    }

    async fn repath(&self, repath: &Repath) -> Result<Repathed, CatalogError> {
        let mut session = self.write("renaming items").await?;
        let repathed = repath::repath(&mut session, repath).await?;
        session.finish().await?;
        Ok(repathed)
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, CatalogError> {
        let mut session = self.write("committing a change").await?;
        let committed = commit::commit(&mut session, commit).await?;
        session.finish().await?;
        Ok(committed)
    }

    async fn intend(
        &self,
        object: ObjectId,
        item: ItemId,
        content: &Content,
        generation: u32,
        author: ClientId,
    ) -> Result<Intended, CatalogError> {
        let mut session = self.write("registering an upload").await?;
        let intent = intents::Intent { object, item, content, generation, author };
        let intended = intents::intend(&mut session, &intent).await?;
        session.finish().await?;
        Ok(intended)
    }

    async fn is_condemned(&self, object: ObjectId) -> Result<bool, CatalogError> {
        intents::is_condemned(&mut self.read("looking at an object's name").await?, object).await
    }

    async fn kill(&self, kill: &Kill) -> Result<Killing, CatalogError> {
        let mut session = self.write("killing an item").await?;
        let killing = kill::kill(&mut session, kill).await?;
        session.finish().await?;
        Ok(killing)
    }

    async fn unsound(&self, order: &Unsound) -> Result<Committed, CatalogError> {
        let mut session = self.write("marking an object that is not sound").await?;
        let marked = kill::unsound(&mut session, order).await?;
        session.finish().await?;
        Ok(marked)
    }

    async fn new_epoch(&self, order: &NewEpoch) -> Result<CatalogEpoch, CatalogError> {
        let mut session = self.write("beginning a new epoch").await?;
        let epoch = restore::new_epoch(&mut session, order).await?;
        session.finish().await?;
        Ok(epoch)
    }

    async fn offer(&self, offer: &Offer) -> Result<Offered, CatalogError> {
        let mut session = self.write("taking back what it has lost").await?;
        let offered = restore::offer(&mut session, offer).await?;
        session.finish().await?;
        Ok(offered)
    }

    async fn members(&self) -> Result<Vec<Member>, CatalogError> {
        roster::members(&mut self.read("reading its roster").await?).await
    }

    async fn admit(&self, client: ClientId, name: &str) -> Result<Member, CatalogError> {
        let mut session = self.write("admitting a client").await?;
        let member = roster::admit(&mut session, client, name).await?;
        session.finish().await?;
        Ok(member)
    }

    async fn visit_roster(&self, visit: &Visit) -> Result<Vec<RosterMember>, CatalogError> {
        let mut session = self.write("visiting its roster").await?;
        let roster = standings::visit(&mut session, visit).await?;
        session.finish().await?;
        Ok(roster)
    }

    async fn retire(&self, client: ClientId, last: Stamp) -> Result<(), CatalogError> {
        let mut session = self.write("retiring a client").await?;
        standings::retire(&mut session, client, last).await?;
        session.finish().await
    }

    async fn workgroup(&self) -> Result<Workgroup, CatalogError> {
        roster::workgroup(&mut self.read("reading its workgroup").await?).await
    }

    async fn check(&self) -> Result<(), CatalogError> {
        let mut session = self.write("checking it").await?;
        session.epoch().await?;
        // A real write, since only that meets a full disk.
        let query = sqlx::query(
            "INSERT INTO tcat_meta (key, value) VALUES ('checkedDate', ?1) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        );
        session.execute(query.bind(now_text())).await?;
        session.finish().await
    }

    async fn close(&self) {
        let pool = self.file.read().await.pool.clone();
        pool.close().await;
    }
}

/// Faults for tests, set on the one connection that stays open.
#[cfg(test)]
impl SqliteCatalog {
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// Lets the file grow by so many pages only.
    pub(super) async fn limit_pages(&self, more: i64) {
        let pool = self.single().await;
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&pool).await.unwrap();
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + more));
        sqlx::query(sql).execute(&pool).await.unwrap();
    }

    /// Waits no longer than this for another program's lock.
    pub(super) async fn wait_at_most_ms(&self, wait_ms: u32) {
        let pool = self.single().await;
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {wait_ms}"));
        sqlx::query(sql).execute(&pool).await.unwrap();
    }

    /// Refuses every write, as a read-only file does.
    pub(super) async fn only_read(&self) {
        let pool = self.single().await;
        sqlx::query("PRAGMA query_only = ON").execute(&pool).await.unwrap();
    }

    async fn single(&self) -> SqlitePool {
        let mut file = self.file.write().await;
        let options = file.pool.connect_options().as_ref().clone();
        let pool = opening::pool_options().max_connections(1);
        file.pool = pool.connect_with(options).await.unwrap();
        file.pool.clone()
    }
}
