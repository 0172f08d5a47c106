//! The story that the demo tells, scene by scene.
//!
//! Holds always: what a scene says, it has seen: by the public command line, or in the folders themselves. Every file
//! that a scene saves is noted in the expectation that the judge compares with at the end.

mod sharing;
mod trouble;

use super::nodes::Node;
use super::stage::Stage;
use super::verify::{self, Digest, Expectation, Report};
use crate::output::Failure;
use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// How long nodes may take to meet, or to lose sight of each other.
const MEETING: Duration = Duration::from_secs(20);
/// How long a content may take to come.
const COMING: Duration = Duration::from_secs(25);

/// Cloud fetches of the contents that one scene made.
struct Tally {
    what: &'static str,
    items: u64,
    fetches: u64,
    /// How often an item may be fetched.
    allowed: Allowed,
}

/// How often each content of a scene may be fetched from the cloud.
enum Allowed {
    /// It was nowhere else, and nobody failed meanwhile.
    Once,
    /// A node that fails, or has not met the others yet, may fetch what another one fetches too.
    Any,
}

/// The nodes, and what has happened so far.
pub struct Story<'a> {
    stage: &'a Stage,
    nodes: Vec<Node<'a>>,
    expected: Expectation,
    tallies: Vec<Tally>,
}

impl<'a> Story<'a> {
    /// Nothing has happened yet.
    pub fn new(stage: &'a Stage, nodes: Vec<Node<'a>>) -> Self {
        Self { stage, nodes, expected: Expectation::default(), tallies: Vec::new() }
    }

    /// The nodes, first to last.
    pub fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    /// All nodes end cleanly, so that the judge sees what is on disk.
    pub fn all_stop(&mut self) -> Result<(), Failure> {
        self.stage.title("The verification trusts no node")?;
        self.nodes.iter_mut().try_for_each(Node::stop)?;
        self.stage.say("all nodes have stopped; reading every file, the catalog and every object")
    }

    /// The judge's report.
    pub fn verify(&self) -> Result<Report, Failure> {
        let first = &self.nodes[0];
        Ok(verify::verify(&self.places(), &first.catalog(), &first.objects(), &self.expected))
    }

    /// How many cloud fetches an item took.
    pub fn cloud_lines(&self) -> Vec<String> {
        let line = |tally: &Tally| {
            let each = tally.fetches as f64 / tally.items.max(1) as f64;
            format!(
                "cloud fetches for {}: {} for {} items, {each:.2} an item",
                tally.what, tally.fetches, tally.items
            )
        };
        self.tallies.iter().map(line).collect()
    }

    /// Promise 3: each content crosses once, where nobody failed on the way.
    pub fn wrong_fetches(&self) -> Vec<String> {
        let is_wrong = |tally: &&Tally| match tally.allowed {
            Allowed::Once => tally.fetches != tally.items,
            Allowed::Any => false,
        };
        let wrong = self.tallies.iter().filter(is_wrong);
        wrong.map(|tally| format!("{} did not cross once from the cloud", tally.what)).collect()
    }

    /// Waits until the given nodes all hear each other; how long that took.
    fn meet(&self, who: std::ops::Range<usize>) -> Result<Duration, Failure> {
        let start = Instant::now();
        let names: Vec<&str> = self.nodes[who.clone()].iter().map(|node| node.name.as_str()).collect();
        for node in &self.nodes[who] {
            loop {
                let status = node.status()?;
                let heard = |name: &&str| status.peers.iter().any(|peer| peer.alive && peer.name == **name);
                let missing: Vec<&str> =
                    names.iter().filter(|name| **name != node.name && !heard(name)).copied().collect();
                if missing.is_empty() {
                    break;
                }
                if start.elapsed() > MEETING {
                    let why = format!("no sign of life for {} s", MEETING.as_secs());
                    let what = format!("{} does not find {}", node.name, missing.join(", "));
                    return Err(Failure::new(what, why, "see the logs"));
                }
                thread::sleep(Duration::from_millis(60));
            }
        }
        Ok(start.elapsed())
    }

    fn settle_all(&self) -> Result<(), Failure> {
        self.settle(0..self.nodes.len())
    }

    /// `tcat wait` on several nodes at once.
    fn settle(&self, who: std::ops::Range<usize>) -> Result<(), Failure> {
        thread::scope(|scope| {
            let waits: Vec<_> = self.nodes[who].iter().map(|node| scope.spawn(|| node.settle())).collect();
            for wait in waits {
                wait.join().unwrap_or_else(|_| Err(cannot("wait", &"a thread failed")))?;
            }
            Ok(())
        })
    }

    /// Waits until a node has this content at this path.
    fn wait_for(&self, index: usize, path: &str, md5: &Digest) -> Result<(), Failure> {
        let node = &self.nodes[index];
        let deadline = Instant::now() + COMING;
        while verify::hash_file(&node.file(path)).map_or(true, |(found, _)| found != *md5) {
            if Instant::now() > deadline {
                let what = format!("{path} does not reach {}", node.name);
                let why = format!("it is not there after {} s", COMING.as_secs());
                return Err(Failure::new(what, why, "see the logs"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Cuts a node's link and waits until it has lost sight of all others.
    fn cut_off(&mut self, index: usize) -> Result<(), Failure> {
        self.nodes[index].cut_link()?;
        let deadline = Instant::now() + MEETING;
        while let Some(peer) = self.nodes[index].status()?.peers.into_iter().find(|peer| peer.alive) {
            if Instant::now() > deadline {
                let what = format!("{} is not alone behind its cut link", self.nodes[index].name);
                return Err(Failure::new(what, format!("it hears {}", peer.name), "please report this"));
            }
            thread::sleep(Duration::from_millis(60));
        }
        Ok(())
    }

    /// Mends a node's link.
    fn mend(&mut self, index: usize) -> Result<(), Failure> {
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != index);
        let peers: Vec<String> = others.map(|(_, node)| node.address()).collect();
        self.nodes[index].mend_link(&peers)
    }

    fn cloud_fetches(&self, who: std::ops::Range<usize>) -> Result<u64, Failure> {
        self.nodes[who].iter().map(|node| Ok(node.status()?.cloud_fetches)).sum()
    }
}

fn cannot(what: &str, why: &impl Display) -> Failure {
    Failure::new(format!("the demo cannot {what}"), why, "mend that and start the demo again")
}
