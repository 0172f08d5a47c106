//! What the catalog says: rows, their chains, and the positions of its feed.
//!
//! The catalog itself is outside (`storage`); these are the facts that the engine settles by.

use crate::clock::Dot;
use crate::content::Content;
use crate::ids::{ClientId, ItemId, ObjectId};
use crate::paths::MediaPath;
use bincode::{Decode, Encode};

/// The unique id of one committed state of a row: the committer's dot. Never a counter, so that a restored catalog
/// cannot hand out the same id for another content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct Revision(pub Dot);

/// One step of a row's history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ChainLink {
    /// The step's id.
    pub revision: Revision,
    /// The content from this step on.
    pub content: Content,
}

/// Which life of a catalog: a restore from a backup begins a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct CatalogEpoch {
    /// Rises with each new epoch.
    pub number: u64,
    /// Tells apart epochs minted by two who did not know of each other.
    pub id: [u8; 16],
}

/// A place in the catalog's feed of changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct FeedPosition {
    /// The catalog epoch in which `number` counts.
    pub epoch: CatalogEpoch,
    /// Number of the last change read; 0 before the first.
    pub number: u64,
    /// Random id of that change, so that a restored catalog which uses the number again is recognised; zero for 0.
    pub id: [u8; 16],
}

/// A place in the feed of one life of the catalog, as ledgers speak of it: without the id of the change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct FeedPlace {
    /// The catalog epoch in which `number` counts.
    pub epoch: CatalogEpoch,
    /// A number of that feed, 0 before the first change.
    pub number: u64,
}

impl From<FeedPosition> for FeedPlace {
    fn from(position: FeedPosition) -> Self {
        Self { epoch: position.epoch, number: position.number }
    }
}

/// A row's place in its life. `tcat_media.state` holds the lower-case name with `-` between words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub enum RowState {
    /// Known, but its object is not there yet; `owner` is uploading it.
    Pending {
        /// The client that created the row.
        owner: ClientId,
    },
    /// Its object is in the store.
    Active,
    /// Somebody asked for its removal.
    KillRequest,
    /// Its object is being removed.
    KillWip,
    /// Its object is gone; the row follows.
    KillComplete,
}

/// One item as the catalog has it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct CatalogRow {
    /// The media id.
    pub item: ItemId,
    /// Pending, active, or being killed.
    pub state: RowState,
    /// The row's current revision.
    pub revision: Revision,
    /// The row's current content (C).
    pub content: Content,
    /// The object that holds `content`; none means the media id itself names it (the ancestor's catalogs).
    pub object: Option<ObjectId>,
    /// Which object in turn holds this content: names are never used again.
    pub generation: u32,
    /// Where every cache keeps the file. Unique in the catalog after folding.
    pub cache_path: MediaPath,
    /// The path that the importer had: the ancestor's hint, not unique.
    pub virtual_path: String,
    /// Media type such as `image/jpeg`, or `unknown`.
    pub content_type: String,
    /// The highest claim epoch that was committed.
    pub claim_epoch: u64,
    /// False for items that are not to be uploaded.
    pub upload: bool,
    /// The item of which this one is a kept version, if any.
    pub version_of: Option<ItemId>,
    /// The newest [`CHAIN_LINKS_MAX`] steps, oldest first; the last is (`revision`, `content`).
    pub chain: Vec<ChainLink>,
}

/// How many steps of a chain a row carries. A base that is older counts as forked, which keeps both contents.
pub const CHAIN_LINKS_MAX: usize = 256;

impl CatalogRow {
    /// The object's name in the store.
    pub fn object_name(&self) -> ObjectId {
        self.object.unwrap_or(ObjectId(self.item.0))
    }

    /// Whether `content` is or was this row's content.
    pub fn chain_holds(&self, content: &Content) -> bool {
        self.chain.iter().any(|link| link.content.same_as(content))
    }

    /// Whether `revision` is one of this row's steps.
    pub fn chain_has(&self, revision: &Revision) -> bool {
        self.chain.iter().any(|link| link.revision == *revision)
    }
}

/// What remains of a removed item, for good: it keeps deleted media from coming back.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct RemovalRecord {
    /// The removed item.
    pub item: ItemId,
    /// Its last path.
    pub cache_path: MediaPath,
    /// The contents that it had, newest last.
    pub contents: Vec<Content>,
}

/// One change in the feed, as the item stands now.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum FeedChange {
    /// The row was created or changed.
    Row(Box<CatalogRow>),
    /// The row is gone.
    Removed(RemovalRecord),
}

impl FeedChange {
    /// The item concerned.
    pub fn item(&self) -> ItemId {
        match self {
            FeedChange::Row(row) => row.item,
            FeedChange::Removed(record) => record.item,
        }
    }
}

/// A page of the feed: the changes after one position, up to another.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct FeedPage {
    /// The changes in order; an item that changed several times appears once.
    pub changes: Vec<FeedChange>,
    /// The position after this page.
    pub through: FeedPosition,
    /// Whether the feed goes on after `through`.
    pub more: bool,
}

/// A new item, to be entered as pending.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct NewItem {
    /// Its id: derived before the first attempt and durable, so that a repeated attempt makes no second row.
    pub item: ItemId,
    /// The revision that creates it.
    pub revision: Revision,
    /// The wanted place; another may be assigned.
    pub asked_path: MediaPath,
    /// Its content.
    pub content: Content,
    /// The steps of its line before that revision, oldest first: they enter the chain, and need no objects.
    pub earlier: Vec<ChainLink>,
    /// Media type, or `unknown`.
    pub content_type: String,
    /// Who imports it and will upload it.
    pub author: ClientId,
    /// That client's name, for `tcat_import.source`.
    pub author_name: String,
    /// The root of `source_path`, for `tcat_import.sourceServer`.
    pub source_server: String,
    /// The item of which this is a kept version, if any.
    pub version_of: Option<ItemId>,
}

impl NewItem {
    /// What the item's chain is to go on with, where it ends with `end` today: the earlier steps, then its revision with
    /// its content, but for what the chain has already.
    pub fn steps_after(&self, end: Option<&ChainLink>) -> Vec<ChainLink> {
        let last = ChainLink { revision: self.revision, content: self.content };
        let mut steps: Vec<_> = self.earlier.iter().copied().chain([last]).collect();
        let is_end = |step: &ChainLink, end: &ChainLink| {
            step.revision == end.revision && step.content.same_as(&end.content)
        };
        if let Some(at) = end.and_then(|end| steps.iter().position(|step| is_end(step, end))) {
            steps.drain(..=at);
        }
        steps
    }
}

/// What became of a [`NewItem`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Created {
    /// The row is there, made now or by an earlier attempt of ours; its path may differ from the asked one.
    Row(Box<CatalogRow>),
    /// Another item has this content at this path already: it is that one.
    Adopted(Box<CatalogRow>),
    /// The id was removed for good: choose another.
    Removed,
}

/// An edit, or the completion of an upload, to be committed. One transaction; see the design, section 3.6.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Commit {
    /// The item.
    pub item: ItemId,
    /// The revision that this follows: the row must still be there.
    pub base: Revision,
    /// The steps to enter in the chain, oldest first; the last is the new content. Empty where `base` itself was
    /// pending and its object is now in the store: the row becomes active at the same revision.
    pub line: Vec<ChainLink>,
    /// The object that holds the new content.
    pub object: ObjectId,
    /// That object's generation.
    pub generation: u32,
    /// The claim's epoch: at least the row's.
    pub claim_epoch: u64,
    /// The catalog epoch that the committer read.
    pub catalog_epoch: CatalogEpoch,
    /// Who commits: must be in the roster.
    pub author: ClientId,
}

/// What became of a [`Commit`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Committed {
    /// The row as it stands, the commit in it (also where an earlier attempt had succeeded).
    Row(Box<CatalogRow>),
    /// Refused; the row as it stands, if it is there.
    Refused {
        /// Why.
        why: Refusal,
        /// The row now.
        row: Option<Box<CatalogRow>>,
    },
}

/// Items that are to have other paths: one transaction, which frees all their names before it gives the first, so that
/// names can be swapped.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Repath {
    /// Which, each item once. At most [`PLACES_MAX`].
    pub places: Vec<NewPlace>,
    /// The catalog epoch that the author read.
    pub catalog_epoch: CatalogEpoch,
    /// Who asks: must be in the roster.
    pub author: ClientId,
}

/// The most items of one [`Repath`].
pub const PLACES_MAX: usize = 1024;

/// One item's wanted path.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct NewPlace {
    /// The item.
    pub item: ItemId,
    /// The path that its row had when this was asked: only there it is changed.
    pub seen: MediaPath,
    /// The wanted path; another may be assigned.
    pub asked: MediaPath,
}

/// What became of a [`Repath`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Repathed {
    /// The rows as they stand, of all items that have one. A row that had another path than the one seen, or is being
    /// killed, is as it was.
    Rows(Vec<CatalogRow>),
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why the catalog refused a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error, Encode, Decode)]
pub enum Refusal {
    /// Somebody else committed first.
    #[error("the row has another revision")]
    Revision,
    /// The row is gone or being killed.
    #[error("the row is gone or being killed")]
    Killed,
    /// A later claim has committed.
    #[error("a claim of a later epoch has committed")]
    ClaimEpoch,
    /// The catalog was restored meanwhile.
    #[error("the catalog was restored meanwhile")]
    CatalogEpoch,
    /// The author is no member.
    #[error("the author is not in the roster")]
    Roster,
    /// The object's name was condemned.
    #[error("the object's name was condemned")]
    Condemned,
    /// A step of a kill without the one before it.
    #[error("its removal was not asked for")]
    NotAsked,
}
