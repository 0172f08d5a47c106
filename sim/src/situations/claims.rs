//! Situations in the world of the claim rule alone: who fetches, and who may take over when.

use super::Draft;
use crate::plan::{ClaimPlan, Deed, Spell, Strike};

/// A content that takes long: the lease of this world is two seconds.
const SLOW_MS: u64 = 20_000;

fn contents(draft: &mut Draft, nodes: usize, count: u64, get_ms: u64) {
    draft.nodes(nodes);
    let first = 1_000 + draft.chance(1 << 30);
    let contents = (first..first + count).collect();
    draft.plan.claims = Some(ClaimPlan { contents, get_ms, cancel_ms: 10 });
    draft.plan.calm_ms = 12_000;
}

pub(super) fn crashes(draft: &mut Draft) {
    contents(draft, 2, 1, 60);
    let mut at_ms = 0;
    draft.spell(0, 25_000, Spell::CatalogAway { node: None });
    for _ in 0..4 {
        at_ms += 1_000 + draft.chance(3_000);
        let node = draft.node();
        draft.crash(at_ms, node, 1);
    }
    draft.plan.calm_ms = 26_000;
}

/// The node that may have the claim is cut off for two leases. Which, and when.
fn cut_off_one(draft: &mut Draft) -> (usize, u64) {
    contents(draft, 3, 1, SLOW_MS);
    if let Some(claims) = &mut draft.plan.claims {
        claims.cancel_ms = 250 + draft.random.below(500);
    }
    let (node, at_ms) = (draft.node(), 1_500 + draft.chance(3_000));
    let others = draft.others(node);
    draft.spell(at_ms, 4_000, Spell::Cut { from: vec![node], to: others });
    (node, at_ms)
}

pub(super) fn cut_off(draft: &mut Draft) {
    cut_off_one(draft);
}

pub(super) fn cut_off_and_set_back(draft: &mut Draft) {
    let (node, at_ms) = cut_off_one(draft);
    let by_ms = -(draft.chance(3_600_000) as i64);
    draft.strike(at_ms, Strike::StepClock { node, by_ms });
}

pub(super) fn words_late(draft: &mut Draft) {
    contents(draft, 3, 1, SLOW_MS);
    draft.plan.weather.delay_ms_max = 600;
    draft.plan.calm_ms = 60_000;
}

pub(super) fn words_overtake(draft: &mut Draft) {
    contents(draft, 3, 2, 3_000);
    draft.plan.weather.delay_ms_max = 200 + draft.random.below(800);
    let mut at_ms = 500;
    for _ in 0..4 {
        at_ms += draft.chance(2_000);
        let for_ms = 200 + draft.chance(3_000);
        draft.spell(at_ms, for_ms, Spell::CatalogAway { node: None });
        at_ms += for_ms;
    }
    draft.plan.calm_ms = at_ms + 6_000;
}

pub(super) fn cloud_away(draft: &mut Draft) {
    contents(draft, 1, 2, 60);
    let for_ms = 6_000 + draft.chance(6_000);
    draft.spell(0, for_ms, Spell::CatalogAway { node: None });
}

pub(super) fn hang(draft: &mut Draft) {
    contents(draft, 3, 1, SLOW_MS);
    let (node, at_ms) = (draft.node(), draft.chance(4_000));
    draft.spell(at_ms, u64::from(u32::MAX), Spell::Hang { node });
}

pub(super) fn leftover(draft: &mut Draft) {
    contents(draft, 2, 1, 60);
    let epoch = 2 + draft.chance(4);
    draft.strike(15_000, Strike::TakenOver { path: "0.jpg".into(), epoch });
    let (node, at_ms) = (draft.node(), 16_000 + draft.chance(2_000));
    let content = 1 << 40;
    draft.deed(at_ms, Deed::Save { node, path: "0.jpg".into(), content });
}
