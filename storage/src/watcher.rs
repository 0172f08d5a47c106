//! Tells soon which paths of the media folder changed, as far as the system says so. Only a hint: a scan finds all.
//!
//! What holds always: the first event says whether watching has begun, so that a scan made after it misses nothing;
//! what cannot be told path by path becomes [`WatchEvent::Rescan`], never silence; memory is bounded however much
//! changes; `.tcat/` is not reported, and reading a file is no change. Not here: what is at the paths (`scanner`).

use crate::ignore_rules::IGNORE_FILE;
use notify::event::{AccessKind, AccessMode, EventKind, MetadataKind, ModifyKind, RenameMode};
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tcat_engine::paths::MediaPath;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// What a watch reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchEvent {
    /// Something changed at these paths: files, or folders with all that is below them. At most [`PATHS_MAX`].
    Changed(Vec<MediaPath>),
    /// Anything may have changed. Also the first event, once watching has begun.
    Rescan,
    /// Not all changes are seen from now on, for the reason given to people: rely on scanning. After the media folder
    /// was away, watch anew.
    Unavailable(String),
}

/// The most paths in one event; more become [`WatchEvent::Rescan`].
pub const PATHS_MAX: usize = 10_000;

/// Changes are collected for so long, then reported together.
const COLLECT: Duration = Duration::from_millis(200);
/// How soon it is noticed that nobody listens any more.
const LISTENER_CHECK: Duration = Duration::from_secs(2);
/// Events that wait for the listener; meanwhile changes are collected.
const QUEUE_EVENTS: usize = 4;
/// Folders may vanish while watching begins.
const ATTEMPTS: usize = 3;

/// Watches the media folder `root` until the receiver is dropped. Returns at once; large folders take a while.
pub fn watch(root: &Path) -> Receiver<WatchEvent> {
    let (sender, receiver) = channel(QUEUE_EVENTS);
    let (root, own_sender) = (root.to_owned(), sender.clone());
    let started = std::thread::Builder::new().name("watch".into()).spawn(move || run(&root, &own_sender));
    if let Err(error) = started {
        // Room is certain: nothing was sent yet.
        let _ = sender.try_send(unavailable(&format!("no thread could be started: {error}")));
    }
    receiver
}

fn run(root: &Path, sender: &Sender<WatchEvent>) {
    let changes = Arc::new(Changes::new(root));
    let watcher = match begin(root, &changes) {
        Ok((watcher, None)) => {
            changes.collect(|collected| collected.rescan = true);
            watcher
        }
        Ok((watcher, Some(trouble))) => {
            changes.collect(|collected| collected.trouble(trouble));
            watcher
        }
        Err(error) => {
            let _ = sender.blocking_send(unavailable(&describe(&error)));
            return;
        }
    };
    while let Some(events) = changes.next(sender) {
        for event in events {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    }
    drop(watcher);
}

/// Begins to watch. With a text if only parts are watched.
fn begin(root: &Path, changes: &Arc<Changes>) -> notify::Result<(RecommendedWatcher, Option<String>)> {
    let handler = changes.clone();
    let config = Config::default().with_follow_symlinks(false);
    let mut watcher = RecommendedWatcher::new(move |event| handler.take(event), config)?;
    let mut result = Ok(());
    for _ in 0..ATTEMPTS {
        result = watcher.watch(root, RecursiveMode::Recursive);
        match &result {
            Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) && root.exists() => {}
            _ => break,
        }
    }
    Ok((watcher, result.err().map(|error| describe(&error))))
}

/// What changed and is not yet reported.
struct Changes {
    /// The root as given, and as the system may name it instead.
    roots: Vec<PathBuf>,
    collected: Mutex<Collected>,
    something: Condvar,
}

#[derive(Default)]
struct Collected {
    paths: BTreeSet<MediaPath>,
    rescan: bool,
    /// To be reported.
    trouble: Option<String>,
    /// Trouble is reported once; it rarely comes alone.
    troubled: bool,
}

impl Collected {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.rescan && self.trouble.is_none()
    }

    fn path(&mut self, path: MediaPath) {
        if self.paths.len() >= PATHS_MAX {
            self.rescan = true;
        }
        // A scan of everything covers each path.
        if self.rescan {
            self.paths.clear();
        } else {
            self.paths.insert(path);
        }
    }

    fn trouble(&mut self, why: String) {
        if !self.troubled {
            self.trouble = Some(why);
            self.troubled = true;
        }
        self.rescan = true;
    }

    fn report(&mut self) -> Vec<WatchEvent> {
        let trouble = self.trouble.take().map(|why| unavailable(&why));
        let paths = std::mem::take(&mut self.paths);
        let changed = match std::mem::take(&mut self.rescan) {
            true => Some(WatchEvent::Rescan),
            false if paths.is_empty() => None,
            false => Some(WatchEvent::Changed(paths.into_iter().collect())),
        };
        trouble.into_iter().chain(changed).collect()
    }
}

impl Changes {
    fn new(root: &Path) -> Self {
        let roots = [Ok(root.to_owned()), std::path::absolute(root), root.canonicalize()];
        Self {
            roots: roots.into_iter().flatten().collect(),
            collected: Mutex::default(),
            something: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        // Every change of it is whole, so one that panicked left nothing half done.
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collect(&self, change: impl FnOnce(&mut Collected)) {
        let mut collected = self.lock();
        change(&mut collected);
        if !collected.is_empty() {
            self.something.notify_one();
        }
    }

    /// Takes what the system reports; called on its thread.
    fn take(&self, event: notify::Result<Event>) {
        self.collect(|collected| match event {
            Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                collected.trouble(describe(&error));
            }
            Err(_) => collected.rescan = true,
            Ok(event) if event.need_rescan() => collected.rescan = true,
            Ok(event) if !is_change(&event.kind) => {}
            Ok(event) => {
                for path in &event.paths {
                    self.take_path(collected, &event.kind, path);
                }
            }
        });
    }

    fn take_path(&self, collected: &mut Collected, kind: &EventKind, path: &Path) {
        let Some(below) = self.roots.iter().find_map(|root| path.strip_prefix(root).ok()) else {
            collected.rescan = true;
            return;
        };
        // Names that are no text are counted by each full scan.
        let Some(text) = below.to_str().map(|text| text.replace(std::path::MAIN_SEPARATOR, "/")) else {
            return;
        };
        if text.is_empty() {
            return match kind {
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                    collected.trouble("the media folder was moved or removed".into());
                }
                _ => {}
            };
        }
        if text == IGNORE_FILE {
            collected.rescan = true;
        } else if let Ok(path) = MediaPath::parse(&text) {
            collected.path(path);
        }
    }

    /// Waits for something to report and collects a little longer. `None` once nobody listens.
    fn next(&self, sender: &Sender<WatchEvent>) -> Option<Vec<WatchEvent>> {
        let mut collected = self.lock();
        while collected.is_empty() {
            if sender.is_closed() {
                return None;
            }
            let waited = self.something.wait_timeout(collected, LISTENER_CHECK);
            collected = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(collected);
        std::thread::sleep(COLLECT);
        Some(self.lock().report())
    }
}

/// Whether a file or a name may be another than before. Being opened and read, as by our own hashing, is no change.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(MetadataKind::AccessTime)) => false,
        _ => true,
    }
}

fn describe(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the system's limit of watched folders is reached: raise fs.inotify.max_user_watches".into()
        }
        _ => match error.paths.first() {
            Some(path) => format!("{}: {}", path.display(), without_paths(error)),
            None => without_paths(error),
        },
    }
}

/// notify appends its list of paths in debugging form, which says nothing more to people.
fn without_paths(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::Io(error) => error.to_string(),
        notify::ErrorKind::Generic(text) => text.clone(),
        notify::ErrorKind::PathNotFound => "it is not there".into(),
        other => format!("{other:?}"),
    }
}

fn unavailable(why: &str) -> WatchEvent {
    WatchEvent::Unavailable(format!("changes are not seen at once ({why}): they are found by scanning"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Instant;

    fn path(text: &str) -> MediaPath {
        MediaPath::parse(text).unwrap()
    }

    /// A watched folder, after the first event.
    fn watched() -> (tempfile::TempDir, Receiver<WatchEvent>) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(".tcat/tmp")).unwrap();
        fs::create_dir(root.path().join("2024")).unwrap();
        fs::write(root.path().join("2024/old.jpg"), b"old").unwrap();
        let mut events = watch(root.path());
        assert_eq!(events.blocking_recv(), Some(WatchEvent::Rescan));
        (root, events)
    }

    /// Waits until all of `expected` were reported; nothing else may be.
    fn expect(events: &mut Receiver<WatchEvent>, expected: &[&str]) {
        let expected: BTreeSet<MediaPath> = expected.iter().map(|text| path(text)).collect();
        let mut seen = BTreeSet::new();
        while seen != expected {
            match within(events, Duration::from_secs(20)) {
                Some(WatchEvent::Changed(paths)) => seen.extend(paths),
                other => panic!("{other:?} after {seen:?}"),
            }
            assert!(seen.is_subset(&expected), "{seen:?}");
        }
    }

    fn within(events: &mut Receiver<WatchEvent>, limit: Duration) -> Option<WatchEvent> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            match events.try_recv() {
                Ok(event) => return Some(event),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        None
    }

    #[test]
    fn new_changed_renamed_and_removed_files_are_reported_by_their_paths() {
        let (root, mut events) = watched();
        fs::write(root.path().join("2024/Été 1.jpg"), b"new").unwrap();
        fs::write(root.path().join("2024/old.jpg"), b"edited").unwrap();
        expect(&mut events, &["2024/Été 1.jpg", "2024/old.jpg"]);
        fs::rename(root.path().join("2024/old.jpg"), root.path().join("moved.jpg")).unwrap();
        expect(&mut events, &["2024/old.jpg", "moved.jpg"]);
        fs::remove_file(root.path().join("moved.jpg")).unwrap();
        expect(&mut events, &["moved.jpg"]);
    }

    #[test]
    fn a_folder_that_is_moved_in_is_reported_and_watched_from_then_on() {
        let (root, mut events) = watched();
        let elsewhere = tempfile::tempdir_in(root.path().parent().unwrap()).unwrap();
        fs::create_dir_all(elsewhere.path().join("in/deep")).unwrap();
        fs::write(elsewhere.path().join("in/deep/a.jpg"), b"a").unwrap();
        fs::rename(elsewhere.path().join("in"), root.path().join("in")).unwrap();
        expect(&mut events, &["in"]);
        fs::write(root.path().join("in/deep/b.jpg"), b"b").unwrap();
        expect(&mut events, &["in/deep/b.jpg"]);
    }

    #[test]
    fn a_burst_is_reported_together() {
        let (root, mut events) = watched();
        for n in 0..200 {
            fs::write(root.path().join("2024/one.jpg"), vec![n; 100]).unwrap();
        }
        match within(&mut events, Duration::from_secs(20)) {
            Some(WatchEvent::Changed(paths)) => assert_eq!(paths, [path("2024/one.jpg")]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tcats_own_folder_and_mere_reading_are_not_reported() {
        let (root, mut events) = watched();
        fs::write(root.path().join(".tcat/tmp/x"), b"ours").unwrap();
        fs::read(root.path().join("2024/old.jpg")).unwrap();
        fs::read_dir(root.path().join("2024")).unwrap().count();
        fs::write(root.path().join("last.jpg"), b"x").unwrap();
        expect(&mut events, &["last.jpg"]);
        assert_eq!(within(&mut events, Duration::from_millis(300)), None);
    }

    #[test]
    fn new_ignore_rules_concern_every_file() {
        let (root, mut events) = watched();
        fs::write(root.path().join(IGNORE_FILE), b"*.raw").unwrap();
        assert_eq!(within(&mut events, Duration::from_secs(20)), Some(WatchEvent::Rescan));
    }

    #[test]
    fn a_media_folder_that_goes_away_or_is_not_there_is_said_to_be_unwatched() {
        let (root, mut events) = watched();
        fs::remove_dir_all(root.path()).unwrap();
        let gone =
            |event: &WatchEvent| matches!(event, WatchEvent::Unavailable(why) if why.contains("scanning"));
        let mut found = false;
        while let Some(event) = within(&mut events, Duration::from_secs(2)) {
            found |= gone(&event);
        }
        assert!(found);
        let mut events = watch(&root.path().join("none"));
        assert!(gone(&events.blocking_recv().unwrap()));
    }

    #[test]
    fn too_many_changes_an_overflow_and_an_error_ask_for_a_scan() {
        let changes = Changes::new(Path::new("/m"));
        let change =
            |n| Event::new(EventKind::Modify(ModifyKind::Any)).add_path(PathBuf::from(format!("/m/{n}.jpg")));
        for n in 0..PATHS_MAX * 2 {
            changes.take(Ok(change(n)));
            assert!(changes.lock().paths.len() <= PATHS_MAX);
        }
        assert_eq!(changes.lock().report(), [WatchEvent::Rescan]);
        changes.take(Ok(Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)));
        assert_eq!(changes.lock().report(), [WatchEvent::Rescan]);
        changes.take(Err(notify::Error::generic("some error")));
        assert_eq!(changes.lock().report(), [WatchEvent::Rescan]);
        changes.take(Ok(Event::new(EventKind::Any).add_path("/elsewhere".into())));
        assert_eq!(changes.lock().report(), [WatchEvent::Rescan]);
        changes.take(Ok(change(1)));
        assert_eq!(changes.lock().report(), [WatchEvent::Changed(vec![path("1.jpg")])]);
        assert_eq!(changes.lock().report(), []);
    }

    #[test]
    fn the_systems_limit_is_named_once_with_what_to_do() {
        let changes = Changes::new(Path::new("/m"));
        for _ in 0..3 {
            changes.take(Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)));
        }
        let events = changes.lock().report();
        let [WatchEvent::Unavailable(why), WatchEvent::Rescan] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert!(why.contains("fs.inotify.max_user_watches") && why.contains("scanning"), "{why}");
        changes.take(Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)));
        assert_eq!(changes.lock().report(), [WatchEvent::Rescan]);
    }
}
