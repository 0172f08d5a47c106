//! What members did that no member does who speaks the protocol and means well: named in the log, counted for `status`,
//! and answered by having nothing to do with that member for a minute.
//!
//! Always: the counts are bounded, whoever comes; a member is not refused for what an honest one can do: a disk that
//! rots sends other bytes too, so of those a few are only counted. Left out: finding it out, which is done where it
//! happens (the network, the engine, the host); and strangers, who come to nothing before they are counted by name.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tcat_engine::ids::ClientId;
use tcat_net::{NetHandle, REFUSED_FOR_S};

/// Members whose counts are kept: more than a workgroup has, since members come and go.
const MEMBERS_MAX: usize = 256;
/// So many contents of one member may turn out to be others within [`CONTENTS_SPAN`] before it is refused for it.
const CONTENTS_MAX: u32 = 4;
const CONTENTS_SPAN: Duration = Duration::from_secs(60);

/// What was wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Misdeed {
    /// Frames and streams: too long, too many, out of turn.
    Protocol,
    /// A message that cannot be read.
    Message,
    /// A message of another version of the protocol; it is only dropped.
    Version,
    /// A ledger's page or a sign of life that is forged, contradicts itself or goes beyond its bounds.
    Ledger,
    /// Other bytes than those of the content that was asked for.
    Content,
    /// An order to the host in another member's name.
    Order,
    /// A request to the host that cannot be read; it is only dropped, since a newer version may know it.
    Request,
}

impl Misdeed {
    /// What it is called in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Message => "message",
            Self::Version => "version",
            Self::Ledger => "ledger",
            Self::Content => "content",
            Self::Order => "order",
            Self::Request => "request",
        }
    }
}

/// What is known of one member.
#[derive(Default)]
struct Record {
    counts: BTreeMap<Misdeed, u64>,
    /// When the present span of wrong contents began, and how many it has.
    contents: Option<(Instant, u32)>,
    /// When what is only dropped was last said.
    said: BTreeMap<Misdeed, Instant>,
}

/// The refusals since this start.
#[derive(Default)]
pub struct Refusals {
    net: OnceLock<NetHandle>,
    members: Mutex<BTreeMap<ClientId, Record>>,
}

impl Refusals {
    /// Tells by which network members are refused; before that, none is connected.
    pub fn connect(&self, net: NetHandle) {
        let _ = self.net.set(net); // The first one stands.
    }

    /// A member did this: it is named and counted, and refused where an honest one could not have done it.
    pub fn note(&self, client: ClientId, misdeed: Misdeed, what: &str) {
        let (refuse, say) = self.judge(client, misdeed, Instant::now());
        let client_name = client.short();
        match (say, refuse) {
            (true, true) => tracing::error!(
                client = client_name,
                "refused: {what}; nothing is taken from it for {REFUSED_FOR_S} s; see `tcat members retire`"
            ),
            (true, false) => tracing::error!(client = client_name, "dropped: {what}"),
            (false, _) => {}
        }
        if refuse && let Some(net) = self.net.get() {
            net.refuse(client);
        }
    }

    /// How often a member did what, by the names of [`Misdeed`].
    pub fn of(&self, client: &ClientId) -> BTreeMap<String, u64> {
        let members = self.lock();
        let counts = members.get(client).map(|record| record.counts.iter());
        counts.into_iter().flatten().map(|(misdeed, count)| (misdeed.name().to_owned(), *count)).collect()
    }

    /// Counts it; whether the member is refused for it, and whether it is worth a line.
    fn judge(&self, client: ClientId, misdeed: Misdeed, now: Instant) -> (bool, bool) {
        let mut members = self.lock();
        if members.len() >= MEMBERS_MAX && !members.contains_key(&client) {
            members.clear(); // Members of long ago: the log has them.
        }
        let record = members.entry(client).or_default();
        let count = record.counts.entry(misdeed).or_default();
        *count = count.saturating_add(1);
        let is_recent = |at: Instant| now.saturating_duration_since(at) < CONTENTS_SPAN;
        match misdeed {
            Misdeed::Content => {
                let (since, before) = record.contents.filter(|(at, _)| is_recent(*at)).unwrap_or((now, 0));
                record.contents = Some((since, before.saturating_add(1)));
                (before >= CONTENTS_MAX, true)
            }
            Misdeed::Version | Misdeed::Request => {
                let said = record.said.get(&misdeed).copied().is_some_and(is_recent);
                if !said {
                    record.said.insert(misdeed, now);
                }
                (false, !said)
            }
            _ => (true, true),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClientId, Record>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEN: ClientId = ClientId([2; 32]);

    #[test]
    fn what_no_honest_member_does_is_refused_at_once_and_counted_by_kind() {
        let refusals = Refusals::default();
        let now = Instant::now();
        for misdeed in [Misdeed::Protocol, Misdeed::Message, Misdeed::Ledger, Misdeed::Order, Misdeed::Order]
        {
            assert_eq!(refusals.judge(BEN, misdeed, now), (true, true), "{misdeed:?}");
        }
        let counts = refusals.of(&BEN);
        assert_eq!((counts.len(), counts["order"], counts["ledger"]), (4, 2, 1), "{counts:?}");
        assert!(refusals.of(&ClientId([3; 32])).is_empty());
    }

    #[test]
    fn a_few_wrong_contents_may_come_from_a_rotten_disk_and_many_do_not() {
        let refusals = Refusals::default();
        let now = Instant::now();
        for _ in 0..CONTENTS_MAX {
            assert_eq!(refusals.judge(BEN, Misdeed::Content, now), (false, true));
        }
        assert_eq!(refusals.judge(BEN, Misdeed::Content, now), (true, true));
        // Later it is given the same patience again.
        assert_eq!(refusals.judge(BEN, Misdeed::Content, now + CONTENTS_SPAN), (false, true));
    }

    #[test]
    fn another_version_is_said_once_a_minute_and_no_reason_to_refuse() {
        let refusals = Refusals::default();
        let now = Instant::now();
        let said = |after| refusals.judge(BEN, Misdeed::Version, now + Duration::from_secs(after));
        assert_eq!(
            [0, 1, 59, 60, 61].map(said).map(|(refuse, say)| (!refuse, say)),
            [(true, true), (true, false), (true, false), (true, true), (true, false)]
        );
        assert_eq!(refusals.of(&BEN)["version"], 5);
    }

    #[test]
    fn the_counts_stay_few_whoever_comes() {
        let refusals = Refusals::default();
        for member in 0..5000u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&member.to_be_bytes());
            refusals.judge(ClientId(id), Misdeed::Ledger, Instant::now());
            assert!(refusals.lock().len() <= MEMBERS_MAX);
        }
    }
}
