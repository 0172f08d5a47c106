//! The clock by which a file system stamps its files. It need not be ours: a server has its own, and ours may be set.
//!
//! What holds always: it is read from the stamp of a file made for that in `.tcat/tmp`, and carried on for at most
//! [`FRESH`] by our monotonic clock; our wall clock has no part in it. Where no file can be made (a full disk, no right
//! to write) the time is unknown, never guessed. Not here: what follows from a file's age (`scanner`, `client_database`).

use crate::platform::Folder;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tcat_engine::stamps::Clocks;

/// How long a reading is carried on.
const FRESH: Duration = Duration::from_millis(100);

/// Reads the clock of the file system that a folder is on, in nanoseconds since 1970.
pub(crate) type Read = fn(&Folder) -> io::Result<i64>;

/// Makes a file in `temp`, takes its stamp, and removes it.
pub(crate) fn read(temp: &Folder) -> io::Result<i64> {
    // Several threads may read at a time; what a crash left is in the way of few, and removed.
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let name = format!("clock-{}.tcat", NEXT.fetch_add(1, Ordering::Relaxed) % 64);
    let made = match temp.create_file(&name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            temp.remove_file(&name)?;
            temp.create_file(&name)
        }
        made => made,
    };
    drop(made?);
    let looked = temp.stat(&name);
    temp.remove_file(&name)?;
    let stat = looked?.stat;
    Ok(if stat.ctime_ns == 0 { stat.mtime_ns } else { stat.ctime_ns })
}

/// The clock of one file system during one look at it.
#[derive(Debug)]
pub(crate) struct DiskClock {
    temp: Option<Folder>,
    read: Read,
    last: Mutex<Option<Reading>>,
}

/// What the clock showed at an instant of ours; `None` if it could not be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    at: Instant,
    shown_ns: Option<i64>,
}

impl Reading {
    /// What the clock shows at another instant, if it was not set between.
    pub(crate) fn carried_to(&self, at: Instant) -> Option<i64> {
        let forth = i64::try_from(at.saturating_duration_since(self.at).as_nanos()).ok()?;
        let back = i64::try_from(self.at.saturating_duration_since(at).as_nanos()).ok()?;
        Some(self.shown_ns?.saturating_add(forth).saturating_sub(back))
    }
}

impl DiskClock {
    /// The clock of the file system that `temp` is on; without that folder it cannot be read.
    pub(crate) fn new(temp: Option<Folder>, read: Read) -> Self {
        Self { temp, read, last: Mutex::new(None) }
    }

    /// What it shows now, and our wall clock.
    pub(crate) fn now(&self) -> Clocks {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wall_ns = i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX);
        Clocks { disk_ns: self.disk_ns(), wall_ns }
    }

    fn disk_ns(&self) -> Option<i64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let fresh = last.filter(|reading| now.saturating_duration_since(reading.at) < FRESH);
        fresh.unwrap_or_else(|| *last.insert(self.reading())).carried_to(now)
    }

    /// A reading made now, whatever there was.
    pub(crate) fn reading(&self) -> Reading {
        let shown_ns = self.temp.as_ref().and_then(|temp| (self.read)(temp).ok());
        Reading { at: Instant::now(), shown_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_that_of_the_files_and_reading_it_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let temp = Folder::open(folder.path()).unwrap();
        std::fs::write(folder.path().join("before"), b"x").unwrap();
        let shown = read(&temp).unwrap();
        std::fs::write(folder.path().join("after"), b"x").unwrap();
        let stamp = |name: &str| temp.stat(name).unwrap().stat.mtime_ns;
        assert!(stamp("before") <= shown && shown <= stamp("after"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_a_crash_left_of_a_reading_is_not_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let temp = Folder::open(folder.path()).unwrap();
        for n in 0..64 {
            std::fs::write(folder.path().join(format!("clock-{n}.tcat")), b"").unwrap();
        }
        assert!((0..64).all(|_| read(&temp).is_ok()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn where_nothing_can_be_written_the_time_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let refuses: Read = |_| Err(io::ErrorKind::StorageFull.into());
        let clock = DiskClock::new(Folder::open(folder.path()).ok(), refuses);
        assert_eq!((clock.now().disk_ns, clock.reading().carried_to(Instant::now())), (None, None));
        assert_eq!(DiskClock::new(None, read).now().disk_ns, None);
    }
}
