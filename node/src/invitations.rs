//! The invitations that this node has given out: codes that each admit one new member.
//!
//! They live in memory, for fifteen minutes, and end with the node: an invitation is served by the node that
//! gave it. The first attempt decides: who does not know the words ends the invitation, who does takes it. Who took it
//! gets the same answer again, since answers can be lost on their way. The client is in the catalog's roster before it
//! learns anything.

use crate::ticket::Ticket;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};
use tcat_engine::ids::{ClientId, hex};
use tcat_net::{Invitations, InviteCode, Keys, NUMBERS, Refusal, peer_id_of};
use tcat_storage::catalog::{Catalog, CatalogError};
use tokio::runtime::Handle;

/// How long a code is good for.
pub const VALID: Duration = Duration::from_secs(15 * 60);
/// How long it is remembered that a code has expired.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// Invitations remembered at a time; the oldest make room.
const INVITATIONS_MAX: usize = 64;
/// How long the catalog may take to enter a member, and a host that is not connected yet to come: less than the newcomer
/// waits for an answer.
const ADMISSION: Duration = Duration::from_secs(8);

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
    code: InviteCode,
    until: Instant,
    taken_by: Option<ClientId>,
}

/// The book of one workgroup. Give it to the network and ask it for codes.
pub struct InvitationBook {
    /// What a new member is told, but its name, and the keys of an earlier time.
    ticket: Ticket,
    keys: Arc<Keys>,
    roster: Box<dyn Roster>,
    tokio: Handle,
    /// By the number of the code.
    open: Mutex<BTreeMap<u16, Invitation>>,
}

impl InvitationBook {
    /// An empty book. `tokio` runs the questions to the catalog; admitting is called from blocking threads.
    pub fn new(ticket: Ticket, keys: Arc<Keys>, roster: impl Roster, tokio: Handle) -> Self {
        Self { ticket, keys, roster: Box::new(roster), tokio, open: Mutex::default() }
    }

    /// A new code, and when it expires.
    pub fn invite(&self) -> io::Result<(InviteCode, SystemTime)> {
        self.invite_at(Instant::now(), SystemTime::now())
    }

    fn invite_at(&self, now: Instant, wall: SystemTime) -> io::Result<(InviteCode, SystemTime)> {
        let mut open = self.lock();
        open.retain(|_, invitation| now < invitation.until + REMEMBERED);
        if open.len() >= INVITATIONS_MAX
            && let Some(oldest) = open.iter().min_by_key(|(_, one)| one.until).map(|(number, _)| *number)
        {
            open.remove(&oldest);
        }
        let code = InviteCode::generate(free_number(&open)?)?;
        let invitation = Invitation { code: code.clone(), until: now + VALID, taken_by: None };
        open.insert(code.number(), invitation);
        Ok((code, wall + VALID))
    }

    /// The open invitations; a thread that panicked with them has at most lost its own.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, Invitation>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn code_at(&self, number: u16, client: &ClientId, now: Instant) -> Result<InviteCode, Refusal> {
        let open = self.lock();
        let invitation = open.get(&number).ok_or(Refusal::Unknown)?;
        check(invitation, client, now).map(|()| invitation.code.clone())
    }

    fn attempted_at(&self, number: u16, client: &ClientId, knows: bool, now: Instant) -> Result<(), Refusal> {
        let mut open = self.lock();
        let invitation = open.get_mut(&number).ok_or(Refusal::Unknown)?;
        check(invitation, client, now)?;
        if !knows {
            open.remove(&number);
            tracing::warn!(client = client.short(), "an invitation was ended by an attempt with wrong words");
            return Err(Refusal::Wrong);
        }
        invitation.taken_by = Some(*client);
        Ok(())
    }

    /// Lets anybody use an invitation again, since honouring it failed for our own reasons.
    fn give_back(&self, number: u16) {
        if let Some(invitation) = self.lock().get_mut(&number) {
            invitation.taken_by = None;
        }
    }

    fn enter(&self, client: &ClientId, name: &str) -> Result<Vec<u8>, String> {
        // The timer must be made where tokio runs, hence within the block.
        let asked = async { tokio::time::timeout(ADMISSION, self.roster.admit(*client, name)).await };
        let client_name = match self.tokio.block_on(asked) {
            Ok(answer) => answer.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("the catalog did not answer in {} s", ADMISSION.as_secs())),
        };
        let keys = self.keys.ring().told_to(client).ok_or("it was retired from the workgroup")?;
        let ticket = Ticket { client_name, keys, ..self.ticket.clone() };
        ticket.encode().map_err(|error| error.to_string())
    }
}

/// Whether `client` may use the invitation now.
fn check(invitation: &Invitation, client: &ClientId, now: Instant) -> Result<(), Refusal> {
    match invitation.taken_by {
        Some(taken_by) if taken_by != *client => Err(Refusal::Used),
        _ if now >= invitation.until => Err(Refusal::Expired),
        _ => Ok(()),
    }
}

/// A number that no remembered invitation has, any of them as likely as the others.
fn free_number(open: &BTreeMap<u16, Invitation>) -> io::Result<u16> {
    let free: Vec<u16> = NUMBERS.filter(|number| !open.contains_key(number)).collect();
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let index = u64::from_le_bytes(random) % free.len().max(1) as u64;
    free.get(index as usize).copied().ok_or_else(|| io::Error::other("too many invitations are open"))
}

impl Invitations for InvitationBook {
    fn code(&self, number: u16, client: &ClientId) -> Result<InviteCode, Refusal> {
        if peer_id_of(client).is_none() {
            return Err(Refusal::NotNow);
        }
        self.code_at(number, client, Instant::now())
    }

    fn attempted(&self, number: u16, client: &ClientId, knows: bool) -> Result<(), Refusal> {
        self.attempted_at(number, client, knows, Instant::now())
    }

    fn admit(&self, number: u16, client: &ClientId, name: &str) -> Result<Vec<u8>, Refusal> {
        if self.lock().get(&number).is_none_or(|invitation| invitation.taken_by != Some(*client)) {
            return Err(Refusal::NotNow);
        }
        match self.enter(client, name) {
            Ok(answer) => {
                tracing::info!(client = client.short(), "admitted {name:?} to the workgroup");
                Ok(answer)
            }
            Err(why) => {
                tracing::error!(client = client.short(), "cannot admit {name:?}: {why}");
                self.give_back(number);
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
    use tcat_net::{Identity, KeyStore, Keyring, WorkgroupKey};

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

    struct Nowhere;

    impl KeyStore for Nowhere {
        fn save(&self, _: &Keyring) -> io::Result<()> {
            Ok(())
        }
    }

    struct Scene {
        book: InvitationBook,
        failing: Arc<AtomicBool>,
        _runtime: tokio::runtime::Runtime,
    }

    fn scene() -> Scene {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let failing = Arc::new(AtomicBool::new(false));
        let ring = Keyring::new(WorkgroupKey::from_bytes([0xab; 32]));
        let ticket = Ticket {
            workgroup: WorkgroupId([7; 16]),
            name: "films".to_owned(),
            keys: ring.clone(),
            catalog: "sqlite:/c".to_owned(),
            objects: "file:/o".to_owned(),
            client_name: String::new(),
        };
        let roster = Names(Arc::clone(&failing));
        let keys = Keys::new(Identity::generate().unwrap(), ring, Box::new(Nowhere));
        let book = InvitationBook::new(ticket, keys, roster, runtime.handle().clone());
        Scene { book, failing, _runtime: runtime }
    }

    fn client() -> ClientId {
        Identity::generate().unwrap().client_id()
    }

    /// A code that was taken by `client`.
    fn taken(scene: &Scene, client: &ClientId) -> u16 {
        let number = scene.book.invite().unwrap().0.number();
        scene.book.code(number, client).unwrap();
        scene.book.attempted(number, client, true).unwrap();
        number
    }

    #[test]
    fn a_code_admits_one_client_and_answers_it_again() {
        let scene = scene();
        let (first, second) = (client(), client());
        let number = taken(&scene, &first);
        let answer = scene.book.admit(number, &first, "ben").unwrap();
        assert_eq!(Ticket::decode(&answer).unwrap().client_name, "ben-2");
        scene.book.attempted(number, &first, true).unwrap();
        assert_eq!(scene.book.admit(number, &first, "ben"), Ok(answer));
        assert_eq!(scene.book.code(number, &second), Err(Refusal::Used));
        assert_eq!(scene.book.attempted(number, &second, true), Err(Refusal::Used));
        assert_eq!(scene.book.attempted(number, &second, false), Err(Refusal::Used));
        assert_eq!(scene.book.admit(number, &second, "eve"), Err(Refusal::NotNow));
        assert!(scene.book.admit(number, &first, "ben").is_ok(), "others do not end what is taken");
    }

    #[test]
    fn one_wrong_attempt_ends_a_code_for_those_that_are_at_it_too() {
        let scene = scene();
        let number = scene.book.invite().unwrap().0.number();
        let (right, wrong, late) = (client(), client(), client());
        for client in [&right, &wrong, &late] {
            scene.book.code(number, client).unwrap();
        }
        assert_eq!(scene.book.attempted(number, &wrong, false), Err(Refusal::Wrong));
        // A second guess is not even told whether it was right.
        assert_eq!(scene.book.attempted(number, &late, false), Err(Refusal::Unknown));
        assert_eq!(scene.book.attempted(number, &right, true), Err(Refusal::Unknown));
        assert_eq!(scene.book.code(number, &right), Err(Refusal::Unknown));
    }

    #[test]
    fn a_code_that_could_not_be_honoured_stays_good() {
        let scene = scene();
        let (ben, carl) = (client(), client());
        let number = taken(&scene, &ben);
        scene.failing.store(true, Ordering::SeqCst);
        assert_eq!(scene.book.admit(number, &ben, "ben"), Err(Refusal::NotNow));
        scene.failing.store(false, Ordering::SeqCst);
        scene.book.attempted(number, &carl, true).unwrap();
        assert!(scene.book.admit(number, &carl, "carl").is_ok());
    }

    #[test]
    fn a_code_ends_after_fifteen_minutes_and_that_is_said_for_an_hour() {
        let scene = scene();
        let (now, wall) = (Instant::now(), SystemTime::now());
        let (code, expires) = scene.book.invite_at(now, wall).unwrap();
        assert_eq!(expires, wall + VALID);
        let ben = client();
        let at = |later: Duration| scene.book.code_at(code.number(), &ben, now + later);
        assert_eq!(at(VALID - Duration::from_secs(1)), Ok(code.clone()));
        assert_eq!(at(VALID), Err(Refusal::Expired));
        assert_eq!(
            scene.book.attempted_at(code.number(), &ben, true, now + VALID),
            Err(Refusal::Expired),
            "it began in time and ended too late"
        );
        scene.book.invite_at(now + VALID + REMEMBERED, wall).unwrap();
        assert_eq!(scene.book.lock().len(), 1);
    }

    #[test]
    fn the_book_is_bounded_and_forgets_the_oldest() {
        let scene = scene();
        let now = Instant::now();
        let first = scene.book.invite_at(now, SystemTime::now()).unwrap().0;
        let later = now + Duration::from_secs(1);
        let numbers: std::collections::BTreeSet<u16> = (0..INVITATIONS_MAX)
            .map(|_| scene.book.invite_at(later, SystemTime::now()).unwrap().0.number())
            .collect();
        assert_eq!((numbers.len(), scene.book.lock().len()), (INVITATIONS_MAX, INVITATIONS_MAX));
        assert!(!scene.book.lock().values().any(|one| one.code == first));
    }
}
