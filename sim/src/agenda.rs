//! What is to happen, in the order of (time, sequence).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of things with times; of two at one time the one that was added first comes first.
#[derive(Debug)]
pub struct Agenda<T> {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    slots: Vec<Option<T>>,
    free: Vec<usize>,
    sequence: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), sequence: 0 }
    }
}

impl<T> Agenda<T> {
    /// Adds a thing.
    pub fn add(&mut self, at_ms: u64, thing: T) {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(thing);
        self.sequence += 1;
        self.heap.push(Reverse((at_ms, self.sequence, slot)));
    }

    /// When the next thing comes; none if there is none.
    pub fn next_ms(&self) -> u64 {
        self.heap.peek().map_or(u64::MAX, |Reverse((at_ms, _, _))| *at_ms)
    }

    /// Takes the next thing.
    pub fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse((at_ms, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((at_ms, self.slots[slot].take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_by_time_and_then_in_the_order_in_which_they_were_added() {
        let mut agenda = Agenda::default();
        for (at_ms, thing) in [(5, "c"), (3, "a"), (5, "d"), (4, "b")] {
            agenda.add(at_ms, thing);
        }
        let order: Vec<_> = std::iter::from_fn(|| agenda.pop()).map(|(_, thing)| thing).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }
}
