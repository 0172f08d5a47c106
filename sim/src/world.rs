//! The world: nodes, the network between them, and time.

use crate::catalog::Catalog;
use crate::faults::{Faults, place_of};
use crate::folder::Folder;
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use tcat_engine::batch::{Keys, Signature};
use tcat_engine::content::{Blake3, Content, Md5};
use tcat_engine::engine::{BrakeLimits, Config, Engine};
use tcat_engine::ids::{CacheId, ClientId};
use tcat_engine::message::Message;
use tcat_engine::observation::FileStat;
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::{Bug, Planted};
use tcat_engine::ports::{BrakeAnswer, Effect, EffectId, Event, Input, Now, Outcome, Output};
use tcat_engine::store::MemoryStore;

/// What the network does to messages.
#[derive(Clone, Copy, Debug)]
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
    /// Messages sent so far, but heartbeats, which never end.
    pub words: u64,
    /// Every line that nodes said to people, with time and node.
    pub log: Vec<(u64, usize, Event)>,
    /// Every content that a person saved, and where; not those that the same person has overwritten since, on the
    /// same node, before anything else took their place.
    pub saved: Vec<(usize, Content)>,
    /// How long a node may be away before it is declared absent; from its next start on.
    pub horizon_ms: u64,
    /// The defect that is planted in nodes that start from now on.
    pub planted: Planted,
    /// What nodes are configured with beyond the usual.
    pub options: BTreeMap<usize, NodeOptions>,
    pub(crate) nodes: Vec<Node>,
    now_ms: u64,
    random: Random,
    happenings: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    /// The number of the next content that a meddling person saves.
    next_content: u64,
}

/// How a node differs from the usual; read when it starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeOptions {
    /// A file that a person deletes is deleted everywhere.
    pub follow_deletions: bool,
    /// The folder is older than the database.
    pub old_root: bool,
}

pub(crate) struct Node {
    pub(crate) id: ClientId,
    pub(crate) engine: Option<Engine<MemoryStore<Planted>>>,
    /// What survived the crash.
    pub(crate) store: MemoryStore<Planted>,
    folder: Folder,
    /// Whose folder is its cache: its own, or that of the node with which it shares it.
    home: usize,
    /// Counts starts: what was under way for an earlier one comes to nothing.
    life: u64,
    wake_ms: u64,
    rested: Option<u64>,
    /// Looks at files are made one after the other: until then one is under way.
    looking_until_ms: u64,
}

impl Node {
    pub(crate) fn new(n: usize) -> Self {
        Node {
            id: ClientId([n as u8 + 1; 32]),
            engine: None,
            store: MemoryStore::planted(Planted(None)),
            folder: Folder::default(),
            home: n,
            life: 0,
            wake_ms: u64::MAX,
            rested: None,
            looking_until_ms: 0,
        }
    }
}

enum Happening {
    Arrives { to: usize, from: ClientId, frame: Vec<u8> },
    Runs { node: usize, life: u64, id: EffectId, effect: Effect },
    Input { node: usize, life: u64, input: Box<Input> },
    Scan { node: usize, life: u64 },
    Look { node: usize, life: u64, paths: Vec<MediaPath> },
}

/// Keys for a world without liars: a tag that names the signer.
struct PaperKeys(ClientId);

impl Keys for PaperKeys {
    fn sign(&self, bytes: &[u8]) -> Signature {
        tag(&self.0, bytes)
    }
    fn verify(&self, client: &ClientId, bytes: &[u8], signature: &Signature) -> bool {
        tag(client, bytes) == *signature
    }
}

fn tag(client: &ClientId, bytes: &[u8]) -> Signature {
    let mut out = [0; 64];
    blake3::Hasher::new_keyed(&client.0).update(bytes).finalize_xof().fill(&mut out);
    Signature(out)
}

/// The content number `n`: different numbers, different bytes.
pub fn content(n: u64) -> Content {
    let digest = *blake3::hash(&n.to_le_bytes()).as_bytes();
    let mut md5 = [0; 16];
    md5.copy_from_slice(&digest[16..]);
    Content { md5: Md5(md5), size: n, blake3: Some(Blake3(digest)) }
}

impl World {
    /// A world of `nodes` nodes, all running and connected.
    pub fn new(seed: u64, nodes: usize, weather: Weather) -> Self {
        Self::planted(seed, nodes, weather, None)
    }

    /// The same, with a planted defect in every engine and in the catalog.
    pub fn planted(seed: u64, nodes: usize, weather: Weather, bug: Option<Bug>) -> Self {
        let planted = Planted(bug);
        let mut world = World {
            catalog: Catalog::planted(planted),
            options: BTreeMap::new(),
            weather,
            faults: Faults::default(),
            // Few files and busy persons: who tests the brake sets its limits.
            brake: BrakeLimits { percent: 100, ..BrakeLimits::default() },
            cuts: BTreeSet::new(),
            orders: 0,
            inputs: 0,
            words: 0,
            log: Vec::new(),
            saved: Vec::new(),
            horizon_ms: 90 * 86_400_000,
            planted,
            nodes: (0..nodes).map(Node::new).collect(),
            now_ms: 1_000,
            random: Random::new(seed),
            happenings: BTreeMap::new(),
            sequence: 0,
            next_content: 1_000_000,
        };
        for n in 0..nodes {
            world.catalog.admit(world.nodes[n].id);
        }
        (0..nodes).for_each(|n| world.start(n));
        world
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

    /// The time, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// A node's files.
    pub fn folder(&self, node: usize) -> &Folder {
        &self.nodes[self.nodes[node].home].folder
    }

    fn home(&mut self, node: usize) -> &mut Folder {
        let home = self.nodes[node].home;
        &mut self.nodes[home].folder
    }

    /// A node's engine, while it runs.
    pub fn engine(&self, node: usize) -> Option<&Engine<MemoryStore<Planted>>> {
        self.nodes[node].engine.as_ref()
    }

    /// A number below `bound` from the world's own chance.
    pub fn chance(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// Starts a node over what its last life left in its store.
    pub fn start(&mut self, n: usize) {
        let random = self.random.next_u64();
        let now = self.clock();
        let options = self.options.get(&n).copied().unwrap_or_default();
        let home = self.nodes[n].home;
        let shared = self.nodes.iter().filter(|node| node.home == home).count() > 1;
        let cache = shared.then_some(CacheId([home as u8 + 1; 16]));
        let node = &mut self.nodes[n];
        node.life += 1;
        let config = Config {
            me: node.id,
            name: format!("node{}", n + 1),
            source_server: format!("node{}", n + 1),
            lease_ms: 2_000,
            quiet_ms: 500,
            poll_ms: 500,
            listen_ms: 100,
            horizon_ms: self.horizon_ms,
            scan_interval_ms: 20_000,
            uploads_max: 4,
            downloads_max: 8,
            manual_import: false,
            follow_deletions: options.follow_deletions,
            old_root: options.old_root,
            brake: self.brake,
        };
        let empty = MemoryStore::planted(self.planted);
        let store = std::mem::replace(&mut node.store, empty).with_plants(self.planted);
        let keys = Box::new(PaperKeys(node.id));
        match Engine::open(store, config, keys, now, random) {
            Ok(engine) => {
                node.engine = Some(match cache {
                    Some(cache) => engine.in_shared_cache(cache),
                    None => engine,
                });
            }
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

    /// Kills a node: only what its store and its folder hold survives.
    pub fn crash(&mut self, n: usize) {
        let Some(engine) = self.nodes[n].engine.take() else { return };
        let id = self.nodes[n].id;
        self.nodes[n].store = engine.into_store();
        self.nodes[n].life += 1;
        self.home(n).crash();
        self.nodes[n].wake_ms = u64::MAX;
        for other in 0..self.nodes.len() {
            if other != n {
                self.input(other, Input::Disconnected(id));
            }
        }
    }

    /// A person changes a file and sets its modification time back; the node's watcher sees it if it runs.
    pub fn edit_keeping_mtime(&mut self, n: usize, path: &str, content: Content) {
        let Ok(path) = MediaPath::parse(path) else { return };
        self.home(n).edit_keeping_mtime(&path, content);
        self.watcher_sees(n, vec![path]);
    }

    /// A person saves a file; the node's watcher sees it if it runs.
    pub fn save(&mut self, n: usize, path: &str, content: Content) {
        let Ok(path) = MediaPath::parse(path) else { return };
        let overwritten = self.home(n).content_at(&path);
        self.forget_saved(n, overwritten);
        self.home(n).save(path.clone(), content);
        self.saved.push((n, content));
        self.watcher_sees(n, vec![path]);
    }

    /// A person at this folder has given a content up.
    fn forget_saved(&mut self, n: usize, gone: Option<Content>) {
        let (nodes, home) = (&self.nodes, self.nodes[n].home);
        self.saved.retain(|(author, saved)| nodes[*author].home != home || Some(*saved) != gone);
    }

    /// A person deletes a file; the node's watcher sees it if it runs.
    pub fn delete(&mut self, n: usize, path: &str) {
        let Ok(path) = MediaPath::parse(path) else { return };
        let deleted = self.home(n).remove(&path);
        self.forget_saved(n, deleted);
        self.watcher_sees(n, vec![path]);
    }

    /// The node that is down loses its database and keeps its folder.
    pub fn wipe(&mut self, n: usize) {
        self.nodes[n].store = MemoryStore::planted(self.planted);
        self.options.entry(n).or_default().old_root = true;
    }

    /// A person deletes the item that has a path, everywhere.
    pub fn kill(&mut self, n: usize, path: &str) {
        let row = self.catalog.rows().find(|row| row.cache_path.as_str() == path).map(|row| row.item);
        if let Some(item) = row {
            self.input(n, Input::Delete(item));
        }
    }

    /// A file is gone, and nobody notices before the next scan.
    pub fn lose(&mut self, n: usize, path: &str) {
        if let Ok(path) = MediaPath::parse(path) {
            self.home(n).remove(&path);
        }
    }

    /// The disk gives other bytes than were written; the next look sees it.
    pub fn rot(&mut self, n: usize, path: &str, content: Content) {
        let Ok(path) = MediaPath::parse(path) else { return };
        self.home(n).rot(&path, content);
        self.watcher_sees(n, vec![path]);
    }

    /// A person gives a file another name, if that is free; the node's watcher sees it if it runs.
    pub fn rename(&mut self, n: usize, path: &str, to: &str) {
        let (Ok(path), Ok(to)) = (MediaPath::parse(path), MediaPath::parse(to)) else { return };
        if self.home(n).content_at(&to).is_none() {
            self.home(n).rename_by_person(&path, to.clone());
            self.watcher_sees(n, vec![path, to]);
        }
    }

    /// A person answers what a node's brake asks.
    pub fn answer_brake(&mut self, n: usize, answer: BrakeAnswer) {
        self.input(n, Input::Brake(answer));
    }

    /// A person saves, deletes or renames a file, as chance has it.
    pub fn meddle(&mut self, n: usize, path: &str) {
        self.next_content += 1;
        match self.random.below(4) {
            0 => self.delete(n, path),
            1 => self.rename(n, path, &format!("renamed {}.jpg", self.next_content)),
            _ => self.save(n, path, content(self.next_content)),
        }
    }

    /// A number that no content had so far.
    pub fn fresh_content(&mut self) -> Content {
        self.next_content += 1;
        content(self.next_content)
    }

    /// Nothing goes wrong any more, and all nodes run and hear each other.
    pub fn heal(&mut self) {
        (self.faults, self.cuts) = (Faults::default(), BTreeSet::new());
        self.weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
        for n in 0..self.nodes.len() {
            if self.nodes[n].engine.is_none() {
                self.start(n);
            }
        }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn watcher_sees(&mut self, node: usize, paths: Vec<MediaPath>) {
        self.mates_see(node, &paths);
        let life = self.nodes[node].life;
        self.later(300, Happening::Look { node, life, paths });
    }

    /// The watchers of all other nodes with the same folder see it too.
    fn mates_see(&mut self, node: usize, paths: &[MediaPath]) {
        let home = self.nodes[node].home;
        for mate in (0..self.nodes.len()).filter(|mate| *mate != node) {
            if self.nodes[mate].home == home {
                let (life, paths) = (self.nodes[mate].life, paths.to_vec());
                self.later(300, Happening::Look { node: mate, life, paths });
            }
        }
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

    fn clock(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: 1_700_000_000_000 + self.now_ms }
    }

    fn later(&mut self, ms: u64, happening: Happening) {
        self.sequence += 1;
        self.happenings.insert((self.now_ms + ms, self.sequence), happening);
    }

    /// Lets the next thing happen, if it happens before `end_ms`.
    fn step(&mut self, end_ms: u64) -> bool {
        let next = self.happenings.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
        let (wake_ms, waking) =
            self.nodes.iter().enumerate().map(|(n, node)| (node.wake_ms, n)).min().unwrap_or((u64::MAX, 0));
        if next.min(wake_ms) >= end_ms {
            return false;
        }
        if wake_ms < next {
            self.now_ms = self.now_ms.max(wake_ms);
            self.input(waking, Input::Tick);
        } else if let Some(((at, _), happening)) = self.happenings.pop_first() {
            self.now_ms = self.now_ms.max(at);
            self.happen(happening);
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives { to, from, frame } => {
                if let Ok(Some(message)) = Message::decode(&frame) {
                    self.input(to, Input::Message(from, message));
                }
            }
            Happening::Input { node, life, input } if self.nodes[node].life == life => {
                self.input(node, *input)
            }
            Happening::Runs { node, life, id, effect } if self.nodes[node].life == life => {
                let outcome = self.perform_among_faults(node, effect);
                let ms = self.random.below(20);
                self.later(ms, Happening::Input { node, life, input: Box::new(Input::Done(id, outcome)) });
            }
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
            // Meant for an earlier life of the node.
            _ => {}
        }
    }

    /// How long another look has to wait, if one is under way.
    fn looking(&self, node: usize) -> Option<u64> {
        let ms = self.nodes[node].looking_until_ms.saturating_sub(self.now_ms);
        (ms > 0).then_some(ms)
    }

    /// Looks now; the engine hears of it later.
    fn look(&mut self, node: usize, life: u64, paths: &[MediaPath]) {
        if self.faults.unmounted == Some(node) {
            return; // the marker of the root is gone: nothing is said
        }
        let observations = paths.iter().map(|path| self.home(node).look(path)).collect();
        let input = Input::Observed { since_ms: self.now_ms, observations };
        let ms = self.looks_for(node, 50);
        self.later(ms, Happening::Input { node, life, input: Box::new(input) });
    }

    fn scan(&mut self, node: usize, life: u64) {
        if self.faults.unmounted == Some(node) {
            let input = Input::ScanFailed("the media folder is gone".into());
            return self.later(1, Happening::Input { node, life, input: Box::new(input) });
        }
        let (observations, coverage) = self.home(node).scan();
        let ms = self.looks_for(node, 200);
        for page in observations.chunks(512) {
            let input = Input::Observed { since_ms: self.now_ms, observations: page.to_vec() };
            self.later(ms, Happening::Input { node, life, input: Box::new(input) });
        }
        self.later(ms, Happening::Input { node, life, input: Box::new(Input::Scanned(coverage)) });
    }

    fn looks_for(&mut self, node: usize, least_ms: u64) -> u64 {
        let ms = self.random.below(least_ms.max(self.faults.look_ms_max));
        self.nodes[node].looking_until_ms = self.now_ms + ms;
        ms
    }

    pub(crate) fn input(&mut self, n: usize, input: Input) {
        let now = self.clock();
        let Some(engine) = &mut self.nodes[n].engine else { return };
        self.inputs += 1;
        if let Err(error) = engine.handle(now, input) {
            panic!("node {n} stopped at {}: {error}", self.now_ms);
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
            Output::Effect(id, effect) => {
                let endless = matches!(effect, Effect::ReadFeed { .. } | Effect::VisitRoster(_));
                self.orders += u64::from(!endless);
                let ms = 1 + self.random.below(100);
                self.later(ms, Happening::Runs { node: n, life, id, effect });
            }
            // Effects of this world are over before anybody could break them off.
            Output::Cancel(_) => {}
            Output::ScanAll => {
                let ms = 1 + self.random.below(50);
                self.later(ms, Happening::Scan { node: n, life });
            }
            Output::Look(paths) => {
                let ms = 1 + self.random.below(20);
                self.later(ms, Happening::Look { node: n, life, paths });
            }
            Output::Drop(client) => self.drop_connection(n, client),
            Output::Rested(id) => self.nodes[n].rested = Some(id),
            Output::Event(event) => self.log.push((self.now_ms, n, event)),
            Output::WakeAt(ms) => self.nodes[n].wake_ms = ms,
        }
    }

    fn drop_connection(&mut self, n: usize, client: ClientId) {
        let id = self.nodes[n].id;
        if let Some(other) = self.nodes.iter().position(|node| node.id == client) {
            self.input(other, Input::Disconnected(id));
        }
    }

    fn send(&mut self, n: usize, to: ClientId, message: &Message) {
        let frame = match message.encode() {
            Ok(frame) => frame,
            Err(error) => panic!("a message that cannot be sent: {error}"),
        };
        self.words += u64::from(!matches!(message, Message::Heartbeat(_) | Message::Life(_)));
        // Two machines with one key both hear what is sent to it.
        let heard: Vec<_> =
            (0..self.nodes.len()).filter(|other| *other != n && self.nodes[*other].id == to).collect();
        for to in heard {
            let copies = match () {
                () if self.cuts.contains(&(n, to)) => 0,
                () if self.random.permille(self.weather.loss_permille) => 0,
                () if self.random.permille(self.weather.twice_permille) => 2,
                () => 1,
            };
            for _ in 0..copies {
                let ms = 1 + self.random.below(self.weather.delay_ms_max);
                let (from, frame) = (self.nodes[n].id, frame.clone());
                self.later(ms, Happening::Arrives { to, from, frame });
            }
        }
    }

    /// Does an effect, or not; says so, or not; and a person may be at its file in the same moment.
    fn perform_among_faults(&mut self, n: usize, effect: Effect) -> Outcome {
        let faults = self.faults;
        let place = place_of(&effect).map(ToString::to_string);
        let to_of_effect = match &effect {
            Effect::SetAside { to, .. } | Effect::Move { to, .. } => Some(to.to_string()),
            _ => None,
        };
        let meddled = faults.meddled_permille > 0 && self.random.permille(faults.meddled_permille);
        let first = meddled && self.random.below(2) == 0;
        if let (true, Some(place)) = (first, &place) {
            self.meddle(n, place);
        }
        if let Effect::Commit(commit) = &effect {
            self.catalog.asked(commit);
        }
        let failed = || Outcome::Failed("a simulated fault".into());
        let outcome = match () {
            () if faults.failed_permille > 0 && self.random.permille(faults.failed_permille) => failed(),
            () if faults.denies(n, &effect) => failed(),
            () => {
                let outcome = self.perform(n, effect);
                let lost = faults.lost_permille > 0 && self.random.permille(faults.lost_permille);
                if lost { failed() } else { outcome }
            }
        };
        if let (true, Some(place)) = (meddled && !first, &place) {
            self.meddle(n, place);
        }
        let seen =
            [place, to_of_effect].into_iter().flatten().filter_map(|path| MediaPath::parse(&path).ok());
        self.mates_see(n, &seen.collect::<Vec<_>>());
        outcome
    }

    fn perform(&mut self, n: usize, effect: Effect) -> Outcome {
        let done = Outcome::Done { stat: FileStat::default() };
        match effect {
            Effect::ReadFeed { after, limit } => match self.catalog.read_feed(after, limit) {
                Ok(page) => Outcome::Feed(Box::new(page)),
                Err(epoch) => Outcome::FeedRestored { epoch },
            },
            Effect::VisitRoster(visit) => Outcome::Roster(self.catalog.visit_roster(&visit, self.now_ms)),
            Effect::Create(new) => match self.catalog.create(&new) {
                Some(created) => Outcome::Created(created),
                None => Outcome::Failed("the revision names another change already".into()),
            },
            Effect::Intend(object) => match self.catalog.intend(&object) {
                true => done,
                false => Outcome::Occupied,
            },
            Effect::Kill(kill) => Outcome::Killed(self.catalog.kill(&kill)),
            Effect::Delete { object } => {
                self.catalog.delete(object);
                done
            }
            Effect::Unsound(order) => Outcome::Committed(self.catalog.unsound(&order)),
            Effect::NewEpoch(order) => Outcome::Epoch(self.catalog.new_epoch(&order)),
            Effect::Offer(offer) => Outcome::Offered(self.catalog.offer(&offer)),
            Effect::Repath(repath) => Outcome::Repathed(self.catalog.repath(&repath)),
            Effect::Put { object, path } => match self.home(n).contents().get(&path).copied() {
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
        let source = self.nodes.iter().position(|node| node.id == from && node.engine.is_some());
        let open = |at: &usize| !self.cuts.contains(&(n, *at)) && !self.cuts.contains(&(*at, n));
        let Some(source) = source.filter(open).map(|at| &self.nodes[at]) else {
            return Outcome::Failed("cannot be reached".into());
        };
        if !self.nodes[source.home].folder.contents().values().any(|held| held.same_as(content)) {
            return Outcome::Missing;
        }
        self.home(n).add_partial(content);
        Outcome::Done { stat: FileStat::default() }
    }
}
