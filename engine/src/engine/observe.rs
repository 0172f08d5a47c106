//! Files that changed: from what a scan saw at a path to what our ledger says of an item.
//!
//! Unknown is never absent. A file counts as gone only when two looks, a quiet time apart, have missed it. A content
//! that somebody saved enters the item's line here, before anything is offered to anybody.

use super::{Engine, Result};
use crate::catalog::{ChainLink, Revision};
use crate::codec;
use crate::content::Content;
use crate::entry::{Copy, Entry, Held, LINE_LINKS_MAX};
use crate::ids::ItemId;
use crate::observation::{Coverage, FileStat, Observation, Presence, Seen};
use crate::paths::{FoldedPath, MediaPath};
use crate::ports::{Event, Output};
use crate::store::{Store, Table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Which item a path of this cache belongs to, kept under the folded path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Tracked {
    pub(super) item: ItemId,
    /// As it is written on disk, or will be.
    pub(super) path: MediaPath,
    /// The file's stat when its content was last known.
    pub(super) stat: FileStat,
    /// How many looks in a row have missed it.
    pub(super) absences: u32,
}

/// Looking at files: scans under way, and single paths to look at again.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When the scan that is under way was asked for.
    scanning_since_ms: Option<u64>,
    /// When the next full scan is due.
    scan_due_ms: u64,
    /// A scan is wanted that begins after this time.
    scan_wanted_ms: Option<u64>,
    /// When the last finished scan was asked for; none since this start.
    scanned_ms: Option<u64>,
    /// Paths to look at again, and when.
    again: BTreeMap<MediaPath, u64>,
    /// Items whose file cannot be judged now.
    unknown: BTreeMap<ItemId, MediaPath>,
    /// Paths that our own effects changed, and when: what was seen there before is no news.
    touched: BTreeMap<FoldedPath, u64>,
}

/// The most paths that wait for another look; beyond it a full scan is made instead.
const AGAIN_MAX: usize = 4096;

impl Watch {
    pub(super) fn begin_scan(&mut self, outputs: &mut VecDeque<Output>) {
        self.scanning_since_ms = Some(0);
        outputs.push_back(Output::ScanAll);
    }

    /// Asks for a full scan that begins after now.
    pub(super) fn want_scan(&mut self, now_ms: u64) {
        self.scan_due_ms = self.scan_due_ms.min(now_ms);
        self.scan_wanted_ms = Some(now_ms);
    }

    pub(super) fn due_ms(&self) -> u64 {
        let again = self.again.values().min().copied().unwrap_or(u64::MAX);
        if self.scanning_since_ms.is_some() { again } else { again.min(self.scan_due_ms) }
    }

    /// Whether a full scan was finished that was asked for at this time or later.
    pub(super) fn scanned_since(&self, ms: u64) -> bool {
        self.scanned_ms.is_some_and(|scanned| scanned >= ms)
    }

    /// Whether the whole folder was seen at some time since this start.
    pub(super) fn is_known(&self) -> bool {
        self.scanned_ms.is_some()
    }

    /// Whether no path waits for another look.
    pub(super) fn is_quiet(&self) -> bool {
        self.again.is_empty()
    }

    pub(super) fn look_again(&mut self, path: MediaPath, at_ms: u64) {
        if self.again.len() < AGAIN_MAX {
            self.again.insert(path, at_ms);
        } else {
            self.scan_due_ms = self.scan_due_ms.min(at_ms);
        }
    }

    /// An effect of ours has changed what is at a path.
    pub(super) fn touch(&mut self, path: &MediaPath, now_ms: u64) {
        self.touched.insert(path.folded(), now_ms);
    }

    fn is_stale(&self, path: &MediaPath, since_ms: u64) -> bool {
        self.touched.get(&path.folded()).is_some_and(|touched_ms| *touched_ms >= since_ms)
    }

    /// The file cannot be judged until it is looked at again, now.
    pub(super) fn doubt(&mut self, item: ItemId, path: MediaPath, now_ms: u64) {
        self.unknown.insert(item, path.clone());
        self.look_again(path, now_ms);
    }

    pub(super) fn is_unknown(&self, item: &ItemId) -> bool {
        self.unknown.contains_key(item)
    }
}

impl<S: Store> Engine<S> {
    pub(super) fn scan_if_due(&mut self) {
        if self.watch.scanning_since_ms.is_none() && self.now.mono_ms >= self.watch.scan_due_ms {
            self.watch.scanning_since_ms = Some(self.now.mono_ms);
            self.outputs.push_back(Output::ScanAll);
        }
    }

    pub(super) fn look_if_due(&mut self) {
        let now_ms = self.now.mono_ms;
        let due: Vec<_> =
            self.watch.again.iter().filter(|(_, at)| **at <= now_ms).map(|(path, _)| path.clone()).collect();
        for paths in due.chunks(512) {
            // Looked for again if no answer comes: a lost answer must not keep the engine from resting for ever.
            for path in paths {
                self.watch.again.insert(path.clone(), now_ms + self.config.quiet_ms.max(1000) * 4);
            }
            self.outputs.push_back(Output::Look(paths.to_vec()));
        }
    }

    pub(super) fn scanned(&mut self, coverage: &dyn Coverage) -> Result<()> {
        let since_ms = self.watch.scanning_since_ms.take().unwrap_or(0);
        self.watch.touched.retain(|_, touched_ms| *touched_ms >= since_ms);
        let wanted_since = self.watch.scan_wanted_ms.take_if(|wanted_ms| *wanted_ms <= since_ms).is_none()
            && self.watch.scan_wanted_ms.is_some();
        let pause_ms = if wanted_since { 0 } else { self.config.scan_interval_ms };
        self.watch.scan_due_ms = self.now.mono_ms.saturating_add(pause_ms);
        let first = self.watch.scanned_ms.is_none();
        self.watch.scanned_ms = Some(since_ms);
        let mut from = Vec::new();
        loop {
            let page = self.tx.range(Table::Paths, &from, &[], 1024)?;
            let Some((last, _)) = page.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (_, bytes) in &page {
                let tracked: Tracked = codec::decode(bytes)?;
                let stale = self.watch.is_stale(&tracked.path, since_ms);
                if !stale && coverage.presence(&tracked.path) == Presence::NotSeen {
                    self.missed(tracked)?;
                }
            }
        }
        if first {
            self.queue.wake_waiting();
        }
        Ok(())
    }

    pub(super) fn scan_failed(&mut self, why: String) {
        self.watch.scanning_since_ms = None;
        self.watch.scan_due_ms = self.now.mono_ms + 10_000.min(self.config.scan_interval_ms);
        self.event(Event::ScanFailed(why));
    }

    pub(super) fn observed(&mut self, since_ms: u64, observations: Vec<Observation>) -> Result<()> {
        for Observation { path, seen } in observations {
            self.watch.again.remove(&path);
            let tracked = self.tracked(&path)?;
            let in_hand = tracked.as_ref().is_some_and(|tracked| self.task_moves_file(&tracked.item));
            if in_hand || self.watch.is_stale(&path, since_ms) {
                // One of our own effects has the file in hand, or has changed it since the look began.
                self.watch.look_again(path, self.now.mono_ms + self.config.quiet_ms.max(1));
                continue;
            }
            match (seen, tracked) {
                (Seen::File { content, stat }, Some(tracked)) => {
                    self.saw_file(tracked, path, content, stat)?
                }
                (Seen::File { content, stat }, None) => self.saw_new_file(path, content, stat)?,
                (Seen::Busy, tracked) => self.saw_busy(path, tracked),
                (Seen::Unreadable(why), tracked) => {
                    if let Some(tracked) = tracked {
                        self.watch.unknown.insert(tracked.item, path.clone());
                    }
                    self.event(Event::Unreadable(path, why));
                }
                (Seen::Absent, Some(tracked)) if tracked.path == path => self.missed(tracked)?,
                (Seen::Absent, _) if self.is_folder_of_tracked(&path)? => {
                    // What was a folder is gone, and all that was below it: only a full scan tells of each.
                    self.watch.want_scan(self.now.mono_ms);
                }
                (Seen::Absent, _) => {}
            }
        }
        Ok(())
    }

    fn saw_busy(&mut self, path: MediaPath, tracked: Option<Tracked>) {
        if let Some(tracked) = tracked {
            self.watch.unknown.insert(tracked.item, path.clone());
        }
        self.watch.look_again(path, self.now.mono_ms + self.config.quiet_ms.max(1));
    }

    /// A file where an item of ours belongs.
    fn saw_file(
        &mut self,
        tracked: Tracked,
        path: MediaPath,
        content: Content,
        stat: FileStat,
    ) -> Result<()> {
        let item = tracked.item;
        if self.watch.unknown.remove(&item).is_some() {
            self.queue.ready(item);
        }
        let mut entry = self.own_entry(&item)?;
        let mut copy = entry.copy.clone().unwrap_or_default();
        let same = copy.held.as_ref().is_some_and(|held| held.content.same_as(&content) && held.path == path);
        let known_stat = tracked.stat;
        if !same || known_stat != stat || tracked.absences > 0 {
            self.track(&Tracked { path: path.clone(), stat, absences: 0, ..tracked })?;
            self.queue.ready(item);
        }
        if same {
            return Ok(());
        }
        // Rot keeps the stat; a person's write does not. Settling needs to know which it was.
        let same_stat = known_stat == stat && copy.held.as_ref().is_some_and(|held| held.path == path);
        self.queue.set_stat_unchanged(item, same_stat);
        self.extend_line(&item, &mut copy, &content)?;
        copy.held = Some(Held { content, path, cached_date_ms: self.now.wall_ms });
        entry.copy = Some(copy);
        self.stage(item, entry);
        self.queue.ready(item);
        Ok(())
    }

    /// Writes a saved content down in the line, unless it is what stands there or in the catalog already.
    fn extend_line(&mut self, item: &ItemId, copy: &mut Copy, content: &Content) -> Result<()> {
        let stands =
            copy.line.last().or(copy.base.as_ref()).is_some_and(|link| link.content.same_as(content));
        let row = self.row(item)?;
        let in_catalog = row.as_ref().is_some_and(|row| row.content.same_as(content) && copy.line.is_empty());
        let no_edit = copy.base.is_none() && copy.line.is_empty() && row.is_some();
        if stands || in_catalog || no_edit {
            return Ok(());
        }
        if copy.line.len() >= LINE_LINKS_MAX {
            copy.line.remove(1);
        }
        copy.line.push(ChainLink { revision: Revision(self.dot_for(item)), content: *content });
        Ok(())
    }

    /// A file that belongs to no item yet: it gets the id under which it will be imported.
    pub(super) fn saw_new_file(&mut self, path: MediaPath, content: Content, stat: FileStat) -> Result<()> {
        let dot = codec::encode(&self.next_dot())?;
        self.begin_item(ItemId::derive("tcat 1 import", &[&dot]), path, content, stat)
    }

    /// Begins an item of our own with this file.
    pub(super) fn begin_item(
        &mut self,
        item: ItemId,
        path: MediaPath,
        content: Content,
        stat: FileStat,
    ) -> Result<()> {
        let line = vec![ChainLink { revision: Revision(self.dot_for(&item)), content }];
        let held = Some(Held { content, path: path.clone(), cached_date_ms: self.now.wall_ms });
        self.stage(item, Entry { copy: Some(Copy { held, base: None, line }), ..Entry::default() });
        self.track(&Tracked { item, path, stat, absences: 0 })?;
        self.queue.ready(item);
        Ok(())
    }

    /// A look that did not find a tracked file. The second, a quiet time later, makes it absent.
    fn missed(&mut self, mut tracked: Tracked) -> Result<()> {
        let item = tracked.item;
        let mut entry = self.own_entry(&item)?;
        let holds = entry.copy.as_ref().and_then(|copy| copy.held.as_ref());
        if holds.is_none_or(|held| held.path != tracked.path) || self.task_moves_file(&item) {
            return Ok(());
        }
        tracked.absences += 1;
        let confirmed = tracked.absences >= 2;
        self.track(&tracked)?;
        if !confirmed {
            self.watch.unknown.insert(item, tracked.path.clone());
            self.watch.look_again(tracked.path, self.now.mono_ms + self.config.quiet_ms.max(1));
            return Ok(());
        }
        self.watch.unknown.remove(&item);
        if let Some(copy) = &mut entry.copy {
            copy.held = None;
        }
        self.stage(item, entry);
        self.queue.set_lost(item);
        self.queue.ready(item);
        Ok(())
    }

    fn is_folder_of_tracked(&self, path: &MediaPath) -> Result<bool> {
        let below = format!("{}/", path.folded().0);
        Ok(!self.tx.prefixed(Table::Paths, below.as_bytes(), 1)?.is_empty())
    }

    pub(super) fn tracked(&self, path: &MediaPath) -> Result<Option<Tracked>> {
        match self.tx.get(Table::Paths, path.folded().0.as_bytes())? {
            Some(bytes) => Ok(Some(codec::decode(&bytes)?)),
            None => Ok(None),
        }
    }

    pub(super) fn track(&mut self, tracked: &Tracked) -> Result<()> {
        let key = tracked.path.folded().0.into_bytes();
        self.tx.put(Table::Paths, key, codec::encode(tracked)?);
        Ok(())
    }

    /// Gives a path up, if it is the item's.
    pub(super) fn untrack(&mut self, item: &ItemId, path: &MediaPath) -> Result<()> {
        if self.tracked(path)?.is_some_and(|tracked| tracked.item == *item) {
            self.tx.remove(Table::Paths, path.folded().0.into_bytes());
        }
        Ok(())
    }

    /// Takes a path for an item, unless it is another's.
    pub(super) fn claim_path(&mut self, item: &ItemId, path: &MediaPath) -> Result<bool> {
        match self.tracked(path)? {
            Some(tracked) => Ok(tracked.item == *item),
            None => {
                let (path, stat) = (path.clone(), FileStat::default());
                self.track(&Tracked { item: *item, path, stat, absences: 0 })?;
                Ok(true)
            }
        }
    }
}
