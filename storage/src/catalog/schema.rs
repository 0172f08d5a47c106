//! The catalog's tables in SQLite, and their versions.
//!
//! Names and columns of the seeds' tables are kept: `tcat_import`, `tcat_media`, `tcat_workgroups`,
//! `tcat_workgroup_clients` (the seeds' `uploadData` is called `uploadDate`, as it was meant); the other
//! tables are tcat's own. How facts are written (by [`super::rows`]):
//! - ids of items, objects, catalogs and workgroups: lower-case GUID text with hyphens; clients: 64 hex
//!   digits;
//! - MD5: base64, as the ancestor has it; BLAKE3: 64 hex digits;
//! - revision: `CLIENT.INCARNATION.COUNTER`, the latter two as 16 hex digits each, so that a person can read
//!   it and text order within a client is the order of writing; `vectorClock` is the same without the client;
//! - dates: UTC in RFC 3339; states: lower case with `-` between words.
//!
//! A version is raised with every change of the tables, together with the step that brings older files there.
//! Not here: any operation.

/// The version of the tables below.
pub(super) const VERSION: i64 = 1;

/// Makes all tables; run once, within one transaction, in an empty file.
pub(super) const CREATE: &str = r"
CREATE TABLE tcat_meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tcat_catalogs (
    id TEXT PRIMARY KEY,
    epochNumber INTEGER NOT NULL,
    epochId TEXT NOT NULL,
    createdDate TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tcat_workgroups (
    catalog_id TEXT NOT NULL REFERENCES tcat_catalogs (id),
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    serverPath TEXT NOT NULL,
    cacheRoot TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tcat_workgroup_clients (
    workgroup TEXT NOT NULL REFERENCES tcat_workgroups (id),
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    foldedName TEXT NOT NULL,
    vectorClock TEXT NOT NULL DEFAULT '',
    admittedDate TEXT NOT NULL,
    PRIMARY KEY (workgroup, id),
    UNIQUE (workgroup, foldedName)
) STRICT, WITHOUT ROWID;

CREATE TABLE tcat_media (
    catalogId TEXT NOT NULL REFERENCES tcat_catalogs (id),
    id TEXT NOT NULL,
    virtualPath TEXT NOT NULL,
    contentType TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'active', 'kill-request', 'kill-wip', 'kill-complete')),
    md5 TEXT NOT NULL,
    owner TEXT CHECK ((owner IS NOT NULL) = (state = 'pending')),
    revision TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    blake3 TEXT,
    objectId TEXT,
    generation INTEGER NOT NULL CHECK (generation >= 0),
    cachePath TEXT NOT NULL,
    foldedPath TEXT NOT NULL,
    claimEpoch INTEGER NOT NULL CHECK (claimEpoch >= 0),
    upload INTEGER NOT NULL CHECK (upload IN (0, 1)),
    versionOf TEXT,
    PRIMARY KEY (catalogId, id),
    UNIQUE (catalogId, foldedPath),
    UNIQUE (catalogId, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE tcat_import (
    catalogId TEXT NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending-create', 'pending-upload', 'pending-repair', 'complete')),
    md5 TEXT NOT NULL,
    sourceServer TEXT NOT NULL,
    sourcePath TEXT NOT NULL,
    uploadDate TEXT,
    source TEXT NOT NULL,
    PRIMARY KEY (catalogId, id),
    FOREIGN KEY (catalogId, id) REFERENCES tcat_media (catalogId, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- What follows outlives the rows of tcat_media on purpose, hence no foreign keys to them.

CREATE TABLE tcat_chain (
    catalogId TEXT NOT NULL,
    item TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    revision TEXT NOT NULL,
    md5 TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    blake3 TEXT,
    PRIMARY KEY (catalogId, item, sequence),
    UNIQUE (catalogId, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE tcat_feed (
    catalogId TEXT NOT NULL,
    number INTEGER NOT NULL,
    id TEXT NOT NULL,
    item TEXT NOT NULL,
    PRIMARY KEY (catalogId, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE tcat_removals (
    catalogId TEXT NOT NULL,
    item TEXT NOT NULL,
    cachePath TEXT NOT NULL,
    foldedPath TEXT NOT NULL,
    PRIMARY KEY (catalogId, item)
) STRICT, WITHOUT ROWID;

CREATE TABLE tcat_removal_contents (
    catalogId TEXT NOT NULL,
    item TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    md5 TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    blake3 TEXT,
    PRIMARY KEY (catalogId, item, sequence),
    FOREIGN KEY (catalogId, item) REFERENCES tcat_removals (catalogId, item)
) STRICT, WITHOUT ROWID;

CREATE TABLE tcat_objects (
    catalogId TEXT NOT NULL,
    object TEXT NOT NULL,
    item TEXT NOT NULL,
    md5 TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    blake3 TEXT,
    generation INTEGER NOT NULL CHECK (generation >= 0),
    state TEXT NOT NULL CHECK (state IN ('intent', 'live', 'condemned')),
    author TEXT NOT NULL,
    intendedDate TEXT NOT NULL,
    PRIMARY KEY (catalogId, object)
) STRICT, WITHOUT ROWID;

CREATE INDEX tcat_objects_item ON tcat_objects (catalogId, item);
";

/// A table that the first catalogs of this version did not have: made where it is missing. Older programs leave it alone.
pub(super) const STANDINGS: &str = r"
CREATE TABLE IF NOT EXISTS tcat_standings (
    workgroup TEXT NOT NULL REFERENCES tcat_workgroups (id),
    client TEXT NOT NULL,
    standing TEXT NOT NULL CHECK (standing IN ('current', 'absent', 'retired')),
    lastStamp TEXT NOT NULL,
    seenMs INTEGER NOT NULL,
    PRIMARY KEY (workgroup, client)
) STRICT, WITHOUT ROWID;
";
