//! A workgroup's keys: new ones go to members alone, at once or when they are back; who was retired gets none.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, PATIENCE, Setup, identities, ring};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tcat_net::{Identity, Keyring, Keys, NetEvent};

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn start(identity: &Identity, ring: Keyring, peers: &[&Node]) -> Node {
    let peers = peers.iter().map(|node| node.address).collect();
    Node::start(Setup { identity: Some(identity.clone()), ring: Some(ring), peers, ..Setup::default() }).await
}

async fn meet(one: &mut Node, two: &mut Node) {
    one.expect(NetEvent::Connected(two.client)).await;
    two.expect(NetEvent::Connected(one.client)).await;
}

fn rotate(keys: &Arc<Keys>, retired: &Node) {
    assert!(keys.rotate(&[retired.client]).unwrap());
}

#[tokio::test]
async fn a_new_key_goes_at_once_to_all_members_and_never_to_who_was_retired() {
    let (first, second) = identities();
    let third = Identity::generate().unwrap();
    // Nobody's roster knows of the retirement yet: what keeps the key from the third is the key itself.
    let mut anna = start(&first, ring(), &[]).await;
    let mut ben = start(&second, ring(), &[&anna]).await;
    meet(&mut anna, &mut ben).await;
    let mut carl = start(&third, ring(), &[&anna, &ben]).await;
    anna.expect(NetEvent::Connected(carl.client)).await;
    ben.expect(NetEvent::Connected(carl.client)).await;
    carl.event().await;
    carl.event().await;
    rotate(&anna.keys, &carl);
    until("ben has it", || ben.keys.ring() == anna.keys.ring()).await;
    // It also goes on by whoever was told, and on connections made later.
    let dora = start(&Identity::generate().unwrap(), ring(), &[&ben, &carl]).await;
    until("dora has it", || dora.keys.ring() == anna.keys.ring()).await;
    anna.handle.disconnect(carl.client);
    ben.handle.disconnect(carl.client);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(carl.handle.connected().len(), 3, "it proves itself with the old key, since rosters are old");
    assert_eq!(carl.keys.ring(), ring());
    // A second key does not go to it either.
    assert!(ben.keys.rotate(&[tcat_engine::ids::ClientId([9; 32])]).unwrap());
    until("all members have it", || [&anna, &dora].iter().all(|node| node.keys.ring() == ben.keys.ring()))
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(carl.keys.ring(), ring());
}

#[tokio::test]
async fn who_was_away_proves_itself_with_an_old_key_and_is_told_the_new_ones_once_the_roster_has_it() {
    let (first, second) = identities();
    for (stays, away) in [(&first, &second), (&second, &first)] {
        for is_listed in [true, false] {
            let setup = Setup { identity: Some(stays.clone()), ..Setup::default() };
            if !is_listed {
                setup.roster.unlisted.lock().unwrap().push(away.client_id());
            }
            let anna = Node::start(setup).await;
            for n in 0..3 {
                assert!(anna.keys.rotate(&[tcat_engine::ids::ClientId([n + 30; 32])]).unwrap());
            }
            let ben = start(away, ring(), &[&anna]).await;
            anna.handle.add_address(ben.client, ben.address);
            if is_listed {
                until("ben has the keys", || ben.keys.ring() == anna.keys.ring()).await;
            } else {
                tokio::time::sleep(Duration::from_millis(1500)).await;
                assert_eq!(ben.keys.ring(), ring());
                assert!(ben.handle.connected().is_empty());
            }
        }
    }
}

#[tokio::test]
async fn keys_made_at_once_in_two_places_are_known_to_both_sides_when_they_meet() {
    let (first, second) = identities();
    let [carl, dora] = [1, 2].map(|n| tcat_engine::ids::ClientId([n; 32]));
    let anna = start(&first, ring(), &[]).await;
    assert!(anna.keys.rotate(&[carl]).unwrap());
    let two = Keys::new(Identity::generate().unwrap(), ring(), Box::new(common::Nowhere));
    assert!(two.rotate(&[dora]).unwrap());
    let ben = start(&second, two.ring(), &[&anna]).await;
    until("both have both", || anna.keys.ring() == ben.keys.ring()).await;
    let both = anna.keys.ring();
    assert!(both != two.ring() && !both.is_without(&[carl, dora]));
    // Whoever notices first makes one that neither is told.
    assert!(ben.keys.rotate(&[carl, dora]).unwrap());
    until("anna has it", || anna.keys.ring() == ben.keys.ring()).await;
    assert!(anna.keys.ring().is_without(&[carl, dora]));
    assert!(!anna.keys.rotate(&[carl]).unwrap());
}

#[tokio::test]
async fn a_key_that_was_kept_and_told_to_nobody_before_a_crash_is_told_after_it() {
    let (first, second) = identities();
    let carl = tcat_engine::ids::ClientId([1; 32]);
    let before = Keys::new(Identity::generate().unwrap(), ring(), Box::new(common::Nowhere));
    assert!(before.rotate(&[carl]).unwrap());
    // What the file says is all that is left of the run before.
    let kept = Keyring::parse(&before.ring().text()).unwrap();
    for (crashed, other) in [(&first, &second), (&second, &first)] {
        let ben = start(other, ring(), &[]).await;
        let anna = start(crashed, kept.clone(), &[&ben]).await;
        until("ben has it", || ben.keys.ring() == kept).await;
        assert_eq!(anna.keys.ring(), kept);
    }
}

#[tokio::test]
async fn a_member_that_brings_new_keys_again_and_again_is_disconnected() {
    let (first, second) = identities();
    let mut anna = start(&first, ring(), &[]).await;
    let mut ben = start(&second, ring(), &[&anna]).await;
    meet(&mut anna, &mut ben).await;
    let mut brought = 0;
    let disconnected = loop {
        let retired = tcat_engine::ids::ClientId([brought + 40; 32]);
        assert!(ben.keys.rotate(&[retired]).unwrap());
        brought += 1;
        let events = anna.events_within(Duration::from_millis(100)).await;
        if events.contains(&NetEvent::Disconnected(ben.client)) {
            break true;
        }
        if brought == 30 {
            break false;
        }
    };
    assert!(disconnected && (8..12).contains(&brought), "after {brought}");
}
