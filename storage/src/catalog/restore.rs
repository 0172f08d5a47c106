//! What a restored catalog gets back: a new epoch, then the facts that it lost.
//!
//! What holds always: an epoch begins only in place of the one that was seen; the union of facts only grows. The
//! decisions are those of [`tcat_engine::catalog_rules`]. Not here: finding out that the catalog was restored (`feed`
//! refuses a position that it never gave).

use super::commit::{append_link, standing, step_under};
use super::error::CatalogError;
use super::intents::{self, known};
use super::kill::{condemn, intent_of, remove};
use super::rows::{ContentColumns, md5_text, removal_of, revision_text, row_of, state_text, whole_chain};
use super::session::Session;
use super::{places, roster};
use tcat_engine::catalog::{CatalogEpoch, CatalogRow, ChainLink, FeedChange, Refusal, RowState};
use tcat_engine::catalog_orders::{NewEpoch, OFFER_FACTS_MAX, Offer, Offered};
use tcat_engine::catalog_rules::{self, Name, OfferFacts, OfferVerdict};
use tcat_engine::ids::{ClientId, hex};
use tcat_engine::planted::Sound;

/// See [`super::Catalog::new_epoch`].
pub(super) async fn new_epoch(session: &mut Session, order: &NewEpoch) -> Result<CatalogEpoch, CatalogError> {
    let standing = standing(session, &order.author).await?;
    let Some(epoch) = catalog_rules::new_epoch(order, &standing) else { return Ok(standing.epoch) };
    let query = sqlx::query("UPDATE tcat_catalogs SET epochNumber = ?2, epochId = ?3 WHERE id = ?1");
    let query = query.bind(session.catalog()).bind(session.integer(epoch.number)?).bind(hex(&epoch.id));
    session.execute(query).await?;
    Ok(epoch)
}

/// See [`super::Catalog::offer`].
pub(super) async fn offer(session: &mut Session, offer: &Offer) -> Result<Offered, CatalogError> {
    if offer.facts.len() > OFFER_FACTS_MAX {
        return Err(session.failed(format!("an offer has more than {OFFER_FACTS_MAX} facts")));
    }
    let standing = standing(session, &offer.author).await?;
    match () {
        () if standing.epoch != offer.catalog_epoch => return Ok(Offered::Refused(Refusal::CatalogEpoch)),
        () if !standing.member => return Ok(Offered::Refused(Refusal::Roster)),
        () => {}
    }
    for fact in &offer.facts {
        take(session, fact, offer.author).await?;
    }
    Ok(Offered::Taken)
}

async fn take(session: &mut Session, fact: &FeedChange, author: ClientId) -> Result<(), CatalogError> {
    let row = row_of(session, fact.item()).await?;
    let removal = removal_of(session, fact.item()).await?;
    let condemned = match fact {
        FeedChange::Row(row) => known(session, &intent_of(row, author)).await? == Name::Condemned,
        FeedChange::Removed(_) => false,
    };
    let facts = OfferFacts { row: row.as_ref(), removal: removal.as_ref(), condemned, author };
    match catalog_rules::offer(&Sound, fact, &facts) {
        OfferVerdict::Nothing => Ok(()),
        OfferVerdict::Remove(record) => {
            intents::condemn_all(session, record.item).await?;
            remove(session, &record).await
        }
        OfferVerdict::Enter(mut row) => {
            let known = whole_chain(session, row.item).await?;
            let after = known.iter().rev().find_map(|known| {
                row.chain.iter().position(|link| link.revision == known.revision).map(|at| at + 1)
            });
            let steps = row.chain.split_off(after.unwrap_or(0).min(row.chain.len()));
            row.cache_path = places::assign(session, &row.cache_path, row.item).await?;
            write(session, &row, &steps, author).await
        }
        OfferVerdict::Extend { steps, row } => write(session, &row, &steps, author).await,
    }
}

/// Writes an offered row and its lost steps, unless one of these revisions stands for something else here.
async fn write(
    session: &mut Session,
    row: &CatalogRow,
    steps: &[ChainLink],
    author: ClientId,
) -> Result<(), CatalogError> {
    for link in steps {
        if step_under(session, &link.revision).await?.is_some() {
            return Ok(());
        }
    }
    for link in steps {
        append_link(session, row.item, link).await?;
        roster::note_stamp(session, &link.revision).await?;
    }
    put_media(session, row).await?;
    put_import(session, row).await?;
    match row.state {
        RowState::Active => {
            let intent = intent_of(row, author);
            if matches!(known(session, &intent).await?, Name::Free | Name::Intent) {
                intents::make_live(session, &intent).await?;
            }
        }
        RowState::KillWip | RowState::KillComplete => condemn(session, row, author).await?,
        RowState::Pending { .. } | RowState::KillRequest => {}
    }
    session.announce(row.item).await
}

async fn put_media(session: &mut Session, row: &CatalogRow) -> Result<(), CatalogError> {
    let content = ContentColumns::of(session, &row.content)?;
    let (state, owner) = state_text(&row.state);
    let query = sqlx::query(
        "INSERT INTO tcat_media (catalogId, id, virtualPath, contentType, state, md5, owner, revision, size, \
         blake3, objectId, generation, cachePath, foldedPath, claimEpoch, upload, versionOf) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
         ON CONFLICT (catalogId, id) DO UPDATE SET state = excluded.state, md5 = excluded.md5, \
         owner = excluded.owner, revision = excluded.revision, size = excluded.size, blake3 = excluded.blake3, \
         objectId = excluded.objectId, generation = excluded.generation, claimEpoch = excluded.claimEpoch, \
         upload = excluded.upload",
    );
    let query = query
        .bind(session.catalog())
        .bind(row.item.to_string())
        .bind(row.virtual_path.clone())
        .bind(row.content_type.clone())
        .bind(state)
        .bind(content.md5)
        .bind(owner)
        .bind(revision_text(&row.revision))
        .bind(content.size)
        .bind(content.blake3)
        .bind(row.object.map(|object| object.to_string()))
        .bind(i64::from(row.generation))
        .bind(row.cache_path.as_str().to_owned())
        .bind(row.cache_path.folded().0)
        .bind(session.integer(row.claim_epoch)?)
        .bind(i64::from(row.upload))
        .bind(row.version_of.map(|item| item.to_string()));
    session.execute(query).await.map(drop)
}

/// How the item came in is lost with the restored rows; what can be said of it is entered.
async fn put_import(session: &mut Session, row: &CatalogRow) -> Result<(), CatalogError> {
    let state = if matches!(row.state, RowState::Pending { .. }) { "pending-repair" } else { "complete" };
    let first = row.chain.first().map_or(row.content, |link| link.content);
    let query = sqlx::query(
        "INSERT INTO tcat_import (catalogId, id, state, md5, sourceServer, sourcePath, uploadDate, source) \
         VALUES (?1, ?2, ?3, ?4, '', ?5, NULL, '') ON CONFLICT (catalogId, id) DO UPDATE SET state = excluded.state",
    );
    let query = query
        .bind(session.catalog())
        .bind(row.item.to_string())
        .bind(state)
        .bind(md5_text(&first.md5))
        .bind(row.virtual_path.clone());
    session.execute(query).await.map(drop)
}
