//! What an author may change: environments, path globs, fields of overlays, rules.

use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Glob, Right, Rights};
use crate::key::PublicKey;
use crate::name::{EnvironmentName, Label, ServiceName};
use crate::tree::Change;
use crate::{Code, Refusal, render, yaml};

/// A person or CI job with one key; one name is one person, who may have several keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// Who.
    pub name: Label,
    /// With which key.
    pub key: PublicKey,
    /// Where.
    pub environments: Vec<EnvironmentScope>,
    /// Which files.
    pub paths: Vec<Glob>,
    /// Which fields of an overlay; `None`: whole files.
    #[serde(default)]
    pub fields: Option<Vec<Field>>,
    /// What.
    pub may: Rights,
}

/// One environment, or `*`: all, and files outside `environments/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvironmentScope {
    /// `*`.
    All,
    /// One environment.
    One(EnvironmentName),
}

impl<'de> Deserialize<'de> for EnvironmentScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "*" => Ok(Self::All),
            name => name
                .parse()
                .map(Self::One)
                .map_err(serde::de::Error::custom),
        }
    }
}

/// A dotted path to a field of an overlay: `source.commit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field(Vec<String>);

/// A text that is not a dotted path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected names of fields joined by dots, such as `source.commit`")]
pub struct InvalidField;

impl FromStr for Field {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let names: Vec<_> = text.split('.').map(str::to_owned).collect();
        let named = |name: &String| !name.is_empty() && name.chars().all(plain);
        names
            .iter()
            .all(named)
            .then_some(Self(names))
            .ok_or(InvalidField)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Field {
    /// Takes the field out of `document`, if it is there.
    fn remove_from(&self, mut document: &mut Value) {
        let Some((last, parents)) = self.0.split_last() else {
            return;
        };
        for name in parents {
            match document.get_mut(name) {
                Some(value) => document = value,
                None => return,
            }
        }
        if let Some(map) = document.as_object_mut() {
            map.remove(last);
        }
    }
}

impl Author {
    /// Checks that a file lies in the author's environments and paths.
    ///
    /// # Errors
    /// `PATH_NOT_ALLOWED`.
    pub fn check_path(&self, path: &str) -> Result<(), Refusal> {
        let refuse = |why: &str| {
            let detail = format!("'{path}': '{}' {why}", self.name);
            Err(Refusal::new(Code::PathNotAllowed, detail))
        };
        let below = below(path);
        let covers = |scope: &EnvironmentScope| match scope {
            EnvironmentScope::All => true,
            EnvironmentScope::One(name) => below.is_some_and(|(other, _)| other == name.as_str()),
        };
        if !self.environments.iter().any(covers) {
            let needed = below.map_or("*", |(environment, _)| environment);
            return refuse(&format!("lacks the environment '{needed}'"));
        }
        if !self.paths.iter().any(|glob| glob.matches(path)) {
            return refuse("has no path that matches");
        }
        Ok(())
    }

    /// Checks that one change lies in the author's scope.
    ///
    /// # Errors
    /// `PATH_NOT_ALLOWED`, `RULES_NOT_ALLOWED`; `CONFIG_INVALID` or `PIN_INVALID` if a narrowed overlay is no YAML.
    pub fn check_change(&self, change: &Change) -> Result<(), Refusal> {
        let path = change.path.as_str();
        let refuse = |code, why: &str| {
            let detail = format!("'{path}': '{}' {why}", self.name);
            Err(Refusal::new(code, detail))
        };
        self.check_path(path)?;
        let below = below(path);
        let file = below.map_or(path, |(_, file)| file);
        let rules = match below {
            Some(_) => file == "environment.yaml",
            None => file == "repository.yaml",
        };
        if rules && !self.may.contains(Right::Rules) {
            return refuse(Code::RulesNotAllowed, "lacks `may: rules`");
        }
        if below.is_some() && !self.may.contains(Right::Hold) && render::changes_hold(change) {
            let why = "changes what is held (`hold`) and lacks `may: hold`";
            return refuse(Code::PathNotAllowed, why);
        }
        let Some(fields) = &self.fields else {
            return Ok(());
        };
        let service = file.strip_suffix(".yaml").filter(|_| below.is_some());
        if service.is_none_or(|name| name.parse::<ServiceName>().is_err()) {
            return refuse(Code::PathNotAllowed, "may change fields of overlays only");
        }
        if !differ_in(fields, change)? {
            return refuse(
                Code::PathNotAllowed,
                "may change only its `fields` of the file",
            );
        }
        Ok(())
    }
}

/// The environment that a file belongs to, and its path there.
fn below(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("environments/")?.split_once('/')
}

/// Says whether a file was there before and after and differs in nothing but `fields`.
fn differ_in(fields: &[Field], change: &Change) -> Result<bool, Refusal> {
    let (Some(before), Some(after)) = (&change.before, &change.after) else {
        return Ok(false);
    };
    let rest = |bytes: &[u8]| {
        let mut document = yaml::parse_layer(bytes).map_err(|refusal| refusal.at(&change.path))?;
        for field in fields {
            field.remove_from(&mut document);
        }
        Ok(document)
    };
    Ok(before.executable == after.executable && rest(&before.bytes)? == rest(&after.bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;
    use crate::tree::File;

    /// An author as a trust file lists him.
    fn author(
        environments: &[&str],
        paths: &[&str],
        fields: Option<&[&str]>,
        may: &[&str],
    ) -> Author {
        let author = serde_json::json!({
            "name": "ci", "key": SigningKey::generate().public(),
            "environments": environments, "paths": paths, "fields": fields, "may": may,
        });
        serde_json::from_value(author).unwrap()
    }

    fn change(path: &str, before: Option<&str>, after: Option<&str>) -> Change {
        let file = |text: &str| File {
            executable: false,
            bytes: text.as_bytes().into(),
        };
        Change {
            path: path.to_owned(),
            before: before.map(file),
            after: after.map(file),
        }
    }

    fn code(author: &Author, path: &str) -> Option<Code> {
        let result = author.check_change(&change(path, None, Some("a: b")));
        result.err().map(|refusal| refusal.code)
    }

    #[test]
    fn files_of_an_environment_need_it_and_all_other_files_need_all() {
        let dev = author(&["dev"], &["**"], None, &["author", "rules"]);
        assert_eq!(code(&dev, "environments/dev/web.yaml"), None);
        assert_eq!(code(&dev, "environments/dev/environment.yaml"), None);
        for path in [
            "environments/prod/web.yaml",
            "environments/development/web.yaml",
            "environments/dev",
            "environments/dev.yaml",
            "services/web/service.yaml",
            "repository.yaml",
            "README.md",
        ] {
            assert_eq!(code(&dev, path), Some(Code::PathNotAllowed), "{path}");
        }
        let all = author(&["*"], &["**"], None, &["author", "rules"]);
        assert_eq!(code(&all, "services/web/service.yaml"), None);
        assert_eq!(code(&all, "environments/dev/web.yaml"), None);
    }

    #[test]
    fn a_path_must_match_and_rules_need_their_right() {
        let web = author(
            &["*"],
            &["environments/*/web.yaml", "services/web/**"],
            None,
            &["author"],
        );
        assert_eq!(code(&web, "environments/prod/web.yaml"), None);
        assert_eq!(code(&web, "services/web/a/b"), None);
        assert_eq!(
            code(&web, "environments/prod/api.yaml"),
            Some(Code::PathNotAllowed)
        );
        let plain = author(&["*"], &["**"], None, &["author"]);
        for path in ["environments/prod/environment.yaml", "repository.yaml"] {
            assert_eq!(code(&plain, path), Some(Code::RulesNotAllowed), "{path}");
        }
        assert_eq!(code(&plain, "services/web/environment.yaml"), None);
    }

    #[test]
    fn a_key_narrowed_to_fields_changes_those_fields_of_overlays_only() {
        let ci = author(
            &["dev"],
            &["**"],
            Some(&["source.commit"]),
            &["author", "rules"],
        );
        let overlay = "environments/dev/web.yaml";
        let check = |path, before, after| {
            let result = ci.check_change(&change(path, before, after));
            result.err().map(|refusal| refusal.code)
        };
        let before = Some("source: { commit: \"a\" } # old\nkeep: 3\n");
        assert_eq!(
            check(overlay, before, Some("keep: 3\nsource:\n  commit: \"b\"\n")),
            None
        );
        assert_eq!(check(overlay, before, Some("source: {}\nkeep: 3")), None);
        let not_allowed = Some(Code::PathNotAllowed);
        for after in [
            Some("source: { commit: \"b\" }\nkeep: 4"),
            Some("source: { commit: \"b\" }"),
            Some("source: { commit: \"b\", branch: x }\nkeep: 3"),
            Some("source: { commit: \"b\" }\nkeep: 3\nrun: null"),
            Some("keep: 3"),
            None,
        ] {
            assert_eq!(check(overlay, before, after), not_allowed, "{after:?}");
        }
        assert_eq!(check(overlay, None, before), not_allowed);
        assert_eq!(
            check("environments/dev/environment.yaml", before, before),
            not_allowed
        );
        assert_eq!(
            check("environments/dev/notes.md", before, before),
            not_allowed
        );
        assert_eq!(
            check("environments/dev/x/web.yaml", before, before),
            not_allowed
        );
        assert_eq!(check(overlay, before, Some("{")), Some(Code::ConfigInvalid));

        let mut executable = change(overlay, before, before);
        executable.after.as_mut().unwrap().executable = true;
        assert_eq!(
            ci.check_change(&executable).unwrap_err().code,
            Code::PathNotAllowed
        );
    }

    #[test]
    fn holding_and_lifting_a_hold_need_their_right() {
        let holds = author(&["*"], &["**"], None, &["author", "hold"]);
        let plain = author(&["*"], &["**"], None, &["author"]);
        let narrow = author(&["*"], &["**"], Some(&["hold"]), &["author"]);
        let held = Some("keep: 3\nhold: broken\n");
        for (before, after) in [
            (Some("keep: 3"), held),
            (held, Some("keep: 3")),
            (held, Some("keep: 3\nhold: worse")),
            (held, Some("keep: 3\nhold: 3")),
            (held, Some("{")),
            (held, None),
            (None, held),
            (Some("keep: 3"), Some("keep: 3\n\"\\x68old\": broken\n")),
        ] {
            let change = change("environments/prod/web.yaml", before, after);
            assert_eq!(holds.check_change(&change), Ok(()), "{after:?}");
            let refused = plain.check_change(&change).unwrap_err();
            assert_eq!(refused.code, Code::PathNotAllowed, "{after:?}");
            assert!(refused.detail.contains("`may: hold`"), "{refused}");
            assert!(narrow.check_change(&change).is_err());
        }
        let path = "environments/prod/web.yaml";
        let other = change(path, held, Some("keep: 4\nhold: broken\n"));
        assert_eq!(plain.check_change(&other), Ok(()));
        let base = change("services/web/service.yaml", None, held);
        assert_eq!(plain.check_change(&base), Ok(()));
    }

    #[test]
    fn fields_are_names_joined_by_dots() {
        for bad in ["", ".", "a.", ".a", "a..b", "a[0]", "*", "a b"] {
            assert_eq!(bad.parse::<Field>(), Err(InvalidField), "{bad}");
        }
    }
}
