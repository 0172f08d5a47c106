//! Reading the feed: what changed after a position, each item as it stands now.
//!
//! What holds always: a page and the position after it come from one state of the catalog; a reader that
//! starts at zero and goes on from each page's position sees every item's last state. A position that this
//! life of the catalog did not give is refused, never answered from a guess. Not here: beginning a new epoch.

use super::error::CatalogError;
use super::rows::{Reader, media_columns};
use super::session::Session;
use std::collections::{BTreeMap, BTreeSet};
use tcat_engine::catalog::{
    CHAIN_LINKS_MAX, CatalogEpoch, ChainLink, FeedChange, FeedPage, FeedPosition, RemovalRecord,
};
use tcat_engine::catalog_rules;
use tcat_engine::content::Content;
use tcat_engine::ids::ItemId;
use tcat_engine::planted::Sound;

/// The most feed rows that one page covers.
pub const FEED_PAGE_MAX: usize = 1000;

/// The feed rows of one page.
struct Window {
    after: i64,
    through: FeedPosition,
    /// Each item once, in the order of its last change in the page.
    items: Vec<ItemId>,
    more: bool,
}

/// One page of the feed; see [`super::Catalog::feed`].
pub(super) async fn page(
    session: &mut Session,
    after: FeedPosition,
    limit: usize,
) -> Result<FeedPage, CatalogError> {
    let epoch = session.epoch().await?;
    if !is_ours(session, &after, epoch).await? {
        return Err(CatalogError::Restored { epoch });
    }
    let window = window(session, after.number, epoch, limit.clamp(1, FEED_PAGE_MAX)).await?;
    let mut standing = rows_in(session, &window).await?;
    for (item, record) in removals_in(session, &window).await? {
        standing.entry(item).or_insert(FeedChange::Removed(record));
    }
    let changes = window.items.iter().filter_map(|item| standing.remove(item)).collect();
    Ok(FeedPage { changes, through: window.through, more: window.more })
}

/// Whether this life of the catalog gave the position.
async fn is_ours(
    session: &mut Session,
    after: &FeedPosition,
    epoch: CatalogEpoch,
) -> Result<bool, CatalogError> {
    let found = match i64::try_from(after.number) {
        Ok(number) if number > 0 => {
            let query = sqlx::query("SELECT id FROM tcat_feed WHERE catalogId = ?1 AND number = ?2");
            let row = session.fetch_optional(query.bind(session.catalog()).bind(number)).await?;
            row.map(|row| Reader::new(session, &row).random_id("id")).transpose()?
        }
        _ => None,
    };
    Ok(catalog_rules::gave_position(&Sound, after, epoch, found))
}

async fn window(
    session: &mut Session,
    after: u64,
    epoch: CatalogEpoch,
    limit: usize,
) -> Result<Window, CatalogError> {
    let after_number = session.integer(after)?;
    let query = sqlx::query(
        "SELECT number, id, item FROM tcat_feed WHERE catalogId = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
    );
    // One more than asked for tells whether the feed goes on.
    let query = query.bind(session.catalog()).bind(after_number).bind(limit as i64 + 1);
    let mut rows = session.fetch_all(query).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let mut seen = BTreeSet::new();
    let mut items = Vec::new();
    for row in rows.iter().rev() {
        let item = Reader::new(session, row).id("item")?;
        if seen.insert(item) {
            items.push(item);
        }
    }
    items.reverse();
    let through = match rows.last() {
        Some(row) => {
            let reader = Reader::new(session, row);
            FeedPosition { epoch, number: reader.unsigned("number")?, id: reader.random_id("id")? }
        }
        None => FeedPosition { epoch, number: after, id: last_id(session, after_number).await? },
    };
    Ok(Window { after: after_number, through, items, more })
}

/// The id of the feed row that was read last; zero before the first.
async fn last_id(session: &mut Session, number: i64) -> Result<[u8; 16], CatalogError> {
    let query = sqlx::query("SELECT id FROM tcat_feed WHERE catalogId = ?1 AND number = ?2");
    let query = query.bind(session.catalog()).bind(number);
    match session.fetch_optional(query).await? {
        Some(row) => Reader::new(session, &row).random_id("id"),
        None => Ok([0; 16]),
    }
}

async fn rows_in(
    session: &mut Session,
    window: &Window,
) -> Result<BTreeMap<ItemId, FeedChange>, CatalogError> {
    let mut chains = chains_in(session, window).await?;
    let sql = concat!(
        "SELECT ",
        media_columns!(),
        " FROM tcat_media WHERE catalogId = ?1 AND id IN \
         (SELECT item FROM tcat_feed WHERE catalogId = ?1 AND number > ?2 AND number <= ?3)"
    );
    let mut standing = BTreeMap::new();
    for row in session.fetch_all(bound(session, sql, window)?).await? {
        let reader = Reader::new(session, &row);
        let item = reader.id("id")?;
        let row = reader.media(chains.remove(&item).unwrap_or_default())?;
        standing.insert(item, FeedChange::Row(Box::new(row)));
    }
    Ok(standing)
}

/// The newest links of each item's chain, oldest first.
async fn chains_in(
    session: &mut Session,
    window: &Window,
) -> Result<BTreeMap<ItemId, Vec<ChainLink>>, CatalogError> {
    let sql = "SELECT item, revision, md5, size, blake3 FROM tcat_chain AS link \
               WHERE catalogId = ?1 AND item IN \
               (SELECT item FROM tcat_feed WHERE catalogId = ?1 AND number > ?2 AND number <= ?3) \
               AND sequence > ?4 + \
               (SELECT max(sequence) FROM tcat_chain WHERE catalogId = ?1 AND item = link.item) \
               ORDER BY item, sequence";
    let query = bound(session, sql, window)?.bind(-(CHAIN_LINKS_MAX as i64));
    let mut chains: BTreeMap<ItemId, Vec<ChainLink>> = BTreeMap::new();
    for row in session.fetch_all(query).await? {
        let reader = Reader::new(session, &row);
        chains.entry(reader.id("item")?).or_default().push(reader.link()?);
    }
    Ok(chains)
}

async fn removals_in(
    session: &mut Session,
    window: &Window,
) -> Result<BTreeMap<ItemId, RemovalRecord>, CatalogError> {
    let sql = "SELECT item, md5, size, blake3 FROM tcat_removal_contents WHERE catalogId = ?1 AND item IN \
               (SELECT item FROM tcat_feed WHERE catalogId = ?1 AND number > ?2 AND number <= ?3) \
               ORDER BY item, sequence";
    let mut contents: BTreeMap<ItemId, Vec<Content>> = BTreeMap::new();
    for row in session.fetch_all(bound(session, sql, window)?).await? {
        let reader = Reader::new(session, &row);
        contents.entry(reader.id("item")?).or_default().push(reader.content()?);
    }
    let sql = "SELECT item, cachePath FROM tcat_removals WHERE catalogId = ?1 AND item IN \
               (SELECT item FROM tcat_feed WHERE catalogId = ?1 AND number > ?2 AND number <= ?3)";
    let mut removals = BTreeMap::new();
    for row in session.fetch_all(bound(session, sql, window)?).await? {
        let reader = Reader::new(session, &row);
        let item = reader.id("item")?;
        let contents = contents.remove(&item).unwrap_or_default();
        removals.insert(item, RemovalRecord { item, cache_path: reader.path()?, contents });
    }
    Ok(removals)
}

/// `sql` with the catalog, the number before the page and its last number bound.
fn bound(
    session: &Session,
    sql: &'static str,
    window: &Window,
) -> Result<super::session::Bound<'static>, CatalogError> {
    let through = session.integer(window.through.number)?;
    Ok(sqlx::query(sql).bind(session.catalog()).bind(window.after).bind(through))
}
