//! What is written down before a step that a crash could cut in two, and the names that belong to it.
//!
//! All files of one step share a stem: `STEM.journal` says what is being done, `STEM.swap` is our content before the
//! exchange and what came out after it, `STEM.aside` is what was renamed aside where there is no exchange, and
//! `STEM.moving` is a file on its way through a temporary name. What holds always: the journal is durable before the
//! first other file has its name, and is removed after the last one has lost it.

use super::{CacheFolder, FolderError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read, Write};
use tcat_engine::content::Content;
use tcat_engine::ids::{ItemId, from_hex, hex};
use tcat_engine::paths::MediaPath;

const JOURNAL_VERSION: u32 = 1;
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// What the files of one step have in common; safe as a part of a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Stem(String);

/// What one of our names in `.tcat/tmp` stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Journal,
    FreshJournal,
    Swap,
    Aside,
    Moving,
}

const ROLES: [(Role, &str); 5] = [
    (Role::Journal, ".journal"),
    (Role::FreshJournal, ".journal.new"),
    (Role::Swap, ".swap"),
    (Role::Aside, ".aside"),
    (Role::Moving, ".moving"),
];

impl Stem {
    /// `ITEM.TARGET.EXPECTED`, each content as MD5 and size, so that a person who finds the file can tell.
    pub(super) fn of_publish(item: ItemId, target: &Content, expected: &Content) -> Self {
        let content = |content: &Content| format!("{}-{}", content.md5, content.size);
        Self(format!("{}.{}.{}", hex(&item.0), content(target), content(expected)))
    }

    pub(super) fn of_move(from: &MediaPath, to: &MediaPath) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("tcat 1 name of a move");
        for path in [from, to] {
            hasher.update(&(path.as_str().len() as u64).to_le_bytes());
            hasher.update(path.as_str().as_bytes());
        }
        Self(format!("move-{}", hasher.finalize().to_hex().split_at(32).0))
    }

    /// The name of the file that plays `role`.
    pub(super) fn name(&self, role: Role) -> String {
        let suffix = ROLES.iter().find(|(known, _)| *known == role).map_or("", |(_, suffix)| suffix);
        format!("{}{suffix}", self.0)
    }

    /// Reads a name, if it is exactly one that we give.
    pub(super) fn parse(name: &str) -> Option<(Self, Role)> {
        ROLES.iter().find_map(|(role, suffix)| {
            let stem = name.strip_suffix(suffix)?;
            is_stem(stem).then(|| (Self(stem.to_owned()), *role))
        })
    }
}

impl fmt::Display for Stem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_stem(text: &str) -> bool {
    let is_hex = |part: &str| from_hex::<16>(part).is_ok_and(|bytes| hex(&bytes) == part);
    let is_content = |part: &str| {
        part.split_once('-')
            .is_some_and(|(md5, size)| is_hex(md5) && size.parse().is_ok_and(|n: u64| n.to_string() == size))
    };
    if let Some(digest) = text.strip_prefix("move-") {
        return is_hex(digest);
    }
    match text.split('.').collect::<Vec<_>>()[..] {
        [item, target, expected] => is_hex(item) && is_content(target) && is_content(expected),
        _ => false,
    }
}

/// A publication over a file that is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct PublishJournal {
    pub item: ItemId,
    pub path: MediaPath,
    /// Whether names are exchanged; else the present file is renamed aside.
    pub by_exchange: bool,
    /// The partial's name in `.tcat/tmp`, to which our content returns when it is not placed.
    pub partial: String,
    pub author_name: String,
    pub quiet_ms: u64,
    pub target: Content,
    pub expected: Content,
    pub known: Vec<Content>,
}

/// A rename through a temporary name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct MoveJournal {
    pub from: MediaPath,
    pub to: MediaPath,
}

/// What a journal says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Journal {
    Publish(Box<PublishJournal>),
    Move(MoveJournal),
}

/// A journal as it is on disk: TOML, so that a person can read it.
#[derive(Serialize, Deserialize)]
struct JournalFile {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    publish: Option<PublishJournal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rename: Option<MoveJournal>,
}

impl CacheFolder {
    /// Makes a journal durable, whole or not at all.
    pub(super) fn write_journal(&self, stem: &Stem, journal: &Journal) -> Result<(), FolderError> {
        let path = match journal {
            Journal::Publish(publish) => &publish.path,
            Journal::Move(rename) => &rename.from,
        };
        let (publish, rename) = match journal.clone() {
            Journal::Publish(publish) => (Some(*publish), None),
            Journal::Move(rename) => (None, Some(rename)),
        };
        let (name, fresh) = (stem.name(Role::Journal), stem.name(Role::FreshJournal));
        let text = toml::to_string(&JournalFile { version: JOURNAL_VERSION, publish, rename })
            .map_err(|error| FolderError::BadJournal { name: name.clone(), why: error.to_string() })?;
        let write = || -> io::Result<()> {
            match self.temp.remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = self.temp.create_file(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            self.temp.replace(&fresh, &self.temp, &name)?;
            self.temp.sync()
        };
        write().map_err(|error| FolderError::new(path, error))
    }

    /// Reads a journal; `None` if there is none.
    pub(super) fn read_journal(&self, stem: &Stem) -> Result<Option<Journal>, FolderError> {
        let name = stem.name(Role::Journal);
        let mut text = String::new();
        let bad = |why: String| FolderError::BadJournal { name: name.clone(), why };
        match self.temp.open_file(&name) {
            Ok(file) => file
                .take(JOURNAL_BYTES_MAX)
                .read_to_string(&mut text)
                .map_err(|error| bad(error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(bad(error.to_string())),
        };
        let file: JournalFile = toml::from_str(&text).map_err(|e| bad(e.message().replace('\n', " ")))?;
        match file {
            JournalFile { version, .. } if version != JOURNAL_VERSION => {
                Err(bad(format!("its version is {version}, this tcat knows {JOURNAL_VERSION}")))
            }
            JournalFile { publish: Some(publish), rename: None, .. } => {
                Ok(Some(Journal::Publish(Box::new(publish))))
            }
            JournalFile { publish: None, rename: Some(rename), .. } => Ok(Some(Journal::Move(rename))),
            _ => Err(bad("it does not say what it is for".into())),
        }
    }

    /// Removes a journal whose step is done. That it may come back after power loss does no harm: with no other file
    /// of its stem there, it is removed again.
    pub(super) fn remove_journal(&self, stem: &Stem) -> Result<(), FolderError> {
        let name = stem.name(Role::Journal);
        match self.temp.remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FolderError::new(&name, error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcat_engine::content::Md5;

    #[test]
    fn our_names_read_back_and_nobody_elses_do() {
        let content = Content { md5: Md5([0xab; 16]), size: 7, blake3: None };
        let stem = Stem::of_publish(ItemId([1; 16]), &content, &Content { size: u64::MAX, ..content });
        let path = MediaPath::parse("a b/é.jpg").unwrap();
        for stem in [stem.clone(), Stem::of_move(&path, &path)] {
            for (role, _) in ROLES {
                assert_eq!(Stem::parse(&stem.name(role)), Some((stem.clone(), role)));
                assert_eq!(Stem::parse(&stem.name(role).to_uppercase()), None);
            }
        }
        assert!(stem.name(Role::FreshJournal).len() <= MediaPath::COMPONENT_BYTES_MAX);
        for name in ["", ".swap", "x.swap", "move-.moving", "..swap", "a.b-1.c-2.swap", "notes.journal"] {
            assert_eq!(Stem::parse(name), None, "{name:?}");
        }
    }
}
