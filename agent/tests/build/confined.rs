//! What builds cannot do: hang, see the host, flood its disk, run as root.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use agent::sandbox::{Config, Kind};
use agent::user::Account;
use state::Code;
use state::service::Network;
use state::unit::{Bytes, Period};

use crate::host::{Host, commands_with, sandbox, sandbox_of, shell, unconfined};

#[tokio::test]
async fn a_build_that_hangs_is_killed_with_its_children() {
    for sandbox in [sandbox(Config::default()), unconfined()] {
        let mut host = Host::new();
        host.write("web", "web");
        let mark = format!("{}.{}", 600, std::process::id());
        let script = format!("setsid sleep {mark} & sleep {mark} & wait");
        let mut spec = host.spec(host.commit(), &script);
        spec.build.timeout = Period(500);
        let begun = Instant::now();
        let unbuilt = host.release_in(&sandbox, 1, &spec).await.unwrap_err();
        assert_eq!(unbuilt.refusal.code, Code::BuildTimeout);
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(commands_with(&mark), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_build_sees_neither_network_nor_the_hosts_files() {
    let mut host = Host::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    host.write("web", "web");
    let secret = host.root.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let script = format!(
        "! bash -c '{connect}' 2>/dev/null; ! cat {secret} 2>/dev/null; ! touch /usr/x 2>/dev/null; ! ls /etc/shadow 2>/dev/null; \
         test \"$PWD\" = /build; test \"$HOME\" = /home; test -z \"$CARGO_MANIFEST_DIR\"; touch /tmp/x; touch $HOME/x",
        secret = secret.display()
    );
    let mut spec = host.spec(host.commit(), &script);
    let done = host.release(1, &spec).await;
    assert!(done.is_ok(), "{done:?}");

    spec.build.fetch = vec![shell(&format!("bash -c '{connect}'"))];
    host.release(2, &spec).await.unwrap();
    spec.build.fetch = Vec::new();
    spec.build.network = Network::Allow;
    spec.build.steps = vec![shell(&format!("bash -c '{connect}'"))];
    host.release(3, &spec).await.unwrap();
}

#[tokio::test]
async fn a_build_gets_the_variables_of_the_hosts_settings() {
    let mut host = Host::new();
    host.write("web", "web");
    let spec = host.spec(host.commit(), "test \"$WORD\" = hello");
    host.release(1, &spec).await.unwrap_err();
    let environment = BTreeMap::from([("WORD".to_owned(), "hello".to_owned())]);
    let config = Config {
        environment,
        ..Config::default()
    };
    host.release_in(&sandbox(config), 2, &spec).await.unwrap();
}

#[tokio::test]
async fn a_flood_is_cut_and_the_build_goes_on() {
    let mut host = Host::new();
    host.write("web", "web");
    let mut spec = host.spec(
        host.commit(),
        "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo end",
    );
    spec.build.output = vec!["web".into()];
    let built = host.release(1, &spec).await.unwrap();
    let log = fs::metadata(built.path().join("build.log")).unwrap().len();
    assert!(log < (8 << 20) + 100, "{log}");
}

#[tokio::test]
async fn a_disk_without_room_is_told_from_a_build_that_fails() {
    let mut host = Host::new();
    let unbuilt = host
        .fails("dd if=/dev/zero of=/dev/full bs=1 count=1")
        .await;
    let said = unbuilt.log.iter().any(|line| line.contains("No space"));
    assert!(said, "{unbuilt:?}");
    // What a build says of its own files, as of those in /dev/shm, is no news of the host's disk.
    assert_eq!(unbuilt.refusal.code, Code::BuildFailed, "{unbuilt:?}");

    let floor = sandbox_of(Config::default(), Bytes(u64::MAX), None);
    let spec = host.spec(host.commit(), "true");
    let unbuilt = host.release_in(&floor, 1, &spec).await.unwrap_err();
    assert_eq!(unbuilt.refusal.code, Code::DiskFull, "{unbuilt:?}");
}

#[tokio::test]
async fn the_agents_root_builds_and_runs_nothing_as_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut host = Host::new();
    let account = Account(70_000);
    fs::set_permissions(host.root.path(), fs::Permissions::from_mode(0o711)).unwrap();
    host.service.create(Some(account)).unwrap();
    host.write("dir/web", "web");
    let script = "id -u >dir/who; grep -e CapBnd -e NoNewPrivs /proc/self/status >dir/rights; mkdir -p target; touch target/x $HOME/x";
    let mut spec = host.spec(host.commit(), script);
    spec.build.output = vec!["dir".into()];
    spec.build.cache = vec!["target".into()];
    for (number, kind) in [(1, Kind::Bubblewrap), (2, Kind::None)] {
        let sandbox = sandbox_of(
            Config {
                kind,
                ..Config::default()
            },
            Bytes(0),
            Some(account.build()),
        );
        let built = host.release_in(&sandbox, number, &spec).await.unwrap();
        let who = built.path().join("app/dir/who");
        assert_eq!(
            fs::read_to_string(&who).unwrap().trim(),
            account.build().uid.to_string()
        );
        assert_eq!(fs::metadata(&who).unwrap().uid(), 0);
        let rights = fs::read_to_string(built.path().join("app/dir/rights")).unwrap();
        assert_eq!(
            rights, "CapBnd:\t0000000000000000\nNoNewPrivs:\t1\n",
            "{kind:?}"
        );
        let reads = Command::new("cat")
            .arg(&who)
            .uid(account.slot().uid)
            .gid(account.slot().gid)
            .output()
            .unwrap();
        assert!(
            reads.status.success(),
            "the slot's user must be able to read its release"
        );
    }
}
