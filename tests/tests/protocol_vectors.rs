//! The test vectors of `docs/protocol.md`: they were computed from the page, not from this code, so that page and code
//! hold each other.
#![allow(clippy::unwrap_used)]

use tcat_engine::batch::{Batch, Keys, Record, Signature, leaf_hash, node_hash};
use tcat_engine::catalog::{ChainLink, Revision};
use tcat_engine::claims::rendezvous;
use tcat_engine::clock::{Dot, Incarnation, Label, Stamp};
use tcat_engine::codec::encode;
use tcat_engine::content::{Blake3, Content, Md5};
use tcat_engine::entry::{Copy, Entry, Held};
use tcat_engine::ids::{ClientId, ItemId, ObjectId, from_hex, hex};
use tcat_engine::message::{Fetch, Message, Page};
use tcat_engine::paths::MediaPath;

const CLIENT: &str = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
const SIGNATURE: &str = "c7329278091074c6811e3a311e82019a1cad346f47421ec1957c4110d44ea656\
                         eb5ce65a1f6278c8b709b3650ab27d73262fb3d2a46dad5d3c560c5c1ad2ea01";

/// Signs with the page's signature: that it verifies is what the test is about.
struct PageKeys;

impl Keys for PageKeys {
    fn sign(&self, _: &[u8]) -> Signature {
        Signature(from_hex(SIGNATURE).unwrap())
    }
    fn verify(&self, client: &ClientId, bytes: &[u8], signature: &Signature) -> bool {
        tcat_net::verify(client, bytes, &signature.0)
    }
}

fn client() -> ClientId {
    CLIENT.parse().unwrap()
}

fn incarnation() -> Incarnation {
    Incarnation(0x0123_4567_89ab_cdef)
}

fn dot() -> Dot {
    Dot { client: client(), stamp: Stamp { incarnation: incarnation(), counter: 1 } }
}

fn content() -> Content {
    Content {
        md5: Md5(from_hex("900150983cd24fb0d6963f7d28e17f72").unwrap()),
        size: 3,
        blake3: Some(Blake3(*blake3::hash(b"abc").as_bytes())),
    }
}

fn item() -> ItemId {
    ItemId::derive("tcat 1 import", &[&encode(&dot()).unwrap()])
}

fn entry() -> Entry {
    let link = ChainLink { revision: Revision(dot()), content: content() };
    let path = MediaPath::parse("a/b.jpg").unwrap();
    let held = Held { content: content(), path, cached_date_ms: 1_700_000_000_000 };
    Entry {
        label: Label { wall_ms: 1_700_000_000_000, logical: 0 },
        copy: Some(Copy { held: Some(held), base: None, line: vec![link] }),
        ..Entry::default()
    }
}

#[test]
fn numbers_ids_and_contents_have_the_bytes_of_the_page() {
    let varints = [
        (250u64, "fa"),
        (251, "fbfb00"),
        (65_535, "fbffff"),
        (65_536, "fc00000100"),
        (1 << 32, "fd0000000001000000"),
    ];
    for (number, bytes) in varints {
        assert_eq!(hex(&encode(&number).unwrap()), bytes);
    }
    assert_eq!(hex(&encode(&dot()).unwrap()), format!("{CLIENT}fdefcdab896745230101"));
    assert_eq!(hex(&item().0), "651f1b1cd66f8baa8a5bf377e699fb0d");
    let blake3 = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
    assert_eq!(hex(&encode(&content()).unwrap()), format!("900150983cd24fb0d6963f7d28e17f720301{blake3}"));
    let old = Content { blake3: None, ..content() };
    assert_eq!(hex(&old.key()), "21989ef44fd9d5d49067b0ce9103035735b2aa2345265e0907ec60b7f672df87");
    assert_eq!(rendezvous(&client(), &content().key()), 2_252_442_891_605_644_583);
    let version = ItemId::derive("tcat 1 version", &[&item().0, &content().key(), &1u32.to_le_bytes()]);
    assert_eq!(hex(&version.0), "78b7a9cda802825d9c93b576821585cc");
    let object = ObjectId::derive("tcat 1 object", &[&item().0, &content().key(), &0u32.to_le_bytes()]);
    assert_eq!(hex(&object.0), "916cdaf7725488449aa8aa28f56441f1");
    assert_eq!(hex(&encode(&entry().label).unwrap()), "fd0068e5cf8b01000000");
    let fetch = Message::Fetch(Fetch { owner: ClientId([1; 32]), after: Stamp::default() });
    assert_eq!(hex(&fetch.encode().unwrap()), format!("0102{}0000", "01".repeat(32)));
}

#[test]
fn an_entry_a_batch_and_a_page_have_the_bytes_of_the_page() {
    let bytes = entry().encode().unwrap();
    let content = hex(&encode(&content()).unwrap());
    let expected = format!(
        "01000a000000fd0068e5cf8b01000000\
         0200a2000000\
         01{content}07612f622e6a7067fd0068e5cf8b010000\
         00\
         01{CLIENT}fdefcdab896745230101{content}"
    );
    assert_eq!(hex(&bytes), expected);
    let record = Record { item: item(), entry: bytes };
    let leaf = leaf_hash(&record);
    assert_eq!(hex(&leaf), "bcfe85e79dfbe5d4a90bbae28acb5b0adb78a1ea977c1110229b304336e7bf3a");
    assert_eq!(
        hex(&node_hash(&leaf, &leaf)),
        "c999a4c6457e01cd4a7263088dbc632200d2b4d252a7305688ee14ea46d94f65"
    );
    let batch = Batch::sign(client(), incarnation(), 1, vec![record], &PageKeys).unwrap();
    assert_eq!(batch.verify(&PageKeys), Ok(()), "the page's signature is of these very bytes");
    let (after, through) = (Stamp::default(), dot().stamp);
    let page = Page { owner: client(), after, through, batches: vec![batch], more: false, head: None };
    let frame = Message::Page(page).encode().unwrap();
    assert_eq!(frame.len(), 358);
    let digest = hex(blake3::hash(&frame).as_bytes());
    let page = include_str!("../../docs/protocol.md");
    assert!(page.contains(&digest), "the frame's BLAKE3 is {digest}, which docs/protocol.md does not give");
}
