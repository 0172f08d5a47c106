//! A blocking client of the control API: what the command line and the admin TUI speak through.
//!
//! It finds the node by the files in its home, speaks to loopback only, follows no redirect and no proxy, and
//! bounds every answer in size and every request in time. Errors tell apart what a person mends differently.

use crate::files::{self, FileError, Presence};
use crate::types::{
    BrakeAnswer, BrakeRequest, BrakeStatus, DeleteAnswer, DeleteRequest, ErrorBody, Invite, Members,
    PromoteAnswer, RetireAnswer, RetireRequest, ScanAnswer, Show, Status, WAIT_MS_MAX, WaitAnswer,
    WaitRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::http;
use ureq::{Agent, Body};

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// For answers that the node has at hand.
const QUICK: Duration = Duration::from_secs(30);
/// For a full scan, which reads the whole media folder if it must. A node that dies ends the connection at
/// once.
const SCAN: Duration = Duration::from_secs(24 * 3600);
/// What an answer may take beyond the time that the request itself gives.
const MARGIN: Duration = Duration::from_secs(20);
/// How long a node that has started may take until it listens.
const STARTING: Duration = Duration::from_secs(10);

/// Why the node did not answer, or what it answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no home.
    #[error("there is no tcat home at {}", .0.display())]
    NoHome(PathBuf),
    /// No node runs in this home.
    #[error("the node of {} is not running", .0.display())]
    NotRunning(PathBuf),
    /// A node has started or is stopping, and does not listen.
    #[error("the node of {} is starting or stopping and does not answer yet", .0.display())]
    Starting(PathBuf),
    /// `control.json`, `token` or `run.lock` cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The node did not know our token.
    #[error("the node does not accept the token in {}", .0.display())]
    Token(PathBuf),
    /// The node answered with an error of its own.
    #[error("{}", .0.error)]
    Refused(ErrorBody),
    /// No answer in the time that the request may take.
    #[error("the node did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The connection broke: the node stopped or crashed meanwhile.
    #[error("the connection to the node broke ({0})")]
    Broken(String),
    /// The answer is none that this version understands.
    #[error("the node's answer cannot be read ({0})")]
    Protocol(String),
}

impl ClientError {
    /// What a person does about it.
    pub fn what_to_do(&self) -> String {
        match self {
            Self::NoHome(_) => {
                "make one with `tcat init` or `tcat join`, or name the right one with --home".into()
            }
            Self::NotRunning(_) => "start it with `tcat run`".into(),
            Self::Starting(_) => "try again in a moment".into(),
            Self::File(_) => "restart the node with `tcat run`, as the user who owns the home".into(),
            Self::Token(_) => "restart the node, so that it reads the token anew".into(),
            Self::Refused(body) => body.what_to_do.clone(),
            Self::Timeout(_) => "look at the node's log, and restart it if it hangs".into(),
            Self::Broken(_) => "look at the node's log, and start it again if it stopped".into(),
            Self::Protocol(_) => "use the same version of tcat as the node's".into(),
        }
    }
}

/// A connection to the node of one home.
#[derive(Debug)]
pub struct Client {
    home: PathBuf,
    base: String,
    token: String,
    workgroup: Option<String>,
    agent: Agent,
}

impl Client {
    /// Finds the running node of `home`, waiting up to ten seconds for one that is just starting.
    /// `workgroup` names one of a home that holds several.
    pub fn connect(home: &Path, workgroup: Option<&str>) -> Result<Self, ClientError> {
        if !home.is_dir() {
            return Err(ClientError::NoHome(home.to_owned()));
        }
        let deadline = Instant::now() + STARTING;
        let control = loop {
            match files::presence(home)? {
                Presence::Running(control) => break control,
                Presence::NotRunning => return Err(ClientError::NotRunning(home.to_owned())),
                Presence::Starting if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Presence::Starting => return Err(ClientError::Starting(home.to_owned())),
            }
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(5)))
            .build()
            .into();
        Ok(Self {
            home: home.to_owned(),
            base: format!("http://{}/v1", control.address),
            token: files::read_token(home)?,
            workgroup: workgroup.map(str::to_owned),
            agent,
        })
    }

    /// How things stand.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.get("status", QUICK)
    }

    /// Waits until nothing is left to settle, at most `timeout`.
    pub fn wait(&self, timeout: Duration) -> Result<WaitAnswer, ClientError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(WAIT_MS_MAX).min(WAIT_MS_MAX);
        let limit = Duration::from_millis(timeout_ms) + MARGIN;
        self.post("wait", &WaitRequest { timeout_ms }, limit)
    }

    /// Scans the whole media folder.
    pub fn scan(&self) -> Result<ScanAnswer, ClientError> {
        self.post("scan", &Empty {}, SCAN)
    }

    /// What the brake holds, and what a person says to it.
    pub fn brake(&self, answer: Option<BrakeAnswer>) -> Result<BrakeStatus, ClientError> {
        self.post("brake", &BrakeRequest { answer }, QUICK)
    }

    /// One item, by id or by path in the media folder.
    pub fn show(&self, what: &str) -> Result<Show, ClientError> {
        self.get(&format!("items/{}", percent_encoded(what)), QUICK)
    }

    /// Has an item deleted everywhere, by id or by path in the media folder.
    pub fn delete(&self, what: &str) -> Result<DeleteAnswer, ClientError> {
        self.post("delete", &DeleteRequest { item: what.to_owned() }, QUICK)
    }

    /// A new one-time code.
    pub fn invite(&self) -> Result<Invite, ClientError> {
        self.post("invite", &Empty {}, QUICK)
    }

    /// Everybody in the roster.
    pub fn members(&self) -> Result<Members, ClientError> {
        self.get("members", QUICK)
    }

    /// Retires a member, by name or by id, for good.
    pub fn retire(&self, client: &str) -> Result<RetireAnswer, ClientError> {
        self.post("members/retire", &RetireRequest { client: client.to_owned() }, QUICK)
    }

    /// Makes this node host.
    pub fn promote(&self) -> Result<PromoteAnswer, ClientError> {
        self.post("promote", &Empty {}, QUICK)
    }

    fn get<T: DeserializeOwned>(&self, route: &str, limit: Duration) -> Result<T, ClientError> {
        let sent = self
            .agent
            .get(self.url(route))
            .header("authorization", format!("Bearer {}", self.token))
            .config()
            .timeout_global(Some(limit))
            .build()
            .call();
        self.answer(sent, limit)
    }

    fn post<T: DeserializeOwned>(
        &self,
        route: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let sent = self
            .agent
            .post(self.url(route))
            .header("authorization", format!("Bearer {}", self.token))
            .config()
            .timeout_global(Some(limit))
            .build()
            .send_json(body);
        self.answer(sent, limit)
    }

    fn url(&self, route: &str) -> String {
        match &self.workgroup {
            Some(name) => format!("{}/{route}?workgroup={}", self.base, percent_encoded(name)),
            None => format!("{}/{route}", self.base),
        }
    }

    fn answer<T: DeserializeOwned>(
        &self,
        sent: Result<http::Response<Body>, ureq::Error>,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let mut response = sent.map_err(|error| self.transport_error(error, limit))?;
        let status = response.status();
        if status == http::StatusCode::UNAUTHORIZED {
            return Err(ClientError::Token(self.home.join(files::TOKEN_FILE)));
        }
        let text = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()
            .map_err(|error| self.transport_error(error, limit))?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| ClientError::Protocol(error.to_string()));
        }
        match serde_json::from_str(&text) {
            Ok(body) => Err(ClientError::Refused(body)),
            Err(_) => Err(ClientError::Protocol(format!("HTTP status {status}"))),
        }
    }

    fn transport_error(&self, error: ureq::Error, limit: Duration) -> ClientError {
        match error {
            ureq::Error::Timeout(_) => ClientError::Timeout(limit),
            ureq::Error::ConnectionFailed => ClientError::Starting(self.home.clone()),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                ClientError::Starting(self.home.clone())
            }
            ureq::Error::Io(error) => ClientError::Broken(error.to_string()),
            ureq::Error::Protocol(error) => ClientError::Broken(error.to_string()),
            other => ClientError::Protocol(other.to_string()),
        }
    }
}

#[derive(Serialize)]
struct Empty {}

/// Everything but letters, digits and `-_~` as `%XX`, so that any path, `..` too, is one part of a URL.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    /// A home with a held lock whose node answers one request with `answer` and returns what it was asked.
    struct FakeNode {
        home: tempfile::TempDir,
        _lock: File,
        asked: thread::JoinHandle<String>,
    }

    fn fake_node(answer: &'static str) -> FakeNode {
        let home = tempfile::tempdir().unwrap();
        let lock = File::create(home.path().join(files::LOCK_FILE)).unwrap();
        lock.try_lock().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let control = files::ControlFile { address: listener.local_addr().unwrap(), pid: 1 };
        write(&home, files::CONTROL_FILE, &serde_json::to_string(&control).unwrap());
        write(&home, files::TOKEN_FILE, &"ab".repeat(32));
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut buffer = [0; 4096];
            while !asked.windows(4).any(|w| w == b"\r\n\r\n") {
                let n = stream.read(&mut buffer).unwrap();
                asked.extend_from_slice(&buffer[..n]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        FakeNode { home, _lock: lock, asked }
    }

    fn write(home: &tempfile::TempDir, name: &str, text: &str) {
        fs::write(home.path().join(name), text).unwrap();
    }

    #[test]
    fn a_home_without_a_node_is_told_from_no_home_at_all() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(Client::connect(home.path(), None), Err(ClientError::NotRunning(_))));
        let none = home.path().join("none");
        assert!(matches!(Client::connect(&none, None), Err(ClientError::NoHome(_))));
    }

    #[test]
    fn the_token_is_not_sent_to_the_address_that_a_dead_node_left_behind() {
        let home = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        File::create(home.path().join(files::LOCK_FILE)).unwrap();
        let control = files::ControlFile { address: listener.local_addr().unwrap(), pid: 1 };
        write(&home, files::CONTROL_FILE, &serde_json::to_string(&control).unwrap());
        write(&home, files::TOKEN_FILE, &"ab".repeat(32));
        assert!(matches!(Client::connect(home.path(), None), Err(ClientError::NotRunning(_))));
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_address_that_is_not_on_this_machine_is_not_believed() {
        let node = fake_node("");
        write(&node.home, files::CONTROL_FILE, r#"{"address":"192.0.2.1:80","pid":1}"#);
        assert!(matches!(Client::connect(node.home.path(), None), Err(ClientError::File(_))));
    }

    #[test]
    fn the_nodes_own_error_comes_through_with_what_to_do() {
        let node = fake_node(
            "HTTP/1.1 404 Not Found\r\ncontent-length: 44\r\n\r\n\
             {\"error\":\"no such item\",\"what_to_do\":\"look\"}",
        );
        let client = Client::connect(node.home.path(), Some("a b")).unwrap();
        let error = client.show("2024/Été 1%.jpg").unwrap_err();
        assert_eq!((error.to_string(), error.what_to_do()), ("no such item".into(), "look".into()));
        let asked = node.asked.join().unwrap();
        let line = "GET /v1/items/2024%2F%C3%89t%C3%A9%201%25%2Ejpg?workgroup=a%20b HTTP/1.1";
        assert_eq!(asked.lines().next(), Some(line));
        assert!(asked.contains(&format!("authorization: Bearer {}", "ab".repeat(32))), "{asked}");
    }

    #[test]
    fn a_refused_token_an_unreadable_answer_and_a_broken_connection_are_told_apart() {
        let node = fake_node("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
        let client = Client::connect(node.home.path(), None).unwrap();
        assert!(matches!(client.status(), Err(ClientError::Token(_))));

        let node = fake_node("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]");
        let client = Client::connect(node.home.path(), None).unwrap();
        assert!(matches!(client.status(), Err(ClientError::Protocol(_))));

        let node = fake_node("HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n[]");
        let client = Client::connect(node.home.path(), None).unwrap();
        assert!(matches!(client.status(), Err(ClientError::Broken(_))));
    }

    #[test]
    fn no_path_can_climb_out_of_its_place_in_the_url() {
        assert_eq!(percent_encoded(".."), "%2E%2E");
        assert_eq!(percent_encoded("../x"), "%2E%2E%2Fx");
        assert_eq!(percent_encoded("a?b#c"), "a%3Fb%23c");
    }
}
