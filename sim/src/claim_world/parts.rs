//! Clocks that drift, and rows as the cloud has them from the beginning.

use tcat_engine::catalog::{CatalogRow, ChainLink, Revision, RowState};
use tcat_engine::clock::{Dot, Incarnation, Stamp};
use tcat_engine::content::Content;
use tcat_engine::ids::{ClientId, ItemId};
use tcat_engine::paths::MediaPath;

pub(super) fn drifted(ms: u64, permille: i64) -> u64 {
    ms.saturating_add_signed((ms / 1000) as i64 * permille)
}

/// The earliest time at which a drifting clock shows at least `ms`.
pub(super) fn undrifted(ms: u64, permille: i64) -> u64 {
    if permille == 0 || ms == u64::MAX {
        return ms;
    }
    let mut at_ms = (u128::from(ms) * 1000 / (1000 + permille).unsigned_abs() as u128) as u64;
    while drifted(at_ms, permille) < ms {
        at_ms += 1;
    }
    at_ms
}

pub(super) fn row(n: usize, content: Content) -> CatalogRow {
    let item = ItemId::derive("tcat 1 import", &[&(n as u64).to_le_bytes()]);
    let stamp = Stamp { incarnation: Incarnation(1), counter: n as u64 + 1 };
    let revision = Revision(Dot { client: ClientId([200; 32]), stamp });
    let Ok(cache_path) = MediaPath::parse(&format!("{n}.jpg")) else { panic!("a path that is none") };
    CatalogRow {
        item,
        state: RowState::Active,
        revision,
        content,
        object: None,
        generation: 0,
        virtual_path: cache_path.to_string(),
        cache_path,
        content_type: "image/jpeg".into(),
        claim_epoch: 0,
        upload: true,
        version_of: None,
        chain: vec![ChainLink { revision, content }],
    }
}
