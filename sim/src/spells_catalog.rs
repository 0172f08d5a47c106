//! What befalls the catalog and its members in a plan: backups, restores, kills, retirements, clones, and brakes.

use crate::plan::Strike;
use crate::world::World;
use tcat_engine::ports::{BrakeAnswer, Effect, Input, Outcome};

impl World {
    /// The strikes that are about the catalog or about who is a member.
    pub(crate) fn strike_at_members(&mut self, strike: &Strike) {
        match strike {
            Strike::BackUpCatalog => {
                self.catalog.back_up();
                self.note_everywhere("catalog", || "is backed up".into());
            }
            Strike::RestoreCatalog => {
                self.catalog.restore();
                // Fences count from what the backup knew.
                self.truth.fences.clear();
                self.note_everywhere("catalog", || "is restored".into());
            }
            Strike::Clone { twin } => self.clone_in_plan(*twin),
            Strike::Retire { node, at } => self.retire(*node, *at),
            Strike::LaterVersion { node } => self.visit(*node),
            Strike::Promote { node } => _ = self.promote(*node),
            Strike::TakenOver { path, epoch } => {
                if let Some(item) = self.catalog.row_at(path).map(|row| row.item) {
                    self.catalog.raise_claim_epoch(&item, *epoch);
                }
            }
            _ => {}
        }
    }

    /// Another machine starts with the key and the database of one that runs.
    fn clone_in_plan(&mut self, twin: usize) {
        let Some(of) = self.nodes[twin].plan.twin_of else { return };
        let Some(copy) = self.nodes[of].engine.as_ref().map(|engine| engine.store().snapshot()) else {
            return;
        };
        if self.nodes[twin].engine.is_some() {
            return;
        }
        self.truth.twins.extend([of, twin]);
        self.nodes[twin].store.put_back(&copy);
        self.nodes[twin].dead = false;
        self.note(twin, "clone", || format!("of node {}", of + 1));
        self.start(twin);
    }

    /// A person at one node retires a member: what that node knows of it is the last that counts.
    pub fn retire(&mut self, node: usize, at: usize) {
        let id = self.id(node);
        let Some(last) = self.engine(at).map(|engine| engine.report().vector.get(&id)) else { return };
        self.catalog.retire(&id, last);
        self.truth.retired.insert(node, last);
        self.tell(at, Input::RosterChanged);
        self.note(node, "retire", || format!("by node {}, up to {last:?}", at + 1));
    }

    /// A person at a node deletes an item everywhere.
    pub(crate) fn kill_in_plan(&mut self, n: usize, path: &str) {
        if self.engine(n).is_none() {
            return;
        }
        let Some(row) = self.at_catalog_of(n, |world| world.catalog.row_at(path).cloned()) else { return };
        let contents: Vec<_> = row.chain.iter().map(|link| link.content).collect();
        // What a person wants gone is not lost when it is.
        self.saved.retain(|(_, saved)| !contents.iter().any(|gone| gone.same_as(saved)));
        self.truth.asked.insert(row.item, contents);
        self.note(n, "kill", || format!("{path} {:?}", row.item));
        self.tell(n, Input::Delete(row.item));
    }

    /// An effect was done: whether an item is gone with it.
    pub(crate) fn witness_kill(&mut self, effect: &Effect, outcome: &Outcome) {
        use tcat_engine::catalog_orders::Killing;
        let (Effect::Kill(_), Outcome::Killed(Killing::Removed(record))) = (effect, outcome) else { return };
        if self.planned && !self.truth.removed.contains_key(&record.item) {
            let gone = |content: &tcat_engine::content::Content| {
                record.contents.iter().any(|gone| gone.same_as(content))
            };
            self.saved.retain(|(_, saved)| !gone(saved));
            self.truth.removed.insert(record.item, record.contents.clone());
        }
    }

    /// A person answers a node's brake.
    pub(crate) fn answer_brake_in_plan(&mut self, n: usize, accept: bool) {
        self.check_burst(n);
        self.answer_brake(n, if accept { BrakeAnswer::Accept } else { BrakeAnswer::Refuse });
    }

    /// Whether what a node does at the end of a run is not looked at: it is dead, deaf, retired, or there are two of it.
    pub(crate) fn is_out(&self, n: usize) -> bool {
        self.is_dead(n)
            || self.deaf.contains(&n)
            || self.truth.retired.contains_key(&n)
            || self.truth.twins.contains(&n)
    }
}
