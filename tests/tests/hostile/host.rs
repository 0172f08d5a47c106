//! Members that misuse the host's catalog and objects.

use tcat_engine::ids::ClientId;
use tcat_tests::Laboratory;
use tcat_tests::hostile::Scene;
use tcat_tests::hostile::wire::{CATALOG, OBJECTS, read, write};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_in_anothers_name_is_refused_and_its_member_named() {
    let laboratory = Laboratory::new();
    let mut scene = Scene::new(&laboratory);
    let liar = scene.liar("mallory");
    let session = liar.connect(&scene.anna.address()).await.unwrap();
    let ben: ClientId = scene.ben.status().client.id.parse().unwrap();
    let mut stream = session.connection.open(CATALOG).await.unwrap();
    // VisitRoster is request 14: client, stamp, present, horizon.
    let visit = [&[14][..], &ben.0, &[0; 4]].concat();
    write(&mut stream, &visit).await.unwrap();
    assert!(session.is_dropped().await);
    scene.is_refused(&scene.anna, &liar, "order");
    scene.goes_on();
    scene.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_sense_or_end_hold_up_nobody() {
    let laboratory = Laboratory::new();
    let mut scene = Scene::new(&laboratory);
    let liar = scene.liar("mallory");
    let session = liar.connect(&scene.anna.address()).await.unwrap();
    for protocol in [CATALOG, OBJECTS] {
        for bytes in [&[0xfa, 1, 2][..], &[5; 100], &[0xfd; 3000]] {
            let mut stream = session.connection.open(protocol).await.unwrap();
            let _ = write(&mut stream, bytes).await;
            assert!(read(&mut stream).await.is_err(), "{protocol} {bytes:?}");
        }
    }
    // All the streams that it may have, each in the middle of a frame of four megabytes.
    let mut kept = Vec::new();
    for number in 0..40 {
        let protocol = [CATALOG, OBJECTS][number % 2];
        let Ok(mut stream) = session.connection.open(protocol).await else { break };
        use futures::io::AsyncWriteExt;
        let _ = stream.write_all(&(4u32 << 20).to_be_bytes()).await;
        let _ = stream.write_all(&[0; 70_000]).await;
        let _ = stream.flush().await;
        kept.push(stream);
    }
    scene.goes_on();
    let counted = scene.refusals(&scene.anna, &liar);
    assert!(counted.get("request").is_some_and(|count| *count >= 3), "{counted:?}");
    scene.ends_well();
}
