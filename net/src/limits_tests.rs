//! That the limits on connections, streams, frames and memory hold against peers that respect none, while others are
//! served.

use crate::bulk::{ContentSource, SourceContent};
use crate::notices::Notice;
use crate::streams::tests::{Member, WAIT, hostile_member, intruder, member, member_with, poll};
use crate::streams::{BULK, CONTROL, MEMBERSHIP};
use crate::transport::{NetEvent, SendError};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tcat_engine::content::Blake3;
use tcat_engine::outboard::{GROUP_BYTES, Outboard};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// What this process keeps in memory, both ends together, in MiB; nothing where that cannot be read.
fn resident_mib() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    (pages.unwrap_or(0) * 4096) >> 20
}

/// A message there and back between two members takes no longer than it should.
async fn are_served(one: &mut Member, other: &mut Member) {
    let since = Instant::now();
    other.handle.send(one.client, vec![3]).unwrap();
    let there = NetEvent::Message { from: other.client, bytes: vec![3] };
    while timeout(WAIT, one.events.recv()).await.unwrap().unwrap() != there {}
    one.handle.send(other.client, vec![4]).unwrap();
    let back = NetEvent::Message { from: one.client, bytes: vec![4] };
    while timeout(WAIT, other.events.recv()).await.unwrap().unwrap() != back {}
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
}

async fn connected(member: &mut Member, peer: &Member) {
    let wanted = NetEvent::Connected(peer.client);
    while timeout(WAIT, member.events.recv()).await.unwrap().unwrap() != wanted {}
}

#[tokio::test]
async fn ten_thousand_streams_of_one_member_take_no_memory_and_hold_up_nobody() {
    let mut victim = member().await;
    let mut friend = member_with(Arc::new(Zeros), vec![victim.address]).await;
    connected(&mut victim, &friend).await;
    connected(&mut friend, &victim).await;
    let (_closed, ends, _control) = hostile_member(&victim).await;
    let before = resident_mib();
    let (mut opened, mut kept) = (0, Vec::new());
    for n in 0..10_000 {
        let protocol = if n % 2 == 0 { BULK } else { MEMBERSHIP };
        let Ok(Ok(mut stream)) = timeout(Duration::from_millis(200), ends.opener.open(protocol)).await else {
            kept.clear(); // As many as the connection bears: on with others.
            continue;
        };
        opened += 1;
        let _ = timeout(Duration::from_millis(50), stream.write_all(&[1; 20])).await;
        let _ = timeout(Duration::from_millis(50), stream.flush()).await;
        kept.push(stream);
        if kept.len() > 200 {
            kept.clear();
        }
        if n % 1000 == 0 {
            are_served(&mut victim, &mut friend).await;
        }
    }
    are_served(&mut victim, &mut friend).await;
    let grown = resident_mib().saturating_sub(before);
    println!("{opened} streams were opened; {grown} MiB more, both ends");
    assert!(opened > 1000 && grown < 64, "{opened} streams, {grown} MiB");
}

#[tokio::test]
async fn a_frame_that_is_announced_and_never_sent_takes_no_memory() {
    let mut victim = member().await;
    let mut friend = member_with(Arc::new(Zeros), vec![victim.address]).await;
    connected(&mut victim, &friend).await;
    connected(&mut friend, &victim).await;
    let before = resident_mib();
    let mut held = Vec::new();
    for _ in 0..12 {
        let (closed, ends, mut control) = hostile_member(&victim).await;
        // The longest that is allowed, and nothing of it.
        control.write_all(&(4_u32 << 20).to_be_bytes()).await.unwrap();
        control.flush().await.unwrap();
        held.push((closed, ends, control));
    }
    are_served(&mut victim, &mut friend).await;
    let grown = resident_mib().saturating_sub(before);
    println!("12 members announced 48 MiB; {grown} MiB more, both ends");
    assert!(grown < 24, "{grown} MiB");
    // Who announces a gibibyte is disconnected at once.
    let (closed, _ends, mut control) = hostile_member(&victim).await;
    control.write_all(&(1_u32 << 30).to_be_bytes()).await.unwrap();
    control.flush().await.unwrap();
    timeout(WAIT, closed).await.unwrap().unwrap();
    are_served(&mut victim, &mut friend).await;
}

/// One content of a gibibyte.
struct Zeros;

const GIBIBYTE: u64 = 1 << 30;

impl ContentSource for Zeros {
    fn open(&self, _: &Blake3) -> Option<SourceContent> {
        let file = tempfile::tempfile().ok()?;
        file.set_len(GIBIBYTE).ok()?;
        let groups = vec![[0; 32]; (GIBIBYTE / GROUP_BYTES) as usize];
        Some(SourceContent { file, outboard: Outboard { size: GIBIBYTE, groups } })
    }
}

#[tokio::test]
async fn a_member_that_asks_for_much_and_reads_nothing_takes_bounded_memory() {
    let mut victim = member_with(Arc::new(Zeros), vec![]).await;
    let mut friend = member_with(Arc::new(Zeros), vec![victim.address]).await;
    connected(&mut victim, &friend).await;
    connected(&mut friend, &victim).await;
    let (_closed, ends, control) = hostile_member(&victim).await;
    let hostile = match timeout(WAIT, victim.events.recv()).await {
        Ok(Some(NetEvent::Connected(client))) => client,
        other => panic!("{other:?}"),
    };
    let before = resident_mib();
    let mut fetches = Vec::new();
    for _ in 0..64 {
        let mut stream = ends.opener.open(BULK).await.unwrap();
        let request = [&[0; 32][..], &GIBIBYTE.to_be_bytes(), &[0]].concat();
        stream.write_all(&request).await.unwrap();
        stream.flush().await.unwrap();
        fetches.push(stream);
    }
    are_served(&mut victim, &mut friend).await;
    // Messages to it wait, up to 32 MiB; then it is disconnected and its queue is gone.
    let mut sent = 0;
    let refused = loop {
        match victim.handle.send(hostile, vec![0; 1 << 20]) {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
        assert!(sent < 100);
    };
    assert_eq!(refused, SendError::Overflow(hostile));
    let grown = resident_mib().saturating_sub(before);
    println!("64 fetches of 1 GiB and {sent} messages of 1 MiB, none read: {grown} MiB more, both ends");
    assert!((30..=33).contains(&sent) && grown < 128, "{sent} messages, {grown} MiB");
    are_served(&mut victim, &mut friend).await;
    drop((fetches, control));
}

/// A connection from another address of this machine's loopback that says nothing.
async fn silent(from: &str, to: std::net::SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).ok()?;
    timeout(Duration::from_secs(1), socket.connect(to)).await.ok()?.ok()
}

#[tokio::test]
async fn a_stranger_with_many_silent_connections_keeps_nobody_out() {
    let mut victim = member().await;
    let Some(first) = silent("127.0.0.2:0", victim.address).await else {
        println!("skipped: this machine has no second loopback address");
        return;
    };
    let mut held = vec![first];
    for _ in 0..200 {
        held.extend(silent("127.0.0.2:0", victim.address).await);
    }
    // While all of them are there, and for as long as it takes to give them up, members come in.
    let since = Instant::now();
    let friend = member_with(Arc::new(Zeros), vec![victim.address]).await;
    connected(&mut victim, &friend).await;
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    // All but those that may be half open were closed at once.
    let mut open = 0;
    for stream in &mut held {
        let ended = timeout(Duration::from_millis(20), async {
            let mut byte = [0];
            while !matches!(tokio::io::AsyncReadExt::read(stream, &mut byte).await, Ok(0) | Err(_)) {}
        });
        open += usize::from(ended.await.is_err());
    }
    assert!(open <= 16, "{open} are still open");
}

#[tokio::test]
async fn a_member_says_where_it_listens_and_is_dialed_there_when_it_is_gone() {
    let victim = member().await;
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (swarm, ends, ours) = intruder(&victim).await;
    drop((swarm, ends, ours));
    let (closed, ends, mut control) = hostile_member(&victim).await;
    let notice = Notice::Listens(place.local_addr().unwrap().port()).encode();
    crate::frame::write_frame(&mut control, &notice).await.unwrap();
    control.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    control.close().await.unwrap(); // What ends the session without a fault: who breaks the protocol is dialed no more.
    timeout(WAIT, closed).await.unwrap().unwrap();
    drop(ends);
    timeout(Duration::from_secs(5), place.accept()).await.expect("it is dialed where it said").unwrap();
}

#[tokio::test]
async fn a_node_of_another_version_is_refused_by_name() {
    // It agrees to no protocol of ours.
    let victim = member().await;
    let (swarm, ends, _) = intruder(&victim).await;
    let _closed = poll(swarm);
    let newer = libp2p::StreamProtocol::new("/tcat/membership/2");
    let refused = match ends.opener.open(newer).await {
        Ok(mut stream) => {
            let _ = stream.flush().await;
            stream.read(&mut [0; 8]).await.unwrap_err()
        }
        Err(error) => error,
    };
    let named = crate::membership::ProofError::from(refused);
    assert!(matches!(named, crate::membership::ProofError::OtherVersion), "{named:?}");
    assert!(named.to_string().contains("/tcat/membership/1"), "{named}");
    assert!(named.blames_the_peer());
    // What it may not have before the proof is refused in the same way.
    assert!(ends.opener.open(CONTROL).await.is_err() || victim.handle.connected().is_empty());
}
