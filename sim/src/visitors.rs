//! A member of a later version, which was here for a moment: its entries have fields that this version does not know, and
//! travel on without it.
//!
//! It has no engine: the world writes its ledger, signs it as its owner would, and hands it to one node.

use crate::node::PaperKeys;
use crate::world::World;
use tcat_engine::batch::{Batch, Record};
use tcat_engine::clock::{Incarnation, Label, Stamp};
use tcat_engine::entry::{Entry, Field};
use tcat_engine::heads::{Head, LedgerSum};
use tcat_engine::ids::{ClientId, ItemId};
use tcat_engine::message::{Message, Page};
use tcat_engine::ports::Input;

/// Its key.
const VISITOR: ClientId = ClientId([0xee; 32]);
/// A tag that no version has yet.
const TAG: u64 = 900;
/// How many entries it has written.
const ENTRIES: u8 = 4;

impl World {
    /// The visitor is known to the catalog; it is away, so that nobody waits for it.
    pub(crate) fn expect_visitor(&mut self) {
        self.catalog.admit_absent(VISITOR);
    }

    /// It comes to a node, says all that it has written, and is gone again.
    pub(crate) fn visit(&mut self, node: usize) {
        let Some(page) = written() else { return };
        self.note(node, "visit", || "by a member of a later version".into());
        self.tell(node, Input::Connected(VISITOR));
        self.tell(node, Input::Message(VISITOR, Message::Page(page)));
        self.tell(node, Input::Disconnected(VISITOR));
    }
}

/// The visitor's ledger in one page.
fn written() -> Option<Page> {
    let begun = Stamp { incarnation: Incarnation(50), counter: 0 };
    let (mut sum, mut through, mut records) = (LedgerSum::default(), begun, Vec::new());
    for number in 1..=ENTRIES {
        through.counter += 1;
        let item = ItemId([number; 16]);
        let unknown = vec![Field { tag: TAG.try_into().ok()?, bytes: vec![number; 9] }];
        let label = Label { wall_ms: u64::from(number), logical: 0 };
        let entry = Entry { label, unknown, ..Entry::default() }.encode().ok()?;
        sum.add(&item, through, &entry);
        records.push(Record { item, entry });
    }
    let keys = PaperKeys(VISITOR);
    let batch = Batch::sign(VISITOR, begun.incarnation, 1, records, &keys).ok()?;
    let head = Some(Head::sign(&VISITOR, through, sum.digest(), &keys));
    let after = Stamp::default();
    Some(Page { owner: VISITOR, after, through, batches: vec![batch], more: false, head })
}
