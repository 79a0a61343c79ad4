//! Commits, read from their raw bytes by a grammar that leaves no room for a second reading:
//! `tree parent* author committer [encoding] gpgsig`, each once, in this order, nothing else.

mod header;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::{ObjectId, PayloadHash, Sha256Hash, TreeId};
use crate::origin::Origin;
use crate::sshsig::Signature;
use crate::{Code, Refusal, limit};
use header::{Headers, is_identity, malformed, misplaced};

/// The most bytes that a commit may have.
pub const MAX_BYTES: u64 = limit::COMMIT;

/// A commit of `main`: signed, in exact form. Who signed it, and whether he may, is the trust file's to say.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its git id.
    pub id: ObjectId,
    /// Its tree.
    pub tree: ObjectId,
    /// Its parents, first parent first.
    pub parents: Vec<ObjectId>,
    /// The signature in its `gpgsig` header, not yet verified: see [`crate::trust::Trust::verify_commit`].
    pub signature: Signature,
    /// Its message; bytes that are not UTF-8 are replaced.
    pub message: String,
    payload: Vec<u8>,
}

/// Whether the trailer `Tree-SHA256` must be there. If it is there it must be right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TreeTrailer {
    /// It may be left out.
    #[default]
    Optional,
    /// The environment requires it.
    Required,
}

impl Commit {
    /// Reads the raw bytes of the commit object `id`.
    ///
    /// # Errors
    /// `COMMIT_MALFORMED`, `AUTHOR_UNSIGNED`, `SIGNATURE_NONCANONICAL`.
    pub fn parse(id: ObjectId, raw: &[u8]) -> Result<Self, Refusal> {
        Self::read(id, raw).map_err(|refusal| refusal.at(format_args!("commit {id}")))
    }

    fn read(id: ObjectId, raw: &[u8]) -> Result<Self, Refusal> {
        let parts = Parts::parse(raw)?;
        let Some(armor) = parts.armor else {
            return Err(Refusal::new(Code::AuthorUnsigned, "it is not signed"));
        };
        Ok(Self {
            id,
            tree: parts.links.tree,
            parents: parts.links.parents,
            signature: Signature::parse(&armor)?,
            message: String::from_utf8_lossy(parts.message).into_owned(),
            payload: [parts.before, b"\n", parts.message].concat(),
        })
    }

    /// What the author signed: the raw bytes without the `gpgsig` header.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The commit's identity: the SHA-256 of its payload.
    pub fn payload_hash(&self) -> PayloadHash {
        PayloadHash(Sha256Hash::of(&self.payload).0)
    }

    /// Its git id and its identity.
    pub fn origin(&self) -> Origin {
        Origin {
            commit: self.id,
            payload: self.payload_hash(),
        }
    }

    /// The first line of the message.
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// The values of the trailer `key`, in any case, in the last paragraph of the message.
    pub fn trailers(&self, key: &str) -> impl Iterator<Item = &str> {
        let paragraphs = self.message.trim_end().rsplit_once("\n\n");
        let lines = paragraphs.map_or("", |(_, last)| last).lines();
        lines.filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(key).then_some(value.trim())
        })
    }

    /// Checks the trailer `Tree-SHA256` against the SHA-256 id of the commit's tree.
    ///
    /// # Errors
    /// `TRAILER_MISSING`, `TRAILER_MISMATCH`.
    pub fn check_tree_trailer(&self, tree: &TreeId, rule: TreeTrailer) -> Result<(), Refusal> {
        let mut found = false;
        for value in self.trailers("Tree-SHA256") {
            if value != tree.to_string() {
                let detail = format!("commit {}: got '{value}', expected '{tree}'", self.id);
                return Err(Refusal::new(Code::TrailerMismatch, detail));
            }
            found = true;
        }
        if rule == TreeTrailer::Required && !found {
            let detail = format!("commit {}: expected `Tree-SHA256: {tree}`", self.id);
            return Err(Refusal::new(Code::TrailerMissing, detail));
        }
        Ok(())
    }
}

/// What a commit points to, for the branches whose files carry signatures of their own (`trust`, `admitted`,
/// `fresh`): who made the commit, and in which form, does not matter there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// Its tree.
    pub tree: ObjectId,
    /// Its parents, first parent first.
    pub parents: Vec<ObjectId>,
}

impl Links {
    /// Reads the first lines of a commit's raw bytes.
    ///
    /// # Errors
    /// `COMMIT_MALFORMED`.
    pub fn parse(raw: &[u8]) -> Result<Self, Refusal> {
        Headers(raw).links()
    }

    /// Reads a whole commit in exact form, whether it is signed or not, and by whomever: what hosts must be able to
    /// fetch, though nobody believes it.
    ///
    /// # Errors
    /// `COMMIT_MALFORMED`.
    pub fn parse_exact(raw: &[u8]) -> Result<Self, Refusal> {
        Parts::parse(raw).map(|parts| parts.links)
    }
}

/// The parts of a commit in exact form.
struct Parts<'a> {
    links: Links,
    /// The headers before the signature.
    before: &'a [u8],
    armor: Option<Vec<u8>>,
    message: &'a [u8],
}

impl<'a> Parts<'a> {
    fn parse(raw: &'a [u8]) -> Result<Self, Refusal> {
        if raw.len() as u64 > MAX_BYTES {
            return Err(malformed("it is too long"));
        }
        if raw.contains(&0) {
            return Err(malformed("it holds a NUL byte"));
        }
        let mut headers = Headers(raw);
        let links = headers.links()?;
        for name in ["author", "committer"] {
            let identity = headers.take(name).ok_or_else(|| misplaced(name))?;
            if !is_identity(identity) {
                return Err(malformed(&format!("`{name}` is no name, address and time")));
            }
        }
        headers.take("encoding");
        let before = &raw[..raw.len() - headers.0.len()];
        let armor = headers.take_armor();
        let message = headers.0.strip_prefix(b"\n");
        Ok(Self {
            links,
            before,
            armor,
            message: message.ok_or_else(|| misplaced("gpgsig"))?,
        })
    }
}

/// The raw bytes of an unsigned commit by policy, in UTC.
pub fn unsigned(tree: &ObjectId, parents: &[ObjectId], message: &str, time: Timestamp) -> Vec<u8> {
    let mut text = format!("tree {tree}\n");
    for parent in parents {
        text.push_str(&format!("parent {parent}\n"));
    }
    for role in ["author", "committer"] {
        text.push_str(&format!(
            "{role} policy <policy@writ> {} +0000\n",
            time.as_second()
        ));
    }
    text.push_str(&format!("\n{message}\n"));
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;
    use crate::oracle::Oracle;
    use crate::sshsig::{self, Namespace};

    /// A repository whose commits are signed with `key`.
    fn repository(key: &SigningKey) -> Oracle {
        let oracle = Oracle::new();
        oracle.write("key", key.to_openssh().as_bytes());
        oracle.run("git", &["init", "-q", "-b", "main"]);
        for (name, value) in [
            ("user.name", "Zoë Ångström"),
            ("user.email", "z@example.org"),
            ("gpg.format", "ssh"),
            ("user.signingKey", "key"),
        ] {
            oracle.run("git", &["config", name, value]);
        }
        oracle
    }

    /// The raw bytes and the id of a commit.
    fn raw(oracle: &Oracle, revision: &str) -> (ObjectId, Vec<u8>) {
        let id = oracle.run("git", &["rev-parse", revision]).parse().unwrap();
        let bytes = oracle.try_run("git", &["cat-file", "commit", revision], b"");
        (id, bytes.unwrap())
    }

    /// A signed commit made without git, with `extra` header lines before `gpgsig`.
    fn forged(key: &SigningKey, extra: &str, message: &str) -> Vec<u8> {
        let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let head =
            format!("tree {tree}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n{extra}");
        let payload = format!("{head}\n{message}");
        let armor = sshsig::sign(key, Namespace::Git, payload.as_bytes());
        let armor = armor.trim_end().replace('\n', "\n ");
        format!("{head}gpgsig {armor}\n\n{message}").into_bytes()
    }

    fn code(raw: &[u8]) -> Option<Code> {
        let id = ObjectId([0; 20]);
        Commit::parse(id, raw).err().map(|refusal| refusal.code)
    }

    #[test]
    fn commits_and_merges_signed_by_stock_git_are_read_and_verified() {
        let key = SigningKey::generate();
        let oracle = repository(&key);
        let commit = |message| {
            oracle.run(
                "git",
                &["commit", "-q", "-S", "--allow-empty", "-m", message],
            )
        };
        commit("first");
        oracle.run("git", &["checkout", "-q", "-b", "side"]);
        commit("side");
        oracle.run("git", &["checkout", "-q", "main"]);
        oracle.run("git", &["config", "i18n.commitEncoding", "ISO-8859-1"]);
        commit("second\n\nbody: none\n\nTree-SHA256: abc\nOther: x");
        oracle.run(
            "git",
            &["merge", "-q", "--no-ff", "-S", "-m", "merge", "side"],
        );

        for (revision, parents) in [("main~2", 0), ("main~1", 1), ("side", 1), ("main", 2)] {
            let (id, bytes) = raw(&oracle, revision);
            let commit = Commit::parse(id, &bytes).unwrap();
            let tree = oracle.run("git", &["rev-parse", &format!("{revision}^{{tree}}")]);
            assert_eq!(commit.tree.to_string(), tree);
            assert_eq!(commit.parents.len(), parents);
            assert_eq!(commit.signature.key(), key.public());
            assert_eq!(
                commit.signature.verify(Namespace::Git, commit.payload()),
                Ok(())
            );
            let links = Links::parse(&bytes).unwrap();
            assert_eq!((links.tree, links.parents), (commit.tree, commit.parents));
        }
        let (id, bytes) = raw(&oracle, "main~1");
        let second = Commit::parse(id, &bytes).unwrap();
        assert_eq!(second.subject(), "second");
        assert_eq!(second.trailers("tree-sha256").collect::<Vec<_>>(), ["abc"]);
        assert_eq!(second.trailers("body").count(), 0);
    }

    #[test]
    fn commits_that_stock_git_made_without_an_ssh_signature_are_refused() {
        let oracle = repository(&SigningKey::generate());
        oracle.run("git", &["commit", "-q", "--allow-empty", "-m", "unsigned"]);
        assert_eq!(code(&raw(&oracle, "main").1), Some(Code::AuthorUnsigned));
        oracle.run("git", &["checkout", "-q", "--orphan", "side"]);
        oracle.run("git", &["commit", "-q", "--allow-empty", "-m", "side"]);
        oracle.run("git", &["tag", "-s", "-m", "tag", "signed"]);
        oracle.run("git", &["checkout", "-q", "main"]);
        oracle.run(
            "git",
            &[
                "merge",
                "-q",
                "-S",
                "--allow-unrelated-histories",
                "-m",
                "merge",
                "signed",
            ],
        );
        let (_, merge) = raw(&oracle, "main");
        assert_eq!(
            code(&merge),
            Some(Code::CommitMalformed),
            "it has a mergetag"
        );
    }

    #[test]
    fn a_second_commit_made_from_a_signed_one_without_the_key_is_refused() {
        let key = SigningKey::generate();
        let original = String::from_utf8(forged(&key, "", "subject\n")).unwrap();
        assert_eq!(code(original.as_bytes()), None);
        let lines: Vec<_> = original.lines().collect();
        let rewrapped = original.replacen(&format!("{}\n ", lines[5]), lines[5], 1);
        for (variant, refused) in [
            (
                original.replacen("gpgsig ", "gpgsig-x junk\ngpgsig ", 1),
                Code::CommitMalformed,
            ),
            (
                original.replacen("\n\n", "\ngpgsig-sha256 junk\n\n", 1),
                Code::CommitMalformed,
            ),
            (
                original.replacen("\n\n", "\ngpgsig junk\n\n", 1),
                Code::CommitMalformed,
            ),
            (
                original.replacen("gpgsig ", "gpgsig junk\ngpgsig ", 1),
                Code::CommitMalformed,
            ),
            (rewrapped, Code::SignatureNoncanonical),
            (
                original.replacen("\n\n", "\n \n\n", 1),
                Code::SignatureNoncanonical,
            ),
        ] {
            assert_ne!(variant, original);
            assert_eq!(code(variant.as_bytes()), Some(refused), "{variant}");
        }
    }

    #[test]
    fn headers_that_are_unknown_repeated_misplaced_or_ambiguous_are_refused() {
        let key = SigningKey::generate();
        let good = String::from_utf8(forged(&key, "encoding latin1\n", "m\n")).unwrap();
        assert_eq!(code(good.as_bytes()), None);
        let tree = good.lines().next().unwrap();
        let author = "author a <a@b> 1 +0000\n";
        for variant in [
            good.replacen(tree, &format!("{tree}\n{tree}"), 1),
            good.replacen(tree, &tree.to_uppercase().replacen("TREE", "tree", 1), 1),
            good.replacen(&format!("{tree}\n"), "", 1),
            good.replacen(author, &format!("{author}{author}"), 1),
            good.replacen(author, &format!("{author}parent {}\n", &tree[5..]), 1),
            good.replacen("a@b> 1", "a@b> <x> 1", 1),
            good.replacen("<a@b> 1", "<a@b> one", 1),
            good.replacen("1 +0000", "1", 1),
            good.replacen("encoding latin1\n", "encoding latin1\nencoding latin1\n", 1),
            good.replacen("encoding latin1\n", "HG:extra x\n", 1),
            good.replacen("m\n", "m\0\n", 1),
            good[..good.find("\n\n").unwrap() + 1].to_owned(),
            String::new(),
        ] {
            assert_ne!(variant, good);
            assert_eq!(
                code(variant.as_bytes()),
                Some(Code::CommitMalformed),
                "{variant}"
            );
        }
        let long = forged(&key, "", &"x".repeat(300 << 10));
        assert_eq!(code(&long), Some(Code::CommitMalformed));
    }

    #[test]
    fn a_tree_trailer_that_is_there_must_be_right() {
        let key = SigningKey::generate();
        let tree = TreeId([7; 32]);
        let check = |message: &str, rule| {
            let raw = forged(&key, "", message);
            let commit = Commit::parse(ObjectId([0; 20]), &raw).unwrap();
            commit
                .check_tree_trailer(&tree, rule)
                .err()
                .map(|refusal| refusal.code)
        };
        let right = format!("subject\n\nTree-SHA256: {tree}\n");
        let contradicting = format!("{right}Tree-SHA256: {}\n", TreeId([8; 32]));
        assert_eq!(check(&right, TreeTrailer::Required), None);
        assert_eq!(check("subject\n", TreeTrailer::Optional), None);
        assert_eq!(
            check("subject\n", TreeTrailer::Required),
            Some(Code::TrailerMissing)
        );
        assert_eq!(
            check(&contradicting, TreeTrailer::Optional),
            Some(Code::TrailerMismatch)
        );
    }

    #[test]
    fn a_commit_that_we_write_is_the_one_that_git_writes() {
        let oracle = Oracle::new();
        oracle.run("git", &["init", "-q"]);
        let tree = oracle.run("git", &["write-tree"]);
        let parent = ObjectId([1; 20]);
        let time = "2026-11-20T23:50:00Z".parse().unwrap();
        let bytes = unsigned(&tree.parse().unwrap(), &[parent], "admit 42", time);
        let id = oracle.try_run("git", &["hash-object", "-t", "commit", "--stdin"], &bytes);
        assert!(id.is_some(), "git finds the commit well-formed");
        assert_eq!(Links::parse(&bytes).unwrap().parents, [parent]);
    }
}
