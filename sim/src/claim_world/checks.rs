//! What must hold of claims at every step, in words that begin with the invariant's name.

use super::{ClaimWorld, OVERLAP_MS_MAX, Transfer};
use tcat_engine::clock::Stamp;
use tcat_engine::content::Content;
use tcat_engine::entry::{Entry, TaskKind};
use tcat_engine::ids::{ClientId, ItemId};
use tcat_engine::message::Message;
use tcat_engine::ports::EffectId;

impl ClaimWorld {
    /// S1: nobody stakes above a claim that it knows while the transfer begun under that claim goes on; also where its
    /// holder is cut off from all, since that stops first. (One that some hear and others do not is live for those alone;
    /// one that is suspended cannot stop.)
    fn check_stake(&mut self, n: usize, content: &Content, epoch: u64) {
        for (other, node) in self.nodes.iter().enumerate().filter(|(other, _)| *other != n) {
            let half_cut = self.is_cut(n, other) && !self.is_isolated(other);
            let Some(theirs) = node.at_work.values().find(|theirs| theirs.content == *content) else {
                continue;
            };
            let known = self.claim_known(n, other, content);
            let knows = known.is_some_and(|(epoch, stamp)| epoch == theirs.epoch && stamp >= theirs.stamp);
            let forgot = !knows && self.has_believed(n, other, content, theirs.epoch, theirs.stamp);
            let asleep = self.asleep.get(&other).is_some_and(|until_ms| *until_ms >= self.now_ms);
            if forgot && !half_cut && !asleep {
                let text = format!(
                    "S1: node{} stakes epoch {epoch} and has forgotten that node{} works under epoch {}",
                    n + 1,
                    other + 1,
                    theirs.epoch
                );
                self.broken.push(text);
                break;
            }
            if knows && !half_cut && !asleep && theirs.epoch < epoch {
                let text = format!(
                    "S1: node{} stakes epoch {epoch} while node{} works under epoch {}",
                    n + 1,
                    other + 1,
                    theirs.epoch
                );
                self.broken.push(text);
                break;
            }
        }
    }

    /// S2: what a client stakes anew is above all that it ever staked for the content.
    pub(super) fn note_stake(&mut self, n: usize, item: &ItemId, entry: &Entry) {
        let Some(content) = self.contents.get(item).copied() else { return };
        let me = self.nodes[n].id;
        let Some(claim) = entry.claim(TaskKind::Download, &content) else {
            self.standing.remove(&(me, *item));
            return;
        };
        if self.standing.insert((me, *item), claim.epoch) == Some(claim.epoch) {
            return;
        }
        self.log.push(format!("{} node{} stakes {}", self.now_ms, n + 1, claim.epoch));
        self.check_stake(n, &content, claim.epoch);
        let highest = self.highest.entry((me, content)).or_default();
        if claim.epoch <= *highest {
            self.broken.push(format!("S2: node{} staked epoch {} after {highest}", n + 1, claim.epoch));
        }
        *highest = claim.epoch.max(*highest);
    }

    /// S1: two that hear each other do not both go on.
    pub(super) fn check_overlap(&mut self, n: usize, id: EffectId) {
        let Some(Transfer { content, begun_ms, .. }) = self.nodes[n].at_work.get(&id).copied() else {
            return;
        };
        let patience_ms = OVERLAP_MS_MAX + 2 * self.manners.delay_ms_max + self.manners.cancel_ms;
        for (other, node) in self.nodes.iter().enumerate().filter(|(other, _)| *other != n) {
            let Some(theirs) = node.at_work.values().find(|theirs| theirs.content == content) else {
                continue;
            };
            let woke_ms = [n, other].iter().filter_map(|n| self.asleep.get(n)).max().copied().unwrap_or(0);
            let since_ms = begun_ms.max(theirs.begun_ms).max(self.mended_ms).max(woke_ms);
            if !self.is_cut(n, other) && self.now_ms.saturating_sub(since_ms) > patience_ms {
                self.broken.push(format!(
                    "S1: node{} and node{} both go on with {content:?}",
                    n + 1,
                    other + 1
                ));
            }
        }
    }

    /// S1: who knows of a claim under a higher epoch that stands does not go on under its own.
    pub(super) fn check_outdone(&mut self, n: usize, id: EffectId) {
        let Some(transfer) = self.nodes[n].at_work.get(&id).copied() else { return };
        let Some(engine) = self.nodes[n].engine.as_ref() else { return };
        let items = self.items.get(&transfer.content).into_iter().flatten();
        let mut above =
            items.filter_map(|item| engine.claim_above(item, TaskKind::Download, &transfer.content).ok()?);
        let above = above.next();
        let since_ms = above.map(|_| transfer.outdone_since_ms.unwrap_or(self.now_ms));
        if let Some(transfer) = self.nodes[n].at_work.get_mut(&id) {
            transfer.outdone_since_ms = since_ms;
        }
        if let (Some((client, epoch)), Some(since_ms)) = (above, since_ms)
            && self.now_ms - since_ms > self.manners.cancel_ms
        {
            let text = format!(
                "S1: node{} goes on under epoch {} and knows that {client:?} took over under {epoch}",
                n + 1,
                transfer.epoch
            );
            self.broken.push(text);
        }
    }

    /// What a node believes of others' claims, now that it has heard something of these items of one owner.
    pub(super) fn remember(&mut self, n: usize, (owner, items): &(ClientId, Vec<ItemId>)) {
        for item in items {
            let Some(content) = self.contents.get(item) else { continue };
            let report = self.nodes[n].engine.as_ref().and_then(|engine| engine.item_report(item).ok());
            let Some(entry) =
                report.and_then(|report| report.entries.into_iter().find(|entry| entry.owner() == *owner))
            else {
                continue;
            };
            let claim = entry.entry.claim(TaskKind::Download, content).map(|claim| claim.epoch);
            let newest = self.believed.entry((n, *owner, *item)).or_default();
            if newest.0 < entry.dot.stamp {
                *newest = (entry.dot.stamp, claim);
            }
        }
    }

    /// Whether the newest that a node ever believed of another's work on a content is the claim under which that works.
    fn has_believed(&self, n: usize, other: usize, content: &Content, epoch: u64, stamp: Stamp) -> bool {
        let owner = self.nodes[other].id;
        let items = self.items.get(content).into_iter().flatten();
        let mut believed = items.filter_map(|item| self.believed.get(&(n, owner, *item)));
        believed.any(|(at, claim)| *at >= stamp && *claim == Some(epoch))
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cuts.contains(&(a, b)) || self.cuts.contains(&(b, a))
    }

    /// Whether nothing goes to a node and nothing comes from it.
    fn is_isolated(&self, n: usize) -> bool {
        let others = || (0..self.nodes.len()).filter(|other| *other != n);
        others().all(|other| self.cuts.contains(&(n, other)) && self.cuts.contains(&(other, n)))
    }

    /// The claim of a node on a content, as another knows it: its epoch, and when it was written.
    pub(super) fn claim_known(&self, knower: usize, owner: usize, content: &Content) -> Option<(u64, Stamp)> {
        let owner = self.nodes[owner].id;
        let claims = self.items.get(content).into_iter().flatten().filter_map(|item| {
            let report = self.nodes[knower].engine.as_ref()?.item_report(item).ok()?;
            let entry = report.entries.into_iter().find(|entry| entry.owner() == owner)?;
            let claim = entry.entry.claim(TaskKind::Download, content)?;
            Some((claim.epoch, entry.dot.stamp))
        });
        claims.max()
    }
}

/// The items that a page is about, and whose words on them it has.
pub(super) fn items_of(message: &Message) -> (ClientId, Vec<ItemId>) {
    let Message::Page(page) = message else { return (ClientId([0; 32]), Vec::new()) };
    let records = page.batches.iter().flat_map(|batch| batch.records());
    (page.owner, records.map(|(_, record)| record.item).collect())
}
