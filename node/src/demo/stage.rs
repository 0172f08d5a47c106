//! The stage of the demo: its temporary folder, its process group, its clock and its voice.
//!
//! Holds always: when the demo ends, by itself, by an error, a panic or a signal, first all processes end and then the
//! folder goes, unless it is to be kept.

use super::system::{self, Group, Network};
use crate::output::{self, Failure};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Everything that the scenes share.
pub struct Stage {
    start: Instant,
    program: PathBuf,
    network: Network,
    folder: Arc<Folder>,
    group: Arc<Group>,
}

/// The demo's folder, removed at most once.
struct Folder {
    path: PathBuf,
    is_kept: AtomicBool,
    removal: Mutex<()>,
}

impl Stage {
    /// Sets up folder and group. The folder's name has spaces and letters beyond ASCII on purpose.
    pub fn set_up(program: &Path, network: Network) -> Result<Self, Failure> {
        let start = Instant::now();
        let path = std::env::temp_dir().join(format!("tcat démo – Größe {}", std::process::id()));
        let made = fs::create_dir(&path);
        made.map_err(|error| {
            let what = format!("cannot make the folder {}", path.display());
            Failure::new(what, error, "make room there, or name another place with the variable TMPDIR")
        })?;
        let folder = Arc::new(Folder { path, is_kept: AtomicBool::new(false), removal: Mutex::new(()) });
        let group = Group::start(program).map_err(|error| {
            Failure::new("cannot start a process", error, "make sure that this program may be run")
        });
        let group = Arc::new(group.inspect_err(|_| folder.remove())?);
        let stage = Self { start, program: program.to_owned(), network, folder, group };
        stage.heed_signals()?;
        Ok(stage)
    }

    /// On Ctrl-C and its like: end the children, remove the folder, and go.
    fn heed_signals(&self) -> Result<(), Failure> {
        let (group, folder) = (self.group.clone(), self.folder.clone());
        let ended = move || {
            group.kill();
            folder.remove();
            output::warn("the demo was stopped; all its processes and its folder are gone");
            std::process::exit(130);
        };
        system::when_asked_to_end(ended)
            .map_err(|error| Failure::new("cannot listen for Ctrl-C", error, "start the demo again"))
    }

    /// Says one line, with the seconds since the beginning.
    pub fn say(&self, line: &str) -> Result<(), Failure> {
        output::say(&format!("[{:5.1} s] {line}", self.elapsed().as_secs_f64()))
    }

    /// Says the title of a scene.
    pub fn title(&self, title: &str) -> Result<(), Failure> {
        output::say(&format!("\n== {title}"))
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The folder in which everything happens.
    pub fn root(&self) -> &Path {
        &self.folder.path
    }

    /// This program's own file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The group of all children.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The network on which the demo runs.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Whether nodes can discover each other.
    pub fn has_multicast(&self) -> bool {
        self.network == Network::Own
    }

    /// From now on the folder stays when the demo ends.
    pub fn keep_folder(&self) {
        self.folder.is_kept.store(true, Ordering::SeqCst);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.group.kill();
        self.folder.remove();
    }
}

impl Folder {
    /// Removes the folder unless it is kept. What was just killed may still be making files for a moment.
    fn remove(&self) {
        let _one_at_a_time = self.removal.lock();
        if self.is_kept.load(Ordering::SeqCst) {
            return;
        }
        let deadline = Instant::now() + Duration::from_secs(3);
        loop {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(error) if Instant::now() > deadline => {
                    output::warn(&format!(
                        "cannot remove {}: {error}; remove it by hand",
                        self.path.display()
                    ));
                    return;
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}
