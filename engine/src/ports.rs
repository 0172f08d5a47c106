//! The engine's doors: what comes in, what goes out, and the effects that it orders.
//!
//! An effect is one step outside the engine (read, write, send bytes). Every effect is answered by exactly one
//! [`Input::Done`] with its number; effects may be repeated after a crash, so each is safe to do twice.

use crate::catalog::{
    CatalogEpoch, Commit, Committed, Created, FeedPage, FeedPosition, NewItem, Repath, Repathed,
};
use crate::catalog_orders::{Kill, Killing, NewEpoch, Offer, Offered, Unsound};
use crate::content::Content;
use crate::ids::{ClientId, ItemId, ObjectId};
use crate::message::Message;
use crate::observation::{Coverage, FileStat, Observation};
use crate::paths::MediaPath;
use crate::roster::{RosterMember, Visit};
use std::sync::Arc;

/// The time at which an input comes in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// Milliseconds on a clock that never goes back and counts suspension. All waiting is measured on it.
    pub mono_ms: u64,
    /// Milliseconds since 1970, as this machine believes. For labels and dates that people read, nothing else.
    pub wall_ms: u64,
}

/// Names an effect under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EffectId(pub u64);

/// What comes in. An input is handled whole; then outputs are drained until there is none.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed: sent at the time that the last [`Output::WakeAt`] named, or later.
    Tick,
    /// A member can be talked to.
    Connected(ClientId),
    /// A member cannot be talked to any more.
    Disconnected(ClientId),
    /// A member said something.
    Message(ClientId, Message),
    /// What is at some paths. At most 512 at a time.
    Observed {
        /// The monotonic time before the first of these looks began: what we changed since is not judged by them.
        since_ms: u64,
        /// What was seen.
        observations: Vec<Observation>,
    },
    /// A full scan that was asked for is over; all that it saw was sent before.
    Scanned(Arc<dyn Coverage>),
    /// A full scan could not be made; the text says why, for people.
    ScanFailed(String),
    /// An effect is over.
    Done(EffectId, Outcome),
    /// So many bytes of an effect under way have moved. Told now and then while they move: a claim is renewed by it.
    Progress(EffectId, u64),
    /// A person wants what was parked tried again: one item's task, or all.
    Retry(Option<ItemId>),
    /// A local person waits until nothing is left to settle: answered by [`Output::Rested`] with this number.
    Wait(u64),
    /// Anything in the cache folder may have changed: scan it.
    Rescan,
    /// The roster has changed, or somebody who is not in it as we read it is at the door: read it again.
    RosterChanged,
    /// The catalog has changed, or is another one by now: read on in its feed.
    CatalogChanged,
    /// Nobody waits for that any more.
    WaitCancelled(u64),
    /// A person wants the item deleted everywhere, as it stands here.
    Delete(ItemId),
    /// What a person wrote where a file no longer is was kept: found while recovering, or in trash.
    KeptBeside {
        /// The path of the file that it is a version of.
        path: MediaPath,
        /// Where it is.
        kept_as: MediaPath,
    },
    /// A person says what is to become of the changes that the brake holds.
    Brake(BrakeAnswer),
}

/// What a person says to changes that the brake holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrakeAnswer {
    /// They are meant: go on.
    Accept,
    /// They are not: bring everything back.
    Refuse,
}

/// What goes out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Tell a member; may be lost.
    Send(ClientId, Message),
    /// End the connection to this member: its words were wrong, or it was retired. It counts as disconnected already.
    Drop(ClientId),
    /// Do this and answer.
    Effect(EffectId, Effect),
    /// Break this effect off, if it runs. It is answered all the same, by how it ended.
    Cancel(EffectId),
    /// Make a full scan, after any that is under way, and answer with `Scanned` or `ScanFailed`.
    ScanAll,
    /// Look at these paths once more, and answer with `Observed`.
    Look(Vec<MediaPath>),
    /// Nothing is left to settle, here and at every reachable member, since `Input::Wait` with this number.
    Rested(u64),
    /// Something that a person may want to know.
    Event(Event),
    /// Send [`Input::Tick`] at this monotonic time, in milliseconds. The last one counts.
    WakeAt(u64),
}

/// One step outside the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Read the catalog's feed.
    ReadFeed {
        /// From here.
        after: FeedPosition,
        /// At most so many changes.
        limit: u32,
    },
    /// Visit the catalog's roster: one transaction that notes, declares and reads.
    VisitRoster(Visit),
    /// Enter a new item.
    Create(Box<NewItem>),
    /// Give items other paths.
    Repath(Box<Repath>),
    /// Register an object before its first byte.
    Intend(Object),
    /// Bring a file's content to the object store, checking that it is that content.
    Put {
        /// The object.
        object: Object,
        /// The file.
        path: MediaPath,
    },
    /// Commit a content whose object is in the store.
    Commit(Box<Commit>),
    /// One step of an item's way out of the catalog.
    Kill(Box<Kill>),
    /// Delete an object whose name is condemned; one that is not there is deleted.
    Delete {
        /// The object.
        object: ObjectId,
    },
    /// Say in the catalog that a row's object is missing or wrong.
    Unsound(Box<Unsound>),
    /// Begin a new epoch of a catalog that was restored.
    NewEpoch(NewEpoch),
    /// Offer facts to a catalog that was restored.
    Offer(Box<Offer>),
    /// Bring a content from the object store into the partial file of that content, checked.
    Get {
        /// The object.
        object: ObjectId,
        /// Its content.
        content: Content,
    },
    /// Bring a content from a member into the partial file of that content, checked.
    Fetch {
        /// The member.
        from: ClientId,
        /// The content; its BLAKE3 is known.
        content: Content,
        /// Whether the MD5 is to be checked too: the catalog knows no BLAKE3 that would prove the bytes.
        check_md5: bool,
    },
    /// Bring a content from our own trash into the partial file of that content, checked, if it is there.
    Untrash {
        /// The content.
        content: Content,
    },
    /// Bring a content from another file of this cache into the partial file of that content, checked, if the file
    /// still has it.
    Borrow {
        /// The file.
        path: MediaPath,
        /// The content.
        content: Content,
    },
    /// Give the whole partial file of a content its place, without ever replacing anything blindly.
    Publish(Box<Publish>),
    /// Move a file to trash, if it still has this content.
    Trash {
        /// The file.
        path: MediaPath,
        /// Its content.
        content: Content,
    },
    /// Give a file another name that must be free, if it still has this content.
    SetAside {
        /// The file.
        path: MediaPath,
        /// Its content.
        content: Content,
        /// Its new place.
        to: MediaPath,
    },
    /// Give a file the name that the catalog assigned, which must be free.
    Move {
        /// The file.
        path: MediaPath,
        /// Its new place.
        to: MediaPath,
    },
}

/// An object to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Object {
    /// Its name.
    pub id: ObjectId,
    /// The item that it belongs to.
    pub item: ItemId,
    /// What it will hold.
    pub content: Content,
    /// Which object of this content in turn.
    pub generation: u32,
}

/// A content to be put into its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    /// The item.
    pub item: ItemId,
    /// Its place.
    pub path: MediaPath,
    /// Its new content, whole in its partial file.
    pub content: Content,
    /// The content that is there now; none where nothing is.
    pub expected: Option<Content>,
    /// Contents of the item's chain: not edits when they are found in the place.
    pub known: Vec<Content>,
}

/// How an effect ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// `ReadFeed`: a page.
    Feed(Box<FeedPage>),
    /// `VisitRoster`: the roster after it.
    Roster(Vec<RosterMember>),
    /// `ReadFeed`: the catalog never gave that position, so it was restored.
    FeedRestored {
        /// The epoch that it shows.
        epoch: CatalogEpoch,
    },
    /// `Create`.
    Created(Created),
    /// `Commit`, `Unsound`.
    Committed(Committed),
    /// `Kill`.
    Killed(Killing),
    /// `NewEpoch`: the catalog's epoch from now on.
    Epoch(CatalogEpoch),
    /// `Offer`.
    Offered(Offered),
    /// `Repath`.
    Repathed(Repathed),
    /// `Intend`, `Put`, `Delete`, `Get`, `Fetch`, `Untrash`, `Borrow`, `Trash`, `SetAside`, `Move`: done. `Publish`: the content has its
    /// place.
    Done {
        /// The file's stat after it, where a file was placed.
        stat: FileStat,
    },
    /// `Publish`: the content has its place, and an edit that stood there was kept under this name.
    Edited {
        /// The stat of the placed file.
        stat: FileStat,
        /// Where the edit is now.
        kept_as: MediaPath,
    },
    /// The file is not what the effect expected, or its place is taken: nothing was changed; look again.
    Changed,
    /// The object, the content or the file is not there.
    Missing,
    /// The object's name holds something else.
    Occupied,
    /// The source gave other bytes than it should.
    Corrupt,
    /// There is no room for it here, or the disk here fails; the text says what, why and what to do, for people.
    NoRoom(String),
    /// It failed and may go better later; the text says what, why and what to do, for people.
    Failed(String),
    /// Whoever was asked could not be reached: no fault of the task, which is tried again and not parked for it.
    Away(String),
}

/// What a person may want to know. Displayed in the log, one line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A new file became an item.
    Imported(ItemId, MediaPath),
    /// An item's content is in the object store and in the catalog.
    Uploaded(ItemId, MediaPath),
    /// An item's content came into this cache from a member.
    FetchedFrom(ItemId, MediaPath, ClientId),
    /// An item's content came into this cache from the object store.
    FetchedFromCloud(ItemId, MediaPath),
    /// A file that was deleted here was brought back.
    Restored(ItemId, MediaPath),
    /// An item was removed for good.
    Killed(ItemId, MediaPath),
    /// An item that a person wanted deleted changed meanwhile, and stays.
    NotKilled(ItemId, String),
    /// The object of an item is missing or wrong; whoever holds its content brings it again.
    Unsound(ItemId, String),
    /// The catalog was restored from a backup: members offer what it lost.
    CatalogRestored,
    /// All live members have offered what they know to the restored catalog; work goes on.
    CatalogWhole,
    /// A conflicting content was kept under its own name.
    Conflict(ItemId, MediaPath),
    /// A file went to trash because its item was removed.
    Trashed(ItemId, MediaPath),
    /// A file was given the name that the catalog assigned.
    Renamed(ItemId, MediaPath),
    /// A person renamed a file here, from this path; the catalog has the second for it now, everywhere.
    Repathed(ItemId, MediaPath, MediaPath),
    /// A file cannot be synchronised as it is.
    Unreadable(MediaPath, String),
    /// A task failed and will be tried again.
    Failing(ItemId, String),
    /// A task failed too often and is left alone for a while.
    Parked(ItemId, String),
    /// A member's words were refused.
    Refused(ClientId, String),
    /// What a member sent for this item was another content. Its disk may be to blame.
    SentOtherBytes(ClientId, ItemId),
    /// We began a new incarnation, because others know more of us than we do.
    NewIncarnation,
    /// A ledger did not add up to its owner's head and does now; so many entries were dropped for it.
    Repaired(ClientId, u64),
    /// We stopped doing anything, and why: a person has to decide. Reading goes on.
    Stopped(String),
    /// The catalog cannot be read; we go on with what we know.
    CatalogAway(String),
    /// The catalog can be read again.
    CatalogBack,
    /// The media folder could not be scanned.
    ScanFailed(String),
    /// The brake is on; the text says why and what to do, for people.
    BrakeOn(String),
    /// A person has answered for so many items: the brake is off.
    BrakeOff(BrakeAnswer, u64),
    /// A question for a person: what is asked about which item.
    Asking(ItemId, String),
}
