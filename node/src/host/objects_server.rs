//! One member's stream of objects, at the host: put, get, look, delete.
//!
//! Always: a few megabytes of memory a stream, whatever the size of the object; a put is answered when the object is
//! whole, hashed, named and on the disk, or was so before; what breaks off in the middle never gets its name; an
//! object goes only when the catalog has condemned its name.

use super::keeping::{Keeping, Kept};
use super::wire::{ObjectAnswer, ObjectRequest, PATIENCE, hear, hear_bytes, say, say_bytes};
use std::io;
use tcat_engine::content::Content;
use tcat_engine::ids::ObjectId;
use tcat_net::ByteStream;
use tcat_storage::catalog::Catalog;
use tcat_storage::objects::{ObjectError, Objects};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Pieces that wait between the network and the disk.
const PIECES_AHEAD: usize = 2;

/// Serves the one request of a stream.
pub async fn serve(keeping: &Keeping, stream: &mut dyn ByteStream) -> io::Result<()> {
    let Some(request) = hear::<_, ObjectRequest>(stream).await? else { return Ok(()) };
    let Some(Kept { catalog, objects: Some(objects) }) = keeping.for_members() else {
        let why = "the member that was asked is not its host".to_owned();
        return say(stream, &ObjectAnswer::Unreachable(why)).await;
    };
    let objects = &objects;
    let answer = match request {
        ObjectRequest::Check => objects.check().await.map(|()| ObjectAnswer::Done),
        ObjectRequest::Head(object) => {
            let size = objects.head(object).await;
            size.map(|size| size.map_or(ObjectAnswer::Missing, ObjectAnswer::Size))
        }
        ObjectRequest::Delete(object) => match may_go(catalog.as_deref(), object).await {
            Ok(()) => objects.delete(object).await.map(|()| ObjectAnswer::Done),
            Err(why) => {
                tracing::warn!(%object, "a member asked to delete an object; refused: {why}");
                Ok(ObjectAnswer::Denied(why))
            }
        },
        ObjectRequest::Get(object, offset) => return send(objects, stream, object, offset).await,
        ObjectRequest::Put(object, content) => return receive(objects, stream, object, &content).await,
    };
    say(stream, &answer.unwrap_or_else(ObjectAnswer::from)).await
}

/// Whether an object may be deleted. Where another keeps the catalog, its word was asked by the member that kills.
async fn may_go(catalog: Option<&dyn Catalog>, object: ObjectId) -> Result<(), String> {
    let Some(catalog) = catalog else { return Ok(()) };
    match catalog.is_condemned(object).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("its name was not condemned".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// An error in the middle ends the stream without the empty frame.
async fn send(
    objects: &Objects,
    stream: &mut dyn ByteStream,
    object: ObjectId,
    offset: u64,
) -> io::Result<()> {
    let mut pieces = match objects.get_pieces(object, offset).await {
        Ok(Some(pieces)) => pieces,
        Ok(None) => return say(stream, &ObjectAnswer::Missing).await,
        Err(error) => return say(stream, &ObjectAnswer::from(error)).await,
    };
    say(stream, &ObjectAnswer::Pieces).await?;
    while let Some(piece) = pieces.recv().await {
        say_bytes(stream, &piece?).await?;
    }
    say_bytes(stream, &[]).await
}

async fn receive(
    objects: &Objects,
    stream: &mut dyn ByteStream,
    object: ObjectId,
    content: &Content,
) -> io::Result<()> {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    match objects.head(object).await {
        Err(error) => return say(stream, &ObjectAnswer::from(error)).await,
        // Nothing needs to be sent: what is there is looked at, and made durable.
        Ok(Some(_)) => {
            drop(sender);
            let put = objects.put_pieces(object, pieces, content).await;
            return say(stream, &outcome(put)).await;
        }
        Ok(None) => say(stream, &ObjectAnswer::Send).await?,
    }
    let (put, taken) =
        futures::join!(objects.put_pieces(object, pieces, content), take_pieces(stream, sender));
    if taken? == Taken::Part {
        // The member may be in the middle of a piece: its bytes are read away until it has seen the answer.
        say(stream, &outcome(put)).await?;
        let ended = async { while hear_bytes(stream).await.is_ok_and(|piece| piece.is_some()) {} };
        let _ = timeout(PATIENCE, ended).await;
        return Ok(());
    }
    say(stream, &outcome(put)).await
}

fn outcome(put: Result<(), ObjectError>) -> ObjectAnswer {
    put.map_or_else(ObjectAnswer::from, |()| ObjectAnswer::Done)
}

#[derive(PartialEq, Eq)]
enum Taken {
    /// All, to the empty frame.
    All,
    /// Some: whoever puts them wants no more.
    Part,
}

/// Passes the pieces on to their end.
async fn take_pieces(
    stream: &mut dyn ByteStream,
    pieces: mpsc::Sender<io::Result<Vec<u8>>>,
) -> io::Result<Taken> {
    loop {
        let heard = hear_bytes(stream).await;
        let heard = heard.and_then(|piece| piece.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        let piece = match heard {
            Ok(piece) if piece.is_empty() => return Ok(Taken::All),
            Ok(piece) => piece,
            Err(error) => {
                let broken = io::Error::new(error.kind(), "the member's upload broke off");
                let _ = pieces.send(Err(broken)).await; // So that what came is not taken for the whole.
                return Err(error);
            }
        };
        if pieces.send(Ok(piece)).await.is_err() {
            return Ok(Taken::Part);
        }
    }
}
