//! Writes the next trust file by editing the text of the one before it, so that comments and order stay as they are.
//!
//! The text is edited line by line, in the spellings that people use. What a line editor misreads would be signed by
//! root, so the terms are changed beside the text, and [`Edit::finish`] gives out a text only if it says those terms.

use std::ops::Range;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use state::key::{Fingerprint, PublicKey};
use state::trust::{Anchor, Author, Ended, Terms, Trust};
use state::yaml;

/// A trust file in the making.
#[derive(Clone, Debug)]
pub struct Edit {
    lines: Vec<String>,
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
            lines: text.lines().map(str::to_owned).collect(),
            terms: Terms::clone(previous),
        };
        edit.terms.version += 1;
        edit.terms.prev = Some(previous.hash());
        edit.terms.expires = expires;
        edit.set("version", &edit.terms.version.to_string(), "name");
        edit.set("prev", &format!("sha256:{}", previous.hash()), "version");
        edit.set("expires", &expires.to_string(), "prev");
        edit
    }

    /// Lists another author, given as one line of YAML.
    pub fn add_author(&mut self, item: &str) -> anyhow::Result<()> {
        let author = yaml::parse(item.as_bytes()).and_then(|value| yaml::typed::<Author>(&value));
        self.terms.authors.push(author?);
        self.insert("authors", item)
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
        let (line, span) = self.spelled(&key)?;
        self.lines[line].replace_range(span, &new.text());
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
        self.remove(&key)?;
        self.list_ended(ended)
    }

    /// Vouches for the log up to `anchor`, in place of an earlier anchor.
    pub fn anchor(&mut self, anchor: Anchor) {
        if let Some(section) = self.section("anchor") {
            self.lines.drain(section);
        }
        self.lines.extend([
            "anchor:".to_owned(),
            format!("  sequence: {}", anchor.sequence),
            format!("  manifest: sha256:{}", anchor.manifest),
            format!("  next: {}", anchor.next),
            format!("  main: sha256:{}", anchor.main),
        ]);
        self.terms.anchor = Some(anchor);
    }

    /// The text of the file.
    ///
    /// # Errors
    /// What makes no sense in a trust file, and an edit that this spelling of the file does not allow.
    pub fn finish(self) -> anyhow::Result<String> {
        let text = self.lines.join("\n") + "\n";
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
        self.insert("ended", &item)
    }

    /// The lines of a top-level field, without the comments that stand before the next one.
    fn section(&self, field: &str) -> Option<Range<usize>> {
        let opens = |line: &String| {
            let rest = line.strip_prefix(field);
            rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
        };
        let start = self.lines.iter().position(opens)?;
        let continues =
            |line: &&String| line.is_empty() || line.starts_with([' ', '\t', '-', '#', ']', '}']);
        let rest = &self.lines[start + 1..];
        let mut length = rest.iter().take_while(continues).count();
        let apart = |line: &String| line.trim().is_empty() || line.starts_with('#');
        while length > 0 && apart(&rest[length - 1]) {
            length -= 1;
        }
        Some(start..start + 1 + length)
    }

    /// Sets a field of one line, or adds it below the field `below`.
    fn set(&mut self, field: &str, value: &str, below: &str) {
        match self.section(field) {
            Some(section) => {
                let line = &mut self.lines[section.start];
                let comment = line.find(" #").map(|at| line[at..].to_owned());
                *line = format!("{field}: {value}{}", comment.unwrap_or_default());
            }
            None => {
                let at = self.section(below).map_or(0, |section| section.end);
                self.lines.insert(at, format!("{field}: {value}"));
            }
        }
    }

    /// Adds an item at the end of a top-level list.
    fn insert(&mut self, field: &str, item: &str) -> anyhow::Result<()> {
        let Some(section) = self.section(field) else {
            let lines = [format!("{field}:"), format!("  - {item}")];
            self.lines.extend(lines);
            return Ok(());
        };
        let first = self.lines[section.clone()]
            .iter()
            .find(|line| is_item(line));
        if let Some(first) = first {
            let line = format!("{:width$}- {item}", "", width = indent(first));
            self.lines.insert(section.end, line);
            return Ok(());
        }
        let mut of_list = self.lines[section].iter_mut().rev();
        let last = of_list.find(|line| !line.trim_start().starts_with('#'));
        let last = last.context("the list has lines")?;
        let close = last.rfind(']');
        let close = close.with_context(|| format!("`{field}` is not spelled as a list"))?;
        let before = last[..close].trim_end();
        let comma = if before.ends_with('[') { "" } else { "," };
        *last = format!("{before}{comma} {item} {}", &last[close..]);
        Ok(())
    }

    /// Where a listed key stands: its line, and its place there, with its comment if both are quoted.
    fn spelled(&self, key: &PublicKey) -> anyhow::Result<(usize, Range<usize>)> {
        let text = key.to_string();
        let places = self.lines.iter().enumerate();
        let found = places
            .filter_map(|(number, line)| line.find(&text).map(|at| (number, line, at)))
            .find(|(_, line, at)| !line[..*at].contains('#'));
        let (number, line, at) = found.context("a key is spelled over several lines")?;
        let before = line[..at].chars().last();
        let rest = &line[at + text.len()..];
        let comment = match before.filter(|c| "\"'".contains(*c)) {
            Some(quote) => rest.find(quote).unwrap_or(0),
            None => 0,
        };
        Ok((number, at..at + text.len() + comment))
    }

    /// Takes the item that holds a key out of its list.
    fn remove(&mut self, key: &PublicKey) -> anyhow::Result<()> {
        let (number, span) = self.spelled(key)?;
        let authors = self.section("authors");
        let line = &self.lines[number];
        if is_item(line) || authors.is_some_and(|authors| authors.contains(&number)) {
            let begins = |at: &usize| {
                let one = &self.lines[*at];
                is_item(one) && (*at == number || indent(one) < indent(line))
            };
            let start = (0..=number).rev().find(begins);
            let start = start.context("a key stands in no item of a list")?;
            let depth = indent(&self.lines[start]);
            let deeper = |one: &&String| !one.trim().is_empty() && indent(one) > depth;
            let rest = self.lines[start + 1..].iter();
            let end = start + 1 + rest.take_while(deeper).count();
            self.lines.drain(start..end);
            self.close_if_empty(start);
            return Ok(());
        }
        let quoted = line[..span.start].ends_with(['"', '\'']);
        let (mut start, mut end) = match quoted {
            true => (span.start - 1, span.end + 1),
            false => (span.start, span.end),
        };
        // With the comma that follows, or else the one before.
        if let Some(rest) = line[end..].trim_start().strip_prefix(',') {
            end = line.len() - rest.trim_start().len();
        } else if let Some(rest) = line[..start].trim_end().strip_suffix(',') {
            start = rest.len();
        }
        self.lines[number].replace_range(start..end, "");
        Ok(())
    }
}

impl Edit {
    /// Says of the list whose item stood at `at` that it is empty, if that was its only one.
    fn close_if_empty(&mut self, at: usize) {
        let holds = |line: &&String| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let next = self.lines[at..].iter().find(holds);
        let next = next.filter(|line| is_item(line)).map(|line| indent(line));
        let before = self.lines[..at].iter().rposition(|line| holds(&line));
        if let Some(header) = before.map(|at| &mut self.lines[at])
            && header.trim_end().ends_with(':')
            && next.is_none_or(|next| next < indent(header))
        {
            *header = format!("{} []", header.trim_end());
        }
    }
}

/// The columns before a line's first character.
fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Says whether a line begins an item of a list.
fn is_item(line: &str) -> bool {
    line.trim_start().starts_with("- ")
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
