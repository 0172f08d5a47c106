//! The engine: everything that one node knows and decides, without doing any of it.
//!
//! The law: [`Engine::handle`] takes one input whole; then [`Engine::poll_output`] is called until it returns none,
//! before the next input. What an input changed is durable before the first of its outputs is handed out. After an
//! error from either the engine is spent: drop it and open the store again, as after a crash.
//!
//! Each file of this folder is one room. What is known: `ledgers` (whose word is kept, and how), `marks` (settled items without
//! entries), `heads` (which ledgers are whole) and `repair` (making them so), `forgetting`, `roster`, `liveness` and `exchange` (talking to members),
//! `observe` (files that changed), `removed` (deleted media that lie in an old folder), `feed` (rows that changed),
//! `restoring` (a catalog that was restored), `renaming` and `crossing` (files that a person gave another name), `brake`
//! (too many changes at once). What is done: `settling` (what to do next for an item), `tasks` with
//! `upload`, `download`, `placing`, `killing` and `repairing` (doing it, step by step), `slots` (how much at a time), `travelling` (edits that go from
//! member to member while the catalog is away), `sharing` (one folder, several nodes), `claiming` with `leases` (who in
//! the workgroup does it, and until when), `attempts` (how often it was tried), `unanswered` (what failed in the folder). What is told: `probe` (is there
//! anything left to do), `report` (what people see).

mod attempts;
mod brake;
mod claiming;
mod crossing;
mod download;
mod exchange;
mod feed;
mod forgetting;
mod heads;
mod killing;
mod leases;
mod ledgers;
mod liveness;
mod marks;
mod newcomers;
mod observe;
mod placing;
mod probe;
mod removed;
mod renaming;
mod repair;
mod repairing;
mod report;
mod restoring;
mod roster;
mod settling;
mod sharing;
mod slots;
mod tasks;
mod timers;
mod travelling;
mod twins;
mod unanswered;
mod upload;

#[cfg(test)]
mod exchange_tests;
#[cfg(test)]
mod tests;

use crate::batch::Keys;
use crate::clock::{Incarnation, Label, Stamp, VersionVector};
use crate::codec::{self, CodecError};
use crate::ids::{ClientId, ItemId};
use crate::planted::Bug;
use crate::ports::{EffectId, Event, Input, Now, Outcome, Output};
use crate::store::{Store, StoreError, Table};
use crate::transaction::Transaction;
use std::collections::{BTreeMap, VecDeque};

pub use brake::{BRAKE_LEAST, BrakeLimits, BrakeReport};
pub use report::{ItemReport, KeptEntry, PeerReport, Report, TaskReport};

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
    /// A member that the catalog has not seen for so long is declared absent.
    pub horizon_ms: u64,
    /// How often the whole cache folder is scanned.
    pub scan_interval_ms: u64,
    /// How many uploads and imports may run at a time.
    pub uploads_max: usize,
    /// How many downloads may run at a time.
    pub downloads_max: usize,
    /// Whether new files wait for a person to import them.
    pub manual_import: bool,
    /// Whether a file that a person deletes is deleted everywhere (`deletions = "follow"`).
    pub follow_deletions: bool,
    /// Whether the media folder's marker is older than the database: what the first full scan finds may have been
    /// removed while that database did not exist.
    pub old_root: bool,
    /// How much may vanish or change before a person is asked.
    pub brake: BrakeLimits,
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
    heads: heads::Heads,
    repairs: repair::Repairs,
    roster: roster::Roster,
    forgetting: forgetting::Forgetting,
    /// Why nothing is done any more until a person decides.
    stopped: Option<&'static str>,
    peers: BTreeMap<ClientId, exchange::Peer>,
    beats: liveness::Beats,
    lives: liveness::Lives,
    feed: feed::Feed,
    watch: observe::Watch,
    renames: renaming::Renames,
    crossings: crossing::Crossings,
    brake: brake::Brake,
    queue: settling::Queue,
    restoring: restoring::Restoring,
    doubts: repairing::Doubts,
    old_root: removed::OldRoot,
    travelling: travelling::Travelling,
    sharing: sharing::Sharing,
    tasks: slots::Tasks,
    unanswered: unanswered::Unanswered,
    attempts: attempts::Attempts,
    claiming: claiming::Claiming,
    effects: BTreeMap<EffectId, Waiter>,
    next_effect: u64,
    marks: marks::Marks,
    probe: probe::Probes,
    counts: report::Counts,
    outputs: VecDeque<Output>,
}

/// Who waits for an effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiter {
    Feed,
    Roster,
    Restoring,
    Repath,
    Task(ItemId),
}

/// What is kept of the engine itself, under one key of [`Table::Meta`].
#[derive(Clone, PartialEq, Eq, Debug, Default, bincode::Encode, bincode::Decode)]
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
        let mut tx = Transaction::new(store);
        let kept = tx.get(Table::Meta, META_MYSELF)?;
        let old_root = removed::OldRoot::load(&mut tx, config.old_root, kept.is_none())?;
        let myself = match kept {
            Some(bytes) => codec::decode_prefix(&bytes)?.0,
            None => {
                let low = tx.planted(Bug::LowVector);
                let wall_ms = if low { 0 } else { now.wall_ms };
                let incarnation = Incarnation::mint(wall_ms, random, Incarnation::default());
                Myself { stamp: Stamp { incarnation, counter: 0 }, ..Myself::default() }
            }
        };
        let feed = feed::Feed::load(&tx)?;
        let queue = settling::Queue::load(&tx)?;
        let mut engine = Engine {
            ledgers: ledgers::Ledgers::new(myself),
            heads: heads::Heads::load(&tx, random)?,
            repairs: repair::Repairs::default(),
            roster: roster::Roster::load(&tx)?,
            forgetting: forgetting::Forgetting::default(),
            stopped: None,
            peers: BTreeMap::new(),
            beats: liveness::Beats::default(),
            lives: liveness::Lives::default(),
            restoring: restoring::Restoring::load(&tx, feed.position(), now.mono_ms)?,
            feed,
            doubts: repairing::Doubts::default(),
            old_root,
            watch: observe::Watch::default(),
            renames: renaming::Renames::default(),
            crossings: crossing::Crossings::default(),
            brake: brake::Brake::load(&tx, now.mono_ms)?,
            travelling: travelling::Travelling::load(queue.marked()),
            queue,
            sharing: sharing::Sharing::default(),
            counts: report::Counts::load(&tx)?,
            tasks: slots::Tasks::default(),
            unanswered: unanswered::Unanswered::default(),
            attempts: attempts::Attempts::load(&tx, now.mono_ms)?,
            claiming: claiming::Claiming::new(now.mono_ms),
            effects: BTreeMap::new(),
            next_effect: 0,
            marks: marks::Marks::load(&tx)?,
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
        engine.sum_ledgers()?;
        engine.watch.begin_scan(&mut engine.outputs);
        engine.finish_input()?;
        Ok(engine)
    }

    /// Takes one input whole.
    pub fn handle(&mut self, now: Now, input: Input) -> Result<()> {
        self.note_time(now.mono_ms);
        self.now = Now { mono_ms: now.mono_ms.max(self.now.mono_ms), wall_ms: now.wall_ms };
        match input {
            Input::Tick => {}
            Input::Connected(peer) => self.peer_connected(peer)?,
            Input::Disconnected(peer) => self.peer_disconnected(peer),
            Input::Message(from, message) => self.message(from, message)?,
            Input::Observed { since_ms, observations } => self.observed(since_ms, observations)?,
            Input::Scanned(coverage) => self.scanned(&*coverage)?,
            Input::ScanFailed(why) => self.scan_failed(why)?,
            Input::Rescan => self.watch.want_scan(self.now.mono_ms),
            Input::RosterChanged => self.roster.hint(self.now.mono_ms),
            Input::CatalogChanged => self.feed.hint(self.now.mono_ms),
            Input::Done(id, outcome) => self.effect_done(id, outcome)?,
            Input::Progress(id, bytes) => self.progress(id, bytes),
            Input::Retry(item) => self.retry(item),
            Input::Wait(id) => self.wait_begins(id),
            Input::WaitCancelled(id) => self.wait_ends(id),
            Input::Delete(item) => self.person_deletes(item)?,
            Input::KeptBeside { path, kept_as } => self.kept_beside(&path, kept_as)?,
            Input::Brake(answer) => self.brake_answered(answer)?,
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
        self.gather_if_due();
        self.read_feed_if_due();
        self.visit_roster_if_due();
        self.scan_if_due();
        self.look_if_due();
        self.sweep_travelling();
        if self.stopped.is_none() {
            self.expire_changes();
            self.settle_some()?;
            self.renames_if_due()?;
            self.move_mark()?;
        }
        self.seal()?;
        if self.stopped.is_none() && self.absorbs_more() {
            self.move_mark()?;
            self.seal()?;
        }
        self.forget_some()?;
        self.answer_probes();
        self.save_heads()?;
        self.tx.commit()?;
        debug_assert!(self.first_tombstones_are_as_stored()?);
        let wake_at_ms = self.next_wake_ms();
        self.outputs.push_back(Output::WakeAt(wake_at_ms));
        Ok(())
    }

    fn next_wake_ms(&self) -> u64 {
        let due = [
            self.beats.due_ms,
            self.feed_due_ms(),
            self.roster.due_ms(),
            self.gathering_due_ms(),
            self.watch.due_ms(),
            if self.stopped.is_none() { self.next_work_ms() } else { u64::MAX },
            self.probe_due_ms(),
        ];
        due.into_iter().min().unwrap_or(u64::MAX).max(self.now.mono_ms + 1)
    }

    /// When something is due that is left undone by who has stopped.
    fn next_work_ms(&self) -> u64 {
        let due = [
            self.queue.due_ms(self.now.mono_ms),
            self.slots_due_ms(),
            self.renames.due_ms(),
            self.brake.due_ms(self.config.brake.window_ms),
            self.tasks.due_ms(),
            self.lease_due_ms(),
            self.mark_due_ms(),
        ];
        due.into_iter().min().unwrap_or(u64::MAX)
    }

    /// Whether a defect is planted here. A constant in everything that ships.
    #[inline(always)]
    fn planted(&self, bug: Bug) -> bool {
        self.tx.planted(bug)
    }

    /// Does nothing any more but read: no task goes on, and none begins, until this start ends.
    fn stop(&mut self, why: &'static str) {
        if self.stopped.is_none() {
            self.stopped = Some(why);
            self.tasks.clear();
            self.event(Event::Stopped(why.into()));
        }
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

    fn effect_done(&mut self, id: EffectId, outcome: Outcome) -> Result<()> {
        let Outcome::Away(why) = outcome else { return self.effect_ended(id, outcome) };
        self.attempts.set_away(true);
        let ended = self.effect_ended(id, Outcome::Failed(why));
        self.attempts.set_away(false);
        ended
    }

    fn effect_ended(&mut self, id: EffectId, outcome: Outcome) -> Result<()> {
        match self.effects.remove(&id) {
            Some(Waiter::Feed) => self.feed_read(outcome),
            Some(Waiter::Roster) => self.roster_visited(outcome),
            Some(Waiter::Restoring) => self.restoring_done(id, outcome),
            Some(Waiter::Repath) => self.repathed(outcome),
            Some(Waiter::Task(item)) => self.step_done(item, id, outcome),
            None => Ok(()),
        }
    }
}
