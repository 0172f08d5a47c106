//! What the network's own halves of two nodes tell each other on their control streams, beside the node's messages.
//!
//! A notice is a frame like a message: version, kind, body. Its kinds are ours alone; who does not know one ignores it,
//! and a body may grow at its end. Always: only a member is told, or heard.

use crate::keyring::{Keyring, KeyringError, RING_MAX_BYTES};

/// The version of all frames on a control stream.
const VERSION: u8 = 1;
const LISTENS: u8 = 8;
const KEYS: u8 = 9;

/// One notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The sender listens on this port; 0: on none.
    Listens(u16),
    /// The sender knows these keys of the workgroup.
    Keys(Keyring),
}

/// A notice that a member may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoticeError {
    #[error("a notice that breaks off")]
    Cut,
    #[error("keys that cannot be read: {0}")]
    Keys(#[from] KeyringError),
}

impl Notice {
    /// Its frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Listens(port) => [&[VERSION, LISTENS][..], &port.to_be_bytes()].concat(),
            Self::Keys(ring) => {
                let text = ring.text();
                // Its length, so that the body may grow.
                let length = (text.len() as u32).to_be_bytes();
                [&[VERSION, KEYS][..], &length, text.as_bytes()].concat()
            }
        }
    }

    /// Reads a frame; nothing if it is no notice but a message for the node.
    pub(crate) fn decode(frame: &[u8]) -> Option<Result<Self, NoticeError>> {
        match frame {
            [VERSION, LISTENS, body @ ..] => Some(listens(body).ok_or(NoticeError::Cut)),
            [VERSION, KEYS, body @ ..] => Some(keys(body)),
            _ => None,
        }
    }
}

fn listens(body: &[u8]) -> Option<Notice> {
    body.first_chunk().map(|port| Notice::Listens(u16::from_be_bytes(*port)))
}

fn keys(body: &[u8]) -> Result<Notice, NoticeError> {
    let (length, text) = body.split_first_chunk().ok_or(NoticeError::Cut)?;
    let length = u32::from_be_bytes(*length) as usize;
    let text = text.get(..length).ok_or(NoticeError::Cut)?;
    if length > RING_MAX_BYTES {
        return Err(KeyringError::Unreadable.into());
    }
    let text = std::str::from_utf8(text).map_err(|_| KeyringError::Unreadable)?;
    Ok(Notice::Keys(Keyring::parse(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::WorkgroupKey;

    #[test]
    fn notices_read_back_may_have_grown_and_are_told_apart_from_messages() {
        let keys = Notice::Keys(Keyring::new(WorkgroupKey::from_bytes([7; 32])));
        for notice in [Notice::Listens(4711), keys] {
            let mut frame = notice.encode();
            assert_eq!(Notice::decode(&frame), Some(Ok(notice.clone())));
            assert_eq!(Notice::decode(&frame[..3]), Some(Err(NoticeError::Cut)));
            frame.push(1);
            assert_eq!(Notice::decode(&frame), Some(Ok(notice)));
        }
        for message in [&[][..], &[1], &[1, 1, 8], &[2, 8, 0, 0], &[1, 10, 0]] {
            assert_eq!(Notice::decode(message), None);
        }
        assert!(matches!(Notice::decode(&[1, 9, 0, 0, 0, 1, b'x']), Some(Err(NoticeError::Keys(_)))));
    }
}
