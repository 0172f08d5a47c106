//! `cargo xtask tidy`: the house rules as a test.
//!
//! Holds always: a rule looks only at tracked and about-to-be-tracked files, changes nothing, and names file,
//! line, what is wrong and what to do. Each rule is a function from text to [`Finding`]s, tested by itself.
//! Left out: what rustfmt and clippy check already.

mod docs;
mod manifests;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

/// One breach of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file, relative to the workspace.
    pub file: String,
    /// The line, counted from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
    /// Whether it fails the check or is only worth a look.
    pub is_warning: bool,
}

impl Finding {
    /// A breach that fails the check.
    pub fn error(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.into(), line, what: what.into(), is_warning: false }
    }

    /// Something worth a look.
    pub fn warning(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { is_warning: true, ..Self::error(file, line, what) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_warning { "warning" } else { "error" };
        write!(f, "{kind}: {}:{}: {}", self.file, self.line, self.what)
    }
}

/// The text files of the tree: path relative to the workspace, with `/`, to content.
pub type Tree = BTreeMap<String, String>;

/// Applies every rule to the workspace; true if none is broken.
pub fn run(root: &Path) -> bool {
    let tree = match read_tree(root) {
        Ok(tree) => tree,
        Err(why) => {
            eprintln!("tidy: {why}");
            return false;
        }
    };
    let findings = check(&tree);
    findings.iter().for_each(|finding| println!("{finding}"));
    let errors = findings.iter().filter(|finding| !finding.is_warning).count();
    println!("tidy: {} files, {errors} errors, {} warnings", tree.len(), findings.len() - errors);
    errors == 0
}

/// All findings, errors last so that they stand at the end of the output.
fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = sources::check(tree);
    findings.extend(manifests::check(tree));
    findings.extend(docs::check(tree));
    findings.sort_by_key(|finding| (!finding.is_warning, finding.file.clone(), finding.line));
    findings
}

/// Reads every file that git tracks or would track. Files that are not UTF-8 (pictures) are left out.
fn read_tree(root: &Path) -> Result<Tree, String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start git to list the files: {error}; install git"))?;
    if !listed.status.success() {
        let why = String::from_utf8_lossy(&listed.stderr).trim().to_owned();
        return Err(format!("git cannot list the files ({why}); run this in a clone of the repository"));
    }
    let mut tree = Tree::new();
    for name in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|name| !name.is_empty()) {
        // A tracked file that is deleted in the working tree is no file.
        if let Ok(text) = std::fs::read_to_string(root.join(name)) {
            tree.insert(name.to_owned(), text);
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_has_the_files_that_the_rules_are_about() {
        let tree = read_tree(&crate::workspace_root()).unwrap();
        for name in
            ["Cargo.toml", "engine/src/lib.rs", "docs/dependencies.md", "docs/contracts.md", "README.md"]
        {
            assert!(tree.contains_key(name), "{name}");
        }
        assert!(!tree.keys().any(|name| name.starts_with("target/")));
    }

    #[test]
    fn a_finding_names_file_line_and_what() {
        let finding = Finding::error("a/b.rs", 7, "too long");
        assert_eq!(finding.to_string(), "error: a/b.rs:7: too long");
        assert_eq!(Finding::warning("c", 0, "x").to_string(), "warning: c:0: x");
    }
}
