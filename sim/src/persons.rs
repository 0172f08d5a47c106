//! What persons do at the files of a node, whether it runs or not.

use crate::plan::Deed;
use crate::random::Stream;
use crate::world::{Happening, World};
use tcat_engine::catalog::CatalogRow;
use tcat_engine::content::Content;
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::{BrakeAnswer, Input};

/// Numbers of contents that persons save beside any plan begin here.
const MEDDLED: u64 = 1 << 40;

impl World {
    /// A person saves a file; the node's watcher sees it if it runs.
    pub fn save(&mut self, n: usize, path: &str, content: Content) {
        let Ok(mut path) = MediaPath::parse(path) else { return };
        if self.is_unmounted(n) {
            return;
        }
        // In planned worlds no two names of one folder differ in case alone, as on most machines of such teams.
        if let Some(twin) = self.twin(n, &path) {
            path = twin;
        }
        let overwritten = self.folder(n).content_at(&path);
        // Who saves what stands there already says nothing new, but if it stands there because he went back to it.
        let goes_back = overwritten.is_some_and(|was| was != content) || self.has_gone_back(n, &content);
        self.forget_saved(n, overwritten);
        self.home(n).save(path.clone(), content);
        self.truth.overwritten.extend(overwritten);
        self.truth.overwritten.remove(&content);
        self.truth.was_twice.remove(&(self.nodes[n].home, content));
        if goes_back && self.truth.saved.contains(&content) {
            self.truth.again.push((n, content));
        }
        self.saved.push((n, content));
        self.truth.saved.insert(content);
        self.saves += 1;
        self.note(n, "save", || format!("{path} {content:?}"));
        self.watcher_sees(n, vec![path]);
    }

    /// Whether a person at this folder went back to a content, and no step was entered for it since.
    fn has_gone_back(&self, n: usize, content: &Content) -> bool {
        let home = self.nodes[n].home;
        self.truth.again.iter().any(|(at, again)| self.nodes[*at].home == home && again == content)
    }

    /// A person at this folder gives a content up. Its file is still there, unless a program has written into it.
    pub(crate) fn forget_saved(&mut self, n: usize, gone: Option<Content>) {
        let rotten = &self.truth.rotten;
        // Who gives a damaged copy up means what it was.
        let meant = gone.and_then(|gone| rotten.get(&gone).copied());
        self.truth.given_up.extend(gone.into_iter().chain(meant));
        let copies =
            |gone: &Content| self.folder(n).contents().values().filter(|held| **held == gone).count();
        let was_twice = gone.filter(|gone| copies(gone) > 1).map(|gone| (self.nodes[n].home, gone));
        self.truth.was_twice.extend(was_twice);
        let (nodes, home) = (&self.nodes, self.nodes[n].home);
        // Where the author's own copy rotted, whoever overwrites another's overwrites what is left of it.
        let has_rotted = |saved: &Content| rotten.values().any(|before| before == saved);
        let stands = |(author, saved): &(usize, Content)| {
            let is_gone = [gone, meant].contains(&Some(*saved));
            !is_gone || nodes[*author].home != home && !has_rotted(saved)
        };
        self.saved.retain(stands);
        self.truth.again.retain(stands);
    }

    /// Another spelling of a path that is in a node's folder.
    fn twin(&self, n: usize, path: &MediaPath) -> Option<MediaPath> {
        let folder = self.folder(n);
        if !self.planned || folder.content_at(path).is_some() {
            return None;
        }
        let folded = path.folded();
        folder.contents().into_keys().find(|known| known.folded() == folded).cloned()
    }

    /// A person saves over a file, and its time of modification stays as it was.
    pub fn edit_keeping_mtime(&mut self, n: usize, path: &str, content: Content) {
        let Ok(path) = MediaPath::parse(path) else { return };
        let Some(overwritten) = self.folder(n).content_at(&path) else { return };
        if self.is_unmounted(n) {
            return;
        }
        self.forget_saved(n, Some(overwritten));
        self.truth.overwritten.insert(overwritten);
        self.home(n).edit_keeping_mtime(&path, content);
        self.saved.push((n, content));
        self.truth.saved.insert(content);
        self.saves += 1;
        self.note(n, "save-keeping-time", || format!("{path} {content:?}"));
        self.watcher_sees(n, vec![path]);
    }

    /// A person deletes a file; the node's watcher sees it if it runs.
    pub fn delete(&mut self, n: usize, path: &str) {
        let Ok(path) = MediaPath::parse(path) else { return };
        if self.is_unmounted(n) {
            return;
        }
        let deleted = self.folder(n).content_at(&path);
        self.forget_saved(n, deleted);
        self.home(n).remove(&path);
        self.note(n, "delete", || path.to_string());
        self.watcher_sees(n, vec![path]);
    }

    /// A file is gone, and nobody notices before the next scan.
    pub fn lose(&mut self, n: usize, path: &str) {
        if let Ok(path) = MediaPath::parse(path) {
            self.home(n).remove(&path);
        }
    }

    /// The disk gives other bytes than were written; the next look sees it.
    pub fn rot(&mut self, n: usize, path: &str, content: Content) {
        let Ok(path) = MediaPath::parse(path) else { return };
        let Some(before) = self.folder(n).content_at(&path) else { return };
        // The last copy of what somebody saved never rots: nothing could bring that back.
        self.home(n).rot(&path, content);
        if !self.keeps(&before) && self.saved.iter().any(|(_, saved)| *saved == before) {
            self.home(n).rot(&path, before);
            return;
        }
        self.truth.rotten.insert(content, before);
        self.forget_digest(n, &path);
        self.note(n, "rot", || format!("{path} {content:?}"));
        self.watcher_sees(n, vec![path]);
    }

    /// A person gives a file another name, if that is free; the node's watcher sees it if it runs.
    pub fn rename(&mut self, n: usize, path: &str, to: &str) {
        let (Ok(path), Ok(to)) = (MediaPath::parse(path), MediaPath::parse(to)) else { return };
        let folder = self.folder(n);
        let Some(content) = folder.content_at(&path) else { return };
        let free = folder.content_at(&to).is_none() && self.twin(n, &to).is_none_or(|twin| twin == path);
        if free && !self.is_unmounted(n) {
            self.truth.moved.insert(content);
            self.home(n).rename_by_person(&path, to.clone());
            self.note(n, "rename", || format!("{path} -> {to}"));
            self.watcher_sees(n, vec![path, to]);
        }
    }

    /// Files change names in a circle, each through a name that nobody uses.
    pub fn turn(&mut self, n: usize, paths: &[String]) {
        const ASIDE: &str = "turning.jpg";
        let Some((first, rest)) = paths.split_first() else { return };
        self.rename(n, first, ASIDE);
        let mut free = first;
        for path in rest {
            self.rename(n, path, free);
            free = path;
        }
        self.rename(n, ASIDE, free);
    }

    /// A person removes the item with this path from the library for good.
    pub fn remove_for_good(&mut self, path: &str) {
        let at = |row: &&CatalogRow| row.cache_path.as_str() == path;
        let Some(row) = self.catalog.rows().find(at).cloned() else { return };
        let contents: Vec<_> = row.chain.iter().map(|link| link.content).collect();
        self.truth.removed.insert(row.item, contents.clone());
        self.catalog.remove(&row.item);
        let held = |content: &&Content| self.catalog.rows().any(|row| row.chain_holds(content));
        self.truth.moved.extend(contents.iter().filter(held).copied().collect::<Vec<_>>());
        // What the person removed on purpose is not lost when it is gone; the trash keeps it for a while.
        let removed = |content: &Content| contents.iter().any(|gone| gone.same_as(content));
        self.saved.retain(|(_, saved)| !removed(saved));
        self.note_everywhere("remove", || format!("{path} {:?}", row.item));
    }

    /// The node that is down loses its database and keeps its folder.
    pub fn wipe(&mut self, n: usize) {
        self.nodes[n].store.clear();
        self.options.entry(n).or_default().old_root = true;
    }

    /// A person deletes the item that has a path, everywhere.
    pub fn kill(&mut self, n: usize, path: &str) {
        let row = self.catalog.rows().find(|row| row.cache_path.as_str() == path).map(|row| row.item);
        if let Some(item) = row {
            self.tell(n, Input::Delete(item));
        }
    }

    /// A person answers what a node's brake asks.
    pub fn answer_brake(&mut self, n: usize, answer: BrakeAnswer) {
        self.tell(n, Input::Brake(answer));
    }

    /// A person saves, deletes or renames a file, as chance has it.
    pub fn meddle(&mut self, n: usize, path: &str) {
        let random = self.streams.of(Stream::Person, n);
        let (deed, number) = (random.below(4), random.next_u64());
        self.next_content += 1;
        let number = if self.planned { MEDDLED + number % MEDDLED } else { self.next_content };
        match deed {
            0 => self.delete(n, path),
            1 => self.rename(n, path, &format!("renamed {number}.jpg")),
            _ => self.save(n, path, self.content(number)),
        }
    }

    /// A content that nobody had so far.
    pub fn fresh_content(&mut self) -> Content {
        self.next_content += 1;
        self.content(self.next_content)
    }

    pub(crate) fn deed(&mut self, deed: &Deed) {
        match deed {
            Deed::Save { node, path, content: number } => self.save(*node, path, self.content(*number)),
            Deed::SaveKeepingTime { node, path, content: number } => {
                self.edit_keeping_mtime(*node, path, self.content(*number));
            }
            Deed::Delete { node, path } => self.delete(*node, path),
            Deed::Rename { node, path, to } => self.rename(*node, path, to),
            Deed::Turn { node, paths } => self.turn(*node, paths),
            Deed::Remove { path } => self.remove_for_good(path),
            Deed::Kill { node, path } => self.kill_in_plan(*node, path),
            Deed::AnswerBrake { node, accept } => self.answer_brake_in_plan(*node, *accept),
            Deed::Rot { node, path, content: number } => self.rot(*node, path, self.content(*number)),
        }
    }

    pub(crate) fn watcher_sees(&mut self, node: usize, paths: Vec<MediaPath>) {
        self.person_was_at(node, &paths);
        self.mates_see(node, &paths);
        if self.is_watcher_blind(node) {
            return;
        }
        let life = self.nodes[node].life;
        self.later(300, Happening::Look { node, life, paths });
    }
}
