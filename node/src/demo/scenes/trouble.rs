//! The second half of the story: the cloud goes, links are cut, nodes are killed, and nothing is lost.

use super::{Allowed, COMING, Story, Tally, cannot};
use crate::demo::album::{make_folder_of, write_with_folders};
use crate::demo::pictures;
use crate::demo::verify::{self, Digest, Replaced};
use crate::output::{Failure, clean, size};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The large file: long enough on the way to be caught there.
const FILM_BYTES: u64 = 240 << 20;
/// The same where the disk has little room.
const SMALL_FILM_BYTES: u64 = 64 << 20;
/// The same film in so many parts, some of which each node claims.
const REELS: u64 = 8;
/// So much of a reel is on a disk when its node is caught.
const REEL_CAUGHT_BYTES: u64 = 1 << 20;
/// What a dead node had claimed comes to nobody else before so long.
const LAPSING: Duration = Duration::from_secs(2);
/// How often the film may get through before it is caught on the way.
const CATCHES_MAX: u64 = 3;

impl Story<'_> {
    /// A new picture spreads while nobody reaches catalog and objects, and is committed afterwards.
    pub fn cloud_is_away(&mut self) -> Result<(), Failure> {
        self.stage.title("The cloud goes away: a new picture spreads all the same")?;
        self.stage.take_cloud_away().map_err(|error| cannot("take the cloud away", &error))?;
        self.stage.say("catalog and objects are out of everybody's reach")?;
        let start = Instant::now();
        let (path, md5) = self.save_picture(1, "Neu – ohne Wolke.png", 5)?;
        for index in 0..self.nodes.len() {
            self.wait_for(index, &path, &md5)?;
        }
        self.stage.say(&format!(
            "a new picture, saved on node 2, is on all nodes after {:.1} s, over the LAN alone",
            start.elapsed().as_secs_f64()
        ))?;
        self.stage.bring_cloud_back().map_err(|error| cannot("bring the cloud back", &error))?;
        self.settle_all()?;
        let catalog = verify::read_catalog(&self.nodes[0].catalog());
        let catalog = catalog.map_err(|error| cannot("read the catalog", &error))?;
        if !catalog.rows.iter().any(|row| row.path == path && row.md5 == Some(md5)) {
            let why = "the catalog has no row for it though all nodes say that they are done";
            return Err(Failure::new("the new picture was not committed", why, "please report this"));
        }
        self.stage.say("the cloud is back, and the picture is in the catalog")
    }

    /// Two people edit one picture where neither can know of the other: both edits are kept, the same everywhere.
    pub fn two_edit_one_picture(&mut self) -> Result<(), Failure> {
        self.stage.title("Two people edit one picture, and neither can know of the other")?;
        let path = "Von zweien bearbeitet.png";
        let (_, old) = self.save_picture(0, path, 6)?;
        self.settle_all()?;
        self.cut_off(1)?;
        self.stage.take_cloud_away().map_err(|error| cannot("take the cloud away", &error))?;
        self.stage.say("node 2's link is cut, and the cloud is away")?;
        let (_, first) = self.save_picture(0, path, 7)?;
        let (_, second) = self.save_picture(1, path, 8)?;
        self.stage
            .say(&format!("on node 1 and on node 2 a person saves {path:?}, each in a way of their own"))?;
        for (index, md5) in
            (0..self.nodes.len()).map(|index| (index, if index == 1 { second } else { first }))
        {
            self.wait_for(index, path, &md5)?;
        }
        self.wait_until_noticed(1, path, &second)?;
        self.stage.bring_cloud_back().map_err(|error| cannot("bring the cloud back", &error))?;
        self.mend(1)?;
        let start = Instant::now();
        self.meet(0..self.nodes.len())?;
        self.settle_all()?;
        let (kept_as, theirs) = self.find_version(path, [first, second])?;
        self.stage.say(&format!(
            "both are kept, the same on all nodes {:.1} s later: {path:?} and {:?}",
            start.elapsed().as_secs_f64(),
            clean(&kept_as)
        ))?;
        let ours = if theirs == first { second } else { first };
        self.expected.files.extend([(path.to_owned(), ours), (kept_as, theirs)]);
        // Elsewhere a person replaced it, or a version was made of what a person had replaced it with.
        let in_trash_of = self.nodes.iter().skip(2).map(|node| node.name.clone()).collect();
        self.expected.replaced.push(Replaced { path: path.to_owned(), md5: old, in_trash_of });
        Ok(())
    }

    /// Where the content that is not under the picture's own name lies; on every node it must be the same.
    fn find_version(&self, path: &str, both: [Digest; 2]) -> Result<(String, Digest), Failure> {
        let stem = path.trim_end_matches(".png");
        let mut found = Vec::new();
        for node in &self.nodes {
            let (tree, _) = verify::read_tree(&node.media, |folder| folder == ".tcat");
            let of_it = tree.into_iter().filter(|(name, _)| name.starts_with(stem) && name.ends_with(".png"));
            found.push(of_it.map(|(name, (md5, _))| (name, md5)).collect::<Vec<_>>());
        }
        let wrong = |why: String| {
            Err(Failure::new("two edits of one picture were not both kept", why, "please report this"))
        };
        let Some(first) = found.first() else { return wrong("there is no node".into()) };
        if found.iter().any(|other| other != first) {
            return wrong(format!("the nodes differ: {found:?}"));
        }
        let version = first.iter().find(|(name, _)| name != path);
        let contents: Vec<Digest> = first.iter().map(|(_, md5)| *md5).collect();
        match version {
            Some(version) if first.len() == 2 && both.iter().all(|md5| contents.contains(md5)) => {
                Ok(version.clone())
            }
            _ => wrong(format!("there is {first:?}")),
        }
    }

    /// Waits until a node's own ledger says that it holds this content.
    fn wait_until_noticed(&self, index: usize, path: &str, md5: &Digest) -> Result<(), Failure> {
        let (node, wanted) = (&self.nodes[index], verify::shown(md5));
        let deadline = Instant::now() + COMING;
        while !node.holds(path, &wanted)? {
            if Instant::now() > deadline {
                let what = format!("{} does not notice what was saved in its folder", node.name);
                return Err(Failure::new(
                    what,
                    format!("{path} is still another content to it"),
                    "see its log",
                ));
            }
            thread::sleep(Duration::from_millis(60));
        }
        Ok(())
    }

    /// A person saves a picture on a node, as editors do: a finished file is renamed over what is there.
    fn save_picture(&mut self, index: usize, path: &str, seed: u64) -> Result<(String, Digest), Failure> {
        let bytes = pictures::paint(seed, true).map_err(|error| cannot("paint a picture", &error))?;
        let md5 = verify::hash_bytes(&bytes);
        let target = self.nodes[index].file(path);
        let draft = target.with_file_name(".saved by a person.png");
        let saved = write_with_folders(&draft, &bytes).and_then(|()| fs::rename(&draft, &target));
        saved.map_err(|error| cannot("save a picture", &error))?;
        self.expected.files.insert(path.to_owned(), md5);
        Ok((path.to_owned(), md5))
    }

    /// What node 3 was fetching from the cloud is taken over by the others while it is dead and node 1 out of reach.
    pub fn work_is_taken_over(&mut self) -> Result<(), Failure> {
        let last = self.nodes.len() - 1;
        if last < 2 {
            return Ok(()); // nobody is left who could
        }
        let number = last + 1;
        self.stage.title(&format!("Node {number}'s work is taken over while it is dead"))?;
        self.cut_off(0)?;
        self.stage.say("node 1's link is cut: its films can only come from the cloud")?;
        let mut taken_over = 0;
        for take in 1..=CATCHES_MAX {
            let new = self.bring_reels(take)?;
            let there = self.catch_at_reels(last, &new)?;
            let killed = Instant::now();
            if there < new.len() {
                taken_over = self.watch_take_over(last, &new, killed)?;
            }
            if taken_over > 0 {
                self.stage.say(&format!(
                    "killed with {there} of {REELS} reels; the others have all {REELS} {:.1} s later: {taken_over} of them node \
                     {number} had claimed, and came once its claims had lapsed",
                    killed.elapsed().as_secs_f64()
                ))?;
                break;
            }
            self.stage.say("it was killed with nothing in hand; once more")?;
            self.nodes[last].start()?;
            self.meet(1..self.nodes.len())?;
            self.settle(1..self.nodes.len())?;
        }
        if taken_over == 0 {
            let why = format!("it had no work in hand {CATCHES_MAX} times");
            return Err(Failure::new("no work could be taken over", why, "start the demo again"));
        }
        self.nodes[last].start()?;
        self.mend(0)?;
        self.meet(0..self.nodes.len())?;
        self.settle_all()?;
        self.stage.say(&format!("node {number} and node 1 are back, and all have all"))
    }

    /// Brings a film in several reels to node 1: their paths.
    fn bring_reels(&mut self, take: u64) -> Result<Vec<String>, Failure> {
        let bytes = self.film_bytes()? / REELS;
        let reel = |number| (take * 100 + number, format!("Filme/Springflut {take} – Rolle {number}.mov"));
        let reels: Vec<_> = (1..=REELS).map(reel).collect();
        for (seed, path) in &reels {
            self.bring_large_file(*seed, path, bytes)?;
        }
        self.stage.say(&format!("{REELS} reels of {} each land in node 1's folder", size(bytes)))?;
        Ok(reels.into_iter().map(|(_, path)| path).collect())
    }

    /// Kills the node once part of a reel is on its disk: how many reels were there whole.
    fn catch_at_reels(&mut self, index: usize, reels: &[String]) -> Result<usize, Failure> {
        let node = &mut self.nodes[index];
        let deadline = Instant::now() + COMING;
        loop {
            let there = reels.iter().filter(|reel| node.file(reel).exists()).count();
            if there == reels.len() || unfinished_bytes(&node.media) > REEL_CAUGHT_BYTES {
                node.kill()?;
                return Ok(reels.iter().filter(|reel| node.file(reel).exists()).count());
            }
            if Instant::now() > deadline || !node.is_running() {
                let why = format!("nothing came for {} s", COMING.as_secs());
                return Err(Failure::new(format!("{} does not download", node.name), why, "see its log"));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until all between the first and the last node have all reels: how many of these nobody but the dead node had
    /// begun, since they came no sooner than its claims lapsed.
    fn watch_take_over(&self, last: usize, reels: &[String], killed: Instant) -> Result<u64, Failure> {
        let mut late = 0;
        let mut missing: Vec<&String> = reels.iter().collect();
        while !missing.is_empty() {
            let is_there = |reel: &String| (1..last).any(|index| self.nodes[index].file(reel).exists());
            let before = missing.len();
            missing.retain(|reel| !is_there(reel));
            if killed.elapsed() > LAPSING {
                late += (before - missing.len()) as u64;
            }
            if killed.elapsed() > COMING {
                let why = format!("{} are on no other node after {} s", missing.len(), COMING.as_secs());
                return Err(Failure::new("a dead node's work was not taken over", why, "please report this"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.settle(1..last)?;
        Ok(late)
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

    /// The size of a film here, where the disk may have little room.
    fn film_bytes(&self) -> Result<u64, Failure> {
        let free = tcat_storage::platform::free_bytes(self.stage.root());
        let free = free.map_err(|error| cannot("ask for the free room on the disk", &error))?;
        let needed = FILM_BYTES * (self.nodes.len() as u64 + 3);
        Ok(if free.is_some_and(|free| free < needed) { SMALL_FILM_BYTES } else { FILM_BYTES })
    }

    fn bring_film(&mut self, number: u64) -> Result<(String, u64), Failure> {
        let (path, bytes) = (format!("Filme/Sturmflut – Rohschnitt {number}.mov"), self.film_bytes()?);
        self.bring_large_file(number, &path, bytes)?;
        self.stage.say(&format!("a film of {} lands in node 1's folder", size(bytes)))?;
        Ok((path, bytes))
    }

    /// Makes a large file beside node 1's media folder and moves it in at once.
    fn bring_large_file(&mut self, seed: u64, path: &str, bytes: u64) -> Result<(), Failure> {
        let what = "make a large file";
        let draft = self.stage.root().join("film.draft");
        pictures::write_large_file(&draft, bytes, seed).map_err(|error| cannot(what, &error))?;
        let (md5, _): (Digest, u64) = verify::hash_file(&draft).map_err(|error| cannot(what, &error))?;
        let target = self.nodes[0].file(path);
        let moved = make_folder_of(&target).and_then(|()| fs::rename(&draft, &target));
        moved.map_err(|error| cannot(what, &error))?;
        self.expected.files.insert(path.to_owned(), md5);
        Ok(())
    }

    /// Kills the node once part of the film is on its disk: how much was there. `None` if all of it was there before.
    fn catch_download(&mut self, index: usize, path: &str) -> Result<Option<u64>, Failure> {
        let node = &mut self.nodes[index];
        let target = node.file(path);
        let deadline = Instant::now() + COMING;
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
                let why = format!("nothing came for {} s", COMING.as_secs());
                return Err(Failure::new(format!("{} does not download", node.name), why, "see its log"));
            }
            thread::sleep(Duration::from_millis(3));
        }
    }

    fn revive(&mut self, index: usize) -> Result<Option<u64>, Failure> {
        self.nodes[index].start()?;
        Ok(None)
    }
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
