//! S1, S5, S6 (the catalog's side) and S7 (objects): what each accepted commit or creation must keep.

use super::{Invariant, found};
use crate::plan::{Deed, Item, Spell, What};
use crate::world::World;
use std::collections::BTreeSet;
use tcat_engine::catalog::{CatalogRow, Commit, Committed, Created};
use tcat_engine::ports::{Effect, Outcome};

/// What the catalog itself watches over all its lives.
const WATCHED: [Invariant; 7] =
    [Invariant::S1, Invariant::S2, Invariant::S5, Invariant::S6, Invariant::S7, Invariant::S8, Invariant::S9];

impl World {
    /// What happened in the catalog's sight and must not, also in a run that never comes to rest.
    pub(crate) fn check_what_happened(&mut self) {
        let mut broken = self.catalog.happened().to_vec();
        broken.extend(self.happened_elsewhere());
        self.enter_broken(broken);
    }

    /// S6: in the end all that are there work with one catalog, and it is that of the host that rules.
    pub(crate) fn check_hosts(&mut self) {
        let core: Vec<_> = (0..self.len()).filter(|n| !self.is_out(*n)).collect();
        let (astray, now_ms) = (self.astray(&core), self.now_ms());
        self.book.check(Invariant::S6, astray.is_empty(), || {
            let names: Vec<_> = astray.iter().map(|n| n + 1).collect();
            found(
                now_ms,
                &astray,
                &[],
                format!("nodes {names:?} work with a catalog of a host that does not rule"),
            )
        });
    }

    /// The catalog's own memory of what must not happen, and what must not be so at rest.
    pub(crate) fn check_catalogs_memory(&mut self) {
        let mut broken = self.catalog.violations();
        if self.has_one_author() {
            broken.extend(self.catalog.unanswered());
        }
        self.enter_broken(broken);
    }

    fn enter_broken(&mut self, mut broken: Vec<String>) {
        let now_ms = self.now_ms();
        broken.extend(self.catalog.reused.iter().map(|dot| format!("S2: {dot:?} stands for two contents")));
        for invariant in WATCHED {
            let of = |text: &&String| text.split(':').next() == Some(invariant.id());
            let text = broken.iter().find(of);
            self.book.check(invariant, text.is_none(), || {
                found(now_ms, &[], &[], text.cloned().unwrap_or_default())
            });
        }
    }

    /// Whether one person at one node saves and nobody does anything else: then each step that was ever to be committed
    /// is entered. Others may delete what is not entered yet, or give it up in a conflict.
    fn has_one_author(&self) -> bool {
        let mut authors = BTreeSet::new();
        let saves = |item: &Item| match &item.what {
            What::Deed(Deed::Save { node, .. }) => {
                authors.insert(*node);
                true
            }
            What::Deed(_) | What::Strike(_) => false,
            What::Spell { fault, .. } => matches!(fault, Spell::Effects { .. }),
        };
        self.planned && self.items.iter().all(saves) && authors.len() == 1
    }

    /// A catalog effect was done; `before` is the row as it was.
    pub(crate) fn check_catalog(
        &mut self,
        n: usize,
        effect: &Effect,
        before: Option<CatalogRow>,
        outcome: &Outcome,
    ) {
        match (effect, outcome) {
            (Effect::Commit(commit), Outcome::Committed(Committed::Row(row))) => {
                let changed = before.as_ref().is_none_or(|before| before != &**row);
                if changed {
                    self.check_commit(n, commit, row, before.as_ref());
                }
            }
            (Effect::Create(_), Outcome::Created(Created::Row(row))) if before.is_none() => {
                self.check_steps(n, row, 0);
            }
            _ => {}
        }
    }

    fn check_commit(&mut self, n: usize, commit: &Commit, row: &CatalogRow, before: Option<&CatalogRow>) {
        let (now_ms, item, catalog) = (self.now_ms(), commit.item, self.shown_catalog());
        let highest = self.truth.fences.get(&(catalog, item)).copied().unwrap_or(0);
        self.book.check(Invariant::S1, commit.claim_epoch >= highest, || {
            let text = format!("{item:?} was committed with epoch {} after {highest}", commit.claim_epoch);
            found(now_ms, &[n], &[item], text)
        });
        self.truth.fences.insert((catalog, item), highest.max(commit.claim_epoch));
        let sound = self.catalog.object_is_sound(row);
        self.book.check(Invariant::S7, sound, || {
            found(now_ms, &[n], &[item], format!("{item:?} was committed without a sound object"))
        });
        let known = before.map_or(0, |before| before.chain.len());
        self.check_steps(n, row, known.min(row.chain.len()));
    }

    /// The steps of a row's chain from `known` on are new: none may stand elsewhere, or repeat what it follows.
    fn check_steps(&mut self, n: usize, row: &CatalogRow, known: usize) {
        let (now_ms, item) = (self.now_ms(), row.item);
        for (at, link) in row.chain.iter().enumerate().skip(known) {
            let again =
                self.truth.links.get(&link.revision).is_some_and(|entry| *entry != (item, link.content));
            let repeats =
                at > 0 && row.chain.get(at - 1).is_some_and(|before| before.content.same_as(&link.content));
            self.book.check(Invariant::S5, !again && !repeats, || {
                let what = if again {
                    "its revision stands for something else"
                } else {
                    "the step before is the same"
                };
                let text =
                    format!("{item:?} was entered with {:?} as {:?}: {what}", link.content, link.revision);
                found(now_ms, &[n], &[item], text)
            });
            self.truth.entered(item, link);
        }
    }
}
