//! A repository with policy in its hooks, an author who may only move one pin, and what a host makes of it.

use std::cell::Cell;
use std::path::Path;

use state::digest::ObjectId;
use state::git::Kind;
use tests::attack::commit::CommitText;
use tests::attack::forge::Forge;
use tests::attack::keys::Keys;
use tests::fleet::{Fleet, Service};
use tests::program::Outcome;

use crate::yard::enrolled;
use crate::{Verdict, short};

/// More than a host or policy reads of one file.
pub(crate) const HUGE: usize = 17 << 20;

/// More than policy ever judged, in a folder that nobody deploys from.
pub(crate) const LARGE: usize = 20 << 20;

/// The file that `ci` may change.
pub(crate) const OVERLAY: &str = "environments/dev/web.yaml";

pub(crate) struct Gate {
    pub(crate) fleet: Fleet,
    pub(crate) forge: Forge,
    /// Whether a push was accepted.
    changed: Cell<bool>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self::with(&["--path", OVERLAY, "--field", "source.commit"])
    }

    /// A repository in which `ci` may change what `scope` says, in `dev`.
    pub(crate) fn with(scope: &[&str]) -> Self {
        let fleet = Fleet::new("hosts: any\n", &[Service::worker("web")]);
        Keys::of(fleet.path("keys")).make("ci");
        let mut propose = vec![
            "trust",
            "propose",
            "state.git",
            "--add-author",
            "ci=keys/ci.pub",
        ];
        propose.extend(["--environment", "dev"]);
        propose.extend(scope);
        fleet.policy(&propose).ok();
        fleet.publish_second_trust();
        let forge = Forge::of(&fleet, &fleet.path("state"));
        let changed = Cell::new(false);
        Self {
            fleet,
            forge,
            changed,
        }
    }

    /// A commit that `ci` may make: another pin, and `more` in that file.
    pub(crate) fn pin(&self, more: &str) -> CommitText {
        let commit = self.fleet.source("web", "text v2\n");
        let overlay = format!("source: {{ commit: \"{commit}\" }}\n{more}");
        self.forge.commit_with(&[(OVERLAY, &overlay)])
    }

    /// The id of a commit that `ci` signs.
    pub(crate) fn signed_by_ci(&self, commit: &CommitText) -> ObjectId {
        let raw = commit.signed(&self.forge.key("ci"));
        self.forge.write(Kind::Commit, raw.as_bytes())
    }

    /// A commit on `parent` that nobody signed, with a file that nobody can read.
    pub(crate) fn huge_commit(&self, parent: &ObjectId) -> ObjectId {
        let huge = self.forge.blob(vec![0; HUGE]);
        let tree = self.forge.raw_tree(&[("100644", b"huge", huge)]);
        let commit = CommitText::new(tree, &[*parent]).unsigned();
        self.forge.write(Kind::Commit, commit.as_bytes())
    }

    fn push(&self, refspecs: &[&str]) -> Outcome {
        let mut args = vec!["push", "-q", "origin"];
        args.extend(refspecs);
        let pushed = self.fleet.in_state(&args);
        self.changed.set(self.changed.get() || pushed.code == 0);
        pushed
    }

    /// Says whether a push was accepted.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed.get()
    }

    /// The verdict on a push that must not be accepted.
    pub(crate) fn refuses(&self, refspecs: &[&str]) -> Verdict {
        let pushed = self.push(refspecs);
        Verdict::on(pushed.code == 0, "the push was accepted", why(&pushed))
    }

    /// The verdict on a push that may be accepted if policy and a new host go on all the same.
    pub(crate) fn goes_on(&self, refspecs: &[&str]) -> Verdict {
        let pushed = self.push(refspecs);
        if pushed.code != 0 {
            return Verdict::Held(why(&pushed));
        }
        let admit = self
            .fleet
            .policy(&["admit", "state.git", "--key", "keys/policy"]);
        if admit.code != 0 {
            return Verdict::Succeeded(format!("policy stands still: {}", why(&admit)));
        }
        let host = enrolled(&self.fleet, "new", Path::new("/usr"));
        let plan = host.agent(&["plan"]);
        let what = format!("hosts stand still: {}", why(&plan));
        Verdict::on(plan.code != 0, what, "policy and a new host go on")
    }
}

/// The line of an outcome that says why.
fn why(outcome: &Outcome) -> String {
    let all = outcome.all();
    let has_code = |line: &&str| {
        line.split_whitespace()
            .any(|word| word.len() > 6 && word.contains('_') && word.to_uppercase() == word)
    };
    let line = all.lines().find(has_code);
    short(line.unwrap_or(&all).trim_start_matches("remote: "))
}
