//! Commits, read from their raw bytes by a grammar that leaves no room for a second reading:
//! `tree parent* author committer [encoding] gpgsig`, each once, in this order, nothing else.

use jiff::Timestamp;

use crate::Refusal;
use crate::digest::{ObjectId, PayloadHash, TreeId};
use crate::release::Origin;
use crate::sshsig::Signature;

/// The most bytes that a commit may have.
pub const MAX_BYTES: u64 = 256 << 10;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeTrailer {
    /// It may be left out.
    Optional,
    /// The environment requires it.
    Required,
}

impl Commit {
    /// Reads the raw bytes of the commit object `id`.
    ///
    /// # Errors
    /// `COMMIT_MALFORMED`, `AUTHOR_UNSIGNED`, `SIGNATURE_NONCANONICAL`.
    pub fn parse(_id: ObjectId, _raw: &[u8]) -> Result<Self, Refusal> {
        todo!()
    }

    /// What the author signed: the raw bytes without the `gpgsig` header.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The commit's identity: the SHA-256 of its payload.
    pub fn payload_hash(&self) -> PayloadHash {
        todo!()
    }

    /// Its git id and its identity.
    pub fn origin(&self) -> Origin {
        todo!()
    }

    /// The first line of the message.
    pub fn subject(&self) -> &str {
        todo!()
    }

    /// The values of the trailer `key`, in any case, in the last paragraph of the message.
    pub fn trailers<'a>(&'a self, _key: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::empty()
    }

    /// Checks the trailer `Tree-SHA256` against the SHA-256 id of the commit's tree.
    ///
    /// # Errors
    /// `TRAILER_MISSING`, `TRAILER_MISMATCH`.
    pub fn check_tree_trailer(&self, _tree: &TreeId, _rule: TreeTrailer) -> Result<(), Refusal> {
        todo!()
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
    pub fn parse(_raw: &[u8]) -> Result<Self, Refusal> {
        todo!()
    }
}

/// The raw bytes of an unsigned commit by policy, in UTC.
pub fn unsigned(
    _tree: &ObjectId,
    _parents: &[ObjectId],
    _message: &str,
    _time: Timestamp,
) -> Vec<u8> {
    todo!()
}
