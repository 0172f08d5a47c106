//! Which files of the media folder are not tcat's business: `.tcatignore` at its root, over built-in defaults.
//!
//! What holds always: `.tcat/` is ignored whatever the file says; a rule that cannot be understood is named and left
//! out, the others apply; a file with rules that cannot be read stops the scan, because scanning without its rules
//! could share what a person wants kept private. As in git, nothing below an ignored folder can be re-included.

use crate::platform::Folder;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::io::{self, Read};
use std::path::Path;
use tcat_engine::paths::{OWN_FOLDER, fold};

/// The file with a person's rules, at the root of the media folder.
pub const IGNORE_FILE: &str = ".tcatignore";

/// What is ignored unless a person re-includes it with `!`; matched whatever the case.
const DEFAULTS: [&str; 7] = [".*", "*.tmp", "*.part", "*~", "~$*", "Thumbs.db", "desktop.ini"];

/// The largest file of rules.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How many rules that cannot be understood are told one by one.
const PROBLEMS_MAX: usize = 20;

/// Why the rules are not known.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// The file is there, but cannot be read.
    #[error(".tcatignore cannot be read ({0}), so nothing is scanned: make it a readable file or remove it")]
    Unreadable(io::Error),
    /// It is too large, or its rules are together.
    #[error(".tcatignore cannot be used ({0}), so nothing is scanned: shorten it")]
    TooLarge(String),
}

/// The rules of one media folder.
#[derive(Clone, Debug)]
pub struct IgnoreRules {
    matcher: Gitignore,
    problems: Vec<String>,
}

impl IgnoreRules {
    /// Reads the rules of the media folder `root`; without a file, the defaults.
    pub fn load(root: &Path) -> Result<Self, IgnoreError> {
        let folder = Folder::open(root).map_err(IgnoreError::Unreadable)?;
        let file = match folder.open_file(IGNORE_FILE) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::parse(""),
            Err(error) => return Err(IgnoreError::Unreadable(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(IgnoreError::Unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(IgnoreError::TooLarge(format!("more than {FILE_BYTES_MAX} bytes")));
        }
        // A rule that is no text matches no name that tcat could keep.
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// The rules in `text`, over the defaults; the last one that matches a name decides.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        // Paths are given relative to the root, so the matcher needs no root of its own.
        let mut builder = GitignoreBuilder::new("");
        let mut problems = Vec::new();
        // `case_insensitive` cannot fail in this version, and holds for the lines after it.
        let _ = builder.case_insensitive(true);
        for rule in DEFAULTS {
            builder.add_line(None, rule).map_err(too_large)?;
        }
        let _ = builder.case_insensitive(false);
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if let Err(error) = builder.add_line(None, line)
                && problems.len() < PROBLEMS_MAX
            {
                problems.push(format!(".tcatignore, line {}: {error}: this rule is left out", index + 1));
            }
        }
        Ok(Self { matcher: builder.build().map_err(too_large)?, problems })
    }

    /// The rules that could not be understood, one line each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Whether a path relative to the root, with `/` between components, is ignored, itself or a folder above it.
    pub fn ignores(&self, path: &str, is_folder: bool) -> bool {
        let ends = path.match_indices('/').map(|(slash, _)| (slash, true)).chain([(path.len(), is_folder)]);
        ends.into_iter().any(|(end, is_folder)| {
            path.get(..end).is_some_and(|prefix| self.ignores_entry(prefix, is_folder))
        })
    }

    /// [`Self::ignores`] for a path whose folder is known not to be ignored.
    pub fn ignores_entry(&self, path: &str, is_folder: bool) -> bool {
        is_own_folder(path) || self.matcher.matched(path, is_folder).is_ignore()
    }
}

/// Whether a relative path is `.tcat` at the root, or lies in it, also for a file system that ignores case.
pub(crate) fn is_own_folder(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    first.starts_with('.') && fold(first) == OWN_FOLDER
}

fn too_large(error: ignore::Error) -> IgnoreError {
    IgnoreError::TooLarge(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> IgnoreRules {
        IgnoreRules::parse(text).unwrap()
    }

    #[test]
    fn temporary_and_hidden_files_are_ignored_by_default() {
        let rules = rules("");
        for path in [
            ".hidden",
            "a/.b/c.jpg",
            "x.tmp",
            "a/X.TMP",
            "film.mov.part",
            "draft.txt~",
            "~$letter.docx",
            "a/Thumbs.db",
            "thumbs.db",
            "desktop.ini",
            ".tcatignore",
        ] {
            assert!(rules.ignores(path, false), "{path}");
        }
        for path in ["a.jpg", "a/b.c/d.mov", "tmp", "part/x", "a~b.jpg", "x.tmpl", "Thumbs.db.jpg"] {
            assert!(!rules.ignores(path, false), "{path}");
        }
    }

    #[test]
    fn a_person_can_ignore_more_and_re_include_a_default() {
        let rules =
            rules("\u{feff}# ours\r\n*.raw\r\n/drafts/\r\n!keep.tmp\n!.well-known\n\nproxies/**/low\n");
        for path in ["a/b.raw", "drafts/x.jpg", "proxies/a/b/low", "other.tmp"] {
            assert!(rules.ignores(path, false), "{path}");
        }
        for path in ["a/drafts/x.jpg", "drafts", "keep.tmp", "a/keep.tmp", ".well-known/a.jpg", "a.RAW"] {
            assert!(!rules.ignores(path, false), "{path}");
        }
        assert!(rules.ignores("drafts", true));
        assert!(rules.problems().is_empty());
    }

    #[test]
    fn below_an_ignored_folder_nothing_is_re_included() {
        let rules = rules("private/\n!private/a.jpg\n");
        assert!(rules.ignores("private/a.jpg", false));
        assert!(!rules.ignores("public/a.jpg", false));
    }

    #[test]
    fn tcats_own_folder_is_ignored_whatever_the_rules_say() {
        let rules = rules("!.tcat\n!.tcat/\n!.*\n!*\n");
        for path in [".tcat", ".tcat/root.toml", ".TCAT/tmp/x"] {
            assert!(rules.ignores(path, path == ".tcat"), "{path}");
        }
        assert!(!rules.ignores(".hidden", false));
        assert!(!rules.ignores("a/.tcat", false));
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_named_and_the_others_apply() {
        let rules = rules("*.raw\na{b\n*.bak\n");
        let [problem] = rules.problems() else { panic!("{:?}", rules.problems()) };
        assert!(problem.contains("line 2") && problem.contains("left out"), "{problem}");
        assert!(rules.ignores("x.raw", false) && rules.ignores("x.bak", false));
    }

    #[test]
    fn rules_come_from_the_root_and_a_file_that_cannot_be_read_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        assert!(!IgnoreRules::load(root.path()).unwrap().ignores("a.raw", false));
        let file = root.path().join(IGNORE_FILE);
        std::fs::write(&file, b"*.raw\n\xff\xfe\n").unwrap();
        assert!(IgnoreRules::load(root.path()).unwrap().ignores("a.raw", false));
        std::fs::write(&file, vec![b'\n'; 1 << 21]).unwrap();
        assert!(matches!(IgnoreRules::load(root.path()), Err(IgnoreError::TooLarge(_))));
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(matches!(IgnoreRules::load(root.path()), Err(IgnoreError::Unreadable(_))));
        assert!(matches!(IgnoreRules::load(&root.path().join("none")), Err(IgnoreError::Unreadable(_))));
    }
}
