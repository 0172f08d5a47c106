//! What is wrong for a time, and what it does to messages, effects and looks while it lasts.

use crate::faults::place_of;
use crate::plan::{Mishap, Site, Spell, Strike};
use crate::random::Stream;
use crate::store::Ending;
use crate::world::{Happening, Weather, World};
use std::collections::BTreeSet;
use tcat_engine::ports::{Effect, Input, Outcome};

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Passage {
    /// How many copies arrive, and how much later at most the last one.
    pub(crate) copies: u32,
    pub(crate) delay_ms_max: u64,
    /// Not before this time.
    pub(crate) not_before_ms: u64,
    /// One more copy comes much later.
    pub(crate) replay_ms: Option<u64>,
}

/// Which kind of effect this is.
pub(crate) fn site(effect: &Effect) -> Site {
    match effect {
        Effect::ReadFeed { .. } => Site::ReadFeed,
        Effect::Create(_) => Site::Create,
        Effect::Intend(_) => Site::Intend,
        Effect::Put { .. } => Site::Put,
        Effect::Commit(_) => Site::Commit,
        Effect::Get { .. } => Site::Get,
        Effect::Fetch { .. } => Site::Fetch,
        Effect::Untrash { .. } => Site::Untrash,
        Effect::Publish(_) => Site::Publish,
        Effect::Trash { .. } | Effect::SetAside { .. } | Effect::Move { .. } => Site::Move,
        Effect::Borrow { .. } => Site::Borrow,
        Effect::VisitRoster(_) => Site::VisitRoster,
        Effect::Kill(_) => Site::Kill,
        Effect::Delete { .. } => Site::Delete,
        Effect::Unsound(_) => Site::Unsound,
        Effect::NewEpoch(_) => Site::NewEpoch,
        Effect::Offer(_) => Site::Offer,
        Effect::Repath(_) => Site::Repath,
    }
}

/// Whether an effect of this kind happens at the catalog or the object store.
fn is_far(site: Site) -> bool {
    is_order(site) || matches!(site, Site::ReadFeed | Site::VisitRoster | Site::Put | Site::Get)
}

/// Whether it changes the catalog, or the objects by their names: it may be done late.
fn is_order(site: Site) -> bool {
    matches!(
        site,
        Site::Create
            | Site::Intend
            | Site::Commit
            | Site::Kill
            | Site::Delete
            | Site::Unsound
            | Site::NewEpoch
            | Site::Offer
            | Site::Repath
    )
}

/// Whether it needs the media folder.
fn needs_folder(site: Site) -> bool {
    !is_order(site) && !matches!(site, Site::ReadFeed | Site::VisitRoster)
}

/// What becomes of an effect.
pub(crate) enum Fate {
    /// It is not done; this is its answer.
    Refused(Outcome),
    /// It is done.
    Done,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// It is done later, and says that it failed.
    AppliedLate,
    /// It is a reading of the feed that ends early.
    Stale,
}

pub(crate) fn failed(why: &str) -> Outcome {
    Outcome::Failed(why.into())
}

impl World {
    /// Begins what is wrong for a time.
    pub(crate) fn begin_spell(&mut self, fault: Spell, for_ms: u64) {
        self.next_spell += 1;
        let id = self.next_spell;
        let until_ms = self.now_ms() + for_ms;
        self.note_everywhere("fault", || format!("{fault:?} for {for_ms} ms"));
        self.spells.push((id, until_ms, fault));
        self.fill_disks();
        self.later(for_ms, Happening::SpellEnds(id));
    }

    pub(crate) fn spell_ends(&mut self, id: u64) {
        self.spells.retain(|(known, _, _)| *known != id);
        self.fill_disks();
    }

    pub(crate) fn end_spells(&mut self) {
        self.spells.clear();
        self.calm_disks();
    }

    /// What goes wrong in a moment.
    pub(crate) fn strike(&mut self, strike: &Strike) {
        match *strike {
            Strike::Crash { node, down_ms, noticed_ms } => self.crash_for(node, down_ms, noticed_ms),
            Strike::CrashAtEffect { node, skip, before, down_ms } => {
                self.nodes[node].dies_at = Some((skip, before, down_ms));
            }
            Strike::Kill { node, down_ms, noticed_ms } => {
                self.end_for(node, Ending::Kill, down_ms, noticed_ms);
            }
            Strike::DieBetweenSteps { node, skip, kill, down_ms } => {
                let how = if kill { Ending::Kill } else { Ending::PowerCut };
                self.nodes[node].steps.dies_at = Some((skip, how, down_ms));
            }
            Strike::OpenFile { node, ref path, content, after_ms } => {
                self.open_file(node, path, content, after_ms);
            }
            Strike::Disk { node, trouble, passes } => self.arm_disk(node, trouble, passes),
            Strike::Pause { node, for_ms } => {
                self.note(node, "pause", || format!("{for_ms} ms"));
                // One that falls into another is part of it: what waits for its end must not overtake itself.
                if self.nodes[node].paused_until_ms <= self.now_ms() {
                    self.nodes[node].paused_until_ms = (self.now_ms() + for_ms).min(self.calm_at_ms);
                }
            }
            Strike::StepClock { node, by_ms } => {
                self.note(node, "clock", || format!("{by_ms} ms"));
                self.nodes[node].clock.step(by_ms);
            }
            Strike::StepDiskClock { node, by_ms } => {
                self.note(node, "disk-clock", || format!("{by_ms} ms"));
                self.step_disk_clock(node, by_ms);
            }
            Strike::Flap { a, b, for_ms } => {
                let (id_a, id_b) = (self.id(a), self.id(b));
                self.tell(a, Input::Disconnected(id_b));
                self.tell(b, Input::Disconnected(id_a));
                let for_ms = for_ms.min(self.calm_at_ms.saturating_sub(self.now_ms()));
                self.later(for_ms, Happening::Meet { a, b });
            }
            Strike::BackUpCatalog
            | Strike::RestoreCatalog
            | Strike::Clone { .. }
            | Strike::Retire { .. }
            | Strike::LaterVersion { .. }
            | Strike::TakenOver { .. }
            | Strike::Promote { .. } => self.strike_at_members(strike),
            Strike::Wipe { node, down_ms } => {
                *self.truth.losses.entry(node).or_default() += 1;
                self.crash_for(node, down_ms, 0);
                self.wipe(node);
                self.nodes[node].snapshot = None;
                self.truth.told.remove(&node);
                self.note(node, "wipe", String::new);
            }
            Strike::Snapshot { node } => {
                let copy = self.nodes[node].engine.as_ref().map(|engine| engine.store().snapshot());
                self.nodes[node].snapshot = copy;
            }
            Strike::Restore { node, down_ms } => {
                let Some(snapshot) = self.nodes[node].snapshot.take() else { return };
                *self.truth.losses.entry(node).or_default() += 1;
                self.crash_for(node, down_ms, 0);
                self.nodes[node].store.put_back(&snapshot);
                self.truth.told.remove(&node);
                self.note(node, "restore", String::new);
            }
        }
    }

    /// What becomes of a message now.
    pub(crate) fn passage(&mut self, from: usize, to: usize, bytes: usize) -> Passage {
        let mut weather = self.weather;
        let mut passage = Passage { copies: 1, ..Passage::default() };
        let mut replay = None;
        if self.cuts.contains(&(from, to)) || self.deaf.contains(&to) {
            passage.copies = 0;
        }
        for (_, until_ms, spell) in &self.spells {
            match spell {
                Spell::Cut { from: these, to: those } if these.contains(&from) && those.contains(&to) => {
                    passage.copies = 0;
                }
                Spell::Clog { from: one, to: other } if *one == from && *other == to => {
                    passage.not_before_ms = *until_ms;
                }
                Spell::Weather { node, weather: worse }
                    if node.is_none_or(|node| node == from || node == to) =>
                {
                    weather = worst(weather, *worse);
                }
                Spell::Replay { permille, late_ms } => replay = Some((*permille, *late_ms)),
                Spell::ShortFrames { bytes_max } if bytes > *bytes_max => passage.copies = 0,
                _ => {}
            }
        }
        let random = self.streams.of(Stream::Link, from * 64 + to);
        if passage.copies > 0 && weather.loss_permille > 0 && random.permille(weather.loss_permille) {
            passage.copies = 0;
        } else if passage.copies > 0 && weather.twice_permille > 0 && random.permille(weather.twice_permille)
        {
            passage.copies = 2;
        }
        if let Some((permille, late_ms)) = replay.filter(|_| passage.copies > 0) {
            passage.replay_ms = random.permille(permille).then(|| random.below(late_ms));
        }
        passage.delay_ms_max = weather.delay_ms_max;
        passage
    }

    /// Whether nothing gets from one node to another now.
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        let cuts = |spell: &Spell| matches!(spell, Spell::Cut { from: these, to: those } if these.contains(&from) && those.contains(&to));
        self.cuts.contains(&(from, to)) || self.spells.iter().any(|(_, _, spell)| cuts(spell))
    }

    pub(crate) fn is_unmounted(&self, n: usize) -> bool {
        self.faults.unmounted == Some(n)
            || self.spells.iter().any(|(_, _, spell)| *spell == Spell::Unmounted { node: n })
    }

    pub(crate) fn is_watcher_blind(&self, n: usize) -> bool {
        self.spells.iter().any(|(_, _, spell)| *spell == Spell::BlindWatcher { node: n })
    }

    /// How long looks may take beyond their usual time.
    pub(crate) fn slow_looks_ms(&self, n: usize) -> u64 {
        let late = |spell: &Spell| match spell {
            Spell::SlowLooks { node, late_ms } if *node == n => Some(*late_ms),
            _ => None,
        };
        self.spells.iter().filter_map(|(_, _, spell)| late(spell)).max().unwrap_or(0)
    }

    /// How long effects may take beyond their usual time.
    pub(crate) fn slow_effects_ms(&self, n: usize) -> u64 {
        let late = |spell: &Spell| match spell {
            Spell::SlowEffects { node, late_ms } if *node == n => Some(*late_ms),
            _ => None,
        };
        self.spells.iter().filter_map(|(_, _, spell)| late(spell)).max().unwrap_or(0)
    }

    /// Does an effect, or not; says so, or not; and a person may be at its file in the same moment.
    pub(crate) fn perform_among_faults(&mut self, n: usize, effect: Effect) -> Outcome {
        let place = place_of(&effect).map(ToString::to_string);
        let permille = self.meddling_permille(n);
        let random = self.streams.of(Stream::Fault, n);
        let meddled = permille > 0 && random.permille(permille);
        let first = meddled && random.below(2) == 0;
        if let (true, Some(place)) = (first, &place) {
            self.meddle(n, place);
        }
        let outcome = self.perform_or_not(n, effect);
        if let (true, Some(place)) = (meddled && !first, &place) {
            self.meddle(n, place);
        }
        outcome
    }

    pub(crate) fn meddling_permille(&self, n: usize) -> u64 {
        let meddling = |spell: &Spell| match spell {
            Spell::Meddling { node, permille } if *node == n => Some(*permille),
            _ => None,
        };
        let spells = self.spells.iter().filter_map(|(_, _, spell)| meddling(spell));
        spells.max().unwrap_or(0).max(self.faults.meddled_permille)
    }

    /// What becomes of an effect now.
    pub(crate) fn fate(&mut self, n: usize, effect: &Effect) -> Fate {
        let faults = self.faults;
        let site = site(effect);
        if let Effect::Commit(commit) = effect {
            let shares = (0..self.len()).filter(|n| self.shares_home(*n)).map(|n| self.id(n));
            let (sharing, moved): (BTreeSet<_>, _) = (shares.collect(), &self.truth.moved);
            let names_it = |client: &_, content: &_| sharing.contains(client) || moved.contains(content);
            self.catalog.asked(commit, names_it);
        }
        let random = self.streams.of(Stream::Fault, n);
        if faults.failed_permille > 0 && random.permille(faults.failed_permille) {
            return Fate::Refused(failed("a simulated fault"));
        }
        if faults.denies(n, effect) {
            return Fate::Refused(failed("a simulated fault"));
        }
        let lost = faults.lost_permille > 0 && random.permille(faults.lost_permille);
        if let Some(refusal) = self.refusal(n, site) {
            return Fate::Refused(refusal);
        }
        let mishap = if lost { Some(Mishap::AnswerLost) } else { self.mishap(n, site) };
        match mishap {
            None => Fate::Done,
            Some(Mishap::Fails) => Fate::Refused(failed("a simulated fault")),
            Some(Mishap::Corrupt) => Fate::Refused(Outcome::Corrupt),
            Some(Mishap::AnswerLost) => Fate::AnswerLost,
            Some(Mishap::AppliedLate) => Fate::AppliedLate,
            Some(Mishap::Stale) => Fate::Stale,
        }
    }

    fn perform_or_not(&mut self, n: usize, effect: Effect) -> Outcome {
        let site = site(&effect);
        match self.fate(n, &effect) {
            Fate::Done => self.perform_checked(n, effect),
            Fate::Refused(outcome) => outcome,
            Fate::AnswerLost => {
                self.note(n, "answer-lost", || format!("{site:?}"));
                self.perform_checked(n, effect);
                failed("a simulated timeout")
            }
            Fate::AppliedLate => {
                self.note(n, "applied-late", || format!("{site:?}"));
                let ms = 500 + self.streams.of(Stream::Fault, n).below(10_000);
                let ms = ms.min(self.calm_at_ms.saturating_sub(self.now_ms()).saturating_add(500));
                let catalog = self.shown_catalog();
                self.later(ms, Happening::Late { node: n, effect, catalog });
                failed("a simulated timeout")
            }
            Fate::Stale => self.stale(n, effect),
        }
    }

    /// What keeps every effect of this kind from being done now.
    pub(crate) fn refusal(&self, n: usize, site: Site) -> Option<Outcome> {
        let refuses = |spell: &Spell| match spell {
            Spell::CatalogAway { node } if is_far(site) && node.is_none_or(|node| node == n) => {
                Some(failed("the catalog cannot be reached"))
            }
            Spell::DiskFull { node } if *node == n => {
                let writes = matches!(site, Site::Get | Site::Fetch | Site::Untrash | Site::Borrow);
                writes.then(|| Outcome::NoRoom("the disk is full".into()))
            }
            Spell::Unmounted { node } if *node == n && needs_folder(site) => {
                Some(failed("the media folder is not there"))
            }
            _ => None,
        };
        let host = is_far(site).then(|| self.host_refuses(n, site == Site::ReadFeed)).flatten();
        host.or_else(|| self.spells.iter().find_map(|(_, _, spell)| refuses(spell)))
    }

    fn mishap(&mut self, n: usize, site: Site) -> Option<Mishap> {
        let random = self.streams.of(Stream::Fault, n);
        let mut mishap = None;
        for (_, _, spell) in &self.spells {
            let Spell::Effects { node, site: of, how, permille } = spell else { continue };
            let fits = match how {
                Mishap::Fails | Mishap::AnswerLost => true,
                Mishap::AppliedLate => is_order(site),
                Mishap::Corrupt => matches!(site, Site::Get | Site::Fetch),
                Mishap::Stale => site == Site::ReadFeed,
            };
            if *node == n && fits && of.is_none_or(|of| of == site) && random.permille(*permille) {
                mishap = mishap.or(Some(*how));
            }
        }
        mishap
    }

    /// A reading of the feed that stops early and says that this was the head.
    fn stale(&mut self, n: usize, effect: Effect) -> Outcome {
        let Effect::ReadFeed { after, .. } = effect else { return failed("a simulated fault") };
        let limit = 1 + self.streams.of(Stream::Fault, n).below(3) as u32;
        match self.perform_checked(n, Effect::ReadFeed { after, limit }) {
            Outcome::Feed(mut page) => {
                page.more = false;
                Outcome::Feed(page)
            }
            other => other,
        }
    }
}

fn worst(one: Weather, other: Weather) -> Weather {
    Weather {
        loss_permille: one.loss_permille.max(other.loss_permille),
        twice_permille: one.twice_permille.max(other.twice_permille),
        delay_ms_max: one.delay_ms_max.max(other.delay_ms_max),
    }
}
