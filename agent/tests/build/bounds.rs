//! What builds may use: each is ended by its own limit, which is named, and what it filled is gone afterwards.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use agent::build::Unbuilt;
use agent::sandbox::{Config, Sandbox};
use state::Code;
use state::service::BuildLimits;
use state::unit::Bytes;

use crate::host::{Host, commands_with, sandbox, shell, unconfined};

const MIB: u64 = 1 << 20;

/// Small enough to be met soon.
fn limits() -> BuildLimits {
    BuildLimits {
        memory: Bytes(300 * MIB),
        tasks: 40,
        disk: Bytes(50 * MIB),
        output: Bytes(20 * MIB),
        log: Bytes(MIB),
    }
}

/// Builds with `script` and must fail.
async fn fails_in(sandbox: &Sandbox, script: &str) -> Unbuilt {
    let mut host = Host::new();
    host.write("web", "web");
    let mut spec = host.spec(host.commit(), script);
    spec.build.limits = limits();
    let unbuilt = host.release_in(sandbox, 1, &spec).await.unwrap_err();
    assert!(host.leftovers().is_empty(), "{:?}", host.leftovers());
    unbuilt
}

/// The same, where the limit `name` must be what ended it.
async fn exceeds(sandbox: &Sandbox, name: &str, script: &str) {
    let begun = Instant::now();
    let unbuilt = fails_in(sandbox, script).await;
    assert_eq!(
        unbuilt.refusal.code,
        Code::BuildLimit,
        "{script}: {unbuilt:?}"
    );
    let limit = format!("build.limits.{name} is ");
    assert!(
        unbuilt.refusal.detail.contains(&limit),
        "{}",
        unbuilt.refusal
    );
    assert!(begun.elapsed() < Duration::from_secs(40));
}

#[tokio::test]
async fn every_place_that_a_build_can_fill_is_counted() {
    let confined = sandbox(Config::default());
    for place in ["/build", "/home", "/tmp"] {
        let fill = format!("head -c 200000000 /dev/zero >{place}/x; sleep 60");
        exceeds(&confined, "disk", &fill).await;
    }
    for place in ["$PWD", "$HOME", "$TMPDIR"] {
        let fill = format!("head -c 200000000 /dev/zero >{place}/x; sleep 60");
        exceeds(&unconfined(), "disk", &fill).await;
    }
    // Done before it is looked at; many names; a file that nobody can find.
    exceeds(
        &confined,
        "disk",
        "for i in 1 2 3 4; do head -c 20000000 /dev/zero >x$i; done",
    )
    .await;
    exceeds(
        &confined,
        "disk",
        "i=0; while [ $i -lt 14000 ]; do >f$i; i=$((i+1)); done",
    )
    .await;
    let hidden = "exec 3>x; rm x; i=0; while [ $i -lt 10 ]; do head -c 10000000 /dev/zero >&3; i=$((i+1)); done; sleep 60";
    exceeds(&confined, "disk", hidden).await;
    // One file that is longer than all may be, whatever it takes on the disk.
    exceeds(&confined, "disk", "truncate -s 100M x").await;
}

/// The kind of fault, not the case: asks the kernel which file systems a command may write to.
#[tokio::test]
async fn nothing_else_can_be_written_to() {
    let mut host = Host::new();
    host.write("web", "web");
    let script = r#"
        for place in $(cut -d' ' -f5 /proc/self/mountinfo) /dev/shm /etc /run /var; do
            case $place in /build|/home|/tmp|/dev/shm) continue;; esac
            if [ -d $place ] && touch $place/probe 2>/dev/null; then echo writable: $place; fi
        done
        touch /build/x /home/x /tmp/x /dev/shm/x
        test "$(df -B1 --output=size /dev/shm | tail -1)" -le 268435456"#;
    let spec = host.spec(host.commit(), script);
    let built = host.release(1, &spec).await.unwrap();
    let log = fs::read_to_string(built.path().join("build.log")).unwrap();
    assert!(!log.contains("\nwritable:"), "{log}");
}

#[tokio::test]
async fn files_in_memory_are_bounded() {
    let confined = sandbox(Config::default());
    for place in ["/dev", "/dev/shm", ""] {
        let unbuilt = fails_in(
            &confined,
            &format!("head -c 2000000000 /dev/zero >{place}/x"),
        )
        .await;
        assert!(unbuilt.refusal.code != Code::BuildTimeout, "{unbuilt:?}");
    }
    let nameless = "python3 -c 'import os, time
m = os.memfd_create(\"m\")
for _ in range(45): os.write(m, bytes(10 << 20))
time.sleep(60)'";
    let mut host = Host::new();
    let mut spec = host.spec(host.commit(), nameless);
    spec.build.limits = BuildLimits {
        disk: Bytes(1 << 40),
        ..limits()
    };
    let unbuilt = host.release(1, &spec).await.unwrap_err();
    assert_eq!(unbuilt.refusal.code, Code::BuildLimit, "{unbuilt:?}");
    assert!(
        unbuilt.refusal.detail.contains("limits.memory"),
        "{}",
        unbuilt.refusal
    );
}

#[tokio::test]
async fn memory_and_tasks_are_bounded_with_and_without_a_sandbox() {
    for sandbox in [sandbox(Config::default()), unconfined()] {
        let hog = "python3 -c 'import time; a = bytearray(b\"x\") * (400 << 20); time.sleep(60)'";
        exceeds(&sandbox, "memory", hog).await;
        let several = "for i in 1 2 3 4; do python3 -c 'import time; a = bytearray(b\"x\") * (100 << 20); time.sleep(60)' & done; wait";
        exceeds(&sandbox, "memory", several).await;
        let mark = format!("{}.{}", 500, std::process::id());
        let bomb = format!("while :; do sleep {mark} & done");
        exceeds(&sandbox, "tasks", &bomb).await;
        assert_eq!(commands_with(&mark), Vec::<String>::new());
        let threads = "python3 -c 'import threading, time
for _ in range(60): threading.Thread(target=time.sleep, args=(60,)).start()'";
        exceeds(&sandbox, "tasks", threads).await;
    }
}

#[tokio::test]
async fn processes_that_share_their_memory_are_not_counted_each() {
    let mut host = Host::new();
    host.write("web", "web");
    let fork = "python3 -c 'import os, time
a = bytearray(b\"x\") * (150 << 20)
[os.fork() for _ in range(2)]
time.sleep(2)'; sleep 1";
    let mut spec = host.spec(host.commit(), fork);
    spec.build.limits = limits();
    let done = host.release(1, &spec).await;
    assert!(done.is_ok(), "{done:?}");
}

#[tokio::test]
async fn tests_are_bounded_as_the_build_is_and_logs_are_cut() {
    let mut host = Host::new();
    host.write("web", "web");
    let mut spec = host.spec(host.commit(), "yes | head -c 5000000");
    spec.build.limits = limits();
    spec.test.steps = vec![shell(
        "yes | head -c 5000000; head -c 200000000 /dev/zero >x",
    )];
    let unbuilt = host.release(1, &spec).await.unwrap_err();
    assert_eq!(unbuilt.refusal.code, Code::BuildLimit, "{unbuilt:?}");
    for log in [host.service.build_log(), host.service.tests_log()] {
        let log = fs::read_to_string(log).unwrap();
        assert!(log.len() < 1_100_000, "{}", log.len());
        assert!(log.ends_with("\n[the log is cut here: build.limits.log is 1MiB]\n"));
    }
}

#[tokio::test]
async fn what_earlier_builds_kept_is_not_counted() {
    let mut host = Host::new();
    host.write("web", "web");
    let grow = "mkdir -p target; head -c 30000000 /dev/zero >target/$(date +%N); head -c 15000000 /dev/zero >$HOME/$(date +%N)";
    let mut spec = host.spec(host.commit(), grow);
    spec.build.limits = limits();
    spec.build.cache = vec!["target".into()];
    for number in 1..4 {
        let done = host.release(number, &spec).await;
        assert!(done.is_ok(), "build {number}: {done:?}");
    }
}

#[tokio::test]
async fn a_sparse_output_stays_sparse_and_a_large_one_is_refused() {
    let mut host = Host::new();
    host.write("web", "web");
    let mut spec = host.spec(host.commit(), "truncate -s 8G large");
    spec.build.output = vec!["large".into()];
    let begun = Instant::now();
    let built = host.release(1, &spec).await.unwrap();
    let copy = fs::metadata(built.path().join("app/large")).unwrap();
    assert_eq!(copy.len(), 8 << 30);
    assert!(copy.blocks() * 512 < MIB, "{}", copy.blocks());
    assert!(begun.elapsed() < Duration::from_secs(20));

    spec.build.steps = vec![shell("head -c 30000000 /dev/urandom >large")];
    spec.build.limits = limits();
    let unbuilt = host.release(2, &spec).await.unwrap_err();
    assert_eq!(unbuilt.refusal.code, Code::BuildLimit, "{unbuilt:?}");
    assert!(
        unbuilt
            .refusal
            .detail
            .contains("build.limits.output is 20MiB"),
        "{unbuilt:?}"
    );
}
