//! `tcat brake`: shows what the brake holds, and takes a person's answer to it.

use super::Context;
use crate::output::{self, Failure};
use tcat_api::types::{BrakeAnswer, BrakeStatus};

/// The arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What is to become of the changes
    #[arg(value_enum)]
    pub answer: Option<Answer>,
}

/// What a person says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Answer {
    /// They are meant: go on
    Accept,
    /// They are not: bring everything back, and keep what was changed beside it
    Refuse,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    const WHAT: &str = "cannot ask the brake";
    let answer = args.answer.map(|answer| match answer {
        Answer::Accept => BrakeAnswer::Accept,
        Answer::Refuse => BrakeAnswer::Refuse,
    });
    let status = context.client(WHAT)?.brake(answer).map_err(|error| Failure::of_client(WHAT, &error))?;
    if context.global.json {
        return output::say_json(&status);
    }
    output::say(&report(&status, answer))
}

fn report(status: &BrakeStatus, answer: Option<BrakeAnswer>) -> String {
    let counts = [
        (status.deleted, "deleted"),
        (status.rewritten, "rewritten"),
        (status.renamed, "given another extension"),
        (status.new_files, "new"),
    ];
    let counts: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let held =
        if counts.is_empty() { "no files".to_owned() } else { format!("files: {}", counts.join(", ")) };
    match answer {
        _ if counts.is_empty() && !status.on => match status.undoing {
            0 => "the brake holds nothing".to_owned(),
            undoing => format!("the brake holds nothing; {undoing} refused changes are being undone"),
        },
        None => format!(
            "held back, {held}\n`tcat brake accept` if that is meant, `tcat brake refuse` to bring everything back"
        ),
        Some(BrakeAnswer::Accept) => format!("accepted, {held}"),
        Some(BrakeAnswer::Refuse) => {
            format!("refused, {held}; everything is brought back, and what was changed is kept beside it")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_what_is_held_and_what_to_say() {
        let held = BrakeStatus { on: true, deleted: 700, rewritten: 3, ..BrakeStatus::default() };
        let text = report(&held, None);
        assert!(text.starts_with("held back, files: 700 deleted, 3 rewritten\n"), "{text}");
        assert!(text.contains("tcat brake accept") && text.contains("tcat brake refuse"), "{text}");
        let answered = BrakeStatus { on: false, ..held };
        assert_eq!(report(&answered, Some(BrakeAnswer::Accept)), "accepted, files: 700 deleted, 3 rewritten");
        assert!(report(&answered, Some(BrakeAnswer::Refuse)).starts_with("refused, files: 700 deleted"));
        assert_eq!(report(&BrakeStatus::default(), Some(BrakeAnswer::Accept)), "the brake holds nothing");
    }
}
