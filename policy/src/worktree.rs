//! Trees of an author's clone: of a revision, or of the work tree as the next commit would hold it.

use anyhow::Context as _;
use state::digest::ObjectId;

use crate::program::Program;
use crate::repository::Repository;

/// The tree of the revision `rev`, in any of git's spellings.
pub fn tree_of(repository: &Repository, rev: &str) -> anyhow::Result<ObjectId> {
    object(repository, rev, "tree")
}

/// The commit that is the revision `rev`.
pub fn commit_of(repository: &Repository, rev: &str) -> anyhow::Result<ObjectId> {
    object(repository, rev, "commit")
}

fn object(repository: &Repository, rev: &str, kind: &str) -> anyhow::Result<ObjectId> {
    let spelling = format!("{rev}^{{{kind}}}");
    let git = Program::new(&repository.folder);
    let id = git.run(&[
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &spelling,
    ]);
    let id = id.with_context(|| format!("'{rev}' names no {kind} of this repository"))?;
    id.parse()
        .with_context(|| format!("git calls '{rev}' '{id}'"))
}

/// The tree that `git commit` would make if everything were staged; ignored files are left out.
///
/// git itself makes it, in an index of its own, so that no file is seen otherwise than it would be committed.
pub fn tree(repository: &Repository) -> anyhow::Result<ObjectId> {
    let folder = repository.git.path();
    let index = folder.join(format!("writ-index-{}", std::process::id()));
    let written = write_tree(repository, &index);
    let _ = std::fs::remove_file(&index);
    written
}

fn write_tree(repository: &Repository, index: &std::path::Path) -> anyhow::Result<ObjectId> {
    let git = Program::new(&repository.folder).with_index(index);
    git.run(&["add", "--all", "."])?;
    let id = git.run(&["write-tree"])?;
    id.parse()
        .with_context(|| format!("git wrote the tree '{id}'"))
}
