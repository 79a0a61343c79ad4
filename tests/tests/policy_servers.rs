//! Several policy servers on one repository: every change is admitted once, whichever of them dies.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use rustix::process::Signal;
use tests::servers::{self, PolicyServer};
use tests::wait;

/// Pushes, each of one pin.
const PUSHES: usize = 20;

#[test]
fn three_servers_admit_every_pin_once_though_one_is_killed() {
    let fleet = servers::fleet(PUSHES);
    let (_, before) = servers::admissions(&fleet, &[]).unwrap();
    let mut running: Vec<_> = (0..3)
        .map(|_| PolicyServer::start(&fleet).unwrap())
        .collect();
    let mut pins = Vec::new();
    for number in 0..PUSHES {
        let pin = servers::pin("second", number);
        fleet.write(&servers::overlay(number), &servers::pinned_to(&pin));
        fleet.commit("Pin one").ok();
        let pushed = fleet.push().ok();
        assert!(
            pushed.all().contains("`policy run` was woken"),
            "{pushed:?}"
        );
        pins.push(pin);
        if number == PUSHES / 2 {
            // All of them were just woken and compete for the pass.
            running.remove(0).kill().unwrap();
        }
    }
    wait::until("all are admitted", Duration::from_secs(60), || {
        let (counts, _) = servers::admissions(&fleet, &pins).unwrap();
        counts.iter().all(|count| *count > 0).then_some(())
    });
    let ends = [Signal::TERM, Signal::INT];
    for (server, signal) in running.into_iter().zip(ends) {
        assert_eq!(server.end(signal).unwrap(), 0, "{signal:?}");
    }
    let (counts, changes) = servers::admissions(&fleet, &pins).unwrap();
    assert_eq!(counts, [1; PUSHES]);
    assert_eq!(changes, before + PUSHES, "no change beside them");
}
