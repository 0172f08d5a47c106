//! How often a task was begun in vain: counted durably before the attempt, so that a task which kills its node ends too.
//!
//! What succeeds, is broken off for no fault of its own, or dies with the node while its bytes move is not counted; what cannot reach catalog or
//! objects is not what parks it. At the cap the task is parked: shown, its
//! claim released, and tried once more after a while, when the catalog is back, when the content is another, or when a
//! person says so.

use super::{Engine, Result};
use crate::codec;
use crate::content::Content;
use crate::ids::ItemId;
use crate::planted::Bug;
use crate::ports::Event;
use crate::store::{Store, Table};
use crate::transaction::Transaction;
use bincode::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

/// After so many attempts in a row a task is parked...
const ATTEMPTS_MAX: u32 = 10;
/// ...and tried again after this time.
const PARKED_MS: u64 = 5 * 60_000;
/// What could not reach whom it needs makes it no more than so many: it waits longer each time, and is not parked.
const ATTEMPTS_AWAY_MAX: u32 = 7;
/// The longest reason that is kept, in bytes.
const WHY_BYTES_MAX: usize = 1024;

/// One item's attempts in vain.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub(super) struct Tries {
    /// How many, the one under way included.
    count: u32,
    /// What the last one failed for; empty while none has.
    pub(super) why: String,
    /// The content that the task was about, where that matters.
    content: Option<Content>,
}

/// Attempts of items that are not settled.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    tries: BTreeMap<ItemId, Tries>,
    /// Counted, and not over.
    open: BTreeSet<ItemId>,
    /// Left alone until then.
    parked: BTreeMap<ItemId, u64>,
    /// What ends now could not reach whom it needs.
    away: bool,
}

fn tries_key(item: &ItemId) -> Vec<u8> {
    [b"tries ", &item.0[..]].concat()
}

impl Attempts {
    pub(super) fn load<S: Store>(tx: &Transaction<S>, now_ms: u64) -> Result<Self> {
        let mut attempts = Self::default();
        // At most one for each item that is not settled, all of which are in memory.
        for (key, value) in tx.prefixed(Table::Tasks, b"tries ", usize::MAX)? {
            let Some(item) = key.get(6..).and_then(|bytes| bytes.try_into().ok()).map(ItemId) else {
                continue;
            };
            let mut tries: Tries = codec::decode_prefix(&value)?.0;
            if tries.why.is_empty() {
                tries.why = "it was under way when this node stopped".into();
            }
            if tries.count >= ATTEMPTS_MAX {
                attempts.parked.insert(item, now_ms.saturating_add(PARKED_MS));
            }
            attempts.tries.insert(item, tries);
        }
        Ok(attempts)
    }

    /// Items whose last attempt failed, and why.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&ItemId, &str)> {
        self.tries
            .iter()
            .filter(|(_, tries)| !tries.why.is_empty())
            .map(|(item, tries)| (item, tries.why.as_str()))
    }

    /// Whether the failures that follow are those of tasks which could not reach whom they need.
    pub(super) fn set_away(&mut self, away: bool) {
        self.away = away;
    }

    pub(super) fn failure(&self, item: &ItemId) -> Option<&str> {
        self.tries.get(item).map(|tries| tries.why.as_str()).filter(|why| !why.is_empty())
    }

    /// What the items failed for is there again: none is parked any more. Returns those that were.
    pub(super) fn unpark_all(&mut self) -> Vec<ItemId> {
        std::mem::take(&mut self.parked).into_keys().collect()
    }
}

impl<S: Store> Engine<S> {
    /// An attempt begins: counted before its first effect leaves. Returns how many there were, this one included.
    pub(super) fn attempt_begins(&mut self, item: ItemId, content: Content) -> u32 {
        let tries = self.attempts.tries.entry(item).or_default();
        if !tries.content.is_some_and(|before| before.same_as(&content)) {
            *tries = Tries { content: Some(content), ..Tries::default() };
        }
        tries.count = tries.count.saturating_add(1);
        let count = tries.count;
        self.attempts.open.insert(item);
        self.save_tries(&item);
        count
    }

    /// The attempt under way came to nothing for no fault of the task.
    pub(super) fn attempt_was_none(&mut self, item: ItemId) {
        if !self.attempts.open.remove(&item) {
            return;
        }
        match self.attempts.tries.get_mut(&item) {
            Some(tries) if tries.count > 1 => {
                tries.count -= 1;
                self.save_tries(&item);
            }
            _ => self.attempts_over(&item),
        }
    }

    /// Bytes move: if the node dies now, that is not the task's doing, and if the task fails, it counts then. The first
    /// attempt stays counted, so that the transfers of a quiet day write nothing here.
    pub(super) fn attempt_moves(&mut self, item: ItemId) {
        if self.attempts.tries.get(&item).is_some_and(|tries| tries.count > 1) {
            self.attempt_was_none(item);
        }
    }

    /// The task has succeeded, or there is nothing to do any more.
    pub(super) fn attempts_over(&mut self, item: &ItemId) {
        self.attempts.open.remove(item);
        self.attempts.parked.remove(item);
        if self.attempts.tries.remove(item).is_some() {
            self.tx.remove(Table::Tasks, tries_key(item));
        }
    }

    /// Whether the item's task for a content is parked; then it rests.
    pub(super) fn is_parked(&mut self, item: ItemId, content: &Content) -> bool {
        let Some(until_ms) = self.attempts.parked.get(&item).copied() else { return false };
        let tries = self.attempts.tries.get(&item);
        let other = tries.and_then(|tries| tries.content).is_some_and(|tried| !tried.same_as(content));
        if other || until_ms <= self.now.mono_ms {
            self.attempts.parked.remove(&item);
            return false;
        }
        let why = tries.map(|tries| tries.why.clone()).unwrap_or_default();
        self.queue.rest(item, &format!("parked: {why}"), until_ms);
        true
    }

    /// A task has failed: again later, each time later, and after the last time much later.
    pub(super) fn failed(&mut self, item: ItemId, mut why: String) {
        why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
        let (counted, away) = (self.attempts.open.remove(&item), self.attempts.away);
        let tries = self.attempts.tries.entry(item).or_default();
        tries.count = tries.count.saturating_add(u32::from(!counted));
        if away {
            tries.count = tries.count.min(ATTEMPTS_AWAY_MAX);
        }
        let is_news = !away || tries.why != why;
        tries.why = why.clone();
        let count = tries.count;
        self.save_tries(&item);
        if count >= ATTEMPTS_MAX {
            let until_ms = self.now.mono_ms.saturating_add(PARKED_MS);
            self.attempts.parked.insert(item, until_ms);
            self.queue.rest(item, &format!("parked: {why}"), until_ms);
            self.event(Event::Parked(item, why));
        } else {
            let delay_ms = 250u64 << count.min(7);
            if self.planted(Bug::UnboundedRetries) {
                self.queue.also_later(item, self.now.mono_ms + delay_ms + 1);
            }
            self.queue.later(item, self.now.mono_ms + delay_ms);
            if is_news {
                self.event(Event::Failing(item, why));
            }
        }
    }

    /// A person wants parked tasks tried again, all or one item's.
    pub(super) fn retry(&mut self, item: Option<ItemId>) {
        let items = match item {
            Some(item) => self.attempts.parked.remove(&item).map(|_| item).into_iter().collect(),
            None => self.attempts.unpark_all(),
        };
        for item in items {
            self.attempts_over(&item);
            self.queue.ready(item);
        }
    }

    fn save_tries(&mut self, item: &ItemId) {
        // Encoding so little cannot fail; if it did, the count would only start anew after a restart.
        if let Some(Ok(bytes)) = self.attempts.tries.get(item).map(codec::encode) {
            self.tx.put(Table::Tasks, tries_key(item), bytes);
        }
    }
}

#[cfg(test)]
#[path = "attempts_tests.rs"]
mod tests;
