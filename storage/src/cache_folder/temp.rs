//! Partial files: contents on their way, in `.tcat/tmp`, each under the key of the content that it will be.
//!
//! What holds always: a name counts as ours only if it is exactly one that we give; everything else in the folder is
//! left alone. What is in a partial, and how much of it is good, the transfers know.

use super::{CacheFolder, FolderError};
use crate::platform::{FileKind, OwnFile};
use std::io;
use std::path::PathBuf;
use tcat_engine::observation::FileStat;
pub(super) use tcat_engine::publishing::{partial_key, partial_name};

/// How many names in `.tcat/tmp` are looked at in one go; the rest waits for the next.
pub(super) const TEMP_NAMES_MAX: usize = 100_000;

/// A partial file of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partial {
    /// The key of the content that it will be.
    pub content_key: [u8; 32],
    /// Its stat.
    pub stat: FileStat,
}

impl CacheFolder {
    /// Where the content with this key is collected until it is whole.
    pub fn partial(&self, content_key: [u8; 32]) -> PathBuf {
        self.temp_place(&partial_name(content_key))
    }

    /// The same, to be opened: by the open folder, so that no link in its place is followed.
    pub fn partial_file(&self, content_key: [u8; 32]) -> Result<OwnFile, FolderError> {
        let name = partial_name(content_key);
        let place = self.temp_place(&name);
        Ok(OwnFile::new(self.clone_of(&self.temp)?, &name, place))
    }

    /// Our partial files, by key.
    pub fn partials(&self) -> Result<Vec<Partial>, FolderError> {
        let mut partials = Vec::new();
        for name in self.temp_names()? {
            let Some(content_key) = partial_key(&name) else { continue };
            match self.temp.stat(&name) {
                Ok(looked) if looked.kind == FileKind::Regular => {
                    partials.push(Partial { content_key, stat: looked.stat });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FolderError::new(&name, error)),
            }
        }
        Ok(partials)
    }

    /// Removes the partial of a content that is no longer wanted; false if there is none.
    pub fn remove_partial(&self, content_key: [u8; 32]) -> Result<bool, FolderError> {
        let name = partial_name(content_key);
        match self.temp.remove_file(&name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(FolderError::new(&name, error)),
        }
    }

    /// The names in `.tcat/tmp` that can be ours: ours are all UTF-8.
    pub(super) fn temp_names(&self) -> Result<Vec<String>, FolderError> {
        let names = self.temp.names(TEMP_NAMES_MAX).map_err(|error| FolderError::new(".tcat/tmp", error))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }
}
