//! The status as it is now, kept in memory and, by a thread of its own, in status.json.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use state::durable::{Extra, Format};
use state::name::ServiceName;

use super::view::{AgentView, PassView, Problem, RemoteView, ServiceView, SettingsView, Status};
use crate::config::Config;
use crate::disk;
use crate::remotes::exception::Glass;

/// The shortest time between two writes: the file holds all services, and a deployment of one of them has ten phases.
const EVERY: Duration = Duration::from_secs(1);

/// Holds the status of this host and keeps status.json up to date: after every pass with news at once, else within a second.
#[derive(Debug)]
pub struct Board {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// What this host does worse than it could, whatever the remotes show.
    degraded: Vec<String>,
    now: Mutex<Shown>,
    changed: Condvar,
}

#[derive(Debug)]
struct Shown {
    status: Status,
    services: BTreeMap<ServiceName, ServiceView>,
    due: Due,
    ends: bool,
}

/// When the file is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// It is up to date.
    Never,
    /// Up to date but for the time of a pass that found nothing new: within a second.
    Time,
    /// Within a second.
    Soon,
    /// At once.
    Now,
}

impl Board {
    /// A board for the file `path`; nothing is written before the first change.
    pub fn new(path: PathBuf, config: &Config, degraded: Vec<String>) -> Self {
        let started = Timestamp::now();
        let status = Status {
            format: Format::current(),
            host: config.host.clone(),
            environment: config.environment.clone(),
            domain: format!("sha256:{}", config.domain),
            time: started,
            agent: AgentView {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started,
            },
            pass: None,
            remotes: Vec::new(),
            settings: None,
            proxy: None,
            journal: None,
            break_glass: None,
            evidence: Vec::new(),
            degraded: degraded.clone(),
            services: Vec::new(),
            extra: Extra::default(),
        };
        let shared = Arc::new(Shared {
            path,
            degraded,
            now: Mutex::new(Shown {
                status,
                services: BTreeMap::new(),
                due: Due::Never,
                ends: false,
            }),
            changed: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("status".to_owned())
            .spawn(move || writer.write_all());
        if let Err(error) = &writer {
            tracing::warn!(%error, "the status cannot be written");
        }
        Self {
            shared,
            writer: writer.ok(),
        }
    }

    /// The status as it is now.
    pub fn read(&self) -> Status {
        self.shared.lock().status()
    }

    /// How many services are well, and how many there are.
    pub fn count(&self) -> (usize, usize) {
        let shown = self.shared.lock();
        let well = shown.services.values().filter(|service| service.is_well());
        (well.count(), shown.services.len())
    }

    /// Shows the last pass, and what the trust file that it went by says which this version does not know.
    pub fn show_pass(&self, pass: PassView, unknown_rights: &[String]) {
        self.change(|shown| {
            let before = shown.status.pass.replace(pass);
            shown.status.degraded = [&self.shared.degraded, unknown_rights].concat();
            let after = &shown.status.pass;
            let said = |pass: &Option<PassView>| {
                let pass = pass.as_ref();
                pass.map(|pass| (pass.sequence, pass.manifest, pass.refused.clone()))
            };
            if said(&before) == said(after) && shown.due <= Due::Time {
                Due::Time
            } else {
                Due::Now
            }
        });
    }

    /// Shows the remotes, where contradictions between them are kept, and what an operator let start.
    pub fn show_remotes(
        &self,
        remotes: Vec<RemoteView>,
        evidence: Vec<PathBuf>,
        glass: Option<Glass>,
    ) {
        self.change(|shown| {
            let status = &mut shown.status;
            (status.remotes, status.evidence) = (remotes, evidence);
            status.break_glass = glass;
            Due::Never // the pass is written next, and they with it
        });
    }

    /// Shows settings on disk that are not in force, and says whether that is news.
    pub fn show_settings(&self, view: Option<SettingsView>) -> bool {
        self.replace(|status| &mut status.settings, view)
    }

    /// Shows what is wrong with the proxy, and says whether that is news.
    pub fn show_proxy(&self, problem: Option<Problem>) -> bool {
        let is_news = |before: &Option<Problem>| before.is_some() != problem.is_some();
        let news = is_news(&self.shared.lock().status.proxy);
        self.replace(|status| &mut status.proxy, problem);
        news
    }

    /// Shows why the journal cannot be written.
    pub fn show_journal(&self, problem: Option<Problem>) {
        self.replace(|status| &mut status.journal, problem);
    }

    /// Shows a service, in place of what was shown of it.
    pub fn show(&self, view: ServiceView) {
        self.change(|shown| {
            let before = shown.services.insert(view.name.clone(), view.clone());
            soon_if(before != Some(view))
        });
    }

    /// Shows a service no more.
    pub fn forget(&self, service: &ServiceName) {
        self.change(|shown| soon_if(shown.services.remove(service).is_some()));
    }

    fn replace<T: PartialEq>(&self, of: impl Fn(&mut Status) -> &mut T, new: T) -> bool {
        let mut news = false;
        self.change(|shown| {
            let shown = of(&mut shown.status);
            news = *shown != new;
            *shown = new;
            soon_if(news)
        });
        news
    }

    fn change(&self, change: impl FnOnce(&mut Shown) -> Due) {
        let mut shown = self.shared.lock();
        let due = change(&mut shown);
        if due != Due::Never {
            shown.status.time = Timestamp::now();
            shown.due = shown.due.max(due);
            self.shared.changed.notify_one();
        }
    }
}

fn soon_if(news: bool) -> Due {
    if news { Due::Soon } else { Due::Never }
}

impl Drop for Board {
    /// What was shown last is in the file when the agent has ended.
    fn drop(&mut self) {
        self.shared.lock().ends = true;
        self.shared.changed.notify_one();
        if let Some(writer) = self.writer.take() {
            // It says itself what it could not write.
            let _ = writer.join();
        }
    }
}

impl Shown {
    fn status(&self) -> Status {
        let mut status = self.status.clone();
        status.services = self.services.values().cloned().collect();
        status
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whatever is due, until the board is gone.
    fn write_all(&self) {
        let mut last: Option<Instant> = None;
        let mut shown = self.lock();
        loop {
            let left = last.map_or(Duration::ZERO, |last| EVERY.saturating_sub(last.elapsed()));
            shown = match shown.due {
                Due::Never if shown.ends => return,
                Due::Never => {
                    let woken = self.changed.wait(shown);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
                Due::Time | Due::Soon if !shown.ends && !left.is_zero() => {
                    let woken = self.changed.wait_timeout(shown, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                Due::Time | Due::Soon | Due::Now => {
                    let status = shown.status();
                    shown.due = Due::Never;
                    drop(shown);
                    self.write(&status);
                    last = Some(Instant::now());
                    self.lock()
                }
            };
        }
    }

    /// A status that cannot be written is a warning: it tells about the work, it is not the work.
    fn write(&self, status: &Status) {
        let written = serde_json::to_vec_pretty(status)
            .map_err(std::io::Error::from)
            .map_err(|error| disk::failed(&self.path, &error))
            .and_then(|bytes| disk::save(&self.path, &bytes, 0o644));
        if let Err(refusal) = written {
            tracing::warn!(%refusal, "the status cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_fresh_word_is_not_well() {
        let text = format!(
            "host: a\nenvironment: dev\ndomain: sha256:{}\nremotes: [ {{ url: /s }} ]\n",
            "ab".repeat(32)
        );
        let config: Config = serde_yaml::from_str(&text).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let board = Board::new(dir.path().join("status.json"), &config, Vec::new());
        let now = Timestamp::now();
        assert!(!board.read().is_well(now));
        let mut pass = PassView {
            time: now,
            sequence: 1,
            manifest: None,
            fresh_until: Some(now + jiff::SignedDuration::from_secs(60)),
            refused: None,
        };
        board.show_pass(pass.clone(), &[]);
        assert!(board.read().is_well(now));
        pass.fresh_until = Some(now);
        board.show_pass(pass, &["x".to_owned()]);
        assert!(!board.read().is_well(now));
        let last = board.read();
        drop(board);
        let written = std::fs::read(dir.path().join("status.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Status>(&written).unwrap(), last);
    }
}
