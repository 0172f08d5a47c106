//! Situations that the protocol's rules were written against, each as a family of plans: from a seed to a short plan in
//! which a certain interleaving is likely, with the chances of time and place that the seed gives.
//!
//! The plans of `expand` have everything at once and meet a given interleaving rarely; `mutants` looks for a planted bug
//! in the situation that shows it first. Without a bug every situation must pass, like every other plan.

mod catalog;
mod claims;
mod hosts;
mod ledgers;
mod lines;

use crate::plan::{Deed, Item, NodePlan, Plan, Spell, Strike, What};
use crate::random::Random;
use tcat_engine::planted::Bug;

/// A family of plans.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens in it.
    pub what: &'static str,
    /// The planted bugs that it shows.
    pub bugs: &'static [Bug],
    build: fn(&mut Draft),
}

/// All of them.
pub const SITUATIONS: &[Situation] = &[
    Situation {
        name: "crashes-while-claiming",
        what: "nodes crash again and again while the cloud is away",
        bugs: &[Bug::EpochInMemory],
        build: claims::crashes,
    },
    Situation {
        name: "holder-cut-off",
        what: "who fetches is cut off from all for longer than its lease",
        bugs: &[Bug::NoDriftMargin, Bug::LowerEpochWins],
        build: claims::cut_off,
    },
    Situation {
        name: "holder-cut-off-and-set-back",
        what: "the same, and somebody sets its wall clock back",
        bugs: &[Bug::ExpiryByWallClock],
        build: claims::cut_off_and_set_back,
    },
    Situation {
        name: "words-late",
        what: "words come so late that two begin at once",
        bugs: &[Bug::LateRenewal],
        build: claims::words_late,
    },
    Situation {
        name: "words-overtake",
        what: "claims are given up and made again, and words overtake each other",
        bugs: &[Bug::OldReleaseFrees],
        build: claims::words_overtake,
    },
    Situation {
        name: "cloud-away",
        what: "every transfer fails for a while",
        bugs: &[Bug::UnboundedRetries],
        build: claims::cloud_away,
    },
    Situation {
        name: "transfers-hang",
        what: "the transfers of one node stand still",
        bugs: &[Bug::HungTask],
        build: claims::hang,
    },
    Situation {
        name: "epoch-left-over",
        what: "an item whose last content was taken over often is edited",
        bugs: &[Bug::LeftoverEpoch],
        build: claims::leftover,
    },
    Situation {
        name: "catalog-restored",
        what: "the catalog comes back from a backup, and its numbers are used again while members are away",
        bugs: &[Bug::RestoredCatalogWins, Bug::FeedNumberAgain, Bug::OfferedOutOfOrder],
        build: catalog::restored,
    },
    Situation {
        name: "answers-lost",
        what: "an author saves again and again, and answers do not come",
        bugs: &[
            Bug::TimeoutIsFailure,
            Bug::TimeoutIsSuccess,
            Bug::SourceNotRechecked,
            Bug::LostAnswerThenSave,
        ],
        build: catalog::answers_lost,
    },
    Situation {
        name: "killed-while-away",
        what: "items are deleted while a node is away, and it may lose its database over its files",
        bugs: &[Bug::WipedRevives, Bug::CollectorPauses, Bug::DeletedComesBack],
        build: catalog::killed_while_away,
    },
    Situation {
        name: "new-item-taken-over",
        what: "who brings a new item falls silent, another takes over, and a late commit arrives",
        bugs: &[Bug::NoFence],
        build: catalog::taken_over,
    },
    Situation {
        name: "database-restored",
        what: "a node's database comes back from earlier, and it works on before it meets anybody",
        bugs: &[Bug::EpochReused],
        build: ledgers::restored,
    },
    Situation {
        name: "database-lost",
        what: "a node's database is new, and its key is not",
        bugs: &[Bug::LowVector],
        build: ledgers::wiped,
    },
    Situation {
        name: "retired-while-writing",
        what: "a member is retired while it writes",
        bugs: &[Bug::RetiredAccepted, Bug::RetirementRace],
        build: ledgers::retired_while_writing,
    },
    Situation {
        name: "retired-for-good",
        what: "a member that is retired never comes back, and items are removed",
        bugs: &[Bug::RetiredCounted],
        build: ledgers::retired_for_good,
    },
    Situation {
        name: "removed-while-away",
        what: "items are removed while a member is away for long",
        bugs: &[Bug::TombstoneTooEarly],
        build: ledgers::removed_while_away,
    },
    Situation {
        name: "members-in-a-line",
        what: "two hear each other only through a third, and a fourth brings work",
        bugs: &[Bug::NoRelay],
        build: ledgers::line,
    },
    Situation {
        name: "deaf-member",
        what: "a member hears nobody, for good",
        bugs: &[Bug::DeafThief],
        build: ledgers::deaf,
    },
    Situation {
        name: "one-key-twice",
        what: "a machine is cloned, and persons work at both",
        bugs: &[Bug::ClonesUnnoticed],
        build: ledgers::cloned,
    },
    Situation {
        name: "later-version",
        what: "a member of a later version has written fields that nobody here knows",
        bugs: &[Bug::FieldLostInRelay],
        build: ledgers::later_version,
    },
    Situation {
        name: "marks-and-deviations",
        what: "a member cannot take what marks pass",
        bugs: &[Bug::MarkTooEarly],
        build: ledgers::marks,
    },
    Situation {
        name: "edits-cross",
        what: "several persons edit few files while the catalog comes and goes",
        bugs: &[Bug::CrossedEdits, Bug::PrefixOverLine],
        build: lines::edits_cross,
    },
    Situation {
        name: "shared-folder-lags",
        what: "two share a folder, and one of them does not hear of the catalog",
        bugs: &[Bug::LaggingFeedShared],
        build: lines::shared_folder,
    },
    Situation {
        name: "two-files-one-name",
        what: "two persons save two files under one name before they hear of each other",
        bugs: &[Bug::TwoItemsOnePath],
        build: lines::two_files_one_name,
    },
    Situation {
        name: "names-swapped",
        what: "files change their names in circles",
        bugs: &[Bug::SwapWaits],
        build: lines::names_swapped,
    },
    Situation {
        name: "folder-unmounted",
        what: "a media folder is not there for a while, also over a restart",
        bugs: &[Bug::UnmountIsDeletion],
        build: lines::unmounted,
    },
    Situation {
        name: "files-taken-hostage",
        what: "a program rewrites and renames every file of a node",
        bugs: &[Bug::NoBrake],
        build: lines::hostage,
    },
    Situation {
        name: "two-hosts",
        what: "two members are promoted at once on the two sides of a cut, and persons work at both",
        bugs: &[Bug::TwoHosts],
        build: hosts::two,
    },
    Situation {
        name: "host-returns",
        what: "the host is gone, another is promoted, and it comes back",
        bugs: &[],
        build: hosts::returns,
    },
    Situation {
        name: "disk-clock-apart",
        what: "the clock of a folder's disk is not that of its node, and one of the two is set",
        bugs: &[Bug::AgeByWallClock],
        build: lines::disk_clock,
    },
];

/// The situation that shows a bug, if there is one for it.
pub fn of_bug(bug: Bug) -> Option<&'static Situation> {
    SITUATIONS.iter().find(|situation| situation.bugs.contains(&bug))
}

/// The situation with this name.
pub fn named(name: &str) -> Option<&'static Situation> {
    SITUATIONS.iter().find(|situation| situation.name == name)
}

impl Situation {
    /// The plan of a seed.
    pub fn plan(&self, seed: u64) -> Plan {
        let mut draft = Draft::new(seed, self.name);
        (self.build)(&mut draft);
        draft.finish()
    }
}

/// A plan that is being written, with its chances.
struct Draft {
    plan: Plan,
    random: Random,
    /// The number of the last content that somebody saves.
    content: u64,
}

impl Draft {
    fn new(seed: u64, name: &str) -> Self {
        let plan = Plan::empty(seed, name, Vec::new());
        Self { plan, random: Random::named(seed, name, 2), content: 1_000 }
    }

    fn nodes(&mut self, count: usize) {
        self.plan.nodes = vec![NodePlan::default(); count];
    }

    fn chance(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn node(&mut self) -> usize {
        let nodes = self.plan.nodes.len() as u64;
        self.chance(nodes) as usize
    }

    fn add(&mut self, at_ms: u64, what: What) {
        self.plan.items.push(Item { at_ms, what });
    }

    fn deed(&mut self, at_ms: u64, deed: Deed) {
        self.add(at_ms, What::Deed(deed));
    }

    fn strike(&mut self, at_ms: u64, strike: Strike) {
        self.add(at_ms, What::Strike(strike));
    }

    fn spell(&mut self, at_ms: u64, for_ms: u64, fault: Spell) {
        self.add(at_ms, What::Spell { for_ms, fault });
    }

    /// Somebody saves a new content; returns its number.
    fn save(&mut self, at_ms: u64, node: usize, path: &str) -> u64 {
        self.content += 1;
        let content = self.content;
        self.deed(at_ms, Deed::Save { node, path: path.into(), content });
        content
    }

    fn crash(&mut self, at_ms: u64, node: usize, down_ms: u64) {
        self.strike(at_ms, Strike::Crash { node, down_ms, noticed_ms: 0 });
    }

    /// Nothing passes between some and others, either way.
    fn cut(&mut self, at_ms: u64, for_ms: u64, some: &[usize], others: &[usize]) {
        let (some, others) = (some.to_vec(), others.to_vec());
        self.spell(at_ms, for_ms, Spell::Cut { from: some.clone(), to: others.clone() });
        self.spell(at_ms, for_ms, Spell::Cut { from: others, to: some });
    }

    /// All nodes but one.
    fn others(&self, node: usize) -> Vec<usize> {
        (0..self.plan.nodes.len()).filter(|other| *other != node).collect()
    }

    fn finish(mut self) -> Plan {
        self.plan.items.sort_by_key(|item| item.at_ms);
        let last_ms = self.plan.items.iter().map(|item| item.at_ms).max().unwrap_or(0);
        self.plan.calm_ms = self.plan.calm_ms.max(last_ms + 1_000);
        self.plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_seed_has_a_plan_in_every_situation_and_always_the_same() {
        for situation in SITUATIONS {
            for seed in 0..50 {
                let plan = situation.plan(seed);
                assert_eq!(plan.check(), Ok(()), "{}", situation.name);
                assert_eq!(plan, situation.plan(seed));
                assert_eq!(Plan::read(&plan.text()), Ok(plan));
            }
        }
    }

    #[test]
    fn no_two_situations_have_one_name_or_one_bug() {
        let names: BTreeSet<_> = SITUATIONS.iter().map(|situation| situation.name).collect();
        assert_eq!(names.len(), SITUATIONS.len());
        let bugs: Vec<_> = SITUATIONS.iter().flat_map(|situation| situation.bugs).collect();
        assert_eq!(bugs.iter().collect::<BTreeSet<_>>().len(), bugs.len());
    }
}
