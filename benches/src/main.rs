//! tcat's side-by-side benchmarks: real nodes of a release build against what people use today.
//!
//! `cargo xtask bench NAME` builds and runs one. Every figure is a ratio of medians from one run, with its spread; the
//! JSON lies under `target/bench/`. So far: `copy`, from one settled node to another, against copying the same files
//! with a sync of each, which is the least that any program must do.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use tcat_tests::{Laboratory, Random, program};

const RUNS: usize = 5;
const PICTURES: usize = 300;
const PICTURE_BYTES: usize = 900_000;
const FILM_BYTES: usize = 256 << 20;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("copy") => {
            copy();
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("tcat-bench: name a benchmark: copy");
            ExitCode::from(2)
        }
    }
}

/// Files dropped into one folder until both nodes say that they are in the other, against plain copying.
fn copy() {
    let bytes = (PICTURES * PICTURE_BYTES + FILM_BYTES) as f64;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(bytes / 1e6 / copied_by_tcat());
        peer.push(bytes / 1e6 / copied_with_sync());
    }
    let (ours, peer) = (Spread::of(ours), Spread::of(peer));
    println!(
        "copy/cp-fsync: ours {ours} MB/s, peer {peer} MB/s, ratio {:.2}, goal none; {:.0} files/s",
        ours.median / peer.median,
        ours.median * 1e6 / bytes * (PICTURES + 1) as f64,
    );
    let report = serde_json::json!({
        "bench": "copy", "runs": RUNS, "bytes": bytes, "files": PICTURES + 1,
        "ours_mb_s": ours.all, "peer_mb_s": peer.all,
    });
    let folder = program().parent().and_then(Path::parent).unwrap().join("bench");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("copy.json"), format!("{report:#}\n")).unwrap();
}

fn copied_by_tcat() -> f64 {
    let laboratory = Laboratory::new();
    let (anna, ben) = laboratory.pair();
    anna.meet(&ben);
    let mut random = Random::new();
    let began = Instant::now();
    for n in 0..PICTURES {
        anna.save(&format!("{}/{n}.jpg", n % 7), &random.bytes(PICTURE_BYTES + n));
    }
    anna.save("film.mov", &random.bytes(FILM_BYTES));
    ben.settle();
    began.elapsed().as_secs_f64()
}

fn copied_with_sync() -> f64 {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut random = Random::new();
    let began = Instant::now();
    let mut copy = |name: String, bytes: usize| -> io::Result<()> {
        fs::write(from.path().join(&name), random.bytes(bytes))?;
        fs::copy(from.path().join(&name), to.path().join(&name))?;
        File::open(to.path().join(&name))?.sync_all()
    };
    for n in 0..PICTURES {
        copy(format!("{n}.jpg"), PICTURE_BYTES + n).unwrap();
    }
    copy("film.mov".into(), FILM_BYTES).unwrap();
    began.elapsed().as_secs_f64()
}

/// Some measurements of one thing.
struct Spread {
    all: Vec<f64>,
    median: f64,
}

impl Spread {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        Self { median: all[all.len() / 2], all }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (least, most) = (self.all[0], self.all[self.all.len() - 1]);
        write!(f, "{:.0} ({least:.0} to {most:.0})", self.median)
    }
}
