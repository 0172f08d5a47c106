//! The last minute of bytes moved, from counters that start at zero with every start of the node.
//!
//! Holds always: bounded, whatever the pace of answers; what was moved between two answers counts evenly over the
//! time between them.

use std::collections::VecDeque;
use std::time::Duration;
use tcat_api::types::ByteCounts;

/// How far back it goes.
pub const MINUTE: Duration = Duration::from_secs(60);
/// A rate is the mean over so long.
const RATE_SPAN: Duration = Duration::from_secs(3);
/// Answers closer than this are one step.
const STEP_MIN: Duration = Duration::from_millis(250);
/// A minute of the shortest steps, and the one that reaches beyond it.
const STEPS_MAX: usize = 242;
/// Between two answers, the present is the moment of the last one, up to this long.
const LAG_MAX: Duration = Duration::from_secs(2);

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Received from members.
    LanIn,
    /// Sent to members.
    LanOut,
    /// Read from the object store.
    CloudIn,
    /// Written to the object store.
    CloudOut,
}

impl Way {
    /// The count of this way.
    pub fn of(self, counts: &ByteCounts) -> u64 {
        match self {
            Self::LanIn => counts.lan_in,
            Self::LanOut => counts.lan_out,
            Self::CloudIn => counts.cloud_in,
            Self::CloudOut => counts.cloud_out,
        }
    }
}

/// What was moved between two answers.
#[derive(Clone, Copy, Debug)]
struct Step {
    from: Duration,
    to: Duration,
    moved: ByteCounts,
}

/// The last minute.
#[derive(Clone, Debug, Default)]
pub struct History {
    last: Option<(Duration, ByteCounts)>,
    steps: VecDeque<Step>,
}

impl History {
    /// Takes the counters as they stood at `now`.
    pub fn add(&mut self, now: Duration, counts: &ByteCounts) {
        if let Some((then, before)) = self.last.replace((now, *counts)) {
            let moved = difference(&before, counts);
            match self.steps.back_mut() {
                Some(step) if now.saturating_sub(step.from) < STEP_MIN => {
                    *step = Step { from: step.from, to: now, moved: sum(&step.moved, &moved) };
                }
                _ => self.steps.push_back(Step { from: then, to: now, moved }),
            }
        }
        let old = |step: &Step| now.saturating_sub(step.to) > MINUTE;
        while self.steps.len() > STEPS_MAX || self.steps.front().is_some_and(old) {
            self.steps.pop_front();
        }
    }

    /// Bytes a second now.
    pub fn rate(&self, way: Way, now: Duration) -> u64 {
        let end = self.present(now);
        let Some(first) = self.steps.front() else { return 0 };
        let begin = end.saturating_sub(RATE_SPAN).max(first.from);
        let seconds = end.saturating_sub(begin).as_secs_f64();
        // Less than one step has been seen: no rate yet.
        if seconds < STEP_MIN.as_secs_f64() { 0 } else { (self.moved(way, begin, end) / seconds) as u64 }
    }

    /// Bytes moved in each of `cells` equal parts of the last minute, oldest first. The parts stand still on the
    /// clock, so that a shape only moves and never flickers; the one that has not ended yet is left out.
    pub fn minute(&self, way: Way, now: Duration, cells: usize) -> Vec<f64> {
        let part = MINUTE.as_secs_f64() / cells.max(1) as f64;
        let end = (self.present(now).as_secs_f64() / part).floor() * part;
        let mut bytes = vec![0.0; cells];
        for step in &self.steps {
            let (from, to) = (step.from.as_secs_f64(), step.to.as_secs_f64());
            let per_second = Way::of(way, &step.moved) as f64 / (to - from).max(1e-3);
            // Cell i ends (cells - 1 - i) parts before the end.
            for (back, cell) in bytes.iter_mut().rev().enumerate() {
                let cell_end = end - part * back as f64;
                let shared = cell_end.min(to) - (cell_end - part).max(from);
                if shared > 0.0 {
                    *cell += per_second * shared;
                }
            }
        }
        bytes
    }

    fn present(&self, now: Duration) -> Duration {
        match self.last {
            Some((last, _)) if now.saturating_sub(last) < LAG_MAX => last,
            _ => now,
        }
    }

    fn moved(&self, way: Way, begin: Duration, end: Duration) -> f64 {
        let share = |step: &Step| {
            let shared = end.min(step.to).saturating_sub(begin.max(step.from)).as_secs_f64();
            let whole = step.to.saturating_sub(step.from).as_secs_f64().max(1e-3);
            way.of(&step.moved) as f64 * (shared / whole).min(1.0)
        };
        self.steps.iter().map(share).sum()
    }
}

/// What came on top since `before`. Counters that fell started anew at zero.
fn difference(before: &ByteCounts, now: &ByteCounts) -> ByteCounts {
    let fell =
        [Way::LanIn, Way::LanOut, Way::CloudIn, Way::CloudOut].iter().any(|w| w.of(now) < w.of(before));
    let before = if fell { ByteCounts::default() } else { *before };
    ByteCounts {
        lan_in: now.lan_in.saturating_sub(before.lan_in),
        lan_out: now.lan_out.saturating_sub(before.lan_out),
        cloud_in: now.cloud_in.saturating_sub(before.cloud_in),
        cloud_out: now.cloud_out.saturating_sub(before.cloud_out),
    }
}

fn sum(a: &ByteCounts, b: &ByteCounts) -> ByteCounts {
    ByteCounts {
        lan_in: a.lan_in.saturating_add(b.lan_in),
        lan_out: a.lan_out.saturating_add(b.lan_out),
        cloud_in: a.cloud_in.saturating_add(b.cloud_in),
        cloud_out: a.cloud_out.saturating_add(b.cloud_out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lan(bytes: u64) -> ByteCounts {
        ByteCounts { lan_in: bytes, ..Default::default() }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_steady_flow_has_its_rate_at_once_and_fills_the_minute() {
        let mut history = History::default();
        for i in 0..=240 {
            history.add(ms(i * 500), &lan(7_000_000 + i * 500_000));
            if i > 0 {
                assert_eq!(history.rate(Way::LanIn, ms(i * 500 + 100)), 1_000_000, "after {i} steps");
            }
        }
        let minute = history.minute(Way::LanIn, ms(120_000), 30);
        assert!(minute.iter().all(|bytes| (bytes - 2_000_000.0).abs() < 1.0), "{minute:?}");
        assert_eq!(history.rate(Way::LanOut, ms(120_000)), 0);
    }

    #[test]
    fn a_node_that_starts_again_adds_what_it_moved_since_and_takes_nothing_away() {
        let mut history = History::default();
        history.add(ms(0), &lan(5000));
        history.add(ms(1000), &lan(300));
        assert_eq!(history.rate(Way::LanIn, ms(1000)), 300);
    }

    #[test]
    fn what_was_moved_while_nobody_answered_is_spread_over_that_time() {
        let mut history = History::default();
        history.add(ms(0), &lan(0));
        history.add(ms(30_000), &lan(3000));
        let minute = history.minute(Way::LanIn, ms(30_000), 6);
        assert_eq!(minute, [0.0, 0.0, 0.0, 1000.0, 1000.0, 1000.0]);
    }

    #[test]
    fn a_shape_moves_by_whole_cells_and_keeps_its_form() {
        let mut history = History::default();
        let mut shapes = Vec::new();
        for i in 0..=84 {
            history.add(ms(i * 500), &lan(i * i * i));
            shapes.push(history.minute(Way::LanIn, ms(i * 500), 40));
        }
        // A cell is 1.5 s: it ends at 40.5 s and at 42 s.
        assert_eq!(shapes[81], shapes[83]);
        assert_eq!(shapes[83][1..], shapes[84][..39]);
    }

    #[test]
    fn a_node_that_went_silent_moves_nothing_now() {
        let mut history = History::default();
        history.add(ms(0), &lan(0));
        history.add(ms(1000), &lan(3000));
        assert_eq!(history.rate(Way::LanIn, ms(1500)), 3000);
        assert_eq!(history.rate(Way::LanIn, ms(5000)), 0);
        assert!(history.minute(Way::LanIn, ms(70_000), 6).iter().all(|bytes| *bytes == 0.0));
    }

    #[test]
    fn answers_however_fast_leave_it_bounded_and_whole() {
        let mut history = History::default();
        for i in 0..=60_000 {
            history.add(ms(i), &lan(i));
        }
        assert!(history.steps.len() <= STEPS_MAX, "{}", history.steps.len());
        let all: f64 = history.minute(Way::LanIn, ms(60_000), 60).iter().sum();
        assert!((all - 60_000.0).abs() < 1.0, "{all}");
    }
}
