//! Lines: the contents that were saved since the catalog agreed, and what may be said of two copies by them.
//!
//! A step's revision is minted once, by who saved it, at the end of one line. So a step names all that came before it,
//! and "goes on from" is a partial order of copies: two copies never each go on from the other, whatever they say.
//! Everything here is pure, and the same at every member. Left out: who is live, and what the catalog says
//! (`settle`, `engine/travelling`).

use crate::catalog::ChainLink;
use crate::catalog::Revision;
use crate::content::Content;
use crate::entry::{Copy, LINE_LINKS_MAX};

impl Copy {
    /// What the copy ends in: the last step of its line, else its base.
    pub fn tip(&self) -> Option<&ChainLink> {
        self.line.last().or(self.base.as_ref())
    }

    /// Base and line, in their order.
    pub fn steps(&self) -> impl Iterator<Item = &ChainLink> {
        self.base.iter().chain(&self.line)
    }

    /// Whether `revision` is the base or a step of the line.
    pub fn has_step(&self, revision: &Revision) -> bool {
        self.steps().any(|step| step.revision == *revision)
    }

    /// Whether others may take it: it holds an uncommitted edit, whole, which can be proved while it is fetched.
    pub fn travels(&self) -> bool {
        let Some(held) = &self.held else { return false };
        let last = self.line.last();
        held.content.blake3.is_some() && last.is_some_and(|last| last.content.same_as(&held.content))
    }

    /// Adds a step. A step of the same write takes the place of the one before it, which nobody has seen. At the
    /// bound the second oldest step goes: the first may be committed already, the newest are in others' hands.
    pub fn extend(&mut self, step: ChainLink) {
        if self.line.last().is_some_and(|last| last.revision == step.revision) {
            self.line.pop();
        }
        while self.line.len() >= LINE_LINKS_MAX {
            self.line.remove(1);
        }
        self.line.push(step);
    }

    /// The steps of a line that no catalog has, before its last: a catalog that enters the item enters them too. With a
    /// base it had the item once, and has them in its chain, or in another's line.
    pub fn earlier_of_new(&self) -> Vec<ChainLink> {
        match (&self.base, self.line.split_last()) {
            (None, Some((_, earlier))) => earlier.to_vec(),
            _ => Vec::new(),
        }
    }

    /// Agrees with the catalog: `committed` is the base. What stands after it in the line stays, as an edit of it; a
    /// line that it is not in is over.
    pub fn agree(&mut self, committed: ChainLink) {
        let at = self.line.iter().position(|step| step.revision == committed.revision);
        self.line.drain(..at.map_or(self.line.len(), |at| at + 1));
        self.base = Some(committed);
    }
}

/// Whether `longer` goes on from where `shorter` ends: that is one of its steps, but not its last. Two lines from one
/// base with the same contents are the same saves, whoever wrote them down.
pub fn goes_on_from(longer: &Copy, shorter: &Copy) -> bool {
    let (Some(end), Some(tip)) = (shorter.tip(), longer.tip()) else { return false };
    if shorter.has_step(&tip.revision) {
        return false;
    }
    longer.has_step(&end.revision) || has_prefix(longer, shorter)
}

/// Whether the line of `shorter` is the beginning of the longer one's, content by content.
fn has_prefix(longer: &Copy, shorter: &Copy) -> bool {
    let base = |copy: &Copy| copy.base.map(|base| base.revision);
    let same = |(a, b): (&ChainLink, &ChainLink)| a.content.same_as(&b.content);
    base(longer) == base(shorter)
        && longer.line.len() > shorter.line.len()
        && longer.line.iter().zip(&shorter.line).all(same)
}

/// Whether both end in the same step.
pub fn ends_alike(one: &Copy, other: &Copy) -> bool {
    matches!((one.tip(), other.tip()), (Some(a), Some(b)) if a.revision == b.revision)
}

/// Whether each has an edit that the other lacks: a conflict, which the catalog decides.
pub fn diverge(one: &Copy, other: &Copy) -> bool {
    !ends_alike(one, other) && !goes_on_from(one, other) && !goes_on_from(other, one)
}

/// Whether `theirs`, an uncommitted edit, may take the place of what is here: only of nothing, or of a file that is
/// its base or one of its steps, as our own copy says too. So no other edit is ever replaced.
pub fn may_take(ours: Option<&Copy>, file: Option<&Content>, theirs: &Copy) -> bool {
    let Some(ours) = ours.filter(|ours| ours.tip().is_some()) else {
        return theirs.travels() && file.is_none();
    };
    let lost = file.is_none() && ends_alike(ours, theirs);
    let in_theirs = |file: &Content| {
        theirs.steps().any(|step| step.content.same_as(file))
            && ours.tip().is_some_and(|tip| tip.content.same_as(file))
    };
    theirs.travels() && (lost || goes_on_from(theirs, ours) && file.is_none_or(in_theirs))
}

/// Base and line of a copy that has taken `theirs`: those of `theirs`, but no further back than what the catalog
/// agreed on with us.
pub fn taken(ours: Option<&Copy>, theirs: &Copy) -> (Option<ChainLink>, Vec<ChainLink>) {
    let agreed = ours.and_then(|ours| ours.base);
    let at = agreed.and_then(|base| theirs.line.iter().position(|step| step.revision == base.revision));
    match at {
        Some(at) => (agreed, theirs.line.iter().skip(at + 1).copied().collect()),
        None => (theirs.base, theirs.line.clone()),
    }
}

/// Base and line of a copy whose file has become a step of `theirs`, which goes on from it: up to that step.
pub fn taken_up_to(
    ours: &Copy,
    theirs: &Copy,
    content: &Content,
) -> Option<(Option<ChainLink>, Vec<ChainLink>)> {
    if ours.tip().is_some() && !goes_on_from(theirs, ours) {
        return None;
    }
    let (base, mut line) = taken(Some(ours), theirs);
    let ours_ends = |step: &ChainLink| ours.tip().is_some_and(|tip| tip.revision == step.revision);
    let after = line.iter().position(ours_ends).map_or(0, |at| at + 1);
    let at = line.iter().skip(after).position(|step| step.content.same_as(content))?;
    line.truncate(after + at + 1);
    Some((base, line))
}

/// The copy to take among those that may be taken: one that no other goes on from; where several diverge, the one
/// whose last step has the smallest revision, at every member.
pub fn best<'a>(copies: &[&'a Copy]) -> Option<&'a Copy> {
    let overtaken = |one: &Copy| copies.iter().any(|other| goes_on_from(other, one));
    let last = |copy: &&Copy| copy.tip().map(|tip| tip.revision);
    copies.iter().copied().filter(|copy| !overtaken(copy)).min_by_key(last)
}

/// Base and line of one cache that several nodes share: the base that stands last in the chain (one that the mirror
/// has not heard of stands after all others), and of the lines since then that end as ours does, the longest.
pub fn united(ours: &Copy, mates: &[&Copy], chain: &[ChainLink]) -> (Option<ChainLink>, Vec<ChainLink>) {
    let place = |base: &ChainLink| chain.iter().position(|link| link.revision == base.revision);
    let rank = |base: &ChainLink| (place(base).unwrap_or(usize::MAX), base.revision);
    let bases = mates.iter().copied().chain([ours]).filter_map(|copy| copy.base);
    let base = bases.max_by_key(|base| rank(base));
    let mine = since(ours, base.as_ref());
    let end = |line: &[ChainLink]| line.last().or(base.as_ref()).map(|step| step.content);
    let alike = |line: &&[ChainLink]| match (end(line), end(mine)) {
        (Some(a), Some(b)) => a.same_as(&b),
        _ => false,
    };
    let lines = mates.iter().map(|mate| since(mate, base.as_ref())).filter(alike).chain([mine]);
    let last = |line: &[ChainLink]| line.last().map(|step| std::cmp::Reverse(step.revision));
    let line = lines.max_by_key(|line| (line.len(), last(line))).unwrap_or(mine);
    (base, line.to_vec())
}

/// What of a copy's line comes after a base of its cache. In one folder what was saved over a content comes after it,
/// also where the one who saw it did not know yet that it was committed.
fn since<'a>(copy: &'a Copy, base: Option<&ChainLink>) -> &'a [ChainLink] {
    let Some(base) = base else { return &copy.line };
    let by_revision = copy.line.iter().position(|step| step.revision == base.revision);
    let by_content = || match copy.base {
        Some(own) if own.revision == base.revision => None,
        _ => copy.line.iter().rposition(|step| step.content.same_as(&base.content)),
    };
    let after = by_revision.or_else(by_content).map_or(0, |at| at + 1);
    copy.line.get(after..).unwrap_or_default()
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
