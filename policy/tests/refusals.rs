//! Bad pushes are refused with their code and a remedy, and move nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Fleet, SERVICE, run};

const BASE: &str = "services/web/service.yaml";
const OVERLAY: &str = "environments/dev/web.yaml";

#[test]
fn commits_that_no_author_signed_are_refused() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    fleet
        .git(&[
            "commit",
            "-q",
            "--allow-empty",
            "--no-gpg-sign",
            "-m",
            "Unsigned",
        ])
        .ok();
    fleet.push().refused("AUTHOR_UNSIGNED");
    fleet
        .git(&[
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "Signed, on top of it",
        ])
        .ok();
    fleet.push().refused("PARENT_UNSIGNED");
    fleet.reset();
    run(
        "ssh-keygen",
        &fleet.path(""),
        &["-q", "-t", "ed25519", "-N", "", "-f", "stranger"],
    )
    .ok();
    let key = format!("user.signingkey={}", fleet.path("stranger").display());
    fleet
        .git(&[
            "-c",
            &key,
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "A stranger's",
        ])
        .ok();
    fleet.push().refused("AUTHOR_UNKNOWN");
}

#[test]
fn malformed_files_are_refused() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    fleet.refuses(BASE, &format!("{SERVICE}colour: blue\n"), "CONFIG_INVALID");
    fleet.refuses(
        BASE,
        &format!("{SERVICE}keep: 3\nkeep: 4\n"),
        "CONFIG_INVALID",
    );
    let deep = format!(
        "{SERVICE}place: {}{}\n",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    fleet.refuses(BASE, &deep, "CONFIG_INVALID");
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (one, next) in ('a'..='i').zip('b'..='j') {
        bomb += &format!(
            "{next}: &{next} [{}]\n",
            vec![format!("*{one}"); 10].join(", ")
        );
    }
    fleet.refuses(BASE, &bomb, "CONFIG_INVALID");
    fleet.refuses(OVERLAY, "source: { commit: main }\n", "PIN_INVALID");
    fleet.refuses(
        OVERLAY,
        &format!("source: {{ commit: {} }}\n", "1".repeat(40)),
        "PIN_INVALID",
    );
    fleet.refuses(
        "repository.yaml",
        "format: 1\nname: acme\ndomain: \"00\"\n",
        "CONFIG_INVALID",
    );
    let foreign = format!("format: 1\nname: acme\ndomain: \"{}\"\n", "0".repeat(64));
    fleet.refuses("repository.yaml", &foreign, "WRONG_DOMAIN");
}

#[test]
fn a_file_of_100_mb_is_refused() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    fleet.refuses(
        "services/web/large",
        &"0123456789abcdef".repeat(100 << 16),
        "TREE_TOO_BIG",
    );
}

#[test]
fn everything_but_main_and_trust_and_every_step_back_is_refused() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let before = fleet.refs();
    for refspec in [
        "main:refs/heads/admitted",
        "main:refs/heads/fresh",
        "main:refs/heads/topic",
        "main:refs/tags/v1",
        "main:refs/heads/trust",
        ":main",
        ":trust",
    ] {
        fleet
            .git(&["push", "-q", "--force", "origin", refspec])
            .refused("REF_REFUSED");
    }
    fleet
        .git(&["commit", "-q", "--amend", "-m", "Another past"])
        .ok();
    fleet
        .git(&["push", "-q", "--force", "origin", "main"])
        .refused("REF_REFUSED");
    assert_eq!(fleet.refs(), before);
}

/// Signs trust version 2 for `authors` by root and commits it to `trust`; `tamper` changes it after it was signed.
fn trust_2(fleet: &Fleet, authors: &str, tamper: impl Fn(String) -> String) {
    let first = fleet.git(&["show", "trust:1.yaml"]).stdout;
    std::fs::write(fleet.path("1.yaml"), &first).unwrap();
    let hash = run("sha256sum", &fleet.path(""), &["1.yaml"]).ok();
    let head = first.split("authors:").next().unwrap();
    let head = head.replace(
        "version: 1\n",
        &format!("version: 2\nprev: sha256:{}\n", &hash[..64]),
    );
    std::fs::write(fleet.path("2.yaml"), format!("{head}authors:\n{authors}")).unwrap();
    run(
        "ssh-keygen",
        &fleet.path(""),
        &[
            "-q",
            "-Y",
            "sign",
            "-n",
            "trust@writ",
            "-f",
            "keys/root",
            "2.yaml",
        ],
    )
    .ok();
    fleet.git(&["switch", "-q", "trust"]).ok();
    let text = std::fs::read_to_string(fleet.path("2.yaml")).unwrap();
    fleet.write("2.yaml", &tamper(text));
    std::fs::copy(fleet.path("2.yaml.sig"), fleet.path("state/2.sig")).unwrap();
    fleet.commit("Trust version 2");
    fleet.git(&["switch", "-q", "main"]).ok();
}

fn author_line(fleet: &Fleet, scope: &str) -> String {
    let key = std::fs::read_to_string(fleet.path("keys/author.pub")).unwrap();
    let key = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
    format!("  - {{ name: author, key: \"{key}\", {scope}, may: [ author ] }}\n")
}

#[test]
fn a_change_outside_the_signers_scope_is_refused() {
    let fleet = Fleet::new("hosts: any\n", &["web", "api"]);
    let scope =
        "environments: [ dev ], paths: [ \"environments/*/web.yaml\" ], fields: [ source.commit ]";
    trust_2(&fleet, &author_line(&fleet, scope), |text| text);
    fleet.git(&["push", "-q", "origin", "trust"]).ok();
    fleet.refuses(
        OVERLAY,
        &format!("source: {{ commit: \"{}\" }}\nkeep: 9\n", "2".repeat(40)),
        "PATH_NOT_ALLOWED",
    );
    fleet.refuses(
        "environments/dev/api.yaml",
        &format!("source: {{ commit: \"{}\" }}\n", "2".repeat(40)),
        "PATH_NOT_ALLOWED",
    );
    fleet.refuses(
        "environments/dev/environment.yaml",
        "hosts: any\nmaxRemovals: 9\n",
        "NOT_ALLOWED",
    );
    fleet.pin("web", 2);
    fleet.commit("Release web");
    fleet.push().ok();
    let manifest = fleet.admitted("manifest").ok();
    assert!(
        manifest.contains("sequence: 2\n") && manifest.contains("trust: 2 "),
        "{manifest}"
    );
}

#[test]
fn a_trust_file_that_root_did_not_sign_is_refused() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let before = fleet.refs();
    let scope = "environments: [ \"*\" ], paths: [ \"**\" ]";
    trust_2(&fleet, &author_line(&fleet, scope), |text| {
        text.replace("24h", "48h")
    });
    let outcome = fleet
        .git(&["push", "-q", "origin", "trust"])
        .refused("REF_REFUSED");
    assert!(outcome.says("TRUST_UNSIGNED"), "{outcome:?}");
    assert_eq!(fleet.refs(), before);
}

#[test]
fn a_removal_that_was_not_written_down_is_refused() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    std::fs::remove_file(fleet.path("state").join(OVERLAY)).unwrap();
    fleet.commit("Remove web");
    fleet.push().refused("REMOVAL_REFUSED");
    fleet.reset();
    fleet.write(
        OVERLAY,
        &format!(
            "source: {{ commit: \"{}\" }}\nstate: absent\n",
            "1".repeat(40)
        ),
    );
    fleet.commit("web is absent");
    fleet.push().ok();
    std::fs::remove_file(fleet.path("state").join(OVERLAY)).unwrap();
    fleet.commit("Remove web");
    fleet.push().ok();
    assert_eq!(fleet.sequence(), 3);
    assert_ne!(fleet.admitted("releases/dev/web.yaml").code, 0);
}

/// Puts a script before the hook that judges; it finds no trace of the push in its environment, as another push's hook.
fn before_judging(fleet: &Fleet, script: &str) {
    let hooks = fleet.path("state.git/hooks");
    let (hook, ours) = (hooks.join("pre-receive"), hooks.join("judge"));
    std::fs::copy(&hook, &ours).unwrap();
    let text = format!(
        "#!/bin/sh -e\n\
         (unset GIT_DIR GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n\
         {script}) >&2 </dev/null\n\
         exec hooks/judge\n"
    );
    std::fs::write(&hook, text).unwrap();
}

#[test]
fn a_push_that_another_overtakes_while_it_is_judged_has_lost_a_race() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    // The faster one's commit is there, and moves `main` after git has looked where that is.
    fleet.pin("web", 2);
    fleet.commit("The faster one");
    let faster = fleet.git(&["rev-parse", "HEAD"]).ok();
    fleet.served(&["fetch", "-q", "../state", "main"]).ok();
    fleet.reset();
    let move_main = format!("git update-ref refs/heads/main {faster}");
    before_judging(&fleet, &format!("{move_main}\npolicy admit ."));
    fleet.pin("web", 3);
    fleet.commit("The slower one");
    fleet.push().refused("LOST_RACE");
    assert_eq!(fleet.served(&["rev-parse", "main"]).ok(), faster);
    assert_eq!(fleet.sequence(), 2);
    // Built upon the faster one it is let in.
    let hooks = fleet.path("state.git/hooks");
    std::fs::rename(hooks.join("judge"), hooks.join("pre-receive")).unwrap();
    fleet.git(&["fetch", "-q", "origin"]).ok();
    let args = ["rebase", "-q", "-X", "theirs", "origin/main"];
    fleet.git(&args).ok();
    fleet.push().ok();
    assert_eq!(fleet.sequence(), 3);
}
