//! The rolling hash of all that happened in a run: two runs of one plan must end with the same.

use std::fmt::{Debug, Write};
use tcat_engine::observation::{Observation, Seen};

/// A running 64-bit hash of events. Not for anything that somebody might forge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateHash(u64);

impl Default for StateHash {
    fn default() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }
}

impl StateHash {
    /// Takes a number in.
    #[inline]
    pub fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15_u128;
        self.0 = (product as u64) ^ ((product >> 64) as u64) ^ word.rotate_left(17);
    }

    /// Takes bytes in.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }

    /// Takes in how a value shows itself.
    pub fn shown(&mut self, value: &impl Debug) {
        // A hash takes everything that is written to it.
        let _ = write!(self, "{value:?}");
    }

    /// Takes in what was seen of files.
    pub fn seen(&mut self, observations: &[Observation]) {
        self.word(observations.len() as u64);
        for Observation { path, seen } in observations {
            self.bytes(path.as_str().as_bytes());
            match seen {
                Seen::File { content, stat } => {
                    self.bytes(&content.md5.0);
                    self.word(stat.ctime_ns as u64);
                }
                other => self.shown(other),
            }
        }
    }

    /// The hash so far.
    pub fn value(&self) -> u64 {
        self.0
    }
}

impl Write for StateHash {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_length_count() {
        let of = |parts: &[&[u8]]| {
            let mut hash = StateHash::default();
            parts.iter().for_each(|part| hash.bytes(part));
            hash.value()
        };
        assert_eq!(of(&[b"ab", b"c"]), of(&[b"ab", b"c"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"c", b"ab"]));
        assert_ne!(of(&[b"ab"]), of(&[b"ab\0"]));
        assert_ne!(of(&[]), of(&[b""]));
    }
}
