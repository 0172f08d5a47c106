//! Effects in the folder that failed: what they left there is looked at before the item is judged without it.
//!
//! A failed effect may have been done all the same: its answer was lost, or it failed after its last rename. So an item
//! that holds nothing by our entry may have a file, and the same is so after a crash until the first scan is over. Such an
//! item is tried again as any other, since every effect judges what it finds; but nothing else is concluded from its
//! having no file, and its path goes to no other item, before somebody has looked there. Else the file of an item that
//! was removed meanwhile would be taken for a new one, and what was deleted would come back.

use super::tasks::Job;
use super::{Engine, Result};
use crate::ids::ItemId;
use crate::paths::MediaPath;
use crate::settle::{Reason, Verdict};
use crate::store::Store;
use std::collections::BTreeMap;

/// Where files may be that our entries do not have: of items that are not settled, one path each.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    paths: BTreeMap<ItemId, MediaPath>,
}

impl Unanswered {
    /// The item is settled, or its path is looked at.
    pub(super) fn forget(&mut self, item: &ItemId) {
        self.paths.remove(item);
    }
}

impl<S: Store> Engine<S> {
    /// A task failed in the step in which it had the item's file in hand.
    pub(super) fn folder_step_failed(&mut self, item: ItemId, job: &Job) {
        let path = match job {
            _ if !job.moves_file() => return,
            Job::Download(download) => &download.path,
            Job::Take(take) => take.path(),
            Job::SetAside { path, .. } | Job::Trash { path } | Job::Move { path, .. } => path,
            Job::Import | Job::Upload(_) | Job::Kill(_) | Job::Unsound(_) | Job::Offer(_) => return,
        };
        self.unanswered.paths.insert(item, path.clone());
    }

    /// Before a verdict is followed that believes what our entry says of the file: whether that must be looked at first.
    pub(super) fn looks_first(&mut self, item: ItemId, verdict: Verdict) -> Result<bool> {
        let judges_itself = matches!(
            verdict,
            Verdict::Download
                | Verdict::Take
                | Verdict::Adopt(_)
                | Verdict::Wait(Reason::FileUnknown | Reason::CatalogUnknown)
        );
        if judges_itself {
            return Ok(false);
        }
        let Some(path) = self.unanswered.paths.remove(&item) else { return Ok(false) };
        if self.tracked(&path)?.is_none_or(|tracked| tracked.item != item) {
            return Ok(false);
        }
        self.watch.doubt(item, path, self.now.mono_ms);
        self.wait(item, Reason::FileUnknown);
        Ok(true)
    }

    /// Whether a file of the item may be at a path, though our entry has none there.
    pub(super) fn may_be_here(&self, item: &ItemId, path: &MediaPath) -> bool {
        let here = |place: &MediaPath| place.folded() == path.folded();
        let unseen = !self.watch.is_known() && self.queue.is_marked(item);
        unseen || self.unanswered.paths.get(item).is_some_and(here) || self.watch.is_in_doubt(item, path)
    }
}
