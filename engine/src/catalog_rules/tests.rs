//! The rules' laws, beside what the conformance suite shows of whole catalogs.

use super::*;
use crate::catalog::{CatalogRow, ChainLink, FeedChange, Revision};
use crate::clock::{Dot, Incarnation, Stamp};
use crate::content::{Content, Md5};
use crate::ids::{ClientId, ItemId};
use crate::paths::MediaPath;
use crate::planted::Sound;
use quickcheck::QuickCheck;

fn link(counter: u64) -> ChainLink {
    let stamp = Stamp { incarnation: Incarnation(1), counter };
    let content = Content { md5: Md5([counter as u8; 16]), size: counter, blake3: None };
    ChainLink { revision: Revision(Dot { client: ClientId([1; 32]), stamp }), content }
}

/// A row whose chain is the steps 1 to `steps`.
fn row(steps: u64, generation: u32, state: RowState) -> CatalogRow {
    let chain: Vec<_> = (1..=steps).map(link).collect();
    let last = link(steps);
    CatalogRow {
        item: ItemId([1; 16]),
        state,
        revision: last.revision,
        content: last.content,
        object: None,
        generation,
        cache_path: MediaPath::parse("a.jpg").unwrap(),
        virtual_path: "a.jpg".into(),
        content_type: "image/jpeg".into(),
        claim_epoch: 0,
        upload: true,
        version_of: None,
        chain,
    }
}

/// What the catalog has of one item.
#[derive(Clone, PartialEq, Debug, Default)]
struct Item {
    row: Option<CatalogRow>,
    removal: Option<crate::catalog::RemovalRecord>,
}

fn take(item: &mut Item, fact: &FeedChange) {
    let (row, removal) = (item.row.clone(), item.removal.clone());
    let author = ClientId([2; 32]);
    let facts = OfferFacts { row: row.as_ref(), removal: removal.as_ref(), condemned: false, author };
    match offer(&Sound, fact, &facts) {
        OfferVerdict::Nothing => {}
        OfferVerdict::Remove(mut record) => {
            record.contents.sort();
            *item = Item { row: None, removal: Some(record) };
        }
        OfferVerdict::Enter(row) => item.row = Some(*row),
        OfferVerdict::Extend { steps, mut row } => {
            row.chain = item.row.take().map(|before| before.chain).unwrap_or_default();
            row.chain.extend(steps);
            item.row = Some(*row);
        }
    }
}

#[test]
fn what_mirrors_offer_ends_the_same_in_every_order_and_is_taken_once() {
    fn law(offers: Vec<(u8, u8, u8)>, turn: usize) -> bool {
        let fact = |(kind, steps, generation): &(u8, u8, u8)| {
            let state = [RowState::Active, RowState::KillRequest, RowState::KillWip][usize::from(kind % 3)];
            // A kill comes at the end of a chain.
            let steps = if state == RowState::Active { 1 + u64::from(steps % 4) } else { 5 };
            let generation = if steps == 5 { 0 } else { u32::from(generation % 3) };
            match kind % 16 {
                15 => FeedChange::Removed(removal_record(&row(5, 0, RowState::KillWip), &[])),
                _ => FeedChange::Row(Box::new(row(steps, generation, state))),
            }
        };
        let facts: Vec<_> = offers.iter().map(fact).collect();
        let (mut one, mut other) = (Item::default(), Item::default());
        facts.iter().for_each(|fact| take(&mut one, fact));
        let turn = turn.checked_rem(facts.len()).unwrap_or(0);
        let turned = facts[turn..].iter().chain(&facts[..turn]).rev();
        turned.clone().for_each(|fact| take(&mut other, fact));
        turned.for_each(|fact| take(&mut other, fact));
        one == other
    }
    QuickCheck::new().tests(2000).quickcheck(law as fn(_, _) -> bool);
}

#[test]
fn an_offer_never_takes_a_row_back_and_never_joins_what_went_another_way() {
    let mut item = Item { row: Some(row(3, 1, RowState::Active)), removal: None };
    let before = item.clone();
    take(&mut item, &FeedChange::Row(Box::new(row(2, 7, RowState::Active))));
    assert_eq!(item, before, "an earlier state");
    let mut forked = row(1, 0, RowState::Active);
    forked.chain.push(link(77));
    (forked.revision, forked.content) = (link(77).revision, link(77).content);
    take(&mut item, &FeedChange::Row(Box::new(forked)));
    assert_eq!(item, before, "another way");
}

#[test]
fn a_position_is_given_by_its_epoch_its_number_and_the_id_of_its_row() {
    let epoch = CatalogEpoch { number: 2, id: [2; 16] };
    let at = FeedPosition { epoch, number: 7, id: [7; 16] };
    let gave = |after: &FeedPosition, found| gave_position(&Sound, after, epoch, found);
    assert!(gave(&at, Some([7; 16])));
    assert!(!gave(&at, Some([8; 16])), "the number was used again");
    assert!(!gave(&at, None), "the catalog does not go so far");
    assert!(!gave(&FeedPosition { epoch: CatalogEpoch { number: 1, ..epoch }, ..at }, Some([7; 16])));
    assert!(
        gave(&FeedPosition::default(), None) && gave(&FeedPosition { number: 0, id: [0; 16], ..at }, None)
    );
}

#[test]
fn an_epoch_begins_once_for_what_was_seen_and_above_what_its_finder_knows() {
    let seen = CatalogEpoch { number: 3, id: [3; 16] };
    let order = crate::catalog_orders::NewEpoch { seen, above: 5, id: [9; 16], author: ClientId([1; 32]) };
    let begun = new_epoch(&order, &Standing { epoch: seen, member: true });
    assert_eq!(begun, Some(CatalogEpoch { number: 6, id: [9; 16] }));
    assert_eq!(new_epoch(&order, &Standing { epoch: begun.unwrap(), member: true }), None, "again");
    assert_eq!(new_epoch(&order, &Standing { epoch: seen, member: false }), None, "a stranger");
}
