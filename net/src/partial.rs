//! The file that a content is fetched into: what of it is verified, and writing only what is.
//!
//! Always: nothing is believed of what the file holds; it is hashed. Plain blocking functions.

use crate::bulk::wire;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use tcat_engine::content::Blake3;
use tcat_engine::outboard::{GROUP_BYTES, Outboard, group_count, group_digest, group_range};

/// What can go wrong with it.
#[derive(Debug)]
pub(crate) enum DiskError {
    /// This group's bytes are not the content's; they were not written.
    Unverified(u64),
    Io(io::Error),
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An open partial file and the digests of the whole groups found in it.
pub(crate) struct Partial {
    file: File,
    size: u64,
    /// Of the groups that the file is long enough for, from the first on.
    found: Vec<[u8; 32]>,
}

impl Partial {
    /// To be run: opens the file and hashes what it holds; with the outboard, if that is the whole content.
    pub(crate) fn open(
        open: impl FnOnce() -> io::Result<File> + Send + 'static,
        size: u64,
        blake3: Blake3,
    ) -> impl FnOnce() -> Result<(Self, Option<Outboard>), DiskError> + Send + 'static {
        move || {
            let mut file = open()?;
            let length = file.metadata()?.len();
            if length > size {
                file.set_len(size)?; // Left over from another content; what is equal still counts.
            }
            let found = digests(&mut file, length.min(size), size)?;
            let whole = Outboard { size, groups: found.clone() };
            let whole = (whole.root() == Some(blake3)).then_some(whole);
            Ok((Self { file, size, found }, whole))
        }
    }

    /// Whether no group was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The groups to fetch, as ranges of (first, count).
    pub(crate) fn missing(self, outboard: &Outboard) -> Result<(Self, Vec<(u64, u64)>), DiskError> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (index, digest) in (0_u64..).zip(&outboard.groups) {
            let found = usize::try_from(index).ok().and_then(|i| self.found.get(i));
            if found == Some(digest) {
                continue;
            }
            let full = ranges.len() >= wire::RANGES_MAX;
            match ranges.last_mut() {
                // With too many holes, what lies between the last ones is fetched again.
                Some((first, count)) if full || *first + *count == index => *count = index - *first + 1,
                _ => ranges.push((index, 1)),
            }
        }
        Ok((self, ranges))
    }

    /// Writes group `index` at its place, if it verifies.
    pub(crate) fn write(&mut self, outboard: &Outboard, index: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if !outboard.verifies(index, bytes) {
            return Err(DiskError::Unverified(index));
        }
        self.file.seek(SeekFrom::Start(group_range(self.size, index).0))?;
        self.file.write_all(bytes)?;
        Ok(())
    }

    /// Makes the file durable.
    pub(crate) fn finish(self) -> Result<(), DiskError> {
        Ok(self.file.sync_all()?)
    }
}

/// The digests of the groups that are whole within the first `length` bytes of a content of `size` bytes.
fn digests(file: &mut File, length: u64, size: u64) -> io::Result<Vec<[u8; 32]>> {
    let mut digests = Vec::new();
    let mut buffer = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    for index in 0..group_count(size) {
        let (start, end) = group_range(size, index);
        if end > length {
            break;
        }
        buffer.resize((end - start).min(GROUP_BYTES) as usize, 0);
        file.read_exact(&mut buffer)?;
        digests.push(group_digest(size, index, &buffer));
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tcat_engine::outboard::OutboardBuilder;

    fn content(groups: u64) -> (Vec<u8>, Outboard, Blake3) {
        let bytes: Vec<u8> = (0..groups * GROUP_BYTES - 3).map(|i| (i * 7 % 251) as u8).collect();
        let mut builder = OutboardBuilder::default();
        builder.update(&bytes);
        let (outboard, root) = builder.finish();
        (bytes, outboard, root)
    }

    fn open(path: &Path, bytes: &[u8], root: Blake3) -> (Partial, bool) {
        let path = path.to_owned();
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(path);
        let (partial, whole) = Partial::open(open, bytes.len() as u64, root)().unwrap();
        (partial, whole.is_some_and(|outboard| outboard.root() == Some(root)))
    }

    #[test]
    fn only_what_does_not_verify_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partial");
        let (bytes, outboard, root) = content(5);
        let group = GROUP_BYTES as usize;
        let mut damaged = bytes.clone();
        damaged[group + 9] ^= 1;
        damaged.truncate(3 * group + 100);
        std::fs::write(&path, &damaged).unwrap();
        let (partial, whole) = open(&path, &bytes, root);
        assert!(!whole);
        let (_, ranges) = partial.missing(&outboard).unwrap();
        assert_eq!(ranges, [(1, 1), (3, 2)]);
    }

    #[test]
    fn a_whole_file_is_known_without_asking_anybody_even_with_a_tail_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partial");
        let (bytes, _, root) = content(2);
        std::fs::write(&path, [&bytes[..], b"tail"].concat()).unwrap();
        assert!(open(&path, &bytes, root).1);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn whatever_a_crash_leaves_the_resumed_file_is_the_content() {
        // Of each group a crash may keep all, nothing but zeros, or a part; or everything from there on is cut off.
        const LEFT: usize = 4;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partial");
        let (bytes, outboard, root) = content(3);
        let group = GROUP_BYTES as usize;
        for case in 0..LEFT.pow(3) {
            let mut left = Vec::new();
            let mut wrong = 0;
            for (index, whole) in bytes.chunks(group).enumerate() {
                let how = case / LEFT.pow(index as u32) % LEFT;
                match how {
                    0 => left.extend(whole),
                    1 => left.resize(left.len() + whole.len(), 0),
                    2 => {
                        left.extend(&whole[..whole.len() / 2]);
                        left.resize(left.len() + whole.len() - whole.len() / 2, 0);
                    }
                    _ => {
                        wrong += 3 - index as u64;
                        break;
                    }
                }
                wrong += u64::from(how != 0);
            }
            std::fs::write(&path, &left).unwrap();
            let (partial, whole) = open(&path, &bytes, root);
            assert_eq!(whole, wrong == 0, "case {case}: nothing is believed, everything is hashed");
            let (mut partial, ranges) = partial.missing(&outboard).unwrap();
            assert_eq!(
                ranges.iter().map(|(_, count)| count).sum::<u64>(),
                wrong,
                "case {case}: only that is fetched"
            );
            for index in ranges.iter().flat_map(|(first, count)| *first..first + count) {
                let (start, end) = group_range(bytes.len() as u64, index);
                partial.write(&outboard, index, &bytes[start as usize..end as usize]).unwrap();
            }
            partial.finish().unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "case {case}");
        }
    }

    #[test]
    fn wrong_bytes_are_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partial");
        let (bytes, outboard, root) = content(2);
        let (mut partial, _) = open(&path, &bytes, root);
        let wrong = vec![1; GROUP_BYTES as usize];
        assert!(matches!(partial.write(&outboard, 0, &wrong), Err(DiskError::Unverified(0))));
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_file_full_of_holes_asks_for_a_bounded_number_of_ranges() {
        let folder = tempfile::tempdir().unwrap();
        let count = 3 * wire::RANGES_MAX;
        let groups: Vec<[u8; 32]> = (0..count).map(|i| [(i % 2) as u8; 32]).collect();
        let outboard = Outboard { size: count as u64 * GROUP_BYTES, groups };
        let file = File::create(folder.path().join("partial")).unwrap();
        let partial = Partial { file, size: outboard.size, found: vec![[0; 32]; count] };
        let (_, ranges) = partial.missing(&outboard).unwrap();
        assert_eq!(ranges.len(), wire::RANGES_MAX);
        let asked = |index: u64| ranges.iter().any(|(first, n)| *first <= index && index < first + n);
        assert!([1, count as u64 / 2 + 1, count as u64 - 1].into_iter().all(asked));
    }
}
