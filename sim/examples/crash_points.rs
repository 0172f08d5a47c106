//! Crashes the real database on the simulated disk until the time is over, and counts what came of it:
//! `cargo run --release -p tcat-sim --example crash_points -- SECONDS [FIRST_SEED]`.
//!
//! Ends with 1 at the first breach, whose seed it prints. A panic of the database counts as one.

use std::process::ExitCode;
use std::time::{Duration, Instant};
use tcat_engine::planted::Planted;
use tcat_sim::lives::{Tally, lives};
use tcat_sim::store::SimStore;

const ENDS: u64 = 24;

fn one(seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut store = SimStore::full(Planted(None)).map_err(|error| error.0)?;
    lives(&mut store, seed, ENDS, tally).map_err(|breach| breach.to_string())
}

fn main() -> ExitCode {
    let argument = |at| std::env::args().nth(at).and_then(|text: String| text.parse::<u64>().ok());
    let (seconds, first) = (argument(1).unwrap_or(10), argument(2).unwrap_or(0));
    let (begun, mut total, mut seed) = (Instant::now(), Tally::default(), first);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let mut tally = Tally::default();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(seed, &mut tally)));
        total = total.and(tally);
        let why = match outcome {
            Ok(Ok(())) => {
                seed += 1;
                continue;
            }
            Ok(Err(why)) => why,
            Err(_) => "the database panicked".into(),
        };
        println!("seed {seed}: {why}");
        return ExitCode::from(1);
    }
    let crashes = total.power_cuts + total.kills + total.stops;
    let rate = crashes as f64 / begun.elapsed().as_secs_f64();
    println!("seeds {first}..{seed}: no breach; {crashes} ends ({rate:.0} a second): {total:?}");
    ExitCode::SUCCESS
}
