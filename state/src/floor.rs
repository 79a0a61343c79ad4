//! The floor: the highest trust, admission and time that a host has accepted. It never goes back.

use std::cmp::Ordering;
use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::digest::{Domain, Sha256Hash};
use crate::durable::{self, Extra, Format};
use crate::manifest::{Link, TrustRef};
use crate::name::{EnvironmentName, HostName};
use crate::release::Origin;
use crate::trust::Trust;
use crate::{Code, Refusal, file};

/// How far two well-kept clocks may be apart.
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What a host was enrolled with and what it has accepted since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The format of the file.
    #[serde(default)]
    pub format: Format,
    /// The fleet.
    pub domain: Domain,
    /// The host's environment.
    pub environment: EnvironmentName,
    /// The host's name.
    pub host: HostName,
    /// The newest trust file; at enrolment version 1, whose hash is the domain.
    pub trust: TrustRef,
    /// The sequence of the newest manifest; 0 before the first.
    pub sequence: u64,
    /// Its hash; zeros before the first.
    pub manifest: Sha256Hash,
    /// The commit of `main` up to which all were judged well: a manifest's author, not always the newest one's.
    pub main: Option<Origin>,
    /// Up to where the rules of the environment were verified, with all before them; nothing before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Lineage>,
    /// The latest time seen in a signed statement.
    pub time: Timestamp,
    /// What a newer version noted.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A manifest up to which the rules of an environment were let in as the rules before them demanded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The trust file by which they were judged: another one may have ended a key.
    pub trust: TrustRef,
    /// The manifest's sequence.
    pub sequence: u64,
    /// What a newer version noted.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Lineage {
    /// Says whether what passed would pass again under `newest`, which may also tell where the log goes on without it.
    pub fn counts(&self, newest: &Trust) -> bool {
        let anchor = newest.anchor.as_ref();
        newest.reference() == self.trust && anchor.is_none_or(|anchor| self.sequence >= anchor.next)
    }
}

impl Floor {
    /// The floor of a host that has accepted nothing but its domain.
    pub fn enrolled(domain: Domain, environment: EnvironmentName, host: HostName) -> Self {
        Self {
            format: Format::current(),
            domain,
            environment,
            host,
            trust: TrustRef {
                version: 1,
                sha256: Sha256Hash(domain.0),
            },
            sequence: 0,
            manifest: Sha256Hash::ZERO,
            main: None,
            rules: None,
            time: Timestamp::UNIX_EPOCH,
            extra: Extra::default(),
        }
    }

    /// Reads the floor; its directory and the file must be safe.
    ///
    /// # Errors
    /// `STATE_MISSING`, `STATE_NEWER`, `STATE_UNSAFE` (a damaged file too).
    pub fn load(path: &Path) -> Result<Self, Refusal> {
        if let Some(directory) = path.parent() {
            file::check_safe(directory)?;
        }
        file::check_safe(path)?;
        let bytes = std::fs::read(path).map_err(|error| {
            let detail = format!("{}: {error}", path.display());
            Refusal::new(Code::StateUnsafe, detail)
        })?;
        durable::parse(&bytes).map_err(|why| why.refuse(path, Code::StateUnsafe))
    }

    /// Writes the floor durably, in the format of this version.
    ///
    /// # Errors
    /// `DISK_FULL` if there is no space, else `STATE_UNSAFE`.
    pub fn save(&self, path: &Path) -> Result<(), Refusal> {
        let format = Format::current();
        let floor = Self {
            format,
            ..self.clone()
        };
        let mut bytes = serde_json::to_vec_pretty(&floor).expect("plain data becomes JSON");
        bytes.push(b'\n');
        file::write_atomic(path, &bytes, 0o600).map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
                _ => Code::StateUnsafe,
            };
            Refusal::new(code, format!("{}: {error}", path.display()))
        })
    }

    /// Checks that `now` is not before the floor's time, give or take [`SKEW`].
    ///
    /// # Errors
    /// `CLOCK_BEHIND`.
    pub fn check_clock(&self, now: Timestamp) -> Result<(), Refusal> {
        if self.time.duration_since(now) > SKEW {
            let detail = format!("now is {now}, but {} was seen signed", self.time);
            return Err(Refusal::new(Code::ClockBehind, detail));
        }
        Ok(())
    }

    /// Raises the floor to a trust file that was verified.
    ///
    /// # Errors
    /// `TRUST_ROLLBACK`, `TRUST_FORK`; the floor is then as it was.
    pub fn advance_trust(&mut self, trust: TrustRef) -> Result<(), Refusal> {
        let floor = (self.trust.version, self.trust.sha256);
        let code = compare(
            floor,
            (trust.version, trust.sha256),
            Code::TrustRollback,
            Code::TrustFork,
        );
        code.map_err(|refusal| refusal.at("trust"))?;
        self.trust = trust;
        Ok(())
    }

    /// Raises the floor to a manifest that was verified.
    ///
    /// # Errors
    /// `LOG_ROLLBACK`, `LOG_FORK`; the floor is then as it was.
    pub fn advance(&mut self, manifest: &Link) -> Result<(), Refusal> {
        let floor = (self.sequence, self.manifest);
        let code = compare(
            floor,
            (manifest.sequence, manifest.hash),
            Code::LogRollback,
            Code::LogFork,
        );
        code.map_err(|refusal| refusal.at("manifest"))?;
        self.sequence = manifest.sequence;
        self.manifest = manifest.hash;
        self.advance_time(manifest.issued);
        Ok(())
    }

    /// Raises the floor to a commit of `main` up to which every commit was judged well.
    pub fn advance_main(&mut self, author: Origin) {
        self.main = Some(author);
    }

    /// Notes up to where the environment's rules were verified.
    pub fn advance_rules(&mut self, rules: Lineage) {
        self.rules = Some(rules);
    }

    /// Raises the floor's time to `issued` of a statement that was verified; an earlier one changes nothing.
    pub fn advance_time(&mut self, issued: Timestamp) {
        self.time = self.time.max(issued);
    }
}

/// Checks that `next` is above `floor`, or is the same.
fn compare(
    floor: (u64, Sha256Hash),
    next: (u64, Sha256Hash),
    rollback: Code,
    fork: Code,
) -> Result<(), Refusal> {
    let code = match next.0.cmp(&floor.0) {
        Ordering::Greater => return Ok(()),
        Ordering::Equal if next.1 == floor.1 => return Ok(()),
        Ordering::Equal => fork,
        Ordering::Less => rollback,
    };
    let detail = format!(
        "got {} {}, accepted was {} {}",
        next.0, next.1, floor.0, floor.1
    );
    Err(Refusal::new(code, detail))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn floor() -> Floor {
        let (environment, host) = ("prod".parse().unwrap(), "web-1".parse().unwrap());
        Floor::enrolled(Domain([9; 32]), environment, host)
    }

    fn manifest(sequence: u64, issued: &str) -> Link {
        Link {
            sequence,
            hash: Sha256Hash::of(issued.as_bytes()),
            trust: 1,
            issued: issued.parse().unwrap(),
        }
    }

    #[test]
    fn a_saved_floor_is_read_back_and_nobody_else_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor.json");
        let mut floor = floor();
        floor.advance(&manifest(3, "2026-11-20T00:00:00Z")).unwrap();
        floor.save(&path).unwrap();
        assert_eq!(Floor::load(&path), Ok(floor));
    }

    #[test]
    fn a_floor_that_is_missing_damaged_or_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor.json");
        let code = || Floor::load(&path).unwrap_err().code;
        assert_eq!(code(), Code::StateMissing);
        floor().save(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for damaged in ["", "{}", &text[..text.len() / 2]] {
            file::write_atomic(&path, damaged.as_bytes(), 0o600).unwrap();
            assert_eq!(code(), Code::StateUnsafe, "{damaged}");
        }
        let newer = text.replacen(r#""format": 1"#, r#""format": 2"#, 1);
        file::write_atomic(&path, newer.as_bytes(), 0o600).unwrap();
        assert_eq!(code(), Code::StateNewer);
        floor().save(&path).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(code(), Code::StateUnsafe);
    }

    #[test]
    fn a_floor_never_goes_back() {
        let mut floor = floor();
        floor.advance(&manifest(3, "2026-11-20T00:00:00Z")).unwrap();
        floor.advance(&manifest(3, "2026-11-20T00:00:00Z")).unwrap();
        let before = floor.clone();
        let lower = floor.advance(&manifest(2, "2026-11-21T00:00:00Z"));
        assert_eq!(lower.unwrap_err().code, Code::LogRollback);
        let other = floor.advance(&manifest(3, "2026-11-21T00:00:00Z"));
        assert_eq!(other.unwrap_err().code, Code::LogFork);
        floor.advance_time("2026-11-19T00:00:00Z".parse().unwrap());
        assert_eq!(floor, before);

        let trust = |version, byte| TrustRef {
            version,
            sha256: Sha256Hash([byte; 32]),
        };
        floor.advance_trust(trust(2, 5)).unwrap();
        floor.advance_trust(trust(2, 5)).unwrap();
        assert_eq!(
            floor.advance_trust(trust(1, 9)).unwrap_err().code,
            Code::TrustRollback
        );
        assert_eq!(
            floor.advance_trust(trust(2, 6)).unwrap_err().code,
            Code::TrustFork
        );
    }

    #[test]
    fn a_clock_behind_what_was_seen_signed_is_refused() {
        let mut floor = floor();
        floor.advance_time("2026-11-20T00:05:00Z".parse().unwrap());
        assert_eq!(
            floor.check_clock("2026-11-20T00:00:00Z".parse().unwrap()),
            Ok(())
        );
        let refusal = floor
            .check_clock("2026-11-19T23:59:59Z".parse().unwrap())
            .unwrap_err();
        assert_eq!(refusal.code, Code::ClockBehind);
    }
}
