//! What every catalog promises of renames.

use super::tests::{ANNA, create, fixture, item, new_item, whole_feed};
use super::*;
use tcat_engine::catalog::{CatalogRow, NewPlace};
use tcat_engine::paths::MediaPath;

fn place(number: u32, seen: &str, asked: &str) -> NewPlace {
    let path = |text| MediaPath::parse(text).unwrap();
    NewPlace { item: item(number), seen: path(seen), asked: path(asked) }
}

async fn ask(catalog: &SqliteCatalog, places: Vec<NewPlace>) -> Repathed {
    let catalog_epoch = catalog.epoch().await.unwrap();
    catalog.repath(&Repath { places, catalog_epoch, author: ANNA }).await.unwrap()
}

async fn rows(catalog: &SqliteCatalog, places: Vec<NewPlace>) -> Vec<CatalogRow> {
    match ask(catalog, places).await {
        Repathed::Rows(rows) => rows,
        Repathed::Refused(why) => panic!("{why}"),
    }
}

async fn paths(catalog: &SqliteCatalog, numbers: &[u32]) -> Vec<String> {
    let mut paths = Vec::new();
    for number in numbers {
        match catalog.row(item(*number)).await.unwrap().unwrap() {
            FeedChange::Row(row) => paths.push(row.cache_path.to_string()),
            FeedChange::Removed(record) => panic!("{record:?}"),
        }
    }
    paths
}

#[tokio::test]
async fn a_renamed_item_has_the_asked_path_and_is_the_same_otherwise() {
    let f = fixture().await;
    let before = create(&f.catalog, &new_item(1, "album/a.jpg")).await;
    let (_, position) = whole_feed(&f.catalog, 10).await;
    let renamed = rows(&f.catalog, vec![place(1, "album/a.jpg", "Été/b.jpg")]).await;
    let expected = CatalogRow { cache_path: MediaPath::parse("Été/b.jpg").unwrap(), ..before };
    assert_eq!(renamed, std::slice::from_ref(&expected));
    let page = f.catalog.feed(position, 10).await.unwrap();
    assert_eq!(page.changes, [FeedChange::Row(Box::new(expected))]);
    // The old name is free, in whatever case.
    assert_eq!(create(&f.catalog, &new_item(2, "ALBUM/a.jpg")).await.cache_path.as_str(), "ALBUM/a.jpg");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again_and_changes_nothing() {
    let f = fixture().await;
    create(&f.catalog, &new_item(1, "a.jpg")).await;
    create(&f.catalog, &new_item(2, "b.jpg")).await;
    let places = vec![place(1, "a.jpg", "b.jpg"), place(2, "b.jpg", "a.jpg")];
    let first = rows(&f.catalog, places.clone()).await;
    let (_, position) = whole_feed(&f.catalog, 10).await;
    assert_eq!(rows(&f.catalog, places).await, first);
    assert_eq!(whole_feed(&f.catalog, 10).await.1, position);
}

#[tokio::test]
async fn names_are_swapped_and_go_round_in_circles() {
    let f = fixture().await;
    for (number, path) in [(1, "a.jpg"), (2, "b.jpg"), (3, "c.jpg")] {
        create(&f.catalog, &new_item(number, path)).await;
    }
    rows(&f.catalog, vec![place(1, "a.jpg", "b.jpg"), place(2, "b.jpg", "a.jpg")]).await;
    assert_eq!(paths(&f.catalog, &[1, 2, 3]).await, ["b.jpg", "a.jpg", "c.jpg"]);
    let round = vec![place(1, "b.jpg", "c.jpg"), place(2, "a.jpg", "b.jpg"), place(3, "c.jpg", "a.jpg")];
    rows(&f.catalog, round).await;
    assert_eq!(paths(&f.catalog, &[1, 2, 3]).await, ["c.jpg", "b.jpg", "a.jpg"]);
}

#[tokio::test]
async fn a_name_in_another_spelling_is_the_items_own() {
    let f = fixture().await;
    create(&f.catalog, &new_item(1, "a.jpg")).await;
    rows(&f.catalog, vec![place(1, "a.jpg", "A.JPG")]).await;
    assert_eq!(paths(&f.catalog, &[1]).await, ["A.JPG"]);
}

#[tokio::test]
async fn of_two_that_want_one_name_the_first_has_it_and_who_has_one_keeps_it() {
    let f = fixture().await;
    for (number, path) in [(1, "a.jpg"), (2, "b.jpg"), (3, "c.jpg")] {
        create(&f.catalog, &new_item(number, path)).await;
    }
    rows(&f.catalog, vec![place(1, "a.jpg", "C.jpg"), place(2, "b.jpg", "c.jpg")]).await;
    assert_eq!(paths(&f.catalog, &[1, 2, 3]).await, ["C(1).jpg", "c(2).jpg", "c.jpg"]);
    // A number of its own is free for the item itself: it stays, and nothing is announced.
    let (_, position) = whole_feed(&f.catalog, 10).await;
    rows(&f.catalog, vec![place(1, "C(1).jpg", "C.jpg")]).await;
    assert_eq!(paths(&f.catalog, &[1]).await, ["C(1).jpg"]);
    assert_eq!(whole_feed(&f.catalog, 10).await.1, position);
}

#[tokio::test]
async fn a_row_that_is_elsewhere_gone_or_being_killed_stays_as_it_is() {
    let f = fixture().await;
    create(&f.catalog, &new_item(1, "a.jpg")).await;
    create(&f.catalog, &new_item(2, "b.jpg")).await;
    f.sql("UPDATE tcat_media SET state = 'kill-request', owner = NULL WHERE id = ?1", &[item(2).to_string()])
        .await;
    let places =
        vec![place(1, "elsewhere.jpg", "x.jpg"), place(2, "b.jpg", "y.jpg"), place(3, "c.jpg", "z.jpg")];
    assert_eq!(rows(&f.catalog, places).await.len(), 2);
    assert_eq!(paths(&f.catalog, &[1, 2]).await, ["a.jpg", "b.jpg"]);
}

#[tokio::test]
async fn no_path_becomes_both_a_file_and_a_folder() {
    let f = fixture().await;
    create(&f.catalog, &new_item(1, "a")).await;
    create(&f.catalog, &new_item(2, "b/c.jpg")).await;
    rows(&f.catalog, vec![place(1, "a", "b"), place(2, "b/c.jpg", "a/c.jpg")]).await;
    assert_eq!(paths(&f.catalog, &[1, 2]).await, ["b", "a/c.jpg"]);
    rows(&f.catalog, vec![place(2, "a/c.jpg", "B/c.jpg")]).await;
    assert_eq!(paths(&f.catalog, &[1, 2]).await, ["b", "B(1)/c.jpg"]);
}

#[tokio::test]
async fn strangers_and_members_of_another_epoch_rename_nothing() {
    let f = fixture().await;
    create(&f.catalog, &new_item(1, "a.jpg")).await;
    let catalog_epoch = f.catalog.epoch().await.unwrap();
    let places = vec![place(1, "a.jpg", "b.jpg")];
    let stranger = Repath { places: places.clone(), catalog_epoch, author: ClientId([9; 32]) };
    assert_eq!(f.catalog.repath(&stranger).await.unwrap(), Repathed::Refused(Refusal::Roster));
    let catalog_epoch = CatalogEpoch { number: 99, ..catalog_epoch };
    let late = Repath { places, catalog_epoch, author: ANNA };
    assert_eq!(f.catalog.repath(&late).await.unwrap(), Repathed::Refused(Refusal::CatalogEpoch));
    assert_eq!(paths(&f.catalog, &[1]).await, ["a.jpg"]);
}
