//! A static site in a slot: the agent's own server, under a real shim.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener as StdListener;
use std::time::Duration;

use agent::layout::Layout;
use agent::probe::{self, Target};
use agent::runner::{Restart, Runner, SlotSpec, SlotStatus};
use agent::slot::Slot;
use agent::traffic::table::Address;
use state::digest::ReleaseId;
use state::name::ServiceName;
use state::service::{Limits, Stop};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_agent");
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A static site in a slot.
pub(crate) struct Site {
    _root: tempfile::TempDir,
    pub(crate) runner: Runner,
    pub(crate) service: ServiceName,
    pub(crate) target: Target,
    pub(crate) spec: SlotSpec,
}

pub(crate) enum Listen {
    Port,
    Socket,
}

impl Site {
    pub(crate) fn new(listen: &Listen) -> Self {
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
            stop: Stop::default(),
            extra: Default::default(),
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

    pub(crate) async fn start(&self) {
        self.runner.start(&self.spec).await.unwrap();
        probe::wait_startup(None, &self.target, &|| self.status())
            .await
            .unwrap();
    }

    pub(crate) fn status(&self) -> SlotStatus {
        self.runner.status(&self.service, Slot::Blue)
    }

    pub(crate) fn supervisor(&self) -> u32 {
        match self.status() {
            SlotStatus::Running { supervisor, .. } => supervisor,
            other => panic!("expected a running slot, got {other:?}"),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self.target.address {
            Some(Address::Tcp(address)) => address.port(),
            _ => panic!("the site has no port"),
        }
    }

    pub(crate) async fn stop(&self) {
        self.runner
            .stop(&self.service, Slot::Blue, PATIENCE)
            .await
            .unwrap();
    }

    /// Sends a raw request and gives the raw answer.
    pub(crate) async fn raw(&self, request: &str) -> String {
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
