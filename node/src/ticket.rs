//! What a new member is told when it is admitted: the workgroup, its keys, and where its catalog and objects
//! are.
//!
//! It travels once, over the encrypted connection to the inviter, to who has redeemed a code. It holds the
//! workgroup's keys, so it has no `Debug` that shows it, and is written nowhere as a whole. URLs carry no
//! credentials.

use serde::{Deserialize, Serialize};
use std::fmt;
use tcat_engine::ids::WorkgroupId;
use tcat_net::{Keyring, TICKET_MAX_BYTES};

/// The layout below.
const VERSION: u32 = 1;

/// What the inviter answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The workgroup's id.
    pub workgroup: WorkgroupId,
    /// Its name.
    pub name: String,
    /// What proves membership.
    pub keys: Keyring,
    /// The catalog's URL.
    pub catalog: String,
    /// The object store's URL.
    pub objects: String,
    /// The name under which the new member was entered in the roster: the asked one, or the next free.
    pub client_name: String,
}

/// Why an answer is no ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// A later tcat wrote it.
    #[error("the inviter runs a newer tcat than this one; update tcat here and try again")]
    Newer,
    /// It cannot be read.
    #[error("the inviter's answer cannot be read ({0}); use the same version of tcat on both machines")]
    Unreadable(String),
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    workgroup: String,
    name: String,
    keys: String,
    catalog: String,
    objects: String,
    client_name: String,
}

#[derive(Deserialize)]
struct OnlyVersion {
    version: u32,
}

impl Ticket {
    /// The bytes to send.
    pub fn encode(&self) -> Result<Vec<u8>, TicketError> {
        let written = Written {
            version: VERSION,
            workgroup: self.workgroup.to_string(),
            name: self.name.clone(),
            keys: self.keys.text(),
            catalog: self.catalog.clone(),
            objects: self.objects.clone(),
            client_name: self.client_name.clone(),
        };
        serde_json::to_vec(&written).map_err(|error| TicketError::Unreadable(error.to_string()))
    }

    /// Reads what [`Ticket::encode`] made. No error repeats what was read.
    pub fn decode(bytes: &[u8]) -> Result<Self, TicketError> {
        let unreadable = |why: &str| TicketError::Unreadable(why.to_owned());
        if bytes.len() > TICKET_MAX_BYTES {
            return Err(unreadable("it is too long"));
        }
        let OnlyVersion { version } =
            serde_json::from_slice(bytes).map_err(|_| unreadable("it is no ticket"))?;
        if version > VERSION {
            return Err(TicketError::Newer);
        }
        let written: Written =
            serde_json::from_slice(bytes).map_err(|_| unreadable("something is missing"))?;
        Ok(Self {
            workgroup: written.workgroup.parse().map_err(|_| unreadable("its workgroup is no id"))?,
            name: written.name,
            keys: Keyring::parse(&written.keys).map_err(|_| unreadable("its keys are no keys"))?,
            catalog: written.catalog,
            objects: written.objects,
            client_name: written.client_name,
        })
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("workgroup", &self.workgroup).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcat_net::WorkgroupKey;

    fn ticket() -> Ticket {
        Ticket {
            workgroup: WorkgroupId([7; 16]),
            name: "Été".to_owned(),
            keys: Keyring::new(WorkgroupKey::from_bytes([0xab; 32])),
            catalog: "sqlite:/srv/catalog.db".to_owned(),
            objects: "file:/srv/objects".to_owned(),
            client_name: "ben".to_owned(),
        }
    }

    #[test]
    fn a_ticket_reads_back_and_a_damaged_or_newer_one_is_told() {
        let bytes = ticket().encode().unwrap();
        assert_eq!(Ticket::decode(&bytes), Ok(ticket()));
        let newer =
            String::from_utf8(bytes.clone()).unwrap().replace("\"version\":1", "\"version\":2,\"x\":1");
        assert_eq!(Ticket::decode(newer.as_bytes()), Err(TicketError::Newer));
        for damaged in [&bytes[..bytes.len() - 2], b"", b"{\"version\":1}", &[b'x'; TICKET_MAX_BYTES + 1]] {
            assert!(matches!(Ticket::decode(damaged), Err(TicketError::Unreadable(_))));
        }
    }

    #[test]
    fn neither_debug_output_nor_an_error_holds_the_key() {
        let key = "ab".repeat(32);
        assert!(!format!("{:?}", ticket()).contains("abab"));
        let bytes = String::from_utf8(ticket().encode().unwrap()).unwrap();
        let error = Ticket::decode(bytes.replace(&key, &key[1..]).as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("abab"));
    }
}
