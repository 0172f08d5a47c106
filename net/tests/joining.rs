//! A newcomer is admitted with a code that was given out, and with nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, Setup};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tcat_engine::ids::ClientId;
use tcat_net::{
    Identity, Invitations, InviteCode, JoinError, JoinRequest, Keyring, NetEvent, Refusal, WorkgroupKey, join,
};

const GOOD: &str = "417-canyon-velvet-orbit";
const WRONG: &str = "417-canyon-velvet-oven";
const UNKNOWN: &str = "418-canyon-velvet-orbit";
const EXPIRED: &str = "419-canyon-velvet-orbit";

/// One open invitation and one that has expired.
#[derive(Default)]
struct Book {
    used_by: Mutex<Option<ClientId>>,
    ended: Mutex<bool>,
    asked: Mutex<BTreeSet<ClientId>>,
}

impl Invitations for Book {
    fn code(&self, number: u16, client: &ClientId) -> Result<InviteCode, Refusal> {
        self.asked.lock().unwrap().insert(*client);
        match number {
            417 if !*self.ended.lock().unwrap() => Ok(InviteCode::parse(GOOD).unwrap()),
            419 => Err(Refusal::Expired),
            _ => Err(Refusal::Unknown),
        }
    }

    fn attempted(&self, _: u16, client: &ClientId, knows: bool) -> Result<(), Refusal> {
        if !knows {
            *self.ended.lock().unwrap() = true;
            return Err(Refusal::Wrong);
        }
        let mut used_by = self.used_by.lock().unwrap();
        if used_by.is_some_and(|other| other != *client) {
            return Err(Refusal::Used);
        }
        *used_by = Some(*client);
        Ok(())
    }

    fn admit(&self, _: u16, client: &ClientId, name: &str) -> Result<Vec<u8>, Refusal> {
        assert_eq!((name, *self.used_by.lock().unwrap()), ("Atelier Süd", Some(*client)));
        Ok(common::KEY.to_vec())
    }
}

async fn inviter() -> Node {
    Node::start(Setup { invitations: Some(Arc::new(Book::default())), ..Setup::default() }).await
}

fn request(addresses: &[SocketAddr], code: &str) -> JoinRequest {
    JoinRequest {
        code: InviteCode::parse(code).unwrap(),
        addresses: addresses.iter().map(|address| (*address).into()).collect(),
        interfaces: Vec::new(),
        name: "Atelier Süd".to_owned(),
        timeout: Duration::from_secs(15),
    }
}

#[tokio::test]
async fn the_right_code_admits_once_and_the_newcomer_becomes_a_member() {
    let mut inviter = inviter().await;
    let newcomer = Identity::generate().unwrap();
    let request = request(&[inviter.address], GOOD);
    let payload = join(&newcomer, &request).await.unwrap();
    assert_eq!(payload, common::KEY);
    let key = WorkgroupKey::from_bytes(payload.try_into().unwrap());
    let setup = Setup {
        identity: Some(newcomer.clone()),
        ring: Some(Keyring::new(key)),
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
async fn a_wrong_word_ends_the_code_for_everybody() {
    let inviter = inviter().await;
    let newcomer = Identity::generate().unwrap();
    let wrong = join(&newcomer, &request(&[inviter.address], WRONG)).await.unwrap_err();
    assert!(matches!(wrong, JoinError::Refused(Refusal::Wrong)), "{wrong}");
    let late = join(&newcomer, &request(&[inviter.address], GOOD)).await.unwrap_err();
    assert!(matches!(late, JoinError::Refused(Refusal::Unknown)), "{late}");
    assert!(inviter.handle.connected().is_empty());
}

#[tokio::test]
async fn an_unknown_or_expired_code_is_refused_with_its_reason() {
    let inviter = inviter().await;
    let newcomer = Identity::generate().unwrap();
    let unknown = join(&newcomer, &request(&[inviter.address], UNKNOWN)).await.unwrap_err();
    assert!(matches!(unknown, JoinError::Refused(Refusal::Unknown)), "{unknown}");
    let expired = join(&newcomer, &request(&[inviter.address], EXPIRED)).await.unwrap_err();
    assert!(matches!(expired, JoinError::Refused(Refusal::Expired)), "{expired}");
    assert!(inviter.handle.connected().is_empty());
}

#[tokio::test]
async fn two_newcomers_from_one_machine_are_both_answered() {
    let inviter = inviter().await;
    let wanted = request(&[inviter.address], GOOD);
    let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let (first, second) = tokio::join!(join(&one, &wanted), join(&two, &wanted));
    let admitted = [first, second].into_iter().filter(Result::is_ok).count();
    assert_eq!(admitted, 1);
}

#[tokio::test]
async fn members_that_did_not_give_out_the_code_do_not_keep_from_the_one_that_did() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let others = [Node::start(Setup::default()).await, Node::start(Setup::default()).await];
    let inviter = inviter().await;
    let [one, two] = [0, 1].map(|n| others[n].address);
    let newcomer = Identity::generate().unwrap();
    let answer = join(&newcomer, &request(&[one, nobody, inviter.address, two], GOOD)).await;
    assert_eq!(answer.unwrap(), common::KEY);
}

#[tokio::test]
async fn who_claims_the_code_without_its_words_learns_no_name() {
    struct Thief;
    impl Invitations for Thief {
        fn code(&self, number: u16, _: &ClientId) -> Result<InviteCode, Refusal> {
            Ok(InviteCode::generate(number).unwrap())
        }
        fn attempted(&self, _: u16, _: &ClientId, knows: bool) -> Result<(), Refusal> {
            assert!(!knows);
            Ok(())
        }
        fn admit(&self, _: u16, _: &ClientId, name: &str) -> Result<Vec<u8>, Refusal> {
            panic!("it learned the name {name}");
        }
    }
    let thief = Node::start(Setup { invitations: Some(Arc::new(Thief)), ..Setup::default() }).await;
    let newcomer = Identity::generate().unwrap();
    let error = join(&newcomer, &request(&[thief.address], GOOD)).await.unwrap_err();
    assert!(matches!(error, JoinError::Refused(Refusal::Wrong)), "{error}");
}

#[tokio::test]
async fn an_inviter_that_is_away_or_admits_nobody_is_told_apart() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let newcomer = Identity::generate().unwrap();
    let mut away = request(&[nobody], GOOD);
    away.timeout = Duration::from_secs(2);
    let error = join(&newcomer, &away).await.unwrap_err();
    assert!(matches!(error, JoinError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");

    let closed = Node::start(Setup::default()).await;
    let error = join(&newcomer, &request(&[closed.address], GOOD)).await.unwrap_err();
    assert!(matches!(error, JoinError::Refused(Refusal::NotNow)), "{error}");
}

#[tokio::test]
async fn a_silent_inviter_times_out() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut request = request(&[silent.local_addr().unwrap()], GOOD);
    request.timeout = Duration::from_secs(1);
    let error = join(&Identity::generate().unwrap(), &request).await.unwrap_err();
    assert!(matches!(error, JoinError::TimedOut(1)), "{error}");
}

#[tokio::test]
async fn a_name_that_does_not_fit_is_refused_before_dialing() {
    let newcomer = Identity::generate().unwrap();
    for name in [String::new(), "x".repeat(129)] {
        let request = JoinRequest { name, ..request(&["127.0.0.1:1".parse().unwrap()], GOOD) };
        let error = join(&newcomer, &request).await.unwrap_err();
        assert!(matches!(error, JoinError::Name), "{error}");
    }
}
