//! S3, S4, S7 and S8 of folders: what a power cut leaves, what recovery makes of it, and what lies in trash unseen.

use super::{Invariant, found};
use crate::stepping::Interrupted;
use crate::world::World;
use std::collections::BTreeMap;
use tcat_engine::content::Content;
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::Effect;
use tcat_engine::publishing::Recovered;

impl World {
    /// S3: the power went, and what was acknowledged, and what persons saved, is as it was. What was under way is
    /// judged after recovery.
    pub(crate) fn check_power_cut(&mut self, n: usize, before: &BTreeMap<MediaPath, Content>) {
        if !self.planned || self.shares_home(n) {
            return;
        }
        let after = self.contents_of(n);
        let interrupted = &self.nodes[n].steps.interrupted;
        let under_way = |path: &MediaPath| interrupted.iter().any(|left| is_of(left, path));
        let differs = |path: &&MediaPath| before.get(*path) != after.get(*path) && !under_way(path);
        let lost = before.keys().chain(after.keys()).find(differs).cloned();
        let now_ms = self.now_ms();
        self.book.check(Invariant::S3, lost.is_none(), || {
            let (was, is) =
                lost.iter().map(|path| (before.get(path), after.get(path))).next().unwrap_or_default();
            let text = format!("node {}: {lost:?} was {was:?} and is {is:?} after a power cut", n + 1);
            found(now_ms, &[n], &[], text)
        });
    }

    /// S4 and S7: everything that a death interrupted is finished or undone, and nothing in between.
    pub(crate) fn check_recovered(&mut self, n: usize, report: &[Recovered], interrupted: &[Interrupted]) {
        if !self.planned || self.shares_home(n) {
            return;
        }
        if !interrupted.is_empty() || !report.is_empty() {
            let again = self.home(n).recover();
            let wrong = self.what_is_half_done(n, report, interrupted);
            let wrong =
                wrong.or((!again.is_empty()).then(|| format!("recovering twice does more: {again:?}")));
            let now_ms = self.now_ms();
            self.book.check(Invariant::S4, wrong.is_none(), || {
                found(now_ms, &[n], &[], format!("node {}: {}", n + 1, wrong.unwrap_or_default()))
            });
        }
        self.check_whole(n);
    }

    fn what_is_half_done(
        &self,
        n: usize,
        report: &[Recovered],
        interrupted: &[Interrupted],
    ) -> Option<String> {
        if let Some(failed) = report.iter().find(|done| matches!(done, Recovered::Failed { .. })) {
            return Some(failed.to_string());
        }
        let folder = self.folder(n);
        if let Some(left) = folder.disk.temp_names().iter().find(|name| !name.ends_with(".part")) {
            return Some(format!("{left} is left over in .tcat/tmp"));
        }
        let half_done = |left: &&Interrupted| {
            let Some(before) = left.before else { return false };
            let at = |path: &MediaPath| folder.content_at(path);
            let free_of_persons = |path: &MediaPath| !self.was_person_at(n, path);
            match &left.effect {
                Effect::Publish(publish) if free_of_persons(&publish.path) => {
                    let is_one = |is: Content| is == before || is.same_as(&publish.content);
                    !at(&publish.path).is_some_and(is_one)
                }
                Effect::Move { path, to } | Effect::SetAside { path, to, .. }
                    if free_of_persons(path) && free_of_persons(to) =>
                {
                    at(path) != Some(before) && at(to) != Some(before)
                }
                Effect::Trash { path, .. } if free_of_persons(path) => !folder.keeps(&before),
                _ => false,
            }
        };
        let left = interrupted.iter().find(half_done)?;
        Some(format!("{:?} over {:?} is neither done nor undone", left.effect, left.before))
    }

    /// S7: every file that people see is a content that somebody saved.
    fn check_whole(&mut self, n: usize) {
        let known = |content: &Content| {
            let same = |is: &Content| is.same_as(content);
            self.truth.saved.contains(content) || self.truth.rotten.keys().any(same)
        };
        let partial = self.folder(n).contents().into_iter().find(|(_, content)| !known(content));
        let partial = partial.map(|(path, content)| format!("node {}: {path} is {content:?}", n + 1));
        let now_ms = self.now_ms();
        self.book.check(Invariant::S7, partial.is_none(), || {
            found(now_ms, &[n], &[], format!("{}, which nobody saved", partial.unwrap_or_default()))
        });
    }

    /// S8: what a person saved, and no person anywhere overwrote or deleted, is in sight at rest, as a file, an object
    /// or a step of a chain; a copy in trash of which nobody is told is as good as none.
    pub(crate) fn check_in_sight(&mut self, core: &[usize]) {
        let in_sight = |content: &Content| {
            let file = |n: usize| self.folder(n).contents().into_values().any(|held| held == content);
            // Who is dead tells nobody; what it was doing is recovered when it starts again.
            let in_dead_trash = |n: usize| {
                let folder = self.folder(n);
                !core.contains(&n) && (folder.keeps(content) || folder.replaces(content))
            };
            let step = self.truth.links.values().any(|(_, is)| is.same_as(content));
            let given_up = self.truth.given_up.contains(content);
            given_up
                || step
                || (0..self.len()).any(|n| file(n) || in_dead_trash(n))
                || self.catalog.stores(content)
        };
        let hidden = self.saved.iter().find(|(_, content)| !in_sight(content)).copied();
        let now_ms = self.now_ms();
        self.book.check(Invariant::S8, hidden.is_none(), || {
            let nodes: Vec<_> = hidden.iter().map(|(author, _)| *author).collect();
            found(now_ms, &nodes, &[], format!("{hidden:?} lies in trash, and nobody is told"))
        });
    }
}

/// Whether a path is one that an interrupted effect may have changed: its own, or a name beside it.
fn is_of(left: &Interrupted, path: &MediaPath) -> bool {
    let beside = |own: &MediaPath| {
        let stem = own.as_str().rsplit_once('.').map_or(own.as_str(), |(stem, _)| stem);
        path.as_str().starts_with(stem)
    };
    match &left.effect {
        Effect::Publish(publish) => beside(&publish.path),
        Effect::Trash { path, .. } => beside(path),
        Effect::SetAside { path, to, .. } | Effect::Move { path, to } => beside(path) || beside(to),
        _ => false,
    }
}
