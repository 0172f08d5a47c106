//! `tcat-sim`: the simulator's command line. `tcat-sim help` lists what it does.
//!
//! Exit statuses: 0 all is well; 2 usage; 10 a safety invariant was violated; 11 a liveness invariant; 12 two runs of
//! one plan differed; 13 a planted bug or a canary was missed; 14 a goal was never met.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
