//! How a source becomes a release: written out, built, tested, and what `build.output` names copied into its place,
//! which appears in one rename. Each step takes the product of the one before.

mod job;
mod log;
mod output;
mod stamps;
mod workplace;

pub use job::{Job, Progress};
pub(crate) use stamps::Stamps;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::syncfs;
use state::digest::ReleaseId;
use state::service::{BuildLimits, Network, Step};
use state::{Code, Refusal};
use tokio::time::Instant;

use self::log::Log;
use self::workplace::{Workplace, make};
use crate::disk::failed;
use crate::fs::remove;
use crate::layout::ServiceLayout;
use crate::sandbox::{self, Failure, Sandbox};
use crate::source::{Fetched, Limits};

/// A source that was built and waits for its tests.
#[derive(Debug)]
pub struct Compiled {
    job: Job,
    place: Workplace,
}

/// A source that was built and whose tests succeeded.
#[derive(Debug)]
pub struct Tested {
    job: Job,
    place: Workplace,
}

/// A release in its place: complete, durable and read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    path: PathBuf,
}

/// Why there is no release, with the last lines that the commands printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbuilt {
    /// Why.
    pub refusal: Refusal,
    /// The log's end, oldest line first, as it is.
    pub log: Vec<String>,
}

impl From<Refusal> for Unbuilt {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            log: Vec::new(),
        }
    }
}

impl Built {
    /// The folder of the release.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The release that was built before, if it is still there.
    pub fn open(service: &ServiceLayout, id: &ReleaseId, number: u32) -> Option<Self> {
        let path = service.release(id, number);
        path.is_dir().then_some(Self { path })
    }
}

/// Writes the source out and runs `build.fetch` with network and `build.steps` as the release says. What earlier
/// builds of the service left half done is deleted first.
///
/// # Errors
/// `SOURCE_REFUSED`, `BUILD_FAILED`, `BUILD_TIMEOUT` and `BUILD_LIMIT`, `DISK_FULL`, `SANDBOX_MISSING`.
pub async fn build(
    job: Job,
    source: &Fetched,
    limits: &Limits,
    sandbox: &Sandbox,
    progress: Progress<'_>,
) -> Result<Compiled, Unbuilt> {
    let user = sandbox.user().cloned();
    let (job, place) = blocking(move || {
        clean(&job.service)?;
        let place = Workplace::open(&job)?;
        Ok((job, place))
    })
    .await?;
    let checkout = place.checkout();
    let written = source.checkout(&checkout, limits, sandbox.floor()).await?;
    let mut place = blocking(move || place.fill(&written, user.as_ref())).await?;

    let build = &job.spec.build;
    let meter = place.meter(build.limits);
    // Found out before a step fails of it, for which the release would be blamed.
    let has_steps = ![&build.fetch, &build.steps, &job.spec.test.steps]
        .iter()
        .all(|steps| steps.is_empty());
    if has_steps {
        sandbox.check(&place.folders(), &meter).await?;
    }

    let fetch = build.fetch.iter().map(|step| (step, Network::Allow));
    let steps = build.steps.iter().map(|step| (step, build.network));
    let stage = Stage {
        log: job.service.build_log(),
        limits: build.limits,
        timeout: build.timeout.duration(),
        failed: Code::BuildFailed,
        timed_out: Code::BuildTimeout,
    };
    stage
        .run(fetch.chain(steps), &mut place, sandbox, progress)
        .await?;
    Ok(Compiled { job, place })
}

/// Runs the tests in the built checkout.
///
/// # Errors
/// `TEST_FAILED`, `TEST_TIMEOUT` and `BUILD_LIMIT`, `DISK_FULL`, `SANDBOX_MISSING`.
pub async fn test(
    compiled: Compiled,
    sandbox: &Sandbox,
    progress: Progress<'_>,
) -> Result<Tested, Unbuilt> {
    let Compiled { job, mut place } = compiled;
    let test = &job.spec.test;
    let steps = test.steps.iter().map(|step| (step, Network::Deny));
    let stage = Stage {
        log: job.service.tests_log(),
        limits: job.spec.build.limits,
        timeout: test.timeout.duration(),
        failed: Code::TestFailed,
        timed_out: Code::TestTimeout,
    };
    stage.run(steps, &mut place, sandbox, progress).await?;
    Ok(Tested { job, place })
}

/// What differs between building and testing.
struct Stage {
    log: PathBuf,
    limits: BuildLimits,
    timeout: Duration,
    failed: Code,
    timed_out: Code,
}

impl Stage {
    /// Runs the steps in order until one fails.
    async fn run<'a>(
        &self,
        steps: impl Iterator<Item = (&'a Step, Network)>,
        place: &mut Workplace,
        sandbox: &Sandbox,
        progress: Progress<'_>,
    ) -> Result<(), Unbuilt> {
        let folders = place.folders();
        let meter = place.meter(self.limits);
        let deadline = Instant::now() + self.timeout;
        let mut log = Log::create(&self.log, self.limits.log, progress)
            .map_err(|error| failed(&self.log, &error))?;
        for (step, network) in steps {
            let shown = step.run.join(" ");
            log.write(format!("$ {shown}\n").as_bytes());
            let job = sandbox::Job {
                argv: &step.run,
                folders: &folders,
                network,
                deadline,
                meter: &meter,
            };
            let ended = sandbox.run(&job, |bytes| log.write(bytes)).await;
            if let Err(failure) = ended {
                if matches!(&failure, Failure::Excess(excess) if excess.is_disk()) {
                    place.drop_cache();
                }
                let last = log.into_last();
                let refusal = self.refuse(failure).at(format_args!("'{shown}'"));
                return Err(Unbuilt { refusal, log: last });
            }
        }
        Ok(())
    }

    fn refuse(&self, failure: Failure) -> Refusal {
        match failure {
            Failure::TimedOut => Refusal::new(
                self.timed_out,
                format!("not done within {:?}", self.timeout),
            ),
            Failure::DiskFull(detail) => Refusal::new(Code::DiskFull, detail),
            Failure::Excess(excess) => Refusal::new(Code::BuildLimit, excess.to_string()),
            Failure::Failed(how) => Refusal::new(self.failed, how),
        }
    }
}

/// Copies the outputs, makes the release durable and read-only, and renames it into its place. `release` are the
/// bytes of its `release.yaml`. A release that is there already stays. Blocks.
///
/// # Errors
/// `OUTPUT_MISSING`, `BUILD_LIMIT`, `DISK_FULL`.
pub fn stage(tested: Tested, sandbox: &Sandbox, release: &[u8]) -> Result<Built, Refusal> {
    let Tested { job, mut place } = tested;
    let (folder, checkout) = (place.folder.clone(), place.checkout());
    let app = folder.join("app");
    make(&app, 0o755).map_err(|error| failed(&app, &error))?;
    let build = &job.spec.build;
    let room = output::Room {
        limit: build.limits.output,
        floor: sandbox.floor(),
    };
    output::take(&build.output, &checkout, &app, room)?;
    // What is kept between builds leaves the checkout, and the rest of it goes.
    place.shelve();
    let path = job.service.release(&job.id, job.number);
    let done = remove(&checkout)
        .and_then(|()| remove(&place.folders().tmp))
        .and_then(|()| keep(&folder.join("release.yaml"), release))
        .and_then(|()| keep_copy(&job.service.build_log(), &folder.join("build.log")))
        .and_then(|()| keep_copy(&job.service.tests_log(), &folder.join("tests.log")))
        .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o755)))
        .and_then(|()| appear(&folder, &path));
    done.map_err(|error| failed(&folder, &error))?;
    Ok(Built { path })
}

fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, Permissions::from_mode(0o444))
}

/// Copies a log; a release without tests has none.
fn keep_copy(from: &Path, path: &Path) -> io::Result<()> {
    match fs::copy(from, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.and_then(|_| fs::set_permissions(path, Permissions::from_mode(0o440))),
    }
}

/// Makes all that was written durable, then renames the folder, then makes that durable.
fn appear(folder: &Path, path: &Path) -> io::Result<()> {
    syncfs(File::open(folder)?)?;
    if path.exists() {
        return remove(folder);
    }
    fs::rename(folder, path)?;
    let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
    File::open(parent)?.sync_all()
}

/// Deletes what builds of the service left half done. Blocks.
///
/// # Errors
/// `STATE_UNSAFE` if something cannot be deleted.
pub fn clean(service: &ServiceLayout) -> Result<(), Refusal> {
    let releases = service.releases();
    let cleaned = fs::read_dir(&releases).and_then(|mut entries| {
        entries.try_for_each(|entry| {
            let entry = entry?;
            let half = entry.file_name().to_string_lossy().starts_with(".tmp-");
            if half { remove(&entry.path()) } else { Ok(()) }
        })
    });
    cleaned.map_err(|error| failed(&releases, &error))
}

/// Runs something that blocks where that is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Refusal::new(Code::Interrupted, error.to_string())))
}
