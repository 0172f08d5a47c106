//! What a simulated node keeps: light, in memory, or full, in redb on a simulated [`Disk`].
//!
//! What holds always: an omniscient shadow remembers every commit, so that after each crash what is found is compared
//! with what was acknowledged (S3) and must be the state after some commit, never a mix (S4). A store that failed
//! stays failed until it is opened again, as the real one does. Left out: what the engine makes of it, and a crash
//! while a database is made for the first time.

use crate::disk::{Disk, Image, Trouble};
use crate::plan::Fidelity;
use crate::random::Random;
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tcat_engine::planted::Planted;
use tcat_engine::store::{Change, MemoryStore, Pair, Store, StoreError, Table};
use tcat_storage::node_database::NodeDatabase;

/// How often the power may go again while a database recovers from the last time.
const CUTS_IN_RECOVERY_MAX: u64 = 3;

/// The store of a simulated node.
#[derive(Debug)]
pub struct SimStore {
    planted: Planted,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Light(Light),
    Full(Full),
}

/// A store in memory, and its own troubles.
#[derive(Debug)]
struct Light {
    state: MemoryStore<Planted>,
    /// After so many commits one fails; the numbers decide whether it is there nevertheless.
    fails: RefCell<Option<(u64, Random)>>,
    /// After so many reads one fails.
    read_fails: Cell<Option<u64>>,
    failed: Cell<bool>,
}

#[derive(Debug)]
struct Full {
    disk: Disk,
    /// None while it is closed, and after it could not be opened.
    database: Option<NodeDatabase<Planted>>,
    /// What every acknowledged commit has made; shared with those that are the same store.
    shadow: Arc<Mutex<Shadow>>,
    /// How often the disk had done something to its user when it was opened last.
    troubles_before: u64,
}

/// How the use of a store ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The power goes, and comes again, perhaps more than once.
    PowerCut,
    /// The process is killed, the system goes on.
    Kill,
    /// It is stopped in order; a trouble that waits may hit its last word.
    Stop,
}

/// What the commits have made so far, and how it was after each since the store was opened.
#[derive(Clone, Debug)]
struct Shadow {
    state: MemoryStore<Planted>,
    sum: StateSum,
    /// The states before `sum`, since what was found last was known to be whole.
    earlier: Vec<StateSum>,
    /// The commit that failed: it may be there or not.
    in_doubt: Option<Vec<Change>>,
    doubts: Doubts,
}

/// What became of commits that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Doubts {
    /// They are there.
    pub kept: u64,
    /// They are not.
    pub lost: u64,
}

/// A hash of a whole state that follows each change: the sum of the hashes of all pairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StateSum(u128);

/// What a store must never do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Breach {
    /// Acknowledged commits are gone.
    #[error("S3: of what was acknowledged the last {lost} commits are gone")]
    Lost {
        /// How many commits before the last acknowledged one the found state ends.
        lost: usize,
    },
    /// What is there is no state that there ever was.
    #[error("S4: what is found is the state after no commit: {0}")]
    Mixed(String),
    /// Nothing can be read, though the disk was never damaged.
    #[error("S3: the database does not open after a crash: {0}")]
    Refused(String),
}

impl Breach {
    /// The invariant that it breaks.
    pub fn invariant(&self) -> &'static str {
        match self {
            Breach::Lost { .. } | Breach::Refused(_) => "S3",
            Breach::Mixed(_) => "S4",
        }
    }
}

/// A store as it was at a time.
#[derive(Clone, Debug)]
pub struct Snapshot(Kept);

#[derive(Clone, Debug)]
enum Kept {
    Light(MemoryStore<Planted>),
    Full(Shadow, Image),
}

impl StateSum {
    fn toggle(&mut self, table: Table, key: &[u8], value: &[u8], there: bool) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[table as u8]).update(&(key.len() as u64).to_le_bytes()).update(key).update(value);
        let mut half = [0; 16];
        half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        let hash = u128::from_le_bytes(half);
        self.0 = if there { self.0.wrapping_add(hash) } else { self.0.wrapping_sub(hash) };
    }

    /// The sum of a store, read whole.
    pub fn of(store: &impl Store) -> Result<Self, StoreError> {
        let mut sum = Self::default();
        for table in Table::ALL {
            for (key, value) in store.range(table, b"", b"", usize::MAX)? {
                sum.toggle(table, &key, &value, true);
            }
        }
        Ok(sum)
    }
}

impl Shadow {
    fn new(planted: Planted) -> Self {
        let state = MemoryStore::planted(planted);
        let (sum, doubts) = (StateSum::default(), Doubts::default());
        Self { state, sum, earlier: Vec::new(), in_doubt: None, doubts }
    }

    fn sum_after(&self, changes: &[Change]) -> StateSum {
        let mut after = std::collections::BTreeMap::new();
        for change in changes {
            after.insert((change.table, &change.key), &change.value);
        }
        let mut sum = self.sum;
        for ((table, key), value) in after {
            if let Ok(Some(old)) = self.state.get(table, key) {
                sum.toggle(table, key, &old, false);
            }
            value.iter().for_each(|value| sum.toggle(table, key, value, true));
        }
        sum
    }

    fn commit(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.earlier.push(self.sum);
        self.sum = self.sum_after(&changes);
        self.state.commit(changes)
    }

    /// Compares what was found with what must be there, and takes it for the truth.
    fn compare(&mut self, found: &impl Store) -> Result<(), Breach> {
        let refused = |error: StoreError| Breach::Refused(error.0);
        let sum = StateSum::of(found).map_err(refused)?;
        let in_doubt = self.in_doubt.take();
        if sum != self.sum {
            let after = in_doubt.as_ref().map(|changes| self.sum_after(changes));
            match (after == Some(sum), in_doubt) {
                (true, Some(changes)) => {
                    self.doubts.kept += 1;
                    self.commit(changes).map_err(refused)?
                }
                _ => {
                    let breach = self.what_is_wrong(found, sum);
                    self.adopt(found).map_err(refused)?;
                    return Err(breach);
                }
            }
        } else {
            self.doubts.lost += u64::from(in_doubt.is_some());
        }
        self.earlier.clear();
        Ok(())
    }

    /// Takes what was found for the truth, whatever it is.
    fn adopt(&mut self, found: &impl Store) -> Result<(), StoreError> {
        (self.state, self.sum) = (MemoryStore::planted(*self.state.plants()), StateSum::default());
        for table in Table::ALL {
            let pairs = found.range(table, b"", b"", usize::MAX)?;
            let changes = pairs.into_iter().map(|(key, value)| Change { table, key, value: Some(value) });
            self.commit(changes.collect())?;
        }
        self.earlier.clear();
        Ok(())
    }

    fn what_is_wrong(&self, found: &impl Store, sum: StateSum) -> Breach {
        if let Some(lost) = self.earlier.iter().rev().position(|earlier| *earlier == sum) {
            return Breach::Lost { lost: lost + 1 };
        }
        let all =
            |store: &dyn Fn(Table) -> Result<Vec<Pair>, StoreError>, table| store(table).unwrap_or_default();
        for table in Table::ALL {
            let is = all(&|table| found.range(table, b"", b"", usize::MAX), table);
            let due = all(&|table| self.state.range(table, b"", b"", usize::MAX), table);
            if let Some((is, due)) = is.iter().zip(&due).find(|(is, due)| is != due) {
                return Breach::Mixed(format!(
                    "{table:?}: the key {:02x?} where {:02x?} is due",
                    is.0, due.0
                ));
            }
            if is.len() != due.len() {
                return Breach::Mixed(format!("{table:?}: {} pairs where {} are due", is.len(), due.len()));
            }
        }
        Breach::Mixed("the sums differ".into())
    }
}

impl SimStore {
    /// A new store in memory.
    pub fn light(planted: Planted) -> Self {
        Self { planted, kind: Kind::Light(Light::of(MemoryStore::planted(planted))) }
    }

    /// A new store in redb on a simulated disk of its own.
    pub fn full(planted: Planted) -> Result<Self, StoreError> {
        let mut store = Self::closed(planted, Fidelity::Full);
        store.open_full().map_err(StoreError)?;
        Ok(store)
    }

    /// A new store that has to be opened before it is used.
    pub fn closed(planted: Planted, fidelity: Fidelity) -> Self {
        match fidelity {
            Fidelity::Light => Self::light(planted),
            Fidelity::Full => {
                let shadow = Arc::new(Mutex::new(Shadow::new(planted)));
                let full = Full { disk: new_disk(), database: None, shadow, troubles_before: 0 };
                Self { planted, kind: Kind::Full(full) }
            }
        }
    }

    /// The same contents with other planted defects, once it is opened again.
    pub fn plant(&mut self, planted: Planted) {
        self.planted = planted;
        if let Kind::Light(light) = &mut self.kind {
            let state = std::mem::replace(&mut light.state, MemoryStore::planted(planted));
            light.state = state.with_plants(planted);
        }
    }

    /// The same store once more, closed, for whoever may lose this one; none of a store without a disk. Only one of
    /// the two may be used from then on.
    pub fn same(&self) -> Option<Self> {
        let Kind::Full(full) = &self.kind else { return None };
        let (disk, shadow) = (full.disk.clone(), Arc::clone(&full.shadow));
        let kind = Kind::Full(Full { disk, database: None, shadow, troubles_before: full.troubles_before });
        Some(Self { planted: self.planted, kind })
    }

    /// Whether there is a disk below.
    pub fn is_full(&self) -> bool {
        matches!(self.kind, Kind::Full(_))
    }

    /// The disk below, if there is one.
    pub fn disk(&self) -> Option<&Disk> {
        match &self.kind {
            Kind::Light(_) => None,
            Kind::Full(full) => Some(&full.disk),
        }
    }

    /// What became of the commits of a full store that failed so far.
    pub fn doubts(&self) -> Doubts {
        match &self.kind {
            Kind::Light(_) => Doubts::default(),
            Kind::Full(full) => full.shadow().doubts,
        }
    }

    /// Lets a trouble hit after `passes` more operations of its kind (in a light store: commits or reads).
    pub fn arm(&self, trouble: Trouble, passes: u64, chance: Random) {
        match &self.kind {
            Kind::Full(full) => full.disk.arm(trouble, passes, chance),
            Kind::Light(light) if trouble == Trouble::ReadError => light.read_fails.set(Some(passes)),
            Kind::Light(light) => *light.fails.borrow_mut() = Some((passes, chance)),
        }
    }

    /// The disk is full, or no longer. A light store's next commit fails.
    pub fn set_disk_full(&self, is_full: bool) {
        match &self.kind {
            Kind::Full(full) => full.disk.set_free_pages(is_full.then_some(0)),
            Kind::Light(light) => {
                *light.fails.borrow_mut() = is_full.then(|| (0, Random::new(0)));
            }
        }
    }

    /// No trouble waits any more, and there is room.
    pub fn calm(&self) {
        match &self.kind {
            Kind::Full(full) => {
                full.disk.disarm();
                full.disk.set_free_pages(None);
            }
            Kind::Light(light) => {
                *light.fails.borrow_mut() = None;
                light.read_fails.set(None);
            }
        }
    }

    /// Whether a trouble hit it since it was opened last: then it may fail, and else it must not.
    pub fn is_troubled(&self) -> bool {
        match &self.kind {
            Kind::Light(light) => light.failed.get(),
            Kind::Full(full) => full.disk.is_cut() || full.disk.counts().troubles > full.troubles_before,
        }
    }

    /// The power goes and comes again, perhaps more than once; then the store is opened. An error is a breach of what
    /// the store promises, but for [`Breach::Refused`] on a disk that is damaged.
    pub fn crash(&mut self, chance: &mut Random) -> Result<(), Breach> {
        self.end(Ending::PowerCut, chance);
        self.open()
    }

    /// The process is killed, the system goes on; then the store is opened.
    pub fn kill(&mut self, chance: &mut Random) -> Result<(), Breach> {
        self.end(Ending::Kill, chance);
        self.open()
    }

    /// Stops it in order and opens it again; a trouble that waits may hit its last word. Where the power is gone
    /// already this is a crash.
    pub fn reopen(&mut self, chance: &mut Random) -> Result<(), Breach> {
        self.end(Ending::Stop, chance);
        self.open()
    }

    /// Ends its use; what it keeps is what that leaves.
    pub fn end(&mut self, how: Ending, chance: &mut Random) {
        match (&mut self.kind, how) {
            (Kind::Light(light), _) => light.calm_down(),
            (Kind::Full(full), Ending::Stop) => {
                full.database = None;
                full.disk.disarm();
                if full.disk.is_cut() {
                    full.disk.power_cut(chance);
                }
            }
            (Kind::Full(full), Ending::Kill) => {
                full.close();
                full.disk.kill(chance);
            }
            (Kind::Full(_), Ending::PowerCut) => self.cut_power(chance),
        }
    }

    fn cut_power(&mut self, chance: &mut Random) {
        let Some(disk) = self.close() else { return };
        disk.power_cut(chance);
        for _ in 0..CUTS_IN_RECOVERY_MAX {
            if chance.below(8) > 0 {
                break;
            }
            let passes = chance.below(12);
            disk.arm(Trouble::PowerCut, passes, Random::new(chance.next_u64()));
            // Whether this went through does not matter: the power goes now or went before.
            let _ = self.open_full();
            self.close();
            disk.power_cut(chance);
        }
    }

    /// The store as it is, for [`SimStore::restore`], here or in another store of the same kind.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(match &self.kind {
            Kind::Light(light) => Kept::Light(light.state.clone()),
            Kind::Full(full) => Kept::Full(full.shadow().clone(), full.disk.snapshot()),
        })
    }

    /// Puts an earlier state in place of the present one, as a backup does, and opens it.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Breach> {
        self.put_back(snapshot);
        self.open()
    }

    /// The same, and leaves it closed. The snapshot of a store of the other kind changes nothing.
    pub fn put_back(&mut self, snapshot: &Snapshot) {
        match (&mut self.kind, &snapshot.0) {
            (Kind::Light(light), Kept::Light(state)) => *light = Light::of(state.clone()),
            (Kind::Full(full), Kept::Full(shadow, image)) => {
                full.close();
                full.disk.restore(image);
                *full.shadow() = shadow.clone();
            }
            _ => {}
        }
    }

    /// Forgets everything, as a disk that was replaced.
    pub fn wipe(&mut self) -> Result<(), Breach> {
        self.clear();
        self.open()
    }

    /// The same, and leaves it closed.
    pub fn clear(&mut self) {
        let fidelity = if self.is_full() { Fidelity::Full } else { Fidelity::Light };
        self.put_back(&Self::closed(self.planted, fidelity).snapshot());
    }

    /// Ends the use of the disk without a last word from the database.
    fn close(&mut self) -> Option<Disk> {
        let Kind::Full(full) = &mut self.kind else { return None };
        full.close();
        Some(full.disk.clone())
    }

    fn open_full(&mut self) -> Result<(), String> {
        let Kind::Full(full) = &mut self.kind else { return Ok(()) };
        full.troubles_before = full.disk.counts().troubles;
        let database = NodeDatabase::on_backend(full.disk.user()).map_err(|error| error.to_string())?;
        full.database = Some(database.planted(self.planted));
        Ok(())
    }

    /// Opens it and compares what is there with what must be. After a breach that it can be read in spite of, what is
    /// there counts from then on.
    pub fn open(&mut self) -> Result<(), Breach> {
        self.open_full().map_err(Breach::Refused)?;
        match &mut self.kind {
            Kind::Light(light) => {
                light.calm_down();
                Ok(())
            }
            Kind::Full(full) => match &full.database {
                Some(database) => full.shadow().compare(database),
                None => Ok(()),
            },
        }
    }
}

/// A disk with an empty database on it: those that ship are made under another name and put in place whole.
fn new_disk() -> Disk {
    static NEW: OnceLock<Image> = OnceLock::new();
    let image = NEW.get_or_init(|| {
        let disk = Disk::default();
        // One that cannot be made is seen when it is opened.
        drop(NodeDatabase::on_backend(disk.user()));
        disk.snapshot()
    });
    let disk = Disk::default();
    disk.restore(image);
    disk
}

impl Full {
    fn shadow(&self) -> MutexGuard<'_, Shadow> {
        self.shadow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&mut self) {
        // A new user: what the old one still writes, when it is dropped, comes to nothing.
        drop(self.disk.user());
        self.database = None;
    }
}

fn closed() -> StoreError {
    StoreError("the store is closed: open it again".into())
}

impl Light {
    fn of(state: MemoryStore<Planted>) -> Self {
        let (fails, read_fails, failed) = (RefCell::new(None), Cell::new(None), Cell::new(false));
        Self { state, fails, read_fails, failed }
    }

    fn calm_down(&mut self) {
        *self.fails.get_mut() = None;
        self.read_fails.set(None);
        self.failed.set(false);
    }

    fn check_read(&self) -> Result<(), StoreError> {
        match self.read_fails.get() {
            _ if self.failed.get() => return Err(closed()),
            Some(0) => {
                self.failed.set(true);
                return Err(StoreError("a simulated fault".into()));
            }
            passes => self.read_fails.set(passes.map(|passes| passes - 1)),
        }
        Ok(())
    }

    /// None: the commit goes on; else whether what fails now is there nevertheless.
    fn commit_fails(&mut self) -> Option<bool> {
        let (passes, chance) = self.fails.get_mut().as_mut()?;
        match passes.checked_sub(1) {
            Some(left) => {
                *passes = left;
                None
            }
            None => Some(chance.below(2) == 0),
        }
    }
}

impl Store for SimStore {
    type Plants = Planted;

    fn plants(&self) -> &Planted {
        &self.planted
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.kind {
            Kind::Light(light) => light.check_read().and_then(|()| light.state.get(table, key)),
            Kind::Full(full) => full.database.as_ref().ok_or_else(closed)?.get(table, key),
        }
    }

    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        match &self.kind {
            Kind::Light(light) => light.check_read().and_then(|()| light.state.range(table, from, to, limit)),
            Kind::Full(full) => full.database.as_ref().ok_or_else(closed)?.range(table, from, to, limit),
        }
    }

    fn commit(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        match &mut self.kind {
            Kind::Light(light) => {
                if light.failed.get() {
                    return Err(closed());
                }
                match light.commit_fails() {
                    None => return light.state.commit(changes),
                    Some(there) => {
                        light.failed.set(true);
                        if there {
                            light.state.commit(changes)?;
                        }
                    }
                }
                Err(StoreError("a simulated fault".into()))
            }
            Kind::Full(full) => {
                let database = full.database.as_mut().ok_or_else(closed)?;
                let done = database.commit(changes.clone());
                let mut shadow = full.shadow();
                match done {
                    Ok(()) => {
                        shadow.in_doubt = None;
                        shadow.commit(changes)
                    }
                    Err(error) => {
                        // Of a handle that failed before nothing was tried.
                        shadow.in_doubt.get_or_insert(changes);
                        Err(error)
                    }
                }
            }
        }
    }
}
