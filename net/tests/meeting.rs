//! Nodes on loopback meet, talk, part and meet again; strangers get nothing.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, PATIENCE, Setup, content_of, identities, other_ring, pair};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tcat_net::{FRAME_MAX_BYTES, FetchError, Identity, Net, NetError, NetEvent, SendError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[tokio::test]
async fn two_members_exchange_messages_in_order() {
    let (mut one, mut two) = pair().await;
    assert_eq!(one.handle.connected(), [two.client]);
    let message = |i: u32| [&i.to_be_bytes()[..], &vec![i as u8; (i as usize * 7919) % 30_000]].concat();
    for i in 0..500 {
        one.handle.send(two.client, message(i)).unwrap();
        assert_eq!(two.handle.broadcast(message(i + 1000)), 1);
    }
    for i in 0..500 {
        two.expect(NetEvent::Message { from: one.client, bytes: message(i) }).await;
        one.expect(NetEvent::Message { from: two.client, bytes: message(i + 1000) }).await;
    }
}

#[tokio::test]
async fn the_longest_message_passes_and_a_longer_one_is_refused_at_once() {
    let (one, mut two) = pair().await;
    let longest = vec![5; FRAME_MAX_BYTES];
    one.handle.send(two.client, longest.clone()).unwrap();
    two.expect(NetEvent::Message { from: one.client, bytes: longest }).await;
    let refused = one.handle.send(two.client, vec![5; FRAME_MAX_BYTES + 1]);
    assert_eq!(refused, Err(SendError::TooLong(FRAME_MAX_BYTES + 1)));
    let nobody = tcat_engine::ids::ClientId([9; 32]);
    assert_eq!(one.handle.send(nobody, vec![1]), Err(SendError::NotConnected(nobody)));
}

#[tokio::test]
async fn a_static_peer_that_starts_later_is_connected_within_about_a_second() {
    let late = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut one = Node::start(Setup { peers: vec![late], ..Setup::default() }).await;
    tokio::time::sleep(Duration::from_secs(2)).await; // The backoff has grown to its limit.
    let two = Node::start(Setup { listen: Some(late), ..Setup::default() }).await;
    let up = Instant::now();
    one.expect(NetEvent::Connected(two.client)).await;
    assert!(up.elapsed() < Duration::from_millis(1500), "{:?}", up.elapsed());
}

#[tokio::test]
async fn a_node_with_another_key_learns_nothing_and_gets_nothing() {
    let mut member = Node::start(Setup::default()).await;
    let bytes = common::some_bytes(1000);
    let (content, outboard) = content_of(&bytes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo");
    std::fs::write(&path, &bytes).unwrap();
    member.shelf.offer(&content, &path, outboard);

    let setup = Setup { ring: Some(other_ring()), peers: vec![member.address], ..Setup::default() };
    let mut stranger = Node::start(setup).await;
    member.handle.add_address(stranger.client, stranger.address);
    let wait = Duration::from_secs(2);
    let (seen, heard) = tokio::join!(stranger.events_within(wait), member.events_within(wait));
    assert_eq!((seen, heard), (vec![], vec![]));
    assert!(member.handle.connected().is_empty() && stranger.handle.connected().is_empty());
    assert!(stranger.handle.send(member.client, vec![1]).is_err());
    let place = folder.path().join("stolen");
    let open = {
        let place = place.clone();
        || std::fs::File::create_new(place)
    };
    let fetched = stranger.handle.fetch(member.client, &content, (open, &place), &|_| {}).await;
    assert!(matches!(fetched, Err(FetchError::NotConnected { .. })), "{fetched:?}");

    let mut friend = Node::start(Setup { peers: vec![member.address], ..Setup::default() }).await;
    friend.expect(NetEvent::Connected(member.client)).await;
    member.expect(NetEvent::Connected(friend.client)).await;
}

async fn dial_each_other_at_once() {
    let mut one = Node::start(Setup::default()).await;
    let mut two = Node::start(Setup::default()).await;
    one.handle.add_address(two.client, two.address);
    two.handle.add_address(one.client, one.address);
    one.expect(NetEvent::Connected(two.client)).await;
    two.expect(NetEvent::Connected(one.client)).await;
    one.handle.send(two.client, vec![1]).unwrap();
    two.handle.send(one.client, vec![2]).unwrap();
    let wait = Duration::from_millis(400);
    let (first, second) = tokio::join!(one.events_within(wait), two.events_within(wait));
    assert_eq!(first, [NetEvent::Message { from: two.client, bytes: vec![2] }]);
    assert_eq!(second, [NetEvent::Message { from: one.client, bytes: vec![1] }]);
}

#[tokio::test]
async fn dialing_each_other_at_once_gives_one_connection() {
    // Eight at a time, so that they are in each other's way and their steps fall in ever other orders.
    for _ in 0..12 {
        futures::future::join_all((0..8).map(|_| dial_each_other_at_once())).await;
    }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_holds_up_nobody() {
    let (mut one, slow) = pair().await;
    let mut fast = Node::start(Setup { peers: vec![one.address], ..Setup::default() }).await;
    one.expect(NetEvent::Connected(fast.client)).await;
    fast.expect(NetEvent::Connected(one.client)).await;
    let (mut refused, mut longest) = (0, Duration::ZERO);
    for round in 0..200_u8 {
        // Of `slow` nobody takes the events, so it soon stops reading its control stream.
        refused += usize::from(one.handle.send(slow.client, vec![0; 1 << 20]).is_err());
        let since = Instant::now();
        fast.handle.send(one.client, vec![round]).unwrap();
        let there = NetEvent::Message { from: fast.client, bytes: vec![round] };
        while one.event().await != there {} // `slow` is disconnected and comes back.
        one.handle.send(fast.client, vec![round]).unwrap();
        fast.expect(NetEvent::Message { from: one.client, bytes: vec![round] }).await;
        longest = longest.max(since.elapsed());
    }
    assert!(refused > 0, "it never ran full");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[tokio::test]
async fn a_restarted_member_is_connected_again() {
    let (first, second) = identities();
    for (staying, restarting) in [(&first, &second), (&second, &first)] {
        let mut stays = Node::start(Setup { identity: Some(staying.clone()), ..Setup::default() }).await;
        let setup =
            || Setup { identity: Some(restarting.clone()), peers: vec![stays.address], ..Setup::default() };
        let (before, after) = (setup(), setup());
        let restarts = Node::start(before).await;
        stays.expect(NetEvent::Connected(restarts.client)).await;
        restarts.handle.shutdown().await;
        stays.expect(NetEvent::Disconnected(restarts.client)).await;
        let mut restarts = Node::start(after).await;
        stays.expect(NetEvent::Connected(restarts.client)).await;
        restarts.expect(NetEvent::Connected(stays.client)).await;
        stays.handle.send(restarts.client, vec![4]).unwrap();
        restarts.expect(NetEvent::Message { from: stays.client, bytes: vec![4] }).await;
    }
}

#[tokio::test]
async fn shutting_down_ends_the_events_and_frees_the_port() {
    let (mut one, mut two) = pair().await;
    one.handle.shutdown().await;
    two.expect(NetEvent::Disconnected(one.client)).await;
    assert_eq!(one.events.recv().await, None);
    assert!(one.handle.connected().is_empty());
    Node::start(Setup { listen: Some(one.address), ..Setup::default() }).await;
}

#[tokio::test]
async fn a_taken_port_is_said() {
    let one = Node::start(Setup::default()).await;
    let setup = Setup { listen: Some(one.address), ..Setup::default() };
    let error = Net::start(common::config(setup, Default::default())).await.unwrap_err();
    assert!(matches!(error, NetError::Listen { address, .. } if address == one.address), "{error}");
}

#[tokio::test]
async fn who_does_not_take_its_messages_is_disconnected_and_comes_back() {
    let (mut one, mut two) = pair().await;
    let overflow = loop {
        match one.handle.send(two.client, vec![0; 1 << 20]) {
            Ok(()) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => break error,
        }
    };
    assert_eq!(overflow, SendError::Overflow(two.client));
    assert_eq!(one.handle.send(two.client, vec![1]), Err(SendError::NotConnected(two.client)));
    one.expect(NetEvent::Disconnected(two.client)).await;
    let is_message = |event: &NetEvent| matches!(event, NetEvent::Message { .. });
    let next = loop {
        let event = two.event().await;
        if !is_message(&event) {
            break event;
        }
    };
    assert_eq!(next, NetEvent::Disconnected(one.client));
    two.expect(NetEvent::Connected(one.client)).await;
    one.expect(NetEvent::Connected(two.client)).await;
}

#[tokio::test]
async fn garbage_on_the_port_does_no_harm() {
    let mut member = Node::start(Setup::default()).await;
    let mut idle = Vec::new();
    for i in 0..40_u8 {
        let mut stream = TcpStream::connect(member.address).await.unwrap();
        match i % 4 {
            0 => stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap(),
            1 => drop(stream.write_all(&common::some_bytes(200_000)).await),
            2 => stream.write_all(b"\x13/multistream/1.0.0\n").await.unwrap(),
            _ => {}
        }
        idle.push(stream);
    }
    drop(idle.drain(..20));
    let mut friend = Node::start(Setup { peers: vec![member.address], ..Setup::default() }).await;
    friend.expect(NetEvent::Connected(member.client)).await;
    member.expect(NetEvent::Connected(friend.client)).await;
}

/// A wire between two nodes that can be frozen: bytes are then neither carried nor refused.
async fn wire(to: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (freeze, frozen) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            if *frozen.borrow() {
                std::mem::forget(near); // Accepted by the system, answered by nobody.
                continue;
            }
            let far = TcpStream::connect(to).await.unwrap();
            let (near, far) = (near.into_split(), far.into_split());
            for (mut from, mut to) in [(near.0, far.1), (far.0, near.1)] {
                let mut frozen = frozen.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 65536];
                    while let Ok(count @ 1..) = from.read(&mut buffer).await {
                        let _ = frozen.wait_for(|frozen| !frozen).await;
                        if to.write_all(&buffer[..count]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    (address, freeze)
}

#[tokio::test]
async fn a_silent_peer_is_noticed_within_seconds() {
    let mut one = Node::start(Setup::default()).await;
    let (wire, freeze) = wire(one.address).await;
    let mut two = Node::start(Setup { peers: vec![wire], ..Setup::default() }).await;
    one.expect(NetEvent::Connected(two.client)).await;
    two.expect(NetEvent::Connected(one.client)).await;
    freeze.send(true).unwrap();
    let since = Instant::now();
    let (first, second) = (one.client, two.client);
    tokio::join!(one.expect(NetEvent::Disconnected(second)), two.expect(NetEvent::Disconnected(first)));
    assert!(since.elapsed() < Duration::from_secs(9), "{:?}", since.elapsed());
    freeze.send(false).unwrap();
    one.expect(NetEvent::Connected(two.client)).await;
}

#[tokio::test]
async fn a_restarted_member_replaces_its_dead_connection_at_once() {
    let (first, second) = identities();
    for (staying, restarting) in [(&first, &second), (&second, &first)] {
        let mut stays = Node::start(Setup { identity: Some(staying.clone()), ..Setup::default() }).await;
        let (wire, freeze) = wire(stays.address).await;
        let setup =
            |address| Setup { identity: Some(restarting.clone()), peers: vec![address], ..Setup::default() };
        let before = Node::start(setup(wire)).await;
        stays.expect(NetEvent::Connected(before.client)).await;
        freeze.send(true).unwrap(); // As if its power had gone.
        let since = Instant::now();
        let mut after = Node::start(setup(stays.address)).await;
        stays.expect(NetEvent::Disconnected(after.client)).await;
        stays.expect(NetEvent::Connected(after.client)).await;
        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
        after.expect(NetEvent::Connected(stays.client)).await;
        stays.handle.send(after.client, vec![6]).unwrap();
        after.expect(NetEvent::Message { from: stays.client, bytes: vec![6] }).await;
    }
}

#[tokio::test]
async fn a_static_peer_that_is_ourselves_is_harmless() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup { listen: Some(address), peers: vec![address], ..Setup::default() };
    let mut one = Node::start(setup).await;
    assert_eq!(one.events_within(Duration::from_secs(1)).await, []);
    let mut two = Node::start(Setup { peers: vec![one.address], ..Setup::default() }).await;
    two.expect(NetEvent::Connected(one.client)).await;
}

#[tokio::test]
async fn eight_members_that_all_know_each_other_all_connect_once() {
    let mut nodes = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..8 {
        let node = Node::start(Setup { peers: addresses.clone(), ..Setup::default() }).await;
        addresses.push(node.address);
        nodes.push(node);
    }
    let deadline = Instant::now() + PATIENCE;
    while nodes.iter().any(|node| node.handle.connected().len() < 7) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for node in &mut nodes {
        let events = node.events_within(Duration::from_millis(100)).await;
        assert_eq!(events.len(), 7, "{events:?}");
    }
}

#[tokio::test]
async fn a_retired_client_is_refused_although_it_has_the_key() {
    let retired = Identity::generate().unwrap();
    let setup = Setup::default();
    setup.roster.retired.lock().unwrap().push(retired.client_id());
    let roster = setup.roster.clone();
    let mut member = Node::start(setup).await;
    let setup = Setup { identity: Some(retired), peers: vec![member.address], ..Setup::default() };
    let mut outcast = Node::start(setup).await;
    assert_eq!(member.events_within(Duration::from_secs(2)).await, []);
    assert_eq!(outcast.events_within(Duration::from_millis(100)).await, []);
    assert!(roster.asked_for.lock().unwrap().is_empty(), "the roster knows it");
}

#[tokio::test]
async fn who_is_not_listed_is_refused_until_the_roster_has_it() {
    let newcomer = Identity::generate().unwrap();
    let client = newcomer.client_id();
    let setup = Setup::default();
    setup.roster.unlisted.lock().unwrap().push(client);
    let roster = setup.roster.clone();
    let mut member = Node::start(setup).await;
    let setup = Setup { identity: Some(newcomer), peers: vec![member.address], ..Setup::default() };
    let mut one = Node::start(setup).await;
    assert_eq!(member.events_within(Duration::from_secs(1)).await, []);
    assert_eq!(roster.asked_for.lock().unwrap().first(), Some(&client));
    roster.unlisted.lock().unwrap().clear();
    member.expect(NetEvent::Connected(client)).await;
    one.expect(NetEvent::Connected(member.client)).await;
}

#[tokio::test]
async fn whom_the_roster_does_not_admit_sees_no_connection_whoever_dials_and_chooses() {
    let (first, second) = identities();
    for (inside, outside) in [(&first, &second), (&second, &first)] {
        for (is_retired, outside_dials) in [(true, true), (true, false), (false, true), (false, false)] {
            let setup = Setup { identity: Some(inside.clone()), ..Setup::default() };
            let list = if is_retired { &setup.roster.retired } else { &setup.roster.unlisted };
            list.lock().unwrap().push(outside.client_id());
            let mut member = Node::start(setup).await;
            let mut outcast =
                Node::start(Setup { identity: Some(outside.clone()), ..Setup::default() }).await;
            match outside_dials {
                true => outcast.handle.add_address(member.client, member.address),
                false => member.handle.add_address(outcast.client, outcast.address),
            }
            let wait = Duration::from_millis(1500);
            let (inner, outer) = tokio::join!(member.events_within(wait), outcast.events_within(wait));
            assert_eq!((inner, outer), (vec![], vec![]), "retired: {is_retired}, dials: {outside_dials}");
        }
    }
}

#[tokio::test]
async fn who_has_no_key_does_not_make_a_member_read_its_roster() {
    let stranger = Identity::generate().unwrap();
    let setup = Setup::default();
    setup.roster.unlisted.lock().unwrap().push(stranger.client_id());
    let roster = setup.roster.clone();
    let mut member = Node::start(setup).await;
    let (identity, ring, peers) = (Some(stranger), Some(other_ring()), vec![member.address]);
    let _stranger = Node::start(Setup { identity, ring, peers, ..Setup::default() }).await;
    assert_eq!(member.events_within(Duration::from_secs(1)).await, []);
    assert!(roster.asked_for.lock().unwrap().is_empty());
}
