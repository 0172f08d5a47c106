//! Bringing what a person saved into the catalog and the object store: import, and upload.
//!
//! Every step can be done twice: ids and revisions were written down before the first attempt, and the catalog's fence
//! decides where two do the same.

use super::observe::Tracked;
use super::slots::Slot;
use super::tasks::{Job, Task, Upload, UploadStep, short};
use super::{Engine, Result, Waiter};
use crate::catalog::{
    CatalogRow, ChainLink, Commit, Committed, Created, NewItem, Refusal, Revision, RowState,
};
use crate::claims;
use crate::content::Content;
use crate::entry::{Claim, Copy, Entry, TaskKind};
use crate::ids::{ItemId, ObjectId};
use crate::paths::MediaPath;
use crate::planted::Bug;
use crate::ports::{Effect, Event, Object, Outcome};
use crate::store::Store;

impl<S: Store> Engine<S> {
    pub(super) fn begin_import(&mut self, item: ItemId, entry: &Entry) -> Result<()> {
        let Some(copy) = &entry.copy else { return Ok(()) };
        let (Some(held), true) = (&copy.held, self.has_slot(Slot::Upload, item)) else { return Ok(()) };
        if let Some(until_ms) = self.others_turn_ms(&item, copy, None)? {
            return self.leave_to_another(item, &held.content, until_ms);
        }
        let mut copy = copy.clone();
        if !copy.tip().is_some_and(|tip| tip.content.same_as(&held.content)) {
            // It waited for a person to import it, or nobody wrote what it is now: a revision stands for one content.
            copy.extend(ChainLink { revision: Revision(self.dot_for(&item)), content: held.content });
            self.stage(item, Entry { copy: Some(copy.clone()), ..entry.clone() });
        }
        // A row that is gone without a record is offered again with the revision that it had.
        let Some(link) = copy.tip() else { return Ok(()) };
        let new = NewItem {
            item,
            revision: link.revision,
            asked_path: held.path.clone(),
            content: held.content,
            earlier: copy.earlier_of_new(),
            content_type: content_type(&held.path).into(),
            author: self.config.me,
            author_name: self.config.name.clone(),
            source_server: self.config.source_server.clone(),
            version_of: self.version_of(&item)?,
        };
        self.tasks
            .insert(item, Task { job: Job::Import, content: held.content, effect: None, until_ms: None });
        let id = self.effect(Waiter::Task(item), Effect::Create(Box::new(new)));
        self.tasks.set_effect(&item, Some(id));
        Ok(())
    }

    /// Another goes first. Whoever is live says itself whether it rests; for one that is not, or goes away meanwhile,
    /// nobody would: we do not rest before its claim is void.
    fn leave_to_another(&mut self, item: ItemId, content: &Content, until_ms: u64) -> Result<()> {
        let live = self.live();
        let rivals = self.rivals(&item, TaskKind::Upload, content)?;
        if self.feed.is_away() || rivals.iter().all(|rival| live.contains(&rival.dot.client)) {
            self.queue.rest(item, "another client is bringing it to the cloud", until_ms);
            // To whoever claims it, or holds it and has its turn before us.
            let owners = self.entries(&item)?.into_iter().map(|entry| entry.owner());
            owners.filter(|owner| live.contains(owner)).for_each(|owner| self.queue.leave_to(item, owner));
        } else {
            self.queue.later(item, until_ms);
        }
        Ok(())
    }

    pub(super) fn import_done(&mut self, item: ItemId, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Created(Created::Row(row)) => {
                self.event(Event::Imported(item, row.cache_path.clone()));
                self.apply_row(*row)?;
            }
            Outcome::Created(Created::Adopted(row)) => self.become_adopted(item, *row)?,
            Outcome::Created(Created::Removed) => {
                // What becomes of the file depends on what was removed, and the feed says that.
                self.feed.hint(self.now.mono_ms);
                self.end_until(item, self.now.mono_ms + self.config.poll_ms);
                return Ok(());
            }
            _ => return self.end_badly(item, "the catalog gave no answer that fits; will ask again".into()),
        }
        self.end_well(item);
        Ok(())
    }

    /// The catalog has this very file as another item: the file becomes that item's.
    fn become_adopted(&mut self, item: ItemId, row: CatalogRow) -> Result<()> {
        let entry = self.own_entry(&item)?;
        let held = entry.copy.as_ref().and_then(|copy| copy.held.clone());
        self.stage(item, Entry { copy: None, claims: Vec::new(), ..entry });
        self.forget_rename(&item)?;
        if let Some(held) = held {
            let stat = self.tracked(&held.path)?.map(|tracked| tracked.stat).unwrap_or_default();
            self.track(&Tracked::new(row.item, held.path.clone(), stat))?;
            let mut theirs = self.own_entry(&row.item)?;
            theirs.copy.get_or_insert_with(Copy::default).held = Some(held);
            self.stage(row.item, theirs);
        }
        self.queue.ready(row.item);
        self.apply_row(row)
    }

    pub(super) fn begin_upload(
        &mut self,
        item: ItemId,
        mut entry: Entry,
        row: Option<CatalogRow>,
    ) -> Result<()> {
        let (Some(row), Some(copy)) = (row, &entry.copy) else { return Ok(()) };
        let Some(held) = copy.held.clone() else { return Ok(()) };
        if let Some(until_ms) = self.others_turn_ms(&item, copy, Some(&row))? {
            self.leave_to_another(item, &held.content, until_ms)?;
            return self.withdraw_all_but(item, None);
        }
        if !self.has_slot(Slot::Upload, item) {
            return Ok(());
        }
        let content = held.content;
        if self.is_parked(item, &content) {
            return self.withdraw_all_but(item, None);
        }
        // Who went back to C commits the steps to it; else only the object is wanted.
        let went_back = row.state == RowState::Active && !copy.line.is_empty();
        let unchanged = content.same_as(&row.content) && !went_back;
        let saved = copy.line.last().filter(|step| step.content.same_as(&content));
        let ours = match (row.state, saved) {
            (RowState::Pending { owner }, _) => owner == self.config.me,
            (_, Some(step)) => step.revision.0.client == self.config.me,
            (_, None) => !unchanged,
        };
        let claim = match self.upload_turn(item, &entry, &row, &content, !ours)? {
            Ok(claim) => claim,
            Err(at_ms) => {
                self.queue.later(item, at_ms);
                return self.withdraw_all_but(item, None);
            }
        };
        let Some(copy) = &mut entry.copy else { return Ok(()) };
        let contested = !ours;
        if !unchanged && !copy.line.last().is_some_and(|link| link.content.same_as(&content)) {
            copy.extend(ChainLink { revision: Revision(self.dot_for(&item)), content });
        }
        let line = if unchanged { Vec::new() } else { copy.line.clone() };
        let generation = if unchanged { row.generation } else { 0 } + self.counts.generation(&item);
        let object = Object { id: object_id(&item, &content, generation), item, content, generation };
        let commit = Commit {
            item,
            base: row.revision,
            line,
            object: object.id,
            generation,
            claim_epoch: claim.epoch,
            catalog_epoch: self.feed.position().epoch,
            author: self.config.me,
        };
        self.stage(item, entry);
        let upload = Upload { commit, object, path: held.path, step: UploadStep::Listen };
        self.begin(item, content, Job::Upload(Box::new(upload)));
        self.claim_upload(item, content, claim, contested)
    }

    /// Stakes our claim to bring a content to the cloud. Where another could do the same, others are listened for first.
    fn claim_upload(&mut self, item: ItemId, content: Content, claim: Claim, contested: bool) -> Result<()> {
        let standing = claim.started;
        self.stake(item, claim, contested)?;
        if contested && !standing {
            self.listen(item);
            return Ok(());
        }
        self.begin_sending(item, content)
    }

    /// We have listened: the winner begins, the others withdraw.
    pub(super) fn upload_listened(&mut self, item: ItemId) -> Result<()> {
        let Some(content) = self.tasks.get(&item).map(|task| task.content) else { return Ok(()) };
        if !self.wins(&item, TaskKind::Upload, &content)? {
            self.withdraw_all_but(item, None)?;
            self.end(item);
            return Ok(());
        }
        self.begin_sending(item, content)
    }

    fn begin_sending(&mut self, item: ItemId, content: Content) -> Result<()> {
        self.start_claimed(item, TaskKind::Upload, content)?;
        if let Some(Job::Upload(upload)) = self.tasks.get(&item).map(|task| &task.job) {
            let sending = Upload { step: UploadStep::Intend, ..(**upload).clone() };
            self.tasks.set_job(&item, Job::Upload(Box::new(sending)));
        }
        self.next_step(item);
        Ok(())
    }

    /// Until when somebody else brings the content to the cloud, or goes first; and our claim, if nobody does.
    fn upload_turn(
        &mut self,
        item: ItemId,
        entry: &Entry,
        row: &CatalogRow,
        content: &Content,
        contested: bool,
    ) -> Result<std::result::Result<Claim, u64>> {
        let (task, now_ms) = (TaskKind::Upload, self.now.mono_ms);
        let scope = self.want(item, task, content)?;
        let rivals = self.rivals(&item, task, content)?;
        let ours = entry.claim(task, content).cloned();
        let row_epoch = if self.planted(Bug::LeftoverEpoch) { 0 } else { row.claim_epoch };
        if let Some(ours) = ours.filter(|ours| ours.epoch >= row_epoch)
            && self.wins(&item, task, content)?
        {
            return Ok(Ok(ours));
        }
        let others: Vec<_> = rivals.iter().map(|rival| rival.void_ms).collect();
        self.claiming.block(&scope, others.iter().max().copied(), now_ms);
        if let Some(until_ms) = others.into_iter().min() {
            return Ok(Err(until_ms));
        }
        if contested {
            let live = self.live();
            let turn = claims::turn(&self.config.me, &live, &content.key());
            let at_ms = self
                .claiming
                .wanted_since_ms(&scope)
                .saturating_add(claims::turn_ms(turn, self.config.listen_ms));
            if now_ms < at_ms {
                return Ok(Err(at_ms));
            }
        }
        // The epoch belongs to the item: one above the row's and every claim seen for it, whatever the content.
        let entries = self.entries(&item)?;
        let seen = entries.iter().flat_map(|entry| &entry.entry.claims).filter(|claim| claim.task == task);
        let floor = seen.map(|claim| claim.epoch).max().unwrap_or(0).max(row_epoch);
        Ok(Ok(self.new_claim(task, *content, floor)?))
    }

    pub(super) fn upload_done(&mut self, item: ItemId, mut upload: Upload, outcome: Outcome) -> Result<()> {
        match (upload.step, outcome) {
            (UploadStep::Intend, Outcome::Done { .. }) => upload.step = UploadStep::Put,
            (UploadStep::Put, Outcome::Done { .. }) => {
                let still = self
                    .own_entry(&item)?
                    .held_content()
                    .is_some_and(|held| held.same_as(&upload.object.content));
                if !still || self.brake_holds(&item) {
                    self.end(item);
                    return Ok(());
                }
                upload.step = UploadStep::Commit;
            }
            (UploadStep::Put, Outcome::Changed) if self.planted(Bug::SourceNotRechecked) => {
                upload.step = UploadStep::Commit;
            }
            (UploadStep::Put, Outcome::Changed | Outcome::Missing) => return self.doubt(item, upload.path),
            (UploadStep::Intend | UploadStep::Put, Outcome::Occupied) => {
                self.counts.next_generation(item);
                return self.end_badly(item, "its object's name is taken; will take the next".into());
            }
            (UploadStep::Commit, Outcome::Committed(committed)) => {
                return self.committed(item, &upload, committed);
            }
            (_, outcome) => {
                let why = format!("the upload failed ({}); will try again", short(&outcome));
                return self.end_badly(item, why);
            }
        }
        self.tasks.set_job(&item, Job::Upload(Box::new(upload)));
        self.next_step(item);
        Ok(())
    }

    fn committed(&mut self, item: ItemId, upload: &Upload, committed: Committed) -> Result<()> {
        match committed {
            Committed::Row(row) => {
                self.event(Event::Uploaded(item, upload.path.clone()));
                self.apply_row(*row)?;
                self.end_well(item);
            }
            Committed::Refused { why, row } => {
                if let Some(row) = row {
                    self.apply_row(*row)?;
                }
                match why {
                    Refusal::Revision | Refusal::ClaimEpoch => {
                        self.feed.hint(self.now.mono_ms);
                        self.end(item);
                    }
                    Refusal::Killed | Refusal::NotAsked => {
                        self.feed.hint(self.now.mono_ms);
                        self.end_badly(
                            item,
                            format!("the catalog refused the upload: {why}; reading it again"),
                        )?;
                    }
                    Refusal::Condemned => {
                        self.counts.next_generation(item);
                        self.end(item);
                    }
                    Refusal::CatalogEpoch | Refusal::Roster => {
                        self.feed.hint(self.now.mono_ms);
                        let why = format!("the catalog refused the upload: {why}; will try again");
                        self.end_badly(item, why)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A commit has no answer: it may have been made. Nothing is known, so nothing is changed; the same revisions are
    /// offered again, and the row that comes back tells.
    pub(super) fn commit_unanswered(&mut self, item: ItemId, upload: &Upload) -> Result<()> {
        let Some(last) = upload.commit.line.last() else { return Ok(()) };
        if self.planted(Bug::TimeoutIsFailure) {
            let mut entry = self.own_entry(&item)?;
            let again = Revision(self.dot_for(&item));
            entry
                .copy
                .iter_mut()
                .flat_map(|copy| copy.line.last_mut())
                .for_each(|link| link.revision = again);
            self.stage(item, entry);
        }
        if self.planted(Bug::TimeoutIsSuccess)
            && let Some(mut row) = self.row(&item)?
        {
            row.chain.extend(&upload.commit.line);
            (row.revision, row.content) = (last.revision, last.content);
            self.replace_row(row)?;
        }
        Ok(())
    }
}

pub(super) fn object_id(item: &ItemId, content: &Content, generation: u32) -> ObjectId {
    ObjectId::derive("tcat 1 object", &[&item.0, &content.key(), &generation.to_le_bytes()])
}

/// The media type that a name promises; `unknown` means unverified.
fn content_type(path: &MediaPath) -> &'static str {
    let name = path.file_name().to_ascii_lowercase();
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("png") => "image/png",
        Some("gif") => "image/gif",
        Some("tif" | "tiff") => "image/tiff",
        Some("webp") => "image/webp",
        Some("mp4") => "video/mp4",
        Some("mov") => "video/quicktime",
        _ => "unknown",
    }
}
