//! Becoming host, and ceasing to be it, while the node runs.
//!
//! Always: this node is host exactly while the workgroup's catalog lies in its home under its own name, so each change
//! is one rename, and a crash at any step leaves the state before or the one after it. What was kept is put aside under
//! a dated name, never deleted. A catalog that takes another's place begins with the roster alone; all else comes back
//! from the mirrors of the members, this one's first, as to a catalog that was restored.
//!
//! Who becomes host tells so last. A host that hears of a later one answers members no more, reads its own catalog to
//! the end, so that its mirror has all that was committed there, and only then works with the other's.

use super::driver::EngineHandle;
use crate::control::ControlError;
use crate::home::Home;
use crate::host::Host;
use crate::host::keeping::Kept;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_engine::ports::Input;
use tcat_engine::roster::Standing;
use tcat_storage::catalog::{self, Catalog, CatalogError, SqliteCatalog, Successor};
use tcat_storage::objects::Objects;
use tcat_storage::platform::sync_folder;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// How long the present host may take to tell its roster.
const HOST_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether the engine has read on.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks whether a claim of another rules, beside those when one is heard.
const CLAIM_PAUSE: Duration = Duration::from_secs(5);

/// What is needed for it.
pub(super) struct Promotion {
    pub(super) me: ClientId,
    pub(super) workgroup: WorkgroupId,
    pub(super) home: Home,
    /// Where the catalog is, if a host does not keep it.
    pub(super) elsewhere: Option<String>,
    /// Whether a host keeps the objects too.
    pub(super) hosted_objects: bool,
    /// Whether the home's objects are another workgroup's too.
    pub(super) shares_objects: bool,
    pub(super) host: Host,
    /// The catalog of whoever is host.
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) engine: EngineHandle,
    /// Held while this node becomes host or ceases to be it.
    pub(super) turn: Mutex<()>,
}

/// This node has become host.
pub(super) struct Promoted {
    /// The number of the epoch that begins.
    pub(super) epoch: u64,
    /// Who was host before, where that is known.
    pub(super) before: Option<ClientId>,
    /// Whether it could be reached.
    pub(super) reached: bool,
}

fn refused(why: impl Into<String>, what_to_do: &str) -> ControlError {
    ControlError::Failed { why: why.into(), what_to_do: what_to_do.into() }
}

fn on_disk(error: impl std::fmt::Display) -> ControlError {
    refused(error.to_string(), "see that the home's disk has room and can be written, try again")
}

impl Promotion {
    /// Makes this node host.
    pub(super) async fn promote(&self) -> Result<Promoted, ControlError> {
        let _turn = self.turn.lock().await;
        if let Some(url) = &self.elsewhere {
            let why = format!("the workgroup has no host: its catalog is {url}, where all members reach it");
            return Err(refused(why, "nothing needs to be done"));
        }
        let before = self.host.finding.known().await;
        let is_mine = before.is_none_or(|before| before.client == self.me);
        if self.host.keeping.for_members().is_some() && is_mine {
            return Err(refused("this node is host already", "nothing needs to be done"));
        }
        // What the host knows now; without it, what it was heard to know last.
        let reading = self.host.mirror.read(self.catalog.as_ref(), self.me);
        let reached = timeout(HOST_PATIENCE, reading).await.is_ok_and(|read| read.is_ok());
        let mut successor = self.successor()?;
        let position = self.engine.ask(|engine| engine.feed_position()).await;
        let position = position.map_err(|_| refused("the node is stopping", "start it again"))?;
        let shown = if reached { self.catalog.epoch().await.map_or(0, |epoch| epoch.number) } else { 0 };
        let claimed = before.map_or(0, |before| before.epoch);
        successor.epoch_number = position.epoch.number.max(shown).max(claimed) + 1;
        let kept = self.make(&successor).await?;
        self.begin(kept, successor.epoch_number).await;
        Ok(Promoted { epoch: successor.epoch_number, before: before.map(|before| before.client), reached })
    }

    /// The catalog that follows: its roster must have this node.
    fn successor(&self) -> Result<Successor, ControlError> {
        let Some((workgroup, members)) = self.host.mirror.roster() else {
            return Err(refused(
                "this node has never read the workgroup's roster, so it does not know who belongs to it",
                "promote a member that has worked with the host before",
            ));
        };
        let ours = members.iter().find(|(member, _)| member.client == self.me);
        match ours.map(|(_, standing)| standing) {
            Some(Standing::Current | Standing::Absent) => {}
            Some(Standing::Retired { .. }) => {
                return Err(refused("this node was retired from the workgroup", "promote another member"));
            }
            None => {
                return Err(refused("this node is not in the workgroup's roster", "promote another member"));
            }
        }
        Ok(Successor { workgroup, epoch_number: 0, members })
    }

    /// Makes catalog and objects in the home; the catalog gets its name last.
    async fn make(&self, successor: &Successor) -> Result<Kept, ControlError> {
        let file = self.home.catalog_file();
        if file.exists() {
            self.put_catalog_aside(&file).await?;
        }
        let aside = with_ending(&file, ".new");
        for ending in ["", "-wal", "-shm"] {
            crate::home::remove_if_there(&with_ending(&aside, ending)).map_err(on_disk)?;
        }
        let folder = format!("file:{}", self.home.objects_folder().display());
        let objects = self.hosted_objects.then(|| Objects::create(&folder)).transpose().map_err(on_disk)?;
        if let Some(objects) = &objects {
            objects.check().await.map_err(on_disk)?;
        }
        SqliteCatalog::create_successor(&aside, successor).await.map_err(on_disk)?;
        rename(&aside, &file).map_err(on_disk)?;
        let url = format!("sqlite:{}", file.display());
        let catalog = catalog::open(&url, Some(self.workgroup)).await.map_err(on_disk)?;
        Ok(Kept { catalog: Some(catalog), objects })
    }

    /// What lies where the new catalog is to be: ours from before, or another workgroup's.
    async fn put_catalog_aside(&self, file: &Path) -> Result<(), ControlError> {
        let url = format!("sqlite:{}", file.display());
        match catalog::open(&url, Some(self.workgroup)).await {
            Ok(ours) => ours.close().await,
            Err(CatalogError::NoSuchWorkgroup { .. }) => {
                let why = format!("{} is the catalog of another workgroup", file.display());
                return Err(refused(why, "promote a member whose home keeps no catalog"));
            }
            Err(error) => return Err(refused(error.to_string(), "move that file away, try again")),
        }
        put_aside(file, &now_text()).map_err(on_disk)
    }

    async fn begin(&self, kept: Kept, epoch_number: u64) {
        if let Some(catalog) = &kept.catalog
            && let Ok(epoch) = catalog.epoch().await
        {
            self.host.keeping.epoch_began(epoch);
        }
        self.host.keeping.begin(kept);
        tracing::warn!("this node is host from now on, in epoch {epoch_number} of the catalog");
        self.host.finding.claim_own(epoch_number).await;
        self.look_again().await;
    }

    async fn look_again(&self) {
        // An engine that has stopped wants to know nothing more.
        let _ = self.engine.input(Input::RosterChanged).await;
        let _ = self.engine.input(Input::CatalogChanged).await;
    }

    /// Says that this node is host, if it is, and gives way to one that rules; never returns.
    pub(super) async fn watch(&self) {
        if self.host.keeping.own().is_some() {
            match self.catalog.epoch().await {
                Ok(epoch) => self.host.finding.claim_own(epoch.number).await,
                Err(error) => tracing::error!("members are not told that this node is host: {error}"),
            }
        }
        let mut news = self.host.finding.news();
        loop {
            let _ = timeout(CLAIM_PAUSE, news.changed()).await;
            let ruling = self.host.finding.known().await;
            // Who keeps objects alone has nothing that could follow another catalog.
            let keeps = self.host.keeping.own().is_some_and(|kept| kept.catalog.is_some());
            if keeps && ruling.is_some_and(|ruling| ruling.client != self.me) {
                self.give_way().await;
            }
        }
    }

    /// Another is host: this node works with its catalog from now on.
    async fn give_way(&self) {
        let _turn = self.turn.lock().await;
        let Some(by) = self.host.finding.known().await.filter(|ruling| ruling.client != self.me) else {
            return;
        };
        let Some(own) = self.host.keeping.own().and_then(|kept| kept.catalog) else { return };
        self.host.keeping.leave().await;
        tracing::warn!(
            host = by.client.short(),
            "another member is host, in epoch {}: this node gives what it kept back to it",
            by.epoch
        );
        if let Err(error) = self.host.mirror.read(own.as_ref(), self.me).await {
            tracing::warn!("the roster that this host kept cannot be read any more: {error}");
        }
        self.read_to_the_end(own.as_ref()).await;
        self.host.keeping.end();
        own.close().await;
        let now = now_text();
        let mut kept = vec![self.home.catalog_file()];
        if self.hosted_objects && !self.shares_objects {
            kept.push(self.home.objects_folder());
        }
        for path in kept {
            match put_aside(&path, &now) {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(
                        "{}: cannot be put aside: {error}; it is tried at the next start",
                        path.display()
                    );
                }
            }
        }
        self.look_again().await;
    }

    /// Waits until the engine's mirror has all that the catalog has.
    async fn read_to_the_end(&self, own: &dyn Catalog) {
        loop {
            if self.engine.input(Input::CatalogChanged).await.is_err() {
                return;
            }
            sleep(LOOK_PAUSE).await;
            let Ok(position) = self.engine.ask(|engine| engine.feed_position()).await else { return };
            match own.feed(position, 1).await {
                Ok(page) if page.changes.is_empty() && !page.more && page.through == position => return,
                Ok(_) => {}
                // The engine has never worked with this catalog, as where two were promoted at a time: who committed
                // there has it in its own mirror.
                Err(CatalogError::Restored { .. }) => return,
                Err(error) => {
                    tracing::error!("what this host kept cannot be read to its end: {error}");
                    return;
                }
            }
        }
    }
}

fn now_text() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string()
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Gives a file or folder a dated name, and what SQLite keeps beside it too.
fn put_aside(path: &Path, now: &str) -> io::Result<()> {
    let free = |number: u32| {
        with_ending(
            path,
            &format!(".{now}{}", if number == 0 { String::new() } else { format!("-{number}") }),
        )
    };
    let aside = (0..100).map(free).find(|aside| !aside.exists());
    let aside = aside.ok_or_else(|| io::Error::new(io::ErrorKind::AlreadyExists, "too many are there"))?;
    for ending in ["-wal", "-shm"] {
        let beside = with_ending(path, ending);
        if beside.exists() {
            fs::rename(&beside, with_ending(&aside, ending))?;
        }
    }
    match rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) => {
            tracing::warn!("{} is kept as {}", path.display(), aside.display());
            Ok(())
        }
        failed => failed,
    }
}

/// Renames durably.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    to.parent().map_or(Ok(()), sync_folder)
}
