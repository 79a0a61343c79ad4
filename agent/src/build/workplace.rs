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
use state::service::BuildLimits;

use super::job::Job;
use super::stamps::Stamps;
use crate::disk::failed;
use crate::fs::{self, remove};
use crate::meter::{Meter, usage};
use crate::sandbox::Folders;
use crate::source::Checkout;
use crate::user::User;

/// The checkout's folder.
const SOURCE: &str = "source";
/// The folder of temporary files.
const TMP: &str = "tmp";

/// A checkout with the folders that are kept.
#[derive(Debug)]
pub(super) struct Workplace {
    /// The folder that becomes the release.
    pub(super) folder: PathBuf,
    cache: PathBuf,
    kept: Vec<String>,
    stamps: Option<Stamps>,
    /// The bytes that were kept from earlier builds.
    before: u64,
}

impl Workplace {
    /// Makes the folders of a build.
    pub(super) fn open(job: &Job) -> Result<Self, Refusal> {
        let place = Self {
            folder: job.service.building(&job.id, job.number),
            cache: job.service.cache(),
            kept: job.spec.build.cache.clone(),
            stamps: None,
            before: 0,
        };
        let made = make(&place.folder, 0o711)
            .and_then(|()| make(&place.checkout(), 0o700))
            .and_then(|()| make(&place.tmp(), 0o700));
        made.map_err(|error| failed(&place.folder, &error))?;
        Ok(place)
    }

    /// Puts what is kept into the checkout, now that the source is there; all of it belongs to `user`, if there is one.
    pub(super) fn fill(mut self, written: &Checkout, user: Option<&User>) -> Result<Self, Refusal> {
        let checkout = self.checkout();
        // Taken away while the products change: a crash leaves products without stamps, which are not used.
        let before = Stamps::load(&self.stamps_path());
        let _ = remove(&self.stamps_path());
        let stamps = Stamps::apply(before.as_ref(), written, &checkout)
            .map_err(|error| failed(&checkout, &error))?;
        let trusted = before.is_some();
        let lasting = if trusted {
            self.cache.clone()
        } else {
            self.home()
        };
        self.before = usage(&lasting, u64::MAX);
        let opened = self.restore(trusted, user);
        self.stamps = Some(stamps);
        opened.map_err(|error| failed(&checkout, &error))?;
        Ok(self)
    }

    /// What commands may write to.
    pub(super) fn folders(&self) -> Folders {
        Folders {
            checkout: self.checkout(),
            home: self.home(),
            tmp: self.tmp(),
        }
    }

    /// What counts what a build uses here.
    pub(super) fn meter(&self, limits: BuildLimits) -> Meter {
        let Folders {
            checkout,
            home,
            tmp,
        } = self.folders();
        Meter::new(limits, vec![checkout, home, tmp], self.before)
    }

    /// The folder that commands work in.
    pub(super) fn checkout(&self) -> PathBuf {
        self.folder.join(SOURCE)
    }

    /// What tools keep: the home of all commands.
    fn home(&self) -> PathBuf {
        self.cache.join("home")
    }

    /// The temporary files of all commands.
    fn tmp(&self) -> PathBuf {
        self.folder.join(TMP)
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
            fs::hand_over(&self.tmp(), user)?;
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

    /// Deletes what is kept, and keeps nothing of this build: what filled the disk does so no longer, wherever it is.
    pub(super) fn drop_cache(&mut self) {
        self.stamps = None;
        for folder in [self.home(), self.cache.join("folders")] {
            if let Err(error) = remove(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "a cache that is too large is left behind");
            }
        }
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
