//! Releases: what they hold, and what is left of those that fail.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

use agent::build;
use agent::build::Built;
use agent::sandbox::Config;
use state::Code;
use state::digest::ReleaseId;
use state::service::Step;

use crate::host::{Host, run, sandbox, shell, unconfined};

#[tokio::test]
async fn a_release_holds_its_outputs_its_logs_and_nothing_else() {
    let mut host = Host::new();
    host.write("hello.txt", "hello");
    let mut spec = host.spec(
        host.commit(),
        "mkdir out; tr a-z A-Z <hello.txt >out/web; chmod +x out/web; echo built",
    );
    spec.build.output = vec!["out/web".into(), "hello.txt".into()];
    spec.test.steps = vec![shell("test \"$(cat out/web)\" = HELLO; echo tested")];
    for sandbox in [sandbox(Config::default()), unconfined()] {
        let built = host.release_in(&sandbox, 1, &spec).await.unwrap();
        let mut names: Vec<_> = fs::read_dir(built.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["app", "build.log", "release.yaml", "tests.log"]);
        assert_eq!(
            fs::read_to_string(built.path().join("app/web")).unwrap(),
            "HELLO"
        );
        assert_eq!(
            fs::metadata(built.path().join("app/web")).unwrap().mode() & 0o7777,
            0o555
        );
        assert_eq!(
            fs::metadata(built.path().join("app/hello.txt"))
                .unwrap()
                .mode()
                & 0o7777,
            0o444
        );
        assert!(
            fs::read_to_string(built.path().join("build.log"))
                .unwrap()
                .ends_with("\nbuilt\n")
        );
        assert!(
            fs::read_to_string(built.path().join("tests.log"))
                .unwrap()
                .ends_with("\ntested\n")
        );
        assert_eq!(host.leftovers(), [built.path()]);
        assert_eq!(
            Built::open(&host.service, &ReleaseId([1; 32]), 1),
            Some(built.clone())
        );
        fs::remove_dir_all(built.path()).unwrap();
    }
}

#[tokio::test]
async fn a_failure_has_the_logs_end_and_leaves_no_release() {
    let mut host = Host::new();
    let unbuilt = host
        .fails("for i in $(seq 60); do echo line $i; done; exit 3")
        .await;
    assert_eq!(unbuilt.refusal.code, Code::BuildFailed);
    assert!(
        unbuilt.refusal.detail.ends_with("exit code 3"),
        "{}",
        unbuilt.refusal
    );
    assert_eq!(unbuilt.log.len(), 50);
    assert_eq!(unbuilt.log.last().unwrap(), "line 60");
    assert!(Built::open(&host.service, &ReleaseId([1; 32]), 1).is_none());
    build::clean(&host.service).unwrap();
    assert!(host.leftovers().is_empty());
}

#[tokio::test]
async fn a_test_that_fails_fails_the_release() {
    let mut host = Host::new();
    host.write("web", "web");
    let mut spec = host.spec(host.commit(), "true");
    spec.test.steps = vec![shell("echo expected 1, got 2; exit 1")];
    let unbuilt = host.release(1, &spec).await.unwrap_err();
    assert_eq!(unbuilt.refusal.code, Code::TestFailed);
    assert_eq!(unbuilt.log.last().unwrap(), "expected 1, got 2");
}

/// The real thing: a crate without dependencies, with the toolchain that builds these tests.
#[tokio::test]
async fn cargo_builds_and_tests_a_crate_in_the_sandbox_without_network() {
    let mut host = Host::new();
    host.write(
        "Cargo.toml",
        "[package]\nname = \"web\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    );
    host.write(
        "src/main.rs",
        "fn main() { println!(\"one\"); }\n#[test]\nfn well() {}\n",
    );
    let repository = host.repository();
    run(Command::new("cargo")
        .args(["generate-lockfile", "--offline"])
        .current_dir(&repository));
    let cargo = |words: &str| Step {
        run: words.split(' ').map(str::to_owned).collect(),
    };
    let mut spec = host.spec(host.commit(), "");
    spec.build.fetch = vec![cargo("cargo fetch --locked --offline")];
    spec.build.steps = vec![cargo("cargo build --locked --offline")];
    spec.build.cache = vec!["target".into()];
    spec.build.output = vec!["target/debug/web".into()];
    spec.test.steps = vec![cargo("cargo test --locked --offline")];
    let sysroot = run(Command::new("rustc").args(["--print", "sysroot"]));
    let tools = vec![PathBuf::from(sysroot.trim())];
    let sandbox = sandbox(Config {
        tools,
        ..Config::default()
    });
    let first = host.release_in(&sandbox, 1, &spec).await.unwrap();
    assert_eq!(
        run(&mut Command::new(first.path().join("app/web"))),
        "one\n"
    );

    host.write("src/main.rs", "fn main() { println!(\"two\"); }\n");
    spec.source.commit = host.commit();
    let second = host.release_in(&sandbox, 2, &spec).await.unwrap();
    assert_eq!(
        run(&mut Command::new(second.path().join("app/web"))),
        "two\n"
    );
    assert_eq!(
        run(&mut Command::new(first.path().join("app/web"))),
        "one\n"
    );

    let again = host.release_in(&sandbox, 3, &spec).await.unwrap();
    let log = fs::read_to_string(again.path().join("build.log")).unwrap();
    assert!(
        log.contains("Finished") && !log.contains("Compiling"),
        "{log}"
    );
}
