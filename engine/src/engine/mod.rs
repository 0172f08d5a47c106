//! The engine: everything that one node knows and decides, without doing any of it.
//!
//! The law: [`Engine::handle`] takes one input whole; then [`Engine::poll_output`] is called until it returns none,
//! before the next input. What an input changed is durable before the first of its outputs is handed out. After an
//! error from either the engine is spent: drop it and open the store again, as after a crash.
//!
//! Each file of this folder is one room: `ledgers` (whose word is kept, and how), `exchange` (talking to members),
//! `observe` (files that changed), `feed` (rows that changed), `settling` (what to do next for an item), `tasks` with
//! `upload`, `download` and `placing` (doing it, step by step), `probe` (is there anything left to do), `report` (what
//! people see).

mod download;
mod exchange;
mod feed;
mod ledgers;
mod observe;
mod placing;
mod probe;
mod report;
mod settling;
mod slips;
mod tasks;
mod timers;
mod upload;

#[cfg(test)]
mod tests;

use crate::batch::Keys;
use crate::clock::{Incarnation, Label, Stamp, VersionVector};
use crate::codec::{self, CodecError};
use crate::ids::{ClientId, ItemId};
use crate::planted::Bug;
use crate::ports::{EffectId, Event, Input, Now, Output};
use crate::store::{Store, StoreError, Table};
use crate::transaction::Transaction;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use report::{ItemReport, PeerReport, Report, TaskReport};

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who we are.
    pub me: ClientId,
    /// Our name, for people.
    pub name: String,
    /// What our cache folder is called in the catalog's import records.
    pub source_server: String,
    /// How long a member counts as live after its last sign of life.
    pub lease_ms: u64,
    /// How long a file must be quiet before it is believed.
    pub quiet_ms: u64,
    /// How often the feed is read while nothing hints at a change.
    pub poll_ms: u64,
    /// How long to listen after staking a claim before the work begins.
    pub listen_ms: u64,
    /// How often the whole cache folder is scanned.
    pub scan_interval_ms: u64,
    /// How many uploads and imports may run at a time.
    pub uploads_max: usize,
    /// How many downloads may run at a time.
    pub downloads_max: usize,
    /// Whether new files wait for a person to import them.
    pub manual_import: bool,
}

/// Why the engine stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// What it kept could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What it kept is not what it wrote.
    #[error("the node database is damaged: {0}")]
    Damaged(#[from] CodecError),
}

pub(crate) type Result<T> = std::result::Result<T, EngineError>;

/// One node's protocol state machine. See the module's text for the law that its callers keep.
pub struct Engine<S> {
    config: Config,
    keys: Box<dyn Keys + Send>,
    tx: Transaction<S>,
    now: Now,
    /// A random number of this start.
    start: u64,
    /// When this start began.
    opened_ms: u64,
    ledgers: ledgers::Ledgers,
    peers: BTreeMap<ClientId, exchange::Peer>,
    beats: exchange::Beats,
    feed: feed::Feed,
    watch: observe::Watch,
    queue: settling::Queue,
    tasks: BTreeMap<ItemId, tasks::Task>,
    effects: BTreeMap<EffectId, Waiter>,
    next_effect: u64,
    probe: probe::Probes,
    counts: report::Counts,
    outputs: VecDeque<Output>,
}

/// Who waits for an effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiter {
    Feed,
    Task(ItemId),
}

/// What is kept of the engine itself, under one key of [`Table::Meta`].
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
struct Myself {
    stamp: Stamp,
    label: Label,
    vector: VersionVector,
}

const META_MYSELF: &[u8] = b"myself";

impl<S: Store> Engine<S> {
    /// Opens the engine over its store. `random` is a random number of this start; a store that is new begins a new
    /// incarnation.
    pub fn open(store: S, config: Config, keys: Box<dyn Keys + Send>, now: Now, random: u64) -> Result<Self> {
        let tx = Transaction::new(store);
        let myself = match tx.get(Table::Meta, META_MYSELF)? {
            Some(bytes) => codec::decode_prefix(&bytes)?.0,
            None => {
                let incarnation = Incarnation::mint(now.wall_ms, random, Incarnation::default());
                Myself { stamp: Stamp { incarnation, counter: 0 }, ..Myself::default() }
            }
        };
        let mut engine = Engine {
            ledgers: ledgers::Ledgers::new(myself),
            peers: BTreeMap::new(),
            beats: exchange::Beats::default(),
            feed: feed::Feed::load(&tx)?,
            watch: observe::Watch::default(),
            queue: settling::Queue::load(&tx)?,
            counts: report::Counts::load(&tx)?,
            tasks: BTreeMap::new(),
            effects: BTreeMap::new(),
            next_effect: 0,
            probe: probe::Probes::default(),
            outputs: VecDeque::new(),
            start: random,
            opened_ms: now.mono_ms,
            config,
            keys,
            tx,
            now,
        };
        engine.save_myself()?;
        engine.watch.begin_scan(&mut engine.outputs);
        engine.finish_input()?;
        Ok(engine)
    }

    /// Takes one input whole.
    pub fn handle(&mut self, now: Now, input: Input) -> Result<()> {
        self.now = Now { mono_ms: now.mono_ms.max(self.now.mono_ms), wall_ms: now.wall_ms };
        match input {
            Input::Tick => {}
            Input::Connected(peer) => self.peer_connected(peer)?,
            Input::Disconnected(peer) => self.peer_disconnected(peer),
            Input::Message(from, message) => self.message(from, message)?,
            Input::Observed { since_ms, observations } => self.observed(since_ms, observations)?,
            Input::Scanned(coverage) => self.scanned(&*coverage)?,
            Input::ScanFailed(why) => self.scan_failed(why),
            Input::Rescan => self.watch.want_scan(self.now.mono_ms),
            Input::Done(id, outcome) => self.effect_done(id, outcome)?,
            Input::Wait(id) => self.wait_begins(id),
            Input::WaitCancelled(id) => self.wait_ends(id),
        }
        self.finish_input()
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The store, as the last input left it.
    pub fn store(&self) -> &S {
        self.tx.store()
    }

    /// Gives the store back, as a crash would leave it.
    pub fn into_store(self) -> S {
        self.tx.into_store()
    }

    /// What follows every input: due timers, settling, sealing our own writes, and making all of it durable.
    fn finish_input(&mut self) -> Result<()> {
        self.beat_if_due()?;
        self.read_feed_if_due();
        self.scan_if_due();
        self.look_if_due();
        self.settle_some()?;
        self.seal()?;
        self.answer_probes();
        self.tx.commit()?;
        let wake_at_ms = self.next_wake_ms();
        self.outputs.push_back(Output::WakeAt(wake_at_ms));
        Ok(())
    }

    fn next_wake_ms(&self) -> u64 {
        let due = [
            self.beats.due_ms,
            self.feed.due_ms(),
            self.watch.due_ms(),
            self.queue.due_ms(self.now.mono_ms),
            self.task_due_ms(),
            self.probe_due_ms(),
        ];
        due.into_iter().min().unwrap_or(u64::MAX).max(self.now.mono_ms + 1)
    }

    /// Whether a defect is planted here. A constant in everything that ships.
    #[inline(always)]
    fn planted(&self, bug: Bug) -> bool {
        self.tx.planted(bug)
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn effect(&mut self, waiter: Waiter, effect: crate::ports::Effect) -> EffectId {
        self.next_effect += 1;
        let id = EffectId(self.next_effect);
        self.effects.insert(id, waiter);
        self.outputs.push_back(Output::Effect(id, effect));
        id
    }

    fn effect_done(&mut self, id: EffectId, outcome: crate::ports::Outcome) -> Result<()> {
        match self.effects.remove(&id) {
            Some(Waiter::Feed) => self.feed_read(outcome),
            Some(Waiter::Task(item)) => self.step_done(item, id, outcome),
            None => Ok(()),
        }
    }

    /// Members that are live: heard within the lease, and hearing us.
    fn live(&self) -> BTreeSet<ClientId> {
        let live = |peer: &exchange::Peer| peer.is_live(self.now.mono_ms, self.config.lease_ms);
        self.peers.iter().filter(|(_, peer)| live(peer)).map(|(client, _)| *client).collect()
    }
}
