//! Committing an edit or the completion of an upload: the one place where order is decided.
//!
//! What holds always, in one transaction that has the catalog alone: the row stands at the base; it is not
//! being killed; no later claim has committed; the catalog is the one that the committer read; the committer
//! is a member; the object's name is not condemned. Then row, chain, object, import and feed change together.
//! A commit that was made before is answered as made, whatever has changed since. Not here: which commit to
//! make (the engine's).

use super::error::{CatalogError, is_unique_violation};
use super::intents::{self, Known};
use super::roster;
use super::rows::{ContentColumns, Reader, revision_text, row_of};
use super::session::{Session, now_text};
use tcat_engine::catalog::{CatalogRow, ChainLink, Commit, Committed, Refusal, RowState};
use tcat_engine::ids::ItemId;

/// The longest line that one commit may carry.
pub(super) const LINE_LINKS_MAX: usize = 4096;

/// See [`super::Catalog::commit`].
pub(super) async fn commit(session: &mut Session, commit: &Commit) -> Result<Committed, CatalogError> {
    if commit.line.len() > LINE_LINKS_MAX {
        return Err(session.failed(format!("the line has more than {LINE_LINKS_MAX} steps")));
    }
    let row = row_of(session, commit.item).await?;
    if let Some(row) = row.as_ref().filter(|row| !being_killed(row))
        && was_made(session, commit, row).await?
    {
        return Ok(Committed::Row(Box::new(row.clone())));
    }
    let row = match admissible(session, commit, row).await? {
        Ok(row) => row,
        Err(refused) => return Ok(refused),
    };
    // A line may begin before its base where the base was one of its own steps: what is committed stays as it
    // is.
    let known = commit.line.iter().position(|link| link.revision == commit.base);
    let line = commit.line.get(known.map_or(0, |index| index + 1)..).unwrap_or_default();
    let last = line.last().copied().unwrap_or(ChainLink { revision: row.revision, content: row.content });
    let as_intended = intents::Intent {
        object: commit.object,
        item: commit.item,
        content: &last.content,
        generation: commit.generation,
        author: commit.author,
    };
    if intents::known(session, &as_intended).await? == Known::Condemned {
        return Ok(refused(Refusal::Condemned, Some(row)));
    }
    if line.is_empty() && row.state == RowState::Active && commit.generation <= row.generation {
        // Another upload of the same content was completed before: the row is as wanted, ours is not needed.
        return Ok(Committed::Row(Box::new(row)));
    }
    intents::make_live(session, &as_intended).await?;
    for link in line {
        append_link(session, commit.item, link).await?;
        roster::note_stamp(session, &link.revision).await?;
    }
    activate(session, commit, &last).await?;
    session.announce(commit.item).await?;
    match row_of(session, commit.item).await? {
        Some(row) => Ok(Committed::Row(Box::new(row))),
        None => Err(session.failed("the row that was just committed is not there")),
    }
}

/// Whether an earlier attempt of this very commit succeeded and only its answer was lost.
async fn was_made(session: &mut Session, commit: &Commit, row: &CatalogRow) -> Result<bool, CatalogError> {
    let Some(last) = commit.line.last() else {
        let same_object = row.object_name() == commit.object && row.generation == commit.generation;
        return Ok(row.revision == commit.base && row.state == RowState::Active && same_object);
    };
    let query = sqlx::query(
        "SELECT item, revision, md5, size, blake3 FROM tcat_chain WHERE catalogId = ?1 AND revision = ?2",
    );
    let query = query.bind(session.catalog()).bind(revision_text(&last.revision));
    let Some(found) = session.fetch_optional(query).await? else { return Ok(false) };
    let reader = Reader::new(session, &found);
    let (item, link): (ItemId, _) = (reader.id("item")?, reader.link()?);
    if item != commit.item || !link.content.same_as(&last.content) {
        return Err(CatalogError::RevisionReused { revision: last.revision });
    }
    // The last step is the base itself: nothing new is offered, so this is the completion of an upload.
    Ok(last.revision != commit.base || row.state == RowState::Active)
}

/// The row that the commit may change, or the refusal.
async fn admissible(
    session: &mut Session,
    commit: &Commit,
    row: Option<CatalogRow>,
) -> Result<Result<CatalogRow, Committed>, CatalogError> {
    if session.epoch().await? != commit.catalog_epoch {
        return Ok(Err(refused(Refusal::CatalogEpoch, row)));
    }
    if !roster::is_member(session, &commit.author).await? {
        return Ok(Err(refused(Refusal::Roster, row)));
    }
    Ok(match row {
        None => Err(refused(Refusal::Killed, None)),
        Some(row) if being_killed(&row) => Err(refused(Refusal::Killed, Some(row))),
        Some(row) if row.revision != commit.base => Err(refused(Refusal::Revision, Some(row))),
        Some(row) if row.claim_epoch > commit.claim_epoch => Err(refused(Refusal::ClaimEpoch, Some(row))),
        Some(row) => Ok(row),
    })
}

fn being_killed(row: &CatalogRow) -> bool {
    matches!(row.state, RowState::KillRequest | RowState::KillWip | RowState::KillComplete)
}

fn refused(why: Refusal, row: Option<CatalogRow>) -> Committed {
    Committed::Refused { why, row: row.map(Box::new) }
}

/// Makes the row active with `last` as its content, in the object that the commit names.
async fn activate(session: &mut Session, commit: &Commit, last: &ChainLink) -> Result<(), CatalogError> {
    let content = ContentColumns::of(session, &last.content)?;
    let query = sqlx::query(
        "UPDATE tcat_media SET state = 'active', owner = NULL, revision = ?3, md5 = ?4, size = ?5, blake3 = ?6, \
         objectId = ?7, generation = ?8, claimEpoch = ?9 WHERE catalogId = ?1 AND id = ?2",
    );
    let query = query
        .bind(session.catalog())
        .bind(commit.item.to_string())
        .bind(revision_text(&last.revision))
        .bind(content.md5)
        .bind(content.size)
        .bind(content.blake3)
        .bind(commit.object.to_string())
        .bind(i64::from(commit.generation))
        .bind(session.integer(commit.claim_epoch)?);
    session.execute(query).await?;
    let query = sqlx::query(
        "UPDATE tcat_import SET state = 'complete', uploadDate = ?3 \
         WHERE catalogId = ?1 AND id = ?2 AND state <> 'complete'",
    );
    let query = query.bind(session.catalog()).bind(commit.item.to_string()).bind(now_text());
    session.execute(query).await.map(drop)
}

/// Enters one step at the end of the item's chain; one that is its end already stays.
pub(super) async fn append_link(
    session: &mut Session,
    item: ItemId,
    link: &ChainLink,
) -> Result<(), CatalogError> {
    let end = sqlx::query(
        "SELECT sequence, revision, md5, size, blake3 FROM tcat_chain WHERE catalogId = ?1 AND item = ?2 \
         ORDER BY sequence DESC LIMIT 1",
    );
    let end = session.fetch_optional(end.bind(session.catalog()).bind(item.to_string())).await?;
    let mut sequence = 1;
    if let Some(row) = &end {
        let reader = Reader::new(session, row);
        let present = reader.link()?;
        if present.revision == link.revision && present.content.same_as(&link.content) {
            return Ok(());
        }
        sequence = session.integer(reader.unsigned("sequence")?)?.saturating_add(1);
    }
    let content = ContentColumns::of(session, &link.content)?;
    let query = sqlx::query(
        "INSERT INTO tcat_chain (catalogId, item, sequence, revision, md5, size, blake3) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    );
    let query = query
        .bind(session.catalog())
        .bind(item.to_string())
        .bind(sequence)
        .bind(revision_text(&link.revision))
        .bind(content.md5)
        .bind(content.size)
        .bind(content.blake3);
    match session.try_execute(query).await {
        Ok(_) => Ok(()),
        Err(error) if is_unique_violation(&error) => {
            Err(CatalogError::RevisionReused { revision: link.revision })
        }
        Err(error) => Err(session.explain(error)),
    }
}
