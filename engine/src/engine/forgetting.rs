//! Forgetting tombstones and retired clients, once nobody can bring back what they stand against.
//!
//! A tombstone goes when every current member's whole vector covers it: then none of them has the entry that it
//! replaced. Age alone never counts. Each member forgets by itself; heads leave tombstones out, so ledgers that differ in
//! forgotten ones still add up to the same. A client that is declared absent is not waited for; it proves its ledgers
//! against heads before its word counts again.

use super::heads::stamp_meta_key;
use super::{Engine, Result};
use crate::clock::Stamp;
use crate::clock::VersionVector;
use crate::heads::WholeVector;
use crate::ids::{ClientId, ItemId};
use crate::planted::Bug;
use crate::roster::Standing;
use crate::store::{Store, Table};
use std::collections::BTreeMap;

/// How far forgetting is.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    /// Whether something changed since the last look.
    look: bool,
    /// What each member last said that it knows, and is whole at, since our start.
    told: BTreeMap<ClientId, (VersionVector, WholeVector)>,
}

/// The most tombstones that one input forgets.
const PER_INPUT: usize = 256;

impl Forgetting {
    pub(super) fn look_again(&mut self) {
        self.look = true;
    }

    /// A member said what it knows.
    pub(super) fn told(&mut self, client: ClientId, vector: &VersionVector, whole: &WholeVector) {
        if self.told.get(&client).is_some_and(|(known, known_whole)| known == vector && known_whole == whole)
        {
            return;
        }
        self.look = true;
        self.told.insert(client, (vector.clone(), whole.clone()));
    }
}

impl<S: Store> Engine<S> {
    /// Forgets what may be forgotten, some of it at a time.
    pub(super) fn forget_some(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.forgetting.look) {
            return Ok(());
        }
        if !self.roster.is_read() {
            return Ok(());
        }
        let mut owners = Vec::new();
        for (owner, _) in self.vector().iter() {
            if self.roster.is_retired(owner) || self.first_tombstone(owner)?.is_some() {
                owners.push(*owner);
            }
        }
        if owners.is_empty() {
            return Ok(());
        }
        let waited_for = self.waited_for();
        let mut budget = PER_INPUT;
        for owner in owners {
            if let Some(Standing::Retired { last }) = self.roster.standing(&owner) {
                self.forget_retired(&owner, last, &waited_for)?;
                continue;
            }
            let Some(first) = self.first_tombstone(&owner)? else { continue };
            let told = |client: &ClientId| {
                self.forgetting.told.get(client).map(|(_, whole)| whole.get(&owner)).unwrap_or_default()
            };
            let others = waited_for.iter().map(told).min();
            let ours = self.heads.whole(&owner);
            let mut covered = others.unwrap_or(ours).min(ours);
            if self.planted(Bug::TombstoneTooEarly) {
                covered = ours;
            }
            if first > covered {
                continue;
            }
            budget -= self.forget_tombstones(&owner, covered, budget)?;
        }
        self.forgetting.look |= budget == 0;
        Ok(())
    }

    /// Every member that has to have what is forgotten, ourselves left out.
    fn waited_for(&self) -> Vec<ClientId> {
        let mut members = self.roster.current().unwrap_or_default();
        if self.planted(Bug::RetiredCounted) {
            members.extend(self.roster.retired());
        }
        members.retain(|client| *client != self.config.me);
        members
    }

    fn forget_tombstones(&mut self, owner: &ClientId, covered: Stamp, limit: usize) -> Result<usize> {
        let from = stamp_meta_key(owner, Stamp::default());
        let to = [&stamp_meta_key(owner, covered)[..], &[0]].concat();
        let page = self.tx.range(Table::Meta, &from, &to, limit)?;
        let found = page.len();
        for (key, item) in page {
            let stamp = key.get(key.len().saturating_sub(16)..).and_then(super::heads::read_stamp);
            if let (Some(stamp), Ok(item)) = (stamp, item.try_into().map(ItemId)) {
                self.drop_entry_of(owner, &item, stamp)?;
            }
        }
        Ok(found)
    }

    /// A retired client's ledger is of no more use once nobody misses a part of it: who has nothing of it begins no more.
    fn forget_retired(&mut self, owner: &ClientId, last: Stamp, waited_for: &[ClientId]) -> Result<()> {
        let known = |client: &ClientId| {
            let told = self.forgetting.told.get(client).map(|(vector, _)| vector.get(owner));
            told.is_some_and(|stamp| stamp == Stamp::default() || stamp >= last)
        };
        let ours = self.ledgers.myself.vector.get(owner);
        if *owner == self.config.me || ours < last || !waited_for.iter().all(known) {
            return Ok(());
        }
        let end = Stamp { incarnation: crate::clock::Incarnation(u64::MAX), counter: u64::MAX };
        self.drop_entries(owner, Stamp::default(), end)?;
        self.ledgers.myself.vector.set_back(owner, Stamp::default());
        self.heads.forget(owner);
        self.save_myself()
    }
}
