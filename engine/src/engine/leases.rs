//! Leases: when our own claimed tasks must stop, and what renews their claims.
//!
//! A claim is renewed by writing it again, which only progress of its task does. The task stops at two thirds of a lease
//! after the sending of the last renewal that some member is known to have: whether it was not heard, heard nobody, or
//! stood still. A task begun while no member is live has nobody to fear, until one is. What another says of a content
//! that we work on is judged before the next output: whoever wins there, the other breaks off.

use super::claiming::Scope;
use super::tasks::Job;
use super::timers::Timers;
use super::{Engine, Result, Waiter};
use crate::claims::{self, Lease};
use crate::clock::{Stamp, VersionVector};
use crate::content::Content;
use crate::entry::{Claim, TaskKind};
use crate::ids::ItemId;
use crate::planted::Bug;
use crate::ports::{EffectId, Now, Outcome, Output};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most renewals on their way that are remembered.
const UNPROVEN_MAX: usize = 8;
/// When all bytes have moved, what is left may take this many leases: syncing a long file is progress that nobody sees.
const FINISH_LEASES: u64 = 6;

/// One of our own claimed tasks.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) task: TaskKind,
    pub(super) content: Content,
    /// Whether others may do it, so that the lease counts. The catalog's fence is enough where nobody else can.
    leased: bool,
    /// Whether a member was live since it was staked.
    in_company: bool,
    /// The last renewal that somebody has was sent at this time.
    proven_ms: u64,
    /// The same on the wall clock; read by nobody in what ships.
    proven_wall_ms: u64,
    /// Renewals that nobody is known to have yet: the entry's stamp, and when it was sent.
    unproven: VecDeque<(Stamp, u64, u64)>,
    /// When the claim was last written.
    written_ms: u64,
    /// Bytes moved, as told, and as last written.
    moved: u64,
    written: u64,
    /// Whether another step was begun since then.
    stepped: bool,
    /// When bytes last moved, or a step was begun.
    moved_ms: u64,
    /// It must stop: no further effect is begun.
    stopping: Option<Stop>,
}

/// Why a task must stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    /// Another claim wins.
    Lost,
    /// Nobody is known to hear us.
    Unheard,
    /// It made no progress for too long.
    StoodStill,
    /// It has not begun: there was no slot for it in time.
    Slotless,
}

impl Work {
    pub(super) fn new(claim: &Claim, leased: bool, in_company: bool, now: Now) -> Self {
        Self {
            task: claim.task,
            content: claim.target,
            leased,
            in_company,
            proven_ms: now.mono_ms,
            proven_wall_ms: now.wall_ms,
            unproven: VecDeque::new(),
            written_ms: now.mono_ms,
            moved: 0,
            written: 0,
            stepped: false,
            moved_ms: now.mono_ms,
            stopping: None,
        }
    }

    fn scope(&self) -> Scope {
        Scope::of(self.task, &self.content)
    }

    fn wrote(&mut self, stamp: Stamp, now_ms: u64, wall_ms: u64) {
        self.written_ms = now_ms;
        (self.written, self.stepped) = (self.moved, false);
        self.unproven.push_back((stamp, now_ms, wall_ms));
        if self.unproven.len() > UNPROVEN_MAX {
            self.unproven.pop_front();
        }
    }

    /// A member has our ledger up to this stamp.
    fn proved(&mut self, has: Stamp) {
        while let Some((stamp, sent_ms, sent_wall_ms)) = self.unproven.front().copied()
            && stamp <= has
        {
            self.proven_ms = self.proven_ms.max(sent_ms);
            self.proven_wall_ms = sent_wall_ms;
            self.unproven.pop_front();
        }
    }

    /// Whether there is progress that is not written, or that cannot be seen.
    fn is_moving(&self, now_ms: u64, lease_ms: u64) -> bool {
        let finishing = self.moved >= self.content.size && self.moved > 0;
        let patient = now_ms < self.moved_ms.saturating_add(lease_ms.saturating_mul(FINISH_LEASES));
        self.moved > self.written || self.stepped || (finishing && patient)
    }
}

/// All of our claimed tasks, and when each is to be looked after.
#[derive(Debug, Default)]
pub(super) struct Works {
    by_item: BTreeMap<ItemId, Work>,
    by_scope: BTreeSet<(Scope, ItemId)>,
    due: Timers,
}

impl Works {
    pub(super) fn insert(&mut self, item: ItemId, work: Work) {
        self.remove(&item);
        self.by_scope.insert((work.scope(), item));
        self.by_item.insert(item, work);
    }

    pub(super) fn remove(&mut self, item: &ItemId) -> Option<Work> {
        let work = self.by_item.remove(item)?;
        self.by_scope.remove(&(work.scope(), *item));
        self.due.clear(item);
        Some(work)
    }

    pub(super) fn get(&self, item: &ItemId) -> Option<&Work> {
        self.by_item.get(item)
    }

    /// What it claims, and for which task, does not change.
    fn get_mut(&mut self, item: &ItemId) -> Option<&mut Work> {
        self.by_item.get_mut(item)
    }

    /// The items whose tasks claim one of these contents.
    fn within(&self, scopes: &BTreeSet<Scope>) -> BTreeSet<ItemId> {
        let all = ItemId([0; 16])..=ItemId([255; 16]);
        let of = |scope: &Scope| self.by_scope.range((*scope, *all.start())..=(*scope, *all.end()));
        scopes.iter().flat_map(of).map(|(_, item)| *item).collect()
    }
}

impl<S: Store> Engine<S> {
    /// Time goes on. After a gap we have to listen for a whole lease before we call anybody silent.
    pub(super) fn note_time(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.now.mono_ms) > Lease(self.config.lease_ms).deaf_ms() {
            self.claiming.listening_since_ms = now_ms;
        }
    }

    /// Bytes of an effect have moved.
    pub(super) fn progress(&mut self, id: EffectId, bytes: u64) {
        let Some(Waiter::Task(item)) = self.effects.get(&id) else { return };
        let (item, now_ms) = (*item, self.now.mono_ms);
        if let Some(work) = self.claiming.work.get_mut(&item)
            && bytes > work.moved
        {
            (work.moved, work.moved_ms) = (bytes, now_ms);
            self.watch_lease(&item);
            self.attempt_moves(item);
        }
    }

    /// A member says how far it has our ledger.
    pub(super) fn prove_claims(&mut self, vector: &VersionVector) {
        let has = vector.get(&self.config.me);
        self.claiming.work.by_item.values_mut().for_each(|work| work.proved(has));
    }

    /// Writes our claim of a task as it stands now: a renewal.
    pub(super) fn write_claim(&mut self, item: ItemId, mut claim: Claim) -> Result<()> {
        let mut entry = self.own_entry(&item)?;
        if let Some(work) = self.claiming.work.get(&item) {
            claim.progress = work.moved;
        }
        entry.claims = vec![claim];
        self.stage(item, entry);
        let (stamp, now) = (self.dot_for(&item).stamp, self.now);
        if let Some(work) = self.claiming.work.get_mut(&item) {
            work.wrote(stamp, now.mono_ms, now.wall_ms);
        }
        self.watch_lease(&item);
        Ok(())
    }

    /// When the lease of a task of ours is to be looked at; never, if it has none.
    pub(super) fn lease_due_ms(&self) -> u64 {
        self.claiming.work.due.next_ms()
    }

    /// Notes when a task's lease is to be looked at: at the latest when it is over, or its renewal due. Whatever puts that
    /// off is found then.
    fn watch_lease(&mut self, item: &ItemId) {
        let (now_ms, lease) = (self.now.mono_ms, Lease(self.config.lease_ms));
        let renews_hung = self.planted(Bug::HungTask);
        let Some(work) = self.claiming.work.get(item) else { return };
        let due_ms = match work.stopping {
            Some(_) => None,
            // Somebody must be live first, and that is noticed.
            None if !work.leased || !work.in_company => None,
            None => {
                let stops_ms = match self.planted(Bug::ExpiryByWallClock) {
                    true => now_ms.saturating_add(lease.renewal_ms()),
                    false => self.stops_ms(item, work.proven_ms),
                };
                match renews_hung || work.is_moving(now_ms, lease.0) {
                    true => Some(stops_ms.min(work.written_ms.saturating_add(lease.renewal_ms()))),
                    false => Some(stops_ms),
                }
            }
        };
        match due_ms {
            Some(due_ms) => self.claiming.work.due.set(*item, due_ms),
            None => self.claiming.work.due.clear(item),
        }
    }

    /// When a task's lease is over whose last renewal that somebody has was sent at this time. Before it has begun that is
    /// a renewal sooner: what it writes when it begins must be able to arrive, and to be answered by a heartbeat.
    fn stops_ms(&self, item: &ItemId, sent_ms: u64) -> u64 {
        let lease = Lease(self.config.lease_ms);
        let stops_ms = lease.holder_stops_ms(sent_ms);
        match self.tasks.get(item).is_some_and(|task| task.job.listens()) {
            true => stops_ms.saturating_sub(lease.renewal_ms()),
            false => stops_ms,
        }
    }

    /// Looks after our claimed tasks: judges those of which others have said something, renews those that moved, and
    /// breaks off those whose lease is over.
    pub(super) fn tend_claims(&mut self) -> Result<()> {
        let contested = self.take_contested();
        // Claims of one who has just become live stand again.
        let come_back = self.note_live();
        let (work, alone) = (&self.claiming.work, self.claiming.is_alone());
        let judged = match come_back {
            true => work.by_item.keys().copied().collect(),
            false => work.within(&contested),
        };
        let due = work.due.due(self.now.mono_ms);
        let tended: BTreeSet<_> = judged.iter().copied().chain(due).collect();
        for item in tended {
            self.tend_claim(item, judged.contains(&item), alone)?;
            self.watch_lease(&item);
        }
        Ok(())
    }

    fn tend_claim(&mut self, item: ItemId, judge: bool, alone: bool) -> Result<()> {
        let (now, lease) = (self.now, Lease(self.config.lease_ms));
        let by_wall_clock = self.planted(Bug::ExpiryByWallClock);
        let late_renewal = self.planted(Bug::LateRenewal);
        let hung_renewal = self.planted(Bug::HungTask);
        if !self.tasks.contains_key(&item) {
            self.claiming.work.remove(&item);
        }
        let Some(work) = self.claiming.work.get_mut(&item) else { return Ok(()) };
        if !work.in_company && !alone {
            (work.in_company, work.proven_ms, work.proven_wall_ms) = (true, now.mono_ms, now.wall_ms);
        }
        if work.stopping.is_some() {
            return self.break_off(item);
        }
        let (task, content) = (work.task, work.content);
        if judge && !late_renewal && !self.wins(&item, task, &content)? {
            return self.stop_task(item, Stop::Lost);
        }
        if judge {
            self.listen_on(item, task, &content)?;
        }
        let Some(work) = self.claiming.work.get(&item) else { return Ok(()) };
        let renews = hung_renewal || work.is_moving(now.mono_ms, lease.0);
        let over = match by_wall_clock {
            true => now.wall_ms >= self.stops_ms(&item, work.proven_wall_ms),
            false => now.mono_ms >= self.stops_ms(&item, work.proven_ms),
        };
        if work.leased && work.in_company && over {
            let stood_still = now.mono_ms >= lease.holder_stops_ms(work.moved_ms);
            let why = match self.tasks.get(&item).is_some_and(|task| task.job.listens()) {
                true => Stop::Slotless,
                false if stood_still => Stop::StoodStill,
                false => Stop::Unheard,
            };
            return self.stop_task(item, why);
        }
        let due = now.mono_ms >= work.written_ms.saturating_add(lease.renewal_ms());
        if work.leased && work.in_company && renews && due {
            let claim = self.own_entry(&item)?.claim(task, &content).cloned();
            if let Some(claim) = claim {
                self.write_claim(item, claim)?;
            }
        }
        Ok(())
    }

    /// A rival was heard of while we listen, and we go first: it may have begun before it hears of us, and by a member in
    /// between its word takes as long again as its claim took.
    fn listen_on(&mut self, item: ItemId, task: TaskKind, content: &Content) -> Result<()> {
        let listens = self.tasks.get(&item).is_some_and(|task| task.job.listens());
        if listens && !self.rivals(&item, task, content)?.is_empty() {
            let until_ms = self.now.mono_ms.saturating_add(self.config.listen_ms.saturating_mul(2));
            self.tasks.set_until(&item, Some(until_ms));
        }
        Ok(())
    }

    fn stop_task(&mut self, item: ItemId, why: Stop) -> Result<()> {
        if let Some(work) = self.claiming.work.get_mut(&item) {
            work.stopping = Some(why);
        }
        if let Some(id) = self.tasks.get(&item).and_then(|task| task.effect) {
            self.outputs.push_back(Output::Cancel(id));
        }
        self.break_off(item)
    }

    /// Whether a task may begin another effect. Asked before each.
    pub(super) fn may_go_on(&mut self, item: &ItemId) -> bool {
        let (now_ms, lease) = (self.now.mono_ms, Lease(self.config.lease_ms));
        let Some(work) = self.claiming.work.get_mut(item) else { return true };
        let over = work.leased && work.in_company && now_ms >= lease.holder_stops_ms(work.proven_ms);
        if over && work.stopping.is_none() {
            work.stopping = Some(Stop::Unheard);
        }
        (work.stepped, work.moved_ms) = (true, now_ms);
        match work.stopping {
            // No effect of it is under way: it is broken off as soon as the next input comes.
            Some(_) => self.claiming.work.due.set(*item, now_ms),
            None => self.watch_lease(item),
        }
        self.claiming.work.get(item).is_none_or(|work| work.stopping.is_none())
    }

    /// Ends a task that must stop, once none of its effects is under way.
    fn break_off(&mut self, item: ItemId) -> Result<()> {
        let Some(task) = self.tasks.get(&item) else { return Ok(()) };
        if task.effect.is_some() {
            return Ok(());
        }
        match self.claiming.work.remove(&item).and_then(|work| work.stopping) {
            Some(Stop::StoodStill) => {
                self.end_badly(item, "it stood still for too long; leaving it to others for a while".into())
            }
            // No failure. Everybody else has a turn before we claim it again, so that who is slow does not keep from others
            // what it does not come to.
            Some(Stop::Slotless) => {
                self.withdraw_all_but(item, None)?;
                let turns_ms = claims::turn_ms(self.live().len() + 1, self.config.listen_ms);
                self.end_until(item, self.now.mono_ms + turns_ms.min(self.config.lease_ms));
                Ok(())
            }
            why => {
                if why == Some(Stop::Unheard) {
                    let lease = Lease(self.config.lease_ms);
                    self.claiming.unheard_until_ms = lease.void_ms(self.now.mono_ms) - lease.0 / 3 * 2;
                }
                self.withdraw_all_but(item, None)?;
                self.end(item);
                Ok(())
            }
        }
    }

    /// An effect of a task that must stop is over. True if that was all.
    pub(super) fn broken_off(&mut self, item: ItemId, job: &Job, outcome: &Outcome) -> Result<bool> {
        if self.claiming.work.get(&item).is_none_or(|work| work.stopping.is_none()) {
            return Ok(false);
        }
        // The bytes are here after all: they are used.
        if matches!((job, outcome), (Job::Download(_), Outcome::Done { .. })) {
            self.claiming.work.remove(&item);
            return Ok(false);
        }
        // A commit that was made is taken note of, whoever was to make it.
        if matches!(outcome, Outcome::Committed(_)) {
            self.claiming.work.remove(&item);
            return Ok(false);
        }
        self.break_off(item)?;
        Ok(true)
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
