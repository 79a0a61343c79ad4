//! The files under systemd/ mean to systemd's own programs what they say, and every directive says why it is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const UNITS: [&str; 3] = [
    "writ-agent.service",
    "writ-proxy.service",
    "writ-policy@.service",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

/// Runs a program of systemd and returns what it complains about.
fn complaints(program: &str, args: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}: {error}; tests/run.sh installs it (Debian package: systemd)")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().map(str::to_owned).collect()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let dir = tempfile::tempdir().unwrap();
    for unit in UNITS {
        // The programs are not installed where the units expect them, and systemd asks for that too.
        let text = fs::read_to_string(folder().join(unit)).unwrap();
        let text = text
            .replace("/usr/local/bin/agent", "/bin/true")
            .replace("/usr/local/bin/policy", "/bin/true");
        let path = dir.path().join(unit);
        fs::write(&path, text).unwrap();
        let said = complaints(
            "systemd-analyze",
            &["verify", "--man=no", path.to_str().unwrap()],
        );
        assert!(said.is_empty(), "{said:#?}");
    }
}

#[test]
fn accounts_and_folders_are_made_as_written() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let option = format!("--root={}", root.path().display());
    let conf = |dir: &str| folder().join(dir).join("writ.conf").display().to_string();

    complaints("systemd-sysusers", &[&option, &conf("sysusers.d")]);
    let accounts = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    for account in ["writ-proxy", "writ-policy"] {
        assert!(accounts.contains(&format!("{account}:x:")), "{accounts}");
    }

    let mut said = complaints(
        "systemd-tmpfiles",
        &["--create", &option, &conf("tmpfiles.d")],
    );
    if !rustix::process::geteuid().is_root() {
        // Only root can give folders away; everything else is as for root.
        said.retain(|line| !line.starts_with("fchownat() of "));
    }
    assert!(said.is_empty(), "{said:#?}");
    for folder in ["etc/writ/credentials", "var/lib/writ/routes", "run/writ"] {
        assert!(root.path().join(folder).is_dir(), "{folder}");
    }
}

#[test]
fn every_directive_of_a_service_has_its_reason_above_it() {
    for unit in UNITS {
        let text = fs::read_to_string(folder().join(unit)).unwrap();
        let (_, service) = text.split_once("[Service]").unwrap();
        let (service, _) = service.split_once("[Install]").unwrap();
        let mut above = "";
        for line in service.lines() {
            let has_reason = above.starts_with('#') || is_plain(line);
            assert!(has_reason, "{unit}: no reason above '{line}'");
            above = line;
        }
    }
}

/// Lines that need no reason: blank ones, comments, and directives that say what the unit is or go with the one above.
fn is_plain(line: &str) -> bool {
    let plain = [
        "#",
        "Type=",
        "ExecStart=",
        "Group=",
        "CapabilityBoundingSet=",
    ];
    line.is_empty() || plain.iter().any(|start| line.starts_with(start))
}

#[test]
fn stopping_the_agent_leaves_its_services_alone() {
    let agent = fs::read_to_string(folder().join("writ-agent.service")).unwrap();
    let set = |directive: &str| agent.lines().any(|line| line == directive);
    assert!(set("KillMode=process") && set("OOMPolicy=continue") && set("TasksMax=infinity"));
    for confining in [
        "PrivateTmp=",
        "RestrictNamespaces=",
        "SystemCallFilter=",
        "RestrictSUIDSGID=",
        "RuntimeDirectory=",
        "ProtectKernelTunables=",
    ] {
        assert!(
            !agent.lines().any(|line| line.starts_with(confining)),
            "{confining} also confines services or builds"
        );
    }
}
