//! What the object store promises, on a real directory; and over a store that answers in streams.

use super::*;
use std::sync::Mutex;
use tcat_engine::content::Md5;
use tcat_engine::ids::ItemId;

struct Fixture {
    folder: tempfile::TempDir,
    objects: Objects,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::create(&format!("file:{}", folder.path().join("objects é 1").display())).unwrap();
    Fixture { folder, objects }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stored(&self, object: ObjectId) -> PathBuf {
        self.path("objects é 1").join(object.to_string())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// What lies in the staging area.
    fn staged(&self) -> usize {
        std::fs::read_dir(self.path("objects é 1").join(STAGING)).unwrap().count()
    }
}

fn object(number: u8) -> ObjectId {
    ObjectId::derive("test", &[&[number]])
}

fn content(bytes: &[u8]) -> Content {
    let mut hasher = ContentHasher::default();
    hasher.update(bytes);
    hasher.finish().0
}

/// Bytes without a pattern that could hide a misplaced piece.
fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
    bytes
}

fn quiet(_: u64) {}

fn own(path: &Path) -> OwnFile {
    OwnFile::at(path).unwrap()
}

#[tokio::test]
async fn what_is_put_comes_back_byte_for_byte() {
    let f = fixture();
    for (number, length) in [0, 1, 4096, LOCAL_PART_BYTES, 2 * LOCAL_PART_BYTES + 77].into_iter().enumerate()
    {
        let (bytes, object) = (noise(length, 1), object(number as u8));
        let source = f.write("source.jpg", &bytes);
        let seen = Mutex::new(Vec::new());
        let note = |done| seen.lock().unwrap().push(done);
        f.objects.put(object, &source, &content(&bytes), &note).await.unwrap();
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.is_sorted() && seen.last() == Some(&(length as u64)), "{seen:?}");
        assert_eq!(f.objects.head(object).await.unwrap(), Some(length as u64));
        assert_eq!(std::fs::read(f.stored(object)).unwrap(), bytes, "named by the GUID only");

        let destination = f.path("fetched");
        let old = Content { blake3: None, ..content(&bytes) };
        let fetched = f.objects.get(object, &old, &own(&destination), &quiet).await.unwrap();
        assert_eq!(fetched.content, content(&bytes));
        assert_eq!(fetched.outboard.size, length as u64);
        assert_eq!(std::fs::read(&destination).unwrap(), bytes);
        std::fs::remove_file(&destination).unwrap();
    }
    assert_eq!(f.staged(), 0);
}

#[tokio::test]
async fn a_source_that_is_not_what_was_announced_leaves_nothing_in_the_store() {
    let f = fixture();
    let announced = noise(3 * LOCAL_PART_BYTES, 1);
    let mut edited = announced.clone();
    edited[LOCAL_PART_BYTES + 5] ^= 1;
    let longer = [announced.as_slice(), b"x"].concat();
    for bytes in [&edited, &longer, &announced[..LOCAL_PART_BYTES].to_vec(), &Vec::new()] {
        let source = f.write("source", bytes);
        let answer = f.objects.put(object(1), &source, &content(&announced), &quiet).await;
        assert!(matches!(answer, Err(ObjectError::SourceChanged { .. })), "{answer:?}");
        assert_eq!(f.objects.head(object(1)).await.unwrap(), None);
        assert_eq!(f.staged(), 0);
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_told_from_a_store_that_fails() {
    let f = fixture();
    for path in [f.path("gone.jpg"), f.folder.path().to_owned()] {
        let answer = f.objects.put(object(1), &path, &content(b""), &quiet).await;
        assert!(matches!(answer, Err(ObjectError::Source { .. })), "{answer:?}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(f.write("real", b"x"), f.path("link")).unwrap();
        let answer = f.objects.put(object(1), &f.path("link"), &content(b"x"), &quiet).await;
        assert!(matches!(answer, Err(ObjectError::Source { .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn an_object_is_never_replaced() {
    let f = fixture();
    let source = f.write("one", b"one");
    f.objects.put(object(1), &source, &content(b"one"), &quiet).await.unwrap();
    f.objects.put(object(1), &source, &content(b"one"), &quiet).await.unwrap();
    std::fs::remove_file(&source).unwrap();
    std::fs::write(&source, b"gone on").unwrap();
    f.objects.put(object(1), &source, &content(b"one"), &quiet).await.unwrap();
    for other in [b"two".as_slice(), b"other"] {
        let source = f.write("two", other);
        let answer = f.objects.put(object(1), &source, &content(other), &quiet).await;
        assert_eq!(answer, Err(ObjectError::Occupied { object: object(1) }));
    }
    assert_eq!(std::fs::read(f.stored(object(1))).unwrap(), b"one");
    assert_eq!(f.staged(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_uploads_of_one_name_leave_one_whole_object() {
    let f = fixture();
    let bytes: Vec<_> = (0..2).map(|seed| noise(LOCAL_PART_BYTES + 9, seed)).collect();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let mine = bytes[task % 2].clone();
            let source = f.write(&format!("source {task}"), &mine);
            let objects = f.objects.clone();
            tokio::spawn(async move { objects.put(object(1), &source, &content(&mine), &quiet).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    let stored = std::fs::read(f.stored(object(1))).unwrap();
    let winner = bytes.iter().position(|bytes| *bytes == stored).expect("one of the two, whole");
    for (task, outcome) in outcomes.iter().enumerate() {
        let expected =
            if task % 2 == winner { Ok(()) } else { Err(ObjectError::Occupied { object: object(1) }) };
        assert_eq!(*outcome, expected, "task {task}");
    }
    assert_eq!(f.staged(), 0);
}

#[tokio::test]
async fn a_download_goes_on_where_it_stopped() {
    let f = fixture();
    let bytes = noise(5 << 20, 1);
    let source = f.write("source", &bytes);
    f.objects.put(object(1), &source, &content(&bytes), &quiet).await.unwrap();
    for held in [1, 1 << 20, bytes.len() - 1, bytes.len()] {
        let destination = f.write("part", &bytes[..held]);
        let before = std::fs::metadata(&destination).unwrap();
        let seen = Mutex::new(0);
        let note = |done: u64| *seen.lock().unwrap() = done;
        f.objects.get(object(1), &content(&bytes), &own(&destination), &note).await.unwrap();
        assert_eq!(std::fs::read(&destination).unwrap(), bytes);
        assert_eq!(*seen.lock().unwrap(), bytes.len() as u64);
        assert!(before.created().ok() == std::fs::metadata(&destination).unwrap().created().ok());
    }
}

#[tokio::test]
async fn a_wrong_beginning_is_thrown_away_and_no_verdict_on_the_object() {
    let f = fixture();
    let bytes = noise(3 << 20, 1);
    let source = f.write("source", &bytes);
    f.objects.put(object(1), &source, &content(&bytes), &quiet).await.unwrap();
    for wrong in [noise(1 << 20, 9), noise(bytes.len(), 9), noise(bytes.len() + 1, 9)] {
        let destination = f.write("part", &wrong);
        f.objects.get(object(1), &content(&bytes), &own(&destination), &quiet).await.unwrap();
        assert_eq!(std::fs::read(&destination).unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_damaged_object_is_named_and_leaves_no_file() {
    let f = fixture();
    let bytes = noise(1 << 20, 1);
    let source = f.write("source", &bytes);
    f.objects.put(object(1), &source, &content(&bytes), &quiet).await.unwrap();
    let mut damaged = bytes.clone();
    damaged[77] ^= 1;
    for stored in [damaged, bytes[..100].to_vec(), [&bytes[..], b"x"].concat()] {
        std::fs::write(f.stored(object(1)), stored).unwrap();
        for held in [0, 50] {
            let destination = f.write("part", &bytes[..held]);
            let answer = f.objects.get(object(1), &content(&bytes), &own(&destination), &quiet).await;
            assert!(matches!(answer, Err(ObjectError::Corrupt { .. })), "{answer:?}");
            assert!(!destination.exists());
        }
    }
    let occupied = f.objects.put(object(1), &source, &content(&bytes), &quiet).await;
    assert_eq!(occupied, Err(ObjectError::Occupied { object: object(1) }));
}

#[tokio::test]
async fn where_md5_lies_blake3_decides() {
    let f = fixture();
    let source = f.write("source", b"abc");
    f.objects.put(object(1), &source, &content(b"abc"), &quiet).await.unwrap();
    let mut other = content(b"xyz");
    other.md5 = content(b"abc").md5;
    let answer = f.objects.get(object(1), &other, &own(&f.path("part")), &quiet).await;
    assert!(matches!(answer, Err(ObjectError::Corrupt { .. })), "{answer:?}");
    let wrong = Content { md5: Md5([0; 16]), blake3: None, ..content(b"abc") };
    let answer = f.objects.get(object(1), &wrong, &own(&f.path("part")), &quiet).await;
    assert!(matches!(answer, Err(ObjectError::Corrupt { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_missing_object_makes_no_file() {
    let f = fixture();
    let answer = f.objects.get(object(1), &content(b"x"), &own(&f.path("part")), &quiet).await;
    assert!(matches!(answer, Err(ObjectError::Missing { .. })), "{answer:?}");
    assert!(!f.path("part").exists());
    let source = f.write("source", b"x");
    f.objects.put(object(1), &source, &content(b"x"), &quiet).await.unwrap();
    let part = f.path("folder/part");
    std::fs::create_dir(f.path("folder")).unwrap();
    let destination = own(&part);
    std::fs::remove_dir(f.path("folder")).unwrap();
    let answer = f.objects.get(object(1), &content(b"x"), &destination, &quiet).await;
    assert!(matches!(answer, Err(ObjectError::Destination { .. })), "{answer:?}");
}

#[tokio::test]
async fn two_downloads_never_write_one_file() {
    let f = fixture();
    let source = f.write("source", b"x");
    f.objects.put(object(1), &source, &content(b"x"), &quiet).await.unwrap();
    let part = f.write("part", b"");
    let holder = File::options().write(true).open(&part).unwrap();
    holder.lock().unwrap();
    let answer = f.objects.get(object(1), &content(b"x"), &own(&part), &quiet).await;
    assert!(matches!(answer, Err(ObjectError::DestinationBusy { .. })), "{answer:?}");
    drop(holder);
    f.objects.get(object(1), &content(b"x"), &own(&part), &quiet).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_upload_or_download_harms_nothing_and_can_be_repeated() {
    let f = fixture();
    let bytes = noise(12 * LOCAL_PART_BYTES, 1);
    let source = f.write("source", &bytes);
    let wanted = content(&bytes);
    for stop_at in 0..3u64 {
        let reached = tokio::sync::Notify::new();
        let note = |done| {
            if done > stop_at * LOCAL_PART_BYTES as u64 {
                reached.notify_one();
            }
        };
        tokio::select! {
            biased;
            () = reached.notified() => {}
            done = f.objects.put(object(1), &source, &wanted, &note) => done.unwrap(),
        }
    }
    f.objects.put(object(1), &source, &wanted, &quiet).await.unwrap();
    let part = f.path("part");
    let destination = own(&part);
    for stop_at in 0..3u64 {
        let reached = tokio::sync::Notify::new();
        let note = |done| {
            if done > stop_at * LOCAL_PART_BYTES as u64 {
                reached.notify_one();
            }
        };
        tokio::select! {
            biased;
            () = reached.notified() => {}
            done = f.objects.get(object(1), &wanted, &destination, &note) => drop(done.unwrap()),
        }
    }
    f.objects.get(object(1), &wanted, &own(&part), &quiet).await.unwrap();
    assert_eq!(std::fs::read(&part).unwrap(), bytes);
}

#[tokio::test]
async fn a_store_whose_folder_vanished_is_unreachable_and_not_begun_anew() {
    let f = fixture();
    let source = f.write("source", b"x");
    let (store, away) = (f.path("objects é 1"), f.path("away"));
    std::fs::rename(&store, &away).unwrap();
    let url = f.objects.url().to_owned();
    let all = async |what: &str| {
        let wanted = content(b"x");
        let answers = [
            f.objects.check().await,
            f.objects.put(object(1), &source, &wanted, &quiet).await,
            f.objects.get(object(1), &wanted, &own(&f.path("part")), &quiet).await.map(drop),
            f.objects.head(object(1)).await.map(drop),
            f.objects.sweep(Duration::ZERO).await.map(drop),
            f.objects.list().next().await.unwrap().map(drop),
            Objects::open(&url).map(drop),
        ];
        for answer in answers {
            let error = answer.unwrap_err();
            assert!(matches!(error, ObjectError::Unreachable { .. }), "{what}: {error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
    };
    all("gone").await;
    assert!(!store.exists());
    // The empty mount point of an unmounted disk.
    std::fs::create_dir(&store).unwrap();
    all("empty").await;
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 0);
    std::fs::remove_dir(&store).unwrap();
    std::fs::rename(&away, &store).unwrap();
    f.objects.put(object(1), &source, &content(b"x"), &quiet).await.unwrap();
}

#[tokio::test]
async fn checking_leaves_nothing_behind() {
    let f = fixture();
    f.objects.check().await.unwrap();
    assert_eq!(f.staged(), 0);
    assert_eq!(f.objects.list().count().await, 0);
}

#[tokio::test]
async fn a_list_has_everything_but_unfinished_uploads_and_knows_objects_by_their_names() {
    let f = fixture();
    let source = f.write("source", b"x");
    f.objects.put(object(1), &source, &content(b"x"), &quiet).await.unwrap();
    let store = f.path("objects é 1");
    std::fs::write(store.join("notes.txt"), b"four").unwrap();
    std::fs::write(store.join(object(2).to_string().to_uppercase()), b"").unwrap();
    std::fs::write(store.join(STAGING).join("half"), b"").unwrap();
    let mut listed: Vec<_> = f.objects.list().map(|listed| listed.unwrap()).collect().await;
    listed.sort_by_key(|listed| listed.size);
    let sizes: Vec<_> = listed.iter().map(|listed| (listed.object, listed.size)).collect();
    assert_eq!(sizes, [(None, 0), (Some(object(1)), 1), (None, 4)]);
}

#[tokio::test]
async fn what_killed_uploads_left_is_swept_once_idle() {
    let f = fixture();
    let staging = f.path("objects é 1").join(STAGING);
    std::fs::write(staging.join("half"), b"x").unwrap();
    std::fs::write(staging.join("half#1"), b"x").unwrap();
    assert_eq!(f.objects.sweep(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(f.objects.sweep(Duration::ZERO).await.unwrap(), 2);
    assert_eq!(f.staged(), 0);
}

#[tokio::test]
async fn a_store_is_made_once_and_keeps_what_is_in_it() {
    let f = fixture();
    let source = f.write("source", b"x");
    f.objects.put(object(1), &source, &content(b"x"), &quiet).await.unwrap();
    let again = Objects::create(f.objects.url()).unwrap();
    assert_eq!(again.head(object(1)).await.unwrap(), Some(1));
    assert!(matches!(
        Objects::create(&format!("file:{}", f.path("no/such/folder").display())),
        Err(ObjectError::Unreachable { .. })
    ));
    let error = Objects::open("s3://key:secret@bucket").unwrap_err();
    assert!(error.to_string().contains("file:DIR") && !error.to_string().contains("secret"), "{error}");
    assert!(Objects::open("file:").is_err() && Objects::open("objects").is_err());
}

#[tokio::test]
async fn a_store_that_answers_in_streams_keeps_the_same_promises() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(object_store::memory::InMemory::new());
    let objects = Objects { store: Store::Ours(store.clone()), shown: "memory:".into(), folder: None };
    let bytes = noise(2 * PART_BYTES + 5, 1);
    let source = folder.path().join("source");
    std::fs::write(&source, &bytes).unwrap();
    let wanted = content(&bytes);
    objects.check().await.unwrap();
    objects.put(object(1), &source, &wanted, &quiet).await.unwrap();
    objects.put(object(1), &source, &wanted, &quiet).await.unwrap();
    let part = folder.path().join("part");
    for held in [0, 1, bytes.len() / 2, bytes.len()] {
        std::fs::write(&part, &bytes[..held]).unwrap();
        assert_eq!(objects.get(object(1), &wanted, &own(&part), &quiet).await.unwrap().content, wanted);
        assert_eq!(std::fs::read(&part).unwrap(), bytes);
    }
    std::fs::write(&source, b"edited").unwrap();
    let other = ItemId::derive("other", &[]);
    let answer = objects.put(ObjectId(other.0), &source, &wanted, &quiet).await;
    assert!(matches!(answer, Err(ObjectError::SourceChanged { .. })), "{answer:?}");
    assert_eq!(objects.list().count().await, 1);
    let all: Vec<_> = store.list(None).collect().await;
    assert_eq!(all.len(), 1, "nothing stays staged");
}
