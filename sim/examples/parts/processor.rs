//! How long a benchmark has had a processor: the time by the clock depends on what else the machine does.

use std::time::Instant;

/// Seconds that this thread has had a processor, where the system tells; else by the clock.
pub fn processor_seconds(began: Instant) -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns: Option<f64> = text.split_whitespace().next().and_then(|ns| ns.parse().ok());
    ns.map_or(began.elapsed().as_secs_f64(), |ns| ns / 1e9)
}
