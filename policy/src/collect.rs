//! Collects the evidence of a candidate: what was pushed for it, and what is held.

use std::collections::BTreeMap;

use jiff::Timestamp;
use state::approval::{MAX_BYTES, Signed};
use state::commit::{self, Commit, Links, TreeTrailer};
use state::digest::ObjectId;
use state::git::{Git, Kind};
use state::manifest::Change;
use state::name::Label;
use state::render::Rendered;
use state::tree::{self, Limits, Objects as _};
use state::trust::{Right, Trust};
use state::unit::Bytes;
use state::verify::Approvals;
use state::{Code, Refusal};

use crate::candidate::{Candidate, NOWHERE};
use crate::change::{changes, rules_in_force};
use crate::evidence::{Collected, Evidence, branch};
use crate::hold::{self, Edit};
use crate::log::Log;
use crate::repository::Repository;

/// The files of the commit that an approval is pushed as.
pub const FILES: [&str; 2] = ["approval", "approval.sig"];

/// What such a commit may hold.
const LIMITS: Limits = Limits {
    files: FILES.len() as u64,
    bytes: Bytes(2 * MAX_BYTES),
};

/// Checks that an approval of `change`, which the commit `author` of `main` asks for, counts, and says who gave it.
///
/// # Errors
/// What is wrong with it; `APPROVAL_MISSING` also if he had a part in the change.
pub fn check(
    git: &Git,
    log: &Log,
    change: &Change,
    author: &ObjectId,
    signed: &Signed,
    now: Timestamp,
) -> Result<Label, Refusal> {
    let mut approvals = log.verified().approvals(git);
    let given = approvals.asked(change, now)?.check(signed)?.name.clone();
    let standing = approvals.standing(change, author, std::slice::from_ref(signed), now)?;
    if standing.barred.contains(&given) {
        let detail =
            format!("'{given}' signed a part of the change: somebody else has to approve it");
        return Err(Refusal::new(Code::ApprovalMissing, detail));
    }
    Ok(given)
}

/// Collects what was pushed for what `candidate` would change, as of the time `now`, and what is held after `edit`.
///
/// # Errors
/// Those of reading the repository; what is wrong with an approval makes it not count.
pub fn collect(
    repository: &Repository,
    log: &Log,
    candidate: &Candidate,
    edit: Option<&Edit>,
    now: Timestamp,
) -> Result<Evidence, Refusal> {
    let git = &repository.git;
    let pushed = |change: &Change| {
        let people = approvers(log.trust()).into_iter();
        let pushed = people.map(|name| {
            match repository.branch(&format!("approvals/{}", branch(change, name)))? {
                // What is not in form there, on a host without our hook, is nobody's approval.
                Some(commit) => Ok(read(git, &commit).ok()),
                None => Ok(None),
            }
        });
        Ok(pushed
            .collect::<Result<Vec<_>, Refusal>>()?
            .into_iter()
            .flatten()
            .collect())
    };
    let mut approvals = log.verified().approvals(git);
    let mut evidence = gather(git, &mut approvals, log.admitted(), candidate, now, &pushed)?;
    evidence.held = hold::next(log.holds(), &candidate.rendered.holds, edit);
    Ok(evidence)
}

/// Gathers the evidence for what `candidate` changes of `admitted`; `handed_in` has the approvals of a change.
pub fn gather(
    git: &Git,
    approvals: &mut Approvals<'_>,
    admitted: &Rendered,
    candidate: &Candidate,
    now: Timestamp,
    handed_in: &dyn Fn(&Change) -> Result<Vec<Signed>, Refusal>,
) -> Result<Evidence, Refusal> {
    let mut evidence = Evidence::default();
    if candidate.origin == NOWHERE {
        return Ok(evidence);
    }
    let author = candidate.origin.commit;
    let raw = git.object(Kind::Commit, &author, commit::MAX_BYTES)?;
    let commit = Commit::parse(author, &raw)?;
    let trailer = commit.check_tree_trailer(&candidate.snapshot.id, TreeTrailer::Required);
    evidence.trailer = trailer.err();
    for change in changes(admitted, &candidate.rendered) {
        let rules = rules_in_force(&change.environment, admitted, &candidate.rendered);
        if rules.is_none_or(|rules| rules.approvals == 0) {
            continue;
        }
        let signed = handed_in(&change)?;
        let collected = one(approvals, &change, &author, signed, now)?;
        let place = (change.environment, change.subject);
        evidence.approvals.insert(place, collected);
    }
    Ok(evidence)
}

/// Judges what was handed in for one change.
fn one(
    approvals: &mut Approvals<'_>,
    change: &Change,
    author: &ObjectId,
    signed: Vec<Signed>,
    now: Timestamp,
) -> Result<Collected, Refusal> {
    let standing = approvals.standing(change, author, &signed, now);
    let asked = approvals.asked(change, now)?;
    let mut given = BTreeMap::new();
    for signed in signed {
        let name = asked.check(&signed).map(|author| author.name.clone());
        if let (Ok(standing), Ok(name)) = (&standing, name)
            && standing.given.contains(&name)
        {
            given.insert(name, signed);
        }
    }
    Ok(Collected { standing, given })
}

/// Who may approve something.
fn approvers(trust: &Trust) -> Vec<&Label> {
    let authors = trust.authors.iter();
    let may = authors.filter(|author| author.may.contains(Right::Approve));
    let mut names: Vec<_> = may.map(|author| &author.name).collect();
    names.sort();
    names.dedup();
    names
}

/// Reads the commit that an approval is pushed as: without parents, with the statement and its signature.
///
/// # Errors
/// `TREE_TOO_BIG`, `OBJECT_MISSING` and the like; `APPROVAL_MISSING` if a file is not there.
pub fn read(git: &Git, commit: &ObjectId) -> Result<Signed, Refusal> {
    let missing = |why: String| Refusal::new(Code::ApprovalMissing, why);
    let links = Links::parse(&git.object(Kind::Commit, commit, commit::MAX_BYTES)?)?;
    if !links.parents.is_empty() {
        return Err(missing(format!("commit {commit} has parents")));
    }
    let files = tree::read(git, &links.tree, &LIMITS)?.files;
    let file = |name: &str| {
        let bytes = files.get(name).map(|bytes| bytes.to_vec());
        bytes.ok_or_else(|| missing(format!("commit {commit} has no '{name}'")))
    };
    let [statement, signature] = FILES;
    Ok(Signed {
        statement: file(statement)?,
        signature: file(signature)?,
    })
}
