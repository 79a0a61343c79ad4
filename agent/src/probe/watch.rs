//! Watches a slot: whether its process runs and its probes succeed. During a bake the first end or failure decides;
//! afterwards only what the runner does not mend by itself is reported.

use std::time::Duration;

use state::Refusal;
use state::name::ServiceName;
use state::refusal::Code;
use state::service::{Health as Probes, Probe};
use tokio::time::{Instant, sleep_until};

use crate::host::Host;
use crate::probe::{self, Answer, Target, Unwell, identity};
use crate::runner::SlotStatus;
use crate::slot::Slot;
use crate::status::Health;
use crate::traffic::table::Address;
use crate::wait;

/// How often a process on trial is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How often a process is looked at that somebody else starts again.
const SELDOM: Duration = Duration::from_secs(1);

/// The slot that is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The service.
    pub service: ServiceName,
    /// The slot.
    pub slot: Slot,
    /// What is asked.
    pub probes: Probes,
    /// How it is asked.
    pub target: Target,
}

/// Watches a slot that must stay well; returns when it is not. A process that ended even once is not well.
pub async fn bake(host: &Host, watched: &Watched) -> Unwell {
    let mut ready = Ongoing::new(watched.probes.ready.as_ref().map(|ready| &ready.probe));
    let mut live = Ongoing::new(watched.probes.live.as_ref());
    let begun = restarts(&host.runner.status(&watched.service, watched.slot));
    loop {
        let status = host.runner.status(&watched.service, watched.slot);
        if !matches!(status, SlotStatus::Running { .. }) || restarts(&status) != begun {
            return ended(&status);
        }
        for probe in [&mut ready, &mut live] {
            if let Some(unwell) = probe.ask(&watched.target).await {
                return unwell;
            }
        }
        sleep_until(next(LOOK, &[&ready, &live])).await;
    }
}

/// Keeps an eye on a stable slot and reports each change of its health; returns when it must be started again: when
/// nobody supervises its process any more, or its live probe fails.
pub async fn upkeep(host: &Host, watched: &Watched, report: impl Fn(Health)) -> Unwell {
    let mut live = Ongoing::new(watched.probes.live.as_ref());
    loop {
        let status = host.runner.status(&watched.service, watched.slot);
        match &status {
            SlotStatus::Running { .. } => {
                if let Some(unwell) = live.ask(&watched.target).await {
                    report(Health::Unhealthy);
                    return unwell;
                }
                if live.failures == 0 {
                    report(Health::Healthy);
                }
            }
            SlotStatus::Exited {
                restarting: true, ..
            } => {
                // Asked once it is back.
                live = Ongoing::new(watched.probes.live.as_ref());
                report(Health::Unhealthy);
                if let Some(robbed) = robbed(host, watched, &status).await {
                    return robbed;
                }
                sleep_until(wait::next_look(SELDOM, [])).await;
                continue;
            }
            _ => {
                report(Health::Unhealthy);
                return ended(&status);
            }
        }
        sleep_until(next(SELDOM, &[&live])).await;
    }
}

/// Says who listens at the address of a slot whose process has ended: at that one it would end again and again.
async fn robbed(host: &Host, watched: &Watched, ended: &SlotStatus) -> Option<Unwell> {
    let Some(Address::Tcp(address)) = watched.target.address else {
        return None;
    };
    let listener = tokio::task::spawn_blocking(move || identity::listener(address));
    let detail = listener.await.ok().flatten()?;
    // Its process may have been started meanwhile, and be the one.
    let same = host.runner.status(&watched.service, watched.slot) == *ended;
    same.then(|| Unwell {
        refusal: Refusal::new(Code::ProcessExited, detail),
        answer: None,
    })
}

/// A probe that is asked again and again.
struct Ongoing<'a> {
    probe: Option<&'a Probe>,
    due: Instant,
    failures: u32,
}

impl<'a> Ongoing<'a> {
    fn new(probe: Option<&'a Probe>) -> Self {
        Self {
            probe,
            due: Instant::now(),
            failures: 0,
        }
    }

    /// Asks if it is time to; gives the last answer once as many in a row failed as make it unwell.
    async fn ask(&mut self, target: &Target) -> Option<Unwell> {
        let probe = self.probe.filter(|_| Instant::now() >= self.due)?;
        let answer = probe::probe(&probe.check, target, probe.timeout.duration()).await;
        self.due = Instant::now() + probe.every.duration();
        if answer.ok {
            self.failures = 0;
            return None;
        }
        self.failures += 1;
        (self.failures >= probe.failures).then(|| unwell(self.failures, answer))
    }
}

fn next(look: Duration, probes: &[&Ongoing<'_>]) -> Instant {
    let asked = probes.iter().filter(|probe| probe.probe.is_some());
    wait::next_look(look, asked.map(|probe| probe.due))
}

fn unwell(failures: u32, answer: Answer) -> Unwell {
    let detail = format!(
        "{failures} in a row failed, last {}: {}",
        answer.request, answer.answer
    );
    Unwell {
        refusal: Refusal::new(Code::Unhealthy, detail),
        answer: Some(answer),
    }
}

fn ended(status: &SlotStatus) -> Unwell {
    let detail = match status {
        SlotStatus::Exited { exit, .. } => exit.to_string(),
        SlotStatus::Running { .. } => "it ended and was started again".to_owned(),
        SlotStatus::Absent => "nothing runs in the slot".to_owned(),
    };
    Unwell {
        refusal: Refusal::new(Code::ProcessExited, detail),
        answer: None,
    }
}

const fn restarts(status: &SlotStatus) -> u32 {
    match status {
        SlotStatus::Running { restarts, .. } | SlotStatus::Exited { restarts, .. } => *restarts,
        SlotStatus::Absent => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::digest::ReleaseId;
    use state::service::Check;
    use state::unit::Period;

    /// A slot that listens nowhere.
    fn target() -> Target {
        Target {
            address: None,
            release: ReleaseId([1; 32]),
            app: "/".into(),
            environment: std::collections::BTreeMap::new(),
            user: None,
        }
    }

    #[tokio::test]
    async fn each_number_of_a_repeated_probe_counts() {
        let probe = |check, every, failures, timeout| Probe {
            check,
            every: Period(every),
            failures,
            timeout: Period(timeout),
        };
        for failures in [1, 2] {
            let failing = probe(Check::Tcp, 0, failures, 100);
            let mut ongoing = Ongoing::new(Some(&failing));
            for _ in 1..failures {
                assert_eq!(ongoing.ask(&target()).await, None);
            }
            assert!(ongoing.ask(&target()).await.is_some());
        }
        let seldom = probe(Check::Tcp, 60_000, 1, 100);
        let mut ongoing = Ongoing::new(Some(&seldom));
        assert!(ongoing.ask(&target()).await.is_some());
        assert_eq!(ongoing.ask(&target()).await, None, "not due yet");
        let slow = || Check::Exec(["sleep", "1"].map(str::to_owned).to_vec());
        for (timeout, ok) in [(100, false), (30_000, true)] {
            let slow = probe(slow(), 0, 1, timeout);
            let unwell = Ongoing::new(Some(&slow)).ask(&target()).await;
            assert_eq!(unwell.is_none(), ok, "{timeout} ms: {unwell:?}");
        }
    }
}
