//! Version 1 of the protocol as it was recorded: a whole conversation, stream by stream and byte by byte, with fixed keys
//! and random numbers, spoken anew by both roles.
//!
//! What is longer than a line is recorded by its length and BLAKE3. A change here is a change of the protocol: what a
//! recorded node says must be understood for ever, and what it understands must be said.

use crate::admission::{Invitations, Refusal, admit};
use crate::bulk::{ContentSource, SourceContent, fetch};
use crate::bulk_server::serve;
use crate::identity::Identity;
use crate::invite_code::InviteCode;
use crate::join::ask;
use crate::keyring::{KeyStore, Keyring, Keys};
use crate::membership::{Members, Prover, WorkgroupKey};
use crate::notices::Notice;
use crate::random::fixed;
use crate::session::write_control;
use crate::test_pipe::{PipeEnd, recorded_pipe};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use tcat_engine::catalog::FeedPosition;
use tcat_engine::clock::VersionVector;
use tcat_engine::content::{Blake3, Content, Md5};
use tcat_engine::heads::WholeVector;
use tcat_engine::ids::{ClientId, hex};
use tcat_engine::message::{Heartbeat, Message};
use tcat_engine::outboard::{Outboard, OutboardBuilder};
use tcat_engine::roster::{Admission, RosterDigest};
use tokio::sync::Semaphore;

const RECORDED: &str = include_str!("transcript_1.txt");
/// Longer runs are recorded by their hash.
const SHOWN_MAX_BYTES: usize = 512;

const DIALER: ClientId = ClientId([0x11; 32]);
const LISTENER: ClientId = ClientId([0x22; 32]);
/// Every random byte of each end.
const DIALERS_RANDOM: u8 = 0x44;
const LISTENERS_RANDOM: u8 = 0x55;

struct Everybody;

#[async_trait::async_trait]
impl Members for Everybody {
    async fn admission(&self, _: &ClientId) -> Admission {
        Admission::Member
    }

    fn unlisted(&self, _: &ClientId) {}
}

struct Nowhere;

impl KeyStore for Nowhere {
    fn save(&self, _: &Keyring) -> io::Result<()> {
        Ok(())
    }
}

/// The ring of a workgroup in which one was retired.
async fn ring() -> Keyring {
    let maker = Identity::from_seed([0x77; 32]).unwrap();
    let keys = Keys::new(maker, Keyring::new(WorkgroupKey::from_bytes([7; 32])), Box::new(Nowhere));
    fixed::with(0x66, async { keys.rotate(&[ClientId([0x33; 32])]).unwrap() }).await;
    keys.ring()
}

/// What both ends of one stream said, in turns.
struct Conversation(String);

impl Conversation {
    /// Runs both ends of a stream on a pipe that notes what passes.
    async fn stream<D, L>(
        &mut self,
        what: &str,
        dialer: impl AsyncFnOnce(PipeEnd) -> D,
        listener: impl AsyncFnOnce(PipeEnd) -> L,
    ) -> (D, L) {
        let (near, far, record) = recorded_pipe();
        let ends = futures::join!(
            fixed::with(DIALERS_RANDOM, dialer(near)),
            fixed::with(LISTENERS_RANDOM, listener(far))
        );
        self.0.push_str(&format!("# {what}\n"));
        let mut turns: Vec<(bool, Vec<u8>)> = Vec::new();
        for (from_dialer, bytes) in record.lock().unwrap().drain(..) {
            match turns.last_mut() {
                Some((same, turn)) if *same == from_dialer => turn.extend(bytes),
                _ => turns.push((from_dialer, bytes)),
            }
        }
        for (from_dialer, bytes) in turns {
            let arrow = if from_dialer { '>' } else { '<' };
            let shown = match bytes.len() {
                0..=SHOWN_MAX_BYTES => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                length => format!("{length} bytes {}", hex(blake3::hash(&bytes).as_bytes())),
            };
            self.0.push_str(&format!("{arrow} {shown}\n"));
        }
        ends
    }
}

async fn prove(conversation: &mut Conversation, what: &str, dialers: &Keyring, listeners: &Keyring) {
    let proved = [AtomicBool::new(false), AtomicBool::new(false)];
    let members = &Everybody;
    let (dialed, listened) = conversation
        .stream(
            what,
            async |mut stream: PipeEnd| {
                let (ours, theirs, proved) = (DIALER, LISTENER, &proved[0]);
                let prover = Prover { ring: dialers, ours, theirs, start: 10, members, proved };
                prover.prove_as_dialer(&mut stream).await
            },
            async |mut stream: PipeEnd| {
                let (ours, theirs, proved) = (LISTENER, DIALER, &proved[1]);
                let prover = Prover { ring: listeners, ours, theirs, start: 20, members, proved };
                prover.prove_as_listener(&mut stream).await
            },
        )
        .await;
    assert_eq!((dialed.unwrap(), listened.unwrap()), (20, 10));
}

fn heartbeat() -> Vec<u8> {
    let heartbeat = Heartbeat {
        start: 10,
        beat: 1,
        name: "anna".into(),
        vector: VersionVector::default(),
        feed: FeedPosition::default(),
        idle: true,
        echo: None,
        whole: WholeVector::default(),
        hears: vec![LISTENER],
        roster: Some(RosterDigest([9; 8])),
    };
    Message::Heartbeat(heartbeat).encode().unwrap()
}

/// Files by their content.
struct Shelf(Vec<(PathBuf, Outboard, Blake3)>);

impl ContentSource for Shelf {
    fn open(&self, blake3: &Blake3) -> Option<SourceContent> {
        let (path, outboard, _) = self.0.iter().find(|(_, _, held)| held == blake3)?;
        Some(SourceContent { file: File::open(path).ok()?, outboard: outboard.clone() })
    }
}

async fn transfer(conversation: &mut Conversation, what: &str, bytes: &[u8], have: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (held, partial) = (folder.path().join("held"), folder.path().join("partial"));
    std::fs::write(&held, bytes).unwrap();
    if have > 0 {
        std::fs::write(&partial, &bytes[..have]).unwrap();
    }
    let mut builder = OutboardBuilder::default();
    builder.update(bytes);
    let (outboard, blake3) = builder.finish();
    let content = Content { md5: Md5([1; 16]), size: bytes.len() as u64, blake3: Some(blake3) };
    let shelf = Arc::new(Shelf(vec![(held, outboard, blake3)]));
    let place = || Arc::new(Semaphore::new(1));
    let open_file = {
        let partial = partial.clone();
        move || File::options().read(true).write(true).create(true).truncate(false).open(partial)
    };
    let (fetched, served) = conversation
        .stream(
            what,
            async |stream: PipeEnd| {
                fetch(LISTENER, || async { Ok(stream) }, &content, (open_file, &partial), &|_| {}).await
            },
            async |stream: PipeEnd| serve(stream, shelf, place(), place()).await,
        )
        .await;
    fetched.unwrap();
    served.unwrap();
    assert_eq!(std::fs::read(&partial).unwrap(), bytes);
}

struct Book(Mutex<bool>);

impl Invitations for Book {
    fn code(&self, _: u16, _: &ClientId) -> Result<InviteCode, Refusal> {
        Ok(InviteCode::parse("417-canyon-velvet-orbit").unwrap())
    }

    fn attempted(&self, _: u16, _: &ClientId, knows: bool) -> Result<(), Refusal> {
        *self.0.lock().unwrap() = knows;
        if knows { Ok(()) } else { Err(Refusal::Wrong) }
    }

    fn admit(&self, _: u16, _: &ClientId, name: &str) -> Result<Vec<u8>, Refusal> {
        Ok(format!("a ticket for {name}").into_bytes())
    }
}

async fn join(conversation: &mut Conversation, what: &str, words: &str) -> Result<Vec<u8>, Refusal> {
    let code = InviteCode::parse(words).unwrap();
    let book = Arc::new(Book(Mutex::new(false)));
    let (asked, answered) = conversation
        .stream(
            what,
            async |mut stream: PipeEnd| ask(&mut stream, &code, "Atelier Süd", DIALER, LISTENER).await,
            async |mut stream: PipeEnd| admit(&mut stream, LISTENER, DIALER, true, Some(book)).await,
        )
        .await;
    let _ = answered.unwrap();
    asked.unwrap()
}

async fn conversation() -> String {
    let mut all = Conversation(String::new());
    let (old, new) = (Keyring::new(WorkgroupKey::from_bytes([7; 32])), ring().await);
    prove(&mut all, "/tcat/membership/1", &new, &new).await;
    prove(&mut all, "/tcat/membership/1, the dialer knows an older key alone", &old, &new).await;
    let messages = [
        Notice::Listens(4711).encode(),
        Notice::Keys(new).encode(),
        heartbeat(),
        Message::Probe(7).encode().unwrap(),
    ];
    all.stream(
        "/tcat/control/1 of the dialer",
        async |stream: PipeEnd| {
            let (to_write, queue) = tokio::sync::mpsc::channel(messages.len());
            for message in &messages {
                to_write.send(Arc::from(&message[..])).await.unwrap();
            }
            drop(to_write);
            write_control(stream, queue, |_| {}).await.unwrap();
        },
        async |stream: PipeEnd| drop(stream),
    )
    .await;
    transfer(&mut all, "/tcat/bulk/1, one group", b"abc", 0).await;
    let long: Vec<u8> = (0..(2 << 20) + 5_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    transfer(&mut all, "/tcat/bulk/1, three groups", &long, 0).await;
    transfer(&mut all, "/tcat/bulk/1, three groups of which the first is there", &long, 1 << 20).await;
    let joined = join(&mut all, "/tcat/join/2", "417-canyon-velvet-orbit").await;
    assert_eq!(joined, Ok("a ticket for Atelier Süd".as_bytes().to_vec()));
    let refused = join(&mut all, "/tcat/join/2, with wrong words", "417-canyon-velvet-oven").await;
    assert_eq!(refused, Err(Refusal::Wrong));
    all.0
}

#[tokio::test]
async fn both_roles_say_what_version_1_said_byte_for_byte() {
    let spoken = conversation().await;
    if spoken != RECORDED {
        let differs = spoken.lines().zip(RECORDED.lines()).find(|(spoken, recorded)| spoken != recorded);
        panic!("this is not version 1: {differs:?}\n{spoken}");
    }
}
