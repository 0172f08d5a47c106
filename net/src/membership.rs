//! Who belongs to the workgroup: both ends of every connection prove that they have its key, before anything else.
//!
//! Always: the key itself is never sent. A proof is a keyed BLAKE3 over the role, both public keys, both starts and
//! both nonces. Noise has proved the public keys already, so a proof cannot be carried from one connection to
//! another, nor back to who made it. To a stranger, with no key, a proof is 32 random bytes.
//! The key alone admits nobody: the roster does, which is the node's, behind [`Members`]. Each end asks it once the other
//! has proved the key, and before its own last word: who is not in it sees a stream that ends, like any stranger.

use crate::frame::{read_frame, write_frame};
use crate::random;
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
            io::ErrorKind::InvalidData => Self::Malformed,
            _ => Self::Ended(error),
        }
    }
}

/// What both ends must agree on; `start` is a random number of one run of a node.
pub(crate) struct Prover<'a> {
    pub key: &'a WorkgroupKey,
    pub ours: ClientId,
    pub theirs: ClientId,
    pub start: u64,
    pub members: &'a dyn Members,
    /// Set the moment that the peer has proved itself and is admitted: from then on its other streams are accepted.
    pub proved: &'a AtomicBool,
}

const HELLO_BYTES: usize = 40;
const MAC_BYTES: usize = 32;
const ACCEPTED: &[u8] = b"member";
/// No frame of this exchange is longer.
const EXCHANGE_MAX_BYTES: usize = 256;

/// A nonce and the sender's start.
#[derive(Clone, Copy)]
struct Hello([u8; HELLO_BYTES]);

impl Hello {
    fn new(start: u64) -> Result<Self, ProofError> {
        let nonce: [u8; 32] =
            random::bytes().map_err(|e| ProofError::Ended(io::Error::other(e.to_string())))?;
        let mut bytes = [0; HELLO_BYTES];
        let (front, back) = bytes.split_at_mut(nonce.len());
        front.copy_from_slice(&nonce);
        back.copy_from_slice(&start.to_be_bytes());
        Ok(Self(bytes))
    }

    fn read(bytes: &[u8]) -> Result<Self, ProofError> {
        bytes.try_into().map(Self).map_err(|_| ProofError::Malformed)
    }

    fn start(&self) -> u64 {
        self.0.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

#[derive(Clone, Copy)]
enum Role {
    Dialer,
    Listener,
}

impl Prover<'_> {
    /// The side that dialed: hello ->, <- hello and proof, proof ->, <- accepted. Returns the peer's start.
    pub(crate) async fn prove_as_dialer<S>(&self, stream: &mut S) -> Result<u64, ProofError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let ours = Hello::new(self.start)?;
        write_frame(stream, &ours.0).await?;
        stream.flush().await?;
        let answer = read(stream).await?;
        let (hello, proof) = answer.split_at_checked(HELLO_BYTES).ok_or(ProofError::Malformed)?;
        let theirs = Hello::read(hello)?;
        let (clients, hellos) = ([&self.ours, &self.theirs], [&ours, &theirs]);
        self.check(proof, &self.mac(Role::Listener, clients, hellos))?;
        self.let_in().await?;
        write_frame(stream, self.mac(Role::Dialer, clients, hellos).as_bytes()).await?;
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
        let theirs = Hello::read(&read(stream).await?)?;
        let ours = Hello::new(self.start)?;
        let (clients, hellos) = ([&self.theirs, &self.ours], [&theirs, &ours]);
        let mut answer = ours.0.to_vec();
        answer.extend(self.mac(Role::Listener, clients, hellos).as_bytes());
        write_frame(stream, &answer).await?;
        stream.flush().await?;
        let proof = read(stream).await?;
        self.check(&proof, &self.mac(Role::Dialer, clients, hellos))?;
        self.let_in().await?;
        write_frame(stream, ACCEPTED).await?;
        stream.flush().await?;
        Ok(theirs.start())
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

    /// The proof of the side `prover`; both are given in the order dialer, listener.
    fn mac(&self, prover: Role, clients: [&ClientId; 2], hellos: [&Hello; 2]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.derive("tcat 1 proof of membership"));
        hasher.update(match prover {
            Role::Dialer => b"dialer  ",
            Role::Listener => b"listener",
        });
        for client in clients {
            hasher.update(&client.0);
        }
        for hello in hellos {
            hasher.update(&hello.0);
        }
        hasher.finalize()
    }

    fn check(&self, proof: &[u8], expected: &blake3::Hash) -> Result<(), ProofError> {
        let proof: [u8; MAC_BYTES] = proof.try_into().map_err(|_| ProofError::Malformed)?;
        // `Hash` compares in constant time.
        if blake3::Hash::from_bytes(proof) == *expected { Ok(()) } else { Err(ProofError::WrongKey) }
    }
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
        meet_with(keys, dialer, listener, [&EVERYBODY; 2])
    }

    /// The same with the roster of each end.
    fn meet_with(
        keys: [[u8; 32]; 2],
        dialer: (ClientId, ClientId),
        listener: (ClientId, ClientId),
        rosters: [&Says; 2],
    ) -> [(Result<u64, ProofError>, bool); 2] {
        let [dialer_key, listener_key] = keys.map(WorkgroupKey::from_bytes);
        let let_in = [AtomicBool::new(false), AtomicBool::new(false)];
        let (mut near, mut far) = pipe();
        let (dialed, listened) = {
            let (ours, theirs) = dialer;
            let (key, members, proved) = (&dialer_key, rosters[0], &let_in[0]);
            let near_side = Prover { key, ours, theirs, start: 10, members, proved };
            let (ours, theirs) = listener;
            let (key, members, proved) = (&listener_key, rosters[1], &let_in[1]);
            let far_side = Prover { key, ours, theirs, start: 20, members, proved };
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
        let key = WorkgroupKey::from_bytes([7; 32]);
        let proved = AtomicBool::new(false);
        let (mut near, mut far) = pipe();
        let (ours, theirs, members) = (ONE, TWO, &EVERYBODY);
        let listener = Prover { key: &key, ours, theirs, start: 1, members, proved: &proved };
        let mirror = async {
            write_frame(&mut near, &[9; HELLO_BYTES]).await.unwrap();
            let answer = read(&mut near).await.unwrap();
            write_frame(&mut near, &answer[HELLO_BYTES..]).await.unwrap();
        };
        let (result, ()) = block_on(async { futures::join!(listener.prove_as_listener(&mut far), mirror) });
        assert!(matches!(result, Err(ProofError::WrongKey)), "{result:?}");
        assert!(!proved.into_inner());
    }

    #[test]
    fn whom_either_ends_roster_does_not_admit_sees_a_stream_that_ends() {
        for admission in [Admission::Retired, Admission::Unlisted] {
            for refuses in [0, 1] {
                let mut rosters = [&EVERYBODY; 2];
                let refusing = Says(admission);
                rosters[refuses] = &refusing;
                let mut results = meet_with([[7; 32]; 2], (ONE, TWO), (TWO, ONE), rosters);
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
