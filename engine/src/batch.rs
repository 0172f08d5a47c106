//! What a client wrote in one transaction, signed: the unit that ledgers are kept and relayed in.
//!
//! A batch is a Merkle tree over its records, whose counters are consecutive. Its owner signs the root once. Records
//! that later ones replaced are pruned to the hash of their subtree, so that any member can relay what is left and
//! the receiver still checks the owner's signature over it.

use crate::clock::{Incarnation, Stamp};

use crate::ids::{ClientId, ItemId};
use bincode::{Decode, Encode};
use std::fmt;
use std::iter::Peekable;

/// The most records in one batch; a larger transaction is several batches.
pub const BATCH_RECORDS_MAX: usize = 256;

/// An ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("signature")
    }
}

/// Signing as ourselves and checking others: outside, so that the engine holds no key.
pub trait Keys {
    /// Our signature of `bytes`.
    fn sign(&self, bytes: &[u8]) -> Signature;
    /// Whether `signature` of `bytes` is `client`'s.
    fn verify(&self, client: &ClientId, bytes: &[u8], signature: &Signature) -> bool;
}

/// One entry as its owner wrote it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Record {
    /// The item.
    pub item: ItemId,
    /// The entry's bytes, verbatim.
    pub entry: Vec<u8>,
}

/// A part of a batch's tree, from the left.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Piece {
    /// A record that still counts.
    Record(Record),
    /// A whole subtree of records that no longer count.
    Pruned {
        /// How many.
        records: u32,
        /// The subtree's hash.
        hash: [u8; 32],
    },
}

/// The records of one transaction, some of them pruned, under their owner's signature.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Batch {
    /// Who wrote it.
    pub owner: ClientId,
    /// In which life.
    pub incarnation: Incarnation,
    /// The counter of the first record.
    pub first: u64,
    /// How many records were written, pruned ones included.
    pub count: u32,
    /// The owner's signature of [`Batch::signed_bytes`].
    pub signature: Signature,
    /// The tree.
    pub pieces: Vec<Piece>,
}

/// A batch that is not what its owner signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The pieces do not make up a tree of `count` records.
    #[error("the batch's tree is malformed")]
    Malformed,
    /// The signature is not the owner's, or not of these records.
    #[error("the batch is not signed by its owner")]
    Signature,
}

/// The hash of one record.
pub fn leaf_hash(record: &Record) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("tcat 1 ledger record");
    hasher.update(&record.item.0).update(&record.entry);
    *hasher.finalize().as_bytes()
}

/// The hash of two subtrees side by side.
pub fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("tcat 1 ledger node");
    hasher.update(left).update(right);
    *hasher.finalize().as_bytes()
}

/// Records in the left subtree of `count`: the largest power of two below it. `count` is at least two.
pub fn left_records(count: u32) -> u32 {
    count.next_power_of_two() / 2
}

impl Batch {
    /// Makes and signs a batch of 1 to [`BATCH_RECORDS_MAX`] records.
    pub fn sign(
        owner: ClientId,
        incarnation: Incarnation,
        first: u64,
        records: Vec<Record>,
        keys: &dyn Keys,
    ) -> Result<Self, BatchError> {
        let count = u32::try_from(records.len()).map_err(|_| BatchError::Malformed)?;
        let pieces = records.into_iter().map(Piece::Record).collect();
        let mut batch = Batch { owner, incarnation, first, count, signature: Signature([0; 64]), pieces };
        let root = batch.root()?;
        batch.signature = keys.sign(&batch.signed_bytes(&root));
        Ok(batch)
    }

    /// Checks form, bounds and signature.
    pub fn verify(&self, keys: &dyn Keys) -> Result<(), BatchError> {
        let root = self.root()?;
        let overflow = self.first.checked_add(u64::from(self.count)).is_none();
        if overflow || self.first == 0 {
            return Err(BatchError::Malformed);
        }
        if keys.verify(&self.owner, &self.signed_bytes(&root), &self.signature) {
            Ok(())
        } else {
            Err(BatchError::Signature)
        }
    }

    /// The records that still count, with their stamps.
    pub fn records(&self) -> impl Iterator<Item = (Stamp, &Record)> {
        let mut counter = self.first;
        self.pieces.iter().filter_map(move |piece| {
            let at = counter;
            match piece {
                Piece::Record(record) => {
                    counter = counter.saturating_add(1);
                    Some((Stamp { incarnation: self.incarnation, counter: at }, record))
                }
                Piece::Pruned { records, .. } => {
                    counter = counter.saturating_add(u64::from(*records));
                    None
                }
            }
        })
    }

    /// The same batch with every record that is in either of the two; none if they are not one batch.
    pub fn union(&self, other: &Batch) -> Option<Batch> {
        let named = |batch: &Batch| (batch.owner, batch.incarnation, batch.first, batch.count);
        if named(self) != named(other) || self.root().ok()? != other.root().ok()? {
            return None;
        }
        let (mut ours, mut theirs) = (self.pieces.iter().peekable(), other.pieces.iter().peekable());
        Some(Batch { pieces: unite(self.count, &mut ours, &mut theirs), ..self.clone() })
    }

    /// The stamp of the last record written, pruned or not.
    pub fn last_stamp(&self) -> Stamp {
        let counter = self.first.saturating_add(u64::from(self.count)).saturating_sub(1);
        Stamp { incarnation: self.incarnation, counter }
    }

    fn signed_bytes(&self, root: &[u8; 32]) -> Vec<u8> {
        let mut bytes = b"tcat 1 batch ".to_vec();
        bytes.extend_from_slice(&self.owner.0);
        bytes.extend_from_slice(&self.incarnation.0.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(root);
        bytes
    }

    fn root(&self) -> Result<[u8; 32], BatchError> {
        if self.count == 0
            || self.count as usize > BATCH_RECORDS_MAX
            || self.pieces.len() > self.count as usize
        {
            return Err(BatchError::Malformed);
        }
        let mut pieces = self.pieces.iter();
        let mut next = pieces.next();
        let root = fold_tree(self.count, &mut next, &mut pieces)?;
        if next.is_some() { Err(BatchError::Malformed) } else { Ok(root) }
    }
}

/// Hashes the subtree of `count` records whose pieces come next. `count` halves at each level: at most 9 deep.
fn fold_tree<'a>(
    count: u32,
    next: &mut Option<&'a Piece>,
    pieces: &mut impl Iterator<Item = &'a Piece>,
) -> Result<[u8; 32], BatchError> {
    match *next {
        Some(Piece::Pruned { records, hash }) if *records == count => {
            *next = pieces.next();
            Ok(*hash)
        }
        Some(Piece::Record(record)) if count == 1 => {
            *next = pieces.next();
            Ok(leaf_hash(record))
        }
        Some(_) if count > 1 => {
            let left = left_records(count);
            let left_hash = fold_tree(left, next, pieces)?;
            let right_hash = fold_tree(count - left, next, pieces)?;
            Ok(node_hash(&left_hash, &right_hash))
        }
        _ => Err(BatchError::Malformed),
    }
}

type Pieces<'a> = Peekable<std::slice::Iter<'a, Piece>>;

/// The subtree of `count` records that comes next in both, with what either has of it. Both make up the same tree, so
/// the recursion halves `count` until one of them is a single piece.
fn unite(count: u32, ours: &mut Pieces<'_>, theirs: &mut Pieces<'_>) -> Vec<Piece> {
    let single = |next: Option<&&Piece>| match next {
        Some(Piece::Pruned { records, .. }) => *records >= count,
        Some(Piece::Record(_)) => count <= 1,
        None => true,
    };
    if count > 1 && !single(ours.peek()) && !single(theirs.peek()) {
        let left = left_records(count);
        let mut pieces = unite(left, ours, theirs);
        pieces.extend(unite(count - left, ours, theirs));
        return pieces;
    }
    let pruned = matches!(ours.peek(), Some(Piece::Pruned { records, .. }) if *records >= count);
    let (ours, theirs) = (take_subtree(count, ours), take_subtree(count, theirs));
    if pruned { theirs } else { ours }
}

fn take_subtree(count: u32, pieces: &mut Pieces<'_>) -> Vec<Piece> {
    let (mut taken, mut records) = (Vec::new(), 0);
    while let (true, Some(piece)) = (records < count, pieces.peek()) {
        records += match piece {
            Piece::Record(_) => 1,
            Piece::Pruned { records, .. } => *records,
        };
        taken.push((*piece).clone());
        pieces.next();
    }
    taken
}

/// Which records of a kept batch still count, without the records: what a store keeps beside the entries.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Skeleton {
    /// How many records were written.
    pub count: u32,
    /// The owner's signature.
    pub signature: Signature,
    /// The tree, from the left.
    pub bones: Vec<Bone>,
}

/// A part of a [`Skeleton`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Bone {
    /// One record that still counts; it is kept under its item.
    Live,
    /// A whole subtree of records that no longer count.
    Pruned {
        /// How many.
        records: u32,
        /// The subtree's hash.
        hash: [u8; 32],
    },
}

impl Skeleton {
    /// The skeleton of a verified batch.
    pub fn of(batch: &Batch) -> Self {
        let bones = batch
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Record(_) => Bone::Live,
                Piece::Pruned { records, hash } => Bone::Pruned { records: *records, hash: *hash },
            })
            .collect();
        Skeleton { count: batch.count, signature: batch.signature, bones }
    }

    /// Prunes the record at `index` (from 0), whose hash is `hash`, and merges pruned neighbours. False if there is
    /// no live record at that place.
    pub fn prune(&mut self, index: u32, hash: [u8; 32]) -> bool {
        let mut at = 0;
        for bone in &mut self.bones {
            match bone {
                Bone::Live if at == index => {
                    *bone = Bone::Pruned { records: 1, hash };
                    let mut merged = Vec::with_capacity(self.bones.len());
                    let bones = std::mem::take(&mut self.bones);
                    merge_bones(self.count, &mut bones.into_iter().peekable(), &mut merged);
                    self.bones = merged;
                    return true;
                }
                Bone::Live => at += 1,
                Bone::Pruned { records, .. } => at = at.saturating_add(*records),
            }
        }
        false
    }

    /// Whether no record counts any more: the batch can be forgotten.
    pub fn is_bare(&self) -> bool {
        !self.bones.contains(&Bone::Live)
    }
}

/// Appends the subtree of `count` records whose bones come next, with pruned neighbours made one.
fn merge_bones(count: u32, bones: &mut Peekable<std::vec::IntoIter<Bone>>, merged: &mut Vec<Bone>) {
    let whole = match bones.peek() {
        None => return,
        Some(Bone::Pruned { records, .. }) => *records >= count,
        Some(Bone::Live) => count <= 1,
    };
    if whole {
        merged.extend(bones.next());
        return;
    }
    let (begin, left) = (merged.len(), left_records(count));
    merge_bones(left, bones, merged);
    merge_bones(count - left, bones, merged);
    if let Some([Bone::Pruned { records: a, hash: left_hash }, Bone::Pruned { records: b, hash: right_hash }]) =
        merged.get(begin..)
        && (*a, *b) == (left, count - left)
    {
        let hash = node_hash(left_hash, right_hash);
        merged.truncate(begin);
        merged.push(Bone::Pruned { records: count, hash });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::QuickCheck;

    /// Signs with a keyed hash: enough to tell whose and of what.
    struct TestKeys(ClientId);

    fn tag(client: &ClientId, bytes: &[u8]) -> Signature {
        let mut out = [0; 64];
        blake3::Hasher::new_keyed(&client.0).update(bytes).finalize_xof().fill(&mut out);
        Signature(out)
    }

    impl Keys for TestKeys {
        fn sign(&self, bytes: &[u8]) -> Signature {
            tag(&self.0, bytes)
        }
        fn verify(&self, client: &ClientId, bytes: &[u8], signature: &Signature) -> bool {
            tag(client, bytes) == *signature
        }
    }

    const OWNER: ClientId = ClientId([3; 32]);

    fn batch(count: usize) -> Batch {
        let records =
            (0..count).map(|i| Record { item: ItemId([i as u8; 16]), entry: vec![i as u8; 5] }).collect();
        Batch::sign(OWNER, Incarnation(1), 10, records, &TestKeys(OWNER)).unwrap()
    }

    /// What a relay sends after the records in `gone` were replaced.
    fn pruned(batch: &Batch, gone: &[usize]) -> Batch {
        let mut skeleton = Skeleton::of(batch);
        let records: Vec<_> = batch.records().map(|(_, record)| record.clone()).collect();
        for index in gone {
            skeleton.prune(*index as u32, leaf_hash(&records[*index]));
        }
        let mut live = records.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, r)| r.clone());
        let pieces = skeleton.bones.into_iter().map(|bone| match bone {
            Bone::Live => Piece::Record(live.next().unwrap()),
            Bone::Pruned { records, hash } => Piece::Pruned { records, hash },
        });
        Batch { pieces: pieces.collect(), ..batch.clone() }
    }

    #[test]
    fn whatever_is_pruned_the_rest_still_verifies_with_its_own_stamps() {
        fn law(count: u8, gone: Vec<u8>) -> bool {
            let count = usize::from(count).max(1);
            let mut gone: Vec<_> = gone.into_iter().map(|g| usize::from(g) % count).collect();
            gone.sort_unstable();
            gone.dedup();
            let whole = batch(count);
            let part = pruned(&whole, &gone);
            let kept: Vec<_> =
                whole.records().filter(|(s, _)| !gone.contains(&(s.counter as usize - 10))).collect();
            part.verify(&TestKeys(OWNER)).is_ok() && part.records().eq(kept)
        }
        QuickCheck::new().quickcheck(law as fn(_, _) -> bool);
    }

    #[test]
    fn what_one_has_pruned_and_the_other_has_not_is_in_their_union() {
        fn law(count: u8, ours: Vec<u8>, theirs: Vec<u8>) -> bool {
            let count = usize::from(count).max(1);
            let tidy = |gone: Vec<u8>| {
                let mut gone: Vec<_> = gone.into_iter().map(|g| usize::from(g) % count).collect();
                gone.sort_unstable();
                gone.dedup();
                gone
            };
            let (ours, theirs, whole) = (tidy(ours), tidy(theirs), batch(count));
            let (a, b) = (pruned(&whole, &ours), pruned(&whole, &theirs));
            let union = a.union(&b).unwrap();
            let both = |at: usize| ours.contains(&at) && theirs.contains(&at);
            let kept: Vec<_> = whole.records().filter(|(s, _)| !both(s.counter as usize - 10)).collect();
            union.verify(&TestKeys(OWNER)).is_ok() && union.records().eq(kept)
        }
        QuickCheck::new().quickcheck(law as fn(_, _, _) -> bool);
        assert_eq!(batch(3).union(&batch(4)), None);
    }

    #[test]
    fn a_signature_takes_64_bytes() {
        let signature = tag(&OWNER, b"x");
        let bytes = crate::codec::encode(&signature).unwrap();
        assert_eq!(bytes, signature.0);
        assert_eq!(crate::codec::decode::<Signature>(&bytes).unwrap(), signature);
    }

    #[test]
    fn one_live_record_costs_a_logarithm_of_hashes() {
        let gone: Vec<_> = (0..256).filter(|i| *i != 77).collect();
        let part = pruned(&batch(256), &gone);
        assert_eq!(part.pieces.len(), 9);
        assert!(part.verify(&TestKeys(OWNER)).is_ok());
    }

    #[test]
    fn a_changed_record_counter_owner_or_count_is_refused() {
        let keys = TestKeys(OWNER);
        let good = batch(5);
        let mut changed = good.clone();
        if let Some(Piece::Record(record)) = changed.pieces.get_mut(2) {
            record.entry[0] ^= 1;
        }
        assert_eq!(changed.verify(&keys), Err(BatchError::Signature));
        assert!(Batch { first: 11, ..good.clone() }.verify(&keys).is_err());
        assert!(Batch { owner: ClientId([4; 32]), ..good.clone() }.verify(&keys).is_err());
        assert!(Batch { count: 6, ..good.clone() }.verify(&keys).is_err());
        assert!(Batch { first: 0, ..good.clone() }.verify(&keys).is_err());
        assert!(Batch { first: u64::MAX, ..good }.verify(&keys).is_err());
    }

    #[test]
    fn arbitrary_trees_never_panic() {
        fn law(count: u32, pieces: Vec<(bool, u32)>) -> bool {
            let pieces = pieces
                .into_iter()
                .map(|(live, records)| match live {
                    true => Piece::Record(Record { item: ItemId([0; 16]), entry: vec![] }),
                    false => Piece::Pruned { records, hash: [0; 32] },
                })
                .collect();
            Batch { count: count % 300, pieces, ..batch(1) }.verify(&TestKeys(OWNER)).is_err()
                || count % 300 == 1
        }
        QuickCheck::new().quickcheck(law as fn(_, _) -> bool);
    }
}
