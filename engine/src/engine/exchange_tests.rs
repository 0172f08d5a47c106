//! One engine and the ledgers of others: what arrives in any order, from whoever leaves things out or makes them up.

use super::tests::heartbeat_of_other;
use super::{Config, Engine, KeptEntry};
use crate::batch::{Batch, Keys, Piece, Record, Signature, leaf_hash};
use crate::clock::{Incarnation, Label, Stamp};
use crate::entry::{Entry, Field};
use crate::heads::{Head, LedgerSum};
use crate::ids::{ClientId, ItemId};
use crate::message::{Fetch, Heartbeat, Life, LifeBody, Message, Page};
use crate::planted::{Bug, Planted};
use crate::ports::{Effect, Event, Input, Now, Outcome, Output};
use crate::roster::{RosterMember, Standing};
use crate::store::MemoryStore;
use quickcheck::QuickCheck;
use std::collections::{BTreeMap, BTreeSet};

const ME: ClientId = ClientId([1; 32]);
const RELAY: ClientId = ClientId([2; 32]);
const OTHER_RELAY: ClientId = ClientId([3; 32]);
const OWNER: ClientId = ClientId([9; 32]);

/// A tag that names the signer.
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

/// What the owner of a ledger has written.
struct Owner {
    stamp: Stamp,
    live: BTreeMap<ItemId, (Stamp, Vec<u8>)>,
    pages: Vec<Page>,
}

fn item(number: u8) -> ItemId {
    ItemId([number; 16])
}

/// An entry that says something, in a field that this version does not know; or a tombstone.
fn entry(counter: u64, says: bool) -> Vec<u8> {
    let unknown = Field { tag: 900, bytes: counter.to_le_bytes().to_vec() };
    let label = Label { wall_ms: counter, logical: 0 };
    Entry { label, unknown: says.then_some(unknown).into_iter().collect(), ..Entry::default() }
        .encode()
        .unwrap()
}

impl Owner {
    fn new() -> Self {
        let stamp = Stamp { incarnation: Incarnation(50), counter: 0 };
        Self { stamp, live: BTreeMap::new(), pages: Vec::new() }
    }

    /// Writes one transaction; its page carries the head, as a push does.
    fn write(&mut self, numbers: &[(u8, bool)]) {
        let after = self.stamp;
        let unique: BTreeMap<_, _> = numbers.iter().copied().collect();
        let mut records = Vec::new();
        for (number, says) in unique {
            self.stamp.counter += 1;
            let entry = entry(self.stamp.counter, says);
            self.live.insert(item(number), (self.stamp, entry.clone()));
            records.push(Record { item: item(number), entry });
        }
        let batch =
            Batch::sign(OWNER, after.incarnation, after.counter + 1, records, &PaperKeys(OWNER)).unwrap();
        let head = Some(self.head());
        let through = self.stamp;
        // Who has nothing yet asks from the very beginning.
        let after = if after.counter == 0 { Stamp::default() } else { after };
        self.pages.push(Page { owner: OWNER, after, through, batches: vec![batch], more: false, head });
    }

    fn head(&self) -> Head {
        let mut sum = LedgerSum::default();
        for (item, (stamp, bytes)) in self.live.iter().filter(|(_, (_, bytes))| says(bytes)) {
            sum.add(item, *stamp, bytes);
        }
        Head::sign(&OWNER, self.stamp, sum.digest(), &PaperKeys(OWNER))
    }

    /// Everything in one page, as a stream from the beginning.
    fn stream(&self) -> Page {
        let batches = self.pages.iter().flat_map(|page| page.batches.clone()).collect();
        Page { after: Stamp::default(), batches, ..self.pages.last().unwrap().clone() }
    }

    /// The same as a repair asks for it: this incarnation alone.
    fn repair(&self, page: Page) -> Page {
        Page { after: Stamp { counter: 0, ..self.stamp }, ..page }
    }

    /// The entries that say something, as a member should keep them.
    fn kept(&self) -> BTreeSet<(Stamp, ItemId, Vec<u8>)> {
        let live = self.live.iter().filter(|(_, (_, bytes))| says(bytes));
        live.map(|(item, (stamp, bytes))| (*stamp, *item, bytes.clone())).collect()
    }
}

fn says(bytes: &[u8]) -> bool {
    !Entry::decode(bytes).unwrap().is_tombstone()
}

struct Member {
    engine: Engine<MemoryStore<Planted>>,
    now_ms: u64,
    sent: Vec<(ClientId, Message)>,
    dropped: Vec<ClientId>,
    repaired: usize,
}

impl Member {
    fn new() -> Self {
        Self::planted(None, &[ME, RELAY, OTHER_RELAY, OWNER])
    }

    fn planted(bug: Option<Bug>, roster: &[ClientId]) -> Self {
        let config = Config {
            me: ME,
            name: "me".into(),
            source_server: String::new(),
            lease_ms: 10_000,
            quiet_ms: 2_000,
            poll_ms: 5_000,
            listen_ms: 100,
            horizon_ms: 90 * 86_400_000,
            scan_interval_ms: 3_600_000,
            uploads_max: 4,
            downloads_max: 4,
            follow_deletions: false,
            old_root: false,
            brake: super::BrakeLimits::default(),
            manual_import: false,
        };
        let now = Now { mono_ms: 60_000, wall_ms: 1_700_000_000_000 };
        let store = MemoryStore::planted(Planted(bug));
        let engine = Engine::open(store, config, Box::new(PaperKeys(ME)), now, 7).unwrap();
        let (sent, dropped) = (Vec::new(), Vec::new());
        let mut member = Member { engine, now_ms: 60_000, sent, dropped, repaired: 0 };
        let standing = |client: &ClientId| (*client, Standing::Current);
        member.drain(&roster.iter().map(standing).collect::<Vec<_>>());
        member.input(Input::Connected(RELAY));
        member.input(Input::Connected(OTHER_RELAY));
        member
    }

    fn input(&mut self, input: Input) {
        let now = Now { mono_ms: self.now_ms, wall_ms: 1_700_000_000_000 + self.now_ms };
        self.engine.handle(now, input).unwrap();
        self.drain(&[]);
    }

    fn drain(&mut self, roster: &[(ClientId, Standing)]) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send(to, message) => self.sent.push((to, message)),
                Output::Drop(client) => self.dropped.push(client),
                Output::Event(Event::Repaired(..)) => self.repaired += 1,
                Output::Effect(id, Effect::VisitRoster(_)) if !roster.is_empty() => {
                    let member = |(client, standing): &(ClientId, Standing)| RosterMember {
                        client: *client,
                        stamp: Stamp::default(),
                        standing: *standing,
                        seen_ms: 0,
                    };
                    self.input(Input::Done(id, Outcome::Roster(roster.iter().map(member).collect())));
                }
                _ => {}
            }
        }
    }

    fn page(&mut self, from: ClientId, page: &Page) {
        self.input(Input::Message(from, Message::Page(page.clone())));
    }

    fn fetches(&self) -> Vec<(ClientId, Fetch)> {
        let fetch = |(to, message): &(ClientId, Message)| match message {
            Message::Fetch(fetch) => Some((*to, *fetch)),
            _ => None,
        };
        self.sent.iter().filter_map(fetch).collect()
    }

    fn kept(&mut self) -> BTreeSet<(Stamp, ItemId, Vec<u8>)> {
        let entries = self.engine.ledgers().unwrap();
        let of_owner = |(owner, stamp, item, bytes): KeptEntry| {
            (owner == OWNER && says(&bytes)).then_some((stamp, item, bytes))
        };
        entries.into_iter().filter_map(of_owner).collect()
    }

    fn whole(&self) -> Stamp {
        self.engine.report().whole.get(&OWNER)
    }
}

#[test]
fn pages_in_any_order_and_any_number_of_times_make_the_same_whole_ledger() {
    fn law(writes: Vec<Vec<(u8, bool)>>, order: Vec<u8>) -> bool {
        let mut owner = Owner::new();
        owner.write(&[(1, true)]);
        for numbers in writes.iter().filter(|numbers| !numbers.is_empty()) {
            owner.write(&numbers.iter().map(|(n, says)| (n % 8, *says)).collect::<Vec<_>>());
        }
        let mut member = Member::new();
        for at in &order {
            member.page(RELAY, &owner.pages[usize::from(*at) % owner.pages.len()].clone());
        }
        // Whatever came, what is missing is asked for and comes in order in the end; twice, to be sure.
        for page in owner.pages.iter().chain(&owner.pages) {
            member.page(OTHER_RELAY, page);
        }
        let in_step = member.kept() == owner.kept() && member.whole() == owner.stamp;
        // What it relays makes the next one whole as well.
        let mut next = Member::new();
        let stream = member.engine.page(OWNER, Stamp::default()).unwrap();
        next.page(RELAY, &stream);
        in_step
            && member.dropped.is_empty()
            && next.kept() == owner.kept()
            && next.whole() == owner.stamp
            && next.dropped.is_empty()
    }
    QuickCheck::new().tests(200).quickcheck(law as fn(_, _) -> bool);
}

fn some_ledger() -> Owner {
    let mut owner = Owner::new();
    owner.write(&[(1, true), (2, true), (3, true)]);
    owner.write(&[(4, true), (5, true)]);
    owner.write(&[(2, true), (6, true)]);
    owner
}

/// The page without its batch at `at`.
fn without_batch(page: &Page, at: usize) -> Page {
    let mut page = page.clone();
    page.batches.remove(at);
    page
}

#[test]
fn a_relay_that_leaves_out_a_batch_or_a_record_makes_no_ledger_whole_and_another_repairs_it() {
    let owner = some_ledger();
    let mut hidden = owner.stream();
    if let Some(Piece::Record(record)) = hidden.batches[1].pieces.first().cloned() {
        hidden.batches[1].pieces[0] = Piece::Pruned { records: 1, hash: leaf_hash(&record) };
    }
    for lie in [without_batch(&owner.stream(), 1), hidden] {
        let mut member = Member::new();
        member.page(RELAY, &lie);
        assert!(member.whole() < owner.stamp, "the head tells");
        let repair = Fetch { owner: OWNER, after: Stamp { counter: 0, ..owner.stamp } };
        assert!(member.fetches().contains(&(RELAY, repair)));
        member.page(RELAY, &owner.repair(lie));
        assert!(member.whole() < owner.stamp, "the same lie again repairs nothing");
        // Another member is whole, says so, and is asked.
        let head = owner.head();
        let heard = Heartbeat {
            vector: [(OWNER, owner.stamp)].into_iter().collect(),
            whole: crate::heads::WholeVector([(OWNER, head.named())].into_iter().collect()),
            ..heartbeat_of_other()
        };
        member.input(Input::Message(OTHER_RELAY, Message::Heartbeat(heard)));
        let page = Page { after: owner.stamp, batches: Vec::new(), ..owner.stream() };
        member.page(OTHER_RELAY, &page);
        assert!(member.fetches().contains(&(OTHER_RELAY, repair)));
        member.page(OTHER_RELAY, &owner.repair(owner.stream()));
        assert_eq!((member.whole(), member.kept()), (owner.stamp, owner.kept()));
        assert_eq!((member.repaired, member.dropped.len()), (1, 0));
    }
}

#[test]
fn an_entry_is_dropped_only_if_what_is_left_makes_up_the_owner_s_head() {
    let mut owner = some_ledger();
    let mut member = Member::new();
    member.page(RELAY, &owner.stream());
    assert_eq!(member.whole(), owner.stamp);
    // The owner removed two items, and all others have forgotten that while we were away.
    owner.write(&[(1, false), (5, false)]);
    owner.write(&[(7, true)]);
    let mut later = owner.pages.last().unwrap().clone();
    later.after = owner.pages[2].through;
    member.page(RELAY, &later);
    assert_eq!(member.kept().len(), owner.kept().len() + 2);
    // A stream that lacks more than the owner removed drops nothing...
    let mut short = owner.stream();
    short.batches.drain(..4);
    let before = member.kept();
    member.page(RELAY, &owner.repair(short));
    assert_eq!(member.kept(), before);
    // ...one that is as the owner has it drops the two.
    member.now_ms += 20_000;
    let proof = Page { after: owner.stamp, batches: Vec::new(), ..owner.stream() };
    member.page(OTHER_RELAY, &proof);
    let mut right = owner.stream();
    for batch in &mut right.batches {
        let live = |record: &Record| owner.live.get(&record.item).is_some_and(|(_, e)| *e == record.entry);
        for piece in &mut batch.pieces {
            if let Piece::Record(record) = piece
                && (!live(record) || !says(&record.entry))
            {
                *piece = Piece::Pruned { records: 1, hash: leaf_hash(record) };
            }
        }
    }
    member.page(OTHER_RELAY, &owner.repair(right));
    assert_eq!((member.whole(), member.kept()), (owner.stamp, owner.kept()));
}

#[test]
fn who_forges_a_head_or_a_sign_of_life_is_named_and_dropped_and_not_talked_to_for_a_while() {
    let owner = some_ledger();
    let mut forged = owner.stream();
    forged.head = Some(Head::sign(&OWNER, owner.stamp, [7; 32], &PaperKeys(RELAY)));
    let body = LifeBody {
        owner: OWNER,
        start: 5,
        beat: 1,
        vector: Default::default(),
        whole: Default::default(),
        echoes: BTreeMap::new(),
    };
    let life = Life::sign(&body, &PaperKeys(RELAY)).unwrap();
    let garbage = Life { body: vec![1, 2, 3], signature: Signature([0; 64]) };
    for message in [Message::Page(forged), Message::Life(life), Message::Life(garbage)] {
        let mut member = Member::new();
        member.input(Input::Message(RELAY, message));
        assert_eq!(member.dropped, [RELAY]);
        assert!(member.kept().is_empty());
        member.page(RELAY, &owner.stream());
        assert!(member.kept().is_empty(), "nothing it says is heard any more");
        member.input(Input::Connected(RELAY));
        assert_eq!(member.dropped, [RELAY, RELAY]);
        member.now_ms += 61_000;
        member.input(Input::Connected(RELAY));
        member.page(RELAY, &owner.stream());
        assert_eq!(member.kept(), owner.kept(), "it may have been mended");
    }
}

#[test]
fn each_sign_of_life_is_passed_on_once_however_often_its_client_started() {
    let mut member = Member::new();
    let hears_nobody = heartbeat_of_other();
    member.input(Input::Message(OTHER_RELAY, Message::Heartbeat(hears_nobody)));
    let life = |start| {
        let (vector, whole) = Default::default();
        let body = LifeBody { owner: OWNER, start, beat: 1, vector, whole, echoes: BTreeMap::new() };
        Message::Life(Life::sign(&body, &PaperKeys(OWNER)).unwrap())
    };
    let lives = |member: &Member| {
        member
            .sent
            .iter()
            .filter(|(to, message)| *to == OTHER_RELAY && matches!(message, Message::Life(_)))
            .count()
    };
    for start in 0..40 {
        member.input(Input::Message(RELAY, life(start)));
    }
    let passed_on = lives(&member);
    assert!(passed_on > 0);
    for start in 0..40 {
        member.input(Input::Message(RELAY, life(start)));
    }
    assert_eq!(lives(&member), passed_on, "what went round once must not go round again");
    member.now_ms += 10_001;
    member.input(Input::Message(RELAY, life(41)));
    assert_eq!(lives(&member), passed_on + 1, "starts that nobody hears any more make room");
}

#[test]
fn an_owner_that_is_in_no_roster_takes_no_place() {
    let owner = some_ledger();
    let mut member = Member::planted(None, &[ME, RELAY, OTHER_RELAY]);
    member.page(RELAY, &owner.stream());
    assert!(member.kept().is_empty());
    assert_eq!(member.engine.report().vector.get(&OWNER), Stamp::default());
    assert!(member.dropped.is_empty(), "it may be a newcomer of whom we have not read yet");
}

#[test]
fn fields_of_a_newer_version_are_relayed_as_they_came() {
    let relayed = |bug| {
        let owner = some_ledger();
        let mut member = Member::planted(bug, &[ME, RELAY, OTHER_RELAY, OWNER]);
        member.page(RELAY, &owner.stream());
        let stream = member.engine.page(OWNER, Stamp::default()).unwrap();
        let mut next = Member::new();
        next.page(RELAY, &stream);
        next.kept() == owner.kept()
    };
    assert!(relayed(None));
    assert!(!relayed(Some(Bug::FieldLostInRelay)), "S13");
}

#[test]
fn a_late_copy_of_an_old_entry_takes_nothing_back() {
    let late = |bug| {
        let owner = some_ledger();
        let mut member = Member::planted(bug, &[ME, RELAY, OTHER_RELAY, OWNER]);
        for page in owner.pages.iter().chain([&owner.pages[0], &owner.pages[1]]) {
            member.page(RELAY, page);
        }
        member.kept() == owner.kept()
    };
    assert!(late(None));
    assert!(!late(Some(Bug::OldReleaseFrees)), "S1");
}

#[test]
fn a_later_incarnation_takes_back_earlier_entries_only_when_it_is_whole() {
    let mut owner = some_ledger();
    let mut member = Member::new();
    member.page(RELAY, &owner.stream());
    // After a restore the owner knows fewer items; the first half of its new ledger comes without a head.
    owner.stamp = Stamp { incarnation: Incarnation(60), counter: 0 };
    owner.live.clear();
    owner.pages.clear();
    owner.write(&[(1, true)]);
    owner.write(&[(3, true)]);
    let mut first = owner.pages[0].clone();
    (first.head, first.more) = (None, true);
    member.page(RELAY, &first);
    assert_eq!(member.kept().len(), 6, "the copies of the earlier life still stand");
    member.page(RELAY, &owner.pages[1].clone());
    assert_eq!((member.whole(), member.kept()), (owner.stamp, owner.kept()));
}

#[test]
fn arbitrary_pages_and_signs_of_life_harm_nobody() {
    fn law(kind: u8, body: Vec<u8>, flips: Vec<(u16, u8)>) -> bool {
        let owner = some_ledger();
        let mut member = Member::new();
        let mut frame = Message::Page(owner.stream()).encode().unwrap();
        for (at, flip) in flips {
            let at = usize::from(at) % frame.len();
            frame[at] ^= flip;
        }
        let made_up = [&[1, kind % 8][..], &body].concat();
        for frame in [frame, made_up] {
            if let Ok(Some(message)) = Message::decode(&frame) {
                member.input(Input::Message(RELAY, message));
            }
        }
        member.kept().is_subset(&owner.kept()) || member.whole() < owner.stamp
    }
    QuickCheck::new().tests(300).quickcheck(law as fn(_, _, _) -> bool);
}
