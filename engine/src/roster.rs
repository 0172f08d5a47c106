//! The workgroup's roster in the catalog: who counts, who is absent, who was retired, and how far each has written.
//!
//! A member visits the roster: one transaction of the catalog that notes the visitor's stamp and that it was seen,
//! declares absent who was not seen for longer than the horizon, and answers with the roster as it is then. The rules
//! are here, pure, for every catalog and for the simulator's. Left out: admitting a client (the catalog's).

use crate::clock::Stamp;
use crate::codec::{self, CodecError};
use crate::ids::ClientId;
use bincode::{Decode, Encode};
use std::collections::BTreeMap;

/// Where a client of the roster stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub enum Standing {
    /// A member whose word counts.
    #[default]
    Current,
    /// A member that was not seen beyond the horizon: nothing waits for it, and it resynchronises before its word
    /// counts again.
    Absent,
    /// A member no more.
    Retired {
        /// The last of its dots that counts.
        last: Stamp,
    },
}

/// What a roster says of a client at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It belongs to the workgroup, or no roster was read yet that could say otherwise.
    Member,
    /// It belonged to it.
    Retired,
    /// It is not in the roster as it was read last; perhaps it has joined since.
    Unlisted,
}

/// One client of the roster.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct RosterMember {
    /// Who.
    pub client: ClientId,
    /// The latest of its stamps that the catalog was told.
    pub stamp: Stamp,
    /// Whether its word counts.
    pub standing: Standing,
    /// When it last visited, in milliseconds on the catalog's clock.
    pub seen_ms: u64,
}

/// A visit to the roster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Visit {
    /// Who visits.
    pub client: ClientId,
    /// Its latest stamp, to be noted; zero to note none.
    pub stamp: Stamp,
    /// Whether its word is to count again, if it was declared absent: it has resynchronised.
    pub present: bool,
    /// Who was not seen for so long is absent, in milliseconds.
    pub horizon_ms: u64,
}

/// What a roster's standings of all come to: two members that read the same say the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct RosterDigest(pub [u8; 8]);

impl RosterDigest {
    /// Of these standings.
    pub fn of(standings: &BTreeMap<ClientId, Standing>) -> Result<Self, CodecError> {
        let hash = blake3::derive_key("tcat 1 standing of all", &codec::encode(standings)?);
        Ok(Self(std::array::from_fn(|i| hash[i])))
    }
}

/// What a visit at `now_ms` on the catalog's clock does to the roster. Returns whether anything but times of sight and
/// stamps changed.
pub fn visit(roster: &mut [RosterMember], visit: &Visit, now_ms: u64) -> bool {
    let mut changed = false;
    for member in roster.iter_mut() {
        if member.client == visit.client && !matches!(member.standing, Standing::Retired { .. }) {
            member.stamp = member.stamp.max(visit.stamp);
            member.seen_ms = member.seen_ms.max(now_ms);
            changed |= visit.present && member.standing == Standing::Absent;
            if visit.present {
                member.standing = Standing::Current;
            }
        } else if member.standing == Standing::Current
            && now_ms.saturating_sub(member.seen_ms) > visit.horizon_ms
        {
            (member.standing, changed) = (Standing::Absent, true);
        }
    }
    changed
}

/// Retires a client: nothing that it wrote after `last` counts. The first retirement stands. Returns whether it is in
/// the roster.
pub fn retire(roster: &mut [RosterMember], client: &ClientId, last: Stamp) -> bool {
    let Some(member) = roster.iter_mut().find(|member| member.client == *client) else { return false };
    if !matches!(member.standing, Standing::Retired { .. }) {
        member.standing = Standing::Retired { last };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Incarnation;

    const A: ClientId = ClientId([1; 32]);
    const B: ClientId = ClientId([2; 32]);

    fn stamp(counter: u64) -> Stamp {
        Stamp { incarnation: Incarnation(1), counter }
    }

    fn roster() -> Vec<RosterMember> {
        let member =
            |client| RosterMember { client, stamp: stamp(5), standing: Standing::Current, seen_ms: 100 };
        vec![member(A), member(B)]
    }

    #[test]
    fn a_visit_notes_the_visitor_and_declares_absent_who_was_not_seen_beyond_the_horizon() {
        let mut roster = roster();
        let here = Visit { client: A, stamp: stamp(7), present: true, horizon_ms: 1000 };
        assert!(!visit(&mut roster, &here, 1100));
        assert_eq!((roster[0].stamp, roster[0].seen_ms), (stamp(7), 1100));
        assert!(visit(&mut roster, &here, 1101));
        assert_eq!((roster[0].standing, roster[1].standing), (Standing::Current, Standing::Absent));
        // Back, but not in step yet; then in step. An older stamp takes nothing back.
        let back = Visit { client: B, stamp: stamp(3), present: false, horizon_ms: 1000 };
        assert!(!visit(&mut roster, &back, 1200));
        assert_eq!((roster[1].standing, roster[1].stamp), (Standing::Absent, stamp(5)));
        assert!(visit(&mut roster, &Visit { present: true, ..back }, 1300));
        assert_eq!(roster[1].standing, Standing::Current);
    }

    #[test]
    fn who_is_retired_stays_so_and_the_first_last_dot_stands() {
        let mut roster = roster();
        assert!(retire(&mut roster, &B, stamp(4)));
        assert!(retire(&mut roster, &B, stamp(9)));
        let back = Visit { client: B, stamp: stamp(9), present: true, horizon_ms: 1000 };
        visit(&mut roster, &back, 5000);
        assert_eq!((roster[1].standing, roster[1].stamp), (Standing::Retired { last: stamp(4) }, stamp(5)));
        assert!(!retire(&mut roster, &ClientId([3; 32]), stamp(1)));
    }
}
