//! What this node keeps for the other members while it is host.
//!
//! Always: it is host or it is not, for all who ask: the node itself asks here at each call whether the catalog and the
//! objects are its own or another's, so that this can change while it runs. A node that stops being host answers no
//! member any more, while it may still read on in what it kept.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tcat_engine::catalog::{CatalogEpoch, FeedPosition};
use tcat_engine::ids::ClientId;
use tcat_storage::catalog::Catalog;
use tcat_storage::objects::Objects;
use tokio::sync::{Notify, RwLockReadGuard};

/// What a host keeps.
#[derive(Clone)]
pub struct Kept {
    /// The catalog, if that is what it is host for.
    pub catalog: Option<Arc<dyn Catalog>>,
    /// The objects, if it is.
    pub objects: Option<Objects>,
}

#[derive(Clone, Default)]
enum Part {
    /// Another member is host.
    #[default]
    None,
    Host(Kept),
    /// Host no more; what was kept is read on by this node alone.
    Leaving(Kept),
}

/// Whether this node is host now, and with what.
#[derive(Default)]
pub struct Keeping {
    part: RwLock<Part>,
    /// Held while a member's request to the catalog is answered.
    answering: tokio::sync::RwLock<()>,
    /// The epoch of the catalog that began while this node ran, if one did, and who has read the feed in it.
    began: Mutex<Option<(CatalogEpoch, BTreeSet<ClientId>)>>,
    /// Told of each change in the catalog that is kept.
    pub changed: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeping {
    /// What this node uses as its own.
    pub fn own(&self) -> Option<Kept> {
        match self.part() {
            Part::None => None,
            Part::Host(kept) | Part::Leaving(kept) => Some(kept),
        }
    }

    /// What it keeps for members.
    pub fn for_members(&self) -> Option<Kept> {
        match self.part() {
            Part::Host(kept) => Some(kept),
            Part::None | Part::Leaving(_) => None,
        }
    }

    fn part(&self) -> Part {
        self.part.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, part: Part) {
        *self.part.write().unwrap_or_else(PoisonError::into_inner) = part;
    }

    /// Held from before [`Keeping::for_members`] is asked until a member has its answer from the catalog.
    pub async fn answering(&self) -> RwLockReadGuard<'_, ()> {
        self.answering.read().await
    }

    /// From now on this node is host.
    pub fn begin(&self, kept: Kept) {
        self.set(Part::Host(kept));
    }

    /// Answers members no more; returns when the last answer that was under way is given.
    pub async fn leave(&self) {
        if let Some(kept) = self.for_members() {
            self.set(Part::Leaving(kept));
        }
        drop(self.answering.write().await);
    }

    /// A new epoch of the catalog has begun: what it lost, or never had, is being given back.
    pub fn epoch_began(&self, epoch: CatalogEpoch) {
        *lock(&self.began) = Some((epoch, BTreeSet::new()));
    }

    /// A member has read the feed from this position.
    pub fn has_read(&self, member: ClientId, after: &FeedPosition) {
        if let Some((epoch, readers)) = lock(&self.began).as_mut()
            && *epoch == after.epoch
        {
            readers.insert(member);
        }
    }

    /// Whether a member may enter new items: not while it has not given back what it knows to an epoch that it may not
    /// have heard of, or they would take the names of items that are about to come back.
    pub fn may_enter(&self, member: &ClientId) -> bool {
        lock(&self.began).as_ref().is_none_or(|(_, readers)| readers.contains(member))
    }

    /// From now on the host's catalog and objects are used. What was kept comes back, to be put aside.
    pub fn end(&self) -> Option<Kept> {
        let kept = self.own();
        self.set(Part::None);
        kept
    }
}
