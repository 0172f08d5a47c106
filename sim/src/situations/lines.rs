//! Situations around edits and names: lines that cross, shared folders, names that two want, bursts.

use super::Draft;
use crate::plan::{Deed, Spell};
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
    const A: &str = "album/a.jpg";
    draft.nodes(3);
    draft.plan.nodes[1].home = Some(0);
    let first = draft.save(100, 2, A);
    let at_ms = 8_000;
    draft.spell(at_ms, 13_000, Spell::CatalogAway { node: Some(1) });
    draft.save(at_ms + 1_000, 2, A);
    let back_ms = at_ms + 5_000 + draft.chance(500);
    // The catalog goes for the other too, so that the lagging one may be the first that it is back for.
    draft.spell(back_ms, 4_000, Spell::CatalogAway { node: None });
    draft.deed(back_ms + 5, Deed::Save { node: 1, path: A.into(), content: first });
    if let Some(crate::plan::Item { what: crate::plan::What::Spell { for_ms, .. }, .. }) =
        draft.plan.items.iter_mut().find(|item| item.at_ms == at_ms)
    {
        *for_ms = back_ms + 4_000 - at_ms;
    }
    draft.spell(back_ms + 4_000, 10_000, Spell::CatalogAway { node: Some(0) });
    draft.plan.calm_ms = back_ms + 24_000;
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
