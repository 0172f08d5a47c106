//! The overview: members, items, bytes, tasks, in what room there is.
//!
//! Holds always: a table that does not fit ends in a line that counts what it left out. Each part is a function from
//! the status to lines; [`share`] gives each its height.

use crate::app::App;
use crate::history::Way;
use crate::text::{self, fit, pad, size};
use crate::theme::Theme;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use std::time::Duration;
use tcat_api::types::{MediaCounts, PeerStatus, TaskStatus};

/// Between two columns.
const GAP: &str = "  ";
/// The lines of the bytes: a heading and four ways.
const BYTES_HEIGHT: usize = 5;
/// Lines that the counts of the items may take; they need a second one where it is narrow.
const COUNT_LINES_MAX: usize = 3;
/// What members and tasks get before anything that can be left out.
const TABLE_MIN: usize = 3;
/// `123456 entries`; where it is narrow, the number alone.
const BEHIND_COLUMNS: usize = 16;
/// A sparkline below this says nothing.
const SPARKLINE_MIN: usize = 8;

/// Draws it into `area`: the last answer, faintly if the node does not answer any more.
pub fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, now: Duration) {
    let (theme, width, height) = (app.theme, usize::from(area.width), usize::from(area.height));
    let Some(answer) = app.answer() else { return };
    let status = &answer.status;
    let items = item_lines(&status.media, width, theme);
    let shared = share(height, items.len(), peers_want(&status.peers), tasks_want(&status.tasks));
    let parts = [
        peer_lines(&status.peers, width, shared.peers, theme),
        items,
        if shared.bytes { byte_lines(app, now, width) } else { Vec::new() },
        task_lines(&status.tasks, width, shared.tasks, theme),
    ];
    let mut lines: Vec<Line<'static>> = Vec::with_capacity(height);
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        if shared.gaps {
            lines.push(Line::default());
        }
        lines.extend(part);
    }
    frame.render_widget(Paragraph::new(lines), area);
    if app.problem(now).is_some() {
        frame.buffer_mut().set_style(area, theme.faint());
    }
}

/// Who gets how many lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shared {
    peers: usize,
    tasks: usize,
    bytes: bool,
    gaps: bool,
}

/// Shares `height` lines between the parts: the items always, then the beginnings of both tables, then the bytes,
/// then empty lines between the parts, then the rest of the tables.
fn share(height: usize, items: usize, peers_want: usize, tasks_want: usize) -> Shared {
    let least = items + peers_want.min(TABLE_MIN) + tasks_want.min(TABLE_MIN);
    let bytes = height >= least + BYTES_HEIGHT;
    let gaps = height >= least + BYTES_HEIGHT + 4;
    let taken = items + if bytes { BYTES_HEIGHT } else { 0 } + if gaps { 4 } else { 0 };
    let tables = height.saturating_sub(taken);
    // A table may use more than its half only where the other leaves it.
    let peers = peers_want.min((tables / 2).max(tables.saturating_sub(tasks_want)));
    let tasks = tasks_want.min(tables.saturating_sub(peers));
    Shared { peers, tasks, bytes, gaps }
}

/// A row: every cell cut or padded to its column.
fn row(cells: &[(String, Style)], columns: &[usize], theme: Theme) -> Line<'static> {
    let mut spans = Vec::with_capacity(cells.len() * 2);
    for ((words, style), columns) in cells.iter().zip(columns) {
        if !spans.is_empty() {
            spans.push(Span::raw(GAP));
        }
        spans.push(Span::styled(pad(words, *columns, theme.ellipsis()), *style));
    }
    Line::from(spans)
}

fn heading(words: &[&str], columns: &[usize], theme: Theme) -> Line<'static> {
    let cells: Vec<_> = words.iter().map(|word| ((*word).to_owned(), theme.heading())).collect();
    row(&cells, columns, theme)
}

fn more(count: usize, theme: Theme) -> Line<'static> {
    Line::styled(format!("+ {count} more"), theme.faint())
}

fn peers_want(peers: &[PeerStatus]) -> usize {
    1 + peers.len()
}

/// The members by name, at most `rows` lines.
fn peer_lines(peers: &[PeerStatus], width: usize, rows: usize, theme: Theme) -> Vec<Line<'static>> {
    if peers.is_empty() {
        let words = "no other members yet: `tcat invite` prints a code for one";
        return vec![Line::raw(fit(words, width, theme.ellipsis()))];
    }
    let mut sorted: Vec<_> = peers.iter().map(|peer| (theme.shown(&peer.name), peer)).collect();
    sorted.sort_by(|(a, peer), (b, other)| a.cmp(b).then_with(|| peer.id.cmp(&other.id)));
    let (state, heard, behind) = (5, 11, if width < 60 { 9 } else { BEHIND_COLUMNS });
    let room = width.saturating_sub(state + heard + behind + 3 * GAP.len());
    let longest = sorted.iter().map(|(name, _)| text::width(name)).max().unwrap_or(0);
    let title = format!("members {}", peers.len());
    let columns = [room.min(longest.max(title.len())), state, heard, behind];
    let mut lines = vec![heading(&[&title, "state", "heard", "behind by"], &columns, theme)];
    let body = rows.saturating_sub(1);
    let shown = if sorted.len() <= body { sorted.len() } else { body.saturating_sub(1) };
    for (name, peer) in sorted.iter().take(shown) {
        lines.push(peer_row(name, peer, &columns, theme));
    }
    if shown < sorted.len() {
        lines.push(more(sorted.len() - shown, theme));
    }
    lines.truncate(rows);
    lines
}

fn peer_row(name: &str, peer: &PeerStatus, columns: &[usize; 4], theme: Theme) -> Line<'static> {
    let (state, style) = if peer.alive { ("live", theme.good()) } else { ("away", theme.look()) };
    let heard = peer
        .last_contact_ms
        .map_or("never".to_owned(), |ms| format!("{} ago", text::span(Duration::from_millis(ms))));
    let behind = match peer.lag {
        0 => "-".to_owned(),
        lag if columns[3] < BEHIND_COLUMNS => lag.to_string(),
        1 => "1 entry".to_owned(),
        lag => format!("{lag} entries"),
    };
    let plain = Style::new();
    row(
        &[(name.to_owned(), plain), (state.to_owned(), style), (heard, plain), (behind, plain)],
        columns,
        theme,
    )
}

/// The counts and the bar.
fn item_lines(media: &MediaCounts, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let mut lines = count_lines(media, width, theme);
    lines.push(bar_line(media, width, theme));
    lines
}

/// All counts in one line; where they do not fit, those that are not zero, in as many lines as that takes. A number
/// is never cut.
fn count_lines(media: &MediaCounts, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let counts = [
        (media.uploading, "uploading", theme.busy()),
        (media.downloading, "downloading", theme.busy()),
        (media.conflict, if media.conflict == 1 { "conflict" } else { "conflicts" }, theme.look()),
        (media.missing, "missing", theme.bad()),
        (media.parked, "parked", theme.bad()),
    ];
    let first = Span::styled(format!("items {} of {} settled", media.settled, media.total), theme.heading());
    let words = |all: bool| {
        let shown = counts.iter().filter(move |(count, ..)| all || *count > 0).map(|(count, name, style)| {
            Span::styled(format!("{count} {name}"), if *count > 0 { *style } else { theme.faint() })
        });
        flowed(std::iter::once(first.clone()).chain(shown), width)
    };
    let mut lines = words(true);
    if lines.len() > 1 {
        lines = words(false);
    }
    if lines.len() > COUNT_LINES_MAX {
        lines.truncate(COUNT_LINES_MAX - 1);
        lines.push(Line::raw(theme.ellipsis()));
    }
    lines
}

/// `words` with commas between them, in lines of at most `width`.
fn flowed(words: impl Iterator<Item = Span<'static>>, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    for word in words {
        match lines.last_mut() {
            // Room for the comma behind it too.
            Some(line) if line.width() + GAP.len() + word.width() < width => {
                line.push_span(Span::raw(", "));
                line.push_span(word);
            }
            Some(line) => {
                line.push_span(Span::raw(","));
                lines.push(Line::from(word));
            }
            None => lines.push(Line::from(word)),
        }
    }
    lines
}

/// Settled of total. It is full only when all are settled.
fn bar_line(media: &MediaCounts, width: usize, theme: Theme) -> Line<'static> {
    let total = media.total.max(media.settled);
    if total == 0 {
        return Line::styled("no items yet", theme.faint());
    }
    let percent = format!(" {:>3} %", portion(media.settled, total, 100));
    let room = width.saturating_sub(percent.len());
    let moving = media.settled.saturating_add(media.uploading).saturating_add(media.downloading).min(total);
    let done = portion(media.settled, total, room);
    let begun = portion(moving, total, room);
    let set = theme.bar();
    Line::from(vec![
        Span::styled(set.done.repeat(done), theme.good()),
        Span::styled(set.moving.repeat(begun.saturating_sub(done)), theme.busy()),
        Span::styled(set.left.repeat(room.saturating_sub(begun)), theme.faint()),
        Span::raw(percent),
    ])
}

/// `part` of `whole` on a scale of `scale`, rounded down.
fn portion(part: u64, whole: u64, scale: usize) -> usize {
    let scaled = u128::from(part.min(whole)) * scale as u128 / u128::from(whole.max(1));
    usize::try_from(scaled).unwrap_or(scale)
}

/// Bytes since the node's start, their rates, and the last minute.
fn byte_lines(app: &App, now: Duration, width: usize) -> Vec<Line<'static>> {
    let Some(answer) = app.answer() else { return Vec::new() };
    let (theme, counts) = (app.theme, &answer.status.bytes);
    let columns = [12, 8, 10, width.saturating_sub(12 + 8 + 10 + 3 * GAP.len()).min(60)];
    let cells = if columns[3] < SPARKLINE_MIN { 0 } else { columns[3] };
    let minute = if cells == 0 { "" } else { "last minute" };
    let mut lines = vec![heading(&["bytes", "total", "now", minute], &columns, theme)];
    let ways = [
        ("from members", Way::LanIn),
        ("to members", Way::LanOut),
        ("from store", Way::CloudIn),
        ("to store", Way::CloudOut),
    ];
    for (name, way) in ways {
        let rate = app.history().rate(way, now);
        let rate = if rate == 0 { "-".to_owned() } else { format!("{}/s", size(rate)) };
        let spark = sparkline(&app.history().minute(way, now, cells), theme);
        let plain = Style::new();
        let cells =
            [(name.to_owned(), plain), (size(way.of(counts)), plain), (rate, plain), (spark, theme.busy())];
        lines.push(row(&cells, &columns, theme));
    }
    lines
}

/// One character a value, on the scale of the largest. What is not zero is seen.
fn sparkline(values: &[f64], theme: Theme) -> String {
    let levels = theme.levels();
    let top = values.iter().copied().fold(0.0, f64::max);
    let steps = levels.len().saturating_sub(1);
    let character = |value: &f64| {
        let level =
            if *value > 0.0 && top > 0.0 { ((value / top) * steps as f64).ceil() as usize } else { 0 };
        levels.get(level.min(steps)).copied().unwrap_or(' ')
    };
    values.iter().map(character).collect()
}

fn tasks_want(tasks: &[TaskStatus]) -> usize {
    1 + tasks.iter().map(task_height).sum::<usize>()
}

/// A task that failed needs a second line for why.
fn task_height(task: &TaskStatus) -> usize {
    1 + usize::from(task.error.is_some())
}

/// The tasks, what runs first, then what failed; at most `rows` lines.
fn task_lines(tasks: &[TaskStatus], width: usize, rows: usize, theme: Theme) -> Vec<Line<'static>> {
    if tasks.is_empty() {
        return vec![Line::styled("no tasks", theme.faint())];
    }
    let mut sorted: Vec<&TaskStatus> = tasks.iter().collect();
    sorted.sort_by_key(|task| match (task.state.as_str(), task.error.is_some()) {
        ("waiting", false) => 3,
        ("parked", _) => 2,
        ("waiting" | "retrying", _) => 1,
        // Every other state names the step that is being done.
        _ => 0,
    });
    let shown = how_many(&sorted, rows.saturating_sub(1));
    let columns = task_columns(width);
    let title = format!("tasks {}", tasks.len());
    let done = if columns[3] < PROGRESS_COLUMNS { "done" } else { "progress" };
    let mut lines = vec![heading(&[&title, "item", "state", done], &columns, theme)];
    for task in sorted.iter().take(shown) {
        lines.push(task_row(task, &columns, theme));
        if let Some(error) = &task.error {
            let error = format!("{GAP}{}", theme.shown(&text::one_line(error)));
            lines.push(Line::styled(fit(&error, width, theme.ellipsis()), theme.bad()));
        }
    }
    if shown < sorted.len() {
        lines.push(more(sorted.len() - shown, theme));
    }
    lines.truncate(rows);
    lines
}

/// How many of the first tasks fit into `rows`, with the line that counts the others.
fn how_many(tasks: &[&TaskStatus], rows: usize) -> usize {
    let mut used = 0;
    for (index, task) in tasks.iter().enumerate() {
        let rest = usize::from(index + 1 < tasks.len());
        used += task_height(task);
        if used + rest > rows {
            return index;
        }
    }
    tasks.len()
}

/// Kind, item, state, progress, by the width alone, so that nothing jumps while tasks come and go. The item is cut
/// last, since it is what other commands take; progress, then the state shrink for it.
fn task_columns(width: usize) -> [usize; 4] {
    let room = width.saturating_sub(KIND_COLUMNS + 3 * GAP.len() + PERCENT_COLUMNS);
    let state = room.saturating_sub(ITEM_COLUMNS).clamp(8, STATE_COLUMNS);
    let item = ITEM_COLUMNS.min(room.saturating_sub(state));
    [KIND_COLUMNS, item, state, (room.saturating_sub(state + item) + PERCENT_COLUMNS).min(60)]
}

/// `keep-version`.
const KIND_COLUMNS: usize = 12;
/// A media id.
const ITEM_COLUMNS: usize = 36;
/// `fetching from the cloud`.
const STATE_COLUMNS: usize = 23;
/// `100 %`.
const PERCENT_COLUMNS: usize = 5;
/// `100 % of 999.9 MB`.
const PROGRESS_COLUMNS: usize = 17;
/// The same behind a bar of a few columns.
const PROGRESS_BAR_COLUMNS: usize = PROGRESS_COLUMNS + 9;

fn task_row(task: &TaskStatus, columns: &[usize; 4], theme: Theme) -> Line<'static> {
    let style = match task.state.as_str() {
        "parked" => theme.bad(),
        "retrying" => theme.look(),
        "waiting" => Style::new(),
        _ => theme.busy(),
    };
    let cells = [
        (theme.shown(&task.kind), Style::new()),
        (theme.shown(&task.item), Style::new()),
        (theme.shown(&task.state), style),
        (progress(task, columns[3], theme), Style::new()),
    ];
    row(&cells, columns, theme)
}

fn progress(task: &TaskStatus, columns: usize, theme: Theme) -> String {
    let Some(total) = task.total_bytes.filter(|total| *total > 0) else {
        return if task.done_bytes > 0 { size(task.done_bytes) } else { "-".to_owned() };
    };
    let percent = format!("{:>3} %", portion(task.done_bytes, total, 100));
    if columns < PROGRESS_COLUMNS {
        return percent;
    }
    let words = format!("{percent} of {}", size(total));
    if columns < PROGRESS_BAR_COLUMNS {
        return words;
    }
    let room = columns - PROGRESS_COLUMNS - 1;
    let done = portion(task.done_bytes, total, room);
    let set = theme.bar();
    format!("{}{} {words}", set.done.repeat(done), set.left.repeat(room.saturating_sub(done)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn the_parts_never_need_more_lines_than_there_are(height: u8, peers: u8, tasks: u16) -> bool {
            let height = usize::from(height).max(6);
            let shared = share(height, 2, 2 + usize::from(peers), 2 + usize::from(tasks));
            let used = 2 + shared.peers + shared.tasks
                + if shared.bytes { BYTES_HEIGHT } else { 0 } + if shared.gaps { 4 } else { 0 };
            used <= height && shared.peers >= 2 && shared.tasks >= 2
        }
    }

    #[test]
    fn the_bar_is_full_and_at_100_only_when_all_is_settled() {
        let theme = Theme::new(false, true);
        let bar = |settled, total| bar_line(&MediaCounts { settled, total, ..Default::default() }, 16, theme);
        assert_eq!(bar(999, 1000).to_string(), "#########.  99 %");
        assert_eq!(bar(1000, 1000).to_string(), "########## 100 %");
        assert_eq!(bar(u64::MAX - 1, u64::MAX).to_string(), "#########.  99 %");
    }

    #[test]
    fn no_number_is_cut_where_it_is_narrow() {
        let media = MediaCounts {
            settled: 1500,
            total: 20_000,
            uploading: 2,
            downloading: 280,
            missing: 3,
            ..Default::default()
        };
        let lines: Vec<_> =
            count_lines(&media, 40, Theme::new(false, true)).iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["items 1500 of 20000 settled,", "2 uploading, 280 downloading, 3 missing"]);
    }

    #[test]
    fn the_smallest_flow_is_seen_beside_the_largest() {
        let theme = Theme::new(false, true);
        assert_eq!(sparkline(&[0.0, 1.0, 5e8, 1e9, f64::from(u32::MAX) * 1e9], theme), " ...#");
        assert_eq!(sparkline(&[0.0, 0.0], theme), "  ");
    }

    #[test]
    fn a_table_that_does_not_fit_counts_what_it_left_out() {
        let theme = Theme::new(false, true);
        let failed = TaskStatus { error: Some("e".into()), ..Default::default() };
        let tasks = vec![failed.clone(), TaskStatus::default(), failed];
        for rows in 2..=6 {
            let lines = task_lines(&tasks, 80, rows, theme);
            let left_out = [(2, "+ 3 more"), (3, "+ 3 more"), (4, "+ 2 more"), (5, "+ 1 more")];
            let expected = left_out.iter().find(|(at, _)| *at == rows).map(|(_, words)| *words);
            let last = lines.last().unwrap().to_string();
            assert_eq!(last.starts_with('+').then_some(last.as_str()), expected, "{rows}");
            assert!(lines.len() <= rows);
        }
    }
}
