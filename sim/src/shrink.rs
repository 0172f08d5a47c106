//! Making a failing plan smaller, as long as it fails in the same way.
//!
//! Delta debugging over the plan's items (Zeller and Hildebrandt, 2002), then everything else that can be made plainer:
//! weather, clocks, times, nodes. Named random streams keep what is left as it was.

use crate::checks::Invariant;
use crate::clock::ClockPlan;
use crate::plan::{Fidelity, Item, NodePlan, Plan, Spell, What};
use crate::run::{How, play};
use crate::world::Weather;

const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };

/// A world that does not come to rest within this time mostly never does.
const SHORT_PATIENCE_MS: u64 = 60_000;

/// A plan on its way to being smaller.
struct Shrinking<'a> {
    best: Plan,
    invariant: Invariant,
    runs: u64,
    patience_ms: u64,
    go_on: &'a mut dyn FnMut(u64, usize) -> bool,
    stopped: bool,
}

/// The smallest plan found that still violates the invariant, and how many runs it took. `go_on` is asked with the
/// number of runs and of items left before each run, and may end the search.
pub fn shrink(plan: &Plan, invariant: Invariant, go_on: &mut dyn FnMut(u64, usize) -> bool) -> (Plan, u64) {
    let patience_ms = How::default().patience_ms;
    let mut shrinking =
        Shrinking { best: plan.clone(), invariant, runs: 0, patience_ms, go_on, stopped: false };
    // What fails for ever is seen sooner; in the end the whole patience decides.
    if shrinking.fails(plan, SHORT_PATIENCE_MS) {
        shrinking.patience_ms = SHORT_PATIENCE_MS;
        shrinking.search();
        let small = shrinking.best.clone();
        if shrinking.fails(&small, patience_ms) {
            return (small, shrinking.runs);
        }
        (shrinking.best, shrinking.patience_ms) = (plan.clone(), patience_ms);
    }
    shrinking.search();
    (shrinking.best, shrinking.runs)
}

impl Shrinking<'_> {
    fn search(&mut self) {
        loop {
            let before = self.best.clone();
            self.drop_items();
            self.make_plainer();
            if self.stopped || self.best == before {
                break;
            }
        }
    }

    /// Takes a plan if it fails in the same way.
    fn try_plan(&mut self, plan: Plan) -> bool {
        if self.stopped || plan == self.best || plan.check().is_err() {
            return false;
        }
        if !(self.go_on)(self.runs, self.best.items.len()) {
            self.stopped = true;
            return false;
        }
        let fails = self.fails(&plan, self.patience_ms);
        if fails {
            self.best = plan;
        }
        fails
    }

    fn fails(&mut self, plan: &Plan, patience_ms: u64) -> bool {
        self.runs += 1;
        let how = How { recorded: false, until: Some(self.invariant), patience_ms };
        let Ok(finished) = play(plan, how) else { return false };
        finished.violations.iter().any(|violation| violation.invariant == self.invariant)
    }

    fn try_items(&mut self, items: Vec<Item>) -> bool {
        let plan = Plan { items, ..self.best.clone() };
        self.try_plan(plan)
    }

    /// Leaves out as many items as can be, larger parts first.
    fn drop_items(&mut self) {
        let mut part = self.best.items.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            let mut dropped = false;
            while at < self.best.items.len() && !self.stopped {
                let mut items = self.best.items.clone();
                items.drain(at..(at + part).min(items.len()));
                if self.try_items(items) {
                    dropped = true;
                } else {
                    at += part;
                }
            }
            if self.stopped || (part == 1 && !dropped) {
                return;
            }
            if !dropped {
                part = part.div_ceil(2).max(1);
            }
        }
    }

    fn make_plainer(&mut self) {
        let plan = self.best.clone();
        self.try_plan(Plan { dead: Vec::new(), ..plan });
        let plan = self.best.clone();
        self.try_plan(Plan { weather: FAIR, ..plan });
        let plan = self.best.clone();
        self.try_plan(Plan { fidelity: Fidelity::Light, ..plan });
        let plan = self.best.clone();
        self.try_plan(Plan { plain_roots: Vec::new(), ..plan });
        self.plainer_contents();
        self.plainer_nodes();
        self.fewer_nodes();
        let last_ms = self.best.items.iter().map(|item| item.at_ms).max().unwrap_or(0);
        for calm_ms in [last_ms + 1_000, last_ms + 5_000] {
            if calm_ms < self.best.calm_ms {
                let plan = Plan { calm_ms, ..self.best.clone() };
                self.try_plan(plan);
            }
        }
        self.shorter_spells();
        if self.best.classes.len() > 1 {
            // Names for people only.
            self.best.classes.clear();
        }
    }

    /// As if nothing took its time, or of fewer sizes.
    fn plainer_contents(&mut self) {
        let Some(mut transfers) = self.best.transfers.clone() else { return };
        if self.try_plan(Plan { transfers: None, ..self.best.clone() }) {
            return;
        }
        transfers.keep_only(&self.best.items);
        for number in transfers.sizes.keys().copied().collect::<Vec<_>>() {
            let mut fewer = transfers.clone();
            fewer.sizes.remove(&number);
            if self.try_plan(Plan { transfers: Some(fewer.clone()), ..self.best.clone() }) {
                transfers = fewer;
            }
        }
        self.try_plan(Plan { transfers: Some(transfers), ..self.best.clone() });
    }

    fn plainer_nodes(&mut self) {
        for n in 0..self.best.nodes.len() {
            for plainer in [
                NodePlan::default(),
                NodePlan { starts_ms: 0, ..self.best.nodes[n].clone() },
                NodePlan { clock: ClockPlan::default(), ..self.best.nodes[n].clone() },
            ] {
                let mut plan = self.best.clone();
                plan.nodes[n] = plainer;
                self.try_plan(plan);
            }
        }
    }

    /// The last node goes as long as nothing names it.
    fn fewer_nodes(&mut self) {
        while self.best.nodes.len() > 1 {
            let last = self.best.nodes.len() - 1;
            let mut plan = self.best.clone();
            plan.nodes.pop();
            for item in &mut plan.items {
                if let What::Spell { fault: Spell::Cut { from, to }, .. } = &mut item.what {
                    from.retain(|n| *n != last);
                    to.retain(|n| *n != last);
                }
            }
            plan.dead.retain(|n| *n != last);
            plan.plain_roots.retain(|n| *n != last);
            if !self.try_plan(plan) {
                return;
            }
        }
    }

    fn shorter_spells(&mut self) {
        for at in 0..self.best.items.len() {
            loop {
                let mut items = self.best.items.clone();
                let Some(What::Spell { for_ms, .. }) = items.get_mut(at).map(|item| &mut item.what) else {
                    break;
                };
                *for_ms /= 2;
                if *for_ms < 10 || !self.try_items(items) {
                    break;
                }
            }
        }
    }
}
