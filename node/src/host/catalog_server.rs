//! Answers the requests of one member to the catalog that this node keeps, one after another.
//!
//! Always: what a member asks to be done in a name is done only in its own. An answer that would not fit in a frame is
//! made smaller where it can be: the feed in shorter pages.

use super::Host;
use super::wire::{
    Answer, PEER_URL, Request, WireCatalogError, WireImport, WireIntended, WireMember, hear, say_bytes,
};
use crate::refusals::Misdeed;
use std::io;
use tcat_engine::codec;
use tcat_engine::ids::ClientId;
use tcat_net::{ByteStream, FRAME_MAX_BYTES};
use tcat_storage::catalog::{Catalog, CatalogError, FEED_PAGE_MAX, Intended, Member, Workgroup};

/// Serves the stream to its end.
pub async fn serve(host: &Host, from: ClientId, stream: &mut dyn ByteStream) -> io::Result<()> {
    while let Some(request) = hear::<_, Request>(stream).await? {
        let bytes = answer_bytes(host, from, request).await?;
        say_bytes(stream, &bytes).await?;
    }
    Ok(())
}

async fn answer_bytes(host: &Host, from: ClientId, mut request: Request) -> io::Result<Vec<u8>> {
    loop {
        let answer = answer(host, from, &request).await.unwrap_or_else(|error| Answer::Error(error.into()));
        let bytes = codec::encode(&answer).map_err(io::Error::other)?;
        if bytes.len() <= FRAME_MAX_BYTES {
            return Ok(bytes);
        }
        match &mut request {
            Request::Feed(_, limit) if *limit > 1 => *limit /= 2,
            _ => {
                let why = format!("the answer has {} bytes, too many to be sent", bytes.len());
                let error = Answer::Error(WireCatalogError::Other(why));
                return codec::encode(&error).map_err(io::Error::other);
            }
        }
    }
}

async fn answer(host: &Host, from: ClientId, request: &Request) -> Result<Answer, CatalogError> {
    if let Some(author) = request.author()
        && author != from
    {
        host.refusals.note(from, Misdeed::Order, &format!("an order in the name of {}", author.short()));
        let why = format!("client {} may not act in the name of {}", from.short(), author.short());
        return Err(CatalogError::Other { catalog: PEER_URL.into(), doing: "an order", why });
    }
    if let Request::Hello(claim) = request {
        if let Some(claim) = claim {
            host.finding.learn(*claim, from).await;
        }
        return Ok(Answer::Hello(host.finding.best().await));
    }
    let _answering = host.keeping.answering().await;
    let Some(catalog) = host.keeping.for_members().and_then(|kept| kept.catalog) else {
        let why = "the member that was asked is not its host".to_owned();
        return Err(CatalogError::Unreachable { catalog: PEER_URL.into(), why });
    };
    perform(catalog.as_ref(), host, from, request).await
}

/// Does what is asked in the catalog that this node keeps, whoever asks.
pub async fn perform(
    catalog: &dyn Catalog,
    host: &Host,
    from: ClientId,
    request: &Request,
) -> Result<Answer, CatalogError> {
    if let Some(answer) = read(catalog, request).await? {
        if let Request::Feed(after, _) = request {
            host.keeping.has_read(from, after);
        }
        return Ok(answer);
    }
    if matches!(request, Request::Create(_)) && !host.keeping.may_enter(&from) {
        let why = "a new epoch has begun, and what members know is not given back yet".to_owned();
        return Err(CatalogError::Busy { catalog: PEER_URL.into(), why });
    }
    let answer = change(catalog, request).await?;
    if let (Request::NewEpoch(_), Answer::Epoch(epoch)) = (request, &answer) {
        host.keeping.epoch_began(*epoch);
        host.finding.claim_own(epoch.number).await;
    }
    host.keeping.changed.notify_waiters();
    Ok(answer)
}

async fn read(catalog: &dyn Catalog, request: &Request) -> Result<Option<Answer>, CatalogError> {
    let answer = match request {
        Request::Epoch => Answer::Epoch(catalog.epoch().await?),
        Request::Feed(after, limit) => {
            let limit = (*limit as usize).clamp(1, FEED_PAGE_MAX);
            let page = catalog.feed(*after, limit).await?;
            Answer::Feed { changes: page.changes, through: page.through, more: page.more }
        }
        Request::Row(item) => Answer::Row(catalog.row(*item).await?),
        Request::Import(item) => Answer::Import(catalog.import(*item).await?.map(|import| WireImport {
            state: import.state,
            md5: import.md5,
            source_server: import.source_server,
            source_path: import.source_path,
            upload_date: import.upload_date,
            source: import.source,
        })),
        Request::Members => Answer::Members(catalog.members().await?.into_iter().map(wire_member).collect()),
        Request::Workgroup => {
            let Workgroup { catalog, id, name, server_path, cache_root } = catalog.workgroup().await?;
            Answer::Workgroup { catalog, id, name, server_path, cache_root }
        }
        Request::Check => {
            catalog.check().await?;
            Answer::Done
        }
        Request::Condemned(object) => Answer::Condemned(catalog.is_condemned(*object).await?),
        _ => return Ok(None),
    };
    Ok(Some(answer))
}

async fn change(catalog: &dyn Catalog, request: &Request) -> Result<Answer, CatalogError> {
    Ok(match request {
        Request::Create(new) => Answer::Created(catalog.create(new).await?),
        Request::Repath(repath) => Answer::Repathed(catalog.repath(repath).await?),
        Request::Commit(commit) => Answer::Committed(catalog.commit(commit).await?),
        Request::Intend { object, item, content, generation, author } => {
            Answer::Intended(match catalog.intend(*object, *item, content, *generation, *author).await? {
                Intended::Registered => WireIntended::Registered,
                Intended::Live => WireIntended::Live,
                Intended::Refused(why) => WireIntended::Refused(why),
            })
        }
        Request::Kill(kill) => Answer::Killing(catalog.kill(kill).await?),
        Request::Unsound(order) => Answer::Committed(catalog.unsound(order).await?),
        Request::NewEpoch(order) => Answer::Epoch(catalog.new_epoch(order).await?),
        Request::Offer(offer) => Answer::Offered(catalog.offer(offer).await?),
        Request::VisitRoster(visit) => Answer::Roster(catalog.visit_roster(visit).await?),
        Request::Retire(client, last) => {
            catalog.retire(*client, *last).await?;
            Answer::Done
        }
        Request::Admit(client, name) => {
            Answer::Members(vec![wire_member(catalog.admit(*client, name).await?)])
        }
        other => {
            let why = format!("{other:?} is no change");
            return Err(CatalogError::Other { catalog: PEER_URL.into(), doing: "an order", why });
        }
    })
}

fn wire_member(member: Member) -> WireMember {
    WireMember { client: member.client, name: member.name, stamp: member.stamp }
}
