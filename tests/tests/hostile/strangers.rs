//! Whoever reaches the port and has neither key nor code.

use libp2p::identity::Keypair;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tcat_tests::Laboratory;
use tcat_tests::hostile::wire::{BULK, CATALOG, CONTROL, Connection, MEMBERSHIP, OBJECTS, read, write};
use tcat_tests::hostile::{Liar, Scene};

fn tcp(address: &str) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    Some(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_other_protocols_and_a_byte_a_second_come_to_nothing() {
    let laboratory = Laboratory::new();
    let mut scene = Scene::new(&laboratory);
    let garbage = scene.bytes(1 << 20);
    let hellos: [&[u8]; 5] = [
        &garbage,
        b"GET / HTTP/1.1\r\nHost: tcat\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.7\r\n",
        b"\x13/multistream/1.0.0\n\xff\xff\xff\xff\xff",
    ];
    for hello in hellos {
        let mut stream = tcp(&scene.anna.address()).unwrap();
        let _ = stream.write_all(hello);
        // It says which protocols it could speak with, and nothing of the workgroup.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 1000 && !String::from_utf8_lossy(&answer).contains("tcat"), "{answer:?}");
    }
    // Many at once that say a byte a second, or nothing; then a connection after the other.
    let mut slow: Vec<_> = (0..200).filter_map(|_| tcp(&scene.anna.address())).collect();
    for _ in 0..3 {
        slow.iter_mut().for_each(|stream| drop(stream.write_all(b"\x13")));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    scene.goes_on();
    for _ in 0..2000 {
        drop(TcpStream::connect(scene.anna.address()));
    }
    scene.goes_on();
    scene.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_a_replayed_proof_and_streams_before_the_proof_learn_nothing() {
    let laboratory = Laboratory::new();
    let mut scene = Scene::new(&laboratory);
    let address = scene.anna.address();
    // A key of the stranger's own.
    let stranger = Connection::dial(&Keypair::generate_ed25519(), &address).await.unwrap();
    assert!(stranger.prove(&[7; 32]).await.is_err());
    // What a member said once is worth nothing on another connection: with its own key, and with another's.
    let member: Liar = scene.liar("recorded");
    let recorded = {
        let connection = Connection::dial(&member.keypair, &address).await.unwrap();
        let mut stream = connection.open(MEMBERSHIP).await.unwrap();
        let hello = connection.hello(&member.key);
        write(&mut stream, &hello).await.unwrap();
        let answer = read(&mut stream).await.unwrap();
        let proof = connection.proof(&member.key, &hello, &answer[..41]);
        (hello, proof)
    };
    for keypair in [member.keypair.clone(), Keypair::generate_ed25519()] {
        let Ok(connection) = Connection::dial(&keypair, &address).await else { continue };
        let mut stream = connection.open(MEMBERSHIP).await.unwrap();
        write(&mut stream, &recorded.0).await.unwrap();
        if read(&mut stream).await.is_ok() {
            let _ = write(&mut stream, &recorded.1).await;
        }
        assert!(read(&mut stream).await.is_err());
        assert!(connection.is_closed_within(Duration::from_secs(10)).await);
    }
    // Nothing else is even negotiated, and a proof that never ends holds its place for seconds.
    for protocol in [CONTROL, BULK, CATALOG, OBJECTS] {
        let Ok(connection) = Connection::dial(&Keypair::generate_ed25519(), &address).await else { continue };
        if let Ok(mut stream) = connection.open(protocol).await {
            let _ = write(&mut stream, &[0; 41]).await;
            assert!(read(&mut stream).await.is_err(), "{protocol}");
        }
        assert!(connection.is_closed_within(Duration::from_secs(10)).await, "{protocol}");
    }
    scene.goes_on();
    scene.ends_well();
}
