//! `tcat join` with the real program, against an inviter on loopback that is made of the node's own parts.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use tcat::home::Home;
use tcat::invitations::InvitationBook;
use tcat::settings::{NodeSettings, Stores, WorkgroupSettings};
use tcat::ticket::Ticket;
use tcat_engine::content::Blake3;
use tcat_engine::ids::ClientId;
use tcat_engine::roster::Admission;
use tcat_net::{
    ContentSource, KeyStore, Keyring, Keys, Members, Net, NetConfig, NetEvent, NetHandle, SourceContent,
};

struct Nowhere;

impl KeyStore for Nowhere {
    fn save(&self, _: &Keyring) -> std::io::Result<()> {
        Ok(())
    }
}

/// An inviter that has nothing to fetch.
struct NoContents;

impl ContentSource for NoContents {
    fn open(&self, _blake3: &Blake3) -> Option<SourceContent> {
        None
    }
}

/// Nobody comes to it but to join.
struct Nobody;

#[async_trait::async_trait]
impl Members for Nobody {
    async fn admission(&self, _client: &ClientId) -> Admission {
        Admission::Unlisted
    }

    fn unlisted(&self, _client: &ClientId) {}
}

struct Scene {
    folder: tempfile::TempDir,
    settings: NodeSettings,
    stores: Stores,
    net: NetHandle,
    address: SocketAddr,
    book: Arc<InvitationBook>,
}

fn tcat(folder: &std::path::Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tcat"))
        .args(words)
        .current_dir(folder)
        .env_remove("TCAT_HOME")
        .env_remove("TCAT_LOG")
        .output()
        .unwrap()
}

impl Scene {
    /// A workgroup of one member, anna, who invites; `change` may spoil what new members are told.
    async fn new(change: impl FnOnce(&mut Ticket)) -> Self {
        let folder = tempfile::Builder::new().prefix("tcat é ").tempdir().unwrap();
        for media in ["media a", "media b", "media c"] {
            fs::create_dir(folder.path().join(media)).unwrap();
        }
        let words = ["--home", "a", "init", "--media", "media a", "--name", "anna", "--workgroup", "films"];
        assert!(tcat(folder.path(), &words).status.success());
        let settings = NodeSettings::load(&Home::at(folder.path().join("a")), &[], None).unwrap();
        let group = &settings.workgroups[0];
        let stores = group.open(&settings.identity).await.unwrap();
        let mut ticket = ticket(group);
        change(&mut ticket);
        let tokio = tokio::runtime::Handle::current();
        let keys = Keys::new(settings.identity.clone(), group.keys.clone(), Box::new(Nowhere));
        let book = Arc::new(InvitationBook::new(ticket, keys.clone(), Arc::clone(&stores.catalog), tokio));
        let (net, mut events) = Net::start(NetConfig {
            identity: settings.identity.clone(),
            workgroup: group.id,
            keys,
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            interfaces: vec!["lo".to_owned()],
            static_peers: Vec::new(),
            mdns: false,
            contents: Arc::new(NoContents),
            members: Arc::new(Nobody),
            invitations: Some(book.clone()),
            services: None,
        })
        .await
        .unwrap();
        let Some(NetEvent::Listening(address)) = events.recv().await else { panic!("it does not listen") };
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        Self { folder, settings, stores, net, address, book }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn code(&self) -> String {
        self.book.invite().unwrap().0.encode()
    }

    /// The program, off the test's own runtime, which must go on answering.
    async fn tcat(&self, words: &[&str]) -> Output {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let folder = self.folder.path().to_owned();
        let run = move || tcat(&folder, &words.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    async fn join(&self, home: &str, code: &str, media: &str, more: &[&str]) -> Output {
        let peer = self.address.to_string();
        let words = ["--home", home, "--interface", "lo", "join", code, "--media", media, "--peer", &peer];
        self.tcat(&[&words[..], more].concat()).await
    }

    async fn roster(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.stores.catalog.members().await.unwrap().into_iter().map(|member| member.name).collect();
        names.sort();
        names
    }
}

fn ticket(group: &WorkgroupSettings) -> Ticket {
    Ticket {
        workgroup: group.id,
        name: group.name.clone(),
        keys: group.keys.clone(),
        catalog: group.catalog_url.clone(),
        objects: group.objects_url.clone(),
        client_name: String::new(),
    }
}

#[track_caller]
fn fails(output: &Output, parts: &[&str]) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "not one line: {text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_makes_a_member_that_knows_all_it_needs_and_the_code_itself_shows_nowhere() {
    let scene = Scene::new(|_| {}).await;
    let code = scene.code();
    let text = succeeds(&scene.join("b", &code, "media b", &["--name", "ben"]).await);
    assert!(text.contains("films") && text.contains("ben") && text.contains("Next: tcat "), "{text}");
    assert!(!text.contains(&code));
    assert_eq!(scene.roster().await, ["anna", "ben"]);
    let joined = NodeSettings::load(&Home::at(scene.path("b")), &[], None).unwrap();
    let (ours, theirs) = (&scene.settings.workgroups[0], &joined.workgroups[0]);
    assert_eq!((theirs.id, &theirs.keys, &theirs.catalog_url), (ours.id, &ours.keys, &ours.catalog_url));
    assert_eq!(joined.config.peers, [scene.address.to_string()]);
    assert_eq!(joined.config.interfaces, ["lo"]);
    assert!(joined.config.listen.ip().is_loopback());
    let stores = theirs.open(&joined.identity).await.unwrap();
    assert_eq!(stores.folder.marker().client, joined.identity.client_id());
    scene.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_for_one_client_and_names_stay_unique() {
    let scene = Scene::new(|_| {}).await;
    let code = scene.code();
    succeeds(&scene.join("b", &code, "media b", &["--name", "ben"]).await);
    fails(&scene.join("c", &code, "media c", &["--name", "carl"]).await, &["used by another client"]);
    assert!(!scene.path("c").exists(), "nothing is left of the refused attempt");
    fails(
        &scene.join("b", &scene.code(), "media c", &[]).await,
        &["a member of the workgroup films already"],
    );
    // The inviter takes one attempt a second from an address; the program waits for it.
    let text = succeeds(&scene.join("c", &scene.code(), "media c", &["--name", "Anna"]).await);
    assert!(text.contains("Anna-2"), "{text}");
    scene.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workgroup_whose_catalog_is_out_of_reach_is_refused_and_the_code_stays_good() {
    let scene = Scene::new(|ticket| ticket.catalog = "sqlite:/nowhere/catalog.db".to_owned()).await;
    let code = scene.code();
    fails(
        &scene.join("b", &code, "media b", &[]).await,
        &["does not reach the catalog", "/nowhere/catalog.db"],
    );
    assert!(!scene.path("b/config.toml").exists());
    assert!(!scene.path("media b/.tcat").exists());
    fails(&scene.join("b", &code, "media b", &[]).await, &["does not reach the catalog"]);
    scene.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workgroup_whose_objects_are_out_of_reach_is_refused() {
    let scene = Scene::new(|ticket| ticket.objects = "file:/nowhere/objects".to_owned()).await;
    fails(&scene.join("b", &scene.code(), "media b", &[]).await, &["does not reach the objects", "/nowhere"]);
    assert!(!scene.path("media b/.tcat").exists());
    scene.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_another_workgroup_than_the_named_one_is_refused() {
    let scene = Scene::new(|_| {}).await;
    let output = scene.join("b", &scene.code(), "media b", &["--workgroup", "songs"]).await;
    fails(&output, &["for the workgroup \"films\"", "songs"]);
    scene.net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_folder_of_another_node_is_refused_and_another_one_works_with_the_same_code() {
    let scene = Scene::new(|_| {}).await;
    let code = scene.code();
    fails(&scene.join("b", &code, "media a", &["--name", "ben"]).await, &["another node"]);
    succeeds(&scene.join("b", &code, "media b", &["--name", "ben"]).await);
    assert_eq!(scene.roster().await, ["anna", "ben"]);
    scene.net.shutdown().await;
}
