//! What an omniscient witness knows: every save and who made it, every removal that a person asked for, and every step
//! that the catalog ever took.

use std::collections::{BTreeMap, BTreeSet};
use tcat_engine::catalog::{ChainLink, Revision};
use tcat_engine::clock::{Stamp, VersionVector};
use tcat_engine::content::Content;
use tcat_engine::ids::ItemId;
use tcat_engine::paths::MediaPath;

/// When a node said its last word on an item, and the file that it said it holds.
pub type Said = (Stamp, Option<(MediaPath, Content)>);

/// The witness's book.
#[derive(Debug, Default)]
pub struct Truth {
    /// Items that a person removed for good, with the contents that they had.
    pub removed: BTreeMap<ItemId, Vec<Content>>,
    /// Every step that was ever entered in the catalog.
    pub links: BTreeMap<Revision, (ItemId, Content)>,
    /// Every step of an edit on its way that anybody ever said.
    pub steps: BTreeSet<(ItemId, Content)>,
    /// The highest fence that a catalog accepted for an item.
    pub fences: BTreeMap<(usize, ItemId), u64>,
    /// How far each node's own ledger was told to others.
    pub told: BTreeMap<usize, Stamp>,
    /// Contents that a person moved to another name, or that another item has: an item that is removed afterwards does not
    /// take them along.
    pub moved: BTreeSet<Content>,
    /// Contents that a person, anywhere, overwrote or deleted: of those a copy in trash is enough.
    pub given_up: BTreeSet<Content>,
    /// Contents of which a person, in the folder of this node, gave up one copy of several.
    pub was_twice: BTreeSet<(usize, Content)>,
    /// Every content that a person ever saved, given up since or not: it may travel before the catalog has it.
    pub saved: BTreeSet<Content>,
    /// Contents that were not saved by a person but appeared by damage, and what was there before.
    pub rotten: BTreeMap<Content, Content>,
    /// Items that a person wants gone, with the contents that they had when he said so.
    pub asked: BTreeMap<ItemId, Vec<Content>>,
    /// Contents that a person saved once more where something else stood, by node: no step was entered for them since.
    pub again: Vec<(usize, Content)>,
    /// Contents over which a person saved another, at any node.
    pub overwritten: BTreeSet<Content>,
    /// Retired members, and the last stamp of each that counts.
    pub retired: BTreeMap<usize, Stamp>,
    /// Machines that run with one key.
    pub twins: BTreeSet<usize>,
    /// Tombstones that their owners have said: the owner, the item, and the stamp.
    pub tombstones: BTreeMap<(usize, ItemId), Stamp>,
    /// The last word of each node on each item: when, and the file that it said it holds.
    pub said: BTreeMap<(usize, ItemId), Said>,
    /// How far each node knew every ledger when it last ran.
    pub knew: BTreeMap<usize, VersionVector>,
    /// Claims of downloads that each node has said, with no word yet that the work began; since when.
    pub ahead: BTreeMap<(usize, ItemId), u64>,
    /// Who began last to fetch a content from the cloud, and when.
    pub gets: BTreeMap<Content, (usize, u64)>,
    /// How often each node began a new incarnation.
    pub incarnations: BTreeMap<usize, u64>,
    /// How often each node lost its database, or got an old one back.
    pub losses: BTreeMap<usize, u64>,
}

impl Truth {
    /// The catalog took a step.
    pub fn entered(&mut self, item: ItemId, link: &ChainLink) {
        self.links.entry(link.revision).or_insert((item, link.content));
        self.again.retain(|(_, content)| !content.same_as(&link.content));
    }
}
