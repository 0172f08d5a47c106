//! S7, S8 and S10: what becomes of a file in the moment in which an effect moves it.

use super::{Invariant, found};
use crate::world::World;
use tcat_engine::catalog::RowState;
use tcat_engine::content::Content;
use tcat_engine::ids::ItemId;
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::{Effect, Outcome};

/// What was in the places of an effect before it, and whether what is to be trashed was one copy of several.
#[derive(Clone, Debug, Default)]
pub struct Before(Vec<(MediaPath, Option<Content>)>, bool);

impl Before {
    /// What was in the place with which the effect begins.
    pub(crate) fn first(&self) -> Option<Content> {
        self.0.first().and_then(|(_, content)| *content)
    }
}

impl World {
    /// Looks at the places of an effect.
    pub(crate) fn before_effect(&self, n: usize, effect: &Effect) -> Before {
        let paths = match effect {
            Effect::Publish(publish) => vec![&publish.path],
            Effect::Trash { path, .. } => vec![path],
            Effect::SetAside { path, to, .. } | Effect::Move { path, to } => vec![path, to],
            _ => vec![],
        };
        let folder = self.folder(n);
        let was_copy = matches!(effect, Effect::Trash { path, content } if self.is_copy(n, path, content));
        Before(paths.into_iter().map(|path| (path.clone(), folder.content_at(path))).collect(), was_copy)
    }

    /// A folder effect was done.
    pub(crate) fn check_files(&mut self, n: usize, effect: &Effect, before: Before, outcome: &Outcome) {
        let done = matches!(outcome, Outcome::Done { .. } | Outcome::Edited { .. });
        let found_there = before.first().filter(|_| done);
        let was_copy = before.1;
        for content in before.0.into_iter().filter_map(|(_, content)| content) {
            self.check_found(&content, &[n]);
        }
        self.check_written_over(n, effect, found_there.as_ref());
        match effect {
            Effect::Publish(publish) if done => {
                let (item, content) = (publish.item, publish.content);
                let here =
                    self.folder(n).content_at(&publish.path).is_some_and(|here| here.same_as(&content));
                let known = self.truth.links.values().any(|(at, is)| *at == item && is.same_as(&content))
                    || self.truth.saved.contains(&content)
                    // A damaged content that was kept as a version travels like any new file.
                    || self.truth.rotten.keys().any(|rotten| rotten.same_as(&content));
                let now_ms = self.now_ms();
                // Between its primitives a person may have come.
                let here = here || self.was_person_at(n, &publish.path);
                self.book.check(Invariant::S7, here && known, || {
                    let text = format!("node {} placed {content:?} as {}", n + 1, publish.path);
                    found(now_ms, &[n], &[item], text)
                });
            }
            Effect::Trash { path, content } if done => self.check_trashed(n, path, content, was_copy),
            _ => {}
        }
    }

    /// A file that was replaced was its item's own, or a version of it: another item's file is in nobody's way.
    ///
    /// Its own is also what was once a step of its line, though the catalog never had it there: while the catalog is away
    /// an edit that goes on from a step takes its place. That the same content became another item elsewhere, by somebody
    /// who had lost its database and found the file, makes this file no less the item's.
    fn check_written_over(&mut self, n: usize, effect: &Effect, before: Option<&Content>) {
        let (Effect::Publish(publish), Some(before)) = (effect, before) else { return };
        let here = self.folder(n).content_at(&publish.path);
        // What was there before is not what the effect found if a person came between its primitives and took it away.
        let other_file = here.is_none_or(|here| here.same_as(before)) || self.was_person_at(n, &publish.path);
        if !self.planned || other_file {
            return;
        }
        let of = |item: &ItemId| {
            let links = self.truth.links.values().map(|(known, content)| (known, content));
            let steps = self.truth.steps.iter().map(|(known, content)| (known, content));
            links.chain(steps).any(|(known, content)| known == item && content.same_as(before))
        };
        let other = |row: &&tcat_engine::catalog::CatalogRow| {
            row.item != publish.item && row.version_of != Some(publish.item) && of(&row.item)
        };
        let whose = self.catalog.rows().find(other).map(|row| row.item).filter(|_| !of(&publish.item));
        // Where it stands elsewhere too, this was a copy.
        let only = self.folder(n).contents().values().all(|held| !held.same_as(before));
        let now_ms = self.now_ms();
        self.book.check(Invariant::S10, whose.is_none() || !only, || {
            let text = format!("node {} wrote {:?} over {whose:?} at {}", n + 1, publish.item, publish.path);
            found(now_ms, &[n], &[publish.item], text)
        });
    }

    /// A removal is what takes a content out of the library. A file whose content stays there under another name, on
    /// this disk or in the catalog, is one copy too many of it: its way into trash removes nothing.
    ///
    /// Whether it was one copy of several is seen when the effect begins, and again when it is over. While it goes on, a
    /// person may save over the other copy. He gives that content up himself then, as if he had done it a moment after;
    /// nothing could have told the node before, and the trash keeps the content all the same, which S8 looks for. So it is
    /// if he came between the node's decision and the beginning, or before its next look at that copy.
    fn check_trashed(&mut self, n: usize, path: &MediaPath, content: &Content, was_copy: bool) {
        let gone = |contents: &Vec<Content>| contents.iter().any(|gone| gone.same_as(content));
        // A world without a plan removes items behind the witness's back.
        let removed = self.truth.removed.values().chain(self.truth.asked.values());
        let was_twice = self.truth.was_twice.contains(&(self.nodes[n].home, *content));
        let is_copy = was_copy || was_twice || self.is_copy(n, path, content);
        let traced = !self.planned || is_copy || removed.into_iter().any(gone);
        let now_ms = self.now_ms();
        self.book.check(Invariant::S10, traced, || {
            let text = format!("node {} moved {path} to trash, which nobody has removed", n + 1);
            found(now_ms, &[n], &[], text)
        });
    }

    /// Whether a content is in a node's folder, or as an item in the catalog, under another path.
    fn is_copy(&self, n: usize, path: &MediaPath, content: &Content) -> bool {
        let stays = |at: &MediaPath, holds: &Content| at != path && holds.same_as(content);
        self.folder(n).contents().into_iter().any(|(at, holds)| stays(at, holds))
            || self
                .catalog
                .rows()
                .any(|row| row.state == RowState::Active && stays(&row.cache_path, &row.content))
    }

    /// A content that a person may have saved is found: in a folder, in a trash, or as an object.
    pub(crate) fn check_found(&mut self, content: &Content, nodes: &[usize]) {
        let Some((author, _)) = self.saved.iter().find(|(_, saved)| saved == content) else { return };
        let author = *author;
        let kept = self.keeps(content);
        let items: Vec<ItemId> =
            self.truth.links.values().filter(|(_, is)| is == content).map(|(item, _)| *item).collect();
        let now_ms = self.now_ms();
        let nodes: Vec<_> = nodes.iter().copied().chain([author]).collect();
        self.book.check(Invariant::S8, kept, || {
            let text = format!("{content:?}, saved on node {}, is nowhere to be found", author + 1);
            found(now_ms, &nodes, &items, text)
        });
    }

    /// Whether a content is found anywhere.
    pub fn keeps(&self, content: &Content) -> bool {
        let here = |n: usize| {
            let is_off = self.nodes[n].engine.is_none();
            self.folder(n).keeps(content) || is_off && self.folder(n).replaces(content)
        };
        (0..self.len()).any(here) || self.catalog.stores(content)
    }
}
