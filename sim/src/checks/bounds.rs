//! S12: whatever happens, a node's outputs, effects in hand and retries stay within bounds.

use super::{Invariant, found};
use crate::world::World;
use tcat_engine::message::FRAME_BYTES_MAX;

/// The most outputs of one input: 256 items looked at, each with a few words, and pushes to 63 members.
const OUTPUTS_MAX: usize = 4_096;
/// The most effects in hand of one node: uploads 4, downloads 8 or 128 small ones, folder 16, the feed, and looks.
const EFFECTS_MAX: u64 = 160;

impl World {
    /// An input was handled and brought so many outputs.
    pub(crate) fn check_outputs(&mut self, n: usize, outputs: usize) {
        let (now_ms, hand) = (self.now_ms(), self.in_hand(n));
        let holds = outputs <= OUTPUTS_MAX && hand <= EFFECTS_MAX;
        self.book.check(Invariant::S12, holds, || {
            let text = format!("node {}: {outputs} outputs of one input, {hand} effects in hand", n + 1);
            found(now_ms, &[n], &[], text)
        });
    }

    /// A frame goes out.
    pub(crate) fn check_frame(&mut self, n: usize, bytes: usize) {
        if bytes > FRAME_BYTES_MAX {
            let now_ms = self.now_ms();
            self.book.check(Invariant::S12, false, || {
                found(now_ms, &[n], &[], format!("node {} sends a frame of {bytes} bytes", n + 1))
            });
        }
    }

    /// Looked at now and then: no more work is listed than there are items.
    pub(crate) fn check_backlog(&mut self, n: usize) {
        let Some(report) = self.engine(n).map(|engine| engine.report()) else { return };
        // Every item that a node can know of was created by a save, or is in the catalog.
        let items = self.items_max();
        let (now_ms, tasks) = (self.now_ms(), report.tasks.len());
        self.book.check(Invariant::S12, tasks <= items, || {
            found(now_ms, &[n], &[], format!("node {} lists {tasks} tasks for {items} items", n + 1))
        });
    }
}
