//! `tcat promote`: makes the running node host, so that it keeps the catalog and the objects for the workgroup.

use super::Context;
use crate::output::{self, Failure, clean};
use tcat_api::types::PromoteAnswer;

/// Runs the command.
pub fn run(context: &Context) -> Result<(), Failure> {
    const WHAT: &str = "cannot make this node host";
    let answer = context.client(WHAT)?.promote().map_err(|error| Failure::of_client(WHAT, &error))?;
    if context.global.json {
        return output::say_json(&answer);
    }
    output::say(&line(&answer))
}

fn line(answer: &PromoteAnswer) -> String {
    let before = match (&answer.host_before, answer.handed_over) {
        (Some(name), true) => format!("{} was host and hands over", clean(name)),
        (Some(name), false) => {
            format!("{} was host and is out of reach; it gives back what it has when it returns", clean(name))
        }
        (None, _) => "no host was known before".to_owned(),
    };
    format!(
        "This node is host from now on ({before}).\n\
         Members give it what they know; contents are uploaded to it again (see `tcat wait`)."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_whether_the_host_before_hands_over() {
        let mut answer = PromoteAnswer { epoch: 2, host_before: Some("anna".to_owned()), handed_over: true };
        assert!(line(&answer).contains("anna was host and hands over"));
        answer.handed_over = false;
        assert!(line(&answer).contains("anna was host and is out of reach"));
        answer.host_before = None;
        assert!(line(&answer).contains("no host was known before"));
    }
}
