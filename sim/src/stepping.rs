//! Work in folders, primitive by primitive: what may happen between any two of them, and what recovery makes of it.
//!
//! Holds always: the machines that ship decide every primitive; a node that dies leaves its work where it is, and
//! the folder is recovered when the node starts again, not before; what recovery kept beside is told to the engine
//! then. Where nothing slows a node's steps and no death waits between them, an effect is done in one go as before,
//! which is what most runs do. Left out: two nodes that work step by step in one folder.

use crate::checks::Before;
use crate::folder::Work;
use crate::plan::Spell;
use crate::random::Stream;
use crate::spells::{Fate, failed};
use crate::store::Ending;
use crate::world::{Happening, World};
use std::collections::{BTreeMap, BTreeSet};
use tcat_engine::content::Content;
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::Planted;
use tcat_engine::ports::{Effect, EffectId, Input};

/// The most primitives before which a person may come: most effects have fewer.
const PRIMITIVES: u64 = 24;
/// How often a node looks at its trash, as the one that ships does.
pub(crate) const TRASH_LOOK_MS: u64 = 30_000;

/// An effect in a folder that is under way.
pub(crate) struct Stepping {
    effect: Effect,
    work: Work<Planted>,
    before: Before,
    answer_lost: bool,
    /// Before which primitive a person comes to its file.
    meddled_at: Option<u64>,
    performed: u64,
}

/// Work that a death has left behind.
#[derive(Clone, Debug)]
pub(crate) struct Interrupted {
    pub(crate) effect: Effect,
    /// What was at its path when it began.
    pub(crate) before: Option<Content>,
}

/// What a node has under way in its folder.
#[derive(Default)]
pub(crate) struct Steps {
    works: BTreeMap<EffectId, Stepping>,
    /// It dies between two primitives: how many come before, how, and for how long.
    pub(crate) dies_at: Option<(u64, Ending, u64)>,
    /// What its last death left behind.
    pub(crate) interrupted: Vec<Interrupted>,
    /// A program wrote into a file of its that was on its way to trash, or there.
    pub(crate) was_written: bool,
    /// Where persons have been since that began.
    pub(crate) persons: BTreeSet<MediaPath>,
}

impl Steps {
    /// Nothing is under way any more that a person could have come to.
    fn forget_persons(&mut self) {
        if self.works.is_empty() && self.interrupted.is_empty() {
            self.persons.clear();
        }
    }
}

impl World {
    /// Whether an effect is done primitive by primitive now.
    pub(crate) fn is_stepped(&self, n: usize, effect: &Effect) -> bool {
        let folder = matches!(
            effect,
            Effect::Publish(_) | Effect::Trash { .. } | Effect::SetAside { .. } | Effect::Move { .. }
        );
        let steps = &self.nodes[n].steps;
        folder && (steps.dies_at.is_some() || self.slow_steps_ms(n).is_some()) && !self.shares_home(n)
    }

    pub(crate) fn shares_home(&self, n: usize) -> bool {
        self.nodes.iter().filter(|node| node.home == self.nodes[n].home).count() > 1
    }

    fn slow_steps_ms(&self, n: usize) -> Option<u64> {
        let late = |spell: &Spell| match spell {
            Spell::SlowSteps { node, late_ms } if *node == n => Some(*late_ms),
            _ => None,
        };
        self.spells.iter().filter_map(|(_, _, spell)| late(spell)).max()
    }

    /// Begins an effect in a folder.
    pub(crate) fn begin_steps(&mut self, n: usize, life: u64, id: EffectId, effect: Effect) {
        let permille = self.meddling_permille(n);
        let random = self.streams.of(Stream::Steps, n);
        let meddled_at = (permille > 0 && random.permille(permille)).then(|| random.below(PRIMITIVES));
        let answer_lost = match self.fate(n, &effect) {
            Fate::Done => false,
            Fate::AnswerLost => true,
            Fate::Refused(outcome) => {
                let ms = self.streams.of(Stream::Steps, n).below(20);
                let input = Box::new(Input::Done(id, outcome));
                return self.later(ms, Happening::Input { node: n, life, input });
            }
            // Of what is done in folders nothing else goes wrong.
            Fate::AppliedLate | Fate::Stale => false,
        };
        let Some(work) = self.folder(n).begin(&effect) else { return };
        let before = self.before_effect(n, &effect);
        let stepping = Stepping { effect, work, before, answer_lost, meddled_at, performed: 0 };
        self.nodes[n].steps.works.insert(id, stepping);
        self.step_folder(n, life, id);
    }

    /// Performs the next primitive of an effect, or all that are left.
    pub(crate) fn step_folder(&mut self, n: usize, life: u64, id: EffectId) {
        while let Some(stepping) = self.nodes[n].steps.works.get_mut(&id) {
            if stepping.meddled_at.take_if(|at| *at == stepping.performed).is_some() {
                let place = crate::faults::place_of(&stepping.effect).map(ToString::to_string);
                self.meddle(n, &place.unwrap_or_default());
            }
            if let Some((left, how, down_ms)) = self.nodes[n].steps.dies_at {
                self.nodes[n].steps.dies_at = Some((left.saturating_sub(1), how, down_ms));
                if left == 0 {
                    self.goals.met("crash-between-steps");
                    return self.end_for(n, how, down_ms, 0);
                }
            }
            let Some(mut stepping) = self.nodes[n].steps.works.remove(&id) else { return };
            stepping.performed += 1;
            if let Some(outcome) = self.home(n).step(&mut stepping.work) {
                self.goals.met("stepped");
                self.at_catalog_of(n, |world| {
                    world.check_files(n, &stepping.effect, stepping.before, &outcome);
                });
                self.nodes[n].steps.forget_persons();
                let outcome = if stepping.answer_lost { failed("a simulated timeout") } else { outcome };
                let ms = self.streams.of(Stream::Steps, n).below(20);
                let input = Box::new(Input::Done(id, outcome));
                return self.later(ms, Happening::Input { node: n, life, input });
            }
            self.nodes[n].steps.works.insert(id, stepping);
            if let Some(late_ms) = self.slow_steps_ms(n) {
                let ms = 1 + self.streams.of(Stream::Steps, n).below(late_ms);
                return self.later(ms, Happening::Step { node: n, life, id });
            }
        }
    }

    /// A node has died: its folder is left as it is, but for what a power cut takes.
    pub(crate) fn leave_folder(&mut self, n: usize, how: Ending) {
        let works = std::mem::take(&mut self.nodes[n].steps.works);
        let left = works.into_values().map(|stepping| {
            let before = stepping.before.first();
            Interrupted { effect: stepping.effect, before }
        });
        let left: Vec<_> = left.collect();
        let steps = &mut self.nodes[n].steps;
        steps.dies_at = None;
        steps.interrupted.extend(left);
        match how {
            Ending::PowerCut => self.cut_folder(n),
            Ending::Kill | Ending::Stop => {}
        }
    }

    /// The power goes where a node's folder is.
    pub(crate) fn cut_folder(&mut self, n: usize) {
        let before = self.contents_of(n);
        self.home(n).lose_power();
        self.check_power_cut(n, &before);
    }

    /// What is at each path of a folder.
    pub(crate) fn contents_of(&self, n: usize) -> BTreeMap<MediaPath, Content> {
        let contents = self.folder(n).contents();
        contents.into_iter().map(|(path, content)| (path.clone(), *content)).collect()
    }

    /// Finishes what a death interrupted in the folder of a node that starts; what that kept beside is returned.
    pub(crate) fn recover_folder(&mut self, n: usize) -> Vec<Input> {
        let report = self.home(n).recover();
        let interrupted = std::mem::take(&mut self.nodes[n].steps.interrupted);
        self.check_recovered(n, &report, &interrupted);
        self.nodes[n].steps.forget_persons();
        let kept = report.into_iter().filter_map(|done| match done {
            tcat_engine::publishing::Recovered::KeptBeside { path, kept_as } => {
                Some(Input::KeptBeside { path, kept_as })
            }
            _ => None,
        });
        kept.collect()
    }

    /// A node that has just started tells its engine what recovery kept beside, and will look at its trash.
    pub(crate) fn begin_watching_trash(&mut self, n: usize, kept: Vec<Input>) {
        if !self.planned {
            return;
        }
        for input in kept {
            self.goals.met("kept-by-recovery");
            self.input(n, input);
        }
        let life = self.nodes[n].life;
        self.later(TRASH_LOOK_MS, Happening::Trash { node: n, life });
    }

    /// A person was at these paths of a node's folder.
    pub(crate) fn person_was_at(&mut self, n: usize, paths: &[MediaPath]) {
        let home = self.nodes[n].home;
        let steps = &mut self.nodes[home].steps;
        if !(steps.works.is_empty() && steps.interrupted.is_empty()) {
            steps.persons.extend(paths.iter().cloned());
        }
    }

    /// Whether a person was there since the work that is under way, or was last, began.
    pub(crate) fn was_person_at(&self, n: usize, path: &MediaPath) -> bool {
        self.nodes[self.nodes[n].home].steps.persons.contains(path)
    }

    /// A node looks at its trash: what was written there is kept beside the path that it had.
    pub(crate) fn look_at_trash(&mut self, n: usize, life: u64) {
        self.later(TRASH_LOOK_MS, Happening::Trash { node: n, life });
        if self.is_unmounted(n) {
            return;
        }
        for (path, kept_as) in self.home(n).scan_trash() {
            self.goals.met("kept-from-trash");
            self.note(n, "kept-from-trash", || format!("{path} as {kept_as}"));
            self.input(n, Input::KeptBeside { path, kept_as });
        }
    }
}
