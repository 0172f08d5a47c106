//! Which names a crash leaves: those made durable, and of the changes that were not, any part.
//!
//! What holds always: changes are kept in the order in which they were made, and an index tells by folder which of them
//! concern it, so that syncing a folder goes through those alone, however many others nobody ever syncs.
//! Not here: what a running program sees, and what files hold.

use super::Name;
use std::collections::{BTreeMap, BTreeSet};

/// A change of names that a crash may lose.
#[derive(Clone, Debug, Default)]
struct Change {
    /// Names that come to be, all at once.
    link: Vec<(String, Name)>,
    /// A name that goes, at the earliest together with those.
    unlink: Option<String>,
    link_durable: bool,
}

impl Change {
    fn links_in(&self, folder: &str) -> bool {
        self.link.iter().any(|(key, _)| folder_of(key) == folder)
    }

    fn unlinks_in(&self, folder: &str) -> bool {
        self.unlink.as_ref().is_some_and(|key| folder_of(key) == folder)
    }

    /// Nothing of it can be lost any more.
    fn is_done(&self) -> bool {
        self.unlink.is_none() && self.link_durable
    }
}

/// Durable names, and the changes since, by their number.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    durable: BTreeMap<String, Name>,
    pending: BTreeMap<u64, Change>,
    by_folder: BTreeMap<String, BTreeSet<u64>>,
    /// Of those pending, what later ones have left nothing of.
    done: BTreeSet<u64>,
    next: u64,
}

impl Names {
    /// Names come to be, all at once, and another goes, at the earliest together with those.
    pub(super) fn change(&mut self, link: Vec<(String, Name)>, unlink: Option<String>) {
        let number = self.next;
        self.next += 1;
        self.keep(number, Change { link, unlink, link_durable: false });
    }

    /// Whether a crash may lose anything.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The folder of a name is synced.
    pub(super) fn sync_folder_of(&mut self, key: &str) {
        let folder = folder_of(key);
        let Some(mut numbers) = self.by_folder.remove(folder) else { return };
        numbers.retain(|number| {
            let change = self.pending.get(number);
            change.is_some_and(|change| change.unlinks_in(folder) || change.links_in(folder))
        });
        let Some(first) = numbers.first() else { return };
        for number in self.done.split_off(first) {
            self.pending.remove(&number);
        }
        for number in numbers {
            let Some(mut change) = self.pending.remove(&number) else { continue };
            let unlinked = change.unlinks_in(folder);
            self.make_link_durable(number, &mut change);
            if let Some(key) = change.unlink.take_if(|_| unlinked) {
                self.durable.remove(&key);
            } else if !change.is_done() {
                self.keep(number, change);
            }
        }
    }

    /// Power is lost: of what is not durable, `choose` says what is kept, as a number below its argument. What is left.
    pub(super) fn crash(&mut self, choose: &mut dyn FnMut(usize) -> usize) -> BTreeMap<String, Name> {
        self.by_folder.clear();
        self.done.clear();
        for (number, mut change) in std::mem::take(&mut self.pending) {
            let can_split = !change.link.is_empty() && change.unlink.is_some() && !change.link_durable;
            let kept = match () {
                () if can_split => choose(3),
                () if change.link_durable => 1 + choose(2),
                () => 2 * choose(2),
            };
            if kept >= 1 {
                self.make_link_durable(number, &mut change);
            }
            if let (2, Some(key)) = (kept, &change.unlink) {
                self.durable.remove(key);
            }
        }
        self.durable.clone()
    }

    fn make_link_durable(&mut self, number: u64, change: &mut Change) {
        if change.link_durable {
            return;
        }
        change.link_durable = true;
        for (key, name) in &change.link {
            self.supersede(key, number);
            self.durable.insert(key.clone(), name.clone());
        }
    }

    /// What was to become of this very name before a change is superseded by it.
    fn supersede(&mut self, key: &str, number: u64) {
        let there = self.by_folder.get(folder_of(key));
        let earlier: Vec<u64> = there.map(|all| all.range(..number).copied().collect()).unwrap_or_default();
        for number in earlier {
            let Some(change) = self.pending.get_mut(&number) else { continue };
            change.unlink.take_if(|unlink| unlink == key);
            change.link.retain(|(linked, _)| linked != key);
            if change.is_done() {
                self.done.insert(number);
            }
        }
    }

    fn keep(&mut self, number: u64, change: Change) {
        let keys = change.link.iter().map(|(key, _)| key).chain(&change.unlink);
        for folder in keys.map(|key| folder_of(key)) {
            match self.by_folder.get_mut(folder) {
                Some(numbers) => drop(numbers.insert(number)),
                None => drop(self.by_folder.insert(folder.to_owned(), [number].into())),
            }
        }
        self.pending.insert(number, change);
    }
}

fn folder_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}
