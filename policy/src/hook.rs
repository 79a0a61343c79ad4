//! What `pre-receive` decides about a push. It runs as the pusher, needs no key and writes nothing: git forbids ref
//! updates while the objects of the push are in quarantine.
//!
//! Authors push `main` and their approvals, root holders push `trust`; everything else is refused. What waits is let in.

use jiff::Timestamp;
use state::digest::ObjectId;
use state::manifest::Change;
use state::verify::{self, Chain};
use state::{Code, Refusal};

use crate::branch::Branch;
use crate::ceremony::effect::{Effect, effect};
use crate::change::changes;
use crate::hosted::way_out;
use crate::judge::{Judged, judge};
use crate::log::Log;
use crate::repository::Repository;
use crate::rule::Verdict;
use crate::way_out::WayOut;
use crate::{candidate, collect, evidence, log};

/// Where approvals are pushed to.
const APPROVALS: &str = "refs/heads/approvals/";

/// One line of what git tells the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Where the ref points; `None` if it is new.
    pub old: Option<ObjectId>,
    /// Where it is to point; `None` if it is to be deleted.
    pub new: Option<ObjectId>,
    /// The full name of the ref.
    pub name: String,
}

impl Push {
    /// Reads `<old> <new> <name>`.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ');
        let mut id = || words.next()?.parse::<ObjectId>().ok();
        let present = |id: ObjectId| (id != ObjectId([0; 20])).then_some(id);
        let (old, new) = (present(id()?), present(id()?));
        let name = words.next()?.to_owned();
        Some(Self { old, new, name })
    }
}

/// What becomes of a push.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Why it is refused; it is let in if this is empty.
    pub refused: Vec<Refusal>,
    /// The verdict on every change that it would make.
    pub judged: Vec<Judged>,
}

impl Answer {
    /// Says whether the push may go on.
    pub fn is_let_in(&self) -> bool {
        let refuses = |one: &Judged| matches!(one.verdict, Verdict::Refuse(_));
        self.refused.is_empty() && !self.judged.iter().any(refuses)
    }
}

/// Authenticates and judges `pushes` to `repository` at the time `now`.
///
/// `trust` comes first, whatever the order: a push may bring the trust file that lets its commits in.
pub fn pre_receive(repository: &mut Repository, pushes: &[Push], now: Timestamp) -> Answer {
    let mut answer = Answer::default();
    let (trust, others): (Vec<_>, Vec<_>) = pushes
        .iter()
        .partition(|push| push.name == Branch::Trust.full_name());
    for push in trust {
        match check_trust(repository, push, now) {
            Ok(tip) => repository.pushed.push((Branch::Trust, tip)),
            Err(refusal) => answer.refused.push(refuse(push, refusal.to_string())),
        }
    }
    let (main, others): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|push| push.name == Branch::Main.full_name());
    for push in main {
        match judge_main(repository, push, now) {
            Ok(judged) => answer.judged = judged,
            Err(refusals) => answer.refused.extend(refusals),
        }
        repository
            .pushed
            .extend(push.new.map(|tip| (Branch::Main, tip)));
    }
    for push in others {
        let checked = match push.name.strip_prefix(APPROVALS) {
            Some(name) => check_approval(repository, push, name, now),
            None => Err(refuse(
                push,
                "authors push `main` and approvals, root holders push `trust`, nobody pushes anything else",
            )),
        };
        answer.refused.extend(checked.err());
    }
    answer
}

/// Checks that an approval is of what `main` asks for now, and counts.
fn check_approval(
    repository: &Repository,
    push: &Push,
    name: &str,
    now: Timestamp,
) -> Result<(), Refusal> {
    let refused = |refusal: Refusal| refuse(push, refusal.to_string());
    let new = push.new.ok_or_else(|| deleted(push))?;
    let signed = collect::read(&repository.git, &new).map_err(refused)?;
    let log = log::read(repository, now).map_err(refused)?;
    let tip = repository.require(Branch::Main).map_err(refused)?;
    let author = candidate::authenticated(&repository.git, &log, &tip);
    let author = author.map_err(|refusals| {
        let why = refusals.first().map(ToString::to_string);
        refuse(push, why.unwrap_or_default())
    })?;
    let changes = changes(log.admitted(), &author.rendered);
    let is_named = |change: &&Change| name.starts_with(&evidence::folder(change));
    let change = changes.iter().find(is_named);
    let change = change.ok_or_else(|| refuse(push, "`main` asks for no such change"))?;
    let given = collect::check(&repository.git, &log, change, &tip, &signed, now);
    let given = given.map_err(refused)?;
    if name != evidence::branch(change, &given) {
        return Err(refuse(push, format!("it is signed by '{given}'")));
    }
    Ok(())
}

/// Checks that what is pushed to `trust` adds trust files that verify, nothing but them, and none that takes the log away.
fn check_trust(repository: &Repository, push: &Push, now: Timestamp) -> Result<ObjectId, Refusal> {
    let git = &repository.git;
    let new = push.new.ok_or_else(|| deleted(push))?;
    let old = trust_before(repository, push)?;
    let domain = verify::domain_of(git, &old.unwrap_or(new))?;
    let chain = Chain::read(git, &new, &domain)?;
    if let Some(old) = &old {
        let accepted = Chain::read(git, old, &domain)?;
        chain.check_floor(&accepted.newest().reference())?;
    }
    chain.newest().check_new(now)?;
    if old.is_some() {
        // Root holders are told while they can still sign another file.
        effect(repository, &chain, now).or_else(|refusal| match refusal.code {
            Code::KeyEnded => Err(refusal),
            code if code.is_newer() => Err(refusal),
            // The log is bad already, and a new trust file may be the remedy.
            _ => Ok(Effect::Kept(0)),
        })?;
    }
    verify::check_trust_move(git, old.as_ref(), &new)?;
    Ok(new)
}

/// The commit of `trust` that a push must follow: where it points, unless somebody moved it there while the hook was
/// missing; then the one that policy has kept.
fn trust_before(repository: &Repository, push: &Push) -> Result<Option<ObjectId>, Refusal> {
    let git = &repository.git;
    let (Some(kept), Some(old)) = (repository.kept(Branch::Trust)?, push.old) else {
        return Ok(push.old);
    };
    let moved = verify::domain_of(git, &kept)
        .and_then(|domain| Chain::read(git, &old, &domain))
        .and_then(|_| verify::check_trust_move(git, Some(&kept), &old));
    Ok(Some(if moved.is_ok() { old } else { kept }))
}

/// Authenticates what is new on `main` and judges what it would change.
fn judge_main(
    repository: &Repository,
    push: &Push,
    now: Timestamp,
) -> Result<Vec<Judged>, Vec<Refusal>> {
    let git = &repository.git;
    let new = push.new.ok_or_else(|| vec![deleted(push)])?;
    let moved = match &push.old {
        Some(old) => git.first_parents(&new, Some(old)).map(drop),
        None => Ok(()),
    };
    let log = log::read(repository, now).map_err(|refusal| match refusal.code {
        Code::RefMissing => vec![refusal.at("push `trust` before `main`")],
        _ => vec![refusal],
    })?;
    if let Err(refusal) = moved
        && !sets_back(repository, &log, push.old, &new)
    {
        return Err(vec![refuse(push, refusal.to_string())]);
    }
    let author = candidate::authenticated(git, &log, &new)
        .map_err(|refusals| overtaken(repository, push).map_or(refusals, |lost| vec![lost]))?;
    let evidence = collect::collect(repository, &log, &author, None, now);
    let evidence = evidence.map_err(|refusal| vec![refusal])?;
    Ok(judge(
        log.admitted(),
        &author.rendered,
        &evidence,
        log.history(),
        now,
    ))
}

/// Says whether a push leaves behind what hosts could not fetch, which got in while the hook was missing.
fn sets_back(repository: &Repository, log: &Log, old: Option<ObjectId>, new: &ObjectId) -> bool {
    let git = &repository.git;
    match way_out::find(git, log, old) {
        Some(WayOut::SetBack { good, .. }) => git.first_parents(new, good.as_ref()).is_ok(),
        _ => false,
    }
}

/// Says that another push moved `main` since git looked: if it is admitted by now, this one does not descend from it.
fn overtaken(repository: &Repository, push: &Push) -> Option<Refusal> {
    let moved = repository.tip(Branch::Main).ok()? != push.old;
    moved.then(|| Refusal::new(Code::LostRace, "'main' moved during this push"))
}

fn deleted(push: &Push) -> Refusal {
    refuse(push, "it would be deleted")
}

fn refuse(push: &Push, why: impl AsRef<str>) -> Refusal {
    Refusal::new(
        Code::RefRefused,
        format!("'{}': {}", push.name, why.as_ref()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_git_is_read_and_zeros_are_nothing() {
        let (zeros, id) = ("0".repeat(40), "12".repeat(20));
        let push = Push::parse(&format!("{zeros} {id} refs/heads/a b")).unwrap();
        assert_eq!((push.old, push.name.as_str()), (None, "refs/heads/a b"));
        assert_eq!(push.new, Some(ObjectId([0x12; 20])));
        assert_eq!(Push::parse("x y z"), None);
        assert_eq!(Push::parse(&zeros), None);
    }
}
