//! The host: the member that keeps the catalog and the objects for all, so that a workgroup needs no server.
//!
//! `wire` is what is said; `catalog_server` and `objects_server` answer for what this node keeps; `catalog_client` and
//! `objects_client` are the trait `Catalog` and the objects of a node whose host is another; `finding` knows who is host.
//! Always: an answer of the host's means what the same answer of an own catalog means, durability included; a member
//! acts in its own name only; while the host is not connected every call fails at once as *unreachable*.
//! Left out: promoting another node to host.

pub mod catalog_client;
pub mod catalog_server;
pub mod finding;
pub mod objects_client;
pub mod objects_server;
#[cfg(test)]
mod tests;
pub mod wire;

use async_trait::async_trait;
use finding::Finding;
use std::sync::Arc;
use tcat_engine::ids::ClientId;
use tcat_net::{ByteStream, Service, Services};
use tcat_storage::catalog::Catalog;
use tcat_storage::objects::Objects;

/// What this node does for the other members of a workgroup.
pub struct HostServices {
    /// Who is host, as far as this node knows.
    pub finding: Arc<Finding>,
    /// The catalog that this node keeps, if it does.
    pub catalog: Option<Arc<dyn Catalog>>,
    /// The objects that it keeps.
    pub objects: Option<Objects>,
}

#[async_trait]
impl Services for HostServices {
    async fn serve(&self, from: ClientId, service: Service, mut stream: Box<dyn ByteStream>) {
        let served = match (service, &self.objects) {
            (Service::Catalog, _) => catalog_server::serve(self, from, stream.as_mut()).await,
            (Service::Objects, Some(objects)) => objects_server::serve(objects, stream.as_mut()).await,
            (Service::Objects, None) => Ok(()),
        };
        if let Err(error) = served {
            tracing::debug!(%from, ?service, %error, "a member's stream broke off");
        }
    }
}
