//! The only door to the journal's database. One that is damaged is moved aside, reported, and begun anew. One that is
//! locked, or that the host cannot read at the moment, is not damaged: it stays where it is.

use std::fs::{self, File};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use state::name::ServiceName;

use super::entry::{Entry, Kind};

/// How many entries are kept; the oldest go first.
const KEPT: usize = 10_000;

/// The memory that the database may use for its cache, in bytes.
const CACHE: u64 = 256 << 10;

/// How long the lock of the database may be held by another: sled's own threads keep it for a moment after it is closed,
/// and `agent history` holds it while no agent runs.
const LOCKED: Duration = Duration::from_secs(5);

/// How often the lock is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// A database that is opened when first needed, and again after an error: sled answers nothing more after one.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    entries: sled::Db,
    length: usize,
}

impl Database {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Writes entries down, durably and in order.
    pub(super) fn append<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Result<(), sled::Error> {
        self.with(|open| {
            for entry in entries {
                open.insert(entry)?;
            }
            open.entries.flush()?;
            Ok(())
        })
    }

    /// The last `limit` entries, of one service or of all, oldest first.
    pub(super) fn recent(
        &mut self,
        service: Option<&ServiceName>,
        limit: usize,
    ) -> Result<Vec<Entry>, sled::Error> {
        self.with(|open| {
            let mut found = Vec::new();
            for item in open.entries.iter().values().rev() {
                let Ok(entry) = serde_json::from_slice::<Entry>(&item?) else {
                    continue; // of a version whose entries have another shape; it stays where it is
                };
                if service.is_none() || entry.service.as_ref() == service {
                    found.push(entry);
                }
                if found.len() == limit {
                    break;
                }
            }
            found.reverse();
            Ok(found)
        })
    }

    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Open) -> Result<T, sled::Error>,
    ) -> Result<T, sled::Error> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open_or_begin_anew()?,
        };
        let done = work(&mut open)?;
        self.open = Some(open);
        Ok(done)
    }

    fn open_or_begin_anew(&self) -> Result<Open, sled::Error> {
        self.wait_for_lock()?;
        let damage = match self.open_existing() {
            Err(damage) if is_damage(&damage) => damage,
            opened => return opened.map(Open::new),
        };
        let now = Timestamp::now();
        let aside = self
            .path
            .with_extension(format!("damaged-{}", now.as_second()));
        tracing::warn!(%damage, aside = %aside.display(), "the journal is damaged: moved aside and begun anew");
        fs::rename(&self.path, &aside)?;
        let mut anew = Open::new(self.open_existing()?);
        let text = format!(
            "the journal was damaged and is now at {}; history begins anew",
            aside.display()
        );
        let entry = Entry {
            evidence: vec![damage.to_string()],
            ..Entry::new(Kind::Damage, &text)
        };
        anew.insert(&entry)?;
        Ok(anew)
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

impl Open {
    /// The length is counted here and never again.
    fn new(entries: sled::Db) -> Self {
        let length = entries.len();
        Self { entries, length }
    }

    fn insert(&mut self, entry: &Entry) -> Result<(), sled::Error> {
        let key = self.entries.generate_id()?.to_be_bytes();
        let value = serde_json::to_vec(entry).map_err(io::Error::from)?;
        self.entries.insert(key, value)?;
        self.length += 1;
        while self.length > KEPT && self.entries.pop_min()?.is_some() {
            self.length -= 1;
        }
        Ok(())
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
