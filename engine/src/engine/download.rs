//! Bringing a content here: from our own trash, from members, else once for the whole workgroup from the cloud.
//!
//! A member that holds the content is asked without any claim. The cloud is asked by one: whose turn it is stakes a
//! claim, listens, and begins only as the winner; the others wait until somebody holds the content, or until the
//! claims of those who went silent are void.

use super::exchange::Peer;
use super::settling::Slot;
use super::tasks::{Download, DownloadStep, Job, short};
use super::{Engine, Result};
use crate::catalog::{CatalogRow, ChainLink};
use crate::claims::{self, Standing};
use crate::content::Content;
use crate::entry::{Claim, Entry, OwnedEntry, TaskKind};
use crate::ids::{ClientId, ItemId};
use crate::paths::MediaPath;
use crate::ports::{Effect, Event, Outcome, Publish};
use crate::store::Store;
use std::collections::BTreeSet;

/// After a start nobody may be live yet whom we do not know of: so long the cloud is not asked.
const ALONE_MS: u64 = 2_000;
/// Two items with one content share its partial file: the second waits, and looks again after this time.
const SHARED_MS: u64 = 500;

/// Where a content is to come from.
enum Source {
    Member(ClientId, Content),
    Cloud,
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
        let Some(row) = row else { return Ok(()) };
        if !self.claim_path(&item, &row.cache_path)? {
            return self.wait_for_path(item, &row.cache_path);
        }
        let held = entry.held_content().copied();
        let untrash = held.is_none() && self.queue.may_be_in_trash(&item);
        let (step, content) = match untrash {
            true => (DownloadStep::Untrash, row.content),
            false => match self.source(item, &row.content)? {
                Source::Member(from, content) => (DownloadStep::Fetch(from), content),
                Source::Cloud => (DownloadStep::Listen, row.content),
                Source::Wait(at_ms) => {
                    self.queue.later(item, at_ms);
                    return Ok(());
                }
            },
        };
        if self.brings(&content) {
            self.queue.later(item, self.now.mono_ms + SHARED_MS);
            return Ok(());
        }
        if !self.has_slot(Slot::Download, item) {
            return Ok(());
        }
        let base = entry
            .copy
            .as_ref()
            .and_then(|copy| copy.base)
            .and_then(|base| row.chain.iter().position(|link| link.revision == base.revision));
        // What came after our base, C at the least: an earlier content that stands there was saved by a person.
        let last = row.chain.len().saturating_sub(1);
        let after_base = base.map_or(last, |base| last.min(base + 1));
        let download = Download {
            target: ChainLink { revision: row.revision, content: row.content },
            object: row.object_name(),
            path: row.cache_path,
            expected: held,
            known: row.chain.iter().skip(after_base).map(|link| link.content).collect(),
            step,
        };
        self.begin(item, content, Job::Download(Box::new(download)));
        if step == DownloadStep::Listen {
            self.stake(item, content)?;
        }
        Ok(())
    }

    pub(super) fn download_effect(
        &self,
        item: ItemId,
        download: &Download,
        content: Content,
    ) -> Option<Effect> {
        Some(match download.step {
            DownloadStep::Untrash => Effect::Untrash { content },
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

    fn source(&mut self, item: ItemId, wanted: &Content) -> Result<Source> {
        let (live, now_ms) = (self.live(), self.now.mono_ms);
        let entries = self.entries(&item)?;
        let key = wanted.key();
        let holders = entries.iter().filter_map(|entry| self.can_give(entry, wanted, &live));
        let best = holders.min_by_key(|(client, _)| {
            (self.fetches_from(client), std::cmp::Reverse(claims::rendezvous(client, &key)))
        });
        if let Some((client, content)) = best {
            return Ok(Source::Member(client, content));
        }
        let others_claim = entries.iter().any(|entry| {
            entry.owner() != self.config.me
                && live.contains(&entry.owner())
                && entry.entry.claim(TaskKind::Download, wanted).is_some()
        });
        if others_claim {
            return Ok(Source::Wait(now_ms + self.config.lease_ms));
        }
        let turn = claims::turn(&self.config.me, &live, &key) as u64;
        let since_ms = self.queue.wanted_since_ms(item, now_ms);
        if let Some(at_ms) = self.tells_until_ms(since_ms) {
            return Ok(Source::Wait(at_ms));
        }
        // A member that just became live needs a moment to tell what it holds: nobody stakes before that.
        let at_ms = since_ms.saturating_add(self.config.listen_ms * (1 + 4 * turn));
        Ok(if now_ms < at_ms { Source::Wait(at_ms) } else { Source::Cloud })
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
        entry: &OwnedEntry,
        wanted: &Content,
        live: &BTreeSet<ClientId>,
    ) -> Option<(ClientId, Content)> {
        let (owner, now_ms) = (entry.owner(), self.now.mono_ms);
        let held = entry.entry.held_content().filter(|held| held.same_as(wanted))?;
        let able = owner != self.config.me
            && held.blake3.is_some()
            && live.contains(&owner)
            && !self.queue.is_shunned(entry.item, owner, now_ms);
        able.then_some((owner, *held))
    }

    pub(super) fn fetches_from(&self, client: &ClientId) -> usize {
        let fetches = |job: &Job| match job {
            Job::Download(download) => download.step == DownloadStep::Fetch(*client),
            Job::Take(take) => take.from == *client && !take.publishing,
            _ => false,
        };
        self.tasks.values().filter(|task| fetches(&task.job)).count()
    }

    /// Stakes our claim to fetch a content from the cloud, and listens for others.
    fn stake(&mut self, item: ItemId, target: Content) -> Result<()> {
        let entries = self.entries(&item)?;
        let rivals = entries.iter().filter(|entry| entry.owner() != self.config.me).filter_map(|entry| {
            entry.entry.claim(TaskKind::Download, &target).map(|claim| (entry.dot, claim.epoch))
        });
        let (seen, epochs): (Vec<_>, Vec<_>) = rivals.unzip();
        let mut entry = self.own_entry(&item)?;
        let own_epoch = entry.claim(TaskKind::Download, &target).map_or(0, |claim| claim.epoch);
        let epoch = epochs.into_iter().max().unwrap_or(0).max(own_epoch) + 1;
        let task = TaskKind::Download;
        entry.claims = vec![Claim { task, target, epoch, seen, started: false, progress: 0, attempts: 1 }];
        self.stage(item, entry);
        if let Some(task) = self.tasks.get_mut(&item) {
            task.until_ms = Some(self.now.mono_ms + self.config.listen_ms);
        }
        Ok(())
    }

    /// We have listened: the winner begins, the others withdraw.
    pub(super) fn listened(&mut self, item: ItemId) -> Result<()> {
        let Some(task) = self.tasks.get_mut(&item) else { return Ok(()) };
        task.until_ms = None;
        let content = task.content;
        let Job::Download(download) = &task.job else { return Ok(()) };
        let mut download = download.clone();
        let live = self.live();
        let entries = self.entries(&item)?;
        let standing: Vec<_> = entries
            .iter()
            .filter(|entry| entry.owner() == self.config.me || live.contains(&entry.owner()))
            .filter_map(|entry| {
                let claim = entry.entry.claim(TaskKind::Download, &content)?;
                Some(Standing { dot: entry.dot, claim })
            })
            .collect();
        let held_elsewhere = entries.iter().any(|entry| self.can_give(entry, &content, &live).is_some());
        if held_elsewhere || claims::winner(&standing) != Some(self.config.me) {
            self.end(item);
            return Ok(());
        }
        let mut entry = self.own_entry(&item)?;
        entry.claims.iter_mut().for_each(|claim| claim.started = true);
        self.stage(item, entry);
        download.step = DownloadStep::Get;
        if let Some(task) = self.tasks.get_mut(&item) {
            task.job = Job::Download(download);
        }
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
            DownloadStep::Fetch(from) if !done => {
                self.queue.shun(item, from, self.now.mono_ms + self.config.lease_ms);
                if outcome == Outcome::Corrupt {
                    self.event(Event::Refused(from, "it sent other bytes than it should".into()));
                }
                self.end(item);
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
                    other => short(&other),
                };
                return self.end_badly(item, format!("{}: {why}; will try again", download.path));
            }
            DownloadStep::Fetch(from) => {
                self.event(Event::FetchedFrom(item, download.path.clone(), from));
            }
            DownloadStep::Get => {
                self.count_cloud_fetch();
                self.event(Event::FetchedFromCloud(item, download.path.clone()));
            }
            DownloadStep::Untrash | DownloadStep::Listen => {}
        }
        // Somebody may have saved here, or the catalog moved on, while the bytes came: judge once more before placing.
        let entry = self.own_entry(&item)?;
        let row = self.row(&item)?;
        let target_stands = row.is_some_and(|row| row.revision == download.target.revision);
        if !target_stands || entry.held_content().copied() != download.expected {
            self.end(item);
            return Ok(());
        }
        download.step = DownloadStep::Publish;
        if let Some(task) = self.tasks.get_mut(&item) {
            task.job = Job::Download(Box::new(download));
        }
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
        if let Some(kept_as) = kept_as {
            self.keep_beside(item, kept_as)?;
        }
        self.end_well(item);
        Ok(())
    }

    /// An edit that stood in a place was kept under another name: that name is a version item's.
    pub(super) fn keep_beside(&mut self, item: ItemId, kept_as: MediaPath) -> Result<()> {
        let version = ItemId::derive("tcat 1 version", &[&item.0, kept_as.as_str().as_bytes()]);
        self.claim_path(&version, &kept_as)?;
        self.note_version(version, item);
        self.watch.look_again(kept_as.clone(), self.now.mono_ms + self.config.quiet_ms);
        self.counts.conflicts += 1;
        self.event(Event::Conflict(item, kept_as));
        Ok(())
    }
}
