//! Does each item of the catalog that this node keeps have its object among those that it keeps?
//!
//! Not where this node became host a moment ago, or where one of the two was restored from a backup: then the catalog is
//! told, and whoever holds the content brings it, as with every object that is missing. Always: only what the feed shows
//! as committed is looked for, and a store that cannot be read proves nothing. Left out: what is in an object, which is
//! hashed by whoever fetches it.

use super::Host;
use super::keeping::Kept;
use std::time::Duration;
use tcat_engine::catalog::{CatalogRow, FeedChange, FeedPosition, RowState};
use tcat_engine::catalog_orders::Unsound;
use tcat_engine::ids::ClientId;
use tcat_storage::catalog::{Catalog, CatalogError};
use tcat_storage::objects::Objects;
use tokio::time::{sleep, timeout};

/// Changes looked at in one step.
const PAGE: usize = 200;
/// How long nothing is looked at after a failure, or while nothing changes.
const PAUSE: Duration = Duration::from_secs(5);

/// Looks at what is there, then at each change; never returns.
pub async fn watch(host: Host) {
    let mut position = FeedPosition::default();
    loop {
        let changed = host.keeping.changed.notified();
        let Some(Kept { catalog: Some(catalog), objects: Some(objects) }) = host.keeping.for_members() else {
            position = FeedPosition::default();
            let _ = timeout(PAUSE, changed).await;
            continue;
        };
        match look(host.finding.me(), catalog.as_ref(), &objects, position).await {
            Ok(Looked { through, more, unsound }) => {
                position = through;
                if unsound > 0 {
                    tracing::warn!("{unsound} items have no object here; whoever holds a content brings it");
                    host.keeping.changed.notify_waiters();
                }
                if !more {
                    let _ = timeout(PAUSE, changed).await;
                }
            }
            Err(why) => {
                tracing::debug!("objects are not looked for now: {why}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// What one step found.
struct Looked {
    through: FeedPosition,
    more: bool,
    unsound: usize,
}

async fn look(
    me: ClientId,
    catalog: &dyn Catalog,
    objects: &Objects,
    after: FeedPosition,
) -> Result<Looked, String> {
    let page = match catalog.feed(after, PAGE).await {
        Err(CatalogError::Restored { .. }) => catalog.feed(FeedPosition::default(), PAGE).await,
        page => page,
    };
    let page = page.map_err(|error| error.to_string())?;
    let mut unsound = 0;
    for change in &page.changes {
        if let FeedChange::Row(row) = change
            && row.state == RowState::Active
            && objects.head(row.object_name()).await.map_err(|error| error.to_string())?.is_none()
        {
            let order = order(me, row, page.through);
            catalog.unsound(&order).await.map_err(|error| error.to_string())?;
            unsound += 1;
        }
    }
    Ok(Looked { through: page.through, more: page.more, unsound })
}

fn order(me: ClientId, row: &CatalogRow, through: FeedPosition) -> Unsound {
    Unsound {
        item: row.item,
        revision: row.revision,
        object: row.object_name(),
        catalog_epoch: through.epoch,
        author: me,
    }
}
