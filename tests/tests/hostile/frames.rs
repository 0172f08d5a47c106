//! Members that break the protocol below the meaning of messages.

use std::time::Duration;
use tcat_tests::Laboratory;
use tcat_tests::hostile::wire::{CATALOG, CONTROL, Connection, write};
use tcat_tests::hostile::{Liar, Scene, Session};

/// What one liar sends on its session.
async fn attack(session: &mut Session, case: &str) {
    let heartbeat = || [&[1, 1][..], &[0; 40]].concat();
    let sent = match case {
        "a frame of four gigabytes" => session.say_raw(&[0xff; 4]).await,
        "a frame of four megabytes and a byte" => session.say_raw(&((4u32 << 20) + 1).to_be_bytes()).await,
        "a second control stream" => {
            let mut second = session.connection.open(CONTROL).await.unwrap();
            write(&mut second, &heartbeat()).await
        }
        "an empty frame" => session.say_bytes(&[]).await,
        "a message that is cut off" => session.say_bytes(&[1, 1, 0xfd, 3]).await,
        "a list that claims more than there is" => {
            session.say_bytes(&[&[1, 7][..], &[0xfd], &[0xff; 8]].concat()).await
        }
        "a vector of 10,000 clients" => {
            let mut frame = vec![1, 1, 0, 1, 0, 251, 0x10, 0x27];
            for client in 0..10_000u32 {
                frame.extend([&client.to_be_bytes()[..], &[0; 28], &[1, 1]].concat());
            }
            frame.extend([0; 40]);
            session.say_bytes(&frame).await
        }
        "a name of a megabyte" => {
            let frame = [&[1, 1, 0, 1, 252][..], &(1u32 << 20).to_le_bytes(), &[b'x'; 1 << 20], &[0; 40]];
            session.say_bytes(&frame.concat()).await
        }
        other => panic!("{other}"),
    };
    // The node may have ended the connection before all of it was written.
    let _ = sent;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_sends_what_is_no_message_is_named_dropped_and_kept_out() {
    let laboratory = Laboratory::new();
    let mut scene = Scene::new(&laboratory);
    let cases = [
        ("a frame of four gigabytes", "protocol"),
        ("a frame of four megabytes and a byte", "protocol"),
        ("a second control stream", "protocol"),
        ("an empty frame", "message"),
        ("a message that is cut off", "message"),
        ("a list that claims more than there is", "message"),
        ("a vector of 10,000 clients", "ledger"),
        ("a name of a megabyte", "ledger"),
    ];
    let liars: Vec<Liar> = (0..cases.len()).map(|n| scene.liar(&format!("mallory {n}"))).collect();
    for ((case, kind), liar) in cases.into_iter().zip(&liars) {
        let mut session = liar.connect(&scene.anna.address()).await.unwrap();
        attack(&mut session, case).await;
        assert!(session.is_dropped().await, "{case}");
        scene.is_refused(&scene.anna, liar, kind);
        is_kept_out(liar, &scene.anna.address()).await;
    }
    scene.goes_on();
    scene.ends_well();
}

/// Who was refused comes not as far as the proof again, however often it tries, and makes no line in the log.
async fn is_kept_out(liar: &Liar, address: &str) {
    for _ in 0..5 {
        if let Ok(connection) = Connection::dial(&liar.keypair, address).await {
            assert!(connection.prove(&liar.key).await.is_err());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_dropped_without_a_line_a_message_and_unknown_kinds_are_ignored() {
    let laboratory = Laboratory::new();
    let scene = Scene::new(&laboratory);
    let liar = scene.liar("newer");
    let mut session = liar.connect(&scene.anna.address()).await.unwrap();
    for _ in 0..2000 {
        session.say_bytes(&[2, 1, 2, 3]).await.unwrap();
        session.say_bytes(&[1, 200, 2, 3]).await.unwrap();
    }
    session.heartbeat().await;
    tcat_tests::hostile::scene::until("all are counted", || {
        scene.refusals(&scene.anna, &liar).get("version") == Some(&2000)
    });
    assert!(!session.connection.is_closed_within(Duration::ZERO).await);
    let short = liar.client.short();
    let said = scene.anna.said();
    let lines = said.lines().filter(|line| line.contains(&short) && line.contains("cannot be read")).count();
    assert_eq!(lines, 1, "{said}");
    scene.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_opens_streams_without_end_or_stops_in_the_middle_holds_up_nobody() {
    let laboratory = Laboratory::new();
    let mut scene = Scene::new(&laboratory);
    let liar = scene.liar("mallory");
    let mut session = liar.connect(&scene.anna.address()).await.unwrap();
    // A frame that never ends, and requests that say nothing.
    session.say_raw(&(4u32 << 20).to_be_bytes()).await.unwrap();
    session.say_raw(&[1; 1000]).await.unwrap();
    let mut kept = Vec::new();
    for number in 0..600 {
        let protocol = if number % 2 == 0 { CATALOG } else { tcat_tests::hostile::wire::BULK };
        match session.connection.open(protocol).await {
            Ok(stream) => kept.push(stream),
            Err(_) => break,
        }
    }
    scene.goes_on();
    scene.ends_well();
}
