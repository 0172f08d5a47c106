//! Who belongs to the workgroup: both ends of every connection prove that they have a key of it, before anything else.
//!
//! Always: the key itself is never sent here. The dialer hints at the keys that it has, the listener chooses the newest
//! that both have. A proof is a keyed BLAKE3 over the role, both public keys, both hellos and the choice. Noise has proved the public keys already, so a proof cannot be carried from one connection to
//! another, nor back to who made it. To a stranger, with no key, hints, choice and proof are random bytes.
//! A key alone admits nobody: the roster does, which is the node's, behind [`Members`]. Each end asks it once the other
//! has proved the key, and before its own last word: who is not in it sees a stream that ends, like any stranger.

use crate::frame::{read_frame, write_frame};
use crate::keyring::{HINT_BYTES, KEYS_MAX, Keyring, hint, hints};
use crate::random;
use crate::streams::was_refused;
use async_trait::async_trait;
use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use tcat_engine::ids::ClientId;
use tcat_engine::roster::Admission;

/// The secret that all members of a workgroup share. Comparing it takes the same time whatever differs.
#[derive(Clone, Eq)]
pub struct WorkgroupKey([u8; 32]);

impl WorkgroupKey {
    /// A new key from the system's random numbers.
    pub fn generate() -> io::Result<Self> {
        random::bytes()
            .map(Self)
            .map_err(|e| io::Error::other(format!("no random numbers for a new key: {e}")))
    }

    /// The key that was kept as these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to keep, where nobody else can read them.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key for one purpose only, so that what one part of the protocol shows says nothing to another.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.0)
    }
}

impl PartialEq for WorkgroupKey {
    fn eq(&self, other: &Self) -> bool {
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0) // compares in constant time
    }
}

impl fmt::Debug for WorkgroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkgroupKey(..)")
    }
}

/// Whom the workgroup's roster admits.
#[async_trait]
pub trait Members: Send + Sync {
    /// What the roster says of a client whose key noise has proved.
    async fn admission(&self, client: &ClientId) -> Admission;

    /// A client that the roster does not know has proved the workgroup's key: it may have joined a moment ago, so the
    /// roster is worth another look. Returns at once.
    fn unlisted(&self, client: &ClientId);
}

/// Why a peer did not prove that it is a member.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    #[error("it was retired from the workgroup")]
    Retired,
    #[error("it has the workgroup's key and is not in its roster, as far as that was read")]
    Unlisted,
    #[error("it has another workgroup key, or none")]
    WrongKey,
    #[error(
        "it does not speak version 1 of tcat's protocol (/tcat/membership/1); run the same version on both machines"
    )]
    OtherVersion,
    #[error("it does not speak tcat's protocol")]
    Malformed,
    #[error("it proved nothing in {0} s")]
    TooSlow(u64),
    #[error("the connection ended before it proved anything: {0}")]
    Ended(io::Error),
}

impl ProofError {
    /// Whether the peer is to blame, and not the network.
    pub(crate) fn blames_the_peer(&self) -> bool {
        !matches!(self, Self::Ended(_) | Self::Unlisted)
    }
}

impl From<io::Error> for ProofError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            _ if was_refused(&error) => Self::OtherVersion,
            io::ErrorKind::InvalidData => Self::Malformed,
            _ => Self::Ended(error),
        }
    }
}

/// What both ends must agree on; `start` is a random number of one run of a node.
pub(crate) struct Prover<'a> {
    pub ring: &'a Keyring,
    pub ours: ClientId,
    pub theirs: ClientId,
    pub start: u64,
    pub members: &'a dyn Members,
    /// Set the moment that the peer has proved itself and is admitted: from then on its other streams are accepted.
    pub proved: &'a AtomicBool,
}

const NONCE_BYTES: usize = 32;
const HELLO_BYTES: usize = NONCE_BYTES + 8;
const MAC_BYTES: usize = 32;
const ACCEPTED: &[u8] = b"member";
/// No frame of this exchange is longer.
const EXCHANGE_MAX_BYTES: usize = 256;

/// A nonce and the sender's start.
#[derive(Clone, Copy)]
struct Hello([u8; HELLO_BYTES]);

impl Hello {
    fn new(start: u64) -> Result<Self, ProofError> {
        let nonce: [u8; NONCE_BYTES] = random::bytes().map_err(no_random)?;
        let mut bytes = [0; HELLO_BYTES];
        let (front, back) = bytes.split_at_mut(nonce.len());
        front.copy_from_slice(&nonce);
        back.copy_from_slice(&start.to_be_bytes());
        Ok(Self(bytes))
    }

    fn read(bytes: &[u8]) -> Result<Self, ProofError> {
        bytes.try_into().map(Self).map_err(|_| ProofError::Malformed)
    }

    fn nonce(&self) -> [u8; NONCE_BYTES] {
        self.0.first_chunk().copied().unwrap_or_default()
    }

    fn start(&self) -> u64 {
        self.0.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

fn no_random(error: impl fmt::Display) -> ProofError {
    ProofError::Ended(io::Error::other(format!("no random numbers: {error}")))
}

/// What both proofs of one connection are about.
struct Matter<'a> {
    /// Dialer, listener.
    clients: [ClientId; 2],
    /// The dialer's hello, with its hints.
    asked: &'a [u8],
    /// The listener's hello and choice.
    answered: &'a [u8],
}

#[derive(Clone, Copy)]
enum Role {
    Dialer,
    Listener,
}

impl Prover<'_> {
    /// The side that dialed: hello and hints ->, <- hello, choice and proof, proof ->, <- accepted. Returns the peer's
    /// start.
    pub(crate) async fn prove_as_dialer<S>(&self, stream: &mut S) -> Result<u64, ProofError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let hello = Hello::new(self.start)?;
        let hints = hints(self.ring, &hello.nonce(), &self.ours).map_err(ProofError::Ended)?;
        let asked = [&hello.0[..], &hints.concat()].concat();
        write_frame(stream, &asked).await?;
        stream.flush().await?;
        let answer = read(stream).await?;
        let (answered, proof) = answer.split_at_checked(HELLO_BYTES + 1).ok_or(ProofError::Malformed)?;
        let (theirs, choice) = answered.split_at_checked(HELLO_BYTES).ok_or(ProofError::Malformed)?;
        let theirs = Hello::read(theirs)?;
        let choice = choice.first().map_or(usize::MAX, |choice| usize::from(*choice));
        if choice >= KEYS_MAX {
            return Err(ProofError::Malformed);
        }
        // At a place where we have none, the listener cannot have meant one of ours.
        let key = &self.ring.newest_first().nth(choice).ok_or(ProofError::WrongKey)?.key;
        let matter = Matter { clients: [self.ours, self.theirs], asked: &asked, answered };
        check(proof, &mac(key, Role::Listener, &matter))?;
        self.let_in().await?;
        write_frame(stream, mac(key, Role::Dialer, &matter).as_bytes()).await?;
        stream.flush().await?;
        match read(stream).await?.as_slice() {
            ACCEPTED => Ok(theirs.start()),
            _ => Err(ProofError::Malformed),
        }
    }

    /// The side that was dialed. Returns the peer's start.
    pub(crate) async fn prove_as_listener<S>(&self, stream: &mut S) -> Result<u64, ProofError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let asked = read(stream).await?;
        let (theirs, hinted) = asked.split_at_checked(HELLO_BYTES).ok_or(ProofError::Malformed)?;
        let theirs = Hello::read(theirs)?;
        let (hinted, []) = hinted.as_chunks::<HINT_BYTES>() else { return Err(ProofError::Malformed) };
        if hinted.len() != KEYS_MAX {
            return Err(ProofError::Malformed);
        }
        let Some((choice, key)) = self.choose(hinted, &theirs) else {
            return self.answer_to_stranger(stream).await;
        };
        let answered = [&Hello::new(self.start)?.0[..], &[choice]].concat();
        let matter = Matter { clients: [self.theirs, self.ours], asked: &asked, answered: &answered };
        let proof = mac(key, Role::Listener, &matter);
        write_frame(stream, &[&answered[..], proof.as_bytes()].concat()).await?;
        stream.flush().await?;
        let proof = read(stream).await?;
        check(&proof, &mac(key, Role::Dialer, &matter))?;
        self.let_in().await?;
        write_frame(stream, ACCEPTED).await?;
        stream.flush().await?;
        Ok(theirs.start())
    }

    /// Our newest key that the dialer hints at, and its place there.
    fn choose(&self, hinted: &[[u8; HINT_BYTES]], dialer: &Hello) -> Option<(u8, &WorkgroupKey)> {
        let nonce = dialer.nonce();
        self.ring.newest_first().find_map(|ours| {
            let hint = hint(&ours.key, &nonce, &self.theirs);
            let place = hinted.iter().position(|theirs| *theirs == hint)?;
            Some((u8::try_from(place).ok()?, &ours.key))
        })
    }

    /// Who has none of our keys is answered all the same, so that it does not learn that we have none of its.
    async fn answer_to_stranger<S>(&self, stream: &mut S) -> Result<u64, ProofError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let [choice, proof @ ..]: [u8; 1 + MAC_BYTES] = random::bytes().map_err(no_random)?;
        let choice = choice % KEYS_MAX as u8;
        write_frame(stream, &[&Hello::new(self.start)?.0[..], &[choice], &proof].concat()).await?;
        stream.flush().await?;
        let _ = read(stream).await; // Until it has read that, and left.
        Err(ProofError::WrongKey)
    }

    /// The roster's word on who has proved the key.
    async fn let_in(&self) -> Result<(), ProofError> {
        match self.members.admission(&self.theirs).await {
            Admission::Member => {
                self.proved.store(true, Ordering::Release);
                Ok(())
            }
            Admission::Retired => Err(ProofError::Retired),
            Admission::Unlisted => {
                self.members.unlisted(&self.theirs);
                Err(ProofError::Unlisted)
            }
        }
    }
}

/// The proof of the side `prover`.
fn mac(key: &WorkgroupKey, prover: Role, matter: &Matter<'_>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&key.derive("tcat 1 proof of membership"));
    hasher.update(match prover {
        Role::Dialer => b"dialer  ",
        Role::Listener => b"listener",
    });
    for client in &matter.clients {
        hasher.update(&client.0);
    }
    hasher.update(matter.asked).update(matter.answered).finalize()
}

fn check(proof: &[u8], expected: &blake3::Hash) -> Result<(), ProofError> {
    let proof: [u8; MAC_BYTES] = proof.try_into().map_err(|_| ProofError::Malformed)?;
    // `Hash` compares in constant time.
    if blake3::Hash::from_bytes(proof) == *expected { Ok(()) } else { Err(ProofError::WrongKey) }
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, ProofError> {
    read_frame(stream, EXCHANGE_MAX_BYTES)
        .await?
        .ok_or_else(|| ProofError::Ended(io::ErrorKind::UnexpectedEof.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pipe::pipe;
    use futures::executor::block_on;

    const ONE: ClientId = ClientId([1; 32]);
    const TWO: ClientId = ClientId([2; 32]);

    fn ring(byte: u8) -> Keyring {
        Keyring::new(WorkgroupKey::from_bytes([byte; 32]))
    }

    /// A roster that says the same of everybody.
    struct Says(Admission);

    #[async_trait]
    impl Members for Says {
        async fn admission(&self, _: &ClientId) -> Admission {
            self.0
        }

        fn unlisted(&self, _: &ClientId) {}
    }

    const EVERYBODY: Says = Says(Admission::Member);

    /// Both ends' results and whether each let the other in, where each believes the other to be who is named.
    fn meet(
        keys: [[u8; 32]; 2],
        dialer: (ClientId, ClientId),
        listener: (ClientId, ClientId),
    ) -> [(Result<u64, ProofError>, bool); 2] {
        let rings = keys.map(|key| Keyring::new(WorkgroupKey::from_bytes(key)));
        meet_with(&rings, dialer, listener, [&EVERYBODY; 2])
    }

    /// The same with the roster of each end.
    fn meet_with(
        rings: &[Keyring; 2],
        dialer: (ClientId, ClientId),
        listener: (ClientId, ClientId),
        rosters: [&Says; 2],
    ) -> [(Result<u64, ProofError>, bool); 2] {
        let [dialer_ring, listener_ring] = rings;
        let let_in = [AtomicBool::new(false), AtomicBool::new(false)];
        let (mut near, mut far) = pipe();
        let (dialed, listened) = {
            let (ours, theirs) = dialer;
            let (ring, members, proved) = (dialer_ring, rosters[0], &let_in[0]);
            let near_side = Prover { ring, ours, theirs, start: 10, members, proved };
            let (ours, theirs) = listener;
            let (ring, members, proved) = (listener_ring, rosters[1], &let_in[1]);
            let far_side = Prover { ring, ours, theirs, start: 20, members, proved };
            block_on(async {
                futures::join!(
                    async {
                        let result = near_side.prove_as_dialer(&mut near).await;
                        drop(near);
                        result
                    },
                    async {
                        let result = far_side.prove_as_listener(&mut far).await;
                        drop(far);
                        result
                    }
                )
            })
        };
        let [near_flag, far_flag] = let_in.map(AtomicBool::into_inner);
        [(dialed, near_flag), (listened, far_flag)]
    }

    #[test]
    fn members_let_each_other_in_and_learn_the_others_start() {
        let [dialed, listened] = meet([[7; 32]; 2], (ONE, TWO), (TWO, ONE));
        assert!(matches!(dialed, (Ok(20), true)), "{dialed:?}");
        assert!(matches!(listened, (Ok(10), true)), "{listened:?}");
    }

    #[test]
    fn another_key_opens_neither_side() {
        let [dialed, listened] = meet([[7; 32], [8; 32]], (ONE, TWO), (TWO, ONE));
        assert!(matches!(dialed, (Err(ProofError::WrongKey), false)), "{dialed:?}");
        assert!(matches!(listened, (Err(_), false)), "{listened:?}");
    }

    #[test]
    fn a_proof_relayed_by_a_third_is_worth_nothing() {
        // Both members believe to talk to the third, who passes on every byte between them.
        let third = ClientId([3; 32]);
        let [dialed, listened] = meet([[7; 32]; 2], (ONE, third), (TWO, third));
        assert!(matches!(dialed, (Err(ProofError::WrongKey), false)), "{dialed:?}");
        assert!(matches!(listened, (Err(_), false)), "{listened:?}");
    }

    #[test]
    fn a_listeners_own_proof_sent_back_to_it_is_refused() {
        let ring = ring(7);
        let proved = AtomicBool::new(false);
        let (mut near, mut far) = pipe();
        let (ours, theirs, members) = (ONE, TWO, &EVERYBODY);
        let listener = Prover { ring: &ring, ours, theirs, start: 1, members, proved: &proved };
        let mirror = async {
            let hello = Hello([9; HELLO_BYTES]);
            let hints = hints(&ring, &hello.nonce(), &TWO).unwrap();
            write_frame(&mut near, &[&hello.0[..], &hints.concat()].concat()).await.unwrap();
            let answer = read(&mut near).await.unwrap();
            write_frame(&mut near, &answer[HELLO_BYTES + 1..]).await.unwrap();
        };
        let (result, ()) = block_on(async { futures::join!(listener.prove_as_listener(&mut far), mirror) });
        assert!(matches!(result, Err(ProofError::WrongKey)), "{result:?}");
        assert!(!proved.into_inner());
    }

    #[test]
    fn who_was_away_while_keys_were_made_proves_with_one_that_it_knows() {
        let old = ring(7);
        let maker = crate::identity::Identity::generate().unwrap();
        let keys = crate::keyring::Keys::new(maker, old.clone(), Box::new(Nowhere));
        for n in 0..3 {
            assert!(keys.rotate(&[ClientId([n + 10; 32])]).unwrap());
        }
        for rings in [[old.clone(), keys.ring()], [keys.ring(), old.clone()]] {
            let [dialed, listened] = meet_with(&rings, (ONE, TWO), (TWO, ONE), [&EVERYBODY; 2]);
            assert!(
                matches!((&dialed, &listened), ((Ok(20), true), (Ok(10), true))),
                "{dialed:?} {listened:?}"
            );
        }
        for n in 3..9 {
            assert!(keys.rotate(&[ClientId([n + 10; 32])]).unwrap());
        }
        // The first one is not known any more.
        let [dialed, listened] = meet_with(&[old, keys.ring()], (ONE, TWO), (TWO, ONE), [&EVERYBODY; 2]);
        assert!(
            matches!((&dialed, &listened), ((Err(_), false), (Err(_), false))),
            "{dialed:?} {listened:?}"
        );
    }

    struct Nowhere;

    impl crate::keyring::KeyStore for Nowhere {
        fn save(&self, _: &Keyring) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whom_either_ends_roster_does_not_admit_sees_a_stream_that_ends() {
        for admission in [Admission::Retired, Admission::Unlisted] {
            for refuses in [0, 1] {
                let mut rosters = [&EVERYBODY; 2];
                let refusing = Says(admission);
                rosters[refuses] = &refusing;
                let mut results = meet_with(&[ring(7), ring(7)], (ONE, TWO), (TWO, ONE), rosters);
                let (refused, let_in) = &results[refuses];
                let named = match admission {
                    Admission::Retired => matches!(refused, Err(ProofError::Retired)),
                    _ => matches!(refused, Err(ProofError::Unlisted)),
                };
                assert!(named && !let_in, "{refused:?}");
                // The other end cannot tell it from a network that broke.
                let (other, _) = &mut results[1 - refuses];
                assert!(matches!(other, Err(ProofError::Ended(_))), "{other:?}");
            }
        }
    }

    #[test]
    fn debug_output_holds_no_key() {
        assert_eq!(format!("{:?}", WorkgroupKey::from_bytes([7; 32])), "WorkgroupKey(..)");
    }
}
