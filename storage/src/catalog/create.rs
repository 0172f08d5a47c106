//! Entering a new item, as pending.
//!
//! What holds always: an id enters once, whoever repeats it; an id that was removed never comes back; the
//! same content asked for at the same path is one item. The decision is that of [`tcat_engine::catalog_rules`]. Not
//! here: completing the upload (`commit`).

use super::commit::{LINE_LINKS_MAX, append_link, chain_end};
use super::error::CatalogError;
use super::rows::{ContentColumns, md5_text, removal_of, revision_text, row_of};
use super::session::Session;
use super::{places, roster};
use tcat_engine::catalog::{CatalogRow, Created, NewItem};
use tcat_engine::catalog_rules::{self, CreateFacts, CreateVerdict};
use tcat_engine::ids::ItemId;
use tcat_engine::paths::MediaPath;
use tcat_engine::planted::Sound;

/// See [`super::Catalog::create`].
pub(super) async fn create(session: &mut Session, new: &NewItem) -> Result<Created, CatalogError> {
    if new.earlier.len() >= LINE_LINKS_MAX {
        return Err(session.failed(format!("the line has more than {LINE_LINKS_MAX} steps")));
    }
    let row = row_of(session, new.item).await?;
    let removed = removal_of(session, new.item).await?.is_some();
    let member = roster::is_member(session, &new.author).await?;
    let at_path = row_at(session, &new.asked_path).await?;
    let facts = CreateFacts { row: row.as_ref(), removed, member, at_path: at_path.as_ref() };
    match catalog_rules::create(&Sound, new, &facts) {
        CreateVerdict::There(row) => Ok(Created::Row(Box::new(row.clone()))),
        CreateVerdict::Removed => Ok(Created::Removed),
        CreateVerdict::NotMember => {
            Err(CatalogError::NotMember { client: new.author, workgroup: session.workgroup_id() })
        }
        CreateVerdict::Adopt(row) => Ok(Created::Adopted(Box::new(row.clone()))),
        CreateVerdict::Enter => enter(session, new).await,
    }
}

async fn enter(session: &mut Session, new: &NewItem) -> Result<Created, CatalogError> {
    let path = places::assign(session, &new.asked_path, new.item).await?;
    // First, since it tells a revision that was used before from every other fault.
    let end = chain_end(session, new.item).await?.map(|(_, end)| end);
    for link in new.steps_after(end.as_ref()) {
        append_link(session, new.item, &link).await?;
        roster::note_stamp(session, &link.revision).await?;
    }
    insert_media(session, new, &path).await?;
    insert_import(session, new).await?;
    session.announce(new.item).await?;
    match row_of(session, new.item).await? {
        Some(row) => Ok(Created::Row(Box::new(row))),
        None => Err(session.failed("the row that was just entered is not there")),
    }
}

/// The row that has a path, compared folded.
async fn row_at(session: &mut Session, path: &MediaPath) -> Result<Option<CatalogRow>, CatalogError> {
    let query = sqlx::query("SELECT id FROM tcat_media WHERE catalogId = ?1 AND foldedPath = ?2");
    let query = query.bind(session.catalog()).bind(path.folded().0);
    let Some(row) = session.fetch_optional(query).await? else { return Ok(None) };
    let item: ItemId = super::rows::Reader::new(session, &row).id("id")?;
    row_of(session, item).await
}

async fn insert_media(session: &mut Session, new: &NewItem, path: &MediaPath) -> Result<(), CatalogError> {
    let content = ContentColumns::of(session, &new.content)?;
    let query = sqlx::query(
        "INSERT INTO tcat_media (catalogId, id, virtualPath, contentType, state, md5, owner, revision, size, \
         blake3, objectId, generation, cachePath, foldedPath, claimEpoch, upload, versionOf) \
         VALUES (?1, ?2, ?3, ?4, 'pending', ?5, ?6, ?7, ?8, ?9, NULL, 0, ?10, ?11, 0, 1, ?12)",
    );
    let query = query
        .bind(session.catalog())
        .bind(new.item.to_string())
        .bind(new.asked_path.as_str().to_owned())
        .bind(new.content_type.clone())
        .bind(content.md5)
        .bind(new.author.to_string())
        .bind(revision_text(&new.revision))
        .bind(content.size)
        .bind(content.blake3)
        .bind(path.as_str().to_owned())
        .bind(path.folded().0)
        .bind(new.version_of.map(|item| item.to_string()));
    session.execute(query).await.map(drop)
}

async fn insert_import(session: &mut Session, new: &NewItem) -> Result<(), CatalogError> {
    let query = sqlx::query(
        "INSERT INTO tcat_import (catalogId, id, state, md5, sourceServer, sourcePath, uploadDate, source) \
         VALUES (?1, ?2, 'pending-upload', ?3, ?4, ?5, NULL, ?6)",
    );
    let query = query
        .bind(session.catalog())
        .bind(new.item.to_string())
        .bind(md5_text(&new.content.md5))
        .bind(new.source_server.clone())
        .bind(new.asked_path.as_str().to_owned())
        .bind(new.author_name.clone());
    session.execute(query).await.map(drop)
}
