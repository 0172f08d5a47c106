//! A newcomer is admitted with a one-time secret, and with nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, Setup};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tcat_engine::ids::ClientId;
use tcat_net::{
    Identity, Invitations, JoinError, JoinRequest, NetEvent, Refusal, WorkgroupKey, join, same_secret,
};

const GOOD: [u8; 16] = [1; 16];
const EXPIRED: [u8; 16] = [2; 16];

#[derive(Default)]
struct Book {
    used_by: Mutex<Option<ClientId>>,
}

impl Invitations for Book {
    fn redeem(&self, secret: &[u8; 16], client: &ClientId, name: &str) -> Result<Vec<u8>, Refusal> {
        assert_eq!(name, "Atelier Süd");
        if same_secret(secret, &EXPIRED) {
            return Err(Refusal::Expired);
        }
        if !same_secret(secret, &GOOD) {
            return Err(Refusal::Unknown);
        }
        let mut used_by = self.used_by.lock().unwrap();
        if used_by.is_some_and(|other| other != *client) {
            return Err(Refusal::Used);
        }
        *used_by = Some(*client);
        Ok(common::KEY.to_vec())
    }
}

async fn inviter() -> Node {
    Node::start(Setup { invitations: Some(Arc::new(Book::default())), ..Setup::default() }).await
}

fn request(inviter: ClientId, address: SocketAddr, secret: [u8; 16]) -> JoinRequest {
    let (addresses, name) = (vec![address.into()], "Atelier Süd".to_owned());
    JoinRequest { inviter, addresses, secret, name, timeout: Duration::from_secs(15) }
}

#[tokio::test]
async fn the_right_secret_admits_once_and_the_newcomer_becomes_a_member() {
    let mut inviter = inviter().await;
    let newcomer = Identity::generate().unwrap();
    let request = request(inviter.client, inviter.address, GOOD);
    let payload = join(&newcomer, &request).await.unwrap();
    assert_eq!(payload, common::KEY);
    let key = WorkgroupKey::from_bytes(payload.try_into().unwrap());
    let setup = Setup {
        identity: Some(newcomer.clone()),
        key: Some(*key.as_bytes()),
        peers: vec![inviter.address],
        ..Setup::default()
    };
    let mut member = Node::start(setup).await;
    member.expect(NetEvent::Connected(inviter.client)).await;
    inviter.expect(NetEvent::Connected(newcomer.client_id())).await;

    let late = join(&Identity::generate().unwrap(), &request).await.unwrap_err();
    assert!(matches!(late, JoinError::Refused(Refusal::Used)), "{late}");
    assert_eq!(join(&newcomer, &request).await.unwrap(), common::KEY, "the answer may have been lost");
}

#[tokio::test]
async fn a_wrong_or_expired_secret_is_refused_with_its_reason() {
    let inviter = inviter().await;
    let newcomer = Identity::generate().unwrap();
    let wrong = join(&newcomer, &request(inviter.client, inviter.address, [9; 16])).await.unwrap_err();
    assert!(matches!(wrong, JoinError::Refused(Refusal::Unknown)), "{wrong}");
    let expired = join(&newcomer, &request(inviter.client, inviter.address, EXPIRED)).await.unwrap_err();
    assert!(matches!(expired, JoinError::Refused(Refusal::Expired)), "{expired}");
    assert!(inviter.handle.connected().is_empty());
}

#[tokio::test]
async fn two_newcomers_from_one_machine_are_both_answered() {
    let inviter = inviter().await;
    let wanted = request(inviter.client, inviter.address, GOOD);
    let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let (first, second) = tokio::join!(join(&one, &wanted), join(&two, &wanted));
    let admitted = [first, second].into_iter().filter(Result::is_ok).count();
    assert_eq!(admitted, 1);
}

#[tokio::test]
async fn another_member_at_one_address_does_not_keep_from_the_inviter_at_another() {
    let (inviter, other) = (inviter().await, inviter().await);
    for others_first in [true, false] {
        let mut wanted = request(inviter.client, inviter.address, GOOD);
        let others = request(other.client, other.address, GOOD).addresses;
        let own = std::mem::take(&mut wanted.addresses);
        wanted.addresses = if others_first { [others, own].concat() } else { [own, others].concat() };
        let newcomer = Identity::generate().unwrap();
        let answer = join(&newcomer, &wanted).await;
        let reached = matches!(&answer, Ok(_) | Err(JoinError::Refused(_)));
        assert!(reached, "{answer:?}");
    }
}

#[tokio::test]
async fn the_secret_is_shown_to_nobody_but_the_inviter() {
    let other = inviter().await;
    let inviter = Identity::generate().unwrap().client_id();
    let error =
        join(&Identity::generate().unwrap(), &request(inviter, other.address, GOOD)).await.unwrap_err();
    assert!(matches!(error, JoinError::NotTheInviter { .. }), "{error}");
}

#[tokio::test]
async fn an_inviter_that_is_away_or_admits_nobody_is_told_apart() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let newcomer = Identity::generate().unwrap();
    let mut away = request(Identity::generate().unwrap().client_id(), nobody, GOOD);
    away.timeout = Duration::from_secs(2);
    let error = join(&newcomer, &away).await.unwrap_err();
    assert!(matches!(error, JoinError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");

    let closed = Node::start(Setup::default()).await;
    let error = join(&newcomer, &request(closed.client, closed.address, GOOD)).await.unwrap_err();
    assert!(matches!(error, JoinError::Refused(Refusal::NotNow)), "{error}");
}

#[tokio::test]
async fn a_silent_inviter_times_out() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut request = request(Identity::generate().unwrap().client_id(), silent.local_addr().unwrap(), GOOD);
    request.timeout = Duration::from_secs(1);
    let error = join(&Identity::generate().unwrap(), &request).await.unwrap_err();
    assert!(matches!(error, JoinError::TimedOut(1)), "{error}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_before_dialing() {
    let newcomer = Identity::generate().unwrap();
    let address = "127.0.0.1:1".parse().unwrap();
    let good = || request(newcomer.client_id(), address, GOOD);
    let error = join(&newcomer, &JoinRequest { name: String::new(), ..good() }).await.unwrap_err();
    assert!(matches!(error, JoinError::Name), "{error}");
    let error = join(&newcomer, &JoinRequest { addresses: vec![], ..good() }).await.unwrap_err();
    assert!(matches!(error, JoinError::NoAddress), "{error}");
}
