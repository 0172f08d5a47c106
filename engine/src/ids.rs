//! Who and what: the identities that every other module speaks of.
//!
//! All of them are plain bytes with a total order; none is ever derived from a clock or a name.

use bincode::{Decode, Encode};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// One node's identity: its ed25519 public key (32 bytes), so that a signature needs no look-up to be checked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ClientId(pub [u8; 32]);

impl ClientId {
    /// The first eight hex digits: enough to tell apart the 64 clients of a workgroup on a screen.
    pub fn short(&self) -> String {
        hex(&self.0[..4])
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for ClientId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        from_hex(text).map(Self)
    }
}

/// Text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid id")]
pub struct IdError(pub String);

/// The order of the bytes, eight at a time: ids are the keys of most maps.
macro_rules! byte_order {
    ($name:ident) => {
        impl Ord for $name {
            #[inline]
            fn cmp(&self, other: &Self) -> Ordering {
                for (ours, theirs) in self.0.as_chunks::<8>().0.iter().zip(other.0.as_chunks::<8>().0) {
                    let order = u64::from_be_bytes(*ours).cmp(&u64::from_be_bytes(*theirs));
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                Ordering::Equal
            }
        }

        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
    };
}

byte_order!(ClientId);

macro_rules! guid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
        pub struct $name(pub [u8; 16]);
        byte_order!($name);

        impl $name {
            /// Derives an id from what it stands for. Equal parts give equal ids on every node;
            /// `domain` keeps ids of different purposes apart.
            pub fn derive(domain: &str, parts: &[&[u8]]) -> Self {
                Self(derived_guid(domain, parts))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Uuid::from_bytes(self.0).hyphenated().fmt(f)
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
                Uuid::try_parse(text).map(|u| Self(u.into_bytes())).map_err(|_| IdError(text.into()))
            }
        }
    };
}

guid!(
    /// One cache folder that several nodes share; each says of its copies that they lie in it.
    CacheId
);
guid!(
    /// A media item: the catalog's media id.
    ItemId
);
guid!(
    /// A workgroup: the clients on one LAN that share a catalog.
    WorkgroupId
);
guid!(
    /// A catalog; many may live in one database.
    CatalogId
);
guid!(
    /// The name of one immutable object in the object store. Never used twice.
    ObjectId
);

fn derived_guid(domain: &str, parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(domain);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    // RFC 9562: version 8 (custom), variant 10, so that other tools accept it as a GUID.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads exactly `N` bytes of hexadecimal.
pub fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(IdError(text.into()));
    }
    let digit = |d: u8| (d as char).to_digit(16).ok_or_else(|| IdError(text.into()));
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::QuickCheck;

    #[test]
    fn ids_read_back_as_they_print() {
        let client = ClientId([0xa7; 32]);
        assert_eq!(client.to_string().parse(), Ok(client));
        let item = ItemId::derive("test", &[b"a", b"b"]);
        assert_eq!(item.to_string().parse(), Ok(item));
    }

    #[test]
    fn derived_ids_depend_on_where_the_parts_end() {
        assert_ne!(ItemId::derive("d", &[b"ab", b"c"]), ItemId::derive("d", &[b"a", b"bc"]));
        assert_ne!(ItemId::derive("d", &[b"ab"]), ItemId::derive("e", &[b"ab"]));
    }

    #[test]
    fn ids_are_in_the_order_of_their_bytes() {
        fn law(bytes: Vec<u8>, at: usize, other: u8) -> bool {
            let mut a = [0; 32];
            a.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            let mut b = a;
            b[at % 32] = other;
            let half = |bytes: &[u8; 32]| ItemId(*bytes.first_chunk().unwrap());
            ClientId(a).cmp(&ClientId(b)) == a.cmp(&b) && half(&a).cmp(&half(&b)) == a[..16].cmp(&b[..16])
        }
        QuickCheck::new().tests(2000).quickcheck(law as fn(_, _, _) -> bool);
    }

    #[test]
    fn garbage_is_no_id() {
        assert!("zz".repeat(32).parse::<ClientId>().is_err());
        assert!("".parse::<ItemId>().is_err());
        assert!(from_hex::<2>("é1").is_err());
    }
}
