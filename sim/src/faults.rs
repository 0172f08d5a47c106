//! What goes wrong in a world beside its network.

use std::collections::BTreeSet;
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::Effect;

/// Faults, as they are now; change them while the world runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// How many of a thousand effects are not done, and say so.
    pub failed_permille: u64,
    /// How many of a thousand effects are done, and say that they failed.
    pub lost_permille: u64,
    /// How many of a thousand effects find a person at their file, just before or just after.
    pub meddled_permille: u64,
    /// The longest that the engine has to wait for what a look saw, if that is longer than usual.
    pub look_ms_max: u64,
    /// Nobody reaches the catalog and its objects.
    pub catalog_away: bool,
    /// The node that alone does not reach them.
    pub lagging: Option<usize>,
    /// The node whose disk is full.
    pub full_disk: Option<usize>,
    /// The node whose media folder is not mounted.
    pub unmounted: Option<usize>,
}

impl Faults {
    /// Whether node `n` cannot do the effect now.
    pub fn denies(&self, n: usize, effect: &Effect) -> bool {
        let catalog = matches!(
            effect,
            Effect::ReadFeed { .. }
                | Effect::VisitRoster(_)
                | Effect::Create(_)
                | Effect::Repath(_)
                | Effect::Intend(_)
                | Effect::Put { .. }
                | Effect::Commit(_)
                | Effect::Get { .. }
                | Effect::Kill(_)
                | Effect::Delete { .. }
                | Effect::Unsound(_)
                | Effect::NewEpoch(_)
                | Effect::Offer(_)
        );
        let disk = matches!(
            effect,
            Effect::Get { .. } | Effect::Fetch { .. } | Effect::Untrash { .. } | Effect::Borrow { .. }
        );
        let folder = matches!(
            effect,
            Effect::Put { .. }
                | Effect::Untrash { .. }
                | Effect::Publish(_)
                | Effect::Trash { .. }
                | Effect::SetAside { .. }
                | Effect::Move { .. }
        );
        let unmounted = self.unmounted == Some(n) && (folder || disk);
        unmounted
            || (catalog && (self.catalog_away || self.lagging == Some(n)))
            || (disk && self.full_disk == Some(n))
    }
}

/// The file that an effect is about; of two, the one that it begins with.
pub fn place_of(effect: &Effect) -> Option<&MediaPath> {
    match effect {
        Effect::Put { path, .. }
        | Effect::Trash { path, .. }
        | Effect::SetAside { path, .. }
        | Effect::Move { path, .. } => Some(path),
        Effect::Publish(publish) => Some(&publish.path),
        Effect::Create(new) => Some(&new.asked_path),
        _ => None,
    }
}

/// Every pair of one of `some` and one of `others`, both ways: cuts that split a network.
pub fn split(some: &[usize], others: &[usize]) -> BTreeSet<(usize, usize)> {
    let pairs = some.iter().flat_map(|a| others.iter().map(move |b| (*a, *b)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}
