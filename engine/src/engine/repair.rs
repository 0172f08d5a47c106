//! Getting a ledger right that does not add up to its owner's head.
//!
//! The present incarnation of the ledger is streamed once more from its beginning, by a member that is whole, the owner
//! itself at best. What we lack is kept. What we have and the stream has not is dropped, but only at the end, and only
//! if what is left reproduces the owner's signed head: nobody but the owner can make us drop an entry.

use super::{Engine, Result};
use crate::batch::Batch;
use crate::clock::Stamp;
use crate::ids::{ClientId, ItemId};
use crate::message::{Fetch, Message, Page};
use crate::ports::{Event, Output};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// Repairs under way, at most one a ledger.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    under_way: BTreeMap<ClientId, Repair>,
    /// (owner, member): whose stream did not make the ledger whole, and when that was.
    failed: BTreeMap<(ClientId, ClientId), u64>,
}

#[derive(Debug)]
struct Repair {
    from: ClientId,
    /// The page that is asked for begins after this.
    next: Stamp,
    asked_ms: u64,
    /// What we have and the stream so far has not.
    dropped: BTreeSet<Stamp>,
}

/// The most entries that one repair drops; what is more waits for the next.
const DROPPED_MAX: usize = 1 << 20;

impl Repairs {
    /// The ledger is whole.
    pub(super) fn over(&mut self, owner: &ClientId) {
        self.under_way.remove(owner);
        self.failed.retain(|(ledger, _), _| ledger != owner);
    }
}

impl<S: Store> Engine<S> {
    /// Streams the ledger anew, unless that is under way or has just come to nothing with this member.
    pub(super) fn begin_repair(&mut self, from: ClientId, owner: ClientId) {
        let (now_ms, lease_ms) = (self.now.mono_ms, self.config.lease_ms);
        self.repairs.failed.retain(|_, at_ms| now_ms.saturating_sub(*at_ms) < lease_ms);
        let busy = self.repairs.under_way.get(&owner);
        if busy.is_some_and(|repair| now_ms.saturating_sub(repair.asked_ms) < lease_ms / 2)
            || self.repairs.failed.contains_key(&(owner, from))
        {
            return;
        }
        let next = Stamp { counter: 0, ..self.known(&owner) };
        let repair = Repair { from, next, asked_ms: now_ms, dropped: BTreeSet::new() };
        self.repairs.under_way.insert(owner, repair);
        self.outputs.push_back(Output::Send(from, Message::Fetch(Fetch { owner, after: next })));
    }

    /// Whether a page is the one that a repair waits for.
    pub(super) fn repairs_with(&self, from: ClientId, page: &Page) -> bool {
        let repair = self.repairs.under_way.get(&page.owner);
        let of_life = page.through.incarnation == self.known(&page.owner).incarnation;
        of_life && repair.is_some_and(|repair| repair.from == from && repair.next == page.after)
    }

    /// Takes the next page of a repair; it was checked.
    pub(super) fn repair(&mut self, from: ClientId, page: &Page) -> Result<()> {
        let owner = page.owner;
        let has: BTreeSet<_> = page.batches.iter().flat_map(Batch::records).map(|(stamp, _)| stamp).collect();
        let after = Stamp { counter: page.after.counter.saturating_add(1), ..page.after };
        let have = self.known(&owner);
        let mut dropped = Vec::new();
        self.each_entry(&owner, after, page.through.min(have), |_, _, stamp, _| {
            if !has.contains(&stamp) {
                dropped.push(stamp);
            }
            Ok(())
        })?;
        self.keep_page(page)?;
        let now_ms = self.now.mono_ms;
        let Some(repair) = self.repairs.under_way.get_mut(&owner) else { return Ok(()) };
        repair.dropped.extend(dropped);
        let too_many = repair.dropped.len() > DROPPED_MAX;
        (repair.next, repair.asked_ms) = (page.through, now_ms);
        match page.head {
            _ if too_many => {}
            None if page.more => {
                let fetch = Fetch { owner, after: page.through };
                self.outputs.push_back(Output::Send(from, Message::Fetch(fetch)));
                return Ok(());
            }
            Some(head) if head.stamp == self.known(&owner) => {
                return self.end_repair(from, page, head);
            }
            // We know more by now than this member has: compared when it has that too.
            _ => {}
        }
        self.repairs.under_way.remove(&owner);
        Ok(())
    }

    fn end_repair(&mut self, from: ClientId, page: &Page, head: crate::heads::Head) -> Result<()> {
        let owner = page.owner;
        let Some(repair) = self.repairs.under_way.remove(&owner) else { return Ok(()) };
        let mut dropped: Vec<(ItemId, Stamp, Vec<u8>)> = Vec::new();
        for stamp in repair.dropped {
            if let Some(item) = self.item_of(&owner, stamp)? {
                let bytes = self.kept_record(&owner, stamp)?.entry;
                dropped.push((item, stamp, bytes));
            }
        }
        if self.heads.digest_without(&owner, &dropped) != head.hash {
            self.repairs.failed.insert((owner, from), self.now.mono_ms);
            return Ok(());
        }
        for (item, stamp, _) in &dropped {
            self.drop_entry_of(&owner, item, *stamp)?;
        }
        self.event(Event::Repaired(owner, dropped.len() as u64));
        self.become_whole(owner, head)
    }
}
