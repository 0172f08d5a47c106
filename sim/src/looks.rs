//! Looks at a node's files: of single paths, and of all. They take time, and one is made after the other.

use crate::random::Stream;
use crate::world::{Happening, World};
use tcat_engine::observation::{Observation, Seen};
use tcat_engine::paths::MediaPath;
use tcat_engine::ports::Input;

impl World {
    /// How long another look has to wait, if one is under way.
    pub(crate) fn looking(&self, node: usize) -> Option<u64> {
        let ms = self.nodes[node].looking_until_ms.saturating_sub(self.now_ms());
        (ms > 0).then_some(ms)
    }

    /// Looks at single paths now; the engine hears of it later. Where the folder is not there nothing is said of them, as by
    /// the scanner that ships: only the next full scan tells.
    pub(crate) fn look(&mut self, node: usize, life: u64, paths: &[MediaPath]) {
        let observations: Vec<_> = paths.iter().map(|path| self.look_at(node, path)).collect();
        let since_ms = self.mono_ms(node);
        let ms = self.looks_for(node, 50, &observations);
        if !self.is_unmounted(node) {
            let input = Input::Observed { since_ms, observations };
            self.later(ms, Happening::Input { node, life, input: Box::new(input) });
        }
    }

    /// Looks at all of them.
    pub(crate) fn scan(&mut self, node: usize, life: u64) {
        if self.faults.unmounted == Some(node) {
            let input = Input::ScanFailed("the media folder is gone".into());
            return self.later(1, Happening::Input { node, life, input: Box::new(input) });
        }
        let (observations, coverage) = self.folder(node).scan();
        self.begin_scan(node);
        let observations: Vec<_> = observations.iter().map(|seen| self.look_at(node, &seen.path)).collect();
        let ms = self.looks_for(node, 200, &observations);
        if self.is_unmounted(node) {
            let input = Box::new(Input::ScanFailed("the media folder is not there".into()));
            return self.later(ms, Happening::Input { node, life, input });
        }
        for page in observations.chunks(512) {
            let input = Input::Observed { since_ms: self.mono_ms(node), observations: page.to_vec() };
            self.later(ms, Happening::Input { node, life, input: Box::new(input) });
        }
        self.later(ms, Happening::Input { node, life, input: Box::new(Input::Scanned(coverage)) });
    }

    fn mono_ms(&self, node: usize) -> u64 {
        self.nodes[node].clock.now(self.now_ms()).mono_ms
    }

    fn looks_for(&mut self, node: usize, least_ms: u64, seen: &[Observation]) -> u64 {
        let most_ms = least_ms.max(self.faults.look_ms_max).max(self.slow_looks_ms(node));
        let contents = seen.iter().filter_map(|observation| match observation.seen {
            Seen::File { content, .. } => Some(content),
            _ => None,
        });
        let ms = self.streams.of(Stream::Look, node).below(most_ms) + self.hashing_ms(node, contents);
        self.nodes[node].looking_until_ms = self.now_ms() + ms;
        ms
    }
}
