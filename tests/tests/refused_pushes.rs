//! Bad commits meet policy's hook: each push is refused with its code and a remedy, and what ran before still runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use tests::fleet::{Fleet, Service};
use tests::host::{Host, is_live};
use tests::{http, program};

const RULES: &str = "hosts: any\n";

/// A fleet with one healthy web service that a host runs.
struct Running {
    fleet: Fleet,
    host: Host,
    port: u16,
}

impl Running {
    fn new() -> Self {
        let web = Service::web("web");
        let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
        let mut host = fleet.host("one");
        host.start();
        host.wait_for("web is live", "web", is_live);
        Self {
            fleet,
            host,
            port: web.port.unwrap(),
        }
    }

    /// Pushes what is committed, expects `code`, takes it back, and asserts that the service still answers.
    #[track_caller]
    fn refuses(&self, code: &str) {
        self.fleet.push().refused(code);
        self.fleet.reset();
        assert_eq!(
            http::get(self.port, "/"),
            Some((200, "v1".to_owned())),
            "after {code}"
        );
    }

    fn service_yaml(&self) -> String {
        std::fs::read_to_string(self.fleet.path("state/services/web/service.yaml")).unwrap()
    }

    /// Commits `text` as the base of web and expects its push to be refused.
    #[track_caller]
    fn refuses_base(&self, text: &str, code: &str) {
        self.fleet.write("services/web/service.yaml", text);
        self.fleet.commit("Break the base").ok();
        self.refuses(code);
    }

    /// Commits `text` as the overlay of web and expects its push to be refused.
    #[track_caller]
    fn refuses_overlay(&self, text: &str, code: &str) {
        self.fleet.write("environments/dev/web.yaml", text);
        self.fleet.commit("Break the overlay").ok();
        self.refuses(code);
    }
}

/// A rule that is accepted and not kept is worse than none: its author relies on it.
#[test]
fn a_rule_that_this_version_does_not_keep_is_refused() {
    let running = Running::new();
    let fleet = &running.fleet;
    let hosts = "hosts: [ { name: one, key: \"ssh-ed25519 AAAA\" } ]\n";
    for rules in [&format!("{RULES}after: staging\n"), hosts] {
        fleet.write("environments/dev/environment.yaml", rules);
        fleet.commit("A rule of a later version").ok();
        running.refuses("UNSUPPORTED");
    }
}

#[test]
fn commits_without_a_valid_authors_signature_are_refused() {
    let running = Running::new();
    let fleet = &running.fleet;
    fleet
        .in_state(&[
            "commit",
            "-q",
            "--allow-empty",
            "--no-gpg-sign",
            "-m",
            "No signature",
        ])
        .ok();
    running.refuses("AUTHOR_UNSIGNED");

    let stranger = fleet.path("stranger");
    program::run(
        program::command("ssh-keygen", fleet.path("").as_path())
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&stranger),
    )
    .ok();
    let key = format!("user.signingkey={}", stranger.display());
    fleet
        .in_state(&[
            "-c",
            &key,
            "commit",
            "-q",
            "-S",
            "--allow-empty",
            "-m",
            "A stranger's",
        ])
        .ok();
    running.refuses("AUTHOR_UNKNOWN");

    // A good signature over another commit: take the signature of HEAD, change the message.
    fleet.write("services/web/README.md", "hello\n");
    fleet
        .in_state(&["commit", "-q", "--allow-empty", "-m", "Signed"])
        .ok();
    let raw = fleet
        .in_state(&["cat-file", "commit", "HEAD"])
        .ok()
        .stdout
        .replace("\nSigned\n", "\nForged\n");
    std::fs::write(fleet.path("forged"), raw).unwrap();
    let forged = fleet
        .in_state(&["hash-object", "-t", "commit", "-w", "../forged"])
        .ok()
        .stdout;
    fleet
        .in_state(&["reset", "-q", "--soft", forged.trim()])
        .ok();
    running.refuses("AUTHOR_BAD_SIGNATURE");

    // An unsigned commit below a signed one.
    fleet
        .in_state(&[
            "commit",
            "-q",
            "--allow-empty",
            "--no-gpg-sign",
            "-m",
            "Hidden",
        ])
        .ok();
    fleet
        .in_state(&["commit", "-q", "--allow-empty", "-m", "On top"])
        .ok();
    running.refuses("PARENT_UNSIGNED");
}

#[test]
fn malformed_files_are_refused() {
    let running = Running::new();
    let base = running.service_yaml();
    running.refuses_base(&format!("{base}\ncolour: blue\n"), "CONFIG_INVALID");
    running.refuses_base(&format!("{base}\nkeep: many\n"), "CONFIG_INVALID");
    running.refuses_base(&format!("{base}\nkeep: 3\nkeep: 4\n"), "CONFIG_INVALID");
    running.refuses_base(
        &base.replace("file://", "file://\u{1b}[31m"),
        "CONFIG_INVALID",
    );
    running.refuses_base(
        &format!(
            "{base}\nplace: {}{}\n",
            "[".repeat(10_000),
            "]".repeat(10_000)
        ),
        "CONFIG_INVALID",
    );
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (one, next) in ('a'..='i').zip('b'..='j') {
        let uses = vec![format!("*{one}"); 10].join(", ");
        bomb.push_str(&format!("{next}: &{next} [{uses}]\n"));
    }
    running.refuses_base(&bomb, "CONFIG_INVALID");
    running.refuses_base(
        &format!("{base}\n# {}\n", "x".repeat(300_000)),
        "CONFIG_INVALID",
    );
    running.refuses_overlay("source: { commit: main }\n", "PIN_INVALID");
    running.refuses_overlay(
        "source: { commit: 1234567890123456789012345678901234567890 }\n",
        "PIN_INVALID",
    );
    running.refuses_overlay("source: { commit: \"1234567\" }\n", "PIN_INVALID");
    running.refuses_overlay("keep: 3\n", "PIN_INVALID");
}

#[test]
fn a_file_of_100_mb_is_refused() {
    let running = Running::new();
    running.fleet.write(
        "services/web/large",
        &"0123456789abcdef".repeat(100 << 20 >> 4),
    );
    running.fleet.commit("Add a large file").ok();
    running.refuses("TREE_TOO_BIG");
}

#[test]
fn links_submodules_and_other_branches_are_refused() {
    let running = Running::new();
    let fleet = &running.fleet;
    std::os::unix::fs::symlink("/etc/passwd", fleet.path("state/services/web/link")).unwrap();
    fleet.commit("Add a link").ok();
    running.refuses("SYMLINK_REFUSED");

    let head = fleet.in_state(&["rev-parse", "HEAD"]).ok().stdout;
    let cacheinfo = format!("160000,{},services/web/sub", head.trim());
    fleet
        .in_state(&["update-index", "--add", "--cacheinfo", &cacheinfo])
        .ok();
    fleet
        .in_state(&["commit", "-q", "-m", "Add a submodule"])
        .ok();
    running.refuses("SUBMODULE_REFUSED");

    for refused in [
        "HEAD:refs/heads/admitted",
        "HEAD:refs/heads/fresh",
        "HEAD:refs/tags/v1",
        ":main",
        "HEAD:refs/heads/trust",
    ] {
        fleet
            .in_state(&["push", "-q", "--force", "origin", refused])
            .refused("REF_REFUSED");
    }
    // History that is not built upon what was accepted.
    fleet
        .in_state(&["commit", "-q", "--amend", "-m", "Another past"])
        .ok();
    fleet
        .in_state(&["push", "-q", "--force", "origin", "main"])
        .refused("REF_REFUSED");
    assert!(Path::new(&fleet.path("state.git/refs/heads")).exists());
    assert_eq!(http::get(running.port, "/"), Some((200, "v1".to_owned())));
    running.host.wait_for("web is still live", "web", is_live);
}
