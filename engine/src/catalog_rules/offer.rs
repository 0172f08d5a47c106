//! What a restored catalog gets back from the mirrors of its members.
//!
//! What holds always: the union only grows. A lost step enters where the row stands at a step before it, with all steps
//! between, oldest first, under the same ids; a removal stands over every row; states, generations and claim epochs only
//! rise. What contradicts the catalog (a row that went another way since) changes nothing: it settles as forked.

use super::{being_killed, planted};
use crate::catalog::{CatalogRow, ChainLink, FeedChange, RemovalRecord, RowState};
use crate::ids::ClientId;
use crate::planted::{Bug, Plants};

/// What the catalog found for one offered fact.
#[derive(Clone, Copy, Debug)]
pub struct OfferFacts<'a> {
    /// The item's row.
    pub row: Option<&'a CatalogRow>,
    /// The item's removal record.
    pub removal: Option<&'a RemovalRecord>,
    /// Whether the name of the offered row's object is condemned.
    pub condemned: bool,
    /// Who offers.
    pub author: ClientId,
}

/// What becomes of one offered fact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OfferVerdict {
    /// The catalog has it, or went another way.
    Nothing,
    /// This record is the item's from now on; its row goes.
    Remove(RemovalRecord),
    /// This row is the item's from now on, with all of its chain, at its path or the next free one.
    Enter(Box<CatalogRow>),
    /// These steps follow the row's present one, and it goes to the revision, content, object, generation, claim epoch
    /// and state of `row`.
    Extend {
        /// The lost steps, oldest first; none where only the state was lost.
        steps: Vec<ChainLink>,
        /// The row from now on.
        row: Box<CatalogRow>,
    },
}

/// Decides one fact.
pub fn offer<P: Plants>(plants: &P, fact: &FeedChange, facts: &OfferFacts<'_>) -> OfferVerdict {
    match (fact, facts.removal) {
        (FeedChange::Removed(offered), known) => removal(offered, known),
        (FeedChange::Row(_), Some(_)) => OfferVerdict::Nothing,
        (FeedChange::Row(offered), None) => row(plants, offered, facts),
    }
}

fn removal(offered: &RemovalRecord, known: Option<&RemovalRecord>) -> OfferVerdict {
    let Some(known) = known else { return OfferVerdict::Remove(offered.clone()) };
    let is_new = |content: &&crate::content::Content| !known.contents.iter().any(|c| c.same_as(content));
    let lost: Vec<_> = offered.contents.iter().filter(is_new).copied().collect();
    if lost.is_empty() {
        return OfferVerdict::Nothing;
    }
    let contents = [&lost[..], &known.contents[..]].concat();
    OfferVerdict::Remove(RemovalRecord { contents, ..known.clone() })
}

fn row<P: Plants>(plants: &P, offered: &CatalogRow, facts: &OfferFacts<'_>) -> OfferVerdict {
    let mut next = offered.clone();
    if facts.condemned && !being_killed(offered) {
        // Its object was condemned and may be gone: whoever holds the content brings it again.
        next.state = RowState::Pending { owner: facts.author };
        next.generation = next.generation.saturating_add(1);
    }
    let Some(present) = facts.row else { return OfferVerdict::Enter(Box::new(next)) };
    if being_killed(present) && !being_killed(offered) {
        return OfferVerdict::Nothing;
    }
    next.claim_epoch = next.claim_epoch.max(present.claim_epoch);
    (next.cache_path, next.virtual_path) = (present.cache_path.clone(), present.virtual_path.clone());
    (next.content_type, next.version_of) = (present.content_type.clone(), present.version_of);
    if present.revision == offered.revision {
        if progress(&next) <= progress(present) {
            return OfferVerdict::Nothing;
        }
        return OfferVerdict::Extend { steps: Vec::new(), row: Box::new(next) };
    }
    let Some(at) = offered.chain.iter().position(|link| link.revision == present.revision) else {
        return OfferVerdict::Nothing;
    };
    let mut steps = offered.chain[at + 1..].to_vec();
    if planted(plants, Bug::OfferedOutOfOrder) {
        steps.reverse();
        if let Some(last) = steps.last() {
            (next.revision, next.content) = (last.revision, last.content);
        }
    }
    OfferVerdict::Extend { steps, row: Box::new(next) }
}

/// What only rises while a row stays at one revision. A row that goes back to pending does so in a later generation.
pub fn progress(row: &CatalogRow) -> (bool, u32, u8, u64) {
    let state = match row.state {
        RowState::Pending { .. } => 0,
        RowState::Active => 1,
        RowState::KillRequest => 2,
        RowState::KillWip => 3,
        RowState::KillComplete => 4,
    };
    (being_killed(row), row.generation, state, row.claim_epoch)
}
