//! The invitation as a person reads it out and types it: a number and three words, `417-canyon-velvet-orbit`.
//!
//! The number says which of the inviter's open invitations is meant and is no secret. The words are a password of 33
//! bits, good for one attempt: a PAKE proves at both ends that they are known without showing them (`pake`), so nobody
//! who listens, or answers in the inviter's place, can try more than one guess. A code names nobody and holds no key.
//!
//! The words are English, of the list of BIP-39: 2048 of them, told apart by their first four letters, which suffice
//! when typing.

use crate::random;
use bip39::Language;
use std::fmt;
use std::io;

/// Numbers of codes: three digits.
pub const NUMBERS: std::ops::RangeInclusive<u16> = 100..=999;

const WORDS: usize = 3;
/// So many letters tell any two words of the list apart.
const PREFIX_LETTERS: usize = 4;
/// Far above the longest code, far below what would cost anything to look at.
const TEXT_MAX_BYTES: usize = 256;

/// What `tcat invite` prints and `tcat join` takes.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteCode {
    number: u16,
    words: [&'static str; WORDS],
}

/// Why a text is no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It does not look like one.
    #[error(
        "this is not a tcat code, which is a number and three words, as in 417-canyon-velvet-orbit; \
         type the last line that `tcat invite` printed"
    )]
    NotACode,
    /// A word that no code has. It is not repeated, since it may be nearly right.
    #[error("no code has the {0} word of this one; look at the code again and correct that word")]
    UnknownWord(&'static str),
}

impl InviteCode {
    /// A new code with words from the system's random numbers. `number` is one of [`NUMBERS`].
    pub fn generate(number: u16) -> io::Result<Self> {
        let random: [u8; 2 * WORDS] = random::bytes().map_err(|error| io::Error::other(error.to_string()))?;
        let list = Language::English.word_list();
        let mut words = [""; WORDS];
        for (word, bytes) in words.iter_mut().zip(random.chunks_exact(2)) {
            // 2048 divides 65536: every word is as likely as any other.
            let index = bytes.iter().fold(0, |index, byte| index << 8 | usize::from(*byte)) % list.len();
            *word = list.get(index).copied().unwrap_or_default();
        }
        Ok(Self { number, words })
    }

    /// Which of the inviter's open invitations is meant.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The code as text, one token.
    pub fn encode(&self) -> String {
        format!("{}-{}", self.number, self.words.join("-"))
    }

    /// Reads a code. Upper case, other separators than `-`, and words cut after their fourth letter are forgiven.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        if text.len() > TEXT_MAX_BYTES {
            return Err(CodeError::NotACode);
        }
        let text = text.to_lowercase();
        let mut parts = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
        let number = parts.next().filter(|digits| digits.len() == 3).and_then(|digits| digits.parse().ok());
        let number = number.filter(|number| NUMBERS.contains(number)).ok_or(CodeError::NotACode)?;
        let mut words = [""; WORDS];
        for (word, place) in words.iter_mut().zip(["first", "second", "third"]) {
            let typed = parts.next().ok_or(CodeError::NotACode)?;
            *word = find(typed).ok_or(CodeError::UnknownWord(place))?;
        }
        match parts.next() {
            None => Ok(Self { number, words }),
            Some(_) => Err(CodeError::NotACode),
        }
    }
}

/// The word of the list that was typed, whole or cut.
fn find(typed: &str) -> Option<&'static str> {
    let list = Language::English.word_list();
    let whole = list.iter().find(|word| **word == typed);
    let cut = || list.iter().find(|word| typed.len() >= PREFIX_LETTERS && word.starts_with(typed));
    whole.or_else(cut).copied()
}

impl fmt::Debug for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteCode").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::collections::BTreeSet;

    #[test]
    fn a_code_is_one_short_token_and_reads_back() {
        for number in NUMBERS {
            let code = InviteCode::generate(number).unwrap();
            let text = code.encode();
            assert!(text.len() <= 3 + WORDS * 9, "{text}");
            assert!(
                text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{text}"
            );
            assert_eq!(InviteCode::parse(&text), Ok(code));
        }
    }

    #[test]
    fn how_a_person_types_it_is_forgiven() {
        let code = InviteCode::parse("417-canyon-velvet-orbit").unwrap();
        for typed in ["  417 Canyon VELVET orbit\n", "417-cany-velv-orbi", "417.canyon_velvet--orbit."] {
            assert_eq!(InviteCode::parse(typed), Ok(code.clone()), "{typed}");
        }
        assert_eq!(code.encode(), "417-canyon-velvet-orbit");
    }

    #[test]
    fn four_letters_tell_all_words_apart() {
        let list = Language::English.word_list();
        let starts: BTreeSet<&str> =
            list.iter().map(|word| word.get(..PREFIX_LETTERS).unwrap_or(word)).collect();
        assert_eq!((list.len(), starts.len()), (2048, 2048));
    }

    #[test]
    fn what_is_no_code_is_told_apart_from_a_mistyped_word_which_is_not_repeated() {
        let long = "417-canyon-velvet-orbit ".repeat(20);
        for text in
            ["", "hello", "417", "41-canyon-velvet-orbit", "4170-canyon-velvet-orbit", "tcat1-abcd", &long]
        {
            assert_eq!(InviteCode::parse(text), Err(CodeError::NotACode), "{text}");
        }
        for text in ["417-canyon-velvet", "417-canyon-velvet-orbit-orbit", "099-canyon-velvet-orbit"] {
            assert_eq!(InviteCode::parse(text), Err(CodeError::NotACode), "{text}");
        }
        let error = InviteCode::parse("417-canyon-velwet-orbit").unwrap_err();
        assert_eq!(error, CodeError::UnknownWord("second"));
        assert!(!error.to_string().contains("velwet"));
    }

    #[test]
    fn debug_output_holds_no_word() {
        let code = InviteCode::parse("417-canyon-velvet-orbit").unwrap();
        assert_eq!(format!("{code:?}"), "InviteCode { number: 417, .. }");
    }

    quickcheck! {
        fn no_text_makes_it_panic(text: String) -> bool {
            let _ = InviteCode::parse(&text);
            InviteCode::parse(&format!("417-{text}")).is_err()
        }
    }
}
