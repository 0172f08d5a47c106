//! What this node keeps for the other members while it is host.
//!
//! Always: it is host or it is not, for all who ask: the node itself asks here at each call whether the catalog and the
//! objects are its own or another's, so that this can change while it runs.
use std::sync::{Arc, PoisonError, RwLock};
use tcat_storage::catalog::Catalog;
use tcat_storage::objects::Objects;

/// What a host keeps.
#[derive(Clone)]
pub struct Kept {
    /// The catalog, if that is what it is host for.
    pub catalog: Option<Arc<dyn Catalog>>,
    /// The objects, if it is.
    pub objects: Option<Objects>,
}

/// Whether this node is host now, and with what.
#[derive(Default)]
pub struct Keeping {
    kept: RwLock<Option<Kept>>,
}

impl Keeping {
    /// What this node keeps; nothing while another is host.
    pub fn own(&self) -> Option<Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this node is host.
    pub fn begin(&self, kept: Kept) {
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }
}
