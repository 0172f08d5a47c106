//! Marks: how a ledger says "all that the catalog has up to here, this cache has" without an entry an item.
//!
//! An entry that equals the catalog carries the place in the feed up to which that is known. Our mark, an entry of the
//! nil item, names a place p: every active item that last changed at or before p is in this cache as the catalog has
//! it, unless we have an entry for it. What we wrote before the mark and was settled at or before p is absorbed by it:
//! dropped, here when we write the mark and elsewhere when it is applied, so that all add up to the same head.
//!
//! Holds always: a mark passes no item that deviates without an entry of ours, and what we absorbed is noted with our
//! mirror of the row, until the row changes; then our entry is written again before the change is taken in.
//!
//! Left out: which entries equal the catalog is judged where they are sealed, in `ledgers`.

use super::feed::Mirrored;
use super::{Engine, Result};
use crate::catalog::{CatalogRow, ChainLink, FeedChange, RowState};
use crate::clock::{Label, Stamp};
use crate::entry::{Copy, Entry, FeedPlace, Held, OwnedEntry};
use crate::ids::{ClientId, ItemId};
use crate::planted::Bug;
use crate::store::{Store, Table};
use crate::transaction::Transaction;
use std::collections::BTreeMap;

/// The item under which a ledger keeps its mark.
pub(super) const NIL: ItemId = ItemId([0; 16]);

/// A mark moves at most so often: each move is an entry that travels to all.
const MOVE_MS: u64 = 2_000;
/// So many entries are absorbed by one mark at most; the rest by the next.
const ABSORBED_MAX: usize = 1_024;
/// A mark moves past so many deviating items at most; with more at work it waits.
const DEVIATING_MAX: usize = 1_024;

/// How far a ledger vouches for its cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) place: FeedPlace,
    /// The write that made it: what it absorbs was written before.
    pub(super) stamp: Stamp,
    label: Label,
}

/// The marks of all ledgers, and when ours moves next.
#[derive(Debug, Default)]
pub(super) struct Marks {
    of: BTreeMap<ClientId, Mark>,
    due_ms: u64,
    /// An entry of ours was settled at a place that our mark had passed: the mark is written once more.
    leftover: bool,
    /// Where the page of the feed began that brought an unsettled item first: it changed after that. Where in the page is
    /// not known, and others who read smaller pages may place the change anywhere in it: a mark must not go into it.
    begun: BTreeMap<ItemId, FeedPlace>,
}

impl Marks {
    /// Reads what was kept.
    pub(super) fn load<S: Store>(tx: &Transaction<S>) -> Result<Self> {
        let mut marks = Self::default();
        for (owner, stamp, entry) in super::ledgers::entries_of(tx, &NIL)? {
            marks.note(owner, stamp, &entry);
        }
        Ok(marks)
    }

    fn note(&mut self, owner: ClientId, stamp: Stamp, entry: &Entry) {
        match entry.mark {
            Some(place) => self.of.insert(owner, Mark { place, stamp, label: entry.label }),
            None => self.of.remove(&owner),
        };
    }

    /// Whether the owner's mark has absorbed an entry with this stamp that was settled at this place.
    pub(super) fn absorbs(&self, owner: &ClientId, stamp: Stamp, settled: Option<FeedPlace>) -> bool {
        let (Some(mark), Some(settled)) = (self.of.get(owner), settled) else { return false };
        settled.epoch == mark.place.epoch && settled.number <= mark.place.number && stamp < mark.stamp
    }
}

/// The key of an entry among those that its owner's marks may absorb: by owner and place.
pub(super) fn settled_key(owner: &ClientId, place: FeedPlace, item: &ItemId) -> Vec<u8> {
    [&place_key(owner, place)[..], &item.0].concat()
}

fn place_key(owner: &ClientId, place: FeedPlace) -> Vec<u8> {
    let (epoch, number) = (place.epoch, place.number);
    [&owner.0[..], &epoch.number.to_be_bytes(), &epoch.id, &number.to_be_bytes()].concat()
}

/// What an entry that says nothing of an item stands for, where its owner's mark has passed the item.
fn as_the_catalog_has_it(row: &CatalogRow, cached_date_ms: u64, label: Label) -> Entry {
    let held = Held { content: row.content, path: row.cache_path.clone(), cached_date_ms };
    let base = Some(ChainLink { revision: row.revision, content: row.content });
    let copy = Some(Copy { held: Some(held), base, line: Vec::new() });
    Entry { label, copy, ..Entry::default() }
}

/// Whether a copy is what the catalog has, so that a mark may speak for it. Without BLAKE3 in the row nobody could ask
/// for the content by what the mark says, so that such copies keep their entries.
pub(super) fn equals_catalog(entry: &Entry, row: &CatalogRow) -> bool {
    let Some(copy) = &entry.copy else { return false };
    let holds = copy.held.as_ref().is_some_and(|held| {
        held.content == row.content && held.content.blake3.is_some() && held.path == row.cache_path
    });
    let based = copy.base.is_some_and(|base| base.revision == row.revision);
    let plain =
        copy.line.is_empty() && entry.claims.is_empty() && entry.cache.is_none() && entry.unknown.is_empty();
    row.state == RowState::Active && holds && based && plain
}

impl<S: Store> Engine<S> {
    /// The place at which a staged entry equals the catalog, if it does and the feed has said where.
    pub(super) fn settled_place(&self, item: &ItemId, entry: &Entry) -> Result<Option<FeedPlace>> {
        let Some(mirrored) = self.mirrored(item)? else { return Ok(None) };
        let FeedChange::Row(row) = &mirrored.change else { return Ok(None) };
        Ok(mirrored.place.filter(|_| equals_catalog(entry, row)))
    }

    /// Our own entry where we have written none that stands: what our mark says of the item.
    pub(super) fn absorbed_entry(&self, item: &ItemId) -> Result<Option<Entry>> {
        Ok(match self.mirrored(item)?.as_deref() {
            Some(Mirrored { change: FeedChange::Row(row), absorbed_date_ms: Some(date_ms), .. }) => {
                Some(as_the_catalog_has_it(row, *date_ms, Label::default()))
            }
            _ => None,
        })
    }

    /// We write an entry of our own for the item: our mark speaks for it no more, until it is written again.
    pub(super) fn stop_absorbing(&mut self, item: &ItemId, settled: Option<FeedPlace>) -> Result<()> {
        let ours = self.marks.of.get(&self.config.me).map(|mark| mark.place);
        self.marks.leftover |= ours
            .zip(settled)
            .is_some_and(|(ours, settled)| ours.epoch == settled.epoch && settled.number <= ours.number);
        if let Some(mirrored) = self.mirrored(item)?.filter(|mirrored| mirrored.absorbed_date_ms.is_some()) {
            self.save_mirrored(item, Mirrored { absorbed_date_ms: None, ..(*mirrored).clone() })?;
        }
        Ok(())
    }

    /// What the marks of other members say of an item that have no entry for it.
    pub(super) fn entries_by_marks(&self, item: &ItemId, entries: &[OwnedEntry]) -> Result<Vec<OwnedEntry>> {
        let others = || {
            let has_entry = |owner: &ClientId| entries.iter().any(|entry| entry.owner() == *owner);
            let of = self.marks.of.iter();
            of.filter(move |(owner, _)| **owner != self.config.me && !has_entry(owner))
        };
        if others().next().is_none() {
            return Ok(Vec::new());
        }
        let mirrored = self.mirrored(item)?;
        let Some(Mirrored { change: FeedChange::Row(row), place: Some(place), .. }) = mirrored.as_deref()
        else {
            return Ok(Vec::new());
        };
        let speaks = row.state == RowState::Active && row.content.blake3.is_some();
        let known = |(owner, mark): &(&ClientId, &Mark)| {
            let life = self.ledgers.myself.vector.get(owner).incarnation;
            mark.place.epoch == place.epoch
                && place.number <= mark.place.number
                && mark.stamp.incarnation == life
        };
        let entry = |(owner, mark): (&ClientId, &Mark)| OwnedEntry {
            item: *item,
            dot: crate::clock::Dot { client: *owner, stamp: mark.stamp },
            entry: as_the_catalog_has_it(row, mark.label.wall_ms, mark.label),
        };
        Ok(others().filter(known).filter(|_| speaks).map(entry).collect())
    }

    /// A ledger got a new mark, or lost it: what it absorbs is dropped.
    pub(super) fn mark_moved(&mut self, owner: ClientId, stamp: Stamp, entry: &Entry) -> Result<()> {
        self.marks.note(owner, stamp, entry);
        let Some(place) = entry.mark else { return Ok(()) };
        let mut from = place_key(&owner, FeedPlace { number: 0, ..place });
        let to = place_key(&owner, FeedPlace { number: place.number.saturating_add(1), ..place });
        loop {
            let page = self.tx.range(Table::Settled, &from, &to, ABSORBED_MAX)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = [last.as_slice(), &[0]].concat();
            for (key, _) in &page {
                let item = key.last_chunk::<16>().map(|bytes| ItemId(*bytes));
                if let Some(item) = item {
                    self.absorb(owner, item, stamp)?;
                }
            }
        }
    }

    fn absorb(&mut self, owner: ClientId, item: ItemId, mark: Stamp) -> Result<()> {
        let Some((stamp, entry)) = self.entry_of(&item, &owner)? else { return Ok(()) };
        if stamp >= mark {
            return Ok(());
        }
        if owner == self.config.me {
            let Some(mirrored) = self.mirrored(&item)? else { return Ok(()) };
            let held = entry.copy.and_then(|copy| copy.held);
            let absorbed_date_ms = Some(held.map_or(0, |held| held.cached_date_ms));
            self.save_mirrored(&item, Mirrored { absorbed_date_ms, ..(*mirrored).clone() })?;
        }
        self.drop_absorbed(&owner, &item)
    }

    /// The catalog's word on an item is about to change in our mirror: what our mark said of it becomes an entry again,
    /// and an entry that named a place is judged anew.
    pub(super) fn speak_for(&mut self, item: ItemId) -> Result<()> {
        let entry = self.own_entry(&item)?;
        if self.absorbed_entry(&item)?.is_some() || entry.settled.is_some() {
            self.stage(item, entry);
        }
        Ok(())
    }

    /// The feed has named the place of a row that we knew before: our entry may equal it.
    pub(super) fn speak_of_place(&mut self, item: ItemId) -> Result<()> {
        let entry = self.own_entry(&item)?;
        let Some(place) = self.settled_place(&item, &entry)? else { return Ok(()) };
        let named = entry.settled.is_some_and(|settled| settled.epoch == place.epoch);
        if !named && self.absorbed_entry(&item)?.is_none() {
            self.stage(item, entry);
        }
        Ok(())
    }

    /// Moves our mark as far as it can speak for our cache.
    pub(super) fn move_mark(&mut self) -> Result<()> {
        let asked = self.probe.is_asked() && self.is_at_rest();
        let due = (asked || self.now.mono_ms >= self.marks.due_ms) && !self.restoring.holds_back();
        if !due || !self.feed.is_known() || !self.watch.is_known() {
            return Ok(());
        }
        self.marks.due_ms = self.now.mono_ms + MOVE_MS;
        let queue = &self.queue;
        self.marks.begun.retain(|item, _| queue.is_marked(item));
        let position = self.feed.position();
        let ours = self.marks.of.get(&self.config.me).map(|mark| mark.place);
        let ours = ours.filter(|place| place.epoch == position.epoch).map_or(0, |place| place.number);
        if position.number <= ours && !self.marks.leftover {
            return Ok(());
        }
        let Some(end) = self.deviations_end(position.epoch, position.number)? else { return Ok(()) };
        let number = self.chunk_end(position.epoch, end)?.max(ours);
        let leftover = std::mem::take(&mut self.marks.leftover);
        if number > ours || leftover {
            let place = FeedPlace { epoch: position.epoch, number };
            self.stage(NIL, Entry { mark: Some(place), ..Entry::default() });
        }
        Ok(())
    }

    /// How far the mark may move: up to before the first item at which something is still to be done. Those that rest are
    /// passed; where we have no entry for one, it gets one that says that nothing is here.
    fn deviations_end(&mut self, epoch: crate::catalog::CatalogEpoch, end: u64) -> Result<Option<u64>> {
        let unsettled: Vec<_> = self.queue.marked().take(DEVIATING_MAX + 1).collect();
        if unsettled.len() > DEVIATING_MAX {
            return Ok(None);
        }
        if self.planted(Bug::MarkTooEarly) {
            return Ok(Some(end));
        }
        let ours = self.marks.of.get(&self.config.me).map(|mark| mark.place);
        let ours = ours.filter(|place| place.epoch == epoch).map_or(0, |place| place.number);
        let mut least = end;
        for item in unsettled {
            let mirrored = self.mirrored(&item)?;
            let Some(Mirrored { change: FeedChange::Row(_), place, .. }) = mirrored.as_deref() else {
                continue;
            };
            if !self.queue.resting().contains_key(&item) {
                least = least.min(match place {
                    Some(place) if place.epoch == epoch => {
                        match self.marks.begun.get(&item).filter(|begun| begun.epoch == epoch) {
                            Some(begun) => begun.number,
                            // Our entry speaks for it, whatever the mark passes.
                            None if !self.own_entry(&item)?.is_tombstone() => place.number.saturating_sub(1),
                            // Before the last start: after our mark, or it would have an entry.
                            None => ours,
                        }
                    }
                    Some(_) => 0,
                    // It changed after all that we have read.
                    None => end,
                });
                continue;
            }
            let entry = self.own_entry(&item)?;
            if entry.is_tombstone() {
                self.stage(item, Entry { copy: Some(Copy::default()), ..entry });
            }
        }
        Ok(Some(least))
    }

    /// Whether our mark may have passed an item, for some reader of the feed, while an entry of ours spoke against it: a
    /// tombstone in that entry's place would be forgotten, and leave the word to the mark.
    pub(super) fn mark_may_speak(&self, item: &ItemId) -> Result<bool> {
        let Some(mark) = self.marks.of.get(&self.config.me).map(|mark| mark.place) else { return Ok(false) };
        let mirrored = self.mirrored(item)?;
        let Some(Mirrored { change: FeedChange::Row(row), .. }) = mirrored.as_deref() else {
            return Ok(false);
        };
        let begun = self.marks.begun.get(item).filter(|begun| begun.epoch == mark.epoch);
        let passed = begun.is_none_or(|begun| begun.number < mark.number);
        Ok(passed && row.state == RowState::Active && *item != NIL)
    }

    /// A page of the feed that began here has brought an item. What is settled is left out when the mark moves next.
    pub(super) fn brought(&mut self, item: ItemId, begun: FeedPlace) {
        let known = self.marks.begun.entry(item).or_insert(begun);
        if known.epoch != begun.epoch {
            *known = begun;
        }
    }

    /// Whether somebody waits for us to rest, and what was sealed just now is behind our mark: it is absorbed at once.
    pub(super) fn absorbs_more(&self) -> bool {
        self.marks.leftover && self.probe.is_asked()
    }

    /// So far a mark may go that absorbs no more than one input should.
    fn chunk_end(&self, epoch: crate::catalog::CatalogEpoch, end: u64) -> Result<u64> {
        let me = self.config.me;
        let from = place_key(&me, FeedPlace { epoch, number: 0 });
        let to = place_key(&me, FeedPlace { epoch, number: end.saturating_add(1) });
        let page = self.tx.range(Table::Settled, &from, &to, ABSORBED_MAX + 1)?;
        let number = |key: &[u8]| {
            let bytes = key.get(56..64).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(end, u64::from_be_bytes)
        };
        match page.get(ABSORBED_MAX) {
            // At least one place whole, however many items it has: a page of the feed has few hundred.
            Some((key, _)) => {
                Ok(number(key).min(end).max(page.first().map_or(end, |(first, _)| number(first))))
            }
            None => Ok(end),
        }
    }

    /// When our mark may move without any other reason.
    pub(super) fn mark_due_ms(&self) -> u64 {
        let position = self.feed.position();
        let ours = self.marks.of.get(&self.config.me).map(|mark| mark.place);
        let behind = self.marks.leftover
            || ours.is_none_or(|place| place.epoch != position.epoch || place.number < position.number);
        let can = !self.restoring.holds_back()
            && self.feed.is_known()
            && self.watch.is_known()
            && position.number > 0;
        if behind && can { self.marks.due_ms } else { u64::MAX }
    }
}

#[cfg(test)]
#[path = "marks_tests.rs"]
mod tests;
