//! Rules for the documents: links lead somewhere, commands exist and are listed, programs' words are known.
//!
//! Left out: links to other sites; a test must not need the Internet.

use super::{Finding, Tree};
use std::collections::BTreeSet;

/// The pages that must name every `cargo xtask` command, so that a newcomer finds them.
const COMMAND_LISTS: [&str; 1] = ["CONTRIBUTING.md"];

/// Applies all rules of this file.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree {
        if file.ends_with(".md") {
            findings.extend(links(tree, file, text));
        }
        if file.ends_with(".md") || file.ends_with(".rs") || file == ".ci/run" {
            findings.extend(xtask_commands(file, text));
            findings.extend(mentioned_pages(tree, file, text));
        }
    }
    for page in COMMAND_LISTS {
        findings.extend(listed_commands(page, tree.get(page).map(String::as_str).unwrap_or_default()));
    }
    findings
}

/// The lines of a page outside its ``` blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_block = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            return None;
        }
        (!in_block).then_some((index + 1, line))
    })
}

fn links(tree: &Tree, file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, content) in prose(text) {
        for target in link_targets(content) {
            if let Err(why) = resolve(tree, file, target) {
                findings.push(Finding::error(
                    file,
                    line,
                    format!("the link to {target:?} {why}: correct it"),
                ));
            }
        }
    }
    findings
}

/// What stands in the round brackets of `[text](target)`.
fn link_targets(line: &str) -> Vec<&str> {
    line.match_indices("](").filter_map(|(at, open)| line[at + open.len()..].split(')').next()).collect()
}

fn resolve(tree: &Tree, from: &str, target: &str) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() { from.to_owned() } else { join(from, path) };
    let is_folder = tree.keys().any(|name| name.starts_with(&format!("{file}/")));
    match tree.get(&file) {
        None if is_folder && anchor.is_empty() => Ok(()),
        None => Err("leads nowhere".into()),
        Some(_) if anchor.is_empty() => Ok(()),
        Some(page) if prose(page).any(|(_, line)| heading_anchor(line).as_deref() == Some(anchor)) => Ok(()),
        Some(_) => Err(format!("names a heading that {file} does not have")),
    }
}

/// `path` as seen from the folder of the file `from`.
fn join(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The anchor that the usual renderers give a heading.
fn heading_anchor(line: &str) -> Option<String> {
    let title = line.trim_start_matches('#');
    if title.len() == line.len() || !title.starts_with(' ') {
        return None;
    }
    let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    Some(kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect())
}

/// A page of the folder docs that running text or a comment names does exist.
fn mentioned_pages(tree: &Tree, file: &str, text: &str) -> Vec<Finding> {
    const FOLDER: &str = "docs/";
    let mut findings = Vec::new();
    let is_source = file.ends_with(".rs");
    let said = text.lines().enumerate().filter(|(_, line)| !is_source || line.trim_start().starts_with("//"));
    for (index, line) in said {
        for (at, _) in line.match_indices(FOLDER) {
            let begins = line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '/');
            let name: String =
                line[at..].chars().take_while(|c| c.is_alphanumeric() || "/._-".contains(*c)).collect();
            let name = name.trim_end_matches('.');
            if begins && name.ends_with(".md") && !tree.contains_key(name) {
                findings.push(Finding::error(
                    file,
                    index + 1,
                    format!("there is no page {name}: write it or correct this"),
                ));
            }
        }
    }
    findings
}

/// What follows `cargo xtask` in code marks or at the beginning of a line is a command.
fn xtask_commands(file: &str, text: &str) -> Vec<Finding> {
    let known: BTreeSet<&str> = crate::COMMANDS.iter().map(|(name, _)| *name).collect();
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for command in commands_in(line) {
            if !known.contains(command.as_str()) {
                let what = format!("`cargo xtask {command}` is no command: see `cargo xtask help`");
                findings.push(Finding::error(file, index + 1, what));
            }
        }
    }
    findings
}

fn commands_in(line: &str) -> Vec<String> {
    const PROGRAM: &str = "cargo xtask ";
    line.match_indices(PROGRAM)
        .filter(|(at, _)| {
            line[..*at].trim_end_matches(['$', ' ']).chars().next_back().is_none_or(|c| c == '`')
        })
        .map(|(at, _)| line[at + PROGRAM.len()..].chars().take_while(|c| c.is_ascii_lowercase()).collect())
        .filter(|command: &String| !command.is_empty())
        .collect()
}

fn listed_commands(page: &str, text: &str) -> Vec<Finding> {
    crate::COMMANDS
        .iter()
        .filter(|(name, _)| !text.contains(&format!("cargo xtask {name}")))
        .map(|(name, _)| {
            Finding::error(page, 0, format!("does not name `cargo xtask {name}`: add it to the list"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let files = [
            ("README.md", "# Top\n\n## The two commands, first\n"),
            ("docs/a.md", "# A\n"),
            ("engine/src/lib.rs", "//! x\n"),
        ];
        files.map(|(name, text)| (name.to_owned(), text.to_owned())).into_iter().collect()
    }

    fn link_lines(text: &str) -> Vec<usize> {
        links(&tree(), "docs/a.md", text).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn links_to_files_folders_and_headings_resolve() {
        let good =
            "[r](../README.md) [h](../README.md#the-two-commands-first) [e](../engine/src) [own](#a)\n# A\n";
        assert_eq!(links(&tree(), "docs/a.md", good), []);
        assert_eq!(link_lines("[x](https://example.org/none)\n```\n[x](none.md)\n```\n"), [0_usize; 0]);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        assert_eq!(
            link_lines("ok\n[x](README.md)\n[y](../README.md#no-such)\n[z](../../README.md)\n"),
            [2, 3]
        );
    }

    #[test]
    fn pages_named_in_text_or_comments_exist() {
        let found =
            mentioned_pages(&tree(), "x.rs", "// see docs/a.md.\n// see docs/none.md\n// no/docs/none.md\n");
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn commands_in_the_documents_exist_and_all_are_listed() {
        let invented = format!("run `cargo {} nonsense` now\nthe cargo {} program\n", "xtask", "xtask");
        assert_eq!(xtask_commands("a.md", &invented).len(), 1);
        assert_eq!(commands_in("    $ cargo xtask tidy --all"), ["tidy"]);
        let missing = listed_commands(
            "a.md",
            "`cargo xtask test`, `cargo xtask lab`, `cargo xtask bench`, `cargo xtask tidy`",
        );
        assert_eq!(missing.len(), 1, "help is not named");
    }
}
