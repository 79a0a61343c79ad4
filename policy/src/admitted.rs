//! Admitted trees: read back into releases and rules, and written with some of them changed.

use std::sync::Arc;

use state::admitted::{STATEMENT, evidence_place, path, place};
use state::manifest::{Change, Subject};
use state::release::{Release, Rules};
use state::render::Rendered;
use state::tree::Files;
use state::{Code, Refusal};

/// Reads every release and all rules of an admitted tree; other files are left alone.
pub fn parse(files: &Files) -> Result<Rendered, Refusal> {
    let mut rendered = Rendered::default();
    for (path, bytes) in files {
        let at = |refusal: Refusal| refusal.at(path);
        match place(path) {
            Some((environment, Subject::Rules)) => {
                let rules = Rules::from_yaml(environment.clone(), bytes).map_err(at)?;
                rendered.rules.insert(environment, rules);
            }
            Some((environment, Subject::Service(service))) => {
                let release =
                    Release::from_yaml(environment.clone(), service.clone(), bytes).map_err(at)?;
                rendered.releases.insert((environment, service), release);
            }
            None => {}
        }
    }
    Ok(rendered)
}

/// The tree `before` after `changes`, which come from `wanted`, with `evidence` for them instead of what was there for
/// those places; every other file keeps its bytes.
///
/// # Errors
/// `SELF_CHECK_FAILED` if `wanted` is not what a change names.
pub fn apply(
    before: &Files,
    changes: &[Change],
    wanted: &Rendered,
    evidence: &Files,
) -> Result<Files, Refusal> {
    let mut files: Files = before
        .iter()
        .filter(|(path, _)| !STATEMENT.contains(&path.as_str()))
        .filter(|(path, _)| !is_evidence(path, changes))
        .map(|(path, bytes)| (path.clone(), Arc::clone(bytes)))
        .collect();
    files.extend(evidence.clone());
    for change in changes {
        let path = path(&change.environment, &change.subject);
        match (change.to, text(change, wanted)) {
            (None, _) => {
                files.remove(&path);
            }
            (Some(_), Some(text)) => {
                files.insert(path, text.into_bytes().into());
            }
            (Some(id), None) => {
                let detail = format!("'{path}' should become {id}, which nothing renders to");
                return Err(Refusal::new(Code::SelfCheckFailed, detail));
            }
        }
    }
    Ok(files)
}

/// Says whether `path` is evidence for one of `changes`.
fn is_evidence(path: &str, changes: &[Change]) -> bool {
    let place = evidence_place(path);
    place.is_some_and(|(environment, subject)| {
        let place = (&environment, &subject);
        changes.iter().any(|change| change.place() == place)
    })
}

/// The file at the place of `change` in `wanted`, if it is what the change names.
fn text(change: &Change, wanted: &Rendered) -> Option<String> {
    match &change.subject {
        Subject::Rules => {
            let rules = wanted.rules.get(&change.environment)?;
            (Some(rules.id()) == change.to).then(|| rules.to_yaml())
        }
        Subject::Service(service) => {
            let place = (change.environment.clone(), service.clone());
            let release = wanted.releases.get(&place)?;
            (Some(release.id()) == change.to).then(|| release.to_yaml())
        }
    }
}
