//! Writes the next trust file by editing the text of the one before it, so that comments and order stay as they are.
//!
//! The text is edited line by line, in the spellings that people use. What a line editor misreads would be signed by
//! root, so the terms are changed beside the text, and [`Edit::finish`] gives out a text only if it says those terms.

mod lines;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use state::key::{Fingerprint, PublicKey};
use state::trust::{Anchor, Author, Ended, Terms, Trust};
use state::yaml;

use self::lines::Lines;

/// A trust file in the making.
#[derive(Clone, Debug)]
pub struct Edit {
    lines: Lines,
    terms: Terms,
}

/// A line of a `.pub` file: the key, and how its holder calls it.
#[derive(Clone, Debug)]
pub struct KeyLine {
    /// The key.
    pub key: PublicKey,
    /// The comment; only what needs no quoting is kept.
    pub comment: String,
}

impl KeyLine {
    /// Reads the text of a `.pub` file.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let line = text.trim();
        let plain = |c: &char| c.is_ascii_alphanumeric() || "@._-+".contains(*c);
        let comment = line.splitn(3, ' ').nth(2).unwrap_or_default();
        Ok(Self {
            key: line.parse()?,
            comment: comment.chars().filter(plain).collect(),
        })
    }

    /// The line as it stands in a trust file.
    pub fn text(&self) -> String {
        format!("{} {}", self.key, self.comment)
            .trim_end()
            .to_owned()
    }
}

impl Edit {
    /// Begins the version after `previous`, whose text is `text`.
    pub fn after(previous: &Trust, text: &str, expires: Timestamp) -> Self {
        let mut edit = Self {
            lines: Lines::of(text),
            terms: Terms::clone(previous),
        };
        edit.terms.version += 1;
        edit.terms.prev = Some(previous.hash());
        edit.terms.expires = expires;
        let (version, prev) = (edit.terms.version, previous.hash());
        edit.lines.set("version", &version.to_string(), "name");
        edit.lines.set("prev", &format!("sha256:{prev}"), "version");
        edit.lines.set("expires", &expires.to_string(), "prev");
        edit
    }

    /// Lists another author, given as one line of YAML.
    pub fn add_author(&mut self, item: &str) -> anyhow::Result<()> {
        let author = yaml::parse(item.as_bytes()).and_then(|value| yaml::typed::<Author>(&value));
        self.terms.authors.push(author?);
        self.lines.insert("authors", item)
    }

    /// Puts `new` in the place of the key `old`, whatever its role; what the old key signed counts as `ended` says.
    /// A root key needs no such line.
    pub fn replace(
        &mut self,
        old: &Fingerprint,
        new: &KeyLine,
        ended: Option<Ended>,
    ) -> anyhow::Result<()> {
        let key = self.listed(old)?;
        let terms = &mut self.terms;
        let authors = terms.authors.iter_mut().map(|author| &mut author.key);
        let listed = terms.root.keys.iter_mut().chain(&mut terms.policy.keys);
        let mut listed = listed.chain(&mut terms.fresh.keys).chain(authors);
        if let Some(place) = listed.find(|place| **place == key) {
            *place = new.key.clone();
        }
        self.lines.replace(&key, &new.text())?;
        ended.map_or(Ok(()), |ended| self.list_ended(ended))
    }

    /// Takes a key out of its role and lists it as ended.
    pub fn end(&mut self, ended: Ended) -> anyhow::Result<()> {
        let key = self.listed(&ended.key)?;
        let Terms {
            root,
            policy,
            fresh,
            authors,
            ..
        } = &mut self.terms;
        for keys in [&mut root.keys, &mut policy.keys, &mut fresh.keys] {
            keys.retain(|one| *one != key);
        }
        authors.retain(|author| author.key != key);
        self.lines.remove(&key)?;
        self.list_ended(ended)
    }

    /// Vouches for the log up to `anchor`, in place of an earlier anchor.
    pub fn anchor(&mut self, anchor: Anchor) {
        self.lines.put(
            "anchor",
            &[
                format!("sequence: {}", anchor.sequence),
                format!("manifest: sha256:{}", anchor.manifest),
                format!("next: {}", anchor.next),
                format!("main: sha256:{}", anchor.main),
            ],
        );
        self.terms.anchor = Some(anchor);
    }

    /// The text of the file.
    ///
    /// # Errors
    /// What makes no sense in a trust file, and an edit that this spelling of the file does not allow.
    pub fn finish(self) -> anyhow::Result<String> {
        let text = self.lines.text();
        let trust = Trust::parse(text.as_bytes())?;
        if *trust != self.terms {
            bail!(
                "the file before is spelled in a way that this command cannot edit: \
                 copy it, change it by hand and run `policy trust check`"
            );
        }
        Ok(text)
    }

    /// The key with this fingerprint that is listed in a role.
    fn listed(&self, key: &Fingerprint) -> anyhow::Result<PublicKey> {
        let Terms {
            root,
            policy,
            fresh,
            authors,
            ..
        } = &self.terms;
        let keys = root.keys.iter().chain(&policy.keys).chain(&fresh.keys);
        let mut keys = keys.chain(authors.iter().map(|author| &author.key));
        let found = keys.find(|one| one.fingerprint() == *key).cloned();
        found.with_context(|| format!("no role lists the key {key}"))
    }

    fn list_ended(&mut self, ended: Ended) -> anyhow::Result<()> {
        let reason = serde_json::to_string(&ended.reason)?;
        let item = format!(
            "{{ key: \"{}\", lastSequence: {}, reason: {reason} }}",
            ended.key, ended.last_sequence
        );
        self.terms.ended.push(ended);
        self.lines.insert("ended", &item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::digest::{PayloadHash, Sha256Hash};
    use state::key::SigningKey;

    fn key() -> PublicKey {
        SigningKey::generate().public().clone()
    }

    /// Two spellings of a file with two root keys, two policy keys and two authors, in this order, and another key.
    fn spellings() -> ([PublicKey; 6], KeyLine, [String; 2]) {
        let keys: [PublicKey; 6] = std::array::from_fn(|_| key());
        let [r1, r2, p1, p2, a, b] = keys.each_ref().map(PublicKey::to_string);
        let scope = "environments: [ \"*\" ], paths: [ \"**\" ], may: [ author ]";
        let flow = format!(
            "writ: trust/1\nname: acme\nversion: 1 # counts up\nexpires: 2027-11-01T00:00:00Z\n\
             root: {{ threshold: 1, keys: [ \"{r1} r1\", \"{r2} r2\" ] }}\n\
             policy: {{ keys: [ \"{p1}\", '{p2} two' ], maxFreshness: 24h }} # one admits\n\
             authors:\n  # Alice writes.\n  - {{ name: alice, key: \"{a} a\", {scope} }}\n\
             \x20 - {{ name: bob, key: \"{b}\", {scope} }}\n\n\
             # Those that left.\nended: [ ]\n"
        );
        let block = format!(
            "writ: trust/1\nname: acme\nversion: 1\nexpires: 2027-11-01T00:00:00Z\n\
             root:\n  threshold: 1\n  keys:\n    - {r1} r1\n    - {r2}\n\
             policy:\n  maxFreshness: 24h\n  keys:\n  - \"{p1}\"\n  - \"{p2}\"\n\
             authors:\n- name: alice\n  key: {a}\n  environments: [ \"*\" ]\n  paths: [ \"**\" ]\n  may: [ author ]\n\
             - key: {b}\n  name: bob\n  environments: [ \"*\" ]\n  paths:\n  - \"**\"\n  may:\n  - author\n"
        );
        let new = KeyLine::parse(&format!("{} new one\n", key())).unwrap();
        (keys, new, [flow, block])
    }

    fn after(text: &str) -> Edit {
        let previous = Trust::parse(text.as_bytes()).unwrap();
        Edit::after(&previous, text, "2028-11-01T00:00:00Z".parse().unwrap())
    }

    fn ended(key: &PublicKey) -> Ended {
        Ended {
            key: key.fingerprint(),
            last_sequence: 41,
            reason: "it's \"stolen\"".to_owned(),
        }
    }

    #[test]
    fn every_edit_says_what_was_asked_for_in_either_spelling() {
        let (keys, new, texts) = spellings();
        for text in texts {
            for key in &keys {
                let mut edit = after(&text);
                edit.replace(&key.fingerprint(), &new, Some(ended(key)))
                    .unwrap();
                let next = edit.finish().unwrap();
                let says = |key: &PublicKey| next.contains(&key.to_string());
                assert!(says(&new.key) && !says(key), "{next}");
                let mut edit = after(&text);
                edit.end(ended(key)).unwrap();
                let next = edit.finish().unwrap();
                assert!(!next.contains(&key.to_string()), "{next}");
            }
            let mut edit = after(&text);
            for key in [&keys[4], &keys[5]] {
                edit.end(ended(key)).unwrap();
            }
            assert!(edit.finish().is_ok(), "no author is left");
            let mut edit = after(&text);
            edit.end(ended(&keys[4])).unwrap();
            edit.end(ended(&keys[5])).unwrap();
            edit.end(ended(&keys[2])).unwrap();
            edit.add_author(&format!(
                "{{ name: ci, key: \"{}\", environments: [ dev ], paths: [ \"**\" ], may: [ author ] }}",
                new.text()
            ))
            .unwrap();
            for next in [1000, 2000] {
                edit.anchor(Anchor {
                    sequence: 41,
                    manifest: Sha256Hash([1; 32]),
                    next,
                    main: PayloadHash([2; 32]),
                });
            }
            let next = edit.finish().unwrap();
            let trust = Trust::parse(next.as_bytes()).unwrap();
            assert_eq!((trust.authors.len(), trust.ended.len()), (1, 3));
            assert_eq!(trust.anchor.as_ref().unwrap().next, 2000);
        }
    }

    #[test]
    fn comments_and_order_stay() {
        let (keys, new, [text, _]) = spellings();
        let mut edit = after(&text);
        let two = keys[3].fingerprint();
        edit.replace(&two, &new, Some(ended(&keys[3]))).unwrap();
        let next = edit.finish().unwrap();
        for kept in [
            "version: 2 # counts up\nprev: sha256:",
            "# one admits\nauthors:\n  # Alice writes.\n",
            "# Those that left.\nended: [ {",
            &format!("'{} newone'", new.key),
        ] {
            assert!(next.contains(kept), "{kept}\n{next}");
        }
    }

    #[test]
    fn what_cannot_be_edited_is_said_and_not_written() {
        let (keys, new, [text, _]) = spellings();
        let odd = text.replace("version: 1 ", "\"version\": 1 ");
        assert!(after(&odd).finish().is_err(), "two versions");
        let unknown = after(&text).replace(&new.key.fingerprint(), &new, None);
        let error = unknown.unwrap_err().to_string();
        assert!(error.contains("no role lists"), "{error}");
        let mut edit = after(&text);
        edit.end(ended(&keys[0])).unwrap();
        edit.end(ended(&keys[1])).unwrap();
        assert!(edit.finish().is_err(), "no root key is left");
    }
}
