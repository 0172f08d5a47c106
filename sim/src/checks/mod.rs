//! The invariants, in words, and the book in which their checkers write what they found and how often they looked.
//!
//! Each checker is a function of its own in this folder: `catalog` (fences and revisions), `words` (what nodes say),
//! `files` (what becomes of files), `bounds`, and `rest` (the end of a run). A checker sees more than any node: the
//! true time, every deed, and both sides of every effect.

mod bounds;
mod catalog;
mod files;
mod folders;
mod members;
pub mod rest;
pub mod truth;
mod words;

pub use files::Before;

use serde::{Deserialize, Serialize};
use std::fmt;
use tcat_engine::ids::ItemId;

macro_rules! invariants {
    ($($id:ident, $words:literal;)*) => {
        /// What must hold. Safety always; liveness once faults have stopped for the core.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        pub enum Invariant {
            $(#[doc = $words] $id,)*
        }

        impl Invariant {
            /// All of them.
            pub const ALL: &'static [Invariant] = &[$(Invariant::$id,)*];

            /// The invariant in words.
            pub fn words(self) -> &'static str {
                match self { $(Invariant::$id => $words,)* }
            }

            /// Its name: `S1` to `S13`, `L1` to `L6`; `S0` is for an engine that stops.
            pub fn id(self) -> &'static str {
                match self { $(Invariant::$id => stringify!($id),)* }
            }
        }
    };
}

invariants! {
    S0, "no engine stops or panics, whatever its store, its folder or a member brings";
    S1, "no work is begun under a fence below one that is known to stand, none accepted below the highest accepted";
    S2, "fences strictly rise: no client stakes an epoch for a content again that it has used";
    S3, "what a node said to others, or acknowledged, is still there after it crashed";
    S4, "what a node has after a crash is a state that it had, never a mix of two";
    S5, "one deed has one effect in the catalog: no revision and no saved content is entered twice";
    S6, "what a node believes of the catalog's history did happen there";
    S7, "a file and an object hold exactly the content that the catalog says, whole and of one version";
    S8, "no edit is lost: what a person saved, and did not overwrite or delete himself, is found somewhere";
    S9, "what was removed for good does not come back";
    S10, "every removal, and every file in trash, can be traced to what a person did";
    S11, "who was retired, or was never a member, changes nothing";
    S12, "queues, tasks in hand, frames and outputs stay within their bounds";
    S13, "what a node passes on is, byte for byte, what its owner signed, unknown fields included";
    L1, "who claims work makes progress with it";
    L2, "nodes that can talk and have nothing left to do know the same, and their folders equal the catalog";
    L3, "at rest, nothing more is done, said or written";
    L4, "every item is settled in bounded time";
    L5, "what is only needed on the way is gone at rest: partial files and claims";
    L6, "what cannot be repaired is named to people";
}

impl Invariant {
    /// Whether it is about what must come to be, not about what must never be.
    pub fn is_liveness(self) -> bool {
        self >= Invariant::L1
    }

    fn number(self) -> usize {
        self as usize
    }

    /// The one with this name.
    pub fn named(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|invariant| invariant.id().eq_ignore_ascii_case(id))
    }

    /// What its checker waits for, if there is nothing yet that it could check.
    pub fn waits_for(self) -> Option<&'static str> {
        match self {
            Invariant::S11 => Some("plans with retirements: so far only the situations that `mutants` plays"),
            _ => None,
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id(), self.words())
    }
}

/// An invariant that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When, in the world's time.
    pub at_ms: u64,
    /// What was found, for people.
    pub text: String,
    /// The items concerned.
    pub items: Vec<ItemId>,
    /// The nodes concerned.
    pub nodes: Vec<usize>,
}

/// How often each invariant was checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts([u64; Invariant::ALL.len()]);

impl Counts {
    /// Of one.
    pub fn of(&self, invariant: Invariant) -> u64 {
        self.0[invariant.number()]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Counts) {
        self.0.iter_mut().zip(other.0).for_each(|(ours, theirs)| *ours += theirs);
    }

    /// Those that were never checked though there is something to check.
    pub fn unchecked(&self) -> Vec<Invariant> {
        let waits = |invariant: &Invariant| invariant.waits_for().is_some();
        let all = Invariant::ALL.iter().copied().filter(|invariant| !waits(invariant));
        // S0 is not looked for: it is met.
        all.filter(|invariant| *invariant != Invariant::S0 && self.of(*invariant) == 0).collect()
    }
}

/// The book of checks: what was checked how often, and the first violation of each invariant.
#[derive(Debug, Default)]
pub struct Book {
    /// How often each was checked.
    pub counts: Counts,
    /// What did not hold, each invariant once.
    pub violations: Vec<Violation>,
    /// A checker that never looks: the canary H3.
    pub off: Option<Invariant>,
    /// The run is over once this was violated.
    pub until: Option<Invariant>,
}

impl Book {
    /// Whether what was looked for is found.
    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| self.violations.iter().any(|known| known.invariant == until))
    }

    /// Writes down one check and, if it failed, what was found.
    pub fn check(&mut self, invariant: Invariant, holds: bool, found: impl FnOnce() -> Violation) {
        if self.off == Some(invariant) {
            return;
        }
        self.counts.0[invariant.number()] += 1;
        if !holds && !self.violations.iter().any(|known| known.invariant == invariant) {
            self.violations.push(Violation { invariant, ..found() });
        }
    }
}

/// A finding about some items at some nodes; the invariant is filled in by the book.
pub fn found(at_ms: u64, nodes: &[usize], items: &[ItemId], text: String) -> Violation {
    Violation { invariant: Invariant::S0, at_ms, text, items: items.to_vec(), nodes: nodes.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcat_engine::planted::Bug;

    #[test]
    fn every_planted_bug_names_an_invariant_of_ours() {
        for bug in Bug::ALL {
            assert!(Invariant::named(bug.invariant()).is_some(), "{}", bug.id());
        }
        for (number, invariant) in Invariant::ALL.iter().enumerate() {
            assert_eq!(invariant.number(), number);
        }
        assert!(Invariant::L1.is_liveness() && !Invariant::S13.is_liveness());
    }

    #[test]
    fn a_checker_that_is_off_is_noticed_by_its_count() {
        let mut book = Book { off: Some(Invariant::S8), ..Book::default() };
        book.check(Invariant::S8, false, || found(0, &[], &[], String::new()));
        book.check(Invariant::S7, true, || found(0, &[], &[], String::new()));
        assert!(book.violations.is_empty());
        let unchecked = book.counts.unchecked();
        assert!(unchecked.contains(&Invariant::S8) && !unchecked.contains(&Invariant::S7));
    }
}
