//! A host for the tests of what people and programs read: three services, at noon.

use jiff::{SignedDuration, Timestamp};
use state::digest::{ObjectId, ReleaseId, Sha256Hash};
use state::durable::{Extra, Format};

use crate::deployment::phase::Phase;
use crate::remotes::exception::Glass;
use crate::slot::Slot;
use crate::status::{
    AgentView, DeploymentView, Health, HeldKind, HeldView, PassView, Problem, ReleaseView,
    RemoteView, ServiceView, SettingsView, Status,
};

/// The time at which everything here is looked at.
pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_795_262_400).expect("2026-11-21T12:00:00Z")
}

/// So many seconds before [`now`], or after it if negative.
pub(super) fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

pub(super) fn release(byte: u8) -> ReleaseId {
    ReleaseId([byte; 32])
}

pub(super) fn source(byte: u8) -> ObjectId {
    ObjectId([byte; 20])
}

/// A live and healthy service whose release and source are made of `byte`.
pub(super) fn service(name: &str, byte: u8) -> ServiceView {
    ServiceView {
        name: name.parse().expect("a name"),
        phase: "live".to_owned(),
        health: Health::Healthy,
        running: Some(ReleaseView {
            release: release(byte),
            source: source(byte + 0xa0),
            slot: Slot::Blue,
            since: ago(3 * 3600),
        }),
        desired: Some(release(byte)),
        deployment: None,
        held: None,
        restart: None,
        degraded: Vec::new(),
        extra: Extra::default(),
    }
}

/// A deployment of the release made of `byte`.
pub(super) fn deployment(byte: u8, phase: Phase) -> DeploymentView {
    DeploymentView {
        number: 4,
        release: release(byte),
        source: source(byte + 0xa0),
        phase,
        since: ago(12),
        baked_at: None,
        waits_for: None,
    }
}

/// A hold whose detail quotes what a hostile service said.
pub(super) fn held(kind: HeldKind) -> HeldView {
    HeldView {
        kind,
        since: Some(ago(2 * 3600)),
        until: None,
        problem: Problem {
            code: "NOT_READY".to_owned(),
            detail: "GET /ready: 503 \u{1b}[2J, 3 times".to_owned(),
            remedy: "read its log: `agent logs web`".to_owned(),
        },
    }
}

/// A host on which all is well.
pub(super) fn status() -> Status {
    Status {
        format: Format::FIRST,
        host: "web-1".parse().expect("a name"),
        environment: "prod".parse().expect("a name"),
        domain: format!("sha256:{}", "3f".repeat(32)),
        time: ago(180),
        agent: AgentView {
            version: "0.1.0".to_owned(),
            pid: 812,
            started: ago(86_400),
        },
        pass: Some(PassView {
            time: ago(12),
            sequence: 42,
            manifest: Some(Sha256Hash([0x5e; 32])),
            fresh_until: Some(ago(-23 * 3600)),
            refused: None,
        }),
        remotes: Vec::new(),
        settings: None,
        proxy: None,
        journal: None,
        break_glass: None,
        evidence: Vec::new(),
        degraded: Vec::new(),
        services: vec![
            service("api", 0x11),
            service("web", 0x22),
            service("worker", 0x33),
        ],
        extra: Extra::default(),
    }
}

/// A stale admission that somebody let start.
pub(super) fn glass() -> Glass {
    Glass {
        format: Format::FIRST,
        sequence: 42,
        manifest: Sha256Hash([0x5e; 32]),
        reason: "policy is down, and the fix cannot wait".to_owned(),
        user: "root, by sudo for alice".to_owned(),
        since: ago(300),
        extra: Extra::default(),
    }
}

/// A remote that is ahead, and one that is behind and slow.
pub(super) fn remotes() -> Vec<RemoteView> {
    let good = RemoteView {
        url: "https://git.example.org/state.git".to_owned(),
        serves: true,
        passed: Some(ago(12)),
        sequence: Some(42),
        fetching_since: None,
        refused: None,
    };
    let behind = RemoteView {
        url: "https://mirror.example.org/state.git".to_owned(),
        serves: false,
        passed: Some(ago(7200)),
        sequence: Some(40),
        fetching_since: Some(ago(30)),
        refused: Some(held(HeldKind::Refused).problem),
    };
    vec![good, behind]
}

/// The same host with every field that a status can have.
pub(super) fn everything() -> Status {
    let mut status = status();
    status.degraded = vec!["builds are not confined (sandbox: none)".to_owned()];
    if let Some(pass) = &mut status.pass {
        pass.refused = Some(held(HeldKind::Refused).problem);
    }
    status.remotes = remotes();
    status.settings = Some(SettingsView {
        path: "/etc/writ/agent.yaml".into(),
        changed: Some(ago(300)),
        refused: Some(held(HeldKind::Refused).problem),
    });
    status.proxy = Some(Problem {
        code: "PROXY_UNAVAILABLE".to_owned(),
        detail: "/run/writ/proxy.sock: Connection refused".to_owned(),
        remedy: "start it".to_owned(),
    });
    status.journal = Some(Problem {
        code: "DISK_FULL".to_owned(),
        detail: "'/var/lib/writ/agent/journal': No space left on device".to_owned(),
        remedy: "free space".to_owned(),
    });
    status.break_glass = Some(glass());
    status.evidence = vec!["/var/lib/writ/agent/evidence/42-0f0f0f0f0f0f".into()];
    let web = &mut status.services[1];
    web.degraded = vec!["limits are not enforced".to_owned()];
    web.restart = Some(Problem {
        code: "PORTS_EXHAUSTED".to_owned(),
        detail: "127.0.0.1:20000 is listened at by process 7 (\u{1b}[2J): no port is free"
            .to_owned(),
        remedy: "stop what occupies them".to_owned(),
    });
    web.deployment = Some(DeploymentView {
        baked_at: Some(ago(-120)),
        waits_for: Some("another build to end".to_owned()),
        ..deployment(0x44, Phase::Baking)
    });
    web.held = Some(HeldView {
        until: Some(ago(-300)),
        ..held(HeldKind::Postponed)
    });
    status
}
