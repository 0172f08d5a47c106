//! The one place that turns values into bytes and back.
//!
//! bincode 2.0.1, little-endian, variable-length integers (`docs/protocol.md` describes the bytes, so that another
//! encoder can take its place). Every decode is bounded: a length in the input never makes more memory than
//! [`BYTES_MAX`], whatever it claims.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most bytes that one decoded value may take: above the largest frame (4 MiB).
pub const BYTES_MAX: usize = 8 << 20;

type Config = Configuration<LittleEndian, Varint, Limit<BYTES_MAX>>;

fn config() -> Config {
    bincode::config::standard().with_limit::<BYTES_MAX>()
}

/// Bytes that are not what they should be, or a value that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

/// The bytes of `value`.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(value, config()).map_err(|error| CodecError(error.to_string()))
}

/// Reads a value that takes all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match decode_prefix(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(CodecError(format!("{} bytes too many", rest.len()))),
    }
}

/// Reads a value from the front and gives back what follows: what a newer version appended.
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, config()).map_err(|error| CodecError(error.to_string()))?;
    Ok((value, bytes.get(used..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_lies_is_refused_before_memory_is_taken() {
        let lie = [253, 255, 255, 255, 255, 255, 255, 255, 255]; // a Vec of 2^64-1 elements
        assert!(decode::<Vec<u64>>(&lie).is_err());
        assert!(decode::<String>(&lie).is_err());
    }

    #[test]
    fn leftover_bytes_are_an_error_unless_asked_for() {
        let mut bytes = encode(&7u32).unwrap();
        bytes.push(1);
        assert!(decode::<u32>(&bytes).is_err());
        assert_eq!(decode_prefix::<u32>(&bytes).unwrap(), (7, &[1u8][..]));
    }
}
