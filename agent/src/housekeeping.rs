//! What would only ever grow on a host: remains of writes that were cut off, what was set aside as damaged, and mirrors
//! of sources that nothing names any more. Looked through when the agent starts, and once a day.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use state::name::ServiceName;
use state::release::Release;
use tokio::time::MissedTickBehavior;

use crate::host::Host;
use crate::layout::{Layout, ServiceLayout};
use crate::slot::Slot;

/// How often it is done.
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// How old a temporary file must be: a supervisor or another agent may be writing a younger one.
const CUT_OFF: Duration = Duration::from_secs(3600);

/// How many damaged files of one kind are kept, for whoever looks into it, and for how long.
const ASIDE: usize = 3;
const ASIDE_FOR: Duration = Duration::from_secs(90 * 24 * 3600);

/// Does it again and again.
pub(crate) async fn keep(host: &Arc<Host>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let host = Arc::clone(host);
        if let Err(error) = tokio::task::spawn_blocking(move || clean(&host)).await {
            tracing::warn!(%error, "the housekeeping ended in a panic");
        }
    }
}

/// Does it once. What cannot be removed is said, and tried again the next day. Blocks.
fn clean(host: &Host) {
    let services = services(&host.layout);
    for path in leftovers(&host.layout, &services, SystemTime::now()) {
        say(&path, crate::fs::remove(&path));
    }
    // A host that cannot read a release does not know what it names.
    let Some(named) = named_sources(host, &services) else {
        return;
    };
    for path in entries(&host.layout.sources()) {
        if named.contains(&path) {
            continue;
        }
        let lock = host.mirror_lock(&path);
        let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
        // A deployment may have begun since.
        if named_sources(host, &services).is_some_and(|named| !named.contains(&path)) {
            say(&path, crate::fs::remove(&path));
        }
    }
}

fn say(path: &Path, removed: io::Result<()>) {
    match removed {
        Ok(()) => tracing::info!("removed '{}': nothing needs it", path.display()),
        Err(error) => tracing::warn!(%error, "cannot remove '{}'", path.display()),
    }
}

fn services(layout: &Layout) -> Vec<ServiceName> {
    let folders = entries(&layout.services()).into_iter();
    let names = folders.filter_map(|path| path.file_name()?.to_str()?.parse().ok());
    names.collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Temporary files of writes that were cut off, and what was set aside beyond what is kept.
fn leftovers(layout: &Layout, services: &[ServiceName], now: SystemTime) -> Vec<PathBuf> {
    let mut folders = vec![layout.agent(), layout.routes()];
    for service in services {
        let service = layout.service(service);
        folders.push(service.path().to_owned());
        folders.push(service.cache());
        folders.extend([Slot::Blue, Slot::Green].map(|slot| service.slot(slot)));
    }
    let mut found = Vec::new();
    for folder in &folders {
        let (cut_off, mut aside) = remains(folder, now);
        found.extend(cut_off);
        // The newest last: their names end in the second.
        aside.sort();
        let excess = aside.len().saturating_sub(ASIDE);
        let old = |at: usize, path: &Path| at < excess || is_older(path, ASIDE_FOR, now);
        let aside = aside.into_iter().enumerate();
        found.extend(aside.filter_map(|(at, path)| old(at, &path).then_some(path)));
    }
    let mirrors = entries(&layout.mirrors()).into_iter();
    found.extend(mirrors.filter(|path| {
        path.extension() == Some(OsStr::new("damaged")) && is_older(path, ASIDE_FOR, now)
    }));
    found
}

/// The files of a folder that a write left which was cut off, and those that were set aside.
fn remains(folder: &Path, now: SystemTime) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut cut_off, mut aside) = (Vec::new(), Vec::new());
    for path in entries(folder) {
        let Some(name) = path.file_name().and_then(OsStr::to_str) else {
            continue;
        };
        let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
        if name.starts_with(".tmp-") && is_file && is_older(&path, CUT_OFF, now) {
            cut_off.push(path);
        } else if name.starts_with("journal.damaged-") || name.starts_with("record.corrupt-") {
            aside.push(path);
        }
    }
    (cut_off, aside)
}

fn is_older(path: &Path, age: Duration, now: SystemTime) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|found| found > age))
}

/// The mirrors of the sources that a release on this host names, wanted, running or kept; `None` if one cannot be read.
fn named_sources(host: &Host, services: &[ServiceName]) -> Option<BTreeSet<PathBuf>> {
    let mut named = BTreeSet::new();
    for service in services {
        for file in release_files(&host.service(service)) {
            let bytes = match fs::read(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                bytes => bytes.ok()?,
            };
            let environment = host.config.environment.clone();
            let release = Release::from_yaml(environment, service.clone(), &bytes).ok()?;
            named.insert(host.layout.source(&release.spec.source.repository));
        }
    }
    Some(named)
}

fn release_files(service: &ServiceLayout) -> Vec<PathBuf> {
    let kept = entries(&service.releases()).into_iter();
    let mut files: Vec<_> = kept.map(|folder| folder.join("release.yaml")).collect();
    files.push(service.desired());
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remains_of_writes_go_once_nobody_can_be_writing_them() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        let web: ServiceName = "web".parse().unwrap();
        layout.create().unwrap();
        layout.service(&web).create(None).unwrap();
        let slot = layout.service(&web).slot(Slot::Green);
        let expected: BTreeSet<PathBuf> = [layout.routes(), layout.agent(), slot]
            .map(|folder| folder.join(".tmp-aBc"))
            .into();
        for path in &expected {
            fs::write(path, "half").unwrap();
        }
        fs::write(layout.routes().join("web.json"), "{}").unwrap();
        let now = SystemTime::now();
        let found = |now| BTreeSet::from_iter(leftovers(&layout, std::slice::from_ref(&web), now));
        assert_eq!(found(now), BTreeSet::new());
        assert_eq!(found(now + CUT_OFF * 2), expected);
    }

    #[test]
    fn of_what_was_set_aside_the_newest_stay_for_a_while() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        layout.create().unwrap();
        for second in 10..16 {
            fs::create_dir(layout.agent().join(format!("journal.damaged-{second}"))).unwrap();
        }
        let now = SystemTime::now();
        let found = |now: SystemTime| -> Vec<String> {
            let found = leftovers(&layout, &[], now).into_iter();
            let names = found.filter_map(|path| Some(path.extension()?.to_str()?.to_owned()));
            names.collect()
        };
        assert_eq!(found(now), ["damaged-10", "damaged-11", "damaged-12"]);
        assert_eq!(found(now + ASIDE_FOR * 2).len(), 6);
    }
}
