//! Rules for the `Cargo.toml` files: imports run one way, versions stand in one place, every dependency is explained.
//!
//! Left out: TOML as such. Cargo has parsed these files before this program runs, so reading sections and keys line
//! by line is enough.

use super::{Finding, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// Which of our packages a package may depend on, tests included. `tests`, `benches` and `fuzz` may see everything.
const MAY_SEE: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("storage", &["engine"]),
    ("net", &["engine"]),
    ("api", &[]),
    ("tui", &["api"]),
    ("node", &["engine", "storage", "net", "api", "tui"]),
    ("sim", &["engine", "storage"]),
    ("tests", &["engine", "storage", "net", "api", "node", "sim", "tui"]),
    ("benches", &["engine", "storage", "net", "api", "node", "sim", "tests"]),
    ("fuzz", &["engine", "storage", "net", "api"]),
    ("xtask", &[]),
];

/// Where every dependency is explained.
pub const DEPENDENCIES_PAGE: &str = "docs/dependencies.md";

/// A key in a dependencies section.
#[derive(Debug, PartialEq, Eq)]
struct Dependency {
    name: String,
    line: usize,
    /// Whether the workspace's `Cargo.toml` gives version and path.
    is_inherited: bool,
}

/// Applies all rules of this file.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let Some(workspace) = tree.get("Cargo.toml") else {
        return vec![Finding::error("Cargo.toml", 0, "missing: run this in the workspace")];
    };
    let common = dependencies(workspace);
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    for (file, text) in tree {
        let Some(package) = file.strip_suffix("/Cargo.toml") else { continue };
        let own = dependencies(text);
        findings.extend(imports(file, package, &own));
        findings.extend(inheritance(file, &own));
        used.extend(own.into_iter().map(|dependency| dependency.name));
    }
    findings.extend(unused(&common, &used));
    let page = tree.get(DEPENDENCIES_PAGE).map(String::as_str).unwrap_or_default();
    findings.extend(explained(&common, page));
    findings
}

/// Every key of every dependencies section: `name = ...`, `name.workspace = true` and `[dependencies.name]`.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    let mut in_section = false;
    let mut in_long_form = false;
    for (index, line) in manifest.lines().enumerate() {
        let line_number = index + 1;
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let (table, last) = section.rsplit_once('.').unwrap_or(("", section));
            in_section = last.ends_with("dependencies");
            in_long_form = !in_section && table.ends_with("dependencies");
            if in_long_form {
                found.push(Dependency { name: last.into(), line: line_number, is_inherited: false });
            }
        } else if let Some((key, value)) = line.split_once('=').filter(|_| in_section) {
            let key = key.trim();
            let name = key.split('.').next().unwrap_or(key).trim_matches('"').to_owned();
            let is_inherited =
                key.ends_with(".workspace") || value.replace(' ', "").contains("workspace=true");
            found.push(Dependency { name, line: line_number, is_inherited });
        } else if in_long_form
            && line.replace(' ', "") == "workspace=true"
            && let Some(last) = found.last_mut()
        {
            last.is_inherited = true;
        }
    }
    found
}

/// The folder of one of our packages, from its name as a dependency.
fn own_package(dependency: &str) -> Option<&str> {
    if dependency == "tcat" { Some("node") } else { dependency.strip_prefix("tcat-") }
}

fn imports(file: &str, package: &str, own: &[Dependency]) -> Vec<Finding> {
    let Some((_, may_see)) = MAY_SEE.iter().find(|(name, _)| *name == package) else {
        let what = "a package without import rules: add it to MAY_SEE in xtask/src/tidy/manifests.rs";
        return vec![Finding::error(file, 0, what)];
    };
    own.iter()
        .filter_map(|dependency| Some((own_package(&dependency.name)?, dependency.line)))
        .filter(|(seen, _)| !may_see.contains(seen))
        .map(|(seen, line)| {
            let what =
                format!("{package} may not depend on {seen}: imports run engine <- storage, net <- node");
            Finding::error(file, line, what)
        })
        .collect()
}

fn inheritance(file: &str, own: &[Dependency]) -> Vec<Finding> {
    own.iter()
        .filter(|dependency| !dependency.is_inherited)
        .map(|dependency| {
            let what = format!(
                "{name} has a version of its own: put it in the workspace's Cargo.toml and write `{name}.workspace = true`",
                name = dependency.name
            );
            Finding::error(file, dependency.line, what)
        })
        .collect()
}

fn unused(common: &[Dependency], used: &BTreeSet<String>) -> Vec<Finding> {
    common
        .iter()
        .filter(|dependency| !used.contains(&dependency.name) && own_package(&dependency.name).is_none())
        .map(|dependency| {
            Finding::error(
                "Cargo.toml",
                dependency.line,
                format!("no package uses {}: remove it", dependency.name),
            )
        })
        .collect()
}

/// Each dependency that is not ours has its row in the page's table, and each row its dependency.
fn explained(common: &[Dependency], page: &str) -> Vec<Finding> {
    let rows: BTreeMap<&str, usize> = page
        .lines()
        .enumerate()
        .filter_map(|(index, line)| {
            let cell = line.strip_prefix('|')?.split('|').next()?.trim();
            Some((cell.strip_prefix('`')?.strip_suffix('`')?, index + 1))
        })
        .collect();
    let outside: Vec<&Dependency> =
        common.iter().filter(|dependency| own_package(&dependency.name).is_none()).collect();
    let mut findings = Vec::new();
    for dependency in outside.iter().filter(|dependency| !rows.contains_key(dependency.name.as_str())) {
        let what = format!(
            "{} has no row in {DEPENDENCIES_PAGE}: add what it is for, what else was considered, its upkeep",
            dependency.name
        );
        findings.push(Finding::error("Cargo.toml", dependency.line, what));
    }
    for (name, line) in rows {
        if !outside.iter().any(|dependency| dependency.name == name) {
            let what = format!("{name} is no dependency of the workspace: remove its row");
            findings.push(Finding::error(DEPENDENCIES_PAGE, line, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str = "[workspace]\nmembers = []\n\n[workspace.dependencies]\ntcat-engine = { path = \"engine\" }\nserde = \"1\"\nlibp2p = { version = \"1\" }\n";

    fn tree(files: &[(&str, &str)]) -> Tree {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn texts(findings: Vec<Finding>) -> Vec<String> {
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn every_way_to_write_a_dependency_is_read() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = { workspace = true, features = [] }\nc = \"1\" # why\n[target.'cfg(unix)'.dependencies]\nd.workspace = true\n[dev-dependencies.e]\nworkspace = true\n[features]\nf = []\n";
        let found: Vec<(String, bool)> =
            dependencies(manifest).into_iter().map(|found| (found.name, found.is_inherited)).collect();
        let expected = [("a", true), ("b", true), ("c", false), ("d", true), ("e", true)];
        assert_eq!(found, expected.map(|(name, inherited)| (name.to_owned(), inherited)));
    }

    #[test]
    fn imports_against_the_direction_are_found() {
        let storage = "[dependencies]\ntcat-net.workspace = true\ntcat-engine.workspace = true\n";
        let found = texts(imports("storage/Cargo.toml", "storage", &dependencies(storage)));
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("storage/Cargo.toml:2: storage may not depend on net"), "{found:?}");
        let sim = "[dev-dependencies]\ntcat.workspace = true\n";
        assert_eq!(imports("sim/Cargo.toml", "sim", &dependencies(sim)).len(), 1);
        assert_eq!(imports("new/Cargo.toml", "new", &[]).len(), 1, "a new package must be entered");
    }

    #[test]
    fn a_version_outside_the_workspace_manifest_is_found() {
        let found = inheritance("net/Cargo.toml", &dependencies("[dependencies]\nserde = \"1\"\n"));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn every_dependency_needs_a_row_and_every_row_a_dependency() {
        let page = "| crate | what for |\n|---|---|\n| `serde` | all |\n| `gone` | nothing |\n";
        let net = "[dependencies]\nserde.workspace = true\nlibp2p.workspace = true\n";
        let files = [("Cargo.toml", WORKSPACE), ("net/Cargo.toml", net), (DEPENDENCIES_PAGE, page)];
        let found = texts(check(&tree(&files)));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("Cargo.toml:7: libp2p has no row"));
        assert!(found[1].contains("docs/dependencies.md:4: gone is no dependency"));
    }

    #[test]
    fn a_dependency_that_nobody_uses_is_found() {
        let page = "| `serde` | x |\n| `libp2p` | x |\n";
        let net = "[dependencies]\nserde.workspace = true\n";
        let files = [("Cargo.toml", WORKSPACE), ("net/Cargo.toml", net), (DEPENDENCIES_PAGE, page)];
        assert_eq!(texts(check(&tree(&files))), ["error: Cargo.toml:7: no package uses libp2p: remove it"]);
    }
}
