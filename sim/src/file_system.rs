//! A model of a file system with one media folder in it, as the publishing machines see it: names, files, and what of
//! both a crash may lose.
//!
//! What holds always: what a program sees is the sum of all changes; what survives a crash is what was made durable,
//! and of the rest any part: each change of names not at all, or, for a rename, only its new name, or whole; each
//! file that was written and not synced whole, torn, or empty. Removing an old name never survives without the new
//! name. What persons do is durable at once, and with it what was done before in the same folder: a crash that loses
//! what nobody saved is not the machines' doing.
//! Not here: symbolic links, folders that persons rename, and rights.

mod names;

use names::Names;
use std::collections::{BTreeMap, BTreeSet};
use tcat_engine::content::{Blake3, Content, Md5};
use tcat_engine::observation::FileStat;
use tcat_engine::paths::{MediaPath, fold};
use tcat_engine::publishing::{Abilities, Answer, FileKind, Looked, Place, Primitive, TrashPlace};

/// Why a file system refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No room.
    NoSpace,
    /// The disk, or the way to it, fails.
    Io,
    /// A file has the name of a folder of the path.
    InTheWay,
    /// It has no such call.
    Unsupported,
}

/// What goes wrong with one primitive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is not done.
    Fails(Refusal),
    /// It is done, and the answer is lost, as on a network.
    AnswerLost,
}

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Data {
    Content(Content),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug)]
struct File {
    data: Data,
    /// As the system says it: rot does not change it.
    size: u64,
    /// Whether its data survives.
    synced: bool,
    mtime_ns: i64,
    ctime_ns: i64,
    /// A program goes on writing: it does not become quiet.
    restless: bool,
    /// A program has it open, to write into it later.
    open: bool,
}

/// A file by its number; it stays the same file whatever names it has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileId(usize);

#[derive(Clone, Debug)]
struct Name {
    place: Place,
    file: FileId,
}

/// The model.
#[derive(Clone, Debug)]
pub struct FileSystem {
    abilities: Abilities,
    files: Vec<File>,
    names: BTreeMap<String, Name>,
    kept: Names,
    folders: BTreeSet<String>,
    now_ns: i64,
    /// What its clock shows, if it has one of its own: then stamps are in its order, not in that of the changes.
    clock_ns: Option<i64>,
    fault: Option<(u64, Fault)>,
    performed: u64,
    changes: u64,
}

/// How much later each change is than the one before.
const TICK_NS: i64 = 1_000_000;

impl FileSystem {
    /// An empty one.
    pub fn new(abilities: Abilities) -> Self {
        Self {
            abilities,
            files: Vec::new(),
            names: BTreeMap::new(),
            kept: Names::default(),
            folders: ["media", "temp", "trash"].map(str::to_owned).into(),
            now_ns: 0,
            clock_ns: None,
            fault: None,
            performed: 0,
            changes: 0,
        }
    }

    /// Its clock shows this now.
    pub fn set_clock(&mut self, clock_ns: Option<i64>) {
        self.clock_ns = clock_ns;
    }

    /// Counts what has changed, in names, files or what of both is durable.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// What it can do.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Lets the primitive after the next `after` ones go wrong.
    pub fn fail_after(&mut self, after: u64, fault: Fault) {
        self.fault = Some((self.performed + after, fault));
    }

    /// Nothing goes wrong any more.
    pub fn fail_never(&mut self) {
        self.fault = None;
    }

    /// Performs one primitive.
    pub fn perform(&mut self, primitive: &Primitive) -> Result<Answer, Refusal> {
        let fault = self.fault.take_if(|(at, _)| *at == self.performed).map(|(_, fault)| fault);
        self.performed += 1;
        match fault {
            Some(Fault::Fails(refusal)) => Err(refusal),
            Some(Fault::AnswerLost) => self.perform_well(primitive).and(Err(Refusal::Io)),
            None => self.perform_well(primitive),
        }
    }

    fn perform_well(&mut self, primitive: &Primitive) -> Result<Answer, Refusal> {
        match primitive {
            Primitive::Look(place) => Ok(self.find(place)?.map_or(Answer::Missing, Answer::Looked)),
            Primitive::Hash(place) => Ok(match self.find(place)? {
                Some(Looked { kind: FileKind::Regular, stat, .. }) => match self.data_at(place) {
                    Some(data) => Answer::Hashed(content_of(data), stat),
                    None => Answer::Missing,
                },
                Some(_) => Answer::NoFile,
                None => Answer::Missing,
            }),
            Primitive::AwaitQuiet(place, _) => Ok(match self.find(place)? {
                Some(looked) if looked.kind != FileKind::Regular => Answer::NoFile,
                Some(_) if self.file_at(place).is_some_and(|file| self.files[file.0].restless) => {
                    Answer::Changing
                }
                Some(looked) => Answer::Looked(looked),
                None => Answer::Missing,
            }),
            Primitive::MakeFolders(place) => self.make_folders(place),
            Primitive::Rename(from, to) => self.rename(from, to),
            Primitive::Exchange(a, b) => self.exchange(a, b),
            Primitive::SyncFolder(place) => self.sync_folder(place),
            Primitive::SyncFile(place) => Ok(match self.file_at(place) {
                Some(file) => {
                    self.files[file.0].synced = true;
                    self.changes += 1;
                    Answer::Done
                }
                None => Answer::Missing,
            }),
            Primitive::Write(name, bytes) => {
                let place = Place::Temp(name.clone());
                if self.file_at(&place).is_some() {
                    return Ok(Answer::Occupied);
                }
                self.create(&place, Data::Bytes(bytes.clone()), false);
                Ok(Answer::Done)
            }
            Primitive::Read(name) => Ok(match self.data_at(&Place::Temp(name.clone())) {
                Some(Data::Bytes(bytes)) => Answer::Bytes(bytes.clone()),
                Some(Data::Content(_)) => Answer::Bytes(b"a picture".to_vec()),
                None => Answer::Missing,
            }),
            Primitive::Remove(name) => {
                let key = self.key(&Place::Temp(name.clone()));
                if self.names.remove(&key).is_none() {
                    return Ok(Answer::Missing);
                }
                self.changes += 1;
                self.kept.change(Vec::new(), Some(key));
                Ok(Answer::Done)
            }
        }
    }

    fn rename(&mut self, from: &Place, to: &Place) -> Result<Answer, Refusal> {
        if !self.abilities.no_replace {
            return Err(Refusal::Unsupported);
        }
        let reachable = [self.is_reachable(from)?, self.is_reachable(to)?];
        if reachable != [true, true] {
            return Ok(Answer::Missing);
        }
        let (key, to_key) = (self.key(from), self.key(to));
        let Some(file) = self.file_at(from) else {
            // A folder is not renamed here; as a source it is nobody's business.
            return Ok(Answer::Missing);
        };
        if self.names.contains_key(&to_key) || self.folders.contains(&to_key) {
            return Ok(Answer::Occupied);
        }
        let name = Name { place: to.clone(), file };
        self.names.remove(&key);
        self.names.insert(to_key.clone(), name.clone());
        self.files[file.0].ctime_ns = self.tick();
        self.kept.change(vec![(to_key, name)], Some(key));
        Ok(Answer::Done)
    }

    fn exchange(&mut self, a: &Place, b: &Place) -> Result<Answer, Refusal> {
        if !self.abilities.exchange {
            return Err(Refusal::Unsupported);
        }
        let reachable = [self.is_reachable(a)?, self.is_reachable(b)?];
        if reachable != [true, true] {
            return Ok(Answer::Missing);
        }
        let (Some(file_a), Some(file_b)) = (self.file_at(a), self.file_at(b)) else {
            return Ok(Answer::Missing);
        };
        let now_ns = self.tick();
        let link = vec![
            (self.key(a), Name { place: a.clone(), file: file_b }),
            (self.key(b), Name { place: b.clone(), file: file_a }),
        ];
        for (key, name) in &link {
            self.files[name.file.0].ctime_ns = now_ns;
            self.names.insert(key.clone(), name.clone());
        }
        self.kept.change(link, None);
        Ok(Answer::Done)
    }

    fn make_folders(&mut self, place: &Place) -> Result<Answer, Refusal> {
        let folders = self.folders_of(place);
        for (part, folder) in folders.iter().enumerate() {
            if self.names.contains_key(folder) {
                return match place {
                    Place::Trash(_) if part > 0 => Ok(Answer::NoFolder(part - 1)),
                    _ => Err(Refusal::InTheWay),
                };
            }
            self.changes += u64::from(self.folders.insert(folder.clone()));
        }
        Ok(Answer::Done)
    }

    fn sync_folder(&mut self, place: &Place) -> Result<Answer, Refusal> {
        if !self.is_reachable(place)? {
            return Ok(Answer::Missing);
        }
        self.make_names_durable(place);
        Ok(Answer::Done)
    }

    /// Of the folder of a place.
    fn make_names_durable(&mut self, place: &Place) {
        self.changes += u64::from(self.kept.has_pending());
        let key = self.key(place);
        self.kept.sync_folder_of(&key);
    }

    /// The machine loses its power: of what is not durable, `choose` says what is kept, as a number below its argument.
    pub fn crash(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        self.names = self.kept.crash(choose);
        let used: BTreeSet<FileId> = self.names.values().map(|name| name.file).collect();
        for id in used {
            let file = &mut self.files[id.0];
            (file.restless, file.open) = (false, false);
            if !file.synced {
                file.synced = true;
                file.data = torn(&file.data, choose(4));
                file.size = content_of(&file.data).size;
            }
        }
    }

    /// A person saves into the file that is there, or makes one. What was overwritten is returned.
    pub fn save_in_place(&mut self, path: &MediaPath, content: Content) -> Option<Content> {
        match self.file_at(&Place::Media(path.clone())) {
            Some(file) => {
                let before = self.write(file, content);
                // As a sync of the file does on the file systems that people use.
                self.make_names_durable(&Place::Media(path.clone()));
                Some(before)
            }
            None => self.save_by_rename(path, content),
        }
    }

    /// A person's program writes a new file and gives it the name. What had the name is returned.
    pub fn save_by_rename(&mut self, path: &MediaPath, content: Content) -> Option<Content> {
        let place = Place::Media(path.clone());
        if self.make_folders(&place).is_err() || self.folders.contains(&self.key(&place)) {
            return None;
        }
        let before = self.content_at(&place);
        self.create(&place, Data::Content(content), true);
        before
    }

    /// A person removes a file.
    pub fn remove(&mut self, path: &MediaPath) -> Option<Content> {
        let place = Place::Media(path.clone());
        let content = self.content_at(&place)?;
        self.forget(&place);
        Some(content)
    }

    /// A person gives a file another name, replacing nothing.
    pub fn rename_by_person(&mut self, path: &MediaPath, to: &MediaPath) {
        let (from, to) = (Place::Media(path.clone()), Place::Media(to.clone()));
        let free = self.content_at(&to).is_none() && !self.folders.contains(&self.key(&to));
        let Some(file) = self.file_at(&from).filter(|_| free) else { return };
        if self.make_folders(&to).is_err() {
            return;
        }
        self.forget(&from);
        self.link(&to, file, true);
    }

    /// A program opens the file at a place; it has it open until the power goes.
    pub fn open(&mut self, place: &Place) -> Option<FileId> {
        let file = self.file_at(place)?;
        self.files[file.0].open = true;
        Some(file)
    }

    /// Whether a program has the file open.
    pub fn is_open(&self, file: FileId) -> bool {
        self.files[file.0].open
    }

    /// The file at a place.
    pub fn file_at(&self, place: &Place) -> Option<FileId> {
        self.names.get(&self.key(place)).map(|name| name.file)
    }

    /// A program writes into a file that it has open, whatever name that has by now.
    pub fn write(&mut self, file: FileId, content: Content) -> Content {
        let now_ns = self.tick();
        let file = &mut self.files[file.0];
        let before = content_of(&file.data);
        (file.mtime_ns, file.ctime_ns, file.synced) = (now_ns, now_ns, true);
        (file.data, file.size) = (Data::Content(content), content.size);
        before
    }

    /// A program goes on writing into a file, or stops.
    pub fn set_restless(&mut self, file: FileId, restless: bool) {
        self.files[file.0].restless = restless;
    }

    /// A person writes into a file and sets its modification time back: the time of that change stays.
    pub fn edit_keeping_mtime(&mut self, path: &MediaPath, content: Content) {
        if let Some(file) = self.file_at(&Place::Media(path.clone())) {
            let mtime_ns = self.files[file.0].mtime_ns;
            self.write(file, content);
            self.files[file.0].mtime_ns = mtime_ns;
        }
    }

    /// The bytes change though nobody writes.
    pub fn rot(&mut self, path: &MediaPath, content: Content) {
        if let Some(file) = self.file_at(&Place::Media(path.clone())) {
            self.files[file.0].data = Data::Content(content);
        }
    }

    /// A transfer has filled the partial file of a content; that is not durable yet.
    pub fn fill_partial(&mut self, name: &str, content: Content) {
        let place = Place::Temp(name.to_owned());
        self.create(&place, Data::Content(content), false);
    }

    /// A partial file is given up.
    pub fn remove_partial(&mut self, name: &str) {
        self.forget(&Place::Temp(name.to_owned()));
    }

    /// What is at a place.
    pub fn content_at(&self, place: &Place) -> Option<Content> {
        self.data_at(place).map(content_of)
    }

    /// The stat of the file at a place.
    pub fn stat_at(&self, place: &Place) -> Option<FileStat> {
        self.file_at(place).map(|file| self.stat_of(file))
    }

    /// Every picture in the media folder, outside `.tcat`.
    pub fn media(&self) -> impl Iterator<Item = (&MediaPath, &Content)> {
        self.names.values().filter_map(|name| match (&name.place, &self.files[name.file.0].data) {
            (Place::Media(path), Data::Content(content)) => Some((path, content)),
            _ => None,
        })
    }

    /// Every file in trash.
    pub fn trash(&self) -> impl Iterator<Item = (&TrashPlace, Content)> {
        self.names.values().filter_map(|name| match &name.place {
            Place::Trash(place) => Some((place, content_of(&self.files[name.file.0].data))),
            _ => None,
        })
    }

    /// The names in `.tcat/tmp`.
    pub fn temp_names(&self) -> Vec<String> {
        let names = self.names.values().filter_map(|name| match &name.place {
            Place::Temp(name) => Some(name.clone()),
            _ => None,
        });
        names.collect()
    }

    /// A name in each folder of media, whether or not something has it.
    pub fn in_each_folder(&self) -> Vec<Place> {
        let below = |folder: &str| match folder.strip_prefix("media")? {
            "" => Some("any".to_owned()),
            folder => folder.strip_prefix('/').map(|folder| format!("{folder}/any")),
        };
        let names = self.folders.iter().filter_map(|folder| below(folder));
        names.filter_map(|name| MediaPath::parse(&name).ok()).map(Place::Media).collect()
    }

    fn tick(&mut self) -> i64 {
        self.now_ns += TICK_NS;
        self.changes += 1;
        match self.clock_ns {
            // No two changes of one millisecond have one stamp.
            Some(clock_ns) => clock_ns + (self.changes % TICK_NS as u64) as i64,
            None => self.now_ns,
        }
    }

    fn create(&mut self, place: &Place, data: Data, synced: bool) {
        let now_ns = self.tick();
        let size = content_of(&data).size;
        let (mtime_ns, ctime_ns) = (now_ns, now_ns);
        self.files.push(File { data, size, synced, mtime_ns, ctime_ns, restless: false, open: false });
        self.link(place, FileId(self.files.len() - 1), synced);
    }

    fn link(&mut self, place: &Place, file: FileId, durably: bool) {
        let (key, name) = (self.key(place), Name { place: place.clone(), file });
        self.names.insert(key.clone(), name.clone());
        self.kept.change(vec![(key, name)], None);
        if durably {
            self.make_names_durable(place);
        }
    }

    fn forget(&mut self, place: &Place) {
        let key = self.key(place);
        self.names.remove(&key);
        self.kept.change(Vec::new(), Some(key));
        self.make_names_durable(place);
    }

    /// What a name stands for; `None` if that, or a folder that leads to it, is not there.
    fn find(&self, place: &Place) -> Result<Option<Looked>, Refusal> {
        if !self.is_reachable(place)? {
            return Ok(None);
        }
        if self.folders.contains(&self.key(place)) {
            let stat = FileStat { file_id: u64::MAX, ..FileStat::default() };
            return Ok(Some(Looked { kind: FileKind::Folder, stat, links: 1, volume: 1 }));
        }
        Ok(self.file_at(place).map(|file| self.looked(file)))
    }

    fn looked(&self, id: FileId) -> Looked {
        let links = self.names.values().filter(|name| name.file == id).count() as u64;
        Looked { kind: FileKind::Regular, stat: self.stat_of(id), links, volume: 1 }
    }

    fn stat_of(&self, id: FileId) -> FileStat {
        let file = &self.files[id.0];
        let (size, mtime_ns, ctime_ns) = (file.size, file.mtime_ns, file.ctime_ns);
        FileStat { size, mtime_ns, ctime_ns, file_id: id.0 as u64 + 1 }
    }

    fn data_at(&self, place: &Place) -> Option<&Data> {
        self.file_at(place).map(|file| &self.files[file.0].data)
    }

    fn is_reachable(&self, place: &Place) -> Result<bool, Refusal> {
        for folder in self.folders_of(place) {
            if self.names.contains_key(&folder) && matches!(place, Place::Media(_)) {
                return Err(Refusal::InTheWay);
            }
            if !self.folders.contains(&folder) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The keys of the folders that lead to a place, outermost first.
    fn folders_of(&self, place: &Place) -> Vec<String> {
        let key = self.key(place);
        let skip = if matches!(place, Place::Trash(_)) {
            "trash/".len()
        } else {
            key.find('/').map_or(0, |at| at + 1)
        };
        let slashes = key.match_indices('/').filter(|(at, _)| *at >= skip);
        slashes.filter_map(|(at, _)| key.get(..at).map(str::to_owned)).collect()
    }

    /// What a place is known by: one text for all names that are one here.
    fn key(&self, place: &Place) -> String {
        let text = match place {
            Place::Media(path) => format!("media/{path}"),
            Place::Temp(name) => format!("temp/{name}"),
            Place::Trash(TrashPlace { day, path }) => format!("trash/{day}/{path}"),
        };
        if self.abilities.ignores_case { fold(&text) } else { text }
    }
}

fn content_of(data: &Data) -> Content {
    match data {
        Data::Content(content) => *content,
        Data::Bytes(bytes) => {
            let digest = *blake3::hash(bytes).as_bytes();
            let mut md5 = [0; 16];
            md5.copy_from_slice(&digest[..16]);
            Content { md5: Md5(md5), size: bytes.len() as u64, blake3: Some(Blake3(digest)) }
        }
    }
}

/// What a crash leaves of data that was not synced: all of it, nothing, the front, or the front and zeros.
fn torn(data: &Data, how: usize) -> Data {
    if how == 0 {
        return data.clone();
    }
    match data {
        // Another content, of another size or the same.
        Data::Content(content) => {
            let mut md5 = content.md5;
            md5.0[0] ^= 0xff;
            let size = match how {
                1 => 0,
                2 => content.size / 2,
                _ => content.size,
            };
            Data::Content(Content {
                md5,
                size,
                blake3: content.blake3.map(|Blake3(b)| Blake3(b.map(|byte| !byte))),
            })
        }
        Data::Bytes(bytes) => {
            let mut left =
                bytes.get(..if how == 1 { 0 } else { bytes.len() / 2 }).unwrap_or_default().to_vec();
            if how == 3 {
                left.resize(bytes.len(), 0);
            }
            Data::Bytes(left)
        }
    }
}
