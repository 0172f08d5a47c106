//! How tcat's nodes meet and talk: discovery, membership, transport and bulk transfer.
//!
//! ```text
//!               node: engine's effects                       node: events
//!                        │ send, fetch                            ▲ Connected, Message..., Disconnected
//!   ┌────────────────────▼───────────────────────────────────────┴─────┐
//!   │ transport: NetHandle and NetEvent over the trait Transport       │
//!   ├──────────────────────────────────────────────────────────────────┤
//!   │ swarm: one driver task      connection, session: one task each   │
//!   │   dialing: when, whom         membership: both prove a key ──────┼── strangers end here,
//!   │   discovery: hints (mDNS)     control streams: messages in order │   or in join, with a code
//!   │                               bulk_server: groups of a content   │
//!   ├──────────────────────────────────────────────────────────────────┤
//!   │ streams: libp2p behaviour; TCP, noise, yamux                     │
//!   └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A connection lives so: TCP and noise (who the other is), `/tcat/membership/1` (that both have a key of the workgroup, and the roster both),
//! then, on the one connection that the client with the smaller id chooses, `/tcat/control/1` in each direction and a
//! `/tcat/bulk/1` stream a fetch. Before the proof nothing else is even negotiated, but `/tcat/join/2`, where a
//! newcomer proves that it knows the words of an [`InviteCode`].
//!
//! What this crate does not do: decide. Who is asked for what, how often, and what a message means is the engine's.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
mod admission;
mod behaviour;
mod bulk;
mod bulk_server;
mod connection;
mod dialing;
pub mod discovery;
mod frame;
mod identity;
mod interfaces;
mod invite_code;
mod join;
mod keyring;
#[cfg(test)]
mod limits_tests;
mod membership;
mod notices;
mod pake;
mod partial;
mod random;
mod seeking;
mod services;
mod session;
mod streams;
mod swarm;
mod tcp;
#[cfg(test)]
mod test_pipe;
#[cfg(test)]
mod transcript_tests;
mod transport;

pub use address::{AddressError, PeerAddress};
pub use admission::{Invitations, NAME_MAX_BYTES, Refusal};
pub use bulk::{CONTENT_MAX_BYTES, ContentSource, FetchError, STALL_S, SourceContent};
pub use frame::{FRAME_MAX_BYTES, read_frame, write_frame};
pub use identity::{Identity, IdentityError, client_of, peer_id_of, verify};
pub use invite_code::{CodeError, InviteCode, NUMBERS};
pub use join::{JoinError, JoinRequest, TICKET_MAX_BYTES, join};
pub use keyring::{KEYS_MAX, KeyStore, Keyring, KeyringError, Keys};
pub use membership::{Members, WorkgroupKey};
pub use services::{SERVICE_STREAMS_MAX, Service, Services};
pub use transport::{
    ByteStream, Net, NetConfig, NetError, NetEvent, NetHandle, REFUSED_FOR_S, SendError, Transport,
};
