//! What one client says of one item: its copy, and the work that it claims.
//!
//! Only its owner writes an entry. On disk and on the wire an entry is a list of tagged fields; what a newer version
//! wrote under a tag unknown here is kept and written again, and relays pass the owner's bytes on verbatim.

use crate::catalog::ChainLink;
pub use crate::catalog::FeedPlace;
use crate::clock::{Dot, Label};
use crate::codec::{self, CodecError};
use crate::content::Content;
use crate::ids::{CacheId, ClientId, ItemId};
use crate::paths::MediaPath;
use bincode::{Decode, Encode};

/// One client's word on one item.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// When it was written, for people.
    pub label: Label,
    /// What this client's cache has; none once it has dropped the item (then the entry is a tombstone, unless it
    /// claims work).
    pub copy: Option<Copy>,
    /// The work that this client does or wants to do on the item. At most [`CLAIMS_MAX`].
    pub claims: Vec<Claim>,
    /// In the entry of the nil item alone, its owner's mark: every active item that last changed at or before this
    /// place is in its cache as the catalog has it, unless the owner has an entry for it.
    pub mark: Option<FeedPlace>,
    /// Where the copy equals the catalog: a place in the feed at or after the row's last change that the owner had read.
    /// A later mark of the owner's at or beyond it absorbs the entry.
    pub settled: Option<FeedPlace>,
    /// The shared cache in which the copy lies; none for a cache of one node.
    pub cache: Option<CacheId>,
    /// Fields of a newer version, by rising tag.
    pub unknown: Vec<Field>,
}

/// A field that this version does not know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its tag, not one of ours.
    pub tag: u16,
    /// Its bytes, as their writer made them.
    pub bytes: Vec<u8>,
}

/// A client's copy of an item.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Copy {
    /// What the cache holds now; none while it holds nothing.
    pub held: Option<Held>,
    /// The catalog revision that the copy descends from, with its content. Only agreement with the catalog moves it.
    pub base: Option<ChainLink>,
    /// The contents offered since the base, oldest first, each with the revision that it will have in the catalog's
    /// chain; written before they are offered. At most [`LINE_LINKS_MAX`].
    pub line: Vec<ChainLink>,
}

/// A file in a cache.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Held {
    /// Its content.
    pub content: Content,
    /// Where it is, relative to the cache folder.
    pub path: MediaPath,
    /// When this content came into the cache, milliseconds since 1970, for people.
    pub cached_date_ms: u64,
}

/// What a claim is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub enum TaskKind {
    /// Fetch a content from the cloud.
    Download,
    /// Bring a content to the cloud and commit it.
    Upload,
    /// Remove an item from the cloud.
    Kill,
    /// Make a derivative.
    Derive,
}

/// "I do this task for this content."
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Claim {
    /// The task.
    pub task: TaskKind,
    /// The content that it is for. Claims compete only within (task, target).
    pub target: Content,
    /// The fence: one above every epoch seen for it.
    pub epoch: u64,
    /// The dots of the competing claims that it has seen: it supersedes them. At most [`SEEN_MAX`].
    pub seen: Vec<Dot>,
    /// Whether the work has begun.
    pub started: bool,
    /// How far it is, in bytes; a claim that makes no progress is not renewed.
    pub progress: u64,
    /// How often it was begun, this time included.
    pub attempts: u32,
}

/// The most claims that one entry holds.
pub const CLAIMS_MAX: usize = 8;
/// The most dots that one claim says it has seen.
pub const SEEN_MAX: usize = 64;
/// The longest line; at the limit the oldest step but the first is dropped, the contents being in nobody's hands.
pub const LINE_LINKS_MAX: usize = 256;
/// The longest encoded entry, in bytes: 256 links of line and a path fit.
pub const ENTRY_BYTES_MAX: usize = 64 << 10;

const TAG_LABEL: u16 = 1;
const TAG_COPY: u16 = 2;
const TAG_CLAIMS: u16 = 3;
const TAG_MARK: u16 = 4;
const TAG_SETTLED: u16 = 5;
const TAG_CACHE: u16 = 6;

impl Entry {
    /// Whether it says nothing any more: kept only until every member knows that.
    pub fn is_tombstone(&self) -> bool {
        self.copy.is_none() && self.claims.is_empty() && self.mark.is_none() && self.unknown.is_empty()
    }

    /// Whether an entry's bytes hold nothing but its label: it is a tombstone, and left out of what a ledger adds up to.
    pub fn is_bare(bytes: &[u8]) -> bool {
        matches!(split_field(bytes), Ok((TAG_LABEL, _, [])))
    }

    /// The claim on `task` for `target`, if there is one.
    pub fn claim(&self, task: TaskKind, target: &Content) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.task == task && claim.target.same_as(target))
    }

    /// The content held, if any.
    pub fn held_content(&self) -> Option<&Content> {
        self.copy.as_ref()?.held.as_ref().map(|held| &held.content)
    }

    /// The entry's bytes: fields by rising tag, each `tag: u16, length: u32, body`, little-endian.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut fields = vec![(TAG_LABEL, codec::encode(&self.label)?)];
        if let Some(copy) = &self.copy {
            fields.push((TAG_COPY, codec::encode(copy)?));
        }
        if !self.claims.is_empty() {
            fields.push((TAG_CLAIMS, codec::encode(&self.claims)?));
        }
        for (tag, place) in [(TAG_MARK, &self.mark), (TAG_SETTLED, &self.settled)] {
            if let Some(place) = place {
                fields.push((tag, codec::encode(place)?));
            }
        }
        if let Some(cache) = &self.cache {
            fields.push((TAG_CACHE, codec::encode(cache)?));
        }
        fields.extend(self.unknown.iter().map(|field| (field.tag, field.bytes.clone())));
        fields.sort_by_key(|(tag, _)| *tag);
        let mut bytes = Vec::with_capacity(fields.iter().map(|(_, body)| body.len() + 6).sum());
        for (tag, body) in &fields {
            let length = u32::try_from(body.len()).map_err(|_| CodecError("a field is too long".into()))?;
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(body);
        }
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(CodecError(format!("an entry of {} bytes is too long", bytes.len())));
        }
        Ok(bytes)
    }

    /// Reads an entry. Tags must rise; a known field may be longer than this version knows.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(CodecError(format!("an entry of {} bytes is too long", bytes.len())));
        }
        let mut entry = Entry::default();
        let mut last_tag = 0;
        while !bytes.is_empty() {
            let (tag, body, rest) = split_field(bytes)?;
            if tag <= last_tag {
                return Err(CodecError("fields out of order".into()));
            }
            match tag {
                TAG_LABEL => entry.label = codec::decode_prefix(body)?.0,
                TAG_COPY => entry.copy = Some(codec::decode_prefix(body)?.0),
                TAG_CLAIMS => entry.claims = codec::decode_prefix(body)?.0,
                TAG_MARK => entry.mark = Some(codec::decode_prefix(body)?.0),
                TAG_SETTLED => entry.settled = Some(codec::decode_prefix(body)?.0),
                TAG_CACHE => entry.cache = Some(codec::decode_prefix(body)?.0),
                _ => entry.unknown.push(Field { tag, bytes: body.to_vec() }),
            }
            last_tag = tag;
            bytes = rest;
        }
        entry.check_bounds()?;
        Ok(entry)
    }

    /// The claims in an entry's bytes, without reading the rest.
    pub fn claims_in(mut bytes: &[u8]) -> Result<Vec<Claim>, CodecError> {
        while !bytes.is_empty() {
            let (tag, body, rest) = split_field(bytes)?;
            if tag == TAG_CLAIMS {
                return Ok(codec::decode_prefix(body)?.0);
            }
            bytes = rest;
        }
        Ok(Vec::new())
    }

    fn check_bounds(&self) -> Result<(), CodecError> {
        let line = self.copy.as_ref().map_or(0, |copy| copy.line.len());
        let seen = self.claims.iter().map(|claim| claim.seen.len()).max().unwrap_or(0);
        if self.claims.len() > CLAIMS_MAX || line > LINE_LINKS_MAX || seen > SEEN_MAX {
            return Err(CodecError("an entry beyond its bounds".into()));
        }
        Ok(())
    }
}

fn split_field(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), CodecError> {
    let cut = || CodecError("a field is cut off".into());
    let (tag, rest) = bytes.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| cut())?;
    let (body, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
    Ok((u16::from_le_bytes(*tag), body, rest))
}

/// An entry with who wrote it and when, as standing and claims look at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedEntry {
    /// The item.
    pub item: ItemId,
    /// The write that made it.
    pub dot: Dot,
    /// What it says.
    pub entry: Entry,
}

impl OwnedEntry {
    /// Whose word it is.
    pub fn owner(&self) -> ClientId {
        self.dot.client
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Md5;
    use quickcheck::QuickCheck;

    fn sample() -> Entry {
        let content = Content { md5: Md5([7; 16]), size: 9, blake3: None };
        Entry {
            label: Label { wall_ms: 5, logical: 1 },
            copy: Some(Copy {
                held: Some(Held { content, path: MediaPath::parse("a/b.jpg").unwrap(), cached_date_ms: 3 }),
                base: None,
                line: vec![],
            }),
            claims: vec![Claim {
                task: TaskKind::Upload,
                target: content,
                epoch: 2,
                seen: vec![],
                started: true,
                progress: 10,
                attempts: 1,
            }],
            mark: None,
            settled: Some(FeedPlace { number: 7, ..FeedPlace::default() }),
            cache: Some(CacheId([6; 16])),
            unknown: vec![Field { tag: 900, bytes: vec![1, 2, 3] }],
        }
    }

    #[test]
    fn an_entry_reads_back_as_written_with_the_fields_it_does_not_know() {
        let bytes = sample().encode().unwrap();
        assert_eq!(Entry::decode(&bytes).unwrap(), sample());
        assert_eq!(Entry::decode(&bytes).unwrap().encode().unwrap(), bytes);
    }

    #[test]
    fn only_a_tombstone_is_bare() {
        let tombstone = Entry { label: sample().label, ..Entry::default() };
        assert!(tombstone.is_tombstone() && Entry::is_bare(&tombstone.encode().unwrap()));
        assert!(!Entry::is_bare(&sample().encode().unwrap()) && !Entry::is_bare(&[]));
    }

    #[test]
    fn a_known_field_that_grew_in_a_newer_version_still_reads() {
        let mut body = codec::encode(&Label { wall_ms: 8, logical: 0 }).unwrap();
        body.extend_from_slice(b"newer");
        let mut bytes = TAG_LABEL.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        assert_eq!(Entry::decode(&bytes).unwrap().label.wall_ms, 8);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_make_a_path_outside() {
        fn law(bytes: Vec<u8>, cut: usize) -> bool {
            let mut real = sample().encode().unwrap();
            for (i, byte) in bytes.iter().enumerate() {
                let at = (i * 31).wrapping_add(cut) % real.len();
                real[at] ^= byte;
            }
            let _ = Entry::decode(&bytes);
            match Entry::decode(&real) {
                Ok(entry) => entry
                    .copy
                    .and_then(|copy| copy.held)
                    .is_none_or(|held| MediaPath::parse(held.path.as_str()).is_ok()),
                Err(_) => true,
            }
        }
        QuickCheck::new().tests(2000).quickcheck(law as fn(_, _) -> bool);
    }

    #[test]
    fn fields_out_of_order_or_twice_are_refused() {
        let one = [9, 0, 0, 0, 0, 0];
        assert!(Entry::decode(&one).is_ok());
        assert!(Entry::decode(&[one, one].concat()).is_err());
        assert!(Entry::decode(&one[..5]).is_err());
    }
}
