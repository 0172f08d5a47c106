//! Renames: a file follows its item's path, and a conflicting file is set aside.
//!
//! What holds always: a rename never replaces; a name that differs only in case is reached through a temporary one
//! where the file system takes both for the same; a file that turns out not to be the expected one is put back, or
//! kept where it is, never lost.

use super::journal::{Journal, MoveJournal, Role, Stem};
use super::keeping::is_left_over;
use super::publish::{stat_of_ours, write_journal};
use super::recover::finish;
use super::steps::{Act, Digest, Halt, Renamed, Run, Steps, fail};
use super::{ATTEMPTS_MAX, Failure, Looked, NAMES_MAX, Place};
use crate::content::Content;
use crate::observation::FileStat;
use crate::paths::MediaPath;
use crate::planted::Plants;

/// Gives a file another path, making folders as needed; the folder that it leaves stays, also when empty.
#[derive(Clone, Debug)]
pub struct MoveFile {
    /// The old path.
    pub from: MediaPath,
    /// The new one.
    pub to: MediaPath,
    /// Whether the file system takes `a` and `A` for one name.
    pub ignores_case: bool,
    /// Today, for trash.
    pub day: String,
}

/// What became of a move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Moved {
    /// The file has the new name; its stat, where nobody wrote to it meanwhile.
    Moved(Option<FileStat>),
    /// Something has the new name already: nothing was changed.
    Occupied,
    /// There is no file to move.
    Absent,
}

impl Act for MoveFile {
    type End = Moved;

    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<Moved> {
        finish(steps, &Stem::of_move(&self.from, &self.to), &self.day)?;
        let (from, to) = (Place::Media(self.from.clone()), Place::Media(self.to.clone()));
        let Some(before) = steps.look_at_file(&from, "looked at the file")? else { return Ok(Moved::Absent) };
        if self.from == self.to {
            return Ok(Moved::Moved(Some(before.stat)));
        }
        steps.make_folders(&to)?;
        match steps.rename(&from, &to, "moved")? {
            Renamed::Done => {
                steps.sync_folder(&to, "moved durably")?;
                steps.sync_folder(&from, "gone durably")?;
                return Ok(Moved::Moved(stat_of_ours(steps, &self.to, &before)?));
            }
            Renamed::Missing => return Ok(Moved::Absent),
            Renamed::Occupied => {}
        }
        let there = steps.look(&to, "looked at what is there")?;
        let one_name = match there.map(|there| there.same_file(&before)) {
            // Two links of one file are two names, unless the file system itself takes them for one.
            Some(Some(true)) => before.links == 1 || self.ignores_case,
            Some(None) => self.ignores_case,
            Some(Some(false)) | None => false,
        };
        if !one_name || self.from.folded() != self.to.folded() {
            return Ok(Moved::Occupied);
        }
        let through =
            MoveThrough { from: self.from.clone(), to: self.to.clone(), before, day: self.day.clone() };
        through.run(steps)
    }
}

/// The way through a temporary name, for two names that the file system takes for one.
#[derive(Clone, Debug)]
pub struct MoveThrough {
    /// The old path.
    pub from: MediaPath,
    /// The new one.
    pub to: MediaPath,
    /// How the file looked before.
    pub before: Looked,
    /// Today, for trash.
    pub day: String,
}

impl Act for MoveThrough {
    type End = Moved;

    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<Moved> {
        let stem = Stem::of_move(&self.from, &self.to);
        let journal = MoveJournal { from: self.from.clone(), to: self.to.clone() };
        let moved = self.through(steps, &stem, &journal);
        if let Err(Halt::Failed(failure)) = moved {
            match finish(steps, &stem, &self.day) {
                Err(ask @ Halt::Ask(_)) => return Err(ask),
                _ => return fail(failure),
            }
        }
        let place = moved?;
        steps.remove(&stem.name(Role::Journal), "journal removed")?;
        Ok(match place {
            Some(place) if place == self.to => Moved::Moved(stat_of_ours(steps, &self.to, &self.before)?),
            Some(_) => Moved::Occupied,
            None => Moved::Absent,
        })
    }
}

impl MoveThrough {
    fn through<P: Plants>(
        &self,
        steps: &mut Steps<'_, P>,
        stem: &Stem,
        journal: &MoveJournal,
    ) -> Run<Option<MediaPath>> {
        write_journal(steps, stem, || Journal::Move(journal.clone()), true)?;
        let (from, moving) = (Place::Media(self.from.clone()), Place::Temp(stem.name(Role::Moving)));
        if steps.rename(&from, &moving, "on its way")? == Renamed::Occupied {
            return fail(Failure::Restless(self.from.to_string()));
        }
        steps.sync_folder(&moving, "on its way durably")?;
        steps.sync_folder(&from, "gone durably")?;
        end_move(steps, stem, journal)
    }
}

/// Brings a file on its way to its new name, else back to the old one, else to a free one beside the new.
pub(super) fn end_move<P: Plants>(
    steps: &mut Steps<'_, P>,
    stem: &Stem,
    journal: &MoveJournal,
) -> Run<Option<MediaPath>> {
    let moving = Place::Temp(stem.name(Role::Moving));
    let numbered = (1..=NAMES_MAX).map(|n| journal.to.numbered(n));
    let mut restless = 0;
    for path in [journal.to.clone(), journal.from.clone()].into_iter().chain(numbered) {
        let place = Place::Media(path.clone());
        while restless < ATTEMPTS_MAX {
            if steps.look(&moving, "looked on its way")?.is_none() {
                return Ok(None);
            }
            steps.make_folders(&place)?;
            match steps.rename(&moving, &place, "arrived")? {
                Renamed::Done => {
                    steps.sync_folder(&place, "arrived durably")?;
                    steps.sync_folder(&moving, "gone durably")?;
                    return Ok(Some(path));
                }
                Renamed::Occupied if is_left_over(steps, &moving, &place)? => return Ok(Some(path)),
                Renamed::Occupied => break,
                Renamed::Missing => restless += 1,
            }
        }
    }
    fail(Failure::NoFreeName(journal.to.to_string()))
}

/// Renames the file at a path, if it has the expected content, to its conflict name.
#[derive(Clone, Debug)]
pub struct SetAside {
    /// Where it is.
    pub path: MediaPath,
    /// Its content.
    pub expected: Content,
    /// Its conflict name.
    pub to: MediaPath,
}

/// What became of setting a file aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetAsideEnd {
    /// The expected content has the other name; its stat, where nobody wrote to it meanwhile.
    Aside(Option<FileStat>),
    /// Another content is at the path, and stays there.
    Differs(Content),
    /// It is being written: nothing was changed.
    Changing,
    /// It changed at the last moment and the path was taken again: the changed file stays under the other name.
    KeptAside,
    /// Something has the other name already: nothing was changed.
    Occupied,
    /// There is no file.
    Absent,
}

impl Act for SetAside {
    type End = SetAsideEnd;

    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<SetAsideEnd> {
        let (from, to) = (Place::Media(self.path.clone()), Place::Media(self.to.clone()));
        let before = match confirm(steps, &from, &self.expected, "confirmed")? {
            Confirmed::Is(looked) => looked,
            Confirmed::Differs(content) => return Ok(SetAsideEnd::Differs(content)),
            Confirmed::Changing => return Ok(SetAsideEnd::Changing),
            Confirmed::Absent => return Ok(SetAsideEnd::Absent),
        };
        steps.make_folders(&to)?;
        match steps.rename(&from, &to, "set aside")? {
            Renamed::Done => {}
            Renamed::Occupied => return Ok(SetAsideEnd::Occupied),
            Renamed::Missing => return Ok(SetAsideEnd::Absent),
        }
        steps.sync_folder(&to, "set aside durably")?;
        steps.sync_folder(&from, "gone durably")?;
        let stat = stat_of_ours(steps, &self.to, &before)?;
        if stat.is_some() {
            return Ok(SetAsideEnd::Aside(stat));
        }
        // Someone saved between the look and the rename: what has the other name now is judged again.
        let changed = match confirm(steps, &to, &self.expected, "confirmed aside")? {
            Confirmed::Is(looked) => return Ok(SetAsideEnd::Aside(Some(looked.stat))),
            Confirmed::Absent => return Ok(SetAsideEnd::Absent),
            Confirmed::Differs(content) => SetAsideEnd::Differs(content),
            Confirmed::Changing => SetAsideEnd::Changing,
        };
        match steps.rename(&to, &from, "put back")? {
            Renamed::Done => {
                steps.sync_folder(&from, "put back durably")?;
                Ok(changed)
            }
            Renamed::Occupied | Renamed::Missing => Ok(SetAsideEnd::KeptAside),
        }
    }
}

/// Whether the file at a path is the expected one.
pub(super) enum Confirmed {
    Is(Looked),
    Differs(Content),
    Changing,
    Absent,
}

/// Hashes the file at `place` and compares; the look is the one that the digest is for.
pub(super) fn confirm<P: Plants>(
    steps: &mut Steps<'_, P>,
    place: &Place,
    expected: &Content,
    then: &'static str,
) -> Run<Confirmed> {
    let Some(looked) = steps.look_at_file(place, "looked at the file")? else { return Ok(Confirmed::Absent) };
    let (content, stat) = match steps.hash(place, then)? {
        Digest::Of(content, stat) => (content, stat),
        Digest::Missing => return Ok(Confirmed::Absent),
        Digest::Changing | Digest::Unreadable(None) => return Ok(Confirmed::Changing),
        Digest::Unreadable(Some(refusal)) => return fail(Failure::Refused(refusal)),
    };
    Ok(match () {
        // The look and the digest must mean the same file.
        () if stat != looked.stat => Confirmed::Changing,
        () if content.same_as(expected) => Confirmed::Is(looked),
        () => Confirmed::Differs(content),
    })
}
