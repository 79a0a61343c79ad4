//! Two statements for one sequence: both sides are kept as files, so that people can show them to the root holders
//! whatever the remotes say later.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use state::Refusal;
use state::digest::Sha256Hash;
use state::floor::Floor;
use state::git::Git;
use state::verify::{Stage, Tips, evidence};

use crate::disk::{failed, save};

/// How many cases are kept: a thief of a key can make any number of them.
const KEPT: usize = 16;

/// One case: what a remote showed, and what was accepted before.
pub(crate) struct Case<'a> {
    /// Who showed it.
    pub(crate) url: &'a str,
    /// The mirror that holds it.
    pub(crate) mirror: &'a Path,
    /// All mirrors; in one of them lies what was accepted.
    pub(crate) mirrors: &'a [PathBuf],
    /// What was accepted.
    pub(crate) floor: &'a Floor,
    /// Why it was refused.
    pub(crate) refusal: &'a Refusal,
}

impl Case<'_> {
    /// Keeps both sides below `folder`, once, and says where; `None` if there are too many cases already.
    ///
    /// # Errors
    /// `DISK_FULL`, `STATE_UNSAFE`.
    pub(crate) fn keep(&self, folder: &Path) -> Result<Option<PathBuf>, Refusal> {
        let shown = self.statements(self.mirror, Stage::Incoming);
        let mut named = String::new();
        for (name, bytes) in &shown {
            let _ = write!(named, "{name} {} ", Sha256Hash::of(bytes));
        }
        let id = Sha256Hash::of(named.as_bytes()).to_string();
        let case = folder.join(format!("{}-{}", self.floor.sequence, &id[..12]));
        if case.exists() {
            return Ok(Some(case));
        }
        if kept(folder).len() >= KEPT {
            return Ok(None);
        }
        write_all(&case.join("shown"), &shown)?;
        write_all(&case.join("accepted"), &self.accepted())?;
        let Self { url, refusal, .. } = self;
        let about = format!(
            "{}\n{url}\n{refusal}\n\nshown/ is what this remote showed, accepted/ what this host accepted before.\n",
            Timestamp::now()
        );
        save(&case.join("about.txt"), about.as_bytes(), 0o600)?;
        Ok(Some(case))
    }

    /// What was accepted, from the first mirror that holds it.
    fn accepted(&self) -> Vec<(String, Vec<u8>)> {
        let holds = |files: &Vec<(String, Vec<u8>)>| {
            let mut files = files.iter();
            files.any(|(name, bytes)| {
                name == "manifest" && Sha256Hash::of(bytes) == self.floor.manifest
            })
        };
        let mut sides = self
            .mirrors
            .iter()
            .map(|mirror| self.statements(mirror, Stage::Verified));
        sides.find(holds).unwrap_or_default()
    }

    fn statements(&self, mirror: &Path, stage: Stage) -> Vec<(String, Vec<u8>)> {
        let read = || {
            let git = Git::open(mirror)?;
            let tips = Tips::read(&git, stage)?;
            let (sequence, trust) = (self.floor.sequence, self.floor.trust.version);
            Ok::<_, Refusal>(evidence(&git, &tips, sequence, trust))
        };
        read().unwrap_or_default()
    }
}

fn write_all(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<(), Refusal> {
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    files
        .iter()
        .try_for_each(|(name, bytes)| save(&folder.join(name), bytes, 0o600))
}

/// The cases that are kept below `folder`.
pub(crate) fn kept(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    cases.sort();
    cases
}
