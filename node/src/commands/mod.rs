//! The commands, one file each: each reads its arguments, does its work or asks the running node, and prints.

pub mod brake;
pub mod delete;
pub mod demo;
pub mod init;
pub mod invite;
pub mod join;
pub mod members;
pub mod promote;
pub mod run;
pub mod scan;
mod setup;
pub mod show;
pub mod status;
pub mod tui;
mod undo;
pub mod wait;

use crate::cli::Global;
use crate::home::Home;
use crate::output::Failure;
use tcat_api::Client;

/// What every command needs to know.
#[derive(Clone, Debug)]
pub struct Context {
    /// The options for every command.
    pub global: Global,
    /// The home that they name.
    pub home: Home,
}

impl Context {
    /// Finds the home; nothing is made or read yet.
    pub fn new(global: Global) -> Result<Self, Failure> {
        let home =
            Home::resolve(global.home.as_deref()).map_err(|error| error.failing("cannot find a home"))?;
        Ok(Self { global, home })
    }

    /// A connection to the running node, for a command that does `what`.
    pub fn client(&self, what: &str) -> Result<Client, Failure> {
        Client::connect(self.home.root(), self.global.workgroup.as_deref())
            .map_err(|error| Failure::of_client(what, &error))
    }
}

/// Runs one question to the network or a store, for a command that has no runtime of its own.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new("cannot start", error, "free some memory and try again"))?;
    Ok(runtime.block_on(work))
}

/// How to call `tcat COMMAND` for the same home.
fn command_line(context: &Context, command: &str) -> String {
    match &context.global.home {
        Some(home) => format!("tcat --home {} {command}", shell_quoted(&home.display().to_string())),
        None => format!("tcat {command}"),
    }
}

fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-:~".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
