//! Creating a row, announcing and committing a content, and marking an object that is missing or wrong.

use super::{Standing, being_killed, planted};
use crate::catalog::{CatalogRow, ChainLink, Commit, NewItem, Refusal, Revision, RowState};
use crate::catalog_orders::Unsound;
use crate::ids::ItemId;
use crate::planted::{Bug, Plants};

/// What the catalog found for a [`NewItem`].
#[derive(Clone, Copy, Debug)]
pub struct CreateFacts<'a> {
    /// The row under that id.
    pub row: Option<&'a CatalogRow>,
    /// Whether that id was removed for good.
    pub removed: bool,
    /// Whether the author is in the roster.
    pub member: bool,
    /// The row that has the asked path, if any.
    pub at_path: Option<&'a CatalogRow>,
}

/// What becomes of a [`NewItem`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateVerdict<'a> {
    /// The row is there.
    There(&'a CatalogRow),
    /// The id was removed for good.
    Removed,
    /// The author is no member.
    NotMember,
    /// It is this item already: same content, same path.
    Adopt(&'a CatalogRow),
    /// Enter it, pending, at the asked path or the next free one.
    Enter,
}

/// An id enters once; a removed one never comes back; the same content at the same path is one item, unless that is
/// being killed: what a person puts there afterwards is new.
pub fn create<'a, P: Plants>(plants: &P, new: &NewItem, facts: &CreateFacts<'a>) -> CreateVerdict<'a> {
    let same_file = |row: &&CatalogRow| row.content.same_as(&new.content) && !being_killed(row);
    match facts.row {
        Some(row) => CreateVerdict::There(row),
        None if facts.removed && !planted(plants, Bug::DeletedComesBack) => CreateVerdict::Removed,
        None if !facts.member => CreateVerdict::NotMember,
        None => facts.at_path.filter(same_file).map_or(CreateVerdict::Enter, CreateVerdict::Adopt),
    }
}

/// What the catalog knows of an object's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name {
    /// Nothing.
    Free,
    /// Announced for this content of this item in this generation.
    Intent,
    /// Committed for it.
    Live,
    /// Never to be used again, whatever it stood for.
    Condemned,
    /// It stands for something else.
    Taken,
}

/// What becomes of an announcement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntendVerdict {
    /// Register it.
    Register,
    /// The object is in the store and committed already.
    Live,
    /// Not under this name.
    Refused(Refusal),
    /// The name stands for something else.
    Taken,
}

/// Nothing is sent under a name that is not announced, and nothing is announced under a condemned one.
pub fn intend(name: Name, member: bool) -> IntendVerdict {
    match name {
        _ if !member => IntendVerdict::Refused(Refusal::Roster),
        Name::Free | Name::Intent => IntendVerdict::Register,
        Name::Live => IntendVerdict::Live,
        Name::Condemned => IntendVerdict::Refused(Refusal::Condemned),
        Name::Taken => IntendVerdict::Taken,
    }
}

/// What the catalog found for a [`Commit`].
#[derive(Clone, Copy, Debug)]
pub struct CommitFacts<'a> {
    /// The item's row.
    pub row: Option<&'a CatalogRow>,
    /// The item and step that the whole catalog has under the revision of the commit's last step.
    pub last_step: Option<(ItemId, ChainLink)>,
    /// The epoch, and whether the author is a member.
    pub standing: Standing,
    /// What is known of the object's name, for the content that [`commit_content`] says.
    pub name: Name,
}

/// What becomes of a [`Commit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitVerdict<'a> {
    /// An earlier attempt succeeded, or another's upload of the same content did: the row is the answer.
    Made,
    /// Refused.
    Refused(Refusal),
    /// The revision names another change already.
    RevisionReused(Revision),
    /// The object's name stands for something else.
    NameTaken,
    /// Enter these steps, and make the row active with the last content.
    Enter {
        /// The steps that are new, oldest first.
        steps: &'a [ChainLink],
        /// The row's revision and content from now on.
        last: ChainLink,
    },
}

/// The steps of a commit that are new to a row, and the last one: a line may begin before its base where the base was
/// one of its own steps; what is committed stays as it is.
pub fn commit_content<'a>(
    commit: &'a Commit,
    row: Option<&CatalogRow>,
) -> Option<(&'a [ChainLink], ChainLink)> {
    let known = commit.line.iter().position(|link| link.revision == commit.base);
    let steps = commit.line.get(known.map_or(0, |index| index + 1)..).unwrap_or_default();
    let last = steps.last().copied().or(row.map(current))?;
    Some((steps, last))
}

/// The one place where order is decided. The row stands at the base and is not being killed; no claim of a later epoch
/// has committed; the catalog is the one that the committer read; the committer is a member; the name is not condemned.
pub fn commit<'a, P: Plants>(plants: &P, commit: &'a Commit, facts: &CommitFacts<'_>) -> CommitVerdict<'a> {
    let row = match facts.row {
        Some(row) if !being_killed(row) => match was_made(commit, row, facts.last_step) {
            Made::Yes => return CommitVerdict::Made,
            Made::Another(revision) => return CommitVerdict::RevisionReused(revision),
            Made::No => row,
        },
        _ => {
            let why = facts.standing.refuses(commit.catalog_epoch).unwrap_or(Refusal::Killed);
            return CommitVerdict::Refused(why);
        }
    };
    let behind = row.claim_epoch > commit.claim_epoch && !planted(plants, Bug::NoFence);
    let refusal = match facts.standing.refuses(commit.catalog_epoch) {
        Some(why) => Some(why),
        None if row.revision != commit.base => Some(Refusal::Revision),
        None if behind => Some(Refusal::ClaimEpoch),
        None if facts.name == Name::Condemned => Some(Refusal::Condemned),
        None => None,
    };
    if let Some(why) = refusal {
        return CommitVerdict::Refused(why);
    }
    if facts.name == Name::Taken {
        return CommitVerdict::NameTaken;
    }
    let Some((steps, last)) = commit_content(commit, Some(row)) else {
        return CommitVerdict::Refused(Refusal::Killed);
    };
    if steps.is_empty() && row.state == RowState::Active && commit.generation <= row.generation {
        // Another upload of the same content was completed before: the row is as wanted, ours is not needed.
        return CommitVerdict::Made;
    }
    CommitVerdict::Enter { steps, last }
}

enum Made {
    Yes,
    No,
    /// The revision stands for something else.
    Another(Revision),
}

/// Whether an earlier attempt of this very commit succeeded and only its answer was lost.
fn was_made(commit: &Commit, row: &CatalogRow, last_step: Option<(ItemId, ChainLink)>) -> Made {
    let yes = |made: bool| if made { Made::Yes } else { Made::No };
    let Some(last) = commit.line.last() else {
        let same_object = row.object_name() == commit.object && row.generation == commit.generation;
        return yes(row.revision == commit.base && row.state == RowState::Active && same_object);
    };
    match last_step {
        None => Made::No,
        Some((item, link)) if item != commit.item || !link.content.same_as(&last.content) => {
            Made::Another(last.revision)
        }
        // The last step is the base itself: nothing new is offered, so this is the completion of an upload.
        Some(_) => yes(last.revision != commit.base || row.state == RowState::Active),
    }
}

/// Whether a row whose object was found missing or wrong goes back to pending, in the next generation: its name is
/// condemned then, and whoever holds the content brings it again. An error is the refusal.
pub fn unsound(order: &Unsound, row: Option<&CatalogRow>, standing: &Standing) -> Result<(), Refusal> {
    let Some(row) = row else { return Err(Refusal::Killed) };
    match standing.refuses(order.catalog_epoch) {
        Some(why) => Err(why),
        None if being_killed(row) => Err(Refusal::Killed),
        None if row.revision != order.revision => Err(Refusal::Revision),
        // It was marked before, or brought again since.
        None if row.state != RowState::Active || row.object_name() != order.object => Err(Refusal::Condemned),
        None => Ok(()),
    }
}

fn current(row: &CatalogRow) -> ChainLink {
    ChainLink { revision: row.revision, content: row.content }
}
