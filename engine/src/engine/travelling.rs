//! Edits that travel while the catalog is away: taking a member's uncommitted edit, and who commits it afterwards.
//!
//! What holds always: a member's edit takes the place of nothing, or of a file that is its base or one of its steps
//! (`lines::may_take`, asked again right before the file is placed); base and line come with it, written down in one
//! transaction, so that any holder may commit the whole line. Where two edits diverge, both stay where they are until
//! the catalog has decided. Left out: the rules themselves (`lines`, `settle`), and placing a file (`download`).

use super::observe::Tracked;
use super::slots::Slot;
use super::tasks::{Job, short};
use super::{Engine, Result};
use crate::catalog::{CHAIN_LINKS_MAX, CatalogRow, ChainLink, Revision, RowState};
use crate::claims;
use crate::content::Content;
use crate::entry::{Copy, Entry, Held, TaskKind};
use crate::ids::{ClientId, ItemId};
use crate::lines;
use crate::observation::FileStat;
use crate::paths::MediaPath;
use crate::planted::Bug;
use crate::ports::{Effect, Event, Outcome, Publish};
use crate::settle::Verdict;
use crate::store::Store;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Two items with one content share its partial file: the second waits, and looks again after this time.
const SHARED_MS: u64 = 500;

/// What others have that is not committed.
#[derive(Debug, Default)]
pub(super) struct Travelling {
    /// Items of which another's copy has, or may have, a line. They stay marked as unsettled, so that a restart finds
    /// them again: as many as there are uncommitted edits.
    offered: BTreeSet<ItemId>,
    /// When all of them are looked at again while the catalog is away.
    sweep_ms: u64,
    /// Since when an edit of another waits here to be committed.
    waits_since_ms: BTreeMap<ItemId, u64>,
    /// When an edit was taken here: what the catalog said before is older than its base.
    taken_ms: BTreeMap<ItemId, u64>,
}

/// Taking a member's edit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Take {
    /// Who gives the bytes.
    pub(super) from: ClientId,
    /// The copy that is taken, as it was when this began.
    copy: Copy,
    path: MediaPath,
    expected: Option<Content>,
    pub(super) publishing: bool,
}

impl Take {
    pub(super) fn path(&self) -> &MediaPath {
        &self.path
    }
}

impl Travelling {
    /// Another's copy of the item has a line.
    pub(super) fn note(&mut self, item: ItemId) {
        self.offered.insert(item);
    }

    /// All items that a restart finds marked may be on their way.
    pub(super) fn load(items: impl IntoIterator<Item = ItemId>) -> Self {
        Self { offered: items.into_iter().collect(), ..Self::default() }
    }

    pub(super) fn is_offered(&self, item: &ItemId) -> bool {
        self.offered.contains(item)
    }

    fn forget(&mut self, item: &ItemId) {
        self.offered.remove(item);
        self.waits_since_ms.remove(item);
        self.taken_ms.remove(item);
    }
}

impl<S: Store> Engine<S> {
    /// While the catalog is away, whatever travels is looked at again once a lease, and when the catalog goes.
    pub(super) fn sweep_travelling(&mut self) {
        if !self.feed.is_away() {
            self.travelling.sweep_ms = 0;
        } else if self.now.mono_ms >= self.travelling.sweep_ms {
            self.travelling.sweep_ms = self.now.mono_ms + self.config.lease_ms;
            self.travelling.waits_since_ms.clear();
            for item in self.travelling.offered.iter().copied().collect::<Vec<_>>() {
                self.queue.ready(item);
            }
        }
    }

    /// The item is settled here; whether another's edit of it is still on its way.
    pub(super) fn still_travels(&mut self, item: &ItemId) -> Result<bool> {
        let me = self.config.me;
        let has_line = |copy: Option<&Copy>| copy.is_some_and(|copy| !copy.line.is_empty());
        let travels = self.travelling.is_offered(item)
            && self.entries(item)?.iter().any(|e| e.owner() != me && has_line(e.entry.copy.as_ref()));
        if !travels {
            self.travelling.forget(item);
        }
        Ok(travels)
    }

    /// While the catalog is away: the best uncommitted copy of a live member that may come here.
    pub(super) fn travelling(
        &self,
        item: &ItemId,
        entry: &Entry,
        row: Option<&CatalogRow>,
    ) -> Result<Option<Copy>> {
        if !self.feed.is_away() || !self.travelling.is_offered(item) {
            return Ok(None);
        }
        let (ours, file) = (entry.copy.as_ref(), entry.held_content());
        let (live, now_ms) = (self.live(), self.now.mono_ms);
        let entries = self.entries(item)?;
        let copies: Vec<&Copy> = entries
            .iter()
            .filter(|entry| live.contains(&entry.owner()))
            .filter(|entry| !self.queue.is_shunned(*item, entry.owner(), now_ms))
            .filter_map(|entry| entry.entry.copy.as_ref())
            .filter(|theirs| lines::may_take(ours, file, theirs) || self.planted_take(ours, theirs))
            .collect();
        let Some(best) = lines::best(&copies) else { return Ok(None) };
        let free = match self.place_of(entry, row, best) {
            Some(path) => self.is_free_for(item, &path)?,
            None => false,
        };
        Ok(free.then(|| best.clone()))
    }

    /// Where a member's edit goes: to the item's place here, else, while the catalog has assigned none, to the
    /// place that it was asked for.
    fn place_of(&self, entry: &Entry, row: Option<&CatalogRow>, theirs: &Copy) -> Option<MediaPath> {
        let held = entry.copy.as_ref().and_then(|copy| copy.held.as_ref());
        let theirs = theirs.held.as_ref();
        let path = held.map(|held| &held.path).or(row.map(|row| &row.cache_path));
        path.or(theirs.map(|held| &held.path)).cloned()
    }

    /// Whether the item may have a path here: nobody else needs it.
    fn is_free_for(&self, item: &ItemId, path: &MediaPath) -> Result<bool> {
        Ok(match self.tracked(path)? {
            Some(tracked) => tracked.item == *item || !self.needs_path(&tracked.item, path)?,
            None => true,
        })
    }

    /// The base came from a member: what the catalog said before may be older.
    pub(super) fn base_moved(&mut self, item: ItemId) {
        self.travelling.taken_ms.insert(item, self.now.mono_ms);
    }

    /// Whether the mirror is known to be older than our copy, whose base came from a member.
    pub(super) fn mirror_is_behind(&self, item: &ItemId, copy: Option<&Copy>, row: &CatalogRow) -> bool {
        let Some(base) = copy.and_then(|copy| copy.base) else { return false };
        let unheard = !row.chain_has(&base.revision) && row.chain.len() < CHAIN_LINKS_MAX;
        let since_ms = self.travelling.taken_ms.get(item).copied().unwrap_or(0);
        unheard && (self.feed.is_away() || !self.feed.head_read_since(since_ms))
    }

    pub(super) fn begin_take(&mut self, item: ItemId, entry: &Entry, row: Option<&CatalogRow>) -> Result<()> {
        let Some(copy) = self.travelling(&item, entry, row)? else { return Ok(()) };
        let Some(path) = self.place_of(entry, row, &copy) else { return Ok(()) };
        let Some(tip) = copy.line.last() else { return Ok(()) };
        let (live, entries) = (self.live(), self.entries(&item)?);
        let key = tip.content.key();
        let holders = entries.iter().filter_map(|entry| self.can_give(item, entry, &tip.content, &live));
        let best = holders.min_by_key(|(client, _)| {
            (self.tasks.fetches_from(client), Reverse(claims::rendezvous(client, &key)))
        });
        let Some((from, content)) = best else { return Ok(()) };
        if self.tasks.brings(&content) {
            self.queue.later(item, self.now.mono_ms + SHARED_MS);
            return Ok(());
        }
        if !self.has_slot(Slot::Download, item) {
            return Ok(());
        }
        let expected = entry.held_content().copied();
        let take = Take { from, copy, path, expected, publishing: false };
        self.begin(item, content, Job::Take(Box::new(take)));
        Ok(())
    }

    pub(super) fn take_effect(&self, item: ItemId, take: &Take, content: Content) -> Effect {
        if !take.publishing {
            return Effect::Fetch { from: take.from, content, check_md5: false };
        }
        // Steps after what is expected: found in the place, they are no edits of their own.
        let same = |step: &&ChainLink| take.expected.is_some_and(|content| step.content.same_as(&content));
        let contents = || take.copy.steps().map(|step| step.content);
        let after = take.copy.steps().position(|step| same(&step)).map_or(0, |at| at + 1);
        Effect::Publish(Box::new(Publish {
            item,
            path: take.path.clone(),
            content,
            expected: take.expected,
            known: contents().skip(after).collect(),
        }))
    }

    pub(super) fn take_done(&mut self, item: ItemId, mut take: Take, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Done { stat } if take.publishing => return self.took(item, take, stat),
            Outcome::Edited { stat, kept_as } if take.publishing => {
                self.took(item, take, stat)?;
                self.note_kept(item, &kept_as)?;
                self.watch.look_again(kept_as, self.now.mono_ms + self.config.quiet_ms);
                return Ok(());
            }
            _ if take.publishing => {
                if self.is_of_nobody(&item)? {
                    self.untrack(&item, &take.path)?;
                }
                return self.doubt(item, take.path);
            }
            Outcome::Done { .. } => {}
            outcome => {
                self.queue.shun(item, take.from, self.now.mono_ms + self.config.lease_ms);
                if outcome == Outcome::Corrupt {
                    self.event(Event::SentOtherBytes(take.from, item));
                } else {
                    self.event(Event::Failing(item, short(&outcome).into()));
                }
                self.end(item);
                return Ok(());
            }
        }
        // Somebody may have saved here, or the catalog may be back, while the bytes came: judge once more.
        let (entry, row) = (self.own_entry(&item)?, self.row(&item)?);
        let stands = entry.held_content().copied() == take.expected
            && self.feed.is_away()
            && self.verdict_with(&item, &entry, row.as_ref(), Some(&take.copy))? == Verdict::Take;
        if !stands || !self.claim_path(&item, &take.path)? {
            self.end(item);
            return Ok(());
        }
        self.event(Event::FetchedFrom(item, take.path.clone(), take.from));
        take.publishing = true;
        self.tasks.set_job(&item, Job::Take(Box::new(take)));
        self.next_step(item);
        Ok(())
    }

    /// The edit has its place here: its base and line are ours too.
    fn took(&mut self, item: ItemId, take: Take, stat: FileStat) -> Result<()> {
        let mut entry = self.own_entry(&item)?;
        let content = self.tasks.get(&item).map(|task| task.content);
        let Some(content) = content.or(take.copy.tip().map(|tip| tip.content)) else { return Ok(()) };
        let (base, line) = lines::taken(entry.copy.as_ref(), &take.copy);
        let held = Held { content, path: take.path.clone(), cached_date_ms: self.now.wall_ms };
        entry.copy = Some(Copy { held: Some(held), base, line });
        self.stage(item, entry);
        self.withdraw_all_but(item, None)?;
        self.queue.found(&item);
        self.base_moved(item);
        self.track(&Tracked::new(item, take.path, stat))?;
        self.end_well(item);
        Ok(())
    }

    /// Writes a saved content down in the line, unless it is what stands there or in the catalog already, or a step
    /// of a line that goes on from ours: then the file has become that step.
    pub(super) fn extend_line(&mut self, item: &ItemId, copy: &mut Copy, content: &Content) -> Result<()> {
        self.unite_copy(item, copy)?;
        let stands = copy.tip().is_some_and(|tip| tip.content.same_as(content));
        let row = self.row(item)?;
        let in_catalog = row.as_ref().is_some_and(|row| row.content.same_as(content) && copy.line.is_empty());
        let no_edit = copy.tip().is_none() && row.is_some();
        // What a person has yet to import is offered to nobody.
        let unasked = copy.tip().is_none() && self.config.manual_import && self.version_of(item)?.is_none();
        if stands || in_catalog || no_edit || unasked {
            return Ok(());
        }
        if self.planted(Bug::LostAnswerThenSave) && self.attempts.failure(item).is_some() {
            copy.line.clear();
        }
        match self.step_elsewhere(item, copy, content)? {
            Some((base, line)) => {
                (copy.base, copy.line) = (base, line);
                self.base_moved(*item);
            }
            None => copy.extend(ChainLink { revision: Revision(self.dot_for(item)), content: *content }),
        }
        Ok(())
    }

    /// Base and line up to a step with this content of a member's line that goes on from our copy; or a member's base
    /// that our mirror has yet to hear of: the step was committed while we did not write down that we had taken it.
    #[allow(clippy::type_complexity, reason = "base and line, as everywhere in `lines`")]
    fn step_elsewhere(
        &self,
        item: &ItemId,
        copy: &Copy,
        content: &Content,
    ) -> Result<Option<(Option<ChainLink>, Vec<ChainLink>)>> {
        if !self.travelling.is_offered(item) {
            return Ok(None);
        }
        let entries = self.entries(item)?;
        let theirs = entries.iter().filter(|entry| entry.owner() != self.config.me);
        let found = theirs
            .filter_map(|entry| lines::taken_up_to(copy, entry.entry.copy.as_ref()?, content))
            .min_by_key(|(_, line)| line.last().map(|step| step.revision));
        if found.is_some() {
            return Ok(found);
        }
        let Some(row) = self.row(item)? else { return Ok(None) };
        let unheard = |base: &ChainLink| {
            base.content.same_as(content)
                && !row.chain_has(&base.revision)
                && row.chain.len() < CHAIN_LINKS_MAX
        };
        let theirs = entries.iter().filter(|entry| entry.owner() != self.config.me);
        let bases = theirs.filter_map(|entry| entry.entry.copy.as_ref()?.base).filter(unheard);
        Ok(bases.min_by_key(|base| base.revision).map(|base| (Some(base), Vec::new())))
    }

    /// Whether nothing is known of an item but that its name was to be used: a file there is somebody else's.
    pub(super) fn is_of_nobody(&self, item: &ItemId) -> Result<bool> {
        let unknown = self.own_entry(item)?.copy.is_none()
            && self.change(item)?.is_none()
            && self.version_of(item)?.is_none();
        Ok(unknown)
    }

    /// The same, and the content is no member's copy of it.
    pub(super) fn is_a_stranger(&self, item: &ItemId, content: &Content) -> Result<bool> {
        // Once its holder has committed it, it is no step any more but the base, of a row that is not known here yet.
        let holds = |copy: &Copy| {
            let steps = copy.line.iter().chain(&copy.base).map(|step| step.content);
            steps.chain(copy.held.as_ref().map(|held| held.content)).any(|known| known.same_as(content))
        };
        Ok(self.is_of_nobody(item)?
            && !self.entries(item)?.iter().any(|entry| entry.entry.copy.as_ref().is_some_and(holds)))
    }

    /// Whether steps of our line are, or may be, in others' hands.
    pub(super) fn line_counts(&self, item: &ItemId, copy: Option<&Copy>) -> Result<bool> {
        let Some(ours) = copy.filter(|copy| !copy.line.is_empty()) else { return Ok(false) };
        if self.feed.is_away() || !self.travelling.is_offered(item) {
            return Ok(self.feed.is_away());
        }
        let has_some = |theirs: &Copy| ours.line.iter().any(|step| theirs.has_step(&step.revision));
        let entries = self.entries(item)?;
        let others = entries.iter().filter(|entry| entry.owner() != self.config.me);
        Ok(others.filter_map(|entry| entry.entry.copy.as_ref()).any(has_some))
    }

    /// Until when another goes first to bring to the catalog what we hold too; none if it is our turn. Who saved it
    /// goes first, then the holders in rendezvous order, a lease apart.
    pub(super) fn others_turn_ms(
        &mut self,
        item: &ItemId,
        copy: &Copy,
        row: Option<&CatalogRow>,
    ) -> Result<Option<u64>> {
        let Some(content) = copy.held.as_ref().map(|held| held.content) else { return Ok(None) };
        let (me, now_ms, lease_ms) = (self.config.me, self.now.mono_ms, self.config.lease_ms);
        let saved = copy.line.last().filter(|last| last.content.same_as(&content));
        let first = match (saved, row.map(|row| row.state)) {
            // All others wait for us: a row of a live owner is nobody else's.
            (_, Some(RowState::Pending { owner })) if owner == me => me,
            (Some(step), _) => step.revision.0.client,
            (None, Some(RowState::Pending { owner })) => owner,
            (None, _) => me,
        };
        if first == me {
            return Ok(None);
        }
        if self.feed.is_away() {
            return Ok(Some(now_ms + lease_ms));
        }
        // Our own claim stands from before: we go on.
        if self.wins(item, TaskKind::Upload, &content)? {
            return Ok(None);
        }
        let (live, entries) = (self.live(), self.entries(item)?);
        let others: Vec<_> = entries.iter().filter(|entry| live.contains(&entry.owner())).collect();
        if !self.rivals(item, TaskKind::Upload, &content)?.is_empty() {
            return Ok(Some(now_ms + lease_ms));
        }
        let has_it = |theirs: &Copy| {
            let held = theirs.held.as_ref();
            let follows = saved.is_some_and(|step| theirs.has_step(&step.revision));
            held.is_some_and(|held| follows || held.content.same_as(&content))
        };
        let key = content.key();
        let rank = |client: ClientId| (client != first, Reverse(claims::rendezvous(&client, &key)), client);
        let before = |client: ClientId| rank(client) < rank(me);
        let place = others
            .iter()
            .filter(|other| before(other.owner()) && other.entry.copy.as_ref().is_some_and(has_it))
            .count() as u64;
        let since_ms = *self.travelling.waits_since_ms.entry(*item).or_insert(now_ms);
        let at_ms = since_ms.saturating_add(place.saturating_mul(lease_ms));
        Ok((now_ms < at_ms).then_some(at_ms))
    }

    /// The defects that can be planted here: an edit that takes the place of another one.
    fn planted_take(&self, ours: Option<&Copy>, theirs: &Copy) -> bool {
        let Some(ours) = ours.filter(|_| theirs.travels()) else { return false };
        self.planted(Bug::CrossedEdits) && lines::diverge(theirs, ours)
            || self.planted(Bug::PrefixOverLine) && lines::goes_on_from(ours, theirs)
    }

    /// The same, where settle would refuse it.
    pub(super) fn planted_verdict(&self, ours: Option<&Copy>, theirs: Option<&Copy>) -> Option<Verdict> {
        theirs.filter(|theirs| self.planted_take(ours, theirs)).map(|_| Verdict::Take)
    }
}
