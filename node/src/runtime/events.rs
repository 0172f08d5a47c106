//! What the engine tells people: log lines, and who waits for it to rest.

use crate::refusals::{Misdeed, Refusals};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tcat_engine::ids::ItemId;
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::{BrakeAnswer, Event};
use tokio::sync::oneshot;

/// The most conflicts that are remembered for `wait` to name.
const CONFLICTS_MAX: usize = 1000;

/// The most unreadable paths that are remembered as said.
const UNREADABLE_MAX: usize = 10_000;

/// Conflicts since this start, and those who wait.
#[derive(Default)]
pub(super) struct Events {
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<()>>>,
    next: AtomicU64,
    conflicts: Mutex<VecDeque<(ItemId, MediaPath)>>,
    /// What was said of paths that cannot be read, so that each scan does not say it again.
    unreadable: Mutex<BTreeMap<MediaPath, String>>,
    refusals: Arc<Refusals>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    /// Those that count what members did wrong are given.
    pub(super) fn new(refusals: Arc<Refusals>) -> Self {
        Self { refusals, ..Self::default() }
    }

    /// Somebody waits: the number to ask the engine with, and what hears the answer.
    pub(super) fn wait(&self) -> (u64, oneshot::Receiver<()>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        (id, receiver)
    }

    /// Nobody waits for that any more.
    pub(super) fn forget(&self, id: u64) {
        lock(&self.waiting).remove(&id);
    }

    pub(super) fn rested(&self, id: u64) {
        if let Some(sender) = lock(&self.waiting).remove(&id) {
            let _ = sender.send(());
        }
    }

    /// The conflicts since this start: the item, and where its other content is kept.
    pub(super) fn conflicts(&self) -> Vec<(ItemId, MediaPath)> {
        lock(&self.conflicts).iter().cloned().collect()
    }

    /// Whether that was said of the path already; from now on it is.
    fn is_known(&self, path: &MediaPath, why: &str) -> bool {
        let mut said = lock(&self.unreadable);
        if said.len() >= UNREADABLE_MAX {
            said.clear();
        }
        said.insert(path.clone(), why.to_owned()).is_some_and(|before| before == why)
    }

    /// One line in the log for each event.
    pub(super) fn tell(&self, event: Event) {
        match event {
            Event::Imported(item, path) => tracing::info!(?item, "{path:?}: imported"),
            Event::Uploaded(item, path) => tracing::info!(?item, "{path:?}: uploaded"),
            Event::FetchedFrom(item, path, from) => {
                tracing::info!(?item, "{path:?}: fetched from {}", from.short());
            }
            Event::FetchedFromCloud(item, path) => tracing::info!(?item, "{path:?}: fetched from the cloud"),
            Event::Restored(item, path) => {
                tracing::info!(?item, "{path:?}: was gone from its place and is back");
            }
            Event::Killed(item, path) => tracing::info!(?item, "{path:?}: removed for good"),
            Event::NotKilled(item, why) => tracing::warn!(?item, "is not deleted: {why}"),
            Event::Unsound(item, why) => {
                tracing::warn!(?item, "{why}; whoever holds the content brings it again")
            }
            Event::CatalogRestored => {
                tracing::warn!("the catalog was restored from a backup: members give back what it lost")
            }
            Event::CatalogWhole => tracing::info!("the catalog has what live members know; going on"),
            Event::Conflict(item, path) => {
                tracing::warn!(?item, "{path:?}: keeps a content that conflicts with the catalog's");
                let mut conflicts = lock(&self.conflicts);
                conflicts.push_back((item, path));
                if conflicts.len() > CONFLICTS_MAX {
                    conflicts.pop_front();
                }
            }
            Event::Trashed(item, path) => {
                tracing::info!(?item, "{path:?}: its item was removed; it is in trash")
            }
            Event::Renamed(item, path) => {
                tracing::info!(?item, "{path:?}: has the name that the catalog assigned")
            }
            Event::Repathed(item, from, to) => {
                tracing::info!(?item, "{from:?}: renamed here; the catalog has it at {to:?} now")
            }
            Event::Unreadable(path, why) if self.is_known(&path, &why) => {}
            Event::Unreadable(path, why) => tracing::warn!("{path:?}: is not synchronised: {why}"),
            Event::Failing(item, why) => tracing::warn!(?item, "{why}"),
            Event::Parked(item, why) => tracing::error!(?item, "given up for now: {why}"),
            Event::Refused(client, why) => self.refusals.note(client, Misdeed::Ledger, &why),
            Event::SentOtherBytes(client, item) => {
                let what = format!("it sent other bytes than those of the content of item {item}");
                self.refusals.note(client, Misdeed::Content, &what);
            }
            Event::NewIncarnation => {
                tracing::warn!(
                    "others know more of this node than it does (was it restored?): it begins a new incarnation"
                );
            }
            Event::Repaired(client, dropped) => {
                tracing::warn!(
                    client = client.short(),
                    "its ledger was incomplete here and is repaired ({dropped} entries dropped)"
                );
            }
            Event::Stopped(why) => tracing::error!("nothing is done here any more: {why}"),
            Event::CatalogAway(why) => {
                tracing::warn!("the catalog cannot be read: {why}; going on with what is known")
            }
            Event::CatalogBack => tracing::info!("the catalog can be read again"),
            Event::ScanFailed(why) => tracing::warn!("{why}"),
            Event::BrakeOn(why) => tracing::error!("the brake is on: {why}"),
            Event::BrakeOff(BrakeAnswer::Accept, items) => {
                tracing::warn!("the brake is off: what happened to {items} items is accepted")
            }
            Event::BrakeOff(BrakeAnswer::Refuse, items) => {
                tracing::warn!("the brake is off: what happened to {items} items is being undone")
            }
            Event::Asking(item, what) => tracing::warn!(?item, "{what}"),
        }
    }
}
