//! `tcat members`: who belongs to the workgroup; `tcat members retire CLIENT`: ends a membership for good.

use super::Context;
use crate::output::{self, Failure, span, table};
use std::time::Duration;
use tcat_api::types::{MemberRow, Members};

/// The arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to do; nothing: list them
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// What can be done with members.
#[derive(clap::Subcommand, Debug)]
pub enum Action {
    /// End a membership for good: that client is refused from now on, and what it wrote later counts nowhere
    #[command(after_help = "A machine that is to come back joins anew, from a new home.\n\n\
                            Example:\n  tcat members retire ben")]
    Retire {
        /// The member, by name or by id
        #[arg(value_name = "CLIENT")]
        client: String,
    },
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    match &args.action {
        None => list(context),
        Some(Action::Retire { client }) => retire(context, client),
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    const WHAT: &str = "cannot list the members";
    let members = context.client(WHAT)?.members().map_err(|error| Failure::of_client(WHAT, &error))?;
    if context.global.json {
        return output::say_json(&members);
    }
    output::say(&rows(&members))
}

fn retire(context: &Context, client: &str) -> Result<(), Failure> {
    let what = format!("cannot retire {client:?}");
    let retired = context.client(&what)?.retire(client).map_err(|error| Failure::of_client(&what, &error))?;
    if context.global.json {
        return output::say_json(&retired);
    }
    let short = retired.id.get(..8).unwrap_or_default();
    output::say(&format!("{} ({short}) is retired: it is refused from now on", retired.name))
}

fn rows(members: &Members) -> String {
    let mut rows = vec![["member", "id", "state", "heard"].map(str::to_owned).to_vec()];
    for member in &members.members {
        let heard =
            member.last_contact_ms.map(|ms| span(Duration::from_millis(ms)) + " ago").unwrap_or_default();
        let id = member.id.get(..8).unwrap_or_default().to_owned();
        rows.push(vec![member.name.clone(), id, state(member).to_owned(), heard]);
    }
    table(&rows)
}

fn state(member: &MemberRow) -> &str {
    match member.standing.as_str() {
        "current" if member.me => "this node",
        "current" if member.alive => "live",
        "current" => "away",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_who_is_who_and_who_is_there() {
        let row = |name: &str, standing: &str| MemberRow {
            id: "b7".repeat(32),
            name: name.into(),
            standing: standing.into(),
            ..MemberRow::default()
        };
        let members = Members {
            members: vec![
                MemberRow { me: true, ..row("anna", "current") },
                MemberRow { alive: true, last_contact_ms: Some(800), ..row("ben", "current") },
                row("carl", "current"),
                row("dora", "absent"),
                row("eve", "retired"),
            ],
        };
        let text = rows(&members);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "member  id        state      heard",
                "anna    b7b7b7b7  this node",
                "ben     b7b7b7b7  live       800 ms ago",
                "carl    b7b7b7b7  away",
                "dora    b7b7b7b7  absent",
                "eve     b7b7b7b7  retired",
            ]
        );
    }
}
