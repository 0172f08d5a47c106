//! `tcat demo`: the whole story on one machine, verified at the end. The story itself is in [`crate::demo`].

use crate::demo::{self, Options};
use crate::output::Failure;
use std::path::PathBuf;

/// The arguments of `tcat demo`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How many nodes take part (2 to 8)
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub nodes: u8,
    /// Show the files of this folder, which is only read, in place of painted pictures
    #[arg(long, value_name = "DIR")]
    pub media: Option<PathBuf>,
    /// Keep the demo's folder, with all homes and media folders
    #[arg(long)]
    pub keep: bool,
}

/// Plays the demo.
pub fn run(args: &Args) -> Result<(), Failure> {
    demo::run(&Options { nodes: args.nodes, media: args.media.clone(), keep: args.keep })
}
