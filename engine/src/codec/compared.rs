//! What the bytes are compared by: bincode 2.0.1 through serde, which wrote all stores and frames before the codec did.
//!
//! Every value that any test of the engine writes or reads passes here: the same bytes, the same length read, the same
//! bytes refused. Not in what ships.

use super::{BYTES_MAX, CodecError, Coded};
use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What bincode can write and read.
pub trait Compared: Serialize + DeserializeOwned {}
impl<T: Serialize + DeserializeOwned> Compared for T {}

fn config() -> Configuration<LittleEndian, Varint, Limit<BYTES_MAX>> {
    bincode::config::standard().with_limit::<BYTES_MAX>()
}

pub(super) fn written<T: Coded>(value: &T, bytes: &[u8]) {
    assert_eq!(bincode::serde::encode_to_vec(value, config()).unwrap(), bytes);
}

pub(super) fn read<T: Coded>(bytes: &[u8], read: &Result<T, CodecError>, used: usize) {
    let expected = bincode::serde::decode_from_slice::<T, _>(bytes, config());
    match (read, expected) {
        (Ok(value), Ok((expected, expected_used))) => {
            assert_eq!(used, expected_used);
            let bytes_of = |value: &T| bincode::serde::encode_to_vec(value, config()).unwrap();
            assert_eq!(bytes_of(value), bytes_of(&expected));
        }
        (Err(_), Err(_)) => {}
        (read, expected) => {
            panic!("{bytes:?}: we read it: {}, bincode: {}", read.is_ok(), expected.is_ok())
        }
    }
}
