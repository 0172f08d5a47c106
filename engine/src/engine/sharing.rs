//! A cache folder that several nodes share: their entries are about the same files.
//!
//! What holds always: before an item is settled, our copy has the base that stands last in the chain among those of
//! all who share the cache, so a client whose feed lags judges nothing by an older base; and one of them works on an
//! item while the others look on, a lease apart. Left out: whether a folder is shared (`storage` refuses a second node
//! in one folder so far), and two nodes that publish at the same moment, which publishing itself survives.

use super::{Engine, Result};
use crate::claims;
use crate::entry::Copy;
use crate::ids::{CacheId, ClientId, ItemId};
use crate::lines;
use crate::planted::Bug;
use crate::store::Store;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What we know of those with whom we share our cache folder.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// Our cache folder's id, if it is shared.
    pub(super) cache: Option<CacheId>,
    /// Clients that have said since this start that their copies lie in it.
    mates: BTreeSet<ClientId>,
    /// Since when an item waits for another of them to work on it.
    waits_since_ms: BTreeMap<ItemId, u64>,
}

impl<S: Store> Engine<S> {
    /// Says that our cache folder is shared with other nodes, all of which give this id. Called right after opening.
    #[must_use]
    pub fn in_shared_cache(mut self, cache: CacheId) -> Self {
        self.sharing.cache = Some(cache);
        self
    }

    /// A client says in which cache its copies lie.
    pub(super) fn note_cache(&mut self, client: ClientId, cache: Option<CacheId>) {
        if cache.is_some() && cache == self.sharing.cache {
            self.sharing.mates.insert(client);
        }
    }

    /// Base and line of our copy as all who share the cache know them together; and whether another of them holds
    /// something else than we do, so that the file is to be looked at.
    fn shared_copy(&self, item: &ItemId, ours: &Copy) -> Result<Option<(Copy, bool)>> {
        if self.sharing.cache.is_none() || self.planted(Bug::LaggingFeedShared) {
            return Ok(None);
        }
        let me = self.config.me;
        let entries = self.entries(item)?;
        let mates: Vec<&Copy> = entries
            .iter()
            .filter(|entry| entry.owner() != me && entry.entry.cache == self.sharing.cache)
            .filter_map(|entry| entry.entry.copy.as_ref())
            .collect();
        if mates.is_empty() {
            return Ok(None);
        }
        let chain = self.row(item)?.map(|row| row.chain).unwrap_or_default();
        let (base, line) = lines::united(ours, &mates, &chain);
        let held = ours.held.as_ref().map(|held| &held.content);
        let agrees = |mate: &&Copy| match (mate.held.as_ref(), held) {
            (Some(theirs), Some(held)) => theirs.content.same_as(held),
            (theirs, held) => theirs.is_none() && held.is_none(),
        };
        Ok(Some((Copy { held: ours.held.clone(), base, line }, !mates.iter().all(agrees))))
    }

    /// Before the item is settled: our copy is what all know together. A file that another has seen otherwise is
    /// looked at before anything is decided by it.
    pub(super) fn unite(&mut self, item: ItemId) -> Result<()> {
        let mut entry = self.own_entry(&item)?;
        if entry.copy.is_none() && self.row(&item)?.is_none() {
            return Ok(());
        }
        let ours = entry.copy.clone().unwrap_or_default();
        let Some((united, differs)) = self.shared_copy(&item, &ours)? else { return Ok(()) };
        if united == ours {
            return Ok(());
        }
        if united.base != ours.base {
            self.base_moved(item);
        }
        if let (true, Some(held)) = (differs, &ours.held) {
            self.watch.doubt(item, held.path.clone(), self.now.mono_ms);
        }
        entry.copy = Some(united);
        self.stage(item, entry);
        Ok(())
    }

    /// The same for a copy whose file was just seen.
    pub(super) fn unite_copy(&mut self, item: &ItemId, copy: &mut Copy) -> Result<()> {
        if let Some((united, _)) = self.shared_copy(item, copy)? {
            if united.base != copy.base {
                self.base_moved(*item);
            }
            *copy = united;
        }
        Ok(())
    }

    /// Until when another of those who share the cache goes first with this item: one that is at it, else the live
    /// ones by rank, a lease apart.
    pub(super) fn mates_turn_ms(&mut self, item: ItemId) -> Result<Option<u64>> {
        let (Some(cache), me, now_ms) = (self.sharing.cache, self.config.me, self.now.mono_ms) else {
            return Ok(None);
        };
        let (live, lease_ms) = (self.live(), self.config.lease_ms);
        let entries = self.entries(&item)?;
        let of_cache = entries.iter().filter(|entry| entry.entry.cache == Some(cache));
        let mut mates: BTreeSet<_> = of_cache.clone().map(|entry| entry.owner()).collect();
        // Without a row only who has an entry knows of it.
        if self.row(&item)?.is_some() {
            mates.extend(&self.sharing.mates);
        }
        mates.retain(|mate| live.contains(mate) && *mate != me);
        let at_it =
            of_cache.filter(|entry| mates.contains(&entry.owner())).any(|e| !e.entry.claims.is_empty());
        if at_it {
            return Ok(Some(now_ms + lease_ms));
        }
        let key = *blake3::hash(&item.0).as_bytes();
        let rank = |client: &ClientId| (Reverse(claims::rendezvous(client, &key)), *client);
        let before = mates.iter().filter(|mate| rank(mate) < rank(&me)).count() as u64;
        let since_ms = *self.sharing.waits_since_ms.entry(item).or_insert(now_ms);
        let at_ms = since_ms.saturating_add(before.saturating_mul(lease_ms));
        Ok((now_ms < at_ms).then_some(at_ms))
    }

    /// Whether another goes first; then the item is looked at again in time, and the file where it is to be.
    pub(super) fn mates_go_first(&mut self, item: ItemId) -> Result<bool> {
        let Some(until_ms) = self.mates_turn_ms(item)? else { return Ok(false) };
        self.queue.later(item, until_ms);
        if let Some(row) = self.row(&item)? {
            self.watch.look_again(row.cache_path, self.now.mono_ms + self.config.quiet_ms.max(1));
        }
        Ok(true)
    }

    /// The item is settled: the next wait for others begins anew.
    pub(super) fn mates_are_done(&mut self, item: &ItemId) {
        self.sharing.waits_since_ms.remove(item);
    }
}
