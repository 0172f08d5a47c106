//! What nodes say to each other, and its frame.
//!
//! A frame is `version: u8, kind: u8, body`; the body is the message's fields by the [codec](crate::codec), and may
//! be longer than this version knows. An unknown kind is ignored. Over all transports frames are at most
//! [`FRAME_BYTES_MAX`] long.

use crate::batch::{Batch, Keys, Signature};
use crate::catalog::FeedPosition;
use crate::clock::{Stamp, VersionVector};
use crate::codec::{self, CodecError};
use crate::heads::{Head, WholeVector};
use crate::ids::ClientId;
use crate::roster::RosterDigest;
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use std::collections::BTreeMap;

/// The version of the protocol that this code speaks.
pub const PROTOCOL_VERSION: u8 = 1;
/// The longest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// The most entry bytes that a sender puts in one page; a page holds at least one batch.
pub const PAGE_BYTES: usize = 512 << 10;
/// Most frames are shorter than this, in bytes.
const FRAME_BYTES_USUAL: usize = 1 << 10;

/// A sign of life: what the sender knows, and what it has heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// A random number of this start of the sender.
    pub start: u64,
    /// Counts this start's heartbeats.
    pub beat: u64,
    /// The sender's name, for people.
    pub name: String,
    /// How far the sender knows every ledger.
    pub vector: VersionVector,
    /// How far the sender has read the catalog.
    pub feed: FeedPosition,
    /// Whether the sender has nothing left to do.
    pub idle: bool,
    /// The (start, beat) last heard from the receiver: tells it that it is heard.
    pub echo: Option<(u64, u64)>,
    /// At which heads the sender's ledgers are whole. Appended to the body.
    pub whole: WholeVector,
    /// Whom the sender hears without a relay. Appended to the body.
    pub hears: Vec<ClientId>,
    /// The roster as the sender read it last; none if it never did. Appended to the body after the others.
    pub roster: Option<RosterDigest>,
}

/// Without what was appended to the body later.
impl Encode for Heartbeat {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Self { start, beat, name, vector, feed, idle, echo, whole: _, hears: _, roster: _ } = self;
        (start, beat, name, vector, feed, idle, echo).encode(encoder)
    }
}

impl<Context> Decode<Context> for Heartbeat {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (start, beat, name, vector, feed, idle, echo) = Decode::decode(decoder)?;
        let (whole, hears, roster) = Default::default();
        Ok(Self { start, beat, name, vector, feed, idle, echo, whole, hears, roster })
    }
}

bincode::impl_borrow_decode!(Heartbeat);

/// Asks for the entries of one ledger after a stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Fetch {
    /// Whose ledger.
    pub owner: ClientId,
    /// What the asker has.
    pub after: Stamp,
}

/// A part of one ledger, in dot order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Whose ledger.
    pub owner: ClientId,
    /// The page holds everything that counts after this...
    pub after: Stamp,
    /// ...up to this.
    pub through: Stamp,
    /// The signed batches.
    pub batches: Vec<Batch>,
    /// Whether the sender has more after `through`.
    pub more: bool,
    /// The owner's head at `through`, in the last page of a stream, if the sender's ledger is whole there. Appended to
    /// the body; left out if there is none.
    pub head: Option<Head>,
}

/// Without what was appended to the body later.
impl Encode for Page {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Self { owner, after, through, batches, more, head: _ } = self;
        (owner, after, through, batches, more).encode(encoder)
    }
}

impl<Context> Decode<Context> for Page {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (owner, after, through, batches, more) = Decode::decode(decoder)?;
        Ok(Self { owner, after, through, batches, more, head: None })
    }
}

bincode::impl_borrow_decode!(Page);

/// A sign of life that may travel through others: [`LifeBody`] as its client wrote and signed it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Life {
    /// The body's bytes, verbatim; a newer version may have appended to them.
    pub body: Vec<u8>,
    /// Its client's signature.
    pub signature: Signature,
}

/// What a [`Life`] says.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct LifeBody {
    /// Who lives.
    pub owner: ClientId,
    /// A random number of its start.
    pub start: u64,
    /// Counts that start's heartbeats.
    pub beat: u64,
    /// How far it knows every ledger.
    pub vector: VersionVector,
    /// At which heads its ledgers are whole.
    pub whole: WholeVector,
    /// The (start, beat) that it last heard of each client, directly or through others.
    pub echoes: BTreeMap<ClientId, (u64, u64)>,
}

impl Life {
    /// Signs a sign of life as its client.
    pub fn sign(body: &LifeBody, keys: &dyn Keys) -> Result<Self, CodecError> {
        let body = codec::encode(body)?;
        Ok(Life { signature: keys.sign(&signed_life(&body)), body })
    }

    /// What it says. Nothing of it is to be believed before [`Life::is_of`] its owner.
    pub fn read(&self) -> Result<LifeBody, CodecError> {
        Ok(codec::decode_prefix(&self.body)?.0)
    }

    /// Whether `owner` signed it.
    pub fn is_of(&self, owner: &ClientId, keys: &dyn Keys) -> bool {
        keys.verify(owner, &signed_life(&self.body), &self.signature)
    }
}

fn signed_life(body: &[u8]) -> Vec<u8> {
    [b"tcat 1 life ", body].concat()
}

/// The answer to a probe: the sender has scanned, read the feed to its head and come to rest since it was asked.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Rest {
    /// The probe's number.
    pub nonce: u64,
    /// What the sender knew when it came to rest.
    pub vector: VersionVector,
    /// How far it had read the catalog.
    pub feed: FeedPosition,
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// Asks for a page.
    Fetch(Fetch),
    /// A page, asked for or pushed.
    Page(Page),
    /// Asks the receiver to scan, read the feed, come to rest and say so. The number names the question.
    Probe(u64),
    /// Answers a probe.
    Rest(Rest),
    /// A signed sign of life, relayed to those who do not hear its client.
    Life(Life),
}

impl Message {
    /// The message's frame.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut frame = Vec::with_capacity(FRAME_BYTES_USUAL);
        frame.extend_from_slice(&[PROTOCOL_VERSION, self.kind()]);
        match self {
            Message::Heartbeat(body) => {
                codec::append(body, &mut frame)?;
                codec::append(&body.whole, &mut frame)?;
                codec::append(&body.hears, &mut frame)?;
                codec::append(&body.roster, &mut frame)?;
            }
            Message::Fetch(body) => codec::append(body, &mut frame)?,
            Message::Page(body) => {
                codec::append(body, &mut frame)?;
                if let Some(head) = &body.head {
                    codec::append(head, &mut frame)?;
                }
            }
            Message::Probe(body) => codec::append(body, &mut frame)?,
            Message::Rest(body) => codec::append(body, &mut frame)?,
            Message::Life(body) => codec::append(body, &mut frame)?,
        }
        if frame.len() > FRAME_BYTES_MAX {
            return Err(CodecError(format!("a frame of {} bytes is too long", frame.len())));
        }
        Ok(frame)
    }

    fn kind(&self) -> u8 {
        match self {
            Message::Heartbeat(_) => 1,
            Message::Fetch(_) => 2,
            Message::Page(_) => 3,
            Message::Probe(_) => 4,
            Message::Rest(_) => 5,
            Message::Life(_) => 7,
        }
    }

    /// Reads a frame; none for a kind that a newer version has brought.
    pub fn decode(frame: &[u8]) -> Result<Option<Self>, CodecError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(CodecError(format!("a frame of {} bytes is too long", frame.len())));
        }
        let [version, kind, body @ ..] = frame else { return Err(CodecError("an empty frame".into())) };
        if *version != PROTOCOL_VERSION {
            return Err(CodecError(format!("protocol version {version}; this is {PROTOCOL_VERSION}")));
        }
        Ok(Some(match kind {
            1 => Message::Heartbeat(heartbeat(body)?),
            2 => Message::Fetch(codec::decode_prefix(body)?.0),
            3 => Message::Page(page(body)?),
            4 => Message::Probe(codec::decode_prefix(body)?.0),
            5 => Message::Rest(codec::decode_prefix(body)?.0),
            7 => Message::Life(codec::decode_prefix(body)?.0),
            _ => return Ok(None),
        }))
    }
}

/// Reads a heartbeat, with or without what was appended later.
fn heartbeat(body: &[u8]) -> Result<Heartbeat, CodecError> {
    let (mut heartbeat, appended): (Heartbeat, _) = codec::decode_prefix(body)?;
    if !appended.is_empty() {
        let later;
        ((heartbeat.whole, heartbeat.hears), later) = codec::decode_prefix(appended)?;
        if !later.is_empty() {
            heartbeat.roster = codec::decode_prefix(later)?.0;
        }
    }
    Ok(heartbeat)
}

/// Reads a page, with or without a head.
fn page(body: &[u8]) -> Result<Page, CodecError> {
    let (mut page, appended): (Page, _) = codec::decode_prefix(body)?;
    if !appended.is_empty() {
        page.head = Some(codec::decode_prefix(appended)?.0);
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::QuickCheck;

    #[test]
    fn frames_read_back_and_may_have_grown() {
        let fetch = Message::Fetch(Fetch { owner: ClientId([1; 32]), after: Stamp::default() });
        let mut frame = fetch.encode().unwrap();
        assert_eq!(Message::decode(&frame).unwrap(), Some(fetch.clone()));
        frame.push(9);
        assert_eq!(Message::decode(&frame).unwrap(), Some(fetch));
        assert_eq!(Message::decode(&[PROTOCOL_VERSION, 200, 1]).unwrap(), None);
        assert!(Message::decode(&[PROTOCOL_VERSION + 1, 2]).is_err());
    }

    #[test]
    fn a_heartbeat_of_an_older_version_says_nothing_of_what_came_later() {
        let heartbeat = Heartbeat {
            start: 1,
            beat: 2,
            name: "a".into(),
            vector: VersionVector::default(),
            feed: FeedPosition::default(),
            idle: true,
            echo: None,
            whole: WholeVector::default(),
            hears: vec![ClientId([1; 32])],
            roster: Some(RosterDigest([3; 8])),
        };
        let frame = Message::Heartbeat(heartbeat.clone()).encode().unwrap();
        assert_eq!(Message::decode(&frame).unwrap(), Some(Message::Heartbeat(heartbeat.clone())));
        let before_rosters = Heartbeat { roster: None, ..heartbeat.clone() };
        let cut = &frame[..frame.len() - 9];
        assert_eq!(Message::decode(cut).unwrap(), Some(Message::Heartbeat(before_rosters.clone())));
        let first = Heartbeat { hears: vec![], ..before_rosters };
        let cut = &frame[..frame.len() - 9 - 34];
        assert_eq!(Message::decode(cut).unwrap(), Some(Message::Heartbeat(first)));
    }

    #[test]
    fn arbitrary_frames_never_panic() {
        fn law(kind: u8, body: Vec<u8>) -> bool {
            let mut frame = vec![PROTOCOL_VERSION, kind % 8];
            frame.extend(body);
            let _ = Message::decode(&frame);
            true
        }
        QuickCheck::new().tests(5000).quickcheck(law as fn(_, _) -> bool);
    }
}
