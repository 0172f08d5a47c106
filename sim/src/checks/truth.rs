//! What an omniscient witness knows: every save and who made it, every removal that a person asked for, and every step
//! that the catalog ever took.

use std::collections::{BTreeMap, BTreeSet};
use tcat_engine::catalog::{ChainLink, Revision};
use tcat_engine::clock::Stamp;
use tcat_engine::content::Content;
use tcat_engine::ids::ItemId;

/// The witness's book.
#[derive(Debug, Default)]
pub struct Truth {
    /// Items that a person removed for good, with the contents that they had.
    pub removed: BTreeMap<ItemId, Vec<Content>>,
    /// Every step that was ever entered in the catalog.
    pub links: BTreeMap<Revision, (ItemId, Content)>,
    /// The highest fence accepted for an item.
    pub fences: BTreeMap<ItemId, u64>,
    /// How far each node's own ledger was told to others.
    pub told: BTreeMap<usize, Stamp>,
    /// Contents that a person moved to another name, or that another item has: an item that is removed afterwards does not
    /// take them along.
    pub moved: BTreeSet<Content>,
    /// Contents that a person, anywhere, overwrote or deleted: of those a copy in trash is enough.
    pub given_up: BTreeSet<Content>,
    /// Every content that a person ever saved, given up since or not: it may travel before the catalog has it.
    pub saved: BTreeSet<Content>,
    /// Contents that were not saved by a person but appeared by damage.
    pub rotten: BTreeSet<Content>,
}

impl Truth {
    /// The catalog took a step.
    pub fn entered(&mut self, item: ItemId, link: &ChainLink) {
        self.links.entry(link.revision).or_insert((item, link.content));
    }
}
