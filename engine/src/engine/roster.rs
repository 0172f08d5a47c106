//! Who belongs to the workgroup, as the catalog's roster says, and what the roster knows of us.
//!
//! The roster is visited at each start, then every minute, and at once when somebody unknown turns up or a member has
//! read another one. What it said last is kept, since the catalog may be away. A ledger whose owner is no member is not kept, so invented owners
//! take no place. A later stamp of ours in the roster than we know is proof that we were restored.

use super::{Engine, Result, Waiter};
use crate::clock::Stamp;
use crate::codec;
use crate::ids::ClientId;
use crate::message::Page;
use crate::planted::Bug;
use crate::ports::{Effect, Event, Outcome, Output};
use crate::roster::{Admission, RosterDigest, RosterMember, Standing, Visit};
use crate::store::{Store, Table};
use crate::transaction::Transaction;
use std::collections::BTreeMap;

/// The roster as it was last read.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// None until it was read once.
    members: Option<BTreeMap<ClientId, Standing>>,
    /// Of `members`.
    digest: Option<RosterDigest>,
    /// What connected members have read where it is not what we have, and made us look again.
    others: BTreeMap<ClientId, RosterDigest>,
    due_ms: u64,
    /// When it was last visited.
    visited_ms: u64,
    under_way: bool,
    /// There is reason to read it again, since the last visit began.
    hinted: bool,
    /// Whether it was read since this start.
    visited: bool,
    /// We were declared absent: our ledgers have to be proved again before our word counts.
    resyncing: bool,
    /// Whom we refused, and until when it is not talked to.
    barred: BTreeMap<ClientId, u64>,
}

const META_ROSTER: &[u8] = b"roster";
const VISIT_MS: u64 = 60_000;
const RETRY_MS: u64 = 2_000;
/// Somebody unknown makes us visit again, but not more often than this.
const HINT_MS: u64 = 2_000;
/// A refused member is not talked to for this long.
const BARRED_MS: u64 = 60_000;

impl Roster {
    pub(super) fn load<S: Store>(tx: &Transaction<S>) -> Result<Self> {
        let mut roster = Self::default();
        if let Some(bytes) = tx.get(Table::Meta, META_ROSTER)? {
            roster.keep(codec::decode(&bytes)?)?;
        }
        Ok(roster)
    }

    fn keep(&mut self, members: BTreeMap<ClientId, Standing>) -> Result<()> {
        self.digest = Some(RosterDigest::of(&members)?);
        self.members = Some(members);
        Ok(())
    }

    /// What it comes to, for other members; none until it was read once.
    pub(super) fn digest(&self) -> Option<RosterDigest> {
        self.digest
    }

    /// A connected member says what it has read. If that is not what we have, one visit finds out whose is newer: theirs
    /// came from the catalog before, so what we read then is at least as new, and they will hear of it.
    pub(super) fn heard(&mut self, from: ClientId, digest: Option<RosterDigest>, now_ms: u64) {
        let Some(theirs) = digest.filter(|_| digest != self.digest) else {
            return self.gone(&from);
        };
        if self.others.insert(from, theirs) != Some(theirs) {
            self.hint(now_ms);
        }
    }

    /// Forgets what a member said.
    pub(super) fn gone(&mut self, client: &ClientId) {
        self.others.remove(client);
    }

    pub(super) fn due_ms(&self) -> u64 {
        if self.under_way { u64::MAX } else { self.due_ms }
    }

    /// Where a client stands; none if it is in no roster that we read.
    pub(super) fn standing(&self, client: &ClientId) -> Option<Standing> {
        self.members.as_ref()?.get(client).copied()
    }

    /// Whether it is known who belongs to the workgroup.
    pub(super) fn is_read(&self) -> bool {
        self.members.is_some()
    }

    pub(super) fn was_visited(&self) -> bool {
        self.visited
    }

    pub(super) fn is_retired(&self, client: &ClientId) -> bool {
        matches!(self.standing(client), Some(Standing::Retired { .. }))
    }

    /// Whether what this client says of its work counts: not while it is absent.
    pub(super) fn is_counted(&self, client: &ClientId) -> bool {
        self.members.is_none() || self.standing(client) == Some(Standing::Current)
    }

    /// All that were retired.
    pub(super) fn retired(&self) -> impl Iterator<Item = ClientId> {
        let members = self.members.iter().flatten();
        members
            .filter(|(_, standing)| matches!(standing, Standing::Retired { .. }))
            .map(|(client, _)| *client)
    }

    /// All whose whole vector forgetting waits for; none if the roster is not known.
    pub(super) fn current(&self) -> Option<Vec<ClientId>> {
        let current =
            |(client, standing): (&ClientId, &Standing)| (*standing == Standing::Current).then_some(*client);
        Some(self.members.as_ref()?.iter().filter_map(current).collect())
    }

    /// Reads it again soon.
    pub(super) fn hint(&mut self, now_ms: u64) {
        self.hinted = true;
        self.due_ms = self.due_ms.min(now_ms.max(self.visited_ms + HINT_MS));
    }
}

impl<S: Store> Engine<S> {
    /// Whether a client is to be let in, as far as the roster says that was read last.
    pub fn admission(&self, client: &ClientId) -> Admission {
        match self.roster.standing(client) {
            Some(Standing::Retired { .. }) if !self.planted(Bug::RetiredAccepted) => Admission::Retired,
            None if self.roster.is_read() => Admission::Unlisted,
            _ => Admission::Member,
        }
    }

    /// Where a client stands in the roster that was read last; none if it is not in it, or none was read.
    pub fn standing_in_roster(&self, client: &ClientId) -> Option<Standing> {
        self.roster.standing(client)
    }

    /// All that the roster calls retired, as it was read last.
    pub fn retired(&self) -> Vec<ClientId> {
        self.roster.retired().collect()
    }

    pub(super) fn visit_roster_if_due(&mut self) {
        if self.now.mono_ms < self.roster.due_ms() {
            return;
        }
        (self.roster.under_way, self.roster.visited_ms, self.roster.hinted) = (true, self.now.mono_ms, false);
        if self.roster.resyncing && self.is_in_step() {
            self.roster.resyncing = false;
        }
        let visit = Visit {
            client: self.config.me,
            // The first visit of a start only asks: to note ours would hide a later one of a life that is lost.
            stamp: if self.roster.visited { self.ledgers.myself.stamp } else { Stamp::default() },
            present: !self.roster.resyncing,
            horizon_ms: self.config.horizon_ms,
        };
        self.effect(Waiter::Roster, Effect::VisitRoster(visit));
    }

    pub(super) fn roster_visited(&mut self, outcome: Outcome) -> Result<()> {
        self.roster.under_way = false;
        let Outcome::Roster(members) = outcome else {
            self.roster.due_ms = self.now.mono_ms + RETRY_MS;
            return Ok(());
        };
        self.roster.visited = true;
        // Some earlier, some later: not all at once after a power failure.
        let jitter_ms = self.start % (VISIT_MS / 4);
        self.roster.due_ms = self.now.mono_ms + VISIT_MS - jitter_ms;
        if self.roster.hinted {
            self.roster.hint(self.now.mono_ms); // Since this visit began.
        }
        let ours = members.iter().find(|member| member.client == self.config.me).cloned();
        let standings: BTreeMap<_, _> =
            members.iter().map(|member| (member.client, member.standing)).collect();
        if self.roster.members.as_ref() != Some(&standings) {
            self.tx.put(Table::Meta, META_ROSTER.to_vec(), codec::encode(&standings)?);
            self.roster.keep(standings)?;
            self.beat_soon();
            self.leave_out_retired()?;
            self.forgetting.look_again();
            self.queue.wake_waiting();
        }
        match ours {
            Some(ours) => self.read_of_us(&ours),
            None => Ok(()),
        }
    }

    /// What the roster says of ourselves.
    fn read_of_us(&mut self, ours: &RosterMember) -> Result<()> {
        match ours.standing {
            Standing::Retired { .. } => self.stop("this client was retired from the workgroup"),
            Standing::Absent => {
                if !self.roster.resyncing {
                    self.roster.resyncing = true;
                    self.doubt_others();
                }
                self.roster.due_ms = self.now.mono_ms + RETRY_MS;
            }
            Standing::Current => {}
        }
        if self.planted(Bug::EpochReused) {
            return Ok(());
        }
        let lost = ours.stamp > self.ledgers.myself.stamp || self.heads.in_gap(ours.stamp);
        if lost { self.begin_incarnation(ours.stamp) } else { Ok(()) }
    }

    /// Whether every ledger that we know is proved whole, and there is somebody to prove it.
    fn is_in_step(&self) -> bool {
        let alone = self.roster.current().is_none_or(|current| current.is_empty());
        let whole = |(owner, stamp): (&ClientId, &Stamp)| {
            self.roster.is_retired(owner) || self.heads.whole(owner) == *stamp
        };
        let met = self.peers.values().any(|peer| {
            peer.connected && peer.heartbeat.as_ref().is_some_and(|heard| self.vector().covers(&heard.vector))
        });
        (alone || met) && self.vector().iter().all(whole)
    }

    /// Whether a ledger of this owner is kept. An unknown one makes us look into the roster again.
    pub(super) fn is_kept_owner(&mut self, owner: &ClientId) -> bool {
        match (&self.roster.members, self.roster.standing(owner)) {
            (_, Some(Standing::Current | Standing::Absent)) => true,
            (Some(_), Some(Standing::Retired { last })) => {
                // Who had nothing of it when it was retired begins no more.
                let have = self.ledgers.myself.vector.get(owner);
                self.planted(Bug::RetiredAccepted) || (have > Stamp::default() && have < last)
            }
            (Some(_), None) => {
                self.roster.hint(self.now.mono_ms);
                false
            }
            // Without a roster: whom we have met, since the connection proved it a member.
            (None, _) => self.peers.contains_key(owner),
        }
    }

    /// What a retired owner wrote after the last dot that counts is cut off.
    pub(super) fn cut_retired(&self, page: &mut Page) {
        let Some(Standing::Retired { last }) = self.roster.standing(&page.owner) else { return };
        if page.through <= last || self.planted(Bug::RetiredAccepted) || self.planted(Bug::RetirementRace) {
            return;
        }
        page.batches.retain(|batch| batch.last_stamp() <= last);
        page.through = page.batches.last().map_or(page.after, |batch| batch.last_stamp()).max(page.after);
        (page.head, page.more) = (None, false);
    }

    /// Drops what retired clients wrote after their last dot, if it came here before the retirement did.
    fn leave_out_retired(&mut self) -> Result<()> {
        let members = self.roster.members.clone().unwrap_or_default();
        for (owner, standing) in members {
            let Standing::Retired { last } = standing else { continue };
            if owner == self.config.me
                || self.planted(Bug::RetiredAccepted)
                || self.planted(Bug::RetirementRace)
            {
                continue;
            }
            let from = Stamp { counter: last.counter.saturating_add(1), ..last };
            let to = Stamp { incarnation: crate::clock::Incarnation(u64::MAX), counter: u64::MAX };
            self.drop_entries(&owner, from, to)?;
            if self.ledgers.myself.vector.get(&owner) > last {
                self.ledgers.myself.vector.set_back(&owner, last);
                self.heads.doubt(&owner);
                self.save_myself()?;
            }
            if self.peers.get(&owner).is_some_and(|peer| peer.connected) {
                self.drop_peer(owner);
            }
        }
        Ok(())
    }

    /// Names a member whose words are wrong, and breaks with it for a while.
    pub(super) fn refuse(&mut self, client: ClientId, why: String) {
        self.event(Event::Refused(client, why));
        self.roster.barred.insert(client, self.now.mono_ms + BARRED_MS);
        self.drop_peer(client);
    }

    fn drop_peer(&mut self, client: ClientId) {
        self.peer_disconnected(client);
        self.outputs.push_back(Output::Drop(client));
    }

    /// Whether a member that connects is not talked to. One that is new here makes us look into the roster.
    pub(super) fn is_barred(&mut self, client: &ClientId) -> bool {
        let now_ms = self.now.mono_ms;
        if self.roster.members.is_some() && self.roster.standing(client).is_none() {
            self.roster.hint(now_ms);
        }
        self.roster.barred.retain(|_, until_ms| *until_ms > now_ms);
        self.admission(client) == Admission::Retired || self.roster.barred.contains_key(client)
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
