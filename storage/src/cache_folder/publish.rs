//! Publishing: a whole, verified partial gets its final name, and nothing that is there is replaced blindly.
//!
//! How it is done, primitive by primitive, is `tcat_engine::publishing`; here are the doors: what is asked for is
//! checked, and its paths are held. Not here: the primitives (`perform`).

use super::temp::partial_key;
use super::trash::entry_of;
use super::{CacheFolder, FolderError, TrashEntry};
use std::path::Path;
use tcat_engine::content::Content;
use tcat_engine::ids::ItemId;
use tcat_engine::observation::FileStat;
use tcat_engine::paths::MediaPath;
use tcat_engine::publishing;

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
        let path = publish.partial.display().to_string();
        let name = publish.partial.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if partial_key(name).is_none() || publish.partial != self.temp_place(name) {
            let why = "it is no partial file of this media folder".into();
            return Err(FolderError::BadPartial { path, why });
        }
        let published = self.act(publishing::Publish {
            item: publish.item,
            path: publish.path.clone(),
            content: *publish.content,
            partial: name.to_owned(),
            expected: match publish.expected {
                Expected::Absent => None,
                Expected::Content(content) => Some(content),
            },
            known: publish.known.to_vec(),
            author_name: publish.author_name.to_owned(),
            quiet_ms: publish.quiet_ms,
            exchange: self.abilities.exchange,
            day: self.today().to_string(),
        });
        Ok(match published {
            Ok(publishing::Published::Placed { stat }) => Published::Placed { stat },
            Ok(publishing::Published::Replaced { stat, trashed }) => {
                if let Expected::Content(expected) = publish.expected {
                    self.remember_trashed(&trashed, expected);
                }
                Published::Replaced { stat, trashed: entry_of(trashed)? }
            }
            Ok(publishing::Published::Edited { stat, kept_as }) => Published::Edited { stat, kept_as },
            Ok(publishing::Published::KnownThere { content, kept_as }) => {
                Published::KnownThere { content, kept_as }
            }
            Ok(publishing::Published::Occupied) => Published::Occupied,
            Err(FolderError::BadPartial { why, .. }) => return Err(FolderError::BadPartial { path, why }),
            Err(error) => return Err(error),
        })
    }
}
