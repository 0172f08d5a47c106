//! Which path an item gets: the asked one, or the next that nobody has.
//!
//! What holds always: no two items get paths that fold to the same, and none gets a path of which another
//! item's is a folder, or the other way round: no cache folder could hold both. The first keeps the name, the
//! next gets `name(1).ext`, as the ancestor did. Not here: giving it (`create`, `repath`).

use super::error::CatalogError;
use super::session::Session;
use tcat_engine::ids::ItemId;
use tcat_engine::paths::MediaPath;

/// How many numbers are tried before the item's id becomes the name.
const NUMBER_MAX: u32 = 50;

/// A free path for `item`, near `asked`.
pub(super) async fn assign(
    session: &mut Session,
    asked: &MediaPath,
    item: ItemId,
) -> Result<MediaPath, CatalogError> {
    let asked = beside_files(session, asked).await?;
    if let Some(path) = first_free(session, &asked, File).await? {
        return Ok(path);
    }
    for path in named_by_id(&asked, item) {
        if is_free(session, &path, File).await? {
            return Ok(path);
        }
    }
    Err(session.failed(format!("no free path is near {asked}; rename the file")))
}

/// What a path is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}
use Kind::{File, Folder};

/// The path with every folder of it that is another item's file replaced by the next free name.
async fn beside_files(session: &mut Session, asked: &MediaPath) -> Result<MediaPath, CatalogError> {
    let mut components: Vec<String> = asked.components().map(str::to_owned).collect();
    let Some(name) = components.pop() else { return Ok(asked.clone()) };
    let mut folder = String::new();
    for component in components {
        let path =
            MediaPath::parse(&format!("{folder}{component}")).map_err(|error| session.failed(error))?;
        let free = first_free(session, &path, Folder).await?;
        let free = free.ok_or_else(|| session.failed(format!("no free folder is near {path}; rename it")))?;
        folder = format!("{free}/");
    }
    // A folder that got a longer name can make the whole too long.
    MediaPath::parse(&format!("{folder}{name}")).map_err(|error| session.failed(error))
}

async fn first_free(
    session: &mut Session,
    asked: &MediaPath,
    kind: Kind,
) -> Result<Option<MediaPath>, CatalogError> {
    if is_free(session, asked, kind).await? {
        return Ok(Some(asked.clone()));
    }
    for number in 1..=NUMBER_MAX {
        let path = asked.numbered(number);
        if MediaPath::parse(path.as_str()).is_ok() && is_free(session, &path, kind).await? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Whether no item's file is there and, for a file, no item's folder.
async fn is_free(session: &mut Session, path: &MediaPath, kind: Kind) -> Result<bool, CatalogError> {
    let folded = path.folded().0;
    let query = sqlx::query("SELECT 1 FROM tcat_media WHERE catalogId = ?1 AND foldedPath = ?2");
    if session.exists(query.bind(session.catalog()).bind(folded.clone())).await? {
        return Ok(false);
    }
    if kind == Folder {
        return Ok(true);
    }
    // All paths below the folder: '0' is what follows '/'.
    let query = sqlx::query(
        "SELECT 1 FROM tcat_media WHERE catalogId = ?1 AND foldedPath > ?2 AND foldedPath < ?3 LIMIT 1",
    );
    let query = query.bind(session.catalog()).bind(format!("{folded}/")).bind(format!("{folded}0"));
    Ok(!session.exists(query).await?)
}

/// Names that nobody else asks for: in the folder, else at the top; with the extension, else without.
fn named_by_id(asked: &MediaPath, item: ItemId) -> Vec<MediaPath> {
    let (folder, name) = asked.as_str().rsplit_once('/').unwrap_or(("", asked.as_str()));
    let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let extension = name.rsplit_once('.').map_or(String::new(), |(_, extension)| format!(".{extension}"));
    [format!("{folder}{item}{extension}"), format!("{item}{extension}"), item.to_string()]
        .iter()
        .filter_map(|text| MediaPath::parse(text).ok())
        .collect()
}
