//! Programs of persons that have a file open: they write into it later, whatever name it has by then.
//!
//! Holds always: what they write is a person's, also in `.tcat/tmp` and in trash; a file that has no name any more
//! takes what is written with it. A power cut ends programs as it ends the node; who kills the node kills no program.

use crate::file_system::{FileId, FileSystem};
use crate::world::{Happening, World};
use tcat_engine::paths::MediaPath;
use tcat_engine::publishing::Place;

impl World {
    /// A program at a node opens a file, to write this content into it later.
    pub(crate) fn open_file(&mut self, n: usize, path: &str, number: u64, after_ms: u64) {
        let Ok(path) = MediaPath::parse(path) else { return };
        if !self.is_unmounted(n)
            && let Some(file) = self.home(n).disk.open(&Place::Media(path.clone()))
        {
            self.note(n, "open", || path.to_string());
            let after_ms = after_ms.min(self.calm_at_ms.saturating_sub(self.now_ms()));
            self.later(after_ms, Happening::Writes { node: n, file, content: number });
        }
    }

    /// It writes.
    pub(crate) fn editor_writes(&mut self, n: usize, file: FileId, number: u64) {
        // Its machine lost its power since, and the program with it.
        if !self.folder(n).disk.is_open(file) {
            return;
        }
        let Some(place) = place_of(&self.folder(n).disk, file) else { return };
        let content = self.content(number);
        let before = self.home(n).disk.write(file, content);
        self.forget_saved(n, Some(before));
        self.saved.push((n, content));
        self.truth.saved.insert(content);
        self.saves += 1;
        self.note(n, "write", || format!("{place:?} {content:?}"));
        match place {
            Place::Media(path) => self.watcher_sees(n, vec![path]),
            Place::Temp(_) | Place::Trash(_) => self.nodes[n].steps.was_written = true,
        }
    }
}

/// Which name a file has, if it has one.
fn place_of(disk: &FileSystem, file: FileId) -> Option<Place> {
    let media = disk.media().map(|(path, _)| Place::Media(path.clone()));
    let trash = disk.trash().map(|(place, _)| Place::Trash(place.clone()));
    let temp = disk.temp_names().into_iter().map(Place::Temp);
    media.chain(trash).chain(temp).find(|place| disk.file_at(place) == Some(file))
}
