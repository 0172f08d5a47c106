//! What members may fetch from us: any content that a file of ours holds, by its BLAKE3.

use super::driver::EngineHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tcat_engine::content::Blake3;
use tcat_engine::outboard::{Outboard, group_count};
use tcat_net::{ContentSource, SourceContent};
use tcat_storage::cache_folder::CacheFolder;
use tcat_storage::client_database::ClientDatabase;
use tcat_storage::hashing::hash_file;
use tcat_storage::platform::open_beneath;

/// Finds a content's file and opens it.
pub(super) struct Serving {
    engine: EngineHandle,
    folder: Arc<CacheFolder>,
    client_database: Arc<ClientDatabase>,
    /// Bytes of the contents that members asked for.
    pub(super) lan_out: AtomicU64,
}

impl Serving {
    pub(super) fn new(
        engine: EngineHandle,
        folder: Arc<CacheFolder>,
        client_database: Arc<ClientDatabase>,
    ) -> Self {
        Self { engine, folder, client_database, lan_out: AtomicU64::new(0) }
    }

    fn outboard(&self, blake3: &Blake3, size: u64, path: &std::path::Path) -> Option<Outboard> {
        if group_count(size) == 1 {
            return Some(Outboard { size, groups: vec![blake3.0] });
        }
        if let Ok(Some(outboard)) = self.client_database.outboard(*blake3) {
            return Some(outboard);
        }
        let hashed = hash_file(path, &|| false).ok()?;
        let right = hashed.content.blake3 == Some(*blake3);
        if let Err(error) = self.client_database.store_outboard(&hashed.outboard) {
            tracing::warn!("{error}");
        }
        right.then_some(hashed.outboard)
    }
}

impl ContentSource for Serving {
    fn open(&self, blake3: &Blake3) -> Option<SourceContent> {
        let wanted = *blake3;
        let held = self.engine.ask_blocking(move |engine| engine.held_path(&wanted)).ok()?;
        let (path, content) = match held {
            Ok(held) => held?,
            Err(error) => {
                tracing::error!("{error}");
                return None;
            }
        };
        let outboard = self.outboard(blake3, content.size, &self.folder.place_of(&path))?;
        let file = open_beneath(self.folder.root(), &path).ok()?;
        self.lan_out.fetch_add(content.size, Ordering::Relaxed);
        Some(SourceContent { file, outboard })
    }
}
