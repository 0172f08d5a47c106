//! How large contents are and how long they take to move: data of a plan. There are no bytes.
//!
//! A size belongs to a content's number, whoever saves it: what a plan leaves out leaves all other sizes as they were.
//! Left out: members that serve only so many at a time, and lines that several transfers share.

use crate::plan::{Deed, Item, Plan, PlanError, Spell, Strike, What};
use crate::random::Random;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tcat_engine::content::Content;

const MIB: u64 = 1 << 20;
/// The largest content of a plan, in bytes.
const SIZE_MAX: u64 = 1 << 40;
/// Contents that a plan gives no size are smaller than this, in bytes.
const UNNAMED_SIZE_MAX: u64 = 2 * MIB;
/// No content that is drawn takes longer to the cloud than this.
const LONGEST_MS: u64 = 60_000;

/// How large contents are and how long they take, where that is part of a plan. Without it a content has as many bytes
/// as its number, and all take equally long.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferPlan {
    /// Bytes from or to the cloud in a millisecond.
    pub cloud_bytes_ms: u64,
    /// Bytes from a member in a millisecond.
    pub lan_bytes_ms: u64,
    /// Bytes that are read and hashed, or copied, in a millisecond.
    pub disk_bytes_ms: u64,
    /// Sizes in bytes by the contents' numbers. One that is not here has as many as its number, modulo 2 MiB.
    pub sizes: BTreeMap<u64, u64>,
}

impl TransferPlan {
    /// The content with this number.
    pub(crate) fn content(&self, number: u64) -> Content {
        let size = self.sizes.get(&number).copied().unwrap_or(number % UNNAMED_SIZE_MAX);
        Content { size, ..crate::node::content(number) }
    }

    /// Whether it can be played.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        match [self.cloud_bytes_ms, self.lan_bytes_ms, self.disk_bytes_ms].contains(&0)
            || self.sizes.len() > crate::plan::ITEMS_MAX
            || self.sizes.values().any(|size| *size > SIZE_MAX)
        {
            true => {
                Err(PlanError(format!("something must move, and contents are of {SIZE_MAX} bytes at most")))
            }
            false => Ok(()),
        }
    }

    /// Forgets the sizes of contents that a plan does not have.
    pub(crate) fn keep_only(&mut self, items: &[Item]) {
        let named: BTreeSet<_> = items.iter().filter_map(|item| number_of(&item.what)).collect();
        self.sizes.retain(|number, _| named.contains(number));
    }
}

/// The number of the content that appears.
fn number_of(what: &What) -> Option<u64> {
    match what {
        What::Deed(
            Deed::Save { content, .. } | Deed::SaveKeepingTime { content, .. } | Deed::Rot { content, .. },
        )
        | What::Strike(Strike::OpenFile { content, .. }) => Some(*content),
        _ => None,
    }
}

/// Contents of a plan are of all sizes from now on, but for those from `small` on; slots are few; and something may go
/// wrong in the middle of what takes long.
pub(crate) fn arm(plan: &mut Plan, small: u64, busy_ms: u64, random: &mut Random) {
    let one_of = |some: &[u64], random: &mut Random| random.one_of(some).copied().unwrap_or(1);
    let cloud_bytes_ms = one_of(&[20_000, 60_000, 250_000], random);
    let lan_bytes_ms = one_of(&[30_000, 110_000, 1_000_000], random);
    let disk_bytes_ms = one_of(&[100_000, 500_000, 2_000_000], random);
    let mut sizes = BTreeMap::new();
    let mut is_one_empty = false;
    for number in plan.items.iter().filter_map(|item| number_of(&item.what)).filter(|number| *number < small)
    {
        let size = size(&mut Random::named(plan.seed, "size", number), cloud_bytes_ms * LONGEST_MS);
        // All empty files are one content.
        let size = size.max(u64::from(is_one_empty));
        is_one_empty |= size == 0;
        sizes.insert(number, size);
    }
    plan.transfers = Some(TransferPlan { cloud_bytes_ms, lan_bytes_ms, disk_bytes_ms, sizes });
    for node in &mut plan.nodes {
        let downloads_max = random.permille(600).then(|| random.between(1, 3));
        node.downloads_max = node.downloads_max.or(downloads_max);
        node.uploads_max = random.permille(600).then(|| random.between(1, 3));
    }
    let calm_ms = busy_ms + random.between(2_000, 40_000);
    plan.calm_ms = plan.calm_ms.max(calm_ms);
    if plan.nodes.len() > 1 && random.permille(500) {
        for _ in 0..random.between(1, 4) {
            let at_ms = random.below(calm_ms);
            let what = trouble(plan.nodes.len(), plan.nodes[0].lease_ms, random);
            plan.items.push(Item { at_ms, what });
        }
    }
}

/// A size: about what is small for the engine, about what takes a whole slot, and what takes long.
fn size(random: &mut Random, longest: u64) -> u64 {
    let beside = |size: u64, random: &mut Random| size - 1 + random.below(3);
    match random.below(100) {
        0..2 => 0,
        2..5 => 1,
        5..35 => random.below(MIB),
        35..45 => beside(MIB, random),
        45..55 => beside(16 * MIB, random),
        55..80 => random.between(MIB, 64 * MIB),
        80..95 => random.between(64 * MIB, 700 * MIB).min(longest),
        _ => random.between(700 * MIB, 4_096 * MIB).min(longest),
    }
}

/// What ends a transfer, or lets it stand still, for longer than a lease or not quite.
fn trouble(nodes: usize, lease_ms: u64, random: &mut Random) -> What {
    let node = random.below(nodes as u64) as usize;
    let for_ms = random.between(lease_ms / 2, 4 * lease_ms);
    let others: Vec<_> = (0..nodes).filter(|other| *other != node).collect();
    match random.below(5) {
        0 => What::Strike(Strike::Crash { node, down_ms: for_ms, noticed_ms: 0 }),
        1 => What::Spell { for_ms, fault: Spell::Cut { from: vec![node], to: others } },
        2 => What::Spell { for_ms, fault: Spell::Cut { from: others, to: vec![node] } },
        3 => What::Spell { for_ms, fault: Spell::Hang { node } },
        _ => What::Strike(Strike::Pause { node, for_ms }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expand::expand;

    #[test]
    fn what_is_left_out_of_a_plan_leaves_the_sizes_of_all_else_alone() {
        let plans = (0..400).map(expand).filter(|plan| plan.transfers.is_some());
        let mut seen = BTreeSet::new();
        for plan in plans {
            let Some(transfers) = &plan.transfers else { continue };
            assert_eq!(transfers.check(), Ok(()));
            assert!(transfers.sizes.values().filter(|size| **size == 0).count() <= 1);
            seen.extend(transfers.sizes.values().copied());
            let items: Vec<_> = plan.items.iter().skip(plan.items.len() / 2).cloned().collect();
            let mut fewer = transfers.clone();
            fewer.keep_only(&items);
            assert!(fewer.sizes.iter().all(|(number, size)| transfers.sizes.get(number) == Some(size)));
            for number in items.iter().filter_map(|item| number_of(&item.what)) {
                assert_eq!(fewer.content(number), transfers.content(number));
            }
        }
        let beside = [0, 1, MIB - 1, MIB, MIB + 1, 16 * MIB - 1, 16 * MIB, 16 * MIB + 1];
        assert!(beside.iter().all(|size| seen.contains(size)), "{seen:?}");
        assert!(seen.last().is_some_and(|size| *size > 1_000 * MIB));
    }
}
