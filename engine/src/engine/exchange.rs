//! Talking to members: signs of life, and ledgers until every vector covers every other.
//!
//! Messages may be lost, repeated and reordered: a page applies only where nothing is missing before it, and what
//! stays unanswered is asked again by the next heartbeat.

use super::ledgers::CLIENTS_MAX;
use super::{Engine, Result};
use crate::clock::Stamp;
use crate::entry::Entry;
use crate::ids::ClientId;
use crate::message::{Fetch, Heartbeat, Message, Page};
use crate::ports::{Event, Output};
use crate::store::Store;
use std::collections::{BTreeMap, VecDeque};

/// What we know of a member since this start.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) connected: bool,
    /// When we last heard from it.
    pub(super) heard_ms: Option<u64>,
    /// When we sent the latest of our heartbeats that it has echoed.
    echoed_ms: Option<u64>,
    pub(super) heartbeat: Option<Heartbeat>,
    /// Ledgers asked of it, and when.
    fetches: BTreeMap<ClientId, u64>,
}

impl Peer {
    /// Whether we hear it and it hears us, within a lease.
    pub(super) fn is_live(&self, now_ms: u64, lease_ms: u64) -> bool {
        let recent = |at: Option<u64>| at.is_some_and(|at| now_ms.saturating_sub(at) <= lease_ms);
        self.connected && recent(self.heard_ms) && recent(self.echoed_ms)
    }
}

/// Our own heartbeats.
#[derive(Debug, Default)]
pub(super) struct Beats {
    pub(super) due_ms: u64,
    beat: u64,
    /// The last few beats and when they were sent.
    sent: VecDeque<(u64, u64)>,
}

const BEATS_KEPT: usize = 256;
/// After news from elsewhere our next heartbeat carries it on, this much later at most.
const NEWS_DELAY_MS: u64 = 50;

impl<S: Store> Engine<S> {
    pub(super) fn connected(&self) -> Vec<ClientId> {
        self.peers.iter().filter(|(_, peer)| peer.connected).map(|(client, _)| *client).collect()
    }

    pub(super) fn peer_connected(&mut self, client: ClientId) -> Result<()> {
        if client == self.config.me || (self.peers.len() >= CLIENTS_MAX && !self.peers.contains_key(&client))
        {
            return Ok(());
        }
        let peer = self.peers.entry(client).or_default();
        peer.connected = true;
        peer.fetches.clear();
        self.beats.due_ms = self.now.mono_ms;
        Ok(())
    }

    pub(super) fn peer_disconnected(&mut self, client: ClientId) {
        if let Some(peer) = self.peers.get_mut(&client) {
            peer.connected = false;
            peer.heartbeat = None;
            peer.fetches.clear();
        }
        self.probe.peer_gone(&client);
        self.queue.wake_waiting();
    }

    /// Takes a message of a connected member; anybody else's is dropped.
    pub(super) fn message(&mut self, from: ClientId, message: Message) -> Result<()> {
        let now_ms = self.now.mono_ms;
        match self.peers.get_mut(&from) {
            Some(peer) if peer.connected => peer.heard_ms = Some(now_ms),
            _ => return Ok(()),
        }
        match message {
            Message::Heartbeat(heartbeat) => self.heartbeat(from, heartbeat),
            Message::Fetch(fetch) => {
                let page = self.page(fetch.owner, fetch.after)?;
                self.outputs.push_back(Output::Send(from, Message::Page(page)));
                Ok(())
            }
            Message::Page(page) => self.apply_page(from, page),
            Message::Probe(nonce) => {
                self.peer_asks(from, nonce);
                Ok(())
            }
            Message::Rest(rest) => {
                self.peer_rests(from, rest);
                Ok(())
            }
        }
    }

    fn heartbeat(&mut self, from: ClientId, heartbeat: Heartbeat) -> Result<()> {
        let was_live = self.live().contains(&from);
        let (start, lease_ms, now_ms) = (self.start, self.config.lease_ms, self.now.mono_ms);
        let echoed = heartbeat.echo.filter(|(echo_start, _)| *echo_start == start).and_then(|(_, beat)| {
            self.beats.sent.iter().find(|(sent, _)| *sent == beat).map(|(_, sent_ms)| *sent_ms)
        });
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.echoed_ms = peer.echoed_ms.max(echoed);
            peer.fetches.retain(|_, asked_ms| now_ms.saturating_sub(*asked_ms) < lease_ms / 2);
        }
        let ours = heartbeat.vector.get(&self.config.me);
        if ours > self.ledgers.myself.stamp {
            self.begin_incarnation(ours)?;
        }
        if heartbeat.feed > self.feed.position() {
            self.feed.hint(self.now.mono_ms);
        }
        let vector = self.vector();
        let ahead: Vec<_> = heartbeat
            .vector
            .iter()
            .filter(|(owner, stamp)| **owner != self.config.me && vector.get(owner) < **stamp)
            .map(|(owner, _)| *owner)
            .collect();
        for owner in ahead {
            self.ask(from, owner, vector.get(&owner));
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.heartbeat = Some(heartbeat);
        }
        if !was_live && self.live().contains(&from) {
            self.queue.wake_waiting();
        }
        Ok(())
    }

    fn ask(&mut self, from: ClientId, owner: ClientId, after: Stamp) {
        let now_ms = self.now.mono_ms;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.fetches.contains_key(&owner) {
            return;
        }
        peer.fetches.insert(owner, now_ms);
        self.outputs.push_back(Output::Send(from, Message::Fetch(Fetch { owner, after })));
    }

    /// Applies a page where it joins what we have, page and clock together.
    fn apply_page(&mut self, from: ClientId, page: Page) -> Result<()> {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.fetches.remove(&page.owner);
        }
        let have = self.ledgers.myself.vector.get(&page.owner);
        if page.owner == self.config.me || page.through <= have {
            return Ok(());
        }
        if page.after > have {
            self.ask(from, page.owner, have);
            return Ok(());
        }
        if let Err(why) = self.check_page(&page) {
            self.event(Event::Refused(from, why));
            return Ok(());
        }
        for batch in page.batches.iter().filter(|batch| batch.last_stamp() > have) {
            self.keep(batch)?;
            for (_, record) in batch.records() {
                self.queue.ready(record.item);
            }
        }
        self.witness(&page)?;
        self.ledgers.myself.vector.advance(page.owner, page.through);
        self.save_myself()?;
        if page.more {
            self.ask(from, page.owner, page.through);
        }
        self.beats.due_ms = self.beats.due_ms.min(self.now.mono_ms + NEWS_DELAY_MS);
        Ok(())
    }

    /// Everything that can be wrong with a page, before any of it is believed.
    fn check_page(&self, page: &Page) -> std::result::Result<(), String> {
        let new_owner = self.ledgers.myself.vector.get(&page.owner) == Stamp::default();
        if new_owner && self.ledgers.myself.vector.len() >= CLIENTS_MAX {
            return Err(format!(
                "a ledger of {} beyond the limit of {CLIENTS_MAX} clients",
                page.owner.short()
            ));
        }
        let mut last = page.after;
        for batch in &page.batches {
            let first = Stamp { incarnation: batch.incarnation, counter: batch.first };
            if batch.owner != page.owner || first <= last || batch.last_stamp() > page.through {
                return Err("a page whose batches are not in order".into());
            }
            batch.verify(&*self.keys).map_err(|why| why.to_string())?;
            for (_, record) in batch.records() {
                Entry::decode(&record.entry).map_err(|why| format!("an entry that cannot be read: {why}"))?;
            }
            last = batch.last_stamp();
        }
        Ok(())
    }

    /// Our own label clock follows what others wrote, and news of unknown revisions make us read the feed.
    fn witness(&mut self, page: &Page) -> Result<()> {
        for record in page.batches.iter().flat_map(|batch| batch.records().map(|(_, record)| record)) {
            let entry = Entry::decode(&record.entry)?;
            let label = self.ledgers.myself.label.witness(entry.label, self.now.wall_ms);
            self.ledgers.myself.label = label;
            let Some(base) = entry.copy.and_then(|copy| copy.base) else { continue };
            let known = self.row(&record.item)?.is_some_and(|row| row.chain_has(&base.revision));
            if !known {
                self.feed.hint(self.now.mono_ms);
            }
        }
        Ok(())
    }

    pub(super) fn beat_if_due(&mut self) -> Result<()> {
        if self.now.mono_ms < self.beats.due_ms {
            return Ok(());
        }
        self.beats.due_ms = self.now.mono_ms + (self.config.lease_ms / 5).max(1);
        self.beats.beat += 1;
        self.beats.sent.push_back((self.beats.beat, self.now.mono_ms));
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
        };
        for client in self.connected() {
            let heard = self.peers.get(&client).and_then(|peer| peer.heartbeat.as_ref());
            let echo = heard.map(|heartbeat| (heartbeat.start, heartbeat.beat));
            self.outputs
                .push_back(Output::Send(client, Message::Heartbeat(Heartbeat { echo, ..base.clone() })));
        }
        Ok(())
    }
}
