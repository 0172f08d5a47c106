//! The story that the demo tells, scene by scene.
//!
//! Holds always: what a scene says, it has seen: by the public command line, or in the folders themselves. Every file
//! that a scene saves is noted in the expectation that the judge compares with at the end.

use super::nodes::Node;
use super::pictures;
use super::stage::Stage;
use super::verify::{self, Digest, Expectation, Replaced, Report};
use crate::output::{Failure, clean, size};
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Pictures in the first album, and in the one that is made away from the LAN.
const ALBUM: u64 = 14;
const AWAY_ALBUM: u64 = 6;
/// The large file: long enough on the way to be caught there.
const FILM_BYTES: u64 = 240 << 20;
/// The same where the disk has little room.
const SMALL_FILM_BYTES: u64 = 64 << 20;
/// What `--media` copies at most, so that the demo stays one.
const COPIED_FILES_MAX: usize = 2000;
const COPIED_BYTES_MAX: u64 = 1 << 30;
/// How long nodes may take to meet, and a download to begin.
const MEETING: Duration = Duration::from_secs(20);
const DOWNLOADING: Duration = Duration::from_secs(25);
/// How often the film may get through before it is caught on the way.
const CATCHES_MAX: u64 = 3;

/// Cloud fetches of the contents that one scene made.
struct Tally {
    what: &'static str,
    items: u64,
    fetches: u64,
    /// How often an item may be fetched.
    allowed: Allowed,
}

/// How often each content of a scene may be fetched from the cloud.
enum Allowed {
    /// It was nowhere else, and nobody failed meanwhile.
    Once,
    /// A node that fails, or has not met the others yet, may fetch what another one fetches too.
    Any,
}

/// The nodes, and what has happened so far.
pub struct Story<'a> {
    stage: &'a Stage,
    nodes: Vec<Node<'a>>,
    expected: Expectation,
    tallies: Vec<Tally>,
}

impl<'a> Story<'a> {
    /// Nothing has happened yet.
    pub fn new(stage: &'a Stage, nodes: Vec<Node<'a>>) -> Self {
        Self { stage, nodes, expected: Expectation::default(), tallies: Vec::new() }
    }

    /// The nodes, first to last.
    pub fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    /// Node 1 is made and imports an album.
    pub fn first_node_imports(&mut self, media: Option<&Path>) -> Result<(), Failure> {
        self.stage.title("Node 1 keeps the catalog and brings an album")?;
        let count = match media {
            Some(folder) => self.copy_album(folder)?,
            None => self.paint_album(0..ALBUM)?,
        };
        let node = &mut self.nodes[0];
        node.init()?;
        node.start()?;
        self.stage
            .say("tcat init, tcat run: node 1 is up, with a catalog and an object store in its home")?;
        node.settle()?;
        let status = node.status()?;
        self.stage.say(&format!(
            "{count} files imported; {} uploaded to the object store, the demo's cloud",
            size(status.bytes.cloud_out)
        ))
    }

    /// The others join by code, find the others, and fetch the album.
    pub fn others_join(&mut self) -> Result<(), Failure> {
        self.stage.title("The others join by a one-time code")?;
        for index in 1..self.nodes.len() {
            let code = self.nodes[0].invite()?;
            let peers: Vec<String> = self.nodes[..index].iter().map(Node::address).collect();
            let node = &mut self.nodes[index];
            node.join(&code, &peers)?;
            node.start()?;
            self.stage.say(&format!("tcat join, tcat run: {} is up", node.name))?;
        }
        let took = self.meet(0..self.nodes.len())?;
        let how = if self.stage.has_multicast() {
            "discovered each other by mDNS"
        } else {
            "met at known addresses"
        };
        self.stage.say(&format!("all {how}; the last two needed {:.1} s", took.as_secs_f64()))?;
        self.settle_all()?;
        let mut fetches = 0;
        for node in &self.nodes[1..] {
            let status = node.status()?;
            fetches += status.cloud_fetches;
            self.stage.say(&format!(
                "{} has all {}: {} came from members, {} from the cloud",
                node.name,
                status.media.settled,
                size(status.bytes.lan_in),
                size(status.bytes.cloud_in)
            ))?;
        }
        let items = self.expected.files.len() as u64;
        self.tallies.push(Tally { what: "the first album", items, fetches, allowed: Allowed::Any });
        Ok(())
    }

    /// Contents that only the cloud has cross once for the whole LAN.
    pub fn source_is_away(&mut self) -> Result<(), Failure> {
        self.stage.title("Node 1 travels: what it makes there can only come from the cloud")?;
        let others = 1..self.nodes.len();
        self.nodes[0].stop()?;
        self.nodes[0].leave_the_lan()?;
        let before = self.cloud_fetches(others.clone())?;
        self.paint_album(1000..1000 + AWAY_ALBUM)?;
        self.nodes[0].start()?;
        self.nodes[0].settle()?;
        if let Some(peer) = self.nodes[0].status()?.peers.iter().find(|peer| peer.alive) {
            let why = format!("{} is in touch with it", peer.name);
            return Err(Failure::new("node 1 is not alone on its journey", why, "please report this"));
        }
        self.nodes[0].stop()?;
        self.stage
            .say(&format!("node 1 uploaded {AWAY_ALBUM} new pictures from afar and was switched off"))?;
        self.settle(others.clone())?;
        let fetches = self.cloud_fetches(others.clone())?.saturating_sub(before);
        let tally = Tally { what: "the album from afar", items: AWAY_ALBUM, fetches, allowed: Allowed::Once };
        self.tallies.push(tally);
        let (who, lan) =
            if others.len() > 1 { ("s together", "; the rest went over the LAN") } else { ("", "") };
        self.stage.say(&format!(
            "the other{who} fetched {AWAY_ALBUM} contents with {fetches} cloud fetches, {:.1} for each{lan}",
            fetches as f64 / AWAY_ALBUM as f64
        ))?;
        let peers: Vec<String> = self.nodes[1..].iter().map(Node::address).collect();
        self.nodes[0].return_to_the_lan(&peers)?;
        self.nodes[0].start()?;
        self.meet(0..self.nodes.len())?;
        self.stage.say("node 1 is back on the LAN")
    }

    /// A person edits a picture on node 2.
    pub fn edit_travels(&mut self) -> Result<(), Failure> {
        self.stage.title("An edit on node 2 reaches everybody")?;
        let Some((path, old)) = self.expected.files.iter().find(|(path, _)| path.ends_with(".png")) else {
            return self.stage.say("there is no PNG picture to edit: scene left out");
        };
        let (path, old) = (path.clone(), *old);
        let framed = pictures::paint(3, true).map_err(|error| cannot("paint a picture", &error))?;
        let md5 = verify::hash_bytes(&framed);
        // Editors save by renaming a finished file over the old one.
        let target = self.nodes[1].file(&path);
        let draft = target.with_file_name(".edited by a person.png");
        let saved = fs::write(&draft, &framed).and_then(|()| fs::rename(&draft, &target));
        saved.map_err(|error| cannot("save an edit", &error))?;
        self.stage.say(&format!("on node 2 a person saves {:?} with a frame around it", clean(&path)))?;
        let start = Instant::now();
        self.nodes[1].settle()?;
        self.settle_all()?;
        for node in &self.nodes {
            let found =
                verify::hash_file(&node.file(&path)).map_err(|error| cannot("read the edit", &error))?;
            if found.0 != md5 {
                let why = format!("{path} is still another content there");
                return Err(Failure::new(
                    format!("the edit did not reach {}", node.name),
                    why,
                    "please report this",
                ));
            }
        }
        let copies = self.nodes[0].copies(&path)?;
        self.stage.say(&format!(
            "it is on all nodes after {:.1} s; tcat show counts {copies} copies; the old content lies in trash",
            start.elapsed().as_secs_f64()
        ))?;
        let editor = &self.nodes[1].name;
        let in_trash_of =
            self.nodes.iter().map(|node| node.name.clone()).filter(|name| name != editor).collect();
        self.expected.replaced.push(Replaced { path: path.clone(), md5: old, in_trash_of });
        self.expected.files.insert(path, md5);
        Ok(())
    }

    /// The last node is killed while it downloads a large file.
    pub fn kill_in_mid_download(&mut self) -> Result<(), Failure> {
        let last = self.nodes.len() - 1;
        let name = self.nodes[last].name.clone();
        self.stage.title(&format!("Node {} is killed with SIGKILL in mid-download", last + 1))?;
        let before = self.cloud_fetches(0..last)?;
        let mut films = 0;
        let caught = loop {
            films += 1;
            let (path, bytes) = self.bring_film(films)?;
            if let Some(done) = self.catch_download(last, &path)? {
                break Some((path, bytes, done));
            }
            self.stage.say("the film was through before it could be caught; another one")?;
            if films == CATCHES_MAX {
                break None;
            }
        };
        let Some((path, bytes, done)) = caught else {
            let why = format!("{CATCHES_MAX} films got through");
            return Err(Failure::new("no download could be caught on its way", why, "start the demo again"));
        };
        if self.nodes[last].file(&path).exists() {
            let what = format!("{name} has something under the film's final name");
            return Err(Failure::new(what, "it was killed in mid-download", "please report this"));
        }
        self.stage.say(&format!(
            "killed with about {} of {} on its disk, and nothing under the film's name",
            size(done),
            size(bytes)
        ))?;
        let start = Instant::now();
        self.nodes[last].start()?;
        self.settle_all()?;
        self.stage.say(&format!(
            "{name} is back and settled {:.1} s after its start",
            start.elapsed().as_secs_f64()
        ))?;
        let fetches =
            self.cloud_fetches(0..last)?.saturating_sub(before) + self.cloud_fetches(last..last + 1)?;
        self.tallies.push(Tally { what: "the film", items: films, fetches, allowed: Allowed::Any });
        Ok(())
    }

    /// All nodes end cleanly, so that the judge sees what is on disk.
    pub fn all_stop(&mut self) -> Result<(), Failure> {
        self.stage.title("The verification trusts no node")?;
        self.nodes.iter_mut().try_for_each(Node::stop)?;
        self.stage.say("all nodes have stopped; reading every file, the catalog and every object")
    }

    /// The judge's report.
    pub fn verify(&self) -> Result<Report, Failure> {
        let first = &self.nodes[0];
        Ok(verify::verify(&self.places(), &first.catalog(), &first.objects(), &self.expected))
    }

    /// How many cloud fetches an item took.
    pub fn cloud_lines(&self) -> Vec<String> {
        let line = |tally: &Tally| {
            let each = tally.fetches as f64 / tally.items.max(1) as f64;
            format!(
                "cloud fetches for {}: {} for {} items, {each:.2} an item",
                tally.what, tally.fetches, tally.items
            )
        };
        self.tallies.iter().map(line).collect()
    }

    /// Promise 3: each content crosses once, where nobody failed on the way.
    pub fn wrong_fetches(&self) -> Vec<String> {
        let is_wrong = |tally: &&Tally| match tally.allowed {
            Allowed::Once => tally.fetches != tally.items,
            Allowed::Any => false,
        };
        let wrong = self.tallies.iter().filter(is_wrong);
        wrong.map(|tally| format!("{} did not cross once from the cloud", tally.what)).collect()
    }

    fn paint_album(&mut self, seeds: std::ops::Range<u64>) -> Result<u64, Failure> {
        let count = seeds.end - seeds.start;
        let mut bytes = 0;
        for seed in seeds {
            let picture = pictures::album_picture(seed).map_err(|error| cannot("paint a picture", &error))?;
            bytes += picture.bytes.len() as u64;
            let target = self.nodes[0].file(&picture.path);
            write_with_folders(&target, &picture.bytes).map_err(|error| cannot("save a picture", &error))?;
            self.expected.files.insert(picture.path, verify::hash_bytes(&picture.bytes));
        }
        self.stage
            .say(&format!("{count} pictures painted, {}, with names in several scripts", size(bytes)))?;
        Ok(count)
    }

    fn copy_album(&mut self, folder: &Path) -> Result<u64, Failure> {
        let album = list_album(folder).map_err(|error| {
            Failure::new(
                format!("cannot read {}", folder.display()),
                error,
                "name a readable folder with --media, or leave it out",
            )
        })?;
        if album.files.is_empty() {
            let what = format!("there is nothing to show in {}", folder.display());
            return Err(Failure::new(what, "it has no files that tcat would import", "name another folder"));
        }
        for (from, path) in &album.files {
            let target = self.nodes[0].file(path);
            let copied = make_folder_of(&target).and_then(|()| fs::copy(from, &target));
            copied.map_err(|error| cannot(&format!("copy {}", from.display()), &error))?;
            let (md5, _) = verify::hash_file(&target).map_err(|error| cannot("read a copy", &error))?;
            self.expected.files.insert(path.clone(), md5);
        }
        let left_out =
            if album.left_out > 0 { format!("; {} more are left out", album.left_out) } else { "".into() };
        self.stage.say(&format!("{} files copied from {}{left_out}", album.files.len(), folder.display()))?;
        Ok(album.files.len() as u64)
    }

    /// Makes a large file beside the media folder and moves it in at once.
    fn bring_film(&mut self, number: u64) -> Result<(String, u64), Failure> {
        let what = "make a large file";
        let free =
            tcat_storage::platform::free_bytes(self.stage.root()).map_err(|error| cannot(what, &error))?;
        let needed = FILM_BYTES * (self.nodes.len() as u64 + 3);
        let bytes = if free.is_some_and(|free| free < needed) { SMALL_FILM_BYTES } else { FILM_BYTES };
        let draft = self.stage.root().join("film.draft");
        pictures::write_large_file(&draft, bytes, number).map_err(|error| cannot(what, &error))?;
        let (md5, _): (Digest, u64) = verify::hash_file(&draft).map_err(|error| cannot(what, &error))?;
        let path = format!("Filme/Sturmflut – Rohschnitt {number}.mov");
        let target = self.nodes[0].file(&path);
        let moved = make_folder_of(&target).and_then(|()| fs::rename(&draft, &target));
        moved.map_err(|error| cannot(what, &error))?;
        self.expected.files.insert(path.clone(), md5);
        self.stage.say(&format!("a film of {} lands in node 1's folder", size(bytes)))?;
        Ok((path, bytes))
    }

    /// Kills the node once part of the film is on its disk: how much was there. `None` if all of it was there before.
    fn catch_download(&mut self, index: usize, path: &str) -> Result<Option<u64>, Failure> {
        let node = &mut self.nodes[index];
        let target = node.file(path);
        let deadline = Instant::now() + DOWNLOADING;
        loop {
            let done = unfinished_bytes(&node.media);
            if done > SMALL_FILM_BYTES / 8 {
                node.kill()?;
                // The last look: it may have been finished between the two.
                return Ok(if target.exists() { self.revive(index)? } else { Some(done) });
            }
            if target.exists() {
                return Ok(None);
            }
            if Instant::now() > deadline || !node.is_running() {
                let why = format!("nothing came for {} s", DOWNLOADING.as_secs());
                return Err(Failure::new(format!("{} does not download", node.name), why, "see its log"));
            }
            thread::sleep(Duration::from_millis(3));
        }
    }

    fn revive(&mut self, index: usize) -> Result<Option<u64>, Failure> {
        self.nodes[index].start()?;
        Ok(None)
    }

    /// Waits until the given nodes all hear each other; how long that took.
    fn meet(&self, who: std::ops::Range<usize>) -> Result<Duration, Failure> {
        let start = Instant::now();
        let names: Vec<&str> = self.nodes[who.clone()].iter().map(|node| node.name.as_str()).collect();
        for node in &self.nodes[who] {
            loop {
                let status = node.status()?;
                let heard = |name: &&str| status.peers.iter().any(|peer| peer.alive && peer.name == **name);
                let missing: Vec<&str> =
                    names.iter().filter(|name| **name != node.name && !heard(name)).copied().collect();
                if missing.is_empty() {
                    break;
                }
                if start.elapsed() > MEETING {
                    let why = format!("no sign of life for {} s", MEETING.as_secs());
                    let what = format!("{} does not find {}", node.name, missing.join(", "));
                    return Err(Failure::new(what, why, "see the logs"));
                }
                thread::sleep(Duration::from_millis(60));
            }
        }
        Ok(start.elapsed())
    }

    fn settle_all(&self) -> Result<(), Failure> {
        self.settle(0..self.nodes.len())
    }

    /// `tcat wait` on several nodes at once.
    fn settle(&self, who: std::ops::Range<usize>) -> Result<(), Failure> {
        thread::scope(|scope| {
            let waits: Vec<_> = self.nodes[who].iter().map(|node| scope.spawn(|| node.settle())).collect();
            for wait in waits {
                wait.join().unwrap_or_else(|_| Err(cannot("wait", &"a thread failed")))?;
            }
            Ok(())
        })
    }

    fn cloud_fetches(&self, who: std::ops::Range<usize>) -> Result<u64, Failure> {
        self.nodes[who].iter().map(|node| Ok(node.status()?.cloud_fetches)).sum()
    }
}

/// What `--media` shows.
struct Album {
    files: Vec<(PathBuf, String)>,
    left_out: u64,
}

/// The regular files below `folder` that tcat would import, up to the demo's limits, in the order of their paths.
fn list_album(folder: &Path) -> std::io::Result<Album> {
    let mut album = Album { files: Vec::new(), left_out: 0 };
    let mut bytes = 0;
    let mut folders = vec![(folder.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let entries: Result<Vec<_>, _> = fs::read_dir(&folder)?.collect();
        let mut entries = entries?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type()?;
            if is_ignored(&name) {
                continue;
            }
            if kind.is_dir() {
                folders.push((entry.path(), format!("{prefix}{name}/")));
            } else if kind.is_file() {
                bytes += entry.metadata()?.len();
                if album.files.len() < COPIED_FILES_MAX && bytes <= COPIED_BYTES_MAX {
                    album.files.push((entry.path(), format!("{prefix}{name}")));
                } else {
                    album.left_out += 1;
                }
            }
        }
    }
    Ok(album)
}

/// The names that tcat ignores by default.
fn is_ignored(name: &str) -> bool {
    let ignored_end = [".tmp", ".part", "~"].iter().any(|end| name.ends_with(end));
    name.starts_with('.')
        || name.starts_with("~$")
        || ignored_end
        || ["Thumbs.db", "desktop.ini"].contains(&name)
}

/// Bytes on disk of what is being fetched into this media folder.
fn unfinished_bytes(media: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(media.join(".tcat").join("tmp")) else { return 0 };
    // A file that is gone by now counts nothing.
    entries
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|metadata| written_bytes(&metadata))
        .max()
        .unwrap_or(0)
}

/// What of a file is really there: it may have its full length from the beginning.
fn written_bytes(metadata: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    return metadata.len().min(std::os::unix::fs::MetadataExt::blocks(metadata) * 512);
    #[cfg(not(unix))]
    metadata.len()
}

fn write_with_folders(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    make_folder_of(path)?;
    fs::write(path, bytes)
}

fn make_folder_of(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn cannot(what: &str, why: &impl Display) -> Failure {
    Failure::new(format!("the demo cannot {what}"), why, "mend that and start the demo again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_album_has_the_files_that_tcat_would_import_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["b/ü 1.png", "a.jpg", ".hidden", "b/x.tmp", "~$lock", "b/.git/x", "Thumbs.db"] {
            write_with_folders(&folder.path().join(path), b"x").unwrap();
        }
        let album = list_album(folder.path()).unwrap();
        let paths: Vec<&str> = album.files.iter().map(|(_, path)| path.as_str()).collect();
        assert_eq!(paths, ["a.jpg", "b/ü 1.png"]);
        assert_eq!(album.left_out, 0);
    }
}
