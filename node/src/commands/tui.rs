//! `tcat tui`: the node on one screen (package `tcat-tui`), until the user quits or a signal asks it to end.

use super::Context;
use crate::output::Failure;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tcat_tui::Options;

const WHAT: &str = "cannot show the screen";

/// The arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
}

/// Runs the command. The node need not run: the screen says so and waits for it.
pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    if context.global.json {
        return Err(Failure::usage(
            WHAT,
            "a screen cannot be JSON",
            "use `tcat status --json`, with --watch to follow",
        ));
    }
    let options = Options {
        home: context.home.root().to_owned(),
        workgroup: context.global.workgroup.clone(),
        ascii: args.ascii,
        color: color_is_wanted(std::env::var_os("NO_COLOR").as_deref()),
        stop: stop_on_signal()?,
    };
    tcat_tui::run(&options).map_err(|error| Failure::new(WHAT, &error, error.what_to_do()))
}

/// The rule of no-color.org: any value but an empty one turns colours off.
fn color_is_wanted(no_color: Option<&std::ffi::OsStr>) -> bool {
    no_color.is_none_or(|value| value.is_empty())
}

/// Becomes true at SIGTERM or a SIGINT from outside, so that they too give the terminal back. Ctrl-C is a key here.
#[cfg(unix)]
fn stop_on_signal() -> Result<Arc<AtomicBool>, Failure> {
    use std::sync::atomic::Ordering;
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Failure::new(WHAT, error, "free some memory and try again");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let listening = {
        let _runtime = runtime.enter();
        signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::interrupt())?)))
    };
    let (mut terminate, mut interrupt) = listening.map_err(failed)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        stopping.store(true, Ordering::Relaxed);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(failed)?;
    Ok(stop)
}

/// Nothing to listen to: Ctrl-C is a key here.
#[cfg(not(unix))]
fn stop_on_signal() -> Result<Arc<AtomicBool>, Failure> {
    Ok(Arc::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_no_color_but_an_empty_one_turns_colours_off() {
        assert!(color_is_wanted(None));
        assert!(color_is_wanted(Some("".as_ref())));
        assert!(!color_is_wanted(Some("0".as_ref())));
    }
}
