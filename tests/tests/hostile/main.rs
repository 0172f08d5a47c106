//! Hostility: strangers, lying members and whoever may write in the media folder, against real nodes on loopback.
//! Promised in all of them: who lies is named, counted and dropped; honest members go on within seconds; no memory
//! grows; no file outside the media folder is touched.
#![allow(clippy::unwrap_used)]

mod contents;
mod frames;
mod host;
mod ledgers;
#[cfg(unix)]
mod local;
mod strangers;
