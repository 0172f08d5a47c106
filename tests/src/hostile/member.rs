//! A liar with a member's key, and its session with one node: what it hears, and whatever bytes it likes to say.

use super::wire::{BULK, CONTROL, Connection, PATIENCE, read, write};
use crate::node::Node;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::identity::Keypair;
use libp2p::swarm::Stream;
use std::io;
use std::time::{Duration, Instant};
use tcat_engine::batch::{Batch, Keys, Record, Signature};
use tcat_engine::clock::{Incarnation, Stamp, VersionVector};
use tcat_engine::entry::Entry;
use tcat_engine::ids::{ClientId, ItemId, from_hex};
use tcat_engine::message::{Heartbeat, Message, Page};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A client that was admitted, and whose key is in the wrong hands.
pub struct Liar {
    /// Its name in the workgroup.
    pub name: String,
    /// Its key pair.
    pub keypair: Keypair,
    /// Who it is.
    pub client: ClientId,
    /// The workgroup's key.
    pub key: [u8; 32],
}

impl Keys for Liar {
    fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(self.keypair.sign(bytes).unwrap().try_into().unwrap())
    }

    fn verify(&self, client: &ClientId, bytes: &[u8], signature: &Signature) -> bool {
        tcat_net::verify(client, bytes, &signature.0)
    }
}

impl Liar {
    /// Takes what a node that has joined keeps in its home. The node itself is never started.
    pub fn of(node: &Node<'_>) -> Self {
        let identity = std::fs::read_to_string(node.home.join("identity.key")).unwrap();
        let secret = identity.lines().find_map(|line| line.strip_prefix("secret ")).unwrap();
        let secret: [u8; 32] = from_hex(secret).unwrap();
        let keypair = Keypair::ed25519_from_bytes(secret).unwrap();
        let client = super::wire::client_of(&keypair.public().to_peer_id()).unwrap();
        let ring = std::fs::read_to_string(node.home.join(key_file(node))).unwrap();
        // `NUMBER KEY CLIENT...`, the newest last.
        let key = from_hex(ring.lines().last().unwrap().split(' ').nth(1).unwrap()).unwrap();
        Self { name: node.name.clone(), keypair, client, key }
    }

    /// A proved session with a node, which may have to read first that the client was admitted.
    pub async fn connect(&self, address: &str) -> Result<Session, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_to_connect(address).await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(250)).await,
                ended => return ended,
            }
        }
    }

    async fn try_to_connect(&self, address: &str) -> Result<Session, String> {
        let connection = Connection::dial(&self.keypair, address).await?;
        connection.prove(&self.key).await.map_err(|error| format!("not let in: {error}"))?;
        let mut session = Session::begin(connection).await.map_err(|error| error.to_string())?;
        session.next_heartbeat().await.ok_or("it ended the session at once")?;
        Ok(session)
    }

    /// A batch of this client's, signed as it should be.
    pub fn batch(&self, incarnation: u64, first: u64, records: Vec<Record>) -> Batch {
        Batch::sign(self.client, Incarnation(incarnation), first, records, self).unwrap()
    }

    /// A page that brings one batch of this client's.
    pub fn page(&self, after: Stamp, batch: Batch) -> Page {
        let through = batch.last_stamp();
        Page { owner: self.client, after, through, batches: vec![batch], more: false, head: None }
    }
}

fn key_file(node: &Node<'_>) -> String {
    let names = std::fs::read_dir(&node.home).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names = names.filter_map(|name| name.into_string().ok());
    names.find(|name| name.starts_with("workgroup-") && name.ends_with(".key")).unwrap()
}

/// A record of an entry as it is.
pub fn record(item: u8, entry: &Entry) -> Record {
    Record { item: ItemId([item; 16]), entry: entry.encode().unwrap() }
}

/// A session.
pub struct Session {
    /// Its connection.
    pub connection: Connection,
    control: Stream,
    /// What the node says.
    pub messages: mpsc::Receiver<Message>,
    /// Contents that the node asks for.
    pub bulk: mpsc::Receiver<Stream>,
}

impl Session {
    async fn begin(mut connection: Connection) -> io::Result<Self> {
        let mut control = connection.open(CONTROL).await?;
        control.write_all(&[1]).await?;
        control.flush().await?;
        let (to_messages, messages) = mpsc::channel(10_000);
        let (to_bulk, bulk) = mpsc::channel(1000);
        let (_, nothing) = mpsc::channel(1);
        let mut inbound = std::mem::replace(&mut connection.inbound, nothing);
        let mut to_messages = Some(to_messages);
        tokio::spawn(async move {
            while let Some((protocol, stream)) = inbound.recv().await {
                match protocol.as_ref() {
                    CONTROL => drop(to_messages.take().map(|to| tokio::spawn(listen(stream, to)))),
                    BULK => drop(to_bulk.try_send(stream)),
                    _ => {}
                }
            }
        });
        Ok(Self { connection, control, messages, bulk })
    }

    /// Sends a message.
    pub async fn say(&mut self, message: &Message) -> io::Result<()> {
        self.say_bytes(&message.encode().unwrap()).await
    }

    /// Sends a frame of any bytes.
    pub async fn say_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writing = write(&mut self.control, bytes);
        timeout(PATIENCE, writing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Puts bytes on the control stream that are no frame.
    pub async fn say_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writing = async {
            self.control.write_all(bytes).await?;
            self.control.flush().await
        };
        timeout(PATIENCE, writing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The node's next heartbeat.
    pub async fn heartbeat(&mut self) -> Heartbeat {
        self.next_heartbeat().await.expect("a node sends heartbeats")
    }

    /// The same; nothing once the session is over.
    pub async fn next_heartbeat(&mut self) -> Option<Heartbeat> {
        let hearing = async {
            loop {
                if let Message::Heartbeat(heartbeat) = self.messages.recv().await? {
                    return Some(heartbeat);
                }
            }
        };
        timeout(PATIENCE, hearing).await.ok().flatten()
    }

    /// Answers heartbeats as a live member with this vector, for a while.
    pub async fn live_for(&mut self, beat: &mut u64, vector: &VersionVector, how_long: Duration) {
        let _ = timeout(how_long, async {
            loop {
                let Some(heard) = self.next_heartbeat().await else { return };
                *beat += 1;
                let answer = answer_to(&heard, *beat, vector, self.connection.them);
                if self.say(&Message::Heartbeat(answer)).await.is_err() {
                    return;
                }
            }
        })
        .await;
    }

    /// Whether the node ends the connection soon.
    pub async fn is_dropped(&self) -> bool {
        self.connection.is_closed_within(PATIENCE).await
    }
}

/// A heartbeat that makes its sender live for who sent `heard`.
pub fn answer_to(heard: &Heartbeat, beat: u64, vector: &VersionVector, them: ClientId) -> Heartbeat {
    Heartbeat {
        start: 77,
        beat,
        name: "mallory".into(),
        vector: vector.clone(),
        feed: heard.feed,
        idle: true,
        echo: Some((heard.start, heard.beat)),
        whole: Default::default(),
        hears: vec![them],
        roster: heard.roster,
    }
}

async fn listen(mut stream: Stream, messages: mpsc::Sender<Message>) {
    let mut hello = [0];
    if stream.read_exact(&mut hello).await.is_err() {
        return;
    }
    loop {
        let frame = match read(&mut stream).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => continue,
            Err(_) => return,
            Ok(frame) => frame,
        };
        if let Ok(Some(message)) = Message::decode(&frame) {
            let _ = messages.try_send(message); // Nobody listens any more, or too slowly: that is the tests' matter.
        }
    }
}
