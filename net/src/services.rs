//! Streams that members open for what a host keeps for them: the catalog and the objects. What is said on them is not
//! this crate's; here they are only opened, bounded and handed over with the name of the member at the other end.
//!
//! Always: membership was proved on the connection before a stream is handed over; a bounded number of streams of a
//! service is served at a time for each member, and more are reset; all end with the session.

use crate::streams::{CATALOG, OBJECTS};
use crate::transport::ByteStream;
use async_trait::async_trait;
use libp2p::{Stream, StreamProtocol};
use std::sync::Arc;
use tcat_engine::ids::ClientId;
use tokio::task::JoinSet;

/// Streams of one service that a member may have open at a time.
pub const SERVICE_STREAMS_MAX: usize = 16;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `/tcat/catalog/1`.
    Catalog,
    /// `/tcat/objects/1`.
    Objects,
}

impl Service {
    pub(crate) fn protocol(self) -> StreamProtocol {
        match self {
            Self::Catalog => CATALOG,
            Self::Objects => OBJECTS,
        }
    }

    pub(crate) fn of(protocol: &StreamProtocol) -> Option<Self> {
        [Self::Catalog, Self::Objects].into_iter().find(|service| service.protocol() == *protocol)
    }
}

/// What a node does for members on the streams that they open.
#[async_trait]
pub trait Services: Send + Sync {
    /// Serves one stream of the member `from` to its end. The future is dropped when the session ends. Must bound its
    /// own waits: a member may send nothing, or read nothing.
    async fn serve(&self, from: ClientId, service: Service, stream: Box<dyn ByteStream>);
}

/// The streams of one session that are being served; dropped with the session, which ends them all.
#[derive(Default)]
pub(crate) struct Serving {
    catalog: JoinSet<()>,
    objects: JoinSet<()>,
}

impl Serving {
    /// Serves the stream, or resets it where too many are open.
    pub(crate) fn serve(
        &mut self,
        services: &Arc<dyn Services>,
        from: ClientId,
        service: Service,
        stream: Stream,
    ) {
        let open = match service {
            Service::Catalog => &mut self.catalog,
            Service::Objects => &mut self.objects,
        };
        while open.try_join_next().is_some() {}
        if open.len() >= SERVICE_STREAMS_MAX {
            tracing::debug!(%from, ?service, "a member has too many streams open; one was reset");
            return;
        }
        let services = Arc::clone(services);
        open.spawn(async move { services.serve(from, service, Box::new(stream)).await });
    }
}
