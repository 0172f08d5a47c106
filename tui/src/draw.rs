//! One drawing of everything: title, what is wrong, the screen, key line, and the help above it.
//!
//! Holds always: any state at any size is drawn without a panic; below the smallest useful size it says so and shows
//! the health all the same.

use crate::app::App;
use crate::theme::Theme;
use crate::{help, screens, text};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use std::time::Duration;

/// The smallest terminal that the screens fit in.
pub const WIDTH_MIN: u16 = 40;
/// The smallest terminal that the screens fit in.
pub const HEIGHT_MIN: u16 = 12;
/// So many lines for what is wrong.
const NOTICE_LINES_MAX: usize = 4;
/// So much of a client id tells it from others.
const ID_SHOWN: usize = 8;

/// Draws `app` as it is at `now`.
pub fn draw(frame: &mut Frame<'_>, app: &App, now: Duration) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        frame.render_widget(Paragraph::new(too_small(area, app, now)), area);
        return;
    }
    let notice = notice(app, now, usize::from(area.width));
    let notice_height = u16::try_from(notice.len()).unwrap_or(0);
    let title = Rect { height: 1, ..area };
    let wrong = Rect { y: area.y + 1, height: notice_height, ..area };
    let keys = Rect { y: area.bottom().saturating_sub(1), height: 1, ..area };
    let body = Rect {
        y: wrong.bottom(),
        height: area.height.saturating_sub(2).saturating_sub(notice_height),
        ..area
    };
    frame.render_widget(title_line(app, now, usize::from(area.width)), title);
    frame.render_widget(Paragraph::new(notice), wrong);
    screens::overview::draw(frame, body, app, now);
    frame.render_widget(key_line(app.theme), keys);
    if app.help {
        let between = Rect { y: wrong.y, height: area.height.saturating_sub(2), ..area };
        help::draw(frame, between, app.theme);
    }
}

fn too_small(area: Rect, app: &App, now: Duration) -> Vec<Line<'static>> {
    let health = app.health(now);
    vec![
        Line::styled(health.word(), app.theme.health(health)),
        Line::raw("terminal too small"),
        Line::raw(format!("{}x{}, needs {WIDTH_MIN}x{HEIGHT_MIN}", area.width, area.height)),
        Line::raw("q quit"),
    ]
}

/// Who this is, and at the right how it is.
fn title_line(app: &App, now: Duration, width: usize) -> Line<'static> {
    let theme = app.theme;
    let health = app.health(now);
    let who = match app.answer() {
        Some(answer) => {
            let (client, workgroup) = (&answer.status.client, &answer.status.workgroup);
            let id: String = client.id.chars().take(ID_SHOWN).collect();
            format!("tcat  {} ({id}) in {}", client.name, workgroup.name)
        }
        None => format!("tcat  {}", app.home),
    };
    let room = width.saturating_sub(health.word().len() + 2);
    let who = text::pad(&theme.shown(&who), room, theme.ellipsis());
    Line::from(vec![
        Span::styled(who, theme.heading()),
        Span::raw("  "),
        Span::styled(health.word(), theme.health(health)),
    ])
}

/// What is wrong, why, and what to do; empty if nothing is.
fn notice(app: &App, now: Duration, width: usize) -> Vec<Line<'static>> {
    let (words, style) = match (app.problem(now), app.answer()) {
        (Some(problem), answer) => {
            let below = match answer {
                Some(answer) => {
                    let age = text::span(now.saturating_sub(answer.at));
                    format!("Still trying. Below: how things stood {age} ago.")
                }
                None => "Still trying.".to_owned(),
            };
            (format!("{}; {}. {below}", problem.why, problem.what_to_do), app.theme.bad())
        }
        (None, Some(answer)) if answer.status.brake => {
            ("The brake holds changes back until a person has decided.".to_owned(), app.theme.look())
        }
        (None, _) => return Vec::new(),
    };
    text::wrap(&app.theme.shown(&words), width, NOTICE_LINES_MAX, app.theme.ellipsis())
        .into_iter()
        .map(|line| Line::styled(line, style))
        .collect()
}

fn key_line(theme: Theme) -> Line<'static> {
    let key = |key: &'static str| Span::styled(key, theme.heading());
    let word = |word: &'static str| Span::styled(word, Style::new());
    Line::from(vec![key("q"), word(" quit   "), key("r"), word(" refresh   "), key("?"), word(" help")])
}
