//! The model of the catalog and the one in SQLite answer alike: the same orders, by chance, to both.
//!
//! What may differ is what is random in each life: the ids of feed rows and of the first epoch.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use tcat_engine::catalog::{
    CatalogEpoch, ChainLink, Commit, Committed, Created, FeedChange, FeedPosition, NewItem, Refusal, Revision,
};
use tcat_engine::catalog_orders::{Kill, KillStep, Killing, NewEpoch, Offer, Offered, Unsound};
use tcat_engine::clock::{Dot, Incarnation, Stamp};
use tcat_engine::content::Content;
use tcat_engine::ids::{ClientId, ItemId, ObjectId, WorkgroupId};
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::Object;
use tcat_sim::catalog::Catalog as Model;
use tcat_sim::random::Random;
use tcat_sim::world::content;
use tcat_storage::catalog::{Catalog, CatalogError, Intended, NewWorkgroup, SqliteCatalog};

const ANNA: ClientId = ClientId([0xaa; 32]);
const ITEMS: u64 = 3;

/// One order; what it answers is compared as text.
#[derive(Clone, Debug)]
enum Order {
    Create(NewItem),
    Intend(Object),
    Commit(Commit),
    Kill(Kill),
    Unsound(Unsound),
    Offer(Vec<FeedChange>),
    NewEpoch(NewEpoch),
}

/// Both catalogs.
struct Pair {
    model: Model,
    sqlite: SqliteCatalog,
}

fn item(n: u64) -> ItemId {
    ItemId::derive("test", &[&n.to_le_bytes()])
}

/// A revision of an item stands for one content, as in life; some are of two items, to be refused.
fn link(n: u64) -> ChainLink {
    let stamp = Stamp { incarnation: Incarnation(1 << 50), counter: 1 + n };
    ChainLink { revision: Revision(Dot { client: ANNA, stamp }), content: content(n % 12) }
}

fn object(item: ItemId, content: &Content, generation: u32) -> ObjectId {
    ObjectId::derive("tcat 1 object", &[&item.0, &content.key(), &generation.to_le_bytes()])
}

impl Pair {
    async fn new(folder: &Path) -> Self {
        let workgroup = NewWorkgroup {
            id: WorkgroupId([7; 16]),
            name: "studio".into(),
            server_path: "/srv".into(),
            cache_root: "cache".into(),
        };
        let sqlite = SqliteCatalog::create(&folder.join("catalog.db"), &workgroup).await.unwrap();
        sqlite.admit(ANNA, "anna").await.unwrap();
        Self { model: Model::default(), sqlite }
    }

    /// What both say of all items and of the feed.
    async fn same_facts(&self) {
        let theirs = self.sqlite.feed(FeedPosition::default(), 1000).await.unwrap();
        let ours = self.model.read_feed(FeedPosition::default(), 1000).unwrap();
        let sorted = |mut changes: Vec<FeedChange>| {
            changes.sort_by_key(FeedChange::item);
            changes
        };
        assert_eq!(sorted(ours.changes), sorted(theirs.changes));
        assert_eq!((ours.through.number, ours.more), (theirs.through.number, theirs.more));
    }

    /// Gives an order to both; each is told the epoch that it has, unless a wrong one is wanted.
    async fn give(&mut self, order: &Order, wrong_epoch: bool) {
        let wrong = CatalogEpoch { number: 99, id: [9; 16] };
        let own = self.model.epoch();
        let ours = self.ask_model(order, if wrong_epoch { wrong } else { own });
        let own = self.sqlite.epoch().await.unwrap();
        let theirs = self.ask_sqlite(order, if wrong_epoch { wrong } else { own }).await;
        assert_eq!(ours, theirs, "{order:?}");
    }

    fn ask_model(&mut self, order: &Order, epoch: CatalogEpoch) -> String {
        match order.clone() {
            Order::Create(new) => self.model.create(&new).map_or("refused Revision".into(), created),
            Order::Intend(object) => self.model.intend(&object).to_string(),
            Order::Commit(commit) => committed(self.model.commit(&Commit { catalog_epoch: epoch, ..commit })),
            Order::Kill(kill) => killing(self.model.kill(&Kill { catalog_epoch: epoch, ..kill })),
            Order::Unsound(order) => {
                committed(self.model.unsound(&Unsound { catalog_epoch: epoch, ..order }))
            }
            Order::Offer(facts) => {
                offered(self.model.offer(&Offer { facts, catalog_epoch: epoch, author: ANNA }))
            }
            Order::NewEpoch(order) => {
                let seen = if order.seen.number == 0 { epoch } else { order.seen };
                self.model.new_epoch(&NewEpoch { seen, ..order }).number.to_string()
            }
        }
    }

    async fn ask_sqlite(&self, order: &Order, epoch: CatalogEpoch) -> String {
        let taken = |error: CatalogError| match error {
            CatalogError::ObjectTaken { .. } => "refused Condemned".to_owned(),
            CatalogError::RevisionReused { .. } => "refused Revision".to_owned(),
            other => panic!("{other}"),
        };
        match order.clone() {
            Order::Create(new) => self.sqlite.create(&new).await.map_or_else(taken, created),
            Order::Intend(Object { id, item, content, generation }) => {
                let answer = self.sqlite.intend(id, item, &content, generation, ANNA).await;
                matches!(answer, Ok(Intended::Registered | Intended::Live)).to_string()
            }
            Order::Commit(commit) => {
                let commit = Commit { catalog_epoch: epoch, ..commit };
                self.sqlite.commit(&commit).await.map_or_else(taken, committed)
            }
            Order::Kill(kill) => {
                killing(self.sqlite.kill(&Kill { catalog_epoch: epoch, ..kill }).await.unwrap())
            }
            Order::Unsound(order) => {
                committed(self.sqlite.unsound(&Unsound { catalog_epoch: epoch, ..order }).await.unwrap())
            }
            Order::Offer(facts) => {
                let offer = Offer { facts, catalog_epoch: epoch, author: ANNA };
                offered(self.sqlite.offer(&offer).await.unwrap())
            }
            Order::NewEpoch(order) => {
                let seen = if order.seen.number == 0 { epoch } else { order.seen };
                self.sqlite.new_epoch(&NewEpoch { seen, ..order }).await.unwrap().number.to_string()
            }
        }
    }
}

fn created(answer: Created) -> String {
    format!("{answer:?}")
}

fn committed(answer: Committed) -> String {
    match answer {
        Committed::Row(row) => format!("{row:?}"),
        // Which row stands there is compared with all facts.
        Committed::Refused { why, .. } => format!("refused {why:?}"),
    }
}

fn killing(answer: Killing) -> String {
    match answer {
        Killing::Row { row, mut objects } => {
            objects.sort();
            format!("{row:?} {objects:?}")
        }
        Killing::Removed(record) => format!("{record:?}"),
        Killing::Refused { why, .. } => format!("refused {why:?}"),
    }
}

fn offered(answer: Offered) -> String {
    match answer {
        Offered::Taken => "taken".into(),
        Offered::Refused(why) => format!("refused {why:?}"),
    }
}

/// An order that is likely to mean something to the rows that are there.
fn order(random: &mut Random, rows: &Model, known: &[FeedChange]) -> Order {
    let id = item(random.below(ITEMS));
    let row = rows.rows().find(|row| row.item == id).cloned();
    let revision = row.as_ref().map_or(link(0).revision, |row| row.revision);
    let stale = random.below(5) == 0;
    let base = if stale { link(random.below(20)).revision } else { revision };
    let claim_epoch = random.below(4);
    let none = CatalogEpoch::default();
    match random.below(16) {
        0..=2 => {
            let first = link(random.below(20));
            Order::Create(NewItem {
                item: id,
                revision: first.revision,
                asked_path: MediaPath::parse(["a.jpg", "A.JPG", "b/c.jpg"][random.below(3) as usize])
                    .unwrap(),
                content: first.content,
                earlier: (0..random.below(3)).map(|_| link(random.below(40))).collect(),
                content_type: "image/jpeg".into(),
                author: ANNA,
                author_name: "anna".into(),
                source_server: "/media".into(),
                version_of: None,
            })
        }
        3..=8 => {
            let line: Vec<_> = (0..random.below(3)).map(|_| link(random.below(40))).collect();
            let last = line.last().map(|link| link.content).or(row.as_ref().map(|row| row.content));
            let last = last.unwrap_or(content(1));
            let generation = row.map_or(0, |row| row.generation) + u32::from(random.below(4) == 0);
            let generation = if line.is_empty() { generation } else { random.below(2) as u32 };
            let object = object(id, &last, generation);
            let (catalog_epoch, author) = (none, ANNA);
            if random.below(4) == 0 {
                return Order::Intend(Object { id: object, item: id, content: last, generation });
            }
            Order::Commit(Commit {
                item: id,
                base,
                line,
                object,
                generation,
                claim_epoch,
                catalog_epoch,
                author,
            })
        }
        9..=11 => {
            let step = [KillStep::Request, KillStep::Condemn, KillStep::Complete][random.below(3) as usize];
            Order::Kill(Kill {
                step,
                item: id,
                revision: base,
                claim_epoch,
                catalog_epoch: none,
                author: ANNA,
            })
        }
        12 => {
            let object = row.map_or(object(id, &content(1), 0), |row| row.object_name());
            let author = ANNA;
            Order::Unsound(Unsound { item: id, revision: base, object, catalog_epoch: none, author })
        }
        13 => {
            let (above, author) = (random.below(5), ANNA);
            Order::NewEpoch(NewEpoch { seen: none, above, id: [5; 16], author })
        }
        _ => {
            let some = known.iter().filter(|_| random.below(2) == 0).take(5).cloned().collect();
            Order::Offer(some)
        }
    }
}

#[tokio::test]
async fn the_model_and_sqlite_answer_every_order_alike() {
    let (mut orders, mut refusals) = (0, 0);
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let mut pair = Pair::new(folder.path()).await;
        // What another life of the catalog came to know: offered now and then.
        let mut other = Model::default();
        let mut known = Vec::new();
        for _ in 0..25 {
            let next = order(&mut random, &other, &[]);
            let epoch = other.epoch();
            let mut elsewhere = Pair { model: other, sqlite: pair.sqlite };
            elsewhere.ask_model(&next, epoch);
            known.extend(elsewhere.model.read_feed(FeedPosition::default(), 1000).unwrap().changes);
            (other, pair.sqlite) = (elsewhere.model, elsewhere.sqlite);
        }
        for _ in 0..40 {
            let next = order(&mut random, &pair.model, &known);
            let wrong_epoch = random.below(20) == 0;
            pair.give(&next, wrong_epoch).await;
            pair.same_facts().await;
            orders += 1;
            refusals += u32::from(wrong_epoch);
        }
        pair.sqlite.close().await;
    }
    assert!(orders >= 1_600 && refusals > 20, "{orders} {refusals}");
}

#[tokio::test]
async fn a_kill_in_sqlite_ends_in_a_record_and_condemned_names_stay_condemned() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(folder.path()).await;
    let first = link(1);
    let new = NewItem {
        item: item(1),
        revision: first.revision,
        asked_path: MediaPath::parse("a.jpg").unwrap(),
        content: first.content,
        earlier: Vec::new(),
        content_type: "image/jpeg".into(),
        author: ANNA,
        author_name: "anna".into(),
        source_server: "/media".into(),
        version_of: None,
    };
    pair.give(&Order::Create(new), false).await;
    let commit = Commit {
        item: item(1),
        base: first.revision,
        line: vec![],
        object: object(item(1), &first.content, 0),
        generation: 0,
        claim_epoch: 1,
        catalog_epoch: CatalogEpoch::default(),
        author: ANNA,
    };
    pair.give(&Order::Commit(commit.clone()), false).await;
    let kill = |step| {
        let (item, revision, claim_epoch) = (item(1), first.revision, 2);
        Order::Kill(Kill {
            step,
            item,
            revision,
            claim_epoch,
            catalog_epoch: CatalogEpoch::default(),
            author: ANNA,
        })
    };
    let epoch = pair.sqlite.epoch().await.unwrap();
    assert_eq!(pair.ask_sqlite(&kill(KillStep::Complete), epoch).await, "refused NotAsked");
    for step in [KillStep::Request, KillStep::Condemn, KillStep::Complete, KillStep::Complete] {
        pair.give(&kill(step), false).await;
        pair.same_facts().await;
    }
    let answer = pair.sqlite.intend(commit.object, item(1), &first.content, 0, ANNA).await;
    assert_eq!(answer, Ok(Intended::Refused(Refusal::Condemned)));
    assert!(matches!(pair.sqlite.row(item(1)).await.unwrap(), Some(FeedChange::Removed(_))));
}
