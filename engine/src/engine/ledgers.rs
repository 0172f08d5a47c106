//! Ledgers in the store: writing our own entries, and keeping everybody's.
//!
//! Our writes of one input are staged, then sealed: numbered, signed in batches, kept and pushed. A record that a
//! later one replaces is pruned from its batch, so that what is kept of a ledger is what still counts.

use super::marks::{NIL, settled_key};
use super::{Engine, META_MYSELF, Myself, Result};
use crate::batch::{BATCH_RECORDS_MAX, Batch, Bone, Piece, Record, Skeleton, leaf_hash};
use crate::clock::{Dot, Incarnation, Stamp, VersionVector};
use crate::codec;
use crate::content::Blake3;
use crate::entry::{Copy, Entry, OwnedEntry};
use crate::ids::{ClientId, ItemId};
use crate::message::{Message, PAGE_BYTES, Page};
use crate::planted::Bug;
use crate::ports::Output;
use crate::store::{Store, Table};
use crate::transaction::Transaction;
use bincode::{Decode, Encode};
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
#[derive(Encode, Decode)]
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

fn entry_key(item: &ItemId, owner: &ClientId) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(&item.0);
    key[16..].copy_from_slice(&owner.0);
    key
}

/// All entries that stand for an item, ours included, with owner and stamp.
pub(super) fn entries_of<S: Store>(
    tx: &Transaction<S>,
    item: &ItemId,
) -> Result<Vec<(ClientId, Stamp, Entry)>> {
    let mut entries = Vec::new();
    for (key, value) in tx.prefixed(Table::Entries, &item.0, CLIENTS_MAX)? {
        if let Some(owner) = key.get(16..48).and_then(|bytes| bytes.try_into().ok()).map(ClientId) {
            let kept: Kept = codec::decode(&value)?;
            entries.push((owner, kept.stamp, Entry::decode(&kept.bytes)?));
        }
    }
    Ok(entries)
}

fn stamp_key(owner: &ClientId, stamp: Stamp) -> Vec<u8> {
    [&owner.0[..], &stamp.incarnation.0.to_be_bytes(), &stamp.counter.to_be_bytes()].concat()
}

fn read_stamp(key: &[u8]) -> Option<Stamp> {
    super::heads::read_stamp(key.get(32..)?)
}

impl<S: Store> Engine<S> {
    pub(super) fn save_myself(&mut self) -> Result<()> {
        let bytes = codec::encode(&self.ledgers.myself)?;
        self.tx.put(Table::Meta, META_MYSELF.to_vec(), bytes);
        Ok(())
    }

    /// How far we know every ledger, ours included.
    pub(super) fn vector(&self) -> VersionVector {
        self.ledgers.myself.vector.with(self.config.me, self.ledgers.myself.stamp)
    }

    /// How far we know one ledger, as [`Engine::vector`] has it.
    pub(super) fn known(&self, owner: &ClientId) -> Stamp {
        let known = self.ledgers.myself.vector.get(owner);
        if *owner == self.config.me { known.max(self.ledgers.myself.stamp) } else { known }
    }

    /// The dot that the next entry of ours to be staged for `item` gets.
    pub(super) fn dot_for(&self, item: &ItemId) -> Dot {
        let Some(place) = self.ledgers.place.get(item) else { return self.next_dot() };
        let myself = self.ledgers.myself.stamp;
        let counter = myself.counter + self.heads.next_gap + 1 + *place as u64;
        Dot { client: self.config.me, stamp: Stamp { counter, ..myself } }
    }

    /// The dot of the next entry to be staged for an item that has none staged.
    pub(super) fn next_dot(&self) -> Dot {
        let myself = self.ledgers.myself.stamp;
        let counter = myself.counter + self.heads.next_gap + 1 + self.ledgers.staged.len() as u64;
        Dot { client: self.config.me, stamp: Stamp { counter, ..myself } }
    }

    /// Our own entry for an item, as this input has left it so far; empty if there is none.
    pub(super) fn own_entry(&self, item: &ItemId) -> Result<Entry> {
        if let Some((_, entry)) = self.ledgers.place.get(item).and_then(|at| self.ledgers.staged.get(*at)) {
            return Ok(entry.clone());
        }
        match self.tx.get(Table::Entries, &entry_key(item, &self.config.me))? {
            Some(bytes) => Ok(Entry::decode(&codec::decode::<Kept>(&bytes)?.bytes)?),
            None => Ok(self.absorbed_entry(item)?.unwrap_or_default()),
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
        for (owner, stamp, mut entry) in entries_of(&self.tx, item)? {
            if owner == self.config.me {
                continue;
            }
            if stamp.incarnation < self.ledgers.myself.vector.get(&owner).incarnation
                || self.roster.is_retired(&owner)
            {
                entry.claims.clear();
            }
            entries.push(OwnedEntry { item: *item, dot: Dot { client: owner, stamp }, entry });
        }
        entries.extend(self.entries_by_marks(item, &entries)?);
        let own = self.own_entry(item)?;
        if !own.is_tombstone() {
            entries.push(OwnedEntry { item: *item, dot: self.own_dot(item)?, entry: own });
        }
        Ok(entries)
    }

    /// The entry of a client for an item, as the store has it.
    pub(super) fn entry_of(&self, item: &ItemId, owner: &ClientId) -> Result<Option<(Stamp, Entry)>> {
        let Some(bytes) = self.tx.get(Table::Entries, &entry_key(item, owner))? else { return Ok(None) };
        let kept: Kept = codec::decode(&bytes)?;
        Ok(Some((kept.stamp, Entry::decode(&kept.bytes)?)))
    }

    /// The dot of our entry for an item: the one kept, or the one that it will get.
    pub(super) fn own_dot(&self, item: &ItemId) -> Result<Dot> {
        let kept = match self.ledgers.place.contains_key(item) {
            true => None,
            false => self.tx.get(Table::Entries, &entry_key(item, &self.config.me))?,
        };
        Ok(match kept {
            Some(bytes) => Dot { client: self.config.me, stamp: codec::decode::<Kept>(&bytes)?.stamp },
            None => self.dot_for(item),
        })
    }

    /// Numbers, signs and keeps what this input has staged, and pushes it with our new head to every connected member.
    pub(super) fn seal(&mut self) -> Result<()> {
        let staged = std::mem::take(&mut self.ledgers.staged);
        self.ledgers.place.clear();
        let mut after = self.ledgers.myself.stamp;
        if !staged.is_empty() {
            self.leave_gap()?;
        }
        let (mut records, mut bytes, mut batches) = (Vec::new(), 0, Vec::new());
        for (item, mut entry) in staged {
            if entry.is_tombstone() && self.mark_may_speak(&item)? {
                entry.copy = Some(Copy::default());
            }
            self.index_content(&item, &entry)?;
            entry.settled = self.settled_place(&item, &entry)?;
            self.stop_absorbing(&item, entry.settled)?;
            let entry = entry.encode()?;
            bytes += entry.len();
            records.push(Record { item, entry });
            // A batch travels whole, so it has to fit a frame.
            if records.len() == BATCH_RECORDS_MAX || bytes >= PAGE_BYTES {
                batches.extend(self.seal_batch(std::mem::take(&mut records))?);
                bytes = 0;
            }
        }
        if !records.is_empty() {
            batches.extend(self.seal_batch(records)?);
        }
        if !self.sign_head()? {
            return Ok(());
        }
        let last = batches.len().saturating_sub(1);
        let owner = self.config.me;
        let head = self.heads.head(&owner).copied();
        if batches.is_empty() {
            let through = self.ledgers.myself.stamp;
            self.push(Page { owner, after, through, batches, more: false, head });
            return self.save_myself();
        }
        for (at, batch) in batches.into_iter().enumerate() {
            let through = batch.last_stamp();
            let head = head.filter(|_| at == last);
            self.push(Page { owner, after, through, batches: vec![batch], more: false, head });
            after = through;
        }
        self.save_myself()
    }

    fn seal_batch(&mut self, records: Vec<Record>) -> Result<Option<Batch>> {
        let after = self.ledgers.myself.stamp;
        let first = after.counter + 1;
        let Ok(batch) = Batch::sign(self.config.me, after.incarnation, first, records, &*self.keys) else {
            return Ok(None); // cannot be: there are 1 to BATCH_RECORDS_MAX records
        };
        self.keep(&batch)?;
        self.ledgers.myself.stamp = batch.last_stamp();
        Ok(Some(batch))
    }

    /// Keeps up which of our files hold which content, so that members can be served by BLAKE3.
    fn index_content(&mut self, item: &ItemId, entry: &Entry) -> Result<()> {
        let key = |entry: &Entry| {
            let blake3 = entry.held_content()?.blake3?;
            Some([&blake3.0[..], &item.0[..]].concat())
        };
        let before = match self.entry_of(item, &self.config.me)? {
            Some((_, entry)) => key(&entry),
            None => self.absorbed_entry(item)?.as_ref().and_then(key),
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

    fn push(&mut self, page: Page) {
        for client in self.connected() {
            self.outputs.push_back(Output::Send(client, Message::Page(page.clone())));
        }
    }

    /// Keeps a verified batch: its entries where they are newer than what we have, and its skeleton.
    pub(super) fn keep(&mut self, batch: &Batch) -> Result<()> {
        let first = Stamp { incarnation: batch.incarnation, counter: batch.first };
        let key = stamp_key(&batch.owner, first);
        let known: Option<Skeleton> =
            self.tx.get(Table::Batches, &key)?.map(|bytes| codec::decode(&bytes)).transpose()?;
        let united;
        let batch = match known {
            None => batch,
            Some(skeleton) => {
                let ours = self.rebuild(batch.owner, first, skeleton)?;
                match ours.union(batch) {
                    Some(union) => united = union,
                    None => {
                        // Two batches of one stamp: only a life that the owner has lost can have signed the other.
                        self.tell_owner(batch.owner, vec![ours], None);
                        return Ok(());
                    }
                }
                &united
            }
        };
        let mut skeleton = Skeleton::of(batch);
        let mut mark = None;
        for (stamp, record) in batch.records() {
            let key = entry_key(&record.item, &batch.owner);
            let old: Option<Kept> = match self.tx.get(Table::Entries, &key)? {
                Some(bytes) => Some(codec::decode(&bytes)?),
                None => None,
            };
            let entry = Entry::decode(&record.entry)?;
            let index = u32::try_from(stamp.counter.saturating_sub(batch.first)).unwrap_or(u32::MAX);
            let absorbed = self.marks.absorbs(&batch.owner, stamp, entry.settled);
            match &old {
                Some(old) if old.stamp == stamp => continue,
                Some(old) if old.stamp > stamp && !self.planted(Bug::OldReleaseFrees) => {
                    skeleton.prune(index, leaf_hash(record));
                    continue;
                }
                Some(old) if absorbed => {
                    skeleton.prune(index, leaf_hash(record));
                    let old_stamp = old.stamp;
                    self.drop_entry_of(&batch.owner, &record.item, old_stamp)?;
                    continue;
                }
                None if absorbed => {
                    skeleton.prune(index, leaf_hash(record));
                    continue;
                }
                _ => {}
            }
            let old_bytes = old.as_ref().map(|old| old.bytes.as_slice());
            self.index_claims(&batch.owner, &record.item, old_bytes, &record.entry)?;
            if let Some(old) = old {
                self.prune(&batch.owner, &record.item, old)?;
            }
            let mut bytes = record.entry.clone();
            if self.planted(Bug::FieldLostInRelay) {
                bytes = Entry { unknown: Vec::new(), ..Entry::decode(&bytes)? }.encode()?;
            }
            let kept = Kept { stamp, batch_first: batch.first, bytes };
            self.tx.put(Table::Entries, key.to_vec(), codec::encode(&kept)?);
            self.tx.put(Table::EntryOrder, stamp_key(&batch.owner, stamp), record.item.0.to_vec());
            self.count_in(&batch.owner, &record.item, stamp, &record.entry);
            if let Some(place) = entry.settled {
                self.tx.put(Table::Settled, settled_key(&batch.owner, place, &record.item), Vec::new());
            }
            if record.item == NIL {
                mark = Some((stamp, entry));
            }
        }
        match skeleton.is_bare() {
            true => self.tx.remove(Table::Batches, key),
            false => self.tx.put(Table::Batches, key, codec::encode(&skeleton)?),
        }
        // Last: what it absorbs may be of this very batch.
        match mark {
            Some((stamp, entry)) => self.mark_moved(batch.owner, stamp, &entry),
            None => Ok(()),
        }
    }

    /// Takes a replaced entry out of its batch.
    fn prune(&mut self, owner: &ClientId, item: &ItemId, old: Kept) -> Result<()> {
        self.tx.remove(Table::EntryOrder, stamp_key(owner, old.stamp));
        self.count_out(owner, item, old.stamp, &old.bytes);
        if let Some(place) = Entry::decode(&old.bytes)?.settled {
            self.tx.remove(Table::Settled, settled_key(owner, place, item));
        }
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

    /// Drops one entry of a ledger, if it still stands with this stamp: the item is looked at again.
    pub(super) fn drop_entry_of(&mut self, owner: &ClientId, item: &ItemId, stamp: Stamp) -> Result<()> {
        let key = entry_key(item, owner);
        let Some(bytes) = self.tx.get(Table::Entries, &key)? else { return Ok(()) };
        let old: Kept = codec::decode(&bytes)?;
        if old.stamp == stamp {
            // That a tombstone is forgotten changes nothing for the item.
            let spoke = !Entry::decode(&old.bytes)?.is_tombstone();
            self.index_claims(owner, item, Some(&old.bytes), &[])?;
            self.prune(owner, item, old)?;
            self.tx.remove(Table::Entries, key.to_vec());
            if spoke {
                self.queue.ready(*item);
            }
        }
        Ok(())
    }

    /// Drops an entry that a mark has absorbed: nothing has changed for the item.
    pub(super) fn drop_absorbed(&mut self, owner: &ClientId, item: &ItemId) -> Result<()> {
        let key = entry_key(item, owner);
        if let Some(bytes) = self.tx.get(Table::Entries, &key)? {
            let old: Kept = codec::decode(&bytes)?;
            self.index_claims(owner, item, Some(&old.bytes), &[])?;
            self.prune(owner, item, old)?;
            self.tx.remove(Table::Entries, key.to_vec());
        }
        Ok(())
    }

    /// The item that an owner's entry with this stamp is for, if it still stands.
    pub(super) fn item_of(&self, owner: &ClientId, stamp: Stamp) -> Result<Option<ItemId>> {
        let item = self.tx.get(Table::EntryOrder, &stamp_key(owner, stamp))?;
        Ok(item.and_then(|bytes| bytes.try_into().ok()).map(ItemId))
    }

    /// How many entries of ours stand after a stamp, counted up to 1000.
    pub(super) fn entries_after(&self, stamp: Stamp) -> u64 {
        let after = [&stamp_key(&self.config.me, stamp)[..], &[0]].concat();
        let to = stamp_key(&self.config.me, Stamp { incarnation: Incarnation(u64::MAX), counter: u64::MAX });
        self.tx.range(Table::EntryOrder, &after, &to, 1000).map_or(0, |entries| entries.len() as u64)
    }

    /// Goes through an owner's entries from one stamp to another, both included, in dot order.
    pub(super) fn each_entry(
        &mut self,
        owner: &ClientId,
        from: Stamp,
        to: Stamp,
        mut take: impl FnMut(&mut Self, ItemId, Stamp, Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let (mut from, to) = (stamp_key(owner, from), [&stamp_key(owner, to)[..], &[0]].concat());
        loop {
            let page = self.tx.range(Table::EntryOrder, &from, &to, 1024)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = [last.as_slice(), &[0]].concat();
            for (key, item) in page {
                let (Some(stamp), Some(item)) = (read_stamp(&key), item.try_into().ok().map(ItemId)) else {
                    continue;
                };
                let Some(kept) = self.tx.get(Table::Entries, &entry_key(&item, owner))? else { continue };
                take(self, item, stamp, codec::decode::<Kept>(&kept)?.bytes)?;
            }
        }
    }

    /// A page of `owner`'s ledger after a stamp. Pages of one stream need no snapshot that is held open: whatever changes
    /// between two of them does so under a later dot, and comes with a later page.
    pub(super) fn page(&self, owner: ClientId, after: Stamp) -> Result<Page> {
        let from = stamp_key(&owner, Stamp { counter: after.counter.saturating_add(1), ..after });
        let to = stamp_key(&owner, Stamp { incarnation: Incarnation(u64::MAX), counter: u64::MAX });
        let mut page = Page { owner, after, through: after, batches: Vec::new(), more: false, head: None };
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
        page.through = page.batches.last().map_or(after, Batch::last_stamp).max(after);
        // Where we are not whole we say no more than the batches prove.
        let whole = self.heads.head(&owner).filter(|head| head.stamp == self.known(&owner));
        if let (false, Some(head)) = (page.more, whole.filter(|head| head.stamp >= page.through)) {
            (page.through, page.head) = (head.stamp, Some(*head));
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

    pub(super) fn kept_record(&self, owner: &ClientId, stamp: Stamp) -> Result<Record> {
        let lost = || codec::CodecError(format!("the record {stamp:?} of {owner:?} is missing"));
        let item = self.item_of(owner, stamp)?.ok_or_else(lost)?;
        let kept = self.tx.get(Table::Entries, &entry_key(&item, owner))?.ok_or_else(lost)?;
        Ok(Record { item, entry: codec::decode::<Kept>(&kept)?.bytes })
    }
}

#[cfg(test)]
#[path = "ledgers_tests.rs"]
mod tests;
