//! What happens to whole machines: backups, restores, clones, and links that are not there.

use crate::node::Node;
use crate::store::Snapshot;
use crate::world::World;
use tcat_engine::engine::KeptEntry;
use tcat_engine::ports::Input;

impl World {
    /// Ends the connection between two nodes for good; nothing that one sends reaches the other.
    pub fn part(&mut self, a: usize, b: usize) {
        self.cuts.extend([(a, b), (b, a)]);
        let (first, second) = (self.nodes[a].id, self.nodes[b].id);
        self.input(a, Input::Disconnected(second));
        self.input(b, Input::Disconnected(first));
    }

    /// What a backup of a node's database holds now.
    pub fn backup(&mut self, n: usize) -> Snapshot {
        self.crash(n);
        let snapshot = self.nodes[n].store.snapshot();
        self.start(n);
        snapshot
    }

    /// Puts a backup in the place of a node's database; the node must not run.
    pub fn restore(&mut self, n: usize, backup: &Snapshot) {
        self.nodes[n].store.put_back(backup);
    }

    /// Another machine with a node's key and database; returns its number.
    pub fn clone_node(&mut self, n: usize) -> usize {
        let backup = self.backup(n);
        let mut twin = Node::new(n, self.nodes[n].plan.clone(), self.planted, self.fidelity);
        (twin.id, twin.home) = (self.nodes[n].id, self.nodes.len());
        twin.store.put_back(&backup);
        self.nodes.push(twin);
        self.nodes.len() - 1
    }

    /// Every ledger as a node keeps it.
    pub fn ledgers(&mut self, n: usize) -> Vec<KeptEntry> {
        let engine = self.nodes[n].engine.as_mut();
        engine.and_then(|engine| engine.ledgers().ok()).unwrap_or_default()
    }
}
