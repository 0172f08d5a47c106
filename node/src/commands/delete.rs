//! `tcat delete`: has the running node remove one item everywhere, into trash.

use super::Context;
use crate::output::{self, Failure};

/// The arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The item's id, or its path in the media folder
    #[arg(value_name = "ITEM")]
    pub item: String,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let what = format!("cannot delete {:?}", args.item);
    let answer =
        context.client(&what)?.delete(&args.item).map_err(|error| Failure::of_client(&what, &error))?;
    if context.global.json {
        return output::say_json(&answer);
    }
    output::say(&format!(
        "{} is being deleted everywhere; its files go to trash (see `tcat wait`)",
        answer.item
    ))
}
