//! The files that the demo shows: pictures that it paints, or copies of a person's own.
//!
//! Holds always: a person's own files are only read. Left out: what a picture looks like (`pictures`).

use std::fs;
use std::path::{Path, PathBuf};

/// What `--media` copies at most, so that the demo stays one.
const COPIED_FILES_MAX: usize = 2000;
const COPIED_BYTES_MAX: u64 = 1 << 30;

/// What `--media` shows.
pub struct Album {
    /// Where each is, and where it goes in the media folder.
    pub files: Vec<(PathBuf, String)>,
    /// How many more there are.
    pub left_out: u64,
}

/// The regular files below `folder` that tcat would import, up to the demo's limits, in the order of their paths.
pub fn list_album(folder: &Path) -> std::io::Result<Album> {
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

/// Writes a file, and makes the folders above it.
pub fn write_with_folders(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    make_folder_of(path)?;
    fs::write(path, bytes)
}

/// Makes the folders above a file.
pub fn make_folder_of(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
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
