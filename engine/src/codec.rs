//! The one place that turns values into bytes and back.
//!
//! bincode 2.0.1, little-endian, variable-length integers (`docs/protocol.md` describes the bytes, so that another
//! encoder can take its place). A type gets its bytes by deriving bincode's own traits, which take an id at once where
//! serde would go byte by byte. Every decode is bounded: a length in the input never makes more memory than
//! [`BYTES_MAX`], whatever it claims.
//!
//! Left out: values of a newer version, which their callers frame (`entry`, `message`).

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

/// The most bytes that one decoded value may take: above the largest frame (4 MiB).
pub const BYTES_MAX: usize = 8 << 20;
/// Most values are shorter than this, in bytes.
const BYTES_USUAL: usize = 128;

type Config = Configuration<LittleEndian, Varint, Limit<BYTES_MAX>>;

const fn config() -> Config {
    bincode::config::standard().with_limit::<BYTES_MAX>()
}

/// Bytes that are not what they should be, or a value that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

/// The bytes of `value`.
pub fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::with_capacity(BYTES_USUAL);
    append(value, &mut bytes)?;
    Ok(bytes)
}

/// Writes the bytes of `value` behind those that are there.
pub fn append<T: Encode>(value: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
    match bincode::encode_into_std_write(value, to, config()) {
        Ok(_) => Ok(()),
        Err(error) => Err(CodecError(error.to_string())),
    }
}

/// Reads a value that takes all of `bytes`.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    match decode_prefix(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(CodecError(format!("{} bytes too many", rest.len()))),
    }
}

/// Reads a value from the front and gives back what follows: what a newer version appended.
pub fn decode_prefix<T: Decode<()>>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let (value, used) =
        bincode::decode_from_slice(bytes, config()).map_err(|error| CodecError(error.to_string()))?;
    Ok((value, bytes.get(used..).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
