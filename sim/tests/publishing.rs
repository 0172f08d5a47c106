//! The publishing machines on a model disk: a crash between any two primitives, with any part of what was not durable,
//! and a person at the file at any moment. After recovery everything that was saved is found, nothing is partial, and
//! nothing is left over.
//!
//! Exhaustive within its bounds: every act, every file that may be there, both ways of placing, every primitive to
//! stop or fail at, every subset that a crash may keep, every kind of person at every moment.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use tcat_engine::content::Content;
use tcat_engine::ids::ItemId;
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::{Bug, Planted, State};
use tcat_engine::ports::{Outcome, Publish};
use tcat_engine::publishing::{Abilities, Place, Primitive, Recovered};
use tcat_sim::file_system::{Fault, FileId, Refusal};
use tcat_sim::folder::{FULL, Folder, Work};
use tcat_sim::world;

const AT: &str = "album/a.jpg";
const ASIDE: &str = "album/a (edit 7).jpg";
const MOVED: &str = "moved/b.jpg";

/// All of one size, so that only the bytes tell them apart.
fn content(n: u64) -> Content {
    Content { size: 10, ..world::content(n) }
}

const OLD: u64 = 1;
const NEW: u64 = 2;
const NEWEST: u64 = 3;
const EDIT: u64 = 4;
const SAVED: u64 = 5;

fn path(text: &str) -> MediaPath {
    MediaPath::parse(text).unwrap()
}

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    /// NEW is published where OLD, or nothing, is expected.
    Publish {
        expected: bool,
    },
    Trash,
    SetAside,
    Move,
    /// From a name to one that differs in case alone.
    MoveCase,
}

/// What a person does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Person {
    Nobody,
    SavesInPlace,
    SavesByRename,
    Removes,
    RemovesAndSaves,
    Renames,
    /// Writes into the file that was there at the beginning, which the program still has open.
    WritesOn,
}

const PERSONS: [Person; 6] = [
    Person::SavesInPlace,
    Person::SavesByRename,
    Person::Removes,
    Person::RemovesAndSaves,
    Person::Renames,
    Person::WritesOn,
];

#[derive(Clone, Copy, Debug)]
struct Scene {
    deed: Deed,
    there: Option<u64>,
    abilities: Abilities,
}

/// A folder in which a deed is under way.
#[derive(Clone)]
struct Stage {
    scene: Scene,
    folder: Folder<Planted>,
    work: Work<Planted>,
    open: Option<FileId>,
    /// What persons saved and did not overwrite or remove themselves.
    saved: BTreeSet<u64>,
    person: Person,
    done: Option<Outcome>,
}

impl Stage {
    fn new(scene: Scene, bug: Option<Bug>) -> Self {
        let mut folder = Folder::new(scene.abilities, Planted(bug));
        if let Some(there) = scene.there {
            folder.disk.save_in_place(&path(AT), content(there));
        }
        let old = content(OLD);
        let work = match scene.deed {
            Deed::Publish { expected } => {
                folder.add_partial(&content(NEW));
                folder.disk.perform(&Primitive::SyncFolder(Place::Temp("any".into()))).unwrap();
                folder.begin_publish(&Publish {
                    item: ItemId([7; 16]),
                    path: path(AT),
                    content: content(NEW),
                    expected: expected.then_some(old),
                    known: vec![content(NEW), content(NEWEST)],
                })
            }
            Deed::Trash => folder.begin_trash(&path(AT), &old),
            Deed::SetAside => folder.begin_set_aside(&path(AT), &old, &path(ASIDE)),
            Deed::Move => folder.begin_move(&path(AT), &path(MOVED)),
            Deed::MoveCase => folder.begin_move(&path(AT), &path("album/A.jpg")),
        };
        let open = folder.disk.file_at(&Place::Media(path(AT)));
        let saved = scene.there.into_iter().collect();
        Self { scene, folder, work, open, saved, person: Person::Nobody, done: None }
    }

    /// Performs one primitive; false at the end.
    fn step(&mut self) -> bool {
        if self.done.is_none() {
            self.done = self.folder.step(&mut self.work);
        }
        self.done.is_none()
    }

    fn meddle(&mut self, person: Person) {
        self.person = person;
        let disk = &mut self.folder.disk;
        let overwritten = match person {
            Person::Nobody => return,
            Person::SavesInPlace => disk.save_in_place(&path(AT), content(SAVED)),
            Person::SavesByRename => disk.save_by_rename(&path(AT), content(SAVED)),
            Person::Removes => disk.remove(&path(AT)),
            Person::RemovesAndSaves => {
                let removed = disk.remove(&path(AT));
                disk.save_by_rename(&path(AT), content(SAVED));
                removed
            }
            Person::Renames => {
                disk.rename_by_person(&path(AT), &path("album/renamed.jpg"));
                return;
            }
            Person::WritesOn => match self.open {
                Some(open) => Some(disk.write(open, content(SAVED))),
                None => return,
            },
        };
        self.saved.retain(|saved| overwritten != Some(content(*saved)));
        if person != Person::Removes {
            self.saved.insert(SAVED);
        }
    }

    /// Everything that must be true once a node has recovered and looked at its trash.
    fn judge(&mut self) -> Result<(), String> {
        let report = self.folder.recover();
        if report.iter().any(|done| matches!(done, Recovered::Failed { .. })) {
            return Err(format!("S4: not recovered: {report:?}"));
        }
        if !self.folder.recover().is_empty() {
            return Err("S4: recovering twice does something more".into());
        }
        self.folder.scan_trash();
        let disk = &self.folder.disk;
        if let Some(left) = disk.temp_names().into_iter().find(|name| !name.ends_with(".part")) {
            return Err(format!("S4: {left} is left over"));
        }
        let whole: Vec<Content> = [OLD, NEW, NEWEST, EDIT, SAVED].map(content).into();
        let visible: Vec<Content> = disk.media().map(|(_, content)| *content).collect();
        let in_trash: Vec<Content> = disk.trash().map(|(_, content)| content).collect();
        if !visible.iter().all(|content| whole.contains(content)) {
            return Err("S7: something partial is visible".into());
        }
        for saved in &self.saved {
            let expected = *saved == OLD || *saved == NEW || *saved == NEWEST;
            let content = content(*saved);
            let found = visible.contains(&content) || (expected && in_trash.contains(&content));
            if !found {
                return Err(format!("S8: {saved} is lost, or an edit lies in trash unseen"));
            }
        }
        self.judge_publication(&visible)
    }

    fn judge_publication(&self, visible: &[Content]) -> Result<(), String> {
        let Deed::Publish { .. } = self.scene.deed else { return Ok(()) };
        let disk = &self.folder.disk;
        let there = disk.content_at(&Place::Media(path(AT)));
        let moved_away = [Person::Removes, Person::Renames].contains(&self.person);
        if self.scene.there.is_some() && there.is_none() && !moved_away {
            return Err("S4: the name is empty".into());
        }
        let acknowledged = matches!(self.done, Some(Outcome::Done { .. } | Outcome::Edited { .. }));
        if acknowledged && self.person == Person::Nobody && there != Some(content(NEW)) {
            return Err("S3: what was acknowledged is not there".into());
        }
        let partial = disk.temp_names().iter().any(|name| name.ends_with(".part"));
        let in_trash = disk.trash().any(|(_, kept)| kept == content(NEW));
        if self.person == Person::Nobody && !visible.contains(&content(NEW)) && !partial && !in_trash {
            let names: Vec<_> = disk.temp_names();
            let all: Vec<_> = disk.media().collect();
            return Err(format!("S4: the content that came is lost: {names:?} {all:?}"));
        }
        Ok(())
    }
}

fn scenes() -> Vec<Scene> {
    let mut scenes = Vec::new();
    let no_exchange = Abilities { exchange: false, ..FULL };
    for abilities in [FULL, no_exchange] {
        for there in [Some(OLD), Some(NEW), Some(NEWEST), Some(EDIT), None] {
            scenes.push(Scene { deed: Deed::Publish { expected: true }, there, abilities });
        }
    }
    for there in [Some(EDIT), None] {
        scenes.push(Scene { deed: Deed::Publish { expected: false }, there, abilities: FULL });
    }
    for deed in [Deed::Trash, Deed::SetAside, Deed::Move] {
        for there in [Some(OLD), Some(EDIT), None] {
            scenes.push(Scene { deed, there, abilities: FULL });
        }
    }
    let ignores_case = Abilities { ignores_case: true, ..FULL };
    for abilities in [ignores_case, Abilities { exchange: false, ..ignores_case }] {
        scenes.push(Scene { deed: Deed::MoveCase, there: Some(OLD), abilities });
        scenes.push(Scene { deed: Deed::Publish { expected: true }, there: Some(OLD), abilities });
    }
    scenes
}

/// Every way of choosing: calls `with` with one chooser after the other, until all choices have been made.
fn for_each_choice(
    mut with: impl FnMut(&mut dyn FnMut(usize) -> usize) -> Result<(), String>,
) -> Result<(), String> {
    let mut chosen: Vec<(usize, usize)> = Vec::new();
    loop {
        let mut taken = 0;
        with(&mut |options| {
            if taken == chosen.len() {
                chosen.push((0, options));
            }
            taken += 1;
            chosen[taken - 1].0
        })
        .map_err(|why| format!("{why}; the crash kept {:?}", chosen))?;
        while chosen.last().is_some_and(|(at, options)| at + 1 == *options) {
            chosen.pop();
        }
        match chosen.last_mut() {
            Some((at, _)) => *at += 1,
            None => return Ok(()),
        }
    }
}

/// Crashes a stage in every way and judges what is recovered; with `deep`, also after a second crash at every
/// primitive of the first recovery.
fn crash_in_every_way(stage: &Stage, crashes: &mut u64) -> Result<(), String> {
    for_each_choice(|choose| {
        *crashes += 1;
        let mut stage = stage.clone();
        stage.folder.disk.crash(choose);
        stage.judge()
    })
}

/// Runs a scene with a person at each moment and a crash at each later moment.
fn explore(scene: Scene, bug: Option<Bug>, persons: &[Person], crashes: &mut u64) -> Result<(), String> {
    for person in persons {
        for moment in 0.. {
            let mut stage = Stage::new(scene, bug);
            let reached = (0..moment).all(|_| stage.step());
            let when = |step: usize, why: String| {
                format!("{why}\n{scene:?}, {person:?} before primitive {moment}, stopped before {step}")
            };
            stage.meddle(*person);
            let mut crashed_at = None;
            for step in moment.. {
                // A primitive that changed nothing makes no other crash.
                let changes = stage.folder.disk.changes();
                if crashed_at.replace(changes) != Some(changes) {
                    crash_in_every_way(&stage, crashes).map_err(|why| when(step, why))?;
                }
                if !stage.step() {
                    stage.clone().judge().map_err(|why| when(step, why))?;
                    crash_in_every_way(&stage, crashes).map_err(|why| when(step, why))?;
                    break;
                }
            }
            if !reached || *person == Person::Nobody {
                break;
            }
        }
    }
    Ok(())
}

#[test]
fn a_crash_between_any_two_primitives_with_any_part_kept_loses_nothing() {
    let mut crashes = 0;
    for scene in scenes() {
        explore(scene, None, &[Person::Nobody], &mut crashes).unwrap_or_else(|why| panic!("{why}"));
    }
    assert!(crashes > 500, "only {crashes} crashes");
}

#[test]
fn a_person_at_any_moment_and_then_a_crash_at_any_other_loses_nothing() {
    let mut crashes = 0;
    for scene in scenes() {
        explore(scene, None, &PERSONS, &mut crashes).unwrap_or_else(|why| panic!("{why}"));
    }
    assert!(crashes > 10_000, "only {crashes} crashes");
}

#[test]
fn every_planted_bug_of_publishing_is_caught_by_its_invariant() {
    // The cheapest first: most need nobody, or one who goes on writing.
    let persons = [Person::Nobody, Person::WritesOn, Person::SavesByRename, Person::SavesInPlace];
    for bug in [
        Bug::FolderNotSynced,
        Bug::TornJournal,
        Bug::JournalAfterMove,
        Bug::BlindReplace,
        Bug::SaveBeforeRename,
        Bug::NoExchangeReplaces,
        Bug::TrashIsFinal,
    ] {
        assert_eq!(bug.state(), State::Planted, "{}", bug.id());
        let found = persons.into_iter().find_map(|person| {
            scenes().into_iter().find_map(|scene| explore(scene, Some(bug), &[person], &mut 0).err())
        });
        let why = found.unwrap_or_else(|| panic!("{} is not caught", bug.id()));
        assert!(why.starts_with(&format!("{}:", bug.invariant())), "{} is caught as {why}", bug.id());
    }
}

#[test]
fn a_primitive_that_fails_or_loses_its_answer_loses_nothing() {
    for scene in scenes() {
        for fault in [Fault::Fails(Refusal::NoSpace), Fault::Fails(Refusal::Io), Fault::AnswerLost] {
            for after in 0.. {
                let mut stage = Stage::new(scene, None);
                stage.folder.disk.fail_after(after, fault);
                let mut steps = 0;
                while stage.step() {
                    steps += 1;
                }
                stage.folder.disk.fail_never();
                let failed = matches!(stage.done, Some(Outcome::Failed(_) | Outcome::NoRoom(_)));
                let when = |why| format!("{why}\n{scene:?}, {fault:?} at primitive {after}");
                let mut crashes = 0;
                crash_in_every_way(&stage, &mut crashes).unwrap_or_else(|why| panic!("{}", when(why)));
                stage.judge().unwrap_or_else(|why| panic!("{}", when(why)));
                if !failed && after > steps {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_crash_while_recovering_is_recovered_from() {
    for scene in scenes() {
        for step in 0.. {
            let mut stage = Stage::new(scene, None);
            let reached = (0..step).all(|_| stage.step());
            for_each_choice(|choose| {
                let mut crashed = stage.clone();
                crashed.folder.disk.crash(choose);
                for after in 0.. {
                    let mut again = crashed.clone();
                    // What fails from here on is as good as a stop: nothing more is done.
                    let stopped = again.folder.recover_until(after);
                    for_each_choice(|choose| {
                        let mut twice = again.clone();
                        twice.folder.disk.crash(choose);
                        twice.judge().map_err(|why| format!("{why}; recovery stopped at {after}"))
                    })?;
                    if !stopped {
                        break;
                    }
                }
                Ok(())
            })
            .unwrap_or_else(|why| panic!("{why}\n{scene:?}, stopped before {step}"));
            if !reached {
                break;
            }
        }
    }
}

#[test]
fn with_neither_exchange_nor_no_replace_nothing_is_written_and_it_is_said() {
    let abilities = Abilities { exchange: false, no_replace: false, ignores_case: false };
    for deed in [Deed::Publish { expected: true }, Deed::Publish { expected: false }, Deed::Trash, Deed::Move]
    {
        let mut stage = Stage::new(Scene { deed, there: Some(OLD), abilities }, None);
        let before: Vec<_> =
            stage.folder.disk.media().map(|(path, content)| (path.clone(), *content)).collect();
        while stage.step() {}
        assert!(matches!(stage.done, Some(Outcome::Failed(_))), "{:?}", stage.done);
        let after: Vec<_> =
            stage.folder.disk.media().map(|(path, content)| (path.clone(), *content)).collect();
        assert_eq!((before, stage.folder.disk.trash().count()), (after, 0));
    }
}
