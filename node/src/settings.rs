//! Everything that a node needs to run, loaded from its home and checked: what `tcat run` hands to the
//! runtime.
//!
//! [`NodeSettings::load`] reads config.toml, the identity and the keys; [`WorkgroupSettings::open`] opens
//! what a workgroup keeps. Both touch nothing but what they read, lock or recover. What happens with it is
//! the runtime's.

use crate::config::{Config, WorkgroupConfig};
use crate::home::Home;
use crate::host::Host;
use crate::host::catalog_client::HostCatalog;
use crate::host::keeping::Kept;
use crate::host::objects_client::HostObjects;
use crate::host::wire::PEER_URL;
use crate::output::Failure;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_net::{Identity, Keyring, PeerAddress};
use tcat_storage::cache_folder::{CacheFolder, Marker};
use tcat_storage::catalog::{self, Catalog, CatalogError};
use tcat_storage::client_database::ClientDatabase;
use tcat_storage::node_database::NodeDatabase;
use tcat_storage::objects::Objects;

/// One node, as its home says.
#[derive(Debug)]
pub struct NodeSettings {
    /// The home.
    pub home: Home,
    /// Who this node is.
    pub identity: Identity,
    /// config.toml; `interfaces` replaced by those of the command line, where it names any.
    pub config: Config,
    /// `peers` of config.toml.
    pub peers: Vec<PeerAddress>,
    /// The workgroups to serve; at least one.
    pub workgroups: Vec<WorkgroupSettings>,
}

/// One workgroup of a node.
#[derive(Debug)]
pub struct WorkgroupSettings {
    /// Its id.
    pub id: WorkgroupId,
    /// Its name.
    pub name: String,
    /// What proves membership, as it was kept.
    pub keys: Keyring,
    /// Where it is kept.
    pub key_file: PathBuf,
    /// Where members reach this node for it: the first workgroup has `listen` of config.toml, further ones
    /// any free port.
    pub listen: SocketAddr,
    /// The media folder, as config.toml names it.
    pub media: PathBuf,
    /// The catalog's URL.
    pub catalog_url: String,
    /// The object store's URL.
    pub objects_url: String,
    /// Whether a host keeps the catalog: this node, where it lies in its home, or another. The URL says who began with
    /// it; who has it now is found out.
    pub hosted_catalog: bool,
    /// The same of the objects.
    pub hosted_objects: bool,
    /// Whether another workgroup of this home has the home's own objects too.
    pub shares_objects: bool,
    /// The home.
    pub home: Home,
    /// The node database's file.
    pub database_file: PathBuf,
    /// What the media folder's marker must say.
    pub marker: Marker,
}

/// What a workgroup keeps, open.
pub struct Stores {
    /// The catalog.
    pub catalog: Arc<dyn Catalog>,
    /// The object store.
    pub objects: Objects,
    /// Who is host, and what this node keeps while it is that itself.
    pub(crate) host: Host,
    /// The media folder, locked.
    pub folder: CacheFolder,
    /// The engine's store.
    pub database: NodeDatabase,
    /// Whether the media folder's marker is older than that store, as far as was seen before it was opened: setting up
    /// makes the store first. Says something only of a store that nothing was written to yet.
    pub old_root: bool,
}

impl NodeSettings {
    /// Loads the settings of a finished home. `interfaces` replace those of config.toml; `only` chooses one
    /// workgroup.
    pub fn load(home: &Home, interfaces: &[String], only: Option<&str>) -> Result<Self, Failure> {
        let mut config = Config::load(&home.config_file()).map_err(|error| error.failing())?;
        if !interfaces.is_empty() {
            config.interfaces = interfaces.to_vec();
        }
        let identity = Identity::load(&home.identity_file()).map_err(Failure::of)?;
        let peers = config.peers.iter().map(|text| text.parse()).collect::<Result<_, _>>();
        let peers = peers.map_err(|error| {
            Failure::usage("cannot use the settings", error, "correct `peers` in config.toml")
        })?;
        let mut workgroups = Vec::new();
        for (n, group) in config.workgroups.iter().enumerate() {
            let port = if n == 0 { config.listen.port() } else { 0 };
            let listen = SocketAddr::new(config.listen.ip(), port);
            let client = identity.client_id();
            workgroups.push(WorkgroupSettings::load(home, client, group, &config.workgroups, listen)?);
        }
        if let Some(name) = only {
            workgroups.retain(|group| group.name == name || group.id.to_string() == name);
        }
        if workgroups.is_empty() {
            let why = match only {
                Some(name) => format!("there is no workgroup {name:?} in {}", home.config_file().display()),
                None => format!("{} names no workgroup", home.config_file().display()),
            };
            return Err(Failure::new(
                "nothing to run",
                why,
                "make one with `tcat init`, or join one with `tcat join`",
            ));
        }
        Ok(Self { home: home.clone(), identity, config, peers, workgroups })
    }

    /// Opens what all workgroups of this client share; made where it is missing, since it is only a cache.
    pub fn open_client_database(&self) -> Result<ClientDatabase, Failure> {
        ClientDatabase::open_or_create(&self.home.client_database()).map_err(Failure::of)
    }
}

impl WorkgroupSettings {
    fn load(
        home: &Home,
        client: ClientId,
        group: &WorkgroupConfig,
        others: &[WorkgroupConfig],
        listen: SocketAddr,
    ) -> Result<Self, Failure> {
        let id = group.workgroup_id().map_err(Failure::of)?;
        Ok(Self {
            id,
            name: group.name.clone(),
            keys: read_keys(&home.workgroup_key_file(id))?,
            key_file: home.workgroup_key_file(id),
            listen,
            media: group.media.clone(),
            catalog_url: group.catalog.clone(),
            objects_url: group.objects.clone(),
            hosted_catalog: group.catalog == PEER_URL
                || in_home("sqlite:", &group.catalog, home.catalog_file()),
            hosted_objects: group.objects == PEER_URL
                || in_home("file:", &group.objects, home.objects_folder()),
            shares_objects: others
                .iter()
                .any(|other| other.id != group.id && in_home("file:", &other.objects, home.objects_folder())),
            home: home.clone(),
            database_file: home.workgroup_database(id),
            marker: marker(home, client, id),
        })
    }

    /// Opens everything that the workgroup keeps: the media folder first, which only one node can have.
    pub async fn open(&self, identity: &Identity) -> Result<Stores, Failure> {
        let (media, marker, file) = (self.media.clone(), self.marker.clone(), self.database_file.clone());
        let opening = tokio::task::spawn_blocking(move || {
            let folder = CacheFolder::open(&media, &marker).map_err(Failure::of)?;
            let written = fs::metadata(&file).and_then(|metadata| metadata.modified()).ok();
            let written = written.and_then(|time| jiff::Timestamp::try_from(time).ok());
            let old_root = written.is_some_and(|written| folder.created() < written);
            let database = NodeDatabase::open(&file).map_err(Failure::of)?;
            Ok::<_, Failure>((folder, database, old_root))
        });
        let (folder, database, old_root) = opening.await.map_err(Failure::of)??;
        let host = Host::load(identity, self.id, &self.home);
        if let Some(kept) = self.open_kept(&host).await? {
            host.keeping.begin(kept);
        }
        let catalog: Arc<dyn Catalog> = match self.hosted_catalog {
            true => Arc::new(HostCatalog::new(host.clone())),
            false => open_catalog(&self.catalog_url, self.id).await.map_err(Failure::of)?,
        };
        let objects = match self.hosted_objects {
            true => Objects::remote(PEER_URL, Arc::new(HostObjects::new(host.clone()))),
            false => Objects::open(&self.objects_url).map_err(Failure::of)?,
        };
        Ok(Stores { catalog, objects, host, folder, database, old_root })
    }

    /// What this node keeps, if it is host. It is where the workgroup's catalog lies in its home: so a node that became
    /// host is it again after a restart, and one whose catalog was put aside is not.
    async fn open_kept(&self, host: &Host) -> Result<Option<Kept>, Failure> {
        if !self.hosted_catalog {
            let embedded = self.hosted_objects && self.objects_url != PEER_URL;
            let objects = embedded.then(|| Objects::open(&self.objects_url)).transpose();
            let objects = objects.map_err(Failure::of)?;
            return Ok(objects.map(|objects| Kept { catalog: None, objects: Some(objects) }));
        }
        let file = self.home.catalog_file();
        let another = || host.finding.remembered().is_some_and(|claim| claim.client != self.marker.client);
        if !file.exists() && (self.catalog_url == PEER_URL || another()) {
            return Ok(None);
        }
        let catalog = match open_catalog(&format!("sqlite:{}", file.display()), self.id).await {
            // That of another workgroup of this home.
            Err(CatalogError::NoSuchWorkgroup { .. }) if self.catalog_url == PEER_URL => return Ok(None),
            opened => opened.map_err(Failure::of)?,
        };
        let objects = self.hosted_objects.then(|| {
            let folder = self.home.objects_folder();
            Objects::open(&format!("file:{}", folder.display()))
        });
        let objects = objects.transpose().map_err(Failure::of)?;
        Ok(Some(Kept { catalog: Some(catalog), objects }))
    }

    /// What members are told of where the catalog is: whatever a host keeps they reach through it.
    pub fn catalog_for_members(&self) -> &str {
        if self.hosted_catalog { PEER_URL } else { &self.catalog_url }
    }

    /// The same of the objects.
    pub fn objects_for_members(&self) -> &str {
        if self.hosted_objects { PEER_URL } else { &self.objects_url }
    }
}

async fn open_catalog(url: &str, workgroup: WorkgroupId) -> Result<Arc<dyn Catalog>, CatalogError> {
    let catalog = catalog::open(url, Some(workgroup)).await?;
    catalog.check().await?;
    Ok(catalog)
}

/// Whether a URL names the home's own.
fn in_home(scheme: &str, url: &str, own: PathBuf) -> bool {
    let path = url.strip_prefix(scheme);
    path.is_some_and(|path| std::path::absolute(own).is_ok_and(|own| own == Path::new(path)))
}

/// What the marker of this client's media folder for a workgroup says.
pub fn marker(home: &Home, client: ClientId, workgroup: WorkgroupId) -> Marker {
    Marker { workgroup, client, home: home.root().display().to_string() }
}

/// Reads a workgroup's keys. No error repeats what was read.
pub fn read_keys(path: &Path) -> Result<Keyring, Failure> {
    let what = "cannot use the workgroup's keys";
    let restore = "restore it from a backup, or leave and join the workgroup again";
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::new(what, format!("{}: {error}", path.display()), restore))?;
    Keyring::parse(&text).map_err(|why| Failure::new(what, format!("{}: {why}", path.display()), restore))
}
