//! Single inputs at one engine: what is too small or too odd for a whole simulated world.

mod folder;
mod gates;

use super::tasks::Job;
use super::{BrakeLimits, Config, Engine};
use crate::batch::{Batch, Keys, Record, Signature};
use crate::catalog::{
    CatalogEpoch, CatalogRow, ChainLink, FeedChange, FeedPage, FeedPosition, Revision, RowState,
};
use crate::clock::{Dot, Incarnation, Stamp, VersionVector};
use crate::content::{Blake3, Content, Md5};
use crate::entry::{Copy, Entry, FeedPlace};
use crate::ids::{ClientId, ItemId};
use crate::message::{Heartbeat, Message, Page};
use crate::observation::{Coverage, FileStat, Observation, Presence, Seen};
use crate::paths::MediaPath;
use crate::ports::{Effect, Event, Input, Now, Outcome, Output};
use crate::roster::{RosterMember, Standing};
use crate::store::MemoryStore;
use std::sync::Arc;

pub(super) const ME: ClientId = ClientId([1; 32]);
pub(super) const OTHER: ClientId = ClientId([2; 32]);

/// Every signature is as good as another.
pub(super) struct NoKeys;

impl Keys for NoKeys {
    fn sign(&self, _: &[u8]) -> Signature {
        Signature([0; 64])
    }
    fn verify(&self, _: &ClientId, _: &[u8], _: &Signature) -> bool {
        true
    }
}

/// A folder in which nothing can be told apart.
#[derive(Debug)]
pub(super) struct Fog;

impl Coverage for Fog {
    fn presence(&self, _: &MediaPath) -> Presence {
        Presence::Unknown
    }
}

/// A folder with nothing in it.
#[derive(Debug)]
pub(super) struct Bare;

impl Coverage for Bare {
    fn presence(&self, _: &MediaPath) -> Presence {
        Presence::NotSeen
    }
}

/// An engine, its time, and what it said.
pub(super) struct Bench {
    pub(super) engine: Engine<MemoryStore>,
    pub(super) now_ms: u64,
    wake_ms: u64,
    pub(super) outputs: Vec<Output>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(super) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            me: ME,
            name: "me".into(),
            source_server: "me".into(),
            lease_ms: 10_000,
            quiet_ms: 2_000,
            poll_ms: 5_000,
            listen_ms: 100,
            horizon_ms: 90 * 86_400_000,
            scan_interval_ms: 3_600_000,
            uploads_max: 4,
            downloads_max: 4,
            manual_import: false,
            follow_deletions: false,
            old_root: false,
            brake: BrakeLimits::default(),
        };
        change(&mut config);
        Self::open(MemoryStore::default(), config, 60_000)
    }

    fn open(store: MemoryStore, config: Config, now_ms: u64) -> Self {
        let now = Now { mono_ms: now_ms, wall_ms: 1_700_000_000_000 };
        let engine = Engine::open(store, config, Box::new(NoKeys), now, 7).unwrap();
        let mut bench = Bench { engine, now_ms, wake_ms: 0, outputs: Vec::new() };
        bench.drain();
        bench.answer_roster();
        bench
    }

    /// The same node after a crash, a minute later.
    pub(super) fn restarted(self) -> Self {
        let config = self.engine.config.clone();
        Self::open(self.engine.into_store(), config, self.now_ms + 60_000)
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::WakeAt(ms) => self.wake_ms = ms,
                other => self.outputs.push(other),
            }
        }
    }

    pub(super) fn input(&mut self, input: Input) {
        let now = Now { mono_ms: self.now_ms, wall_ms: 1_700_000_000_000 + self.now_ms };
        self.engine.handle(now, input).unwrap();
        self.drain();
    }

    /// Ticks when the engine wants to, and answers its readings of the feed, for so long. Returns how many ticks.
    pub(super) fn pass(&mut self, ms: u64) -> u64 {
        let (end_ms, mut ticks) = (self.now_ms + ms, 0);
        while self.wake_ms < end_ms {
            self.now_ms = self.now_ms.max(self.wake_ms);
            self.input(Input::Tick);
            self.answer_feed(Vec::new());
            self.answer_roster();
            ticks += 1;
        }
        self.now_ms = end_ms;
        ticks
    }

    pub(super) fn answer_feed(&mut self, changes: Vec<FeedChange>) {
        let number = self.engine.feed.position().number;
        self.answer_feed_to(number, changes);
    }

    pub(super) fn answer_feed_to(&mut self, number: u64, changes: Vec<FeedChange>) {
        let reading = self
            .outputs
            .iter()
            .rposition(|output| matches!(output, Output::Effect(_, Effect::ReadFeed { .. })));
        let Some(Output::Effect(id, _)) = reading.map(|at| self.outputs.remove(at)) else { return };
        let epoch = CatalogEpoch { number: 1, id: [1; 16] };
        let through = FeedPosition { epoch, number, id: [0; 16] };
        self.input(Input::Done(id, Outcome::Feed(Box::new(FeedPage { changes, through, more: false }))));
    }

    /// The roster has us and the other.
    fn answer_roster(&mut self) {
        let visiting = self
            .outputs
            .iter()
            .rposition(|output| matches!(output, Output::Effect(_, Effect::VisitRoster(_))));
        let Some(Output::Effect(id, _)) = visiting.map(|at| self.outputs.remove(at)) else { return };
        let member = |client| RosterMember {
            client,
            stamp: Stamp::default(),
            standing: Standing::Current,
            seen_ms: 0,
        };
        self.input(Input::Done(id, Outcome::Roster([ME, OTHER].map(member).into())));
    }

    pub(super) fn saw(&mut self, path: &str, seen: Seen) {
        let observations = vec![Observation { path: MediaPath::parse(path).unwrap(), seen }];
        self.input(Input::Observed { since_ms: self.now_ms, observations });
    }

    /// Time goes on, and the other is heard and hears us; or it is away.
    pub(super) fn at(&mut self, now_ms: u64, other_is_live: bool) {
        self.now_ms = now_ms;
        let peer = self.engine.peers.entry(OTHER).or_default();
        let heard_ms = other_is_live.then_some(now_ms);
        (peer.connected, peer.heard_ms, peer.echoed_ms) = (other_is_live, heard_ms, heard_ms);
        self.input(Input::Tick);
    }

    fn looks(&self) -> usize {
        self.outputs.iter().filter(|output| matches!(output, Output::Look(_))).count()
    }
}

#[test]
fn a_path_that_looks_say_nothing_of_keeps_nobody_from_resting() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    bench.answer_feed(Vec::new());
    // It was being written, and is ignored since.
    bench.saw("a.jpg", Seen::Busy);
    assert!(!bench.engine.report().at_rest);
    bench.pass(600_000);
    assert!(bench.engine.report().at_rest);
    assert_eq!(bench.looks(), 4);
}

#[test]
fn an_idle_engine_wakes_for_heartbeats_and_the_feed_alone() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    bench.answer_feed(Vec::new());
    // A heartbeat each two seconds, a reading each five; some more for rounding.
    assert!(bench.pass(100_000) <= 50 + 20 + 5);
}

#[test]
fn an_engine_that_waits_for_a_member_does_not_go_round_in_circles() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    bench.answer_feed(Vec::new());
    bench.input(Input::Connected(OTHER));
    bench.input(Input::Wait(1));
    bench.input(Input::Scanned(Arc::new(Fog)));
    assert!(bench.pass(100_000) <= 50 + 20 + 10);
}

#[test]
fn a_batch_with_two_entries_for_one_item_is_refused_whole() {
    let mut bench = Bench::new();
    bench.input(Input::Connected(OTHER));
    let record = Record { item: ItemId([5; 16]), entry: Entry::default().encode().unwrap() };
    let batch = Batch::sign(OTHER, Incarnation(9), 1, vec![record.clone(), record], &NoKeys).unwrap();
    let through = batch.last_stamp();
    let page = Page {
        owner: OTHER,
        after: Stamp::default(),
        through,
        batches: vec![batch],
        more: false,
        head: None,
    };
    bench.input(Input::Message(OTHER, Message::Page(page)));
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::Event(Event::Refused(OTHER, _)))));
    assert_eq!(bench.engine.report().vector.get(&OTHER), Stamp::default());
}

fn a_row(state: RowState, generation: u32) -> CatalogRow {
    let content = Content { md5: Md5([3; 16]), size: 4, blake3: None };
    let stamp = Stamp { incarnation: Incarnation(1), counter: 1 };
    CatalogRow { state, generation, chain: Vec::new(), ..row_of(ItemId([4; 16]), "a.jpg", content, stamp) }
}

/// An active row with one step in its chain, which the other made.
pub(super) fn row_of(item: ItemId, path: &str, content: Content, stamp: Stamp) -> CatalogRow {
    let revision = Revision(Dot { client: OTHER, stamp });
    CatalogRow {
        item,
        state: RowState::Active,
        revision,
        content,
        object: None,
        generation: 0,
        cache_path: MediaPath::parse(path).unwrap(),
        virtual_path: path.into(),
        content_type: "image/jpeg".into(),
        claim_epoch: 0,
        upload: true,
        version_of: None,
        chain: vec![ChainLink { revision, content }],
    }
}

#[test]
fn an_older_page_of_the_feed_takes_no_row_back() {
    let rising = [
        a_row(RowState::Pending { owner: OTHER }, 0),
        a_row(RowState::Active, 0),
        a_row(RowState::Active, 1),
        a_row(RowState::KillRequest, 1),
        a_row(RowState::KillWip, 1),
        a_row(RowState::KillComplete, 1),
    ];
    for (at, newer) in rising.iter().enumerate() {
        for older in &rising[..at] {
            let mut bench = Bench::new();
            bench.engine.apply_row(newer.clone()).unwrap();
            bench.engine.apply_row(older.clone()).unwrap();
            assert_eq!(bench.engine.row(&newer.item).unwrap().as_ref(), Some(newer));
        }
    }
}

/// An engine that has read a page of six changes, the first of its life, and lacks the file that one of them tells of.
fn lacks_a_file() -> (Bench, CatalogRow) {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    let row = a_row(RowState::Active, 0);
    bench.answer_feed_to(6, vec![FeedChange::Row(Box::new(row.clone()))]);
    (bench, row)
}

#[test]
fn a_mark_stops_before_the_very_first_page_of_the_feed_while_that_is_not_settled() {
    let (mut bench, _) = lacks_a_file();
    bench.pass(10_000);
    let mark = bench.engine.entry_of(&super::marks::NIL, &ME).unwrap().and_then(|(_, entry)| entry.mark);
    // Others read smaller pages: for them the change may have any number from 1 to 6.
    assert_eq!(mark.map_or(0, |place| place.number), 0);
}

#[test]
fn who_withdraws_all_that_it_said_of_an_item_leaves_no_word_to_its_mark() {
    let (mut bench, row) = lacks_a_file();
    let place = FeedPlace { epoch: CatalogEpoch { number: 1, id: [1; 16] }, number: 6 };
    bench.engine.stage(super::marks::NIL, Entry { mark: Some(place), ..Entry::default() });
    bench.input(Input::Tick);
    bench.engine.stage(row.item, Entry::default());
    bench.input(Input::Tick);
    // A tombstone would be forgotten, and the mark say that the file is here.
    let (_, entry) = bench.engine.entry_of(&row.item, &ME).unwrap().unwrap();
    assert_eq!(entry.copy, Some(Copy::default()));
    // Once the item is on its way out, no mark speaks for it.
    bench.engine.apply_row(CatalogRow { state: RowState::KillRequest, ..row.clone() }).unwrap();
    bench.engine.stage(row.item, Entry::default());
    bench.input(Input::Tick);
    let entry = bench.engine.entry_of(&row.item, &ME).unwrap();
    assert!(entry.is_none_or(|(_, entry)| entry.copy.is_none()), "only a claim to remove it");
}

#[test]
fn nobody_gets_a_path_at_which_another_s_file_is_just_being_put() {
    let (mut bench, row) = lacks_a_file();
    let path = |path| MediaPath::parse(path).unwrap();
    // The catalog has another path for it meanwhile.
    let to = path("before.jpg");
    assert!(bench.engine.claim_path(&row.item, &to).unwrap());
    bench.engine.begin(row.item, row.content, Job::Move { path: path("b.jpg"), to: to.clone() });
    let other = ItemId([6; 16]);
    assert!(!bench.engine.claim_path(&other, &path("Before.jpg")).unwrap());
    assert!(bench.engine.claim_path(&other, &path("b.jpg")).unwrap());
    bench.engine.end(row.item);
    assert!(bench.engine.claim_path(&other, &to).unwrap());
}

#[test]
fn what_could_not_be_read_under_another_spelling_and_is_gone_leaves_no_doubt() {
    let (mut bench, row) = lacks_a_file();
    bench.saw("A.jpg", Seen::Unreadable("the folder is not there".into()));
    assert!(bench.engine.watch.is_unknown(&row.item));
    bench.now_ms += 1_000;
    bench.input(Input::Scanned(Arc::new(Bare)));
    assert!(!bench.engine.watch.is_unknown(&row.item));
}

/// Two names of one file, of which the item's has the first or the second spelling; in one scan.
fn scan_two_links(bench: &mut Bench) {
    let content = a_row(RowState::Active, 0).content;
    let stat = FileStat { size: 4, mtime_ns: 5, ctime_ns: 6, file_id: 7 };
    let see = |path: &str| Observation {
        path: MediaPath::parse(path).unwrap(),
        seen: Seen::File { content, stat },
    };
    let since_ms = bench.now_ms;
    bench.now_ms += 1_000;
    // A large scan hands over what it found in several batches.
    bench.input(Input::Observed { since_ms, observations: vec![see("A.jpg")] });
    bench.input(Input::Observed { since_ms, observations: vec![see("a.jpg")] });
    bench.input(Input::Scanned(Arc::new(Fog)));
}

#[test]
fn two_links_whose_names_differ_in_case_alone_do_not_take_turns() {
    let (mut bench, row) = lacks_a_file();
    (0..3).for_each(|_| scan_two_links(&mut bench));
    let before = bench.engine.report().vector;
    (0..3).for_each(|_| scan_two_links(&mut bench));
    assert_eq!(bench.engine.report().vector, before);
    assert!(bench.engine.own_entry(&row.item).unwrap().held_content().is_some());
}

fn refusals(bench: &Bench) -> usize {
    bench.outputs.iter().filter(|output| matches!(output, Output::Event(Event::Refused(OTHER, _)))).count()
}

fn one_record_of(owner: ClientId, stamp: Stamp) -> Batch {
    let record = Record { item: ItemId([5; 16]), entry: Entry::default().encode().unwrap() };
    Batch::sign(owner, stamp.incarnation, stamp.counter, vec![record], &NoKeys).unwrap()
}

#[test]
fn a_page_that_claims_more_than_it_brings_moves_no_vector() {
    let third = ClientId([3; 32]);
    let (after, first) = (Stamp::default(), Stamp { incarnation: Incarnation(9), counter: 1 });
    let far = Stamp { incarnation: Incarnation(u64::MAX), counter: u64::MAX };
    for (batches, through) in [(vec![], far), (vec![], first), (vec![one_record_of(third, first)], far)] {
        let mut bench = Bench::new();
        bench.input(Input::Connected(OTHER));
        let page = Page { owner: third, after, through, batches, more: false, head: None };
        bench.input(Input::Message(OTHER, Message::Page(page)));
        assert_eq!(refusals(&bench), 1, "{through:?}");
        assert_eq!(bench.engine.report().vector.get(&third), Stamp::default());
    }
}

/// A heartbeat that says nothing.
pub(super) fn heartbeat_of_other() -> Heartbeat {
    Heartbeat {
        start: 1,
        beat: 1,
        name: "other".into(),
        vector: VersionVector::default(),
        feed: FeedPosition::default(),
        idle: true,
        echo: None,
        whole: Default::default(),
        hears: Vec::new(),
        roster: None,
    }
}

fn heartbeat(vector: VersionVector, name: &str) -> Message {
    Message::Heartbeat(Heartbeat { vector, name: name.into(), ..heartbeat_of_other() })
}

#[test]
fn only_what_we_signed_proves_that_we_were_restored() {
    let mut bench = Bench::new();
    bench.input(Input::Connected(OTHER));
    let incarnation = bench.engine.report().incarnation;
    let claimed = Stamp { incarnation: Incarnation(u64::MAX), counter: 5 };
    bench.input(Input::Message(OTHER, heartbeat([(ME, claimed)].into_iter().collect(), "liar")));
    assert_eq!(bench.engine.report().incarnation, incarnation, "a word alone proves nothing");
    let asked =
        |output: &Output| matches!(output, Output::Send(OTHER, Message::Fetch(fetch)) if fetch.owner == ME);
    assert!(bench.outputs.iter().any(asked), "the proof is asked for");
    let after = bench.engine.report().vector.get(&ME);
    let signed = Stamp { incarnation, counter: after.counter + 1 };
    let batches = vec![one_record_of(ME, signed)];
    let page = Page { owner: ME, after, through: signed, batches, more: false, head: None };
    bench.input(Input::Message(OTHER, Message::Page(page)));
    assert!(bench.engine.report().incarnation > incarnation);
}

#[test]
fn a_heartbeat_beyond_its_bounds_is_refused_with_its_sender_s_name() {
    let stamp = Stamp { incarnation: Incarnation(1), counter: 1 };
    let crowd: VersionVector = (0..65).map(|n| (ClientId([n; 32]), stamp)).collect();
    for message in [heartbeat(crowd, "a"), heartbeat(VersionVector::default(), &"x".repeat(257))] {
        let mut bench = Bench::new();
        bench.input(Input::Connected(OTHER));
        bench.outputs.clear();
        bench.input(Input::Message(OTHER, message));
        assert_eq!(refusals(&bench), 1);
        let fetches = bench.outputs.iter().filter(|o| matches!(o, Output::Send(_, Message::Fetch(_))));
        assert_eq!(fetches.count(), 0);
    }
}

#[test]
fn a_file_that_became_a_folder_is_no_longer_called_settled() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    bench.answer_feed(Vec::new());
    let content = Content { md5: Md5([3; 16]), size: 4, blake3: None };
    bench.saw("a.jpg", Seen::File { content, stat: FileStat::default() });
    let item = bench.engine.item_at(&MediaPath::parse("a.jpg").unwrap()).unwrap().unwrap();
    let settled = |bench: &Bench| bench.engine.report().resting.iter().all(|(resting, _)| *resting != item);
    assert!(settled(&bench));
    // Its import fails for now; what matters is what is said of the file.
    let import = bench.outputs.iter().find_map(|output| match output {
        Output::Effect(id, Effect::Create(_)) => Some(*id),
        _ => None,
    });
    bench.input(Input::Done(import.unwrap(), Outcome::Failed("later".into())));
    bench.input(Input::Rescan);
    bench.input(Input::Scanned(Arc::new(Fog)));
    bench.pass(60_000);
    assert!(!settled(&bench), "{:?}", bench.engine.report());
}

#[test]
fn what_was_kept_beside_without_a_task_becomes_a_version_of_the_item() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    bench.answer_feed(Vec::new());
    let file = |n: u8| Seen::File {
        content: Content { md5: Md5([n; 16]), size: 9, blake3: None },
        stat: FileStat { size: 9, mtime_ns: n.into(), ctime_ns: n.into(), file_id: n.into() },
    };
    let created = |bench: &mut Bench| {
        bench.outputs.drain(..).find_map(|output| match output {
            Output::Effect(_, Effect::Create(new)) => Some(new),
            _ => None,
        })
    };
    bench.saw("a.jpg", file(1));
    let item = created(&mut bench).unwrap().item;
    let [path, kept_as] = ["a.jpg", "a (me 1).jpg"].map(|text| MediaPath::parse(text).unwrap());
    bench.input(Input::KeptBeside { path, kept_as: kept_as.clone() });
    assert!(bench.outputs.contains(&Output::Event(Event::Conflict(item, kept_as))));
    bench.saw("a (me 1).jpg", file(2));
    assert_eq!(created(&mut bench).unwrap().version_of, Some(item));
    // A version whose file nobody knows any more is an item of its own.
    let [path, kept_as] = ["gone.jpg", "gone (me 1).jpg"].map(|text| MediaPath::parse(text).unwrap());
    bench.input(Input::KeptBeside { path, kept_as });
    bench.saw("gone (me 1).jpg", file(3));
    assert_eq!(created(&mut bench).unwrap().version_of, None);
}

#[test]
fn a_new_file_that_waits_for_a_person_to_import_it_is_offered_to_nobody() {
    for manual in [true, false] {
        let mut bench = Bench::with(|config| config.manual_import = manual);
        bench.input(Input::Scanned(Arc::new(Fog)));
        bench.answer_feed(Vec::new());
        let content = Content { md5: Md5([3; 16]), size: 4, blake3: Some(Blake3([3; 32])) };
        bench.saw("a.jpg", Seen::File { content, stat: FileStat::default() });
        let item = bench.engine.item_at(&MediaPath::parse("a.jpg").unwrap()).unwrap().unwrap();
        let copy = bench.engine.own_entry(&item).unwrap().copy.unwrap();
        assert_eq!(copy.held.as_ref().map(|held| held.content), Some(content));
        assert_eq!((copy.line.is_empty(), copy.travels()), (manual, !manual));
    }
}

#[test]
fn what_nobody_wrote_enters_no_line() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    bench.answer_feed(Vec::new());
    let content = |n: u8| Content { md5: Md5([n; 16]), size: 4, blake3: None };
    let stat = |ns| FileStat { size: 4, mtime_ns: ns, ctime_ns: ns, file_id: 1 };
    bench.saw("a.jpg", Seen::File { content: content(1), stat: stat(1) });
    let item = bench.engine.item_at(&MediaPath::parse("a.jpg").unwrap()).unwrap().unwrap();
    bench.saw("a.jpg", Seen::File { content: content(2), stat: stat(1) });
    let copy = bench.engine.own_entry(&item).unwrap().copy.unwrap();
    assert_eq!(copy.held.as_ref().map(|held| held.content), Some(content(2)));
    assert_eq!(copy.line.iter().map(|step| step.content).collect::<Vec<_>>(), [content(1)]);
    assert!(!copy.travels());
    bench.saw("a.jpg", Seen::File { content: content(3), stat: stat(2) });
    let copy = bench.engine.own_entry(&item).unwrap().copy.unwrap();
    assert_eq!(copy.line.last().map(|step| step.content), Some(content(3)));
}

#[test]
fn a_revision_is_never_offered_with_another_content() {
    let mut bench = Bench::new();
    bench.input(Input::Scanned(Arc::new(Fog)));
    let content = |n: u8| Content { md5: Md5([n; 16]), size: 4, blake3: None };
    bench.saw("a.jpg", Seen::File { content: content(1), stat: FileStat::default() });
    let item = bench.engine.item_at(&MediaPath::parse("a.jpg").unwrap()).unwrap().unwrap();
    let first = bench.engine.own_entry(&item).unwrap().copy.unwrap().line[0];
    // The same stat, other bytes: nobody wrote that. Then the catalog can be read, and the file is imported.
    bench.saw("a.jpg", Seen::File { content: content(2), stat: FileStat::default() });
    bench.answer_feed(Vec::new());
    let new = bench.outputs.iter().find_map(|output| match output {
        Output::Effect(_, Effect::Create(new)) => Some(new.clone()),
        _ => None,
    });
    let new = new.unwrap();
    assert_eq!(new.content, content(2));
    assert_ne!(new.revision, first.revision);
    let line = bench.engine.own_entry(&item).unwrap().copy.unwrap().line;
    assert_eq!(line.last().map(|step| (step.revision, step.content)), Some((new.revision, content(2))));
}
