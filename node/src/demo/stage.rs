//! The stage of the demo: its temporary folder, its process group, its clock and its voice.
//!
//! Holds always: when the demo ends, by itself, by an error, a panic or a signal, first all processes end and then the
//! folder goes, unless it is to be kept.

use super::lan::Link;
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
    links: Vec<Link>,
}

/// The demo's folder, removed at most once.
struct Folder {
    path: PathBuf,
    is_kept: AtomicBool,
    removal: Mutex<()>,
}

impl Stage {
    /// Sets up folder, group and, in a network of the demo's own, a link for each node. The folder's name has spaces and
    /// letters beyond ASCII on purpose.
    pub fn set_up(program: &Path, network: Network, nodes: u8) -> Result<Self, Failure> {
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
        let mut stage =
            Self { start, program: program.to_owned(), network, folder, group, links: Vec::new() };
        stage.heed_signals()?;
        if stage.network == Network::Own {
            let links: io::Result<_> = (1..=nodes).map(|n| Link::make(program, &stage.group, n)).collect();
            stage.links = links.map_err(|error| {
                Failure::new(
                    "cannot make the demo's LAN",
                    error,
                    "see that unshare, nsenter and ip may be run",
                )
            })?;
        }
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

    /// The link of node number `number`; none where there is only loopback, without multicast.
    pub fn link(&self, number: usize) -> Option<&Link> {
        self.links.get(number.checked_sub(1)?)
    }

    /// Whether nodes can discover each other.
    pub fn has_multicast(&self) -> bool {
        !self.links.is_empty()
    }

    /// The folder that stands for the cloud: every node reaches it by itself, and not over the LAN.
    pub fn cloud(&self) -> PathBuf {
        self.root().join("Cloud")
    }

    /// The cloud is out of everybody's reach, until [`Self::bring_cloud_back`].
    pub fn take_cloud_away(&self) -> io::Result<()> {
        fs::rename(self.cloud(), self.hidden_cloud())
    }

    /// Undoes [`Self::take_cloud_away`].
    pub fn bring_cloud_back(&self) -> io::Result<()> {
        fs::rename(self.hidden_cloud(), self.cloud())
    }

    fn hidden_cloud(&self) -> PathBuf {
        self.root().join("Cloud, out of reach")
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
