//! Items that begin with a file of this folder: new ones, and the files of removed items that go on.
//!
//! What holds always: a file that goes on gets the same id at every holder, so that one removal is that of all of them.
//! Left out: whether a file is new (`observe`, `renaming`), and versions, which begin where files are set aside
//! (`placing`).

use super::observe::Tracked;
use super::{Engine, Result};
use crate::codec;
use crate::content::Content;
use crate::entry::{Copy, Entry, Held};
use crate::ids::ItemId;
use crate::observation::FileStat;
use crate::paths::MediaPath;
use crate::store::Store;

impl<S: Store> Engine<S> {
    /// A file that belongs to no item yet: it gets the id under which it will be imported. Where an item's file has been
    /// placed at another spelling of its name since it was seen, that keeps the path, and another look tells what this is.
    pub(super) fn saw_new_file(&mut self, path: MediaPath, content: Content, stat: FileStat) -> Result<()> {
        if self.is_taken(&path)? {
            self.watch.look_again(path, self.now.mono_ms);
            return Ok(());
        }
        let dot = codec::encode(&self.next_dot())?;
        let item = ItemId::derive("tcat 1 import", &[&dot]);
        self.note_found(item);
        self.begin_item(item, path, content, stat)
    }

    /// Whether an item's file is at a path, as far as we know.
    fn is_taken(&self, path: &MediaPath) -> Result<bool> {
        let tracked = self.tracked(path)?;
        Ok(tracked.map(|tracked| self.holds_at(&tracked)).transpose()? == Some(true))
    }

    /// Begins an item of our own with this file.
    pub(super) fn begin_item(
        &mut self,
        item: ItemId,
        path: MediaPath,
        content: Content,
        stat: FileStat,
    ) -> Result<()> {
        let mut copy = Copy::default();
        self.extend_line(&item, &mut copy, &content)?;
        copy.held = Some(Held { content, path: path.clone(), cached_date_ms: self.now.wall_ms });
        self.stage(item, Entry { copy: Some(copy), ..Entry::default() });
        self.track(&Tracked::new(item, path, stat))?;
        self.queue.ready(item);
        Ok(())
    }

    /// The file of a removed item that holds something nobody has: it goes on as an item of its own, the same for all
    /// who hold that. Who enters it late, when it was removed in its turn, hears so, instead of bringing it back.
    pub(super) fn become_new_item(&mut self, item: ItemId, entry: Entry) -> Result<()> {
        let Some(held) = entry.copy.as_ref().and_then(|copy| copy.held.clone()) else { return Ok(()) };
        let stat = self.tracked(&held.path)?.map(|tracked| tracked.stat).unwrap_or_default();
        self.drop_copy(item, entry, None)?;
        self.settled(item)?;
        let next = ItemId::derive("tcat 1 goes on", &[&item.0, &held.content.key()]);
        // It has a file of its own here already, or is about to get one: this is a second one of it.
        let is_second = self.tasks.contains_key(&next) || self.own_entry(&next)?.held_content().is_some();
        if is_second || self.is_taken(&held.path)? {
            return self.saw_new_file(held.path, held.content, stat);
        }
        self.note_found(next);
        self.begin_item(next, held.path, held.content, stat)
    }
}
