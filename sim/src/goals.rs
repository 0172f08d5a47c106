//! What should happen sometimes: if many runs never meet one of these, the plans have become too tame.

use std::collections::BTreeMap;
use tcat_engine::catalog::{Committed, Created, Refusal};
use tcat_engine::ports::{Effect, Event, Outcome};

/// The names of all goals.
pub const GOALS: [&str; 51] = [
    "answer-adopted",
    "answer-changed",
    "answer-corrupt",
    "answer-create-renumbered",
    "answer-edited-at-publish",
    "answer-missing",
    "answer-no-room",
    "answer-occupied",
    "answer-refused-revision",
    "catalog-away",
    "catalog-back",
    "claim-ahead-withdrawn",
    "claim-renewed-by-progress",
    "conflict",
    "crash-beside-commit",
    "crash-beside-create",
    "crash-beside-fetch",
    "crash-beside-get",
    "crash-beside-intend",
    "crash-beside-move",
    "crash-beside-publish",
    "crash-beside-put",
    "crash-between-steps",
    "digest-known",
    "disk-clock-set",
    "download-waited-for-slot",
    "failing",
    "fetched-from-cloud",
    "fetched-from-member",
    "fork-given-back",
    "host-demoted",
    "hosts-tied",
    "imported",
    "kept-by-recovery",
    "kept-from-trash",
    "new-incarnation",
    "parked",
    "renamed",
    "restored",
    "scan-failed",
    "stepped",
    "transfer-broken-off",
    "transfer-outlasted-lease",
    "transfer-resumed",
    "transfer-stood-still",
    "transfer-taken-over",
    "trashed",
    "two-hosts",
    "unreadable",
    "upload-waited-for-slot",
    "uploaded",
];

/// The names of those that only a run with real databases can meet.
pub const FULL_GOALS: [&str; 3] = ["commit-in-doubt-kept", "commit-in-doubt-lost", "database-failed"];

/// How often each goal was met.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Goals(BTreeMap<&'static str, u64>);

impl Goals {
    pub(crate) fn met(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// How often one was met.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Goals) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// Those of [`FULL_GOALS`] that were never met.
    pub fn unmet_by_full(&self) -> Vec<&'static str> {
        FULL_GOALS.iter().copied().filter(|name| self.of(name) == 0).collect()
    }

    /// Those never met.
    pub fn unmet(&self) -> Vec<&'static str> {
        GOALS.iter().copied().filter(|name| self.of(name) == 0).collect()
    }

    pub(crate) fn event(&mut self, event: &Event) {
        self.met(match event {
            Event::Imported(..) => "imported",
            Event::Uploaded(..) => "uploaded",
            Event::FetchedFrom(..) => "fetched-from-member",
            Event::FetchedFromCloud(..) => "fetched-from-cloud",
            Event::Restored(..) => "restored",
            Event::Conflict(..) => "conflict",
            Event::Trashed(..) => "trashed",
            Event::Renamed(..) => "renamed",
            Event::Unreadable(..) => "unreadable",
            Event::Failing(..) => "failing",
            Event::Parked(..) => "parked",
            Event::NewIncarnation => "new-incarnation",
            Event::CatalogAway(_) => "catalog-away",
            Event::CatalogBack => "catalog-back",
            Event::ScanFailed(_) => "scan-failed",
            _ => return,
        });
    }

    pub(crate) fn outcome(&mut self, outcome: &Outcome) {
        self.met(match outcome {
            Outcome::Created(Created::Adopted(_)) => "answer-adopted",
            Outcome::Created(Created::Row(row)) if row.cache_path.as_str() != row.virtual_path => {
                "answer-create-renumbered"
            }
            Outcome::Committed(Committed::Refused { why: Refusal::Revision, .. }) => {
                "answer-refused-revision"
            }
            Outcome::Edited { .. } => "answer-edited-at-publish",
            Outcome::Changed => "answer-changed",
            Outcome::Missing => "answer-missing",
            Outcome::Occupied => "answer-occupied",
            Outcome::Corrupt => "answer-corrupt",
            Outcome::NoRoom(_) => "answer-no-room",
            _ => return,
        });
    }

    pub(crate) fn crash_beside(&mut self, effect: &Effect) {
        self.met(match effect {
            Effect::Create(_) => "crash-beside-create",
            Effect::Intend(_) => "crash-beside-intend",
            Effect::Put { .. } => "crash-beside-put",
            Effect::Commit(_) => "crash-beside-commit",
            Effect::Get { .. } => "crash-beside-get",
            Effect::Fetch { .. } => "crash-beside-fetch",
            Effect::Publish(_) => "crash-beside-publish",
            Effect::Trash { .. } | Effect::SetAside { .. } | Effect::Move { .. } => "crash-beside-move",
            _ => return,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_in_order_and_each_is_met_by_its_event() {
        assert!(GOALS.is_sorted());
        let mut goals = Goals::default();
        assert_eq!(goals.unmet().len(), GOALS.len());
        goals.event(&Event::NewIncarnation);
        assert!(!goals.unmet().contains(&"new-incarnation"));
        assert_eq!(goals.of("new-incarnation"), 1);
    }
}
