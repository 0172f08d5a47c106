//! What a connection offers to whom, with real nodes and with peers that keep to no rule.

use super::*;
use crate::address::multiaddr;
use crate::bulk::{ContentSource, SourceContent};
use crate::frame::write_frame;
use crate::identity::{Identity, peer_id_of};
use crate::keyring::{KeyStore, Keyring, Keys};
use crate::membership::{Members, Prover, WorkgroupKey};
use crate::swarm::{Behaviour, build_swarm};
use crate::transport::{Net, NetConfig, NetEvent, NetHandle};
use futures::StreamExt;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{Swarm, SwarmEvent};
use tcat_engine::content::Blake3;
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_engine::roster::Admission;
use tokio::time::timeout;

pub(crate) const WAIT: Duration = Duration::from_secs(20);

/// Must never be asked.
struct Nothing;

impl ContentSource for Nothing {
    fn open(&self, _: &Blake3) -> Option<SourceContent> {
        panic!("a stranger's request came through");
    }
}

struct Everybody;

fn ring() -> Keyring {
    Keyring::new(WorkgroupKey::from_bytes([7; 32]))
}

struct Nowhere;

impl KeyStore for Nowhere {
    fn save(&self, _: &Keyring) -> std::io::Result<()> {
        Ok(())
    }
}

#[async_trait::async_trait]
impl Members for Everybody {
    async fn admission(&self, _: &ClientId) -> Admission {
        Admission::Member
    }

    fn unlisted(&self, _: &ClientId) {}
}

pub(crate) struct Member {
    pub handle: NetHandle,
    pub events: mpsc::Receiver<NetEvent>,
    pub address: std::net::SocketAddr,
    pub client: ClientId,
}

pub(crate) async fn member() -> Member {
    member_with(Arc::new(Nothing), vec![]).await
}

/// One that offers these contents and dials these addresses.
pub(crate) async fn member_with(
    contents: Arc<dyn ContentSource>,
    peers: Vec<std::net::SocketAddr>,
) -> Member {
    let identity = Identity::generate().unwrap();
    let client = identity.client_id();
    let config = NetConfig {
        identity: identity.clone(),
        workgroup: WorkgroupId([3; 16]),
        keys: Keys::new(identity, ring(), Box::new(Nowhere)),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        interfaces: vec![],
        static_peers: peers.into_iter().map(crate::address::PeerAddress::from).collect(),
        mdns: false,
        contents,
        members: Arc::new(Everybody),
        invitations: None,
        services: None,
    };
    let (handle, mut events) = Net::start(config).await.unwrap();
    let Some(NetEvent::Listening(address)) = events.recv().await else { panic!() };
    Member { handle, events, address, client }
}

/// A program of its own that speaks libp2p, connected to the member; its swarm must be polled.
pub(crate) async fn intruder(member: &Member) -> (Swarm<Behaviour>, ConnectionEnds, ClientId) {
    let identity = Identity::generate().unwrap();
    let (swarm, ends) = connect(member, &identity).await;
    (swarm, ends, identity.client_id())
}

async fn connect(member: &Member, identity: &Identity) -> (Swarm<Behaviour>, ConnectionEnds) {
    let mut swarm = build_swarm(identity).unwrap();
    let dial = DialOpts::peer_id(peer_id_of(&member.client).unwrap());
    swarm.dial(dial.addresses(vec![multiaddr(member.address)]).build()).unwrap();
    loop {
        if let SwarmEvent::ConnectionEstablished { connection_id, .. } = swarm.select_next_some().await {
            let ends = swarm.behaviour_mut().streams.take(connection_id).unwrap();
            return (swarm, ends);
        }
    }
}

/// Runs the swarm in the background; tells when the connection is closed.
pub(crate) fn poll(mut swarm: Swarm<Behaviour>) -> oneshot::Receiver<()> {
    let (closed, when_closed) = oneshot::channel();
    tokio::spawn(async move {
        while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {}
        let _ = closed.send(());
    });
    when_closed
}

#[tokio::test]
async fn who_has_proved_nothing_is_offered_nothing_and_disconnected() {
    let mut member = member().await;
    let (swarm, ends, _) = intruder(&member).await;
    let closed = poll(swarm);
    for protocol in [CONTROL, BULK, CATALOG, OBJECTS] {
        // The stream opens before the other end has agreed, so the refusal shows when it is used.
        let refused = match ends.opener.open(protocol.clone()).await {
            Ok(mut stream) => {
                let _ = stream.write_all(&[0; 41]).await;
                let _ = stream.flush().await;
                !matches!(stream.read(&mut [0; 8]).await, Ok(1..))
            }
            Err(_) => true,
        };
        assert!(refused, "{protocol}");
    }
    timeout(Duration::from_secs(8), closed).await.unwrap().unwrap();
    assert!(member.events.try_recv().is_err() && member.handle.connected().is_empty());
}

/// Proves membership and opens a control stream, whatever comes then.
pub(crate) async fn hostile_member(member: &Member) -> (oneshot::Receiver<()>, ConnectionEnds, Stream) {
    hostile_member_of(member, &Identity::generate().unwrap()).await
}

async fn hostile_member_of(
    member: &Member,
    identity: &Identity,
) -> (oneshot::Receiver<()>, ConnectionEnds, Stream) {
    let (swarm, ends) = connect(member, identity).await;
    let ours = identity.client_id();
    let closed = poll(swarm);
    let mut stream = ends.opener.open(MEMBERSHIP).await.unwrap();
    let ring = ring();
    let (theirs, members, proved) = (member.client, &Everybody, &*ends.proved);
    let prover = Prover { ring: &ring, ours, theirs, start: 1, members, proved };
    prover.prove_as_dialer(&mut stream).await.unwrap();
    let mut control = ends.opener.open(CONTROL).await.unwrap();
    control.write_all(&[1]).await.unwrap();
    control.flush().await.unwrap();
    (closed, ends, control)
}

#[tokio::test]
async fn a_member_that_breaks_the_protocol_is_disconnected() {
    for second_stream in [false, true] {
        let mut member = member().await;
        let identity = Identity::generate().unwrap();
        let (closed, ends, mut control) = hostile_member_of(&member, &identity).await;
        write_frame(&mut control, b"fine").await.unwrap();
        control.flush().await.unwrap();
        assert!(matches!(timeout(WAIT, member.events.recv()).await, Ok(Some(NetEvent::Connected(_)))));
        let message = timeout(WAIT, member.events.recv()).await;
        assert!(matches!(message, Ok(Some(NetEvent::Message { bytes, .. })) if bytes == b"fine"));
        if second_stream {
            let mut second = ends.opener.open(CONTROL).await.unwrap();
            second.write_all(&[1]).await.unwrap();
            second.flush().await.unwrap();
        } else {
            control.write_all(&[0xff; 4]).await.unwrap(); // a frame of four gigabytes
            control.flush().await.unwrap();
        }
        let told = timeout(WAIT, member.events.recv()).await;
        assert!(matches!(told, Ok(Some(NetEvent::Misbehaved { .. }))), "{told:?}");
        assert!(matches!(timeout(WAIT, member.events.recv()).await, Ok(Some(NetEvent::Disconnected(_)))));
        timeout(WAIT, closed).await.unwrap().unwrap();
        // Its key is known now: it does not get as far as the proof again.
        for _ in 0..3 {
            let (swarm, _ends) = connect(&member, &identity).await;
            timeout(Duration::from_secs(2), poll(swarm)).await.unwrap().unwrap();
        }
        assert!(member.events.try_recv().is_err());
    }
}

#[tokio::test]
async fn strangers_hold_no_place_for_long_and_few_at_a_time_from_one_address() {
    let member = member().await;
    let mut closings = Vec::new();
    for _ in 0..UNPROVED_PER_ADDRESS_MAX {
        let (swarm, ends, _) = intruder(&member).await;
        closings.push((poll(swarm), ends));
    }
    assert!(timeout(Duration::from_millis(500), intruder(&member)).await.is_err(), "one more");
    for (closed, _ends) in closings {
        timeout(Duration::from_secs(8), closed).await.unwrap().unwrap();
    }
    timeout(WAIT, intruder(&member)).await.unwrap();
}
