//! Patterns of paths. `*` stands for any characters of one component, `**` for one or more components at the end
//! of a pattern and any number elsewhere. There is nothing else: no classes, no alternatives, no escapes.

use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// A pattern of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

/// A text that is not a pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a relative path in which only `*`, and `**` as a whole component, are special")]
pub struct InvalidGlob;

impl FromStr for Glob {
    type Err = InvalidGlob;

    fn from_str(text: &str) -> Result<Self, InvalidGlob> {
        let plain = |c: char| c.is_ascii_graphic() && !"?[]{}!\\\"".contains(c);
        let component = |part: &str| {
            let stars = part == "**" || !part.contains("**");
            stars && !matches!(part, "" | "." | "..")
        };
        if text.chars().all(plain) && text.split('/').all(component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidGlob)
        }
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Glob {
    /// Says whether `path`, whose components are joined by `/`, is one of those meant.
    pub fn matches(&self, path: &str) -> bool {
        let pattern: Vec<_> = self.0.split('/').collect();
        let path: Vec<_> = path.split('/').collect();
        components_match(&pattern, &path)
    }
}

fn components_match(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**"], rest) => !rest.is_empty(),
        (["**", pattern @ ..], _) => {
            (0..=path.len()).any(|skipped| components_match(pattern, &path[skipped..]))
        }
        ([part, pattern @ ..], [name, path @ ..]) => {
            name_matches(part, name) && components_match(pattern, path)
        }
        _ => false,
    }
}

/// Matches one component: its fixed parts stand in `name` in their order, the first and the last at its ends.
fn name_matches(pattern: &str, name: &str) -> bool {
    let Some((first, others)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let (middle, last) = others.rsplit_once('*').unwrap_or(("", others));
    let Some(mut rest) = name
        .strip_prefix(first)
        .and_then(|rest| rest.strip_suffix(last))
    else {
        return false;
    };
    middle.split('*').all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        pattern.parse::<Glob>().unwrap().matches(path)
    }

    #[test]
    fn a_star_never_matches_a_slash() {
        for (pattern, path) in [
            ("*", "a"),
            ("**", "a"),
            ("**", "a/b/c"),
            ("environments/*/web.yaml", "environments/prod/web.yaml"),
            ("environments/prod/*", "environments/prod/web.yaml"),
            ("services/**", "services/web/service.yaml"),
            ("services/**/service.yaml", "services/service.yaml"),
            ("**/web.yaml", "web.yaml"),
            ("a/**/b/**/c", "a/x/b/b/y/c"),
            ("w*b*.yaml", "web-b.yaml"),
            ("a*a", "aa"),
            ("*a*b*", "xaxbx"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*", "a/b"),
            ("environments/*/web.yaml", "environments/a/b/web.yaml"),
            ("environments/*/web.yaml", "environments/prod/web.yaml/x"),
            ("environments/*/web.yaml", "x/environments/prod/web.yaml"),
            ("environments/*", "environments/prod/web.yaml"),
            ("services/**", "services"),
            ("services/**", "servicesx/a"),
            ("a*a", "a"),
            ("*ab*ba*", "aba"),
            ("web.yaml", "WEB.yaml"),
            ("web.yaml", "webxyaml"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_that_look_like_more_than_they_are_are_refused() {
        for bad in [
            "", "/a", "a/", "a//b", "../a", "a/./b", "a?", "[ab]", "{a,b}", "!a", "a\\*", "**a",
            "a/**b", "***", "a b",
        ] {
            assert_eq!(bad.parse::<Glob>(), Err(InvalidGlob), "{bad}");
        }
    }
}
