//! The model of the cache folder is held to the real one: the same primitives, and the same acts among persons, on a
//! real disk and on the model, must be answered alike and leave alike folders.
#![allow(clippy::unwrap_used)]

use quickcheck::{Arbitrary, Gen, QuickCheck};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use tcat_engine::content::Content;
use tcat_engine::ids::{ClientId, ItemId, WorkgroupId};
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::Sound;
use tcat_engine::ports;
use tcat_engine::publishing::{Abilities, Answer, FileKind, Place, Primitive, TrashPlace, partial_name};
use tcat_sim::file_system::FileSystem;
use tcat_sim::folder::{FULL, Folder};
use tcat_storage::cache_folder::{
    CacheFolder, Expected, Marker, Moved, Publish, Published, SetAside, Trashed,
};
use tcat_storage::hashing::ContentHasher;

const DAY: &str = "2026-02-28";
const MEDIA: [&str; 5] = ["a.jpg", "d/b.jpg", "d/e/c.jpg", "a.jpg/x.jpg", "d"];
const TEMP: [&str; 3] = ["one", "two", "three"];
/// A file of other bytes than pictures have; nobody renames it.
const JOURNAL: &str = "a.journal";
const TRASH: [&str; 4] = ["a.jpg", "d/b.jpg", "a.jpg/x.jpg", "a(1).jpg"];

/// All of one size, so that only the bytes tell them apart.
fn text(n: u8) -> String {
    format!("content {n:03}")
}

fn content(text: &str) -> Content {
    let mut hasher = ContentHasher::default();
    hasher.update(text.as_bytes());
    hasher.finish().0
}

fn path(text: &str) -> MediaPath {
    MediaPath::parse(text).unwrap()
}

/// A real folder, on a disk in memory where there is one, on a day of its own.
struct Real {
    _place: tempfile::TempDir,
    folder: CacheFolder,
}

impl Real {
    fn new(abilities: Abilities) -> Self {
        let builder = tempfile::Builder::new();
        let place = builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap();
        let (workgroup, client) = (WorkgroupId([1; 16]), ClientId([2; 32]));
        let marker = Marker { workgroup, client, home: "/nowhere".into() };
        let mut folder = CacheFolder::create(place.path(), &marker).unwrap();
        folder.set_clock(|| format!("{DAY}T12:00:00Z").parse().unwrap());
        assert_eq!(folder.abilities(), FULL, "tests need a disk that can do everything");
        folder.restrict(abilities);
        Self { _place: place, folder }
    }

    fn place(&self, place: &Place) -> PathBuf {
        let own = self.folder.root().join(".tcat");
        match place {
            Place::Media(path) => self.folder.place_of(path),
            Place::Temp(name) => own.join("tmp").join(name),
            Place::Trash(TrashPlace { day, path }) => own.join("trash").join(day).join(path.as_str()),
        }
    }

    /// Everything below a folder, by path, as content.
    fn below(&self, top: PathBuf) -> BTreeMap<String, Content> {
        let mut files = BTreeMap::new();
        let mut folders = vec![top.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let place = entry.unwrap().path();
                let name = place.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
                if place.is_dir() && name != ".tcat" {
                    folders.push(place);
                } else if place.is_file() {
                    files.insert(name, content(&fs::read_to_string(place).unwrap_or_default()));
                }
            }
        }
        files
    }

    fn media(&self) -> BTreeMap<String, Content> {
        self.below(self.folder.root().to_owned())
    }

    fn trash(&self) -> BTreeMap<String, Content> {
        self.below(self.folder.root().join(".tcat/trash").join(DAY))
    }

    fn save(&self, at: &MediaPath, text: &str, by_rename: bool) {
        let place = self.folder.place_of(at);
        let _ = fs::create_dir_all(place.parent().unwrap());
        if by_rename {
            let fresh = self.folder.root().join("fresh from an editor");
            fs::write(&fresh, text).unwrap();
            if fs::rename(&fresh, &place).is_err() {
                fs::remove_file(&fresh).unwrap();
            }
        } else {
            let _ = fs::write(place, text);
        }
    }
}

fn media_of(disk: &FileSystem) -> BTreeMap<String, Content> {
    disk.media().map(|(path, content)| (path.to_string(), *content)).collect()
}

fn trash_of(disk: &FileSystem) -> BTreeMap<String, Content> {
    disk.trash().map(|(place, content)| (place.path.to_string(), content)).collect()
}

/// One thing done to both.
#[derive(Clone, Debug)]
enum Deed {
    Save { at: MediaPath, n: u8, by_rename: bool },
    Remove(MediaPath),
    Fill { name: String, n: u8 },
    Perform(Primitive),
}

fn arbitrary_place(g: &mut Gen) -> Place {
    match u8::arbitrary(g) % 4 {
        0 | 1 => Place::Media(path(g.choose(&MEDIA).unwrap())),
        2 => Place::Temp((*g.choose(&TEMP).unwrap()).into()),
        _ => Place::Trash(TrashPlace { day: DAY.into(), path: path(g.choose(&TRASH).unwrap()) }),
    }
}

impl Arbitrary for Deed {
    fn arbitrary(g: &mut Gen) -> Self {
        let n = u8::arbitrary(g) % 8;
        let temp = (*g.choose(&TEMP).unwrap()).to_owned();
        let (a, b) = (arbitrary_place(g), arbitrary_place(g));
        Self::Perform(match u8::arbitrary(g) % 16 {
            0 | 1 => {
                let at = path(g.choose(&MEDIA).unwrap());
                return Self::Save { at, n, by_rename: bool::arbitrary(g) };
            }
            2 => return Self::Remove(path(g.choose(&MEDIA).unwrap())),
            3 => return Self::Fill { name: temp, n },
            4 => Primitive::Look(a),
            5 => Primitive::Hash(a),
            6 => Primitive::AwaitQuiet(a, 0),
            7 | 8 => Primitive::MakeFolders(a),
            9..12 => Primitive::Rename(a, b),
            12 => Primitive::Exchange(a, b),
            13 => Primitive::SyncFolder(a),
            14 if bool::arbitrary(g) => Primitive::Write(JOURNAL.into(), text(n).into_bytes()),
            14 => Primitive::Read(JOURNAL.into()),
            _ if bool::arbitrary(g) => Primitive::Remove(JOURNAL.into()),
            _ => Primitive::Remove(temp),
        })
    }
}

/// What both must say alike; numbers and times differ.
fn told(answer: Result<Answer, impl std::fmt::Debug>) -> String {
    match answer {
        Ok(Answer::Looked(looked)) if looked.kind == FileKind::Folder => "a folder".into(),
        Ok(Answer::Looked(looked)) => format!("{:?} {} {}", looked.kind, looked.stat.size, looked.links),
        Ok(Answer::Hashed(content, stat)) => format!("{content:?} {}", stat.size),
        Ok(answer) => format!("{answer:?}"),
        Err(_) => "refused".into(),
    }
}

/// What the model leaves out: folders that are renamed.
fn is_modelled(model: &mut FileSystem, primitive: &Primitive) -> bool {
    let mut is_folder = |place: &Place| {
        let looked = model.perform(&Primitive::Look(place.clone()));
        matches!(looked, Ok(Answer::Looked(looked)) if looked.kind == FileKind::Folder)
    };
    match primitive {
        Primitive::Rename(a, _) => !is_folder(a),
        Primitive::Exchange(a, b) => !is_folder(a) && !is_folder(b),
        _ => true,
    }
}

#[test]
fn every_primitive_is_answered_alike_by_the_model_and_a_real_disk() {
    fn law(deeds: Vec<Deed>) -> bool {
        let (real, mut model) = (Real::new(FULL), FileSystem::new(FULL));
        for (number, deed) in deeds.iter().enumerate() {
            match deed {
                Deed::Save { at, n, by_rename } => {
                    real.save(at, &text(*n), *by_rename);
                    match by_rename {
                        true => model.save_by_rename(at, content(&text(*n))),
                        false => model.save_in_place(at, content(&text(*n))),
                    };
                }
                Deed::Remove(at) => {
                    let _ = fs::remove_file(real.folder.place_of(at));
                    model.remove(at);
                }
                Deed::Fill { name, n } => {
                    let place = Place::Temp(name.clone());
                    if model.file_at(&place).is_none() {
                        fs::write(real.place(&place), text(*n)).unwrap();
                        model.fill_partial(name, content(&text(*n)));
                    }
                }
                Deed::Perform(primitive) if is_modelled(&mut model, primitive) => {
                    let (said, modelled) = (real.folder.perform(primitive), model.perform(primitive));
                    let shown = format!("{said:?}, {modelled:?}");
                    assert_eq!(told(said), told(modelled), "{shown} to {number} of {deeds:#?}");
                }
                Deed::Perform(_) => {}
            }
            assert_eq!(real.media(), media_of(&model), "after {number} of {deeds:#?}");
            assert_eq!(real.trash().len(), trash_of(&model).len(), "after {number} of {deeds:#?}");
            let mut names = model.temp_names();
            names.sort();
            let there = real.below(real.folder.root().join(".tcat/tmp"));
            assert_eq!(there.into_keys().collect::<Vec<_>>(), names, "after {number} of {deeds:#?}");
        }
        true
    }
    QuickCheck::new().tests(600).rng(Gen::new(40)).quickcheck(law as fn(Vec<Deed>) -> bool);
}

/// What a node may do, and persons, to both.
trait Subject {
    fn save(&mut self, at: &MediaPath, text: &str, by_rename: bool);
    fn delete(&mut self, at: &MediaPath);
    fn publish(&mut self, at: &MediaPath, text: &str, expected: Option<&str>, known: &[String]) -> String;
    fn trash(&mut self, at: &MediaPath, text: &str) -> String;
    fn set_aside(&mut self, at: &MediaPath, text: &str, to: &MediaPath) -> String;
    fn move_file(&mut self, from: &MediaPath, to: &MediaPath) -> String;
    /// What is in the media folder, and in trash.
    fn found(&mut self) -> [BTreeMap<String, Content>; 2];
}

impl Subject for Real {
    fn save(&mut self, at: &MediaPath, text: &str, by_rename: bool) {
        Real::save(self, at, text, by_rename);
    }

    fn delete(&mut self, at: &MediaPath) {
        let _ = fs::remove_file(self.folder.place_of(at));
    }

    fn publish(&mut self, at: &MediaPath, text: &str, expected: Option<&str>, known: &[String]) -> String {
        let partial = self.folder.partial(content(text).key());
        fs::write(&partial, text).unwrap();
        let known: Vec<Content> = known.iter().map(|text| content(text)).collect();
        let published = self.folder.publish(&Publish {
            item: ItemId([7; 16]),
            path: at,
            content: &content(text),
            partial: &partial,
            expected: expected.map_or(Expected::Absent, |text| Expected::Content(content(text))),
            known: &known,
            author_name: "edit",
            quiet_ms: 0,
        });
        match published {
            Ok(Published::Placed { .. } | Published::Replaced { .. }) => "done".into(),
            Ok(Published::Edited { kept_as, .. }) => format!("edited {}", kept_as[0]),
            Ok(Published::KnownThere { .. } | Published::Occupied) => "changed".into(),
            Err(_) => "failed".into(),
        }
    }

    fn trash(&mut self, at: &MediaPath, text: &str) -> String {
        match self.folder.trash(at, Some(&content(text))) {
            Ok(Trashed::Trashed(_) | Trashed::KeptBeside(_)) => "done".into(),
            Ok(Trashed::Differs(_) | Trashed::Changing) => "changed".into(),
            Ok(Trashed::Absent) => "missing".into(),
            Err(_) => "failed".into(),
        }
    }

    fn set_aside(&mut self, at: &MediaPath, text: &str, to: &MediaPath) -> String {
        match self.folder.set_aside(at, &content(text), to) {
            Ok(SetAside::Aside(_)) => "done".into(),
            Ok(SetAside::Differs(_) | SetAside::Changing | SetAside::KeptAside) => "changed".into(),
            Ok(SetAside::Occupied) => "occupied".into(),
            Ok(SetAside::Absent) => "missing".into(),
            Err(_) => "failed".into(),
        }
    }

    fn move_file(&mut self, from: &MediaPath, to: &MediaPath) -> String {
        match self.folder.move_file(from, to) {
            Ok(Moved::Moved(_)) => "done".into(),
            Ok(Moved::Occupied) => "occupied".into(),
            Ok(Moved::Absent) => "missing".into(),
            Err(_) => "failed".into(),
        }
    }

    fn found(&mut self) -> [BTreeMap<String, Content>; 2] {
        assert_eq!(self.folder.recover().unwrap(), [], "nothing is left over");
        [self.media(), Real::trash(self)]
    }
}

fn said(outcome: ports::Outcome) -> String {
    match outcome {
        ports::Outcome::Done { .. } => "done".into(),
        ports::Outcome::Edited { kept_as, .. } => format!("edited {kept_as}"),
        ports::Outcome::Changed => "changed".into(),
        ports::Outcome::Missing => "missing".into(),
        ports::Outcome::Occupied => "occupied".into(),
        _ => "failed".into(),
    }
}

impl Subject for Folder<Sound> {
    fn save(&mut self, at: &MediaPath, text: &str, by_rename: bool) {
        match by_rename {
            true => self.disk.save_by_rename(at, content(text)),
            false => self.disk.save_in_place(at, content(text)),
        };
    }

    fn delete(&mut self, at: &MediaPath) {
        self.disk.remove(at);
    }

    fn publish(&mut self, at: &MediaPath, text: &str, expected: Option<&str>, known: &[String]) -> String {
        if self.disk.file_at(&Place::Temp(partial_name(content(text).key()))).is_none() {
            self.add_partial(&content(text));
        }
        said(Folder::publish(
            self,
            &ports::Publish {
                item: ItemId([7; 16]),
                path: at.clone(),
                content: content(text),
                expected: expected.map(content),
                known: known.iter().map(|text| content(text)).collect(),
            },
        ))
    }

    fn trash(&mut self, at: &MediaPath, text: &str) -> String {
        said(self.to_trash(at, &content(text)))
    }

    fn set_aside(&mut self, at: &MediaPath, text: &str, to: &MediaPath) -> String {
        said(self.rename(at, Some(&content(text)), to))
    }

    fn move_file(&mut self, from: &MediaPath, to: &MediaPath) -> String {
        said(self.rename(from, None, to))
    }

    fn found(&mut self) -> [BTreeMap<String, Content>; 2] {
        assert_eq!(self.recover(), [], "nothing is left over");
        [media_of(&self.disk), trash_of(&self.disk)]
    }
}

#[derive(Clone, Debug)]
enum Act {
    Save { at: MediaPath, n: u8, by_rename: bool },
    Delete(MediaPath),
    Publish { at: MediaPath, n: u8, expected: Option<u8>, known: Vec<u8> },
    Trash { at: MediaPath, n: u8 },
    SetAside { at: MediaPath, n: u8, to: MediaPath },
    Move { from: MediaPath, to: MediaPath },
}

impl Arbitrary for Act {
    fn arbitrary(g: &mut Gen) -> Self {
        let (at, to) = (path(g.choose(&MEDIA).unwrap()), path(g.choose(&MEDIA).unwrap()));
        // Few contents: what is expected is often what is there.
        let n = u8::arbitrary(g) % 4;
        match u8::arbitrary(g) % 10 {
            0..3 => Self::Save { at, n, by_rename: bool::arbitrary(g) },
            3 => Self::Delete(at),
            4..7 => {
                let expected = Option::arbitrary(g).map(|n: u8| n % 4);
                Self::Publish { at, n: 4 + n, expected, known: vec![u8::arbitrary(g) % 8, 4 + n] }
            }
            7 => Self::Trash { at, n: u8::arbitrary(g) % 8 },
            8 => Self::SetAside { to: at.conflict_name("bob", 1), at, n },
            _ => Self::Move { from: at, to },
        }
    }
}

fn act(subject: &mut impl Subject, act: &Act) -> String {
    match act {
        Act::Save { at, n, by_rename } => subject.save(at, &text(*n), *by_rename),
        Act::Delete(at) => subject.delete(at),
        Act::Publish { at, n, expected, known } => {
            let known: Vec<String> = known.iter().map(|n| text(*n)).collect();
            return subject.publish(at, &text(*n), expected.map(text).as_deref(), &known);
        }
        Act::Trash { at, n } => return subject.trash(at, &text(*n)),
        Act::SetAside { at, n, to } => return subject.set_aside(at, &text(*n), to),
        Act::Move { from, to } => return subject.move_file(from, to),
    }
    String::new()
}

#[test]
fn publishing_trashing_and_moving_end_alike_on_the_model_and_on_a_real_disk() {
    fn law(exchange: bool, acts: Vec<Act>) -> bool {
        let abilities = Abilities { exchange, ..FULL };
        let (mut real, mut model) = (Real::new(abilities), Folder::new(abilities, Sound));
        for (number, one) in acts.iter().enumerate() {
            assert_eq!(act(&mut real, one), act(&mut model, one), "{number} of {acts:#?}");
            assert_eq!(real.found(), model.found(), "after {number} of {acts:#?}");
        }
        true
    }
    QuickCheck::new().tests(300).rng(Gen::new(40)).quickcheck(law as fn(bool, Vec<Act>) -> bool);
}
