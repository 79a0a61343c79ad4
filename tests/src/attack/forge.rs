//! Writes what no honest program writes, into a copy of the state repository or into an author's clone.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use state::commit::{self, Links};
use state::digest::{Domain, ObjectId};
use state::git::{Git, Kind, RefUpdate};
use state::key::SigningKey;
use state::tree::{self, Entry, Files, Limits, Objects as _};
use state::unit::Bytes;

use super::commit::CommitText;
use super::keys::Keys;
use super::trust::TrustText;
use crate::fleet::Fleet;
use crate::program;

/// How large the trees are that the forge itself reads.
const LIMITS: Limits = Limits {
    files: 20_000,
    bytes: Bytes(64 << 20),
};

/// A repository in the hands of an attacker, and the keys that he may have stolen.
pub struct Forge {
    /// The repository's folder.
    pub path: PathBuf,
    /// Its objects and refs.
    pub git: Git,
    /// Every key of the fleet; a case takes those that its attacker has.
    pub keys: Keys,
    /// The fleet.
    pub domain: Domain,
    /// A commit of the source repositories whose services say that they are evil.
    pub evil: String,
    /// The trust file in force.
    pub trust: TrustText,
}

impl Forge {
    /// Opens the repository at `path`, in the hands of somebody with `keys`.
    pub fn open(path: &Path, keys: &Keys, domain: Domain, trust: &TrustText) -> Self {
        Self {
            path: path.to_owned(),
            git: Git::open(path).expect("a repository"),
            keys: keys.clone(),
            domain,
            evil: String::new(),
            trust: trust.clone(),
        }
    }

    /// Opens the repository at `path` of a fleet that has its first trust file still, in the hands of somebody with all
    /// its keys.
    pub fn of(fleet: &Fleet, path: &Path) -> Self {
        let domain = fleet.domain();
        let domain = domain.strip_prefix("sha256:").expect("a hash");
        let (keys, trust) = (Keys::of(fleet.path("keys")), TrustText::default());
        Self::open(path, &keys, domain.parse().expect("a domain"), &trust)
    }

    /// The private key `name`.
    pub fn key(&self, name: &str) -> SigningKey {
        self.keys.get(name)
    }

    /// Where a branch points.
    pub fn tip(&self, branch: &str) -> ObjectId {
        let name = format!("refs/heads/{branch}");
        self.git.require(&name).expect("a branch of the fleet")
    }

    /// Points a branch somewhere, whatever was there.
    pub fn point(&self, branch: &str, to: &ObjectId) {
        let name = format!("refs/heads/{branch}");
        let expected = self.git.resolve(&name).expect("a ref is read");
        if expected == Some(*to) {
            return;
        }
        let update = RefUpdate {
            name,
            expected,
            new: Some(*to),
        };
        self.git.transaction(&[update]).expect("a ref is moved");
    }

    /// Runs git in the repository.
    pub fn run_git(&self, args: &[&str]) -> String {
        let mut git = program::command("git", &self.path);
        let outcome = program::run(git.arg("-C").arg(&self.path).args(args)).ok();
        outcome.stdout.trim().to_owned()
    }

    /// The raw bytes of a commit.
    pub fn raw(&self, commit: &ObjectId) -> Vec<u8> {
        let raw = self.git.object(Kind::Commit, commit, commit::MAX_BYTES);
        raw.expect("a commit")
    }

    /// The first parent of a commit.
    pub fn parent(&self, commit: &ObjectId) -> ObjectId {
        self.links(commit).parents[0]
    }

    fn links(&self, commit: &ObjectId) -> Links {
        Links::parse(&self.raw(commit)).expect("the headers of a commit")
    }

    /// The tree of a commit.
    pub fn tree_of(&self, commit: &ObjectId) -> ObjectId {
        self.links(commit).tree
    }

    /// All files of a commit's tree.
    pub fn files(&self, commit: &ObjectId) -> Files {
        let read = tree::read(&self.git, &self.tree_of(commit), &LIMITS);
        read.expect("a tree in form").files
    }

    /// The entries in the root of a commit's tree.
    pub fn entries(&self, commit: &ObjectId) -> Vec<Entry> {
        let raw = self
            .git
            .object(Kind::Tree, &self.tree_of(commit), LIMITS.bytes.0);
        tree::parse(&raw.expect("a tree")).expect("a tree in form")
    }

    /// Writes a file's content.
    pub fn blob(&self, bytes: impl AsRef<[u8]>) -> ObjectId {
        self.write(Kind::Blob, bytes.as_ref())
    }

    /// Writes an object, unchecked.
    pub fn write(&self, kind: Kind, bytes: &[u8]) -> ObjectId {
        self.git.write(kind, bytes).expect("an object is written")
    }

    /// Writes a tree in form.
    pub fn tree(&self, files: &Files) -> ObjectId {
        tree::write(files, |kind, bytes| self.git.write(kind, bytes)).expect("a tree is written")
    }

    /// Writes a tree object of `(mode, name, id)`, as they are and in the order given.
    pub fn raw_tree(&self, entries: &[(&str, &[u8], ObjectId)]) -> ObjectId {
        let mut raw = Vec::new();
        for (mode, name, id) in entries {
            raw.extend_from_slice(mode.as_bytes());
            raw.push(b' ');
            raw.extend_from_slice(name);
            raw.push(0);
            raw.extend_from_slice(&id.0);
        }
        self.write(Kind::Tree, &raw)
    }

    /// The tree of `main` with further entries of any kind, put where git would put a file of that name.
    pub fn main_tree_with(&self, more: &[(&str, &[u8], ObjectId)]) -> ObjectId {
        let main = self.entries(&self.tip("main"));
        let mut entries: Vec<_> = main
            .iter()
            .map(|entry| (entry.mode.as_str(), entry.name.as_bytes(), entry.id))
            .collect();
        entries.extend_from_slice(more);
        entries.sort_by_key(|(mode, name, _)| {
            let slash = mode.ends_with("40000").then_some(b'/');
            name.iter().copied().chain(slash).collect::<Vec<_>>()
        });
        self.raw_tree(&entries)
    }

    /// The files of `main` after `edits`: a path and its new text.
    pub fn main_files_with(&self, edits: &[(&str, &str)]) -> Files {
        let mut files = self.files(&self.tip("main"));
        for (path, text) in edits {
            files.insert((*path).to_owned(), text.as_bytes().into());
        }
        files
    }

    /// A commit on top of `main`, not written yet, whose tree is `main`'s after `edits`.
    pub fn commit_with(&self, edits: &[(&str, &str)]) -> CommitText {
        let tree = self.tree(&self.main_files_with(edits));
        CommitText::new(tree, &[self.tip("main")])
    }

    /// A commit on top of `main`, not written yet, that has `dev` run the evil version of `web`.
    pub fn evil_commit(&self) -> CommitText {
        self.commit_with(&[("environments/dev/web.yaml", &self.evil_overlay())])
    }

    /// The overlay that pins the evil version.
    pub fn evil_overlay(&self) -> String {
        format!("source: {{ commit: \"{}\" }}\n", self.evil)
    }

    /// Writes the bytes of a commit and points `main` at it.
    pub fn push_main(&self, raw: impl AsRef<[u8]>) -> ObjectId {
        let id = self.write(Kind::Commit, raw.as_ref());
        self.point("main", &id);
        id
    }

    /// Writes an unsigned commit of `files`, as policy and root do on their branches.
    pub fn commit_files(&self, files: &Files, parents: &[ObjectId]) -> ObjectId {
        let raw = commit::unsigned(&self.tree(files), parents, "Forged", Timestamp::now());
        self.write(Kind::Commit, &raw)
    }
}
