//! A watchman over promise 6: whatever is seen under a final name, at any time, is a whole content that somebody saved.
//!
//! It looks again and again while nodes work, die and start. What it has not looked at in time it has not seen: it is
//! a test of many moments, no proof of all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};
use tcat::demo::verify::{Digest, hash_file};

/// What makes a file worth another look: its size and time of change.
type Look = (u64, SystemTime, u64);

#[derive(Default)]
struct Shared {
    saved: Mutex<BTreeSet<Digest>>,
    wrong: Mutex<Vec<String>>,
    looked: Mutex<u64>,
    ended: AtomicBool,
}

/// Looks at all final names of some media folders until [`FinalNames::end`].
pub struct FinalNames {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl FinalNames {
    /// Begins to look.
    pub fn watch(folders: &[&Path]) -> Self {
        let shared = Arc::new(Shared::default());
        let folders: Vec<PathBuf> = folders.iter().map(|folder| folder.to_path_buf()).collect();
        let thread = {
            let shared = shared.clone();
            thread::spawn(move || look(&folders, &shared))
        };
        Self { shared, thread: Some(thread) }
    }

    /// A content that is going to be saved: to be told before it is.
    pub fn expect(&self, md5: Digest) {
        self.shared.saved.lock().unwrap().insert(md5);
    }

    /// Ends, and panics if a file was not whole. Returns how many files were looked at.
    #[track_caller]
    pub fn end(mut self) -> u64 {
        self.stop();
        let wrong = self.shared.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "under final names:\n{}", wrong.join("\n"));
        *self.shared.looked.lock().unwrap()
    }

    fn stop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for FinalNames {
    fn drop(&mut self) {
        self.stop();
    }
}

fn look(folders: &[PathBuf], shared: &Shared) {
    let mut seen: BTreeMap<PathBuf, Look> = BTreeMap::new();
    loop {
        // Once more after the end was asked for, so that the last state is seen too.
        let is_last = shared.ended.load(Ordering::SeqCst);
        for folder in folders {
            look_into(folder, shared, &mut seen);
        }
        if is_last {
            return;
        }
        thread::sleep(Duration::from_millis(3));
    }
}

fn look_into(folder: &Path, shared: &Shared, seen: &mut BTreeMap<PathBuf, Look>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // tcat's own folder, and drafts of the tests.
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            look_into(&path, shared, seen);
        } else if metadata.is_file() {
            let look = (metadata.len(), metadata.modified().unwrap(), identity(&metadata));
            if seen.get(&path) != Some(&look) {
                judge(&path, shared);
                seen.insert(path, look);
            }
        }
    }
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn identity(_metadata: &fs::Metadata) -> u64 {
    0
}

fn judge(path: &Path, shared: &Shared) {
    let found = match hash_file(path) {
        Ok((md5, size)) if !shared.saved.lock().unwrap().contains(&md5) => {
            Some(format!("{size} unknown bytes"))
        }
        Ok(_) => None,
        // It was moved away between the two looks.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => Some(error.to_string()),
    };
    *shared.looked.lock().unwrap() += 1;
    shared.wrong.lock().unwrap().extend(found.map(|what| format!("{}: {what}", path.display())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcat::demo::verify::hash_bytes;

    #[test]
    fn whole_contents_pass_and_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let names = FinalNames::watch(&[folder.path()]);
        names.expect(hash_bytes(b"whole"));
        crate::contents::save(&folder.path().join("é/a.jpg"), b"whole");
        assert_eq!(names.end(), 1);
    }

    #[test]
    #[should_panic(expected = "4 unknown bytes")]
    fn a_partial_file_under_a_final_name_is_seen_even_if_it_is_whole_later() {
        let folder = tempfile::tempdir().unwrap();
        let names = FinalNames::watch(&[folder.path()]);
        names.expect(hash_bytes(b"whole"));
        // By a rename, so that the four bytes are there at once: a file that grows may be seen empty.
        crate::contents::save(&folder.path().join("a.jpg"), b"whol");
        while *names.shared.looked.lock().unwrap() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        crate::contents::save(&folder.path().join("a.jpg"), b"whole");
        names.end();
    }
}
