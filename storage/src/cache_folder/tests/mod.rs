//! What the cache folder promises. Every test works on real files in a temporary folder.

mod crash;
#[cfg(unix)]
mod links;
mod place;
mod random;
mod root;
mod trash;

use super::*;
use crate::hashing::ContentHasher;
use std::collections::BTreeMap;
use std::fs;
use tcat_engine::content::Content;
use tcat_engine::ids::{ClientId, ItemId, WorkgroupId};

/// A media folder with what a test does to it; contents are short texts.
pub(super) struct World {
    pub place: tempfile::TempDir,
    pub folder: CacheFolder,
}

pub(super) fn marker() -> Marker {
    Marker { workgroup: WorkgroupId([1; 16]), client: ClientId([2; 32]), home: "/nowhere/of anna".into() }
}

pub(super) fn content(text: &str) -> Content {
    let mut hasher = ContentHasher::default();
    hasher.update(text.as_bytes());
    hasher.finish().0
}

pub(super) fn path(text: &str) -> MediaPath {
    MediaPath::parse(text).unwrap()
}

impl World {
    /// On a disk in memory where there is one: the tests make thousands of things durable.
    pub fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        builder.prefix("tcat é ");
        let place = builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap();
        let folder = CacheFolder::create(place.path(), &marker()).unwrap();
        Self { place, folder }
    }

    /// With or without exchange, as different disks have it.
    pub fn with_exchange(exchange: bool) -> Self {
        let mut world = Self::new();
        assert!(world.folder.abilities.no_replace, "tests need a disk that can rename without replacing");
        world.folder.abilities.exchange &= exchange;
        world
    }

    /// As a new process after a crash: nothing but the disk is left.
    pub fn restarted(self) -> Self {
        let Self { place, folder } = self;
        let abilities = folder.abilities;
        drop(folder);
        let mut folder = CacheFolder::open(place.path(), &marker()).unwrap();
        folder.abilities = abilities;
        Self { place, folder }
    }

    /// A person saves a file, in place.
    pub fn save(&self, at: &str, text: &str) {
        let place = self.folder.place_of(&path(at));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    }

    pub fn read(&self, at: &str) -> Option<String> {
        fs::read_to_string(self.folder.place_of(&path(at))).ok()
    }

    /// A whole partial, as a transfer leaves it.
    pub fn fetch(&self, text: &str) -> PathBuf {
        let partial = self.folder.partial(content(text).key());
        fs::write(&partial, text).unwrap();
        partial
    }

    /// Fetches and publishes `text` at `at`; `known` are contents that stay if they are there.
    pub fn publish(
        &self,
        at: &str,
        text: &str,
        expected: Option<&str>,
        known: &[&str],
    ) -> Result<Published, FolderError> {
        let known: Vec<Content> = known.iter().map(|text| content(text)).collect();
        self.folder.publish(&Publish {
            item: ItemId([7; 16]),
            path: &path(at),
            content: &content(text),
            partial: &self.fetch(text),
            expected: expected.map_or(Expected::Absent, |text| Expected::Content(content(text))),
            known: &known,
            author_name: "anna",
            quiet_ms: 0,
        })
    }

    /// The way through a temporary name, which only a file system that ignores case asks for by itself.
    pub fn move_through(
        &self,
        from: &MediaPath,
        to: &MediaPath,
        before: crate::platform::Looked,
    ) -> Result<Moved, FolderError> {
        let (from, to, day) = (from.clone(), to.clone(), self.folder.today().to_string());
        self.folder.act(tcat_engine::publishing::MoveThrough { from, to, before, day })
    }

    /// Every file below the root with its content, by its path; our marker and lock left out.
    pub fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.folder.root().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let place = entry.unwrap().path();
                if place.is_dir() {
                    folders.push(place);
                    continue;
                }
                let name = place.strip_prefix(self.folder.root()).unwrap().to_str().unwrap().to_owned();
                if name != ".tcat/root.toml" && name != ".tcat/lock" {
                    files.insert(name, String::from_utf8_lossy(&fs::read(place).unwrap()).into_owned());
                }
            }
        }
        files
    }

    /// The contents that a person can find: everything outside `.tcat/tmp`.
    pub fn findable(&self) -> BTreeSet<String> {
        let files = self.files().into_iter();
        files.filter(|(name, _)| !name.starts_with(".tcat/tmp/")).map(|(_, text)| text).collect()
    }

    /// What is left in `.tcat/tmp`.
    pub fn temporary(&self) -> Vec<String> {
        let files = self.files().into_keys();
        files.filter_map(|name| name.strip_prefix(".tcat/tmp/").map(str::to_owned)).collect()
    }

    /// The files that a person sees, outside `.tcat`.
    pub fn visible(&self) -> BTreeMap<String, String> {
        self.files().into_iter().filter(|(name, _)| !name.starts_with(".tcat/")).collect()
    }
}
