//! How much disk space a folder takes that a build fills meanwhile: blocks that are allocated, not lengths, so that holes
//! count nothing, and a least size for every name, so that a million empty files do.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat};

use crate::fs as beneath;

/// What a file, folder or link counts at least, in bytes.
pub(crate) const ENTRY: u64 = 4096;

/// The bytes that `folder` takes. Counting ends once they are more than `most`. A folder that its owner made unreadable,
/// for an agent that is not root, is not looked into; the disk floor bounds that too.
pub(crate) fn usage(folder: &Path, most: u64) -> u64 {
    let Ok(top) = beneath::root(folder) else {
        return 0;
    };
    let mut folders = vec![PathBuf::from(".")];
    let mut linked = HashSet::new();
    let mut used: u64 = 0;
    while let Some(path) = folders.pop() {
        let entries = match read(&top, &path) {
            Ok(entries) => entries,
            // Too deep to be named: nobody's build needs that, and it is not a way to hide anything.
            Err(error) if error.kind() == io::ErrorKind::InvalidFilename => return u64::MAX,
            // It was removed or replaced since it was seen.
            Err(_) => continue,
        };
        for (name, status) in entries {
            if status.st_nlink == 1
                || FileType::from_raw_mode(status.st_mode) == FileType::Directory
                || linked.insert((status.st_dev, status.st_ino))
            {
                used = used.saturating_add(size(&status));
            }
            if used > most {
                return used;
            }
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                folders.push(path.join(std::ffi::OsStr::from_bytes(&name)));
            }
        }
    }
    used
}

/// What one entry takes.
fn size(status: &Stat) -> u64 {
    u64::try_from(status.st_blocks)
        .unwrap_or_default()
        .saturating_mul(512)
        .max(ENTRY)
}

/// The entries of the folder `path` below `top`, reached through no link.
fn read(top: &OwnedFd, path: &Path) -> io::Result<Vec<(Vec<u8>, Stat)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let folder = openat2(top, path, flags, Mode::empty(), resolve)?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(folder.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if let Ok(status) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            entries.push((name.to_bytes().to_vec(), status));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    #[test]
    fn holes_count_nothing_links_once_and_every_name_something() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let count = || usage(folder.path(), u64::MAX);
        File::create(at("sparse"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        assert_eq!(count(), ENTRY);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/data"), [1; 1 << 20]).unwrap();
        let full = count();
        assert!((1 << 20..2 << 20).contains(&full), "{full}");
        fs::hard_link(at("a/b/data"), at("again")).unwrap();
        assert!(count() <= full + ENTRY);
        symlink("/usr", at("elsewhere")).unwrap();
        assert!(count() <= full + 2 * ENTRY);
        assert!(usage(folder.path(), 100) > 100);
        assert_eq!(usage(&at("absent"), u64::MAX), 0);
    }

    #[test]
    fn what_is_too_deep_to_be_named_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let name = "d".repeat(200);
        let mut at = beneath::root(folder.path()).unwrap();
        for _ in 0..25 {
            rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
            at = beneath::folder(&at, Path::new(&name)).unwrap();
        }
        assert_eq!(usage(folder.path(), u64::MAX), u64::MAX);
    }
}
