//! `tcat invite`: asks the running node for a one-time code. The last line printed is the code alone.

use super::Context;
use crate::output::{self, Failure};

/// Runs the command.
pub fn run(context: &Context) -> Result<(), Failure> {
    const WHAT: &str = "cannot invite";
    let invite = context.client(WHAT)?.invite().map_err(|error| Failure::of_client(WHAT, &error))?;
    if context.global.json {
        return output::say_json(&invite);
    }
    output::say(&format!(
        "Valid once, until {}. On the other machine: tcat join CODE --media DIR",
        invite.expires
    ))?;
    output::say(&invite.code)
}
