//! A member that works with the host's catalog and objects over loopback, as it would with its own.

use super::Host;
use super::catalog_client::HostCatalog;
use super::claims::{HostClaim, Listed};
use super::finding::{Finding, Roster};
use super::keeping::Kept;
use super::objects_client::HostObjects;
use super::wire::{Answer, PEER_URL, Request, hear_answer, say};
use crate::demo::verify::hash_bytes;
use crate::home::Home;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tcat_engine::catalog::{
    ChainLink, Commit, Committed, Created, FeedPosition, NewItem, Refusal, Repath, Repathed, Revision,
};
use tcat_engine::catalog_orders::Unsound;
use tcat_engine::clock::{Dot, Incarnation, Stamp};
use tcat_engine::content::{Blake3, Content, Md5};
use tcat_engine::ids::{ClientId, ItemId, ObjectId, WorkgroupId};
use tcat_engine::paths::MediaPath;
use tcat_engine::roster::Admission;
use tcat_net::{
    ContentSource, Identity, KeyStore, Keyring, Keys, Members, Net, NetConfig, NetEvent, NetHandle,
    PeerAddress, Service, Services, SourceContent, WorkgroupKey,
};
use tcat_storage::catalog::{Catalog, CatalogError, Intended, NewWorkgroup, SqliteCatalog};
use tcat_storage::objects::{ObjectError, Objects};
use tcat_storage::platform::OwnFile;

const PATIENCE: Duration = Duration::from_secs(20);
const GROUP: WorkgroupId = WorkgroupId([7; 16]);
const OBJECT: ObjectId = ObjectId([5; 16]);

struct Nothing;

impl ContentSource for Nothing {
    fn open(&self, _: &Blake3) -> Option<SourceContent> {
        None
    }
}

/// Whoever has the workgroup's key is a member.
struct Everybody;

#[async_trait]
impl Members for Everybody {
    async fn admission(&self, _: &ClientId) -> Admission {
        Admission::Member
    }

    fn unlisted(&self, _: &ClientId) {}
}

#[async_trait]
impl Roster for Everybody {
    async fn listed(&self, clients: Vec<ClientId>) -> BTreeMap<ClientId, Listed> {
        clients.into_iter().map(|client| (client, Listed::Member)).collect()
    }
}

struct Member {
    net: NetHandle,
    client: ClientId,
    address: std::net::SocketAddr,
}

/// A host with an embedded catalog and objects, and a member that has none.
struct Scene {
    folder: tempfile::TempDir,
    host: Member,
    ben: Member,
    own: Arc<SqliteCatalog>,
    catalog: HostCatalog,
    finding: Arc<Finding>,
    objects: Objects,
}

struct Nowhere;

impl KeyStore for Nowhere {
    fn save(&self, _: &Keyring) -> std::io::Result<()> {
        Ok(())
    }
}

async fn start(identity: Identity, peers: &[std::net::SocketAddr], host: Host) -> Member {
    let client = identity.client_id();
    let (finding, services) = (Arc::clone(&host.finding), Arc::new(host) as Arc<dyn Services>);
    let config = NetConfig {
        identity: identity.clone(),
        workgroup: GROUP,
        keys: Keys::new(identity, Keyring::new(WorkgroupKey::from_bytes([7; 32])), Box::new(Nowhere)),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        interfaces: vec!["lo".to_owned()],
        static_peers: peers.iter().copied().map(PeerAddress::from).collect(),
        mdns: false,
        contents: Arc::new(Nothing),
        invitations: None,
        members: Arc::new(Everybody),
        services: Some(services),
    };
    let (net, mut events) = Net::start(config).await.unwrap();
    let Some(NetEvent::Listening(address)) = events.recv().await else { panic!("it does not listen") };
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    finding.connect(net.clone(), Arc::new(Everybody));
    Member { net, client, address }
}

async fn wait_for(what: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let new = NewWorkgroup {
        id: GROUP,
        name: "films".into(),
        server_path: "/srv".into(),
        cache_root: "cache".into(),
    };
    let own = Arc::new(SqliteCatalog::create(&path("catalog.db"), &new).await.unwrap());
    let kept = Objects::create(&format!("file:{}", path("objects").display())).unwrap();
    let (identity, bens) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    own.admit(identity.client_id(), "anna").await.unwrap();
    own.admit(bens.client_id(), "ben").await.unwrap();
    let at = |name: &str| Home::at(folder.path().join(name));
    for home in [at("a"), at("b")] {
        home.create().unwrap();
    }
    let annas = Host::load(&identity, GROUP, &at("a"));
    annas.keeping.begin(Kept { catalog: Some(own.clone()), objects: Some(kept) });
    annas.finding.claim_own(own.epoch().await.unwrap().number).await;
    let host = start(identity, &[], annas).await;
    let member = Host::load(&bens, GROUP, &at("b"));
    let ben = start(bens, &[host.address], member.clone()).await;
    wait_for(|| !ben.net.connected().is_empty() && !host.net.connected().is_empty()).await;
    let catalog = HostCatalog::new(member.clone());
    let objects = Objects::remote(PEER_URL, Arc::new(HostObjects::new(member.clone())));
    Scene { folder, host, ben, own, catalog, finding: member.finding, objects }
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> (PathBuf, Content) {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        (path, content_of(bytes))
    }

    fn new_item(&self, author: ClientId, number: u8, path: &str) -> NewItem {
        NewItem {
            item: ItemId([number; 16]),
            revision: revision(author, u64::from(number)),
            asked_path: MediaPath::parse(path).unwrap(),
            content: content_of(&[number]),
            earlier: Vec::new(),
            content_type: "image/jpeg".into(),
            author,
            author_name: "ben".into(),
            source_server: "/media".into(),
            version_of: None,
        }
    }
}

fn revision(client: ClientId, counter: u64) -> Revision {
    Revision(Dot { client, stamp: Stamp { incarnation: Incarnation(1 << 60), counter } })
}

fn content_of(bytes: &[u8]) -> Content {
    Content {
        md5: Md5(hash_bytes(bytes)),
        size: bytes.len() as u64,
        blake3: Some(Blake3(*blake3::hash(bytes).as_bytes())),
    }
}

fn stored(scene: &Scene) -> PathBuf {
    scene.path("objects").join(OBJECT.to_string())
}

/// Has the catalog condemn the object's name, by marking a row whose object it is as unsound.
async fn condemn(scene: &Scene) {
    let (catalog, ben) = (&scene.catalog, scene.ben.client);
    let new = scene.new_item(ben, 1, "a.jpg");
    let Created::Row(row) = catalog.create(&new).await.unwrap() else { panic!() };
    catalog.intend(OBJECT, row.item, &row.content, 0, ben).await.unwrap();
    let catalog_epoch = catalog.epoch().await.unwrap();
    let (item, base, line) = (row.item, row.revision, Vec::new());
    let (generation, claim_epoch) = (0, 1);
    let commit =
        Commit { item, base, line, object: OBJECT, generation, claim_epoch, catalog_epoch, author: ben };
    assert!(matches!(catalog.commit(&commit).await.unwrap(), Committed::Row(_)));
    assert!(!catalog.is_condemned(OBJECT).await.unwrap());
    let order = Unsound { item, revision: base, object: OBJECT, catalog_epoch, author: ben };
    assert!(matches!(catalog.unsound(&order).await.unwrap(), Committed::Row(_)));
    assert!(catalog.is_condemned(OBJECT).await.unwrap());
}

fn staged(folder: &Path) -> usize {
    fs::read_dir(folder.join("objects/.staging")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_comes_in_is_committed_edited_and_renamed_through_the_host() {
    let scene = scene().await;
    let (catalog, ben) = (&scene.catalog, scene.ben.client);
    catalog.check().await.unwrap();
    let epoch = catalog.epoch().await.unwrap();
    assert_eq!(epoch, scene.own.epoch().await.unwrap());
    let new = scene.new_item(ben, 1, "a.jpg");
    let Created::Row(row) = catalog.create(&new).await.unwrap() else { panic!() };
    let announced = catalog.intend(OBJECT, row.item, &row.content, 0, ben).await.unwrap();
    assert_eq!(announced, Intended::Registered);
    let mut commit = Commit {
        item: row.item,
        base: row.revision,
        line: Vec::new(),
        object: OBJECT,
        generation: 0,
        claim_epoch: 1,
        catalog_epoch: epoch,
        author: ben,
    };
    assert!(matches!(catalog.commit(&commit).await.unwrap(), Committed::Row(_)));
    let edit = ChainLink { revision: revision(ben, 2), content: content_of(b"edited") };
    commit.line = vec![edit];
    commit.base = revision(ben, 99);
    let refused = catalog.commit(&commit).await.unwrap();
    assert!(matches!(refused, Committed::Refused { why: Refusal::Revision, .. }), "{refused:?}");
    let place = tcat_engine::catalog::NewPlace {
        item: row.item,
        seen: row.cache_path.clone(),
        asked: MediaPath::parse("b.jpg").unwrap(),
    };
    let repath = Repath { places: vec![place], catalog_epoch: epoch, author: ben };
    let Repathed::Rows(rows) = catalog.repath(&repath).await.unwrap() else { panic!() };
    assert_eq!(rows[0].cache_path.as_str(), "b.jpg");
    let page = catalog.feed(FeedPosition::default(), 100).await.unwrap();
    assert_eq!(page, scene.own.feed(FeedPosition::default(), 100).await.unwrap());
    assert_eq!(catalog.row(row.item).await.unwrap(), scene.own.row(row.item).await.unwrap());
    assert_eq!(catalog.row(ItemId([9; 16])).await.unwrap(), None);
    assert_eq!(catalog.import(row.item).await.unwrap(), scene.own.import(row.item).await.unwrap());
    assert_eq!(catalog.members().await.unwrap(), scene.own.members().await.unwrap());
    assert_eq!(catalog.workgroup().await.unwrap(), scene.own.workgroup().await.unwrap());
    let admitted = catalog.admit(ClientId([3; 32]), "ben").await.unwrap();
    assert_eq!(admitted.name, "ben-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_comes_back_as_what_it_is() {
    let scene = scene().await;
    let (catalog, ben) = (&scene.catalog, scene.ben.client);
    let mut position = scene.own.feed(FeedPosition::default(), 1).await.unwrap().through;
    position.epoch.id = [9; 16];
    position.epoch.number += 7;
    let epoch = scene.own.epoch().await.unwrap();
    assert_eq!(catalog.feed(position, 10).await, Err(CatalogError::Restored { epoch }));
    catalog.create(&scene.new_item(ben, 1, "a.jpg")).await.unwrap();
    let mut again = scene.new_item(ben, 1, "b.jpg");
    again.item = ItemId([2; 16]);
    let revision = again.revision;
    assert_eq!(catalog.create(&again).await, Err(CatalogError::RevisionReused { revision }));
    catalog.intend(OBJECT, ItemId([1; 16]), &content_of(b"1"), 0, ben).await.unwrap();
    let taken = catalog.intend(OBJECT, ItemId([1; 16]), &content_of(b"2"), 0, ben).await;
    assert_eq!(taken, Err(CatalogError::ObjectTaken { object: OBJECT }));
    let invalid = catalog.admit(ClientId([3; 32]), "").await;
    assert!(matches!(invalid, Err(CatalogError::InvalidName { .. })), "{invalid:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_changes_nothing_in_anothers_name() {
    let scene = scene().await;
    let anna = scene.host.client;
    let refused = scene.catalog.create(&scene.new_item(anna, 1, "a.jpg")).await;
    assert!(matches!(refused, Err(CatalogError::Other { .. })), "{refused:?}");
    let visit = tcat_engine::roster::Visit {
        client: anna,
        stamp: Stamp { incarnation: Incarnation(u64::MAX), counter: 1 },
        present: true,
        horizon_ms: u64::MAX,
    };
    assert!(scene.catalog.visit_roster(&visit).await.is_err());
    assert_eq!(scene.own.row(ItemId([1; 16])).await.unwrap(), None);
    let members = scene.own.members().await.unwrap();
    assert!(members.iter().all(|member| member.stamp == Stamp::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_host_every_call_fails_at_once_and_works_again_when_it_is_back() {
    let scene = scene().await;
    scene.catalog.check().await.unwrap();
    scene.host.net.shutdown().await;
    wait_for(|| scene.ben.net.connected().is_empty()).await;
    let since = Instant::now();
    let away = scene.catalog.epoch().await;
    assert!(matches!(away, Err(CatalogError::Unreachable { .. })), "{away:?}");
    let away = scene.objects.head(OBJECT).await;
    assert!(matches!(away, Err(ObjectError::Unreachable { .. })), "{away:?}");
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    // Who is started alone knows whom to wait for.
    let file = Home::at(scene.path("b")).workgroup_host_file(GROUP);
    let again = Finding::load(Identity::generate().unwrap(), GROUP, file);
    again.connect(scene.ben.net.clone(), Arc::new(Everybody));
    assert_eq!(again.known().await.map(|host| host.client), Some(scene.host.client));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_go_to_the_host_and_come_back_whole_or_from_the_middle() {
    let scene = scene().await;
    scene.objects.check().await.unwrap();
    assert_eq!(scene.objects.head(OBJECT).await.unwrap(), None);
    let bytes: Vec<u8> = (0..5_000_001u32).map(|n| (n % 251) as u8).collect();
    let (file, content) = scene.write("film", &bytes);
    let missing = scene.objects.get(OBJECT, &content, &OwnFile::at(&scene.path("x")).unwrap(), &|_| ()).await;
    assert!(matches!(missing, Err(ObjectError::Missing { .. })), "{missing:?}");
    scene.objects.put(OBJECT, &file, &content, &|_| ()).await.unwrap();
    assert_eq!(fs::read(stored(&scene)).unwrap(), bytes);
    scene.objects.put(OBJECT, &file, &content, &|_| ()).await.unwrap();
    assert_eq!(scene.objects.head(OBJECT).await.unwrap(), Some(content.size));
    let to = scene.path("part");
    fs::write(&to, &bytes[..3_000_000]).unwrap();
    scene.objects.get(OBJECT, &content, &OwnFile::at(&to).unwrap(), &|_| ()).await.unwrap();
    assert_eq!(fs::read(&to).unwrap(), bytes);
    // Nobody deletes what the catalog has not condemned.
    let refused = scene.objects.delete(OBJECT).await;
    assert!(matches!(refused, Err(ObjectError::Denied { .. })), "{refused:?}");
    assert!(stored(&scene).exists());
    condemn(&scene).await;
    scene.objects.delete(OBJECT).await.unwrap();
    scene.objects.delete(OBJECT).await.unwrap();
    assert!(!stored(&scene).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_content_never_gets_the_name() {
    let scene = scene().await;
    let (file, content) = scene.write("one", &[1; 3_000_000]);
    let (_, other) = scene.write("two", &[2; 3_000_000]);
    let lied = scene.objects.put(OBJECT, &file, &other, &|_| ()).await;
    assert!(matches!(lied, Err(ObjectError::SourceChanged { .. })), "{lied:?}");
    assert!(!stored(&scene).exists());
    // Shorter and longer than announced.
    for size in [1, 2_999_999, 3_000_001] {
        let wrong = Content { size, ..content };
        let refused = scene.objects.put(OBJECT, &file, &wrong, &|_| ()).await;
        assert!(matches!(refused, Err(ObjectError::SourceChanged { .. })), "{refused:?}");
    }
    scene.objects.put(OBJECT, &file, &content, &|_| ()).await.unwrap();
    let occupied = scene.objects.put(OBJECT, &scene.path("two"), &other, &|_| ()).await;
    assert!(matches!(occupied, Err(ObjectError::Occupied { .. })), "{occupied:?}");
    assert_eq!(fs::read(stored(&scene)).unwrap(), [1; 3_000_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_no_object() {
    let scene = scene().await;
    let (_, content) = scene.write("one", &[1; 3_000_000]);
    let mut stream = scene.ben.net.open(scene.host.client, Service::Objects).await.unwrap();
    let request = super::wire::ObjectRequest::Put(OBJECT, content);
    say(stream.as_mut(), &request).await.unwrap();
    let answer: super::wire::ObjectAnswer = hear_answer(stream.as_mut()).await.unwrap();
    assert_eq!(answer, super::wire::ObjectAnswer::Send);
    super::wire::say_bytes(stream.as_mut(), &[1; 1_000_000]).await.unwrap();
    drop(stream);
    wait_for(|| staged(scene.folder.path()) == 0).await;
    assert!(!stored(&scene).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_tells_who_is_host_and_serves_no_catalog() {
    let scene = scene().await;
    scene.catalog.check().await.unwrap();
    let mut stream = scene.host.net.open(scene.ben.client, Service::Catalog).await.unwrap();
    say(stream.as_mut(), &Request::Hello(None)).await.unwrap();
    let epoch = scene.own.epoch().await.unwrap().number;
    let claim = HostClaim { client: scene.host.client, epoch };
    let Answer::Hello(Some(told)) = hear_answer(stream.as_mut()).await.unwrap() else { panic!() };
    assert!(told.claim == claim && told.holds(&GROUP));
    say(stream.as_mut(), &Request::Epoch).await.unwrap();
    let answer = hear_answer::<_, Answer>(stream.as_mut()).await.unwrap();
    assert!(matches!(answer, Answer::Error(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_claim_told_by_a_member_changes_nothing() {
    let scene = scene().await;
    scene.catalog.check().await.unwrap();
    let honest = scene.finding.best().await.unwrap();
    let mut forged = honest;
    forged.claim = HostClaim { client: Identity::generate().unwrap().client_id(), epoch: 1000 };
    let mut later = honest;
    later.claim.epoch += 1;
    for claim in [forged, later] {
        let mut stream = scene.host.net.open(scene.ben.client, Service::Catalog).await.unwrap();
        say(stream.as_mut(), &Request::Hello(Some(claim))).await.unwrap();
        assert_eq!(hear_answer::<_, Answer>(stream.as_mut()).await.unwrap(), Answer::Hello(Some(honest)));
    }
    scene.catalog.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_host_is_connected_hears_of_a_better_one_and_passes_it_on() {
    let scene = scene().await;
    scene.catalog.check().await.unwrap();
    let carl = Identity::generate().unwrap();
    let claim = HostClaim { client: carl.client_id(), epoch: 7 }.sign(&carl, &GROUP);
    let telling = tokio::spawn({
        let finding = scene.finding.clone();
        async move { finding.keep_told().await }
    });
    scene.finding.learn(claim, carl.client_id()).await;
    // Ben's node tells its old host, though nobody asks.
    let mut stream = scene.ben.net.open(scene.host.client, Service::Catalog).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        say(stream.as_mut(), &Request::Hello(None)).await.unwrap();
        if hear_answer::<_, Answer>(stream.as_mut()).await.unwrap() == Answer::Hello(Some(claim)) {
            break;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    telling.abort();
    let away = scene.catalog.epoch().await;
    assert!(matches!(away, Err(CatalogError::Unreachable { .. })), "{away:?}");
}
