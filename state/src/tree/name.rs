//! Names of files and directories that mean the same on every file system and nothing to git.
//!
//! Names are plain ASCII. So there is no normalisation to clash, no character that a file system ignores, and what
//! differs only in case is found by folding ASCII. A README may be in any language; its name may not.

use crate::{Code, Refusal};

/// The longest name of a file or directory, in bytes.
const MAX_LENGTH: usize = 255;

/// Checks one component of a path.
///
/// # Errors
/// `TREE_MALFORMED` if git would not write it, `PATH_REFUSED` if it is special or unsafe somewhere.
pub(super) fn check(name: &[u8]) -> Result<&str, Refusal> {
    let refuse = |code, why: &str| {
        let shown = String::from_utf8_lossy(name);
        Err(Refusal::new(code, format!("name '{shown}': {why}")))
    };
    if name.is_empty() || name.contains(&b'/') {
        return refuse(Code::TreeMalformed, "is no name of a file");
    }
    if name.len() > MAX_LENGTH {
        return refuse(Code::PathRefused, "is longer than 255 bytes");
    }
    // `\` separates and `:` opens a stream on Windows; control characters and quotes of a terminal are not printable.
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'\\' | b':');
    let Some(text) = str::from_utf8(name).ok().filter(|_| name.iter().all(plain)) else {
        return refuse(
            Code::PathRefused,
            "holds a character that is not plain ASCII",
        );
    };
    // Windows drops them, so that `.git.` is `.git`; this refuses `.` and `..` too.
    if text.ends_with(['.', ' ']) {
        return refuse(Code::PathRefused, "ends in a dot or space");
    }
    // NTFS calls `.git` also `GIT~1`.
    let is_short = match name.split_at_checked(4) {
        Some((start, [digit, ..])) => start.eq_ignore_ascii_case(b"git~") && digit.is_ascii_digit(),
        _ => false,
    };
    if text.eq_ignore_ascii_case(".git") || is_short {
        return refuse(Code::PathRefused, "is special to git");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_special_or_unsafe_somewhere_are_refused() {
        for bad in [
            ".",
            "..",
            ".git",
            ".GIT",
            ".giT",
            ".git ",
            ".git.",
            "git~1",
            "GIT~2",
            ".git::$INDEX_ALLOCATION",
            ".g\u{200c}it",
            "a\\b",
            "a\nb",
            "a\u{7f}",
            "a.",
            "a ",
            "Übersicht",
            &"a".repeat(256),
        ] {
            assert_eq!(
                check(bad.as_bytes()).unwrap_err().code,
                Code::PathRefused,
                "{bad:?}"
            );
        }
        assert_eq!(check(b"a\xff").unwrap_err().code, Code::PathRefused);
        for bad in ["", "a/b", "/"] {
            assert_eq!(
                check(bad.as_bytes()).unwrap_err().code,
                Code::TreeMalformed,
                "{bad:?}"
            );
        }
        for good in [
            ".gitignore",
            ".github",
            "web.yaml",
            "a b",
            "...a",
            &"a".repeat(255),
        ] {
            assert_eq!(check(good.as_bytes()), Ok(good));
        }
    }
}
