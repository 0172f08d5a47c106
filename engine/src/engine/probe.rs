//! Is there anything left to do, here or at any member that can be reached?
//!
//! Who asks is answered only by looks that began after the question: a full scan, the feed to its head, and nothing
//! in hand after both. A member that is asked does the same before it answers.

use super::Engine;
use super::exchange::{MEET_MS, Peer};
use crate::catalog::FeedPosition;
use crate::clock::VersionVector;
use crate::heads::WholeAt;
use crate::ids::ClientId;
use crate::message::{Message, Rest};
use crate::ports::Output;
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// Questions that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// What local people wait for, by number.
    waits: BTreeMap<u64, Wait>,
    /// What members have asked: (member, nonce) and when.
    asked: BTreeMap<(ClientId, u64), u64>,
    next_nonce: u64,
}

/// The question of a local person.
#[derive(Debug)]
struct Wait {
    /// When it was asked.
    since_ms: u64,
    round: Option<Round>,
}

/// One time of asking all live members.
#[derive(Debug)]
struct Round {
    nonce: u64,
    /// When they were asked last.
    asked_ms: u64,
    /// What we knew when it began: if that changes, or an answer differs, another round is needed.
    vector: VersionVector,
    feed: FeedPosition,
    /// Who was asked, and who of them has not answered yet.
    asked: BTreeSet<ClientId>,
    missing: BTreeSet<ClientId>,
    differs: bool,
}

/// A member that does not answer within this time is asked the same again, if it is still there.
const AGAIN_MS: u64 = 3_000;
/// A round that came to nothing is followed by another after this time.
const PAUSE_MS: u64 = 250;
/// The most questions of one member that are kept.
const ASKED_MAX: usize = 8;

impl Probes {
    /// Whether a person or a member waits for us to come to rest.
    pub(super) fn is_asked(&self) -> bool {
        !self.waits.is_empty() || !self.asked.is_empty()
    }

    pub(super) fn peer_gone(&mut self, client: &ClientId) {
        self.asked.retain(|(asker, _), _| asker != client);
        for round in self.waits.values_mut().filter_map(|wait| wait.round.as_mut()) {
            round.missing.remove(client);
        }
    }
}

impl<S: Store> Engine<S> {
    /// Whether nothing is left to do here, as far as we know without looking.
    pub(super) fn is_at_rest(&self) -> bool {
        let nothing_to_do = self.tasks.is_empty() && self.queue.is_empty();
        let nothing_to_do = nothing_to_do && self.renames.is_quiet() && self.crossings.is_quiet();
        let believed = !self.restoring.holds_back() && self.restoring.all_shown();
        believed && nothing_to_do && self.watch.is_known() && self.watch.is_quiet()
    }

    /// The same, and both folder and catalog were looked at since; what live members say of themselves is whole here, and
    /// of others what one of them has whole: a ledger that does not add up is about to be repaired. And nothing is left
    /// to somebody who is there no more: within a lease we look at it again, and see to it.
    fn rests_since(&self, ms: u64) -> bool {
        let looked = self.watch.scanned_since(ms) && self.feed.head_read_since(ms);
        looked
            && self.is_at_rest()
            && self.is_proved()
            && self.queue.left_to().all(|client| self.is_there(client))
    }

    fn is_there(&self, client: &ClientId) -> bool {
        let (now_ms, lease_ms) = (self.now.mono_ms, self.config.lease_ms);
        let gone = |peer: &Peer| peer.may_be_gone(now_ms, lease_ms);
        self.is_live(client) && !self.peers.get(client).is_some_and(gone)
    }

    fn is_proved(&self) -> bool {
        let is_whole = |owner: &ClientId| self.heads.whole(owner) == self.known(owner);
        self.each_live()
            .all(|member| is_whole(&member) && self.has_whole(&member).all(|owner| is_whole(&owner)))
    }

    /// The ledgers that a member which can be reached has said that it has whole, as far as we know them or further.
    fn has_whole(&self, member: &ClientId) -> impl Iterator<Item = ClientId> {
        let heartbeat = self.peers.get(member).and_then(|peer| peer.heartbeat.as_ref());
        let whole = heartbeat.into_iter().flat_map(|heartbeat| heartbeat.whole.0.iter());
        let ours = |owner: &ClientId| *owner == self.config.me || !self.roster.is_counted(owner);
        let offered =
            move |(owner, theirs): &(&ClientId, &WholeAt)| !ours(owner) && theirs.stamp >= self.known(owner);
        whole.filter(offered).map(|(owner, _)| *owner)
    }

    pub(super) fn wait_begins(&mut self, id: u64) {
        self.look_at_everything();
        self.probe.waits.insert(id, Wait { since_ms: self.now.mono_ms, round: None });
    }

    pub(super) fn wait_ends(&mut self, id: u64) {
        self.probe.waits.remove(&id);
    }

    pub(super) fn peer_asks(&mut self, from: ClientId, nonce: u64) {
        if self.probe.asked.contains_key(&(from, nonce)) {
            return; // being seen to
        }
        let of_asker = self.probe.asked.range((from, 0)..=(from, u64::MAX));
        if of_asker.clone().count() >= ASKED_MAX
            && let Some(oldest) = of_asker.min_by_key(|(_, since_ms)| **since_ms).map(|(key, _)| *key)
        {
            self.probe.asked.remove(&oldest);
        }
        self.look_at_everything();
        self.probe.asked.insert((from, nonce), self.now.mono_ms);
    }

    fn look_at_everything(&mut self) {
        self.watch.want_scan(self.now.mono_ms);
        self.feed.hint(self.now.mono_ms);
    }

    pub(super) fn peer_rests(&mut self, from: ClientId, rest: Rest) {
        for round in self.probe.waits.values_mut().filter_map(|wait| wait.round.as_mut()) {
            if round.nonce == rest.nonce && round.missing.remove(&from) {
                round.differs |= rest.vector != round.vector || rest.feed != round.feed;
            }
        }
    }

    pub(super) fn answer_probes(&mut self) {
        if !(self.probe.waits.is_empty() && self.probe.asked.is_empty()) {
            self.read_what_was_answered();
        }
        let resting: Vec<_> = self
            .probe
            .asked
            .iter()
            .filter(|(_, since_ms)| self.rests_since(**since_ms))
            .map(|(question, _)| *question)
            .collect();
        for (client, nonce) in resting {
            self.probe.asked.remove(&(client, nonce));
            let rest = Rest { nonce, vector: self.vector(), feed: self.feed.position() };
            self.outputs.push_back(Output::Send(client, Message::Rest(rest)));
        }
        let ids: Vec<_> = self.probe.waits.keys().copied().collect();
        for id in ids {
            self.advance_wait(id);
        }
    }

    /// When a wait is to be looked at without any other reason.
    pub(super) fn probe_due_ms(&self) -> u64 {
        if self.probe.waits.is_empty() {
            return u64::MAX;
        }
        let greeting = self.greeting_until_ms();
        let due = |wait: &Wait| match &wait.round {
            _ if !self.rests_since(wait.since_ms) => u64::MAX,
            _ if greeting.is_some() => greeting.unwrap_or(u64::MAX),
            None => u64::MAX,
            Some(round) if self.stands(round) => round.asked_ms + AGAIN_MS,
            Some(round) => round.asked_ms + PAUSE_MS,
        };
        self.probe.waits.values().map(due).min().unwrap_or(u64::MAX)
    }

    /// Whether what the round asks is still what we know, and nobody has joined or said otherwise since.
    fn stands(&self, round: &Round) -> bool {
        !round.differs
            && round.vector == self.vector()
            && round.feed == self.feed.position()
            && self.reachable().is_subset(&round.asked)
    }

    /// Until when members that we know of may still turn up after our start.
    fn meets_until_ms(&self) -> Option<u64> {
        let until_ms = self.opened_ms + MEET_MS;
        let live = self.reachable();
        let known = |client: &ClientId| *client == self.config.me || live.contains(client);
        let strange = self.ledgers.myself.vector.iter().any(|(client, _)| !known(client));
        (strange && self.now.mono_ms < until_ms).then_some(until_ms)
    }

    /// Until when members that were connected just now may still turn out to be live.
    pub(super) fn greeting_until_ms(&self) -> Option<u64> {
        let (now_ms, lease_ms) = (self.now.mono_ms, self.config.lease_ms);
        let greeting = self.peers.values().filter_map(|peer| peer.greets_until_ms(now_ms, lease_ms));
        greeting.chain(self.meets_until_ms()).max()
    }

    fn advance_wait(&mut self, id: u64) {
        let Some(wait) = self.probe.waits.get(&id) else { return };
        if !self.rests_since(wait.since_ms) || self.greeting_until_ms().is_some() {
            return;
        }
        let now_ms = self.now.mono_ms;
        match &wait.round {
            None => self.begin_round(id),
            Some(round) if !self.stands(round) => {
                if now_ms >= round.asked_ms + PAUSE_MS {
                    self.begin_round(id);
                }
            }
            Some(round) if round.missing.is_empty() => {
                self.probe.waits.remove(&id);
                self.outputs.push_back(Output::Rested(id));
            }
            Some(round) if now_ms >= round.asked_ms + AGAIN_MS => self.ask_again(id),
            Some(_) => {}
        }
    }

    fn begin_round(&mut self, id: u64) {
        self.probe.next_nonce += 1;
        let nonce = self.start.wrapping_add(self.probe.next_nonce);
        let asked = self.reachable();
        for client in &asked {
            self.outputs.push_back(Output::Send(*client, Message::Probe(nonce)));
        }
        if asked.is_empty() {
            self.probe.waits.remove(&id);
            self.outputs.push_back(Output::Rested(id));
            return;
        }
        let (vector, feed) = (self.vector(), self.feed.position());
        let missing = asked.clone();
        if let Some(wait) = self.probe.waits.get_mut(&id) {
            let asked_ms = self.now.mono_ms;
            wait.round = Some(Round { nonce, asked_ms, vector, feed, asked, missing, differs: false });
        }
    }

    /// Question or answer may be lost. Who is no longer live is not waited for.
    fn ask_again(&mut self, id: u64) {
        let live = self.reachable();
        let Some(round) = self.probe.waits.get_mut(&id).and_then(|wait| wait.round.as_mut()) else { return };
        round.missing.retain(|client| live.contains(client));
        round.asked_ms = self.now.mono_ms;
        for client in &round.missing {
            self.outputs.push_back(Output::Send(*client, Message::Probe(round.nonce)));
        }
        if round.missing.is_empty() {
            self.advance_wait(id);
        }
    }
}
