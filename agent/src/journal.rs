//! The history of this host: what happened to which service, when, with the evidence. A sled database, opened only
//! below the agent's lock, when first needed, and by a thread of its own: nobody waits for its disk.
//!
//! Nothing is ever decided by it. What cannot be written is kept in memory and tried again, and the status says so.

mod database;
mod entry;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use state::name::ServiceName;
use state::{Code, Refusal};

use self::database::Database;
pub use self::entry::{Entry, Kind};
use crate::disk;

/// How many entries may wait for a disk that is slow or full; of more the oldest are lost, and counted.
const WAITING: usize = 1_000;

/// How long after a failure the database is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Is told why the journal cannot be written, and when it can again.
pub type Tell = Box<dyn Fn(Option<&Refusal>) + Send>;

/// The host's history.
#[derive(Debug)]
pub struct Journal {
    requests: Option<SyncSender<Request>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Request {
    Append(Entry),
    Recent(Question),
}

#[derive(Debug)]
struct Question {
    service: Option<ServiceName>,
    limit: usize,
    answer: SyncSender<Result<Vec<Entry>, sled::Error>>,
}

impl Journal {
    /// The history in the folder `path`; nothing is opened yet.
    pub fn new(path: PathBuf, tell: Tell) -> Self {
        let (requests, receiver) = mpsc::sync_channel(WAITING);
        let writer = Writer {
            database: Database::new(path.clone()),
            path,
            tell,
            waiting: VecDeque::new(),
            lost: 0,
            failed: None,
        };
        let writer = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&receiver));
        if let Err(error) = &writer {
            tracing::warn!(%error, "the journal cannot be written");
        }
        Self {
            requests: Some(requests),
            writer: writer.ok(),
        }
    }

    /// Adds an entry, later. A journal that cannot be written is a warning, never a failure of what it tells about.
    pub fn append(&self, entry: &Entry) {
        let sent = self
            .requests
            .as_ref()
            .map(|requests| requests.try_send(Request::Append(entry.clone())));
        if !matches!(sent, Some(Ok(()))) {
            tracing::warn!("an entry of the journal is lost: its disk is too slow");
        }
    }

    /// The last `limit` entries, of one service or of all, oldest first; all that were added before are among them.
    /// Blocks.
    ///
    /// # Errors
    /// `DISK_FULL`, `STATE_UNSAFE`.
    pub fn recent(
        &self,
        service: Option<&ServiceName>,
        limit: usize,
    ) -> Result<Vec<Entry>, Refusal> {
        let (answer, answered) = mpsc::sync_channel(1);
        let question = Question {
            service: service.cloned(),
            limit,
            answer,
        };
        let sent = self
            .requests
            .as_ref()
            .and_then(|requests| requests.send(Request::Recent(question)).ok());
        let answer = sent.and_then(|()| answered.recv().ok());
        let gone = || Refusal::new(Code::StateUnsafe, "the journal's thread has ended");
        let answer = answer.ok_or_else(gone)?;
        answer.map_err(|error| {
            let detail = format!("the journal cannot be read: {error}");
            Refusal::new(Code::StateUnsafe, detail)
        })
    }
}

impl Drop for Journal {
    /// What was added is written before the agent ends.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // It says itself what it could not write.
            let _ = writer.join();
        }
    }
}

/// The thread that has the database.
struct Writer {
    path: PathBuf,
    database: Database,
    tell: Tell,
    waiting: VecDeque<Entry>,
    lost: usize,
    /// When writing failed last, if it did.
    failed: Option<Instant>,
}

impl Writer {
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let first = match self.failed {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(failed) => requests.recv_timeout(AGAIN.saturating_sub(failed.elapsed())),
            };
            let ends = matches!(first, Err(RecvTimeoutError::Disconnected));
            let mut questions = Vec::new();
            // What came together is written together: one flush for a whole fleet that moves.
            for request in first.into_iter().chain(requests.try_iter().take(WAITING)) {
                match request {
                    Request::Append(entry) => self.waiting.push_back(entry),
                    Request::Recent(question) => questions.push(question),
                }
            }
            let is_due = self.failed.is_none_or(|failed| failed.elapsed() >= AGAIN);
            if is_due || ends || !questions.is_empty() {
                self.write();
            }
            for question in questions {
                let found = self
                    .database
                    .recent(question.service.as_ref(), question.limit);
                // Who asked may be gone.
                let _ = question.answer.send(found);
            }
            if ends {
                return;
            }
        }
    }

    fn write(&mut self) {
        if self.waiting.is_empty() && self.failed.is_none() {
            return;
        }
        match self.database.append(self.waiting.iter()) {
            Ok(()) => {
                self.waiting.clear();
                if self.failed.take().is_some() {
                    tracing::info!(lost = self.lost, "the journal is written again");
                    self.lost = 0;
                    (self.tell)(None);
                }
            }
            Err(error) => {
                let refusal = refusal(&self.path, error);
                if self.failed.is_none() {
                    tracing::warn!(%refusal, "the journal cannot be written");
                }
                self.failed = Some(Instant::now());
                (self.tell)(Some(&refusal));
                let excess = self.waiting.len().saturating_sub(WAITING);
                self.waiting.drain(..excess);
                self.lost += excess;
            }
        }
    }
}

fn refusal(path: &Path, error: sled::Error) -> Refusal {
    match error {
        sled::Error::Io(error) => disk::failed(path, &error),
        other => {
            let detail = format!("'{}': {other}", path.display());
            Refusal::new(Code::StateUnsafe, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use std::fs;
    use std::sync::{Arc, Mutex};

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
        let journal = Journal::new(dir.path().join("journal"), Box::new(|_| ()));
        for text in ["one", "two", "three"] {
            journal.append(&entry("web", text));
            journal.append(&entry("api", text));
        }
        drop(journal);
        let journal = Journal::new(dir.path().join("journal"), Box::new(|_| ()));
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
        let journal = Journal::new(path.clone(), Box::new(|_| ()));
        journal.append(&entry("web", "one"));
        assert_eq!(journal.recent(None, 10).unwrap().len(), 1);
        let second = Journal::new(path, Box::new(|_| ()));
        assert!(second.recent(None, 10).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(journal.recent(None, 10).unwrap()[0].text, "one");
    }

    #[test]
    fn what_cannot_be_written_is_said_kept_and_written_when_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, path) = (dir.path().join("a"), dir.path().join("a/journal"));
        fs::write(&folder, "in the way").unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&said);
        let tell = move |refusal: Option<&Refusal>| {
            told.lock()
                .unwrap()
                .push(refusal.map(|refusal| refusal.code));
        };
        let journal = Journal::new(path, Box::new(tell));
        journal.append(&entry("web", "early"));
        let deadline = Instant::now() + Duration::from_secs(30);
        let until = |done: &dyn Fn() -> bool| {
            while !done() {
                assert!(Instant::now() < deadline, "{:?}", said.lock().unwrap());
                thread::sleep(Duration::from_millis(10));
            }
        };
        until(&|| said.lock().unwrap().first() == Some(&Some(Code::StateUnsafe)));
        journal.append(&entry("web", "late"));
        fs::remove_file(&folder).unwrap();
        until(&|| said.lock().unwrap().last() == Some(&None));
        let texts = journal.recent(None, 10).unwrap().into_iter();
        assert_eq!(
            texts.map(|entry| entry.text).collect::<Vec<_>>(),
            ["early", "late"]
        );
    }

    #[test]
    fn a_destroyed_journal_is_moved_aside_and_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::new(path.clone(), Box::new(|_| ()));
        journal.append(&entry("web", "lost"));
        drop(journal);
        for file in fs::read_dir(&path).unwrap() {
            let file = file.unwrap().path();
            if file.is_file() {
                fs::write(&file, [0xa5; 4096]).unwrap();
            }
        }
        let journal = Journal::new(path, Box::new(|_| ()));
        journal.append(&entry("web", "after"));
        let texts: Vec<_> = journal.recent(None, 10).unwrap();
        assert_eq!(texts.first().unwrap().kind, Kind::Damage);
        assert_eq!(texts.last().unwrap().text, "after");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
