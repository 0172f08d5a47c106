//! Logical time: incarnations, dots, version vectors, and the labels that people read.
//!
//! Causality decides; a [`Label`] never does. Nothing here reads a clock: times come in as arguments.

use crate::ids::ClientId;
use crate::sorted::SortedMap;
use bincode::{Decode, Encode};
use std::fmt;

/// One life of a client's database. Time-ordered, with 20 random low bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// A new incarnation above `floor`, the highest of ours that was ever seen anywhere.
    /// `wall_ms` is milliseconds since 1970 (44 bits of it are kept); `random` supplies the low bits.
    pub fn mint(wall_ms: u64, random: u64, floor: Incarnation) -> Self {
        let wanted = (wall_ms << 20) | (random & 0xf_ffff);
        Self(wanted.max(floor.0.saturating_add(1)))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// How far into one client's writing: compared lexicographically.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Stamp {
    /// The life of the client's database.
    pub incarnation: Incarnation,
    /// Counts that life's entries from 1; 0 means none yet.
    pub counter: u64,
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.{}", self.incarnation, self.counter)
    }
}

/// The unique name of one write: who, in which life, the how-many-eth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Dot {
    /// The writer.
    pub client: ClientId,
    /// Its position in the writer's sequence.
    pub stamp: Stamp,
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{:?}", self.client, self.stamp)
    }
}

/// For each client, how far its ledger is known.
#[derive(Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct VersionVector(SortedMap<ClientId, Stamp>);

impl VersionVector {
    /// How far `client` is known; the zero stamp if not at all.
    pub fn get(&self, client: &ClientId) -> Stamp {
        self.0.get(client).copied().unwrap_or_default()
    }

    /// Moves `client` forward to `stamp`; never back.
    pub fn advance(&mut self, client: ClientId, stamp: Stamp) {
        match self.0.get_mut(&client) {
            Some(known) => *known = (*known).max(stamp),
            None if stamp > Stamp::default() => self.0.insert(client, stamp),
            None => {}
        }
    }

    /// The same with `client` moved forward to `stamp`.
    pub fn with(&self, client: ClientId, stamp: Stamp) -> Self {
        let mut vector = Self(self.0.clone_with_room(1));
        vector.advance(client, stamp);
        vector
    }

    /// Moves `client` back to `stamp`, or out with the zero stamp: what it wrote later does not count any more.
    pub fn set_back(&mut self, client: &ClientId, stamp: Stamp) {
        match self.0.get_mut(client) {
            Some(known) if stamp > Stamp::default() => *known = (*known).min(stamp),
            _ => self.0.remove(client),
        }
    }

    /// The least vector that covers both.
    pub fn merge(&mut self, other: &VersionVector) {
        for (client, stamp) in other.0.iter() {
            self.advance(*client, *stamp);
        }
    }

    /// Whether everything that `other` knows is known here.
    pub fn covers(&self, other: &VersionVector) -> bool {
        other.0.iter().all(|(client, stamp)| self.get(client) >= *stamp)
    }

    /// Whether the write named `dot` is known.
    pub fn contains(&self, dot: &Dot) -> bool {
        self.get(&dot.client) >= dot.stamp
    }

    /// All known clients, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&ClientId, &Stamp)> {
        self.0.iter()
    }

    /// How many clients are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no client is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(ClientId, Stamp)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (ClientId, Stamp)>>(pairs: I) -> Self {
        let mut vector = Self::default();
        for (client, stamp) in pairs {
            vector.advance(client, stamp);
        }
        vector
    }
}

impl fmt::Debug for VersionVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A hybrid logical clock's reading: it orders entries for people, and decides nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Encode, Decode)]
pub struct Label {
    /// Milliseconds since 1970, as the writer believed, or the last label seen if that was later.
    pub wall_ms: u64,
    /// Tells apart labels of one millisecond.
    pub logical: u32,
}

impl Label {
    /// The furthest that another's label may drag our own clock ahead of our wall clock.
    pub const AHEAD_MS_MAX: u64 = 60_000;

    /// The next label of our own, after `self`, at `wall_ms`.
    pub fn next(self, wall_ms: u64) -> Self {
        if wall_ms > self.wall_ms {
            Self { wall_ms, logical: 0 }
        } else {
            Self { wall_ms: self.wall_ms, logical: self.logical.saturating_add(1) }
        }
    }

    /// Our own clock after seeing another's label: clamped, so that one wrong clock does not infect all.
    pub fn witness(self, other: Label, wall_ms: u64) -> Self {
        let limit = Label { wall_ms: wall_ms.saturating_add(Self::AHEAD_MS_MAX), logical: 0 };
        self.max(other.min(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::{Arbitrary, Gen, QuickCheck};

    impl Arbitrary for VersionVector {
        fn arbitrary(g: &mut Gen) -> Self {
            (0..u8::arbitrary(g) % 5)
                .map(|_| {
                    let client = ClientId([u8::arbitrary(g) % 4; 32]);
                    let incarnation = Incarnation(u64::from(u8::arbitrary(g) % 3));
                    (client, Stamp { incarnation, counter: u64::from(u8::arbitrary(g) % 4) })
                })
                .collect()
        }
    }

    fn merged(a: &VersionVector, b: &VersionVector) -> VersionVector {
        let mut out = a.clone();
        out.merge(b);
        out
    }

    #[test]
    fn merging_vectors_is_associative_commutative_and_idempotent() {
        fn law(a: VersionVector, b: VersionVector, c: VersionVector) -> bool {
            merged(&a, &b) == merged(&b, &a)
                && merged(&merged(&a, &b), &c) == merged(&a, &merged(&b, &c))
                && merged(&a, &a) == a
        }
        QuickCheck::new().quickcheck(law as fn(_, _, _) -> bool);
    }

    #[test]
    fn a_merge_covers_both_sides_and_nothing_moves_back() {
        fn law(a: VersionVector, b: VersionVector) -> bool {
            let m = merged(&a, &b);
            m.covers(&a) && m.covers(&b) && (a.covers(&b) == (m == a))
        }
        QuickCheck::new().quickcheck(law as fn(_, _) -> bool);
    }

    #[test]
    fn a_vector_knows_of_each_client_what_was_written_up_to_its_stamp_and_no_more() {
        fn law(vector: VersionVector, incarnation: u8, counter: u8) -> bool {
            let stamp = Stamp {
                incarnation: Incarnation(u64::from(incarnation % 3)),
                counter: u64::from(counter % 5),
            };
            (0..5).map(|n| ClientId([n; 32])).all(|client| {
                let known = vector.get(&client);
                let listed = vector.iter().find(|(one, _)| **one == client).map(|(_, stamp)| *stamp);
                vector.contains(&Dot { client, stamp }) == (stamp <= known)
                    && listed == (known > Stamp::default()).then_some(known)
            }) && vector.len() == vector.iter().count()
                && vector.is_empty() == vector.iter().next().is_none()
                && vector == vector.iter().map(|(client, stamp)| (*client, *stamp)).collect()
        }
        QuickCheck::new().quickcheck(law as fn(_, _, _) -> bool);
    }

    #[test]
    fn setting_back_takes_away_what_came_later_and_the_zero_stamp_takes_all() {
        fn law(vector: VersionVector, client: u8, incarnation: u8, counter: u8) -> bool {
            let client = ClientId([client % 5; 32]);
            let stamp = Stamp {
                incarnation: Incarnation(u64::from(incarnation % 3)),
                counter: u64::from(counter % 5),
            };
            let mut back = vector.clone();
            back.set_back(&client, stamp);
            let others = vector.iter().filter(|(one, _)| **one != client);
            let known = vector.get(&client).min(stamp);
            let expected: VersionVector =
                others.map(|(one, stamp)| (*one, *stamp)).chain([(client, known)]).collect();
            back == expected && vector.covers(&back)
        }
        QuickCheck::new().tests(500).quickcheck(law as fn(_, _, _, _) -> bool);
    }

    #[test]
    fn an_incarnation_is_its_time_and_twenty_random_bits_or_above_all_that_was_seen() {
        let none = Incarnation::default();
        assert_eq!(Incarnation::mint(3, 5, none), Incarnation((3 << 20) + 5));
        assert_eq!(Incarnation::mint(3, u64::MAX, none), Incarnation((4 << 20) - 1), "no more than twenty");
        assert_eq!(Incarnation::mint(1, 0, Incarnation(9 << 20)), Incarnation((9 << 20) + 1));
        assert_eq!(Incarnation::mint(1 << 44, 0, none), Incarnation(1), "44 bits of the time");
    }

    #[test]
    fn stamps_and_dots_are_shown_short() {
        let stamp = Stamp { incarnation: Incarnation(0x2a), counter: 7 };
        let dot = Dot { client: ClientId([0xab; 32]), stamp };
        assert_eq!(format!("{stamp:?}"), "2a.7");
        assert_eq!(format!("{dot:?}"), format!("{:?}@2a.7", dot.client));
        let vector: VersionVector = [(dot.client, stamp)].into_iter().collect();
        assert_eq!(format!("{vector:?}"), format!("{{{:?}: 2a.7}}", dot.client));
    }

    #[test]
    fn a_label_is_the_wall_clock_or_the_next_of_its_millisecond() {
        let ours = Label { wall_ms: 1000, logical: 3 };
        assert_eq!(ours.next(1001), Label { wall_ms: 1001, logical: 0 });
        assert_eq!(ours.next(1000), Label { wall_ms: 1000, logical: 4 });
        assert_eq!(ours.next(999), Label { wall_ms: 1000, logical: 4 });
        let theirs = Label { wall_ms: 1500, logical: 9 };
        assert_eq!(ours.witness(theirs, 1200), theirs);
    }

    #[test]
    fn a_later_incarnation_is_later_whatever_its_counter() {
        let old = Stamp { incarnation: Incarnation(1), counter: 900 };
        let new = Stamp { incarnation: Incarnation(2), counter: 1 };
        assert!(new > old);
        assert!(Incarnation::mint(5, 7, Incarnation(u64::MAX - 1)) > Incarnation(u64::MAX - 1));
    }

    #[test]
    fn labels_never_go_back_and_a_wrong_clock_drags_them_a_minute_at_most() {
        let ours = Label { wall_ms: 1000, logical: 3 };
        assert!(ours.next(10) > ours);
        let far = Label { wall_ms: 10_000_000_000, logical: 9 };
        assert_eq!(ours.witness(far, 2000).wall_ms, 2000 + Label::AHEAD_MS_MAX);
        assert_eq!(ours.witness(Label::default(), 2000), ours);
    }
}
