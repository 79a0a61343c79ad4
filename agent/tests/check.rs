//! Probes against real slots: the agent's own static server, under a real shim.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener as StdListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent::check::{self, Target};
use agent::layout::Layout;
use agent::route::Address;
use agent::runner::{Restart, Runner, SlotSpec, SlotStatus};
use agent::slot::Slot;
use state::Code;
use state::digest::ReleaseId;
use state::name::ServiceName;
use state::service::{Check, Health, Identity, Limits, Probe, Startup};
use state::unit::Period;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const AGENT: &str = env!("CARGO_BIN_EXE_agent");
const PATIENCE: Duration = Duration::from_secs(20);

/// A static site in a slot.
struct Site {
    _root: tempfile::TempDir,
    runner: Runner,
    service: ServiceName,
    target: Target,
    spec: SlotSpec,
}

enum Listen {
    Port,
    Socket,
}

impl Site {
    fn new(listen: &Listen) -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        let service: ServiceName = "site".parse().unwrap();
        let folders = layout.service(&service);
        layout.create().unwrap();
        folders.create(None).unwrap();
        let release = folders.releases().join("r-1");
        fs::create_dir_all(release.join("app/public/sub")).unwrap();
        fs::write(release.join("app/public/index.html"), "hello").unwrap();

        let (address, variable) = match listen {
            Listen::Port => {
                let port = StdListener::bind("127.0.0.1:0")
                    .unwrap()
                    .local_addr()
                    .unwrap()
                    .port();
                (
                    Address::Tcp(([127, 0, 0, 1], port).into()),
                    ("PORT".into(), port.to_string()),
                )
            }
            Listen::Socket => {
                let path = folders.socket(Slot::Blue).unwrap();
                let shown = path.display().to_string();
                (Address::Unix(path), ("SOCKET".into(), shown))
            }
        };
        let id = ReleaseId([7; 32]);
        let path = ("PATH".into(), "/usr/bin:/bin".into());
        let environment = BTreeMap::from([variable, path, ("RELEASE_ID".into(), id.to_string())]);
        let spec = SlotSpec {
            service: service.clone(),
            slot: Slot::Blue,
            attempt: "1".into(),
            release: release.clone(),
            command: vec![AGENT.into(), "static".into(), "public".into()],
            environment: environment.clone(),
            user: None,
            limits: Limits::default(),
            restart: Restart::Never,
        };
        let target = Target {
            address: Some(address),
            release: id,
            app: release.join("app"),
            environment,
            user: None,
        };
        Self {
            runner: Runner::shim(layout, AGENT.into()),
            service,
            target,
            spec,
            _root: root,
        }
    }

    async fn start(&self) {
        self.runner.start(&self.spec).await.unwrap();
        check::wait_startup(None, &self.target, &|| self.status())
            .await
            .unwrap();
    }

    fn status(&self) -> SlotStatus {
        self.runner.status(&self.service, Slot::Blue)
    }

    fn supervisor(&self) -> u32 {
        match self.status() {
            SlotStatus::Running { supervisor, .. } => supervisor,
            other => panic!("expected a running slot, got {other:?}"),
        }
    }

    fn port(&self) -> u16 {
        match self.target.address {
            Some(Address::Tcp(address)) => address.port(),
            _ => panic!("the site has no port"),
        }
    }

    async fn stop(&self) {
        self.runner
            .stop(&self.service, Slot::Blue, PATIENCE)
            .await
            .unwrap();
    }

    /// Sends a raw request and gives the raw answer.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port()))
            .await
            .unwrap();
        let request = format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

fn http(path: &str) -> Check {
    Check::Http(path.into())
}

fn ready(check: Check) -> Probe {
    Probe {
        check,
        every: Period(20),
        successes: 3,
        failures: 3,
        timeout: Period::seconds(2),
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
        let answer = check::wait_ready(&ready(http("/")), &site.target, PATIENCE, &status)
            .await
            .unwrap();
        assert_eq!(answer.answer, "200 OK\nhello");
        assert!(check::probe(&Check::Tcp, &site.target, PATIENCE).await.ok);

        let identity = Some(Identity {
            header: "Writ-Release".into(),
        });
        let health = Health {
            identity,
            ..Health::default()
        };
        check::identity(&health, &site.target, site.supervisor())
            .await
            .unwrap();
        site.stop().await;
    }
}

#[tokio::test]
async fn an_answer_is_kept_as_it_came_and_an_error_status_is_a_failure() {
    let site = Site::new(&Listen::Port);
    fs::write(site.target.app.join("public/long"), "\x1b[2J".repeat(1000)).unwrap();
    site.start().await;
    let missing = check::probe(&http("/missing"), &site.target, PATIENCE).await;
    assert!(
        !missing.ok && missing.answer.starts_with("404"),
        "{missing:?}"
    );
    assert_eq!(
        missing.request,
        format!("GET http://127.0.0.1:{}/missing", site.port())
    );

    let long = check::probe(&http("/long"), &site.target, PATIENCE).await;
    assert!(long.ok && !long.answer.contains('\x1b'), "{long:?}");
    assert_eq!(long.answer.matches("[2J").count(), 512 / 4);
    site.stop().await;
}

#[tokio::test]
async fn a_command_probe_runs_in_the_app_folder_and_is_killed_when_late() {
    let site = Site::new(&Listen::Port);
    let good = check::probe(
        &exec(&["sh", "-c", "cat public/index.html; echo $RELEASE_ID"]),
        &site.target,
        PATIENCE,
    )
    .await;
    assert_eq!(
        good.answer,
        format!("exit code 0\nhello{}", site.target.release)
    );
    let bad = check::probe(
        &exec(&["sh", "-c", "echo broken >&2; exit 4"]),
        &site.target,
        PATIENCE,
    )
    .await;
    assert!(!bad.ok && bad.answer == "exit code 4\nbroken", "{bad:?}");
    let begun = Instant::now();
    let late = check::probe(
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
    let absent = check::probe(&exec(&["./absent"]), &site.target, PATIENCE).await;
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
    let unwell = check::wait_startup(Some(&startup), &site.target, &|| site.status())
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
    let unwell = check::wait_ready(&ready(http("/never")), &site.target, within, &status)
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
    check::wait_startup(None, &site.target, &|| site.status())
        .await
        .unwrap();
    let unwell = check::identity(&Health::default(), &site.target, site.supervisor())
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
    let unwell = check::identity(&health, &site.target, site.supervisor())
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

#[tokio::test]
async fn a_static_site_serves_its_folder_and_nothing_else() {
    let site = Site::new(&Listen::Port);
    fs::write(site.target.app.join("secret"), "secret").unwrap();
    fs::write(site.target.app.join("public/a.css"), "body{}").unwrap();
    site.start().await;
    let tag = format!("etag: \"{}\"", site.target.release);
    let css = site.raw("GET /a.css HTTP/1.1").await;
    assert!(
        css.contains("content-type: text/css") && css.contains(&tag) && css.ends_with("body{}"),
        "{css}"
    );
    assert!(css.contains("writ-release: 0707"), "{css}");
    let head = site.raw("HEAD / HTTP/1.1").await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let known = site
        .raw(&format!(
            "GET / HTTP/1.1\r\nIf-None-Match: \"{}\"",
            site.target.release
        ))
        .await;
    assert!(known.starts_with("HTTP/1.1 304"), "{known}");
    for (request, status) in [
        ("GET /../secret HTTP/1.1", "404"),
        ("GET /%2e%2e/secret HTTP/1.1", "404"),
        ("GET /sub/ HTTP/1.1", "404"),
        ("POST / HTTP/1.1", "405"),
    ] {
        let answer = site.raw(request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {answer}"
        );
    }
    site.stop().await;
}

#[tokio::test]
async fn a_site_that_ends_tells_its_clients_to_leave_before_it_closes() {
    let site = Site::new(&Listen::Port);
    site.start().await;
    let mut stream = TcpStream::connect(("127.0.0.1", site.port()))
        .await
        .unwrap();
    let mut buffer = [0; 1024];
    let mut ask = async || {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let length = stream.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(!ask().await.contains("connection: close"));
    let stop = tokio::join!(site.stop(), async {
        let deadline = Instant::now() + PATIENCE;
        while !ask().await.contains("connection: close") {
            assert!(Instant::now() < deadline);
        }
    });
    assert_eq!(stop, ((), ()));
    assert_eq!(site.status(), SlotStatus::Absent);
}

/// The folder of a site that is refused is named.
#[test]
fn a_site_without_its_folder_does_not_start() {
    let missing = PathBuf::from("/nonexistent/site");
    let run = Command::new(AGENT)
        .arg("static")
        .arg(&missing)
        .output()
        .unwrap();
    assert!(!run.status.success());
    assert!(String::from_utf8_lossy(&run.stderr).contains("/nonexistent/site"));
}
