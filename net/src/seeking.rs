//! Finding tcat nodes without belonging to a workgroup: what a newcomer does before it has any key.
//!
//! It browses and announces nothing. What it finds are addresses where some node of some workgroup says that it
//! listens; who it is shows when it is asked.

use crate::discovery::{DiscoveryError, SERVICE, choose_interfaces, usable_addresses};
use mdns_sd::{IfKind, IfPredicate, ServiceDaemon, ServiceEvent};
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

/// Addresses that are passed on in all.
const FOUND_MAX: usize = 256;

/// A running search; it ends when it is dropped.
pub(crate) struct Seeking {
    daemon: ServiceDaemon,
    events: mdns_sd::Receiver<ServiceEvent>,
    found: BTreeSet<SocketAddr>,
    waiting: VecDeque<SocketAddr>,
}

impl Seeking {
    /// Starts on the interfaces named, or by the rule of [`choose_interfaces`].
    pub(crate) fn start(interfaces: &[String]) -> Result<Self, DiscoveryError> {
        let unavailable = |e: mdns_sd::Error| DiscoveryError::Unavailable(e.to_string());
        let chosen: BTreeSet<String> = choose_interfaces(interfaces)?.into_iter().collect();
        let daemon = ServiceDaemon::new().map_err(unavailable)?;
        daemon.disable_interface(IfKind::All).map_err(unavailable)?;
        let predicate = IfPredicate::new(move |interface| chosen.contains(&interface.name));
        daemon.enable_interface(IfKind::Predicate(predicate)).map_err(unavailable)?;
        let events = daemon.browse(SERVICE).map_err(unavailable)?;
        Ok(Self { daemon, events, found: BTreeSet::new(), waiting: VecDeque::new() })
    }

    /// The next address that was not found before; nothing once the search has ended.
    pub(crate) async fn next(&mut self) -> Option<SocketAddr> {
        loop {
            if let Some(address) = self.waiting.pop_front() {
                return Some(address);
            }
            if let ServiceEvent::ServiceResolved(service) = self.events.recv_async().await.ok()? {
                for address in usable_addresses(&service) {
                    if self.found.len() < FOUND_MAX && self.found.insert(address) {
                        self.waiting.push_back(address);
                    }
                }
            }
        }
    }
}

impl Drop for Seeking {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown(); // Its thread would go on without us.
    }
}
