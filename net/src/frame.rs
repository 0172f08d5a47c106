//! Length-prefixed frames: four bytes of length, big-endian, then that many bytes.
//!
//! Always: no more memory is taken than bytes have really come, whatever length was announced.

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use std::io;

/// The longest control message; what is larger must be paged by its sender.
pub const FRAME_MAX_BYTES: usize = 4 << 20;

/// How much is reserved before the first byte of a frame has come.
const RESERVED_BYTES: usize = 64 << 10;

/// Writes one frame without flushing.
pub async fn write_frame<W>(writer: &mut W, bytes: &[u8]) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|_| bytes.len() <= FRAME_MAX_BYTES)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))?;
    writer.write_all(&length.to_be_bytes()).await?;
    writer.write_all(bytes).await
}

/// Reads one frame of at most `limit` bytes; nothing at a clean end between frames.
pub async fn read_frame<R>(reader: &mut R, limit: usize) -> io::Result<Option<Vec<u8>>>
where
    R: AsyncRead + Unpin,
{
    let mut length = [0; 4];
    let (first, rest) = length.split_at_mut(1);
    if reader.read(first).await? == 0 {
        return Ok(None);
    }
    reader.read_exact(rest).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        let what = format!("a frame of {length} bytes where {limit} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut bytes = Vec::with_capacity(length.min(RESERVED_BYTES));
    reader.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::io::Cursor;

    #[test]
    fn frames_read_back_in_order_and_end_cleanly() {
        block_on(async {
            let mut wire = Vec::new();
            for frame in [&b"one"[..], b"", &[7; 100_000]] {
                write_frame(&mut wire, frame).await.unwrap();
            }
            let mut reader = Cursor::new(wire);
            assert_eq!(read_frame(&mut reader, FRAME_MAX_BYTES).await.unwrap().unwrap(), b"one");
            assert_eq!(read_frame(&mut reader, FRAME_MAX_BYTES).await.unwrap().unwrap(), b"");
            assert_eq!(read_frame(&mut reader, FRAME_MAX_BYTES).await.unwrap().unwrap(), [7; 100_000]);
            assert!(read_frame(&mut reader, FRAME_MAX_BYTES).await.unwrap().is_none());
        });
    }

    #[test]
    fn a_cut_or_oversized_frame_is_an_error() {
        block_on(async {
            let mut wire = Vec::new();
            write_frame(&mut wire, &[1; 50]).await.unwrap();
            for cut in 1..wire.len() {
                assert!(read_frame(&mut Cursor::new(&wire[..cut]), 50).await.is_err(), "{cut}");
            }
            assert!(read_frame(&mut Cursor::new(&wire[..]), 49).await.is_err());
            assert!(read_frame(&mut Cursor::new(&[0xff; 8][..]), FRAME_MAX_BYTES).await.is_err());
            assert!(write_frame(&mut Vec::new(), &vec![0; FRAME_MAX_BYTES + 1]).await.is_err());
        });
    }
}
