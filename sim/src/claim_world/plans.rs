//! Plans in the small world of the claim rule: which of a plan's items this world knows, and what must come to be.
//!
//! Saves, crashes, pauses, wrong clocks, cuts both ways, a cloud that is away and transfers that stand still; all other
//! items are left alone.

use super::{ClaimWorld, Manners};
use crate::checks::{Book, Invariant, found};
use crate::hash::StateHash;
use crate::plan::{ClaimPlan, Deed, Plan, Spell, Strike, What};
use crate::trace::Trace;
use crate::world::content;
use std::collections::BTreeMap;
use tcat_engine::content::Content;
use tcat_engine::planted::Bug;

/// Within this time after the last fault everybody has everything.
const PATIENCE_MS: u64 = 60_000;
/// What was parked is tried again after five minutes.
const PARKED_MS: u64 = 310_000;
/// How often is looked whether retries pile up.
const LOOK_MS: u64 = 1_000;

/// What is done at a time.
#[derive(Clone, Copy)]
enum Act {
    Begins(usize),
    Ends(usize),
    Starts(usize),
}

/// A run in this world.
pub(crate) struct Played {
    pub(crate) book: Book,
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) world_ms: u64,
    pub(crate) trace: Option<Trace>,
}

/// Plays a plan in this world.
pub(crate) fn play(plan: &Plan, claims: &ClaimPlan, bug: Option<Bug>, recorded: bool) -> Played {
    let contents: Vec<Content> = claims.contents.iter().map(|number| content(*number)).collect();
    let mut world = ClaimWorld::stopped(plan.seed, plan.nodes.len(), &contents, bug);
    world.manners.get_ms = claims.get_ms;
    world.manners.cancel_ms = claims.cancel_ms;
    world.manners.delay_ms_max = plan.weather.delay_ms_max.max(1);
    let begun_ms = world.now_ms;
    let mut play = Play { world, plan, begun_ms, saved: BTreeMap::new(), book: Book::default() };
    play.play_out();
    let Play { world, book, .. } = play;
    let mut hash = StateHash::default();
    world.log.iter().for_each(|line| hash.bytes(line.as_bytes()));
    let mut trace = recorded.then(|| Trace::new(plan.nodes.len()));
    if let Some(trace) = &mut trace {
        for line in &world.log {
            let (at, text) = line.split_once(' ').unwrap_or(("0", line));
            trace.note(at.parse().unwrap_or(0), plan.nodes.len(), "claims", text.to_owned());
        }
    }
    let world_ms = world.now_ms - begun_ms;
    Played { book, hash: hash.value(), events: world.words + world.sequence, world_ms, trace }
}

struct Play<'a> {
    world: ClaimWorld,
    plan: &'a Plan,
    begun_ms: u64,
    /// What persons saved last, by path.
    saved: BTreeMap<String, Content>,
    book: Book,
}

impl Play<'_> {
    fn play_out(&mut self) {
        let mut acts = Vec::new();
        for (n, node) in self.plan.nodes.iter().enumerate() {
            acts.push((node.starts_ms, Act::Starts(n)));
        }
        for (at, item) in self.plan.items.iter().enumerate() {
            acts.push((item.at_ms, Act::Begins(at)));
            match item.what {
                What::Spell { for_ms, .. } => acts.push((item.at_ms.saturating_add(for_ms), Act::Ends(at))),
                What::Strike(Strike::Crash { node, down_ms, .. }) => {
                    acts.push((item.at_ms.saturating_add(down_ms.max(1)), Act::Starts(node)));
                }
                _ => {}
            }
        }
        acts.sort_by_key(|(at_ms, _)| *at_ms);
        for (at_ms, act) in acts.into_iter().filter(|(at_ms, _)| *at_ms <= self.plan.calm_ms) {
            self.run_to(at_ms);
            match act {
                Act::Begins(at) => self.begins(at),
                Act::Ends(at) => self.ends(at),
                Act::Starts(n) if self.world.nodes[n].engine.is_none() => self.world.start(n),
                Act::Starts(_) => {}
            }
        }
        self.run_to(self.plan.calm_ms);
        self.world.mend();
        self.world.cloud_away = false;
        // Where a word and its answer take longer than two thirds of a lease nobody can know that it is heard.
        self.world.manners.delay_ms_max = Manners::default().delay_ms_max;
        for n in 0..self.plan.nodes.len() {
            if self.world.nodes[n].engine.is_none() {
                self.world.start(n);
            }
        }
        if !self.is_broken() {
            self.comes_to_be();
        }
        self.judge();
    }

    /// Runs until then, and looks now and then whether retries pile up.
    fn run_to(&mut self, at_ms: u64) {
        let end_ms = self.begun_ms + at_ms;
        while self.world.now_ms < end_ms && !self.is_broken() {
            self.world.run_for(LOOK_MS.min(end_ms - self.world.now_ms));
            self.check_timers();
        }
    }

    fn is_broken(&self) -> bool {
        !self.world.broken.is_empty() || !self.book.violations.is_empty()
    }

    /// S12: an item is to be looked at again at one time at most.
    fn check_timers(&mut self) {
        let items = self.world.catalog.rows().count() + self.saved.len();
        for n in 0..self.plan.nodes.len() {
            let Some(engine) = self.world.engine(n) else { continue };
            let (timers, now_ms) = (engine.report().timers, self.world.now_ms);
            self.book.check(Invariant::S12, timers <= items as u64, || {
                found(now_ms, &[n], &[], format!("node {} has {timers} retries for {items} items", n + 1))
            });
        }
    }

    fn begins(&mut self, at: usize) {
        match &self.plan.items[at].what {
            What::Deed(Deed::Save { node, path, content: number }) => {
                self.saved.insert(path.clone(), content(*number));
                self.world.save(*node, path, content(*number));
            }
            What::Strike(Strike::Crash { node, .. }) => self.world.crash(*node),
            What::Strike(Strike::Pause { node, for_ms }) => self.world.suspend(*node, *for_ms),
            What::Strike(Strike::StepClock { node, by_ms }) => self.world.set_clock(*node, *by_ms, 0),
            What::Strike(Strike::TakenOver { path, epoch }) => {
                let item = self.world.catalog.row_at(path).map(|row| row.item);
                if let Some(item) = item {
                    self.world.catalog.raise_claim_epoch(&item, *epoch);
                }
            }
            What::Spell { fault: Spell::Cut { from, to }, .. } => {
                for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))) {
                    self.world.cuts.extend([(from, to), (to, from)]);
                }
            }
            What::Spell { fault: Spell::CatalogAway { .. }, .. } => self.world.cloud_away = true,
            What::Spell { fault: Spell::Hang { node }, .. } => _ = self.world.hung.insert(*node),
            _ => {}
        }
    }

    fn ends(&mut self, at: usize) {
        match &self.plan.items[at].what {
            What::Spell { fault: Spell::Cut { .. }, .. } => self.world.mend(),
            What::Spell { fault: Spell::CatalogAway { .. }, .. } => self.world.cloud_away = false,
            What::Spell { fault: Spell::Hang { node }, .. } => _ = self.world.hung.remove(node),
            _ => {}
        }
    }

    /// L1: who can work does, whoever stands still; and what persons saved is committed.
    fn comes_to_be(&mut self) {
        let items = self.world.contents.len();
        let hung = self.world.hung.clone();
        let saved: Vec<Content> = self.saved.values().copied().collect();
        let all = |world: &ClaimWorld| {
            let others = (0..world.nodes.len()).filter(|n| !hung.contains(n));
            let committed = |content: &Content| world.catalog.rows().any(|row| row.content == *content);
            others.into_iter().all(|n| world.files(n) >= items) && saved.iter().all(committed)
        };
        if self.world.log.iter().any(|line| line.contains("Parked")) {
            self.world.run_for(PARKED_MS);
        }
        let end_ms = self.world.now_ms + PATIENCE_MS;
        let holds = self.world.run_until(end_ms, all) || !self.world.broken.is_empty();
        let now_ms = self.world.now_ms;
        self.book.check(Invariant::L1, holds, || {
            let text = format!("not all have all, or not all is committed, within {PATIENCE_MS} ms");
            found(now_ms, &[], &[], text)
        });
        self.check_timers();
    }

    fn judge(&mut self) {
        let (now_ms, broken) = (self.world.now_ms, self.world.broken.clone());
        for invariant in [Invariant::S1, Invariant::S2] {
            let of = |text: &&String| text.split(':').next() == Some(invariant.id());
            let text = broken.iter().find(of).cloned();
            self.book.check(invariant, text.is_none(), || {
                found(now_ms, &[], &[], text.clone().unwrap_or_default())
            });
        }
    }
}
