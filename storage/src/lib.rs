//! What tcat keeps: node database, catalog, object store, cache folder, and how it sees files change.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cache_folder;
pub mod catalog;
pub mod client_database;
pub mod database;
mod disk_clock;
pub mod hashing;
pub mod ignore_rules;
pub mod node_database;
pub mod objects;
pub mod platform;
mod rewritten;
pub mod scanner;
pub mod watcher;
