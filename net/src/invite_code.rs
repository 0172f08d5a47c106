//! The invitation as one token of text, to be read out or pasted: `tcat1-` and base32 in lower case.
//!
//! It names the workgroup (by a hash), the inviter's key, where it listens, a one-time secret and when it expires; it
//! holds no workgroup key and no names. A code is proof enough to be admitted, once, so it is as secret as a password
//! while it lasts. Layout, integers big-endian:
//! `version 1 | workgroup 8 | inviter 32 | secret 16 | expiry 8 | count 1 | (4 ip4 port | 6 ip6 port)* | checksum 4`.

use data_encoding::BASE32_NOPAD;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use tcat_engine::ids::{ClientId, WorkgroupId};

/// A code names this many addresses at most; the rest is left to discovery.
pub const ADDRESSES_MAX: usize = 4;

const PREFIX: &str = "tcat1-";
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;
/// Far above the longest code, far below what would cost anything to look at.
const TEXT_MAX_BYTES: usize = 1024;

/// What `tcat invite` prints and `tcat join` takes.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteCode {
    /// [`workgroup_hash`] of the workgroup that the code admits to.
    pub workgroup: [u8; 8],
    /// The node that will admit; its key is checked before the secret is shown to it.
    pub inviter: ClientId,
    /// The one-time secret.
    pub secret: [u8; 16],
    /// Seconds since the Unix epoch after which the code is worthless.
    pub expires_unix_s: u64,
    /// Where the inviter listens; the first [`ADDRESSES_MAX`] are kept.
    pub addresses: Vec<SocketAddr>,
}

/// Why a text is no usable code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It does not start like one.
    #[error(
        "this is not a tcat code: a code starts with tcat1-; copy the last line that `tcat invite` printed"
    )]
    NotACode,
    /// Characters are missing, added or changed.
    #[error("the code is damaged (its checksum does not fit); copy it again, whole")]
    Damaged,
    /// A later tcat made it.
    #[error("the code was made by a newer tcat than this one; update tcat here and try again")]
    Newer,
    /// Too late.
    #[error("the code expired at {}; run `tcat invite` again on the other machine", time(*at_unix_s))]
    Expired {
        /// When, in seconds since the Unix epoch.
        at_unix_s: u64,
    },
}

/// What a code shows of the workgroup: enough to refuse a code of another one, and no name.
pub fn workgroup_hash(workgroup: &WorkgroupId) -> [u8; 8] {
    let mut hash = [0; 8];
    let mut hasher = blake3::Hasher::new_derive_key("tcat 1 workgroup in an invitation");
    hasher.update(&workgroup.0);
    hasher.finalize_xof().fill(&mut hash);
    hash
}

impl InviteCode {
    /// The code as text.
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.workgroup);
        bytes.extend(self.inviter.0);
        bytes.extend(self.secret);
        bytes.extend(self.expires_unix_s.to_be_bytes());
        let addresses = self.addresses.iter().take(ADDRESSES_MAX);
        bytes.push(addresses.len() as u8);
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend(ip.octets());
                }
            }
            bytes.extend(address.port().to_be_bytes());
        }
        let checksum = checksum(&bytes);
        bytes.extend(checksum);
        format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }

    /// Reads a code; `now_unix_s` decides whether it has expired. White space around it and upper case are forgiven.
    pub fn parse(text: &str, now_unix_s: u64) -> Result<Self, CodeError> {
        let text = text.trim().to_ascii_lowercase();
        let digits = body(&text)?.to_ascii_uppercase();
        let bytes = BASE32_NOPAD.decode(digits.as_bytes()).map_err(|_| CodeError::Damaged)?;
        let (body, sum) =
            bytes.split_at_checked(bytes.len().saturating_sub(CHECKSUM_BYTES)).ok_or(CodeError::Damaged)?;
        if sum != checksum(body) {
            return Err(CodeError::Damaged);
        }
        let code = Self::decode(body)?;
        if code.expires_unix_s <= now_unix_s {
            return Err(CodeError::Expired { at_unix_s: code.expires_unix_s });
        }
        Ok(code)
    }

    fn decode(body: &[u8]) -> Result<Self, CodeError> {
        let mut rest = body;
        match take::<1>(&mut rest)? {
            [VERSION] => {}
            [newer] if newer > VERSION => return Err(CodeError::Newer),
            _ => return Err(CodeError::Damaged),
        }
        let workgroup = take(&mut rest)?;
        let inviter = ClientId(take(&mut rest)?);
        let secret = take(&mut rest)?;
        let expires_unix_s = u64::from_be_bytes(take(&mut rest)?);
        let [count] = take(&mut rest)?;
        if usize::from(count) > ADDRESSES_MAX {
            return Err(CodeError::Damaged);
        }
        let addresses = (0..count).map(|_| address(&mut rest)).collect::<Result<_, _>>()?;
        if !rest.is_empty() {
            return Err(CodeError::Damaged);
        }
        Ok(Self { workgroup, inviter, secret, expires_unix_s, addresses })
    }
}

impl fmt::Debug for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteCode")
            .field("inviter", &self.inviter)
            .field("expires_unix_s", &self.expires_unix_s)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// What follows the prefix, if the prefix is ours.
fn body(text: &str) -> Result<&str, CodeError> {
    if text.len() > TEXT_MAX_BYTES {
        return Err(CodeError::NotACode);
    }
    if let Some(body) = text.strip_prefix(PREFIX) {
        return Ok(body);
    }
    let version = text.strip_prefix("tcat").and_then(|rest| rest.split_once('-')).map(|(version, _)| version);
    match version.and_then(|digits| digits.parse::<u32>().ok()) {
        Some(version) if version > u32::from(VERSION) => Err(CodeError::Newer),
        _ => Err(CodeError::NotACode),
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    blake3::Hasher::new_derive_key("tcat 1 checksum of an invitation")
        .update(bytes)
        .finalize_xof()
        .fill(&mut sum);
    sum
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], CodeError> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(CodeError::Damaged)?;
    *rest = left;
    Ok(*taken)
}

fn address(rest: &mut &[u8]) -> Result<SocketAddr, CodeError> {
    let ip: IpAddr = match take::<1>(rest)? {
        [4] => take::<4>(rest)?.into(),
        [6] => take::<16>(rest)?.into(),
        _ => return Err(CodeError::Damaged),
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes(take(rest)?)))
}

fn time(unix_s: u64) -> String {
    let timestamp = i64::try_from(unix_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    timestamp.map_or_else(|| format!("{unix_s} s after 1970"), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::{TestResult, quickcheck};

    fn code() -> InviteCode {
        InviteCode {
            workgroup: workgroup_hash(&WorkgroupId([3; 16])),
            inviter: ClientId([0xa7; 32]),
            secret: [0x5e; 16],
            expires_unix_s: 1_800_000_000,
            addresses: vec!["192.168.7.20:4711".parse().unwrap(), "[fd00::7]:4711".parse().unwrap()],
        }
    }

    #[test]
    fn a_code_is_one_token_and_reads_back() {
        let text = code().encode();
        assert!(
            text.starts_with("tcat1-")
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        );
        assert_eq!(InviteCode::parse(&text, 0), Ok(code()));
        assert_eq!(InviteCode::parse(&format!("  {}\n", text.to_uppercase()), 0), Ok(code()));
    }

    #[test]
    fn every_single_change_or_cut_is_noticed() {
        let text = code().encode();
        for at in PREFIX.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(InviteCode::parse(&changed, 0), Err(CodeError::Damaged), "{at}");
            assert_eq!(InviteCode::parse(&text[..at], 0), Err(CodeError::Damaged), "{at}");
        }
        assert_eq!(InviteCode::parse(&format!("{text}a"), 0), Err(CodeError::Damaged));
    }

    #[test]
    fn the_error_says_what_is_wrong() {
        assert_eq!(InviteCode::parse("hello", 0), Err(CodeError::NotACode));
        assert_eq!(InviteCode::parse("", 0), Err(CodeError::NotACode));
        assert_eq!(InviteCode::parse(&"tcat1-".repeat(10_000), 0), Err(CodeError::NotACode));
        assert_eq!(InviteCode::parse("tcat2-abcdefgh", 0), Err(CodeError::Newer));
        let expired = InviteCode::parse(&code().encode(), 1_800_000_000).unwrap_err();
        assert_eq!(expired, CodeError::Expired { at_unix_s: 1_800_000_000 });
        assert!(expired.to_string().contains("2027-01-15T08:00:00Z"), "{expired}");
    }

    #[test]
    fn a_newer_layout_is_told_from_damage() {
        let mut bytes = vec![2, 9, 9, 9, 9];
        bytes.extend(checksum(&bytes));
        let text = format!("tcat1-{}", BASE32_NOPAD.encode(&bytes).to_lowercase());
        assert_eq!(InviteCode::parse(&text, 0), Err(CodeError::Newer));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert!(!format!("{:?}", code()).contains("94"));
    }

    quickcheck! {
        fn any_code_reads_back(inviter: Vec<u8>, expires_unix_s: u64, ports: Vec<u16>) -> TestResult {
            if expires_unix_s == 0 {
                return TestResult::discard();
            }
            let mut key = [0; 32];
            key.iter_mut().zip(inviter).for_each(|(k, b)| *k = b);
            let addresses = ports.iter().take(ADDRESSES_MAX).map(|p| SocketAddr::from(([10, 0, 0, 1], *p))).collect();
            let code = InviteCode { inviter: ClientId(key), expires_unix_s, addresses, ..code() };
            TestResult::from_bool(InviteCode::parse(&code.encode(), 0) == Ok(code))
        }

        fn no_text_makes_it_panic(text: String) -> bool {
            InviteCode::parse(&text, 0).is_err() && InviteCode::parse(&format!("tcat1-{text}"), 0).is_err()
        }
    }
}
