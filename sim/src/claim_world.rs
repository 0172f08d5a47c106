//! A small world for the claim rule: real engines, contents that only the cloud has, and a cloud that is slow.
//!
//! It has what the rule was written against and little else: transfers that take their time, tell of their progress,
//! stand still or are broken off; ways that are cut; clocks that drift or are stepped; crashes. What must never happen is
//! checked at every step, by the names of the invariants; nothing here decides who works.
//!
//! Left out: folders with all that happens in them, and faults of the catalog (the world next door has both).

mod checks;
mod parts;
pub(crate) mod plans;

use crate::catalog::Catalog;
use crate::random::Random;
use parts::{drifted, row, undrifted};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tcat_engine::batch::{Keys, Signature};
use tcat_engine::clock::Stamp;
use tcat_engine::content::Content;
use tcat_engine::engine::{Config, Engine};
use tcat_engine::entry::Entry;
use tcat_engine::ids::{ClientId, ItemId};
use tcat_engine::message::Message;
use tcat_engine::observation::{Coverage, FileStat, Observation, Presence, Seen};
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::{Bug, Planted};
use tcat_engine::ports::{Effect, EffectId, Input, Now, Outcome, Output};
use tcat_engine::store::MemoryStore;

/// The lease in this world, in milliseconds.
pub const LEASE_MS: u64 = 2_000;
/// How long engines listen after a stake, in milliseconds.
pub const LISTEN_MS: u64 = 100;
const PROGRESS_MS: u64 = 100;
/// Two who began at once may both go on for so long: a lost word is repeated after a fifth of a lease.
const OVERLAP_MS_MAX: u64 = LEASE_MS / 5 + 2 * LISTEN_MS;

/// Decides what the plan of a run leaves open, such as whether a message is late: counted, so that all can be tried.
pub trait Choices {
    /// One of `bound` ways.
    fn choose(&mut self, bound: usize) -> usize;
}

/// How this world treats transfers and messages.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// How long a content takes from the cloud.
    pub get_ms: u64,
    /// How long a transfer that is broken off goes on.
    pub cancel_ms: u64,
    /// The longest that a message takes.
    pub delay_ms_max: u64,
    /// How many messages may be lost, by choice.
    pub losses: u32,
    /// How many crashes there may be, by choice.
    pub crashes: u32,
    /// How many messages may come later than anybody listens, by choice.
    pub late: u32,
}

impl Default for Manners {
    fn default() -> Self {
        Self { get_ms: 60, cancel_ms: 10, delay_ms_max: 5, losses: 0, crashes: 0, late: 0 }
    }
}

/// A world of nodes that want what the cloud has.
pub struct ClaimWorld {
    /// The catalog and its objects.
    pub catalog: Catalog,
    /// What may be changed while it runs.
    pub manners: Manners,
    /// Ways that lead nowhere: (from, to).
    pub cuts: BTreeSet<(usize, usize)>,
    /// When ways were last opened.
    mended_ms: u64,
    /// Nodes whose transfers from the cloud stand still.
    pub hung: BTreeSet<usize>,
    /// Whether every transfer from the cloud fails.
    pub cloud_away: bool,
    /// How often each content was begun to be fetched from the cloud.
    pub fetches: BTreeMap<Content, u32>,
    saves: i64,
    /// Suspended nodes, and until when.
    asleep: BTreeMap<usize, u64>,
    /// Messages sent, but heartbeats.
    pub words: u64,
    /// What must not happen and did, in words that begin with the invariant's name.
    pub broken: Vec<String>,
    /// What happened, for people.
    pub log: Vec<String>,
    choices: Option<Box<dyn Choices>>,
    bug: Option<Bug>,
    nodes: Vec<Node>,
    /// The items that were there from the beginning, and which of them have a content.
    contents: BTreeMap<ItemId, Content>,
    items: BTreeMap<Content, Vec<ItemId>>,
    now_ms: u64,
    random: Random,
    happenings: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    /// The highest epoch that a client ever staked for a content.
    highest: BTreeMap<(ClientId, Content), u64>,
    /// The epoch that a client claims an item's content under.
    standing: BTreeMap<(ClientId, ItemId), u64>,
    /// The newest word of each owner on each item that a node has believed: who believed it, whose it is, on what.
    believed: BTreeMap<(usize, ClientId, ItemId), (Stamp, Option<u64>)>,
}

struct Node {
    id: ClientId,
    engine: Option<Engine<MemoryStore<Planted>>>,
    store: MemoryStore<Planted>,
    life: u64,
    wake_ms: u64,
    held: BTreeMap<MediaPath, Content>,
    partials: BTreeSet<Content>,
    /// Transfers from the cloud under way.
    at_work: BTreeMap<EffectId, Transfer>,
    /// The wall clock is off by so much.
    wall_off_ms: i64,
    /// The monotonic clock is faster by so many thousandths.
    drift_permille: i64,
}

/// A transfer from the cloud under way.
#[derive(Clone, Copy)]
struct Transfer {
    content: Content,
    /// The claim that it was begun under: its epoch, and when it was written.
    epoch: u64,
    stamp: Stamp,
    begun_ms: u64,
    /// Since when its node knows of a claim under a higher epoch that stands.
    outdone_since_ms: Option<u64>,
}

#[derive(Clone)]
enum Happening {
    Arrives { to: usize, from: usize, frame: Vec<u8> },
    Moves { node: usize, life: u64, id: EffectId, bytes: u64, left_ms: u64 },
    Ends { node: usize, life: u64, id: EffectId, outcome: Outcome },
    Input { node: usize, life: u64, input: Input },
    Starts { node: usize },
}

/// Nobody lies here.
struct AnyKeys;

impl Keys for AnyKeys {
    fn sign(&self, _: &[u8]) -> Signature {
        Signature([0; 64])
    }
    fn verify(&self, _: &ClientId, _: &[u8], _: &Signature) -> bool {
        true
    }
}

#[derive(Debug)]
struct Paths(BTreeSet<MediaPath>);

impl Coverage for Paths {
    fn presence(&self, path: &MediaPath) -> Presence {
        if self.0.contains(path) { Presence::Seen } else { Presence::NotSeen }
    }
}

impl ClaimWorld {
    /// So many nodes, and an item for each of the contents. Nodes run and hear each other.
    pub fn new(seed: u64, nodes: usize, contents: &[Content], bug: Option<Bug>) -> Self {
        let mut world = Self::stopped(seed, nodes, contents, bug);
        (0..nodes).for_each(|n| world.start(n));
        world
    }

    /// The same, with no node running yet.
    pub fn stopped(seed: u64, nodes: usize, contents: &[Content], bug: Option<Bug>) -> Self {
        let node = |n: usize| Node {
            id: ClientId([n as u8 + 1; 32]),
            engine: None,
            store: MemoryStore::planted(Planted(bug)),
            life: 0,
            wake_ms: u64::MAX,
            held: BTreeMap::new(),
            partials: BTreeSet::new(),
            at_work: BTreeMap::new(),
            wall_off_ms: 0,
            drift_permille: 0,
        };
        let rows: Vec<_> = contents.iter().enumerate().map(|(n, content)| row(n, *content)).collect();
        let mut catalog = Catalog::default();
        (0..nodes).for_each(|n| catalog.admit(node(n).id));
        rows.iter().for_each(|row| catalog.enter(row.clone()));
        Self {
            catalog,
            manners: Manners::default(),
            cuts: BTreeSet::new(),
            mended_ms: 0,
            hung: BTreeSet::new(),
            cloud_away: false,
            fetches: BTreeMap::new(),
            saves: 0,
            asleep: BTreeMap::new(),
            words: 0,
            broken: Vec::new(),
            log: Vec::new(),
            choices: None,
            bug,
            nodes: (0..nodes).map(node).collect(),
            items: rows.iter().fold(BTreeMap::new(), |mut items: BTreeMap<_, Vec<_>>, row| {
                items.entry(row.content).or_default().push(row.item);
                items
            }),
            contents: rows.into_iter().map(|row| (row.item, row.content)).collect(),
            now_ms: 10_000,
            random: Random::new(seed),
            happenings: BTreeMap::new(),
            sequence: 0,
            highest: BTreeMap::new(),
            standing: BTreeMap::new(),
            believed: BTreeMap::new(),
        }
    }

    /// Lets somebody else decide what the manners leave open.
    pub fn decide(&mut self, choices: Box<dyn Choices>) {
        self.choices = Some(choices);
    }

    /// A node's engine, while it runs.
    pub fn engine(&self, n: usize) -> Option<&Engine<MemoryStore<Planted>>> {
        self.nodes[n].engine.as_ref()
    }

    /// How many items' files a node has.
    pub fn files(&self, n: usize) -> usize {
        self.nodes[n].held.len()
    }

    /// The time, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// A number below `bound`.
    pub fn chance(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// The first node with a transfer from the cloud under way.
    pub fn worker(&self) -> Option<usize> {
        self.nodes.iter().position(|node| !node.at_work.is_empty())
    }

    /// Whether a node has a transfer from the cloud under way.
    pub fn is_at_work(&self, n: usize) -> bool {
        !self.nodes[n].at_work.is_empty()
    }

    /// Sets a node's clocks: how far its wall clock is off, and how much faster its monotonic clock goes.
    pub fn set_clock(&mut self, n: usize, wall_off_ms: i64, drift_permille: i64) {
        self.nodes[n].wall_off_ms = wall_off_ms;
        self.nodes[n].drift_permille = drift_permille;
    }

    /// Cuts a node off from all others, or lets it back.
    pub fn isolate(&mut self, n: usize, cut: bool) {
        for other in (0..self.nodes.len()).filter(|other| *other != n) {
            for way in [(n, other), (other, n)] {
                if cut {
                    self.cuts.insert(way)
                } else {
                    self.cuts.remove(&way)
                };
            }
        }
        self.mended_ms = self.now_ms;
    }

    /// Starts a node over what its last life left.
    pub fn start(&mut self, n: usize) {
        let (random, now) = (self.random.next_u64(), self.clock(n));
        let node = &mut self.nodes[n];
        node.life += 1;
        let config = Config {
            me: node.id,
            name: format!("node{}", n + 1),
            source_server: String::new(),
            lease_ms: LEASE_MS,
            quiet_ms: 500,
            poll_ms: 500,
            listen_ms: LISTEN_MS,
            scan_interval_ms: 1 << 40,
            uploads_max: 4,
            downloads_max: 8,
            follow_deletions: false,
            old_root: false,
            brake: tcat_engine::engine::BrakeLimits::default(),
            horizon_ms: 90 * 86_400_000,
            manual_import: false,
        };
        let store = std::mem::replace(&mut node.store, MemoryStore::planted(Planted(self.bug)));
        match Engine::open(store, config, Box::new(AnyKeys), now, random) {
            Ok(engine) => node.engine = Some(engine),
            Err(error) => panic!("node {n} does not start: {error}"),
        }
        self.drain(n);
        for other in 0..self.nodes.len() {
            if other != n && self.nodes[other].engine.is_some() {
                self.input(n, Input::Connected(self.nodes[other].id));
                self.input(other, Input::Connected(self.nodes[n].id));
            }
        }
    }

    /// Kills a node: its store, its files and its partial files survive.
    pub fn crash(&mut self, n: usize) {
        let Some(engine) = self.nodes[n].engine.take() else { return };
        let node = &mut self.nodes[n];
        node.store = engine.into_store();
        node.life += 1;
        node.wake_ms = u64::MAX;
        node.at_work.clear();
        self.log.push(format!("{} node{} crashes", self.now_ms, n + 1));
        let id = self.nodes[n].id;
        for other in (0..self.nodes.len()).filter(|other| *other != n) {
            self.input(other, Input::Disconnected(id));
        }
    }

    /// Suspends a node: it takes nothing until then, and its clock goes on.
    pub fn suspend(&mut self, n: usize, ms: u64) {
        self.asleep.insert(n, self.now_ms + ms);
        self.nodes[n].wake_ms = self.nodes[n].wake_ms.max(self.now_ms + ms);
    }

    /// A person saves a file, and the node's watcher sees it.
    pub fn save(&mut self, n: usize, path: &str, content: Content) {
        let Ok(path) = MediaPath::parse(path) else { return };
        self.nodes[n].held.insert(path.clone(), content);
        self.saves += 1;
        // Somebody wrote it: its stat is another.
        let stat = FileStat { size: content.size, mtime_ns: self.saves, ..FileStat::default() };
        let observations = vec![Observation { path, seen: Seen::File { content, stat } }];
        let since_ms = self.clock(n).mono_ms + 1;
        self.input(n, Input::Observed { since_ms, observations });
    }

    /// A person at a node wants what is parked tried again.
    pub fn retry(&mut self, n: usize) {
        self.input(n, Input::Retry(None));
    }

    /// All hear each other again.
    pub fn mend(&mut self) {
        self.cuts.clear();
        self.mended_ms = self.now_ms;
    }

    /// Runs for a time, or until something is broken.
    pub fn run_for(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        self.run_until(end_ms, |_| false);
    }

    /// Runs until a condition holds; false if it does not by then.
    pub fn run_until(&mut self, end_ms: u64, holds: impl Fn(&Self) -> bool) -> bool {
        while self.broken.is_empty() && !holds(self) {
            let next = self.happenings.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            let waking = self.nodes.iter().enumerate().map(|(n, node)| (node.wake_ms, n)).min();
            let (wake_ms, n) = waking.unwrap_or((u64::MAX, 0));
            if next.min(wake_ms) >= end_ms {
                self.now_ms = self.now_ms.max(end_ms);
                return false;
            }
            if wake_ms < next {
                self.now_ms = self.now_ms.max(wake_ms);
                self.input(n, Input::Tick);
            } else if let Some(((at, _), happening)) = self.happenings.pop_first() {
                self.now_ms = self.now_ms.max(at);
                self.happen(happening);
            }
        }
        self.broken.is_empty()
    }

    /// Whether every running node has every item's file.
    pub fn all_have_all(&self) -> bool {
        let items = self.contents.len();
        self.nodes.iter().filter(|node| node.engine.is_some()).all(|node| node.held.len() == items)
    }

    /// The same, every node running.
    pub fn all_have_all_and_run(&self) -> bool {
        self.nodes.iter().all(|node| node.engine.is_some()) && self.all_have_all()
    }

    fn clock(&self, n: usize) -> Now {
        let node = &self.nodes[n];
        let wall_ms = (1_700_000_000_000 + self.now_ms).saturating_add_signed(node.wall_off_ms);
        Now { mono_ms: drifted(self.now_ms, node.drift_permille), wall_ms }
    }

    fn later(&mut self, ms: u64, happening: Happening) {
        self.sequence += 1;
        self.happenings.insert((self.now_ms + ms, self.sequence), happening);
    }

    fn choose(&mut self, bound: usize) -> usize {
        self.choices.as_mut().map_or(0, |choices| choices.choose(bound))
    }

    fn happen(&mut self, happening: Happening) {
        let node = match &happening {
            Happening::Arrives { to, .. } => *to,
            Happening::Moves { node, .. }
            | Happening::Ends { node, .. }
            | Happening::Input { node, .. }
            | Happening::Starts { node } => *node,
        };
        if let Some(until_ms) = self.asleep.get(&node).filter(|until_ms| **until_ms > self.now_ms) {
            return self.later(until_ms - self.now_ms, happening);
        }
        match happening {
            Happening::Arrives { to, from, frame } => {
                if let Ok(Some(message)) = Message::decode(&frame) {
                    let said = checks::items_of(&message);
                    self.input(to, Input::Message(self.nodes[from].id, message));
                    self.remember(to, &said);
                }
            }
            Happening::Starts { node } => self.start(node),
            Happening::Input { node, life, input } if self.nodes[node].life == life => {
                self.input(node, input)
            }
            Happening::Moves { node, life, id, bytes, left_ms } if self.nodes[node].life == life => {
                if self.hung.contains(&node) {
                    self.later(PROGRESS_MS, Happening::Moves { node, life, id, bytes, left_ms });
                    return;
                }
                self.check_overlap(node, id);
                self.check_outdone(node, id);
                self.input(node, Input::Progress(id, bytes));
                self.goes_on(node, id, bytes, left_ms.saturating_sub(PROGRESS_MS));
            }
            Happening::Ends { node, life, id, outcome } if self.nodes[node].life == life => {
                // One that was broken off ended already.
                if let Some(Transfer { content, .. }) = self.nodes[node].at_work.remove(&id) {
                    if matches!(outcome, Outcome::Done { .. }) {
                        self.nodes[node].partials.insert(content);
                    }
                    self.input(node, Input::Done(id, outcome));
                }
            }
            _ => {}
        }
    }

    fn goes_on(&mut self, node: usize, id: EffectId, bytes: u64, left_ms: u64) {
        let life = self.nodes[node].life;
        if left_ms <= PROGRESS_MS && !self.hung.contains(&node) {
            let outcome = match self.cloud_away {
                true => Outcome::Failed("the cloud is away".into()),
                false => Outcome::Done { stat: FileStat::default() },
            };
            self.later(left_ms, Happening::Ends { node, life, id, outcome });
        } else {
            self.later(PROGRESS_MS, Happening::Moves { node, life, id, bytes: bytes + 1, left_ms });
        }
    }

    fn input(&mut self, n: usize, input: Input) {
        let now = self.clock(n);
        let Some(engine) = &mut self.nodes[n].engine else { return };
        if let Err(error) = engine.handle(now, input) {
            panic!("node {n} stopped: {error}");
        }
        self.drain(n);
    }

    fn drain(&mut self, n: usize) {
        while let Some(output) = self.nodes[n].engine.as_mut().and_then(Engine::poll_output) {
            self.output(n, output);
        }
    }

    fn output(&mut self, n: usize, output: Output) {
        let life = self.nodes[n].life;
        match output {
            Output::Send(to, message) => self.send(n, to, &message),
            Output::Effect(id, effect) => self.perform(n, id, effect),
            Output::Cancel(id) => {
                if self.nodes[n].at_work.contains_key(&id) {
                    self.log.push(format!("{} node{} breaks off", self.now_ms, n + 1));
                    let outcome = Outcome::Failed("broken off".into());
                    self.later(self.manners.cancel_ms, Happening::Ends { node: n, life, id, outcome });
                }
            }
            Output::ScanAll => {
                let coverage: Arc<dyn Coverage> =
                    Arc::new(Paths(self.nodes[n].held.keys().cloned().collect()));
                self.later(1, Happening::Input { node: n, life, input: Input::Scanned(coverage) });
            }
            Output::Look(paths) => {
                let look = |path: MediaPath| {
                    let held = self.nodes[n].held.get(&path);
                    let seen = held.map_or(Seen::Absent, |content| Seen::File {
                        content: *content,
                        stat: FileStat::default(),
                    });
                    Observation { path, seen }
                };
                let observations = paths.into_iter().map(look).collect();
                let input = Input::Observed { since_ms: self.clock(n).mono_ms, observations };
                self.later(1, Happening::Input { node: n, life, input });
            }
            Output::Rested(_) | Output::Drop(_) => {}
            Output::Event(event) => self.log.push(format!("{} node{} {event:?}", self.now_ms, n + 1)),
            Output::WakeAt(ms) => self.nodes[n].wake_ms = undrifted(ms, self.nodes[n].drift_permille),
        }
    }

    fn send(&mut self, n: usize, to: ClientId, message: &Message) {
        let Some(to) = self.nodes.iter().position(|node| node.id == to) else { return };
        let Ok(frame) = message.encode() else { panic!("a message that cannot be sent") };
        let mut ms = 1 + self.random.below(self.manners.delay_ms_max);
        let mut lost = self.cuts.contains(&(n, to));
        if let Message::Page(page) = message {
            self.words += 1;
            let claims = page.batches.iter().flat_map(|batch| batch.records());
            let claims: Vec<_> = claims.filter_map(|(_, record)| Entry::decode(&record.entry).ok()).collect();
            let own = self.nodes[n].id == page.owner;
            if own {
                let records = page.batches.iter().flat_map(|batch| batch.records());
                let items: Vec<_> = records.map(|(_, record)| record.item).collect();
                items.iter().zip(&claims).for_each(|(item, entry)| self.note_stake(n, item, entry));
            }
            let matters = own && self.choices.is_some();
            // Each choice is asked for only while there is something to choose.
            if matters && self.manners.late > 0 && self.choose(2) == 1 {
                (self.manners.late, ms) = (self.manners.late - 1, LISTEN_MS + LISTEN_MS / 2);
            } else if matters && self.manners.losses > 0 && self.choose(2) == 1 {
                (self.manners.losses, lost) = (self.manners.losses - 1, true);
            }
        }
        if !lost {
            self.later(ms, Happening::Arrives { to, from: n, frame });
        }
    }

    fn perform(&mut self, n: usize, id: EffectId, effect: Effect) {
        let life = self.nodes[n].life;
        if self.manners.crashes > 0
            && self.choices.is_some()
            && !matches!(effect, Effect::ReadFeed { .. } | Effect::VisitRoster(_))
        {
            // Just before an effect begins; back at once, or after others may have taken over.
            let down_ms = [None, Some(1), Some(2 * LEASE_MS)][self.choose(3)];
            if let Some(down_ms) = down_ms {
                self.manners.crashes -= 1;
                self.crash(n);
                self.later(down_ms, Happening::Starts { node: n });
                return;
            }
        }
        let (done, failed) =
            (Outcome::Done { stat: FileStat::default() }, Outcome::Failed("not in this world".into()));
        let outcome = match effect {
            Effect::ReadFeed { after, limit } => match self.catalog.read_feed(after, limit) {
                Ok(page) => Outcome::Feed(Box::new(page)),
                Err(epoch) => Outcome::FeedRestored { epoch },
            },
            Effect::VisitRoster(visit) => Outcome::Roster(self.catalog.visit_roster(&visit, self.now_ms)),
            Effect::Create(new) => match self.catalog.create(&new) {
                Some(created) => Outcome::Created(created),
                None => failed,
            },
            Effect::Intend(_) => done,
            Effect::Put { object, path } => match self.nodes[n].held.get(&path) {
                Some(held) if *held == object.content && self.catalog.put(object.id, *held) => done,
                _ => failed,
            },
            Effect::Commit(commit) => Outcome::Committed(self.catalog.commit(&commit)),
            Effect::Get { content, .. } => return self.begin_get(n, id, content),
            Effect::Fetch { from, content, .. } => {
                let from = self.nodes.iter().position(|node| node.id == from && node.engine.is_some());
                let open =
                    from.filter(|from| !self.cuts.contains(&(n, *from)) && !self.cuts.contains(&(*from, n)));
                match open.is_some_and(|from| self.nodes[from].held.values().any(|held| *held == content)) {
                    true => {
                        self.nodes[n].partials.insert(content);
                        done
                    }
                    false => failed,
                }
            }
            Effect::Borrow { path, content } if self.nodes[n].held.get(&path) == Some(&content) => {
                self.nodes[n].partials.insert(content);
                done
            }
            Effect::Publish(publish) if self.nodes[n].partials.contains(&publish.content) => {
                self.nodes[n].held.insert(publish.path.clone(), publish.content);
                done
            }
            Effect::Untrash { .. } => Outcome::Missing,
            _ => failed,
        };
        let ms = 1 + self.random.below(5);
        self.later(ms, Happening::Input { node: n, life, input: Input::Done(id, outcome) });
    }

    fn begin_get(&mut self, n: usize, id: EffectId, content: Content) {
        *self.fetches.entry(content).or_default() += 1;
        let (epoch, stamp) = self.claim_known(n, n, &content).unwrap_or_default();
        self.log.push(format!("{} node{} begins {content:?} under {epoch}", self.now_ms, n + 1));
        let transfer = Transfer { content, epoch, stamp, begun_ms: self.now_ms, outdone_since_ms: None };
        self.nodes[n].at_work.insert(id, transfer);
        self.goes_on(n, id, 0, self.manners.get_ms);
    }
}
