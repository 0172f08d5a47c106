//! The figure `claims`: how soon eight nodes that see ten thousand new items at once have one settled owner for each.
//!
//! Ours: eight real engines in the simulator's claim world, whose cloud gives every content in a millisecond, until
//! each item's file is at one of them. What counts is the slower of two clocks: the world's, on which they wait for
//! each other, and the processor's, shared by two cores as here. The peer: eight processes on one SQLite file, each
//! of which claims a hundred unclaimed items in an exclusive transaction that advances the workgroup's clock, and
//! settles them in another, as the ancestor does; its transfers take no time. Left out: disks of ours, and networks.
//!
//! `cargo xtask bench claims`; `TCAT_BENCH_ITEMS` for another number of items, `TCAT_BENCH_RUNS` of runs.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on has nothing to say"
)]

#[path = "parts/processor.rs"]
mod processor;

use processor::processor_seconds;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tcat_sim::claim_world::{ClaimWorld, Manners};
use tcat_sim::world::content;

const NODES: usize = 8;
const CORES: f64 = 2.0;
/// As many as the ancestor claims at once.
const CHUNK: i64 = 100;
const GOAL: f64 = 5.0;
/// A fetch that takes as little as this world can tell.
const NO_WAIT: Manners = Manners { get_ms: 1, cancel_ms: 1, delay_ms_max: 1, losses: 0, crashes: 0, late: 0 };

/// What one run of ours took.
struct Ours {
    simulated_s: f64,
    processor_s: f64,
    /// Contents begun more than once.
    twice: usize,
}

impl Ours {
    fn seconds(&self) -> f64 {
        self.simulated_s.max(self.processor_s / CORES)
    }
}

fn ours(seed: u64, items: u64) -> Ours {
    let contents: Vec<_> = (0..items).map(|n| content(n + 1_000)).collect();
    let mut world = ClaimWorld::stopped(seed, NODES, &contents, None);
    world.manners = NO_WAIT;
    let began = Instant::now();
    let (before_s, before_ms) = (processor_seconds(began), world.now_ms());
    (0..NODES).for_each(|n| world.start(n));
    let all_settled = |world: &ClaimWorld| world.fetches.len() as u64 == items && world.worker().is_none();
    assert!(world.run_until(before_ms + 24 * 3_600_000, all_settled), "{:?}", world.broken);
    Ours {
        simulated_s: (world.now_ms() - before_ms) as f64 / 1e3,
        processor_s: processor_seconds(began) - before_s,
        twice: world.fetches.values().filter(|times| **times > 1).count(),
    }
}

/// One process of the peer: says that it is ready, waits for the word, and claims until nothing is left.
async fn peer_process(file: &Path, client: i64) {
    let mut db = open(file).await;
    println!("ready");
    std::io::stdout().flush().unwrap();
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    loop {
        sqlx::query("BEGIN EXCLUSIVE").execute(&mut db).await.unwrap();
        let clock = advance_clock(&mut db, client).await;
        let claimed = sqlx::query(
            "INSERT INTO cache (media, path, md5, cached_by, clock)
             SELECT id, path, md5, ?1, ?2 FROM media
             WHERE id NOT IN (SELECT media FROM cache) LIMIT ?3",
        );
        let claimed = claimed.bind(client).bind(clock).bind(CHUNK).execute(&mut db).await.unwrap();
        sqlx::query("COMMIT").execute(&mut db).await.unwrap();
        if claimed.rows_affected() == 0 {
            return;
        }
        sqlx::query("BEGIN EXCLUSIVE").execute(&mut db).await.unwrap();
        let clock = advance_clock(&mut db, client).await;
        let settled =
            "UPDATE cache SET cached_date = 1, clock = ?2 WHERE cached_by = ?1 AND cached_date IS NULL";
        sqlx::query(settled).bind(client).bind(clock).execute(&mut db).await.unwrap();
        sqlx::query("COMMIT").execute(&mut db).await.unwrap();
    }
}

/// The workgroup's clock and the client's go on together.
async fn advance_clock(db: &mut SqliteConnection, client: i64) -> i64 {
    let next = "UPDATE clocks SET clock = (SELECT clock FROM clocks WHERE client = 0) + 1
                WHERE client IN (0, ?1) RETURNING clock";
    sqlx::query(next).bind(client).fetch_one(&mut *db).await.unwrap().get(0)
}

async fn open(file: &Path) -> SqliteConnection {
    // A file on a share has no write-ahead log.
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .busy_timeout(Duration::from_secs(60));
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn make_catalog(file: &Path, items: u64) {
    let mut db = open(file).await;
    for statement in [
        "CREATE TABLE media (id INTEGER PRIMARY KEY, path TEXT, md5 BLOB)",
        "CREATE TABLE cache (media INTEGER PRIMARY KEY, path TEXT, md5 BLOB, cached_by INTEGER, cached_date INTEGER, clock INTEGER)",
        "CREATE INDEX pending ON cache (cached_by) WHERE cached_date IS NULL",
        "CREATE TABLE clocks (client INTEGER PRIMARY KEY, clock INTEGER)",
    ] {
        sqlx::query(statement).execute(&mut db).await.unwrap();
    }
    let mut work = db.begin().await.unwrap();
    for client in 0..=NODES as i64 {
        sqlx::query("INSERT INTO clocks VALUES (?1, 0)").bind(client).execute(&mut *work).await.unwrap();
    }
    for id in 0..items as i64 {
        let row = sqlx::query("INSERT INTO media VALUES (?1, ?2, ?3)");
        let md5 = id.to_le_bytes().repeat(2);
        row.bind(id)
            .bind(format!("2024/summer/IMG_{id:06}.jpg"))
            .bind(md5)
            .execute(&mut *work)
            .await
            .unwrap();
    }
    work.commit().await.unwrap();
}

/// Seconds until the peer's processes have one settled owner for each item.
async fn peer(items: u64) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.db");
    make_catalog(&file, items).await;
    let start = |client: usize| -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("peer").arg(&file).arg(client.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut processes: Vec<Child> = (1..=NODES).map(start).collect();
    for process in &mut processes {
        std::io::BufReader::new(process.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    }
    let began = Instant::now();
    for process in &mut processes {
        writeln!(process.stdin.take().unwrap(), "go").unwrap();
    }
    assert!(processes.iter_mut().all(|process| process.wait().unwrap().success()));
    let took = began.elapsed().as_secs_f64();
    let mut db = open(&file).await;
    let settled = "SELECT count(*) FROM cache WHERE cached_date IS NOT NULL";
    let settled: i64 = sqlx::query(settled).fetch_one(&mut db).await.unwrap().get(0);
    assert_eq!(settled as u64, items);
    took
}

fn number_of(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, file, client] = arguments.as_slice()
        && word == "peer"
    {
        return peer_process(Path::new(file), client.parse().unwrap()).await;
    }
    let (items, runs) = (number_of("TCAT_BENCH_ITEMS", 10_000), number_of("TCAT_BENCH_RUNS", 5));
    let (mut all, mut peers) = (Vec::new(), Vec::new());
    for run in 0..runs {
        all.push(ours(run, items));
        peers.push(peer(items).await);
    }
    all.sort_by(|a, b| a.seconds().total_cmp(&b.seconds()));
    peers.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    let (took, theirs) = (all[middle].seconds(), peers[middle]);
    println!(
        "claims/sqlite: ours {took:.2} s ({:.2} to {:.2}), peer {theirs:.2} s ({:.2} to {:.2}), ratio {:.2}, goal >={GOAL}; \
         {:.2} s of the world's time (ratio {:.2}), {:.2} s of one processor, {} items worked on twice",
        all[0].seconds(),
        all[all.len() - 1].seconds(),
        peers[0],
        peers[peers.len() - 1],
        theirs / took,
        all[middle].simulated_s,
        theirs / all[middle].simulated_s,
        all[middle].processor_s,
        all.iter().map(|run| run.twice).sum::<usize>(),
    );
    let seconds: Vec<_> = all.iter().map(|run| (run.simulated_s, run.processor_s)).collect();
    std::fs::create_dir_all("target/bench").unwrap();
    let report = serde_json::json!({
        "bench": "claims", "items": items, "nodes": NODES,
        "ours_simulated_and_processor_seconds": seconds, "peer_seconds": peers,
    });
    std::fs::write("target/bench/claims.json", format!("{report:#}\n")).unwrap();
}
