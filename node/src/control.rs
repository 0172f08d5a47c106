//! What the control API asks of a running node: the boundary between `api_server` and the runtime.
//!
//! One [`Control`] stands for one workgroup. Every question may be dropped before it is answered (the asker
//! went away, the node stops) and must leave nothing undone by that.

use async_trait::async_trait;
use std::time::Duration;
use tcat_api::types::{
    BrakeAnswer, BrakeStatus, DeleteAnswer, Invite, Members, PromoteAnswer, RetireAnswer, ScanAnswer, Show,
    Status, WaitAnswer,
};

/// The running node, as its control API sees it.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// How things stand now.
    async fn status(&self) -> Result<Status, ControlError>;

    /// Full scan, feed read to its head, reachable members asked; returns when all are idle with equal
    /// vectors, or after `timeout` with what is not.
    async fn wait(&self, timeout: Duration) -> Result<WaitAnswer, ControlError>;

    /// Scans the whole media folder and returns when it is done.
    async fn scan(&self) -> Result<ScanAnswer, ControlError>;

    /// What the brake holds; `answer` is what a person says to it.
    async fn brake(&self, answer: Option<BrakeAnswer>) -> Result<BrakeStatus, ControlError>;

    /// One item, by media id or by path in the media folder.
    async fn show(&self, what: &str) -> Result<Show, ControlError>;

    /// Has an item deleted everywhere, by media id or by path, as it stands now; answers its id at once.
    async fn delete(&self, what: &str) -> Result<DeleteAnswer, ControlError>;

    /// A new one-time code, valid for 15 minutes.
    async fn invite(&self) -> Result<Invite, ControlError>;

    /// Everybody in the roster.
    async fn members(&self) -> Result<Members, ControlError>;

    /// Retires a member, by name or by id: what it wrote counts as far as this node has it. The first retirement
    /// stands.
    async fn retire(&self, client: &str) -> Result<RetireAnswer, ControlError>;

    /// Makes this node host: from then on it keeps the catalog and the objects.
    async fn promote(&self) -> Result<PromoteAnswer, ControlError>;
}

/// Why the node cannot do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no such thing.
    #[error("{what}")]
    NotFound {
        /// What is not there.
        what: String,
        /// What to do.
        what_to_do: String,
    },
    /// It failed.
    #[error("{why}")]
    Failed {
        /// What failed and why.
        why: String,
        /// What to do.
        what_to_do: String,
    },
}

impl ControlError {
    /// What to do about it.
    pub fn what_to_do(&self) -> &str {
        match self {
            Self::NotFound { what_to_do, .. } | Self::Failed { what_to_do, .. } => what_to_do,
        }
    }
}
