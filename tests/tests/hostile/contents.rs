//! Members that claim contents and give other bytes, or none, or no end of them.

use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::Stream;
use std::time::Duration;
use tcat_engine::batch::Record;
use tcat_engine::clock::{Stamp, VersionVector};
use tcat_engine::content::{Blake3, Content};
use tcat_engine::entry::{Copy, Entry, Held};
use tcat_engine::message::Message;
use tcat_engine::paths::MediaPath;
use tcat_tests::Laboratory;
use tcat_tests::hostile::{Liar, Scene};

/// What the liar does with one request for a content of several megabytes.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Says that it has it, and sends other bytes.
    WrongBytes,
    /// A list of digests that is another content's.
    WrongDigests,
    /// A status that means nothing.
    NoStatus,
    /// Bytes without end.
    Endless,
    /// Says that it has not what it claims.
    NotHeld,
    /// Ends in the middle.
    CutOff,
}

async fn lie(mut stream: Stream, lie: Lie) -> std::io::Result<()> {
    let mut request = [0; 41];
    stream.read_exact(&mut request).await?;
    let size = u64::from_be_bytes(request[32..40].try_into().unwrap());
    let groups = size.div_ceil(1 << 20).max(1);
    match lie {
        Lie::NoStatus => stream.write_all(&[99; 100]).await?,
        Lie::NotHeld => stream.write_all(&[1]).await?,
        Lie::CutOff => stream.write_all(&[0, 1, 2]).await?,
        Lie::WrongDigests => stream.write_all(&vec![0; 1 + 32 * groups as usize]).await?,
        Lie::WrongBytes | Lie::Endless if groups == 1 => {
            stream.write_all(&[0, 0]).await?;
            stream.write_all(&vec![5; size as usize]).await?;
        }
        Lie::WrongBytes => stream.write_all(&vec![0; 4 << 20]).await?,
        Lie::Endless => {}
    }
    if matches!(lie, Lie::Endless) {
        let piece = vec![0; 1 << 20];
        loop {
            stream.write_all(&piece).await?;
        }
    }
    stream.close().await
}

/// An entry that says that the liar holds this.
fn holds(item: tcat_engine::ids::ItemId, content: Content, path: &str) -> Record {
    let held = Held { content, path: MediaPath::parse(path).unwrap(), cached_date_ms: 1 };
    let copy = Copy { held: Some(held), ..Default::default() };
    Record { item, entry: Entry { copy: Some(copy), ..Default::default() }.encode().unwrap() }
}

/// Anna saves; ben is cut off from her, so that only the liar seems to hold it; then he asks it, is lied to, and gets
/// the content from anna.
async fn lied_to(lies: &[Lie], size: usize) {
    let laboratory = Laboratory::new();
    let mut scene = Scene::new(&laboratory);
    let liar: Liar = scene.liar("mallory");
    let mut session = liar.connect(&scene.ben.address()).await.unwrap();
    let mut beat = 0;
    let vector = VersionVector::default();
    session.live_for(&mut beat, &vector, Duration::from_secs(5)).await;
    let (mut after, mut asked) = (Stamp::default(), 0);
    // Whom ben asks is for a hash to say: until each lie had its file, and one was told.
    for (number, what) in lies.iter().cycle().take(20).enumerate() {
        if number >= lies.len() && asked > 0 {
            break;
        }
        let name = format!("film {number}.mov");
        let bytes = scene.bytes(size);
        scene.files.insert(name.clone(), tcat::demo::verify::hash_bytes(&bytes));
        // The liar knows of the item as soon as anna has it, and claims at once to hold it.
        std::fs::write(scene.anna.file(&name), &bytes).unwrap();
        let item = tokio::task::block_in_place(|| item_of(&scene, &name));
        let first = after.counter + 1;
        let content = content_of(&scene, &name, &bytes);
        let batch = liar.batch(5, first, vec![holds(item, content, &name)]);
        let page = liar.page(after, batch);
        after = page.through;
        session.say(&Message::Page(page)).await.unwrap();
        let vector = VersionVector::default().with(liar.client, after);
        for _ in 0..40 {
            session.live_for(&mut beat, &vector, Duration::from_millis(250)).await;
            while let Ok(stream) = session.bulk.try_recv() {
                asked += 1;
                tokio::spawn(lie(stream, *what));
            }
            if std::fs::read(scene.ben.file(&name)).is_ok_and(|found| found == bytes) {
                break;
            }
        }
        assert!(std::fs::read(scene.ben.file(&name)).is_ok_and(|found| found == bytes), "{what:?}");
    }
    eprintln!("{lies:?}: asked {asked} times; {:?}", scene.refusals(&scene.ben, &liar));
    assert!(asked > 0, "nobody asked the liar for anything");
    drop(session);
    scene.ends_well();
}

fn item_of(scene: &Scene<'_>, name: &str) -> tcat_engine::ids::ItemId {
    let mut found = None;
    tcat_tests::hostile::scene::until(&format!("anna knows {name}"), || {
        let answer = scene.anna.tcat(&["show", name, "--json"]);
        let shown: Option<serde_json::Value> = serde_json::from_str(&answer.stdout).ok();
        found = shown.and_then(|shown| shown["tcat_media"]["id"].as_str().map(|id| id.parse().unwrap()));
        found.is_some()
    });
    found.unwrap()
}

fn content_of(scene: &Scene<'_>, name: &str, bytes: &[u8]) -> Content {
    let answer = scene.anna.tcat(&["show", name, "--json"]).succeeded();
    let shown: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let md5: [u8; 16] = tcat_engine::ids::from_hex(shown["tcat_media"]["md5"].as_str().unwrap()).unwrap();
    let blake3 = Some(Blake3(*blake3::hash(bytes).as_bytes()));
    Content { md5: tcat_engine::content::Md5(md5), size: bytes.len() as u64, blake3 }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_a_large_content_are_never_kept_and_the_content_comes_from_elsewhere() {
    lied_to(&[Lie::WrongDigests, Lie::WrongBytes, Lie::CutOff], 5 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_a_small_content_and_answers_without_sense_or_end_are_given_up() {
    lied_to(&[Lie::WrongBytes, Lie::NoStatus, Lie::NotHeld, Lie::Endless], 200_000).await;
}
