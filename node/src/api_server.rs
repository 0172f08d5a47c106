//! The control API's server: HTTP and JSON on loopback, for the command line and the admin TUI of the same
//! user.
//!
//! Every request, whatever its route, must carry the token of the home and a `Host` that is this machine (so
//! that no web page can reach it by rebinding a name). Bodies, requests at a time and waits are bounded.
//! `control.json` says where it listens; it is written once it does, and removed at a clean stop. What the
//! answers mean is the runtime's.

use crate::control::{Control, ControlError};
use crate::home::{Home, HomeError, remove_if_there, write_secret};
use crate::output::{Failure, one_line};
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tcat_api::files::ControlFile;
use tcat_api::types::{BrakeRequest, DeleteRequest, ErrorBody, RetireRequest, WAIT_MS_MAX, WaitRequest};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// The largest body of a request.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How many requests are worked on at a time; a wait is one.
const REQUESTS_MAX: usize = 64;
/// How long a stop waits for answers that are on their way.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// One workgroup that the API answers for.
#[derive(Clone)]
pub struct Served {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Who answers.
    pub control: Arc<dyn Control>,
}

/// The running server. Dropped without [`ApiServer::stop`], it ends with the tokio runtime.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    home: Home,
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Why the control API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiServerError {
    /// The address is not loopback.
    #[error("{0} is not on this machine")]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, std::io::Error),
    /// A file in the home.
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl ApiServerError {
    /// As the failure of `tcat run`.
    pub fn failing(&self) -> Failure {
        let what = "cannot serve the control API";
        match self {
            Self::NotLoopback(_) | Self::Bind(..) => {
                Failure::new(what, self, "set api.listen in config.toml to a free loopback address")
            }
            Self::Home(error) => error.failing(what),
        }
    }
}

#[derive(Clone)]
struct Shared {
    address: SocketAddr,
    token: blake3::Hash,
    served: Arc<Vec<Served>>,
    permits: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl ApiServer {
    /// Listens, writes `control.json` and serves until it is stopped. The caller holds the home's lock.
    pub async fn start(
        home: &Home,
        listen: SocketAddr,
        token: &str,
        served: Vec<Served>,
    ) -> Result<Self, ApiServerError> {
        if !listen.ip().is_loopback() {
            return Err(ApiServerError::NotLoopback(listen));
        }
        let failed = |error| ApiServerError::Bind(listen, error);
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stopping, stopped) = watch::channel(false);
        let shared = Shared {
            address,
            token: blake3::hash(token.as_bytes()),
            served: Arc::new(served),
            permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
            stopping: stopped.clone(),
        };
        let serving = axum::serve(listener, router(shared)).with_graceful_shutdown(until_stopped(stopped));
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!("the control API ended: {error}");
            }
        });
        let server = Self { address, home: home.clone(), stopping, task };
        server.announce()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses what comes, answers what can be answered at once, and removes `control.json`.
    pub async fn stop(self) -> Result<(), HomeError> {
        remove_if_there(&self.home.control_file())?;
        self.stopping.send_replace(true);
        let aborter = self.task.abort_handle();
        if tokio::time::timeout(STOP_PATIENCE, self.task).await.is_err() {
            aborter.abort();
        }
        Ok(())
    }

    fn announce(&self) -> Result<(), HomeError> {
        let path = self.home.control_file();
        let control = ControlFile { address: self.address, pid: std::process::id() };
        let text = serde_json::to_string(&control)
            .map_err(|error| HomeError::Io { path: path.clone(), why: error.into() })?;
        write_secret(&path, format!("{text}\n").as_bytes())
    }
}

async fn until_stopped(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone means that the server was dropped: stop as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/wait", post(wait))
        .route("/v1/scan", post(scan))
        .route("/v1/delete", post(delete))
        .route("/v1/brake", post(brake))
        .route("/v1/items/{*what}", get(show))
        .route("/v1/invite", post(invite))
        .route("/v1/members", get(members))
        .route("/v1/members/retire", post(retire))
        .route("/v1/promote", post(promote))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// Lets through who has the token, speaks to this machine by its own name, and finds room.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if !host_is_ours(request.headers(), request.uri(), shared.address.port()) {
        let why = "the request names another host than this machine";
        return refusal(StatusCode::FORBIDDEN, why, "use the address in control.json");
    }
    if !token_is_right(request.headers(), &shared.token) {
        let why = "the request does not carry this home's token";
        return refusal(StatusCode::UNAUTHORIZED, why, "send `authorization: Bearer` with the file token");
    }
    let Ok(_permit) = shared.permits.try_acquire() else {
        let why = "too many requests at a time";
        return refusal(StatusCode::SERVICE_UNAVAILABLE, why, "end some of the waiting commands");
    };
    next.run(request).await
}

/// Digests are compared, in constant time (`blake3::Hash`), so that time tells nothing of the token.
fn token_is_right(headers: &HeaderMap, token: &blake3::Hash) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .is_some_and(|given| blake3::hash(given) == *token)
}

fn host_is_ours(headers: &HeaderMap, uri: &Uri, port: u16) -> bool {
    let ours =
        |host: &str| ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| host == format!("{name}:{port}"));
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().is_ok_and(ours),
        _ => false,
    };
    named && uri.authority().is_none_or(|authority| ours(authority.as_str()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    workgroup: Option<String>,
}

type WhichQuery = Result<Query<Which>, axum::extract::rejection::QueryRejection>;

impl Shared {
    /// The workgroup that a request is about: the one that it names by name or id, or the only one.
    fn control(&self, which: WhichQuery) -> Result<Arc<dyn Control>, Refused> {
        let refused = Refused::new;
        let Query(which) = which.map_err(|error| {
            refused(StatusCode::BAD_REQUEST, &error.body_text(), "use `?workgroup=NAME` or nothing")
        })?;
        let names = || self.served.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = match (&which.workgroup, self.served.as_slice()) {
            (Some(name), all) => all.iter().find(|s| s.name == *name || s.id == *name).ok_or_else(|| {
                let why = format!("there is no workgroup {name:?} in this home");
                refused(StatusCode::NOT_FOUND, &why, &format!("name one of: {}", names()))
            }),
            (None, [only]) => Ok(only),
            (None, _) => {
                let why = "this home does not hold exactly one workgroup";
                Err(refused(StatusCode::BAD_REQUEST, why, &format!("choose with --workgroup: {}", names())))
            }
        };
        found.map(|served| Arc::clone(&served.control))
    }

    /// Runs `work` unless the node stops first.
    async fn answer<T: Serialize>(&self, work: impl Future<Output = Result<T, ControlError>>) -> Response {
        tokio::select! {
            answer = work => match answer {
                Ok(answer) => Json(answer).into_response(),
                Err(error) => {
                    let status = match error {
                        ControlError::NotFound { .. } => StatusCode::NOT_FOUND,
                        ControlError::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
                    };
                    refusal(status, &error.to_string(), error.what_to_do())
                }
            },
            () = until_stopped(self.stopping.clone()) => {
                let why = "the node is stopping";
                refusal(StatusCode::SERVICE_UNAVAILABLE, why, "start it again with `tcat run`")
            }
        }
    }
}

async fn status(State(shared): State<Shared>, which: WhichQuery) -> Response {
    match shared.control(which) {
        Ok(control) => shared.answer(control.status()).await,
        Err(refused) => refused.into_response(),
    }
}

async fn wait(
    State(shared): State<Shared>,
    which: WhichQuery,
    body: Result<Json<WaitRequest>, JsonRejection>,
) -> Response {
    let Json(request) = match body {
        Ok(request) => request,
        Err(error) => return refusal(error.status(), &error.body_text(), "send {\"timeout_ms\": N}"),
    };
    let timeout = Duration::from_millis(request.timeout_ms.min(WAIT_MS_MAX));
    match shared.control(which) {
        Ok(control) => shared.answer(async { Ok(control.wait(timeout).await?.bounded()) }).await,
        Err(refused) => refused.into_response(),
    }
}

async fn scan(State(shared): State<Shared>, which: WhichQuery) -> Response {
    match shared.control(which) {
        Ok(control) => shared.answer(async { Ok(control.scan().await?.bounded()) }).await,
        Err(refused) => refused.into_response(),
    }
}

async fn delete(
    State(shared): State<Shared>,
    which: WhichQuery,
    body: Result<Json<DeleteRequest>, JsonRejection>,
) -> Response {
    let Json(request) = match body {
        Ok(request) => request,
        Err(error) => return refusal(error.status(), &error.body_text(), "send {\"item\": ITEM}"),
    };
    match shared.control(which) {
        Ok(control) => shared.answer(control.delete(&request.item)).await,
        Err(refused) => refused.into_response(),
    }
}

async fn brake(
    State(shared): State<Shared>,
    which: WhichQuery,
    body: Result<Json<BrakeRequest>, JsonRejection>,
) -> Response {
    let Json(request) = match body {
        Ok(request) => request,
        Err(error) => {
            let what_to_do = "send {\"answer\": \"accept\"}, \"refuse\" or null";
            return refusal(error.status(), &error.body_text(), what_to_do);
        }
    };
    match shared.control(which) {
        Ok(control) => shared.answer(control.brake(request.answer)).await,
        Err(refused) => refused.into_response(),
    }
}

async fn show(
    State(shared): State<Shared>,
    which: WhichQuery,
    what: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Response {
    let Path(what) = match what {
        Ok(what) => what,
        Err(error) => return refusal(error.status(), &error.body_text(), "send UTF-8, percent-encoded"),
    };
    match shared.control(which) {
        Ok(control) => shared.answer(control.show(&what)).await,
        Err(refused) => refused.into_response(),
    }
}

async fn invite(State(shared): State<Shared>, which: WhichQuery) -> Response {
    match shared.control(which) {
        Ok(control) => shared.answer(control.invite()).await,
        Err(refused) => refused.into_response(),
    }
}

async fn members(State(shared): State<Shared>, which: WhichQuery) -> Response {
    match shared.control(which) {
        Ok(control) => shared.answer(control.members()).await,
        Err(refused) => refused.into_response(),
    }
}

async fn promote(State(shared): State<Shared>, which: WhichQuery) -> Response {
    match shared.control(which) {
        Ok(control) => shared.answer(control.promote()).await,
        Err(refused) => refused.into_response(),
    }
}

async fn retire(
    State(shared): State<Shared>,
    which: WhichQuery,
    body: Result<Json<RetireRequest>, JsonRejection>,
) -> Response {
    let Json(request) = match body {
        Ok(request) => request,
        Err(error) => return refusal(error.status(), &error.body_text(), "send {\"client\": NAME}"),
    };
    match shared.control(which) {
        Ok(control) => shared.answer(control.retire(&request.client)).await,
        Err(refused) => refused.into_response(),
    }
}

async fn no_route(uri: Uri) -> Response {
    let why = format!("there is no {} in the control API", uri.path());
    refusal(StatusCode::NOT_FOUND, &why, "use the same version of tcat as the node's")
}

async fn no_method(uri: Uri) -> Response {
    let why = format!("{} is not asked by this method", uri.path());
    refusal(StatusCode::METHOD_NOT_ALLOWED, &why, "use the same version of tcat as the node's")
}

/// An answer that is no success.
struct Refused(StatusCode, ErrorBody);

impl Refused {
    fn new(status: StatusCode, error: &str, what_to_do: &str) -> Self {
        Self(status, ErrorBody { error: one_line(error), what_to_do: one_line(what_to_do) })
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

fn refusal(status: StatusCode, error: &str, what_to_do: &str) -> Response {
    Refused::new(status, error, what_to_do).into_response()
}

#[cfg(test)]
mod tests;
