//! Publishing: a whole, verified partial gets its final name, and nothing that is there is replaced blindly.
//!
//! What holds always: the final name stands for one whole content or another at every moment, never for a part;
//! where something had the name, the outcome says what became of it. Where nothing was expected, the name is taken
//! only if it is free. Not here: the exchange itself (`swap`).

use super::journal::{Journal, PublishJournal, Role, Stem};
use super::swap::{Disposed, Swap};
use super::temp::partial_key;
use super::{ATTEMPTS_MAX, CacheFolder, FolderError, TrashEntry};
use crate::platform::{FileKind, Folder, Looked, sync_file};
use std::io;
use std::path::Path;
use tcat_engine::content::Content;
use tcat_engine::ids::ItemId;
use tcat_engine::observation::FileStat;
use tcat_engine::paths::MediaPath;

/// How many known contents a journal names: the newest count.
const KNOWN_MAX: usize = 10_000;

/// How much of an author's name goes into a file's name.
const AUTHOR_CHARS_MAX: usize = 40;

/// One content to be put under one path.
#[derive(Clone, Debug)]
pub struct Publish<'a> {
    /// Whose content it is.
    pub item: ItemId,
    /// Where it belongs.
    pub path: &'a MediaPath,
    /// What it is.
    pub content: &'a Content,
    /// The partial file, from [`CacheFolder::partial`]; whole and verified by the caller.
    pub partial: &'a Path,
    /// What should be at the path now.
    pub expected: Expected,
    /// The content itself and the later ones of its chain, oldest first: a file that is one of them stays.
    pub known: &'a [Content],
    /// Who stands in the name of a version that is kept beside.
    pub author_name: &'a str,
    /// How long a file must not have been written to count as quiet.
    pub quiet_ms: u64,
}

/// What should be at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// A file with this content; if it vanished meanwhile, nothing is as good.
    Content(Content),
}

/// What became of a publication. A stat is given where the file at the path is proved to be what was published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Published {
    /// Nothing had the name: the content has it now.
    Placed {
        /// Its stat.
        stat: Option<FileStat>,
    },
    /// The expected file is in trash, the content has its name.
    Replaced {
        /// Its stat.
        stat: Option<FileStat>,
        /// Where the expected file is.
        trashed: TrashEntry,
    },
    /// The content has the name; what had it was no content that the caller named, so a person's edit.
    Edited {
        /// Its stat.
        stat: Option<FileStat>,
        /// The names of what was there; nearly always one.
        kept_as: Vec<MediaPath>,
    },
    /// This known content was there and is there again; the partial is one again, to be verified before its next use.
    KnownThere {
        /// The content at the path.
        content: Content,
        /// The names of what was saved at the path in the meantime; nearly always none.
        kept_as: Vec<MediaPath>,
    },
    /// Nothing was expected and something is there: nothing was changed.
    Occupied,
}

impl CacheFolder {
    /// Publishes. After an error, call again (what was begun is finished or undone first); nothing is lost meanwhile.
    pub fn publish(&self, publish: &Publish<'_>) -> Result<Published, FolderError> {
        self.check_root()?;
        self.require_no_replace()?;
        let _held = self.hold(&[publish.path])?;
        match publish.expected {
            Expected::Absent => self.publish_new(publish),
            Expected::Content(expected) => self.publish_over(publish, expected),
        }
    }

    fn publish_new(&self, publish: &Publish<'_>) -> Result<Published, FolderError> {
        let (partial, before) = self.whole_partial(publish)?;
        for _ in 0..ATTEMPTS_MAX {
            let folder = self.create_folder_of(publish.path)?;
            self.step("before placing")?;
            match self.temp.rename_no_replace(&partial, &folder, publish.path.file_name()) {
                Ok(()) => {
                    self.step("placed")?;
                    self.sync(&folder, publish.path)?;
                    return Ok(Published::Placed { stat: stat_of_ours(&folder, publish.path, &before) });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Published::Occupied),
                // Its folder was removed at this moment: made again.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FolderError::new(publish.path, error)),
            }
        }
        Err(FolderError::Restless(publish.path.to_string()))
    }

    fn publish_over(&self, publish: &Publish<'_>, expected: Content) -> Result<Published, FolderError> {
        let stem = Stem::of_publish(publish.item, publish.content, &expected);
        self.finish(&stem)?;
        let (partial, before) = self.whole_partial(publish)?;
        let folder = self.create_folder_of(publish.path)?;
        self.look(&folder, publish.path)?;
        let skip = publish.known.len().saturating_sub(KNOWN_MAX);
        let journal = PublishJournal {
            item: publish.item,
            path: publish.path.clone(),
            by_exchange: self.abilities.exchange,
            partial,
            author_name: publish.author_name.chars().take(AUTHOR_CHARS_MAX).collect(),
            quiet_ms: publish.quiet_ms,
            target: *publish.content,
            expected,
            known: publish.known.iter().skip(skip).copied().collect(),
        };
        self.step("before the journal")?;
        self.write_journal(&stem, &Journal::Publish(Box::new(journal.clone())))?;
        self.step("journal written")?;
        let published = self.swap(&stem, &journal, &before);
        if let Err(error) = published {
            // A crash is finished by recover(); a mere error is undone at once, as far as the disk lets us.
            if !matches!(error, FolderError::Stopped(_))
                && let Err(second) = self.finish(&stem)
            {
                tracing::warn!(path = %publish.path, %second, "a publication that failed is left for recovery");
            }
            return Err(error);
        }
        self.remove_journal(&stem)?;
        published
    }

    /// Everything between the journal's writing and its removal.
    fn swap(&self, stem: &Stem, journal: &PublishJournal, ours: &Looked) -> Result<Published, FolderError> {
        let swap = Swap { folder: self, journal, stem };
        let mut kept_as = Vec::new();
        swap.name_ours()?;
        let came_out = swap.place_ours(&mut kept_as)?;
        let stat = match self.folder_of(&journal.path)? {
            Some(folder) => stat_of_ours(&folder, &journal.path, ours),
            None => None,
        };
        let disposed = match came_out {
            true => swap.dispose(swap.came_out_role(), &mut kept_as)?,
            false => Disposed::Gone,
        };
        self.step("disposed")?;
        Ok(match disposed {
            Disposed::PutBack(content) => Published::KnownThere { content, kept_as },
            _ if !kept_as.is_empty() => Published::Edited { stat, kept_as },
            Disposed::Trashed(trashed) => Published::Replaced { stat, trashed },
            Disposed::Gone | Disposed::KeptBeside => Published::Placed { stat },
        })
    }

    /// The partial's name and look, once its bytes are durable; it must be ours, whole, and known by no other name.
    fn whole_partial(&self, publish: &Publish<'_>) -> Result<(String, Looked), FolderError> {
        let shown = publish.partial.display().to_string();
        let bad = |why: &str| FolderError::BadPartial { path: shown.clone(), why: why.into() };
        let name = publish.partial.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if partial_key(name).is_none() || publish.partial != self.temp_place(name) {
            return Err(bad("it is no partial file of this media folder"));
        }
        let looked = self.temp.stat(name).map_err(|error| bad(&error.to_string()))?;
        if looked.kind != FileKind::Regular || looked.links > 1 {
            return Err(bad("it is no file of its own"));
        }
        if looked.stat.size != publish.content.size {
            return Err(bad(&format!("{} bytes instead of {}", looked.stat.size, publish.content.size)));
        }
        sync_file(publish.partial).map_err(|error| FolderError::new(&shown, error))?;
        Ok((name.to_owned(), looked))
    }

    /// The role's file name and whether it exists, for `swap` and `recover`.
    pub(super) fn role_look(&self, stem: &Stem, role: Role) -> Result<Option<Looked>, FolderError> {
        let name = stem.name(role);
        match self.temp.stat(&name) {
            Ok(looked) => Ok(Some(looked)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FolderError::new(&name, error)),
        }
    }
}

/// The stat of the file at `path`, if it is the one that had the look `ours` and nobody wrote to it since.
pub(super) fn stat_of_ours(folder: &Folder, path: &MediaPath, ours: &Looked) -> Option<FileStat> {
    let looked = folder.stat(path.file_name()).ok()?;
    looked.unwritten_since(ours).then_some(looked.stat)
}
