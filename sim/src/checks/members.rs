//! What a witness of all ledgers sees: retired members (S11), tombstones (S9, L5), beliefs (L2), edits that are nowhere
//! open (S8), keys that are alive twice (L3), work that was done twice for no reason (L1), and work that goes on though
//! another is known to have taken over (S1).

use super::{Invariant, found};
use crate::plan::{Deed, Spell, Strike, What};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use tcat_engine::catalog::{CatalogRow, RowState};
use tcat_engine::content::Content;
use tcat_engine::entry::{Entry, OwnedEntry, TaskKind};
use tcat_engine::ids::ItemId;
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::{Effect, EffectId, Event};
use tcat_engine::roster::Standing;

/// Beside one for each database that was lost or came back, a key may begin so many incarnations: twins outbid each
/// other a few times before both stop.
const INCARNATIONS_MAX: u64 = 20;

/// Two who begin within this time have begun beside each other: a quarter of the shortest usual lease.
const BESIDE_MS: u64 = 500;

impl World {
    /// A node told people something.
    pub(crate) fn witness_event(&mut self, n: usize, event: &Event) {
        if !self.planned || *event != Event::NewIncarnation {
            return;
        }
        let count = self.truth.incarnations.entry(n).or_default();
        *count += 1;
        let most = INCARNATIONS_MAX + self.truth.losses.get(&n).copied().unwrap_or(0);
        let (count, now_ms) = (*count, self.now_ms());
        self.book.check(Invariant::L3, count <= most, || {
            found(now_ms, &[n], &[], format!("node {} has begun {count} incarnations", n + 1))
        });
    }

    /// In the last moment before faults end: what must not have come about while they lasted.
    pub(crate) fn check_before_calm(&mut self) {
        self.check_what_happened();
        self.check_retired();
        self.check_forgotten();
        self.check_never_held();
    }

    /// L1: who is at work is known to all that hear of it, through others too: nobody begins the same beside it.
    pub(crate) fn witness_get(&mut self, n: usize, content: Content) {
        let now_ms = self.now_ms();
        let last = self.truth.gets.insert(content, (n, now_ms));
        if !self.once {
            return;
        }
        let beside = last.filter(|(other, at_ms)| *other != n && now_ms - at_ms < BESIDE_MS);
        self.book.check(Invariant::L1, beside.is_none(), || {
            let other = beside.map_or(0, |(other, _)| other);
            let text = format!("nodes {} and {} both began to fetch {content:?}", other + 1, n + 1);
            found(now_ms, &[n, other], &[], text)
        });
    }

    /// S1: who knows of a claim under a higher epoch that stands begins nothing under its own.
    pub(crate) fn check_fence(&mut self, n: usize, id: EffectId, effect: &Effect) {
        let (task, content) = match effect {
            Effect::Get { content, .. } => (TaskKind::Download, *content),
            Effect::Intend(object) | Effect::Put { object, .. } => (TaskKind::Upload, object.content),
            _ => return,
        };
        let Some(engine) = self.nodes[n].engine.as_ref() else { return };
        let item = match effect {
            Effect::Intend(object) | Effect::Put { object, .. } => Some(object.item),
            _ => engine.report().tasks.iter().find(|task| task.effect == Some(id)).map(|task| task.item),
        };
        let Some(item) = item else { return };
        let above = engine.claim_above(&item, task, &content).ok().flatten();
        let now_ms = self.now_ms();
        self.book.check(Invariant::S1, above.is_none(), || {
            let above = above.map(|(client, epoch)| format!("{client:?} took over under epoch {epoch}"));
            let text =
                format!("node {} begins {effect:?} and knows that {}", n + 1, above.unwrap_or_default());
            found(now_ms, &[n], &[item], text)
        });
    }

    /// S11: what a retired member wrote after its last word that counts is in nobody's ledgers.
    fn check_retired(&mut self) {
        let now_ms = self.now_ms();
        for (retired, last) in self.truth.retired.clone() {
            let id = self.id(retired);
            for n in (0..self.len()).filter(|n| *n != retired) {
                let late = self.ledgers(n).into_iter().find(|(owner, at, _, _)| *owner == id && *at > last);
                self.book.check(Invariant::S11, late.is_none(), || {
                    let text = format!(
                        "node {} keeps what node {} wrote at {:?}; it was retired at {last:?}",
                        n + 1,
                        retired + 1,
                        late.as_ref().map(|entry| entry.1)
                    );
                    found(now_ms, &[n, retired], &[], text)
                });
            }
        }
    }

    /// Whether a node says by now that it holds the item, by a mark too: that replaces its tombstone, and who has not
    /// seen the tombstone drops what it stood against when it hears the mark.
    fn speaks_of(&self, n: usize, item: &ItemId) -> bool {
        let report = self.engine(n).and_then(|engine| engine.item_report(item).ok());
        let own = |entry: &OwnedEntry| entry.owner() == self.id(n) && !entry.entry.is_tombstone();
        report.is_some_and(|report| report.entries.iter().any(own))
    }

    /// S9: a tombstone stays until every member that counts has it. Whoever has it not still says what it stands
    /// against, and could bring that back.
    fn check_forgotten(&mut self) {
        let now_ms = self.now_ms();
        let roster: BTreeMap<_, _> =
            self.catalog.roster().iter().map(|member| (member.client, member.standing)).collect();
        for ((owner, item), stamp) in self.truth.tombstones.clone() {
            // Who lost its database has forgotten all: its next incarnation says what still stands.
            if self.truth.losses.contains_key(&owner) {
                continue;
            }
            let id = self.id(owner);
            for n in 0..self.len() {
                let counts = matches!(roster.get(&self.id(n)), Some(Standing::Current));
                if !counts || self.truth.losses.contains_key(&n) || self.truth.twins.contains(&n) {
                    continue;
                }
                let knows = match self.engine(n) {
                    Some(engine) => engine.report().vector.get(&id),
                    None => self.truth.knew.get(&n).map(|knew| knew.get(&id)).unwrap_or_default(),
                };
                if knows >= stamp || knows == Default::default() {
                    continue;
                }
                if self.engine(owner).is_none() {
                    continue;
                }
                let kept = self.ledgers(owner).iter().any(|(at, _, of, _)| (*at, *of) == (id, item))
                    || self.speaks_of(owner, &item);
                self.book.check(Invariant::S9, kept, || {
                    let text = format!(
                        "node {} has forgotten its tombstone of {item:?}, which node {} has not seen",
                        owner + 1,
                        n + 1
                    );
                    found(now_ms, &[owner, n], &[item], text)
                });
            }
        }
    }

    /// L5: at rest no tombstone is left, if nobody is missed. L2: what nodes believe of copies is true.
    pub(crate) fn check_ledgers(&mut self, core: &[usize]) {
        let now_ms = self.now_ms();
        let missed = (0..self.len()).any(|n| self.is_out(n) && !self.truth.retired.contains_key(&n));
        if !missed {
            for n in core {
                let tombstone =
                    |bytes: &Vec<u8>| Entry::decode(bytes).is_ok_and(|entry| entry.is_tombstone());
                let left = self.ledgers(*n).into_iter().filter(|(_, _, _, bytes)| tombstone(bytes)).count();
                self.book.check(Invariant::L5, left == 0, || {
                    found(now_ms, &[*n], &[], format!("node {} still keeps {left} tombstones", n + 1))
                });
            }
        }
        self.check_beliefs(core);
    }

    /// L2: nobody believes of a node at which no person does anything, and which lost nothing, that it holds a content
    /// that is neither in its folder nor in its trash, nor on the way between the two in a journalled step. What a mark
    /// says counts once its reader has the row as the catalog has it: the mark may be of a later place of the feed than
    /// its reader has come to, and stands for that row. Until then it is a guess, of use while the reader has no catalog,
    /// and costs one question that is answered by no.
    fn check_never_held(&mut self) {
        let now_ms = self.now_ms();
        let named: BTreeSet<usize> = self
            .items
            .iter()
            .filter(|item| match &item.what {
                What::Deed(_) => true,
                What::Strike(strike) => !matches!(strike, Strike::Crash { .. } | Strike::Pause { .. }),
                What::Spell { fault, .. } => {
                    matches!(fault, Spell::Meddling { .. } | Spell::Unmounted { .. })
                }
            })
            .flat_map(|item| item.what.nodes())
            .collect();
        let items: Vec<_> = self.catalog.rows().map(|row| row.item).collect();
        let idle: Vec<_> = (0..self.len()).filter(|n| !named.contains(n) && !self.is_out(*n)).collect();
        let mut wrong = None;
        for (n, owner) in (0..self.len()).flat_map(|n| idle.iter().map(move |owner| (n, *owner))) {
            let (id, folder) = (self.id(owner), self.folder(owner));
            let Some(engine) = self.engine(n) else { continue };
            let word = |item: &ItemId| {
                let report = engine.item_report(item).ok()?;
                let word = report.entries.into_iter().find(|entry| entry.owner() == id)?;
                Some((report.row, word))
            };
            let mark = word(&ItemId([0; 16])).map(|(_, word)| word.dot);
            let held = |item: &ItemId| {
                let (row, word) = word(item)?;
                let guessed = Some(word.dot) == mark && row.as_ref() != self.catalog.row(item);
                let kept = |content: &Content| guessed || folder.keeps(content) || folder.replaces(content);
                Some(word.entry.copy?.held?.content).filter(|content| !kept(content))
            };
            let found = items.iter().find_map(|item| Some((n, owner, *item, held(item)?)));
            wrong = wrong.or(found);
        }
        self.book.check(Invariant::L2, wrong.is_none(), || {
            let text = format!("who believes of whom that it holds what it never had: {wrong:?}");
            found(now_ms, &[], &[], text)
        });
    }

    /// L2: who has an item's file is known to all, with what is in it.
    fn check_beliefs(&mut self, core: &[usize]) {
        let active = self.catalog.rows().filter(|row| row.state == RowState::Active);
        let items: Vec<_> = active.map(|row| row.item).collect();
        let now_ms = self.now_ms();
        let mut wrong = None;
        'all: for n in core {
            let Some(engine) = self.engine(*n) else { continue };
            for item in &items {
                let Ok(report) = engine.item_report(item) else { continue };
                for owner in core {
                    let id = self.id(*owner);
                    let word = report.entries.iter().find(|entry| entry.owner() == id);
                    let held = word.and_then(|entry| entry.entry.copy.as_ref()?.held.clone());
                    let here = held.as_ref().and_then(|held| self.folder(*owner).content_at(&held.path));
                    let row = self.catalog.row(item);
                    let is = row.and_then(|row| self.folder(*owner).content_at(&row.cache_path));
                    let holds = match &held {
                        Some(held) => here.is_some_and(|here| here.same_as(&held.content)),
                        // Who is believed to hold less than it does is asked for less: no harm comes of it.
                        None => true,
                    };
                    if !holds {
                        wrong = Some((*n, *owner, *item, held.map(|held| held.content), is));
                        break 'all;
                    }
                }
            }
        }
        self.book.check(Invariant::L2, wrong.is_none(), || {
            let items: Vec<_> = wrong.iter().map(|(_, _, item, _, _)| *item).collect();
            let nodes: Vec<_> = wrong.iter().flat_map(|(n, owner, ..)| [*n, *owner]).collect();
            let text = wrong.map(|(n, owner, item, says, is)| {
                let (n, owner) = (n + 1, owner + 1);
                format!(
                    "node {n} believes that node {owner} holds {says:?} of {item:?}; its folder has {is:?}"
                )
            });
            found(now_ms, &nodes, &items, text.unwrap_or_default())
        });
    }

    /// S8 at rest: a content that a person saved, and did not overwrite or delete, is a file, or a step of the catalog's
    /// history. That it lies in a trash, unasked, does not count: there it is gone after a while. It does for one over
    /// which another person has saved at his own node: he had seen it, and where the catalog was away all the while, the
    /// history begins with what he made of it.
    pub(crate) fn check_open(&mut self, content: &Content) {
        if !self.open || self.truth.overwritten.contains(content) {
            return;
        }
        let is_file = |n: usize| self.folder(n).contents().values().any(|held| *held == content);
        let open = (0..self.len()).any(is_file) || self.catalog.knows(content);
        let now_ms = self.now_ms();
        self.book.check(Invariant::S8, open, || {
            found(now_ms, &[], &[], format!("{content:?} was saved, and is no file and in no history"))
        });
    }

    /// S8 at rest: who saved an old content once more, over another, has said something new: it is a file, or was
    /// entered anew since.
    pub(crate) fn check_saved_again(&mut self) {
        let now_ms = self.now_ms();
        for (n, content) in self.truth.again.clone() {
            let is_file = |n: usize| self.folder(n).contents().values().any(|held| **held == content);
            let stands = (0..self.len()).any(is_file);
            self.book.check(Invariant::S8, stands, || {
                let text = format!("node {} went back to {content:?}, and that is nowhere", n + 1);
                found(now_ms, &[n], &[], text)
            });
        }
    }

    /// Where a person went back to an old content of a file: it stands there, and he is asked what he wants. He did so by
    /// saving it again; or by giving a file that has it another's name. A rename alone says no such thing (each item could
    /// keep its file), so there it counts only where the node is asking, and the content is an old one of that very item.
    pub(crate) fn went_back(&self, n: usize) -> BTreeSet<MediaPath> {
        let home = self.nodes[n].home;
        let again = self.truth.again.iter().filter(|(at, _)| self.nodes[*at].home == home);
        let again: BTreeSet<_> = again.map(|(_, content)| content).collect();
        let resting = self.engine(n).map(|engine| engine.report().resting).unwrap_or_default();
        let asked = resting.iter().filter(|(_, why)| why.contains("an earlier content of its own history"));
        let asked: BTreeMap<_, _> =
            asked.filter_map(|(item, _)| self.catalog.row(item)).map(|row| (&row.cache_path, row)).collect();
        let moved = |path: &MediaPath, held: &Content| {
            let is_old = |row: &&CatalogRow| row.chain_holds(held) && !row.content.same_as(held);
            self.truth.moved.contains(held) && asked.get(path).is_some_and(is_old)
        };
        let files = self.folder(n).contents().into_iter();
        let back = files.filter(|(path, held)| again.contains(held) || moved(path, held));
        back.map(|(path, _)| path.clone()).collect()
    }

    /// S8: of a burst of changes at one node, others have taken no more than its brake lets pass.
    pub(crate) fn check_burst(&mut self, n: usize) {
        let saved = |item: &crate::plan::Item| match &item.what {
            What::Deed(Deed::Save { node, content, .. }) if *node != n => Some(self.content(*content)),
            _ => None,
        };
        let files: BTreeSet<Content> = self.items.iter().filter_map(saved).collect();
        let most = files.len() * self.brake.percent as usize / 100 + 2;
        let now_ms = self.now_ms();
        for other in (0..self.len()).filter(|other| *other != n) {
            let stand = self.folder(other).contents().values().filter(|held| files.contains(**held)).count();
            let gone = files.len().saturating_sub(stand);
            self.book.check(Invariant::S8, gone <= most, || {
                let (n, other, all) = (n + 1, other + 1, files.len());
                let text = format!(
                    "a burst at node {n} has taken {gone} of {all} files from node {other}: {most} may pass"
                );
                found(now_ms, &[n - 1, other - 1], &[], text)
            });
        }
    }
}
