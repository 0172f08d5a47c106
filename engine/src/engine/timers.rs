//! Items to be looked at again at a time, each once.

use crate::ids::ItemId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// At most one time for each item, in both orders, so that neither setting nor reading has to go through all.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_item: BTreeMap<ItemId, u64>,
    by_time: BTreeSet<(u64, ItemId)>,
}

impl Timers {
    /// Sets the item's time, whatever it was.
    pub(super) fn set(&mut self, item: ItemId, at_ms: u64) {
        self.clear(&item);
        self.by_item.insert(item, at_ms);
        self.by_time.insert((at_ms, item));
    }

    /// A second time for an item, which nothing clears: only a planted defect wants that.
    pub(super) fn add(&mut self, item: ItemId, at_ms: u64) {
        self.by_time.insert((at_ms, item));
    }

    /// How many times are kept.
    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Takes out the first so many items of these times.
    pub(super) fn take_first(&mut self, times: RangeInclusive<u64>, count: usize) -> Vec<ItemId> {
        let between = (*times.start(), ItemId([0; 16]))..=(*times.end(), ItemId([255; 16]));
        let items: Vec<_> = self.by_time.range(between).take(count).map(|(_, item)| *item).collect();
        items.iter().for_each(|item| self.clear(item));
        items
    }

    pub(super) fn clear(&mut self, item: &ItemId) {
        if let Some(at_ms) = self.by_item.remove(item) {
            self.by_time.remove(&(at_ms, *item));
        }
    }

    /// The first time; never, if there is none.
    pub(super) fn next_ms(&self) -> u64 {
        self.by_time.first().map_or(u64::MAX, |(at_ms, _)| *at_ms)
    }

    /// The last time, if there is any.
    pub(super) fn last_ms(&self) -> Option<u64> {
        self.by_time.last().map(|(at_ms, _)| *at_ms)
    }

    /// The items whose time has come.
    pub(super) fn due(&self, now_ms: u64) -> Vec<ItemId> {
        self.by_time.iter().take_while(|(at_ms, _)| *at_ms <= now_ms).map(|(_, item)| *item).collect()
    }

    pub(super) fn items(&self) -> impl Iterator<Item = &ItemId> {
        self.by_item.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_has_one_time_and_is_due_from_then_on() {
        let (a, b) = (ItemId([1; 16]), ItemId([2; 16]));
        let mut timers = Timers::default();
        timers.set(a, 5);
        timers.set(b, 7);
        timers.set(a, 9);
        assert_eq!((timers.next_ms(), timers.due(6), timers.due(9)), (7, vec![], vec![b, a]));
        timers.clear(&b);
        assert_eq!((timers.next_ms(), timers.last_ms(), timers.items().count()), (9, Some(9), 1));
        timers.set(b, 5);
        assert_eq!(timers.take_first(6..=u64::MAX, 5), [a]);
        assert_eq!(timers.take_first(0..=u64::MAX, 0), []);
        assert_eq!(timers.take_first(0..=5, 5), [b]);
        assert_eq!((timers.len(), timers.last_ms()), (0, None));
    }
}
