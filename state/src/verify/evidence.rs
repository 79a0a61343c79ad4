//! The signed statements behind a repository's tips, as they lie there: evidence for people, whatever they are worth.

use crate::admitted::{MANIFEST, SIGNATURE};
use crate::git::Git;
use crate::{manifest, trust};

use super::files::Folder;
use super::intake::Tips;
use super::log::Entry;

/// How far back a log is searched for one manifest.
const MAX_STEPS: usize = 10_000;

/// The files of the newest trust, freshness and of the manifest of `sequence` that `tips` lead to, by name. What is
/// missing or cannot be read is left out; nothing is verified.
pub fn evidence(
    git: &Git,
    tips: &Tips,
    sequence: u64,
    trust_version: u64,
) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut keep = |folder: &Folder<'_>, name: String, limit: usize| {
        if let Ok(Some(bytes)) = folder.file(&name, limit as u64) {
            found.push((name, bytes));
        }
    };
    if let Ok(folder) = Folder::of_commit(git, &tips.trust) {
        keep(&folder, format!("{trust_version}.yaml"), trust::MAX_BYTES);
        keep(&folder, format!("{trust_version}.sig"), trust::MAX_BYTES);
    }
    let mut commit = tips.admitted;
    for _ in 0..MAX_STEPS {
        let Ok(entry) = Entry::read(git, &commit) else {
            break;
        };
        match entry.parents.first() {
            Some(parent) if entry.manifest.sequence > sequence => commit = *parent,
            _ => {
                if let Ok(folder) = Folder::of_tree(git, &entry.tree) {
                    keep(&folder, MANIFEST.to_owned(), manifest::MAX_BYTES);
                    keep(&folder, SIGNATURE.to_owned(), trust::MAX_BYTES);
                }
                break;
            }
        }
    }
    if let Ok(folder) = Folder::of_commit(git, &tips.fresh) {
        keep(&folder, "freshness".to_owned(), trust::MAX_BYTES);
        keep(&folder, "freshness.sig".to_owned(), trust::MAX_BYTES);
    }
    found
}
