//! The admin TUI, `tcat tui`: one screen over the control API, for looking; it changes nothing.
//!
//! [`app`] is what is known, [`draw`] puts it on a terminal of any size, [`input`] reads keys, [`poll`] asks the
//! node on a thread of its own, and every screen has one file under [`screens`]. Holds always: drawing never waits
//! for the node; a node that stops, hangs or starts again is shown as such and asked on; the terminal is given back
//! as it was on quit, error and panic; no control character of a name reaches it; the terminal's own background
//! is kept. Left out so far: every screen but the overview.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod app;
pub mod draw;
mod help;
pub mod history;
pub mod input;
pub mod poll;
pub mod screens;
pub mod text;
pub mod theme;

#[cfg(test)]
mod drawn_tests;

use crate::app::{App, Problem};
use crate::input::Action;
use crate::poll::Poller;
use crate::theme::Theme;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tcat_api::files::{self, Presence};
use tcat_api::types::Status;
use tcat_api::{Client, ClientError};

/// Between two questions to the node.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long a turn waits for a key: so late an answer may be seen, and so old a shown age may be.
const TURN: Duration = Duration::from_millis(250);
/// Keys and resizes that are taken before the next drawing, so that a flood of them cannot keep the screen still.
const EVENTS_A_TURN_MAX: usize = 64;

/// What to show, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The home of the node.
    pub home: PathBuf,
    /// Which workgroup, where the home holds several.
    pub workgroup: Option<String>,
    /// Only ASCII characters.
    pub ascii: bool,
    /// Colours, unless the user wants none (`NO_COLOR`).
    pub color: bool,
    /// Set from outside (a signal), it ends the TUI as `q` does.
    pub stop: Arc<AtomicBool>,
}

/// Why the TUI cannot go on. The terminal has been given back.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    /// Input or output is no terminal.
    #[error("input and output must be a terminal")]
    NotATerminal,
    /// The terminal refuses.
    #[error("the terminal cannot be used ({0})")]
    Terminal(#[from] io::Error),
    /// The thread that asks the node cannot start, or ended.
    #[error("the thread that asks the node failed ({0})")]
    Worker(String),
}

impl TuiError {
    /// What a person does about it.
    pub fn what_to_do(&self) -> &'static str {
        match self {
            Self::NotATerminal => "use `tcat status --watch` or `tcat status --json`",
            Self::Terminal(_) => "try another terminal, or use `tcat status --watch`",
            Self::Worker(_) => "start it again, and report this as a bug if it stays",
        }
    }
}

/// Shows the overview until the user quits. Needs no running node.
pub fn run(options: &Options) -> Result<(), TuiError> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(TuiError::NotATerminal);
    }
    let (home, workgroup) = (options.home.clone(), options.workgroup.clone());
    let poller = Poller::start(POLL_INTERVAL, move || ask(&home, workgroup.as_deref()))
        .map_err(|error| TuiError::Worker(error.to_string()))?;
    let app = App::new(options.home.display().to_string(), Theme::new(options.color, options.ascii));
    let shown = ratatui::try_init()
        .map_err(TuiError::from)
        .and_then(|terminal| show(terminal, app, &poller, options));
    // Also where the terminal was only half taken.
    let restored = ratatui::try_restore();
    shown.and(restored.map_err(TuiError::from))
}

/// One question. It looks for the node anew each time: a node that was started again listens elsewhere, and the
/// token must never go to whoever has the old address now.
fn ask(home: &Path, workgroup: Option<&str>) -> Result<Status, Problem> {
    let answer = || {
        // `connect` would wait for a node that is starting; here, saying so is the answer.
        if matches!(files::presence(home)?, Presence::Starting) {
            return Err(ClientError::Starting(home.to_owned()));
        }
        Client::connect(home, workgroup)?.status()
    };
    answer().map_err(|error| Problem::of(&error))
}

/// Draws, and takes keys and answers, until the user quits. Dropping the terminal shows its cursor again.
fn show(
    mut terminal: DefaultTerminal,
    mut app: App,
    poller: &Poller<Status, Problem>,
    options: &Options,
) -> Result<(), TuiError> {
    let started = Instant::now();
    while !options.stop.load(Ordering::Relaxed) {
        terminal.draw(|frame| draw::draw(frame, &app, started.elapsed()))?;
        let mut wait = TURN;
        for _ in 0..EVENTS_A_TURN_MAX {
            if !event::poll(wait)? {
                break;
            }
            wait = Duration::ZERO;
            match input::action(&event::read()?, app.help) {
                Action::Quit => return Ok(()),
                Action::Refresh => {
                    // Also mends what other programs wrote over the screen.
                    terminal.clear()?;
                    poller.ask_now();
                }
                Action::Help(open) => app.help = open,
                Action::Nothing => {}
            }
        }
        while let Some(answer) = poller.take().map_err(|why| TuiError::Worker(why.to_string()))? {
            app.hear(answer, started.elapsed());
        }
    }
    Ok(())
}
