//! Situations around edits and names: lines that cross, shared folders, names that two want, bursts.

use super::Draft;
use crate::plan::{Deed, Spell, Strike};
use crate::scanner::DiskClockPlan;
use crate::world::Weather;

pub(super) fn edits_cross(draft: &mut Draft) {
    draft.nodes(3);
    draft.plan.open = true;
    for n in 0..2 {
        draft.save(0, n, &format!("album/{n}.jpg"));
    }
    if draft.random.permille(500) {
        draft.plan.weather = Weather { loss_permille: 100, twice_permille: 50, delay_ms_max: 600 };
    }
    let mut at_ms = 7_000;
    for _ in 0..10 {
        let pause_ms = draft.chance(4_000);
        if draft.chance(6) > 0 {
            draft.spell(at_ms, pause_ms + 10, Spell::CatalogAway { node: None });
        }
        let (node, path) = (draft.node(), format!("album/{}.jpg", draft.chance(3)));
        draft.save(at_ms + 5, node, &path);
        at_ms += pause_ms;
        let (victim, for_ms) = (draft.node(), draft.chance(4_000));
        match draft.chance(8) {
            0 => draft.crash(at_ms, victim, for_ms),
            1 | 2 => {
                let others = draft.others(victim);
                draft.cut(at_ms, for_ms * 2, &[victim], &others);
            }
            _ => {}
        }
    }
    draft.plan.calm_ms = at_ms + 4_000;
}

pub(super) fn shared_folder(draft: &mut Draft) {
    beside_one_that_lags(draft, 8_000);
}

/// Nodes 0 and 1 share a folder. What node 2 has saved comes there by node 0, while node 1 does not hear of the catalog,
/// from `lags_ms` on; then a person there goes back to what the file was before, or goes on from what it is, and node 0,
/// which knows which it is, may be down, stand still, or not see it.
pub(super) fn beside_one_that_lags(draft: &mut Draft, lags_ms: u64) {
    const A: &str = "album/a.jpg";
    const KNOWS: usize = 0;
    const LAGS: usize = 1;
    draft.nodes(3);
    draft.plan.nodes[LAGS].home = Some(KNOWS);
    let first = draft.save(100, 2, A);
    let saved_ms = lags_ms + 500 + draft.chance(1_500);
    let back_ms = saved_ms + 3_000 + draft.chance(2_500);
    let heard_ms = back_ms + 2_500 + draft.chance(3_000);
    draft.spell(lags_ms, heard_ms - lags_ms, Spell::CatalogAway { node: Some(LAGS) });
    draft.save(saved_ms, 2, A);
    // The catalog goes for the other too, so that the lagging one may be the first that it is back for.
    draft.spell(back_ms, heard_ms - back_ms, Spell::CatalogAway { node: None });
    draft.spell(heard_ms, 10_000, Spell::CatalogAway { node: Some(KNOWS) });
    match draft.random.permille(750) {
        true => draft.deed(back_ms + 5, Deed::Save { node: LAGS, path: A.into(), content: first }),
        false => _ = draft.save(back_ms + 5, LAGS, A),
    }
    let gone_ms = back_ms - draft.chance(2_000);
    let for_ms = heard_ms - gone_ms + draft.chance(10_000);
    match draft.chance(4) {
        0 => draft.crash(gone_ms, KNOWS, for_ms),
        1 => draft.strike(gone_ms, Strike::Pause { node: KNOWS, for_ms }),
        2 => draft.spell(gone_ms, for_ms, Spell::BlindWatcher { node: KNOWS }),
        _ => {}
    }
    draft.plan.calm_ms = heard_ms + 20_000;
}

pub(super) fn two_files_one_name(draft: &mut Draft) {
    draft.nodes(2);
    draft.save(100, 0, "a.jpg");
    draft.plan.nodes[1].starts_ms = 7_000;
    draft.save(6_000, 1, "a.jpg");
    let for_ms = 4_000 + draft.chance(3_000);
    draft.spell(6_900, for_ms, Spell::CatalogAway { node: None });
    draft.plan.calm_ms = 20_000;
}

pub(super) fn names_swapped(draft: &mut Draft) {
    draft.nodes(2);
    for n in 0..4 {
        draft.save(0, 0, &format!("{n}.jpg"));
    }
    let mut at_ms = 7_000;
    for _ in 0..3 {
        let node = draft.node();
        let first = draft.chance(4);
        let second = (first + 1 + draft.chance(3)) % 4;
        let paths = vec![format!("{first}.jpg"), format!("{second}.jpg")];
        draft.deed(at_ms, Deed::Turn { node, paths });
        at_ms += draft.chance(8_000);
    }
}

pub(super) fn unmounted(draft: &mut Draft) {
    draft.nodes(3);
    for n in 0..12 {
        draft.save(0, 0, &format!("album/{n}.jpg"));
    }
    let at_ms = 8_000 + draft.chance(4_000);
    draft.spell(at_ms, 60_000, Spell::Unmounted { node: 1 });
    let down_ms = 10 + draft.chance(3_000);
    draft.crash(at_ms + 25_000, 1, down_ms);
    draft.plan.calm_ms = at_ms + 62_000;
}

pub(super) fn hostage(draft: &mut Draft) {
    const FILES: u64 = 60;
    draft.nodes(3);
    draft.plan.brake_percent = Some(30);
    for n in 0..FILES {
        draft.save(n, 0, &format!("album/{n}.jpg"));
    }
    let pause_ms = [50, 200, 400][draft.chance(3) as usize];
    let mut at_ms = 20_000;
    for n in 0..FILES {
        let path = format!("album/{n}.jpg");
        draft.save(at_ms, 1, &path);
        at_ms += pause_ms;
        draft.deed(at_ms, Deed::Rename { node: 1, path: path.clone(), to: format!("{path}.locked") });
    }
    draft.deed(at_ms + 30_000, Deed::AnswerBrake { node: 1, accept: false });
    draft.plan.calm_ms = at_ms + 60_000;
}

pub(super) fn disk_clock(draft: &mut Draft) {
    draft.nodes(2);
    let apart_ms = |draft: &mut Draft| {
        let ms = 10_000 + draft.chance(14_400_000) as i64;
        if draft.random.permille(500) { ms } else { -ms }
    };
    for n in 0..2 {
        let offset_ms = apart_ms(draft);
        draft.plan.nodes[n].disk_clock = Some(DiskClockPlan { offset_ms, drift_ppm: 0 });
        draft.save(0, n, &format!("{n}.jpg"));
    }
    let (node, by_ms) = (draft.node(), apart_ms(draft));
    match draft.chance(3) {
        0 => draft.strike(5_000, Strike::StepDiskClock { node, by_ms }),
        1 => draft.strike(5_000, Strike::StepClock { node, by_ms }),
        _ => {}
    }
    let node = draft.node();
    draft.save(8_000, node, "0.jpg");
}
