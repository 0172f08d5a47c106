//! The names of objects: announced before the first byte, live once committed, condemned before removal.
//!
//! What holds always: a name stands for one content of one item for good, and a condemned name is never used
//! again. An announced name whose upload was given up stays as an intent, for the collector to find.

use super::error::CatalogError;
use super::rows::{ContentColumns, Reader};
use super::session::{Session, now_text};
use super::{Intended, roster};
use tcat_engine::catalog_orders::KILL_OBJECTS_MAX;
use tcat_engine::catalog_rules::{self, IntendVerdict, Name};
use tcat_engine::content::Content;
use tcat_engine::ids::{ClientId, ItemId, ObjectId};

/// An upload to come.
pub(super) struct Intent<'a> {
    pub object: ObjectId,
    pub item: ItemId,
    pub content: &'a Content,
    pub generation: u32,
    pub author: ClientId,
}

/// See [`super::Catalog::intend`].
pub(super) async fn intend(session: &mut Session, intent: &Intent<'_>) -> Result<Intended, CatalogError> {
    let member = roster::is_member(session, &intent.author).await?;
    let name = known(session, intent).await?;
    match catalog_rules::intend(name, member) {
        IntendVerdict::Register => {
            put(session, intent, "intent").await?;
            Ok(Intended::Registered)
        }
        IntendVerdict::Live => Ok(Intended::Live),
        IntendVerdict::Refused(why) => Ok(Intended::Refused(why)),
        IntendVerdict::Taken => Err(CatalogError::ObjectTaken { object: intent.object }),
    }
}

/// What the name stands for. A condemned one is condemned whatever it stood for; one that stands for anything else
/// than this content of this item in this generation is taken.
pub(super) async fn known(session: &mut Session, intent: &Intent<'_>) -> Result<Name, CatalogError> {
    let query = sqlx::query(
        "SELECT item, md5, size, blake3, generation, state FROM tcat_objects WHERE catalogId = ?1 AND object = ?2",
    );
    let query = query.bind(session.catalog()).bind(intent.object.to_string());
    let Some(row) = session.fetch_optional(query).await? else { return Ok(Name::Free) };
    let reader = Reader::new(session, &row);
    let state = reader.text("state")?;
    if state == "condemned" {
        return Ok(Name::Condemned);
    }
    let same = reader.id::<ItemId>("item")? == intent.item
        && reader.content()?.same_as(intent.content)
        && reader.unsigned("generation")? == u64::from(intent.generation);
    Ok(match (same, state == "live") {
        (false, _) => Name::Taken,
        (true, true) => Name::Live,
        (true, false) => Name::Intent,
    })
}

/// The condemned names of an item's objects, a few thousand at most.
pub(super) async fn condemned_of(session: &mut Session, item: ItemId) -> Result<Vec<ObjectId>, CatalogError> {
    let query = sqlx::query(
        "SELECT object FROM tcat_objects WHERE catalogId = ?1 AND item = ?2 AND state = 'condemned' \
         ORDER BY object LIMIT ?3",
    );
    let query = query.bind(session.catalog()).bind(item.to_string()).bind(KILL_OBJECTS_MAX as i64);
    let rows = session.fetch_all(query).await?;
    rows.iter().map(|row| Reader::new(session, row).id("object")).collect()
}

/// See [`super::Catalog::is_condemned`].
pub(super) async fn is_condemned(session: &mut Session, object: ObjectId) -> Result<bool, CatalogError> {
    let query = sqlx::query(
        "SELECT 1 FROM tcat_objects WHERE catalogId = ?1 AND object = ?2 AND state = 'condemned'",
    );
    session.exists(query.bind(session.catalog()).bind(object.to_string())).await
}

/// Condemns all names of an item's objects, those that are only announced included.
pub(super) async fn condemn_all(session: &mut Session, item: ItemId) -> Result<(), CatalogError> {
    let query = sqlx::query("UPDATE tcat_objects SET state = 'condemned' WHERE catalogId = ?1 AND item = ?2");
    session.execute(query.bind(session.catalog()).bind(item.to_string())).await.map(drop)
}

/// Condemns one name, also where nothing was known of it.
pub(super) async fn condemn(session: &mut Session, intent: &Intent<'_>) -> Result<(), CatalogError> {
    put(session, intent, "condemned").await
}

/// Records that the object is in the store and that a row names it.
pub(super) async fn make_live(session: &mut Session, intent: &Intent<'_>) -> Result<(), CatalogError> {
    put(session, intent, "live").await
}

async fn put(session: &mut Session, intent: &Intent<'_>, state: &'static str) -> Result<(), CatalogError> {
    let content = ContentColumns::of(session, intent.content)?;
    let query = sqlx::query(
        "INSERT INTO tcat_objects (catalogId, object, item, md5, size, blake3, generation, state, author, \
         intendedDate) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
         ON CONFLICT (catalogId, object) DO UPDATE SET state = excluded.state, author = excluded.author, \
         intendedDate = excluded.intendedDate, blake3 = COALESCE(blake3, excluded.blake3)",
    );
    let query = query
        .bind(session.catalog())
        .bind(intent.object.to_string())
        .bind(intent.item.to_string())
        .bind(content.md5)
        .bind(content.size)
        .bind(content.blake3)
        .bind(i64::from(intent.generation))
        .bind(state)
        .bind(intent.author.to_string())
        .bind(now_text());
    session.execute(query).await.map(drop)
}
