//! What the end-to-end tests share: nodes as real processes in temporary homes, and judges that trust none of them.
//!
//! Holds always: nodes listen on loopback alone and find each other by static peers; nothing is announced; no process
//! outlives its [`Laboratory`], however the test ends; every wait has a limit. A helper that cannot do its work panics
//! with what failed and with the node's log.
#![allow(clippy::unwrap_used)]

pub mod contents;
pub mod final_names;
pub mod hostile;
pub mod lab;
pub mod laboratory;
pub mod node;

pub use contents::Random;
pub use final_names::FinalNames;
pub use laboratory::{Laboratory, program};
pub use node::{Answer, Node};
