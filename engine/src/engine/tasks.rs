//! Doing what settling decided, one effect at a time.
//!
//! A task lives in memory only: after a crash settling decides again from what each step left behind, so every step
//! leaves something from which that works. An item has one task at a time; when it ends, the item is looked at again.

use super::observe::Tracked;
use super::settling::Slot;
use super::{Engine, Result, Waiter};
use crate::catalog::{CatalogRow, ChainLink, Commit, Committed, Created, NewItem, Refusal, Revision};
use crate::content::Content;
use crate::entry::{Claim, Copy, Entry, Held, TaskKind};
use crate::ids::{ClientId, ItemId, ObjectId};
use crate::observation::FileStat;
use crate::paths::MediaPath;
use crate::ports::{Effect, EffectId, Event, Object, Outcome};
use crate::store::{Store, Table};

/// How many files may be renamed or trashed at a time.
const FOLDER_TASKS_MAX: usize = 16;

/// One item's work under way.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) job: Job,
    /// The content that it is about.
    pub(super) content: Content,
    pub(super) effect: Option<EffectId>,
    /// When the next step begins, if it waits for a time.
    pub(super) until_ms: Option<u64>,
}

/// What is being done, and how far it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Job {
    /// Enter a new item in the catalog.
    Import,
    /// Bring a content to the cloud and commit it.
    Upload(Box<Upload>),
    /// Bring a content here.
    Download(Box<Download>),
    /// Keep a conflicting file as a version item under its own name.
    SetAside { version: ItemId, path: MediaPath, to: MediaPath, n: u32 },
    /// Move a file to trash.
    Trash { path: MediaPath },
    /// Give a file the name that the catalog assigned.
    Move { path: MediaPath, to: MediaPath },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Upload {
    pub(super) commit: Commit,
    pub(super) object: Object,
    pub(super) path: MediaPath,
    pub(super) step: UploadStep,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum UploadStep {
    Intend,
    Put,
    Commit,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Download {
    pub(super) target: ChainLink,
    pub(super) object: ObjectId,
    pub(super) path: MediaPath,
    pub(super) expected: Option<Content>,
    pub(super) known: Vec<Content>,
    pub(super) step: DownloadStep,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DownloadStep {
    /// Look in our own trash.
    Untrash,
    /// Get it from a member.
    Fetch(ClientId),
    /// A claim is staked: listen for others before the work begins.
    Listen,
    /// Get it from the cloud.
    Get,
    /// Give it its place.
    Publish,
}

impl Job {
    /// Whether this step has the item's file in hand.
    fn moves_file(&self) -> bool {
        match self {
            Job::SetAside { .. } | Job::Trash { .. } | Job::Move { .. } => true,
            Job::Download(download) => download.step == DownloadStep::Publish,
            Job::Import | Job::Upload(_) => false,
        }
    }

    /// What it takes one of a limited number of.
    fn slot(&self) -> Option<Slot> {
        match self {
            Job::Import | Job::Upload(_) => Some(Slot::Upload),
            Job::Download(_) => Some(Slot::Download),
            Job::SetAside { .. } | Job::Trash { .. } | Job::Move { .. } => Some(Slot::Folder),
        }
    }

    /// Its name for people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Job::Import => "import",
            Job::Upload(_) => "upload",
            Job::Download(_) => "download",
            Job::SetAside { .. } => "keep-version",
            Job::Trash { .. } => "trash",
            Job::Move { .. } => "rename",
        }
    }

    /// Its step, for people.
    pub(super) fn state(&self) -> &'static str {
        match self {
            Job::Upload(upload) => match upload.step {
                UploadStep::Intend => "registering",
                UploadStep::Put => "sending",
                UploadStep::Commit => "committing",
            },
            Job::Download(download) => match download.step {
                DownloadStep::Untrash => "looking in trash",
                DownloadStep::Fetch(_) => "fetching from a member",
                DownloadStep::Listen => "claiming",
                DownloadStep::Get => "fetching from the cloud",
                DownloadStep::Publish => "publishing",
            },
            _ => "running",
        }
    }
}

impl<S: Store> Engine<S> {
    /// Begins a task with its first effect.
    pub(super) fn begin(&mut self, item: ItemId, content: Content, job: Job) {
        self.tasks.insert(item, Task { job, content, effect: None, until_ms: None });
        self.next_step(item);
    }

    /// Orders the effect of a task's present step.
    pub(super) fn next_step(&mut self, item: ItemId) {
        let Some(task) = self.tasks.get(&item) else { return };
        let content = task.content;
        let effect = match &task.job {
            Job::Import => return, // ordered where it begins: it needs the row that it makes
            Job::Upload(upload) => match upload.step {
                UploadStep::Intend => Effect::Intend(upload.object),
                UploadStep::Put => Effect::Put { object: upload.object, path: upload.path.clone() },
                UploadStep::Commit => Effect::Commit(Box::new(upload.commit.clone())),
            },
            Job::Download(download) => match self.download_effect(item, download, content) {
                Some(effect) => effect,
                None => return,
            },
            Job::SetAside { path, to, .. } => {
                Effect::SetAside { path: path.clone(), content, to: to.clone() }
            }
            Job::Trash { path } => Effect::Trash { path: path.clone(), content },
            Job::Move { path, to } => Effect::Move { path: path.clone(), to: to.clone() },
        };
        let id = self.effect(Waiter::Task(item), effect);
        if let Some(task) = self.tasks.get_mut(&item) {
            task.effect = Some(id);
        }
    }

    /// Whether one of our own effects has the item's file in hand.
    pub(super) fn task_moves_file(&self, item: &ItemId) -> bool {
        self.tasks.get(item).is_some_and(|task| task.effect.is_some() && task.job.moves_file())
    }

    /// How many more tasks of a kind may begin.
    pub(super) fn free_slots(&self, kind: Slot) -> usize {
        let used = self.tasks.values().filter(|task| task.job.slot() == Some(kind)).count();
        let most = match kind {
            Slot::Upload => self.config.uploads_max,
            Slot::Download => self.config.downloads_max,
            Slot::Folder => FOLDER_TASKS_MAX,
        };
        most.saturating_sub(used)
    }

    /// Whether a task of this kind may begin now; if not, the item waits for a slot.
    pub(super) fn has_slot(&mut self, kind: Slot, item: ItemId) -> bool {
        let free = self.free_slots(kind) > 0;
        if !free {
            self.queue.wait_for_slot(kind, item);
        }
        free
    }

    /// Ends a task: the item is looked at again.
    pub(super) fn end(&mut self, item: ItemId) {
        self.tasks.remove(&item);
        self.queue.ready(item);
    }

    pub(super) fn end_well(&mut self, item: ItemId) {
        self.queue.succeeded(&item);
        self.end(item);
    }

    /// Ends a task that failed: it is tried again later, and until then others may.
    pub(super) fn end_badly(&mut self, item: ItemId, why: String) -> Result<()> {
        self.tasks.remove(&item);
        self.drop_claims(item)?;
        self.failed(item, why);
        Ok(())
    }

    /// When the next task that waits for a time goes on. Tasks are few: each has a slot.
    pub(super) fn task_due_ms(&self) -> u64 {
        self.tasks.values().filter_map(|task| task.until_ms).min().unwrap_or(u64::MAX)
    }

    /// Steps whose time has come.
    pub(super) fn task_timers(&mut self) -> Result<()> {
        let now_ms = self.now.mono_ms;
        let due: Vec<_> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.until_ms.is_some_and(|until| until <= now_ms))
            .map(|(item, _)| *item)
            .collect();
        for item in due {
            self.listened(item)?;
        }
        Ok(())
    }

    /// An effect of a task is over.
    pub(super) fn step_done(&mut self, item: ItemId, id: EffectId, outcome: Outcome) -> Result<()> {
        let Some(task) = self.tasks.get_mut(&item) else { return Ok(()) };
        if task.effect != Some(id) {
            return Ok(());
        }
        task.effect = None;
        let (job, content) = (task.job.clone(), task.content);
        self.touch_paths_of(&job);
        match outcome {
            Outcome::Failed(why) => return self.step_failed(item, &job, why),
            // Not the source's fault: no other source would do better.
            Outcome::NoRoom(why) => return self.end_badly(item, why),
            _ => {}
        }
        match job {
            Job::Import => self.import_done(item, outcome),
            Job::Upload(upload) => self.upload_done(item, *upload, outcome),
            Job::Download(download) => self.download_done(item, *download, outcome),
            Job::SetAside { version, path, to, n } => {
                self.set_aside_done(item, content, version, (path, to, n), outcome)
            }
            Job::Trash { path } => self.trash_done(item, path, outcome),
            Job::Move { path, to } => self.move_done(item, path, to, outcome),
        }
    }

    fn step_failed(&mut self, item: ItemId, job: &Job, why: String) -> Result<()> {
        if let Job::Download(download) = job
            && let DownloadStep::Fetch(from) = download.step
        {
            // Another member or the cloud may do: no reason to wait.
            self.queue.shun(item, from, self.now.mono_ms + self.config.lease_ms);
            self.event(Event::Failing(item, why));
            self.end(item);
            return Ok(());
        }
        self.end_badly(item, why)
    }

    /// What an effect may have changed on disk is not judged by looks that began before.
    fn touch_paths_of(&mut self, job: &Job) {
        if !job.moves_file() {
            return;
        }
        let now_ms = self.now.mono_ms;
        match job {
            Job::Download(download) => self.watch.touch(&download.path, now_ms),
            Job::SetAside { path, to, .. } | Job::Move { path, to } => {
                self.watch.touch(path, now_ms);
                self.watch.touch(to, now_ms);
            }
            Job::Trash { path } => self.watch.touch(path, now_ms),
            Job::Import | Job::Upload(_) => {}
        }
    }

    /// The file is not what we believed: look, and judge again.
    pub(super) fn doubt(&mut self, item: ItemId, path: MediaPath) -> Result<()> {
        if self.tracked(&path)?.is_some_and(|tracked| tracked.item == item) {
            self.watch.doubt(item, path, self.now.mono_ms);
        } else {
            // What is there is another's now: this item's file is lost.
            let mut entry = self.own_entry(&item)?;
            if let Some(copy) = entry.copy.as_mut().filter(|copy| copy.held.is_some()) {
                copy.held = None;
                self.stage(item, entry);
            }
            self.watch.look_again(path, self.now.mono_ms);
        }
        self.end(item);
        Ok(())
    }

    // ---- import ----

    pub(super) fn begin_import(&mut self, item: ItemId, entry: &Entry) -> Result<()> {
        let Some(copy) = &entry.copy else { return Ok(()) };
        let (Some(held), true) = (&copy.held, self.has_slot(Slot::Upload, item)) else { return Ok(()) };
        // A row that is gone without a record is offered again with the revision that it had.
        let Some(link) = copy.line.last().or(copy.base.as_ref()) else { return Ok(()) };
        let new = NewItem {
            item,
            revision: link.revision,
            asked_path: held.path.clone(),
            content: held.content,
            content_type: content_type(&held.path).into(),
            author: self.config.me,
            author_name: self.config.name.clone(),
            source_server: self.config.source_server.clone(),
            version_of: self.version_of(&item)?,
        };
        self.tasks
            .insert(item, Task { job: Job::Import, content: held.content, effect: None, until_ms: None });
        let id = self.effect(Waiter::Task(item), Effect::Create(Box::new(new)));
        if let Some(task) = self.tasks.get_mut(&item) {
            task.effect = Some(id);
        }
        Ok(())
    }

    fn import_done(&mut self, item: ItemId, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Created(Created::Row(row)) => {
                self.event(Event::Imported(item, row.cache_path.clone()));
                self.apply_row(*row)?;
            }
            Outcome::Created(Created::Adopted(row)) => self.become_adopted(item, *row)?,
            Outcome::Created(Created::Removed) => {
                let entry = self.own_entry(&item)?;
                if let Some(held) = entry.copy.as_ref().and_then(|copy| copy.held.clone()) {
                    let stat = self.tracked(&held.path)?.map(|tracked| tracked.stat).unwrap_or_default();
                    self.stage(item, Entry { copy: None, claims: Vec::new(), ..entry });
                    self.saw_new_file(held.path, held.content, stat)?;
                }
            }
            _ => return self.end_badly(item, "the catalog gave no answer that fits; will ask again".into()),
        }
        self.end_well(item);
        Ok(())
    }

    /// The catalog has this very file as another item: the file becomes that item's.
    fn become_adopted(&mut self, item: ItemId, row: CatalogRow) -> Result<()> {
        let entry = self.own_entry(&item)?;
        let held = entry.copy.as_ref().and_then(|copy| copy.held.clone());
        self.stage(item, Entry { copy: None, claims: Vec::new(), ..entry });
        if let Some(held) = held {
            let stat = self.tracked(&held.path)?.map(|tracked| tracked.stat).unwrap_or_default();
            self.track(&Tracked::new(row.item, held.path.clone(), stat))?;
            let mut theirs = self.own_entry(&row.item)?;
            theirs.copy.get_or_insert_with(Copy::default).held = Some(held);
            self.stage(row.item, theirs);
        }
        self.queue.ready(row.item);
        self.apply_row(row)
    }

    // ---- upload ----

    pub(super) fn begin_upload(
        &mut self,
        item: ItemId,
        mut entry: Entry,
        row: Option<CatalogRow>,
    ) -> Result<()> {
        let (Some(row), Some(copy)) = (row, &mut entry.copy) else { return Ok(()) };
        let Some(held) = copy.held.clone() else { return Ok(()) };
        if !self.has_slot(Slot::Upload, item) {
            return Ok(());
        }
        let content = held.content;
        let unchanged = content.same_as(&row.content);
        if !unchanged && !copy.line.last().is_some_and(|link| link.content.same_as(&content)) {
            copy.line.push(ChainLink { revision: Revision(self.dot_for(&item)), content });
        }
        let line = if unchanged { Vec::new() } else { copy.line.clone() };
        let generation = if unchanged { row.generation } else { 0 } + self.counts.generation(&item);
        let object = Object { id: object_id(&item, &content, generation), item, content, generation };
        let commit = Commit {
            item,
            base: row.revision,
            line,
            object: object.id,
            generation,
            claim_epoch: row.claim_epoch + 1,
            catalog_epoch: self.feed.position().epoch,
            author: self.config.me,
        };
        entry.claims = vec![Claim {
            task: TaskKind::Upload,
            target: content,
            epoch: commit.claim_epoch,
            seen: Vec::new(),
            started: true,
            progress: 0,
            attempts: 1,
        }];
        self.stage(item, entry);
        let upload = Upload { commit, object, path: held.path, step: UploadStep::Intend };
        self.begin(item, content, Job::Upload(Box::new(upload)));
        Ok(())
    }

    fn upload_done(&mut self, item: ItemId, mut upload: Upload, outcome: Outcome) -> Result<()> {
        match (upload.step, outcome) {
            (UploadStep::Intend, Outcome::Done { .. }) => upload.step = UploadStep::Put,
            (UploadStep::Put, Outcome::Done { .. }) => {
                let still = self
                    .own_entry(&item)?
                    .held_content()
                    .is_some_and(|held| held.same_as(&upload.object.content));
                if !still {
                    self.end(item);
                    return Ok(());
                }
                upload.step = UploadStep::Commit;
            }
            (UploadStep::Put, Outcome::Changed | Outcome::Missing) => return self.doubt(item, upload.path),
            (UploadStep::Intend | UploadStep::Put, Outcome::Occupied) => {
                self.counts.next_generation(item);
                return self.end_badly(item, "its object's name is taken; will take the next".into());
            }
            (UploadStep::Commit, Outcome::Committed(committed)) => {
                return self.committed(item, &upload, committed);
            }
            (_, outcome) => {
                let why = format!("the upload failed ({}); will try again", short(&outcome));
                return self.end_badly(item, why);
            }
        }
        if let Some(task) = self.tasks.get_mut(&item) {
            task.job = Job::Upload(Box::new(upload));
        }
        self.next_step(item);
        Ok(())
    }

    fn committed(&mut self, item: ItemId, upload: &Upload, committed: Committed) -> Result<()> {
        match committed {
            Committed::Row(row) => {
                self.event(Event::Uploaded(item, upload.path.clone()));
                self.apply_row(*row)?;
                self.end_well(item);
            }
            Committed::Refused { why, row } => {
                if let Some(row) = row {
                    self.apply_row(*row)?;
                }
                match why {
                    Refusal::Revision | Refusal::ClaimEpoch => {
                        self.feed.hint(self.now.mono_ms);
                        self.end(item);
                    }
                    Refusal::Killed => {
                        self.feed.hint(self.now.mono_ms);
                        self.end_badly(
                            item,
                            format!("the catalog refused the upload: {why}; reading it again"),
                        )?;
                    }
                    Refusal::Condemned => {
                        self.counts.next_generation(item);
                        self.end(item);
                    }
                    Refusal::CatalogEpoch | Refusal::Roster => {
                        self.feed.hint(self.now.mono_ms);
                        let why = format!("the catalog refused the upload: {why}; will try again");
                        self.end_badly(item, why)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn drop_claims(&mut self, item: ItemId) -> Result<()> {
        let mut entry = self.own_entry(&item)?;
        if !entry.claims.is_empty() {
            entry.claims.clear();
            self.stage(item, entry);
        }
        Ok(())
    }

    // ---- the file's place ----

    pub(super) fn begin_set_aside(&mut self, item: ItemId, entry: &Entry, n: u32) -> Result<()> {
        let Some(held) = entry.copy.as_ref().and_then(|copy| copy.held.as_ref()) else { return Ok(()) };
        if !self.has_slot(Slot::Folder, item) {
            return Ok(());
        }
        let mut n = n;
        let (version, to) = loop {
            let version = ItemId::derive("tcat 1 version", &[&item.0, &held.content.key(), &n.to_le_bytes()]);
            let to = held.path.conflict_name(&self.config.name, n);
            let free = self.tracked(&to)?.is_none_or(|tracked| tracked.item == version);
            if free && self.row(&version)?.is_none() && self.removal(&version)?.is_none() {
                break (version, to);
            }
            n += 1;
            if n > 10_000 {
                self.failed(item, "ten thousand versions of one item; resolve some of them".into());
                return Ok(());
            }
        };
        let (path, content) = (held.path.clone(), held.content);
        self.claim_path(&version, &to)?;
        self.note_version(version, item);
        self.begin(item, content, Job::SetAside { version, path, to, n });
        Ok(())
    }

    fn set_aside_done(
        &mut self,
        item: ItemId,
        content: Content,
        version: ItemId,
        (path, to, n): (MediaPath, MediaPath, u32),
        outcome: Outcome,
    ) -> Result<()> {
        let mut entry = self.own_entry(&item)?;
        match outcome {
            Outcome::Done { stat } => {
                if let Some(copy) = &mut entry.copy {
                    copy.held = None;
                    copy.line.clear();
                }
                self.stage(item, entry);
                self.begin_item(version, to.clone(), content, stat)?;
                self.counts.conflicts += 1;
                self.event(Event::Conflict(item, to));
                self.end_well(item);
            }
            Outcome::Occupied => {
                self.give_up_version(&version, &to)?;
                self.watch.look_again(to, self.now.mono_ms);
                self.tasks.remove(&item);
                self.begin_set_aside(item, &entry, n + 1)?;
            }
            _ => {
                self.give_up_version(&version, &to)?;
                self.doubt(item, path)?;
            }
        }
        Ok(())
    }

    /// Frees the name that a version was to have, unless it has it already.
    fn give_up_version(&mut self, version: &ItemId, to: &MediaPath) -> Result<()> {
        match self.own_entry(version)?.held_content() {
            Some(_) => Ok(()),
            None => self.untrack(version, to),
        }
    }

    pub(super) fn begin_trash(&mut self, item: ItemId, entry: &Entry) {
        let Some(held) = entry.copy.as_ref().and_then(|copy| copy.held.as_ref()) else { return };
        if !self.has_slot(Slot::Folder, item) {
            return;
        }
        self.begin(item, held.content, Job::Trash { path: held.path.clone() });
    }

    fn trash_done(&mut self, item: ItemId, path: MediaPath, outcome: Outcome) -> Result<()> {
        if !matches!(outcome, Outcome::Done { .. }) {
            return self.doubt(item, path);
        }
        let mut entry = self.own_entry(&item)?;
        if let Some(copy) = &mut entry.copy {
            copy.held = None;
        }
        self.stage(item, entry);
        self.untrack(&item, &path)?;
        self.event(Event::Trashed(item, path));
        self.end_well(item);
        Ok(())
    }

    fn move_done(&mut self, item: ItemId, path: MediaPath, to: MediaPath, outcome: Outcome) -> Result<()> {
        let Outcome::Done { stat } = outcome else {
            // What stands in the way is looked at first: it becomes an item of its own and gives way.
            return self.doubt(item, if outcome == Outcome::Occupied { to } else { path });
        };
        let before = self.tracked(&path)?.map(|tracked| tracked.stat).unwrap_or_default();
        let mut entry = self.own_entry(&item)?;
        if let Some(held) = entry.copy.as_mut().and_then(|copy| copy.held.as_mut()) {
            held.path = to.clone();
        }
        self.stage(item, entry);
        if path.folded() != to.folded() {
            self.untrack(&item, &path)?;
        }
        // Somebody may have saved just before the file was moved.
        let unwritten =
            (before.size, before.mtime_ns, before.file_id) == (stat.size, stat.mtime_ns, stat.file_id);
        let stat = if unwritten { stat } else { FileStat::default() };
        self.track(&Tracked::new(item, to.clone(), stat))?;
        if !unwritten {
            self.watch.look_again(to.clone(), self.now.mono_ms);
        }
        self.event(Event::Renamed(item, to));
        self.queue.wake_waiting();
        self.end_well(item);
        Ok(())
    }

    /// Records that an item is a kept version of another, until the catalog says so itself.
    pub(super) fn note_version(&mut self, version: ItemId, of: ItemId) {
        self.tx.put(Table::Tasks, version_key(&version), of.0.to_vec());
    }

    pub(super) fn version_of(&self, item: &ItemId) -> Result<Option<ItemId>> {
        let of = self.tx.get(Table::Tasks, &version_key(item))?;
        Ok(of.and_then(|bytes| bytes.try_into().ok()).map(ItemId))
    }

    /// Writes down that this content is here, as the catalog's revision `base`.
    pub(super) fn record_held(
        &mut self,
        item: ItemId,
        path: MediaPath,
        content: Content,
        base: ChainLink,
        stat: FileStat,
    ) -> Result<()> {
        let mut entry = self.own_entry(&item)?;
        let held = Held { content, path: path.clone(), cached_date_ms: self.now.wall_ms };
        entry.copy = Some(Copy { held: Some(held), base: Some(base), line: Vec::new() });
        entry.claims.clear();
        self.stage(item, entry);
        self.track(&Tracked::new(item, path, stat))
    }
}

fn version_key(version: &ItemId) -> Vec<u8> {
    [b"version ", &version.0[..]].concat()
}

fn object_id(item: &ItemId, content: &Content, generation: u32) -> ObjectId {
    ObjectId::derive("tcat 1 object", &[&item.0, &content.key(), &generation.to_le_bytes()])
}

pub(super) fn short(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Missing => "it is not there",
        Outcome::Changed => "the file changed",
        Outcome::Occupied => "the name is taken",
        Outcome::Corrupt => "other bytes came than should",
        _ => "an answer that does not fit",
    }
}

/// The media type that a name promises; `unknown` means unverified.
fn content_type(path: &MediaPath) -> &'static str {
    let name = path.file_name().to_ascii_lowercase();
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("png") => "image/png",
        Some("gif") => "image/gif",
        Some("tif" | "tiff") => "image/tiff",
        Some("webp") => "image/webp",
        Some("mp4") => "video/mp4",
        Some("mov") => "video/quicktime",
        _ => "unknown",
    }
}
