//! Text as a terminal may show it: cleaned, cut and wrapped by display width; sizes and times for people.
//!
//! `size` and `span` say what the command line's do (node/src/output.rs), which this package cannot see.

use ratatui::style::Style;
use ratatui::text::Span;
use std::time::Duration;

/// More characters than these of one text are never shown, so that no name can cost time.
const CHARS_MAX: usize = 1000;

/// `text` with everything that steers a terminal replaced by `stand_in`: control characters, line and paragraph
/// separators, and the invisible marks that turn the reading direction or hide text.
pub fn clean(text: &str, stand_in: char) -> String {
    text.chars().take(CHARS_MAX).map(|c| if steers(c) { stand_in } else { c }).collect()
}

fn steers(c: char) -> bool {
    // Left alone: the joiners U+200C and U+200D, which names in several scripts need.
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// `text` in one line, without control characters and doubled blanks.
pub fn one_line(text: &str) -> String {
    let visible: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How many columns `text` takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// The longest beginning of `text` that fits into `columns`, and its width.
fn beginning(text: &str, columns: usize) -> (String, usize) {
    let (mut kept, mut used) = (String::new(), 0);
    for grapheme in Span::raw(text).styled_graphemes(Style::new()) {
        let next = used + width(grapheme.symbol);
        if next > columns {
            break;
        }
        kept.push_str(grapheme.symbol);
        used = next;
    }
    (kept, used)
}

/// `text` cut to `columns`; what is cut off is marked with `ellipsis`, if that fits.
pub fn fit(text: &str, columns: usize, ellipsis: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    match columns.checked_sub(width(ellipsis)) {
        Some(room) => beginning(text, room).0 + ellipsis,
        None => beginning(text, columns).0,
    }
}

/// `text` cut or padded to exactly `columns`.
pub fn pad(text: &str, columns: usize, ellipsis: &str) -> String {
    let mut text = fit(text, columns, ellipsis);
    let missing = columns.saturating_sub(width(&text));
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

/// `text` in lines of at most `columns`, broken between words where it can be; at most `lines_max`, the last one
/// marked with `ellipsis` if something is left out.
pub fn wrap(text: &str, columns: usize, lines_max: usize, ellipsis: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let gap = usize::from(!line.is_empty());
        if width(&line) + gap + width(word) <= columns {
            line.push_str(if gap == 1 { " " } else { "" });
            line.push_str(word);
            continue;
        }
        lines.push(std::mem::take(&mut line));
        let mut parts = broken(word, columns);
        line = parts.pop().unwrap_or_default();
        lines.append(&mut parts);
    }
    lines.push(line);
    lines.retain(|line| !line.is_empty());
    if lines.len() > lines_max {
        lines.truncate(lines_max);
        if let Some(last) = lines.last_mut() {
            let room = columns.saturating_sub(width(ellipsis));
            *last = fit(&(beginning(last, room).0 + ellipsis), columns, "");
        }
    }
    lines
}

/// One word in pieces of at most `columns`; a character that is wider than that is left out with what follows it.
fn broken(word: &str, columns: usize) -> Vec<String> {
    let (mut parts, mut rest) = (Vec::new(), word);
    while !rest.is_empty() {
        let (part, _) = beginning(rest, columns);
        match rest.get(part.len()..) {
            Some(after) if !part.is_empty() => rest = after,
            _ => break,
        }
        parts.push(part);
    }
    parts
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
    use quickcheck::quickcheck;

    #[test]
    fn nothing_that_steers_a_terminal_is_left_in_a_name() {
        assert_eq!(clean("a\u{1b}[2J\u{202e}b\r\n\u{9b}c\u{2028}", '?'), "a?[2J?b???c?");
        assert_eq!(clean("Été 王 👩\u{200d}👧", '?'), "Été 王 👩\u{200d}👧");
        assert_eq!(clean(&"x".repeat(5000), '?').len(), CHARS_MAX);
    }

    #[test]
    fn text_is_cut_by_columns_and_a_wide_character_is_never_halved() {
        assert_eq!(fit("abcdef", 6, "…"), "abcdef");
        assert_eq!(fit("abcdef", 5, "…"), "abcd…");
        assert_eq!(fit("王王王", 5, "…"), "王王…");
        assert_eq!(fit("王王王", 4, "…"), "王…");
        assert_eq!(pad("王王王", 4, "…"), "王… ");
        assert_eq!(fit("abcdef", 2, "..."), "ab");
        assert_eq!(fit("abcdef", 0, "…"), "");
    }

    #[test]
    fn lines_break_between_words_and_only_a_long_word_is_broken() {
        assert_eq!(wrap("the node is not running", 9, 9, "…"), ["the node", "is not", "running"]);
        assert_eq!(wrap("a/very/long/path here", 6, 9, "…"), ["a/very", "/long/", "path", "here"]);
        assert_eq!(wrap("one two three four", 5, 2, "…"), ["one", "two…"]);
        assert_eq!(wrap("", 5, 2, "…"), Vec::<String>::new());
    }

    quickcheck! {
        fn no_line_is_wider_than_asked_and_none_too_many(text: String, columns: u8, lines_max: u8) -> bool {
            let (columns, lines_max) = (usize::from(columns % 90), usize::from(lines_max % 9));
            let text = clean(&text, '?');
            let lines = wrap(&text, columns, lines_max, "");
            lines.len() <= lines_max && lines.iter().all(|line| width(line) <= columns)
                && width(&fit(&text, columns, "…")) <= columns && width(&pad(&text, columns, "…")) == columns
        }
    }

    #[test]
    fn sizes_and_spans_read_as_the_command_line_says_them() {
        let sizes: Vec<_> = [0, 999, 1000, 999_949, 999_950, 1_500_000, u64::MAX].map(size).into();
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "1.5 MB", "18.4 EB"]);
        let spans: Vec<_> = [0, 119, 120, 7200, 172_800].map(|s| span(Duration::from_secs(s))).into();
        assert_eq!(spans, ["0 ms", "119 s", "2 min", "2 h", "2 d"]);
    }
}
