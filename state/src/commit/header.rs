//! The headers of a commit, one line after the other: what is not taken at its place is refused.

use super::Links;
use crate::{Code, Refusal};

/// Refuses a commit for its form.
pub(super) fn malformed(why: &str) -> Refusal {
    Refusal::new(Code::CommitMalformed, why)
}

/// Refuses a commit whose headers are not the expected ones in the expected order.
pub(super) fn misplaced(expected: &str) -> Refusal {
    let why =
        format!("expected the header `{expected}` once and at its place, and no unknown header");
    malformed(&why)
}

/// The bytes of a commit that were not read yet, at the start of a line.
pub(super) struct Headers<'a>(pub(super) &'a [u8]);

impl<'a> Headers<'a> {
    /// Takes the next line if it is the header `name`, and returns its value.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a [u8]> {
        let value = self.0.strip_prefix(name.as_bytes())?.strip_prefix(b" ")?;
        let end = value.iter().position(|byte| *byte == b'\n')?;
        self.0 = &value[end + 1..];
        Some(&value[..end])
    }

    /// Takes the header `gpgsig` with its indented lines, and returns the signature as ssh-keygen wrote it.
    pub(super) fn take_armor(&mut self) -> Option<Vec<u8>> {
        let mut armor = [self.take("gpgsig")?, b"\n"].concat();
        // An indented line is a header with an empty name.
        while let Some(line) = self.take("") {
            armor.extend_from_slice(line);
            armor.push(b'\n');
        }
        Some(armor)
    }

    /// Takes `tree` and each `parent`.
    pub(super) fn links(&mut self) -> Result<Links, Refusal> {
        let id = |value: &[u8]| {
            let text = str::from_utf8(value).ok();
            text.and_then(|text| text.parse().ok())
                .ok_or_else(|| malformed("`tree` or `parent` is no object id"))
        };
        let tree = id(self.take("tree").ok_or_else(|| misplaced("tree"))?)?;
        let mut parents = Vec::new();
        while let Some(parent) = self.take("parent") {
            parents.push(id(parent)?);
        }
        Ok(Links { tree, parents })
    }
}

/// Says whether `value` is `name <address> seconds +zone`, so that it can be read in one way only.
pub(super) fn is_identity(value: &[u8]) -> bool {
    let Some((person, time)) = split_at_last(value, b"> ") else {
        return false;
    };
    let Some((name, address)) = split_at_last(person, b" <") else {
        return false;
    };
    let Some((seconds, zone)) = split_at_last(time, b" ") else {
        return false;
    };
    let plain = |bytes: &[u8]| !bytes.iter().any(|byte| matches!(byte, b'<' | b'>'));
    let digits = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    plain(name)
        && plain(address)
        && digits(seconds)
        && matches!(zone, [b'+' | b'-', hours @ ..] if hours.len() == 4 && digits(hours))
}

/// Splits `bytes` around the last `separator`.
fn split_at_last<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes
        .windows(separator.len())
        .rposition(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}
