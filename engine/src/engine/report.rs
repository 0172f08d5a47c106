//! What people see of the engine: counts, members, and work under way.

use super::brake::BrakeReport;
use super::slots::Slot;
use super::tasks::{Job, Task};
use super::{Engine, Result};
use crate::catalog::FeedChange;
use crate::catalog::{CatalogRow, FeedPosition};
use crate::clock::{Incarnation, Stamp, VersionVector};
use crate::codec;
use crate::content::{Blake3, Content};
use crate::entry::{OwnedEntry, TaskKind};
use crate::ids::{ClientId, ItemId};
use crate::paths::MediaPath;
use crate::ports::EffectId;
use crate::store::{Store, Table};
use crate::transaction::Transaction;
use bincode::{Decode, Encode};
use std::collections::BTreeMap;

/// Numbers that are kept rather than counted anew.
#[derive(Debug, Default)]
pub(super) struct Counts {
    kept: Kept,
    /// Version items that were made since this start.
    pub(super) conflicts: u64,
    /// Object names that turned out taken, by item.
    generations: BTreeMap<ItemId, u32>,
}

#[derive(Debug, Default, Clone, Encode, Decode)]
struct Kept {
    rows: u64,
    versions: u64,
    cloud_fetches: u64,
}

const META_COUNTS: &[u8] = b"counts";

impl Counts {
    pub(super) fn load<S: Store>(tx: &Transaction<S>) -> Result<Self> {
        let kept = match tx.get(Table::Meta, META_COUNTS)? {
            Some(bytes) => codec::decode_prefix(&bytes)?.0,
            None => Kept::default(),
        };
        Ok(Self { kept, ..Self::default() })
    }

    /// How many object names of the item's next content are known to be taken.
    pub(super) fn generation(&self, item: &ItemId) -> u32 {
        self.generations.get(item).copied().unwrap_or(0)
    }

    pub(super) fn next_generation(&mut self, item: ItemId) {
        *self.generations.entry(item).or_default() += 1;
    }
}

/// A look at one engine.
#[derive(Clone, Debug)]
pub struct Report {
    /// Our incarnation.
    pub incarnation: Incarnation,
    /// How far we know every ledger.
    pub vector: VersionVector,
    /// Clients that were retired from the workgroup.
    pub retired: Vec<ClientId>,
    /// Up to where we have proved every ledger whole.
    pub whole: VersionVector,
    /// Why nothing is done any more, if that is so.
    pub stopped: Option<&'static str>,
    /// Whether nothing is left to do here, as far as is known without looking.
    pub at_rest: bool,
    /// Rows in the mirror of the catalog.
    pub rows: u64,
    /// Items that are not settled yet.
    pub unsettled: u64,
    /// Items that wait for a free slot to be uploaded.
    pub uploads_waiting: u64,
    /// Items that wait for a free slot to be downloaded, those that are claimed ahead included.
    pub downloads_waiting: u64,
    /// Items that are to be looked at again at a time: at most one time for each.
    pub timers: u64,
    /// Items that are kept versions of others.
    pub versions: u64,
    /// Contents that this node fetched from the cloud, ever.
    pub cloud_fetches: u64,
    /// Whether the catalog cannot be read now.
    pub catalog_away: bool,
    /// What the brake holds.
    pub brake: BrakeReport,
    /// Members met since this start.
    pub peers: Vec<PeerReport>,
    /// Work under way, and what failed and is tried again.
    pub tasks: Vec<TaskReport>,
    /// Items that wait for a person or another client, and why.
    pub resting: Vec<(ItemId, String)>,
}

/// A member as we see it.
#[derive(Clone, Debug)]
pub struct PeerReport {
    /// Who.
    pub client: ClientId,
    /// Its name, if it told.
    pub name: Option<String>,
    /// Whether we hear it and it hears us, within a lease.
    pub live: bool,
    /// How long ago we heard from it, in milliseconds.
    pub last_contact_ms: Option<u64>,
    /// How many of our entries it has yet to learn, counted up to 1000; none if it did not say.
    pub lag: Option<u64>,
}

/// A task as it stands.
#[derive(Clone, Debug)]
pub struct TaskReport {
    /// The item.
    pub item: ItemId,
    /// What is done.
    pub kind: &'static str,
    /// How far it is, in words.
    pub state: &'static str,
    /// The effect under way, to look up its bytes.
    pub effect: Option<EffectId>,
    /// The content's length in bytes.
    pub total_bytes: u64,
    /// What went wrong last time.
    pub error: Option<String>,
}

/// An entry as it is kept: its owner, stamp and item, and its bytes.
pub type KeptEntry = (ClientId, Stamp, ItemId, Vec<u8>);

/// Everything known here of one item.
#[derive(Clone, Debug)]
pub struct ItemReport {
    /// Its row.
    pub row: Option<CatalogRow>,
    /// Everybody's word on it.
    pub entries: Vec<OwnedEntry>,
}

impl<S: Store> Engine<S> {
    /// The time of the last input.
    pub fn now_ms(&self) -> u64 {
        self.now.mono_ms
    }

    /// A look at what there is; changes nothing.
    pub fn report(&self) -> Report {
        Report {
            incarnation: self.ledgers.myself.stamp.incarnation,
            vector: self.vector(),
            retired: self.roster.retired().collect(),
            whole: self.whole().stamps(),
            stopped: self.stopped,
            at_rest: self.is_at_rest(),
            rows: self.counts.kept.rows,
            unsettled: self.queue.unsettled() as u64,
            uploads_waiting: self.queue.waiting_for_slot(Slot::Upload) as u64,
            downloads_waiting: self.downloads_waiting(),
            timers: self.queue.timers() as u64,
            versions: self.counts.kept.versions,
            cloud_fetches: self.counts.kept.cloud_fetches,
            catalog_away: self.feed.is_away(),
            brake: self.brake_report(),
            peers: self.peer_reports(),
            tasks: self.task_reports(),
            resting: self.queue.resting().iter().map(|(item, why)| (*item, why.clone())).collect(),
        }
    }

    fn downloads_waiting(&self) -> u64 {
        let slotless = [Slot::Download, Slot::Ahead].map(|kind| self.queue.waiting_for_slot(kind));
        // Of what is claimed ahead some still listen.
        let listening = |task: &&Task| task.job.is_ahead(&task.content) && task.until_ms.is_some();
        let listen = self.tasks.iter().map(|(_, task)| task).filter(listening).count();
        slotless.iter().sum::<usize>().saturating_add(listen) as u64
    }

    fn peer_reports(&self) -> Vec<PeerReport> {
        let live = self.live();
        let report = |client: &ClientId, peer: &super::exchange::Peer| PeerReport {
            client: *client,
            name: peer.heartbeat.as_ref().map(|heartbeat| heartbeat.name.clone()),
            live: live.contains(client),
            last_contact_ms: peer.heard_ms.map(|heard| self.now.mono_ms.saturating_sub(heard)),
            lag: peer.heartbeat.as_ref().map(|heard| self.entries_after(heard.vector.get(&self.config.me))),
        };
        self.peers.iter().map(|(client, peer)| report(client, peer)).collect()
    }

    fn task_reports(&self) -> Vec<TaskReport> {
        let failure = |item: &ItemId| self.attempts.failure(item).map(String::from);
        let begun = self.tasks.iter().filter(|(_, task)| !task.job.is_ahead(&task.content));
        let running = begun.map(|(item, task)| TaskReport {
            item: *item,
            kind: task.job.name(),
            state: task.job.state(),
            effect: task.effect,
            total_bytes: match task.job {
                Job::Upload(_) | Job::Download(_) | Job::Take(_) => task.content.size,
                _ => 0,
            },
            error: failure(item),
        });
        let failing = self.attempts.failures().filter(|(item, _)| !self.tasks.contains_key(item));
        let failing = failing.map(|(item, why)| TaskReport {
            item: *item,
            kind: "retry",
            state: "waiting",
            effect: None,
            total_bytes: 0,
            error: Some(why.into()),
        });
        running.chain(failing).collect()
    }

    /// Every ledger as it is kept here: owner, stamp, item and the entry's bytes. For tests: it reads everything.
    pub fn ledgers(&mut self) -> Result<Vec<KeptEntry>> {
        let mut all = Vec::new();
        let end = Stamp { incarnation: Incarnation(u64::MAX), counter: u64::MAX };
        for owner in self.vector().iter().map(|(owner, _)| *owner).collect::<Vec<_>>() {
            self.each_entry(&owner, Stamp::default(), end, |_, item, stamp, bytes| {
                all.push((owner, stamp, item, bytes));
                Ok(())
            })?;
        }
        Ok(all)
    }

    /// The items for which an owner's entries stand here: what deviates from the catalog or is not absorbed yet, and its
    /// mark under the nil item. Tombstones are left out. Reads the whole ledger.
    pub fn standing_items(&self, owner: &ClientId) -> Result<Vec<ItemId>> {
        let mut items = Vec::new();
        for (_, item) in self.tx.prefixed(Table::EntryOrder, &owner.0, usize::MAX)? {
            let Ok(item) = item.try_into().map(ItemId) else { continue };
            if self.entry_of(&item, owner)?.is_some_and(|(_, entry)| !entry.is_tombstone()) {
                items.push(item);
            }
        }
        Ok(items)
    }

    /// Everything known here of one item.
    pub fn item_report(&self, item: &ItemId) -> Result<ItemReport> {
        Ok(ItemReport { row: self.row(item)?, entries: self.entries(item)? })
    }

    /// Who has, as far as is known here, a claim that stands, competes with ours on this work, and has a higher epoch, and
    /// that epoch; none where we have no claim. Whoever hears of such a one breaks off: the simulator holds us to it.
    pub fn claim_above(
        &self,
        item: &ItemId,
        task: TaskKind,
        content: &Content,
    ) -> Result<Option<(ClientId, u64)>> {
        let Some(ours) = self.own_entry(item)?.claim(task, content).map(|claim| claim.epoch) else {
            return Ok(None);
        };
        let rivals = self.rivals(item, task, content)?;
        let above = rivals.iter().map(|rival| (rival.dot.client, rival.claim.epoch));
        Ok(above.filter(|(_, epoch)| *epoch > ours).max_by_key(|(_, epoch)| *epoch))
    }

    /// How far the catalog's feed is in our mirror.
    pub fn feed_position(&self) -> FeedPosition {
        self.feed.position()
    }

    /// The item whose file belongs at a path, compared as file systems that ignore case do.
    pub fn item_at(&self, path: &MediaPath) -> Result<Option<ItemId>> {
        Ok(self.tracked(path)?.map(|tracked| tracked.item))
    }

    /// Where this cache holds a content with this BLAKE3, and all that is known of that content.
    pub fn held_path(&self, blake3: &Blake3) -> Result<Option<(MediaPath, Content)>> {
        for item in self.holding(blake3)? {
            let held = self.own_entry(&item)?.copy.and_then(|copy| copy.held);
            if let Some(held) = held.filter(|held| held.content.blake3 == Some(*blake3)) {
                return Ok(Some((held.path, held.content)));
            }
        }
        Ok(None)
    }

    /// Rows in the mirror of the catalog.
    pub(super) fn rows_known(&self) -> u64 {
        self.counts.kept.rows
    }

    pub(super) fn count_row(&mut self, before: Option<&FeedChange>, after: &FeedChange) -> Result<()> {
        let rows = |change: Option<&FeedChange>| u64::from(matches!(change, Some(FeedChange::Row(_))));
        let version = |change: Option<&FeedChange>| {
            u64::from(matches!(change, Some(FeedChange::Row(row)) if row.version_of.is_some()))
        };
        let kept = &mut self.counts.kept;
        kept.rows = kept.rows + rows(Some(after)) - rows(before).min(kept.rows);
        kept.versions = kept.versions + version(Some(after)) - version(before).min(kept.versions);
        self.save_counts()
    }

    pub(super) fn count_cloud_fetch(&mut self) {
        self.counts.kept.cloud_fetches += 1;
        // Kept with the entry that follows; a count that cannot be written must not stop a download.
        let _ = self.save_counts();
    }

    fn save_counts(&mut self) -> Result<()> {
        let bytes = codec::encode(&self.counts.kept)?;
        self.tx.put(Table::Meta, META_COUNTS.to_vec(), bytes);
        Ok(())
    }
}
