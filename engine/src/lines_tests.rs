//! Laws of lines, over histories in which people save, take each other's edits and commit.

use super::*;
use crate::clock::{Dot, Incarnation, Stamp};
use crate::content::{Blake3, Md5};
use crate::entry::Held;
use crate::ids::ClientId;
use crate::paths::MediaPath;
use quickcheck::QuickCheck;
use std::collections::BTreeMap;

fn content(n: u8) -> Content {
    Content { md5: Md5([n; 16]), size: u64::from(n), blake3: Some(Blake3([n; 32])) }
}

fn step(client: u8, counter: u64, n: u8) -> ChainLink {
    let stamp = Stamp { incarnation: Incarnation(1), counter };
    ChainLink { revision: Revision(Dot { client: ClientId([client; 32]), stamp }), content: content(n) }
}

fn copy(base: Option<ChainLink>, line: Vec<ChainLink>) -> Copy {
    let last = line.last().or(base.as_ref()).map(|step| step.content);
    let path = MediaPath::parse("a.jpg").unwrap();
    let held = last.map(|content| Held { content, path, cached_date_ms: 0 });
    Copy { held, base, line }
}

fn file(copy: &Copy) -> Option<Content> {
    copy.held.as_ref().map(|held| held.content)
}

/// What four members did to one item, and the whole history that each ends in.
struct Story {
    copies: Vec<Copy>,
    histories: Vec<Vec<Revision>>,
}

/// Each deed: who, what, with whom.
fn story(deeds: &[(u8, u8, u8)]) -> Story {
    let first = step(9, 1, 0);
    let mut story =
        Story { copies: vec![copy(Some(first), vec![]); 4], histories: vec![vec![first.revision]; 4] };
    for (n, (who, what, whom)) in deeds.iter().enumerate() {
        let (who, whom) = (usize::from(who % 4), usize::from(whom % 4));
        let mine = story.copies[who].clone();
        let (base, line) = match what % 4 {
            0 | 1 => {
                let mut mine = mine;
                let new = step(who as u8, n as u64 + 2, n as u8 % 250 + 1);
                mine.extend(new);
                story.histories[who].push(new.revision);
                (mine.base, mine.line)
            }
            2 => {
                let theirs = story.copies[whom].clone();
                if !may_take(Some(&mine), file(&mine).as_ref(), &theirs) {
                    continue;
                }
                story.histories[who] = story.histories[whom].clone();
                taken(Some(&mine), &theirs)
            }
            _ => {
                // The catalog has committed some of it, and this member has heard.
                let mut mine = mine;
                let Some(done) = mine.line.get(usize::from(*whom_at(&mine, whom))).copied() else { continue };
                mine.agree(done);
                (mine.base, mine.line)
            }
        };
        story.copies[who] = copy(base, line);
    }
    story
}

fn whom_at(copy: &Copy, whom: usize) -> &'static u8 {
    const AT: [u8; 4] = [0, 1, 2, 3];
    &AT[whom % copy.line.len().clamp(1, 4)]
}

#[test]
fn a_copy_goes_on_from_another_only_if_it_descends_from_it() {
    fn law(deeds: Vec<(u8, u8, u8)>) -> bool {
        let story = story(&deeds);
        let mut all = story.copies.iter().zip(&story.histories);
        all.clone().all(|(a, a_history)| {
            all.clone().all(|(b, b_history)| {
                let descends = a_history.len() > b_history.len() && a_history.starts_with(b_history);
                (!goes_on_from(a, b) || descends) && !(goes_on_from(a, b) && goes_on_from(b, a))
            })
        }) && all.all(|(copy, history)| copy.tip().map(|tip| tip.revision) == history.last().copied())
    }
    QuickCheck::new().tests(3000).quickcheck(law as fn(_) -> bool);
}

#[test]
fn no_two_copies_go_on_from_each_other_whatever_they_say() {
    fn law(a: Vec<(u8, u8)>, b: Vec<(u8, u8)>, bases: (u8, u8)) -> bool {
        let made = |steps: Vec<(u8, u8)>, base: u8| {
            let line = steps.into_iter().map(|(r, n)| step(1, u64::from(r % 5), n % 4)).collect();
            copy((!base.is_multiple_of(3)).then(|| step(1, u64::from(base % 5), base % 4)), line)
        };
        let (a, b) = (made(a, bases.0), made(b, bases.1));
        let takes = |a: &Copy, b: &Copy| may_take(Some(a), file(a).as_ref(), b);
        let both = goes_on_from(&a, &b) && goes_on_from(&b, &a);
        !(both || takes(&a, &b) && takes(&b, &a))
    }
    QuickCheck::new().tests(20_000).quickcheck(law as fn(_, _, _) -> bool);
}

#[test]
fn what_is_taken_over_is_a_step_of_what_takes_its_place() {
    fn law(deeds: Vec<(u8, u8, u8)>) -> bool {
        let story = story(&deeds);
        story.copies.iter().all(|ours| {
            story.copies.iter().all(|theirs| {
                let file = file(ours);
                let takes = may_take(Some(ours), file.as_ref(), theirs);
                let (base, line) = taken(Some(ours), theirs);
                let after = copy(base, line);
                let kept = file.is_none_or(|file| theirs.steps().any(|step| step.content.same_as(&file)));
                !takes || kept && ends_alike(&after, theirs) && !may_take(Some(&after), None, ours)
            })
        })
    }
    QuickCheck::new().tests(3000).quickcheck(law as fn(_) -> bool);
}

#[test]
fn members_that_take_what_they_may_come_to_hold_the_ends_that_nobody_goes_on_from() {
    fn law(deeds: Vec<(u8, u8, u8)>, order: Vec<(u8, u8)>) -> bool {
        let mut copies = story(&deeds).copies;
        let ends = |copies: &[Copy]| -> BTreeMap<Option<Revision>, bool> {
            let overtaken = |one: &Copy| copies.iter().any(|other| goes_on_from(other, one));
            copies.iter().map(|copy| (copy.tip().map(|tip| tip.revision), overtaken(copy))).collect()
        };
        let before: Vec<_> = ends(&copies).into_iter().filter(|(_, over)| !over).collect();
        let all = (0..4u8).flat_map(|a| (0..4u8).map(move |b| (a, b)));
        for (who, whom) in order.into_iter().chain(all.clone()).chain(all) {
            let (ours, theirs) = (copies[usize::from(who % 4)].clone(), &copies[usize::from(whom % 4)]);
            if may_take(Some(&ours), file(&ours).as_ref(), theirs) {
                let (base, line) = taken(Some(&ours), theirs);
                copies[usize::from(who % 4)] = copy(base, line);
            }
        }
        // No edit that nobody went on from is gone, and nothing is left to take.
        let after = ends(&copies);
        let rest = |a: &Copy| copies.iter().all(|b| !may_take(Some(a), file(a).as_ref(), b));
        before.iter().all(|(tip, _)| after.contains_key(tip)) && copies.iter().all(rest)
    }
    QuickCheck::new().tests(3000).quickcheck(law as fn(_, _) -> bool);
}

#[test]
fn the_best_is_the_same_in_every_order() {
    fn law(deeds: Vec<(u8, u8, u8)>, turn: usize) -> bool {
        let story = story(&deeds);
        let mut copies: Vec<&Copy> = story.copies.iter().collect();
        let tip = |copies: &[&Copy]| best(copies).and_then(|copy| copy.tip().map(|tip| tip.revision));
        let first = tip(&copies);
        copies.rotate_left(turn % 4);
        let second = tip(&copies);
        copies.reverse();
        first.is_some() && first == second && first == tip(&copies)
    }
    QuickCheck::new().tests(2000).quickcheck(law as fn(_, _) -> bool);
}

#[test]
fn a_line_has_a_bound_and_keeps_its_first_and_its_newest_steps() {
    let mut long = copy(Some(step(1, 1, 1)), vec![]);
    for n in 0..1000u64 {
        long.extend(step(1, n + 2, n as u8));
    }
    assert_eq!(long.line.len(), LINE_LINKS_MAX);
    assert_eq!((long.line[0], long.line[1]), (step(1, 2, 0), step(1, 747, 233)));
    // Who holds a step that was dropped diverges, which keeps both.
    let dropped = copy(Some(step(1, 1, 1)), vec![step(1, 2, 0), step(1, 3, 1)]);
    assert!(diverge(&long, &dropped));
    let kept = copy(Some(step(1, 1, 1)), long.line[..200].to_vec());
    assert!(goes_on_from(&long, &kept) && !diverge(&long, &kept));
}

#[test]
fn two_saves_in_one_write_are_one_step() {
    let mut line = copy(Some(step(1, 1, 1)), vec![]);
    line.extend(step(1, 2, 5));
    line.extend(step(1, 2, 6));
    assert_eq!(line.line, [step(1, 2, 6)]);
}

#[test]
fn agreement_cuts_the_line_at_the_committed_step() {
    let whole = copy(Some(step(1, 1, 1)), vec![step(1, 2, 2), step(2, 3, 3), step(1, 4, 4)]);
    let mut cut = whole.clone();
    cut.agree(step(2, 3, 3));
    assert_eq!((cut.base, cut.line.as_slice()), (Some(step(2, 3, 3)), &[step(1, 4, 4)][..]));
    let mut over = whole.clone();
    over.agree(step(7, 7, 7));
    assert_eq!((over.base, over.line.len()), (Some(step(7, 7, 7)), 0));
    // A base that has moved on is not moved back by taking a line from before.
    let mut behind = whole.clone();
    behind.line.push(step(3, 5, 5));
    assert_eq!(taken(Some(&cut), &behind), (Some(step(2, 3, 3)), vec![step(1, 4, 4), step(3, 5, 5)]));
}

#[test]
fn the_same_saves_written_down_by_two_are_no_conflict() {
    let base = Some(step(1, 1, 1));
    let one = copy(base, vec![step(2, 2, 5)]);
    let more = copy(base, vec![step(3, 2, 5), step(3, 3, 6)]);
    assert!(may_take(Some(&one), file(&one).as_ref(), &more));
    assert!(!may_take(Some(&more), file(&more).as_ref(), &one));
    // The same contents in another order are.
    let turned = copy(base, vec![step(2, 2, 6), step(2, 3, 5)]);
    assert!(diverge(&turned, &more));
}

#[test]
fn the_base_of_a_shared_cache_is_that_of_the_entry_that_stands_last_in_the_chain() {
    let (one, two) = (step(9, 1, 1), step(9, 2, 2));
    let chain = [one, two];
    let lagging = copy(Some(one), vec![step(1, 5, 2), step(1, 6, 7)]);
    let leading = copy(Some(two), vec![step(2, 5, 7)]);
    // Both saw content 7 saved over content 2; only one knew that 2 was committed.
    let line = vec![step(1, 6, 7)];
    assert_eq!(united(&lagging, &[&leading], &chain), (Some(two), line.clone()));
    assert_eq!(united(&leading, &[&lagging], &chain), (Some(two), line));
    let missed = copy(Some(one), vec![step(1, 6, 7)]);
    assert_eq!(united(&missed, &[&leading], &chain).0, Some(two));
    // A base that the mirror has not heard of is newer than all that it has.
    assert_eq!(united(&lagging, &[&leading], &chain[..1]).0, Some(two));
    // A line that ends elsewhere is of a file that was not looked at since.
    let elsewhere = copy(Some(two), vec![step(2, 5, 8)]);
    assert_eq!(united(&missed, &[&elsewhere], &chain), (Some(two), missed.line.clone()));
}

#[test]
fn uniting_twice_changes_nothing_more_and_mates_agree() {
    fn law(deeds: Vec<(u8, u8, u8)>) -> bool {
        let copies = story(&deeds).copies;
        let (a, b) = (&copies[0], &copies[1]);
        let chain = [step(9, 1, 0)];
        let made = |(base, line)| copy(base, line);
        let (x, y) = (made(united(a, &[b], &chain)), made(united(b, &[a], &chain)));
        let again = united(&x, &[&y], &chain);
        let same = x.base == y.base && (x.line == y.line || file(&x) != file(&y));
        same && again == (x.base, x.line.clone())
    }
    QuickCheck::new().tests(3000).quickcheck(law as fn(_) -> bool);
}

#[test]
fn a_file_that_became_a_step_of_a_line_is_that_step() {
    let base = Some(step(1, 1, 1));
    let theirs = copy(base, vec![step(2, 2, 5), step(2, 3, 6), step(2, 4, 5)]);
    let ours = copy(base, vec![]);
    assert_eq!(taken_up_to(&ours, &theirs, &content(6)), Some((base, theirs.line[..2].to_vec())));
    let on_first = copy(base, theirs.line[..1].to_vec());
    assert_eq!(taken_up_to(&on_first, &theirs, &content(5)), Some((base, theirs.line.clone())));
    assert_eq!(taken_up_to(&on_first, &theirs, &content(9)), None);
    let other = copy(base, vec![step(3, 2, 7)]);
    assert_eq!(taken_up_to(&other, &theirs, &content(6)), None, "an edit of its own is no step of theirs");
}
