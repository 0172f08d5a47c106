//! tcat's protocol as a pure state machine: no I/O, clock, thread or randomness of its own.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod batch;
pub mod catalog;
pub mod catalog_orders;
pub mod catalog_rules;
pub mod claims;
pub mod clock;
pub mod codec;
pub mod content;
pub mod engine;
pub mod entry;
pub mod heads;
pub mod hosts;
pub mod ids;
pub mod lines;
pub mod message;
pub mod observation;
pub mod outboard;
pub mod paths;
pub mod planted;
pub mod ports;
pub mod publishing;
pub mod roster;
pub mod settle;
pub mod sorted;
pub mod stamps;
pub mod store;
pub mod transaction;
