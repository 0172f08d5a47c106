//! Fetching one content by its BLAKE3, verified as it streams.
//!
//! On a stream of its own: `request ->`, `<- status, digests of the groups`, `ranges ->`, `<- groups`. A first fetch
//! asks for everything at once, so it takes one round trip, and a content of one group needs no digests.
//! Always: a group (1 MiB) is verified before it is written at its place; whatever the partial file holds already is
//! hashed again before it counts, so no cut, torn write or earlier failure can leave a wrong byte in the result.
//! What is left out: several holders at a time, and a plane faster than libp2p; both fit behind [`fetch`].

use crate::frame::write_frame;
use crate::partial::{DiskError, Partial};
use futures::future::{Either, select};
use futures::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tcat_engine::content::{Blake3, Content};
use tcat_engine::ids::ClientId;
use tcat_engine::outboard::{Outboard, group_count, group_range};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The largest content that is fetched: the digests of its groups (128 MiB) must fit in memory.
pub const CONTENT_MAX_BYTES: u64 = 4 << 40;

/// What peers may fetch from us.
pub trait ContentSource: Send + Sync {
    /// The content with this BLAKE3, if we hold it: its file, opened, and its outboard. May block. The file may change
    /// while it is sent: the receiver notices.
    fn open(&self, blake3: &Blake3) -> Option<SourceContent>;
}

/// One content, ready to be sent.
pub struct SourceContent {
    /// The bytes.
    pub file: File,
    /// The digests of its groups.
    pub outboard: Outboard,
}

/// Why a content was not fetched whole. What was verified stays in the partial file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A content that is known by MD5 alone cannot be verified as it streams.
    #[error("{0:?} has no BLAKE3 yet, so it cannot be fetched from peers; it comes from the object store")]
    NoBlake3(Content),
    /// Larger than [`CONTENT_MAX_BYTES`].
    #[error("{0:?} is larger than the {CONTENT_MAX_BYTES} bytes that can be fetched from peers")]
    TooLarge(Content),
    /// The peer cannot be asked now.
    #[error("{from:?} is not connected: {source}")]
    NotConnected {
        /// The peer.
        from: ClientId,
        /// Why.
        source: io::Error,
    },
    /// The peer does not hold it (any more).
    #[error("{from:?} does not hold {content:?}")]
    NotHeld {
        /// The peer.
        from: ClientId,
        /// The content.
        content: Content,
    },
    /// The peer serves as many as it can; ask again later, or another one.
    #[error("{from:?} is busy sending other contents; it will be asked again")]
    Busy {
        /// The peer.
        from: ClientId,
    },
    /// The peer holds it, but cannot read it (any more).
    #[error("{from:?} cannot read its copy of {content:?}; its own log says why")]
    Unreadable {
        /// The peer.
        from: ClientId,
        /// The content.
        content: Content,
    },
    /// The peer sent other bytes than the content's; none of them was written.
    #[error(
        "{from:?} sent other bytes than {content:?}: {what}; nothing of them was kept, another holder is needed"
    )]
    Lied {
        /// The peer.
        from: ClientId,
        /// The content.
        content: Content,
        /// Which part did not verify.
        what: String,
    },
    /// No byte came for [`STALL_S`] seconds, or a megabyte took a minute.
    #[error("{from:?} sends nothing, or far too slowly; the fetch goes on elsewhere or later")]
    Stalled {
        /// The peer.
        from: ClientId,
    },
    /// The connection broke.
    #[error("the connection with {from:?} broke off: {source}; the fetch goes on where it stopped")]
    Interrupted {
        /// The peer.
        from: ClientId,
        /// What the connection said.
        source: io::Error,
    },
    /// No room for it here.
    #[error("no room for {path}: {source}; free some space on that disk")]
    DiskFull {
        /// The partial file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The partial file cannot be read or written.
    #[error("{path}: {source}; check the disk and the folder's permissions")]
    Disk {
        /// The partial file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Seconds without a byte after which a fetch gives up.
pub const STALL_S: u64 = 10;

/// How long one group may take: below 17 KB/s a peer keeps the fetch from better ones.
const GROUP_WAIT: Duration = Duration::from_secs(60);

/// The wire's first words; see the module's header.
pub(crate) mod wire {
    /// BLAKE3, size (big-endian), want.
    pub(crate) const REQUEST_BYTES: usize = 41;
    /// Want: all groups, at once.
    pub(crate) const EVERYTHING: u8 = 0;
    /// Want: the digests first; then ranges follow in a frame.
    pub(crate) const DIGESTS_FIRST: u8 = 1;
    /// Statuses, and the mark before each group.
    pub(crate) const HELD: u8 = 0;
    pub(crate) const NOT_HELD: u8 = 1;
    pub(crate) const BUSY: u8 = 2;
    pub(crate) const UNREADABLE: u8 = 3;
    /// First group and count, both big-endian.
    pub(crate) const RANGE_BYTES: usize = 16;
    pub(crate) const RANGES_MAX: usize = 1 << 16;
}

/// Who, what and where: all that an error has to name.
struct Job<'a> {
    from: ClientId,
    content: &'a Content,
    path: &'a Path,
    progress: &'a (dyn Fn(u64) + Send + Sync),
}

/// See [`crate::NetHandle::fetch`]. `open` is called if the partial file is not the whole content already.
pub(crate) async fn fetch<S, Opening>(
    from: ClientId,
    open: impl FnOnce() -> Opening,
    content: &Content,
    (open_file, path): (impl FnOnce() -> io::Result<File> + Send + 'static, &Path),
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Outboard, FetchError>
where
    S: AsyncRead + futures::io::AsyncWrite + Unpin,
    Opening: Future<Output = io::Result<S>>,
{
    let blake3 = content.blake3.ok_or(FetchError::NoBlake3(*content))?;
    if content.size > CONTENT_MAX_BYTES {
        return Err(FetchError::TooLarge(*content));
    }
    let job = Job { from, content, path, progress };
    let (partial, whole) = job.on_disk(Partial::open(open_file, content.size, blake3)).await?;
    if let Some(outboard) = whole {
        progress(content.size);
        return job.finish(partial).await.map(|()| outboard);
    }
    let opening =
        timeout(Duration::from_secs(STALL_S), open()).await.map_err(|_| FetchError::Stalled { from })?;
    let mut stream = opening.map_err(|source| FetchError::NotConnected { from, source })?;
    let (partial, outboard) = job.receive(&mut stream, blake3, partial).await?;
    let _ = stream.close().await;
    job.finish(partial).await.map(|()| outboard)
}

impl Job<'_> {
    /// Runs one piece of blocking file work.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, FetchError> {
        let done = spawn_blocking(work).await.unwrap_or_else(|e| Err(DiskError::Io(io::Error::other(e))));
        done.map_err(|error| match error {
            DiskError::Unverified(group) => self.lied(format!("group {group} does not verify")),
            DiskError::Io(source) => self.disk_error(source),
        })
    }

    fn disk_error(&self, source: io::Error) -> FetchError {
        let path = self.path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                FetchError::DiskFull { path, source }
            }
            _ => FetchError::Disk { path, source },
        }
    }

    fn lied(&self, what: String) -> FetchError {
        FetchError::Lied { from: self.from, content: *self.content, what }
    }

    fn interrupted(&self, source: io::Error) -> FetchError {
        FetchError::Interrupted { from: self.from, source }
    }

    async fn finish(&self, partial: Partial) -> Result<(), FetchError> {
        self.on_disk(move || partial.finish()).await
    }

    /// The exchange on the stream, until every group is verified and written.
    async fn receive<S>(
        &self,
        stream: &mut S,
        blake3: Blake3,
        partial: Partial,
    ) -> Result<(Partial, Outboard), FetchError>
    where
        S: AsyncRead + futures::io::AsyncWrite + Unpin,
    {
        let many = group_count(self.content.size) > 1;
        let choose = many && !partial.is_empty();
        let mut request = blake3.0.to_vec();
        request.extend(self.content.size.to_be_bytes());
        request.push(if choose { wire::DIGESTS_FIRST } else { wire::EVERYTHING });
        self.write(stream, &request).await?;
        self.read_status(stream).await?;
        let outboard =
            if many { self.read_outboard(stream, blake3).await? } else { single(self.content.size, blake3) };
        let outboard = Arc::new(outboard);
        let (partial, ranges) = {
            let outboard = outboard.clone();
            self.on_disk(move || partial.missing(&outboard)).await?
        };
        if choose {
            let mut bytes = Vec::new();
            for (first, count) in &ranges {
                bytes.extend(first.to_be_bytes());
                bytes.extend(count.to_be_bytes());
            }
            write_frame(stream, &bytes).await.map_err(|e| self.interrupted(e))?;
            self.write(stream, &[]).await?;
        }
        let partial = self.receive_groups(stream, Arc::clone(&outboard), partial, &ranges).await?;
        Ok((partial, Arc::unwrap_or_clone(outboard)))
    }

    /// Reads one group while the one before is verified and written.
    async fn receive_groups<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        outboard: Arc<Outboard>,
        mut partial: Partial,
        ranges: &[(u64, u64)],
    ) -> Result<Partial, FetchError> {
        let mut verified =
            self.content.size - ranges.iter().map(|r| span(self.content.size, *r)).sum::<u64>();
        (self.progress)(verified);
        let mut indexes = ranges.iter().flat_map(|(first, count)| *first..first.saturating_add(*count));
        let Some(mut index) = indexes.next() else { return Ok(partial) };
        let mut bytes = self.read_group(stream, index, Vec::new()).await?;
        let mut spare = Vec::new();
        loop {
            let length = bytes.len() as u64;
            let outboard = outboard.clone();
            let write = self.on_disk(move || {
                partial.write(&outboard, index, &bytes)?;
                Ok((partial, bytes))
            });
            let next = indexes.next();
            let read = async {
                match next {
                    Some(next) => self.read_group(stream, next, spare).await.map(Some),
                    None => Ok(None),
                }
            };
            // Written is waited for in any case, so that nothing is still being written when this returns; what
            // comes next from a peer that has just lied is not.
            let (write, read) = (pin!(write), pin!(read));
            let ((written, buffer), read) = match select(write, read).await {
                Either::Left((written, read)) => (written?, read.await?),
                Either::Right((read, write)) => (write.await?, read?),
            };
            verified += length;
            (self.progress)(verified);
            match (next, read) {
                (Some(next), Some(group)) => (index, bytes, spare, partial) = (next, group, buffer, written),
                _ => return Ok(written),
            }
        }
    }

    async fn write<S>(&self, stream: &mut S, bytes: &[u8]) -> Result<(), FetchError>
    where
        S: futures::io::AsyncWrite + Unpin,
    {
        let writing = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        match timeout(Duration::from_secs(STALL_S), writing).await {
            Ok(result) => result.map_err(|e| self.interrupted(e)),
            Err(_) => Err(FetchError::Stalled { from: self.from }),
        }
    }

    /// Fills the buffer; gives up when no byte comes for a while.
    async fn read<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        mut buffer: &mut [u8],
    ) -> Result<(), FetchError> {
        while !buffer.is_empty() {
            let read = timeout(Duration::from_secs(STALL_S), stream.read(buffer)).await;
            let read = read.map_err(|_| FetchError::Stalled { from: self.from })?;
            match read.map_err(|e| self.interrupted(e))? {
                0 => return Err(self.interrupted(io::ErrorKind::UnexpectedEof.into())),
                count => buffer = buffer.get_mut(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    async fn read_status<S: AsyncRead + Unpin>(&self, stream: &mut S) -> Result<(), FetchError> {
        let (from, content) = (self.from, *self.content);
        let mut status = [0];
        self.read(stream, &mut status).await?;
        match status {
            [wire::HELD] => Ok(()),
            [wire::NOT_HELD] => Err(FetchError::NotHeld { from, content }),
            [wire::BUSY] => Err(FetchError::Busy { from }),
            [wire::UNREADABLE] => Err(FetchError::Unreadable { from, content }),
            [other] => Err(self.lied(format!("status {other} means nothing"))),
        }
    }

    /// The digests of all groups: as many as our size says, and worthless unless they hash to the content's BLAKE3.
    async fn read_outboard<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        blake3: Blake3,
    ) -> Result<Outboard, FetchError> {
        let mut groups = Vec::new(); // grows with what really comes
        for _ in 0..group_count(self.content.size) {
            let mut digest = [0; 32];
            self.read(stream, &mut digest).await?;
            groups.push(digest);
        }
        let outboard = Outboard { size: self.content.size, groups };
        if outboard.root() == Some(blake3) {
            Ok(outboard)
        } else {
            Err(self.lied("its list of digests is not this content's".into()))
        }
    }

    async fn read_group<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        index: u64,
        mut buffer: Vec<u8>,
    ) -> Result<Vec<u8>, FetchError> {
        let reading = async {
            self.read_status(stream).await?;
            buffer.resize(span(self.content.size, (index, 1)) as usize, 0);
            self.read(stream, &mut buffer).await?;
            Ok(buffer)
        };
        timeout(GROUP_WAIT, reading).await.unwrap_or(Err(FetchError::Stalled { from: self.from }))
    }
}

fn single(size: u64, blake3: Blake3) -> Outboard {
    Outboard { size, groups: vec![blake3.0] }
}

/// Bytes in `count` groups from `first` on.
fn span(size: u64, (first, count): (u64, u64)) -> u64 {
    let last = first.saturating_add(count).saturating_sub(1);
    group_range(size, last).1.saturating_sub(group_range(size, first).0)
}
