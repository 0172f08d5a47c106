//! The command line: what can be asked, and how a mistake in it is told.
//!
//! Every mistake ends with exit status 2 and one line; every failure with exit status 1 (3: not settled) and
//! one line. Global options may stand before or after the command.

use crate::commands::{self, Context};
use crate::output::{self, Exit, Failure};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// tcat keeps one shared media library equal on every workstation of a team.
///
/// Each workstation runs one node (`tcat run`). Nodes of one workgroup find each other on the local network
/// and keep their media folders equal to the catalog: each new content crosses the internet once, everything
/// else moves over the local network, and no edit is ever lost.
#[derive(Parser, Debug)]
#[command(name = "tcat", version, arg_required_else_help = true, after_help = START_HELP)]
pub struct Cli {
    /// Options for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const START_HELP: &str = "\
Start with:
  tcat init --media ~/Pictures/library     make a workgroup with this folder
  tcat run                                 start the node
  tcat invite                              print a code for the next machine
and there:
  tcat join CODE --media ~/library         become a member with a folder of its own
  tcat run";

/// Options for every command, before or after it.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// The node's home; without it, `tcat` in this user's data folder
    #[arg(
        long,
        value_name = "DIR",
        env = "TCAT_HOME",
        hide_env_values = true,
        global = true,
        help_heading = "Global options"
    )]
    pub home: Option<PathBuf>,
    /// Answer in JSON, with stable field names
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Use this network interface only (repeatable)
    #[arg(long, value_name = "NAME", global = true, help_heading = "Global options")]
    pub interface: Vec<String>,
    /// Which workgroup, where the home holds several
    #[arg(long, value_name = "NAME", global = true, help_heading = "Global options")]
    pub workgroup: Option<String>,
    /// Log more (-vv: everything); TCAT_LOG chooses in detail
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = "Global options")]
    pub verbose: u8,
}

/// What can be asked.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a new workgroup, with this machine as its first member
    #[command(after_help = "Example:\n  tcat init --media ~/Pictures/library --workgroup films --name anna")]
    Init(commands::init::Args),
    /// Print a one-time code with which another machine joins
    #[command(
        after_help = "The last line is the code alone, valid for 15 minutes; the node must be running.\n\n\
                            Example:\n  code=$(tcat invite | tail -n 1)"
    )]
    Invite,
    /// Become a member of a workgroup
    #[command(after_help = "Example:\n  tcat join 417-canyon-velvet-orbit --media ~/library --name ben")]
    Join(commands::join::Args),
    /// Show who belongs to the workgroup, or retire somebody
    #[command(after_help = "Example:\n  tcat members\n  tcat members retire ben")]
    Members(commands::members::Args),
    /// Make this node host: it keeps the catalog and the objects for the workgroup
    #[command(after_help = "The host before gives way, now or when it returns; nothing is lost by it.\n\n\
                            Example:\n  tcat promote && tcat wait")]
    Promote,
    /// Run the node, until it is stopped
    #[command(after_help = "Ctrl-C or SIGTERM stop it cleanly.\n\nExample:\n  tcat run --home /srv/tcat")]
    Run,
    /// Show how things stand
    #[command(after_help = "Example:\n  tcat status --watch\n  tcat status --json | jq .media")]
    Status(commands::status::Args),
    /// Watch this node on one screen
    #[command(after_help = "NO_COLOR turns colours off.\n\nExample:\n  tcat tui\n  tcat tui --ascii")]
    Tui(commands::tui::Args),
    /// Wait until nothing is left to settle
    #[command(after_help = "Exit status 3: not settled in the time given.\n\n\
                            Example:\n  tcat wait --timeout 5m && echo all equal")]
    Wait(commands::wait::Args),
    /// Scan the whole media folder now
    #[command(after_help = "Example:\n  tcat scan")]
    Scan,
    /// Say what is to become of a burst of changes that is held back
    #[command(after_help = "Without an answer it shows what is held.\n\n\
                            Example:\n  tcat brake\n  tcat brake refuse && tcat wait")]
    Brake(commands::brake::Args),
    /// Show one item: its catalog row, its import, and who holds it
    #[command(after_help = "Example:\n  tcat show 2024/sea/IMG_0001.jpg\n  tcat show --json ITEM-ID")]
    Show(commands::show::Args),
    /// Delete an item everywhere: its files go to trash, its object and its row go
    #[command(after_help = "If somebody changes the item before that is done, it stays.\n\n\
                            Example:\n  tcat delete 2024/sea/IMG_0001.jpg")]
    Delete(commands::delete::Args),
    /// Play the whole story on this machine, with files and nodes of its own, and verify it
    #[command(
        after_help = "Nothing leaves this machine. Exit status 0 only if all was found as it should be.\n\n\
                            Example:\n  tcat demo\n  tcat demo --media ~/Pictures/sea --keep"
    )]
    Demo(commands::demo::Args),
}

/// Reads the command line, does what it says, and tells what went wrong in one line.
pub fn main() -> ExitCode {
    match Cli::try_parse_from(std::env::args_os()) {
        Ok(cli) => finish(run(cli)),
        Err(error) => refuse(&error),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let context = Context::new(cli.global)?;
    match cli.command {
        Command::Init(args) => commands::init::run(&context, &args),
        Command::Invite => commands::invite::run(&context),
        Command::Join(args) => commands::join::run(&context, &args),
        Command::Members(args) => commands::members::run(&context, &args),
        Command::Promote => commands::promote::run(&context),
        Command::Run => commands::run::run(&context, crate::runtime::start),
        Command::Status(args) => commands::status::run(&context, &args),
        Command::Tui(args) => commands::tui::run(&context, &args),
        Command::Wait(args) => commands::wait::run(&context, &args),
        Command::Scan => commands::scan::run(&context),
        Command::Brake(args) => commands::brake::run(&context, &args),
        Command::Show(args) => commands::show::run(&context, &args),
        Command::Delete(args) => commands::delete::run(&context, &args),
        Command::Demo(args) => commands::demo::run(&args),
    }
}

fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::warn(&format!("tcat: {failure}"));
            failure.exit.into()
        }
    }
}

/// Help and version go to the standard output; a mistake is one line.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage.into()
        }
        _ => {
            let words: Vec<String> =
                std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
            output::warn(&format!("tcat: {}", usage_line(&error.render().to_string(), &words)));
            Exit::Usage.into()
        }
    }
}

/// clap's several lines in one: what is wrong, its tips, and where help is.
fn usage_line(rendered: &str, words: &[String]) -> String {
    let known = Cli::command();
    let command = words.iter().skip(1).find(|word| known.find_subcommand(word).is_some());
    let mut parts = Vec::new();
    let mut tips = Vec::new();
    for line in rendered.lines().map(str::trim) {
        if line.starts_with("Usage: ") || line.starts_with("For more information") {
            break;
        }
        match line.strip_prefix("tip: ") {
            Some(tip) => tips.push(tip),
            None => parts.push(line.strip_prefix("error: ").unwrap_or(line)),
        }
    }
    tips.push("see");
    let help = command.map_or("tcat --help".to_owned(), |command| format!("tcat {command} --help"));
    output::one_line(&format!("{}; {} `{help}`", parts.join(" ").trim(), tips.join(", ")))
}

/// Reads a span of time: `500ms`, `60s`, `2m`, `1h`; a bare number counts seconds. At most a day.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let bad = || "not a time such as 500ms, 60s, 2m or 1h".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    match number.checked_mul(unit_ms) {
        Some(ms) if ms <= tcat_api::types::WAIT_MS_MAX => Ok(Duration::from_millis(ms)),
        _ => Err("more than a day (24h)".to_owned()),
    }
}

/// Reads the command line as if it were typed; for tests.
pub fn parse<I: IntoIterator<Item = T>, T: Into<OsString> + Clone>(words: I) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        let before = ["tcat", "--home", "h", "--json", "--interface", "lo", "--workgroup", "w", "scan"];
        let after = ["tcat", "scan", "--home", "h", "--json", "--interface", "lo", "--workgroup", "w"];
        for words in [before, after] {
            let cli = parse(words).unwrap();
            assert_eq!(cli.global.home, Some(PathBuf::from("h")));
            assert!(cli.global.json);
            assert_eq!(cli.global.interface, ["lo"]);
            assert_eq!(cli.global.workgroup.as_deref(), Some("w"));
        }
        let both = parse(["tcat", "run", "--interface", "a", "--interface", "b"]).unwrap();
        assert_eq!(both.global.interface, ["a", "b"]);
    }

    #[test]
    fn spans_of_time_are_read_or_refused() {
        for (text, ms) in [("60s", 60_000), ("2m", 120_000), ("500ms", 500), ("7", 7000), ("24h", 86_400_000)]
        {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in
            ["", "s", "1.5s", "-1s", "60 s", "25h", "1d", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_one_line_that_says_where_help_is() {
        for (words, expected) in [
            (vec!["tcat", "init"], "--media <DIR>; see `tcat init --help`"),
            (vec!["tcat", "run", "--hme", "x"], "unexpected argument '--hme' found"),
            (vec!["tcat", "frob"], "unrecognized subcommand 'frob'"),
            (vec!["tcat", "wait", "--timeout", "soon"], "1h; see `tcat wait --help`"),
        ] {
            let typed: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let line = usage_line(&parse(words).unwrap_err().render().to_string(), &typed);
            assert!(line.contains(expected) && line.contains("--help`") && !line.contains('\n'), "{line}");
        }
    }
}
