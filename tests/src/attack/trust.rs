//! Trust files, field by field, signed by whatever root keys a test has.

use state::digest::Sha256Hash;
use state::key::PublicKey;
use state::sshsig::{self, Namespace};
use state::tree::Files;

use super::forge::Forge;
use super::keys::Keys;

/// What a trust file says; every field is text, so that it can say anything.
#[derive(Clone, Debug, Default)]
pub struct TrustText {
    /// The format.
    pub format: String,
    /// Its version.
    pub version: u64,
    /// The hash of the version before.
    pub prev: Option<Sha256Hash>,
    /// When it ends.
    pub expires: String,
    /// How many root keys must sign.
    pub threshold: usize,
    /// The root keys, as OpenSSH prints them.
    pub roots: Vec<String>,
    /// The policy keys.
    pub policy: Vec<String>,
    /// How long a word of policy lasts.
    pub max_freshness: String,
    /// The authors, one line of YAML each.
    pub authors: Vec<String>,
    /// The ended keys, one line of YAML each.
    pub ended: Vec<String>,
    /// Further lines.
    pub more: String,
}

impl TrustText {
    /// The text of the file.
    pub fn text(&self) -> String {
        let quoted = |keys: &[String]| {
            let keys: Vec<_> = keys.iter().map(|key| format!("\"{key}\"")).collect();
            keys.join(", ")
        };
        let lines = |title: &str, lines: &[String]| match lines {
            [] => String::new(),
            lines => format!("{title}:\n  - {}\n", lines.join("\n  - ")),
        };
        let Self {
            format,
            version,
            expires,
            threshold,
            more,
            max_freshness,
            ..
        } = self;
        let prev = self.prev.map(|prev| format!("prev: sha256:{prev}\n"));
        format!(
            "writ: {format}\nname: tests\nversion: {version}\n{}expires: {expires}\n\
             root: {{ threshold: {threshold}, keys: [ {} ] }}\n\
             policy: {{ keys: [ {} ], maxFreshness: {max_freshness} }}\n{}{}{more}",
            prev.unwrap_or_default(),
            quoted(&self.roots),
            quoted(&self.policy),
            lines("authors", &self.authors),
            lines("ended", &self.ended),
        )
    }

    /// The version that follows, the same in everything else.
    pub fn next(&self) -> Self {
        Self {
            version: self.version + 1,
            prev: Some(Sha256Hash::of(self.text().as_bytes())),
            ..self.clone()
        }
    }

    /// Ends `key` after the manifest `last`.
    pub fn end(&mut self, key: &PublicKey, last: u64) {
        let fingerprint = key.fingerprint();
        self.ended.push(format!(
            "{{ key: \"{fingerprint}\", lastSequence: {last}, reason: stolen }}"
        ));
    }

    /// The signatures of the file by `signers`.
    pub fn signatures(&self, keys: &Keys, signers: &[&str]) -> String {
        let text = self.text();
        let sign = |name: &&str| sshsig::sign(&keys.get(name), Namespace::Trust, text.as_bytes());
        signers.iter().map(sign).collect()
    }
}

/// A line for an author: who may do what where.
pub fn author(name: &str, key: &PublicKey, scope: &str) -> String {
    format!("{{ name: {name}, key: \"{key}\", {scope} }}")
}

impl Forge {
    /// Adds a version, signed by `signers`, to the branch `trust`; returns the commit.
    pub fn publish_trust(&self, trust: &TrustText, signers: &[&str]) -> state::digest::ObjectId {
        let signatures = trust.signatures(&self.keys, signers);
        self.publish_trust_files(&[
            (format!("{}.yaml", trust.version), trust.text()),
            (format!("{}.sig", trust.version), signatures),
        ])
    }

    /// Replaces the branch `trust` by these of its files.
    pub fn keep_trust_files(&self, kept: impl Fn(&str) -> bool) {
        let mut files = self.files(&self.tip("trust"));
        files.retain(|name, _| kept(name));
        self.point("trust", &self.commit_files(&files, &[]));
    }

    /// Adds any files to the branch `trust`; returns the commit.
    pub fn publish_trust_files(&self, more: &[(String, String)]) -> state::digest::ObjectId {
        let tip = self.tip("trust");
        let mut files: Files = self.files(&tip);
        for (name, text) in more {
            files.insert(name.clone(), text.as_bytes().into());
        }
        let id = self.commit_files(&files, &[tip]);
        self.point("trust", &id);
        id
    }
}
