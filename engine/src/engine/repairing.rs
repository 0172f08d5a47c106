//! Objects that are missing or wrong, and pending rows whose owner is gone: whoever holds the content brings it.
//!
//! What holds always: an object is doubted only by who looked for the right bytes and did not find them, and nobody is
//! taken to be gone before we have listened for a whole lease. Left out: the upload itself.

use super::tasks::Job;
use super::{Engine, Result};
use crate::catalog::{CatalogRow, Committed, RowState};
use crate::catalog_orders::Unsound;
use crate::entry::OwnedEntry;
use crate::ids::{ItemId, ObjectId};
use crate::ports::{Event, Outcome};
use crate::store::Store;
use std::collections::BTreeMap;

/// What was found out since this start.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Objects under which the right bytes were not found, by item.
    unsound: BTreeMap<ItemId, ObjectId>,
    /// Since when the owner of a pending row is not seen to be at it.
    ownerless_ms: BTreeMap<ItemId, u64>,
}

impl Doubts {
    /// Whether the row's object is there with the right bytes, as far as we know.
    pub(super) fn object_sound(&self, row: &CatalogRow) -> bool {
        self.unsound.get(&row.item) != Some(&row.object_name())
    }

    pub(super) fn forget(&mut self, item: &ItemId) {
        self.unsound.remove(item);
        self.ownerless_ms.remove(item);
    }
}

impl<S: Store> Engine<S> {
    /// Whether the owner of a pending row is live and has a file that it can bring there. It counts as being at it until
    /// we have listened for a lease.
    pub(super) fn owner_at_it(&mut self, item: &ItemId, row: Option<&CatalogRow>) -> Result<bool> {
        let Some((row, RowState::Pending { owner })) = row.map(|row| (row, row.state)) else {
            return Ok(false);
        };
        if owner == self.config.me {
            return Ok(false);
        }
        // The row's content, or what was made of it: who still has an earlier step, having only found out that the object
        // is missing, cannot bring it.
        let holds = |entry: &OwnedEntry| {
            let held = entry.entry.held_content();
            let goes_on = entry.entry.copy.as_ref().is_some_and(|copy| copy.has_step(&row.revision));
            entry.owner() == owner && held.is_some_and(|held| goes_on || held.same_as(&row.content))
        };
        if self.is_live(&owner) && self.entries(item)?.iter().any(holds) {
            self.doubts.ownerless_ms.remove(item);
            return Ok(true);
        }
        let since_ms = *self.doubts.ownerless_ms.entry(*item).or_insert(self.now.mono_ms);
        Ok(self.now.mono_ms < since_ms + self.config.lease_ms)
    }

    /// Until when we listen for the owner of a pending row.
    pub(super) fn listens_until_ms(&self, item: &ItemId) -> Option<u64> {
        let until_ms = self.doubts.ownerless_ms.get(item)? + self.config.lease_ms;
        (self.now.mono_ms < until_ms).then_some(until_ms)
    }

    /// The right bytes are not under the row's object: the catalog is told, so that a holder brings them again.
    pub(super) fn found_unsound(&mut self, item: ItemId, object: ObjectId, why: String) -> Result<()> {
        self.tasks.remove(&item);
        self.withdraw_all_but(item, None)?;
        match self.row(&item)?.filter(|row| row.state == RowState::Active && row.object_name() == object) {
            Some(row) => {
                self.doubts.unsound.insert(item, object);
                self.event(Event::Unsound(item, why));
                self.begin_unsound(item, &row);
            }
            // The row went on meanwhile.
            None => self.end(item),
        }
        Ok(())
    }

    /// Settle's row 7: the object of C is not sound.
    pub(super) fn begin_unsound(&mut self, item: ItemId, row: &CatalogRow) {
        let order = Unsound {
            item,
            revision: row.revision,
            object: row.object_name(),
            catalog_epoch: self.feed.position().epoch,
            author: self.config.me,
        };
        self.begin(item, row.content, Job::Unsound(Box::new(order)));
    }

    pub(super) fn unsound_done(&mut self, item: ItemId, outcome: Outcome) -> Result<()> {
        let Outcome::Committed(committed) = outcome else {
            return self.end_badly(item, "the catalog gave no answer that fits; will ask again".into());
        };
        let (row, refused) = match committed {
            Committed::Row(row) => (Some(row), false),
            Committed::Refused { row, .. } => (row, true),
        };
        if let Some(row) = row {
            self.apply_row(*row)?;
        }
        self.doubts.forget(&item);
        if refused {
            self.feed.hint(self.now.mono_ms);
            return self.end_badly(item, "its object is not sound, and the catalog has moved on".into());
        }
        self.end_well(item);
        Ok(())
    }
}

#[cfg(test)]
#[path = "repairing_tests.rs"]
mod tests;
