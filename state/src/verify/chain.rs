//! Step 4: the trust files, from the first one, which is the domain, to the newest.

use crate::digest::{Domain, ObjectId, Sha256Hash};
use crate::git::Git;
use crate::manifest::TrustRef;
use crate::trust::{MAX_BYTES, Trust};
use crate::{Code, Refusal};

use super::files::Folder;

/// The most bytes that are read of a trust file or its signatures; [`Trust`] allows less and says so.
const MAX_READ: u64 = 4 * MAX_BYTES as u64;

/// Every trust file of a fleet, each signed by the root of the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    domain: Domain,
    first: Trust,
    later: Vec<Trust>,
}

impl Chain {
    /// Verifies the files of the branch `trust`, whose tip is `tip`: `1.yaml`, whose hash is `domain`, and on from there.
    ///
    /// # Errors
    /// Those of [`Trust::first`] and [`Trust::next`].
    pub fn read(git: &Git, tip: &ObjectId, domain: &Domain) -> Result<Self, Refusal> {
        let (chain, refused) = Self::read_verified(git, tip, domain)?;
        refused.map_or(Ok(chain), Err)
    }

    /// The same up to the last file that verifies, and why the one after it does not, if there is one.
    ///
    /// # Errors
    /// Those of [`Trust::first`].
    pub(super) fn read_verified(
        git: &Git,
        tip: &ObjectId,
        domain: &Domain,
    ) -> Result<(Self, Option<Refusal>), Refusal> {
        let folder = Folder::of_commit(git, tip)?;
        let Some(Signed { bytes, signatures }) = signed(&folder, 1)? else {
            return Err(no_first());
        };
        let mut chain = Self {
            domain: *domain,
            first: Trust::first(&bytes, &signatures, domain)?,
            later: Vec::new(),
        };
        // 4. Trust N → N+1 while there is one.
        loop {
            match chain.next(&folder) {
                Ok(Some(next)) => chain.later.push(next),
                Ok(None) => return Ok((chain, None)),
                Err(refusal) => return Ok((chain, Some(refusal))),
            }
        }
    }

    /// The file after the newest; `None` if there is none.
    fn next(&self, folder: &Folder<'_>) -> Result<Option<Trust>, Refusal> {
        let next = signed(folder, self.newest().version.saturating_add(1))?;
        let next = next.map(|next| self.newest().next(&next.bytes, &next.signatures));
        next.transpose()
    }

    /// The chain as if `next` were accepted after it: for those who ask, before it is signed, what it does to a log.
    pub fn supposing(&self, next: Trust) -> Self {
        let mut chain = self.clone();
        chain.later.push(next);
        chain
    }

    /// The fleet.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The trust file in force.
    pub fn newest(&self) -> &Trust {
        self.later.last().unwrap_or(&self.first)
    }

    /// All trust files, the first one first.
    pub fn versions(&self) -> impl Iterator<Item = &Trust> {
        std::iter::once(&self.first).chain(&self.later)
    }

    /// The trust file that a manifest names.
    ///
    /// # Errors
    /// `TRUST_MISMATCH` if there is no such version, or it is another file.
    pub fn get(&self, named: &TrustRef) -> Result<&Trust, Refusal> {
        let mut versions = self.versions();
        let found = versions.find(|trust| trust.version == named.version);
        found
            .filter(|trust| trust.hash() == named.sha256)
            .ok_or_else(|| {
                let TrustRef { version, sha256 } = named;
                let newest = self.newest().version;
                let detail =
                    format!("trust {version} {sha256} is not known here, the newest is {newest}");
                Refusal::new(Code::TrustMismatch, detail)
            })
    }

    /// Checks that the chain goes through what a floor has accepted.
    ///
    /// # Errors
    /// `TRUST_ROLLBACK`, `TRUST_FORK`.
    pub fn check_floor(&self, floor: &TrustRef) -> Result<(), Refusal> {
        let code = match self.get(floor) {
            Ok(_) => return Ok(()),
            Err(_) if self.newest().version < floor.version => Code::TrustRollback,
            Err(_) => Code::TrustFork,
        };
        let TrustRef { version, sha256 } = floor;
        let newest = self.newest().version;
        let detail = format!("accepted was {version} {sha256}, the newest here is {newest}");
        Err(Refusal::new(code, detail))
    }
}

/// The domain of the fleet whose branch `trust` has this tip: for those who serve it, not for those who are told it.
pub fn domain_of(git: &Git, tip: &ObjectId) -> Result<Domain, Refusal> {
    let first = Folder::of_commit(git, tip)?.file("1.yaml", MAX_READ)?;
    let bytes = first.ok_or_else(no_first)?;
    Ok(Domain(Sha256Hash::of(&bytes).0))
}

/// The bytes of the trust file `version` on the branch `trust`, whose tip is `tip`; who signed it is not checked here.
///
/// # Errors
/// `TRUST_VERSION` if there is none.
pub fn trust_file(git: &Git, tip: &ObjectId, version: u64) -> Result<Vec<u8>, Refusal> {
    let name = format!("{version}.yaml");
    let file = Folder::of_commit(git, tip)?.file(&name, MAX_READ)?;
    file.ok_or_else(|| {
        let detail = format!("the branch `trust` lacks '{name}'");
        Refusal::new(Code::TrustVersion, detail)
    })
}

/// A trust file as it lies on the branch.
struct Signed {
    bytes: Vec<u8>,
    signatures: Vec<u8>,
}

/// The trust file `version`; `None` if there is no such file.
fn signed(folder: &Folder<'_>, version: u64) -> Result<Option<Signed>, Refusal> {
    let Some(bytes) = folder.file(&format!("{version}.yaml"), MAX_READ)? else {
        return Ok(None);
    };
    let signatures = folder.file(&format!("{version}.sig"), MAX_READ)?;
    let signatures = signatures.ok_or_else(|| {
        let detail = format!("trust {version}: '{version}.sig' is missing");
        Refusal::new(Code::TrustUnsigned, detail)
    })?;
    Ok(Some(Signed { bytes, signatures }))
}

fn no_first() -> Refusal {
    Refusal::new(Code::TrustVersion, "the branch `trust` lacks '1.yaml'")
}
