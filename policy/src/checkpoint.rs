//! How far a served repository's log was verified, kept in `REPO/writ/checkpoint` from pass to pass: a push or a pass
//! then costs what is new.
//!
//! It is a cache. Passes write it; the hook, which runs as the pusher, reads it. It is believed only if nobody but the
//! repository's owner and root can have written it, and whenever something about it is odd, all is verified again. It
//! may be removed at any time.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use state::durable::{self, Format};
use state::verify::Checkpoint;
use state::{Refusal, file};

use crate::history::History;
use crate::settings::{Folder, unusable};

/// The most bytes of the file that are read.
const MAX_BYTES: u64 = 64 << 20;

/// Refuses to open what a symbolic link points at.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// What was verified, and what timing rules remember of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The format of the file.
    #[serde(default)]
    pub format: Format,
    /// Up to which entry.
    pub checkpoint: Checkpoint,
    /// When what was admitted, up to that entry.
    pub history: History,
}

impl Folder {
    /// Reads the checkpoint of the repository at `repository`; `None` unless it can be believed.
    pub fn checkpoint(&self, repository: &Path) -> Option<Known> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(NO_FOLLOW)
            .open(self.checkpoint_path())
            .ok()?;
        if !is_believable(&file, repository)? {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        durable::parse(&bytes).ok()
    }

    /// Writes the checkpoint, readable for the hook.
    ///
    /// # Errors
    /// `REPOSITORY_UNUSABLE`.
    pub(crate) fn save_checkpoint(&self, known: &Known) -> Result<(), Refusal> {
        let path = self.checkpoint_path();
        let bytes = serde_json::to_vec(known).map_err(|error| unusable(&path, &error))?;
        file::write_atomic(&path, &bytes, 0o644).map_err(|error| unusable(&path, &error))
    }

    fn checkpoint_path(&self) -> std::path::PathBuf {
        self.path().join("checkpoint")
    }
}

/// Says whether nobody but the repository's owner and root can have written `file`.
fn is_believable(file: &File, repository: &Path) -> Option<bool> {
    let (file, owner) = (file.metadata().ok()?, repository.metadata().ok()?.uid());
    let is_owners = file.uid() == owner || file.uid() == 0;
    Some(file.is_file() && is_owners && file.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::digest::{ObjectId, Sha256Hash};
    use state::manifest::TrustRef;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn known() -> Known {
        let sha256 = Sha256Hash([1; 32]);
        let checkpoint = Checkpoint {
            trust: TrustRef { version: 2, sha256 },
            sequence: 7,
            manifest: Sha256Hash([3; 32]),
            commit: ObjectId([4; 20]),
        };
        let history = History::default();
        Known {
            format: Format::current(),
            checkpoint,
            history,
        }
    }

    #[test]
    fn what_others_could_have_written_or_is_damaged_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(dir.path());
        folder.create().unwrap();
        assert_eq!(folder.checkpoint(dir.path()), None);
        folder.save_checkpoint(&known()).unwrap();
        assert_eq!(folder.checkpoint(dir.path()), Some(known()));
        let path = folder.checkpoint_path();
        for mode in [0o664, 0o646] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(folder.checkpoint(dir.path()), None, "{mode:o}");
        }
        folder.save_checkpoint(&known()).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(folder.checkpoint(dir.path()), None, "cut short");
        fs::write(dir.path().join("elsewhere"), &bytes).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert_eq!(folder.checkpoint(dir.path()), None, "a link");
    }
}
