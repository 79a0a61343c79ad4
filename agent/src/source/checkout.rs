//! Writes a tree of a repository into an empty folder, by nothing but its objects: no attributes, no filters, no hooks.
//! Links come last, so that no file is ever written through one, and none may lead out of the folder.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use state::digest::ObjectId;
use state::git::{self, Git};
use state::tree::Objects as _;
use state::{Code, Refusal};

use super::Limits;
use super::tree::{self, Entry, Kind, refuse};
use crate::disk::failed;
use crate::fs;

/// How deep folders may lie in each other.
const DEPTH: usize = 64;
/// The largest folder that is read, in bytes of git's own form.
const MAX_TREE: u64 = 16 << 20;
/// How a file begins that stands for another one, which Git LFS keeps elsewhere, and how long it is at most.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
const POINTER_LENGTH: usize = 1024;
/// The longest target of a link, in bytes.
const TARGET: usize = 4096;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// Every plain file.
    pub files: Vec<File>,
}

/// One file of a checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its path below the checkout.
    pub path: PathBuf,
    /// Its content.
    pub id: ObjectId,
    /// Whether it may be executed.
    pub executable: bool,
}

/// Writes the tree `root` into `folder`.
pub(super) fn write(
    git: &Git,
    root: &ObjectId,
    folder: &Path,
    limits: &Limits,
) -> Result<Checkout, Refusal> {
    let top = fs::root(folder).map_err(|error| failed(folder, &error))?;
    let mut writer = Writer {
        git,
        bytes: limits.bytes,
        entries: limits.entries,
        files: Vec::new(),
        links: Vec::new(),
    };
    writer.folder(root, &top, Path::new(""), 0)?;
    let links = std::mem::take(&mut writer.links);
    for (path, target) in &links {
        link(&top, path, target)?;
    }
    for (path, _) in &links {
        refuse_escape(&top, path)?;
    }
    Ok(Checkout {
        files: writer.files,
    })
}

struct Writer<'a> {
    git: &'a Git,
    bytes: u64,
    entries: u64,
    files: Vec<File>,
    links: Vec<(PathBuf, String)>,
}

impl Writer<'_> {
    /// Writes the entries of the tree `id` into the folder `into`, whose path is `path`.
    fn folder(
        &mut self,
        id: &ObjectId,
        into: &OwnedFd,
        path: &Path,
        depth: usize,
    ) -> Result<(), Refusal> {
        if depth > DEPTH {
            return Err(refuse(format!(
                "'{}' lies deeper than {DEPTH} folders",
                path.display()
            )));
        }
        let raw = self.git.object(git::Kind::Tree, id, MAX_TREE)?;
        let entries = tree::parse(&raw).map_err(|refusal| match path.to_str() {
            Some("") | None => refusal,
            Some(path) => refusal.at(format_args!("'{path}'")),
        })?;
        for entry in entries {
            let path = path.join(&entry.name);
            self.entries = self
                .entries
                .checked_sub(1)
                .ok_or_else(|| refuse("the source has too many files"))?;
            match entry.kind {
                Kind::Folder => {
                    let made = mkdirat(into, entry.name.as_str(), Mode::from_raw_mode(0o755));
                    made.map_err(|error| unwritten(&path, error))?;
                    let flags =
                        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let below = openat(into, entry.name.as_str(), flags, Mode::empty());
                    self.folder(
                        &entry.id,
                        &below.map_err(|error| unwritten(&path, error))?,
                        &path,
                        depth + 1,
                    )?;
                }
                Kind::File { executable } => self.file(&entry, executable, into, path)?,
                Kind::Link => {
                    let target = self.blob(&entry.id, &path)?;
                    let target = String::from_utf8(target)
                        .ok()
                        .filter(|target| is_beneath(&path, target));
                    let target = target.ok_or_else(|| {
                        refuse(format!(
                            "the link '{}' leads out of the source",
                            path.display()
                        ))
                    })?;
                    self.links.push((path, target));
                }
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        executable: bool,
        into: &OwnedFd,
        path: PathBuf,
    ) -> Result<(), Refusal> {
        let bytes = self.blob(&entry.id, &path)?;
        if bytes.starts_with(POINTER) && bytes.len() < POINTER_LENGTH {
            return Err(refuse(format!(
                "'{}' is a Git LFS pointer, and the file it stands for is not in the repository: commit the file itself, or \
                 take the pointer out and download the file in `build.fetch`",
                path.display()
            )));
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(into, entry.name.as_str(), flags, Mode::from_raw_mode(0o600));
        let mut file = std::fs::File::from(file.map_err(|error| unwritten(&path, error))?);
        let mode = if executable { 0o755 } else { 0o644 };
        let written = file
            .write_all(&bytes)
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)));
        written.map_err(|error| failed(&path, &error))?;
        self.files.push(File {
            path,
            id: entry.id,
            executable,
        });
        Ok(())
    }

    /// Reads a file's content, if there is room for it.
    fn blob(&mut self, id: &ObjectId, path: &Path) -> Result<Vec<u8>, Refusal> {
        let bytes = self
            .git
            .object(git::Kind::Blob, id, self.bytes)
            .map_err(|refusal| match refusal.code {
                Code::TreeTooBig => refuse(format!(
                    "'{}': the source has too many bytes",
                    path.display()
                )),
                _ => refusal.at(path.display()),
            })?;
        self.bytes = self.bytes.saturating_sub(bytes.len() as u64);
        Ok(bytes)
    }
}

/// Says whether a link at `path` to `target` stays within the checkout, as far as its text tells.
fn is_beneath(path: &Path, target: &str) -> bool {
    let mut depth = path.components().count() - 1;
    !target.is_empty()
        && target.len() < TARGET
        && !target.contains('\0')
        && Path::new(target)
            .components()
            .all(|component| match component {
                Component::Normal(_) => {
                    depth += 1;
                    true
                }
                Component::CurDir => true,
                Component::ParentDir => {
                    let above = depth.checked_sub(1);
                    depth = above.unwrap_or(0);
                    above.is_some()
                }
                Component::RootDir | Component::Prefix(_) => false,
            })
}

fn link(top: &OwnedFd, path: &Path, target: &str) -> Result<(), Refusal> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let into = fs::folder(top, parent).map_err(|error| failed(path, &error))?;
    let name = path.file_name().unwrap_or_default();
    symlinkat(target, into, name).map_err(|error| unwritten(path, error))
}

/// Refuses a link that leads out by way of another one, which its text alone does not tell.
fn refuse_escape(top: &OwnedFd, path: &Path) -> Result<(), Refusal> {
    match fs::look(top, path, OFlags::empty()).map_err(|error| Errno::from_io_error(&error)) {
        Err(Some(Errno::XDEV | Errno::LOOP)) => Err(refuse(format!(
            "the link '{}' leads out of the source, or in a circle",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Why an entry could not be written; two of the same name are the source's fault.
fn unwritten(path: &Path, error: Errno) -> Refusal {
    match error {
        Errno::EXIST => refuse(format!("'{}' is there twice", path.display())),
        error => failed(path, &io::Error::from(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_may_go_up_as_far_as_the_checkout() {
        for (path, target, stays) in [
            ("a", "b", true),
            ("d/a", "../b", true),
            ("d/a", "../../b", false),
            ("a", "..", false),
            ("a", "/etc/passwd", false),
            ("d/a", "./x/../../b", true),
            ("a", "", false),
        ] {
            assert_eq!(
                is_beneath(Path::new(path), target),
                stays,
                "{path} -> {target}"
            );
        }
    }
}
