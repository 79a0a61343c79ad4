//! A host with its own proxy, and the slots that stand behind it.

use std::convert::Infallible;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use agent::layout::Layout;
use agent::slot::{Role, Slot};
use agent::traffic::embedded::{Embedded, ensure_running};
use agent::traffic::table::{Address, Backend, RouteTable};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use state::name::ServiceName;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The time for anything that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A root folder with a proxy, which is killed in the end.
pub(crate) struct Host {
    root: TempDir,
    pub(crate) driver: Embedded,
    pub(crate) table: RouteTable,
}

impl Host {
    /// Starts a proxy; the table of the service "web" listens on a free port and has no slots yet.
    pub(crate) async fn start() -> Self {
        let root = TempDir::new().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        let host = Self {
            driver: Embedded::new(layout.proxy_socket(), layout.routes()),
            table: RouteTable::new(web(), free_address()),
            root,
        };
        host.ensure_running().await;
        host
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.root.path()).unwrap()
    }

    /// Starts the proxy unless it runs; gives its pid.
    pub(crate) async fn ensure_running(&self) -> Pid {
        let root = self.root.path();
        let arguments = [
            Path::new("--root"),
            root,
            "proxy".as_ref(),
            "--detach".as_ref(),
        ];
        let program = Path::new(env!("CARGO_BIN_EXE_agent"));
        let log = root.join("proxy.log");
        let pong = ensure_running(&self.driver, program, arguments, &log, SOON).await;
        Pid::from_raw(pong.unwrap().pid.try_into().unwrap()).unwrap()
    }

    pub(crate) async fn signal(&self, signal: Signal) {
        if let Ok(pong) = self.driver.ping().await {
            let pid = Pid::from_raw(pong.pid.try_into().unwrap()).unwrap();
            kill_process(pid, signal).unwrap();
        }
    }

    /// Changes the table and has it served.
    pub(crate) async fn apply(&mut self, change: impl FnOnce(&mut RouteTable)) {
        change(&mut self.table);
        self.table.generation += 1;
        self.driver.apply(&self.table).await.unwrap();
    }

    /// Has `slot` served alone.
    pub(crate) async fn serve(&mut self, slot: Slot, address: Address) {
        self.apply(|table| {
            let backend = Backend {
                address,
                weight: 100,
                role: Role::Stable,
                extra: Default::default(),
            };
            table.slots.insert(slot, backend);
        })
        .await;
    }

    /// Sends `request` as it is and reads until the proxy closes.
    pub(crate) async fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect();
        let request = request.to_owned();
        tokio::task::spawn_blocking(move || {
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            // A reset ends the answer as well.
            let _ = stream.read_to_string(&mut answer);
            answer
        })
        .await
        .unwrap()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.table.listen).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let socket = self.layout().proxy_socket();
        let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else {
            return;
        };
        let _ = writeln!(stream, r#"{{"request":"ping"}}"#);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let pong: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let pid = pong["pong"]["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

pub(crate) fn web() -> ServiceName {
    "web".parse().unwrap()
}

/// A loopback address that nobody listens on.
pub(crate) fn free_address() -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// Asks `condition` every 10 ms until it holds; panics with `what` if it does not soon.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A service that answers with the body it got, and says its release; killed when dropped.
pub(crate) struct Echo {
    pub(crate) address: Address,
    task: JoinHandle<()>,
}

impl Echo {
    pub(crate) async fn start(release: &str) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(socket.local_addr().unwrap());
        let release = release.to_owned();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let release = release.clone();
                let echo = service_fn(move |request: Request<Incoming>| {
                    let answer = Response::builder().header("writ-release", &release);
                    let answer = answer.body(request.into_body()).unwrap();
                    async { Ok::<_, Infallible>(answer) }
                });
                connections
                    .spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), echo));
            }
        });
        Self { address, task }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}
