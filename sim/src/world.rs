//! The world: nodes, the network between them, and time.
//!
//! Whatever happens is ordered by (time, sequence); chance comes from named streams of the world's seed; every input
//! and output of every engine goes into one rolling hash. `node` starts and kills, `persons` act, `spells` is what goes
//! wrong, `run` plays a plan, `checks` watches.

use crate::agenda::Agenda;
use crate::catalog::Catalog;
use crate::checks::truth::Truth;
use crate::checks::{Book, Invariant, found};
use crate::faults::{Faults, place_of};
use crate::file_system::FileId;
use crate::folder::Folder;
use crate::goals::Goals;
use crate::hash::StateHash;
use crate::hosts::{Claim, Hosts};
use crate::node::{Node, client};
use crate::plan::{Fidelity, Item, NodePlan, Spell};
use crate::random::{Stream, Streams};
use crate::store::SimStore;
use crate::trace::Trace;
use crate::transfers::Transfers;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tcat_engine::content::Content;
use tcat_engine::engine::{BrakeLimits, Engine};
use tcat_engine::ids::ClientId;
use tcat_engine::message::Message;
use tcat_engine::observation::FileStat;
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::{Bug, Planted};
use tcat_engine::ports::{Effect, EffectId, Event, Input, Outcome, Output};

pub use crate::node::content;

/// What keeps a node's database.
pub type NodeStore = SimStore;

/// No run takes more inputs and outputs than this: nodes that go round in circles would for ever.
const EVENTS_MAX: u64 = 3_000_000;

/// What the network does to messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Weather {
    /// How many of a thousand messages are lost.
    pub loss_permille: u64,
    /// How many of a thousand messages come twice.
    pub twice_permille: u64,
    /// The longest delay: messages overtake each other within it.
    pub delay_ms_max: u64,
}

/// A world of nodes with one catalog.
pub struct World {
    /// The catalog and the objects.
    pub catalog: Catalog,
    /// Who keeps catalogs, where no server does.
    pub(crate) hosts: Option<Hosts>,
    /// What the network does.
    pub weather: Weather,
    /// What goes wrong beside the network.
    pub faults: Faults,
    /// How much may change before a person is asked, for nodes that start from now on.
    pub brake: BrakeLimits,
    /// Ways that lead nowhere: (from, to).
    pub cuts: BTreeSet<(usize, usize)>,
    /// Effects ordered so far, but readings of the feed, which never end.
    pub orders: u64,
    /// Inputs that nodes took so far.
    pub inputs: u64,
    /// Inputs and outputs so far, wake-ups left out.
    pub events: u64,
    /// Messages sent so far, but heartbeats, which never end.
    pub words: u64,
    /// Every line that nodes said to people, with time and node.
    pub log: Vec<(u64, usize, Event)>,
    /// Every content that a person saved, and where; not those that the same person has overwritten since, on the
    /// same node, before anything else took their place.
    pub saved: Vec<(usize, Content)>,
    /// What was checked, and what did not hold.
    pub book: Book,
    /// What the witness knows.
    pub truth: Truth,
    /// What happened that should happen sometimes.
    pub goals: Goals,
    /// The rolling hash of all inputs and outputs.
    pub hash: StateHash,
    /// The events, if they are recorded.
    pub trace: Option<Trace>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) streams: Streams,
    /// How long a node may be away before it is declared absent; from its next start on.
    pub horizon_ms: u64,
    /// The defect that is planted in nodes that start from now on.
    pub planted: Planted,
    /// What nodes are configured with beyond the usual.
    pub options: BTreeMap<usize, NodeOptions>,
    /// What keeps the nodes' databases.
    pub(crate) fidelity: Fidelity,
    /// Nothing is a reason for two to fetch one content beside each other.
    pub(crate) once: bool,
    /// What lies in a trash alone counts as lost.
    pub(crate) open: bool,
    /// Nodes that hear nobody, for good.
    pub(crate) deaf: BTreeSet<usize>,
    /// Whether it plays a plan.
    pub(crate) planned: bool,
    pub(crate) items: Arc<Vec<Item>>,
    pub(crate) spells: Vec<(u64, u64, Spell)>,
    pub(crate) transfers: Transfers,
    pub(crate) next_spell: u64,
    /// When faults end for good: what they have delayed comes soon after at the latest.
    pub(crate) calm_at_ms: u64,
    /// It has been played for longer than any run should take, or what was looked for is found: it stands still.
    pub(crate) is_spent: bool,
    /// How long it may take to come to rest in the end.
    pub(crate) patience_ms: u64,
    /// How often persons saved something.
    pub(crate) saves: u64,
    /// The number of the next content that a meddling person saves.
    pub(crate) next_content: u64,
    now_ms: u64,
    agenda: Agenda<Happening>,
}

/// How a node differs from the usual; read when it starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeOptions {
    /// A file that a person deletes is deleted everywhere.
    pub follow_deletions: bool,
    /// The folder is older than the database.
    pub old_root: bool,
}

/// What is to happen.
pub(crate) enum Happening {
    Arrives { to: usize, from: usize, frame: Arc<[u8]>, mark: usize, claim: Option<Claim> },
    Runs { node: usize, life: u64, id: EffectId, effect: Effect },
    Late { node: usize, effect: Effect, catalog: usize },
    Input { node: usize, life: u64, input: Box<Input> },
    Scan { node: usize, life: u64 },
    Look { node: usize, life: u64, paths: Vec<MediaPath> },
    Start { node: usize, life: u64 },
    Noticed { node: usize, life: u64 },
    Step { node: usize, life: u64, id: EffectId },
    Trash { node: usize, life: u64 },
    Writes { node: usize, file: FileId, content: u64 },
    Meet { a: usize, b: usize },
    SpellEnds(u64),
    Planned(usize),
    Soundness { catalog: usize },
}

impl World {
    /// A world of `nodes` nodes, all running and connected.
    pub fn new(seed: u64, nodes: usize, weather: Weather) -> Self {
        Self::planted(seed, nodes, weather, None)
    }

    /// The same, with a defect planted in every engine and in the catalog.
    pub fn planted(seed: u64, nodes: usize, weather: Weather, bug: Option<Bug>) -> Self {
        Self::kept(seed, nodes, weather, bug, Fidelity::Light)
    }

    /// The same, with databases of this fidelity.
    pub fn kept(seed: u64, nodes: usize, weather: Weather, bug: Option<Bug>, fidelity: Fidelity) -> Self {
        let plans = vec![NodePlan::default(); nodes];
        let mut world = Self::empty(seed, plans, weather, Planted(bug), fidelity);
        (0..nodes).for_each(|n| world.start(n));
        world
    }

    /// A world whose nodes do not run yet.
    pub(crate) fn empty(
        seed: u64,
        nodes: Vec<NodePlan>,
        weather: Weather,
        bug: Planted,
        fidelity: Fidelity,
    ) -> Self {
        let mut catalog = Catalog::planted(bug);
        let keys = nodes.iter().enumerate().filter(|(_, node)| node.twin_of.is_none());
        keys.for_each(|(n, _)| catalog.admit(client(n)));
        World {
            catalog,
            hosts: None,
            weather,
            faults: Faults::default(),
            // Few files and busy persons: who tests the brake sets its limits.
            brake: BrakeLimits { percent: 100, ..BrakeLimits::default() },
            cuts: BTreeSet::new(),
            orders: 0,
            inputs: 0,
            events: 0,
            words: 0,
            log: Vec::new(),
            saved: Vec::new(),
            book: Book::default(),
            truth: Truth::default(),
            goals: Goals::default(),
            hash: StateHash::default(),
            trace: None,
            nodes: nodes.into_iter().enumerate().map(|(n, plan)| Node::new(n, plan, bug, fidelity)).collect(),
            streams: Streams::new(seed),
            horizon_ms: 90 * 86_400_000,
            planted: bug,
            options: BTreeMap::new(),
            fidelity,
            once: false,
            open: false,
            deaf: BTreeSet::new(),
            planned: false,
            items: Arc::default(),
            spells: Vec::new(),
            transfers: Transfers::default(),
            next_spell: 0,
            calm_at_ms: u64::MAX,
            is_spent: false,
            patience_ms: crate::checks::rest::PATIENCE_MS,
            saves: 0,
            next_content: 1_000_000,
            now_ms: 1_000,
            agenda: Agenda::default(),
        }
    }

    /// The time, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// A node's files.
    pub fn folder(&self, node: usize) -> &Folder<Planted> {
        &self.nodes[self.nodes[node].home].folder
    }

    /// The same, to change them.
    pub(crate) fn home(&mut self, node: usize) -> &mut Folder<Planted> {
        let (home, clock_ns) = (self.nodes[node].home, self.disk_ns(node));
        let folder = &mut self.nodes[home].folder;
        folder.disk.set_clock(clock_ns);
        folder
    }

    /// Two nodes that have nothing yet share one folder from now on.
    pub fn share(&mut self, one: usize, other: usize) {
        for n in [one, other] {
            self.crash(n);
            self.nodes[n].home = one;
        }
        self.start(one);
        self.start(other);
    }

    /// The watchers of all other nodes with the same folder see it too.
    pub(crate) fn mates_see(&mut self, node: usize, paths: &[MediaPath]) {
        let home = self.nodes[node].home;
        for mate in (0..self.nodes.len()).filter(|mate| *mate != node) {
            if self.nodes[mate].home == home {
                let (life, paths) = (self.nodes[mate].life, paths.to_vec());
                self.later(300, Happening::Look { node: mate, life, paths });
            }
        }
    }

    /// A node's engine, while it runs.
    pub fn engine(&self, node: usize) -> Option<&Engine<NodeStore>> {
        self.nodes[node].engine.as_ref()
    }

    /// A node's id.
    pub fn id(&self, node: usize) -> ClientId {
        self.nodes[node].id
    }

    /// How many effects a node has ordered that are not answered.
    pub fn in_hand(&self, node: usize) -> u64 {
        self.nodes[node].in_hand.len() as u64
    }

    /// Whether a node will never start again.
    pub fn is_dead(&self, node: usize) -> bool {
        self.nodes[node].dead
    }

    /// More items than there can be.
    pub(crate) fn items_max(&self) -> usize {
        self.saves as usize * 4 + self.changes_of_all() + 64
    }

    /// A number below `bound` from the world's own chance.
    pub fn chance(&mut self, bound: u64) -> u64 {
        self.streams.of(Stream::Test, 0).below(bound)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Runs for a time.
    pub fn run_for(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.step(end_ms) {}
        self.now_ms = end_ms;
    }

    /// Runs until a node says that nothing is left to settle anywhere; false if that takes longer than `ms`.
    pub fn run_until_rested(&mut self, n: usize, ms: u64) -> bool {
        let end_ms = self.now_ms + ms;
        self.nodes[n].rested = None;
        self.input(n, Input::Wait(end_ms));
        while self.nodes[n].rested != Some(end_ms) {
            if !self.step(end_ms) {
                self.input(n, Input::WaitCancelled(end_ms));
                return false;
            }
        }
        true
    }

    pub(crate) fn later(&mut self, ms: u64, happening: Happening) {
        self.agenda.add(self.now_ms.saturating_add(ms), happening);
    }

    /// Lets the next thing happen, if it happens before `end_ms`.
    fn step(&mut self, end_ms: u64) -> bool {
        if self.book.is_over() {
            self.is_spent = true;
            return false;
        }
        if self.planned && self.events > EVENTS_MAX {
            self.spend();
            return false;
        }
        let next = self.agenda.next_ms();
        let wakes = self.nodes.iter().enumerate();
        let (wake_ms, waking) =
            wakes.map(|(n, node)| (node.wake_ms.max(node.paused_until_ms), n)).min().unwrap_or((u64::MAX, 0));
        if next.min(wake_ms) >= end_ms {
            return false;
        }
        if wake_ms < next {
            self.now_ms = self.now_ms.max(wake_ms);
            // Until the engine names another time: one that has stopped never does.
            self.nodes[waking].wake_ms = u64::MAX;
            self.input(waking, Input::Tick);
        } else if let Some((at, happening)) = self.agenda.pop() {
            self.now_ms = self.now_ms.max(at);
            match happening.node().map(|node| self.nodes[node].paused_until_ms) {
                Some(until_ms) if until_ms > self.now_ms => self.agenda.add(until_ms, happening),
                _ => self.happen(happening),
            }
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives { to, from, frame, mark, claim } => {
                self.hear_claim(to, claim);
                if let Some(trace) = &mut self.trace {
                    trace.arrives(self.now_ms, to, from, &frame, mark);
                }
                let from = self.id(from);
                self.hash.word(frame.len() as u64 ^ ((to as u64) << 32));
                match Message::decode(&frame) {
                    Ok(Some(message)) => self.input(to, Input::Message(from, message)),
                    Ok(None) => {}
                    Err(error) => self.stopped(to, &format!("a frame that cannot be read: {error}")),
                }
            }
            Happening::Input { node, life, input } if self.nodes[node].life == life => {
                self.input(node, *input)
            }
            Happening::Runs { node, life, id, effect } if self.nodes[node].life == life => {
                self.run_effect(node, life, id, effect);
            }
            Happening::Late { node, effect, catalog } => self.perform_late(node, effect, catalog),
            Happening::Scan { node, life } if self.nodes[node].life == life => match self.looking(node) {
                Some(ms) => self.later(ms, Happening::Scan { node, life }),
                None => self.scan(node, life),
            },
            Happening::Look { node, life, paths } if self.nodes[node].life == life => {
                match self.looking(node) {
                    Some(ms) => self.later(ms, Happening::Look { node, life, paths }),
                    None => self.look(node, life, &paths),
                }
            }
            Happening::Start { node, life } if self.nodes[node].life == life => self.start(node),
            Happening::Noticed { node, life } if self.nodes[node].life == life => self.noticed(node),
            Happening::Step { node, life, id } if self.nodes[node].life == life => {
                self.step_folder(node, life, id);
            }
            Happening::Trash { node, life } if self.nodes[node].life == life => {
                self.look_at_trash(node, life);
            }
            Happening::Writes { node, file, content } => self.editor_writes(node, file, content),
            Happening::Meet { a, b } => self.meet(a, b),
            Happening::SpellEnds(id) => self.spell_ends(id),
            Happening::Planned(number) => self.planned_item(number),
            Happening::Soundness { catalog } => self.look_for_objects(catalog),
            // Meant for an earlier life of the node.
            _ => {}
        }
    }

    /// An effect is done once its bytes have moved, unless the node dies beside it.
    fn run_effect(&mut self, node: usize, life: u64, id: EffectId, effect: Effect) {
        if self.is_moving(node, life, id, &effect) {
            return;
        }
        if !matches!(effect, Effect::ReadFeed { .. })
            && let Some((skip, before, down_ms)) = self.nodes[node].dies_at
        {
            self.nodes[node].dies_at = Some((skip.saturating_sub(1), before, down_ms));
            if skip == 0 {
                self.goals.crash_beside(&effect);
                if !before {
                    self.at_catalog_of(node, |world| world.perform_among_faults(node, effect));
                }
                return self.crash_for(node, down_ms, 0);
            }
        }
        if self.is_stepped(node, &effect) {
            return self.begin_steps(node, life, id, effect);
        }
        self.ask_host(node);
        let outcome = self.at_catalog_of(node, |world| world.perform_among_faults(node, effect));
        self.ask_host(node);
        let ms = self.streams.of(Stream::Effect, node).below(20);
        self.later(ms, Happening::Input { node, life, input: Box::new(Input::Done(id, outcome)) });
    }

    /// The engine of a node takes an input, now or when the node is no longer paused.
    pub(crate) fn tell(&mut self, n: usize, input: Input) {
        // Also in the moment in which it wakes: what waited for that comes first.
        if self.nodes[n].paused_until_ms >= self.now_ms {
            let (life, input) = (self.nodes[n].life, Box::new(input));
            self.agenda.add(self.nodes[n].paused_until_ms, Happening::Input { node: n, life, input });
        } else {
            self.input(n, input);
        }
    }

    pub(crate) fn input(&mut self, n: usize, input: Input) {
        let now = self.nodes[n].clock.now(self.now_ms);
        if self.nodes[n].engine.is_none() {
            return;
        }
        self.inputs += 1;
        self.events += 1;
        self.hash.word(self.now_ms ^ ((n as u64) << 56));
        crate::trace::hash_input(&mut self.hash, &input);
        if let Input::Done(id, outcome) = &input {
            self.nodes[n].in_hand.remove(id);
            self.goals.outcome(outcome);
            self.hear_answer(n, outcome);
        }
        if let Some(trace) = &mut self.trace {
            trace.input(self.now_ms, n, &input);
        }
        let Some(engine) = &mut self.nodes[n].engine else { return };
        match engine.handle(now, input) {
            Ok(()) => self.drain(n),
            Err(error) => self.broke(n, &error.to_string()),
        }
    }

    /// Ends a run that goes round in circles.
    fn spend(&mut self) {
        self.is_spent = true;
        let now_ms = self.now_ms;
        self.book.check(Invariant::L3, false, || {
            found(
                now_ms,
                &[],
                &[],
                format!("more than {EVENTS_MAX} events by {now_ms} ms: going round in circles"),
            )
        });
    }

    /// An engine has stopped where none ever should.
    pub(crate) fn stopped(&mut self, n: usize, why: &str) {
        assert!(self.planned, "node {n} stopped at {}: {why}", self.now_ms);
        let text = format!("node {} stopped: {why}", n + 1);
        let now_ms = self.now_ms;
        self.book
            .check(crate::checks::Invariant::S0, false, || crate::checks::found(now_ms, &[n], &[], text));
        self.crash(n);
    }

    pub(crate) fn drain(&mut self, n: usize) {
        let mut outputs = 0;
        while let Some(output) = self.nodes[n].engine.as_mut().and_then(Engine::poll_output) {
            outputs += 1;
            self.output(n, output);
        }
        self.check_outputs(n, outputs);
    }

    fn output(&mut self, n: usize, output: Output) {
        let life = self.nodes[n].life;
        if let Output::WakeAt(mono_ms) = output {
            self.nodes[n].wake_ms = self.nodes[n].clock.true_ms(mono_ms);
            return;
        }
        self.events += 1;
        match output {
            Output::Send(to, message) => self.send(n, to, &message),
            Output::Effect(id, effect) => {
                crate::trace::hash_effect(&mut self.hash, id, &effect);
                if let Some(trace) = &mut self.trace {
                    trace.effect(self.now_ms, n, id, &effect);
                }
                if let Effect::Get { content, .. } = &effect {
                    self.witness_get(n, *content);
                }
                self.check_fence(n, id, &effect);
                let endless = matches!(effect, Effect::ReadFeed { .. } | Effect::VisitRoster(_));
                self.orders += u64::from(!endless);
                self.nodes[n].in_hand.insert(id, endless);
                let late_ms = self.slow_effects_ms(n);
                let ms = 1 + self.streams.of(Stream::Effect, n).below(100 + late_ms);
                self.later(ms, Happening::Runs { node: n, life, id, effect });
            }
            Output::Cancel(id) => self.break_off(n, id),
            Output::ScanAll => {
                let ms = 1 + self.streams.of(Stream::Look, n).below(50);
                self.later(ms, Happening::Scan { node: n, life });
            }
            Output::Look(paths) => {
                let ms = 1 + self.streams.of(Stream::Look, n).below(20);
                self.later(ms, Happening::Look { node: n, life, paths });
            }
            Output::Drop(client) => self.drop_connection(n, client),
            Output::Rested(id) => self.nodes[n].rested = Some(id),
            Output::Event(event) => {
                self.hash.shown(&event);
                self.goals.event(&event);
                self.witness_event(n, &event);
                self.note(n, "event", || format!("{event:?}"));
                self.log.push((self.now_ms, n, event));
            }
            Output::WakeAt(_) => {}
        }
    }

    fn drop_connection(&mut self, n: usize, client: ClientId) {
        let id = self.nodes[n].id;
        if let Some(other) = self.nodes.iter().position(|node| node.id == client) {
            self.tell(other, Input::Disconnected(id));
        }
    }

    fn send(&mut self, n: usize, to: ClientId, message: &Message) {
        self.check_word(n, message);
        let frame: Arc<[u8]> = match message.encode() {
            Ok(frame) => frame.into(),
            Err(error) => return self.stopped(n, &format!("a message that cannot be sent: {error}")),
        };
        self.check_frame(n, frame.len());
        self.hash.bytes(&frame);
        // Who hears nobody asks again and again.
        let heard = !self.deaf.contains(&n) && self.deaf.iter().all(|deaf| self.nodes[*deaf].id != to);
        self.words += u64::from(heard && !matches!(message, Message::Heartbeat(_) | Message::Life(_)));
        // Two machines with one key both hear what is sent to it.
        for hears in 0..self.nodes.len() {
            if hears != n && self.nodes[hears].id == to {
                self.send_to(n, hears, message, &frame);
            }
        }
    }

    fn send_to(&mut self, n: usize, to: usize, message: &Message, frame: &Arc<[u8]>) {
        let (passage, claim) = (self.passage(n, to, frame.len()), self.claim_of(n));
        let mark = match &mut self.trace {
            Some(trace) => trace.sends(self.now_ms, n, to, message, passage.copies),
            None => 0,
        };
        for copy in 0..passage.copies + u32::from(passage.replay_ms.is_some()) {
            let random = self.streams.of(Stream::Link, n * 64 + to);
            let late_ms = passage.replay_ms.filter(|_| copy == passage.copies).unwrap_or(0);
            let ms = 1 + random.below(passage.delay_ms_max) + late_ms;
            let at_ms = (self.now_ms + ms).max(passage.not_before_ms);
            let at_ms = at_ms.min(self.calm_at_ms.max(self.now_ms).saturating_add(1_000));
            self.agenda.add(at_ms, Happening::Arrives { to, from: n, frame: frame.clone(), mark, claim });
        }
    }

    /// Does an effect, and checks what it did.
    pub(crate) fn perform_checked(&mut self, n: usize, effect: Effect) -> Outcome {
        match &effect {
            Effect::Commit(commit) => {
                let before = self.catalog.row(&commit.item).cloned();
                let outcome = self.perform(n, effect.clone());
                self.check_catalog(n, &effect, before, &outcome);
                self.witness_hosts(&effect, None);
                outcome
            }
            Effect::Offer(offer) => {
                let forked = self.is_forked(offer);
                let outcome = self.perform(n, effect.clone());
                self.witness_hosts(&effect, Some(forked));
                outcome
            }
            Effect::Create(new) => {
                let before = self.catalog.row(&new.item).cloned();
                let outcome = self.perform(n, effect.clone());
                self.check_catalog(n, &effect, before, &outcome);
                outcome
            }
            Effect::Publish(_) | Effect::Trash { .. } | Effect::SetAside { .. } | Effect::Move { .. } => {
                let before = self.before_effect(n, &effect);
                let outcome = self.perform(n, effect.clone());
                self.check_files(n, &effect, before, &outcome);
                let to = match &effect {
                    Effect::SetAside { to, .. } | Effect::Move { to, .. } => Some(to.clone()),
                    _ => None,
                };
                let seen: Vec<_> = place_of(&effect).cloned().into_iter().chain(to).collect();
                self.mates_see(n, &seen);
                outcome
            }
            Effect::Kill(_) => {
                let outcome = self.perform(n, effect.clone());
                self.witness_kill(&effect, &outcome);
                outcome
            }
            _ => self.perform(n, effect),
        }
    }

    /// Does an effect late, at the catalog to which it went, unless that is kept no more.
    fn perform_late(&mut self, node: usize, effect: Effect, catalog: usize) {
        self.at_catalog_of(node, |world| {
            if world.shown_catalog() == catalog {
                world.perform_checked(node, effect);
            }
        });
    }

    fn perform(&mut self, n: usize, effect: Effect) -> Outcome {
        let done = Outcome::Done { stat: FileStat::default() };
        match effect {
            Effect::ReadFeed { after, limit } => match self.catalog.read_feed(after, limit) {
                Ok(page) => Outcome::Feed(Box::new(page)),
                Err(epoch) => Outcome::FeedRestored { epoch },
            },
            Effect::VisitRoster(visit) => {
                let roster = self.catalog.visit_roster(&visit, self.now_ms);
                self.keep_roster(n, &roster);
                Outcome::Roster(roster)
            }
            Effect::Create(new) => match self.catalog.create(&new) {
                Some(created) => Outcome::Created(created),
                None => Outcome::Failed("the revision names another change already".into()),
            },
            Effect::Intend(object) => match self.catalog.intend(&object) {
                true => done,
                false => Outcome::Occupied,
            },
            Effect::Kill(kill) => Outcome::Killed(self.catalog.kill(&kill)),
            // A host deletes nothing that its own catalog has not condemned.
            Effect::Delete { object } if self.hosts.is_some() && !self.catalog.is_condemned(&object) => {
                Outcome::Failed("its name is not condemned".into())
            }
            Effect::Delete { object } => {
                self.catalog.delete(object);
                done
            }
            Effect::Unsound(order) => Outcome::Committed(self.catalog.unsound(&order)),
            Effect::NewEpoch(order) => Outcome::Epoch(self.catalog.new_epoch(&order)),
            Effect::Offer(offer) => Outcome::Offered(self.catalog.offer(&offer)),
            Effect::Repath(repath) => Outcome::Repathed(self.catalog.repath(&repath)),
            Effect::Put { object, path } => match self.folder(n).contents().get(&path).copied() {
                Some(content) if content.same_as(&object.content) => {
                    if self.catalog.put(object.id, object.content) { done } else { Outcome::Occupied }
                }
                Some(_) => Outcome::Changed,
                None => Outcome::Missing,
            },
            Effect::Commit(commit) => Outcome::Committed(self.catalog.commit(&commit)),
            Effect::Get { object, content } => match self.catalog.get(object) {
                Some(got) if got.same_as(&content) => {
                    self.home(n).add_partial(&content);
                    done
                }
                Some(_) => Outcome::Corrupt,
                None => Outcome::Missing,
            },
            Effect::Fetch { from, content, .. } => self.fetch(n, from, &content),
            Effect::Untrash { content } => self.home(n).untrash(&content),
            Effect::Borrow { path, content } => self.home(n).borrow(&path, &content),
            Effect::Publish(publish) => self.home(n).publish(&publish),
            Effect::Trash { path, content } => self.home(n).to_trash(&path, &content),
            Effect::SetAside { path, content, to } => self.home(n).rename(&path, Some(&content), &to),
            Effect::Move { path, to } => self.home(n).rename(&path, None, &to),
        }
    }

    fn fetch(&mut self, n: usize, from: ClientId, content: &Content) -> Outcome {
        if let Err(outcome) = self.source(n, from, content) {
            return outcome;
        }
        self.home(n).add_partial(content);
        Outcome::Done { stat: FileStat::default() }
    }
}

impl Happening {
    /// The node that has to be awake for it.
    fn node(&self) -> Option<usize> {
        match self {
            Happening::Arrives { to, .. } => Some(*to),
            Happening::Runs { node, .. }
            | Happening::Input { node, .. }
            | Happening::Scan { node, .. }
            | Happening::Step { node, .. }
            | Happening::Trash { node, .. }
            | Happening::Look { node, .. } => Some(*node),
            _ => None,
        }
    }
}
