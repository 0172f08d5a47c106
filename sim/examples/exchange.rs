//! The figure `exchange`: how many bytes and how long it takes until two members are in step again.
//!
//! Two engines know one ledger of a million entries; one of them has heard of changes to one in a hundred. Counted are
//! all bytes that go either way from the moment when they meet, against the bytes of the entries that differ (the
//! item's id and the entry), and the processor time of both engines, over stores in memory (the time
//! by the clock is in the JSON too: it depends on what else the machine does). The first line has the
//! changes in transactions of 256, as bulk work makes them; the second each in a transaction of its own, where every
//! entry carries a signature. Left out: disks and the network.
//!
//! `cargo xtask bench exchange`; `TCAT_BENCH_ENTRIES` for another number of entries.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on has nothing to say"
)]

#[path = "parts/processor.rs"]
mod processor;

use processor::processor_seconds;
use std::time::Instant;
use tcat_engine::batch::{Batch, Keys, Record, Signature};
use tcat_engine::catalog::{ChainLink, Revision};
use tcat_engine::clock::{Dot, Incarnation, Stamp};
use tcat_engine::content::{Blake3, Content, Md5};
use tcat_engine::engine::{Config, Engine};
use tcat_engine::entry::{Copy, Entry, Held};
use tcat_engine::heads::{Head, LedgerSum};
use tcat_engine::ids::{ClientId, ItemId};
use tcat_engine::message::{Message, Page};
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::{Effect, Input, Now, Outcome, Output};
use tcat_engine::roster::{RosterMember, Standing};
use tcat_engine::store::MemoryStore;

const OWNER: ClientId = ClientId([9; 32]);
const BYTES_LIMIT: f64 = 1.2;
const SECONDS_LIMIT: f64 = 1.0;
const RUNS: usize = 5;

/// A tag that names the signer: signatures are few and cost microseconds each.
struct PaperKeys(ClientId);

impl Keys for PaperKeys {
    fn sign(&self, bytes: &[u8]) -> Signature {
        let mut out = [0; 64];
        blake3::Hasher::new_keyed(&self.0.0).update(bytes).finalize_xof().fill(&mut out);
        Signature(out)
    }
    fn verify(&self, client: &ClientId, bytes: &[u8], signature: &Signature) -> bool {
        PaperKeys(*client).sign(bytes) == *signature
    }
}

/// The owner's side: what it has written so far.
struct Owner {
    stamp: Stamp,
    sum: LedgerSum,
    entries: Vec<(Stamp, Vec<u8>)>,
}

fn item(number: usize) -> ItemId {
    ItemId::derive("bench", &[&number.to_le_bytes()])
}

/// An entry as a settled picture has it.
fn entry(number: usize, stamp: Stamp) -> Vec<u8> {
    let digest = *blake3::hash(&[number.to_le_bytes(), stamp.counter.to_le_bytes()].concat()).as_bytes();
    let mut md5 = [0; 16];
    md5.copy_from_slice(&digest[..16]);
    let content = Content { md5: Md5(md5), size: 4_000_000, blake3: Some(Blake3(digest)) };
    let path = MediaPath::parse(&format!("2024/summer/IMG_{number:06}.jpg")).unwrap();
    let base = ChainLink { revision: Revision(Dot { client: OWNER, stamp }), content };
    let held = Held { content, path, cached_date_ms: 1_700_000_000_000 };
    let copy = Copy { held: Some(held), base: Some(base), line: Vec::new() };
    Entry { copy: Some(copy), ..Entry::default() }.encode().unwrap()
}

impl Owner {
    /// Writes entries for some items, so many in a transaction, and hands out the pages; the last has the head.
    fn write(&mut self, numbers: &[usize], at_once: usize) -> (Vec<Page>, u64) {
        let (mut pages, mut bytes) = (Vec::new(), 0);
        let chunks = numbers.chunks(at_once).collect::<Vec<_>>();
        for page in chunks.chunks((2048 / at_once).max(1)) {
            // Who has nothing yet asks from the very beginning.
            let after = if self.stamp.counter == 0 { Stamp::default() } else { self.stamp };
            let batches: Vec<_> = page.iter().map(|numbers| self.transaction(numbers, &mut bytes)).collect();
            let through = self.stamp;
            pages.push(Page { owner: OWNER, after, through, batches, more: false, head: None });
        }
        let head = Head::sign(&OWNER, self.stamp, self.sum.digest(), &PaperKeys(OWNER));
        pages.last_mut().unwrap().head = Some(head);
        (pages, bytes)
    }

    fn transaction(&mut self, numbers: &[usize], bytes: &mut u64) -> Batch {
        let mut records = Vec::new();
        let first = self.stamp.counter + 1;
        for number in numbers {
            self.stamp.counter += 1;
            let (item, entry) = (item(*number), entry(*number, self.stamp));
            *bytes += 16 + entry.len() as u64;
            if let Some((stamp, old)) = self.entries.get(*number) {
                self.sum.remove(&item, *stamp, old);
            }
            self.sum.add(&item, self.stamp, &entry);
            let known = (self.stamp, entry.clone());
            match self.entries.get_mut(*number) {
                Some(slot) => *slot = known,
                None => self.entries.push(known),
            }
            records.push(Record { item, entry });
        }
        Batch::sign(OWNER, self.stamp.incarnation, first, records, &PaperKeys(OWNER)).unwrap()
    }
}

struct Member {
    id: ClientId,
    engine: Engine<MemoryStore>,
    now_ms: u64,
}

impl Member {
    fn open(byte: u8, store: MemoryStore) -> Self {
        let id = ClientId([byte; 32]);
        let config = Config {
            me: id,
            name: format!("member {byte}"),
            source_server: String::new(),
            lease_ms: 10_000,
            quiet_ms: 2_000,
            poll_ms: 1_000,
            listen_ms: 150,
            horizon_ms: 90 * 86_400_000,
            scan_interval_ms: 600_000,
            uploads_max: 4,
            downloads_max: 8,
            follow_deletions: false,
            old_root: false,
            brake: tcat_engine::engine::BrakeLimits::default(),
            manual_import: false,
        };
        let now = Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 };
        let engine = Engine::open(store, config, Box::new(PaperKeys(id)), now, u64::from(byte)).unwrap();
        Member { id, engine, now_ms: 1_000 }
    }

    /// Takes an input; returns the frames that it makes this member send.
    fn take(&mut self, input: Input) -> Vec<Vec<u8>> {
        let now = Now { mono_ms: self.now_ms, wall_ms: 1_700_000_000_000 };
        self.engine.handle(now, input).unwrap();
        let (mut frames, mut visits) = (Vec::new(), Vec::new());
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send(_, message) => frames.push(message.encode().unwrap()),
                Output::Effect(id, Effect::VisitRoster(_)) => visits.push(id),
                _ => {}
            }
        }
        for id in visits {
            let members = [ClientId([1; 32]), ClientId([2; 32]), OWNER].map(|client| RosterMember {
                client,
                stamp: Stamp::default(),
                standing: Standing::Current,
                seen_ms: 0,
            });
            frames.extend(self.take(Input::Done(id, Outcome::Roster(members.into()))));
        }
        frames
    }

    fn learn(&mut self, pages: &[Page]) {
        self.take(Input::Connected(OWNER));
        for page in pages {
            self.take(Input::Message(OWNER, Message::Page(page.clone())));
        }
        while self.engine.report().unsettled > 0 {
            self.take(Input::Tick);
        }
        self.take(Input::Disconnected(OWNER));
        assert_eq!(self.engine.report().whole.get(&OWNER), pages.last().unwrap().through);
    }
}

/// Lets two members meet; returns the bytes that they exchanged until the second is whole, and the seconds
/// of the processor and of the clock.
fn meet(one: &mut Member, two: &mut Member, target: Stamp) -> (u64, f64, f64) {
    let began = Instant::now();
    let before = processor_seconds(began);
    let (mut bytes, ids) = (0, [one.id, two.id]);
    let mut frames: Vec<(usize, Vec<u8>)> = Vec::new();
    for member in [&mut *one, &mut *two] {
        member.take(Input::Tick);
    }
    frames.extend(one.take(Input::Connected(two.id)).into_iter().map(|frame| (1, frame)));
    frames.extend(two.take(Input::Connected(one.id)).into_iter().map(|frame| (0, frame)));
    while two.engine.report().whole.get(&OWNER) != target {
        assert!(!frames.is_empty(), "nothing is said any more");
        for (to, frame) in std::mem::take(&mut frames) {
            bytes += frame.len() as u64;
            let message = Message::decode(&frame).unwrap().unwrap();
            let member = if to == 0 { &mut *one } else { &mut *two };
            let answers = member.take(Input::Message(ids[1 - to], message));
            frames.extend(answers.into_iter().map(|frame| (1 - to, frame)));
        }
    }
    (bytes, processor_seconds(began) - before, began.elapsed().as_secs_f64())
}

fn main() {
    let entries: usize =
        std::env::var("TCAT_BENCH_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let stamp = Stamp { incarnation: Incarnation(1 << 60), counter: 0 };
    let mut owner = Owner { stamp, sum: LedgerSum::default(), entries: Vec::new() };
    let (pages, _) = owner.write(&(0..entries).collect::<Vec<_>>(), 256);
    let mut behind = Member::open(1, MemoryStore::default());
    behind.learn(&pages);
    drop(pages);
    let store = behind.engine.into_store();
    // One in a hundred, spread over all of them.
    let changed: Vec<_> = (0..entries / 100).map(|n| (n * 7919) % entries).collect();
    let mut lines = Vec::new();
    for (name, at_once) in [("exchange", 256), ("exchange-singles", 1)] {
        let mut of_run = Owner { stamp: owner.stamp, sum: owner.sum.clone(), entries: owner.entries.clone() };
        let (pages, differing) = of_run.write(&changed, at_once);
        let mut ahead = Member::open(2, store.clone());
        ahead.learn(&pages);
        let ahead_store = ahead.engine.into_store();
        let (mut bytes, mut seconds, mut by_clock) = (0, Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let mut one = Member::open(2, ahead_store.clone());
            let mut two = Member::open(1, store.clone());
            let (moved, took, passed) = meet(&mut one, &mut two, of_run.stamp);
            bytes = moved;
            seconds.push(took);
            by_clock.push(passed);
        }
        seconds.sort_by(f64::total_cmp);
        let (ratio, took) = (bytes as f64 / differing as f64, seconds[RUNS / 2]);
        println!(
            "{name}-bytes/limit: ours {ratio:.3} x, peer {BYTES_LIMIT:.3} x, ratio {:.2}, goal <=1",
            ratio / BYTES_LIMIT
        );
        println!(
            "{name}-time/limit: ours {took:.3} s, peer {SECONDS_LIMIT:.3} s, ratio {:.2}, goal <=1",
            took / SECONDS_LIMIT
        );
        lines.push(format!(
            "{{\"bench\":\"{name}\",\"entries\":{entries},\"bytes\":{bytes},\"differing_bytes\":{differing},\
             \"processor_seconds\":{seconds:?},\"seconds\":{by_clock:?}}}"
        ));
    }
    std::fs::create_dir_all("target/bench").unwrap();
    std::fs::write("target/bench/exchange.json", format!("[{}]\n", lines.join(",\n"))).unwrap();
}
