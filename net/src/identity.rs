//! This node's ed25519 key pair: what makes it the client that it is.
//!
//! Always: the secret never appears in `Debug`, in an error or in a log, and is in a file only as `identity.key`,
//! which nobody else can read from the moment it has a name. Losing the file means to be another client.

use crate::random;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tcat_engine::ids::{ClientId, from_hex, hex};

const HEADER: &str = "tcat identity 1";
/// Three short lines; whatever is longer is not ours.
const FILE_MAX_BYTES: u64 = 4096;

/// An ed25519 key pair. Cheap to clone; the secret is wiped from memory when the last clone goes.
#[derive(Clone)]
pub struct Identity {
    pair: ed25519::Keypair,
}

/// Why an identity could not be made, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The operating system gave no random bytes.
    #[error("no random numbers for a new key: {0}; check that this system's random device works")]
    Random(String),
    /// The file is there and could not be read, or could not be written.
    #[error("{path}: {source}; check that the folder exists and is yours to write")]
    File {
        /// The identity file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is an identity already; replacing it would make this node another client.
    #[error("{0} exists already; a client keeps its key for life, so nothing was written")]
    Exists(PathBuf),
    /// Others than the owner may read the secret.
    #[error("{path} can be read by other users (mode {mode:04o}); run: chmod 600 '{path}'")]
    ReadableByOthers {
        /// The identity file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not an identity, or its two halves do not belong together.
    #[error("{0} is damaged or is no tcat identity; restore it from a backup, or join again as a new client")]
    Damaged(PathBuf),
}

impl Identity {
    /// A new identity from the system's random numbers.
    pub fn generate() -> Result<Self, IdentityError> {
        let seed = random::bytes().map_err(|e| IdentityError::Random(e.to_string()))?;
        Self::from_seed(seed).ok_or_else(|| IdentityError::Random("not a key".into()))
    }

    pub(crate) fn from_seed(mut seed: [u8; 32]) -> Option<Self> {
        let secret = ed25519::SecretKey::try_from_bytes(&mut seed).ok()?;
        Some(Self { pair: ed25519::Keypair::from(secret) })
    }

    /// Reads an identity that [`Identity::save`] wrote; refuses a file that other users can read (on Unix).
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let at = |source| IdentityError::File { path: path.into(), source };
        let file = File::open(path).map_err(at)?;
        refuse_if_others_can_read(&file, path)?;
        let mut text = String::new();
        match file.take(FILE_MAX_BYTES).read_to_string(&mut text) {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(IdentityError::Damaged(path.into()));
            }
            other => other.map_err(at)?,
        };
        Self::decode(&text).ok_or_else(|| IdentityError::Damaged(path.into()))
    }

    fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != HEADER {
            return None;
        }
        let client: ClientId = lines.next()?.strip_prefix("client ")?.parse().ok()?;
        let identity = Self::from_seed(from_hex(lines.next()?.strip_prefix("secret ")?).ok()?)?;
        (identity.client_id() == client).then_some(identity)
    }

    /// Writes the identity to a new file that only its owner can read, durable when this returns.
    /// It never replaces a file, and appears whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let at = |source| IdentityError::File { path: path.into(), source };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // `tempfile` creates with mode 0600, so there is no moment at which others could open it.
        let mut temporary = tempfile::Builder::new().prefix(".identity-").tempfile_in(folder).map_err(at)?;
        let secret = self.pair.secret();
        let text = format!("{HEADER}\nclient {}\nsecret {}\n", self.client_id(), hex(secret.as_ref()));
        temporary.write_all(text.as_bytes()).map_err(at)?;
        temporary.as_file().sync_all().map_err(at)?;
        temporary.persist_noclobber(path).map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => IdentityError::Exists(path.into()),
            _ => at(e.error),
        })?;
        sync_folder(folder).map_err(at)
    }

    /// Who this is to everybody else.
    pub fn client_id(&self) -> ClientId {
        ClientId(self.pair.public().to_bytes())
    }

    /// Signs bytes; [`verify`] checks it.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        let signature = self.pair.sign(bytes);
        // An ed25519 signature has 64 bytes; were it not so, an all-zero one verifies nowhere.
        <[u8; 64]>::try_from(signature).unwrap_or([0; 64])
    }

    pub(crate) fn keypair(&self) -> Keypair {
        Keypair::from(self.pair.clone())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.client_id())
    }
}

#[cfg(unix)]
fn refuse_if_others_can_read(file: &File, path: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(|source| IdentityError::File { path: path.into(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::ReadableByOthers { path: path.into(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_if_others_can_read(_: &File, _: &Path) -> Result<(), IdentityError> {
    Ok(()) // A home folder is its user's alone there; the access list is not ours to judge.
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(()) // Folders cannot be opened for syncing there.
}

/// Whether `signature` is this client's over exactly these bytes.
pub fn verify(client: &ClientId, bytes: &[u8], signature: &[u8]) -> bool {
    ed25519::PublicKey::try_from_bytes(&client.0).is_ok_and(|key| key.verify(bytes, signature))
}

/// The libp2p name of a client; nothing for 32 bytes that are no point of the curve.
pub fn peer_id_of(client: &ClientId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&client.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The client behind a libp2p name; nothing if its key is not ed25519.
pub fn client_of(peer: &PeerId) -> Option<ClientId> {
    let multihash: &libp2p::multihash::Multihash<64> = peer.as_ref();
    // Code 0 is "identity": small keys are not hashed but spelled out.
    if multihash.code() != 0 {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(multihash.digest()).ok()?;
    Some(ClientId(key.try_into_ed25519().ok()?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_and_signs_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        let identity = Identity::generate().unwrap();
        identity.save(&path).unwrap();
        let again = Identity::load(&path).unwrap();
        assert_eq!(again.client_id(), identity.client_id());
        assert_eq!(again.sign(b"page"), identity.sign(b"page"));
        assert!(verify(&identity.client_id(), b"page", &again.sign(b"page")));
    }

    #[test]
    fn a_signature_holds_for_these_bytes_of_this_client_only() {
        let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let signature = one.sign(b"page");
        assert!(!verify(&one.client_id(), b"pagf", &signature));
        assert!(!verify(&two.client_id(), b"page", &signature));
        assert!(!verify(&one.client_id(), b"page", &signature[..63]));
        assert!(!verify(&one.client_id(), b"page", b""));
    }

    #[test]
    fn an_identity_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        let first = Identity::generate().unwrap();
        first.save(&path).unwrap();
        let refused = Identity::generate().unwrap().save(&path);
        assert!(matches!(refused, Err(IdentityError::Exists(_))), "{refused:?}");
        assert_eq!(Identity::load(&path).unwrap().client_id(), first.client_id());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays behind");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        Identity::generate().unwrap().save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Identity::load(&path).unwrap_err();
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }

    #[cfg(unix)]
    #[test]
    fn a_damaged_key_is_named_and_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        let identity = Identity::generate().unwrap();
        identity.save(&path).unwrap();
        let good = std::fs::read(&path).unwrap();
        let mut flipped = good.clone();
        let at = HEADER.len() + 1 + "client ".len();
        flipped[at] = if flipped[at] == b'0' { b'1' } else { b'0' };
        for bytes in [&b""[..], b"\xff\xfe", &good[..good.len() / 2], &flipped] {
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(Identity::load(&path), Err(IdentityError::Damaged(_))));
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let identity = Identity::generate().unwrap();
        let secret = hex(identity.pair.secret().as_ref());
        assert!(!format!("{identity:?}").contains(&secret[..8]));
    }

    #[test]
    fn clients_and_peer_ids_convert_both_ways() {
        let identity = Identity::generate().unwrap();
        let peer = peer_id_of(&identity.client_id()).unwrap();
        assert_eq!(peer, identity.keypair().public().to_peer_id());
        assert_eq!(client_of(&peer), Some(identity.client_id()));
        assert_eq!(client_of(&PeerId::random()), None);
    }
}
