//! What a host gathers in a long life does not grow without end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tests::fleet::{Fleet, Service};
use tests::host::{Host, is_live};
use tests::{program, wait};

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn packs(mirror: &Path) -> usize {
    let entries = entries(&mirror.join("objects/pack")).into_iter();
    entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "pack")
        })
        .count()
}

/// Adds packs of one object each until the mirror has `count` of them, as so many fetches would.
fn fill(fleet: &Fleet, mirror: &Path, count: usize) {
    let script = r#"for number in $(seq "$1"); do
        echo "$number" | git hash-object -w --stdin | git pack-objects -q objects/pack/pack
        git prune-packed -q
    done"#;
    let missing = (count - packs(mirror)).to_string();
    let mut shell = program::command("bash", &fleet.path(""));
    shell
        .args(["-ec", script, "fill", &missing])
        .current_dir(mirror);
    program::run(&mut shell).ok();
    assert_eq!(packs(mirror), count);
}

fn only(folder: &Path) -> PathBuf {
    let [one] = &entries(folder)[..] else {
        panic!("{}: {:?}", folder.display(), entries(folder));
    };
    one.clone()
}

fn is_live_with(host: &Host, commit: &str) {
    host.wait_for("the new release is live", "web", |web| {
        is_live(web) && web["running"]["source"] == commit
    });
}

#[test]
fn fifty_packs_of_a_mirror_become_one() {
    let fleet = Fleet::new("hosts: any\n", &[Service::web("web")]);
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("web is live", "web", is_live);
    let folders = ["mirrors", "sources"].map(|name| host.state().join(name));
    let mirrors = folders.each_ref().map(|folder| only(folder));
    host.kill();
    for mirror in &mirrors {
        assert!(!mirror.join("hooks").exists(), "{}", mirror.display());
        fill(&fleet, mirror, 49);
    }
    host.start();
    let commit = fleet.release("web", "text v2\n");
    is_live_with(&host, &commit);
    for mirror in &mirrors {
        // The fetch of what policy said meanwhile may have brought another.
        assert!(
            packs(mirror) <= 2,
            "{}: {}",
            mirror.display(),
            packs(mirror)
        );
        let mut git = program::command("git", &fleet.path(""));
        git.args(["fsck", "--full"]).current_dir(mirror);
        program::run(&mut git).ok();
    }
    let commit = fleet.release("web", "text v3\n");
    is_live_with(&host, &commit);
}

#[test]
fn what_nothing_needs_any_more_is_removed_when_the_agent_starts() {
    let fleet = Fleet::new("hosts: any\n", &[Service::web("web")]);
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("web is live", "web", is_live);
    host.kill();
    let sources = host.state().join("sources");
    let needed = only(&sources);
    let unused = sources.join("unused.git");
    fs::create_dir(&unused).unwrap();
    let half = host.root().join("var/lib/writ/routes/.tmp-half");
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    File::create(&half).unwrap().set_modified(long_ago).unwrap();
    host.start();
    wait::until("both are removed", Duration::from_secs(30), || {
        (!unused.exists() && !half.exists()).then_some(())
    });
    assert!(needed.exists());
}
