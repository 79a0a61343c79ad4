//! The end of step 6: an admitted tree is the one before it and exactly the changes that its manifest tells.

use std::collections::BTreeMap;

use crate::admitted::{STATEMENT, evidence_place, place};
use crate::digest::{ReleaseId, TreeId};
use crate::environment::Environment;
use crate::manifest::{Change, Manifest, Subject};
use crate::release::{self, Origin};
use crate::service::Service;
use crate::tree;
use crate::{Code, Refusal};

/// The ids of the releases and rules that were read on the way to a tree, by path: each is read once, when it is new.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids(BTreeMap<String, ReleaseId>);

/// Checks the SHA-256 id `id` of an admitted tree without its statement, and what changed in it. `ids` are of the tree
/// before, and become this one's.
///
/// # Errors
/// `TREE_MISMATCH`, `CHANGE_MISMATCH`, `ORIGIN_MISMATCH`; `CONFIG_INVALID` for a release that is not in form.
pub(super) fn check(
    manifest: &Manifest,
    id: &TreeId,
    changes: &[tree::Change],
    ids: &mut Ids,
) -> Result<(), Refusal> {
    check_tree(manifest, id)?;
    let mut found = Vec::new();
    for change in changes {
        let path = change.path.as_str();
        if STATEMENT.contains(&path) {
            continue;
        }
        if let Some((environment, subject)) = evidence_place(path) {
            let place = (&environment, &subject);
            if !manifest
                .changes
                .iter()
                .any(|change| change.place() == place)
            {
                let why = format!(
                    "'{path}' is other evidence for {environment} {subject}, which did not change"
                );
                return Err(mismatch(why));
            }
            continue;
        }
        let (environment, subject) = place(path)
            .ok_or_else(|| mismatch(format!("'{path}' has no place in an admitted tree")))?;
        let read =
            |file: &tree::File| read(&subject, &file.bytes).map_err(|refusal| refusal.at(path));
        let after = change.after.as_ref().map(read).transpose()?;
        let to = after.as_ref().map(|(id, _)| *id);
        let from = match (&change.before, ids.0.remove(path)) {
            (None, _) => None,
            (Some(_), Some(known)) => Some(known),
            (Some(before), None) => Some(read(before)?.0),
        };
        ids.0.extend(to.map(|to| (path.to_owned(), to)));
        if from == to {
            return Err(mismatch(format!(
                "'{path}' is written anew, although its release is the same"
            )));
        }
        if let Some((_, origin)) = after
            && origin != manifest.author
        {
            let detail = format!(
                "'{path}' originates in {}, expected {}",
                origin.commit, manifest.author.commit
            );
            return Err(Refusal::new(Code::OriginMismatch, detail));
        }
        found.push(Change {
            environment,
            subject,
            from,
            to,
        });
    }
    found.sort_by(|a, b| a.place().cmp(&b.place()));
    if found != manifest.changes {
        let untold = found
            .iter()
            .find(|change| !manifest.changes.contains(change));
        let unmade = manifest
            .changes
            .iter()
            .find(|change| !found.contains(change));
        let name = |change: &Change| format!("{} {}", change.environment, change.subject);
        return Err(mismatch(match (untold, unmade) {
            (Some(change), _) => format!("the change of {} is not told as it is", name(change)),
            (None, Some(change)) => format!("the change of {} was not made", name(change)),
            (None, None) => "the changes are told in another order".to_owned(),
        }));
    }
    Ok(())
}

/// Checks that an admitted tree, without its statement, is the one that the manifest names.
pub(super) fn check_tree(manifest: &Manifest, id: &TreeId) -> Result<(), Refusal> {
    if *id != manifest.tree {
        let detail = format!("the admitted tree is {id}, expected {}", manifest.tree);
        return Err(Refusal::new(Code::TreeMismatch, detail));
    }
    Ok(())
}

/// The id and the origin of a release or of rules.
fn read(subject: &Subject, bytes: &[u8]) -> Result<(ReleaseId, Origin), Refusal> {
    match subject {
        Subject::Rules => release::identify::<Environment>(bytes),
        Subject::Service(_) => release::identify::<Service>(bytes),
    }
}

fn mismatch(detail: String) -> Refusal {
    Refusal::new(Code::ChangeMismatch, detail)
}
