//! The session of one peer: messages in both directions and contents out, on the connection that was chosen for it.
//!
//! Always: `Connected`, the messages, `Disconnected` of one peer come in this order, and the next session of the same
//! peer waits for its turn. Whatever fails ends the session, so that both ends start over and resynchronise.

use crate::bulk_server::{STREAMS_PER_PEER, refuse, serve};
use crate::connection::{Common, Connection, Report};
use crate::frame::{FRAME_MAX_BYTES, read_frame, write_frame};
use crate::keyring::Keyring;
use crate::notices::Notice;
use crate::services::{Service, Serving};
use crate::streams::{BULK, CONTROL, ConnectionEnds, Opener};
use crate::transport::NetEvent;
use futures::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tcat_engine::ids::ClientId;
use tokio::sync::{Notify, OwnedMutexGuard, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

/// Messages and bytes that may wait to be sent to one peer.
const QUEUE_MAX: usize = 1024;
const QUEUE_MAX_BYTES: usize = 32 << 20;
/// Requests for contents of one peer, served or waiting for their turn.
const BULK_REQUESTS_MAX: usize = 4 * STREAMS_PER_PEER;
/// The same with those that are told that we are busy; beyond, streams are reset.
const BULK_ANSWERS_MAX: usize = 4 * BULK_REQUESTS_MAX;
const BUFFER_BYTES: usize = 64 << 10;
/// The first byte of a control stream. Sent at once, since an opened stream shows only with its first byte.
const CONTROL_HELLO: u8 = 1;

/// A member may bring new keys so often: each time is a write to the disk, and is told to all.
const BROUGHT_MAX: u32 = 8;
const BROUGHT_WITHIN: Duration = Duration::from_secs(60);

/// How often members have brought new keys lately.
#[derive(Default)]
pub(crate) struct BroughtKeys(BTreeMap<ClientId, (Instant, u32)>);

impl BroughtKeys {
    /// Notes one more time; false if it is too often.
    fn note(&mut self, client: ClientId, now: Instant) -> bool {
        self.0.retain(|_, (since, _)| now.duration_since(*since) < BROUGHT_WITHIN);
        let (_, count) = self.0.entry(client).or_insert((now, 0));
        *count += 1;
        *count <= BROUGHT_MAX
    }
}

/// What a session needs to begin.
pub(crate) struct Begin {
    /// Held from `Connected` to `Disconnected`.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    pub queue: mpsc::Receiver<Arc<[u8]>>,
    pub session: Session,
}

/// The near end of a session, for whoever sends.
#[derive(Clone)]
pub(crate) struct Session {
    queue: mpsc::Sender<Arc<[u8]>>,
    queued_bytes: Arc<AtomicUsize>,
    /// Set once a message could not be queued: what came after it would come in the wrong order.
    overflowed: Arc<AtomicBool>,
    over: Arc<Notify>,
    pub opener: Opener,
    pub connection: ConnectionId,
    pub peer_start: u64,
    pub since: Instant,
}

impl Session {
    pub(crate) fn new(
        connection: ConnectionId,
        peer_start: u64,
        opener: Opener,
    ) -> (Self, mpsc::Receiver<Arc<[u8]>>) {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        let (queued_bytes, overflowed, over) = (Arc::default(), Arc::default(), Arc::default());
        let since = Instant::now();
        (Self { queue, queued_bytes, overflowed, over, opener, connection, peer_start, since }, queued)
    }

    /// Queues a message; false if there is no room, and then the session ends and takes nothing more.
    pub(crate) fn send(&self, bytes: Arc<[u8]>) -> bool {
        let length = bytes.len();
        let before = self.queued_bytes.fetch_add(length, Ordering::AcqRel);
        if before + length <= QUEUE_MAX_BYTES && self.queue.try_send(bytes).is_ok() {
            return true;
        }
        self.overflowed.store(true, Ordering::Release);
        self.end();
        false
    }

    /// Ends the session, even if its connection hangs.
    pub(crate) fn end(&self) {
        self.over.notify_one();
    }

    /// Whether it still takes messages.
    pub(crate) fn is_open(&self) -> bool {
        !self.overflowed.load(Ordering::Acquire)
    }
}

/// How a session ended.
#[derive(Debug)]
enum End {
    /// By either end's will, or the network's.
    Over(String),
    /// The peer did what nobody does who speaks the protocol.
    Broken(String),
}

/// Messages both ways and contents out, until any of it fails or the connection ends. `control` is the peer's control
/// stream, if it has come already.
pub(crate) async fn run_session(mut connection: Connection, begin: Begin, control: Option<Stream>) {
    let (id, client, common) = (connection.id, connection.client, connection.common.clone());
    let Begin { turn, queue, session } = begin;
    let _turn: OwnedMutexGuard<()> = tokio::select! {
        turn = turn.lock_owned() => turn,
        () = session.over.notified() => return connection.report(Report::Ended { id, client }).await,
        () = session.opener.closed() => return connection.report(Report::Ended { id, client }).await,
    };
    let (to_reader, reader_stream) = oneshot::channel();
    let mut to_reader = Some(to_reader);
    if let Some(stream) = control {
        hand_over(&mut to_reader, stream);
    }
    let mut announced = false;
    let reader = Reader {
        client,
        // Where we dialed it we know already.
        address: connection.address.filter(|_| !connection.dialed),
        common: common.clone(),
        reports: connection.reports.clone(),
    };
    let end = tokio::select! {
        end = reader.read_messages(reader_stream, &mut announced) => end,
        why = tell_notices(client, &session, &common) => End::Over(why),
        why = write_messages(&session, queue) => End::Over(why),
        end = accept_streams(client, &mut connection.ends, &connection.common, to_reader) => end,
        () = session.over.notified() => End::Over("we ended it".to_owned()),
    };
    match end {
        End::Over(why) => {
            tracing::debug!(%client, %why, "a session is over");
            connection.report(Report::Ended { id, client }).await;
        }
        End::Broken(what) => {
            connection.report(Report::Misbehaved { id, client }).await;
            let _ = common.events.send(NetEvent::Misbehaved { from: client, what }).await;
        }
    }
    if announced {
        let _ = common.events.send(NetEvent::Disconnected(client)).await;
    }
}

/// Hears one member.
struct Reader {
    client: ClientId,
    /// Where it has dialed us from.
    address: Option<SocketAddr>,
    common: Arc<Common>,
    reports: mpsc::Sender<Report>,
}

impl Reader {
    /// Announces the peer, then passes its messages on; waits for the node, and so slows down the peer, when it must.
    async fn read_messages(&self, stream: oneshot::Receiver<Stream>, announced: &mut bool) -> End {
        let node_gone = || End::Over("the node listens no more".into());
        let (from, events) = (self.client, &self.common.events);
        if events.send(NetEvent::Connected(from)).await.is_err() {
            return node_gone();
        }
        *announced = true;
        let Ok(stream) = stream.await else { return End::Over("it opened no control stream".into()) };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, stream);
        let mut hello = [0];
        if let Err(error) = reader.read_exact(&mut hello).await {
            return End::Over(error.to_string());
        }
        loop {
            let bytes = match read_frame(&mut reader, FRAME_MAX_BYTES).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return End::Over("it closed its control stream".into()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return End::Broken(error.to_string());
                }
                Err(error) => return End::Over(error.to_string()),
            };
            match Notice::decode(&bytes) {
                None => {
                    if events.send(NetEvent::Message { from, bytes }).await.is_err() {
                        return node_gone();
                    }
                }
                Some(Ok(Notice::Listens(port))) => self.listens(port).await,
                Some(Ok(Notice::Keys(ring))) => {
                    if let Err(why) = self.take_over(ring).await {
                        return End::Broken(why);
                    }
                }
                Some(Err(why)) => return End::Broken(format!("it sent {why}")),
            }
        }
    }

    async fn listens(&self, port: u16) {
        let Some(mut address) = self.address.filter(|_| port != 0) else { return };
        address.set_port(port);
        let _ = self.reports.send(Report::Listens { client: self.client, address }).await;
    }

    /// The error is what the member did that it may not.
    async fn take_over(&self, ring: Keyring) -> Result<(), String> {
        if self.common.keys.ring().knows(&ring) {
            return Ok(());
        }
        let may = {
            let mut brought = self.common.brought.lock().unwrap_or_else(|e| e.into_inner());
            brought.note(self.client, Instant::now())
        };
        if !may {
            return Err("it brings new keys of the workgroup again and again".into());
        }
        let keys = self.common.keys.clone();
        match tokio::task::spawn_blocking(move || keys.merge(&ring)).await {
            Ok(Ok(true)) => tracing::info!(client = %self.client, "took over new keys of the workgroup"),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => return Err(error.to_string()),
            Ok(Err(error)) => tracing::error!(
                "new keys of the workgroup cannot be kept: {error}; make room on the disk of the home; they come again with the next connection"
            ),
        }
        Ok(())
    }
}

/// Tells the member where we listen, and of our keys what it may know, whenever that changes.
async fn tell_notices(client: ClientId, session: &Session, common: &Common) -> String {
    const OVERFLOWED: &str = "it takes its messages too slowly";
    let mut changes = common.keys.changes();
    if !session.send(Notice::Listens(common.port.load(Ordering::Relaxed)).encode().into()) {
        return OVERFLOWED.into();
    }
    let mut told = None;
    loop {
        changes.borrow_and_update();
        let may_know = common.keys.ring().told_to(&client);
        if may_know != told {
            told = may_know;
            if let Some(ring) = &told
                && !session.send(Notice::Keys(ring.clone()).encode().into())
            {
                return OVERFLOWED.into();
            }
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await; // The node is ending.
        }
    }
}

/// Opens our control stream, which tells the other end that this connection is chosen, and writes what is queued.
async fn write_messages(session: &Session, queue: mpsc::Receiver<Arc<[u8]>>) -> String {
    let writing = async {
        let stream = session.opener.open(CONTROL).await?;
        let written = |length| {
            session.queued_bytes.fetch_sub(length, Ordering::AcqRel);
        };
        write_control(stream, queue, written).await
    };
    match writing.await {
        Ok(()) => "we ended it".into(),
        Err(error) => error.to_string(),
    }
}

/// Writes a control stream until the queue ends; `written` is told the length of each frame.
pub(crate) async fn write_control<S: AsyncWrite + Unpin>(
    stream: S,
    mut queue: mpsc::Receiver<Arc<[u8]>>,
    written: impl Fn(usize),
) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, stream);
    writer.write_all(&[CONTROL_HELLO]).await?;
    writer.flush().await?;
    while let Some(mut bytes) = queue.recv().await {
        loop {
            write_frame(&mut writer, &bytes).await?;
            written(bytes.len());
            match queue.try_recv() {
                Ok(next) => bytes = next,
                Err(_) => break,
            }
        }
        writer.flush().await?;
    }
    Ok(())
}

/// Gives the reader its stream; false if it has one already.
fn hand_over(reader: &mut Option<oneshot::Sender<Stream>>, stream: Stream) -> bool {
    reader.take().is_some_and(|reader| {
        let _ = reader.send(stream); // Without a reader the session is ending.
        true
    })
}

/// Takes the streams that the peer opens, until the connection ends.
async fn accept_streams(
    client: ClientId,
    ends: &mut ConnectionEnds,
    common: &Common,
    mut reader: Option<oneshot::Sender<Stream>>,
) -> End {
    let of_peer = Arc::new(Semaphore::new(STREAMS_PER_PEER));
    let mut services_open = Serving::default();
    let mut serving = JoinSet::new(); // Dropped with the session, which ends them all.
    while let Some((protocol, stream)) = ends.inbound.recv().await {
        while let Some(served) = serving.try_join_next() {
            if let Ok(Err(error)) = served {
                tracing::debug!(%error, "a peer's fetch broke off");
            }
        }
        if protocol == CONTROL {
            if !hand_over(&mut reader, stream) {
                return End::Broken("a second control stream".into());
            }
        } else if protocol == BULK && serving.len() < BULK_REQUESTS_MAX {
            let (contents, in_all) = (common.contents.clone(), common.bulk_in_all.clone());
            serving.spawn(serve(stream, contents, in_all, of_peer.clone()));
        } else if protocol == BULK && serving.len() < BULK_ANSWERS_MAX {
            serving.spawn(refuse(stream));
        } else if let (Some(service), Some(services)) = (Service::of(&protocol), &common.services) {
            services_open.serve(services, client, service, stream);
        }
    }
    End::Over("the connection ended".into())
}
