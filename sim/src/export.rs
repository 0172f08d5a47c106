//! Traces for other programs: JSON lines, and the format of ShiViz.
//!
//! A trace can be cut to a window. Clocks are then counted from the window's first event of each host, so that every
//! host starts at 1 and rises by one; entries of events before the window are left out.

use crate::trace::TraceEvent;
use serde::Serialize;
use std::collections::BTreeMap;

/// The most events that are exported unless asked otherwise: ShiViz takes quadratic time.
pub const EVENTS_MAX: usize = 5_000;

/// One event as a JSON line.
#[derive(Serialize)]
struct Line<'a> {
    t_ms: u64,
    host: String,
    kind: &'a str,
    event: &'a str,
    clock: BTreeMap<String, u64>,
    items: Vec<String>,
}

/// The events up to a time, `most` at most: the last ones.
pub fn window(events: &[TraceEvent], until_ms: u64, most: usize) -> &[TraceEvent] {
    let end = events.partition_point(|event| event.at_ms <= until_ms);
    &events[end.saturating_sub(most)..end]
}

fn host(node: usize, nodes: usize) -> String {
    if node == nodes { "world".into() } else { format!("n{}", node + 1) }
}

/// Each event's clock, counted from the window's beginning.
fn clocks(events: &[TraceEvent], nodes: usize) -> Vec<BTreeMap<String, u64>> {
    let mut before: BTreeMap<usize, u64> = BTreeMap::new();
    for event in events {
        let own = event.clock.get(&event.node).copied().unwrap_or(1);
        before.entry(event.node).or_insert(own - 1);
    }
    let counted = |event: &TraceEvent| {
        let entries = event.clock.iter().filter_map(|(node, count)| {
            let count = count.checked_sub(*before.get(node)?)?;
            (count > 0).then(|| (host(*node, nodes), count))
        });
        entries.collect()
    };
    events.iter().map(counted).collect()
}

/// JSON, an event a line.
pub fn jsonl(events: &[TraceEvent], nodes: usize) -> String {
    let mut text = String::new();
    for (event, clock) in events.iter().zip(clocks(events, nodes)) {
        let line = Line {
            t_ms: event.at_ms,
            host: host(event.node, nodes),
            kind: event.kind,
            event: &event.text,
            clock,
            items: event.items.iter().map(ToString::to_string).collect(),
        };
        text.push_str(&serde_json::to_string(&line).unwrap_or_default());
        text.push('\n');
    }
    text
}

/// A file that can be given to ShiViz as it is: the parser's expression, the delimiter's, and the log.
pub fn shiviz(name: &str, events: &[TraceEvent], nodes: usize) -> String {
    let mut text = String::from(concat!(
        r"(?<host>\S+) (?<clock>\{.*?\}) (?<t>\d+) (?<kind>\S+) (?<event>.*)",
        "\n",
        "=== (?<trace>.*) ===\n"
    ));
    text.push_str(&format!("=== {name} ===\n"));
    for (event, clock) in events.iter().zip(clocks(events, nodes)) {
        let clock = serde_json::to_string(&clock).unwrap_or_default();
        let what = event.text.replace(['\n', '\r'], " ");
        let host = host(event.node, nodes);
        text.push_str(&format!("{host} {clock} {} {} {what}\n", event.at_ms, event.kind));
    }
    text
}
