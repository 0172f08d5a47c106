//! What the scanner that ships makes of a file's stamps, on a disk that has a clock of its own: a file is busy until it
//! is quiet, and is read only if its digest is not known.
//!
//! Holds always: the rules are those that ship ([`tcat_engine::stamps`]); a digest that they trust is believed here
//! too, so that a wrong one loses an edit. A node whose plan names no such clock sees every file at once as it is.
//! Not here: reading takes no time between the two looks at the clocks.

use crate::clock::{Clock, ClockPlan};
use crate::world::World;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tcat_engine::content::Content;
use tcat_engine::observation::{FileStat, Observation, Seen};
use tcat_engine::paths::MediaPath;
use tcat_engine::stamps::{self, Clocks};

/// How the clock of a node's disk differs from the true time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DiskClockPlan {
    /// How far it is ahead at the start, in milliseconds.
    #[serde(default)]
    pub offset_ms: i64,
    /// How much faster it runs, in millionths.
    #[serde(default)]
    pub drift_ppm: i64,
}

/// What a node's scanner knows.
#[derive(Default)]
pub(crate) struct Scanner {
    /// The clock of its disk, if that is not the one that orders all changes.
    pub(crate) disk_clock: Option<Clock>,
    /// The digests that can be trusted, and for which files.
    digests: BTreeMap<MediaPath, (FileStat, Content)>,
    /// Files of the last full scan that were read, and that were busy.
    unrest: (u64, u64),
}

impl Scanner {
    /// One that knows nothing yet.
    pub(crate) fn of(plan: Option<DiskClockPlan>) -> Self {
        let clock = |DiskClockPlan { offset_ms, drift_ppm }| Clock::new(ClockPlan { offset_ms, drift_ppm });
        Self { disk_clock: plan.map(clock), ..Self::default() }
    }
}

impl World {
    /// What the clock of the disk shows on which a node's files are.
    pub(crate) fn disk_ns(&self, node: usize) -> Option<i64> {
        let clock = self.nodes[self.nodes[node].home].scanner.disk_clock?;
        i64::try_from(clock.now(self.now_ms()).wall_ms.saturating_mul(1_000_000)).ok()
    }

    /// Somebody sets the clock of a node's disk.
    pub(crate) fn step_disk_clock(&mut self, node: usize, by_ms: i64) {
        let home = self.nodes[node].home;
        if let Some(clock) = &mut self.nodes[home].scanner.disk_clock {
            clock.step(by_ms);
            self.goals.met("disk-clock-set");
        }
    }

    /// What the scanner says of a path.
    pub(crate) fn look_at(&mut self, node: usize, path: &MediaPath) -> Observation {
        let observation = self.folder(node).look(path);
        match (self.disk_ns(node), &observation.seen) {
            (Some(disk_ns), Seen::File { content, stat }) => {
                let seen = self.scanned(node, path, *stat, *content, disk_ns);
                Observation { path: path.clone(), seen }
            }
            _ => observation,
        }
    }

    fn scanned(&mut self, node: usize, path: &MediaPath, stat: FileStat, is: Content, disk_ns: i64) -> Seen {
        let wall_ms = self.nodes[node].clock.now(self.now_ms()).wall_ms;
        let clocks = Clocks { disk_ns: Some(disk_ns), wall_ns: wall_ms as i64 * 1_000_000 };
        let (quiet_ms, planted) = (crate::node::QUIET_MS, self.planted);
        let scanner = &mut self.nodes[node].scanner;
        if stamps::changed_just_now(&stat, clocks, quiet_ms, &planted) {
            scanner.unrest.1 += 1;
            return Seen::Busy;
        }
        let known = scanner.digests.get(path).filter(|(of, _)| *of == stat).map(|(_, content)| *content);
        let content = known.unwrap_or_else(|| {
            scanner.unrest.0 += 1;
            if stamps::is_proof(&stat, [clocks; 2], &planted) {
                scanner.digests.insert(path.clone(), (stat, is));
            }
            is
        });
        if known.is_some() {
            self.goals.met("digest-known");
        }
        Seen::File { content, stat }
    }

    /// The digest of a file is not known any more, at no node with this folder: rot shows to those alone that read.
    pub(crate) fn forget_digest(&mut self, node: usize, path: &MediaPath) {
        let home = self.nodes[node].home;
        for node in self.nodes.iter_mut().filter(|node| node.home == home) {
            node.scanner.digests.remove(path);
        }
    }

    /// A full scan begins.
    pub(crate) fn begin_scan(&mut self, node: usize) {
        self.nodes[node].scanner.unrest = (0, 0);
    }

    /// How many files the last full scan of a node read, and found busy.
    pub(crate) fn unrest_of_scan(&self, node: usize) -> (u64, u64) {
        self.nodes[node].scanner.unrest
    }
}
