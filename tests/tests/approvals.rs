//! Approvals and tree trailers, with the real programs: who may let a change in, for how long, and how often.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use state::Code;
use state::digest::{Domain, Sha256Hash};
use tests::attack::forge::Forge;
use tests::attack::keys::Keys;
use tests::attack::trust::TrustText;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, hold_code, is_live};
use tests::program::{self, Outcome, binary, command};
use tests::wait;

/// A fleet of three persons who may all author and approve: `author`, `bob` and `carol`.
struct Team {
    fleet: Fleet,
    keys: Keys,
    domain: Domain,
}

impl Team {
    /// Runs `web`, admitted under rules that ask for nothing; then come `rules`.
    fn new(rules: &str) -> Self {
        let fleet = Fleet::new("hosts: any\n", &[Service::web("web")]);
        let keys = Keys::of(fleet.path("keys"));
        let first = fleet.in_state(&["show", "trust:1.yaml"]).ok().stdout;
        let hash = Sha256Hash::of(first.as_bytes());
        let mut second = first.replace(
            "version: 1\n",
            &format!("version: 2\nprev: sha256:{hash}\n"),
        );
        for name in ["bob", "carol"] {
            let key = keys.make(name);
            second += &format!(
                "\n  - {{ name: {name}, key: \"{key}\", environments: [ dev ], paths: [ \"**\" ], may: [ author, approve ] }}"
            );
        }
        second += "\n";
        let team = Self {
            fleet,
            keys,
            domain: Domain(hash.0),
        };
        let root = team.keys.get("root");
        let signature =
            state::sshsig::sign(&root, state::sshsig::Namespace::Trust, second.as_bytes());
        let clone = team.forge("state");
        clone.publish_trust_files(&[
            ("2.yaml".to_owned(), second),
            ("2.sig".to_owned(), signature),
        ]);
        team.fleet.in_state(&["push", "-q", "origin", "trust"]).ok();
        team.rules(rules);
        team
    }

    /// A repository of the fleet, past every hook and rule.
    fn forge(&self, name: &str) -> Forge {
        let path = self.fleet.path(name);
        Forge::open(&path, &self.keys, self.domain, &TrustText::default())
    }

    /// Pushes other rules for `dev`, in a commit with the trailer.
    fn rules(&self, rules: &str) {
        self.fleet.write("environments/dev/environment.yaml", rules);
        self.commit_with_trailer("Change the rules");
        self.fleet.push().ok();
    }

    /// Commits everything, with the SHA-256 id of the tree as stock git computes it.
    fn commit_with_trailer(&self, message: &str) {
        let other = self.fleet.path("sha256");
        let git = |args: &[&str]| {
            let mut git = command("git", &self.fleet.path(""));
            program::run(git.current_dir(self.fleet.path("state")).args(args)).ok()
        };
        git(&[
            "init",
            "-q",
            "--object-format=sha256",
            other.to_str().unwrap(),
        ]);
        let folder = format!("--git-dir={}/.git", other.display());
        git(&[&folder, "--work-tree=.", "add", "-A"]);
        let tree = git(&[&folder, "--work-tree=.", "write-tree"]).stdout;
        self.fleet
            .commit(&format!("{message}\n\nTree-SHA256: {tree}"))
            .ok();
    }

    /// Pins `web` to a new source commit and pushes that; the commit is signed by `signer`.
    fn change(&self, signer: &str, behaviour: &str) -> String {
        let commit = self.fleet.source("web", behaviour);
        self.pin(signer, &commit);
        self.fleet.push().ok();
        commit
    }

    /// Commits the pin of `web`.
    fn pin(&self, signer: &str, commit: &str) {
        let overlay = format!("source: {{ commit: \"{commit}\" }}\n");
        self.fleet.write("environments/dev/web.yaml", &overlay);
        let key = format!("user.signingKey={}", self.keys.path(signer).display());
        let message = format!("Pin web, by {signer}");
        let args = ["-c", &key, "commit", "-q", "-a", "-S", "-m", &message];
        self.fleet.in_state(&args).ok();
    }

    /// Runs `policy` in the clone.
    fn policy(&self, args: &[&str]) -> Outcome {
        let mut policy = command(binary("policy"), &self.fleet.path(""));
        policy.env("GIT_AUTHOR_NAME", "tests").args(args);
        program::run(policy.current_dir(self.fleet.path("state")))
    }

    /// Approves what waits for `web` in `dev` with the key of `name`.
    fn approve(&self, name: &str, more: &[&str]) -> Outcome {
        let key = self.keys.path(name);
        let mut args = vec!["approve", "dev/web", "--key", key.to_str().unwrap()];
        args.extend(more);
        self.policy(&args)
    }

    /// What `policy pending` says, on the repository that is served.
    fn pending(&self) -> String {
        self.fleet.policy(&["pending", "state.git"]).all()
    }

    /// Says whether `web` is admitted with the source commit `commit`.
    fn admits(&self, commit: &str) -> bool {
        let served = self.forge("state.git");
        let files = served.admitted_files();
        let release = &files["releases/dev/web.yaml"];
        String::from_utf8_lossy(release).contains(commit)
    }

    /// Where a ref of the repository that is served points.
    fn served(&self, name: &str) -> String {
        let mut git = command("git", &self.fleet.path(""));
        let folder: PathBuf = self.fleet.path("state.git");
        program::run(git.current_dir(folder).args(["rev-parse", name]))
            .stdout
            .trim()
            .to_owned()
    }

    /// Gets `main` of the clone into the repository that is served past its hooks, as a thief of the server would.
    fn smuggle(&self) {
        let mut git = command("git", &self.fleet.path(""));
        let args = ["fetch", "-q", "../state", "+main:main"];
        program::run(git.current_dir(self.fleet.path("state.git")).args(args)).ok();
    }

    /// A host on which `web` runs.
    fn host(&self) -> Host {
        let mut host = self.fleet.host("one");
        host.start();
        host.wait_for("web is live", "web", is_live);
        host
    }
}

#[test]
fn a_change_goes_live_when_two_persons_besides_its_author_approved_it() {
    let team = Team::new("hosts: any\napprovals: 2\n");
    let host = team.host();
    let id = host.service("web")["desired"].clone();
    let change = team.change("author", "text v2\n");
    let pending = team.pending();
    assert!(
        pending.contains("APPROVAL_MISSING: 0 of 2 approvals; could approve: 'bob', 'carol'"),
        "{pending}"
    );
    assert!(
        pending.contains("having signed a part of it: 'author'"),
        "{pending}"
    );
    team.approve("author", &[]).refused("APPROVAL_MISSING");
    let shown = team.approve("bob", &[]).ok().stdout;
    assert!(shown.contains(&format!("+  commit: {change}")), "{shown}");
    assert!(!team.admits(&change));
    let pending = team.pending();
    assert!(
        pending.contains("1 of 2 approvals, by 'bob'; could approve: 'carol'"),
        "{pending}"
    );
    team.approve("bob", &["--expires", "1d"]).ok();
    assert!(!team.admits(&change), "one person twice");
    team.approve("carol", &[]).ok();
    assert!(team.admits(&change), "{}", team.pending());
    let files = team.forge("state.git").admitted_files();
    let evidence = files.keys().filter(|path| path.starts_with("evidence/"));
    let evidence: Vec<_> = evidence
        .map(|path| path.trim_start_matches("evidence/dev/web/"))
        .collect();
    assert_eq!(evidence, ["bob", "bob.sig", "carol", "carol.sig"]);
    host.wait_for("the approved release is live", "web", |web| {
        is_live(web) && web["desired"] != id
    });
    team.fleet.in_state(&["fetch", "-q", "origin"]).ok();
    team.policy(&["replay"]).ok();
}

#[test]
fn another_change_voids_an_approval_and_none_works_twice() {
    let team = Team::new("hosts: any\napprovals: 1\n");
    let team_of_two = Team::new("hosts: any\napprovals: 2\n");
    team_of_two.change("author", "text v2\n");
    team_of_two.approve("bob", &[]).ok();
    team_of_two.change("author", "text v3\n");
    let pending = team_of_two.pending();
    assert!(pending.contains("0 of 2 approvals;"), "{pending}");

    let first =
        std::fs::read_to_string(team.fleet.path("state/environments/dev/web.yaml")).unwrap();
    let first = first.split('"').nth(1).unwrap().to_owned();
    let second = team.change("author", "text v2\n");
    team.approve("bob", &[]).ok();
    assert!(team.admits(&second));
    let used = team.served("refs/heads/approvals/dev/web/bob");
    team.pin("author", &first);
    team.fleet.push().ok();
    team.approve("bob", &[]).ok();
    assert!(team.admits(&first));
    team.pin("author", &second);
    team.fleet.push().ok();
    let pending = team.pending();
    assert!(
        pending.contains("APPROVAL_MISSING: 0 of 1 approvals"),
        "{pending}"
    );
    let replayed = format!("+{used}:refs/heads/approvals/dev/web/bob");
    let outcome = team
        .fleet
        .in_state(&["push", "-q", "origin", &replayed])
        .refused("REF_REFUSED");
    assert!(outcome.all().contains("since"), "{}", outcome.all());
    assert!(!team.admits(&second));
}

#[test]
fn who_wrote_a_part_of_a_change_cannot_approve_it_though_another_merged_it() {
    let team = Team::new("hosts: any\napprovals: 1\n");
    let commit = team.fleet.source("web", "text v2\n");
    team.fleet.in_state(&["checkout", "-q", "-b", "side"]).ok();
    team.pin("bob", &commit);
    team.fleet.in_state(&["checkout", "-q", "main"]).ok();
    team.fleet
        .in_state(&["merge", "-q", "--no-ff", "-m", "Merge", "side"])
        .ok();
    team.fleet.push().ok();
    let refused = team.approve("bob", &[]).refused("APPROVAL_MISSING");
    assert!(
        refused.all().contains("'bob' signed a part of the change"),
        "{}",
        refused.all()
    );
    team.approve("author", &[]).refused("APPROVAL_MISSING");
    team.approve("carol", &[]).ok();
    assert!(team.admits(&commit));
}

#[test]
fn an_approval_that_expired_does_not_count() {
    let team = Team::new("hosts: any\napprovals: 2\n");
    let commit = team.change("author", "text v2\n");
    team.approve("bob", &["--expires", "3s"]).ok();
    wait::until("the approval expires", Duration::from_secs(60), || {
        team.pending().contains("0 of 2 approvals").then_some(())
    });
    team.approve("carol", &[]).ok();
    assert!(!team.admits(&commit));
}

#[test]
fn what_is_no_approval_of_a_change_that_waits_is_not_let_in() {
    let team = Team::new("hosts: any\napprovals: 1\n");
    let push = |spec: &str| team.fleet.in_state(&["push", "-q", "origin", spec]);
    push("+main:refs/heads/approvals/dev/web/bob").refused("REF_REFUSED");
    team.change("author", "text v2\n");
    push("+main:refs/heads/approvals/dev/web/bob").refused("REF_REFUSED");
    team.fleet
        .in_state(&["config", "user.signingKey", "../keys/carol"])
        .ok();
    team.policy(&["approve", "dev/web"]).ok();
    let given = team.served("refs/heads/approvals/dev/web/carol");
    push(&format!("+{given}:refs/heads/approvals/dev/web/bob")).refused("REF_REFUSED");
    push(":refs/heads/approvals/dev/web/carol").refused("REF_REFUSED");
}

#[test]
fn a_host_refuses_what_a_policy_that_ignores_approvals_admits() {
    let team = Team::new("hosts: any\napprovals: 1\n");
    let host = team.host();
    let before = host.processes_named("service");
    team.change("author", "text evil\n");
    team.forge("state.git").admit_edited(|_| {});
    let web = host.wait_for("the host refuses it", "web", |web| {
        hold_code(web) == Some("APPROVAL_MISSING")
    });
    assert_eq!(web["held"]["kind"], "refused", "{web:#}");
    assert_eq!(
        host.processes_named("service"),
        before,
        "what ran still runs"
    );
    tests::earn(Code::ApprovalMissing, "a policy that ignores approvals");
}

#[test]
fn a_trailer_that_an_environment_requires_is_asked_for_by_policy_and_by_hosts() {
    let team = Team::new("hosts: any\ntreeTrailer: required\n");
    let host = team.host();
    let before = host.processes_named("service");
    let commit = team.fleet.source("web", "text v2\n");
    team.pin("author", &commit);
    team.fleet.push().refused("TRAILER_MISSING");
    team.fleet.reset();
    let overlay = format!("source: {{ commit: \"{commit}\" }}\n");
    team.fleet.write("environments/dev/web.yaml", &overlay);
    team.fleet
        .commit(&format!("Pin web\n\nTree-SHA256: {}", "0".repeat(64)))
        .ok();
    team.fleet.push().refused("TRAILER_MISMATCH");
    team.smuggle();
    let served = team.forge("state.git");
    served.admit_edited(|_| {});
    let code = |host: &Host| hold_code(&host.service("web")).map(str::to_owned);
    wait::until(
        "the host refuses a wrong trailer",
        Duration::from_secs(60),
        || (code(&host)? == "TRAILER_MISMATCH").then_some(()),
    );
    tests::earn(
        Code::TrailerMismatch,
        "a policy that ignores a wrong trailer",
    );
    assert_eq!(
        host.processes_named("service"),
        before,
        "what ran still runs"
    );
}

#[test]
fn policy_release_and_stock_git_sign_the_tree_and_a_host_runs_only_that() {
    let team = Team::new("hosts: any\ntreeTrailer: required\n");
    let host = team.host();
    let id = host.service("web")["desired"].clone();
    team.fleet.release("web", "text v2\n");
    let text = team
        .fleet
        .in_state(&["log", "-1", "--format=%B"])
        .ok()
        .stdout;
    assert!(text.contains("Tree-SHA256: "), "{text}");
    host.wait_for("it is live", "web", |web| {
        is_live(web) && web["desired"] != id
    });
    let commit = team.fleet.source("web", "text v3\n");
    let overlay = format!("source: {{ commit: \"{commit}\" }}\n");
    team.fleet.write("environments/dev/web.yaml", &overlay);
    team.commit_with_trailer("Pin web with stock git");
    team.fleet.push().ok();
    assert!(team.admits(&commit));
    let commit = team.fleet.source("web", "text v4\n");
    team.pin("author", &commit);
    team.smuggle();
    team.forge("state.git").admit_edited(|_| {});
    host.wait_for("the host refuses it", "web", |web| {
        hold_code(web) == Some("TRAILER_MISSING")
    });
    tests::earn(
        Code::TrailerMissing,
        "a policy that ignores a missing trailer",
    );
}

/// `policy run`, killed when the value is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_approval_wakes_the_daemon_where_the_hook_may_not_read_the_key() {
    let team = Team::new("hosts: any\napprovals: 1\n");
    let path = |name: &str| team.fleet.path(name);
    std::fs::rename(path("keys/policy"), path("keys/elsewhere")).unwrap();
    let mut run = command(binary("policy"), &path(""));
    run.args(["run", "state.git", "--key", "keys/elsewhere"])
        .current_dir(path(""))
        .stdout(Stdio::null());
    let _daemon = Daemon(run.spawn().unwrap());
    let commit = team.change("author", "text v2\n");
    team.approve("bob", &[]).ok();
    wait::until("the daemon admits it", Duration::from_secs(60), || {
        team.admits(&commit).then_some(())
    });
}

#[test]
fn a_crash_before_appending_is_completed_with_the_approvals_of_then() {
    let team = Team::new("hosts: any\napprovals: 1\n");
    team.change("author", "text v2\n");
    let before = ["admitted", "fresh"].map(|branch| team.served(branch));
    team.approve("bob", &[]).ok();
    let after = team.served("admitted");
    assert_ne!(before[0], after);
    let served = team.forge("state.git");
    // As after a crash: the manifest is written down, the branches have not moved; then the approval is replaced.
    for (branch, id) in ["admitted", "fresh"].iter().zip(&before) {
        served.point(branch, &id.parse().unwrap());
    }
    served.run_git(&["update-ref", "-d", "refs/heads/approvals/dev/web/bob"]);
    team.fleet.policy(&["admit", "state.git"]).ok();
    assert_eq!(team.served("admitted"), after, "the very same commit");
}
