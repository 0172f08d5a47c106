//! What the catalog is ordered beside creating and committing: kills, lost facts, objects found amiss, a new epoch.
//!
//! Every order names what its sender saw (a revision, an epoch, an object's name), so that the catalog refuses it
//! where something else stands; and every order may be sent twice with the effect of one. What becomes of each is
//! decided in [`crate::catalog_rules`], for every catalog alike.

use crate::catalog::{CatalogEpoch, CatalogRow, FeedChange, Refusal, RemovalRecord, Revision};
use crate::ids::{ClientId, ItemId, ObjectId};
use bincode::{Decode, Encode};

/// A step on the way of an item out of the catalog.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub enum KillStep {
    /// A person asks for the item's removal: the row goes to kill-request.
    Request,
    /// The names of its objects are condemned: the row goes to kill-wip, the point of no return for the objects.
    Condemn,
    /// Its objects are gone: the permanent removal record takes the row's place.
    Complete,
}

/// One step of a kill.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Kill {
    /// The step.
    pub step: KillStep,
    /// The item.
    pub item: ItemId,
    /// The revision that was seen: the row must still be there.
    pub revision: Revision,
    /// The epoch of the kill's claim: at least the row's. A request needs none.
    pub claim_epoch: u64,
    /// The catalog epoch that was read.
    pub catalog_epoch: CatalogEpoch,
    /// Who kills: must be in the roster.
    pub author: ClientId,
}

/// What became of a [`Kill`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Killing {
    /// The row as it stands, this step or a later one done.
    Row {
        /// The row.
        row: Box<CatalogRow>,
        /// The condemned names of its objects, at most [`KILL_OBJECTS_MAX`]; empty before they are condemned.
        objects: Vec<ObjectId>,
    },
    /// The item is removed for good, now or before.
    Removed(RemovalRecord),
    /// Refused; the row as it stands, if it is there.
    Refused {
        /// Why.
        why: Refusal,
        /// The row now.
        row: Option<Box<CatalogRow>>,
    },
}

/// The most names of objects that one answer carries; what an item had beyond is left to the collector.
pub const KILL_OBJECTS_MAX: usize = 4096;

/// Facts that a restored catalog may have lost.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Offer {
    /// Rows and removal records from the offerer's mirror. At most [`OFFER_FACTS_MAX`].
    pub facts: Vec<FeedChange>,
    /// The catalog epoch to which they are offered.
    pub catalog_epoch: CatalogEpoch,
    /// Who offers: must be in the roster.
    pub author: ClientId,
}

/// The most facts of one [`Offer`].
pub const OFFER_FACTS_MAX: usize = 64;

/// What became of an [`Offer`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Offered {
    /// All of it is in the catalog, or contradicts what is there.
    Taken,
    /// Refused as a whole: the epoch is another, or the author is no member.
    Refused(Refusal),
}

/// "The object of this row is not there, or holds other bytes."
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Unsound {
    /// The item.
    pub item: ItemId,
    /// The revision that was seen.
    pub revision: Revision,
    /// The name under which the right bytes were not found.
    pub object: ObjectId,
    /// The catalog epoch that was read.
    pub catalog_epoch: CatalogEpoch,
    /// Who found out: becomes the pending row's owner, so that any holder takes over.
    pub author: ClientId,
}

/// Evidence that the catalog was restored: begin a new epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct NewEpoch {
    /// The epoch that the catalog showed: if it is another by now, nothing is changed.
    pub seen: CatalogEpoch,
    /// The new number is above this one too.
    pub above: u64,
    /// The new epoch's id.
    pub id: [u8; 16],
    /// Who found out: must be in the roster.
    pub author: ClientId,
}
