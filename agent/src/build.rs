//! How a source becomes a release: written out, built, tested, and what `build.output` names moved into its place in
//! one rename. Each step takes the product of the one before.

use std::path::{Path, PathBuf};

use state::Refusal;
use state::digest::ReleaseId;
use state::service::Service;

use crate::layout::ServiceLayout;
use crate::sandbox::Sandbox;
use crate::source::{Fetched, Limits};

/// What is built, and where.
#[derive(Clone, Debug)]
pub struct Job {
    /// The folders of the service.
    pub service: ServiceLayout,
    /// The release's id.
    pub id: ReleaseId,
    /// The number of this build; the release's folder is named by id and number.
    pub number: u32,
    /// The release.
    pub spec: Service,
}

/// Called with each line that a command prints.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// A source that was built and waits for its tests.
#[derive(Debug)]
pub struct Compiled {
    job: Job,
}

/// A source that was built and whose tests succeeded.
#[derive(Debug)]
pub struct Tested {
    job: Job,
}

/// A release in its place: complete, durable and read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    path: PathBuf,
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

/// Writes the source out and runs `build.fetch` and `build.steps`.
///
/// # Errors
/// `SOURCE_REFUSED`, `BUILD_FAILED` and `BUILD_TIMEOUT` with the log's last lines, `DISK_FULL`, `SANDBOX_MISSING`.
#[allow(clippy::todo, clippy::unused_async, reason = "being written")]
pub async fn build(
    job: Job,
    source: &Fetched,
    limits: &Limits,
    sandbox: &Sandbox,
    _progress: Progress<'_>,
) -> Result<Compiled, Refusal> {
    todo!("{job:?} {source:?} {limits:?} {sandbox:?}")
}

/// Runs the tests in the built checkout.
///
/// # Errors
/// `TEST_FAILED` and `TEST_TIMEOUT` with the log's last lines, `DISK_FULL`, `SANDBOX_MISSING`.
#[allow(clippy::todo, clippy::unused_async, reason = "being written")]
pub async fn test(
    compiled: Compiled,
    sandbox: &Sandbox,
    _progress: Progress<'_>,
) -> Result<Tested, Refusal> {
    todo!("{compiled:?} {sandbox:?}")
}

/// Copies the outputs, makes the release durable and read-only, and renames it into its place. `release` are the
/// bytes of its `release.yaml`. Blocks.
///
/// # Errors
/// `OUTPUT_MISSING`, `DISK_FULL`.
#[allow(clippy::todo, reason = "being written")]
pub fn stage(tested: Tested, release: &[u8]) -> Result<Built, Refusal> {
    todo!("{tested:?} {release:?}")
}

/// Deletes what builds of the service left half done. Blocks.
#[allow(clippy::todo, reason = "being written")]
pub fn clean(service: &ServiceLayout) -> Result<(), Refusal> {
    todo!("{service:?}")
}
