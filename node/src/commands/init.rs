//! `tcat init`: makes a workgroup, its catalog and its object store, with this machine as the first member.

use super::setup::{First, Setup};
use super::{Context, undo::Undo};
use crate::config::{WorkgroupConfig, check_name};
use crate::output::{self, Failure};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_net::{Keyring, WorkgroupKey};
use tcat_storage::catalog::{self, Catalog, CatalogError, NewWorkgroup, SqliteCatalog};
use tcat_storage::objects::Objects;

const WHAT: &str = "cannot make the workgroup";
const DEFAULT_WORKGROUP: &str = "library";
/// What the object store makes in its folder.
const OBJECTS_STAGING: &str = ".staging";

/// The arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The folder with the library: an existing one, with or without files in it
    #[arg(long, value_name = "DIR")]
    pub media: PathBuf,
    /// Where the catalog is to be: sqlite:PATH [default: catalog.db in the home]
    #[arg(long, value_name = "URL")]
    pub catalog: Option<String>,
    /// Where contents are to be stored: file:DIR [default: objects/ in the home]
    #[arg(long, value_name = "URL")]
    pub objects: Option<String>,
    /// What this machine is called in the workgroup [default: its host name]
    #[arg(long, value_name = "CLIENT")]
    pub name: Option<String>,
}

/// What was made, as `--json` prints it.
#[derive(Serialize)]
struct Made<'a> {
    home: String,
    client: String,
    name: &'a str,
    workgroup: &'a str,
    workgroup_id: &'a str,
    media: String,
    catalog: &'a str,
    objects: &'a str,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let workgroup = context.global.workgroup.as_deref().unwrap_or(DEFAULT_WORKGROUP);
    check_name(workgroup).map_err(|why| Failure::usage(WHAT, why, "give another --workgroup"))?;
    refuse_existing(context, workgroup)?;
    let catalog = absolute_catalog(context, args.catalog.as_deref())?;
    let objects = absolute_objects(context, args.objects.as_deref())?;
    let mut setup = Setup::begin(context, WHAT, &args.media)?;
    let name = setup.wanted_name(args.name.as_deref())?;
    // Derived, so that an init that was cut off goes on with the same id when it is repeated.
    let id = WorkgroupId::derive("tcat 1 workgroup", &[&setup.client().0, workgroup.as_bytes()]);
    setup.take_media_folder(id)?;
    let group = WorkgroupConfig {
        id: id.to_string(),
        name: workgroup.to_owned(),
        media: setup.media.clone(),
        catalog,
        objects,
    };
    let member =
        super::block_on(make_stores(&mut setup.undo, &group, id, setup.identity.client_id(), &name))??;
    let key =
        WorkgroupKey::generate().map_err(|error| Failure::new(WHAT, error, "look at the system's log"))?;
    let client = setup.client();
    let first = First { name: &member, interfaces: &context.global.interface, peers: &[] };
    setup.finish(&group, &Keyring::new(key), &first)?;
    tell(context, &group, &member, client)
}

fn refuse_existing(context: &Context, workgroup: &str) -> Result<(), Failure> {
    if !context.home.exists() {
        return Ok(());
    }
    let config = crate::config::Config::load(&context.home.config_file()).map_err(|error| error.failing())?;
    let further =
        context.global.workgroup.is_some() && config.workgroups.iter().all(|group| group.name != workgroup);
    if further {
        return Ok(());
    }
    let names: Vec<&str> = config.workgroups.iter().map(|group| group.name.as_str()).collect();
    let why = format!(
        "{} is a home already, with the workgroup {}",
        context.home.root().display(),
        names.join(", ")
    );
    Err(Failure::new(WHAT, why, "start it with `tcat run`, or name another home with --home"))
}

/// Makes the object store and the catalog, and enters this client; returns the name that it got.
async fn make_stores(
    undo: &mut Undo,
    group: &WorkgroupConfig,
    id: WorkgroupId,
    client: ClientId,
    name: &str,
) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::of(format!("{WHAT}: {error}"));
    if let Some(folder) = objects_folder(&group.objects) {
        // In a folder that was there before, only what is made and ends up empty goes again.
        undo.watch_folders(&folder.join(OBJECTS_STAGING));
        undo.watch_tree(&folder);
    }
    let objects = Objects::create(&group.objects).map_err(|error| failed(&error))?;
    objects.check().await.map_err(|error| failed(&error))?;
    let catalog = make_catalog(undo, group, id).await.map_err(|error| failed(&error))?;
    let member = catalog.admit(client, name).await.map_err(|error| failed(&error));
    catalog.close().await;
    Ok(member?.name)
}

/// A new catalog; or the one that an init of ours made before it was cut off, known by the workgroup in it.
async fn make_catalog(
    undo: &mut Undo,
    group: &WorkgroupConfig,
    id: WorkgroupId,
) -> Result<SqliteCatalog, CatalogError> {
    let path = catalog::sqlite_path(&group.catalog)?;
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.clone().into_os_string();
        file.push(suffix);
        undo.watch_file(Path::new(&file));
    }
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let new = NewWorkgroup {
        id,
        name: group.name.clone(),
        server_path: part(group.media.parent().map(Path::as_os_str)),
        cache_root: part(group.media.file_name()),
    };
    match SqliteCatalog::create(&path, &new).await {
        Err(CatalogError::AlreadyThere { catalog, why }) => {
            let ours = SqliteCatalog::open(&path, Some(id)).await;
            ours.map_err(|_| CatalogError::AlreadyThere { catalog, why })
        }
        made => made,
    }
}

fn absolute_catalog(context: &Context, url: Option<&str>) -> Result<String, Failure> {
    let path = match url {
        None => context.home.catalog_file(),
        Some(url) => catalog::sqlite_path(url).map_err(|error| Failure::of(format!("{WHAT}: {error}")))?,
    };
    absolute("sqlite", &path)
}

fn absolute_objects(context: &Context, url: Option<&str>) -> Result<String, Failure> {
    let path = match url {
        None => context.home.objects_folder(),
        Some(url) => match objects_folder(url) {
            Some(path) => path,
            // For the object store to refuse or to understand.
            None => return Ok(url.to_owned()),
        },
    };
    absolute("file", &path)
}

/// The folder in `file:DIR`.
fn objects_folder(url: &str) -> Option<PathBuf> {
    url.strip_prefix("file:").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn absolute(scheme: &str, path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::new(WHAT, format!("{shown}: {error}"), "give another path"))?;
    match absolute.to_str() {
        Some(text) => Ok(format!("{scheme}:{text}")),
        None => Err(Failure::new(WHAT, format!("the path {shown} is not Unicode"), "give another path")),
    }
}

fn tell(context: &Context, group: &WorkgroupConfig, name: &str, client: ClientId) -> Result<(), Failure> {
    let home = context.home.root().display();
    if context.global.json {
        return output::say_json(&Made {
            home: home.to_string(),
            client: client.to_string(),
            name,
            workgroup: &group.name,
            workgroup_id: &group.id,
            media: group.media.display().to_string(),
            catalog: &group.catalog,
            objects: &group.objects,
        });
    }
    let rows = [
        ("workgroup", group.name.clone()),
        ("this client", format!("{name} ({})", client.short())),
        ("home", home.to_string()),
        ("media", group.media.display().to_string()),
        ("catalog", group.catalog.clone()),
        ("objects", group.objects.clone()),
    ];
    let rows: Vec<Vec<String>> = rows.map(|(what, text)| vec![what.to_owned(), text]).into();
    output::say(&output::table(&rows))?;
    output::say(&format!("Next: {}", super::command_line(context, "run")))
}
