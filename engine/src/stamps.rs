//! What the times that a file system stamps on its files say: whether a file is quiet, and whether its digest can be
//! trusted later.
//!
//! What holds always: a file's age is judged by the clock that stamps it. A server has a clock of its own, and ours
//! may be set: by any other clock a file edited just now can look as old as one likes, and one long quiet as young.
//! Not here: reading that clock (storage's `disk_clock`), and what follows (its `scanner` and `client_database`).

use crate::observation::FileStat;
use crate::planted::{Bug, Plants};

/// How far a file's times must be from its disk's clock when it is hashed for its digest to be trusted later.
pub const RACY_MS: u64 = 2000;

/// What the clocks showed at one instant, nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clocks {
    /// That of the file system; `None` where it could not be read.
    pub disk_ns: Option<i64>,
    /// Our wall clock.
    pub wall_ns: i64,
}

/// Whether a file changed within the quiet time, or may have.
///
/// By the change time, as it is the system's own: a copy may keep an old modification time, and a camera may have set
/// one in the future; by the modification time where there is no other. What is ahead by more than the quiet time was
/// written before the clock was set back. Where the disk's clock cannot be read ours has to do: a file may then be
/// looked at early or late, and a digest from that look proves nothing.
pub fn changed_just_now<P: Plants>(stat: &FileStat, clocks: Clocks, quiet_ms: u64, plants: &P) -> bool {
    let quiet_ns = i64::try_from(quiet_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    let changed_ns = if stat.ctime_ns == 0 { stat.mtime_ns } else { stat.ctime_ns };
    if P::POSSIBLE && plants.has(Bug::AgeByWallClock) {
        const AHEAD_NS: i64 = 3_600_000_000_000;
        return quiet_ms > 0 && (-AHEAD_NS..quiet_ns).contains(&clocks.wall_ns.saturating_sub(changed_ns));
    }
    let age_ns = clocks.disk_ns.unwrap_or(clocks.wall_ns).saturating_sub(changed_ns);
    (-quiet_ns..quiet_ns).contains(&age_ns)
}

/// Whether a file that looks later as this one did must have the content that was found by reading it.
///
/// `begun` is the instant at which the reading began, by the clocks as read before it and as read after it: if the
/// disk's clock was set between, one of the two is right. An edit after that instant stamps the file with what the
/// disk's clock then shows, so it shows, unless the file had that stamp already as far as a coarse stamp tells. Stamps
/// far from the disk's clock are safe on either side: people and cameras set the modification time to anything, and a
/// clock that was set back leaves change times ahead of it.
pub fn is_proof<P: Plants>(stat: &FileStat, begun: [Clocks; 2], plants: &P) -> bool {
    let racy_ns = RACY_MS * 1_000_000;
    let far = |time_ns: i64, from_ns: i64| time_ns.abs_diff(from_ns) >= racy_ns;
    if P::POSSIBLE && plants.has(Bug::AgeByWallClock) {
        let [Clocks { wall_ns, .. }, _] = begun;
        return far(stat.mtime_ns, wall_ns) && stat.ctime_ns <= wall_ns.saturating_sub_unsigned(racy_ns);
    }
    // Where a file has no change time it is zero, and far.
    let is_safe = |begun_ns: i64| far(stat.mtime_ns, begun_ns) && far(stat.ctime_ns, begun_ns);
    begun.iter().all(|clocks| clocks.disk_ns.is_some_and(is_safe))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::Sound;

    const HOUR_NS: i64 = 3_600_000_000_000;
    const SECOND_NS: i64 = 1_000_000_000;

    fn at(disk_ns: i64) -> Clocks {
        // Wrong by a year.
        Clocks { disk_ns: Some(disk_ns), wall_ns: 9_000 * HOUR_NS }
    }

    fn stat(mtime_ns: i64, ctime_ns: i64) -> FileStat {
        FileStat { mtime_ns, ctime_ns, ..FileStat::default() }
    }

    #[test]
    fn a_file_is_quiet_once_the_disks_clock_says_so_whatever_ours_says() {
        let busy = |stat: FileStat, now_ns| changed_just_now(&stat, at(now_ns), 2000, &Sound);
        for (age_ns, is_busy) in [
            (0, true),
            (2 * SECOND_NS - 1, true),
            (2 * SECOND_NS, false),
            (-SECOND_NS, true),
            // The clock was set back: a file is not busy for as long as that takes to pass.
            (-2 * SECOND_NS - 1, false),
            (-HOUR_NS / 2, false),
        ] {
            assert_eq!(busy(stat(1, HOUR_NS - age_ns), HOUR_NS), is_busy, "{age_ns}");
            assert_eq!(busy(stat(HOUR_NS - age_ns, 0), HOUR_NS), is_busy, "without change time: {age_ns}");
        }
        assert!(!changed_just_now(&stat(1, HOUR_NS), at(HOUR_NS), 0, &Sound), "no quiet time, no wait");
        let unknown = Clocks { disk_ns: None, wall_ns: HOUR_NS };
        assert!(changed_just_now(&stat(1, HOUR_NS), unknown, 2000, &Sound));
        assert!(!changed_just_now(&stat(1, HOUR_NS - 2 * SECOND_NS), unknown, 2000, &Sound));
    }

    #[test]
    fn a_digest_taken_within_two_seconds_of_a_change_proves_nothing() {
        for (age_ns, proves) in [
            (0, false),
            (2 * SECOND_NS - 1, false),
            (2 * SECOND_NS, true),
            (-5, false),
            (1 - 2 * SECOND_NS, false),
            // A stamp in the future is no recent change: a person set the one, or somebody the clock.
            (-2 * SECOND_NS, true),
        ] {
            let began_ns = 5 * HOUR_NS;
            for file in [stat(began_ns - age_ns, 1), stat(1, began_ns - age_ns), stat(began_ns - age_ns, 0)] {
                assert_eq!(is_proof(&file, [at(began_ns); 2], &Sound), proves, "{age_ns} {file:?}");
            }
        }
    }

    #[test]
    fn a_digest_proves_only_if_the_disks_clock_is_known_before_and_after() {
        let unknown = Clocks { disk_ns: None, wall_ns: 9 * HOUR_NS };
        let (just_changed, long_after) = (at(HOUR_NS + 5), at(2 * HOUR_NS));
        for (begun, proves) in [
            ([long_after, long_after], true),
            // Somebody set the clock meanwhile: which of the two was it when the reading began?
            ([just_changed, long_after], false),
            ([long_after, just_changed], false),
            ([unknown, long_after], false),
            ([long_after, unknown], false),
        ] {
            assert_eq!(is_proof(&stat(HOUR_NS, HOUR_NS), begun, &Sound), proves, "{begun:?}");
        }
    }
}
