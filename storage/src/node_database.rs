//! The node database: the engine's [`Store`] on disk, one redb file a workgroup.
//!
//! What holds always: one [`Store::commit`] is one durable transaction, a range is read from one snapshot, and after
//! a write that the disk refused nothing more is read or written through this handle, since what the disk holds is
//! then unknown until the file is opened anew. Not here: what keys and values mean; that is the engine's.

use crate::database::{self, DatabaseError, Format, explain};
use redb::{Database, Durability, ReadableDatabase, StorageBackend, TableDefinition, TableError};
use std::path::Path;
use tcat_engine::planted::{Bug, Plants, Sound};
use tcat_engine::store::{Change, Pair, Store, StoreError, Table};

/// The format of the tables below.
const FORMAT: Format = Format {
    name: "node database",
    version: 1,
    cache_bytes: 64 << 20,
    if_lost: "restore it from a backup, or move it away and join the workgroup again; media files are not touched",
};

type BytesTable<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

/// The name of the redb table that keeps `table`: its number, which the engine made part of the disk format.
fn name(table: Table) -> String {
    format!("engine-{}", table as u8)
}

/// The engine's store in a redb file.
#[derive(Debug)]
pub struct NodeDatabase<P = Sound> {
    database: Database,
    plants: P,
    /// Why this handle is of no more use.
    failed: Option<String>,
}

impl NodeDatabase {
    /// Opens the database at `path` and checks it whole.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        database::open(path, &FORMAT).map(Self::of)
    }

    /// Creates an empty database at `path`, where nothing may be.
    pub fn create(path: &Path) -> Result<Self, DatabaseError> {
        database::create(path, &FORMAT).map(Self::of)
    }

    /// The same on storage other than a file, as the simulator has it: created if the storage is empty, else opened.
    pub fn on_backend(backend: impl StorageBackend) -> Result<Self, DatabaseError> {
        database::on_backend(backend, Path::new("node database"), &FORMAT).map(Self::of)
    }

    fn of(database: Database) -> Self {
        Self { database, plants: Sound, failed: None }
    }

    /// The same database with planted defects.
    pub fn planted<P: Plants>(self, plants: P) -> NodeDatabase<P> {
        NodeDatabase { plants, database: self.database, failed: self.failed }
    }
}

impl<P: Plants> NodeDatabase<P> {
    fn usable(&self) -> Result<(), StoreError> {
        match &self.failed {
            Some(why) => Err(StoreError(format!("an earlier write failed: {why}"))),
            None => Ok(()),
        }
    }

    /// Runs `read` on a snapshot of `table`; `None` if nothing was ever written to it.
    fn reading<T>(
        &self,
        table: Table,
        read: impl FnOnce(&redb::ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, redb::Error>,
    ) -> Result<Option<T>, StoreError> {
        self.usable()?;
        let attempt = || -> Result<Option<T>, redb::Error> {
            let transaction = self.database.begin_read()?;
            match transaction.open_table(BytesTable::new(&name(table))) {
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                opened => read(&opened?).map(Some),
            }
        };
        attempt().map_err(|error| StoreError(explain(&error)))
    }

    fn write(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        if P::POSSIBLE && self.plants.has(Bug::AckBeforeSync) {
            transaction.set_durability(Durability::None)?;
        }
        for table in Table::ALL {
            let mut own = changes.iter().filter(|change| change.table == table).peekable();
            if own.peek().is_none() {
                continue;
            }
            let mut opened = transaction.open_table(BytesTable::new(&name(table)))?;
            for change in own {
                match &change.value {
                    Some(value) => opened.insert(change.key.as_slice(), value.as_slice())?,
                    None => opened.remove(change.key.as_slice())?,
                };
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl<P: Plants> Store for NodeDatabase<P> {
    type Plants = P;

    fn plants(&self) -> &P {
        &self.plants
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.reading(table, |rows| Ok(rows.get(key)?.map(|value| value.value().to_vec())))?;
        Ok(found.flatten())
    }

    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        if !to.is_empty() && from >= to {
            return self.usable().map(|()| Vec::new());
        }
        let pairs = self.reading(table, |rows| {
            let range = if to.is_empty() { rows.range(from..)? } else { rows.range(from..to)? };
            let copied = range.take(limit).map(|pair| {
                let (key, value) = pair?;
                Ok((key.value().to_vec(), value.value().to_vec()))
            });
            copied.collect()
        })?;
        Ok(pairs.unwrap_or_default())
    }

    fn commit(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.usable()?;
        if changes.is_empty() {
            return Ok(());
        }
        self.write(&changes).map_err(|error| {
            let why = explain(&error);
            // A value that is too large is refused before anything is written; all else leaves the disk unknown.
            if !matches!(error, redb::Error::ValueTooLarge(_)) {
                self.failed = Some(why.clone());
            }
            StoreError(why)
        })
    }
}
