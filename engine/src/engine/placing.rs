//! Files that change their place: set aside under a name of their own, into trash, to the name that the catalog assigned.
//!
//! An effect that found something else than it expected has changed nothing; then the file is looked at again.

use super::observe::Tracked;
use super::slots::Slot;
use super::tasks::Job;
use super::{Engine, Result};
use crate::catalog::{ChainLink, RowState};
use crate::content::Content;
use crate::entry::{Copy, Entry, Held};
use crate::ids::ItemId;
use crate::observation::FileStat;
use crate::paths::MediaPath;
use crate::ports::{Event, Outcome};
use crate::store::{Store, Table};

/// A version whose file is on its way here, or not known, is waited for in steps of this.
pub(super) const BUSY_MS: u64 = 200;
/// The most versions of one content of one item.
const VERSIONS_MAX: u32 = 10_000;

/// What keeps a content that has to leave its place.
enum Version {
    /// This version item; where the catalog has given it a place, that.
    Is { version: ItemId, place: Option<MediaPath> },
    /// It is kept already: one item has one file.
    Kept,
    /// Its file is on its way, or cannot be judged now.
    Busy,
    /// There are too many.
    TooMany,
}

impl<S: Store> Engine<S> {
    /// Whether a file is just being kept as this version item: nothing else is to be brought to that.
    pub(super) fn is_being_kept(&self, item: &ItemId) -> bool {
        self.tasks.keeps(item)
    }

    /// Keeps the item's file as a version item, under its own name; `name_number` is the first that this may have.
    pub(super) fn begin_set_aside(&mut self, item: ItemId, entry: &Entry, name_number: u32) -> Result<()> {
        let Some(held) = entry.copy.as_ref().and_then(|copy| copy.held.as_ref()) else { return Ok(()) };
        if !self.has_slot(Slot::Folder, item) {
            return Ok(());
        }
        let (version, place) = match self.version_for(&item, &held.content)? {
            Version::Is { version, place } => (version, place),
            Version::Kept => {
                self.begin_trash(item, entry);
                return Ok(());
            }
            Version::Busy => {
                self.queue.later(item, self.now.mono_ms + BUSY_MS);
                return Ok(());
            }
            Version::TooMany => {
                self.failed(item, "ten thousand versions of one item; resolve some of them".into());
                return Ok(());
            }
        };
        let place = place.filter(|_| name_number == 1);
        let names = (name_number..).map(|n| (held.path.conflict_name(&self.config.name, n), n));
        for (to, n) in place.map(|place| (place, 0)).into_iter().chain(names) {
            if self.tracked(&to)?.is_none_or(|tracked| tracked.item == version) {
                let (path, content) = (held.path.clone(), held.content);
                self.claim_path(&version, &to)?;
                self.note_version(version, item);
                self.begin(item, content, Job::SetAside { version, path, to, n });
                break;
            }
        }
        Ok(())
    }

    /// The version item of a content of an item. Its id is the same for all who hold that, so that they make one of it: the
    /// number in it rises past those that were removed, or have gone on from that content, and past no others.
    fn version_for(&self, item: &ItemId, content: &Content) -> Result<Version> {
        for n in 1..=VERSIONS_MAX {
            let version = ItemId::derive("tcat 1 version", &[&item.0, &content.key(), &n.to_le_bytes()]);
            let held = self.own_entry(&version)?.held_content().copied();
            let kept = held.is_some_and(|held| held.same_as(content));
            if self.tasks.contains_key(&version) || kept && self.watch.is_unknown(&version) {
                return Ok(Version::Busy);
            }
            if kept {
                return Ok(Version::Kept);
            }
            match self.row(&version)? {
                None if held.is_none() && self.removal(&version)?.is_none() => {
                    return Ok(Version::Is { version, place: None });
                }
                // Another holder was first; once an object has it, it need not be kept here too.
                Some(row) if row.content.same_as(content) => match row.state {
                    RowState::Active if row.upload => return Ok(Version::Kept),
                    RowState::Pending { .. } if held.is_none() => {
                        return Ok(Version::Is { version, place: Some(row.cache_path) });
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(Version::TooMany)
    }

    pub(super) fn set_aside_done(
        &mut self,
        item: ItemId,
        content: Content,
        version: ItemId,
        (path, to, n): (MediaPath, MediaPath, u32),
        outcome: Outcome,
    ) -> Result<()> {
        let mut entry = self.own_entry(&item)?;
        match outcome {
            Outcome::Done { stat } => {
                if let Some(copy) = &mut entry.copy {
                    copy.held = None;
                    copy.line.clear();
                }
                self.stage(item, entry);
                self.begin_item(version, to.clone(), content, stat)?;
                self.counts.conflicts += 1;
                self.event(Event::Conflict(item, to));
                self.end_well(item);
            }
            Outcome::Occupied => {
                self.give_up_version(&version, &to)?;
                self.watch.look_again(to, self.now.mono_ms);
                self.tasks.remove(&item);
                self.begin_set_aside(item, &entry, n + 1)?;
            }
            _ => {
                self.give_up_version(&version, &to)?;
                self.doubt(item, path)?;
            }
        }
        Ok(())
    }

    /// Frees the name that a version was to have, unless it has it already.
    fn give_up_version(&mut self, version: &ItemId, to: &MediaPath) -> Result<()> {
        match self.own_entry(version)?.held_content() {
            Some(_) => Ok(()),
            None => self.untrack(version, to),
        }
    }

    pub(super) fn begin_trash(&mut self, item: ItemId, entry: &Entry) {
        let Some(held) = entry.copy.as_ref().and_then(|copy| copy.held.as_ref()) else { return };
        if !self.has_slot(Slot::Folder, item) {
            return;
        }
        self.begin(item, held.content, Job::Trash { path: held.path.clone() });
    }

    pub(super) fn trash_done(&mut self, item: ItemId, path: MediaPath, outcome: Outcome) -> Result<()> {
        if !matches!(outcome, Outcome::Done { .. }) {
            return self.doubt(item, path);
        }
        let mut entry = self.own_entry(&item)?;
        if let Some(copy) = &mut entry.copy {
            copy.held = None;
        }
        self.stage(item, entry);
        self.untrack(&item, &path)?;
        self.event(Event::Trashed(item, path));
        self.end_well(item);
        Ok(())
    }

    pub(super) fn move_done(
        &mut self,
        item: ItemId,
        path: MediaPath,
        to: MediaPath,
        outcome: Outcome,
    ) -> Result<()> {
        let Outcome::Done { stat } = outcome else {
            // What stands in the way is looked at first: it becomes an item of its own and gives way.
            return self.doubt(item, if outcome == Outcome::Occupied { to } else { path });
        };
        let before = self.tracked(&path)?.map(|tracked| tracked.stat).unwrap_or_default();
        let mut entry = self.own_entry(&item)?;
        if let Some(held) = entry.copy.as_mut().and_then(|copy| copy.held.as_mut()) {
            held.path = to.clone();
        }
        self.stage(item, entry);
        if path.folded() != to.folded() {
            self.untrack(&item, &path)?;
        }
        // Somebody may have saved just before the file was moved. Or have given it another's name: that it is another
        // file is what a look at it will be compared with.
        let unwritten =
            (before.size, before.mtime_ns, before.file_id) == (stat.size, stat.mtime_ns, stat.file_id);
        let stat = match unwritten {
            true => stat,
            false => FileStat { file_id: before.file_id, ..FileStat::default() },
        };
        self.track(&Tracked::new(item, to.clone(), stat))?;
        if !unwritten {
            self.watch.look_again(to.clone(), self.now.mono_ms);
        }
        if self.row(&item)?.is_some_and(|row| row.cache_path == to) {
            self.event(Event::Renamed(item, to));
        }
        self.queue.wake_waiting();
        self.end_well(item);
        Ok(())
    }

    /// A version was kept beside a file without a task of ours. Where the path is no item's any more, or the name is
    /// another's already, the next look makes it an item of its own.
    pub(super) fn kept_beside(&mut self, path: &MediaPath, kept_as: MediaPath) -> Result<()> {
        if let Some(Tracked { item, .. }) = self.tracked(path)? {
            self.note_kept(item, &kept_as)?;
        }
        self.watch.look_again(kept_as, self.now.mono_ms + self.config.quiet_ms);
        Ok(())
    }

    /// What publishing kept under this name becomes a version of the item.
    pub(super) fn note_kept(&mut self, item: ItemId, kept_as: &MediaPath) -> Result<()> {
        let version = ItemId::derive("tcat 1 version", &[&item.0, kept_as.as_str().as_bytes()]);
        if self.claim_path(&version, kept_as)? {
            self.note_version(version, item);
            self.counts.conflicts += 1;
            self.event(Event::Conflict(item, kept_as.clone()));
        }
        Ok(())
    }

    /// Records that an item is a kept version of another, until the catalog says so itself.
    pub(super) fn note_version(&mut self, version: ItemId, of: ItemId) {
        self.tx.put(Table::Tasks, version_key(&version), of.0.to_vec());
    }

    pub(super) fn version_of(&self, item: &ItemId) -> Result<Option<ItemId>> {
        let of = self.tx.get(Table::Tasks, &version_key(item))?;
        Ok(of.and_then(|bytes| bytes.try_into().ok()).map(ItemId))
    }

    /// Writes down that this content is here, as the catalog's revision `base`.
    pub(super) fn record_held(
        &mut self,
        item: ItemId,
        path: MediaPath,
        content: Content,
        base: ChainLink,
        stat: FileStat,
    ) -> Result<()> {
        let mut entry = self.own_entry(&item)?;
        let held = Held { content, path: path.clone(), cached_date_ms: self.now.wall_ms };
        entry.copy = Some(Copy { held: Some(held), base: Some(base), line: Vec::new() });
        entry.claims.clear();
        self.stage(item, entry);
        self.track(&Tracked::new(item, path, stat))
    }
}

fn version_key(version: &ItemId) -> Vec<u8> {
    [b"version ", &version.0[..]].concat()
}
