//! Joining: who has a one-time secret but no workgroup key yet asks the inviter for admission.
//!
//! Always: the newcomer has checked, through noise, that it speaks to the inviter whose key its code names, before it
//! shows the secret; the inviter shows nothing to who does not redeem a secret. What the answer holds is the node's:
//! bytes here. What is left out: keeping invitations, which is the node's, behind [`Invitations`].

use crate::address::{PeerAddress, multiaddr, socket_address};
use crate::frame::{FRAME_MAX_BYTES, read_frame, write_frame};
use crate::identity::{Identity, peer_id_of};
use crate::streams::{ConnectionEnds, JOIN};
use crate::swarm::{Behaviour, build_swarm};
use futures::StreamExt;
use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{DialError, Swarm, SwarmEvent};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tcat_engine::ids::ClientId;

/// The longest name of a client, in bytes.
pub const NAME_MAX_BYTES: usize = 128;

const SECRET_BYTES: usize = 16;
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(1);
const ATTEMPTS_REMEMBERED_MAX: usize = 1024;
const DIAL_RETRY: Duration = Duration::from_millis(500);

/// The node's book of invitations.
pub trait Invitations: Send + Sync {
    /// Redeems a one-time secret for `client`, who calls itself `name`: the bytes that a new member needs (workgroup
    /// key, ids, URLs), or why not. May block. Compare secrets with [`same_secret`]. The answer can be lost on its way,
    /// so the same client redeeming the same secret again, before it expires, must be given the same answer.
    fn redeem(&self, secret: &[u8; 16], client: &ClientId, name: &str) -> Result<Vec<u8>, Refusal>;
}

/// Why an inviter does not admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It never made this code, or has forgotten it.
    #[error("it does not know this code; run `tcat invite` there again")]
    Unknown,
    /// The code was good until a while ago.
    #[error("the code has expired; run `tcat invite` there again")]
    Expired,
    /// Another client joined with it.
    #[error("the code was used by another client; run `tcat invite` there again")]
    Used,
    /// It admits one attempt a second from an address.
    #[error("too many attempts from this machine; wait a few seconds and try again")]
    TooSoon,
    /// It cannot admit anybody at present.
    #[error("it cannot admit anybody now; look at its log")]
    NotNow,
}

impl Refusal {
    fn to_byte(self) -> u8 {
        match self {
            Self::Unknown => 1,
            Self::Expired => 2,
            Self::Used => 3,
            Self::TooSoon => 4,
            Self::NotNow => 5,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Unknown,
            2 => Self::Expired,
            3 => Self::Used,
            4 => Self::TooSoon,
            _ => Self::NotNow,
        }
    }
}

/// Whether two one-time secrets are the same; takes the same time whatever differs.
pub fn same_secret(one: &[u8; 16], other: &[u8; 16]) -> bool {
    blake3::hash(one) == blake3::hash(other) // `blake3::Hash` compares in constant time
}

/// Why joining did not work.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The name would not fit.
    #[error("a client's name is 1 to {NAME_MAX_BYTES} bytes long; choose another with --name")]
    Name,
    /// The code has no address and none was given.
    #[error("the code holds no address of the inviter; give one with --peer HOST:PORT")]
    NoAddress,
    /// The inviter's id is not a key.
    #[error("the code names no valid inviter; run `tcat invite` again on the other machine")]
    BadInviter,
    /// Nobody answers there.
    #[error(
        "the inviter cannot be reached at {addresses}: {why}; is `tcat run` running there, on the same network?"
    )]
    Unreachable {
        /// Where it was tried.
        addresses: String,
        /// The last error.
        why: String,
    },
    /// A node answers there, but not the one that made the code.
    #[error("another node than the inviter answers at {address}; check the address, or make a new code")]
    NotTheInviter {
        /// Where it answers.
        address: String,
    },
    /// The inviter said no.
    #[error("the inviter refused: {0}")]
    Refused(Refusal),
    /// The inviter was reached, and then fell silent or spoke otherwise than it should.
    #[error("the inviter broke off: {0}; run `tcat join` again with the same code")]
    BrokenOff(String),
    /// All of it took too long.
    #[error("the inviter did not answer in {0} s; run `tcat join` again with the same code")]
    TimedOut(u64),
    /// libp2p could not be set up.
    #[error("the network could not be set up: {0}")]
    Setup(String),
}

/// What [`join`] needs beside the newcomer's identity.
pub struct JoinRequest {
    /// Who made the code: its key is checked before the secret is sent.
    pub inviter: ClientId,
    /// Where it may listen; all are tried.
    pub addresses: Vec<PeerAddress>,
    /// The code's one-time secret.
    pub secret: [u8; 16],
    /// What this client calls itself.
    pub name: String,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// Asks the inviter for admission; what it answers is for the node to read. An inviter that cannot be reached at once
/// is tried again until a third of the time is over, one that asks to wait until all of it is.
pub async fn join(identity: &Identity, request: &JoinRequest) -> Result<Vec<u8>, JoinError> {
    if request.name.is_empty() || request.name.len() > NAME_MAX_BYTES {
        return Err(JoinError::Name);
    }
    if request.addresses.is_empty() {
        return Err(JoinError::NoAddress);
    }
    let inviter = peer_id_of(&request.inviter).ok_or(JoinError::BadInviter)?;
    let whole = tokio::time::timeout(request.timeout, join_until_answered(identity, request, inviter));
    whole.await.unwrap_or(Err(JoinError::TimedOut(request.timeout.as_secs())))
}

async fn join_until_answered(
    identity: &Identity,
    request: &JoinRequest,
    inviter: PeerId,
) -> Result<Vec<u8>, JoinError> {
    let started = Instant::now();
    loop {
        match join_once(identity, request, inviter).await {
            Err(JoinError::Unreachable { .. }) if started.elapsed() < request.timeout / 3 => {
                tokio::time::sleep(DIAL_RETRY).await;
            }
            Err(JoinError::Refused(Refusal::TooSoon)) => tokio::time::sleep(ATTEMPT_INTERVAL).await,
            other => return other,
        }
    }
}

async fn join_once(
    identity: &Identity,
    request: &JoinRequest,
    inviter: PeerId,
) -> Result<Vec<u8>, JoinError> {
    let mut swarm = build_swarm(identity).map_err(JoinError::Setup)?;
    let ends = reach(&mut swarm, request, inviter).await?;
    let asking = async {
        let mut stream = ends.opener.open(JOIN).await?;
        ask(&mut stream, request).await
    };
    tokio::pin!(asking);
    loop {
        tokio::select! {
            answer = &mut asking => {
                return answer.map_err(|e| JoinError::BrokenOff(e.to_string()))?.map_err(JoinError::Refused);
            }
            event = swarm.select_next_some() => if let SwarmEvent::ConnectionClosed { cause, .. } = event {
                let why = cause.map_or_else(|| "it closed the connection".to_owned(), |c| c.to_string());
                return Err(JoinError::BrokenOff(why));
            }
        }
    }
}

/// Dials all addresses until the inviter itself answers at one.
async fn reach(
    swarm: &mut Swarm<Behaviour>,
    request: &JoinRequest,
    inviter: PeerId,
) -> Result<ConnectionEnds, JoinError> {
    let names = request.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let unreachable = |why: String| JoinError::Unreachable { addresses: names.clone(), why };
    let mut addresses = Vec::new();
    let mut why = String::from("no such host");
    for address in &request.addresses {
        match address.resolve().await {
            Ok(found) => addresses.extend(found.into_iter().map(multiaddr)),
            Err(error) => why = error.to_string(),
        }
    }
    if addresses.is_empty() {
        return Err(unreachable(why));
    }
    // One dial an address: at one of them another member may listen by now, which says nothing of the others.
    let mut open = 0;
    for address in addresses {
        let dial = DialOpts::peer_id(inviter)
            .condition(PeerCondition::Always)
            .addresses(vec![address])
            .allocate_new_port()
            .build();
        swarm.dial(dial).map_err(|e| unreachable(e.to_string()))?;
        open += 1;
    }
    let mut impostor = None;
    while open > 0 {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                let ends = swarm.behaviour_mut().streams.take(connection_id);
                return ends.ok_or_else(|| JoinError::BrokenOff("it closed the connection".into()));
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => {
                open -= 1;
                match error {
                    DialError::WrongPeerId { address, .. } => {
                        let shown =
                            socket_address(&address).map_or_else(|| address.to_string(), |a| a.to_string());
                        impostor = Some(shown);
                    }
                    error => why = dial_error(&error),
                }
            }
            _ => {}
        }
    }
    Err(impostor.map_or_else(|| unreachable(why), |address| JoinError::NotTheInviter { address }))
}

/// One line for what went wrong with a dial.
pub(crate) fn dial_error(error: &DialError) -> String {
    match error {
        DialError::Transport(attempts) => {
            let whys: Vec<_> = attempts.iter().map(|(_, why)| deepest(why)).collect();
            whys.join("; ")
        }
        DialError::Denied { .. } => "refused after a failed proof or because of limits".into(),
        other => other.to_string(),
    }
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

async fn ask<S>(stream: &mut S, request: &JoinRequest) -> io::Result<Result<Vec<u8>, Refusal>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = request.secret.to_vec();
    bytes.extend(request.name.as_bytes());
    write_frame(stream, &bytes).await?;
    stream.flush().await?;
    let answer = read_frame(stream, FRAME_MAX_BYTES).await?;
    match answer.as_deref().and_then(<[u8]>::split_first) {
        Some((0, payload)) => Ok(Ok(payload.to_vec())),
        Some((status, _)) => Ok(Err(Refusal::from_byte(*status))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The inviter's side: one request, one answer. `allowed` is the verdict of the [`RateLimit`].
pub(crate) async fn admit<S>(
    stream: &mut S,
    client: ClientId,
    allowed: bool,
    invitations: Option<Arc<dyn Invitations>>,
) -> io::Result<Result<(), Refusal>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = read_frame(stream, SECRET_BYTES + NAME_MAX_BYTES).await?.unwrap_or_default();
    let answer = match request.split_first_chunk::<SECRET_BYTES>() {
        _ if !allowed => Err(Refusal::TooSoon),
        Some((secret, name)) => match (String::from_utf8(name.to_vec()), invitations) {
            (Ok(name), Some(invitations)) if !name.is_empty() => {
                let secret = *secret;
                let redeemed =
                    tokio::task::spawn_blocking(move || invitations.redeem(&secret, &client, &name)).await;
                redeemed.unwrap_or(Err(Refusal::NotNow))
            }
            (_, None) => Err(Refusal::NotNow),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        },
        None => return Err(io::ErrorKind::InvalidData.into()),
    };
    let (bytes, outcome) = match answer {
        Ok(payload) => ([&[0][..], &payload].concat(), Ok(())),
        Err(refusal) => (vec![refusal.to_byte()], Err(refusal)),
    };
    write_frame(stream, &bytes).await?;
    stream.close().await?;
    Ok(outcome)
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
    use crate::test_pipe::pipe;

    struct Book;

    impl Invitations for Book {
        fn redeem(&self, secret: &[u8; 16], client: &ClientId, name: &str) -> Result<Vec<u8>, Refusal> {
            assert_eq!((*client, name), (ClientId([4; 32]), "Atelier Süd"));
            if same_secret(secret, &[5; 16]) { Ok(b"key and urls".to_vec()) } else { Err(Refusal::Unknown) }
        }
    }

    fn request(secret: [u8; 16]) -> JoinRequest {
        JoinRequest {
            inviter: ClientId([0; 32]),
            addresses: Vec::new(),
            secret,
            name: "Atelier Süd".into(),
            timeout: Duration::from_secs(1),
        }
    }

    async fn exchange(
        secret: [u8; 16],
        allowed: bool,
        book: Option<Arc<dyn Invitations>>,
    ) -> Result<Vec<u8>, Refusal> {
        let (mut near, mut far) = pipe();
        let request = request(secret);
        let (answer, _) =
            futures::join!(ask(&mut near, &request), admit(&mut far, ClientId([4; 32]), allowed, book));
        answer.unwrap()
    }

    #[tokio::test]
    async fn only_the_right_secret_is_given_the_answer() {
        assert_eq!(exchange([5; 16], true, Some(Arc::new(Book))).await, Ok(b"key and urls".to_vec()));
        assert_eq!(exchange([6; 16], true, Some(Arc::new(Book))).await, Err(Refusal::Unknown));
        assert_eq!(exchange([5; 16], false, Some(Arc::new(Book))).await, Err(Refusal::TooSoon));
        assert_eq!(exchange([5; 16], true, None).await, Err(Refusal::NotNow));
    }

    #[test]
    fn every_refusal_survives_the_wire() {
        for refusal in [Refusal::Unknown, Refusal::Expired, Refusal::Used, Refusal::TooSoon, Refusal::NotNow]
        {
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
