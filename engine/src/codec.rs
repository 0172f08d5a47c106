//! The one place that turns values into bytes and back.
//!
//! Little-endian, variable-length integers, fields in their order without names (`docs/protocol.md` has the bytes, which
//! are those of bincode 2.0.1: in the engine's own tests every value that is written or read is compared with it). A type
//! gets its bytes by [`coded!`] beside its definition. Every decode is bounded: a length in the input makes no more memory
//! than the bytes that follow it fill, and what one value may take in all is bounded by [`BYTES_MAX`].
//!
//! Left out: values of a newer version, which their callers frame (`entry`, `message`).

#[cfg(test)]
mod compared;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

/// The most bytes that one decoded value may take: above the largest frame (4 MiB).
pub const BYTES_MAX: usize = 8 << 20;

/// Bytes that are not what they should be, or a value that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

impl CodecError {
    #[cold]
    fn of(why: &str) -> Self {
        Self(why.into())
    }
}

type Result<T> = std::result::Result<T, CodecError>;

/// A value that has bytes.
pub trait Coded: Sized + Compared {
    /// Writes its bytes behind those that are there.
    fn put(&self, to: &mut Vec<u8>);

    /// Reads it from the front.
    fn take(from: &mut Reader<'_>) -> Result<Self>;

    /// Writes many of them, without their number.
    #[inline]
    fn put_all(some: &[Self], to: &mut Vec<u8>) {
        some.iter().for_each(|one| one.put(to));
    }

    /// Reads so many of them.
    #[inline]
    fn take_all(from: &mut Reader<'_>, count: usize) -> Result<Vec<Self>> {
        // Nothing takes less than a byte; and what takes much more memory than bytes grows as it is read.
        from.has(count)?;
        let mut some = Vec::with_capacity(count.min(PREPARED_MAX));
        for _ in 0..count {
            some.push(Self::take(from)?);
        }
        Ok(some)
    }
}

/// For how many elements there is room before the first is read.
const PREPARED_MAX: usize = 256;

/// In our own tests: what the bytes are compared by.
#[cfg(test)]
pub use compared::Compared;

/// In our own tests: what the bytes are compared by. Nothing else here.
#[cfg(not(test))]
pub trait Compared {}
#[cfg(not(test))]
impl<T> Compared for T {}

/// The bytes of `value`.
pub fn encode<T: Coded>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(128);
    append(value, &mut bytes);
    Ok(bytes)
}

/// Writes the bytes of `value` behind those that are there.
pub fn append<T: Coded>(value: &T, to: &mut Vec<u8>) {
    #[cfg(test)]
    let from = to.len();
    value.put(to);
    #[cfg(test)]
    compared::written(value, &to[from..]);
}

/// Reads a value that takes all of `bytes`.
pub fn decode<T: Coded>(bytes: &[u8]) -> Result<T> {
    match decode_prefix(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(CodecError(format!("{} bytes too many", rest.len()))),
    }
}

/// Reads a value from the front and gives back what follows: what a newer version appended.
pub fn decode_prefix<T: Coded>(bytes: &[u8]) -> Result<(T, &[u8])> {
    let mut from = Reader { rest: bytes, left: BYTES_MAX };
    let read = T::take(&mut from);
    #[cfg(test)]
    compared::read(bytes, &read, bytes.len() - from.rest.len());
    Ok((read?, from.rest))
}

/// Bytes that are being read.
pub struct Reader<'a> {
    rest: &'a [u8],
    /// How much more the value may take.
    left: usize,
}

impl<'a> Reader<'a> {
    /// What is read next may take so much, whatever its bytes are.
    #[inline]
    fn claim(&mut self, bytes: usize) -> Result<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(CodecError::of("a value that takes too much")),
        }
    }

    #[inline]
    fn has(&self, bytes: usize) -> Result<()> {
        if bytes <= self.rest.len() { Ok(()) } else { Err(CodecError::of("a value that is cut off")) }
    }

    #[inline]
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((bytes, rest)) = self.rest.split_at_checked(count) else {
            return Err(CodecError::of("a value that is cut off"));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// Bytes without a length before them.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.claim(N)?;
        self.next()
    }

    #[inline]
    fn next<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((array, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(CodecError::of("a value that is cut off"));
        };
        self.rest = rest;
        Ok(*array)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8> {
        let [byte] = self.next()?;
        Ok(byte)
    }

    /// An integer of `size` bytes at most: below 251 in one byte, else a marker and two, four or eight bytes.
    #[inline]
    fn integer(&mut self, size: usize) -> Result<u64> {
        self.claim(size)?;
        match self.byte()? {
            byte @ ..=ONE_BYTE_MAX => Ok(u64::from(byte)),
            TWO_BYTES => Ok(u64::from(u16::from_le_bytes(self.next()?))),
            FOUR_BYTES if size >= 4 => Ok(u64::from(u32::from_le_bytes(self.next()?))),
            EIGHT_BYTES if size >= 8 => Ok(u64::from_le_bytes(self.next()?)),
            _ => Err(CodecError::of("an integer that is too long")),
        }
    }

    /// The length of what follows.
    #[inline]
    pub(crate) fn length(&mut self) -> Result<usize> {
        usize::try_from(self.integer(8)?).map_err(|_| CodecError::of("a length beyond all memory"))
    }

    /// The number of an enum's variant.
    #[inline]
    pub fn variant(&mut self) -> Result<u64> {
        self.integer(4)
    }
}

const ONE_BYTE_MAX: u8 = 250;
const TWO_BYTES: u8 = 251;
const FOUR_BYTES: u8 = 252;
const EIGHT_BYTES: u8 = 253;

/// The number of an enum's variant.
#[inline]
pub fn put_variant(number: u32, to: &mut Vec<u8>) {
    put_integer(u64::from(number), to);
}

/// The length of what follows.
#[inline]
pub(crate) fn put_length(length: usize, to: &mut Vec<u8>) {
    put_integer(length as u64, to);
}

#[inline]
fn put_integer(number: u64, to: &mut Vec<u8>) {
    if number <= u64::from(ONE_BYTE_MAX) {
        to.push(number as u8);
    } else if let Ok(number) = u16::try_from(number) {
        let [a, b] = number.to_le_bytes();
        to.extend_from_slice(&[TWO_BYTES, a, b]);
    } else if let Ok(number) = u32::try_from(number) {
        let [a, b, c, d] = number.to_le_bytes();
        to.extend_from_slice(&[FOUR_BYTES, a, b, c, d]);
    } else {
        to.push(EIGHT_BYTES);
        to.extend_from_slice(&number.to_le_bytes());
    }
}

impl Coded for bool {
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::of("neither yes nor no")),
        }
    }
}

impl Coded for u8 {
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        to.push(*self);
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        from.claim(1)?;
        from.byte()
    }
    #[inline]
    fn put_all(some: &[Self], to: &mut Vec<u8>) {
        to.extend_from_slice(some);
    }
    #[inline]
    fn take_all(from: &mut Reader<'_>, count: usize) -> Result<Vec<Self>> {
        from.claim(count)?;
        Ok(from.bytes(count)?.to_vec())
    }
}

impl<const N: usize> Coded for [u8; N]
where
    Self: Compared,
{
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        from.array()
    }
}

impl Coded for u32 {
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        put_integer(u64::from(*self), to);
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        // Four bytes at most: it fits.
        from.integer(4).map(|number| number as u32)
    }
}

impl Coded for u64 {
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        put_integer(*self, to);
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        from.integer(8)
    }
}

/// The sign in the lowest bit, so that small numbers are short on both sides of zero.
impl Coded for i64 {
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        put_integer(((*self << 1) ^ (*self >> 63)) as u64, to);
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        let number = from.integer(8)?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }
}

impl Coded for String {
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        put_length(self.len(), to);
        to.extend_from_slice(self.as_bytes());
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        let length = from.length()?;
        let bytes = u8::take_all(from, length)?;
        String::from_utf8(bytes).map_err(|_| CodecError::of("a text that is not UTF-8"))
    }
}

impl<T: Coded> Coded for Vec<T>
where
    Self: Compared,
{
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        put_length(self.len(), to);
        T::put_all(self, to);
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        let length = from.length()?;
        T::take_all(from, length)
    }
}

impl<T: Coded> Coded for Option<T>
where
    Self: Compared,
{
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        match self {
            None => to.push(0),
            Some(value) => {
                to.push(1);
                value.put(to);
            }
        }
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        match u8::take(from)? {
            0 => Ok(None),
            1 => T::take(from).map(Some),
            _ => Err(CodecError::of("neither something nor nothing")),
        }
    }
}

impl<T: Coded> Coded for Box<T>
where
    Self: Compared,
{
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        (**self).put(to);
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        T::take(from).map(Box::new)
    }
}

impl<A: Coded, B: Coded> Coded for (A, B)
where
    Self: Compared,
{
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
        self.1.put(to);
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

/// Of a key that comes twice, the last value.
impl<K: Coded + Ord, V: Coded> Coded for BTreeMap<K, V>
where
    Self: Compared,
{
    #[inline]
    fn put(&self, to: &mut Vec<u8>) {
        put_length(self.len(), to);
        for (key, value) in self {
            key.put(to);
            value.put(to);
        }
    }
    #[inline]
    fn take(from: &mut Reader<'_>) -> Result<Self> {
        let length = from.length()?;
        from.has(length)?;
        let mut pairs = Vec::with_capacity(length.min(PREPARED_MAX));
        for _ in 0..length {
            pairs.push((K::take(from)?, V::take(from)?));
        }
        Ok(pairs.into_iter().collect())
    }
}

/// Gives a type its bytes: a struct those of its fields in the order that is written here, which is the order on disk
/// and on the wire; an enum the number of its variant and then the variant's fields. Fields under `else` have none and
/// are read as their default.
#[macro_export]
macro_rules! coded {
    (struct $name:ident { $($field:ident),* $(,)? } $(else { $($skipped:ident),* })?) => {
        impl $crate::codec::Coded for $name {
            #[inline]
            fn put(&self, to: &mut Vec<u8>) {
                let Self { $($field,)* $($($skipped: _,)*)? } = self;
                $($crate::codec::Coded::put($field, to);)*
            }
            #[inline]
            fn take(
                from: &mut $crate::codec::Reader<'_>,
            ) -> ::std::result::Result<Self, $crate::codec::CodecError> {
                Ok(Self {
                    $($field: $crate::codec::Coded::take(from)?,)*
                    $($($skipped: ::std::default::Default::default(),)*)?
                })
            }
        }
    };
    (struct $name:ident(_)) => {
        impl $crate::codec::Coded for $name {
            #[inline]
            fn put(&self, to: &mut Vec<u8>) {
                $crate::codec::Coded::put(&self.0, to);
            }
            #[inline]
            fn take(
                from: &mut $crate::codec::Reader<'_>,
            ) -> ::std::result::Result<Self, $crate::codec::CodecError> {
                $crate::codec::Coded::take(from).map(Self)
            }
        }
    };
    (enum $name:ident {
        $($number:literal $variant:ident $(($inner:ident))? $({ $($field:ident),* })?,)*
    }) => {
        impl $crate::codec::Coded for $name {
            #[inline]
            fn put(&self, to: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $(($inner))? $({ $($field),* })? => {
                        $crate::codec::put_variant($number, to);
                        $($crate::codec::Coded::put($inner, to);)?
                        $($($crate::codec::Coded::put($field, to);)*)?
                    })*
                }
            }
            #[inline]
            fn take(
                from: &mut $crate::codec::Reader<'_>,
            ) -> ::std::result::Result<Self, $crate::codec::CodecError> {
                Ok(match from.variant()? {
                    $($number => Self::$variant
                        $(({ let $inner = $crate::codec::Coded::take(from)?; $inner }))?
                        $({ $($field: $crate::codec::Coded::take(from)?),* })?,)*
                    number => {
                        let what = stringify!($name);
                        return Err($crate::codec::CodecError(format!("{number} is no {what}")));
                    }
                })
            }
        }
    };
}
