//! The running node: one engine for each workgroup, and everything that does what it orders.
//!
//! The engine lives on a thread of its own (`driver`) and is fed through one bounded queue. What it puts out goes to
//! the network, to `effects` (storage and transfers) and to `scanning`; what those find comes back as inputs. Nothing
//! here decides anything about items.

mod control;
mod door;
mod driver;
mod effects;
mod events;
mod keys;
mod promoting;
mod scanning;
mod serving;

use crate::api_server::Served;
use crate::commands::run::RunningNode;
use crate::host::finding::Finding;
use crate::host::keeping::Keeping;
use crate::host::{Host, soundness};
use crate::invitations::InvitationBook;
use crate::output::Failure;
use crate::refusals::{Misdeed, Refusals};
use crate::settings::{NodeSettings, Stores, WorkgroupSettings};
use crate::ticket::Ticket;
use async_trait::async_trait;
use control::GroupControl;
use door::{Admitting, Door};
use driver::{Driver, EngineHandle, Outside};
use effects::Effects;
use events::Events;
use futures::future::select_all;
use keys::KeyFile;
use promoting::Promotion;
use scanning::{ScanRequests, Scanning};
use serving::Serving;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tcat_engine::batch::Signature;
use tcat_engine::claims::Lease;
use tcat_engine::engine::{BrakeLimits, Config as EngineConfig};
use tcat_engine::ids::ClientId;
use tcat_engine::message::{Message, PROTOCOL_VERSION};
use tcat_engine::observation::FileStat;
use tcat_engine::ports::Input;
use tcat_net::{Identity, Keys, Net, NetConfig, NetEvent, NetHandle};
use tcat_storage::cache_folder::{CacheFolder, FolderError, KeptFromTrash, Recovered};
use tcat_storage::catalog::Catalog;
use tcat_storage::client_database::ClientDatabase;
use tcat_storage::objects::Objects;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// How often the times of files in trash are looked at.
const TRASH_LOOK: Duration = Duration::from_secs(30);
/// How often what nobody needs any more is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(6 * 3600);
/// A transfer that nobody has written to for so long was given up.
const GIVEN_UP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the engine listens after staking a claim.
const LISTEN_MS: u64 = 150;
/// How often the feed is read while nothing hints at a change.
const POLL_MS: u64 = 1_000;

/// Opens everything and starts all workgroups of a node.
pub async fn start(settings: NodeSettings) -> Result<Box<dyn RunningNode>, Failure> {
    for key in settings.config.without_effect() {
        tracing::warn!("{key} in config.toml is set, but this version of tcat does not act on it yet");
    }
    let client_database = Arc::new(settings.open_client_database()?);
    let mut groups = Vec::new();
    for group in &settings.workgroups {
        match Group::start(&settings, group, Arc::clone(&client_database)).await {
            Ok(started) => groups.push(started),
            Err(failure) => {
                for group in groups {
                    Group::stop(group).await;
                }
                return Err(failure);
            }
        }
    }
    Ok(Box::new(Node { groups }))
}

struct Node {
    groups: Vec<Group>,
}

#[async_trait]
impl RunningNode for Node {
    fn served(&self) -> Vec<Served> {
        let served = |group: &Group| Served {
            id: group.id.clone(),
            name: group.name.clone(),
            control: group.control.clone(),
        };
        self.groups.iter().map(served).collect()
    }

    async fn failed(&mut self) -> Failure {
        let ends = self.groups.iter_mut().map(|group| Box::pin(group.failed()));
        select_all(ends).await.0
    }

    async fn stop(self: Box<Self>) {
        for group in self.groups {
            group.stop().await;
        }
    }
}

/// One running workgroup.
struct Group {
    id: String,
    name: String,
    control: Arc<GroupControl>,
    engine: EngineHandle,
    driver: std::thread::JoinHandle<()>,
    failure: oneshot::Receiver<String>,
    net: NetHandle,
    scanning: Scanning,
    catalog: Arc<dyn Catalog>,
    helpers: tokio::task::JoinSet<()>,
}

impl Group {
    async fn start(
        settings: &NodeSettings,
        group: &WorkgroupSettings,
        client_database: Arc<ClientDatabase>,
    ) -> Result<Self, Failure> {
        let Stores { catalog, objects, host, mut folder, database, old_root } =
            group.open(&settings.identity).await?;
        folder.set_author_name(&settings.config.name);
        let folder = Arc::new(folder);
        let recovered = recover(Arc::clone(&folder)).await?;
        let me = settings.identity.client_id();
        let (engine, commands) = EngineHandle::new();
        let serving =
            Arc::new(Serving::new(engine.clone(), Arc::clone(&folder), Arc::clone(&client_database)));
        let admitting = Admitting { catalog: Arc::clone(&catalog), engine: engine.clone() };
        let keys = Keys::new(
            settings.identity.clone(),
            group.keys.clone(),
            Box::new(KeyFile(group.key_file.clone())),
        );
        let book =
            Arc::new(InvitationBook::new(ticket(group), Arc::clone(&keys), admitting, Handle::current()));
        let refusals = Arc::clone(&host.refusals);
        let (net, net_events) = start_net(
            settings,
            group,
            &keys,
            &serving,
            Door(engine.clone(), Arc::clone(&keys)),
            &book,
            host.clone(),
        )
        .await?;
        host.finding.connect(net.clone(), Arc::new(Door(engine.clone(), Arc::clone(&keys))));
        refusals.connect(net.clone());
        let scanning = Scanning::start(
            engine.clone(),
            folder.root(),
            Arc::clone(&client_database),
            settings.config.scan.quiet_ms,
            settings.config.limits.hashes,
        )
        .await?;
        let events = Arc::new(Events::new(Arc::clone(&refusals)));
        let effects = Arc::new(Effects {
            me,
            name: settings.config.name.clone(),
            quiet_ms: settings.config.scan.quiet_ms,
            progress_pause: Duration::from_millis(Lease(settings.config.lease_ms).progress_ms()),
            catalog: Arc::clone(&catalog),
            mirror: group.hosted_catalog.then(|| Arc::clone(&host.mirror)),
            objects: objects.clone(),
            folder: Arc::clone(&folder),
            client_database,
            net: net.clone(),
            moved: effects::Moved::default(),
        });
        let outside = Outside {
            net: net.clone(),
            effects: Arc::clone(&effects),
            scans: scanning.requests(),
            events: Arc::clone(&events),
            tokio: Handle::current(),
        };
        let mut config = engine_config(settings, folder.root().display().to_string());
        config.old_root = old_root;
        let (failed, failure) = oneshot::channel();
        let signing = Box::new(NodeKeys(settings.identity.clone()));
        let driver = Driver::spawn(database, config, signing, engine.clone(), commands, outside, failed)?;
        let mut helpers = tokio::task::JoinSet::new();
        helpers.spawn(hear(net_events, engine.clone(), Arc::clone(&host.finding), Arc::clone(&refusals)));
        let promotion = Arc::new(promotion(group, me, &host, &catalog, &engine));
        spawn_host_helpers(&mut helpers, &promotion);
        helpers.spawn(keep_house(
            Arc::clone(&folder),
            objects.clone(),
            Arc::clone(&host.keeping),
            settings.config.trash,
        ));
        helpers.spawn(keys::tend(Arc::clone(&keys), me, engine.clone(), net.clone()));
        let quiet_ms = settings.config.scan.quiet_ms;
        helpers.spawn(watch_trash(Arc::clone(&folder), engine.clone(), quiet_ms, recovered));
        let control = Arc::new(GroupControl {
            me,
            name: settings.config.name.clone(),
            workgroup: (group.id, group.name.clone()),
            engine: engine.clone(),
            effects,
            serving,
            events,
            refusals,
            scans: scanning.finished(),
            catalog: Arc::clone(&catalog),
            book,
            keys,
            promotion,
        });
        Ok(Self {
            id: group.id.to_string(),
            name: group.name.clone(),
            control,
            engine,
            driver,
            failure,
            net,
            scanning,
            catalog,
            helpers,
        })
    }

    /// Returns only when the engine has stopped by itself: why.
    async fn failed(&mut self) -> Failure {
        match (&mut self.failure).await {
            Ok(why) => {
                Failure::new("the node stopped", why, "mend that and start it again; nothing was lost")
            }
            Err(_) => Failure::new(
                "the node stopped",
                "its engine ended unexpectedly",
                "see the log, start it again",
            ),
        }
    }

    /// New work first, then what does it, then what it stands on.
    async fn stop(mut self) {
        self.helpers.abort_all();
        self.scanning.stop();
        self.net.shutdown().await;
        self.engine.stop().await;
        let driver = self.driver;
        // The engine's thread ends after the input that it is at.
        let _ = tokio::task::spawn_blocking(move || driver.join()).await;
        self.catalog.close().await;
    }
}

fn promotion(
    group: &WorkgroupSettings,
    me: ClientId,
    host: &Host,
    catalog: &Arc<dyn Catalog>,
    engine: &EngineHandle,
) -> Promotion {
    Promotion {
        me,
        workgroup: group.id,
        home: group.home.clone(),
        elsewhere: (!group.hosted_catalog).then(|| group.catalog_url.clone()),
        hosted_objects: group.hosted_objects,
        shares_objects: group.shares_objects,
        host: host.clone(),
        catalog: Arc::clone(catalog),
        engine: engine.clone(),
        turn: tokio::sync::Mutex::default(),
    }
}

/// What goes on as long as the node runs, so that members have a host and know it.
fn spawn_host_helpers(helpers: &mut tokio::task::JoinSet<()>, promotion: &Arc<Promotion>) {
    let Promotion { host, catalog, me, .. } = promotion.as_ref();
    let (telling, keeping) = (Arc::clone(&host.finding), Arc::clone(&host.mirror));
    let (looking, catalog, watching) = (host.clone(), Arc::clone(catalog), Arc::clone(promotion));
    helpers.spawn(async move { telling.keep_told().await });
    let me = *me;
    helpers.spawn(async move { keeping.keep(catalog, me).await });
    helpers.spawn(soundness::watch(looking));
    helpers.spawn(async move { watching.watch().await });
}

fn engine_config(settings: &NodeSettings, media: String) -> EngineConfig {
    let count = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    EngineConfig {
        me: settings.identity.client_id(),
        name: settings.config.name.clone(),
        source_server: media,
        lease_ms: settings.config.lease_ms,
        quiet_ms: settings.config.scan.quiet_ms,
        poll_ms: POLL_MS,
        listen_ms: LISTEN_MS,
        horizon_ms: settings.config.horizon_days.saturating_mul(86_400_000),
        scan_interval_ms: settings.config.scan.interval_s.saturating_mul(1000),
        uploads_max: count(settings.config.limits.uploads),
        downloads_max: count(settings.config.limits.downloads),
        manual_import: settings.config.import == crate::config::Import::Manual,
        follow_deletions: settings.config.deletions == crate::config::Deletions::Follow,
        old_root: false,
        brake: BrakeLimits {
            percent: settings.config.brake.percent,
            items: settings.config.brake.items,
            window_ms: settings.config.brake.window_s.saturating_mul(1000),
        },
    }
}

fn ticket(group: &WorkgroupSettings) -> Ticket {
    Ticket {
        workgroup: group.id,
        name: group.name.clone(),
        keys: group.keys.clone(),
        catalog: group.catalog_for_members().to_owned(),
        objects: group.objects_for_members().to_owned(),
        client_name: String::new(),
    }
}

async fn start_net(
    settings: &NodeSettings,
    group: &WorkgroupSettings,
    keys: &Arc<Keys>,
    serving: &Arc<Serving>,
    door: Door,
    book: &Arc<InvitationBook>,
    services: Host,
) -> Result<(NetHandle, mpsc::Receiver<NetEvent>), Failure> {
    let config = NetConfig {
        identity: settings.identity.clone(),
        workgroup: group.id,
        keys: Arc::clone(keys),
        listen: vec![group.listen],
        interfaces: settings.config.interfaces.clone(),
        static_peers: settings.peers.clone(),
        mdns: true,
        contents: serving.clone(),
        members: Arc::new(door),
        invitations: Some(book.clone()),
        services: Some(Arc::new(services)),
    };
    Net::start(config).await.map_err(Failure::of)
}

/// Finishes what a crash interrupted, before anything else is done in the folder. Returns the versions that it kept.
async fn recover(folder: Arc<CacheFolder>) -> Result<Vec<Input>, Failure> {
    let recovering = tokio::task::spawn_blocking(move || folder.recover());
    let mut kept = Vec::new();
    for done in recovering.await.map_err(Failure::of)?.map_err(Failure::of)? {
        tracing::warn!("{done}");
        if let Recovered::KeptBeside { path, kept_as } = done {
            kept.push(Input::KeptBeside { path, kept_as });
        }
    }
    Ok(kept)
}

/// Tells the engine of versions that recovery kept, then of those that programs write into files in trash.
async fn watch_trash(folder: Arc<CacheFolder>, engine: EngineHandle, quiet_ms: u64, mut kept: Vec<Input>) {
    loop {
        for input in kept.drain(..) {
            if engine.input(input).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(TRASH_LOOK).await;
        let place = Arc::clone(&folder);
        match tokio::task::spawn_blocking(move || place.keep_changed_in_trash(quiet_ms)).await {
            Ok(Ok(found)) => {
                for KeptFromTrash { path, kept_as } in found {
                    tracing::warn!("{path}: a program wrote to it in trash; that is kept as {kept_as}");
                    kept.push(Input::KeptBeside { path, kept_as });
                }
            }
            Ok(Err(error)) => tracing::warn!("trash was not looked at: {error}"),
            Err(error) => tracing::warn!("trash was not looked at: {error}"),
        }
    }
}

/// Feeds the engine what the network brings.
async fn hear(
    mut events: mpsc::Receiver<NetEvent>,
    engine: EngineHandle,
    finding: Arc<Finding>,
    refusals: Arc<Refusals>,
) {
    let mut greetings = tokio::task::JoinSet::new();
    while let Some(event) = events.recv().await {
        let input = match event {
            NetEvent::Connected(client) => {
                tracing::info!(client = client.short(), "connected");
                while greetings.try_join_next().is_some() {}
                let finding = Arc::clone(&finding);
                greetings.spawn(async move { finding.greet(client).await });
                Input::Connected(client)
            }
            NetEvent::Disconnected(client) => {
                tracing::info!(client = client.short(), "disconnected");
                Input::Disconnected(client)
            }
            NetEvent::Listening(address) => {
                tracing::info!("listening for members on {address}");
                continue;
            }
            NetEvent::DiscoveryUnavailable(why) => {
                tracing::warn!("members are not found by themselves: {why}; static peers still work");
                continue;
            }
            NetEvent::Message { from, bytes } => match Message::decode(&bytes) {
                Ok(Some(message)) => Input::Message(from, message),
                Ok(None) => continue,
                Err(why) => {
                    let other = bytes.first().is_some_and(|version| *version != PROTOCOL_VERSION);
                    let misdeed = if other { Misdeed::Version } else { Misdeed::Message };
                    refusals.note(from, misdeed, &format!("a message that cannot be read: {why}"));
                    continue;
                }
            },
            NetEvent::Misbehaved { from, what } => {
                refusals.note(from, Misdeed::Protocol, &what);
                continue;
            }
        };
        if engine.input(input).await.is_err() {
            return;
        }
    }
}

/// Removes what nobody needs any more: old trash, uploads that a kill cut off, and partial files that were given up.
async fn keep_house(
    folder: Arc<CacheFolder>,
    objects: Objects,
    keeping: Arc<Keeping>,
    trash: crate::config::Trash,
) {
    loop {
        let place = Arc::clone(&folder);
        match tokio::task::spawn_blocking(move || tidy_folder(&place, trash)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("the media folder was not tidied: {error}"),
            Err(error) => tracing::warn!("the media folder was not tidied: {error}"),
        }
        let own = keeping.own().and_then(|kept| kept.objects);
        match own.as_ref().unwrap_or(&objects).sweep(GIVEN_UP).await {
            Ok(0) => {}
            Ok(swept) => {
                tracing::info!("{swept} uploads that were cut off were removed from the object store")
            }
            Err(error) => tracing::warn!("{error}"),
        }
        tokio::time::sleep(HOUSEKEEPING).await;
    }
}

fn tidy_folder(folder: &CacheFolder, trash: crate::config::Trash) -> Result<(), FolderError> {
    let expired = folder.expire(u32::try_from(trash.days).unwrap_or(u32::MAX))?;
    if expired.files > 0 {
        tracing::info!("{} files older than {} days were removed from trash", expired.files, trash.days);
    }
    if let Some(max_gib) = trash.max_gib {
        let expired = folder.expire_above(max_gib.saturating_mul(1 << 30))?;
        if expired.files > 0 {
            tracing::info!(
                "the {} oldest files were removed from trash: {max_gib} GiB are kept",
                expired.files
            );
        }
    }
    let given_up = |stat: &FileStat| {
        let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64
            - stat.mtime_ns;
        age > GIVEN_UP.as_nanos() as i64
    };
    for partial in folder.partials()?.iter().filter(|partial| given_up(&partial.stat)) {
        folder.remove_partial(partial.content_key)?;
    }
    Ok(())
}

/// Our key, and everybody's.
struct NodeKeys(Identity);

impl tcat_engine::batch::Keys for NodeKeys {
    fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes))
    }

    fn verify(&self, client: &ClientId, bytes: &[u8], signature: &Signature) -> bool {
        tcat_net::verify(client, bytes, &signature.0)
    }
}

/// What the scanner is asked from outside the engine.
type Scans = Arc<ScanRequests>;
