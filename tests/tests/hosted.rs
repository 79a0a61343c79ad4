//! A state repository on a forge: several policy servers, bad commits that no hook keeps out, and hosts that go on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::fleet::{Fleet, Service};
use tests::host::is_live;
use tests::leftovers::Leftovers;
use tests::program::{self, Outcome, binary};
use tests::server::GitServer;
use tests::servers::{self, PolicyServer};
use tests::{http, wait};

/// Pushes, each of one pin.
const PUSHES: usize = 18;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn admit(fleet: &Fleet) -> Outcome {
    fleet.policy(&["admit", "mirror.git", "--key", "keys/policy"])
}

/// Runs, in the author's clone, the commands that a refusal printed.
#[track_caller]
fn obey(fleet: &Fleet, refused: &Outcome) {
    let lines = refused.stderr.lines();
    let commands: Vec<_> = lines.filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(!commands.is_empty(), "{refused:?}");
    for line in commands {
        let mut shell = program::command("sh", &fleet.path(""));
        shell.args(["-ec", line]).current_dir(fleet.path("state"));
        program::run(&mut shell).ok();
    }
    // `main` is again what is hosted.
    fleet.in_state(&["fetch", "-q", "origin"]).ok();
    fleet
        .in_state(&["switch", "-q", "-C", "main", "origin/main"])
        .ok();
}

/// Has the forge run `script` before it takes a push of `admitted`; author's pushes pass.
fn when_admitted(fleet: &Fleet, script: &str) {
    let hook = fleet.path("state.git/hooks/pre-receive");
    let text = format!("#!/bin/sh\ngrep -q refs/heads/admitted || exit 0\n{script}\n");
    std::fs::write(&hook, text).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn three_servers_with_mirrors_of_their_own_admit_every_pin_once_though_one_is_killed() {
    let fleet = servers::hosted_fleet(PUSHES, 3);
    let (_, before) = servers::admissions(&fleet, &[]).unwrap();
    let start = |number: usize| {
        let (mirror, key) = (
            format!("mirror-{number}.git"),
            format!("keys/policy-{number}"),
        );
        PolicyServer::start_on(&fleet, &mirror, &key).unwrap()
    };
    let mut running: Vec<_> = (0..3).map(start).collect();
    let mut pins = Vec::new();
    for number in 0..PUSHES {
        let pin = servers::pin("second", number);
        fleet.write(&servers::overlay(number), &servers::pinned_to(&pin));
        fleet.commit("Pin one").ok();
        fleet.push().ok();
        pins.push(pin);
        // As a webhook would; all of them compete.
        for server in 0..3 {
            std::fs::write(fleet.path(format!("mirror-{server}.git/writ/wake")), "").unwrap();
        }
        if number == PUSHES / 2 {
            running.remove(0).kill().unwrap();
            running.push(start(0));
        }
    }
    wait::until("all are admitted", LONG, || {
        let (counts, _) = servers::admissions(&fleet, &pins).unwrap();
        counts.iter().all(|count| *count > 0).then_some(())
    });
    let ends = [Signal::TERM, Signal::INT, Signal::TERM];
    for (server, signal) in running.into_iter().zip(ends) {
        let log = server.log();
        assert!(!log.contains("error: "), "{log}");
        assert_eq!(server.end(signal).unwrap(), 0, "{signal:?}");
    }
    let (counts, changes) = servers::admissions(&fleet, &pins).unwrap();
    assert_eq!(counts, [1; PUSHES]);
    assert_eq!(changes, before + PUSHES, "no change beside them");
}

#[test]
fn hosts_go_on_after_a_bad_commit_was_left_behind_as_policy_says() {
    let web = Service::web("web");
    let fleet = Fleet::hosted("hosts: any\n", std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("web is live", "web", is_live);
    let port = web.port.unwrap();
    let serves = |text: &str| {
        wait::until(text, LONG, || {
            (http::get(port, "/") == Some((200, text.to_owned()))).then_some(())
        });
    };
    // A commit that nobody signed, on top of a release that waits for policy.
    fleet.release("web", "text v2\n");
    let unsigned = ["commit", "-q", "--allow-empty", "--no-gpg-sign", "-m", "No"];
    fleet.in_state(&unsigned).ok();
    fleet.push().ok();
    let refused = admit(&fleet).refused("AUTHOR_UNSIGNED");
    obey(&fleet, &refused);
    admit(&fleet).ok();
    serves("v2");
    // One whose headers git reads and the hosts' git client does not: it is fetched as a side from then on.
    let raw = fleet.in_state(&["cat-file", "commit", "HEAD"]).ok().stdout;
    let mut lines: Vec<_> = raw
        .lines()
        .filter(|line| !line.starts_with("parent "))
        .collect();
    let author = lines.iter().position(|line| line.starts_with("author "));
    lines.swap(author.unwrap(), author.unwrap() + 1);
    let end = lines.iter().position(|line| line.starts_with("gpgsig"));
    let head = fleet.in_state(&["rev-parse", "HEAD"]).ok().stdout;
    let parent = format!("parent {}", head.trim());
    lines.truncate(end.unwrap());
    lines.insert(1, &parent);
    std::fs::write(fleet.path("raw"), lines.join("\n") + "\n\nOdd\n").unwrap();
    let hash = ["hash-object", "-t", "commit", "-w", "--literally", "../raw"];
    let odd = fleet.in_state(&hash).ok().stdout;
    let to = format!("{}:refs/heads/main", odd.trim());
    fleet.in_state(&["push", "-q", "origin", &to]).ok();
    let refused = admit(&fleet).refused("COMMIT_MALFORMED");
    obey(&fleet, &refused);
    for version in ["v3", "v4"] {
        fleet.release("web", &format!("text {version}\n"));
        admit(&fleet).ok();
        serves(version);
    }
    host.wait_for("web is live", "web", is_live);
    // A host that begins now walks over it too.
    let mut new = fleet.host("two");
    new.start();
    wait::until("the new host has verified all", LONG, || {
        let sequence = new.status()["pass"]["sequence"].as_u64()?;
        (host.status()["pass"]["sequence"] == sequence).then_some(())
    });
}

#[test]
fn a_forge_that_protects_admitted_is_named_and_so_is_the_remedy() {
    let fleet = Fleet::hosted("hosts: any\n", &[]);
    when_admitted(&fleet, "echo 'this branch is protected' >&2; exit 1");
    fleet.write(
        "environments/dev/environment.yaml",
        "hosts: any\ncooldown: 1m\n",
    );
    fleet.commit("Change the rules").ok();
    fleet.push().ok();
    let outcome = admit(&fleet).refused("PUSH_REFUSED");
    assert!(outcome.all().contains("this branch is protected"));
}

#[test]
fn the_daemon_asks_at_once_when_woken_and_tells_what_is_wrong_once() {
    let fleet = servers::hosted_fleet(2, 1);
    let wake = || std::fs::write(fleet.path("mirror-0.git/writ/wake"), "").unwrap();
    let settings = fleet.path("mirror-0.git/writ/policy.yaml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text.replace("poll: 1s", "poll: 1h")).unwrap();
    let server = PolicyServer::start_on(&fleet, "mirror-0.git", "keys/policy-0").unwrap();
    let pushed = |number: usize| {
        let pin = servers::pin("second", number);
        fleet.write(&servers::overlay(number), &servers::pinned_to(&pin));
        fleet.commit("Pin one").ok();
        fleet.push().ok();
        pin
    };
    let admitted = |pin: String| {
        wait::until("it is admitted", LONG, || {
            wake();
            let (counts, _) = servers::admissions(&fleet, std::slice::from_ref(&pin)).unwrap();
            (counts == [1]).then_some(())
        });
    };
    admitted(pushed(0));
    let says = |text: &str, times: usize| {
        wait::until(text, LONG, || {
            wake();
            (server.log().matches(text).count() >= times).then_some(())
        });
        assert_eq!(
            server.log().matches(text).count(),
            times,
            "{}",
            server.log()
        );
    };
    std::fs::rename(fleet.path("state.git"), fleet.path("away.git")).unwrap();
    says("error: FETCH_FAILED", 1);
    std::fs::rename(fleet.path("away.git"), fleet.path("state.git")).unwrap();
    says("FETCH_FAILED is over", 1);
    let unsigned = ["commit", "-q", "--allow-empty", "--no-gpg-sign", "-m", "No"];
    fleet.in_state(&unsigned).ok();
    fleet.push().ok();
    says("error: AUTHOR_UNSIGNED", 1);
    // Passes go on: `fresh` comes back, and nothing is told again.
    fleet.in_state(&["push", "-q", "origin", ":fresh"]).ok();
    wait::until("fresh is renewed", LONG, || {
        wake();
        let branch = ["ls-remote", "--exit-code", "origin", "fresh"];
        (fleet.in_state(&branch).code == 0).then_some(())
    });
    says("error: FETCH_FAILED", 1);
    says("error: AUTHOR_UNSIGNED", 1);
    says("git merge -s ours", 1);
    assert_eq!(server.end(Signal::TERM).unwrap(), 0);
}

#[test]
fn a_signal_ends_the_daemon_while_git_hangs_and_git_with_it() {
    let fleet = servers::hosted_fleet(1, 1);
    let marker = fleet.path("hangs");
    when_admitted(
        &fleet,
        &format!("touch {}; exec sleep 1000", marker.display()),
    );
    let server = PolicyServer::start_on(&fleet, "mirror-0.git", "keys/policy-0").unwrap();
    let pin = servers::pin("second", 0);
    fleet.write(&servers::overlay(0), &servers::pinned_to(&pin));
    fleet.commit("Pin one").ok();
    fleet.push().ok();
    wait::until("the push hangs", LONG, || marker.exists().then_some(()));
    let begun = Instant::now();
    assert_eq!(server.end(Signal::TERM).unwrap(), 0);
    assert!(begun.elapsed() < LONG);
    let left = Leftovers::of(&fleet.path(""));
    wait::until("git has ended", LONG, || {
        left.processes().is_empty().then_some(())
    });
    // What was signed is pushed as it is.
    std::fs::remove_file(fleet.path("state.git/hooks/pre-receive")).unwrap();
    let signed = std::fs::read_to_string(fleet.path("mirror-0.git/writ/signed")).unwrap();
    let pass = ["admit", "mirror-0.git", "--key", "keys/policy-0"];
    fleet.policy(&pass).ok();
    let mut show = program::command("git", &fleet.path(""));
    show.args(["-C", "state.git", "show", "admitted:manifest"])
        .current_dir(fleet.path(""));
    assert_eq!(program::run(&mut show).ok().stdout, signed);
}

#[test]
fn policy_pushes_over_https_with_the_accounts_credentials_and_never_asks() {
    let fleet = Fleet::hosted("hosts: any\n", &[]);
    let server = GitServer::start(&fleet.path("server"), &fleet.path("")).unwrap();
    let (user, password) = GitServer::TOKEN.split_once(':').unwrap();
    let policy = |password: &str| {
        let url = server.url("state.git");
        let config = fleet.path("gitconfig");
        let helper = format!("!printf 'username={user}\\npassword={password}\\n'; :");
        let helper = helper.replace('\\', "\\\\").replace('"', "\\\"");
        let ca = server.ca();
        let text = format!(
            "[http]\nsslCAInfo = {}\n[credential]\nhelper = \"{helper}\"\n",
            ca.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut policy = program::command(binary("policy"), Path::new("/nonexistent"));
        policy
            .args([
                "admit",
                "https.git",
                "--remote",
                &url,
                "--key",
                "keys/policy",
            ])
            .env("GIT_CONFIG_GLOBAL", config)
            .current_dir(fleet.path(""));
        program::run(&mut policy)
    };
    fleet.write(
        "environments/dev/environment.yaml",
        "hosts: any\ncooldown: 1m\n",
    );
    fleet.commit("Change the rules").ok();
    fleet.push().ok();
    let outcome = policy("wrong").refused("FETCH_FAILED");
    assert!(!outcome.all().contains("wrong"), "{outcome:?}");
    let outcome = policy(password).ok();
    assert!(outcome.stdout.contains("admitted as 2"), "{outcome:?}");
}

#[test]
fn junk_on_admitted_is_replaced_though_nothing_else_moves() {
    let hosted = servers::hosted_fleet(1, 1);
    let served = servers::fleet(1);
    let running = [
        PolicyServer::start_on(&hosted, "mirror-0.git", "keys/policy-0").unwrap(),
        PolicyServer::start(&served).unwrap(),
    ];
    let git = |fleet: &Fleet, args: &[&str]| {
        let mut git = program::command("git", &fleet.path(""));
        git.args(args).current_dir(fleet.path("state.git"));
        program::run(&mut git).ok().stdout
    };
    let fleets = [&hosted, &served];
    let good = fleets.map(|fleet| git(fleet, &["rev-parse", "admitted"]));
    for fleet in fleets {
        git(fleet, &["update-ref", "refs/heads/admitted", "main"]);
    }
    for ((fleet, good), server) in fleets.iter().zip(good).zip(running) {
        wait::until("admitted is put back", LONG, || {
            (git(fleet, &["rev-parse", "admitted"]) == good).then_some(())
        });
        wait::until("it says so", LONG, || {
            server.log().contains("replaced what").then_some(())
        });
    }
}
