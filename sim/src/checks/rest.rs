//! The end of a run: faults have stopped for the core, and what must come to be is waited for and looked at.

use super::{Invariant, found};
use crate::stepping::TRASH_LOOK_MS;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use tcat_engine::catalog::RowState;
use tcat_engine::engine::Report;
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::{BrakeAnswer, Event};

/// Parked tasks are tried again after five minutes.
const PARKED_MS: u64 = 330_000;
/// Within this time everything that can be done is done.
pub const PATIENCE_MS: u64 = 600_000;
/// How often in a row a host may find at the end that objects are missing.
const HOST_LOOKS: usize = 4;
/// How long a world at rest is watched for things that it should not do. The roster is visited once a minute, so all
/// that a visit brings comes within this time too.
const QUIET_MS: u64 = 110_000;

/// What goes on without end is not in here: anything that changes in a world at rest is unrest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Unrest {
    orders: u64,
    words: u64,
    changes: usize,
    said: usize,
}

impl World {
    /// Waits for the core to rest, and checks all that must hold then.
    pub(crate) fn check_the_end(&mut self) {
        let core: Vec<_> = (0..self.len()).filter(|n| !self.is_out(*n)).collect();
        // One that was parked when its node stopped is so still, and named as resting: no event says it again.
        let parks = |report: &Report| report.resting.iter().any(|(_, why)| why.starts_with("parked: "));
        let parked = self.log.iter().any(|(_, _, event)| matches!(event, Event::Parked(..)));
        if parked || self.reports(&core).iter().any(|(_, report)| parks(report)) {
            self.wait_for_parked(&core);
        }
        // What programs wrote into files that were leaving is found by the next look at trash.
        if core.iter().any(|n| self.nodes[*n].steps.was_written) {
            self.run_for(TRASH_LOOK_MS + 1_000);
        }
        if !self.core_rests(&core) || self.persons_answer(&core) && !self.core_rests(&core) {
            return;
        }
        if !self.objects_are_there(&core) {
            return;
        }
        self.check_rest(&core);
        let before = self.unrest();
        self.run_for(QUIET_MS);
        if self.is_spent {
            return;
        }
        let (after, now_ms) = (self.unrest(), self.now_ms());
        self.book.check(Invariant::L3, before == after, || {
            found(now_ms, &core, &[], format!("at rest {before:?} became {after:?}"))
        });
        self.check_rest(&core);
        self.check_scans(&core);
        self.check_in_sight(&core);
        self.check_ledgers(&core);
    }

    /// L3: the scans of a world at rest read no file, and find none busy, whatever the clocks of disks show.
    fn check_scans(&mut self, core: &[usize]) {
        let now_ms = self.now_ms();
        for n in core.iter().copied() {
            if self.disk_ns(n).is_none() {
                continue;
            }
            let (read, busy) = self.unrest_of_scan(n);
            self.book.check(Invariant::L3, (read, busy) == (0, 0), || {
                let text = format!("at rest node {} still reads {read} files, and finds {busy} busy", n + 1);
                found(now_ms, &[n], &[], text)
            });
        }
    }

    /// Where a node keeps the objects, it looks for them now and then, and what it misses is brought by the others: they
    /// did not know, and rested. Whether they do again.
    fn objects_are_there(&mut self, core: &[usize]) -> bool {
        for _ in 0..HOST_LOOKS {
            let before = self.unrest();
            if self.is_hosted() {
                self.run_for(crate::hosts::LOOK_MS + 1_000);
            }
            if self.unrest() == before {
                return true;
            }
            if !self.core_rests(core) {
                return false;
            }
        }
        true
    }

    /// Waits until the whole core rests; whether it does.
    fn core_rests(&mut self, core: &[usize]) -> bool {
        for n in core {
            let rests = self.run_until_rested(*n, self.patience_ms);
            if self.is_spent {
                return false;
            }
            if !rests {
                self.restless(core, *n);
                return false;
            }
            self.book.check(Invariant::L1, true, || found(0, &[], &[], String::new()));
            self.book.check(Invariant::L4, true, || found(0, &[], &[], String::new()));
        }
        true
    }

    /// What a brake holds waits for a person, however long that takes, and is then done like all else: at the end of a
    /// run each that is on is answered. The persons of a plan have meant what they did. Whether one was asked anything.
    fn persons_answer(&mut self, core: &[usize]) -> bool {
        let is_on = |n: &usize| self.engine(*n).is_some_and(|engine| engine.brake_report().on);
        let asked: Vec<_> = core.iter().copied().filter(is_on).collect();
        asked.iter().for_each(|n| self.answer_brake(*n, BrakeAnswer::Accept));
        !asked.is_empty()
    }

    fn wait_for_parked(&mut self, core: &[usize]) {
        let before = self.inputs;
        self.run_for(PARKED_MS);
        let (inputs, now_ms) = (self.inputs - before, self.now_ms());
        let least_ms = core.iter().map(|n| self.nodes[*n].plan.lease_ms).min().unwrap_or(1).max(5);
        let beats = PARKED_MS / (least_ms / 5) * (core.len() * core.len()) as u64;
        let most = 2 * beats + PARKED_MS / 10 * core.len() as u64;
        self.book.check(Invariant::L3, inputs <= most, || {
            found(now_ms, core, &[], format!("{inputs} inputs in {PARKED_MS} ms: going round in circles"))
        });
    }

    fn unrest(&self) -> Unrest {
        // A second file whose name differs in case alone is named anew by every scan.
        let news = |(_, _, event): &&(u64, usize, Event)| !matches!(event, Event::Unreadable(..));
        let (changes, said) = (self.catalog.changes(), self.log.iter().filter(news).count());
        Unrest { orders: self.orders, words: self.words, changes, said }
    }

    fn reports(&self, core: &[usize]) -> Vec<(usize, Report)> {
        core.iter().filter_map(|n| Some((*n, self.engine(*n)?.report()))).collect()
    }

    /// A node does not come to rest: is it work that makes no progress, or an item that nobody looks at?
    fn restless(&mut self, core: &[usize], waits: usize) {
        let reports = self.reports(core);
        let working = reports.iter().any(|(_, report)| !report.tasks.is_empty());
        // Where every item is settled, a node waits for another that makes no progress.
        let unsettled = reports.iter().any(|(_, report)| report.unsettled > 0);
        let invariant = if working || !unsettled { Invariant::L1 } else { Invariant::L4 };
        let items: Vec<_> =
            reports.iter().flat_map(|(_, report)| &report.tasks).map(|task| task.item).collect();
        let (now_ms, patience_ms) = (self.now_ms(), self.patience_ms);
        self.book.check(invariant, false, || {
            let lines: Vec<_> = reports.iter().map(|(n, report)| line(*n, report)).collect();
            let text = format!(
                "node {} does not come to rest within {patience_ms} ms\n{}",
                waits + 1,
                lines.join("\n")
            );
            found(now_ms, core, &items, text)
        });
    }

    fn check_rest(&mut self, core: &[usize]) {
        self.check_catalogs_memory();
        self.check_equal(core);
        self.check_named(core);
        self.check_leftovers(core);
        self.check_versions();
        for content in self.saved.iter().map(|(_, content)| *content).collect::<Vec<_>>() {
            self.check_found(&content, &[]);
            self.check_open(&content);
        }
        self.check_saved_again();
        self.check_removed();
        core.iter().for_each(|n| self.check_backlog(*n));
    }

    /// S5: what lost a conflict is kept once, however many held it.
    fn check_versions(&mut self) {
        let now_ms = self.now_ms();
        let mut once = BTreeMap::new();
        let mut twice = Vec::new();
        for row in self.catalog.rows().filter(|row| row.state == RowState::Active) {
            // One that has gone on from what it kept is another thing by now.
            let Some(of) = row.version_of.filter(|_| row.chain.len() == 1) else { continue };
            if let Some(first) = once.insert((of, row.content.key()), row.item) {
                twice.extend([first, row.item]);
            }
        }
        self.book.check(Invariant::S5, twice.is_empty(), || {
            found(now_ms, &[], &twice, "one content of one item is kept as two versions".to_owned())
        });
    }

    /// L2.
    fn check_equal(&mut self, core: &[usize]) {
        let now_ms = self.now_ms();
        let active = || self.catalog.rows().filter(|row| row.state == RowState::Active);
        let expected: BTreeMap<_, _> = active().map(|row| (&row.cache_path, &row.content)).collect();
        let by_path: BTreeMap<_, _> = active().map(|row| (&row.cache_path, row.item)).collect();
        let mut wrong = None;
        for n in core {
            let mut files = self.folder(*n).contents();
            let back = self.went_back(*n);
            let mut expected = expected.clone();
            expected.retain(|path, _| !back.contains(*path));
            files.retain(|path, _| !back.contains(*path));
            // Left alone and named until a person renames it; the item's own file keeps its spelling till then.
            let twins = self.named_twins(*n);
            files.retain(|path, _| !twins.contains(*path));
            for assigned in expected.keys().filter(|path| twins.contains(**path)) {
                let spelled = files.keys().find(|path| path.folded() == assigned.folded()).copied();
                if let Some(content) = spelled.and_then(|path| files.remove(path)) {
                    files.insert(assigned, content);
                }
            }
            if files != expected {
                let differs = |path: &&_| files.get(path) != expected.get(path);
                let paths: Vec<_> = files.keys().chain(expected.keys()).copied().filter(differs).collect();
                let items: Vec<_> = paths.iter().filter_map(|path| by_path.get(*path).copied()).collect();
                let text = format!("node {} differs from the catalog at {paths:?}", n + 1);
                wrong = wrong.or(Some((vec![*n], items, text)));
            }
        }
        let reports = self.reports(core);
        if let Some((first, ours)) = reports.first() {
            for (n, report) in &reports {
                if report.vector != ours.vector && wrong.is_none() {
                    let text = format!("node {} knows other ledgers than node {}", n + 1, first + 1);
                    wrong = Some((vec![*n, *first], vec![], text));
                }
            }
        }
        let unsound = active().find(|row| !self.catalog.object_is_sound(row)).map(|row| row.item);
        self.book.check(Invariant::L2, wrong.is_none(), || {
            let (nodes, items, text) = wrong.unwrap_or_default();
            found(now_ms, &nodes, &items, text)
        });
        self.book.check(Invariant::S7, unsound.is_none(), || {
            let items: Vec<_> = unsound.into_iter().collect();
            found(now_ms, &[], &items, format!("{items:?} has no sound object"))
        });
    }

    /// Files whose names differ from another's in case alone, and of which people were told: of all files of one name
    /// those that were named last, but one, which is the item's.
    fn named_twins(&self, n: usize) -> BTreeSet<MediaPath> {
        let files = self.folder(n).contents();
        let mut named: BTreeMap<_, Vec<&MediaPath>> = BTreeMap::new();
        for (_, at, event) in &self.log {
            let Event::Unreadable(path, why) = event else { continue };
            if *at == n && why.contains("is the same name") && files.contains_key(path) {
                let names = named.entry(path.folded()).or_default();
                names.retain(|known| *known != path);
                names.push(path);
            }
        }
        let twins = |(folded, names): (_, Vec<&MediaPath>)| {
            let all = files.keys().filter(|path| path.folded() == folded).count();
            names.into_iter().rev().take(all.saturating_sub(1)).cloned().collect::<Vec<_>>()
        };
        named.into_iter().flat_map(twins).collect()
    }

    /// L6: an item that is pending at rest, and whatever else is left undone, is named with a reason.
    fn check_named(&mut self, core: &[usize]) {
        let now_ms = self.now_ms();
        let pending: Vec<_> = self
            .catalog
            .rows()
            .filter(|row| matches!(row.state, RowState::Pending { .. }))
            .map(|row| row.item)
            .collect();
        for (n, report) in self.reports(core) {
            let named =
                |item: &&_| report.resting.iter().any(|(known, why)| known == *item && !why.is_empty());
            let unnamed: Vec<_> = pending.iter().filter(|item| !named(item)).copied().collect();
            self.book.check(Invariant::L6, unnamed.is_empty(), || {
                let text = format!(
                    "node {} says nothing of {unnamed:?}, which nobody can bring to the cloud",
                    n + 1
                );
                found(now_ms, &[n], &unnamed, text)
            });
            let settled = |item: &_| !pending.contains(item);
            let back = self.went_back(n);
            let path = |item: &_| self.catalog.row(item).map(|row| row.cache_path.clone());
            let asked = |item: &_| path(item).is_some_and(|path| back.contains(&path));
            let idle: Vec<_> =
                report.resting.iter().filter(|(item, _)| settled(item) && !asked(item)).collect();
            self.book.check(Invariant::L4, idle.is_empty(), || {
                let items: Vec<_> = idle.iter().map(|(item, _)| *item).collect();
                found(
                    now_ms,
                    &[n],
                    &items,
                    format!("node {} leaves alone what could be done: {idle:?}", n + 1),
                )
            });
        }
    }

    /// L5.
    fn check_leftovers(&mut self, core: &[usize]) {
        let now_ms = self.now_ms();
        for (n, report) in self.reports(core) {
            // A reading of the feed and a visit to the roster may be under way.
            let endless = |effect: &&bool| **effect;
            let (tasks, hand) = (report.tasks.len(), self.nodes[n].in_hand.values());
            let left = hand.len() - hand.filter(endless).count();
            self.book.check(Invariant::L5, tasks == 0 && left == 0, || {
                found(now_ms, &[n], &[], format!("node {} rests with {tasks} tasks, {left} effects", n + 1))
            });
        }
    }

    /// S9.
    fn check_removed(&mut self) {
        let now_ms = self.now_ms();
        let back: Vec<_> =
            self.truth.removed.keys().filter(|item| self.catalog.row(item).is_some()).copied().collect();
        let elsewhere: Vec<_> = self
            .truth
            .removed
            .iter()
            .flat_map(|(item, contents)| contents.iter().map(move |content| (item, content)))
            .filter(|(_, content)| !self.truth.moved.contains(content))
            .filter(|(_, content)| self.catalog.rows().any(|row| row.content.same_as(content)))
            .map(|(item, _)| *item)
            .collect();
        if self.truth.removed.is_empty() {
            return;
        }
        self.book.check(Invariant::S9, back.is_empty() && elsewhere.is_empty(), || {
            let items: Vec<_> = back.iter().chain(&elsewhere).copied().collect();
            found(now_ms, &[], &items, format!("{items:?} were removed for good and are back"))
        });
    }
}

fn line(n: usize, report: &Report) -> String {
    let tasks: Vec<_> = report
        .tasks
        .iter()
        .take(4)
        .map(|task| format!("{:?} {} {} {:?}", task.item, task.kind, task.state, task.error))
        .collect();
    format!(
        "  node {}: at rest {}, unsettled {}, uploads {}, downloads {}, tasks [{}], resting {}",
        n + 1,
        report.at_rest,
        report.unsettled,
        report.uploads_waiting,
        report.downloads_waiting,
        tasks.join("; "),
        report.resting.len()
    )
}
