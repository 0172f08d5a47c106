//! The scanner's thread and the watcher: what the engine asks to be looked at, and what the system says has changed.
//!
//! Requests are merged while a scan runs, so they cannot pile up. A watch that is not possible is replaced by frequent
//! scans, and said.

use super::Scans;
use super::driver::EngineHandle;
use crate::output::Failure;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tcat_engine::observation::{Observation, Seen};
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::Input;
use tcat_storage::client_database::ClientDatabase;
use tcat_storage::scanner::{ScanError, ScanSummary, Scanner, ScannerSettings};
use tcat_storage::watcher::{WatchEvent, watch};
use tokio::sync::watch as latest;

/// More single paths than this become a full scan.
const PATHS_MAX: usize = 10_000;
/// How long a start waits for the watch to begin, so that the first scan misses nothing.
const WATCH_PATIENCE: Duration = Duration::from_secs(10);
/// How often everything is scanned where the system tells of no changes.
const UNWATCHED_SCAN: Duration = Duration::from_secs(30);
/// The most unreadable paths that are kept for `tcat scan` to name.
const UNREADABLE_MAX: usize = 1000;

/// What is to be looked at next.
#[derive(Default)]
pub(super) struct ScanRequests {
    wanted: Mutex<Wanted>,
    changed: Condvar,
    stopping: AtomicBool,
}

#[derive(Default)]
struct Wanted {
    all: bool,
    paths: BTreeSet<MediaPath>,
}

/// A finished full scan.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub(super) began: Instant,
    pub(super) took: Duration,
    pub(super) outcome: Result<Arc<ScanSummary>, String>,
    pub(super) unreadable: Arc<Vec<(MediaPath, String)>>,
}

impl ScanRequests {
    /// Everything.
    pub(super) fn scan_all(&self) {
        self.lock().all = true;
        self.changed.notify_one();
    }

    /// These paths.
    pub(super) fn look(&self, paths: Vec<MediaPath>) {
        let mut wanted = self.lock();
        wanted.paths.extend(paths);
        if wanted.paths.len() > PATHS_MAX {
            wanted.paths.clear();
            wanted.all = true;
        }
        drop(wanted);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to look at next; none when it is time to stop.
    fn next(&self) -> Option<Wanted> {
        let mut wanted = self.lock();
        loop {
            if self.is_stopping() {
                return None;
            }
            if wanted.all || !wanted.paths.is_empty() {
                return Some(std::mem::take(&mut wanted));
            }
            wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }
}

/// The scanner's thread, as the node sees it.
pub(super) struct Scanning {
    requests: Scans,
    finished: latest::Receiver<Option<Finished>>,
    watching: tokio::task::JoinHandle<()>,
}

impl Scanning {
    /// Begins to watch, and to scan when asked.
    pub(super) async fn start(
        engine: EngineHandle,
        root: &Path,
        client_database: Arc<ClientDatabase>,
        quiet_ms: u64,
        hash_threads: u64,
    ) -> Result<Self, Failure> {
        let hash_threads = usize::try_from(hash_threads).unwrap_or(2).clamp(1, 2);
        let settings = ScannerSettings { quiet_ms, hash_threads, ..ScannerSettings::default() };
        let scanner = Scanner::new(root, client_database, settings).map_err(Failure::of)?;
        let requests = Scans::default();
        let (told, finished) = latest::channel(None);
        let worker = Worker { scanner, engine: engine.clone(), requests: Arc::clone(&requests), told };
        let thread = std::thread::Builder::new().name("scan".into()).spawn(move || worker.run());
        thread.map_err(|error| Failure::new("cannot run", error, "free some memory and start it again"))?;
        let mut events = watch(root);
        let first = tokio::time::timeout(WATCH_PATIENCE, events.recv()).await;
        let unwatched = match first {
            Ok(Some(WatchEvent::Unavailable(why))) => Some(why),
            _ => None,
        };
        let watching = tokio::spawn(hear(events, unwatched, engine, Arc::clone(&requests)));
        Ok(Self { requests, finished, watching })
    }

    pub(super) fn requests(&self) -> Scans {
        Arc::clone(&self.requests)
    }

    pub(super) fn finished(&self) -> latest::Receiver<Option<Finished>> {
        self.finished.clone()
    }

    pub(super) fn stop(&self) {
        self.watching.abort();
        self.requests.stop();
    }
}

/// Passes on what the watcher says; where it sees nothing, asks for scans instead.
async fn hear(
    mut events: tokio::sync::mpsc::Receiver<WatchEvent>,
    mut unwatched: Option<String>,
    engine: EngineHandle,
    requests: Scans,
) {
    loop {
        if let Some(why) = unwatched.take() {
            let seconds = UNWATCHED_SCAN.as_secs();
            tracing::warn!("changes are not seen as they happen: {why}; scanning every {seconds} s instead");
            break;
        }
        match events.recv().await {
            Some(WatchEvent::Changed(paths)) if paths.len() <= PATHS_MAX => requests.look(paths),
            Some(WatchEvent::Changed(_) | WatchEvent::Rescan) => {
                if engine.input(Input::Rescan).await.is_err() {
                    return;
                }
            }
            Some(WatchEvent::Unavailable(why)) => unwatched = Some(why),
            None => unwatched = Some("the watch ended".into()),
        }
    }
    let mut every = tokio::time::interval(UNWATCHED_SCAN);
    loop {
        tokio::select! {
            _ = every.tick() => {
                if engine.input(Input::Rescan).await.is_err() {
                    return;
                }
            }
            Some(event) = events.recv() => {
                if let WatchEvent::Changed(paths) = event {
                    requests.look(paths);
                }
            }
        }
    }
}

struct Worker {
    scanner: Scanner,
    engine: EngineHandle,
    requests: Scans,
    told: latest::Sender<Option<Finished>>,
}

impl Worker {
    fn run(self) {
        while let Some(wanted) = self.requests.next() {
            if !wanted.paths.is_empty() && !wanted.all {
                self.look(&wanted.paths.into_iter().collect::<Vec<_>>());
            }
            if wanted.all {
                self.scan_all();
            }
        }
    }

    fn look(&self, paths: &[MediaPath]) {
        let Some(since_ms) = self.now_ms() else { return };
        let stopping = || self.requests.is_stopping();
        let looked = self.scanner.scan_paths(paths, &stopping, &mut |observations| {
            let _ = self.engine.input_blocking(Input::Observed { since_ms, observations });
        });
        match looked {
            Ok(_) | Err(ScanError::Cancelled) => {}
            // What was to be looked at is looked at again by the next scan.
            Err(error) => tracing::warn!("{error}"),
        }
    }

    fn scan_all(&self) {
        let (began, Some(since_ms)) = (Instant::now(), self.now_ms()) else { return };
        let stopping = || self.requests.is_stopping();
        let mut unreadable = Vec::new();
        let scanned = self.scanner.scan_full(&stopping, &mut |observations: Vec<Observation>| {
            let room = UNREADABLE_MAX.saturating_sub(unreadable.len());
            let notes = observations.iter().filter_map(|observation| match &observation.seen {
                Seen::Unreadable(why) => Some((observation.path.clone(), why.clone())),
                _ => None,
            });
            unreadable.extend(notes.take(room));
            let _ = self.engine.input_blocking(Input::Observed { since_ms, observations });
        });
        if matches!(scanned, Err(ScanError::Cancelled)) {
            return;
        }
        let outcome = scanned.map(Arc::new).map_err(|error| error.to_string());
        let input = match &outcome {
            Ok(summary) => Input::Scanned(Arc::<ScanSummary>::clone(summary)),
            Err(why) => Input::ScanFailed(why.clone()),
        };
        let _ = self.engine.input_blocking(input);
        let (took, unreadable) = (began.elapsed(), Arc::new(unreadable));
        self.told.send_replace(Some(Finished { began, took, outcome, unreadable }));
    }

    /// The engine's time now: what it changes later is not judged by this look.
    fn now_ms(&self) -> Option<u64> {
        self.engine.ask_blocking(|engine| engine.now_ms()).ok()
    }
}
