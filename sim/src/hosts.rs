//! Worlds without a server: the catalog and the objects live at one of the nodes, the host, and another can be promoted.
//!
//! Holds always: who is host for a node is what it has heard, and it hears with every message; which of two hosts rules
//! the engine's rule says ([`tcat_engine::hosts`]). So while nodes do not hear each other two hosts can be in use, and
//! each takes commits. A promoted host begins with the roster that it has read, and with nothing else; a host that hears
//! of one that rules is host no longer, reads its own catalog to the end, and then works with the other's. Outside of
//! effects [`World::catalog`] is the catalog of the host that rules, by which everything is judged in the end.
//! Not here: a demoted host's old objects, which are out of reach; signatures of claims.

use crate::catalog::Catalog;
use crate::random::Stream;
use crate::spells::failed;
use crate::world::{Happening, World};
use tcat_engine::catalog::{CatalogEpoch, CatalogRow, FeedChange, RowState};
use tcat_engine::catalog_orders::{Offer, Unsound};
use tcat_engine::hosts::{gives_way, rank};
use tcat_engine::planted::Planted;
use tcat_engine::ports::{Effect, Outcome};
use tcat_engine::roster::RosterMember;

/// How often a host looks whether all objects are there.
pub(crate) const LOOK_MS: u64 = 5_000;

/// "This node is host, and its catalog's epoch has this number."
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    epoch: u64,
    host: usize,
}

/// The hosts of a world.
pub(crate) struct Hosts {
    /// All catalogs that there ever were; that which [`World::catalog`] is now is not here meanwhile.
    catalogs: Vec<Option<Catalog>>,
    /// Which of them that is.
    shown: usize,
    nodes: Vec<Hosted>,
}

/// A node of a world with a host.
struct Hosted {
    /// Whom it goes by.
    known: Claim,
    /// The catalog that it keeps as host.
    keeps: Option<usize>,
    /// The catalog that it kept, until it has read all of it.
    leaves: Option<usize>,
    /// The roster as it was read last.
    roster: Vec<RosterMember>,
}

impl World {
    /// This node is host from the beginning.
    pub(crate) fn keep_catalog_at(&mut self, host: usize) {
        let known = Claim { epoch: self.catalog.epoch().number, host };
        let hosted = |n| Hosted { known, keeps: (n == host).then_some(0), leaves: None, roster: Vec::new() };
        let nodes = (0..self.len()).map(hosted).collect();
        self.hosts = Some(Hosts { catalogs: vec![None], shown: 0, nodes });
        self.later(LOOK_MS, Happening::Soundness { catalog: 0 });
    }

    /// Whether a node keeps the catalog.
    pub(crate) fn is_hosted(&self) -> bool {
        self.hosts.is_some()
    }

    /// What a node says of the host with every message.
    pub(crate) fn claim_of(&self, n: usize) -> Option<Claim> {
        self.hosts.as_ref().map(|hosts| hosts.nodes[n].known)
    }

    /// A node hears of a host.
    pub(crate) fn hear_claim(&mut self, n: usize, heard: Option<Claim>) {
        let (Some(heard), Some(known)) = (heard, self.claim_of(n)) else { return };
        let [is, would_be] = [known, heard].map(|claim| (claim.epoch, self.id(claim.host)));
        if heard.epoch == known.epoch && heard.host != known.host {
            self.goals.met("hosts-tied");
        }
        if !gives_way(is, would_be, &self.planted) {
            return;
        }
        let Some(hosts) = &mut self.hosts else { return };
        let node = &mut hosts.nodes[n];
        node.known = heard;
        if heard.host != n
            && let Some(kept) = node.keeps.take()
        {
            node.leaves = Some(kept);
            self.goals.met("host-demoted");
            self.note(n, "demoted", || format!("node {} is host, epoch {}", heard.host + 1, heard.epoch));
        }
        self.show_ruling();
    }

    /// A person makes a node host: with an empty catalog and the roster that it has read. Whether it was done.
    pub(crate) fn promote(&mut self, n: usize) -> bool {
        let number = 1 + self.claim_of(n).map_or(0, |claim| claim.epoch);
        let id = self.id(n);
        let mut random = [0; 16];
        random[..8].copy_from_slice(&self.streams.of(Stream::Start, n).next_u64().to_be_bytes());
        let (runs, planted) = (self.nodes[n].engine.is_some(), self.planted);
        let Some(hosts) = &mut self.hosts else { return false };
        let (catalog, node) = (hosts.catalogs.len(), &mut hosts.nodes[n]);
        let listed = node.roster.iter().any(|member| member.client == id);
        if !runs || !listed || node.keeps.is_some() || node.leaves.is_some() {
            return false;
        }
        let epoch = CatalogEpoch { number, id: random };
        hosts.catalogs.push(Some(Catalog::promoted(planted, epoch, node.roster.clone(), catalog as u8)));
        (node.keeps, node.known) = (Some(catalog), Claim { epoch: number, host: n });
        self.note(n, "promoted", || format!("epoch {number}"));
        self.later(LOOK_MS, Happening::Soundness { catalog });
        self.show_ruling();
        true
    }

    /// The keeper of a catalog looks whether each item has its object there, now and then; of those that are missing the
    /// catalog is told, so that whoever holds the content brings it.
    pub(crate) fn look_for_objects(&mut self, catalog: usize) {
        let Some(hosts) = &self.hosts else { return };
        let Some(host) = hosts.nodes.iter().position(|node| node.keeps == Some(catalog)) else { return };
        self.later(LOOK_MS, Happening::Soundness { catalog });
        if self.nodes[host].engine.is_none() || self.nodes[host].paused_until_ms > self.now_ms() {
            return;
        }
        let author = self.id(host);
        self.at_catalog_of(host, |world| {
            let epoch = world.catalog.epoch();
            let is_missing = |row: &&CatalogRow| {
                row.state == RowState::Active && !world.catalog.objects().contains_key(&row.object_name())
            };
            let missing: Vec<_> = world.catalog.rows().filter(is_missing).cloned().collect();
            for row in missing {
                let (item, revision, object) = (row.item, row.revision, row.object_name());
                world.catalog.unsound(&Unsound { item, revision, object, catalog_epoch: epoch, author });
            }
        });
    }

    /// At the end of a run, where the host that all know is not there: a person promotes another.
    pub(crate) fn promote_for_the_dead(&mut self) {
        let core: Vec<_> = (0..self.len()).filter(|n| !self.is_out(*n)).collect();
        let Some(hosts) = &self.hosts else { return };
        let has_catalog = |n: usize| hosts.nodes[n].keeps.or(hosts.nodes[n].leaves).is_some();
        if (0..self.len()).any(|n| self.is_dead(n) && has_catalog(n)) {
            // What was removed there alone, and nobody else has read, is lost with it.
            self.truth.removed.clear();
        }
        let is_served = |n: &usize| hosts.nodes[hosts.nodes[*n].known.host].keeps.is_some();
        let there = |n: &usize| core.contains(&hosts.nodes[*n].known.host) && is_served(n);
        if core.iter().all(there) {
            return;
        }
        // One after the other, until one has read a roster: a node that never did knows nobody.
        let _ = core.iter().any(|n| self.promote(*n));
    }

    /// The number of the catalog that a node works with.
    fn catalog_of(&self, n: usize) -> Option<usize> {
        let hosts = self.hosts.as_ref()?;
        let node = &hosts.nodes[n];
        node.leaves.or(hosts.nodes[node.known.host].keeps)
    }

    /// Which catalog is at hand.
    pub(crate) fn shown_catalog(&self) -> usize {
        self.hosts.as_ref().map_or(0, |hosts| hosts.shown)
    }

    fn show(&mut self, catalog: usize) {
        let Some(hosts) = &mut self.hosts else { return };
        let Some(wanted) = hosts.catalogs.get_mut(catalog).and_then(Option::take) else { return };
        hosts.catalogs[hosts.shown] = Some(std::mem::replace(&mut self.catalog, wanted));
        hosts.shown = catalog;
    }

    /// The catalog of the host that rules is at hand from now on: of those that are not dead.
    pub(crate) fn show_ruling(&mut self) {
        let Some(hosts) = &self.hosts else { return };
        let keeps = |n: usize| Some((rank(hosts.nodes[n].known.epoch, self.id(n)), hosts.nodes[n].keeps?));
        let ruling = (0..self.len()).filter(|n| !self.is_dead(*n)).filter_map(keeps).max();
        if let Some((_, catalog)) = ruling {
            self.show(catalog);
        }
    }

    /// Does something while the catalog that a node works with is at hand.
    pub(crate) fn at_catalog_of<T>(&mut self, n: usize, act: impl FnOnce(&mut Self) -> T) -> T {
        let Some(catalog) = self.catalog_of(n) else { return act(self) };
        let before = self.shown_catalog();
        self.show(catalog);
        let done = act(self);
        self.show(before);
        done
    }

    /// The host of a node is asked; one that is none says who is.
    pub(crate) fn ask_host(&mut self, n: usize) {
        let Some(Claim { host, .. }) = self.claim_of(n) else { return };
        if host == n {
            let Some(hosts) = &mut self.hosts else { return };
            if let Some(catalog) = hosts.nodes[n].keeps {
                let kept = hosts.catalogs[catalog].as_ref().unwrap_or(&self.catalog);
                // A catalog that was restored is at a later epoch by now.
                let epoch = &mut hosts.nodes[n].known.epoch;
                *epoch = kept.epoch().number.max(*epoch);
            }
        } else if self.hears(n, host) {
            self.hear_claim(n, self.claim_of(host));
        }
    }

    /// Whether a node is connected with another that runs.
    fn hears(&self, n: usize, host: usize) -> bool {
        let there = &self.nodes[host];
        let awake = there.engine.is_some() && there.paused_until_ms <= self.now_ms();
        host == n || awake && !self.is_cut(n, host) && !self.is_cut(host, n)
    }

    /// Why a node does not reach the catalog of its host, if it does not.
    pub(crate) fn host_refuses(&self, n: usize, reads_feed: bool) -> Option<Outcome> {
        let hosts = self.hosts.as_ref()?;
        let node = &hosts.nodes[n];
        if node.leaves.is_some() {
            return (!reads_feed).then(|| failed("it was host, and reads its old catalog to the end"));
        }
        let is_host = hosts.nodes[node.known.host].keeps.is_some();
        (!is_host || !self.hears(n, node.known.host)).then(|| failed("its host is not connected"))
    }

    /// A node gets an answer: perhaps the end of the catalog that it kept.
    pub(crate) fn hear_answer(&mut self, n: usize, outcome: &Outcome) {
        let Some(hosts) = &mut self.hosts else { return };
        let Some(left) = hosts.nodes[n].leaves else { return };
        let catalog = hosts.catalogs[left].as_ref().unwrap_or(&self.catalog);
        let is_end = match outcome {
            Outcome::Feed(page) => {
                page.through.epoch == catalog.epoch() && page.through.number == catalog.changes() as u64
            }
            // It was restored: its node knows more than it does.
            Outcome::FeedRestored { .. } => true,
            _ => false,
        };
        if is_end {
            hosts.nodes[n].leaves = None;
        }
    }

    /// A node has read the roster.
    pub(crate) fn keep_roster(&mut self, n: usize, roster: &[RosterMember]) {
        if let Some(hosts) = &mut self.hosts {
            hosts.nodes[n].roster = roster.to_vec();
        }
    }

    /// An effect was done at a catalog: two hosts at a time, or what one took that ruled no longer.
    pub(crate) fn witness_hosts(&mut self, effect: &Effect, before: Option<bool>) {
        let Some(hosts) = &self.hosts else { return };
        let others = hosts.nodes.iter().filter(|node| node.keeps.is_some()).count() > 1;
        if let (Effect::Commit(_), true) = (effect, others) {
            self.goals.met("two-hosts");
        }
        if before == Some(true) {
            self.goals.met("fork-given-back");
        }
    }

    /// Whether an offer has a row that went another way than the catalog's.
    pub(crate) fn is_forked(&self, offer: &Offer) -> bool {
        offer.facts.iter().any(|fact| {
            let FeedChange::Row(row) = fact else { return false };
            let present = self.catalog.row(&row.item);
            present.is_some_and(|is| !is.chain_has(&row.revision) && !row.chain_has(&is.revision))
        })
    }

    /// How many changes there were in all catalogs.
    pub(crate) fn changes_of_all(&self) -> usize {
        let others = self.hosts.iter().flat_map(|hosts| hosts.catalogs.iter().flatten());
        self.catalog.changes() + others.map(Catalog::changes).sum::<usize>()
    }

    /// What must not happen, and did at a catalog that does not rule.
    pub(crate) fn happened_elsewhere(&self) -> Vec<String> {
        let others = self.hosts.iter().flat_map(|hosts| hosts.catalogs.iter().flatten());
        others.flat_map(|catalog| catalog.happened().iter().cloned()).collect()
    }

    /// Of the nodes, those that do not go by the host that rules; none where there is no host.
    pub(crate) fn astray(&self, core: &[usize]) -> Vec<usize> {
        let astray = |n: &usize| self.catalog_of(*n) != Some(self.shown_catalog());
        match self.hosts {
            Some(_) => core.iter().copied().filter(astray).collect(),
            None => Vec::new(),
        }
    }
}

impl Catalog {
    /// The catalog of a host that was promoted, the `number`-th of its world.
    fn promoted(plants: Planted, epoch: CatalogEpoch, roster: Vec<RosterMember>, number: u8) -> Self {
        let mut catalog = Self::planted(plants);
        catalog.begin_at(epoch, roster, number);
        catalog
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Weather;

    const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };

    #[test]
    fn what_the_old_host_had_is_given_to_the_promoted_one() {
        let mut world = World::new(1, 3, FAIR);
        world.keep_catalog_at(0);
        let content = world.fresh_content();
        world.save(1, "a.jpg", content);
        world.run_for(10_000);
        world.crash(0);
        assert!(world.promote(1));
        assert_eq!(world.catalog.rows().count(), 0);
        world.run_for(30_000);
        world.start(0);
        world.run_for(60_000);
        assert_eq!(world.catalog.rows().count(), 1);
        assert!(world.catalog.rows().all(|row| world.catalog.object_is_sound(row)));
        assert_eq!(world.astray(&[0, 1, 2]), Vec::<usize>::new());
    }
}
