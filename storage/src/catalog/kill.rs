//! The way of an item out of the catalog, and marking an object that is missing or wrong.
//!
//! What holds always: names are condemned in the transaction that has the row being killed, before anybody deletes an
//! object; the removal record enters in the transaction that takes the row out. The decisions are those of
//! [`tcat_engine::catalog_rules`]. Not here: deleting objects.

use super::commit::{committed, refused, standing};
use super::error::CatalogError;
use super::intents::{self, Intent};
use super::rows::{ContentColumns, removal_of, row_of, state_text, whole_chain};
use super::session::Session;
use tcat_engine::catalog::{CatalogRow, Committed, RemovalRecord, RowState};
use tcat_engine::catalog_orders::{Kill, Killing, Unsound};
use tcat_engine::catalog_rules::{self, KillVerdict};
use tcat_engine::ids::{ClientId, ItemId};

/// See [`super::Catalog::kill`].
pub(super) async fn kill(session: &mut Session, kill: &Kill) -> Result<Killing, CatalogError> {
    let row = row_of(session, kill.item).await?;
    let record = removal_of(session, kill.item).await?;
    let standing = standing(session, &kill.author).await?;
    let verdict = catalog_rules::kill(kill, row.as_ref(), record.is_some(), &standing);
    match (verdict, row, record) {
        (KillVerdict::Refused(why), row, _) => Ok(Killing::Refused { why, row: row.map(Box::new) }),
        (KillVerdict::Gone, _, Some(record)) => Ok(Killing::Removed(record)),
        (KillVerdict::Made, Some(row), _) => answer(session, row).await,
        (KillVerdict::Mark(state), Some(row), _) => {
            mark(session, &row, &state, row.claim_epoch).await?;
            answer_of(session, row.item).await
        }
        (KillVerdict::Condemn, Some(row), _) => {
            condemn(session, &row, kill.author).await?;
            if row.state != RowState::KillWip || row.claim_epoch != kill.claim_epoch {
                mark(session, &row, &RowState::KillWip, kill.claim_epoch).await?;
            }
            answer_of(session, row.item).await
        }
        (KillVerdict::Remove, Some(row), _) => {
            let chain = whole_chain(session, row.item).await?;
            let record = catalog_rules::removal_record(&row, &chain);
            remove(session, &record).await?;
            Ok(Killing::Removed(record))
        }
        _ => Err(session.failed("the rules named a row that is not there")),
    }
}

async fn answer_of(session: &mut Session, item: ItemId) -> Result<Killing, CatalogError> {
    match row_of(session, item).await? {
        Some(row) => answer(session, row).await,
        None => Err(session.failed("the row that is being killed is not there")),
    }
}

async fn answer(session: &mut Session, row: CatalogRow) -> Result<Killing, CatalogError> {
    let objects = match row.state {
        RowState::KillWip | RowState::KillComplete => intents::condemned_of(session, row.item).await?,
        _ => Vec::new(),
    };
    Ok(Killing::Row { row: Box::new(row), objects })
}

/// Condemns all names that the item has or may have had.
pub(super) async fn condemn(
    session: &mut Session,
    row: &CatalogRow,
    author: ClientId,
) -> Result<(), CatalogError> {
    intents::condemn_all(session, row.item).await?;
    intents::condemn(session, &intent_of(row, author)).await
}

/// A row's object, as it would be announced.
pub(super) fn intent_of(row: &CatalogRow, author: ClientId) -> Intent<'_> {
    Intent {
        object: row.object_name(),
        item: row.item,
        content: &row.content,
        generation: row.generation,
        author,
    }
}

async fn mark(
    session: &mut Session,
    row: &CatalogRow,
    state: &RowState,
    claim_epoch: u64,
) -> Result<(), CatalogError> {
    let (state, owner) = state_text(state);
    let query = sqlx::query(
        "UPDATE tcat_media SET state = ?3, owner = ?4, claimEpoch = ?5 WHERE catalogId = ?1 AND id = ?2",
    );
    let query = query.bind(session.catalog()).bind(row.item.to_string()).bind(state).bind(owner);
    session.execute(query.bind(session.integer(claim_epoch)?)).await?;
    session.announce(row.item).await
}

/// Puts a removal record in the place of the item's row, if it has one.
pub(super) async fn remove(session: &mut Session, record: &RemovalRecord) -> Result<(), CatalogError> {
    let id = record.item.to_string();
    let query = sqlx::query("DELETE FROM tcat_media WHERE catalogId = ?1 AND id = ?2");
    session.execute(query.bind(session.catalog()).bind(id.clone())).await?;
    let query = sqlx::query(
        "INSERT INTO tcat_removals (catalogId, item, cachePath, foldedPath) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (catalogId, item) DO NOTHING",
    );
    let query = query.bind(session.catalog()).bind(id.clone());
    let query = query.bind(record.cache_path.as_str().to_owned()).bind(record.cache_path.folded().0);
    session.execute(query).await?;
    let query = sqlx::query("DELETE FROM tcat_removal_contents WHERE catalogId = ?1 AND item = ?2");
    session.execute(query.bind(session.catalog()).bind(id.clone())).await?;
    for (sequence, content) in (1i64..).zip(&record.contents) {
        let content = ContentColumns::of(session, content)?;
        let query = sqlx::query(
            "INSERT INTO tcat_removal_contents (catalogId, item, sequence, md5, size, blake3) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        );
        let query = query.bind(session.catalog()).bind(id.clone()).bind(sequence);
        session.execute(query.bind(content.md5).bind(content.size).bind(content.blake3)).await?;
    }
    session.announce(record.item).await
}

/// See [`super::Catalog::unsound`].
pub(super) async fn unsound(session: &mut Session, order: &Unsound) -> Result<Committed, CatalogError> {
    let row = row_of(session, order.item).await?;
    let standing = standing(session, &order.author).await?;
    if let Err(why) = catalog_rules::unsound(order, row.as_ref(), &standing) {
        return Ok(refused(why, row));
    }
    let Some(row) = row else { return Err(session.failed("the rules named a row that is not there")) };
    intents::condemn(session, &intent_of(&row, order.author)).await?;
    let query = sqlx::query(
        "UPDATE tcat_media SET state = 'pending', owner = ?3, objectId = NULL, generation = generation + 1 \
         WHERE catalogId = ?1 AND id = ?2",
    );
    let query = query.bind(session.catalog()).bind(row.item.to_string()).bind(order.author.to_string());
    session.execute(query).await?;
    let query =
        sqlx::query("UPDATE tcat_import SET state = 'pending-repair' WHERE catalogId = ?1 AND id = ?2");
    session.execute(query.bind(session.catalog()).bind(row.item.to_string())).await?;
    session.announce(row.item).await?;
    let row = row_of(session, row.item).await?;
    committed(session, row)
}
