//! Two honest members, any number of liars, and the judgement of what became of them.

use super::member::Liar;
use crate::contents::Random;
use crate::laboratory::Laboratory;
use crate::node::Node;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};
use tcat::demo::verify::Digest;

/// How long what is promised within seconds may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(25);
/// More than this an attack may not make a node hold on to.
const GROWTH_MAX_KIB: u64 = 48 << 10;

/// An honest pair: anna is host, ben a member.
pub struct Scene<'a> {
    laboratory: &'a Laboratory,
    /// The host.
    pub anna: Node<'a>,
    /// The other one.
    pub ben: Node<'a>,
    /// What the verifier expects.
    pub files: BTreeMap<String, Digest>,
    random: Random,
    kib_before: [u64; 2],
}

impl<'a> Scene<'a> {
    /// Both run and have exchanged a file.
    pub fn new(laboratory: &'a Laboratory) -> Self {
        let (anna, ben) = laboratory.pair();
        let kib_before = [0; 2];
        let mut scene =
            Self { laboratory, anna, ben, files: BTreeMap::new(), random: Random::new(), kib_before };
        scene.goes_on();
        scene.kib_before = scene.kib();
        scene
    }

    fn kib(&self) -> [u64; 2] {
        [&self.anna, &self.ben].map(Node::resident_kib)
    }

    /// A client that was admitted with a code, for whoever wants to misuse it.
    pub fn liar(&self, name: &str) -> Liar {
        let node = self.laboratory.node(name);
        node.join(&self.anna.invite(), &[&self.anna]);
        Liar::of(&node)
    }

    /// Bytes that no file has yet.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        self.random.bytes(length)
    }

    /// A file that ben saves now is at anna's in seconds, and the other way round.
    #[track_caller]
    pub fn goes_on(&mut self) {
        let number = self.files.len();
        for (from, to, name) in [
            (&self.ben, &self.anna, format!("ben {number}.jpg")),
            (&self.anna, &self.ben, format!("anna {number}.jpg")),
        ] {
            let bytes = self.random.bytes(20_000);
            self.files.insert(name.clone(), from.save(&name, &bytes));
            until(&format!("{name} is at {}'s", to.name), || {
                std::fs::read(to.file(&name)).is_ok_and(|found| found == bytes)
            });
        }
    }

    /// The node has named the liar in its log, counted it, and dropped it.
    #[track_caller]
    pub fn is_refused(&self, node: &Node<'_>, liar: &Liar, kind: &str) {
        until(&format!("{} counts {kind:?} of {}", node.name, liar.name), || {
            self.refusals(node, liar).get(kind).is_some_and(|count| *count > 0)
        });
        let log = node.said();
        let short = liar.client.short();
        let named = log
            .lines()
            .any(|line| line.contains(&short) && (line.contains("refused: ") || line.contains("dropped: ")));
        assert!(named, "{} is not named by {}:\n{log}", liar.name, node.name);
    }

    /// How often the node refused something of the liar, by kind.
    pub fn refusals(&self, node: &Node<'_>, liar: &Liar) -> BTreeMap<String, u64> {
        let id = liar.client.to_string();
        node.status()
            .peers
            .into_iter()
            .find(|peer| peer.id == id)
            .map(|peer| peer.refusals)
            .unwrap_or_default()
    }

    /// Honest work goes on; nobody has grown; all folders are right, by a program that trusts no node.
    #[track_caller]
    pub fn ends_well(mut self) {
        self.goes_on();
        for node in [&self.ben, &self.anna, &self.ben] {
            node.settle();
        }
        for ((node, before), now) in [&self.anna, &self.ben].into_iter().zip(self.kib_before).zip(self.kib())
        {
            let growth = now.saturating_sub(before);
            eprintln!("{}: {before} KiB before, {now} KiB after", node.name);
            assert!(growth < GROWTH_MAX_KIB, "{} has grown by {growth} KiB", node.name);
            assert!(!node.said().contains("panicked"), "{}", node.said());
        }
        self.anna.stop();
        self.ben.stop();
        self.laboratory.judge(&self.anna, &[&self.anna, &self.ben], &self.files);
    }
}

/// Waits for it; panics if it does not come.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}
