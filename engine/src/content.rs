//! What a file contains, as digests: the only thing that settling compares.

use crate::ids::{IdError, from_hex, hex};
use bincode::{Decode, Encode};
use std::fmt;
use std::str::FromStr;

/// The catalog's digest: MD5, as the ancestor's tables have it. Base64 in SQL, hexadecimal to people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Md5(pub [u8; 16]);

/// The digest that proves a transfer while it streams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Blake3(pub [u8; 32]);

macro_rules! digest_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0[..4]))
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                from_hex(text).map(Self)
            }
        }
    };
}
digest_text!(Md5);
digest_text!(Blake3);

/// One content: MD5, size in bytes, and BLAKE3 where one node computed both in one pass.
///
/// A row of the ancestor's catalog knows no BLAKE3, so equality of contents is [`Content::same_as`], not `==`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Content {
    /// MD5 of all bytes.
    pub md5: Md5,
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 of the same bytes, where known.
    pub blake3: Option<Blake3>,
}

impl Content {
    /// Whether both are the same bytes: BLAKE3 decides where both sides know it, beside MD5 and size.
    pub fn same_as(&self, other: &Content) -> bool {
        let blake3_agrees = match (self.blake3, other.blake3) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.md5 == other.md5 && self.size == other.size && blake3_agrees
    }

    /// The key by which claims and transfers name this content: BLAKE3 if known, else derived from MD5 and size.
    pub fn key(&self) -> [u8; 32] {
        match self.blake3 {
            Some(Blake3(bytes)) => bytes,
            None => {
                let mut hasher = blake3::Hasher::new_derive_key("tcat 1 content key of md5 and size");
                hasher.update(&self.md5.0);
                hasher.update(&self.size.to_le_bytes());
                *hasher.finalize().as_bytes()
            }
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}+{}", self.md5, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_blake3_hides_no_difference_in_md5_or_size() {
        let full = Content { md5: Md5([1; 16]), size: 5, blake3: Some(Blake3([2; 32])) };
        let old = Content { blake3: None, ..full };
        assert!(full.same_as(&old) && old.same_as(&full));
        assert!(!full.same_as(&Content { size: 6, ..old }));
        assert!(!full.same_as(&Content { md5: Md5([3; 16]), ..old }));
        assert!(!full.same_as(&Content { blake3: Some(Blake3([9; 32])), ..full }));
    }
}
