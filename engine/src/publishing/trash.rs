//! Trash: into it, out of it, and what a program wrote there that still had the file open.
//!
//! What holds always: a file gets into trash and out of it by a rename that replaces nothing. What is in trash and is
//! no longer what was trashed is a person's, and becomes a version item beside the path that it had. Not here: the
//! end of trash by age or size.

use super::keeping::{Kept, keep_beside, to_trash};
use super::moves::{Confirmed, confirm};
use super::steps::{Act, Digest, Renamed, Run, Steps};
use super::{FileKind, Place, TrashPlace, unwritten};
use crate::content::Content;
use crate::observation::FileStat;
use crate::paths::MediaPath;
use crate::planted::{Bug, Plants};

/// Moves the file at a path to trash; with `expected`, only if that is its content. Emptied folders stay.
#[derive(Clone, Debug)]
pub struct Trash {
    /// The file.
    pub path: MediaPath,
    /// Its content.
    pub expected: Option<Content>,
    /// Today.
    pub day: String,
}

/// What became of trashing a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrashEnd {
    /// It is in trash.
    Trashed(Kept),
    /// Another content is at the path, and stays there.
    Differs(Content),
    /// It is being written: nothing was changed.
    Changing,
    /// It changed at the last moment and the path was taken again: the changed file is in trash.
    KeptInTrash(Kept),
    /// There is no file.
    Absent,
}

impl Act for Trash {
    type End = TrashEnd;

    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<TrashEnd> {
        let place = Place::Media(self.path.clone());
        let Some(expected) = &self.expected else {
            if steps.look_at_file(&place, "looked at the file")?.is_none() {
                return Ok(TrashEnd::Absent);
            }
            let kept = to_trash(steps, &place, &self.path, &self.day)?;
            return Ok(kept.map_or(TrashEnd::Absent, TrashEnd::Trashed));
        };
        let before = match confirm(steps, &place, expected, "confirmed")? {
            Confirmed::Is(looked) => looked,
            Confirmed::Differs(content) => return Ok(TrashEnd::Differs(content)),
            Confirmed::Changing => return Ok(TrashEnd::Changing),
            Confirmed::Absent => return Ok(TrashEnd::Absent),
        };
        let Some(kept) = to_trash(steps, &place, &self.path, &self.day)? else { return Ok(TrashEnd::Absent) };
        if unwritten(&kept.stat, &before.stat) {
            return Ok(TrashEnd::Trashed(kept));
        }
        // Someone saved between the look and the rename: what is in trash now is judged again.
        let there = Place::Trash(kept.place.clone());
        let changed = match steps.hash(&there, "judged in trash")? {
            Digest::Of(content, _) if content.same_as(expected) => return Ok(TrashEnd::Trashed(kept)),
            Digest::Of(content, _) => TrashEnd::Differs(content),
            Digest::Missing => return Ok(TrashEnd::Absent),
            Digest::Changing | Digest::Unreadable(_) => TrashEnd::Changing,
        };
        match steps.rename(&there, &place, "put back")? {
            Renamed::Done => {
                steps.sync_folder(&place, "put back durably")?;
                Ok(changed)
            }
            Renamed::Occupied | Renamed::Missing => Ok(TrashEnd::KeptInTrash(kept)),
        }
    }
}

/// Brings a file back from trash, if its path is free; with `content`, only if that is what it is.
#[derive(Clone, Debug)]
pub struct Restore {
    /// Where it is.
    pub from: TrashPlace,
    /// What it should be.
    pub content: Option<Content>,
    /// Its path.
    pub to: MediaPath,
}

/// What became of restoring a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Restored {
    /// It has the path; its stat.
    Restored(FileStat),
    /// It is not the content that was asked for, and stays in trash.
    Differs,
    /// Something has the path already: nothing was changed.
    Occupied,
    /// It is not in trash.
    Absent,
}

impl Act for Restore {
    type End = Restored;

    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<Restored> {
        let (from, to) = (Place::Trash(self.from.clone()), Place::Media(self.to.clone()));
        match steps.look(&from, "looked in trash")? {
            Some(looked) if looked.kind == FileKind::Regular => {}
            _ => return Ok(Restored::Absent),
        }
        if let Some(content) = &self.content {
            match steps.hash(&from, "read in trash")? {
                Digest::Of(found, _) if found.same_as(content) => {}
                _ => return Ok(Restored::Differs),
            }
        }
        steps.make_folders(&to)?;
        match steps.rename(&from, &to, "restored")? {
            Renamed::Done => {}
            Renamed::Occupied => return Ok(Restored::Occupied),
            Renamed::Missing => return Ok(Restored::Absent),
        }
        steps.sync_folder(&to, "restored durably")?;
        let looked = steps.look(&to, "looked at the file")?;
        Ok(looked.map_or(Restored::Absent, |looked| Restored::Restored(looked.stat)))
    }
}

/// Looks whether a file in trash is still what was trashed; if a program wrote to it, it is kept beside its old path.
#[derive(Clone, Debug)]
pub struct KeepChanged {
    /// Where it is.
    pub place: TrashPlace,
    /// The path that it had.
    pub path: MediaPath,
    /// What was trashed.
    pub was: Content,
    /// Who stands in the name of a version that is kept beside.
    pub author_name: String,
    /// How long a file must not have been written to count as quiet.
    pub quiet_ms: u64,
}

/// What became of a file in trash that looks changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeptChanged {
    /// It still is what was trashed; its stat now.
    Unchanged(FileStat),
    /// It was written to, and is here now.
    KeptAs(MediaPath),
    /// It is being written, or cannot be read: look again later.
    Later,
    /// It is not there any more.
    Gone,
}

impl Act for KeepChanged {
    type End = KeptChanged;

    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<KeptChanged> {
        let place = Place::Trash(self.place.clone());
        let Some(looked) = steps.look(&place, "looked in trash")? else { return Ok(KeptChanged::Gone) };
        if looked.kind != FileKind::Regular {
            return Ok(KeptChanged::Gone);
        }
        if steps.planted(Bug::TrashIsFinal) {
            return Ok(KeptChanged::Unchanged(looked.stat));
        }
        if steps.await_quiet(&place, self.quiet_ms, "quiet")?.is_none() {
            return Ok(KeptChanged::Later);
        }
        match steps.hash(&place, "read in trash")? {
            Digest::Of(content, stat) if content.same_as(&self.was) => Ok(KeptChanged::Unchanged(stat)),
            Digest::Of(..) => {
                let kept = keep_beside(steps, &place, &self.path, &self.author_name)?;
                Ok(kept.map_or(KeptChanged::Gone, KeptChanged::KeptAs))
            }
            Digest::Missing => Ok(KeptChanged::Gone),
            Digest::Changing | Digest::Unreadable(_) => Ok(KeptChanged::Later),
        }
    }
}
