//! tcat's deterministic simulator: real engines in a world made of one seed.
//!
//! Same seed, same run: events are ordered by (time, sequence), all chance comes from one generator of our own, and
//! nothing reads a clock. So far the world has a lossy network that reorders and splits, crashes, effects that fail or
//! lose their answers, persons who meddle with files in the worst moment, and models of the catalog, the object store
//! and the cache folders; `docs/architecture.md` says what is still to come.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod catalog;
pub mod claim_world;
pub mod disk;
pub mod faults;
pub mod file_system;
pub mod folder;
pub mod lives;
mod machines;
pub mod random;
pub mod store;
pub mod verdict;
pub mod world;
