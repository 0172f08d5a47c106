//! What `tcat-sim` promises as a program: seeds that pass, runs that repeat, failures that shrink, traces that can be
//! read by others, and regression plans that stay mended.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use tcat_sim::checks::Invariant;
use tcat_sim::expand::expand;
use tcat_sim::export::{jsonl, shiviz, window};
use tcat_sim::plan::{Canary, Plan};
use tcat_sim::run::run;
use tcat_sim::shrink::shrink;

fn tcat_sim(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tcat-sim")).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn one_plan_gives_one_run_and_one_fault_less_leaves_the_seed_alone() {
    for seed in 0..4 {
        let plan = expand(seed);
        let (one, other) = (run(&plan, false).unwrap(), run(&plan, true).unwrap());
        assert_eq!((one.hash, one.events), (other.hash, other.events), "recording changes nothing");
    }
}

#[test]
fn two_processes_agree_on_every_hash_and_a_leak_is_noticed() {
    assert_eq!(tcat_sim(&["meta", "--seeds", "0..3"]).0, 0);
    assert_eq!(tcat_sim(&["meta", "--seeds", "0..2", "--leak"]).0, 12);
}

#[test]
fn exit_statuses_tell_what_happened() {
    assert_eq!(tcat_sim(&["run", "--seed", "1", "--quiet"]).0, 0);
    assert_eq!(tcat_sim(&["run"]).0, 2);
    assert_eq!(tcat_sim(&["run", "--seed", "1", "--bug", "no such bug"]).0, 2);
    assert_eq!(tcat_sim(&["explore", "--seeds", "5..5"]).0, 2);
    let (status, text) = tcat_sim(&["faults"]);
    assert!(status == 0 && text.contains("waiting") && text.contains("S8: no edit is lost"));
}

#[test]
fn a_failure_is_printed_with_its_invariant_in_words_and_a_line_to_reproduce_it() {
    let file = std::env::temp_dir().join(format!("tcat-sim-{}.json", std::process::id()));
    let plan = Plan { canary: Some(Canary::AlwaysFails), ..expand(3) };
    std::fs::write(&file, plan.text()).unwrap();
    let (status, text) = tcat_sim(&["replay", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(status, 10);
    assert!(text.contains(Invariant::S0.words()), "{text}");
    assert!(text.lines().last().unwrap().starts_with("reproduce: tcat-sim run --plan "), "{text}");
}

#[test]
fn a_failing_plan_shrinks_to_what_its_failure_needs() {
    // This failure needs nothing at all: what is left is the least plan that there can be.
    let plan = Plan { canary: Some(Canary::AlwaysFails), ..expand(3) };
    let (small, _) = shrink(&plan, Invariant::S0, &mut |_, _| true);
    assert!(small.items.is_empty() && small.nodes.len() == 1, "{}", small.text());
    assert!(run(&small, false).unwrap().violations.iter().any(|v| v.invariant == Invariant::S0));
}

/// The rules of ShiViz's own parser and graph builder.
#[test]
fn a_trace_for_shiviz_has_clocks_that_it_can_build_a_graph_of() {
    let plan = expand(2);
    let trace = run(&plan, true).unwrap().trace.unwrap();
    let events = window(&trace.events, u64::MAX, 700);
    let text = shiviz("seed 2", events, plan.nodes.len());
    let mut lines = text.lines();
    let head = lines.next().unwrap();
    for group in ["host", "event", "clock"] {
        assert!(head.contains(&format!("(?<{group}>")), "{head}");
    }
    assert_eq!(lines.next(), Some("=== (?<trace>.*) ==="));
    assert_eq!(lines.next(), Some("=== seed 2 ==="));
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    let mut hosts: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines {
        let (host, rest) = line.split_once(' ').unwrap();
        let (clock, rest) = rest.split_at(rest.find('}').unwrap() + 1);
        let clock: BTreeMap<String, u64> = serde_json::from_str(clock).unwrap();
        let own = known.entry(host.into()).or_default();
        *own += 1;
        assert_eq!(clock.get(host), Some(&*own), "a host's own entry starts at 1 and rises by one: {line}");
        for (other, count) in &clock {
            assert!(*count > 0);
            let most = hosts.entry(other.clone()).or_default();
            *most = (*most).max(*count);
        }
        let mut words = rest.trim_start().splitn(3, ' ');
        assert!(words.next().unwrap().parse::<u64>().is_ok() && !words.next().unwrap().is_empty(), "{line}");
    }
    assert_eq!(known, hosts, "whatever a clock names has happened, and was seen");
    let json = jsonl(events, plan.nodes.len());
    assert_eq!(json.lines().count(), events.len());
    for line in json.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn regression_plans_stay_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    for file in files {
        let plan = Plan::read(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let finished = run(&plan, false).unwrap();
        assert_eq!(finished.violations, [], "{}", file.display());
    }
}

#[test]
fn a_few_seeds_pass() {
    for seed in [1, 2, 3, 4, 5] {
        let finished = run(&expand(seed), false).unwrap();
        assert_eq!(finished.violations, [], "seed {seed}");
    }
}
