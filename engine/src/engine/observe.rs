//! Files that changed: from what a scan saw at a path to what our ledger says of an item.
//!
//! Unknown is never absent. A file counts as gone only when two looks, a quiet time apart, have missed it. A content
//! that somebody saved enters the item's line here, before anything is offered to anybody.

use super::brake::ChangeKind;
use super::feed::is_kept;
use super::twins::Twins;
use super::{Engine, Result};
use crate::catalog::{FeedChange, RowState};
use crate::codec;
use crate::content::Content;
use crate::entry::{Copy, Held};
use crate::ids::ItemId;
use crate::observation::{Coverage, FileStat, Observation, Presence, Seen};
use crate::paths::{FoldedPath, MediaPath};
use crate::planted::Bug;
use crate::ports::{Event, Output};
use crate::store::{Store, Table};
use bincode::{Decode, Encode};
use std::collections::{BTreeMap, VecDeque};

/// Which item a path of this cache belongs to, kept under the folded path.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Tracked {
    pub(super) item: ItemId,
    /// As it is written on disk, or will be.
    pub(super) path: MediaPath,
    /// The file's stat when its content was last known.
    pub(super) stat: FileStat,
    /// Its content changed though its stat did not: nobody wrote that.
    pub(super) suspect: bool,
}

impl Tracked {
    pub(super) fn new(item: ItemId, path: MediaPath, stat: FileStat) -> Self {
        Self { item, path, stat, suspect: false }
    }
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
    /// A file is missed for long enough, and only a scan that begins after this time can tell that it was not renamed.
    scan_decides_ms: Option<u64>,
    /// Paths to look at again.
    again: BTreeMap<MediaPath, Again>,
    /// Items whose file cannot be judged now.
    unknown: BTreeMap<ItemId, MediaPath>,
    /// When a look first missed an item's file.
    missed_ms: BTreeMap<ItemId, u64>,
    /// Paths that our own effects changed, and when: what was seen there before is no news.
    touched: BTreeMap<FoldedPath, u64>,
    /// Names that differ from an item's in spelling alone.
    pub(super) twins: Twins,
}

/// A path to look at again.
#[derive(Clone, Copy, Debug)]
struct Again {
    at_ms: u64,
    /// How many looks had no answer.
    unanswered: u32,
}

/// The most paths that wait for another look; beyond it a full scan is made instead.
const AGAIN_MAX: usize = 4096;
/// A path that so many looks have said nothing of (it is ignored, or a folder now) is left to the next full scan.
const UNANSWERED_MAX: u32 = 4;
/// After so many changes of our own a full scan is made, after which they need not be remembered.
const TOUCHED_MAX: usize = 65_536;

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
        let again = self.again.values().map(|again| again.at_ms).min().unwrap_or(u64::MAX);
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
        self.again.is_empty() && self.scan_decides_ms.is_none()
    }

    /// What is at an item's path is decided by the end of a full scan; until then the item is unknown.
    pub(super) fn decide_by_scan(&mut self, item: ItemId, path: &MediaPath, now_ms: u64) {
        self.unknown.insert(item, path.clone());
        if self.scanning_since_ms.is_none() {
            self.let_scan_decide(now_ms, now_ms);
        }
    }

    /// A scan that begins after this time must tell what has become of a file.
    fn let_scan_decide(&mut self, quiet_at_ms: u64, now_ms: u64) {
        if self.scanning_since_ms.is_some_and(|since_ms| since_ms >= quiet_at_ms) {
            self.scan_decides_ms.get_or_insert(quiet_at_ms);
        } else {
            self.scan_decides_ms = Some(now_ms);
            self.want_scan(now_ms);
        }
    }

    pub(super) fn look_again(&mut self, path: MediaPath, at_ms: u64) {
        if self.again.len() < AGAIN_MAX {
            self.again.insert(path, Again { at_ms, unanswered: 0 });
        } else {
            self.scan_due_ms = self.scan_due_ms.min(at_ms);
        }
    }

    /// An effect of ours has changed what is at a path.
    pub(super) fn touch(&mut self, path: &MediaPath, now_ms: u64) {
        self.touched.insert(path.folded(), now_ms);
        if self.touched.len() > TOUCHED_MAX && self.scanning_since_ms.is_none() {
            self.want_scan(now_ms);
        }
    }

    pub(super) fn is_stale(&self, path: &MediaPath, since_ms: u64) -> bool {
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

    /// Whether what is at this path of the item is not known.
    pub(super) fn is_in_doubt(&self, item: &ItemId, path: &MediaPath) -> bool {
        self.unknown.get(item).is_some_and(|known| known.folded() == path.folded())
    }
}

/// What a planted defect takes a folder for that is not there.
#[derive(Debug)]
struct NothingThere;

impl Coverage for NothingThere {
    fn presence(&self, _path: &MediaPath) -> Presence {
        Presence::NotSeen
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
        let due: Vec<_> = self
            .watch
            .again
            .iter()
            .filter(|(_, again)| again.at_ms <= now_ms)
            .map(|(path, _)| path.clone())
            .collect();
        let mut looks = Vec::new();
        for path in due {
            let Some(again) = self.watch.again.get_mut(&path) else { continue };
            if again.unanswered >= UNANSWERED_MAX {
                self.watch.again.remove(&path);
                continue;
            }
            // Its answer may take long, or never come: that must not keep the engine from resting for ever.
            again.at_ms = now_ms + (self.config.quiet_ms.max(1000) << (2 + again.unanswered));
            again.unanswered += 1;
            looks.push(path);
        }
        for paths in looks.chunks(512) {
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
        self.old_root_scanned();
        self.watch.scanned_ms = Some(since_ms);
        self.watch.twins.scan_is_over();
        self.watch.scan_decides_ms.take_if(|decides_ms| *decides_ms <= since_ms);
        self.renames.scanned(coverage);
        let gone = |path: &&MediaPath| coverage.presence(path) == Presence::NotSeen;
        for path in self.watch.twins.iter().filter(gone).cloned().collect::<Vec<_>>() {
            self.is_no_twin(&path)?;
        }
        self.decide_crossings(coverage, since_ms)?;
        let mut from = Vec::new();
        loop {
            let page = self.tx.range(Table::Paths, &from, &[], 1024)?;
            let Some((last, _)) = page.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (_, bytes) in &page {
                let tracked: Tracked = codec::decode(bytes)?;
                let stale = self.watch.is_stale(&tracked.path, since_ms);
                match coverage.presence(&tracked.path) {
                    _ if stale => {}
                    Presence::NotSeen => self.missed(tracked, since_ms, true)?,
                    // A folder, or something behind which nothing can be seen, is where the file was.
                    Presence::Unknown if self.holds_at(&tracked)? => {
                        self.still_there(&tracked.item)?;
                        self.cannot_judge(tracked.item, tracked.path);
                    }
                    Presence::Unknown | Presence::Seen => {}
                }
            }
        }
        self.clear_doubts(coverage, since_ms)?;
        if first {
            self.queue.wake_waiting();
        }
        Ok(())
    }

    /// Items that could not be judged for something at a path which is empty, and at which their file is not: the name may
    /// have been another spelling of theirs.
    fn clear_doubts(&mut self, coverage: &dyn Coverage, since_ms: u64) -> Result<()> {
        let clear = |(_, path): &(&ItemId, &MediaPath)| {
            coverage.presence(path) == Presence::NotSeen && !self.watch.is_stale(path, since_ms)
        };
        let doubts: Vec<_> =
            self.watch.unknown.iter().filter(clear).map(|(item, path)| (*item, path.clone())).collect();
        for (item, path) in doubts {
            let held = self.own_entry(&item)?.copy.and_then(|copy| copy.held);
            if held.is_none_or(|held| held.path != path) {
                self.is_known_at(&item, &path);
            }
        }
        Ok(())
    }

    pub(super) fn scan_failed(&mut self, why: String) -> Result<()> {
        if self.planted(Bug::UnmountIsDeletion) {
            return self.scanned(&NothingThere);
        }
        self.watch.scanning_since_ms = None;
        self.watch.scan_due_ms = self.now.mono_ms + 10_000.min(self.config.scan_interval_ms);
        self.event(Event::ScanFailed(why));
        Ok(())
    }

    pub(super) fn observed(&mut self, since_ms: u64, observations: Vec<Observation>) -> Result<()> {
        for Observation { path, seen } in observations {
            self.watch.again.remove(&path);
            if seen == Seen::Absent {
                self.is_no_twin(&path)?;
            }
            let tracked = self.tracked(&path)?;
            let in_hand = tracked.as_ref().is_some_and(|tracked| self.task_moves_file(&tracked.item));
            if in_hand || self.watch.is_stale(&path, since_ms) {
                // One of our own effects has the file in hand, or has changed it since the look began.
                self.watch.look_again(path, self.now.mono_ms + self.config.quiet_ms.max(1));
                continue;
            }
            match (seen, tracked) {
                (Seen::File { content, stat }, Some(tracked)) => {
                    self.saw_tracked_path(tracked, path, (content, stat), since_ms)?
                }
                (Seen::File { content, stat }, None) => self.saw_untracked(path, content, stat)?,
                (Seen::Busy, tracked) => self.saw_busy(path, tracked)?,
                (Seen::Unreadable(why), tracked) => {
                    if let Some(tracked) = tracked {
                        self.still_there(&tracked.item)?;
                        self.cannot_judge(tracked.item, path.clone());
                    }
                    self.event(Event::Unreadable(path, why));
                }
                (Seen::Absent, Some(tracked)) if tracked.path == path => {
                    self.missed(tracked, since_ms, false)?;
                }
                (Seen::Absent, _) if self.is_folder_of_tracked(&path)? => {
                    // What was a folder is gone, and all that was below it: only a full scan tells of each.
                    self.watch.want_scan(self.now.mono_ms);
                }
                (Seen::Absent, tracked) => {
                    // Another spelling of the item's name: whatever was there keeps nobody from judging its file.
                    tracked.iter().for_each(|tracked| self.is_known_at(&tracked.item, &path));
                    self.renames.went_away(&path);
                }
            }
        }
        Ok(())
    }

    fn saw_busy(&mut self, path: MediaPath, tracked: Option<Tracked>) -> Result<()> {
        if let Some(tracked) = tracked {
            self.still_there(&tracked.item)?;
            self.watch.unknown.insert(tracked.item, path.clone());
        }
        self.watch.look_again(path, self.now.mono_ms + self.config.quiet_ms.max(1));
        Ok(())
    }

    /// A file at a path that an item of ours has, or is to have.
    fn saw_tracked_path(
        &mut self,
        tracked: Tracked,
        path: MediaPath,
        (content, stat): (Content, FileStat),
        since_ms: u64,
    ) -> Result<()> {
        let held = self.own_entry(&tracked.item)?.copy.and_then(|copy| copy.held).map(|held| held.path);
        match held {
            Some(held) if held.folded() != path.folded() => {
                // The item's own file is elsewhere yet: this one is another, and will give way.
                self.is_known_at(&tracked.item, &path);
                self.saw_untracked(path, content, stat)
            }
            Some(held)
                if held != path
                    && (stat.file_id == 0
                        || stat.file_id != tracked.stat.file_id
                        || self.watch.twins.is_second_link(&path, since_ms)) =>
            {
                // Two names that are one file on some machines. Unless the first is gone, this is one too many.
                self.watch.twins.note(&path);
                self.event(Event::Unreadable(
                    path,
                    format!("{held} is the same name elsewhere; rename one of them"),
                ));
                self.watch.look_again(held, self.now.mono_ms);
                Ok(())
            }
            // The item is to get this path, and has no file yet: this may be one that was renamed to it.
            None if self.is_file_of_others(&tracked.item, &path, &content)? => {
                self.is_known_at(&tracked.item, &path);
                self.saw_untracked(path, content, stat)
            }
            Some(held) if held != path => {
                self.watch.twins.gave_way(&held, since_ms);
                self.renamed_by_person(tracked.item, &held, &path)?;
                self.saw_file(tracked, path, content, stat)
            }
            Some(_) if self.may_be_crossed(&tracked, &path, (content, stat), since_ms)? => Ok(()),
            None if self.is_a_stranger(&tracked.item, &content)? => {
                // The name was to be used for an item that is not known here any more, or not yet.
                self.is_known_at(&tracked.item, &path);
                self.saw_untracked(path, content, stat)
            }
            _ => self.saw_file(tracked, path, content, stat),
        }
    }

    /// An item's file.
    pub(super) fn saw_file(
        &mut self,
        tracked: Tracked,
        path: MediaPath,
        content: Content,
        stat: FileStat,
    ) -> Result<()> {
        let item = tracked.item;
        self.is_known_again(&item);
        self.still_there(&item)?;
        let mut entry = self.own_entry(&item)?;
        let mut copy = entry.copy.clone().unwrap_or_default();
        self.take_as_placed(&item, &mut copy, &path, &content)?;
        let same = copy.held.as_ref().is_some_and(|held| held.content.same_as(&content) && held.path == path);
        if same && tracked.stat == stat {
            return Ok(());
        }
        // Rot keeps the stat; a person's write does not. Settling needs to know which it was.
        let same_place = copy.held.as_ref().is_some_and(|held| held.path == path);
        let suspect = if same { tracked.suspect } else { same_place && tracked.stat == stat };
        self.track(&Tracked { path: path.clone(), stat, suspect, ..tracked })?;
        self.queue.ready(item);
        if same {
            return Ok(());
        }
        if copy.held.is_none() && copy.base.is_none() {
            self.note_found(item);
        }
        if !suspect && self.is_rewritten(&item, &copy, &content)? {
            self.count_change(item, ChangeKind::Rewritten, &copy)?;
        }
        // What nobody wrote is no step of a line: it must neither travel nor be committed.
        if !suspect {
            self.extend_line(&item, &mut copy, &content)?;
        }
        copy.held = Some(Held { content, path, cached_date_ms: self.now.wall_ms });
        entry.copy = Some(copy);
        self.stage(item, entry);
        self.queue.ready(item);
        Ok(())
    }

    /// Whether somebody put another content into the item's file that the catalog never had for it.
    fn is_rewritten(&self, item: &ItemId, copy: &Copy, content: &Content) -> Result<bool> {
        let changed = copy.held.as_ref().is_some_and(|held| !held.content.same_as(content));
        Ok(changed && !self.row(item)?.is_some_and(|row| row.chain_holds(content)))
    }

    /// Whether the item's file is at this path, as far as we know.
    pub(super) fn holds_at(&self, tracked: &Tracked) -> Result<bool> {
        let held = self.own_entry(&tracked.item)?.copy.and_then(|copy| copy.held);
        Ok(held.is_some_and(|held| held.path == tracked.path))
    }

    /// The item's file cannot be judged until it is seen again: people are told, and nothing is done to it.
    fn cannot_judge(&mut self, item: ItemId, path: MediaPath) {
        if self.watch.unknown.insert(item, path).is_none() {
            self.queue.ready(item);
        }
    }

    /// The item's file can be judged.
    pub(super) fn is_known_again(&mut self, item: &ItemId) {
        self.watch.missed_ms.remove(item);
        if self.watch.unknown.remove(item).is_some() {
            self.queue.ready(*item);
        }
    }

    /// The same, if this was the path that was in doubt.
    pub(super) fn is_known_at(&mut self, item: &ItemId, path: &MediaPath) {
        if self.watch.unknown.get(item) == Some(path) {
            self.is_known_again(item);
        }
    }

    /// Whether the content of the item's file changed though nobody wrote it.
    pub(super) fn is_suspect(&self, item: &ItemId, copy: Option<&Copy>) -> Result<bool> {
        let Some(held) = copy.and_then(|copy| copy.held.as_ref()) else { return Ok(false) };
        Ok(self.tracked(&held.path)?.is_some_and(|tracked| tracked.item == *item && tracked.suspect))
    }

    /// A look, begun at this time, that did not find a tracked file. A full scan that began a quiet time after another
    /// look had missed it makes it absent, unless it has found the file under another name.
    fn missed(&mut self, tracked: Tracked, since_ms: u64, whole: bool) -> Result<()> {
        let item = tracked.item;
        if self.task_moves_file(&item) {
            return Ok(());
        }
        let mut entry = self.own_entry(&item)?;
        let holds = entry.copy.as_ref().and_then(|copy| copy.held.as_ref());
        if holds.is_none_or(|held| held.path != tracked.path) {
            self.nothing_there(&item, &tracked.path);
            return Ok(());
        }
        let first_ms = *self.watch.missed_ms.entry(item).or_insert(self.now.mono_ms);
        let quiet_at_ms = first_ms + self.config.quiet_ms.max(1);
        if since_ms < quiet_at_ms {
            self.watch.unknown.insert(item, tracked.path.clone());
            self.watch.look_again(tracked.path, quiet_at_ms.max(self.now.mono_ms));
            return Ok(());
        }
        if !whole {
            self.watch.unknown.insert(item, tracked.path);
            self.watch.let_scan_decide(quiet_at_ms, self.now.mono_ms);
            return Ok(());
        }
        self.is_known_again(&item);
        if self.was_renamed(&tracked)? {
            return Ok(());
        }
        self.forget_rename(&item)?;
        if let Some(copy) = &mut entry.copy {
            copy.held = None;
            self.count_change(item, ChangeKind::Deleted, copy)?;
        }
        self.stage(item, entry);
        self.queue.set_lost(item);
        self.queue.ready(item);
        if self.row(&item)?.is_none_or(|row| row.state != RowState::Active) {
            self.look_at_twins(&tracked.path); // no object brings this one back
        }
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

    /// Gives a path to an item, whoever had it.
    pub(super) fn track(&mut self, tracked: &Tracked) -> Result<()> {
        if let Some(before) = self.tracked(&tracked.path)?.filter(|before| before.item != tracked.item) {
            // What is seen there from now on says nothing of the one that had it.
            self.is_known_at(&before.item, &before.path);
        }
        self.watch.twins.remove(&tracked.path);
        let key = tracked.path.folded().0.into_bytes();
        self.tx.put(Table::Paths, key, codec::encode(tracked)?);
        Ok(())
    }

    /// Gives a path up, if it is the item's.
    pub(super) fn untrack(&mut self, item: &ItemId, path: &MediaPath) -> Result<()> {
        if self.tracked(path)?.is_some_and(|tracked| tracked.item == *item) {
            self.tx.remove(Table::Paths, path.folded().0.into_bytes());
            self.is_known_at(item, path);
            self.look_at_twins(path);
        }
        Ok(())
    }

    /// Takes a path for an item, unless another needs it.
    pub(super) fn claim_path(&mut self, item: &ItemId, path: &MediaPath) -> Result<bool> {
        match self.tracked(path)? {
            _ if self.renames.is_arrival(path) => return Ok(false),
            Some(tracked) if tracked.item == *item => return Ok(true),
            Some(tracked) if self.needs_path(&tracked.item, path)? => return Ok(false),
            _ => self.track(&Tracked::new(*item, path.clone(), FileStat::default()))?,
        }
        Ok(true)
    }

    /// Whether an item's file is at a path, is being put there, or is to come there.
    pub(super) fn needs_path(&self, item: &ItemId, path: &MediaPath) -> Result<bool> {
        let here = |place: &MediaPath| place.folded() == path.folded();
        if self.task_puts_file_at(item, path) {
            return Ok(true);
        }
        if self.own_entry(item)?.copy.and_then(|copy| copy.held).is_some_and(|held| here(&held.path)) {
            return Ok(true);
        }
        if self.may_be_here(item, path) {
            return Ok(true);
        }
        Ok(match self.change(item)? {
            Some(FeedChange::Row(row)) => is_kept(&row) && here(&row.cache_path),
            Some(FeedChange::Removed(_)) => false,
            // A kept version that the catalog does not know yet.
            None => self.version_of(item)?.is_some(),
        })
    }
}
