//! Effects on files below folders that somebody else may write. All of it goes by descriptors: a name can come to mean
//! something else at any moment, what was opened cannot. Folders that only the agent writes need none of this.

use std::ffi::CStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chownat, fchmod,
    fchown, fstat, open, openat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::geteuid;
use tokio::net::UnixStream;

use crate::user::User;

/// How deep folders that change hands may lie in each other: each level holds a descriptor.
const DEPTH: usize = 256;

/// Links are followed as long as they do not lead out.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Opens a folder of the agent's own, to look things up in.
pub(crate) fn root(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(open(folder, flags, Mode::empty())?)
}

/// Opens the folder `path` below `root`; links are followed as long as they stay below it. Empty: `root` itself.
pub(crate) fn folder(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    look(root, path, OFlags::DIRECTORY)
}

/// Opens the file or folder at `path` below `root` to read it, without waiting for a pipe's other end.
pub(crate) fn read(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat2(root, path, flags, Mode::empty(), BENEATH)?)
}

/// Opens whatever is at `path` below `root`, only to see that it can be reached.
pub(crate) fn look(root: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    Ok(openat2(root, path, flags, Mode::empty(), BENEATH)?)
}

/// Who owns the folder at `path`; `None` if there is none, and an error if it is something else.
pub(crate) fn owner(path: &Path) -> io::Result<Option<u32>> {
    match fs::symlink_metadata(path) {
        Ok(status) if status.is_dir() => Ok(Some(status.uid())),
        Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives a folder to `user`, which must belong to one of `from` or to him already. What is in it stays as it is.
pub(crate) fn give(path: &Path, from: &[u32], user: &User) -> io::Result<()> {
    let folder = read_folder(CWD, path)?;
    let owner = fstat(&folder)?.st_uid;
    if owner == user.uid {
        return Ok(());
    }
    if !from.contains(&owner) {
        return Err(io::Error::other(format!("it belongs to user {owner}")));
    }
    chown(&folder, user)
}

/// Gives a folder to `user`, and of what is in it all that belongs to whom the folder belongs to. The folder is given
/// last: one that belongs to `user` is done, and of one that was the agent's he saw nothing while it was under way.
///
/// # Errors
/// Also for a file with several names: the others may lie where it must not change hands.
pub(crate) fn hand_over(path: &Path, user: &User) -> io::Result<()> {
    let folder = read_folder(CWD, path)?;
    let from = fstat(&folder)?.st_uid;
    if from == user.uid {
        return Ok(());
    }
    give_contents(&folder, from, user, 0)?;
    chown(&folder, user)
}

fn give_contents(folder: &OwnedFd, from: u32, user: &User, depth: usize) -> io::Result<()> {
    if depth == DEPTH {
        let why = format!("it is deeper than {DEPTH} folders");
        return Err(io::Error::other(why));
    }
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(folder, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            opened => opened?,
        };
        let status = fstat(&opened)?;
        if status.st_uid != from {
            continue;
        }
        match kind(&status) {
            FileType::Directory => {
                let inner = read_folder(&opened, ".")?;
                give_contents(&inner, from, user, depth + 1)?;
                chown(&inner, user)?;
            }
            FileType::RegularFile if status.st_nlink > 1 => {
                let name = name.to_string_lossy();
                let why = format!("'{name}' has {} names, expected one", status.st_nlink);
                return Err(io::Error::other(why));
            }
            _ => {
                let (owner, group) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
                chownat(&opened, "", Some(owner), Some(group), AtFlags::EMPTY_PATH)?;
            }
        }
    }
    Ok(())
}

/// Deletes whatever is at `path`, if something is; also folders that a build made read-only, and however deep they are.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => remove_folder(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        // Root needs no permission, and must not change modes by name; for anybody else all of it is his own.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root() => {
            unlock(path)?;
            remove_folder(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Deletes a folder. What its inner folders hold is moved up first: who made them chose how many lie in each other, and
/// must not choose how many descriptors or stack frames this takes.
fn remove_folder(path: &Path) -> io::Result<()> {
    let top = read_folder(CWD, path)?;
    close_to_others(&top)?;
    let mut number = 0_u64;
    loop {
        let mut full = Vec::new();
        clear(&top, |name| {
            full.push(name.to_owned());
            Ok(())
        })?;
        if full.is_empty() {
            return fs::remove_dir(path);
        }
        for name in full {
            let inner = read_folder(&top, &name)?;
            close_to_others(&inner)?;
            clear(&inner, |name| move_up(&inner, name, &top, &mut number))?;
            match unlinkat(&top, &name, AtFlags::REMOVEDIR) {
                // It did not tell of all while it was being emptied: the next round does.
                Err(Errno::NOTEMPTY) => {}
                removed => removed?,
            }
        }
    }
}

/// Deletes what is in a folder; `full` is told of folders that are not empty.
fn clear(folder: &OwnedFd, mut full: impl FnMut(&CStr) -> io::Result<()>) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let removed = match unlinkat(folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => unlinkat(folder, name, AtFlags::REMOVEDIR),
            removed => removed,
        };
        match removed {
            Err(Errno::NOTEMPTY) => full(name)?,
            Err(Errno::NOENT) => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// Moves a folder into `top`, under a name that nothing there has.
fn move_up(from: &OwnedFd, name: &CStr, top: &OwnedFd, number: &mut u64) -> io::Result<()> {
    loop {
        *number += 1;
        match renameat(from, name, top, format!("{number}")) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            moved => return Ok(moved?),
        }
    }
}

/// Has nobody put anything into a folder while root empties it.
fn close_to_others(folder: &OwnedFd) -> io::Result<()> {
    if geteuid().is_root() {
        fchown(folder, Some(Uid::ROOT), None)?;
        fchmod(folder, Mode::RWXU)?;
    }
    Ok(())
}

/// Makes every folder at and below `folder` writable by its owner.
fn unlock(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock(&entry.path())?;
        }
    }
    Ok(())
}

/// Connects to the socket that a slot made at `path`, never to one that a link there leads to: who connects may reach
/// sockets that the slot may not.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = open(path, flags, Mode::empty())?;
    let status = fstat(&socket)?;
    if kind(&status) != FileType::Socket || status.st_nlink != 1 {
        return Err(io::Error::other("it is no socket of the slot's own"));
    }
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

/// Opens a folder to read it.
fn read_folder(at: impl AsFd, path: impl Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

fn chown(file: &OwnedFd, user: &User) -> io::Result<()> {
    let (owner, group) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    Ok(fchown(file, Some(owner), Some(group))?)
}

fn kind(status: &Stat) -> FileType {
    FileType::from_raw_mode(status.st_mode)
}

#[cfg(test)]
mod tests;
