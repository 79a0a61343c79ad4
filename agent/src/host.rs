//! What all services of this host share: settings, runner, sandbox, proxy, journal, status, and the set of what was
//! verified here. It exists only below the agent's lock.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use state::digest::{PayloadHash, ReleaseId};
use state::git::worker::Worker;
use state::name::ServiceName;
use state::release::Release;
use state::verify::{Verified, recall};
use state::{Code, Refusal};
use tokio::sync::Semaphore;

use crate::accounts::Accounts;
use crate::config::{Config, ProxyMode};
use crate::deployment::record::Kept;
use crate::journal::{Entry, Journal, Kind};
use crate::layout::{Layout, ServiceLayout};
use crate::lock::AgentLock;
use crate::ports::PortPool;
use crate::progress::Progress;
use crate::remotes::keeper::Keeper;
use crate::runner::{Runner, boot_id};
use crate::sandbox::Sandbox;
use crate::status::{Board, Problem};
use crate::traffic::embedded::{Embedded, ensure_running};
use crate::traffic::table::RouteTable;

/// The time that a managed proxy has to answer after its start.
const PROXY_START: Duration = Duration::from_secs(10);

/// How many workers that fetch sources wait for more.
const WORKERS: usize = 2;

/// This host, as all its services see it.
#[derive(Debug)]
pub struct Host {
    /// Where everything lies.
    pub layout: Layout,
    /// The settings.
    pub config: Config,
    /// The accounts of services and builds.
    pub accounts: Accounts,
    /// What runs slots.
    pub runner: Runner,
    /// What confines builds.
    pub sandbox: Sandbox,
    /// What forwards requests.
    pub proxy: Embedded,
    /// The history.
    pub journal: Arc<Journal>,
    /// The status.
    pub board: Arc<Board>,
    /// How many builds may run at once.
    pub builds: Arc<Semaphore>,
    /// The ports of slots.
    pub ports: PortPool,
    /// What a person at a terminal sees.
    pub progress: Progress,
    /// This boot of the system.
    pub boot: String,
    /// The agent's own program: also shim, proxy, static server and fetch worker.
    pub program: PathBuf,
    known: Mutex<BTreeSet<(ServiceName, ReleaseId, PayloadHash)>>,
    mirrors: Mutex<BTreeMap<PathBuf, Arc<Mutex<()>>>>,
    /// Those that fetch nothing at the moment.
    workers: Mutex<Vec<Worker>>,
    _lock: AgentLock,
}

impl Host {
    /// Takes the agent's lock and prepares everything; starts nothing.
    ///
    /// # Errors
    /// `ALREADY_RUNNING`, `STATE_MISSING` if the host was not enrolled, and a refusal of its settings.
    pub fn open(layout: Layout, config: Config, progress: Progress) -> Result<Self, Refusal> {
        if !layout.floor().exists() {
            let detail = format!("'{}' does not exist", layout.floor().display());
            return Err(Refusal::new(Code::StateMissing, detail));
        }
        layout.create()?;
        let lock = AgentLock::take(&layout.lock())?;
        let accounts = Accounts::open(&layout, &config)?;
        let program = std::env::current_exe()
            .map_err(|error| Refusal::new(Code::StateUnsafe, format!("own program: {error}")))?;
        let sandbox = Sandbox::new(
            config.sandbox.clone(),
            program.clone(),
            config.limits.disk_floor,
            None,
        );
        let degraded = if sandbox.confines() {
            Vec::new()
        } else {
            vec!["builds are not confined (sandbox: none)".to_owned()]
        };
        let board = Arc::new(Board::new(layout.status(), &config, degraded));
        let shown = Arc::clone(&board);
        let tell = move |refusal: Option<&Refusal>| {
            shown.show_journal(refusal.map(Problem::from));
        };
        Ok(Self {
            runner: Runner::shim(layout.clone(), program.clone()),
            proxy: Embedded::new(layout.proxy_socket(), layout.routes()),
            journal: Arc::new(Journal::new(layout.journal(), Box::new(tell))),
            board,
            builds: Arc::new(Semaphore::new(config.builds)),
            ports: PortPool::new(config.ports),
            boot: boot_id(),
            known: Mutex::default(),
            mirrors: Mutex::default(),
            workers: Mutex::default(),
            _lock: lock,
            layout,
            config,
            accounts,
            sandbox,
            progress,
            program,
        })
    }

    /// A fetch worker that is not started yet.
    pub fn worker(&self) -> Worker {
        Worker::new(self.program.clone(), vec![OsString::from("fetch-worker")])
    }

    /// Has a worker fetch sources: one that has nothing to do, or a new one, which is kept for the next.
    pub fn with_worker<T>(&self, work: impl FnOnce(&mut Worker) -> T) -> T {
        let idle = || self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle().pop();
        let mut worker = waiting.unwrap_or_else(|| self.worker());
        let done = work(&mut worker);
        let mut idle = idle();
        if idle.len() < WORKERS {
            idle.push(worker);
        }
        done
    }

    /// What keeps two fetches from writing to one mirror at the same time.
    pub fn mirror_lock(&self, mirror: &Path) -> Arc<Mutex<()>> {
        let mut mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(mirrors.entry(mirror.to_owned()).or_default())
    }

    /// Remembers, for this process, that a release was verified.
    pub fn remember(&self, service: &ServiceName, release: ReleaseId, origin: PayloadHash) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((service.clone(), release, origin));
    }

    /// Says whether a release was verified here.
    pub fn knows(&self, service: &ServiceName, release: &ReleaseId, origin: &PayloadHash) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(&(service.clone(), *release, *origin))
    }

    /// Reads a release that this host keeps, if it was verified here and was not changed since.
    ///
    /// # Errors
    /// `STATE_UNSAFE` if it was changed or was never verified, `CONFIG_INVALID` if it cannot be read.
    pub fn recall(
        &self,
        service: &ServiceName,
        kept: &Kept,
    ) -> Result<Arc<Verified<Release>>, Refusal> {
        let folder = self.service(service).release(&kept.release, kept.number);
        let release = self.recall_file(service, &folder.join("release.yaml"))?;
        if release.id() == kept.release {
            return Ok(release);
        }
        let detail = format!("'{}' holds another release", folder.display());
        Err(Refusal::new(Code::StateUnsafe, detail))
    }

    /// Reads the release in the file `path`, as [`Host::recall`] does.
    pub fn recall_file(
        &self,
        service: &ServiceName,
        path: &Path,
    ) -> Result<Arc<Verified<Release>>, Refusal> {
        let bytes = std::fs::read(path).map_err(|error| crate::disk::failed(path, &error))?;
        let environment = self.config.environment.clone();
        let release = Release::from_yaml(environment, service.clone(), &bytes)?;
        let known = |service: &ServiceName, id: &ReleaseId, origin: &PayloadHash| {
            self.knows(service, id, origin)
        };
        recall(release, &known).map(Arc::new)
    }

    /// The paths of a service.
    pub fn service(&self, service: &ServiceName) -> ServiceLayout {
        self.layout.service(service)
    }

    /// Has the proxy serve `table`; starts a managed proxy that does not answer.
    pub async fn apply(&self, table: &RouteTable) -> Result<(), Refusal> {
        match self.proxy.apply(table).await {
            Err(refusal) if self.may_start_proxy(&refusal) => {
                self.ensure_proxy().await?;
                self.proxy.apply(table).await.map(drop)
            }
            done => done.map(drop),
        }
    }

    /// Has the proxy forget `service`.
    pub async fn unserve(&self, service: &ServiceName) -> Result<(), Refusal> {
        match self.proxy.remove(service).await {
            Err(refusal) if self.may_start_proxy(&refusal) => Ok(()), // nobody listens: nothing to forget
            done => done,
        }
    }

    fn may_start_proxy(&self, refusal: &Refusal) -> bool {
        refusal.code == Code::ProxyUnavailable && self.config.proxy == ProxyMode::Managed
    }

    /// Starts the managed proxy unless it answers.
    pub async fn ensure_proxy(&self) -> Result<(), Refusal> {
        if self.config.proxy == ProxyMode::External {
            return self.proxy.ping().await.map(drop);
        }
        let mut arguments = vec![OsString::from("--root"), self.layout.root().into()];
        arguments.extend(["proxy", "--detach"].map(OsString::from));
        let log = self.layout.proxy_log();
        ensure_running(&self.proxy, &self.program, arguments, &log, PROXY_START)
            .await
            .map(drop)
    }

    /// Makes sure of the proxy, if it has anything to serve, and shows what is wrong with it.
    pub async fn look_at_proxy(&self) {
        let refused = if self.has_routes() {
            self.ensure_proxy().await.err()
        } else {
            None
        };
        if self.board.show_proxy(refused.as_ref().map(Problem::from)) {
            match refused {
                Some(refusal) => self.note(Kind::Damage, &format!("no proxy: {refusal}")),
                None => self.note(Kind::Damage, "the proxy answers again"),
            }
        }
    }

    fn has_routes(&self) -> bool {
        let tables = std::fs::read_dir(self.layout.routes());
        tables.is_ok_and(|tables| {
            tables
                .flatten()
                .any(|table| table.path().extension().is_some_and(|end| end == "json"))
        })
    }

    /// Says what happened to the host: to the journal and to the log.
    pub fn note(&self, kind: Kind, text: &str) {
        tracing::info!("{text}");
        self.journal.append(&Entry::new(kind, text));
    }

    /// The same of one service.
    pub fn note_of(&self, service: &ServiceName, kind: Kind, text: &str) {
        tracing::info!(%service, "{text}");
        self.journal.append(&Entry {
            service: Some(service.clone()),
            ..Entry::new(kind, text)
        });
    }
}

impl Keeper for Host {
    fn knows(&self, service: &ServiceName, release: &ReleaseId, origin: &PayloadHash) -> bool {
        self.knows(service, release, origin)
    }

    fn note_damage(&self, text: &str) {
        self.note(Kind::Damage, text);
    }

    fn worker(&self) -> Worker {
        self.worker()
    }
}
