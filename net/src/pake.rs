//! Proving at both ends of a connection that a code's words are known, without showing them: SPAKE2 over Ed25519.
//!
//! Always: the proof is bound to the keys of both ends, as noise has proved them, so nobody can stand between them; and
//! a run tells who does not know the words nothing but whether one guess was right, and the inviter tells even that
//! only after the newcomer has committed to its guess. The primitive is the crate's; here are the roles and the two
//! confirmations.

use crate::invite_code::InviteCode;
use spake2::{Ed25519Group, Identity, Password, Spake2};
use tcat_engine::ids::ClientId;

/// The length of one side's first message.
pub(crate) const MESSAGE_BYTES: usize = 33;
/// The length of a confirmation.
pub(crate) const CONFIRMATION_BYTES: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Newcomer,
    Inviter,
}

/// A run that has begun.
pub(crate) struct Pake {
    state: Spake2<Ed25519Group>,
}

/// What both ends have if both know the words, and what differs entirely if not.
pub(crate) struct Confirmations {
    pub newcomer: blake3::Hash,
    pub inviter: blake3::Hash,
}

impl Pake {
    /// Begins a run: its state and the message for the other end.
    pub(crate) fn start(
        role: Role,
        code: &InviteCode,
        newcomer: &ClientId,
        inviter: &ClientId,
    ) -> (Self, Vec<u8>) {
        let password = Password::new(code.encode());
        let (newcomer, inviter) = (Identity::new(&newcomer.0), Identity::new(&inviter.0));
        #[cfg(test)]
        if let Some(byte) = crate::random::fixed::now() {
            let (state, message) = match role {
                Role::Newcomer => Spake2::start_a_with_rng(&password, &newcomer, &inviter, Fixed(byte)),
                Role::Inviter => Spake2::start_b_with_rng(&password, &newcomer, &inviter, Fixed(byte)),
            };
            return (Self { state }, message);
        }
        let (state, message) = match role {
            Role::Newcomer => Spake2::start_a(&password, &newcomer, &inviter),
            Role::Inviter => Spake2::start_b(&password, &newcomer, &inviter),
        };
        (Self { state }, message)
    }

    /// Takes the other end's message; nothing if it is none.
    pub(crate) fn finish(self, message: &[u8]) -> Option<Confirmations> {
        let key = self.state.finish(message).ok()?;
        let confirmation = |purpose| blake3::Hash::from_bytes(blake3::derive_key(purpose, &key));
        Some(Confirmations {
            newcomer: confirmation("tcat 1 newcomer's confirmation of an invitation"),
            inviter: confirmation("tcat 1 inviter's confirmation of an invitation"),
        })
    }
}

/// Whether a confirmation that came is the expected one; takes the same time whatever differs.
pub(crate) fn confirms(received: &[u8], expected: &blake3::Hash) -> bool {
    let received: Result<[u8; CONFIRMATION_BYTES], _> = received.try_into();
    received.is_ok_and(|bytes| blake3::Hash::from_bytes(bytes) == *expected)
}

/// The same byte each time.
#[cfg(test)]
struct Fixed(u8);

#[cfg(test)]
impl rand_core::CryptoRng for Fixed {}

#[cfg(test)]
impl rand_core::RngCore for Fixed {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes([self.0; 4])
    }

    fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes([self.0; 8])
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        bytes.fill(self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWCOMER: ClientId = ClientId([1; 32]);
    const INVITER: ClientId = ClientId([2; 32]);
    const THIRD: ClientId = ClientId([3; 32]);

    fn code(text: &str) -> InviteCode {
        InviteCode::parse(text).unwrap()
    }

    /// Whether both ends agree; each names the two that it believes to be at it.
    fn agree(codes: [&str; 2], of_newcomer: [ClientId; 2], of_inviter: [ClientId; 2]) -> bool {
        let [near, far] = codes.map(code);
        let (newcomer, to_inviter) = Pake::start(Role::Newcomer, &near, &of_newcomer[0], &of_newcomer[1]);
        let (inviter, to_newcomer) = Pake::start(Role::Inviter, &far, &of_inviter[0], &of_inviter[1]);
        assert_eq!((to_inviter.len(), to_newcomer.len()), (MESSAGE_BYTES, MESSAGE_BYTES));
        let (near, far) = (newcomer.finish(&to_newcomer).unwrap(), inviter.finish(&to_inviter).unwrap());
        assert_ne!(near.newcomer, near.inviter);
        let both = [(near.newcomer, far.newcomer), (near.inviter, far.inviter)];
        let agreed = both.map(|(near, far)| confirms(near.as_bytes(), &far));
        assert_eq!(agreed[0], agreed[1]);
        agreed[0]
    }

    #[test]
    fn both_ends_agree_only_with_the_same_words_and_about_who_they_are() {
        const CODE: &str = "417-canyon-velvet-orbit";
        let pair = [NEWCOMER, INVITER];
        assert!(agree([CODE, CODE], pair, pair));
        assert!(!agree([CODE, "417-canyon-velvet-oven"], pair, pair));
        assert!(!agree([CODE, "418-canyon-velvet-orbit"], pair, pair));
        assert!(!agree([CODE, CODE], pair, [THIRD, INVITER]), "somebody stands between");
        assert!(!agree([CODE, CODE], [NEWCOMER, THIRD], pair), "somebody stands between");
    }

    #[test]
    fn garbage_confirms_nothing() {
        let start = || Pake::start(Role::Inviter, &code("417-canyon-velvet-orbit"), &NEWCOMER, &INVITER).0;
        for garbage in [vec![], vec![0; MESSAGE_BYTES], vec![0xff; MESSAGE_BYTES], vec![0x41; 4096]] {
            assert!(start().finish(&garbage).is_none(), "{garbage:?}");
        }
        let own = Pake::start(Role::Inviter, &code("417-canyon-velvet-orbit"), &NEWCOMER, &INVITER);
        assert!(own.0.finish(&own.1).is_none(), "our own message sent back");
        assert!(!confirms(&[], &blake3::hash(b"")) && !confirms(&[0; 33], &blake3::hash(b"")));
    }
}
