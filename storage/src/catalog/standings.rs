//! Where the clients of the roster stand: visits, absence, retirement.
//!
//! What holds always: the rules are [`tcat_engine::roster`]'s, applied to the whole roster in one transaction; a client
//! that was retired stays so, and its last dot with it. Who was never seen counts from its first sight here. Not here:
//! admitting a client (`roster`), and what absence means for others (the engine's).

use super::error::CatalogError;
use super::roster;
use super::rows::{Reader, stamp_text};
use super::session::Session;
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeMap;
use tcat_engine::clock::Stamp;
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_engine::roster::{self as rules, RosterMember, Standing, Visit};

/// The time by the catalog's clock, in milliseconds since 1970.
fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
}

/// See [`super::Catalog::visit_roster`].
pub(super) async fn visit(session: &mut Session, visit: &Visit) -> Result<Vec<RosterMember>, CatalogError> {
    let before = read(session).await?;
    let mut after = before.iter().map(|(member, _)| member.clone()).collect::<Vec<_>>();
    rules::visit(&mut after, visit, now_ms());
    write(session, &before, &after).await?;
    Ok(after)
}

/// See [`super::Catalog::retire`].
pub(super) async fn retire(session: &mut Session, client: ClientId, last: Stamp) -> Result<(), CatalogError> {
    let before = read(session).await?;
    let mut after = before.iter().map(|(member, _)| member.clone()).collect::<Vec<_>>();
    if !rules::retire(&mut after, &client, last) {
        return Err(CatalogError::NotMember { client, workgroup: session.workgroup_id() });
    }
    write(session, &before, &after).await
}

/// The roster, and of each client whether it has a row of its own in the table of standings.
async fn read(session: &mut Session) -> Result<Vec<(RosterMember, bool)>, CatalogError> {
    let query =
        sqlx::query("SELECT client, standing, lastStamp, seenMs FROM tcat_standings WHERE workgroup = ?1");
    let rows = session.fetch_all(query.bind(session.workgroup())).await?;
    let mut standings = BTreeMap::new();
    for row in &rows {
        let reader = Reader::new(session, row);
        let standing = match reader.text("standing")?.as_str() {
            "absent" => Standing::Absent,
            "retired" => Standing::Retired { last: reader.stamp("lastStamp")? },
            _ => Standing::Current,
        };
        standings.insert(reader.id::<ClientId>("client")?, (standing, reader.unsigned("seenMs")?));
    }
    let members = roster::members(session).await?;
    Ok(members
        .into_iter()
        .map(|member| {
            let known = standings.get(&member.client).copied();
            let (standing, seen_ms) = known.unwrap_or((Standing::Current, now_ms()));
            let (client, stamp) = (member.client, member.stamp);
            (RosterMember { client, stamp, standing, seen_ms }, known.is_some())
        })
        .collect())
}

/// Enters where a member of the catalog before this one stood.
pub(super) async fn enter(
    connection: &mut SqliteConnection,
    workgroup: &WorkgroupId,
    client: &ClientId,
    standing: &Standing,
) -> Result<(), sqlx::Error> {
    let (standing, last) = texts(standing);
    let query = sqlx::query(
        "INSERT INTO tcat_standings (workgroup, client, standing, lastStamp, seenMs) VALUES (?1, ?2, ?3, ?4, ?5)",
    );
    let query = query.bind(workgroup.to_string()).bind(client.to_string()).bind(standing).bind(last);
    query.bind(i64::try_from(now_ms()).unwrap_or_default()).execute(connection).await.map(drop)
}

fn texts(standing: &Standing) -> (&'static str, String) {
    match standing {
        Standing::Current => ("current", String::new()),
        Standing::Absent => ("absent", String::new()),
        Standing::Retired { last } => ("retired", stamp_text(last)),
    }
}

async fn write(
    session: &mut Session,
    before: &[(RosterMember, bool)],
    after: &[RosterMember],
) -> Result<(), CatalogError> {
    for ((before, is_kept), after) in before.iter().zip(after) {
        if before == after && *is_kept {
            continue;
        }
        let (standing, last) = texts(&after.standing);
        let query = sqlx::query(
            "INSERT INTO tcat_standings (workgroup, client, standing, lastStamp, seenMs) \
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (workgroup, client) DO UPDATE SET \
             standing = excluded.standing, lastStamp = excluded.lastStamp, seenMs = excluded.seenMs",
        );
        let query = query.bind(session.workgroup()).bind(after.client.to_string()).bind(standing).bind(last);
        let query = query.bind(session.integer(after.seen_ms)?);
        session.execute(query).await?;
        let query = sqlx::query(
            "UPDATE tcat_workgroup_clients SET vectorClock = max(vectorClock, ?3) WHERE workgroup = ?1 AND id = ?2",
        );
        let query = query.bind(session.workgroup()).bind(after.client.to_string());
        session.execute(query.bind(stamp_text(&after.stamp))).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ANNA, BEN, fixture, revision};
    use super::super::{Catalog, CatalogError, Intended, SqliteCatalog, Successor};
    use super::*;
    use tcat_engine::catalog::Refusal;
    use tcat_engine::content::{Content, Md5};
    use tcat_engine::ids::{ItemId, ObjectId};

    fn here(client: ClientId, stamp: Stamp) -> Visit {
        Visit { client, stamp, present: true, horizon_ms: 1000 }
    }

    #[tokio::test]
    async fn a_visit_notes_a_stamp_that_never_goes_back_and_who_is_not_seen_becomes_absent() {
        let fixture = fixture().await;
        let (first, later) = (revision(ANNA, 7).0.stamp, revision(ANNA, 9).0.stamp);
        fixture.catalog.visit_roster(&here(ANNA, later)).await.unwrap();
        let roster = fixture.catalog.visit_roster(&here(ANNA, first)).await.unwrap();
        assert_eq!((roster[0].client, roster[0].stamp), (ANNA, later));
        assert_eq!(roster[1].standing, Standing::Current);
        let mut strict = here(ANNA, first);
        strict.horizon_ms = 0;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let roster = fixture.catalog.visit_roster(&strict).await.unwrap();
        assert_eq!((roster[0].standing, roster[1].standing), (Standing::Current, Standing::Absent));
        let roster = fixture.catalog.visit_roster(&here(BEN, first)).await.unwrap();
        assert_eq!(roster[1].standing, Standing::Current);
    }

    #[tokio::test]
    async fn a_successor_has_ids_and_roster_of_the_catalog_before_it_and_a_later_epoch() {
        let fixture = fixture().await;
        let (stamp, last) = (revision(ANNA, 7).0.stamp, revision(BEN, 4).0.stamp);
        fixture.catalog.visit_roster(&here(ANNA, stamp)).await.unwrap();
        fixture.catalog.retire(BEN, last).await.unwrap();
        fixture.catalog.create(&super::super::tests::new_item(1, "a.jpg")).await.unwrap();
        let members = fixture.catalog.members().await.unwrap();
        let standings = [Standing::Current, Standing::Retired { last }];
        let successor = Successor {
            workgroup: fixture.catalog.workgroup().await.unwrap(),
            epoch_number: 8,
            members: members.clone().into_iter().zip(standings).collect(),
        };
        let path = fixture.folder.path().join("second.db");
        SqliteCatalog::create_successor(&path, &successor).await.unwrap();
        assert!(!fixture.folder.path().join("second.db-wal").exists(), "one file, which can be renamed");
        let again = SqliteCatalog::create_successor(&path, &successor).await;
        assert!(matches!(again, Err(CatalogError::AlreadyThere { .. })), "{again:?}");
        let second = SqliteCatalog::open(&path, Some(successor.workgroup.id)).await.unwrap();
        assert_eq!(second.workgroup().await.unwrap(), successor.workgroup);
        assert_eq!(second.epoch().await.unwrap().number, 8);
        assert_eq!(second.members().await.unwrap(), members);
        let roster = second.visit_roster(&here(ANNA, Stamp::default())).await.unwrap();
        assert_eq!((roster[0].stamp, roster[1].standing), (stamp, standings[1]));
        let position = fixture.catalog.feed(Default::default(), 9).await.unwrap().through;
        let epoch = second.epoch().await.unwrap();
        assert_eq!(second.feed(position, 9).await, Err(CatalogError::Restored { epoch }));
        assert_eq!(second.feed(Default::default(), 9).await.unwrap().changes, []);
    }

    #[tokio::test]
    async fn who_is_retired_changes_nothing_any_more() {
        let fixture = fixture().await;
        let last = revision(BEN, 4).0.stamp;
        fixture.catalog.retire(BEN, last).await.unwrap();
        let again = fixture.catalog.admit(BEN, "ben").await;
        assert!(matches!(again, Err(CatalogError::Retired { client: BEN })), "{again:?}");
        let roster = fixture.catalog.visit_roster(&here(BEN, last)).await.unwrap();
        assert_eq!(roster[1].standing, Standing::Retired { last });
        let content = Content { md5: Md5([1; 16]), size: 3, blake3: None };
        let object = (ObjectId([1; 16]), ItemId([2; 16]));
        let intended = fixture.catalog.intend(object.0, object.1, &content, 0, BEN).await.unwrap();
        assert_eq!(intended, Intended::Refused(Refusal::Roster));
        let stranger = ClientId([9; 32]);
        assert!(matches!(fixture.catalog.retire(stranger, last).await, Err(CatalogError::NotMember { .. })));
    }
}
