//! The object store: immutable objects, each named by a GUID and nothing else.
//!
//! What holds always:
//! - An object has its name only when it is whole, is the content that was announced, and is on the disk:
//!   bytes go under a staging name first, are hashed on the way, and get their own name by a step that never
//!   replaces.
//! - Nothing is fetched under false pretences: what [`Objects::get`] answers for was hashed whole.
//! - Memory is bounded by a few pieces an operation, whatever the size of the object.
//! - A store whose folder is gone, or is the empty mount point of its disk, is unreachable, never begun anew.
//!
//! Not here: which name a content gets (generations) and whether it is still wanted (the catalog), and
//! removing objects. `remote` is the way to a store that another node keeps. Further stores come with the cloud.

mod error;
mod remote;
mod streams;
#[cfg(test)]
mod tests;

pub use error::ObjectError;
pub use remote::{Pieces, RemoteObjects, on_the_way};

use crate::hashing::ContentHasher;
use crate::platform::{self, OwnFile};
use error::{at_destination, explain, explain_io, explain_link};
use futures::stream::{BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use streams::{Arriving, Bytes, CopyError, Destination, blocking};
use tcat_engine::content::Content;
use tcat_engine::ids::ObjectId;
use tcat_engine::outboard::Outboard;
use tokio::sync::mpsc;

/// Where uploads are until they are whole. Its presence also shows that a folder is a store, and mounted.
const STAGING: &str = ".staging";
/// The least that is sent at a time to a store that counts requests.
const PART_BYTES: usize = 8 << 20;
/// How much is written to a directory at a time.
const LOCAL_PART_BYTES: usize = streams::PIECE_BYTES;
/// The most parts that an upload may have: S3 takes ten thousand.
const PARTS_MAX: u64 = 9_000;
/// How many parts may wait between reading and sending.
const PARTS_AHEAD: usize = 1;

/// Hears, from time to time, how many bytes of a transfer are done in all.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// What was fetched, as its bytes turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// The content asked for, with its BLAKE3 even where that was not known.
    pub content: Content,
    /// Its BLAKE3 tree, for sending it on.
    pub outboard: Outboard,
}

/// One thing that lies in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The object that it is, if the name is one.
    pub object: Option<ObjectId>,
    /// Its size in bytes.
    pub size: u64,
}

/// An object store. Cheap to clone; all clones are one store.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Store,
    shown: Arc<str>,
    /// The directory, for a store that is one.
    folder: Option<Arc<Path>>,
}

/// Who keeps the bytes.
#[derive(Clone, Debug)]
enum Store {
    Ours(Arc<dyn ObjectStore>),
    Remote(Arc<dyn RemoteObjects>),
}

impl Objects {
    /// Opens the store that `url` names: `file:DIR`, where [`Objects::create`] was called before. Blocks
    /// shortly.
    pub fn open(url: &str) -> Result<Self, ObjectError> {
        let folder = folder_of(url)?;
        let shown = format!("file:{}", folder.display());
        let failed = |error: io::Error| explain_io(shown.clone(), "opening", &error);
        let folder = folder.canonicalize().map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(&folder);
        let store = store.map_err(|error| explain(&shown, "opening", &error))?.with_fsync(true);
        look_for(&folder, &shown)?;
        Ok(Self { store: Store::Ours(Arc::new(store)), shown: shown.into(), folder: Some(folder.into()) })
    }

    /// Makes the folder of `file:DIR` a store, where it is none yet, and opens it. The folder above must
    /// exist; what is in the folder stays. Blocks shortly.
    pub fn create(url: &str) -> Result<Self, ObjectError> {
        let folder = folder_of(url)?;
        let shown = format!("file:{}", folder.display());
        for path in [&folder, &folder.join(STAGING)] {
            let made = match std::fs::create_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Ok(()) => path.parent().map_or(Ok(()), platform::sync_folder),
                Err(error) => Err(error),
            };
            made.map_err(|error| explain_io(shown.clone(), "making its folder", &error))?;
        }
        Self::open(url)
    }

    /// The store's URL.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Whether objects can be written, named and read now: does all three with a trial object.
    pub async fn check(&self) -> Result<(), ObjectError> {
        let store = match &self.store {
            Store::Ours(store) => store.as_ref(),
            Store::Remote(remote) => return remote.check().await,
        };
        self.look_for_folder().await?;
        let (trial, named) = (staging_name("trial")?, staging_name("named")?);
        let bytes = b"tcat looks whether this store works".as_slice();
        let outcome = self.try_out(store, &trial, &named, bytes).await;
        self.unstage(store, &trial).await;
        self.unstage(store, &named).await;
        outcome
    }

    async fn try_out(
        &self,
        store: &dyn ObjectStore,
        trial: &StorePath,
        named: &StorePath,
        bytes: &'static [u8],
    ) -> Result<(), ObjectError> {
        store.put(trial, bytes.into()).await.map_err(|error| explain(&self.shown, "writing", &error))?;
        let linked = store.copy_if_not_exists(trial, named).await;
        linked.map_err(|error| explain_link(&self.shown, &error))?;
        let read = async { store.get(named).await?.bytes().await }.await;
        let read = read.map_err(|error| explain(&self.shown, "reading", &error))?;
        if read.as_ref() != bytes {
            return Err(self.failed("reading", "a trial object did not come back as it was written"));
        }
        Ok(())
    }

    /// Uploads the file at `source` as `object`, which stands for `content`. It is a success too if the
    /// object is there already with this content. `progress` hears how many bytes are sent in all. Dropping
    /// the future stops.
    pub async fn put(
        &self,
        object: ObjectId,
        source: &Path,
        content: &Content,
        progress: Progress<'_>,
    ) -> Result<(), ObjectError> {
        let (path, shown) = (source.to_owned(), source.display().to_string());
        let unreadable = |why: io::Error| ObjectError::Source { file: shown.clone(), why: why.to_string() };
        let file = blocking(progress, move |_| open_regular(&path)).await;
        let file = file.map_err(|error| self.failed("opening a file", error))?.map_err(unreadable)?;
        self.put_file(object, file, &shown, content, progress).await
    }

    /// The same for an open file; `name` is for messages.
    pub async fn put_file(
        &self,
        object: ObjectId,
        file: File,
        name: &str,
        content: &Content,
        progress: Progress<'_>,
    ) -> Result<(), ObjectError> {
        self.put_from(object, file, name, content, progress).await
    }

    /// The same for whatever can be read.
    async fn put_from(
        &self,
        object: ObjectId,
        source: impl Read + Send + 'static,
        name: &str,
        content: &Content,
        progress: Progress<'_>,
    ) -> Result<(), ObjectError> {
        let store = match &self.store {
            Store::Ours(store) => store.as_ref(),
            Store::Remote(remote) => {
                return remote::put(remote.as_ref(), object, source, name, content, progress).await;
            }
        };
        self.look_for_folder().await?;
        if self.head(object).await?.is_some() {
            return self.verify_present(object, content, progress).await;
        }
        let staged = staging_name(&object.to_string())?;
        let outcome = match self.stage(store, &staged, source, name, content, progress).await {
            Ok(()) => self.publish(store, &staged, object).await,
            Err(error) => Err(error),
        };
        self.unstage(store, &staged).await;
        if outcome? == Published::WasThere {
            return self.verify_present(object, content, progress).await;
        }
        progress(content.size);
        Ok(())
    }

    /// Brings the file's bytes under the staging name, if they are `content`.
    async fn stage(
        &self,
        store: &dyn ObjectStore,
        staged: &StorePath,
        source: impl Read + Send + 'static,
        name: &str,
        content: &Content,
        progress: Progress<'_>,
    ) -> Result<(), ObjectError> {
        let upload = store.put_multipart(staged).await;
        let mut upload = upload.map_err(|error| explain(&self.shown, "beginning an upload", &error))?;
        let sent = self.send(upload.as_mut(), source, name, content.size, progress).await;
        let hasher = match sent {
            Ok(hasher) => hasher,
            Err(error) => {
                // The staged bytes are cleared by the caller, whatever becomes of this.
                let _ = upload.abort().await;
                return Err(error);
            }
        };
        if !hasher.finish().0.same_as(content) {
            let _ = upload.abort().await;
            return Err(ObjectError::SourceChanged { file: name.to_owned() });
        }
        let done = upload.complete().await;
        done.map(drop).map_err(|error| explain(&self.shown, "ending an upload", &error))
    }

    /// Sends the file part by part; the next is read and hashed while one is sent.
    async fn send(
        &self,
        upload: &mut dyn MultipartUpload,
        source: impl Read + Send + 'static,
        name: &str,
        size: u64,
        progress: Progress<'_>,
    ) -> Result<ContentHasher, ObjectError> {
        let part_bytes = match &self.folder {
            Some(_) => LOCAL_PART_BYTES,
            None => PART_BYTES.max(usize::try_from(size / PARTS_MAX).unwrap_or(PART_BYTES)),
        };
        let (parts, mut waiting) = mpsc::channel(PARTS_AHEAD);
        let reading =
            tokio::task::spawn_blocking(move || streams::read_pieces(source, size, part_bytes, &parts));
        let mut done = 0;
        while let Some(part) = waiting.recv().await {
            done += part.len() as u64;
            let sent = upload.put_part(part.into()).await;
            sent.map_err(|error| explain(&self.shown, "sending", &error))?;
            progress(done);
        }
        let read = reading.await.map_err(|error| self.failed("reading a file", error))?;
        read.map_err(|why| ObjectError::Source { file: name.to_owned(), why: why.to_string() })
    }

    async fn publish(
        &self,
        store: &dyn ObjectStore,
        staged: &StorePath,
        object: ObjectId,
    ) -> Result<Published, ObjectError> {
        match store.copy_if_not_exists(staged, &name_of(object)).await {
            Ok(()) => Ok(Published::Now),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Published::WasThere),
            Err(error) => Err(explain_link(&self.shown, &error)),
        }
    }

    /// Whether the object that is there is `content`, and makes sure that it stays: the one who put it there
    /// may have been stopped before it was durable.
    async fn verify_present(
        &self,
        object: ObjectId,
        content: &Content,
        progress: Progress<'_>,
    ) -> Result<(), ObjectError> {
        let Some(found) = self.open_object(object, 0).await? else {
            return Err(ObjectError::Missing { store: self.shown.to_string(), object });
        };
        let size = content.size;
        let hashed = blocking(progress, move |watcher| streams::hash_bytes(found, size, watcher)).await;
        let hashed = hashed.map_err(|error| self.failed("reading an object", error))?;
        let hashed =
            hashed.map_err(|error| explain_io(self.shown.to_string(), "reading an object", &error))?;
        if !hashed.finish().0.same_as(content) {
            return Err(ObjectError::Occupied { object });
        }
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let path = folder.join(object.to_string());
        let synced = move |_: &_| sync_present(&path).and_then(|()| platform::sync_folder(&folder));
        let synced = blocking(&|_| (), synced).await.map_err(|error| self.failed("syncing", error))?;
        synced.map_err(|error| explain_io(self.shown.to_string(), "syncing an object", &error))
    }

    /// Fetches `object` into the file `destination`, where it must turn out to be `content`, durably. What
    /// the file holds already is taken for the beginning, from an earlier attempt, and hashed with the rest;
    /// where that proves wrong it is fetched from zero. `progress` hears how many bytes the file holds.
    /// Dropping the future stops.
    pub async fn get(
        &self,
        object: ObjectId,
        content: &Content,
        destination: &OwnFile,
        progress: Progress<'_>,
    ) -> Result<Fetched, ObjectError> {
        self.look_for_folder().await?;
        let size = self.head(object).await?;
        let size = size.ok_or_else(|| ObjectError::Missing { store: self.shown.to_string(), object })?;
        if size != content.size {
            let why = format!("it has {size} bytes, not {}", content.size);
            return Err(self.refuse(object, destination, why));
        }
        for resume in [true, false] {
            let (hasher, resumed) = self.receive(object, size, destination, resume, progress).await?;
            let (found, outboard) = hasher.finish();
            if found.same_as(content) {
                return Ok(Fetched { content: found, outboard });
            }
            if !resumed {
                let why = format!("its MD5 is {}, not {}", found.md5, content.md5);
                return Err(self.refuse(object, destination, why));
            }
            tracing::info!(%object, "what an earlier download left was wrong: fetching from the start");
        }
        Err(self.failed("fetching", "the destination changed while it was written"))
    }

    /// Fills the destination to `size` bytes; tells their digest and whether some were there before.
    async fn receive(
        &self,
        object: ObjectId,
        size: u64,
        destination: &OwnFile,
        resume: bool,
        progress: Progress<'_>,
    ) -> Result<(ContentHasher, bool), ObjectError> {
        let place = destination.clone();
        let opened =
            blocking(progress, move |watcher| Destination::open(&place, size, resume, watcher)).await;
        let mut file = opened.map_err(|error| self.failed("opening a file", error))??;
        let held = file.held();
        let rest = match held < size {
            true => self.open_object(object, held).await?,
            false => None,
        };
        if held < size && rest.is_none() {
            return Err(ObjectError::Missing { store: self.shown.to_string(), object });
        }
        let (place, shown) = (destination.clone(), self.shown.to_string());
        let filled = blocking(progress, move |watcher| {
            let at_path = |error: io::Error| at_destination(place.place(), &error);
            if let Some(rest) = rest {
                file.fill(rest, watcher).map_err(|error| match error {
                    CopyError::Read(error) => explain_io(shown.clone(), "reading an object", &error),
                    CopyError::Write(error) | CopyError::Stopped(error) => at_path(error),
                })?;
            }
            if file.held() != size {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the object ended early");
                return Err(explain_io(shown.clone(), "reading an object", &error));
            }
            file.finish(&place).map_err(at_path)
        });
        let hasher = filled.await.map_err(|error| self.failed("writing a file", error))??;
        Ok((hasher, held > 0))
    }

    /// The object's bytes from `offset` on; none if there is no such object.
    async fn open_object(&self, object: ObjectId, offset: u64) -> Result<Option<Bytes>, ObjectError> {
        let store = match &self.store {
            Store::Ours(store) => store,
            Store::Remote(remote) => {
                let pieces = remote.get(object, offset).await?;
                return Ok(pieces.map(|pieces| Box::new(Arriving::new(pieces)) as Bytes));
            }
        };
        let range = (offset > 0).then_some(object_store::GetRange::Offset(offset));
        let options = GetOptions { range, ..GetOptions::default() };
        match store.get_opts(&name_of(object), options).await {
            Ok(found) => Ok(Some(streams::readable(found))),
            Err(object_store::Error::NotFound { .. }) => {
                self.look_for_folder().await?;
                Ok(None)
            }
            Err(error) => Err(explain(&self.shown, "reading an object", &error)),
        }
    }

    /// Deletes `object`; one that is not there is deleted. Only for names that the catalog has condemned.
    pub async fn delete(&self, object: ObjectId) -> Result<(), ObjectError> {
        let store = match &self.store {
            Store::Ours(store) => store,
            Store::Remote(remote) => return remote.delete(object).await,
        };
        match store.delete(&name_of(object)).await {
            Ok(()) => Ok(()),
            // No object, or no store?
            Err(object_store::Error::NotFound { .. }) => self.look_for_folder().await,
            Err(error) => Err(explain(&self.shown, "deleting an object", &error)),
        }
    }

    /// The size of `object` in bytes; none if there is no such object.
    pub async fn head(&self, object: ObjectId) -> Result<Option<u64>, ObjectError> {
        let store = match &self.store {
            Store::Ours(store) => store,
            Store::Remote(remote) => return remote.head(object).await,
        };
        match store.head(&name_of(object)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => {
                // No object, or no store?
                self.look_for_folder().await?;
                Ok(None)
            }
            Err(error) => Err(explain(&self.shown, "looking for an object", &error)),
        }
    }

    /// Everything in the store but unfinished uploads, in no order; also what is no object, for the verifier
    /// to name.
    pub fn list(&self) -> BoxStream<'static, Result<Listed, ObjectError>> {
        let (this, shown) = (self.clone(), self.shown.clone());
        let absent = futures::stream::once(async move { this.look_for_folder().await.err().map(Err) });
        let Store::Ours(store) = &self.store else {
            let error = self.failed("listing", "only its host can list it");
            return futures::stream::once(std::future::ready(Err(error))).boxed();
        };
        let listed = store.list(None).filter_map(move |entry| {
            let listed = match entry {
                Ok(meta) if meta.location.prefix_matches(&StorePath::from(STAGING)) => None,
                Ok(meta) => {
                    let name = meta.location.to_string();
                    // A GUID can be written in several ways; an object's name is written in one.
                    let object = name.parse().ok().filter(|object: &ObjectId| object.to_string() == name);
                    Some(Ok(Listed { name, object, size: meta.size }))
                }
                Err(error) => Some(Err(explain(&shown, "listing", &error))),
            };
            std::future::ready(listed)
        });
        absent.filter_map(std::future::ready).chain(listed).boxed()
    }

    /// Removes what uploads that were killed left in the staging area, if nobody wrote to it for `idle`;
    /// tells how many. An upload that still lives and was that slow fails, and is repeated.
    pub async fn sweep(&self, idle: Duration) -> Result<u64, ObjectError> {
        self.look_for_folder().await?;
        let Some(folder) = self.folder.clone() else { return Ok(0) };
        let swept = blocking(&|_| (), move |_| remove_idle(&folder.join(STAGING), idle)).await;
        let swept = swept.map_err(|error| self.failed("sweeping", error))?;
        swept.map_err(|error| explain_io(self.shown.to_string(), "sweeping", &error))
    }

    /// Refuses a store whose folder is gone or not mounted: object_store would make it anew.
    async fn look_for_folder(&self) -> Result<(), ObjectError> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let shown = self.shown.clone();
        // A folder on a share that hangs must not hold up anything else.
        let looked = blocking(&|_| (), move |_| look_for(&folder, &shown)).await;
        looked.map_err(|error| self.failed("looking for its folder", error))?
    }

    /// Clears everything that an upload may have left under a staging name.
    async fn unstage(&self, store: &dyn ObjectStore, staged: &StorePath) {
        let finished = store.delete(staged).await;
        if let Err(error) = finished
            && !matches!(error, object_store::Error::NotFound { .. })
        {
            tracing::warn!(store = %self.shown, %error, "an upload's staged bytes stay until they are swept");
        }
        // LocalFileSystem writes to NAME#1 and forgets that file where ending the upload fails.
        if let Some(folder) = &self.folder {
            let unfinished = folder.join(format!("{staged}#1"));
            let _ = blocking(&|_| (), move |_| std::fs::remove_file(unfinished)).await;
        }
    }

    /// Removes the destination of a download that cannot succeed.
    fn refuse(&self, object: ObjectId, destination: &OwnFile, why: String) -> ObjectError {
        match destination.remove() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                at_destination(destination.place(), &error)
            }
            _ => ObjectError::Corrupt { store: self.shown.to_string(), object, why },
        }
    }

    fn failed(&self, doing: &'static str, why: impl std::fmt::Display) -> ObjectError {
        ObjectError::Other { store: self.shown.to_string(), doing, why: why.to_string() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Published {
    Now,
    WasThere,
}

/// The path in `file:DIR`, taken as it is written: nothing in it is escaped. `file:///DIR` is the same.
fn folder_of(url: &str) -> Result<PathBuf, ObjectError> {
    let Some((scheme, path)) = url.split_once(':') else {
        return Err(ObjectError::Unsupported { scheme: String::new() });
    };
    if scheme != "file" {
        return Err(ObjectError::Unsupported { scheme: scheme.to_owned() });
    }
    let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let failed = |error| explain_io(url.to_owned(), "reading its path", &error);
    if path.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the path after file: is empty")));
    }
    std::path::absolute(path).map_err(failed)
}

fn look_for(folder: &Path, shown: &str) -> Result<(), ObjectError> {
    match std::fs::metadata(folder.join(STAGING)) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => {
            let why = format!("its folder has no {STAGING}, so it is not mounted or no store");
            Err(ObjectError::Unreachable { store: shown.to_owned(), why })
        }
        Err(error) => Err(explain_io(shown.to_owned(), "looking for its folder", &error)),
        Ok(_) => Err(explain_io(
            shown.to_owned(),
            "looking for its folder",
            &io::Error::new(io::ErrorKind::NotADirectory, format!("{STAGING} in it is no folder")),
        )),
    }
}

fn name_of(object: ObjectId) -> StorePath {
    StorePath::from(object.to_string())
}

/// A name in the staging area that nobody else uses: two clients may upload the same object at a time.
fn staging_name(what: &str) -> Result<StorePath, ObjectError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| ObjectError::Other {
        store: STAGING.to_owned(),
        doing: "drawing a random name",
        why: error.to_string(),
    })?;
    Ok(StorePath::from_iter([STAGING, &format!("{what}-{}", tcat_engine::ids::hex(&random))]))
}

/// Opens a regular file only: a FIFO would be waited for without end.
fn open_regular(path: &Path) -> io::Result<File> {
    if !path.symlink_metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    File::open(path)
}

/// Makes an object durable that somebody else may have written, for us perhaps only to read.
fn sync_present(path: &Path) -> io::Result<()> {
    match platform::sync_file(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path)?.sync_all(),
        other => other,
    }
}

fn remove_idle(staging: &Path, idle: Duration) -> io::Result<u64> {
    let mut removed = 0;
    for entry in std::fs::read_dir(staging)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => continue,
        };
        // A time in the future is no age: left for a later look.
        let age = SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default();
        if age >= idle && std::fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}
