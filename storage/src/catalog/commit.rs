//! Committing an edit or the completion of an upload: the one place where order is decided.
//!
//! What holds always: the decision is that of [`tcat_engine::catalog_rules`], over facts of one transaction that has
//! the catalog alone; then row, chain, object, import and feed change together. A commit that was made before is
//! answered as made, whatever has changed since. Not here: the decision, and which commit to make (the engine's).

use super::error::{CatalogError, is_unique_violation};
use super::intents;
use super::roster;
use super::rows::{ContentColumns, Reader, revision_text, row_of};
use super::session::{Session, now_text};
use tcat_engine::catalog::{CatalogRow, ChainLink, Commit, Committed, Refusal, Revision};
use tcat_engine::catalog_rules::{self, CommitFacts, CommitVerdict, Name, Standing};
use tcat_engine::ids::{ClientId, ItemId};
use tcat_engine::planted::Sound;

/// The longest line that one commit may carry.
pub(super) const LINE_LINKS_MAX: usize = 4096;

/// See [`super::Catalog::commit`].
pub(super) async fn commit(session: &mut Session, commit: &Commit) -> Result<Committed, CatalogError> {
    if commit.line.len() > LINE_LINKS_MAX {
        return Err(session.failed(format!("the line has more than {LINE_LINKS_MAX} steps")));
    }
    let row = row_of(session, commit.item).await?;
    let last_step = match commit.line.last() {
        Some(last) => step_under(session, &last.revision).await?,
        None => None,
    };
    let content = catalog_rules::commit_content(commit, row.as_ref()).map(|(_, last)| last.content);
    let as_intended = content.as_ref().map(|content| intents::Intent {
        object: commit.object,
        item: commit.item,
        content,
        generation: commit.generation,
        author: commit.author,
    });
    let name = match &as_intended {
        Some(intent) => intents::known(session, intent).await?,
        None => Name::Free,
    };
    let standing = standing(session, &commit.author).await?;
    let facts = CommitFacts { row: row.as_ref(), last_step, standing, name };
    match (catalog_rules::commit(&Sound, commit, &facts), as_intended) {
        (CommitVerdict::Enter { steps, last }, Some(intent)) => {
            intents::make_live(session, &intent).await?;
            for link in steps {
                append_link(session, commit.item, link).await?;
                roster::note_stamp(session, &link.revision).await?;
            }
            activate(session, commit, &last).await?;
            session.announce(commit.item).await?;
            let row = row_of(session, commit.item).await?;
            committed(session, row)
        }
        (CommitVerdict::Refused(why), _) => Ok(refused(why, row)),
        (CommitVerdict::RevisionReused(revision), _) => Err(CatalogError::RevisionReused { revision }),
        (CommitVerdict::NameTaken, _) => Err(CatalogError::ObjectTaken { object: commit.object }),
        (CommitVerdict::Made | CommitVerdict::Enter { .. }, _) => committed(session, row),
    }
}

/// What every order is judged by.
pub(super) async fn standing(session: &mut Session, author: &ClientId) -> Result<Standing, CatalogError> {
    Ok(Standing { epoch: session.epoch().await?, member: roster::is_member(session, author).await? })
}

pub(super) fn committed(session: &Session, row: Option<CatalogRow>) -> Result<Committed, CatalogError> {
    match row {
        Some(row) => Ok(Committed::Row(Box::new(row))),
        None => Err(session.failed("the row that was just committed is not there")),
    }
}

pub(super) fn refused(why: Refusal, row: Option<CatalogRow>) -> Committed {
    Committed::Refused { why, row: row.map(Box::new) }
}

/// The item and step that the catalog has under a revision.
pub(super) async fn step_under(
    session: &mut Session,
    revision: &Revision,
) -> Result<Option<(ItemId, ChainLink)>, CatalogError> {
    let query = sqlx::query(
        "SELECT item, revision, md5, size, blake3 FROM tcat_chain WHERE catalogId = ?1 AND revision = ?2",
    );
    let query = query.bind(session.catalog()).bind(revision_text(revision));
    let Some(found) = session.fetch_optional(query).await? else { return Ok(None) };
    let reader = Reader::new(session, &found);
    Ok(Some((reader.id("item")?, reader.link()?)))
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

/// The last step of an item's chain, and its number there.
pub(super) async fn chain_end(
    session: &mut Session,
    item: ItemId,
) -> Result<Option<(u64, ChainLink)>, CatalogError> {
    let query = sqlx::query(
        "SELECT sequence, revision, md5, size, blake3 FROM tcat_chain WHERE catalogId = ?1 AND item = ?2 \
         ORDER BY sequence DESC LIMIT 1",
    );
    let query = query.bind(session.catalog()).bind(item.to_string());
    let Some(row) = session.fetch_optional(query).await? else { return Ok(None) };
    let reader = Reader::new(session, &row);
    Ok(Some((reader.unsigned("sequence")?, reader.link()?)))
}

/// Enters one step at the end of the item's chain; one that is its end already stays.
pub(super) async fn append_link(
    session: &mut Session,
    item: ItemId,
    link: &ChainLink,
) -> Result<(), CatalogError> {
    let mut sequence = 1;
    if let Some((last, present)) = chain_end(session, item).await? {
        if present.revision == link.revision && present.content.same_as(&link.content) {
            return Ok(());
        }
        sequence = session.integer(last)?.saturating_add(1);
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
