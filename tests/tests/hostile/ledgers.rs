//! Members whose messages are well formed and lie: forged pages, impossible stamps, heads of forks, claims without end.

use std::time::Duration;
use tcat_engine::batch::{Batch, Record, Signature};
use tcat_engine::clock::{Incarnation, Stamp, VersionVector};
use tcat_engine::content::{Blake3, Content, Md5};
use tcat_engine::entry::{Claim, Copy, Entry, Held, TaskKind};
use tcat_engine::heads::Head;
use tcat_engine::ids::{ClientId, ItemId};
use tcat_engine::message::{Life, LifeBody, Message, Page};
use tcat_engine::paths::MediaPath;
use tcat_tests::Laboratory;
use tcat_tests::hostile::member::{answer_to, record};
use tcat_tests::hostile::scene::until;
use tcat_tests::hostile::{Liar, Scene, Session};

const LAST: Stamp = Stamp { incarnation: Incarnation(u64::MAX), counter: u64::MAX };

fn content(number: u8) -> Content {
    Content { md5: Md5([number; 16]), size: 1 << 40, blake3: Some(Blake3([number; 32])) }
}

fn holding(number: u8, path: &str) -> Entry {
    let held =
        Held { content: content(number), path: MediaPath::parse(path).unwrap(), cached_date_ms: u64::MAX };
    Entry { copy: Some(Copy { held: Some(held), ..Default::default() }), ..Default::default() }
}

/// The liar's only batch, as honest as can be.
fn batch(liar: &Liar) -> Batch {
    liar.batch(5, 1, vec![record(1, &holding(1, "a.jpg"))])
}

/// The messages of one attack that no honest member could send.
fn forged(case: &str, liar: &Liar, victim: ClientId) -> Message {
    let zero = Stamp::default();
    let page = |batches: Vec<Batch>| {
        let through = batches.last().unwrap().last_stamp();
        Page { owner: liar.client, after: zero, through, batches, more: false, head: None }
    };
    Message::Page(match case {
        "a signature that is none" => page(vec![Batch { signature: Signature([7; 64]), ..batch(liar) }]),
        "an entry changed after it was signed" => {
            let other = liar.batch(5, 1, vec![record(1, &holding(2, "b.jpg"))]);
            page(vec![Batch { signature: other.signature, ..batch(liar) }])
        }
        "a page of another owner" => {
            let forged = Batch { owner: victim, incarnation: LAST.incarnation, ..batch(liar) };
            Page { owner: victim, ..page(vec![forged]) }
        }
        "a batch of its own in another's page" => Page {
            owner: victim,
            ..page(vec![liar.batch(u64::MAX, 1, vec![record(1, &holding(1, "a.jpg"))])])
        },
        "a page that claims more than it brings" => Page { through: LAST, ..page(vec![batch(liar)]) },
        "batches out of order" => {
            let later = liar.batch(5, 2, vec![record(2, &holding(2, "b.jpg"))]);
            page(vec![later, batch(liar)])
        }
        "two entries for one item" => {
            let one = record(1, &holding(1, "a.jpg"));
            page(vec![liar.batch(5, 1, vec![one.clone(), one])])
        }
        "an entry that cannot be read" => {
            let garbage = Record { item: ItemId([1; 16]), entry: vec![0xff; 40] };
            page(vec![liar.batch(5, 1, vec![garbage])])
        }
        "an entry beyond 64 KiB" => {
            let huge = Record { item: ItemId([1; 16]), entry: vec![0; (64 << 10) + 1] };
            page(vec![liar.batch(5, 1, vec![huge])])
        }
        "a head that its owner did not sign" => {
            let head = Head::sign(&liar.client, batch(liar).last_stamp(), [1; 32], liar);
            Page { head: Some(Head { hash: [2; 32], ..head }), ..page(vec![batch(liar)]) }
        }
        "a head of another stamp" => {
            Page { head: Some(Head::sign(&liar.client, LAST, [1; 32], liar)), ..page(vec![batch(liar)]) }
        }
        "a path that leads outside" => page(vec![liar.batch(5, 1, vec![evil_path("../x.jpg")])]),
        "a path from the root" => page(vec![liar.batch(5, 1, vec![evil_path("/etc/tcat")])]),
        "a path on another drive" => page(vec![liar.batch(5, 1, vec![evil_path("C:/x.jpg")])]),
        "a path with a backslash" => page(vec![liar.batch(5, 1, vec![evil_path("..\\x.jpg")])]),
        "a path in tcat's own folder" => page(vec![liar.batch(5, 1, vec![evil_path(".TCAT/tmp/x")])]),
        "a path with a NUL" => page(vec![liar.batch(5, 1, vec![evil_path("x\0.jpg")])]),
        "a path of 10,000 characters" => page(vec![liar.batch(5, 1, vec![evil_path(&"x/".repeat(5000))])]),
        "a name of 300 bytes" => page(vec![liar.batch(5, 1, vec![evil_path(&"x".repeat(300))])]),
        other => panic!("{other}"),
    })
}

/// An entry whose path no [`MediaPath`] can be: the bytes of one that can are changed.
fn evil_path(path: &str) -> Record {
    let stand_in = "~".repeat(200);
    let mut entry = holding(1, &stand_in).encode().unwrap();
    let at = entry.windows(200).position(|window| window == stand_in.as_bytes()).unwrap();
    let length = if path.len() <= 250 {
        vec![u8::try_from(path.len()).unwrap()]
    } else {
        [&[251][..], &u16::try_from(path.len()).unwrap().to_le_bytes()].concat()
    };
    let grown = length.len() + path.len();
    entry.splice(at - 1..at + 200, [length, path.as_bytes().to_vec()].concat());
    // The field's length: a label's field stands before it.
    let label = 6 + u32::from_le_bytes(entry[2..6].try_into().unwrap()) as usize;
    let field = u32::from_le_bytes(entry[label + 2..label + 6].try_into().unwrap());
    let field = field + u32::try_from(grown).unwrap() - 201;
    entry[label + 2..label + 6].copy_from_slice(&field.to_le_bytes());
    Record { item: ItemId([1; 16]), entry }
}

const FORGED: [&str; 19] = [
    "a signature that is none",
    "an entry changed after it was signed",
    "a page of another owner",
    "a batch of its own in another's page",
    "a page that claims more than it brings",
    "batches out of order",
    "two entries for one item",
    "an entry that cannot be read",
    "an entry beyond 64 KiB",
    "a head that its owner did not sign",
    "a head of another stamp",
    "a path that leads outside",
    "a path from the root",
    "a path on another drive",
    "a path with a backslash",
    "a path in tcat's own folder",
    "a path with a NUL",
    "a path of 10,000 characters",
    "a name of 300 bytes",
];

/// Half of the cases against each node, so that both halves can run at a time.
async fn forge(cases: &[&str]) {
    let laboratory = Laboratory::new();
    let mut scene = Scene::new(&laboratory);
    let ben: ClientId = scene.ben.status().client.id.parse().unwrap();
    let liars: Vec<Liar> = (0..cases.len()).map(|n| scene.liar(&format!("mallory {n}"))).collect();
    for (case, liar) in cases.iter().zip(&liars) {
        let mut session = liar.connect(&scene.anna.address()).await.unwrap();
        session.say(&forged(case, liar, ben)).await.unwrap();
        assert!(session.is_dropped().await, "{case}");
        scene.is_refused(&scene.anna, liar, "ledger");
    }
    scene.goes_on();
    scene.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_no_honest_member_can_send_are_refused() {
    forge(&FORGED[..10]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_with_heads_and_paths_that_cannot_be_are_refused() {
    forge(&FORGED[10..]).await;
}

/// What a liar may say in its own name without breaking a rule, as much of it as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lies_within_the_rules_harms_nobody() {
    let laboratory = Laboratory::new();
    let mut scene = Scene::new(&laboratory);
    let liar = scene.liar("mallory");
    let mut session = liar.connect(&scene.anna.address()).await.unwrap();
    let anna = session.connection.them;
    let ben: ClientId = scene.ben.status().client.id.parse().unwrap();
    // Vectors that know everything of everybody, in the last incarnation.
    let future = VersionVector::default().with(anna, LAST).with(ben, LAST).with(liar.client, LAST);
    for beat in 1..13 {
        let heard = session.heartbeat().await;
        session.say(&Message::Heartbeat(answer_to(&heard, beat, &future, anna))).await.unwrap();
        session.say(&page_of_claims(&liar, beat)).await.unwrap();
    }
    // Its own page once more, one that does not join, and one of the last incarnation.
    session.say(&page_of_claims(&liar, 1)).await.unwrap();
    let gap = liar.batch(6, 1, vec![record(9, &holding(9, "gap.jpg"))]);
    let after = Stamp { incarnation: Incarnation(5), counter: 1_000_000 };
    session.say(&Message::Page(liar.page(after, gap))).await.unwrap();
    let last = liar.batch(u64::MAX, u64::MAX - 2, vec![record(9, &holding(9, "CON"))]);
    session.say(&Message::Page(liar.page(Stamp::default(), last))).await.unwrap();
    // Lives of others, signed by nobody, and questions that nobody waits for.
    let body = LifeBody {
        owner: ben,
        start: 1,
        beat: u64::MAX,
        vector: future.clone(),
        whole: Default::default(),
        echoes: Default::default(),
    };
    let life = Life { signature: Signature([1; 64]), ..Life::sign(&body, &liar).unwrap() };
    for nonce in 0..2000 {
        if session.say(&Message::Life(life.clone())).await.is_err() {
            break; // Refused for it.
        }
        if session.say(&Message::Probe(nonce)).await.is_err() {
            break;
        }
    }
    scene.goes_on();
    scene.ends_well();
}

/// A thousand entries for items that nobody has, each claiming everything with the last epoch and more bytes than
/// there are, at names that collide with others' files.
fn page_of_claims(liar: &Liar, round: u64) -> Message {
    let claim = |task, number: u8| Claim {
        task,
        target: content(number),
        epoch: u64::MAX,
        seen: Vec::new(),
        started: true,
        progress: u64::MAX,
        attempts: u32::MAX,
    };
    let records = (0..200u8).map(|number| {
        let path = ["BEN 0.JPG", "anna 0.JPG/x", "Anna 0.jpg", "con", "aux.txt"][usize::from(number) % 5];
        let claims = vec![
            claim(TaskKind::Download, number),
            claim(TaskKind::Upload, number),
            claim(TaskKind::Kill, number),
        ];
        record(number + 1, &Entry { claims, ..holding(number, path) })
    });
    let first = (round - 1) * 200 + 1;
    let batch = liar.batch(5, first, records.collect());
    let after = match first {
        1 => Stamp::default(),
        _ => Stamp { incarnation: Incarnation(5), counter: first - 1 },
    };
    Message::Page(liar.page(after, batch))
}

/// The head of a fork: two ledgers of one owner, each told to one node.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_tells_each_another_story_stops_nobody() {
    let laboratory = Laboratory::new();
    let mut scene = Scene::new(&laboratory);
    let liar = scene.liar("janus");
    let mut sessions: Vec<Session> = Vec::new();
    for (node, number) in [(&scene.anna, 1), (&scene.ben, 2)] {
        let mut session = liar.connect(&node.address()).await.unwrap();
        let batch = liar.batch(5, 1, vec![record(number, &holding(number, "fork.jpg"))]);
        let head = Head::sign(&liar.client, batch.last_stamp(), [number; 32], &liar);
        let page = Page { head: Some(head), ..liar.page(Stamp::default(), batch) };
        session.say(&Message::Page(page)).await.unwrap();
        sessions.push(session);
    }
    scene.goes_on();
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(sessions);
    until("janus is gone", || {
        let peers = scene.anna.status().peers;
        peers.iter().all(|peer| peer.name != "janus" || !peer.alive)
    });
    scene.ends_well();
}
