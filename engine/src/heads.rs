//! What a whole ledger adds up to, and the signed word of its owner on that.
//!
//! A [`LedgerSum`] is a multiset hash: entries are added and taken away one by one, in any order, and equal sets have
//! equal sums. It is LtHash with 1024 lanes of 16 bits. Plain addition of 256-bit hashes would be smaller, but who can
//! choose among many signed entries (a relay with old versions of a million items, or the owner itself) finds two sets
//! with one sum by the generalised birthday attack in some 2^32 steps; for this lattice the best known attacks take
//! more than 2^200. A [`Head`] carries 32 bytes of it, so the width costs nothing on the wire.
//!
//! Left out: tombstones, since they are forgotten at each member in its own time, and entries of an earlier incarnation
//! than the head's, since a new incarnation writes all entries again.

use crate::batch::{Keys, Signature};
use crate::clock::{Stamp, VersionVector};
use crate::ids::{ClientId, ItemId};
use crate::sorted::SortedMap;
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use std::fmt;

const LANES: usize = 1024;
const SUM_BYTES: usize = LANES * 2;

/// The sum of a ledger's live entries.
#[derive(Clone, PartialEq, Eq)]
pub struct LedgerSum(Box<[u16; LANES]>);

impl Default for LedgerSum {
    fn default() -> Self {
        Self(Box::new([0; LANES]))
    }
}

impl LedgerSum {
    /// Adds an entry.
    pub fn add(&mut self, item: &ItemId, stamp: Stamp, entry: &[u8]) {
        self.each(item, stamp, entry, u16::wrapping_add);
    }

    /// Takes an entry away that was added before.
    pub fn remove(&mut self, item: &ItemId, stamp: Stamp, entry: &[u8]) {
        self.each(item, stamp, entry, u16::wrapping_sub);
    }

    fn each(&mut self, item: &ItemId, stamp: Stamp, entry: &[u8], change: fn(u16, u16) -> u16) {
        let mut hasher = blake3::Hasher::new_derive_key("tcat 1 ledger element");
        hasher.update(&item.0);
        hasher.update(&stamp.incarnation.0.to_le_bytes()).update(&stamp.counter.to_le_bytes());
        hasher.update(entry);
        let mut lanes = [0; SUM_BYTES];
        hasher.finalize_xof().fill(&mut lanes);
        for (lane, bytes) in self.0.iter_mut().zip(lanes.chunks_exact(2)) {
            *lane = change(*lane, u16::from_le_bytes([bytes[0], bytes[1]]));
        }
    }

    /// The 32 bytes that a head carries.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("tcat 1 ledger sum");
        hasher.update(&self.bytes());
        *hasher.finalize().as_bytes()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; SUM_BYTES];
        for (bytes, lane) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(self.0.iter()) {
            *bytes = lane.to_le_bytes();
        }
        bytes
    }
}

impl fmt::Debug for LedgerSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sum {}", crate::ids::hex(&self.digest()[..4]))
    }
}

impl Encode for LedgerSum {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.bytes().encode(encoder)
    }
}

impl<Context> Decode<Context> for LedgerSum {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let bytes = Vec::<u8>::decode(decoder)?;
        if bytes.len() != SUM_BYTES {
            return Err(DecodeError::Other("a ledger's sum of another length"));
        }
        let mut sum = Self::default();
        for (lane, bytes) in sum.0.iter_mut().zip(bytes.chunks_exact(2)) {
            *lane = u16::from_le_bytes([bytes[0], bytes[1]]);
        }
        Ok(sum)
    }
}

bincode::impl_borrow_decode!(LedgerSum);

/// An owner's word on its whole ledger: "up to this stamp my live entries add up to this".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Head {
    /// The owner's last stamp when it signed.
    pub stamp: Stamp,
    /// [`LedgerSum::digest`] of its live entries of this incarnation.
    pub hash: [u8; 32],
    /// The owner's signature.
    pub signature: Signature,
}

impl Head {
    /// Signs a head as its owner.
    pub fn sign(owner: &ClientId, stamp: Stamp, hash: [u8; 32], keys: &dyn Keys) -> Self {
        Head { stamp, hash, signature: keys.sign(&signed_bytes(owner, stamp, &hash)) }
    }

    /// Whether `owner` signed it.
    pub fn is_of(&self, owner: &ClientId, keys: &dyn Keys) -> bool {
        keys.verify(owner, &signed_bytes(owner, self.stamp, &self.hash), &self.signature)
    }

    /// How a heartbeat names it.
    pub fn named(&self) -> WholeAt {
        let mut tag = [0; 8];
        tag.copy_from_slice(&self.hash[..8]);
        WholeAt { stamp: self.stamp, tag }
    }
}

fn signed_bytes(owner: &ClientId, stamp: Stamp, hash: &[u8; 32]) -> Vec<u8> {
    let mut bytes = b"tcat 1 head ".to_vec();
    bytes.extend_from_slice(&owner.0);
    bytes.extend_from_slice(&stamp.incarnation.0.to_le_bytes());
    bytes.extend_from_slice(&stamp.counter.to_le_bytes());
    bytes.extend_from_slice(hash);
    bytes
}

/// At which head a ledger is whole. The tag tells apart two heads of one stamp, which only a fork has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub struct WholeAt {
    /// The head's stamp.
    pub stamp: Stamp,
    /// The first eight bytes of the head's hash.
    pub tag: [u8; 8],
}

/// For each client, at which head its ledger is whole.
#[derive(Clone, PartialEq, Eq, Default, Debug, Encode, Decode)]
pub struct WholeVector(pub SortedMap<ClientId, WholeAt>);

impl WholeVector {
    /// Up to where `client`'s ledger is whole; the zero stamp if not at all.
    pub fn get(&self, client: &ClientId) -> Stamp {
        self.0.get(client).map(|at| at.stamp).unwrap_or_default()
    }

    /// The stamps alone.
    pub fn stamps(&self) -> VersionVector {
        self.0.iter().map(|(client, at)| (*client, at.stamp)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Incarnation;
    use quickcheck::QuickCheck;

    type Element = (u8, u8, Vec<u8>);

    fn sum(elements: &[Element]) -> LedgerSum {
        let mut sum = LedgerSum::default();
        for (item, counter, entry) in elements {
            sum.add(&ItemId([*item; 16]), stamp(*counter), entry);
        }
        sum
    }

    fn stamp(counter: u8) -> Stamp {
        Stamp { incarnation: Incarnation(1), counter: u64::from(counter) }
    }

    #[test]
    fn a_sum_does_not_depend_on_order_and_what_is_taken_away_was_never_there() {
        fn law(elements: Vec<Element>, extra: Element, turn: usize) -> bool {
            let mut turned = elements.clone();
            let at = turn.checked_rem(turned.len()).unwrap_or(0);
            turned.rotate_left(at);
            let expected = sum(&elements);
            let mut with_extra = sum(&[&turned[..], std::slice::from_ref(&extra)].concat());
            let differs = with_extra.digest() != expected.digest();
            with_extra.remove(&ItemId([extra.0; 16]), stamp(extra.1), &extra.2);
            turned.reverse();
            differs && with_extra == expected && sum(&turned) == expected
        }
        QuickCheck::new().quickcheck(law as fn(_, _, _) -> bool);
    }

    #[test]
    fn an_entry_that_is_there_twice_counts_twice_and_each_part_counts() {
        let one = (1, 2, vec![3]);
        assert_ne!(sum(&[one.clone(), one.clone()]), sum(std::slice::from_ref(&one)));
        for other in [(9, 2, vec![3]), (1, 9, vec![3]), (1, 2, vec![9]), (1, 2, vec![])] {
            assert_ne!(sum(&[other]).digest(), sum(std::slice::from_ref(&one)).digest());
        }
    }

    #[test]
    fn sums_read_back_as_written_and_no_other_length_is_read() {
        let sum = sum(&[(1, 2, vec![3]), (4, 5, vec![6; 100])]);
        let bytes = crate::codec::encode(&sum).unwrap();
        assert_eq!(crate::codec::decode::<LedgerSum>(&bytes).unwrap(), sum);
        assert!(crate::codec::decode::<LedgerSum>(&[1, 0]).is_err());
    }

    #[test]
    fn a_sum_has_1024_lanes_whose_hash_a_head_carries() {
        let bytes = crate::codec::encode(&sum(&[])).unwrap();
        // Two bytes a lane, after how many they are.
        assert!(bytes.len() > 2048 && bytes[bytes.len() - 2048..].iter().all(|byte| *byte == 0));
        assert_eq!(sum(&[]).digest(), blake3::derive_key("tcat 1 ledger sum", &[0; 2048]));
        let one = sum(&[(1, 2, vec![3])]);
        let lanes: std::collections::BTreeSet<_> = one.0.iter().copied().collect();
        assert!(lanes.len() > 900, "each lane is its own");
        assert_eq!(format!("{one:?}"), format!("sum {}", crate::ids::hex(&one.digest()[..4])));
    }

    #[test]
    fn a_whole_vector_says_where_each_ledger_is_whole_and_names_the_head() {
        let (client, other) = (ClientId([1; 32]), ClientId([2; 32]));
        let head = Head { stamp: stamp(7), hash: [5; 32], signature: Signature([0; 64]) };
        let vector = WholeVector([(client, head.named())].into_iter().collect());
        assert_eq!((vector.get(&client), vector.get(&other)), (stamp(7), Stamp::default()));
        assert_eq!(vector.stamps(), [(client, stamp(7))].into_iter().collect());
        assert_ne!(Head { hash: [6; 32], ..head }.named(), head.named(), "a fork has another name");
    }

    /// Signs with a keyed hash: enough to tell whose and of what.
    struct TestKeys(ClientId);

    impl Keys for TestKeys {
        fn sign(&self, bytes: &[u8]) -> Signature {
            let mut out = [0; 64];
            blake3::Hasher::new_keyed(&self.0.0).update(bytes).finalize_xof().fill(&mut out);
            Signature(out)
        }
        fn verify(&self, client: &ClientId, bytes: &[u8], signature: &Signature) -> bool {
            TestKeys(*client).sign(bytes) == *signature
        }
    }

    #[test]
    fn a_head_is_its_owners_for_that_stamp_and_hash_alone() {
        let (owner, other) = (ClientId([1; 32]), ClientId([2; 32]));
        let keys = TestKeys(owner);
        let head = Head::sign(&owner, stamp(7), [5; 32], &keys);
        assert!(head.is_of(&owner, &keys) && !head.is_of(&other, &keys));
        assert!(!Head { stamp: stamp(8), ..head }.is_of(&owner, &keys));
        assert!(!Head { hash: [6; 32], ..head }.is_of(&owner, &keys));
    }
}
