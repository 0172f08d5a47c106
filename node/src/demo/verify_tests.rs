//! Tests of the judge: a small world that is right, and every way in which it can be wrong.

use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

const OBJECT: &str = "0b6f7a52-3c1d-8e2f-9a4b-5c6d7e8f9a0b";

struct World {
    folder: TempDir,
    expected: Expectation,
}

impl World {
    /// Two places with one file each, its row and its object; an earlier content lies in the second's trash.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (hash_bytes(b"old"), hash_bytes(b"new"));
        for name in ["anna", "ben"] {
            fs::create_dir_all(folder.path().join(name).join("é")).unwrap();
            fs::write(folder.path().join(name).join("é/a b.jpg"), "new").unwrap();
        }
        fs::create_dir_all(folder.path().join("ben/.tcat/trash/2026-01-01/é")).unwrap();
        fs::write(folder.path().join("ben/.tcat/trash/2026-01-01/é/a b.jpg"), "old").unwrap();
        fs::create_dir(folder.path().join("objects")).unwrap();
        fs::write(folder.path().join("objects").join(OBJECT), "new").unwrap();
        let replaced = Replaced { path: "é/a b.jpg".into(), md5: old, in_trash_of: vec!["ben".into()] };
        let files = BTreeMap::from([("é/a b.jpg".to_owned(), new)]);
        let world = Self { folder, expected: Expectation { files, replaced: vec![replaced] } };
        world.sql(&format!(
            "CREATE TABLE tcat_media (catalogId, id, state, md5, size, objectId, cachePath);
             CREATE TABLE tcat_import (catalogId, id, state);
             CREATE TABLE tcat_chain (item, md5);
             INSERT INTO tcat_media VALUES ('c', 'i', 'active', '{new}', 3, '{OBJECT}', 'é/a b.jpg');
             INSERT INTO tcat_import VALUES ('c', 'i', 'complete');
             INSERT INTO tcat_chain VALUES ('i', '{old}'), ('i', '{new}');",
            new = BASE64.encode(&new),
            old = BASE64.encode(&old)
        ));
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn sql(&self, text: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options =
                SqliteConnectOptions::new().filename(self.path("catalog.db")).create_if_missing(true);
            let mut connection = options.connect().await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned())).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    }

    fn report(&self) -> Report {
        let places = ["anna", "ben"].map(|name| Place { name: name.into(), media: self.path(name) });
        verify(&places, &self.path("catalog.db"), &self.path("objects"), &self.expected)
    }

    /// The only difference holds each of the words.
    #[track_caller]
    fn differs_by(&self, words: &[&str]) {
        let differences = self.report().differences;
        assert!(
            differences.len() == 1 && words.iter().all(|word| differences[0].contains(word)),
            "{words:?} expected alone, found {differences:#?}"
        );
    }
}

#[test]
fn a_world_that_is_right_has_no_differences_and_is_counted() {
    let report = World::new().report();
    assert_eq!(report.differences, Vec::<String>::new());
    let counts: Vec<_> =
        report.places.iter().map(|place| (place.files, place.right, place.in_trash)).collect();
    assert_eq!(counts, [(1, 1, 0), (1, 1, 1)]);
    assert_eq!((report.rows, report.objects, report.object_bytes), (1, 1, 3));
}

#[test]
fn a_changed_a_missing_and_an_unknown_file_are_found() {
    let world = World::new();
    fs::write(world.path("anna/é/a b.jpg"), "ne").unwrap();
    world.differs_by(&["anna", "é/a b.jpg", "2 bytes"]);
    fs::remove_file(world.path("anna/é/a b.jpg")).unwrap();
    world.differs_by(&["anna", "missing"]);
    fs::write(world.path("anna/é/a b.jpg"), "new").unwrap();
    fs::write(world.path("ben/é/a b.jpg.part"), "n").unwrap();
    world.differs_by(&["ben", "never saved"]);
}

#[test]
fn what_is_no_file_is_found() {
    let world = World::new();
    symlink(world.path("ben/é/a b.jpg"), world.path("anna/link")).unwrap();
    world.differs_by(&["anna", "link", "no regular file"]);
}

#[test]
fn an_earlier_content_that_is_nowhere_is_found() {
    let world = World::new();
    fs::remove_dir_all(world.path("ben/.tcat")).unwrap();
    world.differs_by(&["ben", "not in trash"]);
    let world = World::new();
    world.sql("DELETE FROM tcat_chain WHERE rowid = 1");
    world.differs_by(&["catalog", "not in its chain"]);
}

#[test]
fn a_catalog_that_says_something_else_is_found() {
    for (change, words) in [
        ("UPDATE tcat_media SET state = 'pending'", ["catalog", "not active"]),
        ("UPDATE tcat_import SET state = 'pending-upload'", ["import record", "pending-upload"]),
        ("DELETE FROM tcat_import", ["import record", "missing"]),
        ("UPDATE tcat_media SET size = 4", ["objects", OBJECT]),
    ] {
        let world = World::new();
        world.sql(change);
        world.differs_by(&words);
    }
    let world = World::new();
    world.sql("UPDATE tcat_media SET md5 = (SELECT md5 FROM tcat_chain WHERE rowid = 1)");
    assert_eq!(world.report().differences.len(), 2, "the row differs from the folders and from its object");
    let world = World::new();
    world.sql(
        "INSERT INTO tcat_media SELECT catalogId, 'j', state, md5, size, objectId, cachePath FROM tcat_media",
    );
    assert!(world.report().differences.iter().any(|what| what.contains("two rows")));
}

#[test]
fn a_missing_a_changed_and_an_unknown_object_are_found() {
    let world = World::new();
    fs::write(world.path("objects/1b6f7a52-3c1d-8e2f-9a4b-5c6d7e8f9a0b"), "never saved").unwrap();
    world.differs_by(&["objects", "1b6f7a52", "nothing that the catalog ever had"]);
    let world = World::new();
    fs::write(world.path("objects").join(OBJECT), "old").unwrap();
    world.differs_by(&["objects", OBJECT, "not what its row says"]);
    fs::remove_file(world.path("objects").join(OBJECT)).unwrap();
    world.differs_by(&["objects", OBJECT, "missing"]);
    let world = World::new();
    fs::write(world.path("objects").join(format!("{OBJECT}#1")), "new").unwrap();
    world.differs_by(&["objects", "#1"]);
}

#[test]
fn a_catalog_that_cannot_be_read_is_a_difference() {
    let world = World::new();
    fs::write(world.path("catalog.db"), "no database").unwrap();
    world.differs_by(&["catalog cannot be read"]);
    fs::remove_file(world.path("catalog.db")).unwrap();
    world.differs_by(&["catalog cannot be read"]);
    assert!(!world.path("catalog.db").exists(), "the judge makes nothing");
}
