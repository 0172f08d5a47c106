//! `tcat run`: the headless node, until it is stopped.
//!
//! It takes the home, starts the runtime, serves the control API, says in one line that it is ready, and
//! stops cleanly on SIGTERM, SIGINT or Ctrl-C: no new work, the API gone, the runtime ended. A second signal
//! ends it at once.

use super::Context;
use crate::api_server::{ApiServer, Served};
use crate::output::{self, Failure, clean};
use crate::settings::NodeSettings;
use crate::{home::Home, logging};
use async_trait::async_trait;
use std::net::SocketAddr;
use std::time::Duration;

/// How long the runtime may take to stop; what it left undone is taken up at the next start.
const STOP_PATIENCE: Duration = Duration::from_secs(8);
/// How long blocking work may go on after that.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// A started node: what the runtime gives to this command.
#[async_trait]
pub trait RunningNode: Send {
    /// The workgroups that it serves, for the control API.
    fn served(&self) -> Vec<Served>;

    /// Returns only if the node cannot go on: why. May be dropped and called again.
    async fn failed(&mut self) -> Failure;

    /// Stops all work and lets go of everything. What it leaves undone, the next start takes up.
    async fn stop(self: Box<Self>);
}

/// Runs the command; `start` starts the runtime.
pub fn run<S, F>(context: &Context, start: S) -> Result<(), Failure>
where
    S: FnOnce(NodeSettings) -> F,
    F: Future<Output = Result<Box<dyn RunningNode>, Failure>>,
{
    const WHAT: &str = "cannot run";
    let home = &context.home;
    if !home.exists() {
        let why = format!("there is no tcat home at {}", home.root().display());
        return Err(Failure::new(
            WHAT,
            why,
            "make one with `tcat init` or `tcat join`, or name it with --home",
        ));
    }
    let lock = home.lock().map_err(|error| error.failing(WHAT))?;
    logging::start(context.global.verbose, Some(&home.log_folder()))?;
    let settings = NodeSettings::load(home, &context.global.interface, context.global.workgroup.as_deref())?;
    let token = home.token().map_err(|error| error.failing(WHAT))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(WHAT, error, "free some memory and start it again"))?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let (listen, ready) = (settings.config.api.listen, Ready::of(&settings));
        let node = tokio::select! {
            node = start(settings) => node?,
            () = signals.next() => return Ok(()),
        };
        serve(home, listen, &token, node, &ready, &mut signals).await
    });
    runtime.shutdown_timeout(LAST_PATIENCE);
    drop(lock);
    if let Err(failure) = &ended {
        tracing::error!(target: logging::FILES_ONLY, "{failure}");
    }
    ended
}

/// Serves the control API of a started node until it fails or is stopped.
async fn serve(
    home: &Home,
    listen: SocketAddr,
    token: &str,
    mut node: Box<dyn RunningNode>,
    ready: &Ready,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let api = match ApiServer::start(home, listen, token, node.served()).await {
        Ok(api) => api,
        Err(error) => {
            stop(node, signals).await;
            return Err(error.failing());
        }
    };
    // Who reads our output may be gone; the node is not.
    let _ = output::say(&ready.line(api.address()));
    tracing::info!("{}", ready.line(api.address()));
    let ended = tokio::select! {
        failure = node.failed() => Err(failure),
        () = signals.next() => Ok(()),
    };
    tracing::info!("stopping");
    let api_stopped = api.stop().await.map_err(|error| error.failing("the control API did not end cleanly"));
    stop(node, signals).await;
    tracing::info!("stopped");
    ended.and(api_stopped)
}

async fn stop(node: Box<dyn RunningNode>, signals: &mut Signals) {
    tokio::select! {
        () = node.stop() => {}
        () = tokio::time::sleep(STOP_PATIENCE) => {
            tracing::warn!("not all work ended in {} s: the next start takes it up", STOP_PATIENCE.as_secs());
        }
        () = signals.next() => tracing::warn!("stopped at once: the next start takes up what is left"),
    }
}

/// What the ready line says.
struct Ready {
    name: String,
    groups: Vec<String>,
}

impl Ready {
    fn of(settings: &NodeSettings) -> Self {
        let group = |group: &crate::settings::WorkgroupSettings| {
            format!("{} in {}", group.name, group.media.display())
        };
        Self { name: settings.config.name.clone(), groups: settings.workgroups.iter().map(group).collect() }
    }

    fn line(&self, address: SocketAddr) -> String {
        clean(&format!(
            "tcat is ready: {} keeps {} (control API on {address})",
            self.name,
            self.groups.join(", ")
        ))
    }
}

/// The signals that ask a node to stop. SIGHUP is left alone, for the sake of `nohup`.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let one =
            |kind| signal(kind).map_err(|error| Failure::new("cannot run", error, "report this as a bug"));
        Ok(Self { terminate: one(SignalKind::terminate())?, interrupt: one(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Result<Self, Failure> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a way to hear of it, the node runs until its process is ended.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct FakeNode {
        fails: bool,
        stopped: Arc<AtomicBool>,
    }

    #[async_trait]
    impl RunningNode for FakeNode {
        fn served(&self) -> Vec<Served> {
            Vec::new()
        }
        async fn failed(&mut self) -> Failure {
            match self.fails {
                true => Failure::of("the node database failed: disk full; free some space"),
                false => std::future::pending().await,
            }
        }
        async fn stop(self: Box<Self>) {
            self.stopped.store(true, Ordering::SeqCst);
        }
    }

    fn ready() -> Ready {
        Ready { name: "anna".to_owned(), groups: vec!["films in /m".to_owned()] }
    }

    #[tokio::test]
    async fn a_node_that_cannot_go_on_is_stopped_in_good_order_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let stopped = Arc::new(AtomicBool::new(false));
        let node = Box::new(FakeNode { fails: true, stopped: Arc::clone(&stopped) });
        let mut signals = Signals::listen().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let failure = serve(&home, listen, "t", node, &ready(), &mut signals).await.unwrap_err();
        assert!(failure.to_string().contains("disk full"));
        assert!(stopped.load(Ordering::SeqCst));
        assert!(!home.control_file().exists());
    }

    #[tokio::test]
    async fn a_node_whose_api_cannot_listen_is_stopped_again() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let node = Box::new(FakeNode { fails: false, stopped: Arc::clone(&stopped) });
        let mut signals = Signals::listen().unwrap();
        let listen = taken.local_addr().unwrap();
        let failure = serve(&home, listen, "t", node, &ready(), &mut signals).await.unwrap_err();
        assert!(failure.to_string().contains("api.listen"), "{failure}");
        assert!(stopped.load(Ordering::SeqCst));
    }

    #[test]
    fn the_ready_line_says_who_what_and_where() {
        let line = ready().line("127.0.0.1:7".parse().unwrap());
        assert_eq!(line, "tcat is ready: anna keeps films in /m (control API on 127.0.0.1:7)");
    }
}
