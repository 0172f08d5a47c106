//! The server with a node that answers what the test tells it to.

use super::*;
use async_trait::async_trait;
use std::io::{Read, Write};
use std::time::Instant;
use tcat_api::types::{
    BrakeAnswer, BrakeStatus, DeleteAnswer, Invite, MemberRow, Members, PromoteAnswer, RetireAnswer,
    ScanAnswer, Show, Status, WaitAnswer,
};
use tcat_api::{Client, ClientError};

struct FakeNode {
    name: &'static str,
}

#[async_trait]
impl Control for FakeNode {
    async fn status(&self) -> Result<Status, ControlError> {
        let mut status = Status { settled: true, cloud_fetches: 3, ..Status::default() };
        status.workgroup.name = self.name.to_owned();
        Ok(status)
    }
    async fn wait(&self, timeout: Duration) -> Result<WaitAnswer, ControlError> {
        tokio::time::sleep(timeout).await;
        let waited_ms = timeout.as_millis() as u64;
        Ok(WaitAnswer { waited_ms, absent: vec!["anna".to_owned(); 1000], ..WaitAnswer::default() })
    }
    async fn scan(&self) -> Result<ScanAnswer, ControlError> {
        Err(ControlError::Failed { why: "the media folder is gone".into(), what_to_do: "mount it".into() })
    }
    async fn brake(&self, answer: Option<BrakeAnswer>) -> Result<BrakeStatus, ControlError> {
        Ok(BrakeStatus { on: answer.is_none(), deleted: 700, ..BrakeStatus::default() })
    }
    async fn show(&self, what: &str) -> Result<Show, ControlError> {
        Err(ControlError::NotFound { what: format!("no item {what:?}"), what_to_do: "look".into() })
    }
    async fn delete(&self, what: &str) -> Result<DeleteAnswer, ControlError> {
        Ok(DeleteAnswer { item: what.to_owned() })
    }
    async fn invite(&self) -> Result<Invite, ControlError> {
        Ok(Invite { code: "tcat-1".into(), expires: "2026-01-01T00:00:00Z".into() })
    }
    async fn members(&self) -> Result<Members, ControlError> {
        Ok(Members { members: vec![MemberRow { name: self.name.to_owned(), ..MemberRow::default() }] })
    }
    async fn retire(&self, client: &str) -> Result<RetireAnswer, ControlError> {
        Ok(RetireAnswer { id: "1".into(), name: client.to_owned() })
    }
    async fn promote(&self) -> Result<PromoteAnswer, ControlError> {
        Ok(PromoteAnswer { epoch: 2, ..PromoteAnswer::default() })
    }
}

struct Running {
    folder: tempfile::TempDir,
    server: ApiServer,
    token: String,
    _lock: crate::home::RunLock,
}

async fn running(names: &[&'static str]) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path());
    let lock = home.lock().unwrap();
    let token = home.token().unwrap();
    let served = names
        .iter()
        .map(|name| Served {
            id: format!("id of {name}"),
            name: (*name).to_owned(),
            control: Arc::new(FakeNode { name }),
        })
        .collect();
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = ApiServer::start(&home, listen, &token, served).await.unwrap();
    Running { folder, server, token, _lock: lock }
}

/// Asks through the real client, off the server's threads.
async fn ask<T: Send + 'static>(
    running: &Running,
    workgroup: Option<&'static str>,
    question: impl FnOnce(Client) -> T + Send + 'static,
) -> T {
    let home = running.folder.path().to_owned();
    tokio::task::spawn_blocking(move || question(Client::connect(&home, workgroup).unwrap())).await.unwrap()
}

#[tokio::test]
async fn a_person_asks_and_answers_the_brake() {
    let running = running(&["films"]).await;
    let held = ask(&running, None, |client| client.brake(None)).await.unwrap();
    assert_eq!((held.on, held.deleted), (true, 700));
    for answer in [BrakeAnswer::Accept, BrakeAnswer::Refuse] {
        assert!(!ask(&running, None, move |client| client.brake(Some(answer))).await.unwrap().on);
    }
    let head = "POST /v1/brake HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {token}\r\n";
    let body = "content-type: application/json\r\ncontent-length: 18\r\nconnection: close\r\n\r\n{\"answer\":\"maybe\"}";
    let (status, text) = raw(&running, &format!("{head}{body}")).await;
    assert!(status.contains("422") && text.contains("accept"), "{status} {text}");
}

/// Sends `request` as it is, with `{port}` and `{token}` filled in, and returns the status line and the body.
async fn raw(running: &Running, request: &str) -> (String, String) {
    let address = running.server.address();
    let request = request.replace("{port}", &address.port().to_string()).replace("{token}", &running.token)
        + "\r\n\r\n";
    tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    })
    .await
    .unwrap()
}

const CLOSE: &str = "connection: close\r\nauthorization: Bearer {token}";

#[tokio::test(flavor = "multi_thread")]
async fn the_client_gets_what_the_node_says() {
    let running = running(&["films"]).await;
    let status = ask(&running, None, |client| client.status()).await.unwrap();
    assert_eq!((status.settled, status.cloud_fetches, status.workgroup.name.as_str()), (true, 3, "films"));
    let invite = ask(&running, None, |client| client.invite()).await.unwrap();
    assert_eq!(invite.code, "tcat-1");
    let waited = ask(&running, None, |client| client.wait(Duration::from_millis(5))).await.unwrap();
    assert_eq!((waited.waited_ms, waited.settled, waited.left_out), (5, false, 800));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_errors_reach_the_person_whole() {
    let running = running(&["films"]).await;
    let error = ask(&running, None, |client| client.scan()).await.unwrap_err();
    assert_eq!(error.to_string(), "the media folder is gone");
    assert_eq!(error.what_to_do(), "mount it");
    let error = ask(&running, None, |client| client.show("a/../Été 1%2F?.jpg")).await.unwrap_err();
    assert_eq!(error.to_string(), "no item \"a/../Été 1%2F?.jpg\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_several_workgroups_one_must_be_named() {
    let running = running(&["films", "été"]).await;
    let error = ask(&running, None, |client| client.status()).await.unwrap_err();
    assert!(error.what_to_do().contains("--workgroup: films, été"), "{}", error.what_to_do());
    let status = ask(&running, Some("été"), |client| client.status()).await.unwrap();
    assert_eq!(status.workgroup.name, "été");
    assert!(ask(&running, Some("id of films"), |client| client.status()).await.is_ok());
    let error = ask(&running, Some("none"), |client| client.status()).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_the_token_is_answered_on_any_route() {
    let running = running(&["films"]).await;
    for route in ["/v1/status", "/v1/items/a", "/v1/invite", "/none", "/"] {
        for authorization in
            ["x: y", "authorization: Bearer ", "authorization: Bearer 00", "authorization: {token}"]
        {
            for method in ["GET", "POST", "OPTIONS"] {
                let close = "host: 127.0.0.1:{port}\r\nconnection: close";
                let request = format!("{method} {route} HTTP/1.1\r\n{close}\r\n{authorization}");
                let (line, body) = raw(&running, &request).await;
                assert!(line.contains("401"), "{request}: {line}");
                assert!(!body.contains("films"), "{body}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_that_rebinds_a_name_to_this_machine_is_refused() {
    let running = running(&["films"]).await;
    for host in ["evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", ""] {
        let (line, _) = raw(&running, &format!("GET /v1/status HTTP/1.1\r\nhost: {host}\r\n{CLOSE}")).await;
        assert!(line.contains("403"), "{host}: {line}");
    }
    let two = format!("GET /v1/status HTTP/1.1\r\nhost: localhost:{{port}}\r\nhost: evil\r\n{CLOSE}");
    assert!(!raw(&running, &two).await.0.contains("200"));
    let absolute = format!("GET http://evil/v1/status HTTP/1.1\r\nhost: localhost:{{port}}\r\n{CLOSE}");
    assert!(raw(&running, &absolute).await.0.contains("403"));
    for host in ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}"] {
        let (line, _) = raw(&running, &format!("GET /v1/status HTTP/1.1\r\nhost: {host}\r\n{CLOSE}")).await;
        assert!(line.contains("200"), "{host}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_json_that_says_what_to_do() {
    let running = running(&["films"]).await;
    let host = "host: localhost:{port}";
    let long = "x".repeat(BODY_BYTES_MAX + 1);
    let json = "content-type: application/json";
    for (status, request) in [
        ("404", format!("GET /v1/none HTTP/1.1\r\n{host}\r\n{CLOSE}")),
        ("405", format!("GET /v1/wait HTTP/1.1\r\n{host}\r\n{CLOSE}")),
        ("400", format!("GET /v1/status?wg=a HTTP/1.1\r\n{host}\r\n{CLOSE}")),
        ("404", format!("GET /v1/items/ HTTP/1.1\r\n{host}\r\n{CLOSE}")),
        ("400", format!("GET /v1/items/%FF HTTP/1.1\r\n{host}\r\n{CLOSE}")),
        (
            "400",
            format!("POST /v1/wait HTTP/1.1\r\n{host}\r\n{CLOSE}\r\n{json}\r\ncontent-length: 1\r\n\r\n{{"),
        ),
        (
            "422",
            format!("POST /v1/wait HTTP/1.1\r\n{host}\r\n{CLOSE}\r\n{json}\r\ncontent-length: 2\r\n\r\n{{}}"),
        ),
        (
            "413",
            format!(
                "POST /v1/wait HTTP/1.1\r\n{host}\r\n{CLOSE}\r\n{json}\r\ncontent-length: {}\r\n\r\n{long}",
                long.len()
            ),
        ),
    ] {
        let (line, body) = raw(&running, &request).await;
        assert!(line.contains(status), "{}: {line}", &request[..40]);
        let body: ErrorBody = serde_json::from_str(&body).unwrap();
        assert!(!body.error.is_empty() && !body.what_to_do.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_is_quick_whoever_waits_and_leaves_no_address_behind() {
    let running = running(&["films"]).await;
    let home = running.folder.path().to_owned();
    let waiting = tokio::task::spawn_blocking(move || {
        Client::connect(&home, None).unwrap().wait(Duration::from_secs(600)).unwrap_err()
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(running.folder.path().join("control.json").exists());
    let started = Instant::now();
    running.server.stop().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(waiting.await.unwrap().to_string().contains("stopping"));
    assert!(!running.folder.path().join("control.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_beyond_this_machine_is_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path());
    let error = ApiServer::start(&home, "0.0.0.0:0".parse().unwrap(), "t", Vec::new()).await.unwrap_err();
    assert!(error.failing().to_string().contains("api.listen"));
    assert!(!home.control_file().exists());
}
