//! Whether agent.yaml on disk is what the running agent goes by. It is read once, at the start: half an edit is never
//! in force, and a person decides when the whole of it is.

use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::MissedTickBehavior;

use crate::config::Config;
use crate::host::Host;
use crate::status::{Problem, SettingsView};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Shows, for as long as it lasts, that the file at `path` says something else than the agent goes by.
pub(crate) async fn watch(host: &Host, path: &Path) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The file may have been changed since it was read.
    let mut seen = None;
    loop {
        ticks.tick().await;
        let now = modified(path);
        if seen.replace(now) == Some(now) {
            continue;
        }
        let view = compare(&host.config, path, now);
        if host.board.show_settings(view.clone()) {
            match view {
                Some(view) => tracing::warn!("{}", view.sentence()),
                None => tracing::info!("'{}' says again what is in force", path.display()),
            }
        }
    }
}

/// What an operator has to know of the file; `None` if it says what is in force.
fn compare(config: &Config, path: &Path, modified: Option<SystemTime>) -> Option<SettingsView> {
    let refused = match Config::load(path) {
        Ok(loaded) if loaded == *config => return None,
        Ok(_) => None,
        Err(refusal) => Some(Problem::from(&refusal)),
    };
    Some(SettingsView {
        path: path.to_owned(),
        changed: modified.and_then(|time| Timestamp::try_from(time).ok()),
        refused,
    })
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|file| file.modified())
        .ok()
}
