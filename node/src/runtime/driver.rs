//! The engine's thread: one input at a time, all outputs before the next, and a tick when one is due.

use super::Scans;
use super::effects::Effects;
use super::events::Events;
use crate::output::Failure;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tcat_engine::batch::Keys;
use tcat_engine::engine::{Config, Engine, EngineError};
use tcat_engine::ports::{EffectId, Input, Now, Output};
use tcat_net::NetHandle;
use tcat_storage::node_database::NodeDatabase;
use tcat_storage::platform::monotonic_ms;
use tokio::sync::{mpsc, oneshot};

/// Inputs that wait for the engine; who has more waits.
const COMMANDS_MAX: usize = 256;

/// The engine, as a question sees it.
pub(super) type NodeEngine = Engine<NodeDatabase>;

type Question = Box<dyn FnOnce(&NodeEngine) + Send>;

/// What the engine's thread is told.
pub(super) enum Command {
    Input(Box<Input>),
    Ask(Question),
    Stop,
}

/// The engine has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// Talks to the engine's thread. Cheap to clone.
#[derive(Clone)]
pub(super) struct EngineHandle {
    commands: mpsc::Sender<Command>,
}

impl EngineHandle {
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        (Self { commands }, received)
    }

    /// Hands an input over; waits while the engine is behind.
    pub(super) async fn input(&self, input: Input) -> Result<(), Stopped> {
        self.commands.send(Command::Input(Box::new(input))).await.map_err(|_| Stopped)
    }

    /// The same from a thread that may block.
    pub(super) fn input_blocking(&self, input: Input) -> Result<(), Stopped> {
        self.commands.blocking_send(Command::Input(Box::new(input))).map_err(|_| Stopped)
    }

    /// Asks the engine something.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&NodeEngine) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let asking = Command::Ask(Box::new(move |engine| {
            // Who asked may be gone.
            let _ = answer.send(question(engine));
        }));
        self.commands.send(asking).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// The same from a thread that may block.
    pub(super) fn ask_blocking<T: Send + 'static>(
        &self,
        question: impl FnOnce(&NodeEngine) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let asking = Command::Ask(Box::new(move |engine| {
            let _ = answer.send(question(engine));
        }));
        self.commands.blocking_send(asking).map_err(|_| Stopped)?;
        answered.blocking_recv().map_err(|_| Stopped)
    }

    /// Stops the engine after the input that it is at.
    pub(super) async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
    }
}

/// Where the engine's outputs go.
pub(super) struct Outside {
    pub(super) net: NetHandle,
    pub(super) effects: Arc<Effects>,
    pub(super) scans: Scans,
    pub(super) events: Arc<Events>,
    pub(super) tokio: tokio::runtime::Handle,
}

/// The engine and all that it needs on its thread.
pub(super) struct Driver {
    engine: NodeEngine,
    handle: EngineHandle,
    outside: Outside,
    /// Breaks an effect off; closed once it is over.
    under_way: BTreeMap<EffectId, oneshot::Sender<()>>,
    wake_at_ms: u64,
}

impl Driver {
    /// Opens the engine and runs it on a thread of its own. `failed` hears why, if it cannot go on.
    pub(super) fn spawn(
        database: NodeDatabase,
        config: Config,
        keys: Box<dyn Keys + Send>,
        handle: EngineHandle,
        commands: mpsc::Receiver<Command>,
        outside: Outside,
        failed: oneshot::Sender<String>,
    ) -> Result<JoinHandle<()>, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| {
            Failure::new("cannot run", error, "the system gives no random numbers; restart it")
        })?;
        let engine = Engine::open(database, config, keys, now(), u64::from_le_bytes(random));
        let engine = engine.map_err(|error| {
            Failure::new(
                "cannot run",
                error,
                "restore the node database from a backup, or move it away and join anew",
            )
        })?;
        let driver = Driver { engine, handle, outside, under_way: BTreeMap::new(), wake_at_ms: 0 };
        let thread =
            std::thread::Builder::new().name("engine".into()).spawn(move || driver.run(commands, failed));
        thread.map_err(|error| Failure::new("cannot run", error, "free some memory and start it again"))
    }

    fn run(mut self, mut commands: mpsc::Receiver<Command>, failed: oneshot::Sender<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let ended = match runtime {
            Ok(runtime) => runtime.block_on(self.take_all(&mut commands)).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = ended {
            tracing::error!("{why}");
            let _ = failed.send(why);
        }
    }

    async fn take_all(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<(), EngineError> {
        self.drain();
        loop {
            let now_ms = now().mono_ms;
            let pause = Duration::from_millis(self.wake_at_ms.saturating_sub(now_ms).min(60_000));
            let command = tokio::select! {
                biased;
                command = commands.recv() => command,
                () = tokio::time::sleep(pause) => Some(Command::Input(Box::new(Input::Tick))),
            };
            match command {
                Some(Command::Input(input)) => {
                    self.engine.handle(now(), *input)?;
                    self.drain();
                }
                Some(Command::Ask(question)) => question(&self.engine),
                Some(Command::Stop) | None => return Ok(()),
            }
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send(to, message) => match message.encode() {
                    // A message that is lost is asked for again by the next heartbeat.
                    Ok(frame) => _ = self.outside.net.send(to, frame),
                    Err(error) => tracing::error!("a message was not sent: {error}"),
                },
                Output::Effect(id, effect) => {
                    let (effects, engine) = (Arc::clone(&self.outside.effects), self.handle.clone());
                    let (cancel, cancelled) = oneshot::channel();
                    self.under_way.retain(|_, cancel| !cancel.is_closed());
                    self.under_way.insert(id, cancel);
                    self.outside.tokio.spawn(async move {
                        let outcome = effects.perform_watched(id, effect, cancelled, &engine).await;
                        let _ = engine.input(Input::Done(id, outcome)).await;
                    });
                }
                Output::Drop(client) => self.outside.net.disconnect(client),
                Output::Cancel(id) => {
                    if let Some(cancel) = self.under_way.remove(&id) {
                        let _ = cancel.send(());
                    }
                }
                Output::ScanAll => self.outside.scans.scan_all(),
                Output::Look(paths) => self.outside.scans.look(paths),
                Output::Rested(id) => self.outside.events.rested(id),
                Output::Event(event) => self.outside.events.tell(event),
                Output::WakeAt(ms) => self.wake_at_ms = ms,
            }
        }
    }
}

/// This machine's time.
fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
    Now { mono_ms: monotonic_ms(), wall_ms }
}
