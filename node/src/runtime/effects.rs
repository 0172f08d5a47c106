//! Doing what the engine orders, one storage or network call each, and telling how it ended.

use super::driver::EngineHandle;
use crate::host::mirror::RosterMirror;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tcat_engine::catalog::{FeedPosition, Refusal};
use tcat_engine::content::Content;
use tcat_engine::ids::{ClientId, ObjectId};
use tcat_engine::observation::FileStat;
use tcat_engine::outboard::Outboard;
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::{Effect, EffectId, Input, Object, Outcome, Publish};
use tcat_engine::roster::Visit;
use tcat_net::{FetchError, NetHandle};
use tcat_storage::cache_folder::{
    self, CacheFolder, Expected, FolderError, Moved as FileMoved, Published, SetAside, Trashed,
};
use tcat_storage::catalog::{Catalog, CatalogError, Intended};
use tcat_storage::client_database::ClientDatabase;
use tcat_storage::hashing::{HashError, Hashed, hash_in_folder};
use tcat_storage::objects::{ObjectError, Objects};
use tcat_storage::platform::OwnFile;
use tokio::sync::oneshot;

/// How often, and how long apart, a busy member is asked again before another source is looked for.
const BUSY_ATTEMPTS_MAX: u32 = 600;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// What effects are done with.
pub(super) struct Effects {
    pub(super) me: ClientId,
    pub(super) name: String,
    pub(super) quiet_ms: u64,
    /// How often the engine is told how many bytes a transfer has moved.
    pub(super) progress_pause: Duration,
    pub(super) catalog: Arc<dyn Catalog>,
    /// The roster, where this node may have to become host.
    pub(super) mirror: Option<Arc<RosterMirror>>,
    pub(super) objects: Objects,
    pub(super) folder: Arc<CacheFolder>,
    pub(super) client_database: Arc<ClientDatabase>,
    pub(super) net: NetHandle,
    pub(super) moved: Moved,
}

/// Bytes moved since this start, and by each transfer under way.
#[derive(Default)]
pub(super) struct Moved {
    under_way: Mutex<BTreeMap<EffectId, Arc<AtomicU64>>>,
    pub(super) lan_in: AtomicU64,
    pub(super) cloud_in: AtomicU64,
    pub(super) cloud_out: AtomicU64,
    pub(super) cloud_fetches: AtomicU64,
}

impl Moved {
    fn begin(&self, id: EffectId) -> Arc<AtomicU64> {
        let counter = Arc::new(AtomicU64::new(0));
        self.lock().insert(id, Arc::clone(&counter));
        counter
    }

    pub(super) fn end(&self, id: EffectId) {
        self.lock().remove(&id);
    }

    /// How many bytes a transfer has moved.
    pub(super) fn bytes_of(&self, id: EffectId) -> u64 {
        self.lock().get(&id).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<EffectId, Arc<AtomicU64>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transfer's progress, added to a total as it comes.
struct Meter<'a> {
    done: Arc<AtomicU64>,
    total: &'a AtomicU64,
    /// Whether the next word tells what an earlier attempt left: progress, but not moved now.
    resumes: AtomicBool,
}

impl<'a> Meter<'a> {
    fn new(done: Arc<AtomicU64>, total: &'a AtomicU64, resumes: bool) -> Self {
        Self { done, total, resumes: AtomicBool::new(resumes) }
    }

    fn tell(&self, bytes: u64) {
        let before = self.done.swap(bytes, Ordering::Relaxed);
        if !self.resumes.swap(false, Ordering::Relaxed) {
            self.total.fetch_add(bytes.saturating_sub(before), Ordering::Relaxed);
        }
    }
}

fn done(stat: Option<FileStat>) -> Outcome {
    Outcome::Done { stat: stat.unwrap_or_default() }
}

fn failed(error: impl std::fmt::Display) -> Outcome {
    Outcome::Failed(error.to_string())
}

/// What catalog and objects answer with where they do not do what was asked.
trait Answer: std::fmt::Display {
    /// Whether they could not be reached.
    fn is_unreachable(&self) -> bool;
}

impl Answer for CatalogError {
    fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl Answer for ObjectError {
    fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

fn refused(error: impl Answer) -> Outcome {
    if error.is_unreachable() { Outcome::Away(error.to_string()) } else { failed(error) }
}

fn answered<T, E: Answer>(answer: Result<T, E>, outcome: impl FnOnce(T) -> Outcome) -> Outcome {
    answer.map_or_else(refused, outcome)
}

impl Effects {
    /// Does one effect; the engine hears of a transfer's bytes now and then while they move, and it is broken off when
    /// `cancelled` is. What has begun in the folder is not broken off: it ends by itself, and soon.
    pub(super) async fn perform_watched(
        &self,
        id: EffectId,
        effect: Effect,
        cancelled: oneshot::Receiver<()>,
        engine: &EngineHandle,
    ) -> Outcome {
        if !matches!(effect, Effect::Get { .. } | Effect::Put { .. }) {
            return self.perform(id, effect).await;
        }
        let mut performing = std::pin::pin!(self.perform(id, effect));
        let mut cancelled = std::pin::pin!(cancelled);
        let mut told_bytes = 0;
        loop {
            tokio::select! {
                biased;
                outcome = &mut performing => return outcome,
                Ok(()) = &mut cancelled => {
                    self.moved.end(id);
                    return failed("broken off: another member does it, or the claim on it was lost");
                }
                () = tokio::time::sleep(self.progress_pause) => {
                    let bytes = self.moved.bytes_of(id);
                    if bytes > told_bytes {
                        told_bytes = bytes;
                        // An engine that has stopped wants to know nothing more.
                        let _ = engine.input(Input::Progress(id, bytes)).await;
                    }
                }
            }
        }
    }

    /// Does one effect.
    async fn perform(&self, id: EffectId, effect: Effect) -> Outcome {
        match effect {
            Effect::ReadFeed { after, limit } => self.read_feed(after, limit).await,
            Effect::VisitRoster(visit) => self.visit_roster(&visit).await,
            Effect::Create(new) => answered(self.catalog.create(&new).await, Outcome::Created),
            Effect::Repath(repath) => answered(self.catalog.repath(&repath).await, Outcome::Repathed),
            Effect::Commit(commit) => answered(self.catalog.commit(&commit).await, Outcome::Committed),
            Effect::Intend(object) => self.intend(object).await,
            Effect::Kill(kill) => answered(self.catalog.kill(&kill).await, Outcome::Killed),
            Effect::Delete { object } => answered(self.objects.delete(object).await, |()| done(None)),
            Effect::Unsound(order) => answered(self.catalog.unsound(&order).await, Outcome::Committed),
            Effect::NewEpoch(order) => answered(self.catalog.new_epoch(&order).await, Outcome::Epoch),
            Effect::Offer(offer) => answered(self.catalog.offer(&offer).await, Outcome::Offered),
            Effect::Put { object, path } => self.put(id, object, &path).await,
            Effect::Get { object, content } => self.get(id, object, content).await,
            Effect::Fetch { from, content, check_md5 } => self.fetch(id, from, content, check_md5).await,
            Effect::Untrash { content } => self.in_folder(move |folder| untrash(folder, &content)).await,
            Effect::Borrow { path, content } => {
                self.in_folder(move |folder| borrow(folder, &path, &content)).await
            }
            Effect::Publish(publish) => self.publish(publish).await,
            Effect::Trash { path, content } => {
                self.in_folder(move |folder| trash(folder, &path, &content)).await
            }
            Effect::SetAside { path, content, to } => {
                self.in_folder(move |folder| set_aside(folder, &path, &content, &to)).await
            }
            Effect::Move { path, to } => self.in_folder(move |folder| move_file(folder, &path, &to)).await,
        }
    }

    async fn in_folder(
        &self,
        work: impl FnOnce(&CacheFolder) -> Result<Outcome, FolderError> + Send + 'static,
    ) -> Outcome {
        let folder = Arc::clone(&self.folder);
        match tokio::task::spawn_blocking(move || work(&folder)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => failed(error),
            Err(error) => failed(format!("a step in the media folder broke off: {error}; it is tried again")),
        }
    }

    async fn visit_roster(&self, visit: &Visit) -> Outcome {
        let visited = self.catalog.visit_roster(visit).await;
        if let (Some(mirror), Ok(roster)) = (&self.mirror, &visited) {
            mirror.visited(roster);
        }
        answered(visited, Outcome::Roster)
    }

    async fn read_feed(&self, after: FeedPosition, limit: u32) -> Outcome {
        match self.catalog.feed(after, limit as usize).await {
            Ok(page) => Outcome::Feed(Box::new(page)),
            Err(CatalogError::Restored { epoch }) => Outcome::FeedRestored { epoch },
            Err(error) => failed(error),
        }
    }

    async fn intend(&self, object: Object) -> Outcome {
        let Object { id, item, content, generation } = object;
        match self.catalog.intend(id, item, &content, generation, self.me).await {
            Ok(Intended::Registered | Intended::Live) => done(None),
            Ok(Intended::Refused(Refusal::Condemned)) | Err(CatalogError::ObjectTaken { .. }) => {
                Outcome::Occupied
            }
            Ok(Intended::Refused(why)) => {
                failed(format!("the catalog refused the upload: {why}; join the workgroup again"))
            }
            Err(error) => refused(error),
        }
    }

    async fn put(&self, id: EffectId, object: Object, path: &MediaPath) -> Outcome {
        let (root, place) = (self.folder.root().to_owned(), path.clone());
        let opening = move || tcat_storage::platform::open_beneath(&root, &place);
        let file = match tokio::task::spawn_blocking(opening).await {
            Ok(Ok(file)) => file,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Outcome::Missing,
            Ok(Err(error)) => {
                return failed(format!("{path}: cannot be read ({error}); check its permissions"));
            }
            Err(error) => return failed(error),
        };
        let meter = Meter::new(self.moved.begin(id), &self.moved.cloud_out, false);
        let put = self
            .objects
            .put_file(object.id, file, path.as_str(), &object.content, &|bytes| meter.tell(bytes))
            .await;
        self.moved.end(id);
        match put {
            Ok(()) => done(None),
            Err(ObjectError::SourceChanged { .. }) => Outcome::Changed,
            Err(ObjectError::Occupied { .. }) => Outcome::Occupied,
            Err(error) => refused(error),
        }
    }

    async fn get(&self, id: EffectId, object: ObjectId, content: Content) -> Outcome {
        let partial = match self.folder.partial_file(content.key()) {
            Ok(partial) => partial,
            Err(error) => return failed(error),
        };
        let meter = Meter::new(self.moved.begin(id), &self.moved.cloud_in, false);
        let got = self.objects.get(object, &content, &partial, &|bytes| meter.tell(bytes)).await;
        self.moved.end(id);
        match got {
            Ok(fetched) => {
                self.moved.cloud_fetches.fetch_add(1, Ordering::Relaxed);
                self.keep_outboard(&fetched.outboard);
                done(None)
            }
            Err(ObjectError::Missing { .. }) => Outcome::Missing,
            Err(ObjectError::Corrupt { .. }) => Outcome::Corrupt,
            Err(error @ ObjectError::DestinationFull { .. }) => {
                self.give_room(content).await;
                failed(error)
            }
            Err(error) => refused(error),
        }
    }

    /// What came so far of a content that does not fit must not keep those out that would: it is fetched anew.
    async fn give_room(&self, content: Content) {
        let folder = Arc::clone(&self.folder);
        match tokio::task::spawn_blocking(move || folder.remove_partial(content.key())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!("{error}"),
            Err(error) => tracing::warn!("a partial file was not removed: {error}"),
        }
    }

    async fn fetch(&self, id: EffectId, from: ClientId, content: Content, check_md5: bool) -> Outcome {
        let partial = match self.folder.partial_file(content.key()) {
            Ok(partial) => partial,
            Err(error) => return failed(error),
        };
        let meter = Meter::new(self.moved.begin(id), &self.moved.lan_in, true);
        let fetched = self.fetch_when_free(from, &content, &partial, &meter).await;
        self.moved.end(id);
        match fetched {
            Ok(outboard) => {
                self.keep_outboard(&outboard);
                if check_md5 { check_partial(partial, content).await } else { done(None) }
            }
            Err(FetchError::NotHeld { .. }) => Outcome::Missing,
            Err(FetchError::Lied { .. }) => Outcome::Corrupt,
            Err(error @ FetchError::DiskFull { .. }) => {
                self.give_room(content).await;
                Outcome::NoRoom(error.to_string())
            }
            Err(error @ FetchError::Disk { .. }) => Outcome::NoRoom(error.to_string()),
            Err(error) => failed(error),
        }
    }

    /// A member that serves as many as it can has the content all the same: the cloud is no reason to give up on it.
    async fn fetch_when_free(
        &self,
        from: ClientId,
        content: &Content,
        partial: &OwnFile,
        meter: &Meter<'_>,
    ) -> Result<Outboard, FetchError> {
        for _ in 0..BUSY_ATTEMPTS_MAX {
            let (opening, path) = (partial.clone(), partial.place());
            let open = move || opening.open();
            match self.net.fetch(from, content, (open, path), &|bytes| meter.tell(bytes)).await {
                Err(FetchError::Busy { .. }) => tokio::time::sleep(BUSY_PAUSE).await,
                ended => return ended,
            }
        }
        Err(FetchError::Busy { from })
    }

    /// Keeping an outboard only saves hashing the content again before it is served.
    fn keep_outboard(&self, outboard: &Outboard) {
        if let Err(error) = self.client_database.store_outboard(outboard) {
            tracing::warn!("{error}");
        }
    }

    async fn publish(&self, publish: Box<Publish>) -> Outcome {
        let (name, quiet_ms) = (self.name.clone(), self.quiet_ms);
        self.in_folder(move |folder| {
            let partial = folder.partial(publish.content.key());
            let published = folder.publish(&cache_folder::Publish {
                item: publish.item,
                path: &publish.path,
                content: &publish.content,
                partial: &partial,
                expected: publish.expected.map_or(Expected::Absent, Expected::Content),
                known: &publish.known,
                author_name: &name,
                quiet_ms,
            });
            Ok(match published {
                Ok(Published::Placed { stat } | Published::Replaced { stat, .. }) => done(stat),
                Ok(Published::Edited { stat, kept_as }) => match kept_as.into_iter().next() {
                    Some(kept_as) => Outcome::Edited { stat: stat.unwrap_or_default(), kept_as },
                    None => done(stat),
                },
                Ok(Published::KnownThere { .. } | Published::Occupied) => Outcome::Changed,
                Err(FolderError::BadPartial { path, why }) => {
                    folder.remove_partial(publish.content.key())?;
                    failed(FolderError::BadPartial { path, why })
                }
                Err(error) => return Err(error),
            })
        })
        .await
    }
}

/// Whether a partial file has the content's MD5, where no BLAKE3 in the catalog has proved it.
async fn check_partial(partial: OwnFile, content: Content) -> Outcome {
    match tokio::task::spawn_blocking(move || hash(&partial)).await {
        Ok(Ok(hashed)) if hashed.content.same_as(&content) => done(None),
        Ok(Ok(_)) => Outcome::Corrupt,
        Ok(Err(error)) => failed(error),
        Err(error) => failed(error),
    }
}

fn hash(partial: &OwnFile) -> Result<Hashed, HashError> {
    let (folder, name) = partial.in_folder();
    hash_in_folder(folder, name, &|| false)
}

/// Fills a partial file with what `lender` opens, durably.
fn copy(lender: std::io::Result<fs::File>, partial: &OwnFile) -> std::io::Result<()> {
    let (mut lender, mut file) = (lender?, partial.open()?);
    file.set_len(0)?;
    std::io::copy(&mut lender, &mut file)?;
    file.sync_all()
}

fn untrash(folder: &CacheFolder, content: &Content) -> Result<Outcome, FolderError> {
    let Some(entry) = folder.find_in_trash(content)? else { return Ok(Outcome::Missing) };
    let partial = folder.partial_file(content.key())?;
    // Copied, not moved: trash keeps what it has until it expires.
    let copied = copy(fs::File::open(folder.place_in_trash(&entry)), &partial);
    if let Err(error) = copied {
        return Ok(failed(format!("{}: cannot be copied from trash: {error}; check the disk", entry.path)));
    }
    keep_if_it_is(folder, &partial, content)
}

/// A copied partial file counts only as what it was copied for.
fn keep_if_it_is(folder: &CacheFolder, partial: &OwnFile, content: &Content) -> Result<Outcome, FolderError> {
    match hash(partial) {
        Ok(hashed) if hashed.content.same_as(content) => Ok(done(None)),
        _ => {
            folder.remove_partial(content.key())?;
            Ok(Outcome::Missing)
        }
    }
}

/// Copies another file of this cache. Whatever it has become meanwhile, only the content asked for counts.
fn borrow(folder: &CacheFolder, path: &MediaPath, content: &Content) -> Result<Outcome, FolderError> {
    let partial = folder.partial_file(content.key())?;
    let copied = copy(tcat_storage::platform::open_beneath(folder.root(), path), &partial);
    match copied {
        Ok(()) => keep_if_it_is(folder, &partial, content),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Outcome::Missing),
        Err(error) => Ok(failed(format!("{path}: cannot be copied: {error}; check the disk"))),
    }
}

fn trash(folder: &CacheFolder, path: &MediaPath, content: &Content) -> Result<Outcome, FolderError> {
    Ok(match folder.trash(path, Some(content))? {
        Trashed::Trashed(_) | Trashed::KeptBeside(_) => done(None),
        Trashed::Differs(_) | Trashed::Changing => Outcome::Changed,
        Trashed::Absent => Outcome::Missing,
    })
}

fn set_aside(
    folder: &CacheFolder,
    path: &MediaPath,
    content: &Content,
    to: &MediaPath,
) -> Result<Outcome, FolderError> {
    Ok(match folder.set_aside(path, content, to)? {
        SetAside::Aside(stat) => done(stat),
        SetAside::Differs(_) | SetAside::Changing | SetAside::KeptAside => Outcome::Changed,
        SetAside::Occupied => Outcome::Occupied,
        SetAside::Absent => Outcome::Missing,
    })
}

fn move_file(folder: &CacheFolder, path: &MediaPath, to: &MediaPath) -> Result<Outcome, FolderError> {
    Ok(match folder.move_file(path, to)? {
        FileMoved::Moved(stat) => done(stat),
        FileMoved::Occupied => Outcome::Occupied,
        FileMoved::Absent => Outcome::Missing,
    })
}
