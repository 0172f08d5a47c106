//! The clients of the workgroup.
//!
//! What holds always: a client is in the roster once, names differ also when case is ignored (they become
//! parts of file names), and there are at most [`CLIENTS_MAX`]. Not here: where a client
//! stands (`standings`), and proving who one is.

use super::error::CatalogError;
use super::rows::{Reader, stamp_text};
use super::session::{Session, now_text};
use super::{Member, Workgroup};
use sqlx::sqlite::SqliteConnection;
use tcat_engine::catalog::Revision;
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_engine::paths::fold;

/// The most clients that a workgroup may have.
pub const CLIENTS_MAX: usize = 64;
/// The longest name, in bytes: it must fit into a file name beside a stem.
const NAME_BYTES_MAX: usize = 64;

/// Refuses a name that cannot be shown, or be part of a file name.
pub(super) fn check_name(name: &str) -> Result<(), CatalogError> {
    let why = if name.trim().is_empty() {
        "it is empty"
    } else if name.trim() != name {
        "it begins or ends with a blank"
    } else if name.len() > NAME_BYTES_MAX {
        "it is longer than 64 bytes"
    } else if name.chars().any(char::is_control) {
        "it has control characters"
    } else {
        return Ok(());
    };
    Err(CatalogError::InvalidName { name: name.chars().take(NAME_BYTES_MAX).collect(), why })
}

/// See [`super::Catalog::members`].
pub(super) async fn members(session: &mut Session) -> Result<Vec<Member>, CatalogError> {
    let query = sqlx::query(
        "SELECT id, name, vectorClock FROM tcat_workgroup_clients WHERE workgroup = ?1 ORDER BY id",
    );
    let rows = session.fetch_all(query.bind(session.workgroup())).await?;
    rows.iter()
        .map(|row| {
            let reader = Reader::new(session, row);
            let (client, name) = (reader.id("id")?, reader.text("name")?);
            Ok(Member { client, name, stamp: reader.stamp("vectorClock")? })
        })
        .collect()
}

/// Whether `client` is in the roster and not retired.
pub(super) async fn is_member(session: &mut Session, client: &ClientId) -> Result<bool, CatalogError> {
    let query = sqlx::query(
        "SELECT 1 FROM tcat_workgroup_clients WHERE workgroup = ?1 AND id = ?2 AND NOT EXISTS (SELECT 1 FROM \
         tcat_standings WHERE workgroup = ?1 AND client = ?2 AND standing = 'retired')",
    );
    session.exists(query.bind(session.workgroup()).bind(client.to_string())).await
}

/// See [`super::Catalog::admit`].
pub(super) async fn admit(
    session: &mut Session,
    client: ClientId,
    name: &str,
) -> Result<Member, CatalogError> {
    let members = members(session).await?;
    if let Some(member) = members.iter().find(|member| member.client == client) {
        let is_member = is_member(session, &client).await?;
        return if is_member { Ok(member.clone()) } else { Err(CatalogError::Retired { client }) };
    }
    check_name(name)?;
    if members.len() >= CLIENTS_MAX {
        return Err(CatalogError::RosterFull { limit: CLIENTS_MAX });
    }
    let taken: Vec<String> = members.iter().map(|member| fold(&member.name)).collect();
    let numbered = (2..=CLIENTS_MAX + 1).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(&fold(name)));
    let name = free.ok_or_else(|| session.failed("every number is taken after this name"))?;
    let query = sqlx::query(
        "INSERT INTO tcat_workgroup_clients (workgroup, id, name, foldedName, admittedDate) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
    );
    let query = query.bind(session.workgroup()).bind(client.to_string()).bind(name.clone());
    session.execute(query.bind(fold(&name)).bind(now_text())).await?;
    Ok(Member { client, name, stamp: Default::default() })
}

/// Enters a member of the catalog before this one, with the name and the stamp that it had.
pub(super) async fn enter(
    connection: &mut SqliteConnection,
    workgroup: &WorkgroupId,
    member: &Member,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO tcat_workgroup_clients (workgroup, id, name, foldedName, vectorClock, admittedDate) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    );
    let query = query.bind(workgroup.to_string()).bind(member.client.to_string()).bind(&member.name);
    let query = query.bind(fold(&member.name)).bind(stamp_text(&member.stamp)).bind(now_text());
    query.execute(connection).await.map(drop)
}

/// Remembers the latest stamp of a client's writing that entered the catalog.
pub(super) async fn note_stamp(session: &mut Session, revision: &Revision) -> Result<(), CatalogError> {
    let query = sqlx::query(
        "UPDATE tcat_workgroup_clients SET vectorClock = max(vectorClock, ?3) WHERE workgroup = ?1 AND id = ?2",
    );
    let query = query.bind(session.workgroup()).bind(revision.0.client.to_string());
    session.execute(query.bind(stamp_text(&revision.0.stamp))).await.map(drop)
}

/// See [`super::Catalog::workgroup`].
pub(super) async fn workgroup(session: &mut Session) -> Result<Workgroup, CatalogError> {
    let query =
        sqlx::query("SELECT catalog_id, name, serverPath, cacheRoot FROM tcat_workgroups WHERE id = ?1");
    match session.fetch_optional(query.bind(session.workgroup())).await? {
        Some(row) => {
            let reader = Reader::new(session, &row);
            Ok(Workgroup {
                catalog: reader.id("catalog_id")?,
                id: session.workgroup_id(),
                name: reader.text("name")?,
                server_path: reader.text("serverPath")?,
                cache_root: reader.text("cacheRoot")?,
            })
        }
        None => Err(CatalogError::NoSuchWorkgroup {
            catalog: session.shown().to_owned(),
            wanted: format!("workgroup {}", session.workgroup_id()),
            found: "no row of it any more".to_owned(),
        }),
    }
}
