//! What the engine keeps across a crash, behind one synchronous, transactional trait.
//!
//! The engine decides keys and values; a store only orders, keeps and returns them. Production (redb on disk) and
//! simulation (redb on a simulated disk, or [`MemoryStore`]) run the same engine over it.

use crate::planted::{Plants, Sound};
use std::collections::BTreeMap;
use std::ops::Bound;

/// The ordered maps that a store keeps. The number is part of the disk format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Table {
    /// Single values: our identity, vector, feed position.
    Meta = 0,
    /// (item, owner) -> entry with its dot.
    Entries = 1,
    /// (owner, stamp) -> item: every ledger in dot order.
    EntryOrder = 2,
    /// (owner, stamp of its first entry) -> signed batch without the entries.
    Batches = 3,
    /// item -> catalog row or removal record: the mirror of the catalog.
    Rows = 4,
    /// folded path -> item: which file of this cache is which item.
    Paths = 5,
    /// item -> nothing: items that settle has yet to look at.
    Unsettled = 6,
    /// task key -> journal of a task that survives a crash.
    Tasks = 7,
    /// (BLAKE3, item) -> nothing: which of our files hold a content.
    Contents = 8,
    /// (task, content) -> highest epoch known; (task, content, item, owner) -> nothing: whose entries claim what.
    Claims = 9,
    /// (owner, catalog epoch, feed number, item) -> nothing: entries that equal the catalog, as marks absorb them.
    Settled = 10,
}

impl Table {
    /// All tables, in the order of their numbers.
    pub const ALL: [Table; 11] = [
        Table::Meta,
        Table::Entries,
        Table::EntryOrder,
        Table::Batches,
        Table::Rows,
        Table::Paths,
        Table::Unsettled,
        Table::Tasks,
        Table::Contents,
        Table::Claims,
        Table::Settled,
    ];
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// One write: the value to keep under a key, or none to remove it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: Vec<u8>,
    /// The new value; `None` removes the key, if it is there.
    pub value: Option<Vec<u8>>,
}

/// A store that failed. The engine stops on it: nothing that it would do next could be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node database failed: {0}")]
pub struct StoreError(pub String);

/// An ordered, transactional, durable key-value store.
pub trait Store {
    /// Which defects are planted: [`Sound`] in everything that ships.
    type Plants: Plants;

    /// The defects that are planted.
    fn plants(&self) -> &Self::Plants;

    /// The value under `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` pairs with `from <= key < to`, in byte order of keys; an empty `to` means no upper bound.
    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError>;

    /// Applies all changes, in order, or none; when it returns they survive power loss.
    fn commit(&mut self, changes: Vec<Change>) -> Result<(), StoreError>;
}

/// A store that forgets everything when it is dropped: for tests and the simulator's light mode.
#[derive(Clone, Debug)]
pub struct MemoryStore<P = Sound> {
    plants: P,
    /// By their number.
    tables: Box<[BTreeMap<Vec<u8>, Vec<u8>>; Table::ALL.len()]>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::planted(Sound)
    }
}

impl<P: Plants> MemoryStore<P> {
    /// An empty store, with the planted defects of the engine over it.
    pub fn planted(plants: P) -> Self {
        Self { plants, tables: Default::default() }
    }

    /// The same contents with other planted defects.
    pub fn with_plants(self, plants: P) -> Self {
        Self { plants, ..self }
    }
}

impl<P: Plants> Store for MemoryStore<P> {
    type Plants = P;

    fn plants(&self) -> &P {
        &self.plants
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables[table as usize].get(key).cloned())
    }

    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let below_to = |key: &[u8]| to.is_empty() || key < to;
        Ok(self.tables[table as usize]
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| below_to(key))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn commit(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        for Change { table, key, value } in changes {
            let map = &mut self.tables[table as usize];
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }
}
