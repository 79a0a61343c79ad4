//! `agent run`: pass after pass until SIGTERM, which leaves services and proxy running.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use notify::{RecursiveMode, Watcher as _};
use sd_notify::NotifyState;
use state::Refusal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::Config;
use crate::host::Host;
use crate::reconcile::Reconciler;
use crate::remotes::Patience;
use crate::remotes::exception::Decision;
use crate::runner::rotate_log;
use crate::{housekeeping, settings, socket};

/// How much longer than `poll` the wait may become while passes are refused.
const LONGEST_BACKOFF: u32 = 10;

/// How long a local repository must be quiet before a change there is looked at.
const QUIET: Duration = Duration::from_millis(100);

/// How often the proxy is asked whether it lives.
const PROXY_LOOK: Duration = Duration::from_secs(5);

/// Runs passes until the agent is told to end.
pub async fn run(host: Host, config: PathBuf) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let wake = Arc::new(Notify::new());
    let listener = socket::open(&host.layout.agent_socket())?;
    let mut reconciler = Reconciler::start(host)?;
    let host = Arc::clone(reconciler.host());
    let _watcher = watch_remotes(&host.config, &wake);
    let services = Arc::clone(reconciler.services());
    let (decisions, mut decided) = mpsc::channel(4);
    let woken = Arc::clone(&wake);
    let server = socket::serve(listener, Arc::clone(&host), services, woken, decisions);
    tell_systemd(&[NotifyState::Ready]);
    let passes = passes(&mut reconciler, &wake, &mut decided);
    tokio::select! {
        () = passes => {}
        () = server => {}
        () = keep_proxy(&host) => {}
        () = housekeeping::keep(&host) => {}
        () = settings::watch(&host, &config) => {}
        () = feed_watchdog() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tell_systemd(&[NotifyState::Stopping]);
    tracing::info!("stops; services and proxy run on");
    Ok(())
}

async fn passes(
    reconciler: &mut Reconciler,
    wake: &Notify,
    decided: &mut mpsc::Receiver<(Decision, oneshot::Sender<Result<String, Refusal>>)>,
) {
    let poll = reconciler.host().config.poll.duration();
    let mut failures = 0;
    loop {
        let mut result = reconciler.pass(Patience::Moment).await;
        failures = if reconciler.heard() { 0 } else { failures + 1 };
        let next = Instant::now() + delay(poll, failures);
        loop {
            if let Err(refusal) = &result {
                tracing::warn!(code = %refusal.code, "{refusal}");
            }
            say(reconciler, result.as_ref().err());
            let stale = stale_at(reconciler);
            result = tokio::select! {
                () = tokio::time::sleep_until(next) => break,
                () = wake.notified() => {
                    quiet(wake).await;
                    break;
                }
                () = tokio::time::sleep_until(stale.unwrap_or(next)), if stale.is_some() => reconciler.judge(),
                () = reconciler.late() => reconciler.judge(),
                Some((decision, answer)) = decided.recv() => {
                    // Whoever asked may be gone; what was decided stays decided.
                    let _ = answer.send(reconciler.decide(&decision));
                    reconciler.judge()
                }
            };
        }
    }
}

/// When nothing new may start any more, unless something fresh is heard before.
fn stale_at(reconciler: &Reconciler) -> Option<Instant> {
    let left = reconciler.stale_at()?.duration_since(Timestamp::now());
    // A little later, so that the two clocks agree that it is over.
    let left = Duration::try_from(left).unwrap_or_default();
    Some(Instant::now() + left + Duration::from_millis(20))
}

/// Waits until no further wake-up came for a moment: a push touches many files.
async fn quiet(wake: &Notify) {
    let end = Instant::now() + QUIET * 10;
    while Instant::now() < end {
        if tokio::time::timeout(QUIET, wake.notified()).await.is_err() {
            return;
        }
    }
}

/// The time until the next pass: `poll`, doubled for each refused pass up to a bound, give or take a tenth.
fn delay(poll: Duration, failures: u32) -> Duration {
    let factor = 2_u32
        .saturating_pow(failures.min(8))
        .clamp(1, LONGEST_BACKOFF);
    // A fresh RandomState is seeded by the system.
    let random = RandomState::new().build_hasher().finish() % 201;
    #[allow(clippy::cast_possible_truncation, reason = "it is below 201")]
    let per_mille = 900 + random as u32;
    poll * factor / 1000 * per_mille
}

/// Has changes in repositories on this host wake the agent. A host without inotify polls.
fn watch_remotes(config: &Config, wake: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let local = config.remotes.iter().filter_map(|remote| {
        let path = remote.url.strip_prefix("file://").unwrap_or(&remote.url);
        path.starts_with('/').then(|| PathBuf::from(path))
    });
    let local: Vec<PathBuf> = local.collect();
    if local.is_empty() {
        return None;
    }
    let notified = Arc::clone(wake);
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            notified.notify_one();
        }
    };
    let watch = || {
        let mut watcher = notify::recommended_watcher(on_event)?;
        for repository in &local {
            let git = repository.join(".git");
            let refs = if git.is_dir() {
                git
            } else {
                repository.clone()
            };
            watcher.watch(&refs.join("refs"), RecursiveMode::Recursive)?;
            watcher.watch(&refs, RecursiveMode::NonRecursive)?;
        }
        notify::Result::Ok(watcher)
    };
    watch()
        .inspect_err(|error| tracing::warn!(%error, "cannot watch a local remote: it is polled"))
        .ok()
}

/// Starts a managed proxy again if it died while it has something to serve, and tells of one that does not answer.
async fn keep_proxy(host: &Host) {
    let mut ticks = tokio::time::interval(PROXY_LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        host.look_at_proxy().await;
        let log = host.layout.proxy_log();
        let rotated = tokio::task::spawn_blocking(move || rotate_log(&log)).await;
        if let Ok(Err(error)) = rotated {
            tracing::warn!(%error, "the proxy's log cannot be cut");
        }
    }
}

/// Tells systemd's watchdog, if there is one, that the agent is not stuck.
async fn feed_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(limit / 2);
    loop {
        ticks.tick().await;
        tell_systemd(&[NotifyState::Watchdog]);
    }
}

fn say(reconciler: &Reconciler, refused: Option<&Refusal>) {
    let (well, all) = reconciler.host().board.count();
    let text = match refused {
        Some(refusal) => format!(
            "{well} of {all} services well; intake refused: {}",
            refusal.code
        ),
        None => format!("{well} of {all} services well"),
    };
    tell_systemd(&[NotifyState::Status(&text)]);
}

/// Without systemd nobody listens, which is no error.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_jittered_by_a_tenth_and_grows_to_a_bound() {
        let poll = Duration::from_secs(60);
        for (failures, factor) in [(0, 1), (1, 2), (2, 4), (5, 10), (1000, 10)] {
            for _ in 0..50 {
                let wait = delay(poll, failures);
                let whole = poll * factor;
                assert!(
                    wait >= whole * 9 / 10 && wait <= whole * 11 / 10,
                    "{wait:?}"
                );
            }
        }
    }
}
