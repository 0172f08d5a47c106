//! A content's BLAKE3 tree at one level, so that every group of a megabyte can be proved by itself.
//!
//! The list of group digests hashes up to the content's BLAKE3; a receiver that has checked the list once can verify
//! groups from any source, in any order, before a byte of them is used, and can resume from what it has on disk.
//! A content of one group needs no outboard: its BLAKE3 is its group's.

use crate::content::Blake3;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Bytes in every group but the last. A power of two of at least BLAKE3's chunk, as its tree demands.
pub const GROUP_BYTES: u64 = 1 << 20;

/// The chaining values of a content's groups, in order. One group has its root digest instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outboard {
    /// Length of the content in bytes.
    pub size: u64,
    /// One digest a group; at least one, also for the empty content.
    pub groups: Vec<[u8; 32]>,
}

/// How many groups a content of `size` bytes has: at least one.
pub fn group_count(size: u64) -> u64 {
    size.div_ceil(GROUP_BYTES).max(1)
}

/// The bytes `[start, end)` of group `index` in a content of `size` bytes.
pub fn group_range(size: u64, index: u64) -> (u64, u64) {
    let start = index.saturating_mul(GROUP_BYTES).min(size);
    (start, start.saturating_add(GROUP_BYTES).min(size))
}

/// The digest of one group of a content of `size` bytes. `index` is below [`group_count`].
pub fn group_digest(size: u64, index: u64, bytes: &[u8]) -> [u8; 32] {
    if group_count(size) == 1 {
        return *blake3::hash(bytes).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(index * GROUP_BYTES);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

impl Outboard {
    /// The content's BLAKE3, or nothing if the number of groups does not fit the size.
    pub fn root(&self) -> Option<Blake3> {
        if self.groups.len() as u64 != group_count(self.size) {
            return None;
        }
        match self.groups.as_slice() {
            [only] => Some(Blake3(*only)),
            groups => {
                let (left, right) = groups.split_at(left_groups(groups.len()));
                Some(Blake3(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes()))
            }
        }
    }

    /// Whether `bytes` are group `index` of this content.
    pub fn verifies(&self, index: u64, bytes: &[u8]) -> bool {
        let (start, end) = group_range(self.size, index);
        let expected = usize::try_from(index).ok().and_then(|i| self.groups.get(i));
        expected.is_some_and(|digest| {
            bytes.len() as u64 == end - start && *digest == group_digest(self.size, index, bytes)
        })
    }
}

/// Groups in the left subtree: the largest power of two below `count`. `count` is at least two.
fn left_groups(count: usize) -> usize {
    count.next_power_of_two() / 2
}

fn subtree(groups: &[[u8; 32]]) -> ChainingValue {
    match groups {
        [] => [0; 32], // never reached: splits leave at least one group on each side
        [only] => *only,
        many => {
            let (left, right) = many.split_at(left_groups(many.len()));
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// Builds an [`Outboard`] from bytes as they come, in pieces of any length.
pub struct OutboardBuilder {
    groups: Vec<[u8; 32]>,
    current: blake3::Hasher,
    in_group: u64,
    size: u64,
}

impl Default for OutboardBuilder {
    fn default() -> Self {
        Self { groups: Vec::new(), current: blake3::Hasher::new(), in_group: 0, size: 0 }
    }
}

impl OutboardBuilder {
    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.in_group == GROUP_BYTES {
                self.close_group();
            }
            let room = (GROUP_BYTES - self.in_group) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.current.update(now);
            self.in_group += now.len() as u64;
            self.size += now.len() as u64;
            bytes = later;
        }
    }

    fn close_group(&mut self) {
        self.groups.push(self.current.finalize_non_root());
        // A new hasher: `reset` keeps the old input offset (blake3 1.8.7).
        self.current = blake3::Hasher::new();
        self.current.set_input_offset(self.groups.len() as u64 * GROUP_BYTES);
        self.in_group = 0;
    }

    /// The outboard of all bytes, and their BLAKE3.
    pub fn finish(mut self) -> (Outboard, Blake3) {
        if self.groups.is_empty() {
            let root = *self.current.finalize().as_bytes();
            return (Outboard { size: self.size, groups: vec![root] }, Blake3(root));
        }
        self.groups.push(self.current.finalize_non_root());
        let (left, right) = self.groups.split_at(left_groups(self.groups.len()));
        let root = *merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes();
        (Outboard { size: self.size, groups: self.groups }, Blake3(root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    #[test]
    fn the_root_is_the_plain_blake3_at_every_length_and_split() {
        let group = GROUP_BYTES as usize;
        for len in [0, 1, 1024, group - 1, group, group + 1, 2 * group, 3 * group + 17, 5 * group] {
            let data = bytes(len);
            let mut builder = OutboardBuilder::default();
            for piece in data.chunks(333_333) {
                builder.update(piece);
            }
            let (outboard, root) = builder.finish();
            assert_eq!(root.0, *blake3::hash(&data).as_bytes(), "{len}");
            assert_eq!(outboard.root(), Some(root), "{len}");
            for index in 0..group_count(len as u64) {
                let (start, end) = group_range(len as u64, index);
                assert!(outboard.verifies(index, &data[start as usize..end as usize]), "{len} {index}");
            }
        }
    }

    #[test]
    fn a_changed_moved_or_cut_group_is_refused() {
        let data = bytes(2 * GROUP_BYTES as usize + 5);
        let mut builder = OutboardBuilder::default();
        builder.update(&data);
        let (outboard, _) = builder.finish();
        let first = &data[..GROUP_BYTES as usize];
        let mut changed = first.to_vec();
        changed[77] ^= 1;
        assert!(!outboard.verifies(0, &changed));
        assert!(!outboard.verifies(1, first));
        assert!(!outboard.verifies(0, &first[1..]));
        assert!(!outboard.verifies(9, b""));
        assert!(!outboard.verifies(u64::MAX, b""));
    }

    #[test]
    fn a_list_of_the_wrong_length_has_no_root() {
        assert_eq!(Outboard { size: 5 * GROUP_BYTES, groups: vec![[0; 32]; 4] }.root(), None);
        assert_eq!(Outboard { size: 0, groups: vec![] }.root(), None);
    }
}
