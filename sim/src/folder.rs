//! A model of one cache folder: whole files, trash, and the publishing rules of the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tcat_engine::content::Content;
use tcat_engine::observation::{Coverage, FileStat, Observation, Presence, Seen};
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::{Outcome, Publish};

/// All paths at which a scan found something.
#[derive(Debug)]
struct Paths(BTreeSet<MediaPath>);

impl Coverage for Paths {
    fn presence(&self, path: &MediaPath) -> Presence {
        if self.0.contains(path) { Presence::Seen } else { Presence::NotSeen }
    }
}

/// One node's files.
#[derive(Debug, Default, Clone)]
pub struct Folder {
    files: BTreeMap<MediaPath, (Content, FileStat)>,
    trash: Vec<Content>,
    partials: BTreeSet<[u8; 32]>,
    writes: u64,
}

impl Folder {
    /// The files now.
    pub fn contents(&self) -> BTreeMap<&MediaPath, &Content> {
        self.files.iter().map(|(path, (content, _))| (path, content)).collect()
    }

    /// Whether a content is in a file or in trash.
    pub fn keeps(&self, content: &Content) -> bool {
        self.trash.contains(content) || self.files.values().any(|(kept, _)| kept == content)
    }

    /// A person saves a file.
    pub fn save(&mut self, path: MediaPath, content: Content) -> FileStat {
        self.writes += 1;
        let ns = self.writes as i64;
        let stat = FileStat { size: content.size, mtime_ns: ns, ctime_ns: ns, file_id: self.writes };
        self.files.insert(path, (content, stat));
        stat
    }

    /// A person removes a file.
    pub fn remove(&mut self, path: &MediaPath) -> Option<Content> {
        self.files.remove(path).map(|(content, _)| content)
    }

    /// A person renames a file to a free name.
    pub fn rename_by_person(&mut self, path: &MediaPath, to: MediaPath) {
        if let Some(file) = self.files.remove(path) {
            self.files.insert(to, file);
        }
    }

    /// The bytes change though nobody writes.
    pub fn rot(&mut self, path: &MediaPath, content: Content) {
        if let Some(file) = self.files.get_mut(path) {
            file.0 = content;
        }
    }

    /// What a person finds at a path.
    pub fn content_at(&self, path: &MediaPath) -> Option<Content> {
        self.files.get(path).map(|(content, _)| *content)
    }

    /// What is at a path.
    pub fn look(&self, path: &MediaPath) -> Observation {
        let seen = match self.files.get(path) {
            Some((content, stat)) => Seen::File { content: *content, stat: *stat },
            None => Seen::Absent,
        };
        Observation { path: path.clone(), seen }
    }

    /// A full scan.
    pub fn scan(&self) -> (Vec<Observation>, Arc<dyn Coverage>) {
        let seen = Paths(self.files.keys().cloned().collect());
        (self.files.keys().map(|path| self.look(path)).collect(), Arc::new(seen))
    }

    /// A content has arrived whole.
    pub fn add_partial(&mut self, content: &Content) {
        self.partials.insert(content.key());
    }

    /// Brings a content back from trash.
    pub fn untrash(&mut self, content: &Content) -> Outcome {
        if !self.trash.iter().any(|kept| kept.same_as(content)) {
            return Outcome::Missing;
        }
        self.add_partial(content);
        Outcome::Done { stat: FileStat::default() }
    }

    /// Gives a whole partial its place, by the rules of the design, section 4.
    pub fn publish(&mut self, publish: &Publish) -> Outcome {
        if !self.partials.contains(&publish.content.key()) {
            return Outcome::Failed("no partial".into());
        }
        let present = self.files.get(&publish.path).map(|(content, _)| *content);
        let kept_as = match (present, publish.expected) {
            (None, _) => None,
            (Some(_), None) => return Outcome::Changed,
            (Some(present), Some(expected)) if present.same_as(&expected) => {
                self.trash.push(present);
                None
            }
            (Some(present), Some(_)) if publish.known.iter().any(|known| known.same_as(&present)) => {
                return Outcome::Changed;
            }
            (Some(present), Some(_)) => {
                let kept_as = self.free_name(&publish.path);
                self.save(kept_as.clone(), present);
                Some(kept_as)
            }
        };
        self.partials.remove(&publish.content.key());
        let stat = self.save(publish.path.clone(), publish.content);
        match kept_as {
            Some(kept_as) => Outcome::Edited { stat, kept_as },
            None => Outcome::Done { stat },
        }
    }

    fn free_name(&self, path: &MediaPath) -> MediaPath {
        let mut n = 1;
        while self.files.contains_key(&path.conflict_name("edit", n)) {
            n += 1;
        }
        path.conflict_name("edit", n)
    }

    /// Gives a file another name that must be free; checks the content where one is expected.
    pub fn rename(&mut self, path: &MediaPath, content: Option<&Content>, to: &MediaPath) -> Outcome {
        let Some((present, stat)) = self.files.get(path).copied() else { return Outcome::Missing };
        if content.is_some_and(|content| !content.same_as(&present)) {
            return Outcome::Changed;
        }
        if self.files.contains_key(to) {
            return Outcome::Occupied;
        }
        self.files.remove(path);
        self.files.insert(to.clone(), (present, stat));
        Outcome::Done { stat }
    }

    /// Moves a file to trash.
    pub fn to_trash(&mut self, path: &MediaPath, content: &Content) -> Outcome {
        match self.files.get(path) {
            Some((present, stat)) if present.same_as(content) => {
                let stat = *stat;
                self.trash.push(*present);
                self.files.remove(path);
                Outcome::Done { stat }
            }
            Some(_) => Outcome::Changed,
            None => Outcome::Missing,
        }
    }

    /// A crash: partials are lost.
    pub fn crash(&mut self) {
        self.partials.clear();
    }

    /// A person saves over a file with a program that sets the time of modification back.
    pub fn save_keeping_time(&mut self, path: &MediaPath, content: Content) {
        self.writes += 1;
        if let Some((kept, stat)) = self.files.get_mut(path) {
            *kept = content;
            (stat.size, stat.ctime_ns) = (content.size, self.writes as i64);
        }
    }

    /// How many partial files there are.
    pub fn partials(&self) -> usize {
        self.partials.len()
    }
}
