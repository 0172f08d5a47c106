//! What a person or a script gets to see: one line for a failure, the exit status, tables, sizes.
//!
//! Answers go to the standard output, everything else to the standard error. Names of files and clients come
//! from other machines: control characters in them never reach a terminal.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use tcat_api::ClientError;

/// The exit statuses of the contract, but 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It failed.
    Failed = 1,
    /// The command line or config.toml is wrong.
    Usage = 2,
    /// Not settled in the time given.
    NotSettled = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A command that ended without success: one line `what: why; what to do`, and the exit status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    line: String,
    /// The exit status.
    pub exit: Exit,
}

impl Failure {
    /// A failure with exit status 1.
    pub fn new(what: impl fmt::Display, why: impl fmt::Display, what_to_do: impl fmt::Display) -> Self {
        Self::of(format!("{what}: {why}; {what_to_do}"))
    }

    /// A failure with exit status 1 that a lower layer has put in one line, with what to do.
    pub fn of(error: impl fmt::Display) -> Self {
        Self { line: one_line(&error.to_string()), exit: Exit::Failed }
    }

    /// A mistake in the command line or in config.toml: exit status 2.
    pub fn usage(what: impl fmt::Display, why: impl fmt::Display, what_to_do: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, ..Self::new(what, why, what_to_do) }
    }

    /// Not settled in the time given: exit status 3.
    pub fn not_settled(
        what: impl fmt::Display,
        why: impl fmt::Display,
        what_to_do: impl fmt::Display,
    ) -> Self {
        Self { exit: Exit::NotSettled, ..Self::new(what, why, what_to_do) }
    }

    /// A question to the running node that got no good answer.
    pub fn of_client(what: impl fmt::Display, error: &ClientError) -> Self {
        Self::new(what, error, error.what_to_do())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Failure {}

/// `text` in one line, without control characters.
pub fn one_line(text: &str) -> String {
    let visible: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` with control characters made visible, so that no name can steer a terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Prints lines to the standard output. A reader that went away is a failure, not a panic.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new("cannot print the answer", error, "keep the output open"))
}

/// Prints a line to the standard error, if anybody listens there.
pub fn warn(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints `value` as the answer to `--json`.
pub fn say_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new("cannot print the answer", error, "report this as a bug"))?;
    say(&text)
}

/// Rows as aligned columns, two spaces apart; cells are cleaned. Without a line break at the end.
pub fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A size for people, in powers of 1000: `999 B`, `1.5 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut name = "B";
    for unit in UNITS {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        name = unit;
    }
    format!("{value:.1} {name}")
}

/// A span of time for people: `850 ms`, `12 s`, `3 min`, `5 h`, `9 d`.
pub fn span(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        s @ 1..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s @ 7200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_a_library_says() {
        let failure = Failure::new("cannot open x", "line 1\n  | bad\n\u{1b}[31m", "mend it");
        assert_eq!(failure.to_string(), "cannot open x: line 1 | bad [31m; mend it");
    }

    #[test]
    fn a_name_from_another_machine_cannot_steer_the_terminal() {
        assert_eq!(table(&[vec!["a\u{1b}[2J".into(), "b".into()]]), "a\u{fffd}[2J  b");
    }

    #[test]
    fn columns_align_by_characters_not_bytes() {
        let rows = [vec!["Été".into(), "1".into()], vec!["anna".into(), "22".into()]];
        assert_eq!(table(&rows), "Été   1\nanna  22");
    }

    #[test]
    fn sizes_and_spans_read_well_at_their_borders() {
        let sizes: Vec<_> = [0, 999, 1000, 999_949, 999_950, 1_500_000, u64::MAX].map(size).into();
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "1.5 MB", "18.4 EB"]);
        let spans: Vec<_> = [0, 119, 120, 7200, 172_800].map(|s| span(Duration::from_secs(s))).into();
        assert_eq!(spans, ["0 ms", "119 s", "2 min", "2 h", "2 d"]);
    }
}
