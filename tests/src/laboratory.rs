//! A temporary folder with nodes in it, and the process group that ends with it.

use crate::node::Node;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tcat::demo::system::Group;
use tcat::demo::verify::{Digest, Expectation, Place, Report, verify};
use tempfile::TempDir;

/// The `tcat` program that was built beside this test.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let name = format!("tcat{}", std::env::consts::EXE_SUFFIX);
    // A test lies in `deps` below the programs, a benchmark beside them.
    let beside = own.with_file_name(&name);
    let above = own.parent().and_then(Path::parent).unwrap().join(&name);
    let program = if beside.is_file() { beside } else { above };
    assert!(
        program.is_file(),
        "{} is not there: build it with `cargo build --workspace --bins`, or run `cargo xtask test`, which does",
        program.display()
    );
    program
}

/// Where a test keeps its nodes. Dropping it ends them and removes everything, but after a failure it stays.
pub struct Laboratory {
    folder: Option<TempDir>,
    group: Group,
}

impl Laboratory {
    /// An empty laboratory, in a folder with spaces and letters beyond ASCII.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("tcat prüft é ").tempdir().unwrap();
        let group = Group::start(&program()).unwrap();
        Self { folder: Some(folder), group }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// The processes of this laboratory.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// A node with empty folders and no home yet.
    pub fn node(&self, name: &str) -> Node<'_> {
        Node::new(self, name)
    }

    /// Two running members of one workgroup; the first keeps the catalog.
    pub fn pair(&self) -> (Node<'_>, Node<'_>) {
        let mut anna = self.node("anna");
        anna.init();
        anna.start();
        let mut ben = self.node("ben");
        ben.join(&anna.invite(), &[&anna]);
        ben.start();
        (anna, ben)
    }

    /// Reads all folders, the catalog and the objects of `keeper` by itself; panics with every difference.
    pub fn judge(&self, keeper: &Node<'_>, nodes: &[&Node<'_>], files: &BTreeMap<String, Digest>) -> Report {
        let places: Vec<Place> =
            nodes.iter().map(|node| Place { name: node.name.clone(), media: node.media.clone() }).collect();
        let expected = Expectation { files: files.clone(), replaced: Vec::new() };
        let home = &keeper.home;
        let report = verify(&places, &home.join("catalog.db"), &home.join("objects"), &expected);
        assert!(report.differences.is_empty(), "differences:\n{}", report.differences.join("\n"));
        report
    }
}

impl Default for Laboratory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Laboratory {
    fn drop(&mut self) {
        self.group.kill();
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("kept for a look: {}", folder.keep().display());
        }
    }
}
