//! tcat's control API: what a running node tells and is told, as JSON over HTTP on loopback.
//!
//! [`types`] holds the bodies, [`client`] speaks to the node of a home, [`files`] are the two files in a home
//! by which a client finds its node and proves that it may speak. The server is the node's
//! (`node/src/api_server.rs`).
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod client;
pub mod files;
pub mod types;

pub use client::{Client, ClientError};
