//! A simulated disk under redb: what it was told last, what it has for sure, and every way in which the two differ.
//!
//! What holds always: a write is seen at once and is safe only after a sync that succeeded; a power cut leaves any
//! part of what was not synced, in sectors or in pages; which part depends on the numbers handed in and on where the
//! bytes lie, never on the order in which a database happens to write its pages. Pages are shared between copies until
//! one of them changes, so that a copy of the disk costs a pointer a page. Damage to synced bytes comes only from
//! [`Disk::flip_bit`]. Left out: stale bytes in a file that grew (they read as zeros), and misdirected writes.

use crate::random::Random;
use redb::StorageBackend;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A page of the disk, in bytes.
pub const PAGE_BYTES: usize = 4096;
/// The least that a disk writes whole, in bytes.
pub const SECTOR_BYTES: usize = 512;

const PAGE: u64 = PAGE_BYTES as u64;
const SECTOR: u64 = SECTOR_BYTES as u64;

/// What a disk can do to its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// A write fails once; any part of it may be there.
    WriteError,
    /// A read fails once.
    ReadError,
    /// A sync fails once, and the system forgets what it had yet to write: any part of that is on the disk, the rest
    /// never will be, though it is still seen until the next start.
    SyncError,
    /// The power goes at a write, a change of length or a sync; nothing works from then on.
    PowerCut,
    /// The same, but at a sync: any part of what the sync was for is there.
    PowerCutAtSync,
}

/// A trouble that waits for its moment.
#[derive(Clone, Debug)]
struct Armed {
    trouble: Trouble,
    /// How many operations that it could hit pass before it does.
    passes: u64,
    chance: Random,
}

/// A disk with one file on it. Clones are the same disk; [`Disk::snapshot`] makes a copy.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

/// All that a disk holds for sure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    len: u64,
    /// What is not here is zero.
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
}

/// One change that was not synced.
#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Default)]
struct State {
    /// What a read gives.
    seen: Image,
    /// What a power cut leaves for sure, but for what `unsynced` does to it.
    safe: Image,
    unsynced: Vec<Change>,
    /// Pages that are seen but will never be written: those of a failed sync.
    forgotten: BTreeSet<u64>,
    armed: Option<Armed>,
    /// Pages that can still be taken into use; none: any number.
    free_pages: Option<u64>,
    cut: bool,
    /// Counts the users: what an earlier one does comes to nothing.
    user: u64,
    damaged: bool,
    counts: Counts,
}

/// What a disk was asked to do so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Writes and changes of length.
    pub writes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Reads.
    pub reads: u64,
    /// How often it did not do what it was asked to.
    pub troubles: u64,
}

impl Image {
    fn page_mut(&mut self, page: u64) -> &mut [u8; PAGE_BYTES] {
        Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES])))
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        for (page, within, part) in parts(offset, out.len(), PAGE) {
            match self.pages.get(&page) {
                Some(bytes) => out[part.clone()].copy_from_slice(&bytes[within..within + part.len()]),
                None => out[part].fill(0),
            }
        }
    }

    /// Writes what lies below the end; the rest is lost.
    fn write(&mut self, offset: u64, data: &[u8]) {
        let room = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(room)];
        for (page, within, part) in parts(offset, data.len(), PAGE) {
            self.page_mut(page)[within..within + part.len()].copy_from_slice(&data[part]);
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            let (last, within) = (len / PAGE, (len % PAGE) as usize);
            if within > 0 && self.pages.contains_key(&last) {
                self.page_mut(last)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// A hash of all bytes.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.len.to_le_bytes());
        for (page, bytes) in &self.pages {
            if bytes.iter().any(|byte| *byte != 0) {
                hasher.update(&page.to_le_bytes()).update(&bytes[..]);
            }
        }
        *hasher.finalize().as_bytes()
    }
}

/// The parts of a range that lie in one unit each: (number of the unit, offset in it, part of the range).
fn parts(offset: u64, len: usize, unit: u64) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (number, within) = ((offset + at as u64) / unit, (offset + at as u64) % unit);
        let part = at..len.min(at + (unit - within) as usize);
        at = part.end;
        (!part.is_empty()).then_some((number, within as usize, part))
    })
}

/// What a power cut does to what was not synced.
struct Fate {
    salt: u64,
    unit: u64,
    kept_permille: u64,
    /// How often each unit was written so far.
    written: BTreeMap<u64, u64>,
}

impl Fate {
    fn new(chance: &mut Random) -> Self {
        let kept_permille = [0, 1000, 500, 100, 900, 500][chance.below(6) as usize];
        let unit = [SECTOR, PAGE][chance.below(2) as usize];
        Self { salt: chance.next_u64(), unit, kept_permille, written: BTreeMap::new() }
    }

    fn keeps(&mut self, unit: u64) -> bool {
        let times = self.written.entry(unit).or_default();
        *times += 1;
        let place = unit.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ *times;
        Random::new(self.salt ^ place).permille(self.kept_permille)
    }
}

impl State {
    fn apply(&mut self, change: Change) {
        match &change {
            Change::Write(offset, data) => {
                self.seen.write(*offset, data);
                // A page that is written again will be written whole.
                parts(*offset, data.len(), PAGE).for_each(|(page, ..)| {
                    self.forgotten.remove(&page);
                });
            }
            Change::SetLen(len) => {
                self.seen.set_len(*len);
                self.forgotten.split_off(&len.div_ceil(PAGE));
            }
        }
        self.unsynced.push(change);
    }

    /// Lets any part of what was not synced reach the disk.
    fn settle_unsynced(&mut self, chance: &mut Random) {
        let mut fate = Fate::new(chance);
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                // A unit number that no write has: lengths have a fate of their own.
                Change::SetLen(len) if fate.keeps(u64::MAX) => self.safe.set_len(len),
                Change::SetLen(_) => {}
                Change::Write(offset, data) => {
                    for (unit, within, part) in parts(offset, data.len(), fate.unit) {
                        if fate.keeps(unit) {
                            self.safe.write(unit * fate.unit + within as u64, &data[part]);
                        }
                    }
                }
            }
        }
    }

    /// Makes everything safe that was not.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::SetLen(len) => self.safe.set_len(len),
                // A system writes whole pages, as they are seen now; the two images then share them.
                Change::Write(offset, data) => {
                    for (page, ..) in parts(offset, data.len(), PAGE) {
                        match self.seen.pages.get(&page) {
                            Some(bytes) => self.safe.pages.insert(page, bytes.clone()),
                            None => self.safe.pages.remove(&page),
                        };
                    }
                }
            }
        }
    }

    /// A sync that fails: its pages count as written, wherever they are.
    fn fail_sync(&mut self, chance: &mut Random) {
        self.settle_unsynced(chance);
        let pages: BTreeSet<u64> = self.seen.pages.keys().chain(self.safe.pages.keys()).copied().collect();
        let differ = |page: &u64| self.seen.pages.get(page) != self.safe.pages.get(page);
        self.forgotten = pages.into_iter().filter(differ).collect();
        // The length is what the file system's journal has: it is not forgotten.
        if self.safe.len != self.seen.len {
            self.unsynced.push(Change::SetLen(self.seen.len));
        }
    }

    /// The armed trouble, if it hits an operation of these kinds now.
    fn hit(&mut self, kinds: &[Trouble]) -> Option<Armed> {
        let armed = self.armed.as_mut().filter(|armed| kinds.contains(&armed.trouble))?;
        match armed.passes.checked_sub(1) {
            Some(left) => {
                armed.passes = left;
                None
            }
            None => {
                self.counts.troubles += 1;
                self.armed.take()
            }
        }
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        self.counts.writes += 1;
        self.take_room(&change)?;
        match self.hit(&[Trouble::WriteError, Trouble::PowerCut]) {
            None => {
                self.apply(change);
                Ok(())
            }
            Some(mut armed) => {
                let change = match (change, armed.trouble) {
                    (Change::Write(offset, mut data), Trouble::WriteError) => {
                        let sectors = armed.chance.below(1 + data.len() as u64 / SECTOR);
                        data.truncate((sectors * SECTOR) as usize);
                        Change::Write(offset, data)
                    }
                    (Change::SetLen(_), Trouble::WriteError) => return Err(broken()),
                    (change, _) => change,
                };
                self.apply(change);
                self.cut = armed.trouble == Trouble::PowerCut;
                Err(broken())
            }
        }
    }

    /// Takes the pages that a change needs out of the free ones.
    fn take_room(&mut self, change: &Change) -> io::Result<()> {
        let Some(free) = self.free_pages else { return Ok(()) };
        let new = match change {
            Change::Write(offset, data) => parts(*offset, data.len(), PAGE)
                .filter(|(page, ..)| !self.seen.pages.contains_key(page))
                .count() as u64,
            // A system that keeps holes lets a file grow, but not on a disk that is full already.
            Change::SetLen(len) => u64::from(*len > self.seen.len && free == 0),
        };
        let Some(left) = free.checked_sub(new) else {
            self.counts.troubles += 1;
            return Err(io::ErrorKind::StorageFull.into());
        };
        if matches!(change, Change::Write(..)) {
            self.free_pages = Some(left);
        }
        Ok(())
    }
}

fn broken() -> io::Error {
    io::Error::other("a simulated fault")
}

fn gone() -> io::Error {
    io::Error::other("there is no power")
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk for a new user; what the one before still does comes to nothing.
    pub fn user(&self) -> DiskUser {
        let mut state = self.state();
        state.user += 1;
        DiskUser { disk: self.clone(), user: state.user }
    }

    /// Lets a trouble hit after `passes` operations that it could hit; replaces one that waits. `chance` decides how
    /// much of what is under way then reaches the disk.
    pub fn arm(&self, trouble: Trouble, passes: u64, chance: Random) {
        self.state().armed = Some(Armed { trouble, passes, chance });
    }

    /// Takes back a trouble that waits; whether there was one.
    pub fn disarm(&self) -> bool {
        self.state().armed.take().is_some()
    }

    /// Whether a trouble has cut the power, and it is still gone.
    pub fn is_cut(&self) -> bool {
        self.state().cut
    }

    /// How many pages more the file can take into use; none: any number.
    pub fn set_free_pages(&self, pages: Option<u64>) {
        self.state().free_pages = pages;
    }

    /// The power goes, and comes again: any part of what was not synced is there. The user is gone.
    pub fn power_cut(&self, chance: &mut Random) {
        let mut state = self.state();
        state.settle_unsynced(chance);
        state.seen = state.safe.clone();
        state.forgotten.clear();
        (state.armed, state.cut) = (None, false);
        state.user += 1;
    }

    /// The user is killed and the system goes on: what was written is there, and still not synced. Of pages that a
    /// failed sync forgot, the system may drop its copies.
    pub fn kill(&self, chance: &mut Random) {
        let mut state = self.state();
        if state.cut {
            drop(state);
            return self.power_cut(chance);
        }
        let salt = chance.next_u64();
        let dropped: Vec<u64> = state.forgotten.iter().copied().collect();
        for page in dropped {
            if Random::new(salt ^ page).below(2) == 0 {
                state.forgotten.remove(&page);
                match state.safe.pages.get(&page).cloned() {
                    Some(bytes) => state.seen.pages.insert(page, bytes),
                    None => state.seen.pages.remove(&page),
                };
            }
        }
        state.armed = None;
        state.user += 1;
    }

    /// What the disk holds for sure at this moment.
    pub fn snapshot(&self) -> Image {
        self.state().safe.clone()
    }

    /// Puts an earlier copy in place of everything. The user is gone.
    pub fn restore(&self, image: &Image) {
        let mut state = self.state();
        let (counts, user, damaged) = (state.counts, state.user + 1, state.damaged);
        let (seen, safe) = (image.clone(), image.clone());
        *state = State { seen, safe, user, counts, damaged, ..State::default() };
    }

    /// Damages one bit of what is safe; false if there is no such byte.
    pub fn flip_bit(&self, at: u64, bit: u8) -> bool {
        let mut state = self.state();
        if at >= state.safe.len {
            return false;
        }
        let flip = |image: &mut Image| image.page_mut(at / PAGE)[(at % PAGE) as usize] ^= 1 << (bit % 8);
        if at < state.seen.len {
            flip(&mut state.seen);
        }
        flip(&mut state.safe);
        state.damaged = true;
        true
    }

    /// Whether a bit was ever flipped: then the database may refuse the file.
    pub fn is_damaged(&self) -> bool {
        self.state().damaged
    }

    /// Whether a page was forgotten by a failed sync and is still seen.
    pub fn has_forgotten(&self) -> bool {
        !self.state().forgotten.is_empty()
    }

    /// The length of the file that is safe, in bytes.
    pub fn safe_len(&self) -> u64 {
        self.state().safe.len
    }

    /// What the disk was asked to do so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }
}

/// A disk as its user has it: the file that a database is in.
#[derive(Debug)]
pub struct DiskUser {
    disk: Disk,
    user: u64,
}

impl DiskUser {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        match state.cut || state.user != self.user {
            true => Err(gone()),
            false => Ok(state),
        }
    }
}

impl StorageBackend for DiskUser {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.seen.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state()?;
        state.counts.reads += 1;
        if state.hit(&[Trouble::ReadError]).is_some() {
            return Err(broken());
        }
        if offset + out.len() as u64 > state.seen.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        state.seen.read(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state()?.change(Change::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.counts.syncs += 1;
        match state.hit(&[Trouble::SyncError, Trouble::PowerCut, Trouble::PowerCutAtSync]) {
            None => state.sync(),
            Some(mut armed) if armed.trouble == Trouble::SyncError => {
                state.fail_sync(&mut armed.chance);
                return Err(broken());
            }
            Some(_) => {
                state.cut = true;
                return Err(gone());
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        if offset + data.len() as u64 > state.seen.len {
            let len = offset + data.len() as u64;
            state.change(Change::SetLen(len))?;
        }
        state.change(Change::Write(offset, data.to_vec()))
    }
}
