//! Step 12: what a service needs.

use crate::admitted::path;
use crate::digest::ReleaseId;
use crate::manifest::{Change, Manifest, Subject};
use crate::name::ServiceName;
use crate::release::Release;
use crate::tree::Files;
use crate::{Code, Refusal, render};

/// Checks that `needed` is admitted as `wanted`, which is what the commit of the service that needs it renders to.
///
/// # Errors
/// `NEEDS_UNMET`.
pub(super) fn met(
    needed: &ServiceName,
    wanted: ReleaseId,
    found: Option<ReleaseId>,
) -> Result<(), Refusal> {
    if found == Some(wanted) {
        return Ok(());
    }
    let found = found.map_or_else(
        || "not at all".to_owned(),
        |id| format!("as {}", id.short()),
    );
    let wanted = wanted.short();
    let detail = format!("it needs '{needed}' as {wanted}, which was admitted {found}");
    Err(Refusal::new(Code::NeedsUnmet, detail))
}

/// 12. What a changed release needs is admitted with it, or was, as the same commit has it.
///
/// # Errors
/// `NEEDS_UNMET`.
pub(super) fn check(
    author: &Files,
    manifest: &Manifest,
    change: &Change,
    admitted: &Files,
) -> Result<(), Refusal> {
    let Change { environment, .. } = change;
    let read = |subject: &Subject| {
        let file = path(environment, subject);
        let (Subject::Service(service), Some(bytes)) = (subject, admitted.get(&file)) else {
            return Ok(None);
        };
        Release::from_yaml(environment.clone(), service.clone(), bytes).map(Some)
    };
    let Some(release) = read(&change.subject)? else {
        return Ok(());
    };
    for needed in &release.spec.needs {
        let wanted = render::one(author, environment, needed, &manifest.author)?.id();
        let found = read(&Subject::Service(needed.clone()))?;
        let found = found.map(|release| release.id());
        met(needed, wanted, found)
            .map_err(|refusal| refusal.at(format_args!("{environment} {}", change.subject)))?;
    }
    Ok(())
}
