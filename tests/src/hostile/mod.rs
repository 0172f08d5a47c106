//! A peer that speaks the protocol and lies: a program of its own that shares no line with tcat's network code, so that
//! it can send any bytes at any moment, as a stranger or with the key of a client that was really admitted.
//!
//! `wire` is what `docs/handshake.md` says of connections, written a second time; `member` is a
//! member's side of a session. What is sent is up to the tests.

pub mod member;
pub mod scene;
pub mod wire;

pub use member::{Liar, Session};
pub use scene::Scene;
pub use wire::Connection;
