//! Tasks in flight, and what they take of what there is a limited number of.
//!
//! What is counted here is always what going through all tasks would find: small contents are many at a time, so nothing
//! that happens at every input goes through them. Whoever changes a task does so here. What a task does, and when it
//! may go on, is said in `tasks` and `leases`.

use super::Engine;
use super::tasks::{Job, Task};
use super::timers::Timers;
use crate::content::Content;
use crate::ids::{ClientId, ItemId};
use crate::ports::EffectId;
use crate::store::Store;
use std::collections::BTreeMap;

/// Contents from the cloud that are small share a download slot: each takes as many sixteenths as it has mebibytes, one at
/// the least. What a member gives takes a whole one: a member serves few at a time and refuses the rest.
pub(super) const SHARES: u64 = 16;
const SHARE_BYTES: u64 = 1 << 20;
/// Of small contents as many are claimed ahead of the slots as will hardly take longer than a lease: 2048, or 32 MiB.
pub(super) const AHEAD_MAX: usize = 2048;
const AHEAD_BYTES: u64 = 16 << 10;
/// The place of what is claimed ahead among those that wait for a download slot, and the first place of the others.
const PLACE_AHEAD: u64 = 0;
pub(super) const PLACE_FIRST: u64 = 1;
/// How many files may be renamed or trashed at a time.
const FOLDER_TASKS_MAX: u64 = 16;

/// What a task takes one, or a share, of a limited number of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    Upload = 0,
    Download = 1,
    /// To rename or trash a file.
    Folder = 2,
    /// To claim a small content and listen, before there is a download slot for it.
    Ahead = 3,
}

impl Slot {
    pub(super) const ALL: [Slot; 4] = [Slot::Upload, Slot::Download, Slot::Folder, Slot::Ahead];

    /// How much of it a task for this content takes.
    fn shares(self, job: &Job, content: &Content) -> u64 {
        match self {
            Slot::Upload | Slot::Folder => 1,
            Slot::Download if job.fetches_from().is_some() => SHARES,
            Slot::Download => size_shares(content),
            Slot::Ahead => content.size.div_ceil(AHEAD_BYTES).max(1),
        }
    }
}

fn size_shares(content: &Content) -> u64 {
    content.size.div_ceil(SHARE_BYTES).clamp(1, SHARES)
}

/// Whether a content takes the smallest share of a slot: then it is claimed ahead of them.
pub(super) fn is_small(content: &Content) -> bool {
    size_shares(content) == 1
}

/// One task an item, and what all of them take.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    by_item: BTreeMap<ItemId, Task>,
    used: [u64; Slot::ALL.len()],
    /// How many take more than one share of a download slot.
    wide: usize,
    due: Timers,
    /// How many fetch from a member.
    fetches: BTreeMap<ClientId, usize>,
    /// How many bring a content here, by its key.
    brings: BTreeMap<[u8; 32], usize>,
    /// How many keep a file as this version item.
    keeps: BTreeMap<ItemId, usize>,
}

impl Tasks {
    pub(super) fn insert(&mut self, item: ItemId, task: Task) {
        self.remove(&item);
        self.count(&task, 1);
        if let Some(until_ms) = task.until_ms {
            self.due.set(item, until_ms);
        }
        self.by_item.insert(item, task);
    }

    pub(super) fn remove(&mut self, item: &ItemId) {
        if let Some(task) = self.by_item.remove(item) {
            self.count(&task, -1);
            self.due.clear(item);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn get(&self, item: &ItemId) -> Option<&Task> {
        self.by_item.get(item)
    }

    pub(super) fn contains_key(&self, item: &ItemId) -> bool {
        self.by_item.contains_key(item)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ItemId, &Task)> {
        self.by_item.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_item.is_empty()
    }

    /// What an item's task does from now on.
    pub(super) fn set_job(&mut self, item: &ItemId, job: Job) {
        let Some(mut task) = self.by_item.remove(item) else { return };
        self.count(&task, -1);
        task.job = job;
        self.count(&task, 1);
        self.by_item.insert(*item, task);
    }

    /// The effect that an item's task waits for.
    pub(super) fn set_effect(&mut self, item: &ItemId, effect: Option<EffectId>) {
        if let Some(task) = self.by_item.get_mut(item) {
            task.effect = effect;
        }
    }

    /// When an item's task goes on, if it waits for a time.
    pub(super) fn set_until(&mut self, item: &ItemId, until_ms: Option<u64>) {
        let Some(task) = self.by_item.get_mut(item) else { return };
        task.until_ms = until_ms;
        match until_ms {
            Some(until_ms) => self.due.set(*item, until_ms),
            None => self.due.clear(item),
        }
    }

    /// When the next task that waits for a time goes on.
    pub(super) fn due_ms(&self) -> u64 {
        self.due.next_ms()
    }

    /// The items whose tasks have waited until now.
    pub(super) fn due(&self, now_ms: u64) -> Vec<ItemId> {
        self.due.due(now_ms)
    }

    /// How much is taken of a kind of slot.
    pub(super) fn used(&self, kind: Slot) -> u64 {
        self.used[kind as usize]
    }

    pub(super) fn fetches_from(&self, client: &ClientId) -> usize {
        self.fetches.get(client).copied().unwrap_or(0)
    }

    /// Whether a task brings this content here.
    pub(super) fn brings(&self, content: &Content) -> bool {
        self.brings.contains_key(&content.key())
    }

    /// Whether a task keeps a file as this version item.
    pub(super) fn keeps(&self, version: &ItemId) -> bool {
        self.keeps.contains_key(version)
    }

    /// Counts what a task takes in, or out again.
    fn count(&mut self, task: &Task, by: i64) {
        let content = &task.content;
        if let Some(slot) = task.job.slot(content) {
            let (used, shares) = (&mut self.used[slot as usize], slot.shares(&task.job, content));
            *used = used.saturating_add_signed(by * shares.cast_signed());
            if slot == Slot::Download && shares > 1 {
                self.wide = self.wide.saturating_add_signed(by as isize);
            }
        }
        if let Some(from) = task.job.fetches_from() {
            tally(&mut self.fetches, from, by);
        }
        if matches!(task.job, Job::Download(_) | Job::Take(_)) {
            tally(&mut self.brings, content.key(), by);
        }
        if let Job::SetAside { version, .. } = &task.job {
            tally(&mut self.keeps, *version, by);
        }
    }
}

/// Counts one in or out; what is counted not at all is not there.
fn tally<K: Ord + Copy>(counts: &mut BTreeMap<K, usize>, key: K, by: i64) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add_signed(by as isize);
    if *count == 0 {
        counts.remove(&key);
    }
}

impl<S: Store> Engine<S> {
    /// How much of a kind of slot is free: whoever finds any may begin, however much it takes.
    pub(super) fn free_slots(&self, kind: Slot) -> u64 {
        let most = match kind {
            // What the roster knows of us, and what was committed while we were away, is read before anything of ours
            // enters the catalog again: else what a life placed and died before it wrote down is offered as its edit.
            Slot::Upload if !self.roster.was_visited() || !self.feed.is_known() => 0,
            Slot::Upload => self.config.uploads_max as u64,
            Slot::Download => self.config.downloads_max as u64 * SHARES,
            Slot::Folder => FOLDER_TASKS_MAX,
            // While every slot is taken, for who knows how long, nothing more is claimed ahead of them.
            Slot::Ahead if self.free_slots(Slot::Download) == 0 => 0,
            Slot::Ahead => AHEAD_MAX as u64,
        };
        most.saturating_sub(self.tasks.used(kind))
    }

    /// Whether a task of this kind may begin now; if not, the item waits for a slot.
    pub(super) fn has_slot(&mut self, kind: Slot, item: ItemId) -> bool {
        let free = self.free_slots(kind) > 0;
        if !free {
            self.queue.wait_for_slot(kind, item, PLACE_FIRST);
        }
        free
    }

    /// Whether what is claimed ahead may begin now; if not, it waits for a slot. The last share is for the others that wait.
    pub(super) fn has_share(&mut self, item: ItemId) -> bool {
        let free = self.free_slots(Slot::Download) > self.left_to_others();
        match free {
            true => self.queue.needs_no_slot(&item),
            false => self.queue.wait_for_slot(Slot::Download, item, PLACE_AHEAD),
        }
        free
    }

    /// How many shares of a download slot are not for what is claimed ahead: one, which is enough to begin, if others wait
    /// and none of them is under way. Else nobody would get bytes from a member, nor a large content, while there are small
    /// ones in the cloud.
    fn left_to_others(&self) -> u64 {
        let others_wait = self.queue.last_place(Slot::Download).is_some_and(|place| place > PLACE_AHEAD);
        u64::from(others_wait && self.tasks.wide == 0)
    }

    /// Wakes as many of those that wait for a slot as may begin; those that are woken together begin in any order.
    pub(super) fn wake_for_slots(&mut self, kind: Slot) {
        let (free, others) = (self.free_slots(kind), PLACE_FIRST..=u64::MAX);
        if kind != Slot::Download {
            self.queue.wake_slotless(kind, others, free);
            return;
        }
        let shares = free.saturating_sub(self.left_to_others());
        let taken = self.queue.wake_slotless(kind, PLACE_AHEAD..=PLACE_AHEAD, shares);
        self.queue.wake_slotless(kind, others, (free - taken).div_ceil(SHARES));
    }

    /// When those that wait for a slot are to be looked at: at once, if one is free that those before them had no use for.
    pub(super) fn slots_due_ms(&self) -> u64 {
        let due = |kind: &Slot| self.queue.waiting_for_slot(*kind) > 0 && self.free_slots(*kind) > 0;
        if Slot::ALL.iter().any(due) { self.now.mono_ms } else { u64::MAX }
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
