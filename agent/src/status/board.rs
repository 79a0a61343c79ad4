//! The status as it is now, kept in memory and in status.json.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use state::name::ServiceName;

use super::{AgentView, PassView, Problem, RemoteView, ServiceView, SettingsView, Status};
use crate::config::Config;
use crate::disk;
use crate::glass::Glass;

/// Holds the status of this host and keeps status.json up to date.
#[derive(Debug)]
pub struct Board {
    path: PathBuf,
    /// What this host does worse than it could, whatever the remotes show.
    degraded: Vec<String>,
    now: Mutex<Shown>,
}

#[derive(Debug)]
struct Shown {
    status: Status,
    services: BTreeMap<ServiceName, ServiceView>,
}

impl Board {
    /// A board for the file `path`; nothing is written before the first change.
    pub fn new(path: PathBuf, config: &Config, degraded: Vec<String>) -> Self {
        let started = Timestamp::now();
        let status = Status {
            format: 1,
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
            break_glass: None,
            evidence: Vec::new(),
            degraded: degraded.clone(),
            services: Vec::new(),
        };
        let services = BTreeMap::new();
        let now = Mutex::new(Shown { status, services });
        Self {
            path,
            degraded,
            now,
        }
    }

    /// The status as it is now.
    pub fn read(&self) -> Status {
        self.change(|_, _| false)
    }

    /// Shows the last pass, and what the trust file that it went by says which this version does not know.
    pub fn show_pass(&self, pass: PassView, unknown_rights: &[String]) {
        self.change(|status, _| {
            status.pass = Some(pass);
            status.degraded = [&self.degraded, unknown_rights].concat();
            true
        });
    }

    /// Shows the remotes, where contradictions between them are kept, and what an operator let start.
    pub fn show_remotes(
        &self,
        remotes: Vec<RemoteView>,
        evidence: Vec<PathBuf>,
        glass: Option<Glass>,
    ) {
        self.change(|status, _| {
            (status.remotes, status.evidence) = (remotes, evidence);
            status.break_glass = glass;
            false // the pass is written next, and they with it
        });
    }

    /// Shows settings on disk that are not in force, and says whether that is news.
    pub fn show_settings(&self, view: Option<SettingsView>) -> bool {
        let mut news = false;
        self.change(|status, _| {
            news = status.settings != view;
            status.settings = view;
            news
        });
        news
    }

    /// Shows what is wrong with the proxy, and says whether that is news.
    pub fn show_proxy(&self, problem: Option<Problem>) -> bool {
        let mut news = false;
        self.change(|status, _| {
            news = status.proxy.is_some() != problem.is_some();
            status.proxy = problem;
            news
        });
        news
    }

    /// Shows a service, in place of what was shown of it.
    pub fn show(&self, view: ServiceView) {
        self.change(|_, services| {
            let changed = services.get(&view.name) != Some(&view);
            services.insert(view.name.clone(), view);
            changed
        });
    }

    /// Shows a service no more.
    pub fn forget(&self, service: &ServiceName) {
        self.change(|_, services| services.remove(service).is_some());
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Status, &mut BTreeMap<ServiceName, ServiceView>) -> bool,
    ) -> Status {
        let mut shown = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let Shown { status, services } = &mut *shown;
        if change(status, services) {
            status.time = Timestamp::now();
            status.services = services.values().cloned().collect();
            self.write(status);
        }
        status.clone()
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
        let written = std::fs::read(dir.path().join("status.json")).unwrap();
        assert_eq!(
            serde_json::from_slice::<Status>(&written).unwrap(),
            board.read()
        );
    }
}
