//! Names in the cache folder: what may be one, and which two would be the same file somewhere.
//!
//! A [`MediaPath`] always stays inside the cache folder and outside tcat's own `.tcat/`; every path that comes from
//! a disk, a peer or the catalog passes [`MediaPath::parse`] before anything is done with it.

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};
use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizerBorrowed;
use std::fmt;

/// tcat's own folder inside the cache folder.
pub const OWN_FOLDER: &str = ".tcat";

/// A file's place relative to the cache folder: UTF-8, `/` between components, kept as the person wrote it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct MediaPath(String);

/// The form in which two paths are compared: equal for paths that are one file on a file system that ignores case
/// or Unicode form. Unicode NFC after full case folding; the Unicode version is pinned by `Cargo.lock`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FoldedPath(pub String);

/// Why a text is no [`MediaPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing at all.
    #[error("the path is empty")]
    Empty,
    /// Absolute, `..`, a drive letter: would leave the cache folder.
    #[error("{0:?} leads outside the media folder")]
    Outside(String),
    /// In `.tcat/`, which is tcat's own.
    #[error("{0:?} lies in tcat's own folder")]
    Own(String),
    /// NUL, a backslash, an empty or overlong component, more than [`MediaPath::BYTES_MAX`] bytes.
    #[error("{0:?} is a name that no file can have on every machine")]
    Impossible(String),
}

impl MediaPath {
    /// The longest path that is accepted, in bytes.
    pub const BYTES_MAX: usize = 1024;
    /// The longest component, in bytes: what ext4, APFS and NTFS all hold.
    pub const COMPONENT_BYTES_MAX: usize = 255;

    /// The longest ending that counts as an extension, its dot included.
    const EXTENSION_BYTES_MAX: usize = 32;

    /// Checks a relative path with `/` as separator.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        Self::check(text)?;
        Ok(Self(text.to_owned()))
    }

    fn check(text: &str) -> Result<(), PathError> {
        let shown = || text.chars().take(120).collect::<String>();
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if text.len() > Self::BYTES_MAX || text.bytes().any(|byte| matches!(byte, b'\0' | b'\\')) {
            return Err(PathError::Impossible(shown()));
        }
        if text.starts_with('/') || has_drive_letter(text) {
            return Err(PathError::Outside(shown()));
        }
        for component in text.split('/') {
            match component {
                ".." => return Err(PathError::Outside(shown())),
                "" | "." => return Err(PathError::Impossible(shown())),
                long if long.len() > Self::COMPONENT_BYTES_MAX => return Err(PathError::Impossible(shown())),
                _ => {}
            }
        }
        let first = text.split('/').next().unwrap_or_default();
        let is_own = match first.is_ascii() {
            true => first.eq_ignore_ascii_case(OWN_FOLDER),
            false => fold(first) == OWN_FOLDER,
        };
        if is_own {
            return Err(PathError::Own(shown()));
        }
        Ok(())
    }

    /// The text, `/` between components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The form to compare by.
    pub fn folded(&self) -> FoldedPath {
        FoldedPath(fold(&self.0))
    }

    /// The same place with ` (CLIENT n)` before the extension: where a conflicting content is kept.
    pub fn conflict_name(&self, client_name: &str, n: u32) -> Self {
        let client: String = client_name
            .chars()
            .map(|c| if c.is_control() || "/\\:*?\"<>|".contains(c) { '_' } else { c })
            .collect();
        self.with_suffix(&format!(" ({client} {n})"))
    }

    /// The same place with `(n)` before the extension: the next free name after a collision.
    pub fn numbered(&self, n: u32) -> Self {
        self.with_suffix(&format!("({n})"))
    }

    /// Puts `suffix` between stem and extension, shortening the stem where the name would get too long.
    fn with_suffix(&self, suffix: &str) -> Self {
        let (folder, name) = match self.0.rfind('/') {
            Some(slash) => self.0.split_at(slash + 1),
            None => ("", self.0.as_str()),
        };
        // An "extension" that leaves no room for the suffix is part of the stem.
        let (stem, extension) = match name.rfind('.') {
            Some(dot) if dot > 0 && name.len() - dot <= Self::EXTENSION_BYTES_MAX => name.split_at(dot),
            _ => (name, ""),
        };
        let room = Self::COMPONENT_BYTES_MAX
            .min(Self::BYTES_MAX.saturating_sub(folder.len()))
            .saturating_sub(suffix.len() + extension.len());
        let stem = &stem[..stem.floor_char_boundary(room)];
        Self(format!("{folder}{stem}{suffix}{extension}"))
    }
}

fn has_drive_letter(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 2
        && bytes[0].is_ascii_alphabetic()
        && bytes[1] == b':'
        && (bytes.len() == 2 || bytes[2] == b'/')
}

/// NFC after full case folding. Folding can undo NFC and NFC can undo folding, hence the second round.
pub fn fold(text: &str) -> String {
    // ASCII is in normal form, and folding it is lower-casing: most names need no tables.
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    fold_any(text)
}

fn fold_any(text: &str) -> String {
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    let mapper = CaseMapper::new();
    let once = mapper.fold_string(&nfc.normalize(text)).into_owned();
    nfc.normalize(&mapper.fold_string(&nfc.normalize(&once))).into_owned()
}

/// As a text, which has to be such a path.
impl<Context> Decode<Context> for MediaPath {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let text = String::decode(decoder)?;
        Self::check(&text).map_err(|why| DecodeError::OtherString(why.to_string()))?;
        Ok(Self(text))
    }
}

bincode::impl_borrow_decode!(MediaPath);

impl TryFrom<String> for MediaPath {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        Self::parse(&text)
    }
}

impl From<MediaPath> for String {
    fn from(path: MediaPath) -> Self {
        path.0
    }
}

impl fmt::Display for MediaPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::QuickCheck;

    #[test]
    fn nothing_that_leaves_the_folder_is_a_path() {
        for text in
            ["../a", "a/../b", "/etc/passwd", "C:/a", "c:", "a\\b", "a\0b", "", ".", "a//b", "a/", ".."]
        {
            assert!(MediaPath::parse(text).is_err(), "{text:?}");
        }
        for text in [".tcat", ".tcat/root.toml", ".TCAT/tmp/x"] {
            assert_eq!(MediaPath::parse(text), Err(PathError::Own(text.into())));
        }
        assert!(MediaPath::parse(&"x".repeat(256)).is_err());
        for text in ["a.jpg", "2024/Été à la mer/IMG 1.jpg", "写真/一.png", "..a/b..", "a:b.jpg"] {
            assert!(MediaPath::parse(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn paths_that_one_file_system_takes_for_the_same_fold_to_the_same() {
        assert_eq!(fold("ÉTÉ.JPG"), fold("e\u{301}te\u{301}.jpg"));
        assert_eq!(fold("Straße"), fold("STRASSE"));
        assert_ne!(fold("a"), fold("b"));
    }

    #[test]
    fn folding_twice_changes_nothing_more() {
        fn law(text: String) -> bool {
            fold(&fold(&text)) == fold(&text)
        }
        QuickCheck::new().quickcheck(law as fn(String) -> bool);
    }

    #[test]
    fn ascii_folds_to_what_the_tables_say() {
        let all: String = (0..128u8).map(char::from).collect();
        assert_eq!(fold(&all), fold_any(&all));
        for byte in 0..128u8 {
            let text = format!("{0}{0}a{0}", char::from(byte));
            assert_eq!(fold(&text), fold_any(&text));
        }
    }

    #[test]
    fn suffixes_go_before_the_extension_and_stay_within_the_limit() {
        let path = MediaPath::parse("2024/sea.side.jpg").unwrap();
        assert_eq!(path.conflict_name("anna", 1).as_str(), "2024/sea.side (anna 1).jpg");
        assert_eq!(path.numbered(2).as_str(), "2024/sea.side(2).jpg");
        let odd = MediaPath::parse(&format!("a.{}", "x".repeat(250))).unwrap();
        assert!(MediaPath::parse(odd.conflict_name("anna", 1).as_str()).is_ok());
        let long = MediaPath::parse(&format!("{}.jpg", "é".repeat(125))).unwrap();
        let named = long.conflict_name("a/b", 12);
        assert!(MediaPath::parse(named.as_str()).is_ok());
        assert!(named.as_str().ends_with(" (a_b 12).jpg"));
    }
}
