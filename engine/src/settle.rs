//! Settling: from what the file, our copy and the catalog say of an item, the one thing to do next.
//!
//! [`settle`] is pure and total. Its rows are those of the table in `docs/protocol.md`, in that order; the first that
//! matches decides. L is the file now, B the content of our base revision (never an uncommitted one), C the catalog's
//! row with its chain. What it may destroy is only ever a content that the catalog has or had.

use crate::catalog::{CatalogRow, ChainLink, RemovalRecord, RowState};
use crate::content::Content;
use crate::entry::Copy;
use crate::ids::ClientId;
use crate::lines;

/// The file now (L).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Local {
    /// Unreadable, growing, the wrong type, not looked at yet, or missing for too short a time. Never "absent".
    Unknown,
    /// Surely not there: missed by two scans and a quiet time, or never yet put there.
    Absent,
    /// There, whole and quiet.
    File(Content),
}

/// The catalog's word on the item (C).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View<'a> {
    /// Not read, or stale.
    Unknown,
    /// No row; with the record of its removal, if it was removed on purpose.
    Gone(Option<&'a RemovalRecord>),
    /// Its row.
    Row(&'a CatalogRow),
}

/// All that settling an item depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Situation<'a> {
    /// The file now.
    pub local: Local,
    /// Whether size, mtime, ctime and file id are what they were when B was hashed.
    pub stat_unchanged: bool,
    /// Our copy, with base and line.
    pub copy: Option<&'a Copy>,
    /// The catalog's word.
    pub catalog: View<'a>,
    /// Who we are.
    pub me: ClientId,
    /// Whether the owner of a pending row is live and has a file that it can bring there.
    pub owner_at_it: bool,
    /// Whether this cache wants the item (it was not evicted).
    pub wanted: bool,
    /// Whether the item's object is there with the right content, as far as we know.
    pub object_sound: bool,
    /// Whether new files wait for a person to import them.
    pub manual_import: bool,
    /// Whether the catalog shows an earlier revision than C, which we have from it (a restored catalog).
    pub behind: bool,
    /// While the catalog cannot be reached: the best uncommitted copy of a live member.
    pub travelling: Option<&'a Copy>,
    /// Whether steps of our line are, or may be, in others' hands: the catalog is away, or another's copy has one.
    pub line_counts: bool,
}

/// What to do next for an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All agree; nothing to do.
    Settled,
    /// Something else must happen first.
    Wait(Reason),
    /// Make this the base and drop it and what stands before it from the line; move nothing.
    Adopt(ChainLink),
    /// Enter the file as a new item, under the id that its entry has.
    Import,
    /// Enter the item again under the same id, pending-repair.
    OfferAgain,
    /// Bring the content of our pending row to the store.
    Complete,
    /// Commit the file as the revision that follows C.
    Upload,
    /// Put the object of C into the store once more, as the next generation.
    UploadAgain,
    /// Bring C here: from our own trash, from peers, else from the cloud.
    Download,
    /// Bring a member's uncommitted edit here, with its base and line: it goes on from what is here.
    Take,
    /// Keep the file as a version item under its own name; then C may take the place.
    Conflict,
    /// Move the file to trash and drop the entry.
    Trash,
    /// Drop the entry; there is no file.
    Drop,
    /// The file becomes a new item with a new id.
    NewItem,
    /// Keep the file as a version item and bring B here again: it changed though nobody wrote it.
    Heal,
    /// Write down what the file is; it is not to be uploaded.
    Record,
    /// Offer the revisions that the catalog lost.
    OfferLost,
    /// Do nothing until a person has answered.
    Hold(Question),
}

impl Verdict {
    /// Whether it is work on file, catalog or objects, which one does for all who share a cache.
    pub fn is_work(&self) -> bool {
        match self {
            Verdict::Settled
            | Verdict::Wait(_)
            | Verdict::Adopt(_)
            | Verdict::Drop
            | Verdict::NewItem
            | Verdict::Record
            | Verdict::OfferLost
            | Verdict::Hold(_) => false,
            Verdict::Import
            | Verdict::OfferAgain
            | Verdict::Complete
            | Verdict::Upload
            | Verdict::UploadAgain
            | Verdict::Download
            | Verdict::Take
            | Verdict::Conflict
            | Verdict::Trash
            | Verdict::Heal => true,
        }
    }
}

/// Why settling waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Reason {
    /// The file is not known.
    FileUnknown,
    /// The catalog's word is not known.
    CatalogUnknown,
    /// Another client is bringing the content to the cloud.
    Pending,
    /// Who was bringing it is gone or has lost it, and we do not have it (pending-repair).
    PendingRepair,
    /// The row is gone, nothing says why, and there is no file here.
    Unexplained,
    /// New files are imported by hand here.
    ManualImport,
}

/// What a person is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Question {
    /// The file is an earlier content of its own history: go back to it?
    GoBack,
    /// The only copy of an item that is not uploaded would be replaced.
    OnlyCopy,
}

/// Decides. See the module's text; the numbers are the table's rows.
pub fn settle(s: &Situation<'_>) -> Verdict {
    // 1
    if s.local == Local::Unknown {
        return Verdict::Wait(Reason::FileUnknown);
    }
    if takes(s) {
        return Verdict::Take;
    }
    match s.catalog {
        View::Unknown => Verdict::Wait(Reason::CatalogUnknown),
        View::Gone(Some(record)) => removed(s, record),
        View::Gone(None) => unexplained(s),
        // 12: before all that a row would ask for.
        View::Row(_) if s.behind => Verdict::OfferLost,
        View::Row(row) => match row.state {
            RowState::KillRequest | RowState::KillWip | RowState::KillComplete => killed(s, row),
            RowState::Pending { owner } => pending(s, row, owner),
            RowState::Active => active(s, row),
        },
    }
}

impl<'a> Situation<'a> {
    fn base(&self) -> Option<&'a ChainLink> {
        self.copy?.base.as_ref()
    }

    fn line(&self) -> &'a [ChainLink] {
        self.copy.map_or(&[], |copy| &copy.line)
    }

    fn file(&self) -> Option<Content> {
        match self.local {
            Local::File(l) => Some(l),
            Local::Absent | Local::Unknown => None,
        }
    }

    fn is_base(&self, content: &Content) -> bool {
        self.base().is_some_and(|base| base.content.same_as(content))
    }
}

/// While the catalog is away, before all rows but the first: a member's edit takes the place of nothing, or of its own
/// base or one of its steps, where it stands on what we know of the catalog.
fn takes(s: &Situation<'_>) -> bool {
    let Some(theirs) = s.travelling else { return false };
    let file = s.file();
    let fits = match s.catalog {
        View::Row(row) => {
            let kept = matches!(row.state, RowState::Active | RowState::Pending { .. });
            // Going back is asked about where it is done, and does not travel.
            let goes_back = theirs.line.len() == 1 && theirs.line.iter().all(|l| row.chain_holds(&l.content));
            kept && !s.behind && row.upload && stands_on(s, theirs, row) && !goes_back
        }
        View::Gone(None) => theirs.base.is_none() && s.base().is_none(),
        View::Gone(Some(_)) => false,
        // Our mirror is older than what we have, or was not read since our start: only what goes on from ours, or what no
        // catalog has yet. That waits here for the catalog's word like a new file of our own.
        View::Unknown => s.base().is_some() || theirs.base.is_none(),
    };
    fits && (file.is_some() || s.wanted) && lines::may_take(s.copy, file.as_ref(), theirs)
}

/// Whether a member's copy descends from C, or goes on from ours on a base that our mirror has yet to hear of.
fn stands_on(s: &Situation<'_>, theirs: &Copy, row: &CatalogRow) -> bool {
    let unheard = |base: &ChainLink| !row.chain_has(&base.revision);
    let ahead = s.copy.is_some_and(|copy| copy.tip().is_some()) && theirs.base.as_ref().is_some_and(unheard);
    theirs.has_step(&row.revision) || ahead
}

/// Row 2.
fn removed(s: &Situation<'_>, record: &RemovalRecord) -> Verdict {
    match s.local {
        // Also what came from a member, or was saved here, before the catalog had it and lost it for good.
        Local::File(l) if s.is_base(&l) || record.contents.iter().any(|c| c.same_as(&l)) => Verdict::Trash,
        Local::File(_) => Verdict::NewItem,
        Local::Absent | Local::Unknown => Verdict::Drop,
    }
}

/// Row 3.
fn unexplained(s: &Situation<'_>) -> Verdict {
    match (s.local, s.base()) {
        (Local::File(_), Some(_)) => Verdict::OfferAgain,
        // 11: others have, or may have, what somebody saved there.
        (Local::File(l), None) if s.line_counts && has_rotted(s, &l) => Verdict::Heal,
        (Local::File(_), None) if s.manual_import => Verdict::Wait(Reason::ManualImport),
        (Local::File(_), None) => Verdict::Import,
        (_, Some(_)) if !s.wanted => Verdict::OfferAgain,
        (_, Some(_)) => Verdict::Wait(Reason::Unexplained),
        (_, None) => Verdict::Drop,
    }
}

/// Row 4.
fn killed(s: &Situation<'_>, row: &CatalogRow) -> Verdict {
    match s.local {
        // 10: no store has ever had what somebody saved there since.
        Local::File(l) if !row.upload && !s.is_base(&l) && row.chain_holds(&l) => {
            Verdict::Hold(Question::OnlyCopy)
        }
        Local::File(l) if s.is_base(&l) || row.chain_holds(&l) => Verdict::Trash,
        Local::File(_) => Verdict::NewItem,
        Local::Absent | Local::Unknown => Verdict::Drop,
    }
}

/// Row 5, with row 6 for what we had created or offered ourselves before we could hear the answer.
fn pending(s: &Situation<'_>, row: &CatalogRow, owner: ClientId) -> Verdict {
    if s.line().iter().any(|link| link.revision == row.revision) {
        return Verdict::Adopt(current(row));
    }
    let holds = matches!(s.local, Local::File(l) if l.same_as(&row.content));
    let based = s.base().is_some_and(|base| base.revision == row.revision);
    if holds && !based {
        return Verdict::Adopt(current(row));
    }
    let ours = owner == s.me || !s.owner_at_it;
    match s.local {
        // 10
        Local::File(_) if !row.upload && (holds || based) => Verdict::Record,
        // 11: the row's content may be at others, and this is nobody's edit of it.
        Local::File(l) if !holds && based && has_rotted(s, &l) => Verdict::Heal,
        Local::File(_) if holds && ours => Verdict::Complete,
        Local::File(_) if based && ours => Verdict::Upload,
        Local::File(_) if holds || based => Verdict::Wait(Reason::Pending),
        // An earlier step of the row, which gives way once the content is there.
        Local::File(l) if is_earlier_step(s, row, &l) && ours => Verdict::Wait(Reason::PendingRepair),
        Local::File(l) if is_earlier_step(s, row, &l) => Verdict::Wait(Reason::Pending),
        // Somebody saved another content where the item is to come: it must not wait for bytes that may never come.
        Local::File(_) => Verdict::Conflict,
        Local::Absent | Local::Unknown if ours => Verdict::Wait(Reason::PendingRepair),
        Local::Absent | Local::Unknown => Verdict::Wait(Reason::Pending),
    }
}

/// Whether the file is what the row had before: as rows 9 and 13 see it.
fn is_earlier_step(s: &Situation<'_>, row: &CatalogRow, l: &Content) -> bool {
    match s.base() {
        Some(base) => base.content.same_as(l) && row.chain_has(&base.revision),
        None => row.chain_holds(l),
    }
}

/// Rows 6 to 14.
fn active(s: &Situation<'_>, row: &CatalogRow) -> Verdict {
    // 6
    if s.line().iter().any(|link| link.revision == row.revision) {
        return Verdict::Adopt(current(row));
    }
    let l = match s.local {
        Local::File(l) => l,
        // 8
        Local::Absent | Local::Unknown if s.wanted => return Verdict::Download,
        Local::Absent | Local::Unknown => return Verdict::Settled,
    };
    // 7
    if l.same_as(&row.content) {
        let based = s.base().is_some_and(|base| base.revision == row.revision);
        // Who went back to C has edited: else somebody who took the step between would bring that back.
        if based && s.line_counts && !s.line().is_empty() && row.upload {
            return Verdict::Upload;
        }
        let based = based && s.line().is_empty();
        return match (based, s.object_sound || !row.upload) {
            (false, _) => Verdict::Adopt(current(row)),
            (true, false) => Verdict::UploadAgain,
            (true, true) => Verdict::Settled,
        };
    }
    match s.base() {
        // 9
        None if row.chain_holds(&l) => Verdict::Download,
        None => Verdict::Conflict,
        Some(base) => based(s, row, base, &l),
    }
}

/// Rows 10 to 14: a file that is not C, with a base.
fn based(s: &Situation<'_>, row: &CatalogRow, base: &ChainLink, l: &Content) -> Verdict {
    let edited = !base.content.same_as(l);
    let base_is_current = base.revision == row.revision;
    let newer = row.chain_has(&base.revision);
    match () {
        // 10
        () if !row.upload && edited && base_is_current => Verdict::Record,
        () if !row.upload && edited => Verdict::Hold(Question::OnlyCopy),
        // 11
        () if has_rotted(s, l) => Verdict::Heal,
        // 13
        () if !edited && newer => Verdict::Download,
        () if !edited => Verdict::Conflict,
        // 14
        () if base_is_current && row.chain_holds(l) && !ours_to_go_back(s, row, l) => {
            Verdict::Hold(Question::GoBack)
        }
        () if base_is_current => Verdict::Upload,
        () if row.chain_holds(l) => Verdict::Download,
        () => Verdict::Conflict,
    }
}

/// Whether the file is neither base nor a step of ours, and nobody wrote it.
fn has_rotted(s: &Situation<'_>, l: &Content) -> bool {
    let is_known = s.copy.is_some_and(|copy| copy.steps().any(|step| step.content.same_as(l)));
    s.stat_unchanged && !is_known
}

/// Going back to an earlier content is ours to decide where we made it, made what stands now, or had edited since.
fn ours_to_go_back(s: &Situation<'_>, row: &CatalogRow, l: &Content) -> bool {
    let mine = |link: &ChainLink| link.revision.0.client == s.me;
    s.line().len() > 1
        || row.revision.0.client == s.me
        || row.chain.iter().any(|link| link.content.same_as(l) && mine(link))
}

fn current(row: &CatalogRow) -> ChainLink {
    ChainLink { revision: row.revision, content: row.content }
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
