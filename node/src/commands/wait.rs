//! `tcat wait`: waits until nothing is left to settle. What needs a person is printed, and does not hold it.

use super::Context;
use crate::output::{self, Failure, clean, one_line, span};
use std::time::Duration;
use tcat_api::types::WaitAnswer;

/// The arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long at most: 500ms, 60s, 2m, 1h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = crate::cli::parse_span)]
    pub timeout: Duration,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    const WHAT: &str = "cannot wait";
    let answer =
        context.client(WHAT)?.wait(args.timeout).map_err(|error| Failure::of_client(WHAT, &error))?;
    if context.global.json {
        output::say_json(&answer)?;
    } else {
        output::say(&report(&answer))?;
    }
    if answer.settled {
        return Ok(());
    }
    let why = match answer.unfinished.first() {
        Some(first) => {
            let others = answer.unfinished.len() - 1;
            let more = if others > 0 { format!(" and {others} more") } else { String::new() };
            format!("still {}{more}", one_line(first))
        }
        None => "members still differ".to_owned(),
    };
    let what = format!("not settled within {}", span(args.timeout));
    Err(Failure::not_settled(what, why, "wait longer with --timeout, or look with `tcat status`"))
}

fn report(answer: &WaitAnswer) -> String {
    let mut lines = Vec::new();
    for conflict in &answer.conflicts {
        lines.push(format!(
            "conflict: {}, the other kept as {}",
            clean(&conflict.path),
            clean(&conflict.kept_as)
        ));
    }
    for task in &answer.parked {
        let why = task.error.as_deref().unwrap_or("no reason kept");
        lines.push(format!("parked: {} of {}: {}", clean(&task.kind), clean(&task.item), one_line(why)));
    }
    for name in &answer.absent {
        lines.push(format!("absent: {}", clean(name)));
    }
    for line in &answer.unfinished {
        lines.push(format!("unfinished: {}", one_line(line)));
    }
    if answer.left_out > 0 {
        lines.push(format!("and {} more lines", answer.left_out));
    }
    let settled = if answer.settled { "settled" } else { "not settled" };
    lines.push(format!("{settled} after {}", span(Duration::from_millis(answer.waited_ms))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcat_api::types::{ConflictNote, TaskStatus};

    #[test]
    fn conflicts_parked_tasks_and_absent_members_are_printed() {
        let conflict =
            ConflictNote { item: "1".into(), path: "a.jpg".into(), kept_as: "a (ben 1).jpg".into() };
        let parked = TaskStatus {
            kind: "upload".into(),
            item: "2".into(),
            error: Some("disk full".into()),
            ..Default::default()
        };
        let answer = WaitAnswer {
            settled: true,
            waited_ms: 1500,
            conflicts: vec![conflict],
            parked: vec![parked],
            absent: vec!["carl".into()],
            ..Default::default()
        };
        assert_eq!(
            report(&answer),
            "conflict: a.jpg, the other kept as a (ben 1).jpg\n\
             parked: upload of 2: disk full\n\
             absent: carl\n\
             settled after 1 s"
        );
    }
}
