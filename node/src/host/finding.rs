//! Who is host, as far as this node knows; and the streams to it.
//!
//! Members tell each other the best claim that they know ([`super::claims`]) when they connect, and whenever they learn
//! a better one; who knows no host that is connected asks. What was learned is kept in a file, so that a node that is
//! started alone knows whom to wait for.
//! Always: a claim is taken only with its signature and by the roster; without a connection to the host `open` fails at
//! once; nobody is asked, and no better claim is passed on, more often than once a second and to each member once.

use super::claims::{Claims, HostClaim, Listed, SignedClaim};
use super::wire::{Answer, Request, hear_answer, say};
use crate::home::write_secret;
use async_trait::async_trait;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use tcat_engine::ids::{ClientId, WorkgroupId};
use tcat_net::{ByteStream, Identity, NetHandle, Service};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long nobody is asked again, nor told, and how long it is not looked again who of those that claim is a member.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a member may take to say who is host.
const HELLO_WAIT: Duration = Duration::from_secs(3);
/// Members told at a time.
const TOLD_AT_A_TIME: usize = 8;

/// The roster, as it is asked who may be host.
#[async_trait]
pub trait Roster: Send + Sync {
    /// What the roster says of each.
    async fn listed(&self, clients: Vec<ClientId>) -> BTreeMap<ClientId, Listed>;
}

/// What is known of the host of one workgroup.
pub struct Finding {
    identity: Identity,
    workgroup: WorkgroupId,
    file: PathBuf,
    way: OnceLock<(NetHandle, Arc<dyn Roster>)>,
    state: Mutex<State>,
    /// When members were last asked; held while they are.
    asked: tokio::sync::Mutex<Option<Instant>>,
    /// Told when another claim rules than did.
    news: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    claims: Claims,
    /// Which rules, and when the roster was asked for that.
    best: Option<(Instant, Option<SignedClaim>)>,
}

impl Finding {
    /// What `file` remembers; a file that is not there, or cannot be read, is as good as none, since it is asked again.
    pub fn load(identity: Identity, workgroup: WorkgroupId, file: PathBuf) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let state = State { claims: Claims::parse(&text, &workgroup), best: None };
        Self {
            identity,
            workgroup,
            file,
            way: OnceLock::new(),
            state: Mutex::new(state),
            asked: tokio::sync::Mutex::new(None),
            news: watch::Sender::new(()),
        }
    }

    /// Tells by which network members are reached, and who knows the roster; before that, none is.
    pub fn connect(&self, net: NetHandle, roster: Arc<dyn Roster>) {
        let _ = self.way.set((net, roster)); // The first one stands.
    }

    /// This node.
    pub fn me(&self) -> ClientId {
        self.identity.client_id()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The host, whether it is connected or not.
    pub async fn known(&self) -> Option<HostClaim> {
        self.best().await.map(|best| best.claim)
    }

    /// The claim that rules.
    pub async fn best(&self) -> Option<SignedClaim> {
        if let Some((at, best)) = self.lock().best
            && at.elapsed() < PAUSE
        {
            return best;
        }
        let listed = self.listed(None).await;
        let mut state = self.lock();
        let best = state.claims.best(|client| of(&listed, client));
        state.best = Some((Instant::now(), best));
        best
    }

    /// What the roster says of all that have a claim here, and of one more.
    async fn listed(&self, one_more: Option<ClientId>) -> BTreeMap<ClientId, Listed> {
        let mut clients = self.lock().claims.clients();
        clients.extend(one_more);
        match self.way.get() {
            Some((_, roster)) => roster.listed(clients).await,
            None => BTreeMap::new(),
        }
    }

    /// Takes a claim that `from` told, if it can be believed.
    pub async fn learn(&self, claim: SignedClaim, from: ClientId) {
        let HostClaim { client, epoch } = claim.claim;
        if !claim.holds(&self.workgroup) {
            tracing::warn!(%from, %client, "a claim to be host without its signature was dropped");
            return;
        }
        let before = self.best().await;
        let listed = self.listed(Some(client)).await;
        {
            let mut state = self.lock();
            match state.claims.learn(claim, from == client, |client| of(&listed, client)) {
                Err(why) => {
                    tracing::warn!(%from, %client, epoch, "a claim to be host was dropped: {why}");
                    return;
                }
                Ok(false) => return,
                Ok(true) => {}
            }
            let best = state.claims.best(|client| of(&listed, client));
            state.best = Some((Instant::now(), best));
            self.keep(&state);
            if best == before {
                return;
            }
        }
        self.news.send_replace(());
    }

    /// Hears when another claim rules than did.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Who ruled when this node ran last, as far as its file says: before it is connected and can ask the roster.
    pub fn remembered(&self) -> Option<HostClaim> {
        self.lock().claims.best(|_| Listed::Member).map(|best| best.claim)
    }

    /// This node is host, and its catalog is at this epoch.
    pub async fn claim_own(&self, epoch: u64) {
        let claim = HostClaim { client: self.me(), epoch }.sign(&self.identity, &self.workgroup);
        self.learn(claim, self.me()).await;
    }

    fn keep(&self, state: &State) {
        if let Err(error) = write_secret(&self.file, state.claims.text().as_bytes()) {
            tracing::warn!("cannot remember the host: {error}; it is asked for at the next start");
        }
    }

    /// Opens a stream to the host.
    pub async fn open(&self, service: Service) -> io::Result<Box<dyn ByteStream>> {
        let (net, _) = self.way.get().ok_or_else(|| away("this node's network has not started"))?;
        if !self.is_connected(net).await {
            self.ask_members(net).await;
        }
        let Some(host) = self.known().await else { return Err(away("no connected member knows its host")) };
        if host.client == self.me() {
            return Err(away("this node was its host, and keeps it no more"));
        }
        if !net.connected().contains(&host.client) {
            return Err(away("its host is not connected"));
        }
        net.open(host.client, service).await
    }

    async fn is_connected(&self, net: &NetHandle) -> bool {
        self.known().await.is_some_and(|host| net.connected().contains(&host.client))
    }

    /// Asks all connected members at a time, unless that was done a moment ago.
    async fn ask_members(&self, net: &NetHandle) {
        let mut asked = self.asked.lock().await;
        if self.is_connected(net).await || asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let members = net.connected();
        if members.is_empty() {
            return;
        }
        self.tell(net, members).await;
        *asked = Some(Instant::now());
    }

    /// Exchanges the best claim with a member that has just connected.
    pub async fn greet(&self, member: ClientId) {
        if let Some((net, _)) = self.way.get() {
            self.tell(net, vec![member]).await;
        }
    }

    /// Tells all connected members whenever another claim rules; never returns.
    pub async fn keep_told(&self) {
        let mut news = self.news();
        while news.changed().await.is_ok() {
            if let Some((net, _)) = self.way.get() {
                self.tell(net, net.connected()).await;
            }
            sleep(PAUSE).await;
        }
    }

    /// Exchanges the best claim with these members; who does not answer is left.
    async fn tell(&self, net: &NetHandle, members: Vec<ClientId>) {
        let best = self.best().await;
        let tell = |member| async move {
            match timeout(HELLO_WAIT, hello(net, member, best)).await {
                Ok(Ok(Some(claim))) => self.learn(claim, member).await,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::debug!(%member, %error, "does not tell who is host"),
                Err(_) => tracing::debug!(%member, "does not tell who is host in time"),
            }
        };
        futures::stream::iter(members).for_each_concurrent(TOLD_AT_A_TIME, tell).await;
    }
}

fn of(listed: &BTreeMap<ClientId, Listed>, client: &ClientId) -> Listed {
    listed.get(client).copied().unwrap_or(Listed::Unknown)
}

fn away(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, why)
}

async fn hello(
    net: &NetHandle,
    member: ClientId,
    best: Option<SignedClaim>,
) -> io::Result<Option<SignedClaim>> {
    let mut stream = net.open(member, Service::Catalog).await?;
    say(stream.as_mut(), &Request::Hello(best)).await?;
    match hear_answer(stream.as_mut()).await? {
        Answer::Hello(claim) => Ok(claim),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
