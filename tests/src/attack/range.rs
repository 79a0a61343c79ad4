//! One honest fleet with one real agent that runs a service: attacked again and again, and well after each.
//!
//! The agent follows a link to the repository. To attack it, the link is turned to a forged copy; then back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde_json::Value;
use state::Code;
use state::digest::{Domain, ObjectId};

use super::forge::Forge;
use super::keys::Keys;
use super::trust::{TrustText, author};
use crate::fleet::{Fleet, Service};
use crate::host::{Host, is_live};
use crate::program::{self, Outcome};
use crate::{http, wait};

/// How long an agent has to take notice.
pub(super) const NOTICE: Duration = Duration::from_secs(30);

/// A fleet, its host, and what is served to it.
///
/// `dev` and `prod` run `web`, which answers with its version, where the label `role: web` is, and `job`, a worker.
/// Root is 2 of `root`, `root2`, `root3`. `author` may do everything, `dev-only` everything in `dev`, `web-ci` may
/// pin `web` in `dev`, `no-rules` everything but rules.
pub struct Range {
    /// The host; it has the label `role: web`.
    pub host: Host,
    /// The fleet; `fleet.path("state.git")` is its honest repository.
    pub fleet: Fleet,
    /// All its keys.
    pub keys: Keys,
    /// The trust file in force.
    pub trust: TrustText,
    /// Its domain.
    pub domain: Domain,
    /// The service that must go on answering.
    pub web: Service,
    /// A source commit of `web` and `job` each that answers `evil`; it is on its branch, so only its admission is wrong.
    pub evil: String,
    pub(super) version: u32,
    pub(super) admissions: u32,
    forges: u32,
}

/// What runs, and the floor, at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Witness {
    pids: Vec<Pid>,
    /// What `web` answers, with its status.
    pub answer: Option<(u16, String)>,
    floor: Value,
}

impl Witness {
    /// What the host had accepted.
    pub fn floor(&self) -> &Value {
        &self.floor
    }
}

impl Range {
    /// Makes the fleet and waits until `web` is live.
    pub fn new() -> Self {
        let web = Service {
            strategy: "{ blueGreen: { bake: 100ms } }",
            extra: "place: { labels: { role: web } }".to_owned(),
            ..Service::web("web")
        };
        let job = Service {
            strategy: "{ recreate: { bake: 100ms } }",
            ..Service::worker("job")
        };
        let fleet = Fleet::new("hosts: any\n", &[]);
        let keys = Keys::of(fleet.path("keys"));
        let trust = second_trust(&fleet, &keys);
        let domain = trust.prev.expect("it follows the first").0;
        for service in [&web, &job] {
            fleet.add(service);
        }
        let worker = fleet.source("job", "deaf\n");
        let overlay = format!("source: {{ commit: \"{worker}\" }}\n");
        fleet.write("environments/dev/job.yaml", &overlay);
        fleet.write("environments/prod/environment.yaml", "hosts: any\n");
        let overlay = std::fs::read_to_string(fleet.path("state/environments/dev/web.yaml"));
        fleet.write(
            "environments/prod/web.yaml",
            &overlay.expect("the overlay of dev"),
        );
        fleet.commit("Add the services").ok();
        fleet.push().ok();
        let evil = fleet.source("web", "text evil\n");
        let link = fleet.path("served.git");
        std::os::unix::fs::symlink("state.git", &link).expect("a link");
        let url = format!("file://{}", link.display());
        let label = ["--label", "role=web"];
        let (root, whose) = (fleet.path("hosts/one"), fleet.domain());
        let mut host = Host::enroll(root, "one", &url, &whose, &label);
        host.start();
        host.wait_for("v1 is live", "web", is_live);
        host.wait_for("the worker runs", "job", is_live);
        Self {
            host,
            fleet,
            keys,
            trust,
            domain: Domain(domain),
            web,
            evil,
            version: 1,
            admissions: 1,
            forges: 0,
        }
    }

    /// The URL that the host follows.
    pub fn url(&self) -> String {
        format!("file://{}", self.fleet.path("served.git").display())
    }

    /// Has the link lead to `repository`.
    pub fn serve(&self, repository: &Path) {
        let (new, link) = (self.fleet.path("served.new"), self.fleet.path("served.git"));
        std::os::unix::fs::symlink(repository, &new).expect("a link");
        std::fs::rename(new, link).expect("the link is turned");
    }

    /// Has the link lead to the honest repository again.
    pub fn serve_honestly(&self) {
        self.serve(&self.honest());
    }

    /// The honest repository.
    pub fn honest(&self) -> PathBuf {
        self.fleet.path("state.git")
    }

    /// A copy of the honest repository, in an attacker's hands.
    pub fn forge(&mut self) -> Forge {
        self.forges += 1;
        let copy = self.fleet.path(format!("forged/{}.git", self.forges));
        std::fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
        let mut cp = program::command("cp", self.fleet.path("").as_path());
        program::run(cp.arg("-r").arg(self.honest()).arg(&copy)).ok();
        self.open(&copy)
    }

    /// The author's own clone, from which he pushes.
    pub fn clone_of_author(&self) -> Forge {
        self.open(&self.fleet.path("state"))
    }

    /// A repository of the fleet, in the hands of somebody who has all keys.
    pub fn open(&self, path: &Path) -> Forge {
        let mut forge = Forge::open(path, &self.keys, self.domain, &self.trust);
        forge.evil.clone_from(&self.evil);
        forge
    }

    /// What runs now.
    pub fn witness(&self) -> Witness {
        let mut pids = self.host.processes_named("service");
        pids.sort_by_key(|pid| pid.as_raw_nonzero());
        Witness {
            pids,
            answer: http::get(self.web.port.expect("a web service"), "/"),
            floor: self.floor(),
        }
    }

    /// What `web` answers.
    pub fn answer(&self) -> String {
        let answer = http::get(self.web.port.expect("a web service"), "/");
        answer.expect("web answers").1
    }

    /// The host's floor.json.
    pub fn floor(&self) -> Value {
        let bytes = std::fs::read(self.host.state().join("floor.json")).expect("the floor");
        serde_json::from_slice(&bytes).expect("the floor is JSON")
    }

    /// The sequence that the host has accepted.
    pub fn sequence(&self) -> u64 {
        self.floor()["sequence"].as_u64().expect("a sequence")
    }

    /// Serves what `attack` makes of a copy of the honest repository. The agent must refuse the intake with `code`, go
    /// on running what it ran, and keep its floor; then an honest admission must get through.
    #[track_caller]
    pub fn intake_refused(&mut self, code: Code, attack: impl FnOnce(&Forge)) -> Code {
        let before = self.witness();
        let forge = self.forge();
        attack(&forge);
        self.serve(&forge.path);
        self.wait_for_refusal(code);
        self.unharmed(&before);
        assert_eq!(self.floor(), before.floor, "the floor has moved");
        self.serve_honestly();
        self.honest_pass();
        code
    }

    /// Waits until the agent's status shows a refused intake; it must be `code`.
    #[track_caller]
    pub fn wait_for_refusal(&self, code: Code) {
        let problem = self.wait_for_pass("the intake is refused", |pass| {
            let problem = &pass["refused"];
            problem.is_object().then(|| problem.clone())
        });
        assert_eq!(problem["code"], code.as_str(), "{problem:#}");
        assert!(problem["remedy"].is_string(), "{problem:#}");
    }

    /// Waits until the agent's last pass satisfies `condition`; fails with what its status said last.
    #[track_caller]
    fn wait_for_pass<T>(&self, what: &str, condition: impl Fn(&Value) -> Option<T>) -> T {
        let deadline = Instant::now() + NOTICE;
        wait::until(what, NOTICE * 2, || {
            let status = self.host.status();
            let found = condition(&status["pass"]);
            assert!(
                found.is_some() || Instant::now() < deadline,
                "{what}: not within {NOTICE:?}\n{status:#}\n{}",
                self.host.log()
            );
            found
        })
    }

    /// Asserts that the same processes give the same answer as before, and that no release took the place of another.
    #[track_caller]
    pub fn unharmed(&self, before: &Witness) {
        let now = self.witness();
        assert_eq!(now.answer, before.answer, "what runs answers");
        assert_eq!(now.pids, before.pids, "what ran still runs");
    }

    /// Pushes what `attack` makes in the author's clone to `main`. Policy must refuse it with `code` and move nothing;
    /// the host notices nothing, and then an honest admission must get through.
    #[track_caller]
    pub fn push_refused(&mut self, code: Code, attack: impl FnOnce(&Forge) -> ObjectId) -> Code {
        let target = attack(&self.clone_of_author());
        self.push_of_refused(code, &[&format!("{target}:refs/heads/main")])
    }

    /// The same for any refspecs, which are forced.
    #[track_caller]
    pub fn push_of_refused(&mut self, code: Code, refspecs: &[&str]) -> Code {
        let before = (self.witness(), self.refs());
        let mut push = vec!["push", "-q", "--force", "origin"];
        push.extend(refspecs);
        self.fleet.in_state(&push).refused(code.as_str());
        assert_eq!(self.refs(), before.1, "no branch has moved");
        self.unharmed(&before.0);
        assert_eq!(self.floor(), before.0.floor, "the floor has moved");
        self.fleet.reset();
        let tracked = [
            "update-ref",
            "refs/heads/trust",
            "refs/remotes/origin/trust",
        ];
        self.fleet.in_state(&tracked).ok();
        self.honest_pass();
        code
    }

    /// Pushes what `attack` makes of the branch `trust`; see [`Range::push_refused`].
    #[track_caller]
    pub fn trust_refused(&mut self, code: Code, attack: impl FnOnce(&Forge)) -> Code {
        attack(&self.clone_of_author());
        self.push_of_refused(code, &["trust"])
    }

    /// Where the branches of the honest repository point.
    pub fn refs(&self) -> String {
        let mut git = program::command("git", self.fleet.path("").as_path());
        let git = git.arg("-C").arg(self.honest());
        program::run(git.arg("for-each-ref")).ok().stdout
    }

    /// An honest change of the rules is pushed, admitted, and accepted by the host, whose services are well.
    #[track_caller]
    pub fn honest_pass(&mut self) {
        self.honest_push().ok();
        let admitted = self.honest_sequence();
        self.wait_for_pass("the honest admission is accepted", |pass| {
            (pass["sequence"] == admitted && pass["refused"].is_null()).then_some(())
        });
        assert_eq!(self.sequence(), admitted);
        for service in ["web", "job"] {
            self.host.wait_for("is live", service, is_live);
        }
    }

    /// Pushes an honest change of the rules.
    pub fn honest_push(&mut self) -> Outcome {
        self.admissions += 1;
        let rules = format!("hosts: any\nmaxRemovals: {}\n", self.admissions);
        self.fleet
            .write("environments/dev/environment.yaml", &rules);
        self.fleet.commit("Allow one more removal").ok();
        self.fleet.push()
    }

    /// The newest sequence in the honest repository.
    pub fn honest_sequence(&self) -> u64 {
        self.open(&self.honest()).last().manifest.sequence
    }

    /// An honest release of `web` goes live.
    #[track_caller]
    pub fn live_swap(&mut self) {
        let answer = self.release();
        self.wait_for_answer(&answer);
    }

    /// Pushes an honest release of `web`; returns what it will answer.
    pub fn release(&mut self) -> String {
        self.version += 1;
        let answer = format!("v{}", self.version);
        // What root anchored is known in this clone; so must be the log that it speaks of.
        self.fleet.in_state(&["fetch", "-q", "origin"]).ok();
        self.fleet.release("web", &format!("text {answer}\n"));
        answer
    }

    /// The same, in a commit signed by the key `name`.
    pub fn release_as(&mut self, name: &str) -> String {
        self.version += 1;
        let answer = format!("v{}", self.version);
        let commit = self.fleet.source("web", &format!("text {answer}\n"));
        let overlay = format!("source: {{ commit: \"{commit}\" }}\n");
        self.fleet.write("environments/dev/web.yaml", &overlay);
        let key = format!("user.signingkey={}", self.keys.path(name).display());
        let commit = ["-c", &key, "commit", "-q", "-a", "-m", "Pin web"];
        self.fleet.in_state(&commit).ok();
        self.fleet.push().ok();
        answer
    }

    /// Waits until `web` is live and gives this answer.
    #[track_caller]
    pub fn wait_for_answer(&self, answer: &str) {
        let port = self.web.port.expect("a web service");
        let what = format!("{answer} answers");
        wait::until(&what, Duration::from_secs(60), || {
            (http::get(port, "/")? == (200, answer.to_owned())).then_some(())
        });
        self.host
            .wait_for("the new version is live", "web", is_live);
    }
}

impl Default for Range {
    fn default() -> Self {
        Self::new()
    }
}

/// Publishes trust 2, by root of trust 1: root becomes 2 of 3, and there are authors of narrower scopes.
fn second_trust(fleet: &Fleet, keys: &Keys) -> TrustText {
    let first = fleet.in_state(&["show", "trust:1.yaml"]).ok().stdout;
    let prev = state::digest::Sha256Hash::of(first.as_bytes());
    let public = |name: &str| keys.public(name).to_string();
    for name in [
        "root2", "root3", "dev-only", "web-ci", "no-rules", "stranger",
    ] {
        keys.make(name);
    }
    let all = "environments: [ \"*\" ], paths: [ \"**\" ]";
    let line = |name: &str, scope: &str| author(name, &keys.public(name), scope);
    let trust = TrustText {
        format: "trust/1".to_owned(),
        version: 2,
        prev: Some(prev),
        expires: "2040-01-01T00:00:00Z".to_owned(),
        threshold: 2,
        roots: ["root", "root2", "root3"].map(public).to_vec(),
        policy: vec![public("policy")],
        max_freshness: "24h".to_owned(),
        authors: vec![
            line(
                "author",
                &format!("{all}, may: [ author, approve, rules, hold, override ]"),
            ),
            line(
                "dev-only",
                "environments: [ dev ], paths: [ \"**\" ], may: [ author, approve, rules ]",
            ),
            line(
                "web-ci",
                "environments: [ dev ], paths: [ \"environments/*/web.yaml\" ], fields: [ source.commit ], may: [ author ]",
            ),
            line("no-rules", &format!("{all}, may: [ author ]")),
        ],
        ended: Vec::new(),
        more: String::new(),
    };
    let clone = Forge::open(&fleet.path("state"), keys, Domain(prev.0), &trust);
    clone.publish_trust(&trust, &["root", "root2"]);
    fleet.in_state(&["push", "-q", "origin", "trust"]).ok();
    trust
}
