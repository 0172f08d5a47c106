//! What a catalog decides: pure rules over the facts that it found, the same for every database and for the model.
//!
//! A catalog gathers facts in one transaction, asks here, and does what the verdict says in the same transaction. So
//! SQL only finds and writes, and the simulator tests the very decisions that ship. What always holds: a verdict
//! depends on its arguments alone; an order that was carried out before is answered as made; nothing that is refused
//! changes anything.
//!
//! `commit` has creating and committing, `kill` the way out, `offer` what a restored catalog gets back. Left out:
//! paths, and how facts are found.

mod commit;
mod kill;
mod offer;
#[cfg(test)]
mod tests;

pub use commit::{
    CommitFacts, CommitVerdict, CreateFacts, CreateVerdict, IntendVerdict, Name, commit, commit_content,
    create, intend, unsound,
};
pub use kill::{KillVerdict, kill, removal_record};
pub use offer::{OfferFacts, OfferVerdict, offer, progress};

use crate::catalog::{CatalogEpoch, CatalogRow, FeedPosition, Refusal, RowState};
use crate::catalog_orders::NewEpoch;
use crate::planted::{Bug, Plants};

/// What an order is refused for, whatever it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The catalog's epoch now.
    pub epoch: CatalogEpoch,
    /// Whether the author is in the roster.
    pub member: bool,
}

impl Standing {
    fn refuses(&self, epoch_read: CatalogEpoch) -> Option<Refusal> {
        match () {
            () if self.epoch != epoch_read => Some(Refusal::CatalogEpoch),
            () if !self.member => Some(Refusal::Roster),
            () => None,
        }
    }
}

/// Whether this life of the catalog gave the position; `found` is the id of the feed row with that number, if there is
/// one. A position that it did not give means that the catalog was restored.
pub fn gave_position<P: Plants>(
    plants: &P,
    after: &FeedPosition,
    epoch: CatalogEpoch,
    found: Option<[u8; 16]>,
) -> bool {
    if planted(plants, Bug::FeedNumberAgain) {
        return after.number == 0 || found.is_some();
    }
    match () {
        () if *after == FeedPosition::default() => true,
        () if after.epoch != epoch => false,
        () if after.number == 0 => true,
        () => found == Some(after.id),
    }
}

/// The epoch that begins; none where the catalog is at another epoch than the one seen (somebody was first, or this
/// very order was carried out before).
pub fn new_epoch(order: &NewEpoch, standing: &Standing) -> Option<CatalogEpoch> {
    let begins = standing.member && standing.epoch == order.seen;
    let number = order.seen.number.max(order.above).checked_add(1)?;
    begins.then_some(CatalogEpoch { number, id: order.id })
}

/// Whether the row's removal was asked for.
pub fn being_killed(row: &CatalogRow) -> bool {
    matches!(row.state, RowState::KillRequest | RowState::KillWip | RowState::KillComplete)
}

#[inline(always)]
fn planted<P: Plants>(plants: &P, bug: Bug) -> bool {
    P::POSSIBLE && plants.has(bug)
}
