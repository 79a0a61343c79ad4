//! The lines of a signed statement: `key: value`, each in its place, ASCII, nothing left out.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;

use crate::digest::ReleaseId;

/// The lines of a statement that were not read yet.
pub(crate) struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    /// Begins to read `bytes`, whose first line is `title`.
    ///
    /// # Errors
    /// A sentence that says what was expected where; so do all methods.
    pub(crate) fn new(bytes: &'a [u8], title: &str) -> Result<Self, String> {
        let text = str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
        let rest = text
            .strip_prefix(title)
            .and_then(|rest| rest.strip_prefix('\n'));
        let rest = rest.ok_or_else(|| format!("line 1: expected '{title}'"))?;
        Ok(Self { rest, number: 1 })
    }

    /// The value of the next line if its key is `key`.
    pub(crate) fn optional(&mut self, key: &str) -> Option<&'a str> {
        let value = self.rest.strip_prefix(key)?.strip_prefix(": ")?;
        let (value, rest) = value.split_once('\n')?;
        self.rest = rest;
        self.number += 1;
        Some(value)
    }

    /// The value of the next line, whose key is `key`.
    pub(crate) fn text(&mut self, key: &str) -> Result<&'a str, String> {
        self.optional(key)
            .ok_or_else(|| format!("line {}: expected '{key}: '", self.number + 1))
    }

    /// The parsed value of the next line, whose key is `key`.
    pub(crate) fn value<T: FromStr<Err: Display>>(&mut self, key: &str) -> Result<T, String> {
        self.text(key)?.parse().map_err(|error| self.wrong(error))
    }

    /// The `N` words of the next line, whose key is `key`.
    pub(crate) fn words<const N: usize>(&mut self, key: &str) -> Result<[&'a str; N], String> {
        let words = self.text(key)?;
        self.split(words)
    }

    /// The `N` words of the value of the line that was read last.
    pub(crate) fn split<const N: usize>(&self, value: &'a str) -> Result<[&'a str; N], String> {
        let words = value.split(' ').collect::<Vec<_>>().try_into();
        words.map_err(|_| self.wrong(format_args!("expected {N} words")))
    }

    /// A word of the line that was read last, parsed.
    pub(crate) fn parse<T: FromStr<Err: Display>>(&self, word: &str) -> Result<T, String> {
        word.parse().map_err(|error| self.wrong(error))
    }

    /// The release id of the next line, whose key is `key`; `-` for none.
    pub(crate) fn id(&mut self, key: &str) -> Result<Option<ReleaseId>, String> {
        let word = self.text(key)?;
        self.parse_id(word)
    }

    /// A release id of the line that was read last; `-` for none.
    pub(crate) fn parse_id(&self, word: &str) -> Result<Option<ReleaseId>, String> {
        match word {
            "-" => Ok(None),
            id => self.parse(id).map(Some),
        }
    }

    /// Checks that nothing is left.
    pub(crate) fn end(&self) -> Result<(), String> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(format!("line {}: expected the end", self.number + 1))
        }
    }

    /// Says what is wrong in the line that was read last.
    pub(crate) fn wrong(&self, why: impl Display) -> String {
        format!("line {}: {why}", self.number)
    }
}

/// Says whether `title` is that of a later version than `known`: the same words and a larger number.
pub(crate) fn is_later(title: &str, known: &str) -> bool {
    let words = known.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = |title: &str| {
        let digits = title.strip_prefix(words)?;
        let number: u32 = digits.parse().ok()?;
        (number.to_string() == digits).then_some(number)
    };
    number(title) > number(known)
}

/// The first line of `bytes`, if it is a title of a later version than `known`.
pub(crate) fn later_title<'a>(bytes: &'a [u8], known: &str) -> Option<&'a str> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let line = str::from_utf8(line).ok()?;
    is_later(line, known).then_some(line)
}

/// The one spelling of a release id that may be missing.
pub(crate) fn print_id(id: Option<ReleaseId>) -> String {
    id.map_or("-".to_owned(), |id| id.to_string())
}

/// The one spelling of a time in a statement: whole seconds, UTC.
pub(crate) fn print_time(time: Timestamp) -> impl Display {
    time.strftime("%Y-%m-%dT%H:%M:%SZ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_words_with_a_larger_number_are_a_later_title() {
        let known = "writ manifest v9";
        for later in ["writ manifest v10", "writ manifest v4294967295"] {
            assert!(is_later(later, known), "{later}");
        }
        for other in [
            known,
            "writ manifest v8",
            "writ manifest v010",
            "writ manifest v+10",
            "writ manifest v10 ",
            "writ manifest v10\r",
            "writ manifest v4294967296",
            "writ manifest v",
            "writ freshness v10",
            "",
        ] {
            assert!(!is_later(other, known), "{other}");
        }
        assert_eq!(later_title(b"a v2\n\xff", "a v1"), Some("a v2"));
        assert_eq!(later_title(b"\xff v2\n", "a v1"), None);
    }
}
