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

/// Numbers and texts at every length that their bytes can have.
#[test]
fn plain_values_come_back() {
    fn law(number: u64, shift: u32, text: String, some: Option<bool>, bytes: Vec<u8>) -> bool {
        let number = number >> (shift % 64);
        let signed = number as i64;
        let pairs: BTreeMap<u64, (u32, bool)> =
            bytes.iter().map(|b| (u64::from(*b) << 7, (7, true))).collect();
        let round = |ok: bool| ok;
        round(decode(&encode(&number).unwrap()) == Ok(number))
            && decode(&encode(&(number as u32)).unwrap()) == Ok(number as u32)
            && decode(&encode(&signed).unwrap()) == Ok(signed)
            && decode(&encode(&!signed).unwrap()) == Ok(!signed)
            && decode(&encode(&text).unwrap()) == Ok(text)
            && decode(&encode(&some).unwrap()) == Ok(some)
            && decode(&encode(&bytes).unwrap()) == Ok(bytes)
            && decode(&encode(&pairs).unwrap()) == Ok(pairs)
    }
    QuickCheck::new().tests(2000).quickcheck(law as fn(_, _, _, _, _) -> bool);
    for number in [0, 250, 251, 252, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        assert_eq!(decode(&encode(&number).unwrap()), Ok(number));
    }
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
