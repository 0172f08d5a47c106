//! Deleted media that lie in a folder older than the database: trashed, never imported.
//!
//! A database that is new over an old folder (wiped, restored, rejoined) does not know which files it once had as which
//! item. So what its first full scan finds is compared with the contents of all removed items. That holds for this one
//! scan alone: a file that appears later is a new item, whatever its content.

use super::{Engine, Result};
use crate::catalog::RemovalRecord;
use crate::content::Content;
use crate::ids::ItemId;
use crate::planted::Bug;
use crate::store::{Store, Table};
use crate::transaction::Transaction;
use std::collections::BTreeSet;

const META_OLD_ROOT: &[u8] = b"old-root";
const FOUND: &[u8] = b"old ";
const REMOVED: &[u8] = b"removed ";

/// What the first full scan of an older folder found.
#[derive(Debug, Default)]
pub(super) struct OldRoot {
    /// Whether that scan is not over yet.
    scanning: bool,
    /// The items that it found and that are not settled yet.
    found: BTreeSet<ItemId>,
}

impl OldRoot {
    /// `is_older`: the folder is older than the database. `is_new`: the database holds nothing yet.
    pub(super) fn load<S: Store>(tx: &mut Transaction<S>, is_older: bool, is_new: bool) -> Result<Self> {
        if is_older && is_new {
            tx.put(Table::Meta, META_OLD_ROOT.to_vec(), Vec::new());
        }
        let scanning = tx.get(Table::Meta, META_OLD_ROOT)?.is_some();
        let found = tx.prefixed(Table::Tasks, FOUND, usize::MAX)?;
        let item = |key: &[u8]| Some(ItemId(key.get(FOUND.len()..)?.try_into().ok()?));
        Ok(Self { scanning, found: found.iter().filter_map(|(key, _)| item(key)).collect() })
    }
}

impl<S: Store> Engine<S> {
    /// A scan saw a file that no entry of ours knew.
    pub(super) fn note_found(&mut self, item: ItemId) {
        if self.old_root.scanning && self.old_root.found.insert(item) {
            self.tx.put(Table::Tasks, found_key(&item), Vec::new());
        }
    }

    /// A full scan is over: what comes later is new.
    pub(super) fn old_root_scanned(&mut self) {
        if std::mem::take(&mut self.old_root.scanning) {
            self.tx.remove(Table::Meta, META_OLD_ROOT.to_vec());
        }
    }

    /// The item is settled: it needs no comparing any more.
    pub(super) fn forget_found(&mut self, item: &ItemId) {
        if self.old_root.found.remove(item) {
            self.tx.remove(Table::Tasks, found_key(item));
        }
    }

    /// Keeps up which contents were removed.
    pub(super) fn index_removal(&mut self, record: &RemovalRecord) {
        for content in &record.contents {
            self.tx.put(Table::Tasks, removed_key(content, &record.item), Vec::new());
        }
    }

    /// The removal record that speaks of a file which the first scan of an older folder found, if any does.
    pub(super) fn removed_before(&self, item: &ItemId, content: &Content) -> Result<Option<RemovalRecord>> {
        match self.old_root.found.contains(item) && !self.planted(Bug::WipedRevives) {
            true => self.removal_with(content),
            false => Ok(None),
        }
    }

    /// A removal record that has this content, whatever the item.
    pub(super) fn removal_with(&self, content: &Content) -> Result<Option<RemovalRecord>> {
        let prefix = removed_prefix(content);
        for (key, _) in self.tx.prefixed(Table::Tasks, &prefix, 8)? {
            let removed = key.get(prefix.len()..).and_then(|bytes| bytes.try_into().ok()).map(ItemId);
            let Some(removed) = removed else { continue };
            let record = self.removal(&removed)?;
            if let Some(record) = record.filter(|record| record.contents.iter().any(|c| c.same_as(content))) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

fn found_key(item: &ItemId) -> Vec<u8> {
    [FOUND, &item.0[..]].concat()
}

/// By MD5 and size, which every content has.
fn removed_prefix(content: &Content) -> Vec<u8> {
    [REMOVED, &content.md5.0[..], &content.size.to_be_bytes()].concat()
}

fn removed_key(content: &Content, item: &ItemId) -> Vec<u8> {
    [&removed_prefix(content)[..], &item.0[..]].concat()
}
