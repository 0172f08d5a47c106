//! Rules for text and Rust files: size, header, blanks, unfinished work, machine paths, and what the engine may use.
//!
//! Left out: string literals are not parsed fully; a rule that a literal would trip is met by splitting it.

use super::{Finding, Tree};

/// A file above this many lines fails; one idea a file keeps them far smaller.
const LINES_MAX: usize = 1000;
/// A file above this many lines is worth a look.
const LINES_GOOD: usize = 600;

/// Words that mark unfinished work, in two halves so that this file does not hold them.
const UNFINISHED: [(&str, &str); 4] = [("todo", "!"), ("unimplemented", "!"), ("FIX", "ME"), ("XX", "X")];

/// Folders that exist only on one developer's machine, in two halves likewise.
const MACHINE_FOLDERS: [(&str, &str); 4] = [("/wo", "rk"), ("/ro", "ot"), ("/ho", "me"), ("/Us", "ers")];

/// What would give the engine I/O, a clock, a thread or randomness of its own, or an order that differs between runs.
const ENGINE_FORBIDDEN_WORDS: [&str; 11] = [
    "HashMap",
    "HashSet",
    "Instant",
    "RandomState",
    "SystemTime",
    "async",
    "await",
    "getrandom",
    "rand",
    "thread",
    "tokio",
];
const ENGINE_FORBIDDEN_STD: [&str; 7] = ["env", "fs", "io", "net", "os", "process", "thread"];

/// Applies all rules of this file.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.iter().filter(|(file, _)| is_ours(file)) {
        findings.extend(size(file, text));
        findings.extend(blanks(file, text));
        findings.extend(unfinished(file, text));
        findings.extend(machine_paths(file, text));
        if file.ends_with(".rs") {
            findings.extend(header(file, text));
        }
        if file.starts_with("engine/src/") && file.ends_with(".rs") {
            findings.extend(engine_purity(file, text));
        }
    }
    findings
}

/// Generated and quoted texts keep the form that they have.
fn is_ours(file: &str) -> bool {
    !(file.ends_with(".lock") || file.starts_with("LICENSE-"))
}

fn size(file: &str, text: &str) -> Vec<Finding> {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        vec![Finding::error(file, 0, format!("{lines} lines, more than {LINES_MAX}: split it by idea"))]
    } else if lines > LINES_GOOD {
        vec![Finding::warning(
            file,
            0,
            format!("{lines} lines, more than {LINES_GOOD}: does it hold two ideas?"),
        )]
    } else {
        vec![]
    }
}

fn blanks(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, content) in numbered(text) {
        if content.contains('\r') {
            findings.push(Finding::error(file, line, "carriage return: end lines with a line feed alone"));
        } else if content.ends_with([' ', '\t']) {
            findings.push(Finding::error(file, line, "trailing blanks: remove them"));
        }
        if content.contains('\t') {
            findings.push(Finding::error(file, line, "tab: use spaces"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::error(file, text.lines().count(), "no line feed at the end: add one"));
    }
    findings
}

/// Lines without their line feed, a carriage return kept.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split('\n').enumerate().map(|(index, content)| (index + 1, content))
}

fn header(file: &str, text: &str) -> Vec<Finding> {
    if text.starts_with("//! ") {
        return vec![];
    }
    vec![Finding::error(
        file,
        1,
        "no `//!` header: say first what it is for, what holds always, what it leaves out",
    )]
}

fn unfinished(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, content) in numbered(text) {
        for (first, second) in UNFINISHED {
            let word = format!("{first}{second}");
            if holds_word(content, &word) {
                findings.push(Finding::error(file, line, format!("{word} marks unfinished work: finish it")));
            }
        }
    }
    findings
}

fn machine_paths(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, content) in numbered(text) {
        for (first, second) in MACHINE_FOLDERS {
            let folder = format!("{first}{second}");
            if names_folder(content, &folder) {
                let what = format!(
                    "{folder} is a path of one machine: use a relative path, `~` or a temporary folder"
                );
                findings.push(Finding::error(file, line, what));
            }
        }
    }
    findings
}

/// Whether `line` holds `folder` as the beginning of an absolute path: not within a longer path or URL, and not
/// merely as the beginning of another name.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + folder.len()..].chars().next();
        let begins = before.is_none_or(|c| !(is_word(c) || "/.-~}>".contains(c)));
        let ends = after.is_none_or(|c| !(is_word(c) || ".-".contains(c)));
        begins && ends
    })
}

/// Whether `line` holds `word` with no letter, digit or underscore on either side of it.
fn holds_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let ends_in_word = word.ends_with(is_word);
        before.is_none_or(|c| !is_word(c)) && (!ends_in_word || after.is_none_or(|c| !is_word(c)))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn engine_purity(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |line: usize, word: &str| {
        let what = format!("{word} is not for the engine: it gets times, randomness and outcomes as inputs");
        findings.push(Finding::error(file, line, what));
    };
    for (line, content) in numbered(text) {
        let code = without_comment(content);
        for word in ENGINE_FORBIDDEN_WORDS.iter().filter(|word| holds_word(code, word)) {
            report(line, word);
        }
        for module in ENGINE_FORBIDDEN_STD.iter().filter(|module| holds_word(code, &format!("std::{module}")))
        {
            report(line, &format!("std::{module}"));
        }
    }
    for (line, module) in grouped_std_modules(text) {
        if ENGINE_FORBIDDEN_STD.contains(&module.as_str()) {
            report(line, &format!("std::{{{module}}}"));
        }
    }
    findings
}

/// The line up to a `//` that is not within a string literal.
fn without_comment(line: &str) -> &str {
    let mut in_string = false;
    let mut escaped = false;
    let bytes = line.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'/' if !in_string && bytes.get(index + 1) == Some(&b'/') => return &line[..index],
            _ => {}
        }
    }
    line
}

/// The modules named in `use std::{a::b, c}`, with the line on which the group begins.
fn grouped_std_modules(text: &str) -> Vec<(usize, String)> {
    const GROUP: &str = "use std::{";
    let mut modules = Vec::new();
    for (at, _) in text.match_indices(GROUP) {
        let line = text[..at].matches('\n').count() + 1;
        let mut depth = 0_usize;
        let mut name = String::new();
        let mut at_name = true;
        for c in text[at + GROUP.len()..].chars() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    modules.push((line, std::mem::take(&mut name)));
                    at_name = true;
                }
                c if is_word(c) && at_name && depth == 0 => name.push(c),
                c if c.is_whitespace() => {}
                _ => at_name = false,
            }
        }
        modules.push((line, name));
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn long_files_fail_and_longish_ones_warn() {
        assert!(size("a", &"x\n".repeat(LINES_GOOD)).is_empty());
        assert!(size("a", &"x\n".repeat(LINES_MAX))[0].is_warning);
        assert!(!size("a", &"x\n".repeat(LINES_MAX + 1))[0].is_warning);
    }

    #[test]
    fn tabs_trailing_blanks_and_carriage_returns_are_found() {
        assert_eq!(lines_of(&blanks("a", "ok\n bad \nbad\r\n\tbad\nok\n")), [2, 3, 4]);
        assert_eq!(lines_of(&blanks("a", "no end")), [1]);
        assert!(blanks("a", "").is_empty());
    }

    #[test]
    fn a_rust_file_without_a_header_is_found() {
        assert_eq!(header("a.rs", "//! Why.\nfn a() {}\n"), []);
        assert_eq!(lines_of(&header("a.rs", "// Why.\n")), [1]);
        assert_eq!(lines_of(&header("a.rs", "\n//! Late.\n")), [1]);
    }

    #[test]
    fn unfinished_work_is_found_but_not_within_other_words() {
        let marks: Vec<String> =
            UNFINISHED.iter().map(|(first, second)| format!("{first}{second}")).collect();
        for mark in &marks {
            assert_eq!(lines_of(&unfinished("a", &format!("fine\n    {mark}(later)\n"))), [2], "{mark}");
        }
        assert!(unfinished("a", "to-do lists, XXXL shirts, todo_list!, 7XXX7\n").is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_found_but_not_their_lookalikes() {
        let all = |text: &str| {
            MACHINE_FOLDERS.iter().filter(|(a, b)| names_folder(text, &format!("{a}{b}"))).count()
        };
        let (work, root, home) = (["/wo", "rk"].concat(), ["/ro", "ot"].concat(), ["/ho", "me"].concat());
        for text in
            [format!("cd {work}/main"), format!("`{root}`"), format!("\"{home}/anna/x\""), work.clone()]
        {
            assert_eq!(all(&text), 1, "{text}");
        }
        for text in ["GET /workgroups", "/root.toml", "~/home/x", "a/work/b", "https://host.example/work/x"] {
            assert_eq!(all(text), 0, "{text}");
        }
    }

    #[test]
    fn the_engine_may_not_reach_outside_itself() {
        let bad = "use std::fs;\nlet t = Instant::now();\nuse std::{\n    collections::BTreeMap,\n    net::{self, Ipv4Addr},\n};\nlet m: HashMap<u8, u8>;\n";
        assert_eq!(lines_of(&engine_purity("engine/src/a.rs", bad)), [1, 2, 7, 3]);
        let good = "use std::fmt;\n// tokio and std::fs are outside\nuse std::{collections::BTreeMap, time::Duration};\nlet operand = InstantLike;\n";
        assert_eq!(engine_purity("engine/src/a.rs", good), []);
    }

    #[test]
    fn a_comment_ends_the_code_but_a_url_in_a_string_does_not() {
        assert_eq!(without_comment("a // b"), "a ");
        assert_eq!(without_comment(r#"x("http://a\"//", y) // z"#), r#"x("http://a\"//", y) "#);
    }
}
