//! Names in one folder that differ in spelling alone: one is the item's, the others are left to people.
//!
//! What one file system takes for two names is one elsewhere. A second file is named to people and left alone; a second
//! spelling of one file is a rename, unless both are there at once, which are two links of it.

use super::{Engine, Result};
use crate::paths::MediaPath;
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// The most that are remembered; further ones are found by every scan.
const TWINS_MAX: usize = 65_536;

/// Names that stand, or may stand, beside the spelling that an item's file has.
#[derive(Debug, Default)]
pub(super) struct Twins {
    /// Of files that are one too many each, until a person renames them.
    beside: BTreeSet<MediaPath>,
    /// Spellings that gave way to another of the same file, and when the look began that showed the other. Where the same
    /// look shows this one too, both are there.
    gave_way: BTreeMap<MediaPath, u64>,
}

impl Twins {
    /// A file at this path is one too many.
    pub(super) fn note(&mut self, path: &MediaPath) {
        if self.beside.len() < TWINS_MAX {
            self.beside.insert(path.clone());
        }
    }

    /// Whether a file that is one too many has this very name.
    pub(super) fn has(&self, path: &MediaPath) -> bool {
        self.beside.contains(path)
    }

    /// Nothing that is one too many is at this path any more; whether there was.
    pub(super) fn remove(&mut self, path: &MediaPath) -> bool {
        self.beside.remove(path)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &MediaPath> {
        self.beside.iter()
    }

    /// A file has another spelling than this, as a look shows that began at this time.
    pub(super) fn gave_way(&mut self, before: &MediaPath, since_ms: u64) {
        if self.gave_way.len() < TWINS_MAX {
            self.gave_way.insert(before.clone(), since_ms);
        }
    }

    /// Whether this name stands beside the spelling that the item's file has, though both are one file.
    pub(super) fn is_second_link(&self, path: &MediaPath, since_ms: u64) -> bool {
        self.has(path) || self.gave_way.get(path) == Some(&since_ms)
    }

    /// What gave way in it was not seen again in it.
    pub(super) fn scan_is_over(&mut self) {
        self.gave_way.clear();
    }
}

impl<S: Store> Engine<S> {
    /// The file at this path is there no more: one that stood beside it is no longer one too many, and may be another
    /// item's, or a new one.
    pub(super) fn look_at_twins(&mut self, path: &MediaPath) {
        let folded = path.folded();
        let twins: Vec<_> = self.watch.twins.iter().filter(|twin| twin.folded() == folded).cloned().collect();
        twins.into_iter().for_each(|twin| self.watch.look_again(twin, self.now.mono_ms));
    }

    /// The name is free again for the item whose file stands beside it.
    pub(super) fn is_no_twin(&mut self, path: &MediaPath) -> Result<()> {
        if self.watch.twins.remove(path)
            && let Some(tracked) = self.tracked(path)?
        {
            self.queue.ready(tracked.item);
        }
        Ok(())
    }
}
