//! The objects of a workgroup that has a host, each operation on a stream of its own, or in what this node keeps.

use super::Host;
use super::wire::{ObjectAnswer, ObjectRequest, PEER_URL, hear_bytes, say, say_bytes};
use async_trait::async_trait;
use futures::future::{Either, select};
use futures::io::{AsyncReadExt, WriteHalf};
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tcat_engine::codec;
use tcat_engine::content::Content;
use tcat_engine::ids::ObjectId;
use tcat_net::{ByteStream, FRAME_MAX_BYTES, SERVICE_STREAMS_MAX, Service, read_frame};
use tcat_storage::objects::{ObjectError, Objects, Pieces, Progress, RemoteObjects, on_the_way};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// Pieces that wait between the network and the disk.
const PIECES_AHEAD: usize = 2;
/// How long the host may take to answer.
const NAMING_WAIT: Duration = Duration::from_secs(120);

/// The objects of whoever is host.
pub struct HostObjects {
    host: Host,
    /// The host resets more; some places stay free for streams that end a moment later there than here.
    turns: Arc<Semaphore>,
}

impl fmt::Debug for HostObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostObjects")
    }
}

/// A stream on which one request was made.
struct Asked {
    stream: Box<dyn ByteStream>,
    answer: ObjectAnswer,
    turn: Option<OwnedSemaphorePermit>,
}

impl HostObjects {
    /// The objects of whoever is found to be host, or what this node is keeping.
    pub fn new(host: Host) -> Self {
        Self { host, turns: Arc::new(Semaphore::new(SERVICE_STREAMS_MAX / 2)) }
    }

    fn own(&self) -> Option<Objects> {
        self.host.keeping.own().and_then(|kept| kept.objects)
    }

    async fn ask(&self, request: ObjectRequest) -> Result<Asked, ObjectError> {
        let turn = self.turns.clone().acquire_owned().await.ok(); // Never closed, so always a turn.
        let asked = async {
            let mut stream = self.host.finding.open(Service::Objects).await?;
            say(stream.as_mut(), &request).await?;
            let answer = late(read_frame(&mut stream, FRAME_MAX_BYTES)).await?;
            let answer = decoded(answer)?;
            Ok(Asked { stream, answer, turn })
        };
        asked.await.map_err(|error| failed(&error))
    }

    /// A request that is answered with one word.
    async fn order(&self, request: ObjectRequest, object: ObjectId) -> Result<(), ObjectError> {
        match self.ask(request).await?.answer {
            ObjectAnswer::Done => Ok(()),
            other => Err(other.error(object)),
        }
    }
}

fn decoded(frame: Option<Vec<u8>>) -> io::Result<ObjectAnswer> {
    let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
    codec::decode(&frame).map_err(io::Error::other)
}

/// Puts the pieces in what this node keeps.
async fn put_here(
    own: &Objects,
    object: ObjectId,
    content: &Content,
    mut pieces: mpsc::Receiver<Vec<u8>>,
    progress: Progress<'_>,
) -> Result<(), ObjectError> {
    let (sender, taken) = mpsc::channel(PIECES_AHEAD);
    let passing_on = async move {
        let mut passed = 0;
        while let Some(piece) = pieces.recv().await {
            passed += piece.len() as u64;
            if sender.send(Ok(piece)).await.is_err() {
                return; // It is there already, or cannot be put.
            }
            progress(passed);
        }
    };
    let (put, ()) = futures::join!(own.put_pieces(object, taken, content), passing_on);
    put
}

async fn send_pieces(
    stream: &mut WriteHalf<Box<dyn ByteStream>>,
    mut pieces: mpsc::Receiver<Vec<u8>>,
    progress: Progress<'_>,
) -> io::Result<()> {
    let mut sent = 0;
    while let Some(piece) = pieces.recv().await {
        if piece.is_empty() {
            continue; // The empty frame is the end.
        }
        say_bytes(stream, &piece).await?;
        sent += piece.len() as u64;
        progress(sent);
    }
    say_bytes(stream, &[]).await
}

/// The host hashes and syncs what it has: as long as that takes for a large object. A silent host is noticed by the
/// connection, which ends the stream.
async fn late<T>(answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let silent = || io::Error::new(io::ErrorKind::TimedOut, "the host does not answer");
    timeout(NAMING_WAIT, answer).await.unwrap_or_else(|_| Err(silent()))
}

fn failed(error: &io::Error) -> ObjectError {
    on_the_way(PEER_URL, error)
}

#[async_trait]
impl RemoteObjects for HostObjects {
    async fn check(&self) -> Result<(), ObjectError> {
        if let Some(own) = self.own() {
            return own.check().await;
        }
        self.order(ObjectRequest::Check, ObjectId([0; 16])).await
    }

    async fn head(&self, object: ObjectId) -> Result<Option<u64>, ObjectError> {
        if let Some(own) = self.own() {
            return own.head(object).await;
        }
        match self.ask(ObjectRequest::Head(object)).await?.answer {
            ObjectAnswer::Size(size) => Ok(Some(size)),
            ObjectAnswer::Missing => Ok(None),
            other => Err(other.error(object)),
        }
    }

    async fn put(
        &self,
        object: ObjectId,
        content: &Content,
        pieces: mpsc::Receiver<Vec<u8>>,
        progress: Progress<'_>,
    ) -> Result<(), ObjectError> {
        if let Some(own) = self.own() {
            return put_here(&own, object, content, pieces, progress).await;
        }
        let Asked { stream, answer, turn: _turn } = self.ask(ObjectRequest::Put(object, *content)).await?;
        match answer {
            ObjectAnswer::Done => return Ok(()),
            ObjectAnswer::Send => {}
            other => return Err(other.error(object)),
        }
        // The host may refuse while the pieces are still on their way, so both ends of the stream are watched.
        let (mut reader, mut writer) = stream.split();
        let sending = pin!(send_pieces(&mut writer, pieces, progress));
        let answered = pin!(read_frame(&mut reader, FRAME_MAX_BYTES));
        let bytes = match select(answered, sending).await {
            Either::Left((bytes, _)) => bytes,
            Either::Right((Ok(()), answered)) => late(answered).await,
            Either::Right((Err(error), _)) => Err(error),
        };
        match bytes.and_then(decoded).map_err(|error| failed(&error))? {
            ObjectAnswer::Done => Ok(()),
            other => Err(other.error(object)),
        }
    }

    async fn get(&self, object: ObjectId, offset: u64) -> Result<Option<Pieces>, ObjectError> {
        if let Some(own) = self.own() {
            return own.get_pieces(object, offset).await;
        }
        let Asked { mut stream, answer, turn } = self.ask(ObjectRequest::Get(object, offset)).await?;
        match answer {
            ObjectAnswer::Pieces => {}
            ObjectAnswer::Missing => return Ok(None),
            other => return Err(other.error(object)),
        }
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        tokio::spawn(async move {
            let _turn = turn;
            loop {
                let piece = match hear_bytes(stream.as_mut()).await {
                    Ok(Some(piece)) if piece.is_empty() => return,
                    Ok(Some(piece)) => Ok(piece),
                    Ok(None) => Err(io::ErrorKind::NotConnected.into()),
                    Err(error) => Err(io::Error::new(io::ErrorKind::NotConnected, error)),
                };
                let last = piece.is_err();
                if sender.send(piece).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Some(pieces))
    }

    async fn delete(&self, object: ObjectId) -> Result<(), ObjectError> {
        if let Some(own) = self.own() {
            return own.delete(object).await;
        }
        self.order(ObjectRequest::Delete(object), object).await
    }
}
