//! The signed bytes in a commit of `admitted`, before anything is made of what they say.

use crate::admitted::{MANIFEST, SIGNATURE};
use crate::digest::ObjectId;
use crate::git::{Git, Kind};
use crate::key::PublicKey;
use crate::manifest;
use crate::tree::Objects as _;
use crate::trust::{self, Trust};
use crate::{Code, Refusal};

use super::chain::Chain;
use super::files::{Folder, links};

/// The statement that lies in a commit of `admitted`, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) bytes: Vec<u8>,
    /// The file that holds the signature: few who read an entry ask for it.
    signature: ObjectId,
}

impl Statement {
    /// Reads the statement of a commit with this tree.
    ///
    /// # Errors
    /// `MANIFEST_MALFORMED` if there is none.
    pub(super) fn read(git: &Git, commit: &ObjectId, tree: &ObjectId) -> Result<Self, Refusal> {
        let folder = Folder::of_tree(git, tree)?;
        let missing = |name: &str| {
            let detail = format!("commit {commit} has no '{name}'");
            Refusal::new(Code::ManifestMalformed, detail)
        };
        // One byte more than allowed, so that it is the manifest that is too long and not the tree.
        let bytes = folder.file(MANIFEST, manifest::MAX_BYTES as u64 + 1)?;
        let bytes = bytes.ok_or_else(|| missing(MANIFEST))?;
        let signature = folder.id(SIGNATURE).ok_or_else(|| missing(SIGNATURE))?;
        Ok(Self { bytes, signature })
    }

    /// The policy key of `trust` that signed it.
    pub(super) fn signer(&self, git: &Git, trust: &Trust) -> Result<PublicKey, Refusal> {
        let limit = trust::MAX_BYTES as u64 + 1;
        let signature = git.object(Kind::Blob, &self.signature, limit);
        let signature = signature.map_err(|refusal| refusal.at(format_args!("'{SIGNATURE}'")))?;
        trust.verify_manifest(&self.bytes, &signature)
    }

    /// Checks that a policy key of the fleet, listed now or before, signed it.
    pub(super) fn check_signed(&self, git: &Git, chain: &Chain) -> Result<(), Refusal> {
        if chain
            .versions()
            .any(|trust| self.signer(git, trust).is_ok())
        {
            return Ok(());
        }
        self.signer(git, chain.newest()).map(drop)
    }
}

/// Says whether a policy key of `trust` signed the statement at `commit`, also one of a version that is not known here;
/// nothing else is verified.
pub fn is_signed(git: &Git, commit: &ObjectId, trust: &Trust) -> bool {
    let links = links(git, commit);
    let statement = links.and_then(|links| Statement::read(git, commit, &links.tree));
    statement.is_ok_and(|statement| statement.signer(git, trust).is_ok())
}
