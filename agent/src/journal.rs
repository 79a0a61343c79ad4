//! The history of this host: what happened to which service, when, with the evidence. A sled database, opened only
//! below the agent's lock, when first needed.
//!
//! Nothing is ever decided by it. A damaged database is moved aside, reported, and begun anew. One that is locked, or
//! that the host cannot read at the moment, is not damaged: it stays where it is.

use std::fs::{self, File};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use state::durable::{Extra, Format};
use state::name::ServiceName;

/// How many entries are kept; the oldest go first.
const KEPT: usize = 10_000;

/// The memory that the database may use for its cache, in bytes.
const CACHE: u64 = 256 << 10;

/// How long the lock of the database may be held by another: sled's own threads keep it for a moment after it is closed,
/// and `agent history` holds it while no agent runs.
const LOCKED: Duration = Duration::from_secs(5);

/// How often the lock is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The format of the entry.
    #[serde(default)]
    pub format: Format,
    /// When.
    pub time: Timestamp,
    /// To which service; none if it concerns the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// In which deployment of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<u32>,
    /// What sort of thing.
    pub kind: Kind,
    /// What happened, in one line.
    pub text: String,
    /// The probe's question and answer, or the last lines of a log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What a newer version noted.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Entry {
    /// An entry about the host, of now.
    pub fn new(kind: Kind, text: &str) -> Self {
        Self {
            format: Format::current(),
            time: Timestamp::now(),
            service: None,
            deployment: None,
            kind,
            text: text.to_owned(),
            evidence: Vec::new(),
            extra: Extra::default(),
        }
    }
}

/// The sorts of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A deployment began or reached a phase.
    Phase,
    /// Something failed.
    Failure,
    /// A hold began or ended.
    Hold,
    /// A running slot was started again or stopped.
    Slot,
    /// An intake was refused, or accepted again.
    Intake,
    /// Something on this host's disk was damaged, and what was done about it.
    Damage,
    /// What only a newer version has a word for.
    #[serde(other)]
    Other,
}

/// The host's history.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    open: Mutex<Option<sled::Db>>,
}

impl Journal {
    /// The history in the folder `path`; nothing is opened yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: Mutex::default(),
        }
    }

    /// Adds an entry. A journal that cannot be written is a warning, never a failure of what it tells about.
    pub fn append(&self, entry: &Entry) {
        let written = self.with(|database| {
            let key = database.generate_id()?.to_be_bytes();
            let value = serde_json::to_vec(entry).map_err(std::io::Error::from)?;
            database.insert(key, value)?;
            while database.len() > KEPT {
                database.pop_min()?;
            }
            database.flush()?;
            Ok(())
        });
        if let Err(error) = written {
            tracing::warn!(%error, "the journal cannot be written");
        }
    }

    /// The last `limit` entries, of one service or of all, oldest first.
    pub fn recent(
        &self,
        service: Option<&ServiceName>,
        limit: usize,
    ) -> Result<Vec<Entry>, sled::Error> {
        self.with(|database| {
            let mut entries = Vec::new();
            for item in database.iter().values().rev() {
                let Ok(entry) = serde_json::from_slice::<Entry>(&item?) else {
                    continue; // of a version whose entries have another shape; it stays where it is
                };
                if service.is_none() || entry.service.as_ref() == service {
                    entries.push(entry);
                }
                if entries.len() == limit {
                    break;
                }
            }
            entries.reverse();
            Ok(entries)
        })
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&sled::Db) -> Result<T, sled::Error>,
    ) -> Result<T, sled::Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            *open = Some(self.open_or_begin_anew()?);
        }
        match &*open {
            Some(database) => work(database),
            None => Err(sled::Error::Unsupported("closed".to_owned())),
        }
    }

    fn open_or_begin_anew(&self) -> Result<sled::Db, sled::Error> {
        self.wait_for_lock()?;
        let damage = match self.open_existing() {
            Err(damage) if is_damage(&damage) => damage,
            opened => return opened,
        };
        let now = Timestamp::now();
        let aside = self
            .path
            .with_extension(format!("damaged-{}", now.as_second()));
        tracing::warn!(%damage, aside = %aside.display(), "the journal is damaged: moved aside and begun anew");
        fs::rename(&self.path, &aside)?;
        let database = self.open_existing()?;
        let text = format!(
            "the journal was damaged and is now at {}; history begins anew",
            aside.display()
        );
        let entry = Entry {
            evidence: vec![damage.to_string()],
            ..Entry::new(Kind::Damage, &text)
        };
        let value = serde_json::to_vec(&entry).map_err(std::io::Error::from)?;
        database.insert(database.generate_id()?.to_be_bytes(), value)?;
        Ok(database)
    }

    /// Waits until nobody holds the database's lock. sled tries it once, and says by a text only that it was held.
    fn wait_for_lock(&self) -> Result<(), sled::Error> {
        let lock = match File::open(self.path.join("db")) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let deadline = Instant::now() + LOCKED;
        while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK || Instant::now() >= deadline {
                return Err(io::Error::from(error).into());
            }
            thread::sleep(RETRY);
        }
        Ok(()) // given back as the file is closed
    }

    /// Opens the database; sled panics on some damaged files, which counts as damage too.
    fn open_existing(&self) -> Result<sled::Db, sled::Error> {
        let config = sled::Config::new()
            .path(&self.path)
            .cache_capacity(CACHE)
            .flush_every_ms(None);
        panic::catch_unwind(AssertUnwindSafe(|| config.open())).unwrap_or_else(|_| {
            let detail = "sled gave up while opening it".to_owned();
            Err(sled::Error::ReportableBug(detail))
        })
    }
}

/// Says whether the database's content is to blame, and not the host: a full disk or a missing right ends by itself.
fn is_damage(error: &sled::Error) -> bool {
    match error {
        sled::Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        ),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(service: &str, text: &str) -> Entry {
        Entry {
            time: Timestamp::UNIX_EPOCH,
            service: Some(service.parse().unwrap()),
            deployment: Some(1),
            ..Entry::new(Kind::Phase, text)
        }
    }

    #[test]
    fn entries_come_back_in_order_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path().join("journal"));
        for text in ["one", "two", "three"] {
            journal.append(&entry("web", text));
            journal.append(&entry("api", text));
        }
        drop(journal);
        let journal = Journal::new(dir.path().join("journal"));
        let web = "web".parse().unwrap();
        let texts = |limit| -> Vec<String> {
            let entries = journal.recent(Some(&web), limit).unwrap();
            entries.into_iter().map(|entry| entry.text).collect()
        };
        assert_eq!(texts(10), ["one", "two", "three"]);
        assert_eq!(texts(2), ["two", "three"]);
        assert_eq!(journal.recent(None, 100).unwrap().len(), 6);
    }

    #[test]
    fn a_journal_that_stays_locked_is_left_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::new(path.clone());
        journal.append(&entry("web", "one"));
        let second = Journal::new(path);
        assert!(second.recent(None, 10).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(journal.recent(None, 10).unwrap()[0].text, "one");
    }

    #[test]
    fn a_destroyed_journal_is_moved_aside_and_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::new(path.clone());
        journal.append(&entry("web", "lost"));
        drop(journal);
        for file in fs::read_dir(&path).unwrap() {
            let file = file.unwrap().path();
            if file.is_file() {
                fs::write(&file, [0xa5; 4096]).unwrap();
            }
        }
        let journal = Journal::new(path);
        journal.append(&entry("web", "after"));
        let texts: Vec<_> = journal.recent(None, 10).unwrap();
        assert_eq!(texts.first().unwrap().kind, Kind::Damage);
        assert_eq!(texts.last().unwrap().text, "after");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
