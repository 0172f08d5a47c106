//! Situations around ledgers and members: restores, clones, retirements, absences, and links that are not there.

use super::{Draft, lines};
use crate::plan::{Deed, Spell, Strike};

fn files(draft: &mut Draft, nodes: usize, count: u64) {
    draft.nodes(nodes);
    for n in 0..count {
        draft.save(0, n as usize % nodes.min(3), &format!("{n}.jpg"));
    }
}

pub(super) fn restored(draft: &mut Draft) {
    draft.nodes(3);
    for n in 0..4 {
        draft.save(0, 0, &format!("{n}.jpg"));
    }
    draft.strike(8_000, Strike::Snapshot { node: 0 });
    for turn in 0..4 {
        let path = format!("{}.jpg", draft.chance(6));
        draft.save(8_100 + turn * 1_500, 0, &path);
    }
    let at_ms = 14_500 + draft.chance(5_000);
    draft.strike(at_ms, Strike::Restore { node: 0, down_ms: 200 });
    draft.cut(at_ms, 8_000, &[0], &[1, 2]);
    draft.spell(at_ms, 8_000, Spell::CatalogAway { node: None });
    let mut save_ms = at_ms + 300;
    for _ in 0..3 {
        let path = format!("{}.jpg", draft.chance(6));
        draft.save(save_ms, 0, &path);
        save_ms += draft.chance(2_500);
    }
    draft.plan.calm_ms = at_ms + 12_000;
}

/// Whether others hear what the node says with its new database: of a new file; or, in a folder that it shares, of what
/// has come there, before it dies for good.
pub(super) fn wiped(draft: &mut Draft) {
    let at_ms = 7_000 + draft.chance(3_000);
    draft.strike(at_ms, Strike::Wipe { node: 0, down_ms: 100 });
    if draft.random.permille(500) {
        files(draft, 3, 5);
        let save_ms = at_ms + 200 + draft.chance(500);
        draft.save(save_ms, 0, "new.jpg");
        draft.plan.calm_ms = at_ms + 10_000;
        return;
    }
    let lags_ms = at_ms + 1_000 + draft.chance(3_000);
    lines::beside_one_that_lags(draft, lags_ms);
    draft.plan.dead = vec![0];
}

/// One who is away all the time keeps everything from being forgotten; another is retired in the moment in which it
/// writes, and the node that was asked to dies before it has told anybody.
pub(super) fn retired_while_writing(draft: &mut Draft) {
    files(draft, 4, 5);
    draft.crash(7_000, 3, 200_000);
    // Who is away misses this, so that nothing of the ledger is forgotten.
    draft.save(8_500, 2, "missed.jpg");
    let at_ms = 12_000 + draft.chance(3_000);
    draft.save(at_ms, 2, "late.jpg");
    let retire_ms = at_ms + draft.chance(20);
    draft.strike(retire_ms, Strike::Retire { node: 2, at: 0 });
    draft.crash(retire_ms, 0, 8_000);
    draft.plan.calm_ms = at_ms + 100_000;
}

pub(super) fn retired_for_good(draft: &mut Draft) {
    files(draft, 3, 5);
    draft.crash(8_000, 2, 400_000);
    let at_ms = 9_000 + draft.chance(2_000);
    draft.strike(at_ms, Strike::Retire { node: 2, at: 0 });
    for n in 0..3 {
        draft.deed(at_ms + 100, Deed::Remove { path: format!("{n}.jpg") });
    }
    draft.plan.dead = vec![2];
    draft.plan.calm_ms = at_ms + 80_000;
}

pub(super) fn removed_while_away(draft: &mut Draft) {
    files(draft, 3, 4);
    let at_ms = 8_000 + draft.chance(2_000);
    draft.crash(at_ms, 2, 400_000);
    for n in 0..3 {
        draft.deed(at_ms + 100, Deed::Remove { path: format!("{n}.jpg") });
    }
    draft.plan.calm_ms = at_ms + 100_000;
}

pub(super) fn line(draft: &mut Draft) {
    draft.nodes(4);
    for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 3)] {
        draft.cut(0, 38_000, &[a], &[b]);
        draft.strike(10, Strike::Flap { a, b, for_ms: 38_000 });
    }
    let begun_ms = 9_000 + draft.chance(2_000);
    for n in 0..12 {
        draft.save(begun_ms + n * 500, 0, &format!("{n}.jpg"));
    }
    draft.plan.once = true;
    draft.plan.calm_ms = 40_000;
}

pub(super) fn deaf(draft: &mut Draft) {
    draft.nodes(2);
    draft.plan.deaf = vec![1];
    for n in 0..6 {
        let at_ms = draft.chance(500);
        draft.save(at_ms, 0, &format!("{n}.jpg"));
        draft.save(at_ms, 1, &format!("deaf {n}.jpg"));
    }
    draft.plan.calm_ms = 5_000;
}

pub(super) fn cloned(draft: &mut Draft) {
    files(draft, 3, 4);
    let mut twin = draft.plan.nodes[0].clone();
    twin.twin_of = Some(0);
    draft.plan.nodes.push(twin);
    let at_ms = 7_000 + draft.chance(2_000);
    draft.strike(at_ms, Strike::Clone { twin: 3 });
    for n in 0..20 {
        draft.save(at_ms + 100 + n * 1_000, if n % 2 == 0 { 0 } else { 3 }, &format!("twins {n}.jpg"));
    }
    draft.plan.calm_ms = at_ms + 40_000;
}

pub(super) fn later_version(draft: &mut Draft) {
    files(draft, 3, 4);
    let (node, at_ms) = (draft.node(), 3_000 + draft.chance(6_000));
    draft.strike(at_ms, Strike::LaterVersion { node });
    if draft.random.permille(500) {
        let (other, down_ms) = (draft.node(), draft.chance(5_000));
        draft.crash(at_ms, other, down_ms);
    }
    draft.plan.calm_ms = at_ms + 15_000;
}

/// One that has no room takes nothing of what others save; persons work at the others alone.
pub(super) fn marks(draft: &mut Draft) {
    draft.nodes(3);
    let full_ms = draft.chance(400);
    draft.spell(full_ms, 60_000, Spell::DiskFull { node: 2 });
    for n in 0..20 {
        draft.save(n * 40, n as usize % 2, &format!("{n}.jpg"));
    }
    for n in 0..draft.chance(8) {
        let at_ms = 8_000 + draft.chance(10_000);
        draft.save(at_ms, 1, &format!("{n}.jpg"));
    }
    draft.plan.calm_ms = 30_000;
}
