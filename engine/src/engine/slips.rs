//! What a planted bug makes of a commit without an answer. In everything that ships, nothing: the answer is found by
//! reading back.

use super::tasks::{Job, Task, Upload};
use super::{Engine, Result, Waiter};
use crate::catalog::{CatalogRow, ChainLink, Commit, Revision};
use crate::ids::ItemId;
use crate::planted::Bug;
use crate::ports::Effect;
use crate::store::Store;

impl<S: Store> Engine<S> {
    /// A commit failed without saying whether it was made. Whether a planted bug took that for an answer.
    pub(super) fn misreads_silence(&mut self, item: ItemId, upload: &Upload) -> Result<bool> {
        let mut entry = self.own_entry(&item)?;
        let Some(copy) = entry.copy.as_mut() else { return Ok(false) };
        if self.planted(Bug::TimeoutIsFailure)
            && let Some(last) = copy.line.last_mut()
        {
            last.revision = Revision(self.dot_for(&item));
            self.stage(item, entry);
        } else if self.planted(Bug::TimeoutIsSuccess)
            && let Some(last) = upload.commit.line.last()
        {
            copy.base = Some(*last);
            copy.line.clear();
            entry.claims.clear();
            self.stage(item, entry);
            self.end_well(item);
            return Ok(true);
        }
        Ok(false)
    }

    /// A commit was refused because the row has moved on. Whether a planted bug makes it again on top of that.
    pub(super) fn insists(&mut self, item: ItemId, upload: &Upload, row: &CatalogRow) -> Result<bool> {
        if !self.planted(Bug::TimeoutIsFailure) || upload.commit.line.is_empty() {
            return Ok(false);
        }
        let link = ChainLink { revision: Revision(self.dot_for(&item)), content: upload.object.content };
        let entry = self.own_entry(&item)?;
        self.stage(item, entry);
        let commit = Commit {
            base: row.revision,
            line: vec![link],
            claim_epoch: row.claim_epoch + 1,
            ..upload.commit.clone()
        };
        let id = self.effect(Waiter::Task(item), Effect::Commit(Box::new(commit.clone())));
        let job = Job::Upload(Box::new(Upload { commit, ..upload.clone() }));
        self.tasks
            .insert(item, Task { job, content: upload.object.content, effect: Some(id), until_ms: None });
        Ok(true)
    }
}
