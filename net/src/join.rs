//! Joining: who has a code and no key yet finds the member that gave it out, and asks it for admission.
//!
//! Candidates are the addresses that a person named or, where none was, every tcat node that answers on the LAN by mDNS.
//! Which of them gave out the code is found by asking: the others do not know its number.
//! Always: a candidate learns the code's number and one guess-proof message, never the words; the answer is believed
//! only from who has proved that it knows them too. The other side is `admission`.

use crate::address::{PeerAddress, multiaddr};
use crate::admission::{ATTEMPT_INTERVAL, NAME_MAX_BYTES, Refusal, Said, hear, opening};
use crate::discovery::DiscoveryError;
use crate::frame::write_frame;
use crate::identity::{Identity, client_of};
use crate::invite_code::InviteCode;
use crate::pake::{CONFIRMATION_BYTES, MESSAGE_BYTES, Pake, Role, confirms};
use crate::seeking::Seeking;
use crate::streams::{ConnectionEnds, JOIN};
use crate::swarm::{Behaviour, build_swarm};
use futures::StreamExt;
use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{DialError, Swarm, SwarmEvent};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tcat_engine::ids::ClientId;
use tokio::task::JoinSet;

const DIAL_RETRY: Duration = Duration::from_millis(500);
/// How long the inviter's answer may be. Each key that it holds names all who were retired before.
pub const TICKET_MAX_BYTES: usize = 512 << 10;
/// Addresses that are asked, of all that are found: each of them may try one guess at the words.
const CANDIDATES_MAX: usize = 64;
/// So many are asked at a time.
const ASKED_AT_A_TIME: usize = 8;

/// Why joining did not work.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The name would not fit.
    #[error("a client's name is 1 to {NAME_MAX_BYTES} bytes long; choose another with --name")]
    Name,
    /// Members cannot be looked for here.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// Nothing was found by mDNS.
    #[error(
        "no tcat node was found on this network in {0} s; is `tcat run` running there? \
         Where mDNS is blocked, name a member's address with --peer HOST:PORT"
    )]
    NobodyFound(u64),
    /// Nobody answers at the addresses.
    #[error(
        "the inviter cannot be reached at {addresses}: {why}; is `tcat run` running there, on the same network?"
    )]
    Unreachable {
        /// Where it was tried.
        addresses: String,
        /// The last error.
        why: String,
    },
    /// A member said no.
    #[error("not admitted: {0}")]
    Refused(Refusal),
    /// A node answered and does not know the code's words.
    #[error(
        "the node at {0} says that it gave out the code, and does not know its words: a code is good for one \
         attempt, so run `tcat invite` again on a member, and find out whose node that is"
    )]
    Impostor(SocketAddr),
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
    /// The code.
    pub code: InviteCode,
    /// Where the inviter may listen; empty: whoever is found by mDNS is asked.
    pub addresses: Vec<PeerAddress>,
    /// Interfaces to look for members on, by name; empty: the rule of [`crate::discovery::choose_interfaces`].
    pub interfaces: Vec<String>,
    /// What this client calls itself.
    pub name: String,
    /// How long all of it may take. Who cannot be reached is tried until a third of it is over.
    pub timeout: Duration,
}

/// Asks for admission; what the inviter answers is for the node to read.
pub async fn join(identity: &Identity, request: &JoinRequest) -> Result<Vec<u8>, JoinError> {
    if request.name.is_empty() || request.name.len() > NAME_MAX_BYTES {
        return Err(JoinError::Name);
    }
    let whole = tokio::time::timeout(request.timeout, Joining::new(identity, request).run());
    whole.await.unwrap_or(Err(JoinError::TimedOut(request.timeout.as_secs())))
}

/// How asking one candidate ended.
enum Asked {
    Admitted(Vec<u8>),
    Refused(Refusal),
    Impostor,
    Unreachable(String),
    BrokenOff(String),
}

/// What is known of the candidates so far.
struct Joining<'a> {
    identity: &'a Identity,
    request: &'a JoinRequest,
    started: Instant,
    /// When each may be asked; none once it has said no for good, or while it is asked.
    candidates: BTreeMap<SocketAddr, Option<Instant>>,
    asking: JoinSet<(SocketAddr, Asked)>,
    /// The best reason so far why nobody admitted us.
    refused: Option<Refusal>,
    why: String,
}

impl<'a> Joining<'a> {
    fn new(identity: &'a Identity, request: &'a JoinRequest) -> Self {
        let (started, why) = (Instant::now(), "no such host".to_owned());
        let (candidates, asking) = (BTreeMap::new(), JoinSet::new());
        Self { identity, request, started, candidates, asking, refused: None, why }
    }

    /// How long we go on where nobody can be reached, or nobody is found.
    fn patience(&self) -> Duration {
        self.request.timeout / 3
    }

    fn found(&mut self, address: SocketAddr) {
        if self.candidates.len() < CANDIDATES_MAX {
            self.candidates.entry(address).or_insert(Some(Instant::now()));
        }
    }

    async fn run(mut self) -> Result<Vec<u8>, JoinError> {
        let mut seeking = match self.request.addresses.is_empty() {
            true => Some(Seeking::start(&self.request.interfaces)?),
            false => None,
        };
        for address in &self.request.addresses {
            match address.resolve().await {
                Ok(found) => found.into_iter().for_each(|address| self.found(address)),
                Err(error) => self.why = error.to_string(),
            }
        }
        loop {
            self.ask_due();
            let late = self.started.elapsed() >= self.patience();
            let more_to_come = seeking.is_some() && !late;
            let due = self.candidates.values().filter_map(|at| *at).min();
            if self.asking.is_empty() && due.is_none() && !more_to_come {
                return Err(self.nobody_admits());
            }
            let pause =
                if more_to_come { self.started + self.patience() } else { Instant::now() + DIAL_RETRY };
            let pause = due.filter(|_| self.asking.len() < ASKED_AT_A_TIME).map_or(pause, |at| at.min(pause));
            tokio::select! {
                Some(Ok((address, asked))) = self.asking.join_next() => {
                    if let Some(end) = self.told(address, asked) {
                        return end;
                    }
                }
                Some(address) = next_found(&mut seeking) => self.found(address),
                () = tokio::time::sleep_until(pause.into()) => {}
            }
        }
    }

    fn ask_due(&mut self) {
        let now = Instant::now();
        let Self { candidates, asking, .. } = self;
        for (address, at) in candidates.iter_mut().filter(|(_, at)| at.is_some_and(|at| at <= now)) {
            if asking.len() >= ASKED_AT_A_TIME {
                return;
            }
            *at = None;
            let (identity, address) = (self.identity.clone(), *address);
            let (code, name) = (self.request.code.clone(), self.request.name.clone());
            asking.spawn(async move { (address, ask_at(&identity, &code, &name, address).await) });
        }
    }

    /// What a candidate's answer means; something if it ends the whole.
    fn told(&mut self, address: SocketAddr, asked: Asked) -> Option<Result<Vec<u8>, JoinError>> {
        let late = self.started.elapsed() >= self.patience();
        let again_in = match asked {
            Asked::Admitted(answer) => return Some(Ok(answer)),
            // The code is gone now.
            Asked::Refused(Refusal::Wrong) => return Some(Err(JoinError::Refused(Refusal::Wrong))),
            Asked::Impostor => return Some(Err(JoinError::Impostor(address))),
            Asked::Refused(Refusal::TooSoon) => Some(ATTEMPT_INTERVAL),
            Asked::Refused(refusal) => {
                // That a member does not know the code says less than what the one that does says.
                if refusal != Refusal::Unknown || self.refused.is_none() {
                    self.refused = Some(refusal);
                }
                None
            }
            Asked::BrokenOff(why) if late => return Some(Err(JoinError::BrokenOff(why))),
            Asked::Unreachable(why) | Asked::BrokenOff(why) => {
                self.why = why;
                (!late).then_some(DIAL_RETRY)
            }
        };
        self.candidates.insert(address, again_in.map(|pause| Instant::now() + pause));
        None
    }

    fn nobody_admits(&self) -> JoinError {
        if let Some(refusal) = self.refused {
            return JoinError::Refused(refusal);
        }
        if self.request.addresses.is_empty() && self.candidates.is_empty() {
            return JoinError::NobodyFound(self.started.elapsed().as_secs());
        }
        let tried: Vec<String> = match self.request.addresses.is_empty() {
            true => self.candidates.keys().map(ToString::to_string).collect(),
            false => self.request.addresses.iter().map(ToString::to_string).collect(),
        };
        JoinError::Unreachable { addresses: tried.join(", "), why: self.why.clone() }
    }
}

async fn next_found(seeking: &mut Option<Seeking>) -> Option<SocketAddr> {
    match seeking {
        Some(seeking) => seeking.next().await,
        None => None,
    }
}

/// Asks whoever listens at `address`.
async fn ask_at(identity: &Identity, code: &InviteCode, name: &str, address: SocketAddr) -> Asked {
    let mut swarm = match build_swarm(identity) {
        Ok(swarm) => swarm,
        Err(why) => return Asked::Unreachable(why),
    };
    let (ends, inviter) = match reach(&mut swarm, address).await {
        Ok(reached) => reached,
        Err(why) => return Asked::Unreachable(why),
    };
    let us = identity.client_id();
    let asking = async {
        let mut stream = ends.opener.open(JOIN).await?;
        ask(&mut stream, code, name, us, inviter).await
    };
    tokio::pin!(asking);
    loop {
        tokio::select! {
            answer = &mut asking => return match answer {
                Ok(Ok(answer)) => Asked::Admitted(answer),
                Ok(Err(refusal)) => Asked::Refused(refusal),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Asked::Impostor,
                Err(error) => Asked::BrokenOff(error.to_string()),
            },
            event = swarm.select_next_some() => if let SwarmEvent::ConnectionClosed { cause, .. } = event {
                let why = cause.map_or_else(|| "it closed the connection".to_owned(), |c| c.to_string());
                return Asked::BrokenOff(why);
            }
        }
    }
}

async fn reach(
    swarm: &mut Swarm<Behaviour>,
    address: SocketAddr,
) -> Result<(ConnectionEnds, ClientId), String> {
    let dial = DialOpts::unknown_peer_id().address(multiaddr(address)).allocate_new_port().build();
    swarm.dial(dial).map_err(|error| dial_error(&error))?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                let ends = swarm.behaviour_mut().streams.take(connection_id);
                let inviter = client_of(&peer_id).ok_or("its key is not ed25519")?;
                return ends.map(|ends| (ends, inviter)).ok_or_else(|| "it closed the connection".into());
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(dial_error(&error)),
            _ => {}
        }
    }
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

/// The newcomer's side of the exchange; see `admission`. Permission denied: the other end does not know the words.
pub(crate) async fn ask<S>(
    stream: &mut S,
    code: &InviteCode,
    name: &str,
    newcomer: ClientId,
    inviter: ClientId,
) -> io::Result<Said>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let (pake, message) = Pake::start(Role::Newcomer, code, &newcomer, &inviter);
    tell(stream, &opening(code.number(), &message)).await?;
    let theirs = match hear(stream, MESSAGE_BYTES).await? {
        Ok(theirs) => theirs,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let expected = pake.finish(&theirs).ok_or_else(malformed)?;
    tell(stream, expected.newcomer.as_bytes()).await?;
    match hear(stream, CONFIRMATION_BYTES).await? {
        Ok(confirmation) if confirms(&confirmation, &expected.inviter) => {}
        Ok(_) => return Err(io::ErrorKind::PermissionDenied.into()),
        Err(refusal) => return Ok(Err(refusal)),
    }
    tell(stream, name.as_bytes()).await?;
    hear(stream, TICKET_MAX_BYTES).await
}

async fn tell<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    write_frame(stream, bytes).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::read_frame;
    use crate::test_pipe::pipe;

    #[tokio::test]
    async fn who_confirms_without_knowing_the_words_is_found_out_before_it_learns_the_name() {
        let (mut near, mut far) = pipe();
        let code = InviteCode::parse("417-canyon-velvet-orbit").unwrap();
        let guess = InviteCode::parse("417-canyon-velvet-oven").unwrap();
        let (newcomer, inviter) = (ClientId([1; 32]), ClientId([2; 32]));
        let impostor = async {
            read_frame(&mut far, 100).await.unwrap().unwrap();
            let (_, message) = Pake::start(Role::Inviter, &guess, &newcomer, &inviter);
            tell(&mut far, &[&[0][..], &message].concat()).await.unwrap();
            read_frame(&mut far, 100).await.unwrap().unwrap();
            tell(&mut far, &[0; 1 + CONFIRMATION_BYTES]).await.unwrap();
            read_frame(&mut far, 100).await.unwrap()
        };
        let asking = async {
            let asked = ask(&mut near, &code, "Atelier Süd", newcomer, inviter).await;
            drop(near);
            asked
        };
        let (asked, learned) = futures::join!(asking, impostor);
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(learned, None);
    }
}
