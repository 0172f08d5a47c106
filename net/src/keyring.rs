//! The keys of a workgroup: whenever a member is retired there is a new one, and members who were away still know an
//! older one.
//!
//! Always: a key never changes, and names the clients that it is not told to, who were retired when it was made; so
//! that holds with whoever passes it on, however old the roster that he has read. Its maker signs it: what somebody made
//! who was retired is replaced too. Rings merge as sets: whatever was
//! made at once in two places is kept, and the key with the highest number, then the highest id, is the newest for
//! everybody. The newest announces and proves; of older ones eight in all are kept.
//! Left out: who is a member. That is the roster's alone; a key only keeps strangers, and who was retired, from asking.

use crate::identity::{Identity, verify};
use crate::membership::WorkgroupKey;
use crate::random;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tcat_engine::ids::{ClientId, from_hex, hex};
use tokio::sync::watch;

/// Keys that a ring holds; the oldest go. A member that was away while more were made has to be invited anew.
pub const KEYS_MAX: usize = 8;
/// The number of a workgroup's first key.
const FIRST: u32 = 1;
/// Clients that a key names.
const WITHOUT_MAX: usize = 512;
/// The longest text of a ring.
pub(crate) const RING_MAX_BYTES: usize = KEYS_MAX * (80 + 65 + 130 + WITHOUT_MAX * 65);

/// One key and whom it is not told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RingKey {
    number: u32,
    /// Of all of it but the signature.
    id: [u8; 16],
    pub key: WorkgroupKey,
    /// Who made it, with its signature; the first of a workgroup has none.
    maker: Option<(ClientId, [u8; 64])>,
    without: BTreeSet<ClientId>,
}

impl RingKey {
    fn first(key: WorkgroupKey) -> Self {
        let (number, without) = (FIRST, BTreeSet::new());
        Self { number, id: id_of(&told(number, &key, None, &without)), key, maker: None, without }
    }

    fn made(number: u32, key: WorkgroupKey, maker: &Identity, without: BTreeSet<ClientId>) -> Self {
        let told = told(number, &key, Some(&maker.client_id()), &without);
        let maker = Some((maker.client_id(), maker.sign(&signed(&told))));
        Self { number, id: id_of(&told), key, maker, without }
    }

    fn order(&self) -> (u32, [u8; 16]) {
        (self.number, self.id)
    }

    fn maker(&self) -> Option<&ClientId> {
        self.maker.as_ref().map(|(maker, _)| maker)
    }

    /// `1 KEY`, or `NUMBER KEY MAKER CLIENT... SIGNATURE`.
    fn line(&self) -> String {
        let mut line = told(self.number, &self.key, self.maker(), &self.without);
        if let Some((_, signature)) = &self.maker {
            line = line + " " + &hex(signature);
        }
        line
    }

    /// Nothing if it cannot be read, or its maker did not sign it.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let number: u32 = words.next()?.parse().ok()?;
        let key = WorkgroupKey::from_bytes(from_hex(words.next()?).ok()?);
        if number == FIRST {
            return words.next().is_none().then(|| Self::first(key));
        }
        let maker: ClientId = words.next()?.parse().ok()?;
        let signature = from_hex(words.next_back()?).ok()?;
        let without: BTreeSet<ClientId> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let told = told(number, &key, Some(&maker), &without);
        let sound =
            number > FIRST && without.len() <= WITHOUT_MAX && verify(&maker, &signed(&told), &signature);
        sound.then(|| Self { number, id: id_of(&told), key, maker: Some((maker, signature)), without })
    }
}

/// A key's line without its signature.
fn told(number: u32, key: &WorkgroupKey, maker: Option<&ClientId>, without: &BTreeSet<ClientId>) -> String {
    let clients = maker.into_iter().chain(without).map(|client| format!(" {client}"));
    format!("{number} {}{}", hex(key.as_bytes()), clients.collect::<String>())
}

fn signed(told: &str) -> Vec<u8> {
    [b"tcat 1 workgroup key ", told.as_bytes()].concat()
}

fn id_of(told: &str) -> [u8; 16] {
    let hash = blake3::derive_key("tcat 1 id of a workgroup key", told.as_bytes());
    std::array::from_fn(|i| hash[i])
}

/// Why a text is no ring of keys. It repeats nothing of what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// It cannot be read.
    #[error("it holds no keys of a workgroup")]
    Unreadable,
    /// A number far above all others: who made it wants that nobody can make a newer one.
    #[error("a key with a number far above the others")]
    TooFarAhead,
}

/// The keys of one workgroup, at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The newest last.
    keys: Vec<RingKey>,
}

impl Keyring {
    /// The ring of a new workgroup.
    pub fn new(key: WorkgroupKey) -> Self {
        Self { keys: vec![RingKey::first(key)] }
    }

    /// Reads what [`Keyring::text`] wrote, and checks who made each; or a file of the time when a workgroup had one key and nothing but that.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        if text.len() > RING_MAX_BYTES {
            return Err(KeyringError::Unreadable);
        }
        if let Ok(only) = from_hex(text.trim()) {
            return Ok(Self::new(WorkgroupKey::from_bytes(only)));
        }
        let keys: Option<Vec<_>> = text.lines().map(RingKey::parse).collect();
        let mut keys = keys.unwrap_or_default();
        keys.sort_by_key(RingKey::order);
        keys.dedup_by_key(|key| key.id);
        match (1..=KEYS_MAX).contains(&keys.len()) {
            true => Ok(Self { keys }),
            false => Err(KeyringError::Unreadable),
        }
    }

    /// One key a line, oldest first, each with whom it is not told to. For files that nobody else can read, and for
    /// members.
    pub fn text(&self) -> String {
        self.keys.iter().map(|key| key.line() + "\n").collect()
    }

    /// All keys, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &RingKey> {
        self.keys.iter().rev()
    }

    /// Whether the other's keys would bring nothing new.
    pub(crate) fn knows(&self, other: &Self) -> bool {
        matches!(self.merged(other), Ok(None))
    }

    /// What this client may be told of it; none if that is nothing.
    pub fn told_to(&self, client: &ClientId) -> Option<Self> {
        let keys: Vec<_> = self.keys.iter().filter(|key| !key.without.contains(client)).cloned().collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// Whether the newest key was made by none of these, and without all of them.
    pub fn is_without<'a>(&self, retired: impl IntoIterator<Item = &'a ClientId>) -> bool {
        self.keys.last().is_some_and(|newest| {
            retired.into_iter().all(|one| newest.without.contains(one) && newest.maker() != Some(one))
        })
    }

    /// Who made the newest key; none made the first of a workgroup.
    pub fn maker(&self) -> Option<ClientId> {
        self.keys.last().and_then(RingKey::maker).copied()
    }

    /// Whom the newest key is not told to.
    pub fn without(&self) -> impl Iterator<Item = &ClientId> {
        self.keys.last().into_iter().flat_map(|newest| &newest.without)
    }

    /// With a new key that is not told to any of these, nor to anybody that the present one is not told to.
    fn rotated(&self, maker: &Identity, retired: &[ClientId]) -> io::Result<Self> {
        let number = self.keys.last().map_or(0, |newest| newest.number);
        let number = number.checked_add(1).ok_or_else(|| io::Error::other("there is no higher number"))?;
        let without: BTreeSet<_> = self.without().chain(retired).copied().collect();
        if without.len() > WITHOUT_MAX {
            return Err(io::Error::other(format!("more than {WITHOUT_MAX} clients were retired")));
        }
        let mut ring = self.clone();
        ring.keys.push(RingKey::made(number, WorkgroupKey::generate()?, maker, without));
        ring.drop_oldest();
        Ok(ring)
    }

    /// With the other's keys too; none if that is nothing new.
    fn merged(&self, other: &Self) -> Result<Option<Self>, KeyringError> {
        let newest = self.keys.last().map_or(0, |newest| newest.number);
        if other.keys.iter().any(|key| key.number > newest.saturating_add(KEYS_MAX as u32)) {
            return Err(KeyringError::TooFarAhead);
        }
        let mut ring = self.clone();
        let unknown = |key: &&RingKey| self.keys.iter().all(|ours| ours.id != key.id);
        ring.keys.extend(other.keys.iter().filter(unknown).cloned());
        ring.keys.sort_by_key(RingKey::order);
        ring.drop_oldest();
        Ok((ring != *self).then_some(ring))
    }

    fn drop_oldest(&mut self) {
        let too_many = self.keys.len().saturating_sub(KEYS_MAX);
        self.keys.drain(..too_many);
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Keyring({} keys, newest {})",
            self.keys.len(),
            self.keys.last().map_or(0, |key| key.number)
        )
    }
}

/// Where a ring is kept over restarts. Blocking.
pub trait KeyStore: Send + Sync {
    /// Keeps it in place of what was kept before; when this returns it is durable.
    fn save(&self, ring: &Keyring) -> io::Result<()>;
}

/// One node's ring of a workgroup: durable before anybody is told, and the same for all that use it.
pub struct Keys {
    ring: Mutex<Keyring>,
    /// Who makes new ones.
    identity: Identity,
    /// Held while the ring is changed.
    store: Mutex<Box<dyn KeyStore>>,
    changes: watch::Sender<u64>,
}

impl Keys {
    /// Begins with a ring as it was kept.
    pub fn new(identity: Identity, ring: Keyring, store: Box<dyn KeyStore>) -> Arc<Self> {
        let (changes, _) = watch::channel(0);
        Arc::new(Self { ring: Mutex::new(ring), identity, store: Mutex::new(store), changes })
    }

    /// The ring now.
    pub fn ring(&self) -> Keyring {
        self.locked().clone()
    }

    /// Tells whenever the ring has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes a new key that none of these is told, unless the newest is such a key. Blocks. Returns whether it did.
    pub fn rotate(&self, retired: &[ClientId]) -> io::Result<bool> {
        self.change(|ring| match ring.is_without(retired) {
            true => Ok(None),
            false => ring.rotated(&self.identity, retired).map(Some),
        })
    }

    /// Takes over what a member knows. Blocks. Returns whether anything was new.
    pub(crate) fn merge(&self, other: &Keyring) -> io::Result<bool> {
        self.change(|ring| ring.merged(other).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why)))
    }

    fn change(&self, how: impl FnOnce(&Keyring) -> io::Result<Option<Keyring>>) -> io::Result<bool> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(changed) = how(&self.ring())? else { return Ok(false) };
        store.save(&changed)?;
        *self.locked() = changed;
        self.changes.send_modify(|count| *count += 1);
        Ok(true)
    }

    fn locked(&self) -> MutexGuard<'_, Keyring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.locked().fmt(f)
    }
}

/// Random bytes that a ring's hints are told apart by.
pub(crate) const HINT_BYTES: usize = 8;

/// What a hello says of the keys of its sender: for each a few bytes that mean something to who has that key, for this
/// hello alone. To everybody else, and where there is no key, they are random.
pub(crate) fn hints(
    ring: &Keyring,
    nonce: &[u8; 32],
    sender: &ClientId,
) -> io::Result<[[u8; HINT_BYTES]; KEYS_MAX]> {
    let random: [[u8; HINT_BYTES]; KEYS_MAX] = random_hints()?;
    let mut known = ring.newest_first().map(|key| hint(&key.key, nonce, sender));
    Ok(random.map(|nothing| known.next().unwrap_or(nothing)))
}

fn random_hints() -> io::Result<[[u8; HINT_BYTES]; KEYS_MAX]> {
    let random: [u8; HINT_BYTES * KEYS_MAX] =
        random::bytes().map_err(|why| io::Error::other(format!("no random numbers: {why}")))?;
    Ok(std::array::from_fn(|i| std::array::from_fn(|j| random[i * HINT_BYTES + j])))
}

/// Of one key.
pub(crate) fn hint(key: &WorkgroupKey, nonce: &[u8; 32], sender: &ClientId) -> [u8; HINT_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(&key.derive("tcat 1 hint of a workgroup key"));
    let hash = hasher.update(nonce).update(&sender.0).finalize();
    std::array::from_fn(|i| hash.as_bytes()[i])
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
