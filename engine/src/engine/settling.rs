//! Which items are not settled, and what to do next for each.
//!
//! An item that is not settled is marked in the store until it is, so that a restart looks at it again. Work is
//! never remembered: it is decided anew from what file, ledger and catalog say.

use super::placing::BUSY_MS;
use super::renaming::Place;
use super::slots::Slot;
use super::tasks::Job;
use super::timers::Timers;
use super::{Engine, Result};
use crate::catalog::{CatalogRow, RowState};
use crate::entry::{Copy, Entry};
use crate::ids::{ClientId, ItemId};
use crate::paths::MediaPath;
use crate::planted::Bug;
use crate::ports::Event;
use crate::settle::{Local, Question, Reason, Situation, Verdict, View, settle};
use crate::store::{Store, Table};
use crate::transaction::Transaction;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Items on their way to being settled.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Marked in the store as unsettled.
    marked: BTreeSet<ItemId>,
    /// To be looked at now.
    ready: BTreeSet<ItemId>,
    /// Those of them that came since the last input and may be unmarked yet.
    fresh: Vec<ItemId>,
    /// Waiting for something else to happen; looked at again now and then.
    waiting: BTreeSet<ItemId>,
    /// Waiting for a free slot of each kind, those first in whose rendezvous we rank high: so members take different
    /// items first.
    slotless: [Timers; Slot::ALL.len()],
    /// Nothing to be done until a person or another client acts: does not keep anybody from resting.
    resting: BTreeMap<ItemId, String>,
    /// Those of them that another client sees to. If it goes away, we are not at rest before they are looked at again.
    left_to: BTreeMap<ClientId, BTreeSet<ItemId>>,
    /// To be looked at again at a time.
    later: Timers,
    /// Members that failed to give an item, until when.
    shunned: BTreeMap<(ItemId, ClientId), u64>,
    /// Items whose file was there and is gone, and whether our trash is still to be looked through for it.
    lost: BTreeMap<ItemId, bool>,
    sweep_ms: u64,
}

/// How many items are looked at for one input; the rest follow at once.
const ITEMS_PER_INPUT: usize = 256;
/// How often waiting items are looked at again.
const SWEEP_MS: u64 = 1_000;

impl Queue {
    pub(super) fn load<S: Store>(tx: &Transaction<S>) -> Result<Self> {
        let mut queue = Self::default();
        let mut from = Vec::new();
        loop {
            let page = tx.range(Table::Unsettled, &from, &[], 4096)?;
            let Some((last, _)) = page.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            queue.marked.extend(page.into_iter().filter_map(|(key, _)| Some(ItemId(key.try_into().ok()?))));
        }
        queue.ready = queue.marked.clone();
        Ok(queue)
    }

    /// Something about the item has changed: look at it.
    pub(super) fn ready(&mut self, item: ItemId) {
        self.waiting.remove(&item);
        self.needs_no_slot(&item);
        self.resting.remove(&item);
        self.later.clear(&item);
        self.left_to.retain(|_, items| !items.remove(&item) || !items.is_empty());
        if self.ready.insert(item) {
            self.fresh.push(item);
        }
    }

    /// What many failed for is there again: they are tried at once.
    pub(super) fn wake_later(&mut self) {
        for item in self.later.items().copied().collect::<Vec<_>>() {
            self.ready(item);
        }
    }

    /// Something that many items may wait for has changed.
    pub(super) fn wake_waiting(&mut self) {
        self.ready.append(&mut self.waiting);
    }

    /// So many that wait for a slot of a kind, in this range of places, are looked at. Returns how many those are.
    pub(super) fn wake_slotless(&mut self, kind: Slot, places: RangeInclusive<u64>, count: u64) -> u64 {
        let items =
            self.slotless[kind as usize].take_first(places, usize::try_from(count).unwrap_or(usize::MAX));
        let woken = items.len() as u64;
        self.ready.extend(items);
        woken
    }

    /// The last place of those that wait for a slot of a kind.
    pub(super) fn last_place(&self, kind: Slot) -> Option<u64> {
        self.slotless[kind as usize].last_ms()
    }

    pub(super) fn due_ms(&self, now_ms: u64) -> u64 {
        if !self.ready.is_empty() {
            return now_ms;
        }
        let sweep_ms = if self.waiting.is_empty() { u64::MAX } else { self.sweep_ms };
        self.later.next_ms().min(sweep_ms)
    }

    /// Nothing is left to do but what somebody else must do.
    pub(super) fn is_empty(&self) -> bool {
        let later = self.later.items().all(|item| self.resting.contains_key(item));
        let slotless = self.slotless.iter().all(|items| items.len() == 0);
        self.ready.is_empty() && self.waiting.is_empty() && slotless && later
    }

    pub(super) fn later(&mut self, item: ItemId, at_ms: u64) {
        self.later.set(item, at_ms);
    }

    /// Nothing can be done until somebody else acts; looked at again at a time.
    pub(super) fn rest(&mut self, item: ItemId, why: &str, until_ms: u64) {
        self.resting.insert(item, why.into());
        self.later.set(item, until_ms);
    }

    /// The item, which rests, is left to another client.
    pub(super) fn leave_to(&mut self, item: ItemId, client: ClientId) {
        self.left_to.entry(client).or_default().insert(item);
    }

    /// To whom items are left.
    pub(super) fn left_to(&self) -> impl Iterator<Item = &ClientId> {
        self.left_to.keys()
    }

    /// Waits for a slot; who has the lower place goes first.
    pub(super) fn wait_for_slot(&mut self, kind: Slot, item: ItemId, place: u64) {
        self.slotless[kind as usize].set(item, place);
    }

    /// Waits for no slot any more.
    pub(super) fn needs_no_slot(&mut self, item: &ItemId) {
        self.slotless.iter_mut().for_each(|items| items.clear(item));
    }

    /// See [`Timers::add`].
    pub(super) fn also_later(&mut self, item: ItemId, at_ms: u64) {
        self.later.add(item, at_ms);
    }

    /// How many items are to be looked at again at a time.
    pub(super) fn timers(&self) -> usize {
        self.later.len()
    }

    /// Nothing can be done until a person acts.
    pub(super) fn hold(&mut self, item: ItemId, why: &str) {
        self.resting.insert(item, why.into());
    }

    pub(super) fn waiting_for_slot(&self, kind: Slot) -> usize {
        self.slotless[kind as usize].len()
    }

    pub(super) fn set_lost(&mut self, item: ItemId) {
        self.lost.insert(item, true);
    }

    pub(super) fn may_be_in_trash(&self, item: &ItemId) -> bool {
        self.lost.get(item).copied().unwrap_or(false)
    }

    /// Whether the item's file was there and is gone.
    pub(super) fn is_lost(&self, item: &ItemId) -> bool {
        self.lost.contains_key(item)
    }

    pub(super) fn not_in_trash(&mut self, item: ItemId) {
        self.lost.insert(item, false);
    }

    /// The item's file is there again; whether it was lost.
    pub(super) fn found(&mut self, item: &ItemId) -> bool {
        self.lost.remove(item).is_some()
    }

    pub(super) fn shun(&mut self, item: ItemId, client: ClientId, until_ms: u64) {
        self.shunned.insert((item, client), until_ms);
    }

    pub(super) fn is_shunned(&self, item: ItemId, client: ClientId, now_ms: u64) -> bool {
        self.shunned.get(&(item, client)).is_some_and(|until| *until > now_ms)
    }

    /// Whether an item is not settled yet, as far as the store tells.
    pub(super) fn is_marked(&self, item: &ItemId) -> bool {
        self.marked.contains(item)
    }

    /// Items that are not settled, in order.
    pub(super) fn marked(&self) -> impl Iterator<Item = ItemId> {
        self.marked.iter().copied()
    }

    pub(super) fn unsettled(&self) -> usize {
        self.marked.len()
    }

    pub(super) fn resting(&self) -> &BTreeMap<ItemId, String> {
        &self.resting
    }

    fn forget(&mut self, item: &ItemId) {
        self.lost.remove(item);
    }
}

impl<S: Store> Engine<S> {
    /// Looks at the items that are ready, as many as one input may.
    pub(super) fn settle_some(&mut self) -> Result<()> {
        let now_ms = self.now.mono_ms;
        // First what others have said: whoever has just been heard of is listened to on.
        self.tend_claims()?;
        self.task_timers()?;
        for item in self.queue.later.due(now_ms) {
            self.queue.ready(item);
        }
        if now_ms >= self.queue.sweep_ms {
            self.queue.sweep_ms = now_ms + SWEEP_MS;
            self.queue.shunned.retain(|_, until| *until > now_ms);
            self.queue.wake_waiting();
        }
        Slot::ALL.into_iter().for_each(|kind| self.wake_for_slots(kind));
        for _ in 0..ITEMS_PER_INPUT {
            let Some(item) = self.queue.ready.pop_first() else { break };
            // Here and not before: settling one item may have begun another.
            self.mark(item);
            match self.tasks.contains_key(&item) {
                true => self.task_is_ready(item)?,
                false => self.settle_item(item)?,
            }
        }
        self.mark_ready();
        Ok(())
    }

    /// Whatever is to be looked at is marked in the store, in the transaction that made it so.
    fn mark_ready(&mut self) {
        for item in std::mem::take(&mut self.queue.fresh) {
            if self.queue.ready.contains(&item) {
                self.mark(item);
            }
        }
    }

    fn mark(&mut self, item: ItemId) {
        if self.queue.marked.insert(item) {
            self.tx.put(Table::Unsettled, item.0.to_vec(), Vec::new());
        }
    }

    fn settle_item(&mut self, item: ItemId) -> Result<()> {
        if self.renames.is_asked(&item) {
            return Ok(()); // the catalog's answer brings it back
        }
        if self.is_being_kept(&item) {
            self.queue.later(item, self.now.mono_ms + BUSY_MS);
            return Ok(());
        }
        // A verdict that only changes what we know is followed by another look; four are more than any item needs.
        if self.restoring.holds_back() {
            self.wait(item, Reason::CatalogUnknown);
            return Ok(());
        }
        for _ in 0..4 {
            self.unite(item)?;
            let entry = self.own_entry(&item)?;
            let row = self.row(&item)?;
            if self.carry_wish(item, row.as_ref())? {
                return Ok(());
            }
            match self.place(item, &entry, row.as_ref())? {
                Place::Here => {}
                Place::Move(to) => return self.put_in_place(item, &entry, to),
                Place::Ask if self.rests_for_brake(item) => return Ok(()),
                Place::Ask => return self.ask_for_path(item),
            }
            let verdict = self.verdict(&item, &entry, row.as_ref())?;
            let Some(verdict) = self.under_brake(item, &entry, row.as_ref(), verdict)? else { return Ok(()) };
            if !self.act(item, entry, row, verdict)? {
                return self.drop_idle_claims(item, verdict);
            }
        }
        self.queue.waiting.insert(item);
        Ok(())
    }

    /// A claim without a task is one of an earlier life, which goes on where it is still asked for, or of a task that
    /// came to nothing: that is void.
    fn drop_idle_claims(&mut self, item: ItemId, verdict: Verdict) -> Result<()> {
        let asked_for = matches!(
            verdict,
            Verdict::Download
                | Verdict::Upload
                | Verdict::Complete
                | Verdict::UploadAgain
                | Verdict::Wait(Reason::FileUnknown | Reason::CatalogUnknown)
        );
        match asked_for || self.tasks.contains_key(&item) {
            true => Ok(()), // seen to where those begin
            false => self.withdraw_all_but(item, None),
        }
    }

    fn verdict(&mut self, item: &ItemId, entry: &Entry, row: Option<&CatalogRow>) -> Result<Verdict> {
        let travelling = self.travelling(item, entry, row)?;
        self.verdict_with(item, entry, row, travelling.as_ref())
    }

    /// What is to be done if this copy of a member is on its way.
    pub(super) fn verdict_with(
        &mut self,
        item: &ItemId,
        entry: &Entry,
        row: Option<&CatalogRow>,
        travelling: Option<&Copy>,
    ) -> Result<Verdict> {
        let copy = entry.copy.as_ref();
        let mut removal = self.removal(item)?;
        let removed_before = match entry.held_content() {
            Some(content) => self.removed_before(item, content)?,
            None => None,
        };
        let in_old_root = removed_before.is_some();
        if removal.is_none() {
            removal = removed_before;
        } else if let (Some(record), Some(content)) = (&removal, entry.held_content())
            && !record.contents.iter().any(|gone| gone.same_as(content))
        {
            // An edit of it that another holder made a new item of, and that was removed as that.
            removal = self.removal_with(content)?.or(removal);
        }
        if row.is_none() && removal.is_none() && copy.is_none() && travelling.is_none() {
            return Ok(Verdict::Settled);
        }
        let local = match copy.and_then(|copy| copy.held.as_ref()) {
            _ if self.watch.is_unknown(item) || !self.watch.is_known() => Local::Unknown,
            Some(held) => Local::File(held.content),
            None => Local::Absent,
        };
        let catalog = match (row, &removal) {
            (Some(row), _) if self.mirror_is_behind(item, copy, row) => View::Unknown,
            (Some(row), _) => View::Row(row),
            (None, Some(record)) => View::Gone(Some(record)),
            (None, None) if self.feed.is_known() => View::Gone(None),
            (None, None) => View::Unknown,
        };
        let owner_at_it = self.owner_at_it(item, row)?;
        if let Some(wrong) = self.planted_verdict(copy, travelling).filter(|_| local != Local::Unknown) {
            return Ok(wrong);
        }
        let verdict = settle(&Situation {
            local,
            stat_unchanged: self.is_suspect(item, copy)?,
            copy,
            catalog,
            me: self.config.me,
            owner_at_it,
            wanted: true,
            object_sound: row.is_none_or(|row| self.doubts.object_sound(row)),
            manual_import: self.config.manual_import,
            behind: self.restoring.is_behind(item),
            travelling,
            line_counts: self.line_counts(item, copy)?,
        });
        let unedited =
            copy.is_some_and(|copy| copy.base.map(|base| base.content) == entry.held_content().copied());
        if self.planted(Bug::RestoredCatalogWins) && verdict == Verdict::Conflict && unedited {
            return Ok(Verdict::Download);
        }
        if in_old_root && verdict == Verdict::Conflict {
            // It is in another item's place, and a removed content all the same: no version of that is to be made.
            return Ok(Verdict::Trash);
        }
        Ok(verdict)
    }

    /// Acts on a verdict; true if the item is to be looked at again at once.
    fn act(&mut self, item: ItemId, entry: Entry, row: Option<CatalogRow>, verdict: Verdict) -> Result<bool> {
        if self.looks_first(item, verdict)? || verdict.is_work() && self.mates_go_first(item)? {
            return Ok(false);
        }
        match verdict {
            Verdict::Settled | Verdict::Record => self.settled(item)?,
            Verdict::Wait(reason) => {
                self.wait(item, reason);
                let state = row.map(|row| row.state).filter(|_| reason == Reason::Pending);
                if let Some(RowState::Pending { owner }) = state
                    && self.queue.resting.contains_key(&item)
                {
                    self.queue.leave_to(item, owner);
                }
            }
            Verdict::Hold(question) => self.ask_person(item, question),
            Verdict::Adopt(base) => {
                self.adopt(item, entry, base);
                return Ok(true);
            }
            Verdict::Drop => {
                let assigned = match &row {
                    Some(row) => Some(row.cache_path.clone()),
                    None => self.removal(&item)?.map(|record| record.cache_path),
                };
                self.drop_copy(item, entry, assigned)?;
                match row {
                    // Not settled before its objects and its row are gone.
                    Some(row) => self.kill_or_wait(item, &row)?,
                    None => self.settled(item)?,
                }
            }
            Verdict::NewItem => {
                self.become_new_item(item, entry)?;
                return Ok(true);
            }
            Verdict::Import | Verdict::OfferAgain => self.begin_import(item, &entry)?,
            Verdict::Complete | Verdict::Upload => self.begin_upload(item, entry, row)?,
            Verdict::UploadAgain => {
                if let Some(row) = row
                    && self.has_slot(Slot::Download, item)
                {
                    self.begin_unsound(item, &row);
                }
            }
            Verdict::Download if self.follows_deletion(item, &entry, row.as_ref())? => return Ok(true),
            Verdict::Download => self.begin_download(item, &entry, row)?,
            Verdict::Take => self.begin_take(item, &entry, row.as_ref())?,
            Verdict::Conflict | Verdict::Heal => self.begin_set_aside(item, &entry, 1)?,
            Verdict::Trash => self.begin_trash(item, &entry),
            Verdict::OfferLost => {
                if let Some(row) = row {
                    self.begin_offer(item, row);
                }
            }
        }
        Ok(false)
    }

    pub(super) fn settled(&mut self, item: ItemId) -> Result<()> {
        self.queue.forget(&item);
        self.unanswered.forget(&item);
        self.doubts.forget(&item);
        self.forget_found(&item);
        self.attempts_over(&item);
        self.unwant(&item)?;
        self.mates_are_done(&item);
        // An edit of another that is on its way is looked for again after a restart.
        if !self.still_travels(&item)? && self.queue.marked.remove(&item) {
            self.tx.remove(Table::Unsettled, item.0.to_vec());
        }
        Ok(())
    }

    pub(super) fn wait(&mut self, item: ItemId, reason: Reason) {
        let for_others = match reason {
            Reason::FileUnknown | Reason::CatalogUnknown => None,
            // Its owner does not rest before it has brought it there, or cannot; unless it goes away.
            Reason::Pending if let Some(until_ms) = self.listens_until_ms(&item) => {
                return self.queue.later(item, until_ms);
            }
            Reason::Pending => {
                let until_ms = self.now.mono_ms + self.config.lease_ms;
                return self.queue.rest(item, "another client is bringing it to the cloud", until_ms);
            }
            Reason::PendingRepair => {
                Some("who was uploading it is away or has lost it, and its content is not here")
            }
            Reason::Unexplained => Some("its catalog row is gone without a record of its removal"),
            Reason::ManualImport => Some("waits to be imported by hand"),
        };
        match for_others {
            // The file is not there to be judged again until somebody changes it.
            None if reason == Reason::FileUnknown && self.watch.is_known() && self.watch.is_quiet() => {
                self.queue.resting.insert(item, "its file cannot be read".into());
            }
            None => {
                self.queue.waiting.insert(item);
            }
            Some(text) => {
                // No task of it is tried again: what failed before is no longer at hand.
                self.attempts_over(&item);
                self.queue.resting.insert(item, text.into());
            }
        }
    }

    fn ask_person(&mut self, item: ItemId, question: Question) {
        let text = match question {
            Question::GoBack => {
                "the file is an earlier content of its own history: delete it to get the newest back, or change it to go on from it"
            }
            Question::OnlyCopy => "the only copy of an item that is not uploaded would be replaced",
        };
        self.queue.resting.insert(item, text.into());
        self.event(Event::Asking(item, text.into()));
    }

    fn adopt(&mut self, item: ItemId, mut entry: Entry, base: crate::catalog::ChainLink) {
        entry.copy.get_or_insert_with(Copy::default).agree(base);
        entry.claims.clear();
        self.stage(item, entry);
    }

    pub(super) fn drop_copy(&mut self, item: ItemId, entry: Entry, path: Option<MediaPath>) -> Result<()> {
        let held = entry.copy.as_ref().and_then(|copy| copy.held.as_ref()).map(|held| held.path.clone());
        for path in held.into_iter().chain(path) {
            self.untrack(&item, &path)?;
        }
        if !entry.is_tombstone() {
            self.stage(item, Entry { copy: None, claims: Vec::new(), ..entry });
        }
        self.forget_rename(&item)?;
        Ok(())
    }

    fn put_in_place(&mut self, item: ItemId, entry: &Entry, to: MediaPath) -> Result<()> {
        let Some(held) = entry.copy.as_ref().and_then(|copy| copy.held.as_ref()) else { return Ok(()) };
        if self.watch.is_unknown(&item) || !self.watch.is_known() {
            self.wait(item, Reason::FileUnknown);
            return Ok(());
        }
        if self.mates_go_first(item)? {
            return Ok(());
        }
        let to = match self.claim_path(&item, &to)? {
            true => to,
            false => match self.way_out(&item, &to)? {
                Some(aside) => aside,
                None => return self.wait_for_path(item, &to),
            },
        };
        if !self.has_slot(Slot::Folder, item) {
            return Ok(());
        }
        let job = Job::Move { path: held.path.clone(), to };
        self.begin(item, held.content, job);
        Ok(())
    }

    /// Another item's file is at the path: it gives way, unless it rests itself.
    pub(super) fn wait_for_path(&mut self, item: ItemId, path: &MediaPath) -> Result<()> {
        let at_ms = self.now.mono_ms + self.config.quiet_ms.max(1);
        let other = self.tracked(path)?.map(|tracked| tracked.item);
        if other.is_some_and(|other| self.queue.resting.contains_key(&other)) {
            self.queue.rest(item, "another file has its place and stays there", at_ms);
        } else {
            self.queue.later(item, at_ms);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "settling_tests.rs"]
mod tests;
