//! Who is there: heartbeats, echoes, and signs of life that travel through a member in the middle.
//!
//! A client is live if we heard it within a lease, directly or through others, and it echoes a beat of ours that we sent
//! within a lease: who hears nobody counts for nobody. A sign of life is signed by its client, so a relay can neither
//! invent nor refresh one; it travels only to members who say that they do not hear that client themselves, and each
//! relay passes a beat on once, so nothing goes in circles. Two starts of one key that echo each other are two machines
//! with one key: both stop.

use super::exchange::Peer;
use super::ledgers::CLIENTS_MAX;
use super::{Engine, Result};
use crate::content::Content;
use crate::entry::OwnedEntry;
use crate::ids::ClientId;
use crate::message::{Heartbeat, Life, LifeBody, Message};
use crate::planted::Bug;
use crate::ports::Output;
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Our own heartbeats.
#[derive(Debug, Default)]
pub(super) struct Beats {
    pub(super) due_ms: u64,
    beat: u64,
    /// The last few beats and when they were sent.
    sent: VecDeque<(u64, u64)>,
}

/// Signs of life that came through others.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// By client and start; at most [`STARTS_KEPT`] starts of each client.
    heard: BTreeMap<(ClientId, u64), Heard>,
    /// When somebody last echoed another start of our key.
    suspected_ms: Option<u64>,
}

#[derive(Debug)]
struct Heard {
    beat: u64,
    at_ms: u64,
}

const BEATS_KEPT: usize = 256;
/// What was heard within a lease is never forgotten for something newer: signs of life of one more start than are kept
/// would otherwise push each other out, and go round among the relays for ever.
const STARTS_KEPT: usize = 8;

impl Lives {
    /// Whether a sign of life of this start can be remembered; starts not heard for a lease make room for it.
    fn has_room(&mut self, owner: ClientId, start: u64, now_ms: u64, lease_ms: u64) -> bool {
        let starts = self.heard.range((owner, 0)..=(owner, u64::MAX));
        if self.heard.contains_key(&(owner, start)) || starts.clone().count() < STARTS_KEPT {
            return true;
        }
        let oldest = starts.min_by_key(|(_, heard)| heard.at_ms).map(|(key, heard)| (*key, heard.at_ms));
        match oldest {
            Some((key, at_ms)) if !recent(Some(at_ms), now_ms, lease_ms) => self.heard.remove(&key).is_some(),
            _ => false,
        }
    }
}

fn recent(at_ms: Option<u64>, now_ms: u64, lease_ms: u64) -> bool {
    at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) <= lease_ms)
}

impl<S: Store> Engine<S> {
    /// Members that are live: heard within the lease, and hearing us; their word counts.
    pub(super) fn live(&self) -> BTreeSet<ClientId> {
        self.each_live().collect()
    }

    /// The same one by one, in order.
    pub(super) fn each_live(&self) -> impl Iterator<Item = ClientId> {
        let counted = |(client, peer): &(&ClientId, &Peer)| self.counts_as_live(client, peer);
        self.peers.iter().filter(counted).map(|(client, _)| *client)
    }

    /// Whether one member is.
    pub(super) fn is_live(&self, client: &ClientId) -> bool {
        self.peers.get(client).is_some_and(|peer| self.counts_as_live(client, peer))
    }

    fn counts_as_live(&self, client: &ClientId, peer: &Peer) -> bool {
        let (now_ms, lease_ms) = (self.now.mono_ms, self.config.lease_ms);
        let deaf_too = self.planted(Bug::DeafThief) && recent(peer.heard_ms, now_ms, lease_ms);
        (deaf_too || peer.is_live(now_ms, lease_ms)) && self.roster.is_counted(client)
    }

    /// Live members that can be talked to without a relay.
    pub(super) fn reachable(&self) -> BTreeSet<ClientId> {
        let mut live = self.live();
        live.retain(|client| self.peers.get(client).is_some_and(|peer| peer.connected));
        live
    }

    /// Whom we hear without a relay.
    fn hears(&self) -> Vec<ClientId> {
        let (now_ms, lease_ms) = (self.now.mono_ms, self.config.lease_ms);
        let hears = |peer: &Peer| peer.connected && recent(peer.direct_ms, now_ms, lease_ms);
        self.peers.iter().filter(|(_, peer)| hears(peer)).map(|(client, _)| *client).collect()
    }

    /// When we sent a beat of this start that somebody echoes.
    pub(super) fn sent_ms(&self, echo: Option<(u64, u64)>) -> Option<u64> {
        let (_, beat) = echo.filter(|(start, _)| *start == self.start)?;
        self.beats.sent.iter().find(|(sent, _)| *sent == beat).map(|(_, sent_ms)| *sent_ms)
    }

    /// Somebody has heard a start of our key: of an earlier start of ours it may be the last echo.
    pub(super) fn note_echo(&mut self, echo: Option<(u64, u64)>) {
        if echo.is_some_and(|(start, _)| start != self.start) {
            self.lives.suspected_ms = Some(self.now.mono_ms);
        }
    }

    pub(super) fn beat_if_due(&mut self) -> Result<()> {
        let (now_ms, lease_ms) = (self.now.mono_ms, self.config.lease_ms);
        if now_ms < self.beats.due_ms {
            return Ok(());
        }
        self.beats.beat += 1;
        // A little earlier or later each time, so that nodes that started together do not speak together for ever.
        let jitter_ms = self.start.rotate_left((self.beats.beat % 64) as u32) % (lease_ms / 20).max(1);
        self.beats.due_ms = now_ms + (lease_ms / 5 - lease_ms / 40 + jitter_ms).max(1);
        self.beats.sent.push_back((self.beats.beat, now_ms));
        if self.beats.sent.len() > BEATS_KEPT {
            self.beats.sent.pop_front();
        }
        let base = Heartbeat {
            start: self.start,
            beat: self.beats.beat,
            name: self.config.name.clone(),
            vector: self.vector(),
            feed: self.feed.position(),
            idle: self.is_at_rest(),
            echo: None,
            whole: self.whole(),
            hears: self.hears(),
            roster: self.roster.digest(),
        };
        for client in self.connected() {
            let heard = self.peers.get(&client).and_then(|peer| peer.heartbeat.as_ref());
            let echo = heard.map(|heartbeat| (heartbeat.start, heartbeat.beat));
            let beat = Heartbeat { echo, ..base.clone() };
            self.outputs.push_back(Output::Send(client, Message::Heartbeat(beat)));
        }
        self.send_life(&base)
    }

    /// A signed sign of life, to members that hear somebody whom we do not hear, or who may hear our twin.
    fn send_life(&mut self, base: &Heartbeat) -> Result<()> {
        let (now_ms, lease_ms) = (self.now.mono_ms, self.config.lease_ms);
        let suspected = recent(self.lives.suspected_ms, now_ms, lease_ms);
        let bridges = |client: &ClientId| {
            let heard = self.peers.get(client).and_then(|peer| peer.heartbeat.as_ref());
            let strange = |other: &ClientId| *other != self.config.me && !base.hears.contains(other);
            suspected || heard.is_some_and(|heartbeat| heartbeat.hears.iter().any(strange))
        };
        let bridges: Vec<_> = self.connected().into_iter().filter(bridges).collect();
        if bridges.is_empty() {
            return Ok(());
        }
        let mut echoes: BTreeMap<ClientId, (u64, u64)> = BTreeMap::new();
        for ((client, start), heard) in &self.lives.heard {
            let later = |known: &(u64, u64)| {
                self.lives.heard.get(&(*client, known.0)).is_some_and(|known| known.at_ms >= heard.at_ms)
            };
            if recent(Some(heard.at_ms), now_ms, lease_ms) && !echoes.get(client).is_some_and(later) {
                echoes.insert(*client, (*start, heard.beat));
            }
        }
        for client in &base.hears {
            if let Some(heartbeat) = self.peers.get(client).and_then(|peer| peer.heartbeat.as_ref()) {
                echoes.insert(*client, (heartbeat.start, heartbeat.beat));
            }
        }
        let body = LifeBody {
            owner: self.config.me,
            start: base.start,
            beat: base.beat,
            vector: base.vector.clone(),
            whole: base.whole.clone(),
            echoes,
        };
        let life = Life::sign(&body, &*self.keys)?;
        for client in bridges {
            self.outputs.push_back(Output::Send(client, Message::Life(life.clone())));
        }
        Ok(())
    }

    /// Takes a sign of life that may have come through others.
    pub(super) fn life(&mut self, from: ClientId, life: Life) -> Result<()> {
        let body = match life.read() {
            Ok(body) if !is_beyond_bounds(&body) => body,
            _ => {
                self.refuse(from, "a sign of life that cannot be read, or beyond its bounds".into());
                return Ok(());
            }
        };
        let (owner, start, beat) = (body.owner, body.start, body.beat);
        let known = self.lives.heard.get(&(owner, start)).is_some_and(|heard| heard.beat >= beat);
        let ours = owner == self.config.me;
        if known || (ours && start == self.start) || (!ours && !self.is_kept_owner(&owner)) {
            return Ok(());
        }
        if !life.is_of(&owner, &*self.keys) {
            self.refuse(from, "a sign of life that its client did not sign".into());
            return Ok(());
        }
        if !self.lives.has_room(owner, start, self.now.mono_ms, self.config.lease_ms) {
            return Ok(());
        }
        self.lives.heard.insert((owner, start), Heard { beat, at_ms: self.now.mono_ms });
        match ours {
            true => self.twin_heard(&body),
            false => self.relay(from, &body, life),
        }
        Ok(())
    }

    /// Another start signs with our key. That it echoes a beat that we sent just now proves that it is alive now.
    fn twin_heard(&mut self, body: &LifeBody) {
        let now_ms = self.now.mono_ms;
        self.lives.suspected_ms = Some(now_ms);
        let sent_ms = self.sent_ms(body.echoes.get(&self.config.me).copied());
        if recent(sent_ms, now_ms, self.config.lease_ms) && !self.planted(Bug::ClonesUnnoticed) {
            self.stop("another machine runs with this client's key: stop one of them for good, then restart the other");
        }
    }

    /// Believes a sign of life of another client, and passes it on to those who do not hear that client.
    fn relay(&mut self, from: ClientId, body: &LifeBody, life: Life) {
        let (owner, now_ms) = (body.owner, self.now.mono_ms);
        for client in self.connected() {
            let heartbeat = self.peers.get(&client).and_then(|peer| peer.heartbeat.as_ref());
            let needs = |heartbeat: &Heartbeat| match client == owner {
                // It is its twin that will want to know.
                true => heartbeat.start != body.start,
                false => !heartbeat.hears.contains(&owner),
            };
            if (client != from || client == owner)
                && heartbeat.is_some_and(needs)
                && !self.planted(Bug::NoRelay)
            {
                self.outputs.push_back(Output::Send(client, Message::Life(life.clone())));
            }
        }
        self.forgetting.told(owner, &body.vector, &body.whole);
        let was_live = self.is_live(&owner);
        let echoed = self.sent_ms(body.echoes.get(&self.config.me).copied());
        if self.peers.len() >= CLIENTS_MAX && !self.peers.contains_key(&owner) {
            return;
        }
        let peer = self.peers.entry(owner).or_default();
        peer.relayed = true;
        peer.heard_ms = Some(now_ms);
        peer.echoed_ms = peer.echoed_ms.max(echoed);
        if !was_live && self.is_live(&owner) {
            self.queue.wake_waiting();
        }
    }

    /// Until when a content that only a member out of our reach holds is left to come nearer by itself.
    pub(super) fn comes_nearer_until_ms(
        &self,
        entries: &[OwnedEntry],
        wanted: &Content,
        since_ms: u64,
    ) -> Option<u64> {
        let until_ms = since_ms.saturating_add(self.config.lease_ms);
        let (live, reachable) = (self.live(), self.reachable());
        let afar = |entry: &OwnedEntry| {
            let owner = entry.owner();
            let holds = entry.entry.held_content().is_some_and(|held| held.same_as(wanted));
            holds && live.contains(&owner) && !reachable.contains(&owner)
        };
        (self.now.mono_ms < until_ms && !reachable.is_empty() && entries.iter().any(afar)).then_some(until_ms)
    }
}

fn is_beyond_bounds(body: &LifeBody) -> bool {
    [body.vector.len(), body.whole.0.len(), body.echoes.len()].iter().any(|count| *count > CLIENTS_MAX)
}
