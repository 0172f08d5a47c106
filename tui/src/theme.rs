//! How things look: styles and characters, for dark and light backgrounds, without colour, and in plain ASCII.
//!
//! Holds always: no background is set and no colour is used that one of the two kinds of background swallows; no
//! colour says anything that a word does not say too; in ASCII, no other character is drawn.

use crate::app::Health;
use crate::text;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// The characters of bars: done, under way, left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BarSet {
    /// Done.
    pub done: &'static str,
    /// Under way.
    pub moving: &'static str,
    /// Left.
    pub left: &'static str,
}

/// The look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Theme {
    color: bool,
    ascii: bool,
}

impl Theme {
    /// With colours or without, with all of Unicode or in ASCII.
    pub const fn new(color: bool, ascii: bool) -> Self {
        Self { color, ascii }
    }

    /// `text` from anywhere as it may be shown: one line, no control characters, in ASCII `?` for what it lacks.
    pub fn shown(self, text: &str) -> String {
        text::clean(text, if self.ascii { '?' } else { '\u{fffd}' })
            .chars()
            .map(|c| if self.ascii && !c.is_ascii() { '?' } else { c })
            .collect()
    }

    /// What stands for text that was cut off.
    pub fn ellipsis(self) -> &'static str {
        if self.ascii { "..." } else { "…" }
    }

    /// The characters of bars.
    pub fn bar(self) -> BarSet {
        match self.ascii {
            true => BarSet { done: "#", moving: "+", left: "." },
            false => BarSet { done: "█", moving: "▒", left: "░" },
        }
    }

    /// The characters of sparklines, from nothing to the most.
    pub fn levels(self) -> &'static [char] {
        match self.ascii {
            true => &[' ', '.', ':', '-', '=', '+', '*', '#'],
            false => &[' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
        }
    }

    /// The characters of frames.
    pub fn border(self) -> border::Set<'static> {
        if self.ascii { ASCII_BORDER } else { border::PLAIN }
    }

    /// Headings and names.
    pub fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What matters less now.
    pub fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// All is well.
    pub fn good(self) -> Style {
        self.colored(Color::Green)
    }

    /// Something is under way.
    pub fn busy(self) -> Style {
        self.colored(Color::Cyan)
    }

    /// Worth a person's look. Magenta, since yellow cannot be read on white.
    pub fn look(self) -> Style {
        self.colored(Color::Magenta).add_modifier(Modifier::BOLD)
    }

    /// A person must act.
    pub fn bad(self) -> Style {
        self.colored(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// The style of a health's word.
    pub fn health(self, health: Health) -> Style {
        let style = match health {
            Health::Settled => self.good(),
            Health::Working | Health::Asking | Health::Starting => self.busy(),
            Health::Alone | Health::Held => self.look(),
            Health::NotRunning | Health::Refused | Health::NoAnswer => self.bad(),
        };
        style.add_modifier(Modifier::BOLD)
    }

    fn colored(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }
}
