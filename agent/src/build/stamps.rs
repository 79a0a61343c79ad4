//! The times of the checkout's files. Tools such as cargo and make rebuild what has a newer file than its product, and
//! products are kept from build to build; so a file has the time at which a checkout of this service first had its
//! present content without a break. Neither the commit's time (an older commit's files would be taken for unchanged)
//! nor the present (everything would be rebuilt) is right.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use state::digest::ObjectId;
use state::durable::{self, Format};

use crate::source::Checkout;

/// What the products that are kept were built from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stamps {
    #[serde(default)]
    format: Format,
    /// When the last build with them ended: every product is older.
    until: SystemTime,
    files: HashMap<PathBuf, Stamp>,
}

/// One file's content, mode and time.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stamp {
    id: ObjectId,
    executable: bool,
    time: SystemTime,
}

impl Stamps {
    /// Reads the stamps of the products that are kept. `None` if there are none that can be trusted: a clock that went
    /// back would make changed files look old, and those of a newer version may mean something else.
    pub(super) fn load(path: &Path) -> Option<Self> {
        let stamps: Self = durable::parse(&fs::read(path).ok()?).ok()?;
        (stamps.until < SystemTime::now()).then_some(stamps)
    }

    /// Gives the files of a checkout that are as they were the times they had, and takes the times of all.
    pub(super) fn apply(
        before: Option<&Self>,
        checkout: &Checkout,
        folder: &Path,
    ) -> io::Result<Self> {
        let mut files = HashMap::with_capacity(checkout.files.len());
        for file in &checkout.files {
            let open = File::open(folder.join(&file.path))?;
            let known = before.and_then(|stamps| stamps.files.get(&file.path));
            let same =
                known.filter(|stamp| stamp.id == file.id && stamp.executable == file.executable);
            let time = match same {
                Some(stamp) => {
                    open.set_modified(stamp.time)?;
                    stamp.time
                }
                None => open.metadata()?.modified()?,
            };
            let stamp = Stamp {
                id: file.id,
                executable: file.executable,
                time,
            };
            files.insert(file.path.clone(), stamp);
        }
        Ok(Self {
            format: Format::current(),
            until: SystemTime::now(),
            files,
        })
    }

    /// Writes the stamps beside the products, which are as old as this or older.
    pub(super) fn save(&mut self, path: &Path) -> io::Result<()> {
        self.until = SystemTime::now();
        fs::write(path, serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A checkout whose file `a` has the content `id`, written at `time`.
    fn checkout(folder: &Path, id: u8, executable: bool, time: SystemTime) -> Checkout {
        fs::write(folder.join("a"), [id]).unwrap();
        File::open(folder.join("a"))
            .unwrap()
            .set_modified(time)
            .unwrap();
        let file = crate::source::File {
            path: "a".into(),
            id: ObjectId([id; 20]),
            executable,
        };
        Checkout { files: vec![file] }
    }

    #[test]
    fn a_file_that_changes_and_changes_back_is_new_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let hour = |hour: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * hour);
        let mut stamps = None;
        for (id, executable, written, expected) in [
            (1, false, 1, 1),
            (1, false, 2, 1),
            (2, false, 3, 3),
            (1, false, 4, 4),
            (1, true, 5, 5),
            (1, true, 6, 5),
        ] {
            let checkout = checkout(folder, id, executable, hour(written));
            stamps = Some(Stamps::apply(stamps.as_ref(), &checkout, folder).unwrap());
            let time = fs::metadata(folder.join("a")).unwrap().modified().unwrap();
            assert_eq!(time, hour(expected), "written at hour {written}");
        }
    }

    #[test]
    fn stamps_of_a_clock_that_went_back_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stamps.json");
        let none = Checkout::default();
        let mut stamps = Stamps::apply(None, &none, folder.path()).unwrap();
        stamps.save(&path).unwrap();
        assert!(Stamps::load(&path).is_some());
        stamps.until += Duration::from_secs(60);
        fs::write(&path, serde_json::to_vec(&stamps).unwrap()).unwrap();
        assert!(Stamps::load(&path).is_none());
        fs::write(&path, "{").unwrap();
        assert!(Stamps::load(&path).is_none());
    }
}
