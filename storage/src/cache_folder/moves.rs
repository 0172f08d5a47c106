//! Renames in the cache folder: a file follows its item's path, and a conflicting file is set aside.
//!
//! How it is done, primitive by primitive, is `tcat_engine::publishing`; here are the doors. Not here: the primitives
//! (`perform`).

use super::{CacheFolder, FolderError};
use tcat_engine::content::Content;
use tcat_engine::paths::MediaPath;
use tcat_engine::publishing;
pub use tcat_engine::publishing::{Moved, SetAsideEnd as SetAside};

impl CacheFolder {
    /// Gives a file another path, making folders as needed; the folder that it leaves stays, also when empty.
    pub fn move_file(&self, from: &MediaPath, to: &MediaPath) -> Result<Moved, FolderError> {
        self.check_root()?;
        self.require_no_replace()?;
        let _held = self.hold(&[from, to])?;
        self.act(publishing::MoveFile {
            from: from.clone(),
            to: to.clone(),
            ignores_case: self.abilities.ignores_case,
            day: self.today().to_string(),
        })
    }

    /// Renames the file at `path`, if it has the expected content, to its conflict name `to`.
    pub fn set_aside(
        &self,
        path: &MediaPath,
        expected: &Content,
        to: &MediaPath,
    ) -> Result<SetAside, FolderError> {
        self.check_root()?;
        self.require_no_replace()?;
        let _held = self.hold(&[path, to])?;
        self.act(publishing::SetAside { path: path.clone(), expected: *expected, to: to.clone() })
    }
}
