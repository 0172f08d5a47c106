//! Doing what settling decided, one effect at a time.
//!
//! A task lives in memory only: after a crash settling decides again from what each step left behind, so every step
//! leaves something from which that works. An item has one task at a time; when it ends, the item is looked at again.

use super::killing::Killer;
use super::slots::{Slot, is_small};
use super::travelling::Take;
use super::{Engine, Result, Waiter};
use crate::catalog::{ChainLink, Commit};
use crate::catalog_orders::{Offer, Unsound};
use crate::content::Content;
use crate::entry::Copy;
use crate::ids::{ClientId, ItemId, ObjectId};
use crate::paths::MediaPath;
use crate::ports::{Effect, EffectId, Event, Object, Outcome};
use crate::store::Store;

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
    /// Bring a member's uncommitted edit here.
    Take(Box<Take>),
    /// Keep a conflicting file as a version item under its own name.
    SetAside { version: ItemId, path: MediaPath, to: MediaPath, n: u32 },
    /// A step of removing an item for good.
    Kill(Box<Killer>),
    /// Tell the catalog that an object is missing or wrong.
    Unsound(Box<Unsound>),
    /// Offer lost revisions to a restored catalog.
    Offer(Box<Offer>),
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
    /// A claim is staked: listen for others before the work begins.
    Listen,
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
    /// The file of this cache that has the content already, where that is where it comes from.
    pub(super) lender: Option<MediaPath>,
    pub(super) step: DownloadStep,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DownloadStep {
    /// Look in our own trash.
    Untrash,
    /// Take it from another file of this cache.
    Borrow,
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
    pub(super) fn moves_file(&self) -> bool {
        match self {
            Job::SetAside { .. } | Job::Trash { .. } | Job::Move { .. } => true,
            Job::Download(download) => download.step == DownloadStep::Publish,
            Job::Take(take) => take.publishing,
            Job::Import | Job::Upload(_) | Job::Kill(_) | Job::Unsound(_) | Job::Offer(_) => false,
        }
    }

    /// Where this step is putting a file.
    fn puts_file_at(&self) -> Option<&MediaPath> {
        match self {
            Job::SetAside { to, .. } | Job::Move { to, .. } => Some(to),
            Job::Download(download) if self.moves_file() => Some(&download.path),
            Job::Take(take) if self.moves_file() => Some(take.path()),
            _ => None,
        }
    }

    /// Whom this step fetches from.
    pub(super) fn fetches_from(&self) -> Option<ClientId> {
        match self {
            Job::Download(download) => match download.step {
                DownloadStep::Fetch(from) => Some(from),
                _ => None,
            },
            Job::Take(take) if !take.publishing => Some(take.from),
            _ => None,
        }
    }

    /// Whether its claim is staked, and nothing has begun.
    pub(super) fn listens(&self) -> bool {
        match self {
            Job::Download(download) => download.step == DownloadStep::Listen,
            Job::Upload(upload) => upload.step == UploadStep::Listen,
            _ => false,
        }
    }

    /// Whether this is the claim of a small content, which is staked before there is a slot to fetch it.
    pub(super) fn is_ahead(&self, content: &Content) -> bool {
        matches!(self, Job::Download(_)) && self.listens() && is_small(content)
    }

    /// What it takes, or a share of it, of a limited number of.
    pub(super) fn slot(&self, content: &Content) -> Option<Slot> {
        match self {
            Job::Import | Job::Upload(_) | Job::Kill(_) => Some(Slot::Upload),
            Job::Offer(_) => None,
            Job::Download(_) if self.is_ahead(content) => Some(Slot::Ahead),
            // Where a whole store is gone, each download ends in a word to the catalog: it keeps the share until that is
            // answered.
            Job::Download(_) | Job::Take(_) | Job::Unsound(_) => Some(Slot::Download),
            Job::SetAside { .. } | Job::Trash { .. } | Job::Move { .. } => Some(Slot::Folder),
        }
    }

    /// Its name for people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Job::Import => "import",
            Job::Upload(_) => "upload",
            Job::Download(_) | Job::Take(_) => "download",
            Job::SetAside { .. } => "keep-version",
            Job::Kill(_) => "kill",
            Job::Unsound(_) => "repair",
            Job::Offer(_) => "offer",
            Job::Trash { .. } => "trash",
            Job::Move { .. } => "rename",
        }
    }

    /// Its step, for people.
    pub(super) fn state(&self) -> &'static str {
        match self {
            Job::Upload(upload) => match upload.step {
                UploadStep::Listen => "claiming",
                UploadStep::Intend => "registering",
                UploadStep::Put => "sending",
                UploadStep::Commit => "committing",
            },
            Job::Download(download) => match download.step {
                DownloadStep::Untrash => "looking in trash",
                DownloadStep::Borrow => "copying from another file",
                DownloadStep::Fetch(_) => "fetching from a member",
                DownloadStep::Listen => "claiming",
                DownloadStep::Get => "fetching from the cloud",
                DownloadStep::Publish => "publishing",
            },
            Job::Take(take) if take.publishing => "publishing",
            Job::Take(_) => "fetching from a member",
            _ => "running",
        }
    }
}

impl<S: Store> Engine<S> {
    /// Begins a task with its first effect.
    pub(super) fn begin(&mut self, item: ItemId, content: Content, job: Job) {
        self.claiming.work.remove(&item);
        self.tasks.insert(item, Task { job, content, effect: None, until_ms: None });
        self.next_step(item);
    }

    /// Orders the effect of a task's present step.
    pub(super) fn next_step(&mut self, item: ItemId) {
        if !self.may_go_on(&item) {
            return;
        }
        let Some(task) = self.tasks.get(&item) else { return };
        let content = task.content;
        let effect = match &task.job {
            Job::Import => return, // ordered where it begins: it needs the row that it makes
            Job::Upload(upload) => match upload.step {
                UploadStep::Listen => return,
                UploadStep::Intend => Effect::Intend(upload.object),
                UploadStep::Put => Effect::Put { object: upload.object, path: upload.path.clone() },
                UploadStep::Commit => Effect::Commit(Box::new(upload.commit.clone())),
            },
            Job::Download(download) => match self.download_effect(item, download, content) {
                Some(effect) => effect,
                None => return,
            },
            Job::Kill(killer) => match killer.effect() {
                Some(effect) => effect,
                None => return,
            },
            Job::Unsound(order) => Effect::Unsound(order.clone()),
            Job::Offer(offer) => Effect::Offer(offer.clone()),
            Job::Take(take) => self.take_effect(item, take, content),
            Job::SetAside { path, to, .. } => {
                Effect::SetAside { path: path.clone(), content, to: to.clone() }
            }
            Job::Trash { path } => Effect::Trash { path: path.clone(), content },
            Job::Move { path, to } => Effect::Move { path: path.clone(), to: to.clone() },
        };
        let id = self.effect(Waiter::Task(item), effect);
        self.tasks.set_effect(&item, Some(id));
    }

    /// Whether one of our own effects has the item's file in hand.
    pub(super) fn task_moves_file(&self, item: &ItemId) -> bool {
        self.tasks.get(item).is_some_and(|task| task.effect.is_some() && task.job.moves_file())
    }

    /// Whether one of our own effects is putting the item's file at this path.
    pub(super) fn task_puts_file_at(&self, item: &ItemId, path: &MediaPath) -> bool {
        let here = |place: &MediaPath| place.folded() == path.folded();
        self.tasks
            .get(item)
            .is_some_and(|task| task.effect.is_some() && task.job.puts_file_at().is_some_and(here))
    }

    /// Ends a task: the item is looked at again.
    pub(super) fn end(&mut self, item: ItemId) {
        self.leave(item);
        self.queue.ready(item);
    }

    /// Ends a task, and looks at the item again at a time.
    pub(super) fn end_until(&mut self, item: ItemId, at_ms: u64) {
        self.leave(item);
        self.queue.needs_no_slot(&item);
        self.queue.later(item, at_ms);
    }

    fn leave(&mut self, item: ItemId) {
        self.tasks.remove(&item);
        self.claiming.work.remove(&item);
        self.attempt_was_none(item);
    }

    pub(super) fn end_well(&mut self, item: ItemId) {
        self.attempts_over(&item);
        self.end(item);
    }

    /// Ends a task that failed: it is tried again later, and until then others may.
    pub(super) fn end_badly(&mut self, item: ItemId, why: String) -> Result<()> {
        self.tasks.remove(&item);
        self.claiming.work.remove(&item);
        self.withdraw_all_but(item, None)?;
        self.failed(item, why);
        Ok(())
    }

    /// Steps whose time has come.
    pub(super) fn task_timers(&mut self) -> Result<()> {
        for item in self.tasks.due(self.now.mono_ms) {
            self.tasks.set_until(&item, None);
            self.has_listened(item)?;
        }
        Ok(())
    }

    /// Others were heard for as long as it takes; who claimed ahead waits for a slot.
    fn has_listened(&mut self, item: ItemId) -> Result<()> {
        let Some(task) = self.tasks.get(&item) else { return Ok(()) };
        match &task.job {
            Job::Upload(_) => self.upload_listened(item),
            Job::Kill(killer) => {
                let killer = (**killer).clone();
                self.kill_listened(item, killer)
            }
            Job::Download(download) if !self.would_begin(&item, download)? => {
                self.withdraw_all_but(item, None)?;
                self.end(item);
                Ok(())
            }
            job => match job.is_ahead(&task.content) && !self.has_share(item) {
                true => Ok(()),
                false => self.listened(item),
            },
        }
    }

    /// Somebody may have said something of an item that has a task, or there is a slot for it.
    pub(super) fn task_is_ready(&mut self, item: ItemId) -> Result<()> {
        let waits = |task: &Task| task.job.is_ahead(&task.content) && task.until_ms.is_none();
        match self.tasks.get(&item).is_some_and(waits) {
            true => self.has_listened(item),
            false => Ok(()),
        }
    }

    /// An effect of a task is over.
    pub(super) fn step_done(&mut self, item: ItemId, id: EffectId, outcome: Outcome) -> Result<()> {
        let Some(task) = self.tasks.get(&item).filter(|task| task.effect == Some(id)) else { return Ok(()) };
        let (job, content) = (task.job.clone(), task.content);
        self.tasks.set_effect(&item, None);
        self.touch_paths_of(&job);
        if self.broken_off(item, &job, &outcome)? {
            return Ok(());
        }
        if matches!(outcome, Outcome::Failed(_) | Outcome::NoRoom(_)) {
            self.folder_step_failed(item, &job, &content);
        }
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
            Job::Kill(killer) => self.kill_done(item, *killer, outcome),
            Job::Unsound(_) => self.unsound_done(item, outcome),
            Job::Offer(_) => self.offer_done(item, outcome),
            Job::Take(take) => self.take_done(item, *take, outcome),
            Job::SetAside { version, path, to, n } => {
                self.set_aside_done(item, content, version, (path, to, n), outcome)
            }
            Job::Trash { path } => self.trash_done(item, path, outcome),
            Job::Move { path, to } => self.move_done(item, path, to, outcome),
        }
    }

    fn step_failed(&mut self, item: ItemId, job: &Job, why: String) -> Result<()> {
        if let Some(from) = job.fetches_from() {
            // Another member or the cloud may do: no reason to wait.
            self.queue.shun(item, from, self.now.mono_ms + self.config.lease_ms);
            self.event(Event::Failing(item, why));
            self.end(item);
            return Ok(());
        }
        if let Job::Upload(upload) = job
            && upload.step == UploadStep::Commit
        {
            self.commit_unanswered(item, upload)?;
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
            Job::Take(take) => self.watch.touch(take.path(), now_ms),
            Job::SetAside { path, to, .. } | Job::Move { path, to } => {
                self.watch.touch(path, now_ms);
                self.watch.touch(to, now_ms);
            }
            Job::Trash { path } => self.watch.touch(path, now_ms),
            Job::Import | Job::Upload(_) | Job::Kill(_) | Job::Unsound(_) | Job::Offer(_) => {}
        }
    }

    /// The file is not what we believed: look, and judge again.
    pub(super) fn doubt(&mut self, item: ItemId, path: MediaPath) -> Result<()> {
        if let Some(tracked) = self.tracked(&path)?.filter(|tracked| tracked.item == item) {
            // Spelled as it is by now.
            self.watch.doubt(item, tracked.path, self.now.mono_ms);
        } else {
            // What is there is another's now: this item's file is lost, unless it was renamed since the effect began.
            let mut entry = self.own_entry(&item)?;
            let was_there = |copy: &&mut Copy| copy.held.as_ref().is_some_and(|held| held.path == path);
            if let Some(copy) = entry.copy.as_mut().filter(was_there) {
                copy.held = None;
                self.stage(item, entry);
            }
            self.watch.look_again(path, self.now.mono_ms);
        }
        self.end(item);
        Ok(())
    }
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
