//! The `tcat` program: the headless node and its command line.
//!
//! A library so that its parts can be tested and measured one by one; `main.rs` only calls [`cli::main`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api_server;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod demo;
pub mod home;
mod host;
pub mod invitations;
pub mod logging;
pub mod naming;
pub mod output;
mod refusals;
pub mod runtime;
pub mod settings;
pub mod ticket;
