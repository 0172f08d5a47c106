//! The help: the keys, and what the words on the screens mean.

use crate::text;
use crate::theme::Theme;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

/// Words and their meaning, what a person needs first.
const WORDS: [(&str, &str); 19] = [
    ("q", "quit"),
    ("r", "ask the node now"),
    ("? or Esc", "close this help"),
    ("settled", "nothing left to do"),
    ("working", "something is left to do"),
    ("alone", "settled, and no other member is live"),
    ("held", "the brake waits for a person's decision"),
    ("not running", "no node runs in this home"),
    ("starting", "the node is starting or stopping"),
    ("refused", "the node does not know our token or workgroup"),
    ("no answer", "a node runs, but no good answer comes"),
    ("live, away", "heard within the lease, or not"),
    ("behind by", "entries between what it and this node know"),
    ("conflicts", "items with a second content kept beside"),
    ("missing", "wanted here, and nobody reachable has it"),
    ("parked", "given up after too many attempts"),
    ("retrying", "failed, and will be tried again"),
    ("total", "bytes since the node's start"),
    ("last minute", "each line on a scale of its own"),
];
const WORD_COLUMNS: usize = 13;
const COLUMNS_MAX: u16 = 62;

/// Draws the help in the middle of `area`.
pub fn draw(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    let lines_wanted = u16::try_from(WORDS.len()).unwrap_or(u16::MAX);
    let width = area.width.min(COLUMNS_MAX);
    let height = area.height.min(lines_wanted.saturating_add(2));
    let place = Rect {
        x: area.x + area.width.saturating_sub(width) / 2,
        y: area.y + area.height.saturating_sub(height) / 2,
        width,
        height,
    };
    let inner = Block::bordered().border_set(theme.border()).title(" help ");
    let room = inner.inner(place);
    let lines = lines(usize::from(room.width), usize::from(room.height), theme);
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(inner), place);
}

fn lines(columns: usize, rows: usize, theme: Theme) -> Vec<Line<'static>> {
    let line = |(word, meaning): &(&'static str, &'static str)| {
        let word = text::pad(word, WORD_COLUMNS, theme.ellipsis());
        let meaning = text::fit(meaning, columns.saturating_sub(WORD_COLUMNS), theme.ellipsis());
        Line::from(vec![Span::styled(word, theme.heading()), Span::raw(meaning)])
    };
    if WORDS.len() <= rows {
        return WORDS.iter().map(line).collect();
    }
    let mut lines: Vec<_> = WORDS.iter().take(rows.saturating_sub(1)).map(line).collect();
    lines.push(Line::styled("a larger terminal shows the rest", theme.faint()));
    lines
}
