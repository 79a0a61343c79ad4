//! Policy at a forge, killed around its own steps, around every run of git and with the server that takes its push:
//! whoever comes next, the killed server or another one with a mirror of its own, makes each admission once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use state::freshness::Freshness;
use state::git::{Git, Kind};
use state::manifest::Manifest;
use state::sshsig::Signature;
use state::tree::Objects as _;
use tempfile::TempDir;
use tests::fleet::Fleet;
use tests::program::{self, Outcome, binary};
use tests::{servers, strace, wait};

/// The forge's repository, and the mirrors of two servers.
const REPOSITORIES: [&str; 3] = ["state.git", "mirror-0.git", "mirror-1.git"];

/// What is killed: a pass of the first server.
const ADMIT: &[&str] = &["admit", "../mirror-0.git", "--key", "../keys/policy-0"];

/// Far longer than git needs for a push.
const LONG: Duration = Duration::from_secs(60);

/// Stands before git on the PATH of the server that is killed: with its `AT`th run it is killed as `HOW` says.
const GIT: &str = r#"#!/bin/sh
number=$(($(cat "$HOME/count") + 1))
echo "$number" >"$HOME/count"
PATH=$AFTER
[ "$number" = "$AT" ] || exec git "$@"
case $HOW in
before) kill -9 "$PPID" ;;
after) git "$@"; kill -9 "$PPID" ;;
meanwhile) kill -9 "$PPID"; git "$@" ;;
esac
echo "$*" >"$HOME/killed"
"#;

/// A fleet on a forge with one change to admit, whose repositories are put back for every kill.
struct World {
    fleet: Fleet,
    memory: TempDir,
    pin: String,
    /// How many changes were admitted before.
    changes: usize,
}

impl World {
    fn new() -> Self {
        let fleet = servers::hosted_fleet(1, 2);
        for number in [0, 1] {
            admit(&fleet, number).ok();
        }
        let (_, changes) = servers::admissions(&fleet, &[]).unwrap();
        let pin = servers::pin("now", 0);
        fleet.write(&servers::overlay(0), &servers::pinned_to(&pin));
        fleet.commit("Pin one").ok();
        fleet.push().ok();
        // In memory: who is killed leaves the same there, and hundreds of passes wait for no disk.
        let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let memory = memory.unwrap();
        fs::create_dir(fleet.path("pristine")).unwrap();
        for name in REPOSITORIES {
            let path = fleet.path(name);
            fs::rename(&path, fleet.path("pristine").join(name)).unwrap();
            symlink(memory.path().join(name), path).unwrap();
        }
        let git = fleet.path("first");
        fs::create_dir(&git).unwrap();
        executable(&git.join("git"), GIT);
        Self {
            fleet,
            memory,
            pin,
            changes,
        }
    }

    /// Puts all repositories back as they were.
    fn restore(&self) {
        for name in REPOSITORIES {
            let path = self.memory.path().join(name);
            if path.exists() {
                fs::remove_dir_all(&path).unwrap();
            }
            let mut cp = program::command("cp", &self.fleet.path(""));
            let from = self.fleet.path("pristine").join(name);
            program::run(cp.arg("-a").arg(from).arg(path)).ok();
        }
    }

    /// Where the server runs that is killed.
    fn here(&self) -> PathBuf {
        self.fleet.path("keys")
    }

    /// Checks that the servers, the one first whose `turn` it is, make the admission once and nothing else.
    #[track_caller]
    fn check(&self, turn: usize, killed: &str) {
        for number in [turn % 2, (turn + 1) % 2] {
            let outcome = admit(&self.fleet, number);
            assert_eq!(outcome.code, 0, "{killed}: {}", outcome.all());
        }
        let pins = [self.pin.clone()];
        let (counts, changes) = servers::admissions(&self.fleet, &pins).unwrap();
        assert_eq!((counts, changes), (vec![1], self.changes + 1), "{killed}");
        let last = show(&self.fleet, "admitted:manifest");
        let last = Manifest::parse(last.as_bytes()).unwrap().link();
        let fresh = show(&self.fleet, "fresh:freshness");
        let fresh = Freshness::parse(fresh.as_bytes()).unwrap();
        let shown = (fresh.sequence, fresh.manifest);
        assert_eq!(shown, (last.sequence, last.hash), "{killed}");
        let mut signed = BTreeMap::new();
        for name in REPOSITORIES {
            note_signed(&self.fleet.path(name), &mut signed);
            let fsck = git(&self.fleet, name, &["fsck", "--strict", "--no-dangling"]);
            assert_eq!(fsck.ok().all(), "", "{killed}");
        }
    }
}

/// One pass of the server `number`.
fn admit(fleet: &Fleet, number: usize) -> Outcome {
    let (mirror, key) = (
        format!("mirror-{number}.git"),
        format!("keys/policy-{number}"),
    );
    fleet.policy(&["admit", &mirror, "--key", &key])
}

fn git(fleet: &Fleet, repository: &str, args: &[&str]) -> Outcome {
    let mut git = program::command("git", &fleet.path(""));
    program::run(git.args(args).current_dir(fleet.path(repository)))
}

fn show(fleet: &Fleet, name: &str) -> String {
    git(fleet, "state.git", &["show", name]).ok().stdout
}

fn executable(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Notes who signed which manifest, of all that lie in the repository at `path`, reachable or not: nobody two of one
/// number.
#[track_caller]
fn note_signed(path: &Path, signed: &mut BTreeMap<(u64, String), Vec<u8>>) {
    let mut list = program::command("git", path);
    let format = "--batch-check=%(objectname) %(objecttype)";
    list.args(["cat-file", "--batch-all-objects", format]);
    let objects = program::run(list.current_dir(path)).ok().stdout;
    let repository = Git::open(path).unwrap();
    for line in objects.lines() {
        let Some(commit) = line.strip_suffix(" commit") else {
            continue;
        };
        let file = |name: &str| {
            let mut find = program::command("git", path);
            find.args(["rev-parse", "-q", "--verify", &format!("{commit}:{name}")]);
            let id = program::run(find.current_dir(path)).stdout;
            repository
                .object(Kind::Blob, &id.trim().parse().ok()?, 1 << 20)
                .ok()
        };
        let (Some(bytes), Some(signature)) = (file("manifest"), file("manifest.sig")) else {
            continue;
        };
        let manifest = Manifest::parse(&bytes).unwrap();
        let signer = Signature::parse(&signature).unwrap().key().to_string();
        let place = (manifest.sequence, signer);
        let other = signed.insert(place, bytes.clone());
        assert!(other.is_none_or(|other| other == bytes), "two {manifest:?}");
    }
}

fn a_server_killed_between_its_own_durable_steps() {
    let world = World::new();
    world.restore();
    let steps = strace::steps(&world.here(), ADMIT);
    world.check(0, "nobody");
    let durable: Vec<_> = steps.iter().filter(|step| step.is_durable()).collect();
    assert!(durable.len() > 20, "{steps:#?}");
    for (turn, step) in durable.iter().enumerate() {
        world.restore();
        let output = strace::start(&world.here(), ADMIT, step).wait_with_output();
        let output = output.unwrap();
        assert!(strace::was_killed(&output), "{}: {output:?}", step.shown);
        world.check(turn, &step.shown);
    }
    println!("killed before each of {} steps", durable.len());
}

/// `before`: git is not run any more. `after`: it has ended, and nobody hears its answer. `meanwhile`: it goes on alone.
fn a_server_killed_around_every_run_of_git(how: &str) {
    let world = World::new();
    let home = world.fleet.path("");
    let mut runs = Vec::new();
    loop {
        world.restore();
        let at = runs.len() + 1;
        let killed = home.join("killed");
        fs::write(home.join("count"), "0").unwrap();
        let _ = fs::remove_file(&killed);
        let path = std::env::var("PATH").unwrap();
        let mut policy = program::command(binary("policy"), &home);
        policy
            .args(ADMIT)
            .env("PATH", format!("{}:{path}", home.join("first").display()))
            .env("AFTER", &path)
            .env("HOW", how)
            .env("AT", at.to_string())
            .current_dir(world.here());
        let outcome = program::run(&mut policy);
        if outcome.code == 0 {
            break;
        }
        assert_eq!(outcome.code, -1, "{}", outcome.all());
        // Also what goes on alone comes to its end.
        let run = wait::until("git ends", LONG, || fs::read_to_string(&killed).ok());
        world.check(at, &format!("{how} {run}"));
        runs.push(run);
    }
    println!("killed {how} each of {} runs of git", runs.len());
    assert!(runs.iter().any(|run| run.contains(" push ")), "{runs:#?}");
}

/// Nobody knows then whether the branches moved.
fn the_forge_dies_while_it_takes_the_push() {
    let world = World::new();
    for (turn, hook) in ["pre-receive", "post-receive"].iter().enumerate() {
        world.restore();
        let path = world.fleet.path("state.git/hooks").join(hook);
        executable(&path, "#!/bin/sh\nrm \"$0\"\nkill -9 $PPID\n");
        admit(&world.fleet, 0).refused("PUSH_FAILED");
        assert!(!path.exists());
        world.check(turn, hook);
    }
}

fn main() -> ExitCode {
    let unable = strace::unable();
    if let Some(why) = &unable {
        eprintln!("not all is run, since nothing can be traced here: {why}");
    }
    let traced: fn() = a_server_killed_between_its_own_durable_steps;
    let cases: [(&str, bool, fn()); 5] = [
        (
            "a_server_killed_between_its_own_durable_steps",
            true,
            traced,
        ),
        ("a_server_killed_before_every_run_of_git", false, || {
            a_server_killed_around_every_run_of_git("before");
        }),
        ("a_server_killed_after_every_run_of_git", false, || {
            a_server_killed_around_every_run_of_git("after");
        }),
        ("a_server_killed_while_git_goes_on", false, || {
            a_server_killed_around_every_run_of_git("meanwhile");
        }),
        (
            "the_forge_dies_while_it_takes_the_push",
            false,
            the_forge_dies_while_it_takes_the_push,
        ),
    ];
    let trials = cases.map(|(name, traced, case)| {
        let run = move || {
            case();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(traced && unable.is_some())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}
