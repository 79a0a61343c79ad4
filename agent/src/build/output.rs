//! Takes what `build.output` names out of a checkout that a build has filled with anything: copied, so that a later
//! build cannot change it through another name, with modes of our own, and without following a link out of it.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fchmod, mkdirat, openat, readlinkat, statat, symlinkat,
};
use state::{Code, Refusal};

use crate::disk::failed;
use crate::fs;

/// How deep folders of an output may lie in each other.
const DEPTH: usize = 64;

/// Copies the outputs of the checkout `source` into the folder `app`, each under its last component.
pub(super) fn take(outputs: &[String], source: &Path, app: &Path) -> Result<(), Refusal> {
    let from = fs::root(source).map_err(|error| failed(source, &error))?;
    let into = fs::root(app).map_err(|error| failed(app, &error))?;
    for output in outputs {
        let path = Path::new(output);
        let taken = path
            .file_name()
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
            .and_then(|name| {
                let folder = fs::folder(&from, path.parent().unwrap_or(Path::new("")))?;
                copy(&folder, name.as_bytes(), &into, 0)
            });
        taken.map_err(|error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => failed(path, &error),
            _ => Refusal::new(Code::OutputMissing, format!("'{output}': {error}")),
        })?;
    }
    Ok(())
}

/// Copies `name` of the folder `from` into the folder `into`.
fn copy(from: &OwnedFd, name: &[u8], into: &OwnedFd, depth: usize) -> io::Result<()> {
    let status = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => copy_file(from, name, into, status.st_mode & 0o111 != 0),
        FileType::Directory => copy_folder(from, name, into, depth),
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new())?;
            Ok(symlinkat(target, into, name)?)
        }
        _ => {
            let name = String::from_utf8_lossy(name);
            Err(io::Error::other(format!(
                "'{name}' is neither a file, a folder nor a link"
            )))
        }
    }
}

fn copy_file(from: &OwnedFd, name: &[u8], into: &OwnedFd, executable: bool) -> io::Result<()> {
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = fs::file(from, name)?;
    let mut copy = File::from(openat(into, name, write, Mode::from_raw_mode(0o600))?);
    io::copy(&mut source, &mut copy)?;
    copy.set_permissions(Permissions::from_mode(if executable {
        0o555
    } else {
        0o444
    }))
}

fn copy_folder(from: &OwnedFd, name: &[u8], into: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth == DEPTH {
        return Err(io::Error::other(format!(
            "it is deeper than {DEPTH} folders"
        )));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = openat(from, name, flags, Mode::empty())?;
    mkdirat(into, name, Mode::from_raw_mode(0o700))?;
    let into = openat(into, name, flags, Mode::empty())?;
    for entry in Dir::read_from(from.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            copy(&from, name, &into, depth + 1)?;
        }
    }
    Ok(fchmod(into, Mode::from_raw_mode(0o755))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::PathBuf;

    /// A checkout and an empty `app`.
    fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (source, app) = (root.path().join("source"), root.path().join("app"));
        fs::create_dir_all(source.join("target/release")).unwrap();
        fs::create_dir(&app).unwrap();
        (root, source, app)
    }

    fn take(output: &str, source: &Path, app: &Path) -> Result<(), Refusal> {
        super::take(&[output.to_owned()], source, app)
    }

    #[test]
    fn an_output_is_a_read_only_copy_under_its_last_component() {
        let (_root, source, app) = folders();
        let built = source.join("target/release/web");
        fs::write(&built, "web").unwrap();
        fs::set_permissions(&built, Permissions::from_mode(0o4777)).unwrap();
        fs::hard_link(&built, source.join("target/other")).unwrap();
        symlink("web", source.join("target/release/link")).unwrap();
        take("target/release", &source, &app).unwrap();
        take("target/release/web", &source, &app).unwrap();

        fs::write(source.join("target/other"), "changed").unwrap();
        let copy = app.join("release/web");
        assert_eq!(fs::read_to_string(&copy).unwrap(), "web");
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o7777, 0o555);
        assert_eq!(
            fs::read_link(app.join("release/link")).unwrap(),
            PathBuf::from("web")
        );
        assert!(app.join("web").is_file());
    }

    #[test]
    fn what_is_missing_doubled_or_no_file_is_refused() {
        let (_root, source, app) = folders();
        fs::write(source.join("a"), "a").unwrap();
        fs::write(source.join("target/a"), "a").unwrap();
        std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
        take("a", &source, &app).unwrap();
        for output in ["missing", "target/a", "socket", ".."] {
            assert_eq!(
                take(output, &source, &app).unwrap_err().code,
                Code::OutputMissing,
                "{output}"
            );
        }
    }

    #[test]
    fn a_folder_that_became_a_link_out_of_the_checkout_is_not_followed() {
        let (root, source, app) = folders();
        fs::create_dir(root.path().join("elsewhere")).unwrap();
        fs::write(root.path().join("elsewhere/secret"), "secret").unwrap();
        symlink("../elsewhere", source.join("out")).unwrap();
        symlink(root.path().join("elsewhere"), source.join("absolute")).unwrap();
        for output in ["out/secret", "absolute/secret"] {
            assert_eq!(
                take(output, &source, &app).unwrap_err().code,
                Code::OutputMissing,
                "{output}"
            );
        }
        // A link that is itself an output stays a link: who follows it is the service, with its own rights.
        take("absolute", &source, &app).unwrap();
        assert!(app.join("absolute").is_symlink());
    }
}
