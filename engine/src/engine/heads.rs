//! Which ledgers are whole: what each adds up to here, and the signed head that it was compared with.
//!
//! The sum of a ledger changes with every entry that is kept, replaced or dropped, in the same transaction. A ledger
//! is whole only at a head of its owner whose hash that sum reproduces; then entries of the owner's earlier
//! incarnations, which the new ledger would name if they still stood, are dropped.
//!
//! Left out: getting a ledger right that is not whole; that is `repair`.

use super::{Engine, Result};
use crate::batch::Batch;
use crate::clock::{Incarnation, Stamp};
use crate::codec;
use crate::entry::Entry;
use crate::heads::{Head, LedgerSum, WholeVector};
use crate::ids::{ClientId, ItemId};
use crate::message::{Message, Page};
use crate::planted::Bug;
use crate::ports::{Event, Output};
use crate::store::{Store, Table};
use crate::transaction::Transaction;
use bincode::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

/// What is kept of one ledger beside its entries, under `ledger ` and its owner in [`Table::Meta`].
#[derive(Clone, Debug, Default, Encode, Decode)]
struct Whole {
    /// Entries of this incarnation are in the sum.
    incarnation: Incarnation,
    sum: LedgerSum,
    /// The last head that the sum reproduced.
    head: Option<Head>,
}

/// All ledgers' sums and heads.
#[derive(Debug, Default)]
pub(super) struct Heads {
    ledgers: BTreeMap<ClientId, Whole>,
    changed: BTreeSet<ClientId>,
    /// Counters that we left out, newest last: what is signed with one of them was signed by a life that we lost.
    gaps: Vec<Gap>,
    /// The first tombstone of each ledger that was looked for, as the store has it. Of one that is not in here, nothing
    /// is known.
    first_tombstone: BTreeMap<ClientId, Option<Stamp>>,
    /// How far the counter of our next write is beyond that of our last.
    pub(super) next_gap: u64,
}

/// Counters from `from` to `to`, both included, that this life has never used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
struct Gap {
    incarnation: Incarnation,
    from: u64,
    to: u64,
}

const META_GAPS: &[u8] = b"gaps";
/// The most gaps that are remembered: one for each start that wrote.
const GAPS_MAX: usize = 256;
/// Each start leaves out up to so many counters before its first write.
const GAP_MAX: u64 = 1 << 40;

fn meta_key(owner: &ClientId) -> Vec<u8> {
    [&b"ledger "[..], &owner.0].concat()
}

/// Where a tombstone is noted, so that it is found when it may be forgotten: its stamp in the last 16 bytes.
pub(super) fn stamp_meta_key(owner: &ClientId, stamp: Stamp) -> Vec<u8> {
    let (incarnation, counter) = (stamp.incarnation.0.to_be_bytes(), stamp.counter.to_be_bytes());
    [&b"tombstone "[..], &owner.0, &incarnation, &counter].concat()
}

/// Reads a stamp from 16 bytes of a key.
pub(super) fn read_stamp(bytes: &[u8]) -> Option<Stamp> {
    let (incarnation, counter) = bytes.split_first_chunk::<8>()?;
    let counter = u64::from_be_bytes(counter.try_into().ok()?);
    Some(Stamp { incarnation: Incarnation(u64::from_be_bytes(*incarnation)), counter })
}

impl Heads {
    /// Reads what was kept. `random` is this start's.
    pub(super) fn load<S: Store>(tx: &Transaction<S>, random: u64) -> Result<Self> {
        let reused = tx.planted(Bug::EpochReused);
        let next_gap = if reused { 0 } else { 1 + random % GAP_MAX };
        let mut heads = Self { next_gap, ..Self::default() };
        for (key, value) in tx.prefixed(Table::Meta, b"ledger ", 4096)? {
            if let Some(owner) = key.get(7..).and_then(|bytes| bytes.try_into().ok()).map(ClientId) {
                heads.ledgers.insert(owner, codec::decode(&value)?);
            }
        }
        if let Some(bytes) = tx.get(Table::Meta, META_GAPS)? {
            heads.gaps = codec::decode(&bytes)?;
        }
        Ok(heads)
    }

    fn ledger(&mut self, owner: &ClientId) -> &mut Whole {
        self.changed.insert(*owner);
        self.ledgers.entry(*owner).or_default()
    }

    /// The head at which the owner's ledger is whole here.
    pub(super) fn head(&self, owner: &ClientId) -> Option<&Head> {
        self.ledgers.get(owner)?.head.as_ref()
    }

    /// The same as its stamp; zero if it was never whole.
    pub(super) fn whole(&self, owner: &ClientId) -> Stamp {
        self.head(owner).map(|head| head.stamp).unwrap_or_default()
    }

    /// Whether a stamp of ours was never given out by the life that this store remembers.
    pub(super) fn in_gap(&self, stamp: Stamp) -> bool {
        self.gaps
            .iter()
            .any(|gap| gap.incarnation == stamp.incarnation && (gap.from..=gap.to).contains(&stamp.counter))
    }

    /// What the ledger adds up to here, without `dropped`.
    pub(super) fn digest_without(&self, owner: &ClientId, dropped: &[(ItemId, Stamp, Vec<u8>)]) -> [u8; 32] {
        let Some(whole) = self.ledgers.get(owner) else { return LedgerSum::default().digest() };
        if dropped.is_empty() {
            return whole.sum.digest();
        }
        let mut sum = whole.sum.clone();
        for (item, stamp, bytes) in
            dropped.iter().filter(|(_, stamp, bytes)| stamp.incarnation == whole.incarnation && counts(bytes))
        {
            sum.remove(item, *stamp, bytes);
        }
        sum.digest()
    }

    /// Nothing is kept of this ledger any more.
    pub(super) fn forget(&mut self, owner: &ClientId) {
        self.ledgers.remove(owner);
        self.first_tombstone.remove(owner);
        self.changed.insert(*owner);
    }

    /// Nothing of this ledger is proved any more.
    pub(super) fn doubt(&mut self, owner: &ClientId) {
        if self.head(owner).is_some() {
            self.ledger(owner).head = None;
        }
    }
}

/// Whether an entry with these bytes is in the sum: a tombstone is not.
fn counts(bytes: &[u8]) -> bool {
    !Entry::is_bare(bytes)
}

impl<S: Store> Engine<S> {
    /// Sums of a store that kept none yet.
    pub(super) fn sum_ledgers(&mut self) -> Result<()> {
        let vector = self.vector();
        let unsummed = vector.iter().filter(|(owner, _)| !self.heads.ledgers.contains_key(owner));
        for (owner, stamp) in unsummed.map(|(owner, stamp)| (*owner, *stamp)).collect::<Vec<_>>() {
            self.heads.ledger(&owner).incarnation = stamp.incarnation;
            let from = Stamp { counter: 0, ..stamp };
            self.each_entry(&owner, from, stamp, |engine, item, at, bytes| {
                engine.count_in(&owner, &item, at, &bytes);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// An entry came into a ledger.
    pub(super) fn count_in(&mut self, owner: &ClientId, item: &ItemId, stamp: Stamp, bytes: &[u8]) {
        if !counts(bytes) {
            self.tx.put(Table::Meta, stamp_meta_key(owner, stamp), item.0.to_vec());
            if let Some(first) = self.heads.first_tombstone.get_mut(owner) {
                *first = Some(first.map_or(stamp, |first| first.min(stamp)));
            }
            self.forgetting.look_again();
            return;
        }
        let whole = self.heads.ledger(owner);
        if stamp.incarnation == whole.incarnation {
            whole.sum.add(item, stamp, bytes);
        }
    }

    /// An entry went out of a ledger.
    pub(super) fn count_out(&mut self, owner: &ClientId, item: &ItemId, stamp: Stamp, bytes: &[u8]) {
        if !counts(bytes) {
            self.tx.remove(Table::Meta, stamp_meta_key(owner, stamp));
            if self.heads.first_tombstone.get(owner) == Some(&Some(stamp)) {
                self.heads.first_tombstone.remove(owner);
            }
            return;
        }
        let whole = self.heads.ledger(owner);
        if stamp.incarnation == whole.incarnation {
            whole.sum.remove(item, stamp, bytes);
        }
    }

    /// The first of the owner's tombstones that are noted to be forgotten.
    pub(super) fn first_tombstone(&mut self, owner: &ClientId) -> Result<Option<Stamp>> {
        if let Some(first) = self.heads.first_tombstone.get(owner) {
            return Ok(*first);
        }
        let first = self.stored_first_tombstone(owner)?;
        self.heads.first_tombstone.insert(*owner, first);
        Ok(first)
    }

    fn stored_first_tombstone(&self, owner: &ClientId) -> Result<Option<Stamp>> {
        let prefix = [&b"tombstone "[..], &owner.0].concat();
        let page = self.tx.prefixed(Table::Meta, &prefix, 1)?;
        Ok(page.first().and_then(|(key, _)| read_stamp(key.get(prefix.len()..)?)))
    }

    /// Whether the store has the first tombstones that we remember: looked at after every input of a debug build, so by
    /// all tests and all runs of the simulator in them.
    pub(super) fn first_tombstones_are_as_stored(&self) -> Result<bool> {
        for (owner, first) in &self.heads.first_tombstone {
            if self.stored_first_tombstone(owner)? != *first {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// From now on the owner's entries of this incarnation are what adds up, if it is a later one.
    pub(super) fn turn_to(&mut self, owner: &ClientId, incarnation: Incarnation) {
        if self.heads.ledgers.get(owner).is_none_or(|whole| whole.incarnation < incarnation) {
            let whole = self.heads.ledger(owner);
            (whole.incarnation, whole.sum) = (incarnation, LedgerSum::default());
        }
    }

    /// Writes what changed into the present transaction.
    pub(super) fn save_heads(&mut self) -> Result<()> {
        for owner in std::mem::take(&mut self.heads.changed) {
            match self.heads.ledgers.get(&owner) {
                Some(whole) => self.tx.put(Table::Meta, meta_key(&owner), codec::encode(whole)?),
                None => self.tx.remove(Table::Meta, meta_key(&owner)),
            }
        }
        Ok(())
    }

    /// At which heads we are whole, our own included.
    pub(super) fn whole(&self) -> WholeVector {
        let known = self.vector();
        let heads =
            self.heads.ledgers.iter().filter_map(|(owner, whole)| Some((*owner, whole.head?.named())));
        WholeVector(heads.filter(|(owner, _)| known.get(owner) > Stamp::default()).collect())
    }

    /// Our own head, signed anew if we wrote since; true if it was.
    pub(super) fn sign_head(&mut self) -> Result<bool> {
        let (me, stamp) = (self.config.me, self.ledgers.myself.stamp);
        if self.heads.whole(&me) == stamp {
            return Ok(false);
        }
        self.turn_to(&me, stamp.incarnation);
        let hash = self.heads.ledger(&me).sum.digest();
        let head = Head::sign(&me, stamp, hash, &*self.keys);
        self.become_whole(me, head)?;
        Ok(true)
    }

    /// Counters are left out once in each start, before its first write: a life that was lost with a restore, or goes on
    /// in a clone, has then used none of those that we are about to use.
    pub(super) fn leave_gap(&mut self) -> Result<()> {
        let gap = std::mem::take(&mut self.heads.next_gap);
        let stamp = &mut self.ledgers.myself.stamp;
        if gap == 0 || stamp.counter.checked_add(gap).is_none() {
            return Ok(());
        }
        let (from, to) = (stamp.counter + 1, stamp.counter + gap);
        self.heads.gaps.push(Gap { incarnation: stamp.incarnation, from, to });
        stamp.counter = to;
        let surplus = self.heads.gaps.len().saturating_sub(GAPS_MAX);
        self.heads.gaps.drain(..surplus);
        let bytes = codec::encode(&self.heads.gaps)?;
        self.tx.put(Table::Meta, META_GAPS.to_vec(), bytes);
        Ok(())
    }

    /// Compares a ledger that we know up to this head with it.
    pub(super) fn judge(&mut self, from: ClientId, owner: ClientId, head: Head) -> Result<()> {
        let before = self.heads.head(&owner).copied();
        if before == Some(head) {
            return Ok(());
        }
        if self.heads.digest_without(&owner, &[]) == head.hash {
            return self.become_whole(owner, head);
        }
        // What we were whole at may be of a life that the owner has lost: its own signature tells it so.
        if let Some(before) = before {
            self.tell_owner(owner, Vec::new(), Some(before));
        }
        // Of two heads of one stamp the owner's own word counts, nobody else's.
        if from == owner || before.is_none_or(|before| before.stamp != head.stamp) {
            self.begin_repair(from, owner);
        }
        Ok(())
    }

    /// The ledger is whole at this head: entries of earlier incarnations count no more.
    pub(super) fn become_whole(&mut self, owner: ClientId, head: Head) -> Result<()> {
        self.heads.ledger(&owner).head = Some(head);
        self.repairs.over(&owner);
        self.forgetting.look_again();
        let before = Incarnation(head.stamp.incarnation.0.saturating_sub(1));
        self.drop_entries(&owner, Stamp::default(), Stamp { incarnation: before, counter: u64::MAX })
    }

    /// Drops an owner's entries from one stamp to another, both included.
    pub(super) fn drop_entries(&mut self, owner: &ClientId, from: Stamp, to: Stamp) -> Result<()> {
        let mut entries = Vec::new();
        self.each_entry(owner, from, to, |_, item, stamp, _| {
            entries.push((item, stamp));
            Ok(())
        })?;
        for (item, stamp) in entries {
            self.drop_entry_of(owner, &item, stamp)?;
        }
        Ok(())
    }

    /// What we know of the others may be older than what they once heard from us: their heads prove it again.
    pub(super) fn doubt_others(&mut self) {
        let others = self.heads.ledgers.keys().copied().filter(|owner| *owner != self.config.me);
        others.collect::<Vec<_>>().iter().for_each(|owner| self.heads.doubt(owner));
    }

    /// Shows an owner what it signed, as it may have forgotten it.
    pub(super) fn tell_owner(&mut self, owner: ClientId, batches: Vec<Batch>, head: Option<Head>) {
        if owner == self.config.me || !self.peers.get(&owner).is_some_and(|peer| peer.connected) {
            return;
        }
        let through = match (&head, batches.last()) {
            (Some(head), _) => head.stamp,
            (None, Some(batch)) => batch.last_stamp(),
            (None, None) => return,
        };
        let first = batches.first().map_or(through, |batch| Stamp {
            incarnation: batch.incarnation,
            counter: batch.first.saturating_sub(1),
        });
        let page = Page { owner, after: first, through, batches, more: false, head };
        self.outputs.push_back(Output::Send(owner, Message::Page(page)));
    }

    /// The latest stamp in a checked page of our own ledger that we never gave out: proof that we were restored.
    pub(super) fn lost_stamp(&self, page: &Page) -> Result<Option<Stamp>> {
        let (me, own) = (self.config.me, self.ledgers.myself.stamp);
        let never_ours = |stamp: Stamp| stamp > own || self.heads.in_gap(stamp);
        let mut lost = None;
        for (stamp, record) in page.batches.iter().flat_map(Batch::records) {
            let other = self.item_of(&me, stamp)?.is_some_and(|item| item != record.item);
            if other || never_ours(stamp) {
                lost = lost.max(Some(stamp));
            }
        }
        lost = lost.max(page.batches.iter().map(Batch::last_stamp).filter(|stamp| never_ours(*stamp)).max());
        if let Some(head) = page.head {
            let other =
                self.heads.head(&me).is_some_and(|own| own.stamp == head.stamp && own.hash != head.hash);
            if other || never_ours(head.stamp) {
                lost = lost.max(Some(head.stamp));
            }
        }
        Ok(lost)
    }

    /// Begins a new incarnation above `seen` and writes all our entries again under it.
    pub(super) fn begin_incarnation(&mut self, seen: Stamp) -> Result<()> {
        // Two machines with one key would go on outbidding each other.
        if self.stopped.is_some() {
            return Ok(());
        }
        let before = self.ledgers.myself.stamp;
        let low = self.planted(Bug::LowVector);
        let floor = if low { before.incarnation } else { seen.incarnation.max(before.incarnation) };
        let wall_ms = if low { 0 } else { self.now.wall_ms };
        let incarnation = Incarnation::mint(wall_ms, self.start, floor);
        let mut items = Vec::new();
        self.each_entry(&self.config.me.clone(), Stamp::default(), before, |_, item, _, bytes| {
            if counts(&bytes) {
                items.push(item);
            }
            Ok(())
        })?;
        self.ledgers.myself.stamp = Stamp { incarnation, counter: 0 };
        self.heads.next_gap = 0;
        self.turn_to(&self.config.me.clone(), incarnation);
        for item in items {
            let entry = self.own_entry(&item)?;
            self.stage(item, entry);
        }
        self.doubt_others();
        self.save_myself()?;
        self.event(Event::NewIncarnation);
        Ok(())
    }
}
