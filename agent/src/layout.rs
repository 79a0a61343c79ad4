//! Where everything of one agent lies: one folder for what lasts, one for what ends with the boot, one for what people
//! configure, all below `--root`. Nothing else in the crate joins a path of its own to the root.
//!
//! Folders on the way to what a service's accounts must reach are 0711 (enter, not list); what only the agent reads is
//! 0700. A service owns its data and the folder of its sockets, its builds their home and checkout, and nothing else: in
//! all other folders only the agent writes.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use state::digest::{ReleaseId, Sha256Hash};
use state::file::check_safe;
use state::name::ServiceName;
use state::refusal::{Code, Refusal};

use crate::disk::failed;
use crate::fs;
use crate::slot::Slot;
use crate::user::Account;

/// The longest path of a unix socket that is allowed; the kernel's own limit is 107.
const SOCKET_PATH: usize = 100;

/// A folder that only the agent reads.
const PRIVATE: u32 = 0o700;
/// A folder that others may pass through and not list.
const PASSAGE: u32 = 0o711;

/// All paths of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`, which is made absolute first. Fails if the sockets' paths would be too long to bind.
    pub fn new(root: &Path) -> Result<Self, Refusal> {
        let root = std::path::absolute(root).map_err(|error| {
            Refusal::new(Code::StateMissing, format!("'{}': {error}", root.display()))
        })?;
        let layout = Self { root };
        socket(layout.proxy_socket())?;
        Ok(layout)
    }

    /// The folder that stands for `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `/etc/writ/agent.yaml`.
    pub fn config(&self) -> PathBuf {
        self.root.join("etc/writ/agent.yaml")
    }

    /// The folder of a service's secrets on this host; each file is a credential.
    pub fn credentials(&self, service: &ServiceName) -> PathBuf {
        self.root
            .join("etc/writ/credentials")
            .join(service.as_str())
    }

    /// `/var/lib/writ`.
    fn lasting(&self) -> PathBuf {
        self.root.join("var/lib/writ")
    }

    /// `/var/lib/writ/agent`: the agent's own memory.
    pub fn agent(&self) -> PathBuf {
        self.lasting().join("agent")
    }

    /// What this host has accepted.
    pub fn floor(&self) -> PathBuf {
        self.agent().join("floor.json")
    }

    /// Locked by the one agent of this host.
    pub fn lock(&self) -> PathBuf {
        self.agent().join("agent.lock")
    }

    /// What `agent status` shows when no agent answers.
    pub fn status(&self) -> PathBuf {
        self.agent().join("status.json")
    }

    /// The mirror of the state repository at the remote `url`, which no other remote's objects enter.
    pub fn mirror(&self, url: &str) -> PathBuf {
        self.mirrors().join(mirror_name(url))
    }

    /// The folder of the mirrors.
    pub fn mirrors(&self) -> PathBuf {
        self.agent().join("mirrors")
    }

    /// The mirror that `agent plan` looks at, so that it never meets a running agent's.
    pub fn plan_mirror(&self, url: &str) -> PathBuf {
        self.agent().join("plan").join(mirror_name(url))
    }

    /// The mirror of all remotes that earlier agents had.
    pub fn old_mirror(&self) -> PathBuf {
        self.agent().join("state.git")
    }

    /// The stale admission that an operator let start.
    pub fn glass(&self) -> PathBuf {
        self.agent().join("break-glass.json")
    }

    /// Statements that contradict each other, kept for people.
    pub fn evidence(&self) -> PathBuf {
        self.agent().join("evidence")
    }

    /// The mirror of the source repository at `url`.
    pub fn source(&self, url: &str) -> PathBuf {
        self.sources().join(mirror_name(url))
    }

    /// The folder of the mirrors of sources.
    pub fn sources(&self) -> PathBuf {
        self.agent().join("sources")
    }

    /// The history of events; it may be lost.
    pub fn journal(&self) -> PathBuf {
        self.agent().join("journal")
    }

    /// The folder with one folder a service.
    pub fn services(&self) -> PathBuf {
        self.agent().join("services")
    }

    /// The paths of one service.
    pub fn service(&self, service: &ServiceName) -> ServiceLayout {
        ServiceLayout {
            lasting: self.services().join(service.as_str()),
            passing: self.run().join(service.as_str()),
            secrets: self.run().join(format!("{service}.credentials")),
        }
    }

    /// The folder of the routing tables.
    pub fn routes(&self) -> PathBuf {
        self.lasting().join("routes")
    }

    /// `/run/writ`: what ends with the boot.
    pub fn run(&self) -> PathBuf {
        self.root.join("run/writ")
    }

    /// Where the agent answers its command line.
    pub fn agent_socket(&self) -> PathBuf {
        self.run().join("agent.sock")
    }

    /// Where the proxy takes orders.
    pub fn proxy_socket(&self) -> PathBuf {
        self.run().join("proxy.sock")
    }

    /// What a managed proxy prints.
    pub fn proxy_log(&self) -> PathBuf {
        self.agent().join("proxy.log")
    }

    /// Makes the folders that every agent needs; those that exist keep their mode.
    pub fn create(&self) -> Result<(), Refusal> {
        let folders = [
            (self.agent(), PASSAGE),
            (self.services(), PASSAGE),
            (self.sources(), PRIVATE),
            (self.mirrors(), PRIVATE),
            (self.journal(), PRIVATE),
            (self.routes(), 0o750),
            (self.run(), PASSAGE),
        ];
        folders
            .iter()
            .try_for_each(|(path, mode)| make(path, *mode))
    }
}

/// The paths of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceLayout {
    lasting: PathBuf,
    passing: PathBuf,
    secrets: PathBuf,
}

impl ServiceLayout {
    /// The folder of the service.
    pub fn path(&self) -> &Path {
        &self.lasting
    }

    /// The truth about the service on this host.
    pub fn record(&self) -> PathBuf {
        self.lasting.join("record.json")
    }

    /// The release that was admitted last, for an agent that is started again while it is being built.
    pub fn desired(&self) -> PathBuf {
        self.lasting.join("desired.yaml")
    }

    /// The folder of the releases that are kept.
    pub fn releases(&self) -> PathBuf {
        self.lasting.join("releases")
    }

    /// The folder of one release: the first 12 digits of its id and the number of the build.
    pub fn release(&self, id: &ReleaseId, number: u32) -> PathBuf {
        self.releases().join(format!("{}-{number}", id.short()))
    }

    /// The folder in which that release is built.
    pub fn building(&self, id: &ReleaseId, number: u32) -> PathBuf {
        self.releases()
            .join(format!(".tmp-{}-{number}", id.short()))
    }

    /// What is kept between builds.
    pub fn cache(&self) -> PathBuf {
        self.lasting.join("cache")
    }

    /// What the application keeps.
    pub fn data(&self) -> PathBuf {
        self.lasting.join("data")
    }

    /// What the processes of a slot print.
    pub fn log(&self, slot: Slot) -> PathBuf {
        self.lasting.join("logs").join(format!("{slot}.log"))
    }

    /// What the last build printed.
    pub fn build_log(&self) -> PathBuf {
        self.lasting.join("logs/build.log")
    }

    /// What the last tests printed.
    pub fn tests_log(&self) -> PathBuf {
        self.lasting.join("logs/tests.log")
    }

    /// The folder in which the shim of a slot keeps its order and its state.
    pub fn slot(&self, slot: Slot) -> PathBuf {
        self.lasting.join("slots").join(slot.as_str())
    }

    /// The folder of the secrets that the processes of a slot may read.
    pub fn slot_credentials(&self, slot: Slot) -> PathBuf {
        self.secrets.join(slot.as_str())
    }

    /// The folders that end with the boot: of the sockets, and of the secrets.
    pub fn passing(&self) -> [&Path; 2] {
        [&self.passing, &self.secrets]
    }

    /// Where a slot that was told to use a unix socket listens. Fails if the path is too long to bind.
    pub fn socket(&self, slot: Slot) -> Result<PathBuf, Refusal> {
        socket(self.passing.join(format!("{slot}.sock")))
    }

    /// Makes the folders of the service, and gives those that its processes write to its account, if it has one: also
    /// what an older agent gave to another.
    pub fn create(&self, account: Option<Account>) -> Result<(), Refusal> {
        make(&self.releases(), PASSAGE)?;
        for slot in [Slot::Blue, Slot::Green] {
            make(&self.slot(slot), PRIVATE)?;
        }
        make(&self.lasting.join("logs"), PRIVATE)?;
        make(&self.data(), PRIVATE)?;
        self.create_cache(account)?;
        // In /run/writ the proxy's account may make folders too.
        make(&self.secrets, PASSAGE)?;
        check_safe(&self.secrets)?;
        make(&self.passing, PASSAGE)?;
        let Some(account) = account else {
            return Ok(());
        };
        let (data, slot) = (self.data(), account.slot());
        let former = fs::owner(&data).map_err(|error| failed(&data, &error))?;
        let from = [Some(geteuid().as_raw()), former];
        let from: Vec<u32> = from.into_iter().flatten().collect();
        fs::give(&self.passing, &from, &slot).map_err(|error| failed(&self.passing, &error))?;
        // Last: it tells whose everything else was.
        fs::hand_over(&data, &slot).map_err(|error| failed(&data, &error))
    }

    /// Makes the folder of the cache, in which only the agent writes. One that others could write into, or that was
    /// kept for another account, was an older agent's and is begun anew: it costs a slower build, nothing else.
    fn create_cache(&self, account: Option<Account>) -> Result<(), Refusal> {
        let cache = self.cache();
        let builder = account.map_or(geteuid().as_raw(), |account| account.build().uid);
        let keep = |path: &Path, owner: u32| {
            let found = fs::owner(path);
            found.is_ok_and(|found| found.is_none_or(|found| found == owner))
        };
        if !keep(&cache, geteuid().as_raw()) || !keep(&cache.join("home"), builder) {
            fs::remove(&cache).map_err(|error| failed(&cache, &error))?;
        }
        make(&cache, PASSAGE)?;
        let passage = std::fs::Permissions::from_mode(PASSAGE);
        std::fs::set_permissions(&cache, passage).map_err(|error| failed(&cache, &error))
    }
}

/// The folder's name of a mirror of `url`.
fn mirror_name(url: &str) -> String {
    format!("{}.git", Sha256Hash::of(url.as_bytes()))
}

/// Refuses a path that cannot be a unix socket's.
fn socket(path: PathBuf) -> Result<PathBuf, Refusal> {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH {
        let detail = format!(
            "'{}' has {length} bytes, expected at most {SOCKET_PATH}",
            path.display()
        );
        return Err(Refusal::new(Code::SocketPathTooLong, detail));
    }
    Ok(path)
}

/// Makes a folder and those above it, with `mode` for each that is new.
fn make(path: &Path, mode: u32) -> Result<(), Refusal> {
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        make(parent, PASSAGE)?;
    }
    let made = match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Not left to the umask: a unit's is often 0077, and services must pass.
        made => made
            .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))),
    };
    made.map_err(|error| failed(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_too_deep_for_a_socket_is_refused_before_anything_is_made() {
        let deep = Path::new("/tmp").join("d".repeat(90));
        assert_eq!(
            Layout::new(&deep).unwrap_err().code,
            Code::SocketPathTooLong
        );

        let layout = Layout::new(&Path::new("/tmp").join("d".repeat(60))).unwrap();
        let service = format!("s{}", "x".repeat(39)).parse().unwrap();
        let refusal = layout.service(&service).socket(Slot::Green).unwrap_err();
        assert_eq!(refusal.code, Code::SocketPathTooLong);
    }

    #[test]
    fn a_slots_user_can_pass_to_a_release_and_read_nothing_on_the_way() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        let service = layout.service(&"web".parse().unwrap());
        layout.create().unwrap();
        service.create(None).unwrap();
        service.create(None).unwrap();

        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&layout.agent()), 0o711);
        assert_eq!(mode(&service.releases()), 0o711);
        assert_eq!(mode(&layout.journal()), 0o700);
        assert_eq!(mode(&service.slot(Slot::Blue)), 0o700);
    }
}
