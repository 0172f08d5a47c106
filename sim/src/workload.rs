//! What persons do in a run: a base tree, perturbed, so that what they do collides.
//!
//! Few paths are hot and many are cold; each family of work has its own mix of deeds and its own pace.

use crate::plan::{Deed, Item, Plan, Spell, Strike, What};
use crate::random::Random;

/// A family of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Family {
    name: &'static str,
    /// How many files the base tree has, at most.
    tree: u64,
    /// How many deeds follow, at most.
    deeds: u64,
    /// The longest pause between two of them.
    pause_ms: u64,
    /// Of a hundred deeds: saves, saves that keep the time, deletions, renames, turns; the rest are removals.
    mix: [u64; 5],
}

const FAMILIES: [Family; 10] = [
    Family { name: "album import", tree: 4, deeds: 40, pause_ms: 60, mix: [96, 0, 2, 2, 0] },
    Family { name: "few large films", tree: 2, deeds: 6, pause_ms: 4_000, mix: [80, 0, 10, 10, 0] },
    Family { name: "edit storm", tree: 3, deeds: 25, pause_ms: 700, mix: [90, 5, 3, 2, 0] },
    Family { name: "two editors", tree: 3, deeds: 16, pause_ms: 2_500, mix: [70, 5, 15, 10, 0] },
    Family { name: "tree reorganised", tree: 8, deeds: 16, pause_ms: 1_500, mix: [20, 0, 5, 55, 20] },
    Family { name: "offline week", tree: 6, deeds: 18, pause_ms: 2_000, mix: [65, 5, 10, 15, 0] },
    Family { name: "laptop lid", tree: 4, deeds: 14, pause_ms: 3_000, mix: [75, 5, 10, 10, 0] },
    Family { name: "guests come and go", tree: 5, deeds: 14, pause_ms: 2_000, mix: [75, 0, 10, 10, 0] },
    Family { name: "mass delete", tree: 14, deeds: 20, pause_ms: 600, mix: [15, 0, 35, 5, 0] },
    Family { name: "quiet household", tree: 3, deeds: 4, pause_ms: 40_000, mix: [70, 5, 10, 10, 0] },
];

/// The number of the first content that a plan saves.
const FIRST_CONTENT: u64 = 1_000;

/// The number of the first content of a burst; none of a plan's deeds beside it comes so far.
pub(crate) const BURST_CONTENT: u64 = 100_000;
/// The most files of a burst.
const BURST_MAX: u64 = 300;

/// Adds what persons do to a plan.
pub(crate) fn deeds(plan: &mut Plan) {
    let random = &mut Random::named(plan.seed, "workload", 0);
    let Some(family) = random.one_of(&FAMILIES).copied() else { return };
    plan.workload = family.name.into();
    let nodes = plan.nodes.len() as u64;
    let tree: Vec<_> =
        (0..random.between(1, family.tree + 1)).map(|n| format!("album{}/{n}.jpg", n % 3)).collect();
    let mut content = FIRST_CONTENT;
    // The base tree is on one node, or some of it on each; sometimes two bring another file under one name.
    let owner = random.below(nodes) as usize;
    let spread = random.permille(300);
    for path in &tree {
        let node = if spread { random.below(nodes) as usize } else { owner };
        let at_ms = random.below(2_000);
        let twins = if random.permille(100) { 2 } else { 1 };
        for twin in 0..twins {
            let node = (node + twin) % nodes as usize;
            content += 1;
            push(plan, at_ms, Deed::Save { node, path: path.clone(), content });
        }
    }
    let mut at_ms = random.below(12_000);
    for _ in 0..random.between(1, family.deeds + 1) {
        content += 1;
        let node = random.below(nodes) as usize;
        let deed = perturb(&family, &tree, node, content, random);
        push(plan, at_ms, deed);
        at_ms += if random.permille(200) { 0 } else { random.below(family.pause_ms) };
    }
    habits(plan, family.name, at_ms, random);
}

fn push(plan: &mut Plan, at_ms: u64, deed: Deed) {
    plan.items.push(Item { at_ms, what: What::Deed(deed) });
}

/// A path of the tree, the first ones far more often than the others; now and then a new one.
fn path(tree: &[String], random: &mut Random) -> String {
    match random.below(10) {
        0..5 => tree[random.below(2.min(tree.len() as u64)) as usize].clone(),
        5..8 => tree[random.below(tree.len() as u64) as usize].clone(),
        8 => tree[random.below(tree.len() as u64) as usize].replace(".jpg", ".JPG"),
        _ => format!("album{}/new{}.jpg", random.below(3), random.below(4)),
    }
}

fn perturb(family: &Family, tree: &[String], node: usize, content: u64, random: &mut Random) -> Deed {
    let path = |random: &mut Random| path(tree, random);
    let mut draw = random.below(100);
    let mut kind = family.mix.len();
    for (at, share) in family.mix.iter().enumerate() {
        if draw < *share {
            kind = at;
            break;
        }
        draw -= share;
    }
    match kind {
        0 => Deed::Save { node, path: path(random), content },
        1 => Deed::SaveKeepingTime { node, path: path(random), content },
        2 => Deed::Delete { node, path: path(random) },
        3 => {
            let from = path(random);
            let to = match random.below(3) {
                0 => from.replace("album", "Album"),
                1 => path(random),
                _ => format!("moved/{}", from.replace('/', "-")),
            };
            Deed::Rename { node, path: from, to }
        }
        4 => {
            let mut paths: Vec<_> = (0..random.between(2, 4)).map(|_| path(random)).collect();
            paths.dedup();
            Deed::Turn { node, paths }
        }
        _ => Deed::Remove { path: path(random) },
    }
}

/// What belongs to a family beside its deeds.
fn habits(plan: &mut Plan, family: &str, end_ms: u64, random: &mut Random) {
    let nodes = plan.nodes.len();
    let node = random.below(nodes as u64) as usize;
    let others: Vec<_> = (0..nodes).filter(|n| *n != node).collect();
    let mut add = |at_ms, what| plan.items.push(Item { at_ms, what });
    match family {
        "offline week" => {
            let (at_ms, for_ms) = (random.below(8_000), end_ms + 20_000);
            for (from, to) in [(vec![node], others.clone()), (others, vec![node])] {
                add(at_ms, What::Spell { for_ms, fault: Spell::Cut { from, to } });
            }
            if random.permille(700) {
                add(at_ms, What::Spell { for_ms, fault: Spell::CatalogAway { node: Some(node) } });
            }
        }
        "laptop lid" => {
            for _ in 0..random.between(1, 5) {
                let (at_ms, for_ms) = (random.below(end_ms + 1), random.between(500, 40_000));
                add(at_ms, What::Strike(Strike::Pause { node, for_ms }));
            }
        }
        "guests come and go" => {
            for _ in 0..random.between(1, 4) {
                let (at_ms, down_ms) = (random.below(end_ms + 1), random.between(500, 20_000));
                add(at_ms, What::Strike(Strike::Crash { node, down_ms, noticed_ms: 0 }));
            }
        }
        "few large films" => {
            let late_ms = random.between(500, 6_000);
            for node in 0..nodes {
                let fault = Spell::SlowEffects { node, late_ms };
                add(0, What::Spell { for_ms: end_ms + 2_000, fault });
            }
        }
        _ => {}
    }
}

/// Adds some hundred files that appear at once, at one node or at several, and leaves all nodes few slots.
pub(crate) fn burst(plan: &mut Plan, busy_ms: u64, random: &mut Random) {
    let (begun_ms, count) = (random.below(busy_ms), random.between(100, BURST_MAX));
    let pause_ms = random.below(3);
    let authors: Vec<_> = (0..plan.nodes.len()).filter(|_| random.permille(500)).collect();
    for n in 0..count {
        let node = random.one_of(&authors).copied().unwrap_or(0);
        let (path, content) = (format!("burst/{n}.jpg"), BURST_CONTENT + n);
        push(plan, begun_ms + n * pause_ms, Deed::Save { node, path, content });
    }
    for node in &mut plan.nodes {
        node.downloads_max = random.permille(700).then(|| random.between(1, 3));
    }
    if plan.nodes.len() > 1 && random.permille(500) {
        leave_to_the_cloud(plan, begun_ms, &authors, random);
    }
}

/// Those who did not bring the files come when they are in the cloud, and who brought them is away: all are to be fetched
/// from the cloud at once.
fn leave_to_the_cloud(plan: &mut Plan, begun_ms: u64, authors: &[usize], random: &mut Random) {
    let authors = if authors.is_empty() { &[0] } else { authors };
    let others_ms = random.between(10_000, 40_000);
    for node in 0..plan.nodes.len() {
        let (at_ms, down_ms) = match authors.contains(&node) {
            true => (begun_ms + others_ms - random.below(500), random.between(5_000, 40_000)),
            false => (begun_ms, others_ms + random.below(300)),
        };
        plan.items.push(Item { at_ms, what: What::Strike(Strike::Crash { node, down_ms, noticed_ms: 0 }) });
    }
    plan.calm_ms = plan.calm_ms.max(begun_ms + others_ms + random.between(5_000, 30_000));
}

/// Adds a file that rots.
pub(crate) fn rot(plan: &mut Plan, node: usize, at_ms: u64, random: &mut Random) {
    let saved: Vec<_> = plan
        .items
        .iter()
        .filter_map(|item| match &item.what {
            What::Deed(Deed::Save { path, .. }) => Some(path.clone()),
            _ => None,
        })
        .collect();
    let Some(path) = random.one_of(&saved).cloned() else { return };
    let content = 900_000_000 + random.below(1_000_000);
    push(plan, at_ms, Deed::Rot { node, path, content });
}

/// Adds programs that have a file open while others save it, and write into it later.
pub(crate) fn open_files(plan: &mut Plan, node: usize, random: &mut Random) {
    let saves = plan.items.iter().filter_map(|item| match &item.what {
        What::Deed(Deed::Save { node: at, path, .. }) if *at != node => Some((item.at_ms, path.clone())),
        _ => None,
    });
    let saves: Vec<_> = saves.collect();
    for _ in 0..random.between(1, 6) {
        let Some((at_ms, path)) = random.one_of(&saves).cloned() else { return };
        let at_ms = at_ms + random.below(600);
        let long_ms = [1_000, 8_000, 40_000][random.below(3) as usize];
        let after_ms = random.between(200, long_ms);
        let content = 800_000_000 + random.below(1_000_000);
        let what = What::Strike(Strike::OpenFile { node, path, content, after_ms });
        plan.items.push(Item { at_ms, what });
    }
}
