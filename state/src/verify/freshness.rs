//! Step 8: whether the tip of the log is still the newest admission.

use jiff::{SignedDuration, Timestamp};

use crate::digest::{Domain, ObjectId};
use crate::freshness::Freshness;
use crate::git::Git;
use crate::manifest::Manifest;
use crate::trust::Trust;
use crate::{Code, Refusal};

use super::chain::Chain;
use super::files::Folder;

/// The most bytes that are read of the statement or its signature.
const MAX_READ: u64 = 16 << 10;

/// Whether the tip of the log was the newest admission at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It was: what is new may start.
    Fresh {
        /// The end of that.
        until: Timestamp,
    },
    /// Nobody can tell: what runs is kept up, nothing new starts.
    Stale {
        /// The beginning of that.
        since: Timestamp,
    },
}

/// What the branch `fresh` proves.
pub(super) struct Proof {
    /// Until when the tip counts as the newest.
    pub(super) until: Timestamp,
    /// When the statement was signed.
    pub(super) issued: Timestamp,
}

/// 8. Reads the statement at `commit` and says until when `tip` is fresh, by itself or by the statement.
pub(super) fn check(
    git: &Git,
    commit: &ObjectId,
    domain: &Domain,
    trust: &Trust,
    tip: &Manifest,
    now: Timestamp,
) -> Result<Proof, Refusal> {
    let statement = read(git, commit, trust)?;
    statement.check(domain, trust.policy.max_freshness, now)?;
    let extended = statement.extends(&tip.link())?;
    let longest = SignedDuration::try_from(trust.policy.max_freshness.duration());
    let longest = longest.unwrap_or(SignedDuration::MAX);
    let own = tip.issued.saturating_add(longest).unwrap_or(Timestamp::MAX);
    Ok(Proof {
        until: extended.map_or(own, |extended| own.max(extended)),
        issued: statement.issued,
    })
}

/// Reads the statement at `commit`, a tip of the branch `fresh`, and verifies its signature by `trust`.
///
/// # Errors
/// `FRESHNESS_MALFORMED`, also if there is none; `FRESHNESS_UNSIGNED`.
pub fn read(git: &Git, commit: &ObjectId, trust: &Trust) -> Result<Freshness, Refusal> {
    let (bytes, signature) = files(git, commit)?;
    trust.verify_freshness(&bytes, &signature)?;
    Freshness::parse(&bytes)
}

/// Reads the statement at `commit` as policy's word that an admission was signed; `None` unless a policy key gave it, of
/// whatever trust file, that counts for that admission. A `fresh` key admits nothing, so its word is none.
pub fn witness(git: &Git, commit: &ObjectId, chain: &Chain) -> Option<Freshness> {
    let (bytes, signature) = files(git, commit).ok()?;
    let statement = Freshness::parse(&bytes).ok()?;
    let counts = |trust: &Trust| {
        let key = trust.policy_key_of_freshness(&bytes, &signature);
        let newest = chain.newest();
        key.is_some_and(|key| newest.check_policy_key(&key, statement.sequence).is_ok())
    };
    let signed = statement.domain == *chain.domain() && chain.versions().any(counts);
    signed.then_some(statement)
}

/// The bytes of the statement at `commit`, and of its signature.
fn files(git: &Git, commit: &ObjectId) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    let folder = Folder::of_commit(git, commit)?;
    let require = |name: &str| {
        let missing = || {
            Refusal::new(
                Code::FreshnessMalformed,
                format!("commit {commit} has no '{name}'"),
            )
        };
        folder.file(name, MAX_READ)?.ok_or_else(missing)
    };
    Ok((require("freshness")?, require("freshness.sig")?))
}
