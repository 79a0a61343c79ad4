//! A policy server is killed before every single step by which it changes something, and those that come after it lose
//! no admission, make none twice, and sign nothing that contradicts it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use rustix::process::Signal;
use state::digest::{Domain, Sha256Hash};
use state::freshness::Freshness;
use state::manifest::Manifest;
use state::sshsig::{self, Namespace};
use tempfile::TempDir;
use tests::attack::forge::Forge;
use tests::attack::keys::Keys;
use tests::attack::trust::TrustText;
use tests::fleet::Fleet;
use tests::program::{self, Outcome, binary};
use tests::servers::{self, PolicyServer};
use tests::strace::{self, Step};
use tests::wait;

/// How the server that is killed admits.
const ADMIT: &[&str] = &["admit", "../state.git", "--key", "../keys/elsewhere"];

/// How git runs its hook after a push.
const HOOK: &[&str] = &["hook", "post-receive", "../state.git"];

/// How long a server that waits for the killed one may take: less than the minute after which it would try again.
const SOON: Duration = Duration::from_secs(40);

/// A fleet with two commits of `main` to admit, one after the other, whose repository is put back for every kill.
struct World {
    fleet: Fleet,
    /// The repository as it is before anybody is killed.
    pristine: PathBuf,
    /// Where it is put.
    memory: TempDir,
    /// The tips of `main`: before the first is admitted it is what `main` shows, the other one comes later.
    next: String,
    /// What each of them pins.
    pins: [String; 2],
    /// How many changes were admitted before.
    changes: usize,
    /// The sequence of the last admission before.
    sequence: u64,
    /// Whether each change needs one.
    approvals: bool,
}

impl World {
    /// Whoever is killed has the key `keys/elsewhere`; `keys/second` and `keys/third` are listed too.
    fn new(rules: &str) -> Self {
        let fleet = servers::fleet(1);
        list_keys(&fleet);
        fleet.write("environments/dev/environment.yaml", rules);
        fleet.commit("Say the rules").ok();
        fleet.push().ok();
        admit(&fleet, "elsewhere").ok();
        let (_, changes) = servers::admissions(&fleet, &[]).unwrap();
        let pins = ["now", "then"].map(|when| servers::pin(when, 0));
        fleet.write(&servers::overlay(0), &servers::pinned_to(&pins[0]));
        fleet.commit("Pin one").ok();
        fleet.push().ok();
        let approvals = rules.contains("approvals");
        if approvals {
            approve(&fleet);
        }
        let first = rev_parse(&fleet, "main");
        fleet.write(&servers::overlay(0), &servers::pinned_to(&pins[1]));
        fleet.commit("Pin another").ok();
        fleet.push().ok();
        let next = rev_parse(&fleet, "main");
        served(&fleet, &["update-ref", "refs/heads/main", &first]).ok();
        let sequence = manifests(&fleet.path("state.git")).len() as u64;
        let pristine = fleet.path("pristine.git");
        fs::rename(fleet.path("state.git"), &pristine).unwrap();
        // In memory: who is killed leaves the same there, and hundreds of passes wait for no disk.
        let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let memory = memory.unwrap();
        symlink(memory.path().join("state.git"), fleet.path("state.git")).unwrap();
        Self {
            fleet,
            pristine,
            memory,
            next,
            pins,
            changes,
            sequence,
            approvals,
        }
    }

    /// Puts the repository back as it was.
    fn restore(&self) {
        let path = self.memory.path().join("state.git");
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        let mut cp = program::command("cp", &self.fleet.path(""));
        program::run(cp.arg("-a").arg(&self.pristine).arg(&path)).ok();
    }

    /// The steps of an undisturbed run.
    fn steps(&self, args: &[&str]) -> Vec<Step> {
        self.restore();
        let steps = strace::steps(&self.here(), args);
        self.check("nobody");
        steps
    }

    /// Where the server runs; paths of traces are short then.
    fn here(&self) -> PathBuf {
        self.fleet.path("keys")
    }

    /// Checks that the change is admitted once and only once, and that policy and git go on from there.
    #[track_caller]
    fn check(&self, killed: &str) {
        let path = self.fleet.path("state.git");
        let signed = fs::read(path.join("writ/signed")).unwrap();
        let admitted = manifests(&path);
        let last = admitted.last_key_value().unwrap().1;
        assert_eq!(last, &signed, "killed before {killed}");
        let (counts, changes) = servers::admissions(&self.fleet, &self.pins).unwrap();
        assert_eq!(counts, [1, 0], "killed before {killed}");
        assert_eq!(changes, self.changes + 1, "killed before {killed}");
        let last = Manifest::parse(last).unwrap().link();
        let fresh = served(&self.fleet, &["show", "fresh:freshness"])
            .ok()
            .stdout;
        let fresh = Freshness::parse(fresh.as_bytes()).unwrap();
        assert_eq!(
            (fresh.sequence, fresh.manifest),
            (last.sequence, last.hash),
            "killed before {killed}"
        );
        let locks: Vec<_> = files(&path)
            .into_iter()
            .filter(|path| is_lock(path))
            .collect();
        assert!(locks.is_empty(), "killed before {killed}: {locks:?}");
        let fsck = served(&self.fleet, &["fsck", "--strict", "--no-dangling"]).ok();
        assert_eq!(fsck.all(), "", "killed before {killed}");
    }

    /// Checks that two other servers, the one after the other, complete what the killed one began, and that the one that
    /// was killed goes on when it is there again.
    #[track_caller]
    fn check_successors(&self, step: &Step) {
        let path = self.fleet.path("state.git");
        let signed = fs::read(path.join("writ/signed")).unwrap();
        admit(&self.fleet, "second").ok();
        self.check(&step.shown);
        let branches = served(&self.fleet, &["for-each-ref"]).ok().stdout;
        admit(&self.fleet, "third").ok();
        let still = served(&self.fleet, &["for-each-ref"]).ok().stdout;
        assert_eq!(still, branches, "killed before {}", step.shown);
        let written = Manifest::parse(&signed).unwrap();
        let admitted = &manifests(&path)[&written.sequence];
        assert_eq!(admitted, &signed, "killed before {}", step.shown);
        let main = ["update-ref", "refs/heads/main", &self.next];
        served(&self.fleet, &main).ok();
        let outcome = admit(&self.fleet, "elsewhere");
        // What was approved is approved once.
        let expected = if self.approvals {
            (75, [1, 0])
        } else {
            (0, [1, 1])
        };
        let (counts, _) = servers::admissions(&self.fleet, &self.pins).unwrap();
        let (code, shown) = (outcome.code, &step.shown);
        assert_eq!((code, counts), (expected.0, expected.1.to_vec()), "{shown}");
    }

    /// Kills the server that runs with `args` before every step of `each`, and the last, and has others complete what it
    /// did.
    fn kill(&self, args: &[&str], each: usize) {
        let steps = self.steps(args);
        assert!(steps.len() > 50, "{steps:#?}");
        let chosen = steps.iter().step_by(each).chain(steps.last());
        for step in chosen {
            self.restore();
            let output = strace::start(&self.here(), args, step).wait_with_output();
            let output = output.unwrap();
            assert!(strace::was_killed(&output), "{}: {output:?}", step.shown);
            self.check_successors(step);
        }
        println!("killed before every {each}. of {} steps", steps.len());
    }
}

/// Publishes the trust file that lists two more policy keys, and `bob`, who approves.
fn list_keys(fleet: &Fleet) {
    let keys = Keys::of(fleet.path("keys"));
    let first = fleet.in_state(&["show", "trust:1.yaml"]).ok().stdout;
    let hash = Sha256Hash::of(first.as_bytes());
    let version = format!("version: 2\nprev: sha256:{hash}\n");
    let [second, third, bob] = ["second", "third", "bob"].map(|name| keys.make(name));
    let policy = format!("policy: {{ keys: [ \"{second}\", \"{third}\", ");
    let text = first
        .replace("version: 1\n", &version)
        .replace("policy: { keys: [ ", &policy);
    let bob = format!(
        "  - {{ name: bob, key: \"{bob}\", environments: [ dev ], paths: [ \"**\" ], may: [ approve ] }}\n"
    );
    let text = text + &bob;
    let signature = sshsig::sign(&keys.get("root"), Namespace::Trust, text.as_bytes());
    let domain = Domain(hash.0);
    let clone = Forge::open(&fleet.path("state"), &keys, domain, &TrustText::default());
    clone.publish_trust_files(&[("2.yaml".to_owned(), text), ("2.sig".to_owned(), signature)]);
    fleet.in_state(&["push", "-q", "origin", "trust"]).ok();
}

/// Has `bob` approve what waits.
fn approve(fleet: &Fleet) {
    let mut policy = program::command(binary("policy"), &fleet.path(""));
    policy
        .env("GIT_AUTHOR_NAME", "tests")
        .args(["approve", "dev/service-0", "--key", "../keys/bob"])
        .current_dir(fleet.path("state"));
    program::run(&mut policy).ok();
}

/// One pass of the server with the key `name`.
fn admit(fleet: &Fleet, name: &str) -> Outcome {
    fleet.policy(&["admit", "state.git", "--key", &format!("keys/{name}")])
}

fn served(fleet: &Fleet, args: &[&str]) -> Outcome {
    let mut git = program::command("git", &fleet.path(""));
    program::run(git.args(args).current_dir(fleet.path("state.git")))
}

fn rev_parse(fleet: &Fleet, name: &str) -> String {
    let id = served(fleet, &["rev-parse", name]).ok().stdout;
    id.trim().to_owned()
}

/// Every manifest that lies in the repository at `path`, reachable or not, by its sequence: one for each, and no gap.
#[track_caller]
fn manifests(path: &Path) -> BTreeMap<u64, Vec<u8>> {
    let mut git = program::command("git", path);
    git.args(["cat-file", "--batch-all-objects", "--batch"]);
    let output = git.current_dir(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut rest = output.stdout.as_slice();
    let mut found = BTreeMap::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let header = String::from_utf8(rest[..end].to_vec()).unwrap();
        let size: usize = header.rsplit(' ').next().unwrap().parse().unwrap();
        let bytes = &rest[end + 1..][..size];
        rest = &rest[end + size + 2..];
        if let (true, Ok(manifest)) = (header.contains(" blob "), Manifest::parse(bytes)) {
            let other = found.insert(manifest.sequence, bytes.to_vec());
            assert_eq!(other, None, "two manifests {}", manifest.sequence);
        }
    }
    let sequences: Vec<_> = found.keys().copied().collect();
    assert_eq!(sequences, (1..=found.len() as u64).collect::<Vec<_>>());
    found
}

/// All files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    };
    entries.flat_map(below).collect()
}

fn is_lock(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "lock")
}

fn a_server_killed_while_it_admits_what_was_approved() {
    World::new("hosts: any\napprovals: 1\n").kill(ADMIT, 1);
}

fn a_hook_killed_after_the_push() {
    let world = World::new("hosts: any\nmaxRemovals: 2\n");
    // From now on the hook's account may read a key.
    fs::copy(
        world.fleet.path("keys/elsewhere"),
        world.fleet.path("keys/policy"),
    )
    .unwrap();
    // What it does is the same: enough to see that it gets there.
    world.kill(HOOK, 4);
}

/// A power loss takes what was not made durable, in any order.
fn what_is_signed_stands_on_what_outlasts_the_machine() {
    let world = World::new("hosts: any\nmaxRemovals: 2\n");
    let steps = world.steps(ADMIT);
    let all = |call: &str, file: &str| {
        let named = |step: &Step| step.shown.starts_with(call) && step.shown.contains(file);
        let numbered = steps.iter().enumerate();
        let found = numbered.filter_map(|(number, step)| named(step).then_some(number));
        found.collect::<Vec<_>>()
    };
    let one = |call: &str, file: &str| match all(call, file)[..] {
        [number] => number,
        _ => panic!("{call} {file}: {steps:#?}"),
    };
    let objects = all("openat", "/objects/.tmp");
    let (first, last) = (objects[0], objects[objects.len() - 1]);
    let synced = |after: usize, call: &str, before: usize| {
        let within = |number: &usize| (after..before).contains(number);
        assert!(
            all(call, "").iter().any(within),
            "{after} {before}: {steps:#?}"
        );
    };
    let signed = one("rename", "writ/signed\"");
    let [admitted, fresh] = ["admitted", "fresh"].map(|name| {
        let name = format!("refs/heads/{name}\"");
        one("rename", &name)
    });
    let locks = all("link", "");
    let checkpoint = one("rename", "writ/checkpoint\"");
    // The commits of `main`, the evidence and the manifest, before there is a signature.
    synced(0, "syncfs", signed);
    assert!(one("rename", "writ/evidence\"") < signed);
    synced(signed, "fsync", first);
    // All objects, before a branch shows them; both branches, before it is remembered that they verified.
    synced(last, "syncfs", locks[0]);
    assert!(locks[locks.len() - 1] < admitted && admitted < fresh);
    synced(fresh, "syncfs", checkpoint);
}

/// The lock of the repository is held until both servers wait for it.
fn a_server_killed_while_another_waits_for_its_turn() {
    let world = World::new("hosts: any\nmaxRemovals: 2\n");
    let steps = world.steps(ADMIT);
    let mut killed = 0;
    for step in &steps {
        world.restore();
        let lock = File::options()
            .write(true)
            .open(world.fleet.path("state.git/writ/lock"))
            .unwrap();
        lock.lock().unwrap();
        let mut first = strace::start(&world.here(), ADMIT, step);
        // Before it asks for the lock, and as it does, it can be killed too.
        wait::until("the first waits for its turn", SOON, || {
            let ended = first.try_wait().unwrap().is_some();
            (ended || waiting(&lock) == 1).then_some(())
        });
        let server = PolicyServer::start_with(&world.fleet, "keys/second").unwrap();
        wait::until("the other one waits too", SOON, || {
            let first = usize::from(first.try_wait().unwrap().is_none());
            (waiting(&lock) == first + 1).then_some(())
        });
        lock.unlock().unwrap();
        let output = first.wait_with_output().unwrap();
        killed += usize::from(strace::was_killed(&output));
        wait::until("the other one admits", SOON, || {
            let fresh = served(&world.fleet, &["show", "fresh:freshness"])
                .ok()
                .stdout;
            let fresh = Freshness::parse(fresh.as_bytes()).unwrap();
            let signed = fs::read(world.fleet.path("state.git/writ/signed")).unwrap();
            let signed = Manifest::parse(&signed).unwrap();
            let newest = signed.sequence == world.sequence + 1;
            (newest && fresh.sequence == signed.sequence).then_some(())
        });
        assert_eq!(server.end(Signal::TERM).unwrap(), 0);
        world.check(&step.shown);
    }
    println!("killed {killed} times at {} steps", steps.len());
    assert!(killed > 0, "it never came first");
}

/// How many other processes have `lock` open: this one holds it, so they wait for it.
fn waiting(lock: &File) -> usize {
    let (lock, own) = (lock.metadata().unwrap(), std::process::id().to_string());
    let has_it = |process: fs::DirEntry| {
        // Not this one, nor the names `self` and `thread-self`.
        let name = process.file_name();
        let name = name.to_string_lossy();
        if name == own || name.parse::<u32>().is_err() {
            return false;
        }
        // A process may end meanwhile.
        let files = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut files = files.filter_map(|file| fs::metadata(file.path()).ok());
        files.any(|file| (file.dev(), file.ino()) == (lock.dev(), lock.ino()))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.map(has_it).filter(|has| *has).count()
}

fn main() -> ExitCode {
    let unable = strace::unable();
    if let Some(why) = &unable {
        eprintln!("not run, since nothing can be traced here: {why}");
    }
    let cases: [(&str, fn()); 4] = [
        (
            "what_is_signed_stands_on_what_outlasts_the_machine",
            what_is_signed_stands_on_what_outlasts_the_machine,
        ),
        (
            "a_server_killed_while_it_admits_what_was_approved",
            a_server_killed_while_it_admits_what_was_approved,
        ),
        ("a_hook_killed_after_the_push", a_hook_killed_after_the_push),
        (
            "a_server_killed_while_another_waits_for_its_turn",
            a_server_killed_while_another_waits_for_its_turn,
        ),
    ];
    let trials = cases.map(|(name, case)| {
        let run = move || {
            case();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(unable.is_some())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}
