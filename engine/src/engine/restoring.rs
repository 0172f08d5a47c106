//! A catalog that was restored from a backup: finding out, giving back what it lost, and waiting for the others.
//!
//! What holds always: while the catalog's word is in doubt, nothing is settled, so nothing is downloaded over, killed or
//! uploaded. Our feed position enters the new epoch only after all that our mirror has was offered; so a heartbeat with
//! that epoch tells the others that we are done. All of it begins anew after a crash at any step.
//!
//! Left out: what the catalog makes of an offer ([`crate::catalog_rules`]), retirements.

use super::feed::Mirrored;
use super::tasks::Job;
use super::{Engine, Result, Waiter};
use crate::catalog::{CatalogEpoch, CatalogRow, FeedChange, FeedPosition};
use crate::catalog_orders::{NewEpoch, OFFER_FACTS_MAX, Offer, Offered};
use crate::codec;
use crate::ids::ItemId;
use crate::planted::Bug;
use crate::ports::{Effect, EffectId, Event, Outcome};
use crate::store::{Store, Table};
use crate::transaction::Transaction;
use std::collections::BTreeMap;

const META_RESTORED: &[u8] = b"restored";
const ANSWERED: &[u8] = b"answered ";
const RETRY_MS: u64 = 2_000;
/// Live members are waited for so many leases; what they offer later settles as forked.
const PATIENCE_LEASES: u64 = 10;

/// What we make of the catalog's word.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    phase: Phase,
    /// The step of giving back that is under way.
    step: Option<EffectId>,
    /// Items of which a restored catalog shows an earlier revision than our mirror, as it shows them, and when they were
    /// offered once more.
    behind: BTreeMap<ItemId, (CatalogRow, Option<u64>)>,
    /// Changes that the catalog answered to us and that the feed has yet to show, and when: a feed that passes them by
    /// is that of a catalog which lost them.
    answered: BTreeMap<ItemId, u64>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum Phase {
    /// It is believed.
    #[default]
    Whole,
    /// It was restored; a new epoch is to begin, or what we know could not be offered yet.
    Doubted,
    /// Our mirror is offered, page by page.
    Offering { epoch: CatalogEpoch, from: Vec<u8> },
    /// We have offered; the other live members are waited for, a lease at least.
    Gathering { epoch: CatalogEpoch, since_ms: u64 },
    /// The feed of the new epoch is read to its head for the first time.
    Reading,
}

impl Restoring {
    pub(super) fn load<S: Store>(tx: &Transaction<S>, position: FeedPosition, now_ms: u64) -> Result<Self> {
        let mut restoring = Self::default();
        if tx.get(Table::Meta, META_RESTORED)?.is_some() {
            restoring.phase = Phase::Gathering { epoch: position.epoch, since_ms: now_ms };
        }
        for (key, _) in tx.prefixed(Table::Tasks, ANSWERED, usize::MAX)? {
            let item = key.get(ANSWERED.len()..).and_then(|bytes| bytes.try_into().ok());
            restoring.answered.extend(item.map(|item| (ItemId(item), 0)));
        }
        Ok(restoring)
    }

    /// Whether the catalog's word is in doubt.
    pub(super) fn holds_back(&self) -> bool {
        self.phase != Phase::Whole
    }

    /// Whether the feed is not to be read now.
    pub(super) fn holds_feed(&self) -> bool {
        self.step.is_some() || matches!(self.phase, Phase::Gathering { .. })
    }

    /// Whether the feed has shown all that the catalog answered to us.
    pub(super) fn all_shown(&self) -> bool {
        self.answered.is_empty()
    }

    /// Whether the catalog shows an earlier revision of the item than it did.
    pub(super) fn is_behind(&self, item: &ItemId) -> bool {
        self.behind.get(item).is_some_and(|(_, offered_ms)| offered_ms.is_none())
    }
}

impl<S: Store> Engine<S> {
    /// The catalog never gave our feed position: it was restored. `epoch` is what it shows now.
    pub(super) fn catalog_restored(&mut self, epoch: CatalogEpoch) -> Result<()> {
        let ours = self.feed.position().epoch;
        if self.planted(Bug::RestoredCatalogWins) {
            return self.move_feed_to(FeedPosition::default());
        }
        if self.restoring.phase == Phase::Whole {
            self.event(Event::CatalogRestored);
        }
        self.restoring.phase = Phase::Doubted;
        if epoch.number > ours.number {
            return self.begin_offering(epoch);
        }
        let parts = [&self.config.me.0[..], &self.start.to_be_bytes(), &self.now.mono_ms.to_be_bytes()];
        let id = ItemId::derive("tcat 1 catalog epoch", &parts).0;
        let order = NewEpoch { seen: epoch, above: ours.number, id, author: self.config.me };
        self.restoring.step = Some(self.effect(Waiter::Restoring, Effect::NewEpoch(order)));
        Ok(())
    }

    /// A step of giving back is over.
    pub(super) fn restoring_done(&mut self, id: EffectId, outcome: Outcome) -> Result<()> {
        if self.restoring.step.take_if(|step| *step == id).is_none() {
            return Ok(());
        }
        match (std::mem::replace(&mut self.restoring.phase, Phase::Doubted), outcome) {
            (_, Outcome::Epoch(epoch)) if epoch.number > self.feed.position().epoch.number => {
                self.begin_offering(epoch)
            }
            (Phase::Offering { epoch, from }, Outcome::Offered(Offered::Taken)) => {
                self.offer_page(epoch, from)
            }
            // Asked anew: the feed tells which epoch it is by now.
            _ => {
                self.feed.pause_until(self.now.mono_ms + RETRY_MS);
                Ok(())
            }
        }
    }

    fn begin_offering(&mut self, epoch: CatalogEpoch) -> Result<()> {
        self.offer_page(epoch, Vec::new())
    }

    /// Offers the next rows and records of our mirror; after the last one, waits for the others.
    fn offer_page(&mut self, epoch: CatalogEpoch, from: Vec<u8>) -> Result<()> {
        let page = self.tx.range(Table::Rows, &from, &[], OFFER_FACTS_MAX)?;
        let Some((last, _)) = page.last() else { return self.begin_gathering(epoch) };
        let from = [last.as_slice(), &[0]].concat();
        let fact = |(_, bytes): &(Vec<u8>, Vec<u8>)| Ok(codec::decode::<Mirrored>(bytes)?.change);
        let facts = page.iter().map(fact).collect::<Result<_>>()?;
        self.restoring.phase = Phase::Offering { epoch, from };
        let offer = Offer { facts, catalog_epoch: epoch, author: self.config.me };
        self.restoring.step = Some(self.effect(Waiter::Restoring, Effect::Offer(Box::new(offer))));
        Ok(())
    }

    fn begin_gathering(&mut self, epoch: CatalogEpoch) -> Result<()> {
        self.move_feed_to(FeedPosition { epoch, ..FeedPosition::default() })?;
        self.tx.put(Table::Meta, META_RESTORED.to_vec(), Vec::new());
        self.restoring.phase = Phase::Gathering { epoch, since_ms: self.now.mono_ms };
        for item in std::mem::take(&mut self.restoring.answered).into_keys() {
            self.tx.remove(Table::Tasks, answered_key(&item));
        }
        self.beat_soon();
        Ok(())
    }

    /// When waiting for the others ends, as far as time alone decides.
    pub(super) fn gathering_due_ms(&self) -> u64 {
        let Phase::Gathering { since_ms, .. } = self.restoring.phase else { return u64::MAX };
        let lease_ms = since_ms + self.config.lease_ms;
        if self.now.mono_ms < lease_ms { lease_ms } else { since_ms + PATIENCE_LEASES * self.config.lease_ms }
    }

    /// Once all live members have offered what they know, the catalog is read again.
    pub(super) fn gather_if_due(&mut self) {
        let Phase::Gathering { epoch, since_ms } = self.restoring.phase else { return };
        let waited_ms = self.now.mono_ms.saturating_sub(since_ms);
        let live = self.live();
        let offered = |peer: &super::exchange::Peer| {
            peer.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.feed.epoch.number >= epoch.number)
        };
        let all =
            self.peers.iter().filter(|(client, _)| live.contains(client)).all(|(_, peer)| offered(peer));
        let patient = waited_ms < PATIENCE_LEASES * self.config.lease_ms;
        if waited_ms >= self.config.lease_ms && (all || !patient) {
            self.restoring.phase = Phase::Reading;
            self.feed.hint(self.now.mono_ms);
        }
    }

    /// The feed was read to its head by a reading that began at this time.
    pub(super) fn head_reached(&mut self, began_ms: u64) -> Result<()> {
        let forked = |(row, offered_ms): &(CatalogRow, Option<u64>)| {
            offered_ms.is_some_and(|ms| ms < began_ms).then(|| row.clone())
        };
        let forked: Vec<_> = self.restoring.behind.values().filter_map(forked).collect();
        for row in forked {
            // It was offered and is not taken: the catalog's word stands.
            let item = row.item;
            self.restoring.behind.remove(&item);
            self.replace_row(row)?;
            self.queue.ready(item);
        }
        // A catalog in doubt that gives our position all the same is the one that we know: the newer file is back.
        if self.restoring.holds_back() {
            self.restoring.phase = Phase::Whole;
            self.tx.remove(Table::Meta, META_RESTORED.to_vec());
            self.event(Event::CatalogWhole);
            self.queue.wake_waiting();
        }
        let passed_by = self.restoring.answered.values().any(|answered_ms| *answered_ms < began_ms);
        if passed_by && self.restoring.phase == Phase::Whole {
            return self.catalog_restored(self.feed.position().epoch);
        }
        Ok(())
    }

    /// An answer of the catalog has changed our mirror: the feed must show it too.
    pub(super) fn note_answered(&mut self, item: ItemId) {
        self.restoring.answered.insert(item, self.now.mono_ms);
        self.tx.put(Table::Tasks, answered_key(&item), Vec::new());
    }

    /// Somebody waits for us to rest: what was answered is to be shown by the feed, now.
    pub(super) fn read_what_was_answered(&mut self) {
        if !self.restoring.all_shown() && !self.feed.is_reading() {
            self.feed.hint(self.now.mono_ms);
        }
    }

    /// The feed has shown the item as we know it, or later.
    pub(super) fn shown_by_feed(&mut self, item: &ItemId) {
        self.restoring.behind.remove(item);
        if self.restoring.answered.remove(item).is_some() {
            self.tx.remove(Table::Tasks, answered_key(item));
        }
    }

    /// The feed shows an earlier revision than we know; in the first reading of a new epoch that means a lost one.
    pub(super) fn shown_behind(&mut self, news: FeedChange) {
        if let (Phase::Reading, FeedChange::Row(row)) = (&self.restoring.phase, news) {
            self.queue.ready(row.item);
            self.restoring.behind.insert(row.item, (*row, None));
        }
    }

    /// Settle's row 12: offers the lost revisions of one item.
    pub(super) fn begin_offer(&mut self, item: ItemId, row: CatalogRow) {
        let content = row.content;
        let facts = vec![FeedChange::Row(Box::new(row))];
        let catalog_epoch = self.feed.position().epoch;
        let offer = Offer { facts, catalog_epoch, author: self.config.me };
        self.begin(item, content, Job::Offer(Box::new(offer)));
    }

    pub(super) fn offer_done(&mut self, item: ItemId, outcome: Outcome) -> Result<()> {
        if outcome != Outcome::Offered(Offered::Taken) {
            self.feed.hint(self.now.mono_ms);
            return self.end_badly(item, "the catalog did not take what it has lost; will try again".into());
        }
        if let Some((_, offered_ms)) = self.restoring.behind.get_mut(&item) {
            *offered_ms = Some(self.now.mono_ms);
        }
        self.feed.hint(self.now.mono_ms);
        self.end_well(item);
        Ok(())
    }
}

fn answered_key(item: &ItemId) -> Vec<u8> {
    [ANSWERED, &item.0[..]].concat()
}
