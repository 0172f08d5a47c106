//! What can go wrong with objects, told apart by what the caller must do about it. Every text is one line.

use std::error::Error as _;
use std::io;
use std::path::Path;
use tcat_engine::ids::ObjectId;

/// Why an object was not put, fetched or found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The file is not, or no longer, the content that was to be uploaded. Nothing was stored.
    #[error("{file} changed before it was uploaded whole: it is uploaded again once it is quiet")]
    SourceChanged {
        /// The file.
        file: String,
    },
    /// The file to be uploaded cannot be read. Nothing was stored.
    #[error("cannot read {file} to upload it: {why}; check that it is there and yours to read")]
    Source {
        /// The file.
        file: String,
        /// What the system says.
        why: String,
    },
    /// The name has another content. Objects are never replaced.
    #[error("the object {object} is there with another content: upload under the next generation's name")]
    Occupied {
        /// The name.
        object: ObjectId,
    },
    /// The object is not in the store.
    #[error(
        "the object {object} is not in the store {store}: it must be uploaded again by a client that has it"
    )]
    Missing {
        /// The store.
        store: String,
        /// The name.
        object: ObjectId,
    },
    /// The object is not the content that it stands for. The destination was removed.
    #[error(
        "the object {object} in {store} is damaged ({why}): it must be uploaded again by a client that has it"
    )]
    Corrupt {
        /// The store.
        store: String,
        /// The name.
        object: ObjectId,
        /// What was found.
        why: String,
    },
    /// The fetched bytes cannot be written. What was written stays, to be resumed.
    #[error("cannot write {file}: {why}; check that its folder is there and yours to write")]
    Destination {
        /// The file.
        file: String,
        /// What the system says.
        why: String,
    },
    /// The disk of the destination is full. What was written stays, to be resumed.
    #[error("no space is left for {file}: {why}; free some space on its disk")]
    DestinationFull {
        /// The file.
        file: String,
        /// What the system says.
        why: String,
    },
    /// Another task is fetching to the same destination.
    #[error("{file} is being written by another download: try again when that is done")]
    DestinationBusy {
        /// The file.
        file: String,
    },
    /// The store is not there now. Trying again later may help.
    #[error("cannot reach the object store {store}: {why}; check that its folder is there and mounted")]
    Unreachable {
        /// The store.
        store: String,
        /// What the system says.
        why: String,
    },
    /// The store's disk is full.
    #[error("no space is left in the object store {store}: {why}; free some space on its disk")]
    StoreFull {
        /// The store.
        store: String,
        /// What the system says.
        why: String,
    },
    /// The store may not be read or written.
    #[error("the object store {store} may not be used: {why}; make its folder yours to read and write")]
    Denied {
        /// The store.
        store: String,
        /// What the system says.
        why: String,
    },
    /// The store's file system cannot give a finished upload its name without replacing.
    #[error(
        "the object store {store} cannot be used: its file system knows no hard links ({why}); \
         use a folder on another file system"
    )]
    NoLinks {
        /// The store.
        store: String,
        /// What the system says.
        why: String,
    },
    /// The URL is none that this program can open. The text shows its scheme only, since the rest may hold
    /// secrets.
    #[error("cannot open an object store of kind {scheme:?}: file:DIR is what this tcat supports")]
    Unsupported {
        /// The part before the colon.
        scheme: String,
    },
    /// Anything else: a defect of this program, or of the machine.
    #[error("the object store {store} failed {doing}: {why}; please report this with the log")]
    Other {
        /// The store.
        store: String,
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        why: String,
    },
}

/// What a failure of `doing` in the store means for the caller.
pub(super) fn explain(store: &str, doing: &'static str, error: &object_store::Error) -> ObjectError {
    let store = store.to_owned();
    match io_cause(error) {
        Some(cause) => explain_io(store, doing, cause),
        None => ObjectError::Other { store, doing, why: one_line(error) },
    }
}

/// What a failure of the file system below the store means for the caller.
pub(super) fn explain_io(store: String, doing: &'static str, error: &io::Error) -> ObjectError {
    use io::ErrorKind as Kind;
    let why = one_line(error);
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => ObjectError::StoreFull { store, why },
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => ObjectError::Denied { store, why },
        Kind::NotFound
        | Kind::NotADirectory
        | Kind::NotConnected
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown
        | Kind::StaleNetworkFileHandle
        | Kind::TimedOut => ObjectError::Unreachable { store, why },
        _ => ObjectError::Other { store, doing, why },
    }
}

/// Why a finished upload did not get its name: a file system without hard links has several ways to say so.
pub(super) fn explain_link(store: &str, error: &object_store::Error) -> ObjectError {
    match io_cause(error) {
        Some(cause)
            if matches!(cause.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) =>
        {
            ObjectError::NoLinks { store: store.to_owned(), why: one_line(cause) }
        }
        _ => explain(store, "naming an object", error),
    }
}

/// What a failure at the destination of a download means for the caller.
pub(super) fn at_destination(file: &Path, error: &io::Error) -> ObjectError {
    let (file, why) = (file.display().to_string(), one_line(error));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ObjectError::DestinationFull { file, why }
        }
        _ => ObjectError::Destination { file, why },
    }
}

fn io_cause(error: &object_store::Error) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_error(kind: io::ErrorKind) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: Box::new(io::Error::from(kind)) }
    }

    #[test]
    fn a_full_disk_a_denied_folder_and_a_vanished_one_are_told_apart_in_one_line() {
        let said = |kind| explain("file:/o", "writing", &store_error(kind));
        let full = said(io::ErrorKind::StorageFull);
        let denied = said(io::ErrorKind::PermissionDenied);
        let gone = said(io::ErrorKind::NotFound);
        assert!(matches!(full, ObjectError::StoreFull { .. }));
        assert!(matches!(denied, ObjectError::Denied { .. }));
        assert!(matches!(gone, ObjectError::Unreachable { .. }));
        assert!(matches!(said(io::ErrorKind::Other), ObjectError::Other { .. }));
        for error in [full, denied, gone] {
            let text = error.to_string();
            assert!(text.contains("file:/o") && text.contains(';') && text.lines().count() == 1, "{text}");
        }
        let link = explain_link("file:/o", &store_error(io::ErrorKind::PermissionDenied));
        assert!(matches!(link, ObjectError::NoLinks { .. }));
        let full = at_destination(Path::new("/d/x"), &io::ErrorKind::StorageFull.into());
        assert!(matches!(full, ObjectError::DestinationFull { .. }));
    }
}
