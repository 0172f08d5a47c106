//! The brake: a burst of changes that no person can have meant is held back until a person has said so.
//!
//! Counted are items whose file was deleted here, whose content somebody rewrote here, or whose name got another
//! extension: what a program does that takes files hostage, or a slip of the hand. New files, moved files and what came
//! from others count nothing. More of them within the window than the limits allow, and the brake is on: nothing is done
//! about any of them, nor are new files imported, until a person accepts or refuses. Downloads and serving go on.
//! Refused changes are undone: the changed content is kept as a version item, then the catalog's comes back.
//!
//! What is counted and what is held outlives a restart: what was counted before it counts as made at the start.
//!
//! Left out: what is a change at all (`observe`, `renaming`).

use super::{Engine, Result};
use crate::catalog::{CatalogRow, ChainLink, Revision, RowState};
use crate::codec;
use crate::entry::{Copy, Entry};
use crate::ids::ItemId;
use crate::paths::MediaPath;
use crate::planted::Bug;
use crate::ports::{BrakeAnswer, Event};
use crate::settle::{Question, Verdict};
use crate::store::{Store, Table};
use crate::transaction::Transaction;
use bincode::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

/// How much may vanish or change within a time before a person is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrakeLimits {
    /// So many of a hundred items; fewer than [`BRAKE_LEAST`] never count as too many by this.
    pub percent: u64,
    /// So many items.
    pub items: u64,
    /// Within this time, in milliseconds.
    pub window_ms: u64,
}

/// Fewer changed items than this are no burst, however few items there are.
pub const BRAKE_LEAST: u64 = 10;

impl Default for BrakeLimits {
    fn default() -> Self {
        Self { percent: 30, items: 500, window_ms: 600_000 }
    }
}

/// What happened to an item's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) enum ChangeKind {
    Deleted,
    Rewritten,
    Renamed,
}

/// A counted change, kept under its item while it counts, is held, or is to be undone.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
struct Changed {
    kind: ChangeKind,
    /// The base before the first change that counts.
    was: Option<ChainLink>,
    /// The catalog's path before it; none once it was asked for again.
    was_at: Option<MediaPath>,
    /// A person has refused it.
    refused: bool,
}

/// What the brake counts and holds.
#[derive(Debug, Default)]
pub(super) struct Brake {
    on: bool,
    changed: BTreeMap<ItemId, (u64, Changed)>,
    /// Those that count, by time; while the brake is on, those that it holds.
    order: BTreeSet<(u64, ItemId)>,
    /// New files that wait for the answer.
    imports: BTreeSet<ItemId>,
    /// Until then nothing counts: a person has just said that such changes are meant.
    accepted_until_ms: u64,
}

/// What the brake holds, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BrakeReport {
    /// Whether it is on: a person is asked.
    pub on: bool,
    /// Items held whose file was deleted here.
    pub deleted: u64,
    /// Items held whose content was rewritten here.
    pub rewritten: u64,
    /// Items held whose name got another extension here.
    pub renamed: u64,
    /// New files that wait for the answer.
    pub imports: u64,
    /// Refused changes that are not undone yet.
    pub undoing: u64,
}

const META_BRAKE: &[u8] = b"brake";
const PREFIX: &[u8] = b"change ";
const HELD: &str = "held by the brake: `tcat brake accept` if it is meant, `tcat brake refuse` to undo it";

impl Brake {
    pub(super) fn load<S: Store>(tx: &Transaction<S>, now_ms: u64) -> Result<Self> {
        let mut brake = Self { on: tx.get(Table::Meta, META_BRAKE)?.is_some(), ..Self::default() };
        let mut from = PREFIX.to_vec();
        loop {
            let page = tx.range(Table::Tasks, &from, b"change!", 1024)?;
            let Some((last, _)) = page.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (key, value) in page {
                let item = key.get(PREFIX.len()..).and_then(|id| id.try_into().ok()).map(ItemId);
                let (Some(item), changed) = (item, codec::decode_prefix::<Changed>(&value)?.0) else {
                    continue;
                };
                if !changed.refused {
                    brake.order.insert((now_ms, item));
                }
                brake.changed.insert(item, (now_ms, changed));
            }
        }
        Ok(brake)
    }

    /// When the next change counts no more.
    pub(super) fn due_ms(&self, window_ms: u64) -> u64 {
        let first = self.order.first().filter(|_| !self.on);
        first.map_or(u64::MAX, |(at_ms, _)| at_ms.saturating_add(window_ms))
    }

    fn is_refused(&self, item: &ItemId) -> bool {
        self.changed.get(item).is_some_and(|(_, changed)| changed.refused)
    }
}

impl<S: Store> Engine<S> {
    /// Whether what happened to the item's file here is not to be acted on until a person has answered.
    pub fn brake_holds(&self, item: &ItemId) -> bool {
        let held = |(_, changed): &(u64, Changed)| !changed.refused;
        self.brake.on && self.brake.changed.get(item).is_some_and(held)
    }

    /// What the brake holds.
    pub fn brake_report(&self) -> BrakeReport {
        let brake = &self.brake;
        let held = |kind| {
            let held = |(_, changed): &&(u64, Changed)| changed.kind == kind && !changed.refused && brake.on;
            brake.changed.values().filter(held).count() as u64
        };
        BrakeReport {
            on: brake.on,
            deleted: held(ChangeKind::Deleted),
            rewritten: held(ChangeKind::Rewritten),
            renamed: held(ChangeKind::Renamed),
            imports: brake.imports.len() as u64,
            undoing: brake.changed.values().filter(|(_, changed)| changed.refused).count() as u64,
        }
    }

    /// Counts what happened to an item's file here, and puts the brake on if that was too much.
    pub(super) fn count_change(&mut self, item: ItemId, kind: ChangeKind, copy: &Copy) -> Result<()> {
        let now_ms = self.now.mono_ms;
        let accepted = now_ms < self.brake.accepted_until_ms && !self.brake.on;
        if copy.base.is_none() || accepted || self.planted(Bug::NoBrake) {
            return Ok(());
        }
        self.expire_changes();
        let before = self.brake.changed.remove(&item);
        let row = self.row(&item)?;
        let here = || row.as_ref().map(|row| row.cache_path.clone());
        // What stood before the first change is what comes back.
        let (at_ms, was, was_at) = match before {
            Some((at_ms, changed)) if !changed.refused => (at_ms, changed.was, changed.was_at),
            Some((_, changed)) => (now_ms, changed.was, changed.was_at.or_else(here)),
            None => (now_ms, copy.base, here()),
        };
        // What a pending row has may never have come to the store.
        let stored = row.as_ref().is_some_and(|row| !matches!(row.state, RowState::Pending { .. }));
        let was = was.filter(|_| stored);
        let at_ms = if self.brake.on { at_ms } else { now_ms.max(at_ms) };
        self.brake.order.retain(|(_, other)| *other != item);
        self.brake.order.insert((at_ms, item));
        self.keep_change(item, at_ms, Changed { kind, was, was_at, refused: false })?;
        let (count, rows) = (self.brake.order.len() as u64, self.rows_known());
        let limits = self.config.brake;
        let share = count >= BRAKE_LEAST && count.saturating_mul(100) > rows.saturating_mul(limits.percent);
        if !self.brake.on && (share || count > limits.items) {
            self.brake.on = true;
            self.tx.put(Table::Meta, META_BRAKE.to_vec(), Vec::new());
            let minutes = limits.window_ms / 60_000;
            self.event(Event::BrakeOn(format!(
                "{count} of {rows} files were deleted, rewritten or renamed within {minutes} min: nothing is done \
                 about them until you say `tcat brake accept` (they are meant) or `tcat brake refuse` (bring them back)"
            )));
        }
        Ok(())
    }

    fn keep_change(&mut self, item: ItemId, at_ms: u64, changed: Changed) -> Result<()> {
        self.tx.put(Table::Tasks, [PREFIX, &item.0].concat(), codec::encode(&changed)?);
        self.brake.changed.insert(item, (at_ms, changed));
        Ok(())
    }

    fn forget_change(&mut self, item: &ItemId) {
        if let Some((at_ms, _)) = self.brake.changed.remove(item) {
            self.brake.order.remove(&(at_ms, *item));
            self.tx.remove(Table::Tasks, [PREFIX, &item.0].concat());
        }
    }

    /// Changes that are older than the window count no more, unless they are held.
    pub(super) fn expire_changes(&mut self) {
        let (now_ms, window_ms) = (self.now.mono_ms, self.config.brake.window_ms);
        while self.brake.due_ms(window_ms) <= now_ms
            && let Some((_, item)) = self.brake.order.first().copied()
        {
            self.forget_change(&item);
        }
    }

    /// A person has answered.
    pub(super) fn brake_answered(&mut self, answer: BrakeAnswer) -> Result<()> {
        if !self.brake.on {
            return Ok(());
        }
        self.brake.on = false;
        self.tx.remove(Table::Meta, META_BRAKE.to_vec());
        let held: Vec<_> = std::mem::take(&mut self.brake.order).into_iter().collect();
        let imports = std::mem::take(&mut self.brake.imports);
        self.event(Event::BrakeOff(answer, held.len() as u64));
        if answer == BrakeAnswer::Accept {
            self.brake.accepted_until_ms = self.now.mono_ms.saturating_add(self.config.brake.window_ms);
        }
        for (at_ms, item) in held {
            match self.brake.changed.get(&item).cloned() {
                Some((_, changed)) if answer == BrakeAnswer::Refuse => {
                    self.keep_change(item, at_ms, Changed { refused: true, ..changed })?;
                }
                _ => self.forget_change(&item),
            }
            self.queue.ready(item);
        }
        imports.into_iter().for_each(|item| self.queue.ready(item));
        Ok(())
    }

    /// Whether the item rests because the brake holds it.
    pub(super) fn rests_for_brake(&mut self, item: ItemId) -> bool {
        let holds = self.brake_holds(&item);
        if holds {
            self.queue.hold(item, HELD);
        }
        holds
    }

    /// The name that a refused change is to get back from the catalog, told once; the inner none where it has that.
    pub(super) fn name_to_undo(
        &mut self,
        item: &ItemId,
        row: &CatalogRow,
    ) -> Result<Option<Option<MediaPath>>> {
        let Some((at_ms, changed)) = self.brake.changed.get(item).filter(|(_, changed)| changed.refused)
        else {
            return Ok(None);
        };
        let (at_ms, mut changed) = (*at_ms, changed.clone());
        let Some(was_at) = changed.was_at.take() else { return Ok(None) };
        self.keep_change(*item, at_ms, changed)?;
        Ok(Some((was_at != row.cache_path).then_some(was_at)))
    }

    /// What becomes of a verdict under the brake; none where nothing is to be done for now.
    pub(super) fn under_brake(
        &mut self,
        item: ItemId,
        entry: &Entry,
        row: Option<&CatalogRow>,
        verdict: Verdict,
    ) -> Result<Option<Verdict>> {
        if self.brake.is_refused(&item) {
            return self.undo(item, entry, row, verdict);
        }
        let passive = matches!(
            verdict,
            Verdict::Settled | Verdict::Record | Verdict::Wait(_) | Verdict::Adopt(_) | Verdict::Hold(_)
        );
        if !passive && self.rests_for_brake(item) {
            return Ok(None);
        }
        if self.brake.on && verdict == Verdict::Import {
            self.brake.imports.insert(item);
            self.queue.hold(item, HELD);
            return Ok(None);
        }
        Ok(Some(verdict))
    }

    /// A refused change is undone: what the file is now is kept as a version item, then what it was comes back.
    fn undo(
        &mut self,
        item: ItemId,
        entry: &Entry,
        row: Option<&CatalogRow>,
        verdict: Verdict,
    ) -> Result<Option<Verdict>> {
        match verdict {
            Verdict::Upload | Verdict::Hold(Question::GoBack) => Ok(Some(Verdict::Conflict)),
            // It had reached the catalog before the brake was on: what it was is still in the chain.
            Verdict::Settled | Verdict::Download if self.lost_content(&item, row).is_some() => {
                let held = entry.held_content().is_some();
                Ok(Some(if held { Verdict::Conflict } else { Verdict::Download }))
            }
            Verdict::Settled | Verdict::Record | Verdict::Drop => {
                self.forget_change(&item);
                Ok(Some(verdict))
            }
            _ => Ok(Some(verdict)),
        }
    }

    /// What a refused change of ours has replaced in the catalog, if that is still what stands there.
    pub(super) fn lost_content(&self, item: &ItemId, row: Option<&CatalogRow>) -> Option<ChainLink> {
        let (_, changed) = self.brake.changed.get(item).filter(|(_, changed)| changed.refused)?;
        let (was, row) = (changed.was?, row?);
        let ours = row.revision.0.client == self.config.me && row.chain_has(&was.revision);
        (ours && !row.content.same_as(&was.content)).then_some(was)
    }

    /// What a refused change had replaced is nowhere any more: then what stands in the catalog has to do.
    pub(super) fn cannot_go_back(&mut self, item: ItemId) -> Result<bool> {
        let row = self.row(&item)?;
        let lost = self.lost_content(&item, row.as_ref()).is_some();
        if lost {
            self.forget_change(&item);
            let why =
                "what a refused change had replaced is at no member and not in the object store any more";
            self.event(Event::Failing(item, why.into()));
            self.end(item);
        }
        Ok(lost)
    }

    /// What a refused change had replaced is here again: it is offered as what follows that change.
    pub(super) fn goes_back(&mut self, item: ItemId) -> Result<()> {
        let row = self.row(&item)?;
        let (Some(was), Some(row)) = (self.lost_content(&item, row.as_ref()), row) else { return Ok(()) };
        let mut entry = self.own_entry(&item)?;
        if let Some(copy) = entry.copy.as_mut() {
            copy.base = Some(ChainLink { revision: row.revision, content: row.content });
            copy.line = vec![ChainLink { revision: Revision(self.dot_for(&item)), content: was.content }];
        }
        self.stage(item, entry);
        self.forget_change(&item);
        Ok(())
    }

    /// Whether a name got another extension: what a program does that takes files hostage.
    pub(super) fn has_other_extension(from: &MediaPath, to: &MediaPath) -> bool {
        let extension = |path: &MediaPath| {
            let name = path.folded().0;
            name.rsplit_once('.').map(|(_, extension)| extension.to_owned())
        };
        extension(from) != extension(to)
    }
}
