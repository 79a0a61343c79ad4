//! Files below a folder that somebody else filled: opened so that no link on the way leads out of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

/// Links are followed as long as they do not lead out.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Opens a folder to look things up in.
pub(crate) fn root(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
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
