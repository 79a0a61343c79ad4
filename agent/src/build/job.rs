//! What is to be built.

use state::digest::ReleaseId;
use state::service::Service;

use crate::layout::ServiceLayout;

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

/// Called with each line that a command prints, as it is.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);
