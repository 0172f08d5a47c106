//! Effects in the folder that failed: what they left there is looked at before the item is judged without it.
//!
//! A failed effect may have been done all the same: its answer was lost, or it failed after its last rename. So an item
//! that holds nothing by our entry may have a file, and the same is so after a crash until the first scan is over. Such an
//! item is tried again as any other, since every effect judges what it finds; but nothing else is concluded from its
//! having no file, and its path goes to no other item, before somebody has looked there. Else the file of an item that
//! was removed meanwhile would be taken for a new one, and what was deleted would come back. And what we may have placed
//! at that path ourselves is nobody's edit when it is found there.

use super::tasks::Job;
use super::{Engine, Result};
use crate::content::Content;
use crate::entry::Copy;
use crate::ids::ItemId;
use crate::paths::MediaPath;
use crate::settle::{Reason, Verdict};
use crate::store::Store;
use std::collections::BTreeMap;

/// Where files may be that our entries do not have: of items that are not settled, one path each.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    paths: BTreeMap<ItemId, MediaPath>,
    /// What may have been placed, of such items, until their path is seen.
    placed: BTreeMap<ItemId, (MediaPath, Content)>,
}

impl Unanswered {
    /// The item is settled, or its path was looked at.
    pub(super) fn forget(&mut self, item: &ItemId) {
        self.paths.remove(item);
        self.placed.remove(item);
    }
}

impl<S: Store> Engine<S> {
    /// A task failed in the step in which it had the item's file in hand.
    pub(super) fn folder_step_failed(&mut self, item: ItemId, job: &Job, content: &Content) {
        let path = match job {
            _ if !job.moves_file() => return,
            Job::Download(download) => {
                self.unanswered.placed.insert(item, (download.path.clone(), *content));
                &download.path
            }
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
        // As it is spelled now: an effect that was done since may have changed that.
        let Some(tracked) = self.tracked(&path)?.filter(|tracked| tracked.item == item) else {
            return Ok(false);
        };
        self.watch.doubt(item, tracked.path, self.now.mono_ms);
        self.wait(item, Reason::FileUnknown);
        Ok(true)
    }

    /// A file was seen where our entry has none. What we placed there ourselves, and did not hear or write down that we
    /// had, is what the catalog has, and no edit of it: a line that we had is over, as where we hear of it.
    pub(super) fn take_as_placed(
        &mut self,
        item: &ItemId,
        copy: &mut Copy,
        path: &MediaPath,
        content: &Content,
    ) -> Result<()> {
        if copy.held.is_some() {
            return Ok(());
        }
        let placed = self.unanswered.placed.remove(item);
        let Some(row) = self.row(item)? else { return Ok(()) };
        let was_placed = match placed {
            Some((at, placed)) => at.folded() == path.folded() && placed.same_as(content),
            // Before the first scan of this start is over; what an effect was to place then is known no more.
            None => !self.watch.is_known() && self.queue.is_marked(item) && row.content.same_as(content),
        };
        let step = row.chain.iter().rev().find(|step| step.content.same_as(content));
        if let Some(step) = step.filter(|_| was_placed) {
            copy.base = Some(*step);
            copy.line.clear();
        }
        Ok(())
    }

    /// A look that is later than all our effects there has found nothing at a path where the item's file is not by our
    /// entry either. No verdict may ever come that looks there first: two items that are to get each other's paths would
    /// wait for each other for ever.
    pub(super) fn nothing_there(&mut self, item: &ItemId, path: &MediaPath) {
        self.is_known_at(item, path);
        if self.unanswered.paths.get(item).is_some_and(|place| place.folded() == path.folded()) {
            self.unanswered.forget(item);
        }
    }

    /// Whether a file of the item may be at a path, though our entry has none there.
    pub(super) fn may_be_here(&self, item: &ItemId, path: &MediaPath) -> bool {
        let here = |place: &MediaPath| place.folded() == path.folded();
        let unseen = !self.watch.is_known() && self.queue.is_marked(item);
        unseen || self.unanswered.paths.get(item).is_some_and(here) || self.watch.is_in_doubt(item, path)
    }
}
