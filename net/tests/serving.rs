//! Streams of a service: handed over with the member's name, bounded, and gone with the session.
#![allow(clippy::unwrap_used)]

mod common;

use async_trait::async_trait;
use common::{Node, PATIENCE, Setup};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use std::sync::Arc;
use tcat_engine::ids::ClientId;
use tcat_net::{ByteStream, NetEvent, SERVICE_STREAMS_MAX, Service, Services};
use tokio::time::timeout;

/// Answers a byte with who asked, of which service, and keeps the stream open until the member closes it.
struct WhoAmI;

#[async_trait]
impl Services for WhoAmI {
    async fn serve(&self, from: ClientId, service: Service, mut stream: Box<dyn ByteStream>) {
        let mut byte = [0];
        while stream.read_exact(&mut byte).await.is_ok() {
            let mut answer = from.0.to_vec();
            answer.push(if service == Service::Catalog { 1 } else { 2 });
            stream.write_all(&answer).await.unwrap();
            stream.flush().await.unwrap();
        }
    }
}

/// What the other end answers on the stream; nothing if it was reset.
async fn asked(stream: &mut Box<dyn ByteStream>) -> Option<[u8; 33]> {
    let asking = async {
        stream.write_all(&[7]).await.ok()?;
        stream.flush().await.ok()?;
        let mut answer = [0; 33];
        stream.read_exact(&mut answer).await.ok().map(|()| answer)
    };
    timeout(PATIENCE, asking).await.unwrap()
}

async fn pair(services: Option<Arc<dyn Services>>) -> (Node, Node) {
    let one = Node::start(Setup { services, ..Setup::default() }).await;
    let mut two = Node::start(Setup { peers: vec![one.address], ..Setup::default() }).await;
    two.expect(NetEvent::Connected(one.client)).await;
    (one, two)
}

#[tokio::test]
async fn a_stream_comes_with_the_name_of_the_member_and_of_the_service() {
    let (one, two) = pair(Some(Arc::new(WhoAmI))).await;
    for (service, number) in [(Service::Catalog, 1), (Service::Objects, 2)] {
        let answer = asked(&mut two.handle.open(one.client, service).await.unwrap()).await.unwrap();
        assert_eq!((&answer[..32], answer[32]), (&two.client.0[..], number));
    }
}

#[tokio::test]
async fn more_streams_than_are_served_are_reset_and_a_closed_one_makes_room() {
    let (one, two) = pair(Some(Arc::new(WhoAmI))).await;
    let mut open = Vec::new();
    for _ in 0..SERVICE_STREAMS_MAX {
        let mut stream = two.handle.open(one.client, Service::Catalog).await.unwrap();
        assert!(asked(&mut stream).await.is_some());
        open.push(stream);
    }
    let mut beyond = two.handle.open(one.client, Service::Catalog).await.unwrap();
    assert_eq!(asked(&mut beyond).await, None);
    // The other service has room of its own.
    let mut other = two.handle.open(one.client, Service::Objects).await.unwrap();
    assert!(asked(&mut other).await.is_some());
    let mut closed = open.pop().unwrap();
    closed.close().await.unwrap();
    assert_eq!(closed.read(&mut [0]).await.unwrap(), 0);
    drop(closed);
    // It ends at the other end a moment after we have seen it closed.
    let again = async {
        loop {
            let mut again = two.handle.open(one.client, Service::Catalog).await.unwrap();
            if asked(&mut again).await.is_some() {
                return;
            }
        }
    };
    timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test]
async fn who_offers_nothing_or_is_not_there_is_known_at_once() {
    let (one, two) = pair(None).await;
    let mut stream = two.handle.open(one.client, Service::Catalog).await.unwrap();
    assert_eq!(asked(&mut stream).await, None);
    assert!(two.handle.open(ClientId([9; 32]), Service::Catalog).await.is_err());
    one.handle.shutdown().await;
    assert_eq!(asked(&mut stream).await, None);
}
