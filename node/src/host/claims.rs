//! Claims to be host: "I keep the catalog, and its epoch has this number", signed by who says it.
//!
//! Always: a claim counts only with the signature of the client that it names, and only while the roster has that
//! client as a member; so nobody is made host by another, and retiring a liar voids what it claimed. Of those that
//! count, the later epoch rules, then the smaller key. Whatever order claims are learned in, the same one rules.
//!
//! A number far beyond what is known is not believed ([`LEAP_MAX`]): the host of a later promotion would have to go
//! beyond it, and at the end of the numbers there would be none. Left out: who may be asked, and when (`finding`).

use bincode::{Decode, Encode};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use tcat_engine::batch::Signature;
use tcat_engine::ids::{ClientId, WorkgroupId, from_hex, hex};
use tcat_net::{Identity, verify};
use tcat_storage::catalog::CLIENTS_MAX;

/// How far an epoch may be beyond the latest one known. Each restored catalog and each promotion is one step, so nobody
/// who tells the truth is ever that far ahead; and a liar with the last number that is believed leaves room for 2^43
/// promotions and liars more.
pub const LEAP_MAX: u64 = 1 << 20;
/// No catalog has a later epoch: the numbers of SQL end there.
const EPOCH_MAX: u64 = i64::MAX as u64;
/// The first line of the file that keeps them.
const HEADER: &str = "tcat host claims 1";

/// A node that is or was host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct HostClaim {
    /// Who.
    pub client: ClientId,
    /// The number of its catalog's epoch.
    pub epoch: u64,
}

impl HostClaim {
    /// What is signed.
    fn bytes(&self, workgroup: &WorkgroupId) -> Vec<u8> {
        [&b"tcat 1 host claim"[..], &workgroup.0, &self.client.0, &self.epoch.to_be_bytes()].concat()
    }

    /// This claim with the signature of the client that it names, which must be `identity`'s.
    pub fn sign(self, identity: &Identity, workgroup: &WorkgroupId) -> SignedClaim {
        SignedClaim { claim: self, signature: Signature(identity.sign(&self.bytes(workgroup))) }
    }
}

/// A claim as it goes from member to member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SignedClaim {
    /// What is claimed.
    pub claim: HostClaim,
    /// The claiming client's signature, over the workgroup too.
    pub signature: Signature,
}

impl SignedClaim {
    /// Whether the client that it names says so itself.
    pub fn holds(&self, workgroup: &WorkgroupId) -> bool {
        verify(&self.claim.client, &self.claim.bytes(workgroup), &self.signature.0)
    }
}

/// What the roster says of a client that claims to be host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    /// A member.
    Member,
    /// Retired, or not in the roster.
    Not,
    /// No roster was read yet.
    Unknown,
}

/// A claim that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kept {
    claim: SignedClaim,
    /// Whether the client that it names said so over its own connection, where it proved the workgroup's key.
    first_hand: bool,
}

/// The latest claim of each client.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    by_client: BTreeMap<ClientId, Kept>,
}

impl Claims {
    /// Takes a claim whose signature holds. `listed` tells of each client that has a claim here, and of this one.
    /// Returns whether anything is new; an error says why it is not believed.
    pub fn learn(
        &mut self,
        claim: SignedClaim,
        first_hand: bool,
        listed: impl Fn(&ClientId) -> Listed,
    ) -> Result<bool, &'static str> {
        let HostClaim { client, epoch } = claim.claim;
        if listed(&client) == Listed::Not {
            return Err("it is not in the roster");
        }
        let known = self.best(&listed).map_or(EPOCH_MAX - LEAP_MAX, |best| best.claim.epoch);
        if epoch > EPOCH_MAX || epoch > known.saturating_add(LEAP_MAX) {
            return Err("its epoch is far beyond all that are known");
        }
        let before = self.by_client.get(&client).copied();
        if before.is_some_and(|before| before.claim.claim.epoch > epoch) {
            return Ok(false);
        }
        let same = before.filter(|before| before.claim.claim.epoch == epoch);
        let first_hand = first_hand || same.is_some_and(|before| before.first_hand);
        if same.is_some_and(|before| before.first_hand == first_hand) {
            return Ok(false);
        }
        if before.is_none() && self.by_client.len() >= CLIENTS_MAX {
            // A roster has no more members: some of these are none any more.
            self.by_client.retain(|client, _| listed(client) == Listed::Member);
            if self.by_client.len() >= CLIENTS_MAX {
                return Err("as many clients as a workgroup can have claim it already");
            }
        }
        self.by_client.insert(client, Kept { claim, first_hand });
        Ok(true)
    }

    /// Who rules. Where no roster was read yet, who is a member is not known: then only those count who said so
    /// themselves, over a connection that proved the workgroup's key; a host that is not connected is of no use anyway.
    pub fn best(&self, listed: impl Fn(&ClientId) -> Listed) -> Option<SignedClaim> {
        let counts = |(client, kept): &(&ClientId, &Kept)| match listed(client) {
            Listed::Member => true,
            Listed::Not => false,
            Listed::Unknown => kept.first_hand,
        };
        let mut claims: Vec<_> = self.by_client.iter().filter(counts).map(|(_, kept)| kept.claim).collect();
        claims.sort_by_key(|claim| (claim.claim.epoch, Reverse(claim.claim.client)));
        let mut claims = claims.into_iter();
        let mut best = claims.next()?;
        // What was believed before anything else was known may turn out to be a leap.
        for claim in claims {
            if claim.claim.epoch - best.claim.epoch > LEAP_MAX {
                break;
            }
            best = claim;
        }
        Some(best)
    }

    /// The clients that have a claim here.
    pub fn clients(&self) -> Vec<ClientId> {
        self.by_client.keys().copied().collect()
    }

    /// What is written to disk.
    pub fn text(&self) -> String {
        let line = |kept: &Kept| {
            let SignedClaim { claim, signature } = kept.claim;
            format!("{} {} {}\n", hex(&claim.client.0), claim.epoch, hex(&signature.0))
        };
        let lines: String = self.by_client.values().map(line).collect();
        format!("{HEADER}\n{lines}")
    }

    /// Reads [`Claims::text`]; lines whose signature does not hold are left out, and a file of another form has none.
    pub fn parse(text: &str, workgroup: &WorkgroupId) -> Self {
        let mut lines = text.lines();
        let lines = (lines.next() == Some(HEADER)).then_some(lines).into_iter().flatten();
        let claims = lines.take(CLIENTS_MAX).filter_map(parse_line).filter(|claim| claim.holds(workgroup));
        let kept = |claim: SignedClaim| (claim.claim.client, Kept { claim, first_hand: false });
        Self { by_client: claims.map(kept).collect() }
    }
}

fn parse_line(line: &str) -> Option<SignedClaim> {
    let mut words = line.split(' ');
    let (client, epoch, signature) = (words.next()?, words.next()?, words.next()?);
    let claim = HostClaim { client: ClientId(from_hex(client).ok()?), epoch: epoch.parse().ok()? };
    (claim.epoch <= EPOCH_MAX)
        .then_some(SignedClaim { claim, signature: Signature(from_hex(signature).ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const GROUP: WorkgroupId = WorkgroupId([7; 16]);

    fn identities(count: usize) -> Vec<Identity> {
        let mut all: Vec<_> = (0..count).map(|_| Identity::generate().unwrap()).collect();
        all.sort_by_key(Identity::client_id);
        all
    }

    fn claim(identity: &Identity, epoch: u64) -> SignedClaim {
        HostClaim { client: identity.client_id(), epoch }.sign(identity, &GROUP)
    }

    fn everybody(_: &ClientId) -> Listed {
        Listed::Member
    }

    fn best(claims: &Claims) -> Option<HostClaim> {
        claims.best(everybody).map(|best| best.claim)
    }

    #[test]
    fn a_claim_holds_only_with_the_signature_of_whom_it_names_and_for_its_workgroup() {
        let [anna, eve] = identities(2).try_into().unwrap();
        let right = claim(&anna, 3);
        assert!(right.holds(&GROUP));
        assert!(!right.holds(&WorkgroupId([8; 16])));
        let later = SignedClaim { claim: HostClaim { epoch: 4, ..right.claim }, ..right };
        assert!(!later.holds(&GROUP));
        let forged = HostClaim { client: anna.client_id(), epoch: 3 }.sign(&eve, &GROUP);
        assert!(!forged.holds(&GROUP));
        let other = SignedClaim { claim: HostClaim { client: eve.client_id(), epoch: 3 }, ..right };
        assert!(!other.holds(&GROUP));
    }

    #[test]
    fn the_later_epoch_rules_and_then_the_smaller_key_in_whatever_order_they_come() {
        let all = identities(3);
        let claims = [claim(&all[0], 2), claim(&all[1], 3), claim(&all[2], 3)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            let mut learned = Claims::default();
            for index in order {
                learned.learn(claims[index], false, everybody).unwrap();
            }
            assert_eq!(best(&learned), Some(claims[1].claim));
            assert_eq!(learned.learn(claims[1], false, everybody), Ok(false));
        }
        let mut learned = Claims::default();
        learned.learn(claim(&all[0], 5), false, everybody).unwrap();
        assert_eq!(
            learned.learn(claim(&all[0], 4), false, everybody),
            Ok(false),
            "an older word of the same"
        );
        assert_eq!(best(&learned).unwrap().epoch, 5);
    }

    #[test]
    fn who_is_retired_or_unlisted_is_not_host_and_the_next_best_counts_again() {
        let [anna, ben, eve] = identities(3).try_into().unwrap();
        let retired = RefCell::new(vec![eve.client_id()]);
        let listed = |client: &ClientId| match retired.borrow().contains(client) {
            true => Listed::Not,
            false => Listed::Member,
        };
        let mut claims = Claims::default();
        assert!(claims.learn(claim(&eve, 9), true, listed).is_err());
        for (identity, epoch) in [(&anna, 1), (&ben, 2)] {
            claims.learn(claim(identity, epoch), false, listed).unwrap();
        }
        assert_eq!(claims.best(listed).unwrap().claim.client, ben.client_id());
        retired.borrow_mut().push(ben.client_id());
        assert_eq!(claims.best(listed).unwrap().claim.client, anna.client_id());
    }

    #[test]
    fn a_huge_epoch_is_not_believed_whether_it_comes_first_or_last() {
        let [anna, eve] = identities(2).try_into().unwrap();
        let mut claims = Claims::default();
        claims.learn(claim(&anna, 4), false, everybody).unwrap();
        for epoch in [4 + LEAP_MAX + 1, EPOCH_MAX, u64::MAX] {
            assert!(claims.learn(claim(&eve, epoch), true, everybody).is_err(), "{epoch}");
        }
        assert_eq!(best(&claims).unwrap().epoch, 4);
        claims.learn(claim(&eve, 4 + LEAP_MAX), true, everybody).unwrap();
        assert_eq!(best(&claims).unwrap().epoch, 4 + LEAP_MAX);
        // A newcomer that hears the liar first.
        let mut claims = Claims::default();
        assert!(claims.learn(claim(&eve, u64::MAX), true, everybody).is_err());
        claims.learn(claim(&eve, 1 << 40), true, everybody).unwrap();
        assert_eq!(best(&claims).unwrap().epoch, 1 << 40);
        claims.learn(claim(&anna, 4), false, everybody).unwrap();
        assert_eq!(best(&claims).unwrap().epoch, 4);
    }

    #[test]
    fn who_has_read_no_roster_believes_only_what_a_host_says_of_itself() {
        let unknown = |_: &ClientId| Listed::Unknown;
        let [anna, eve] = identities(2).try_into().unwrap();
        let mut claims = Claims::default();
        claims.learn(claim(&eve, 9), false, unknown).unwrap();
        assert_eq!(claims.best(unknown), None);
        claims.learn(claim(&anna, 2), false, unknown).unwrap();
        assert_eq!(claims.learn(claim(&anna, 2), true, unknown), Ok(true));
        assert_eq!(claims.learn(claim(&anna, 2), false, unknown), Ok(false));
        assert_eq!(claims.best(unknown).unwrap().claim.client, anna.client_id());
    }

    #[test]
    fn as_many_claims_are_kept_as_a_workgroup_has_members() {
        let listed = RefCell::new(Listed::Member);
        let mut claims = Claims::default();
        let all = identities(CLIENTS_MAX + 1);
        for identity in &all[..CLIENTS_MAX] {
            claims.learn(claim(identity, 1), false, |_| *listed.borrow()).unwrap();
        }
        let one_more = claim(&all[CLIENTS_MAX], 1);
        assert!(claims.learn(one_more, false, |_| *listed.borrow()).is_err());
        *listed.borrow_mut() = Listed::Not;
        let mine = |client: &ClientId| match *client == one_more.claim.client {
            true => Listed::Member,
            false => *listed.borrow(),
        };
        assert_eq!(claims.learn(one_more, false, mine), Ok(true));
        assert_eq!(claims.clients(), [one_more.claim.client]);
    }

    #[test]
    fn what_is_kept_is_believed_again_only_with_its_signature() {
        let [anna, eve] = identities(2).try_into().unwrap();
        let mut claims = Claims::default();
        claims.learn(claim(&anna, 4), true, everybody).unwrap();
        claims.learn(claim(&eve, 3), true, everybody).unwrap();
        let text = claims.text();
        let again = Claims::parse(&text, &GROUP);
        assert_eq!((best(&again), again.clients()), (best(&claims), claims.clients()));
        assert_eq!(Claims::parse(&text, &WorkgroupId([8; 16])).clients(), []);
        assert_eq!(best(&Claims::parse(&text.replace(" 4 ", " 5 "), &GROUP)).unwrap().epoch, 3);
        let old = format!("{} 4\n", hex(&anna.client_id().0));
        for text in ["", "tcat host claims 1", "tcat host claims 1\n\n x\n", &old] {
            assert_eq!(Claims::parse(text, &GROUP).clients(), [], "{text:?}");
        }
    }
}
