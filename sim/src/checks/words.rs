//! S3, S6 and S13: what nodes say. A word that was said was durable before; a base is a step that the catalog took; and
//! what is passed on is what its owner signed.

use super::{Invariant, found};
use crate::node::PaperKeys;
use crate::world::World;
use tcat_engine::clock::Stamp;
use tcat_engine::content::Content;
use tcat_engine::entry::{Claim, Entry, TaskKind};
use tcat_engine::ids::ItemId;
use tcat_engine::message::{Message, Page};
use tcat_engine::paths::MediaPath;

impl World {
    /// A node says something.
    pub(crate) fn check_word(&mut self, n: usize, message: &Message) {
        if let Message::Page(page) = message {
            if page.owner == self.id(n) {
                self.check_own_page(n, page);
            } else {
                self.check_relay(n, page);
            }
        }
    }

    fn check_own_page(&mut self, n: usize, page: &Page) {
        let told = self.truth.told.entry(n).or_default();
        *told = (*told).max(page.through);
        let now_ms = self.now_ms();
        for (stamp, record) in page.batches.iter().flat_map(|batch| batch.records()) {
            let Ok(entry) = Entry::decode(&record.entry) else { continue };
            self.witness_word(n, stamp, record.item, &entry);
            let Some(copy) = entry.copy else { continue };
            self.truth.steps.extend(copy.line.iter().map(|step| (record.item, step.content)));
            let Some(base) = copy.base else { continue };
            let item = record.item;
            let happened = self.truth.links.get(&base.revision);
            let true_base = happened.is_some_and(|(at, is)| *at == item && is.same_as(&base.content));
            self.book.check(Invariant::S6, true_base, || {
                let text = format!(
                    "node {} says that {item:?} descends from {:?} at {:?}; the catalog never had that",
                    n + 1,
                    base.content,
                    base.revision
                );
                found(now_ms, &[n], &[item], text)
            });
        }
    }

    /// S10: who cannot see its files takes back no word on them. And tombstones are remembered.
    ///
    /// A word is not taken back where the node says the same of another item: the catalog had that very file as that item,
    /// or the item was removed and what somebody had saved there goes on under a new id. Nothing is said then of the file
    /// itself, which is what may not be said by somebody who cannot see it.
    fn witness_word(&mut self, n: usize, stamp: Stamp, item: ItemId, entry: &Entry) {
        if !self.planned {
            return;
        }
        let said = self.truth.said.entry((n, item)).or_default();
        if said.0 >= stamp {
            return;
        }
        let before = said.1.take();
        let held = entry.copy.as_ref().and_then(|copy| copy.held.as_ref());
        *said = (stamp, held.map(|held| (held.path.clone(), held.content)));
        self.witness_claim(n, item, entry);
        match entry.is_tombstone() {
            true => _ = self.truth.tombstones.insert((n, item), stamp),
            false => _ = self.truth.tombstones.remove(&(n, item)),
        }
        if let (Some((path, content)), None) = (before, held) {
            let there = self.folder(n).content_at(&path).is_some_and(|there| there.same_as(&content));
            let taken_back = self.is_unmounted(n) && there && !self.says_of_another(n, item, &path, &content);
            let now_ms = self.now_ms();
            self.book.check(Invariant::S10, !taken_back, || {
                let text = format!("node {} takes back that it holds {path}, which it cannot see", n + 1);
                found(now_ms, &[n], &[item], text)
            });
        }
    }

    /// A claim ahead of the slots is withdrawn when there was none for it in two thirds of a lease.
    fn witness_claim(&mut self, n: usize, item: ItemId, entry: &Entry) {
        let ahead = |claim: &Claim| claim.task == TaskKind::Download && !claim.started;
        let now_ms = self.now_ms();
        if entry.claims.iter().any(ahead) {
            self.truth.ahead.entry((n, item)).or_insert(now_ms);
        } else if let Some(since_ms) = self.truth.ahead.remove(&(n, item)) {
            let lasted_ms = (now_ms - since_ms).saturating_sub(self.nodes[n].plan.lease_ms / 3 * 2);
            if entry.claims.is_empty() && entry.held_content().is_none() && (1..300).contains(&lasted_ms) {
                self.goals.met("claim-ahead-withdrawn");
            }
        }
    }

    /// Whether a node says of another item that it holds this content at this path.
    fn says_of_another(&self, n: usize, item: ItemId, path: &MediaPath, content: &Content) -> bool {
        let Some(engine) = self.engine(n) else { return false };
        let Ok(Some(other)) = engine.item_at(path) else { return false };
        let Ok(report) = engine.item_report(&other) else { return false };
        let me = self.id(n);
        let own = report.entries.iter().filter(|entry| entry.owner() == me);
        let mut held = own.filter_map(|entry| entry.entry.copy.as_ref()?.held.as_ref());
        other != item && held.any(|held| held.path == *path && held.content.same_as(content))
    }

    fn check_relay(&mut self, n: usize, page: &Page) {
        let now_ms = self.now_ms();
        for batch in &page.batches {
            let signed = batch.verify(&PaperKeys(self.id(n))).is_ok();
            self.book.check(Invariant::S13, signed, || {
                let items: Vec<_> = batch.records().map(|(_, record)| record.item).collect();
                let text = format!("node {} passes on what {:?} never signed", n + 1, batch.owner);
                found(now_ms, &[n], &items, text)
            });
        }
    }

    /// A node has started over what its last life left: it knows at least what it has told.
    pub(crate) fn check_start(&mut self, n: usize) {
        let Some(told) = self.truth.told.get(&n).copied() else { return };
        let (id, now_ms) = (self.id(n), self.now_ms());
        let Some(knows) = self.engine(n).map(|engine| engine.report().vector.get(&id)) else { return };
        self.book.check(Invariant::S3, knows >= told, || {
            let text = format!("node {} told up to {told:?}, and knows {knows:?} after its start", n + 1);
            found(now_ms, &[n], &[], text)
        });
    }
}
