//! Every combination of settle's inputs over a small alphabet of contents and revisions.

use super::*;
use crate::catalog::Revision;
use crate::clock::{Dot, Incarnation, Stamp};
use crate::content::{Blake3, Md5};
use crate::entry::Held;
use crate::ids::ItemId;
use crate::paths::MediaPath;

const ME: ClientId = ClientId([1; 32]);
const OTHER: ClientId = ClientId([2; 32]);

fn content(n: u8) -> Content {
    Content { md5: Md5([n; 16]), size: u64::from(n), blake3: None }
}

fn link(client: ClientId, counter: u64, n: u8) -> ChainLink {
    let stamp = Stamp { incarnation: Incarnation(1), counter };
    ChainLink { revision: Revision(Dot { client, stamp }), content: content(n) }
}

/// Contents: 1, 2 and 3 are or were in the catalog, 4 and 5 are a person's. Revisions: `OTHER` 1, 2, 3.
fn chains() -> Vec<Vec<ChainLink>> {
    vec![
        vec![link(OTHER, 1, 1)],
        vec![link(OTHER, 1, 1), link(OTHER, 2, 2)],
        vec![link(OTHER, 1, 1), link(ME, 2, 2)],
        vec![link(OTHER, 1, 1), link(OTHER, 2, 2), link(OTHER, 3, 1)],
        vec![link(OTHER, 9, 3)],
        vec![link(OTHER, 1, 1), link(ME, 7, 4)],
        vec![link(OTHER, 1, 1), link(ME, 7, 4), link(OTHER, 8, 2)],
    ]
}

fn copies() -> Vec<Option<Copy>> {
    let bases = [
        None,
        Some(link(OTHER, 1, 1)),
        Some(link(OTHER, 2, 2)),
        Some(link(ME, 2, 2)),
        Some(link(OTHER, 6, 3)),
    ];
    let lines = [
        vec![],
        vec![link(ME, 7, 4)],
        vec![link(ME, 7, 4), link(ME, 8, 5)],
        vec![link(ME, 7, 4), link(ME, 8, 1)],
    ];
    let mut copies = vec![None];
    for base in bases {
        for line in &lines {
            copies.push(Some(Copy { held: None, base, line: line.clone() }));
        }
    }
    copies
}

/// What a live member may have on its way while the catalog is away.
fn travelling() -> Vec<Option<Copy>> {
    let (one, two) = (link(OTHER, 1, 1), link(OTHER, 2, 2));
    let lines = [
        (Some(one), vec![link(OTHER, 11, 5)]),
        (Some(one), vec![link(OTHER, 13, 1)]),
        (Some(one), vec![link(ME, 7, 4), link(OTHER, 11, 5)]),
        (Some(one), vec![link(ME, 7, 4), link(OTHER, 13, 1)]),
        (Some(one), vec![link(ME, 7, 4)]),
        (Some(two), vec![link(OTHER, 11, 5)]),
        (Some(link(ME, 7, 4)), vec![link(OTHER, 11, 5)]),
        (None, vec![link(ME, 7, 4), link(OTHER, 11, 5)]),
    ];
    let copy = |(base, line): (Option<ChainLink>, Vec<ChainLink>)| {
        let last = line[line.len() - 1].content;
        let content = Content { blake3: Some(Blake3([9; 32])), ..last };
        let path = MediaPath::parse("a.jpg").unwrap();
        Some(Copy { held: Some(Held { content, path, cached_date_ms: 0 }), base, line })
    };
    [None].into_iter().chain(lines.into_iter().map(copy)).collect()
}

/// Whether the other copy has a step of our line.
fn counts(ours: Option<&Copy>, theirs: Option<&Copy>) -> bool {
    let line = ours.map_or(&[][..], |ours| &ours.line);
    theirs.is_some_and(|theirs| line.iter().any(|step| theirs.has_step(&step.revision)))
}

fn rows() -> Vec<CatalogRow> {
    let states = [
        RowState::Pending { owner: ME },
        RowState::Pending { owner: OTHER },
        RowState::Active,
        RowState::KillRequest,
        RowState::KillWip,
        RowState::KillComplete,
    ];
    let mut rows = Vec::new();
    for chain in chains() {
        for state in states {
            for upload in [true, false] {
                let last = chain[chain.len() - 1];
                rows.push(CatalogRow {
                    item: ItemId([0; 16]),
                    state,
                    revision: last.revision,
                    content: last.content,
                    object: None,
                    generation: 0,
                    cache_path: MediaPath::parse("a.jpg").unwrap(),
                    virtual_path: "a.jpg".into(),
                    content_type: "image/jpeg".into(),
                    claim_epoch: 0,
                    upload,
                    version_of: None,
                    chain: chain.clone(),
                });
            }
        }
    }
    rows
}

/// Calls `check` with every combination; returns how many there were.
fn every_situation(mut check: impl FnMut(&Situation<'_>)) -> usize {
    let record = RemovalRecord {
        item: ItemId([0; 16]),
        cache_path: MediaPath::parse("a.jpg").unwrap(),
        contents: vec![content(1), content(2)],
    };
    let (rows, copies) = (rows(), copies());
    let mut views = vec![View::Unknown, View::Gone(None), View::Gone(Some(&record))];
    views.extend(rows.iter().map(View::Row));
    let mut locals = vec![Local::Unknown, Local::Absent];
    locals.extend((1..=5).map(|n| Local::File(content(n))));
    let mut count = 0;
    let all_travelling = travelling();
    for catalog in views {
        for copy in &copies {
            for local in &locals {
                let each_bits = (0u8..64).flat_map(|bits| all_travelling.iter().map(move |t| (bits, t)));
                for (bits, travelling) in each_bits {
                    let bit = |n: u8| bits & (1 << n) != 0;
                    // What most bits decide is the same with and without.
                    if travelling.is_some() && ![0, 4, 5, 63].contains(&bits) {
                        continue;
                    }
                    count += 1;
                    check(&Situation {
                        local: *local,
                        stat_unchanged: bit(0),
                        copy: copy.as_ref(),
                        catalog,
                        me: ME,
                        owner_at_it: bit(1),
                        wanted: bit(2),
                        object_sound: bit(3),
                        manual_import: bit(4),
                        behind: bit(5),
                        travelling: travelling.as_ref(),
                        line_counts: counts(copy.as_ref(), travelling.as_ref()),
                    });
                }
            }
        }
    }
    count
}

/// What the catalog has or had of this item, as far as the situation shows.
fn known_to_the_catalog(s: &Situation<'_>, l: &Content) -> bool {
    let by_catalog = match s.catalog {
        View::Row(row) => row.chain_holds(l),
        View::Gone(Some(record)) => record.contents.iter().any(|c| c.same_as(l)),
        _ => false,
    };
    by_catalog || s.is_base(l)
}

#[test]
fn every_combination_has_a_verdict_and_a_person_s_content_is_never_given_up() {
    let count = every_situation(|s| {
        let verdict = settle(s);
        let gives_up_the_file = matches!(verdict, Verdict::Trash | Verdict::Download | Verdict::Drop);
        match s.local {
            Local::File(l) if gives_up_the_file => assert!(known_to_the_catalog(s, &l), "{s:?} {verdict:?}"),
            Local::Unknown => assert!(matches!(verdict, Verdict::Wait(_)), "{s:?} {verdict:?}"),
            _ => {}
        }
        if s.catalog == View::Unknown {
            assert!(matches!(verdict, Verdict::Wait(_) | Verdict::Take), "{s:?} {verdict:?}");
        }
    });
    assert!(count > 1_000_000, "{count}");
}

#[test]
fn a_member_s_edit_takes_the_place_of_nothing_but_its_own_base_and_steps() {
    let (mut over_base, mut over_step, mut over_nothing) = (0, 0, 0);
    every_situation(|s| {
        if settle(s) != Verdict::Take {
            return;
        }
        let theirs = s.travelling.unwrap();
        let tip = s.copy.and_then(|copy| copy.tip());
        match (s.local, tip) {
            (Local::File(l), Some(tip)) => {
                // What is here is what our copy ends in, no further edit, and stands in what replaces it.
                assert!(tip.content.same_as(&l), "{s:?}");
                assert!(theirs.steps().any(|step| step.content.same_as(&l)), "{s:?}");
                assert!(theirs.has_step(&tip.revision) && !lines::diverge(s.copy.unwrap(), theirs), "{s:?}");
                if s.line().is_empty() { over_base += 1 } else { over_step += 1 }
            }
            (Local::Absent, _) => over_nothing += 1,
            _ => panic!("{s:?}"),
        }
        match s.catalog {
            View::Row(row) => {
                assert!(matches!(row.state, RowState::Active | RowState::Pending { .. }) && row.upload);
                // An edit of what the catalog has left behind is a conflict, not news.
                let stale = theirs.base.is_some_and(|base| row.chain_has(&base.revision));
                assert!(!stale || theirs.has_step(&row.revision), "{s:?}");
            }
            View::Gone(record) => assert_eq!(record, None),
            View::Unknown => assert!(s.base().is_some() || theirs.base.is_none(), "{s:?}"),
        }
    });
    assert!(over_base > 0 && over_step > 0 && over_nothing > 0, "{over_base} {over_step} {over_nothing}");
}

#[test]
fn settled_means_that_file_base_and_catalog_are_one_or_that_the_item_is_not_wanted() {
    every_situation(|s| {
        if settle(s) == Verdict::Settled {
            let View::Row(row) = s.catalog else { panic!("settled without a row: {s:?}") };
            assert_eq!(row.state, RowState::Active);
            match s.local {
                Local::File(l) => {
                    assert!(l.same_as(&row.content) && s.base().unwrap().revision == row.revision);
                    assert!(s.line().is_empty());
                }
                _ => assert!(!s.wanted),
            }
        }
    });
}

#[test]
fn what_nobody_wrote_takes_the_place_of_nothing_that_others_may_have() {
    let mut healed = 0;
    every_situation(|s| {
        let Local::File(l) = s.local else { return };
        let known = s.copy.is_some_and(|copy| copy.steps().any(|step| step.content.same_as(&l)));
        if !s.stat_unchanged || known || known_to_the_catalog(s, &l) {
            return;
        }
        let verdict = settle(s);
        assert_ne!(verdict, Verdict::Upload, "{s:?}");
        assert_ne!(verdict, Verdict::Complete, "{s:?}");
        assert!(verdict != Verdict::Import || !s.line_counts, "{s:?}");
        healed += u32::from(verdict == Verdict::Heal);
    });
    assert!(healed > 0);
}

#[test]
fn an_upload_always_follows_the_row_that_it_was_made_on() {
    every_situation(|s| {
        if settle(s) == Verdict::Upload {
            let View::Row(row) = s.catalog else { panic!("upload without a row: {s:?}") };
            assert_eq!(s.base().unwrap().revision, row.revision, "{s:?}");
            let went_back = s.line_counts && !s.line().is_empty();
            assert!(matches!(s.local, Local::File(l) if went_back || !l.same_as(&row.content)), "{s:?}");
            assert!(row.upload, "{s:?}");
        }
    });
}

#[test]
fn what_is_not_to_be_uploaded_never_is_and_its_only_copy_is_neither_trashed_nor_overwritten() {
    every_situation(|s| {
        let View::Row(row) = s.catalog else { return };
        if row.upload {
            return;
        }
        let verdict = settle(s);
        assert!(!matches!(verdict, Verdict::Upload | Verdict::Complete | Verdict::UploadAgain), "{s:?}");
        let edited =
            matches!(s.local, Local::File(l) if s.base().is_some_and(|base| !base.content.same_as(&l)));
        let elsewhere = matches!(s.local, Local::File(l) if l.same_as(&row.content));
        if edited && !elsewhere {
            assert!(!matches!(verdict, Verdict::Trash | Verdict::Download), "{s:?}: {verdict:?}");
        }
    });
}

/// What the engine makes of a verdict, reduced to this model: the situation after the task has succeeded.
fn after(s: &Situation<'_>, verdict: Verdict) -> Option<(Local, Option<Copy>, Option<CatalogRow>)> {
    let row = match s.catalog {
        View::Row(row) => Some(row.clone()),
        _ => None,
    };
    let copy = |base: ChainLink, line: Vec<ChainLink>| Some(Copy { held: None, base: Some(base), line });
    match verdict {
        Verdict::Adopt(base) => {
            let line = s.line();
            let after =
                line.iter().position(|l| l.revision == base.revision).map_or(&[][..], |i| &line[i + 1..]);
            Some((s.local, copy(base, after.to_vec()), row))
        }
        Verdict::Download => {
            let row = row?;
            Some((Local::File(row.content), copy(current(&row), vec![]), Some(row)))
        }
        Verdict::Take => {
            let theirs = s.travelling?;
            let (base, line) = lines::taken(s.copy, theirs);
            let content = theirs.tip()?.content;
            // On a base that the mirror has not heard of, the engine reads the catalog first.
            if let (Some(base), Some(row)) = (base, &row)
                && !row.chain_has(&base.revision)
            {
                return None;
            }
            Some((Local::File(content), Some(Copy { held: None, base, line }), row))
        }
        Verdict::Conflict | Verdict::Heal => Some((Local::Absent, s.copy.cloned(), row)),
        Verdict::Upload => {
            let (mut row, Local::File(l)) = (row?, s.local) else { return None };
            let link = ChainLink { revision: link(ME, 99, 0).revision, content: l };
            row.chain.push(link);
            (row.revision, row.content, row.state) = (link.revision, l, RowState::Active);
            Some((s.local, copy(link, vec![]), Some(row)))
        }
        Verdict::Complete => {
            let mut row = row?;
            row.state = RowState::Active;
            Some((s.local, s.copy.cloned(), Some(row)))
        }
        _ => None,
    }
}

#[test]
fn following_the_verdicts_comes_to_rest() {
    every_situation(|start| {
        let (mut local, mut copy) = (start.local, start.copy.cloned());
        let View::Row(row) = start.catalog else { return };
        let mut row = row.clone();
        let mut seen = Vec::new();
        for _ in 0..6 {
            let now = Situation {
                local,
                copy: copy.as_ref(),
                catalog: View::Row(&row),
                stat_unchanged: start.stat_unchanged && seen.is_empty(),
                object_sound: true,
                line_counts: counts(copy.as_ref(), start.travelling),
                ..*start
            };
            let verdict = settle(&now);
            seen.push(verdict);
            match after(&now, verdict) {
                Some((l, c, Some(r))) => (local, copy, row) = (l, c, r),
                _ => return,
            }
        }
        panic!("{start:?} goes on: {seen:?}");
    });
}

/// One named case per row of the table.
#[test]
fn the_rows_of_the_table_decide_in_their_order() {
    let row = |chain: Vec<ChainLink>| {
        let last = chain[chain.len() - 1];
        CatalogRow {
            revision: last.revision,
            content: last.content,
            state: RowState::Active,
            chain,
            ..rows().remove(0)
        }
    };
    let one = row(vec![link(OTHER, 1, 1)]);
    let two = row(vec![link(OTHER, 1, 1), link(OTHER, 2, 2)]);
    let forked = row(vec![link(OTHER, 9, 3)]);
    let at = |base: Option<ChainLink>, line: Vec<ChainLink>| Copy { held: None, base, line };
    let on_one = at(Some(link(OTHER, 1, 1)), vec![]);
    let edited = at(Some(link(OTHER, 1, 1)), vec![link(ME, 7, 4)]);
    let none = at(None, vec![]);
    let file = |n| Local::File(content(n));
    let go = |local, copy, row| {
        settle(&Situation {
            local,
            stat_unchanged: false,
            copy: Some(copy),
            catalog: View::Row(row),
            me: ME,
            owner_at_it: true,
            wanted: true,
            object_sound: true,
            manual_import: false,
            behind: false,
            travelling: None,
            line_counts: false,
        })
    };
    assert_eq!(go(file(1), &on_one, &one), Verdict::Settled, "7");
    assert_eq!(go(file(2), &on_one, &two), Verdict::Adopt(link(OTHER, 2, 2)), "7: brought by hand");
    assert_eq!(go(Local::Absent, &on_one, &two), Verdict::Download, "8");
    assert_eq!(go(file(1), &none, &two), Verdict::Download, "9");
    assert_eq!(go(file(4), &none, &two), Verdict::Conflict, "9");
    assert_eq!(go(file(1), &on_one, &two), Verdict::Download, "13");
    assert_eq!(go(file(1), &on_one, &forked), Verdict::Conflict, "13");
    assert_eq!(go(file(4), &edited, &one), Verdict::Upload, "14");
    assert_eq!(go(file(4), &edited, &two), Verdict::Conflict, "14");
    let on_two = at(Some(link(OTHER, 2, 2)), vec![link(ME, 7, 1)]);
    assert_eq!(go(file(1), &on_two, &two), Verdict::Hold(Question::GoBack), "14");
    let landed = row(vec![link(OTHER, 1, 1), link(ME, 7, 4)]);
    assert_eq!(go(file(5), &edited, &landed), Verdict::Adopt(link(ME, 7, 4)), "6: saved again meanwhile");
}

#[test]
fn a_catalog_that_shows_an_earlier_revision_is_told_before_anything_else_is_done_by_it() {
    every_situation(|s| {
        if let (View::Row(_), true, true) = (s.catalog, s.behind, s.local != Local::Unknown) {
            assert_eq!(settle(s), Verdict::OfferLost, "{s:?}");
        }
    });
}

#[test]
fn a_removed_content_is_trashed_and_what_somebody_saved_since_is_not() {
    every_situation(|s| {
        if let (View::Gone(Some(_)), Local::File(l)) = (s.catalog, s.local) {
            let known = s.is_base(&l) || known_to_the_catalog(s, &l);
            assert_eq!(settle(s), if known { Verdict::Trash } else { Verdict::NewItem }, "{s:?}");
        }
    });
}

#[path = "settle_table_tests.rs"]
mod table;
