//! Trash: into it, out of it, and what a program wrote there that still had the file open.
//!
//! What holds always: a file gets into trash and out of it by a rename that replaces nothing. What is in trash and is
//! no longer what was trashed is a person's, and becomes a version item beside the path that it had. Not here: the
//! end of trash by age or size.

use super::journal::{Journal, Role, Stem, TrashJournal};
use super::keeping::{Kept, free_in_trash, keep_beside, to_trash};
use super::moves::{Confirmed, confirm};
use super::publish::write_journal;
use super::recover::{Recovered, finish};
use super::steps::{Act, Digest, Halt, Renamed, Run, Steps, fail};
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
    /// Who stands in the name of a version that is kept beside.
    pub author_name: String,
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
    /// It changed at the last moment and the path was taken again: the changed file is beside it.
    KeptBeside(MediaPath),
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
            let wanted = free_in_trash(steps, &self.path, &self.day)?;
            let kept = to_trash(steps, &place, &wanted)?;
            return Ok(kept.map_or(TrashEnd::Absent, TrashEnd::Trashed));
        };
        let stem = Stem::of_trash(&self.path);
        finish(steps, &stem, &self.day)?;
        let before = match confirm(steps, &place, expected, "confirmed")? {
            Confirmed::Is(looked) => looked,
            Confirmed::Differs(content) => return Ok(TrashEnd::Differs(content)),
            Confirmed::Changing => return Ok(TrashEnd::Changing),
            Confirmed::Absent => return Ok(TrashEnd::Absent),
        };
        let journal = TrashJournal {
            path: self.path.clone(),
            expected: *expected,
            there: before.stat,
            trash: free_in_trash(steps, &self.path, &self.day)?,
            author_name: self.author_name.clone(),
        };
        let ended = self.trash(steps, &stem, &journal);
        if let Err(Halt::Failed(failure)) = ended {
            // A crash is finished by recovery; a mere failure at once, as far as the disk lets us.
            match finish(steps, &stem, &self.day) {
                Err(ask @ Halt::Ask(_)) => return Err(ask),
                _ => return fail(failure),
            }
        }
        let ended = ended?;
        steps.remove(&stem.name(Role::Journal), "journal removed")?;
        Ok(ended)
    }
}

impl Trash {
    /// Everything from the journal's writing to before its removal.
    fn trash<P: Plants>(
        &self,
        steps: &mut Steps<'_, P>,
        stem: &Stem,
        journal: &TrashJournal,
    ) -> Run<TrashEnd> {
        write_journal(steps, stem, || Journal::Trash(journal.clone()), true)?;
        let place = Place::Media(self.path.clone());
        let Some(kept) = to_trash(steps, &place, &journal.trash)? else { return Ok(TrashEnd::Absent) };
        judge_trashed(steps, journal, kept)
    }
}

/// If someone saved between the look and the rename, what is in trash now is no removed content: it goes back, or
/// beside if the path was taken again.
fn judge_trashed<P: Plants>(steps: &mut Steps<'_, P>, journal: &TrashJournal, kept: Kept) -> Run<TrashEnd> {
    if unwritten(&kept.stat, &journal.there) {
        return Ok(TrashEnd::Trashed(kept));
    }
    let (there, place) = (Place::Trash(kept.place.clone()), Place::Media(journal.path.clone()));
    let changed = match steps.hash(&there, "judged in trash")? {
        Digest::Of(content, _) if content.same_as(&journal.expected) => return Ok(TrashEnd::Trashed(kept)),
        Digest::Of(content, _) => TrashEnd::Differs(content),
        Digest::Missing => return Ok(TrashEnd::Absent),
        Digest::Changing | Digest::Unreadable(_) => TrashEnd::Changing,
    };
    match steps.rename(&there, &place, "put back")? {
        Renamed::Done => {
            steps.sync_folder(&place, "put back durably")?;
            Ok(changed)
        }
        Renamed::Occupied | Renamed::Missing => {
            let kept_as = keep_beside(steps, &there, &journal.path, &journal.author_name)?;
            Ok(kept_as.map_or(TrashEnd::Absent, TrashEnd::KeptBeside))
        }
    }
}

/// After a crash: what got into trash is judged as it would have been.
pub(super) fn finish_trash<P: Plants>(
    steps: &mut Steps<'_, P>,
    journal: &TrashJournal,
) -> Run<Vec<Recovered>> {
    let (path, place) = (&journal.path, journal.trash.clone());
    let Some(looked) = steps.look(&Place::Trash(place.clone()), "looked in trash")? else {
        return Ok(Vec::new());
    };
    let kept = Kept { place, stat: looked.stat };
    Ok(match judge_trashed(steps, journal, kept)? {
        TrashEnd::Trashed(_) => vec![Recovered::Finished(path.clone())],
        TrashEnd::KeptBeside(kept_as) => vec![Recovered::KeptBeside { path: path.clone(), kept_as }],
        TrashEnd::Differs(_) | TrashEnd::Changing => vec![Recovered::Undone(path.clone())],
        TrashEnd::Absent => Vec::new(),
    })
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

/// Whether a file in trash has to be looked at: it does not look as remembered. Where nothing is remembered, its last
/// write is its last change, though getting into trash was a change of its own.
pub fn looks_written(remembered: Option<&FileStat>, now: &FileStat) -> bool {
    match remembered {
        Some(before) => now != before,
        None => now.ctime_ns != 0 && now.mtime_ns == now.ctime_ns,
    }
}

/// Looks whether a file in trash is still what was trashed; if a program wrote to it, it is kept beside its old path.
#[derive(Clone, Debug)]
pub struct KeepChanged {
    /// Where it is.
    pub place: TrashPlace,
    /// The path that it had.
    pub path: MediaPath,
    /// What was trashed, where that is remembered.
    pub was: Option<Content>,
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
            Digest::Of(content, stat) if self.was.is_some_and(|was| was.same_as(&content)) => {
                Ok(KeptChanged::Unchanged(stat))
            }
            Digest::Of(..) => {
                let kept = keep_beside(steps, &place, &self.path, &self.author_name)?;
                Ok(kept.map_or(KeptChanged::Gone, KeptChanged::KeptAs))
            }
            Digest::Missing => Ok(KeptChanged::Gone),
            Digest::Changing | Digest::Unreadable(_) => Ok(KeptChanged::Later),
        }
    }
}
