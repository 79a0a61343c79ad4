//! What is admitted at the very limit reaches a host, and past the hook a push that hosts could not fetch stops nobody.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::Value;
use state::limit;
use tests::fleet::{Fleet, Service};
use tests::host::is_live;

fn runs(commit: &str) -> impl Fn(&Value) -> bool {
    move |service| is_live(service) && service["running"]["source"] == commit
}

/// Merges a side with a file of so many bytes, which the author signs in one piece with its merge.
fn merge_side(fleet: &Fleet, bytes: u64) {
    std::fs::write(
        fleet.path("large"),
        vec![b'x'; usize::try_from(bytes).unwrap()],
    )
    .unwrap();
    let git = |args: &[&str]| fleet.in_state(args).ok().stdout.trim().to_owned();
    let blob = git(&["hash-object", "-w", "../large"]);
    let index = format!("100644,{blob},large");
    git(&["read-tree", "--empty"]);
    git(&["update-index", "--add", "--cacheinfo", &index]);
    let tree = git(&["write-tree"]);
    git(&["reset", "-q", "--hard"]);
    let side = git(&["commit-tree", "-m", "A side", &tree]);
    git(&[
        "merge",
        "-q",
        "-s",
        "ours",
        "--no-edit",
        "--allow-unrelated-histories",
        "-S",
        &side,
    ]);
}

#[test]
fn a_file_of_exactly_the_limit_is_admitted_and_fetched() {
    let web = Service::web("web");
    let fleet = Fleet::new("hosts: any\n", std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("web is live", "web", is_live);
    merge_side(&fleet, limit::OBJECT + 1);
    fleet.push().refused("PUSH_TOO_BIG");
    fleet.reset();
    merge_side(&fleet, limit::OBJECT);
    fleet.push().ok();
    let second = fleet.release("web", "text v2\n");
    host.wait_for("v2 is live", "web", runs(&second));
    // A host that begins now fetches it too.
    let mut new = fleet.host("two");
    new.configure("limits", serde_json::json!({}));
    new.start();
    let sequence = &host.status()["pass"]["sequence"];
    tests::wait::until(
        "the new host has verified all",
        std::time::Duration::from_secs(60),
        || (new.status()["pass"]["sequence"] == *sequence).then_some(()),
    );
}
