//! The table of `docs/protocol.md` (section 13) written down a second time, from its text, and `settle` against it in
//! every combination: the first row that matches decides.

use super::*;
use std::collections::BTreeMap;

/// A row of the table: its name, whether it matches, and its verdict.
type Row = (&'static str, bool, Verdict);

/// What is said of the file, whatever the catalog says.
struct Facts {
    file: Option<Content>,
    absent: bool,
    base: Option<ChainLink>,
    /// L = B.
    is_b: bool,
    /// L is no step of ours, and nobody wrote it.
    rotted: bool,
}

impl Facts {
    fn of(s: &Situation<'_>) -> Self {
        let file = match s.local {
            Local::File(content) => Some(content),
            _ => None,
        };
        let base = s.copy.and_then(|copy| copy.base);
        let is_b = file.zip(base).is_some_and(|(l, base)| l.same_as(&base.content));
        let steps: Vec<_> = s.copy.iter().flat_map(|copy| copy.steps()).collect();
        let rotted = file.is_some_and(|l| steps.iter().all(|step| !step.content.same_as(&l)));
        let rotted = rotted && s.stat_unchanged;
        Self { file, absent: s.local == Local::Absent, base, is_b, rotted }
    }
}

fn table(s: &Situation<'_>) -> Vec<Row> {
    let facts = Facts::of(s);
    let unknown = s.local == Local::Unknown;
    let mut rows = vec![
        ("1: L unknown", unknown, Verdict::Wait(Reason::FileUnknown)),
        ("a member's edit", is_taken(s, &facts), Verdict::Take),
    ];
    match s.catalog {
        View::Unknown => rows.push(("1: C unknown", true, Verdict::Wait(Reason::CatalogUnknown))),
        View::Gone(Some(record)) => rows.extend(removed_rows(&facts, record)),
        View::Gone(None) => rows.extend(gone_rows(s, &facts)),
        View::Row(row) => {
            rows.push(("12", s.behind, Verdict::OfferLost));
            match row.state {
                RowState::KillRequest | RowState::KillWip | RowState::KillComplete => {
                    rows.extend(killed_rows(&facts, row));
                }
                RowState::Pending { owner } => rows.extend(pending_rows(s, &facts, row, owner)),
                RowState::Active => {
                    rows.extend(agreeing_rows(s, &facts, row));
                    rows.extend(differing_rows(s, &facts, row));
                }
            }
        }
    }
    rows
}

/// "Lines: edits that travel while the catalog is away".
fn is_taken(s: &Situation<'_>, facts: &Facts) -> bool {
    let Some(theirs) = s.travelling else { return false };
    let stands_on_what_we_know = match s.catalog {
        View::Unknown => facts.base.is_some() || theirs.base.is_none(),
        View::Gone(record) => record.is_none() && facts.base.is_none() && theirs.base.is_none(),
        View::Row(row) => {
            let has_c = theirs.steps().any(|step| step.revision == row.revision);
            let heard = |base: &ChainLink| row.chain.iter().any(|link| link.revision == base.revision);
            let unheard = theirs.base.is_some_and(|base| !heard(&base));
            let from_ours = s.copy.is_some_and(|ours| ours.tip().is_some());
            let one_step_back = matches!(&theirs.line[..], [step] if row.chain_holds(&step.content));
            let kept = matches!(row.state, RowState::Pending { .. } | RowState::Active);
            kept && row.upload && !s.behind && (has_c || unheard && from_ours) && !one_step_back
        }
    };
    let has_place = facts.file.is_some() || s.wanted;
    stands_on_what_we_know && has_place && lines::may_take(s.copy, facts.file.as_ref(), theirs)
}

fn removed_rows(facts: &Facts, record: &RemovalRecord) -> Vec<Row> {
    let was_removed = facts.file.is_some_and(|l| record.contents.iter().any(|content| content.same_as(&l)));
    vec![
        ("2: absent", facts.absent, Verdict::Drop),
        ("2: L = B", facts.is_b, Verdict::Trash),
        ("2: L one of the removed", was_removed, Verdict::Trash),
        ("2: other L", true, Verdict::NewItem),
    ]
}

fn gone_rows(s: &Situation<'_>, facts: &Facts) -> Vec<Row> {
    let (file, base) = (!facts.absent, facts.base.is_some());
    vec![
        ("3: L, a base", file && base, Verdict::OfferAgain),
        ("3: nobody wrote L", file && facts.rotted && s.line_counts, Verdict::Heal),
        ("3: L, by hand", file && s.manual_import, Verdict::Wait(Reason::ManualImport)),
        ("3: L, no base", file, Verdict::Import),
        ("3: absent, a base, not wanted", base && !s.wanted, Verdict::OfferAgain),
        ("3: absent, a base", base, Verdict::Wait(Reason::Unexplained)),
        ("3: absent, no base", true, Verdict::Drop),
    ]
}

fn killed_rows(facts: &Facts, row: &CatalogRow) -> Vec<Row> {
    let in_chain = facts.file.is_some_and(|l| row.chain_holds(&l));
    let only_copy = !row.upload && !facts.is_b && in_chain;
    vec![
        ("4: absent", facts.absent, Verdict::Drop),
        ("10: killed", only_copy, Verdict::Hold(Question::OnlyCopy)),
        ("4: L = B, or in the chain", facts.is_b || in_chain, Verdict::Trash),
        ("4: other L", true, Verdict::NewItem),
    ]
}

fn pending_rows(s: &Situation<'_>, facts: &Facts, row: &CatalogRow, owner: ClientId) -> Vec<Row> {
    let file = !facts.absent;
    let is_c = facts.file.is_some_and(|l| l.same_as(&row.content));
    let based = facts.base.is_some_and(|base| base.revision == row.revision);
    let in_line = s.copy.is_some_and(|copy| copy.line.iter().any(|step| step.revision == row.revision));
    let ours = owner == s.me || !s.owner_at_it;
    let newer = facts.base.is_some_and(|base| row.chain.iter().any(|link| link.revision == base.revision));
    let in_chain = facts.file.is_some_and(|l| row.chain_holds(&l));
    let earlier = (facts.is_b && newer) || (facts.base.is_none() && in_chain);
    let adopt = Verdict::Adopt(ChainLink { revision: row.revision, content: row.content });
    vec![
        ("5: in our line, or L = C on another base", in_line || is_c && !based, adopt),
        ("10: pending", !row.upload && file && (is_c || based), Verdict::Record),
        ("5: nobody wrote L", !is_c && based && facts.rotted, Verdict::Heal),
        ("5: ours, L = C", ours && is_c, Verdict::Complete),
        ("5: ours, on the row", ours && file && based, Verdict::Upload),
        ("5: its owner is at it", file && (is_c || based), Verdict::Wait(Reason::Pending)),
        ("5: ours, L before it in the chain", earlier && ours, Verdict::Wait(Reason::PendingRepair)),
        ("5: L before it in the chain", earlier, Verdict::Wait(Reason::Pending)),
        ("5: another L", file, Verdict::Conflict),
        ("5: absent, ours", ours, Verdict::Wait(Reason::PendingRepair)),
        ("5: absent", true, Verdict::Wait(Reason::Pending)),
    ]
}

fn agreeing_rows(s: &Situation<'_>, facts: &Facts, row: &CatalogRow) -> Vec<Row> {
    let is_c = facts.file.is_some_and(|l| l.same_as(&row.content));
    let based = facts.base.is_some_and(|base| base.revision == row.revision);
    let line = s.copy.map_or(&[][..], |copy| &copy.line);
    let in_line = line.iter().any(|step| step.revision == row.revision);
    let went_back = is_c && based && !line.is_empty() && s.line_counts && row.upload;
    let adopt = Verdict::Adopt(ChainLink { revision: row.revision, content: row.content });
    vec![
        ("6", in_line, adopt),
        ("7: went back", went_back, Verdict::Upload),
        ("7: another base or line", is_c && (!based || !line.is_empty()), adopt),
        ("7: its object is missing", is_c && row.upload && !s.object_sound, Verdict::UploadAgain),
        ("7", is_c, Verdict::Settled),
        ("8", facts.absent && s.wanted, Verdict::Download),
        ("8: not wanted", facts.absent, Verdict::Settled),
    ]
}

fn differing_rows(s: &Situation<'_>, facts: &Facts, row: &CatalogRow) -> Vec<Row> {
    let in_chain = facts.file.is_some_and(|l| row.chain_holds(&l));
    let (is_b, no_base) = (facts.is_b, facts.base.is_none());
    let based = facts.base.is_some_and(|base| base.revision == row.revision);
    let newer = facts.base.is_some_and(|base| row.chain.iter().any(|link| link.revision == base.revision));
    // We edited more than once since, made what stands, or made that content.
    let made = |link: &ChainLink| facts.file.is_some_and(|l| link.content.same_as(&l));
    let ours = s.copy.is_some_and(|copy| copy.line.len() > 1)
        || row.revision.0.client == s.me
        || row.chain.iter().any(|link| link.revision.0.client == s.me && made(link));
    vec![
        ("9: in the chain", no_base && in_chain, Verdict::Download),
        ("9", no_base, Verdict::Conflict),
        ("10: C is our base", !row.upload && !is_b && based, Verdict::Record),
        ("10: the only copy", !row.upload && !is_b, Verdict::Hold(Question::OnlyCopy)),
        ("11", facts.rotted, Verdict::Heal),
        ("13: newer", is_b && newer, Verdict::Download),
        ("13: forked", is_b, Verdict::Conflict),
        ("14: go back?", based && in_chain && !ours, Verdict::Hold(Question::GoBack)),
        ("14: B = C", based, Verdict::Upload),
        ("14: in the chain", in_chain, Verdict::Download),
        ("14", true, Verdict::Conflict),
    ]
}

#[test]
fn every_combination_is_decided_by_the_first_row_of_the_table_that_matches() {
    let mut decided: BTreeMap<&str, usize> = BTreeMap::new();
    every_situation(|s| {
        let rows = table(s);
        let (name, _, verdict) = rows.iter().find(|(_, matches, _)| *matches).expect("a table is total");
        assert_eq!(settle(s), *verdict, "{name}: {s:?}");
        for (name, ..) in &rows {
            decided.entry(name).or_default();
        }
        *decided.entry(name).or_default() += 1;
    });
    let idle: Vec<_> = decided.iter().filter(|(_, times)| **times == 0).collect();
    assert!(idle.is_empty(), "each row decides somewhere: {idle:?}");
}

#[test]
fn work_is_what_touches_file_catalog_or_objects_and_a_wait_is_none() {
    use Verdict as V;
    let base = link(OTHER, 1, 1);
    let (wait, hold) = (V::Wait(Reason::Pending), V::Hold(Question::GoBack));
    let none = [V::Settled, wait, V::Adopt(base), V::Drop, V::NewItem, V::Record, V::OfferLost, hold];
    let offers = [V::Import, V::OfferAgain, V::Complete, V::Upload, V::UploadAgain];
    let changes = [V::Download, V::Take, V::Conflict, V::Trash, V::Heal];
    assert!(none.iter().all(|verdict| !verdict.is_work()));
    assert!(offers.iter().chain(&changes).all(Verdict::is_work));
}
