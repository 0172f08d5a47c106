//! What is written down before a step that a crash could cut in two, and the names that belong to it.
//!
//! All files of one step share a stem: `STEM.journal` says what is being done, `STEM.swap` is our content before the
//! exchange and what came out after it, `STEM.aside` is what was renamed aside where there is no exchange, and
//! `STEM.moving` is a file on its way through a temporary name. What holds always: the journal is durable before the
//! first other file has its name, and is removed after the last one has lost it. So a journal without other files
//! that was torn by a crash announces nothing that was begun. It ends in a digest, by which a torn one is recognised.

use super::TrashPlace;
use crate::codec;
use crate::content::Content;
use crate::ids::{ItemId, from_hex, hex};
use crate::observation::FileStat;
use crate::paths::MediaPath;
use bincode::{Decode, Encode};
use std::fmt;

/// The first line: for people who find the file, and for a newer version.
const MAGIC: &str = "tcat journal ";
const JOURNAL_VERSION: u32 = 2;
const DIGEST_BYTES: usize = 32;

/// How many known contents a journal names: the newest count.
pub(super) const KNOWN_MAX: usize = 10_000;

/// What the files of one step have in common; safe as a part of a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stem(String);

/// What one of our names in `.tcat/tmp` stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The journal.
    Journal,
    /// A journal that an earlier version had not finished: it had not begun anything.
    FreshJournal,
    /// Our content before the exchange, and what came out after it.
    Swap,
    /// What was renamed aside.
    Aside,
    /// A file on its way through a temporary name.
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
    pub fn of_publish(item: ItemId, target: &Content, expected: &Content) -> Self {
        let content = |content: &Content| format!("{}-{}", content.md5, content.size);
        Self(format!("{}.{}.{}", hex(&item.0), content(target), content(expected)))
    }

    /// Of a move from one path to another.
    pub fn of_move(from: &MediaPath, to: &MediaPath) -> Self {
        Self(format!("move-{}", digest_of("tcat 1 name of a move", &[from, to])))
    }

    /// Of a file on its way to trash.
    pub fn of_trash(path: &MediaPath) -> Self {
        Self(format!("trash-{}", digest_of("tcat 1 name of a trashing", &[path])))
    }

    /// The name of the file that plays `role`.
    pub fn name(&self, role: Role) -> String {
        let suffix = ROLES.iter().find(|(known, _)| *known == role).map_or("", |(_, suffix)| suffix);
        format!("{}{suffix}", self.0)
    }

    /// Reads a name, if it is exactly one that we give.
    pub fn parse(name: &str) -> Option<(Self, Role)> {
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

fn digest_of(context: &'static str, paths: &[&MediaPath]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for path in paths {
        hasher.update(&(path.as_str().len() as u64).to_le_bytes());
        hasher.update(path.as_str().as_bytes());
    }
    hasher.finalize().to_hex().split_at(32).0.to_owned()
}

fn is_stem(text: &str) -> bool {
    let is_hex = |part: &str| from_hex::<16>(part).is_ok_and(|bytes| hex(&bytes) == part);
    let is_content = |part: &str| {
        part.split_once('-')
            .is_some_and(|(md5, size)| is_hex(md5) && size.parse().is_ok_and(|n: u64| n.to_string() == size))
    };
    if let Some(digest) = text.strip_prefix("move-").or_else(|| text.strip_prefix("trash-")) {
        return is_hex(digest);
    }
    match text.split('.').collect::<Vec<_>>()[..] {
        [item, target, expected] => is_hex(item) && is_content(target) && is_content(expected),
        _ => false,
    }
}

/// A publication over a file that is there.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct PublishJournal {
    /// Whose content.
    pub item: ItemId,
    /// Where it belongs.
    pub path: MediaPath,
    /// Whether names are exchanged; else the present file is renamed aside.
    pub by_exchange: bool,
    /// The partial's name in `.tcat/tmp`, to which our content returns when it is not placed.
    pub partial: String,
    /// Who stands in the name of a version that is kept beside.
    pub author_name: String,
    /// How long a file must not have been written to count as quiet.
    pub quiet_ms: u64,
    /// What is published.
    pub target: Content,
    /// What was expected at the path.
    pub expected: Content,
    /// The content itself and later ones of its chain, oldest first.
    pub known: Vec<Content>,
    /// The file at the path, when the journal was written.
    pub there: Option<FileStat>,
    /// Where the expected file is to lie in trash.
    pub trash: TrashPlace,
}

/// A file on its way to trash.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct TrashJournal {
    /// Where it was.
    pub path: MediaPath,
    /// Its content.
    pub expected: Content,
    /// Its stat, when that was confirmed.
    pub there: FileStat,
    /// Where it is to lie in trash.
    pub trash: TrashPlace,
    /// Who stands in the name of a version that is kept beside.
    pub author_name: String,
}

/// A rename through a temporary name.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct MoveJournal {
    /// The old name.
    pub from: MediaPath,
    /// The new one.
    pub to: MediaPath,
}

/// What a journal says.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Journal {
    /// A publication.
    Publish(Box<PublishJournal>),
    /// A rename.
    Move(MoveJournal),
    /// Into trash.
    Trash(TrashJournal),
}

/// Why bytes are no journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JournalError {
    /// Not whole: a crash cut it off, or something else wrote it. True if it is surely ours: it begins as ours do, or
    /// there is nothing in it.
    Torn(bool),
    /// Whole, and not understood; the text says why, for people.
    Unknown(String),
}

impl Journal {
    /// The journal's bytes: a line for people, the body, and the digest of both.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = format!("{MAGIC}{JOURNAL_VERSION}\n").into_bytes();
        // A value of bounded parts always has bytes; if it had none, the journal would not be understood and its
        // step not be done.
        bytes.extend(codec::encode(self).unwrap_or_default());
        let digest = *blake3::hash(&bytes).as_bytes();
        bytes.extend(digest);
        bytes
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, JournalError> {
        let torn =
            || JournalError::Torn(bytes.iter().all(|byte| *byte == 0) || bytes.starts_with(MAGIC.as_bytes()));
        let Some((said, digest)) = bytes.split_last_chunk::<DIGEST_BYTES>() else { return Err(torn()) };
        if blake3::hash(said).as_bytes() != digest {
            return Err(torn());
        }
        Self::decode_unchecked(said)
    }

    /// Reads one without looking at its digest, which `said` does not hold.
    pub(super) fn decode_unchecked(said: &[u8]) -> Result<Self, JournalError> {
        let unknown = |why: String| JournalError::Unknown(why);
        let line = said.iter().position(|byte| *byte == b'\n').unwrap_or(said.len());
        let (head, body) = said.split_at(line);
        let version = head.strip_prefix(MAGIC.as_bytes()).and_then(|text| std::str::from_utf8(text).ok());
        match version {
            Some(version) if version == JOURNAL_VERSION.to_string() => {}
            Some(version) => {
                let version: String = version.chars().filter(|c| !c.is_control()).take(20).collect();
                return Err(unknown(format!("its version is {version}, this tcat knows {JOURNAL_VERSION}")));
            }
            None => return Err(unknown("it does not say that it is a journal".into())),
        }
        codec::decode(body.get(1..).unwrap_or_default()).map_err(|error| unknown(error.to_string()))
    }

    /// The paths that its step works on.
    pub fn paths(&self) -> Vec<&MediaPath> {
        match self {
            Self::Publish(journal) => vec![&journal.path],
            Self::Move(journal) => vec![&journal.from, &journal.to],
            Self::Trash(journal) => vec![&journal.path],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Md5;

    fn content(n: u8) -> Content {
        Content { md5: Md5([n; 16]), size: 7, blake3: None }
    }

    #[test]
    fn our_names_read_back_and_nobody_elses_do() {
        let stem =
            Stem::of_publish(ItemId([1; 16]), &content(0xab), &Content { size: u64::MAX, ..content(1) });
        let path = MediaPath::parse("a b/é.jpg").unwrap();
        for stem in [stem.clone(), Stem::of_move(&path, &path), Stem::of_trash(&path)] {
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

    #[test]
    fn a_journal_reads_back_and_every_torn_one_is_recognised() {
        let publish = PublishJournal {
            item: ItemId([1; 16]),
            path: MediaPath::parse("a b/é.jpg").unwrap(),
            by_exchange: true,
            partial: super::super::partial_name([4; 32]),
            author_name: "anna".into(),
            quiet_ms: 2000,
            target: content(1),
            expected: content(2),
            known: vec![content(1), content(3)],
            there: Some(FileStat::default()),
            trash: TrashPlace { day: "2026-02-28".into(), path: MediaPath::parse("a b/é(1).jpg").unwrap() },
        };
        let [from, to] = ["a", "b"].map(|text| MediaPath::parse(text).unwrap());
        for journal in [Journal::Publish(Box::new(publish)), Journal::Move(MoveJournal { from, to })] {
            let whole = journal.encode();
            assert_eq!(Journal::decode(&whole), Ok(journal));
            for length in 0..whole.len() {
                let cut = whole[..length].to_vec();
                let mut zeroed = cut.clone();
                zeroed.resize(whole.len(), 0);
                let mut headless = vec![0; length];
                headless.extend(&whole[length..]);
                for torn in [cut, zeroed, headless] {
                    if torn != whole {
                        assert!(matches!(Journal::decode(&torn), Err(JournalError::Torn(_))), "{length}");
                    }
                }
            }
            let mut flipped = whole.clone();
            flipped[20] ^= 1;
            assert_eq!(Journal::decode(&flipped), Err(JournalError::Torn(true)));
        }
        assert_eq!(Journal::decode(b""), Err(JournalError::Torn(true)));
        assert_eq!(Journal::decode(b"a person's notes"), Err(JournalError::Torn(false)));
    }

    #[test]
    fn a_newer_journal_is_told_from_a_torn_one() {
        let mut newer = b"tcat journal 3\nwho knows".to_vec();
        let digest = *blake3::hash(&newer).as_bytes();
        newer.extend(digest);
        assert!(
            matches!(Journal::decode(&newer), Err(JournalError::Unknown(why)) if why.contains("version is 3"))
        );
    }
}
