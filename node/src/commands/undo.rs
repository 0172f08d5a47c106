//! Takes back what an init or join has made, unless it came to its end.
//!
//! Only what was not there before is removed, and of folders that may have got another's files only empty
//! ones.

use crate::output;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

enum Made {
    File(PathBuf),
    /// A folder that is removed only if it is empty by then.
    Folder(PathBuf),
    /// A folder whose whole content is ours: it did not exist.
    Tree(PathBuf),
}

/// Dropped before [`Undo::keep`], it removes what was watched and made since.
#[derive(Default)]
#[must_use = "dropping it takes everything back"]
pub struct Undo {
    made: Vec<Made>,
}

impl Undo {
    /// Removes this file on failure, if it is not there yet.
    pub fn watch_file(&mut self, path: &Path) {
        if is_missing(path) {
            self.made.push(Made::File(path.to_owned()));
        }
    }

    /// Removes this folder and those above it on failure, as far as they are not there yet and end up empty.
    pub fn watch_folders(&mut self, path: &Path) {
        let missing: Vec<&Path> = path.ancestors().take_while(|folder| is_missing(folder)).collect();
        // Outermost first: they are taken back in the reverse order.
        self.made.extend(missing.iter().rev().map(|folder| Made::Folder((*folder).to_owned())));
    }

    /// Removes this folder with all that is in it on failure, if it is not there yet.
    pub fn watch_tree(&mut self, path: &Path) {
        if is_missing(path) {
            self.made.push(Made::Tree(path.to_owned()));
        }
    }

    /// From here on `path` stays, whatever happens, and so do the folders that it is in.
    pub fn keep_file(&mut self, path: &Path) {
        self.made.retain(|made| match made {
            Made::File(file) => file != path,
            Made::Folder(folder) | Made::Tree(folder) => !path.starts_with(folder),
        });
    }

    /// It came to its end: everything stays.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for made in self.made.drain(..).rev() {
            let (path, removed) = match &made {
                Made::File(path) => (path, fs::remove_file(path)),
                Made::Folder(path) => (path, fs::remove_dir(path)),
                Made::Tree(path) => (path, fs::remove_dir_all(path)),
            };
            match removed {
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                    ) =>
                {
                    output::warn(&format!(
                        "tcat: cannot remove {} again: {error}; remove it by hand",
                        path.display()
                    ));
                }
                _ => {}
            }
        }
    }
}

fn is_missing(path: &Path) -> bool {
    matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> (tempfile::TempDir, Undo) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("old"), "theirs").unwrap();
        let mut undo = Undo::default();
        undo.watch_file(&root.join("old"));
        undo.watch_folders(&root.join("a/b"));
        undo.watch_file(&root.join("a/b/key"));
        undo.watch_tree(&root.join("tree"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("tree/x")).unwrap();
        fs::write(root.join("a/b/key"), "ours").unwrap();
        (folder, undo)
    }

    #[test]
    fn a_failure_leaves_what_was_there_before_and_nothing_else() {
        let (folder, undo) = scene();
        drop(undo);
        let left: Vec<_> =
            folder.path().read_dir().unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["old"]);
    }

    #[test]
    fn a_strangers_file_in_a_new_folder_is_never_removed() {
        let (folder, undo) = scene();
        fs::write(folder.path().join("a/b/strangers"), "").unwrap();
        drop(undo);
        assert!(folder.path().join("a/b/strangers").exists());
    }

    #[test]
    fn what_is_kept_stays_and_its_folders_with_it() {
        let (folder, mut undo) = scene();
        undo.keep_file(&folder.path().join("a/b/key"));
        drop(undo);
        assert!(folder.path().join("a/b/key").exists());
        assert!(!folder.path().join("tree").exists());
        let (folder, undo) = scene();
        undo.keep();
        assert!(folder.path().join("tree/x").exists());
    }
}
