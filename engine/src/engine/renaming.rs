//! Files that a person gave another name: noticed, asked of the catalog, and put where the catalog says.
//!
//! A path that still exists keeps its item, whatever was saved there. A file was renamed if its old path is absent after
//! a full scan and the quiet time, and a path that is no item's holds the same content: the file's identity first, the
//! content as proof. While that is not decided, the file at the new path is an *arrival* and is not imported.
//!
//! What the copy last agreed on with the catalog, its *base path*, is its present path, unless a [`Rename`] says
//! otherwise; so it costs nothing for items that nobody renames.
//!
//! Left out: doing the rename (`placing`), and giving paths to items (the catalog).

use super::brake::ChangeKind;
use super::feed::is_kept;
use super::observe::Tracked;
use super::{Engine, Result, Waiter};
use crate::catalog::{CatalogRow, FeedChange, NewPlace, PLACES_MAX, Repath, Repathed};
use crate::codec;
use crate::content::Content;
use crate::entry::Entry;
use crate::ids::ItemId;
use crate::observation::{Coverage, FileStat, Presence};
use crate::paths::MediaPath;
use crate::planted::Bug;
use crate::ports::{Effect, Event, Outcome};
use crate::settle::Reason;
use crate::store::{Store, Table};
use bincode::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

/// Where an item's file stands, and where it belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Where it belongs, or nothing says where that is.
    Here,
    /// The catalog has another path for it.
    Move(MediaPath),
    /// A person gave it another name: the catalog is to be asked.
    Ask,
}

/// A person's rename, kept under the item until it is settled.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
struct Rename {
    /// The base path; once the catalog has spoken, the path that it assigned.
    catalog: MediaPath,
    /// The name that the person gave.
    asked: MediaPath,
    state: RenameState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
enum RenameState {
    /// The item has no row yet: whatever path that gets, this name is asked for.
    Unplaced,
    /// To be asked.
    Wanted,
    /// To be asked, though the file is not there: a name that was refused goes back.
    Back,
    /// The catalog has assigned another path.
    Assigned,
    /// The two differ in spelling alone, and this file system came back to the one that was refused: it stays.
    Stays,
}

/// Renames that are not decided yet, and those that the catalog is asked for.
#[derive(Debug)]
pub(super) struct Renames {
    arrivals: BTreeMap<MediaPath, Arrival>,
    /// Which arrivals may be an item's file.
    candidates: BTreeMap<ItemId, BTreeSet<MediaPath>>,
    /// Items for which the catalog is to be asked, and when.
    asking: BTreeSet<ItemId>,
    ask_at_ms: u64,
    /// What it is being asked.
    asked: BTreeMap<ItemId, NewPlace>,
    /// When it answered for an item: a feed page that was read before is older.
    answered_ms: BTreeMap<ItemId, u64>,
    /// How many are asked for at once; fewer after a failure, so that one that cannot be keeps no other waiting.
    most: usize,
}

/// A file whose content an item's file at another path has, or had.
#[derive(Debug)]
struct Arrival {
    content: Content,
    stat: FileStat,
    /// Those whose own path may still turn out to be empty.
    undecided: BTreeSet<ItemId>,
    /// Then it is a file of its own, whatever became of them.
    until_ms: u64,
}

/// The most arrivals; further ones are files of their own at once.
const ARRIVALS_MAX: usize = 65_536;
/// Looks may take long: so long an arrival is kept beyond ten quiet times.
const UNDECIDED_MS: u64 = 60_000;
/// How many files that stand in each other's way are followed.
const CIRCLE_MAX: usize = 256;
/// How long an item is left alone whose row the catalog does not have any more.
const GONE_MS: u64 = 1_000;

impl Default for Renames {
    fn default() -> Self {
        Self {
            arrivals: BTreeMap::new(),
            candidates: BTreeMap::new(),
            asking: BTreeSet::new(),
            ask_at_ms: u64::MAX,
            asked: BTreeMap::new(),
            answered_ms: BTreeMap::new(),
            most: PLACES_MAX,
        }
    }
}

impl Renames {
    pub(super) fn is_quiet(&self) -> bool {
        self.arrivals.is_empty() && self.asking.is_empty() && self.asked.is_empty()
    }

    pub(super) fn due_ms(&self) -> u64 {
        let arrivals = self.arrivals.values().map(|arrival| arrival.until_ms).min().unwrap_or(u64::MAX);
        let may_ask = self.asked.is_empty() && !self.asking.is_empty();
        if may_ask { arrivals.min(self.ask_at_ms) } else { arrivals }
    }

    /// Whether the catalog is being asked for the item's path.
    pub(super) fn is_asked(&self, item: &ItemId) -> bool {
        self.asked.contains_key(item)
    }

    /// Whether a file stands at the path of which it is not decided whose it is.
    pub(super) fn is_arrival(&self, path: &MediaPath) -> bool {
        self.arrivals.contains_key(path)
    }

    /// Nothing is at the path any more.
    pub(super) fn went_away(&mut self, path: &MediaPath) {
        let Some(arrival) = self.arrivals.remove(path) else { return };
        for item in arrival.undecided {
            if let Some(paths) = self.candidates.get_mut(&item) {
                paths.remove(path);
                if paths.is_empty() {
                    self.candidates.remove(&item);
                }
            }
        }
    }

    /// A full scan is over.
    pub(super) fn scanned(&mut self, coverage: &dyn Coverage) {
        let gone = |path: &&MediaPath| coverage.presence(path) == Presence::NotSeen;
        for path in self.arrivals.keys().filter(gone).cloned().collect::<Vec<_>>() {
            self.went_away(&path);
        }
    }

    /// A reading of the feed that began at this time is applied.
    pub(super) fn feed_read(&mut self, began_ms: u64) {
        self.answered_ms.retain(|_, answered_ms| *answered_ms >= began_ms);
    }

    /// The item is none of those any more whose file these may be; the arrivals that are nobody's now.
    fn decide(&mut self, item: &ItemId) -> Vec<(MediaPath, Arrival)> {
        let mut alone = Vec::new();
        for path in self.candidates.remove(item).unwrap_or_default() {
            let Some(arrival) = self.arrivals.get_mut(&path) else { continue };
            arrival.undecided.remove(item);
            if arrival.undecided.is_empty()
                && let Some(arrival) = self.arrivals.remove(&path)
            {
                alone.push((path, arrival));
            }
        }
        alone
    }
}

impl<S: Store> Engine<S> {
    /// A file at a path that is no item's, or that its item does not have yet.
    pub(super) fn saw_untracked(&mut self, path: MediaPath, content: Content, stat: FileStat) -> Result<()> {
        let now_ms = self.now.mono_ms;
        if let Some(arrival) = self.renames.arrivals.get_mut(&path)
            && arrival.content.same_as(&content)
        {
            arrival.stat = stat;
            return Ok(());
        }
        self.renames.went_away(&path);
        let mut undecided = BTreeSet::new();
        for (item, place) in self.same_elsewhere(&path, &content)? {
            undecided.insert(item);
            if !self.watch.is_unknown(&item) {
                self.watch.look_again(place, now_ms);
            }
        }
        if undecided.is_empty() || self.renames.arrivals.len() >= ARRIVALS_MAX {
            return self.saw_new_file(path, content, stat);
        }
        for item in &undecided {
            self.renames.candidates.entry(*item).or_default().insert(path.clone());
        }
        let until_ms = now_ms + UNDECIDED_MS + 10 * self.config.quiet_ms;
        self.renames.arrivals.insert(path, Arrival { content, stat, undecided, until_ms });
        Ok(())
    }

    /// Whether a file that stands where an item's is to come is not that item's, but may be another's.
    pub(super) fn is_file_of_others(
        &self,
        item: &ItemId,
        path: &MediaPath,
        content: &Content,
    ) -> Result<bool> {
        let its_own = self.row(item)?.is_none_or(|row| row.chain_holds(content));
        Ok(!its_own && !self.same_elsewhere(path, content)?.is_empty())
    }

    /// The items whose files have this content at other paths.
    fn same_elsewhere(&self, path: &MediaPath, content: &Content) -> Result<Vec<(ItemId, MediaPath)>> {
        let Some(blake3) = content.blake3 else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for item in self.holding(&blake3)? {
            let held = self.own_entry(&item)?.copy.and_then(|copy| copy.held);
            let fits = |held: &crate::entry::Held| {
                held.content.same_as(content) && held.path.folded() != path.folded()
            };
            if let Some(held) = held.filter(fits) {
                found.push((item, held.path));
            }
        }
        Ok(found)
    }

    /// The item's path still exists: it keeps its item, and what was found elsewhere is another file.
    pub(super) fn still_there(&mut self, item: &ItemId) -> Result<()> {
        for (path, arrival) in self.renames.decide(item) {
            self.saw_new_file(path, arrival.content, arrival.stat)?;
        }
        Ok(())
    }

    /// The item's path is empty for good. Whether its file was found under another name, which is its now.
    pub(super) fn was_renamed(&mut self, tracked: &Tracked) -> Result<bool> {
        let item = tracked.item;
        let Some(to) = self.best_arrival(&item, &tracked.stat)? else {
            self.still_there(&item)?;
            return Ok(false);
        };
        let Some(arrival) = self.renames.arrivals.get(&to) else { return Ok(false) };
        let (content, stat) = (arrival.content, arrival.stat);
        self.renames.went_away(&to);
        self.still_there(&item)?;
        let mut entry = self.own_entry(&item)?;
        let Some(held) = entry.copy.as_mut().and_then(|copy| copy.held.as_mut()) else { return Ok(false) };
        if !held.content.same_as(&content) {
            self.saw_new_file(to, content, stat)?;
            return Ok(false);
        }
        held.path = to.clone();
        self.stage(item, entry);
        self.renamed_by_person(item, &tracked.path, &to)?;
        self.untrack(&item, &tracked.path)?;
        self.track(&Tracked::new(item, to, stat))?;
        Ok(true)
    }

    /// Which of the arrivals is the item's file: the same file, else one of the same name, else any that is not surely
    /// another's.
    fn best_arrival(&self, item: &ItemId, stat: &FileStat) -> Result<Option<MediaPath>> {
        let Some(paths) = self.renames.candidates.get(item) else { return Ok(None) };
        let held = self.own_entry(item)?.copy.and_then(|copy| copy.held);
        let mut best: Option<(u8, &MediaPath)> = None;
        for path in paths {
            let Some(arrival) = self.renames.arrivals.get(path) else { continue };
            let same_name = held.as_ref().is_some_and(|held| held.path.file_name() == path.file_name());
            let rank = match arrival.stat.file_id {
                id if id != 0 && id == stat.file_id => 3,
                id if id != 0 && self.is_file_of_another(arrival, item, id)? => 0,
                _ if same_name => 2,
                _ => 1,
            };
            if best.is_none_or(|(present, _)| rank > present) {
                best = Some((rank, path));
            }
        }
        Ok(best.filter(|(rank, _)| *rank > 0).map(|(_, path)| path.clone()))
    }

    /// Where the file of this identity is, if it is the item's at a path that is no item's.
    pub(super) fn surely_arrived(&self, item: &ItemId, stat: &FileStat) -> Option<(MediaPath, FileStat)> {
        let paths = self.renames.candidates.get(item)?;
        paths.iter().find_map(|path| {
            let arrival = self.renames.arrivals.get(path)?;
            let same = stat.file_id != 0 && arrival.stat.file_id == stat.file_id;
            same.then(|| (path.clone(), arrival.stat))
        })
    }

    fn is_file_of_another(&self, arrival: &Arrival, item: &ItemId, file_id: u64) -> Result<bool> {
        for other in arrival.undecided.iter().filter(|other| *other != item) {
            let Some(held) = self.own_entry(other)?.copy.and_then(|copy| copy.held) else { continue };
            if self.tracked(&held.path)?.is_some_and(|tracked| tracked.stat.file_id == file_id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes a person's rename down.
    pub(super) fn renamed_by_person(&mut self, item: ItemId, from: &MediaPath, to: &MediaPath) -> Result<()> {
        self.queue.ready(item);
        if Self::has_other_extension(from, to)
            && let Some(copy) = self.own_entry(&item)?.copy
        {
            self.count_change(item, ChangeKind::Renamed, &copy)?;
        }
        let before = self.rename(&item)?;
        let row = self.row(&item)?.filter(is_kept);
        let (catalog, state) = match before {
            // The file system spells the name in its own way.
            Some(Rename { catalog, asked, state: RenameState::Assigned | RenameState::Stays })
                if asked == *to && row.as_ref().is_some_and(|row| row.cache_path == catalog) =>
            {
                (catalog, RenameState::Stays)
            }
            // Renamed again before the catalog was asked.
            Some(Rename {
                catalog, state: state @ (RenameState::Wanted | RenameState::Unplaced), ..
            }) => (catalog, state),
            _ if row.is_none() => (from.clone(), RenameState::Unplaced),
            _ => (from.clone(), RenameState::Wanted),
        };
        if state == RenameState::Wanted && catalog == *to {
            return self.forget_rename(&item);
        }
        self.keep_rename(&item, &Rename { catalog, asked: to.clone(), state })
    }

    fn rename(&self, item: &ItemId) -> Result<Option<Rename>> {
        match self.tx.get(Table::Tasks, &rename_key(item))? {
            Some(bytes) => Ok(Some(codec::decode_prefix(&bytes)?.0)),
            None => Ok(None),
        }
    }

    fn keep_rename(&mut self, item: &ItemId, rename: &Rename) -> Result<()> {
        self.tx.put(Table::Tasks, rename_key(item), codec::encode(rename)?);
        Ok(())
    }

    pub(super) fn forget_rename(&mut self, item: &ItemId) -> Result<()> {
        if self.rename(item)?.is_some() {
            self.tx.remove(Table::Tasks, rename_key(item));
        }
        self.renames.asking.remove(item);
        Ok(())
    }

    /// Where the item's file stands: (local, base, catalog) path, three ways.
    pub(super) fn place(&mut self, item: ItemId, entry: &Entry, row: Option<&CatalogRow>) -> Result<Place> {
        let held = entry.copy.as_ref().and_then(|copy| copy.held.as_ref());
        let (Some(held), Some(row)) = (held, row.filter(|row| is_kept(row))) else { return Ok(Place::Here) };
        let assigned = &row.cache_path;
        if held.path != *assigned && held.path.folded() == assigned.folded() && self.watch.twins.has(assigned)
        {
            // The file keeps its spelling until a person has renamed the other.
            return Ok(Place::Here);
        }
        match self.name_to_undo(&item, row)? {
            None => {}
            Some(None) => self.forget_rename(&item)?,
            Some(Some(asked)) => {
                let catalog = assigned.clone();
                self.keep_rename(&item, &Rename { catalog, asked, state: RenameState::Back })?;
            }
        }
        let Some(rename) = self.rename(&item)? else {
            return Ok(if held.path == *assigned { Place::Here } else { Place::Move(assigned.clone()) });
        };
        let respelled = rename.asked != *assigned && rename.asked.folded() == assigned.folded();
        let by_person = held.path == rename.asked;
        match rename.state {
            // What was refused is remembered where a file system may ask for it again by itself.
            RenameState::Assigned if held.path == *assigned && respelled => Ok(Place::Here),
            RenameState::Back if rename.catalog == *assigned => Ok(Place::Ask),
            _ if held.path == *assigned => {
                self.forget_rename(&item)?;
                Ok(Place::Here)
            }
            RenameState::Unplaced if by_person => {
                let catalog = assigned.clone();
                self.keep_rename(&item, &Rename { catalog, state: RenameState::Wanted, ..rename })?;
                Ok(Place::Ask)
            }
            RenameState::Wanted if by_person && rename.catalog == *assigned => Ok(Place::Ask),
            RenameState::Stays if by_person && rename.catalog == *assigned => Ok(Place::Here),
            // The catalog wins; the name that the person gave is recorded.
            _ => {
                let catalog = assigned.clone();
                self.keep_rename(&item, &Rename { catalog, state: RenameState::Assigned, ..rename })?;
                Ok(Place::Move(assigned.clone()))
            }
        }
    }

    /// The catalog is to be asked for the name that a person gave; together with the others of the same scan.
    pub(super) fn ask_for_path(&mut self, item: ItemId) -> Result<()> {
        if self.watch.is_unknown(&item) || !self.watch.is_known() {
            self.wait(item, Reason::FileUnknown);
            return Ok(());
        }
        if self.renames.asking.is_empty() {
            self.renames.ask_at_ms = self.now.mono_ms + self.config.listen_ms;
        }
        self.renames.asking.insert(item);
        Ok(())
    }

    /// Arrivals that were not decided in time, and asking.
    pub(super) fn renames_if_due(&mut self) -> Result<()> {
        let now_ms = self.now.mono_ms;
        if now_ms < self.renames.due_ms() {
            return Ok(());
        }
        let late = |(_, arrival): &(&MediaPath, &Arrival)| arrival.until_ms <= now_ms;
        let late: Vec<_> = self.renames.arrivals.iter().filter(late).map(|(path, _)| path.clone()).collect();
        for path in late {
            let Some(arrival) = self.renames.arrivals.get(&path) else { continue };
            let (content, stat) = (arrival.content, arrival.stat);
            self.renames.went_away(&path);
            self.saw_new_file(path, content, stat)?;
        }
        if self.renames.asked.is_empty() && now_ms >= self.renames.ask_at_ms {
            self.ask_catalog()?;
        }
        Ok(())
    }

    fn ask_catalog(&mut self) -> Result<()> {
        let mut places = Vec::new();
        while places.len() < self.renames.most
            && let Some(item) = self.renames.asking.pop_first()
        {
            let entry = self.own_entry(&item)?;
            let row = self.row(&item)?;
            // What was true when it was settled may not be any more: then it is settled again.
            let seen = row.as_ref().map(|row| row.cache_path.clone());
            let known = !self.watch.is_unknown(&item) && !self.brake_holds(&item);
            let stands = known && !self.tasks.contains_key(&item);
            let place = self.place(item, &entry, row.as_ref())?;
            match (place, self.rename(&item)?, seen) {
                (Place::Ask, Some(Rename { asked, .. }), Some(seen)) if stands => {
                    places.push(NewPlace { item, seen, asked });
                }
                _ => self.queue.ready(item),
            }
        }
        self.renames.ask_at_ms = self.now.mono_ms;
        if places.is_empty() {
            return Ok(());
        }
        self.renames.asked = places.iter().map(|place| (place.item, place.clone())).collect();
        let (catalog_epoch, author) = (self.feed.position().epoch, self.config.me);
        let repath = Repath { places, catalog_epoch, author };
        self.effect(Waiter::Repath, Effect::Repath(Box::new(repath)));
        Ok(())
    }

    /// The catalog has answered.
    pub(super) fn repathed(&mut self, outcome: Outcome) -> Result<()> {
        let mut asked = std::mem::take(&mut self.renames.asked);
        let why = match outcome {
            Outcome::Repathed(Repathed::Rows(rows)) => {
                self.renames.most = (self.renames.most * 2).min(PLACES_MAX);
                for row in rows {
                    if let Some(place) = asked.remove(&row.item) {
                        self.path_assigned(place, row)?;
                    }
                }
                // Its row went away meanwhile: the feed will say why.
                for item in asked.into_keys() {
                    self.feed.hint(self.now.mono_ms);
                    self.queue.later(item, self.now.mono_ms + GONE_MS);
                }
                return Ok(());
            }
            Outcome::Repathed(Repathed::Refused(why)) => {
                self.feed.hint(self.now.mono_ms);
                format!("the catalog refused the new name: {why}; will try again")
            }
            Outcome::Failed(why) => why,
            _ => "the catalog gave no answer that fits; will ask again".into(),
        };
        self.renames.most = (self.renames.most / 2).max(1);
        for item in asked.into_keys() {
            self.failed(item, why.clone());
        }
        Ok(())
    }

    fn path_assigned(&mut self, place: NewPlace, row: CatalogRow) -> Result<()> {
        let NewPlace { item, seen, asked } = place;
        self.renames.answered_ms.insert(item, self.now.mono_ms);
        self.attempts_over(&item);
        if row.cache_path != asked
            && let Some(rename) = self.rename(&item)?.filter(|rename| rename.asked == asked)
        {
            let catalog = row.cache_path.clone();
            self.keep_rename(&item, &Rename { catalog, state: RenameState::Assigned, ..rename })?;
        }
        if row.cache_path != seen {
            self.event(Event::Repathed(item, seen, row.cache_path.clone()));
        }
        self.apply_row(row)?;
        self.queue.ready(item);
        Ok(())
    }

    /// Whether a feed page that was read since this time is overtaken by what the catalog answered for the item's path.
    pub(super) fn is_before_our_repath(&self, change: &FeedChange, began_ms: u64) -> Result<bool> {
        let FeedChange::Row(news) = change else { return Ok(false) };
        if self.renames.answered_ms.get(&news.item).is_none_or(|answered_ms| *answered_ms < began_ms) {
            return Ok(false);
        }
        Ok(self.row(&news.item)?.is_some_and(|row| row.cache_path != news.cache_path))
    }

    /// A name beside `to` through which a file goes that others wait for, while it waits for them: they swap their
    /// names. One of them goes, the one of the smallest id.
    pub(super) fn way_out(&mut self, item: &ItemId, to: &MediaPath) -> Result<Option<MediaPath>> {
        if self.planted(Bug::SwapWaits) || !self.opens_circle(item, to)? {
            return Ok(None);
        }
        for n in 1..=1000 {
            let aside = to.conflict_name("moving", n);
            if self.claim_path(item, &aside)? {
                return Ok(Some(aside));
            }
        }
        Ok(None)
    }

    /// Whether the files that stand in each other's way from `to` on form a circle which is this item's to open.
    fn opens_circle(&self, item: &ItemId, to: &MediaPath) -> Result<bool> {
        let (mut path, mut least) = (to.clone(), *item);
        for _ in 0..CIRCLE_MAX {
            let Some(next) = self.tracked(&path)?.map(|tracked| tracked.item) else { return Ok(false) };
            if next == *item {
                return Ok(least == *item);
            }
            least = least.min(next);
            let held = self.own_entry(&next)?.copy.and_then(|copy| copy.held);
            let row = self.row(&next)?.filter(is_kept);
            let (Some(held), Some(row)) = (held, row) else { return Ok(false) };
            let here = path.folded();
            if held.path.folded() != here || row.cache_path.folded() == here {
                return Ok(false);
            }
            path = row.cache_path;
        }
        Ok(false)
    }
}

fn rename_key(item: &ItemId) -> Vec<u8> {
    [b"rename ", &item.0[..]].concat()
}
