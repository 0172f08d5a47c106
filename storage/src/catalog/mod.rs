//! The catalog: the master record of a workgroup's media, and the one place where order is decided.
//!
//! What holds always, whatever database is behind [`Catalog`]:
//! - Every operation is one transaction: whole or not at all, and durable when it answers.
//! - Writers follow one another. Of all commits on one base exactly one wins; the others learn which row won.
//! - The numbers of the feed rise in the order of the transactions, so a reader that follows it misses
//!   nothing.
//! - An operation that was sent twice has the effect of one, so a lost answer is resolved by asking again.
//! - No two rows have paths that could be one file, or file and folder, anywhere.
//!
//! Not here: whether to upload, commit or give up (the engine's), the objects themselves
//! ([`crate::objects`]), the decisions ([`tcat_engine::catalog_rules`]).
//!
//! `sqlite` has the file, `opening` and `location` look at it first, `session` is one transaction on it;
//! `schema` has the tables; `rows` turns columns into facts; `feed`, `create` and `repath` with `places`,
//! `commit`, `intents`, `kill`, `restore`, `roster` and `standings` are the operations, one file each.

mod commit;
mod create;
mod error;
mod feed;
mod imports;
mod intents;
mod kill;
mod location;
mod opening;
#[cfg(test)]
mod opening_tests;
mod places;
mod repath;
#[cfg(test)]
mod repath_tests;
mod restore;
mod roster;
mod rows;
mod schema;
mod session;
mod sqlite;
mod standings;
#[cfg(test)]
mod tests;

pub use error::CatalogError;
pub use feed::FEED_PAGE_MAX;
pub use imports::Import;
pub use roster::CLIENTS_MAX;
pub use sqlite::{NewWorkgroup, SqliteCatalog, Successor};

use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::Arc;
use tcat_engine::catalog::{
    CatalogEpoch, Commit, Committed, Created, FeedChange, FeedPage, FeedPosition, NewItem, Refusal, Repath,
    Repathed,
};
use tcat_engine::catalog_orders::{Kill, Killing, NewEpoch, Offer, Offered, Unsound};
use tcat_engine::clock::Stamp;
use tcat_engine::content::Content;
use tcat_engine::ids::{CatalogId, ClientId, ItemId, ObjectId, WorkgroupId};
use tcat_engine::roster::{RosterMember, Visit};

/// One client of a workgroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its key.
    pub client: ClientId,
    /// Its name, unique in the workgroup also when case is ignored.
    pub name: String,
    /// The latest stamp of its writing that entered the catalog; none yet if zero. A client that finds a
    /// later one here than its own database has was restored.
    pub stamp: Stamp,
}

/// The workgroup for which a catalog was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workgroup {
    /// The catalog's id.
    pub catalog: CatalogId,
    /// The workgroup's id.
    pub id: WorkgroupId,
    /// Its name.
    pub name: String,
    /// The root path to the workgroup, as the seeds' `serverPath`.
    pub server_path: String,
    /// The path to the root of the cache below that, as the seeds' `cacheRoot`.
    pub cache_root: String,
}

/// What became of an announced upload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intended {
    /// The name is registered for this content: upload.
    Registered,
    /// The object is in the store and committed already: nothing to upload.
    Live,
    /// Not to be uploaded under this name: [`Refusal::Condemned`] asks for the next generation,
    /// [`Refusal::Roster`] says that the author is no member.
    Refused(Refusal),
}

/// A catalog, opened for one workgroup. An error never means that nothing happened: ask again.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Which life of the catalog this is.
    async fn epoch(&self) -> Result<CatalogEpoch, CatalogError>;

    /// The changes after `after`, at most `limit` feed rows (1 to [`FEED_PAGE_MAX`]); every changed item
    /// once, as it stands now. A default position, or number 0 of this epoch, reads from the start. A
    /// position that this catalog never gave means that it was restored: [`CatalogError::Restored`].
    async fn feed(&self, after: FeedPosition, limit: usize) -> Result<FeedPage, CatalogError>;

    /// The item as it stands: its row, its removal record, or nothing if the catalog never knew it.
    async fn row(&self, item: ItemId) -> Result<Option<FeedChange>, CatalogError>;

    /// How the item came in, if the catalog kept a record.
    async fn import(&self, item: ItemId) -> Result<Option<Import>, CatalogError>;

    /// Enters a new item as pending, at the asked path or the next free one. Only members may.
    async fn create(&self, new: &NewItem) -> Result<Created, CatalogError>;

    /// Gives items other paths, each the asked one or the next free one; all their names are free before the first is
    /// given, so that names can be swapped. Answers with the rows of all items asked for that have one.
    async fn repath(&self, repath: &Repath) -> Result<Repathed, CatalogError>;

    /// Commits an edit or the completion of an upload; see the design, section 3.6.
    async fn commit(&self, commit: &Commit) -> Result<Committed, CatalogError>;

    /// Registers the name of an object before its first byte is sent. The same announcement may be repeated,
    /// also by another author. A name that stands for another content: [`CatalogError::ObjectTaken`].
    async fn intend(
        &self,
        object: ObjectId,
        item: ItemId,
        content: &Content,
        generation: u32,
        author: ClientId,
    ) -> Result<Intended, CatalogError>;

    /// Whether an object's name was condemned: only then may the object go.
    async fn is_condemned(&self, object: ObjectId) -> Result<bool, CatalogError>;

    /// One step of an item's way out of the catalog; see the design, section 3.6.
    async fn kill(&self, kill: &Kill) -> Result<Killing, CatalogError>;

    /// Marks a row whose object is missing or wrong: it is pending again, in the next generation.
    async fn unsound(&self, order: &Unsound) -> Result<Committed, CatalogError>;

    /// Begins a new epoch, unless another than the one seen has begun; answers the epoch from now on.
    async fn new_epoch(&self, order: &NewEpoch) -> Result<CatalogEpoch, CatalogError>;

    /// Takes what a restored catalog has lost; at most [`tcat_engine::catalog_orders::OFFER_FACTS_MAX`] facts.
    async fn offer(&self, offer: &Offer) -> Result<Offered, CatalogError>;

    /// All clients of the workgroup, by key.
    async fn members(&self) -> Result<Vec<Member>, CatalogError>;

    /// A member visits the roster: notes its stamp and that it was seen, declares absent who was not seen beyond the
    /// horizon, and reads the roster as it is then.
    async fn visit_roster(&self, visit: &Visit) -> Result<Vec<RosterMember>, CatalogError>;

    /// Retires a client: from now on it changes nothing here, and of what it wrote only dots up to `last` count. The
    /// first retirement of a client stands.
    async fn retire(&self, client: ClientId, last: Stamp) -> Result<(), CatalogError>;

    /// Enters a client in the roster and returns it with the name that it got: `name`, or `name-2`,
    /// `name-3`... where another client has that. A client that is in the roster keeps the name that it has.
    async fn admit(&self, client: ClientId, name: &str) -> Result<Member, CatalogError>;

    /// The workgroup for which this catalog was opened.
    async fn workgroup(&self) -> Result<Workgroup, CatalogError>;

    /// Whether the catalog can be read and written now: does both.
    async fn check(&self) -> Result<(), CatalogError>;

    /// Lets go of the catalog in good order. Nothing is lost without it.
    async fn close(&self);
}

/// Opens the catalog that `url` names (`sqlite:PATH`) for its only workgroup, or for the one named.
pub async fn open(url: &str, workgroup: Option<WorkgroupId>) -> Result<Arc<dyn Catalog>, CatalogError> {
    let path = sqlite_path(url)?;
    Ok(Arc::new(SqliteCatalog::open(&path, workgroup).await?))
}

/// The path in `sqlite:PATH`, taken as it is written: nothing in it is escaped.
pub fn sqlite_path(url: &str) -> Result<PathBuf, CatalogError> {
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => Ok(PathBuf::from(path)),
        Some(("sqlite", _)) => Err(CatalogError::NoSuchCatalog {
            catalog: url.to_owned(),
            why: "the path after sqlite: is empty".to_owned(),
        }),
        Some((scheme, _)) => Err(CatalogError::Unsupported { scheme: scheme.to_owned() }),
        None => Err(CatalogError::Unsupported { scheme: String::new() }),
    }
}
