//! Giving items other paths: what a person's rename asks for.
//!
//! What holds always, in one transaction that has the catalog alone: a row is changed only where it stands at the path
//! that the asker saw and is not being killed; all names that change are free before the first is given, so that swaps
//! and circles come out as asked; each item gets the asked path or the next that nobody has. Asking again after a lost
//! answer changes nothing. Not here: which path is free ([`super::places`]).

use super::error::{CatalogError, is_unique_violation};
use super::session::Session;
use super::{places, roster, rows::row_of};
use std::collections::BTreeSet;
use tcat_engine::catalog::{CatalogRow, NewPlace, PLACES_MAX, Refusal, Repath, Repathed, RowState};
use tcat_engine::ids::ItemId;
use tcat_engine::paths::MediaPath;

/// How often a name is chosen anew that somebody took meanwhile. No two write to SQLite at once; a server's
/// transactions may.
const ATTEMPTS_MAX: u32 = 16;

/// See [`super::Catalog::repath`].
pub(super) async fn repath(session: &mut Session, repath: &Repath) -> Result<Repathed, CatalogError> {
    if repath.places.len() > PLACES_MAX {
        return Err(session.failed(format!("more than {PLACES_MAX} items are to be renamed at once")));
    }
    if session.epoch().await? != repath.catalog_epoch {
        return Ok(Repathed::Refused(Refusal::CatalogEpoch));
    }
    if !roster::is_member(session, &repath.author).await? {
        return Ok(Repathed::Refused(Refusal::Roster));
    }
    let mut items = BTreeSet::new();
    let mut moving = Vec::new();
    for place in repath.places.iter().filter(|place| items.insert(place.item)) {
        let row = row_of(session, place.item).await?;
        if row.is_some_and(|row| may_move(&row, place)) {
            free(session, place.item).await?;
            moving.push(place);
        }
    }
    for place in moving {
        if give(session, place).await? != place.seen {
            session.announce(place.item).await?;
        }
    }
    let mut standing = Vec::new();
    for item in items {
        standing.extend(row_of(session, item).await?);
    }
    Ok(Repathed::Rows(standing))
}

fn may_move(row: &CatalogRow, place: &NewPlace) -> bool {
    let kept = matches!(row.state, RowState::Pending { .. } | RowState::Active);
    kept && row.cache_path == place.seen && row.cache_path != place.asked
}

/// Gives the item's name up: what stands there until it gets another folds from no path.
async fn free(session: &mut Session, item: ItemId) -> Result<(), CatalogError> {
    let query = sqlx::query("UPDATE tcat_media SET foldedPath = ?3 WHERE catalogId = ?1 AND id = ?2");
    let query = query.bind(session.catalog()).bind(item.to_string()).bind(format!("/{item}"));
    session.execute(query).await.map(drop)
}

async fn give(session: &mut Session, place: &NewPlace) -> Result<MediaPath, CatalogError> {
    for _ in 0..ATTEMPTS_MAX {
        let path = places::assign(session, &place.asked, place.item).await?;
        if set(session, place.item, &path).await? {
            return Ok(path);
        }
    }
    Err(session.failed(format!("others took every name near {} meanwhile", place.asked)))
}

/// Writes the path down, under a savepoint; false if it is another item's.
async fn set(session: &mut Session, item: ItemId, path: &MediaPath) -> Result<bool, CatalogError> {
    session.execute(sqlx::query("SAVEPOINT place")).await?;
    let query =
        sqlx::query("UPDATE tcat_media SET cachePath = ?3, foldedPath = ?4 WHERE catalogId = ?1 AND id = ?2");
    let query = query
        .bind(session.catalog())
        .bind(item.to_string())
        .bind(path.as_str().to_owned())
        .bind(path.folded().0);
    let given = match session.try_execute(query).await {
        Ok(_) => true,
        Err(error) if is_unique_violation(&error) => {
            session.execute(sqlx::query("ROLLBACK TO place")).await?;
            false
        }
        Err(error) => return Err(session.explain(error)),
    };
    session.execute(sqlx::query("RELEASE place")).await?;
    Ok(given)
}
