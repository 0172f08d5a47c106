//! The classes of faults: which there are, what each is, and which of them strike in situations alone, or not yet.
//!
//! A waiting class is counted and off: whoever builds what it waits for sets it to [`ClassState::On`].

use crate::plan::Fidelity;

/// Whether a class can strike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClassState {
    /// It can.
    On,
    /// It can where nodes keep their databases on a disk.
    Full,
    /// It strikes in this situation alone, which has around it what it needs; not among all the others at random.
    Situation(&'static str),
    /// It does not strike yet: what it waits for.
    Waits(&'static str),
}

/// A class of faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    /// Its name in plans.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Whether it can strike.
    pub state: ClassState,
}

const fn on(name: &'static str, what: &'static str) -> Class {
    Class { name, what, state: ClassState::On }
}

const fn full(name: &'static str, what: &'static str) -> Class {
    Class { name, what, state: ClassState::Full }
}

const fn situation(name: &'static str, what: &'static str, situation: &'static str) -> Class {
    Class { name, what, state: ClassState::Situation(situation) }
}

const fn waits(name: &'static str, what: &'static str, on: &'static str) -> Class {
    Class { name, what, state: ClassState::Waits(on) }
}

/// All of them, in the order of their names.
pub const CLASSES: [Class; 53] = [
    on(
        "between-steps",
        "what is done in a folder takes time: a node dies, or a person comes, between two primitives",
    ),
    on("burst", "some hundred small new files appear at several nodes at once, and slots are few"),
    on(
        "catalog-answer-late",
        "the catalog applies what it said had failed, later, after a retry or another's commit",
    ),
    on(
        "catalog-answer-lost",
        "the catalog applies and its answer is lost; the same for an object that was sent whole",
    ),
    on("catalog-away", "catalog and objects cannot be reached, by one node or by all"),
    on(
        "catalog-fails",
        "the catalog says no and has done nothing: time-outs, overload, a storm of conflicts",
    ),
    situation("catalog-restored", "the catalog comes back from a backup", "catalog-restored"),
    on("catalog-stale", "a reading of the feed ends early and says that this was the head"),
    on("clock-drift", "clocks run up to 500 millionths too fast or slow"),
    on("clock-offset", "wall clocks are wrong by up to a day"),
    on("clock-step", "a wall clock is set by hours, either way"),
    situation("clone", "one key is alive twice", "one-key-twice"),
    on(
        "contents-large",
        "contents are of all sizes, up to gigabytes, and take their time; slots are few, and transfers stand still or end",
    ),
    on("crash", "a node dies at any time; the others notice at once or late"),
    on("crash-at-effect", "a node dies just before or just after an effect"),
    on("crash-loop", "a node dies again and again"),
    full("database-full", "there is no room for the node database"),
    on("dead-at-the-end", "some nodes never come back; the others must go on without them"),
    on("discovery-flap", "two nodes lose each other for a moment; announcements come twice"),
    waits(
        "disk-bits",
        "a bit flips in the node database",
        "a person who puts a damaged database aside (sim/databases)",
    ),
    on("disk-clock", "the clock of a folder's disk is wrong by up to a day, drifts, and is set"),
    full("disk-fails", "a read or a write of the node database fails once"),
    on("disk-full", "there is no room for downloads"),
    full("disk-sync-fails", "a sync of the node database fails once and then seems to work"),
    full(
        "disk-torn",
        "the power goes while the node database is written: what was not synced is lost, kept in part, or torn",
    ),
    on("effects-fail", "effects in the folder or from members fail"),
    on("effects-slow", "effects take seconds"),
    on("frames-short", "long frames do not arrive"),
    situation("hang", "an effect is never answered", "transfers-hang"),
    situation(
        "hosted",
        "there is no server: a node keeps catalog and objects, and others are promoted, also two at once",
        "two-hosts",
    ),
    full("kill", "some crashes are of the process alone: what it had written is there, synced or not"),
    on("lookup-slow", "looks at files take seconds"),
    on("meddling", "a person saves, deletes or renames a file in the moment in which an effect is at it"),
    situation("member-retired", "a member is retired, and comes back", "retired-while-writing"),
    on("net-clog", "messages of one link wait, and then come all at once in another order"),
    on("net-cut-one-way", "what some say does not reach others; the way back is open"),
    on("net-foul", "messages are lost, doubled and overtake each other"),
    on("net-partial-mesh", "each of two hears the one in the middle, and not the other"),
    on("net-partition", "the network falls in two"),
    on("net-replay", "messages come again much later, also to another life of the receiver"),
    on("object-corrupt", "a source gives other bytes than it should, once"),
    waits(
        "object-missing",
        "an object is gone from the store",
        "a checker that knows of which contents there was no other copy (sim/checks)",
    ),
    on("pause", "a process stands still, longer than a lease, and goes on"),
    on("plain-root", "a folder has no atomic exchange of two names"),
    situation("restore", "a node's database comes back from an earlier time", "database-restored"),
    on("rot", "a file's bytes change though nobody writes"),
    situation("shared-cache", "two nodes work on one folder", "shared-folder-lags"),
    on("trash-written", "a program goes on writing into a file that it has open, in trash too"),
    on("unmounted", "the media folder is away, and the storage says so"),
    situation("unmounted-empty", "the media folder is away and looks empty", "folder-unmounted"),
    on("watcher-blind", "the watcher misses what persons do: only scans find it"),
    on("wipe", "a node's database is lost while its media are kept"),
    situation("wipe-with-removals", "the same where items were removed meanwhile", "killed-while-away"),
];

impl Class {
    /// Whether it can strike in a run of this fidelity.
    pub fn strikes(&self, fidelity: Fidelity) -> bool {
        match self.state {
            ClassState::On => true,
            ClassState::Full => fidelity == Fidelity::Full,
            ClassState::Situation(_) | ClassState::Waits(_) => false,
        }
    }
}

/// Whether a class can strike in every run.
pub fn is_on(name: &str) -> bool {
    CLASSES.iter().any(|class| class.name == name && class.state == ClassState::On)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_no_two_are_equal() {
        let names: Vec<_> = CLASSES.iter().map(|class| class.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        assert!(is_on("crash") && !is_on("clone") && !is_on("kill") && !is_on("no such class"));
    }

    #[test]
    fn the_situations_of_classes_are_there() {
        for class in &CLASSES {
            let ClassState::Situation(name) = class.state else { continue };
            assert!(crate::situations::named(name).is_some(), "{name}");
        }
    }
}
