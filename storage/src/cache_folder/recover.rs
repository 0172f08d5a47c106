//! After a crash: every step that a journal in `.tcat/tmp` describes is finished or undone.
//!
//! How it is done, primitive by primitive, is `tcat_engine::publishing`; here is the door. What fails is reported and
//! tried again at the next start; it does not keep the rest from being recovered.

use super::{CacheFolder, FolderError};
use std::path::PathBuf;
use tcat_engine::paths::MediaPath;
pub use tcat_engine::publishing::Recovered;
use tcat_engine::publishing::{
    Answer, Finish, Journal, NamesDurable, Place, Primitive, Role, Stem, journals_of, second_names_of,
    unexplained_of,
};

impl CacheFolder {
    /// Finishes what a crash interrupted. To be called after opening, before anything else is done in the folder.
    pub fn recover(&self) -> Result<Vec<Recovered>, FolderError> {
        self.check_root()?;
        let (names, day) = (self.temp_names()?, self.today().to_string());
        let mut report = Vec::new();
        for stem in journals_of(&names) {
            match self.recover_journal(&stem, &day) {
                Ok(done) => report.extend(done),
                Err(FolderError::Busy(_)) => {}
                Err(stopped @ FolderError::Stopped(_)) => return Err(stopped),
                Err(error) => {
                    report.push(Recovered::Failed { name: stem.name(Role::Journal), why: error.to_string() });
                }
            }
        }
        for unexplained in unexplained_of(&names, &day) {
            let name = unexplained.name();
            match self.act(unexplained) {
                Ok(done) => report.extend(done),
                Err(stopped @ FolderError::Stopped(_)) => return Err(stopped),
                Err(error) => report.push(Recovered::Failed { name, why: error.to_string() }),
            }
        }
        for second_name in second_names_of(&names) {
            self.act(second_name)?;
        }
        for place in self.folders() {
            // One that cannot be synced now is as safe as it was before.
            if let Err(stopped @ FolderError::Stopped(_)) = self.act(NamesDurable { place }) {
                return Err(stopped);
            }
        }
        Ok(report)
    }

    /// A name in each folder in which there can be files of ours. Links are not followed.
    fn folders(&self) -> Vec<Place> {
        let (mut places, mut open) = (Vec::new(), vec![String::new()]);
        while let Some(folder) = open.pop() {
            let below = |name: &str| match folder.as_str() {
                "" => name.to_owned(),
                folder => format!("{folder}/{name}"),
            };
            places.extend(MediaPath::parse(&below("any")).map(Place::Media));
            let Ok(entries) = std::fs::read_dir(self.root.join(&folder)) else { continue };
            for entry in entries.flatten() {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                match entry.file_name().to_str() {
                    Some(name) if is_folder && name != super::OWN_FOLDER => open.push(below(name)),
                    _ => {}
                }
            }
        }
        places
    }

    /// Does what a journal asks for, while nobody else works on its paths.
    fn recover_journal(&self, stem: &Stem, day: &str) -> Result<Vec<Recovered>, FolderError> {
        let journal = match self.perform(&Primitive::Read(stem.name(Role::Journal)))? {
            Answer::Bytes(bytes) => Journal::decode(&bytes).ok(),
            _ => None,
        };
        let paths = journal.as_ref().map(Journal::paths).unwrap_or_default();
        let _held = self.hold(&paths)?;
        self.act(Finish { stem: stem.clone(), day: day.to_owned() })
    }

    /// Where a file in `.tcat/tmp` is, by path.
    pub(super) fn temp_place(&self, name: &str) -> PathBuf {
        self.root.join(super::OWN_FOLDER).join("tmp").join(name)
    }
}
