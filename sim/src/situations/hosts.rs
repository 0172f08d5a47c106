//! Situations without a server: hosts that are gone, come back, or are two.

use super::Draft;
use crate::plan::Strike;

pub(super) fn two(draft: &mut Draft) {
    draft.nodes(4);
    (draft.plan.hosted, draft.plan.open) = (Some(0), true);
    for n in 0..3 {
        draft.save(0, n, &format!("{n}.jpg"));
    }
    let cut_ms = 8_000;
    let for_ms = 8_000 + draft.chance(12_000);
    draft.cut(cut_ms, for_ms, &[0, 1], &[2, 3]);
    // With the old host on one side, or gone.
    if draft.random.permille(500) {
        draft.crash(cut_ms + 100, 0, for_ms + 2_000);
    }
    for node in [1, 2] {
        let late_ms = draft.chance(1_000);
        draft.strike(cut_ms + 500 + late_ms, Strike::Promote { node });
    }
    for turn in 0..6 {
        let at_ms = cut_ms + 2_000 + turn * 1_000 + draft.chance(1_000);
        let (node, path) = (1 + draft.chance(3) as usize, format!("{}.jpg", draft.chance(5)));
        draft.save(at_ms, node, &path);
    }
    draft.plan.calm_ms = cut_ms + for_ms + 4_000;
}

pub(super) fn returns(draft: &mut Draft) {
    draft.nodes(3);
    (draft.plan.hosted, draft.plan.open) = (Some(0), true);
    for n in 0..3 {
        draft.save(0, n, &format!("{n}.jpg"));
    }
    // What it takes last, nobody else may have read.
    draft.save(7_000, 1, "0.jpg");
    let gone_ms = 7_200 + draft.chance(2_500);
    let down_ms = 6_000 + draft.chance(8_000);
    draft.crash(gone_ms, 0, down_ms);
    draft.save(gone_ms + 1_000, 2, "0.jpg");
    let late_ms = draft.chance(3_000);
    draft.strike(gone_ms + 1_000 + late_ms, Strike::Promote { node: 1 });
    draft.save(gone_ms + 5_000, 2, "new.jpg");
    draft.save(gone_ms + down_ms + 500, 0, "1.jpg");
    if draft.random.permille(300) {
        let later_ms = draft.chance(2_000);
        draft.strike(gone_ms + down_ms + later_ms, Strike::Promote { node: 0 });
    }
    draft.plan.calm_ms = gone_ms + down_ms + 6_000;
}
