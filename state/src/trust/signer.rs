//! Who signed a statement, and whether what he signed still counts.

use std::collections::BTreeSet;

use super::{Author, Right, Trust, signers};
use crate::commit::Commit;
use crate::key::{Fingerprint, PublicKey};
use crate::sshsig::{Namespace, Signature};
use crate::{Code, Refusal};

impl Trust {
    /// The author whose key is `key`, if he has `right`.
    ///
    /// # Errors
    /// `AUTHOR_UNKNOWN`.
    pub fn author(&self, key: &PublicKey, right: Right) -> Result<&Author, Refusal> {
        let refuse = |why: &str| {
            let detail = format!("trust {}: key {} {why}", self.version, key.fingerprint());
            Refusal::new(Code::AuthorUnknown, detail)
        };
        let author = self.authors.iter().find(|author| author.key == *key);
        let author = author.ok_or_else(|| refuse("is not listed as an author's"))?;
        if !author.may.contains(right) {
            return Err(refuse(&format!(
                "of '{}' lacks `may: {right}`",
                author.name
            )));
        }
        Ok(author)
    }

    /// The rights that this version does not know, a sentence for each; what it quotes is not escaped.
    pub fn unknown_rights(&self) -> Vec<String> {
        let of = |author: &Author| {
            let sentence = |right: &str| {
                let (version, name) = (self.version, &author.name);
                format!(
                    "trust {version}: '{name}' may '{right}', a right that this version does not know and that grants nothing here"
                )
            };
            author.may.unknown().map(sentence).collect::<Vec<_>>()
        };
        self.authors.iter().flat_map(of).collect()
    }

    /// Checks that an author with the right to write `main` signed `commit`, and returns him.
    ///
    /// # Errors
    /// `AUTHOR_UNKNOWN`, `AUTHOR_BAD_SIGNATURE`.
    pub fn verify_commit(&self, commit: &Commit) -> Result<&Author, Refusal> {
        let author = self
            .author(commit.signature.key(), Right::Author)
            .map_err(|refusal| refusal.at(format_args!("commit {}", commit.id)))?;
        let verified = commit.signature.verify(Namespace::Git, commit.payload());
        verified.map_err(|why| {
            let detail = format!("commit {}: by '{}': {why}", commit.id, author.name);
            Refusal::new(Code::AuthorBadSignature, detail)
        })?;
        Ok(author)
    }

    /// Checks that a policy key signed exactly these bytes as a manifest, and returns the key.
    ///
    /// # Errors
    /// `SIGNATURE_NONCANONICAL`, `MANIFEST_UNSIGNED`.
    pub fn verify_manifest(&self, bytes: &[u8], signature: &[u8]) -> Result<PublicKey, Refusal> {
        let signature = Signature::parse(signature)?;
        let signers = signers(&self.policy.keys, Namespace::Manifest, bytes, &[signature]);
        let signer = signers.first().copied().cloned();
        signer.ok_or_else(|| {
            let detail = format!(
                "manifest: not signed by a policy key of trust {}",
                self.version
            );
            Refusal::new(Code::ManifestUnsigned, detail)
        })
    }

    /// Checks that a policy or `fresh` key signed exactly these bytes as a freshness statement.
    ///
    /// # Errors
    /// `SIGNATURE_NONCANONICAL`, `FRESHNESS_UNSIGNED`.
    pub fn verify_freshness(&self, bytes: &[u8], signature: &[u8]) -> Result<(), Refusal> {
        let signature = [Signature::parse(signature)?];
        let signed = |keys| !signers(keys, Namespace::Freshness, bytes, &signature).is_empty();
        if signed(&self.policy.keys) || signed(&self.fresh.keys) {
            return Ok(());
        }
        let detail = format!(
            "freshness: not signed by a policy or fresh key of trust {}",
            self.version
        );
        Err(Refusal::new(Code::FreshnessUnsigned, detail))
    }

    /// The policy key that signed exactly these bytes as a freshness statement, if one did.
    pub fn policy_key_of_freshness(&self, bytes: &[u8], signature: &[u8]) -> Option<PublicKey> {
        let signature = [Signature::parse(signature).ok()?];
        let keys = &self.policy.keys;
        let signers = signers(keys, Namespace::Freshness, bytes, &signature);
        signers.first().copied().cloned()
    }

    /// Checks, in the newest trust file, that what a policy key signed at `sequence` still counts.
    ///
    /// # Errors
    /// `KEY_ENDED` unless the key is listed, or was ended no earlier than `sequence`.
    pub fn check_policy_key(&self, key: &PublicKey, sequence: u64) -> Result<(), Refusal> {
        self.check_in_force(self.policy.keys.contains(key), key, sequence)
    }

    /// Checks, in the newest trust file, that what an author's key signed and was admitted at `sequence` still counts.
    ///
    /// # Errors
    /// `KEY_ENDED` unless the key is listed, or was ended no earlier than `sequence`.
    pub fn check_author_key(&self, key: &PublicKey, sequence: u64) -> Result<(), Refusal> {
        let listed = self.authors.iter().any(|author| author.key == *key);
        self.check_in_force(listed, key, sequence)
    }

    /// The keys that counted in `previous` and that this version, which follows it, neither lists in the same role nor
    /// ends: nothing that they ever signed counts any more, so that no new host accepts the log.
    pub fn forgotten(&self, previous: &Self) -> Vec<Fingerprint> {
        let counts = |trust: &Self| {
            let policy = trust.policy.keys.iter().map(PublicKey::fingerprint);
            let authors = trust.authors.iter().map(|author| author.key.fingerprint());
            let ended = trust.ended.iter().map(|ended| ended.key);
            let of = |role: &'static str| move |key| (role, key);
            let listed = policy.map(of("policy")).chain(authors.map(of("author")));
            listed
                .chain(ended.map(of("ended")))
                .collect::<BTreeSet<_>>()
        };
        let now = counts(self);
        let kept = |one: &(&'static str, Fingerprint)| {
            now.contains(one) || now.contains(&("ended", one.1))
        };
        let before = counts(previous).into_iter();
        before
            .filter(|one| !kept(one))
            .map(|(_, key)| key)
            .collect()
    }

    fn check_in_force(&self, listed: bool, key: &PublicKey, sequence: u64) -> Result<(), Refusal> {
        let fingerprint = key.fingerprint();
        let ended = self.ended.iter().find(|ended| ended.key == fingerprint);
        if listed || ended.is_some_and(|ended| sequence <= ended.last_sequence) {
            return Ok(());
        }
        let why = match ended {
            Some(ended) => format!("was ended after {} ({})", ended.last_sequence, ended.reason),
            None => "is no longer listed".to_owned(),
        };
        let detail = format!(
            "trust {}: key {fingerprint} {why}, signed for {sequence}",
            self.version
        );
        Err(Refusal::new(Code::KeyEnded, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::ObjectId;
    use crate::sshsig;
    use crate::trust::example::{code, keys, roles, text};

    #[test]
    fn statements_count_only_if_their_role_signed_them() {
        let [root, policy, author, helper] = keys();
        let extra = format!(
            "{}fresh: {{ keys: [ \"{}\" ] }}\n",
            roles(&policy, &author),
            helper.public()
        );
        let trust = Trust::parse(text(1, 1, &[&root], &extra).as_bytes()).unwrap();
        let signed = |key, namespace| sshsig::sign(key, namespace, b"statement");
        let manifest =
            |key, namespace| trust.verify_manifest(b"statement", signed(key, namespace).as_bytes());
        assert_eq!(
            manifest(&policy, Namespace::Manifest).as_ref(),
            Ok(policy.public())
        );
        for (key, namespace) in [
            (&root, Namespace::Manifest),
            (&author, Namespace::Manifest),
            (&helper, Namespace::Manifest),
            (&policy, Namespace::Freshness),
        ] {
            assert_eq!(code(manifest(key, namespace)), Some(Code::ManifestUnsigned));
        }
        let fresh = |key| {
            trust.verify_freshness(b"statement", signed(key, Namespace::Freshness).as_bytes())
        };
        assert_eq!(fresh(&policy), Ok(()));
        assert_eq!(fresh(&helper), Ok(()));
        assert_eq!(code(fresh(&author)), Some(Code::FreshnessUnsigned));
    }

    #[test]
    fn a_commit_counts_only_if_a_listed_author_signed_it() {
        let [root, policy, author, stranger] = keys();
        let trust =
            Trust::parse(text(1, 1, &[&root], &roles(&policy, &author)).as_bytes()).unwrap();
        let commit = |key, namespace| {
            let head = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n";
            let armor = sshsig::sign(key, namespace, format!("{head}\nm\n").as_bytes());
            let raw = format!(
                "{head}gpgsig {}\n\nm\n",
                armor.trim_end().replace('\n', "\n ")
            );
            Commit::parse(ObjectId([0; 20]), raw.as_bytes()).unwrap()
        };
        let verified = trust
            .verify_commit(&commit(&author, Namespace::Git))
            .unwrap()
            .name
            .to_string();
        assert_eq!(verified, "alice");
        let unknown = commit(&stranger, Namespace::Git);
        assert_eq!(
            code(trust.verify_commit(&unknown)),
            Some(Code::AuthorUnknown)
        );
        let bad = commit(&author, Namespace::Trust);
        assert_eq!(
            code(trust.verify_commit(&bad)),
            Some(Code::AuthorBadSignature)
        );
        assert_eq!(
            code(trust.author(author.public(), Right::Approve)),
            Some(Code::AuthorUnknown)
        );
    }

    #[test]
    fn a_key_that_ended_counts_up_to_its_last_sequence() {
        let [root, policy, author, rotated, forgotten] = keys();
        let ended = format!(
            "ended: [ {{ key: \"{}\", lastSequence: 41, reason: rotated }} ]\n",
            rotated.public().fingerprint()
        );
        let extra = format!("{}{ended}", roles(&policy, &author));
        let trust = Trust::parse(text(1, 1, &[&root], &extra).as_bytes()).unwrap();
        let ended = Some(Code::KeyEnded);
        for check in [Trust::check_policy_key, Trust::check_author_key] {
            assert_eq!(code(check(&trust, rotated.public(), 41)), None);
            assert_eq!(code(check(&trust, rotated.public(), 42)), ended);
            assert_eq!(code(check(&trust, forgotten.public(), 1)), ended);
        }
        assert_eq!(code(trust.check_policy_key(policy.public(), 99)), None);
        assert_eq!(code(trust.check_author_key(author.public(), 99)), None);
        assert_eq!(
            code(trust.check_policy_key(author.public(), 1)),
            ended,
            "another role"
        );
    }

    #[test]
    fn a_key_that_leaves_its_role_without_being_ended_is_forgotten() {
        let [root, policy, author, other] = keys();
        let parse = |extra: &str| Trust::parse(text(1, 1, &[&root], extra).as_bytes()).unwrap();
        let ended = |key: &crate::key::SigningKey| {
            let print = key.public().fingerprint();
            format!("ended: [ {{ key: \"{print}\", lastSequence: 9, reason: rotated }} ]\n")
        };
        let before = parse(&roles(&policy, &author));
        let print = |key: &crate::key::SigningKey| key.public().fingerprint();
        assert_eq!(before.forgotten(&before), []);
        let replaced = parse(&roles(&other, &author));
        assert_eq!(replaced.forgotten(&before), [print(&policy)]);
        let rotated = parse(&format!("{}{}", roles(&other, &author), ended(&policy)));
        assert_eq!(rotated.forgotten(&before), []);
        let unlisted = parse(&roles(&other, &author));
        assert_eq!(
            unlisted.forgotten(&rotated),
            [print(&policy)],
            "no longer ended"
        );
        let moved = parse(&roles(&author, &other));
        let mut both = [print(&policy), print(&author)];
        both.sort();
        let mut forgotten = moved.forgotten(&before);
        forgotten.sort();
        assert_eq!(forgotten, both, "an author's key that signs admissions now");
    }
}
