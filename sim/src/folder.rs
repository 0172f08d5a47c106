//! A node's cache folder in the simulator: the engine's publishing machines on a model file system, and its persons.
//!
//! Publishing, trashing, moving and recovering are not modelled: the machines that ship decide, this performs their
//! primitives. A [`Work`] is one of them under way, to be stopped between any two primitives.

use crate::file_system::{FileSystem, Refusal};
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tcat_engine::content::Content;
use tcat_engine::observation::{Coverage, FileStat, Observation, Presence, Seen};
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::{Plants, Sound};
use tcat_engine::ports::{Effect, Outcome, Publish};
use tcat_engine::publishing::{
    self, Abilities, Act, Answer, Failure, Finish, KeepChanged, Kept, KeptChanged, Machine, MoveFile, Moved,
    NamesDurable, Next, Place, Published, Recovered, SetAside, SetAsideEnd, Step, Trash, TrashEnd,
    TrashPlace, journals_of, looks_written, partial_name, second_names_of, unexplained_of,
};

/// What a real disk of today can do.
pub const FULL: Abilities = Abilities { exchange: true, no_replace: true, ignores_case: false };

/// The day that it is in the simulator, for trash.
const DAY: &str = "2026-02-28";

/// All paths at which a scan found something.
#[derive(Debug)]
struct Paths(BTreeSet<MediaPath>);

impl Coverage for Paths {
    fn presence(&self, path: &MediaPath) -> Presence {
        if self.0.contains(path) { Presence::Seen } else { Presence::NotSeen }
    }
}

/// One node's files.
#[derive(Debug, Clone)]
pub struct Folder<P = Sound> {
    /// The disk.
    pub disk: FileSystem,
    plants: P,
    crashes: u64,
    /// What was trashed, and how it looked then.
    trashed: BTreeMap<TrashPlace, (Content, FileStat)>,
    /// How many primitives recovery may still perform.
    recovering_max: u64,
}

impl Default for Folder<Sound> {
    fn default() -> Self {
        Self::new(FULL, Sound)
    }
}

/// An act under way.
#[derive(Clone, Debug)]
pub enum Work<P = Sound> {
    /// A publication.
    Publish(Machine<publishing::Publish, Refusal, P>),
    /// Into trash; and of what content.
    Trash(Machine<Trash, Refusal, P>, Content),
    /// Under a conflict name.
    SetAside(Machine<SetAside, Refusal, P>),
    /// To another path.
    Move(Machine<MoveFile, Refusal, P>),
}

impl<P: Plants> Folder<P> {
    /// An empty one, on a disk that can do so much.
    pub fn new(abilities: Abilities, plants: P) -> Self {
        Self {
            disk: FileSystem::new(abilities),
            plants,
            crashes: 0,
            trashed: BTreeMap::new(),
            recovering_max: u64::MAX,
        }
    }

    /// The files now.
    pub fn contents(&self) -> BTreeMap<&MediaPath, &Content> {
        self.disk.media().collect()
    }

    /// Whether a content is in a file or in trash.
    pub fn keeps(&self, content: &Content) -> bool {
        let contents = self.disk.media().map(|(_, kept)| *kept);
        contents.chain(self.disk.trash().map(|(_, kept)| kept)).any(|kept| kept == *content)
    }

    /// Whether a step of ours that replaces or moves a file is not over yet, and has the content in hand.
    pub fn replaces(&self, content: &Content) -> bool {
        let in_hand = |name: &String| {
            [".swap", ".aside", ".moving"].iter().any(|ending| name.ends_with(ending))
                && self.disk.content_at(&Place::Temp(name.clone())).as_ref() == Some(content)
        };
        self.disk.temp_names().iter().any(in_hand)
    }

    /// What was moved to trash.
    pub fn trash(&self) -> Vec<Content> {
        self.disk.trash().map(|(_, content)| content).collect()
    }

    /// A person saves a file.
    pub fn save(&mut self, path: MediaPath, content: Content) -> FileStat {
        self.disk.save_by_rename(&path, content);
        self.disk.stat_at(&Place::Media(path)).unwrap_or_default()
    }

    /// A person removes a file.
    pub fn remove(&mut self, path: &MediaPath) -> Option<Content> {
        self.disk.remove(path)
    }

    /// A person renames a file to a free name.
    pub fn rename_by_person(&mut self, path: &MediaPath, to: MediaPath) {
        self.disk.rename_by_person(path, &to);
    }

    /// A person writes another content of the same length into a file and sets its modification time back: the system
    /// keeps the time of that change all the same.
    pub fn edit_keeping_mtime(&mut self, path: &MediaPath, content: Content) {
        self.disk.edit_keeping_mtime(path, content);
    }

    /// The bytes change though nobody writes.
    pub fn rot(&mut self, path: &MediaPath, content: Content) {
        self.disk.rot(path, content);
    }

    /// What a person finds at a path.
    pub fn content_at(&self, path: &MediaPath) -> Option<Content> {
        self.disk.content_at(&Place::Media(path.clone()))
    }

    /// What is at a path.
    pub fn look(&self, path: &MediaPath) -> Observation {
        let place = Place::Media(path.clone());
        let seen = match (self.disk.content_at(&place), self.disk.stat_at(&place)) {
            (Some(content), Some(stat)) => Seen::File { content, stat },
            _ => Seen::Absent,
        };
        Observation { path: path.clone(), seen }
    }

    /// A full scan.
    pub fn scan(&self) -> (Vec<Observation>, Arc<dyn Coverage>) {
        let paths: BTreeSet<MediaPath> = self.disk.media().map(|(path, _)| path.clone()).collect();
        (paths.iter().map(|path| self.look(path)).collect(), Arc::new(Paths(paths)))
    }

    /// A content has arrived whole.
    pub fn add_partial(&mut self, content: &Content) {
        self.disk.fill_partial(&partial_name(content.key()), *content);
    }

    /// Brings a content back from trash.
    pub fn untrash(&mut self, content: &Content) -> Outcome {
        if !self.disk.trash().any(|(_, kept)| kept.same_as(content)) {
            return Outcome::Missing;
        }
        self.add_partial(content);
        Outcome::Done { stat: FileStat::default() }
    }

    /// Brings a content from another file.
    pub fn borrow(&mut self, path: &MediaPath, content: &Content) -> Outcome {
        if self.content_at(path).is_none_or(|present| !present.same_as(content)) {
            return Outcome::Missing;
        }
        self.add_partial(content);
        Outcome::Done { stat: FileStat::default() }
    }

    /// Gives a whole partial its place.
    pub fn publish(&mut self, publish: &Publish) -> Outcome {
        let work = self.begin_publish(publish);
        self.work(work)
    }

    /// Gives a file another name that must be free; checks the content where one is expected.
    pub fn rename(&mut self, path: &MediaPath, content: Option<&Content>, to: &MediaPath) -> Outcome {
        let work = match content {
            Some(content) => self.begin_set_aside(path, content, to),
            None => self.begin_move(path, to),
        };
        self.work(work)
    }

    /// Moves a file to trash.
    pub fn to_trash(&mut self, path: &MediaPath, content: &Content) -> Outcome {
        let work = self.begin_trash(path, content);
        self.work(work)
    }

    /// What an effect does here, not yet begun; none of an effect that does nothing here step by step.
    pub fn begin(&self, effect: &Effect) -> Option<Work<P>> {
        Some(match effect {
            Effect::Publish(publish) => self.begin_publish(publish),
            Effect::Trash { path, content } => self.begin_trash(path, content),
            Effect::SetAside { path, content, to } => self.begin_set_aside(path, content, to),
            Effect::Move { path, to } => self.begin_move(path, to),
            _ => return None,
        })
    }

    /// A publication, not yet begun.
    pub fn begin_publish(&self, publish: &Publish) -> Work<P> {
        let act = publishing::Publish {
            item: publish.item,
            path: publish.path.clone(),
            content: publish.content,
            partial: partial_name(publish.content.key()),
            expected: publish.expected,
            known: publish.known.clone(),
            author_name: "edit".into(),
            quiet_ms: 2000,
            exchange: self.disk.abilities().exchange,
            day: DAY.into(),
        };
        Work::Publish(Machine::new(act, self.plants.clone()))
    }

    /// Trashing, not yet begun.
    pub fn begin_trash(&self, path: &MediaPath, content: &Content) -> Work<P> {
        let (path, expected) = (path.clone(), Some(*content));
        let act = Trash { path, expected, author_name: "edit".into(), day: DAY.into() };
        Work::Trash(Machine::new(act, self.plants.clone()), *content)
    }

    /// Setting aside, not yet begun.
    pub fn begin_set_aside(&self, path: &MediaPath, content: &Content, to: &MediaPath) -> Work<P> {
        let act = SetAside { path: path.clone(), expected: *content, to: to.clone() };
        Work::SetAside(Machine::new(act, self.plants.clone()))
    }

    /// A move, not yet begun.
    pub fn begin_move(&self, path: &MediaPath, to: &MediaPath) -> Work<P> {
        let ignores_case = self.disk.abilities().ignores_case;
        let act = MoveFile { from: path.clone(), to: to.clone(), ignores_case, day: DAY.into() };
        Work::Move(Machine::new(act, self.plants.clone()))
    }

    /// Performs the next primitive of a work; its outcome, if that was its end.
    pub fn step(&mut self, work: &mut Work<P>) -> Option<Outcome> {
        match work {
            Work::Publish(machine) => {
                let ended = self.advance(machine)?;
                if let (Ok(Published::Replaced { trashed, .. }), Some(expected)) =
                    (&ended, machine.act().expected)
                {
                    self.remember(trashed, expected);
                }
                Some(published(ended))
            }
            Work::Trash(machine, content) => {
                let ended = self.advance(machine)?;
                if let Ok(TrashEnd::Trashed(kept)) = &ended {
                    self.remember(kept, *content);
                }
                Some(trashed(ended))
            }
            Work::SetAside(machine) => self.advance(machine).map(set_aside),
            Work::Move(machine) => self.advance(machine).map(moved),
        }
    }

    fn work(&mut self, mut work: Work<P>) -> Outcome {
        loop {
            if let Some(outcome) = self.step(&mut work) {
                return outcome;
            }
        }
    }

    fn advance<A: Act>(
        &mut self,
        machine: &mut Machine<A, Refusal, P>,
    ) -> Option<Result<A::End, Failure<Refusal>>> {
        if !self.disk.abilities().no_replace {
            return Some(Err(Failure::Refused(Refusal::Unsupported)));
        }
        match machine.poll() {
            Next::Do(Step { primitive, .. }) => {
                machine.tell(self.disk.perform(&primitive));
                None
            }
            Next::End(end) => Some(end),
        }
    }

    fn remember(&mut self, kept: &Kept, content: Content) {
        self.trashed.insert(kept.place.clone(), (content, kept.stat));
    }

    /// The node's machine loses its power: of what was not durable anything may be left.
    pub fn lose_power(&mut self) {
        self.crashes += 1;
        let mut random = Random::new(self.crashes);
        self.disk.crash(&mut |options| random.below(options as u64) as usize);
    }

    /// Finishes what a crash interrupted, as a node does when it starts.
    pub fn recover(&mut self) -> Vec<Recovered> {
        self.recovering_max = u64::MAX;
        self.recover_some()
    }

    /// The same, stopped after so many primitives; whether it was.
    pub fn recover_until(&mut self, primitives: u64) -> bool {
        self.recovering_max = primitives;
        self.recover_some();
        self.recovering_max == 0
    }

    fn recover_some(&mut self) -> Vec<Recovered> {
        let names = self.disk.temp_names();
        let mut report = Vec::new();
        for stem in journals_of(&names) {
            match self.run_some(Finish { stem: stem.clone(), day: DAY.into() }) {
                Ok(done) => report.extend(done),
                Err(why) => {
                    report.push(Recovered::Failed { name: stem.to_string(), why: format!("{why:?}") });
                }
            }
        }
        for unexplained in unexplained_of(&names, DAY) {
            let name = unexplained.name();
            match self.run_some(unexplained) {
                Ok(done) => report.extend(done),
                Err(why) => report.push(Recovered::Failed { name, why: format!("{why:?}") }),
            }
        }
        for second_name in second_names_of(&names) {
            // What fails is tried again at the next start.
            let _ = self.run_some(second_name);
        }
        for place in self.disk.in_each_folder() {
            let _ = self.run_some(NamesDurable { place });
        }
        report
    }

    /// Looks at what is in trash: what was written there is kept beside the path that it had. Returns that path,
    /// and where it is now.
    pub fn scan_trash(&mut self) -> Vec<(MediaPath, MediaPath)> {
        let places: Vec<TrashPlace> = self.disk.trash().map(|(place, _)| place.clone()).collect();
        let mut kept_as = Vec::new();
        for place in places {
            let Some(stat) = self.disk.stat_at(&Place::Trash(place.clone())) else { continue };
            let remembered = self.trashed.get(&place).copied();
            if !looks_written(remembered.map(|(_, stat)| stat).as_ref(), &stat) {
                continue;
            }
            let act = KeepChanged {
                path: place.path.clone(),
                place: place.clone(),
                was: remembered.map(|(content, _)| content),
                author_name: "edit".into(),
                quiet_ms: 2000,
            };
            match self.run(act) {
                Ok(KeptChanged::KeptAs(beside)) => kept_as.push((place.path.clone(), beside)),
                Ok(KeptChanged::Unchanged(stat)) => {
                    if let Some((_, remembered)) = self.trashed.get_mut(&place) {
                        *remembered = stat;
                    }
                }
                _ => {}
            }
        }
        kept_as
    }

    /// Runs an act for as many primitives as recovery still may perform.
    fn run_some<A: Act>(&mut self, act: A) -> Result<A::End, Failure<Refusal>> {
        let machine = Machine::new(act, self.plants.clone());
        let ended = machine.drive(|step| match self.recovering_max.checked_sub(1) {
            Some(left) => {
                self.recovering_max = left;
                Ok(self.disk.perform(&step.primitive))
            }
            None => Err(()),
        });
        ended.unwrap_or(Err(Failure::Confused("stopped")))
    }

    /// Runs an act to its end.
    pub fn run<A: Act>(&mut self, act: A) -> Result<A::End, Failure<Refusal>> {
        let machine = Machine::new(act, self.plants.clone());
        match machine.drive(|step| Ok::<Result<Answer, Refusal>, ()>(self.disk.perform(&step.primitive))) {
            Ok(ended) => ended,
            Err(()) => Err(Failure::Confused("nothing stops it")),
        }
    }
}

fn published(ended: Result<Published, Failure<Refusal>>) -> Outcome {
    match ended {
        Ok(Published::Placed { stat } | Published::Replaced { stat, .. }) => {
            Outcome::Done { stat: stat.unwrap_or_default() }
        }
        Ok(Published::Edited { stat, kept_as }) => match kept_as.into_iter().next() {
            Some(kept_as) => Outcome::Edited { stat: stat.unwrap_or_default(), kept_as },
            None => Outcome::Done { stat: stat.unwrap_or_default() },
        },
        Ok(Published::KnownThere { .. } | Published::Occupied) => Outcome::Changed,
        Err(failure) => failed(failure),
    }
}

fn trashed(ended: Result<TrashEnd, Failure<Refusal>>) -> Outcome {
    match ended {
        Ok(TrashEnd::Trashed(kept)) => Outcome::Done { stat: kept.stat },
        Ok(TrashEnd::KeptBeside(_)) => Outcome::Done { stat: FileStat::default() },
        Ok(TrashEnd::Differs(_) | TrashEnd::Changing) => Outcome::Changed,
        Ok(TrashEnd::Absent) => Outcome::Missing,
        Err(failure) => failed(failure),
    }
}

fn set_aside(ended: Result<SetAsideEnd, Failure<Refusal>>) -> Outcome {
    match ended {
        Ok(SetAsideEnd::Aside(stat)) => Outcome::Done { stat: stat.unwrap_or_default() },
        Ok(SetAsideEnd::Differs(_) | SetAsideEnd::Changing | SetAsideEnd::KeptAside) => Outcome::Changed,
        Ok(SetAsideEnd::Occupied) => Outcome::Occupied,
        Ok(SetAsideEnd::Absent) => Outcome::Missing,
        Err(failure) => failed(failure),
    }
}

fn moved(ended: Result<Moved, Failure<Refusal>>) -> Outcome {
    match ended {
        Ok(Moved::Moved(stat)) => Outcome::Done { stat: stat.unwrap_or_default() },
        Ok(Moved::Occupied) => Outcome::Occupied,
        Ok(Moved::Absent) => Outcome::Missing,
        Err(failure) => failed(failure),
    }
}

fn failed(failure: Failure<Refusal>) -> Outcome {
    match failure {
        Failure::Refused(Refusal::NoSpace) => Outcome::NoRoom("the disk is full".into()),
        other => Outcome::Failed(format!("{other:?}")),
    }
}
