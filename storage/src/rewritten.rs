//! A database file that was not closed in order is written anew, as it is read, before anything is added to it.
//!
//! A sync that failed leaves pages that the system still shows and will never write. Whoever then starts again on the
//! same system, without a power cut between, would build on them: all later syncs succeed, and the next power cut
//! takes the whole database. What holds always: nothing is added to such a file before every byte that was read from
//! it is synced, the header last, so that until then the disk has the state before. It happens at the first write,
//! when redb holds its locks. Not here: what the bytes mean.

use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::Bound;
use std::sync::Mutex;

/// redb's first bytes; the flags follow (its super-header).
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// The flag of a file that was not closed in order.
const RECOVERY_REQUIRED: u8 = 2;
/// The header is in the first page, in bytes.
const HEADER_BYTES: u64 = 4096;
/// How much is written at a time, in bytes.
const CHUNK_BYTES: u64 = 1 << 20;

/// Storage that is written anew at the first change, where that is needed.
#[derive(Debug)]
pub(crate) struct Rewritten<B> {
    inner: B,
    /// Whether it is seen to.
    done: Mutex<bool>,
}

impl<B: StorageBackend> Rewritten<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self { inner, done: Mutex::new(false) }
    }

    fn before_change(&self) -> io::Result<()> {
        let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !*done {
            if self.needs_it()? {
                let len = self.inner.len()?;
                self.rewrite(HEADER_BYTES, len)?;
                self.rewrite(0, HEADER_BYTES)?;
            }
            *done = true;
        }
        Ok(())
    }

    fn needs_it(&self) -> io::Result<bool> {
        if self.inner.len()? < HEADER_BYTES {
            return Ok(false);
        }
        let mut start = [0; MAGIC.len() + 1];
        self.inner.read(0, &mut start)?;
        Ok(start.starts_with(&MAGIC) && start[MAGIC.len()] & RECOVERY_REQUIRED != 0)
    }

    fn rewrite(&self, from: u64, to: u64) -> io::Result<()> {
        let mut chunk = Vec::new();
        let mut at = from;
        while at < to {
            chunk.resize(usize::try_from(CHUNK_BYTES.min(to - at)).unwrap_or(0), 0);
            self.inner.read(at, &mut chunk)?;
            self.inner.write(at, &chunk)?;
            at += chunk.len() as u64;
        }
        self.inner.sync_data()
    }
}

impl<B: StorageBackend> StorageBackend for Rewritten<B> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.before_change()?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.before_change()?;
        self.inner.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
