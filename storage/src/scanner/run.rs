//! One scan under way: walks, asks the md5 cache, hashes the rest, and hands over what it finds in batches.

use super::pool::{Done, Pool, Taken, Worker, open_parent};
use super::summary::{FOLDERS_NAMED_MAX, path_hash};
use super::{BATCH_OBSERVATIONS, Cancel, Emit, ScanError, ScanSummary, Scanner};
use crate::client_database::HashedFile;
use crate::disk_clock::DiskClock;
use crate::hashing::HashError;
use crate::ignore_rules::IgnoreRules;
use crate::platform::{FileKind, Folder, Looked};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::thread::Scope;
use std::time::{Duration, Instant};
use tcat_engine::observation::{FileStat, Observation, Seen};
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::Sound;
use tcat_engine::stamps::{self, Clocks};

/// Hashed files are remembered and handed over at the latest when so many groups of theirs wait, or after so long.
const PENDING_GROUPS_MAX: usize = 200_000;
const PENDING_MAX: Duration = Duration::from_millis(250);

pub(super) struct Run<'a> {
    scanner: &'a Scanner,
    clock: &'a DiskClock,
    root: &'a Folder,
    cancel: Cancel<'a>,
    emit: Emit<'a>,
    pool: Pool,
    summary: ScanSummary,
    /// Ready to be handed over.
    ready: Vec<Observation>,
    /// Quiet files that the md5 cache is yet to be asked about.
    unasked: Vec<(MediaPath, PathBuf, FileStat)>,
    /// Hashed files that are yet to be remembered.
    pending: Vec<(MediaPath, Instant, HashedFile)>,
    pending_groups: usize,
    pending_since: Instant,
    absent: Vec<Observation>,
    some_paths: bool,
    /// Paths found by a look at some paths, since a folder and what is below it may both be asked for.
    named: BTreeSet<MediaPath>,
    database_failed: bool,
}

impl<'a> Run<'a> {
    pub(super) fn begin<'scope>(
        scope: &'scope Scope<'scope, '_>,
        scanner: &'a Scanner,
        (root, clock): (&'a Folder, &'a DiskClock),
        rules: IgnoreRules,
        cancel: Cancel<'a>,
        emit: Emit<'a>,
    ) -> Result<Self, ScanError>
    where
        'a: 'scope,
    {
        let worker = Worker { root, cancel, clock };
        Ok(Self {
            scanner,
            clock,
            root,
            cancel,
            emit,
            pool: Pool::start(scope, scanner.settings.hash_threads, worker)?,
            summary: ScanSummary::new(rules),
            ready: Vec::new(),
            unasked: Vec::new(),
            pending: Vec::new(),
            pending_groups: 0,
            pending_since: Instant::now(),
            absent: Vec::new(),
            some_paths: false,
            named: BTreeSet::new(),
            database_failed: false,
        })
    }

    /// Looks at everything below a folder, given relative to the root; the empty text is the root.
    pub(super) fn walk(&mut self, folder: String) -> Result<(), ScanError> {
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            let (open, names) = match self.list(&folder) {
                Ok(listed) => listed,
                // It went away since its name was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => continue,
                Err(error) => {
                    self.folder_unread(&folder, &error)?;
                    continue;
                }
            };
            for name in names {
                if (self.cancel)() {
                    return Err(ScanError::Cancelled);
                }
                if let Some(below) = self.entry(&open, &folder, &name)? {
                    folders.push(below);
                }
            }
        }
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<(Folder, Vec<std::ffi::OsString>)> {
        let mut open = self.root.try_clone()?;
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            open = open.open_folder(name)?;
        }
        let limit = self.scanner.settings.folder_names_max;
        let names = open.names(limit.saturating_add(1))?;
        if names.len() > limit {
            return Err(io::Error::other(format!("it has more than {limit} names")));
        }
        Ok((open, names))
    }

    /// Looks at one name in a folder. Returns the path of what is to be walked later.
    fn entry(&mut self, open: &Folder, folder: &str, name: &OsStr) -> Result<Option<String>, ScanError> {
        let looked = match open.stat(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other,
        };
        let kind = looked.as_ref().map_or(FileKind::Other, |looked| looked.kind);
        let text = name.to_string_lossy();
        let path = if folder.is_empty() { text.into_owned() } else { format!("{folder}/{text}") };
        if self.summary.rules.ignores_entry(&path, kind == FileKind::Folder) {
            return Ok(None);
        }
        let (Some(_), Ok(path)) = (name.to_str(), MediaPath::parse(&path)) else {
            self.unusable_name(&path);
            return Ok(None);
        };
        if kind == FileKind::Folder {
            self.summary.folders.push(path_hash(&path));
            return Ok(Some(path.into()));
        }
        self.found(path, looked)?;
        Ok(None)
    }

    /// Looks at one path that may be anything, or nothing.
    pub(super) fn look_at(&mut self, path: &MediaPath) -> Result<(), ScanError> {
        self.some_paths = true;
        if (self.cancel)() {
            return Err(ScanError::Cancelled);
        }
        let looked = match open_parent(self.root, path) {
            Ok((folder, name)) => folder.stat(name),
            Err(error) => Err(error),
        };
        let is_folder = matches!(&looked, Ok(looked) if looked.kind == FileKind::Folder);
        if self.summary.rules.ignores(path.as_str(), is_folder) {
            return Ok(());
        }
        match looked {
            Ok(_) if is_folder => self.walk(path.as_str().to_owned()),
            _ if self.named.contains(path) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.absent.push(Observation { path: path.clone(), seen: Seen::Absent });
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => self
                .unreadable(path.clone(), "something that is no folder has the name of one above it".into()),
            other => self.found(path.clone(), other),
        }
    }

    /// Something that is no folder is at `path`.
    fn found(&mut self, path: MediaPath, looked: io::Result<Looked>) -> Result<(), ScanError> {
        if self.some_paths && !self.named.insert(path.clone()) {
            return Ok(());
        }
        self.summary.seen.push(path_hash(&path));
        let looked = match looked {
            Ok(looked) => looked,
            Err(error) => return self.unreadable(path, HashError::Unreadable(error).to_string()),
        };
        if looked.kind != FileKind::Regular {
            return self.unreadable(path, HashError::WrongType(looked.kind.name()).to_string());
        }
        self.summary.files += 1;
        if self.changed_just_now(&looked.stat) {
            return self.busy(path);
        }
        let full = self.scanner.root.join(path.as_str());
        self.unasked.push((path, full, looked.stat));
        if self.unasked.len() >= BATCH_OBSERVATIONS { self.ask() } else { Ok(()) }
    }

    fn changed_just_now(&self, stat: &FileStat) -> bool {
        stamps::changed_just_now(stat, self.clock.now(), self.scanner.settings.quiet_ms, &Sound)
    }

    /// Asks the md5 cache about the files at hand, and has those hashed that it does not know.
    fn ask(&mut self) -> Result<(), ScanError> {
        let files = std::mem::take(&mut self.unasked);
        let known =
            self.scanner.database.lookup_all(files.iter().map(|(_, full, stat)| (full.as_path(), stat)));
        let mut known = known.unwrap_or_else(|error| self.without_cache(&error)).into_iter();
        for (path, _, stat) in files {
            match known.next().flatten() {
                Some(content) => self.ready(path, Seen::File { content, stat })?,
                None => self.hash(path)?,
            }
        }
        Ok(())
    }

    /// A scan without md5 cache is slow, not wrong.
    fn without_cache<T: Default>(&mut self, error: &dyn std::fmt::Display) -> T {
        if !std::mem::replace(&mut self.database_failed, true) {
            tracing::warn!("{error}: this scan goes on without it and hashes more than it needs to");
        }
        T::default()
    }

    fn hash(&mut self, path: MediaPath) -> Result<(), ScanError> {
        let mut refused = self.pool.submit(path);
        while let Some(path) = refused {
            if self.take(PENDING_MAX)? == Progress::Ended {
                return Err(ScanError::Threads(io::Error::other("they ended early")));
            }
            refused = self.pool.submit(path);
        }
        while self.take(Duration::ZERO)? == Progress::One {}
        Ok(())
    }

    /// Takes one hashed file from the threads, and flushes when it is time.
    fn take(&mut self, wait: Duration) -> Result<Progress, ScanError> {
        if (self.cancel)() {
            return Err(ScanError::Cancelled);
        }
        let progress = match self.pool.take(wait) {
            Taken::One(done) => {
                self.hashed(done)?;
                Progress::One
            }
            Taken::NotYet => Progress::None,
            Taken::Ended => Progress::Ended,
        };
        let full = self.pending.len() >= BATCH_OBSERVATIONS || self.pending_groups >= PENDING_GROUPS_MAX;
        if full || (!self.pending.is_empty() && self.pending_since.elapsed() >= PENDING_MAX) {
            self.remember()?;
        }
        Ok(progress)
    }

    fn hashed(&mut self, Done { path, begun: began, clocks, outcome }: Done) -> Result<(), ScanError> {
        let hashed = match outcome {
            Ok(hashed) => hashed,
            // Gone or replaced since it was listed: the next look will tell.
            Err(HashError::Changed | HashError::Missing) => return self.busy(path),
            Err(HashError::Cancelled) => return Err(ScanError::Cancelled),
            Err(error @ (HashError::WrongType(_) | HashError::Unreadable(_))) => {
                return self.unreadable(path, error.to_string());
            }
        };
        self.summary.bytes_hashed += hashed.content.size;
        self.summary.files_hashed += 1;
        if self.pending.is_empty() {
            self.pending_since = Instant::now();
        }
        self.pending_groups += hashed.outboard.groups.len();
        let full = self.scanner.root.join(path.as_str());
        let (content, stat, outboard) = (hashed.content, hashed.stat, hashed.outboard);
        let begun = [clocks; 2];
        self.pending.push((path, began, HashedFile { path: full, content, stat, begun, outboard }));
        Ok(())
    }

    /// Writes the hashed files at hand to the client database in one commit, then hands them over: whoever asks for a
    /// content that was announced finds its tree.
    fn remember(&mut self) -> Result<(), ScanError> {
        self.pending_groups = 0;
        if self.pending.is_empty() {
            self.hand_over();
            return Ok(());
        }
        // Had the disk's clock been set since the reading before, one of the two is right.
        let reading = self.clock.reading();
        let pending = std::mem::take(&mut self.pending).into_iter();
        let (paths, files): (Vec<_>, Vec<_>) = pending
            .map(|(path, began, file)| {
                let [before, _] = file.begun;
                let after = Clocks { disk_ns: reading.carried_to(began), ..before };
                (path, HashedFile { begun: [before, after], ..file })
            })
            .unzip();
        if let Err(error) = self.scanner.database.store(&files) {
            self.without_cache::<()>(&error);
        }
        for (path, file) in paths.into_iter().zip(files) {
            self.ready(path, Seen::File { content: file.content, stat: file.stat })?;
        }
        self.hand_over();
        Ok(())
    }

    fn busy(&mut self, path: MediaPath) -> Result<(), ScanError> {
        self.summary.busy += 1;
        self.ready(path, Seen::Busy)
    }

    fn unreadable(&mut self, path: MediaPath, why: String) -> Result<(), ScanError> {
        self.summary.unreadable += 1;
        self.ready(path, Seen::Unreadable(why))
    }

    fn ready(&mut self, path: MediaPath, seen: Seen) -> Result<(), ScanError> {
        self.ready.push(Observation { path, seen });
        if self.ready.len() >= BATCH_OBSERVATIONS {
            self.hand_over();
        }
        if (self.cancel)() { Err(ScanError::Cancelled) } else { Ok(()) }
    }

    fn hand_over(&mut self) {
        if !self.ready.is_empty() {
            (self.emit)(std::mem::take(&mut self.ready));
        }
    }

    fn unusable_name(&mut self, path: &str) {
        self.summary.unusable_names += 1;
        self.summary.unusable_example.get_or_insert_with(|| path.chars().take(200).collect());
    }

    fn folder_unread(&mut self, folder: &str, error: &io::Error) -> Result<(), ScanError> {
        let Ok(path) = MediaPath::parse(folder) else {
            let (root, why) = (self.scanner.root.clone(), error.to_string());
            return Err(ScanError::RootUnreadable { root, why });
        };
        self.summary.unread.push(path_hash(&path));
        if self.summary.unreadable_folders.len() < FOLDERS_NAMED_MAX {
            tracing::warn!("{folder}: {error}: nothing is known of its files: make this folder readable");
            self.summary.unreadable_folders.push(folder.to_owned());
        }
        Ok(())
    }

    /// The paths at which nothing was.
    pub(super) fn take_absent(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.absent)
    }

    /// Waits for all that is being hashed, and hands over the rest.
    pub(super) fn finish(mut self) -> Result<ScanSummary, ScanError> {
        self.ask()?;
        self.pool.close();
        while self.take(PENDING_MAX)? != Progress::Ended {}
        self.remember()?;
        self.hand_over();
        if let Some(example) = &self.summary.unusable_example {
            let count = self.summary.unusable_names;
            tracing::warn!(
                "{count} names are left out as not every machine can keep them: rename {example:?}"
            );
        }
        self.summary.sort();
        Ok(self.summary)
    }
}

/// What [`Run::take`] did.
#[derive(PartialEq, Eq)]
enum Progress {
    One,
    None,
    Ended,
}
