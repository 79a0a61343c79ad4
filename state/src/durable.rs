//! What outlives the process that wrote it: durable files, and messages between programs of different versions.
//!
//! Each carries a `format`. A reader keeps what it does not know: fields in [`Extra`], words of a list in [`Unknown`].
//! What has a newer format than [`Format::NEWEST`] is not read at all, and whoever finds it changes nothing:
//! newer is not damaged.

#[cfg(feature = "future")]
pub(crate) mod future;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Code, Refusal};

/// The longest word that is kept though it is not known, in bytes.
const MAX_WORD: usize = 64;

/// How many different unknown words one process keeps; there is a bound, because they are kept until it ends.
const MAX_WORDS: usize = 1024;

/// The format of a durable file or a message. A file that does not say has the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Format(u32);

impl Format {
    /// The format of what does not say which it has.
    pub const FIRST: Self = Self(1);

    /// The newest format that this version reads.
    pub const NEWEST: Self = Self(if cfg!(feature = "future") { 2 } else { 1 });

    /// The format that this version writes.
    pub fn current() -> Self {
        #[cfg(feature = "future")]
        return future::written();
        #[cfg(not(feature = "future"))]
        Self::NEWEST
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fields of an object that this version does not know, for `#[serde(flatten)]`: they are written back where they stood.
/// Boxed, because it is in every refusal and there are none as a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra(Option<Box<Fields>>);

type Fields = serde_json::Map<String, serde_json::Value>;

impl Extra {
    fn new(fields: Fields) -> Self {
        Self((!fields.is_empty()).then(|| Box::new(fields)))
    }

    fn iter(&self) -> impl Iterator<Item = (&String, &serde_json::Value)> {
        self.0.iter().flat_map(|fields| fields.iter())
    }
}

#[cfg(not(feature = "future"))]
impl Serialize for Extra {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(not(feature = "future"))]
impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Fields::deserialize(deserializer).map(Self::new)
    }
}

/// A word that this version does not know, in a place where it knows a list of words: a code, a phase, a role.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Unknown(&'static str);

impl Unknown {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Keeps `word` until the process ends, so that it can be copied as the words that are known.
    fn new(word: &str) -> Result<Self, String> {
        static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if word.is_empty() || word.len() > MAX_WORD || !word.bytes().all(is_plain) {
            return Err(format!("{word:?} is no word"));
        }
        let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = words.get(word) {
            return Ok(Self(known));
        }
        if words.len() >= MAX_WORDS {
            return Err(format!("more than {MAX_WORDS} unknown words"));
        }
        let kept: &'static str = Box::leak(word.into());
        words.insert(kept);
        Ok(Self(kept))
    }
}

impl fmt::Debug for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Unknown {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::new(&word).map_err(serde::de::Error::custom)
    }
}

/// Why a durable file was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// A newer version wrote it, in this format.
    Newer(Format),
    /// It is not what any version writes.
    Damaged(String),
}

impl Unreadable {
    /// The refusal for the file at `path`: `STATE_NEWER`, or `damaged`.
    pub fn refuse(self, path: &Path, damaged: Code) -> Refusal {
        match self {
            Self::Newer(format) => {
                let detail = format!(
                    "format {format}, this version reads up to {}",
                    Format::NEWEST
                );
                Refusal::new(Code::StateNewer, detail).at(format_args!("'{}'", path.display()))
            }
            Self::Damaged(why) => {
                Refusal::new(damaged, why).at(format_args!("'{}'", path.display()))
            }
        }
    }
}

/// Reads the JSON of a durable file.
///
/// # Errors
/// If it is newer, or damaged.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    check(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| Unreadable::Damaged(error.to_string()))
}

/// Checks the format of a durable file, whatever else it says.
///
/// # Errors
/// If it is newer, or says no format that a version could write.
pub fn check(bytes: &[u8]) -> Result<(), Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        format: Format,
    }
    let head: Head =
        serde_json::from_slice(bytes).map_err(|error| Unreadable::Damaged(error.to_string()))?;
    if head.format > Format::NEWEST {
        return Err(Unreadable::Newer(head.format));
    }
    Ok(())
}

/// Checks the format of the durable file at `path`, if there is one; a damaged one is for its reader to find.
///
/// # Errors
/// `STATE_NEWER`.
pub fn check_file(path: &Path) -> Result<(), Refusal> {
    let Ok(bytes) = std::fs::read(path) else {
        return Ok(());
    };
    match check(&bytes) {
        Err(newer @ Unreadable::Newer(_)) => Err(newer.refuse(path, Code::StateNewer)),
        _ => Ok(()),
    }
}

#[cfg(all(test, not(feature = "future")))]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        #[serde(default)]
        format: Format,
        phase: Phase,
        #[serde(flatten)]
        extra: Extra,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Phase {
        Ready,
        #[serde(untagged)]
        Unknown(Unknown),
    }

    #[test]
    fn unknown_fields_and_words_are_written_back() {
        for text in [
            r#"{"format":1,"phase":"ready"}"#,
            r#"{"format":1,"phase":"observing","step":{"of":[3,null]}}"#,
        ] {
            let file: File = parse(text.as_bytes()).unwrap();
            assert_eq!(serde_json::to_string(&file).unwrap(), text);
        }
    }

    #[test]
    fn what_says_no_format_has_the_first_and_a_newer_one_is_not_damage() {
        let file: File = parse(br#"{"phase":"ready"}"#).unwrap();
        assert_eq!(file.format, Format::FIRST);
        let newer = parse::<File>(br#"{"format":2,"nothing":"else is known"}"#);
        assert_eq!(newer, Err(Unreadable::Newer(Format(2))));
        for damaged in ["", "{}", "[]", r#"{"format":"2"}"#, r#"{"format":1}"#] {
            let read = parse::<File>(damaged.as_bytes());
            assert!(matches!(read, Err(Unreadable::Damaged(_))), "{damaged}");
        }
    }

    #[test]
    fn a_word_that_is_none_is_not_kept() {
        for word in ["", "two words", "\u{1b}[2J", &"x".repeat(65)] {
            assert!(Unknown::new(word).is_err(), "{word:?}");
        }
    }
}
