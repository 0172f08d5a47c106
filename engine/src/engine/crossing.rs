//! Files that a person gave each other's names, all at once: each path still exists, and each has another's file.
//!
//! A path that still exists keeps its item, whatever was saved there; an editor that saves by rename puts a file of a
//! new identity there. A file at an item's path that has identity *and* content of another item's file is that one's,
//! if one full scan shows that it is nowhere else, and that the file which was there has a new place too. All of that
//! is decided at the end of such a scan, and all at once; what does not come out so is an edit like any other.
//!
//! Left out: what follows from a rename (`renaming`).

use super::observe::Tracked;
use super::{Engine, Result};
use crate::content::Content;
use crate::ids::ItemId;
use crate::observation::{Coverage, FileStat, Presence};
use crate::paths::MediaPath;
use crate::store::Store;
use std::collections::BTreeMap;

/// Paths of items at which others' files were seen, since they were last decided.
#[derive(Debug, Default)]
pub(super) struct Crossings {
    seen: BTreeMap<MediaPath, Crossing>,
}

/// Another item's file at an item's path.
#[derive(Clone, Debug)]
struct Crossing {
    /// What is known of the path.
    tracked: Tracked,
    /// Whose file is there.
    of: ItemId,
    content: Content,
    stat: FileStat,
    /// When the look began that saw it.
    since_ms: u64,
}

/// The most that are kept; further ones are edits.
const CROSSINGS_MAX: usize = 4096;

impl Crossings {
    pub(super) fn is_quiet(&self) -> bool {
        self.seen.is_empty()
    }
}

impl<S: Store> Engine<S> {
    /// Whether the file at an item's own path is another item's, as far as identity and content tell; then a full scan
    /// decides.
    pub(super) fn may_be_crossed(
        &mut self,
        tracked: &Tracked,
        path: &MediaPath,
        (content, stat): (Content, FileStat),
        since_ms: u64,
    ) -> Result<bool> {
        self.crossings.seen.remove(path);
        if stat.file_id == 0 || stat.file_id == tracked.stat.file_id {
            return Ok(false);
        }
        let Some(of) = self.owner_of(&tracked.item, &content, stat.file_id)? else { return Ok(false) };
        if self.crossings.seen.len() >= CROSSINGS_MAX {
            return Ok(false);
        }
        let tracked = tracked.clone();
        self.watch.decide_by_scan(tracked.item, path, self.now.mono_ms);
        self.crossings.seen.insert(path.clone(), Crossing { tracked, of, content, stat, since_ms });
        Ok(true)
    }

    /// Another item whose file has this content and this identity.
    fn owner_of(&self, item: &ItemId, content: &Content, file_id: u64) -> Result<Option<ItemId>> {
        let Some(blake3) = content.blake3 else { return Ok(None) };
        for other in self.holding(&blake3)?.into_iter().filter(|other| other != item) {
            let held = self.own_entry(&other)?.copy.and_then(|copy| copy.held);
            let Some(held) = held.filter(|held| held.content.same_as(content)) else { continue };
            let known = self.tracked(&held.path)?.filter(|tracked| tracked.item == other);
            if known.is_some_and(|known| known.stat.file_id == file_id) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// A full scan is over that was asked for at this time: what it has seen is decided.
    pub(super) fn decide_crossings(&mut self, coverage: &dyn Coverage, since_ms: u64) -> Result<()> {
        let mut seen = std::mem::take(&mut self.crossings.seen);
        // What only an earlier look has seen is there no more, or this scan would have seen it too.
        seen.retain(|_, crossing| crossing.since_ms >= since_ms);
        // What an effect of ours has changed since is looked at again: there is another file now.
        let stale = |(path, crossing): &(&MediaPath, &Crossing)| self.watch.is_stale(path, crossing.since_ms);
        let stale: Vec<_> = seen.iter().filter(stale).map(|(path, _)| path.clone()).collect();
        for path in stale {
            seen.remove(&path);
            self.watch.look_again(path, self.now.mono_ms);
        }
        if seen.is_empty() {
            return Ok(());
        }
        // Where each file is now: at another's path, or at one that is nobody's.
        let mut places: BTreeMap<ItemId, (MediaPath, FileStat)> = BTreeMap::new();
        for (path, crossing) in &seen {
            places.insert(crossing.of, (path.clone(), crossing.stat));
        }
        for crossing in seen.values() {
            let item = crossing.tracked.item;
            if let (None, Some(arrived)) =
                (places.get(&item), self.surely_arrived(&item, &crossing.tracked.stat))
            {
                places.insert(item, arrived);
            }
        }
        let own_path_left = |item: &ItemId, at: &Option<MediaPath>| match at {
            Some(at) => {
                seen.get(at).is_some_and(|c| c.tracked.item == *item)
                    || coverage.presence(at) == Presence::NotSeen
            }
            None => false,
        };
        loop {
            let mut wrong = Vec::new();
            for (item, (to, _)) in &places {
                let at = self.own_entry(item)?.copy.and_then(|copy| copy.held).map(|held| held.path);
                let displaced = seen.get(to).is_none_or(|there| places.contains_key(&there.tracked.item));
                if !displaced || !own_path_left(item, &at) {
                    wrong.push(*item);
                }
            }
            if wrong.is_empty() {
                break;
            }
            wrong.iter().for_each(|item| _ = places.remove(item));
        }
        self.give_places(&places)?;
        for (path, Crossing { tracked, of, content, stat, .. }) in seen {
            if !places.contains_key(&of) {
                self.saw_file(tracked, path, content, stat)?;
            }
        }
        Ok(())
    }

    /// All of them at once: no path is given up before all are given.
    fn give_places(&mut self, places: &BTreeMap<ItemId, (MediaPath, FileStat)>) -> Result<()> {
        let mut before = Vec::new();
        for (item, (to, _)) in places {
            let mut entry = self.own_entry(item)?;
            let Some(held) = entry.copy.as_mut().and_then(|copy| copy.held.as_mut()) else { continue };
            let from = std::mem::replace(&mut held.path, to.clone());
            self.stage(*item, entry);
            self.untrack(item, &from)?;
            before.push((*item, from));
        }
        for (item, from) in before {
            let Some((to, stat)) = places.get(&item) else { continue };
            self.renames.went_away(to);
            self.still_there(&item)?;
            self.is_known_again(&item);
            self.track(&Tracked::new(item, to.clone(), *stat))?;
            self.renamed_by_person(item, &from, to)?;
        }
        Ok(())
    }
}
