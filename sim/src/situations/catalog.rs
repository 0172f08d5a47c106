//! Situations around the catalog: restores, lost answers, kills, commits that come late.

use super::Draft;
use crate::plan::{Deed, Mishap, Site, Spell, Strike};

pub(super) fn restored(draft: &mut Draft) {
    draft.nodes(3);
    for n in 0..2 {
        draft.save(0, 0, &format!("{n}.jpg"));
    }
    draft.strike(7_000, Strike::BackUpCatalog);
    draft.crash(7_000, 1, 9_200);
    for turn in 0..3 {
        let at_ms = 7_100 + turn * 3_000;
        draft.save(at_ms, 0, "0.jpg");
        draft.save(at_ms, 0, &format!("lost {turn}.jpg"));
    }
    let away_ms = draft.chance(3_000);
    draft.crash(16_100, 0, 5_100 + away_ms);
    draft.crash(16_100, 2, 5_100);
    draft.strike(16_150, Strike::RestoreCatalog);
    for n in 0..draft.chance(12) {
        draft.save(16_300, 1, &format!("again {n}.jpg"));
    }
    draft.plan.calm_ms = 27_000;
}

pub(super) fn answers_lost(draft: &mut Draft) {
    draft.nodes(2);
    draft.save(0, 0, "0.jpg");
    let mut at_ms = 7_000;
    let begun_ms = at_ms;
    for _ in 0..8 {
        draft.save(at_ms, 0, "0.jpg");
        at_ms += draft.chance(1_500);
    }
    for (how, permille) in [(Mishap::AnswerLost, 200), (Mishap::Fails, 300)] {
        draft.spell(begun_ms, at_ms - begun_ms, Spell::Effects { node: 0, site: None, how, permille });
    }
}

pub(super) fn killed_while_away(draft: &mut Draft) {
    draft.nodes(3);
    for n in 0..3 {
        draft.save(0, 0, &format!("{n}.jpg"));
    }
    let down_ms = 4_000 + draft.chance(3_000);
    draft.crash(7_000, 2, down_ms);
    draft.deed(7_050, Deed::Kill { node: 0, path: "0.jpg".into() });
    draft.deed(7_050, Deed::Kill { node: 1, path: "1.jpg".into() });
    if draft.random.permille(500) {
        draft.strike(6_900 + down_ms, Strike::Wipe { node: 2, down_ms: 1 });
    }
    draft.plan.calm_ms = 16_000;
}

pub(super) fn taken_over(draft: &mut Draft) {
    draft.nodes(3);
    let at_ms = 3_000;
    let first = draft.save(at_ms, 0, "a.jpg");
    // Another has the same picture.
    draft.deed(at_ms + 1_500, Deed::Save { node: 1, path: "a.jpg".into(), content: first });
    // The first object goes slowly; the edit is on its way when its author falls silent.
    draft.spell(
        0,
        30_000,
        Spell::Effects { node: 0, site: Some(Site::Commit), how: Mishap::AppliedLate, permille: 1_000 },
    );
    let edit_ms = at_ms + 200 + draft.chance(1_500);
    draft.save(edit_ms, 0, "a.jpg");
    let gone_ms = edit_ms + 600 + draft.chance(1_500);
    draft.crash(gone_ms, 0, 25_000);
    draft.plan.calm_ms = 30_000;
}
