//! What a member and the host say on `/tcat/catalog/1` and `/tcat/objects/1`: one value a frame, by the engine's codec.
//!
//! Always: a request frame is of at most [`FRAME_MAX_BYTES`], an answer too, and decoding is bounded by the codec. A new
//! request or answer comes at the end of its list; a host that does not know a request ends the stream.
//! Errors cross by kind, so that a member does about an error of the host's what it would do about its own; the
//! host's paths do not cross.

use super::claims::SignedClaim;
use bincode::{Decode, Encode};
use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use std::io;
use std::time::Duration;
use tcat_engine::catalog::{
    CatalogEpoch, Commit, Committed, Created, FeedChange, FeedPosition, NewItem, Refusal, Repath, Repathed,
    Revision,
};
use tcat_engine::catalog_orders::{Kill, Killing, NewEpoch, Offer, Offered, Unsound};
use tcat_engine::clock::Stamp;
use tcat_engine::codec;
use tcat_engine::content::{Content, Md5};
use tcat_engine::ids::{CatalogId, ClientId, ItemId, ObjectId, WorkgroupId};
use tcat_engine::roster::{RosterMember, Visit};
use tcat_net::{FRAME_MAX_BYTES, read_frame, write_frame};
use tcat_storage::catalog::CatalogError;
use tcat_storage::objects::ObjectError;
use tokio::time::timeout;

/// What a member calls the host's catalog and objects: the URL in config.toml and in a ticket.
pub const PEER_URL: &str = "peer:";

/// One request to the catalog; see the trait `Catalog`, whose methods they are, but for the first.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum Request {
    /// Who is host? The best claim that the asking member knows.
    Hello(Option<SignedClaim>),
    Epoch,
    Feed(FeedPosition, u32),
    Row(ItemId),
    Import(ItemId),
    Create(NewItem),
    Repath(Repath),
    Commit(Commit),
    Intend {
        object: ObjectId,
        item: ItemId,
        content: Content,
        generation: u32,
        author: ClientId,
    },
    Kill(Kill),
    Unsound(Unsound),
    NewEpoch(NewEpoch),
    Offer(Offer),
    Members,
    VisitRoster(Visit),
    Retire(ClientId, Stamp),
    Admit(ClientId, String),
    Workgroup,
    Check,
    Condemned(ObjectId),
}

impl Request {
    /// In whose name this is asked, where it changes what a member answers for. Retiring and admitting is for all.
    pub fn author(&self) -> Option<ClientId> {
        match self {
            Self::Create(new) => Some(new.author),
            Self::Repath(repath) => Some(repath.author),
            Self::Commit(commit) => Some(commit.author),
            Self::Intend { author, .. } => Some(*author),
            Self::Kill(kill) => Some(kill.author),
            Self::Unsound(order) => Some(order.author),
            Self::NewEpoch(order) => Some(order.author),
            Self::Offer(offer) => Some(offer.author),
            Self::VisitRoster(visit) => Some(visit.client),
            Self::Hello(_)
            | Self::Epoch
            | Self::Feed(..)
            | Self::Row(_)
            | Self::Import(_)
            | Self::Members
            | Self::Retire(..)
            | Self::Admit(..)
            | Self::Workgroup
            | Self::Check
            | Self::Condemned(_) => None,
        }
    }
}

/// What a request is answered with.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum Answer {
    /// The best claim that the answering member knows, its own included.
    Hello(Option<SignedClaim>),
    Epoch(CatalogEpoch),
    Feed {
        changes: Vec<FeedChange>,
        through: FeedPosition,
        more: bool,
    },
    Row(Option<FeedChange>),
    Import(Option<WireImport>),
    Created(Created),
    Repathed(Repathed),
    Committed(Committed),
    Intended(WireIntended),
    Killing(Killing),
    Offered(Offered),
    Members(Vec<WireMember>),
    Roster(Vec<RosterMember>),
    Workgroup {
        catalog: CatalogId,
        id: WorkgroupId,
        name: String,
        server_path: String,
        cache_root: String,
    },
    Done,
    Error(WireCatalogError),
    Condemned(bool),
}

/// `catalog::Import`.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct WireImport {
    pub state: String,
    pub md5: Md5,
    pub source_server: String,
    pub source_path: String,
    pub upload_date: Option<String>,
    pub source: String,
}

/// `catalog::Intended`.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum WireIntended {
    Registered,
    Live,
    Refused(Refusal),
}

/// `catalog::Member`.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct WireMember {
    pub client: ClientId,
    pub name: String,
    pub stamp: Stamp,
}

/// A `CatalogError`, without where the host keeps its catalog.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum WireCatalogError {
    Unreachable(String),
    Busy(String),
    ReadOnly(String),
    DiskFull(String),
    Corrupt(String),
    Restored(CatalogEpoch),
    RosterFull(u32),
    NotMember(ClientId, WorkgroupId),
    InvalidName(String),
    RevisionReused(Revision),
    ObjectTaken(ObjectId),
    Other(String),
    Retired(ClientId),
}

impl From<CatalogError> for WireCatalogError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Unreachable { why, .. } => Self::Unreachable(why),
            CatalogError::Busy { why, .. } => Self::Busy(why),
            CatalogError::ReadOnly { why, .. } => Self::ReadOnly(why),
            CatalogError::DiskFull { why, .. } => Self::DiskFull(why),
            CatalogError::Corrupt { why, .. } => Self::Corrupt(why),
            CatalogError::Restored { epoch } => Self::Restored(epoch),
            CatalogError::RosterFull { limit } => Self::RosterFull(u32::try_from(limit).unwrap_or(u32::MAX)),
            CatalogError::NotMember { client, workgroup } => Self::NotMember(client, workgroup),
            CatalogError::InvalidName { name, .. } => Self::InvalidName(name),
            CatalogError::RevisionReused { revision } => Self::RevisionReused(revision),
            CatalogError::ObjectTaken { object } => Self::ObjectTaken(object),
            CatalogError::Retired { client } => Self::Retired(client),
            CatalogError::Other { why, .. } => Self::Other(why),
            // The host could not have opened such a catalog: it was changed below it.
            error @ (CatalogError::NewerVersion { .. }
            | CatalogError::NetworkFileSystem { .. }
            | CatalogError::NoSuchCatalog { .. }
            | CatalogError::NoSuchWorkgroup { .. }
            | CatalogError::AlreadyThere { .. }
            | CatalogError::Unsupported { .. }) => Self::Unreachable(error.to_string()),
        }
    }
}

impl From<WireCatalogError> for CatalogError {
    fn from(error: WireCatalogError) -> Self {
        let catalog = PEER_URL.to_owned();
        match error {
            WireCatalogError::Unreachable(why) => Self::Unreachable { catalog, why },
            WireCatalogError::Busy(why) => Self::Busy { catalog, why },
            WireCatalogError::ReadOnly(why) => Self::ReadOnly { catalog, why },
            WireCatalogError::DiskFull(why) => Self::DiskFull { catalog, why },
            WireCatalogError::Corrupt(why) => Self::Corrupt { catalog, why },
            WireCatalogError::Restored(epoch) => Self::Restored { epoch },
            WireCatalogError::RosterFull(limit) => Self::RosterFull { limit: limit as usize },
            WireCatalogError::NotMember(client, workgroup) => Self::NotMember { client, workgroup },
            WireCatalogError::InvalidName(name) => {
                Self::InvalidName { name, why: "the host does not take it" }
            }
            WireCatalogError::RevisionReused(revision) => Self::RevisionReused { revision },
            WireCatalogError::ObjectTaken(object) => Self::ObjectTaken { object },
            WireCatalogError::Retired(client) => Self::Retired { client },
            WireCatalogError::Other(why) => Self::Other { catalog, doing: "at its host", why },
        }
    }
}

/// The first frame on a stream of objects. [`ObjectRequest::Put`] is answered with [`ObjectAnswer::Send`] or an end;
/// then come the pieces, a frame each, and an empty one. After [`ObjectAnswer::Pieces`] come pieces the other way.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum ObjectRequest {
    Check,
    Head(ObjectId),
    Put(ObjectId, Content),
    Get(ObjectId, u64),
    Delete(ObjectId),
}

/// What is said of objects.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub enum ObjectAnswer {
    Done,
    Size(u64),
    Send,
    Pieces,
    Missing,
    SourceChanged,
    Occupied,
    Unreachable(String),
    StoreFull(String),
    Denied(String),
    NoLinks(String),
    Other(String),
}

impl From<ObjectError> for ObjectAnswer {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::SourceChanged { .. } | ObjectError::Source { .. } => Self::SourceChanged,
            ObjectError::Occupied { .. } => Self::Occupied,
            ObjectError::Missing { .. } => Self::Missing,
            ObjectError::Unreachable { why, .. } => Self::Unreachable(why),
            ObjectError::StoreFull { why, .. } => Self::StoreFull(why),
            ObjectError::Denied { why, .. } => Self::Denied(why),
            ObjectError::NoLinks { why, .. } => Self::NoLinks(why),
            ObjectError::Other { why, .. } => Self::Other(why),
            error => Self::Other(error.to_string()),
        }
    }
}

impl ObjectAnswer {
    /// The error that this answer is to a question about `object`. An answer that is none is one that was not asked for.
    pub fn error(self, object: ObjectId) -> ObjectError {
        let store = PEER_URL.to_owned();
        let doing = "at its host";
        match self {
            Self::Missing => ObjectError::Missing { store, object },
            Self::SourceChanged => ObjectError::SourceChanged { file: object.to_string() },
            Self::Occupied => ObjectError::Occupied { object },
            Self::Unreachable(why) => ObjectError::Unreachable { store, why },
            Self::StoreFull(why) => ObjectError::StoreFull { store, why },
            Self::Denied(why) => ObjectError::Denied { store, why },
            Self::NoLinks(why) => ObjectError::NoLinks { store, why },
            Self::Other(why) => ObjectError::Other { store, doing, why },
            Self::Done | Self::Size(_) | Self::Send | Self::Pieces => {
                ObjectError::Other { store, doing, why: "its answer is to another question".to_owned() }
            }
        }
    }
}

/// How long the other end may take for a frame. The host's catalog itself waits at most a few seconds for its turn.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Writes one value as a frame.
pub async fn say<W: AsyncWrite + Unpin + ?Sized, T: Encode>(stream: &mut W, value: &T) -> io::Result<()> {
    let bytes = codec::encode(value).map_err(io::Error::other)?;
    say_bytes(stream, &bytes).await
}

/// Writes one frame.
pub async fn say_bytes<W: AsyncWrite + Unpin + ?Sized>(mut stream: &mut W, bytes: &[u8]) -> io::Result<()> {
    patiently(async {
        write_frame(&mut stream, bytes).await?;
        stream.flush().await
    })
    .await
}

/// Reads one value; nothing at a clean end.
pub async fn hear<R: AsyncRead + Unpin + ?Sized, T: Decode<()>>(stream: &mut R) -> io::Result<Option<T>> {
    let Some(bytes) = hear_bytes(stream).await? else { return Ok(None) };
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    codec::decode(&bytes).map(Some).map_err(invalid)
}

/// Reads one frame; nothing at a clean end.
pub async fn hear_bytes<R: AsyncRead + Unpin + ?Sized>(mut stream: &mut R) -> io::Result<Option<Vec<u8>>> {
    patiently(read_frame(&mut stream, FRAME_MAX_BYTES)).await
}

/// Reads one value that must come.
pub async fn hear_answer<R: AsyncRead + Unpin + ?Sized, T: Decode<()>>(stream: &mut R) -> io::Result<T> {
    hear(stream).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the other end does not answer");
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(late()))
}
