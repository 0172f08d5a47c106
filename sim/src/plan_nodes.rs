//! Which nodes the items of a plan name.

use crate::plan::{Deed, Spell, Strike, What};

impl What {
    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<usize> {
        match self {
            What::Deed(deed) => deed.node().into_iter().collect(),
            What::Strike(strike) => strike.nodes(),
            What::Spell { fault, .. } => fault.nodes(),
        }
    }
}

impl Deed {
    /// Where it is done.
    pub fn node(&self) -> Option<usize> {
        match self {
            Deed::Save { node, .. }
            | Deed::SaveKeepingTime { node, .. }
            | Deed::Delete { node, .. }
            | Deed::Rename { node, .. }
            | Deed::Turn { node, .. }
            | Deed::Kill { node, .. }
            | Deed::AnswerBrake { node, .. }
            | Deed::Rot { node, .. } => Some(*node),
            Deed::Remove { .. } => None,
        }
    }
}

impl Strike {
    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<usize> {
        match self {
            Strike::Flap { a, b, .. } => vec![*a, *b],
            Strike::Retire { node, at } => vec![*node, *at],
            Strike::Clone { twin } => vec![*twin],
            Strike::BackUpCatalog | Strike::RestoreCatalog | Strike::TakenOver { .. } => vec![],
            Strike::Crash { node, .. }
            | Strike::CrashAtEffect { node, .. }
            | Strike::Kill { node, .. }
            | Strike::DieBetweenSteps { node, .. }
            | Strike::OpenFile { node, .. }
            | Strike::Disk { node, .. }
            | Strike::Pause { node, .. }
            | Strike::StepClock { node, .. }
            | Strike::StepDiskClock { node, .. }
            | Strike::Wipe { node, .. }
            | Strike::Snapshot { node }
            | Strike::Promote { node }
            | Strike::LaterVersion { node }
            | Strike::Restore { node, .. } => vec![*node],
        }
    }
}

impl Spell {
    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<usize> {
        match self {
            Spell::Cut { from, to } => from.iter().chain(to).copied().collect(),
            Spell::Clog { from, to } => vec![*from, *to],
            Spell::Weather { node, .. } | Spell::CatalogAway { node } => node.iter().copied().collect(),
            Spell::Replay { .. } | Spell::ShortFrames { .. } => vec![],
            Spell::Effects { node, .. }
            | Spell::SlowEffects { node, .. }
            | Spell::DiskFull { node }
            | Spell::Unmounted { node }
            | Spell::SlowLooks { node, .. }
            | Spell::BlindWatcher { node }
            | Spell::Hang { node }
            | Spell::DatabaseFull { node }
            | Spell::SlowSteps { node, .. }
            | Spell::Meddling { node, .. } => vec![*node],
        }
    }
}
