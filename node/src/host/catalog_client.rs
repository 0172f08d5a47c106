//! The catalog of a workgroup that has a host: each call is one request to it, or to what this node keeps as host.
//!
//! Always: without a connection to the host a call fails at once as unreachable; a lost answer says nothing of whether
//! the thing was done, and asking again is right, as with every catalog. Who is host is asked at each call.

use super::Host;
use super::catalog_server::perform;
use super::wire::{Answer, PEER_URL, Request, WireIntended, WireMember, hear_answer, say};
use async_trait::async_trait;
use std::io;
use std::sync::Arc;
use tcat_engine::catalog::{
    CatalogEpoch, Commit, Committed, Created, FeedChange, FeedPage, FeedPosition, NewItem, Repath, Repathed,
};
use tcat_engine::catalog_orders::{Kill, Killing, NewEpoch, Offer, Offered, Unsound};
use tcat_engine::clock::Stamp;
use tcat_engine::content::Content;
use tcat_engine::ids::{ClientId, ItemId, ObjectId};
use tcat_engine::roster::{RosterMember, Visit};
use tcat_net::{SERVICE_STREAMS_MAX, Service};
use tcat_storage::catalog::{Catalog, CatalogError, Import, Intended, Member, Workgroup};
use tokio::sync::Semaphore;

/// The catalog of whoever is host.
pub struct HostCatalog {
    host: Host,
    /// The host resets more; some places stay free for streams that end a moment later there than here.
    turns: Semaphore,
}

impl HostCatalog {
    /// The catalog of whoever is found to be host, or what this node is keeping.
    pub fn new(host: Host) -> Self {
        Self { host, turns: Semaphore::new(SERVICE_STREAMS_MAX / 2) }
    }

    fn own(&self) -> Option<Arc<dyn Catalog>> {
        self.host.keeping.own().and_then(|kept| kept.catalog)
    }

    async fn ask(&self, request: Request) -> Result<Answer, CatalogError> {
        if let Some(own) = self.own() {
            if matches!(request, Request::NewEpoch(_)) && self.host.keeping.for_members().is_none() {
                // A later epoch would make this node host again, which has just given way.
                return Err(unreachable(&io::Error::other("this node gives way to another host")));
            }
            return perform(own.as_ref(), &self.host, self.host.finding.me(), &request).await;
        }
        let _turn = self.turns.acquire().await; // Never closed, so always a turn.
        let asked = async {
            let mut stream = self.host.finding.open(Service::Catalog).await?;
            say(stream.as_mut(), &request).await?;
            hear_answer::<_, Answer>(stream.as_mut()).await
        };
        match asked.await {
            Ok(Answer::Error(error)) => Err(error.into()),
            Ok(answer) => Ok(answer),
            Err(error) => Err(unreachable(&error)),
        }
    }
}

fn unreachable(error: &io::Error) -> CatalogError {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection with its host broke off".to_owned(),
        _ => error.to_string(),
    };
    CatalogError::Unreachable { catalog: PEER_URL.to_owned(), why }
}

/// The host answered another question: it is broken, or of a version that never was.
fn confused(answer: &Answer) -> CatalogError {
    let why = format!("its answer is to another question: {answer:?}").chars().take(200).collect();
    CatalogError::Other { catalog: PEER_URL.to_owned(), doing: "asking its host", why }
}

/// Asks and takes the one kind of answer that fits.
macro_rules! ask {
    ($self:ident, $request:expr, $($answer:pat => $value:expr),+) => {
        match $self.ask($request).await? {
            $($answer => Ok($value),)+
            other => Err(confused(&other)),
        }
    };
}

fn member(member: WireMember) -> Member {
    Member { client: member.client, name: member.name, stamp: member.stamp }
}

#[async_trait]
impl Catalog for HostCatalog {
    async fn epoch(&self) -> Result<CatalogEpoch, CatalogError> {
        ask!(self, Request::Epoch, Answer::Epoch(epoch) => epoch)
    }

    async fn feed(&self, after: FeedPosition, limit: usize) -> Result<FeedPage, CatalogError> {
        let request = Request::Feed(after, u32::try_from(limit).unwrap_or(u32::MAX));
        ask!(self, request, Answer::Feed { changes, through, more } => FeedPage { changes, through, more })
    }

    async fn row(&self, item: ItemId) -> Result<Option<FeedChange>, CatalogError> {
        ask!(self, Request::Row(item), Answer::Row(row) => row)
    }

    async fn import(&self, item: ItemId) -> Result<Option<Import>, CatalogError> {
        ask!(self, Request::Import(item), Answer::Import(import) => import.map(|import| Import {
            state: import.state,
            md5: import.md5,
            source_server: import.source_server,
            source_path: import.source_path,
            upload_date: import.upload_date,
            source: import.source,
        }))
    }

    async fn create(&self, new: &NewItem) -> Result<Created, CatalogError> {
        ask!(self, Request::Create(new.clone()), Answer::Created(created) => created)
    }

    async fn repath(&self, repath: &Repath) -> Result<Repathed, CatalogError> {
        ask!(self, Request::Repath(repath.clone()), Answer::Repathed(repathed) => repathed)
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, CatalogError> {
        ask!(self, Request::Commit(commit.clone()), Answer::Committed(committed) => committed)
    }

    async fn intend(
        &self,
        object: ObjectId,
        item: ItemId,
        content: &Content,
        generation: u32,
        author: ClientId,
    ) -> Result<Intended, CatalogError> {
        let request = Request::Intend { object, item, content: *content, generation, author };
        ask!(self, request,
            Answer::Intended(WireIntended::Registered) => Intended::Registered,
            Answer::Intended(WireIntended::Live) => Intended::Live,
            Answer::Intended(WireIntended::Refused(why)) => Intended::Refused(why))
    }

    async fn is_condemned(&self, object: ObjectId) -> Result<bool, CatalogError> {
        ask!(self, Request::Condemned(object), Answer::Condemned(condemned) => condemned)
    }

    async fn kill(&self, kill: &Kill) -> Result<Killing, CatalogError> {
        ask!(self, Request::Kill(kill.clone()), Answer::Killing(killing) => killing)
    }

    async fn unsound(&self, order: &Unsound) -> Result<Committed, CatalogError> {
        ask!(self, Request::Unsound(order.clone()), Answer::Committed(committed) => committed)
    }

    async fn new_epoch(&self, order: &NewEpoch) -> Result<CatalogEpoch, CatalogError> {
        ask!(self, Request::NewEpoch(*order), Answer::Epoch(epoch) => epoch)
    }

    async fn offer(&self, offer: &Offer) -> Result<Offered, CatalogError> {
        ask!(self, Request::Offer(offer.clone()), Answer::Offered(offered) => offered)
    }

    async fn members(&self) -> Result<Vec<Member>, CatalogError> {
        ask!(self, Request::Members, Answer::Members(members) => members.into_iter().map(member).collect())
    }

    async fn visit_roster(&self, visit: &Visit) -> Result<Vec<RosterMember>, CatalogError> {
        ask!(self, Request::VisitRoster(*visit), Answer::Roster(roster) => roster)
    }

    async fn retire(&self, client: ClientId, last: Stamp) -> Result<(), CatalogError> {
        ask!(self, Request::Retire(client, last), Answer::Done => ())
    }

    async fn admit(&self, client: ClientId, name: &str) -> Result<Member, CatalogError> {
        let request = Request::Admit(client, name.to_owned());
        let admitted = ask!(self, request, Answer::Members(members) => members)?;
        let ours = admitted.into_iter().find(|member| member.client == client).map(member);
        ours.ok_or_else(|| confused(&Answer::Members(Vec::new())))
    }

    async fn workgroup(&self) -> Result<Workgroup, CatalogError> {
        ask!(self, Request::Workgroup, Answer::Workgroup { catalog, id, name, server_path, cache_root } =>
            Workgroup { catalog, id, name, server_path, cache_root })
    }

    async fn check(&self) -> Result<(), CatalogError> {
        ask!(self, Request::Check, Answer::Done => ())
    }

    async fn close(&self) {
        if let Some(own) = self.own() {
            own.close().await;
        }
    }
}
