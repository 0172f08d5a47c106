//! The first half of the story: an album is shared, and each content crosses from the cloud once.

use super::{Allowed, Story, Tally, cannot};
use crate::demo::album::{list_album, make_folder_of, write_with_folders};
use crate::demo::nodes::Node;
use crate::demo::pictures;
use crate::demo::verify::{self, Replaced};
use crate::output::{Failure, clean, size};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Pictures in the first album, and in the one that is made away from the LAN.
const ALBUM: u64 = 14;
const AWAY_ALBUM: u64 = 6;

impl Story<'_> {
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
        self.stage.title("Node 1's link is cut: what it makes can only come from the cloud")?;
        let others = 1..self.nodes.len();
        self.cut_off(0)?;
        let before = self.cloud_fetches(others.clone())?;
        self.paint_album(1000..1000 + AWAY_ALBUM)?;
        self.nodes[0].settle()?;
        self.nodes[0].stop()?;
        self.stage.say(&format!(
            "node 1 uploaded {AWAY_ALBUM} new pictures, out of all others' reach, and was switched off"
        ))?;
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
        self.mend(0)?;
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
}
