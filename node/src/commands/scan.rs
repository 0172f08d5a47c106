//! `tcat scan`: lets the running node scan its whole media folder, and tells what it saw.

use super::Context;
use crate::output::{self, Failure, clean, size, span};
use std::time::Duration;
use tcat_api::types::ScanAnswer;

/// Runs the command.
pub fn run(context: &Context) -> Result<(), Failure> {
    const WHAT: &str = "cannot scan";
    let answer = context.client(WHAT)?.scan().map_err(|error| Failure::of_client(WHAT, &error))?;
    if context.global.json {
        return output::say_json(&answer);
    }
    output::say(&report(&answer))
}

fn report(answer: &ScanAnswer) -> String {
    let mut lines = vec![format!(
        "{} files, {} read ({}), in {}",
        answer.files,
        answer.hashed,
        size(answer.hashed_bytes),
        span(Duration::from_millis(answer.took_ms))
    )];
    if answer.busy > 0 {
        lines.push(format!("being written, to be looked at again: {}", answer.busy));
    }
    if answer.absent > 0 {
        lines.push(format!("known, but not there: {}", answer.absent));
    }
    for note in &answer.unreadable {
        lines.push(format!("not readable: {}: {}", clean(&note.path), clean(&note.why)));
    }
    if answer.left_out > 0 {
        lines.push(format!("not readable, and not listed: {} more", answer.left_out));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcat_api::types::UnreadableNote;

    #[test]
    fn what_could_not_be_read_is_named() {
        let note = UnreadableNote { path: "a/pipe".into(), why: "it is a FIFO".into() };
        let answer = ScanAnswer {
            files: 2,
            hashed: 1,
            hashed_bytes: 1500,
            unreadable: vec![note],
            ..Default::default()
        };
        assert_eq!(report(&answer), "2 files, 1 read (1.5 kB), in 0 ms\nnot readable: a/pipe: it is a FIFO");
    }
}
