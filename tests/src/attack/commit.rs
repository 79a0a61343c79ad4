//! Commits of `main`, byte by byte: as git would write them, until a test changes what it likes.

use state::digest::ObjectId;
use state::key::SigningKey;
use state::sshsig::{self, Namespace};

/// The headers and the message of a commit.
#[derive(Clone, Debug)]
pub struct CommitText {
    /// Its tree.
    pub tree: ObjectId,
    /// Its parents.
    pub parents: Vec<ObjectId>,
    /// `name <address> seconds +zone`, of author and committer.
    pub person: String,
    /// Further header lines before the signature.
    pub extra: String,
    /// The message.
    pub message: String,
}

impl CommitText {
    /// A commit of `tree` on `parents`, in perfect form.
    pub fn new(tree: ObjectId, parents: &[ObjectId]) -> Self {
        Self {
            tree,
            parents: parents.to_vec(),
            person: "mallory <mallory@example.org> 1795000000 +0000".to_owned(),
            extra: String::new(),
            message: "Improve things\n".to_owned(),
        }
    }

    fn head(&self) -> String {
        let mut head = format!("tree {}\n", self.tree);
        for parent in &self.parents {
            head += &format!("parent {parent}\n");
        }
        let Self { person, extra, .. } = self;
        head + &format!("author {person}\ncommitter {person}\n{extra}")
    }

    /// The bytes that a signature covers; those of the whole commit if nobody signs it.
    pub fn unsigned(&self) -> String {
        format!("{}\n{}", self.head(), self.message)
    }

    /// The commit, signed as `git commit -S` signs.
    pub fn signed(&self, key: &SigningKey) -> String {
        self.signed_as(key, Namespace::Git)
    }

    /// The commit, with a signature for statements of `namespace`.
    pub fn signed_as(&self, key: &SigningKey, namespace: Namespace) -> String {
        self.with_armor(&sshsig::sign(key, namespace, self.unsigned().as_bytes()))
    }

    /// The commit, with `armor` for a signature.
    pub fn with_armor(&self, armor: &str) -> String {
        let armor = armor.trim_end().replace('\n', "\n ");
        format!("{}gpgsig {armor}\n\n{}", self.head(), self.message)
    }
}
