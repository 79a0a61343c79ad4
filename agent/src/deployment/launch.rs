//! Starts a release in a slot and waits until it is ready: the stage between a built release and one that may be given
//! requests.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use state::durable::Extra;
use state::name::ServiceName;
use state::release::Release;
use state::service::{Listen, Service};
use state::verify::Verified;
use state::{Code, Refusal};

use crate::deployment::record::Occupant;
use crate::disk;
use crate::fs;
use crate::host::Host;
use crate::probe::{self, Target, Unwell};
use crate::runner::{Restart, SlotSpec, SlotStatus};
use crate::slot::Slot;
use crate::traffic::table::Address;
use crate::user::Account;
use crate::user::User;

/// What a program may be found in; the only variable of a slot that does not come from its release or its place.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// How long readiness is waited for where no startup probe says how long a start may take.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The account that owns nothing.
const NOBODY: u32 = 65_534;

/// A slot whose process runs.
#[derive(Clone, Debug)]
pub struct Started {
    /// How it is asked whether it is well.
    pub target: Target,
}

/// A slot that answered as it should: it may be given requests.
#[derive(Clone, Debug)]
pub struct Ready {
    /// How it is asked whether it is well.
    pub target: Target,
}

/// The address for a slot of `release`: none for a worker.
///
/// # Errors
/// `PORTS_EXHAUSTED`, `SOCKET_PATH_TOO_LONG`.
pub fn address(host: &Host, release: &Release, slot: Slot) -> Result<Option<Address>, Refusal> {
    if !listens(&release.spec) {
        return Ok(None);
    }
    match release.spec.run.listen {
        Listen::Port => {
            let port = host.ports.take()?;
            Ok(Some(Address::Tcp(([127, 0, 0, 1], port).into())))
        }
        Listen::Socket => {
            let path = host.service(&release.service).socket(slot)?;
            Ok(Some(Address::Unix(path)))
        }
    }
}

/// Says whether a service listens: for requests, or to be asked by a probe.
fn listens(service: &Service) -> bool {
    let asked = |check: &state::service::Check| !matches!(check, state::service::Check::Exec(_));
    let health = &service.health;
    let startup = health.startup.as_ref().map(|startup| &startup.check);
    let ready = health.ready.as_ref().map(|ready| &ready.probe);
    let probes = [ready, health.live.as_ref()].map(|probe| probe.map(|probe| &probe.check));
    service.traffic.is_some()
        || service.run.static_files.is_some()
        || startup
            .into_iter()
            .chain(probes.into_iter().flatten())
            .any(asked)
}

/// Starts the process of a slot, or takes it over if it runs as the same attempt already.
///
/// # Errors
/// `START_FAILED` (also for a missing credential), `LIMIT_UNENFORCEABLE`, `DISK_FULL`, `ACCOUNTS_EXHAUSTED`.
pub async fn start(
    host: &Host,
    release: &Verified<Release>,
    slot: Slot,
    occupant: &Occupant,
    restart: Restart,
) -> Result<Started, Refusal> {
    let layout = host.service(&release.service);
    let folder = layout.release(&occupant.kept.release, occupant.kept.number);
    let mut target = target(host, release, slot, occupant);
    let running = host.runner.status(&release.service, slot);
    if !matches!(running, SlotStatus::Running { attempt, .. } if attempt == occupant.attempt) {
        let account = host.accounts.of(&release.service)?;
        layout.create(account)?;
        target.user = account.map(Account::slot);
        copy_credentials(
            host,
            &release.service,
            &release.spec,
            slot,
            target.user.as_ref(),
        )?;
        if let Some(Address::Unix(path)) = &occupant.address {
            remove_socket(path).map_err(|error| disk::failed(path, &error))?;
        }
    }
    let spec = SlotSpec {
        service: release.service.clone(),
        slot,
        attempt: occupant.attempt.clone(),
        release: folder,
        command: command(host, &release.spec),
        environment: target.environment.clone(),
        user: target.user.clone(),
        limits: release.spec.run.limits.clone(),
        restart,
        stop: release.spec.run.stop,
        extra: Extra::default(),
    };
    host.runner.start(&spec).await?;
    Ok(Started { target })
}

/// Removes the socket that an earlier process left. The folder is the service's: if there is anything else than a file,
/// it is for the service to take it away, however much it is.
fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// How the slot with `occupant` is asked whether it is well.
pub fn target(host: &Host, release: &Release, slot: Slot, occupant: &Occupant) -> Target {
    let layout = host.service(&release.service);
    let kept = &occupant.kept;
    Target {
        address: occupant.address.clone(),
        release: kept.release,
        app: layout.release(&kept.release, kept.number).join("app"),
        environment: environment(host, release, slot, occupant),
        user: user(host, release, slot, occupant),
    }
}

/// The account that the slot's process runs as: what it was started as, also by an older agent. Where that cannot be
/// read, what it would be started as: its probes never run as root by oversight.
fn user(host: &Host, release: &Release, slot: Slot, occupant: &Occupant) -> Option<User> {
    let spec = host.runner.spec(&release.service, slot);
    match spec.filter(|spec| spec.attempt == occupant.attempt) {
        Some(spec) => spec.user,
        None => match host.accounts.of(&release.service) {
            Ok(account) => account.map(Account::slot),
            Err(_) => Some(User::numbered(NOBODY)),
        },
    }
}

/// Waits until a started slot is ready: startup, identity, readiness.
///
/// # Errors
/// `PROCESS_EXITED`, `IDENTITY_MISMATCH`, `NOT_READY`.
pub async fn wait_ready(
    host: &Host,
    release: &Release,
    slot: Slot,
    started: Started,
) -> Result<Ready, Unwell> {
    let Started { target } = started;
    let health = &release.spec.health;
    let status = || host.runner.status(&release.service, slot);
    probe::wait_startup(health.startup.as_ref(), &target, &status).await?;
    if let SlotStatus::Running { supervisor, .. } = status() {
        probe::identity(health, &target, supervisor).await?;
    }
    if let Some(ready) = &health.ready {
        let startup = health
            .startup
            .as_ref()
            .map(|startup| startup.within.duration());
        let one = ready.probe.every.duration() + ready.probe.timeout.duration();
        let within = startup.unwrap_or(READY_WITHIN).max(one * ready.successes);
        probe::wait_ready(ready, &target, within, &status).await?;
    }
    Ok(Ready { target })
}

/// What the slot runs; static files are served by the agent's own program.
fn command(host: &Host, service: &Service) -> Vec<String> {
    match &service.run.static_files {
        Some(folder) => vec![
            host.program.display().to_string(),
            "static".to_owned(),
            folder.clone(),
        ],
        None => service.run.command.clone(),
    }
}

/// All variables of a slot's process.
fn environment(
    host: &Host,
    release: &Release,
    slot: Slot,
    occupant: &Occupant,
) -> BTreeMap<String, String> {
    let layout = host.service(&release.service);
    let mut variables = release.spec.run.environment.clone();
    let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
    match &occupant.address {
        Some(Address::Tcp(address)) => drop(set("PORT", address.port().to_string())),
        Some(Address::Unix(path)) => drop(set("SOCKET", path.display().to_string())),
        None => {}
    }
    set("SLOT", slot.to_string());
    set("RELEASE_ID", occupant.kept.release.to_string());
    set("ENVIRONMENT", release.environment.to_string());
    set("STATE_DIRECTORY", layout.data().display().to_string());
    let credentials = layout.slot_credentials(slot);
    set("CREDENTIALS_DIRECTORY", credentials.display().to_string());
    variables
        .entry("PATH".to_owned())
        .or_insert_with(|| PATH.to_owned());
    variables
}

/// Copies the secrets that the release names into a folder that only the slot's account reads, and only the agent writes.
fn copy_credentials(
    host: &Host,
    service: &ServiceName,
    spec: &Service,
    slot: Slot,
    user: Option<&User>,
) -> Result<(), Refusal> {
    let folder = host.service(service).slot_credentials(slot);
    let failed = |path: &Path, error: &io::Error| disk::failed(path, error);
    fs::remove(&folder).map_err(|error| failed(&folder, &error))?;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(|error| failed(&folder, &error))?;
    for name in &spec.run.credentials {
        let source = host.layout.credentials(service).join(name.as_str());
        let copy = folder.join(name.as_str());
        std::fs::copy(&source, &copy).map_err(|error| missing(&source, &error))?;
        let owner = user.map(|user| user.uid);
        set_mode(&copy, 0o400)
            .and_then(|()| chown(&copy, owner, user.map(|user| user.gid)))
            .map_err(|error| failed(&copy, &error))?;
    }
    let Some(user) = user else { return Ok(()) };
    chown(&folder, None, Some(user.gid))
        .and_then(|()| set_mode(&folder, 0o750))
        .map_err(|error| failed(&folder, &error))
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn missing(path: &Path, error: &io::Error) -> Refusal {
    let detail = format!("credential '{}': {error}", path.display());
    Refusal::new(Code::StartFailed, detail)
}
