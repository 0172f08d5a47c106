//! Serving one content to one member, on the stream that it opened.
//!
//! Always: two groups of memory a stream at most; a bounded number of streams a peer and in all; a peer that does not
//! read loses its place. The bytes are not checked here: whoever receives them does.

use crate::bulk::{ContentSource, SourceContent, wire};
use crate::frame::read_frame;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;
use tcat_engine::content::Blake3;
use tcat_engine::outboard::{Outboard, group_count, group_range};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Contents sent at a time, to one peer and in all.
pub(crate) const STREAMS_PER_PEER: usize = 4;
pub(crate) const STREAMS_IN_ALL: usize = 16;
/// How long a request waits for its turn before it is told that we are busy; well below what a fetch waits.
const TURN_WAIT: Duration = Duration::from_secs(5);
/// How long the peer may take to say what it wants, or to take some bytes.
const PATIENCE: Duration = Duration::from_secs(30);
const WRITE_BYTES: usize = 64 << 10;

/// Answers one request.
pub(crate) async fn serve<S>(
    mut stream: S,
    source: Arc<dyn ContentSource>,
    in_all: Arc<Semaphore>,
    of_peer: Arc<Semaphore>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = [0; wire::REQUEST_BYTES];
    patiently(stream.read_exact(&mut request)).await?;
    let turns = async { (of_peer.acquire_owned().await, in_all.acquire_owned().await) };
    let Ok((Ok(_of_peer), Ok(_in_all))) = timeout(TURN_WAIT, turns).await else {
        return answer(&mut stream, wire::BUSY).await;
    };
    let (Some((blake3, rest)), want) = (request.split_first_chunk::<32>(), request.last().copied()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let size = rest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let blake3 = Blake3(*blake3);
    let opened = spawn_blocking(move || source.open(&blake3)).await.map_err(io::Error::other)?;
    let Some(SourceContent { file, outboard }) = opened.filter(|content| fits(&content.outboard, size))
    else {
        return answer(&mut stream, wire::NOT_HELD).await;
    };
    stream.write_all(&[wire::HELD]).await?;
    if outboard.groups.len() > 1 {
        for digests in outboard.groups.chunks(WRITE_BYTES / 32) {
            write(&mut stream, digests.as_flattened()).await?;
        }
    }
    let ranges = if want == Some(wire::DIGESTS_FIRST) {
        stream.flush().await?;
        read_ranges(&mut stream, size).await?
    } else {
        vec![(0, group_count(size))]
    };
    send_groups(&mut stream, file, size, &ranges).await
}

/// Answers one request for which there is no place.
pub(crate) async fn refuse<S>(mut stream: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = [0; wire::REQUEST_BYTES];
    patiently(stream.read_exact(&mut request)).await?;
    answer(&mut stream, wire::BUSY).await
}

fn fits(outboard: &Outboard, size: u64) -> bool {
    outboard.size == size && outboard.groups.len() as u64 == group_count(size)
}

async fn read_ranges<S: AsyncRead + Unpin>(stream: &mut S, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let frame =
        patiently(read_frame(stream, wire::RANGES_MAX * wire::RANGE_BYTES)).await?.unwrap_or_default();
    let (ranges, []) = frame.as_chunks::<{ wire::RANGE_BYTES }>() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut wanted = Vec::with_capacity(ranges.len());
    let mut next = 0; // In order and without repetition, so that nobody asks for more than there is.
    for range in ranges {
        let (first, count) = range.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map_or(u64::MAX, u64::from_be_bytes);
        let (first, count) = (number(first), number(count));
        let end = first.checked_add(count).filter(|end| first >= next && *end <= group_count(size));
        next = end.ok_or(io::ErrorKind::InvalidData)?;
        wanted.push((first, count));
    }
    Ok(wanted)
}

/// Reads one group from the disk while the one before is sent.
async fn send_groups<S>(stream: &mut S, file: File, size: u64, ranges: &[(u64, u64)]) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let mut indexes = ranges.iter().flat_map(|(first, count)| *first..first.saturating_add(*count));
    let Some(first) = indexes.next() else { return answer_end(stream).await };
    let mut ready = read_group(file, size, first, Vec::new()).await;
    let mut spare = Vec::new();
    loop {
        let (file, bytes) = match ready {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "a content that a peer fetches cannot be read");
                return answer(stream, wire::UNREADABLE).await;
            }
        };
        let next = indexes.next();
        let send = async {
            write(stream, &[wire::HELD]).await?;
            write(stream, &bytes).await
        };
        match next {
            Some(next) => {
                let (sent, read) = futures::join!(send, read_group(file, size, next, spare));
                sent?;
                (ready, spare) = (read, bytes);
            }
            None => {
                send.await?;
                return answer_end(stream).await;
            }
        }
    }
}

async fn read_group(
    mut file: File,
    size: u64,
    index: u64,
    mut buffer: Vec<u8>,
) -> io::Result<(File, Vec<u8>)> {
    let read = spawn_blocking(move || {
        let (start, end) = group_range(size, index);
        buffer.resize((end - start) as usize, 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut buffer)?;
        Ok((file, buffer))
    });
    read.await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, status: u8) -> io::Result<()> {
    write(stream, &[status]).await?;
    answer_end(stream).await
}

async fn answer_end<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    patiently(stream.close()).await
}

/// Writes all, as long as some of it is taken now and then.
async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(WRITE_BYTES) {
        patiently(stream.write_all(piece)).await?;
    }
    Ok(())
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
