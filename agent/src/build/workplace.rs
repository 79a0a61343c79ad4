//! Where a source is built: its checkout, and the folders of it that are kept between builds of the service. What is
//! kept moves in before the build and out after it, however that ended. All of it blocks.

use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, mkdirat, renameat, statat};
use state::Refusal;
use state::digest::Sha256Hash;

use super::Job;
use super::stamps::Stamps;
use crate::disk::failed;
use crate::fs::{self, remove};
use crate::source::{Fetched, Limits};
use crate::user::User;

/// The checkout's folder.
const SOURCE: &str = "source";

/// A checkout with the folders that are kept.
#[derive(Debug)]
pub(super) struct Workplace {
    /// The folder that becomes the release.
    pub(super) folder: PathBuf,
    cache: PathBuf,
    kept: Vec<String>,
    stamps: Option<Stamps>,
}

impl Workplace {
    /// Writes the source out and puts what is kept into it; all of it belongs to `user`, if there is one.
    pub(super) fn open(
        job: &Job,
        source: &Fetched,
        limits: &Limits,
        user: Option<&User>,
    ) -> Result<Self, Refusal> {
        let mut place = Self {
            folder: job.service.building(&job.id, job.number),
            cache: job.service.cache(),
            kept: job.spec.build.cache.clone(),
            stamps: None,
        };
        let checkout = place.checkout();
        let made = make(&place.folder, 0o711).and_then(|()| make(&checkout, 0o700));
        made.map_err(|error| failed(&checkout, &error))?;
        let written = source.checkout(&checkout, limits)?;

        // Taken away while the products change: a crash leaves products without stamps, which are not used.
        let before = Stamps::load(&place.stamps_path());
        let _ = remove(&place.stamps_path());
        let stamps = Stamps::apply(before.as_ref(), &written, &checkout)
            .map_err(|error| failed(&checkout, &error))?;
        let opened = place.restore(before.is_some(), user);
        place.stamps = Some(stamps);
        opened.map_err(|error| failed(&checkout, &error))?;
        Ok(place)
    }

    /// The folder that commands work in.
    pub(super) fn checkout(&self) -> PathBuf {
        self.folder.join(SOURCE)
    }

    /// What tools keep: the home of all commands.
    pub(super) fn home(&self) -> PathBuf {
        self.cache.join("home")
    }

    fn stamps_path(&self) -> PathBuf {
        self.cache.join("stamps.json")
    }

    /// Where a folder of the checkout is kept meanwhile.
    fn shelf(&self, path: &str) -> PathBuf {
        self.cache
            .join("folders")
            .join(Sha256Hash::of(path.as_bytes()).short())
    }

    /// Moves what is kept into the checkout, which is given to `user` before: what is kept belongs to him already. The
    /// folders that it is kept in stay the agent's. Products that cannot be told to be old are dropped.
    fn restore(&self, trusted: bool, user: Option<&User>) -> io::Result<()> {
        let shelves = self.cache.join("folders");
        if !trusted {
            remove(&shelves)?;
        }
        make(&shelves, 0o700)?;
        make(&self.home(), 0o700)?;
        let kept = self.kept.iter().filter(|path| self.shelf(path).exists());
        let ways: Vec<_> = kept
            .map(|path| Ok((path, self.way(Path::new(path))?)))
            .collect::<io::Result<_>>()?;
        if let Some(user) = user {
            fs::hand_over(&self.checkout(), user)?;
            fs::hand_over(&self.home(), user)?;
        }
        for (path, folder) in ways {
            let name = Path::new(path).file_name().unwrap_or_default();
            // What the source itself has there is newer.
            if statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
                renameat(CWD, self.shelf(path), &folder, name)?;
            }
        }
        Ok(())
    }

    /// Opens the folder above `path` in the checkout, and makes it where the source has none.
    fn way(&self, path: &Path) -> io::Result<OwnedFd> {
        let top = fs::root(&self.checkout())?;
        let above = path.parent().unwrap_or(Path::new(""));
        above.components().try_fold(top, |folder, name| {
            match mkdirat(&folder, name.as_os_str(), 0o755.into()) {
                Err(rustix::io::Errno::EXIST) | Ok(()) => fs::folder(&folder, name.as_ref()),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Moves what is kept out of the checkout; what is done is not done again.
    pub(super) fn shelve(&mut self) {
        if let Err(error) = self.save() {
            tracing::warn!(folder = %self.cache.display(), %error, "the build cache is lost");
        }
    }

    /// The build may have put anything into the checkout: only a folder that is reached without leaving it is taken.
    fn save(&mut self) -> io::Result<()> {
        let Some(mut stamps) = self.stamps.take() else {
            return Ok(());
        };
        let top = fs::root(&self.checkout())?;
        for path in &self.kept {
            let shelf = self.shelf(path);
            let path = Path::new(path);
            let Ok(folder) = fs::folder(&top, path.parent().unwrap_or(Path::new(""))) else {
                continue;
            };
            let name = path.file_name().unwrap_or_default();
            let status = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
            if status
                .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory)
            {
                remove(&shelf)?;
                renameat(&folder, name, CWD, &shelf)?;
            }
        }
        stamps.save(&self.stamps_path())
    }
}

impl Drop for Workplace {
    /// A release has left the folder by now; what is still there was given up, and takes no space from what runs.
    fn drop(&mut self) {
        self.shelve();
        if let Err(error) = remove(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "a build that was given up is left behind");
        }
    }
}

/// Makes a folder unless it is there. The mode is not left to the umask.
pub(super) fn make(folder: &Path, mode: u32) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| std::fs::set_permissions(folder, Permissions::from_mode(mode))),
    }
}
