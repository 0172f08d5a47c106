//! The invitations that this node has given out: one-time secrets that each admit one new member.
//!
//! They live in memory, for fifteen minutes, and end with the node: an invitation is served by the node that
//! gave it. A secret belongs to the first client that shows it; to show it again gets that client the same
//! answer, since answers can be lost on their way. The client is in the catalog's roster before it learns
//! anything.

use crate::ticket::Ticket;
use async_trait::async_trait;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tcat_engine::ids::{ClientId, hex};
use tcat_net::{Invitations, InviteCode, Refusal, peer_id_of, same_secret, workgroup_hash};
use tcat_storage::catalog::{Catalog, CatalogError};
use tokio::runtime::Handle;

/// How long a code is good for.
pub const VALID: Duration = Duration::from_secs(15 * 60);
/// Invitations remembered at a time; the oldest make room.
const INVITATIONS_MAX: usize = 64;
/// How long the catalog may take to enter a member.
const ADMISSION: Duration = Duration::from_secs(20);

/// Who enters a new member in the roster.
#[async_trait]
pub trait Roster: Send + Sync + 'static {
    /// Enters `client`, who wants to be called `name`, and returns the name that it got. Repeating it changes
    /// nothing.
    async fn admit(&self, client: ClientId, name: &str) -> Result<String, CatalogError>;
}

#[async_trait]
impl Roster for Arc<dyn Catalog> {
    async fn admit(&self, client: ClientId, name: &str) -> Result<String, CatalogError> {
        Ok(Catalog::admit(self.as_ref(), client, name).await?.name)
    }
}

struct Invitation {
    secret: [u8; 16],
    until: Instant,
    taken_by: Option<ClientId>,
}

/// The book of one workgroup. Give it to the network and ask it for codes.
pub struct InvitationBook {
    inviter: ClientId,
    /// What a new member is told, but its name.
    ticket: Ticket,
    roster: Box<dyn Roster>,
    tokio: Handle,
    open: Mutex<Vec<Invitation>>,
}

impl InvitationBook {
    /// An empty book. `tokio` runs the questions to the catalog; redeeming is called from blocking threads.
    pub fn new(inviter: ClientId, ticket: Ticket, roster: impl Roster, tokio: Handle) -> Self {
        Self { inviter, ticket, roster: Box::new(roster), tokio, open: Mutex::default() }
    }

    /// A new code; `addresses` are where this node listens, the best first.
    pub fn invite(&self, addresses: &[SocketAddr]) -> io::Result<InviteCode> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let mut open = self.lock();
        if open.len() >= INVITATIONS_MAX {
            open.remove(0);
        }
        open.push(Invitation { secret, until: Instant::now() + VALID, taken_by: None });
        Ok(InviteCode {
            workgroup: workgroup_hash(&self.ticket.workgroup),
            inviter: self.inviter,
            secret,
            expires_unix_s: (now + VALID).as_secs(),
            addresses: addresses.to_vec(),
        })
    }

    /// The open invitations; a thread that panicked with them has at most lost its own.
    fn lock(&self) -> MutexGuard<'_, Vec<Invitation>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reserves the secret for `client`; says whether this took it.
    fn take(&self, secret: &[u8; 16], client: &ClientId, now: Instant) -> Result<bool, Refusal> {
        let mut open = self.lock();
        // All are compared, so that time does not tell which one it was.
        let found = open.iter_mut().filter(|one| same_secret(&one.secret, secret)).last();
        let invitation = found.ok_or(Refusal::Unknown)?;
        if now >= invitation.until {
            return Err(Refusal::Expired);
        }
        match invitation.taken_by {
            Some(taken_by) if taken_by != *client => Err(Refusal::Used),
            Some(_) => Ok(false),
            None => {
                invitation.taken_by = Some(*client);
                Ok(true)
            }
        }
    }

    /// Gives a secret back whose redeeming failed for our own reasons.
    fn give_back(&self, secret: &[u8; 16]) {
        for invitation in self.lock().iter_mut().filter(|one| same_secret(&one.secret, secret)) {
            invitation.taken_by = None;
        }
    }

    fn admit(&self, client: &ClientId, name: &str) -> Result<Vec<u8>, String> {
        // The timer must be made where tokio runs, hence within the block.
        let asked = async { tokio::time::timeout(ADMISSION, self.roster.admit(*client, name)).await };
        let client_name = match self.tokio.block_on(asked) {
            Ok(answer) => answer.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("the catalog did not answer in {} s", ADMISSION.as_secs())),
        };
        let ticket = Ticket { client_name, ..self.ticket.clone() };
        ticket.encode().map_err(|error| error.to_string())
    }
}

impl Invitations for InvitationBook {
    fn redeem(&self, secret: &[u8; 16], client: &ClientId, name: &str) -> Result<Vec<u8>, Refusal> {
        if peer_id_of(client).is_none() {
            return Err(Refusal::NotNow);
        }
        let took = self.take(secret, client, Instant::now())?;
        match self.admit(client, name) {
            Ok(answer) => {
                tracing::info!(client = client.short(), "admitted {name:?} to the workgroup");
                Ok(answer)
            }
            Err(why) => {
                tracing::error!(client = client.short(), "cannot admit {name:?}: {why}");
                if took {
                    self.give_back(secret);
                }
                Err(Refusal::NotNow)
            }
        }
    }
}

impl std::fmt::Debug for InvitationBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InvitationBook({} of {})", self.lock().len(), hex(&self.ticket.workgroup.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tcat_engine::ids::WorkgroupId;
    use tcat_net::{Identity, WorkgroupKey};

    /// A roster that fails when told to.
    struct Names(Arc<AtomicBool>);

    #[async_trait]
    impl Roster for Names {
        async fn admit(&self, client: ClientId, name: &str) -> Result<String, CatalogError> {
            if self.0.load(Ordering::SeqCst) {
                return Err(CatalogError::NotMember { client, workgroup: WorkgroupId([0; 16]) });
            }
            Ok(format!("{name}-2"))
        }
    }

    struct Scene {
        book: InvitationBook,
        failing: Arc<AtomicBool>,
        runtime: tokio::runtime::Runtime,
    }

    fn scene() -> Scene {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let failing = Arc::new(AtomicBool::new(false));
        let ticket = Ticket {
            workgroup: WorkgroupId([7; 16]),
            name: "films".to_owned(),
            key: WorkgroupKey::from_bytes([0xab; 32]),
            catalog: "sqlite:/c".to_owned(),
            objects: "file:/o".to_owned(),
            client_name: String::new(),
        };
        let roster = Names(Arc::clone(&failing));
        let book = InvitationBook::new(client(), ticket, roster, runtime.handle().clone());
        Scene { book, failing, runtime }
    }

    fn client() -> ClientId {
        Identity::generate().unwrap().client_id()
    }

    #[test]
    fn a_code_admits_one_client_and_answers_it_again() {
        let scene = scene();
        let code = scene.book.invite(&["127.0.0.1:7".parse().unwrap()]).unwrap();
        let (first, second) = (client(), client());
        let answer = scene.book.redeem(&code.secret, &first, "ben").unwrap();
        assert_eq!(Ticket::decode(&answer).unwrap().client_name, "ben-2");
        assert_eq!(scene.book.redeem(&code.secret, &first, "ben"), Ok(answer));
        assert_eq!(scene.book.redeem(&code.secret, &second, "eve"), Err(Refusal::Used));
        assert_eq!(scene.book.redeem(&[0; 16], &second, "eve"), Err(Refusal::Unknown));
        drop(scene.runtime);
    }

    #[test]
    fn a_code_that_could_not_be_honoured_stays_good() {
        let scene = scene();
        let code = scene.book.invite(&[]).unwrap();
        scene.failing.store(true, Ordering::SeqCst);
        assert_eq!(scene.book.redeem(&code.secret, &client(), "ben"), Err(Refusal::NotNow));
        scene.failing.store(false, Ordering::SeqCst);
        assert!(scene.book.redeem(&code.secret, &client(), "carl").is_ok());
    }

    #[test]
    fn a_code_ends_after_fifteen_minutes() {
        let scene = scene();
        let code = scene.book.invite(&[]).unwrap();
        let later = Instant::now() + VALID;
        assert_eq!(scene.book.take(&code.secret, &client(), later), Err(Refusal::Expired));
        let text = code.encode();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(InviteCode::parse(&text, now + VALID.as_secs() - 5).is_ok());
        assert!(InviteCode::parse(&text, now + VALID.as_secs() + 1).is_err());
    }

    #[test]
    fn the_book_is_bounded_and_forgets_the_oldest() {
        let scene = scene();
        let first = scene.book.invite(&[]).unwrap();
        for _ in 0..INVITATIONS_MAX {
            scene.book.invite(&[]).unwrap();
        }
        assert_eq!(scene.book.redeem(&first.secret, &client(), "ben"), Err(Refusal::Unknown));
        assert_eq!(scene.book.lock().len(), INVITATIONS_MAX);
    }
}
