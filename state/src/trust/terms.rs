//! What a trust file says, as its holders write it, and whether that makes sense by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Author;
use crate::digest::{PayloadHash, Sha256Hash};
use crate::key::{Fingerprint, PublicKey};
use crate::name::Label;
use crate::statement::is_later;
use crate::tree::Limits;
use crate::unit::Period;
use crate::yaml::{self, Fault};
use crate::{Code, Refusal, limit};

/// Who may sign what, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Terms {
    /// The format.
    pub writ: Format,
    /// What people call the fleet.
    pub name: Label,
    /// Counts up by one; the file's name.
    pub version: u64,
    /// The hash of the version before, written `sha256:…`; absent only in version 1.
    #[serde(default, deserialize_with = "prefixed_option")]
    pub prev: Option<Sha256Hash>,
    /// When it ends, unless a newer one was accepted.
    pub expires: Timestamp,
    /// Who signs trust files.
    pub root: Root,
    /// Who signs manifests.
    pub policy: Policy,
    /// Who may do nothing but extend freshness.
    #[serde(default)]
    pub fresh: Fresh,
    /// Who writes `main`, approves and attests.
    #[serde(default)]
    pub authors: Vec<Author>,
    /// Keys that were rotated out or stolen.
    #[serde(default)]
    pub ended: Vec<Ended>,
    /// Where the log goes on after the compromise of a policy key.
    #[serde(default)]
    pub anchor: Option<Anchor>,
    /// How large a tree may be, and what one admission may add; 20,000 files and 64 MiB if left out.
    #[serde(default = "default_limits")]
    pub limits: Limits,
}

const fn default_limits() -> Limits {
    limit::TREE
}

/// The format of a trust file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Format {
    /// The first.
    #[serde(rename = "trust/1")]
    V1,
}

impl Format {
    /// The title of a trust file.
    const TITLE: &str = "trust/1";

    /// Checks the title of a trust file.
    fn check(file: &Value) -> Result<(), Refusal> {
        let Some(title) = file.get("writ").and_then(Value::as_str) else {
            return Ok(()); // which the fields are refused for
        };
        let code = match title {
            Self::TITLE => return Ok(()),
            title if is_later(title, Self::TITLE) => Code::TrustNewer,
            _ => Code::TrustInvalid,
        };
        let message = format!("'{title}', this program knows '{}'", Self::TITLE);
        Err(Refusal::new(code, Fault::new("writ", message).to_string()).at("trust"))
    }
}

/// The root role.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// How many distinct keys must sign.
    pub threshold: usize,
    /// The keys.
    pub keys: Vec<PublicKey>,
}

/// The policy role; one signature admits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// The keys, one for each policy server.
    pub keys: Vec<PublicKey>,
    /// How long a manifest or a freshness statement proves that it is the newest.
    pub max_freshness: Period,
}

/// The freshness role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fresh {
    /// The keys.
    pub keys: Vec<PublicKey>,
}

/// A key whose later signatures do not count.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ended {
    /// Its fingerprint.
    pub key: Fingerprint,
    /// The last manifest at which its signatures count.
    pub last_sequence: u64,
    /// Why, for people.
    pub reason: String,
}

/// Root's word for the log up to a manifest: a host at any floor below `next` continues there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// The sequence of the manifest that root vouches for.
    pub sequence: u64,
    /// Its hash, written `sha256:…`.
    #[serde(deserialize_with = "prefixed")]
    pub manifest: Sha256Hash,
    /// The sequence of the next manifest, above any that was seen.
    pub next: u64,
    /// The payload hash, written `sha256:…`, of the commit up to which root vouches for `main`.
    #[serde(deserialize_with = "prefixed")]
    pub main: PayloadHash,
}

/// Reads `sha256:` and 64 hex digits.
fn prefixed<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    let hash = text
        .strip_prefix("sha256:")
        .and_then(|hex| hex.parse().ok());
    hash.ok_or_else(|| serde::de::Error::custom("expected `sha256:` and 64 lower-case hex digits"))
}

fn prefixed_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Sha256Hash>, D::Error> {
    prefixed(deserializer).map(Some)
}

impl Terms {
    /// Reads a trust file and checks what it says by itself.
    ///
    /// # Errors
    /// `TRUST_NEWER` if it says what this version does not know; `TRUST_INVALID`, `TRUST_ROLE_OVERLAP`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let invalid = |why: &str| Refusal::new(Code::TrustInvalid, format!("trust: {why}"));
        let value = yaml::parse(bytes).map_err(|refusal| invalid(&refusal.detail))?;
        // First of all, because the fields of another format are unknown.
        Format::check(&value)?;
        let terms: Self = yaml::fields(&value).map_err(|fault| match fault.is_unknown() {
            true => fault.refusal(Code::TrustNewer).at("trust"),
            false => invalid(&fault.to_string()),
        })?;
        terms.check().map_err(invalid)?;
        terms.check_roles()?;
        Ok(terms)
    }

    /// Checks what no type says.
    fn check(&self) -> Result<(), &'static str> {
        let hardware = |key: &PublicKey| key.application().is_some();
        let server_keys = || self.policy.keys.iter().chain(&self.fresh.keys);
        let rules = [
            (self.version > 0, "versions begin with 1"),
            (
                self.prev.is_some() == (self.version > 1),
                "`prev` stands in all versions but 1",
            ),
            (self.root.threshold > 0, "the root threshold is 0"),
            (
                self.root.threshold <= self.root.keys.len(),
                "the root threshold exceeds the number of keys",
            ),
            (self.policy.max_freshness.0 > 0, "`maxFreshness` is 0"),
            (
                !server_keys().any(hardware),
                "a server cannot sign with a security key",
            ),
            (
                self.anchor
                    .as_ref()
                    .is_none_or(|anchor| anchor.next > anchor.sequence),
                "the anchor's `next` is not above its `sequence`",
            ),
        ];
        rules
            .into_iter()
            .find(|(holds, _)| !holds)
            .map_or(Ok(()), |(_, why)| Err(why))
    }

    /// Checks that each key is listed once, in one role, and none that was ended.
    fn check_roles(&self) -> Result<(), Refusal> {
        let overlap = |fingerprint: Fingerprint, one: &str, two: &str| {
            let detail = format!("trust: key {fingerprint} is listed under {one} and under {two}");
            Err(Refusal::new(Code::TrustRoleOverlap, detail))
        };
        let role = |name: &'static str, keys: &'_ [PublicKey]| {
            keys.iter()
                .map(|key| (key.clone(), name.to_owned()))
                .collect::<Vec<_>>()
        };
        let mut listed = role("root", &self.root.keys);
        listed.extend(role("policy", &self.policy.keys));
        listed.extend(role("fresh", &self.fresh.keys));
        let author = |author: &Author| (author.key.clone(), format!("author {}", author.name));
        listed.extend(self.authors.iter().map(author));

        let mut seen = BTreeMap::new();
        for (key, role) in &listed {
            // By the point: a key does not become another one by being called a security key.
            if let Some(other) = seen.insert(key.point().to_bytes(), role) {
                return overlap(key.fingerprint(), other, role);
            }
        }
        let mut ended = BTreeSet::new();
        for key in self.ended.iter().map(|ended| ended.key) {
            if !ended.insert(key) {
                return overlap(key, "ended", "ended");
            }
        }
        let back = listed
            .iter()
            .find(|(key, _)| ended.contains(&key.fingerprint()));
        back.map_or(Ok(()), |(key, role)| {
            overlap(key.fingerprint(), role, "ended")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    /// The specification's example, with keys in place of `<R1>` and so on.
    const EXAMPLE: &str = r#"
writ: trust/1
name: acme
version: 7
prev: sha256:0101010101010101010101010101010101010101010101010101010101010101
expires: 2027-11-01T00:00:00Z
root:   { threshold: 2, keys: [ "<R1> r1", "<R2> r2" ] }
policy: { keys: [ "<P1>" ], maxFreshness: 24h }            # one signature admits
fresh:  { keys: [ "<F1>" ] }
authors:
  - { name: alice,  key: "<A1>", environments: [ "*" ], paths: [ "**" ], may: [ author, approve, rules, hold, override ] }
  - { name: web-ci, key: "<A2>", environments: [ dev, staging ], paths: [ "environments/*/web.yaml" ], fields: [ source.commit ], may: [ author, attest ] }
ended: [ { key: "<E1>", lastSequence: 41, reason: "rotated" } ]
anchor: { sequence: 41, manifest: "sha256:0202020202020202020202020202020202020202020202020202020202020202", next: 1000, main: "sha256:0303030303030303030303030303030303030303030303030303030303030303" }
limits: { files: 20000, bytes: 64MiB }
"#;

    /// The example with keys, and the lines of the keys by name.
    fn example() -> (String, BTreeMap<&'static str, String>) {
        let key = |name| (name, SigningKey::generate().public().to_string());
        let mut keys = BTreeMap::from(["R1", "R2", "P1", "F1", "A1", "A2"].map(key));
        keys.insert(
            "E1",
            SigningKey::generate().public().fingerprint().to_string(),
        );
        let replace =
            |text: String, (name, line): (&&str, &String)| text.replace(&format!("<{name}>"), line);
        (keys.iter().fold(EXAMPLE.to_owned(), replace), keys)
    }

    fn code(text: &str) -> Option<Code> {
        Terms::parse(text.as_bytes())
            .err()
            .map(|refusal| refusal.code)
    }

    #[test]
    fn the_specification_s_example_is_read() {
        let (text, keys) = example();
        let terms = Terms::parse(text.as_bytes()).unwrap();
        assert_eq!((terms.version, terms.root.threshold), (7, 2));
        assert_eq!(terms.root.keys[1].to_string(), keys["R2"]);
        assert_eq!(terms.authors[1].name.as_str(), "web-ci");
        assert_eq!(terms.ended[0].key.to_string(), keys["E1"]);
        assert_eq!(terms.anchor.unwrap().main, PayloadHash([3; 32]));
        assert_eq!(terms.limits, default_limits());
    }

    #[test]
    fn what_makes_no_sense_is_invalid() {
        let (text, keys) = example();
        assert_eq!(code(&text), None);
        let prev = text.lines().find(|line| line.starts_with("prev")).unwrap();
        let weak =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let hardware = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIOpKbGyJk3SmVfdaOkPuDzVGgqQnlmDkBHg4gzm2/bbXAAAABHNzaDo=";
        for (bad, why) in [
            (text.replace("trust/1", "trust/0"), "another format"),
            (text.replace("trust/1", "trust/02"), "another format"),
            (text.replace("trust/1", "fleet/2"), "another format"),
            (text.replace("version: 7", "version: 0"), "version 0"),
            (
                text.replace("version: 7", "version: 1"),
                "a predecessor of the first",
            ),
            (text.replace(prev, ""), "no predecessor"),
            (text.replace("sha256:01", "01"), "a hash without its kind"),
            (
                text.replace("threshold: 2", "threshold: 0"),
                "no signature needed",
            ),
            (
                text.replace("threshold: 2", "threshold: 3"),
                "more signatures than keys",
            ),
            (text.replace("24h", "0s"), "no freshness"),
            (text.replace(&keys["A1"], weak), "a weak key"),
            (
                text.replace(&keys["P1"], hardware),
                "a security key on a server",
            ),
            (
                text.replace("next: 1000", "next: 41"),
                "an anchor that goes nowhere",
            ),
            (
                text.replace("[ author, attest ]", "[ author, [ attest ] ]"),
                "no right",
            ),
            (text.replace("\"**\"", "\"[a]\""), "a pattern with classes"),
            (text.replace("source.commit", "source..commit"), "no field"),
            (text.replace("2027-11-01T00:00:00Z", "tomorrow"), "no time"),
            (format!("{text}name: other\n"), "a field twice"),
        ] {
            assert_ne!(bad, text, "{why}");
            assert_eq!(code(&bad), Some(Code::TrustInvalid), "{why}");
        }
        let author = text.replace(&keys["A1"], hardware);
        assert_eq!(code(&author), None, "an author may use a security key");
    }

    #[test]
    fn a_key_is_listed_once_in_one_role() {
        let (text, keys) = example();
        for (one, two) in [
            ("R1", "R2"),
            ("R1", "P1"),
            ("P1", "F1"),
            ("A1", "A2"),
            ("F1", "A2"),
        ] {
            let twice = text.replace(&keys[one], &keys[two]);
            assert_eq!(code(&twice), Some(Code::TrustRoleOverlap), "{one} {two}");
        }
        let listed: PublicKey = keys["A2"].parse().unwrap();
        let back = text.replace(&keys["E1"], &listed.fingerprint().to_string());
        assert_eq!(code(&back), Some(Code::TrustRoleOverlap));
    }
}
