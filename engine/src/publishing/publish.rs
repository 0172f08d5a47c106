//! Publishing: a whole, verified partial gets its final name, and nothing that is there is replaced blindly.
//!
//! What holds always: the final name stands for one whole content or another at every moment, never for a part;
//! where something had the name, the end says what became of it. Where nothing was expected, the name is taken
//! only if it is free. Not here: the exchange itself (`swap`).

use super::journal::{Journal, KNOWN_MAX, PublishJournal, Role, Stem};
use super::keeping::free_in_trash;
use super::recover::finish;
use super::steps::{Act, Halt, Renamed, Run, Steps, fail};
use super::swap::{Disposed, Swap};
use super::{ATTEMPTS_MAX, Failure, FileKind, Kept, Looked, Place, TrashPlace};
use crate::content::Content;
use crate::ids::ItemId;
use crate::observation::FileStat;
use crate::paths::MediaPath;
use crate::planted::{Bug, Plants};

/// How much of an author's name goes into a file's name.
const AUTHOR_CHARS_MAX: usize = 40;

/// One content to be put under one path.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Whose content it is.
    pub item: ItemId,
    /// Where it belongs.
    pub path: MediaPath,
    /// What it is.
    pub content: Content,
    /// The partial's name in `.tcat/tmp`; whole and verified by the caller.
    pub partial: String,
    /// What should be at the path now: nothing, or a file with this content; if it vanished, nothing is as good.
    pub expected: Option<Content>,
    /// The content itself and the later ones of its chain, oldest first: a file that is one of them stays.
    pub known: Vec<Content>,
    /// Who stands in the name of a version that is kept beside.
    pub author_name: String,
    /// How long a file must not have been written to count as quiet.
    pub quiet_ms: u64,
    /// Whether names can be exchanged here; else the present file is renamed aside.
    pub exchange: bool,
    /// Today, for trash.
    pub day: String,
}

/// What became of a publication. A stat is given where the file at the path is proved to be what was published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Published {
    /// Nothing had the name: the content has it now.
    Placed {
        /// Its stat.
        stat: Option<FileStat>,
    },
    /// The expected file is in trash, the content has its name.
    Replaced {
        /// Its stat.
        stat: Option<FileStat>,
        /// Where the expected file is.
        trashed: Kept,
    },
    /// The content has the name; what had it was no content that the caller named, so a person's edit.
    Edited {
        /// Its stat.
        stat: Option<FileStat>,
        /// The names of what was there; nearly always one.
        kept_as: Vec<MediaPath>,
    },
    /// This known content was there and is there again; the partial is one again, to be verified before its next use.
    KnownThere {
        /// The content at the path.
        content: Content,
        /// The names of what was saved at the path in the meantime; nearly always none.
        kept_as: Vec<MediaPath>,
    },
    /// Nothing was expected and something is there: nothing was changed.
    Occupied,
}

impl Act for Publish {
    type End = Published;

    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<Published> {
        match &self.expected {
            None => self.over_nothing(steps),
            Some(expected) => self.over(steps, expected),
        }
    }
}

impl Publish {
    fn over_nothing<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<Published> {
        let before = self.whole_partial(steps)?;
        let (partial, place) = (Place::Temp(self.partial.clone()), Place::Media(self.path.clone()));
        for _ in 0..ATTEMPTS_MAX {
            steps.make_folders(&place)?;
            match steps.rename(&partial, &place, "placed")? {
                Renamed::Done => {
                    if !steps.planted(Bug::FolderNotSynced) {
                        steps.sync_folder(&place, "placed durably")?;
                        // A partial's name that a power cut brings back may be the only one that is left of a file
                        // by the next start, when programs of persons have it open.
                        steps.sync_folder(&partial, "no partial durably")?;
                    }
                    return Ok(Published::Placed { stat: stat_of_ours(steps, &self.path, &before)? });
                }
                Renamed::Occupied if steps.planted(Bug::BlindReplace) => {
                    let aside = Stem::of_publish(self.item, &self.content, &self.content).name(Role::Aside);
                    steps.rename(&place, &Place::Temp(aside.clone()), "taken away")?;
                    steps.remove(&aside, "replaced blindly")?;
                }
                Renamed::Occupied => return Ok(Published::Occupied),
                // Its folder was removed at this moment: made again.
                Renamed::Missing => {}
            }
        }
        fail(Failure::Restless(self.path.to_string()))
    }

    fn over<P: Plants>(&self, steps: &mut Steps<'_, P>, expected: &Content) -> Run<Published> {
        let stem = Stem::of_publish(self.item, &self.content, expected);
        finish(steps, &stem, &self.day)?;
        let before = self.whole_partial(steps)?;
        let place = Place::Media(self.path.clone());
        steps.make_folders(&place)?;
        let there = steps.look_at_file(&place, "looked at the place")?;
        let trash = free_in_trash(steps, &self.path, &self.day)?;
        let journal = self.journal(expected, there.map(|there| there.stat), trash);
        let late = steps.planted(Bug::JournalAfterMove);
        let published = self.swap(steps, &stem, &journal, &before, late);
        if let Err(Halt::Failed(failure)) = published {
            // A crash is finished by recovery; a mere failure is undone at once, as far as the disk lets us.
            match finish(steps, &stem, &self.day) {
                Err(ask @ Halt::Ask(_)) => return Err(ask),
                _ => return fail(failure),
            }
        }
        let published = published?;
        steps.remove(&stem.name(Role::Journal), "journal removed")?;
        Ok(published)
    }

    fn journal(&self, expected: &Content, there: Option<FileStat>, trash: TrashPlace) -> PublishJournal {
        let skip = self.known.len().saturating_sub(KNOWN_MAX);
        PublishJournal {
            item: self.item,
            path: self.path.clone(),
            by_exchange: self.exchange,
            partial: self.partial.clone(),
            author_name: self.author_name.chars().take(AUTHOR_CHARS_MAX).collect(),
            quiet_ms: self.quiet_ms,
            target: self.content,
            expected: *expected,
            known: self.known.iter().skip(skip).copied().collect(),
            there,
            trash,
        }
    }

    /// Everything from the journal's writing to before its removal.
    fn swap<P: Plants>(
        &self,
        steps: &mut Steps<'_, P>,
        stem: &Stem,
        journal: &PublishJournal,
        ours: &Looked,
        late: bool,
    ) -> Run<Published> {
        let swap = Swap { journal, stem };
        let mut kept_as = Vec::new();
        write_journal(steps, stem, || Journal::Publish(Box::new(journal.clone())), !late)?;
        swap.name_ours(steps)?;
        let came_out = swap.place_ours(steps, &mut kept_as)?;
        if late {
            sync_journal(steps, stem)?;
        }
        let stat = stat_of_ours(steps, &journal.path, ours)?;
        let disposed = match came_out {
            true => swap.dispose(steps, swap.came_out_role(), &mut kept_as)?,
            false => Disposed::Gone,
        };
        Ok(match disposed {
            Disposed::PutBack(content) => Published::KnownThere { content, kept_as },
            _ if !kept_as.is_empty() => Published::Edited { stat, kept_as },
            Disposed::Trashed(trashed) => Published::Replaced { stat, trashed },
            Disposed::Gone | Disposed::KeptBeside => Published::Placed { stat },
        })
    }

    /// The partial's look, once its bytes are durable; it must be ours, whole, and known by no other name.
    fn whole_partial<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<Looked> {
        let place = Place::Temp(self.partial.clone());
        let bad = |why: String| fail(Failure::BadPartial(why));
        let Some(looked) = steps.look(&place, "partial seen")? else { return bad("nothing is there".into()) };
        if looked.kind != FileKind::Regular || looked.links > 1 {
            return bad("it is no file of its own".into());
        }
        if looked.stat.size != self.content.size {
            return bad(format!("{} bytes instead of {}", looked.stat.size, self.content.size));
        }
        steps.sync_file(&place, "partial durable")?;
        Ok(looked)
    }
}

/// Makes a journal durable; what is found under its name that says nothing was not begun, and is gone by now.
pub(super) fn write_journal<P: Plants>(
    steps: &mut Steps<'_, P>,
    stem: &Stem,
    journal: impl FnOnce() -> Journal,
    durably: bool,
) -> Run<()> {
    let name = stem.name(Role::Journal);
    if !steps.write(&name, "journal written", || journal().encode())? {
        return fail(Failure::BadJournal(name, "another step wrote it at this moment".into()));
    }
    if durably { sync_journal(steps, stem) } else { Ok(()) }
}

fn sync_journal<P: Plants>(steps: &mut Steps<'_, P>, stem: &Stem) -> Run<()> {
    let place = Place::Temp(stem.name(Role::Journal));
    steps.sync_file(&place, "journal whole")?;
    steps.sync_folder(&place, "journal durable")
}

/// The stat of the file at `path`, if it is the one that had the look `ours` and nobody wrote to it since.
pub(super) fn stat_of_ours<P: Plants>(
    steps: &mut Steps<'_, P>,
    path: &MediaPath,
    ours: &Looked,
) -> Run<Option<FileStat>> {
    let looked = steps.look(&Place::Media(path.clone()), "looked at ours")?;
    Ok(looked.filter(|looked| looked.unwritten_since(ours)).map(|looked| looked.stat))
}
