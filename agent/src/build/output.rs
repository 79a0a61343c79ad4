//! Takes what `build.output` names out of a checkout that a build has filled with anything: copied, so that a later
//! build cannot change it through another name, with modes of our own, and without following a link out of it. Holes
//! stay holes. Set-user-id bits, owners, times and extended attributes are not taken.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, mkdirat, openat, readlinkat, seek, statat,
    symlinkat,
};
use rustix::io::Errno;
use state::unit::Bytes;
use state::{Code, Refusal};

use crate::disk::{self, failed};
use crate::fs as beneath;
use crate::meter::{ENTRY, Excess};

/// How deep folders of an output may lie in each other.
const DEPTH: usize = 64;
/// How many bytes are copied at once.
const CHUNK: u64 = 8 << 20;

/// How much the outputs may take, and what the disk must have left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) limit: Bytes,
    pub(super) floor: Bytes,
}

/// Copies the outputs of the checkout `source` into the folder `app`, each under its last component.
pub(super) fn take(
    outputs: &[String],
    source: &Path,
    app: &Path,
    room: Room,
) -> Result<(), Refusal> {
    let from = beneath::root(source).map_err(|error| failed(source, &error))?;
    let into = beneath::root(app).map_err(|error| failed(app, &error))?;
    let mut copier = Copier {
        app,
        owner: fstat(&from)
            .map_err(|error| failed(source, &error.into()))?
            .st_uid,
        room,
        used: 0,
        looked: 0,
        links: Vec::new(),
    };
    for output in outputs {
        let name = Path::new(output).file_name().unwrap_or_default();
        // What is named is followed; what lies in it is not.
        let taken = beneath::look(&from, Path::new(output), OFlags::empty())
            .map_err(Fault::from)
            .and_then(|found| copier.find(&found, Path::new(name)))
            .and_then(|_| {
                let opened = beneath::read(&from, Path::new(output))?;
                copier.copy(opened, &into, Path::new(name), 0)
            });
        taken.map_err(|fault| fault.refusal(output))?;
    }
    copier
        .links
        .iter()
        .try_for_each(|link| ends_inside(&into, app, link))
}

/// Refuses a link of the outputs that leads out of them or to nothing.
fn ends_inside(into: &OwnedFd, app: &Path, link: &Path) -> Result<(), Refusal> {
    beneath::look(into, link, OFlags::empty())
        .map(drop)
        .map_err(|error| {
            let target = fs::read_link(app.join(link)).unwrap_or_default();
            let (link, target) = (shown(link), shown(&target));
            let detail =
                format!("the link '{link}' leads to '{target}', not into the outputs: {error}");
            Refusal::new(Code::OutputMissing, detail)
        })
}

/// A path for people: by its bytes if it is not UTF-8.
fn shown(path: &Path) -> String {
    let bytes = || path.as_os_str().as_bytes().escape_ascii().to_string();
    path.to_str().map_or_else(bytes, str::to_owned)
}

/// Why an output was not taken.
enum Fault {
    Io(io::Error),
    Refused(Refusal),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl Fault {
    fn refusal(self, output: &str) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal.at(format_args!("'{output}'")),
            Self::Io(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    failed(Path::new(output), &error)
                }
                _ => Refusal::new(Code::OutputMissing, format!("'{output}': {error}")),
            },
        }
    }
}

fn missing(detail: String) -> Fault {
    Fault::Refused(Refusal::new(Code::OutputMissing, detail))
}

/// What is copied: something executable or not, or a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File { executable: bool },
    Folder,
}

struct Copier<'a> {
    app: &'a Path,
    /// Whose the checkout is.
    owner: u32,
    room: Room,
    /// Bytes taken so far, and how many they were when the disk was last looked at.
    used: u64,
    looked: u64,
    /// The links in the outputs, by their paths below `app`.
    links: Vec<PathBuf>,
}

impl Copier<'_> {
    /// Says what an open file is that becomes `path`.
    fn find(&self, file: &OwnedFd, path: &Path) -> Result<Kind, Fault> {
        let status = fstat(file)?;
        let mode = status.st_mode;
        match FileType::from_raw_mode(mode) {
            // Its content is not theirs to hand on.
            FileType::RegularFile if status.st_nlink > 1 && status.st_uid != self.owner => {
                Err(missing(format!(
                    "'{}' is a hard link to somebody else's file",
                    shown(path)
                )))
            }
            FileType::RegularFile => Ok(Kind::File {
                executable: mode & 0o111 != 0,
            }),
            FileType::Directory => Ok(Kind::Folder),
            _ => Err(missing(format!(
                "'{}' is neither a file, a folder nor a link",
                shown(path)
            ))),
        }
    }

    /// Copies what was opened into the folder `into` as `path`, whose last component is the name there.
    fn copy(
        &mut self,
        opened: OwnedFd,
        into: &OwnedFd,
        path: &Path,
        depth: usize,
    ) -> Result<(), Fault> {
        self.take(ENTRY)?;
        let name = path.file_name().unwrap_or_default();
        // Found out anew: the name may have come to mean something else since it was looked at.
        match self.find(&opened, path)? {
            Kind::Folder => self.folder(&opened, into, path, depth),
            Kind::File { executable } => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let copy = File::from(openat(into, name, flags, Mode::from_raw_mode(0o600))?);
                self.content(&File::from(opened), &copy)?;
                let mode = if executable { 0o555 } else { 0o444 };
                Ok(copy.set_permissions(Permissions::from_mode(mode))?)
            }
        }
    }

    fn folder(
        &mut self,
        from: &OwnedFd,
        into: &OwnedFd,
        path: &Path,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth == DEPTH {
            return Err(missing(format!("it is deeper than {DEPTH} folders")));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = path.file_name().unwrap_or_default();
        mkdirat(into, name, Mode::from_raw_mode(0o700))?;
        let into = openat(into, name, flags, Mode::empty())?;
        for entry in Dir::read_from(from.as_fd())? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            let mode = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
            if FileType::from_raw_mode(mode) == FileType::Symlink {
                self.take(ENTRY)?;
                symlinkat(readlinkat(from, name, Vec::new())?, &into, name)?;
                self.links.push(path);
                continue;
            }
            let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            self.find(&openat(from, name, look, Mode::empty())?, &path)?;
            // Not waiting: it may have become a pipe since it was looked at.
            let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let opened = openat(from, name, read, Mode::empty())?;
            self.copy(opened, &into, &path, depth + 1)?;
        }
        Ok(fchmod(into, Mode::from_raw_mode(0o755))?)
    }

    /// Copies the data of a file, and leaves out its holes.
    fn content(&mut self, mut source: &File, mut copy: &File) -> Result<(), Fault> {
        let length = source.metadata()?.len();
        let mut at = 0;
        while at < length {
            let start = match seek(source, rustix::fs::SeekFrom::Data(at)) {
                Err(Errno::NXIO) => break,
                // A file system that tells of no holes.
                Err(Errno::INVAL) => at,
                start => start?,
            };
            let end = match seek(source, rustix::fs::SeekFrom::Hole(start)) {
                Err(Errno::INVAL) => length,
                end => end?.min(length),
            };
            at = end.min(start + CHUNK);
            self.take(at.saturating_sub(start))?;
            source.seek(SeekFrom::Start(start))?;
            copy.seek(SeekFrom::Start(start))?;
            io::copy(&mut source.take(at.saturating_sub(start)), &mut copy)?;
        }
        Ok(copy.set_len(length)?)
    }

    /// Makes sure that there is room for so many bytes more.
    fn take(&mut self, bytes: u64) -> Result<(), Fault> {
        self.used = self.used.saturating_add(bytes);
        if self.used > self.room.limit.0 {
            let excess = Excess::new("output", self.room.limit, "more for what it keeps");
            return Err(Fault::Refused(Refusal::new(
                Code::BuildLimit,
                excess.to_string(),
            )));
        }
        if self.looked == 0 || self.used - self.looked >= CHUNK {
            self.looked = self.used;
            disk::room(self.app, self.room.floor).map_err(Fault::Refused)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::PathBuf;

    const ROOM: Room = Room {
        limit: Bytes(16 << 20),
        floor: Bytes(0),
    };

    /// A checkout and an empty `app`.
    fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (source, app) = (root.path().join("source"), root.path().join("app"));
        fs::create_dir_all(source.join("target/release")).unwrap();
        fs::create_dir(&app).unwrap();
        (root, source, app)
    }

    fn take(output: &str, source: &Path, app: &Path) -> Result<(), Refusal> {
        super::take(&[output.to_owned()], source, app, ROOM)
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
    fn a_second_name_of_somebody_elses_file_is_not_copied() {
        let (_root, source, app) = folders();
        fs::write(source.join("secret"), "secret").unwrap();
        fs::hard_link(source.join("secret"), source.join("target/a")).unwrap();
        if !rustix::process::geteuid().is_root() {
            return; // nobody else can make a file somebody else's
        }
        for folder in [&source, &source.join("target")] {
            std::os::unix::fs::chown(folder, Some(65_001), Some(65_001)).unwrap();
        }
        let refusal = take("target/a", &source, &app).unwrap_err();
        assert!(refusal.detail.contains("hard link"), "{refusal}");
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
    }

    #[test]
    fn a_link_that_is_named_is_followed_and_a_link_inside_must_end_inside() {
        let (_root, source, app) = folders();
        fs::write(source.join("target/release/web"), "web").unwrap();
        symlink("target/release", source.join("out")).unwrap();
        symlink("release/web", source.join("target/web")).unwrap();
        take("out", &source, &app).unwrap();
        take("target/web", &source, &app).unwrap();
        assert!(app.join("out").symlink_metadata().unwrap().is_dir());
        assert!(app.join("web").symlink_metadata().unwrap().is_file());

        for (target, stays) in [
            ("web", true),
            ("../out/web", true),
            ("gone", false),
            ("../../source/target", false),
            ("/etc/passwd", false),
            ("link", false),
        ] {
            let link = source.join("target/release/link");
            let _ = fs::remove_file(&link);
            symlink(target, &link).unwrap();
            fs::remove_dir_all(app.join("out")).unwrap();
            let taken = take("out", &source, &app);
            assert_eq!(taken.is_ok(), stays, "{target}: {taken:?}");
            if let Err(refusal) = taken {
                assert_eq!(refusal.code, Code::OutputMissing);
                for part in ["'out/link'", target] {
                    assert!(refusal.detail.contains(part), "{refusal}");
                }
            }
        }
    }

    #[test]
    fn a_hole_stays_a_hole_and_its_length_stays() {
        let (_root, source, app) = folders();
        let sparse = File::create(source.join("sparse")).unwrap();
        sparse.set_len(8 << 30).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 4 << 30).unwrap();
        take("sparse", &source, &app).unwrap();
        let copy = fs::metadata(app.join("sparse")).unwrap();
        assert_eq!(copy.len(), 8 << 30);
        assert!(copy.blocks() * 512 < 1 << 20, "{}", copy.blocks());
        let mut middle = [0; 6];
        let copy = File::open(app.join("sparse")).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&copy, &mut middle, 4 << 30).unwrap();
        assert_eq!(&middle, b"middle");
    }

    #[test]
    fn outputs_are_bounded_and_leave_the_disk_its_floor() {
        let (_root, source, app) = folders();
        fs::write(source.join("large"), vec![1; 17 << 20]).unwrap();
        let refusal = take("large", &source, &app).unwrap_err();
        assert_eq!(refusal.code, Code::BuildLimit);
        assert!(
            refusal.detail.contains("build.limits.output is 16MiB"),
            "{refusal}"
        );
        for number in 0..2000 {
            fs::hard_link(
                source.join("large"),
                source.join(format!("target/{number}")),
            )
            .unwrap();
        }
        let refusal = take("target", &source, &app).unwrap_err();
        assert_eq!(refusal.code, Code::BuildLimit, "each name is a copy");
        fs::write(source.join("small"), "small").unwrap();
        let full = Room {
            floor: Bytes(u64::MAX),
            ..ROOM
        };
        let refusal = super::take(&["small".to_owned()], &source, &app, full).unwrap_err();
        assert_eq!(refusal.code, Code::DiskFull);
    }

    #[test]
    fn names_that_are_not_utf_8_are_kept_and_told_by_their_bytes() {
        let (_root, source, app) = folders();
        let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
        fs::write(source.join("target").join(name), "au lait").unwrap();
        take("target", &source, &app).unwrap();
        assert_eq!(
            fs::read_to_string(app.join("target").join(name)).unwrap(),
            "au lait"
        );
        fs::remove_dir_all(app.join("target")).unwrap();
        symlink(
            "gone",
            source
                .join("target")
                .join(std::ffi::OsStr::from_bytes(b"\xff")),
        )
        .unwrap();
        let refusal = take("target", &source, &app).unwrap_err();
        assert!(refusal.detail.contains(r"'target/\xff'"), "{refusal}");
    }
}
