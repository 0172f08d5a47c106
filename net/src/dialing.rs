//! When to dial whom: static peers and known addresses, each with its own jittered backoff.
//!
//! Pure: the time comes from the caller. Always: an address is dialed by one attempt at a time, and not at all while
//! its client is connected; the tables are bounded, and hints (of anybody) never push out what is known better.

use crate::address::PeerAddress;
use crate::random;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tcat_engine::ids::ClientId;

const FIRST_DELAY: Duration = Duration::from_millis(200);
/// Of a member, and of a configured address: with the time that connecting may take it must be back within 5 s.
const DELAY_MAX: Duration = Duration::from_millis(2500);
/// Of a client that only announced itself so far.
const HINT_DELAY_MAX: Duration = Duration::from_secs(5);
/// On loopback a refused dial costs nothing, and people wait for a peer that has just been started.
const LOOPBACK_DELAY_MAX: Duration = Duration::from_millis(800);
/// For who failed to prove membership, or is ourselves.
const REFUSED_FIRST_DELAY: Duration = Duration::from_secs(5);
const REFUSED_DELAY_MAX: Duration = Duration::from_secs(60);
/// Clients whose addresses are kept.
const CLIENTS_MAX: usize = 256;
/// Addresses kept of one client, of each kind; the newest stay.
const ADDRESSES_MAX: usize = 8;
/// Attempts under way at clients that only announced themselves so far, so that a stranger who announces thousands
/// cannot keep us from members.
const HINTS_IN_FLIGHT_MAX: usize = 8;

/// Attempts, while a client that dialed us is connected, to find out which of its announced addresses is its own.
const CHECKS_MAX: u8 = 3;

/// Something to dial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A configured address; who answers there is not known before.
    Static(PeerAddress),
    /// A client, wherever it was last seen.
    Client(ClientId),
}

struct Entry {
    /// Told by members, or proved by an answer.
    known: Vec<SocketAddr>,
    /// From discovery, so perhaps from a stranger.
    hinted: Vec<SocketAddr>,
    /// Who answers there, once known.
    client: Option<ClientId>,
    delay: Duration,
    /// When to dial; nothing while an attempt is under way or the client is connected.
    next_at: Option<Instant>,
    in_flight: bool,
    /// When the last attempt began.
    tried_at: Option<Instant>,
    checks_left: u8,
    /// Who answered last was no member, or ourselves.
    refused: bool,
    /// From discovery alone, never reached: may be forgotten for another.
    hint_only: bool,
}

impl Entry {
    fn new(client: Option<ClientId>, now: Instant, hint_only: bool) -> Self {
        Self {
            known: Vec::new(),
            hinted: Vec::new(),
            client,
            delay: FIRST_DELAY,
            next_at: Some(now),
            in_flight: false,
            tried_at: None,
            checks_left: CHECKS_MAX,
            refused: false,
            hint_only,
        }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let hinted = self.hinted.iter().filter(|address| !self.known.contains(address));
        self.known.iter().chain(hinted).copied().collect()
    }

    /// Of who dialed us we only have hints, which strangers can push out by others: one that has answered stays.
    fn wants_check(&self) -> bool {
        self.known.is_empty() && !self.hinted.is_empty() && self.checks_left > 0
    }

    fn delay_max(&self, target: &Target) -> Duration {
        match target {
            Target::Static(PeerAddress::Socket(address)) if address.ip().is_loopback() => LOOPBACK_DELAY_MAX,
            _ if self.hint_only => HINT_DELAY_MAX,
            _ => DELAY_MAX,
        }
    }

    fn again(&mut self, delay: Duration, now: Instant) {
        self.delay = delay;
        self.in_flight = false;
        self.next_at = Some(now + delay.mul_f64(0.5 + random::fraction() / 2.0));
    }
}

/// All that may be dialed, and when.
#[derive(Default)]
pub(crate) struct Dialing {
    entries: BTreeMap<Target, Entry>,
}

impl Dialing {
    /// Static peers are dialed at once, and for ever.
    pub(crate) fn new(static_peers: &[PeerAddress], now: Instant) -> Self {
        let entries = static_peers.iter().map(|a| (Target::Static(a.clone()), Entry::new(None, now, false)));
        Self { entries: entries.collect() }
    }

    /// Addresses of a client, newest last. A `hint` may come from a stranger.
    pub(crate) fn learn(&mut self, client: ClientId, addresses: &[SocketAddr], hint: bool, now: Instant) {
        let target = Target::Client(client);
        if !self.entries.contains_key(&target) && !self.make_room(hint) {
            return;
        }
        let entry = self.entries.entry(target).or_insert_with(|| Entry::new(Some(client), now, hint));
        entry.hint_only &= hint;
        let any_new = addresses.iter().any(|a| !entry.known.contains(a) && !entry.hinted.contains(a));
        let list = if hint { &mut entry.hinted } else { &mut entry.known };
        addresses.iter().for_each(|address| remember(list, *address));
        // A new address is worth an attempt now, unless the client proved to be no member.
        if any_new && !entry.in_flight && !entry.refused {
            // Anybody may announce new addresses many times a second.
            entry.next_at = Some(entry.tried_at.map_or(now, |at| now.max(at + FIRST_DELAY)));
        }
    }

    /// Room for one more client; false if there is none.
    fn make_room(&mut self, for_a_hint: bool) -> bool {
        let clients = self.entries.keys().filter(|t| matches!(t, Target::Client(_))).count();
        if clients < CLIENTS_MAX {
            return true;
        }
        let idle_hint = |(_, e): &(&Target, &Entry)| e.hint_only && !e.in_flight;
        let worst = self.entries.iter().filter(idle_hint).max_by_key(|(_, e)| e.delay);
        match worst.map(|(target, entry)| (target.clone(), entry.delay)) {
            Some((target, delay)) if !for_a_hint || delay > FIRST_DELAY => {
                self.entries.remove(&target);
                true
            }
            _ => false,
        }
    }

    /// Discovery has lost it: forget it if nothing but discovery knew it and nothing is under way.
    pub(crate) fn lost(&mut self, client: ClientId) {
        let target = Target::Client(client);
        if self.entries.get(&target).is_some_and(|e| e.hint_only && !e.in_flight) {
            self.entries.remove(&target);
        }
    }

    /// Whether one more attempt at a mere hint may begin.
    fn has_room_for_hints(&self) -> bool {
        self.hints_in_flight() < HINTS_IN_FLIGHT_MAX
    }

    fn hints_in_flight(&self) -> usize {
        self.entries.values().filter(|e| e.hint_only && e.in_flight).count()
    }

    /// When the next attempt is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let hints = self.has_room_for_hints();
        self.entries.values().filter(|e| hints || !e.hint_only).filter_map(|e| e.next_at).min()
    }

    /// At most `limit` due targets with their known addresses (none for a static peer), members first, then who waits
    /// longest; each is now under way until [`Dialing::failed`], [`Dialing::refused`] or [`Dialing::released`].
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        limit: usize,
        is_connected: impl Fn(&ClientId) -> bool,
    ) -> Vec<(Target, Vec<SocketAddr>)> {
        let mut hints_left = HINTS_IN_FLIGHT_MAX.saturating_sub(self.hints_in_flight());
        let mut waiting: Vec<_> =
            self.entries.iter_mut().filter(|(_, e)| e.next_at.is_some_and(|at| at <= now)).collect();
        waiting.sort_by_key(|(_, e)| (e.hint_only, e.next_at));
        let mut due = Vec::new();
        for (target, entry) in waiting {
            if due.len() >= limit || (entry.hint_only && hints_left == 0) {
                break; // The hints come last.
            }
            entry.next_at = None;
            if entry.client.as_ref().is_some_and(&is_connected) {
                if !entry.wants_check() {
                    continue; // `released` brings it back.
                }
                entry.checks_left -= 1;
            }
            if matches!(target, Target::Client(_)) && entry.addresses().is_empty() {
                continue; // `learn` brings it back.
            }
            if entry.hint_only {
                hints_left -= 1;
            }
            entry.in_flight = true;
            entry.tried_at = Some(now);
            due.push((target.clone(), entry.addresses()));
        }
        due
    }

    /// This client answered at this address.
    pub(crate) fn answered(&mut self, target: &Target, client: ClientId, address: Option<SocketAddr>) {
        if let Some(entry) = self.entries.get_mut(target) {
            entry.client = Some(client);
            if let (Target::Client(_), Some(address)) = (target, address) {
                remember(&mut entry.known, address);
            }
        }
    }

    /// Somebody else than the client answered there.
    pub(crate) fn disproved(&mut self, target: &Target, address: Option<SocketAddr>) {
        if let (Some(entry), Some(address)) = (self.entries.get_mut(target), address) {
            entry.known.retain(|a| *a != address);
            entry.hinted.retain(|a| *a != address);
        }
    }

    /// The client is a member and connected; it is no mere hint any more.
    pub(crate) fn connected(&mut self, client: ClientId) {
        for entry in self.entries.values_mut().filter(|e| e.client == Some(client)) {
            entry.hint_only = false;
            entry.refused = false;
            entry.in_flight = false;
            if !entry.wants_check() {
                entry.next_at = None;
            }
        }
    }

    /// The client is connected, but nothing has come from it for a while: perhaps it can be reached anew.
    pub(crate) fn suspect(&mut self, client: ClientId, now: Instant) {
        let idle = |e: &&mut Entry| e.client == Some(client) && !e.in_flight && e.next_at.is_none();
        for entry in self.entries.values_mut().filter(idle) {
            entry.delay = FIRST_DELAY;
            entry.next_at = Some(now);
        }
    }

    /// The attempt led nowhere, or its connection ended without one that counts.
    pub(crate) fn failed(&mut self, target: &Target, now: Instant) {
        if let Some(entry) = self.entries.get_mut(target) {
            let max = entry.delay_max(target);
            entry.again((entry.delay * 2).min(max), now);
        }
    }

    /// Who answered is not a member, or is ourselves: try again much later.
    pub(crate) fn refused(&mut self, target: &Target, now: Instant) {
        if let Some(entry) = self.entries.get_mut(target) {
            entry.refused = true;
            entry.again((entry.delay * 2).clamp(REFUSED_FIRST_DELAY, REFUSED_DELAY_MAX), now);
        }
    }

    /// A member broke the protocol: its addresses have rest for a while.
    pub(crate) fn misbehaved(&mut self, client: ClientId, now: Instant) {
        for entry in self.entries.values_mut().filter(|e| e.client == Some(client)) {
            let in_flight = entry.in_flight;
            entry.refused = true;
            entry.again(REFUSED_DELAY_MAX, now);
            if in_flight {
                (entry.in_flight, entry.next_at) = (true, None); // Its end says when again.
            }
        }
    }

    /// The client is no longer connected. `lasted` says whether it had been for a while: then the backoff starts
    /// anew, else it goes on, so that two nodes that throw each other out do not do so many times a second.
    pub(crate) fn released(&mut self, client: ClientId, lasted: bool, now: Instant) {
        for entry in self.entries.values_mut().filter(|e| e.client == Some(client) && !e.in_flight) {
            let delay = if lasted { FIRST_DELAY } else { (entry.delay * 2).min(DELAY_MAX) };
            entry.again(delay, now);
        }
    }
}

/// Puts the newest address last and drops the oldest ones.
fn remember(list: &mut Vec<SocketAddr>, address: SocketAddr) {
    list.retain(|a| *a != address);
    list.push(address);
    let surplus = list.len().saturating_sub(ADDRESSES_MAX);
    list.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: ClientId = ClientId([1; 32]);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 4711))
    }

    fn nobody(_: &ClientId) -> bool {
        false
    }

    #[test]
    fn a_static_peer_is_tried_at_once_then_ever_more_slowly_up_to_a_limit() {
        let mut now = Instant::now();
        let peer = PeerAddress::Socket(address(1));
        let mut dialing = Dialing::new(std::slice::from_ref(&peer), now);
        let mut waits = Vec::new();
        for _ in 0..12 {
            let due = dialing.take_due(now, 9, nobody);
            assert_eq!(due, [(Target::Static(peer.clone()), vec![])]);
            assert!(dialing.take_due(now, 9, nobody).is_empty(), "one attempt at a time");
            assert_eq!(dialing.next_due(), None);
            dialing.failed(&due[0].0, now);
            let next = dialing.next_due().unwrap();
            waits.push(next - now);
            now = next;
        }
        assert!(waits[0] >= FIRST_DELAY && waits[0] <= FIRST_DELAY * 2, "{waits:?}");
        assert!(waits[8..].iter().all(|w| *w >= DELAY_MAX / 2 && *w <= DELAY_MAX), "{waits:?}");
    }

    #[test]
    fn a_static_peer_on_loopback_never_waits_a_second() {
        let mut now = Instant::now();
        let target = Target::Static("127.0.0.1:9".parse().unwrap());
        let mut dialing = Dialing::new(&["127.0.0.1:9".parse().unwrap()], now);
        for _ in 0..20 {
            assert_eq!(dialing.take_due(now, 9, nobody).len(), 1);
            dialing.failed(&target, now);
            let next = dialing.next_due().unwrap();
            assert!(next - now < Duration::from_secs(1));
            now = next;
        }
    }

    #[test]
    fn a_connected_client_is_not_dialed_until_it_is_gone() {
        let now = Instant::now();
        let mut dialing = Dialing::default();
        dialing.learn(PEER, &[address(1)], false, now);
        assert!(dialing.take_due(now, 9, |c| *c == PEER).is_empty());
        assert_eq!(dialing.next_due(), None);
        dialing.connected(PEER);
        dialing.released(PEER, true, now);
        let again = dialing.next_due().unwrap();
        assert!(again > now && again <= now + FIRST_DELAY);
        assert_eq!(dialing.take_due(again, 9, nobody), [(Target::Client(PEER), vec![address(1)])]);
    }

    #[test]
    fn who_is_no_member_is_left_alone_for_longer_even_if_it_announces_itself_anew() {
        let now = Instant::now();
        let mut dialing = Dialing::default();
        dialing.learn(PEER, &[address(1)], true, now);
        dialing.take_due(now, 9, nobody);
        dialing.refused(&Target::Client(PEER), now);
        dialing.refused(&Target::Client(PEER), now);
        dialing.learn(PEER, &[address(2)], true, now);
        assert!(dialing.next_due().unwrap() >= now + REFUSED_FIRST_DELAY);
    }

    #[test]
    fn hints_of_strangers_never_push_out_a_member_or_grow_the_table() {
        let now = Instant::now();
        let mut dialing = Dialing::default();
        dialing.learn(PEER, &[address(1)], false, now);
        for i in 0..2000_u32 {
            let mut id = [9; 32];
            id[..4].copy_from_slice(&i.to_be_bytes());
            dialing.learn(ClientId(id), &[address(2)], true, now);
        }
        assert_eq!(dialing.entries.len(), CLIENTS_MAX);
        assert!(dialing.entries.contains_key(&Target::Client(PEER)));
        dialing.learn(ClientId([8; 32]), &[address(3)], false, now);
        assert!(
            dialing.entries.contains_key(&Target::Client(ClientId([8; 32]))),
            "a known member finds room"
        );
        assert_eq!(dialing.entries.len(), CLIENTS_MAX);
    }

    #[test]
    fn strangers_that_announce_many_clients_do_not_keep_us_from_a_member() {
        let mut now = Instant::now();
        let mut dialing = Dialing::default();
        dialing.learn(PEER, &[address(1)], true, now);
        dialing.take_due(now, 99, nobody);
        dialing.connected(PEER);
        for i in 0..1000_u32 {
            let mut id = [0; 32]; // Before the member in order.
            id[28..].copy_from_slice(&i.to_be_bytes());
            dialing.learn(ClientId(id), &[address(2)], true, now);
        }
        // Nobody answers at what they announced.
        let mut flying = dialing.take_due(now, 99, nobody);
        assert_eq!(flying.len(), HINTS_IN_FLIGHT_MAX);
        assert_eq!(dialing.next_due(), None, "the others wait for one of these to end");
        dialing.released(PEER, true, now);
        now += FIRST_DELAY;
        assert_eq!(dialing.take_due(now, 99, nobody), [(Target::Client(PEER), vec![address(1)])]);
        // They all have their turn.
        let mut tried = std::collections::BTreeSet::new();
        for _ in 0..CLIENTS_MAX {
            for (target, _) in std::mem::take(&mut flying) {
                dialing.failed(&target, now);
                tried.insert(target);
            }
            flying = dialing.take_due(now, 99, nobody);
        }
        assert_eq!(tried.len(), CLIENTS_MAX - 1);
    }

    #[test]
    fn addresses_announced_in_a_flood_do_not_make_us_dial_in_a_flood() {
        let start = Instant::now();
        let target = Target::Client(PEER);
        let mut dialing = Dialing::default();
        let mut attempts = 0;
        for ms in 0..2000_u32 {
            let now = start + Duration::from_millis(ms.into());
            let forged = SocketAddr::from((ms.to_be_bytes(), 4711));
            dialing.learn(PEER, &[forged], true, now);
            for _ in dialing.take_due(now, 9, nobody) {
                attempts += 1;
                dialing.failed(&target, now);
            }
        }
        assert_eq!(attempts, 10);
    }

    #[test]
    fn what_a_client_that_dialed_us_announces_is_tried_until_it_has_answered_and_then_kept() {
        let mut now = Instant::now();
        let target = Target::Client(PEER);
        let connected = |c: &ClientId| *c == PEER;
        let mut dialing = Dialing::default();
        dialing.learn(PEER, &[address(1)], true, now);
        dialing.connected(PEER);
        assert_eq!(dialing.take_due(now, 9, connected), [(target.clone(), vec![address(1)])]);
        dialing.answered(&target, PEER, Some(address(1)));
        dialing.connected(PEER);
        assert_eq!(dialing.next_due(), None);
        dialing.learn(PEER, &(100..150).map(address).collect::<Vec<_>>(), true, now);
        assert!(dialing.take_due(now + DELAY_MAX, 9, connected).is_empty());
        dialing.released(PEER, true, now);
        assert!(dialing.take_due(now + DELAY_MAX, 9, nobody)[0].1.contains(&address(1)));

        // Where nothing answers it is given up.
        let mut dialing = Dialing::default();
        dialing.learn(PEER, &[address(1)], true, now);
        for _ in 0..CHECKS_MAX {
            assert_eq!(dialing.take_due(now, 9, connected).len(), 1);
            dialing.failed(&target, now);
            now = dialing.next_due().unwrap();
        }
        assert!(dialing.take_due(now, 9, connected).is_empty());
    }

    #[test]
    fn a_silent_member_is_dialed_beside_its_connection() {
        let now = Instant::now();
        let mut dialing = Dialing::default();
        dialing.learn(PEER, &[address(1)], true, now);
        dialing.take_due(now, 9, nobody);
        dialing.connected(PEER);
        dialing.suspect(PEER, now);
        assert_eq!(dialing.take_due(now, 9, nobody).len(), 1);
        dialing.suspect(PEER, now);
        assert!(dialing.take_due(now, 9, nobody).is_empty(), "one attempt at a time");
        dialing.failed(&Target::Client(PEER), now);
        assert!(dialing.next_due().unwrap() <= now + DELAY_MAX);
    }

    #[test]
    fn the_newest_addresses_are_kept() {
        let now = Instant::now();
        let mut dialing = Dialing::default();
        for last in 0..20 {
            dialing.learn(PEER, &[address(last)], false, now);
        }
        let due = dialing.take_due(now, 9, nobody);
        assert_eq!(due[0].1, (12..20).map(address).collect::<Vec<_>>());
    }

    #[test]
    fn forged_hints_never_hide_an_address_that_answered_and_are_dropped_when_disproved() {
        let now = Instant::now();
        let target = Target::Client(PEER);
        let mut dialing = Dialing::default();
        dialing.learn(PEER, &[address(1)], true, now);
        dialing.answered(&target, PEER, Some(address(1)));
        let forged: Vec<_> = (100..150).map(address).collect();
        dialing.learn(PEER, &forged, true, now);
        let due = dialing.take_due(now, 9, nobody);
        assert!(due[0].1.contains(&address(1)));
        for address in &forged {
            dialing.disproved(&target, Some(*address));
        }
        dialing.failed(&target, now);
        let due = dialing.take_due(dialing.next_due().unwrap(), 9, nobody);
        assert_eq!(due[0].1, [address(1)]);
    }
}
