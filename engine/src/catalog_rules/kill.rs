//! The way of an item out of the catalog: asked for, condemned, gone.
//!
//! What holds always: a name is condemned before its object is deleted, in the transaction that has the row being
//! killed, and a row that is being killed takes no commit; so nobody can bring bytes under a name that is about to be
//! deleted, however long the killer pauses. A removed id never comes back.

use super::{Standing, being_killed};
use crate::catalog::{CatalogRow, ChainLink, Refusal, RemovalRecord, RowState};
use crate::catalog_orders::{Kill, KillStep};
use crate::content::Content;

/// What becomes of a [`Kill`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KillVerdict {
    /// This step or a later one is done: the row is the answer.
    Made,
    /// The item is removed: its record is the answer.
    Gone,
    /// Refused.
    Refused(Refusal),
    /// The row goes to this state, with the claim's epoch where that is higher.
    Mark(RowState),
    /// The names of all its objects are condemned, and the row goes to kill-wip with the claim's epoch.
    Condemn,
    /// Its removal record takes the row's place.
    Remove,
}

/// Decides one step. `removed` is whether the item has its removal record.
pub fn kill(kill: &Kill, row: Option<&CatalogRow>, removed: bool, standing: &Standing) -> KillVerdict {
    let row = match row {
        None if removed => return KillVerdict::Gone,
        None => return KillVerdict::Refused(Refusal::Killed),
        Some(row) => row,
    };
    if let Some(why) = standing.refuses(kill.catalog_epoch) {
        return KillVerdict::Refused(why);
    }
    let asked = being_killed(row);
    match kill.step {
        KillStep::Request if asked => KillVerdict::Made,
        _ if row.revision != kill.revision => KillVerdict::Refused(Refusal::Revision),
        KillStep::Request => KillVerdict::Mark(RowState::KillRequest),
        _ if !asked => KillVerdict::Refused(Refusal::NotAsked),
        _ if row.claim_epoch > kill.claim_epoch => KillVerdict::Refused(Refusal::ClaimEpoch),
        KillStep::Condemn => KillVerdict::Condemn,
        KillStep::Complete if row.state == RowState::KillRequest => KillVerdict::Refused(Refusal::NotAsked),
        KillStep::Complete => KillVerdict::Remove,
    }
}

/// What remains of a row for good; `chain` is all that the catalog has of it.
pub fn removal_record(row: &CatalogRow, chain: &[ChainLink]) -> RemovalRecord {
    let mut contents: Vec<Content> = Vec::new();
    for content in chain.iter().map(|link| link.content).chain([row.content]) {
        if !contents.iter().any(|known| known.same_as(&content)) {
            contents.push(content);
        }
    }
    RemovalRecord { item: row.item, cache_path: row.cache_path.clone(), contents }
}
