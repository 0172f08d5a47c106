//! A node's two clocks as functions of the world's one true time.
//!
//! The monotonic clock counts suspension, starts anywhere at each boot, and drifts; the wall clock may be wrong, and be
//! set. All arithmetic is on integers.

use serde::{Deserialize, Serialize};
use tcat_engine::ports::Now;

/// How wrong a machine's clocks are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClockPlan {
    /// How far the wall clock is ahead of the true time at the start, in milliseconds.
    #[serde(default)]
    pub offset_ms: i64,
    /// How much faster both clocks run than true time, in millionths; within 500 either way.
    #[serde(default)]
    pub drift_ppm: i64,
}

/// A machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    plan: ClockPlan,
    /// What was added to the monotonic clock at the last boot.
    boot_ms: u64,
}

/// True time 0 on the wall clock of a machine that is right: an instant of 2023.
const EPOCH_MS: u64 = 1_700_000_000_000;

impl Clock {
    /// Clocks that are as wrong as planned.
    pub fn new(plan: ClockPlan) -> Self {
        Self { plan, boot_ms: 0 }
    }

    /// The machine boots: its monotonic clock starts elsewhere.
    pub fn boot(&mut self, boot_ms: u64) {
        self.boot_ms = boot_ms;
    }

    /// Somebody sets the wall clock.
    pub fn step(&mut self, by_ms: i64) {
        self.plan.offset_ms = self.plan.offset_ms.saturating_add(by_ms);
    }

    fn run_ms(&self, true_ms: u64) -> u64 {
        let drift = i128::from(true_ms) * i128::from(self.plan.drift_ppm) / 1_000_000;
        u64::try_from(i128::from(true_ms) + drift).unwrap_or(0)
    }

    /// What the clocks show.
    pub fn now(&self, true_ms: u64) -> Now {
        let run_ms = if self.plan.drift_ppm == 0 { true_ms } else { self.run_ms(true_ms) };
        let wall_ms = (EPOCH_MS + run_ms).saturating_add_signed(self.plan.offset_ms);
        Now { mono_ms: self.boot_ms + run_ms, wall_ms }
    }

    /// The first true time at which the monotonic clock shows this, or later.
    pub fn true_ms(&self, mono_ms: u64) -> u64 {
        let run_ms = mono_ms.saturating_sub(self.boot_ms);
        if self.plan.drift_ppm == 0 || mono_ms == u64::MAX {
            return if mono_ms == u64::MAX { u64::MAX } else { run_ms };
        }
        let rate = 1_000_000 + i128::from(self.plan.drift_ppm);
        let mut true_ms = u64::try_from(i128::from(run_ms) * 1_000_000 / rate).unwrap_or(u64::MAX);
        while self.run_ms(true_ms) < run_ms {
            true_ms += 1;
        }
        true_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_comes_when_the_clock_shows_it_and_not_before() {
        for drift_ppm in [-500, -3, 0, 7, 500] {
            let mut clock = Clock::new(ClockPlan { offset_ms: -5, drift_ppm });
            clock.boot(77);
            for mono_ms in [80, 1_000, 123_456, 9_999_999] {
                let at_ms = clock.true_ms(mono_ms);
                assert!(clock.now(at_ms).mono_ms >= mono_ms);
                assert!(at_ms == 0 || clock.now(at_ms - 1).mono_ms < mono_ms);
            }
            assert_eq!(clock.true_ms(u64::MAX), u64::MAX);
        }
    }
}
