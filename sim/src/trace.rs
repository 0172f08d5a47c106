//! The record of a run: every event with the vector clock of its node, for people and for `export`.
//!
//! Nothing is recorded unless asked for: a run that fails is run once more, recorded.

use crate::hash::StateHash;
use crate::world::World;
use std::collections::BTreeMap;
use tcat_engine::catalog::FeedChange;
use tcat_engine::ids::ItemId;
use tcat_engine::message::Message;
use tcat_engine::ports::{Effect, EffectId, Input, Outcome};

/// One event at one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceEvent {
    /// True time.
    pub at_ms: u64,
    /// The node; the number of nodes stands for the world itself.
    pub node: usize,
    /// What kind of event.
    pub kind: &'static str,
    /// What happened, for people.
    pub text: String,
    /// The node's vector clock after it: (node, how many of its events).
    pub clock: BTreeMap<usize, u64>,
    /// The items concerned.
    pub items: Vec<ItemId>,
}

/// The events of a run.
#[derive(Clone, Debug)]
pub struct Trace {
    /// In order.
    pub events: Vec<TraceEvent>,
    clocks: Vec<BTreeMap<usize, u64>>,
}

impl Trace {
    /// Of a world with so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self { events: Vec::new(), clocks: vec![BTreeMap::new(); nodes + 1] }
    }

    fn add(&mut self, at_ms: u64, node: usize, kind: &'static str, text: String, items: Vec<ItemId>) {
        *self.clocks[node].entry(node).or_default() += 1;
        let clock = self.clocks[node].clone();
        self.events.push(TraceEvent { at_ms, node, kind, text, clock, items });
    }

    /// Something beside inputs and outputs.
    pub(crate) fn note(&mut self, at_ms: u64, node: usize, kind: &'static str, text: String) {
        self.add(at_ms, node, kind, text, Vec::new());
    }

    /// A message leaves; the mark finds the event when it arrives.
    pub(crate) fn sends(&mut self, at_ms: u64, n: usize, to: usize, message: &Message, copies: u32) -> usize {
        let lost = if copies == 0 { " (lost)" } else { "" };
        let (name, items) = named(message);
        self.add(at_ms, n, "send", format!("n{}->n{} {name}{lost}", n + 1, to + 1), items);
        self.events.len()
    }

    /// It arrives.
    pub(crate) fn arrives(&mut self, at_ms: u64, n: usize, from: usize, frame: &[u8], mark: usize) {
        if let Some(sent) = mark.checked_sub(1).and_then(|at| self.events.get(at)) {
            for (node, count) in sent.clock.clone() {
                let known = self.clocks[n].entry(node).or_default();
                *known = (*known).max(count);
            }
        }
        let (name, items) = Message::decode(frame).ok().flatten().as_ref().map_or(("unknown", vec![]), named);
        self.add(at_ms, n, "recv", format!("n{}<-n{} {name}", n + 1, from + 1), items);
    }

    /// An input that is no message, and not just time.
    pub(crate) fn input(&mut self, at_ms: u64, n: usize, input: &Input) {
        let (kind, text) = match input {
            Input::Message(..) | Input::Tick => return,
            Input::Done(id, outcome) => ("done", format!("{} {}", id.0, short(outcome))),
            Input::Observed { observations, .. } => {
                let paths: Vec<_> = observations.iter().map(|seen| seen.path.as_str()).take(4).collect();
                ("observed", format!("{} files: {}", observations.len(), paths.join(", ")))
            }
            Input::Scanned(_) => ("scanned", String::new()),
            other => ("input", format!("{other:?}")),
        };
        self.add(at_ms, n, kind, text, Vec::new());
    }

    /// An effect is ordered.
    pub(crate) fn effect(&mut self, at_ms: u64, n: usize, id: EffectId, effect: &Effect) {
        let items = match effect {
            Effect::Create(new) => vec![new.item],
            Effect::Intend(object) | Effect::Put { object, .. } => vec![object.item],
            Effect::Commit(commit) => vec![commit.item],
            Effect::Publish(publish) => vec![publish.item],
            _ => vec![],
        };
        let mut text = format!("{} {effect:?}", id.0);
        if let Some((at, _)) = text.char_indices().nth(300) {
            text.truncate(at);
        }
        self.add(at_ms, n, "effect", text, items);
    }
}

fn named(message: &Message) -> (&'static str, Vec<ItemId>) {
    match message {
        Message::Heartbeat(_) => ("heartbeat", vec![]),
        Message::Fetch(_) => ("fetch", vec![]),
        Message::Page(page) => {
            let records = page.batches.iter().flat_map(|batch| batch.records());
            ("page", records.map(|(_, record)| record.item).collect())
        }
        Message::Probe(_) => ("probe", vec![]),
        Message::Rest(_) => ("rest", vec![]),
        Message::Life(_) => ("life", vec![]),
    }
}

fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Feed(page) => format!("feed to {}, {} changes", page.through.number, page.changes.len()),
        other => {
            let mut text = format!("{other:?}");
            if let Some((at, _)) = text.char_indices().nth(200) {
                text.truncate(at);
            }
            text
        }
    }
}

/// Takes an input into a run's hash. Messages are in it already, by their frames.
pub(crate) fn hash_input(hash: &mut StateHash, input: &Input) {
    match input {
        Input::Tick => hash.word(1),
        Input::Message(from, _) => hash.word(2 | (u64::from(from.0[0]) << 8)),
        Input::Observed { since_ms, observations } => {
            hash.word(3 ^ (since_ms << 8));
            hash.seen(observations);
        }
        Input::Done(id, outcome) => {
            hash.word(4 ^ (id.0 << 8));
            match outcome {
                Outcome::Feed(page) => {
                    hash.word(page.through.number ^ (u64::from(page.more) << 63));
                    for change in &page.changes {
                        hash.bytes(&change.item().0);
                        if let FeedChange::Row(row) = change {
                            hash.bytes(&row.content.md5.0);
                            hash.word(row.revision.0.stamp.counter);
                        }
                    }
                }
                other => hash.shown(other),
            }
        }
        Input::Scanned(_) => hash.word(5),
        other => hash.shown(other),
    }
}

/// Takes an ordered effect into a run's hash.
pub(crate) fn hash_effect(hash: &mut StateHash, id: EffectId, effect: &Effect) {
    hash.word(id.0);
    match effect {
        Effect::ReadFeed { after, .. } => hash.word(after.number),
        other => hash.shown(other),
    }
}

impl World {
    /// Records something that happened at a node, if anything is recorded.
    pub(crate) fn note(&mut self, n: usize, kind: &'static str, text: impl FnOnce() -> String) {
        let now_ms = self.now_ms();
        if let Some(trace) = &mut self.trace {
            trace.note(now_ms, n, kind, text());
        }
    }

    /// The same of the world itself.
    pub(crate) fn note_everywhere(&mut self, kind: &'static str, text: impl FnOnce() -> String) {
        let world = self.len();
        self.note(world, kind, text);
    }
}
