//! A small map as one sorted list.
//!
//! For vectors of clients, of which a workgroup has few: cloned, compared, written and read at once, where a tree would
//! take its nodes one by one. Inserting is linear: not for maps that grow.

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};
use std::fmt;

/// A map of few keys, by rising key.
#[derive(Clone, PartialEq, Eq)]
pub struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(key))
    }

    /// The value under `key`.
    #[inline]
    pub fn get(&self, key: &K) -> Option<&V> {
        Some(&self.0.get(self.find(key).ok()?)?.1)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        Some(&mut self.0.get_mut(at)?.1)
    }

    /// Puts a value under a key, whatever was there.
    pub fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// A copy with room for so many keys more.
    pub fn clone_with_room(&self, more: usize) -> Self
    where
        K: Clone,
        V: Clone,
    {
        let mut pairs = Vec::with_capacity(self.0.len() + more);
        pairs.extend_from_slice(&self.0);
        Self(pairs)
    }

    /// Takes a key out, if it is there.
    pub fn remove(&mut self, key: &K) {
        if let Ok(at) = self.find(key) {
            self.0.remove(at);
        }
    }

    /// All keys and values, by rising key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of a key that comes twice, the last value.
impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        if !pairs.is_sorted_by(|(one, _), (next, _)| one < next) {
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
            pairs.reverse();
            pairs.dedup_by(|(one, _), (other, _)| one == other);
            pairs.reverse();
        }
        Self(pairs)
    }
}

/// As any map: the number of pairs, then each.
impl<K: Encode + 'static, V: Encode + 'static> Encode for SortedMap<K, V> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<Context, K, V> Decode<Context> for SortedMap<K, V>
where
    K: Decode<Context> + Ord + 'static,
    V: Decode<Context> + 'static,
{
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Vec::<(K, V)>::decode(decoder)?.into_iter().collect())
    }
}

impl<'a, Context, K, V> BorrowDecode<'a, Context> for SortedMap<K, V>
where
    K: BorrowDecode<'a, Context> + Ord + 'static,
    V: BorrowDecode<'a, Context> + 'static,
{
    fn borrow_decode<D: BorrowDecoder<'a, Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Vec::<(K, V)>::borrow_decode(decoder)?.into_iter().collect())
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SortedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(key, value)| (key, value))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};
    use quickcheck::QuickCheck;
    use std::collections::BTreeMap;

    #[test]
    fn it_is_as_a_tree_is_and_has_its_bytes() {
        fn law(start: Vec<(u8, u64)>, steps: Vec<(u8, Option<u64>)>) -> bool {
            let start: Vec<_> = start.into_iter().map(|(key, value)| (u64::from(key % 16), value)).collect();
            let mut tree: BTreeMap<_, _> = start.iter().copied().collect();
            let mut ours: SortedMap<_, _> = start.into_iter().collect();
            for (key, value) in steps {
                let key = u64::from(key % 16);
                match value {
                    Some(value) => {
                        tree.insert(key, value);
                        ours.insert(key, value);
                    }
                    None => {
                        tree.remove(&key);
                        ours.remove(&key);
                    }
                }
            }
            let bytes = encode(&ours).unwrap();
            ours.iter().eq(tree.iter())
                && (0..16).all(|key| ours.get(&key) == tree.get(&key))
                && bytes == encode(&tree).unwrap()
                && decode(&bytes) == Ok(ours)
        }
        QuickCheck::new().tests(1000).quickcheck(law as fn(_, _) -> bool);
    }

    #[test]
    fn keys_out_of_order_or_twice_are_read_as_a_tree_reads_them() {
        fn law(pairs: Vec<(u8, u64)>) -> bool {
            let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| (u64::from(key % 8), value)).collect();
            let bytes = encode(&pairs).unwrap();
            let tree: BTreeMap<u64, u64> = decode(&bytes).unwrap();
            decode::<SortedMap<u64, u64>>(&bytes).unwrap().iter().eq(tree.iter())
        }
        QuickCheck::new().tests(1000).quickcheck(law as fn(_) -> bool);
    }
}
