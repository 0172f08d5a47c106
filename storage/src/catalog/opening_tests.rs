//! What a SQLite catalog does about files that are not, or no longer, what they should be.

use super::tests::{fixture, item, new_item, new_workgroup};
use super::*;
use sqlx::{ConnectOptions, Connection};
use std::path::Path;

fn one_line(error: &CatalogError) -> bool {
    let text = error.to_string();
    text.lines().count() == 1 && !text.contains("  ")
}

async fn raw(path: &Path, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn opening(path: &Path) -> CatalogError {
    let error = SqliteCatalog::open(path, None).await.err().unwrap();
    assert!(one_line(&error), "{error}");
    error
}

async fn making(path: &Path) -> CatalogError {
    let error = SqliteCatalog::create(path, &new_workgroup()).await.err().unwrap();
    assert!(one_line(&error), "{error}");
    error
}

#[tokio::test]
async fn a_catalog_that_is_not_there_is_unreachable_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    assert!(matches!(opening(&path).await, CatalogError::Unreachable { .. }));
    assert!(!path.exists());
    assert!(matches!(opening(folder.path()).await, CatalogError::Unreachable { .. }));
    assert!(matches!(making(&folder.path().join("no/folder.db")).await, CatalogError::Unreachable { .. }));
}

#[tokio::test]
async fn garbage_is_corrupt_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let garbage = b"this is no database at all, but long enough to be taken for one. ".repeat(50);
    std::fs::write(&path, &garbage).unwrap();
    let error = opening(&path).await;
    assert!(matches!(error, CatalogError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("backup"));
    assert!(matches!(making(&path).await, CatalogError::AlreadyThere { .. }));
    assert_eq!(std::fs::read(&path).unwrap(), garbage);
}

#[tokio::test]
async fn a_catalog_with_damaged_pages_is_corrupt() {
    let f = fixture().await;
    for number in 1..200 {
        f.catalog.create(&new_item(number, &format!("{number}.jpg"))).await.unwrap();
    }
    f.catalog.close().await;
    let mut bytes = std::fs::read(f.path()).unwrap();
    let schema_end = 4096 * 2;
    bytes[schema_end..].iter_mut().for_each(|byte| *byte = 0xff);
    std::fs::write(f.path(), bytes).unwrap();
    let error = match SqliteCatalog::open(&f.path(), None).await {
        Ok(catalog) => catalog.row(item(1)).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, CatalogError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn an_empty_file_or_another_program_s_database_is_no_catalog_and_stays_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.db");
    std::fs::write(&empty, b"").unwrap();
    assert!(matches!(opening(&empty).await, CatalogError::NoSuchCatalog { .. }));
    let other = folder.path().join("other.db");
    raw(&other, "CREATE TABLE songs (name TEXT)").await;
    let before = std::fs::read(&other).unwrap();
    assert!(matches!(opening(&other).await, CatalogError::NoSuchCatalog { .. }));
    assert!(matches!(making(&other).await, CatalogError::AlreadyThere { .. }));
    assert_eq!(std::fs::read(&other).unwrap(), before);
    // An empty file is what a making that was killed leaves behind: it can be made again.
    assert!(SqliteCatalog::create(&empty, &new_workgroup()).await.is_ok());
}

#[tokio::test]
async fn a_catalog_is_not_made_twice() {
    let f = fixture().await;
    let error = making(&f.path()).await;
    assert!(matches!(error, CatalogError::AlreadyThere { .. }), "{error}");
    assert_eq!(f.catalog.members().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_newer_format_is_refused_by_its_number() {
    let f = fixture().await;
    f.catalog.close().await;
    raw(&f.path(), "UPDATE tcat_meta SET value = '7' WHERE key = 'schemaVersion'").await;
    assert!(matches!(opening(&f.path()).await, CatalogError::NewerVersion { found: 7, known: 1, .. }));
    raw(&f.path(), "UPDATE tcat_meta SET value = 'soon' WHERE key = 'schemaVersion'").await;
    assert!(matches!(opening(&f.path()).await, CatalogError::Corrupt { .. }));
}

#[tokio::test]
async fn a_workgroup_must_be_named_where_there_are_several() {
    let f = fixture().await;
    raw(
        &f.path(),
        "INSERT INTO tcat_workgroups SELECT catalog_id, '00000000-0000-0000-0000-000000000001', 'annex', '', '' \
         FROM tcat_workgroups",
    )
    .await;
    let error = opening(&f.path()).await;
    assert!(matches!(&error, CatalogError::NoSuchWorkgroup { .. }), "{error}");
    assert!(error.to_string().contains("annex") && error.to_string().contains("studio"), "{error}");
    assert!(SqliteCatalog::open(&f.path(), Some(new_workgroup().id)).await.is_ok());
    assert!(SqliteCatalog::open(&f.path(), Some(WorkgroupId([9; 16]))).await.is_err());
}

#[tokio::test]
async fn a_backup_in_another_journal_mode_is_opened_as_a_catalog() {
    let f = fixture().await;
    f.catalog.close().await;
    raw(&f.path(), "PRAGMA journal_mode = DELETE").await;
    let catalog = SqliteCatalog::open(&f.path(), None).await.unwrap();
    catalog.create(&new_item(1, "a.jpg")).await.unwrap();
    assert!(f.folder.path().join("catalog é 1.db-wal").exists());
}

#[tokio::test]
#[cfg(unix)]
async fn a_file_that_was_replaced_while_open_is_noticed() {
    let f = fixture().await;
    let backup = f.folder.path().join("backup.db");
    f.catalog.create(&new_item(1, "a.jpg")).await.unwrap();
    // A plain copy of a closed catalog is whole.
    f.catalog.close().await;
    std::fs::copy(f.path(), &backup).unwrap();
    let catalog = SqliteCatalog::open(&f.path(), None).await.unwrap();
    catalog.create(&new_item(2, "b.jpg")).await.unwrap();
    let page = catalog.feed(Default::default(), 10).await.unwrap();
    assert_eq!(page.changes.len(), 2);

    std::fs::remove_file(f.path()).unwrap();
    let error = catalog.check().await.unwrap_err();
    assert!(matches!(error, CatalogError::Unreachable { .. }) && one_line(&error), "{error}");
    std::fs::rename(&backup, f.path()).unwrap();
    let error = catalog.check().await.unwrap_err();
    assert!(
        error.to_string().contains("db-wal") && one_line(&error),
        "the old log would destroy it: {error}"
    );
    std::fs::remove_file(f.folder.path().join("catalog é 1.db-wal")).unwrap();
    std::fs::remove_file(f.folder.path().join("catalog é 1.db-shm")).unwrap();
    catalog.check().await.unwrap();
    assert_eq!(catalog.row(item(2)).await.unwrap(), None, "it reads the file that is there");
    let restored = catalog.feed(page.through, 10).await;
    assert!(matches!(restored, Err(CatalogError::Restored { .. })), "{restored:?}");
    // The number comes again, for another change: the random id tells them apart.
    catalog.create(&new_item(3, "c.jpg")).await.unwrap();
    let restored = catalog.feed(page.through, 10).await;
    assert!(matches!(restored, Err(CatalogError::Restored { .. })), "{restored:?}");
    // Letting go of the replaced file took nothing from the new one: what is in its log is there for others.
    let other = SqliteCatalog::open(&f.path(), None).await.unwrap();
    assert!(other.row(item(3)).await.unwrap().is_some() && other.row(item(1)).await.unwrap().is_some());
}

#[tokio::test]
#[cfg(unix)]
async fn another_catalog_in_the_place_of_ours_is_not_taken_for_ours() {
    let (f, other) = (fixture().await, fixture().await);
    other.catalog.close().await;
    std::fs::rename(other.path(), f.path()).unwrap();
    for end in ["-wal", "-shm"] {
        std::fs::remove_file(f.folder.path().join(format!("catalog é 1.db{end}"))).unwrap();
    }
    let error = f.catalog.create(&new_item(1, "a.jpg")).await.unwrap_err();
    assert!(matches!(error, CatalogError::NoSuchCatalog { .. }) && one_line(&error), "{error}");
}

#[tokio::test]
async fn a_full_disk_says_so_and_loses_nothing() {
    let f = fixture().await;
    f.catalog.create(&new_item(1, "a.jpg")).await.unwrap();
    // A limit on the pages is what SQLite itself reports as a full disk.
    f.catalog.limit_pages(1).await;
    let mut failure = None;
    for number in 2..2000 {
        let path = format!("{}/{number}.jpg", "long".repeat(40));
        if let Err(error) = f.catalog.create(&new_item(number, &path)).await {
            failure = Some((number, error));
            break;
        }
    }
    let (number, error) = failure.unwrap();
    assert!(matches!(error, CatalogError::DiskFull { .. }) && one_line(&error), "{error}");
    assert_eq!(f.catalog.row(item(number)).await.unwrap(), None);
    assert!(f.catalog.row(item(1)).await.unwrap().is_some());
    // Once there is space again, it goes on without being opened anew.
    f.catalog.create(&new_item(number, "b.jpg")).await.unwrap();
}

#[tokio::test]
async fn a_catalog_held_by_another_program_is_busy_not_lost() {
    let f = fixture().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(f.path());
    let mut holder = options.connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut holder).await.unwrap();
    f.catalog.wait_at_most_ms(50).await;
    let error = f.catalog.check().await.unwrap_err();
    assert!(matches!(error, CatalogError::Busy { .. }) && one_line(&error), "{error}");
    assert!(f.catalog.members().await.is_ok(), "readers do not wait for a writer");
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    f.catalog.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_stops_waiting_leaves_no_lock_behind() {
    let f = fixture().await;
    let mut made = 0;
    for number in 1..=200u32 {
        let patience = std::time::Duration::from_micros(u64::from(number) * 20);
        let new = new_item(number, &format!("{number}.jpg"));
        made += u32::from(tokio::time::timeout(patience, f.catalog.create(&new)).await.is_ok());
    }
    f.catalog.check().await.unwrap();
    // What was stopped happened whole or not at all, and can be asked for again.
    for number in 1..=200 {
        f.catalog.create(&new_item(number, &format!("{number}.jpg"))).await.unwrap();
    }
    let page = f.catalog.feed(Default::default(), 1000).await.unwrap();
    assert_eq!((page.changes.len(), page.through.number), (200, 200));
    assert!(made < 200, "some were stopped");
}

#[tokio::test]
async fn a_catalog_that_may_only_be_read_says_so() {
    let f = fixture().await;
    f.catalog.only_read().await;
    let error = f.catalog.check().await.unwrap_err();
    assert!(matches!(error, CatalogError::ReadOnly { .. }) && one_line(&error), "{error}");
}
