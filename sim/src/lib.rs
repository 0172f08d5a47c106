//! tcat's deterministic simulator: real engines in a world made of one seed.
//!
//! A seed is expanded to a [`plan`](plan::Plan): nodes, deeds of persons, faults with their times, and who is alive at
//! the end. The plan is played ([`run::run`]): events are ordered by (time, sequence), all chance comes from named
//! streams of our own generator, nothing reads a clock, and everything goes into one rolling hash. The same plan gives
//! the same run, byte for byte. Invariants are checked all along ([`checks`]).
//!
//! Left out: waiting fault classes ([`classes`]) and invariants whose rules the engine does not have yet; both say what
//! they wait for.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agenda;
pub mod catalog;
pub mod checks;
pub mod claim_world;
pub mod classes;
pub mod clock;
pub mod contents;
mod databases;
pub mod disk;
mod editors;
pub mod expand;
pub mod export;
pub mod faults;
pub mod file_system;
pub mod folder;
pub mod goals;
mod hash;
mod hosts;
pub mod lives;
mod looks;
mod machines;
mod node;
mod persons;
pub mod plan;
mod plan_nodes;
pub mod random;
pub mod run;
pub mod scanner;
pub mod shrink;
pub mod situations;
mod spells;
mod spells_catalog;
mod stepping;
pub mod store;
pub mod trace;
mod transfers;
pub mod verdict;
mod visitors;
mod workload;
pub mod world;
