//! Slots under real shims: started, found again, restarted, stopped, and what a killed shim leaves behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent::layout::Layout;
use agent::runner::process::{ProcessId, descendants};
use agent::runner::{Exit, Restart, Runner, SlotSpec, SlotStatus, Stopped};
use agent::slot::Slot;
use rustix::process::Signal;
use state::Code;
use state::name::ServiceName;
use state::service::{Enforce, Limits, Stop, StopSignal};

const PATIENCE: Duration = Duration::from_secs(20);

/// A host with one release, whose program is a shell script.
struct Host {
    _root: tempfile::TempDir,
    layout: Layout,
    runner: Runner,
    service: ServiceName,
    release: PathBuf,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        let service: ServiceName = "web".parse().unwrap();
        layout.create().unwrap();
        layout.service(&service).create(None).unwrap();
        let release = layout.service(&service).releases().join("r-1");
        fs::create_dir_all(release.join("app")).unwrap();
        Self {
            runner: Runner::shim(layout.clone(), env!("CARGO_BIN_EXE_agent").into()),
            layout,
            service,
            release,
            _root: root,
        }
    }

    fn spec(&self, attempt: &str, script: &str) -> SlotSpec {
        SlotSpec {
            service: self.service.clone(),
            slot: Slot::Blue,
            attempt: attempt.to_owned(),
            release: self.release.clone(),
            command: vec!["sh".into(), "-c".into(), script.into()],
            environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
            user: None,
            limits: Limits::default(),
            restart: Restart::Never,
            stop: Stop::default(),
            extra: Default::default(),
        }
    }

    async fn start(&self, script: &str) {
        self.runner.start(&self.spec("1", script)).await.unwrap();
    }

    fn status(&self) -> SlotStatus {
        self.runner.status(&self.service, Slot::Blue)
    }

    fn running(&self) -> (u32, u32, u32) {
        match self.status() {
            SlotStatus::Running {
                supervisor,
                pid,
                restarts,
                ..
            } => (supervisor, pid, restarts),
            other => panic!("expected a running slot, got {other:?}"),
        }
    }

    async fn stop(&self, grace: Duration) {
        self.runner
            .stop(&self.service, Slot::Blue, grace)
            .await
            .unwrap();
    }

    fn lines(&self) -> Vec<String> {
        self.runner.last_lines(&self.service, Slot::Blue, 50)
    }

    fn prints(&self, line: &str) -> bool {
        self.lines().iter().any(|printed| printed == line)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let SlotStatus::Running { supervisor, .. } = self.status() {
            let all = descendants(supervisor)
                .into_iter()
                .chain(ProcessId::of(supervisor));
            all.for_each(|process| {
                let _ = process.signal(Signal::KILL);
            });
        }
    }
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_slot_gets_its_variables_and_nothing_of_the_agents() {
    let host = Host::new();
    let mut spec = host.spec("1", "env; pwd; exec sleep 60");
    spec.environment.insert("PORT".into(), "20000".into());
    host.runner.start(&spec).await.unwrap();
    let app = host.release.join("app").display().to_string();
    until("the variables", || {
        host.prints("PORT=20000") && host.prints(&app)
    })
    .await;
    let known = [
        "WRIT_SLOT=",
        "PORT=",
        "PATH=",
        "PWD=",
        "_=",
        "SHLVL=",
        "OLDPWD=",
        "/",
    ];
    let foreign: Vec<_> = host
        .lines()
        .into_iter()
        .filter(|line| !known.iter().any(|known| line.starts_with(known)))
        .collect();
    assert_eq!(foreign, Vec::<String>::new());
    host.stop(PATIENCE).await;
}

#[tokio::test]
async fn the_same_attempt_is_taken_over_and_another_replaces_it() {
    let host = Host::new();
    host.start("exec sleep 60").await;
    let (supervisor, pid, _) = host.running();
    host.start("exec sleep 60").await;
    assert_eq!(host.running(), (supervisor, pid, 0));

    host.runner
        .start(&host.spec("2", "exec sleep 60"))
        .await
        .unwrap();
    assert_ne!(host.running().1, pid);
    assert!(ProcessId::of(pid).is_none());
    host.stop(PATIENCE).await;
    assert_eq!(host.status(), SlotStatus::Absent);
}

#[tokio::test]
async fn a_program_that_is_not_there_fails_the_start_with_its_name() {
    let host = Host::new();
    let mut spec = host.spec("1", "");
    spec.command = vec!["./server".into()];
    let refusal = host.runner.start(&spec).await.unwrap_err();
    assert_eq!(refusal.code, Code::StartFailed);
    assert!(refusal.detail.contains("'./server'"), "{refusal}");

    let program = host.release.join("app/server");
    fs::write(&program, "#!/bin/sh\nexec sleep 60\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    host.runner.start(&spec).await.unwrap();
    host.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_candidate_that_ends_is_not_started_again() {
    let host = Host::new();
    host.start("echo gone; exit 7").await;
    until("its end", || {
        matches!(
            host.status(),
            SlotStatus::Exited {
                restarting: false,
                ..
            }
        )
    })
    .await;
    let SlotStatus::Exited { exit, restarts, .. } = host.status() else {
        unreachable!()
    };
    assert_eq!((exit, restarts), (Exit::Code(7), 0));
    assert!(host.prints("gone"));
}

#[tokio::test]
async fn a_stable_slot_that_ends_is_started_again_after_a_while() {
    let host = Host::new();
    host.start("exec sleep 60").await;
    host.runner
        .set_restart(&host.service, Slot::Blue, Restart::Always)
        .unwrap();
    let killed = ProcessId::of(host.running().1).unwrap();
    let begun = Instant::now();
    killed.signal(Signal::KILL).unwrap();
    until("its end", || {
        !killed.is_alive()
            && matches!(
                host.status(),
                SlotStatus::Exited {
                    restarting: true,
                    exit: Exit::Signal(9),
                    ..
                }
            )
    })
    .await;
    until("its start", || {
        matches!(host.status(), SlotStatus::Running { restarts: 1, .. })
    })
    .await;
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );

    // The second wait is twice as long, and being stopped ends it.
    ProcessId::of(host.running().1)
        .unwrap()
        .signal(Signal::KILL)
        .unwrap();
    until("its second end", || {
        matches!(host.status(), SlotStatus::Exited { .. })
    })
    .await;
    let begun = Instant::now();
    host.stop(PATIENCE).await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(host.status(), SlotStatus::Absent);
}

#[tokio::test]
async fn what_ignores_the_request_to_end_is_killed_and_so_is_what_became_a_daemon() {
    let host = Host::new();
    host.start("trap '' TERM; setsid sh -c 'trap \"\" TERM; echo up; while :; do sleep 1; done' & while :; do sleep 1; done").await;
    let supervisor = host.running().0;
    until("the daemon", || host.prints("up")).await;
    let processes = descendants(supervisor);
    assert!(processes.len() >= 2, "{processes:?}");
    host.stop(Duration::from_millis(100)).await;
    assert!(processes.iter().all(|process| !process.is_alive()));
    assert!(ProcessId::of(supervisor).is_none_or(|shim| !shim.is_alive()));
}

#[tokio::test]
async fn a_slot_is_asked_to_end_as_its_release_says() {
    let host = Host::new();
    let traps = "trap 'echo INT; exit 0' INT; trap '' TERM; echo up; while :; do sleep 0.05; done";
    for (signal, stopped) in [
        (StopSignal::Int, Stopped::Asked),
        (StopSignal::Term, Stopped::Killed),
    ] {
        let mut spec = host.spec(&format!("{signal:?}"), traps);
        spec.stop.signal = signal;
        let before = host.lines().len();
        host.runner.start(&spec).await.unwrap();
        until("its traps", || host.lines().len() > before).await;
        let grace = Duration::from_secs(if stopped == Stopped::Asked { 20 } else { 1 });
        let ended = host.runner.stop(&host.service, Slot::Blue, grace).await;
        assert_eq!(ended.unwrap(), stopped, "{signal:?}");
    }
    assert!(host.prints("INT"));
}

#[tokio::test]
async fn a_slot_ends_in_its_own_way_if_it_has_the_time() {
    let host = Host::new();
    host.start("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
        .await;
    until("its start", || host.prints("up")).await;
    host.stop(PATIENCE).await;
    assert!(host.prints("bye"));
}

#[tokio::test]
async fn a_killed_shim_leaves_nothing_that_keeps_its_slot() {
    let host = Host::new();
    host.start("sleep 60 & sleep 60").await;
    let (supervisor, pid, _) = host.running();
    until("its child", || descendants(supervisor).len() == 3).await;
    let orphans = descendants(supervisor);
    ProcessId::of(supervisor)
        .unwrap()
        .signal(Signal::KILL)
        .unwrap();
    until("the shim's end", || {
        matches!(
            host.status(),
            SlotStatus::Exited {
                exit: Exit::Lost,
                ..
            }
        )
    })
    .await;
    assert!(ProcessId::of(pid).unwrap().is_alive());

    host.start("exec sleep 60").await;
    assert!(orphans.iter().all(|process| !process.is_alive()));
    host.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_slot_does_not_notice_that_its_agent_was_killed() {
    let host = Host::new();
    let agent = host.release.join("agent");
    let shim = env!("CARGO_BIN_EXE_agent");
    fs::write(&agent, format!("#!/bin/sh\n{shim} \"$@\" & wait\n")).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    let other = Runner::shim(host.layout.clone(), agent);
    other.start(&host.spec("1", "exec sleep 60")).await.unwrap();

    let before = host.running();
    let parent = ProcessId::of(parent_of(before.0)).unwrap();
    parent.signal(Signal::KILL).unwrap();
    until("the agent's end", || !parent.is_alive()).await;
    assert_eq!(host.running(), before);
    assert!(ProcessId::of(before.1).unwrap().is_alive());
    host.stop(PATIENCE).await;
    assert!(ProcessId::of(before.1).is_none());
}

/// The parent of the process `pid`.
fn parent_of(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_state_of_another_boot_is_no_process_of_ours() {
    let host = Host::new();
    host.start("exec sleep 60").await;
    let (supervisor, pid, _) = host.running();
    let path = host
        .release
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("slots/blue/state.json");
    let state = fs::read_to_string(&path).unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&state).unwrap();
    other["boot"] = "00000000-0000-0000-0000-000000000000".into();
    fs::write(&path, other.to_string()).unwrap();

    assert!(matches!(
        host.status(),
        SlotStatus::Exited {
            exit: Exit::Lost,
            ..
        }
    ));
    host.stop(PATIENCE).await;
    assert!(
        ProcessId::of(supervisor).unwrap().is_alive(),
        "a stop must not touch it"
    );
    ProcessId::of(supervisor)
        .unwrap()
        .signal(Signal::TERM)
        .unwrap();
    until("its end", || ProcessId::of(pid).is_none()).await;
}

#[tokio::test]
async fn limits_that_must_hold_are_refused() {
    let host = Host::new();
    let mut spec = host.spec("1", "exec sleep 60");
    spec.limits = Limits {
        tasks: Some(4),
        enforce: Enforce::Required,
        ..Limits::default()
    };
    let refusal = host.runner.start(&spec).await.unwrap_err();
    assert_eq!(refusal.code, Code::LimitUnenforceable);
    assert_eq!(host.status(), SlotStatus::Absent);
}
