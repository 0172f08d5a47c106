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
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What we know of a member since this start.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) connected: bool,
    /// Since when.
    connected_ms: u64,
    /// When the last connection ended.
    gone_ms: Option<u64>,
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

    /// Until when it may still turn out to be live, if it was connected just now.
    pub(super) fn greets_until_ms(&self, now_ms: u64, lease_ms: u64) -> Option<u64> {
        let until_ms = match self.connected {
            true if self.is_live(now_ms, lease_ms) => 0,
            true => self.connected_ms + lease_ms,
            false => self.gone_ms.map_or(0, |gone_ms| gone_ms + MEET_MS),
        };
        (now_ms < until_ms).then_some(until_ms)
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
/// A member that was there a moment ago, or that we have yet to meet after a start, may be back within this time.
pub(super) const MEET_MS: u64 = 5_000;
/// The longest name that a member may call itself, in bytes.
const NAME_BYTES_MAX: usize = 256;
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
        peer.connected_ms = self.now.mono_ms;
        peer.fetches.clear();
        self.beats.due_ms = self.now.mono_ms;
        Ok(())
    }

    pub(super) fn peer_disconnected(&mut self, client: ClientId) {
        if let Some(peer) = self.peers.get_mut(&client) {
            peer.connected = false;
            peer.gone_ms = Some(self.now.mono_ms);
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
        if heartbeat.name.len() > NAME_BYTES_MAX || heartbeat.vector.len() > CLIENTS_MAX {
            self.event(Event::Refused(from, "a heartbeat beyond its bounds".into()));
            return Ok(());
        }
        let was_live = self.live().contains(&from);
        let (start, lease_ms, now_ms) = (self.start, self.config.lease_ms, self.now.mono_ms);
        let echoed = heartbeat.echo.filter(|(echo_start, _)| *echo_start == start).and_then(|(_, beat)| {
            self.beats.sent.iter().find(|(sent, _)| *sent == beat).map(|(_, sent_ms)| *sent_ms)
        });
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.echoed_ms = peer.echoed_ms.max(echoed);
            peer.fetches.retain(|_, asked_ms| now_ms.saturating_sub(*asked_ms) < lease_ms / 2);
        }
        let own_stamp = self.ledgers.myself.stamp;
        if heartbeat.vector.get(&self.config.me) > own_stamp {
            // It says that it knows more of us than we do. Its word is not enough: only what we signed proves it.
            self.ask(from, self.config.me, own_stamp);
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
        if page.owner == self.config.me {
            return self.own_page(from, &page);
        }
        let have = self.ledgers.myself.vector.get(&page.owner);
        if page.through <= have {
            return Ok(());
        }
        if page.after > have {
            self.ask(from, page.owner, have);
            return Ok(());
        }
        if let Err(why) = self.check_page(from, &page) {
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

    /// A page of our own ledger that somebody else has. What we signed and do not know is proof that we were restored.
    fn own_page(&mut self, from: ClientId, page: &Page) -> Result<()> {
        let own_stamp = self.ledgers.myself.stamp;
        let Some(last) = page.batches.last().map(|batch| batch.last_stamp()) else { return Ok(()) };
        if last <= own_stamp {
            return Ok(());
        }
        match self.check_page(from, page) {
            Ok(()) => self.begin_incarnation(last),
            Err(why) => {
                self.event(Event::Refused(from, why));
                Ok(())
            }
        }
    }

    /// Everything that can be wrong with a page, before any of it is believed.
    fn check_page(&self, from: ClientId, page: &Page) -> std::result::Result<(), String> {
        // The last record of a ledger always counts, so a page's end is its last batch's. Only the owner itself may
        // say that a new life of its ledger is empty.
        let end = page.batches.last().map_or(page.after, |batch| batch.last_stamp()).max(page.after);
        if page.through != end && !(page.through.counter == 0 && page.owner == from) {
            return Err("a page that claims more than it brings".into());
        }
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
            let mut items = BTreeSet::new();
            for (_, record) in batch.records() {
                Entry::decode(&record.entry).map_err(|why| format!("an entry that cannot be read: {why}"))?;
                if !items.insert(record.item) {
                    return Err("a batch with two entries for one item".into());
                }
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
            self.note_cache(page.owner, entry.cache);
            let Some(copy) = entry.copy else { continue };
            if !copy.line.is_empty() {
                self.travelling.note(record.item);
            }
            let Some(base) = copy.base else { continue };
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
