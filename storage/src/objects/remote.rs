//! Objects that another node keeps: what is asked of it, and what it answers with.
//!
//! Always: the bytes go in pieces through bounded queues, at both ends; what is sent is hashed where it is kept, before
//! it gets its name, and what is fetched is hashed where it arrives. Not here: the way between the nodes.

use super::error::{ObjectError, explain_io};
use super::streams::{self, Arriving, PIECE_BYTES, PIECES_AHEAD};
use super::{Objects, PARTS_AHEAD, Progress, Store};
use async_trait::async_trait;
use std::fmt::Debug;
use std::io::{self, Read};
use std::sync::Arc;
use tcat_engine::content::Content;
use tcat_engine::ids::ObjectId;
use tokio::sync::mpsc;

/// Bytes in order, each piece of at most a megabyte. An error breaks them off; without one their end is the end.
pub type Pieces = mpsc::Receiver<io::Result<Vec<u8>>>;

/// A store that another node keeps. Each promise of [`Objects`] must be kept there.
#[async_trait]
pub trait RemoteObjects: Send + Sync + Debug {
    /// See [`Objects::check`].
    async fn check(&self) -> Result<(), ObjectError>;
    /// See [`Objects::head`].
    async fn head(&self, object: ObjectId) -> Result<Option<u64>, ObjectError>;
    /// Puts what `pieces` has under the name, if that is `content`; durable when it answers. Other bytes:
    /// [`ObjectError::SourceChanged`]. Need not take any piece where the object is there already.
    async fn put(
        &self,
        object: ObjectId,
        content: &Content,
        pieces: mpsc::Receiver<Vec<u8>>,
        progress: Progress<'_>,
    ) -> Result<(), ObjectError>;
    /// The object's bytes from `offset` on; none if there is no such object.
    async fn get(&self, object: ObjectId, offset: u64) -> Result<Option<Pieces>, ObjectError>;
    /// See [`Objects::delete`].
    async fn delete(&self, object: ObjectId) -> Result<(), ObjectError>;
}

impl Objects {
    /// The store that another node keeps; `url` is what it is called in messages.
    pub fn remote(url: &str, remote: Arc<dyn RemoteObjects>) -> Self {
        Self { store: Store::Remote(remote), shown: url.into(), folder: None }
    }

    /// Puts what arrives in pieces, as [`Objects::put_file`] puts a file. Takes none where the object is there already.
    pub async fn put_pieces(
        &self,
        object: ObjectId,
        pieces: Pieces,
        content: &Content,
    ) -> Result<(), ObjectError> {
        let arriving = Arriving::new(pieces);
        self.put_from(object, arriving, "a member's upload", content, &|_| ()).await
    }

    /// The object's bytes from `offset` on, unverified: whoever receives them hashes them. None if there is no such
    /// object. Dropping the pieces stops.
    pub async fn get_pieces(&self, object: ObjectId, offset: u64) -> Result<Option<Pieces>, ObjectError> {
        let Some(bytes) = self.open_object(object, offset).await? else { return Ok(None) };
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        tokio::task::spawn_blocking(move || send_pieces(bytes, &sender));
        Ok(Some(pieces))
    }
}

/// Reads to the end, or until nobody takes the pieces any more.
fn send_pieces(mut bytes: impl Read, pieces: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let read = (&mut bytes).take(PIECE_BYTES as u64).read_to_end(&mut piece);
        let last = !matches!(read, Ok(1..));
        let piece = match read {
            Ok(0) => return,
            read => read.map(|_| piece),
        };
        if pieces.blocking_send(piece).is_err() || last {
            return;
        }
    }
}

/// Sends the source piece by piece.
pub(super) async fn put(
    remote: &dyn RemoteObjects,
    object: ObjectId,
    source: impl Read + Send + 'static,
    name: &str,
    content: &Content,
    progress: Progress<'_>,
) -> Result<(), ObjectError> {
    let (sender, pieces) = mpsc::channel(PARTS_AHEAD);
    let size = content.size;
    let reading =
        tokio::task::spawn_blocking(move || streams::read_pieces(source, size, PIECE_BYTES, &sender));
    let put = remote.put(object, content, pieces, progress).await;
    // What could not be read was sent as if it ended there, which the other end refuses.
    let read = reading.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    if let Err(why) = read {
        return Err(ObjectError::Source { file: name.to_owned(), why: why.to_string() });
    }
    match put {
        Err(ObjectError::SourceChanged { .. }) => Err(ObjectError::SourceChanged { file: name.to_owned() }),
        Ok(()) => {
            progress(size);
            Ok(())
        }
        other => other,
    }
}

/// What a failure on the way to the other node means for the caller.
pub fn on_the_way(url: &str, error: &io::Error) -> ObjectError {
    match error.kind() {
        // Whatever broke the way off, asking again later is all that there is to do.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            ObjectError::Unreachable { store: url.to_owned(), why: error.to_string() }
        }
        _ => explain_io(url.to_owned(), "talking to its host", error),
    }
}
