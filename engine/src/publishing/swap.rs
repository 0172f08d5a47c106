//! Publishing over a file that is there: our content goes in, what was there comes out, and only then is it judged.
//!
//! What holds always: every content is under one of the names that the journal knows, the final name, a conflict
//! name or trash, after every single primitive; what came out is judged by its bytes, once it is quiet, and once more
//! if it was written to on its way to trash; what is not proved to be the expected, a known or our own content is a
//! person's and is kept beside. The judging is the same after a crash (`recover`).

use super::journal::{PublishJournal, Role, Stem};
use super::keeping::{keep_beside, to_trash};
use super::steps::{Digest, Renamed, Run, Steps, fail};
use super::{ATTEMPTS_MAX, Failure, FileKind, Kept, Looked, Place, unwritten};
use crate::content::Content;
use crate::paths::MediaPath;
use crate::planted::{Bug, Plants};

/// One publication over a present file, as its journal describes it.
pub(super) struct Swap<'a> {
    pub journal: &'a PublishJournal,
    pub stem: &'a Stem,
}

/// What became of what came out.
#[derive(Debug)]
pub(super) enum Disposed {
    Trashed(Kept),
    PutBack(Content),
    KeptBeside,
    /// A person removed it from `.tcat/tmp`.
    Gone,
}

/// What came out, by its bytes.
enum Verdict {
    /// With the look that it had before it was read.
    Expected(Looked),
    Known(Content),
    Edit,
    Gone,
}

impl Swap<'_> {
    fn place(&self) -> Place {
        Place::Media(self.journal.path.clone())
    }

    fn temp(&self, role: Role) -> Place {
        Place::Temp(self.stem.name(role))
    }

    /// Gives our partial the swap name.
    pub(super) fn name_ours<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<()> {
        let (partial, swap) = (Place::Temp(self.journal.partial.clone()), self.temp(Role::Swap));
        match steps.rename(&partial, &swap, "ours named")? {
            Renamed::Done => steps.sync_folder(&swap, "ours named durably"),
            Renamed::Missing => fail(Failure::BadPartial("it vanished".into())),
            Renamed::Occupied => fail(Failure::Restless(self.journal.path.to_string())),
        }
    }

    /// Puts our content under the final name; true if something came out ([`Swap::came_out_role`]).
    pub(super) fn place_ours<P: Plants>(
        &self,
        steps: &mut Steps<'_, P>,
        kept_as: &mut Vec<MediaPath>,
    ) -> Run<bool> {
        if self.journal.by_exchange { self.exchange_in(steps) } else { self.rename_in(steps, kept_as) }
    }

    /// The role of the file that came out.
    pub(super) fn came_out_role(&self) -> Role {
        if self.journal.by_exchange { Role::Swap } else { Role::Aside }
    }

    /// Exchanges the swap name with the final name. True if something came out; if nothing was there, it is placed.
    fn exchange_in<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<bool> {
        let (place, swap) = (self.place(), self.temp(Role::Swap));
        for _ in 0..ATTEMPTS_MAX {
            steps.make_folders(&place)?;
            let came_out = steps.exchange(&swap, &place, "exchanged")?;
            if !came_out && steps.rename(&swap, &place, "placed")? != Renamed::Done {
                continue;
            }
            self.sync_both(steps, "exchanged durably")?;
            return Ok(came_out);
        }
        fail(Failure::Restless(self.journal.path.to_string()))
    }

    /// Renames what is there aside, then ours into its place. What a person saves there in between is an edit.
    fn rename_in<P: Plants>(&self, steps: &mut Steps<'_, P>, kept_as: &mut Vec<MediaPath>) -> Run<bool> {
        let (place, swap, aside) = (self.place(), self.temp(Role::Swap), self.temp(Role::Aside));
        steps.make_folders(&place)?;
        let came_out = match steps.rename(&place, &aside, "renamed aside")? {
            Renamed::Done => !steps.planted(Bug::NoExchangeReplaces),
            Renamed::Missing => false,
            Renamed::Occupied => return fail(Failure::Restless(self.journal.path.to_string())),
        };
        if steps.planted(Bug::NoExchangeReplaces) {
            steps.remove(&self.stem.name(Role::Aside), "replaced")?;
        }
        self.sync_both(steps, "renamed aside durably")?;
        for _ in 0..ATTEMPTS_MAX {
            steps.make_folders(&place)?;
            match steps.rename(&swap, &place, "placed")? {
                Renamed::Done => {
                    self.sync_both(steps, "placed durably")?;
                    return Ok(came_out);
                }
                Renamed::Occupied => kept_as.extend(self.keep_beside(steps, &place)?),
                Renamed::Missing => {}
            }
        }
        fail(Failure::Restless(self.journal.path.to_string()))
    }

    /// Judges what came out and brings it where it belongs.
    pub(super) fn dispose<P: Plants>(
        &self,
        steps: &mut Steps<'_, P>,
        role: Role,
        kept_as: &mut Vec<MediaPath>,
    ) -> Run<Disposed> {
        let name = self.temp(role);
        if steps.planted(Bug::SaveBeforeRename) {
            return Ok(to_trash(steps, &name, &self.journal.trash)?.map_or(Disposed::Gone, Disposed::Trashed));
        }
        match self.judge(steps, &name, "judged")? {
            Verdict::Gone => Ok(Disposed::Gone),
            Verdict::Expected(looked) => self.trash(steps, &name, &looked, kept_as),
            Verdict::Known(content) => {
                match self.journal.by_exchange {
                    true => self.exchange_back(steps)?,
                    false => self.rename_back(steps, kept_as)?,
                }
                kept_as.extend(self.return_ours(steps)?);
                Ok(Disposed::PutBack(content))
            }
            Verdict::Edit => self.keep(steps, &name, kept_as),
        }
    }

    /// The expected file goes to trash. If an editor that has it open wrote to it on its way, it is judged once more.
    fn trash<P: Plants>(
        &self,
        steps: &mut Steps<'_, P>,
        name: &Place,
        judged: &Looked,
        kept_as: &mut Vec<MediaPath>,
    ) -> Run<Disposed> {
        let Some(kept) = to_trash(steps, name, &self.journal.trash)? else {
            return Ok(Disposed::Gone);
        };
        if unwritten(&kept.stat, &judged.stat) {
            return Ok(Disposed::Trashed(kept));
        }
        let there = Place::Trash(kept.place.clone());
        match self.judge(steps, &there, "judged in trash")? {
            Verdict::Edit => self.keep(steps, &there, kept_as),
            Verdict::Gone => Ok(Disposed::Gone),
            Verdict::Expected(_) | Verdict::Known(_) => Ok(Disposed::Trashed(kept)),
        }
    }

    /// After a crash that came once the expected file was in trash: if it was written to on its way, it is judged
    /// once more.
    pub(super) fn check_trashed<P: Plants>(
        &self,
        steps: &mut Steps<'_, P>,
        kept_as: &mut Vec<MediaPath>,
    ) -> Run<()> {
        let place = Place::Trash(self.journal.trash.clone());
        let Some(looked) = steps.look(&place, "looked in trash")? else { return Ok(()) };
        if self.journal.there.is_some_and(|there| unwritten(&looked.stat, &there)) {
            return Ok(());
        }
        if let Verdict::Edit = self.judge(steps, &place, "judged in trash")? {
            self.keep(steps, &place, kept_as)?;
        }
        Ok(())
    }

    fn keep<P: Plants>(
        &self,
        steps: &mut Steps<'_, P>,
        from: &Place,
        kept_as: &mut Vec<MediaPath>,
    ) -> Run<Disposed> {
        let kept = self.keep_beside(steps, from)?;
        let disposed = if kept.is_some() { Disposed::KeptBeside } else { Disposed::Gone };
        kept_as.extend(kept);
        Ok(disposed)
    }

    /// The known content goes back by a second exchange; what comes out now is under the swap name again.
    fn exchange_back<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<()> {
        let (place, swap) = (self.place(), self.temp(Role::Swap));
        for _ in 0..ATTEMPTS_MAX {
            steps.make_folders(&place)?;
            if steps.exchange(&swap, &place, "put back")?
                || steps.rename(&swap, &place, "put back")? == Renamed::Done
            {
                return self.sync_both(steps, "put back durably");
            }
        }
        fail(Failure::Restless(self.journal.path.to_string()))
    }

    /// Without exchange: ours leaves the final name for the swap name, then the known content returns.
    fn rename_back<P: Plants>(&self, steps: &mut Steps<'_, P>, kept_as: &mut Vec<MediaPath>) -> Run<()> {
        let (place, swap) = (self.place(), self.temp(Role::Swap));
        steps.make_folders(&place)?;
        if steps.rename(&place, &swap, "ours taken out")? == Renamed::Occupied {
            return fail(Failure::Restless(self.journal.path.to_string()));
        }
        self.sync_both(steps, "ours taken out durably")?;
        self.return_aside(steps, kept_as)
    }

    /// What was renamed aside gets its name back; if someone saved there meanwhile, it is kept beside.
    pub(super) fn return_aside<P: Plants>(
        &self,
        steps: &mut Steps<'_, P>,
        kept_as: &mut Vec<MediaPath>,
    ) -> Run<()> {
        let (place, aside) = (self.place(), self.temp(Role::Aside));
        for _ in 0..ATTEMPTS_MAX {
            steps.make_folders(&place)?;
            match steps.rename(&aside, &place, "aside returned")? {
                Renamed::Done => return self.sync_both(steps, "aside returned durably"),
                Renamed::Occupied => {
                    kept_as.extend(self.keep_beside(steps, &aside)?);
                    return Ok(());
                }
                Renamed::Missing => {}
            }
        }
        fail(Failure::Restless(self.journal.path.to_string()))
    }

    /// Deals with what is under the swap name when it should be ours: a partial again if it is, kept beside if a
    /// person wrote to it while it had the final name.
    pub(super) fn return_ours<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<Option<MediaPath>> {
        let (name, swap) = (self.stem.name(Role::Swap), self.temp(Role::Swap));
        let partial = Place::Temp(self.journal.partial.clone());
        let Some(looked) = steps.look(&swap, "looked at ours")? else { return Ok(None) };
        if self.is_at_path(steps, &looked)? || steps.are_one_file(&swap, &partial)? {
            // The other name of the published file or the partial, left by a crash between linking and removing.
            steps.remove(&name, "second name removed")?;
            return Ok(None);
        }
        if !self.is_target(steps, &swap, &looked)? {
            return self.keep_beside(steps, &swap);
        }
        // A file that may have another name must not be written to again as a partial.
        if looked.links == 1 && steps.rename(&swap, &partial, "a partial again")? == Renamed::Done {
            steps.sync_folder(&partial, "a partial again durably")?;
            return Ok(None);
        }
        to_trash(steps, &swap, &self.journal.trash)?;
        Ok(None)
    }

    /// Whether the file with this look is the one at the final name.
    pub(super) fn is_at_path<P: Plants>(&self, steps: &mut Steps<'_, P>, looked: &Looked) -> Run<bool> {
        let there = steps.look(&self.place(), "looked at the place")?;
        Ok(there.is_some_and(|there| there.same_file(looked) == Some(true)))
    }

    /// Whether the file has our content.
    pub(super) fn is_target<P: Plants>(
        &self,
        steps: &mut Steps<'_, P>,
        place: &Place,
        looked: &Looked,
    ) -> Run<bool> {
        let target = &self.journal.target;
        if looked.kind != FileKind::Regular || looked.stat.size != target.size {
            return Ok(false);
        }
        let digest = steps.hash(place, "ours read")?;
        Ok(matches!(digest, Digest::Of(content, _) if content.same_as(target)))
    }

    pub(super) fn keep_beside<P: Plants>(
        &self,
        steps: &mut Steps<'_, P>,
        from: &Place,
    ) -> Run<Option<MediaPath>> {
        keep_beside(steps, from, &self.journal.path, &self.journal.author_name)
    }

    fn judge<P: Plants>(&self, steps: &mut Steps<'_, P>, name: &Place, then: &'static str) -> Run<Verdict> {
        let PublishJournal { target, expected, known, quiet_ms, .. } = self.journal;
        let Some(looked) = steps.await_quiet(name, *quiet_ms, "quiet")? else { return Ok(Verdict::Edit) };
        let mut candidates = known.iter().chain([target, expected]);
        if !candidates.any(|candidate| candidate.size == looked.stat.size) {
            return Ok(Verdict::Edit);
        }
        let content = match steps.hash(name, then)? {
            Digest::Of(content, _) => content,
            Digest::Missing => return Ok(Verdict::Gone),
            // What cannot be read cannot be proved to be anything but a person's.
            Digest::Changing | Digest::Unreadable(_) => return Ok(Verdict::Edit),
        };
        if content.same_as(expected) {
            return Ok(Verdict::Expected(looked));
        }
        let mut known = known.iter().chain([target]);
        Ok(known.find(|known| known.same_as(&content)).map_or(Verdict::Edit, |known| Verdict::Known(*known)))
    }

    fn sync_both<P: Plants>(&self, steps: &mut Steps<'_, P>, then: &'static str) -> Run<()> {
        steps.sync_folder(&self.place(), "folder durable")?;
        steps.sync_folder(&self.temp(Role::Swap), then)
    }
}
