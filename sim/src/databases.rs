//! The nodes' databases in a world: what their disks do to them, how they are opened again, and what is found then.
//!
//! Holds always: a node whose database failed because its disk did ends at once and is started again later; a
//! database that fails without such a trouble is a finding (S0). At each opening of a database on a disk what it
//! holds is compared with what was acknowledged (S3) and with every state that it had (S4). Light databases are what
//! they are told: there is nothing to compare. Not here: the disk itself (`disk`) and the comparison (`store`).

use crate::checks::{Invariant, found};
use crate::disk::Trouble;
use crate::plan::Spell;
use crate::random::{Random, Stream};
use crate::store::{Breach, Ending};
use crate::world::{Happening, NodeStore, World};

impl World {
    /// Opens the database of a node that is about to start; false if it has to be tried again later.
    pub(crate) fn open_store(&mut self, n: usize) -> bool {
        let doubts = self.nodes[n].store.doubts();
        self.nodes[n].store.plant(self.planted);
        let opened = self.nodes[n].store.open();
        let now = self.nodes[n].store.doubts();
        if now.kept > doubts.kept {
            self.goals.met("commit-in-doubt-kept");
        }
        if now.lost > doubts.lost {
            self.goals.met("commit-in-doubt-lost");
        }
        let breach = match opened {
            Ok(()) => None,
            Err(why @ Breach::Refused(_)) if self.nodes[n].store.is_troubled() => {
                self.note(n, "database", || why.to_string());
                self.start_later(n);
                return false;
            }
            Err(breach) => Some(breach),
        };
        self.check_opened(n, breach.as_ref());
        self.fill_disk(n);
        !matches!(breach, Some(Breach::Refused(_)))
    }

    fn check_opened(&mut self, n: usize, breach: Option<&Breach>) {
        if !self.nodes[n].store.is_full() {
            return;
        }
        if let Some(breach) = breach {
            assert!(self.planned, "node {n} at {}: {breach}", self.now_ms());
        }
        let now_ms = self.now_ms();
        for invariant in [Invariant::S3, Invariant::S4] {
            let holds = breach.is_none_or(|breach| breach.invariant() != invariant.id());
            self.book.check(invariant, holds, || {
                let text = breach.map_or(String::new(), |breach| format!("node {}: {breach}", n + 1));
                found(now_ms, &[n], &[], text)
            });
        }
    }

    /// An engine has stopped: since its disk failed it, or though it never should.
    pub(crate) fn broke(&mut self, n: usize, why: &str) {
        let is_troubled = self.nodes[n].engine.as_ref().is_some_and(|engine| engine.store().is_troubled());
        if !is_troubled {
            return self.stopped(n, why);
        }
        self.goals.met("database-failed");
        self.note(n, "database", || why.into());
        let (how, down_ms) = self.failed_ending(n);
        self.end_for(n, how, down_ms, 0);
    }

    /// An engine did not start over its database. `same` is that database.
    pub(crate) fn cannot_start(&mut self, n: usize, same: Option<NodeStore>, why: &str) {
        match same.filter(NodeStore::is_troubled) {
            Some(store) => {
                self.note(n, "database", || why.into());
                self.nodes[n].store = store;
                self.start_later(n);
            }
            None => self.stopped(n, why),
        }
    }

    fn start_later(&mut self, n: usize) {
        self.goals.met("database-failed");
        let (how, down_ms) = self.failed_ending(n);
        let chance = self.streams.of(Stream::Disk, n);
        self.nodes[n].store.end(how, chance);
        if how == Ending::PowerCut {
            self.cut_folder(n);
        }
        let life = self.nodes[n].life;
        self.later(down_ms, Happening::Start { node: n, life });
    }

    /// How a process ends whose database failed, and when it is started again.
    fn failed_ending(&mut self, n: usize) -> (Ending, u64) {
        let node = &self.nodes[n];
        let store = node.engine.as_ref().map_or(&node.store, |engine| engine.store());
        let is_cut = store.disk().is_some_and(|disk| disk.is_cut());
        let random = self.streams.of(Stream::Disk, n);
        let how = match random.below(2) {
            _ if is_cut => Ending::PowerCut,
            0 => Ending::Kill,
            _ => Ending::Stop,
        };
        (how, random.between(50, 4_000))
    }

    /// The disk of a node's database will do something to it.
    pub(crate) fn arm_disk(&mut self, n: usize, trouble: Trouble, passes: u64) {
        self.note(n, "fault", || format!("the disk of the database: {trouble:?} after {passes} more"));
        let chance = Random::new(self.streams.of(Stream::Disk, n).next_u64());
        self.store(n).arm(trouble, passes, chance);
    }

    /// Spells have begun or ended: disks are full, or no longer.
    pub(crate) fn fill_disks(&mut self) {
        for n in 0..self.len() {
            self.fill_disk(n);
        }
    }

    fn fill_disk(&mut self, n: usize) {
        let is_full = self.spells.iter().any(|(_, _, spell)| *spell == Spell::DatabaseFull { node: n });
        if is_full != self.nodes[n].has_full_disk {
            self.nodes[n].has_full_disk = is_full;
            self.store(n).set_disk_full(is_full);
        }
    }

    /// Nothing happens to any disk any more.
    pub(crate) fn calm_disks(&mut self) {
        for n in 0..self.len() {
            self.nodes[n].has_full_disk = false;
            self.store(n).calm();
        }
    }

    /// A node's database, whether it runs or not.
    fn store(&self, n: usize) -> &NodeStore {
        let node = &self.nodes[n];
        node.engine.as_ref().map_or(&node.store, |engine| engine.store())
    }
}
