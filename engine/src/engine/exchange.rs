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
use crate::planted::Bug;
use crate::ports::Output;
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// What we know of a member since this start.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) connected: bool,
    /// Since when.
    connected_ms: u64,
    /// When the last connection ended.
    gone_ms: Option<u64>,
    /// Whether we hear it through others.
    pub(super) relayed: bool,
    /// When we last heard from it without a relay.
    pub(super) direct_ms: Option<u64>,
    /// When we last heard from it.
    pub(super) heard_ms: Option<u64>,
    /// When we sent the latest of our heartbeats that it has echoed.
    pub(super) echoed_ms: Option<u64>,
    pub(super) heartbeat: Option<Heartbeat>,
    /// Ledgers asked of it, and when.
    fetches: BTreeMap<ClientId, u64>,
}

impl Peer {
    /// Whether we hear it and it hears us, within a lease.
    pub(super) fn is_live(&self, now_ms: u64, lease_ms: u64) -> bool {
        let recent = |at: Option<u64>| at.is_some_and(|at| now_ms.saturating_sub(at) <= lease_ms);
        (self.connected || self.relayed) && recent(self.heard_ms) && recent(self.echoed_ms)
    }

    /// Whether its connection ended, and what others pass on of it since may be from before that.
    pub(super) fn may_be_gone(&self, now_ms: u64, lease_ms: u64) -> bool {
        let until_ms = |gone_ms: u64| gone_ms.saturating_add(2 * lease_ms);
        !self.connected && self.gone_ms.is_some_and(|gone_ms| now_ms < until_ms(gone_ms))
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

/// A member that was there a moment ago, or that we have yet to meet after a start, may be back within this time.
pub(super) const MEET_MS: u64 = 5_000;
/// The longest name that a member may call itself, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// After news from elsewhere our next heartbeat carries it on, this much later at most.
const NEWS_DELAY_MS: u64 = 50;

impl<S: Store> Engine<S> {
    /// Members are to hear of us at once.
    pub(super) fn beat_soon(&mut self) {
        self.beats.due_ms = self.now.mono_ms;
    }

    pub(super) fn connected(&self) -> Vec<ClientId> {
        self.peers.iter().filter(|(_, peer)| peer.connected).map(|(client, _)| *client).collect()
    }

    pub(super) fn peer_connected(&mut self, client: ClientId) -> Result<()> {
        if client == self.config.me || (self.peers.len() >= CLIENTS_MAX && !self.peers.contains_key(&client))
        {
            return Ok(());
        }
        if self.is_barred(&client) {
            self.outputs.push_back(Output::Drop(client));
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
            // Until others pass on that it is alive.
            (peer.relayed, peer.echoed_ms, peer.direct_ms) = (false, None, None);
            peer.gone_ms = Some(self.now.mono_ms);
            peer.heartbeat = None;
            peer.fetches.clear();
        }
        self.probe.peer_gone(&client);
        self.roster.gone(&client);
        self.queue.wake_waiting();
    }

    /// Takes a message of a connected member; anybody else's is dropped.
    pub(super) fn message(&mut self, from: ClientId, message: Message) -> Result<()> {
        let now_ms = self.now.mono_ms;
        match self.peers.get_mut(&from) {
            Some(peer) if peer.connected => {
                (peer.heard_ms, peer.direct_ms) = (Some(now_ms), Some(now_ms));
            }
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
            Message::Life(life) => self.life(from, life),
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
        if heartbeat.name.len() > NAME_BYTES_MAX
            || heartbeat.vector.len() > CLIENTS_MAX
            || heartbeat.whole.0.len() > CLIENTS_MAX
            || heartbeat.hears.len() > CLIENTS_MAX
        {
            self.refuse(from, "a heartbeat beyond its bounds".into());
            return Ok(());
        }
        let was_live = self.is_live(&from);
        let (now_ms, lease_ms) = (self.now.mono_ms, self.config.lease_ms);
        let was_echoed = self.peers.get(&from).is_some_and(|peer| peer.is_live(now_ms, lease_ms));
        let echoed = self.sent_ms(heartbeat.echo);
        self.note_echo(heartbeat.echo);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.echoed_ms = peer.echoed_ms.max(echoed);
            peer.fetches.retain(|_, asked_ms| now_ms.saturating_sub(*asked_ms) < lease_ms / 2);
        }
        let own_stamp = self.ledgers.myself.stamp;
        let theirs = heartbeat.vector.get(&self.config.me);
        if theirs > own_stamp {
            // It says that it knows more of us than we do. Its word is not enough: only what we signed proves it.
            self.ask(from, self.config.me, own_stamp);
        } else if self.heads.in_gap(theirs) || self.is_other_head(&self.config.me, &heartbeat) {
            self.ask(from, self.config.me, Stamp { counter: theirs.counter.saturating_sub(1), ..theirs });
        }
        self.forgetting.told(from, &heartbeat.vector, &heartbeat.whole);
        if heartbeat.feed > self.feed.position() {
            self.feed.hint(self.now.mono_ms);
        }
        let ahead: Vec<_> = heartbeat
            .vector
            .iter()
            .filter(|(owner, stamp)| **owner != self.config.me && self.known(owner) < **stamp)
            .map(|(owner, _)| *owner)
            .chain(self.better_heads(&heartbeat))
            .collect();
        for owner in ahead {
            if !self.is_kept_owner(&owner) {
                continue;
            }
            self.ask(from, owner, self.known(&owner));
        }
        self.prove_claims(&heartbeat.vector);
        self.roster.heard(from, heartbeat.roster, now_ms);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.heartbeat = Some(heartbeat);
        }
        if !was_echoed {
            // It may have been away: the sooner it is echoed, the sooner both count as live for each other.
            self.beats.due_ms = self.beats.due_ms.min(self.now.mono_ms + NEWS_DELAY_MS);
        }
        if !was_live && self.is_live(&from) {
            self.queue.wake_waiting();
        }
        Ok(())
    }

    /// Whether the sender has another head of this ledger than we, at the same stamp: a fork.
    fn is_other_head(&self, owner: &ClientId, heartbeat: &Heartbeat) -> bool {
        let ours = self.heads.head(owner).map(|head| head.named());
        let theirs = heartbeat.whole.0.get(owner);
        ours.zip(theirs).is_some_and(|(ours, theirs)| ours.stamp == theirs.stamp && ours.tag != theirs.tag)
    }

    /// Ledgers of others that the sender is whole at beyond us, or at another head.
    fn better_heads(&self, heartbeat: &Heartbeat) -> Vec<ClientId> {
        let better = |(owner, theirs): (&ClientId, &crate::heads::WholeAt)| {
            let other = theirs.stamp > self.heads.whole(owner) || self.is_other_head(owner, heartbeat);
            (*owner != self.config.me && other && theirs.stamp >= self.known(owner)).then_some(*owner)
        };
        heartbeat.whole.0.iter().filter_map(better).collect()
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
    fn apply_page(&mut self, from: ClientId, mut page: Page) -> Result<()> {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.fetches.remove(&page.owner);
        }
        if page.owner == self.config.me {
            return self.own_page(from, &page);
        }
        let have = self.ledgers.myself.vector.get(&page.owner);
        let repairs = self.repairs_with(from, &page);
        let proves = page.head.is_some() && self.heads.head(&page.owner) != page.head.as_ref();
        let late = page.through < have && !self.planted(Bug::OldReleaseFrees);
        if !repairs && (late || (page.through == have && !proves)) {
            return Ok(());
        }
        if page.after > have {
            self.ask(from, page.owner, have);
            return Ok(());
        }
        if let Err(why) = self.check_page(&page) {
            self.refuse(from, why);
            return Ok(());
        }
        if !self.is_kept_owner(&page.owner) {
            return Ok(());
        }
        self.cut_retired(&mut page);
        if repairs {
            return self.repair(from, &page);
        }
        self.keep_page(&page)?;
        match page.head {
            _ if page.more => self.ask(from, page.owner, page.through),
            Some(head) => self.judge(from, page.owner, head)?,
            None => {}
        }
        Ok(())
    }

    /// Keeps what a checked page brings, and moves the clock.
    pub(super) fn keep_page(&mut self, page: &Page) -> Result<()> {
        let have = self.ledgers.myself.vector.get(&page.owner);
        self.turn_to(&page.owner, page.through.incarnation);
        for batch in &page.batches {
            self.keep(batch)?;
            for (_, record) in batch.records() {
                self.queue.ready(record.item);
            }
        }
        self.witness(page)?;
        if page.through > have {
            self.ledgers.myself.vector.advance(page.owner, page.through);
            self.save_myself()?;
            self.beats.due_ms = self.beats.due_ms.min(self.now.mono_ms + NEWS_DELAY_MS);
        }
        Ok(())
    }

    /// A page of our own ledger that somebody else has. What we signed and do not know is proof that we were restored.
    fn own_page(&mut self, from: ClientId, page: &Page) -> Result<()> {
        if self.lost_stamp(page)?.is_none() {
            return Ok(());
        }
        match self.check_page(page) {
            Ok(()) => {
                let lost = self.lost_stamp(page)?;
                lost.map_or(Ok(()), |lost| self.begin_incarnation(lost))
            }
            Err(why) => {
                self.refuse(from, why);
                Ok(())
            }
        }
    }

    /// Everything that can be wrong with a page, before any of it is believed.
    fn check_page(&self, page: &Page) -> std::result::Result<(), String> {
        // A page says how far it goes by its last batch, or by a head: what else counted up to there was forgotten.
        let end = page.batches.last().map_or(page.after, |batch| batch.last_stamp()).max(page.after);
        match page.head {
            Some(head) if head.stamp != page.through || end > page.through => {
                return Err("a page whose head is of another stamp".into());
            }
            Some(head) if !head.is_of(&page.owner, &*self.keys) => {
                return Err("a head that its owner did not sign".into());
            }
            None if page.through != end => return Err("a page that claims more than it brings".into()),
            _ => {}
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
}

#[cfg(test)]
#[path = "heartbeat_tests.rs"]
mod tests;
