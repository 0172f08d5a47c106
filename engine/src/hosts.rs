//! Which of several hosts rules: the nodes that keep a catalog for their workgroup, or did, each with the number of its
//! catalog's epoch.
//!
//! What holds always: the rule is total and pure, so that all who know of the same hosts work with the same one. Not
//! here: whose claims are believed, and how they are learned (node's `host`).

use crate::ids::ClientId;
use crate::planted::{Bug, Plants};
use std::cmp::Reverse;

/// Where a host stands among others: the later epoch rules, then the smaller key. The greatest rank is that of the host.
pub fn rank(epoch: u64, client: ClientId) -> (u64, Reverse<ClientId>) {
    (epoch, Reverse(client))
}

/// Whether who goes by one host has to go by another, of which it hears; a host that has to is host no longer.
pub fn gives_way<P: Plants>(known: (u64, ClientId), heard: (u64, ClientId), plants: &P) -> bool {
    if P::POSSIBLE && plants.has(Bug::TwoHosts) {
        return heard.0 > known.0;
    }
    rank(heard.0, heard.1) > rank(known.0, known.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::Sound;

    #[test]
    fn the_later_epoch_rules_and_then_the_smaller_key() {
        let [small, large] = [1, 2].map(|n| ClientId([n; 32]));
        assert!(gives_way((1, small), (2, large), &Sound));
        assert!(!gives_way((2, large), (1, small), &Sound));
        assert!(gives_way((2, large), (2, small), &Sound), "of two that were promoted at once one gives way");
        assert!(!gives_way((2, small), (2, large), &Sound));
        assert!(!gives_way((2, small), (2, small), &Sound));
    }
}
