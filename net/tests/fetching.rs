//! Contents are fetched whole, verified, resumed; who lies is named.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, content_of, pair, some_bytes};
use std::path::Path;
use std::sync::Mutex;
use tcat_engine::content::{Blake3, Content};
use tcat_engine::outboard::GROUP_BYTES;
use tcat_net::{FetchError, NetEvent};

const MIB: usize = GROUP_BYTES as usize;

/// Puts bytes on a node's shelf; returns their content.
fn shelve(node: &Node, folder: &Path, bytes: &[u8]) -> Content {
    let (content, outboard) = content_of(bytes);
    let path = folder.join(format!("source-{}", content.blake3.unwrap()));
    std::fs::write(&path, bytes).unwrap();
    node.shelf.offer(&content, &path, outboard);
    content
}

fn open(partial: &Path) -> impl FnOnce() -> std::io::Result<std::fs::File> + Send + 'static {
    let path = partial.to_owned();
    || std::fs::File::options().read(true).write(true).create(true).truncate(false).open(path)
}

async fn fetch(to: &Node, from: &Node, content: &Content, partial: &Path) -> Result<Vec<u64>, FetchError> {
    let progress = Mutex::new(Vec::new());
    to.handle
        .fetch(from.client, content, (open(partial), partial), &|done| progress.lock().unwrap().push(done))
        .await?;
    Ok(progress.into_inner().unwrap())
}

#[tokio::test]
async fn contents_of_any_size_arrive_byte_for_byte() {
    let (one, two) = pair().await;
    let folder = tempfile::tempdir().unwrap();
    for length in [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 3] {
        let bytes = some_bytes(length);
        let content = shelve(&one, folder.path(), &bytes);
        let partial = folder.path().join(format!("partial-{length}"));
        let progress = fetch(&two, &one, &content, &partial).await.unwrap();
        assert!(std::fs::read(&partial).unwrap() == bytes, "{length}");
        assert!(progress.is_sorted() && progress.last() == Some(&(length as u64)), "{progress:?}");
    }
}

#[tokio::test]
async fn many_contents_are_fetched_at_once() {
    let (one, two) = pair().await;
    let folder = tempfile::tempdir().unwrap();
    let fetches = (0..100).map(|i| {
        let bytes = some_bytes(20_000 + i * 1013);
        let content = shelve(&one, folder.path(), &bytes);
        let partial = folder.path().join(format!("partial-{i}"));
        let (one, two) = (&one, &two);
        async move {
            fetch(two, one, &content, &partial).await.unwrap();
            assert!(std::fs::read(&partial).unwrap() == bytes);
        }
    });
    futures::future::join_all(fetches).await;
}

#[tokio::test]
async fn a_fetch_goes_on_where_it_was_cut_and_repairs_a_torn_tail() {
    let (one, two) = pair().await;
    let folder = tempfile::tempdir().unwrap();
    let bytes = some_bytes(5 * MIB + 3);
    let content = shelve(&one, folder.path(), &bytes);
    let partial = folder.path().join("partial");
    let mut torn = bytes[..3 * MIB + 5000].to_vec();
    torn[3 * MIB..].fill(0);
    torn[MIB + 7] ^= 0x10; // And a bit of the second group has flipped.
    std::fs::write(&partial, &torn).unwrap();
    let progress = fetch(&two, &one, &content, &partial).await.unwrap();
    assert!(std::fs::read(&partial).unwrap() == bytes);
    assert_eq!(progress.first(), Some(&(2 * MIB as u64)), "two groups were still good: {progress:?}");
}

#[tokio::test]
async fn a_whole_partial_file_needs_nobody() {
    let (one, two) = pair().await;
    let folder = tempfile::tempdir().unwrap();
    let bytes = some_bytes(3 * MIB);
    let (content, _) = content_of(&bytes);
    let partial = folder.path().join("partial");
    std::fs::write(&partial, &bytes).unwrap();
    fetch(&two, &one, &content, &partial).await.unwrap();
}

#[tokio::test]
async fn a_lying_source_is_named_and_nothing_of_it_is_kept() {
    let (one, two) = pair().await;
    let folder = tempfile::tempdir().unwrap();
    let bytes = some_bytes(4 * MIB);
    let (content, outboard) = content_of(&bytes);
    let mut wrong = bytes.clone();
    wrong[2 * MIB + 1] ^= 1;
    let source = folder.path().join("source");
    std::fs::write(&source, &wrong).unwrap();
    one.shelf.offer(&content, &source, outboard);
    let partial = folder.path().join("partial");
    let error = fetch(&two, &one, &content, &partial).await.unwrap_err();
    assert!(matches!(error, FetchError::Lied { from, .. } if from == one.client), "{error}");
    assert!(error.to_string().contains("sent other bytes"), "{error}");
    assert!(
        std::fs::read(&partial).unwrap() == bytes[..2 * MIB],
        "what came before was good, and only that is there"
    );

    std::fs::write(&source, &bytes).unwrap(); // An honest holder completes it.
    let progress = fetch(&two, &one, &content, &partial).await.unwrap();
    assert_eq!(progress.first(), Some(&(2 * MIB as u64)));
    assert!(std::fs::read(&partial).unwrap() == bytes);
}

#[tokio::test]
async fn a_forged_list_of_digests_is_a_lie() {
    let (one, two) = pair().await;
    let folder = tempfile::tempdir().unwrap();
    let bytes = some_bytes(3 * MIB);
    let (content, _) = content_of(&bytes);
    let mut others = bytes.clone();
    others[0] ^= 1;
    let source = folder.path().join("source");
    std::fs::write(&source, &others).unwrap();
    one.shelf.offer(&content, &source, content_of(&others).1);
    let partial = folder.path().join("partial");
    let error = fetch(&two, &one, &content, &partial).await.unwrap_err();
    assert!(matches!(error, FetchError::Lied { .. }), "{error}");
    assert!(std::fs::read(&partial).unwrap() == b"");
}

#[tokio::test]
async fn a_small_content_with_wrong_bytes_is_a_lie() {
    let (one, two) = pair().await;
    let folder = tempfile::tempdir().unwrap();
    let (content, outboard) = content_of(b"picture");
    let source = folder.path().join("source");
    std::fs::write(&source, b"pictura").unwrap();
    one.shelf.offer(&content, &source, outboard);
    let partial = folder.path().join("partial");
    let error = fetch(&two, &one, &content, &partial).await.unwrap_err();
    assert!(matches!(error, FetchError::Lied { .. }), "{error}");
    assert!(std::fs::read(&partial).unwrap() == b"");
}

#[tokio::test]
async fn a_source_that_shrinks_meanwhile_is_told_from_a_lie() {
    let (one, two) = pair().await;
    let folder = tempfile::tempdir().unwrap();
    let bytes = some_bytes(4 * MIB);
    let content = shelve(&one, folder.path(), &bytes);
    let source = folder.path().join(format!("source-{}", content.blake3.unwrap()));
    std::fs::write(&source, &bytes[..2 * MIB + 10]).unwrap();
    let partial = folder.path().join("partial");
    let error = fetch(&two, &one, &content, &partial).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreadable { .. }), "{error}");
    assert!(std::fs::read(&partial).unwrap() == bytes[..2 * MIB]);
}

#[tokio::test]
async fn what_cannot_be_fetched_is_said_before_anything_is_touched() {
    let (one, two) = pair().await;
    let folder = tempfile::tempdir().unwrap();
    let (content, _) = content_of(&some_bytes(10));
    let partial = folder.path().join("partial");
    let error = fetch(&two, &one, &content, &partial).await.unwrap_err();
    assert!(matches!(error, FetchError::NotHeld { .. }), "{error}");
    let unnamed = Content { blake3: None, ..content };
    let error = fetch(&two, &one, &unnamed, &partial).await.unwrap_err();
    assert!(matches!(error, FetchError::NoBlake3(_)), "{error}");
    let huge = Content { size: u64::MAX, blake3: Some(Blake3([1; 32])), ..content };
    let error = fetch(&two, &one, &huge, &partial).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge(_)), "{error}");
    let error = fetch(&two, &one, &content, &folder.path().join("no/such/folder")).await.unwrap_err();
    assert!(matches!(error, FetchError::Disk { .. }), "{error}");
    let wrong_size = Content { size: 11, ..shelve(&one, folder.path(), &some_bytes(10)) };
    let error = fetch(&two, &one, &wrong_size, &partial).await.unwrap_err();
    assert!(matches!(error, FetchError::NotHeld { .. }), "{error}");
}

#[tokio::test]
async fn a_holder_that_vanishes_in_the_middle_is_an_interruption() {
    let (one, mut two) = pair().await;
    let folder = tempfile::tempdir().unwrap();
    let bytes = some_bytes(64 * MIB);
    let content = shelve(&one, folder.path(), &bytes);
    let partial = folder.path().join("partial");
    let (stop, mut stopped) = tokio::sync::mpsc::unbounded_channel();
    let stopping = async {
        stopped.recv().await;
        one.handle.shutdown().await;
    };
    let progress = move |done: u64| {
        if done > 0 {
            let _ = stop.send(());
        }
    };
    let (fetched, ()) =
        tokio::join!(two.handle.fetch(one.client, &content, (open(&partial), &partial), &progress), stopping);
    assert!(matches!(fetched, Err(FetchError::Interrupted { .. })), "{fetched:?}");
    two.expect(NetEvent::Disconnected(one.client)).await;
    let kept = std::fs::read(&partial).unwrap();
    assert!(!kept.is_empty() && kept.len() < bytes.len());
    assert!(kept.len().is_multiple_of(MIB) && kept == bytes[..kept.len()], "only whole, verified groups");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_told_from_every_other_trouble() {
    let (one, two) = pair().await;
    let folder = tempfile::tempdir().unwrap();
    let content = shelve(&one, folder.path(), &some_bytes(3 * MIB));
    let error = fetch(&two, &one, &content, Path::new("/dev/full")).await.unwrap_err();
    assert!(matches!(error, FetchError::DiskFull { .. }), "{error}");
}
