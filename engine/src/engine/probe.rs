//! Is there anything left to do, here or at any member that can be reached?
//!
//! Who asks is answered only by looks that began after the question: a full scan, the feed to its head, and nothing
//! in hand after both. A member that is asked does the same before it answers.

use super::Engine;
use crate::catalog::FeedPosition;
use crate::clock::VersionVector;
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
    began_ms: u64,
    /// What we knew when it began: if that changes, or an answer differs, another round is needed.
    vector: VersionVector,
    feed: FeedPosition,
    missing: BTreeSet<ClientId>,
    differs: bool,
}

/// A member that does not answer within this time is asked again, if it is still there.
const ROUND_MS: u64 = 3_000;
/// The most questions of members that are kept.
const ASKED_MAX: usize = 256;

impl Probes {
    pub(super) fn peer_gone(&mut self, client: &ClientId) {
        self.asked.retain(|(asker, _), _| asker != client);
        for round in self.waits.values_mut().filter_map(|wait| wait.round.as_mut()) {
            round.missing.remove(client);
        }
    }

    pub(super) fn due_ms(&self) -> u64 {
        let rounds = self.waits.values().filter_map(|wait| wait.round.as_ref());
        rounds.map(|round| round.began_ms + ROUND_MS).min().unwrap_or(u64::MAX)
    }
}

impl<S: Store> Engine<S> {
    /// Whether nothing is left to do here, as far as we know without looking.
    pub(super) fn is_at_rest(&self) -> bool {
        self.tasks.is_empty() && self.queue.is_empty() && self.watch.is_known() && self.watch.is_quiet()
    }

    /// The same, and both folder and catalog were looked at since.
    fn rests_since(&self, ms: u64) -> bool {
        let catalog = self.feed.head_read_since(ms) || self.feed.is_away();
        self.watch.scanned_since(ms) && catalog && self.is_at_rest()
    }

    pub(super) fn wait_begins(&mut self, id: u64) {
        self.look_at_everything();
        self.probe.waits.insert(id, Wait { since_ms: self.now.mono_ms, round: None });
    }

    pub(super) fn wait_ends(&mut self, id: u64) {
        self.probe.waits.remove(&id);
    }

    pub(super) fn peer_asks(&mut self, from: ClientId, nonce: u64) {
        self.probe.asked.retain(|(asker, _), _| *asker != from);
        if self.probe.asked.len() < ASKED_MAX {
            self.look_at_everything();
            self.probe.asked.insert((from, nonce), self.now.mono_ms);
        }
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

    fn advance_wait(&mut self, id: u64) {
        let Some(wait) = self.probe.waits.get(&id) else { return };
        if !self.rests_since(wait.since_ms) {
            return;
        }
        let (vector, feed, now_ms) = (self.vector(), self.feed.position(), self.now.mono_ms);
        let over = wait.round.as_ref().map(|round| {
            let stands = !round.differs && round.vector == vector && round.feed == feed;
            (
                round.missing.is_empty() && stands,
                round.missing.is_empty() || !stands || now_ms >= round.began_ms + ROUND_MS,
            )
        });
        match over {
            Some((true, _)) => {
                self.probe.waits.remove(&id);
                self.outputs.push_back(Output::Rested(id));
            }
            Some((_, false)) => {}
            None | Some((false, true)) => self.begin_round(id, vector, feed),
        }
    }

    fn begin_round(&mut self, id: u64, vector: VersionVector, feed: FeedPosition) {
        self.probe.next_nonce += 1;
        let nonce = self.start.wrapping_add(self.probe.next_nonce);
        let missing = self.live();
        for client in &missing {
            self.outputs.push_back(Output::Send(*client, Message::Probe(nonce)));
        }
        if missing.is_empty() {
            self.probe.waits.remove(&id);
            self.outputs.push_back(Output::Rested(id));
            return;
        }
        let began_ms = self.now.mono_ms;
        if let Some(wait) = self.probe.waits.get_mut(&id) {
            wait.round = Some(Round { nonce, began_ms, vector, feed, missing, differs: false });
        }
    }
}
