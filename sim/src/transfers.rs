//! What takes its time by its size: transfers, copies, and looks that hash.
//!
//! Holds only where the plan says how fast things move; else every effect is done at once, as soon as it runs. A
//! transfer from or to the cloud tells of its progress as often as the node that ships, and can be broken off; what came
//! of a content is there for the next attempt at it. Whatever becomes impossible meanwhile ends a transfer.

use crate::contents::TransferPlan;
use crate::plan::Spell;
use crate::random::Stream;
use crate::spells::{failed, site};
use crate::world::{Happening, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tcat_engine::claims::Lease;
use tcat_engine::content::Content;
use tcat_engine::ids::ClientId;
use tcat_engine::ports::{Effect, EffectId, Input, Outcome};

/// Larger contents take more than the smallest share of a slot.
const SMALL_BYTES: u64 = 1 << 20;

/// What the world knows of transfers.
#[derive(Default)]
pub(crate) struct Transfers {
    /// How fast things move; without it, all at once.
    pub(crate) plan: Option<Arc<TransferPlan>>,
    /// Who has begun to fetch a content from the cloud, and did not end.
    begun: BTreeMap<Content, usize>,
}

/// What a node has under way.
#[derive(Default)]
pub(crate) struct UnderWay {
    transfers: BTreeMap<EffectId, Transfer>,
    /// Effects that are to be broken off.
    broken_off: BTreeSet<EffectId>,
    /// How much of a content is there, of those that are not whole.
    partials: BTreeMap<Content, u64>,
    /// Contents that it has hashed.
    hashed: BTreeSet<Content>,
}

impl UnderWay {
    /// The node has died. Some of what came was not durable.
    pub(crate) fn end(&mut self) {
        self.transfers.clear();
        self.broken_off.clear();
        self.partials.values_mut().for_each(|bytes| *bytes /= 2);
    }
}

#[derive(Clone, Copy)]
struct Transfer {
    begun_ms: u64,
    moved: u64,
    /// How long its present step takes.
    step_ms: u64,
}

/// Where bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    FromCloud,
    ToCloud,
    FromMember,
    /// From one file of the folder to another.
    Here,
}

fn way_of(effect: &Effect) -> Option<(Way, Content)> {
    Some(match effect {
        Effect::Get { content, .. } => (Way::FromCloud, *content),
        Effect::Put { object, .. } => (Way::ToCloud, object.content),
        Effect::Fetch { content, .. } => (Way::FromMember, *content),
        Effect::Untrash { content } | Effect::Borrow { content, .. } => (Way::Here, *content),
        _ => return None,
    })
}

impl Way {
    fn bytes_ms(self, plan: &TransferPlan) -> u64 {
        match self {
            Way::FromCloud | Way::ToCloud => plan.cloud_bytes_ms,
            Way::FromMember => plan.lan_bytes_ms,
            Way::Here => plan.disk_bytes_ms,
        }
    }

    /// Whether it tells how far it is, and can be broken off.
    fn is_watched(self) -> bool {
        matches!(self, Way::FromCloud | Way::ToCloud)
    }

    /// Whether what came is there for the next attempt.
    fn resumes(self) -> bool {
        matches!(self, Way::FromCloud | Way::FromMember)
    }
}

impl World {
    /// The content with this number, as this world has it.
    pub(crate) fn content(&self, number: u64) -> Content {
        match &self.transfers.plan {
            Some(plan) => plan.content(number),
            None => crate::node::content(number),
        }
    }

    /// An effect is to be broken off.
    pub(crate) fn break_off(&mut self, n: usize, id: EffectId) {
        // Else it is over before anybody could.
        if self.transfers.plan.is_some() {
            self.nodes[n].under_way.broken_off.insert(id);
        }
    }

    /// Whether an effect is not done yet, because bytes still move, or never will be.
    pub(crate) fn is_moving(&mut self, n: usize, life: u64, id: EffectId, effect: &Effect) -> bool {
        let Some(plan) = self.transfers.plan.clone() else { return false };
        let Some((way, content)) = way_of(effect) else { return false };
        if self.nodes[n].under_way.broken_off.remove(&id) && way.is_watched() {
            self.goals.met("transfer-broken-off");
            self.end_transfer(n, life, id, failed("broken off"));
            return true;
        }
        let bytes_ms = way.bytes_ms(&plan);
        let mut transfer = match self.nodes[n].under_way.transfers.get(&id).copied() {
            None if content.size < bytes_ms => return false,
            None => self.begin_transfer(n, way, &content),
            Some(transfer) => {
                if let Some(refusal) = self.breaks(n, effect) {
                    self.end_transfer(n, life, id, refusal);
                    return true;
                }
                self.step_transfer(n, id, way, &content, transfer, bytes_ms)
            }
        };
        if transfer.moved >= content.size {
            self.whole(n, id, way, content, &transfer);
            return false;
        }
        let progress_ms = Lease(self.nodes[n].plan.lease_ms).progress_ms();
        let most_ms = if way == Way::Here { u64::MAX } else { progress_ms };
        transfer.step_ms = (content.size - transfer.moved).div_ceil(bytes_ms).min(most_ms);
        self.nodes[n].under_way.transfers.insert(id, transfer);
        self.later(transfer.step_ms, Happening::Runs { node: n, life, id, effect: effect.clone() });
        true
    }

    fn begin_transfer(&mut self, n: usize, way: Way, content: &Content) -> Transfer {
        let home = self.nodes[n].home;
        let partial = self.nodes[home].under_way.partials.get(content).copied().filter(|_| way.resumes());
        if partial.is_some() {
            self.goals.met("transfer-resumed");
        }
        if way == Way::FromCloud && self.transfers.begun.get(content).is_some_and(|other| *other != n) {
            self.goals.met("transfer-taken-over");
        }
        Transfer { begun_ms: self.now_ms(), moved: partial.unwrap_or(0), step_ms: 0 }
    }

    /// A step of a transfer is over, and more bytes are there, unless it stands still.
    fn step_transfer(
        &mut self,
        n: usize,
        id: EffectId,
        way: Way,
        content: &Content,
        transfer: Transfer,
        bytes_ms: u64,
    ) -> Transfer {
        let hangs = |spell: &Spell| *spell == Spell::Hang { node: n };
        if way == Way::FromCloud && self.spells.iter().any(|(_, _, spell)| hangs(spell)) {
            self.goals.met("transfer-stood-still");
            return transfer;
        }
        let moved = content.size.min(transfer.moved + transfer.step_ms.saturating_mul(bytes_ms));
        if way.resumes() {
            let home = self.nodes[n].home;
            self.nodes[home].under_way.partials.insert(*content, moved);
        }
        if way == Way::FromCloud {
            self.transfers.begun.insert(*content, n);
        }
        if way.is_watched() && moved < content.size {
            self.input(n, Input::Progress(id, moved));
            self.met_by_transfer(n, id, way, content);
        }
        Transfer { moved, ..transfer }
    }

    /// All bytes of a transfer have come.
    fn whole(&mut self, n: usize, id: EffectId, way: Way, content: Content, transfer: &Transfer) {
        let home = self.nodes[n].home;
        self.nodes[n].under_way.transfers.remove(&id);
        self.nodes[n].under_way.hashed.insert(content);
        self.nodes[home].under_way.partials.remove(&content);
        self.transfers.begun.remove(&content);
        let lease_ms = self.nodes[n].plan.lease_ms;
        if way.is_watched() && self.now_ms() - transfer.begun_ms > lease_ms {
            self.goals.met("transfer-outlasted-lease");
        }
    }

    fn end_transfer(&mut self, n: usize, life: u64, id: EffectId, outcome: Outcome) {
        self.nodes[n].under_way.transfers.remove(&id);
        let ms = self.streams.of(Stream::Transfer, n).below(20);
        self.later(ms, Happening::Input { node: n, life, input: Box::new(Input::Done(id, outcome)) });
    }

    /// Why a transfer cannot go on.
    fn breaks(&self, n: usize, effect: &Effect) -> Option<Outcome> {
        if let Some(refusal) = self.refusal(n, site(effect)) {
            return Some(refusal);
        }
        let Effect::Fetch { from, content, .. } = effect else { return None };
        self.source(n, *from, content).err()
    }

    /// Whether a member can give a content to a node; if not, what is said.
    pub(crate) fn source(&self, n: usize, from: ClientId, content: &Content) -> Result<(), Outcome> {
        let source = self.nodes.iter().position(|node| node.id == from && node.engine.is_some());
        let open = |at: &usize| !self.is_cut(n, *at) && !self.is_cut(*at, n) && !self.is_unmounted(*at);
        let Some(source) = source.filter(open) else { return Err(failed("cannot be reached")) };
        match self.folder(source).disk.media().any(|(_, held)| held.same_as(content)) {
            true => Ok(()),
            false => Err(Outcome::Missing),
        }
    }

    /// What happens sometimes while a transfer goes on, once a run.
    fn met_by_transfer(&mut self, n: usize, id: EffectId, way: Way, content: &Content) {
        let waits = match way {
            Way::ToCloud => "upload-waited-for-slot",
            _ => "download-waited-for-slot",
        };
        let Some(engine) = &self.nodes[n].engine else { return };
        if self.goals.of(waits) > 0 && self.goals.of("claim-renewed-by-progress") > 0 {
            return;
        }
        let report = engine.report();
        let task = report.tasks.iter().find(|task| task.effect == Some(id));
        let entries = task.and_then(|task| engine.item_report(&task.item).ok()).map(|report| report.entries);
        let is_renewed = entries.into_iter().flatten().any(|entry| {
            entry.owner() == self.nodes[n].id && entry.entry.claims.iter().any(|claim| claim.progress > 0)
        });
        let waiting = if way == Way::ToCloud { report.uploads_waiting } else { report.downloads_waiting };
        if waiting > 0 && content.size > SMALL_BYTES {
            self.goals.met(waits);
        }
        if is_renewed && way == Way::FromCloud {
            self.goals.met("claim-renewed-by-progress");
        }
    }

    /// How long a node takes to hash what it sees for the first time.
    pub(crate) fn hashing_ms(&mut self, n: usize, seen: impl Iterator<Item = Content>) -> u64 {
        let Some(plan) = self.transfers.plan.clone() else { return 0 };
        let hashed = &mut self.nodes[n].under_way.hashed;
        let bytes: u64 = seen.filter(|content| hashed.insert(*content)).map(|content| content.size).sum();
        bytes / plan.disk_bytes_ms
    }
}
