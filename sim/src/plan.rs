//! A run as data: who is there, what persons do and when, what goes wrong and when, and who is alive at the end.
//!
//! A plan has all that a run depends on, the seed of its random streams included. It is made from a seed
//! (`expand`), printed and read as JSON, run (`run`), and made smaller (`shrink`).

use crate::clock::ClockPlan;
use crate::contents::TransferPlan;
use crate::disk::Trouble;
use crate::scanner::DiskClockPlan;
use crate::world::Weather;
use serde::{Deserialize, Serialize};

/// The version of the plan's form.
pub const PLAN_VERSION: u32 = 1;
/// The most nodes of a plan.
pub const NODES_MAX: usize = 64;
/// The most items of a plan.
pub const ITEMS_MAX: usize = 100_000;

/// The most uploads or downloads that a node may have under way.
pub const SLOTS_MAX: u64 = 64;

/// Everything that a run depends on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The seed of the random streams.
    pub seed: u64,
    /// What keeps the nodes' databases.
    pub fidelity: Fidelity,
    /// The workload family that the deeds are of, for people.
    pub workload: String,
    /// The classes of faults that this run may have, for people.
    pub classes: Vec<String>,
    /// The nodes.
    pub nodes: Vec<NodePlan>,
    /// What the network does all the time.
    pub weather: Weather,
    /// What happens, by time.
    pub items: Vec<Item>,
    /// When faults end for good, in milliseconds.
    pub calm_ms: u64,
    /// The nodes that stay dead when faults end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead: Vec<usize>,
    /// The nodes whose folders have no atomic exchange of two names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plain_roots: Vec<usize>,
    /// Whether faults may destroy the last copy of something that a person saved: then that must be told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unrecoverable: bool,
    /// The planted bug, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug: Option<String>,
    /// A defect of the simulator itself that must be noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// It is played in the small world of the claim rule, with this much of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<ClaimPlan>,
    /// Nodes that hear nobody, for good: the others must go on without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deaf: Vec<usize>,
    /// Of how many of a hundred files a burst of changes is held; without it, no burst is ever too much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brake_percent: Option<u64>,
    /// Nothing in this plan is a reason for two to fetch one content from the cloud beside each other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// What persons saved must be found in files and in the catalog's history: that it lies in a trash does not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// There is no server: this node keeps catalog and objects at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosted: Option<usize>,
    /// Contents have sizes of their own and take their time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfers: Option<TransferPlan>,
}

/// What a world of the claim rule alone has: contents that only the cloud has, and how they move.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimPlan {
    /// The numbers of the contents, one an item.
    pub contents: Vec<u64>,
    /// How long one takes from the cloud, in milliseconds.
    pub get_ms: u64,
    /// How long a transfer that is broken off goes on, in milliseconds.
    pub cancel_ms: u64,
}

/// What keeps the nodes' databases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fidelity {
    /// Memory.
    Light,
    /// The real storage on a simulated disk.
    Full,
}

/// Defects of the harness, to prove that it would notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Canary {
    /// H1: the order of a hash map leaks into the run.
    HashOrder,
    /// H2: every run fails.
    AlwaysFails,
    /// H3: the checker of lost edits never checks.
    CheckerOff,
}

/// One node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    /// Its clocks.
    #[serde(default)]
    pub clock: ClockPlan,
    /// The clock of its disk, if it is another than that which orders all changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_clock: Option<DiskClockPlan>,
    /// Its lease, in milliseconds.
    pub lease_ms: u64,
    /// How often it reads the catalog's feed.
    pub poll_ms: u64,
    /// How often it scans its folder.
    pub scan_interval_ms: u64,
    /// When it starts for the first time.
    #[serde(default)]
    pub starts_ms: u64,
    /// The node whose folder it shares; its own, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<usize>,
    /// The node whose key it has: it starts when that one is cloned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin_of: Option<usize>,
    /// A file that a person deletes there is deleted everywhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow_deletions: bool,
    /// How many uploads it may have under way; 4, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploads_max: Option<u64>,
    /// How many downloads; 8, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downloads_max: Option<u64>,
}

impl Default for NodePlan {
    fn default() -> Self {
        let clock = ClockPlan::default();
        let (home, twin_of, disk_clock, follow_deletions) = (None, None, None, false);
        let (uploads_max, downloads_max) = (None, None);
        let (lease_ms, poll_ms, scan_interval_ms, starts_ms) = (2_000, 500, 20_000, 0);
        Self {
            clock,
            disk_clock,
            lease_ms,
            poll_ms,
            scan_interval_ms,
            starts_ms,
            home,
            twin_of,
            follow_deletions,
            uploads_max,
            downloads_max,
        }
    }
}

/// One thing that happens at a time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// When, in milliseconds of the world's time.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// A person's deed, or a fault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A person does something at a node's files.
    Deed(Deed),
    /// Something goes wrong in a moment.
    Strike(Strike),
    /// Something is wrong for a time.
    Spell {
        /// For how long.
        for_ms: u64,
        /// What.
        fault: Spell,
    },
}

/// What persons do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// Saves a content that nobody ever saved, by its number.
    Save {
        /// At which node.
        node: usize,
        /// Where.
        path: String,
        /// The content's number.
        content: u64,
    },
    /// The same over an existing file, and the time of modification stays as it was.
    SaveKeepingTime {
        /// At which node.
        node: usize,
        /// Where.
        path: String,
        /// The content's number.
        content: u64,
    },
    /// Deletes a file.
    Delete {
        /// At which node.
        node: usize,
        /// Where.
        path: String,
    },
    /// Gives a file another, free name.
    Rename {
        /// At which node.
        node: usize,
        /// Where.
        path: String,
        /// The new name.
        to: String,
    },
    /// Files change their names in a circle: each gets the name of the next.
    Turn {
        /// At which node.
        node: usize,
        /// The names.
        paths: Vec<String>,
    },
    /// Removes the item with this path from the library for good.
    Remove {
        /// The path that the catalog assigned.
        path: String,
    },
    /// Deletes the item with this path everywhere, as it stands at a node.
    Kill {
        /// At which node.
        node: usize,
        /// The path that the catalog assigned.
        path: String,
    },
    /// Answers what a node's brake asks.
    AnswerBrake {
        /// At which node.
        node: usize,
        /// Whether the changes were meant.
        accept: bool,
    },
    /// The disk gives other bytes than were written.
    Rot {
        /// At which node.
        node: usize,
        /// Where.
        path: String,
        /// The content's number.
        content: u64,
    },
}

/// What goes wrong in a moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strike {
    /// A node dies and starts again.
    Crash {
        /// Which.
        node: usize,
        /// After how long it starts again.
        down_ms: u64,
        /// After how long the others notice: until then connections are half-open.
        noticed_ms: u64,
    },
    /// A node dies beside the n-th of its coming effects and starts again.
    CrashAtEffect {
        /// Which.
        node: usize,
        /// How many effects come before.
        skip: u64,
        /// Just before the effect is done, or just after.
        before: bool,
        /// After how long it starts again.
        down_ms: u64,
    },
    /// A node's process dies and its machine goes on: what it had written is there.
    Kill {
        /// Which.
        node: usize,
        /// After how long it starts again.
        down_ms: u64,
        /// After how long the others notice.
        noticed_ms: u64,
    },
    /// A node dies between two primitives of what it does in its folder, and starts again.
    DieBetweenSteps {
        /// Which.
        node: usize,
        /// How many primitives come before.
        skip: u64,
        /// Whether its process alone dies, and its machine goes on.
        kill: bool,
        /// After how long it starts again.
        down_ms: u64,
    },
    /// A person's program opens a file, and writes into it later whatever name it has by then, in trash too.
    OpenFile {
        /// At which node.
        node: usize,
        /// Where the file is now.
        path: String,
        /// The number of the content that it writes.
        content: u64,
        /// When it writes.
        after_ms: u64,
    },
    /// The disk under a node's database will once not do what it is asked to. In a light run the next commit fails
    /// instead, or, for a read error, the next read.
    Disk {
        /// Whose.
        node: usize,
        /// What it does.
        trouble: Trouble,
        /// After how many operations at which it could do this.
        passes: u64,
    },
    /// A node does nothing for a while, and then goes on as if nothing had happened. Its clocks count the time.
    Pause {
        /// Which.
        node: usize,
        /// For how long.
        for_ms: u64,
    },
    /// A node's wall clock is set.
    StepClock {
        /// Which.
        node: usize,
        /// By how much.
        by_ms: i64,
    },
    /// The clock of a node's disk is set, if it has one of its own.
    StepDiskClock {
        /// Which.
        node: usize,
        /// By how much.
        by_ms: i64,
    },
    /// Two nodes lose each other and meet again.
    Flap {
        /// One.
        a: usize,
        /// The other.
        b: usize,
        /// After how long they meet again.
        for_ms: u64,
    },
    /// A node's database is lost, its folder is not.
    Wipe {
        /// Which.
        node: usize,
        /// After how long it starts again.
        down_ms: u64,
    },
    /// A node's database is copied, to come back later.
    Snapshot {
        /// Which.
        node: usize,
    },
    /// The copied database comes back.
    Restore {
        /// Which.
        node: usize,
        /// After how long it starts again.
        down_ms: u64,
    },
    /// A backup of the catalog is made.
    BackUpCatalog,
    /// The catalog comes back from its backup, if there is one.
    RestoreCatalog,
    /// Another machine comes to life with the key and the database of one that runs.
    Clone {
        /// The node that is the other machine.
        twin: usize,
    },
    /// A person retires a member at a node: what it wrote beyond what that node knows does not count.
    Retire {
        /// Who is retired.
        node: usize,
        /// Where.
        at: usize,
    },
    /// A member of a later version comes to a node, says what it has written, and is gone.
    LaterVersion {
        /// Which.
        node: usize,
    },
    /// A person makes a node host, where there is no server; nothing happens if it is one, or does not run.
    Promote {
        /// Which.
        node: usize,
    },
    /// Elsewhere, an item's work was taken over so often that its epoch is this high now.
    TakenOver {
        /// The path that the catalog assigned.
        path: String,
        /// The epoch.
        epoch: u64,
    },
}

/// What is wrong for a time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spell {
    /// Messages of these do not arrive at those, one way.
    Cut {
        /// Senders.
        from: Vec<usize>,
        /// Receivers.
        to: Vec<usize>,
    },
    /// Messages from one to another wait until it is over.
    Clog {
        /// The sender.
        from: usize,
        /// The receiver.
        to: usize,
    },
    /// Messages are lost, doubled, late.
    Weather {
        /// Of this node alone, if one is named.
        node: Option<usize>,
        /// How.
        weather: Weather,
    },
    /// Some messages come once more, much later, also to a later life of the receiver.
    Replay {
        /// How many of a thousand.
        permille: u64,
        /// How much later at most.
        late_ms: u64,
    },
    /// Long frames do not arrive.
    ShortFrames {
        /// The longest that does, in bytes.
        bytes_max: usize,
    },
    /// Effects go wrong.
    Effects {
        /// Of which node.
        node: usize,
        /// Of which kind; of all kinds if none is named.
        site: Option<Site>,
        /// In which way.
        how: Mishap,
        /// How many of a thousand.
        permille: u64,
    },
    /// Effects take long.
    SlowEffects {
        /// Of which node.
        node: usize,
        /// How much longer at most.
        late_ms: u64,
    },
    /// The catalog and the objects cannot be reached.
    CatalogAway {
        /// From this node; from all if none is named.
        node: Option<usize>,
    },
    /// Nothing more can be written into a node's folder.
    DiskFull {
        /// Which.
        node: usize,
    },
    /// What a node does in its folder is done primitive by primitive, with time between them.
    SlowSteps {
        /// Which.
        node: usize,
        /// How long it may take to the next at most.
        late_ms: u64,
    },
    /// There is no room for a node's database: in a light run its next commit fails.
    DatabaseFull {
        /// Whose.
        node: usize,
    },
    /// A node's media folder is not there, and its storage says so.
    Unmounted {
        /// Which.
        node: usize,
    },
    /// Looks at a node's files take long.
    SlowLooks {
        /// Which.
        node: usize,
        /// How long at most.
        late_ms: u64,
    },
    /// A node's watcher misses what persons do.
    BlindWatcher {
        /// Which.
        node: usize,
    },
    /// Transfers from the cloud stand still at a node.
    Hang {
        /// Which.
        node: usize,
    },
    /// A person is at a file in the moment in which an effect is.
    Meddling {
        /// At which node.
        node: usize,
        /// At how many of a thousand effects.
        permille: u64,
    },
}

/// Kinds of effects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Site {
    /// Reading the catalog's feed.
    ReadFeed,
    /// Entering a new item.
    Create,
    /// Registering an object.
    Intend,
    /// Sending an object.
    Put,
    /// Committing.
    Commit,
    /// Getting an object.
    Get,
    /// Fetching from a member.
    Fetch,
    /// Looking in trash.
    Untrash,
    /// Copying a file that is in the folder already.
    Borrow,
    /// Placing a file.
    Publish,
    /// Moving to trash, aside, to another name.
    Move,
    /// Visiting the roster.
    VisitRoster,
    /// A step of a kill.
    Kill,
    /// Deleting an object.
    Delete,
    /// Saying that an object is missing or wrong.
    Unsound,
    /// Beginning a new epoch of the catalog.
    NewEpoch,
    /// Offering what a restored catalog has lost.
    Offer,
    /// Giving items other paths.
    Repath,
}

/// How an effect goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mishap {
    /// It is not done, and says so.
    Fails,
    /// It is done, and says that it failed.
    AnswerLost,
    /// It says that it failed, and is done later.
    AppliedLate,
    /// It says that the source gave other bytes; nothing is done.
    Corrupt,
    /// A reading of the feed says that it came to the head, and did not.
    Stale,
}

/// Why a text is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no plan that can be run: {0}")]
pub struct PlanError(pub String);

/// A network as it should be.
pub const FAIR: Weather = Weather { loss_permille: 0, twice_permille: 0, delay_ms_max: 5 };

impl Plan {
    /// A plan in which nothing happens yet, in fair weather.
    pub fn empty(seed: u64, workload: &str, nodes: Vec<NodePlan>) -> Self {
        Self {
            version: PLAN_VERSION,
            seed,
            fidelity: Fidelity::Light,
            workload: workload.into(),
            classes: Vec::new(),
            nodes,
            weather: FAIR,
            items: Vec::new(),
            calm_ms: 0,
            dead: Vec::new(),
            plain_roots: Vec::new(),
            unrecoverable: false,
            bug: None,
            canary: None,
            claims: None,
            deaf: Vec::new(),
            brake_percent: None,
            once: false,
            open: false,
            hosted: None,
            transfers: None,
        }
    }

    /// Reads a plan and checks it.
    pub fn read(text: &str) -> Result<Self, PlanError> {
        let plan: Self = serde_json::from_str(text).map_err(|why| PlanError(why.to_string()))?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan as text, an item a line.
    pub fn text(&self) -> String {
        let head = Plan { items: Vec::new(), ..self.clone() };
        let line = |item: &Item| serde_json::to_string(item).unwrap_or_default();
        let items =
            self.items.iter().map(|item| format!("    {}", line(item))).collect::<Vec<_>>().join(",\n");
        let head = serde_json::to_string_pretty(&head).unwrap_or_default();
        let items = if items.is_empty() { String::new() } else { format!("\n{items}\n  ") };
        head.replacen("\"items\": []", &format!("\"items\": [{items}]"), 1)
    }

    /// Whether it can be run.
    pub fn check(&self) -> Result<(), PlanError> {
        let wrong = |why: String| Err(PlanError(why));
        let nodes = self.nodes.len();
        if self.version != PLAN_VERSION {
            return wrong(format!("its version is {}; this program reads {PLAN_VERSION}", self.version));
        }
        if nodes == 0 || nodes > NODES_MAX || self.items.len() > ITEMS_MAX {
            return wrong(format!("1 to {NODES_MAX} nodes and up to {ITEMS_MAX} items are possible"));
        }
        if self.dead.len() + self.deaf.len() >= nodes {
            return wrong("nobody is left alive".into());
        }
        for (n, node) in self.nodes.iter().enumerate() {
            // Who shares a folder, or has another's key, names one that does neither.
            let named = node.home.into_iter().chain(node.twin_of);
            if named.into_iter().any(|of| {
                of == n || self.nodes.get(of).is_none_or(|of| of.home.is_some() || of.twin_of.is_some())
            }) {
                return wrong(format!("node {n} cannot be like a node that is itself like another"));
            }
        }
        let slots = self.nodes.iter().flat_map(|node| node.uploads_max.into_iter().chain(node.downloads_max));
        if slots.into_iter().any(|slots| slots == 0 || slots > SLOTS_MAX) {
            return wrong(format!("1 to {SLOTS_MAX} uploads and downloads are possible"));
        }
        if let Some(transfers) = &self.transfers {
            transfers.check()?;
        }
        let idle = self.dead.iter().chain(&self.deaf).chain(&self.plain_roots).chain(&self.hosted).copied();
        let named = self.items.iter().flat_map(|item| item.what.nodes()).chain(idle);
        match named.into_iter().find(|node| *node >= nodes) {
            Some(node) => wrong(format!("it has no node {node}; the first is 0")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expand::expand;

    #[test]
    fn a_plan_reads_back_as_it_prints() {
        for seed in 0..200 {
            let plan = expand(seed);
            assert_eq!(Plan::read(&plan.text()), Ok(plan.clone()), "{}", plan.text());
        }
    }

    #[test]
    fn a_plan_that_names_nobody_is_refused() {
        let mut plan = expand(1);
        plan.items.push(Item { at_ms: 5, what: What::Strike(Strike::Snapshot { node: 64 }) });
        assert!(plan.check().is_err());
        assert!(Plan::read("{}").is_err());
    }
}
