//! What passes each probe, and what does not.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent::probe;
use state::Code;
use state::digest::ReleaseId;
use state::service::{Check, Health, Identity, Probe, Ready, Startup};
use state::unit::Period;

use crate::site::{AGENT, Listen, PATIENCE, Site};

fn http(path: &str) -> Check {
    Check::Http(path.into())
}

fn ready(check: Check) -> Ready {
    Ready {
        probe: Probe {
            check,
            every: Period(20),
            failures: 3,
            timeout: Period::seconds(2),
        },
        successes: 3,
    }
}

fn exec(argv: &[&str]) -> Check {
    Check::Exec(argv.iter().map(|&word| word.to_owned()).collect())
}

#[tokio::test]
async fn a_slot_that_is_well_passes_every_probe() {
    for listen in [Listen::Port, Listen::Socket] {
        let site = Site::new(&listen);
        site.start().await;
        let status = || site.status();
        let answer = probe::wait_ready(&ready(http("/")), &site.target, PATIENCE, &status)
            .await
            .unwrap();
        assert_eq!(answer.answer, "200 OK\nhello");
        assert!(probe::probe(&Check::Tcp, &site.target, PATIENCE).await.ok);

        let identity = Some(Identity {
            header: "Writ-Release".into(),
        });
        let health = Health {
            identity,
            ..Health::default()
        };
        probe::identity(&health, &site.target, site.supervisor())
            .await
            .unwrap();
        site.stop().await;
    }
}

#[tokio::test]
async fn each_number_of_the_first_probes_counts() {
    let site = Site::new(&Listen::Port);
    site.start().await;
    let status = || site.status();
    let mut probe = ready(http("/"));
    for (every, successes, least) in [(20, 1, 0), (20, 3, 40), (300, 3, 600)] {
        (probe.probe.every, probe.successes) = (Period(every), successes);
        let begun = Instant::now();
        probe::wait_ready(&probe, &site.target, PATIENCE, &status)
            .await
            .unwrap();
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(least), "{probe:?}: {took:?}");
    }
    probe.successes = 1;
    probe.probe.check = exec(&["sleep", "1"]);
    for (timeout, ok) in [(100, false), (10_000, true)] {
        probe.probe.timeout = Period(timeout);
        let within = Duration::from_secs(if ok { 20 } else { 2 });
        let ready = probe::wait_ready(&probe, &site.target, within, &status).await;
        assert_eq!(ready.is_ok(), ok, "{timeout} ms");
    }
    for (within, ok) in [(300, false), (30_000, true)] {
        let startup = Startup {
            check: exec(&["sh", "-c", "sleep 1"]),
            within: Period(within),
        };
        let up = probe::wait_startup(Some(&startup), &site.target, &status).await;
        assert_eq!(up.is_ok(), ok, "{within} ms");
    }
    site.stop().await;
}

#[tokio::test]
async fn an_answer_is_kept_as_it_came_and_an_error_status_is_a_failure() {
    let site = Site::new(&Listen::Port);
    fs::write(site.target.app.join("public/long"), "\x1b[2J".repeat(1000)).unwrap();
    site.start().await;
    let missing = probe::probe(&http("/missing"), &site.target, PATIENCE).await;
    assert!(
        !missing.ok && missing.answer.starts_with("404"),
        "{missing:?}"
    );
    assert_eq!(
        missing.request,
        format!("GET http://127.0.0.1:{}/missing", site.port())
    );

    let long = probe::probe(&http("/long"), &site.target, PATIENCE).await;
    assert!(long.ok && !long.answer.contains('\x1b'), "{long:?}");
    assert_eq!(long.answer.matches("[2J").count(), 512 / 4);
    site.stop().await;
}

#[tokio::test]
async fn a_command_probe_runs_in_the_app_folder_and_is_killed_when_late() {
    let site = Site::new(&Listen::Port);
    let good = probe::probe(
        &exec(&["sh", "-c", "cat public/index.html; echo $RELEASE_ID"]),
        &site.target,
        PATIENCE,
    )
    .await;
    assert_eq!(
        good.answer,
        format!("exit code 0\nhello{}", site.target.release)
    );
    let bad = probe::probe(
        &exec(&["sh", "-c", "echo broken >&2; exit 4"]),
        &site.target,
        PATIENCE,
    )
    .await;
    assert!(!bad.ok && bad.answer == "exit code 4\nbroken", "{bad:?}");
    let begun = Instant::now();
    let late = probe::probe(
        &exec(&["sleep", "60"]),
        &site.target,
        Duration::from_millis(200),
    )
    .await;
    assert!(
        !late.ok && late.answer.contains("no end within"),
        "{late:?}"
    );
    assert!(begun.elapsed() < PATIENCE);
    let absent = probe::probe(&exec(&["./absent"]), &site.target, PATIENCE).await;
    assert!(
        !absent.ok && absent.answer.contains("cannot start"),
        "{absent:?}"
    );
}

#[tokio::test]
async fn a_process_that_ends_while_starting_is_not_waited_for() {
    let mut site = Site::new(&Listen::Port);
    site.spec.command = vec!["sh".into(), "-c".into(), "exit 9".into()];
    site.runner.start(&site.spec).await.unwrap();
    let startup = Startup {
        check: http("/"),
        within: Period::minutes(10),
    };
    let unwell = probe::wait_startup(Some(&startup), &site.target, &|| site.status())
        .await
        .unwrap_err();
    assert_eq!(unwell.refusal.code, Code::ProcessExited);
    assert!(
        unwell.refusal.detail.contains("exit code 9"),
        "{}",
        unwell.refusal
    );
}

#[tokio::test]
async fn a_slot_that_never_gets_ready_fails_in_time_with_the_last_answer() {
    let site = Site::new(&Listen::Port);
    site.start().await;
    let status = || site.status();
    let within = Duration::from_millis(300);
    let unwell = probe::wait_ready(&ready(http("/never")), &site.target, within, &status)
        .await
        .unwrap_err();
    assert_eq!(unwell.refusal.code, Code::NotReady);
    assert!(unwell.answer.unwrap().answer.starts_with("404"));
    site.stop().await;
}

#[tokio::test]
async fn another_process_that_answers_in_the_slots_place_is_found_out() {
    let site = Site::new(&Listen::Port);
    let mut thief = Command::new(AGENT)
        .args([
            "static".as_ref(),
            site.target.app.join("public").as_os_str(),
        ])
        .env("PORT", site.port().to_string())
        .env("RELEASE_ID", site.target.release.to_string())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut spec = site.spec.clone();
    spec.command = vec!["sleep".into(), "60".into()];
    site.runner.start(&spec).await.unwrap();
    probe::wait_startup(None, &site.target, &|| site.status())
        .await
        .unwrap();
    let unwell = probe::identity(&Health::default(), &site.target, site.supervisor())
        .await
        .unwrap_err();
    assert_eq!(unwell.refusal.code, Code::IdentityMismatch);
    assert!(
        unwell.refusal.detail.contains(&thief.id().to_string()),
        "{}",
        unwell.refusal
    );
    thief.kill().unwrap();
    thief.wait().unwrap();
    site.stop().await;
}

#[tokio::test]
async fn the_answer_of_another_release_is_found_out_by_its_header() {
    let mut site = Site::new(&Listen::Port);
    site.start().await;
    site.target.release = ReleaseId([8; 32]);
    let identity = Some(Identity {
        header: "Writ-Release".into(),
    });
    let health = Health {
        identity,
        ..Health::default()
    };
    let unwell = probe::identity(&health, &site.target, site.supervisor())
        .await
        .unwrap_err();
    assert_eq!(unwell.refusal.code, Code::IdentityMismatch);
    assert!(
        unwell
            .refusal
            .detail
            .contains(&ReleaseId([7; 32]).to_string()),
        "{}",
        unwell.refusal
    );
    site.stop().await;
}
