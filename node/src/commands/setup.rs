//! What init and join have in common: a home, an identity, a media folder, and in the end config.toml.
//!
//! Every step can be repeated: an init or join that was cut off is run again and goes on with what it had
//! made, since the identity stays and ids derive from it. config.toml comes last; before it there is no home.
//! What fails takes back what it made ([`Undo`]).

use super::Context;
use super::undo::Undo;
use crate::config::{self, Config, FirstSettings, WorkgroupConfig};
use crate::home::{Home, RunLock, write_secret};
use crate::output::Failure;
use crate::settings::marker;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use tcat_api::files::LOCK_FILE;
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_engine::paths::OWN_FOLDER;
use tcat_net::discovery::{DiscoveryError, choose_interfaces};
use tcat_net::{Identity, Keyring};
use tcat_storage::cache_folder::CacheFolder;
use tcat_storage::node_database::NodeDatabase;

/// A home that is being made, or gets a further workgroup.
pub struct Setup {
    what: &'static str,
    /// The home.
    pub home: Home,
    /// Its settings, if it is one already.
    pub existing: Option<Config>,
    /// Who this node is.
    pub identity: Identity,
    /// The media folder, absolute.
    pub media: PathBuf,
    // Before `undo`: where an open file cannot be removed, the lock must be gone first.
    _lock: RunLock,
    /// What is taken back on failure.
    pub undo: Undo,
}

impl Setup {
    /// Checks the media folder, and takes the home, where no node may run. `what` begins every failure.
    pub fn begin(context: &Context, what: &'static str, media: &Path) -> Result<Self, Failure> {
        let home = context.home.clone();
        refuse_unknown_interfaces(what, &context.global.interface)?;
        let media = existing_folder(what, media)?;
        let existing = match home.exists() {
            true => Some(Config::load(&home.config_file()).map_err(|error| error.failing())?),
            false => None,
        };
        refuse_media_in_use(what, existing.as_ref(), &media)?;
        let mut undo = Undo::default();
        undo.watch_folders(home.root());
        undo.watch_file(&home.root().join(LOCK_FILE));
        undo.watch_file(&home.identity_file());
        undo.watch_file(&home.token_file());
        home.create().map_err(|error| error.failing(what))?;
        let lock = home.lock().map_err(|error| error.failing(what))?;
        let identity = load_or_make(&home)?;
        Ok(Self { what, home, existing, identity, media, _lock: lock, undo })
    }

    /// This node's id.
    pub fn client(&self) -> ClientId {
        self.identity.client_id()
    }

    /// The name to ask the roster for: the one that the person gives, else that of the home or the machine.
    pub fn wanted_name(&self, given: Option<&str>) -> Result<String, Failure> {
        match (given, &self.existing) {
            (Some(given), Some(config)) if given != config.name => {
                let why = format!("this home's client is called {:?}", config.name);
                Err(Failure::usage(self.what, why, "leave out --name, or name another home with --home"))
            }
            (_, Some(config)) => Ok(config.name.clone()),
            (Some(given), None) => {
                config::check_name(given)
                    .map_err(|why| Failure::usage(self.what, why, "give another --name"))?;
                Ok(given.to_owned())
            }
            (None, None) => Ok(crate::naming::default_client_name(&self.client())),
        }
    }

    /// Makes the node database, and then the media folder's marker: a marker that is older than its database
    /// would mean that the database was lost.
    pub fn take_media_folder(&mut self, workgroup: WorkgroupId) -> Result<(), Failure> {
        let file = self.home.workgroup_database(workgroup);
        self.undo.watch_file(&file);
        let made = if file.exists() { NodeDatabase::open(&file) } else { NodeDatabase::create(&file) };
        drop(made.map_err(|error| self.failed(error))?);
        self.undo.watch_tree(&self.media.join(OWN_FOLDER));
        let marker = marker(&self.home, self.client(), workgroup);
        CacheFolder::create(&self.media, &marker).map(drop).map_err(|error| self.failed(error))
    }

    /// Writes the secrets and, last, config.toml; from then on the home is one.
    pub fn finish(
        mut self,
        group: &WorkgroupConfig,
        keys: &Keyring,
        first: &First<'_>,
    ) -> Result<(), Failure> {
        let id = group.workgroup_id().map_err(Failure::of)?;
        let path = self.home.config_file();
        let settings = FirstSettings {
            name: first.name,
            interfaces: first.interfaces,
            peers: first.peers,
            listen: choose_listen(first.interfaces),
        };
        let before = match &self.existing {
            Some(_) => config::read(&path).map_err(|error| error.failing())?,
            None => config::first_text(&settings),
        };
        let added = config::workgroup_text(group);
        let text = before
            + &added.map_err(|why| Failure::new(self.what, why, "move that folder to another path"))?;
        Config::parse(&path, &text).map_err(|error| error.failing())?;
        let key_file = self.home.workgroup_key_file(id);
        self.undo.watch_file(&key_file);
        write_secret(&key_file, keys.text().as_bytes()).map_err(|error| error.failing(self.what))?;
        self.home.token().map_err(|error| error.failing(self.what))?;
        write_secret(&path, text.as_bytes()).map_err(|error| error.failing(self.what))?;
        self.undo.keep();
        Ok(())
    }

    /// A lower layer's one line as this command's failure.
    pub fn failed(&self, error: impl std::fmt::Display) -> Failure {
        Failure::of(format!("{}: {error}", self.what))
    }
}

/// What a new config.toml says beside the workgroup.
pub struct First<'a> {
    /// `name`.
    pub name: &'a str,
    /// `interfaces`.
    pub interfaces: &'a [String],
    /// `peers`.
    pub peers: &'a [String],
}

/// An interface that cannot multicast is fine: static peers work there.
fn refuse_unknown_interfaces(what: &'static str, named: &[String]) -> Result<(), Failure> {
    match choose_interfaces(named) {
        Err(error @ DiscoveryError::NoSuchInterface { .. }) => Err(Failure::of(format!("{what}: {error}"))),
        _ => Ok(()),
    }
}

fn existing_folder(what: &'static str, media: &Path) -> Result<PathBuf, Failure> {
    let shown = media.display();
    let absolute = std::path::absolute(media);
    let absolute =
        absolute.map_err(|error| Failure::usage(what, format!("{shown}: {error}"), "name a media folder"))?;
    if absolute.to_str().is_none() {
        let why = format!("the path {shown} is not Unicode, which config.toml must be");
        return Err(Failure::new(what, why, "rename the folder, or name another media folder"));
    }
    match absolute.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(absolute),
        Ok(_) => Err(Failure::new(what, format!("{shown} is not a folder"), "name a folder as media folder")),
        Err(error) => {
            let why = format!("the media folder {shown} cannot be used: {error}");
            Err(Failure::new(what, why, "create it, mount its disk, or name another"))
        }
    }
}

fn refuse_media_in_use(what: &'static str, existing: Option<&Config>, media: &Path) -> Result<(), Failure> {
    let taken = existing.and_then(|config| config.workgroups.iter().find(|group| group.media == *media));
    taken.map_or(Ok(()), |group| {
        let why = format!(
            "{} is this node's media folder for the workgroup {} already",
            media.display(),
            group.name
        );
        Err(Failure::new(what, why, "start it with `tcat run`, or name another media folder"))
    })
}

fn load_or_make(home: &Home) -> Result<Identity, Failure> {
    let path = home.identity_file();
    if path.exists() {
        return Identity::load(&path).map_err(Failure::of);
    }
    let identity = Identity::generate().map_err(Failure::of)?;
    identity.save(&path).map_err(Failure::of)?;
    Ok(identity)
}

/// Where members will reach this node: on loopback alone if only that is to be used, and a port that is free
/// now, kept for good, so that others can have it under `peers`.
fn choose_listen(interfaces: &[String]) -> SocketAddr {
    // As Linux, macOS and Windows call it.
    let loopback = |name: &String| ["lo", "lo0"].contains(&name.as_str()) || name.starts_with("Loopback");
    let only_loopback = !interfaces.is_empty() && interfaces.iter().all(loopback);
    let ip = if only_loopback { [127, 0, 0, 1] } else { [0, 0, 0, 0] };
    let free = TcpListener::bind(SocketAddr::from((ip, 0))).and_then(|listener| listener.local_addr());
    free.unwrap_or(SocketAddr::from((ip, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_for_loopback_alone_listens_there_alone() {
        assert!(choose_listen(&["lo".to_owned()]).ip().is_loopback());
        assert!(choose_listen(&["lo".to_owned(), "eth0".to_owned()]).ip().is_unspecified());
        let any = choose_listen(&[]);
        assert!(any.ip().is_unspecified() && any.port() != 0);
    }
}
