//! Ledgers in the store: writing our own entries, and keeping everybody's.
//!
//! Our writes of one input are staged, then sealed: numbered, signed in batches, kept and pushed. A record that a
//! later one replaces is pruned from its batch, so that what is kept of a ledger is what still counts.

use super::{Engine, META_MYSELF, Myself, Result};
use crate::batch::{BATCH_RECORDS_MAX, Batch, Bone, Piece, Record, Skeleton, leaf_hash};
use crate::clock::{Dot, Incarnation, Stamp, VersionVector};
use crate::codec;
use crate::content::Blake3;
use crate::entry::{Entry, OwnedEntry};
use crate::ids::{ClientId, ItemId};
use crate::message::{Message, PAGE_BYTES, Page};
use crate::ports::{Event, Output};
use crate::store::{Store, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most clients in a workgroup.
pub const CLIENTS_MAX: usize = 64;

/// Our own place in time, and the entries that the present input writes.
#[derive(Debug)]
pub(super) struct Ledgers {
    pub(super) myself: Myself,
    staged: Vec<(ItemId, Entry)>,
    place: BTreeMap<ItemId, usize>,
}

/// An entry as the store keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    stamp: Stamp,
    batch_first: u64,
    bytes: Vec<u8>,
}

impl Ledgers {
    pub(super) fn new(myself: Myself) -> Self {
        Self { myself, staged: Vec::new(), place: BTreeMap::new() }
    }
}

fn entry_key(item: &ItemId, owner: &ClientId) -> Vec<u8> {
    [&item.0[..], &owner.0[..]].concat()
}

fn stamp_key(owner: &ClientId, stamp: Stamp) -> Vec<u8> {
    [&owner.0[..], &stamp.incarnation.0.to_be_bytes(), &stamp.counter.to_be_bytes()].concat()
}

fn read_stamp(key: &[u8]) -> Option<Stamp> {
    let incarnation = Incarnation(u64::from_be_bytes(key.get(32..40)?.try_into().ok()?));
    let counter = u64::from_be_bytes(key.get(40..48)?.try_into().ok()?);
    Some(Stamp { incarnation, counter })
}

impl<S: Store> Engine<S> {
    pub(super) fn save_myself(&mut self) -> Result<()> {
        let bytes = codec::encode(&self.ledgers.myself)?;
        self.tx.put(Table::Meta, META_MYSELF.to_vec(), bytes);
        Ok(())
    }

    /// How far we know every ledger, ours included.
    pub(super) fn vector(&self) -> VersionVector {
        let mut vector = self.ledgers.myself.vector.clone();
        vector.advance(self.config.me, self.ledgers.myself.stamp);
        vector
    }

    /// The dot that the next entry of ours to be staged for `item` gets.
    pub(super) fn dot_for(&self, item: &ItemId) -> Dot {
        let Some(place) = self.ledgers.place.get(item) else { return self.next_dot() };
        let myself = self.ledgers.myself.stamp;
        let counter = myself.counter + 1 + *place as u64;
        Dot { client: self.config.me, stamp: Stamp { counter, ..myself } }
    }

    /// The dot of the next entry to be staged for an item that has none staged.
    pub(super) fn next_dot(&self) -> Dot {
        let myself = self.ledgers.myself.stamp;
        let counter = myself.counter + 1 + self.ledgers.staged.len() as u64;
        Dot { client: self.config.me, stamp: Stamp { counter, ..myself } }
    }

    /// Our own entry for an item, as this input has left it so far; empty if there is none.
    pub(super) fn own_entry(&self, item: &ItemId) -> Result<Entry> {
        if let Some((_, entry)) = self.ledgers.place.get(item).and_then(|at| self.ledgers.staged.get(*at)) {
            return Ok(entry.clone());
        }
        match self.tx.get(Table::Entries, &entry_key(item, &self.config.me))? {
            Some(bytes) => Ok(Entry::decode(&codec::decode::<Kept>(&bytes)?.bytes)?),
            None => Ok(Entry::default()),
        }
    }

    /// Writes our entry for an item; sealed at the end of the input.
    pub(super) fn stage(&mut self, item: ItemId, mut entry: Entry) {
        let label = self.ledgers.myself.label.next(self.now.wall_ms);
        self.ledgers.myself.label = label;
        entry.label = label;
        entry.cache = self.sharing.cache.filter(|_| entry.copy.is_some());
        match self.ledgers.place.get(&item).and_then(|at| self.ledgers.staged.get_mut(*at)) {
            Some(slot) => slot.1 = entry,
            None => {
                self.ledgers.place.insert(item, self.ledgers.staged.len());
                self.ledgers.staged.push((item, entry));
            }
        }
    }

    /// All entries for an item, ours as staged. Claims of a client's earlier incarnation are void and left out.
    pub(super) fn entries(&self, item: &ItemId) -> Result<Vec<OwnedEntry>> {
        let mut entries = Vec::new();
        for (key, value) in self.tx.prefixed(Table::Entries, &item.0, CLIENTS_MAX)? {
            let Some(owner) = key.get(16..48).and_then(|bytes| bytes.try_into().ok()).map(ClientId) else {
                continue;
            };
            if owner == self.config.me {
                continue;
            }
            let kept: Kept = codec::decode(&value)?;
            let mut entry = Entry::decode(&kept.bytes)?;
            if kept.stamp.incarnation < self.ledgers.myself.vector.get(&owner).incarnation {
                entry.claims.clear();
            }
            entries.push(OwnedEntry { item: *item, dot: Dot { client: owner, stamp: kept.stamp }, entry });
        }
        let own = self.own_entry(item)?;
        if !own.is_tombstone() {
            entries.push(OwnedEntry { item: *item, dot: self.own_dot(item)?, entry: own });
        }
        Ok(entries)
    }

    /// The dot of our entry for an item: the one kept, or the one that it will get.
    fn own_dot(&self, item: &ItemId) -> Result<Dot> {
        let kept = match self.ledgers.place.contains_key(item) {
            true => None,
            false => self.tx.get(Table::Entries, &entry_key(item, &self.config.me))?,
        };
        Ok(match kept {
            Some(bytes) => Dot { client: self.config.me, stamp: codec::decode::<Kept>(&bytes)?.stamp },
            None => self.dot_for(item),
        })
    }

    /// Numbers, signs and keeps what this input has staged, and pushes it to every connected member.
    pub(super) fn seal(&mut self) -> Result<()> {
        let staged = std::mem::take(&mut self.ledgers.staged);
        self.ledgers.place.clear();
        if staged.is_empty() {
            return Ok(());
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (item, entry) in &staged {
            self.index_content(item, entry)?;
            let entry = entry.encode()?;
            bytes += entry.len();
            records.push(Record { item: *item, entry });
            // A batch travels whole, so it has to fit a frame.
            if records.len() == BATCH_RECORDS_MAX || bytes >= PAGE_BYTES {
                self.seal_batch(std::mem::take(&mut records))?;
                bytes = 0;
            }
        }
        if !records.is_empty() {
            self.seal_batch(records)?;
        }
        self.save_myself()
    }

    fn seal_batch(&mut self, records: Vec<Record>) -> Result<()> {
        let after = self.ledgers.myself.stamp;
        let first = after.counter + 1;
        let Ok(batch) = Batch::sign(self.config.me, after.incarnation, first, records, &*self.keys) else {
            return Ok(()); // cannot be: there are 1 to BATCH_RECORDS_MAX records
        };
        self.keep(&batch)?;
        self.ledgers.myself.stamp = batch.last_stamp();
        self.push(after, batch);
        Ok(())
    }

    /// Keeps up which of our files hold which content, so that members can be served by BLAKE3.
    fn index_content(&mut self, item: &ItemId, entry: &Entry) -> Result<()> {
        let key = |entry: &Entry| {
            let blake3 = entry.held_content()?.blake3?;
            Some([&blake3.0[..], &item.0[..]].concat())
        };
        let before = match self.tx.get(Table::Entries, &entry_key(item, &self.config.me))? {
            Some(bytes) => key(&Entry::decode(&codec::decode::<Kept>(&bytes)?.bytes)?),
            None => None,
        };
        let after = key(entry);
        if before != after {
            before.into_iter().for_each(|key| self.tx.remove(Table::Contents, key));
            after.into_iter().for_each(|key| self.tx.put(Table::Contents, key, Vec::new()));
        }
        Ok(())
    }

    /// The items whose file here has this BLAKE3; a few, if many have it.
    pub(super) fn holding(&self, blake3: &Blake3) -> Result<Vec<ItemId>> {
        let pairs = self.tx.prefixed(Table::Contents, &blake3.0, 8)?;
        let item = |key: Vec<u8>| Some(ItemId(key.get(32..48)?.try_into().ok()?));
        Ok(pairs.into_iter().filter_map(|(key, _)| item(key)).collect())
    }

    fn push(&mut self, after: Stamp, batch: Batch) {
        let through = batch.last_stamp();
        let page = Page { owner: self.config.me, after, through, batches: vec![batch], more: false };
        for client in self.connected() {
            self.outputs.push_back(Output::Send(client, Message::Page(page.clone())));
        }
    }

    /// Keeps a verified batch: its entries where they are newer than what we have, and its skeleton.
    pub(super) fn keep(&mut self, batch: &Batch) -> Result<()> {
        let mut skeleton = Skeleton::of(batch);
        for (stamp, record) in batch.records() {
            let key = entry_key(&record.item, &batch.owner);
            let old: Option<Kept> = match self.tx.get(Table::Entries, &key)? {
                Some(bytes) => Some(codec::decode(&bytes)?),
                None => None,
            };
            if old.as_ref().is_some_and(|old| old.stamp >= stamp) {
                let index = u32::try_from(stamp.counter.saturating_sub(batch.first)).unwrap_or(u32::MAX);
                skeleton.prune(index, leaf_hash(record));
                continue;
            }
            if let Some(old) = old {
                self.prune(&batch.owner, &record.item, old)?;
            }
            let kept = Kept { stamp, batch_first: batch.first, bytes: record.entry.clone() };
            self.tx.put(Table::Entries, key, codec::encode(&kept)?);
            self.tx.put(Table::EntryOrder, stamp_key(&batch.owner, stamp), record.item.0.to_vec());
        }
        if !skeleton.is_bare() {
            let first = Stamp { incarnation: batch.incarnation, counter: batch.first };
            self.tx.put(Table::Batches, stamp_key(&batch.owner, first), codec::encode(&skeleton)?);
        }
        Ok(())
    }

    /// Takes a replaced entry out of its batch.
    fn prune(&mut self, owner: &ClientId, item: &ItemId, old: Kept) -> Result<()> {
        self.tx.remove(Table::EntryOrder, stamp_key(owner, old.stamp));
        let first = Stamp { counter: old.batch_first, ..old.stamp };
        let key = stamp_key(owner, first);
        let Some(bytes) = self.tx.get(Table::Batches, &key)? else { return Ok(()) };
        let mut skeleton: Skeleton = codec::decode(&bytes)?;
        let index = u32::try_from(old.stamp.counter.saturating_sub(old.batch_first)).unwrap_or(u32::MAX);
        skeleton.prune(index, leaf_hash(&Record { item: *item, entry: old.bytes }));
        if skeleton.is_bare() {
            self.tx.remove(Table::Batches, key);
        } else {
            self.tx.put(Table::Batches, key, codec::encode(&skeleton)?);
        }
        Ok(())
    }

    /// A page of `owner`'s ledger after a stamp.
    pub(super) fn page(&self, owner: ClientId, after: Stamp) -> Result<Page> {
        let known = self.vector().get(&owner);
        let from = stamp_key(&owner, Stamp { counter: after.counter.saturating_add(1), ..after });
        let to = stamp_key(&owner, Stamp { incarnation: Incarnation(u64::MAX), counter: u64::MAX });
        let mut page = Page { owner, after, through: known.max(after), batches: Vec::new(), more: false };
        let mut bytes = 0;
        for (key, value) in self.tx.range(Table::Batches, &from, &to, 64)? {
            let Some(first) = read_stamp(&key) else { continue };
            if bytes >= PAGE_BYTES {
                page.more = true;
                break;
            }
            let batch = self.rebuild(owner, first, codec::decode(&value)?)?;
            bytes += batch.records().map(|(_, record)| record.entry.len() + 64).sum::<usize>();
            page.batches.push(batch);
        }
        page.more |= page.batches.len() == 64;
        if let (true, Some(last)) = (page.more, page.batches.last()) {
            page.through = last.last_stamp();
        }
        Ok(page)
    }

    fn rebuild(&self, owner: ClientId, first: Stamp, skeleton: Skeleton) -> Result<Batch> {
        let mut pieces = Vec::with_capacity(skeleton.bones.len());
        let mut counter = first.counter;
        for bone in skeleton.bones {
            match bone {
                Bone::Pruned { records, hash } => {
                    counter += u64::from(records);
                    pieces.push(Piece::Pruned { records, hash });
                }
                Bone::Live => {
                    pieces.push(Piece::Record(self.kept_record(&owner, Stamp { counter, ..first })?));
                    counter += 1;
                }
            }
        }
        let Skeleton { count, signature, .. } = skeleton;
        Ok(Batch { owner, incarnation: first.incarnation, first: first.counter, count, signature, pieces })
    }

    fn kept_record(&self, owner: &ClientId, stamp: Stamp) -> Result<Record> {
        let lost = || codec::CodecError(format!("the record {stamp:?} of {owner:?} is missing"));
        let item = self.tx.get(Table::EntryOrder, &stamp_key(owner, stamp))?;
        let item = item.and_then(|bytes| bytes.try_into().ok()).map(ItemId).ok_or_else(lost)?;
        let kept = self.tx.get(Table::Entries, &entry_key(&item, owner))?.ok_or_else(lost)?;
        Ok(Record { item, entry: codec::decode::<Kept>(&kept)?.bytes })
    }

    /// Begins a new incarnation above `seen` and writes all our entries again under it.
    pub(super) fn begin_incarnation(&mut self, seen: Stamp) -> Result<()> {
        let incarnation = Incarnation::mint(self.now.wall_ms, self.start, seen.incarnation);
        let before = self.ledgers.myself.stamp;
        let mut from = stamp_key(&self.config.me, Stamp::default());
        let to = stamp_key(&self.config.me, Stamp { counter: before.counter.saturating_add(1), ..before });
        let mut items = Vec::new();
        loop {
            let page = self.tx.range(Table::EntryOrder, &from, &to, 1024)?;
            let Some((last, _)) = page.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            items.extend(page.into_iter().filter_map(|(_, item)| Some(ItemId(item.try_into().ok()?))));
        }
        self.ledgers.myself.stamp = Stamp { incarnation, counter: 0 };
        for item in items {
            let entry = self.own_entry(&item)?;
            self.stage(item, entry);
        }
        self.save_myself()?;
        self.event(Event::NewIncarnation);
        Ok(())
    }
}
