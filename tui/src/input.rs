//! What a key means.

use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};

/// What the user wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Leave.
    Quit,
    /// Ask the node now and draw everything anew.
    Refresh,
    /// Show the help, or put it away.
    Help(bool),
    /// Nothing; a new size of the terminal too, since every turn draws to the size that it finds.
    Nothing,
}

/// What `event` asks for. While the help is shown, Escape closes it.
pub fn action(event: &Event, help_is_shown: bool) -> Action {
    // Windows also reports keys that are let go.
    let Event::Key(key) = event else { return Action::Nothing };
    if key.kind == KeyEventKind::Release {
        return Action::Nothing;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match (key.code, control) {
        (KeyCode::Char('q' | 'Q'), false) | (KeyCode::Char('c'), true) => Action::Quit,
        (KeyCode::Char('r' | 'R'), false) | (KeyCode::Char('l'), true) => Action::Refresh,
        (KeyCode::Char('?'), false) => Action::Help(!help_is_shown),
        (KeyCode::Esc, _) if help_is_shown => Action::Help(false),
        _ => Action::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::crossterm::event::KeyEvent;

    fn pressed(code: KeyCode, modifiers: KeyModifiers) -> Event {
        Event::Key(KeyEvent::new(code, modifiers))
    }

    #[test]
    fn the_keys_of_the_key_line_do_what_it_says() {
        let plain = |c| pressed(KeyCode::Char(c), KeyModifiers::NONE);
        assert_eq!(action(&plain('q'), false), Action::Quit);
        assert_eq!(action(&plain('q'), true), Action::Quit);
        assert_eq!(action(&plain('r'), false), Action::Refresh);
        assert_eq!(action(&plain('?'), false), Action::Help(true));
        assert_eq!(action(&plain('?'), true), Action::Help(false));
        assert_eq!(action(&plain('x'), false), Action::Nothing);
    }

    #[test]
    fn ctrl_c_quits_in_raw_mode_too_and_escape_only_closes_the_help() {
        assert_eq!(action(&pressed(KeyCode::Char('c'), KeyModifiers::CONTROL), false), Action::Quit);
        assert_eq!(action(&pressed(KeyCode::Esc, KeyModifiers::NONE), true), Action::Help(false));
        assert_eq!(action(&pressed(KeyCode::Esc, KeyModifiers::NONE), false), Action::Nothing);
    }

    #[test]
    fn a_key_that_is_let_go_and_a_resize_ask_for_nothing() {
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(action(&Event::Key(released), false), Action::Nothing);
        assert_eq!(action(&Event::Resize(1, 1), false), Action::Nothing);
    }
}
