//! Contents for tests: random, reproducible by their seed, and written as a careful program writes.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64, for choices and contents.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A generator with a new seed, which is printed so that a failure can be repeated with `TCAT_TEST_SEED`.
    pub fn new() -> Self {
        let given = std::env::var("TCAT_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            since.as_nanos() as u64
        });
        eprintln!("TCAT_TEST_SEED={seed}");
        Self(seed)
    }

    /// The next 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }

    /// `size` bytes that nothing compresses.
    pub fn bytes(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            bytes.extend(self.number().to_le_bytes());
        }
        bytes.truncate(size);
        bytes
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

/// Saves a file as careful programs do: whole under an ignored name, then renamed over what was there.
pub fn save(path: &Path, bytes: &[u8]) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().unwrap();
    fs::create_dir_all(folder).unwrap();
    let draft = folder.join(format!(".draft {}", COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::write(&draft, bytes).unwrap();
    fs::rename(&draft, path).unwrap();
}
