//! One simulated machine: its engine, database, folder and clocks; how it starts, dies and comes back.

use crate::clock::Clock;
use crate::folder::{FULL, Folder};
use crate::plan::{Fidelity, NodePlan};
use crate::random::Stream;
use crate::scanner::Scanner;
use crate::stepping::Steps;
use crate::store::{Ending, Snapshot};
use crate::transfers::UnderWay;
use crate::world::{Happening, NodeStore, World};
use std::collections::BTreeMap;
use tcat_engine::batch::{Keys, Signature};
use tcat_engine::content::{Blake3, Content, Md5};
use tcat_engine::engine::{Config, Engine};
use tcat_engine::ids::{CacheId, ClientId};
use tcat_engine::planted::Planted;
use tcat_engine::ports::{EffectId, Input};

/// How long a file must have been quiet.
pub(crate) const QUIET_MS: u64 = 500;

/// A machine.
pub(crate) struct Node {
    pub(crate) id: ClientId,
    pub(crate) plan: NodePlan,
    pub(crate) engine: Option<Engine<NodeStore>>,
    /// What survived the crash.
    pub(crate) store: NodeStore,
    pub(crate) folder: Folder<Planted>,
    /// What it has under way there.
    pub(crate) steps: Steps,
    /// What it moves.
    pub(crate) under_way: UnderWay,
    /// Whose folder is its cache: its own, or that of the node with which it shares it.
    pub(crate) home: usize,
    pub(crate) clock: Clock,
    /// What its scanner knows.
    pub(crate) scanner: Scanner,
    /// Counts starts: what was under way for an earlier one comes to nothing.
    pub(crate) life: u64,
    /// When it wants to be woken, in true time.
    pub(crate) wake_ms: u64,
    pub(crate) rested: Option<u64>,
    /// Looks at files are made one after the other: until then one is under way.
    pub(crate) looking_until_ms: u64,
    /// Until then it does nothing at all.
    pub(crate) paused_until_ms: u64,
    /// Effects ordered and not answered, and whether each is of those that never end: the feed and the roster.
    pub(crate) in_hand: BTreeMap<EffectId, bool>,
    /// It dies beside an effect: how many come before, whether just before it, and for how long.
    pub(crate) dies_at: Option<(u64, bool, u64)>,
    /// It does not start again.
    pub(crate) dead: bool,
    /// There is no room for its database.
    pub(crate) has_full_disk: bool,
    /// A copy of the database that may come back.
    pub(crate) snapshot: Option<Snapshot>,
}

impl Node {
    pub(crate) fn new(n: usize, plan: NodePlan, bug: Planted, fidelity: Fidelity) -> Self {
        Node {
            id: client(plan.twin_of.unwrap_or(n)),
            clock: Clock::new(plan.clock),
            scanner: Scanner::of(plan.disk_clock),
            home: plan.home.unwrap_or(n),
            // Another's twin lives only once it is cloned.
            dead: plan.twin_of.is_some(),
            plan,
            engine: None,
            store: NodeStore::closed(bug, fidelity),
            folder: Folder::new(FULL, bug),
            steps: Steps::default(),
            under_way: UnderWay::default(),
            life: 0,
            wake_ms: u64::MAX,
            rested: None,
            looking_until_ms: 0,
            paused_until_ms: 0,
            in_hand: BTreeMap::new(),
            dies_at: None,
            has_full_disk: false,
            snapshot: None,
        }
    }
}

/// The id of node `n`.
pub fn client(n: usize) -> ClientId {
    ClientId([n as u8 + 1; 32])
}

/// Keys for a world without liars: a tag that names the signer.
pub(crate) struct PaperKeys(pub(crate) ClientId);

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
    /// Starts a node over what its last life left in its store.
    pub fn start(&mut self, n: usize) {
        let random = self.streams.of(Stream::Start, n).next_u64();
        // Zero in worlds without planned clocks, so that their times are easy to read.
        let boot_ms = if self.planned { random % 100_000_000 } else { 0 };
        let now_ms = self.now_ms();
        let options = self.options.get(&n).copied().unwrap_or_default();
        let home = self.nodes[n].home;
        let shared = self.nodes.iter().filter(|node| node.home == home).count() > 1;
        let cache = shared.then_some(CacheId([home as u8 + 1; 16]));
        if self.nodes[n].dead || self.nodes[n].engine.is_some() || !self.open_store(n) {
            return;
        }
        let kept = self.recover_folder(n);
        let node = &mut self.nodes[n];
        node.life += 1;
        node.in_hand.clear();
        node.clock.boot(boot_ms);
        let config = Config {
            me: node.id,
            name: format!("node{}", n + 1),
            source_server: format!("node{}", n + 1),
            lease_ms: node.plan.lease_ms,
            quiet_ms: QUIET_MS,
            poll_ms: node.plan.poll_ms,
            listen_ms: 100,
            scan_interval_ms: node.plan.scan_interval_ms,
            uploads_max: node.plan.uploads_max.map_or(4, |most| most as usize),
            downloads_max: node.plan.downloads_max.map_or(8, |most| most as usize),
            manual_import: false,
            horizon_ms: self.horizon_ms,
            follow_deletions: options.follow_deletions,
            old_root: options.old_root,
            brake: self.brake,
        };
        let empty = NodeStore::light(self.planted);
        let store = std::mem::replace(&mut node.store, empty);
        let same = store.same();
        let (keys, now) = (Box::new(PaperKeys(node.id)), node.clock.now(now_ms));
        match Engine::open(store, config, keys, now, random) {
            Ok(engine) => {
                node.engine = Some(match cache {
                    Some(cache) => engine.in_shared_cache(cache),
                    None => engine,
                });
            }
            Err(error) => return self.cannot_start(n, same, &error.to_string()),
        }
        self.note(n, "start", String::new);
        self.check_start(n);
        self.drain(n);
        self.begin_watching_trash(n, kept);
        for other in 0..self.nodes.len() {
            if other != n {
                self.meet(n, other);
            }
        }
    }

    /// Two nodes find each other, if both run.
    pub(crate) fn meet(&mut self, a: usize, b: usize) {
        let (id_a, id_b) = (self.id(a), self.id(b));
        if id_a != id_b && self.nodes[a].engine.is_some() && self.nodes[b].engine.is_some() {
            self.tell(a, Input::Connected(id_b));
            self.tell(b, Input::Connected(id_a));
        }
    }

    /// Kills a node: only what its store and its folder hold survives. The others notice at once.
    pub fn crash(&mut self, n: usize) {
        if self.die(n, Ending::PowerCut) {
            self.noticed(n);
        }
    }

    /// The same in any way, and nobody notices yet. Whether it was alive.
    pub(crate) fn die(&mut self, n: usize, how: Ending) -> bool {
        let Some(engine) = self.nodes[n].engine.take() else { return false };
        self.truth.knew.insert(n, engine.report().vector);
        self.note(n, "crash", || format!("{how:?}"));
        let chance = self.streams.of(Stream::Disk, n);
        let node = &mut self.nodes[n];
        node.store = engine.into_store();
        node.store.end(how, chance);
        node.life += 1;
        node.wake_ms = u64::MAX;
        node.paused_until_ms = 0;
        node.dies_at = None;
        node.under_way.end();
        self.leave_folder(n, how);
        true
    }

    /// The others notice that a node is gone.
    pub(crate) fn noticed(&mut self, n: usize) {
        let id = self.nodes[n].id;
        for other in 0..self.nodes.len() {
            if other != n {
                self.tell(other, Input::Disconnected(id));
            }
        }
    }

    /// Kills a node that starts again later; the others notice after a while, unless it is back before.
    pub(crate) fn crash_for(&mut self, n: usize, down_ms: u64, noticed_ms: u64) {
        self.end_for(n, Ending::PowerCut, down_ms, noticed_ms);
    }

    /// The same, and in any way.
    pub(crate) fn end_for(&mut self, n: usize, how: Ending, down_ms: u64, noticed_ms: u64) {
        if !self.die(n, how) {
            return;
        }
        let life = self.nodes[n].life;
        match noticed_ms {
            0 => self.noticed(n),
            _ => self.later(noticed_ms, Happening::Noticed { node: n, life }),
        }
        self.later(down_ms.max(1), Happening::Start { node: n, life });
    }

    /// Nothing goes wrong any more, and all nodes that are not dead run and hear each other.
    pub fn heal(&mut self) {
        (self.faults, self.cuts) = Default::default();
        self.weather = crate::world::Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };
        self.end_spells();
        for n in 0..self.nodes.len() {
            self.nodes[n].dies_at = None;
            self.nodes[n].steps.dies_at = None;
            self.start(n);
        }
    }
}
