//! What is known: the node's last answer, what keeps it from answering now, and the last minute's bytes.
//!
//! Times are durations since the TUI started, handed in, so that every state can be tested.

use crate::history::History;
use crate::text;
use crate::theme::Theme;
use std::time::Duration;
use tcat_api::ClientError;
use tcat_api::types::Status;

/// A node that has neither answered nor failed for so long is shown as silent; a good one takes milliseconds.
const SILENCE: Duration = Duration::from_secs(3);

/// How the node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// It was asked the first time and has not answered yet.
    Asking,
    /// Nothing left to do.
    Settled,
    /// Something is left to do.
    Working,
    /// Nothing left to do, and no other member is live.
    Alone,
    /// The brake holds changes back until a person has decided.
    Held,
    /// No node runs in this home.
    NotRunning,
    /// A node is starting or stopping.
    Starting,
    /// A node runs and refuses to answer: it does not know our token, or has no such workgroup.
    Refused,
    /// A node runs and does not answer, or nothing that can be read.
    NoAnswer,
}

impl Health {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Settled => "settled",
            Self::Working => "working",
            Self::Alone => "alone",
            Self::Held => "held",
            Self::NotRunning => "not running",
            Self::Starting => "starting",
            Self::Refused => "refused",
            Self::NoAnswer => "no answer",
        }
    }

    /// What an answer says. What a person must decide comes first, then what is left to do.
    pub fn of(status: &Status) -> Self {
        match (status.brake, status.settled, status.peers.iter().any(|peer| peer.alive)) {
            (true, _, _) => Self::Held,
            (_, false, _) => Self::Working,
            (_, true, false) => Self::Alone,
            (_, true, true) => Self::Settled,
        }
    }
}

/// What keeps the node from answering.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// What it means for the node.
    pub health: Health,
    /// Why, in one line.
    pub why: String,
    /// What a person does about it, in one line.
    pub what_to_do: String,
}

impl Problem {
    /// As the API's client tells it.
    pub fn of(error: &ClientError) -> Self {
        let health = match error {
            ClientError::NoHome(_) | ClientError::NotRunning(_) => Health::NotRunning,
            ClientError::Starting(_) => Health::Starting,
            ClientError::Token(_) | ClientError::Refused(_) => Health::Refused,
            _ => Health::NoAnswer,
        };
        Self {
            health,
            why: text::one_line(&error.to_string()),
            what_to_do: text::one_line(&error.what_to_do()),
        }
    }
}

/// The last good answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What it said.
    pub status: Status,
    /// When it came.
    pub at: Duration,
}

/// All that is shown.
#[derive(Clone, Debug)]
pub struct App {
    /// The home, for as long as no node has told its name.
    pub home: String,
    /// Colours and characters.
    pub theme: Theme,
    /// Whether the help is shown.
    pub help: bool,
    answer: Option<Answer>,
    problem: Option<Problem>,
    history: History,
    heard_at: Duration,
}

impl App {
    /// Nothing known yet.
    pub fn new(home: String, theme: Theme) -> Self {
        Self {
            home,
            theme,
            help: false,
            answer: None,
            problem: None,
            history: History::default(),
            heard_at: Duration::ZERO,
        }
    }

    /// Takes an answer, or what came instead, at `now`. A problem leaves the last answer as the last known state.
    pub fn hear(&mut self, answer: Result<Status, Problem>, now: Duration) {
        self.heard_at = now;
        match answer {
            Ok(status) => {
                self.history.add(now, &status.bytes);
                self.answer = Some(Answer { status, at: now });
                self.problem = None;
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// The last good answer.
    pub fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref()
    }

    /// The last minute's bytes.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What keeps the node from answering at `now`; a question that goes unanswered is a problem too.
    pub fn problem(&self, now: Duration) -> Option<Problem> {
        let silence = now.saturating_sub(self.heard_at);
        if silence <= SILENCE {
            return self.problem.clone();
        }
        Some(Problem {
            health: Health::NoAnswer,
            why: format!("the node has been silent for {}", text::span(silence)),
            what_to_do: "look at the node's log, and restart it if it hangs".to_owned(),
        })
    }

    /// How the node is at `now`.
    pub fn health(&self, now: Duration) -> Health {
        match (self.problem(now), &self.answer) {
            (Some(problem), _) => problem.health,
            (None, Some(answer)) => Health::of(&answer.status),
            (None, None) => Health::Asking,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use tcat_api::types::PeerStatus;

    fn app() -> App {
        App::new("h".into(), Theme::new(false, true))
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_health_is_the_first_of_held_working_alone_settled_that_is_true() {
        let live = vec![PeerStatus { alive: true, ..Default::default() }];
        let away = vec![PeerStatus::default()];
        let of = |brake, settled, peers: &Vec<PeerStatus>| {
            Health::of(&Status { brake, settled, peers: peers.clone(), ..Default::default() }).word()
        };
        assert_eq!(of(false, true, &live), "settled");
        assert_eq!(of(false, true, &away), "alone");
        assert_eq!(of(false, true, &vec![]), "alone");
        assert_eq!(of(false, false, &away), "working");
        assert_eq!(of(true, true, &live), "held");
    }

    #[test]
    fn a_node_that_stops_leaves_its_last_state_and_one_that_comes_back_clears_the_problem() {
        let mut app = app();
        assert_eq!(app.health(s(0)), Health::Asking);
        app.hear(Ok(Status { settled: true, ..Default::default() }), s(1));
        assert_eq!(app.health(s(1)), Health::Alone);
        app.hear(Err(Problem::of(&ClientError::NotRunning(PathBuf::from("h")))), s(2));
        assert_eq!(app.health(s(2)), Health::NotRunning);
        assert_eq!(app.answer().unwrap().at, s(1));
        let problem = app.problem(s(2)).unwrap();
        assert_eq!(problem.why, "the node of h is not running");
        assert_eq!(problem.what_to_do, "start it with `tcat run`");
        app.hear(Ok(Status::default()), s(3));
        assert_eq!((app.problem(s(3)), app.health(s(3))), (None, Health::Working));
    }

    #[test]
    fn a_node_that_hangs_is_told_from_one_that_is_settled() {
        let mut app = app();
        app.hear(Ok(Status { settled: true, ..Default::default() }), s(1));
        assert_eq!(app.health(s(4)), Health::Alone);
        assert_eq!(app.health(s(5)), Health::NoAnswer);
        assert_eq!(app.problem(s(9)).unwrap().why, "the node has been silent for 8 s");
    }
}
