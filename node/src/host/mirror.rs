//! What this node knows of the workgroup's roster, kept for the day on which the catalog is lost or another takes its
//! place: who belongs to it, under which names, who was retired, and the ids of catalog and workgroup.
//!
//! Always: a roster only grows. What the catalog shows is taken over; what it lacks (an older copy of it was restored, or
//! another node became host before it had heard) it is given back, so that nobody who was admitted is a stranger and
//! nobody who was retired returns. Left out: the items, which the engine's mirror has.

use super::wire::WireMember;
use crate::home::write_secret;
use bincode::{Decode, Encode};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tcat_engine::codec;
use tcat_engine::ids::{CatalogId, ClientId, WorkgroupId};
use tcat_engine::roster::{RosterMember, Standing};
use tcat_storage::catalog::{CLIENTS_MAX, Catalog, CatalogError, Member, Workgroup};
use tokio::sync::Notify;

/// How the file begins.
const HEADER: &[u8] = b"tcat roster 1\n";

/// After this time a roster that could not be kept is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// The roster as it is kept.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
struct Kept {
    catalog: CatalogId,
    name: String,
    server_path: String,
    cache_root: String,
    members: Vec<(WireMember, Standing)>,
}

/// The roster of one workgroup, as far as this node has read it.
pub struct RosterMirror {
    workgroup: WorkgroupId,
    file: PathBuf,
    kept: Mutex<Option<Kept>>,
    /// What the engine's last visit found, if that was not looked at yet.
    visited: Mutex<Option<Vec<RosterMember>>>,
    news: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RosterMirror {
    /// What `file` has; one that is not there, or cannot be read, is written with the next visit.
    pub fn load(workgroup: WorkgroupId, file: PathBuf) -> Self {
        let kept = fs::read(&file).ok().and_then(|bytes| codec::decode(bytes.strip_prefix(HEADER)?).ok());
        Self { workgroup, file, kept: Mutex::new(kept), visited: Mutex::default(), news: Notify::new() }
    }

    /// The workgroup and its roster, with what is known of each member's writing.
    pub fn roster(&self) -> Option<(Workgroup, Vec<(Member, Standing)>)> {
        let Kept { catalog, name, server_path, cache_root, members } = lock(&self.kept).clone()?;
        let workgroup = Workgroup { catalog, id: self.workgroup, name, server_path, cache_root };
        let member =
            |(WireMember { client, name, stamp }, standing)| (Member { client, name, stamp }, standing);
        Some((workgroup, members.into_iter().map(member).collect()))
    }

    /// The engine has visited the roster.
    pub fn visited(&self, roster: &[RosterMember]) {
        *lock(&self.visited) = Some(roster.to_vec());
        self.news.notify_one();
    }

    /// Looks at what each visit found, and reads the roster itself while none was kept yet; `me` is who asks. Never
    /// returns.
    pub async fn keep(&self, catalog: Arc<dyn Catalog>, me: ClientId) {
        while lock(&self.kept).is_none() && self.read(catalog.as_ref(), me).await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
        loop {
            self.news.notified().await;
            let visited = lock(&self.visited).take();
            if let Some(roster) = visited
                && let Err(error) = self.take(catalog.as_ref(), &roster).await
            {
                tracing::debug!("the roster is looked at again: {error}");
                tokio::time::sleep(AGAIN).await;
                lock(&self.visited).get_or_insert(roster);
                self.news.notify_one();
            }
        }
    }

    /// Reads the roster of `catalog` now; `me` is who asks.
    pub async fn read(&self, catalog: &dyn Catalog, me: ClientId) -> Result<(), CatalogError> {
        // A visit that says nothing of ourselves, and declares nobody absent.
        let visit = tcat_engine::roster::Visit {
            client: me,
            stamp: Default::default(),
            present: false,
            horizon_ms: u64::MAX,
        };
        let roster = catalog.visit_roster(&visit).await?;
        self.take(catalog, &roster).await
    }

    async fn take(&self, catalog: &dyn Catalog, roster: &[RosterMember]) -> Result<(), CatalogError> {
        let workgroup = catalog.workgroup().await?;
        let standings: BTreeMap<_, _> = roster.iter().map(|member| (member.client, member)).collect();
        let mut members = Vec::new();
        for Member { client, name, stamp } in catalog.members().await?.into_iter().take(CLIENTS_MAX) {
            let (seen, standing) = standings
                .get(&client)
                .map_or((stamp, Standing::Current), |member| (member.stamp, member.standing));
            members.push((WireMember { client, name, stamp: stamp.max(seen) }, standing));
        }
        let before = lock(&self.kept).clone();
        for lost in before.iter().flat_map(|before| &before.members) {
            give_back(catalog, lost, &mut members).await?;
        }
        let kept = Kept {
            catalog: workgroup.catalog,
            name: workgroup.name,
            server_path: workgroup.server_path,
            cache_root: workgroup.cache_root,
            members,
        };
        if before.as_ref() != Some(&kept) {
            self.write(&kept);
            *lock(&self.kept) = Some(kept);
        }
        Ok(())
    }

    fn write(&self, kept: &Kept) {
        let written = codec::encode(kept).map_err(|error| error.to_string()).and_then(|bytes| {
            let bytes = [HEADER, bytes.as_slice()].concat();
            write_secret(&self.file, &bytes).map_err(|error| error.to_string())
        });
        if let Err(error) = written {
            tracing::warn!("the roster cannot be kept: {error}; this node could not become host with it");
        }
    }
}

/// What we knew of one member, where the catalog does not know it any more.
async fn give_back(
    catalog: &dyn Catalog,
    lost: &(WireMember, Standing),
    members: &mut Vec<(WireMember, Standing)>,
) -> Result<(), CatalogError> {
    let (known, standing) = lost;
    let at = members.iter().position(|(member, _)| member.client == known.client);
    let at = match at {
        Some(at) => at,
        None => {
            let Member { client, name, .. } = catalog.admit(known.client, &known.name).await?;
            tracing::warn!(client = client.short(), "the catalog did not know the member {name:?} any more");
            members.push((WireMember { client, name, stamp: known.stamp }, Standing::Current));
            members.len() - 1
        }
    };
    let Some((member, now)) = members.get_mut(at) else { return Ok(()) };
    member.stamp = member.stamp.max(known.stamp);
    if let (Standing::Retired { last }, Standing::Current | Standing::Absent) = (standing, *now) {
        catalog.retire(known.client, *last).await?;
        tracing::warn!(client = known.client.short(), "the catalog did not know of its retirement any more");
        *now = *standing;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcat_engine::clock::{Incarnation, Stamp};
    use tcat_storage::catalog::{NewWorkgroup, SqliteCatalog, Successor};

    const ANNA: ClientId = ClientId([0xaa; 32]);
    const BEN: ClientId = ClientId([0xbe; 32]);
    const EVE: ClientId = ClientId([0xee; 32]);
    const GROUP: WorkgroupId = WorkgroupId([7; 16]);

    async fn catalog(folder: &std::path::Path, name: &str) -> SqliteCatalog {
        let new = NewWorkgroup {
            id: GROUP,
            name: "films".into(),
            server_path: "/srv".into(),
            cache_root: "cache".into(),
        };
        let catalog = SqliteCatalog::create(&folder.join(name), &new).await.unwrap();
        catalog.admit(ANNA, "anna").await.unwrap();
        catalog
    }

    #[tokio::test]
    async fn what_was_read_is_kept_and_a_catalog_that_lost_members_and_retirements_gets_them_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("roster");
        let mirror = RosterMirror::load(GROUP, file.clone());
        assert_eq!(mirror.roster(), None);
        let first = catalog(folder.path(), "first.db").await;
        first.admit(BEN, "ben").await.unwrap();
        first.admit(EVE, "eve").await.unwrap();
        let last = Stamp { incarnation: Incarnation(5), counter: 3 };
        first.retire(EVE, last).await.unwrap();
        mirror.read(&first, ANNA).await.unwrap();
        let (workgroup, members) = mirror.roster().unwrap();
        assert_eq!(workgroup, first.workgroup().await.unwrap());
        let again = RosterMirror::load(GROUP, file.clone());
        assert_eq!(again.roster(), Some((workgroup.clone(), members.clone())));
        // A copy of the catalog from before.
        let restored = catalog(folder.path(), "restored.db").await;
        restored.admit(EVE, "eve").await.unwrap();
        again.read(&restored, ANNA).await.unwrap();
        let admitted = restored.admit(EVE, "eve").await;
        assert_eq!(admitted, Err(CatalogError::Retired { client: EVE }));
        assert_eq!(restored.members().await.unwrap(), first.members().await.unwrap());
        // The one that takes its place begins with all of it.
        let successor = Successor { workgroup, epoch_number: 9, members };
        let path = folder.path().join("second.db");
        SqliteCatalog::create_successor(&path, &successor).await.unwrap();
        let second = SqliteCatalog::open(&path, Some(GROUP)).await.unwrap();
        assert_eq!(second.members().await.unwrap(), first.members().await.unwrap());
    }

    #[test]
    fn a_file_that_is_none_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [&b""[..], b"tcat roster 1\n", b"tcat roster 1\nxyz", b"something else"] {
            fs::write(folder.path().join("roster"), bytes).unwrap();
            assert_eq!(RosterMirror::load(GROUP, folder.path().join("roster")).roster(), None);
        }
    }
}
