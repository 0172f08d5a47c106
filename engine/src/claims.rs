//! Who does the work: one pure rule over the claims that everybody sees.
//!
//! Claims compete only within (task, target content). The rule is the same everywhere, so that members with the same
//! ledgers name the same winner without another word. It saves work; what must not happen twice is fenced by the
//! catalog.
//!
//! A claim stands for a [`Lease`] after it was last renewed, and only progress of its task renews it. Its holder counts
//! from when it *sent* a renewal that somebody is known to have, and stops at two thirds; everybody else counts from
//! when the renewal *came*, and waits for the whole lease and a margin for clocks that drift. So the holder has stopped
//! before anybody takes over, whatever was lost, delayed or suspended. All times are durations on the monotonic clock.

use crate::clock::Dot;
use crate::entry::Claim;
use crate::ids::ClientId;
use std::cmp::Reverse;

/// The longest, in milliseconds, that a transfer which moves bytes says nothing of them to the engine.
const PROGRESS_MS_MAX: u64 = 500;

/// How long a claim stands without being renewed, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease(pub u64);

impl Lease {
    /// When the holder stops, if it knows of no renewal that somebody has and that it sent later than `sent_ms`.
    pub fn holder_stops_ms(self, sent_ms: u64) -> u64 {
        sent_ms.saturating_add(self.0 / 3 * 2)
    }

    /// When a claim of another is void whose last renewal came at `came_ms`.
    pub fn void_ms(self, came_ms: u64) -> u64 {
        came_ms.saturating_add(self.0).saturating_add(self.margin_ms())
    }

    /// What others wait longer than the lease, for clocks that do not go alike and holders that stop slowly.
    pub fn margin_ms(self) -> u64 {
        self.0 / 10
    }

    /// How often a task that makes progress renews its claim.
    pub fn renewal_ms(self) -> u64 {
        (self.0 / 5).max(1)
    }

    /// How often those who move bytes tell the engine how many: each half second, and more often where the lease is short.
    /// A renewal has to be written, heard and answered before the holder stops; of the time until then this is to take little.
    pub fn progress_ms(self) -> u64 {
        (self.0 / 10).clamp(1, PROGRESS_MS_MAX)
    }

    /// After a pause of this length between two inputs we did not listen: we were suspended, or starved.
    pub fn deaf_ms(self) -> u64 {
        (self.0 / 2).max(1)
    }
}

/// The epoch of a new claim: one above every epoch known for it.
pub fn next_epoch(known: impl IntoIterator<Item = u64>) -> u64 {
    known.into_iter().max().unwrap_or(0).saturating_add(1)
}

/// How long, in milliseconds, a client waits before it stakes once nobody stands in its way. `turn` is its place among
/// the live clients: who comes first stakes at once, since it listens afterwards, and was heard before the next begins.
pub fn turn_ms(turn: usize, listen_ms: u64) -> u64 {
    listen_ms.saturating_mul(4).saturating_mul(turn as u64)
}

/// A claim that stands: it is ours, or its lease is not over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing<'a> {
    /// The write that made it.
    pub dot: Dot,
    /// What it says.
    pub claim: &'a Claim,
}

/// How `client` ranks for `target`: the higher, the sooner. Spreads work evenly and needs no agreement.
pub fn rendezvous(client: &ClientId, target_key: &[u8; 32]) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("tcat 1 rendezvous");
    hasher.update(&client.0).update(target_key);
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

/// The place of `me` among `clients` for `target_key`, from 0. Clients that are not `me` and rank equal come by id.
pub fn turn<'a>(
    me: &ClientId,
    clients: impl IntoIterator<Item = &'a ClientId>,
    target_key: &[u8; 32],
) -> usize {
    let rank = |client: &ClientId| (Reverse(rendezvous(client, target_key)), *client);
    let mine = rank(me);
    clients.into_iter().filter(|client| rank(client) < mine).count()
}

/// The winner among claims on one (task, target): the highest epoch, then started before unstarted, then rendezvous. Who
/// has seen a claim has a higher epoch than it: it supersedes it.
pub fn winner(claims: &[Standing<'_>]) -> Option<ClientId> {
    let place = |standing: &&Standing<'_>| {
        let client = standing.dot.client;
        let rank = rendezvous(&client, &standing.claim.target.key());
        (standing.claim.epoch, standing.claim.started, rank, Reverse(client))
    };
    claims.iter().max_by_key(place).map(|standing| standing.dot.client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Incarnation, Stamp};
    use crate::content::{Content, Md5};
    use crate::entry::TaskKind;
    use quickcheck::QuickCheck;

    fn claim(epoch: u64, started: bool) -> Claim {
        let target = Content { md5: Md5([1; 16]), size: 1, blake3: None };
        Claim { task: TaskKind::Download, target, epoch, seen: vec![], started, progress: 0, attempts: 1 }
    }

    fn dot(client: u8) -> Dot {
        let stamp = Stamp { incarnation: Incarnation(1), counter: 1 };
        Dot { client: ClientId([client; 32]), stamp }
    }

    #[test]
    fn the_winner_is_the_same_in_every_order() {
        fn law(claims: Vec<(u8, u8, bool)>, turn: usize) -> bool {
            let made: Vec<_> =
                claims.iter().map(|(c, e, s)| (dot(*c), claim(u64::from(*e % 3), *s))).collect();
            let mut standing: Vec<_> =
                made.iter().map(|(dot, claim)| Standing { dot: *dot, claim }).collect();
            standing.sort_by_key(|s| s.dot);
            standing.dedup_by_key(|s| s.dot);
            let first = winner(&standing);
            let at = turn.checked_rem(standing.len()).unwrap_or(0);
            standing.rotate_left(at);
            let second = winner(&standing);
            standing.reverse();
            first == second && second == winner(&standing) && first.is_none() == standing.is_empty()
        }
        QuickCheck::new().quickcheck(law as fn(_, _) -> bool);
    }

    #[test]
    fn a_higher_epoch_beats_a_started_one_and_started_beats_rendezvous() {
        let (low_started, high) = (claim(1, true), claim(2, false));
        let pair = [Standing { dot: dot(1), claim: &low_started }, Standing { dot: dot(2), claim: &high }];
        assert_eq!(winner(&pair), Some(ClientId([2; 32])));
        for started in 1..=2 {
            let (a, b) = (claim(1, started == 1), claim(1, started == 2));
            let pair = [Standing { dot: dot(1), claim: &a }, Standing { dot: dot(2), claim: &b }];
            assert_eq!(winner(&pair), Some(ClientId([started; 32])));
        }
    }

    #[test]
    fn of_equal_claims_the_higher_rank_wins_and_does_so_for_each_content_anew() {
        let mut winners = std::collections::BTreeSet::new();
        for content in 0..32 {
            let target = Content { md5: Md5([content; 16]), size: 1, blake3: None };
            let equal = Claim { target, ..claim(3, true) };
            let standing: Vec<_> =
                (0..4).map(|client| Standing { dot: dot(client), claim: &equal }).collect();
            let winner = winner(&standing).unwrap();
            // It is the one whose turn comes first, too.
            let clients: Vec<_> = standing.iter().map(|standing| standing.dot.client).collect();
            assert_eq!(turn(&winner, &clients, &target.key()), 0);
            assert!(
                clients.iter().all(|client| {
                    rendezvous(client, &target.key()) <= rendezvous(&winner, &target.key())
                })
            );
            winners.insert(winner);
        }
        assert_eq!(winners.len(), 4, "work is spread over all");
    }

    #[test]
    fn a_rank_is_the_first_bytes_of_the_named_hash() {
        let (client, target_key) = (ClientId([7; 32]), [9; 32]);
        let hash = blake3::derive_key("tcat 1 rendezvous", &[client.0, target_key].concat());
        assert_eq!(rendezvous(&client, &target_key).to_le_bytes(), hash[..8]);
    }

    #[test]
    fn an_epoch_is_above_every_known_one_and_never_turns_round() {
        assert_eq!(next_epoch([]), 1);
        assert_eq!(next_epoch([3, 9, 4]), 10);
        assert_eq!(next_epoch([u64::MAX]), u64::MAX);
    }

    #[test]
    fn whoever_comes_first_has_staked_and_was_heard_before_the_next_begins() {
        // The second has four times of listening more than the first, and so on.
        let begins: Vec<_> = (0..4).map(|turn| turn_ms(turn, 150)).collect();
        assert_eq!(begins, [0, 600, 1200, 1800]);
        assert_eq!(turn_ms(usize::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn the_parts_of_a_lease_are_what_the_protocol_says() {
        let lease = Lease(30_000);
        assert_eq!(lease.holder_stops_ms(1_000), 21_000, "two thirds");
        assert_eq!(lease.void_ms(1_000), 34_000, "the whole, and a tenth");
        assert_eq!(lease.margin_ms(), 3_000);
        assert_eq!(lease.renewal_ms(), 6_000, "a fifth");
        assert_eq!(lease.deaf_ms(), 15_000, "a half");
        let progress = [0, 1_000, 4_999, 5_000, 600_000].map(|lease_ms| Lease(lease_ms).progress_ms());
        assert_eq!(progress, [1, 100, 499, 500, 500], "a tenth, half a second at most");
        // However short: nothing is renewed without a pause, and no input alone makes us deaf.
        assert_eq!((Lease(1).renewal_ms(), Lease(1).deaf_ms()), (1, 1));
    }

    #[test]
    fn a_holder_has_stopped_before_anybody_takes_over() {
        fn law(lease_ms: u64, sent_ms: u32, on_its_way_ms: u16) -> bool {
            let (lease, sent_ms) = (Lease(10 + lease_ms % 100_000), u64::from(sent_ms));
            let came_ms = sent_ms + u64::from(on_its_way_ms);
            lease.holder_stops_ms(sent_ms) + lease.0 / 3 < lease.void_ms(came_ms)
        }
        QuickCheck::new().quickcheck(law as fn(_, _, _) -> bool);
    }

    #[test]
    fn turns_are_a_permutation() {
        let clients: Vec<_> = (0..8).map(|n| ClientId([n; 32])).collect();
        let mut turns: Vec<_> = clients.iter().map(|me| turn(me, &clients, &[9; 32])).collect();
        turns.sort_unstable();
        assert_eq!(turns, (0..8).collect::<Vec<_>>());
    }
}
