//! The control API's answers, from the engine, the catalog and what was counted here.

use super::driver::{EngineHandle, Stopped};
use super::effects::Effects;
use super::events::Events;
use super::keys;
use super::promoting::Promotion;
use super::scanning::Finished;
use super::serving::Serving;
use crate::control::{Control, ControlError};
use crate::invitations::InvitationBook;
use crate::refusals::Refusals;
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tcat_api::types::{
    BrakeAnswer, BrakeStatus, ByteCounts, ClientStatus, ConflictNote, CopyRow, DeleteAnswer, HostStatus,
    ImportRow, Invite, MediaCounts, MediaRow, MemberRow, Members, PeerStatus, PromoteAnswer, RetireAnswer,
    ScanAnswer, Show, Status, TaskStatus, UnreadableNote, WaitAnswer, WorkgroupStatus,
};
use tcat_engine::catalog::{CatalogRow, RowState};
use tcat_engine::catalog_rules::being_killed;
use tcat_engine::engine::{EngineError, ItemReport, Report, TaskReport};
use tcat_engine::entry::OwnedEntry;
use tcat_engine::ids::{ClientId, ItemId, WorkgroupId};
use tcat_engine::paths::{MediaPath, fold};
use tcat_engine::ports::{BrakeAnswer as Answer, Input};
use tcat_engine::roster::Standing;
use tcat_storage::catalog::{Catalog, CatalogError};
use tokio::sync::watch;

/// How long a question to the catalog may take before the answer does without.
const CATALOG_PATIENCE: Duration = Duration::from_secs(3);

/// One workgroup's answers.
pub(super) struct GroupControl {
    pub(super) me: ClientId,
    pub(super) name: String,
    pub(super) workgroup: (WorkgroupId, String),
    pub(super) engine: EngineHandle,
    pub(super) effects: Arc<Effects>,
    pub(super) serving: Arc<Serving>,
    pub(super) events: Arc<Events>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) scans: watch::Receiver<Option<Finished>>,
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) book: Arc<InvitationBook>,
    pub(super) keys: Arc<tcat_net::Keys>,
    pub(super) promotion: Arc<Promotion>,
}

fn stopping(_: Stopped) -> ControlError {
    ControlError::Failed { why: "the node is stopping".into(), what_to_do: "start it again".into() }
}

fn damaged(error: EngineError) -> ControlError {
    ControlError::Failed { why: error.to_string(), what_to_do: "see the log, then restart the node".into() }
}

fn catalog_failed(error: impl std::fmt::Display) -> ControlError {
    ControlError::Failed {
        why: error.to_string(),
        what_to_do: "see that the catalog can be reached, try again".into(),
    }
}

impl GroupControl {
    /// The names in the roster, by client; what members have told of themselves if the catalog does not answer.
    async fn names(&self) -> BTreeMap<ClientId, String> {
        match tokio::time::timeout(CATALOG_PATIENCE, self.catalog.members()).await {
            Ok(Ok(members)) => members.into_iter().map(|member| (member.client, member.name)).collect(),
            _ => self.told_names().await,
        }
    }

    async fn told_names(&self) -> BTreeMap<ClientId, String> {
        // A node that is stopping has nothing to tell.
        let peers = self.report().await.map(|report| report.peers).unwrap_or_default();
        let told = peers.into_iter().filter_map(|peer| Some((peer.client, peer.name?)));
        told.chain([(self.me, self.name.clone())]).collect()
    }

    /// The catalog's id, and how an item came in; or why the catalog does not say.
    async fn ask_for_import(&self, item: ItemId) -> Result<(String, Option<ImportRow>), String> {
        let asking = async {
            let catalog_id = self.catalog.workgroup().await?.catalog.to_string();
            Ok((catalog_id, self.catalog.import(item).await?))
        };
        let asked = tokio::time::timeout(CATALOG_PATIENCE, asking).await;
        let asked: Result<_, CatalogError> = asked.map_err(|_| "it does not answer".to_owned())?;
        let (catalog_id, import) = asked.map_err(|error| error.to_string())?;
        let import = import.map(|import| ImportRow {
            catalog_id: catalog_id.clone(),
            id: item.to_string(),
            state: import.state,
            md5: import.md5.to_string(),
            source_server: import.source_server,
            source_path: import.source_path,
            upload_date: import.upload_date,
            source: import.source,
        });
        Ok((catalog_id, import))
    }

    async fn report(&self) -> Result<Report, ControlError> {
        self.engine.ask(|engine| engine.report()).await.map_err(stopping)
    }

    fn peers(&self, report: &Report, names: &BTreeMap<ClientId, String>) -> Vec<PeerStatus> {
        let known: BTreeMap<_, _> = report.peers.iter().map(|peer| (peer.client, peer)).collect();
        let clients: std::collections::BTreeSet<_> = known.keys().chain(names.keys()).copied().collect();
        let status = |client: ClientId| {
            let peer = known.get(&client);
            let told = peer.and_then(|peer| peer.name.clone());
            PeerStatus {
                id: client.to_string(),
                name: names.get(&client).cloned().or(told).unwrap_or_else(|| client.short()),
                alive: peer.is_some_and(|peer| peer.live),
                last_contact_ms: peer.and_then(|peer| peer.last_contact_ms),
                lag: peer.and_then(|peer| peer.lag).unwrap_or(0),
                refusals: self.refusals.of(&client),
            }
        };
        let is_shown = |client: &ClientId| *client != self.me && !report.retired.contains(client);
        clients.into_iter().filter(is_shown).map(status).collect()
    }

    async fn host(&self, report: &Report, names: &BTreeMap<ClientId, String>) -> Option<HostStatus> {
        if self.promotion.elsewhere.is_some() {
            return None;
        }
        let client = self.promotion.host.finding.known().await?.client;
        Some(HostStatus {
            id: client.to_string(),
            name: names.get(&client).cloned().unwrap_or_else(|| client.short()),
            me: client == self.me,
            reachable: !report.catalog_away,
        })
    }

    fn task(&self, task: &TaskReport) -> TaskStatus {
        TaskStatus {
            id: format!("{}-{}", task.kind, task.item),
            item: task.item.to_string(),
            kind: task.kind.into(),
            state: task.state.into(),
            done_bytes: task.effect.map_or(0, |effect| self.effects.moved.bytes_of(effect)),
            total_bytes: (task.total_bytes > 0).then_some(task.total_bytes),
            error: task.error.clone(),
        }
    }

    fn parked(report: &Report) -> Vec<TaskStatus> {
        let parked = |(item, why): &(ItemId, String)| TaskStatus {
            id: format!("parked-{item}"),
            item: item.to_string(),
            kind: "settle".into(),
            state: "parked".into(),
            error: Some(why.clone()),
            ..TaskStatus::default()
        };
        report.resting.iter().map(parked).collect()
    }

    async fn absent(&self, report: &Report) -> Vec<String> {
        let names = self.names().await;
        self.peers(report, &names).into_iter().filter(|peer| !peer.alive).map(|peer| peer.name).collect()
    }

    async fn wait_answer(&self, began: Instant, settled: bool) -> Result<WaitAnswer, ControlError> {
        let report = self.report().await?;
        let mut unfinished = Vec::new();
        if !settled {
            let line = |task: &TaskReport| {
                let error = task.error.as_ref().map_or(String::new(), |why| format!(": {why}"));
                format!("{} {}: {}{error}", task.kind, task.item, task.state)
            };
            unfinished.extend(report.tasks.iter().map(line));
            if report.unsettled > 0 {
                unfinished.push(format!("{} items are not settled here", report.unsettled));
            } else if !report.at_rest {
                unfinished.push("files here are still being written or looked at".into());
            }
            for peer in report.peers.iter().filter(|peer| peer.live && peer.lag.unwrap_or(0) > 0) {
                let name = peer.name.clone().unwrap_or_else(|| peer.client.short());
                unfinished.push(format!("{name} is {} entries apart", peer.lag.unwrap_or(0)));
            }
            if unfinished.is_empty() {
                let names: Vec<_> = report
                    .peers
                    .iter()
                    .filter(|peer| peer.live)
                    .filter_map(|peer| peer.name.clone())
                    .collect();
                unfinished.push(format!(
                    "nothing is left to do here, but not all of these rest: {}",
                    names.join(", ")
                ));
            }
        }
        Ok(WaitAnswer {
            settled,
            waited_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            conflicts: self.conflicts().await?,
            parked: Self::parked(&report),
            absent: self.absent(&report).await,
            unfinished,
            left_out: 0,
        }
        .bounded())
    }

    async fn conflicts(&self) -> Result<Vec<ConflictNote>, ControlError> {
        let mut notes = Vec::new();
        for (item, kept_as) in self.events.conflicts() {
            let report = self.item(item).await?;
            let path = report.row.map_or(String::new(), |row| row.cache_path.to_string());
            notes.push(ConflictNote { item: item.to_string(), path, kept_as: kept_as.to_string() });
        }
        Ok(notes)
    }

    async fn item(&self, item: ItemId) -> Result<ItemReport, ControlError> {
        self.engine.ask(move |engine| engine.item_report(&item)).await.map_err(stopping)?.map_err(damaged)
    }

    async fn find(&self, what: &str) -> Result<ItemId, ControlError> {
        let missing = || ControlError::NotFound {
            what: format!("there is no item {what:?}"),
            what_to_do: "name an item by its id, or by its path in the media folder".into(),
        };
        if let Ok(item) = what.parse::<ItemId>() {
            return Ok(item);
        }
        let path = MediaPath::parse(what).map_err(|_| missing())?;
        let found = self.engine.ask(move |engine| engine.item_at(&path)).await.map_err(stopping)?;
        found.map_err(damaged)?.ok_or_else(missing)
    }
}

#[async_trait]
impl Control for GroupControl {
    async fn status(&self) -> Result<Status, ControlError> {
        let (report, names) = (self.report().await?, self.names().await);
        let pair = |stamp: tcat_engine::clock::Stamp| (stamp.incarnation.0, stamp.counter);
        let count =
            |kinds: &[&str]| report.tasks.iter().filter(|task| kinds.contains(&task.kind)).count() as u64;
        let missing = report.tasks.iter().filter(|task| task.kind == "retry").count() as u64;
        let moved = &self.effects.moved;
        let mut tasks: Vec<_> = report.tasks.iter().map(|task| self.task(task)).collect();
        tasks.extend(Self::parked(&report));
        tasks.truncate(tcat_api::types::LIST_ITEMS_MAX);
        Ok(Status {
            client: ClientStatus {
                id: self.me.to_string(),
                name: names.get(&self.me).cloned().unwrap_or_else(|| self.name.clone()),
                incarnation: report.incarnation.0,
            },
            workgroup: WorkgroupStatus {
                id: self.workgroup.0.to_string(),
                name: self.workgroup.1.clone(),
                clock: report.vector.iter().map(|(_, stamp)| stamp.counter).sum(),
            },
            settled: report.at_rest && !report.catalog_away,
            brake: report.brake.on,
            clock: report.vector.iter().map(|(client, stamp)| (client.to_string(), pair(*stamp))).collect(),
            peers: self.peers(&report, &names),
            media: MediaCounts {
                total: report.rows,
                settled: report.rows.saturating_sub(report.unsettled),
                uploading: count(&["import", "upload"]) + report.uploads_waiting,
                downloading: count(&["download"]) + report.downloads_waiting,
                conflict: report.versions,
                missing,
                parked: report.resting.len() as u64,
            },
            tasks,
            bytes: ByteCounts {
                lan_in: moved.lan_in.load(Ordering::Relaxed),
                lan_out: self.serving.lan_out.load(Ordering::Relaxed),
                cloud_in: moved.cloud_in.load(Ordering::Relaxed),
                cloud_out: moved.cloud_out.load(Ordering::Relaxed),
            },
            cloud_fetches: moved.cloud_fetches.load(Ordering::Relaxed),
            host: self.host(&report, &names).await,
        })
    }

    async fn wait(&self, timeout: Duration) -> Result<WaitAnswer, ControlError> {
        let began = Instant::now();
        let (id, rested) = self.events.wait();
        let asked = Asked { id, control: self };
        self.engine.input(Input::Wait(id)).await.map_err(stopping)?;
        let settled = tokio::time::timeout(timeout, rested).await.is_ok_and(|heard| heard.is_ok());
        drop(asked);
        self.wait_answer(began, settled).await
    }

    async fn scan(&self) -> Result<ScanAnswer, ControlError> {
        let began = Instant::now();
        let mut scans = self.scans.clone();
        self.engine.input(Input::Rescan).await.map_err(stopping)?;
        let ours =
            |finished: &Option<Finished>| finished.as_ref().is_some_and(|finished| finished.began >= began);
        let finished = scans.wait_for(ours).await.map_err(|_| stopping(Stopped))?.clone();
        let Some(Finished { outcome, unreadable, took, .. }) = finished else {
            return Err(stopping(Stopped));
        };
        let summary =
            outcome.map_err(|why| ControlError::Failed { why, what_to_do: "then scan again".into() })?;
        let note =
            |(path, why): &(MediaPath, String)| UnreadableNote { path: path.to_string(), why: why.clone() };
        Ok(ScanAnswer {
            files: summary.files,
            hashed: summary.files_hashed,
            hashed_bytes: summary.bytes_hashed,
            busy: summary.busy,
            absent: 0,
            unreadable: unreadable.iter().map(note).collect(),
            left_out: summary.unreadable.saturating_sub(unreadable.len() as u64),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
        .bounded())
    }

    async fn brake(&self, answer: Option<BrakeAnswer>) -> Result<BrakeStatus, ControlError> {
        let held = self.report().await?.brake;
        if let Some(answer) = answer {
            let answer = match answer {
                BrakeAnswer::Accept => Answer::Accept,
                BrakeAnswer::Refuse => Answer::Refuse,
            };
            self.engine.input(Input::Brake(answer)).await.map_err(stopping)?;
        }
        let now = self.report().await?.brake;
        Ok(BrakeStatus {
            on: now.on,
            deleted: held.deleted,
            rewritten: held.rewritten,
            renamed: held.renamed,
            new_files: held.imports,
            undoing: now.undoing,
        })
    }

    async fn show(&self, what: &str) -> Result<Show, ControlError> {
        let item = self.find(what).await?;
        let (report, names) = (self.item(item).await?, self.names().await);
        if report.row.is_none() && report.entries.is_empty() {
            return Err(ControlError::NotFound {
                what: format!("there is no item {what:?}"),
                what_to_do: "name an item by its id, or by its path in the media folder".into(),
            });
        }
        let (catalog_id, import, catalog_away) = match self.ask_for_import(item).await {
            Ok((catalog_id, import)) => (catalog_id, import, None),
            Err(away) => (String::new(), None, Some(away)),
        };
        let row = report.row.as_ref();
        Ok(Show {
            tcat_media: row.map(|row| media_row(row, catalog_id)),
            tcat_import: import,
            copies: report.entries.iter().filter_map(|entry| copy_row(entry, row, &names)).collect(),
            catalog_away,
        })
    }

    async fn delete(&self, what: &str) -> Result<DeleteAnswer, ControlError> {
        let item = self.find(what).await?;
        let row = self.item(item).await?.row;
        let kept = row.is_some_and(|row| !being_killed(&row));
        if !kept {
            return Err(ControlError::NotFound {
                what: format!("{what:?} is not in the catalog, or is being deleted already"),
                what_to_do: "see `tcat show`; a file that is not in the catalog can simply be removed".into(),
            });
        }
        self.engine.input(Input::Delete(item)).await.map_err(stopping)?;
        Ok(DeleteAnswer { item: item.to_string() })
    }

    async fn invite(&self) -> Result<Invite, ControlError> {
        let (code, expires) = self.book.invite().map_err(|error| ControlError::Failed {
            why: format!("no code could be made: {error}"),
            what_to_do: "try again".into(),
        })?;
        let expires = Timestamp::try_from(expires).unwrap_or(Timestamp::MAX);
        Ok(Invite { code: code.encode(), expires: expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() })
    }

    async fn members(&self) -> Result<Members, ControlError> {
        let (names, report) = (self.names().await, self.report().await?);
        let clients: Vec<ClientId> = names.keys().copied().collect();
        let standings = self.engine.ask(move |engine| {
            let standing = |client: ClientId| (client, engine.standing_in_roster(&client));
            clients.into_iter().map(standing).collect::<BTreeMap<_, _>>()
        });
        let standings = standings.await.map_err(stopping)?;
        let row = |(client, name): (&ClientId, &String)| {
            let peer = report.peers.iter().find(|peer| peer.client == *client);
            MemberRow {
                id: client.to_string(),
                name: name.clone(),
                standing: standing_word(standings.get(client).copied().flatten()).to_owned(),
                me: *client == self.me,
                alive: peer.is_some_and(|peer| peer.live),
                last_contact_ms: peer.and_then(|peer| peer.last_contact_ms),
            }
        };
        let mut members: Vec<MemberRow> = names.iter().map(row).collect();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Members { members })
    }

    async fn retire(&self, wanted: &str) -> Result<RetireAnswer, ControlError> {
        let names = self.catalog.members().await.map_err(catalog_failed)?;
        let found = names
            .into_iter()
            .find(|member| member.client.to_string() == wanted || fold(&member.name) == fold(wanted));
        let Some(member) = found else {
            return Err(ControlError::NotFound {
                what: format!("no member is called {wanted:?}"),
                what_to_do: "see `tcat members`; name one as it is listed there, or by its whole id".into(),
            });
        };
        if member.client == self.me {
            return Err(ControlError::Failed {
                why: "this node is the one that you ask, and it cannot retire itself".into(),
                what_to_do: "run `tcat members retire` on another member".into(),
            });
        }
        let client = member.client;
        let last =
            self.engine.ask(move |engine| engine.report().vector.get(&client)).await.map_err(stopping)?;
        self.catalog.retire(client, last).await.map_err(catalog_failed)?;
        // Before anybody else: it is told to all that are connected, and not to who is retired.
        let mut retired = self.engine.ask(|engine| engine.retired()).await.map_err(stopping)?;
        retired.push(client);
        keys::rotate(&self.keys, retired).await;
        tracing::info!(
            client = client.short(),
            "retired {:?}; what it wrote up to {last:?} counts",
            member.name
        );
        self.engine.input(Input::RosterChanged).await.map_err(stopping)?;
        Ok(RetireAnswer { id: client.to_string(), name: member.name })
    }

    async fn promote(&self) -> Result<PromoteAnswer, ControlError> {
        let promotion = Arc::clone(&self.promotion);
        // Who asked may go away meanwhile: what was begun is done.
        let promoted = tokio::spawn(async move { promotion.promote().await }).await;
        let promoted = promoted.map_err(|_| stopping(Stopped))??;
        let before = promoted.before.filter(|before| *before != self.me);
        let names = self.promotion.host.mirror.roster().map(|(_, members)| members).unwrap_or_default();
        let name = |client: ClientId| {
            let known = names.iter().find(|(member, _)| member.client == client);
            known.map_or_else(|| client.short(), |(member, _)| member.name.clone())
        };
        Ok(PromoteAnswer {
            epoch: promoted.epoch,
            host_before: before.map(name),
            handed_over: promoted.reached && before.is_some(),
        })
    }
}

/// Takes the question back when it is answered, too late, or when who asked goes away.
struct Asked<'a> {
    id: u64,
    control: &'a GroupControl,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.control.events.forget(self.id);
        let (engine, id) = (self.control.engine.clone(), self.id);
        tokio::spawn(async move { engine.input(Input::WaitCancelled(id)).await });
    }
}

fn standing_word(standing: Option<Standing>) -> &'static str {
    match standing {
        // Whoever the catalog names and the engine has not read of yet has just joined.
        Some(Standing::Current) | None => "current",
        Some(Standing::Absent) => "absent",
        Some(Standing::Retired { .. }) => "retired",
    }
}

fn media_row(row: &CatalogRow, catalog_id: String) -> MediaRow {
    let state = match row.state {
        RowState::Pending { .. } => "pending",
        RowState::Active => "active",
        RowState::KillRequest => "kill-request",
        RowState::KillWip => "kill-wip",
        RowState::KillComplete => "kill-complete",
    };
    let dot = row.revision.0;
    MediaRow {
        catalog_id,
        id: row.item.to_string(),
        virtual_path: row.virtual_path.clone(),
        cache_path: row.cache_path.to_string(),
        content_type: row.content_type.clone(),
        state: state.into(),
        md5: row.content.md5.to_string(),
        size: row.content.size,
        blake3: row.content.blake3.map(|blake3| blake3.to_string()),
        revision: format!("{}@{}.{}", dot.client, dot.stamp.incarnation.0, dot.stamp.counter),
        object_id: row.object_name().to_string(),
        generation: row.generation,
        upload: row.upload,
        version_of: row.version_of.map(|item| item.to_string()),
    }
}

fn copy_row(
    entry: &OwnedEntry,
    row: Option<&CatalogRow>,
    names: &BTreeMap<ClientId, String>,
) -> Option<CopyRow> {
    let copy = entry.entry.copy.as_ref()?;
    let held = copy.held.as_ref();
    let date = |held: &tcat_engine::entry::Held| {
        let ms = i64::try_from(held.cached_date_ms).ok()?;
        Some(Timestamp::from_millisecond(ms).ok()?.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    };
    let owner = entry.owner();
    Some(CopyRow {
        client: names.get(&owner).cloned().unwrap_or_else(|| owner.short()),
        path: held.map_or(String::new(), |held| held.path.to_string()),
        cached_by: owner.to_string(),
        cached_date: held.and_then(date),
        vector_clock: (entry.dot.stamp.incarnation.0, entry.dot.stamp.counter),
        md5: held.map(|held| held.content.md5.to_string()),
        size: held.map(|held| held.content.size),
        settled: held.zip(row).is_some_and(|(held, row)| held.content.same_as(&row.content)),
    })
}
