//! Bringing a content here: from our own trash, from another file of this cache, from members, else once for the whole
//! workgroup from the cloud.
//!
//! What is here, or what a member holds, is taken without any claim. The cloud is asked by one: whose turn it is stakes
//! a claim, listens, and begins only as the winner; the others wait until somebody holds the content, or until the claim
//! is void (`claiming`, `leases`).

use super::claiming::{Scope, Turn};
use super::exchange::Peer;
use super::feed::is_kept;
use super::slots::{PLACE_FIRST, Slot, is_small};
use super::tasks::{Download, DownloadStep, Job, short};
use super::upload::object_id;
use super::{Engine, Result};
use crate::catalog::{CatalogRow, ChainLink};
use crate::claims;
use crate::content::Content;
use crate::entry::{Entry, OwnedEntry, TaskKind};
use crate::ids::{ClientId, ItemId};
use crate::paths::MediaPath;
use crate::planted::Bug;
use crate::ports::{Effect, Event, Outcome, Publish};
use crate::store::Store;
use std::collections::BTreeSet;

/// After a start nobody may be live yet whom we do not know of: so long the cloud is not asked.
const ALONE_MS: u64 = 2_000;
/// Two items with one content share its partial file: the second waits, and looks again after this time.
const SHARED_MS: u64 = 500;
/// Among so many other items that want the same content holders are looked for.
const TWINS_MAX: usize = 16;

/// Where a content is to come from.
enum Source {
    /// Our own trash.
    Trash,
    /// Another file of this cache.
    Here(MediaPath, Content),
    Member(ClientId, Content),
    /// The cloud; whether by a claim of ours that stands already.
    Cloud(bool),
    /// Somebody else is on it, or goes first: look again at this time at the latest.
    Wait(u64),
}

impl<S: Store> Engine<S> {
    pub(super) fn begin_download(
        &mut self,
        item: ItemId,
        entry: &Entry,
        row: Option<CatalogRow>,
    ) -> Result<()> {
        let Some(mut row) = row else { return Ok(()) };
        if let Some(was) = self.lost_content(&item, Some(&row)) {
            // Not C: what a refused change has replaced there, from members or from the object that it has still.
            (row.content, row.object) = (was.content, Some(object_id(&item, &was.content, 0)));
        }
        self.withdraw_all_but(item, Some((TaskKind::Download, &row.content)))?;
        let mut held = entry.held_content().copied();
        if !self.claim_path(&item, &row.cache_path)? {
            match self.tracked(&row.cache_path)?.filter(|_| self.planted(Bug::TwoItemsOnePath)) {
                Some(other) => held = self.own_entry(&other.item)?.held_content().copied(),
                None => return self.wait_for_path(item, &row.cache_path),
            }
        }
        let scope = self.want(item, TaskKind::Download, &row.content)?;
        let untrash = held.is_none() && self.queue.may_be_in_trash(&item);
        let source = match untrash {
            true => Source::Trash,
            false => self.source(item, &scope, &row.content)?,
        };
        let resume = match source {
            Source::Cloud(resume) => Some(resume),
            _ => None,
        };
        let (step, content, lender) = match source {
            Source::Trash => (DownloadStep::Untrash, row.content, None),
            Source::Here(path, content) => (DownloadStep::Borrow, content, Some(path)),
            Source::Member(from, content) => (DownloadStep::Fetch(from), content, None),
            Source::Cloud(_) => (DownloadStep::Listen, row.content, None),
            Source::Wait(at_ms) => {
                self.queue.later(item, at_ms);
                return Ok(());
            }
        };
        if self.tasks.brings(&content) {
            self.queue.later(item, self.now.mono_ms + SHARED_MS);
            return Ok(());
        }
        if resume.is_some() && self.is_parked(item, &content) {
            return self.withdraw_all_but(item, None);
        }
        let slot = if resume.is_some() && is_small(&content) { Slot::Ahead } else { Slot::Download };
        if self.free_slots(slot) == 0 {
            // Those first for which we rank high, so that members take different ones first.
            let place = u64::MAX - claims::rendezvous(&self.config.me, &content.key());
            self.queue.wait_for_slot(slot, item, place.max(PLACE_FIRST));
            return self.withdraw_all_but(item, None);
        }
        let base = entry
            .copy
            .as_ref()
            .and_then(|copy| copy.base)
            .and_then(|base| row.chain.iter().position(|link| link.revision == base.revision));
        // What came after our base, C at the least: an earlier content that stands there was saved by a person.
        let last = row.chain.len().saturating_sub(1);
        let after_base = base.map_or(last, |base| last.min(base + 1));
        // A file that keeps another spelling of the name keeps it.
        let present = entry.copy.as_ref().and_then(|copy| copy.held.as_ref()).map(|held| held.path.clone());
        let present = present.filter(|path| path.folded() == row.cache_path.folded());
        let download = Download {
            target: ChainLink { revision: row.revision, content: row.content },
            object: row.object_name(),
            path: present.unwrap_or(row.cache_path),
            expected: held,
            known: row.chain.iter().skip(after_base).map(|link| link.content).collect(),
            lender,
            step,
        };
        self.begin(item, content, Job::Download(Box::new(download)));
        match resume {
            Some(resume) => self.claim_download(item, content, resume),
            None => self.withdraw_all_but(item, None),
        }
    }

    pub(super) fn download_effect(
        &self,
        item: ItemId,
        download: &Download,
        content: Content,
    ) -> Option<Effect> {
        Some(match download.step {
            DownloadStep::Untrash => Effect::Untrash { content },
            DownloadStep::Borrow => Effect::Borrow { path: download.lender.clone()?, content },
            DownloadStep::Fetch(from) => {
                let check_md5 = download.target.content.blake3.is_none();
                Effect::Fetch { from, content, check_md5 }
            }
            DownloadStep::Listen => return None,
            DownloadStep::Get => Effect::Get { object: download.object, content: download.target.content },
            DownloadStep::Publish => Effect::Publish(Box::new(Publish {
                item,
                path: download.path.clone(),
                content,
                expected: download.expected,
                known: download.known.clone(),
            })),
        })
    }

    fn source(&mut self, item: ItemId, scope: &Scope, wanted: &Content) -> Result<Source> {
        if let Some((path, content)) = self.lender(item, scope, wanted)? {
            return Ok(Source::Here(path, content));
        }
        let (live, key) = (self.live(), wanted.key());
        let entries = self.entries(&item)?;
        let holders = self.holders(item, &entries, scope, wanted, &live)?;
        let best = holders.into_iter().min_by_key(|(client, _)| {
            (self.tasks.fetches_from(client), std::cmp::Reverse(claims::rendezvous(client, &key)))
        });
        if let Some((client, content)) = best {
            return Ok(Source::Member(client, content));
        }
        let since_ms = self.claiming.wanted_first_ms(scope);
        if let Some(at_ms) = self.comes_nearer_until_ms(&entries, wanted, since_ms) {
            return Ok(Source::Wait(at_ms));
        }
        // A member that just became live needs a moment to tell what it holds: nobody stakes before that.
        if let Some(at_ms) = self.tells_until_ms(since_ms) {
            self.claiming.block(scope, Some(at_ms), self.now.mono_ms);
            return Ok(Source::Wait(at_ms));
        }
        Ok(match self.cloud_turn(item, scope, wanted)? {
            Turn::Resume => Source::Cloud(true),
            Turn::Stake => Source::Cloud(false),
            Turn::Wait(at_ms) => Source::Wait(at_ms),
        })
    }

    /// Another file of this cache that has the content, and the content as our entry has it.
    fn lender(&self, item: ItemId, scope: &Scope, wanted: &Content) -> Result<Option<(MediaPath, Content)>> {
        let mut lenders = self.claiming.wanted_with(scope);
        if let Some(blake3) = &wanted.blake3 {
            lenders.extend(self.holding(blake3)?);
        }
        let now_ms = self.now.mono_ms;
        for lender in lenders {
            if lender == item
                || self.queue.is_shunned(item, self.config.me, now_ms)
                || self.watch.is_unknown(&lender)
            {
                continue;
            }
            let held = self.own_entry(&lender)?.copy.and_then(|copy| copy.held);
            if let Some(held) = held.filter(|held| held.content.same_as(wanted)) {
                return Ok(Some((held.path, held.content)));
            }
        }
        Ok(None)
    }

    /// Live members that hold the content, as this item or as another that we want it for.
    fn holders(
        &self,
        item: ItemId,
        entries: &[OwnedEntry],
        scope: &Scope,
        wanted: &Content,
        live: &BTreeSet<ClientId>,
    ) -> Result<Vec<(ClientId, Content)>> {
        let gives = |entry: &OwnedEntry| self.can_give(item, entry, wanted, live);
        let mut holders: Vec<_> = entries.iter().filter_map(gives).collect();
        let others = self.claiming.wanted_with(scope).into_iter().filter(|other| *other != item);
        for other in others.take(TWINS_MAX) {
            holders.extend(self.entries(&other)?.iter().filter_map(gives));
        }
        Ok(holders)
    }

    /// Until when members may still tell that they hold what is wanted since then: those that we have yet to meet, and
    /// live ones whose ledgers we do not know to their end. The cloud is not asked before.
    fn tells_until_ms(&self, since_ms: u64) -> Option<u64> {
        let now_ms = self.now.mono_ms;
        if let Some(until_ms) = self.greeting_until_ms() {
            return Some(until_ms.min(now_ms + self.config.listen_ms));
        }
        let alone_until_ms = self.opened_ms + ALONE_MS;
        if self.live().is_empty() && now_ms < alone_until_ms {
            return Some(alone_until_ms);
        }
        let vector = self.vector();
        let behind = |peer: &Peer| {
            peer.connected
                && peer.heartbeat.as_ref().is_some_and(|heartbeat| !vector.covers(&heartbeat.vector))
        };
        let patience = now_ms < since_ms.saturating_add(self.config.lease_ms);
        (patience && self.peers.values().any(behind)).then(|| now_ms + self.config.listen_ms)
    }

    /// The owner of an entry and the content as it has it, if it can be asked for it.
    pub(super) fn can_give(
        &self,
        item: ItemId,
        entry: &OwnedEntry,
        wanted: &Content,
        live: &BTreeSet<ClientId>,
    ) -> Option<(ClientId, Content)> {
        let (owner, now_ms) = (entry.owner(), self.now.mono_ms);
        let held = entry.entry.held_content().filter(|held| held.same_as(wanted))?;
        let able = owner != self.config.me
            && held.blake3.is_some()
            && live.contains(&owner)
            && self.peers.get(&owner).is_some_and(|peer| peer.connected)
            && !self.queue.is_shunned(item, owner, now_ms);
        able.then_some((owner, *held))
    }

    /// Stakes our claim to fetch a content from the cloud, or goes on with the one that stands, and listens for others.
    fn claim_download(&mut self, item: ItemId, target: Content, resume: bool) -> Result<()> {
        let ours = self.own_entry(&item)?.claim(TaskKind::Download, &target).cloned();
        let claim = match ours.filter(|_| resume) {
            Some(claim) => claim,
            None => self.new_claim(TaskKind::Download, target, 0)?,
        };
        self.stake(item, claim, true)?;
        self.listen(item);
        Ok(())
    }

    /// Whether a download that has yet to begin would be begun as it is now. If not, the item is judged again: it may be
    /// claimed for long before it begins.
    pub(super) fn would_begin(&self, item: &ItemId, download: &Download) -> Result<bool> {
        let (entry, row) = (self.own_entry(item)?, self.row(item)?);
        let target_stands = row.is_some_and(|row| {
            is_kept(&row)
                && row.revision == download.target.revision
                && row.cache_path.folded() == download.path.folded()
        });
        let file_stands =
            entry.held_content().copied() == download.expected || self.planted(Bug::TwoItemsOnePath);
        Ok(target_stands && file_stands && !self.restoring.holds_back() && !self.is_to_be_killed(item)?)
    }

    /// We have listened: the winner begins, the others withdraw.
    pub(super) fn listened(&mut self, item: ItemId) -> Result<()> {
        let Some(task) = self.tasks.get(&item) else { return Ok(()) };
        let content = task.content;
        let Job::Download(download) = &task.job else { return Ok(()) };
        let mut download = download.clone();
        let live = self.live();
        let scope = Scope::of(TaskKind::Download, &content);
        let held_elsewhere = !self.holders(item, &self.entries(&item)?, &scope, &content, &live)?.is_empty();
        if held_elsewhere || !self.wins(&item, TaskKind::Download, &content)? {
            self.withdraw_all_but(item, None)?;
            self.end(item);
            return Ok(());
        }
        self.start_claimed(item, TaskKind::Download, content)?;
        download.step = DownloadStep::Get;
        self.tasks.set_job(&item, Job::Download(download));
        self.next_step(item);
        Ok(())
    }

    pub(super) fn download_done(
        &mut self,
        item: ItemId,
        mut download: Download,
        outcome: Outcome,
    ) -> Result<()> {
        let done = matches!(outcome, Outcome::Done { .. });
        match download.step {
            DownloadStep::Publish => return self.published(item, download, outcome),
            DownloadStep::Untrash if !done => {
                self.queue.not_in_trash(item);
                self.end(item);
                return Ok(());
            }
            DownloadStep::Borrow if !done => {
                self.queue.shun(item, self.config.me, self.now.mono_ms + self.config.lease_ms);
                self.end(item);
                return Ok(());
            }
            DownloadStep::Fetch(from) if !done => {
                self.queue.shun(item, from, self.now.mono_ms + self.config.lease_ms);
                if outcome == Outcome::Corrupt {
                    self.event(Event::SentOtherBytes(from, item));
                }
                self.end(item);
                return Ok(());
            }
            DownloadStep::Get
                if matches!(outcome, Outcome::Missing | Outcome::Corrupt) && self.cannot_go_back(item)? =>
            {
                return Ok(());
            }
            DownloadStep::Get if !done => {
                let why = match outcome {
                    Outcome::Missing => {
                        "its object is not in the object store, and no reachable member holds it"
                    }
                    Outcome::Corrupt => {
                        "its object in the object store holds other bytes than the catalog says"
                    }
                    ref other => short(other),
                };
                let text = format!("{}: {why}", download.path);
                if matches!(outcome, Outcome::Missing | Outcome::Corrupt) {
                    return self.found_unsound(item, download.object, text);
                }
                return self.end_badly(item, format!("{text}; will try again"));
            }
            DownloadStep::Fetch(from) => {
                self.event(Event::FetchedFrom(item, download.path.clone(), from));
            }
            DownloadStep::Get => {
                self.count_cloud_fetch();
                self.event(Event::FetchedFromCloud(item, download.path.clone()));
            }
            DownloadStep::Untrash | DownloadStep::Borrow | DownloadStep::Listen => {}
        }
        // Somebody may have saved here, or the catalog moved on, while the bytes came: judge once more before placing.
        let entry = self.own_entry(&item)?;
        let row = self.row(&item)?;
        let target_stands = row.is_some_and(|row| {
            row.revision == download.target.revision && row.cache_path.folded() == download.path.folded()
        });
        let judged_anew =
            entry.held_content().copied() != download.expected || !self.claim_path(&item, &download.path)?;
        if self.restoring.holds_back()
            || self.watch.is_unknown(&item)
            || !target_stands
            || (judged_anew && !self.planted(Bug::TwoItemsOnePath))
        {
            self.end(item);
            return Ok(());
        }
        download.step = DownloadStep::Publish;
        self.tasks.set_job(&item, Job::Download(Box::new(download)));
        self.next_step(item);
        Ok(())
    }

    fn published(&mut self, item: ItemId, download: Download, outcome: Outcome) -> Result<()> {
        let (stat, kept_as) = match outcome {
            Outcome::Done { stat } => (stat, None),
            Outcome::Edited { stat, kept_as } => (stat, Some(kept_as)),
            _ => return self.doubt(item, download.path),
        };
        let content = self.tasks.get(&item).map_or(download.target.content, |task| task.content);
        if self.queue.found(&item) {
            self.event(Event::Restored(item, download.path.clone()));
        }
        self.record_held(item, download.path, content, download.target, stat)?;
        self.goes_back(item)?;
        if let Some(kept_as) = kept_as {
            self.note_kept(item, &kept_as)?;
            self.watch.look_again(kept_as, self.now.mono_ms + self.config.quiet_ms);
        }
        self.end_well(item);
        Ok(())
    }
}
