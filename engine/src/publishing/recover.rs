//! After a crash: every step that a journal in `.tcat/tmp` describes is finished or undone.
//!
//! What holds always: what is found is judged by its bytes and names, never by how far the step seems to have got;
//! nothing is removed but journals, second names of a file that keeps another, and unfinished journals; a file that
//! no journal explains goes to trash. Files in `.tcat/tmp` whose names are not exactly ours are left alone.
//! Recovering twice does nothing more, and a crash in the middle of recovering is recovered from like any other.
//!
//! The order matters: first the journals ([`journals_of`]), then what none of them explains ([`unexplained_of`]), then
//! second names of partials ([`second_names_of`]), then every folder's names ([`NamesDurable`]).

use super::journal::{Journal, JournalError, PublishJournal, Role, Stem};
use super::keeping::{free_in_trash, to_trash};
use super::moves::end_move;
use super::steps::{Act, Run, Steps, fail};
use super::swap::{Disposed, Swap};
use super::trash::finish_trash;
use super::{Failure, Place, partial_key};
use crate::paths::MediaPath;
use crate::planted::{Bug, Plants};
use std::fmt;

/// One thing that recovery did, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recovered {
    /// A publication had not reached the path, or was taken back: its content is a partial again.
    Undone(MediaPath),
    /// A publication was done; the file that it replaced is in trash.
    Finished(MediaPath),
    /// What had been saved at the path is beside it now.
    KeptBeside {
        /// The path.
        path: MediaPath,
        /// Where it is.
        kept_as: MediaPath,
    },
    /// A rename through a temporary name was finished: the file is here.
    Moved(MediaPath),
    /// A file under a name of ours that no journal explains is in trash.
    Unexplained(String),
    /// Not done; it is tried again at the next start.
    Failed {
        /// The file's name in `.tcat/tmp`.
        name: String,
        /// Why.
        why: String,
    },
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undone(path) => write!(f, "{path}: an interrupted publication was undone"),
            Self::Finished(path) => write!(f, "{path}: an interrupted publication was finished"),
            Self::KeptBeside { path, kept_as } => {
                write!(f, "{path}: what was saved there is kept as {kept_as}")
            }
            Self::Moved(path) => write!(f, "{path}: an interrupted rename was finished"),
            Self::Unexplained(name) => {
                write!(f, ".tcat/tmp/{name}: no journal explains it; it is in trash now")
            }
            Self::Failed { name, why } => write!(f, ".tcat/tmp/{name}: could not be recovered: {why}"),
        }
    }
}

/// The journals among the names in `.tcat/tmp`.
pub fn journals_of(names: &[String]) -> impl Iterator<Item = Stem> {
    let stems = names.iter().filter_map(|name| Stem::parse(name));
    stems.filter(|(_, role)| *role == Role::Journal).map(|(stem, _)| stem)
}

/// The other files of steps among the names in `.tcat/tmp`.
pub fn unexplained_of(names: &[String], day: &str) -> impl Iterator<Item = Unexplained> {
    let stems = names.iter().filter_map(|name| Stem::parse(name));
    let others = stems.filter(|(_, role)| *role != Role::Journal);
    others.map(|(stem, role)| Unexplained { stem, role, day: day.to_owned() })
}

/// The partials among the names in `.tcat/tmp`.
pub fn second_names_of(names: &[String]) -> impl Iterator<Item = SecondName> {
    names.iter().filter(|name| partial_key(name).is_some()).map(|name| SecondName { name: name.clone() })
}

/// Finishes or undoes what a journal describes, if it is there, and removes it.
#[derive(Clone, Debug)]
pub struct Finish {
    /// Whose.
    pub stem: Stem,
    /// Today, for trash.
    pub day: String,
}

impl Act for Finish {
    type End = Vec<Recovered>;

    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<Vec<Recovered>> {
        finish(steps, &self.stem, &self.day)
    }
}

/// Finishes or undoes what the journal of `stem` describes, if there is one, and removes it.
pub(super) fn finish<P: Plants>(steps: &mut Steps<'_, P>, stem: &Stem, day: &str) -> Run<Vec<Recovered>> {
    let name = stem.name(Role::Journal);
    let unchecked = steps.planted(Bug::TornJournal);
    let read = match steps.read(&name, "journal read")? {
        None => return Ok(Vec::new()),
        Some(bytes) if unchecked => {
            Journal::decode_unchecked(bytes.get(..bytes.len().saturating_sub(32)).unwrap_or_default())
        }
        Some(bytes) => Journal::decode(bytes),
    };
    let report = match read {
        Ok(Journal::Publish(journal)) => finish_publish(steps, stem, &journal)?,
        Ok(Journal::Trash(journal)) => finish_trash(steps, &journal)?,
        Ok(Journal::Move(journal)) => {
            end_move(steps, stem, &journal)?.map(Recovered::Moved).into_iter().collect()
        }
        Err(JournalError::Unknown(why)) => return fail(Failure::BadJournal(name, why)),
        Err(JournalError::Torn(ours)) => return drop_torn(steps, stem, ours, day),
    };
    // What was done may be from a try whose syncing failed: it must not outlive its journal undone.
    steps.sync_folder(&Place::Temp(name.clone()), "recovered durably")?;
    steps.remove(&name, "journal removed")?;
    Ok(report)
}

/// A torn journal without other files had not begun anything. With others it cannot be from a crash of ours, and the
/// files stay until somebody has understood it.
fn drop_torn<P: Plants>(steps: &mut Steps<'_, P>, stem: &Stem, ours: bool, day: &str) -> Run<Vec<Recovered>> {
    let name = stem.name(Role::Journal);
    for role in [Role::Swap, Role::Aside, Role::Moving] {
        if steps.look(&Place::Temp(stem.name(role)), "looked for what it began")?.is_some() {
            return fail(Failure::BadJournal(name, "it is not whole".into()));
        }
    }
    if ours {
        steps.remove(&name, "torn journal removed")?;
        return Ok(Vec::new());
    }
    let place = free_in_trash(steps, &recovered_path(&name)?, day)?;
    to_trash(steps, &Place::Temp(name.clone()), &place)?;
    Ok(vec![Recovered::Unexplained(name)])
}

fn finish_publish<P: Plants>(
    steps: &mut Steps<'_, P>,
    stem: &Stem,
    journal: &PublishJournal,
) -> Run<Vec<Recovered>> {
    let swap = Swap { journal, stem };
    let mut kept_as = Vec::new();
    let mut report = match journal.by_exchange {
        true => finish_exchange(steps, &swap, &mut kept_as)?,
        false => finish_aside(steps, &swap, &mut kept_as)?,
    };
    let path = &journal.path;
    report.extend(kept_as.into_iter().map(|kept_as| Recovered::KeptBeside { path: path.clone(), kept_as }));
    Ok(report)
}

/// Our content under the swap name: not exchanged, or exchanged back. Anything else came out.
fn finish_exchange<P: Plants>(
    steps: &mut Steps<'_, P>,
    swap: &Swap<'_>,
    kept_as: &mut Vec<MediaPath>,
) -> Run<Vec<Recovered>> {
    let place = Place::Temp(swap.stem.name(Role::Swap));
    let Some(looked) = steps.look(&place, "swap seen")? else {
        swap.check_trashed(steps, kept_as)?;
        return Ok(Vec::new());
    };
    if swap.is_at_path(steps, &looked)? || swap.is_target(steps, &place, &looked)? {
        kept_as.extend(swap.return_ours(steps)?);
        return Ok(vec![Recovered::Undone(swap.journal.path.clone())]);
    }
    finish_disposal(steps, swap, Role::Swap, kept_as)
}

/// Where nothing has the final name, what was renamed aside returns; else the placing is taken for done.
fn finish_aside<P: Plants>(
    steps: &mut Steps<'_, P>,
    swap: &Swap<'_>,
    kept_as: &mut Vec<MediaPath>,
) -> Run<Vec<Recovered>> {
    let aside = swap.stem.name(Role::Aside);
    let ours = Place::Temp(swap.stem.name(Role::Swap));
    let ours_waits = steps.look(&ours, "swap seen")?;
    let mut report = Vec::new();
    if let Some(looked) = steps.look(&Place::Temp(aside.clone()), "aside seen")? {
        let placed = match &ours_waits {
            Some(ours) => swap.is_at_path(steps, ours)?,
            None => true,
        };
        if swap.is_at_path(steps, &looked)? {
            steps.remove(&aside, "second name removed")?;
        } else if placed {
            // The other name of a file that was placed by linking would be in the way of putting back.
            if ours_waits.is_some() {
                kept_as.extend(swap.return_ours(steps)?);
            }
            report.extend(finish_disposal(steps, swap, Role::Aside, kept_as)?);
        } else {
            swap.return_aside(steps, kept_as)?;
        }
    } else if ours_waits.is_none() {
        swap.check_trashed(steps, kept_as)?;
    }
    if steps.look(&ours, "swap seen again")?.is_some() {
        kept_as.extend(swap.return_ours(steps)?);
        report.push(Recovered::Undone(swap.journal.path.clone()));
    }
    Ok(report)
}

fn finish_disposal<P: Plants>(
    steps: &mut Steps<'_, P>,
    swap: &Swap<'_>,
    role: Role,
    kept_as: &mut Vec<MediaPath>,
) -> Run<Vec<Recovered>> {
    let path = swap.journal.path.clone();
    Ok(match swap.dispose(steps, role, kept_as)? {
        Disposed::Trashed(_) | Disposed::Gone => vec![Recovered::Finished(path)],
        Disposed::PutBack(_) => vec![Recovered::Undone(path)],
        Disposed::KeptBeside => Vec::new(),
    })
}

/// A file of ours without its journal. An unfinished journal had not begun anything; all else is kept.
#[derive(Clone, Debug)]
pub struct Unexplained {
    /// Whose.
    pub stem: Stem,
    /// What it was.
    pub role: Role,
    /// Today, for trash.
    pub day: String,
}

impl Unexplained {
    /// Its name in `.tcat/tmp`.
    pub fn name(&self) -> String {
        self.stem.name(self.role)
    }
}

impl Act for Unexplained {
    type End = Option<Recovered>;

    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<Option<Recovered>> {
        let name = self.name();
        let journal = Place::Temp(self.stem.name(Role::Journal));
        if steps.look(&journal, "looked for a journal")?.is_some() {
            return Ok(None);
        }
        if steps.look(&Place::Temp(name.clone()), "looked again")?.is_none() {
            return Ok(None);
        }
        if self.role == Role::FreshJournal {
            steps.remove(&name, "unfinished journal removed")?;
            return Ok(None);
        }
        let place = free_in_trash(steps, &recovered_path(&name)?, &self.day)?;
        to_trash(steps, &Place::Temp(name.clone()), &place)?;
        Ok(Some(Recovered::Unexplained(name)))
    }
}

fn recovered_path(name: &str) -> Run<MediaPath> {
    MediaPath::parse(&format!("recovered/{name}")).or_else(|_| fail(Failure::NameImpossible(name.to_owned())))
}

/// A partial that was placed by linking, when the crash came before its own name was removed: writing to it would
/// write to the published file.
#[derive(Clone, Debug)]
pub struct SecondName {
    /// Its name in `.tcat/tmp`.
    pub name: String,
}

impl Act for SecondName {
    type End = ();

    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<()> {
        match steps.look(&Place::Temp(self.name.clone()), "partial seen")? {
            Some(looked) if looked.links > 1 => steps.remove(&self.name, "second name removed"),
            _ => Ok(()),
        }
    }
}

/// What can be seen in a folder is made durable. A process that was killed may have left names that it had not synced
/// yet, a placed file's among them; the next one believes what it sees and tells others of it.
#[derive(Clone, Debug)]
pub struct NamesDurable {
    /// Any name in the folder, whether or not something has it.
    pub place: Place,
}

impl Act for NamesDurable {
    type End = ();

    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<()> {
        steps.sync_folder(&self.place, "names durable")
    }
}
