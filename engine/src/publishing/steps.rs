//! Machines: an act says which primitive it wants next, from what it was answered so far.
//!
//! An act is written as if it could do its primitives; asking for one that has no answer yet ends the run with that
//! question, and the next run begins anew and finds one answer more. So a machine has no hidden state. An act must
//! therefore depend on nothing but itself and the answers.

use super::{Answer, FileKind, Looked, Place, Primitive};
use crate::content::Content;
use crate::observation::FileStat;
use crate::planted::{Bug, Plants, Sound};

/// Something done in the media folder, primitive by primitive.
pub trait Act {
    /// What is known at its end.
    type End;

    /// Runs from its beginning: to its end, or to the first question without an answer.
    fn run<P: Plants>(&self, steps: &mut Steps<'_, P>) -> Run<Self::End>;
}

/// A primitive to be performed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Which.
    pub primitive: Primitive,
    /// What has happened once it is done: the name of the moment after it.
    pub then: &'static str,
}

/// What a machine says.
#[derive(Debug)]
pub enum Next<T, E> {
    /// Perform this, then tell the machine.
    Do(Step),
    /// It has ended.
    End(Result<T, Failure<E>>),
}

/// How an act fails. Whatever a person saved is still there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure<E> {
    /// The file system refused: its words.
    Refused(E),
    /// Something at this path is no regular file, and is neither followed nor replaced.
    InTheWay(String, FileKind),
    /// Other programs change it faster than it can be placed.
    Restless(String),
    /// A thousand names are taken.
    NoFreeName(String),
    /// The partial file is not what should be published.
    BadPartial(String),
    /// A journal of ours that cannot be read: its name, and why.
    BadJournal(String, String),
    /// No path can be made of this.
    NameImpossible(String),
    /// The executor gave an answer that the primitive does not have: an error in tcat.
    Confused(&'static str),
}

/// Why a run of an act came to no end.
#[derive(Debug)]
pub enum Halt {
    /// It wants this next.
    Ask(Step),
    /// It failed; a refusal by the number of its answer.
    Failed(Failure<usize>),
}

/// A run's result.
pub type Run<T> = Result<T, Halt>;

/// An act under way. `E` is what a file system says when it refuses; the plants are none in what ships.
#[derive(Clone, Debug)]
pub struct Machine<A, E, P = Sound> {
    act: A,
    plants: P,
    answers: Vec<Answer>,
    refusals: Vec<(usize, E)>,
}

impl<A: Act, E, P: Plants> Machine<A, E, P> {
    /// A machine at its beginning.
    pub fn new(act: A, plants: P) -> Self {
        Self { act, plants, answers: Vec::new(), refusals: Vec::new() }
    }

    /// What it does.
    pub fn act(&self) -> &A {
        &self.act
    }

    /// What it says now; the same until it is told something.
    pub fn poll(&mut self) -> Next<A::End, E> {
        let mut steps = Steps { plants: &self.plants, answers: &self.answers, taken: 0 };
        match self.act.run(&mut steps) {
            Ok(end) => Next::End(Ok(end)),
            Err(Halt::Ask(step)) => Next::Do(step),
            Err(Halt::Failed(failure)) => Next::End(Err(self.in_words(failure))),
        }
    }

    /// What became of the primitive that it asked for.
    pub fn tell(&mut self, answer: Result<Answer, E>) {
        let answer = answer.unwrap_or_else(|error| {
            self.refusals.push((self.answers.len(), error));
            Answer::Refused
        });
        self.answers.push(answer);
    }

    fn in_words(&mut self, failure: Failure<usize>) -> Failure<E> {
        match failure {
            Failure::Refused(number) => {
                let found = self.refusals.iter().position(|(refused, _)| *refused == number);
                found.map_or(Failure::Confused("a refusal without words"), |at| {
                    Failure::Refused(self.refusals.swap_remove(at).1)
                })
            }
            Failure::InTheWay(path, kind) => Failure::InTheWay(path, kind),
            Failure::Restless(path) => Failure::Restless(path),
            Failure::NoFreeName(path) => Failure::NoFreeName(path),
            Failure::BadPartial(why) => Failure::BadPartial(why),
            Failure::BadJournal(name, why) => Failure::BadJournal(name, why),
            Failure::NameImpossible(name) => Failure::NameImpossible(name),
            Failure::Confused(what) => Failure::Confused(what),
        }
    }

    /// Performs until it ends. `perform` gets each step; if it says `Err`, the machine is left where it is.
    pub fn drive<X>(
        mut self,
        mut perform: impl FnMut(&Step) -> Result<Result<Answer, E>, X>,
    ) -> Result<Result<A::End, Failure<E>>, X> {
        loop {
            match self.poll() {
                Next::Do(step) => {
                    let answer = perform(&step)?;
                    self.tell(answer);
                }
                Next::End(end) => return Ok(end),
            }
        }
    }
}

/// What an act asks its questions of.
#[derive(Debug)]
pub struct Steps<'a, P> {
    plants: &'a P,
    answers: &'a [Answer],
    taken: usize,
}

/// What became of a rename.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Renamed {
    Done,
    Missing,
    Occupied,
}

/// What a digest says.
pub(super) enum Digest {
    Of(Content, FileStat),
    Missing,
    Changing,
    /// It is no regular file, or cannot be read; a refusal by its number.
    Unreadable(Option<usize>),
}

impl<P: Plants> Steps<'_, P> {
    /// Whether this defect is there.
    pub(super) fn planted(&self, bug: Bug) -> bool {
        P::POSSIBLE && self.plants.has(bug)
    }

    fn ask(&mut self, then: &'static str, primitive: impl FnOnce() -> Primitive) -> Run<&Answer> {
        match self.answers.get(self.taken) {
            Some(answer) => {
                self.taken += 1;
                Ok(answer)
            }
            None => Err(Halt::Ask(Step { primitive: primitive(), then })),
        }
    }

    /// The failure for an answer that was none of those awaited.
    fn unawaited<T>(&self, what: &'static str) -> Run<T> {
        let number = self.taken.saturating_sub(1);
        Err(Halt::Failed(match self.answers.get(number) {
            Some(Answer::Refused) => Failure::Refused(number),
            _ => Failure::Confused(what),
        }))
    }

    /// Looks at a name, whatever it stands for.
    pub(super) fn look(&mut self, place: &Place, then: &'static str) -> Run<Option<Looked>> {
        match self.ask(then, || Primitive::Look(place.clone()))? {
            Answer::Looked(looked) => Ok(Some(*looked)),
            Answer::Missing => Ok(None),
            _ => self.unawaited("a look"),
        }
    }

    /// Looks at a name that must stand for a regular file, or for nothing.
    pub(super) fn look_at_file(&mut self, place: &Place, then: &'static str) -> Run<Option<Looked>> {
        match self.look(place, then)? {
            Some(looked) if looked.kind != FileKind::Regular => {
                Err(Halt::Failed(Failure::InTheWay(shown(place), looked.kind)))
            }
            looked => Ok(looked),
        }
    }

    pub(super) fn hash(&mut self, place: &Place, then: &'static str) -> Run<Digest> {
        Ok(match self.ask(then, || Primitive::Hash(place.clone()))? {
            Answer::Hashed(content, stat) => Digest::Of(*content, *stat),
            Answer::Missing => Digest::Missing,
            Answer::Changing => Digest::Changing,
            Answer::NoFile => Digest::Unreadable(None),
            Answer::Refused => Digest::Unreadable(Some(self.taken - 1)),
            _ => return self.unawaited("a digest"),
        })
    }

    /// The file's look once it was not written for the quiet time; `None` if it is gone, no file, or never quiet.
    pub(super) fn await_quiet(
        &mut self,
        place: &Place,
        quiet_ms: u64,
        then: &'static str,
    ) -> Run<Option<Looked>> {
        match self.ask(then, || Primitive::AwaitQuiet(place.clone(), quiet_ms))? {
            Answer::Looked(looked) => Ok(Some(*looked)),
            Answer::Missing | Answer::Changing | Answer::NoFile => Ok(None),
            _ => self.unawaited("waiting"),
        }
    }

    /// Makes the folders that lead to a place. One that is removed again at once is noticed by what comes after.
    pub(super) fn make_folders(&mut self, place: &Place) -> Run<()> {
        match self.ask("folders made", || Primitive::MakeFolders(place.clone()))? {
            Answer::Done | Answer::Missing => Ok(()),
            _ => self.unawaited("making folders"),
        }
    }

    /// The same in trash: the number of the part of the path whose name something else has, if so.
    pub(super) fn make_trash_folders(&mut self, place: &Place) -> Run<Option<usize>> {
        match self.ask("trash folders made", || Primitive::MakeFolders(place.clone()))? {
            Answer::Done | Answer::Missing => Ok(None),
            Answer::NoFolder(part) => Ok(Some(*part)),
            _ => self.unawaited("making folders"),
        }
    }

    pub(super) fn rename(&mut self, from: &Place, to: &Place, then: &'static str) -> Run<Renamed> {
        match self.ask(then, || Primitive::Rename(from.clone(), to.clone()))? {
            Answer::Done => Ok(Renamed::Done),
            Answer::Missing => Ok(Renamed::Missing),
            Answer::Occupied => Ok(Renamed::Occupied),
            _ => self.unawaited("a rename"),
        }
    }

    /// False if one of the names is gone.
    pub(super) fn exchange(&mut self, a: &Place, b: &Place, then: &'static str) -> Run<bool> {
        match self.ask(then, || Primitive::Exchange(a.clone(), b.clone()))? {
            Answer::Done => Ok(true),
            Answer::Missing => Ok(false),
            _ => self.unawaited("an exchange"),
        }
    }

    pub(super) fn sync_folder(&mut self, place: &Place, then: &'static str) -> Run<()> {
        match self.ask(then, || Primitive::SyncFolder(place.clone()))? {
            Answer::Done | Answer::Missing => Ok(()),
            _ => self.unawaited("syncing a folder"),
        }
    }

    pub(super) fn sync_file(&mut self, place: &Place, then: &'static str) -> Run<()> {
        match self.ask(then, || Primitive::SyncFile(place.clone()))? {
            Answer::Done => Ok(()),
            _ => self.unawaited("syncing a file"),
        }
    }

    /// False if the name is taken.
    pub(super) fn write(
        &mut self,
        name: &str,
        then: &'static str,
        bytes: impl FnOnce() -> Vec<u8>,
    ) -> Run<bool> {
        match self.ask(then, || Primitive::Write(name.to_owned(), bytes()))? {
            Answer::Done => Ok(true),
            Answer::Occupied => Ok(false),
            _ => self.unawaited("writing"),
        }
    }

    pub(super) fn read(&mut self, name: &str, then: &'static str) -> Run<Option<&[u8]>> {
        // Asked twice, because of what a borrow that ends in a return may not do.
        self.ask(then, || Primitive::Read(name.to_owned()))?;
        match self.answers.get(self.taken - 1) {
            Some(Answer::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Answer::Missing) => Ok(None),
            _ => self.unawaited("reading"),
        }
    }

    /// Removes a name in `.tcat/tmp`, if it is there.
    pub(super) fn remove(&mut self, name: &str, then: &'static str) -> Run<()> {
        match self.ask(then, || Primitive::Remove(name.to_owned()))? {
            Answer::Done | Answer::Missing => Ok(()),
            _ => self.unawaited("removing"),
        }
    }

    /// Whether both names stand for one file.
    pub(super) fn are_one_file(&mut self, a: &Place, b: &Place) -> Run<bool> {
        let (a, b) = (self.look(a, "looked at one name")?, self.look(b, "looked at the other name")?);
        Ok(matches!((a, b), (Some(a), Some(b)) if a.same_file(&b) == Some(true)))
    }
}

/// The failure of an act.
pub(super) fn fail<T>(failure: Failure<usize>) -> Run<T> {
    Err(Halt::Failed(failure))
}

/// A place as people write it.
pub(super) fn shown(place: &Place) -> String {
    match place {
        Place::Media(path) => path.to_string(),
        Place::Temp(name) => format!(".tcat/tmp/{name}"),
        Place::Trash(place) => format!(".tcat/trash/{}/{}", place.day, place.path),
    }
}
