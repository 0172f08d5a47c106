//! The judge: reads media folders, catalog and objects by itself and compares them with what was saved.
//!
//! Holds always: it trusts no node and none of tcat's own code. It walks the folders, computes every MD5 and asks the
//! catalog with SQL of its own, read-only; it changes nothing. A file that cannot be read is a difference, never
//! skipped. Nodes may run meanwhile, but only what has settled compares equal.
//! Left out: what nodes believe, which is asked of the nodes; folders in the store whose names begin with a dot, in which
//! uploads are staged.

use data_encoding::BASE64;
use md5::{Digest as _, Md5};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;

/// An MD5.
pub type Digest = [u8; 16];

/// The folder that is tcat's own within a media folder.
const OWN_FOLDER: &str = ".tcat";

/// A folder that is to be left out of a tree, by its path relative to the root.
pub type LeftOut = fn(&str) -> bool;

/// One node's media folder.
#[derive(Clone, Debug)]
pub struct Place {
    /// The node's name, for the report.
    pub name: String,
    /// Its media folder.
    pub media: PathBuf,
}

/// A content that a person saved and that another content has replaced since.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// Where it was.
    pub path: String,
    /// What it was.
    pub md5: Digest,
    /// The places where tcat took it away, so that their trash must hold it.
    pub in_trash_of: Vec<String>,
}

/// What must be true, told by whoever saved the files.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// By path in a media folder: what a person saved there last. Nothing else may be there.
    pub files: BTreeMap<String, Digest>,
    /// What was saved and then replaced.
    pub replaced: Vec<Replaced>,
}

/// What one place holds.
#[derive(Clone, Debug, Default)]
pub struct PlaceReport {
    /// The node's name.
    pub name: String,
    /// Files under final names.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, how many hold what was saved there last.
    pub right: u64,
    /// Files in trash.
    pub in_trash: u64,
    /// Unfinished files, in tcat's own temporary folder.
    pub unfinished: u64,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// A line a place.
    pub places: Vec<PlaceReport>,
    /// Rows in the catalog.
    pub rows: u64,
    /// Objects in the store.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// All that is not as it must be; empty if all is well.
    pub differences: Vec<String>,
}

/// One row of the catalog, as this module reads it.
pub struct CatalogRow {
    /// Where it is in the media folders.
    pub path: String,
    /// Its state, as the catalog words it.
    pub state: String,
    /// Its content; none if it cannot be read.
    pub md5: Option<Digest>,
    /// Its bytes.
    pub size: u64,
    /// The name of its object.
    pub object: String,
    /// How far its import is; none without a record of it.
    pub import_state: Option<String>,
}

/// What the catalog says: its rows, and every content that it ever had.
#[derive(Default)]
pub struct Catalog {
    /// Its rows.
    pub rows: Vec<CatalogRow>,
    /// Every content of its rows and of their chains.
    pub contents: BTreeSet<Digest>,
}

/// All files below a folder, by path relative to it, with MD5 and bytes.
pub type Tree = BTreeMap<String, (Digest, u64)>;

/// Reads everything and compares it with `expected`.
pub fn verify(places: &[Place], catalog: &Path, objects: &Path, expected: &Expectation) -> Report {
    let mut report = Report::default();
    let mut differences = Vec::new();
    thread::scope(|scope| {
        let judged: Vec<_> =
            places.iter().map(|place| scope.spawn(|| judge_place(place, expected))).collect();
        let store = scope.spawn(|| read_tree(objects, |folder| folder.starts_with('.')));
        let catalog = scope.spawn(|| read_catalog(catalog));
        for judged in judged {
            match judged.join() {
                Ok((place, found)) => {
                    report.places.push(place);
                    differences.extend(found);
                }
                Err(_) => differences.push("the verification of a folder failed by itself".to_owned()),
            }
        }
        let (Ok((store, unreadable)), Ok(catalog)) = (store.join(), catalog.join()) else {
            differences.push("the verification of catalog or objects failed by itself".to_owned());
            return;
        };
        differences.extend(unreadable.into_iter().map(|what| format!("objects: {what}")));
        report.objects = store.len() as u64;
        report.object_bytes = store.values().map(|(_, size)| size).sum();
        match catalog {
            Ok(catalog) => {
                report.rows = catalog.rows.len() as u64;
                differences.extend(compare_catalog(&catalog, expected));
                differences.extend(compare_objects(&catalog, &store));
            }
            Err(why) => differences.push(format!("the catalog cannot be read: {why}")),
        }
    });
    report.differences = differences;
    report
}

/// The MD5 of a file's bytes, and how many they are.
pub fn hash_file(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher.finalize().into(), size)),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

/// The MD5 of bytes at hand.
pub fn hash_bytes(bytes: &[u8]) -> Digest {
    Md5::digest(bytes).into()
}

/// Hashes every file below `root`, but for the folders left out; the second value names what cannot be read.
pub fn read_tree(root: &Path, left_out: LeftOut) -> (Tree, Vec<String>) {
    let mut tree = Tree::new();
    let mut unreadable = Vec::new();
    let mut folders = vec![(root.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                unreadable.push(format!("the folder {prefix:?} cannot be read: {error}"));
                continue;
            }
        };
        for entry in entries {
            let looked = entry.and_then(|entry| Ok((entry.file_name(), entry.path(), entry.file_type()?)));
            let (name, path, kind) = match looked {
                Ok(found) => found,
                Err(error) => {
                    unreadable.push(format!("an entry of {prefix:?} cannot be read: {error}"));
                    continue;
                }
            };
            let name = format!("{prefix}{}", name.to_string_lossy());
            if kind.is_dir() && !left_out(&name) {
                folders.push((path, format!("{name}/")));
            } else if kind.is_file() {
                match hash_file(&path) {
                    Ok(found) => drop(tree.insert(name, found)),
                    Err(error) => unreadable.push(format!("{name} cannot be read: {error}")),
                }
            } else if !kind.is_dir() {
                unreadable.push(format!("{name} is no regular file"));
            }
        }
    }
    (tree, unreadable)
}

/// As [`read_tree`], where the folder may be missing.
pub fn read_tree_if_there(root: &Path) -> (Tree, Vec<String>) {
    if root.exists() { read_tree(root, |_| false) } else { (Tree::new(), Vec::new()) }
}

fn judge_place(place: &Place, expected: &Expectation) -> (PlaceReport, Vec<String>) {
    let own = place.media.join(OWN_FOLDER);
    let (tree, mut differences) = read_tree(&place.media, |folder| folder == OWN_FOLDER);
    let (trash, unreadable) = read_tree_if_there(&own.join("trash"));
    differences.extend(unreadable);
    let (temporary, unreadable) = read_tree_if_there(&own.join("tmp"));
    differences.extend(unreadable);

    let mut right = 0;
    for (path, wanted) in &expected.files {
        match tree.get(path) {
            Some((found, _)) if found == wanted => right += 1,
            Some((found, size)) => differences.push(format!(
                "{path} holds {} ({size} bytes) and not {}, which was saved there last",
                shown(found),
                shown(wanted)
            )),
            None => differences.push(format!("{path} is missing")),
        }
    }
    let extra = tree.keys().filter(|path| !expected.files.contains_key(*path));
    differences.extend(extra.map(|path| format!("{path} was never saved under this name")));

    let in_trash: BTreeSet<&Digest> = trash.values().map(|(md5, _)| md5).collect();
    for lost in expected.replaced.iter().filter(|replaced| replaced.in_trash_of.contains(&place.name)) {
        if !in_trash.contains(&lost.md5) {
            differences.push(format!(
                "the earlier content {} of {} is not in trash",
                shown(&lost.md5),
                lost.path
            ));
        }
    }
    let report = PlaceReport {
        name: place.name.clone(),
        files: tree.len() as u64,
        bytes: tree.values().map(|(_, size)| size).sum(),
        right,
        in_trash: trash.len() as u64,
        unfinished: temporary.len() as u64,
    };
    (report, differences.into_iter().map(|what| format!("{}: {what}", place.name)).collect())
}

/// Each expected file has one active row that says the same, and no other row is there.
fn compare_catalog(catalog: &Catalog, expected: &Expectation) -> Vec<String> {
    let mut differences = Vec::new();
    let mut seen = BTreeSet::new();
    for row in &catalog.rows {
        let path = &row.path;
        if !seen.insert(path) {
            differences.push(format!("catalog: {path} has two rows"));
        }
        if row.state != "active" {
            differences.push(format!("catalog: {path} is {} and not active", row.state));
        }
        if row.import_state.as_deref() != Some("complete") {
            let state = row.import_state.as_deref().unwrap_or("missing");
            differences.push(format!("catalog: the import record of {path} is {state} and not complete"));
        }
        match expected.files.get(path) {
            None => differences.push(format!("catalog: {path} was never saved under this name")),
            Some(wanted) if row.md5.as_ref() != Some(wanted) => differences.push(format!(
                "catalog: {path} is {} and not {}, which was saved there last",
                row.md5.as_ref().map_or("unreadable".to_owned(), shown),
                shown(wanted)
            )),
            Some(_) => {}
        }
    }
    let missing = expected.files.keys().filter(|path| !seen.contains(path));
    differences.extend(missing.map(|path| format!("catalog: {path} has no row")));
    let forgotten = expected.replaced.iter().filter(|replaced| !catalog.contents.contains(&replaced.md5));
    differences.extend(forgotten.map(|replaced| {
        format!(
            "catalog: the earlier content {} of {} is not in its chain",
            shown(&replaced.md5),
            replaced.path
        )
    }));
    differences
}

/// Each row has its object with the row's bytes, and the store holds nothing that the catalog never had.
pub fn compare_objects(catalog: &Catalog, store: &Tree) -> Vec<String> {
    let mut differences = Vec::new();
    let by_name: BTreeMap<&str, &(Digest, u64)> =
        store.iter().map(|(path, found)| (path.rsplit('/').next().unwrap_or(path), found)).collect();
    for row in &catalog.rows {
        match by_name.get(row.object.as_str()) {
            None => differences.push(format!("objects: {} of {} is missing", row.object, row.path)),
            Some((md5, size)) if Some(*md5) != row.md5 || *size != row.size => differences.push(format!(
                "objects: {} of {} holds {} ({size} bytes) and not what its row says",
                row.object,
                row.path,
                shown(md5)
            )),
            Some(_) => {}
        }
    }
    for (name, (md5, size)) in &by_name {
        if !is_guid(name) || !catalog.contents.contains(md5) {
            differences
                .push(format!("objects: {name} ({size} bytes) holds nothing that the catalog ever had"));
        }
    }
    differences
}

fn is_guid(name: &str) -> bool {
    name.len() == 36
        && name.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// An MD5 in hexadecimal digits.
pub fn shown(md5: &Digest) -> String {
    data_encoding::HEXLOWER.encode(md5)
}

/// Reads the catalog in a runtime of its own, so that it may be called from anywhere.
pub fn read_catalog(path: &Path) -> Result<Catalog, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(told)?;
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let mut connection = options.connect().await.map_err(told)?;
        let catalog = ask_catalog(&mut connection).await;
        connection.close().await.map_err(told)?;
        catalog
    })
}

async fn ask_catalog(connection: &mut SqliteConnection) -> Result<Catalog, String> {
    let health: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut *connection).await.map_err(told)?;
    if health != "ok" {
        return Err(format!("SQLite finds damage: {health}"));
    }
    let mut catalog = Catalog::default();
    let rows = sqlx::query(
        "SELECT m.cachePath AS path, m.state, m.md5, m.size, coalesce(m.objectId, m.id) AS object, i.state AS importState
         FROM tcat_media m LEFT JOIN tcat_import i ON i.catalogId = m.catalogId AND i.id = m.id",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(told)?;
    for row in rows {
        catalog.rows.push(read_row(&row).map_err(told)?);
    }
    let contents: Vec<String> =
        sqlx::query_scalar("SELECT md5 FROM tcat_chain UNION SELECT md5 FROM tcat_media")
            .fetch_all(&mut *connection)
            .await
            .map_err(told)?;
    for text in contents {
        catalog.contents.insert(digest(&text).ok_or_else(|| format!("{text:?} is no MD5 in base64"))?);
    }
    Ok(catalog)
}

fn read_row(row: &SqliteRow) -> Result<CatalogRow, sqlx::Error> {
    Ok(CatalogRow {
        path: row.try_get("path")?,
        state: row.try_get("state")?,
        md5: digest(&row.try_get::<String, _>("md5")?),
        size: u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or_default(),
        object: row.try_get("object")?,
        import_state: row.try_get("importState")?,
    })
}

fn digest(base64: &str) -> Option<Digest> {
    BASE64.decode(base64.as_bytes()).ok()?.try_into().ok()
}

fn told(error: impl Display) -> String {
    error.to_string()
}

#[cfg(all(test, unix))]
#[path = "verify_tests.rs"]
mod tests;
