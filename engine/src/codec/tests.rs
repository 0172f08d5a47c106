//! Round trips, lies about lengths, bounds, and arbitrary bytes.

use super::*;
use crate::catalog::{CatalogRow, ChainLink, FeedChange, RemovalRecord};
use crate::entry::{Claim, Copy, Entry};
use crate::message::{Heartbeat, LifeBody, Message, Page, Rest};
use crate::observation::FileStat;
use crate::publishing::Journal;
use quickcheck::QuickCheck;
use std::collections::BTreeMap;

#[test]
fn a_length_that_lies_is_refused_before_memory_is_taken() {
    let lie = [253, 255, 255, 255, 255, 255, 255, 255, 255]; // a Vec of 2^64-1 elements
    assert!(decode::<Vec<u64>>(&lie).is_err());
    assert!(decode::<Vec<u8>>(&lie).is_err());
    assert!(decode::<String>(&lie).is_err());
    assert!(decode::<BTreeMap<u64, u64>>(&lie).is_err());
}

#[test]
fn leftover_bytes_are_an_error_unless_asked_for() {
    let mut bytes = encode(&7u32).unwrap();
    bytes.push(1);
    assert!(decode::<u32>(&bytes).is_err());
    assert_eq!(decode_prefix::<u32>(&bytes).unwrap(), (7, &[1u8][..]));
}

#[test]
fn a_value_beyond_the_bound_is_refused() {
    // A million numbers of one byte each count as eight each, whatever they take on the wire.
    let mut bytes = Vec::new();
    append(&(1u64 << 20), &mut bytes).unwrap();
    bytes.resize(bytes.len() + (1 << 20), 0);
    assert!(decode::<Vec<u64>>(&bytes).is_err());
    assert!(decode::<Vec<u8>>(&bytes).is_ok());
}

fn comes_back<T: Encode + Decode<()> + PartialEq>(value: &T) -> bool {
    let bytes = encode(value).unwrap();
    decode::<T>(&bytes).is_ok_and(|read| read == *value)
}

#[test]
fn plain_values_come_back() {
    fn law(number: u64, shift: u32, text: String, some: Option<bool>, bytes: Vec<u8>) -> bool {
        let number = number >> (shift % 64);
        let signed = number as i64;
        let pairs: BTreeMap<u64, (u32, bool)> =
            bytes.iter().map(|b| (u64::from(*b) << 7, (7, true))).collect();
        comes_back(&number)
            && comes_back(&(number as u32))
            && comes_back(&signed)
            && comes_back(&!signed)
            && comes_back(&text)
            && comes_back(&some)
            && comes_back(&bytes)
            && comes_back(&pairs)
    }
    QuickCheck::new().tests(2000).quickcheck(law as fn(_, _, _, _, _) -> bool);
}

/// Stores and frames are written so: at every length that an integer can have.
#[test]
fn plain_values_have_the_documented_bytes() {
    let number = |number: u64| encode(&number).unwrap();
    assert_eq!(number(250), [250]);
    assert_eq!(number(251), [251, 251, 0]);
    assert_eq!(number(65_535), [251, 255, 255]);
    assert_eq!(number(65_536), [252, 0, 0, 1, 0]);
    assert_eq!(number(1 << 32), [253, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(encode(&-1i64).unwrap(), [1]);
    assert_eq!(encode(&Some(true)).unwrap(), [1, 1]);
    assert_eq!(encode(&"ab".to_owned()).unwrap(), [2, b'a', b'b']);
    assert_eq!(encode(&[7u8; 4]).unwrap(), [7; 4]);
    assert_eq!(encode(&BTreeMap::from([(1u64, 2u64)])).unwrap(), [1, 1, 2]);
}

#[test]
fn arbitrary_bytes_are_read_or_refused_and_never_panic() {
    fn try_all(bytes: &[u8]) {
        let _ = decode_prefix::<CatalogRow>(bytes);
        let _ = decode_prefix::<FeedChange>(bytes);
        let _ = decode_prefix::<RemovalRecord>(bytes);
        let _ = decode_prefix::<Vec<ChainLink>>(bytes);
        let _ = decode_prefix::<Copy>(bytes);
        let _ = decode_prefix::<Vec<Claim>>(bytes);
        let _ = decode_prefix::<Heartbeat>(bytes);
        let _ = decode_prefix::<LifeBody>(bytes);
        let _ = decode_prefix::<Page>(bytes);
        let _ = decode_prefix::<Rest>(bytes);
        let _ = decode_prefix::<FileStat>(bytes);
        let _ = decode_prefix::<Journal>(bytes);
        let _ = Entry::decode(bytes);
        let _ = Message::decode(bytes);
    }
    fn law(bytes: Vec<u8>, small: bool) -> bool {
        // Small numbers pass as tags, lengths and variants more often.
        let bytes: Vec<u8> = bytes.iter().map(|byte| if small { byte % 6 } else { *byte }).collect();
        try_all(&bytes);
        true
    }
    QuickCheck::new().tests(3000).quickcheck(law as fn(_, _) -> bool);
}
