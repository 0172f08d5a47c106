//! Moving an object's bytes between files and the store: in bounded memory, hashed on the way, stoppable.
//!
//! What holds always: reading, writing and hashing block, so they run on threads for that, and stop within
//! one piece of work once the future that waits for them is dropped. Not here: names, and what a wrong digest
//! means.

use super::Progress;
use super::error::{ObjectError, at_destination};
use crate::hashing::ContentHasher;
use crate::platform::OwnFile;
use futures::StreamExt;
use object_store::{GetResult, GetResultPayload};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How much is read and written at a time, and how often a stop is noticed.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// How many pieces may wait between receiving and writing.
pub(super) const PIECES_AHEAD: usize = 4;
/// How long a destination that a stopped download is about to let go of is waited for.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 2_000 });
const RELEASE_POLL: Duration = Duration::from_millis(20);

/// The working thread's side of the one who waits for it.
pub(super) struct Watcher {
    done: watch::Sender<u64>,
    stop: Arc<AtomicBool>,
}

impl Watcher {
    /// Tells how many bytes are done; an error if nobody waits any more.
    pub(super) fn report(&self, done: u64) -> io::Result<()> {
        self.done.send_replace(done);
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, STOPPED));
        }
        Ok(())
    }
}

const STOPPED: &str = "stopped";

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on a thread for blocking work and passes its reports on.
pub(super) async fn blocking<T: Send + 'static>(
    progress: Progress<'_>,
    work: impl FnOnce(&Watcher) -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    let (done, mut seen) = watch::channel(0);
    let stop = StopOnDrop(Arc::default());
    let watcher = Watcher { done, stop: stop.0.clone() };
    let task = tokio::task::spawn_blocking(move || work(&watcher));
    while seen.changed().await.is_ok() {
        let done = *seen.borrow_and_update();
        progress(done);
    }
    task.await
}

/// Reads `file` to its end and hands it on in pieces of `piece_bytes`, hashing. Ends early, with what it has,
/// where the file is longer than `size`, and where nobody takes the pieces any more.
pub(super) fn read_pieces(
    mut file: impl Read,
    size: u64,
    piece_bytes: usize,
    pieces: &mpsc::Sender<Vec<u8>>,
) -> io::Result<ContentHasher> {
    let mut hasher = ContentHasher::default();
    let mut read_bytes = 0u64;
    loop {
        let mut piece = Vec::with_capacity(piece_bytes.min(usize::try_from(size).unwrap_or(piece_bytes) + 1));
        let count = (&mut file).take(piece_bytes as u64).read_to_end(&mut piece)?;
        hasher.update(&piece);
        read_bytes += count as u64;
        let ended = count == 0 || read_bytes > size;
        if ended || pieces.blocking_send(piece).is_err() {
            return Ok(hasher);
        }
    }
}

/// Hashes `size` bytes at most and one more, so that a longer content is seen to be another.
pub(super) fn hash_bytes(source: impl Read, size: u64, watcher: &Watcher) -> io::Result<ContentHasher> {
    let mut hasher = ContentHasher::default();
    copy(source.take(size.saturating_add(1)), &mut hasher, &mut io::sink(), 0, watcher)?;
    Ok(hasher)
}

/// A file that is being filled from its beginning, with the digest of what it holds.
pub(super) struct Destination {
    file: File,
    hasher: ContentHasher,
    held: u64,
}

impl Destination {
    /// Opens or makes the file, for us alone, and hashes what it holds already. More than `size` bytes are no
    /// prefix of what is wanted: it then begins empty, as it does where `resume` is false.
    pub(super) fn open(
        place: &OwnFile,
        size: u64,
        resume: bool,
        watcher: &Watcher,
    ) -> Result<Self, ObjectError> {
        let failed = |error: io::Error| at_destination(place.place(), &error);
        let mut file = open_alone(place)?;
        let mut held = file.metadata().map_err(failed)?.len();
        if held > size || !resume {
            file.set_len(0).map_err(failed)?;
            held = 0;
        }
        let mut hasher = ContentHasher::default();
        let held = copy((&mut file).take(held), &mut hasher, &mut io::sink(), 0, watcher)
            .map_err(|error| failed(error.error()))?;
        Ok(Self { file, hasher, held })
    }

    /// How many bytes it holds.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Appends all of `source`.
    pub(super) fn fill(&mut self, source: impl Read, watcher: &Watcher) -> Result<(), CopyError> {
        self.file.seek(SeekFrom::Start(self.held)).map_err(CopyError::Write)?;
        self.held = copy(source, &mut self.hasher, &mut self.file, self.held, watcher)?;
        Ok(())
    }

    /// Makes the file durable and gives the digest of all its bytes.
    pub(super) fn finish(self, place: &OwnFile) -> io::Result<ContentHasher> {
        self.file.sync_all()?;
        // Somebody may have cleared the folder meanwhile: then these bytes have no name.
        let (folder, name) = place.in_folder();
        if folder.stat(name)?.stat.size != self.held {
            return Err(io::Error::other("it was replaced while it was written"));
        }
        Ok(self.hasher)
    }
}

/// Opens the file under a lock, so that two downloads never write one file. One that was just stopped lets go
/// soon.
fn open_alone(place: &OwnFile) -> Result<File, ObjectError> {
    let path = place.place();
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    loop {
        let file = place.open().map_err(|error| at_destination(path, &error))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                drop(file);
                std::thread::sleep(RELEASE_POLL);
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(ObjectError::DestinationBusy { file: path.display().to_string() });
            }
            // A file system without locks: then one process is all that there is.
            Err(std::fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(file);
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(at_destination(path, &error)),
        }
    }
}

/// On which side copying failed.
#[derive(Debug)]
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
    Stopped(io::Error),
}

impl CopyError {
    fn error(self) -> io::Error {
        match self {
            Self::Read(error) | Self::Write(error) | Self::Stopped(error) => error,
        }
    }
}

impl From<CopyError> for io::Error {
    fn from(error: CopyError) -> Self {
        error.error()
    }
}

/// Copies and hashes; reports and returns `done` plus what was copied.
fn copy(
    mut source: impl Read,
    hasher: &mut ContentHasher,
    sink: &mut impl Write,
    mut done: u64,
    watcher: &Watcher,
) -> Result<u64, CopyError> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let piece = match source.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        sink.write_all(piece).map_err(CopyError::Write)?;
        hasher.update(piece);
        done += piece.len() as u64;
        watcher.report(done).map_err(CopyError::Stopped)?;
    }
}

/// Bytes that arrive from a task, as a file that can be read.
pub(super) struct Arriving<B> {
    pieces: mpsc::Receiver<io::Result<B>>,
    piece: Option<B>,
    taken: usize,
}

impl<B> Arriving<B> {
    pub(super) fn new(pieces: mpsc::Receiver<io::Result<B>>) -> Self {
        Self { pieces, piece: None, taken: 0 }
    }
}

impl<B: AsRef<[u8]>> Read for Arriving<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let rest =
                self.piece.as_ref().and_then(|piece| piece.as_ref().get(self.taken..)).unwrap_or_default();
            if !rest.is_empty() {
                let count = io::Read::read(&mut &*rest, buffer)?;
                self.taken += count;
                return Ok(count);
            }
            (self.piece, self.taken) = (None, 0); // So that after the end comes the end, whoever asks again.
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = Some(piece?),
                None => return Ok(0),
            }
        }
    }
}

/// Bytes to be read on a thread for blocking work.
pub(super) type Bytes = Box<dyn Read + Send>;

/// The bytes of an answer as something to read from, on a thread for blocking work.
pub(super) fn readable(found: GetResult) -> Bytes {
    let range = found.range.clone();
    if let GetResultPayload::File(file, _) = found.payload {
        return Box::new(Positioned { file, start: Some(range.start) }.take(range.end - range.start));
    }
    let mut pieces = found.into_stream();
    let (sender, arriving) = mpsc::channel(PIECES_AHEAD);
    tokio::spawn(async move {
        while let Some(piece) = pieces.next().await {
            if sender.send(piece.map_err(io::Error::other)).await.is_err() {
                return;
            }
        }
    });
    Box::new(Arriving::new(arriving))
}

/// A file that is read from a position; seeking happens with the first read, off the async threads.
struct Positioned {
    file: File,
    start: Option<u64>,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(start) = self.start {
            self.file.seek(SeekFrom::Start(start))?;
            self.start = None;
        }
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_last_piece_comes_the_end_however_often_it_is_asked_for() {
        let (sender, pieces) = mpsc::channel(2);
        for piece in [b"one ".to_vec(), b"two".to_vec()] {
            sender.try_send(Ok(piece)).unwrap();
        }
        drop(sender);
        let mut arriving = Arriving::new(pieces);
        let mut bytes = Vec::new();
        for _ in 0..3 {
            arriving.read_to_end(&mut bytes).unwrap();
        }
        assert_eq!(bytes, b"one two");
    }
}
