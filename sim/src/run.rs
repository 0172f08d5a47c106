//! Playing a plan: from the first start to the verdict.

use crate::checks::rest::PATIENCE_MS;
use crate::checks::{Counts, Invariant, Violation, found};
use crate::claim_world::plans;
use crate::folder::{FULL, Folder};
use crate::goals::Goals;
use crate::plan::{Canary, ClaimPlan, Item, Plan, PlanError, Strike, What};
use crate::trace::Trace;
use crate::world::{Happening, World};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tcat_engine::engine::BrakeLimits;
use tcat_engine::planted::{Bug, Planted};
use tcat_engine::publishing::Abilities;

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct Finished {
    /// The rolling hash of all that happened.
    pub hash: u64,
    /// Inputs and outputs of engines.
    pub events: u64,
    /// How much time passed in the world.
    pub world_ms: u64,
    /// How often each invariant was checked.
    pub counts: Counts,
    /// What happened that should happen sometimes.
    pub goals: Goals,
    /// What did not hold; nothing if all is well.
    pub violations: Vec<Violation>,
    /// What happened, if it was recorded.
    pub trace: Option<Trace>,
}

/// How a plan is played.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct How {
    /// Every event is kept.
    pub recorded: bool,
    /// Nothing more happens once this was violated.
    pub until: Option<Invariant>,
    /// How long a world may take to come to rest after faults have ended, in milliseconds of its time.
    pub patience_ms: u64,
}

impl Default for How {
    fn default() -> Self {
        How { recorded: false, until: None, patience_ms: PATIENCE_MS }
    }
}

/// Plays a plan to its end. With `recorded`, every event is kept.
pub fn run(plan: &Plan, recorded: bool) -> Result<Finished, PlanError> {
    play(plan, How { recorded, ..How::default() })
}

/// Plays a plan.
pub fn play(plan: &Plan, how: How) -> Result<Finished, PlanError> {
    plan.check()?;
    let bug = match &plan.bug {
        None => None,
        Some(id) => Some(bug_named(id).ok_or_else(|| PlanError(format!("there is no planted bug {id:?}")))?),
    };
    if let Some(claims) = &plan.claims {
        return Ok(run_claims(plan, claims, bug, how.recorded));
    }
    let mut world = World::of(plan, Planted(bug));
    world.trace = how.recorded.then(|| Trace::new(plan.nodes.len()));
    (world.book.until, world.patience_ms) = (how.until, how.patience_ms);
    // A panic of an engine is a finding like any other; the world is only looked at afterwards.
    let played = catch_unwind(AssertUnwindSafe(|| world.play(plan)));
    if let Err(panic) = played {
        let text = text_of(&*panic);
        let now_ms = world.now_ms();
        world.book.check(Invariant::S0, false, || found(now_ms, &[], &[], format!("a panic: {text}")));
    }
    Ok(Finished {
        hash: world.hash.value(),
        events: world.events,
        world_ms: world.now_ms(),
        counts: world.book.counts.clone(),
        goals: std::mem::take(&mut world.goals),
        violations: std::mem::take(&mut world.book.violations),
        trace: world.trace.take(),
    })
}

/// The same in the world of the claim rule.
fn run_claims(plan: &Plan, claims: &ClaimPlan, bug: Option<Bug>, recorded: bool) -> Finished {
    let played = catch_unwind(AssertUnwindSafe(|| plans::play(plan, claims, bug, recorded)));
    match played {
        Ok(played) => Finished {
            hash: played.hash,
            events: played.events,
            world_ms: played.world_ms,
            counts: played.book.counts.clone(),
            goals: Goals::default(),
            violations: played.book.violations,
            trace: played.trace,
        },
        Err(panic) => {
            let violation = found(0, &[], &[], format!("a panic: {}", text_of(&*panic)));
            Finished { violations: vec![violation], ..Finished::default() }
        }
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// The planted bug with this id, or with this number.
pub fn bug_named(id: &str) -> Option<Bug> {
    let number = |bug: &Bug| bug.id().split('-').next() == Some(id);
    Bug::ALL.iter().copied().find(|bug| bug.id() == id || number(bug))
}

impl World {
    fn of(plan: &Plan, bug: Planted) -> Self {
        let mut world = World::empty(plan.seed, plan.nodes.clone(), plan.weather, bug, plan.fidelity);
        world.planned = true;
        world.calm_at_ms = world.now_ms() + plan.calm_ms;
        world.items = Arc::new(plan.items.clone());
        world.transfers.plan = plan.transfers.clone().map(Arc::new);
        world.book.off = (plan.canary == Some(Canary::CheckerOff)).then_some(Invariant::S8);
        for n in &plan.plain_roots {
            world.nodes[*n].folder = Folder::new(Abilities { exchange: false, ..FULL }, bug);
        }
        let visits = |item: &Item| matches!(item.what, What::Strike(Strike::LaterVersion { .. }));
        if plan.items.iter().any(visits) {
            world.expect_visitor();
        }
        if let Some(host) = plan.hosted {
            world.keep_catalog_at(host);
        }
        (world.once, world.open) = (plan.once, plan.open);
        world.deaf = plan.deaf.iter().copied().collect();
        if let Some(percent) = plan.brake_percent {
            world.brake = BrakeLimits { percent, ..BrakeLimits::default() };
        }
        for (n, node) in plan.nodes.iter().enumerate() {
            let options = world.options.entry(n).or_default();
            options.follow_deletions = node.follow_deletions;
            world.later(node.starts_ms, Happening::Start { node: n, life: 0 });
        }
        for (number, item) in plan.items.iter().enumerate() {
            world.later(item.at_ms, Happening::Planned(number));
        }
        world
    }

    /// A planned item's time has come.
    pub(crate) fn planned_item(&mut self, number: usize) {
        let items = Arc::clone(&self.items);
        let Some(item) = items.get(number) else { return };
        self.hash.word(number as u64);
        match &item.what {
            What::Deed(deed) => self.deed(deed),
            What::Strike(strike) => self.strike(strike),
            What::Spell { for_ms, fault } => self.begin_spell(fault.clone(), *for_ms),
        }
    }

    fn play(&mut self, plan: &Plan) {
        self.run_for(plan.calm_ms);
        self.check_before_calm();
        // Two with one key both stop and ask a person, who turns them off: the others go on without them.
        let off: Vec<_> = plan.dead.iter().chain(&self.truth.twins).copied().collect();
        for n in off {
            self.crash(n);
            self.nodes[n].dead = true;
        }
        self.heal();
        // What faults have delayed comes first.
        self.run_for(2_000);
        self.promote_for_the_dead();
        self.show_ruling();
        self.check_the_end();
        self.check_what_happened();
        self.check_hosts();
        match plan.canary {
            Some(Canary::HashOrder) => self.leak_hash_order(),
            Some(Canary::AlwaysFails) => {
                let now_ms = self.now_ms();
                self.book.check(Invariant::S0, false, || found(now_ms, &[], &[], "the canary H2".into()));
            }
            Some(Canary::CheckerOff) | None => {}
        }
    }

    /// The canary H1: a hash map's order, which differs from process to process.
    #[allow(clippy::iter_over_hash_type, reason = "a canary: `meta` has to notice it")]
    fn leak_hash_order(&mut self) {
        let leak: std::collections::HashMap<u64, ()> = (0..64).map(|number| (number, ())).collect();
        for number in leak.keys() {
            self.hash.word(*number);
        }
    }
}
