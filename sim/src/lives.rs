//! Lives of one store: commits, troubles of its disk, and ends of every kind, each from one seed.
//!
//! Holds the database that ships to S3 and S4 without an engine over it, many thousand crashes a minute: a small part
//! of them in a test, as many as there is time for in `examples/crash_points.rs`. Not here: what an engine does
//! between two of its commits.

use crate::disk::Trouble;
use crate::random::Random;
use crate::store::{Breach, Doubts, SimStore};
use tcat_engine::store::{Change, Store, Table};

/// What happened in the lives of stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Commits that were acknowledged.
    pub commits: u64,
    /// Ends by a power cut, those by trouble included.
    pub power_cuts: u64,
    /// Ends of the process alone.
    pub kills: u64,
    /// Ends in order.
    pub stops: u64,
    /// What became of the commits that failed.
    pub doubts: Doubts,
}

impl Tally {
    /// Both together.
    pub fn and(self, other: Tally) -> Tally {
        Tally {
            commits: self.commits + other.commits,
            power_cuts: self.power_cuts + other.power_cuts,
            kills: self.kills + other.kills,
            stops: self.stops + other.stops,
            doubts: Doubts {
                kept: self.doubts.kept + other.doubts.kept,
                lost: self.doubts.lost + other.doubts.lost,
            },
        }
    }
}

const TROUBLES: [Trouble; 7] = [
    Trouble::WriteError,
    Trouble::ReadError,
    Trouble::SyncError,
    Trouble::PowerCut,
    Trouble::PowerCut,
    Trouble::PowerCut,
    Trouble::PowerCutAtSync,
];

/// Lets a store live and end `ends` times; stops at the first breach.
pub fn lives(store: &mut SimStore, seed: u64, ends: u64, tally: &mut Tally) -> Result<(), Breach> {
    let mut random = Random::new(seed);
    let doubts = store.doubts();
    for _ in 0..ends {
        life(store, &mut random, tally);
        match random.below(8) {
            0 => {
                tally.kills += 1;
                store.kill(&mut random)?;
            }
            1 => {
                tally.stops += 1;
                store.reopen(&mut random)?;
            }
            _ => {
                tally.power_cuts += 1;
                store.crash(&mut random)?;
            }
        }
    }
    tally.doubts.kept += store.doubts().kept - doubts.kept;
    tally.doubts.lost += store.doubts().lost - doubts.lost;
    Ok(())
}

/// Commits until a trouble or the end of the day.
fn life(store: &mut SimStore, random: &mut Random, tally: &mut Tally) {
    if random.below(4) > 0 {
        let trouble = TROUBLES[random.below(TROUBLES.len() as u64) as usize];
        let passes = match trouble {
            Trouble::PowerCutAtSync | Trouble::SyncError => random.below(6),
            _ => random.below(60),
        };
        let chance = Random::new(random.next_u64());
        store.arm(trouble, passes, chance);
    }
    store.set_disk_full(random.below(16) == 0);
    for _ in 0..random.below(8) {
        if store.commit(commit(random)).is_err() {
            break;
        }
        tally.commits += 1;
        let _ = store.get(Table::Rows, b"k");
    }
    store.set_disk_full(false);
}

/// One commit, of few keys, so that they meet; now and then one that fills many pages or empties them.
fn commit(random: &mut Random) -> Vec<Change> {
    let much = random.below(24) == 0;
    let count = if much { 200 } else { 1 + random.below(10) };
    let size_max = if random.below(30) == 0 { 40_000 } else { 400 };
    let changes = (0..count).map(|_| {
        let table = Table::ALL[random.below(Table::ALL.len() as u64) as usize];
        let mut key = vec![b'k'; random.below(30) as usize];
        key.push(random.below(8) as u8);
        let value =
            (random.below(5) > 1).then(|| vec![random.below(256) as u8; random.below(size_max) as usize]);
        Change { table, key, value }
    });
    changes.collect()
}
