//! Entering a new item, as pending.
//!
//! What holds always: an id enters once, whoever repeats it; an id that was removed never comes back; the
//! same content asked for at the same path is one item. Not here: completing the upload (`commit`).

use super::commit::append_link;
use super::error::CatalogError;
use super::rows::{ContentColumns, md5_text, removal_of, revision_text, row_of};
use super::session::Session;
use super::{places, roster};
use tcat_engine::catalog::{CatalogRow, ChainLink, Created, NewItem, RowState};
use tcat_engine::ids::ItemId;
use tcat_engine::paths::MediaPath;

/// See [`super::Catalog::create`].
pub(super) async fn create(session: &mut Session, new: &NewItem) -> Result<Created, CatalogError> {
    if let Some(row) = row_of(session, new.item).await? {
        return Ok(Created::Row(Box::new(row)));
    }
    if removal_of(session, new.item).await?.is_some() {
        return Ok(Created::Removed);
    }
    if !roster::is_member(session, &new.author).await? {
        return Err(CatalogError::NotMember { client: new.author, workgroup: session.workgroup_id() });
    }
    if let Some(row) = same_file(session, new).await? {
        return Ok(Created::Adopted(Box::new(row)));
    }
    let path = places::assign(session, &new.asked_path, new.item).await?;
    // First, since it tells a revision that was used before from every other fault.
    append_link(session, new.item, &ChainLink { revision: new.revision, content: new.content }).await?;
    insert_media(session, new, &path).await?;
    insert_import(session, new).await?;
    roster::note_stamp(session, &new.revision).await?;
    session.announce(new.item).await?;
    match row_of(session, new.item).await? {
        Some(row) => Ok(Created::Row(Box::new(row))),
        None => Err(session.failed("the row that was just entered is not there")),
    }
}

/// The row that has the asked path and the same content. One that is being killed is none: what a person puts
/// there afterwards is a new item.
async fn same_file(session: &mut Session, new: &NewItem) -> Result<Option<CatalogRow>, CatalogError> {
    let query = sqlx::query("SELECT id FROM tcat_media WHERE catalogId = ?1 AND foldedPath = ?2");
    let query = query.bind(session.catalog()).bind(new.asked_path.folded().0);
    let Some(row) = session.fetch_optional(query).await? else { return Ok(None) };
    let item: ItemId = super::rows::Reader::new(session, &row).id("id")?;
    let row = row_of(session, item).await?;
    Ok(row.filter(|row| {
        row.content.same_as(&new.content) && matches!(row.state, RowState::Pending { .. } | RowState::Active)
    }))
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
