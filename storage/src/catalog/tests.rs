//! What every catalog promises, whatever database is behind it; `opening_tests` has what is SQLite's alone.

use super::*;
use std::collections::BTreeSet;
use std::path::Path;
use tcat_engine::catalog::{CHAIN_LINKS_MAX, CatalogRow, ChainLink, Revision, RowState};
use tcat_engine::clock::{Dot, Incarnation};
use tcat_engine::content::{Blake3, Md5};
use tcat_engine::paths::MediaPath;

pub(super) const ANNA: ClientId = ClientId([0xaa; 32]);
pub(super) const BEN: ClientId = ClientId([0xbe; 32]);

pub(super) struct Fixture {
    pub folder: tempfile::TempDir,
    pub catalog: Arc<SqliteCatalog>,
}

pub(super) fn new_workgroup() -> NewWorkgroup {
    NewWorkgroup {
        id: WorkgroupId([7; 16]),
        name: "studio".into(),
        server_path: "/srv/büro media".into(),
        cache_root: "cache".into(),
    }
}

pub(super) async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog é 1.db");
    let catalog = Arc::new(SqliteCatalog::create(&path, &new_workgroup()).await.unwrap());
    catalog.admit(ANNA, "anna").await.unwrap();
    catalog.admit(BEN, "ben").await.unwrap();
    Fixture { folder, catalog }
}

impl Fixture {
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("catalog é 1.db")
    }

    /// The same file as another process sees it.
    async fn second(&self) -> Arc<SqliteCatalog> {
        Arc::new(SqliteCatalog::open(&self.path(), None).await.unwrap())
    }

    /// Does to the database what no operation does.
    pub async fn sql(&self, sql: &'static str, values: &[String]) {
        let mut session = self.catalog.write("testing").await.unwrap();
        let query = values.iter().fold(sqlx::query(sql), |query, value| query.bind(value.clone()));
        session.execute(query).await.unwrap();
        session.finish().await.unwrap();
    }

    async fn texts(&self, sql: &'static str) -> Vec<String> {
        let mut session = self.catalog.read("testing").await.unwrap();
        let rows = session.fetch_all(sqlx::query(sql)).await.unwrap();
        rows.iter().map(|row| sqlx::Row::get(row, 0)).collect()
    }
}

pub(super) fn revision(client: ClientId, counter: u64) -> Revision {
    Revision(Dot { client, stamp: tcat_engine::clock::Stamp { incarnation: Incarnation(1 << 60), counter } })
}

fn content(number: u32) -> Content {
    let bytes = number.to_le_bytes();
    let mut md5 = [0; 16];
    md5[..4].copy_from_slice(&bytes);
    Content {
        md5: Md5(md5),
        size: 1000 + u64::from(number),
        blake3: Some(Blake3(*blake3::hash(&bytes).as_bytes())),
    }
}

pub(super) fn item(number: u32) -> ItemId {
    ItemId::derive("test", &[&number.to_le_bytes()])
}

fn object(number: u32) -> ObjectId {
    ObjectId::derive("test object", &[&number.to_le_bytes()])
}

/// Item `number`, whose first content has the same number.
pub(super) fn new_item(number: u32, path: &str) -> NewItem {
    NewItem {
        item: item(number),
        revision: revision(ANNA, u64::from(number)),
        asked_path: MediaPath::parse(path).unwrap(),
        content: content(number),
        earlier: Vec::new(),
        content_type: "image/jpeg".into(),
        author: ANNA,
        author_name: "anna".into(),
        source_server: "/media".into(),
        version_of: None,
    }
}

pub(super) async fn create(catalog: &SqliteCatalog, new: &NewItem) -> CatalogRow {
    match catalog.create(new).await.unwrap() {
        Created::Row(row) => *row,
        other => panic!("{other:?}"),
    }
}

/// The completion of the upload of item `number`.
async fn completion(catalog: &SqliteCatalog, number: u32) -> Commit {
    Commit {
        item: item(number),
        base: revision(ANNA, u64::from(number)),
        line: vec![],
        object: object(number),
        generation: 0,
        claim_epoch: 1,
        catalog_epoch: catalog.epoch().await.unwrap(),
        author: ANNA,
    }
}

fn link(counter: u64, number: u32) -> ChainLink {
    ChainLink { revision: revision(ANNA, counter), content: content(number) }
}

/// An edit of item 1 on `base` with one step: content and object `number`.
async fn edit(catalog: &SqliteCatalog, base: Revision, counter: u64, number: u32) -> Commit {
    Commit { base, line: vec![link(counter, number)], object: object(number), ..completion(catalog, 1).await }
}

fn committed(answer: Committed) -> CatalogRow {
    match answer {
        Committed::Row(row) => *row,
        other => panic!("{other:?}"),
    }
}

fn why_refused(answer: Committed) -> Refusal {
    match answer {
        Committed::Refused { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

/// Item 1, uploaded.
async fn active_item(catalog: &SqliteCatalog) -> CatalogRow {
    create(catalog, &new_item(1, "a.jpg")).await;
    committed(catalog.commit(&completion(catalog, 1).await).await.unwrap())
}

pub(super) async fn whole_feed(catalog: &SqliteCatalog, limit: usize) -> (Vec<FeedChange>, FeedPosition) {
    let (mut changes, mut position) = (Vec::new(), FeedPosition::default());
    loop {
        let page = catalog.feed(position, limit).await.unwrap();
        changes.extend(page.changes);
        position = page.through;
        if !page.more {
            return (changes, position);
        }
    }
}

#[tokio::test]
async fn a_new_item_is_pending_and_its_upload_makes_it_active() {
    let f = fixture().await;
    let row = create(&f.catalog, &new_item(1, "2024/Été/a b.jpg")).await;
    assert_eq!(row.state, RowState::Pending { owner: ANNA });
    assert_eq!(row.cache_path.as_str(), "2024/Été/a b.jpg");
    assert_eq!((row.content, row.revision), (content(1), revision(ANNA, 1)));
    assert_eq!(row.chain, vec![link(1, 1)]);
    assert_eq!((row.object, row.upload, row.claim_epoch), (None, true, 0));
    let imports = "SELECT state || '|' || md5 || '|' || sourceServer || '|' || sourcePath || '|' || source || '|' || \
                   (uploadDate IS NULL) FROM tcat_import";
    let md5 = "AQAAAAAAAAAAAAAAAAAAAA==";
    assert_eq!(f.texts(imports).await, [format!("pending-upload|{md5}|/media|2024/Été/a b.jpg|anna|1")]);

    let row = committed(f.catalog.commit(&completion(&f.catalog, 1).await).await.unwrap());
    assert_eq!((row.state, row.revision), (RowState::Active, revision(ANNA, 1)));
    assert_eq!((row.object, row.claim_epoch), (Some(object(1)), 1));
    assert_eq!(row.chain, vec![link(1, 1)]);
    assert_eq!(f.texts(imports).await, [format!("complete|{md5}|/media|2024/Été/a b.jpg|anna|0")]);
    assert_eq!(f.texts("SELECT state FROM tcat_objects").await, ["live"]);
    assert_eq!(f.catalog.row(item(1)).await.unwrap(), Some(FeedChange::Row(Box::new(row))));
    assert_eq!(f.catalog.row(item(2)).await.unwrap(), None);
}

#[tokio::test]
async fn a_repeated_create_makes_no_second_row() {
    let f = fixture().await;
    let first = create(&f.catalog, &new_item(1, "a.jpg")).await;
    assert_eq!(create(&f.catalog, &new_item(1, "a.jpg")).await, first);
    assert_eq!(whole_feed(&f.catalog, 10).await.1.number, 1);
}

#[tokio::test]
async fn the_same_content_at_the_same_path_is_one_item() {
    let f = fixture().await;
    let first = create(&f.catalog, &new_item(1, "Straße/A.JPG")).await;
    let mut twin = new_item(2, "STRASSE/a.jpg");
    twin.content = Content { blake3: None, ..content(1) };
    assert_eq!(f.catalog.create(&twin).await.unwrap(), Created::Adopted(Box::new(first)));
    f.sql("UPDATE tcat_media SET state = 'kill-request', owner = NULL", &[]).await;
    assert_eq!(create(&f.catalog, &twin).await.cache_path.as_str(), "STRASSE/a(1).jpg");
}

#[tokio::test]
async fn the_first_keeps_the_name_and_the_next_get_numbers() {
    let f = fixture().await;
    create(&f.catalog, &new_item(1, "e\u{301}te\u{301}.jpg")).await;
    assert_eq!(create(&f.catalog, &new_item(2, "ÉTÉ.jpg")).await.cache_path.as_str(), "ÉTÉ(1).jpg");
    assert_eq!(create(&f.catalog, &new_item(3, "été.JPG")).await.cache_path.as_str(), "été(2).JPG");
    assert_eq!(create(&f.catalog, &new_item(3, "été.JPG")).await.cache_path.as_str(), "été(2).JPG");
}

#[tokio::test]
async fn when_all_numbers_are_taken_the_id_is_the_name() {
    let f = fixture().await;
    for number in 0..=50 {
        create(&f.catalog, &new_item(number, "x/a.jpg")).await;
    }
    let path = create(&f.catalog, &new_item(51, "x/a.jpg")).await.cache_path;
    assert_eq!(path.as_str(), format!("x/{}.jpg", item(51)));
}

#[tokio::test]
async fn no_path_is_both_a_file_and_a_folder() {
    let f = fixture().await;
    create(&f.catalog, &new_item(1, "trip")).await;
    assert_eq!(
        create(&f.catalog, &new_item(2, "Trip/day/a.jpg")).await.cache_path.as_str(),
        "Trip(1)/day/a.jpg"
    );
    assert_eq!(
        create(&f.catalog, &new_item(3, "Trip/day/b.jpg")).await.cache_path.as_str(),
        "Trip(1)/day/b.jpg"
    );
    assert_eq!(create(&f.catalog, &new_item(4, "trip(1)/DAY")).await.cache_path.as_str(), "trip(1)/DAY(1)");
    assert_eq!(create(&f.catalog, &new_item(5, "trip(1)/days")).await.cache_path.as_str(), "trip(1)/days");
}

#[tokio::test]
async fn a_removed_item_never_comes_back() {
    let f = fixture().await;
    create(&f.catalog, &new_item(1, "a.jpg")).await;
    let id = || vec![f.catalog_id(), item(1).to_string()];
    f.sql("DELETE FROM tcat_media WHERE catalogId = ? AND id = ?", &id()).await;
    f.sql("INSERT INTO tcat_removals VALUES (?, ?, 'a.jpg', 'a.jpg')", &id()).await;
    let contents = "INSERT INTO tcat_removal_contents SELECT catalogId, item, sequence, md5, size, blake3 \
                    FROM tcat_chain WHERE catalogId = ? AND item = ?";
    f.sql(contents, &id()).await;
    assert_eq!(f.catalog.create(&new_item(1, "a.jpg")).await.unwrap(), Created::Removed);
    let record = f.catalog.row(item(1)).await.unwrap().unwrap();
    assert!(
        matches!(&record, FeedChange::Removed(r) if r.contents == [content(1)] && r.cache_path.as_str() == "a.jpg")
    );
    assert_eq!(whole_feed(&f.catalog, 10).await.0, [record]);
    assert_eq!(
        why_refused(f.catalog.commit(&completion(&f.catalog, 1).await).await.unwrap()),
        Refusal::Killed
    );
    // The path is free again, for a new item.
    assert_eq!(create(&f.catalog, &new_item(2, "a.jpg")).await.cache_path.as_str(), "a.jpg");
}

impl Fixture {
    fn catalog_id(&self) -> String {
        self.catalog.names().catalog.to_string()
    }
}

#[tokio::test]
async fn a_row_that_vanished_without_a_record_can_be_offered_again_under_its_id() {
    let f = fixture().await;
    create(&f.catalog, &new_item(1, "a.jpg")).await;
    f.sql("DELETE FROM tcat_media", &[]).await;
    assert_eq!(whole_feed(&f.catalog, 10).await.0, []);
    assert_eq!(create(&f.catalog, &new_item(1, "a.jpg")).await.chain, [link(1, 1)]);
    f.sql("DELETE FROM tcat_media", &[]).await;
    let again = NewItem { revision: revision(ANNA, 9), ..new_item(1, "a.jpg") };
    assert_eq!(create(&f.catalog, &again).await.chain, [link(1, 1), link(9, 1)]);
}

#[tokio::test]
async fn a_new_item_enters_with_the_steps_that_nobody_could_commit() {
    let f = fixture().await;
    let new = NewItem {
        earlier: vec![link(8, 8), link(9, 9)],
        revision: revision(ANNA, 10),
        content: content(10),
        ..new_item(1, "a.jpg")
    };
    let row = create(&f.catalog, &new).await;
    assert_eq!(row.chain, [link(8, 8), link(9, 9), link(10, 10)]);
    assert_eq!((row.revision, row.content), (revision(ANNA, 10), content(10)));
    assert_eq!(f.catalog.members().await.unwrap()[0].stamp.counter, 10);
    // A chain that outlived its row goes on where it ends.
    f.sql("DELETE FROM tcat_media", &[]).await;
    f.sql("DELETE FROM tcat_chain WHERE sequence = 3", &[]).await;
    assert_eq!(create(&f.catalog, &new).await.chain, row.chain);
}

#[tokio::test]
async fn a_commit_enters_its_whole_line_in_the_chain() {
    let f = fixture().await;
    let base = active_item(&f.catalog).await.revision;
    let line = vec![link(10, 10), link(11, 11), link(12, 12)];
    let commit = Commit { line: line.clone(), claim_epoch: 4, ..edit(&f.catalog, base, 12, 12).await };
    let row = committed(f.catalog.commit(&commit).await.unwrap());
    assert_eq!((row.revision, row.content, row.object), (revision(ANNA, 12), content(12), Some(object(12))));
    assert_eq!(row.chain[1..], line);
    assert_eq!(row.claim_epoch, 4);
    assert_eq!(f.catalog.members().await.unwrap()[0].stamp.counter, 12);
}

#[tokio::test]
async fn an_edit_before_the_first_upload_makes_the_row_active_with_the_edit() {
    let f = fixture().await;
    create(&f.catalog, &new_item(1, "a.jpg")).await;
    let row = committed(f.catalog.commit(&edit(&f.catalog, revision(ANNA, 1), 10, 10).await).await.unwrap());
    assert_eq!((row.state, row.content, row.chain.len()), (RowState::Active, content(10), 2));
    assert_eq!(f.texts("SELECT state FROM tcat_import WHERE uploadDate IS NOT NULL").await, ["complete"]);
}

#[tokio::test]
async fn a_lost_answer_is_a_success_when_asked_again() {
    let f = fixture().await;
    let base = active_item(&f.catalog).await.revision;
    let first = edit(&f.catalog, base, 10, 10).await;
    committed(f.catalog.commit(&first).await.unwrap());
    let feed_end = whole_feed(&f.catalog, 10).await.1;
    assert_eq!(committed(f.catalog.commit(&first).await.unwrap()).revision, revision(ANNA, 10));
    assert_eq!(
        committed(f.catalog.commit(&completion_after(&f, 10).await).await.unwrap()).content,
        content(10)
    );
    assert_eq!(whole_feed(&f.catalog, 10).await.1, feed_end, "nothing changed");
    // Also after others went on.
    let second = edit(&f.catalog, revision(ANNA, 10), 20, 20).await;
    committed(f.catalog.commit(&second).await.unwrap());
    assert_eq!(committed(f.catalog.commit(&first).await.unwrap()).revision, revision(ANNA, 20));
}

/// The completion of the upload that made `number` the content of item 1.
async fn completion_after(f: &Fixture, number: u32) -> Commit {
    Commit {
        base: revision(ANNA, u64::from(number)),
        object: object(number),
        ..completion(&f.catalog, 1).await
    }
}

#[tokio::test]
async fn a_line_that_begins_with_committed_steps_adds_only_the_others() {
    let f = fixture().await;
    let base = active_item(&f.catalog).await.revision;
    let line = vec![link(1, 1), link(10, 10)];
    let row =
        committed(f.catalog.commit(&Commit { line, ..edit(&f.catalog, base, 10, 10).await }).await.unwrap());
    assert_eq!(row.chain, [link(1, 1), link(10, 10)]);
}

#[tokio::test]
async fn a_repaired_upload_takes_the_next_generation_and_an_older_one_changes_nothing() {
    let f = fixture().await;
    active_item(&f.catalog).await;
    let repair = Commit { object: object(99), generation: 1, ..completion(&f.catalog, 1).await };
    let row = committed(f.catalog.commit(&repair).await.unwrap());
    assert_eq!((row.object, row.generation, row.chain.len()), (Some(object(99)), 1, 1));
    let late = completion(&f.catalog, 1).await;
    assert_eq!(committed(f.catalog.commit(&late).await.unwrap()).object, Some(object(99)));
}

#[tokio::test]
async fn every_refusal_has_its_reason_and_changes_nothing() {
    let f = fixture().await;
    let base = active_item(&f.catalog).await.revision;
    let good = Commit { claim_epoch: 5, ..edit(&f.catalog, base, 10, 10).await };
    let row = committed(f.catalog.commit(&good).await.unwrap());
    let next = Commit { claim_epoch: 5, ..edit(&f.catalog, row.revision, 20, 20).await };
    let before = whole_feed(&f.catalog, 10).await;
    f.sql(
        "INSERT INTO tcat_objects SELECT catalogId, ?, item, md5, size, blake3, 0, 'condemned', author, '' \
         FROM tcat_objects LIMIT 1",
        &[object(77).to_string()],
    )
    .await;
    let mut epoch = next.catalog_epoch;
    epoch.id[0] ^= 1;
    let cases = [
        (Commit { base, ..next.clone() }, Refusal::Revision),
        (Commit { claim_epoch: 4, ..next.clone() }, Refusal::ClaimEpoch),
        (Commit { catalog_epoch: epoch, ..next.clone() }, Refusal::CatalogEpoch),
        (Commit { author: ClientId([1; 32]), ..next.clone() }, Refusal::Roster),
        (Commit { object: object(77), ..next.clone() }, Refusal::Condemned),
        (Commit { item: item(404), ..next.clone() }, Refusal::Killed),
    ];
    for (commit, expected) in cases {
        let answer = f.catalog.commit(&commit).await.unwrap();
        let shown = match &answer {
            Committed::Refused { row, .. } => row.as_deref().cloned(),
            other => panic!("{expected}: {other:?}"),
        };
        assert_eq!(shown, (commit.item == item(1)).then(|| row.clone()), "{expected}");
        assert_eq!(why_refused(answer), expected);
    }
    assert_eq!(whole_feed(&f.catalog, 10).await, before);
    for state in ["kill-request", "kill-wip", "kill-complete"] {
        f.sql("UPDATE tcat_media SET state = ?", &[state.to_owned()]).await;
        assert_eq!(why_refused(f.catalog.commit(&next).await.unwrap()), Refusal::Killed, "{state}");
    }
    f.sql("UPDATE tcat_media SET state = 'active'", &[]).await;
    committed(f.catalog.commit(&next).await.unwrap());
}

#[tokio::test]
async fn a_revision_stands_for_one_change_only() {
    let f = fixture().await;
    let base = active_item(&f.catalog).await.revision;
    create(&f.catalog, &new_item(2, "b.jpg")).await;
    let reused = CatalogError::RevisionReused { revision: revision(ANNA, 2) };
    assert_eq!(f.catalog.commit(&edit(&f.catalog, base, 2, 30).await).await, Err(reused.clone()));
    let inner = vec![link(2, 30), link(31, 31)];
    let commit = Commit { line: inner, ..edit(&f.catalog, base, 31, 31).await };
    assert_eq!(f.catalog.commit(&commit).await, Err(reused.clone()));
    let new = NewItem { revision: revision(ANNA, 2), ..new_item(3, "c.jpg") };
    assert_eq!(f.catalog.create(&new).await, Err(reused));
    assert_eq!(f.catalog.row(item(3)).await.unwrap(), None, "nothing of it stays");
}

#[tokio::test]
async fn a_row_carries_the_newest_links_of_a_long_chain() {
    let f = fixture().await;
    let base = active_item(&f.catalog).await.revision;
    let line: Vec<_> = (0..300).map(|n| link(1000 + u64::from(n), 1000 + n)).collect();
    let commit = Commit { line, object: object(1299), ..edit(&f.catalog, base, 1299, 1299).await };
    let row = committed(f.catalog.commit(&commit).await.unwrap());
    assert_eq!(row.chain.len(), CHAIN_LINKS_MAX);
    assert_eq!(row.chain.last(), Some(&link(1299, 1299)));
    assert_eq!(row.chain.first(), Some(&link(1044, 1044)));
    assert_eq!(whole_feed(&f.catalog, 10).await.0, [FeedChange::Row(Box::new(row))]);
    let too_long = (0..5000).map(|n| link(5000 + n, 5)).collect();
    let commit = Commit { line: too_long, ..edit(&f.catalog, revision(ANNA, 1299), 1, 1).await };
    assert!(matches!(f.catalog.commit(&commit).await, Err(CatalogError::Other { .. })));
}

#[tokio::test]
async fn the_feed_lists_each_item_once_as_it_stands() {
    let f = fixture().await;
    let start = whole_feed(&f.catalog, 10).await;
    assert_eq!((start.0.len(), start.1.number, start.1.epoch), (0, 0, f.catalog.epoch().await.unwrap()));
    active_item(&f.catalog).await;
    create(&f.catalog, &new_item(2, "b.jpg")).await;
    committed(f.catalog.commit(&edit(&f.catalog, revision(ANNA, 1), 10, 10).await).await.unwrap());
    let page = f.catalog.feed(start.1, 100).await.unwrap();
    assert_eq!(page.changes.iter().map(FeedChange::item).collect::<Vec<_>>(), [item(2), item(1)]);
    assert!(matches!(&page.changes[1], FeedChange::Row(row) if row.content == content(10)));
    assert_eq!((page.through.number, page.more), (4, false));
    let empty = f.catalog.feed(page.through, 100).await.unwrap();
    assert_eq!((empty.changes, empty.through, empty.more), (vec![], page.through, false));
    // In pages of one: every change is passed, and the last state of each item is among them.
    let (changes, through) = whole_feed(&f.catalog, 1).await;
    assert_eq!((changes.len(), through), (4, page.through));
}

#[tokio::test]
async fn a_position_that_this_catalog_never_gave_means_that_it_was_restored() {
    let f = fixture().await;
    active_item(&f.catalog).await;
    let (_, good) = whole_feed(&f.catalog, 10).await;
    let epoch = f.catalog.epoch().await.unwrap();
    let mut other = epoch;
    other.id[3] ^= 1;
    let strange = [
        FeedPosition { number: good.number + 1, ..good },
        FeedPosition { id: [9; 16], ..good },
        FeedPosition { epoch: other, ..good },
        FeedPosition { epoch: other, number: 0, id: [0; 16] },
        FeedPosition { number: u64::MAX, ..good },
    ];
    for position in strange {
        assert_eq!(f.catalog.feed(position, 10).await, Err(CatalogError::Restored { epoch }), "{position:?}");
    }
    assert!(f.catalog.feed(good, 10).await.is_ok());
    assert!(f.catalog.feed(FeedPosition { epoch, number: 0, id: [0; 16] }, 10).await.is_ok());
}

#[tokio::test]
async fn an_upload_is_announced_once_and_condemned_names_are_refused() {
    let f = fixture().await;
    create(&f.catalog, &new_item(1, "a.jpg")).await;
    let intend = |object, author, number| {
        let catalog = f.catalog.clone();
        async move { catalog.intend(object, item(1), &content(number), 0, author).await }
    };
    assert_eq!(intend(object(1), ANNA, 1).await, Ok(Intended::Registered));
    assert_eq!(intend(object(1), BEN, 1).await, Ok(Intended::Registered), "another takes over");
    let taken = Err(CatalogError::ObjectTaken { object: object(1) });
    assert_eq!(intend(object(1), ANNA, 2).await, taken);
    let stranger = ClientId([3; 32]);
    assert_eq!(intend(object(2), stranger, 1).await, Ok(Intended::Refused(Refusal::Roster)));
    committed(f.catalog.commit(&completion(&f.catalog, 1).await).await.unwrap());
    assert_eq!(intend(object(1), ANNA, 1).await, Ok(Intended::Live));
    f.sql("UPDATE tcat_objects SET state = 'condemned'", &[]).await;
    assert_eq!(intend(object(1), ANNA, 1).await, Ok(Intended::Refused(Refusal::Condemned)));
}

#[tokio::test]
async fn the_roster_keeps_names_apart_and_keys_once() {
    let f = fixture().await;
    let third = f.catalog.admit(ClientId([3; 32]), "ANNA").await.unwrap();
    assert_eq!(third.name, "ANNA-2");
    assert_eq!(f.catalog.admit(ClientId([4; 32]), "anna").await.unwrap().name, "anna-3");
    assert_eq!(f.catalog.admit(ClientId([3; 32]), "other").await.unwrap(), third);
    assert_eq!(f.catalog.members().await.unwrap().len(), 4);
    for bad in ["", " x", "a\nb", &"x".repeat(65)] {
        let answer = f.catalog.admit(ClientId([5; 32]), bad).await;
        assert!(matches!(answer, Err(CatalogError::InvalidName { .. })), "{bad:?}");
    }
    for n in 10..70 {
        f.catalog.admit(ClientId([n; 32]), "node").await.unwrap();
    }
    let full = f.catalog.admit(ClientId([99; 32]), "late").await;
    assert_eq!(full, Err(CatalogError::RosterFull { limit: CLIENTS_MAX }));
    let group = f.catalog.workgroup().await.unwrap();
    assert_eq!((group.id, group.name.as_str()), (new_workgroup().id, "studio"));
    assert_eq!((group.server_path.as_str(), group.cache_root.as_str()), ("/srv/büro media", "cache"));
}

#[tokio::test]
async fn only_members_may_enter_items() {
    let f = fixture().await;
    let stranger = ClientId([1; 32]);
    let answer = f.catalog.create(&NewItem { author: stranger, ..new_item(1, "a.jpg") }).await;
    assert!(matches!(answer, Err(CatalogError::NotMember { client, .. }) if client == stranger));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_all_commits_on_one_base_exactly_one_wins() {
    let f = fixture().await;
    let mut base = active_item(&f.catalog).await.revision;
    let catalogs = [f.catalog.clone(), f.second().await, f.second().await];
    for round in 1..=5u32 {
        let mut tasks = Vec::new();
        for task in 0..12u32 {
            let catalog = catalogs[task as usize % catalogs.len()].clone();
            let number = round * 100 + task;
            tasks.push(tokio::spawn(async move {
                let commit = edit(&catalog, base, u64::from(number), number).await;
                catalog.commit(&commit).await.unwrap()
            }));
        }
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Committed::Row(row) => winners.push(row.revision),
                Committed::Refused { why, row } => {
                    assert_eq!(why, Refusal::Revision);
                    assert_ne!(row.unwrap().revision, base, "the loser is shown who won");
                }
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        base = winners[0];
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_path_asked_for_by_many_gives_as_many_names() {
    let f = fixture().await;
    let catalogs = [f.catalog.clone(), f.second().await];
    let tasks: Vec<_> = (1..=20u32)
        .map(|number| {
            let catalog = catalogs[number as usize % 2].clone();
            let name = if number % 3 == 0 { "IMG.JPG" } else { "img.jpg" };
            tokio::spawn(async move { create(&catalog, &new_item(number, name)).await })
        })
        .collect();
    let mut folded = BTreeSet::new();
    for task in tasks {
        assert!(folded.insert(task.await.unwrap().cache_path.folded()));
    }
    assert_eq!(folded.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_of_the_feed_misses_nothing_while_others_write() {
    let f = fixture().await;
    let writers: Vec<_> = (0..3u32)
        .map(|writer| {
            let path = f.path();
            tokio::spawn(async move {
                let catalog = SqliteCatalog::open(&path, None).await.unwrap();
                for n in 0..30 {
                    let number = 1 + writer * 30 + n;
                    create(&catalog, &new_item(number, &format!("{writer}/{n}.jpg"))).await;
                    if n % 2 == 0 {
                        committed(catalog.commit(&completion(&catalog, number).await).await.unwrap());
                    }
                }
            })
        })
        .collect();
    let mut mirror = std::collections::BTreeMap::new();
    let mut position = FeedPosition::default();
    loop {
        let done = writers.iter().all(|writer| writer.is_finished());
        let page = f.catalog.feed(position, 7).await.unwrap();
        assert!(page.through.number >= position.number && page.through.number <= position.number + 7);
        mirror.extend(page.changes.into_iter().map(|change| (change.item(), change)));
        position = page.through;
        if done && !page.more {
            break;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!((mirror.len(), position.number), (90, 135));
    for (item, change) in mirror {
        assert_eq!(f.catalog.row(item).await.unwrap(), Some(change), "the mirror is the catalog");
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let f = fixture().await;
    let row = active_item(&f.catalog).await;
    f.catalog.close().await;
    let url = format!("sqlite:{}", f.path().display());
    let again = open(&url, None).await.unwrap();
    assert_eq!(again.row(item(1)).await.unwrap(), Some(FeedChange::Row(Box::new(row))));
    again.check().await.unwrap();
}

#[test]
fn a_url_that_cannot_be_opened_says_what_can_and_shows_no_secret() {
    assert_eq!(sqlite_path("sqlite:/a b/ü.db").unwrap(), Path::new("/a b/ü.db"));
    let text = sqlite_path("postgres://user:secret@host/db").unwrap_err().to_string();
    assert!(text.contains("sqlite:PATH") && text.contains("postgres") && !text.contains("secret"), "{text}");
    assert!(sqlite_path("sqlite:").is_err() && sqlite_path("/just/a/path").is_err());
}
