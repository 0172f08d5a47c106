//! What keeps an engine from acting, each gate by itself: the same case with the gate open and with it shut.

use super::folder::{Clear, KEPT, content, file, row};
use super::*;
use crate::catalog_orders::KillStep;
use crate::entry::Held;
use crate::ports::BrakeAnswer;
use crate::settle::{Reason, Verdict};

/// What stands in the catalog at `kept.jpg` after a number of steps, the last with this content.
fn steps(contents: &[u8]) -> CatalogRow {
    let mut newest = row(KEPT, "kept.jpg", contents[0]);
    newest.chain.clear();
    for (at, number) in (1..).zip(contents) {
        let stamp = Stamp { incarnation: Incarnation(1), counter: at };
        let row = row_of(KEPT, "kept.jpg", content(*number), stamp);
        newest.chain.extend(&row.chain);
        newest = CatalogRow { chain: newest.chain, ..row };
    }
    newest
}

/// A node that has the file as the catalog has it after these steps.
fn in_step(mut bench: Bench, contents: &[u8]) -> Bench {
    let newest = steps(contents);
    bench.input(Input::Scanned(Arc::new(Clear(&[]))));
    bench.answer_feed_to(contents.len() as u64, vec![FeedChange::Row(Box::new(newest.clone()))]);
    bench.saw("kept.jpg", file(newest.content.md5.0[0], 11));
    bench.pass(6_000);
    assert_eq!(bench.engine.report().unsettled, 0);
    bench
}

/// Time goes on, and the catalog is not there.
fn fail_feed(bench: &mut Bench) {
    bench.now_ms += 5_000;
    bench.input(Input::Tick);
    let reading = bench.ordered(|effect| matches!(effect, Effect::ReadFeed { .. })).unwrap();
    bench.input(Input::Done(reading, Outcome::Failed("it is away".into())));
}

/// Time goes on, and the catalog says that there is nothing new.
fn read_feed(bench: &mut Bench) {
    bench.now_ms += 5_000;
    bench.input(Input::Tick);
    bench.answer_feed(Vec::new());
}

#[test]
fn a_row_that_is_older_than_our_base_is_not_what_the_catalog_says() {
    let mut bench = in_step(Bench::new(), &[1]);
    let row = steps(&[1]);
    // A member has told us of the step that follows, and our mirror has not heard of it.
    let base = steps(&[1, 2]).chain.last().copied();
    let path = MediaPath::parse("kept.jpg").unwrap();
    let held = Some(Held { content: content(2), path, cached_date_ms: 0 });
    let entry = Entry { copy: Some(Copy { held, base, line: vec![] }), ..Entry::default() };
    let verdict = |bench: &mut Bench, entry: &Entry, row: &CatalogRow| {
        bench.engine.verdict_with(&KEPT, entry, Some(row), None).unwrap()
    };
    let (waits, forked) = (Verdict::Wait(Reason::CatalogUnknown), Verdict::Conflict);
    // It has read to the head since, and there was no such step.
    assert_eq!(verdict(&mut bench, &entry, &row), forked);
    fail_feed(&mut bench);
    assert_eq!(verdict(&mut bench, &entry, &row), waits, "the catalog is away");
    assert_eq!(verdict(&mut bench, &entry, &steps(&[1, 2])), Verdict::Settled, "this row has heard of it");
    read_feed(&mut bench);
    assert_eq!(verdict(&mut bench, &entry, &row), forked);
    // The same where the step came after the last reading.
    bench.now_ms += 1;
    bench.input(Input::Tick);
    bench.engine.base_moved(KEPT);
    assert_eq!(verdict(&mut bench, &entry, &row), waits, "nothing was read since");
    read_feed(&mut bench);
    assert_eq!(verdict(&mut bench, &entry, &row), forked);
    // Without a base nothing of ours is newer than any row.
    fail_feed(&mut bench);
    let unbased = Entry { copy: entry.copy.map(|copy| Copy { base: None, ..copy }), ..Entry::default() };
    assert_eq!(verdict(&mut bench, &unbased, &row), forked);
}

/// A person takes the file away, and it is surely gone; these are there.
fn take_away(bench: &mut Bench, left: &'static [&'static str]) {
    for _ in 0..3 {
        bench.saw("kept.jpg", Seen::Absent);
        bench.now_ms += 3_000;
        bench.input(Input::Scanned(Arc::new(Clear(left))));
    }
}

#[test]
fn a_file_that_a_person_deletes_goes_everywhere_only_where_that_is_asked_for_and_meant_this_content() {
    let is_asked = |bench: &mut Bench| {
        let kill = |effect: &Effect| matches!(effect, Effect::Kill(kill) if kill.step == KillStep::Request);
        bench.ordered(kill).is_some()
    };
    for (follows, newer) in [(true, false), (false, false), (true, true)] {
        let mut bench = in_step(Bench::with(|config| config.follow_deletions = follows), &[1]);
        if newer {
            // Somebody else has gone on from it: that was not seen here, so it was not deleted here.
            bench.engine.apply_row(steps(&[1, 2])).unwrap();
        }
        take_away(&mut bench, &[]);
        assert_eq!(is_asked(&mut bench), follows && !newer, "{follows} {newer}");
    }
    // What never came here is fetched, as ever.
    let mut bench = Bench::with(|config| config.follow_deletions = true);
    bench.input(Input::Scanned(Arc::new(Clear(&[]))));
    bench.answer_feed_to(1, vec![FeedChange::Row(Box::new(steps(&[1])))]);
    bench.pass(6_000);
    assert!(!is_asked(&mut bench));
    // So is what an earlier start missed here: it was not seen to go.
    let mut bench = in_step(Bench::with(|config| config.follow_deletions = true), &[1]);
    let base = steps(&[1]).chain.last().copied();
    let copy = Some(Copy { held: None, base, line: vec![] });
    bench.engine.stage(KEPT, Entry { copy, ..Entry::default() });
    bench.engine.queue.ready(KEPT);
    bench.pass(6_000);
    assert!(!is_asked(&mut bench) && !bench.engine.report().tasks.is_empty());
}

#[test]
fn a_name_that_the_brake_holds_is_not_asked_for_before_a_person_has_answered() {
    for on in [false, true] {
        let items = if on { 0 } else { 5 };
        let mut bench = in_step(Bench::with(|config| config.brake.items = items), &[1]);
        // A program has given the file another kind of name.
        bench.saw("kept.jpg.locked", file(1, 11));
        take_away(&mut bench, &["kept.jpg.locked"]);
        bench.pass(3_000);
        let asks = |effect: &Effect| matches!(effect, Effect::Repath(_));
        assert_eq!(bench.engine.brake_report().on, on);
        let report = bench.engine.report();
        let why = report.resting.iter().find(|(item, _)| *item == KEPT).map(|(_, why)| why.as_str());
        assert_eq!(why.is_some_and(|why| why.starts_with("held by the brake")), on);
        assert_eq!(bench.ordered(asks).is_some(), !on);
        if on {
            bench.input(Input::Brake(BrakeAnswer::Accept));
            bench.pass(3_000);
            assert!(bench.ordered(asks).is_some());
        }
    }
}

/// Why an item rests, as people are shown it, and what they were told when that began.
fn asked(bench: &Bench) -> (Option<String>, Vec<String>) {
    let report = bench.engine.report();
    let why = report.resting.iter().find(|(item, _)| *item == KEPT).map(|(_, why)| why.clone());
    let told = bench.outputs.iter().filter_map(|output| match output {
        Output::Event(Event::Asking(KEPT, text)) => Some(text.clone()),
        _ => None,
    });
    (why, told.collect())
}

#[test]
fn what_waits_for_a_person_s_answer_is_shown_as_long_as_it_does() {
    let mut bench = in_step(Bench::new(), &[1, 2]);
    assert_eq!(asked(&bench), (None, vec![]));
    // An earlier content of the item, which is not ours to go back to.
    bench.saw("kept.jpg", file(1, 12));
    bench.pass(20_000);
    let (why, told) = asked(&bench);
    assert!(why.as_ref().is_some_and(|why| why.contains("earlier content")), "{why:?}");
    assert!(!told.is_empty() && told.iter().all(|text| Some(text) == why.as_ref()));
    assert!(bench.engine.report().at_rest, "it waits for a person alone");
    // He has gone on from it.
    bench.saw("kept.jpg", file(3, 13));
    assert_eq!(asked(&bench).0, None);
    // The only copy of what is in no store.
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Clear(&[]))));
    let kept_here = |row| FeedChange::Row(Box::new(CatalogRow { upload: false, ..row }));
    bench.answer_feed_to(1, vec![kept_here(steps(&[1]))]);
    bench.saw("kept.jpg", file(1, 11));
    bench.saw("kept.jpg", file(5, 12));
    assert_eq!(asked(&bench).0, None);
    bench.engine.feed.hint(bench.now_ms);
    bench.input(Input::Tick);
    bench.answer_feed_to(2, vec![kept_here(steps(&[1, 2]))]);
    let (why, told) = asked(&bench);
    assert!(why.as_ref().is_some_and(|why| why.contains("only copy")), "{why:?}");
    assert_eq!(told.last(), why.as_ref());
}

#[test]
fn nothing_of_ours_enters_the_catalog_before_the_feed_was_read_to_its_head_since_the_start() {
    let mut bench = in_step(Bench::new(), &[1]).restarted();
    let sends = |bench: &mut Bench| bench.ordered(|effect| matches!(effect, Effect::Intend(_))).is_some();
    bench.input(Input::Scanned(Arc::new(Clear(&["kept.jpg"]))));
    bench.saw("kept.jpg", file(2, 12));
    for _ in 0..10 {
        bench.now_ms += 1_000;
        bench.input(Input::Tick);
        assert!(!sends(&mut bench) && bench.engine.report().tasks.is_empty());
    }
    assert_eq!(bench.engine.report().uploads_waiting, 1);
    bench.answer_feed(Vec::new());
    bench.pass(1_000);
    assert!(sends(&mut bench));
}
