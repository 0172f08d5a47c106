//! A few threads that hash files, with bounded queues on both sides.

use super::{Cancel, ScanError};
use crate::disk_clock::DiskClock;
use crate::hashing::{HashError, Hashed, hash_in_folder};
use crate::platform::Folder;
use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::Scope;
use std::time::{Duration, Instant};
use tcat_engine::paths::MediaPath;
use tcat_engine::stamps::Clocks;

/// Files that wait on each side of the threads.
const QUEUE_FILES: usize = 64;

/// A file that was hashed, or could not be.
pub(super) struct Done {
    pub(super) path: MediaPath,
    /// When reading it began.
    pub(super) begun: Instant,
    /// What the clocks showed then, as read before it.
    pub(super) clocks: Clocks,
    pub(super) outcome: Result<Hashed, HashError>,
}

/// The threads of one scan. Dropping it lets them end after their current file.
pub(super) struct Pool {
    jobs: Option<SyncSender<MediaPath>>,
    done: Receiver<Done>,
}

/// What every thread needs.
#[derive(Clone, Copy)]
pub(super) struct Worker<'a> {
    pub(super) root: &'a Folder,
    pub(super) cancel: Cancel<'a>,
    pub(super) clock: &'a DiskClock,
}

impl Pool {
    /// Starts one or two threads.
    pub(super) fn start<'scope, 'a: 'scope>(
        scope: &'scope Scope<'scope, '_>,
        threads: usize,
        worker: Worker<'a>,
    ) -> Result<Self, ScanError> {
        let (jobs, queue) = sync_channel(QUEUE_FILES);
        let (report, done) = sync_channel(QUEUE_FILES);
        let queue = std::sync::Arc::new(Mutex::new(queue));
        for _ in 0..threads.clamp(1, 2) {
            let (queue, report) = (queue.clone(), report.clone());
            std::thread::Builder::new()
                .name("hash".into())
                .spawn_scoped(scope, move || worker.work(&queue, &report))
                .map_err(ScanError::Threads)?;
        }
        Ok(Self { jobs: Some(jobs), done })
    }

    /// Hands over a file; gives it back if the queue is full: take something that is done first.
    pub(super) fn submit(&self, path: MediaPath) -> Option<MediaPath> {
        match self.jobs.as_ref()?.try_send(path) {
            Ok(()) => None,
            Err(TrySendError::Full(path) | TrySendError::Disconnected(path)) => Some(path),
        }
    }

    /// The next file that is done, if it comes within `wait`. `Ended` once all are and no more were handed over.
    pub(super) fn take(&self, wait: Duration) -> Taken {
        match self.done.recv_timeout(wait) {
            Ok(done) => Taken::One(done),
            Err(RecvTimeoutError::Timeout) => Taken::NotYet,
            Err(RecvTimeoutError::Disconnected) => Taken::Ended,
        }
    }

    /// No more files will come.
    pub(super) fn close(&mut self) {
        self.jobs = None;
    }
}

/// What [`Pool::take`] found.
pub(super) enum Taken {
    One(Done),
    NotYet,
    Ended,
}

impl Worker<'_> {
    fn work(self, queue: &Mutex<Receiver<MediaPath>>, report: &SyncSender<Done>) {
        loop {
            let Ok(Ok(path)) = queue.lock().map(|queue| queue.recv()) else { return };
            let (clocks, begun) = (self.clock.now(), Instant::now());
            let outcome = self.hash(&path);
            if report.send(Done { path, begun, clocks, outcome }).is_err() {
                return;
            }
        }
    }

    fn hash(&self, path: &MediaPath) -> Result<Hashed, HashError> {
        let (folder, name) = open_parent(self.root, path).map_err(|error| match error.kind() {
            // Its folder was there a moment ago.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => HashError::Changed,
            _ => HashError::Unreadable(error),
        })?;
        hash_in_folder(&folder, name.as_ref(), self.cancel)
    }
}

/// The folder that holds `path`, through real folders only, and the name in it.
pub(super) fn open_parent<'a>(root: &Folder, path: &'a MediaPath) -> io::Result<(Folder, &'a str)> {
    let mut folder = root.try_clone()?;
    let mut components = path.components().peekable();
    while let Some(name) = components.next() {
        if components.peek().is_none() {
            return Ok((folder, name));
        }
        folder = folder.open_folder(name)?;
    }
    Err(io::ErrorKind::InvalidInput.into())
}
