//! Removing an item for good: a person's wish, then condemning its objects, deleting them, and the removal record.
//!
//! What holds always: a wish is written down with the revision that the person saw before anybody is asked; no object
//! is deleted whose name the catalog has not condemned; every step can be done twice, by two, and after any pause, since
//! the catalog fences each by the claim's epoch and the row's state. Who goes on after a crash is whoever sees the row.
//!
//! Left out: what becomes of the files (settle's rows 2 and 4).

use super::slots::Slot;
use super::tasks::Job;
use super::{Engine, Result};
use crate::catalog::{CatalogRow, FeedChange, Refusal, Revision};
use crate::catalog_orders::{Kill, KillStep, Killing};
use crate::catalog_rules::being_killed;
use crate::claims::{self, Standing};
use crate::codec;
use crate::entry::{CLAIMS_MAX, Claim, Entry, TaskKind};
use crate::ids::{ItemId, ObjectId};
use crate::planted::Bug;
use crate::ports::{Effect, Event, Outcome};
use crate::store::{Store, Table};

/// A kill under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Killer {
    pub(super) kill: Kill,
    /// The condemned names whose objects are still to be deleted.
    pub(super) objects: Vec<ObjectId>,
    pub(super) doing: Doing,
}

/// What a killer does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doing {
    /// Asks the catalog for the next step.
    Asks,
    /// A claim is staked: it listens for others.
    Listens,
    /// Deletes the last of the condemned objects.
    Deletes,
}

impl Killer {
    pub(super) fn effect(&self) -> Option<Effect> {
        match (self.doing, self.objects.last()) {
            (Doing::Listens, _) => None,
            (Doing::Deletes, Some(object)) => Some(Effect::Delete { object: *object }),
            _ => Some(Effect::Kill(Box::new(self.kill.clone()))),
        }
    }
}

impl<S: Store> Engine<S> {
    /// A person wants an item deleted everywhere, as it stands in our mirror.
    pub(super) fn person_deletes(&mut self, item: ItemId) -> Result<()> {
        match self.row(&item)?.filter(|row| !being_killed(row)) {
            Some(row) => self.ask_kill(item, row.revision),
            None => {
                self.event(Event::NotKilled(
                    item,
                    "it is not in the catalog, or being removed already".into(),
                ));
                Ok(())
            }
        }
    }

    /// Writes down that an item is to be killed, as of this revision.
    pub(super) fn ask_kill(&mut self, item: ItemId, revision: Revision) -> Result<()> {
        self.tx.put(Table::Tasks, asked_key(&item), codec::encode(&revision)?);
        self.queue.ready(item);
        Ok(())
    }

    /// Whether a person has asked for the item's removal, and the catalog has yet to be told.
    pub(super) fn is_to_be_killed(&self, item: &ItemId) -> Result<bool> {
        Ok(self.tx.get(Table::Tasks, &asked_key(item))?.is_some())
    }

    /// Goes on with a person's wish; true if there is nothing else to do for the item now.
    pub(super) fn carry_wish(&mut self, item: ItemId, row: Option<&CatalogRow>) -> Result<bool> {
        let Some(bytes) = self.tx.get(Table::Tasks, &asked_key(&item))? else { return Ok(false) };
        let revision: Revision = codec::decode(&bytes)?;
        match row {
            Some(row) if !being_killed(row) && row.revision == revision => {}
            Some(row) if !being_killed(row) => {
                self.wish_is_void(item);
                return Ok(false);
            }
            None if !self.feed.is_known() => return Ok(false),
            // The row says it now, or is gone.
            _ => {
                self.tx.remove(Table::Tasks, asked_key(&item));
                return Ok(false);
            }
        }
        let Some(row) = row.filter(|_| self.has_slot(Slot::Upload, item)) else { return Ok(true) };
        let killer =
            Killer { kill: self.kill_of(row, KillStep::Request, 0), objects: vec![], doing: Doing::Asks };
        self.begin(item, row.content, Job::Kill(Box::new(killer)));
        Ok(true)
    }

    /// What the person saw is not what stands there now: it stays, and they are told.
    fn wish_is_void(&mut self, item: ItemId) {
        self.tx.remove(Table::Tasks, asked_key(&item));
        let why = "it was changed after that was asked; delete it again if you still want that";
        self.event(Event::NotKilled(item, why.into()));
    }

    fn kill_of(&self, row: &CatalogRow, step: KillStep, claim_epoch: u64) -> Kill {
        Kill {
            step,
            item: row.item,
            revision: row.revision,
            claim_epoch,
            catalog_epoch: self.feed.position().epoch,
            author: self.config.me,
        }
    }

    /// The epoch for our next claim to upload or kill an item: one above the row's and every such claim seen for it.
    pub(super) fn next_item_epoch(&self, row: &CatalogRow) -> Result<u64> {
        let entries = self.entries(&row.item)?;
        let claims = entries.iter().flat_map(|entry| &entry.entry.claims);
        let seen = claims.filter(|claim| matches!(claim.task, TaskKind::Upload | TaskKind::Kill));
        Ok(seen.map(|claim| claim.epoch).max().unwrap_or(0).max(row.claim_epoch) + 1)
    }

    /// A row that is being killed, and nothing of it is here any more: one client removes its objects.
    pub(super) fn kill_or_wait(&mut self, item: ItemId, row: &CatalogRow) -> Result<()> {
        let (live, now_ms) = (self.live(), self.now.mono_ms);
        let entries = self.entries(&item)?;
        let claimed = entries.iter().find(|entry| {
            live.contains(&entry.owner()) && entry.entry.claim(TaskKind::Kill, &row.content).is_some()
        });
        if let Some(entry) = claimed {
            self.queue.rest(item, "another client is removing it", now_ms + self.config.lease_ms);
            self.queue.leave_to(item, entry.owner());
            return Ok(());
        }
        let turn = claims::turn(&self.config.me, &live, &row.content.key());
        let scope = self.want(item, TaskKind::Kill, &row.content)?;
        let at_ms = self.claiming.wanted_since_ms(&scope) + claims::turn_ms(turn, self.config.listen_ms);
        if now_ms < at_ms {
            self.queue.later(item, at_ms);
            return Ok(());
        }
        if !self.has_slot(Slot::Upload, item) {
            return Ok(());
        }
        let epoch = self.next_item_epoch(row)?;
        let seen = entries.iter().filter(|entry| entry.entry.claim(TaskKind::Kill, &row.content).is_some());
        let seen = seen.map(|entry| entry.dot).take(64).collect();
        let entry = self.own_entry(&item)?;
        let mut claims = entry.claims.clone();
        claims.truncate(CLAIMS_MAX - 1);
        let (task, target) = (TaskKind::Kill, row.content);
        claims.push(Claim { task, target, epoch, seen, started: false, progress: 0, attempts: 1 });
        self.stage(item, Entry { claims, ..entry });
        let kill = self.kill_of(row, KillStep::Condemn, epoch);
        self.begin(
            item,
            row.content,
            Job::Kill(Box::new(Killer { kill, objects: vec![], doing: Doing::Listens })),
        );
        self.tasks.set_until(&item, Some(now_ms + self.config.listen_ms));
        Ok(())
    }

    /// We have listened: the winner condemns, the others withdraw.
    pub(super) fn kill_listened(&mut self, item: ItemId, mut killer: Killer) -> Result<()> {
        let Some(content) = self.tasks.get(&item).map(|task| task.content) else { return Ok(()) };
        let (live, entries) = (self.live(), self.entries(&item)?);
        let ours = |client| client == self.config.me || live.contains(&client);
        let standing: Vec<_> = entries
            .iter()
            .filter(|entry| ours(entry.owner()))
            .filter_map(|entry| {
                Some(Standing { dot: entry.dot, claim: entry.entry.claim(TaskKind::Kill, &content)? })
            })
            .collect();
        if claims::winner(&standing) != Some(self.config.me) || self.restoring.holds_back() {
            self.end(item);
            return Ok(());
        }
        let mut entry = self.own_entry(&item)?;
        entry.claims.iter_mut().for_each(|claim| claim.started = true);
        self.stage(item, entry);
        killer.doing = Doing::Asks;
        if self.planted(Bug::CollectorPauses)
            && let Some(row) = self.row(&item)?
        {
            (killer.objects, killer.doing) = (vec![row.object_name()], Doing::Deletes);
        }
        self.go_on_killing(item, killer);
        Ok(())
    }

    fn go_on_killing(&mut self, item: ItemId, killer: Killer) {
        self.tasks.set_job(&item, Job::Kill(Box::new(killer)));
        self.next_step(item);
    }

    pub(super) fn kill_done(&mut self, item: ItemId, mut killer: Killer, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Done { .. } if killer.doing == Doing::Deletes => {
                killer.objects.pop();
            }
            Outcome::Killed(Killing::Row { row, objects }) => {
                let was_request = killer.kill.step == KillStep::Request;
                self.apply_row(*row)?;
                if was_request {
                    self.end_well(item);
                    return Ok(());
                }
                killer.objects = objects;
            }
            Outcome::Killed(Killing::Removed(record)) => {
                self.event(Event::Killed(item, record.cache_path.clone()));
                self.apply_answer(FeedChange::Removed(record))?;
                self.end_well(item);
                return Ok(());
            }
            Outcome::Killed(Killing::Refused { why, row }) => {
                return self.kill_refused(item, &killer, why, row);
            }
            _ => return self.end_badly(item, "the catalog gave no answer that fits; will ask again".into()),
        }
        if self.restoring.holds_back() {
            self.end(item);
            return Ok(());
        }
        let left = !killer.objects.is_empty();
        killer.doing = if left { Doing::Deletes } else { Doing::Asks };
        killer.kill.step = if left { killer.kill.step } else { KillStep::Complete };
        self.go_on_killing(item, killer);
        Ok(())
    }

    fn kill_refused(
        &mut self,
        item: ItemId,
        killer: &Killer,
        why: Refusal,
        row: Option<Box<CatalogRow>>,
    ) -> Result<()> {
        if let Some(row) = row {
            self.apply_row(*row)?;
        }
        self.feed.hint(self.now.mono_ms);
        if killer.kill.step == KillStep::Request && why == Refusal::Revision {
            self.wish_is_void(item);
        }
        match why {
            Refusal::Revision | Refusal::ClaimEpoch => self.end(item),
            _ => self.end_badly(item, format!("the catalog refused the removal: {why}; will try again"))?,
        }
        Ok(())
    }

    /// Whether a person deleted the item's file, and that is to remove it everywhere.
    pub(super) fn follows_deletion(
        &mut self,
        item: ItemId,
        entry: &Entry,
        row: Option<&CatalogRow>,
    ) -> Result<bool> {
        let base = entry.copy.as_ref().and_then(|copy| copy.base);
        let (Some(base), Some(row)) = (base, row) else { return Ok(false) };
        let follows =
            self.config.follow_deletions && self.queue.is_lost(&item) && base.revision == row.revision;
        if follows {
            self.ask_kill(item, row.revision)?;
        }
        Ok(follows)
    }
}

fn asked_key(item: &ItemId) -> Vec<u8> {
    [b"kill ", &item.0[..]].concat()
}
