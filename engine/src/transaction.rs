//! Writes that are seen at once and kept together: a store with what the present input has changed laid over it.
//!
//! An input is handled whole; then [`Transaction::commit`] makes all that it wrote durable in one step, before any
//! output leaves the engine.

use crate::planted::{Bug, Plants};
use crate::store::{Change, Pair, Store, StoreError, Table};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

/// A store and the writes not yet committed to it.
#[derive(Debug)]
pub struct Transaction<S> {
    store: S,
    /// By the number of their table.
    writes: [Writes; Table::ALL.len()],
}

type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl<S: Store> Transaction<S> {
    /// Nothing written yet.
    pub fn new(store: S) -> Self {
        Self { store, writes: Default::default() }
    }

    /// The value under `key`, own writes included.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.writes[table as usize].get(key) {
            Some(written) => Ok(written.clone()),
            None => self.store.get(table, key),
        }
    }

    /// Up to `limit` pairs with `from <= key < to` (an empty `to`: no bound), own writes included.
    pub fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let written: Vec<_> = self.writes[table as usize]
            .range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| to.is_empty() || key.as_slice() < to)
            .collect();
        // Every write can hide one stored pair, so this many are enough to fill the page.
        let stored = self.store.range(table, from, to, limit.saturating_add(written.len()))?;
        if written.is_empty() {
            return Ok(stored);
        }
        let mut merged = Vec::with_capacity(limit.min(stored.len() + written.len()));
        let (mut stored, mut written) = (stored.into_iter().peekable(), written.into_iter().peekable());
        while merged.len() < limit {
            let order = match (stored.peek(), written.peek()) {
                (Some((kept, _)), Some((key, _))) => kept.cmp(key),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            if order == Ordering::Less {
                merged.extend(stored.next());
                continue;
            }
            if order == Ordering::Equal {
                stored.next();
            }
            if let Some((key, Some(value))) = written.next() {
                merged.push((key.clone(), value.clone()));
            }
        }
        Ok(merged)
    }

    /// All pairs whose key starts with `prefix`, `limit` at most.
    pub fn prefixed(&self, table: Table, prefix: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.range(table, prefix, &after_prefix(prefix), limit)
    }

    /// Writes a value.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.writes[table as usize].insert(key, Some(value));
    }

    /// Removes a key.
    pub fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.writes[table as usize].insert(key, None);
    }

    /// Makes all writes durable; without writes it costs nothing.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        if self.writes.iter().all(BTreeMap::is_empty) {
            return Ok(());
        }
        let mut changes = Vec::with_capacity(self.writes.iter().map(BTreeMap::len).sum());
        for (table, writes) in Table::ALL.into_iter().zip(&mut self.writes) {
            let writes = std::mem::take(writes).into_iter();
            changes.extend(writes.map(|(key, value)| Change { table, key, value }));
        }
        self.store.commit(changes)
    }

    /// Whether a defect is planted here. A constant in everything that ships.
    #[inline(always)]
    pub fn planted(&self, bug: Bug) -> bool {
        S::Plants::POSSIBLE && self.store.plants().has(bug)
    }

    /// The store, without what is not yet committed to it.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Gives the store back; uncommitted writes are lost, as in a crash.
    pub fn into_store(self) -> S {
        self.store
    }
}

/// The least key above all keys that start with `prefix`; empty (no bound) if there is none.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut after = prefix.to_vec();
    while let Some(last) = after.pop() {
        if let Some(next) = last.checked_add(1) {
            after.push(next);
            break;
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use quickcheck::QuickCheck;

    #[test]
    fn a_transaction_shows_what_the_store_will_hold_after_the_commit() {
        fn law(ops: Vec<(bool, u8, u8)>, cut: usize, from: u8, to: u8, limit: usize) -> bool {
            let limit = limit % 20;
            let mut before = MemoryStore::default();
            let (early, late) = ops.split_at(cut.checked_rem(ops.len()).unwrap_or(0));
            let change = |(put, key, value): &(bool, u8, u8)| Change {
                table: Table::Rows,
                key: vec![key % 16],
                value: put.then_some(vec![*value]),
            };
            before.commit(early.iter().map(change).collect()).unwrap();
            let mut after = before.clone();
            after.commit(late.iter().map(change).collect()).unwrap();
            let mut transaction = Transaction::new(before);
            for Change { table, key, value } in late.iter().map(change) {
                match value {
                    Some(value) => transaction.put(table, key, value),
                    None => transaction.remove(table, key),
                }
            }
            let page = |t: &Transaction<MemoryStore>| t.range(Table::Rows, &[from % 16], &[to % 16], limit);
            let expected = after.range(Table::Rows, &[from % 16], &[to % 16], limit);
            let seen = page(&transaction) == expected
                && (0..16).all(|k| transaction.get(Table::Rows, &[k]) == after.get(Table::Rows, &[k]));
            transaction.commit().unwrap();
            seen && page(&transaction) == expected
        }
        QuickCheck::new().tests(500).quickcheck(law as fn(_, _, _, _, _) -> bool);
    }

    #[test]
    fn the_key_after_a_prefix_skips_full_bytes() {
        assert_eq!(after_prefix(&[1, 255, 255]), vec![2]);
        assert_eq!(after_prefix(&[255]), Vec::<u8>::new());
    }
}
