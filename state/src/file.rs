//! Durable files: the only place that writes what must survive a crash, and the check that nobody else wrote it.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use crate::{Code, Refusal};

/// Replaces `path` by `bytes` so that a reader, and a crash at any moment, sees the old content or the new one.
///
/// A temporary file (`.tmp-*`) in the same directory is written, synced and renamed, and the directory is synced.
/// A crash may leave the temporary file behind.
///
/// # Errors
/// The first operation that failed; unless that was the last one, `path` is as it was.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".tmp-")
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    // Set on the file itself: the mode given when it was created is cut by the umask.
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

/// Checks that `path` is a file or directory, not a link, of this process's user or of root, writable by nobody else.
///
/// # Errors
/// `STATE_MISSING` if there is nothing, `STATE_UNSAFE` otherwise.
pub fn check_safe(path: &Path) -> Result<(), Refusal> {
    let refuse = |code, why: &str| Err(Refusal::new(code, format!("{}: {why}", path.display())));
    let status = match fs::symlink_metadata(path) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return refuse(Code::StateMissing, "there is no such file");
        }
        Err(error) => return refuse(Code::StateUnsafe, &error.to_string()),
    };
    if !status.is_file() && !status.is_dir() {
        return refuse(Code::StateUnsafe, "is neither a file nor a directory");
    }
    let user = rustix::process::geteuid().as_raw();
    if status.uid() != user && status.uid() != 0 {
        let why = format!("belongs to user {}, expected {user}", status.uid());
        return refuse(Code::StateUnsafe, &why);
    }
    if status.mode() & 0o022 != 0 {
        let why = format!("mode {:o} lets others write", status.mode() & 0o7777);
        return refuse(Code::StateUnsafe, &why);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_content_and_mode_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor.json");
        fs::write(&path, "old").unwrap();
        write_atomic(&path, b"new", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_content_and_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("kept"), "old").unwrap();
        assert!(write_atomic(&path, b"new", 0o600).is_err());
        assert!(write_atomic(&dir.path().join("no/such"), b"new", 0o600).is_err());
        assert_eq!(fs::read(path.join("kept")).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_others_can_write_or_redirect_is_unsafe() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor.json");
        let code = |path: &Path| check_safe(path).err().map(|refusal| refusal.code);
        assert_eq!(code(&path), Some(Code::StateMissing));
        write_atomic(&path, b"{}", 0o644).unwrap();
        assert_eq!(code(&path), None);
        assert_eq!(code(dir.path()), None);
        for mode in [0o664, 0o646] {
            write_atomic(&path, b"{}", mode).unwrap();
            assert_eq!(code(&path), Some(Code::StateUnsafe), "{mode:o}");
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("floor.json", &link).unwrap();
        assert_eq!(code(&link), Some(Code::StateUnsafe));
    }
}
