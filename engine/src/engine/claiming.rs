//! Claims of the whole workgroup: who claims which content, whose turn it is, staking, and judging who may work.
//!
//! Claims are found by (task, content), whatever the item; the index of them follows the entries. What is kept here
//! beside the store is in flight: contents wanted here, claims that others renewed, and the claimed tasks of our own.
//! When a task must stop, and when a claim is void, is said in `leases`; where a content comes from in `download`.

use super::leases::{Work, Works};
use super::ledgers::CLIENTS_MAX;
use super::slots::AHEAD_MAX;
use super::{Engine, Result};
use crate::claims::{self, Lease, Standing};
use crate::clock::Dot;
use crate::codec;
use crate::content::Content;
use crate::entry::{Claim, Entry, SEEN_MAX, TaskKind};
use crate::ids::{ClientId, ItemId};
use crate::planted::Bug;
use crate::store::{Store, Table};
use std::collections::{BTreeMap, BTreeSet};

/// The most claims on one content that are looked at.
const RIVALS_MAX: usize = 256;
/// The most claims of others whose last renewal is remembered: as many as a workgroup has that claims all that it may ahead,
/// and some for what is under way. One beyond counts as renewed when we began to listen.
const RENEWALS_MAX: usize = CLIENTS_MAX * (AHEAD_MAX + 512);

/// What claims compete for: the task, and MD5 and size of the content. That both sides mean the same content, where
/// they know the BLAKE3, is checked when they are compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Scope([u8; 25]);

impl Scope {
    pub(super) fn of(task: TaskKind, content: &Content) -> Self {
        let mut bytes = [0; 25];
        bytes[0] = task_number(task);
        bytes[1..17].copy_from_slice(&content.md5.0);
        bytes[17..].copy_from_slice(&content.size.to_be_bytes());
        Self(bytes)
    }
}

fn task_number(task: TaskKind) -> u8 {
    match task {
        TaskKind::Download => 0,
        TaskKind::Upload => 1,
        TaskKind::Kill => 2,
        TaskKind::Derive => 3,
    }
}

/// What is in flight of claims.
#[derive(Debug, Default)]
pub(super) struct Claiming {
    /// Tasks that are wanted: contents to be brought here, or to the cloud.
    wanted: BTreeMap<Scope, Wanted>,
    /// Which of them an item is in.
    wanted_for: BTreeMap<ItemId, Scope>,
    /// When claims of others were last renewed.
    renewed_ms: BTreeMap<(ItemId, ClientId), u64>,
    /// When a member that is not live was so for the last time.
    live_ms: BTreeMap<ClientId, u64>,
    /// Who was live at the last input, and when that was.
    live: BTreeSet<ClientId>,
    live_at_ms: u64,
    /// Nobody was known to hear us: until then nothing is staked, so that we come back as one who is alone, or heard.
    pub(super) unheard_until_ms: u64,
    /// Since when we listen without a gap.
    pub(super) listening_since_ms: u64,
    /// Our own claimed tasks.
    pub(super) work: Works,
    /// Contents of which somebody else has said something: our own tasks for them are judged anew.
    contested: BTreeSet<Scope>,
}

/// A task that is wanted.
#[derive(Debug, Default)]
struct Wanted {
    /// Since when it is.
    first_ms: u64,
    /// Since when nobody stands in our way, or will not any more.
    since_ms: u64,
    /// The items that it is wanted for, and whether they still miss it.
    items: BTreeMap<ItemId, bool>,
}

/// A claim that somebody has staked, ourselves included.
#[derive(Clone, Debug)]
pub(super) struct Staked {
    pub(super) item: ItemId,
    pub(super) dot: Dot,
    pub(super) claim: Claim,
    /// When it is void; never, if it is ours.
    pub(super) void_ms: u64,
}

/// What to do about a content that only the cloud can give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Our own claim stands from before: go on.
    Resume,
    /// Nobody is on it, and it is our turn.
    Stake,
    /// Somebody else is, or goes first: look again at this time at the latest.
    Wait(u64),
}

impl Claiming {
    pub(super) fn new(opened_ms: u64) -> Self {
        Self { listening_since_ms: opened_ms, ..Self::default() }
    }

    /// Whether nobody was live at the last input.
    pub(super) fn is_alone(&self) -> bool {
        self.live.is_empty()
    }

    /// When a member was last live, as of the last input.
    fn live_ms(&self, client: &ClientId) -> Option<u64> {
        match self.live.contains(client) {
            true => Some(self.live_at_ms),
            false => self.live_ms.get(client).copied(),
        }
    }

    /// Since when a content is wanted.
    pub(super) fn wanted_first_ms(&self, scope: &Scope) -> u64 {
        self.wanted.get(scope).map_or(0, |wanted| wanted.first_ms)
    }

    /// Since when nobody stands in the way of a wanted content.
    pub(super) fn wanted_since_ms(&self, scope: &Scope) -> u64 {
        self.wanted.get(scope).map_or(0, |wanted| wanted.since_ms)
    }

    /// All items for which a content is wanted, or was while others still wait for it.
    pub(super) fn wanted_with(&self, scope: &Scope) -> Vec<ItemId> {
        self.wanted.get(scope).map(|wanted| wanted.items.keys().copied().collect()).unwrap_or_default()
    }

    /// A task is wanted for an item no more. Returns its scope if it is for no other item either.
    fn unwant(&mut self, item: &ItemId) -> Option<Scope> {
        let scope = self.wanted_for.remove(item)?;
        let wanted = self.wanted.get_mut(&scope)?;
        wanted.items.insert(*item, false);
        if wanted.items.values().any(|missing| *missing) {
            return None;
        }
        self.wanted.remove(&scope);
        Some(scope)
    }

    /// Somebody stands in the way of a wanted content until this time, or no longer.
    pub(super) fn block(&mut self, scope: &Scope, until_ms: Option<u64>, now_ms: u64) {
        let Some(wanted) = self.wanted.get_mut(scope) else { return };
        match until_ms {
            Some(until_ms) => wanted.since_ms = until_ms,
            None => wanted.since_ms = wanted.since_ms.min(now_ms),
        }
    }
}

fn claim_key(scope: &Scope, item: &ItemId, owner: &ClientId) -> Vec<u8> {
    [&scope.0[..], &item.0, &owner.0].concat()
}

fn read_claim_key(key: &[u8]) -> Option<(ItemId, ClientId)> {
    let item = ItemId(key.get(25..41)?.try_into().ok()?);
    Some((item, ClientId(key.get(41..73)?.try_into().ok()?)))
}

impl<S: Store> Engine<S> {
    /// Follows an entry that is kept: the index of claims, their renewals, and the epochs that must not be forgotten.
    pub(super) fn index_claims(
        &mut self,
        owner: &ClientId,
        item: &ItemId,
        old: Option<&[u8]>,
        new: &[u8],
    ) -> Result<()> {
        let before = old.map(Entry::claims_in).transpose()?.unwrap_or_default();
        let after = Entry::claims_in(new)?;
        if before.is_empty() && after.is_empty() {
            return Ok(());
        }
        let scopes = |claims: &[Claim]| -> BTreeSet<_> {
            claims.iter().map(|claim| Scope::of(claim.task, &claim.target)).collect()
        };
        let (old_scopes, new_scopes) = (scopes(&before), scopes(&after));
        for scope in old_scopes.difference(&new_scopes) {
            self.tx.remove(Table::Claims, claim_key(scope, item, owner));
        }
        for scope in &new_scopes {
            self.tx.put(Table::Claims, claim_key(scope, item, owner), Vec::new());
        }
        for claim in &before {
            self.keep_epoch(Scope::of(claim.task, &claim.target), claim.epoch)?;
        }
        if *owner == self.config.me {
            return Ok(());
        }
        // Who is not live gets a lease to become so, from when we first hear of its claims.
        self.claiming.live_ms.entry(*owner).or_insert(self.now.mono_ms);
        self.claiming.contested.extend(old_scopes.union(&new_scopes));
        let (renewed_ms, key) = (&mut self.claiming.renewed_ms, (*item, *owner));
        if after.is_empty() {
            renewed_ms.remove(&key);
        } else if (renewed_ms.len() < RENEWALS_MAX) || renewed_ms.contains_key(&key) {
            renewed_ms.insert(key, self.now.mono_ms);
        }
        Ok(())
    }

    /// The epoch of a claim that is gone is remembered while the content is wanted here.
    fn keep_epoch(&mut self, scope: Scope, epoch: u64) -> Result<()> {
        if self.claiming.wanted.contains_key(&scope) && epoch > self.kept_epoch(&scope)? {
            self.tx.put(Table::Claims, scope.0.to_vec(), codec::encode(&epoch)?);
        }
        Ok(())
    }

    fn kept_epoch(&self, scope: &Scope) -> Result<u64> {
        Ok(match self.tx.get(Table::Claims, &scope.0)? {
            Some(_) if self.planted(Bug::EpochInMemory) => 0,
            Some(bytes) => codec::decode_prefix(&bytes)?.0,
            None => 0,
        })
    }

    /// A claimed task is wanted for an item; from now on, if it was not.
    pub(super) fn want(&mut self, item: ItemId, task: TaskKind, content: &Content) -> Result<Scope> {
        let scope = Scope::of(task, content);
        if self.claiming.wanted_for.get(&item) != Some(&scope) {
            self.unwant(&item)?;
            self.claiming.wanted_for.insert(item, scope);
            let since_ms = self.now.mono_ms;
            let new = || Wanted { first_ms: since_ms, since_ms, ..Wanted::default() };
            self.claiming.wanted.entry(scope).or_insert_with(new).items.insert(item, true);
        }
        Ok(scope)
    }

    /// No claimed task is wanted for an item any more.
    pub(super) fn unwant(&mut self, item: &ItemId) -> Result<()> {
        if let Some(scope) = self.claiming.unwant(item)
            && self.tx.get(Table::Claims, &scope.0)?.is_some()
        {
            self.tx.remove(Table::Claims, scope.0.to_vec());
        }
        Ok(())
    }

    /// All claims on a content, whatever the item, ours included; those of a client's earlier incarnation are void and
    /// left out.
    pub(super) fn claims_on(&self, task: TaskKind, content: &Content) -> Result<Vec<Staked>> {
        let scope = Scope::of(task, content);
        let mut staked = Vec::new();
        for (key, _) in self.tx.prefixed(Table::Claims, &scope.0, RIVALS_MAX)? {
            let Some((item, owner)) = read_claim_key(&key) else { continue };
            let Some((stamp, entry)) = self.entry_of(&item, &owner)? else { continue };
            if owner != self.config.me
                && stamp.incarnation < self.ledgers.myself.vector.get(&owner).incarnation
            {
                continue;
            }
            if let Some(claim) = entry.claim(task, content) {
                let (dot, claim) = (Dot { client: owner, stamp }, claim.clone());
                staked.push(Staked { item, dot, void_ms: self.void_ms(&item, &owner), claim });
            }
        }
        Ok(staked)
    }

    /// Notes who is live now. Whether somebody is who was not at the last input.
    pub(super) fn note_live(&mut self) -> bool {
        let came = !self.each_live().eq(self.claiming.live.iter().copied()) && self.live_changed();
        self.claiming.live_at_ms = self.now.mono_ms;
        came
    }

    fn live_changed(&mut self) -> bool {
        let (live, claiming) = (self.live(), &mut self.claiming);
        let came = !live.is_subset(&claiming.live);
        let gone = claiming.live.difference(&live).map(|client| (*client, claiming.live_at_ms));
        claiming.live_ms.extend(gone);
        claiming.live = live;
        came
    }

    /// When a claim is void unless it is renewed before; never, if it is ours.
    fn void_ms(&self, item: &ItemId, owner: &ClientId) -> u64 {
        if *owner == self.config.me {
            return u64::MAX;
        }
        let came_ms = self.claiming.renewed_ms.get(&(*item, *owner)).copied().unwrap_or(0);
        let lease = Lease(self.config.lease_ms);
        // A claim of one who is not live is not renewed, whatever it writes: it may not hear what we say.
        let live_ms = self.claiming.live_ms(owner).unwrap_or(0);
        // What came while we did not listen may be older than it seems, but never newer.
        let came_ms = came_ms.min(live_ms).max(self.claiming.listening_since_ms);
        match self.planted(Bug::NoDriftMargin) {
            true => lease.holder_stops_ms(came_ms),
            false => lease.void_ms(came_ms),
        }
    }

    /// The claims of others that stand now and compete with ours for an item's task. A content is downloaded once,
    /// whatever the item; every item needs an object of its own.
    pub(super) fn rivals(&self, item: &ItemId, task: TaskKind, content: &Content) -> Result<Vec<Staked>> {
        let (me, now_ms) = (self.config.me, self.now.mono_ms);
        let mut staked = self.claims_on(task, content)?;
        let competes = |staked: &Staked| task == TaskKind::Download || staked.item == *item;
        staked.retain(|staked| staked.dot.client != me && staked.void_ms > now_ms && competes(staked));
        Ok(staked)
    }

    /// Whether our claim on a content, as our entry for the item has it, wins over those of others that stand.
    pub(super) fn wins(&self, item: &ItemId, task: TaskKind, content: &Content) -> Result<bool> {
        let entry = self.own_entry(item)?;
        let Some(ours) = entry.claim(task, content) else { return Ok(false) };
        let rivals = self.rivals(item, task, content)?;
        let ours = Standing { dot: self.own_dot(item)?, claim: ours };
        let theirs = rivals.iter().map(|staked| Standing { dot: staked.dot, claim: &staked.claim });
        let standing: Vec<_> = theirs.chain([ours]).collect();
        if self.planted(Bug::LowerEpochWins) && standing.iter().any(|one| one.claim.epoch != ours.claim.epoch)
        {
            return Ok(standing.iter().all(|one| ours.claim.epoch <= one.claim.epoch));
        }
        Ok(claims::winner(&standing) == Some(self.config.me))
    }

    /// Whose turn it is to ask the cloud for a wanted content that nobody holds.
    pub(super) fn cloud_turn(&mut self, item: ItemId, scope: &Scope, content: &Content) -> Result<Turn> {
        let now_ms = self.now.mono_ms;
        let rivals = self.rivals(&item, TaskKind::Download, content)?;
        let ours = self.own_entry(&item)?.claim(TaskKind::Download, content).is_some();
        if ours && self.wins(&item, TaskKind::Download, content)? {
            return Ok(Turn::Resume);
        }
        self.withdraw_all_but(item, None)?;
        // All must be void before anybody else may stake.
        if let Some(until_ms) = rivals.iter().map(|rival| rival.void_ms).max() {
            self.claiming.block(scope, Some(until_ms), now_ms);
            let next_ms = rivals.iter().map(|rival| rival.void_ms).min().unwrap_or(until_ms);
            return Ok(Turn::Wait(next_ms));
        }
        self.claiming.block(scope, None, now_ms);
        if now_ms < self.claiming.unheard_until_ms {
            return Ok(Turn::Wait(self.claiming.unheard_until_ms));
        }
        let live = self.live();
        let turn = claims::turn(&self.config.me, &live, &content.key());
        let since_ms = self.claiming.wanted_since_ms(scope);
        let at_ms = since_ms.saturating_add(claims::turn_ms(turn, self.config.listen_ms));
        Ok(if now_ms < at_ms { Turn::Wait(at_ms) } else { Turn::Stake })
    }

    /// A claim on a content that supersedes every claim on it that we know of, not yet in our entry.
    pub(super) fn new_claim(&self, task: TaskKind, target: Content, floor: u64) -> Result<Claim> {
        let mut others = self.claims_on(task, &target)?;
        let scope = Scope::of(task, &target);
        let epochs = others.iter().map(|staked| staked.claim.epoch);
        let epoch = claims::next_epoch(epochs.chain([floor, self.kept_epoch(&scope)?]));
        others.retain(|staked| staked.dot.client != self.config.me);
        // The highest count: who saw them has seen what they superseded.
        others.sort_by_key(|staked| std::cmp::Reverse((staked.claim.epoch, staked.dot)));
        let seen = others.iter().take(SEEN_MAX).map(|staked| staked.dot).collect();
        Ok(Claim { task, target, epoch, seen, started: false, progress: 0, attempts: 0 })
    }

    /// Writes our claim for an item's task, instead of any other that our entry has, and watches over it.
    pub(super) fn stake(&mut self, item: ItemId, claim: Claim, leased: bool) -> Result<()> {
        let scope = Scope::of(claim.task, &claim.target);
        self.keep_epoch(scope, claim.epoch)?;
        let in_company = !self.claiming.is_alone();
        self.claiming.work.insert(item, Work::new(&claim, leased, in_company, self.now));
        self.write_claim(item, claim)
    }

    /// Waits for a moment after a claim was staked, so that others who stake at the same time are heard.
    pub(super) fn listen(&mut self, item: ItemId) {
        let until_ms = self.now.mono_ms.saturating_add(self.config.listen_ms);
        self.tasks.set_until(&item, Some(until_ms));
    }

    /// The work of a claim that won begins: the attempt is counted, and both are durable before its first effect leaves.
    pub(super) fn start_claimed(&mut self, item: ItemId, task: TaskKind, content: Content) -> Result<()> {
        let attempts = self.attempt_begins(item, content);
        match self.own_entry(&item)?.claim(task, &content).cloned() {
            Some(claim) => self.write_claim(item, Claim { started: true, attempts, ..claim }),
            None => Ok(()),
        }
    }

    /// Contents that others have said something of since the last time.
    pub(super) fn take_contested(&mut self) -> BTreeSet<Scope> {
        std::mem::take(&mut self.claiming.contested)
    }

    /// Takes our claims for an item out of our entry, all but those on this.
    pub(super) fn withdraw_all_but(
        &mut self,
        item: ItemId,
        kept: Option<(TaskKind, &Content)>,
    ) -> Result<()> {
        let mut entry = self.own_entry(&item)?;
        let before = entry.claims.len();
        entry.claims.retain(|claim| {
            kept.is_some_and(|(task, content)| claim.task == task && claim.target.same_as(content))
        });
        if entry.claims.len() < before {
            self.stage(item, entry);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "claiming_tests.rs"]
mod tests;
