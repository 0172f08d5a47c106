//! Who is host, as far as this node knows; and the streams to it.
//!
//! A member that knows no host, or whose host is not connected, asks the members that are whether they are host, or
//! whom they believe to be. Of several claims the one of the later catalog epoch counts, then the smaller key. What was
//! learned is kept in a file, so that a node that is started alone knows whom to wait for.
//! Always: without a connection to the host `open` fails at once, and nobody is asked more often than once a second.

use super::wire::{Answer, HostClaim, Request, hear_answer, say};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use tcat_engine::ids::{ClientId, from_hex, hex};
use tcat_net::{ByteStream, NetHandle, Service};
use tokio::time::timeout;

/// How long nobody is asked again.
const ASK_PAUSE: Duration = Duration::from_secs(1);
/// How long a member may take to say who is host.
const HELLO_WAIT: Duration = Duration::from_secs(3);

/// What is known of the host of one workgroup.
pub struct Finding {
    me: ClientId,
    file: PathBuf,
    net: OnceLock<NetHandle>,
    known: Mutex<Option<HostClaim>>,
    /// When members were last asked; held while they are.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl Finding {
    /// What `file` remembers; a file that is not there, or cannot be read, is as good as none, since it is asked again.
    pub fn load(me: ClientId, file: PathBuf) -> Self {
        let known = fs::read_to_string(&file).ok().and_then(|text| parse(&text));
        Self {
            me,
            file,
            net: OnceLock::new(),
            known: Mutex::new(known),
            asked: tokio::sync::Mutex::new(None),
        }
    }

    /// Tells by which network members are reached; before that, none is.
    pub fn connect(&self, net: NetHandle) {
        let _ = self.net.set(net); // The first one stands.
    }

    /// This node.
    pub fn me(&self) -> ClientId {
        self.me
    }

    /// The host, whether it is connected or not.
    pub fn known(&self) -> Option<HostClaim> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<HostClaim>> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Opens a stream to the host.
    pub async fn open(&self, service: Service) -> io::Result<Box<dyn ByteStream>> {
        let net = self.net.get().ok_or_else(|| away("this node's network has not started"))?;
        if !self.is_connected(net) {
            self.ask_members(net).await;
        }
        let Some(host) = self.known() else { return Err(away("no connected member knows its host")) };
        if !self.is_connected(net) {
            return Err(away("its host is not connected"));
        }
        net.open(host.client, service).await
    }

    fn is_connected(&self, net: &NetHandle) -> bool {
        self.known().is_some_and(|host| net.connected().contains(&host.client))
    }

    /// Asks all connected members at a time, unless that was done a moment ago.
    async fn ask_members(&self, net: &NetHandle) {
        let mut asked = self.asked.lock().await;
        if self.is_connected(net) || asked.is_some_and(|at| at.elapsed() < ASK_PAUSE) {
            return;
        }
        let members = net.connected();
        if members.is_empty() {
            return;
        }
        let answers = members.into_iter().map(|member| timeout(HELLO_WAIT, hello(net, member)));
        for claim in futures::future::join_all(answers).await.into_iter().flatten().flatten().flatten() {
            self.learn(claim);
        }
        *asked = Some(Instant::now());
    }

    /// Takes a claim that rules over what is known.
    pub fn learn(&self, claim: HostClaim) {
        let mut known = self.lock();
        if claim.client == self.me || known.is_some_and(|known| !claim.rules_over(&known)) {
            return;
        }
        *known = Some(claim);
        let before = self.file.with_extension("new");
        let kept = fs::write(&before, text(&claim)).and_then(|()| fs::rename(&before, &self.file));
        if let Err(error) = kept {
            let file = self.file.display();
            tracing::warn!("cannot remember the host in {file}: {error}; it is asked for at the next start");
        }
    }
}

fn away(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, why)
}

async fn hello(net: &NetHandle, member: ClientId) -> io::Result<Option<HostClaim>> {
    let mut stream = net.open(member, Service::Catalog).await?;
    say(stream.as_mut(), &Request::Hello).await?;
    match hear_answer(stream.as_mut()).await? {
        Answer::Hello(claim) => Ok(claim),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn text(claim: &HostClaim) -> String {
    format!("{} {}\n", hex(&claim.client.0), claim.epoch)
}

fn parse(text: &str) -> Option<HostClaim> {
    let (client, epoch) = text.trim().split_once(' ')?;
    Some(HostClaim { client: ClientId(from_hex(client).ok()?), epoch: epoch.parse().ok()? })
}
