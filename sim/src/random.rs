//! The simulator's chance: SplitMix64 and named streams of it, every output fixed by this file for good.
//!
//! A [`Streams`] draw depends on (seed, stream, entity, how many were drawn there before) and on nothing else, so that
//! leaving out one fault or deed leaves every draw of another stream or entity as it was.

/// A stream of numbers that depends on its seed alone.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream of a seed for one purpose and one entity of it.
    pub fn named(seed: u64, name: &str, entity: u64) -> Self {
        let named = name.bytes().fold(0x9ae1_6a3b_2f90_404f, |hash, byte| finish(hash ^ u64::from(byte)));
        Self(finish(finish(seed ^ named).wrapping_add(entity)))
    }

    /// The next number. Constants of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        finish(self.0)
    }

    /// A number below `bound`; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// A number from `from` up to, not including, `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// True so many times in a thousand.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of some things; none of none.
    pub fn one_of<'a, T>(&mut self, some: &'a [T]) -> Option<&'a T> {
        some.get(usize::try_from(self.below(some.len() as u64)).unwrap_or(0))
    }
}

fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a draw is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stream {
    /// Random numbers of a node's starts.
    Start,
    /// What the network does to the messages of one link.
    Link,
    /// How long effects of one node take.
    Effect,
    /// What goes wrong with effects of one node.
    Fault,
    /// How long looks of one node take.
    Look,
    /// What persons do beside the plan, at one node.
    Person,
    /// What a test draws.
    Test,
    /// What becomes of one node's database.
    Disk,
    /// What happens between the primitives of one node's work in its folder.
    Steps,
    /// How long it takes until one node's transfer that breaks is over.
    Transfer,
}

const STREAMS: [(Stream, &str); 10] = [
    (Stream::Start, "start"),
    (Stream::Link, "link"),
    (Stream::Effect, "effect"),
    (Stream::Fault, "fault"),
    (Stream::Look, "look"),
    (Stream::Person, "person"),
    (Stream::Test, "test"),
    (Stream::Disk, "disk"),
    (Stream::Steps, "steps"),
    (Stream::Transfer, "transfer"),
];

/// The named streams of one seed.
#[derive(Clone, Debug)]
pub struct Streams {
    seed: u64,
    drawn: [Vec<Option<Random>>; STREAMS.len()],
}

impl Streams {
    /// The streams of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: Default::default() }
    }

    /// The stream of one entity; entities are small numbers.
    pub fn of(&mut self, stream: Stream, entity: usize) -> &mut Random {
        let (seed, streams) = (self.seed, &mut self.drawn[stream as usize]);
        if streams.len() <= entity {
            streams.resize(entity + 1, None);
        }
        streams[entity].get_or_insert_with(|| Random::named(seed, STREAMS[stream as usize].1, entity as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_never_changes() {
        let mut random = Random::new(1234567);
        // The published reference outputs for this seed.
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
        assert_eq!(Random::named(7, "link", 3).next_u64(), Random::named(7, "link", 3).next_u64());
    }

    #[test]
    fn a_draw_of_one_entity_leaves_the_others_alone() {
        let (mut one, mut other) = (Streams::new(5), Streams::new(5));
        for _ in 0..10 {
            other.of(Stream::Link, 2).next_u64();
            other.of(Stream::Fault, 1).next_u64();
        }
        assert_eq!(one.of(Stream::Link, 1).next_u64(), other.of(Stream::Link, 1).next_u64());
        let names: Vec<_> = STREAMS.iter().map(|(stream, _)| *stream as usize).collect();
        assert_eq!(names, (0..STREAMS.len()).collect::<Vec<_>>(), "the table is in the order of the numbers");
    }
}
