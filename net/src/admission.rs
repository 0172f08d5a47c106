//! The inviter's side of joining: one request on `/tcat/join/2`, answered with what a new member needs, or refused.
//!
//! ```text
//! newcomer: the code's number, its PAKE message      ->
//!                                                    <- inviter: 0 and its PAKE message, or a refusal
//! newcomer: its confirmation                         ->
//!                                                    <- inviter: 0 and its confirmation, or a refusal
//! newcomer: its name                                 ->
//!                                                    <- inviter: 0 and the answer, or a refusal
//! ```
//! Always: a code is good for one guess, since the first confirmation that is wrong ends it; nothing is shown to who
//! has not confirmed. What the answer holds is the node's: bytes here. What is left out: keeping invitations, which is
//! the node's, behind [`Invitations`].

use crate::frame::{read_frame, write_frame};
use crate::invite_code::InviteCode;
use crate::pake::{CONFIRMATION_BYTES, MESSAGE_BYTES, Pake, Role, confirms};
use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tcat_engine::ids::ClientId;

/// The longest name of a client, in bytes.
pub const NAME_MAX_BYTES: usize = 128;

/// One attempt so often from one address.
pub(crate) const ATTEMPT_INTERVAL: Duration = Duration::from_secs(1);
const ATTEMPTS_REMEMBERED_MAX: usize = 1024;
const NUMBER_BYTES: usize = 2;

/// The node's book of invitations.
pub trait Invitations: Send + Sync {
    /// The open invitation with this number, for an attempt by `client`.
    fn code(&self, number: u16, client: &ClientId) -> Result<InviteCode, Refusal>;

    /// `client` has shown whether it knows the words: the first who does not ends the invitation, the first who does
    /// takes it, and whoever comes after either is refused, whatever it showed. The answer can be lost on its way, so
    /// who took it may come again before it expires.
    fn attempted(&self, number: u16, client: &ClientId, knows: bool) -> Result<(), Refusal>;

    /// Admits who has taken the invitation and calls itself `name`: the bytes that a new member needs (ids, keys,
    /// URLs). May block. The same client again is given the same answer.
    fn admit(&self, number: u16, client: &ClientId, name: &str) -> Result<Vec<u8>, Refusal>;
}

/// Why an inviter does not admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has no open invitation with this number.
    #[error("it has not given out this code, or it was ended; run `tcat invite` again on a member")]
    Unknown,
    /// The code was good until a while ago.
    #[error("the code has expired; run `tcat invite` again on a member")]
    Expired,
    /// Another client joined with it.
    #[error("the code was used by another client; run `tcat invite` again on a member")]
    Used,
    /// The words are not those of the code.
    #[error(
        "the words of the code are wrong, and a code is good for one attempt; run `tcat invite` again on a member"
    )]
    Wrong,
    /// It admits one attempt a second from an address.
    #[error("too many attempts from this machine; wait a few seconds and try again")]
    TooSoon,
    /// It cannot admit anybody at present.
    #[error("it cannot admit anybody now; look at its log")]
    NotNow,
}

const GRANTED: u8 = 0;

impl Refusal {
    fn to_byte(self) -> u8 {
        match self {
            Self::Unknown => 1,
            Self::Expired => 2,
            Self::Used => 3,
            Self::TooSoon => 4,
            Self::NotNow => 5,
            Self::Wrong => 6,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Unknown,
            2 => Self::Expired,
            3 => Self::Used,
            4 => Self::TooSoon,
            6 => Self::Wrong,
            _ => Self::NotNow,
        }
    }
}

/// What the inviter says at one step.
pub(crate) type Said = Result<Vec<u8>, Refusal>;

/// Reads what the inviter says: at most `limit` bytes.
pub(crate) async fn hear<S: AsyncRead + Unpin>(stream: &mut S, limit: usize) -> io::Result<Said> {
    let frame = read_frame(stream, limit + 1).await?;
    match frame.as_deref().and_then(<[u8]>::split_first) {
        Some((&GRANTED, said)) => Ok(Ok(said.to_vec())),
        Some((refusal, _)) => Ok(Err(Refusal::from_byte(*refusal))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, said: &Said) -> io::Result<()> {
    let bytes = match said {
        Ok(granted) => [&[GRANTED][..], granted].concat(),
        Err(refusal) => vec![refusal.to_byte()],
    };
    write_frame(stream, &bytes).await?;
    stream.flush().await
}

/// The newcomer's first frame.
pub(crate) fn opening(number: u16, message: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], message].concat()
}

/// One newcomer at the inviter `us`. `allowed` is the verdict of the [`RateLimit`]. Returns whether it was admitted; an
/// error if the connection broke or the newcomer breaks the protocol.
pub(crate) async fn admit<S>(
    stream: &mut S,
    us: ClientId,
    client: ClientId,
    allowed: bool,
    invitations: Option<Arc<dyn Invitations>>,
) -> io::Result<Result<(), Refusal>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let said = answer(stream, us, client, allowed, invitations).await?;
    say(stream, &said).await?;
    stream.close().await?;
    Ok(said.map(drop))
}

/// The last word to a newcomer: what it needs, or at whatever step the refusal.
async fn answer<S>(
    stream: &mut S,
    us: ClientId,
    client: ClientId,
    allowed: bool,
    invitations: Option<Arc<dyn Invitations>>,
) -> io::Result<Said>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let opening = expect(stream, NUMBER_BYTES + MESSAGE_BYTES).await?;
    let (number, message) = opening.split_first_chunk::<NUMBER_BYTES>().ok_or_else(malformed)?;
    let number = u16::from_be_bytes(*number);
    if !allowed {
        return Ok(Err(Refusal::TooSoon));
    }
    let Some(invitations) = invitations else { return Ok(Err(Refusal::NotNow)) };
    let code = match invitations.code(number, &client) {
        Ok(code) => code,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let (pake, ours) = Pake::start(Role::Inviter, &code, &client, &us);
    let expected = pake.finish(message).ok_or_else(malformed)?;
    say(stream, &Ok(ours)).await?;
    let confirmation = expect(stream, CONFIRMATION_BYTES).await?;
    let knows = confirms(&confirmation, &expected.newcomer);
    if let Err(refusal) = invitations.attempted(number, &client, knows) {
        return Ok(Err(refusal));
    }
    if !knows {
        // The book has ended the code; that it grants who does not know it must never let one in.
        return Ok(Err(Refusal::Wrong));
    }
    say(stream, &Ok(expected.inviter.as_bytes().to_vec())).await?;
    let name = String::from_utf8(expect(stream, NAME_MAX_BYTES).await?).map_err(|_| malformed())?;
    if name.is_empty() {
        return Err(malformed());
    }
    let admitting = tokio::task::spawn_blocking(move || invitations.admit(number, &client, &name));
    Ok(admitting.await.unwrap_or(Err(Refusal::NotNow)))
}

async fn expect<S: AsyncRead + Unpin>(stream: &mut S, limit: usize) -> io::Result<Vec<u8>> {
    read_frame(stream, limit).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// One attempt a second from one address; a table of bounded size.
#[derive(Default)]
pub(crate) struct RateLimit {
    last: BTreeMap<IpAddr, Instant>,
}

impl RateLimit {
    /// Whether an attempt from this address may be looked at now.
    pub(crate) fn allows(&mut self, address: Option<SocketAddr>, now: Instant) -> bool {
        let Some(address) = address else { return false };
        let recent = |last: &Instant| now.saturating_duration_since(*last) < ATTEMPT_INTERVAL;
        if self.last.len() >= ATTEMPTS_REMEMBERED_MAX {
            self.last.retain(|_, last| recent(last));
        }
        if self.last.get(&address.ip()).is_some_and(recent) || self.last.len() >= ATTEMPTS_REMEMBERED_MAX {
            return false;
        }
        self.last.insert(address.ip(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::ask;
    use crate::test_pipe::pipe;
    use std::sync::Mutex;

    const NEWCOMER: ClientId = ClientId([4; 32]);
    const INVITER: ClientId = ClientId([5; 32]);
    const CODE: &str = "417-canyon-velvet-orbit";

    /// One invitation, and what its attempts showed.
    #[derive(Default)]
    struct Book(Mutex<Vec<bool>>);

    impl Invitations for Book {
        fn code(&self, number: u16, client: &ClientId) -> Result<InviteCode, Refusal> {
            assert_eq!(*client, NEWCOMER);
            if number == 417 { Ok(InviteCode::parse(CODE).unwrap()) } else { Err(Refusal::Unknown) }
        }

        fn attempted(&self, _: u16, _: &ClientId, knows: bool) -> Result<(), Refusal> {
            self.0.lock().unwrap().push(knows);
            if knows { Ok(()) } else { Err(Refusal::Wrong) }
        }

        fn admit(&self, number: u16, client: &ClientId, name: &str) -> Result<Vec<u8>, Refusal> {
            assert_eq!((number, *client, name), (417, NEWCOMER, "Atelier Süd"));
            Ok(b"key and urls".to_vec())
        }
    }

    /// What a newcomer with this code is answered, and what the inviter's book was told of attempts.
    async fn exchange(code: &str, allowed: bool, has_book: bool) -> (Said, Vec<bool>) {
        let (mut near, mut far) = pipe();
        let (code, book) = (InviteCode::parse(code).unwrap(), Arc::new(Book::default()));
        let invitations = has_book.then(|| book.clone() as Arc<dyn Invitations>);
        let (answer, _) = futures::join!(
            ask(&mut near, &code, "Atelier Süd", NEWCOMER, INVITER),
            admit(&mut far, INVITER, NEWCOMER, allowed, invitations)
        );
        let attempts = book.0.lock().unwrap().clone();
        (answer.unwrap(), attempts)
    }

    #[tokio::test]
    async fn who_knows_the_words_is_given_the_answer_and_nobody_else() {
        assert_eq!(exchange(CODE, true, true).await, (Ok(b"key and urls".to_vec()), vec![true]));
        let wrong = exchange("417-canyon-velvet-oven", true, true).await;
        assert_eq!(wrong, (Err(Refusal::Wrong), vec![false]));
        let unknown = exchange("418-canyon-velvet-orbit", true, true).await;
        assert_eq!(unknown, (Err(Refusal::Unknown), vec![]));
        assert_eq!(exchange(CODE, false, true).await, (Err(Refusal::TooSoon), vec![]));
        assert_eq!(exchange(CODE, true, false).await, (Err(Refusal::NotNow), vec![]));
    }

    #[tokio::test]
    async fn what_breaks_the_protocol_is_answered_with_nothing_and_counts_as_no_attempt() {
        let message = Pake::start(Role::Newcomer, &InviteCode::parse(CODE).unwrap(), &NEWCOMER, &INVITER).1;
        for first in [vec![], vec![1], opening(417, &[]), opening(417, &[0; MESSAGE_BYTES]), vec![0x42; 36]] {
            let (mut near, mut far) = pipe();
            let book = Arc::new(Book::default());
            let newcomer = async {
                write_frame(&mut near, &first).await.unwrap();
                near.close().await.unwrap();
                read_frame(&mut near, 100).await
            };
            let admitting = async {
                let ended = admit(&mut far, INVITER, NEWCOMER, true, Some(book.clone())).await;
                drop(far);
                ended
            };
            let (heard, ended) = futures::join!(newcomer, admitting);
            assert!(matches!(heard, Ok(None)), "{first:?}: {heard:?}");
            assert!(ended.is_err() && book.0.lock().unwrap().is_empty(), "{first:?}: {ended:?}");
        }
        // Who leaves after the inviter's message has learned nothing of the words.
        let (mut near, mut far) = pipe();
        let book = Arc::new(Book::default());
        let newcomer = async {
            write_frame(&mut near, &opening(417, &message)).await.unwrap();
            near.close().await.unwrap();
        };
        let (_, ended) =
            futures::join!(newcomer, admit(&mut far, INVITER, NEWCOMER, true, Some(book.clone())));
        assert!(ended.is_err() && book.0.lock().unwrap().is_empty());
    }

    #[test]
    fn every_refusal_survives_the_wire() {
        use Refusal as R;
        for refusal in [R::Unknown, R::Expired, R::Used, R::Wrong, R::TooSoon, R::NotNow] {
            assert_eq!(Refusal::from_byte(refusal.to_byte()), refusal);
        }
    }

    #[test]
    fn one_attempt_a_second_from_one_address() {
        let mut limit = RateLimit::default();
        let now = Instant::now();
        let at = |last: u8, port| Some(SocketAddr::from(([10, 0, 0, last], port)));
        assert!(limit.allows(at(1, 1), now));
        assert!(
            !limit.allows(at(1, 2), now + Duration::from_millis(900)),
            "another port is the same machine"
        );
        assert!(limit.allows(at(2, 1), now));
        assert!(limit.allows(at(1, 1), now + Duration::from_secs(1)));
        assert!(!limit.allows(None, now));
    }

    #[test]
    fn the_table_of_attempts_stays_small() {
        let mut limit = RateLimit::default();
        let now = Instant::now();
        let from = |i: u32| Some(SocketAddr::from((i.to_be_bytes(), 1)));
        let allowed = (0..5000).filter(|i| limit.allows(from(*i), now)).count();
        assert_eq!(allowed, ATTEMPTS_REMEMBERED_MAX);
        assert!(limit.allows(from(6000), now + Duration::from_secs(2)));
        assert!(limit.last.len() <= ATTEMPTS_REMEMBERED_MAX);
    }
}
