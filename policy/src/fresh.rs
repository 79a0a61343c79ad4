//! The branch `fresh`: one commit without parents, replaced in place, with policy's word that an admission is the newest.

use jiff::{SignedDuration, Timestamp};
use state::commit;
use state::digest::ObjectId;
use state::freshness::Freshness;
use state::git::{Git, Kind};
use state::key::SigningKey;
use state::manifest::{Link, Manifest};
use state::sshsig::{self, Namespace};
use state::tree::{self, Files};
use state::trust::Trust;
use state::{Refusal, verify};

use crate::log::Log;

/// How old a statement may become before it is renewed, and half of the longest life is the other bound.
const RENEWED_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Writes the commit that says that `tip` is the newest admission of the log's fleet, and returns its id.
pub fn write(
    git: &Git,
    key: &SigningKey,
    log: &Log,
    tip: &Link,
    now: Timestamp,
) -> Result<ObjectId, Refusal> {
    let statement = Freshness {
        domain: *log.domain(),
        sequence: tip.sequence,
        manifest: tip.hash,
        issued: now,
        expires: now
            .saturating_add(longest(log.trust()))
            .unwrap_or(Timestamp::MAX),
    };
    let text = statement.print();
    let signature = sshsig::sign(key, Namespace::Freshness, text.as_bytes());
    let files = Files::from([
        ("freshness".to_owned(), text.into_bytes().into()),
        ("freshness.sig".to_owned(), signature.into_bytes().into()),
    ]);
    write_commit(git, &files, &[], &format!("Fresh: {}", tip.sequence), now)
}

/// What a statement is about: the log's last admission, also right after an anchor, when the next one has another number.
pub fn subject(log: &Log) -> Option<Link> {
    log.verified().last().map(|entry| entry.manifest.link())
}

/// How long the statement at `commit` needs no renewal; `None` unless it is policy's, about the log's last entry, and young.
pub fn rest(git: &Git, log: &Log, commit: &ObjectId, now: Timestamp) -> Option<SignedDuration> {
    let statement = verify::read_freshness(git, commit, log.trust()).ok()?;
    let (tip, age) = (subject(log)?, now.duration_since(statement.issued));
    let renewal = renewal(log.trust());
    let stands = statement.domain == *log.domain()
        && statement.sequence == tip.sequence
        && statement.manifest == tip.hash
        && age >= SignedDuration::ZERO
        && age < renewal;
    stands.then(|| renewal - age)
}

/// What policy's own word at `commit` shows to be signed beyond the end of the log; `None` if it is `saved`, which comes
/// next. The word stays where `admitted` and all that policy remembers were lost together.
pub fn beyond(
    git: &Git,
    log: &Log,
    commit: &ObjectId,
    saved: Option<&Manifest>,
) -> Option<Freshness> {
    let statement = verify::witness(git, commit, log.verified().chain())?;
    let shown = (statement.sequence, statement.manifest);
    let saved = saved.map(|manifest| manifest.link());
    let known = saved.is_some_and(|link| (link.sequence, link.hash) == shown);
    (statement.sequence > log.link().sequence && !known).then_some(statement)
}

/// How old a statement becomes before it is renewed.
pub fn renewal(trust: &Trust) -> SignedDuration {
    RENEWED_AFTER.min(longest(trust) / 2)
}

fn longest(trust: &Trust) -> SignedDuration {
    let longest = trust.policy.max_freshness.duration();
    SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX)
}

/// Writes `files` as a tree, and a commit of it by policy.
pub(crate) fn write_commit(
    git: &Git,
    files: &Files,
    parents: &[ObjectId],
    message: &str,
    time: Timestamp,
) -> Result<ObjectId, Refusal> {
    let root = tree::write(files, |kind, bytes| git.write(kind, bytes))?;
    git.write(
        Kind::Commit,
        &commit::unsigned(&root, parents, message, time),
    )
}
